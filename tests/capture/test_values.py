"""What a recording method takes: numbers and requests of any class, bodies that are read in pieces."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest

import odograph
from odograph.capture.values import said_of
from tests.programs import ran


def test_a_reward_is_a_number_of_any_class(store: odograph.Store) -> None:
    """A number of a class of its own is its value; what only looks like one is refused, with its class."""
    given: list[Any] = [Decimal("0.5"), Fraction(1, 2), numpy.float32(0.5), numpy.float64(0.5), 0.5, True, 0]
    with store.record(task="t") as run:
        for number, value in enumerate(given):
            run.reward(value, str(number))
        for wrong in ("1", b"1", object(), [1.0]):
            with pytest.raises(TypeError, match=rf"a reward is a number or None, not {type(wrong).__name__}"):
                run.reward(wrong)  # type: ignore[arg-type]
    assert [r.value for r in store.trajectory(run.id).rewards] == [0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.0]


def test_a_request_is_an_object_of_any_class(store: odograph.Store) -> None:
    """A request that is no dict is kept as the dict that it amounts to: model and messages are read from it."""

    @dataclass
    class Asked:
        model: str
        messages: list[dict[str, str]]

    @dataclass
    class Sampling:
        temperature: float

    messages = [{"role": "user", "content": "q"}]
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(request=Asked("m", messages), response="a")  # type: ignore[arg-type]
        step.llm_call(model="m", messages=messages, params=Sampling(0.0), response="a")  # type: ignore[arg-type]
    one, two = store.trajectory(run.id).llm_calls
    assert (one.model, one.messages, one.request) == ("m", messages, {"model": "m", "messages": messages})
    assert two.request == {"model": "m", "messages": messages, "temperature": 0.0}


def test_what_is_usual_is_left_out_and_what_is_not_is_kept(store: odograph.Store) -> None:
    """Parameters of a plain dict, the source of a reward and details of a call are on record as given."""
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", messages=[], params={"temperature": 0.0}, response="a", metadata={"k": 1})
        step.reward(1.0, source="human", supersedes="r0", extra={"why": 1})
        step.reward(1.0)
    t = store.trajectory(run.id)
    (call,) = t.llm_calls
    assert (call.request, call.record.extra) == ({"model": "m", "messages": [], "temperature": 0.0}, {"k": 1})
    assert [(r.source, r.supersedes, r.extra) for r in t.all_rewards] == [
        ("human", "r0", {"why": 1}),
        ("environment", None, None),
    ]


@pytest.mark.parametrize(
    ("error", "said"), [("late", "late"), ({"message": "late"}, "late"), ({"message": 5}, None), ("", None), (5, None)]
)
def test_what_an_error_says_is_a_text(error: Any, said: str | None) -> None:
    """What is shown of a recorded error is the text in it, if there is any."""
    assert said_of(error) == said


class Name(StrEnum):
    """Names as a program keeps them."""

    RIGHT = "right"


def test_a_name_may_be_of_a_class_of_its_own(store: odograph.Store) -> None:
    """A name that is a member of an enumeration of texts is the text; a name that is no text is refused."""
    with store.record(task="t") as run:
        run.reward(1.0, Name.RIGHT)
        run.label(Name.RIGHT, "v")
        run.action(Name.RIGHT)
        with pytest.raises(TypeError, match="name is a string, not int"):
            run.reward(1.0, 5)  # type: ignore[arg-type]
    t = store.trajectory(run.id)
    assert [t.rewards[0].name, t.labels[0].technique, t.actions[0].name] == ["right"] * 3


def test_what_is_no_record_and_no_number_is_told_in_a_sentence(store: odograph.Store) -> None:
    """A target that has no id, or one that is no text, and a number that can't be told, are refused before anything is written."""

    class Numbered:
        id = 5

    class Unknown:
        def __float__(self) -> float:
            raise ValueError("unknown")

    with store.record(task="t") as run:
        for wrong in (5, object(), Numbered()):
            with pytest.raises(TypeError, match=f"^target is a record, .* or an id; not {type(wrong).__name__}$"):
                run.reward(1.0, target=wrong)
        for value, why in ((Unknown(), "ValueError"), (10**400, "int too large to convert to float")):
            with pytest.raises(TypeError, match=f"^a reward is a number or None: {why}$"):
                run.reward(value)  # type: ignore[arg-type]
    assert store.trajectory(run.id).rewards == []


