"""Importing SWE-agent's `.traj` files."""

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
from tests.importers.scaffold import check, damaged, differences, facts, ids, of, one, read, recognised, survives, totals, write

NAME = "swe-agent"


def old(steps: int = 2, *, exit_status: str | None = "submitted", calls: int | None = None) -> dict[str, Any]:
    """A file as version 0 wrote it: text commands, no queries."""
    history: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a programmer.", "agent": "primary"},
        {"role": "user", "content": "A demonstration.", "agent": "primary", "is_demo": True},
        {"role": "user", "content": "Fix the bug.", "agent": "primary"},
    ]
    trajectory: list[dict[str, Any]] = []
    for n in range(steps):
        words = f"Look.\n```\nls {n}\n```"
        history.append({"role": "assistant", "content": words, "thought": "Look.", "action": f"ls {n}\n", "agent": "primary"})
        history.append({"role": "user", "content": f"file {n}\n(Open file: n/a)", "agent": "primary"})
        trajectory.append(
            {"action": f"ls {n}\n", "observation": f"file {n}", "response": words, "state": "{}\n", "thought": "Look."}
        )
    stats = {"total_cost": 9, "instance_cost": 0.5, "tokens_sent": 100 * steps, "tokens_received": 10 * steps}
    info = {"submission": "diff", "model_stats": {**stats, "api_calls": steps if calls is None else calls}}
    if exit_status is not None:
        info["exit_status"] = exit_status
    return {"environment": "swe_main", "trajectory": trajectory, "history": history[:-1], "info": info}


def new() -> dict[str, Any]:
    """A file as version 1 writes it: tool calls, the exact query of each step, the configuration as a string."""

    def call(n: int) -> dict[str, Any]:
        return {"id": f"c{n}", "type": "function", "function": {"name": "bash", "arguments": f'{{"command": "ls {n}"}}'}}

    system = {"role": "system", "content": "You are.", "agent": "main", "message_type": "system_prompt"}
    user = {"role": "user", "content": [{"type": "text", "text": "Fix it."}], "agent": "main", "message_type": "observation"}
    first = {
        "role": "assistant",
        "content": "I look.",
        "thought": "I look.",
        "action": "ls 0",
        "agent": "main",
        "tool_calls": [call(0)],
    }
    seen = {"role": "tool", "content": "OBS: a", "agent": "main", "tool_call_ids": ["c0"], "message_type": "observation"}
    last = {
        "role": "assistant",
        "content": "Done.",
        "thought": "Done.",
        "action": "submit",
        "agent": "main",
        "tool_calls": [call(1)],
    }
    step = {"execution_time": 0.25, "state": {"working_dir": "/r"}, "extra_info": {}}
    bad = {"role": "assistant", "content": "no call", "agent": "main", "message_type": "assistant"}
    complaint = {"role": "user", "content": "Use a tool.", "agent": "main", "message_type": "user"}
    return {
        "trajectory": [
            {"action": "ls 0", "observation": "a", "response": "I look.", "thought": "I look.", **step, "query": [system, user]},
            {
                "action": "",
                "observation": "",
                "response": "no call",
                "thought": "no call",
                **step,
                "query": [system, user, first, seen],
            },
            {
                "action": "submit",
                "observation": "diff",
                "response": "Done.",
                "thought": "Done.",
                **step,
                "query": [system, user, first, seen, bad, complaint],
            },
        ],
        "history": [system, user, first, seen, last],
        "info": {
            "exit_status": "submitted",
            "submission": "diff",
            "swe_agent_version": "1.1.0",
            "model_stats": {"instance_cost": 0.1, "tokens_sent": 30, "tokens_received": 3, "api_calls": 3},
            "review": {"accept": True, "outputs": ["fine"]},
        },
        "replay_config": json.dumps({"agent": {"model": {"name": "gpt-4o"}}, "problem_statement": {"id": "repo-1"}}),
        "environment": "main",
    }


