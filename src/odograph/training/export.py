"""Trajectories -> files of a format, with a manifest. Streams: memory does not grow with what is exported.

A folder is written beside its place and moved there when it is whole. Splits are by group, by a hash of the group's name and
the seed: a trajectory stays in its split when others are added, and a task is never in two.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..clock import iso_time
from ..codec import content_hash, encode
from ..columns import arrow
from ..errors import InvalidInput, StoreError
from ..trajectory import Trajectory
from ..types import SCHEMA_VERSION, VERSION
from .formats import Exporter, find

_BATCH = 1000
_SHARD_ROWS = 100_000
MANIFEST = "manifest.json"


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
    **options: Any,
) -> dict[str, Any]:
    """Writes `trajectories` to the folder `out` in the format named `to`; returns the manifest, which is written too.

    `format`: the kind of file, where the exporter has several. `splits`: name -> share, by group. `asked`: what the manifest
    says was asked for. `progress(n)` after each trajectory. Raises NotFound, InvalidInput, MissingExtra, StoreError.
    """
    exporter = find(to)
    kind = format or exporter.FILES[0]
    if kind not in exporter.FILES:
        raise InvalidInput(f"{to} can't be written as {kind!r}; it can as: {', '.join(exporter.FILES)}")
    shares = _shares(splits)
    place = Path(out)
    if place.exists() and not (place.is_dir() and (not any(place.iterdir()) or (place / MANIFEST).is_file())):
        raise InvalidInput(f"{str(place)!r} is there already and is no export; name a folder that is new or empty")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise StoreError(f"{str(place)!r} can't be written: {error.strerror}") from error
    try:
        draft.chmod(0o755)
        manifest = _write(trajectories, draft, exporter, kind, shares, seed, progress, options)
        manifest = {"to": to, "format": kind, "asked": asked or {}, "options": options, "splits": splits, "seed": seed, **manifest}
        if hasattr(exporter, "card"):
            (draft / "README.md").write_text(exporter.card(manifest), encoding="utf-8")
        (draft / MANIFEST).write_bytes(encode(manifest))
        if place.exists():
            shutil.rmtree(place)
        draft.rename(place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest


def _shares(splits: dict[str, float] | None) -> list[tuple[str, float]]:
    """(name, upper end) of each split in [0, 1]."""
    given = splits or {"train": 1.0}
    if any(not isinstance(v, (int, float)) or v <= 0 for v in given.values()) or abs(sum(given.values()) - 1) > 1e-6:
        raise InvalidInput(f"splits are shares above 0 that sum to 1, not {given}")
    ends: list[tuple[str, float]] = []
    for name, share in given.items():
        if not name.replace("_", "").replace("-", "").isalnum():
            raise InvalidInput(f"a split's name is letters, digits, - and _, not {name!r}")
        ends.append((name, (ends[-1][1] if ends else 0.0) + share))
    ends[-1] = (ends[-1][0], 2.0)
    return ends


def split_of(trajectory: Trajectory, shares: list[tuple[str, float]], seed: int) -> str:
    """The split of a trajectory: that of its group, or of its task where it has none."""
    key = trajectory.group if trajectory.group is not None else content_hash(trajectory.task) if trajectory.task is not None else trajectory.id
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return next(name for name, end in shares if position < end)


def _write(
    trajectories: Iterable[Trajectory],
    folder: Path,
    exporter: Exporter,
    kind: str,
    shares: list[tuple[str, float]],
    seed: int,
    progress: Callable[[int], None] | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    (folder / "data").mkdir()
    writers: dict[str, _Files] = {}
    left_out: Counter[str] = Counter()
    seen = used = rows = 0
    for trajectory in trajectories:
        seen += 1
        split = split_of(trajectory, shares, seed)
        writer = writers.get(split)
        if writer is None:
            writer = writers[split] = _Files(folder / "data", split, exporter, kind)
        count = 0
        reasons: Counter[str] = Counter()

        def leave(reason: str, reasons: Counter[str] = reasons) -> None:
            reasons[reason] += 1

        try:
            for row in exporter.rows(trajectory, leave, **options):
                writer.add(row, trajectory.id)
                count += 1
        except (OSError, TypeError, MemoryError):
            raise
        except Exception as error:  # one trajectory's content must not cost the others
            reasons[f"an error: {type(error).__name__}: {error}"] += 1
        left_out += reasons
        used += count > 0
        rows += count
        if progress is not None:
            progress(seen)
    if not writers:
        writers[shares[0][0]] = _Files(folder / "data", shares[0][0], exporter, kind)
    names = [name for w in writers.values() for name in w.close()]
    files = [_described(folder, p) for p in sorted(names)]
    return {
        "odograph": VERSION,
        "schema_version": SCHEMA_VERSION,
        "created": iso_time(time.time_ns()),
        "trajectories": {"in": seen, "out": used},
        "rows": rows,
        "rows_by_split": {name: w.rows for name, w in writers.items()},
        "left_out": dict(left_out.most_common()),
        "files": files,
    }


def _described(folder: Path, path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"path": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


class _Files:
    """The files of one split, written as rows come."""

    def __init__(self, folder: Path, split: str, exporter: Exporter, kind: str) -> None:
        self._folder = folder
        self._split = split
        self._kind = kind
        self._paths: list[Path] = []
        self._rows: list[dict[str, Any]] = []
        self._in_shard = 0
        self._writer: Any = None
        self._file: Any = None
        self.rows = 0
        if kind == "parquet":
            self._schema = exporter.schema()
        elif kind == "jsonl":
            path = folder / f"{split}.jsonl"
            self._paths.append(path)
            self._file = path.open("wb")
            header = getattr(exporter, "HEADER", None)
            if header is not None:
                self._file.write(encode(header) + b"\n")

    def add(self, row: Any, trajectory: str) -> None:
        if self._kind == "json":
            path = self._folder / f"{self._split}-{trajectory}.json"
            self._paths.append(path)
            path.write_bytes(encode(row))
            self.rows += 1
            return
        if self._kind == "jsonl":
            self._file.write(row if isinstance(row, bytes) else encode(row) + b"\n")
            self.rows += 1
            return
        self._rows.append(row)
        self.rows += 1
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        pa = arrow()
        import pyarrow.parquet as parquet

        if self._writer is None:
            if self._rows and set(self._rows[0]) != set(self._schema.names):
                self._schema = pa.schema([f for f in self._schema if f.name in self._rows[0]], metadata=self._schema.metadata)
            path = self._folder / f"{self._split}-{len(self._paths):05d}.parquet"
            self._paths.append(path)
            self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._in_shard += len(self._rows)
        self._rows = []
        if self._in_shard >= _SHARD_ROWS:
            self._writer.close()
            self._writer = None
            self._in_shard = 0

    def close(self) -> list[Path]:
        """The files, under the names that `datasets` expects: split-00000-of-00001."""
        if self._file is not None:
            self._file.close()
        if self._kind == "parquet":
            if self._rows or not self._paths:
                self._flush()
            if self._writer is not None:
                self._writer.close()
            total = len(self._paths)
            self._paths = [p.rename(p.with_name(f"{p.stem}-of-{total:05d}.parquet")) for p in self._paths]
        return self._paths
