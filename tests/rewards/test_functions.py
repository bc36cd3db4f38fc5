"""Combinators and the library: what each gives, for any numbers and for any content."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import odograph
from odograph import InvalidInput, Trajectory, rewards
from tests.rewards import functions_of_files as mine

NUMBER = st.floats(-100, 100)
VALUE = st.none() | NUMBER
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NOTHING = Trajectory.from_dict({"task": "t", "end": None})


def of(value: Any, name: str = "f") -> odograph.RewardFunction:
    """A function that gives this."""
    return odograph.reward_function(name, lambda t: value)


def made(*actions: Any, answer: Any = None, status: str = "completed", **about: Any) -> Trajectory:
    """A trajectory of one step a result."""
    steps = [{"actions": [a if isinstance(a, dict) and "name" in a else {"name": "a", "result": a}]} for a in actions]
    end = {"status": status, "answer": answer, "metrics": about.pop("metrics", {})}
    return Trajectory.from_dict({"task": "t", "agent": "a", **about, "steps": steps, "end": end})


# --- combinators ----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(VALUE, st.floats(0.01, 10)), min_size=1, max_size=5))
def test_a_weighted_sum_gives_missing_weights_to_the_others(parts: list[tuple[float | None, float]]) -> None:
    """All known: sum of weight * value. Some not: the same as if the unknown ones had the weighted mean of the known. None
    known: None. `missing="wait"` waits for all."""
    pairs = [(of(v, str(n)), w) for n, (v, w) in enumerate(parts)]
    found = rewards.weighted_sum(pairs)(NOTHING)
    known = [(v, w) for v, w in parts if v is not None]
    waits = rewards.weighted_sum(pairs, missing="wait")(NOTHING)
    if not known:
        assert found is None
        assert waits is None
        return
    mean = math.fsum(v * w for v, w in known) / math.fsum(w for _, w in known)
    assert found == pytest.approx(math.fsum((mean if v is None else v) * w for v, w in parts), abs=1e-6)
    assert (waits is None) == (len(known) < len(parts))


@given(st.lists(VALUE, min_size=1, max_size=4))
def test_a_product_is_a_gate(values: list[float | None]) -> None:
    """A 0 decides whatever is not known; else all have to be known."""
    found = rewards.product(*[of(v, str(n)) for n, v in enumerate(values)])(NOTHING)
    if 0 in values:
        assert found == 0
    elif None in values:
        assert found is None
    else:
        assert found == pytest.approx(math.prod(values))


@given(VALUE, VALUE, NUMBER, NUMBER, st.floats(0.1, 10))
def test_of_one_value(value: float | None, other: float | None, low: float, high: float, by: float) -> None:
    """clamp stays within its ends, tanh within (-1, 1) and in order, scale undoes itself, gate asks; None stays None."""
    f, g = of(value), of(other, "g")
    low, high = sorted((low, high))
    clamped, bent = rewards.clamp(f, low, high)(NOTHING), rewards.tanh(f, by)(NOTHING)
    back = rewards.scale(rewards.scale(f, by, minus=low), 1 / by, minus=-low * by)(NOTHING)
    less = rewards.scale(f, minus=g)(NOTHING)
    gated = rewards.gate(f, g, otherwise=-1.0)(NOTHING)
    assert gated == (None if other is None else value if other > 0 else -1.0)
    if value is None:
        assert (clamped, bent, back, less) == (None,) * 4
        return
    assert low <= clamped <= high
    assert clamped == value or not low <= value <= high
    assert -1 <= bent <= 1
    assert math.copysign(1, bent) == math.copysign(1, value + 0.0) or bent == 0
    assert back == pytest.approx(value, abs=1e-6)
    assert less == (None if other is None else value - other)


@given(st.lists(VALUE, max_size=6), st.floats(0, 1))
def test_returns(values: list[float | None], discount: float) -> None:
    """Each step's return is its reward and the discounted return of the next; `discounted` is that of the first step."""
    found = rewards.returns(values, discount)
    for n, value in enumerate(values):
        after = sum((v or 0.0) * discount**k for k, v in enumerate(values[n:]))
        assert found[n] == pytest.approx(after, abs=1e-6)
        assert value is not None or found[n] == pytest.approx(discount * (found[n + 1] if n + 1 < len(values) else 0.0))
    t = Trajectory.from_dict({"task": "t", "steps": [{"rewards": [{"value": v}]} for v in values]})
    expected = found[0] if any(v is not None for v in values) else None
    assert rewards.discounted(discount=discount)(t) == expected
    by_step = odograph.reward(per="step")(_of_step)
    assert rewards.discounted(by_step, discount)(t) == expected


