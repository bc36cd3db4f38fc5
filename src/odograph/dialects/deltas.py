"""The deltas of a streamed answer put together, in time linear in the stream. Knows no dialect.

What is being built has types of its own, so that no event is ever changed: `built` turns it into plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .shapes import Assembly

#: Texts that a stream repeats, or says once, and never continues.
_WHOLE = ("id", "type", "role", "name", "format", "signature", "object")
_DEPTH = 50  # below it the newer object counts: Python's stack is not for a backend to exhaust


class Text(list[str]):
    """A text, in pieces."""


class Items(list[Any]):
    """A list that grows."""


class Fields(dict[str, Any]):
    """An object whose fields grow."""


class Indexed(dict[int, Fields]):
    """A list whose items grow: each delta says by `index` which one it continues."""


def add(into: Fields, name: str, new: Any, depth: int = 0) -> None:
    """Continues a field: text and lists are appended, objects merged; of anything else the newer counts; null says nothing."""
    old = into.get(name)
    if new is None:
        into.setdefault(name, None)
    elif isinstance(new, str):
        if name in _WHOLE:
            into[name] = new or old or new  # some backends repeat them empty
            return
        if type(old) is Text:
            old.append(new)
        else:
            into[name] = Text([old, new] if isinstance(old, str) else [new])
    elif isinstance(new, list):
        _extend(into, name, old, new, depth)
    elif isinstance(new, dict) and depth < _DEPTH:
        if not isinstance(old, Fields):
            old = into[name] = Fields(old if isinstance(old, dict) else {})
        merge(old, new, depth + 1)
    else:
        into[name] = new


def _extend(into: Fields, name: str, old: Any, new: list[Any], depth: int) -> None:
    if new and (not old or isinstance(old, Indexed)) and all(isinstance(i, dict) and type(i.get("index")) is int for i in new):
        if not isinstance(old, Indexed):
            old = into[name] = Indexed()
        for item in new:
            merge(old.setdefault(item["index"], Fields()), item, depth + 1)
    elif new or not isinstance(old, Indexed):
        if not isinstance(old, Items):
            before = built(old)
            old = into[name] = Items(before if isinstance(before, list) else [])
        old.extend(new)


def merge(into: Fields, new: dict[str, Any], depth: int = 0) -> None:
    """Continues an object, field by field."""
    for name, value in new.items():
        add(into, name, value, depth)


def replace(into: dict[str, Any], new: dict[str, Any], *without: str) -> None:
    """The newer value of each field counts; null says nothing."""
    for name, value in new.items():
        if name not in without and (value is not None or name not in into):
            into[name] = value


def built(value: Any) -> Any:
    """Plain JSON of what was put together."""
    if isinstance(value, Text):
        return "".join(value)
    if isinstance(value, Fields):
        return {name: built(field) for name, field in value.items()}
    if isinstance(value, Indexed):
        return [built(value[index]) for index in sorted(value)]
    if isinstance(value, Items):
        return [built(item) for item in value]
    return value


def assembled(assembly: Assembly, events: Iterable[Any]) -> Any:
    """What an assembly makes of all events of a stream."""
    assembly.add(events)
    return assembly.body()


def assemble_choices(events: list[Any], *growing: str) -> Any:
    """The body of a stream of choices: in each choice the `growing` fields are put together, of other fields the newer counts."""
    body: dict[str, Any] = {}
    parts: dict[int, Fields] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        replace(body, event, "choices")
        found = event.get("choices")
        for position, choice in enumerate(found if isinstance(found, list) else []):
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if type(index) is int else position
                into = parts.setdefault(index, Fields(index=index))
                replace(into, choice, "index", *growing)
                for name in growing:
                    if name in choice:
                        add(into, name, choice[name])
    if parts:
        body["choices"] = [built(parts[index]) for index in sorted(parts)]
    return body or None
