"""What a generator enters is its own: whoever drives it, in whatever turn, thread or context."""

from __future__ import annotations

import asyncio
import gc
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import Context, copy_context
from typing import Any

import httpx
import pytest

import odograph
from odograph.capture import generators, scope
from odograph.capture.faults import faults
from odograph.capture.scope import Step

Runs = dict[str, odograph.Run]


def log(what: str) -> None:
    odograph.log_llm_call(model="m", user_prompt=what, response="a")


async def later(what: str) -> None:
    await asyncio.sleep(0)
    log(what)


def said(store: odograph.Store, run: odograph.Run) -> list[Any]:
    return [call.request["messages"][-1]["content"] for call in store.trajectory(run.id).llm_calls]


class Held:
    """A context manager of the user's own."""

    def __init__(self, run: odograph.Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._run.__enter__()

    def __exit__(self, *failure: Any) -> None:
        self._run.__exit__(*failure)


@contextmanager
def managed(run: odograph.Run) -> Iterator[None]:
    with run:
        yield


@contextmanager
def stacked(run: odograph.Run) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(run)
        stack.enter_context(run.step())
        yield


def pieces(name: str) -> Iterator[int]:
    for k in range(3):
        log(f"{name}{k}")
        yield k


def agent(store: odograph.Store, runs: Runs, name: str, around: Callable[[odograph.Run], Any] = lambda run: run) -> Iterator[int]:
    runs[name] = store.record(task=name)
    with around(runs[name]):
        yield from pieces(name)
        log(f"{name}3")


async def stream(store: odograph.Store, runs: Runs, name: str) -> AsyncIterator[int]:
    async with store.record(task=name) as run:
        runs[name] = run
        for k in range(2):
            async with run.step(k):
                await asyncio.gather(later(f"{name}{k}g"))
                yield k
                await asyncio.wait_for(later(f"{name}{k}w"), 60)
            await asyncio.to_thread(log, f"{name}{k}t")


def in_turn(ask: Callable[[Iterator[int]], Any], *agents: Iterator[int]) -> None:
    for _ in range(4):
        for one in agents:
            ask(one)


def in_new_contexts(one: Iterator[int]) -> None:
    copy_context().run(next, one, None)


@pytest.mark.parametrize("around", [lambda run: run, managed, stacked, Held])
@pytest.mark.parametrize("threads", [False, True])
def test_generators_that_are_driven_in_turn(store: odograph.Store, around: Callable[[odograph.Run], Any], threads: bool) -> None:
    """Each call is in the run that its own generator entered: in one thread and in a pool's, in one context and in new ones."""
    with ThreadPoolExecutor(2) as pool, store.record(task="outer") as outer:
        asks: list[Callable[[Any], Any]] = [lambda one: next(one, None), in_new_contexts]
        for ask in asks:
            runs: Runs = {}
            agents = [agent(store, runs, name, around) for name in "abc"]
            in_turn((lambda one, ask=ask: pool.submit(ask, one).result()) if threads else ask, *agents)
            for name in "abc":
                assert said(store, runs[name]) == [f"{name}{k}" for k in range(4)]
        assert odograph.current() is outer
    assert said(store, outer) == []
    assert not generators.entered


def test_steps_of_one_run_in_several_generators(store: odograph.Store) -> None:
    """Generators that take steps of one run in turn: each call and reward is in its own generator's step, and steps that are over
    are let go."""

    def worker(run: odograph.Run, name: str) -> Iterator[None]:
        for k in range(50):
            with run.step(f"{name}{k}") as step:
                log(f"{name}{k}")
                yield
                inside = odograph.current()
                assert inside is step
                inside.reward(1.0)

    with store.record(task="t") as run:
        both = [worker(run, "x"), worker(run, "y")]
        for _ in range(50):
            for one in both:
                next(one)
        gc.collect()
        assert sum(type(found) is Step and found.recorder is run.recorder for found in gc.get_objects()) < 10
        for one in both:
            next(one, None)
        assert odograph.current() is run
    steps = store.trajectory(run.id).steps
    assert len(steps) == 100
    assert all([c.request["messages"][0]["content"] for c in s.llm_calls] == [s.observation] and s.reward == 1.0 for s in steps)


def test_async_generators_that_are_driven_in_turn(store: odograph.Store) -> None:
    """Calls are in the run of the generator that made them, and so are those of the tasks and threads that it starts."""

    async def main() -> Runs:
        runs: Runs = {}
        streams = [stream(store, runs, name) for name in "abc"]
        for _ in range(3):
            for one in streams:
                await anext(one, None)
        assert odograph.current() is None
        return runs

    for name, run in asyncio.run(main()).items():
        assert said(store, run) == [f"{name}{k}{kind}" for k in range(2) for kind in "gwt"]
        assert [len(step.llm_calls) for step in store.trajectory(run.id).steps] == [2, 2]


@pytest.mark.parametrize("between", ["", "around", "around twice", "between", "around and between"])
def test_an_async_generator_whose_items_are_tasks(store: odograph.Store, monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    """Its own calls are in its run, and so are those of the tasks that it starts after one. Tasks that it starts before know no
    run, or one around it, or one of its consumer's: that is warned of once."""
    monkeypatch.setattr(faults, "outside", 0)
    monkeypatch.setattr(scope, "outside", None)  # the default store

    async def talk() -> AsyncIterator[odograph.Run]:
        async with store.record(task="t") as run:
            log("a")
            yield run
            log("b")
            await asyncio.gather(later("kept"), later("kept"))
            yield run
            await asyncio.gather(later("lost"), later("lost"))
            log("c")

    async def item(one: Any) -> Any:
        return await anext(one, None)

    async def main() -> odograph.Run:
        one = talk()
        with ExitStack() as stack:
            if "around" in between:
                outer = stack.enter_context(store.record(task="outer"))
                if "twice" in between:
                    stack.enter_context(outer.step())
            run: odograph.Run = await asyncio.create_task(item(one))
            if "between" in between:
                stack.enter_context(store.record(task="between"))
            assert await asyncio.create_task(item(one)) is run
            await later("outside of it, and told by nobody")
            assert faults.outside == 0
            with pytest.warns(RuntimeWarning, match="while a generator with a run awaits something") as told:
                assert await asyncio.create_task(item(one)) is None
            assert (faults.outside, len(told)) == (2, 1)
        return run

    assert said(store, asyncio.run(main())) == ["a", "b", "kept", "kept", "c"]


def test_others_beside_a_generator_whose_items_are_tasks(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of a server that have runs of their own, beside one whose generator awaits something: nothing is warned of."""
    monkeypatch.setattr(faults, "outside", 0)

    async def talk(inside: asyncio.Event, goes: asyncio.Event) -> AsyncIterator[odograph.Run]:
        async with store.record(task="t") as run:
            yield run
            inside.set()
            await goes.wait()

    async def item(one: Any) -> Any:
        return await anext(one, None)

    async def other() -> odograph.Run:
        async with store.record(task="other") as run:
            log("other")
            async with run.step():
                log("step")
        return run

    async def main() -> odograph.Run:
        inside, goes = asyncio.Event(), asyncio.Event()
        one = talk(inside, goes)
        await asyncio.create_task(item(one))
        last = asyncio.create_task(item(one))
        await inside.wait()
        run = await asyncio.create_task(other())
        goes.set()
        await last
        return run

    assert said(store, asyncio.run(main())) == ["other", "step"]
    assert faults.outside == 0


def test_a_generator_that_is_read_in_threads_by_a_server(store: odograph.Store) -> None:
    """Starlette asks a sync generator for each piece in a thread, in a context of its own."""
    concurrency = pytest.importorskip("starlette.concurrency")
    runs: Runs = {}

    async def main() -> None:
        async def read(name: str) -> list[int]:
            return [k async for k in concurrency.iterate_in_threadpool(agent(store, runs, name))]

        assert await asyncio.gather(read("a"), read("b")) == [[0, 1, 2]] * 2

    asyncio.run(main())
    assert [said(store, runs[name]) for name in "ab"] == [[f"{name}{k}" for k in range(4)] for name in "ab"]


def test_generators_in_generators(store: odograph.Store) -> None:
    """A generator with a run that reads another one: what each calls itself is in its own run."""
    runs: Runs = {}

    def outer() -> Iterator[None]:
        with store.record(task="outer") as run:
            runs["outer"] = run
            for k in agent(store, runs, "inner"):
                log(f"between {k}")
                yield

    for _ in outer():
        pass
    assert said(store, runs["outer"]) == [f"between {k}" for k in range(3)]
    assert said(store, runs["inner"]) == [f"inner{k}" for k in range(4)]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("how", ["close", "throw", "collect"])
def test_a_generator_that_is_left(store: odograph.Store, first: int, how: str) -> None:
    """Closed, thrown into or collected, in either order: its run ends, and the other generator's goes on."""
    runs: Runs = {}
    both: list[Any] = [agent(store, runs, "a"), agent(store, runs, "b")]
    assert [next(both[0]), next(both[1])] == [0, 0]
    gone, kept = "ab"[first], "ab"[1 - first]
    if how == "close":
        both[first].close()
    if how == "throw":
        with pytest.raises(ValueError, match="x"):
            both[first].throw(ValueError("x"))
    both[first] = None
    gc.collect()
    assert odograph.current() is runs[kept]
    assert said(store, runs[gone]) == [f"{gone}0"]
    assert store.trajectory(runs[gone].id).status == ("failed" if how == "throw" else "cancelled")
    assert list(both[1 - first]) == [1, 2]
    assert said(store, runs[kept]) == [f"{kept}{k}" for k in range(4)]
    assert odograph.current() is None


def test_a_loop_in_a_generator(store: odograph.Store) -> None:
    """Tasks and callbacks of a loop that a generator runs keep their own runs."""
    runs: Runs = {}

    async def one(name: str) -> None:
        async with store.record(task=name) as run:
            runs[name] = run
            await later(f"{name}0")
            asyncio.get_running_loop().call_soon(log, f"{name}1")
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(one("x"), one("y"))
        log("own")

    def looping() -> Iterator[None]:
        with store.record(task="loop") as run:
            runs["loop"] = run
            asyncio.run(main())
            yield

    other = agent(store, runs, "other")
    next(other)
    assert list(looping()) == [None]
    assert [said(store, runs[name]) for name in ("x", "y", "loop", "other")] == [["x0", "x1"], ["y0", "y1"], ["own"], ["other0"]]
    del other


def test_what_sets_a_scope_of_its_own_keeps_it_in_a_generator(store: odograph.Store) -> None:
    """`bind`, decorated generators, coroutines of a loop: what runs in them is theirs, in whatever generator they are called."""
    runs: Runs = {}

    @odograph.action
    def tool() -> Iterator[None]:
        log("in the tool")
        yield

    async def task() -> None:
        log("task")

    with store.record(task="bound") as bound:
        hello, context = odograph.bind(lambda: log("bound")), copy_context()

        def calling() -> Iterator[Any]:
            with store.record(task="own") as run:
                runs["own"] = run
                hello()
                with pytest.raises(StopIteration):
                    context.run(task().send, None)  # as a loop does
                for _ in tool():
                    log("own")
                    yield None
                yield odograph.bind(lambda: log("of the generator"))

        reading, other = calling(), agent(store, runs, "a")
        next(reading)
        next(other)
        next(reading)()
    assert said(store, bound) == ["bound", "task"]
    assert said(store, runs["own"]) == ["in the tool", "own", "of the generator"]
    (action,) = store.trajectory(runs["own"].id).actions
    assert [call.parent == action.id for call in store.trajectory(runs["own"].id).llm_calls] == [True, False, False]


def test_what_an_async_tool_does_in_a_generator_with_a_run_is_the_tools(store: odograph.Store) -> None:
    """A decorated async generator and an async function that are called in an async generator with a run of its own."""

    @odograph.action
    async def tool() -> AsyncIterator[int]:
        log("in the tool")
        yield 1

    @odograph.action
    async def other() -> None:
        log("in the other")

    async def talk() -> AsyncIterator[odograph.Run]:
        async with store.record(task="t") as run:
            async for _ in tool():
                log("own")
            await other()
            yield run

    async def main() -> list[odograph.Run]:
        return [run async for run in talk()]

    (run,) = asyncio.run(main())
    t = store.trajectory(run.id)
    first, second = t.actions
    assert [(what, call.parent) for what, call in zip(said(store, run), t.llm_calls, strict=True)] == [
        ("in the tool", first.id),
        ("own", run.root),
        ("in the other", second.id),
    ]


def test_what_enters_for_its_caller(store: odograph.Store) -> None:
    """An async context manager made of a generator gives its run to who enters it, in a generator as elsewhere."""

    @asynccontextmanager
    async def session(name: str) -> AsyncIterator[odograph.Run]:
        async with store.record(task=name) as run:
            yield run
            log("left")

    async def talk(name: str) -> AsyncIterator[odograph.Run]:
        async with session(name) as run:
            for k in range(2):
                await later(f"{name}{k}")
                yield run

    async def main() -> list[odograph.Run]:
        both = [talk("a"), talk("b")]
        runs = [await anext(one) for one in both]
        assert [await anext(one) for one in both] == runs
        for one in both:
            assert isinstance(one, types.AsyncGeneratorType)
            with pytest.raises(StopAsyncIteration):
                await anext(one)
        async with session("c") as run:
            log("plain")
        return [*runs, run]

    assert [said(store, run) for run in asyncio.run(main())] == [["a0", "a1", "left"], ["b0", "b1", "left"], ["plain", "left"]]


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("threads", [False, True])
def test_generators_that_record_before_and_after_their_run(store: odograph.Store, around: bool, threads: bool) -> None:
    """What a generator records outside of its own run is in no other generator's: it goes to the run around them, or to none."""

    def agent(name: str) -> Iterator[None]:
        log(f"{name} before")
        yield
        with store.record(task=name) as runs[name]:
            log(name)
            yield
            yield
        log(f"{name} after")
        yield

    runs: Runs = {}
    outer = store.record(task="outer")
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        if around:
            stack.enter_context(outer)
        ask: Callable[[Any], Any] = odograph.bind(next) if around and threads else next
        both = [agent("a"), agent("b")]
        next(both[0])
        for one in [both[0], both[1], both[1], both[1], both[1], both[0], both[0]]:
            pool.submit(ask, one).result() if threads else ask(one)
        if threads:
            pool.submit(log, "a job of its own").result()
        assert [next(one, None) for one in both] == [None, None]
    assert [said(store, runs[name]) for name in "ab"] == [["a"], ["b"]]
    assert said(store, outer) == (["a before", "b before", "b after", "a after"] if around else [])


def test_a_helper_that_goes_on_with_a_generator(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for the next item drives the generator from then on: a helper that takes it over after the first item sees its
    run between two items, and so does who drove it before."""
    monkeypatch.setattr(faults, "outside", 0)
    runs: Runs = {}

    def limited(one: Iterator[int]) -> Iterator[int]:
        for k in one:
            log(f"helper{k}")
            yield k

    one = agent(store, runs, "a")
    assert next(one) == 0
    for k in limited(one):
        log(f"consumer{k}")
    assert said(store, runs["a"]) == ["a0", "a1", "helper1", "consumer1", "a2", "helper2", "consumer2", "a3"]
    assert faults.outside == 0


@pytest.mark.parametrize("before", [True, False])
def test_a_task_of_a_generator_before_or_after_its_run(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """A task that a generator starts outside of its own run, while another generator waits, may get that one's run: it is told
    of, at the latest when the first generator enters its run."""
    monkeypatch.setattr(faults, "outside", 0)
    runs: Runs = {}

    def first() -> Iterator[Any]:
        with store.record(task="first") as runs["first"]:
            yield asyncio.ensure_future(later("of the first"))
            yield None

    def second() -> Iterator[Any]:
        if before:
            yield asyncio.ensure_future(later("of the second"))
        with store.record(task="second") as runs["second"]:
            pass
        if not before:
            yield asyncio.ensure_future(later("of the second"))
        yield None

    async def main() -> None:
        one, other = first(), second()
        for task in [next(one), next(other)]:
            await task
        assert faults.outside == (0 if before else 2)
        for _ in (one, other):
            next(other, None)
        assert faults.outside == (1 if before else 2)
        next(one)
        next(one, None)

    asyncio.run(main())
    assert said(store, runs["first"]) == ["of the first", "of the second"]


def test_bind_in_a_generator(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that a generator bound is of its run, while it waits and others are at work, in tasks of the function's own, too."""
    monkeypatch.setattr(faults, "outside", 0)
    runs: Runs = {}

    def talk(name: str, calls: Callable[[str], Any] | None) -> Iterator[Callable[[str], Any]]:
        with store.record(task=name) as runs[name]:
            yield odograph.bind(lambda what: (log(what), asyncio.run(later(what))))
            if calls is not None:
                calls("bound")
            yield print

    b = talk("b", lambda what: bound(what))
    next(b)
    a = talk("a", None)
    bound = next(a)
    next(b)
    assert said(store, runs["a"]) == ["bound", "bound"]
    assert said(store, runs["b"]) == []
    assert faults.outside == 0


@pytest.fixture
def run_of_a_fixture(store: odograph.Store) -> Iterator[odograph.Run]:
    with store.record(task="t") as run:
        yield run


def test_a_fixture_gives_its_run(store: odograph.Store, run_of_a_fixture: odograph.Run) -> None:
    """A run that pytest's fixture enters is the test's, and that of all generators in it."""
    log("own")
    assert list(pieces("p")) == [0, 1, 2]
    assert said(store, run_of_a_fixture) == ["own", "p0", "p1", "p2"]


def test_a_call_after_the_function_that_drove_a_generator(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """While a generator with a run waits, a call that comes when its driver is over is in no run, and is told of."""
    monkeypatch.setattr(faults, "outside", 0)
    monkeypatch.setattr(scope, "outside", None)  # the default store

    def items(run: odograph.Run) -> Iterator[int]:
        with run:
            yield 1

    def drive(made: Iterator[int]) -> None:
        next(made)
        log("by the driver")

    run = store.record(task="t")
    made = items(run)
    drive(made)
    log("after it")
    assert (said(store, run), faults.outside) == (["by the driver"], 1)
    assert "while a generator with a run waits" in str(recwarn.pop(RuntimeWarning).message)
    next(made, None)


def test_a_run_that_is_over_is_missed_by_nobody(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call in a thread is outside of no run where all runs are over, also while the program keeps them."""
    monkeypatch.setattr(faults, "outside", 0)
    monkeypatch.setattr(scope, "outside", None)  # the default store
    with ThreadPoolExecutor(1) as pool:
        with store.record(task="t") as run:
            pool.submit(log, "while it is open").result()
            assert faults.outside == 1
        pool.submit(log, "when it is over").result()
    assert (faults.outside, said(store, run)) == (1, [])


def test_nothing_is_kept_of_generators_that_are_over(store: odograph.Store) -> None:
    """A program that runs for days in such generators needs no more memory for each: read to the end, left, or dropped."""

    def items() -> Iterator[int]:
        with store.record(task="x") as run, run.step():
            yield 1
            yield 2

    before = set(generators.entered)  # of other tests
    assert list(items()) == [1, 2]
    left = items()
    next(left)
    left.close()  # type: ignore[attr-defined]
    next(items())
    gc.collect()
    assert set(generators.entered) <= before


def test_a_call_on_the_wire_that_may_be_of_a_generator_is_told_of(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model call by a task that knows the run around a generator, and not the run that the generator entered, is warned of."""
    monkeypatch.setattr(faults, "outside", 0)
    client = odograph.wrap(httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={}))))

    async def talk() -> AsyncIterator[None]:
        async with store.record(task="t"):
            yield
            await asyncio.create_task(client.post("http://a/v1/chat/completions", json={"model": "m"}))

    async def item(one: Any) -> None:
        await anext(one, None)

    async def main() -> None:
        async with client, store.record(task="outer"):
            one = talk()
            await asyncio.create_task(item(one))
            with pytest.warns(RuntimeWarning, match="in the run around a generator"):
                await asyncio.create_task(item(one))

    asyncio.run(main())
    assert faults.outside == 1


def test_a_generator_that_is_over_is_not_held_by_its_run(store: odograph.Store) -> None:
    """A program that keeps the runs keeps nothing that their generators worked with."""

    class Large:
        pass

    runs, held = [], []

    def items() -> Iterator[int]:
        large = Large()
        held.append(weakref.ref(large))
        with store.record(task="x") as run, run.step() as step:
            runs.append((run, step))
            yield 1

    assert list(items()) == [1]
    gc.collect()
    assert held[0]() is None
    runs[0][0].reward(1.0)


def test_a_task_in_the_run_around_a_generator_that_another_task_drives(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call belongs to that run, and is no doubt: the generator waits, or awaits something, in a task that goes on."""
    monkeypatch.setattr(faults, "outside", 0)

    async def talk(inside: asyncio.Event, goes: asyncio.Event) -> AsyncIterator[int]:
        with store.record(task="inner"):
            yield 1
            inside.set()
            await goes.wait()

    async def drive(one: AsyncIterator[int], first: asyncio.Event) -> None:
        async for _ in one:
            first.set()
            await asyncio.sleep(0)

    async def main() -> odograph.Run:
        first, inside, goes = asyncio.Event(), asyncio.Event(), asyncio.Event()
        with store.record(task="outer") as run:
            driving = asyncio.create_task(drive(talk(inside, goes), first))
            await first.wait()
            await asyncio.create_task(later("while it waits"))
            await inside.wait()
            await asyncio.create_task(later("while it awaits"))
            goes.set()
            await driving
        return run

    assert said(store, asyncio.run(main())) == ["while it waits", "while it awaits"]
    assert faults.outside == 0


def test_a_generator_is_in_its_run_whoever_asks_for_its_items(store: odograph.Store) -> None:
    """In a context that knows no run, and in one in which another run was entered."""

    def items() -> Iterator[bool]:
        with store.record(task="x") as run:
            while True:
                yield odograph.current() is run

    one = items()
    context = copy_context()
    assert [next(one), context.run(next, one)] == [True, True]
    with store.record(task="y"):
        assert next(one)
    assert copy_context().run(next, one)


def test_a_run_that_two_generators_entered(store: odograph.Store) -> None:
    """It is that of the outer one still, when the inner one has left it, in a context that knows no run, too; then nobody's."""
    run = store.record(task="x")

    def inner() -> Iterator[int]:
        with run.step():
            with step:
                yield 1

    def outer() -> Iterator[bool]:
        with step:
            for _ in inner():
                pass
            yield odograph.current() is step
            yield odograph.current() is step

    with run:
        step = run.step()
        one = outer()
        assert next(one)
        assert Context().run(next, one)
        assert list(one) == []
        assert odograph.current() is run
    assert odograph.current() is None


def test_a_generator_that_is_closed_in_another_context_leaves_what_was_around_it(store: odograph.Store) -> None:
    """And not the run of another generator, which its own context had before."""

    def items(name: str) -> Iterator[int]:
        with store.record(task=name):
            yield 1

    with store.record(task="outer") as outer:
        first, second = items("first"), items("second")
        next(first)
        next(second)
        context = copy_context()
        context.run(second.close)  # type: ignore[attr-defined]
        assert context.run(odograph.current) is outer
        first.close()  # type: ignore[attr-defined]


def test_a_generator_that_entered_its_run_twice(store: odograph.Store) -> None:
    """Beside it, another generator is in what is around the two."""

    def twice() -> Iterator[int]:
        with store.record(task="x") as run, run:
            yield 1

    def plain() -> Iterator[Any]:
        yield odograph.current()

    with store.record(task="outer") as outer:
        one = twice()
        next(one)
        assert next(plain()) is outer
        one.close()  # type: ignore[attr-defined]
        assert odograph.current() is outer
