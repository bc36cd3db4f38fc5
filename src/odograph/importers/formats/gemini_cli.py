"""Gemini CLI sessions: one JSON object `{sessionId, projectHash, messages[]}` a file, whatever the file is called.

Source: the chats below `~/.gemini/tmp`. A message of type `gemini` is one reply of the model with the tool calls it asked
for and their results; requests are rebuilt from the transcript in OpenAI's chat shape, which holds all that the file says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...types import Action, LLMCall, Note, Start, StepStart
from ..session import Lines, Session, parse_time
from ..shape import content_text, dicts, integer, items, obj, text, without

NAME = "gemini-cli"


def recognise(path: Path, head: bytes) -> bool:
    """`sessionId` and `projectHash` near the beginning."""
    return head.lstrip()[:1] == b"{" and b'"sessionId"' in head[:4096] and b'"projectHash"' in head[:4096]


def read(path: Path) -> Iterator[Session]:
    """The session of a file, or of each of its lines. Raises InvalidInput where it has none."""
    data = path.read_bytes()
    try:
        found = [loads(data)]
        problems: list[str] = []
    except InvalidInput:
        lines = Lines(path)
        found = [v for _, v in lines]
        problems = lines.problems
    sessions = [v for v in found if isinstance(v, dict) and isinstance(v.get("messages"), list)]
    if not sessions and found and isinstance(found[0], dict) and "sessionId" in found[0]:
        # the newer files: the session on the first line, then a message a line
        sessions = [{**found[0], "messages": [v for v in found[1:] if isinstance(v, dict) and "type" in v]}]
    if not sessions:
        raise InvalidInput("a Gemini CLI file without messages")
    for value in sessions:
        yield _session(path, value, problems)


def _session(path: Path, value: dict[str, Any], problems: list[str]) -> Session:
    messages = dicts(value["messages"])
    started = parse_time(value.get("startTime"))
    key = messages[0] if messages else without(value, "lastUpdated")
    session = Session(NAME, value.get("sessionId"), content_hash(key), started=started)
    for problem in problems:
        session.warn(problem)
    if len(messages) < len(items(value["messages"])):
        session.warn("messages that are no object", len(value["messages"]) - len(messages))
    task = next((_text(m.get("content")) for m in messages if m.get("type") == "user"), None)
    about = without(value, "messages", "sessionId", "startTime")
    source = {"format": NAME, "path": path.name, "session": value.get("sessionId"), **about}
    session.add(Start(task=task, agent="gemini-cli", source_time=started, metadata={"source": source}))
    history: list[dict[str, Any]] = []
    observed: list[Any] = []
    step = -1
    for message in messages:
        when = parse_time(message.get("timestamp"))
        kind = message.get("type")
        if kind == "user":
            history.append({"role": "user", "content": _text(message.get("content"))})
            observed.append(message.get("content"))
        elif kind == "gemini":
            step += 1
            seen, observed = observed, []
            _reply(session, step, seen, message, history, when)
        else:
            session.add(Note(name=str(kind), data=without(message, "type", "timestamp"), source_time=when))
    return session


def _text(content: Any) -> str | None:
    return content if isinstance(content, str) else content_text(content)


def _reply(
    session: Session, step: int, seen: list[Any], message: dict[str, Any], history: list[dict[str, Any]], when: int | None
) -> None:
    session.add(StepStart(step=step, observation=seen[0] if len(seen) == 1 else seen or None, source_time=when))
    tokens = obj(message.get("tokens"))
    calls = dicts(message.get("toolCalls"))
    asked = [
        {"id": c.get("id"), "type": "function", "function": {"name": c.get("name"), "arguments": c.get("args")}} for c in calls
    ]
    answer: dict[str, Any] = {"role": "assistant", "content": _text(message.get("content"))}
    if asked:
        answer["tool_calls"] = asked
    thoughts = [f"{t.get('subject') or ''}\n{t.get('description') or ''}".strip() for t in dicts(message.get("thoughts"))]
    model = text(message.get("model"))
    request = {"messages": list(history)}
    call = session.add(
        LLMCall(
            step=step,
            source_time=when,
            origin="transcript",
            dialect="openai.chat",
            model=model,
            request=request,
            response=answer,
            reasoning="\n\n".join(t for t in thoughts if t) or None,
            usage=tokens or None,
            prompt_tokens=integer(tokens.get("input")),
            completion_tokens=integer(tokens.get("output")),
            extra=without(message, "type", "timestamp", "content", "toolCalls", "tokens", "model") or None,
        )
    )
    history.append(answer)
    for item in calls:
        status = item.get("status")
        result = item.get("result")
        ok = status in ("success", "completed") if isinstance(status, str) else None
        session.add(
            Action(
                step=step,
                source_time=parse_time(item.get("timestamp")) or when,
                name=str(item.get("name") or ""),
                arguments=item.get("args"),
                result=result,
                ok=ok,
                llm_call=call.id,
                tool_call_id=text(item.get("id")),
                extra=without(item, "id", "name", "args", "result", "timestamp") or None,
            )
        )
        if result is not None:
            shown = item.get("resultDisplay")
            history.append(
                {"role": "tool", "tool_call_id": item.get("id"), "content": shown if isinstance(shown, str) else _shown(result)}
            )


def _shown(result: Any) -> Any:
    """What the model was given back: the output of the function responses, else the result as it stands."""
    outputs = [obj(obj(r.get("functionResponse")).get("response")).get("output") for r in dicts(result)]
    found = [o for o in outputs if isinstance(o, str)]
    return "\n".join(found) if found else result
