"""What happens in a run, as it happens: events for whoever follows, and for the log. Knows no agent and reads no store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from ..capture.recorder import CallRef, Recorder
from ..codec import encode, loads
from ..log import logger
from ..trajectory import HANDOFF

_BRIEF = 120  # characters of a value in the log
_KINDS = {"step": "step", "llm_call": "answer", "action": "tool", "edit": "edit", "reward": "reward", "note": "note"}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened: `kind` is step, text, answer, tool, handoff, edit, reward, note or end.

    `data`: of text the piece; of an answer `{"text", "tool_calls", "error"}`; of a tool `{"name", "arguments", "result", "ok",
    "error"}`; of a handoff the name of the agent that takes over; of the end the TaskResponse; else the fields of the record.
    """

    kind: str
    agent: str | None = None
    step: int | None = None
    data: Any = None


def of_record(kind: str, fields: dict[str, Any], agent: str | None, step: int | None, ref: CallRef) -> Event | None:
    """A record as an event; None for one that is none."""
    name = _KINDS.get(kind)
    if name is None:
        return None
    data: Any = fields
    if kind == "llm_call":
        call = ref.call
        choice = next(iter(call.choices), None) if call is not None else None
        asked = [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in choice.tool_calls] if choice is not None else []
        data = {"text": choice.text if choice is not None else None, "tool_calls": asked, "error": fields.get("error")}
    elif kind == "action":
        data = {part: loads(encode(fields.get(part))) for part in ("name", "arguments", "result", "ok", "error")}
        if HANDOFF in (fields.get("extra") or {}):
            name, data = "handoff", fields["extra"][HANDOFF]
    elif kind == "step":
        data = {"observation": fields.get("observation")}
    return Event(kind=name, agent=agent, step=step, data=data)


def listen(recorder: Recorder, tell: Callable[[Event], None]) -> None:
    """Tells of each record of a run as it is written, also from other threads; after those who listen already."""
    before = recorder.listener

    def heard(kind: str, fields: dict[str, Any], agent: str | None, step: int | None, id: str, data: bytes) -> None:
        if before is not None:
            before(kind, fields, agent, step, id, data)
        event = of_record(kind, fields, agent or recorder.agent, step, CallRef(id, data))
        if event is not None:
            tell(event)

    recorder.listener = heard


class Following:
    """Events that wait for a reader in an event loop, told from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Event] = asyncio.Queue()

    def tell(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._waiting.put_nowait, event)

    async def next(self) -> Event:
        return await self._waiting.get()


def log(event: Event) -> None:
    """An event as a line of `odograph.logger`."""
    line = _line(event)
    if line is not None:
        logger.info("%s %s: %s", event.agent or "", event.step if event.step is not None else "-", line)


def _line(event: Event) -> str | None:
    data = event.data
    if event.kind == "answer":
        if data["error"] is not None:
            return f"the model did not answer: {_brief(data['error'])}"
        asked = [f"{c['name']}({_brief(c['arguments'])})" for c in data["tool_calls"]]
        return "; ".join(part for part in [_brief(data["text"]) if data["text"] else "", *asked] if part) or "(nothing)"
    if event.kind == "tool":
        came = f"failed: {_brief(data['error'])}" if data["ok"] is False else _brief(data["result"])
        return f"{data['name']} -> {came}"
    if event.kind == "handoff":
        return f"hands over to {data}"
    if event.kind == "edit":
        return f"edited: {data.get('reason') or 'no reason given'}"
    if event.kind == "reward":
        return f"reward {data.get('name', 'reward')} = {data.get('value')}"
    return None


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."
