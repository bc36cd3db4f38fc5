"""Targets of exports, one a file. Built-ins and other packages' (entry points `odograph.exporters`) come through one door.

An exporter of trajectories is a module, or any object, with a `NAME`, a sentence in its docstring, the kinds of `FILES`
that it can be
written as (the first is the default) and `rows`. It may also have `schema(**options)` (it must, where Parquet is among its
files), `HEADER` (the first line of its JSON lines), `FILE_EACH` (each row is a file of its own) and `card(manifest)` (the text of
a README.md).

An exporter of samples has in place of `rows` a `PLAN` (how its samples are built where nobody says otherwise) and `row(sample)`,
or, where the trajectories of a group or the calls of a trajectory belong together, `lines(group)`. `NEEDS` is what its samples
have to be like, `REFUSES` the policies for edits that the format has no place for, and why. Both raise `Refused` for a
sample that the format can't hold; `lines` says `made.refuse(why)` of one of the group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from ...errors import InvalidInput, UnknownName
from ...plugins import entry_points, load
from ...trajectory import Trajectory
from ..views import LeftOut

__all__ = ["NAMES", "Exporter", "LeftOut", "Made", "Refused", "SampleExporter", "find", "is_of_samples", "names"]


class Refused(Exception):
    """Why a sample can't be given in a format. It costs the sample, or with `lines` the line, and nothing else."""


class Exporter(Protocol):
    """What an exporter has."""

    NAME: str
    #: Of "parquet", "jsonl", "json" (one file a row): the first is the default.
    FILES: tuple[str, ...]

    def rows(self, trajectory: Trajectory, left_out: LeftOut, **options: Any) -> Iterator[Any]:
        """The rows of one trajectory, and `left_out(reason)` for what gives none. Options are its own keyword arguments.

        A row is a dict, or for JSON lines also a whole line as bytes. What it raises leaves this trajectory out, whole.
        """
        ...


class Made(NamedTuple):
    """A trajectory and its samples, and whom to tell of one that can't be given."""

    trajectory: Trajectory
    samples: list[Any]
    left_out: LeftOut
    refused: Callable[[Any, str], None]
    #: The reward that counts, as it was asked for.
    reward: float | None
    #: Why nothing is trained of it: then there are no samples.
    unfit: str | None
    #: The ids of those of which there is nothing in any row.
    gone: set[str]

    def refuse(self, why: str, sample: Any = None) -> None:
        """A sample, or all of them, can't be given: it is accounted for."""
        self.left_out(why)
        if sample is None:
            self.gone.add(self.trajectory.id)
        for one in self.samples if sample is None else [sample]:
            self.refused(one, why)


class SampleExporter(Protocol):
    """What an exporter of samples has: `row`, or `lines`."""

    NAME: str
    FILES: tuple[str, ...]
    #: Arguments of `odograph.samples` where nobody says otherwise.
    PLAN: dict[str, Any]

    def row(self, sample: Any, **options: Any) -> Any:
        """The row of one `Sample` (or with `edits="pair"` one `Pair`)."""
        ...

    def lines(self, group: list[Made], **options: Any) -> Iterator[Any]:
        """The rows of a group's trajectories (of one that is in no group, alone)."""
        ...


class WithSchema(Exporter, Protocol):
    """An exporter that can be written as Parquet."""

    def schema(self, **options: Any) -> Any:
        """The Arrow schema of the rows, or {table: schema}: then `rows` gives (table, row)."""
        ...


NAMES: tuple[str, ...] = (
    "hf",
    "trl-sft",
    "trl-dpo",
    "trl-kto",
    "trl-grpo",
    "art",
    "verifiers",
    "tinker",
    "verl",
    "prime-rl",
    "slime",
    "agent-lightning",
    "hf-traces",
    "openai",
    "atif",
    "jsonl",
    "parquet",
)


def is_of_samples(exporter: Any) -> bool:
    """Whether an exporter takes samples, not trajectories."""
    return hasattr(exporter, "PLAN")


@cache
def _builtin(name: str) -> Exporter:
    return cast(Exporter, import_module(f".{name.replace('-', '_')}", __name__))


def names() -> list[str]:
    """All exporters that can be named."""
    return [*NAMES, *entry_points("odograph.exporters")]


def find(name: str) -> Exporter:
    """The exporter of a name, of `package:object`, or of a Python file. Raises NotFound, InvalidInput."""
    if name in NAMES:
        return _builtin(name)
    found = load(name, "odograph.exporters")
    if found is None:
        raise UnknownName(f"no exporter named {name!r}; there are: {', '.join(names())}")
    given = "rows" if not is_of_samples(found) else "lines" if hasattr(found, "lines") else "row"
    lacks = [part for part in ("NAME", "FILES", given) if not hasattr(found, part)]
    if not lacks and "parquet" in found.FILES and not hasattr(found, "schema"):
        lacks = ["schema"]
    if lacks:
        raise InvalidInput(f"{name!r} is no exporter: it has no {', '.join(lacks)}")
    return cast(Exporter, found)
