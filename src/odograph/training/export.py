"""Trajectories -> a folder of files in a format, with a manifest. Streams: memory does not grow with what is exported.

A folder is written beside its place and moved there when it is whole. Splits are by group, by a hash of the group's name and
the seed: a trajectory stays in its split when others are added, and a task is never in two.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import pickle
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from ..clock import iso_time
from ..codec import content_hash, encode, loads
from ..errors import InvalidInput, MissingExtra, OdographError, StoreError, check_count, described
from ..redact import History, Redact, Redactor
from ..trajectory import Trajectory
from ..types import SCHEMA_VERSION, VERSION
from .files import Chunk, Documents, Lines, Shards, Tables
from .formats import Exporter, Made, Refused, SampleExporter, WithSchema, find, is_of_samples
from .groups import Groups
from .plan import Plan
from .samples import Samples

MANIFEST = "manifest.json"
CARD = "README.md"
_HOLD = 64 << 20  # bytes of one trajectory's rows that are held in memory
_REASON, _REASONS, _EXAMPLES = 200, 1000, 100  # characters of a reason, different reasons, failures that are named
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*", re.ASCII)  # what `datasets` takes as the name of a split

Shares = list[tuple[str, float]]
Files = Lines | Documents | Tables


def export(
    trajectories: Iterable[Trajectory],
    out: str | Path,
    to: str,
    *,
    format: str | None = None,
    splits: dict[str, float] | None = None,
    seed: int = 0,
    asked: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    again: Callable[[], Iterable[Trajectory]] | None = None,
    parent: Callable[[str], Trajectory | None] | None = None,
    redact: Redact | None = None,
    max_shard_size: int | None = None,
    max_shard_rows: int | None = None,
    groups: Groups | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes `trajectories` to the folder `out` in the format named `to`; returns the manifest, which is written too.

    `format`: the kind of file, where the exporter has several. `splits`: name -> share, by group. `asked`: what the manifest
    says was asked for. `progress(n)` after each trajectory. `options` are the exporter's own; for formats of samples also those
    of `odograph.samples`; `again` gives the trajectories once more, for the statistics of groups, `parent` the trajectory
    that a fork left; `groups`: whose trajectories these are, for the manifest. `redact` takes secrets out, as in `odograph.open`.
    A Parquet file has at most `max_shard_rows` rows, and little more than `max_shard_size` bytes before compression (512 MB). An
    earlier export in `out` is replaced; a folder with anything else in it is refused. Raises NotFound, InvalidInput,
    MissingExtra, StoreError.
    """
    exporter = find(to)
    kind = format or exporter.FILES[0]
    if kind not in exporter.FILES:
        raise InvalidInput(f"{to} can't be written as {kind!r}; it can as: {', '.join(exporter.FILES)}")
    own, plan = read_options(exporter, to, options)
    shares = _shares(splits)
    redactor = Redactor.of(redact)
    if redactor is not None:
        trajectories, again, parent = _redacted(redactor, trajectories, again, parent)
    shards = _shards(kind, max_shard_size, max_shard_rows)
    place = Path(out).resolve()
    _check_free(place, out)
    schema = cast(WithSchema, exporter).schema(**own) if kind == "parquet" else None  # it may lack an extra
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            draft.chmod(0o755)
            samples = None
            if plan is not None:
                if plan.advantage is not None and again is None:
                    trajectories = list(trajectories)
                    again = partial(iter, trajectories)
                samples = Samples((), plan, again=again() if again is not None else None, parent=parent)
            made = _Export(draft, exporter, kind, schema, shares, seed, own, samples, shards)
            for reason, count in (groups.left_out if groups is not None else {}).items():
                made.leave(reason, count)
            for number, trajectory in enumerate(trajectories, 1):
                made.take(trajectory)
                if progress is not None:
                    progress(number)
            made.flush()
            manifest = {
                "to": to,
                "format": kind,
                "asked": asked or {},
                "options": options,
                "splits": splits,
                "seed": seed,
                **({"groups": groups.report()} if groups is not None else {}),
                **made.finish(),
            }
            if redactor is not None:
                manifest = {**redactor.value(loads(encode(manifest)), Counter()), "redact": redactor.name}
            card: Callable[[dict[str, Any]], str] | None = getattr(exporter, "card", None)
            if card is not None:
                (draft / CARD).write_text(card(manifest), encoding="utf-8")
            (draft / MANIFEST).write_bytes(encode(manifest) + b"\n")
            _move(draft, place)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OdographError:
        raise
    except OSError as error:
        raise StoreError(f"{str(out)!r} can't be written: {error.strerror or error}") from error
    return manifest


