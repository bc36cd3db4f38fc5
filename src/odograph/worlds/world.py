"""A world: entities, the ticks that change them, and forks. Knows storage and frames, nothing of labels.

Operations are staged in memory; a tick applies them, runs the processors, and writes what changed in one commit. A tick that
fails writes nothing, and what was staged stays.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from ..codec import new_id
from ..errors import InvalidInput, NotFound, described
from ..log import logger
from ..tables.schema import Column, Table, arrow
from .components import BASE, Component, archetype_of
from .events import (
    Event,
    OnComponentAdded,
    OnComponentRemoved,
    OnDespawn,
    OnDestroy,
    OnSpawn,
    PostTick,
    PreTick,
    Resources,
)
from .processors import _daft
from .storage import About, State, Storage, StorageConfig, WorldError, columns_of, lake_of, most_deltas, prefixes_of, table_of

Hook = Callable[[Any], Awaitable[None] | None]


@dataclass
class RunConfig:
    """How many ticks `step` makes. `prefer_live_reads` is accepted and changes nothing: reads always see the last tick."""

    num_steps: int = 1
    prefer_live_reads: bool = True


class WorldInfo(msgspec.Struct, frozen=True):
    """A world as it is: `tick` is the next tick, `entities` counts those that are there, staged ones too."""

    id: str
    name: str
    namespace: str
    tick: int
    parent: str | None
    entities: int
    archetypes: tuple[tuple[str, ...], ...]


class _Entity(msgspec.Struct):
    """An entity that was touched since the last tick: values by component prefix; no components: despawned."""

    parts: dict[str, dict[str, Any]]
    columns: dict[str, tuple[Column, ...]]


class World:
    """A handle of a world. Nothing is read or written before the first operation."""

    def __init__(
        self,
        name: str,
        open_storage: Callable[[], Storage],
        processors: Iterable[Any] = (),
        resources: Resources | None = None,
        hooks: Iterable[tuple[type[Event], Hook]] = (),
        *,
        about: About | None = None,
        fresh: bool = False,
        create: bool = True,
    ) -> None:
        self.name = name
        self.resources = resources or Resources()
        self._open_storage = open_storage
        self._opened: Storage | None = None
        self._about = about
        self._fresh = fresh
        self._create = create
        self._processors: list[Any] = []
        for processor in processors:
            self.add_processor(processor)
        self._hooks: list[tuple[type[Event], Hook]] = list(hooks)
        self._touched: dict[int, _Entity] = {}
        self._next_entity: int | None = None
        self._states: list[State] | None = None
        self._tick = 0
        self._run: str | None = None
        self._lock: asyncio.Lock | None = None

    def __repr__(self) -> str:
        return f"<world {self.name!r}>"

    # --- opening ------------------------------------------------------------------------------------------------------

    @property
    def _storage(self) -> Storage:
        if self._opened is None:
            self._opened = self._open_storage()
        return self._opened

    @property
    def about(self) -> About:
        """Which world it is; made where there is none of its name."""
        if self._about is None:
            found = None if self._fresh else self._storage.find(self.name)
            if found is None and not self._create:
                there = ", ".join(self._storage.names()) or "none"
                raise NotFound(f"no world {self.name!r} in namespace {self._storage.namespace!r}; there are: {there}")
            self._about = found or self._storage.create(self.name, fresh=self._fresh)
        return self._about

    @property
    def id(self) -> str:
        """The world's id."""
        return self.about.id

    def _guard(self) -> asyncio.Lock:
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    def _current(self) -> list[State]:
        """The states as of the last tick, read anew where another handle made ticks since."""
        tick = self._storage.next_tick(self.id)
        if self._states is None or tick != self._tick:
            self._states, self._tick = self._storage.states(self.about, tick), tick
        return self._states

    # --- staging ------------------------------------------------------------------------------------------------------

    async def spawn(self, *components: Component) -> int:
        """A new entity with one component of each of several types. The next step processes and writes it. Returns its id."""
        return (await self.spawn_many([components]))[0]

    async def spawn_many(self, entities: Iterable[Iterable[Component]]) -> list[int]:
        """Several entities at once, each given by its components. Returns their ids."""
        made = []
        for given in entities:
            components = tuple(given)
            entity = self._made(components)
            id = self._new_entity()
            self._touched[id] = entity
            made.append((id, components))
        for id, components in made:
            await self._tell(OnSpawn(self.name, self.id, self._next(), id, components))
        return [id for id, _ in made]

    async def despawn(self, entity_id: int) -> None:
        """Takes an entity away; its rows of before stay. Raises NotFound."""
        self._entity(entity_id)
        self._touched[entity_id] = _Entity({}, {})
        await self._tell(OnDespawn(self.name, self.id, self._next(), entity_id))

    async def update(self, entity_id: int, component: Component) -> None:
        """Replaces a component of an entity, whole. Raises NotFound where the entity does not have it."""
        entity = self._entity(entity_id)
        prefix = type(component).prefix
        if prefix not in entity.parts:
            raise NotFound(f"entity {entity_id} has no {type(component).__name__}; it has: {', '.join(sorted(entity.parts))}")
        self._touched[entity_id] = self._with(entity, (component,))

    async def add_components(self, entity_id: int, *components: Component) -> None:
        """Gives an entity more components; the next step moves it to another archetype. Raises ValueError where it has one."""
        entity = self._entity(entity_id)
        for one in components:
            if type(one).prefix in entity.parts:
                raise ValueError(f"entity {entity_id} has a {type(one).__name__} already; use update")
        self._touched[entity_id] = self._with(entity, components)
        await self._tell(OnComponentAdded(self.name, self.id, self._next(), entity_id, components))

    async def remove_components(self, entity_id: int, *types: type[Component]) -> None:
        """Takes components from an entity. Raises NotFound where it does not have one, ValueError where none would be left."""
        entity = self._entity(entity_id)
        for one in types:
            if one.prefix not in entity.parts:
                raise NotFound(f"entity {entity_id} has no {one.__name__}; it has: {', '.join(sorted(entity.parts))}")
        left = set(entity.parts) - {one.prefix for one in types}
        if not left:
            raise ValueError(f"entity {entity_id} would be left without components; use despawn")
        self._touched[entity_id] = _Entity({p: entity.parts[p] for p in left}, {p: entity.columns[p] for p in left})
        await self._tell(OnComponentRemoved(self.name, self.id, self._next(), entity_id, types))

    def _made(self, components: tuple[Component, ...]) -> _Entity:
        if not components:
            raise InvalidInput("an entity has at least one component")
        for one in components:
            if not isinstance(one, Component):
                raise TypeError(f"an entity is made of components, not of {type(one).__name__}")
        if len({type(one) for one in components}) < len(components):
            raise ValueError("an entity has one component of each type")
        archetype_of(type(one) for one in components)
        return self._with(_Entity({}, {}), components)

    def _with(self, entity: _Entity, components: Iterable[Component]) -> _Entity:
        parts, columns = dict(entity.parts), dict(entity.columns)
        for one in components:
            row = one.row()
            for name in type(one).shared:
                column = type(one).fields[name].name
                if row[column] is not None:
                    row[column] = self._storage.hash(row[column])
            parts[type(one).prefix] = row
            columns[type(one).prefix] = tuple(type(one).fields.values())
        return _Entity(parts, columns)

    def _entity(self, id: int) -> _Entity:
        """An entity as it is now. Raises NotFound."""
        if id in self._touched:
            if not self._touched[id].parts:
                raise NotFound(f"entity {id} of world {self.name!r} was despawned")
            return self._touched[id]
        import pyarrow.compute as pc

        for state in self._current():
            found = state.rows.filter(pc.equal(state.rows.column("entity_id"), id)).to_pylist() if state.rows.num_rows else []
            if found:
                columns = {prefix: columns_of(state.table, prefix) for prefix in prefixes_of(state.table)}
                return _Entity({p: {c.name: found[0][c.name] for c in columns[p]} for p in columns}, columns)
        raise NotFound(f"no entity {id!r} in world {self.name!r}")

    def _new_entity(self) -> int:
        if self._next_entity is None:
            self._next_entity = self._storage.next_entity(self.id)
        id = self._next_entity
        self._next_entity += 1
        return id

    def _next(self) -> int:
        return self._storage.next_tick(self.id)

    # --- processors and hooks -----------------------------------------------------------------------------------------

    def add_processor(self, processor: Any) -> None:
        """Adds a processor: an object with `components`, `priority` and `process`."""
        if isinstance(processor, type):
            raise TypeError(f"a processor is an object: {processor.__name__}(), not the class")
        if not callable(getattr(processor, "process", None)) or not isinstance(getattr(processor, "components", None), tuple):
            raise TypeError(f"a processor has components (a tuple), priority and process(); {type(processor).__name__} has not")
        archetype_of(processor.components)
        self._processors.append(processor)

    def remove_processor(self, processor: Any) -> None:
        """Takes a processor, or all of a class, out. Raises NotFound."""
        kept = [p for p in self._processors if p is not processor and type(p) is not processor]
        if len(kept) == len(self._processors):
            there = ", ".join(type(p).__name__ for p in self._processors) or "none"
            raise NotFound(f"no such processor; there are: {there}")
        self._processors = kept

    def add_hook(self, event: type[Event], hook: Hook) -> None:
        """Calls a function, or awaits a coroutine function, at each event of a type. A failing hook is logged."""
        self._hooks.append((event, hook))

    async def _tell(self, event: Event) -> None:
        for kind, hook in list(self._hooks):
            if isinstance(event, kind):
                try:
                    done = hook(event)
                    if inspect.isawaitable(done):
                        await done
                except Exception as error:
                    logger.warning("a hook of world %r failed at %s: %s", self.name, type(event).__name__, described(error))

    # --- ticks --------------------------------------------------------------------------------------------------------

    async def step(self, config: RunConfig | None = None, **kwargs: Any) -> None:
        """Makes the next tick (`config.num_steps` of them). `kwargs` reach the processors.

        A tick applies what was staged, runs each processor on the archetypes that have its components, in ascending priority,
        and writes what changed. Where a processor fails, WorldError says which, and nothing is written: step again.
        Raises Fenced where another process resumed the world.
        """
        if config is not None and not isinstance(config, RunConfig):
            raise TypeError(f"config is a RunConfig, not {type(config).__name__}")
        count = 1 if config is None else config.num_steps
        if type(count) is not int or count < 1:
            raise InvalidInput(f"num_steps is a whole number from 1, not {count!r}")
        for _ in range(count):
            async with self._guard():
                await self._make_tick(kwargs)

    async def run(self, steps: int, **kwargs: Any) -> None:
        """Makes several ticks."""
        await self.step(RunConfig(num_steps=steps), **kwargs)

    async def _make_tick(self, kwargs: dict[str, Any]) -> None:
        begun = time.perf_counter()
        states = self._current()
        tick = self._tick
        if self._run is None:
            self._run = new_id()
            self._storage.take(self.about, self._run)
        await self._tell(PreTick(self.name, self.id, tick))
        touched = dict(self._touched)
        before = {state.table: state.rows for state in states}
        working = _applied(before, touched, self.id, self._run, tick)
        changed: dict[Table, Any] = {}
        whole: dict[Table, bool] = {}
        after: list[State] = []
        for table, rows in working.items():
            done = await self._processed(table, rows, kwargs)
            old = before.get(table)
            fresh = _changed(table, old, done, tick, self._run, self.id)
            gone = _gone(table, old, done, tick, self._run, self.id)
            if gone.num_rows:
                fresh = arrow().concat_tables([fresh, gone])
            if fresh.num_rows:
                there = done.num_rows
                is_whole = not gone.num_rows and (
                    old is None or most_deltas(self._storage.deltas(self.about, table), fresh.num_rows, there)
                )
                changed[table], whole[table] = (_stamped(done, old, fresh) if is_whole else fresh), is_whole
            after.append(State(table, _stamped(done, old, fresh)))
        said = {
            "rows": {table.name: rows.num_rows for table, rows in changed.items()},
            "processors": [type(p).__name__ for p in self._ordered()],
            "seconds": round(time.perf_counter() - begun, 6),
        }
        next_entity = self._next_entity or self._storage.next_entity(self.id)
        self._storage.write_tick(self.about, self._run, tick, changed, whole, said, next_entity)
        self._states, self._tick = after, tick + 1
        for id, entity in touched.items():  # what was staged while the processors ran stays
            if self._touched.get(id) is entity:
                del self._touched[id]
        await self._tell(PostTick(self.name, self.id, tick + 1))

    def _ordered(self) -> list[Any]:
        return sorted(self._processors, key=lambda p: getattr(p, "priority", 0))

    async def _processed(self, table: Table, rows: Any, kwargs: dict[str, Any]) -> Any:
        """The rows after all processors whose components they have."""
        there = set(prefixes_of(table))
        chosen = [p for p in self._ordered() if {c.prefix for c in p.components} <= there]
        if not chosen or not rows.num_rows:
            return rows
        daft = _daft()
        frame, hashed = daft.from_arrow(rows), True
        for processor in chosen:
            if hashed and not getattr(processor, "hashes", False):
                frame, hashed = daft.from_arrow(self._storage.unhash(table, frame.to_arrow())), False
            name = type(processor).__name__
            try:
                result = processor.process(frame, resources=self.resources, world=self, **kwargs)
                frame = await result if inspect.isawaitable(result) else result
                done = frame.to_arrow()  # a lazy frame fails where it is computed: here, by name
            except Exception as error:
                raise WorldError(
                    f"tick {self._tick} of world {self.name!r} failed in {name} on {'+'.join(sorted(there))}, nothing was"
                    f" written: {described(error)}"
                ) from error
            frame = daft.from_arrow(self._checked(name, table, rows, done, hashed))
        done = frame.to_arrow()
        return self._rehashed(table, done, hashed)

    def _checked(self, name: str, table: Table, before: Any, after: Any, hashed: bool) -> Any:
        """What a processor returned, in the order and with the types of its archetype. Raises WorldError for rows that are
        missing, doubled or new, and for columns that are missing or of another type."""
        pa = arrow()
        missing = [n for n in table.names if n not in after.column_names]
        if missing:
            raise WorldError(f"{name} returned a frame without the column {missing[0]!r}; nothing was written")
        extra = [n for n in after.column_names if n not in table.names]
        if extra:
            raise WorldError(f"{name} returned a frame with the unknown column {extra[0]!r}; nothing was written")
        after = after.select(list(table.names)).sort_by("entity_id")
        ids, old = after.column("entity_id").combine_chunks(), before.column("entity_id").combine_chunks()
        if not ids.cast(pa.int64()).equals(_one(old)):
            found, expected = set(ids.to_pylist()), set(old.to_pylist())
            if len(ids) != len(found):
                what = "an entity twice"
            elif expected - found:
                what = f"no row of entity {min(expected - found)}"
            else:
                what = f"a row of an unknown entity {min(found - expected)}"
            raise WorldError(f"{name} returned a frame with {what}; every entity has one row; nothing was written")
        arrays = []
        for field in table.arrow:
            try:
                kind = pa.large_string() if not hashed and str(field.type) == "string" else field.type
                arrays.append(after.column(field.name).cast(kind))
            except pa.ArrowException as error:
                raise WorldError(f"{name} returned {field.name!r} with another type ({error}); nothing was written") from error
        return pa.table(arrays, names=list(table.names))

    def _rehashed(self, table: Table, rows: Any, hashed: bool) -> Any:
        pa = arrow()
        arrays = []
        for column, field in zip(table.columns, table.arrow, strict=True):
            values = rows.column(column.name)
            if not hashed and column.type == "text" and column.encoding == "plain" and "__" in column.name:
                encoded = _one(values.combine_chunks()).dictionary_encode()
                texts = encoded.dictionary.to_pylist()
                values = pa.array([None if t is None else self._storage.hash(t) for t in texts], pa.string()).take(
                    encoded.indices
                )
            arrays.append(values.cast(field.type))
        return pa.table(arrays, schema=table.arrow)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def query(self, *types: type[Component], entity_ids: Iterable[int] | None = None, tick: int | None = None) -> Any:
        """A Daft frame with a row per entity that has these components: as of now, staged operations included, or after a tick.

        Columns: world_id, run_id, entity_id, tick (the one asked for), is_active, and those of the components.
        """
        return _daft().from_arrow(self._queried(types, entity_ids, tick))

    def _queried(self, types: tuple[type[Component], ...], entity_ids: Iterable[int] | None, tick: int | None) -> Any:
        pa = arrow()
        import pyarrow.compute as pc

        wanted = archetype_of(types)
        if not wanted:
            raise InvalidInput("query() needs the types of components, query(Trajectory, Label) say")
        fields = {c.name: c for one in wanted for c in one.fields.values()}
        schema = table_of({one.prefix: tuple(one.fields.values()) for one in wanted})
        if tick is None:
            current = {state.table: state.rows for state in self._current()}
            shown = self._tick - 1
            rows_of = _applied(current, self._touched, self.id, self._run or "", self._tick)
        else:
            if type(tick) is not int or not 0 <= tick < self._next():
                raise InvalidInput(f"tick is from 0 to {self._next() - 1}, the ticks that world {self.name!r} made, not {tick!r}")
            rows_of = {state.table: state.rows for state in self._storage.states(self.about, tick + 1)}
            shown = tick
        staged = set(self._touched) if tick is None else set()
        parts = []
        for table, rows in rows_of.items():
            if not {one.prefix for one in wanted} <= set(prefixes_of(table)):
                continue
            if entity_ids is not None:
                rows = rows.filter(pc.is_in(rows.column("entity_id"), pa.array(sorted(entity_ids), pa.int64())))
            rows = self._storage.unhash(table, rows.select([n for n in table.names if n in BASE or n in fields]))
            ticks = [self._tick if id in staged else shown for id in rows.column("entity_id").to_pylist()] if staged else None
            arrays = []
            for name in schema.names:
                kind = schema.arrow.field(name).type
                kind = pa.large_string() if str(kind) == "string" else kind
                if name == "tick":
                    arrays.append(
                        pa.array(ticks, kind) if ticks is not None else pa.repeat(pa.scalar(shown, kind), rows.num_rows)
                    )
                elif name == "world_id":
                    arrays.append(pa.repeat(pa.scalar(self.id, kind), rows.num_rows))
                elif name in rows.column_names:
                    arrays.append(rows.column(name).cast(kind))
                else:  # a field that came later
                    arrays.append(pa.nulls(rows.num_rows, kind))
            parts.append(pa.table(arrays, names=list(schema.names)))
        if not parts:
            return schema.arrow.empty_table()
        return pa.concat_tables(parts).sort_by("entity_id")

    async def history(self, *types: type[Component], limit: int | None = None) -> Any:
        """A Daft frame with every row that ticks wrote of entities with these components, oldest first; `limit`: the newest ones.

        A row holds from its tick until a later row of the same entity. `is_active` is False where the entity left.
        """
        wanted = archetype_of(types)
        found = self._storage.history(self.about, [one.prefix for one in wanted])
        if found is None:
            found = table_of({one.prefix: tuple(one.fields.values()) for one in wanted}).arrow.empty_table()
        if limit is not None:
            found = found.slice(max(0, found.num_rows - limit))
        return _daft().from_arrow(found)

    async def info(self) -> WorldInfo:
        """The world's name, id, next tick, and how many entities of which archetypes it has."""
        rows_of = _applied({s.table: s.rows for s in self._current()}, self._touched, self.id, self._run or "", self._tick)
        there = [(prefixes_of(table), rows.num_rows) for table, rows in rows_of.items() if rows.num_rows]
        about = self.about
        return WorldInfo(
            about.id,
            about.name,
            about.namespace,
            self._tick,
            about.parent,
            sum(n for _, n in there),
            tuple(sorted({p for p, _ in there})),
        )

    async def ticks(self) -> list[dict[str, Any]]:
        """What the world did, oldest first: a row per world, fork and tick, the parent's included."""
        return self._storage.ticks(self.about)

    async def get(self, entity_id: int, kind: type[Component]) -> Component:
        """One component of one entity, as it is now. Raises NotFound."""
        entity = self._entity(entity_id)
        if kind.prefix not in entity.parts:
            raise NotFound(f"entity {entity_id} has no {kind.__name__}; it has: {', '.join(sorted(entity.parts))}")
        row = dict(entity.parts[kind.prefix])
        for name in kind.shared:
            column = kind.fields[name].name
            if row.get(column) is not None:
                row[column] = self._storage.value(row[column])
        return kind.from_row(row)

    # --- forks --------------------------------------------------------------------------------------------------------

    async def fork(self, name: str, storage: StorageConfig | None = None, *, fresh: bool = False) -> World:
        """A world that goes on from here under another name: with copies of the resources, of what is staged, and of the hooks.

        No row is copied: a fork costs one small commit. Raises InvalidInput for a storage other than the world's own.
        """
        if storage is not None:
            ours = self._storage
            if (lake_of(storage.uri), storage.namespace) != (ours.root, ours.namespace):
                raise InvalidInput(
                    f"a fork is in the storage of its world ({ours.root.parent}, namespace {ours.namespace!r}), not in"
                    f" {storage.uri}, namespace {storage.namespace!r}: it refers to the rows of its parent"
                )
        async with self._guard():
            about = self._storage.fork(self.about, name, self._storage.next_tick(self.id), fresh=fresh)
            fork = World(name, self._open_storage, self._processors, self.resources.copy(), self._hooks, about=about)
            fork._opened = self._storage
            fork._touched = dict(self._touched)
            fork._next_entity = self._next_entity
            return fork

    async def destroy(self) -> None:
        """Frees the world's name. Its rows stay: forks refer to them."""
        self._storage.destroy(self.about)
        self._touched.clear()
        await self._tell(OnDestroy(self.name, self.id, self._tick))


