"""Arrow's values in Python: taken from memory, and the same as Arrow gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from odograph.columns import record_line, record_row
from odograph.tables.schema import Column, Table
from odograph.tables.values import rows_of

_NUMBERS = {"int": some.integers(-(2**63), 2**63 - 1), "int32": some.integers(-(2**31), 2**31 - 1)}
_VALUES: dict[Any, Any] = {
    **_NUMBERS,
    "text": some.text(max_size=5),
    "double": some.floats(),
    "float": some.floats(width=32),
    "bool": some.booleans(),
    "time": some.datetimes(timezones=some.just(None)).map(lambda t: t.replace(tzinfo=None)),
    "texts": some.lists(some.none() | some.text(max_size=3), max_size=3),
    "ints": some.lists(_NUMBERS["int"], max_size=3),
    "ids": some.lists(_NUMBERS["int32"], max_size=3),
    "doubles": some.lists(some.none() | some.floats(), max_size=3),
    "floats": some.lists(some.floats(width=32), max_size=3),
}
TABLE = Table("all", "A column of each type.", (tuple(Column(name, name, "") for name in _VALUES),))


def of(rows: list[Any]) -> Any:
    return pa.Table.from_pylist([dict(zip(_VALUES, row, strict=True)) for row in rows], schema=TABLE.arrow)


_ROWS = some.lists(some.tuples(*(some.none() | each for each in _VALUES.values())), min_size=4, max_size=12)


@settings(max_examples=40)
@given(rows=_ROWS, start=some.integers(0, 3), count=some.integers(1, 12))
def test_values_are_those_that_arrow_gives(rows: list[Any], start: int, count: int) -> None:
    """Of every type of column, with nulls, as a piece of one table and of several: the same values, to the last bit."""
    for whole in (of(rows), pa.concat_tables([of(rows[:2]), of(rows[2:])])):
        table = whole.slice(start, count)
        assert repr(rows_of(table)) == repr(table.to_pylist())


@pytest.mark.parametrize("start", [7, 8, 9, 17])
def test_a_piece_far_into_a_column_has_its_own_nulls(start: int) -> None:
    """Where a piece of a table begins behind the first eight rows, its nulls are those of its rows."""
    row = (1, 2, "a", 0.5, 0.5, True, datetime(2026, 1, 1), ["a", None], [1], [2], [0.5, None], [0.5])
    table = of([(None,) * len(row) if n % 3 == 0 or n == 16 else row for n in range(40)]).slice(start, 20)
    assert repr(rows_of(table)) == repr(table.to_pylist())


@pytest.mark.parametrize(
    "rest", ["", ',"x":1', ',"x":{"y":"}{"},"z":[null,1e-7]', ',"tokens":[{"logprobs":[-0.5,null],"text":"ü"}]']
)
def test_a_row_gives_its_line_byte_for_byte(rest: str) -> None:
    """What has a column and what has none are one line again, as it was written."""
    line = ('{"kind":"llm_call","trajectory":"t","seq":1,"time":2,"writer":"w","id":"i"' + rest + "}").encode()
    row = record_row(line)
    again = record_line(row)
    assert (again == line) if "tokens" not in rest else (record_row(again) == row)
    assert record_line({**row, "body": f" {row['body']} "}).startswith(line[:60])
