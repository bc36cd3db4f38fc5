"""Sessions in the Hub's Session Trace Simple Format: a line of type `session` with a `harness`, then a line for each message.

Each answer is a step and a call, with the messages before it as its request. Other fields of the first line are kept; `model`,
`agent`, `group`, `status` and `reward`, which our own export writes there, mean what they say.

Source: https://huggingface.co/docs/hub/session-traces-format.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InvalidInput
from ...shape import content_text, dicts, obj, text, without
from ...types import STATUSES, End, Start
from .. import peek, turns
from ..session import Lines, NotBegun, Session, parse_time, warned
from ..transcript import Transcript

NAME = "hf-traces"
SURE = 60
_HELD = ("type", "id", "name", "agent", "model", "group", "status", "started", "reward")


def recognise(path: Path, head: bytes) -> bool:
    """A first line of type `session` with a harness."""
    try:
        first = obj(peek.value(head.split(b"\n", 1)[0]))
    except InvalidInput:
        return False
    return first.get("type") == "session" and isinstance(first.get("harness"), str) and "cwd" not in first


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises NotBegun where it has no message."""
    lines = Lines(path)
    entries = [v for _, v in lines if isinstance(v, dict)]
    head = next((e for e in entries if e.get("type") == "session"), {})
    messages = [m for e in entries if e.get("type") == "message" and (m := obj(e.get("message")))]
    if not messages:
        raise NotBegun("a session of the Hub's trace format without a message")
    started = parse_time(head.get("started"))
    session = warned(Session(NAME, text(head.get("id")) or path.stem, started=started), lines)
    if other := len(entries) - len(messages) - bool(head):
        session.warn("lines that are no message", other)
    source = {"format": NAME, "path": path.name, "session": head.get("id"), "title": head.get("name"), **without(head, *_HELD)}
    task = next((content_text(m.get("content")) for m in messages if m.get("role") == "user"), None)
    model = text(head.get("model")) or next((one["model"] for one in messages if text(one.get("model"))), None)
    metadata = {"source": {k: v for k, v in source.items() if v is not None}}
    who, group = text(head.get("agent")) or text(head.get("harness")), text(head.get("group"))
    session.add(Start(task=task, agent=who, model=model, group=group, metadata=metadata, source_time=started), "start")
    turns.rate(session, {"reward": head.get("reward")})  # the first line says it: it stands before all that comes later
    transcript = Transcript(session, model=model)
    for message in messages:
        fields: dict[str, Any] = {"when": parse_time(message.get("timestamp"))}
        if text(message.get("model")):
            fields["model"] = message["model"]
        turns.tell(transcript, [_shaped(message)], **fields)
    transcript.close()
    status = head.get("status")
    if status in STATUSES:
        session.add(End(status=status), "end")
    yield session


def _shaped(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the shape of a chat."""
    found = without(message, "toolCalls", "toolCallId", "reasoningContent", "timestamp", "model")
    if calls := dicts(message.get("toolCalls")):
        found["tool_calls"] = [{"type": "function", **call} for call in calls]
    if text(message.get("toolCallId")):
        found["tool_call_id"] = message["toolCallId"]
    if text(message.get("reasoningContent")):
        found["reasoning_content"] = message["reasoningContent"]
    return found
