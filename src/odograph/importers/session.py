"""What every importer makes of one recorded session: records with ids that the same session always gets.

An importer is a module with `NAME`, `recognise(path, head)` and `read(path)`; `read` yields one `Session` per trajectory,
so that memory is bounded by the largest of them. Ids depend on the session's identity and on what the source itself calls
each thing: importing a file again adds nothing, and importing one that has grown ends as one import of the whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import msgspec

from ..clock import iso_time, parse_time
from ..codec import content_hash, derived_id, loads
from ..errors import InvalidInput
from ..shape import dicts, items
from ..totals import NONE_COUNTS, counting
from ..types import AnyRecord, Record, Reward, Start, StepStart

__all__ = ["Importer", "Lines", "NotBegun", "Session", "observed_where", "parse_time", "rows_of", "sessions_of_rows", "warned"]

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


class NotBegun(InvalidInput):
    """A file of a known format in which no session has begun yet: no failure where a folder is imported."""


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
        self._starters: dict[str | None, str] = {}
        self._known: dict[str | None, str] = {}
        self._keys: Counter[str] = Counter()

    def add(self, record: _R, *key: Any) -> _R:
        """Takes a record in and returns it with its id, trajectory and place; refer to it by that id.

        `key` is what the source calls it: its uuid, its message's id, its tool call's id. What a later look at a longer file
        would say of the same thing has the same key, whatever kind of record that is: a last message that is a note now is
        the reply's step later. Without a key the record is the n-th of its kind, agent, step and name.

        The parent, where it is not given, is the step that the record's `agent` and `step` name, else where the agent was
        started (`within`), else the start.
        """
        if not isinstance(record, Record):
            raise TypeError(f"a session takes records of odograph.types, not an object of type {type(record).__name__}")
        if isinstance(record, Reward) and record.source == "judge" and record.version is None:
            extra = {"range": None, **(record.extra or {})}  # of another program's judge: its scale is not told
            record = cast(_R, msgspec.structs.replace(record, extra=extra))
        if not key:
            key = (record.__struct_config__.tag, self.known_as(record.agent), record.step, getattr(record, "name", None))
        parent = record.parent
        if parent is None and not isinstance(record, Start):
            parent = self._starters.get(record.agent, self._root)
            if record.step is not None and not isinstance(record, StepStart):
                parent = self._steps.get((record.agent, record.step), parent)
        placed = msgspec.structs.replace(
            record, id=self.id_of(*key, new=True), trajectory=self.id, seq=len(self.records), parent=parent
        )
        self.records.append(placed)  # type: ignore[arg-type]
        if isinstance(placed, Start):
            self._root = placed.id
        elif isinstance(placed, StepStart) and placed.step is not None:
            self._steps[(placed.agent, placed.step)] = placed.id
        return placed

    def id_of(self, *key: Any, new: bool = False) -> str:
        """The id of the record with a key; what comes under a key again (`new`) is numbered."""
        id = derived_id(self._started, self.id, *key)
        number = self._keys[id]
        if new:
            self._keys[id] += 1
        return derived_id(self._started, self.id, *key, number) if number and new else id

    def within(self, agent: str | None, record: str | None) -> None:
        """Says which record started an agent: the parent of all that it does outside of its steps, and of its steps."""
        if record is not None:
            self._starters[agent] = record

    def known(self, agent: str | None, id: str) -> None:
        """Says what the source calls an agent whose name holds more: its records are known by that, whatever its name will be."""
        self._known[agent] = id

    def known_as(self, agent: str | None) -> str | None:
        """What the ids of an agent's records hold of it."""
        return self._known.get(agent, agent)

    def replace(self, record: _R, **changes: Any) -> _R:
        """Changes a record that was added, to what a later line says of it, and returns it."""
        if record.seq >= len(self.records) or self.records[record.seq].id != record.id:
            raise KeyError(record.id)
        changed = msgspec.structs.replace(self.records[record.seq], **changes)
        self.records[record.seq] = changed
        return cast(_R, changed)

    def score(self, *scores: tuple[Reward, tuple[Any, ...]]) -> None:
        """Takes in the scores that a source gave the whole run, each with its key. One of them at most is the run's reward
        (`totals.counting`); the others weigh 0."""
        counts = counting(reward for reward, _ in scores)
        for reward, key in scores:
            self.add(msgspec.structs.replace(reward, weight=1.0 if reward.name == counts else 0.0), *key)
        if scores and counts is None:
            self.warn(NONE_COUNTS)

    def objects(self, holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """The objects of the list that the source has in a field; what else stands there is warned of."""
        given = holder.get(name)
        found = dicts(given)
        if given and not isinstance(given, list):
            self.warn(f"a field `{name}` that is no list")
        elif given and len(found) < len(given):
            self.warn(f"items of `{name}` that are no objects", len(given) - len(found))
        return found

    def warn(self, what: str, count: int = 1) -> None:
        """Counts something of the source that is not in the records, or was damaged."""
        self.warnings[what] += count


def observed_where(ids: list[str | None], times: list[int | None]) -> dict[str, Any] | None:
    """The `extra` of what a step observes: the source's ids, and when each message came. None where the source says neither."""
    found: dict[str, Any] = {"ids": ids} if any(ids) else {}
    if any(time is not None for time in times):
        found["times"] = [iso_time(time) for time in times]
    return found or None


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
        before: dict[str, Any] = {}
        with self._path.open("rb") as file:
            while line := file.readline():
                start, offset = offset, offset + len(line)
                values = self._values(line, start)
                line = b""  # a long line is let go before its value is worked on
                for value in values:
                    if type(value) is dict:
                        for name, said in value.items():  # what a line repeats of the line before is held once
                            if name in before and said == before[name] and type(said) is str:
                                value[name] = before[name]
                        before = value
                    yield start, value

    def _values(self, line: bytes, start: int) -> list[Any]:
        """The values of a line: one, but for glued lines and blank ones."""
        try:
            return [loads(line)]
        except InvalidInput:
            text = line.strip(b" \t\r\n\x00").lstrip(b"\xef\xbb\xbf")  # a crash leaves NULs
        try:
            return [loads(text)] if text else []
        except InvalidInput:
            values, rest = split_glued(text)
            self.glued += len(values) > 1
            if rest:
                torn = "damaged" if line.endswith(b"\n") else "torn"
                self.problems.append(f"{torn} line at byte {start}")
            return values


def unrepeated(
    entries: Iterable[Any], name: Callable[[dict[str, Any]], Any] = lambda entry: entry.get("id")
) -> Iterator[dict[str, Any]]:
    """The objects among the lines of a session, without those that say again what the line of that name said: some are written
    twice, when a program is killed or two write. A line without a name is no repetition."""
    seen: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if isinstance(entry, dict):
            known = name(entry)
            if isinstance(known, str) and seen.setdefault(known, entry) is not entry and seen[known] == entry:
                continue
            yield entry


def split_glued(text: bytes) -> tuple[list[Any], str]:
    """The values of a text that holds several, one after the other, and what of it could not be read."""
    decoder = json.JSONDecoder()
    string = text.decode("utf-8", "replace")
    values: list[Any] = []
    position = 0
    while position < len(string):
        try:
            value, position = decoder.raw_decode(string, position)
        except (ValueError, RecursionError):
            return values, string[position:]
        values.append(value)
        while position < len(string) and string[position] in " \t\r\n,\x00":
            position += 1
    return values, ""


def rows_of(path: Path, lines: Lines) -> Iterator[Any]:
    """The rows of a file: its `lines`, or the items of the JSON list that it is. A row of a list is let go when it is read.
    Raises InvalidInput for a list that is no JSON."""
    with path.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith(b"["):
        yield from (value for _, value in lines)
        return
    rows = items(loads(path.read_bytes()))
    rows.reverse()
    while rows:
        yield rows.pop()


def sessions_of_rows(
    rows: Iterable[Any], lines: Lines, is_row: Callable[[Any], bool], session: Callable[[Any, str, int], Session], expected: str
) -> Iterator[Session]:
    """A session per row of a file of rows; `session(row, key, count)` makes it, named by the row's content and by how often that
    came. Rows of another shape and damaged lines are warned of with the session behind them, or with the last session. Raises
    InvalidInput where no row is `expected`."""
    seen: Counter[str] = Counter()
    bad = 0
    last: Session | None = None
    for row in rows:
        if not is_row(row):
            bad += 1
            continue
        key = content_hash(row)
        seen[key] += 1
        if last is not None:
            yield last
        last = session(row, key, seen[key])
        if bad:
            last.warn("rows of another shape before this one", bad)
            bad = 0
        warned(last, lines)
    if last is None:
        raise InvalidInput(f"no {expected}; {bad} rows of another shape, {len(lines.problems)} damaged")
    if bad:
        last.warn("rows of another shape behind this one", bad)
    yield warned(last, lines)


def warned(session: Session, lines: Lines) -> Session:
    """The session with warnings of what of the lines could not be read since the session before."""
    for problem in lines.problems:
        session.warn(problem)
    lines.problems.clear()
    return session
