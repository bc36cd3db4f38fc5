"""Importing OpenHands' sessions: V0 and V1, event lists, folders and evaluation outputs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odograph.errors import InvalidInput
from odograph.types import Action, Context, End, LLMCall, Note, Reward, Start, StepStart
from tests.cost import costs
from tests.importers.scaffold import check, damaged, differences, facts, ids, of, one, read, recognised, survives, totals, write

NAME = "openhands"


def v0(actions: int = 2, *, finish: bool = True) -> list[dict[str, Any]]:
    """Events of version 0 with native tool calls."""
    tools = [{"type": "function", "function": {"name": "execute_bash", "parameters": {}}}]
    clock = iter(f"2025-07-12T00:00:{n // 1000 % 60:02}.{n % 1000:03}000" for n in range(10**6))

    def event(id: int, source: str, **more: Any) -> dict[str, Any]:
        return {"id": id, "timestamp": next(clock), "source": source, "message": "", **more}

    def about(n: int, name: str) -> dict[str, Any]:
        asked = {"id": f"t{n}", "type": "function", "function": {"name": name, "arguments": json.dumps({"command": f"ls {n}"})}}
        body = {
            "id": f"r{n}",
            "model": "m-1",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "content": "ok", "tool_calls": [asked]},
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2},
        }
        return {"function_name": name, "tool_call_id": f"t{n}", "model_response": body, "total_calls_in_response": 1}

    events = [
        event(0, "agent", action="system", args={"content": "You are.", "tools": tools, "openhands_version": "0.48.0"}),
        event(1, "user", action="message", args={"content": "Fix it.", "wait_for_response": False}),
        event(2, "user", action="recall", args={"recall_type": "workspace_context", "query": "Fix it."}),
        event(
            3,
            "environment",
            cause=2,
            observation="recall",
            content="",
            extras={"recall_type": "workspace_context", "date": "2025"},
        ),
    ]
    for n in range(actions):
        id = len(events)
        given = {"command": f"ls {n}", "thought": "ok"}
        events.append(event(id, "agent", action="run", args=given, tool_call_metadata=about(n, "execute_bash")))
        extras = {"command": f"ls {n}", "metadata": {"exit_code": n % 2}}
        meta = {"tool_call_metadata": about(n, "execute_bash")}
        events.append(event(id + 1, "agent", cause=id, observation="run", content=f"file {n}", extras=extras, **meta))
    if finish:
        given = {"final_thought": "All fixed.", "outputs": {}, "thought": ""}
        used = {"accumulated_cost": 0.5, "accumulated_token_usage": {"prompt_tokens": 30, "completion_tokens": 6}}
        id = len(events)
        events.append(
            event(id, "agent", action="finish", args=given, tool_call_metadata=about(actions, "finish"), llm_metrics=used)
        )
    return events


def v0_line(history: list[Any], **more: Any) -> dict[str, Any]:
    metadata = {"agent_class": "CodeActAgent", "llm_config": {"model": "p/m"}}
    return {"instance_id": "repo-1", "instruction": "Fix it.", "metadata": metadata, "history": history, "error": None, **more}


def pairs() -> list[Any]:
    """Histories of spring 2024."""
    nothing = {"message": "No observation", "observation": "null", "content": "", "extras": {}}
    code = {"id": 3, "source": "agent", "action": "run_ipython", "args": {"code": "1+1", "thought": "Count."}}
    seen = {"id": 4, "source": "agent", "cause": 3, "observation": "run_ipython", "content": "2", "extras": {"code": "1+1"}}
    return [
        [{"id": 0, "source": "user", "action": "message", "args": {"content": "Count."}}, nothing],
        [code, seen],
        [{"id": 5, "source": "agent", "action": "message", "args": {"content": "It is 2."}}, nothing],
        [{"id": 7, "source": "agent", "action": "finish", "args": {"outputs": {}, "thought": ""}, "message": "Done"}, nothing],
    ]


def bare() -> list[Any]:
    """Histories of the 2024 issue resolver: events that do not say who acted."""
    return [
        {"content": "Fix it.", "action": "message", "wait_for_response": False},
        {"command": "ls", "thought": "Look.", "action": "run"},
        {"content": "a", "command_id": -1, "command": "ls", "exit_code": 0, "observation": "run"},
        {"outputs": {}, "thought": "Fixed.", "action": "finish"},
    ]


def v1(actions: int = 2, *, user: bool = True, finish: bool = False) -> list[dict[str, Any]]:
    def event(kind: str, source: str, **more: Any) -> dict[str, Any]:
        return {
            "kind": kind,
            "id": f"e{len(events)}",
            "timestamp": f"2025-09-26T01:18:{len(events) % 60:02}",
            "source": source,
            **more,
        }

    events: list[dict[str, Any]] = []
    if user:
        prompt = {"type": "text", "text": "You are.", "cache_prompt": False}
        events.append(
            event("SystemPromptEvent", "agent", system_prompt=prompt, tools=[{"type": "function", "function": {"name": "bash"}}])
        )
        message = {"role": "user", "content": [{"type": "text", "text": "Fix it."}], "cache_enabled": False}
        events.append(event("MessageEvent", "user", llm_message=message, activated_skills=[]))
    for n in range(actions):
        events.append(
            event(
                "ActionEvent",
                "agent",
                thought=[{"type": "text", "text": f"Look {n}."}],
                reasoning_content="hm",
                action={"kind": "ExecuteBashAction", "command": f"ls {n}", "timeout": None},
                tool_name="bash",
                tool_call_id=f"t{n}",
                tool_call={
                    "id": f"t{n}",
                    "name": "bash",
                    "arguments": json.dumps({"command": f"ls {n}"}),
                    "origin": "completion",
                },
                llm_response_id=f"r{n}",
                security_risk="LOW",
            )
        )
        seen = {"kind": "ExecuteBashObservation", "output": f"file {n}", "error": False, "metadata": {"exit_code": n % 2}}
        events.append(
            event(
                "ObservationEvent",
                "environment",
                tool_name="bash",
                tool_call_id=f"t{n}",
                observation=seen,
                action_id=events[-1]["id"],
            )
        )
    if finish:
        events.append(
            event(
                "ActionEvent",
                "agent",
                thought=[],
                action={"kind": "FinishAction", "message": "All fixed."},
                tool_name="finish",
                tool_call_id="tf",
                tool_call={
                    "id": "tf",
                    "type": "function",
                    "function": {"name": "finish", "arguments": '{"message": "All fixed."}'},
                },
                llm_response_id="rf",
            )
        )
    return events


def v1_folder(where: Path, events: list[Any], **state: Any) -> Path:
    for n, event in enumerate(events):
        write(where / "event_service" / "events" / f"event-{n:05}-{n}.json", event)
    base = {
        "id": "conversation",
        "agent": {"kind": "Agent", "llm": {"model": "p/m"}},
        "agent_status": "idle",
        "stats": {},
        **state,
    }
    write(where / "event_service" / "base_state.json", base)
    return where


def test_v0_events(tmp_path: Path):
    session = one(NAME, write(tmp_path / "a.json", v0()))
    check([session])
    start, end, calls, actions = of(Start, session)[0], of(End, session)[0], of(LLMCall, session), of(Action, session)
    assert (start.task, start.agent_version) == ("Fix it.", "0.48.0")
    assert [s.observation for s in of(StepStart, session)] == ["Fix it.", None, None]
    assert [m["role"] for m in calls[1].request["messages"]] == ["system", "user", "assistant", "tool"]
    assert calls[1].request["messages"][3] == {"role": "tool", "tool_call_id": "t0", "content": "file 0"}
    assert calls[0].request["tools"][0]["function"]["name"] == "execute_bash"
    assert (calls[0].response["id"], calls[0].model, calls[0].prompt_tokens, calls[0].finish_reason) == (
        "r0",
        "m-1",
        10,
        "tool_calls",
    )
    assert [(a.name, a.arguments, a.result, a.ok) for a in actions[:2]] == [
        ("execute_bash", {"command": "ls 0"}, "file 0", True),
        ("execute_bash", {"command": "ls 1"}, "file 1", False),
    ]
    assert actions[0].duration == 1_000_000
    (read_before,) = of(Context, session)
    assert (read_before.provider, read_before.purpose, read_before.data["date"]) == ("recall", "workspace_context", "2025")
    assert (end.status, end.answer, end.metrics["cost"]) == ("completed", "All fixed.", 0.5)


def test_v0_parallel_calls_of_one_reply_are_one_call(tmp_path: Path):
    events = v0(2, finish=False)
    reply = events[4]["tool_call_metadata"]["model_response"]
    both = [events[4]["tool_call_metadata"], events[6]["tool_call_metadata"]]
    reply["choices"][0]["message"]["tool_calls"] += both[1]["model_response"]["choices"][0]["message"]["tool_calls"]
    both[1]["model_response"] = reply
    session = one(NAME, write(tmp_path / "a.json", events))
    (call,) = of(LLMCall, session)
    assert [(a.arguments, a.llm_call) for a in of(Action, session)] == [
        ({"command": "ls 0"}, call.id),
        ({"command": "ls 1"}, call.id),
    ]
    assert len(of(StepStart, session)) == 2
    assert not of(End, session)  # nothing says that it ended


def test_v0_message_of_the_agent_is_a_reply(tmp_path: Path):
    events = v0(1, finish=False)
    events.append({"id": 9, "source": "agent", "action": "message", "args": {"content": "What now?"}, "llm_metrics": {}})
    session = one(NAME, write(tmp_path / "a.json", events))
    last = of(LLMCall, session)[-1]
    assert last.response == {"role": "assistant", "content": "What now?"}
    assert len(last.request["messages"]) == 4
    assert len(of(Action, session)) == 1


def test_v0_condensation_forgets_what_it_summarised(tmp_path: Path):
    events = v0(2)
    events.insert(
        6, {"id": 90, "source": "agent", "action": "condensation", "args": {"forgotten_event_ids": [4, 5], "summary": "Looked."}}
    )
    session = one(NAME, write(tmp_path / "a.json", events))
    check([session])
    contents = [m["content"] for m in of(LLMCall, session)[1].request["messages"]]
    assert contents == ["You are.", "Fix it.", "Looked."]


def test_v0_output(tmp_path: Path):
    """A line is a trajectory; several may be of one task; its scores are rewards."""
    usage = {
        "token_usages": [{"response_id": "r0", "prompt_tokens": 5}],
        "response_latencies": [{"response_id": "r0", "latency": 0.5}],
    }
    first = v0_line(v0(), test_result={"git_patch": "", "report": {"resolved": True}}, metrics=usage)
    cut = v0_line(v0(finish=False), error="AgentStuckInLoopError")
    sessions = read(
        NAME, write(tmp_path / "output.jsonl", "\n".join(map(json.dumps, [first, first, cut])) + '\n{"history": [tor')
    )
    check(sessions)
    assert len({s.id for s in sessions}) == 3
    assert [(r.name, r.value) for r in of(Reward, sessions[0])] == [("resolved", 1.0)]
    assert of(Note, sessions[0])[-1].data == first["test_result"]
    assert of(LLMCall, sessions[0])[0].duration == 500_000_000
    assert of(Start, sessions[0])[0].model == "p/m"
    ends = [of(End, s)[0] for s in sessions]
    assert [(e.status, e.error) for e in ends] == [("completed", None), ("completed", None), ("failed", "AgentStuckInLoopError")]
    assert isinstance(sessions[0].records[-1], End)


def test_a_torn_line_is_reported(tmp_path: Path):
    path = write(tmp_path / "output.jsonl", '{"history": [tor\n' + json.dumps(v0_line(v0())) + "\n")
    assert one(NAME, path).warnings == {"damaged line at byte 0": 1}


def test_v0_pairs(tmp_path: Path):
    """A pair is a step. What the model said verbatim is not there, so no prompt is made up from what is."""
    session = one(NAME, write(tmp_path / "output.jsonl", json.dumps(v0_line(pairs(), test_result={"result": False}))))
    check([session])
    assert len(of(StepStart, session)) == 4
    run = of(Action, session)[0]
    assert (run.name, run.arguments["code"], run.result) == ("run_ipython", "1+1", "2")
    (call,) = of(LLMCall, session)
    assert (call.request, call.response["content"]) == (None, "It is 2.")
    assert [(r.name, r.value) for r in of(Reward, session)] == [("result", 0.0)]


def test_v0_events_without_a_source(tmp_path: Path):
    line = v0_line(bare(), success=True, result_explanation="It is there.", metrics={"accumulated_cost": 0.25})
    session = one(NAME, write(tmp_path / "output.jsonl", json.dumps(line)))
    check([session])
    assert of(Start, session)[0].task == "Fix it."
    run = of(Action, session)[0]
    assert (run.name, run.arguments, run.result, run.ok) == ("run", {"command": "ls", "thought": "Look."}, "a", True)
    assert len(of(StepStart, session)) == 2
    (reward,) = of(Reward, session)
    assert (reward.name, reward.value, reward.source, reward.rationale) == ("success", 1.0, "judge", "It is there.")
    assert of(End, session)[0].metrics["cost"] == 0.25


@pytest.mark.parametrize(("model", "sent"), [("p/m", False), ("moonshot/kimi-k2-thinking", True)])
def test_v1_sends_thoughts_to_some_models_alone(tmp_path: Path, model: str, sent: bool):
    path = v1_folder(tmp_path / "c", v1(), agent={"kind": "Agent", "llm": {"model": model}})
    assert ("reasoning_content" in of(LLMCall, one(NAME, path))[1].request["messages"][2]) is sent


def test_v1_folder(tmp_path: Path):
    path = v1_folder(tmp_path / "c", v1())
    session = one(NAME, path)
    check([session])
    assert recognised(path) == recognised(path / "event_service") == [NAME]
    start, calls, actions = of(Start, session)[0], of(LLMCall, session), of(Action, session)
    assert (start.task, start.model, start.metadata["source"]["session"]) == ("Fix it.", "p/m", "conversation")
    assert [m["role"] for m in calls[1].request["messages"]] == ["system", "user", "assistant", "tool"]
    assert calls[1].request["messages"][2] == {k: v for k, v in calls[0].response.items() if k != "reasoning_content"}
    function = {"name": "bash", "arguments": '{"command": "ls 0"}'}
    assert calls[0].response["tool_calls"] == [{"id": "t0", "type": "function", "function": function}]
    assert calls[0].reasoning == "hm"
    assert [(a.name, a.arguments, a.result, a.ok) for a in actions] == [
        ("bash", {"command": "ls 0"}, "file 0", True),
        ("bash", {"command": "ls 1"}, "file 1", False),
    ]
    assert actions[0].extra == {
        "action": {"kind": "ExecuteBashAction"},
        "security_risk": "LOW",
        "observation": {"kind": "ExecuteBashObservation", "error": False, "metadata": {"exit_code": 0}},
    }
    assert not of(End, session)  # an idle conversation may go on


def test_v1_parallel_calls_are_one_message(tmp_path: Path):
    events = v1(2)
    events[4]["llm_response_id"] = "r0"
    events[4]["thought"] = []
    session = one(NAME, v1_folder(tmp_path / "c", [*events[:3], events[4], events[3], events[5]]))
    check([session])
    (call,) = of(LLMCall, session)
    assert [c["id"] for c in call.response["tool_calls"]] == ["t0", "t1"]
    assert [a.result for a in of(Action, session)] == ["file 0", "file 1"]
    assert len(of(StepStart, session)) == 2


def test_v1_totals_and_end(tmp_path: Path):
    """Totals are the agent's own: the condenser's are apart. Usage per response is each call's."""
    used = {"accumulated_token_usage": {"prompt_tokens": 50, "completion_tokens": 5}, "accumulated_cost": 0.5}
    used["token_usages"] = [{"response_id": "r0", "prompt_tokens": 20, "completion_tokens": 2}]
    stats = {"service_to_metrics": {"default": used, "condenser": {"accumulated_token_usage": {"prompt_tokens": 7}}}}
    path = v1_folder(tmp_path / "c", v1(finish=True), stats=stats, agent_status="finished")
    session = one(NAME, path)
    assert (totals([session])["prompt_tokens"], totals([session])["completion_tokens"]) == (50, 5)
    assert of(LLMCall, session)[0].prompt_tokens == 20
    end = of(End, session)[0]
    assert (end.status, end.answer, end.metrics["cost"]) == ("completed", "All fixed.", 0.5)


