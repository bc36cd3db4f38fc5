"""What `codex exec --json` prints: JSON lines `thread.started`, `turn.started`, `item.*`, `turn.completed`.

The stream tells of items and turns, not of calls of the model: each turn is one call here, with its items as the reply and the
turn's usage. It does not say what the person asked, so that a call has no request.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...errors import InvalidInput
from ...shape import integer, obj, text, without
from ...types import Action, End, LLMCall, Note, Start, StepStart
from .. import peek
from ..session import Lines, NotBegun, Session

NAME = "codex-exec"
_SAID = ("agent_message", "reasoning", "todo_list")


def recognise(path: Path, head: bytes) -> bool:
    """A first line of type `thread.started`."""
    for line in head.split(b"\n")[:20]:
        try:
            value = obj(peek.value(line))
        except InvalidInput:
            continue
        return value.get("type") == "thread.started" and "thread_id" in value
    return False


def read(path: Path) -> Iterator[Session]:
    """The session of a stream. Raises InvalidInput where no turn has begun."""
    lines = Lines(path)
    events = [v for _, v in lines if isinstance(v, dict)]
    thread = next((e.get("thread_id") for e in events if e.get("type") == "thread.started"), None)
    if not any(str(e.get("type")).startswith(("turn.", "item.")) for e in events):
        raise NotBegun("a stream of Codex in which no turn has begun")
    session = Session(NAME, thread or content_hash(events[0]))
    for problem in lines.problems:
        session.warn(problem)
    session.add(Start(agent="codex", metadata={"source": {"format": NAME, "path": path.name, "session": thread}}), "start")
    turn = -1
    found: dict[str, dict[str, Any]] = {}
    failure: Any = None
    answer: Any = None
    ended = False
    for event in events:
        kind = event.get("type")
        if kind == "turn.started":
            if found and turn >= 0:
                _turn(session, turn, found, {})
                found = {}
            turn += 1
        elif str(kind).startswith("item."):
            item = obj(event.get("item"))
            if item.get("type") == "error":  # the program's word, not the model's
                session.add(Note(name="error", data=item), "event", text(item.get("id")) or content_hash(item))
                continue
            found[text(item.get("id")) or content_hash(item)] = item  # the last one counts
        elif kind in ("turn.completed", "turn.failed"):
            failure = event.get("error") if kind == "turn.failed" else None
            turn, ended = max(turn, 0), True
            _turn(session, turn, found, obj(event.get("usage")), failure)
            answer = next((i.get("text") for i in reversed(found.values()) if i.get("type") == "agent_message"), None)
            found = {}
        elif kind != "thread.started":
            session.add(Note(name=str(kind), data=without(event, "type")), "event", content_hash(event))
    if found:
        _turn(session, max(turn, 0), found, {})
    if ended:  # a later turn may follow: what the last one said counts
        session.add(End(status="failed" if failure else "completed", error=failure, answer=answer), "end")
    yield session


def _item(item: dict[str, Any]) -> dict[str, Any]:
    """An item of the stream as the Responses API has it: what the agent said and thought; others as they are."""
    if item.get("type") == "agent_message":
        content = [{"type": "output_text", "text": item.get("text")}]
        return {**without(item, "text"), "type": "message", "role": "assistant", "content": content}
    if item.get("type") == "reasoning" and isinstance(item.get("text"), str):
        return {**without(item, "text"), "summary": [{"type": "summary_text", "text": item["text"]}]}
    return item


def _turn(session: Session, turn: int, found: dict[str, dict[str, Any]], usage: dict[str, Any], error: Any = None) -> None:
    output = list(found.values())
    session.add(StepStart(step=turn), "turn", turn)
    thoughts = [i["text"] for i in output if i.get("type") == "reasoning" and isinstance(i.get("text"), str)]
    call = session.add(
        LLMCall(
            step=turn,
            origin="transcript",
            dialect="openai.responses",
            response={"output": [_item(i) for i in output]},
            reasoning="\n\n".join(thoughts) or None,
            usage=usage or None,
            prompt_tokens=integer(usage.get("input_tokens")),
            completion_tokens=integer(usage.get("output_tokens")),
            error=error,
            extra={"of": "turn"},
        ),
        *("reply", turn),
    )
    for id, item in found.items():
        if item.get("type") in _SAID:
            continue
        code = integer(item.get("exit_code"))
        status = item.get("status")
        ok = code == 0 if code is not None else status == "completed" if status in ("completed", "failed", "declined") else None
        given = {k: item[k] for k in ("command", "arguments", "changes", "query", "prompt") if item.get(k) is not None}
        action = Action(
            step=turn,
            name=text(item.get("tool")) or str(item.get("type")),
            arguments=given.get("arguments", given),
            result=item.get("aggregated_output", item.get("result")),
            ok=ok,
            error=item.get("error"),
            llm_call=call.id,
            extra=without(item, "aggregated_output", "result", "error", *given)
            or None,  # its id is the stream's own, no tool call's
        )
        session.add(action, "action", id)
