"""Rows -> the files of one split. Knows kinds of files; nothing of trajectories.

Writing has two halves, so that a row that can't be written is found before anything of its trajectory is: `chunks` makes
what will be written, `write` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..codec import content_hash
from ..columns import arrow
from ..errors import InvalidInput
from .jsonrow import json_of, line_of

_ROWS = 64  # rows that become one Arrow batch: few, as one row may hold a long prompt
_BATCHES = 256  # batches, of which one is made
_GROUP_BYTES, _GROUP_ROWS = 32 << 20, 50_000  # a row group in a Parquet file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


class Shards(NamedTuple):
    """How much of a table is in one Parquet file: bytes before compression, and rows."""

    bytes: int = 512 << 20
    rows: int | None = None


class Chunk(NamedTuple):
    """Some rows as they will be written: their table where there are several, their bytes or batch, and their size in bytes."""

    table: str
    rows: int
    data: Any
    size: int


class Lines:
    """JSON lines: `data/<split>.jsonl`."""

    def __init__(self, folder: Path, split: str, exporter: str, header: Any = None) -> None:
        self._path = folder / "data" / f"{split}.jsonl"
        self._exporter = exporter
        self._header = None if header is None else line_of(header, exporter)
        self._file: Any = None

    def chunks(self, rows: Iterable[Any], name: str) -> Iterator[Chunk]:
        for row in rows:
            data = line_of(row, self._exporter)
            yield Chunk("", 1, data, len(data))

    def write(self, chunk: Chunk) -> None:
        if self._file is None:
            self._file = self._path.open("wb")
            self._file.write(self._header or b"")
        self._file.write(chunk.data)

    def close(self, needed: bool) -> list[Path]:
        """The files. Without rows there is none (readers of JSON lines refuse an empty file), unless it is `needed`."""
        if self._file is None and (needed or self._header):
            self.write(Chunk("", 0, b"", 0))
        if self._file is None:
            return []
        self._file.close()
        return [self._path]


class Documents:
    """One file a row: `data/<split>-<trajectory>.json`, or of another kind."""

    def __init__(self, folder: Path, split: str, exporter: str, kind: str = "json") -> None:
        self._folder = folder / "data"
        self._split = split
        self._exporter = exporter
        self._kind = kind
        self._paths: list[Path] = []

    def chunks(self, rows: Iterable[Any], name: str) -> Iterator[Chunk]:
        name = name if _NAME.fullmatch(name) else content_hash(name)  # an id is content: it must not lead out of the folder
        for number, row in enumerate(rows):
            data = row if isinstance(row, bytes) and self._kind != "json" else json_of(row, self._exporter)
            file = f"{self._split}-{name}{f'-{number}' if number else ''}.{self._kind}"
            yield Chunk("", 1, (file, data), len(data))

    def write(self, chunk: Chunk) -> None:
        name, data = chunk.data
        path = self._folder / name
        path.write_bytes(data)
        self._paths.append(path)

    def close(self, needed: bool) -> list[Path]:
        return self._paths


class Tables:
    """Parquet: `data/<split>-00000-of-00001.parquet`; of an exporter with several tables, `<table>/<split>-...`."""

    def __init__(self, folder: Path, split: str, exporter: str, schema: Any, shards: Shards | None = None) -> None:
        self._exporter = exporter
        tables: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {"": schema}
        self._several = isinstance(schema, Mapping)
        self._schemas = tables
        self._tables = {name: _Table(folder / (name or "data"), split, one, shards or Shards()) for name, one in tables.items()}

    def chunks(self, rows: Iterable[Any], name: str) -> Iterator[Chunk]:
        held: dict[str, list[Any]] = {table: [] for table in self._schemas}
        for row in rows:
            table, fields = row if self._several else ("", row)
            if table not in held:
                raise InvalidInput(
                    f"the exporter {self._exporter!r} gave a row of table {table!r}; its tables are {', '.join(held)}"
                )
            held[table].append(fields)
            if len(held[table]) >= _ROWS:
                yield self._chunk(table, held[table])
                held[table] = []
        for table, rest in held.items():
            if rest:
                yield self._chunk(table, rest)

    def _chunk(self, table: str, rows: list[Any]) -> Chunk:
        schema = self._schemas[table]
        try:
            batch = arrow().RecordBatch.from_pylist(rows, schema=schema)
        except Exception:
            wrong = next((one for row in rows if (one := _wrong(row, schema)) is not None), None)
            if wrong is None:
                raise
            raise InvalidInput(f"the exporter {self._exporter!r} gave a row that its schema can't hold: {wrong}") from None
        return Chunk(table, len(rows), batch, batch.nbytes)

    def write(self, chunk: Chunk) -> None:
        self._tables[chunk.table].add(chunk)

    def close(self, needed: bool) -> list[Path]:
        """The files; a table without rows has an empty one, which says its columns."""
        return [path for table in self._tables.values() for path in table.close()]


def _wrong(row: Any, schema: Any) -> str | None:
    """What of a row is not of the schema."""
    if not isinstance(row, Mapping):
        return f"the row is of type {type(row).__name__}, and a dict was expected"
    for field in schema:
        value = row.get(field.name)
        try:
            arrow().array([value], field.type)
        except Exception as error:
            return f"{field.name} is of type {type(value).__name__}, and {field.type} was expected ({error})"
    return None


class _Table:
    """One table of one split, as shards."""

    def __init__(self, folder: Path, split: str, schema: Any, shards: Shards) -> None:
        self._folder = folder
        self._split = split
        self._schema = schema
        self._shards = shards
        self._paths: list[Path] = []
        self._writer: Any = None
        self._held: list[Any] = []
        self._rows = self._bytes = self._shard = self._shard_rows = self._small = 0

    def add(self, chunk: Chunk) -> None:
        data = chunk.data
        while data.num_rows:
            room = data.num_rows if self._shards.rows is None else self._shards.rows - self._shard_rows - self._rows
            part, data = data.slice(0, room), data.slice(room)
            self._held.append(part)
            self._small += 1
            if self._small >= _BATCHES:  # a batch of a few rows takes many times what is in it
                whole = arrow().Table.from_batches(self._held[-_BATCHES:], schema=self._schema)
                self._held[-_BATCHES:] = whole.combine_chunks().to_batches()
                self._small = 0
            self._rows += part.num_rows
            self._bytes += chunk.size * part.num_rows // chunk.rows
            full = self._shard_rows + self._rows == self._shards.rows or self._shard + self._bytes >= self._shards.bytes
            if full or self._bytes >= _GROUP_BYTES or self._rows >= _GROUP_ROWS:
                self._flush()

    def _flush(self) -> None:
        import pyarrow.parquet as parquet

        if self._writer is None:
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{self._split}-{len(self._paths):05d}.parquet"
            self._paths.append(path)
            self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        if self._held:  # readers refuse a row group without rows
            self._write()

    def _write(self) -> None:
        self._writer.write_table(arrow().Table.from_batches(self._held, schema=self._schema).combine_chunks())
        self._shard += self._bytes
        self._shard_rows += self._rows
        self._held, self._rows, self._bytes, self._small = [], 0, 0, 0
        if self._shard >= self._shards.bytes or self._shard_rows == self._shards.rows:
            self._writer.close()
            self._writer, self._shard, self._shard_rows = None, 0, 0

    def close(self) -> list[Path]:
        """The files, under the names that `datasets` expects: split-00000-of-00001."""
        if self._held or not self._paths:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        total = len(self._paths)
        return [p.rename(p.with_name(f"{p.stem}-of-{total:05d}.parquet")) for p in self._paths]
