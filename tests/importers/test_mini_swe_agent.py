"""Importing mini-swe-agent's `.traj.json` files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odograph.errors import InvalidInput
from odograph.types import Action, End, LLMCall, Note, Start, StepStart
from tests.cost import costs
from tests.importers.scaffold import check, damaged, differences, facts, ids, of, one, read, recognised, survives, write

NAME = "mini-swe-agent"


def calls_file(steps: int = 2, **info: Any) -> dict[str, Any]:
    """Format 1.1: tool calls, whole responses, outcomes in `extra`."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You can use bash."}, {"role": "user", "content": "Fix it."}]
    for n in range(steps):
        asked = {"id": f"c{n}", "type": "function", "function": {"name": "bash", "arguments": json.dumps({"command": f"ls {n}"})}}
        reply = {"role": "assistant", "content": "I look.", "tool_calls": [asked], "reasoning_content": "hm"}
        body = {
            "id": f"r{n}",
            "model": "m-1",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": reply}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2},
        }
        extra = {
            "actions": [{"command": f"ls {n}", "tool_call_id": f"c{n}"}],
            "response": body,
            "cost": 0.5,
            "timestamp": 1.7e9 + n,
        }
        messages.append({**reply, "extra": extra})
        outcome = {"raw_output": f"file {n}", "returncode": n % 2, "timestamp": 1.7e9 + n, "exception_info": ""}
        messages.append({"role": "tool", "content": f"<output>file {n}</output>", "tool_call_id": f"c{n}", "extra": outcome})
    return {
        "info": {
            "model_stats": {"instance_cost": 1.0, "api_calls": steps},
            "config": {"agent": {"step_limit": 9}, "model": {"model_name": "p/m"}},
            "mini_version": "2.2.7",
            "exit_status": "Submitted",
            "submission": "diff",
            **info,
        },
        "messages": [*messages, {"role": "exit", "content": "diff", "extra": {"exit_status": "Submitted", "submission": "diff"}}],
        "trajectory_format": "mini-swe-agent-1.1",
        "instance_id": "repo-1",
    }


def text_file() -> dict[str, Any]:
    """Commands in the text of the answer, found by the tool and put into `extra.actions`."""
    whole = calls_file(0)
    words = "Look.\n```mswea_bash_command\nls\n```"
    whole["messages"][2:] = [
        {"role": "assistant", "content": words, "extra": {"actions": [{"command": "ls"}], "response": {}, "timestamp": 1.7e9}},
        {"role": "user", "content": "<output>a</output>", "extra": {"raw_output": "a", "returncode": 0}},
        {"role": "assistant", "content": "no command", "extra": {}},
        {"role": "user", "content": "One command, please.", "extra": {"interrupt_type": "FormatError"}},
    ]
    return whole


def responses_file() -> dict[str, Any]:
    """A model of the Responses API: whole response objects in the list of messages."""
    whole = calls_file(0)
    call = {"type": "function_call", "call_id": "c0", "name": "bash", "arguments": '{"command": "ls"}'}
    whole["messages"][2:] = [
        {
            "object": "response",
            "model": "m-2",
            "output": [{"type": "reasoning", "summary": []}, call],
            "usage": {"input_tokens": 7, "output_tokens": 3},
            "extra": {"actions": [{"command": "ls", "tool_call_id": "c0"}], "cost": 0.1, "timestamp": 1.7e9},
        },
        {"type": "function_call_output", "call_id": "c0", "output": "seen", "extra": {"raw_output": "a", "returncode": 0}},
        {
            "object": "response",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "Done."}]}],
            "extra": {},
        },
    ]
    return whole


def test_tool_calls(tmp_path: Path):
    session = one(NAME, write(tmp_path / "a.traj.json", calls_file()))
    check([session])
    start, end, calls, actions = of(Start, session)[0], of(End, session)[0], of(LLMCall, session), of(Action, session)
    assert (start.task, start.model, start.agent_version) == ("Fix it.", "p/m", "2.2.7")
    assert start.metadata["source"]["config"]["agent"] == {"step_limit": 9}
    assert (end.status, end.answer, end.metrics["cost"], end.metrics["llm_calls"]) == ("completed", "diff", 1.0, 2)
    assert [(c.model, c.prompt_tokens, c.completion_tokens, c.cost) for c in calls] == [("m-1", 10, 2, 0.5)] * 2
    assert calls[0].response["id"] == "r0"
    assert [m["role"] for m in calls[1].request["messages"]] == ["system", "user", "assistant", "tool"]
    assert "extra" not in calls[1].request["messages"][2]
    assert [(a.arguments, a.result, a.ok) for a in actions] == [
        ({"command": "ls 0"}, "file 0", True),
        ({"command": "ls 1"}, "file 1", False),
    ]
    assert calls[0].source_time == 1_700_000_000_000_000_000
    assert [s.observation for s in of(StepStart, session)] == ["Fix it.", None]


def test_commands_in_text(tmp_path: Path):
    session = one(NAME, write(tmp_path / "b.traj.json", text_file()))
    check([session])
    (action,) = of(Action, session)
    assert (action.name, action.arguments, action.result, action.ok) == ("bash", {"command": "ls"}, "a", True)
    assert [n.data["content"] for n in of(Note, session)] == ["One command, please."]
    assert len(of(StepStart, session)) == len(of(LLMCall, session)) == 2


