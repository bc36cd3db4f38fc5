"""Traces of verifiers v1: each answer with the branch that led to it, by messages and by tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import odograph
from odograph import importers
from odograph.types import Action, End, LLMCall, Reward, Start

from .scaffold import of, read, write


def node(parent: int | None, role: str, content: Any, ids: list[int], sampled: int = 0, **more: Any) -> dict[str, Any]:
    """A node whose last `sampled` tokens were sampled."""
    mask = [n >= len(ids) - sampled for n in range(len(ids))]
    message = {"role": role, "content": content, **more.pop("message", {})}
    return {"parent": parent, "message": message, "sampled": sampled > 0, "token_ids": ids, "mask": mask,
            "logprobs": [-float(i) for i in ids[len(ids) - sampled :]], "timestamp": 1000.0 + ids[0], **more}  # fmt: skip


def asked(*names: str) -> dict[str, Any]:
    return {"tool_calls": [{"id": f"c-{n}", "type": "function", "name": n, "arguments": '{"a": 1}'} for n in names]}


def called(node: int | None, took: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"node": node, "model": "m-1", "time": {"start": 1000.0, "end": 1000.0 + took}, **more}


TRACE: dict[str, Any] = {
    "version": 1, "id": "t1", "verifiers": {"version": "0.4.0"}, "agent": {"name": "solver", "config": {"model": "m-1"}},
    "task": {"type": "Sum", "key": "k3", "data": {"prompt": "2+2?"}},
    "nodes": [
        node(None, "system", "be brief", [1, 2], tools=[{"type": "function", "name": "add", "parameters": {}}]),
        node(0, "user", "2+2?", [3]),
        node(1, "assistant", None, [5, 10, 11], 2, message=asked("add", "look")),
        node(2, "tool", "4", [20], message={"tool_call_id": "c-add"}),
        node(3, "tool", "seen", [21], message={"tool_call_id": "c-look"}),
        node(4, "assistant", None, [23, 30], 1, message=asked("ask")),
        node(None, "user", "check it", [60], semantic_parents=[{"node": 5, "type": "subagent_call"}]),
        node(6, "assistant", "right", [61, 62], 1),
        node(5, "tool", "right", [70], message={"tool_call_id": "c-ask"}),
        node(8, "assistant", "4", [71, 72], 1),
        node(0, "user", "summary: it is 4", [40]),
        node(10, "assistant", "four", [42, 50], 1),
    ],
    "calls": [
        called(2, usage={"prompt_tokens": 1, "cached_input_tokens": 3, "completion_tokens": 2, "cost": 0.25}, finish_reason="tool_calls"),
        called(None, error={"type": "ProviderError", "message": "slow down", "status_code": 429}),
        called(5, finish_reason="tool_calls"), called(7), called(9), called(11, finish_reason="stop"),
    ],
    "rewards": {"right": {"score": 1.0, "weight": 0.5}, "style": {"score": 0.5, "weight": 2.0}}, "metrics": {"turns": 4.0, "odd": None},
    "info": {"judge_calls": [{"name": "j", "request": {"model": "judge-1", "messages": []}, "response": {"message": {"role": "assistant", "content": "yes"}, "usage": {"prompt_tokens": 7, "completion_tokens": 1}}}]},
    "is_completed": True, "ok": True, "stop_condition": "agent_completed", "errors": [], "timing": {"start": 990.0, "agent": {"start": 1000.0, "end": 1050.0}},
}  # fmt: skip


def episode(*traces: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "e1", "env": {"id": "sums"}, "task": TRACE["task"], "traces": list(traces), "ok": True, "errors": [], **more}


def test_an_answer_has_the_branch_that_led_to_it(tmp_path: Path) -> None:
    """Prompts are paths of the graph, by messages and by token ids; a sub-agent is inside of its call; what failed, what a judge
    was asked, cached tokens, prices and times are kept."""
    path = write(tmp_path / "traces.jsonl", json.dumps(episode(TRACE)) + "\n")
    (session,) = read("verifiers-traces", path)
    assert importers.recognise(path).NAME == "verifiers-traces"  # type: ignore[union-attr]
    answers = [c for c in of(LLMCall, session) if c.purpose == "act" and c.error is None]
    prompts = [[m["content"] for m in c.request["messages"]] for c in answers]
    root = ["be brief", "2+2?"]
    assert prompts == [
        root,
        [*root, None, "4", "seen"],
        ["check it"],
        [*root, None, "4", "seen", None, "right"],
        ["be brief", "summary: it is 4"],
    ]
    assert [(c.prompt_token_ids, c.tokens[0].token_ids, c.tokens[0].logprobs) for c in answers] == [
        ([1, 2, 3, 5], [10, 11], [-10.0, -11.0]),
        ([1, 2, 3, 5, 10, 11, 20, 21, 23], [30], [-30.0]),
        ([60, 61], [62], [-62.0]),
        ([1, 2, 3, 5, 10, 11, 20, 21, 23, 30, 70, 71], [72], [-72.0]),
        ([1, 2, 40, 42], [50], [-50.0]),
    ]
    assert [c.agent for c in answers] == [None, None, "subagent-1", None, None]
    assert [bool(c.request.get("tools")) for c in answers] == [True, True, False, True, True]
    actions = of(Action, session)
    assert [(a.name, a.arguments, a.result) for a in actions] == [
        ("add", {"a": 1}, "4"),
        ("look", {"a": 1}, "seen"),
        ("ask", {"a": 1}, "right"),
    ]
    inner = next(r for r in session.records if r.agent == "subagent-1")
    assert inner.parent == actions[2].id
    first, failed, judge = answers[0], *(c for c in of(LLMCall, session) if c not in answers)
    assert (first.prompt_tokens, first.completion_tokens, first.cost, first.duration) == (4, 2, 0.25, 2_000_000_000)
    assert (failed.status_code, failed.response, judge.purpose, judge.prompt_tokens) == (429, None, "judge", 7)
    assert [(r.name, r.value, r.weight) for r in of(Reward, session)] == [
        ("right", 1.0, 0.5), ("style", 0.5, 2.0), ("turns", 4.0, 0), ("odd", None, 0),
    ]  # fmt: skip
    (start,), (end,) = of(Start, session), of(End, session)
    assert (start.task, start.group, start.model) == ("2+2?", "sums-k3", "m-1")
    assert (end.status, end.answer, session.warnings) == ("completed", "four", {})


def test_traces_of_an_episode_are_trajectories_of_their_own(tmp_path: Path, store: odograph.Store) -> None:
    """Each agent's trace has its own reward, and is compared with those of the same agent; how it ended is told, without a trace
    too. A line may be a trace alone."""
    critic = {**TRACE, "id": "t2", "agent": {"name": "critic"}, "ok": False, "errors": [{"type": "E", "message": "boom"}]}
    late = {**TRACE, "id": "t3", "is_timeout": True, "rewards": {"right": None}}
    cut = {**TRACE, "id": "t4", "stop_condition": "max_turns"}
    rows = [
        episode(TRACE, critic, group={"id": "g7"}),
        episode(late),
        cut,
        episode(id="e9", ok=False, errors=[{"message": "no box"}]),
    ]
    report = store.import_sessions(write(tmp_path / "traces.jsonl", "".join(json.dumps(r) + "\n" for r in rows)))
    found = {(t.agent, t.group, t.status, t.reward) for t in store.trajectories()}
    assert found == {
        ("solver", "g7/solver", "completed", 1.5),
        ("critic", "g7/critic", "failed", 1.5),
        ("solver", "sums-k3", "timeout", None),
        ("solver", "k3", "truncated", 1.5),
        (None, "sums-k3", "failed", None),
    }
    assert (report.imported, report.failed) == (5, [])


def test_our_own_export_comes_back_token_for_token(tmp_path: Path) -> None:
    """Rows that were exported for verifiers and imported again have the same tokens, masks and logprobs."""
    with odograph.open("memory:") as store, odograph.open("memory:") as back:
        with store.record(task="2+2?", agent="solver", group="g") as run, run.step() as step:
            step.llm_call(model="m", messages=[{"role": "user", "content": "2+2?"}], response="four", prompt_token_ids=[1, 2, 3], token_ids=[4, 5], logprobs=[-0.5, -0.25])  # fmt: skip
            run.reward(1.0)
        store.export(tmp_path / "out", to="verifiers")
        back.import_sessions(tmp_path / "out")
        ours, theirs = odograph.samples(store.trajectories()), odograph.samples(back.trajectories())
        assert [(s.token_ids, s.mask, s.logprobs, s.reward) for s in theirs] == [
            (s.token_ids, s.mask, s.logprobs, s.reward) for s in ours
        ]
