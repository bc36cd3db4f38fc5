"""Recorded answers, given to code that asks what was asked before; the first thing that it asks differently is noted.

Reads a trajectory; runs nothing and sends nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec

from .. import dialects
from ..calls import Call
from ..codec import encode, loads_or_raw
from ..dialects import Result, ToolCall
from ..errors import InvalidInput
from ..trajectory import Trajectory
from ..types import Action, Edit, LLMCall, Note
from .showing import Shown, images_of, seen
from .tools import arguments_of

#: How an answer travels, which is not what is asked.
_STREAMING = ("stream", "stream_options")


class Divergence(msgspec.Struct, frozen=True):
    """The first point at which code that runs again differs from its record."""

    #: Number of the call, from 0.
    call: int
    step: int | None
    agent: str | None
    #: The path in the request at which the two differ first, and what is there.
    path: str
    asked: Any
    recorded: Any

    def __str__(self) -> str:
        where = f"call {self.call}" + (f" (step {self.step})" if self.step is not None else "")
        if self.asked is None and not self.path:
            return f"{where} was recorded and is not asked"
        if self.recorded is None and not self.path:
            return f"{where} is asked, and nothing more was recorded: {_brief(self.asked)}"
        return f"{where}, {self.path or 'the request'}: asked {_brief(self.asked)}, recorded {_brief(self.recorded)}"


class Diverged(Exception):
    """Ends code that left the recorded path; it is raised inside of its client."""


class Replies:
    """The answers of a trajectory's calls. A request gets the answer of the first unused call that asked the same."""

    def __init__(self, t: Trajectory) -> None:
        self.calls: list[Call] = [c for c in finished(t, t.llm_calls) if c.purpose != "judge"]
        #: Whether it was stopped from outside: that more is asked than was recorded is no difference then.
        self.cut_off: bool = t.end is None or t.status in ("timeout", "cancelled")
        self.divergence: Divergence | None = None
        self._used: set[int] = set()

    @property
    def used(self) -> int:
        return len(self._used)

    @property
    def left(self) -> int:
        return len(self.calls) - len(self._used)

    def reply(self, dialect: str, sent: bytes, streams: bool) -> tuple[int, str, bytes]:
        """(status, content type, body) as it was recorded. Raises Diverged."""
        asked = loads_or_raw(sent)
        first: int | None = None
        for index, call in enumerate(self.calls):
            if index in self._used:
                continue
            first = index if first is None else first
            if self._difference(call, asked) is None:
                self._used.add(index)
                return _answer(call, dialect, streams)
        if first is None and self.cut_off:
            raise Diverged("the recording ends here")
        self.divergence = self.divergence or self._diverged(first, asked)
        raise Diverged(str(self.divergence))

    def _diverged(self, index: int | None, asked: Any) -> Divergence:
        if index is None:
            return Divergence(len(self.calls), None, None, "", asked, None)
        call = self.calls[index]
        path, recorded, found = self._difference(call, asked) or ("", None, None)
        return Divergence(index, call.step, call.agent, path, found, recorded)

    @staticmethod
    def _difference(call: Call, asked: Any) -> tuple[str, Any, Any] | None:
        plain = {k: v for k, v in asked.items() if k not in _STREAMING} if isinstance(asked, dict) else asked
        return difference(_comparable(call, plain), plain)

    def unfinished(self) -> Divergence | None:
        """That code ended before it asked all that was recorded."""
        index = next((i for i in range(len(self.calls)) if i not in self._used), None)
        if self.divergence is not None or index is None:
            return None
        call = self.calls[index]
        return Divergence(index, call.step, call.agent, "", None, call.request)


class Turn(msgspec.Struct):
    """One answered call of an agent, and what was done around it while the agent ran."""

    call: Call
    #: What was done to its prompt: (name of the note, messages).
    prompted: list[tuple[str, list[Any]]] = []
    #: Edits before its tools were used, and edits before the next call.
    answered: list[Edit] = []
    later: list[Edit] = []
    #: Messages that were put in behind it.
    added: list[Any] = []