def test_v1_totals_of_a_conversation_that_may_go_on(tmp_path: Path):
    """It has no end yet, and its totals are listed all the same."""
    stats = {"usage_to_metrics": {"agent": {"accumulated_token_usage": {"prompt_tokens": 50}}}}
    session = one(NAME, v1_folder(tmp_path / "c", v1(), stats=stats))
    assert not of(End, session)
    assert of(Start, session)[0].metadata["source"]["totals"]["prompt_tokens"] == 50


def test_v1_other_events(tmp_path: Path):
    """Errors, rejections, condensations and token ids each find their place."""
    events = v1(3)
    at = "2025-09-26T01:19:00"
    events[3] = {
        "kind": "AgentErrorEvent",
        "id": "x",
        "timestamp": at,
        "source": "agent",
        "tool_call_id": "t0",
        "error": "no such tool",
    }
    events[5] = {
        "kind": "UserRejectObservation",
        "id": "y",
        "timestamp": at,
        "action_id": "e4",
        "tool_call_id": "t1",
        "rejection_reason": "no",
    }
    events.insert(4, {"kind": "TokenEvent", "id": "z", "timestamp": at, "prompt_token_ids": [1, 2], "response_token_ids": [3]})
    gone = {"forgotten_event_ids": ["e2", "x"], "summary": "Looked.", "llm_response_id": "rc"}
    events.insert(7, {"kind": "Condensation", "id": "w", "timestamp": at, "source": "environment", **gone})
    session = one(NAME, v1_folder(tmp_path / "c", events))
    check([session])
    calls = of(LLMCall, session)
    assert (calls[0].prompt_token_ids, calls[0].tokens[0].token_ids) == ([1, 2], [3])
    assert [(a.result, a.ok, a.error) for a in of(Action, session)][:2] == [
        ("no such tool", False, "no such tool"),
        ("no", False, "no"),
    ]
    assert [m["role"] for m in calls[2].request["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert calls[2].request["messages"][-1]["content"] == "Looked."
    assert [n.name for n in of(Note, session)] == ["Condensation"]


def test_v1_output(tmp_path: Path):
    """The task's own message is not among the events there: it is the line's instruction."""
    line = {
        "instance_id": "i1",
        "test_result": {"final_score": {"total": 2, "result": 1}},
        "instruction": "Do it.",
        "metadata": {"llm": {"model": "p/m"}},
        "history": v1(user=False, finish=True),
        "metrics": {"accumulated_token_usage": {"prompt_tokens": 9, "completion_tokens": 1}},
    }
    sessions = read(NAME, write(tmp_path / "output.jsonl", json.dumps(line)))
    check(sessions)
    assert of(Start, sessions[0])[0].task == "Do it."
    assert of(LLMCall, sessions[0])[0].request["messages"] == [{"role": "user", "content": "Do it."}]
    (reward,) = of(Reward, sessions[0])
    assert (reward.name, reward.value, reward.extra) == ("final_score", 1.0, {"total": 2, "result": 1})
    assert totals(sessions)["prompt_tokens"] == 9


def test_grown_sessions_keep_their_ids(tmp_path: Path):
    short = ids([one(NAME, write(tmp_path / "a.json", v0(2, finish=False)))])
    assert ids([one(NAME, write(tmp_path / "a.json", v0(5)))])[: len(short)] == short
    short = ids([one(NAME, v1_folder(tmp_path / "c", v1(2)))])
    assert ids([one(NAME, v1_folder(tmp_path / "c", v1(5)))])[: len(short)] == short


def test_lines_may_change_their_place(tmp_path: Path):
    """Lines are written as tasks end and may be sorted later."""
    a, b = v0_line(v0()), v0_line(v0(), instance_id="repo-2")
    path = tmp_path / "output.jsonl"
    before = {s.id for s in read(NAME, write(path, f"{json.dumps(a)}\n{json.dumps(b)}\n"))}
    assert {s.id for s in read(NAME, write(path, f"{json.dumps(b)}\n{json.dumps(a)}\n"))} == before


def test_told_apart(tmp_path: Path):
    lists = [v0(), v1(), {"trajectory": v0()}, v0_line(v0()), v0_line(pairs()), v0_line(bare()), v0_line(v1()), v0_line([])]
    for value in lists:
        path = write(tmp_path / "a.json", value)
        assert recognised(path) == [NAME], value
        check(read(NAME, path)) if value != v0_line([]) else None
    assert recognised(write(tmp_path / "b.json", v0_line([], instance={"text": "x" * 70_000}))) == [NAME]
    assert recognised(write(tmp_path / "c.jsonl", json.dumps({"type": "x", "source": "y", "message": "z"}))) == []
    (tmp_path / "d" / "events").mkdir(parents=True)
    assert recognised(tmp_path / "d") == []


@pytest.mark.parametrize("value", ["", "nothing", "[]", "{}", "[1]", '{"history": 3', "[" * 5000])
def test_nothing_usable_is_said(tmp_path: Path, value: str):
    with pytest.raises(InvalidInput):
        read(NAME, write(tmp_path / "x.json", value))


def test_an_empty_history_is_still_a_session(tmp_path: Path):
    session = one(NAME, write(tmp_path / "output.jsonl", json.dumps(v0_line([], error="no container"))))
    assert (of(Start, session)[0].task, of(End, session)[0].status) == ("Fix it.", "failed")


HOSTILE = st.one_of(
    damaged(v0()),
    damaged(v1(finish=True)),
    damaged(v0_line(v0(), metrics={"token_usages": [{"response_id": "r0"}]}, test_result={"report": {"resolved": True}})),
    damaged(v0_line(pairs())),
    damaged(v0_line(bare(), success=True)),
    damaged(v0_line(v1(), test_result={"final_score": {"result": 1}})),
)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=HOSTILE)
def test_hostile_content(tmp_path: Path, value: Any):
    survives(NAME, write(tmp_path / "x.json", json.dumps(value)))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    events=damaged(v1(finish=True)),
    state=damaged({"agent": {"llm": {"model": "m"}}, "stats": {"service_to_metrics": {"default": {}}}}),
)
def test_hostile_folders(tmp_path: Path, events: Any, state: Any):
    events = events if isinstance(events, list) else [events]
    for n in range(12):
        write(tmp_path / "events" / f"event-{n:05}-x.json", json.dumps(events[n] if n < len(events) else None))
    write(tmp_path / "base_state.json", json.dumps(state))
    survives(NAME, tmp_path)


