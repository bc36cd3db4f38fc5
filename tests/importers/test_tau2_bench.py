"""Importing tau2-bench's results."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odograph.errors import InvalidInput
from odograph.types import Action, End, LLMCall, Note, Reward, Start, StepStart
from tests.cost import costs
from tests.importers.scaffold import check, damaged, differences, facts, of, one, read, recognised, survives, totals, write

NAME = "tau2-bench"


def simulation(id: str, task_id: str = "13", turns: int = 1) -> dict[str, Any]:
    def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
        usage = {"prompt_tokens": 10, "completion_tokens": 1}
        raw = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": content}}
        return {"role": role, "content": content, "tool_calls": None, "usage": usage, "cost": 0.25, "raw_data": raw, **more}

    messages = [
        said("assistant", "Hi! How can I help you?", usage=None, raw_data=None, cost=0.0),
        said("user", "Change my flight.", timestamp="2025-08-01T16:20:45"),
    ]
    for n in range(turns):
        asked = [{"id": f"c{n}", "name": "get_user", "arguments": {"user": n}, "requestor": "assistant"}]
        messages.append(said("assistant", None, tool_calls=asked, reasoning="hm"))
        messages.append({"id": f"c{n}", "role": "tool", "content": "{}", "requestor": "assistant", "error": n % 2 == 1})
    own = [{"id": "u0", "name": "toggle_wifi", "arguments": {}, "requestor": "user"}]
    messages += [
        said("user", None, tool_calls=own),
        {"id": "u0", "role": "tool", "content": "on", "requestor": "user", "error": False},
        said("assistant", "Done."),
        said("user", "Bye. ###STOP###"),
    ]
    return {
        "id": id,
        "task_id": task_id,
        "timestamp": "2025-08-01T16:21:03",
        "start_time": "2025-08-01T16:20:44",
        "end_time": "2025-08-01T16:21:03",
        "duration": 19.0,
        "termination_reason": "user_stop",
        "agent_cost": 0.5,
        "user_cost": 0.75,
        "reward_info": {"reward": 1.0, "db_check": {"db_match": True}},
        "messages": messages,
        "trial": 0,
        "seed": 7,
    }


def results(turns: int = 1) -> dict[str, Any]:
    return {
        "timestamp": "2025-08-01T16:20:43",
        "info": {
            "user_info": {"implementation": "user_simulator", "llm": "user-llm"},
            "agent_info": {"implementation": "llm_agent", "llm": "agent-llm"},
            "environment_info": {"domain_name": "airline", "policy": "Policy.", "tool_defs": None},
        },
        "tasks": [{"id": "13", "description": {"purpose": "p"}}],
        "simulations": [simulation("s1", turns=turns), simulation("s2", turns=turns)],
    }


def voice() -> dict[str, Any]:
    value = simulation("v1")
    del value["messages"], value["reward_info"]
    return {**value, "mode": "full_duplex", "ticks": [{"tick_id": 0, "agent_chunk": {"role": "assistant"}}]}


def test_simulations(tmp_path: Path):
    """The greeting is a step that no model decided; the user simulator's calls are not the agent's."""
    sessions = read(NAME, write(tmp_path / "r.json", results()))
    check(sessions)
    first = sessions[0]
    start, end = of(Start, first)[0], of(End, first)[0]
    assert (start.task, start.agent, start.model, start.group, start.seed) == (
        "Change my flight.",
        "llm_agent",
        "agent-llm",
        "airline-13",
        7,
    )
    assert start.metadata["source"]["task"]["description"] == {"purpose": "p"}
    assert len(of(StepStart, first)) == 3
    act = [c for c in of(LLMCall, first) if c.purpose == "act"]
    user = [c for c in of(LLMCall, first) if c.purpose == "user"]
    assert [(c.model, c.step) for c in act] == [("agent-llm", 1), ("agent-llm", 2)]
    assert [(c.model, c.agent, c.step, c.request) for c in user] == [("user-llm", "user", None, None)] * 3
    assert [m["role"] for m in act[0].request["messages"]] == ["system", "assistant", "user"]
    assert act[0].reasoning == "hm"
    (action,) = of(Action, first)
    assert (action.name, action.arguments, action.result, action.ok) == ("get_user", {"user": 0}, "{}", True)
    assert [n.name for n in of(Note, first)] == [
        "scripted_message",
        "user_action",
        "user_action_result",
        "unanswered",
    ]
    assert (end.status, end.metrics["prompt_tokens"], end.metrics["completion_tokens"], end.metrics["cost"]) == (
        "completed",
        20,
        2,
        0.5,
    )
    assert of(Reward, first)[0].value == 1.0
    assert totals(sessions)["prompt_tokens"] == 40


def test_other_roots(tmp_path: Path):
    """One simulation, a list of them, and a folder of them beside their index are read as well."""
    assert one(NAME, write(tmp_path / "one.json", simulation("s1"))).records
    assert len(read(NAME, write(tmp_path / "list.json", [simulation("s1"), simulation("s2")]))) == 2
    index = {k: v for k, v in results().items() if k != "simulations"} | {"simulations": [], "simulation_index": []}
    assert recognised(write(tmp_path / "run" / "results.json", index)) == [NAME]
    path = write(tmp_path / "run" / "simulations" / "s1.json", simulation("s1"))
    assert recognised(tmp_path / "run" / "results.json") == []
    assert recognised(path) == [NAME]
    start = of(Start, one(NAME, path))[0]
    assert (start.model, start.group) == ("agent-llm", "airline-13")


def test_voice_is_kept_and_has_no_steps(tmp_path: Path):
    session = one(NAME, write(tmp_path / "v.json", voice()))
    check([session])
    assert not of(StepStart, session)
    assert not of(Reward, session)
    assert of(Note, session)[0].data == voice()["ticks"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("agent_stop", "completed"),
        ("max_steps", "truncated"),
        ("timeout", "timeout"),
        ("too_many_errors", "failed"),
        ("agent_error", "failed"),
    ],
)
def test_outcomes(tmp_path: Path, reason: str, status: str):
    assert of(End, one(NAME, write(tmp_path / "o.json", simulation("s") | {"termination_reason": reason})))[0].status == status


def test_several_tool_results_in_one_message(tmp_path: Path):
    value = simulation("s")
    value["messages"][3] = {"role": "tool", "tool_messages": [value["messages"][3]]}
    assert of(Action, one(NAME, write(tmp_path / "m.json", value)))[0].result == "{}"


def test_ids_do_not_depend_on_the_place(tmp_path: Path):
    path = tmp_path / "r.json"
    (early,) = read(NAME, write(path, [simulation("s2")]))
    late = read(NAME, write(path, [simulation("s1"), simulation("s2")]))
    assert [r.id for r in late[1].records] == [r.id for r in early.records]


def test_told_apart(tmp_path: Path):
    for value in (results(), simulation("s"), [simulation("s")], voice()):
        assert recognised(write(tmp_path / "a.json", value)) == [NAME]
    long = {"tasks": [{"id": "x" * 70_000}]}
    assert recognised(write(tmp_path / "b.json", {"info": results()["info"], **long, "simulations": []})) == [NAME]


@pytest.mark.parametrize("value", ["", "nothing", "[]", "{}", '{"simulations": [1]}', "[1]"])
def test_nothing_usable_is_said(tmp_path: Path, value: str):
    with pytest.raises(InvalidInput):
        read(NAME, write(tmp_path / "x.json", value))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.one_of(damaged(results()), damaged(simulation("s")), damaged([voice()])))
def test_hostile_content(tmp_path: Path, value: Any):
    survives(NAME, write(tmp_path / "x.json", json.dumps(value)))


def test_long_sessions_read_in_linear_time(tmp_path: Path):
    """Ten times as many turns take about ten times the processor time."""
    spent = []
    for turns in (300, 3000):
        reading = partial(one, NAME, write(tmp_path / f"{turns}.json", simulation("s", turns=turns)))
        session, cost = costs(reading, rounds=2, enough=40 * spent[0] if spent else 0.0)
        assert len(of(Action, session)) == turns
        spent.append(cost)
    assert spent[1] < 40 * spent[0]


def test_samples_agree_with_independent_counts(samples: Path):
    for path, known in facts(samples, "tau2-bench"):
        assert recognised(path) == [NAME]
        assert differences(NAME, path, known) == {}, path.name
        sums = [r.value for r in of(Reward, *read(NAME, path)) if isinstance(r.value, float)]
        assert sum(sums) == known["outcome"]["reward_sum"]
