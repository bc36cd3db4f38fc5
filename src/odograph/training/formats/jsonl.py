"""Our own records as JSON lines, losslessly and once each: `odograph import` reads them back into an equal store."""

from __future__ import annotations

from collections.abc import Iterator

from ...packing import lines_of
from ...trajectory import Trajectory
from ...types import SCHEMA_VERSION
from . import LeftOut

NAME = "jsonl"
FILES = ("jsonl",)
HEADER = {"kind": "odograph", "schema_version": SCHEMA_VERSION}


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[bytes]:
    """The trajectory's lines: messages and token ids before the call that needs them."""
    if not trajectory.id:
        left_out("a trajectory without an id: add it to a store first")
        return
    for _, line in lines_of(trajectory.id, trajectory.complete_records(growing=True)):
        yield line
