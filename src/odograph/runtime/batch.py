"""Many tasks at once: bounded, each failing alone, and going on where an earlier batch stopped. Knows no agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..api import Store
from ..bulk import Progress, for_each, ticker
from ..errors import InvalidInput, check_count
from . import on_ray
from .functions import agent_of
from .job import Job, one
from .response import TaskResponse
from .task import Task

_DONE = ("completed", "truncated")
_CUT_OFF = ("unterminated", "running", "cancelled")


class Plan(msgspec.Struct, frozen=True):
    """How a batch is run: the arguments of `Runners.run_task`."""

    max_concurrency: int = 64
    attempts: int = 1
    resume: bool = False
    progress: Progress = None
    runner: str = "local"


async def run(tasks: list[Task], store: Store, plan: Plan) -> dict[str, Any]:
    """All attempts of all tasks: {task id: response}, or {task id: [responses]} with several attempts."""
    _check(tasks, plan)
    jobs, done = _jobs(tasks, store, plan)
    advance, close = ticker(plan.progress, len(jobs) + len(done), "tasks")
    for _ in done:
        advance()
    try:
        if plan.runner == "ray":
            done |= await on_ray.run_jobs(jobs, store, plan.max_concurrency, advance)
        else:
            done |= await _run_here(jobs, store, plan.max_concurrency, advance)
    finally:
        close()
    if plan.attempts == 1:
        return {t.id: done[t.id, 0] for t in tasks}
    return {t.id: [done[t.id, n] for n in range(plan.attempts)] for t in tasks}


def _check(tasks: list[Task], plan: Plan) -> None:
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
            finished = next((s for s in reversed(before) if s.status in _DONE), None)
            if finished is not None:
                answer = store.trajectory(finished.id).answer
                carry = task.conf.resp_carry_context
                done[task.id, number] = TaskResponse(
                    store, task.id, finished.id, finished.status, answer=answer, msg=_message(finished.error), carry_context=carry
                )
                continue
            cut_off = next(
                (s.id for s in reversed(before) if s.status in _CUT_OFF and not store.is_written_elsewhere(s.id)), None
            )
            several = plan.attempts > 1
            jobs.append(Job(task, number if several else None, task.id if several else None, cut_off))
    return jobs, done


def _message(error: Any) -> str | None:
    return error.get("message") if isinstance(error, dict) else error


async def _run_here(
    jobs: list[Job], store: Store, at_once: int, advance: Callable[[], None]
) -> dict[tuple[str, int], TaskResponse]:
    results: dict[tuple[str, int], TaskResponse] = {}

    async def run_one(job: Job) -> None:
        results[job.task.id, job.attempt or 0] = await one(job, store)
        advance()

    await for_each(jobs, run_one, min(at_once, len(jobs)))
    return results
