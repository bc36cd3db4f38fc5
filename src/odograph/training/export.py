"""Trajectories -> a folder of files in a format, with a manifest. Streams: memory does not grow with what is exported."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..clock import iso_time
from ..codec import content_hash, encode, loads
from ..columns import arrow
from ..errors import InvalidInput, MissingExtra, OdographError, StoreError, check_count, described
from ..groups import Groups
from ..redact import History, Redact, Redactor
from ..trajectory import Trajectory
from ..types import SCHEMA_VERSION, VERSION
from .feed import Feed, in_groups
from .files import Documents, Lines, Shards, Tables
from .folder import CARD, MANIFEST, Held, NoSpace, check_free, described_file, drafted
from .formats import Target
from .splits import Shares, shares_of, split_of

_REASON, _REASONS, _EXAMPLES = 200, 1000, 100  # characters of a reason, different reasons, failures that are named

Files = Lines | Documents | Tables


def export(
    trajectories: Iterable[Trajectory],
    out: str | Path,
    to: str | Target | Feed,
    *,
    format: str | None = None,
    splits: dict[str, float] | None = None,
    seed: int = 0,
    asked: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    parent: Callable[[str], Trajectory | None] | None = None,
    redact: Redact | None = None,
    max_shard_size: int | None = None,
    max_shard_rows: int | None = None,
    groups: Groups | None = None,
    grouped: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Writes `trajectories` to the folder `out` in the format `to`; returns the manifest, which is written too.

    `to`: the name of a format, a `Target`, or a `Feed` that has its options already. `format`: the kind of file, where the
    exporter has several. `splits`: name -> share, by group. `asked`: what the manifest says was asked for. `progress(n)` after
    each trajectory. `options` are the exporter's own; for formats of samples also those of `odograph.samples`; `parent` gives
    the trajectory that a fork left; `groups`: whose trajectories these are, for the manifest. `grouped`: those of a group come
    one after the other (else they are kept in memory where the format takes groups). `redact` takes secrets out, as in
    `odograph.open`. A Parquet file has at most `max_shard_rows` rows, and little more than `max_shard_size` bytes before
    compression (512 MB). An earlier export in `out` is replaced; a folder with anything else in it is refused. Raises NotFound,
    InvalidInput, MissingExtra, StoreError.
    """
    feed = to if isinstance(to, Feed) else Feed(to, options, parent=parent)
    target = feed.target
    kind = format or target.files[0]
    if kind not in target.files:
        raise InvalidInput(f"{target.name} can't be written as {kind!r}; it can as: {', '.join(target.files)}")
    shares = shares_of(splits)
    redactor = Redactor.of(redact)
    if redactor is not None:
        trajectories, feed.parent = _redacted(redactor, trajectories, feed.parent)
    shards = _shards(kind, max_shard_size, max_shard_rows)
    if out == "":
        raise InvalidInput("out is the folder of the export, not an empty text")
    place = Path(out).resolve()
    check_free(place, out)
    schema = _schema(feed) if kind == "parquet" else None  # first: it may lack an extra
    if feed.takes_groups and not grouped:
        trajectories = in_groups(trajectories)
    feed.start()
    try:
        with drafted(place) as draft:
            made = _Export(draft, feed, kind, schema, shares, seed, shards)
            for reason, count in (groups.left_out if groups is not None else {}).items():
                made.leave(reason, count)
            taken = 0
            for batch in feed.batches(trajectories):
                made.write(batch)
                taken += len(batch)
                if progress is not None:
                    for n in range(taken - len(batch), taken):
                        progress(n + 1)
            manifest = {
                "to": target.name,
                "format": kind,
                "asked": asked or {},
                "options": feed.options,
                "splits": splits,
                "seed": seed,
                **({"groups": groups.report()} if groups is not None else {}),
                **made.finish(),
            }
            if redactor is not None:
                manifest = {**redactor.value(loads(encode(manifest)), Counter()), "redact": redactor.name}
            if target.card is not None:
                (draft / CARD).write_text(target.card(manifest), encoding="utf-8")
            (draft / MANIFEST).write_bytes(encode(manifest) + b"\n")
    except OdographError:
        raise
    except OSError as error:
        raise StoreError(f"{str(out)!r} can't be written: {error.strerror or error}") from error
    return manifest


def _redacted(
    redactor: Redactor,
    trajectories: Iterable[Trajectory],
    parent: Callable[[str], Trajectory | None] | None,
) -> tuple[Iterable[Trajectory], Callable[[str], Trajectory | None] | None]:
    """What is exported, whichever way it comes, without secrets."""

    names: dict[str, dict[str, int]] = {}

    def named(name: str) -> str:
        """A group's name, which may be a task's text; what reads the same then is told apart by a number."""
        clean = redactor.text(name, Counter())
        if clean == name:
            return name
        alike = names.setdefault(clean, {})
        return f"{clean} #{alike.setdefault(name, len(alike) + 1)}"

    def one(t: Trajectory) -> Trajectory:
        history = History(raw=False)
        made = Trajectory(t.id, [redactor.record(r, history) for r in t.complete_records()], live=t.status == "running")
        if t.group is not None and t.family is not None and t.group != (t.start.group if t.start else None):
            made.in_group(named(t.group), named(t.family))
        return made

    def parent_of(id: str) -> Trajectory | None:
        found = parent(id) if parent is not None else None
        return one(found) if found is not None else None

    return map(one, trajectories), parent_of if parent is not None else None


