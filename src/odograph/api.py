"""The `Store` that users hold: records, reads, imports, validates and exports, each by the floor that knows how."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import msgspec

from .capture import scope
from .capture.faults import faults
from .capture.recorder import Recorder
from .capture.run import LoneCall, Run, start
from .capture.scope import Scope
from .codec import content_hash, derived_id, encode, record_to_dict
from .errors import InvalidInput, NotFound, OdographError, StoreError, check_count, did_you_mean
from .handmade import placed_records, records_from_dict
from .packing import LISTS, Packer
from .redact import History, Redact, Redactor
from .store.catalog import Hit, Summary, Used
from .store.filters import FILTERS, FilterArgs, Filters, given
from .store.journal import Durability, Journal
from .store.lines import Damage
from .store.reader import Reader, Tail
from .trajectory import Trajectory
from .types import AnyRecord, Fork, LLMCall, Reward

if TYPE_CHECKING:  # imported where they are used: who only records waits for none of these
    from . import importers
    from .bulk import Progress
    from .groups import Groups
    from .quality import Report
    from .rewards.scoring import ScoreReport
    from .statistics import Stats
    from .training.dry_run import GroupPlan
    from .training.keywords import ExportArgs

_MOST_FINDINGS = 10_000
_FEW = 500  # trajectories that are checked sooner than processes are started


class Store:
    """A store of trajectories: a folder, or `memory:`. Use `odograph.open`."""

    def __init__(self, root: Path, durability: Durability, *, temporary: bool = False, redact: Redact | None = None) -> None:
        self.root = root
        self._temporary = temporary
        self._journal = Journal(root / "journal", durability)
        self._journal.redactor = Redactor.of(redact)
        self._reader = Reader(root)

    def __repr__(self) -> str:
        return f"<odograph store {'memory:' if self._temporary else self.root}>"

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
        return start(self._journal, task, tags=tags, metadata=metadata, fork=fork, **about)

    def append(self, id: str) -> Run:
        """A trajectory again, whatever its state, for late rewards, labels, edits and notes. Raises NotFound."""
        trajectory = self.trajectory(id)
        recorder = Recorder(self._journal, trajectory.id, trajectory.agent)
        for step in trajectory.steps:
            agent = None if step.agent == trajectory.agent else step.agent
            recorder.steps[agent] = max(recorder.steps.get(agent, 0), step.index + 1)
        recorder.opened = len(trajectory.steps)
        root = trajectory.start.id if trajectory.start else trajectory.records[0].id
        return Run(recorder, root, ends=False)

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
        return self._add(list(records))[0]

    def _add(self, records: list[AnyRecord]) -> tuple[str, int]:
        """The id, and how many records were new."""
        placed = placed_records(records)
        redactor = self._journal.redactor
        if redactor is not None:  # before it is compared with what is there
            history = History(raw=False)
            placed = [redactor.record(record, history) for record in placed]
        id = placed[0].trajectory
        try:
            new = _changes(self.trajectory(id), placed)
        except NotFound:
            new = placed
        if new:
            self._write(id, new)
        return id, len(new)

    def _write(self, id: str, records: list[AnyRecord]) -> None:
        journal = self._journal
        packer = Packer(id, journal.new_stream, immutable=True)
        with journal.lock:
            for record in records:
                fields = record_to_dict(record)
                lines: list[bytes] = []
                if isinstance(record, LLMCall):
                    fields = packer.pack((record.agent, record.purpose), fields, lines)
                if not record.time:  # made elsewhere: it is recorded now, by this writer, in this order
                    fields |= {"time": journal.now(), "seq": journal.next_seq()}
                    fields.pop("writer", None)
                lines.append(encode(fields) + b"\n")
                journal.append(b"".join(lines))
            if journal.failure is not None:
                raise StoreError(f"{self} can't be written: {journal.failure.strerror or journal.failure}")

    def import_sessions(
        self,
        *paths: str | Path,
        format: str = "auto",
        progress: Callable[[Path, int, int], None] | None = None,
    ) -> ImportReport:
        """Sessions that other tools recorded: files, or folders with files, recognised by their content.

        Importing again adds nothing; a session that has grown is continued. A file that can't be read is named in the
        report and costs no other. `progress(path, done, total)` is called before each file. Raises NotFound.
        """
        from . import importers

        importer = None if format == "auto" else importers.find(format)
        report = ImportReport()
        found: list[tuple[Path, bool]] = []
        for path in map(Path, paths):
            if not path.exists():
                raise NotFound(f"no file or folder {str(path)!r}")
            found += [(p, p == path) for p in importers.sessions_in(path)]
        for done, (path, named) in enumerate(found):
            if progress is not None:
                progress(path, done, len(found))
            self._import_file(path, importer, named, report)
        if progress is not None and found:
            progress(found[-1][0], len(found), len(found))
        return report

    def _import_file(self, path: Path, importer: importers.Importer | None, named: bool, report: ImportReport) -> None:
        from . import importers

        try:
            one = importer or importers.recognise(path)
            if one is None:
                if named:
                    known = ", ".join(importers.names())
                    report.failed.append({"path": str(path), "error": f"no session of a known format; there are: {known}"})
                else:
                    report.unrecognised.append(str(path))
                return
            for session in one.read(path):
                if session.warnings:
                    report.warnings.append({"path": str(path), "trajectory": session.id, **session.warnings})
                id, new = self._add(session.records)
                if new:
                    report.imported += 1
                    report.trajectories.append({"id": id, "source": str(path), "format": session.format})
                else:
                    report.skipped += 1
        except StoreError:
            raise
        except (OdographError, OSError) as error:
            report.failed.append({"path": str(path), "error": str(error)})
        except Exception as error:  # a format that nobody foresaw costs its own file alone
            report.failed.append({"path": str(path), "error": f"the {type(error).__name__} {error} while reading it"})
        if self._journal.redactor is not None:
            for failed in report.failed:
                failed["error"] = self._journal.redactor.text(failed["error"], Counter())

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
        """How capture fares in this process: records written, waiting for a disk that failed, lost, and other faults."""
        journal = self._journal
        return {
            "written": journal.written,
            "waiting": journal.waiting,
            "lost": journal.lost,
            "failure": str(journal.failure) if journal.failure else None,
            "faults": faults.count,
            "last_fault": repr(faults.last) if faults.last else None,
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
        feed = Feed(target, more | (options or {}), parent=self._known)
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

        return dry_run(self._by_group(self.summaries(**filters)), to, parent=self._known, **(options or {}))

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

    def _known(self, id: str) -> Trajectory | None:
        try:
            return self.trajectory(id)
        except NotFound:
            return None

    def _by_group(self, summaries: Iterator[Summary]) -> Iterator[Trajectory]:
        """Trajectories, those of a group one after the other; the groups in the order of their first."""
        groups: dict[str, list[str]] = {}
        for summary in summaries:
            groups.setdefault(summary.group if summary.group is not None else f"\0{summary.id}", []).append(summary.id)
        for ids in groups.values():
            for id in ids:
                found = self._known(id)
                if found is not None:
                    yield found

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
        return score(self._reader, self.root, self._reward, fn, Filters.of(filters), progress=progress, **options)

    def _reward(self, id: str, rewards: list[Reward]) -> None:
        """Rewards of one trajectory, in one write."""
        journal = self._journal
        if journal.redactor is not None:
            rewards = [cast(Reward, journal.redactor.record(reward, History(raw=False))) for reward in rewards]
        with journal.lock:
            lines = []
            for record in rewards:
                now = journal.now()
                placed = {"id": journal.new_id(now), "trajectory": id, "seq": journal.next_seq(), "time": now}
                fields = record_to_dict(record) | placed
                lines.append(encode(fields) + b"\n")
            journal.append(b"".join(lines))
            if journal.failure is not None:
                raise StoreError(f"{self} can't be written: {journal.failure.strerror or journal.failure}")

    def validate(
        self,
        *,
        profile: str = "all",
        ignore: Iterable[str] = (),
        tokenizer: Any = None,
        workers: int | None = None,
        progress: Callable[[int], None] | None = None,
        **filters: Unpack[FilterArgs],
    ) -> Report:
        """The data-quality checks over the store's trajectories and, where these are not chosen, damaged lines; the filters are
        those of `trajectories`. `progress(n)` is called with the number done so far.

        `workers`: processes that share the work; None: one for each core where there are many trajectories. Of one code at most
        10,000 findings are kept, `counts` has them all. Raises InvalidInput, NotFound, StoreError.
        """
        from .quality import Checker, collect, damage_findings

        checker = Checker(profile, ignore, tokenizer)
        if workers is not None:
            check_count("workers", workers)
        filters = given(filters)
        shared: dict[str, Any] = {
            "across": True,
            "whole": set(filters) <= {"group"},
            "most": _MOST_FINDINGS,
            "progress": progress,
        }
        if tokenizer is None or isinstance(tokenizer, (str, Path)):
            if workers is None:
                workers = min(os.cpu_count() or 1, 8)
                if self.count(**filters) < _FEW:
                    workers = 1
        else:  # an object of this process
            workers = 1
        if workers > 1:
            from .quality.workers import results

            ids = (summary.id for summary in self.summaries(**filters))
            file = None if tokenizer is None else str(tokenizer)
            found = results(self.root, ids, workers, profile=profile, ignore=sorted(checker.skip), tokenizer=file)
            report = collect(found, checker, **shared)
        else:
            report = collect((checker.one(t) for t in self.trajectories(**filters)), checker, **shared)
        if not filters:
            report.add(damage_findings(self.damages()), checker.skip)
        return report

    def used(self, ids: list[str]) -> dict[str, Used]:
        """By trajectory: names of its actions, contexts and models, and the values of its rewards, without reading it."""
        return self._reader.used(ids)

    def stats(self, by: str | None = None, *, confidence: float = 0.95, **filters: Unpack[FilterArgs]) -> Stats:
        """Distributions of rewards, over time, by component and by what was done: `odograph.stats` of this store."""
        from .statistics import stats

        return stats(self, by, confidence=confidence, **filters)

    # --- living -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Everything on disk, files closed. A closed store can be used again: it opens what it needs."""
        self._journal.close()
        self._reader.close()
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class ImportReport(msgspec.Struct):
    """What an import did: counts of trajectories, the files that failed, and what was new."""

    imported: int = 0
    skipped: int = 0
    failed: list[dict[str, str]] = []
    trajectories: list[dict[str, str]] = []
    warnings: list[dict[str, Any]] = []
    unrecognised: list[str] = []


