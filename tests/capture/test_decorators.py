"""`@action` and `@context`: the function's own value or exception goes through untouched."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

import odograph
from odograph.capture import decorators
from odograph.capture.scope import Scope


@odograph.action
def add(a: int, b: int = 2, *rest: int, **more: Any) -> int:
    """Adds."""
    odograph.log_context("table", [a, b], purpose="to add")
    odograph.log_llm_call(model="m", system_prompt="s", user_prompt="u", response="r", thinking="high confidence")
    return a + b


@odograph.action(name="fails", description="always")
async def fail(x: int) -> int:
    raise LookupError(f"no {x}")


@odograph.context(purpose="why")
def read(key: str) -> dict[str, str]:
    return {"key": key}


@odograph.action
def count(n: int) -> Iterator[int]:
    for i in range(n):
        got = yield i
        if got == "stop":
            return
        odograph.log_context("inside", i)


@odograph.action
async def acount(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


class Tools:
    @odograph.action
    def method(self, x: int) -> list[int]:
        return [x]


def test_outside_of_a_run_functions_just_run() -> None:
    """Without a run nothing is recorded and nothing changes."""
    assert add(1) == 3
    assert list(count(2)) == [0, 1]
    assert add.__name__ == "add"
    assert add.__doc__ == "Adds."


def test_functions(store: odograph.Store) -> None:
    """Arguments by name, result, exception and duration are recorded; what happens inside is inside; the caller gets what it would."""
    argument = [1]
    tools = Tools()
    with store.record(task="x") as run, run.step():
        assert add(1, 5, 6, z=7) == 6
        with pytest.raises(LookupError, match="no 3"):
            asyncio.run(fail(3))
        assert read("k") == {"key": "k"}
        result = tools.method(1)
        result.append(99)
        wrapped = odograph.wrap_action(lambda items: items.append(2) or items, name="mutates", description="d")
        assert wrapped(argument) is argument
        with pytest.raises(TypeError):
            add()  # type: ignore[call-arg]
    t = store.trajectory(run.id)
    a, failed, method, mutates, wrong = t.actions
    assert (a.name, a.arguments, a.result, a.ok) == ("add", {"a": 1, "b": 5, "rest": [6], "z": 7}, 6, True)
    assert a.duration is not None
    assert (failed.name, failed.arguments, failed.ok) == ("fails", {"x": 3}, False)
    assert failed.error == {"type": "LookupError", "message": "no 3"}
    assert failed.extra == {"description": "always"}
    assert (method.arguments, method.result) == ({"x": 1}, [1])
    assert (mutates.arguments, mutates.result) == ({"items": [1]}, [1, 2])
    assert wrong.ok is False
    inside, reading = t.contexts
    assert (inside.parent, inside.data, inside.purpose) == (a.id, [1, 5], "to add")
    assert (reading.provider, reading.query, reading.data, reading.purpose) == ("read", {"key": "k"}, {"key": "k"}, "why")
    (call,) = t.llm_calls
    assert call.record.parent == a.id
    assert call.messages == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert call.thinking == "high confidence"


def test_generators(store: odograph.Store) -> None:
    """Generators are recorded when they end, or are left: with what they yielded; the scope never leaks to the consumer."""
    with store.record(task="x") as run, run.step() as step:
        assert list(count(3)) == [0, 1, 2]
        stopped = count(5)
        assert next(stopped) == 0
        assert odograph.current() is step
        with pytest.raises(StopIteration):
            stopped.send("stop")  # type: ignore[attr-defined]
        left = count(9)
        assert next(left) == 0
        left.close()  # type: ignore[attr-defined]

        async def consume() -> list[int]:
            return [i async for i in acount(3)]

        assert asyncio.run(consume()) == [0, 1, 2]
    t = store.trajectory(run.id)
    assert [(a.result, a.ok) for a in t.actions] == [([0, 1, 2], True), ([0], True), ([0], True), ([0, 1, 2], True)]
    assert [c.parent for c in t.contexts] == [t.actions[0].id] * 3


def test_parameters_that_are_not_to_be_recorded(store: odograph.Store) -> None:
    """`ignore=`: a runtime or a callback, by position or by name, in `**kwargs` too; the function gets all of them."""
    got: list[Any] = []

    async def handler(runtime: Any, message: str, state: Any = None, callback: Any = None) -> str:
        got.append((runtime, message, callback))
        return "done"

    wrapped = odograph.wrap_action(handler, name="BUY", ignore=("runtime", "callback"))
    free = odograph.action(ignore=("key",))(lambda **given: given)
    runtime = object()
    with store.record(task="t") as run, run.step():
        assert asyncio.run(wrapped(runtime, "hi", {"n": 1}, print)) == "done"
        asyncio.run(wrapped(message="hi", runtime=runtime))
        assert free(key="k", other=1) == {"key": "k", "other": 1}
        with pytest.raises(TypeError):
            asyncio.run(wrapped(callback=print, state=1))  # type: ignore[call-arg]  # the function's own error
    assert got == [(runtime, "hi", print), (runtime, "hi", None)]
    done = [a.arguments for a in store.trajectory(run.id).actions]
    assert done[:3] == [{"message": "hi", "state": {"n": 1}}, {"message": "hi"}, {"other": 1}]
    assert done[3] == {"args": [], "state": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: odograph.wrap_action({"name": "X"}),  # type: ignore[arg-type]
        lambda: odograph.wrap_action(print, print),  # type: ignore[arg-type]
        lambda: odograph.wrap_action(print, ignore="runtime"),  # type: ignore[arg-type]
        lambda: odograph.log_llm_call("m", "q"),  # type: ignore[call-arg]
        lambda: odograph.log_llm_call(modle="m"),  # type: ignore[call-arg]
        lambda: odograph.log_context(),  # type: ignore[call-arg]
    ],
)
def test_wrong_use_says_so_where_it_stands(wrong: Any) -> None:
    """Inside of a run and outside: the signatures are real, and editors complete them."""
    with pytest.raises(TypeError):
        wrong()


def test_the_functions_take_what_the_methods_take() -> None:
    """`log_llm_call` and `log_context` have the parameters of `step.llm_call` and `step.context`, with their defaults."""
    for function, method in ((odograph.log_llm_call, "llm_call"), (odograph.log_context, "context")):
        own = inspect.signature(function).parameters
        other = dict(inspect.signature(getattr(Scope, method)).parameters)
        other.pop("self")
        assert [(p.name, p.kind, p.default) for p in own.values()] == [(p.name, p.kind, p.default) for p in other.values()]


def test_a_class_is_read_from_by_its_name(store: odograph.Store) -> None:
    """What a decorated class gives is read from what `provider` says, else from the class."""

    @odograph.context
    class Table:
        def __call__(self) -> int:
            return 1

    @odograph.context(provider="the table")
    class Named:
        def __call__(self) -> int:
            return 2

    with store.record(task="x") as run, run.step():
        Table()()
        Named()()
    assert [c.provider for c in store.trajectory(run.id).contexts] == ["Table", "the table"]


def test_the_purpose_of_a_context_is_the_given_one_else_its_first_line(store: odograph.Store) -> None:
    """`purpose=` says what a read is for; without it, the first line of the docstring does; without both, nobody."""

    def prices() -> int:
        """What things cost.

        And more.
        """
        return 1

    with store.record(task="t") as run:
        odograph.context(purpose="to buy")(prices)()
        odograph.context(prices)()
        odograph.context(lambda: 1)()
    assert [c.purpose for c in store.trajectory(run.id).contexts] == ["to buy", "What things cost.", None]


def test_a_consumer_that_has_enough_of_an_async_generator(store: odograph.Store) -> None:
    """The generator is closed when its consumer leaves it, and the action has what was taken, and no failure."""
    closed = []

    @odograph.action
    async def count() -> AsyncIterator[int]:
        try:
            for n in range(9):
                yield n
        finally:
            closed.append(True)

    async def consume() -> None:
        async with aclosing(count()) as numbers:
            async for n in numbers:
                if n == 1:
                    break
        assert closed == [True]

    with store.record(task="t") as run:
        asyncio.run(consume())
    (action,) = store.trajectory(run.id).actions
    assert (action.result, action.ok, action.error) == ([0, 1], True, None)


def test_what_fails_is_left_and_raised(store: odograph.Store) -> None:
    """A function, an async one and an async generator that raise: the caller gets the exception, and is where it was before."""

    @odograph.action
    def fails() -> None:
        raise LookupError("sync")

    @odograph.context
    async def reads() -> int:
        return 1

    @odograph.action
    async def breaks() -> AsyncIterator[int]:
        yield 1
        raise LookupError("async")

    @odograph.action
    def stops() -> Iterator[int]:
        yield 1
        raise LookupError("late")

    async def main() -> None:
        began = time.perf_counter_ns()
        assert await reads() == 1
        took.append(time.perf_counter_ns() - began)
        assert odograph.current() is step
        with pytest.raises(LookupError, match="async"):
            _ = [n async for n in breaks()]

    took: list[int] = []
    assert asyncio.run(reads()) == 1  # outside of a run, too
    with store.record(task="t") as run, run.step() as step:
        with pytest.raises(LookupError, match="sync"):
            fails()
        assert odograph.current() is step
        odograph.action(len)("a")
        assert odograph.current() is step
        asyncio.run(main())
        with pytest.raises(LookupError, match="late"):
            list(stops())
    t = store.trajectory(run.id)
    assert [(a.result, a.ok, a.error and a.error["message"]) for a in t.actions] == [
        (None, False, "sync"),
        (1, True, None),
        ([1], False, "async"),
        ([1], False, "late"),
    ]
    (read,) = t.contexts
    assert read.data == 1 and 0 < read.duration <= took[0]


def test_a_fault_before_a_function_is_not_the_functions(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an action can't be begun, the function runs as ever, and the fault is counted."""

    def broken(*_: Any) -> Any:
        raise OSError("no arguments")

    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    monkeypatch.setattr(decorators, "_arguments", broken)
    before = store.health()["faults"]
    with store.record(task="t") as run:
        assert odograph.action(lambda a: a)(1) == 1
        assert store.health()["faults"] == before + 1

        class Tool:
            def __call__(self) -> int:
                return 2

            @property
            def shown(self) -> Any:
                raise OSError("nothing to show")

        monkeypatch.undo()
        monkeypatch.setenv("ODOGRAPH_STRICT", "0")
        assert odograph.action(Tool())() == 2  # its attributes can't be offered
        assert store.health()["faults"] == before + 2
        monkeypatch.setattr(decorators, "difference", broken)
        odograph.log_llm_call(model="m", user_prompt="q", response="um yes")
        assert odograph.edit(lambda text: text[3:])("um yes") == "yes"
    assert store.health()["faults"] == before + 3
    assert [(a.name, a.result) for a in store.trajectory(run.id).actions] == [("Tool", 2)]
