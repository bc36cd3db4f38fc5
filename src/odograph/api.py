"""The `Store` that users hold: records, reads, imports, validates and exports, each by the floor that knows how."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from .capture import scope
from .capture.faults import faults
from .capture.recorder import Recorder
from .capture.run import LoneCall, Run, start
from .capture.scope import Scope
from .errors import InvalidInput, check_count, did_you_mean
from .handmade import records_from_dict
from .redact import Redact
from .store import backend, writing
from .store.backend import Backend, Place
from .store.catalog import Hit, Summary, Used
from .store.filters import FILTERS, FilterArgs, Filters, given
from .store.journal import Durability, Journal
from .store.lines import Damage
from .store.reader import Reader, Tail
from .trajectory import Trajectory
from .types import AnyRecord, Fork

if TYPE_CHECKING:  # imported where they are used: who only records waits for none of these
    from . import importers as importing
    from .bulk import Progress
    from .groups import Groups
    from .importers.importing import ImportReport
    from .quality import Report
    from .rewards.scoring import ScoreReport
    from .statistics import Stats
    from .statistics.comparison import Compared
    from .training.dry_run import GroupPlan
    from .training.keywords import ExportArgs
    from .worlds import WorldRuntime

_MOST_FINDINGS = 10_000
_FEW = 500  # trajectories that are checked sooner than processes are started


class Store:
    """A store of trajectories: a folder, or `memory:`. Use `odograph.open`."""

    def __init__(self, backend: Backend) -> None:
        #: The store below this facade: its sink, its reader, and what reopens it elsewhere.
        self.backend: Backend = backend
        self._journal: Journal = backend.journal
        self._reader: Reader = backend.reader
        self._worlds: WorldRuntime | None = None

    def __repr__(self) -> str:
        return f"<odograph store {self.backend}>"

    @property
    def root(self) -> Path:
        """The folder, for people and their tools; the parts of Odograph ask `backend`."""
        return self.backend.folder

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
        """Begins a trajectory: `with store.record(task=...) as run: with run.step(observation) as step: ...`."""
        about: dict[str, Any] = {"agent": agent, "agent_version": agent_version, "model": model, "group": group}
        about |= {"policy_version": policy_version, "seed": seed}
        return start(self.backend.sink, task, tags=tags, metadata=metadata, fork=fork, **about)

    def append(self, id: str) -> Run:
        """Reopens a trajectory, in any state, to add rewards, labels, edits and notes. Reads none of it. Raises NotFound,
        StoreError."""
        whole, facts = self._reader.facts(id)
        earlier = lambda: self.trajectory(whole)  # noqa: E731
        recorder = Recorder(self.backend.sink, whole, facts.agent, after=facts.last, earlier=earlier)
        return Run(recorder, facts.root, ends=False)

    def add(self, what: dict[str, Any] | Trajectory | Iterable[AnyRecord]) -> str:
        """A whole trajectory that was made elsewhere: a dict (the shape of `t.to_dict()`, of which a hand-made one may leave
        out what it does not know), a `Trajectory`, or records. Returns its id.

        Records that the store has are not added again; one that says something else under a known id is added as its
        correction. Raises InvalidInput with the path of what can't be read.
        """
        if isinstance(what, dict):
            records: Iterable[AnyRecord] = records_from_dict(what)
        elif isinstance(what, Trajectory):
            records = what.complete_records()
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
    ) -> ImportReport:
        """Sessions that other tools recorded: files, or folders with files, recognised by their content.

        Importing again adds nothing; a session that has grown is continued. A file that can't be read is named in the
        report and costs no other. `importers`: importers by file, `package:object` or name that are asked first whether a file is
        of their format. `progress(path, done, total)` is called before each file. Raises NotFound.
        """
        from .importers.importing import import_files

        sink = self.backend.sink

        def add(records: list[AnyRecord]) -> tuple[str, int]:
            return writing.add(sink, self._reader, records)

        def clean(text: str) -> str:
            return text if sink.redactor is None else sink.redactor.text(text, Counter())

        given = [importers] if isinstance(importers, str) else list(importers)
        return import_files(list(map(Path, paths)), add, format=format, importers=given, progress=progress, clean=clean)

    # --- reading ------------------------------------------------------------------------------------------------------

    def trajectory(self, id: str) -> Trajectory:
        """The trajectory with this id, or with this unique prefix or suffix. Raises NotFound."""
        return self._reader.trajectory(id)

    def trajectories(self, **filters: Unpack[FilterArgs]) -> Iterator[Trajectory]:
        """Trajectories, one at a time, oldest first; all the filters must hold, see `odograph.FilterArgs`.

        Raises TypeError for a filter that does not exist, InvalidInput, NotFound for an id that does not.
        """
        return self._reader.trajectories(Filters.of(filters))

    def summaries(self, *, newest_first: bool = False, **filters: Unpack[FilterArgs]) -> Iterator[Summary]:
        """What lists show of each trajectory, without reading it, oldest first unless `newest_first`; filters as for
        `trajectories`. With `newest_first` a `limit` means the newest."""
        return self._reader.summaries(Filters.of(filters), newest_first=newest_first)

    def count(self, **filters: Unpack[FilterArgs]) -> int:
        """How many trajectories the filters choose, without reading them; filters as for `trajectories`."""
        return self._reader.count(Filters.of(filters))

    def search(self, query: str, limit: int = 100) -> list[Hit]:
        """Records and messages that hold all the words of a query ("quoted" for a phrase), newest first."""
        return self._reader.search(query, limit)

    def tail(self, count: int = 20, trajectory: str | None = None) -> Tail:
        """The newest records, of one trajectory if its id is given; iterate again for what was written since."""
        return self._reader.tail(count, trajectory)

    def is_written_elsewhere(self, id: str) -> bool:
        """Whether another process, or another open store, may still write of a trajectory."""
        return bool(self._reader.writers(id) - {self._journal.writer})

    def examine(self) -> dict[str, Any]:
        """Facts for `odograph doctor`: files, sizes, writers, damage."""
        return self._reader.examine()

    def damages(self) -> list[Damage]:
        """Lines of the journal that can't be read; each cost itself alone."""
        return self._reader.damages()

    def __len__(self) -> int:
        return self._reader.count()

    def __bool__(self) -> bool:  # a store in which nothing is yet is a store
        return True

    def health(self) -> dict[str, Any]:
        """How capture fares in this process: records written, waiting for a disk that failed, lost, and other faults; requests of
        recorded clients that are no calls of a model (`unrecorded`), and calls made in a thread that is in no run while another
        thread is in one (`outside`)."""
        journal = self._journal
        journal.check()
        return {
            "written": journal.written,
            "waiting": journal.waiting,
            "lost": journal.lost,
            "failure": str(journal.failure) if journal.failure else None,
            "files_lost": journal.files_lost,
            "faults": faults.count,
            "last_fault": repr(faults.last) if faults.last else None,
            "unrecorded": faults.unrecorded,
            "outside": faults.outside,
        }

    # --- handing on ---------------------------------------------------------------------------------------------------

    def export(
        self,
        out: str | Path,
        to: str = "hf",
        *,
        format: str | None = None,
        splits: dict[str, float] | None = None,
        seed: int = 0,
        options: dict[str, Any] | None = None,
        groups: Groups | None = None,
        progress: Callable[[int], None] | None = None,
        max_shard_size: int | None = None,
        max_shard_rows: int | None = None,
        redact: Redact | None = None,
        **filters_and_options: Unpack[ExportArgs],
    ) -> dict[str, Any]:
        """Writes trajectories to a folder in a trainer's or another tool's format (hf, openai, atif, jsonl, parquet, ...).

        Keywords are the filters of `trajectories`, the format's own options, and for formats of samples those of
        `odograph.samples` (edits, advantage, ...); in `options` go those that are named like a filter (agent, model). `groups`:
        those of `store.groups(...)`, which took the filters, in the place of the recorded groups; what is in none of them is left
        out, and the manifest says how much and of what groups. `redact` takes secrets out, as that of `odograph.open` does.
        `max_shard_size` (bytes before compression) and `max_shard_rows` are of one Parquet file. Returns the manifest, which is
        in the folder too; `odograph.Dataset(out).upload(repo)` puts it on the Hub. Raises NotFound for a format that is not
        there, InvalidInput, MissingExtra.
        """
        filters = cast(FilterArgs, {k: v for k, v in filters_and_options.items() if k in FILTERS})
        more: dict[str, Any] = {k: v for k, v in filters_and_options.items() if k not in FILTERS}
        from .training.export import export
        from .training.feed import Feed
        from .training.formats import find

        target = find(to)
        known = target.options
        for name in more if known is not None else ():
            if name not in (known or ()):
                there = ", ".join(known or ()) or "none"
                raise TypeError(
                    f"no filter or option {name!r}; the filters are {', '.join(FILTERS)}, the options of {to} {there}"
                    f"{did_you_mean(name, (*FILTERS, *(known or ())))}"
                )
        feed = Feed(target, more | (options or {}), parent=self._reader.known)
        asked = dict(given(filters))
        found: Iterator[Trajectory]
        if groups is not None:
            if asked:
                raise TypeError(f"with groups=, {next(iter(asked))}= goes to store.groups(...)")
            asked, found = groups.asked, groups.trajectories()
        else:
            found = self._by_group(self.summaries(**filters)) if feed.takes_groups else self.trajectories(**filters)
        return export(
            found,
            out,
            feed,
            format=format,
            splits=splits,
            seed=seed,
            asked=asked,
            progress=progress,
            redact=redact,
            max_shard_size=max_shard_size,
            max_shard_rows=max_shard_rows,
            groups=groups,
            grouped=True,
        )

    def dry_run(
        self, to: str = "art", *, options: dict[str, Any] | None = None, **filters: Unpack[FilterArgs]
    ) -> Iterator[GroupPlan]:
        """Which groups would train with a format of tokens, and why the others would not; `options` and filters as for `export`.
        Writes nothing. Raises NotFound, InvalidInput."""
        from .training.dry_run import dry_run

        return dry_run(self._by_group(self.summaries(**filters)), to, parent=self._reader.known, **(options or {}))

    def groups(
        self,
        by: str | Callable[[Summary], str | None] = "group",
        *,
        window: str | None = None,
        min_size: int = 2,
        **filters: Unpack[FilterArgs],
    ) -> Groups:
        """Which trajectories are compared with each other: the groups for `odograph.samples(groups, ...)` and `export(groups=)`.

        `by`: the recorded `group`, the `task`, the `scenario` (of the metadata, else the group), or a function of a `Summary`.
        `window`: only those that started in the same stretch of this length ("1h", "1d", counted from midnight UTC). `min_size`:
        smaller groups are `too_small`. Filters as for `trajectories`. Raises InvalidInput.
        """
        from .groups import Groups

        asked = dict(given(filters))
        return Groups(self.summaries(**filters), self._reader.read, by=by, window=window, min_size=min_size, asked=asked)

    def _by_group(self, summaries: Iterator[Summary]) -> Iterator[Trajectory]:
        """Trajectories, those of a group one after the other; the groups in the order of their first."""
        groups: dict[str, list[str]] = {}
        for summary in summaries:
            groups.setdefault(summary.group if summary.group is not None else f"\0{summary.id}", []).append(summary.id)
        yield from self._reader.read(id for ids in groups.values() for id in ids)

    def score(
        self,
        fn: Any,
        *,
        version: str | None = None,
        again: bool = False,
        concurrency: int | None = None,
        processes: int = 1,
        progress: Progress = None,
        **filters: Unpack[FilterArgs],
    ) -> ScoreReport:
        """Appends the rewards that a function gives to the trajectories that have none by this version of it; the filters are
        those of `trajectories`. Run again it adds nothing but what is new, or was not known before.

        `fn`: what `@odograph.reward` made, a plain function, `file.py:function`, `package:function`, or a name of
        `odograph.rewards`. A new version's rewards supersede the old one's; `version` declares it. `again`: all anew, for
        functions of what changes elsewhere; what comes out the same is not written. Trajectories that are still being recorded
        are left for later, unless `status` asks for them.

        `concurrency`: how many at once, as tasks where the function is async (16), else as threads (1). `processes`: as many
        processes, for functions that compute; it must be importable there. `progress`: `progress(done, total)`, or whether
        there is a bar (on a terminal). A function that fails costs its trajectory alone: see the report. Raises InvalidInput,
        NotFound, StoreError.
        """
        from .rewards.scoring import score  # it needs asyncio, which who records does not

        options: dict[str, Any] = {"version": version, "again": again, "concurrency": concurrency, "processes": processes}
        return score(self.backend, fn, Filters.of(filters), progress=progress, **options)

    def validate(
        self,
        *,
        profile: str = "all",
        ignore: Iterable[str] = (),
        tokenizer: Any = None,
        checks: Iterable[Any] = (),
        workers: int | None = None,
        progress: Callable[[int], None] | None = None,
        **filters: Unpack[FilterArgs],
    ) -> Report:
        """The data-quality checks over the store's trajectories and, where these are not chosen, damaged lines; the filters are
        those of `trajectories`. `progress(n)` is called with the number done so far. `checks`: more checks, by file,
        `package:object` or entry point, or as modules or checks themselves.

        `workers`: processes that share the work; None: one for each core where there are many trajectories. Of one code at most
        10,000 findings are kept, `counts` has them all. Raises InvalidInput, NotFound, StoreError.
        """
        from .quality import Checker, collect, damage_findings

        more = [checks] if isinstance(checks, str) else list(checks)
        checker = Checker(profile, ignore, tokenizer, more)
        if workers is not None:
            check_count("workers", workers)
        filters = given(filters)
        shared: dict[str, Any] = {
            "across": True,
            "whole": set(filters) <= {"group"},
            "most": _MOST_FINDINGS,
            "progress": progress,
        }
        if (tokenizer is None or isinstance(tokenizer, (str, Path))) and all(isinstance(one, str) for one in more):
            if workers is None:
                workers = min(os.cpu_count() or 1, 8)
                if self.count(**filters) < _FEW:
                    workers = 1
        else:  # objects of this process
            workers = 1
        if workers > 1:
            from .quality.workers import results

            ids = (summary.id for summary in self.summaries(**filters))
            file = None if tokenizer is None else str(tokenizer)
            about: dict[str, Any] = {"profile": profile, "ignore": sorted(checker.skip), "tokenizer": file, "checks": more}
            found = results(self.backend.place, ids, workers, **about)
            report = collect(found, checker, **shared)
        else:
            report = collect((checker.one(t) for t in self.trajectories(**filters)), checker, **shared)
        if not filters:
            report.add(damage_findings(self.damages()), checker.skip)
        return report

    def used(self, ids: list[str]) -> dict[str, Used]:
        """By trajectory: names of its actions, contexts and models, and the values of its rewards, without reading it."""
        return self._reader.used(ids)

    def stats(
        self, by: str | None = None, *, confidence: float = 0.95, success: float | None = None, **filters: Unpack[FilterArgs]
    ) -> Stats:
        """Distributions of rewards, over time, by component and by what was done: `odograph.stats` of this store."""
        from .statistics import stats

        return stats(self, by, confidence=confidence, success=success, **filters)

    def compare(
        self, a: str, b: str, *, by: str = "model", confidence: float = 0.95, seed: int = 0, **filters: Unpack[FilterArgs]
    ) -> Compared:
        """Compares two models, or agents, policy versions, groups or tags: differences with intervals and tests, by task.

        Raises InvalidInput, MissingExtra (extra `worlds`).
        """
        from .statistics.comparison import compare_parts

        return compare_parts(self, a, b, by=by, confidence=confidence, seed=seed, **filters)

    # --- living -------------------------------------------------------------------------------------------------------

    # --- worlds -------------------------------------------------------------------------------------------------------

    def world(
        self,
        name: str,
        *,
        namespace: str = "default",
        processors: Iterable[Any] = (),
        resources: Iterable[Any] = (),
        hooks: Iterable[Any] = (),
        fresh: bool = False,
    ) -> Any:
        """The world of a name in this store, to label and compare its trajectories; made where there is none, see
        `odograph.worlds`. `world.spawn_from(store.trajectories(...), labels=[(technique, description)])` fills it.

        In async code its methods are awaited (a `World`), else they return when they are done (a `SyncWorld`). Raises
        MissingExtra.
        """
        from .worlds import StorageConfig, WorldRuntime
        from .worlds.runtime import opened

        if self._worlds is None:
            self._worlds = WorldRuntime()
        storage = StorageConfig(self.backend.folder, namespace)
        given: dict[str, Any] = {"processors": processors, "resources": resources, "hooks": hooks, "fresh": fresh}
        return opened(self._worlds, name, storage, **given)

    def close(self) -> None:
        """Everything on disk, files closed. A closed store can be used again: it opens what it needs."""
        if self._worlds is not None:
            self._worlds.close()
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open(
    where: str | Path | Place | None = None,
    *,
    durability: Durability | None = None,
    redact: Redact | str | None = None,
    shared: bool = False,
) -> Store:
    """The store in a folder: the one given, else $ODOGRAPH_STORE, else ./odograph. The folder is made when something is recorded.

    `memory:` is a store that is gone when it is closed, or when its process ends. `store.backend.place` reopens a store in
    another process.

    `durability` and `redact` belong to the store: the first opening that says them settles them for every later one, in any
    process, which leaves them out; one that says something else is refused. `durability="sync"` waits for the disk at every
    record; "group", the default, syncs every 50 ms. Either way a record is with the operating system when its call returns.

    `redact` takes secrets out of everything that is recorded, added or imported, before it is written: True (the built-in rules),
    a list of patterns (beside these rules), or a function that is given each text and returns what is kept of it; where it
    raises, the text is not kept. The function, or its name ('package:object', 'file.py:name'), must be importable in each process
    that writes. None uses what the store has; False says that the store has none.

    The files are their owner's alone, unless `shared` is asked for when the store is made: then the process's umask decides.
    Raises InvalidInput, StoreError, TypeError.
    """
    if isinstance(where, Place):
        return Store(backend.reopened(where))
    return Store(backend.opened(where, redact=redact, durability=durability, shared=shared))


def score(
    store: Store,
    fn: Any,
    *,
    version: str | None = None,
    again: bool = False,
    concurrency: int | None = None,
    processes: int = 1,
    progress: Progress = None,
    **filters: Unpack[FilterArgs],
) -> ScoreReport:
    """`store.score(fn, ...)`."""
    more: dict[str, Any] = {"concurrency": concurrency, "processes": processes, "progress": progress}
    return store.score(fn, version=version, again=again, **more, **filters)


_default: Store | None = None


def default_store() -> Store:
    """The store that `open()` names, opened once: where calls go that are made outside of any run."""
    global _default
    if _default is None:
        _default = open()
    return _default


def _outside(fields: dict[str, Any]) -> Scope:
    return LoneCall(default_store().record(model=fields.get("model"), tags=["call"]))


scope.outside = _outside