def open(where: str | Path | None = None, *, durability: Durability = "group", redact: Redact | None = None) -> Store:
    """The store in a folder: the one given, else $ODOGRAPH_STORE, else ./odograph. It is made when something is recorded.

    `memory:` is a store that is gone when it is closed. `durability="sync"` waits for the disk at every record; "group"
    syncs every 50 ms. Either way a record is with the operating system when its call returns.

    `redact` takes secrets out of everything that is recorded, added or imported here, before it is written: True (the built-in
    rules), a list of patterns (beside these rules), or a function that is given each text and returns what is kept of it; where
    it raises, the text is not kept. Raises InvalidInput, StoreError, TypeError.
    """
    if durability not in ("group", "sync"):
        raise InvalidInput(f"durability is 'group' or 'sync', not {durability!r}")
    place = where if where is not None else os.environ.get("ODOGRAPH_STORE") or "odograph"
    if isinstance(place, str) and place == "memory:":
        fast = Path("/dev/shm")
        folder = tempfile.mkdtemp(prefix="odograph-", dir=fast if os.access(fast, os.W_OK) else None)
        return Store(Path(folder), durability, temporary=True, redact=redact)
    if isinstance(place, str) and "://" in place:
        raise InvalidInput(f"{place!r} can't be opened; a store is a folder, or memory:")
    root = Path(place)
    if root.exists() and not root.is_dir():
        raise StoreError(f"{str(root)!r} is a file; a store is a folder")
    return Store(root, durability, redact=redact)


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


