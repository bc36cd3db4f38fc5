"""The processors of a world: which of them an archetype passes through, in which order, and what fails there by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from ..errors import NotFound, described
from ..tables.schema import Column, Table
from .components import archetype_of, columns_of, prefix_of
from .events import Resources
from .frames import frame_of, returned
from .layout import prefixes_of
from .processors import _daft
from .reading import State
from .storage import Storage, WorldError

#: The world whose processors run in this task: its ticks can't wait for what waits for them.
stepping: ContextVar[Any] = ContextVar("stepping", default=None)


class Stages:
    """Processors, by ascending priority."""

    def __init__(self, processors: Iterable[Any] = ()) -> None:
        self._all: list[Any] = []
        if not isinstance(processors, Iterable):
            raise TypeError(f"processors is a list of processors, not {type(processors).__name__}")
        for processor in processors:
            self.add(processor)

    def add(self, processor: Any) -> None:
        """See `World.add_processor`."""
        if isinstance(processor, type):
            raise TypeError(f"a processor is an object: {processor.__name__}(), not the class")
        if not callable(getattr(processor, "process", None)) or not isinstance(getattr(processor, "components", None), tuple):
            raise TypeError(
                f"a processor has components (a tuple), priority and process(); {type(processor).__name__} lacks a member"
            )
        priority = getattr(processor, "priority", 0)
        if isinstance(priority, bool) or not isinstance(priority, (int, float)) or priority != priority:
            raise TypeError(f"the priority of {type(processor).__name__} is a number, not {priority!r:.40}")
        archetype_of(processor.components)
        self._all.append(processor)

    def remove(self, processor: Any) -> None:
        """See `World.remove_processor`."""
        kept = [p for p in self._all if p is not processor and type(p) is not processor]
        if len(kept) == len(self._all):
            there = ", ".join(type(p).__name__ for p in self._all) or "none"
            raise NotFound(f"no such processor; there are: {there}")
        self._all = kept

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(self._all, key=lambda p: getattr(p, "priority", 0)))

    def columns(self) -> dict[str, tuple[Column, ...]]:
        """The columns of the components that processors name, by prefix."""
        return {prefix_of(kind): columns_of(kind) for p in self for kind in p.components}

    def of(self, table: Table) -> list[Any]:
        """The processors whose components an archetype has, in their order."""
        there = set(prefixes_of(table))
        return [p for p in self if {prefix_of(c) for c in p.components} <= there]


class Passing:
    """A tick's way through processors: of a world, with its resources and what the step was given beside."""

    def __init__(self, world: Any, storage: Storage, tick: int, resources: Resources, given: dict[str, Any]) -> None:
        self._world = world
        self._storage = storage
        self._where = f"tick {tick} of world {world.name!r}"
        self._given = {**given, "resources": resources, "world": world}
        #: What processors say of their work, by their names.
        self.said: dict[str, Any] = {}

    def _frame(self, table: Table, rows: Any, *, hashed: bool) -> Any:
        return _daft().from_arrow(rows) if hashed else frame_of(State(table, rows), self._storage.texts)

    async def through(self, table: Table, rows: Any, processors: list[Any]) -> Any:
        """The rows that are there after processors. Raises WorldError, which says where."""
        if not processors or not rows.num_rows:
            return rows
        for processor in processors:
            hashed, name = bool(getattr(processor, "hashes", False)), type(processor).__name__
            lacking = [c for kind in processor.components for c in columns_of(kind) if c.name not in table.names]
            if lacking:
                kind = next(kind for kind in processor.components if lacking[0].name.startswith(f"{prefix_of(kind)}__"))
                raise WorldError(
                    f"{self._where} failed in {name}, nothing was written: the entities have another {kind.__name__} than"
                    f" {kind.__module__}.{kind.__name__}, without the column {lacking[0].name!r}"
                )
            frame = self._frame(table, rows, hashed=hashed)
            token = stepping.set(self._world)
            try:
                result = processor.process(frame, **self._given)
                frame = await result if inspect.isawaitable(result) else result
                if not isinstance(frame, _daft().DataFrame):
                    raise TypeError(f"it returned {type(frame).__name__}, not the Daft frame")
                done = frame.to_arrow()  # a lazy frame fails where it is computed: here, by name
            except Exception as error:
                where = "+".join(prefixes_of(table))
                said = described(error)
                if error.__cause__ is not None:  # of a function in a frame's plan: what the function raised
                    said += f" ({described(error.__cause__)})"
                said = " ".join(said.split())  # Daft's has several lines
                raise WorldError(f"{self._where} failed in {name} on {where}, nothing was written: {said}") from error
            finally:
                stepping.reset(token)
            rows = returned(name, table, rows, done, self._storage.texts, self._storage.redaction, hashed=hashed)
            if isinstance(about := getattr(processor, "said", None), dict):
                self.said.setdefault(name, {}).update(about)
        return rows.filter(rows.column("is_active"))

    async def estimate(self, table: Table, rows: Any, processors: list[Any]) -> dict[str, float]:
        """What the first processor that can estimate its cost says of the rows that reach it."""
        at = next((n for n, p in enumerate(processors) if callable(getattr(p, "estimate", None))), None)
        if at is None or not rows.num_rows:
            return {}
        rows = await self.through(table, rows, processors[:at])
        frame = self._frame(table, rows, hashed=bool(getattr(processors[at], "hashes", False)))
        found: dict[str, float] = processors[at].estimate(frame, **self._given)
        return found
