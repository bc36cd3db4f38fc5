"""What a function was before it was decorated, it is afterwards."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import odograph
from odograph.types import Edit


@odograph.action
def plain(q: str, n: int = 1) -> str:
    return q * n


@odograph.action
def numbers(n: int) -> Iterator[int]:
    got = yield from range(n)
    return got


@odograph.context
async def words(q: str) -> AsyncIterator[str]:
    yield q
    yield q.upper()


@odograph.action
async def later(q: str) -> str:
    return q


class Tools:
    def __init__(self) -> None:
        self.base = 2

    @odograph.action
    @classmethod
    def outer(cls, q: str) -> list[str]:
        return [cls.__name__, q]

    @classmethod
    @odograph.action
    def inner(cls, q: str) -> list[str]:
        return [cls.__name__, q]

    @odograph.action
    @staticmethod
    def still(q: str) -> str:
        return q

    @odograph.action
    @property
    def size(self) -> int:
        return self.base

    def bound(self, q: int) -> int:
        return q * self.base


class Called:
    async def __call__(self, q: str) -> str:
        return q


def actions(work: Callable[[], Any]) -> list[tuple[str, Any, Any]]:
    with odograph.open("memory:") as store:
        with store.record(task="t") as run:
            work()
        return [(a.name, a.arguments, a.result) for a in store.trajectory(run.id).actions]


def test_inspect_says_of_the_decorated_function_what_it_says_of_the_function() -> None:
    """Gradio, FastAPI and others ask `inspect` what a function is before they call it."""
    assert inspect.isgeneratorfunction(numbers)
    assert inspect.isasyncgenfunction(words)
    assert inspect.iscoroutinefunction(later)
    assert not inspect.isgeneratorfunction(plain)
    for follow in (True, False):
        assert str(inspect.signature(plain, follow_wrapped=follow)) == "(q: 'str', n: 'int' = 1) -> 'str'"
    assert inspect.getfullargspec(plain).args == ["q", "n"]
    assert plain.__defaults__ == (1,)
    assert inspect.iscoroutinefunction(odograph.wrap_action(Called()))
    assert pickle.loads(pickle.dumps(plain)) is plain


def test_a_coroutine_of_a_generator_is_awaited_on() -> None:
    """What `types.coroutine` made of a generator is awaited as before."""

    @odograph.action
    @types.coroutine
    def waits(q: int) -> Any:
        yield from asyncio.sleep(0).__await__()
        return q + 1

    async def work() -> None:
        assert await waits(1) == 2

    assert [name for name, _, _ in actions(lambda: asyncio.run(work()))] == ["waits"]


def test_a_function_that_returns_a_coroutine_is_recorded_when_that_ends() -> None:
    """A plain function around an async one: the record has what the coroutine gave or raised, and what was done in it."""

    async def inner(q: int) -> int:
        await asyncio.sleep(0)
        plain(str(q))
        return 6 // q

    async def work() -> None:
        outer = odograph.wrap_action(lambda q: inner(q), name="outer")
        assert [await outer(2), await asyncio.create_task(outer(3))] == [3, 2]
        with pytest.raises(ZeroDivisionError):
            await outer(0)

    found = [("plain", "2"), ("outer", 3), ("plain", "3"), ("outer", 2), ("plain", "0"), ("outer", None)]
    assert [(name, result) for name, _, result in actions(lambda: asyncio.run(work()))] == found


def test_methods_of_every_kind_are_recorded_and_stay_what_they_were() -> None:
    """A classmethod, a staticmethod (in either order) and a property work under `@action`, and are recorded without `cls`."""
    tools = Tools()

    def work() -> None:
        assert Tools.outer("a") == ["Tools", "a"]
        assert Tools.inner("b") == ["Tools", "b"]
        assert tools.still("c") == "c"
        assert tools.size == 2

    assert isinstance(vars(Tools)["outer"], classmethod)
    assert isinstance(vars(Tools)["size"], property)
    assert actions(work) == [
        ("outer", {"q": "a"}, ["Tools", "a"]),
        ("inner", {"q": "b"}, ["Tools", "b"]),
        ("still", {"q": "c"}, "c"),
        ("size", {}, 2),
    ]


def test_partials_and_bound_methods_stay_partials_and_bound_methods() -> None:
    """A partial keeps its arguments, which are recorded; a bound method keeps its object."""
    tools = Tools()
    part = odograph.wrap_action(functools.partial(plain.__wrapped__, n=2))  # type: ignore[attr-defined]
    bound = odograph.wrap_action(tools.bound)
    assert isinstance(part, functools.partial)
    assert inspect.ismethod(bound)
    assert bound.__self__ is tools

    def work() -> None:
        assert part("a") == "aa"
        assert bound(4) == 8

    assert actions(work) == [("plain", {"q": "a", "n": 2}, "aa"), ("bound", {"q": 4}, 8)]


def test_generators_give_take_and_return_as_before() -> None:
    """`send`, `throw` and the value of `return` reach a decorated generator and come back; the items are recorded."""

    @odograph.action
    def talk() -> Iterator[Any]:
        heard = yield "first"
        try:
            yield heard
        except ValueError as error:
            yield str(error)
        return "done"  # type: ignore[return-value]

    @odograph.action
    async def talk_async() -> Any:
        heard = yield "first"
        try:
            yield heard
        except ValueError as error:
            yield str(error)

    async def listen() -> None:
        stream = talk_async()
        assert [await stream.asend(None), await stream.asend("x"), await stream.athrow(ValueError("y"))] == ["first", "x", "y"]
        with pytest.raises(StopAsyncIteration):
            await stream.asend(None)

    def work() -> None:
        stream: Any = talk()
        assert [stream.send(None), stream.send("x"), stream.throw(ValueError("y"))] == ["first", "x", "y"]
        with pytest.raises(StopIteration) as stop:
            next(stream)
        assert stop.value.value == "done"
        asyncio.run(listen())

    assert actions(work) == [("talk", {}, ["first", "x", "y"]), ("talk_async", {}, ["first", "x", "y"])]
    work()  # outside of a run they just run


def test_what_holds_functions_goes_on_holding_them() -> None:
    """A `singledispatchmethod` chooses by type, a cache keeps its methods, a class its constructors; all are recorded."""

    class Chosen:
        @odograph.action
        @functools.singledispatchmethod
        def show(self, value: Any) -> str:
            return "any"

        @show.register
        def _(self, value: int) -> str:
            return "int"

        @odograph.action
        @functools.cached_property
        def once(self) -> int:
            return 7

    class Named:
        """Gives a function that says what it is called in its class."""

        name = ""

        def __set_name__(self, kind: type, name: str) -> None:
            self.name = name

        def __get__(self, owner: Any, kind: Any = None) -> Any:
            return lambda: self.name

    class Holder:
        called = odograph.action(Named())

    @odograph.action
    @functools.lru_cache
    def kept(q: int) -> int:
        return q

    table = odograph.wrap_action(dict, name="table")

    def work() -> None:
        chosen = Chosen()
        assert (chosen.show("a"), chosen.show(1), chosen.once, chosen.once) == ("any", "int", 7, 7)
        assert Holder().called() == "called"
        assert (kept(3), kept(3), kept.cache_info().hits) == (3, 3, 1)  # type: ignore[attr-defined]
        assert (table(a=1), table.fromkeys("b")) == ({"a": 1}, {"b": None})  # type: ignore[attr-defined]

    found = [(name, result) for name, _, result in actions(work) if result != "called"]
    assert found == [("show", "any"), ("show", "int"), ("once", 7), ("kept", 3), ("kept", 3), ("table", {"a": 1})]


@odograph.action
class Search:
    """Looks for words."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit

    def __call__(self, q: str) -> str:
        return q * self.limit


