"""Chat JSON lines as `openai-chat` has them, whose messages have Anthropic's content blocks (`tool_use`, `tool_result`,
`thinking`, images with a `source`) or whose tools have Anthropic's `input_schema`. Blocks stay as they are, and are actions,
results and thoughts. A row without any of these, among others, is one of `openai-chat`.

Source: Anthropic's Messages API; rows of data sets, and talks that programs export.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import items, obj
from ..session import Session
from .chat_rows import first_chat, is_anthropic
from .openai_chat import ANTHROPIC as NAME
from .openai_chat import of_chats

__all__ = ["NAME", "SURE", "read", "recognise"]

SURE = 15  # before those of `openai-chat`, whose rows look alike
_SHORT = 1000  # a line that begins a value of several lines


def recognise(path: Path, head: bytes) -> bool:
    """The first chat has Anthropic's blocks or tools."""
    first = first_chat(head)
    return first is not None and is_anthropic(first or _first_of(path))


def _first_of(path: Path) -> dict[str, Any]:
    """The first row of a file whose head cuts it: one long line, or a file of values that each take several."""
    with path.open("rb") as file:
        line = file.readline()
    try:
        first = loads(line if len(line) > _SHORT else path.read_bytes())
    except InvalidInput:
        return {}
    return obj(items(first)[0] if items(first) else first)


def read(path: Path) -> Iterator[Session]:
    """A session per line, or per object of a list. Raises InvalidInput where there is none, or where the first has none of
    Anthropic's blocks and tools."""
    return of_chats(path, NAME)
