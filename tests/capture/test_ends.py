"""Runs end: nothing that is made later lands in them. Steps of several processes stay apart."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph


def log() -> None:
    odograph.log_llm_call(model="m", user_prompt="later", response="a")


def count(store: odograph.Store, run: odograph.Run) -> int:
    return len(store.trajectory(run.id).llm_calls)


def test_a_run_that_another_task_closes(store: odograph.Store) -> None:
    """An async generator that a run is in, closed by another task: what its consumer does next is not in that run."""

    async def answer() -> AsyncIterator[Any]:
        async with store.record(task="x") as run:
            yield run
            yield run

    async def main() -> None:
        stream = answer()
        run = await anext(stream)
        await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
        assert odograph.current() is None
        log()
        assert count(store, run) == 0

    asyncio.run(main())


def test_a_task_that_outlives_its_run(store: odograph.Store) -> None:
    """A task that was started in a run and goes on after its end is in the run around, and in none where there is none."""

    async def main(outer: odograph.Run | None) -> None:
        seen: list[Any] = []
        gate = asyncio.Event()

        async def late() -> None:
            await gate.wait()
            seen.append(odograph.current())
            log()

        with store.record(task="inner") as run, run.step():
            task = asyncio.create_task(late())
        gate.set()
        await task
        assert seen == [outer]
        assert count(store, run) == 0

    asyncio.run(main(None))
    with store.record(task="outer") as outer:
        asyncio.run(main(outer))
    assert count(store, outer) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_runs_that_are_left_out_of_order(store: odograph.Store, order: tuple[int, int]) -> None:
    """Two generators, each with a run: closed in either order, the one that is open is the current one, then none is."""

    def opened() -> Iterator[odograph.Run]:
        with store.record(task="x") as run:
            yield run

    both = [opened(), opened()]
    runs = [next(g) for g in both]
    both[order[0]].close()  # type: ignore[attr-defined]
    assert odograph.current() is runs[order[1]]
    both[order[1]].close()  # type: ignore[attr-defined]
    assert odograph.current() is None


def test_an_ended_run_is_there_by_name(store: odograph.Store) -> None:
    """What is recorded in an ended run by its name is recorded there, and what happens inside of that, too."""
    with store.record(task="x") as run:
        pass
    with run.step():
        log()
    run.reward(1.0)
    assert count(store, run) == 1
    assert store.trajectory(run.id).reward == 1.0


def test_steps_of_forked_workers(tmp_path: Path) -> None:
    """Workers that are forked inside of a run, and the process that forked them, take steps of their own; every reward counts, and
    no step is missing, though nothing is in it."""
    code = f"""
import multiprocessing, odograph
store = odograph.open({str(tmp_path / "s")!r})
def work(k):
    for n in range(3):
        with odograph.current().step(f"{{k}}.{{n}}") as step: step.reward(1.0)
    if k != "parent": odograph.current().step()  # the worker ends at once
with store.record(task="x") as run:
    with run.step("before") as step: step.reward(1.0)
    fork = multiprocessing.get_context("fork")
    ps = [fork.Process(target=work, args=(k,)) for k in range(4)]
    for p in ps: p.start()
    work("parent")
    for p in ps: p.join()
    with run.step("after") as step: step.reward(1.0)
t = store.trajectory(run.id)
assert sorted(s.index for s in t.steps) == list(range(21)), [s.index for s in t.steps]
assert len({{s.observation for s in t.steps}}) == 18
(summary,) = store.summaries()
assert (t.reward, summary.reward) == (17.0, 17.0), (t.reward, summary.reward)
import os
assert not [n for n in os.listdir(store.root / "journal") if n.endswith(".steps")]
print("good")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "good", done.stderr


def test_forked_workers_count_the_steps_of_each_run_and_agent(store: odograph.Store) -> None:
    """Of two runs that workers share, and of the agents in them, each counts its own steps."""
    fork = multiprocessing.get_context("fork")

    def work() -> None:
        for run in (one, two):
            for scope in (run, run.sub_agent("helper")):
                with scope.step("seen"):
                    pass

    with warnings.catch_warnings(), store.record(task="x", agent="a") as one, store.record(task="x", agent="a") as two:
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        workers = [fork.Process(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        work()
        for worker in workers:
            worker.join()
        work()
    for run in (one, two):
        steps = store.trajectory(run.id).steps
        for agent in ("a", "helper"):
            assert sorted(s.index for s in steps if s.agent == agent) == [0, 1, 2, 3]


def _append(root: str, id: str, k: int) -> None:
    with odograph.open(root) as store:
        run = store.append(id)
        for n in range(3):
            with run.step(f"{k}.{n}"):
                pass


def test_steps_of_processes_that_go_on_with_a_trajectory(store: odograph.Store) -> None:
    """Processes that reopen one trajectory at a time take steps of their own."""
    with store.record(task="x") as run, run.step("first"):
        pass
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_append, args=(str(store.root), run.id, k)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    steps = store.trajectory(run.id).steps
    assert sorted(s.index for s in steps) == list(range(10))
    assert len({s.observation for s in steps}) == 10


def test_steps_of_a_run_that_another_process_goes_on_with(store: odograph.Store) -> None:
    """A run that is still being recorded goes on behind the steps that another process took in the trajectory meanwhile."""
    with store.record(task="x") as run:
        with run.step("first"):
            pass
        other = multiprocessing.get_context("spawn").Process(target=_append, args=(str(store.root), run.id, 0))
        other.start()
        other.join()
        with run.step("last"):
            pass
    steps = store.trajectory(run.id).steps
    assert sorted(s.index for s in steps) == list(range(5))
    assert next(s.observation for s in steps if s.index == 4) == "last"