@odograph.context(provider="notes")
class Notes:
    async def __call__(self, q: str) -> list[str]:
        return [q]


def test_a_decorated_class_is_the_class() -> None:
    """The calls of its objects are recorded, those of a subclass once; all else that a class is for goes on. A class whose
    objects can't be called is refused where it is decorated."""

    class Narrow(Search):
        def __call__(self, q: str) -> str:
            return super().__call__(q) + "!"

    def work() -> None:
        search = pickle.loads(pickle.dumps(Search(2)))
        assert isinstance(search, Search)
        assert (search("a"), Narrow(1)("b")) == ("aa", "b!")
        assert asyncio.run(Notes()("c")) == ["c"]

    assert actions(work) == [("Search", {"q": "a"}, "aa"), ("Search", {"q": "b"}, "b")]
    assert inspect.isclass(Search)
    assert list(inspect.signature(Search(1)).parameters) == ["q"]
    assert inspect.iscoroutinefunction(Notes.__call__)
    for decorate in (odograph.action, odograph.context(provider="p"), odograph.edit):
        with pytest.raises(TypeError, match="Plain is a class, and its objects can't be called"):
            decorate(type("Plain", (), {}))


@pytest.mark.parametrize("what", ["search", 5, ["search"]])
def test_what_is_no_function_is_refused_where_it_is_decorated(what: Any) -> None:
    """`@odograph.action("search")`: the program would fail where the function is called first, or where it is defined."""
    for decorate, name in ((odograph.action, "action"), (odograph.context, "context"), (odograph.edit, "edit")):
        with pytest.raises(TypeError, match=f"^{name} takes a function, not {type(what).__name__}: @odograph.{name}"):
            decorate(what)


def test_an_edit_of_a_method_is_recorded() -> None:
    """The response is the first argument behind `self`, by its place or by its name."""

    class Cleaner:
        @odograph.edit
        def clean(self, text: str) -> str:
            return text.replace("um ", "")

    with odograph.open("memory:") as store:
        with store.record(task="t") as run, run.step() as step:
            for given in ((("um yes",), {}), ((), {"text": "um yes"})):
                step.llm_call(model="m", messages=[], response="um yes")
                assert Cleaner().clean(*given[0], **given[1]) == "yes"
        assert [r.author for r in store.trajectory(run.id).records if isinstance(r, Edit)] == ["clean", "clean"]


