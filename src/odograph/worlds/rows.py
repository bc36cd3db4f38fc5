"""Rows of entities as Arrow tables: staged operations applied, changes found, rows stamped. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..tables.schema import Column, Table, arrow
from .layout import BASE_COLUMNS, columns_in, prefixes_of, table_of


class Shape(msgspec.Struct, frozen=True, eq=False):
    """An archetype: its table, and where in an entity's values each component's are."""

    table: Table
    slices: dict[str, tuple[int, int]]

    def columns(self, prefix: str) -> tuple[Column, ...]:
        start, stop = self.slices[prefix]
        return self.table.columns[len(BASE_COLUMNS) + start : len(BASE_COLUMNS) + stop]


class Entity(msgspec.Struct, frozen=True, eq=False):
    """An entity that was touched since the last tick: its values in the order of its table; no shape: it was despawned."""

    shape: Shape | None
    values: tuple[Any, ...] = ()

    def part(self, prefix: str) -> tuple[Any, ...]:
        assert self.shape is not None
        start, stop = self.shape.slices[prefix]
        return self.values[start:stop]


_shapes: dict[tuple[tuple[str, tuple[Column, ...]], ...], Shape] = {}


def shape_of(columns: Mapping[str, tuple[Column, ...]]) -> Shape:
    """The archetype of components, given their columns by prefix."""
    key = tuple(sorted(columns.items()))
    found = _shapes.get(key)
    if found is None:
        slices, at = {}, 0
        for prefix, some in key:
            slices[prefix] = (at, at + len(some))
            at += len(some)
        found = _shapes[key] = Shape(table_of(columns), slices)
    return found


def shape_in(table: Table) -> Shape:
    """The archetype of a table."""
    return shape_of({prefix: columns_in(table, prefix) for prefix in prefixes_of(table)})


def entity_of(parts: Mapping[str, tuple[tuple[Column, ...], Iterable[Any]]]) -> Entity:
    """An entity of components: by prefix their columns and values."""
    shape = shape_of({prefix: columns for prefix, (columns, _) in parts.items()})
    return Entity(shape, tuple(value for prefix in shape.slices for value in parts[prefix][1]))


def row_of(rows: Any, entity_id: int) -> tuple[Any, ...] | None:
    """An entity's values in a table that is sorted by entity."""
    ids = rows.column("entity_id").combine_chunks()
    ids = one(ids).to_numpy()
    at = int(ids.searchsorted(entity_id))
    if at == len(ids) or ids[at] != entity_id:
        return None
    row = rows.slice(at, 1)
    return tuple(row.column(n)[0].as_py() for n in range(len(BASE_COLUMNS), row.num_columns))


def one(array: Any) -> Any:
    """An array in one piece."""
    if not hasattr(array, "chunks"):
        return array
    return array.chunk(0) if array.num_chunks == 1 else arrow().concat_arrays(array.chunks)


def flat(rows: Any, name: str) -> Any:
    """A column in one piece, empty or not."""
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else one(column.combine_chunks())


def applied(before: Mapping[Table, Any], touched: Mapping[int, Entity], world: str, run: str, tick: int) -> dict[Table, Any]:
    """The rows by archetype once the staged operations are applied, sorted by entity."""
    if not touched:
        return dict(before)
    pa = arrow()
    import pyarrow.compute as pc

    ids = pa.array(sorted(touched), pa.int64())
    found = {
        table: rows.filter(pc.invert(pc.is_in(rows.column("entity_id"), ids))) if rows.num_rows else rows
        for table, rows in before.items()
    }
    new: dict[Shape, list[int]] = {}
    for id in ids.to_pylist():
        shape = touched[id].shape
        if shape is not None:
            new.setdefault(shape, []).append(id)
    for shape, members in new.items():
        table, count = shape.table, len(members)
        stamp: dict[str, Any] = {"world_id": world, "run_id": run, "tick": tick, "is_active": True}
        schema = table.arrow
        columns = iter(zip(*(touched[id].values for id in members), strict=True))
        arrays = []
        for field in schema:
            if field.name == "entity_id":
                arrays.append(pa.array(members, pa.int64()))
            elif field.name in stamp:
                arrays.append(pa.repeat(pa.scalar(stamp[field.name], field.type), count))
            else:
                arrays.append(pa.array(next(columns), field.type))
        rows = pa.table(arrays, schema=schema)
        there = found.get(table)
        if there is None or not there.num_rows:
            found[table] = rows
        else:
            both = pa.concat_tables([there, rows])
            after = there.column("entity_id")[-1].as_py() < members[0]
            found[table] = both.combine_chunks() if after else both.sort_by("entity_id")
    return found


