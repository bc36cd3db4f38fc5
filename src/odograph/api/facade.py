"""The `Store` that users hold: records, reads, imports, validates and exports, each by the floor that knows how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import msgspec

from ..capture.faults import Health, health
from ..capture.recorder import Recorder
from ..capture.run import Run, start
from ..errors import InvalidInput
from ..handmade import records_from_dict
from ..redact import Redact
from ..store import opening, writing
from ..store.backend import Backend, Place
from ..store.filters import FilterArgs, Filters
from ..trajectory import Trajectory
from ..types import AnyRecord, Fork

if TYPE_CHECKING:  # imported where they are used: who only records waits for none of these
    from daft import DataFrame

    from .. import importers as importing
    from ..bulk import Progress
    from ..clusters import Runner
    from ..groups import GroupBy, Groups
    from ..importers.importing import ImportReport
    from ..quality import Report
    from ..quality.define import Check, Profile
    from ..rewards.scoring import Scorer, ScoreReport
    from ..statistics import By, Stats
    from ..statistics.compared import Compared
    from ..statistics.comparison import PartsBy
    from ..statistics.labelled import LabelsBy
    from ..store.compacting import Compaction
    from ..store.lines import Damage
    from ..store.publishing import Publication
    from ..store.query import Frame, Rows
    from ..store.reader import Reader
    from ..store.sealing import Sealing
    from ..store.summary import Hit, Summary, Used
    from ..store.tailing import Tail
    from ..training.dry_run import GroupPlan
    from ..training.formats import Files
    from ..training.keywords import ExportArgs
    from ..worlds import WorldRuntime, events


def reopened(place: Place) -> Store:
    """The store of a place."""
    return Store(opening.reopened(place))


class Store:
    """A store of trajectories: a folder, or `memory:`. Use `odograph.open`."""

    def __init__(self, backend: Backend) -> None:
        #: The store below this facade: its sink, its reader, and what reopens it elsewhere.
        self.backend: Backend = backend
        self._worlds: WorldRuntime | None = None

    def __repr__(self) -> str:
        return f"<odograph store {self.backend}>"

    def __reduce__(self) -> tuple[Callable[[Place], Store], tuple[Place]]:
        """Pickled for another process, it is the same store there, with its redaction and durability."""
        return reopened, (self.backend.place,)

    @property
    def root(self) -> Path:
        """The store's folder, for people and their tools. Code inside Odograph uses `backend`."""
        return self.backend.folder

    @property
    def _reader(self) -> Reader:
        return self.backend.reader

    # --- recording ----------------------------------------------------------------------------------------------------

    def record(
        self,
        task: Any = None,
        *,
        agent: str | None = None,
        agent_version: str | None = None,
        model: str | None = None,
        group: str | None = None,
        policy_version: str | int | None = None,
        seed: int | None = None,
        tags: list[str] | tuple[str, ...] = (),
        metadata: dict[str, Any] | None = None,
        fork: Fork | None = None,
    ) -> Run:
        """Begins a trajectory: `with store.record(task=...) as run: with run.step(observation) as step: ...`. Returns the
        `Run`.
        """
        about: dict[str, Any] = {"agent": agent, "agent_version": agent_version, "model": model, "group": group}
        about |= {"policy_version": policy_version, "seed": seed}
        return start(self.backend.sink, task, tags=tags, metadata=metadata, fork=fork, **about)

    def append(self, id: str) -> Run:
        """Reopens a trajectory, in any state, to add rewards, labels, edits and notes. Reads none of the trajectory's records.

        Raises NotFound, StoreError.
        """
        whole, facts = self._reader.facts(id)
        recorder = Recorder(self.backend.sink, whole, facts.agent, after=facts.last, begun=True)
        return Run(recorder, facts.root, ends=False)

    def add(self, what: dict[str, Any] | Trajectory | Iterable[AnyRecord]) -> str:
        """Adds a whole trajectory that was made elsewhere, and returns its id.

        `what` is a dict in the shape of `t.to_dict()` (fields may be left out), a `Trajectory`, or records. Records that the
        store has are not added again. A record that differs from the stored record of the same id is added as a correction.
        Raises InvalidInput with the path of the part that can't be read.
        """
        if isinstance(what, dict):
            records: Iterable[AnyRecord] = records_from_dict(what)
        elif isinstance(what, Trajectory):
            records = what.complete_records(growing=True)
        elif isinstance(what, Iterable) and not isinstance(what, str | bytes):
            records = what
        else:
            raise InvalidInput(f"a trajectory is a dict, a Trajectory or records, not {type(what).__name__}")
        return writing.add(self.backend.sink, self._reader, list(records))[0]

    def import_sessions(
        self,
        *paths: str | Path,
        format: str = "auto",
        importers: Iterable[str | importing.Importer] = (),
        progress: Callable[[Path, int, int], None] | None = None,
        skip_empty: bool = False,
    ) -> ImportReport:
        """Imports sessions that other tools recorded: files, or folders with files, recognised by their content.

        Importing again adds nothing. A session that has grown is continued. The report names each file that can't be read; such
        a file costs no other file. `importers`: importers (a file, `package:object` or name) that are asked before all others
        whether a file is of their format. `progress(path, done, total)` is called before each file. `skip_empty`: a named file in
        which no session has begun is no failure either. Raises NotFound.
        """
        from ..importers.importing import import_files

        more: dict[str, Any] = {"format": format, "importers": importers, "progress": progress, "skip_empty": skip_empty}
        return import_files(self.backend, paths, **more)

    # --- reading ------------------------------------------------------------------------------------------------------

    def trajectory(self, id: str) -> Trajectory:
        """Returns the trajectory with this id, or with this unique prefix or suffix of an id. Raises NotFound."""
        return self._reader.trajectory(id)

    def trajectories(self, **filters: Unpack[FilterArgs]) -> Iterator[Trajectory]:
        """Yields the trajectories for which all filters hold, one at a time, oldest first; see `odograph.FilterArgs`.

        Raises TypeError for an unknown filter, InvalidInput for a wrong value, NotFound for an unknown id.
        """
        return self._reader.trajectories(Filters.of(filters))

    def summaries(self, *, newest_first: bool = False, **filters: Unpack[FilterArgs]) -> Iterator[Summary]:
        """Yields a short summary of each trajectory without reading the trajectory, oldest first unless `newest_first`.

        Filters as for `trajectories`. With `newest_first`, a `limit` chooses the newest.
        """
        return self._reader.summaries(Filters.of(filters), newest_first=newest_first)

    def count(self, **filters: Unpack[FilterArgs]) -> int:
        """Counts the trajectories that the filters choose, without reading them. Filters as for `trajectories`."""
        return self._reader.count(Filters.of(filters))

    def search(self, query: str, limit: int = 100, *, progress: Callable[[int, int], None] | None = None) -> list[Hit]:
        """Finds records and messages with all the words of a query ("quoted" for a phrase), newest first.

        The first search indexes the text of the journal; `progress(done, total)` counts these bytes.
        """
        return self._reader.search(query, limit, progress)

    def tail(self, count: int = 20, trajectory: str | None = None) -> Tail:
        """Returns the newest records, of all trajectories or of one. Iterating again gives the records written since."""
        return self._reader.tail(count, trajectory)

    def is_written_elsewhere(self, id: str) -> bool:
        """Whether another process, or another open store, may still write to a trajectory."""
        return bool(self._reader.writers(id) - {self.backend.journal.writer})

    def examine(self, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Facts for `odograph doctor`: files, sizes, writers, damage. `progress(done, total)` counts bytes of the journal."""
        return self._reader.examine(progress)

    def damages(self) -> list[Damage]:
        """Lists the journal lines that can't be read. A damaged line costs only itself."""
        return self._reader.damages()

    def __len__(self) -> int:
        return self._reader.count()

    def __bool__(self) -> bool:  # a store in which nothing is yet is a store
        return True

    def health(self) -> Health:
        """Reports on recording in this process; see `odograph.Health`."""
        return health(self.backend.journal, self.backend.health())

    def flush(self) -> None:
        """Waits until all records of this process are on the disk. For a served store, the disk is the server's.

        Raises StoreError if the server can't be reached or refuses the records. The records stay on this machine, and are sent
        later.
        """
        self.backend.flush()

    # --- sealing ------------------------------------------------------------------------------------------------------

    def seal(self, progress: Callable[[int, int], None] | None = None) -> Sealing:
        """Moves the records of the journal into the sealed tier: Parquet files, far smaller than the journal, which SQL reads.

        Reads give the same answers before, during and after a seal. Records that are written during a seal, or later, stay in
        the journal until the next seal. Several processes seal one after the other.
        `progress(done, total)` counts bytes. Raises MissingExtra without the extra `lake`, StoreError.
        """
        found = self.backend.seal(progress)
        assert found is not None
        return found

    def compact(self, grace: float = 3600.0) -> Compaction:
        """Merges small files of the sealed tier, and joins the parts of a trajectory that several seals wrote.

        The first `compact` after `grace` seconds deletes the merged files, as other processes may still read them.
        Raises MissingExtra without the extra `lake`, StoreError.
        """
        return self.backend.compact(grace)

    def publish(
        self,
        where: str,
        *,
        catalog: str | dict[str, str] | None = None,
        namespace: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Publication:
        """Seals this folder's store, and copies the sealed records and the worlds to tables that machines share, such as
        "s3://bucket/runs".

        `catalog` and `namespace` as for `odograph.open`. A second call copies only new records; after an interruption, the next
        call continues. The folder does not change. `progress(done, total)` counts bytes. Raises StoreError, InvalidInput,
        MissingExtra without the extra `iceberg`.
        """
        tables = opening.tables_of(where, catalog, namespace)
        found = self.backend.publish(tables, progress)
        from ..worlds.publishing import publish

        worlds, left = publish(self.backend.here, Place(str(self.backend.beside("publishing")), tables=tables))
        return msgspec.structs.replace(found, worlds=worlds, left=left)

    def sql(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> Rows:
        """Runs a SELECT with DuckDB over both tiers: the tables are `trajectories`, `facts`, `records` and `messages`.

        `parameters`: values for `?`, or by name for `$name`. Iterating the answer gives a dict for each row; `.list()`,
        `.arrow()` and `.pandas()` give all rows. `timeout`: the seconds that the query may take. A query reads no other files
        and writes nothing. Raises InvalidInput for a mistake in the query, MissingExtra without the extra `lake`, StoreError.
        """
        from ..store.query import sql

        return sql(self._reader, query, parameters, timeout)

    def frame(self, table: Frame) -> DataFrame:
        """A table (`trajectories`, `facts` or `records`) as a Daft DataFrame, over both tiers. Raises InvalidInput, MissingExtra
        without the extra `worlds`, StoreError."""
        from ..store.query import frame

        return frame(self._reader, table)

    def repair(self) -> dict[str, int]:
        """Repairs a damaged sealed tier and a damaged catalog, as far as possible.

        A lost or damaged list of the sealed files is rebuilt from the files; the old list is kept beside the new one. A damaged
        file is replaced by a new file with the records that can still be read, here or in other files, in shared tables too. The
        catalog is deleted, and the next read rebuilds the catalog.

        Returns the number of commits and files that were found, of files that belong to no complete seal and were left out, and
        of damaged files that were replaced (`mended`).
        """
        from ..worlds.layout import table_in

        return self.backend.repair(table_in)

    # --- handing on ---------------------------------------------------------------------------------------------------

    def export(
        self,
        out: str | Path,
        to: str = "hf",
        *,
        format: Files | None = None,
        splits: dict[str, float] | None = None,
        seed: int = 0,
        options: dict[str, Any] | None = None,
        groups: Groups | None = None,
        progress: Callable[[int], None] | None = None,
        max_shard_size: int | None = None,
        max_shard_rows: int | None = None,
        redact: Redact | None = None,
        runner: Runner | None = None,
        **filters_and_options: Unpack[ExportArgs],
    ) -> dict[str, Any]:
        """Writes trajectories to a folder in the format of a trainer or another tool (hf, openai, atif, jsonl, parquet, ...).

        Keywords are the filters of `trajectories`, the format's own options and, for formats of samples, the options of
        `odograph.samples` (edits, advantage, ...). `options` takes options that share a name with a filter (agent, model).

        `groups`: groups of `store.groups(...)`, which took the filters, in place of the recorded groups. Trajectories in no
        group are left out, and the manifest counts them and their groups. `redact` removes secrets, as in `odograph.open`.
        `max_shard_size` (bytes before compression) and `max_shard_rows` bound one Parquet file. `runner="ray"`: the actors of a
        Ray cluster read and decode the trajectories, as for `score`; this process writes the rows.

        Returns the manifest, which is also in the folder. `odograph.Dataset(out).upload(repo)` uploads the folder to the Hub.
        Raises NotFound for an unknown format, InvalidInput, MissingExtra, TypeError for an unknown keyword.
        """
        from ..training.stored import export_store

        how: dict[str, Any] = {"format": format, "splits": splits, "seed": seed, "redact": redact, "progress": progress}
        how |= {"max_shard_size": max_shard_size, "max_shard_rows": max_shard_rows}
        more: dict[str, Any] = {"options": options, "groups": groups, "runner": runner}
        return export_store(self.backend, out, to, filters_and_options, **more, **how)

    def dry_run(
        self, to: str = "art", *, options: dict[str, Any] | None = None, **filters: Unpack[FilterArgs]
    ) -> Iterator[GroupPlan]:
        """Yields for each group whether the group would train with a format of tokens, and why not. Writes nothing.

        `options` and filters as for `export`. Raises NotFound, InvalidInput.
        """
        from ..training.stored import dry_run_store

        return dry_run_store(self.backend, to, Filters.of(filters), options)

    def groups(
        self,
        by: GroupBy | Callable[[Summary], str | None] = "group",
        *,
        window: str | None = None,
        min_size: int = 2,
        **filters: Unpack[FilterArgs],
    ) -> Groups:
        """Returns the groups of trajectories to compare, for `odograph.samples(groups, ...)` and `export(groups=)`.

        `by`: the recorded `group` (default), the `task`, the `scenario` (of the metadata, else the group), or a function of a
        `Summary`. `window`: a group has only trajectories that started in the same window of this length ("1h", "1d", counted
        from midnight UTC). `min_size`: smaller groups are `too_small`. Replays are in no group, and neither are trajectories that
        are still being recorded, unless `status` asks for them. Filters as for `trajectories`. Raises InvalidInput.
        """
        from ..groups import groups_in

        return groups_in(self._reader, filters, by=by, window=window, min_size=min_size)

    def score(
        self,
        fn: Scorer,
        *,
        version: str | None = None,
        again: bool = False,
        concurrency: int | None = None,
        processes: int = 1,
        runner: Runner | None = None,
        progress: Progress = None,
        **filters: Unpack[FilterArgs],
    ) -> ScoreReport:
        """Appends a function's rewards to the trajectories that have no reward by this version of the function.

        Filters as for `trajectories`. A second run adds only rewards of new trajectories, and rewards that were unknown before.
        Trajectories that are still being recorded are left for later, unless `status` asks for them.

        `fn`: the result of `@odograph.reward`, a plain function, `file.py:function`, `package:function`, or a name of
        `odograph.rewards`. `version`: declares the version; a new version's rewards supersede the old version's. `again`: also
        scores trajectories that have a reward, for functions that read changing data; equal values are not written.
        `concurrency`: trajectories at once, as tasks if the function is async (default: 16), else as threads (default: 1).
        `processes`: number of processes, for functions that compute; each process must be able to import the function.
        `runner="ray"`: the actors of a Ray cluster evaluate instead (extra `ray`). All machines must see the store's folder under
        the same path, or share its sealed tier. Functions of groups run in this process.
        `progress`: `progress(done, total)`, or whether to show a bar (on a terminal).

        A function that fails on a trajectory costs only that trajectory; see the report. Raises InvalidInput, NotFound,
        StoreError.
        """
        from ..rewards.scoring import score  # it needs asyncio, which who records does not

        options: dict[str, Any] = {"version": version, "again": again, "concurrency": concurrency, "processes": processes}
        options["runner"] = runner
        return score(self.backend, fn, Filters.of(filters), progress=progress, **options)

    def validate(
        self,
        *,
        profile: Profile = "all",
        ignore: Iterable[str] = (),
        tokenizer: Any = None,
        checks: Iterable[str | ModuleType | Check] = (),
        workers: int | None = None,
        runner: Runner | None = None,
        progress: Callable[[int], None] | None = None,
        **filters: Unpack[FilterArgs],
    ) -> Report:
        """Runs the data-quality checks over trajectories and, without filters, over damaged lines.

        Filters as for `trajectories`. `checks`: additional checks, by file, `package:object` or entry point, or as modules or
        checks. `workers`: number of processes (default: one for fewer than 500 trajectories, else one per core, at most 8).
        `runner="ray"`: the actors of a Ray cluster check instead, as for `score`; then tokenizer and checks are given by name.
        `progress(n)` is called with the number of checked trajectories. At most 10,000 findings per code are kept; `counts` has
        the true numbers. Raises InvalidInput, NotFound, StoreError.
        """
        from ..quality.stored import validate_store

        more: dict[str, Any] = {"workers": workers, "runner": runner, "progress": progress}
        return validate_store(self.backend, Filters.of(filters), profile, ignore, tokenizer, checks, **more)

    def used(self, ids: list[str]) -> dict[str, Used]:
        """Returns for each id the names of actions, contexts and models, and the values of rewards, without reading the
        trajectory.
        """
        return self._reader.used(ids)

    def stats(
        self, by: By | None = None, *, confidence: float = 0.95, success: float | None = None, **filters: Unpack[FilterArgs]
    ) -> Stats:
        """Computes the distributions of rewards, over time, by component and by what was done: `odograph.stats` of this store."""
        from ..statistics import stats

        return stats(self, by, confidence=confidence, success=success, **filters)

    def compare(
        self,
        a: str,
        b: str,
        *,
        by: PartsBy | LabelsBy | Literal["world"] = "model",
        confidence: float = 0.95,
        seed: int = 0,
        technique: str | None = None,
        rubric: str | None = None,
        judge: str | None = None,
        namespace: str = "default",
        **filters: Unpack[FilterArgs],
    ) -> Compared:
        """Compares two parts of the store: differences with intervals and tests.

        `by`: model, agent, policy_version, group or tag compare trajectories, task by task. rubric (beginnings of two versions,
        or `previous`), judge (two authors; `people` are all people together) and technique compare labels of the same
        trajectories. world compares two worlds of a `namespace`, such as a world and its fork. `technique`, `rubric` and `judge`
        narrow labels down.

        Raises InvalidInput, MissingExtra (extra `worlds`).
        """
        from .comparing import compare

        narrow: dict[str, Any] = {"technique": technique, "rubric": rubric, "judge": judge, "namespace": namespace}
        return compare(self, self.backend.here, a, b, by, filters, confidence=confidence, seed=seed, **narrow)

    # --- worlds -------------------------------------------------------------------------------------------------------

    def world(
        self,
        name: str,
        *,
        namespace: str = "default",
        processors: Iterable[Any] = (),
        resources: Iterable[Any] = (),
        hooks: Iterable[tuple[type[events.Event], events.Hook]] = (),
        fresh: bool = False,
    ) -> Any:
        """Returns the world of this name in the store, to label and compare trajectories; see `odograph.worlds`. A missing
        world is created.

        `world.spawn_from(store.trajectories(...), labels=[(technique, description)])` fills the world. Async code gets a
        `World`, whose methods are awaited; other code a `SyncWorld`, whose methods return when done. Raises MissingExtra.
        """
        from ..worlds import StorageConfig, WorldRuntime
        from ..worlds.runtime import opened

        if self._worlds is None:
            self._worlds = WorldRuntime(redactor=lambda: self.backend.sink.redactor)
        storage = StorageConfig(self.backend.here, namespace)
        return opened(self._worlds, name, storage, processors, resources, hooks, fresh=fresh)

    def close(self) -> None:
        """Syncs everything to the disk and closes the files. A closed store opens its files again when used."""
        if self._worlds is not None:
            self._worlds.close()
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
