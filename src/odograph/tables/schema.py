"""What a table is: its columns, what each of them means, and how each is stored. Knows no files.

Every column has an Iceberg field id, which stays the same for ever: columns are only added, in a later generation, and a file of
before reads as null there. The ids are those that Iceberg itself gives: to a new table columns first, then the elements of lists;
to an added column the next ones (https://iceberg.apache.org/spec/#schemas-and-data-types).
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Collection
from functools import cache, cached_property
from typing import Any
from typing import Literal as OneOf

import msgspec

from ..columns import arrow as pyarrow_for

#: Types of columns. `int` has 64 bits, `double` and `float` are IEEE 754 of 64 and 32 bits, `time` is microseconds in UTC.
Type = OneOf["text", "int", "int32", "double", "float", "bool", "time", "texts", "ints", "ids", "doubles", "floats"]
#: How a column is stored: `names` repeat (a dictionary), `plain` ones don't, `split` sorts the bytes of floats. A `shared` column
#: holds hashes of texts that another table keeps once (a dictionary too). A `delta` column says how each number, or each text,
#: differs from the one before. Texts that are `alike` (ids that are no names, for one) are compressed at a level that finds what
#: they have in common, where there is little of them: it takes ten times as long.
Encoding = OneOf["names", "plain", "split", "shared", "delta", "alike"]

_DELTA = ("DELTA_BINARY_PACKED", "DELTA_BYTE_ARRAY")
_LEVEL = 17  # of zstd
#: Columns by which files are chosen, also by Iceberg, which expects their statistics.
_CHOSEN = ("id", "trajectory")
_FEW = 256  # rows for which a dictionary takes more than it saves
_LISTS = {"texts": "text", "ints": "int", "ids": "int32", "doubles": "double", "floats": "float"}


class Column(msgspec.Struct, frozen=True):
    """A column. `doc` stands in the files, where every engine shows it."""

    name: str
    type: Type
    doc: str
    encoding: Encoding = "plain"


class Table(msgspec.Struct, frozen=True, dict=True):
    """A table: its name, what a row is, and its columns by generation (the first is what the table began with)."""

    name: str
    doc: str
    generations: tuple[tuple[Column, ...], ...]
    version: int = 1

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for generation in self.generations for column in generation)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def with_columns(self, *more: Column) -> Table:
        """The table in a later version that has these columns too. Raises ValueError for a name that is there."""
        taken = set(self.names) & {column.name for column in more}
        if taken:
            raise ValueError(f"table {self.name!r} has a column {sorted(taken)[0]!r} already")
        return Table(self.name, self.doc, (*self.generations, more), self.version + 1)

    def only(self, names: Collection[str]) -> Table:
        """The table with some of its columns, which keep their field ids: for a file that has no others."""
        found = Table(self.name, self.doc, (tuple(c for c in self.columns if c.name in names),), self.version)
        found.__dict__["field_ids"] = self.field_ids
        return found

    @cached_property
    def field_ids(self) -> dict[str, int]:
        """Field ids by path: `ids` is a column, `ids.element` the elements of its lists."""
        found: dict[str, int] = {}
        first = self.generations[0]
        for columns in (first, *[(column,) for generation in self.generations[1:] for column in generation]):
            for column in columns:
                found[column.name] = len(found) + 1
            for column in columns:
                if column.type in _LISTS:
                    found[f"{column.name}.element"] = len(found) + 1
        return found

    @cached_property
    def arrow(self) -> Any:
        """The Arrow schema, with field ids and documentation in it. Raises MissingExtra."""
        pa = arrow()
        plain = {
            "text": pa.string(),
            "int": pa.int64(),
            "int32": pa.int32(),
            "double": pa.float64(),
            "float": pa.float32(),
            "bool": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
        }
        fields = []
        for column in self.columns:
            if column.type in _LISTS:
                element = pa.field("element", plain[_LISTS[column.type]], metadata=self._id(f"{column.name}.element"))
                kind = pa.list_(element)
            else:
                kind = plain[column.type]
            fields.append(pa.field(column.name, kind, metadata={**self._id(column.name), b"doc": column.doc.encode()}))
        about = {
            b"odograph.table": self.name.encode(),
            b"odograph.version": str(self.version).encode(),
            b"odograph.encodings": " ".join(column.encoding for column in self.columns).encode(),
            b"doc": self.doc.encode(),
        }
        return pa.schema(fields, metadata=about)

    @cached_property
    def described(self) -> bytes:
        """The Arrow schema for a file's footer, which has field ids elsewhere: with them it takes half as many bytes again."""
        pa = arrow()
        fields = []
        for field in self.arrow:
            kind = pa.list_(pa.field("element", field.type.value_type)) if pa.types.is_list(field.type) else field.type
            fields.append(pa.field(field.name, kind, metadata={b"doc": field.metadata[b"doc"]}))
        return base64.b64encode(pa.schema(fields, metadata=self.arrow.metadata).serialize())

    @classmethod
    def of_arrow(cls, schema: Any) -> Table:
        """The table of a file's schema: for tables whose columns are not known beforehand, of one generation."""
        about = schema.metadata or {}
        encodings = dict(zip(schema.names, about.get(b"odograph.encodings", b"").decode().split(), strict=False))
        columns = []
        for field in schema:
            said = field.metadata or {}
            encoding = encodings.get(field.name) or said.get(b"odograph.encoding", b"plain").decode()  # of an earlier version
            columns.append(Column(field.name, _type_of(field.type), said.get(b"doc", b"").decode(), encoding))
        return cls(about[b"odograph.table"].decode(), about.get(b"doc", b"").decode(), (tuple(columns),))

    def _id(self, path: str) -> dict[bytes, bytes]:
        return {b"PARQUET:field_id": str(self.field_ids[path]).encode()}

    def writing(self, *, lean: int | None, small: bool) -> dict[str, Any]:
        """The options of a Parquet writer: zstd 3, and dictionaries only where values repeat.

        A `small` file has no index and statistics of ids alone, as these would take more than the rows, and is compressed harder.
        `lean`, the number of rows, leaves out the documentation, too: such a file of one row takes 1 KB in place of 6.
        """
        how = {self._path(c): "BYTE_STREAM_SPLIT" for c in self.columns if c.encoding == "split"}
        how |= {self._path(c): _DELTA[c.type == "text"] for c in self.columns if c.encoding == "delta"}
        dictionaries = [self._path(c) for c in self.columns if c.encoding in ("names", "shared")]
        # later versions of pyarrow begin a page every 20,000 rows, which a scan pays for
        pages = {"max_rows_per_page": 1 << 20} if "max_rows_per_page" in _options() else {}
        found: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": {self._path(c): _LEVEL if small or c.encoding == "alike" else 3 for c in self.columns},
            "store_schema": False,  # see `described`
            **pages,
            "use_dictionary": dictionaries if lean is None or lean >= _FEW else False,
            "column_encoding": how or None,
        }
        if lean is not None:
            return {**found, "write_statistics": False}
        statistics = [name for name in self.names if name in _CHOSEN] if small else True
        return {**found, "write_statistics": statistics, "write_page_index": not small, "write_page_checksum": True}

    def _path(self, column: Column) -> str:
        """A column's path as Parquet's options name it."""
        return f"{column.name}.list.element" if column.type in _LISTS else column.name


def _type_of(kind: Any) -> Type:
    """The name of an Arrow type that `Table.arrow` gives."""
    found = _NAMES.get(str(kind))
    if found is None:
        raise ValueError(f"no column has the Arrow type {kind}")
    return found


_NAMES: dict[str, Type] = {
    "string": "text",
    "int64": "int",
    "int32": "int32",
    "double": "double",
    "float": "float",
    "bool": "bool",
    "timestamp[us, tz=UTC]": "time",
    "list<element: string>": "texts",
    "list<element: int64>": "ints",
    "list<element: int32>": "ids",
    "list<element: double>": "doubles",
    "list<element: float>": "floats",
}


@cache
def _options() -> frozenset[str]:
    """The options that this version's writer of Parquet knows."""
    import pyarrow.parquet as parquet

    return frozenset(inspect.signature(parquet.ParquetWriter.__init__).parameters)


def arrow() -> Any:
    """The module pyarrow. Raises MissingExtra."""
    return pyarrow_for("the sealed tier")
