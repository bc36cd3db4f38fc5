"""Sources of a trajectory's lines: one for each tier of storage. A new tier is one more `Source`, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..streams import IdsLine, MessageLine
from ..types import AnyRecord
from .lines import File, in_pieces, read_ranges

#: The three kinds of lines: a record, a message that calls refer to, token ids that calls refer to.
Line = AnyRecord | MessageLine | IdsLine
#: The writer of a journal, the version of its lines, and lines of it, with a newline between two.
Raw = tuple[str, int, bytes]


class Source(Protocol):
    """A tier of storage, as the reader sees the tier."""

    def lines(self, trajectory: str) -> Iterator[Raw]:
        """The lines of a trajectory as they were written, in any order. Damaged lines may be among them."""
        ...


def _age(name: str) -> tuple[str, list[int]]:
    """What orders the files of a writer as they were written: later files refer to messages in earlier ones."""
    writer, *parts, _ = name.split(".")
    return writer, [int(part) for part in parts if part.isdecimal()]


class Journals:
    """The journal files. `places` gives the places of a trajectory's lines."""

    def __init__(self, places: Callable[[str], list[tuple[File, int, int]]]) -> None:
        self._places = places

    def lines(self, trajectory: str) -> Iterator[Raw]:
        by_file: dict[str, tuple[File, list[tuple[int, int]]]] = {}
        for file, start, stop in self._places(trajectory):
            by_file.setdefault(file.name, (file, []))[1].append((start, stop))
        for _, (file, ranges) in sorted(by_file.items(), key=lambda one: _age(one[0])):
            for data in read_ranges(file.path, list(in_pieces(file.path, ranges))):
                yield file.writer, file.version, data