def _one(array: Any) -> Any:
    return array if not hasattr(array, "chunks") else arrow().concat_arrays(array.chunks)


def _applied(before: dict[Table, Any], touched: dict[int, _Entity], world: str, run: str, tick: int) -> dict[Table, Any]:
    """The rows by archetype once the staged operations are applied, sorted by entity."""
    if not touched:
        return dict(before)
    pa = arrow()
    import pyarrow.compute as pc

    ids = pa.array(sorted(touched), pa.int64())
    found: dict[Table, Any] = {}
    for table, rows in before.items():
        found[table] = rows.filter(pc.invert(pc.is_in(rows.column("entity_id"), ids)))
    new: dict[Table, list[dict[str, Any]]] = {}
    tables: dict[tuple[tuple[Column, ...], ...], Table] = {}
    for id, entity in sorted(touched.items()):
        if entity.parts:
            key = tuple(entity.columns[p] for p in sorted(entity.columns))
            if key not in tables:
                made = table_of(entity.columns)
                tables[key] = next((t for t in before if t.name == made.name), made)
            table = tables[key]
            row: dict[str, Any] = {"world_id": world, "run_id": run, "entity_id": id, "tick": tick, "is_active": True}
            for part in entity.parts.values():
                row |= part
            new.setdefault(table, []).append(row)
    for table, dicts in new.items():
        rows = pa.Table.from_pylist(dicts, schema=table.arrow)
        found[table] = pa.concat_tables([found[table], rows]).sort_by("entity_id") if table in found else rows
    return found