def test_old_file(tmp_path: Path):
    """Prompts are rebuilt from the history, demonstrations included; commands are actions with their outcome."""
    session = one(NAME, write(tmp_path / "a.traj", old()))
    check([session])
    start, end = of(Start, session)[0], of(End, session)[0]
    assert start.task == "Fix the bug."
    assert (end.status, end.answer) == ("completed", "diff")
    assert end.metrics["prompt_tokens"] == 200
    assert end.metrics["cost"] == 0.5
    calls, actions = of(LLMCall, session), of(Action, session)
    assert [m["content"] for m in calls[0].request["messages"]] == ["You are a programmer.", "A demonstration.", "Fix the bug."]
    assert calls[1].request["messages"][:3] == calls[0].request["messages"]
    assert calls[1].request["messages"][3] is calls[0].response  # shared, so that a long history is stored once
    assert "agent" not in calls[0].request["messages"][0]
    assert (actions[0].name, actions[0].arguments, actions[0].result) == ("ls", "ls 0\n", "file 0")
    assert actions[0].llm_call == calls[0].id
    assert of(StepStart, session)[0].observation == "Fix the bug."


def test_new_file(tmp_path: Path):
    """The exact query is the prompt; a query that was repeated is a step and a call of its own."""
    session = one(NAME, write(tmp_path / "b.traj", new()))
    check([session])
    start = of(Start, session)[0]
    assert (start.task, start.model, start.agent_version) == ("Fix it.", "gpt-4o", "1.1.0")
    assert start.metadata["source"]["session"] == "repo-1"
    calls, actions = of(LLMCall, session), of(Action, session)
    assert len(of(StepStart, session)) == len(calls) == 3
    assert [len(c.request["messages"]) for c in calls] == [2, 4, 6]
    assert calls[2].request["messages"][3] == {"role": "tool", "content": "OBS: a", "tool_call_id": "c0"}
    assert calls[2].request["messages"][2] is calls[0].response
    assert (actions[0].name, actions[0].arguments, actions[0].tool_call_id) == ("bash", {"command": "ls 0"}, "c0")
    assert actions[0].duration == 250_000_000
    assert actions[1].step == 2
    assert [(r.name, r.value, r.source) for r in of(Reward, session)] == [("review_accept", 1.0, "judge")]


def test_a_human_is_no_model(tmp_path: Path):
    """Where the file states that no model was called there is no call, and nothing that was said is lost."""
    session = one(NAME, write(tmp_path / "h.traj", old(calls=0)))
    assert not of(LLMCall, session)
    assert [a.extra["response"] for a in of(Action, session) if a.extra] == ["Look.\n```\nls 0\n```", "Look.\n```\nls 1\n```"]
    told = [n.data["content"] for n in of(Note, session)]
    assert told == ["You are a programmer.", "A demonstration.", "file 0\n(Open file: n/a)"]


@pytest.mark.parametrize("query", [None, [{}]], ids=["1.0", "1.1"])
def test_what_the_agent_wrote_when_it_stopped_is_no_reply(tmp_path: Path, query: Any):
    value = old(1, exit_status="exit_cost", calls=14)
    words = "Exit due to cost limit"
    asked = {} if query is None else {"query": query}
    value["trajectory"].append(
        {"action": "exit_cost", "observation": "", "response": words, "state": "{}", "thought": words, **asked}
    )
    value["history"].append({"role": "user", "content": "file", "agent": "primary"})
    value["history"].append({"role": "assistant", "content": words, "thought": words, "action": "exit_cost", "agent": "primary"})
    session = one(NAME, write(tmp_path / "c.traj", value))
    assert len(of(LLMCall, session)) == 1
    assert len(of(Action, session)) == 2
    end = of(End, session)[0]
    assert (end.status, end.metrics["llm_calls"]) == ("truncated", 14)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("submitted", "completed"),
        ("submitted (exit_cost)", "truncated"),
        ("exit_context", "truncated"),
        ("exit_command_timeout", "timeout"),
        ("exit_error", "failed"),
    ],
)
def test_outcomes(tmp_path: Path, outcome: str, status: str):
    assert of(End, one(NAME, write(tmp_path / "o.traj", old(exit_status=outcome))))[0].status == status


