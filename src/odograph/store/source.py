"""A trajectory's lines, whatever they are stored in. A new tier of storage is one more `Source`, in its own file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..streams import IdsLine, MessageLine
from ..types import AnyRecord
from .lines import File, read_ranges

#: The three kinds of lines: a record, a message that calls refer to, token ids that calls refer to.
Line = AnyRecord | MessageLine | IdsLine
#: The writer of a journal, the version of its lines, and lines of it, with a newline between two.
Raw = tuple[str, int, bytes]


class Source(Protocol):
    """One tier of storage, as the reader sees it."""

    def lines(self, trajectory: str) -> Iterator[Raw]:
        """The lines of a trajectory as they were written, in any order; damaged ones may be among them."""
        ...


class Journals:
    """The journal files. `places` tells where the lines of a trajectory are."""

    def __init__(self, places: Callable[[str], list[tuple[File, int, int]]]) -> None:
        self._places = places

    def lines(self, trajectory: str) -> Iterator[Raw]:
        by_file: dict[str, tuple[File, list[tuple[int, int]]]] = {}
        for file, start, stop in self._places(trajectory):
            by_file.setdefault(file.name, (file, []))[1].append((start, stop))
        for file, ranges in by_file.values():
            for data in read_ranges(file.path, ranges):
                yield file.writer, file.version, data
