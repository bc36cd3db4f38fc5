"""What a file of a known format may hold beside what is common: answers in other fields, results without ids, ids of tokens
elsewhere, thoughts that are a cipher, last rows of another shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.types import Action, End, LLMCall, Note, Reward, Start

from .scaffold import of, read, write
from .test_openhands import v0, v0_line

ASKED = {"role": "user", "content": "q"}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def called(name: str, id: str | None = None) -> dict[str, Any]:
    return {**({"id": id} if id else {}), "type": "function", "function": {"name": name, "arguments": "{}"}}


def lines(folder: Path, *rows: Any) -> Path:
    return write(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


# --- chat rows


#: Rows whose answer stands beside the messages: (the row, model, prompt tokens, the answers).
BESIDE: dict[str, tuple[dict[str, Any], str | None, int | None, list[str]]] = {
    "choices": (
        {"messages": [ASKED], "choices": [{"index": n, "message": said(t), "finish_reason": "stop"} for n, t in enumerate("ab")], "model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
        "m", 5, ["a", "b"],
    ),
    "a body": ({"messages": [ASKED], "response": {"model": "m", "choices": [{"message": said("a"), "finish_reason": "stop"}]}}, "m", None, ["a"]),
    "a text": ({"messages": [ASKED], "model": "m", "response": "a"}, "m", None, ["a"]),
    "a message": ({"messages": [ASKED], "completion": said("a")}, None, None, ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_an_answer_beside_the_messages_is_the_models(tmp_path: Path, name: str) -> None:
    row, model, tokens, answers = BESIDE[name]
    (session,) = read("openai-chat", lines(tmp_path, row))
    (call,) = of(LLMCall, session)
    assert (call.model, call.prompt_tokens, list(call.request["messages"])) == (model, tokens, [ASKED])
    assert [c.text for c in odograph.dialects.answers(call)] == answers
    assert not of(Note, session)


def test_a_row_in_which_nobody_answered_is_warned_of(tmp_path: Path, store: odograph.Store) -> None:
    found = store.import_sessions(lines(tmp_path, {"messages": [ASKED]}, {"messages": [ASKED, said("a")]}))
    assert found.imported == 2
    assert [list(w)[2:] for w in found.warnings] == [["no call of a model or a tool was found in the file"]]


@pytest.mark.parametrize("name", ["a file of one talk", "a list of talks", "a talk a line"])
def test_lists_of_messages_are_talks(tmp_path: Path, store: odograph.Store, name: str) -> None:
    talks = [[ASKED, said("a")], [ASKED, said("b"), ASKED, said("c")]]
    text = {
        "a file of one talk": json.dumps(talks[1], indent=1),
        "a list of talks": json.dumps(talks),
        "a talk a line": "".join(json.dumps(talk) + "\n" for talk in talks),
    }[name]
    found = store.import_sessions(write(tmp_path / "talk.json", text))
    assert (found.failed, found.warnings) == ([], [])
    replies = sorted([c.choices[0].text for c in t.llm_calls] for t in store.trajectories())
    assert replies == ([["b", "c"]] if name == "a file of one talk" else [["a"], ["b", "c"]])


@pytest.mark.parametrize("indent", [None, 1])
def test_a_long_list_of_messages_is_a_talk(tmp_path: Path, store: odograph.Store, indent: int | None) -> None:
    """Longer than what a format is told by."""
    talk = [m for n in range(200) for m in (ASKED, said(f"{n} " + "x" * 600))]
    found = store.import_sessions(write(tmp_path / "talk.json", json.dumps(talk, indent=indent)))
    assert (found.failed, [len(t.llm_calls) for t in store.trajectories()]) == ([], [200])


def test_results_without_ids_go_to_the_calls_of_their_names(tmp_path: Path) -> None:
    """Tools that ran at once end in any order. A result may stand before its call, and a custom tool is given a text."""
    custom = {"id": "3", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    talk = [
        ASKED, said(None, tool_calls=[called("f"), called("g")]),
        {"role": "tool", "name": "g", "content": "of g"}, {"role": "tool", "name": "f", "content": "of f"},
        {"role": "tool", "tool_call_id": "2", "content": "early"}, said(None, tool_calls=[called("h", "2"), custom]),
        {"role": "tool", "tool_call_id": "3", "content": "a.txt"}, {"role": "tool", "tool_call_id": "9", "content": "of none"},
    ]  # fmt: skip
    (session,) = read("openai-chat", lines(tmp_path, {"messages": talk}))
    acted = [(a.name, a.arguments, a.result) for a in of(Action, session)]
    assert acted == [("f", {}, "of f"), ("g", {}, "of g"), ("h", {}, "early"), ("sh", "ls", "a.txt")]
    assert dict(session.warnings) == {"observations that answer no call": 1}


def test_a_last_row_of_another_shape_is_warned_of(tmp_path: Path) -> None:
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    sessions = read("preferences", lines(tmp_path, good, {**good, "rejected": ["c", "d"]}))
    assert [dict(s.warnings) for s in sessions] == [{"rows of another shape behind this one": 1}, {}]


def test_scores_of_another_programs_judge_may_have_any_scale(tmp_path: Path, store: odograph.Store) -> None:
    """UltraFeedback's are from 1 to 10: such a row is no error, and goes into exports."""
    store.import_sessions(
        lines(tmp_path, {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 8.5, "score_rejected": 3})
    )
    found = [f.code for t in store.trajectories() for f in odograph.validate(t, profile="rl").findings]
    assert "judge_range" not in found