def _of_step(step: Any, trajectory: Any) -> Any:
    assert trajectory.steps[step.index] is step
    return step.reward


def test_combinators_of_async_functions_of_steps_and_of_components() -> None:
    """A part may be async, give components (their weighted sum counts), or be of steps, where all are."""
    both = odograph.reward_function("both", lambda t: {"a": 1.0, "b": 2.0, "c": None}, weight={"b": 0.5, "c": 0.0})
    assert both.total({"a": 1.0, "c": 1.0, "b": None}) is None  # a part that counts and is not known
    mixed = rewards.weighted_sum({mine.later: 1.0, both: 10.0}, name="mixed")
    assert mixed.is_async
    assert asyncio.run(mixed(NOTHING)) == 21.0
    (step,) = made(1).steps
    stepwise = rewards.clamp(odograph.reward(per="step")(_index), 0.5, 1)
    assert stepwise.per == "step"
    assert stepwise(step, made(1)) == 0.5

    @odograph.reward(per="step")
    async def slowly(step):
        return 1.0

    assert asyncio.run(rewards.discounted(slowly, 0.5)(made(1, 2))) == 1.5
    with pytest.raises(InvalidInput, match="of functions of trajectories alone, or of steps alone"):
        rewards.product(stepwise, both)
    with pytest.raises(InvalidInput, match="nan"):
        rewards.clamp(of(math.nan), 0, 1)(NOTHING)
    for wrong in (
        lambda: rewards.clamp(both, 1, 0),
        lambda: rewards.tanh(both, 0),
        lambda: rewards.discounted(both),
        rewards.product,
    ):
        with pytest.raises(InvalidInput):
            wrong()


def _index(step: Any) -> float:
    return float(step.index)


def test_functions_are_sent_to_other_processes_by_name() -> None:
    """What stands in a module, and what is made of it, comes back as the same function with the same version."""
    assert pickle.loads(pickle.dumps(mine.steps)) is mine.steps
    by_file = rewards.as_reward_function(f"{Path(mine.__file__)}:steps")
    limited = rewards.length.using(limit=3, weight=0.5, name="brief")
    for function in (mine.half_of_steps, limited, rewards.product(limited, mine.steps), by_file, by_file.using(name="s")):
        again = pickle.loads(pickle.dumps(function))
        assert (again.name, again.version, again.weight) == (function.name, function.version, function.weight)
        assert again(made(1, answer="abc")) == function(made(1, answer="abc"))


# --- the library ----------------------------------------------------------------------------------------------------