class Turns:
    """The answered calls of a trajectory in order, with edits and messages that were put in. A replay takes them one by one."""

    def __init__(self, t: Trajectory) -> None:
        self.turns: list[Turn] = []
        #: What was done to a prompt that was not answered, by agent.
        self.open: dict[str | None, list[tuple[str, list[Any]]]] = {}
        calls = {c.id: c for c in t.llm_calls}
        by_id: dict[str, Turn] = {}
        last: dict[str | None, Turn] = {}
        for record in t.standing:
            agent = record.agent or t.agent
            if isinstance(record, LLMCall) and (call := calls.get(record.id)) is not None:
                if call.purpose == "act" and call.record.error is None and call.choices:
                    turn = Turn(call, prompted=self.open.pop(agent, []))
                    self.turns.append(turn)
                    by_id[call.id] = last[agent] = turn
            elif isinstance(record, Edit) and not record.rejected and record.base in by_id:
                turn = by_id[record.base]
                if (record.extra or {}).get("by") == "on_answer":
                    turn.answered.append(record)
                elif last[turn.call.agent or t.agent] is turn:
                    turn.later.append(record)
            elif isinstance(record, Note) and record.name in (PUT, COMPACTED) and isinstance(record.data, dict):
                messages = record.data.get("messages")
                messages = messages if isinstance(messages, list) else []
                if record.data.get("by") == "on_answer" and agent in last:
                    last[agent].added += messages
                elif record.data.get("by") == "on_prompt":
                    self.open.setdefault(agent, []).append((record.name, messages))
        self._used: set[int] = set()
        #: Tool calls that were changed, refused or approved.
        self.decisions: dict[str, list[Action]] = by_call(a for a in finished(t, t.actions) if decision_of(a))

    def __getitem__(self, call: str) -> Turn | None:
        return next((turn for turn in reversed(self.turns) if turn.call.id == call), None)

    def upcoming(self, agent: str) -> list[tuple[str, list[Any]]]:
        """What was done to the prompt that an agent asks next."""
        turn = self._next(agent, None)
        return [] if turn is None else self.turns[turn].prompted

    def take(self, agent: str, message: dict[str, Any]) -> Turn | None:
        """The turn of an answer that an agent got: the first that was not taken."""
        found = self._next(agent, message)
        if found is None:
            return None
        self._used.add(found)
        return self.turns[found]

    def _next(self, agent: str, message: dict[str, Any] | None) -> int | None:
        for n, turn in enumerate(self.turns):
            if n not in self._used and (turn.call.agent or agent) == agent:
                if message is None or turn.call.choices[0].message == message:
                    return n
        return None


#: The note that keeps that a tool was begun which is not to be repeated.
BEGUN = "tool begun"
#: Names of the notes that keep what was done to a prompt.
PUT, COMPACTED = "message put in", "history compacted"


def finished(t: Trajectory, found: Iterable[Any]) -> list[Any]:
    """Calls or actions without those that were stopped, and without what happened inside of such: it was done again."""
    parents = {r.id: r.parent for r in t.standing}
    stopped = {a.id for a in t.actions if _stopped(a.error) and "content" not in (a.extra or {})}
    stopped |= {c.id for c in t.llm_calls if _stopped(c.error)}

    def counts(one: Any) -> bool:
        place: str | None = one.id
        while place is not None and place not in stopped:
            place = parents.get(place)
        return place is None

    return [one for one in found if counts(one)]


def _stopped(error: Any) -> bool:
    kind = error.get("type") if isinstance(error, dict) else error
    return isinstance(kind, str) and (kind.endswith("CancelledError") or kind in ("request abandoned", "interrupted"))