def _changed(table: Table, old: Any, done: Any, tick: int, run: str, world: str) -> Any:
    """The rows that are new or have other values than before, stamped with this tick."""
    pa = arrow()
    import pyarrow.compute as pc

    if old is None or not old.num_rows:
        differs = pa.array([True] * done.num_rows, pa.bool_())
    else:
        index = pc.index_in(_one(done.column("entity_id").combine_chunks()), _one(old.column("entity_id").combine_chunks()))
        differs = pc.is_null(index)
        before = old.take(index)
        for column in table.columns:
            if "__" in column.name:
                differs = pc.or_(differs, _differs(before.column(column.name), done.column(column.name)))
    rows = done.filter(differs)
    count = rows.num_rows
    for name, value in (("tick", tick), ("run_id", run), ("world_id", world)):
        position = table.names.index(name)
        rows = rows.set_column(
            position, table.arrow.field(name), pa.repeat(pa.scalar(value, table.arrow.field(name).type), count)
        )
    return rows


def _differs(a: Any, b: Any) -> Any:
    """Where two columns have different values; two nulls are equal, and so are two NaNs."""
    pa = arrow()
    import pyarrow.compute as pc

    a, b = _one(a.combine_chunks()), _one(b.combine_chunks())
    if pa.types.is_list(a.type):
        return pa.array([x != y for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True)], pa.bool_())
    unequal = pc.fill_null(pc.not_equal(a, b), False)
    if pa.types.is_floating(a.type):
        both = pc.and_(pc.fill_null(pc.is_nan(a), False), pc.fill_null(pc.is_nan(b), False))
        unequal = pc.and_(unequal, pc.invert(both))
    return pc.or_(unequal, pc.xor(pc.is_null(a), pc.is_null(b)))


