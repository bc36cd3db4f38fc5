"""Rollouts as the libraries of reinforcement learning and of evaluations write them: results of verifiers, archives of agent-lightning,
groups of ART, logs of Inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.types import Action, End, LLMCall, Note, Reward, Start, StepStart

from .agents import smol_run
from .scaffold import of, one, read, write

FLAT = {"id": "c1", "name": "dig", "arguments": '{"m": 2}'}
ASKS = {"role": "assistant", "content": "", "tool_calls": [FLAT]}
DUG = {"role": "tool", "tool_call_id": "c1", "content": "a bone"}


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def row(**more: Any) -> dict[str, Any]:
    whole = {"example_id": 4, "prompt": [said("user", "Dig")], "completion": [said("assistant", "x")], "task": "t", "reward": 1.0}
    return {**whole, **more}


def lines(path: Path, *values: Any) -> Path:
    return write(path, "".join(json.dumps(v) + "\n" for v in values))


@pytest.mark.parametrize("dress", [dict, json.dumps])
def test_flat_tool_calls_of_verifiers(tmp_path: Path, dress: Any) -> None:
    """Newer results have a tool call as `id`, `name`, `arguments`, and tools alike: both are of the chat's shape in the prompts."""
    asks = {**ASKS, "tool_calls": [dress(FLAT)]}
    tools = [{"name": "dig", "description": "digs", "parameters": {"type": "object"}}]
    path = lines(tmp_path / "results.jsonl", row(completion=[asks, DUG, said("assistant", "Done")], tool_defs=tools))
    session = one("verifiers", path)
    assert [(a.name, a.arguments, a.result) for a in of(Action, session)] == [("dig", {"m": 2}, "a bone")]
    last = of(LLMCall, session)[-1].request
    assert last["tools"] == [{"type": "function", "function": tools[0]}]
    assert last["messages"][1]["tool_calls"][0]["function"] == {"name": "dig", "arguments": '{"m": 2}'}
    with odograph.open("memory:") as store:
        store.import_sessions(path)
        assert odograph.validate(store, ignore=["group"]).findings == []


def test_how_a_rollout_of_verifiers_ended(tmp_path: Path) -> None:
    """Times, the stop condition, a cut and the totals of tokens are those of the line; examples of a prompt are no answers."""
    timing = {
        "start_time": 1790000000.0,
        "generation": {"start": 1790000001.0, "end": 1790000004.0},
        "scoring": {"end": 1790000005.0},
    }
    shown = [said("user", "1+1"), said("assistant", "2"), said("user", "2+2")]
    about = {
        "timing": timing,
        "is_truncated": True,
        "stop_condition": "max_turns",
        "token_usage": {"input_tokens": 40.0, "output_tokens": 6.0},
    }
    path = lines(tmp_path / "results.jsonl", row(prompt=shown, completion=[said("assistant", "4")], **about))
    session = one("verifiers", path)
    (call,), (start,), (end,) = of(LLMCall, session), of(Start, session), of(End, session)
    assert (call.response["content"], list(call.request["messages"])) == ("4", shown)
    assert (start.source_time, end.source_time) == (1790000000 * 10**9, 1790000005 * 10**9)
    assert (end.status, end.metrics["stop_condition"]) == ("truncated", "max_turns")
    with odograph.open("memory:") as store:
        store.import_sessions(path)
        (summary,) = store.summaries()
        assert (summary.prompt_tokens, summary.completion_tokens) == (40, 6)


def test_rows_of_verifiers_without_an_id_are_grouped_by_their_prompt(tmp_path: Path) -> None:
    """Rollouts of unlike prompts are in no common group."""
    rows = [{k: v for k, v in row(prompt=[said("user", p)]).items() if k != "example_id"} for p in ("Dig", "Fill", "Dig")]
    groups = [of(Start, s)[0].group for s in read("verifiers", lines(tmp_path / "results.jsonl", *rows))]
    assert groups[0] == groups[2] != groups[1]


def test_rows_of_verifiers_in_any_dress(tmp_path: Path) -> None:
    """A first row without a reward, an indented list and a single indented row are results of verifiers, too."""
    first, second = row(reward=None, style=0.5), row(example_id=5)
    dressed = (json.dumps(first) + "\n" + json.dumps(second), json.dumps([first, second], indent=1), json.dumps(second, indent=2))
    for n, text in enumerate(dressed):
        with odograph.open("memory:") as store:
            report = store.import_sessions(write(tmp_path / f"{n}.json", text))
            assert (report.failed, report.warnings, {t["format"] for t in report.trajectories}) == ([], [], {"verifiers"})
            assert sorted((s.group, s.reward) for s in store.summaries()) == [("t-4", None), ("t-5", 1.0)][n == 2 :]


