"""Whatever an agent hands over costs at most its own value: no exception, no hang, no record."""

from __future__ import annotations

import dataclasses
import itertools
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph import codec, guard, plain

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


@settings(max_examples=200, deadline=None)
@given(st.recursive(OBJECTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)))
def test_a_hostile_object_costs_only_itself(value: Any) -> None:
    """Objects that raise, lie, or answer everything at any question: what stands beside them is kept."""
    before = sys.gettrace()  # of whoever measures coverage
    assert codec.loads(codec.encode({"value": value, "keep": "me"}))["keep"] == "me"
    assert sys.gettrace() is before


def test_an_array_whose_shape_lies() -> None:
    """Whatever an object that looks like an array says of its shape costs that object alone."""
    shape = type("Shape", (), {"__class__": property(raises)})()
    for lying in (shape, type("Lengths", (tuple,), {"__iter__": raises})((3, 4))):
        value = type("Array", (), {"dtype": 1, "shape": lying, "tolist": lambda self: [1, 2]})()
        assert codec.loads(codec.encode({"value": value, "keep": "me"})) == {"value": [1, 2], "keep": "me"}


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


def test_dicts_with_an_iteration_of_their_own_are_what_they_hold() -> None:
    """No keys that have no end or fail are asked for, and an ordered dict keeps its order."""

    class Endless(dict[str, int]):
        def __iter__(self) -> Iterator[str]:
            while True:
                yield "k"

        def keys(self) -> Any:
            return self

    class Fails(OrderedDict[str, int]):
        def __iter__(self) -> Iterator[str]:
            raise SystemExit

        keys = __getitem__ = items = raises

    ordered: Any = [OrderedDict(a=1, b=2), Fails(a=1, b=2), Endless(b=2, a=1)]
    for one in ordered[:2]:
        one.move_to_end("a")
    assert [list(codec.loads(codec.encode(one)).items()) for one in ordered] == [[("b", 2), ("a", 1)]] * 3


def test_a_tree_keeps_all_but_the_links_back() -> None:
    """What holds itself is cut where it does, and nowhere else."""
    kept = codec.loads(codec.encode(tree()))
    assert [child["name"] for child in kept["children"]] == ["a", "b"]
    assert kept["children"][0]["parent"]["value"] == "it holds itself"


def test_generators_are_not_consumed_and_nothing_that_a_repr_raises_passes() -> None:
    """An iterator that is recorded still has all its items; what a `__repr__` raises never reaches the agent, an interrupt neither."""
    numbers = iter([1, 2])
    with odograph.open("memory:") as store, store.record(task="t") as run:
        run.note(numbers)
        run.llm_call(model="m", messages=numbers, response="r")  # type: ignore[arg-type]
    assert list(numbers) == [1, 2]

    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    before = sys.gettrace()
    assert codec.loads(codec.encode(Interrupted()))["value"] == "<no repr: KeyboardInterrupt>"
    assert sys.gettrace() is before


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


def test_a_dict_that_changes_while_the_garbage_collector_runs_finalizers() -> None:
    """A finalizer gives way to the thread that changes the dict, in the middle of reading it: what stands beside it is kept."""

    class Finalized:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            time.sleep(0)

    shared = {i: i for i in range(5000)}
    stop = threading.Event()

    def change() -> None:
        for i in itertools.count(5000):
            if stop.is_set():
                return
            shared[i] = i
            shared.pop(i - 5000)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(60):
            [Finalized() for _ in range(20)]
            assert codec.loads(codec.encode({"shared": shared, "keep": object()}))["keep"]
    finally:
        stop.set()
        thread.join()


class Blocked:
    """Whoever looks at it waits for a lock that the agent holds."""

    lock = threading.Lock()

    def __init__(self) -> None:
        self.asked = 0

    def __repr__(self) -> str:
        self.asked += 1
        with self.lock:
            return "free"

    def __float__(self) -> float:
        self.asked += 1
        time.sleep(3600)
        return 1.0


