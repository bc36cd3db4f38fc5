"""The newest records of a store, and those that are written meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ..codec import DAMAGE
from ..streams import IdsLine, MessageLine
from ..types import AnyRecord
from .lines import File, complete_lines, decode, journals, open_file

Earlier = Callable[[int, int | None, str | None], list[AnyRecord]]


class Tail:
    """Follows the journal. The first iteration gives the newest records; each later one gives the records since."""

    def __init__(self, journal: Path, before: Callable[[], None], count: int, trajectory: str | None, sealed: Earlier) -> None:
        """`before` is called before each look. `sealed(time, most, trajectory)` gives the newest sealed records after a time,
        `most` at most."""
        self._journal = journal
        self._before = before
        self._sealed = sealed
        #: Of each journal file, its writer and the time of the last record that was given.
        self._last: dict[str, tuple[str, int]] = {}
        self._looked = 0
        self._count: int | None = count
        self._trajectory = trajectory
        self._read: dict[str, int] = {}

    def __iter__(self) -> Iterator[AnyRecord]:
        self._before()
        first, self._count = self._count, None
        looked, self._looked = self._looked, time.time_ns()
        newest: list[AnyRecord] = []
        paths = journals(self._journal)
        for path in paths:
            with suppress(OSError):  # gone since
                newest += self._new(path, first)
        gone = {name: self._last.pop(name) for name in self._last.keys() - {p.name for p in paths}}
        shown = {r.id for r in newest}
        if first is not None and len(newest) < first:
            newest += [r for r in self._sealed(-1, first, self._trajectory) if r.id not in shown]
        elif gone:  # sealed, with what was written since the last look, perhaps by writers that came and went meanwhile
            after = dict.fromkeys((writer for writer, _ in self._last.values()), sys.maxsize) | dict(sorted(gone.values()))
            found = self._sealed(min(looked, *after.values()), None, self._trajectory)
            newest += [r for r in found if r.time > after.get(r.writer, looked) and r.id not in shown]
        newest.sort(key=lambda r: (r.time, r.writer, r.seq))
        yield from newest if first is None else newest[max(0, len(newest) - first) :]

    def _new(self, path: Path, first: int | None) -> list[AnyRecord]:
        """The records of a file since the last look; with `first`, so many of the newest, or all where there are fewer."""
        start, size = self._read.get(path.name, 0), path.stat().st_size
        if size <= start:
            return []
        file = open_file(path)
        found: list[AnyRecord] = []
        stop, some = size, _TAIL_BYTES
        while True:  # most often the last bytes hold the last records
            begin = start if first is None else _line_start(path, size - some)
            found[:0] = self._between(file, begin, stop)
            if first is None or not begin or (len(found) >= first and file.name in self._read):
                return found
            stop, some = begin, 4 * some

    def _between(self, file: File, start: int, stop: int) -> Iterator[AnyRecord]:
        """The records of the lines that begin in a part of a file. A part may lie before one that was read."""
        name = file.name
        for offset, line in complete_lines(file.path, start):
            if offset >= stop:
                return
            self._read[name] = max(offset + len(line) + 1, self._read.get(name, 0))
            if not line:
                continue
            try:
                record = decode(line, file.writer, file.version)
            except DAMAGE as error:
                from ..log import logger

                logger.warning("the journal %s has a damaged line at byte %d, which is left out: %s", name, offset, error)
                continue
            if record is None or isinstance(record, (MessageLine, IdsLine)):
                continue
            self._last[name] = file.writer, max(record.time, self._last.get(name, ("", 0))[1])
            if self._trajectory is None or record.trajectory == self._trajectory:
                yield record


_TAIL_BYTES = 4 << 20


def _line_start(path: Path, offset: int) -> int:
    if offset <= 0:
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        return offset + len(file.readline())
