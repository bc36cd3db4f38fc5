"""Whatever an agent hands over costs at most its own value: no exception, no hang, no record."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
import weakref
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph import codec

ASKED = ("__class__", "__repr__", "__str__", "__iter__", "__len__", "__eq__", "__hash__", "__bool__", "__getattr__", "__getattribute__", "__getitem__",
         "keys", "items", "model_dump", "tolist", "dtype", "isoformat", "__float__", "__dict__")  # fmt: skip


def raises(*_: Any, **__: Any) -> Any:
    raise RuntimeError("Working outside of request context")


ANSWERS = (
    raises,
    lambda *_, **__: 5,
    lambda *_, **__: None,
    lambda *_, **__: "x" * 1_000_000,
    lambda *_, **__: itertools.count(),
    lambda s, *_, **__: s,
)


def hostile(bases: tuple[type, ...], answers: dict[str, Any]) -> Any:
    space = {name: property(answer) if name in ("__class__", "dtype", "__dict__") else answer for name, answer in answers.items()}
    try:
        return type("Hostile", bases, space)()
    except Exception:
        return object()


OBJECTS = st.builds(
    hostile,
    st.sampled_from([(object,), (dict,), (list,), (str,), (tuple,), (float,), (int,), (Exception,)]),
    st.dictionaries(st.sampled_from(ASKED), st.sampled_from(ANSWERS), max_size=8),
)


@settings(max_examples=200, deadline=5000)
@given(st.recursive(OBJECTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)))
def test_a_hostile_object_costs_only_itself(value: Any) -> None:
    """Objects that raise, lie, or answer everything at any question: what stands beside them is kept."""
    assert codec.loads(codec.encode({"value": value, "keep": "me"}))["keep"] == "me"
    assert sys.gettrace() is None


@dataclasses.dataclass
class Node:
    name: str
    parent: Any = None
    children: list[Any] = dataclasses.field(default_factory=list)


def tree() -> Node:
    root = Node("root")
    root.children = [Node("a", root), Node("b", root)]
    return root


def laughs() -> Any:
    value: Any = ["lol"] * 10
    for _ in range(9):
        value = [value] * 10
    return value


def doubled() -> Any:
    value: Any = {"x": 1}
    for _ in range(60):
        value = {"a": value, "b": value}
    return {"m": {"q": 1}, "v": value}


class Loops:
    def __repr__(self) -> str:
        while True:
            pass


class Gone:
    pass


@pytest.mark.parametrize("make", [tree, laughs, doubled, Loops, MagicMock, lambda: weakref.proxy(Gone())])
def test_cycles_shared_objects_and_endless_code_end(make: Any) -> None:
    """Parent links, lists that hold one another twice, a `__repr__` without an end: recording comes to an end, and the stored form says what was left out."""
    with odograph.open("memory:") as store:
        with store.record(task="t") as run:
            with run.acting("look", {"it": make(), "keep": "me"}) as acting:
                acting.result = {"it": make()}
        trajectory = store.trajectory(run.id)
        assert trajectory.actions[0].arguments["keep"] == "me"
        codes = {finding.code for finding in odograph.validate(trajectory).findings}
    assert "lossy_value" in codes


def test_a_tree_keeps_all_but_the_links_back() -> None:
    """What holds itself is cut where it does, and nowhere else."""
    kept = codec.loads(codec.encode(tree()))
    assert [child["name"] for child in kept["children"]] == ["a", "b"]
    assert kept["children"][0]["parent"]["value"] == "it holds itself"


def test_generators_are_not_consumed_and_interrupts_pass() -> None:
    """An iterator that is recorded still has all its items; Ctrl-C inside of a `__repr__` is Ctrl-C."""
    numbers = iter([1, 2])
    with odograph.open("memory:") as store, store.record(task="t") as run:
        run.note(numbers)
        run.llm_call(model="m", messages=numbers, response="r")  # type: ignore[arg-type]
    assert list(numbers) == [1, 2]

    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        codec.encode(Interrupted())
    assert sys.gettrace() is None


def test_a_dict_that_another_thread_changes_is_recorded() -> None:
    """No "changed size during iteration" reaches the agent or costs the record."""
    shared: dict[str, Any] = {str(i): object() for i in range(50)}
    stop = threading.Event()

    def change() -> None:
        for i in itertools.count():
            if stop.is_set():
                return
            shared[f"n{i % 500}"] = object()
            shared.pop(f"n{(i + 250) % 500}", None)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            assert codec.loads(codec.encode({"shared": shared, "keep": 1}))["keep"] == 1
    finally:
        stop.set()
        thread.join()