def test_rewards_in_a_list_beside_a_talk_are_warned_of(tmp_path: Path) -> None:
    """Whose each of them is, nothing says: they are kept, and no reward is invented."""
    path = lines(tmp_path / "a.jsonl", {"messages": [said("user", "Dig"), said("assistant", "Dug")], "rewards": [0.5]})
    session = one("openai-chat", path)
    assert (of(Reward, session), list(session.warnings)) == ([], ["rewards in a list, which says nothing of whose each is: kept in the start's metadata"])  # fmt: skip
    assert of(Start, session)[0].metadata["source"]["rewards"] == [0.5]


def test_a_format_that_is_named_for_a_folder(tmp_path: Path) -> None:
    """What is of another format there is no failure; a file that was named is one."""
    lines(tmp_path / "rows" / "results.jsonl", row())
    other = write(tmp_path / "rows" / "notes.json", {"a": 1})
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path / "rows", format="verifiers")
        assert (report.imported, report.failed, report.unrecognised) == (1, [], [str(other)])
        assert len(store.import_sessions(other, format="verifiers").failed) == 1


def test_steps_of_a_verifiers_trajectory(tmp_path: Path) -> None:
    """Where a line has its steps, each is a call with its prompt, its token ids and its usage."""
    tokens = {"prompt_ids": [1, 2], "completion_ids": [3, 4], "completion_mask": [1, 1], "completion_logprobs": [-0.1, -0.2]}
    response = {
        "model": "m",
        "created": 1790000000,
        "usage": {"prompt_tokens": 2, "completion_tokens": 2},
        "message": {"finish_reason": "tool_calls"},
    }
    first = {
        "prompt": [said("user", "Dig")],
        "completion": [ASKS],
        "response": response,
        "tokens": tokens,
        "reward": 0.5,
        "advantage": 0.1,
    }
    second = {
        "prompt": [said("user", "Dig"), ASKS, DUG],
        "completion": [said("assistant", "Done")],
        "response": {},
        "tokens": None,
    }
    whole = [{**ASKS, "tool_calls": [json.dumps(FLAT)]}, DUG, said("assistant", "Done"), said("user", "Bye")]
    session = one("verifiers", lines(tmp_path / "results.jsonl", row(completion=whole, trajectory=[first, second])))
    calls = of(LLMCall, session)
    assert [list(c.prompt_token_ids or []) for c in calls] == [[1, 2], []]
    assert [(t.token_ids, t.logprobs) for t in calls[0].tokens] == [([3, 4], [-0.1, -0.2])]
    assert (calls[0].prompt_tokens, calls[0].finish_reason, calls[0].extra) == (2, "tool_calls", {"advantage": 0.1})
    assert [a.result for a in of(Action, session)] == ["a bone"]
    assert of(Note, session)[0].data["messages"] == [said("user", "Bye")]
    assert [(r.name, r.value, r.weight, r.step) for r in of(Reward, session)][:2] == [
        ("step", 0.5, 0, 0),
        ("reward", 1.0, 1, None),
    ]


def event(kind: str, n: int, **data: Any) -> dict[str, Any]:
    return {"event_type": kind, "rollout_id": "r", "attempt_id": "0", "timestamp": 1790000000.0 + n, "data": data}