def test_responses_api(tmp_path: Path):
    session = one(NAME, write(tmp_path / "c.traj.json", responses_file()))
    check([session])
    calls = of(LLMCall, session)
    assert [c.dialect for c in calls] == ["openai.responses"] * 2
    assert (calls[0].prompt_tokens, calls[0].completion_tokens, calls[0].model) == (7, 3, "m-2")
    assert [m.get("type") for m in calls[1].request["input"]] == [
        None,
        None,
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert [(a.name, a.arguments, a.result) for a in of(Action, session)] == [("bash", {"command": "ls"}, "a")]


def test_a_refused_reply_is_a_call(tmp_path: Path):
    """A reply without a command stands only with the program's complaint: it is a call with its tokens, and no later prompt has it."""
    body = {
        "model": "m-1",
        "choices": [{"message": {"role": "assistant", "content": "Paris"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }
    whole = calls_file(1)
    complaint = {
        "role": "user",
        "content": "No command.",
        "extra": {"interrupt_type": "FormatError", "cost": 0.25, "response": body},
    }
    whole["messages"].insert(2, complaint)
    session = one(NAME, write(tmp_path / "a.traj.json", whole))
    refused, asked = of(LLMCall, session)
    assert (refused.response, refused.prompt_tokens, refused.cost) == (body, 9, 0.25)
    assert [m["content"] for m in asked.request["messages"]] == ["You can use bash.", "Fix it.", "No command."]
    assert [s.observation for s in of(StepStart, session)] == ["Fix it.", "No command."]
    assert "Paris" not in json.dumps([n.data for n in of(Note, session)])


def test_a_failed_call_is_a_call(tmp_path: Path):
    """The provider's error ended the run: the call was made, with the conversation so far, and has no answer."""
    value = calls_file(1, exit_status="InternalServerError", submission="", exception_str="500", traceback="...")
    value["info"]["model_stats"]["api_calls"] = 2
    value["messages"][-1] = {"role": "exit", "content": "500", "extra": {"exit_status": "InternalServerError"}}
    session = one(NAME, write(tmp_path / "d.traj.json", value))
    failed = of(LLMCall, session)[-1]
    assert (failed.response, failed.error, len(failed.request["messages"])) == (None, "500", 4)
    end = of(End, session)[0]
    assert (end.status, end.error, end.answer) == ("failed", "500", None)


def test_bare_list(tmp_path: Path):
    """The oldest files: a conversation. What it says of commands is text, and nothing says how it ended."""
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "Fix."},
        {"role": "assistant", "content": "```bash\nls\n```"},
    ]
    session = one(NAME, write(tmp_path / "e.traj.json", messages))
    check([session])
    assert len(of(LLMCall, session)) == 1
    assert not of(Action, session)
    assert not of(End, session)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("Submitted", "completed"),
        ("LimitsExceeded", "truncated"),
        ("Timeout", "timeout"),
        ("UserInterruption", "cancelled"),
    ],
)
def test_outcomes(tmp_path: Path, outcome: str, status: str):
    value = calls_file(1, exit_status=outcome)
    del value["messages"][-1]
    assert of(End, one(NAME, write(tmp_path / "o.traj.json", value)))[0].status == status


def test_a_run_that_has_not_ended(tmp_path: Path):
    """A file that was written during the run has totals so far and no end."""
    value = calls_file(1, exit_status=None)
    del value["messages"][-1]
    session = one(NAME, write(tmp_path / "r.traj.json", value))
    assert not of(End, session)
    assert of(Start, session)[0].metadata["source"]["totals"]["cost"] == 1.0


def test_grown_file_keeps_its_ids(tmp_path: Path):
    short = ids([one(NAME, write(tmp_path / "f.traj.json", calls_file(2)))])
    long = ids([one(NAME, write(tmp_path / "f.traj.json", calls_file(4)))])
    assert long[: len(short) - 1] == short[:-1]


def test_told_apart(tmp_path: Path):
    for value in (calls_file(), text_file(), responses_file(), calls_file()["messages"]):
        assert recognised(write(tmp_path / "a.traj.json", value)) == [NAME]
    assert recognised(write(tmp_path / "b.json", calls_file())) == [NAME]
    assert recognised(write(tmp_path / "c.json", {"formats": ["mini-swe-agent"]})) == []
    assert recognised(write(tmp_path / "d.json", calls_file()["messages"])) == []


@pytest.mark.parametrize("value", ["", "nothing", "[]", "{}", '{"messages": [1, null]}', "3"])
def test_nothing_usable_is_said(tmp_path: Path, value: str):
    with pytest.raises(InvalidInput):
        read(NAME, write(tmp_path / "x.traj.json", value))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.one_of(damaged(calls_file()), damaged(text_file()), damaged(responses_file()), damaged(calls_file()["messages"])))
def test_hostile_content(tmp_path: Path, value: Any):
    survives(NAME, write(tmp_path / "x.traj.json", json.dumps(value)))


def test_long_sessions_read_in_linear_time(tmp_path: Path):
    """Ten times as many turns take about ten times the processor time."""
    spent = []
    for turns in (300, 3000):
        reading = partial(one, NAME, write(tmp_path / f"{turns}.traj.json", calls_file(turns)))
        session, cost = costs(reading, rounds=2, enough=40 * spent[0] if spent else 0.0)
        assert len(of(Action, session)) == turns
        spent.append(cost)
    assert spent[1] < 40 * spent[0]


def test_samples_agree_with_independent_counts(samples: Path):
    for path, known in facts(samples, "mini-swe-agent"):
        assert recognised(path) == [NAME]
        assert differences(NAME, path, known) == {}, path.name