def _comparable(call: Call, asked: Any) -> Any:
    """A recorded request as it would be asked now: without what `wrap` added; of one that crossed no wire, what is known."""
    request = call.request
    if not isinstance(request, dict) or not isinstance(asked, dict):
        return request
    if call.record.origin == "wire":
        added = dialects.get(call.dialect).asking_tokens(streams=False)  # which `wrap(tokens=True)` adds
        return {k: v for k, v in request.items() if k not in _STREAMING and (k not in added or k in asked)}
    return asked | {k: v for k, v in request.items() if k in asked}


def by_call(actions: Iterable[Action]) -> dict[str, list[Action]]:
    """Actions that came to an end, by the tool call that they are of. Ids alone don't tell: some models give one id to all."""
    found: dict[str, list[Action]] = {}
    for action in actions:
        if action.ok is not False or action.result is not None or "content" in (action.extra or {}):
            asked = decision_of(action).get("asked")
            name, arguments = (
                (asked.get("name"), asked.get("arguments")) if isinstance(asked, dict) else (action.name, action.arguments)
            )
            found.setdefault(_key(action.tool_call_id, str(name), arguments), []).append(action)
    return found


def decision_of(action: Action) -> dict[str, Any]:
    """What was decided of a tool call before the tool was used: `{"what", "asked"?, "reason"?, "author"?}`."""
    found = (action.extra or {}).get("decision")
    return found if isinstance(found, dict) else {}


def take(found: dict[str, list[Action]], asked: ToolCall) -> Action | None:
    """The first action of this tool call that was not taken yet."""
    held = found.get(_key(asked.id, asked.name, asked.arguments))
    return held.pop(0) if held else None


def asked_as(asked: ToolCall) -> str:
    """A tool call as one text, by which it is known again."""
    return _key(asked.id, asked.name, asked.arguments)


def _key(id: str | None, name: str, arguments: Any) -> str:
    with contextlib.suppress(InvalidInput):
        arguments = arguments_of(arguments)
    return encode([id, name, arguments]).decode()


def result_of(action: Action) -> Result:
    """What the model was told of an action."""
    told = (action.extra or {}).get("content")
    text = told if isinstance(told, str) else seen(action.result) if action.result is not None else ""
    images = images_of(action.result) if action.result is not None else []
    return Result(tool_call_id=action.tool_call_id, name=action.name, content=text, ok=action.ok is not False, images=images)


def told_again(result: Result) -> str:
    """A recorded result as a tool gives it."""
    told = Shown(result.content)
    told.images = result.images
    return told


def difference(a: Any, b: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """(path, value in a, value in b) of the first difference of two JSON values; None where they are equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            if key not in a or key not in b:
                return f"{path}.{key}".lstrip("."), a.get(key), b.get(key)
            found = difference(a[key], b[key], f"{path}.{key}")
            if found is not None:
                return found[0].lstrip("."), found[1], found[2]
        return None
    if isinstance(a, list) and isinstance(b, list):
        for index in range(max(len(a), len(b))):
            if index >= len(a) or index >= len(b):
                return f"{path}[{index}]", a[index] if index < len(a) else None, b[index] if index < len(b) else None
            found = difference(a[index], b[index], f"{path}[{index}]")
            if found is not None:
                return found
        return None
    return None if (type(a) is type(b) and a == b) or _same_number(a, b) else (path, a, b)


def _same_number(a: Any, b: Any) -> bool:
    return type(a) in (int, float) and type(b) in (int, float) and a == b


def _answer(call: Call, dialect: str, streams: bool) -> tuple[int, str, bytes]:
    if call.record.events is not None and streams:
        return 200, "text/event-stream", dialects.get(dialect).framed(call.events, call.record.error is None)
    body = call.response
    if isinstance(body, str) or (isinstance(body, dict) and not dialects.get(dialect).is_response(body) and "role" in body):
        message = body if isinstance(body, dict) else {"role": "assistant", "content": body}
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    status = call.record.status_code or (200 if call.record.error is None else 500)
    if body is None:
        return (status if status >= 400 else 500), "application/json", encode({"error": {"message": encode(call.error).decode()}})
    return status, "application/json", encode(body)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    return text if len(text) <= 200 else text[:200] + "..."