PYTEST = "tests/a.py .F.\n=== 1 failed, 3 passed, 1 skipped in 0.10s ==="
UNITTEST = "...\nFAIL: test_x\nRan 4 tests in 0.001s\n\nFAILED (failures=1)"
CARGO = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured"
JEST = "Test Suites: 1 failed, 1 total\nTests:       1 failed, 3 passed, 4 total\nSnapshots:   0 total"
CALL = {"completion_tokens": 10, "prompt_tokens": 30, "cost": 0.5}
THOUGHT = {"response": "buy", "reasoning": "I have high confidence in it"}


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        (rewards.completion, [(made(), 1), (made(status="failed"), 0), (NOTHING, None)]),
        (
            rewards.success,
            [
                (made({"name": "a", "ok": False}, {"name": "a", "ok": True}), 1),
                (made({"name": "a", "ok": False}), 0),
                (made(1), None),
            ],
        ),
        (
            rewards.outcome,
            [
                (made(metrics={"outcome": 0.25}), 0.25),
                (made(metadata={"outcome": True}), 1),
                (made(notes=[{"name": "outcome", "data": 0}], metadata={"outcome": 9}), 0),
                (made(metadata={"outcome": "won"}), None),
            ],
        ),
        (
            rewards.answer_match,
            [
                (made(answer=" Four  apples", task={"expected": "four apples"}), 1),
                (made(answer=5, metadata={"expected": 4}), 0),
                (made(metadata={"expected": 4}), 0),
                (made(answer=4), None),
            ],
        ),
        (rewards.step_efficiency.using(budget=4), [(made(1), 0.75), (made(*range(9)), 0)]),
        (
            rewards.token_efficiency.using(budget=80),
            [(made(llm_calls=[CALL]), 0.5), (made(llm_calls=[CALL, {}]), None), (made(), None)],
        ),
        (rewards.token_efficiency.using(budget=80, prompt=False), [(made(llm_calls=[CALL, CALL]), 0.75)]),
        (rewards.cost_efficiency.using(budget=2), [(made(llm_calls=[CALL]), 0.75), (made(llm_calls=[{}]), None)]),
        (
            rewards.time_efficiency.using(budget=4),
            [
                (Trajectory.from_dict({"start": {"source_time": 10**9}, "end": {"source_time": 2 * 10**9}}), 0.75),
                (NOTHING, None),
            ],
        ),
        (
            rewards.json_format,
            [(made(answer='{"a": 1}'), 1), (made(answer="{a: 1}"), 0), (made(answer="7"), 0), (made(answer=[1]), 1)],
        ),
        (
            rewards.pattern_format.using(pattern="<a>.*</a>"),
            [(made(answer="<a>\n</a>"), 1), (made(answer="<a></a>!"), 0), (made(), 0)],
        ),
        (
            rewards.schema_adherence.using(schema={"type": "object", "required": ["a"]}),
            [(made(answer='{"a": 1}'), 1), (made(answer={"b": 1}), 0), (made(answer="a"), 0), (NOTHING, None)],
        ),
        (
            rewards.length.using(limit=10),
            [(made(answer="x" * 10), 1), (made(answer="x" * 15), 0.5), (made(answer="x" * 99), 0), (made(), None)],
        ),
        (rewards.length.using(limit=2, unit="words", slack=0.5), [(made(answer="a b c"), 0)]),
        (rewards.length.using(limit=8, unit="tokens"), [(made(llm_calls=[CALL]), 0.75), (made(), None)]),
        (
            rewards.unit_tests,
            [
                *((made(text), 0.75) for text in (PYTEST, UNITTEST, CARGO, JEST, {"output": PYTEST}, {"passed": 3, "failed": 1})),
                (made(PYTEST, "done"), 0.75),
                (made(PYTEST, "===== 4 passed in 0.1s ====="), 1),
                (made("=== 1 error in 0.1s ==="), 0),
                (made("Ran 3 tests in 0.1s\n\nOK"), 1),
                (made({"passed": True}), 1),
                (made("Found 9 errors."), None),
                (made("Ran 0 tests in 0.0s"), None),
            ],
        ),
        (
            rewards.unit_tests.using(action="tests"),
            [(made({"name": "tests", "result": CARGO}, "9 passed"), 0.75), (made(CARGO), None)],
        ),
        (
            rewards.profit,
            [
                (made({"pnl": 5, "investment": 10}), 0.5),
                (made({"pnl": 0, "investment": 10}), 0),
                (made({"pnl": 5, "stake": 10}, {"realizedPnL": -2.5, "amount": 10}, {"pnl": 99}), 0.125),
                (made({"pnl": 5}), None),
                (made({"pnl": 5, "stake": 0}), None),
            ],
        ),
        (rewards.profit.using(loss=-0.5), [(made({"pnl": -1, "stake": 10}), -0.5)]),
        (rewards.profit.using(profit="won", stake="bet"), [(made({"won": 1, "bet": 4}), 0.25)]),
        (
            rewards.multi_factor,
            [
                (made({"pnl": 5, "investment": 10, "executionTime": 900}, llm_calls=[THOUGHT]), 0.75),
                (made({"pnl": 5, "investment": 10, "executionTime": 1000}), 0.25),
                (made({"pnl": 90, "investment": 10}), 1),
                (made({"pnl": -5, "investment": 10, "executionTime": 5}), 0.25),
                (made({"executionTime": 5}), None),
            ],
        ),
    ],
    ids=lambda p: p.name if isinstance(p, odograph.RewardFunction) else "",
)
def test_the_library(function: odograph.RewardFunction, cases: list[tuple[Trajectory, float | None]]) -> None:
    """Each gives what its first line says, None where that is not known, and never a value outside of its range."""
    for t, expected in cases:
        found = function(t)
        assert found == expected, (t.to_dict(), found)
        assert (found is None) == (expected is None)
        function.checked(found)


