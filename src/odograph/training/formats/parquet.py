"""Our own records as Parquet, losslessly: what all records have as columns, and the whole line as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...columns import lines_schema
from ...packing import lines_of
from ...trajectory import Trajectory
from . import LeftOut

NAME = "parquet"
FILES = ("parquet",)


def rows(trajectory: Trajectory, left_out: LeftOut, **options: Any) -> Iterator[dict[str, Any]]:
    """A row per line; messages and token ids have no id of their own."""
    names = [n for n in lines_schema().names if n not in ("kind", "line", "trajectory")]
    for record, line in lines_of(trajectory.id, trajectory.complete_records()):
        row: dict[str, Any] = {"trajectory": trajectory.id, "line": line.rstrip(b"\n").decode()}
        if record is None:
            row["kind"] = msgspec.json.decode(line)["kind"]
        else:
            row["kind"] = str(record.__struct_config__.tag)
            row |= {n: getattr(record, n) for n in names}
        yield row


def schema() -> Any:
    """The columns."""
    return lines_schema()
