"""What a JSON file begins with, told from its first bytes alone: how importers recognise a format without parsing a file; and
which files stand in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from ..codec import loads
from ..errors import InvalidInput
from .session import split_glued

_TOKEN = re.compile(rb'[^"{}\[\],:]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\],:]))', re.DOTALL)


@lru_cache(maxsize=8)
def keys(head: bytes) -> tuple[str, frozenset[str]]:
    """The root's bracket (`{`, `[` or nothing) and the keys of its first object, two levels deep as `key` and `key.inner`.

    Lists are looked through: `messages.role` says that an object in the list `messages` has a `role`. Of a list at the root,
    and of JSON lines, the first object counts.
    """
    try:
        whole = value(head.partition(b"\n")[0])
    except InvalidInput:
        whole = None
    if isinstance(whole, dict):
        return "{", frozenset(chain(whole, (f"{key}.{inner}" for key, below in whole.items() for inner in _inner(below))))
    return _scanned(head)


def _inner(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    elif isinstance(value, list):
        for item in value:
            yield from _inner(item)


def _scanned(head: bytes) -> tuple[str, frozenset[str]]:
    """`keys` of what is cut, or stands in several lines."""
    found: set[str] = set()
    root = ""
    open_brackets: list[bytes] = []
    path: list[str] = []  # the key that each open object is at
    last = b""
    position = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    while match := _TOKEN.match(head, position):
        position = match.end()
        string, mark = match.groups()
        if string is not None:
            last = string
            continue
        if mark == b":" and path and len(path) <= 2 and open_brackets[-1] == b"{":
            path[-1] = last[1:-1].decode("utf-8", "replace")
            found.add(".".join(path))
        elif mark in b"{[":
            root = root or mark.decode()
            open_brackets.append(mark)
            if mark == b"{":
                path.append("")
        elif mark in b"}]":
            if not open_brackets:
                break
            if open_brackets.pop() == b"{":
                path.pop()
                if not path:  # the first object ends here
                    break
            if not open_brackets:
                break
    return root, frozenset(found)


def value(text: bytes) -> Any:
    """The JSON value of a line, as `loads`, or the first of several that were glued, to be read and not changed: all importers
    look at the first lines of a file, and each line is parsed once. Raises InvalidInput."""
    found = _value(text)
    if isinstance(found, InvalidInput):
        raise found.with_traceback(None)
    return found


@lru_cache(maxsize=128)
def _value(text: bytes) -> Any:
    try:
        return loads(text)
    except InvalidInput as error:
        glued, _ = split_glued(text) if text.startswith(b"{") else ([], "")
        return glued[0] if glued else error


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern in a folder, sorted. Nothing that is no file: reading a pipe would wait for a writer."""
    return [path for path in sorted(folder.glob(pattern)) if path.is_file()]


def forget() -> None:
    """Forgets the values: the file is recognised."""
    _value.cache_clear()
    keys.cache_clear()