def asked(n: int, messages: list[Any], answer: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {
        "model": "q",
        "choices": [{"index": 0, "message": answer, "finish_reason": "stop", "token_ids": [7]}],
        "prompt_token_ids": [1],
    }
    about = {"model": "q", "model_version": 7, "latency_ms": 250.0, "http_status": 200, "status": "ok", "retry_count": 0}
    return event("model_request", n, request={"model": "q", "messages": messages}, **{**about, "response": body, **more})


def test_a_rollout_of_agent_lightning(tmp_path: Path) -> None:
    """What the gateway says of a request is kept: the version of the policy, the time that it took, its error. The tools that an
    answer asked for are actions, with the results that the next request holds. The last reward counts."""
    u = said("user", "Dig")
    asks = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "t", "type": "function", "function": {"name": "dig", "arguments": '{"m": 2}'}}],
    }
    told = [u, asks, {**DUG, "tool_call_id": "t"}]
    failed = asked(2, told, {}, response={"error": {"message": "busy"}}, http_status=503, status="error", retry_count=2)
    events = [
        asked(1, [u], asks),
        failed,
        asked(3, told, said("assistant", "Done")),
        event("reward", 4, value=0.25, message="half"),
        event("reward", 5, value=1.0),
    ]
    status = {"state": "succeeded", "last_attempt_id": "0", "created_at": 1790000000.0, "updated_at": 1790000009.0}
    rollout = {"rollout_id": "r", "input": "Dig", "metadata": {"batch_idx": 3, "sample_idx_in_batch": 1}, "status": status}
    path = lines(tmp_path / "a.jsonl", {"rollout": rollout, "events": events})
    session = one("agent-lightning", path)
    assert [(a.name, a.arguments, a.result) for a in of(Action, session)] == [("dig", {"m": 2}, "a bone")]
    assert (of(Start, session)[0].policy_version, of(Start, session)[0].group) == (7, "3-1")
    calls = of(LLMCall, session)
    assert [(c.duration, c.status_code, c.error) for c in calls] == [
        (250_000_000, 200, None),
        (250_000_000, 503, {"message": "busy"}),
        (250_000_000, 200, None),
    ]
    assert [len(c.request["messages"]) for c in calls] == [1, 3, 3]
    assert calls[1].extra == {"attempt_id": "0", "model_version": 7, "status": "error", "retry_count": 2}
    assert [s.observation for s in of(StepStart, session)] == ["Dig", None, None]
    with odograph.open("memory:") as store:
        store.import_sessions(path)
        (t,) = store.trajectories()
        assert (t.reward, t.rewards[0].rationale) == (1.0, "half")


def test_what_a_group_of_art_says_beside_its_trajectories(tmp_path: Path) -> None:
    """Exceptions, metrics and logs of a group are kept with each of its trajectories."""
    trajectory = {"messages_and_choices": [said("user", "q")], "reward": 1.0, "metrics": {}, "metadata": {}}
    group = {
        "trajectories": [trajectory],
        "exceptions": [{"type": "E", "message": "lost", "traceback": "at"}],
        "metrics": {"x": 1},
        "logs": ["slow"],
        "metadata": {"scenario": "s"},
    }
    source = of(Start, one("art", lines(tmp_path / "a.jsonl", group)))[0].metadata["source"]
    assert (source["group_exceptions"], source["group_metrics"], source["group_logs"]) == (
        group["exceptions"],
        {"x": 1},
        ["slow"],
    )


def test_a_talk_that_was_handed_over_in_inspect(tmp_path: Path) -> None:
    """An agent to which the talk was handed over is a sub-agent, inside of the call that handed it over, though what it says is in
    the sample's messages, too. Tools are described in the chat's shape."""

    def answer(id: str, tool: str) -> dict[str, Any]:
        asked = {"id": f"{id}-call", "type": "function", "function": tool, "arguments": {}}
        return {"id": id, "role": "assistant", "content": id, "tool_calls": [asked]}

    def model(n: int, span: str, id: str, tool: str) -> dict[str, Any]:
        tools = [{"name": tool, "description": "d", "parameters": {"type": "object"}}]
        output = {"model": "m", "choices": [{"message": answer(id, tool), "stop_reason": "tool_calls"}]}
        return {
            "event": "model",
            "timestamp": at(n),
            "span_id": span,
            "model": "m",
            "input": [said("user", "Find it")],
            "tools": tools,
            "config": {},
            "output": output,
        }

    def at(n: int) -> str:
        return f"2026-01-01T00:00:0{n}+00:00"

    def span(kind: str, id: str, above: str | None, name: str) -> dict[str, Any]:
        return {"event": "span_begin", "timestamp": at(0), "id": id, "parent_id": above, "type": kind, "name": name}

    events = [
        span("agent", "a", None, "react"), model(1, "a", "one", "transfer_to_scout"), span("agent", "b", "a", "scout"),
        model(2, "b", "two", "look"), model(3, "a", "three", "submit"),
    ]  # fmt: skip
    told = [said("user", "Find it"), answer("one", "transfer_to_scout"), answer("two", "look"), answer("three", "submit")]
    sample = {"id": 1, "epoch": 1, "input": "Find it", "target": "", "messages": told, "events": events}
    log = {"version": 2, "status": "success", "eval": {"run_id": "r", "task": "t", "model": "m"}, "plan": {}, "samples": [sample]}
    session = one("inspect", write(tmp_path / "log.json", json.dumps(log)))
    assert [(c.agent, c.step) for c in of(LLMCall, session)] == [(None, 0), ("scout", 0), (None, 1)]
    transfer = of(Action, session)[0]
    assert {r.parent for r in of(StepStart, session) if r.agent == "scout"} == {transfer.id}
    assert of(LLMCall, session)[1].request["tools"][0]["function"]["name"] == "look"


