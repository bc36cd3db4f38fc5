"""Our own exports, `jsonl` and `parquet`, back into records: with their ids, times and order, losslessly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..codec import DAMAGE, check_version, loads
from ..errors import InvalidInput, MissingExtra
from ..store.lines import Header, complete_lines
from ..types import SCHEMA_VERSION
from .own import records_of_lines
from .session import Session

NAME = "odograph"


def recognise(path: Path, head: bytes) -> bool:
    """A `jsonl` export's header line; the folder of a `parquet` export."""
    return bool(_parquet(path)) if path.is_dir() else head.startswith((b'{"kind":"odograph"', b'{"kind":"journal"'))


def _parquet(path: Path) -> list[Path]:
    """The files of a `parquet` export, where a folder is one."""
    try:
        manifest = loads((path / "manifest.json").read_bytes())
    except (OSError, InvalidInput):
        return []
    if not isinstance(manifest, dict) or manifest.get("to") != "parquet":
        return []
    return sorted((path / "data").glob("*.parquet"))


def read(path: Path) -> Iterator[Session]:
    """A session per trajectory. Raises InvalidInput where a file is damaged or newer than this version."""
    lines = _from_parquet(_parquet(path)) if path.is_dir() else _from_jsonl(path)
    current: str | None = None
    held: list[Any] = []
    version = SCHEMA_VERSION
    for trajectory, line, version in lines:
        if current is not None and trajectory != current:
            yield _session(held, version)
            held = []
        current = trajectory
        held.append(line)
    if held:
        yield _session(held, version)


def _session(lines: list[bytes], version: int) -> Session:
    session = Session(NAME)
    session.records = list(records_of_lines(lines, version))
    if not session.records:
        raise InvalidInput("a trajectory without a record")
    session.id = session.records[0].trajectory
    return session


def _from_jsonl(path: Path) -> Iterator[tuple[str, bytes, int]]:
    version = SCHEMA_VERSION
    for offset, line in complete_lines(path, 0):
        if offset == 0:
            header = loads(line)
            version = header.get("schema_version", SCHEMA_VERSION) if isinstance(header, dict) else SCHEMA_VERSION
            check_version(version, path.name)
            if isinstance(header, dict) and header.get("kind") == str(Header.__struct_config__.tag):
                raise InvalidInput(
                    "a journal file of a store: import what `odograph export --to jsonl` writes, or copy the store"
                )
            continue
        if not line:
            continue
        try:
            value = loads(line)
        except (InvalidInput, *DAMAGE):
            raise InvalidInput(f"a damaged line at byte {offset} of {path.name}") from None
        if not isinstance(value, dict) or not isinstance(value.get("trajectory"), str):
            raise InvalidInput(f"a line without a trajectory at byte {offset} of {path.name}")
        yield value["trajectory"], line, version


def _from_parquet(files: list[Path]) -> Iterator[tuple[str, bytes, int]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra("reading Parquet", "lake") from None
    for file in files:
        source = parquet.ParquetFile(file)
        meta = source.schema_arrow.metadata or {}
        version = int(meta.get(b"odograph_schema_version", SCHEMA_VERSION))
        check_version(version, file.name)
        batches: Any = source.iter_batches(columns=["trajectory", "line"])
        for batch in batches:
            for trajectory, line in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                yield trajectory, line.encode(), version
