"""What hooks are told, and the resources that processors are handed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ..errors import NotFound, described
from ..log import logger

if TYPE_CHECKING:
    from .components import Component

T = TypeVar("T")


class Event(msgspec.Struct, frozen=True):
    """What happened in a world: its name and id, and its next tick."""

    world: str
    world_id: str
    tick: int


class PreTick(Event, frozen=True):
    """A tick is about to be made."""


class PostTick(Event, frozen=True):
    """A tick was published; `tick` is the next one."""


class OnSpawn(Event, frozen=True):
    """An entity was spawned; the next tick writes it."""

    entity_id: int
    components: tuple[Component, ...]


class OnDespawn(Event, frozen=True):
    """An entity was despawned; the next tick writes that."""

    entity_id: int


class OnComponentAdded(Event, frozen=True):
    """Components were added to an entity."""

    entity_id: int
    components: tuple[Component, ...]


class OnComponentRemoved(Event, frozen=True):
    """Components were taken from an entity."""

    entity_id: int
    components: tuple[type[Component], ...]


class OnDestroy(Event, frozen=True):
    """The world was destroyed: its name is free again, its rows stay for its forks."""


Hook = Callable[[Any], Awaitable[None] | None]


class Hooks:
    """Functions, and coroutine functions, that are told of events of a type."""

    def __init__(self, pairs: Iterable[tuple[type[Event], Hook]] = ()) -> None:
        self._all: list[tuple[type[Event], Hook]] = []
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise TypeError(f"hooks are pairs of a type of event and a function, not {pair!r:.100}")
            self.add(*pair)

    def add(self, event: type[Event], hook: Hook) -> None:
        """See `World.add_hook`."""
        if not (isinstance(event, type) and issubclass(event, Event)) or not callable(hook):
            said = f"{event!r:.100} and {hook!r:.100}"
            raise TypeError(f"a hook is a type of event (PreTick, OnSpawn, ...) and a function, not {said}")
        self._all.append((event, hook))

    def __iter__(self) -> Iterator[tuple[type[Event], Hook]]:
        return iter(list(self._all))

    def hear(self, event: type[Event]) -> bool:
        """Whether some hook is told of events of this type."""
        return any(issubclass(event, kind) for kind, _ in self._all)

    async def tell(self, event: Event) -> None:
        """Tells the hooks. One that fails is logged, and stops nothing."""
        for kind, hook in self:
            if isinstance(event, kind):
                try:
                    done = hook(event)
                    if inspect.isawaitable(done):
                        await done
                except Exception as error:
                    logger.warning("a hook of world %r failed at %s: %s", event.world, type(event).__name__, described(error))


class Resources:
    """One object per type, for processors: `insert(SamplingConfig(min_turns=3))`, `get(SamplingConfig)`."""

    def __init__(self, objects: Iterable[Any] = ()) -> None:
        self._held: dict[type, Any] = {}
        if not isinstance(objects, Iterable):
            raise TypeError(f"resources are a list of objects, not {objects!r:.100}")
        for one in objects:
            self.insert(one)

    def insert(self, resource: Any) -> None:
        """Puts a resource in the place of one of the same type."""
        self._held[type(resource)] = resource

    def insert_as(self, kind: type, resource: Any) -> None:
        """Puts a resource in under another type, a base class or protocol say."""
        self._held[kind] = resource

    def get(self, kind: type[T]) -> T | None:
        """The resource of a type, or None."""
        return self._held.get(kind)

    def require(self, kind: type[T]) -> T:
        """The resource of a type. Raises NotFound."""
        found = self._held.get(kind)
        if found is None:
            there = ", ".join(sorted(k.__name__ for k in self._held)) or "none"
            raise NotFound(f"no resource {kind.__name__}; there are: {there}")
        return found  # type: ignore[no-any-return]

    def remove(self, kind: type[T]) -> T | None:
        """Takes the resource of a type out, and returns it."""
        found: T | None = self._held.pop(kind, None)
        return found

    def contains(self, kind: type) -> bool:
        return kind in self._held

    def items(self) -> Iterator[tuple[type, Any]]:
        return iter(list(self._held.items()))

    def copy(self) -> Resources:
        """Resources of the same types that are copies: changing one changes no other. What can't be copied is shared."""
        found = Resources()
        for kind, one in self._held.items():
            try:
                found._held[kind] = copy.deepcopy(one)
            except Exception:  # a client, a lock
                found._held[kind] = one
        return found