def test_when_the_answers_of_a_batch_were_made(tmp_path: Path) -> None:
    """The time that an answer states is the time of its trajectory and call."""
    body = {"created": 1790000000, "model": "m", "choices": [{"index": 0, "message": said("assistant", "x")}]}
    session = one("batches", lines(tmp_path / "a.jsonl", {"custom_id": "c", "response": {"status_code": 200, "body": body}}))
    assert {of(Start, session)[0].source_time, of(LLMCall, session)[0].source_time} == {1790000000 * 10**9}


@pytest.mark.parametrize("dress", ["run", "steps"])
def test_a_run_of_smolagents(tmp_path: Path, store: odograph.Store, dress: str) -> None:
    """A run, or the steps of its memory: each call has the messages that it was sent and its usage; what failed says so."""
    run = {"output": "mended", "state": "success", "steps": smol_run(), "timing": {"end_time": 1772359209.0}, "token_usage": None}
    path = write(tmp_path / "a.json", json.dumps(run if dress == "run" else run["steps"]))
    assert [t["format"] for t in store.import_sessions(path).trajectories] == ["smolagents"]
    (t,) = store.trajectories()
    assert (t.task, t.status, t.answer, t.started) == ("Mend the net", "completed", "mended", 1772359201 * 10**9)
    assert [(len(c.messages), c.prompt_tokens, c.completion_tokens) for c in t.llm_calls] == [(2, 10, 1), (5, 20, 2), (7, 30, 3)]
    assert [m["role"] for m in t.llm_calls[1].messages] == ["system", "user", "assistant", "assistant", "user"]
    assert [(a.name, a.result, a.ok) for a in t.actions] == [
        ("look", "two holes", None),
        ("knot", None, False),
        ("python_interpreter", "It is mended", None),
    ]
    assert t.actions[1].error["message"] == "no twine there"
    assert odograph.validate(t, ignore=["reward_missing"]).findings == []


def test_a_plain_answer_of_art_is_in_no_call_and_not_lost(tmp_path: Path) -> None:
    """An answer that nobody sampled is in the prompts behind it; where no answer follows, a note has it."""
    told = [said("user", "q"), said("assistant", "plain"), said("user", "more")]
    session = one(
        "art", lines(tmp_path / "a.jsonl", {"messages_and_choices": told, "reward": 0.0, "metrics": {}, "metadata": {}})
    )
    assert (of(LLMCall, session), of(Note, session)[0].data["messages"]) == ([], told)


def test_the_verdict_of_a_benchmark(tmp_path: Path) -> None:
    """The verdict of an AgentBench task, and the highest reward of an InterCode task without a summary, are rewards."""
    bench = {
        "index": 1,
        "error": None,
        "info": None,
        "output": {"status": "completed", "result": {"result": True, "answer": "5"}, "history": []},
    }
    assert [r.value for r in of(Reward, one("agentbench", lines(tmp_path / "runs.jsonl", bench)))] == [1.0]
    turns = {"actions": ["a", "b"], "observations": ["o", "p"], "rewards": [0.9, 0.1], "valid_action": [True, True]}
    task = {"environment": "e", "dataset": "d", "task_id": 0, "query": "q", "turn_history": turns}
    rewards = of(Reward, one("intercode", write(tmp_path / "i.json", json.dumps({"0": task}))))
    assert [(r.name, r.value, r.weight) for r in rewards] == [("turn", 0.9, 0), ("turn", 0.1, 0), ("reward", 0.9, 1)]


def test_samples_of_unlike_suites_are_in_no_common_group(tmp_path: Path) -> None:
    """Suites of Letta and tasks of AgentBench count from 0: a group is of one question, too."""

    def letta(asked: str) -> dict[str, Any]:
        talk = [
            {"id": "m", "message_type": "user_message", "content": asked},
            {"id": "a", "message_type": "assistant_message", "content": "x"},
        ]
        return {"sample_id": 0, "agent_id": "a", "model_handle": "m", "trajectory": [talk], "grades": {"g": {"score": 1.0}}}

    def bench(asked: str) -> dict[str, Any]:
        return {"index": 0, "output": {"status": "completed", "history": [said("user", asked), said("agent", "x")]}}

    for name, make in (("letta-evals", letta), ("agentbench", bench)):
        found = read(name, lines(tmp_path / "runs.jsonl", make("Dig"), make("Fill"), make("Dig")))
        groups = [of(Start, s)[0].group for s in found]
        assert groups[0] == groups[2] != groups[1]


