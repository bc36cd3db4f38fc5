"""Claude Code sessions: JSON lines, one per message or event.

Source: the files below `~/.claude/projects`. One API reply is written as several lines with the same `message.id`; its
usage repeats on each of them, the last one counts. Sub-agents are side chains, in the same file (`isSidechain`) or in
`agent-*.jsonl`. The requests are not in the file: they are rebuilt from the transcript, from the last compaction on, in
the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...types import Action, LLMCall, Note, Start, StepStart
from ..session import Lines, Session, parse_time
from ..shape import added, dicts, integer, obj, text, without

NAME = "claude-code"
_COMMON = ("uuid", "parentUuid", "sessionId", "timestamp", "type", "version", "cwd", "userType", "gitBranch", "isSidechain")


def recognise(path: Path, head: bytes) -> bool:
    """`sessionId` and `uuid` within the first 50 lines; or nothing but the summaries that such files begin with."""
    seen = summaries = 0
    for line in head.split(b"\n")[:50]:
        try:
            value = loads(line)
        except InvalidInput:
            if b'"sessionId"' in line and b'"uuid"' in line and b'"parentUuid"' in line:  # glued or cut lines
                return True
            continue
        if not isinstance(value, dict):
            return False
        if "sessionId" in value and ("uuid" in value or value.get("type") in ("user", "assistant")) and "message" in value:
            return True
        if "sessionId" in value and "uuid" in value:
            return True
        seen += 1
        summaries += value.get("type") in ("summary", "file-history-snapshot") and ("leafUuid" in value or "messageId" in value)
    return bool(seen) and seen == summaries


class _Chain:
    """One conversation of the file: the main one, or a sub-agent's."""

    def __init__(self, agent: str | None) -> None:
        self.agent = agent
        self.history: list[dict[str, Any]] = []
        self.observed: list[Any] = []
        self.step = -1


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where it has no message."""
    lines = Lines(path)
    events = _merged(lines)
    first = next((e for e in events if "message" in e and e.get("type") in ("user", "assistant")), None)
    if first is None:
        kinds = sorted({str(e.get("type")) for e in events})
        raise InvalidInput(f"a Claude Code file without a message; it has: {', '.join(kinds) or 'nothing'}")
    started = next((t for e in events if (t := parse_time(e.get("timestamp"))) is not None), None)
    sidechain_file = all(e.get("isSidechain") for e in events if "message" in e)
    session = Session(NAME, first.get("sessionId"), content_hash(first), started=started)
    for problem in lines.problems:
        session.warn(problem)
    if lines.glued:
        session.warn("lines that held several objects", lines.glued)
    prompt = next((p for e in events if (p := _prompt(e)) is not None), None)
    session.add(
        Start(
            task=prompt,
            agent="claude-code",
            agent_version=text(first.get("version")),
            source_time=started,
            metadata={
                "source": {
                    "format": NAME,
                    "path": path.name,
                    "session": first.get("sessionId"),
                    **{k: first[k] for k in ("cwd", "gitBranch", "agentId", "slug", "parentUuid") if first.get(k) is not None},
                }
            },
        )
    )
    chains: dict[str | None, _Chain] = {None: _Chain(None)}
    chain_of: dict[str, str | None] = {}
    actions: dict[str, Action] = {}
    for event in events:
        chain = chains[None]
        if event.get("isSidechain") and not sidechain_file:
            key = text(event.get("agentId")) or chain_of.get(str(event.get("parentUuid"))) or str(event.get("uuid"))
            chain_of[str(event.get("uuid"))] = key
            for uuid in event.get("_uuids", ()):
                chain_of[uuid] = key
            chain = chains.get(key) or chains.setdefault(key, _Chain(f"sidechain-{len(chains)}"))
        _add(session, chain, event, actions)
    yield session


def _merged(lines: Lines) -> list[dict[str, Any]]:
    """The lines of the file, those of one API reply put together at the place of the first."""
    events: list[dict[str, Any]] = []
    replies: dict[tuple[str, bool], dict[str, Any]] = {}
    seen: set[str] = set()
    for _, value in lines:
        if not isinstance(value, dict):
            lines.problems.append("a line that is no object")
            continue
        uuid = value.get("uuid")
        if isinstance(uuid, str):
            if uuid in seen and value.get("type") in ("user", "assistant"):
                continue
            seen.add(uuid)
        message = value.get("message")
        if value.get("type") != "assistant" or not isinstance(message, dict) or not text(message.get("id")):
            events.append(value)
            continue
        key = (message["id"], bool(value.get("isSidechain")))
        reply = replies.get(key)
        if reply is None or message.get("model") == "<synthetic>":
            replies[key] = reply = {**value, "_uuids": [], "message": {**message, "content": _blocks(message.get("content"))}}
            events.append(reply)
            continue
        merged = reply["message"]
        known = [b.get("id") for b in merged["content"] if b.get("type") == "tool_use"]  # a list: a damaged id may be of any type
        more = [b for b in _blocks(message.get("content")) if b.get("type") != "tool_use" or b.get("id") not in known]
        reply["message"] = {**merged, **{k: v for k, v in message.items() if v is not None}, "content": merged["content"] + more}
        reply["_uuids"].append(str(uuid))
        reply["_last"] = value.get("timestamp")
    return events


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else dicts(content)


def _prompt(event: dict[str, Any]) -> str | None:
    """The text that a person typed, where a line is that."""
    if event.get("type") != "user" or event.get("isMeta") or event.get("isCompactSummary"):
        return None
    content = obj(event.get("message")).get("content")
    if isinstance(content, str):
        return content
    blocks = dicts(content)
    if any(b.get("type") == "tool_result" for b in blocks):
        return None
    return next((b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str)), None)


def _add(session: Session, chain: _Chain, event: dict[str, Any], actions: dict[str, Action]) -> None:
    when = parse_time(event.get("timestamp"))
    message = event.get("message")
    kind = event.get("type")
    if kind == "user" and isinstance(message, dict):
        chain.history.append({"role": message.get("role") or "user", "content": message.get("content")})
        for block in dicts(message.get("content")):
            if block.get("type") == "tool_result":
                _result(session, chain, event, block, when, actions)
        if not any(b.get("type") == "tool_result" for b in dicts(message.get("content"))):
            chain.observed.append(message.get("content"))
    elif kind == "assistant" and isinstance(message, dict) and message.get("model") != "<synthetic>":
        _call(session, chain, event, message, when, actions)
    else:
        if kind == "system" and event.get("subtype") == "compact_boundary":
            chain.history = []
        name = f"{kind}:{event['subtype']}" if text(event.get("subtype")) else str(kind)
        session.add(
            Note(name=name, data=without(event, "_uuids", "_last", "type", "timestamp"), agent=chain.agent, source_time=when)
        )


def _call(
    session: Session, chain: _Chain, event: dict[str, Any], message: dict[str, Any], when: int | None, actions: dict[str, Action]
) -> None:
    chain.step += 1
    observed, chain.observed = chain.observed, []
    seen = observed[0] if len(observed) == 1 else observed or None
    session.add(StepStart(step=chain.step, observation=seen, agent=chain.agent, source_time=when))
    usage = obj(message.get("usage"))
    counts = [integer(usage.get(n)) for n in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")]
    call = session.add(
        LLMCall(
            step=chain.step,
            agent=chain.agent,
            source_time=when,
            origin="transcript",
            dialect="anthropic.messages",
            model=text(message.get("model")),
            request={"messages": list(chain.history)},
            response=message,
            usage=usage or None,
            prompt_tokens=added(*counts),
            completion_tokens=integer(usage.get("output_tokens")),
            finish_reason=text(message.get("stop_reason")),
            extra=without(event, "message", "_uuids", "_last", *_COMMON) or None,
        )
    )
    for block in message["content"] if isinstance(message.get("content"), list) else []:
        if isinstance(block, dict) and block.get("type") in ("tool_use", "server_tool_use"):
            action = session.add(
                Action(
                    step=chain.step,
                    agent=chain.agent,
                    source_time=when,
                    name=str(block.get("name") or ""),
                    arguments=block.get("input"),
                    llm_call=call.id,
                    tool_call_id=text(block.get("id")),
                )
            )
            if action.tool_call_id:
                actions[action.tool_call_id] = action
    chain.history.append({"role": "assistant", "content": message.get("content")})


def _result(
    session: Session, chain: _Chain, event: dict[str, Any], block: dict[str, Any], when: int | None, actions: dict[str, Action]
) -> None:
    id = text(block.get("tool_use_id"))
    failed = bool(block.get("is_error"))
    detail = event.get("toolUseResult")
    extra = {"toolUseResult": detail} if detail is not None else None
    known = actions.get(id or "")
    if known is None:
        session.warn("tool results that no call in the file asked for")
        data = {**block, **(extra or {})}
        step = chain.step if chain.step >= 0 else None
        session.add(Note(name="result_without_call", data=data, step=step, agent=chain.agent, source_time=when))
        return
    took = when - known.source_time if when is not None and known.source_time is not None else None
    duration = took if took is not None and took >= 0 else None
    session.replace(known, result=block.get("content"), ok=not failed, extra=extra, duration=duration)
