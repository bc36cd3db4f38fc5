"""Targets of exports, one a file. Built-ins and other packages' (entry points `odograph.exporters`) come through one door.

An exporter is a module, or any object: a `TrajectoryExporter`, a `SampleExporter` or a `GroupExporter`. What it may have beside
is declared, with its default, by `Target`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol, get_args

import msgspec

from ...errors import InvalidInput, did_you_mean
from ...plugins import Door
from ...trajectory import Trajectory
from ..plan import Plan
from ..views import LeftOut

__all__ = [
    "NAMES",
    "GroupExporter",
    "LeftOut",
    "Made",
    "Refused",
    "SampleExporter",
    "Target",
    "TrajectoryExporter",
    "find",
    "names",
]


class Refused(Exception):
    """Why a sample can't be given in a format. It costs the sample, or with `lines` the line, and nothing else."""


class Made:
    """A trajectory with its samples, and whom to tell of one that can't be given."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self.samples: list[Any] = []
        #: The reward that counts, as it was asked for; with credit per step what was earned from each step on.
        self.reward: float | None = None
        self.returns: list[float] | None = None
        #: Why nothing is trained of it: then there are no samples.
        self.unfit: str | None = None
        #: Whether nothing of it is in any row.
        self.gone = False

    def left_out(self, why: str) -> None:
        """Tells why something of it gives no row."""
        raise NotImplementedError

    def refused(self, sample: Any, why: str) -> None:
        """Tells the account of a sample that is not given, without a reason in `left_out`."""
        raise NotImplementedError

    def refuse(self, why: str, sample: Any = None) -> None:
        """A sample, or all of them, can't be given: it is accounted for."""
        self.left_out(why)
        self.gone = self.gone or sample is None
        for one in self.samples if sample is None else [sample]:
            self.refused(one, why)


class TrajectoryExporter(Protocol):
    """An exporter of trajectories."""

    NAME: str
    #: Of "parquet", "jsonl", "json" (one file a row): the first is the default.
    FILES: tuple[str, ...]

    @property
    def rows(self) -> Callable[..., Iterator[Any]]:
        """`rows(trajectory, left_out, **options)`: the rows of one trajectory, and `left_out(reason)` for what gives none.

        A row is a dict, or for JSON lines also a whole line as bytes. What it raises leaves this trajectory out, whole.
        """
        ...


class SampleExporter(Protocol):
    """An exporter of samples, one row each."""

    NAME: str
    FILES: tuple[str, ...]
    #: Options of `odograph.samples` where nobody says otherwise.
    PLAN: dict[str, Any]

    @property
    def row(self) -> Callable[..., Any]:
        """`row(sample, **options)`: the row of one `Sample` (or with `edits="pair"` one `Pair`). It may raise `Refused`."""
        ...


