"""Conversations that no client names and that are not in memory: recorded before a restart, or forgotten since. Finds the
trajectories that a request may go on with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ..api import Store
from ..errors import NotFound, StoreError
from ..trajectory import Trajectory

_MOST = 1000  # trajectories that are looked for: those that began last
_MOST_READ = 10  # that one request has read


class Asleep:
    """The tasks of trajectories by id. Each is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tasks: OrderedDict[str, Any] | None = None

    def add(self, id: str, task: Any) -> None:
        """A trajectory that is forgotten now."""
        self._all()[id] = task
        while len(self._all()) > _MOST:
            self._all().popitem(last=False)

    def wake(self, said: set[str]) -> Iterator[Trajectory]:
        """The trajectories that may hold a conversation in which users said this: those with such a task, then the newest."""
        tasks = self._all()
        likely = [id for id, task in reversed(tasks.items()) if isinstance(task, str) and task in said]
        for id in [*likely, *(id for id in reversed(tasks) if id not in likely)][:_MOST_READ]:
            del tasks[id]
            with suppress(NotFound):
                t = self._store.trajectory(id)
                if t.metadata.get("door") == "proxy" and not {"run", "session"} & t.metadata.keys():
                    yield t

    def _all(self) -> OrderedDict[str, Any]:
        if self._tasks is None:
            self._tasks = OrderedDict()
            with suppress(StoreError):
                found = [(s.id, s.task) for s in self._store.summaries(newest_first=True, limit=_MOST)]
                self._tasks.update(reversed(found))
        return self._tasks
