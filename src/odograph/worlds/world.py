"""A world: entities, ticks that change them, forks, and sessions that become entities. Knows storage and frames, no judge.

Operations are staged in memory; a tick applies them, runs the processors, and writes what changed in one commit. A tick that
fails writes nothing, and what was staged stays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..codec import new_id
from ..errors import InvalidInput, NotFound, check_count
from ..redact import Redactor
from ..tables.commits import Conflict
from ..tables.schema import Table
from ..trajectory import Trajectory as Recorded
from .components import BASE, Component, Label, T, Trajectory, archetype_of, prefix_of
from .events import (
    Event,
    Hook,
    Hooks,
    OnComponentAdded,
    OnComponentRemoved,
    OnDespawn,
    OnDestroy,
    OnSpawn,
    PostTick,
    PreTick,
    Resources,
)
from .frames import frame_of, selected, wanted_of, written
from .layout import prefixes_of
from .places import StorageConfig, where_of
from .reading import State
from .rows import Entity, applied, grown, ticked
from .sessions import RecordStore, WrittenBack, labelled_in, labels_of, session_of, spawned_in, write_back
from .stages import Passing, Stages, stepping
from .staging import Staged
from .storage import About, Storage, WorldError


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
        self.runner = "local"
        self.resources = resources or Resources()
        self._open_storage = open_storage
        self._opened: Storage | None = None
        self._about = about
        self._fresh = fresh
        self._create = create
        self._stages = Stages(processors)
        self._hooks = Hooks(hooks)
        self._staged = Staged(name, lambda: self._storage, self._current)
        self._next_entity: int | None = None
        self._states: dict[Table, Any] | None = None
        self._tick = 0
        self._writing: tuple[str, dict[int, Entity]] | None = None  # a tick without an answer: its commit, and what it applied
        self._late = False  # whether such a tick was made, and the step that is repeated for it is to come
        self._run: str | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def __repr__(self) -> str:
        return f"<world {self.name!r}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"{self!r} is a handle of this process; open the world there: runtime.resume({self.id!r}, storage)")

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
            while found is None:
                try:
                    found = self._storage.create(self.name, fresh=self._fresh)
                except Conflict:  # another process made it in between
                    found = None if self._fresh else self._storage.find(self.name)
            self._about = found
        return self._about

    @property
    def id(self) -> str:
        """The world's id."""
        return self.about.id

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """While no tick is made. Raises WorldError in a processor of this world, whose tick would wait for itself."""
        if stepping.get() is self:
            raise WorldError(
                f"a processor of world {self.name!r} can spawn entities, and change others by the frame that it returns; it"
                " can't step, fork or change the world while its own tick is made"
            )
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:  # a lock belongs to a loop
            self._lock = (loop, asyncio.Lock())
        async with self._lock[1]:
            self._settle()
            yield

    def _settle(self) -> None:
        """Looks whether a tick was made whose answer was lost: what it applied is staged no more then."""
        if self._writing is not None:
            self._storage.look()
            self._current()

    def _taken(self) -> str:
        """The run of this handle, which is the world's one writer from its first change or step on.

        Before an entity gets its number: two handles that gave out the same ones would overwrite each other's entities.
        """
        if self._run is None:
            run = new_id()
            self._storage.take(self.about, run)
            self._run = run
        return self._run

    def _current(self) -> dict[Table, Any]:
        """The rows as of the last tick by archetype, read anew where another handle made ticks since."""
        tick = self._storage.next_tick(self.id)
        if self._states is None or tick != self._tick:
            if self._writing is not None and self._storage.has(self._writing[0]):
                self._staged.written(self._writing[1])
                self._writing, self._late = None, True
            states = self._storage.states(self.about, tick)
            self._states, self._tick = {state.table: state.whole() for state in states}, tick
        return self._states

    def _now(self, run: str = "") -> dict[Table, Any]:
        """The rows now, by archetype: those as of the last tick, with what is staged."""
        there = applied(self._current(), self._staged.touched, self.id, run, self._tick)
        return grown(there, self._stages.columns())

    # --- staging ------------------------------------------------------------------------------------------------------

    async def spawn(self, *components: Component) -> int:
        """A new entity with one component of each of several types. The next step processes and writes it. Returns its id."""
        return (await self.spawn_many([components]))[0]

    async def spawn_many(self, entities: Iterable[Iterable[Component]]) -> list[int]:
        """Several entities at once, each given by its components. Returns their ids. Where one can't be made, none is."""
        given = [tuple(some) if isinstance(some, Iterable) else (some,) for some in entities]
        known: dict[int, list[Any]] = {}  # of components that several entities have: by identity, while `given` holds them
        made = [self._staged.made(components, known) for components in given]
        ids = []
        for entity in made:
            ids.append(self._new_entity())
            self._staged.touched[ids[-1]] = entity
        if self._hooks.hear(OnSpawn):
            for id, components in zip(ids, given, strict=True):
                await self._hooks.tell(OnSpawn(self.name, self.id, self._next(), id, components))
        return ids

    async def despawn(self, entity_id: int) -> None:
        """Takes an entity away; its rows of before stay. Raises NotFound."""
        async with self._alone():
            self._taken()
            self._staged.despawn(entity_id)
        await self._hooks.tell(OnDespawn(self.name, self.id, self._next(), entity_id))

    async def update(self, entity_id: int, component: Component) -> None:
        """Replaces a component of an entity, whole. Raises NotFound where the entity does not have it."""
        async with self._alone():
            self._taken()
            self._staged.update(entity_id, component)

    async def add_components(self, entity_id: int, *components: Component) -> None:
        """Gives an entity more components; the next step moves it to another archetype. Raises ValueError where it has one."""
        async with self._alone():
            self._taken()
            self._staged.add_components(entity_id, components)
        await self._hooks.tell(OnComponentAdded(self.name, self.id, self._next(), entity_id, components))

    async def remove_components(self, entity_id: int, *types: type[Component]) -> None:
        """Takes components from an entity. Raises NotFound where it does not have one, ValueError where none would be left."""
        async with self._alone():
            self._taken()
            self._staged.remove_components(entity_id, types)
        await self._hooks.tell(OnComponentRemoved(self.name, self.id, self._next(), entity_id, types))

    def _new_entity(self) -> int:
        self._taken()
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
        self._stages.add(processor)

    def remove_processor(self, processor: Any) -> None:
        """Takes a processor, or all of a class, out. Raises NotFound."""
        self._stages.remove(processor)

    def add_hook(self, event: type[Event], hook: Hook) -> None:
        """Calls a function, or awaits a coroutine function, at each event of a type. A failing hook is logged."""
        self._hooks.add(event, hook)

    # --- ticks --------------------------------------------------------------------------------------------------------

    async def step(self, config: RunConfig | None = None, **kwargs: Any) -> None:
        """Makes the next tick (`config.num_steps` of them). `kwargs` reach the processors.

        A tick applies what was staged, runs each processor on the archetypes that have its components, in ascending priority,
        and writes what changed. Where a processor fails, WorldError says which, and nothing is written: step again. Where the
        answer of a commit was lost, the step that is repeated looks first whether the tick was made.
        Raises Fenced where another process resumed the world.
        """
        if config is not None and not isinstance(config, RunConfig):
            raise TypeError(f"config is a RunConfig, not {type(config).__name__}")
        count = 1 if config is None else config.num_steps
        if type(count) is not int or count < 1:
            raise InvalidInput(f"num_steps is a whole number from 1, not {count!r}")
        for _ in range(count):
            if self._hooks.hear(PreTick):
                await self._hooks.tell(PreTick(self.name, self.id, self._next()))
            async with self._alone():
                await self._make_tick(kwargs)
            await self._hooks.tell(PostTick(self.name, self.id, self._tick))

    async def run(self, steps: int, **kwargs: Any) -> None:
        """Makes several ticks."""
        await self.step(RunConfig(num_steps=steps), **kwargs)

    async def _make_tick(self, kwargs: dict[str, Any]) -> None:
        begun = time.perf_counter()
        about, storage = self.about, self._storage
        run = self._taken()
        storage.look()
        storage.check_writer(about, run)  # nobody pays for labels that can't be written
        before = self._current()
        late, self._late = self._late, False
        touched = dict(self._staged.touched)
        if late and not touched:
            return
        tick = self._tick
        new: dict[Table, Any] = {}
        whole: dict[Table, bool] = {}
        after: dict[Table, Any] = {}
        passing = self._passing(kwargs)
        for table, rows in self._now(run).items():
            done = await passing.through(table, rows, self._stages.of(table))
            old = before.get(table)
            fresh, columns, left, now = ticked(table, old, done, tick, run, self.id)
            if fresh.num_rows:
                is_whole = not left and (old is None or storage.is_rebased(about, table, tick, fresh.num_rows, now.num_rows))
                new[table], whole[table] = (now if is_whole else fresh.select([*BASE, *columns])), is_whole
            after[table] = now
        said = {
            **passing.said,
            "rows": {table.name: rows.num_rows for table, rows in new.items()},
            "processors": [type(p).__name__ for p in self._stages],
            "seconds": round(time.perf_counter() - begun, 6),
        }
        next_entity = self._next_entity or storage.next_entity(self.id)
        self._writing = (new_id(), touched)
        storage.write_tick(self._writing[0], about, run, tick, new, whole, said, next_entity)
        self._writing, self._states, self._tick = None, after, tick + 1
        self._staged.written(touched)

    def _passing(self, kwargs: dict[str, Any]) -> Passing:
        return Passing(self, self._storage, self._tick, self.resources, kwargs)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def query(self, *types: type[Component], entity_ids: Iterable[int] | None = None, tick: int | None = None) -> Any:
        """A Daft frame with a row per entity that has these components: as of now, staged operations included, or after a tick.

        Columns: world_id, run_id, entity_id, tick (the one asked for), is_active, and those of the components.
        """
        return frame_of(self._queried(types, entity_ids, tick), self._storage.texts)

    def _queried(
        self, types: tuple[type[Component], ...], entity_ids: Iterable[int] | None = None, tick: int | None = None
    ) -> State:
        prefixes, schema = wanted_of(types)
        self._storage.look()
        if tick is None:
            now = [State(table, rows) for table, rows in self._now(self._run or "").items()]
            return selected(schema, prefixes, now, entity_ids, self.id, self._tick - 1, self._staged.touched)
        if type(tick) is not int or not 0 <= tick < self._next():
            made = f"0 to {self._next() - 1}" if self._next() else "none yet"
            raise InvalidInput(f"world {self.name!r} has no tick {tick!r}; its ticks are {made}")
        columns = set(schema.names) - {"world_id", "tick", "is_active"}  # what these are is known
        states = self._storage.states(self.about, tick + 1, prefixes, columns)
        return selected(schema, prefixes, states, entity_ids, self.id, tick)

    async def history(self, *types: Any, limit: int | None = None) -> Any:
        """A Daft frame with every row that ticks wrote of entities with these components (none: of all), oldest first.

        `limit`, which may be given alone (`history(10)`): the newest rows only. A row holds from its tick until a later row of
        the same entity. `is_active` is False where the entity left its archetype.
        """
        if types and type(types[-1]) is int:
            types, limit = types[:-1], types[-1]
        wanted = archetype_of(types)
        self._storage.look()
        state = written(self._storage.history(self.about, [prefix_of(kind) for kind in wanted]), wanted)
        if limit is not None:
            check_count("limit", limit, 0)
            state = State(state.table, state.rows.slice(max(0, state.rows.num_rows - limit)))
        return frame_of(state, self._storage.texts)

    async def info(self) -> WorldInfo:
        """The world's name, id, next tick, and how many entities of which archetypes it has."""
        about = self.about
        self._storage.look()
        there = [(prefixes_of(table), rows.num_rows) for table, rows in self._now().items() if rows.num_rows]
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
        self._storage.look()
        return self._storage.ticks(self.about)

    async def get(self, entity_id: int, kind: type[T]) -> T:
        """One component of one entity, as it is now. Raises NotFound."""
        archetype_of((kind,))
        if self._run is None:  # nobody else makes ticks where this handle is the writer
            self._storage.look()
        self._settle()
        return self._staged.component(entity_id, kind)

    def beside(self, name: str) -> Path:
        """A folder of the store, for what processors keep for all worlds: judges' answers."""
        return self._storage.beside(name)

    @property
    def redactor(self) -> Redactor | None:
        """What takes secrets out of what is kept there; None where the store keeps all."""
        return self._storage.redactor

    def texts(self, hashes: Iterable[str]) -> dict[str, str]:
        """The texts that hashes stand for, for processors whose frames have hashes (`AsyncProcessor.hashes`)."""
        return self._storage.texts.many(hashes)

    def hash_of(self, text: str) -> str:
        """The hash that stands for a shared text in the frames of such processors."""
        return self._storage.texts.hash(text)

    async def estimate(self, **kwargs: Any) -> dict[str, float]:
        """What the next step would ask of judges: `{"rows", "calls", "tokens", "cost"}`. Asks nothing and writes nothing.

        The processors before the one that asks are run. What is in the judges' journal costs nothing.
        """
        total: dict[str, float] = {}
        async with self._alone():
            self._storage.look()
            for table, rows in self._now().items():
                for name, more in (await self._passing(kwargs).estimate(table, rows, self._stages.of(table))).items():
                    total[name] = total.get(name, 0.0) + more
        return total or {"rows": 0.0, "calls": 0.0, "tokens": 0.0, "cost": 0.0}

    # --- from the store and back --------------------------------------------------------------------------------------

    async def spawn_from(self, trajectories: Iterable[Recorded], labels: Iterable[Any]) -> list[int]:
        """An entity per recorded trajectory and label, for those that the world does not have. Returns the ids of the new ones.

        `labels`: (technique, description) pairs, or `Label` objects. What is there already, by trajectory, technique and
        description, is not spawned again; where a session has grown, its entities get the new turns.
        """
        wanted = labels_of(labels)
        hash_of = self._storage.texts.hash
        there, turns = spawned_in(self._queried((Trajectory, Label)).whole())
        made = []
        for recorded in trajectories:
            if not isinstance(recorded, Recorded):
                hint = "; spawn(trajectory, label) takes the component" if isinstance(recorded, Trajectory) else ""
                raise TypeError(f"spawn_from takes recorded trajectories, not {type(recorded).__name__}{hint}")
            one = session_of(recorded)
            for label in wanted:
                key = (one.trajectory_id, label.technique, hash_of(label.description))
                entity = there.get(key)
                if entity is None:
                    there[key] = await self.spawn(one, label)
                    made.append(there[key])
                elif entity in turns and turns[entity] != hash_of(one.turns_json):
                    await self.update(entity, one)
        return made

    async def write_back(
        self,
        store: RecordStore,
        *,
        rewards: bool = False,
        weight: float = 1.0,
        trajectories: Collection[str] | None = None,
    ) -> WrittenBack:
        """Appends the world's labels to the trajectories of a store, as `label` records; `rewards`: their scores too.
        `trajectories`: ids of those that are written to, in place of all.

        Labels with status ok are written: value, score, rationale with what it cites, and the judge as author. Called again it
        writes what changed. A reward has the technique's name, source `judge` and `weight`.
        """
        if not hasattr(store, "append"):
            raise InvalidInput(f"write_back takes an open store, as odograph.open gives it, not {store!r:.100}")
        rows = self._queried((Trajectory, Label)).whole()
        labelled = labelled_in(rows, self._storage.texts.many, trajectories)
        return write_back(store, labelled, rewards, weight)

    # --- forks --------------------------------------------------------------------------------------------------------

    async def fork(self, name: str, storage: StorageConfig | None = None, *, fresh: bool = False) -> World:
        """A world that goes on from here under another name: with copies of the resources, of what is staged, and of the hooks.

        No row is copied: a fork costs one small commit. Raises InvalidInput for a storage other than the world's own.
        """
        ours = self._storage
        if storage is not None and (asked := where_of(storage)).key != ours.where.key:
            raise InvalidInput(
                f"a fork is in the storage of its world ({ours.where}), not in {asked}: a fork refers to the rows of its parent"
            )
        ours.look()
        async with self._alone():
            about = self._storage.fork(self.about, name, self._storage.next_tick(self.id), fresh=fresh)
            fork = World(name, self._open_storage, self._stages, self.resources.copy(), self._hooks, about=about)
            fork._opened = self._storage
            fork.runner = self.runner
            fork._staged.touched.update(self._staged.touched)
            fork._next_entity = self._next_entity
            return fork

    async def destroy(self) -> None:
        """Frees the world's name. Its rows stay: forks refer to them."""
        async with self._alone():
            self._storage.look()
            self._storage.destroy(self.about)
            self._staged.touched.clear()
        await self._hooks.tell(OnDestroy(self.name, self.id, self._tick))