class _Export:
    """One export on its way: takes trajectories, and counts."""

    def __init__(
        self, folder: Path, feed: Feed, kind: str, schema: Any, shares: Shares, seed: int, shards: Shards | None = None
    ) -> None:
        (folder / "data").mkdir()
        self._folder = folder
        self._feed = feed
        self._shares = shares
        self._seed = seed
        self._files: dict[str, Files] = {
            split: Tables(folder, split, feed.target.name, schema, shards)
            if kind == "parquet"
            else Documents(folder, split, feed.target.name, kind)
            if kind == "json" or feed.target.file_each
            else Lines(folder, split, feed.target.name, feed.target.header)
            for split, _ in shares
        }
        self._in = 0
        self._out = dict.fromkeys(self._files, 0)
        self._rows = dict.fromkeys(self._files, 0)
        self._tables: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._failed: list[dict[str, str]] = []
        #: Hash of a task -> the split and the trajectory that it was first seen in, where there are several splits.
        self._tasks: dict[str, tuple[str, str]] = {}
        self._contamination: list[dict[str, str]] = []

    def leave(self, reason: str, count: int) -> None:
        """Counts trajectories that were left out before."""
        self._in += count
        self._left_out[reason] += count

    def write(self, trajectories: list[Trajectory]) -> None:
        """Writes the rows of what belongs together: all of them, or none and the reason."""
        self._in += len(trajectories)
        samples = self._feed.samples
        before = samples.mark() if samples is not None else None
        split = split_of(trajectories[0], self._shares, self._seed)
        files = self._files[split]
        reasons: Counter[str] = Counter()

        def leave(reason: str) -> None:
            reasons[" ".join(str(reason)[:_REASON].split())] += 1

        rows = gone = 0
        with Held(self._folder) as held:
            try:
                members = [self._feed.member(t, leave) for t in trajectories]
                for chunk in files.chunks(self._feed.rows(members), trajectories[0].id):
                    rows += chunk.rows
                    held.add(chunk)
                gone = sum(member.gone for member in members)
            except (MissingExtra, MemoryError, NoSpace):
                raise
            except (Exception, SystemExit) as error:  # one trajectory's content must not cost the others
                rows = 0
                reasons.clear()
                if samples is not None and before is not None:
                    samples.undo(before, "an error")
                leave(f"an error: {error if isinstance(error, OdographError) else described(error)}")
                if len(self._failed) < _EXAMPLES:
                    self._failed.append({"trajectory": trajectories[0].id, "error": next(iter(reasons))})
            else:
                for chunk in held:
                    files.write(chunk)
                    self._tables[chunk.table] += chunk.rows
                if not rows and not reasons and samples is None:
                    leave("nothing to export")
        if len(self._shares) > 1 and rows > 0:
            self._compare(trajectories, split)
        self._out[split] += len(trajectories) - gone if rows > 0 else 0
        self._rows[split] += rows
        for reason, count in reasons.items():
            known = reason in self._left_out or len(self._left_out) < _REASONS
            self._left_out[reason if known else "other reasons"] += count

    def _compare(self, trajectories: list[Trajectory], split: str) -> None:
        """Notes tasks that are in two splits: groups are kept together, but two groups may have one task."""
        for t in trajectories:
            if t.task is None:
                continue
            known, other = self._tasks.setdefault(content_hash(t.task), (split, t.id))
            if known != split and len(self._contamination) < _EXAMPLES:
                message = f"the task of {t.id} in {split} is that of {other} in {known}"
                self._contamination.append({"trajectory": t.id, "other": other, "message": message})

    def finish(self) -> dict[str, Any]:
        """The files, closed, and what the manifest says of them."""
        empty = not any(self._rows.values())
        paths = [p for number, f in enumerate(self._files.values()) for p in f.close(needed=empty and not number)]
        if not any((self._folder / "data").iterdir()):
            (self._folder / "data").rmdir()
        files = [described_file(self._folder, path) for path in sorted(paths)]
        samples = self._feed.samples
        if samples is not None:
            self._left_out.update(samples.report.left_out)
        return {
            "odograph": VERSION,
            "schema_version": SCHEMA_VERSION,
            "created": iso_time(time.time_ns()),
            "trajectories": {"in": self._in, "out": sum(self._out.values())},
            "trajectories_by_split": self._out,
            "rows": sum(self._rows.values()),
            "rows_by_split": self._rows,
            **({"rows_by_table": dict(self._tables)} if "" not in self._tables and self._tables else {}),
            "left_out": dict(self._left_out.most_common()),
            **({"samples": samples.report.to_dict()} if samples is not None else {}),
            "failed": self._failed,
            "contamination": self._contamination,
            "content_hash": content_hash([(f["path"], f["sha256"]) for f in files]),
            "files": files,
        }


def _schema(feed: Feed) -> Any:
    """The schema of the rows, or of each table. Raises InvalidInput where a stranger's exporter gives none."""
    target = feed.target
    if target.schema is None:
        return None
    try:
        found = target.schema(**feed.own)
    except OdographError:
        raise
    except Exception as error:
        raise InvalidInput(f"the schema of the exporter {target.name!r} can't be made: {described(error)}") from error
    for one in found.values() if isinstance(found, Mapping) else [found]:
        if not isinstance(one, arrow().Schema):
            given = type(one).__name__
            raise InvalidInput(f"the exporter {target.name!r} gave a schema of type {given}; a pyarrow.Schema was expected")
    return found


def _shards(kind: str, size: int | None, rows: int | None) -> Shards:
    for name, given in (("max_shard_size", size), ("max_shard_rows", rows)):
        if given is None:
            continue
        if kind != "parquet":
            raise InvalidInput(f"{name} is for Parquet, not for {kind}")
        check_count(name, given)
    return Shards(rows=rows) if size is None else Shards(size, rows)