def grown(rows: Mapping[Table, Any], columns: Mapping[str, tuple[Column, ...]]) -> dict[Table, Any]:
    """The rows by archetype, where components have fields now that they did not have when the rows were written: null there.

    `columns`: those that components have now, by prefix. Rows leave the archetype that they are in, unless a field that they have
    is another one now.
    """
    pa = arrow()
    found = dict(rows)
    for table, some in rows.items():
        there = {prefix: columns_in(table, prefix) for prefix in prefixes_of(table)}
        known = {c.name: (c.type, c.encoding) for old in there.values() for c in old}
        new = [c for prefix in there for c in columns.get(prefix, ()) if known.get(c.name) != (c.type, c.encoding)]
        if not some.num_rows or not new or any(c.name in known for c in new):
            continue
        target = table_of({p: (*old, *(c for c in new if c.name.startswith(f"{p}__"))) for p, old in there.items()})
        values = [some.column(f.name) if f.name in some.column_names else pa.nulls(some.num_rows, f.type) for f in target.arrow]
        moved, beside = pa.table(values, schema=target.arrow), found.get(target)
        found[target] = moved if beside is None else pa.concat_tables([beside, moved]).sort_by("entity_id")
        found[table] = some.slice(0, 0)
    return found


def ticked(table: Table, old: Any, done: Any, tick: int, run: str, world: str) -> tuple[Any, list[str], bool, Any]:
    """What a tick writes of an archetype: the rows that changed, those of entities that left it last; the columns that changed;
    whether an entity left; and all rows, each with the tick that last changed it. `old`, `done`: the rows before and after."""
    fresh, columns = _changed(table, old, done, tick, run, world)
    left = _gone(table, old, done, tick, run, world)
    if left.num_rows:
        fresh = arrow().concat_tables([fresh, left])
    return fresh, columns, bool(left.num_rows), _stamped(done, old, fresh)


def _changed(table: Table, old: Any, done: Any, tick: int, run: str, world: str) -> tuple[Any, list[str]]:
    """The rows that are new or have other values than before, stamped with this tick; and the columns in which some of them
    have other values, all where some are new."""
    import pyarrow.compute as pc

    if done is old:
        return table.arrow.empty_table(), []
    names = [column.name for column in table.columns[len(BASE_COLUMNS) :]]
    if old is None or not old.num_rows:
        rows = done
    else:
        index = pc.index_in(flat(done, "entity_id"), flat(old, "entity_id"))
        differs, differing = pc.is_null(index), []
        whole = index.null_count == 0 and done.num_rows == old.num_rows  # both are sorted: the same entities
        before = old if whole else old.take(index)
        for name in names:
            if not (a := flat(before, name)).equals(b := flat(done, name)):
                found = _differs(a, b)
                if found.true_count:
                    differs = pc.or_(differs, found)
                    differing.append(name)
        rows = done.filter(differs)
        names = names if index.null_count else differing
    return _with(table, rows, {"tick": tick, "run_id": run, "world_id": world}), names


def _with(table: Table, rows: Any, values: Mapping[str, Any]) -> Any:
    pa = arrow()
    arrays = [
        pa.repeat(pa.scalar(values[field.name], field.type), rows.num_rows) if field.name in values else rows.column(field.name)
        for field in table.arrow
    ]
    return pa.table(arrays, schema=table.arrow)


def _differs(a: Any, b: Any) -> Any:
    """Where two columns have different values; two nulls are equal, and so are two NaNs."""
    pa = arrow()
    import pyarrow.compute as pc

    if pa.types.is_list(a.type):
        return pa.array([x != y for x, y in zip(map(repr, a.to_pylist()), map(repr, b.to_pylist()), strict=True)], pa.bool_())
    unequal = pc.fill_null(pc.not_equal(a, b), False)
    if pa.types.is_floating(a.type):
        both = pc.and_(pc.fill_null(pc.is_nan(a), False), pc.fill_null(pc.is_nan(b), False))
        unequal = pc.and_(unequal, pc.invert(both))
    return pc.or_(unequal, pc.xor(pc.is_null(a), pc.is_null(b)))


def _gone(table: Table, old: Any, done: Any, tick: int, run: str, world: str) -> Any:
    """Rows that say that entities left the archetype."""
    pa = arrow()
    import pyarrow.compute as pc

    if old is None or not old.num_rows or done is old:
        return table.arrow.empty_table()
    left = old.filter(pc.invert(pc.is_in(old.column("entity_id"), flat(done, "entity_id"))))
    stamped = {"world_id": world, "run_id": run, "tick": tick, "is_active": False}
    arrays = []
    for field in table.arrow:
        if field.name == "entity_id":
            arrays.append(left.column("entity_id"))
        elif field.name in stamped:
            arrays.append(pa.repeat(pa.scalar(stamped[field.name], field.type), left.num_rows))
        else:
            arrays.append(pa.nulls(left.num_rows, field.type))
    return pa.table(arrays, schema=table.arrow)


def _stamped(done: Any, old: Any, fresh: Any) -> Any:
    """All rows, each with the tick that last changed it. `fresh`: those that changed, and those that say that entities left."""
    pa = arrow()
    import pyarrow.compute as pc

    if not fresh.num_rows:
        return done
    active = fresh.filter(fresh.column("is_active"))
    if active.num_rows == done.num_rows:
        return active
    kept = done.filter(pc.invert(pc.is_in(done.column("entity_id"), flat(active, "entity_id"))))
    return pa.concat_tables([kept, active]).sort_by("entity_id")
