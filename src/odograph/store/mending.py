"""What is damaged in the sealed tier, made anew from what is whole there: `records` say what the other tables say.

What is lost is only what stood in a damaged row group of `records`. Readers go on without it; a mended tier says it for good.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..codec import DAMAGE
from ..tables.files import DamagedFile
from ..tables.schema import arrow
from ..tables.values import rows_of
from ..types import AnyRecord
from .committing import Output
from .indexing import Batch
from .lake import FOLDER, Lake, Part
from .layout import FACTS, RECORDS, TABLES, TRAJECTORIES, fact_of
from .lines import Damage, File, decode
from .rows import create
from .sealing import parts_of, summary_row


def summaries(lake: Lake, paths: Iterable[str]) -> Iterator[Any]:
    """The rows of live files of `trajectories`, some thousand at once, as Arrow tables; those that a damaged file held are made
    anew. Raises Gone where a compaction took a file out."""
    lost: list[DamagedFile] = []
    yield from lake.summaries_in(paths, lost.append)
    if lost:
        for error in lost:
            lake.left_out(error, anew=True)
        _, rows = _surveyed(lake)
        if rows:
            yield arrow().Table.from_pylist(rows, schema=TRAJECTORIES.arrow)


def facts(lake: Lake, paths: Iterable[str]) -> Iterator[Any]:
    """The rows of damaged files of `facts`, as Arrow tables: made anew, or what can be read where `records` do not tell."""
    found, _ = _surveyed(lake)
    for path in paths:
        parts = found.beside(path)
        if not parts or f"{RECORDS.name}/{Path(path).name}" in lake.damaged(RECORDS):
            yield from lake.batches(path, FACTS, damaged=lake.left_out)
            continue
        for _ in lake.batches(path, FACTS, damaged=partial(lake.left_out, anew=True)):
            pass
        rows = [row for id, of in parts for row in _facts(lake, of, found.about.get(id, (None, None)))]
        yield arrow().Table.from_pylist(rows, schema=FACTS.arrow)


def _surveyed(lake: Lake) -> tuple[_Survey, list[dict[str, Any]]]:
    """Where all rows are, and the summaries that no file tells, made of the rows."""
    found = _Survey(lake)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        create(db)
        return found, [*found.folded(db, found.unsaid())]


def mend(lake: Lake, damages: Iterable[Damage]) -> int:
    """Takes damaged files out of the tier, with what can be read of them, and what can be made anew, in new ones; returns how
    many. The caller holds the store's lock "seal", and the list of the files is sound. Raises StoreError."""
    begin = f"{FOLDER}/" if lake.shared is None else ""
    live = {begin + path: path for table in TABLES for path in lake.files(table)}
    gone = {path for damage in damages if (path := live.get(damage.file)) is not None}
    if not gone:
        return 0
    output = Output(lake)
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            create(db)
            outdated = _mend(lake, db, gone, output)
            lost: list[list[Any]] = [
                [damage.file, damage.offset, damage.reason, False] for damage in damages if live.get(damage.file) in gone
            ]
            lost = [one for one in lost if one[0].startswith(f"{begin}{RECORDS.name}/")]
            output.commit({"damages": lost} if lost else {}, replaces=sorted(gone | outdated))
    except BaseException as error:
        output.failed(error)
        raise
    lake.close()  # what was read of the files is not what they hold now
    return len(gone)


def _mend(lake: Lake, db: sqlite3.Connection, gone: set[str], output: Output) -> set[str]:
    """Gives the files of `trajectories` that named a lost place, and go too: what else they hold is in the new one."""
    found = _Survey(lake, gone)
    again = {*found.unsaid(), *found.cut}
    for id, parts in sorted(found.parts.items()):
        moved = [part for part in parts if part.path in gone]
        if moved:
            output.rows(id, lake.rows(moved))
            found.parts[id] = [*(part for part in parts if part.path not in gone), *output.parts.get(id, ())]
    output.finish()
    kept = [(row for row in _rows(lake, path) if row["id"] not in again) for path in sorted(found.outdated)]
    for row in heapq.merge(found.folded(db, sorted(again)), *kept, key=itemgetter("id")):  # in the order of ids, as a seal does
        output.summary(row)
    for path in sorted(gone):
        if path.startswith(f"{FACTS.name}/"):
            for id, parts in found.beside(path):
                for row in _facts(lake, parts, found.about.get(id, (None, None))):
                    output.fact(row)
    return found.outdated


