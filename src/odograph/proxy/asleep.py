"""Conversations that no client names and that are not in memory: recorded before a restart, or forgotten since. Finds the
trajectories that a request may go on with.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ..api import Store
from ..errors import NotFound, StoreError
from ..trajectory import Trajectory

_MOST = 1000  # trajectories that are looked for: those that began last
_MOST_READ = 10  # that one request has read
#: What fails is repeated so soon, or never.
RETRIED_NS = 15 * 60 * 10**9


class Asleep:
    """The tasks of trajectories by id. Each is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tasks: OrderedDict[str, Any] | None = None
        #: Those whose first call may have failed a moment ago, by their task.
        self._begun: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, id: str, task: Any) -> None:
        """A trajectory that is forgotten now."""
        self._all()[id] = task
        while len(self._all()) > _MOST:
            self._all().popitem(last=False)

    def wake(self, said: set[str], *, begins: bool) -> Iterator[Trajectory]:
        """The trajectories that may hold a conversation in which users said this: those with such a task, then the newest.
        `begins`: those whose first call may be repeated with this."""
        tasks = self._all()
        if begins:
            found = [id for text in said for id in self._begun.get(text, ()) if id in tasks]
        else:
            found = [id for id, task in reversed(tasks.items()) if isinstance(task, str) and task in said]
            found += [id for id in reversed(tasks) if id not in found]
        for id in found[:_MOST_READ]:
            del tasks[id]
            with suppress(NotFound):
                t = self._store.trajectory(id)
                if t.metadata.get("door") == "proxy" and not {"run", "session"} & t.metadata.keys():
                    yield t

    def _all(self) -> OrderedDict[str, Any]:
        if self._tasks is None:
            self._tasks = OrderedDict()
            with suppress(StoreError):
                found = list(self._store.summaries(newest_first=True, limit=_MOST))
                self._tasks.update((s.id, s.task) for s in reversed(found))
                recent = time.time_ns() - RETRIED_NS
                for s in found:
                    if s.status in ("running", "unterminated") and s.steps < 2 and s.last > recent and isinstance(s.task, str):
                        self._begun[s.task].append(s.id)
        return self._tasks