@pytest.mark.parametrize("make", [v0, v1])
def test_long_sessions_read_in_linear_time(tmp_path: Path, make: Any):
    """Ten times as many turns take about ten times the processor time."""
    spent = []
    for turns in (300, 3000):
        reading = partial(one, NAME, write(tmp_path / f"{turns}.json", make(turns)))
        session, cost = costs(reading, rounds=2, enough=40 * spent[0] if spent else 0.0)
        assert len(of(Action, session)) >= turns
        spent.append(cost)
    assert spent[1] < 40 * spent[0]


def test_samples_agree_with_independent_counts(samples: Path):
    """Where they do not: actions of 2024 had no tool call ids; a text reply is a reply too (the accumulated usage grew by it)."""
    other = {
        "3a47e017__output.jsonl": {"tool_calls": (26, 0)},
        "290ce17a__cdfc015e-728e-4f30-a5c2-b5770cea54fb-ea0f6b0ac8a72bbe.json": {"llm_calls": (12, 11)},
    }
    for folder in ("openhands-v0-traj", "openhands-v0-output", "openhands-v1-dir", "openhands-v1-output"):
        for path, known in facts(samples, folder):
            assert recognised(path) == [NAME]
            assert differences(NAME, path, known) == other.get(path.name, {}), path.name