def _rows(lake: Lake, path: str, damaged: Callable[[DamagedFile], None] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file of `trajectories`. `damaged`: see `Lake.batches`."""
    return (row for rows in lake.summaries_in([path], damaged) for row in rows_of(rows))


def _facts(lake: Lake, parts: list[Part], about: tuple[Any, Any]) -> Iterator[dict[str, Any]]:
    """The facts of these rows of a trajectory."""
    records: list[AnyRecord] = []
    for writer, version, line in lake.raw(parts):
        try:
            one = decode(line, writer, version)
        except DAMAGE:
            continue
        if isinstance(one, AnyRecord):
            records.append(one)
    replaced = {record.supersedes for record in records if record.supersedes}
    for record in records:
        yield {**fact_of(record, *about), "replaced": record.id in replaced}


class _Survey:
    """Where the rows of each trajectory are, as `records` say it, and what `trajectories` say of them."""

    def __init__(self, lake: Lake, gone: Collection[str] = ()) -> None:
        """`gone`: files that are taken out, whatever can be read of them."""
        self._lake = lake
        self.parts: dict[str, list[Part]] = {}
        for path in lake.files(RECORDS.name):
            for group, ids in self._groups(path):
                start = 0
                for id, run in groupby(ids):
                    count = len(list(run))
                    self.parts.setdefault(id, []).append(Part(path, group, start, count))
                    start += count
        #: As it was found.
        self.before: dict[str, list[Part]] = dict(self.parts)
        self._said: dict[str, tuple[int, frozenset[Part]]] = {}
        #: The group and the agent of each trajectory.
        self.about: dict[str, tuple[Any, Any]] = {}
        #: The trajectories whose summaries name a file of `gone`, and the files of these summaries.
        self.cut: set[str] = set()
        self.outdated: set[str] = set()
        for path in lake.files(TRAJECTORIES.name):
            if path in gone:
                continue
            for row in _rows(lake, path, lambda error: None):
                id = row["id"]
                if any(file in gone for file in row["files"]):
                    self.cut.add(id)
                    self.outdated.add(path)
                if row["revision"] >= self._said.get(id, (0, frozenset()))[0]:
                    self._said[id] = row["revision"], frozenset(parts_of(row))
                    self.about[id] = row["group_name"], row["agent"]

    def _groups(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """Of each row group of a file that can be read as a whole, the trajectories of its rows."""
        try:
            file = self._lake.open(path, RECORDS)
        except DamagedFile:
            return
        with file:
            for group in range(file.groups):
                with suppress(DamagedFile):
                    yield group, file.read(groups=[group]).column("trajectory").to_pylist()

    def beside(self, path: str) -> list[tuple[str, list[Part]]]:
        """The trajectories with rows in the file of `records` that was written with a file of `facts`, and these rows."""
        mine = (
            (id, [part for part in parts if Path(part.path).name == Path(path).name]) for id, parts in sorted(self.before.items())
        )
        return [(id, parts) for id, parts in mine if parts]

    def unsaid(self) -> list[str]:
        """The trajectories with rows of which no summary tells."""
        nothing = (0, frozenset[Part]())
        return sorted(id for id, parts in self.parts.items() if not self._said.get(id, nothing)[1].issuperset(parts))

    def folded(self, db: sqlite3.Connection, ids: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The summaries of trajectories, made of their rows; none of one that has no rows any more."""
        for id in (id for id in ids if id and self.parts.get(id)):
            lines: list[bytes] = []
            # from where they were found: the file that they were moved to is not whole yet
            for (writer, version), run in groupby(self._lake.raw(self.before[id], whole=False), key=lambda one: one[:2]):
                more = [line for _, _, line in run]
                lines += more
                Batch(db, File(Path(f"{writer}.jsonl"), writer, version), lambda _: lines).refold(id, more)  # noqa: B023
            row = summary_row(db, id, self._said.get(id, (0,))[0], self.parts[id])
            self.about[id] = row["group_name"], row["agent"]
            yield row
