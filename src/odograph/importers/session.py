"""What every importer makes of one recorded session: records with ids that the same session always gets.

An importer is a module with `NAME`, `recognise(path, head)` and `read(path)`; `read` yields one `Session` per trajectory,
so that memory is bounded by the largest of them. Ids depend on the session's identity (`key`) and on each record's position
alone: importing a file again adds nothing, and importing one that has grown adds what is new.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from ..clock import parse_time
from ..codec import derived_id, loads
from ..errors import InvalidInput
from ..types import AnyRecord, Record, Start, StepStart

__all__ = ["Importer", "Lines", "Session", "parse_time"]

_R = TypeVar("_R", bound=Record)


class Importer(Protocol):
    """What an importer's module has."""

    NAME: str

    def recognise(self, path: Path, head: bytes) -> bool:
        """Whether a file (or a folder; `head` is empty then) holds sessions of this format. `head`: its first 64 KB."""
        ...

    def read(self, path: Path) -> Iterator[Session]:
        """The sessions in it. Raises InvalidInput where nothing of it can be used."""
        ...


class Session:
    """One session on its way in: `add` its records in order; `warn` counts what could not be mapped or read."""

    def __init__(self, format: str, *key: Any, started: int | None = None) -> None:
        self.format = format
        #: The trajectory's id.
        self.id: str = derived_id(started, format, *key)
        self.records: list[AnyRecord] = []
        self.warnings: Counter[str] = Counter()
        self._started = started
        self._steps: dict[tuple[str | None, int], str] = {}
        self._root: str | None = None

    def add(self, record: _R) -> _R:
        """Takes a record in and returns it with its id, trajectory and place; refer to it by that id.

        The parent, where it is not given, is the step that the record's `agent` and `step` name, else the start.
        """
        number = len(self.records)
        parent = record.parent
        if parent is None and not isinstance(record, Start):
            parent = self._root
            if record.step is not None and not isinstance(record, StepStart):
                parent = self._steps.get((record.agent, record.step), parent)
        when = record.source_time if record.source_time is not None else self._started
        placed = msgspec.structs.replace(
            record, id=derived_id(when, self.id, number), trajectory=self.id, seq=number, parent=parent
        )
        self.records.append(placed)  # type: ignore[arg-type]
        if isinstance(placed, Start):
            self._root = placed.id
        elif isinstance(placed, StepStart) and placed.step is not None:
            self._steps[(placed.agent, placed.step)] = placed.id
        return placed

    def replace(self, record: AnyRecord, **changes: Any) -> None:
        """Changes a record that was added: what a later line says of it."""
        if record.seq >= len(self.records) or self.records[record.seq].id != record.id:
            raise KeyError(record.id)
        self.records[record.seq] = msgspec.structs.replace(self.records[record.seq], **changes)

    def warn(self, what: str, count: int = 1) -> None:
        """Counts something of the source that is not in the records, or was damaged."""
        self.warnings[what] += count


class Lines:
    """The JSON values of a JSON-lines file, leniently: glued objects are split, damaged lines counted with their offset.

    Iterate over it: (byte offset of the line, value). `problems` then says what could not be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problems: list[str] = []
        self.glued: int = 0

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        offset = 0
        with self._path.open("rb") as file:
            for line in file:
                start, offset = offset, offset + len(line)
                text = line.strip().lstrip(b"\xef\xbb\xbf")
                if not text:
                    continue
                try:
                    yield start, loads(text)
                except InvalidInput:
                    values, whole = _split_glued(text)
                    self.glued += len(values) > 1
                    for value in values:
                        yield start, value
                    if not whole:
                        torn = "damaged" if line.endswith(b"\n") else "torn"
                        self.problems.append(f"{torn} line at byte {start}")


def _split_glued(text: bytes) -> tuple[list[Any], bool]:
    """The values of a line that holds several, one after the other, and whether that is all of the line."""
    decoder = json.JSONDecoder()
    string = text.decode("utf-8", "replace")
    values: list[Any] = []
    position = 0
    while position < len(string):
        try:
            value, position = decoder.raw_decode(string, position)
        except (ValueError, RecursionError):
            return values, False
        values.append(value)
        while position < len(string) and string[position] in " \t\r\n,\x00":
            position += 1
    return values, True
