"""Importing tau-bench's results."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from odograph.errors import InvalidInput
from odograph.types import Action, End, LLMCall, Reward, Start, StepStart
from tests.cost import costs
from tests.importers.scaffold import check, damaged, differences, facts, ids, of, read, recognised, survives, write

NAME = "tau-bench"


def episode(task_id: int, trial: int, reward: Any = 1.0, turns: int = 1) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Policy."}, {"role": "user", "content": f"Book {task_id}."}]
    for n in range(turns):
        asked = {"id": f"c{n}", "type": "function", "function": {"name": "search", "arguments": '{"to": "SEA"}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [asked]})
        messages.append({"role": "tool", "tool_call_id": f"c{n}", "name": "search", "content": "[]"})
    messages += [{"role": "assistant", "content": f"None in trial {trial}."}, {"role": "user", "content": "Bye ###STOP###"}]
    info = {
        "task": {"user_id": "u", "instruction": f"Book {task_id}.", "actions": []},
        "source": "user",
        "user_cost": 0.5,
        "reward_info": {"reward": reward, "info": {"r_actions": reward}},
    }
    return {"task_id": task_id, "reward": reward, "info": info, "traj": messages, "trial": trial}


def results() -> list[dict[str, Any]]:
    failed = {"task_id": 2, "reward": 0.0, "info": {"error": "boom", "traceback": "..."}, "traj": [], "trial": 0}
    return [episode(0, 0), episode(1, 0, 0.0), episode(0, 1, float("nan")), failed]


def test_episodes(tmp_path: Path):
    """An episode is a trajectory; the trials of a task are a group; the environment's reward is as it was written."""
    sessions = read(NAME, write(tmp_path / "r.json", results()))
    check(sessions)
    assert len({s.id for s in sessions}) == 4
    first = sessions[0]
    start, calls, actions = of(Start, first)[0], of(LLMCall, first), of(Action, first)
    assert start.task == "Book 0."
    assert start.metadata["source"]["task"]["user_id"] == "u"
    assert [s.observation for s in of(StepStart, first)] == ["Book 0.", None]
    assert [len(c.request["messages"]) for c in calls] == [2, 4]
    assert [(a.name, a.arguments, a.result, a.tool_call_id) for a in actions] == [("search", {"to": "SEA"}, "[]", "c0")]
    groups = [of(Start, s)[0].group for s in sessions]
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3
    rewards = [of(Reward, s)[0] for s in sessions]
    assert [r.value for r in rewards] == [1.0, 0.0, {"$odograph": "float", "value": "nan"}, 0.0]
    assert [of(End, s)[0].status for s in sessions] == ["completed", "completed", "completed", "failed"]
    assert of(End, sessions[3])[0].error == "boom"


def test_tasks_of_other_domains_are_other_groups(tmp_path: Path):
    """Ids count from 0 in every domain: without the task itself, retail's 0 and airline's 0 would be compared."""
    other = episode(0, 0)
    other["info"]["task"]["instruction"] = "Return a shirt."
    a, b = read(NAME, write(tmp_path / "r.json", [episode(0, 0), other]))
    assert of(Start, a)[0].group != of(Start, b)[0].group


def test_ids_do_not_depend_on_the_order(tmp_path: Path):
    """A run writes its episodes as they end and sorts them when it is done: that adds nothing new."""
    path = tmp_path / "r.json"
    early = {s.id for s in read(NAME, write(path, [episode(1, 0), episode(0, 1)]))}
    late = {s.id for s in read(NAME, write(path, [episode(0, 0), episode(0, 1), episode(1, 0)]))}
    assert early < late
    assert ids(read(NAME, path)) == ids(read(NAME, path))


def test_equal_episodes_are_two(tmp_path: Path):
    a, b = read(NAME, write(tmp_path / "r.json", [episode(0, 0), episode(0, 0)]))
    assert a.id != b.id


def test_told_apart(tmp_path: Path):
    assert recognised(write(tmp_path / "r.json", results())) == [NAME]
    assert recognised(write(tmp_path / "s.json", results()[3:])) == [NAME]
    assert recognised(write(tmp_path / "t.json", results()[0])) == []


@pytest.mark.parametrize("value", ["", "nothing", "[]", "{}", "[1, {}]"])
def test_nothing_usable_is_said(tmp_path: Path, value: str):
    with pytest.raises(InvalidInput):
        read(NAME, write(tmp_path / "x.json", value))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=damaged(results()))
def test_hostile_content(tmp_path: Path, value: Any):
    survives(NAME, write(tmp_path / "x.json", json.dumps(value)))


def test_long_sessions_read_in_linear_time(tmp_path: Path):
    """Ten times as many turns take about ten times the processor time."""
    spent = []
    for turns in (300, 3000):
        reading = partial(read, NAME, write(tmp_path / f"{turns}.json", [episode(0, 0, turns=turns)]))
        session, cost = costs(reading, rounds=2, enough=40 * spent[0] if spent else 0.0)
        assert len(of(Action, *session)) == turns
        spent.append(cost)
    assert spent[1] < 40 * spent[0]


def test_samples_agree_with_independent_counts(samples: Path):
    for path, known in facts(samples, "tau-bench"):
        assert recognised(path) == [NAME]
        assert differences(NAME, path, known) == {}, path.name
        rewards = [r.value for r in of(Reward, *read(NAME, path)) if isinstance(r.value, float)]
        assert sum(rewards) == known["outcome"]["reward_sum"]
