"""Trajectories out of a store: finds their lines through the catalog, decodes them, and makes calls whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..clock import parse_span, parse_time
from ..codec import DAMAGE, encode
from ..errors import InvalidInput, NotFound
from ..packing import IdsLine, MessageLine, Streams
from ..trajectory import Trajectory
from ..types import LATE, STATUSES, AnyRecord
from .catalog import Catalog, Hit, Summary, Used
from .journal import is_alive
from .lines import Damage, complete_lines, decode, open_file, read_range

_STATES = (*STATUSES, "running", "unterminated")


class Where(NamedTuple):
    """Filters as SQL: the clauses, their values, and the states that only liveness tells apart."""

    clauses: list[str]
    values: list[Any]
    states: set[str] | None
    limit: int | None


class Reader:
    """Reads one store folder. Every question first catches up with what was written since the last."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._journal = root / "journal"
        self._opened: Catalog | None = None
        self._opening = threading.Lock()  # two threads' first questions open one catalog, not two that get in each other's way

    @property
    def catalog(self) -> Catalog:
        """The catalog, caught up. Raises NewerStore where a later version of Odograph wrote."""
        with self._opening:
            if self._opened is None:
                self._opened = Catalog(self._root / "catalog.sqlite", self._journal)
            opened = self._opened
        opened.catch_up()
        return opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def trajectory(self, id: str) -> Trajectory:
        """The trajectory with this id, or this unique prefix or suffix of one. Raises NotFound."""
        catalog = self.catalog
        return self._load(catalog, catalog.find(id))

    def _load(self, catalog: Catalog, id: str) -> Trajectory:
        records: list[AnyRecord] = []
        streams = Streams()
        seen: set[str] = set()
        for file, start, stop in catalog.places(id):
            for line in read_range(file.path, start, stop).split(b"\n"):
                if not line:
                    continue
                try:
                    found = decode(line, file.writer, file.version)
                except DAMAGE:  # `damages` tells
                    continue
                if isinstance(found, (MessageLine, IdsLine)):
                    streams.add(file.writer, found)
                elif found is not None and found.id not in seen:
                    seen.add(found.id)
                    records.append(found)
        if not records:
            raise NotFound(f"trajectory {id!r} has no readable record")
        trajectory = Trajectory(id, records, streams)
        if trajectory.end is None and "source" not in trajectory.metadata:
            alive = catalog.alive_writers()
            if any(r.writer in alive and not isinstance(r, LATE) for r in trajectory.records):
                trajectory = Trajectory(id, records, streams, live=True)
        return trajectory

    def writers(self, id: str) -> set[str]:
        """Who wrote of a trajectory, and still holds the file."""
        alive = self.catalog.alive_writers()
        return {r.writer for r in self.trajectory(id).records if r.writer in alive}

    def trajectories(self, **filters: Any) -> Iterator[Trajectory]:
        """Trajectories one at a time, oldest first; filters as in `summaries`."""
        yield from self.read(summary.id for summary in self.summaries(**filters))

    def read(self, ids: Iterable[str]) -> Iterator[Trajectory]:
        """The trajectories with these whole ids, as of when the catalog last caught up; those that can't be read are left out."""
        for id in ids:
            try:
                yield self._load(self.catalog if self._opened is None else self._opened, id)
            except NotFound:  # damage took all of its records: `damages` tells; the others are to be had
                continue

    def summaries(self, **filters: Any) -> Iterator[Summary]:
        """Summaries, oldest first, read from the catalog alone."""
        catalog = self.catalog
        where = self._where(catalog, **filters)
        count = 0
        for summary in catalog.summaries(where.clauses, where.values):
            if where.states is not None and summary.status not in where.states:
                continue
            if where.limit is not None and count >= where.limit:
                return
            count += 1
            yield summary

    def used(self, ids: list[str]) -> dict[str, Used]:
        """By trajectory: the actions, contexts and models in it, and its rewards by name; read from the catalog alone."""
        return self.catalog.used(ids)

    def _where(
        self,
        catalog: Catalog,
        *,
        ids: list[str] | tuple[str, ...] | None = None,
        group: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        tag: str | list[str] | None = None,
        status: str | list[str] | None = None,
        policy_version: str | int | None = None,
        min_reward: float | None = None,
        max_reward: float | None = None,
        time_range: str | tuple[Any, Any] | None = None,
        task_id: str | list[str] | None = None,
        text: str | None = None,
        limit: int | None = None,
    ) -> Where:
        clauses: list[str] = []
        values: list[Any] = []

        def add(clause: str, *given: Any) -> None:
            clauses.append(clause)
            values.extend(given)

        for name, one in (("group", group), ("agent", agent), ("model", model), ("text", text)):
            if not isinstance(one, str | None):
                raise InvalidInput(f"{name} is a text, not {one!r}")
        if ids is not None:
            found = [catalog.find(i) for i in _texts("ids", ids) or ()]
            add(f"id in ({','.join('?' * len(found))})", *found)
        if group is not None:
            add("grp=?", group)
        if agent is not None:
            add("agent=?", agent)
        if model is not None:
            add("coalesce(model, first_model)=?", model)
        if policy_version is not None:
            add("policy_version=?", encode(policy_version).decode())
        for one in _texts("tag", tag) or ():
            add("exists (select 1 from json_each(tags) where json_each.value=?)", one)
        for name, operator, bound in (("min_reward", ">=", min_reward), ("max_reward", "<=", max_reward)):
            if bound is not None:
                if not isinstance(bound, int | float) or bound != bound:
                    raise InvalidInput(f"{name} is a number, not {bound!r}")
                add(f"reward{operator}?", bound)
        if time_range is not None:
            low, high = _range(time_range)
            if low is not None:
                add("coalesce(started, first)>=?", low)
            if high is not None:
                add("coalesce(started, first)<?", high)
        if task_id is not None:
            add("task_id in (select value from json_each(?))", encode(_texts("task_id", task_id)).decode())
        if text is not None:
            catalog.index_text()
            add(
                "id in (select trajectory from hits where rowid in (select rowid from search where search match ?))",
                catalog.matching(text),
            )
        states: set[str] | None = None
        if status is not None:
            states = set(_texts("status", status) or ())
            wrong = states - set(_STATES)
            if wrong:
                raise InvalidInput(f"no status {sorted(wrong)[0]!r}; there are: {', '.join(_STATES)}")
        if limit is not None and not (isinstance(limit, int) and limit >= 0):
            raise InvalidInput(f"a limit is a whole number from 0, not {limit!r}")
        return Where(clauses, values, states, limit)

    def search(self, query: str, limit: int = 100) -> list[Hit]:
        """Records and messages that hold all the words of a query ("quoted" for a phrase), newest first."""
        catalog = self.catalog
        catalog.index_text()
        return list(catalog.search(query, limit))

    def damages(self) -> list[Damage]:
        """Damaged and torn lines of the journal, which is read anew: what was whole when it was catalogued may not be so now."""
        catalog = self.catalog
        found = {(d.file, d.offset): d for d in catalog.damages()}
        for file in catalog.files():
            for offset, line in complete_lines(file.path, 0):
                try:
                    if line:
                        decode(line, file.writer, file.version)
                except DAMAGE as error:
                    found.setdefault((file.name, offset), Damage(file.name, offset, str(error)))
        return sorted(found.values(), key=lambda d: (d.file, d.offset))

    def tail(self, count: int, trajectory: str | None) -> Tail:
        """The newest records, then, each time it is iterated, those written since."""
        return Tail(self._journal, count, trajectory)

    def examine(self) -> dict[str, Any]:
        """The journal's files with their writers, damage, and the state of the catalog."""
        catalog = self.catalog
        files = [
            {"file": f.name, "bytes": f.path.stat().st_size, "writer": f.writer, "alive": is_alive(f.path), "version": f.version}
            for f in catalog.files()
        ]
        return {
            "store": str(self._root),
            "trajectories": self.count(),
            "unterminated": sum(1 for _ in self.summaries(status="unterminated")),
            "files": files,
            "journal_bytes": sum(int(str(f["bytes"])) for f in files),
            "damages": [msgspec.structs.asdict(d) for d in self.damages()],
            "catalog_in_memory": catalog.in_memory,
        }

    def count(self) -> int:
        return len(self.catalog.ids("", ()))