def takes_groups(to: str) -> bool:
    """Whether a format's exporter wants the trajectories of a group one after the other. Raises NotFound."""
    return hasattr(find(to), "lines")


def _redacted(
    redactor: Redactor,
    trajectories: Iterable[Trajectory],
    again: Callable[[], Iterable[Trajectory]] | None,
    parent: Callable[[str], Trajectory | None] | None,
) -> tuple[Iterable[Trajectory], Callable[[], Iterable[Trajectory]] | None, Callable[[str], Trajectory | None] | None]:
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

    once_more = (lambda: map(one, again())) if again is not None else None
    return map(one, trajectories), once_more, parent_of if parent is not None else None


class _Export:
    """One export on its way: takes trajectories, and counts."""

    def __init__(
        self,
        folder: Path,
        exporter: Exporter | SampleExporter,
        kind: str,
        schema: Any,
        shares: Shares,
        seed: int,
        options: dict[str, Any],
        samples: Samples | None,
        shards: Shards | None = None,
    ) -> None:
        (folder / "data").mkdir()
        header = getattr(exporter, "HEADER", None)
        self._folder = folder
        self._exporter: Any = exporter
        self._samples = samples
        #: The trajectories of the group that is being read, for exporters that take them together.
        self._group: list[Trajectory] = []
        self._shares = shares
        self._seed = seed
        self._options = options
        self._files: dict[str, Files] = {
            split: Tables(folder, split, schema, shards)
            if kind == "parquet"
            else Documents(folder, split, kind)
            if kind == "json" or getattr(exporter, "FILE_EACH", False)
            else Lines(folder, split, header)
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

    def take(self, trajectory: Trajectory) -> None:
        """Writes the rows of one trajectory: all of them, or none and the reason."""
        self._in += 1
        if not hasattr(self._exporter, "lines"):
            self._write([trajectory])
            return
        if self._group and (trajectory.group is None or trajectory.group != self._group[0].group):
            self.flush()
        self._group.append(trajectory)

    def flush(self) -> None:
        """Writes what waits for the rest of its group."""
        if self._group:
            self._write(self._group)
        self._group = []

    def _rows_of(self, trajectories: list[Trajectory], leave: Callable[[str], None], gone: set[str]) -> Iterator[Any]:
        samples, exporter, options = self._samples, self._exporter, self._options
        if samples is None:
            yield from exporter.rows(trajectories[0], leave, **options)
        elif hasattr(exporter, "lines"):
            group = [self._made(t, samples, leave, gone) for t in trajectories]
            try:
                yield from exporter.lines(group, **options)
            except Refused as why:
                for made in group:
                    made.refuse(str(why))
        else:
            for sample in allowed(exporter, trajectories[0], samples, leave):
                try:
                    yield exporter.row(sample, **options)
                except Refused as why:
                    leave(str(why))
                    samples.refuse(sample, str(why))

    def _made(self, t: Trajectory, samples: Samples, leave: Callable[[str], None], gone: set[str]) -> Made:
        found = list(allowed(self._exporter, t, samples, leave))
        return Made(t, found, leave, samples.refuse, samples.total(t), samples.unfit(t), gone)

    def _write(self, trajectories: list[Trajectory]) -> None:
        trajectory = trajectories[0]
        before = self._samples.mark() if self._samples is not None else None
        split = split_of(trajectory, self._shares, self._seed)
        files = self._files[split]
        reasons: Counter[str] = Counter()
        gone: set[str] = set()

        def leave(reason: str) -> None:
            reasons[" ".join(str(reason)[:_REASON].split())] += 1

        rows = 0
        with _Held(self._folder) as held:
            try:
                for chunk in files.chunks(self._rows_of(trajectories, leave, gone), trajectory.id):
                    rows += chunk.rows
                    held.add(chunk)
            except (MissingExtra, MemoryError, _NoSpace):
                raise
            except Exception as error:  # one trajectory's content must not cost the others
                rows = 0
                reasons.clear()
                if self._samples is not None and before is not None:
                    self._samples.undo(before, "an error")
                leave(f"an error: {described(error)}")
                if len(self._failed) < _EXAMPLES:
                    self._failed.append({"trajectory": trajectory.id, "error": next(iter(reasons))})
            else:
                for chunk in held:
                    files.write(chunk)
                    self._tables[chunk.table] += chunk.rows
                if not rows and not reasons and self._samples is None:
                    leave("nothing to export")
        if len(self._shares) > 1 and rows > 0:
            self._compare(trajectories, split)
        self._out[split] += len(trajectories) - len(gone) if rows > 0 else 0
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
        files = [_described(self._folder, path) for path in sorted(paths)]
        if self._samples is not None:
            self._left_out.update(self._samples.report.left_out)
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
            **({"samples": self._samples.report.to_dict()} if self._samples is not None else {}),
            "failed": self._failed,
            "contamination": self._contamination,
            "content_hash": content_hash([(f["path"], f["sha256"]) for f in files]),
            "files": files,
        }


