"""Many tasks at once: bounded, each failing alone, and going on where an earlier batch stopped. Knows no agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from ..api import Store
from ..bulk import Progress, for_each, ticker
from ..capture.values import said_of
from ..errors import InvalidInput, MissingExtra, OdographError, check_count
from ..store.summary import Summary
from . import on_ray
from .functions import agent_of
from .job import Job, begun, one
from .mcp import Connections
from .response import TaskResponse
from .rewarding import RewardFn, check_reward, rewarded
from .task import Task

_DONE = ("completed", "truncated")
_CUT_OFF = ("unterminated", "running", "cancelled")
_FIRST_LOOK, _LONGEST_LOOK = 0.1, 2.0  # seconds between looks at what another process does


class Plan(msgspec.Struct, frozen=True):
    """How a batch is run: the arguments of `Runners.run_task`."""

    max_concurrency: int = 64
    attempts: int = 1
    resume: bool = False
    progress: Progress = None
    runner: str = "local"
    reward: RewardFn | None = None
    #: Told of each response when it is there.
    ready: Callable[[TaskResponse], None] | None = None


async def run(tasks: list[Task], store: Store, plan: Plan) -> dict[str, Any]:
    """All attempts of all tasks: {task id: response}, or {task id: [responses]} with several attempts."""
    _check(tasks, plan)
    jobs, done = _jobs(tasks, store, plan)
    advance, close = ticker(plan.progress, len(jobs) + len(done), "tasks")
    for response in done.values():
        if plan.ready is not None:
            plan.ready(response)
        advance()
    try:
        if plan.runner == "ray":
            done |= await on_ray.run_jobs(jobs, store, plan.max_concurrency, advance)
        else:
            async with Connections():  # to the servers that its runs share
                done |= await _run_here(jobs, store, plan, advance)
    finally:
        close()
    if plan.attempts == 1:
        return {t.id: done[t.id, 0] for t in tasks}
    return {t.id: [done[t.id, n] for n in range(plan.attempts)] for t in tasks}


def _check(tasks: list[Task], plan: Plan) -> None:
    check_reward(plan.reward)
    for name in ("max_concurrency", "attempts"):
        check_count(name, getattr(plan, name))
    if plan.runner not in ("local", "ray"):
        raise InvalidInput(f"no runner {plan.runner!r}; there are: local, ray")
    seen: set[str] = set()
    for task in tasks:
        if not isinstance(task, Task):
            raise InvalidInput(f"a Task was expected, found {type(task).__name__}")
        if task.id in seen:
            raise InvalidInput(f"two tasks have the id {task.id!r}; for several tries of one task give attempts=")
        seen.add(task.id)
        agent_of(task)


def _jobs(tasks: list[Task], store: Store, plan: Plan) -> tuple[list[Job], dict[tuple[str, int], TaskResponse]]:
    """What there is to do, and what was done before."""
    held: dict[tuple[str, int], list[Any]] = {}
    if plan.resume:
        for summary in store.summaries(task_id=[t.id for t in tasks]):
            held.setdefault((str(summary.task_id), summary.attempt or 0), []).append(summary)
    jobs: list[Job] = []
    done: dict[tuple[str, int], TaskResponse] = {}
    for task in tasks:
        for number in range(plan.attempts):
            before = held.get((task.id, number), [])
            finished = _finished(before)
            if finished is not None:
                done[task.id, number] = _response(task, store, finished)
                continue
            cut_off = next(
                (s.id for s in reversed(before) if s.status in _CUT_OFF and not store.is_written_elsewhere(s.id)), None
            )
            several = plan.attempts > 1
            jobs.append(Job(task, number if several else None, task.id if several else None, cut_off))
    return jobs, done


def _finished(before: list[Summary]) -> Summary | None:
    """The attempt that needs not be made again."""
    return next((s for s in reversed(before) if s.status in _DONE), None)


def _response(task: Task, store: Store, finished: Summary) -> TaskResponse:
    answer = store.trajectory(finished.id).answer
    carry = task.conf.resp_carry_context
    return TaskResponse(
        store, task.id, finished.id, finished.status, answer=answer, msg=said_of(finished.error), carry_context=carry
    )


async def _shared(job: Job, store: Store) -> TaskResponse:
    """One attempt of a batch that other processes may be running too: what one of them has done, or has under way, is not done
    again; what one of them left when it died is gone on with."""
    wait = _FIRST_LOOK
    while True:
        try:
            with store.backend.lock("batch"):  # until the run's first record says that it is under way
                before = [s for s in store.summaries(task_id=[job.task.id]) if (s.attempt or 0) == (job.attempt or 0)]
                finished = _finished(before)
                if finished is not None:
                    return _response(job.task, store, finished)
                left = [s for s in reversed(before) if s.status in _CUT_OFF]
                if not any(s.status == "running" and store.is_written_elsewhere(s.id) for s in left):
                    session = begun(msgspec.structs.replace(job, past=left[0].id if left else job.past), store)
                    break
        except MissingExtra:
            raise
        except OdographError as error:
            return TaskResponse(store, job.task.id, None, "failed", msg=str(error))
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_LOOK)
    try:
        return await session.to_end()
    except OdographError as error:
        if isinstance(error, MissingExtra):
            raise
        return TaskResponse(store, job.task.id, None, "failed", msg=str(error))


async def _run_here(
    jobs: list[Job], store: Store, plan: Plan, advance: Callable[[], None]
) -> dict[tuple[str, int], TaskResponse]:
    results: dict[tuple[str, int], TaskResponse] = {}

    async def run_one(job: Job) -> None:
        response = results[job.task.id, job.attempt or 0] = await (_shared if plan.resume else one)(job, store)
        if plan.reward is not None:
            await rewarded(response, plan.reward)
        if plan.ready is not None:
            plan.ready(response)
        advance()

    await for_each(jobs, run_one, min(plan.max_concurrency, len(jobs)))
    return results
