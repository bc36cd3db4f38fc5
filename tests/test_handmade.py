"""Trajectories by hand, as dicts: the words that work in them, what is refused with the right name, and that nothing is dropped."""

from __future__ import annotations

import math
from typing import Any

import pytest

import odograph
from odograph import InvalidInput
from odograph.trajectory import Trajectory
from tests.cost import costs


def whole(call: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    made = {"model": "m", "messages": [{"role": "user", "content": "q"}], "response": "yes"} if call is None else call
    return {"task": "t", "agent": "a", "steps": [{"llm_calls": [made]}], "reward": 1.0, **more}


def added(store: odograph.Store, data: dict[str, Any]) -> odograph.Trajectory:
    return store.trajectory(store.add(data))


def test_the_words_of_step_llm_call_work_in_a_dict(store: odograph.Store) -> None:
    """The same words, by hand and in a dict, give the same call."""
    words: dict[str, Any] = {
        "model": "m",
        "system_prompt": "S",
        "user_prompt": "U",
        "messages": [{"role": "user", "content": "before"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "params": {"temperature": 0.0},
        "thinking": "because",
        "response": {"market": 1},
        "token_ids": [1, 2],
        "logprobs": [-0.5, 0.0],
        "policy_versions": [[0, 1], [1, 2]],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "metadata": {"run": 7},
    }
    with store.record(task="t", agent="a") as run, run.step() as step:
        step.llm_call(**words)
    one, other = store.trajectory(run.id).llm_calls[0], added(store, whole(words)).llm_calls[0]
    for name in ("messages", "params", "tools", "response", "reasoning", "tokens", "prompt_tokens", "completion_tokens", "extra"):
        assert getattr(one, name) == getattr(other, name), name
    assert [m["content"] for m in other.messages] == ["S", "before", "U"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"respones": "x"}, r"steps\[0\].llm_calls\[0\]: no field 'respones'; did you mean 'response'"),
        ({"systemPrompt": "x"}, "did you mean 'system_prompt'"),
        ({"completion": "x"}, "did you mean 'response'"),
        ({"completon": "x"}, "did you mean 'response'"),
        ({"timestamp": 5}, "did you mean 'source_time'"),
        ({"request": {}, "messages": []}, "whole .* or in parts"),
        ({"tokens": [{"token_id": [1]}]}, "has no field 'token_id'"),
        ({"kind": "action"}, "kind 'llm_call' was expected"),
        ({"messages": "q"}, "messages is a list"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_right_one(store: odograph.Store, change: dict[str, Any], said: str) -> None:
    """By `store.add`, and as a finding of `validate`; nothing is written."""
    data = whole({"model": "m", "response": "yes", **change})
    with pytest.raises(InvalidInput, match=said):
        store.add(data)
    (found,) = odograph.validate_trajectory(data).findings
    assert (found.code, found.severity) == ("schema", "error")
    assert len(store) == 0


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        ({"taks": "t", "steps": []}, "task"),
        ({"task": "t", "step": [{}]}, "steps"),
        ({"task": "t", "steps": [{"lm_calls": []}]}, "llm_calls"),
        ({"task": "t", "steps": [{"actions": [{"name": "A", "success": True}]}]}, "ok"),
        ({"task": "t", "steps": [{"actions": [{"name": "A", "params": {}}]}]}, "arguments"),
        ({"task": "t", "steps": [{"contexts": [{"providerName": "kb"}]}]}, "provider"),
        ({"task": "t", "rewards": [{"name": "r", "score": 1.0}]}, "value"),
    ],
)
def test_every_part_of_the_shape_knows_its_keys(data: dict[str, Any], meant: str) -> None:
    with pytest.raises(InvalidInput, match=f"did you mean '{meant}'"):
        odograph.Trajectory.from_dict(data)


def test_keys_that_no_part_has_are_kept(store: odograph.Store) -> None:
    """Of the whole, of a step and of a record: in `extra`, never dropped."""
    data = whole({"model": "m", "user_prompt": "q", "response": "r", "gpu": "A"}, venue="north")
    data["steps"][0]["weather"] = "rain"
    t = added(store, data)
    assert t.start is not None and t.start.extra == {"venue": "north"}
    assert t.steps[0].record is not None and t.steps[0].record.extra == {"weather": "rain"}
    assert t.llm_calls[0].extra == {"gpu": "A"}
    assert store.trajectory(store.add(t.to_dict())).to_dict() == t.to_dict()  # and what was added again is the same


def test_a_reward_may_be_a_number(store: odograph.Store) -> None:
    """Of the whole, or of steps; where there are reward records, these count."""
    assert added(store, whole()).reward == 1.0
    steps: list[dict[str, Any]] = [{"reward": 0.25, "actions": [{"name": "A", "ok": True}]}, {"reward": 0.5}]
    assert added(store, {"task": "t", "steps": steps}).reward == 0.75
    assert added(store, whole(rewards=[{"name": "r", "value": 0.5}])).reward == 0.5


def test_when_it_began_may_be_said(store: odograph.Store) -> None:
    """`started` is the time that filters go by; one that is no time is refused."""
    assert added(store, whole(started="2020-01-02T03:04:05Z")).started == 1_577_934_245 * 10**9
    assert [t.id for t in store.trajectories(time_range="7d")] == []
    with pytest.raises(InvalidInput, match="started"):
        store.add(whole(started="yesterday"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_dict_with_a_number_that_is_none_is_checked_as_the_store_would(store: odograph.Store, value: float) -> None:
    data = whole(rewards=[{"name": "r", "value": value}], labels=[{"technique": "q", "score": value}])
    t = added(store, data)
    assert odograph.validate(data).counts == odograph.validate(t).counts
    assert odograph.validate(data).counts["reward_nonfinite"] == 2
    assert t.reward is None
    with pytest.raises(InvalidInput, match="weight"):
        store.add(whole(rewards=[{"name": "r", "value": 1.0, "weight": value}]))


def test_a_start_by_hand_leaves_nothing_beside_it_unread(store: odograph.Store) -> None:
    """What is known of the whole may stand in the start, or beside it, or some of it in both."""
    id = store.add({"task": "t", "agent": "a", "tags": ["x"], "start": {"source_time": 5, "agent": "b"}, "steps": []})
    t = store.trajectory(id)
    assert (t.task, t.agent, t.tags, t.started) == ("t", "b", ["x"], 5)


def test_a_black_box_of_many_answers_costs_its_tokens() -> None:
    """Each answer of a sequence has all tokens before it as its prompt: four times the sequence takes about four times the cost."""

    def cost(answers: int) -> float:
        ids, mask = list(range(40 * answers)), [0] * 20 + [1] * 20
        given = {"task": "t", "token_ids": ids, "mask": mask * answers}
        t, cost = costs(lambda: Trajectory.from_dict(given), rounds=3)
        prompt = t.llm_calls[-1].prompt_token_ids
        assert prompt == ids[:-20] and t.to_dict()["steps"][-1]["llm_calls"][0]["prompt_token_ids"] == prompt
        return cost

    cost(10)
    assert cost(4000) < 9 * cost(1000)
