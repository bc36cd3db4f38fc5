"""Runs end: nothing that is made later lands in them. Steps of several processes stay apart."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from tests.programs import ran


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


def test_no_two_processes_take_one_step(store: odograph.Store) -> None:
    """Workers that take very many steps at the same time take each once."""
    fork = multiprocessing.get_context("fork")
    begin = fork.Barrier(4)

    def work() -> None:
        begin.wait()
        for _ in range(500):
            run.step()

    with warnings.catch_warnings(), store.record(task="x") as run:
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        workers = [fork.Process(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert sorted(s.index for s in store.trajectory(run.id).steps) == list(range(2000))


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


LEFT = """
import os, sys, odograph
store = odograph.open(sys.argv[1])
@odograph.action
def search(q):
    fork(q)
    return q
@odograph.context
def read(q):
    fork(q)
    return q
def fork(q):
    global worker
    if os.fork() == 0:
        worker = True
        with odograph.current().step(f"worker {q}") as step: step.reward(1.0)
        raise {leaves}
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
worker = False
try:
    with store.record(task="x") as run:
        with run.step("first") as step:
            step.reward(1.0)
            search("in an action")
            read("in a read")
        fork("in the run")
        with run.step("last") as step: step.reward(1.0)
except {leaves}:
    os._exit(not worker)
t = store.trajectory(run.id)
assert t.status == "completed" and len([r for r in t.records if isinstance(r, odograph.types.End)]) == 1, t.records
assert [(a.result, a.ok) for a in t.actions] == [("in an action", True)], t.actions
assert [c.data for c in t.contexts] == ["in a read"], t.contexts
assert [s.observation for s in t.steps] == ["first", "worker in an action", "worker in a read", "worker in the run", "last"], t.steps
assert [s.index for s in t.steps] == [0, 1, 2, 3, 4]
assert t.reward == 5.0 and odograph.validate(t).valid, odograph.validate(t).findings
print("good")
"""


@pytest.mark.parametrize("leaves", ["SystemExit", "ValueError"])
def test_a_forked_worker_leaves_what_it_was_forked_in(tmp_path: Path, leaves: str) -> None:
    """A worker that leaves the blocks of the process that forked it, as `sys.exit` does, ends none of them: that process does."""
    done = ran(LEFT.replace("{leaves}", leaves), str(tmp_path / "s"))
    assert done.stdout.strip() == "good", done.stderr


DAEMON = """
import os, sys, odograph
store = odograph.open(sys.argv[1])
done, told = os.pipe()
goes, go = os.pipe()
if os.fork() == 0:
    with store.record(task="x") as run:
        first = os.getpid()
        gone, going = os.pipe()
        if os.fork(): os._exit(0)
        os.close(going)
        os.read(gone, 1)  # until the first process is gone
        if {waited}: os.read(goes, 1)  # and its parent knows
        with run.step("daemon") as step: step.reward(1.0)
    os.write(told, b"x")
    os._exit(0)
os.close(told)
if {waited}:
    os.wait()
    os.write(go, b"x")
assert os.read(done, 1) == b"x"
(t,) = store.trajectories()
assert (t.status, t.reward) == ("completed", 1.0), (t.status, t.reward)
print("good")
"""


@pytest.mark.parametrize("waited", [False, True])
def test_a_daemon_ends_the_run_that_its_first_process_began(tmp_path: Path, waited: bool) -> None:
    """A process that goes on where the one that forked it ended, inside of a run, ends the run."""
    done = ran(DAEMON.replace("{waited}", str(waited)), str(tmp_path / "s"))
    assert done.stdout.strip() == "good", done.stderr


AFTER = """
import os, sys, odograph
store = odograph.open(sys.argv[1])
waits, go = os.pipe()
with store.record(task="x") as run:
    other = odograph.open(sys.argv[1]).append(run.id)
    with run.step("0") as step: step.reward(1.0)
    with other.step("1") as step: step.reward(1.0)
    for n in (4, 5):
        if os.fork() == 0:
            os.close(go)
            os.read(waits, 1)
            with run.step(str(n)) as step: step.reward(1.0)
            os._exit(0)
    for n in (2, 3):
        with run.step(str(n)) as step: step.reward(1.0)
for n in (4, 5):
    os.write(go, b"x")
    os.wait()
with other.step("6") as step: step.reward(1.0)
with store.append(run.id).step("7") as step: step.reward(1.0)
t = store.trajectory(run.id)
assert sorted((s.index, s.observation) for s in t.steps)[:4] == [(n, str(n)) for n in range(4)], t.steps
assert sorted(s.index for s in t.steps) == list(range(8)), t.steps
assert (t.reward, t.status, odograph.validate(t).errors) == (8.0, "completed", []), odograph.validate(t).errors
for file in (store.root / "journal").glob("*.steps"):
    os.utime(file, (1, 1))
store.seal()
assert not list((store.root / "journal").glob("*.steps"))
with store.append(run.id).step("8") as step: step.reward(1.0)
assert sorted(s.index for s in store.trajectory(run.id).steps) == list(range(9))
print("good")
"""


def test_steps_after_the_end_of_a_run_are_steps_of_their_own(tmp_path: Path) -> None:
    """Forked workers, and who went on with the trajectory, take steps when the run has ended, and when the count of them is gone."""
    done = ran(AFTER, str(tmp_path / "s"))
    assert done.stdout.strip() == "good", done.stderr


GONE_ON = """
import os, sys, odograph
store = odograph.open(sys.argv[1])
with store.record(task="x") as run:
    for n in range(2):
        with run.step(str(n)): pass
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    with odograph.open(sys.argv[1]).append(run.id).step("2"): pass
    with run.step("3"): pass
assert [(s.index, s.observation) for s in store.trajectory(run.id).steps] == [(n, str(n)) for n in range(4)]
print("good")
"""


def test_who_goes_on_with_a_run_that_has_forked(tmp_path: Path) -> None:
    """Steps from elsewhere stand behind those that the run had before its process forked."""
    done = ran(GONE_ON, str(tmp_path / "s"))
    assert done.stdout.strip() == "good", done.stderr


FORKED = """
import os, sys, odograph
store = odograph.open(sys.argv[1])
with store.record(task="over") as run, run.step(): pass
def files():
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    return list((store.root / "journal").glob("*.steps"))
assert not files()
with store.record(task="open") as run, run.step():
    assert len(files()) == 1
assert not files()
print("good")
"""


def test_a_fork_shares_the_runs_that_are_open(tmp_path: Path) -> None:
    """A process that forks leaves no file for runs that have ended, while it lives or later."""
    done = ran(FORKED, str(tmp_path / "s"))
    assert done.stdout.strip() == "good", done.stderr


OTHERS = """
import os, shutil, sys, tempfile, odograph
place = tempfile.mkdtemp()  # where others may look, too
store = odograph.open(place)
with store.record(task="x") as run:
    for folder, _, files in os.walk(place):
        for name in ["", *files]: os.chmod(os.path.join(folder, name), 0o777)
    if os.fork() == 0:
        os.setuid(65534)
        sys.exit()
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    with run.step(): pass
t = store.trajectory(run.id)
assert (t.status, len(t.steps), len([r for r in t.records if isinstance(r, odograph.types.End)])) == ("completed", 1, 1)
store.close()
shutil.rmtree(place)
print("good")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_worker_that_became_another_user_leaves_what_it_was_forked_in() -> None:
    """It may not signal the process that forked it, which is alive, and ends its run itself."""
    done = ran(OTHERS)
    assert done.stdout.strip() == "good", done.stderr