class Tail:
    """Follows the journal: iterating gives the newest records, and each time after that those written since."""

    def __init__(self, journal: Path, count: int, trajectory: str | None) -> None:
        self._journal = journal
        self._count: int | None = count
        self._trajectory = trajectory
        self._read: dict[str, int] = {}

    def __iter__(self) -> Iterator[AnyRecord]:
        first, self._count = self._count, None
        newest: list[AnyRecord] = []
        for path in sorted(self._journal.glob("*.jsonl")):
            try:
                newest += self._new(path, first)
            except OSError:  # gone since
                continue
        newest.sort(key=lambda r: (r.time, r.writer, r.seq))
        yield from newest if first is None else newest[max(0, len(newest) - first) :]

    def _new(self, path: Path, first: int | None) -> list[AnyRecord]:
        start = self._read.get(path.name, 0)
        size = path.stat().st_size
        if first is not None and start == 0 and size > _TAIL_BYTES:  # the last records are in the last bytes
            start = _line_start(path, size - max(_TAIL_BYTES, first * 20_000))
        if size <= start:
            return []
        file = open_file(path)
        found: list[AnyRecord] = []
        for offset, line in complete_lines(path, start):
            self._read[path.name] = offset + len(line) + 1
            if not line:
                continue
            try:
                record = decode(line, file.writer, file.version)
            except DAMAGE:
                continue
            if record is None or isinstance(record, (MessageLine, IdsLine)):
                continue
            if self._trajectory is None or record.trajectory == self._trajectory:
                found.append(record)
        return found


_TAIL_BYTES = 4 << 20


def _line_start(path: Path, offset: int) -> int:
    if offset <= 0:
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        return offset + len(file.readline())


#: The names of the filters.
FILTERS: tuple[str, ...] = tuple(n for n in Reader._where.__annotations__ if n not in ("catalog", "return"))


def _texts(name: str, given: Any) -> list[str] | None:
    """A filter that is one text or several."""
    if given is None:
        return None
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in several):
        raise InvalidInput(f"{name} is a text or a list of texts, not {given!r}")
    return list(several)


def _range(given: str | tuple[Any, Any]) -> tuple[int | None, int | None]:
    """A time range as nanoseconds: "7d" (the last seven days), or (from, to) as ISO times, numbers or None."""
    if isinstance(given, str):
        return _held(time.time_ns() - parse_span(given)), None
    try:
        low, high = given
    except (TypeError, ValueError):
        raise InvalidInput(f"a time range is a length such as '7d' or a pair (from, to), not {given!r}") from None
    ends: list[int | None] = []
    for end in (low, high):
        parsed = parse_time(end)
        if end is not None and parsed is None:
            raise InvalidInput(f"{end!r} is no time; write it as 2026-01-31 or 2026-01-31T12:00:00Z")
        ends.append(_held(parsed) if parsed is not None else None)
    return ends[0], ends[1]


def _held(when: int) -> int:
    """A time as SQLite can hold it: 1677 to 2262; what lies beyond is beyond all that was recorded."""
    return max(-(2**63), min(2**63 - 1, when))