# --- answers of APIs


def test_a_log_of_requests_has_the_calls_as_they_were(tmp_path: Path, store: odograph.Store) -> None:
    request = {"model": "m", "messages": [ASKED]}
    usage = {
        "prompt_tokens": 110,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 100},
        "cache_read_input_tokens": 100,
    }
    body = {"id": "c", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": said(None, tool_calls=[called("f", "1")]), "finish_reason": "tool_calls"}], "usage": usage}  # fmt: skip
    path = lines(tmp_path, {"request": request, "response": body})
    assert [t["format"] for t in store.import_sessions(path).trajectories] == ["batches"]
    (session,) = read("batches", path)
    (call,), (action,) = of(LLMCall, session), of(Action, session)
    assert (call.request, call.response, call.origin, call.prompt_tokens) == (request, body, "wire", 110)
    assert (action.name, action.arguments, action.tool_call_id, action.llm_call) == ("f", {}, "1", call.id)


# --- Inspect


def sample(**more: Any) -> dict[str, Any]:
    return {"id": 1, "epoch": 1, "input": "q", "target": "t", "messages": [ASKED, said("a")], "uuid": "s", **more}


def log(one: dict[str, Any]) -> str:
    about = {"run_id": "r", "task": "t", "model": "m"}
    return json.dumps({"version": 2, "status": "success", "eval": about, "plan": {}, "samples": [one]})


def inspected(folder: Path, **more: Any) -> Any:
    (session,) = read("inspect", write(folder / "log.json", log(sample(**more))))
    return session


CIPHER = {"type": "reasoning", "reasoning": "gAAA", "summary": "I looked", "redacted": True}
OPEN = {"type": "reasoning", "reasoning": "I look", "summary": "looked"}


@pytest.mark.parametrize("events", [True, False])
@pytest.mark.parametrize(("reply", "thought"), [(said([CIPHER]), "I looked"), (said([OPEN]), "I look"), (said("a", reasoning="older"), "older")])  # fmt: skip
def test_a_thought_of_an_inspect_log_is_what_can_be_read(
    tmp_path: Path, reply: dict[str, Any], thought: str, events: bool
) -> None:
    event = {"event": "model", "model": "m", "input": [ASKED], "output": {"choices": [{"message": reply, "stop_reason": "stop"}]}}
    session = inspected(tmp_path, messages=[ASKED, reply], events=[event] if events else [])
    assert [c.reasoning for c in of(LLMCall, session)] == [thought]


def test_what_a_sample_says_beside_is_kept(tmp_path: Path) -> None:
    """Fields without a place, and the history of a score. What older logs came to is the first choice's text."""
    score = {"value": "C", "explanation": "why", "history": [{"value": "I"}]}
    output = {"choices": [{"message": said("a")}]}
    session = inspected(
        tmp_path, invalidation={"reason": "WIGEON"}, sandbox={"type": "docker"}, scores={"s": score}, output=output
    )
    source = of(Start, session)[0].metadata["source"]
    assert (source["invalidation"], source["sandbox"]) == ({"reason": "WIGEON"}, {"type": "docker"})
    assert of(Reward, session)[0].extra == {"value": "C", "history": [{"value": "I"}]}
    assert of(End, session)[0].answer == "a"


@pytest.mark.parametrize(("limit", "status"), [("operator", "cancelled"), ("working", "timeout"), ("token", "truncated")])
def test_a_limit_says_how_a_sample_ended(tmp_path: Path, limit: str, status: str) -> None:
    assert of(End, inspected(tmp_path, limit={"type": limit, "limit": 1}))[0].status == status


# --- benchmarks


REPORTS: dict[str, tuple[str, dict[str, Any]]] = {
    "of the instance": ("logs/i-1/report.json", {"i-1": {"resolved": True}}),
    "beside the trajectory": ("trajs/report.json", {"i-1": {"resolved": False}}),
    "of the run": ("results/results.json", {"resolved": [], "generated": ["i-1"]}),
    "of the harness": ("report.json", {"resolved_ids": ["i-1"], "unresolved_ids": ["i-2"], "total_instances": 2}),
    "of others": ("report.json", {"resolved_ids": ["i-3"], "unresolved_ids": ["i-2"]}),
    "of something else": ("results.json", {"results": ["i-1"]}),
}
SWE_AGENT = {"trajectory": [{"action": "ls", "observation": "a", "response": "I look"}], "history": [], "info": {"exit_status": "submitted", "submission": "d"}}  # fmt: skip
MINI = {"trajectory_format": "mini-swe-agent-1.1", "instance_id": "i-1", "info": {"exit_status": "Submitted", "submission": "d"}, "messages": [ASKED, said("a")]}  # fmt: skip
OPENHANDS = v0_line(v0(), instance_id="i-1")


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize(("file", "run"), [("i-1.traj", SWE_AGENT), ("i-1.traj.json", MINI), ("output.jsonl", OPENHANDS)])
def test_the_verdict_of_a_benchmark_stands_in_its_report(
    tmp_path: Path, store: odograph.Store, name: str, file: str, run: Any
) -> None:
    """It may come after the run was imported, and another report may know another verdict later."""
    path = write(tmp_path / "trajs" / file, json.dumps(run) + "\n")
    store.import_sessions(path)
    (before,) = store.trajectories()
    assert before.reward is None
    where, report = REPORTS[name]
    write(tmp_path / where, json.dumps(report))
    expected = {"of the instance": 1.0, "beside the trajectory": 0.0, "of the run": 0.0, "of the harness": 1.0}.get(name)
    for _ in range(2):
        store.import_sessions(path)
        (after,) = store.trajectories()
        assert (after.reward, [r.name for r in after.rewards]) == (expected, [] if expected is None else ["resolved"])


def test_a_trial_without_a_verdict_is_a_trial(tmp_path: Path) -> None:
    trials = [{"trial_name": "a", "is_resolved": True}, {"trial_name": "b", "failure_mode": "agent_timeout"}, "odd"]
    sessions = read("terminal-bench", write(tmp_path / "results.json", json.dumps({"results": trials})))
    assert [of(Reward, s)[0].value for s in sessions] == [1.0, None]
    assert [dict(s.warnings) for s in sessions] == [{"results that are no trial": 1}, {}]


# --- what is half understood


#: A field of another type than the format's, and what is warned of.
HALF: dict[str, tuple[str, str, Any, str]] = {
    "openai-chat": ("rows.jsonl", "openai-chat", {"messages": [ASKED, said("a", tool_calls={"name": "f"})]}, "a field `tool_calls` that is no list"),
    "atif": ("t.json", "atif", {"schema_version": "ATIF-v1.4", "agent": {"name": "a", "version": "1"}, "steps": [{"step_id": 1, "source": "robot", "message": "m"}]}, "steps of no known source"),
    "agent-lightning": ("a.jsonl", "agent-lightning", {"rollout": {"rollout_id": "r"}, "events": [{"type": "model_request", "data": {}}], "resources": {}}, "events without a type"),
    "inspect": ("l.json", "inspect", json.loads(log(sample(events={"model": 1}))), "a field `events` that is no list"),
    "intercode": ("i.json", "intercode", {"0": {"environment": "b", "query": "q", "turn_history": {"actions": ["ls"]}}, "1": {"query": "q"}}, "tasks without a turn_history"),
    "tau-bench": ("t.json", "tau-bench", [{"task_id": 0, "reward": 0.0, "traj": {"role": "user"}}], "a field `traj` that is no list"),
    "openhands": ("output.jsonl", "openhands", {**v0_line([]), "history": {"0": "event"}}, "a field `history` that is no list"),
    "letta-evals": ("r.jsonl", "letta-evals", {"sample_id": 0, "agent_id": "a", "trajectory": {"turns": []}, "grades": {}}, "a field `trajectory` without a message"),
}  # fmt: skip


@pytest.mark.parametrize("name", HALF)
def test_a_field_of_another_type_is_warned_of(tmp_path: Path, name: str) -> None:
    file, importer, value, warning = HALF[name]
    (session,) = read(importer, write(tmp_path / file, json.dumps(value)))
    assert warning in session.warnings


# --- training


def test_token_ids_of_a_harbor_trial_are_on_its_calls(tmp_path: Path) -> None:
    """Terminus keeps them beside its trajectory: a list for each call. The trial says when a trajectory without times ran."""
    steps = [
        {"step_id": 1, "source": "user", "message": "do"},
        {"step_id": 2, "source": "agent", "message": "a"},
        {"step_id": 3, "source": "agent", "message": "b"},
    ]
    ids = {"prompt_token_ids": [[1], [1, 2, 3]], "completion_token_ids": [[2], [4, 5]], "logprobs": [[-0.5], [-0.25, -1.0]]}
    result = {
        "task_name": "t", "trial_name": "n", "agent_result": {"rollout_details": [ids]}, "verifier_result": {"rewards": {"reward": 0.5}},
        "agent_execution": {"started_at": "2026-01-01T00:00:01Z", "finished_at": "2026-01-01T00:00:03Z"},
    }  # fmt: skip
    write(tmp_path / "n" / "result.json", json.dumps(result))
    trajectory = {"schema_version": "ATIF-v1.4", "agent": {"name": "terminus-2", "version": "2"}, "steps": steps}
    write(tmp_path / "n" / "agent" / "trajectory.json", json.dumps(trajectory))
    (session,) = read("harbor", tmp_path / "n")
    calls = of(LLMCall, session)
    assert [(c.prompt_token_ids, c.tokens[0].token_ids, c.tokens[0].logprobs) for c in calls] == list(
        zip(*ids.values(), strict=True)
    )
    assert of(End, session)[0].source_time - of(Start, session)[0].source_time == 2_000_000_000  # type: ignore[operator]


def test_a_harbor_trial_without_a_session_has_its_totals(tmp_path: Path) -> None:
    result = {
        "task_name": "t",
        "trial_name": "n",
        "agent_result": {"n_input_tokens": 100, "n_cache_tokens": 80, "n_output_tokens": 20},
    }
    write(tmp_path / "n" / "result.json", json.dumps(result))
    (tmp_path / "n" / "verifier").mkdir()
    (session,) = read("harbor", tmp_path / "n")
    assert of(Start, session)[0].metadata["source"]["totals"] == {"prompt_tokens": 100, "completion_tokens": 20}


def test_masks_of_atropos_may_be_of_zero_and_one(tmp_path: Path) -> None:
    row = {
        "tokens": [[1, 2, 3, 4, 5]],
        "masks": [[0, 0, 1, 0, 1]],
        "scores": [1.0],
        "messages": [[ASKED, said("a"), ASKED, said("b")]],
    }
    (session,) = read("atropos", lines(tmp_path, row))
    calls = of(LLMCall, session)
    assert [(list(c.prompt_token_ids), c.tokens[0].token_ids) for c in calls] == [([1, 2], [3]), ([1, 2, 3, 4], [5])]


def test_of_several_graders_the_results_own_grade_counts(tmp_path: Path, store: odograph.Store) -> None:
    """Letta evals, before it composed a reward: the grades of single graders monitor."""
    said_ = [[{"message_type": "assistant_message", "id": "m", "content": "a", "step_id": "s"}]]
    grades = {"exact": {"score": 0.5, "rationale": "r"}, "polite": {"score": 1.0}}
    result = {"sample": {"id": 0, "input": "q"}, "trajectory": said_, "grade": grades["exact"], "grades": grades}
    store.import_sessions(lines(tmp_path, {"type": "result", "result": result}))
    (t,) = store.trajectories()
    assert (t.reward, {r.name: r.weight for r in t.rewards}) == (0.5, {"reward": 1.0, "exact": 0.0, "polite": 0.0})


def test_a_line_of_atropos_may_be_one_sequence(tmp_path: Path) -> None:
    row = {"tokens": [1, 2, 3], "masks": [-100, -100, 3], "scores": 0.5, "messages": [ASKED, said("a")], "advantages": None}
    (session,) = read("atropos", lines(tmp_path, row))
    (call,) = of(LLMCall, session)
    assert (list(call.prompt_token_ids or []), call.tokens[0].token_ids, call.response) == ([1, 2], [3], said("a"))
    assert of(Reward, session)[0].value == 0.5


# --- spans


def observation(id: str, **more: Any) -> dict[str, Any]:
    times = {"startTime": "2026-01-01T00:00:01Z", "endTime": f"2026-01-01T00:00:0{id}Z"}
    return {"id": id, "traceId": "t", "parentObservationId": None, "type": "GENERATION", "name": id, **times, **more}


def test_what_a_langfuse_trace_was_asked_and_answered_counts(tmp_path: Path) -> None:
    """Also where its calls stand in no span, so that the last of them is not what the run came to."""
    asked, gave = {"question": "Which tree?"}, {"answer": "An elm"}
    calls = [observation("2", input=[ASKED], output=said("a")), observation("3", input=[ASKED], output=said("b"))]
    value = {"trace": {"id": "t", "projectId": "p", "input": asked, "output": gave}, "observations": calls}
    (session,) = read("spans", write(tmp_path / "trace.json", json.dumps(value)))
    assert (of(Start, session)[0].task, of(End, session)[0].answer) == ("Which tree?", "An elm")


def test_all_generations_of_a_langsmith_run_are_its_choices(tmp_path: Path, store: odograph.Store) -> None:
    def made(content: str) -> dict[str, Any]:
        message = {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", "AIMessage"],
            "kwargs": {"content": content},
        }
        return {"text": content, "generation_info": {"finish_reason": "stop"}, "message": message}

    times = {"start_time": "2026-01-01T00:00:01Z", "end_time": "2026-01-01T00:00:02Z"}
    run = {"id": "r", "trace_id": "r", "dotted_order": "1", "run_type": "llm", "name": "c", "inputs": {"messages": [ASKED]}, "outputs": {"generations": [[made("a"), made("b")]]}, **times}  # fmt: skip
    store.import_sessions(lines(tmp_path, run))
    (t,) = store.trajectories()
    assert [(c.text, c.finish_reason) for c in t.llm_call.choices] == [("a", "stop"), ("b", "stop")]


# --- OpenHands


def test_replies_of_one_id_behind_messages_are_several(tmp_path: Path) -> None:
    """Some servers give all their answers one id. The tools of the SDK are told by name, in the shape of requests."""
    tool = {"kind": "TerminalTool", "title": "terminal", "description": "d", "action_type": "TerminalAction"}
    mcp = {
        "kind": "MCPToolDefinition",
        "title": "T",
        "description": "d",
        "mcp_tool": {"name": "look", "inputSchema": {"type": "object"}},
    }

    def message(n: int, source: str, text: str) -> dict[str, Any]:
        role = {"role": "user" if source == "user" else "assistant", "content": [{"type": "text", "text": text}]}
        more = {"llm_response_id": "chatcmpl-1"} if source == "agent" else {}
        return {"kind": "MessageEvent", "id": str(n), "source": source, "llm_message": role, **more}

    asked = {"id": "c", "function": {"name": "terminal", "arguments": "{}"}}
    acted = {"kind": "ActionEvent", "id": "2", "source": "agent", "thought": [], "tool_name": "terminal", "tool_call_id": "c", "tool_call": asked, "action": {"kind": "TerminalAction"}, "llm_response_id": "chatcmpl-1"}  # fmt: skip
    gave = {"kind": "ObservationEvent", "id": "3", "action_id": "2", "tool_call_id": "c", "tool_name": "terminal", "observation": {"kind": "TerminalObservation", "content": [{"type": "text", "text": "a.txt"}]}}  # fmt: skip
    events = [
        {"kind": "SystemPromptEvent", "id": "0", "source": "agent", "system_prompt": {"text": "s"}, "tools": [tool, mcp]},
        message(1, "user", "q"), acted, gave, message(4, "agent", "a"), message(5, "user", "r"), message(6, "agent", "b"),
    ]  # fmt: skip
    (session,) = read("openhands", write(tmp_path / "events.json", json.dumps(events)))
    calls = of(LLMCall, session)
    assert [len(c.request["messages"]) for c in calls] == [2, 4, 6]
    assert [c.extra["llm_response_id"] for c in calls if c.extra] == ["chatcmpl-1"] * 3
    functions = [{"name": "terminal", "description": "d"}, {"name": "look", "description": "d", "parameters": {"type": "object"}}]
    assert [t["function"] for t in calls[0].request["tools"]] == functions
