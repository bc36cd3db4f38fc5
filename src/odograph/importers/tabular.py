"""Tables of rows, as data sets keep them (Parquet, Arrow, CSV), as JSON lines, which the importers of rows read. A copy lives for
the time of the import."""

from __future__ import annotations

import base64
import csv
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from ..columns import arrow
from ..errors import InvalidInput, described
from ..shape import literal
from .bounds import limit, too_large

_PARQUET = b"PAR1"
_ARROW = (b"ARROW1", b"\xff\xff\xff\xff")  # a file, a stream
_TEXTS = {".csv": ",", ".tsv": "\t"}
_LONGEST = 1 << 30  # a cell of a text, in characters


def is_table(path: Path) -> bool:
    """Whether a file is such a table, by its first bytes; a CSV by its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(6)
    return head.startswith((_PARQUET, *_ARROW)) or (path.suffix.lower() in _TEXTS and bool(head))


@contextmanager
def as_rows(path: Path, most: int | None = None) -> Iterator[Path]:
    """A copy of a table, or of its first rows, under its name with `.jsonl`: each row an object on a line. Raises InvalidInput
    for a damaged or too large one, MissingExtra without pyarrow."""
    with tempfile.TemporaryDirectory(prefix="odograph-") as folder:
        copy = Path(folder, path.stem + ".jsonl")
        rows = _texts(path) if path.suffix.lower() in _TEXTS else _columns(path)
        with copy.open("w", encoding="utf-8", errors="surrogatepass") as target:
            for row in islice(rows, most):
                target.write(json.dumps(row, default=_plain, ensure_ascii=False) + "\n")
        yield copy


def _plain(value: Any) -> str:
    """Bytes in base64, as JSON files of data sets have them; a time or a decimal number as text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _texts(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            for row in csv.DictReader((line.replace("\0", "") for line in file), delimiter=_TEXTS[path.suffix.lower()]):
                yield {str(name): _cell(value) for name, value in row.items() if name is not None}
    except csv.Error as error:
        raise InvalidInput(f"a damaged table: {error}") from None


def _cell(value: Any) -> Any:
    """A cell: the list or object that it holds in JSON's or Python's notation, nothing where it is empty, else its text."""
    if not isinstance(value, str) or not value:
        return None
    return literal(value) if value[0] in "[{" else value


def _columns(path: Path) -> Iterator[dict[str, Any]]:
    pa = arrow("a table in Parquet or Arrow")
    import pyarrow.ipc as ipc
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as head:
            magic = head.read(6)
        if magic.startswith(_PARQUET):
            with pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    group = file.metadata.row_group(number)
                    packed = sum(group.column(n).total_compressed_size for n in range(group.num_columns))
                    if group.total_byte_size > limit(packed):
                        raise InvalidInput(too_large(f"row group {number}", f"{group.total_byte_size:,}", packed))
                for batch in file.iter_batches(batch_size=256):
                    yield from batch.to_pylist()
            return
        with pa.OSFile(str(path)) as source:
            reader = ipc.open_file(source) if magic.startswith(_ARROW[0]) else ipc.open_stream(source)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if magic.startswith(_ARROW[0]) else iter(reader)
            for batch in batches:
                for start in range(0, batch.num_rows, 256):
                    yield from batch.slice(start, 256).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"a damaged table: {described(error)}") from None
