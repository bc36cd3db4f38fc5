"""A batch on a Ray cluster: actors that reopen the same store, each with its own journal file. Knows no agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..api import Store, open
from ..clusters import started
from ..store.backend import Place
from .job import Job, one
from .response import TaskResponse


async def run_jobs(
    jobs: list[Job], store: Store, at_once: int, advance: Callable[[], None]
) -> dict[tuple[str, int], TaskResponse]:
    """The jobs, spread over as many actors as the cluster has CPUs; at most `at_once` at a time. Raises what `started`
    raises.

    Tasks travel pickled; what they record is in the store, which all machines
    have to see under the same path. An actor that dies fails the jobs that it was at.
    """
    ray = started("a batch on Ray")
    count = max(1, min(at_once, len(jobs), int(ray.cluster_resources().get("CPU", 1))))
    each = -(-at_once // count)
    worker = ray.remote(num_cpus=1, max_concurrency=each, max_restarts=-1)(Worker)
    workers = [worker.remote(store.backend.place) for _ in range(count)]
    results: dict[tuple[str, int], TaskResponse] = {}
    waiting = iter(enumerate(jobs))
    allowed = asyncio.Semaphore(at_once)

    async def work() -> None:
        for number, job in waiting:
            async with allowed:
                try:
                    response = await workers[number % count].run.remote(job)
                except ray.exceptions.RayError as error:
                    why = str(error).strip().splitlines()
                    response = TaskResponse(
                        store, job.task.id, None, "failed", msg=f"{type(error).__name__}: {why[0] if why else ''}"
                    )
            response._store, response._session = store, None
            results[job.task.id, job.attempt or 0] = response
            advance()

    try:
        await asyncio.gather(*(work() for _ in range(min(at_once, len(jobs)))))
    finally:
        await asyncio.gather(*(w.close.remote() for w in workers), return_exceptions=True)
        for each_worker in workers:
            ray.kill(each_worker)
    return results


class Worker:
    """An actor: runs jobs into the store."""

    def __init__(self, place: Place) -> None:
        self._store = open(place)

    async def run(self, job: Job) -> TaskResponse:
        return await one(job, self._store)

    async def close(self) -> None:
        self._store.close()