def test_a_run_that_has_not_ended(tmp_path: Path):
    """A file that was written during the run has totals so far and no end."""
    session = one(NAME, write(tmp_path / "r.traj", old(exit_status=None)))
    assert not of(End, session)
    assert totals([session])["prompt_tokens"] == 200


def test_history_alone(tmp_path: Path):
    """A file cut down to its history still has steps, calls and outcomes; nothing says how it ended."""
    session = one(NAME, write(tmp_path / "d.traj", {"history": new()["history"]}))
    check([session])
    assert [a.result for a in of(Action, session)] == ["OBS: a", None]
    assert len(of(LLMCall, session)) == 2
    assert not of(End, session)


def test_attempts_are_trajectories_of_one_group(tmp_path: Path):
    """The file's own trajectory is the attempt that was chosen: it is not imported twice."""
    first, second = new(), new()
    second["trajectory"][0]["observation"] = "b"
    value = {**second, "attempts": [first, second]}
    value["info"] = {**second["info"], "best_attempt_idx": 1}
    sessions = read(NAME, write(tmp_path / "e.traj", value))
    check(sessions)
    assert [of(Action, s)[0].result for s in sessions] == ["b", "a"]
    assert {of(Start, s)[0].group for s in sessions} == {"repo-1"}
    assert len({s.id for s in sessions}) == 2


def test_grown_file_keeps_its_ids(tmp_path: Path):
    short = ids([one(NAME, write(tmp_path / "f.traj", old(2, exit_status=None)))])
    long = ids([one(NAME, write(tmp_path / "f.traj", old(5)))])
    assert long[: len(short)] == short


def test_told_apart(tmp_path: Path):
    assert recognised(write(tmp_path / "a.traj", old())) == [NAME]
    assert recognised(write(tmp_path / "b.json", new())) == [NAME]
    assert recognised(write(tmp_path / "c.traj", {"history": old()["history"]})) == [NAME]
    assert recognised(write(tmp_path / "d.json", {"text": json.dumps(old())})) == []


@pytest.mark.parametrize("value", ["", "nothing", "[]", "{}", '{"trajectory": [], "history": [1]}', "[" * 5000])
def test_nothing_usable_is_said(tmp_path: Path, value: str):
    with pytest.raises(InvalidInput):
        read(NAME, write(tmp_path / "x.traj", value))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.one_of(damaged(old()), damaged(new()), damaged({"history": new()["history"]}), damaged({"attempts": [new()]})))
def test_hostile_content(tmp_path: Path, value: Any):
    survives(NAME, write(tmp_path / "x.traj", json.dumps(value)))


def test_long_sessions_read_in_linear_time(tmp_path: Path):
    """Ten times as many turns take about ten times the processor time."""
    spent = []
    for turns in (300, 3000):
        reading = partial(one, NAME, write(tmp_path / f"{turns}.traj", old(turns)))
        session, cost = costs(reading, rounds=2, enough=40 * spent[0] if spent else 0.0)
        assert len(of(LLMCall, session)) == turns
        spent.append(cost)
    assert spent[1] < 40 * spent[0]


def test_samples_agree_with_independent_counts(samples: Path):
    """Where they do not, the counts have another reason: a history alone has steps; repeated queries are only counted."""
    other = {
        "d3c7b146__function_calling_simple.traj": {"steps": (5, 0), "tool_calls": (5, 0)},
        "3f6e5297__pytest-dev__pytest-11148.traj": {"llm_calls": (19, 32)},
    }
    for path, known in facts(samples, "sweagent-traj"):
        assert recognised(path) == [NAME]
        assert differences(NAME, path, known) == other.get(path.name, {}), path.name
