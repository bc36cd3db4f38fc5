"""Arrow schemas, derived from the record types. Arrow is imported when one is asked for."""

from __future__ import annotations

from typing import Any

import msgspec

from .errors import MissingExtra
from .types import SCHEMA_VERSION, Record


def arrow() -> Any:
    """The module pyarrow. Raises MissingExtra."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra("Parquet", "lake") from None
    return pyarrow


def lines_schema() -> Any:
    """Our own lines: every plain field that all records have as a column, and the whole line as JSON."""
    pa = arrow()
    kinds: dict[Any, Any] = {str: pa.string(), int: pa.int64(), str | None: pa.string(), int | None: pa.int64()}
    fields = [pa.field("kind", pa.string())]
    fields += [pa.field(f.name, kinds[f.type]) for f in msgspec.structs.fields(Record) if f.type in kinds]
    fields.append(pa.field("line", pa.large_string()))
    return pa.schema(fields, metadata={b"odograph_schema_version": str(SCHEMA_VERSION).encode()})


def text_schema(*names: str, numbers: tuple[str, ...] = ()) -> Any:
    """Columns of text, and then of numbers."""
    pa = arrow()
    return pa.schema([(n, pa.float64() if n in numbers else pa.large_string()) for n in (*names, *numbers)])