class _Contents:
    """What records say, without where and when they were recorded; a shared message is looked at once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, str]] = {}

    def _hash(self, message: Any) -> str:
        found = self._seen.get(id(message))
        if found is None:
            found = self._seen[id(message)] = (message, content_hash(message))  # held, so that its address stays its own
        return found[1]

    def of(self, record: AnyRecord) -> Any:
        fields = record_to_dict(record)
        for name in ("id", "seq", "time", "writer", "supersedes"):
            fields.pop(name, None)
        if isinstance(record, LLMCall) and isinstance(record.request, dict):
            request = dict(record.request)
            for name in LISTS:
                part = request.get(name)
                if isinstance(part, list):
                    request[name] = [self._hash(m) for m in part]
            fields["request"] = request
        return msgspec.json.decode(encode(fields))


def _changes(existing: Trajectory, placed: list[AnyRecord]) -> list[AnyRecord]:
    """Of records of a known trajectory: the new ones, and corrections of those that now say something else."""
    contents = _Contents()
    known: dict[str, AnyRecord] = {}
    corrected: dict[str, AnyRecord] = {}
    for record in existing.complete_records():
        known[record.id] = record
        if record.supersedes:
            corrected[record.supersedes] = record
    new: list[AnyRecord] = []
    for record in placed:
        latest = known.get(record.id)
        if latest is None:
            new.append(record)
            continue
        while latest.id in corrected:
            latest = corrected[latest.id]
        content = contents.of(record)
        if contents.of(latest) != content:
            id = derived_id(record.source_time, record.id, latest.id, content_hash(content))
            new.append(msgspec.structs.replace(record, id=id, supersedes=latest.id, time=0, writer=""))
    return new
