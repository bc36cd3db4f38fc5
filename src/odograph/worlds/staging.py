"""Entities that wait for the next tick: what was spawned and changed, over the last tick's rows. Knows no world and no commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import InvalidInput, NotFound
from ..tables.schema import Column, Table
from .components import Component, T, archetype_of, columns_of, component_of, prefix_of, shared_of, values_of
from .rows import Entity, Shape, entity_of, row_of, shape_in, shape_of
from .storage import Storage

#: A component's columns and values.
Part = tuple[tuple[Column, ...], Iterable[Any]]

#: Archetypes of what was spawned: by the components' types, and the order of their columns.
_plans: dict[tuple[type, ...], tuple[Shape, list[int]]] = {}


class Staged:
    """What was staged in one world. `rows` gives the rows of the last tick by archetype."""

    def __init__(self, world: str, storage: Callable[[], Storage], rows: Callable[[], Mapping[Table, Any]]) -> None:
        self.touched: dict[int, Entity] = {}
        self._world = world
        self._storage = storage
        self._rows = rows

    def despawn(self, id: int) -> None:
        """See `World.despawn`."""
        self.entity(id)
        self.touched[id] = Entity(None)

    def update(self, id: int, component: Component) -> None:
        """See `World.update`."""
        check_components((component,))
        parts = self.parts(id)
        prefix = prefix_of(type(component))
        if prefix not in parts:
            raise NotFound(f"entity {id} has no {type(component).__name__}; it has: {', '.join(sorted(parts))}")
        self.touched[id] = entity_of(parts | {prefix: self._valued(component)})

    def add_components(self, id: int, components: tuple[Component, ...]) -> None:
        """See `World.add_components`."""
        parts = self.parts(id)
        check_components(components)
        for one in components:
            if prefix_of(type(one)) in parts:
                raise InvalidInput(f"entity {id} has a {type(one).__name__} already; use update")
        parts |= {prefix_of(type(one)): self._valued(one) for one in components}
        self.touched[id] = entity_of(parts)

    def remove_components(self, id: int, types: tuple[type[Component], ...]) -> None:
        """See `World.remove_components`."""
        parts = self.parts(id)
        for one in archetype_of(types):
            if parts.pop(prefix_of(one), None) is None:
                raise NotFound(f"entity {id} has no {one.__name__}; it has: {', '.join(sorted(self.parts(id)))}")
        if not parts:
            raise InvalidInput(f"entity {id} would be left without components; use despawn")
        self.touched[id] = entity_of(parts)

    def made(self, components: tuple[Component, ...], known: dict[int, list[Any]]) -> Entity:
        """An entity of components. `known`: values of components that several entities have, by identity."""
        types = tuple(map(type, components))
        plan = _plans.get(types)
        if plan is None:
            check_components(components)
            shape = shape_of({prefix_of(kind): columns_of(kind) for kind in types})
            plan = _plans[types] = (shape, sorted(range(len(types)), key=lambda n: prefix_of(types[n])))
        values: list[Any] = []
        for n in plan[1]:
            part = known.get(id(components[n]))
            if part is None:
                part = known[id(components[n])] = self._valued(components[n])[1]
            values += part
        return Entity(plan[0], tuple(values))

    def parts(self, id: int) -> dict[str, Part]:
        """An entity's columns and values by component. Raises NotFound."""
        entity = self.entity(id)
        shape = entity.shape
        assert shape is not None
        return {prefix: (shape.columns(prefix), entity.part(prefix)) for prefix in shape.slices}

    def component(self, id: int, kind: type[T]) -> T:
        """One component of an entity, as it is now. Raises NotFound."""
        parts = self.parts(id)
        if prefix_of(kind) not in parts:
            raise NotFound(f"entity {id} has no {kind.__name__}; it has: {', '.join(sorted(parts))}")
        columns, values = parts[prefix_of(kind)]
        row = {column.name: value for column, value in zip(columns, values, strict=True)}
        shared = [column.name for column in columns if column.encoding == "shared"]
        texts = self._storage().texts.many([row[name] for name in shared if row[name] is not None])
        return component_of(kind, row | {name: texts.get(row[name]) for name in shared})

    def entity(self, id: int) -> Entity:
        """An entity as it is now. Raises NotFound."""
        if id in self.touched:
            if self.touched[id].shape is None:
                raise NotFound(f"entity {id} of world {self._world!r} was despawned")
            return self.touched[id]
        if type(id) is int:
            for table, rows in self._rows().items():
                found = row_of(rows, id) if rows.num_rows else None
                if found is not None:
                    return Entity(shape_in(table), found)
        raise NotFound(f"no entity {id!r} in world {self._world!r}")

    def written(self, touched: Mapping[int, Entity]) -> None:
        """A tick has written these; what was staged since stays."""
        for id, entity in touched.items():
            if self.touched.get(id) is entity:
                del self.touched[id]

    def _valued(self, one: Component) -> tuple[tuple[Column, ...], list[Any]]:
        """A component's columns and values; shared texts are hashes."""
        columns, values = columns_of(type(one)), values_of(one)
        storage = self._storage()
        if storage.redaction is not None:
            values = [storage.redaction.value(column, value) for column, value in zip(columns, values, strict=True)]
        for n in shared_of(type(one)):
            if values[n] is not None:
                values[n] = storage.texts.hash(values[n])
        return columns, values


def check_components(components: tuple[Component, ...]) -> None:
    """Raises TypeError or InvalidInput where no entity can be made of these."""
    if not components:
        raise InvalidInput("an entity has at least one component")
    for one in components:
        if not isinstance(one, Component):
            is_class = isinstance(one, type) and issubclass(one, Component)
            what = f"the class: {one.__name__}()" if is_class else f"of {type(one).__name__}"
            raise TypeError(f"an entity is made of components, not {what}")
    if len({type(one) for one in components}) < len(components):
        raise InvalidInput("an entity has one component of each type")
    archetype_of(type(one) for one in components)