def inspected(tmp_path: Path, told: list[Any], answers: list[dict[str, Any]], **more: Any) -> odograph.importers.Session:
    """A sample with these messages, and a model's event for each answer, which was sent the messages before it."""
    events = []
    for n, given in enumerate(answers):
        sent = told[: told.index(given)] if given in told else told
        output = {"model": "m", "choices": [{"message": given, "stop_reason": "stop"}]}
        events.append(
            {
                "event": "model",
                "timestamp": f"2026-01-01T00:00:0{n}+00:00",
                "model": "m",
                "input": sent,
                "output": output,
                "config": {},
            }
        )
    sample = {"id": 1, "epoch": 1, "input": "Find it", "target": "", "messages": told, "events": events, **more}
    log = {"version": 2, "status": "success", "eval": {"run_id": "r", "task": "t", "model": "m"}, "plan": {}, "samples": [sample]}
    return one("inspect", write(tmp_path / "log.json", json.dumps(log)))


LOOK = {"id": "c", "type": "function", "function": "look", "arguments": {"at": 1}}
LOOKS = {"id": "one", "role": "assistant", "content": "I look", "tool_calls": [LOOK]}


def test_an_answer_behind_which_a_limit_ended_an_inspect_sample(tmp_path: Path) -> None:
    """The answer is a decision with its tool calls, though no message of the sample has it."""
    session = inspected(tmp_path, [said("user", "Find it")], [LOOKS], limit={"type": "token", "limit": 20})
    assert [(c.purpose, c.step) for c in of(LLMCall, session)] == [("act", 0)]
    assert [(a.name, a.result) for a in of(Action, session)] == [("look", None)]
    assert of(StepStart, session)[0].observation == "Find it"


def test_the_error_of_a_tool_is_what_the_model_was_sent_in_inspect(tmp_path: Path) -> None:
    """A tool's message that has an error is sent as the error."""
    failed = {"role": "tool", "tool_call_id": "c", "content": "", "error": {"type": "unknown", "message": "too dark"}}
    done = {"id": "two", "role": "assistant", "content": "Gone"}
    session = inspected(tmp_path, [said("user", "Find it"), LOOKS, failed, done], [LOOKS, done])
    assert of(LLMCall, session)[1].request["messages"][-1] == {"role": "tool", "tool_call_id": "c", "content": "too dark"}
    assert [(a.ok, a.error["message"]) for a in of(Action, session)] == [(False, "too dark")]


def test_what_is_known_by_its_tokens_alone_is_compared_by_them(tmp_path: Path) -> None:
    """Two rollouts of token ids without texts are the same if prompts and answers are."""

    def rollout(id: str, *prompt: int) -> dict[str, Any]:
        triplet = {"prompt": {"token_ids": list(prompt)}, "response": {"token_ids": [7]}, "reward": 1.0, "metadata": {}}
        return {"rollout_id": id, "group": f"of {id}", "triplets": [triplet]}

    for n, (second, found) in enumerate((((1, 2), 1), ((1, 3), 0))):
        with odograph.open("memory:") as store:
            store.import_sessions(lines(tmp_path / f"{n}.jsonl", rollout("a", 1, 2), rollout("b", *second)))
            assert odograph.validate(store, profile="sft").counts.get("contamination", 0) == found


def test_a_line_that_is_one_triplet(tmp_path: Path, store: odograph.Store) -> None:
    """Such a line says its tokens, logprobs and reward, and not its rollout: each is a trajectory. Twice the same line is two."""
    told = [{"prompt": {"token_ids": [1, 2]}, "response": {"token_ids": [3, n], "logprobs": [{"logprob": -0.5}, {"logprob": -1.0}]}, "reward": n / 4, "metadata": {"response_id": f"r{n}"}} for n in (1, 1, 2)]  # fmt: skip
    report = store.import_sessions(lines(tmp_path / "triplets.jsonl", *told))
    assert ({t["format"] for t in report.trajectories}, report.imported, report.failed) == ({"agent-lightning"}, 3, [])
    found = sorted((t.reward, c.prompt_token_ids, c.choices[0].token_ids, c.choices[0].logprobs) for t in store.trajectories() for c in t.llm_calls)  # fmt: skip
    assert found == [(n / 4, [1, 2], [3, n], [-0.5, -1.0]) for n in (1, 1, 2)]