def test_lists_that_are_none_are_kept_as_they_are(store: odograph.Store) -> None:
    """An iterator is not asked for its items, and what gives no items is on record as itself; one token is a list, too."""

    class Lost:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> float:
            raise RuntimeError

    ids = iter([1, 2, 3])
    with store.record(task="t") as run:
        run.llm_call(model="m", messages=[], response="a", token_ids=ids, logprobs=Lost())
        run.llm_call(model="m", messages=ids, response="a", token_ids=[7], logprobs=[-0.5])  # type: ignore[arg-type]
    assert list(ids) == [1, 2, 3]
    lost, one = store.trajectory(run.id).llm_calls
    assert [lost.record.extra["invalid"]["tokens"][0][name]["type"] for name in ("token_ids", "logprobs")] == [
        "builtins.list_iterator",
        f"{__name__}.{Lost.__qualname__}",
    ]
    assert (one.request["messages"]["type"], one.choices[0].token_ids, one.choices[0].logprobs) == (
        "builtins.list_iterator",
        [7],
        [-0.5],
    )


def test_a_span_is_a_pair_of_whole_numbers(store: odograph.Store) -> None:
    """Whatever class the pair and its numbers are of. Anything else is refused: the reward would be on record for the whole call."""
    given: list[Any] = [(1, 2), [1, 2], numpy.array([1, 2]), (numpy.int64(1), 2), {"start": 1, "stop": 2}, odograph.Span(1, 2)]
    with store.record(task="t") as run:
        call = run.llm_call(model="m", messages=[], response="a", token_ids=[1, 2, 3])
        for span in (*given, odograph.Span(1, 2, choice=1)):
            run.reward(1.0, target=call, span=span)
        for wrong in ((1,), (1, 2, 3), "12", 5, {"start": 1}, {"start": 1, "stop": 2, "more": 3}):
            with pytest.raises(TypeError, match=r"^span is \(start, stop\), some tokens of the call, not "):
                run.reward(1.0, target=call, span=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^stop of a span is a whole number, not float$"):
            run.reward(1.0, target=call, span=(1, 2.0))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^a span needs target="):
            run.reward(1.0, span=(1, 2))
    rewards = store.trajectory(run.id).all_rewards
    assert [r.span for r in rewards] == [odograph.Span(1, 2)] * len(given) + [odograph.Span(1, 2, 1)]
    assert not any(r.extra for r in rewards)


class Over(Exception):
    """A time limit of the program's own."""


def test_a_time_limit_that_is_over_while_tokens_are_counted_is_raised(store: odograph.Store) -> None:
    """It is of no object that was looked at: the counts are not read a second time."""

    class Late:
        @property
        def __class__(self) -> Any:
            if not raised:
                signal.raise_signal(signal.SIGUSR1)
            return object

    raised: list[int] = []

    def over(number: int, _: Any) -> None:
        raised.append(number)
        raise Over

    before = signal.signal(signal.SIGUSR1, over)
    try:
        with store.record(task="t") as run, pytest.raises(Over):
            run.llm_call(model="m", messages=[], response={"content": 1, "choices": Late()})
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert store.trajectory(run.id).llm_calls == []


STRANGE = """
import odograph
from odograph import dialects

open("odd.py", "w").write('''
NAME = "odd.chat"
PATHS = ("/odd",)
def is_response(response): return False
def choices(response): return []
def stated(response): return {}
def usage(usage): return 5
''')
dialects.find("odd.py")
with odograph.open("memory:") as store:
    with store.record(task="t") as run:
        run.llm_call(model="m", messages=[], response={"a": 1}, dialect="odd.chat")
    print(store.trajectory(run.id).llm_calls[0].response, store.health()["faults"], store.health()["last_fault"])
"""


def test_a_dialect_that_fails_is_told_of_once_and_costs_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's dialect that counts wrongly costs the counts alone, and the fault names it."""
    monkeypatch.chdir(tmp_path)
    done = ran(STRANGE)
    assert done.stdout.startswith("{'a': 1} 1 InvalidInput(\"the dialect 'odd.chat' gave in usage() int; Usage was expected"), (
        done.stderr
    )