def test_code_that_waits_holds_the_agent_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `__repr__` that waits for a lock, a conversion that sleeps: given up in time, and not asked again with every step. The lock
    is the program's again afterwards, also with Python 3.14; see `odograph.locks`."""
    monkeypatch.setattr(plain, "SECONDS", 0.2)
    monkeypatch.setattr(guard, "_silent", {})
    blocked = Blocked()
    with Blocked.lock, odograph.open("memory:") as store:
        with store.record(task="t") as run:
            for _ in range(3):
                run.note({"it": blocked, "keep": "me"})
            with pytest.raises(TypeError, match="a reward is a number"):
                run.reward(blocked)  # type: ignore[arg-type]
        kept = [note.data for note in store.trajectory(run.id).records if isinstance(note, odograph.types.Note)]
    assert [data["keep"] for data in kept] == ["me"] * 3
    assert "no answer within" in kept[0]["it"]["value"]
    assert "another object of this type" in kept[2]["it"]["value"]
    assert blocked.asked == 1
    assert Blocked.lock.acquire(timeout=5)
    Blocked.lock.release()


@pytest.mark.parametrize("watched", ["sys.settrace(lambda *_: None)", "sys.setprofile(lambda *_: None)"])
def test_code_that_waits_holds_no_debugged_agent_up(watched: str) -> None:
    """Under a debugger, a profiler or coverage, too: Python 3.11 spins there while a thread is told to stop and can't. Code that
    loops is stopped there as everywhere."""
    program = (
        "import sys, threading, time\nfrom odograph import guard, plain\nplain.SECONDS = 0.1\nlock = threading.Lock()\n"
        "class Waits:\n    def __repr__(self):\n        lock.acquire()\n        return 'free'\n"
        "class Loops:\n    def __repr__(self):\n        while True:\n            pass\n"
        f"lock.acquire()\n{watched}\nprint(plain.plain_of(Waits()), plain.plain_of(Loops()))\n"
        "while guard._left[-1].busy:\n    time.sleep(0.05)\n"
        "print([thread.busy for thread in guard._left])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.count("no answer within") == 2, done.stderr
    assert done.stdout.endswith("[True, False]\n"), done.stdout


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), type("Stop", (BaseException,), {})()])
def test_what_content_raises_stays_with_the_content(error: BaseException) -> None:
    """A `__repr__` that calls `sys.exit` ends no agent."""

    class Exits:
        def __repr__(self) -> str:
            raise error

    assert codec.loads(codec.encode(["keep", Exits()]))[0] == "keep"