USUAL = {
    "budget": 3.0,
    "limit": 3.0,
    "pattern": "a*",
    "schema": {"type": "object", "properties": {"pnl": {"type": "number"}}},
}


@given(st.sampled_from(rewards.NAMES), ANYTHING, ANYTHING, ANYTHING)
def test_no_content_makes_one_of_the_library_fail(name: str, result: Any, answer: Any, more: Any) -> None:
    """Whatever an agent wrote, each gives a number in its range or None."""
    function = rewards.as_reward_function(name)
    needed = [p.name for p in inspect.signature(function.compute).parameters.values() if p.default is p.empty][1:]
    function = function.using(**{n: USUAL[n] for n in needed})
    keys = {"pnl": more, "investment": result, "passed": more, "failed": answer, "output": result}
    t = made(
        result,
        {"name": "a", "result": keys, "ok": True},
        answer=answer,
        metrics={"outcome": more},
        metadata={"expected": result},
        notes=[{"name": "outcome", "data": result}],
        llm_calls=[{"response": answer, "reasoning": "x", "completion_tokens": 4, "prompt_tokens": 1}],
    )
    function.checked(function(t))


def test_the_library_is_complete_and_documented() -> None:
    """Each name of the library is in docs/rewards.md, says what it is, and wrong parameters are refused in a sentence."""
    page = (Path(__file__).parent.parent.parent / "docs" / "rewards.md").read_text()
    for name in (*rewards.NAMES, *rewards.__all__):
        assert f"`{name}" in page or f".{name}" in page, name
    for name in rewards.NAMES:
        assert getattr(rewards, name).name == name
        assert getattr(rewards, name).__doc__
    t = made(1, answer="x", llm_calls=[CALL])
    for function in (
        rewards.length.using(limit=0),
        rewards.length.using(limit=1, unit="miles"),
        rewards.step_efficiency.using(budget=-1),
        rewards.pattern_format.using(pattern="("),
        rewards.schema_adherence.using(schema="no such file"),
        rewards.schema_adherence.using(schema={"type": 3}),
    ):
        with pytest.raises(InvalidInput):
            function(t)


def test_the_schema_of_a_file(tmp_path: Path) -> None:
    """`schema` may be the file of one."""
    file = tmp_path / "schema.json"
    file.write_text(json.dumps({"type": "array"}))
    assert rewards.schema_adherence.using(schema=str(file))(made(answer="[1]")) == 1.0


# --- versions -----------------------------------------------------------------------------------------------------------------

