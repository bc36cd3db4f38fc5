"""One attempt of one task, wherever it is run: here, or on a machine of a cluster. Knows no agent."""

from __future__ import annotations

import copy

import msgspec

from ..api import Store
from ..errors import MissingExtra, OdographError
from .live import opened
from .response import TaskResponse
from .session import Session
from .task import Task


class Job(msgspec.Struct, frozen=True):
    """One attempt of one task; `attempt` None where there is only one."""

    task: Task
    attempt: int | None
    group: str | None
    #: The trajectory that it goes on with.
    past: str | None = None


async def one(job: Job, store: Store) -> TaskResponse:
    """One attempt to its end. Whatever goes wrong is in its response; only cancelling and a missing package raise."""
    try:
        return await begun(job, store).to_end()
    except MissingExtra:
        raise
    except OdographError as error:
        return TaskResponse(store, job.task.id, None, "failed", msg=str(error))


def begun(job: Job, store: Store) -> Session:
    """The run of an attempt; its first record says to other processes that it is under way."""
    task = job.task if job.attempt is None else copy.copy(job.task)
    if job.attempt is not None:
        task._session = None
    session: Session | None = task._session
    if session is None or session.over is not None:
        if job.past is not None:
            task._past, task._fork = store.trajectory(job.past), None
        session = opened(task, store, job.attempt, job.group)
    return session
