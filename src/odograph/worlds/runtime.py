"""Opening worlds: the runtime that programs hold, async and sync."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..bulk import waited
from ..errors import InvalidInput, MissingExtra
from ..redact import Redactor
from .events import Event, Hook, Resources
from .on_ray import frames_on_ray
from .places import StorageConfig, Where, where_of
from .storage import Storage
from .world import World


class WorldRuntime:
    """Opens worlds: `async with WorldRuntime() as runtime: world = runtime.world("eval", storage=StorageConfig(uri="runs"))`."""

    def __init__(self, runner: str = "local", *, redactor: Callable[[], Redactor | None] | None = None) -> None:
        """`runner`: "ray" runs frames and labels on a Ray cluster (see `LabelingConfig.runner`). `redactor`: gives
        that of the store which the worlds are in, where the store has it in memory only; asked before the first write."""
        if find_spec("daft") is None or find_spec("pyarrow") is None:
            raise MissingExtra("a world", "worlds")
        if runner not in ("local", "ray"):
            raise InvalidInput(f"runner is local or ray, not {runner!r}")
        if runner == "ray":
            frames_on_ray()
        self._runner = runner
        self._redactor = redactor
        self._storages: dict[tuple[Path, tuple[str, ...]], Storage] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes what was opened. What is staged and was not written is lost."""
        for storage in self._storages.values():
            storage.close()
        self._storages.clear()

    def world(
        self,
        name: str,
        storage: StorageConfig | None = None,
        processors: Iterable[Any] = (),
        resources: Iterable[Any] = (),
        hooks: Iterable[tuple[type[Event], Hook]] = (),
        *,
        fresh: bool = False,
    ) -> World:
        """A handle of the world of a name, which is made where there is none; `fresh`: another one of that name in any case."""
        where = where_of(storage)
        made = World(name, lambda: self._storage(where), processors, Resources(resources), hooks, fresh=fresh)
        made.runner = self._runner
        return made

    def resume(
        self,
        world_id: str,
        storage: StorageConfig | None = None,
        processors: Iterable[Any] = (),
        resources: Iterable[Any] = (),
        hooks: Iterable[tuple[type[Event], Hook]] = (),
    ) -> World:
        """The world with an id. Its first change or step makes it the one writer, and fences the earlier one. Raises NotFound."""
        where = where_of(storage)
        about = self._storage(where).about(world_id)
        made = World(about.name, lambda: self._storage(where), processors, Resources(resources), hooks, about=about)
        made.runner = self._runner
        return made

    def discover(self, storage: StorageConfig | None = None) -> list[str]:
        """The names of the worlds of a storage."""
        there = self._storage(where_of(storage))
        there.look()
        return there.names()

    def _storage(self, where: Where) -> Storage:
        key = (where.folder, where.key)
        if key not in self._storages:
            self._storages[key] = Storage(where, self._redactor)
        return self._storages[key]


class SyncWorld:
    """A world for code that is not async: the methods of `World`, each returning when it is done."""

    def __init__(self, world: World, run: Any) -> None:
        self._world = world
        self._call = run

    def __repr__(self) -> str:
        return repr(self._world)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self._world.__reduce__()

    @property
    def resources(self) -> Resources:
        return self._world.resources

    def fork(self, name: str, storage: StorageConfig | None = None, *, fresh: bool = False) -> SyncWorld:
        """See `World.fork`."""
        return SyncWorld(self._call(self._world.fork(name, storage, fresh=fresh)), self._call)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._world, name)
        if not inspect.iscoroutinefunction(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(found(*args, **kwargs))

        return call


class SyncWorldRuntime:
    """`WorldRuntime` for code that is not async: `with SyncWorldRuntime() as runtime: ...`. Works beside a running event loop."""

    def __init__(self, runner: str = "local", *, redactor: Callable[[], Redactor | None] | None = None) -> None:
        self._runtime = WorldRuntime(runner, redactor=redactor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """See `WorldRuntime.close`."""
        self._runtime.close()

    def world(self, name: str, *args: Any, **kwargs: Any) -> SyncWorld:
        """See `WorldRuntime.world`."""
        return SyncWorld(self._runtime.world(name, *args, **kwargs), waited)

    def resume(self, world_id: str, *args: Any, **kwargs: Any) -> SyncWorld:
        """See `WorldRuntime.resume`."""
        return SyncWorld(self._runtime.resume(world_id, *args, **kwargs), waited)

    def discover(self, storage: StorageConfig | None = None) -> list[str]:
        """See `WorldRuntime.discover`."""
        return self._runtime.discover(storage)


def opened(runtime: WorldRuntime, name: str, *args: Any, **kwargs: Any) -> Any:
    """A world for whoever asks: a `World`, whose methods are awaited, in async code, else a `SyncWorld`."""
    world = runtime.world(name, *args, **kwargs)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return SyncWorld(world, waited)
    return world
