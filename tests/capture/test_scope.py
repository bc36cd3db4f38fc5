"""What a run, a step and an action record, and what is recorded inside of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import odograph


@pytest.mark.parametrize(
    ("result", "error", "said", "found"),
    [
        ({"success": True}, None, None, True),
        ({"success": False}, None, None, False),
        ("text", None, None, True),
        ({"success": True}, "no", None, False),
        ({"success": False}, "no", True, True),
    ],
)
def test_how_an_action_in_progress_went(store: odograph.Store, result: Any, error: Any, said: Any, found: bool) -> None:
    """Who says so is believed, then an error, then what the result states; else it went well."""
    before = time.perf_counter_ns()
    with store.record(task="t") as run, run.step() as step, step.acting("n", {"k": 1}) as action:
        action.result, action.error, action.ok = result, error, said
    took = time.perf_counter_ns() - before
    (record,) = store.trajectory(run.id).actions
    assert (record.ok, record.result, record.error, record.id) == (found, result, error, action.id)
    assert 0 <= record.duration <= took


def test_what_is_recorded_inside_of_an_action_and_behind_it(store: odograph.Store) -> None:
    """The current scope is the action while it is in progress, and the step again when it is over."""
    with store.record(task="t") as run, run.step() as step:
        with step.acting("n") as action:
            within = odograph.log_context("inside")
        behind = odograph.log_context("behind")
        late = run.inside(action.id).note("late")
    parents = {record.id: record.parent for record in store.trajectory(run.id).records}
    assert (parents[within], parents[behind], parents[late], parents[action.id]) == (action.id, step.id, action.id, step.id)
    assert run.trajectory == step.trajectory == run.id


def test_a_step_whose_id_is_known_is_written(tmp_path: Path) -> None:
    """Whoever asks for the id may tell it to another process."""
    with odograph.open(tmp_path) as store, store.record(task="t") as run:
        id = run.step().id  # without an observation it would wait for what comes next
        (file,) = (tmp_path / "journal").glob("*.jsonl")
        assert id in file.read_text()


@pytest.mark.parametrize("given", [{"author": "a"}, {"version": "v"}, {"rationale": "r"}])
def test_what_is_said_of_a_reward_is_kept_and_nothing_else(store: odograph.Store, given: dict[str, str]) -> None:
    """Each argument alone is in the record of the reward, and is in none without it."""
    with store.record(task="t") as run:
        run.reward(1.0, "without")
        run.reward(1.0, "with", **given)  # type: ignore[arg-type]
    without, said = (odograph.codec.record_to_dict(r) for r in store.trajectory(run.id).all_rewards)
    usual = {"id", "time", "seq", "name"}
    assert {k: v for k, v in said.items() if k not in usual} == {k: v for k, v in without.items() if k not in usual} | given


def test_logprobs_alone_are_kept(store: odograph.Store) -> None:
    """So are the ids of a prompt, and what the logprobs are, without anything else of the tokens."""
    with store.record(task="t") as run:
        run.llm_call(model="m", messages=[], response="a", logprobs=[-0.5])
        run.llm_call(model="m", messages=[], response="a", prompt_token_ids=[1])
        run.llm_call(model="m", messages=[], response="a", logprobs_of="raw")
    one, two, three = store.trajectory(run.id).llm_calls
    assert (one.choices[0].logprobs, two.prompt_token_ids, three.record.logprobs_of) == ([-0.5], [1], "raw")


def test_steps_that_are_left_in_another_order(store: odograph.Store) -> None:
    """What was entered later stays the current scope; when it is left, too, the one that is left already is not it."""
    with store.record(task="t") as run:
        first, second = run.step("1"), run.step("2")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        first.__exit__(None, None, None)  # once too often
        assert odograph.current() is second
        second.__exit__(None, None, None)
        assert odograph.current() is run


def test_an_action_in_an_action_is_left_for_the_first(store: odograph.Store) -> None:
    """What comes behind the inner one is in the outer one."""

    @odograph.action
    def inner() -> None:
        odograph.log_context("in")

    @odograph.action
    def outer() -> None:
        inner()
        odograph.log_context("behind")

    with store.record(task="t") as run:
        outer()
    t = store.trajectory(run.id)
    named = {record.id: getattr(record, "name", "") for record in t.records}
    assert [(c.provider, named[c.parent or ""]) for c in t.contexts] == [("in", "inner"), ("behind", "outer")]
