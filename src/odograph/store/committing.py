"""The files of one commit of the sealed tier: rows of `records` in row groups, facts, summaries; and what refuses a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..codec import encode, new_id
from ..tables.commits import Conflict
from ..tables.files import Footer, Writer
from ..tables.schema import Table, arrow
from ..totals import by_name
from .indexing import as_rewards
from .lake import Lake, Part
from .layout import FACTS, RECORDS, TABLES, TRAJECTORIES
from .rows import alone, unpacked_rewards

_GROUP = 1 << 18  # compressed bytes of a row group of `records`: a trajectory costs the reading of its row group
_ROWS = 1 << 14  # rows of a row group of `records` at most: small ones, as late rewards are, compress to little
_FACT_ROWS = 1 << 17
_SUMMARY_ROWS = 1 << 16
_SMALL = 1 << 20  # bytes of a journal below which describing the files takes more than what they say of the rows
_SOME = 1 << 12  # rows that are Python objects at once: as columns of Arrow they take a tenth
#: What the column `rewards` of a summary leaves out.
REPEATED = ("root", "writer", "reward", "end_time")
_UNREWARDED = {"reward_names": None, "reward_values": None}


def stage(name: str) -> None:
    """Called at each stage: tests put in its place what stops the process there."""


class Output:
    """The files of one commit: rows of `records`, by trajectory, with what is where; facts; summaries."""

    def __init__(self, lake: Lake, size: int | None = None) -> None:
        """`size`: the bytes of what the files are made of, where it is known."""
        self.id = new_id()
        self._small = size is not None and size < _SMALL
        self._lake = lake
        #: The last commit that this one takes into account.
        self.base: int = lake.commits.last(TRAJECTORIES.name)
        self._complete = False
        self._writers: dict[str, Writer] = {}
        try:
            for name, table in TABLES.items():
                self._writers[name] = self._writer(table)
        except BaseException:
            self.abandon()
            raise
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._most = 4 * _GROUP  # bytes before compression, until it is known how well they compress
        self._written = 0
        self._group = 0
        self._facts: list[dict[str, Any]] = []
        self._rest: Any = None
        self._summaries: list[dict[str, Any]] = []
        self._gathered: list[Any] = []
        #: Where the rows of each trajectory are.
        self.parts: dict[str, list[Part]] = {}

    def _writer(self, table: Table) -> Writer:
        return Writer(self._lake.root, self._path(table), table, Footer(self.id), small=self._small)

    def _path(self, table: Table) -> str:
        return f"{table.name}/{self.id}.parquet"

    def rows(self, trajectory: str, rows: Iterable[dict[str, Any]]) -> None:
        """All rows of one trajectory."""
        start = len(self._rows)
        for row in rows:
            self._rows.append(row)
            self._bytes += len(row["body"] or "") + 4 * len(row["ids"] or ()) + 4 * len(row["logprobs"] or ()) + 64
            if self._bytes > 2 * self._most or len(self._rows) >= _ROWS:  # a trajectory may fill more than one row group
                self._place(trajectory, start)
                self._flush()
                start = 0
        self._place(trajectory, start)
        if self._bytes > self._most:
            self._flush()

    def _place(self, trajectory: str, start: int) -> None:
        if len(self._rows) > start:
            self.parts.setdefault(trajectory, []).append(Part(self._path(RECORDS), self._group, start, len(self._rows) - start))

    def _flush(self) -> None:
        if not self._rows:
            return
        writer = self._writers[RECORDS.name]
        writer.write(_columns(RECORDS, self._rows))
        size = writer.size
        if size > self._written:  # what compression gave so far, for the next
            ratio = self._bytes / max(1, size - self._written)
            self._most = int(min(max(ratio, 1.0), 40.0) * _GROUP)
            self._written = size
        self._group += 1
        self._rows, self._bytes = [], 0

    def fact(self, row: dict[str, Any]) -> None:
        self._facts.append(row)
        if len(self._facts) >= _SOME:
            self._gather_facts()

    def facts(self, rows: Any) -> None:
        """Facts as an Arrow table, of any size: row groups of a few rows would make each scan slow."""
        whole = rows if self._rest is None else arrow().concat_tables([self._rest, rows])
        while whole.num_rows > _FACT_ROWS:
            self._write_facts(whole.slice(0, _FACT_ROWS))
            whole = whole.slice(_FACT_ROWS)
        self._rest = whole

    def _gather_facts(self) -> None:
        self.facts(_columns(FACTS, self._facts))
        self._facts = []

    def _flush_facts(self) -> None:
        self._gather_facts()
        self._write_facts(self._rest)
        self._rest = None

    def _write_facts(self, rows: Any) -> None:
        """A row group, by kind: most columns are null but for one kind, and nulls that stand together are read faster."""
        self._writers[FACTS.name].write(rows.sort_by("kind"))

    def summary(self, row: dict[str, Any]) -> None:
        again = {name: None for name, usual in (("first", "start_time"), ("last", "end_time")) if row[name] == row[usual]}
        self._summaries.append({**row, **again, **_rewards_by_name(row)})
        if len(self._summaries) >= _SOME:
            self._gather_summaries()
            if len(self._gathered) * _SOME >= _SUMMARY_ROWS:
                self._flush_summaries()

    def _gather_summaries(self) -> None:
        self._gathered.append(_columns(TRAJECTORIES, self._summaries))
        self._summaries = []

    def _flush_summaries(self) -> None:
        self._gather_summaries()
        self._writers[TRAJECTORIES.name].write(arrow().concat_tables(self._gathered))
        self._gathered = []

    def finish(self) -> None:
        """All rows of records are given."""
        self._flush()

    def commit(
        self,
        properties: dict[str, Any],
        keys: dict[str, str | None] | None = None,
        expect: dict[str, str | None] | None = None,
        replaces: Iterable[str] = (),
    ) -> int:
        """Puts the files in their places and commits them; returns their bytes. Each file says what belongs to the commit: where
        one is lost, the others tell."""
        self._flush_facts()
        self._flush_summaries()
        if keys:
            properties |= {"keys": keys, "expect": expect or {}}
        properties |= {"base": self.base}
        replaces = tuple(replaces)
        names = tuple(self._path(table) for table in TABLES.values())
        files = []
        self._complete = True
        for name in (RECORDS.name, FACTS.name, TRAJECTORIES.name):
            files.append(self._writers[name].close(Footer(self.id, names, replaces, properties)))
            stage(name)
        check = unchanged(self._lake, self.base, replaces, partial(ids_in, self._lake, names))
        self._lake.commits.commit(self.id, files, replaces, properties=properties, keys=keys, expect=expect, check=check)
        self._lake.commits.settle()
        stage("commit")
        return sum(file.bytes for file in files)

    def failed(self, error: BaseException) -> None:
        """Leaves nothing behind, unless the commit may be half made: then the next seal or compaction makes it whole."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return
        if not self._complete or isinstance(error, Conflict) or self._lake.commits.untouched(self.id):
            self.abandon()

    def abandon(self) -> None:
        """Leaves nothing behind."""
        for name, writer in self._writers.items():
            writer.abandon()
            (self._lake.root / self._path(TABLES[name])).unlink(missing_ok=True)