def test_a_type_that_answers_no_question() -> None:
    """A class whose metaclass raises, a dead weak reference: as a result, as a message, as what says whether it went well."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RuntimeError(name)

    class Closed(metaclass=Meta):
        pass

    class Unequal(type):
        """A metaclass that raises where types are compared, or looked up in a set."""

        def __eq__(cls, other: object) -> bool:
            raise RuntimeError("eq")

        def __hash__(cls) -> int:
            raise RuntimeError("hash")

    class Alone(metaclass=Unequal):
        pass

    @odograph.action
    def tool(x: Any) -> Any:
        return x

    gone, alone = weakref.proxy(Gone()), Alone()
    with odograph.open("memory:") as store:
        before = store.health()["faults"]
        with store.record(task="t") as run:
            for value in (Closed, gone, alone):
                run.action("a", {"v": value}, value)
                run.action("a", {}, {"success": value}, ok=value)
                run.llm_call(model="m", messages=[value], response=value, usage=value, tools=value, params=value)
                message = {"role": "user", "content": value}
                run.llm_call(model="m", messages=[message], response="r", token_ids=[value] * 300, logprobs=value)
                assert tool(value) is value
            run.finish(gone, metrics=gone)
        trajectory = store.trajectory(run.id)
        assert (len(trajectory.actions), len(trajectory.llm_calls), trajectory.status) == (9, 6, "completed")
        assert store.health()["faults"] == before


NAMES = ("role", "content", "choices", "message", "usage", "prompt_tokens", "tool_calls", "function", "arguments", "output", "type", "success", "model")  # fmt: skip
CONTENT = st.recursive(
    OBJECTS | st.sampled_from([1, "text", None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
)


@settings(max_examples=50, deadline=None)
@given(CONTENT, CONTENT, CONTENT)
def test_no_method_that_takes_content_raises(a: Any, b: Any, c: Any) -> None:
    """Whatever stands where content may stand, in each recording method: the record is written, nothing reaches the agent."""
    with odograph.open("memory:") as store:
        before = store.health()["faults"]
        with store.record(task=a, metadata={"a": b}) as run:
            with run.step(observation=a) as step:
                step.context("kb", a, query=b, error=c)
                step.llm_call(model="m", messages=a, response=b, usage=c, tools=a, params=b, reasoning=c, error=a, metadata=b)
                step.llm_call(request=a, response=b, prompt_token_ids=c, token_ids=a, logprobs=b, inputs=c)
                step.llm_call(messages=[a], response={"choices": [{"message": b}], "usage": c}, system_prompt=c)
                step.action("act", a, b, error=c, ok=a, metadata=b)
                step.action("act", a, b)
                with step.acting("do", a) as acting:
                    acting.result = b
                    acting.ok = c
                step.label("t", a, rationale=b, description=c)
                step.reward(1.0, rationale=a, extra=b)
                step.note(a)
            run.finish(a, error=b, metrics=c)
        assert len(store.trajectory(run.id).records) == 13
        assert store.health()["faults"] == before


def test_a_time_limit_of_the_program_is_raised(store: odograph.Store) -> None:
    """What the handler of a signal raises (a time limit by `signal.alarm`) reaches the program, also where it comes while something
    is recorded, and is no fault of capture; the program can go on recording."""

    class Slow:
        def __repr__(self) -> str:
            signal.raise_signal(signal.SIGALRM)
            time.sleep(0.2)
            return "slow"

    def over(*_: Any) -> None:
        raise TimeoutError("the program's own")

    faults = store.health()["faults"]  # of the process
    before = signal.signal(signal.SIGALRM, over)
    try:
        with store.record(task="t") as run:
            for record in (lambda: run.note(Slow()), lambda: run.llm_call(model="m", messages=[Slow()], response="r")):
                with pytest.raises(TimeoutError, match="the program's own"):
                    record()
            run.note("after")
    finally:
        signal.signal(signal.SIGALRM, before)
    t = store.trajectory(run.id)
    assert (t.status, [note.data for note in t.notes], store.health()["faults"]) == ("completed", ["after"], faults)


def test_an_object_that_raises_when_looked_at_costs_no_count_of_tokens(store: odograph.Store) -> None:
    """A response or a usage with such an object in it is recorded, and the counts that stand beside the object are read."""

    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("Working outside of request context")

    usage = {"prompt_tokens": 3, "completion_tokens": Proxy()}
    with store.record() as run, run.step() as step:
        step.llm_call(model="m", messages=[], response={"content": 1, "choices": Proxy()})
        step.llm_call(model="m", messages=[], response="x", usage=usage)
    calls = store.trajectory(run.id).llm_calls
    assert [(c.prompt_tokens, c.completion_tokens) for c in calls] == [(None, None), (3, None)]


def test_an_array_of_more_numbers_than_a_list_should_have_says_its_shape() -> None:
    """20 million numbers of one byte are 20 MB in an array, and half a gigabyte in a list: what is left out is said. An image is kept."""
    numpy = pytest.importorskip("numpy")
    with odograph.open("memory:") as store:
        with store.record(task="t") as run:
            run.step({"weights": numpy.zeros((2000, 10_000), dtype="uint8"), "image": numpy.ones((84, 84), dtype="uint8")})
        observation = store.trajectory(run.id).steps[0].observation
    assert observation["image"] == [[1] * 84] * 84
    assert observation["weights"]["value"].startswith("shape (2000, 10000), 20,000,000 bytes: the value has more than")


_CHAINS = """
import sys, odograph

def chain(levels):
    made = ()
    for _ in range(levels):
        made = ("state", made)
    return made

