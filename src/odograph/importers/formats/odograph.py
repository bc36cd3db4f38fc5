"""Our own exports, `jsonl` and `parquet`, back into records: with their ids, times, writers and order, losslessly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...codec import DAMAGE, check_version, loads
from ...columns import arrow, message_line, record_line
from ...errors import InvalidInput, NewerStore
from ...store.lines import decode
from ...streams import Growing, IdsLine, MessageLine, Streams
from ...types import SCHEMA_VERSION, AnyRecord, LLMCall
from ..bounds import limit, too_large
from ..session import Session

NAME = "odograph"
BARE = True  # our own copies are whole: a run of ours may have done nothing
_HEADER = b'{"kind":"odograph"'
_JOURNAL = b'{"kind":"journal"'


class _Line(NamedTuple):
    """A line of a trajectory; `where` it stood, for what is said of it if it is damaged."""

    trajectory: str
    data: bytes
    version: int
    where: str


class _Owner(msgspec.Struct):
    trajectory: str


_owner = msgspec.json.Decoder(_Owner).decode


def recognise(path: Path, head: bytes) -> bool:
    """A `jsonl` export's header line; the folder of a `parquet` export."""
    return bool(_files(path, "records")) if path.is_dir() else head.startswith((_HEADER, _JOURNAL))


def _files(path: Path, table: str) -> list[Path]:
    """The files of one table of a `parquet` export, where a folder is one."""
    try:
        manifest = loads((path / "manifest.json").read_bytes())
    except (OSError, InvalidInput):
        return []
    if not isinstance(manifest, dict) or "odograph" not in manifest or manifest.get("to") != "parquet":
        return []
    return sorted((path / table).glob("*.parquet"))


def read(path: Path) -> Iterator[Session]:
    """A session per trajectory; a damaged line costs itself and is warned of. Raises InvalidInput where nothing can be used."""
    bare = 0
    for _, lines in groupby(_from_parquet(path) if path.is_dir() else _from_jsonl(path), key=lambda line: line.trajectory):
        session = _session(lines)
        if session.records:
            yield session
        else:
            bare += 1
    if bare:
        raise InvalidInput(f"{bare} trajectories in {path.name} have no readable record")


def _session(lines: Iterable[_Line]) -> Session:
    session = Session(NAME)
    streams = Streams()
    records: list[AnyRecord] = []
    for line in lines:
        try:
            found = decode(line.data, "", line.version)
        except (InvalidInput, *DAMAGE):
            session.warn(f"a damaged line at {line.where}")
            continue
        if isinstance(found, (MessageLine, IdsLine)):
            streams.add("", found)
        elif found is not None:
            records.append(found)
    # only now: a call may stand before what it refers to, if the file was sorted
    lists = Growing()
    session.records = [streams.fill(r, growing=lists) if isinstance(r, LLMCall) else r for r in records]
    if streams.missing:
        session.warn("a message that a call refers to is missing", len(streams.missing))
    if records:
        session.id = records[0].trajectory
    return session


def _version(value: Any, where: str) -> int:
    if type(value) is not int or value < 1:
        raise InvalidInput(f"{where} has schema version {value!r}; a whole number from 1 was expected")
    try:
        check_version(value, where)
    except NewerStore as error:  # this file alone can't be read; the store can
        raise InvalidInput(str(error)) from None
    return value


def _from_jsonl(path: Path) -> Iterator[_Line]:
    version = SCHEMA_VERSION
    owner, offset = "", 0
    with path.open("rb") as file:
        for line in file:
            where, offset = f"byte {offset}", offset + len(line)
            line = line.strip()
            if line.startswith(_JOURNAL):
                raise InvalidInput(
                    "a journal file of a store: import what `odograph export --to jsonl` writes, or copy the store"
                )
            if line.startswith(_HEADER):  # the first line; or a later one, where files were put together
                header = loads(line)
                version = _version(header.get("schema_version") if isinstance(header, dict) else None, path.name)
                continue
            if not line:
                continue
            with suppress(*DAMAGE):  # then it is most likely of its neighbours' trajectory, which is told of the damage
                owner = _owner(line).trajectory
            yield _Line(owner, line, version, where)


def _from_parquet(path: Path) -> Iterator[_Line]:
    """Each trajectory's messages, then its records: both tables have the trajectories in the same order."""
    messages = groupby(_rows(_files(path, "messages")), key=lambda row: row[0]["trajectory"])
    waiting = next(messages, None)
    for owner, records in groupby(_rows(_files(path, "records")), key=lambda row: row[0]["trajectory"]):
        if waiting is not None and waiting[0] == owner:
            yield from _lines(owner, waiting[1], message_line)
            waiting = next(messages, None)
        yield from _lines(owner, records, record_line)


def _lines(owner: Any, rows: Iterable[tuple[dict[str, Any], int, str]], line_of: Any) -> Iterator[_Line]:
    for row, version, where in rows:
        try:
            data = line_of(row)
        except (*DAMAGE, LookupError, TypeError, AttributeError):
            data = b""
        yield _Line(str(owner), data, version, where)


def _stated(group: Any) -> tuple[int, int]:
    """The packed size of a row group, and what it says that it unpacks to; a number in a list may take no byte."""
    columns = [group.column(n) for n in range(group.num_columns)]
    packed = sum(c.total_compressed_size for c in columns)
    return packed, sum(max(c.total_uncompressed_size, 4 * c.num_values) for c in columns)


def _repeated(batch: Any) -> int:
    """The bytes of the texts in a batch, each as often as it stands there. The batch holds each text once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            size += pc.sum(pc.take(pc.binary_length(column.dictionary), column.indices)).as_py() or 0
    return size


def _rows(files: list[Path]) -> Iterator[tuple[dict[str, Any], int, str]]:
    pyarrow = arrow("reading Parquet")
    import pyarrow.parquet as parquet

    for file in files:
        number = 0
        try:
            texts = [field.name for field in parquet.read_schema(file) if pyarrow.types.is_string(field.type)]
            with parquet.ParquetFile(file, read_dictionary=texts) as source:
                stated = (source.schema_arrow.metadata or {}).get(b"odograph_schema_version", b"")
                version = _version(int(stated) if stated.isdigit() else None, file.name)
                for group in range(source.num_row_groups):
                    packed, size = _stated(source.metadata.row_group(group))
                    name = f"part {group} of {file.name}"
                    if size > limit(packed):
                        raise InvalidInput(too_large(name, f"{size:,}", packed))
                    size = 0
                    for batch in source.iter_batches(batch_size=1024, row_groups=[group]):
                        size += _repeated(batch)
                        if size > limit(packed):
                            raise InvalidInput(too_large(name, f"more than {size:,}", packed))
                        for row in batch.to_pylist():
                            yield row, version, f"row {number} of {file.name}"
                            number += 1
        except pyarrow.ArrowException as error:
            raise InvalidInput(f"{file.name} is damaged: {error}") from None