SOURCE = """import odograph
from helpers import twice
SCALE = 100
TABLE = {"a": [1, 2]}
_memory = {}

class Judge:
    LEAST = 5
    def of(self, x):
        return x > self.LEAST

judge = Judge()

def helper(x):
    return x / SCALE

@odograph.reward
def f(t):
    return twice(helper(t)) + TABLE["a"][0] + len(_memory) + judge.of(1)
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("rw.py", "SCALE = 100", "SCALE = 10", False),  # a constant that only a helper names
        ("rw.py", "[1, 2]", "[1, 3]", False),
        ("rw.py", "return x / SCALE", "return -x / SCALE", False),
        ("rw.py", "LEAST = 5", "LEAST = 6", False),  # of an object of one's own class
        ("rw.py", "judge = Judge()", "judge = Judge()\njudge.asked = 7", True),  # what it holds may be a cache
        ("helpers.py", "2 * x", "3 * x", False),  # a helper in a file of one's own beside
        ("rw.py", "def f(t):", "def f(t):  # the whole reward", True),
        ("rw.py", "twice(helper(t)) + ", "twice( helper(t) )  + ", True),
        ("rw.py", "def f(t):", 'def f(t):\n    """Says what it is."""', True),
        ("rw.py", "_memory = {}", "_memory = {1: 2}", True),  # not a constant by its name: a cache, perhaps
        ("rw.py", "SCALE = 100", "SCALE = 100\nUNUSED = 1", True),
    ],
)
def test_a_version_is_of_the_syntax_and_of_the_constants_and_helpers_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, same: bool
) -> None:
    """What changes what the function computes changes its version; comments, layout and what it does not name do not."""
    versions = []
    for number, changed in enumerate((False, True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        texts = {"rw.py": SOURCE, "helpers.py": "def twice(x):\n    return 2 * x\n"}
        if changed:
            assert old in texts[file]
            texts[file] = texts[file].replace(old, new)
        for name, text in texts.items():
            (folder / name).write_text(text)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "helpers", raising=False)
        versions.append(odograph.rewards.as_reward_function(f"{folder / 'rw.py'}:f").version)
        monkeypatch.undo()
    assert (versions[0] == versions[1]) is same


def test_a_version_is_the_same_under_each_python_and_in_each_folder(tmp_path: Path) -> None:
    """A store that another Python or machine scored is scored already: this version is that of Python 3.11, 3.12 and 3.13."""
    (tmp_path / "rw.py").write_text(
        "import odograph\nLIMIT = 3\n\ndef helper(x, *, y=2):\n    return [i for i in range(x) if i] + [y]\n\n"
        "@odograph.reward\ndef f(t):\n    class A:\n        def m(self): return ()\n"
        '    print(f"{t.task!r:>{LIMIT}}, {helper(2)}")\n    return float(len(helper(3)))\n'
    )
    assert odograph.rewards.as_reward_function(f"{tmp_path / 'rw.py'}:f").version == "87c09e139a05"


def test_functions_that_name_each_other_have_a_version() -> None:
    assert odograph.reward_function("even", _even).version != odograph.reward_function("odd", _odd).version


def _even(n: Any) -> Any:
    return n == 0 or _odd(n - 1)


def _odd(n: Any) -> Any:
    return n != 0 and _even(n - 1)


@pytest.mark.parametrize(
    ("given", "total"),
    [
        ({"a": 1.0, "b": math.nan}, None),
        ({"a": 1.0, "b": math.inf}, None),
        ({"a": 1.0, "b": None}, None),
        ({"a": 1.0, "b": 0.0}, 1.0),
    ],
)
def test_a_component_that_is_not_known_makes_the_total_unknown(
    store: odograph.Store, given: dict[str, float | None], total: float | None
) -> None:
    """Not smaller: on a trajectory, on a step, and in the catalog. With weight 0 it only monitors."""
    ids = []
    for weight, of_step in ((1.0, False), (1.0, True), (0.0, False)):
        with store.record(task="t") as run, run.step() as step:
            for name, value in given.items():
                (step if of_step else run).reward(value, name=name, weight=weight if name == "b" else 1.0)
        ids.append(run.id)
    assert [store.trajectory(id).reward for id in ids] == [total, total, 1.0]
    assert store.stats().to_dict()["rewarded"] == (1 if total is None else 3)


@pytest.mark.parametrize(
    "result",
    [
        {"success": False},
        {"ok": False},
        {"isError": True, "content": []},
        {"success": "false"},
        {"success": 0},
        {"isError": "True"},
        ' {"success": false, "error": "no funds"}',
    ],
)
def test_an_action_whose_result_says_that_it_failed_is_no_success(store: odograph.Store, result: dict[str, Any]) -> None:
    """Whether it was decorated, or recorded by hand; what the caller said himself stands."""
    wrapped = odograph.wrap_action(lambda: result, name="X")
    with store.record(task="t") as run, run.step() as step:
        wrapped()
        step.action("X", {}, result)
        step.action("X", {}, result, ok=True)
    assert [a.ok for a in store.trajectory(run.id).actions] == [False, False, True]
    store.score("success")
    assert store.trajectory(run.id).rewards["success"] == 0.0
