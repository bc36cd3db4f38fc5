"""Where the chats of a file stand: a row with `messages` a line, or in a JSON list; bare lists of messages, one a line, or a file
of one; and whether the messages of a row are in Anthropic's shape. What a chat becomes is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import InvalidInput
from ...shape import dicts, items, obj, parsed
from .. import peek, turns
from ..session import Lines, rows_of, split_glued

SWIFT = ("tool_call", "tool_response")  # roles of ms-swift
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", *SWIFT)
_CUT = 60_000  # bytes: a head that is longer may be cut
_MARKS = {"messageId", "ts"}  # of messages of Amp, of Cline


def first_chat(head: bytes) -> dict[str, Any] | None:
    """The first row of a file of chats, empty where the head cuts it. None where the file begins with something else."""
    start = head.lstrip()
    if not start.startswith((b"{", b"[")) or b'"role"' not in start:
        return None
    if start.startswith(b"[") and _is_talk(talk := _first_list(start)):
        return {"messages": talk}
    if b'"messages"' not in start:
        return None
    try:
        lines = [v for line in start.split(b"\n")[:50] if line.strip() for v in [peek.value(line)]] if b"\n{" in start else []
    except InvalidInput:
        lines = []
    odd = [v for v in lines if isinstance(v, dict) and v.get("messages") == []]
    if odd:
        rest = next((v for v in lines if v not in odd), None)
        return rest if is_chat(rest) else None
    try:
        first = peek.value(start.split(b"\n", 1)[0])
    except InvalidInput:
        if len(head) < 65536:
            try:
                first = peek.value(head)
            except InvalidInput:
                return None
        else:  # one long line, or an indented file
            begun = start.replace(b" ", b"").replace(b"\n", b"")
            return {} if begun.startswith((b'{"messages":[{"role"', b'[{"messages":[{"role"')) else None
    if isinstance(first, list):
        first = first[0] if first else None
    return first if is_chat(first) else None


def _first_list(start: bytes) -> Any:
    """The list of a first line, or that a whole file is; of lists in it, the first. Of a longer one, what is in the head."""
    for part in (start.split(b"\n", 1)[0], start):
        try:
            value = peek.value(part)
        except InvalidInput:
            continue
        return value[0] if isinstance(value, list) and value and isinstance(value[0], list) else value
    return split_glued(start.lstrip(b"[ \t\r\n"))[0] if len(start) > _CUT else None


def _is_talk(value: Any) -> bool:
    """Whether a list is a talk in which a model answered."""
    return (
        turns.are_turns(value)
        and all("role" in m and not _MARKS & m.keys() for m in value)
        and any(m["role"] == "assistant" for m in value)
    )


def is_chat(value: Any) -> bool:
    messages = obj(value).get("messages")
    if not isinstance(messages, list) or not messages or not all(obj(m).get("role") in _ROLES for m in messages[:5]):
        return False
    return not any(_MARKS & m.keys() for m in dicts(messages))


def is_anthropic(row: dict[str, Any]) -> bool:
    """Whether the messages or tools of a row are in Anthropic's shape."""
    return turns.are_anthropic(items(row.get("messages")), items(parsed(row.get("tools"))))


def rows_in(path: Path, lines: Lines) -> Iterator[Any]:
    """The rows of a file. A list may be the file, with rows or as one talk, or stand in a line of its own."""
    with path.open("rb") as file:
        line, more = file.readline(), file.readline().strip()
    if more and _is_talk(_first_list(line.lstrip(b"\xef\xbb\xbf"))):
        rows: Iterator[Any] = (value for _, value in lines)
    else:
        rows = iter(rows_of(path, lines))
    first = next(rows, None)
    if "role" in obj(first):  # the file is one talk
        yield {"messages": [first, *rows]}
        return
    for row in chain([first], rows):
        yield {"messages": row} if _is_talk(row) else row
