"""Streams of agents run from a script, pi, rows to fine-tune with, and the result files of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import importers
from odograph.types import Action, End, LLMCall, Note, Reward, Start, StepStart

from .scaffold import differences, facts, of, one, read
from .test_growing import ALPACA, EXEC, PI, SHARE, STREAM, VERIFIED

FILES: dict[str, tuple[str, list[Any]]] = {
    "claude-stream": ("a.jsonl", STREAM),
    "codex-exec": ("b.jsonl", EXEC),
    "pi-session": ("c.jsonl", PI),
    "verifiers": ("d.jsonl", [VERIFIED]),
    "sharegpt": ("e.jsonl", [SHARE, ALPACA]),
}


def file(folder: Path, name: str) -> Path:
    path = folder / FILES[name][0]
    path.write_text("".join(json.dumps(v) + "\n" for v in FILES[name][1]))
    return path


@pytest.mark.parametrize("name", FILES)
def test_recognised_imported_once_and_valid(tmp_path: Path, store: odograph.Store, name: str) -> None:
    """Each is known by its content, adds nothing when it is imported again, and has no error."""
    found = importers.recognise(file(tmp_path, name))
    assert found is not None and name == found.NAME
    first = store.import_sessions(tmp_path)
    assert (first.failed, store.import_sessions(tmp_path).imported) == ([], 0)
    for t in store.trajectories():
        assert odograph.validate(t, ignore=["reward_missing"]).errors == []


def test_streams(tmp_path: Path) -> None:
    """A run from a script says how it ended and what it cost; its sub-agents are in its tree; a failed command is one."""
    session = one("claude-stream", file(tmp_path, "claude-stream"))
    task, calls = of(Action, session)[0], of(LLMCall, session)
    assert [(c.agent is None, c.prompt_tokens) for c in calls] == [(True, 7), (False, None), (True, None)]
    assert any(r.parent == task.id for r in session.records if r.agent)
    assert task.result == "sewn"
    (end,) = of(End, session)
    assert (end.status, end.answer, end.metrics["cost"]) == ("completed", "Done", 0.25)
    codex = one("codex-exec", file(tmp_path, "codex-exec"))
    assert [(a.name, a.ok, a.result) for a in of(Action, codex)] == [("command_execution", False, "x")]
    assert [(c.prompt_tokens, c.request) for c in of(LLMCall, codex)] == [(9, None)]
    assert of(End, codex)[0].answer == "Nothing"


def test_pi(tmp_path: Path) -> None:
    """The prompt is the branch of the tree; cached tokens, cost and thinking are kept; what no reply followed too."""
    session = one("pi-session", file(tmp_path, "pi-session"))
    first, second = of(LLMCall, session)
    assert (first.prompt_tokens, first.cost, first.reasoning, first.finish_reason) == (16, 0.5, "how", "toolUse")
    assert [m["content"] for m in second.request["messages"]][-1] == "Fill it"
    assert "Deeper" not in json.dumps([*second.request["messages"]])
    assert of(Action, session)[0].ok is True


def test_rows(tmp_path: Path) -> None:
    """Calls as JSON strings, results without an id, rewards of functions that only monitor; ShareGPT's calls; Alpaca's input."""
    session = one("verifiers", file(tmp_path, "verifiers"))
    assert [(a.name, a.arguments, a.result) for a in of(Action, session)] == [("add", {"a": 1}, "2")]
    assert [(r.name, r.value, r.weight) for r in of(Reward, session)] == [("reward", 0.5, 1.0), ("right", 1.0, 0.0)]
    share, alpaca = read("sharegpt", file(tmp_path, "sharegpt"))
    assert [(a.name, a.arguments, a.result) for a in of(Action, share)] == [("f", {"x": 1}, "one")]
    assert [m["role"] for m in of(LLMCall, share)[-1].request["messages"]] == ["system", "user", "assistant", "tool"]
    assert of(Start, share)[0].metadata["source"]["source"] == "mine"
    assert (of(Start, alpaca)[0].task, of(LLMCall, alpaca)[0].response["content"]) == ("Translate\nHund", "dog")


def test_benchmarks(tmp_path: Path) -> None:
    """Result files of benchmarks: the run, its verdict and its totals."""
    step = [
        {"role": "user", "content": [{"type": "text", "text": "Who"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I look"}]},
        {"role": "tool-call", "content": [{"type": "text", "text": "Calling tools:\n[{'id': 'c', 'function': {'name': 'web', 'arguments': {'q': 1}}}]"}]},
        {"role": "tool-response", "content": [{"type": "text", "text": "Observation:\nsomeone"}]},
    ]  # fmt: skip
    smol = {"model_id": "m", "question": "Who", "answer": "x", "intermediate_steps": step, "token_counts": "{'input_tokens': 3}"}
    bench = {"index": 1, "error": None, "info": None, "output": {"status": "task limit reached", "result": "r", "history": [{"role": "user", "content": "Go"}, {"role": "agent", "content": "Gone"}]}}  # fmt: skip
    turn = [
        {"message_type": "user_message", "content": "Read"},
        {
            "message_type": "tool_call_message",
            "step_id": "1",
            "tool_calls": [{"name": "get", "arguments": "{}", "tool_call_id": "k"}],
        },
        {"message_type": "tool_return_message", "step_id": "1", "tool_return": "page", "status": "success", "tool_call_id": "k"},
        {"message_type": "reasoning_message", "step_id": "2", "reasoning": "so"},
        {"message_type": "assistant_message", "step_id": "2", "content": "Read it"},
    ]
    letta = {"type": "result", "result": {"sample": {"id": 1, "input": "Read"}, "trajectory": [turn], "grades": {"g": {"score": 0.0}}, "submission": "y"}}  # fmt: skip
    trial = {"id": "r", "results": [{"id": "1", "trial_name": "t", "task_id": "k", "instruction": "Do", "is_resolved": True, "failure_mode": "agent_timeout"}]}  # fmt: skip
    turns = {"actions": ["ls"], "observations": ["a"], "rewards": [0.5], "valid_action": [True]}
    inter = {
        "0": {
            "environment": "bash",
            "dataset": "d",
            "task_id": 0,
            "query": "List",
            "turn_history": turns,
            "summary": {"max_reward": 0.5},
        }
    }
    for name, value in (
        ("smolagents", smol),
        ("agentbench", bench),
        ("letta-evals", letta),
        ("terminal-bench", trial),
        ("intercode", inter),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(value))
        found = importers.recognise(path)
        assert found is not None and name == found.NAME
        session = one(name, path)
        (end,) = of(End, session)
        if name == "smolagents":
            assert [(a.name, a.arguments, a.result) for a in of(Action, session)] == [("web", {"q": 1}, "someone")]
        elif name == "agentbench":
            assert (end.status, len(of(LLMCall, session))) == ("truncated", 1)
        elif name == "letta-evals":
            assert [(c.reasoning, len(of(StepStart, session))) for c in of(LLMCall, session)] == [(None, 2), ("so", 2)]
            assert [r.value for r in of(Reward, session)] == [0.0]
        elif name == "terminal-bench":
            assert (end.status, [r.value for r in of(Reward, session)], of(Note, session)) == ("timeout", [1.0], [])
        else:
            assert [(r.name, r.value) for r in of(Reward, session)] == [("turn", 0.5), ("reward", 0.5)]


#: Counts that differ from the independent ones; why is in docs/importing.md.
_OTHER = {"smolagents": {"steps", "tool_calls"}, "pi-session": {"n_records", "first_user_80"}}
_SAMPLES = {
    "pi-session": "pi-session",
    "verifiers": "verifiers",
    "letta-evals": "letta-evals",
    "agentbench-runs": "agentbench",
    "smolagents-gaia": "smolagents",
    "terminal-bench-results": "terminal-bench",
    "intercode": "intercode",
}


@pytest.mark.parametrize("folder", _SAMPLES)
def test_the_samples_agree_with_the_facts(samples: Path, folder: str) -> None:
    """Real files have the counts that were made of them independently."""
    name = _SAMPLES[folder]
    found = [(path, known) for path, known in facts(samples, folder) if path.exists()]
    assert found
    for path, known in found:
        importer = importers.recognise(path)
        assert importer is not None and name == importer.NAME
        assert differences(name, path, known).keys() <= _OTHER.get(name, set())


def test_letta_evals_of_today(tmp_path: Path, store: odograph.Store) -> None:
    """A line is a result whose sample is in `suite.json`; parallel results, compactions, token ids, the composed reward, cost and
    errors are kept."""
    calls = [{"name": n, "arguments": "{}", "tool_call_id": f"c-{n}"} for n in ("f", "g")]
    returns = [{"status": "success", "tool_call_id": "c-f", "tool_return": "r"}, {"status": "error", "tool_call_id": "c-g", "tool_return": "no"}]  # fmt: skip
    talk = [
        {"id": "u", "message_type": "user_message", "content": "q"},
        {"id": "t", "step_id": "s1", "message_type": "tool_call_message", "tool_call": calls[0], "tool_calls": calls},
        {"id": "x", "message_type": "tool_return_message", "status": "success", "tool_call_id": "c-f", "tool_return": "r", "tool_returns": returns},
        {"id": "m", "message_type": "summary_message", "summary": "so far"},
        {"id": "a", "step_id": "s2", "message_type": "assistant_message", "content": "done"},
    ]  # fmt: skip
    tokens = [{"role": "assistant", "input_ids": [1, 2], "output_ids": [3], "output_token_logprobs": [[-0.5, 3]]}, {"role": "tool"}, {"role": "assistant", "input_ids": [1, 9], "output_ids": [4], "output_token_logprobs": [-0.25]}]  # fmt: skip
    row = {"sample_id": 3, "agent_id": "ag", "model_handle": "o/m", "trajectory": [talk], "grades": {"a": {"score": 0.5}, "b": {"score": 1.0}}, "reward": {"score": 0.75}, "usage": {"prompt_tokens": 9, "completion_tokens": 2, "cost": 0.5}, "submissions": {"a": "done"}, "token_data": tokens, "timing": {"total": 1.0}, "error": None}  # fmt: skip
    bad = {"sample_id": 4, "agent_id": None, "trajectory": [], "grades": {}, "reward": None, "error": {"message": "boom"}}
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (row, bad)))
    (tmp_path / "suite.json").write_text(json.dumps({"samples": [{"id": 3, "input": "q"}, {"id": 4, "input": "p"}]}))
    assert store.import_sessions(tmp_path).imported == 2
    found = {t.task: t for t in store.trajectories()}
    good, failed = found["q"], found["p"]
    assert (good.reward, good.rewards["a"], good.model, good.end.answer, good.end.metrics["cost"]) == (
        0.75,
        0.5,
        "o/m",
        "done",
        0.5,
    )  # type: ignore[union-attr]
    assert (failed.status, failed.reward, failed.end.error) == ("failed", None, {"message": "boom"})  # type: ignore[union-attr]
    assert [(a.name, a.result, a.ok) for a in good.actions] == [("f", "r", True), ("g", "no", False)]
    assert [[m["content"] for m in c.messages] for c in good.llm_calls] == [["q"], ["so far"]]
    assert [(c.prompt_token_ids, c.choices[0].token_ids, c.choices[0].logprobs) for c in good.llm_calls] == [([1, 2], [3], [-0.5]), ([1, 9], [4], [-0.25])]  # fmt: skip
    assert [n.name for n in of(Note, *read("letta-evals", tmp_path / "m.jsonl"))] == ["compaction"]
