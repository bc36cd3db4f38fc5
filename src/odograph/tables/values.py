"""Arrow's columns and rows as values of Python. Where the layout of the memory is plain the values are taken from the memory:
`to_pylist` makes an object of Arrow for each value first, which takes ten times as long."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

#: Types of numbers, and how Python's memory views name them.
_NUMBERS = {"int64": "q", "int32": "i", "double": "d", "float": "f"}
_SIZES = {"q": 8, "i": 4, "d": 8, "f": 4}


def rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow table, as its `to_pylist` gives them."""
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*map(values_of, table.columns), strict=True)]


def values_of(column: Any) -> list[Any]:
    """The values of a column of Arrow, as its `to_pylist` gives them."""
    chunks = getattr(column, "num_chunks", None)
    if chunks is not None:
        column = column.chunk(0) if chunks == 1 else column.combine_chunks()
    count, nulls, kind = len(column), column.null_count, str(column.type)
    if nulls == count:
        return [None] * count
    found: list[Any]
    if kind in _NUMBERS:
        found = _numbers(column, kind, column.offset, count).tolist()
    elif kind == "string":
        found = _texts(column)
    elif kind.startswith("list<"):
        found = _lists(column)
    else:
        return list(column.to_pylist())
    if not nulls:
        return found
    at, start = divmod(column.offset, 8)
    there = int.from_bytes(memoryview(column.buffers()[0])[at : at + (start + count + 7) // 8], "little") >> start
    return [one if bit == "1" else None for one, bit in zip(found, reversed(f"{there:0{count}b}"), strict=False)]


def _numbers(column: Any, kind: str, start: int, count: int) -> Any:
    """A memory view."""
    letter: Any = _NUMBERS[kind]
    size = _SIZES[letter]
    return memoryview(column.buffers()[1])[start * size : (start + count) * size].cast(letter)


def _texts(column: Any) -> list[str]:
    ends = _numbers(column, "int32", column.offset, len(column) + 1).tolist()
    buffer = column.buffers()[2]
    data = b"" if buffer is None else bytes(memoryview(buffer)[ends[0] : ends[-1]])
    text, first = data.decode(), ends[0]
    each = pairwise(ends)
    if len(text) == len(data):
        return [text[start - first : stop - first] for start, stop in each]
    return [data[start - first : stop - first].decode() for start, stop in each]


def _lists(column: Any) -> list[list[Any]]:
    ends, inner = _numbers(column, "int32", column.offset, len(column) + 1).tolist(), column.values
    kind, first = str(inner.type), ends[0]
    each = pairwise(ends)
    if kind in _NUMBERS and not inner.null_count and len(inner):
        flat = _numbers(inner, kind, inner.offset + first, ends[-1] - first)
        return [flat[start - first : stop - first].tolist() for start, stop in each]
    known = values_of(inner.slice(first, ends[-1] - first))
    return [known[start - first : stop - first] for start, stop in each]