def _columns(table: Table, rows: list[dict[str, Any]]) -> Any:
    pa = arrow()
    schema = table.arrow
    return pa.Table.from_arrays([pa.array([row[f.name] for row in rows], f.type) for f in schema], schema=schema)


def _rewards_by_name(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a summary that say its rewards by their names."""
    if (name := alone(row["rewards"], row["reward"])) is not None:
        return {"reward_names": encode([name]).decode(), "reward_values": None}
    rewards = unpacked_rewards(row["rewards"], *(row[name] for name in REPEATED))
    values = by_name(as_rewards(rewards, row["agent"]))
    return {"reward_names": encode([*values]).decode(), "reward_values": [*values.values()]} if values else _UNREWARDED


def ids_in(lake: Lake, names: Iterable[str]) -> set[str]:
    """The trajectories of which files of a commit hold the summaries."""
    name = next(name for name in names if name.startswith(f"{TRAJECTORIES.name}/"))
    return {id for batch in lake.batches(name, TRAJECTORIES, ["id"]) for id in batch.column("id").to_pylist()}


def unchanged(lake: Lake, base: int, replaces: Iterable[str], ids: Callable[[], set[str]]) -> Callable[[], None]:
    """Refuses a commit that others made wrong after commit `base`: another machine sealed more of a trajectory of the commit, or
    of one in a file that the commit takes out. `ids`: the trajectories of the commit."""
    gone = set(replaces)

    def check() -> None:
        newer = lake.files(TRAJECTORIES.name, base)
        mine = ids() if newer and not gone else set()
        for path in newer:
            for batch in lake.batches(path, TRAJECTORIES, ["id", "files"]):
                for row in batch.to_pylist():
                    if row["id"] in mine or not gone.isdisjoint(row["files"]):
                        raise Conflict(f"another machine sealed more of trajectory {row['id']!r} meanwhile")

    return check