def allowed(exporter: Any, t: Trajectory, samples: Samples, leave: Callable[[str], None]) -> Iterator[Any]:
    """The samples of a trajectory; refused where a function chose a policy that the format has no place for."""
    refuses = getattr(exporter, "REFUSES", {})
    for sample in samples.one(t):
        policy = getattr(sample, "policy", None)
        if policy in refuses:
            why = f"edits={policy!r}: {refuses[policy]}"
            leave(why)
            samples.refuse(sample, why)
        else:
            yield sample


class _NoSpace(StoreError):
    """The rows of a large trajectory can't be put aside."""


class _Held:
    """One trajectory's rows until the last of them is seen to be sound: in memory, and on disk where they are large."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._chunks: list[Chunk] = []
        self._size = 0
        self._aside: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._aside is not None:
            self._aside.close()

    def add(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._size += chunk.size
        if self._size > _HOLD:
            try:
                if self._aside is None:
                    self._aside = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed with this
                for held in self._chunks:
                    pickle.dump(held, self._aside, pickle.HIGHEST_PROTOCOL)
            except OSError as error:
                raise _NoSpace(f"rows can't be put aside: {error.strerror or error}") from error
            self._chunks, self._size = [], 0

    def __iter__(self) -> Iterator[Chunk]:
        if self._aside is not None:
            self._aside.seek(0)
            with suppress(EOFError):
                while True:
                    yield pickle.load(self._aside)
        yield from self._chunks


def _described(folder: Path, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": digest}


def options_of(to: str) -> tuple[str, ...] | None:
    """The names of a format's options; None where it takes any. Raises NotFound."""
    exporter: Any = find(to)
    takes = exporter.lines if hasattr(exporter, "lines") else exporter.row if is_of_samples(exporter) else exporter.rows
    first = 1 if is_of_samples(exporter) else 2
    parameters = list(inspect.signature(takes).parameters.values())[first:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return (*(p.name for p in parameters), *(Plan.__struct_fields__ if is_of_samples(exporter) else ()))


def read_options(exporter: Any, name: str, options: dict[str, Any]) -> tuple[dict[str, Any], Plan | None]:
    """The exporter's own options, and how its samples are built."""
    known = options_of(name)
    for option in options if known is not None else ():
        if option not in (known or ()):
            raise InvalidInput(f"{name} has no option {option!r}; it has: {', '.join(known or ()) or 'none'}")
    planned: tuple[str, ...] = Plan.__struct_fields__ if is_of_samples(exporter) else ()
    own = {k: v for k, v in options.items() if k not in planned}
    if not planned:
        return own, None
    asked = {k: v for k, v in options.items() if k in planned}
    words = asked.get("edits", exporter.PLAN.get("edits", "env"))
    for word in [words] if isinstance(words, str) else words.values() if isinstance(words, dict) else []:
        if word in getattr(exporter, "REFUSES", {}):
            raise InvalidInput(f"{name} can't be written with edits={word!r}: {exporter.REFUSES[word]}")
    return own, Plan(**{**exporter.PLAN, **asked, **getattr(exporter, "NEEDS", {})})


def _shards(kind: str, size: int | None, rows: int | None) -> Shards:
    for name, given in (("max_shard_size", size), ("max_shard_rows", rows)):
        if given is None:
            continue
        if kind != "parquet":
            raise InvalidInput(f"{name} is for Parquet, not for {kind}")
        check_count(name, given)
    return Shards(rows=rows) if size is None else Shards(size, rows)


# --- splits ---------------------------------------------------------------------------------------------------------


def _shares(splits: dict[str, float] | None) -> Shares:
    """(name, upper end) of each split in [0, 1]."""
    given = splits or {"train": 1.0}
    if not isinstance(given, dict):
        raise InvalidInput(f"splits map names to shares, such as {{'train': 0.9, 'test': 0.1}}, not {given!r}")
    sound = all(isinstance(v, (int, float)) and math.isfinite(v) and v > 0 for v in given.values())
    if not sound or abs(sum(given.values()) - 1) > 1e-6:
        raise InvalidInput(f"splits are shares above 0 that sum to 1, not {given}")
    ends: Shares = []
    for name, share in given.items():
        if not _SPLIT.fullmatch(name):
            raise InvalidInput(f"a split's name is letters, digits and _, not {name!r}")
        ends.append((name, (ends[-1][1] if ends else 0.0) + share))
    ends[-1] = (ends[-1][0], 2.0)  # whatever the sum was rounded to
    return ends


def split_of(trajectory: Trajectory, shares: Shares, seed: int) -> str:
    """The split of a trajectory: that of its group (over all windows of time), else of its task, else its own."""
    if trajectory.family is not None:
        key: tuple[str, Any] = ("group", trajectory.family)
    elif trajectory.task is not None:
        key = ("task", trajectory.task)
    else:
        key = ("id", trajectory.id)
    position = int(content_hash([seed, *key])[:16], 16) / 2**64
    return next(name for name, end in shares if position < end)


# --- the folder -----------------------------------------------------------------------------------------------------


def _check_free(place: Path, out: str | Path) -> None:
    """Refuses a place where something is that an export would replace, but an earlier export and nothing else."""
    if not place.exists():
        return
    foreign = f"{str(out)!r} is there already and is no export; name a folder that is new or empty"
    if not place.is_dir():
        raise InvalidInput(foreign)
    if not any(place.iterdir()):
        return
    try:
        manifest = loads((place / MANIFEST).read_bytes())
    except (OSError, InvalidInput):
        raise InvalidInput(foreign) from None
    listed = manifest.get("files") if isinstance(manifest, dict) and "odograph" in manifest else None
    if not isinstance(listed, list):
        raise InvalidInput(foreign)
    ours = {MANIFEST, CARD, *(f.get("path") for f in listed if isinstance(f, dict))}
    for path in place.rglob("*"):
        name = path.relative_to(place).as_posix()
        if not path.is_dir() and name not in ours:
            raise InvalidInput(
                f"{str(out)!r} is an export with something else in it: {name!r}; name a folder that is new or empty"
            )


def _move(draft: Path, place: Path) -> None:
    """The finished folder to its place; what was there is gone only when the new one stands there."""
    if not place.exists():
        draft.rename(place)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    place.rename(old / "old")
    try:
        draft.rename(place)
    except BaseException:
        (old / "old").rename(place)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
