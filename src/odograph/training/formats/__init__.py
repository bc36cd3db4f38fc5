"""Targets of exports, one a file. Built-ins and other packages' (entry points `odograph.exporters`) come through one door.

An exporter is a module, or any object, with a `NAME`, a sentence in its docstring, the kinds of `FILES` that it can be
written as (the first is the default) and `rows`. It may also have `schema(**options)` (it must, where Parquet is among its
files), `HEADER` (the first line of its JSON lines) and `card(manifest)` (the text of a README.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from ...errors import InvalidInput, NotFound
from ...plugins import entry_points, load
from ...trajectory import Trajectory
from ..views import LeftOut

__all__ = ["NAMES", "Exporter", "LeftOut", "find", "names"]


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


class WithSchema(Exporter, Protocol):
    """An exporter that can be written as Parquet."""

    def schema(self, **options: Any) -> Any:
        """The Arrow schema of the rows, or {table: schema}: then `rows` gives (table, row)."""
        ...


NAMES: tuple[str, ...] = ("hf", "openai", "atif", "jsonl", "parquet")


@cache
def _builtin(name: str) -> Exporter:
    return cast(Exporter, import_module(f".{name}", __name__))


def names() -> list[str]:
    """All exporters that can be named."""
    return [*NAMES, *entry_points("odograph.exporters")]


def find(name: str) -> Exporter:
    """The exporter of a name, of `package:object`, or of a Python file. Raises NotFound, InvalidInput."""
    if name in NAMES:
        return _builtin(name)
    found = load(name, "odograph.exporters")
    if found is None:
        raise NotFound(f"no exporter named {name!r}; there are: {', '.join(names())}")
    lacks = [part for part in ("NAME", "FILES", "rows") if not hasattr(found, part)]
    if not lacks and "parquet" in found.FILES and not hasattr(found, "schema"):
        lacks = ["schema"]
    if lacks:
        raise InvalidInput(f"{name!r} is no exporter: it has no {', '.join(lacks)}")
    return cast(Exporter, found)