def test_an_edit_by_an_async_function_is_recorded() -> None:
    """The function's own result comes back, and the edit is on record."""

    @odograph.edit
    async def shortened(text: str) -> str:
        await asyncio.sleep(0)
        return text.replace("um ", "")

    with odograph.open("memory:") as store:
        with store.record(task="t") as run, run.step() as step:
            step.llm_call(model="m", messages=[], response="um yes")
            assert asyncio.run(shortened("um yes")) == "yes"
        (edit,) = [r for r in store.trajectory(run.id).records if isinstance(r, Edit)]
        assert (edit.author, edit.result) == ("shortened", [odograph.Kept(3, 6)])


def test_what_a_generator_does_is_of_its_action() -> None:
    """What is recorded inside of a tool that is a generator is below the tool's action, and what its caller does between is not."""

    def log(what: str) -> None:
        odograph.log_context("p", what)

    @odograph.action
    def tool() -> Iterator[int]:
        log("inside")
        yield 1
        log("inside")

    @odograph.action
    async def tool_async() -> Any:
        log("inside")
        yield 1
        log("inside")

    async def listen() -> None:
        async for _ in tool_async():
            log("outside")

    with odograph.open("memory:") as store:
        with store.record(task="t") as run:
            for _ in tool():
                log("outside")
            asyncio.run(listen())
        t = store.trajectory(run.id)
    below = [(c.data, c.parent in {a.id for a in t.actions}) for c in t.contexts]
    assert below == [("inside", True), ("outside", False), ("inside", True)] * 2


def test_how_a_generator_ends_is_of_its_action() -> None:
    """What a tool does when its consumer leaves it, or throws into it, is below the tool's action, too."""

    def log() -> None:
        odograph.log_context("p", "last")

    @odograph.action
    def tool() -> Iterator[int]:
        try:
            yield 1
        finally:
            log()

    @odograph.action
    async def tool_async() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log()

    async def listen() -> None:
        one: Any = tool_async()
        assert await anext(one) == 1
        await one.aclose()
        two: Any = tool_async()
        await anext(two)
        with pytest.raises(LookupError):
            await two.athrow(LookupError())

    with odograph.open("memory:") as store:
        with store.record(task="t") as run, run.step() as step:
            one: Any = tool()
            assert next(one) == 1
            one.close()
            asyncio.run(listen())
            assert odograph.current() is step
        t = store.trajectory(run.id)
    assert [c.parent for c in t.contexts] == [a.id for a in t.actions]
    assert [(a.result, a.ok) for a in t.actions] == [([1], True), ([1], True), ([1], False)]


def test_an_edit_by_nobody_is_no_edit() -> None:
    """Outside of a run, before any call, of what is no text, and of a method that takes no response: the function just runs."""

    class Cleaner:
        @odograph.edit
        def named(self) -> str:
            return "mine"

    changed = odograph.edit(lambda given: given[1:] if isinstance(given, str) else {**given, "a": 2})
    listed = odograph.edit(lambda given: list(given))
    assert changed("um yes") == "m yes"
    with odograph.open("memory:") as store:
        with store.record(task="t") as run, run.step() as step:
            assert changed("um yes") == "m yes"
            step.llm_call(model="m", messages=[], response="um yes")
            assert (changed({"a": 1}), listed("um")) == ({"a": 2}, ["u", "m"])
            assert Cleaner().named() == "mine"
        assert not [r for r in store.trajectory(run.id).records if isinstance(r, Edit)]


def test_an_edit_has_the_reason_that_is_given_else_its_first_line() -> None:
    """`reason=` says why; without it, the first line of the docstring does; without both, nobody."""

    def cut(text: str) -> str:
        """Fillers go.

        And more.
        """
        return text.replace("um ", "")

    with odograph.open("memory:") as store:
        with store.record(task="t") as run, run.step() as step:
            for one in (
                odograph.edit(reason="why")(cut),
                odograph.edit(cut),
                odograph.edit(lambda text: text.replace("um ", "")),
            ):
                step.llm_call(model="m", messages=[], response="um yes")
                one("um yes")
        edits = [r for r in store.trajectory(run.id).records if isinstance(r, Edit)]
    assert [e.reason for e in edits] == ["why", "Fillers go.", None]


def test_an_edit_of_a_generator_is_told_of_where_it_is_decorated() -> None:
    """`@edit` on a generator function changes nothing and says that it records nothing."""

    def pieces(response: str) -> Iterator[str]:
        yield response

    with pytest.warns(RuntimeWarning, match="can't record pieces, a generator function"):
        assert odograph.edit(pieces) is pieces


def test_steps_of_threads_stand_in_the_order_of_their_indices() -> None:
    """Threads that begin steps of one run at once: the n-th step is number n."""
    with odograph.open("memory:") as store:
        with store.record(task="t") as run, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda k: run.step({"k": k, "long": ["x"] * 2000}), range(400)))
        assert [step.index for step in store.trajectory(run.id).steps] == list(range(400))
