"""A row as JSON, or the one sentence that says which of its fields is none: the row's exporter may be anybody's.

A recording keeps a strange object as its repr; in a row a trainer would read that repr as data. Arrays, dataclasses, enums and
the like are written as the values that they stand for.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from ..bounds import has_null, is_finite, is_small
from ..codec import encode
from ..errors import InvalidInput
from ..plain import OPTIONS, foreign

_SHOWN = 40  # characters of a path or a line


def line_of(row: Any, exporter: str) -> bytes:
    """A row as a line of JSON. A row of bytes is one already, or several. Raises InvalidInput for what is no JSON."""
    if not isinstance(row, bytes):
        return json_of(row, exporter) + b"\n"
    for line in row.removesuffix(b"\n").split(b"\n"):
        try:
            msgspec.json.decode(line, type=msgspec.Raw)
        except msgspec.DecodeError as error:
            shown = line[:_SHOWN].decode("utf-8", "backslashreplace")
            raise InvalidInput(f"the exporter {exporter!r} gave a line that is no JSON ({error}): {shown}") from None
    return row if row.endswith(b"\n") else row + b"\n"


def json_of(row: Any, exporter: str) -> bytes:
    """A row as JSON. Raises InvalidInput for what is none."""
    try:
        if type(row) is dict and is_small(row):
            data = orjson.dumps(row, None, OPTIONS)
            if not has_null(data) or is_finite(row):
                return data
    except TypeError:  # as all errors of orjson are
        pass
    found = foreign(row)
    if found is None:
        return encode(row)
    where, what = found
    where = where if len(where) <= _SHOWN else f"{where[:_SHOWN]}..."
    raise InvalidInput(
        f"the exporter {exporter!r} gave a row that is no JSON: {where or 'the row'} {what}; expected are text keys, lists,"
        " texts, finite numbers, true, false and null"
    )
