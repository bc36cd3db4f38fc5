"""Which trajectories change: told to every page that listens, while one does. Knows no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..api import Store
from ..errors import OdographError

_EVERY = 0.5  # seconds between two looks
#: Pages that listen at once; more are refused.
MOST = 200
_NAMED = 500  # trajectories that one message names


class Live:
    """Follows a store. A listener gets lists of ids; a list that a slow listener has not taken grows, and nothing else does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed: dict[asyncio.Event, set[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[list[str]]]:
        """What changes from now on: each turn gives the ids of one look, or none where nothing changed for a while."""
        event = asyncio.Event()
        self._changed[event] = set()
        if self._task is None:
            self._begun = asyncio.Event()
            self._task = asyncio.create_task(self._follow(self._begun))
        try:
            await self._begun.wait()  # what is recorded before the first look would be told to nobody
            yield self._turns(event)
        finally:
            del self._changed[event]
            if not self._changed and self._task is not None:
                self._task.cancel()
                self._task = None

    @property
    def is_full(self) -> bool:
        """Whether as many listen as may."""
        return len(self._changed) >= MOST

    async def _turns(self, event: asyncio.Event) -> AsyncIterator[list[str]]:
        while True:
            try:
                await asyncio.wait_for(event.wait(), 15)
            except TimeoutError:
                yield []  # shows that the line still holds
                continue
            event.clear()
            ids, self._changed[event] = self._changed[event], set()
            yield sorted(ids)[:_NAMED]

    async def _follow(self, begun: asyncio.Event) -> None:
        try:
            tail = await asyncio.to_thread(self._store.tail, 0)
            while True:
                try:
                    ids = await asyncio.to_thread(lambda: {r.trajectory for r in tail})
                except (OSError, OdographError):  # the folder is exchanged, or away for a moment
                    ids = set()
                begun.set()
                if ids:
                    for event, held in self._changed.items():
                        held |= ids
                        event.set()
                await asyncio.sleep(_EVERY)
        finally:
            begun.set()
