"""Every check finds its defect, and nothing in a trajectory as near to it as possible that has none."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.quality import CHECKS, validate

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {"x": {"type": "integer"}, "k": {"enum": ["a"]}},
                "required": ["x"],
                "additionalProperties": False,
            },
        },
    }
]


def asked(arguments: str = '{"x": 1}', id: str = "c") -> dict[str, Any]:
    return {
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}],
                }
            }
        ]
    }


def good() -> dict[str, Any]:
    """A trajectory in which no check finds anything."""
    user = {"role": "user", "content": "q"}
    return {
        "id": "t",
        "start": {"id": "s", "trajectory": "t", "seq": 1, "time": 1_000, "agent": "a", "task": "x"},
        "steps": [
            {
                "index": 0,
                "record": {"id": "r0", "trajectory": "t", "seq": 2, "time": 2_000, "parent": "s", "step": 0},
                "contexts": [
                    {
                        "id": "x0",
                        "trajectory": "t",
                        "seq": 3,
                        "time": 3_000,
                        "parent": "r0",
                        "provider": "kb",
                        "purpose": "why",
                        "data": {"v": 1.5},
                        "duration": 5,
                    }
                ],
                "llm_calls": [
                    {
                        "id": "c0",
                        "trajectory": "t",
                        "seq": 4,
                        "time": 4_000,
                        "parent": "r0",
                        "request": {"messages": [user], "tools": TOOLS},
                        "response": asked(),
                        "completion_tokens": 2,
                        "tokens": [{"token_ids": [1, 2], "logprobs": [-1.0, -1.0]}],
                    }
                ],
                "actions": [
                    {
                        "id": "a0",
                        "trajectory": "t",
                        "seq": 5,
                        "time": 5_000,
                        "parent": "r0",
                        "name": "f",
                        "result": "1",
                        "ok": True,
                        "tool_call_id": "c",
                        "llm_call": "c0",
                    }
                ],
                "edits": [
                    {
                        "id": "e0",
                        "trajectory": "t",
                        "seq": 6,
                        "time": 6_000,
                        "parent": "r0",
                        "base": "c0",
                        "result": [{"run": "literal", "text": "x"}],
                    }
                ],
            },
            {
                "index": 1,
                "record": {"id": "r1", "trajectory": "t", "seq": 7, "time": 7_000, "parent": "s", "step": 1},
                "llm_calls": [
                    {
                        "id": "c1",
                        "trajectory": "t",
                        "seq": 8,
                        "time": 8_000,
                        "parent": "r1",
                        "request": {
                            "messages": [
                                user,
                                asked()["choices"][0]["message"],
                                {"role": "tool", "tool_call_id": "c", "content": "1"},
                            ]
                        },
                        "response": "done",
                        "finish_reason": "stop",
                    }
                ],
            },
        ],
        "rewards": [{"id": "w0", "trajectory": "t", "seq": 9, "time": 9_000, "parent": "s", "value": 1.0}],
        "labels": [{"id": "l0", "trajectory": "t", "seq": 10, "time": 10_000, "parent": "s", "technique": "q", "target": "c0"}],
        "end": {"id": "end", "trajectory": "t", "seq": 11, "time": 11_000, "parent": "s", "metrics": {"reward": 1.0}},
    }


def at(path: str, value: Any) -> Any:
    """A change of the good trajectory: `value` at a path such as steps.0.actions.0.ok; `...` removes."""

    def change(t: dict[str, Any]) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
        place: Any = t
        for p in parents:
            place = place[p]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


PROMPT = at("steps.0.llm_calls.0.prompt_token_ids", [7, 8])


def second(**more: Any) -> dict[str, Any]:
    return {**copy.deepcopy(good()["steps"][1]["llm_calls"][0]), **more}


def spelled(*pieces: str) -> dict[str, Any]:
    """The second call, with the text of each token beside it."""
    content = [{"token": p, "logprob": -1.0} for p in pieces]
    choice = {"message": {"role": "assistant", "content": "done"}, "token_ids": [3, 4], "logprobs": {"content": content}}
    return second(response={"choices": [choice]})


def asked_with(prompt: list[int]) -> dict[str, Any]:
    """The second call, with token ids."""
    return second(prompt_token_ids=prompt, tokens=[{"token_ids": [5], "logprobs": [-1.0]}])


#: code -> (changes that make the defect, changes as near as possible that don't)
CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "schema": ([at("steps.0.actions.0.name", "")], [at("steps.0.actions.0.name", "g")]),
    "duplicate_id": ([at("steps.0.actions.0.id", "c1")], [at("steps.0.actions.0.id", "c2")]),
    "empty": ([at("steps", [])], [at("steps", [good()["steps"][0]]), at("labels", [])]),
    "unterminated": ([at("end", None)], [at("end.status", "truncated")]),
    "step_order": ([at("steps.1.index", 2), at("steps.1.record.step", 2)], [at("steps.1.index", 1)]),
    "time_order": ([at("steps.1.record.time", 500)], [at("steps.1.record.time", 7_001)]),
    "duration": ([at("steps.0.contexts.0.duration", -1)], [at("steps.0.contexts.0.duration", 0)]),
    "dangling_reference": ([at("steps.0.actions.0.llm_call", "nope")], [at("steps.0.actions.0.llm_call", "c1")]),
    "orphan_edit": ([at("steps.0.edits.0.base", "a0")], [at("steps.0.edits.0.base", "c1")]),
    "lossy_value": (
        [at("steps.0.contexts.0.data", {"v": {"$odograph": "repr", "type": "x.Y", "value": "<Y>"}})],
        [at("steps.0.contexts.0.data", {"v": {"odograph": "repr"}})],
    ),
    "context_purpose": ([at("steps.0.contexts.0.purpose", None)], [at("steps.0.contexts.0.purpose", "p")]),
    "call_without_result": (
        [at("steps.0.actions", []), at("steps.1.llm_calls.0.request", {"messages": []})],
        [at("steps.0.actions", [])],
    ),
    "result_without_call": ([at("steps.0.actions.0.tool_call_id", "other")], [at("steps.0.actions.0.tool_call_id", None)]),
    "tool_arguments": (
        [at("steps.0.llm_calls.0.response", asked('{"x": "1"}'))],
        [at("steps.0.llm_calls.0.response", asked('{"x": 1, "k": "a"}'))],
    ),
    "role_order": (
        [at("steps.1.llm_calls.0.request.messages.1", {"role": "user", "content": "?"})],
        [at("steps.1.llm_calls.0.request.messages.0", {"role": "system", "content": "?"})],
    ),
    "truncated_response": (
        [at("steps.1.llm_calls.0.finish_reason", "length")],
        [at("steps.1.llm_calls.0.finish_reason", "tool_calls")],
    ),
    "empty_response": ([at("steps.1.llm_calls.0.response", "")], [at("steps.1.llm_calls.0.response", " ")]),
    "usage_mismatch": ([at("steps.0.llm_calls.0.completion_tokens", 3)], [at("steps.0.llm_calls.0.completion_tokens", None)]),
    "token_length": (
        [at("steps.0.llm_calls.0.tokens.0.logprobs", [-1.0])],
        [at("steps.0.llm_calls.0.tokens.0.logprobs", None)],
    ),
    "token_value": (
        [at("steps.0.llm_calls.0.tokens.0.logprobs", [-1.0, 0.5])],
        [at("steps.0.llm_calls.0.tokens.0.logprobs", [-1.0, 0.0])],
    ),
    "ids_missing": ([at("steps.0.llm_calls.0.completion_tokens", 3)], [at("steps.0.llm_calls.0.completion_tokens", 1)]),
    "decode_mismatch": ([at("steps.1.llm_calls.0", spelled("do", "nt"))], [at("steps.1.llm_calls.0", spelled("do", "ne"))]),
    "mask_scope": (
        [at("steps.0.llm_calls.0.prompt_token_ids", [1, 2])],
        [at("steps.0.llm_calls.0.prompt_token_ids", [1, 3])],
    ),
    "prefix_break": (
        [at("steps.1.llm_calls.0", asked_with([7, 8, 1, 9])), at("steps.0.edits", []), PROMPT],
        [at("steps.1.llm_calls.0", asked_with([7, 8, 1, 2, 9])), at("steps.0.edits", []), PROMPT],
    ),
    "stale_tokens": (
        [
            at("steps.0.edits.0.result", [{"run": "kept", "start": 1, "stop": 2}]),
            at("steps.1.llm_calls.0", asked_with([7, 8, 2])),
            PROMPT,
        ],
        [
            at("steps.0.edits.0.result", [{"run": "kept", "start": 0, "stop": 1}]),
            at("steps.1.llm_calls.0", asked_with([7, 8, 1])),
            PROMPT,
        ],
    ),
    "reward_nonfinite": (
        [at("rewards.0.value", {"$odograph": "float", "value": "nan"})],
        [at("rewards.0.value", 0.0), at("end.metrics", {})],
    ),
    "reward_missing": ([at("rewards", []), at("end.metrics", {})], [at("rewards.0.value", 0), at("end.metrics", {})]),
    "reward_sum": ([at("end.metrics.reward", 2)], [at("end.metrics.reward", 1)]),
}


def apply(changes: list[Any]) -> dict[str, Any]:
    trajectory = copy.deepcopy(good())
    for change in changes:
        change(trajectory)
    return trajectory


def test_the_good_one_is_good() -> None:
    """Where nothing is wrong nothing is found, in any profile."""
    for profile in ("all", "basic", "sft", "rl"):
        assert validate(good(), profile=profile).findings == []


@pytest.mark.parametrize("code", CASES)
def test_a_check_finds_its_defect_and_not_its_neighbour(code: str) -> None:
    """The finding has the code, the severity of the table, a path into the trajectory, and a sentence."""
    bad, near = (validate(apply(changes)) for changes in CASES[code])
    found = [f for f in bad.findings if f.code == code]
    assert found, bad.findings
    assert {f.severity for f in found} == {CHECKS[code].severity}
    assert all(f.message and f.trajectory == "t" for f in found)
    assert [f for f in near.findings if f.code == code] == []
    assert validate(apply(CASES[code][0]), ignore=[code]).findings == [f for f in bad.findings if f.code != code]


def test_every_check_has_its_pair_and_is_documented() -> None:
    """A check without a test, or without a line in docs/checks.md, fails here."""
    assert set(CHECKS) - {"malformed_json", "torn_line"} == set(CASES)
    text = (Path(__file__).parent.parent.parent / "docs" / "checks.md").read_text()
    for check in CHECKS.values():
        assert f"| `{check.code}` | {check.severity} |" in text, check.code


def test_damage_in_the_store_is_found(store: odograph.Store) -> None:
    """A damaged journal line is an error with file and offset; a torn end, which was never acknowledged, a warning."""
    with store.record(task="x") as run:
        run.step().reward(1.0)
    (file,) = (store.root / "journal").glob("*")
    store.close()
    with file.open("ab") as out:
        out.write(b"{broken}\n" + b'{"kind":"note","trajec')
    with odograph.open(store.root) as again:
        codes = {f.code: f for f in again.validate().findings}
        assert codes["malformed_json"].path == f"{file.name}:{file.stat().st_size - 31}"
        assert codes["torn_line"].severity == "warning"


def test_profiles_and_mistakes() -> None:
    """A profile narrows and sharpens; a code or profile that does not exist is answered with those that do."""
    bare = apply(CASES["reward_missing"][0])
    assert validate(bare).valid
    assert not validate(bare, profile="rl").valid
    assert validate(bare, profile="basic").findings == []
    with pytest.raises(odograph.InvalidInput, match="no profile 'x'; there are: all, basic, sft, rl"):
        validate(bare, profile="x")
    with pytest.raises(odograph.InvalidInput, match="no check 'x'; there are: "):
        validate(bare, ignore=["x"])
    report = validate({"id": "t", "steps": 5})
    assert [(f.code, f.path) for f in report.errors] == [("schema", "steps")]
    assert set(report.to_dict()["findings"][0]) == {"code", "severity", "path", "message", "trajectory"}


JUNK = st.sampled_from(
    [None, 5, "x", [], {}, [None], {"role": 5}, float("nan"), True, [[]], {"tool_calls": [5]}, {"$odograph": []}]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["observation", "request", "response", "result", "arguments", "data", "messages", "usage", "tools"]),
            JUNK,
            JUNK,
        ),
        max_size=6,
    )
)
def test_no_content_makes_it_raise(what: list[tuple[str, Any, Any]]) -> None:
    """Checks look at anything; they find, they don't fail."""
    with odograph.open("memory:") as store:
        with store.record(task="x") as run:
            for kind, a, b in what:
                step = run.step(a)
                if kind in ("request", "messages", "tools", "usage"):
                    step.llm_call(request={"messages": [a, b] if kind == "messages" else b, "tools": [a]}, response=b, usage=a)
                elif kind == "response":
                    step.llm_call(
                        messages=[{"role": "user", "content": a}], response={"choices": [{"message": b, "finish_reason": a}]}
                    )
                else:
                    step.action("a", a, b, tool_call_id="x")
                    step.context("p", b)
        for t in store.trajectories():
            validate(t)
            validate(json.loads(json.dumps(t.to_dict())))


def test_a_long_history_is_looked_at_once(store: odograph.Store) -> None:
    """A thousand calls that resend a growing history: what was checked at one is not checked again at the next."""
    import time

    history: list[dict[str, str]] = []

    def validated(steps: int) -> float:
        with store.record(task="x") as run:
            history.clear()
            for n in range(steps):
                history.append({"role": "user", "content": f"{n} " * 100})
                run.step().llm_call(model="m", messages=history, response="r")
            run.reward(1.0)
        t = store.trajectory(run.id)
        for call in t.llm_calls:
            assert call.record
        start = time.perf_counter()
        assert validate(t).findings == []
        return time.perf_counter() - start

    assert validated(1000) < 40 * max(validated(100), 0.002)
