"""The runs of this process that have no end yet: one live run per task. Knows no agent."""

from __future__ import annotations

import weakref

from ..api import Store, default_store
from ..errors import InvalidInput
from .past import interrupted
from .session import Session
from .task import Task

#: By store and task.
_live: weakref.WeakValueDictionary[tuple[str, str], Session] = weakref.WeakValueDictionary()


def opened(task: Task, store: Store, attempt: int | None = None, group: str | None = None) -> Session:
    """A new run of a task. Raises InvalidInput where another is under way."""
    id = task.id if attempt is None else f"{task.id}\0{attempt}"
    live = of(store, id)
    if live is not None and live.over is None and not live.replaced:
        raise InvalidInput(
            f"a task with the id {task.id!r} is being run here already; give each task its own id, or reset the task"
        )
    session = task._session = _live[_key(store, id)] = Session(task, store, attempt=attempt, group=group)
    if session.continued and task._past is not None:
        interrupted(task._past, session.run)
    return session


def session_of(task: Task, store: Store | None) -> Session:
    """The task's run; a new one where it has none. Raises InvalidInput."""
    session: Session | None = task._session
    if session is None:
        session = opened(task, store or task._store or default_store())
    elif store is not None and store is not session.store:
        raise InvalidInput(f"task {task.id!r} is being recorded in {session.store}; reset the task to record in another store")
    return session


def of(store: Store, id: str) -> Session | None:
    """The run of the task with this id, where there is one here."""
    return _live.get(_key(store, id))


def forget(task: Task, store: Store) -> None:
    """The task has no run any more."""
    _live.pop(_key(store, task.id), None)


def _key(store: Store, id: str) -> tuple[str, str]:
    return store.backend.place.folder, id
