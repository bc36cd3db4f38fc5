"""A sample of an Inspect log with what it refers to: attachments, and the pools of messages that its requests are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...prefix import Prefix
from ...shape import dicts, items, obj


class Sample:
    """One sample, with what it refers to put back in place."""

    def __init__(self, sample: dict[str, Any]) -> None:
        self.attachments: dict[str, Any] = {
            **{f"tc://{name}": text for name, text in obj(obj(sample.get("transcript")).get("content")).items()},  # in 2024
            **{f"attachment://{name}": text for name, text in obj(sample.get("attachments")).items()},
        }
        data = obj(sample.get("events_data"))
        pool = items(sample.get("message_pool")) or items(data.get("messages"))
        self.pool: Pool = Pool(pool, self.whole)
        self.chat: Pool = Pool(pool, lambda message: chat_message(obj(self.whole(message))))
        self.calls: Pool = Pool(items(sample.get("call_pool")) or items(data.get("calls")), self.whole)

    def whole(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            return self.attachments.get(value, value) if value.startswith(("attachment://", "tc://")) else value
        if depth > 50:
            return value
        if isinstance(value, list):
            return [self.whole(v, depth + 1) for v in value]
        if isinstance(value, dict):
            return {k: self.whole(v, depth + 1) for k, v in value.items()}
        return value


class Pool:
    """Messages that requests refer to by ranges, each made once. A request that goes on from the one before shares its list."""

    def __init__(self, found: list[Any], make: Callable[[Any], Any]) -> None:
        self._found, self._make = found, make
        self._made: dict[int, Any] = {}
        self._ranges: list[tuple[int, int]] = []
        self._base: list[Any] = []

    def of(self, refs: Any) -> Prefix:
        ranges = [r for ref in items(refs) if (r := self._range(ref)) is not None]
        last = len(self._ranges) - 1
        if (
            0 <= last < len(ranges)
            and ranges[:last] == self._ranges[:last]
            and ranges[last][0] == self._ranges[last][0]
            and ranges[last][1] >= self._ranges[last][1]
        ):
            new = [(self._ranges[last][1], ranges[last][1]), *ranges[last + 1 :]]
        else:
            self._base, new = [], ranges
        for start, stop in new:
            self._base.extend(map(self._one, range(start, stop)))
        self._ranges = ranges
        return Prefix(self._base)

    def _range(self, ref: Any) -> tuple[int, int] | None:
        pair = items(ref) if isinstance(ref, list) else [ref, ref + 1] if type(ref) is int else []
        if len(pair) != 2 or not all(type(x) is int and x >= 0 for x in pair):
            return None
        return min(pair[0], len(self._found)), min(pair[1], len(self._found))

    def _one(self, number_: int) -> Any:
        if number_ not in self._made:
            self._made[number_] = self._make(self._found[number_])
        return self._made[number_]


def chat_message(message: dict[str, Any]) -> dict[str, Any]:
    """An Inspect message in chat shape: its tool calls are flat there. Of a tool that failed, the model is sent the error."""
    out: dict[str, Any] = {k: message[k] for k in ("role", "content", "tool_call_id") if k in message}
    if message.get("role") == "tool" and isinstance(said := obj(message.get("error")).get("message"), str):
        out["content"] = said
    calls = [
        {"id": c.get("id"), "type": "function", "function": {"name": c.get("function"), "arguments": c.get("arguments")}}
        for c in dicts(message.get("tool_calls"))
    ]
    if calls:
        out["tool_calls"] = calls
    return out