def test_other_formats_are_left_alone(samples: Path):
    """None of these importers takes another format's file, nor one that only mentions it."""
    own = ("openhands", "sweagent", "mini-swe", "tau")
    others = [p for p in sorted(samples.glob("**/*")) if not any(part.startswith(own) for part in p.relative_to(samples).parts)]
    assert len(others) > 60
    for path in [samples, *others]:
        assert recognised(path) == [], path


def test_what_the_model_of_v1_was_sent(tmp_path: Path):
    """The program writes around an output how it went, and a refusal in its own words; an event below an earlier one begins another
    branch, and one below the root a conversation anew."""

    def said(id: str, content: str, source: str = "user", **more: Any) -> dict[str, Any]:
        role = "user" if source == "user" else "assistant"
        message = {"role": role, "content": [{"type": "text", "text": content}]}
        return {"kind": "MessageEvent", "id": id, "source": source, "llm_message": message, **more}

    def acted(n: int) -> dict[str, Any]:
        call = {"id": f"t{n}", "name": "terminal", "arguments": "{}", "origin": "completion"}
        return {"kind": "ActionEvent", "id": f"a{n}", "source": "agent", "thought": [], "action": {"kind": "TerminalAction"}, "tool_name": "terminal", "tool_call_id": f"t{n}", "tool_call": call, "llm_response_id": f"r{n}"}  # fmt: skip

    about = {"exit_code": 3, "working_dir": "/w", "py_interpreter_path": None, "prefix": "", "suffix": "\n[It ended.]"}
    output = {
        "kind": "TerminalObservation",
        "content": [{"type": "text", "text": "out"}],
        "is_error": False,
        "exit_code": 3,
        "metadata": about,
    }
    wrong = {
        "kind": "FileEditorObservation",
        "content": [{"cache_prompt": False, "type": "text", "text": "no"}],
        "is_error": True,
    }
    ids = [{"tool_name": "terminal", "tool_call_id": f"t{n}", "action_id": f"a{n}", "source": "environment"} for n in range(3)]
    events = [
        {"kind": "SystemPromptEvent", "id": "s", "source": "agent", "system_prompt": {"type": "text", "text": "be brief"}, "tools": []},
        said("u1", "one"), acted(0), {"kind": "ObservationEvent", "id": "o0", "observation": output, **ids[0]},
        acted(1), {"kind": "ObservationEvent", "id": "o1", "observation": wrong, **ids[1]},
        acted(2), {"kind": "UserRejectObservation", "id": "o2", "rejection_reason": "not now", **ids[2]},
        said("m1", "done", "agent", llm_response_id="r3"),
        said("u2", "two", parent_id="o0"), said("m2", "branched", "agent", llm_response_id="r4"),
        said("u3", "anew", parent_id="__root__"), said("m3", "begun", "agent", llm_response_id="r5"),
    ]  # fmt: skip
    line = {"instance_id": "i", "instruction": "one", "history": events, "metadata": {"llm": {"model": "m"}}}
    session = one(NAME, write(tmp_path / "output.jsonl", json.dumps(line)))
    prompts = [[m["content"] for m in c.request["messages"]] for c in of(LLMCall, session)]
    sent = ["out\n[It ended.]\n[Current working directory: /w]\n[Command finished with exit code 3]", [{"type": "text", "text": "[An error occurred during execution.]\n"}, {"type": "text", "text": "no"}], "Action rejected: not now"]  # fmt: skip
    assert [prompts[3][n] for n in (3, 5, 7)] == sent
    assert [prompts[4][n] for n in (0, 3, 4)] == ["be brief", sent[0], [{"type": "text", "text": "two"}]]
    assert (len(prompts[4]), prompts[5]) == (5, [[{"type": "text", "text": "anew"}]])