itself = ([],)
itself[0].append(itself)
store = odograph.open(sys.argv[1])
beside = [{"row": k} for k in range(2000)]
numbers = [[chain(200_000) if at == k else 0.5 for k in range(300)] for at in (0, 1, 150, 299)]
among = [{"rows": beside, "path": chain(200_000)}, *numbers, itself]
for value in (chain(150), chain(900), chain(5000), chain(200_000), *among):
    with store.record(task="t") as run:
        run.note({"path": value, "keep": "me"})
        run.note(value)
        ids = value if type(value) is list else [value]
        run.llm_call("m", messages=value, response=value, prompt_token_ids=ids, token_ids=ids, logprobs=ids)
"""


def test_tuples_in_tuples_of_any_depth(tmp_path: Any) -> None:
    """The path of a search, as pairs in pairs: what is too deep is left out, and neither ends the process nor is a line that nobody
    can read."""
    done = subprocess.run([sys.executable, "-c", _CHAINS, str(tmp_path / "s")], check=False)
    assert done.returncode == 0
    found = list(odograph.open(tmp_path / "s").trajectories())
    assert [(t.notes[0].data["keep"], bool(odograph.validate(t).counts.get("lossy_value"))) for t in found] == [
        ("me", deep) for deep in (False, *(True for _ in range(9)))
    ]
    assert [(len(t.notes), len(t.llm_calls)) for t in found] == [(2, 1)] * 10


_FAR_DOWN = """
import dataclasses, sys, odograph

@dataclasses.dataclass
class Node:
    below: object

def down(calls, then):
    return then() if calls == 0 else down(calls - 1, then)

def nested(levels, made="a secret"):
    for _ in range(levels):
        made = [made]
    return made

thing = "a secret"
for _ in range(95):
    thing = Node(thing)
for number, redact in enumerate((None, True, ["a secret"])):
    store = odograph.open(f"{sys.argv[1]}/{number}", redact=redact)
    for calls in (0, 500, 850, 960):
        with store.record(task="t") as run:
            message = {"role": "user", "content": nested(190)}
            down(calls, lambda: run.note(nested(195)))
            down(calls, lambda: run.note(thing))
            down(calls, lambda: run.llm_call("m", messages=[message], response={"a": nested(190)}))
    assert store.health()["faults"] == 0, store.health()
"""


def test_deep_values_of_an_agent_that_stands_deep_in_calls(tmp_path: Any) -> None:
    """A search that calls itself: what it records is what it records at the top, and what is redacted is redacted."""
    subprocess.run([sys.executable, "-c", _FAR_DOWN, str(tmp_path)], check=True)
    for number in range(3):
        found = [
            ([n.data for n in t.notes], t.llm_calls[0].messages, t.llm_calls[0].response)
            for t in odograph.open(tmp_path / str(number)).trajectories()
        ]
        assert len(found) == 4 and found == [found[0]] * 4
        said = str(found[0])
        assert said.count("a secret" if number < 2 else "'[redacted:pattern]'") == 4 and "omitted" not in said


def test_a_function_of_redact_that_records_where_the_agent_stands_deep_in_calls(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again in a thread, which waits for the lock that the caller holds: that costs the text, and never hangs the agent."""
    monkeypatch.setattr(guard, "_PATIENCE", 0.2)
    monkeypatch.setattr(guard, "_silent", {})
    seen: list[str] = []

    def kept(text: str) -> str:
        if seen and text == "a word":
            beside.note("seen")
        return text

    from odograph.redact import Redactor

    store = odograph.open(tmp_path / "s")
    beside = store.record(task="beside")
    store.backend.journal.redactor = Redactor(kept)
    value: Any = "a word"
    for _ in range(190):
        value = [value]
    seen.append("from now on")

    def down(calls: int) -> None:
        if calls:
            down(calls - 1)
        else:
            with store.backend.journal.lock:
                beside.note(value)

    down(800)
    beside.finish()
    found = store.trajectory(beside.id)
    assert found.status == "completed" and "[redacted:too_deep]" in [n.data for n in found.notes]
