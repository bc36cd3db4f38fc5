"""Claude Code sessions: JSON lines, one per message or event.

Source: the files below `~/.claude/projects`. One API reply is written as several lines with the same `message.id`; its
usage repeats on each of them, the last one counts. The requests are not in the file: each is rebuilt from the branch of
`parentUuid` that led to the reply, from the last compaction or `/clear` on, with what was attached to it. Chains break and
branch for many reasons, so a branch is left only where a person's prompt goes back over a reply or another prompt.

Sub-agents belong to the session: side chains in the same file (`isSidechain`), progress lines of older versions, and files
of their own (`<session>/subagents/agent-*.jsonl`, `agent-*.jsonl` beside the session), which `claude_files.py` finds. A
session that begins with another session's lines is its fork: those lines are its history, and no records of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import added, content_text, dicts, integer, items, number, obj, text, without
from ...types import Action, Fork, LLMCall, Note, Start, StepStart
from .. import blocks, peek
from ..session import NotBegun, Session, observed_where, parse_time
from ..views import MOST, Messages
from .claude_asked import attached, command, prompt, typed
from .claude_files import Agent, File, agents_of, files_of_agents, is_program, names_of, parent_of, put_in_place, session_of
from .claude_talk import Chain, Said, Spot, is_prompt, otherwise

NAME = "claude-code"
_COMMON = ("uuid", "parentUuid", "sessionId", "timestamp", "type", "version", "cwd", "userType", "gitBranch", "isSidechain")
#: What the program says where a session that was killed in the middle of a turn is resumed.
_RESUMED = "Continue from where you left off."
_OURS = ("_uuids", "_times", "_last", "_call")  # what claude_files.py and this file put into a line


def recognise(path: Path, head: bytes) -> bool:
    """`sessionId` and `uuid` within the first 50 lines; or nothing but the summaries that such files begin with."""
    seen = summaries = 0
    for line in head.split(b"\n")[:50]:
        try:
            value = peek.value(line)
        except InvalidInput:
            # glued or cut lines; Qwen Code's hold `parts`
            if (
                line.startswith(b"{")
                and b'"sessionId"' in line
                and b'"uuid"' in line
                and b'"parentUuid"' in line
                and b'"parts"' not in line
            ):
                return True
            continue
        if not isinstance(value, dict):
            return False
        message = value.get("message")
        if isinstance(message, dict) and ("parts" in message or message.get("role") == "model"):  # Qwen Code
            return False
        if isinstance(message, dict) and "content" not in message:  # either
            continue
        if "sessionId" in value and ("uuid" in value or value.get("type") in ("user", "assistant")) and "message" in value:
            return True
        if (
            "sessionId" in value
            and "uuid" in value
            and value.get("type") not in ("tool_result",)
            and not value.keys() & {"systemPayload", "usageMetadata"}
        ):
            return True
        seen += 1
        summaries += value.get("type") in ("summary", "file-history-snapshot") and ("leafUuid" in value or "messageId" in value)
    return bool(seen) and seen == summaries


def read(path: Path) -> Iterator[Session]:
    """The session of a file; of a sub-agent's file, its session. Where nothing can be read of the session itself, what its
    sub-agents did. Raises InvalidInput where there is no message."""
    agents: list[Path] = []
    try:
        yield _session(path)  # what no record holds is let go before the session is stored
    except NotBegun:
        agents = [] if path.name.startswith("agent-") else files_of_agents(path)
        if not agents:
            raise
    for file in agents:
        with suppress(NotBegun):
            yield _session(file)


def _session(path: Path) -> Session:
    main = session_of(path)
    file = File(main or path)
    if main is not None and file.first is None:  # nothing can be read of the session itself
        main, file = None, File(path)
    first = file.first
    if first is None:
        kinds = sorted({str(e.get("type")) for e in file.events})
        raise NotBegun(f"a Claude Code file without a message; it has: {', '.join(kinds) or 'nothing'}")
    return _Reader(file, first, path if main else None).session()


def replayed(file: File, first: dict[str, Any], to: Session) -> Session:
    """The session that lines of this shape are, from wherever they come, under another identity."""
    reader = _Reader(file, first, None)
    reader.to = to
    return reader.session()


class _Reader:
    def __init__(self, file: File, first: dict[str, Any], agent_file: Path | None) -> None:
        self.file = file
        self.first = first
        parent = parent_of(file)
        self.shared = parent.shared if parent else 0
        own = next((e for e in file.events[self.shared :] if "message" in e), None)
        id, started = _identity(parent.session if parent else first.get("sessionId"), first)
        self.to = Session(NAME, *id, started=started)
        self.fork: Fork | None = None
        self.begin = own or first
        if parent:
            was, when = _identity(parent.of, first, parent.first)
            replies = [e for e in file.events[: self.shared] if e.get("type") == "assistant" and not e.get("isSidechain")]
            self.fork = Fork(trajectory=Session(NAME, *was, started=when).id, step=len(replies), reason="resumed")
        self.agents = dict(enumerate(agents_of(file, agent_file)))
        self.named = names_of(self.agents.values())
        self.alone = all(e.get("isSidechain") for e in file.events if "message" in e)
        self.chains: dict[str | None, Chain] = {None: Chain(None, None)}
        self.chain_of: dict[str, str | None] = {}
        self.actions: dict[str, Action] = {}
        #: The tool calls that started a sub-agent.
        self.started: set[str] = set()
        self.spots: dict[str, Spot] = {}
        self.silent = False

    def session(self) -> Session:
        first, file, to = self.first, self.file, self.to
        for problem, count in file.problems.items():
            to.warn(problem, count)
        events = file.events
        own = [e for e in events[self.shared :] if self.alone or not e.get("isSidechain")]
        asked = (p for e in own if (p := typed(e)) is not None)
        commands = (p for e in own if (p := command(e)) is not None)
        about = {k: first[k] for k in ("cwd", "gitBranch", "agentId", "slug", "parentUuid") if first.get(k) is not None}
        to.add(
            Start(
                task=next(asked, None) or next(commands, None),
                agent="claude-code",
                agent_version=text(first.get("version")),
                source_time=parse_time(self.begin.get("timestamp")),
                fork=self.fork,
                metadata={
                    "source": {
                        "format": NAME,
                        "path": file.path.name,
                        "session": self.begin.get("sessionId"),
                        **about,
                        "interactive": True,
                    },
                },
            ),
            "start",
        )
        known = {a.id for a in self.agents.values()}
        for index in range(len(events)):
            event, events[index] = events[index], {}  # a line that is read is let go
            self.silent = index < self.shared
            inner = _progress(event)
            if inner is not None:
                if inner["agentId"] not in known:
                    self._add(self._side(inner), inner)
                    continue
            elif event.get("isSidechain") and not self.alone:
                if text(event.get("agentId")) not in known:
                    self._add(self._side(event), event)
                continue
            if self.agents and not self.silent:
                self._returned(event)
            self._add(self.chains[None], event)
        self.silent = False
        while self.agents:
            agent = self.agents.pop(next(iter(self.agents)))
            self._agent(agent, agent.call)
        for chain in self.chains.values():
            self._leave(chain)
        return to

    # --- sub-agents ---------------------------------------------------------------------------------------------------

    def _returned(self, event: dict[str, Any]) -> None:
        """The sub-agents whose result a line is: what they did stands before it, as it came."""
        about = obj(event.get("toolUseResult")).get("agentId")
        calls = [b.get("tool_use_id") for b in dicts(obj(event.get("message")).get("content")) if b.get("type") == "tool_result"]
        for name in filter(None, map(text, (*calls, about) if calls else ())):
            for n in self.named.get(name, ()):
                if (agent := self.agents.pop(n, None)) is not None:
                    self._agent(agent, agent.call or text(calls[0]))

    def _agent(self, agent: Agent, call: str | None) -> None:
        """A sub-agent that has a file of its own, and the tool call that started it, where that is known."""
        started = call or self._asked_by(agent.events)
        by = self._action(started)
        kind = agent.kind or (text(obj(by.arguments).get("subagent_type")) if by else None)
        chain = self.chains[agent.id] = Chain(agent.id, f"{kind or 'agent'}-{agent.id}")
        self._within(chain, started, agent.events)
        for problem, count in agent.problems.items():
            self.to.warn(problem, count)
        for event in agent.events:
            self._returned(event)  # of a sub-agent's own sub-agents
            self._add(chain, event)

    def _side(self, event: dict[str, Any]) -> Chain:
        """The side chain that a line of the session's own file belongs to."""
        uuid = str(event.get("uuid"))
        key = text(event.get("agentId")) or self.chain_of.get(str(event.get("parentUuid"))) or uuid
        for name in (uuid, *event.get("_uuids", ())):
            self.chain_of[name] = key
        chain = self.chains.get(key)
        if chain is None:
            asked = prompt(event)
            task = next((a for a in self.actions.values() if asked and obj(a.arguments).get("prompt") == asked), None)
            kind = text(obj(task.arguments).get("subagent_type")) if task else None
            chain = self.chains[key] = Chain(key, f"{kind or 'sidechain'}-{len(self.chains)}")
            self._within(chain, text(event.get("_call")) or (task.tool_call_id if task else None), [event])
        return chain

    def _within(self, chain: Chain, call: str | None, events: list[dict[str, Any]]) -> None:
        call = call or self._asked_by(events)
        if call is not None and (by := self._action(call)) is not None:
            self.to.within(chain.agent, by.id)
            self.started.add(call)

    def _action(self, call: str | None) -> Action | None:
        """The action of a tool call: the session's own, or a sub-agent's."""
        return self.chains[None].actions.get(call or "") or self.actions.get(call or "")

    def _asked_by(self, events: list[dict[str, Any]]) -> str | None:
        """The tool call whose prompt a sub-agent was given."""
        asked = next((p for e in events if (p := prompt(e))), None)
        calls = [t for t, a in self.actions.items() if asked and obj(a.arguments).get("prompt") == asked]
        return next((t for t in calls if t not in self.started), calls[0] if calls else None)

    # --- lines --------------------------------------------------------------------------------------------------------

    def _add(self, chain: Chain, event: dict[str, Any]) -> None:
        when = parse_time(event.get("timestamp"))
        message = event.get("message")
        kind = event.get("type")
        uuid = text(event.get("uuid"))
        if chain.kept and chain.anchor is None and kind == "assistant":
            self._keep(chain)
        if kind == "user" and isinstance(message, dict):
            self._user(chain, event, message, when)
        elif kind == "assistant" and isinstance(message, dict) and not is_program(event, message):
            self._call(chain, event, message, when)
        else:
            if kind == "system" and event.get("subtype") == "compact_boundary":
                self._compacted(chain, event)
            elif kind == "system" and event.get("subtype") == "microcompact_boundary":
                chain.clear(self.spots, items(obj(event.get("microcompactMetadata")).get("compactedToolIds")))
            elif kind == "assistant":  # an answer of the program
                chain.settle(self.spots)
            shown = attached(event)
            if shown is not None:
                chain.say(self.spots, Said(_names(event), shown, attached=True))
                self._told(chain, event, shown)
            else:
                chain.say(self.spots, Said(_names(event), put_in_place(event)))
            name = f"{kind}:{event['subtype']}" if text(event.get("subtype")) else str(kind)
            data = without(event, *_OURS, "type", "timestamp")
            key = uuid or content_hash(data)
            if not self.silent:
                self.to.add(Note(name=name, data=data, agent=chain.agent, source_time=when), "event", key)
        if chain.kept and chain.anchor is not None and chain.anchor == uuid:
            self._keep(chain)

    def _user(self, chain: Chain, event: dict[str, Any], message: dict[str, Any], when: int | None) -> None:
        results = [b for b in dicts(message.get("content")) if b.get("type") == "tool_result"]
        if event.get("isMeta") and content_text(message.get("content")) == _RESUMED:
            chain.forget_unmet(self.spots)
        if event.get("isCompactSummary") and event.get("parentUuid") is None and not chain.kept:
            self._anew(chain, Messages())
        elif not results and not event.get("isMeta") and not event.get("isCompactSummary"):
            self._go_back(chain, event)
        said = {"role": message.get("role") or "user", "content": message.get("content")}
        if results:
            self._append(chain, event, said)
            for block in results:
                chain.unmet.discard(text(block.get("tool_use_id")) or "")
                self._result(chain, event, block, when)
            if beside := [b for b in dicts(message.get("content")) if b.get("type") != "tool_result"]:
                self._told(chain, event, {**said, "content": beside})
        else:
            self._saw(chain, event, said)

    def _append(self, chain: Chain, event: dict[str, Any], message: dict[str, Any], model: str | None = None) -> None:
        chain.say(self.spots, Said(_names(event), message, otherwise(message, model)))

    def _saw(self, chain: Chain, event: dict[str, Any], message: dict[str, Any]) -> None:
        """A message that the model is sent next, and that no tool gave."""
        self._append(chain, event, message)
        self._told(chain, event, message)

    def _told(self, chain: Chain, event: dict[str, Any], message: dict[str, Any]) -> None:
        if not self.silent:
            chain.observed.append(message["content"])
            chain.unanswered.append({**message, "uuid": event.get("uuid"), "timestamp": event.get("timestamp")})

    def _go_back(self, chain: Chain, event: dict[str, Any]) -> None:
        """A prompt that hangs on an earlier line than the last leaves a branch; one that hangs on none begins anew."""
        parent = event.get("parentUuid")
        if parent is None:
            if "parentUuid" in event and (chain.history or chain.waiting):
                self._anew(chain, Messages())
            return
        at = chain.places.get(parent) if isinstance(parent, str) else None
        if at is not None:
            if chain.asked_since(at + 1):
                self._leave(chain)
                chain.cut(at + 1)
            return
        spot = self.spots.get(parent) if isinstance(parent, str) else None
        if spot is None or spot[3] is not chain:  # it hangs on what another agent did
            return
        base, _, stop, _ = spot
        if (
            base is chain.history
            and not chain.asked_since(0)
            and not any(m["role"] == "assistant" or is_prompt(m) for m in base[stop:])
        ):
            return  # only results or attachments of the same turn stand in between
        self._anew(chain, base.until(stop))

    def _anew(self, chain: Chain, history: Messages) -> None:
        self._leave(chain)
        chain.cut(0)
        chain.history, chain.unmet = history, set()

    def _leave(self, chain: Chain) -> None:
        """What no reply followed is kept in a note; where one follows later, the reply's step takes its place."""
        if chain.unanswered:
            when = parse_time(chain.unanswered[0].get("timestamp"))
            note = Note(name="unanswered", data={"messages": chain.unanswered}, agent=chain.agent, source_time=when)
            self.to.add(note, "step", chain.key, chain.unanswered[0].get("uuid") or content_hash(chain.unanswered[0]))
        chain.unanswered, chain.observed = [], []

    def _compacted(self, chain: Chain, event: dict[str, Any]) -> None:
        chain.settle(self.spots)
        about = obj(event.get("compactMetadata"))
        segment, listed = obj(about.get("preservedSegment")), obj(about.get("preservedMessages"))
        head, tail = self.spots.get(str(segment.get("headUuid"))), self.spots.get(str(segment.get("tailUuid")))
        kept: dict[int, tuple[Messages, int]] = {}  # by the message's identity
        if uuids := [u for u in items(listed.get("uuids")) if isinstance(u, str) and u in self.spots]:
            for base, start, stop, _ in map(self.spots.__getitem__, uuids):
                if stop > start:
                    kept.setdefault(id(base[start]), (base, start))
        elif head and tail and head[0] is tail[0]:
            kept = {id(head[0][n]): (head[0], n) for n in range(head[1], tail[2])}
        names: dict[int, list[str]] = {}
        for uuid, (base, start, stop, _) in self.spots.items() if kept else ():
            if stop > start and id(base[start]) in kept:
                names.setdefault(id(base[start]), []).append(uuid)
        chain.history = Messages()
        chain.kept = [Said(names.get(key, []), base[n], base.otherwise.get(n)) for key, (base, n) in kept.items()]
        chain.anchor = text(segment.get("anchorUuid")) or text(listed.get("anchorUuid"))
        if kept and chain.anchor == event.get("uuid"):
            self._keep(chain)

    def _keep(self, chain: Chain) -> None:
        kept, chain.kept, chain.anchor = chain.kept, [], None
        for said in kept:
            chain.say(self.spots, said)

    def _call(self, chain: Chain, event: dict[str, Any], message: dict[str, Any], when: int | None) -> None:
        chain.step += 1
        chain.settle(self.spots)
        calls = (b for b in dicts(message.get("content")) if b.get("type") == "tool_use")
        chain.unmet, chain.replied = {id for b in calls if (id := text(b.get("id"))) is not None}, _names(event)
        reply = {"role": "assistant", "content": message.get("content")}
        if self.silent:
            self._append(chain, event, reply, text(message.get("model")))
            return
        to = self.to
        uuid = text(event.get("uuid"))
        name = text(message.get("id")) or uuid or content_hash(message)
        observed, chain.observed = chain.observed, []
        unanswered, chain.unanswered = chain.unanswered, []
        seen = observed[0] if len(observed) == 1 else observed or None
        key = (chain.key, unanswered[0].get("uuid") or content_hash(unanswered[0])) if unanswered else (chain.key, name, "reply")
        extra = observed_where([text(u.get("uuid")) for u in unanswered], [parse_time(u.get("timestamp")) for u in unanswered])
        to.add(StepStart(step=chain.step, observation=seen, agent=chain.agent, source_time=when, extra=extra), "step", *key)
        usage = obj(message.get("usage"))
        counts = [integer(usage.get(n)) for n in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")]
        thinking = [b["thinking"] for b in dicts(message.get("content")) if isinstance(b.get("thinking"), str) and b["thinking"]]
        took = number(event.get("durationMs"))
        where = {
            "uuid": uuid,
            "uuids": event.get("_uuids") or None,
            "parentUuid": event.get("parentUuid"),
            "ended": event.get("_last"),
        }
        call = to.add(
            LLMCall(
                step=chain.step,
                agent=chain.agent,
                source_time=when,
                origin="transcript",
                dialect="anthropic.messages",
                model=text(message.get("model")),
                request={"messages": Prefix(chain.history.sent_to(text(message.get("model"))))},
                response=message,
                reasoning="\n\n".join(thinking) or None,
                usage=usage or None,
                prompt_tokens=added(*counts),
                completion_tokens=integer(usage.get("output_tokens")),
                finish_reason=text(message.get("stop_reason")),
                cost=number(event.get("costUSD")),
                duration=round(took * 1e6) if took is not None and 0 <= took < 4e12 else None,
                extra={
                    **without(event, "message", *_OURS, *_COMMON),
                    **{k: v for k, v in where.items() if v is not None},
                }
                or None,
            ),
            *("reply", name, *chain.whose),
        )
        if chain.history.cost > MOST:
            to.warn("prompts that hold thoughts of another model, because the model changed all the time")
        times = event.get("_times") or []  # each part of a reply has a line, and so a time, of its own
        for number_, block in enumerate(message["content"] if isinstance(message.get("content"), list) else []):
            if isinstance(block, dict) and block.get("type") in ("tool_use", "server_tool_use"):
                id = text(block.get("id"))
                served = block["type"] == "server_tool_use"  # the API ran it: what came of it is in the reply
                action = to.add(
                    Action(
                        step=chain.step,
                        agent=chain.agent,
                        source_time=parse_time(times[number_]) if number_ < len(times) else when,
                        name=str(block.get("name") or ""),
                        arguments=block.get("input"),
                        llm_call=call.id,
                        result=blocks.served(message.get("content"), id) if served else None,
                        tool_call_id=None if served else id,
                        extra={"server_tool_use": id} if served else None,
                    ),
                    *(("action", id) if id else ("action", name, number_)),
                    *chain.whose,
                )
                if id and not served:
                    chain.actions[id] = self.actions[id] = action
        self._append(chain, event, reply, text(message.get("model")))

    def _result(self, chain: Chain, event: dict[str, Any], block: dict[str, Any], when: int | None) -> None:
        id = text(block.get("tool_use_id"))
        failed = bool(block.get("is_error"))
        detail = event.get("toolUseResult")
        about = (("toolUseResult", detail), ("mcpMeta", event.get("mcpMeta")), ("result_uuid", event.get("uuid")))
        extra = {k: v for k, v in about if v is not None} or None
        known = chain.actions.get(id or "") or self.actions.get(id or "")
        if known is None:
            if self.silent or self.shared:  # the answer to a call of the session that this one goes on from
                return
            self.to.warn("tool results that no call in the file asked for")
            data = {**block, **(extra or {})}
            step = chain.step if chain.step >= 0 else None
            note = Note(name="result_without_call", data=data, step=step, agent=chain.agent, source_time=when)
            self.to.add(note, *(("action", id) if id else ("result", event.get("uuid") or content_hash(data))), *chain.whose)
            return
        stated = number(obj(detail).get("totalDurationMs")) or number(obj(detail).get("durationMs"))
        took = when - known.source_time if when is not None and known.source_time is not None else None
        if stated is not None and 0 <= stated < 4e12:
            took = round(stated * 1e6)
        duration = took if took is not None and took >= 0 else None
        self.to.replace(known, result=block.get("content"), ok=not failed, extra=extra, duration=duration)


def _names(event: dict[str, Any]) -> list[str]:
    """What other lines call a line: its own uuid, and those of lines that were put together with it."""
    return [uuid for uuid in (event.get("uuid"), *event.get("_uuids", ())) if isinstance(uuid, str)]


def _identity(session: Any, first: dict[str, Any], known_as: str | None = None) -> tuple[tuple[Any, ...], int | None]:
    """What a session is known by, and when it began: its own id, and its first message."""
    return (session, known_as or text(first.get("uuid")) or content_hash(first)), parse_time(first.get("timestamp"))


def _progress(event: dict[str, Any]) -> dict[str, Any] | None:
    """The line of a sub-agent that a progress line of an older version holds."""
    data = obj(event.get("data"))
    inner = data.get("message")
    if event.get("type") != "progress" or data.get("type") != "agent_progress" or not isinstance(inner, dict):
        return None
    if not isinstance(inner.get("message"), dict):
        return None
    agent = text(data.get("agentId")) or str(event.get("parentToolUseID"))
    return {"timestamp": event.get("timestamp"), **inner, "agentId": agent, "_call": event.get("parentToolUseID")}