def _gone(table: Table, old: Any, done: Any, tick: int, run: str, world: str) -> Any:
    """Rows that say that entities left the archetype."""
    pa = arrow()
    import pyarrow.compute as pc

    if old is None or not old.num_rows:
        return table.arrow.empty_table()
    left = old.filter(pc.invert(pc.is_in(old.column("entity_id"), _one(done.column("entity_id").combine_chunks()))))
    ids = left.column("entity_id")
    stamped = {"world_id": world, "run_id": run, "tick": tick, "is_active": False}
    arrays = []
    for field in table.arrow:
        if field.name == "entity_id":
            arrays.append(ids)
        elif field.name in stamped:
            arrays.append(pa.repeat(pa.scalar(stamped[field.name], field.type), len(ids)))
        else:
            arrays.append(pa.nulls(len(ids), field.type))
    return pa.table(arrays, schema=table.arrow)


def _stamped(done: Any, old: Any, fresh: Any) -> Any:
    """All rows, each with the tick that last changed it."""
    pa = arrow()
    import pyarrow.compute as pc

    if old is None or not fresh.num_rows:
        return done if old is None and not fresh.num_rows else (fresh if old is None else done)
    active = fresh.filter(fresh.column("is_active"))
    kept = done.filter(pc.invert(pc.is_in(done.column("entity_id"), _one(active.column("entity_id").combine_chunks()))))
    return pa.concat_tables([kept, active]).sort_by("entity_id")
