"""Changes to what code that is no `Agent` asks and is answered: at its requests and responses, since its memory is its own.

Knows no runner and sends nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import dialects
from ..calls import Call
from ..codec import encode, loads_or_raw
from ..dialects.content import text_of
from ..errors import InvalidInput
from ..log import logger
from ..types import Edit
from .recorded import COMPACTED
from .revising import Revised, revised, reworded


class _Put(msgspec.Struct):
    """Messages that were put in behind `before`, or in its place."""

    before: list[Any]
    messages: list[dict[str, Any]]
    replaces: bool


class Changes:
    """What was changed of the conversations that a function has: its later requests get the same changes."""

    def __init__(self) -> None:
        self._put: list[_Put] = []
        self._edits: dict[str, tuple[Call, list[Edit]]] = {}

    def __bool__(self) -> bool:
        return bool(self._put or self._edits)

    def put(self, name: str, messages: list[dict[str, Any]], dialect: str, sent: bytes) -> None:
        """Puts messages into a request that is about to be sent, and into those that follow it."""
        items = _items(dialect, loads_or_raw(sent))
        if items is not None:
            self._put.append(_Put(items, messages, name == COMPACTED))

    def edited(self, call: Call, edits: list[Edit]) -> None:
        """Requests have the answer as these edits leave it. Raises InvalidInput."""
        known = self._edits.get(call.id, (call, []))[1]
        made = revised(call, [*known, *edits], None, in_ids=False)
        if made.reasoning is not None:
            raise InvalidInput("between the steps of a function, the text of an answer can be edited, and not its reasoning")
        self._edits[call.id] = call, [*known, *edits]

    def apply(self, dialect: str, sent: bytes) -> bytes:
        """A request with the changes."""
        request = loads_or_raw(sent)
        items = _items(dialect, request)
        if items is None or not self:
            return sent
        made = self._with_messages(dialect, items)
        for call, edits in self._edits.values():
            made = self._with_edits(call, edits, made)
        return sent if made == items else encode({**request, dialects.get(dialect).HISTORY: made})

    def _with_messages(self, dialect: str, items: list[Any]) -> list[Any]:
        found = [p for p in self._put if items[: len(p.before)] == p.before]
        made: list[Any] = []
        at = 0
        for put in found:
            new = dialects.get(dialect).history(put.messages)
            own = 0
            if put.replaces:
                while own < len(put.before) and _is_system(put.before[own]):
                    own += 1
            made = [*put.before[:own], *new] if put.replaces else [*made, *items[at : len(put.before)], *new]
            at = len(put.before)
        return [*made, *items[at:]]

    def _with_edits(self, call: Call, edits: list[Edit], items: list[Any]) -> list[Any]:
        text = revised(call, edits, None, in_ids=False).text
        generated = call.choices[0].text.strip()
        for n in range(len(items) - 1, -1, -1):
            if text is not None and _is_answer(items[n]) and _text(items[n]).strip() == generated:
                return [*items[:n], _with_text(items[n], text), *items[n + 1 :]]
        logger.warning("the edit of call %s does not show: the request has no such answer", call.id[-8:])
        return items


def body_of(dialect: str, kind: str, content: bytes) -> Any:
    """The body of a response, or the one that its stream amounts to."""
    spoken = dialects.get(dialect)
    stream = spoken.framing(kind, "")
    if stream is None:
        return loads_or_raw(content)
    stream.feed(content)
    stream.close()
    return spoken.assemble(stream.events)


def answer_with(dialect: str, content: bytes, kind: str, call: Call, edits: list[Edit]) -> bytes:
    """A response's bytes with the edited answer. Raises InvalidInput."""
    made = revised(call, edits, None, in_ids=False)
    if made == Revised():
        return content
    spoken = dialects.get(dialect)
    body = reworded(dialect, body_of(dialect, kind, content), made, {})
    if spoken.framing(kind, "") is None:
        return encode(body)
    if spoken.NAME != "openai.chat":
        raise InvalidInput(f"a stream of {spoken.NAME} can't be edited on its way to a function; ask without a stream")
    return spoken.framed(_chunks(body), True)


def _chunks(body: dict[str, Any]) -> list[Any]:
    """A chat completion as one event, and one that says why it ended."""
    about = {k: v for k, v in body.items() if k not in ("choices", "usage")} | {"object": "chat.completion.chunk"}
    events: list[Any] = []
    for choice in body["choices"]:
        message = dict(choice.get("message") or {})
        if isinstance(message.get("tool_calls"), list):
            message["tool_calls"] = [{"index": n, **call} for n, call in enumerate(message["tool_calls"])]
        index = choice.get("index", 0)
        events.append({**about, "choices": [{"index": index, "delta": message, "finish_reason": None}]})
        rest = {k: v for k, v in choice.items() if k != "message"}
        events.append({**about, "choices": [{**rest, "index": index, "delta": {}}]})
    if body.get("usage") is not None:
        events.append({**about, "choices": [], "usage": body["usage"]})
    return events


def messages_of(dialect: str, sent: bytes) -> list[dict[str, Any]]:
    """The messages of a request, chat-shaped, without those of the system ahead of them."""
    spoken, items = dialects.get(dialect), _items(dialect, loads_or_raw(sent))
    found = spoken.messages({spoken.HISTORY: items or []})
    while found and found[0].get("role") in ("system", "developer"):
        found = found[1:]
    return found


def _items(dialect: str, request: Any) -> list[Any] | None:
    name = dialects.get(dialect).HISTORY
    found = request.get(name) if isinstance(request, dict) else None
    if isinstance(found, str):
        return [{"role": "user", "content": found}]
    return found if isinstance(found, list) else None


def _is_system(item: Any) -> bool:
    return isinstance(item, dict) and item.get("role") in ("system", "developer")


def _is_answer(item: Any) -> bool:
    return isinstance(item, dict) and item.get("role") in ("assistant", "model")


def _text(item: dict[str, Any]) -> str:
    content = item.get("content", item.get("parts"))
    return content if isinstance(content, str) else text_of(content)


def _with_text(item: dict[str, Any], text: str) -> dict[str, Any]:
    """A message with another text, whatever the form of its parts."""
    name = "parts" if "parts" in item else "content"
    parts = item.get(name)
    if not isinstance(parts, list):
        return {**item, name: text}
    out: list[Any] = []
    for part in parts:
        if isinstance(part, dict) and isinstance(part.get("text"), str) and not part.get("thought"):
            if text is not None:
                out.append({**part, "text": text})
            text = None  # type: ignore[assignment]
        else:
            out.append(part)
    return {**item, name: out}
