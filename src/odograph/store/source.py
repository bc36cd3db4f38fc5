"""What a trajectory's lines hold, whatever they are stored in. A new tier of storage is one more `Source`, in its own file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..codec import DAMAGE
from ..packing import IdsLine, MessageLine
from ..types import AnyRecord
from .lines import File, decode, read_ranges

#: The three kinds of lines: a record, a message that calls refer to, token ids that calls refer to.
Line = AnyRecord | MessageLine | IdsLine


class Source(Protocol):
    """One tier of storage, as the reader sees it."""

    def lines(self, trajectory: str) -> Iterator[tuple[str, Line]]:
        """Each readable line of a trajectory with the writer that wrote the line, in any order. Damaged lines are left out."""
        ...


class Journals:
    """The journal files. `places` tells where the lines of a trajectory are."""

    def __init__(self, places: Callable[[str], list[tuple[File, int, int]]]) -> None:
        self._places = places

    def lines(self, trajectory: str) -> Iterator[tuple[str, Line]]:
        by_file: dict[str, tuple[File, list[tuple[int, int]]]] = {}
        for file, start, stop in self._places(trajectory):
            by_file.setdefault(file.name, (file, []))[1].append((start, stop))
        for file, ranges in by_file.values():
            for data in read_ranges(file.path, ranges):
                for line in data.split(b"\n"):
                    if not line:
                        continue
                    try:
                        found = decode(line, file.writer, file.version)
                    except DAMAGE:  # `Reader.damages` tells
                        continue
                    if found is not None:
                        yield file.writer, found