class GroupExporter(Protocol):
    """An exporter of samples, where the trajectories of a group or the calls of a trajectory belong together."""

    NAME: str
    FILES: tuple[str, ...]
    PLAN: dict[str, Any]

    @property
    def lines(self) -> Callable[..., Iterator[Any]]:
        """`lines(group, **options)`: the rows of a list of `Made`, a group's trajectories (or one that is in no group)."""
        ...


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An exporter as it was found: what it has, and the default of what it has not."""

    name: str
    files: tuple[str, ...]
    #: One of these three.
    rows: Callable[..., Iterator[Any]] | None = None
    row: Callable[..., Any] | None = None
    lines: Callable[..., Iterator[Any]] | None = None
    #: `PLAN`: how its samples are built where nobody says otherwise. `NEEDS`: what they have to be like.
    plan: dict[str, Any] = {}
    needs: dict[str, Any] = {}
    #: `REFUSES`: words of `edits` and of `credit`, and names of options of samples, for which the format has no place, and why.
    refuses: dict[str, str] = {}
    #: `ADVANTAGES`: the convention by which its trainer makes advantages itself, of one reward a trajectory; None: it has a
    #: place for ours.
    advantages: str | None = None
    #: `schema(**options)`: the Arrow schema of the rows, or {table: schema}, where `rows` gives (table, row). Parquet needs it.
    schema: Callable[..., Any] | None = None
    #: `HEADER`: the first line of its JSON lines. `FILE_EACH`: each row is a file of its own.
    header: Any = None
    file_each: bool = False
    #: `card(manifest)`: the text of a README.md.
    card: Callable[[dict[str, Any]], str] | None = None

    @classmethod
    def of(cls, name: str, exporter: Any) -> Target:
        """Raises InvalidInput for what is no exporter."""
        given = {field.lower(): getattr(exporter, field) for field in _CONSTANTS if hasattr(exporter, field)}
        given |= {field: getattr(exporter, field) for field in ("schema", "card") if hasattr(exporter, field)}
        takes = "rows" if "plan" not in given else "lines" if hasattr(exporter, "lines") else "row"
        lacks = [part for part in ("NAME", "FILES", takes) if not hasattr(exporter, part)]
        if not lacks and "parquet" in exporter.FILES and "schema" not in given:
            lacks = ["schema"]
        if lacks:
            raise InvalidInput(f"{name!r} is no exporter: it has no {', '.join(lacks)}")
        if not exporter.FILES or not set(exporter.FILES) <= _FILES:
            raise InvalidInput(
                f"{name!r} is no exporter: FILES is a tuple of {', '.join(sorted(_FILES))}, not {exporter.FILES!r}"
            )
        for part in (takes, "schema", "card"):
            if not callable(found := getattr(exporter, part, str)):
                raise InvalidInput(f"{name!r} is no exporter: {part} is a function, not {found!r}")
        for part in ("PLAN", "NEEDS", "REFUSES"):
            if not isinstance(found := given.get(part.lower(), {}), dict):
                raise InvalidInput(f"{name!r} is no exporter: {part} is a dict, not {found!r}")
            for option in found if part != "REFUSES" else ():
                if option not in (known := Plan.__struct_fields__):
                    there = f"there are: {', '.join(known)}{did_you_mean(str(option), known)}"
                    raise InvalidInput(
                        f"{name!r} is no exporter: {part} names {option!r}, which is no option of samples; {there}"
                    )
        return cls(**{**given, "name": name, takes: getattr(exporter, takes)})

    @property
    def of_samples(self) -> bool:
        """Whether it takes samples, not trajectories."""
        return self.rows is None

    @property
    def options(self) -> tuple[str, ...] | None:
        """The names of its options; None where it takes any."""
        takes: Any = self.rows or self.row or self.lines
        parameters = list(inspect.signature(takes).parameters.values())[1 if self.of_samples else 2 :]
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return None
        return (*(p.name for p in parameters), *(Plan.__struct_fields__ if self.of_samples else ()))

    def read(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], Plan | None]:
        """Its own options, and how its samples are built. Raises InvalidInput."""
        known = self.options
        for option in options if known is not None else ():
            if option not in (known or ()):
                raise InvalidInput(f"{self.name} has no option {option!r}; it has: {', '.join(known or ()) or 'none'}")
        if not self.of_samples:
            return dict(options), None
        planned = Plan.__struct_fields__
        asked = {k: v for k, v in options.items() if k in planned}
        plan = Plan(**{**self.plan, **asked, **self.needs})
        words = plan.edits.values() if isinstance(plan.edits, dict) else [plan.edits]
        for word in words:
            if isinstance(word, str) and word in self.refuses:
                raise InvalidInput(f"{self.name} can't be written with edits={word!r}: {self.refuses[word]}")
        if self.advantages is not None and (plan.advantage is not None or plan.credit in ("last", "per-step")):
            name = f"advantage={plan.advantage!r}" if plan.advantage is not None else f"credit={plan.credit!r}"
            why = "its trainer makes advantages itself, of one reward a trajectory"
            raise InvalidInput(f"{self.name} can't be written with {name}: {why}")
        if plan.credit == "per-step" and plan.advantage is None:
            raise InvalidInput(
                f"{self.name} can't be written with credit='per-step' alone: it is of advantages, give advantage= too"
            )
        for name, value in asked.items():
            if name in self.refuses and value is not None:
                raise InvalidInput(f"{self.name} can't be written with {name}=: {self.refuses[name]}")
        if plan.credit in self.refuses:
            raise InvalidInput(f"{self.name} can't be written with credit={plan.credit!r}: {self.refuses[plan.credit]}")
        return {k: v for k, v in options.items() if k not in planned}, plan


#: The kinds of files that exporters write.
Files = Literal["json", "jsonl", "parquet"]
_FILES = frozenset(get_args(Files))
_CONSTANTS = ("FILES", "PLAN", "NEEDS", "REFUSES", "ADVANTAGES", "HEADER", "FILE_EACH")

DOOR = Door("exporter", "odograph.exporters", __name__, ("NAME", "FILES"))
#: The names of our own.
NAMES: tuple[str, ...]


def __getattr__(name: str) -> Any:
    if name != "NAMES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    return tuple(exporter.NAME for exporter in DOOR.builtin())


def names() -> list[str]:
    """All exporters that can be named."""
    return DOOR.names()


def find(name: str | Target) -> Target:
    """The exporter of a name, of `package:object`, or of a Python file. Raises NotFound, UnknownName, InvalidInput."""
    return name if isinstance(name, Target) else Target.of(name, DOOR.find(name))
