"""Targets of exports, one a file. Built-ins and other packages' (entry points `odograph.exporters`) come through one door.

An exporter is a module, or any object, with a `NAME`, the kinds of `FILES` that it can be written as (the first is the
default) and `rows`; `schema` only where a Parquet file can be written, `HEADER` only where a JSON-lines file begins with a
line of its own. See `docs/extending.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from ...errors import NotFound
from ...plugins import entry_points, load
from ...trajectory import Trajectory

LeftOut = Callable[[str], None]


class Exporter(Protocol):
    """What an exporter has."""

    NAME: str
    #: Of "parquet", "jsonl", "json" (one file a row): the first is the default.
    FILES: tuple[str, ...]

    def rows(self, trajectory: Trajectory, left_out: LeftOut, **options: Any) -> Iterator[Any]:
        """The rows of one trajectory; `left_out(reason)` for what gives none."""
        ...

    def schema(self) -> Any:
        """The Arrow schema of the rows."""
        ...


NAMES: tuple[str, ...] = ("hf", "openai", "atif", "jsonl", "parquet")


@cache
def _builtin(name: str) -> Exporter:
    return cast(Exporter, import_module(f".{name}", __name__))


def names() -> list[str]:
    """All exporters that can be named."""
    return [*NAMES, *entry_points("odograph.exporters")]


def find(name: str) -> Exporter:
    """The exporter of a name, of `package:object`, or of a Python file. Raises NotFound."""
    if name in NAMES:
        return _builtin(name)
    found = load(name, "odograph.exporters")
    if found is None:
        raise NotFound(f"no exporter named {name!r}; there are: {', '.join(names())}")
    return cast(Exporter, found)
