"""Rows of worlds as the Daft frames that processors and programs are handed, and the rows that processors return."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import InvalidInput
from ..tables.schema import Table, arrow
from .components import BASE, Component, archetype_of, columns_of, prefix_of
from .layout import columns_in, prefixes_of, shared, table_of
from .processors import _daft
from .reading import State
from .redacting import Redaction
from .rows import flat, one
from .storage import WorldError
from .texts import Texts


def frame_of(state: State, texts: Texts) -> Any:
    """A frame in which shared columns hold their texts, which are read where the frame's plan needs them; a column that has one
    value in all rows takes no room."""
    daft, rows = _daft(), state.rows
    columns = [name for name in shared(state.table) if name in rows.column_names or state.same.get(name) is not None]
    if not columns and not state.same:
        return daft.from_arrow(rows)

    def text_of(hashes: Any) -> Any:
        return texts.array(hashes.to_arrow().cast(arrow().string()))

    look_up = daft.func.batch(return_dtype=daft.DataType.string())(text_of)
    hashes = {name: f"__hash_of_{name}" for name in columns}
    frame = daft.from_arrow(rows.rename_columns([hashes.get(name, name) for name in rows.column_names]))
    same = {
        hashes.get(name, name): daft.lit(value).cast(daft.DataType.from_arrow_type(state.table.arrow.field(name).type))
        for name, value in state.same.items()
    }
    frame = frame.with_columns(same) if same else frame
    order = [name for name in state.table.names if name in state.same or name in rows.column_names]
    return frame.select(*(look_up(daft.col(hashes[name])).alias(name) if name in hashes else daft.col(name) for name in order))


def wanted_of(types: Iterable[type[Component]]) -> tuple[set[str], Table]:
    """The prefixes of components that somebody asks for, and the table that has their columns. Raises InvalidInput."""
    wanted = archetype_of(types)
    if not wanted:
        raise InvalidInput("query() needs the types of components, query(Trajectory, Label) say")
    return {prefix_of(kind) for kind in wanted}, table_of({prefix_of(kind): columns_of(kind) for kind in wanted})


def selected(
    schema: Table, prefixes: set[str], states: Iterable[State], ids: Iterable[int] | None, world: str, tick: int, staged: Any = ()
) -> State:
    """The rows of several archetypes that have some components, as rows of one table, by entity.

    `ids`: of these entities alone; `tick`: what their rows say, and the next one those of `staged` entities.
    """
    pa = arrow()
    import pyarrow.compute as pc

    try:
        only = None if ids is None else pa.array(sorted(ids), pa.int64())
    except (TypeError, pa.ArrowException):
        raise InvalidInput(f"entity_ids are the numbers of entities, not {ids!r:.100}") from None
    changed = pa.array(sorted(staged), pa.int64())
    parts = []
    for state in states:
        if not prefixes <= set(prefixes_of(state.table)):
            continue
        rows = state.rows if only is None else state.rows.filter(pc.is_in(state.rows.column("entity_id"), only))
        same: dict[str, Any] = {"world_id": world, "is_active": True}
        arrays = {}
        for field in schema.arrow:
            if field.name == "tick":
                if len(changed):
                    new = pc.is_in(flat(rows, "entity_id"), changed)
                    arrays["tick"] = pc.if_else(new, pa.scalar(tick + 1, field.type), pa.scalar(tick, field.type))
                else:
                    same["tick"] = tick
            elif field.name in state.same and field.name not in same:
                given = pa.array([state.same[field.name]], state.table.arrow.field(field.name).type)
                same[field.name] = column_as(pa.table({field.name: given}), field)[0].as_py()
            elif field.name not in same:
                arrays[field.name] = column_as(rows, field)
        types = pa.schema([field for field in schema.arrow if field.name in arrays])
        parts.append(State(schema, pa.table(arrays, schema=types), same))
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return State(schema, schema.arrow.empty_table())
    return State(schema, pa.concat_tables([part.whole() for part in parts]).sort_by("entity_id"))


def column_as(rows: Any, field: Any) -> Any:
    """A column of rows in a field's type; nulls where the rows do not have it: a field that came later."""
    pa = arrow()
    if field.name not in rows.column_names:
        return pa.nulls(rows.num_rows, field.type)
    try:
        return rows.column(field.name).cast(field.type)
    except pa.ArrowException as error:
        raise InvalidInput(f"{field.name} was written with another type than the component has now: {error}") from None


def returned(name: str, table: Table, before: Any, after: Any, texts: Texts, redaction: Redaction | None, *, hashed: bool) -> Any:
    """What a processor returned, in the order and with the types of its archetype. Raises WorldError for rows that are
    missing, doubled or new, and for columns that are missing or of another type. `hashed`: whether shared columns hold hashes."""
    pa = arrow()
    missing = [n for n in table.names if n not in after.column_names]
    if missing:
        raise WorldError(f"{name} returned a frame without the column {missing[0]!r}; nothing was written")
    extra = [n for n in after.column_names if n not in table.names]
    if extra:
        raise WorldError(f"{name} returned a frame with the unknown column {extra[0]!r}; nothing was written")
    ids, old = one(after.column("entity_id").combine_chunks()), flat(before, "entity_id")
    if not ids.equals(old):
        after = after.sort_by("entity_id")
        ids = flat(after, "entity_id")
    if not ids.equals(old):
        found, expected = set(ids.to_pylist()), set(old.to_pylist())
        if len(ids) != len(found):
            what = "an entity twice"
        elif expected - found:
            what = f"no row of entity {min(expected - found)}"
        else:
            what = f"a row of an unknown entity {min(found - expected, key=repr)}"
        raise WorldError(f"{name} returned a frame with {what}; every entity has one row; nothing was written")
    arrays = []
    for column, field in zip(table.columns, table.arrow, strict=True):
        if field.name in BASE and field.name != "is_active":  # these are the world's own
            arrays.append(before.column(field.name))
            continue
        try:
            values = after.column(field.name)
            if redaction is not None and not (hashed and column.encoding == "shared"):
                if not values.equals(before.column(field.name)):  # of shared texts always: these are hashes before
                    values = redaction.array(column, values)
            if column.encoding == "shared" and not hashed:
                values = texts.hashes(one(values.cast(pa.large_string()).combine_chunks()))
            arrays.append(values.cast(field.type))
        except pa.ArrowException as error:
            raise WorldError(f"{name} returned {field.name!r} with another type ({error}); nothing was written") from error
    active = arrays[table.names.index("is_active")]
    if active.null_count:
        raise WorldError(f"{name} returned is_active without a value; true or false was expected, and nothing was written")
    return pa.table(arrays, schema=table.arrow)


def written(found: Iterable[tuple[Table, Any]], wanted: Iterable[type[Component]]) -> State:
    """The rows that ticks wrote of several archetypes as rows of one table, with the columns of some components (none: of all),
    oldest first."""
    pa, found = arrow(), list(found)
    columns = {prefix_of(kind): columns_of(kind) for kind in wanted}
    if not columns:
        columns = {prefix: columns_in(table, prefix) for table, _ in found for prefix in prefixes_of(table)}
    schema = table_of(columns)
    parts = [pa.table([column_as(rows, field) for field in schema.arrow], schema=schema.arrow) for _, rows in found]
    rows = pa.concat_tables(parts) if parts else schema.arrow.empty_table()
    return State(schema, rows.sort_by([("tick", "ascending"), ("entity_id", "ascending"), ("is_active", "ascending")]))
