"""Every check finds its defect, and nothing in a trajectory as near to it as possible that has none."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.quality import CHECKS, validate
from tests.cost import costs

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
        "start": {"id": "s", "trajectory": "t", "seq": 1, "time": 1_000, "agent": "a", "model": "m", "task": "x"},
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


SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5"


def judged(score: float | None, **extra: Any) -> dict[str, Any]:
    """A label that a judge gave."""
    about = {"id": "l0", "trajectory": "t", "seq": 10, "time": 10_000, "parent": "s", "technique": "q", "target": "c0"}
    return {**about, "rubric_hash": "r", "score": score, "extra": extra}


def prompted(text: str) -> Any:
    """The first prompt says something else."""
    return at("steps.0.llm_calls.0.request.messages", [{"role": "user", "content": text}])


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
    "empty_response": ([at("steps.1.llm_calls.0.response", "")], [at("steps.1.llm_calls.0.response", "x")]),
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
    "sampling": (
        [at("steps.0.llm_calls.0.logprobs_of", "raw"), at("steps.0.llm_calls.0.request.temperature", 0.6)],
        [at("steps.0.llm_calls.0.logprobs_of", "raw"), at("steps.0.llm_calls.0.request.temperature", 1.0)],
    ),
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
    "judge_range": (
        [at("labels.0", judged(1.5))],
        [at("labels.0", judged(1.0))],
    ),
    "secret": ([at("steps.0.contexts.0.data", {"v": SECRET})], [at("steps.0.contexts.0.data", {"v": SECRET[:12]})]),
    "hindsight_leak": (
        [at("start.metadata", {"ground_truth": "the heron in the attic"}), prompted("find the heron in the attic")],
        [at("start.metadata", {"ground_truth": "the heron in the attic"}), prompted("find the heron in the house")],
    ),
    "synthetic_text": (
        [at("steps.1.llm_calls.0.request.messages.1", {"role": "assistant", "content": "I wrote this", "weight": 1})],
        [at("steps.1.llm_calls.0.request.messages.1", {"role": "assistant", "content": "I wrote this", "weight": 0})],
    ),
    "missing_field": (
        [at("steps.0.llm_calls.0.request", {"messages": []})],
        [at("steps.0.llm_calls.0.request", {"prompt": "q"})],
    ),
    "prompt_unknown": (
        [at("start.metadata", {"source": {"format": "batches"}}), at("steps.0.llm_calls.0.request", None)],
        [at("start.metadata", {"source": {"format": "batches"}}), at("steps.0.llm_calls.0.request", {"prompt": "q"})],
    ),
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


def another(id: str, *changes: Any) -> dict[str, Any]:
    """The good trajectory under another id, one second later."""
    data = json.loads(json.dumps(apply(list(changes))).replace('"trajectory": "t"', f'"trajectory": "{id}"'))
    data["id"] = id
    for part in [
        data["start"],
        *(r for s in data["steps"] for v in s.values() for r in (v if isinstance(v, list) else [v]) if isinstance(r, dict)),
    ]:
        part["time"] += 1_000_000_000
    return data


GROUP, OTHER = at("start.group", "g"), at("steps.1.llm_calls.0.response", "another answer")
EARNED = [at("rewards.0.value", 0.5), at("end.metrics", {})]
#: code -> (trajectories that have the defect together, trajectories as near as possible that don't)
TOGETHER: dict[str, list[tuple[list[Any], list[Any]]]] = {
    "group": [
        ([apply([GROUP])], [apply([GROUP]), another("u", GROUP, OTHER, *EARNED)]),
        ([apply([GROUP]), another("u", GROUP, OTHER)], [apply([GROUP]), another("u", GROUP, OTHER, *EARNED)]),
        ([apply([GROUP]), another("u", GROUP, *EARNED, at("start.task", "y"))], [apply([GROUP]), another("u", GROUP, *EARNED)]),
        (
            [apply([GROUP]), another("u", GROUP, *EARNED, at("start.policy_version", 2))],
            [apply([GROUP]), another("u", GROUP, *EARNED)],
        ),
    ],
    "contamination": [
        ([apply([]), another("u")], [apply([]), another("u", OTHER)]),
        ([apply([GROUP]), another("u")], [apply([GROUP]), another("u", GROUP, at("steps.1.record.time", 7_500))]),
        (
            [apply([at("start.metadata", {"split": "train"})]), another("u", OTHER, at("start.tags", ["split:test"]))],
            [apply([at("start.metadata", {"split": "train"})]), another("u", OTHER, at("start.tags", ["split:train"]))],
        ),
    ],
}


@pytest.mark.parametrize(("code", "bad", "near"), [(code, *pair) for code, pairs in TOGETHER.items() for pair in pairs])
def test_what_is_wrong_with_several(code: str, bad: list[Any], near: list[Any]) -> None:
    """What no trajectory shows alone is found where they are looked at together, and only there."""
    found = [f for f in validate(bad).findings if f.code == code]
    assert len(found) == 1
    assert found[0].severity == CHECKS[code].severity
    assert [f for f in validate(near).findings if f.code == code] == []
    assert [f for t in bad for f in validate(t).findings if f.code == code] == []
    assert [f for f in validate(bad, ignore=[code]).findings if f.code == code] == []


def test_a_secret_is_never_printed() -> None:
    """Whatever check speaks of the place where a secret stands: no finding holds it, nor a piece of it."""
    places = [
        at("steps.0.contexts.0.data", {SECRET: {SECRET: SECRET}}),
        at("steps.0.actions.0.tool_call_id", SECRET),
        at("steps.0.llm_calls.0.response", asked('{"x": "' + SECRET)),
        at("steps.0.llm_calls.0.response", asked(json.dumps({SECRET: 1, "x": 1}), id=SECRET)),
        at("steps.0.contexts.0.provider", SECRET),
        at(
            "steps.1.llm_calls.0",
            {
                **spelled("do", "nt"),
                "response": {
                    "choices": [
                        {
                            "message": {"role": "assistant", "content": f"take {SECRET}"},
                            "token_ids": [3],
                            "logprobs": {"content": [{"token": SECRET[:30]}]},
                        }
                    ]
                },
            },
        ),
    ]
    for place in places:
        findings = validate(apply([place])).findings
        assert "error" in {f.severity for f in findings if f.code == "secret"}, place
        for finding in findings:
            assert not any(SECRET[i : i + 6] in finding.message + finding.path for i in range(len(SECRET) - 6)), finding


def test_what_is_only_likely_a_secret_is_a_warning() -> None:
    """A random-looking value in a field named `password` is a warning; a hash, a uuid and a word there are nothing."""
    likely = validate(apply([at("steps.0.contexts.0.data", {"password": "tr0ub4dor&3x"})])).findings
    assert [(f.code, f.severity) for f in likely] == [("secret", "warning")]
    fine = {
        "sha": "0a4d55a8d778e5022fab701977c5d840bbc486d0",
        "id": "01a1fd5a-9b91-76df-9c0a-76c6e5625842",
        "password": "see vault",
    }
    assert validate(apply([at("steps.0.contexts.0.data", fine)])).findings == []


def test_leaks_are_told_from_what_an_agent_may_know() -> None:
    """A judge may know the truth, an agent may find it out, a task may name it; a reward that came later may not be in a prompt."""
    truth, said = at("start.metadata", {"ground_truth": "the heron in the attic"}), prompted("find the heron in the attic")
    fine = [
        [truth, said, at("steps.0.llm_calls.0.purpose", "judge")],
        [truth, said, at("start.task", "where is the heron in the attic?")],
        [
            truth,
            at("steps.0.llm_calls.0.response", "the heron in the attic"),
            at("steps.1.llm_calls.0.request.messages.0", {"role": "user", "content": "so the heron in the attic?"}),
        ],
        [at("start.metadata", {"ground_truth": "42"}), prompted("is it 42?")],
    ]
    for changes in fine:
        assert [f for f in validate(apply(changes)).findings if f.code == "hindsight_leak"] == [], changes
    late = [at("rewards.0.value", 0.83712), at("end.metrics", {}), prompted("it will earn 0.83712 in the end")]
    assert [f.code for f in validate(apply(late)).errors] == ["hindsight_leak"]
    assert validate(apply([*late[:2], prompted("it will earn 0.837120001 in the end")])).errors == []


def test_judges() -> None:
    """Missing, out of the stated range, or twice is an error; a failed row, a repeat and another judge's score are none."""

    def codes(*labels: dict[str, Any]) -> list[str]:
        found = [{**label, "id": f"l{n}"} for n, label in enumerate(labels)]
        return [f.message for f in validate(apply([at("labels", found)])).findings]

    assert codes(judged(None)) == ["no score of the judge for q"]
    assert codes(judged(None, status="refused")) == []
    assert codes(judged(4.0, range=[1, 5])) == []
    assert codes(judged(0.5, range=[1, 5])) == ["0.5 for q; a score from 1 to 5 was expected"]
    assert codes(judged(0.5), judged(0.5)) == ["a second score for q, beside labels[0], that does not supersede it"]
    assert codes(judged(0.5), {**judged(0.5), "author": "another"}) == []
    assert codes(judged(0.5, repeat=0), judged(0.5, repeat=1)) == []


def test_a_sampled_token_without_a_logprob_is_told_before_training(store: odograph.Store, tmp_path: Path) -> None:
    """A null among the logprobs refuses the row of a format that trains on them; `validate` says so before, and SFT keeps the row."""
    with store.record(task="q", agent="a", model="m", group="g") as run:
        run.step().llm_call(model="m", response="x", prompt_token_ids=[1], token_ids=[2, 3, 4], logprobs=[-0.5, None, -0.25])
        run.reward(1.0)
    (found,) = odograph.validate(store.trajectory(run.id), profile="rl").findings
    assert (found.code, found.severity) == ("sampling", "warning")
    assert "choice 0 has no logprob for 1 of 3 sampled tokens" in found.message
    assert store.export(tmp_path / "rl", "trl-grpo", format="jsonl")["rows"] == 0
    assert store.export(tmp_path / "sft", "trl-sft", format="jsonl")["rows"] == 1


def test_notices_of_a_framework_are_no_answers() -> None:
    """An answer that says of itself that no model gave it must not count as the policy's."""
    made = at("steps.1.llm_calls.0.model", "<synthetic>")
    assert [f.code for f in validate(apply([made])).errors] == ["synthetic_text"]
    assert validate(apply([made, at("steps.1.llm_calls.0.purpose", "notice")])).errors == []


def test_every_check_has_its_pair_and_is_documented() -> None:
    """A check without a test, or without a line in docs/checks.md, fails here."""
    assert set(CHECKS) - {"malformed_json", "torn_line", "unreadable_export"} == set(CASES) | set(TOGETHER)
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
        found, cost = costs(lambda: validate(t))
        assert found.findings == []
        return cost

    assert validated(1000) < 40 * max(validated(100), 0.002)


def filled(store: odograph.Store, count: int) -> None:
    """Trajectories of which every tenth lacks a reward, every twentieth holds a secret, and one is there twice."""
    for n in range(count):
        with store.record(task={"n": n}, group=f"g{n // 4}") as run:
            with run.step({"n": n}) as step:
                step.llm_call(messages=[{"role": "user", "content": f"q {n}"}], response=f"a {n} {SECRET if n % 20 == 0 else ''}")
                step.action("go", {"n": n}, "ok", ok=True)
            if n % 10:
                run.reward(n % 3 / 2)
    whole = next(iter(store.trajectories())).to_dict()
    store.add(json.loads(json.dumps(whole).replace(whole["id"], "copy")))


def test_processes_find_what_one_finds(store: odograph.Store) -> None:
    """With workers the report is the same, finding by finding and in the same order; nothing of it depends on how many."""
    filled(store, 230)
    seen: list[int] = []
    one = store.validate(workers=1)
    three = store.validate(workers=3, progress=seen.append)
    assert three.to_dict() == one.to_dict()
    assert seen == list(range(1, 232))
    assert one.counts["secret"] == 13
    assert one.counts["contamination"] == 1
    assert one.counts["group"] >= 57
    assert store.validate(workers=2, profile="basic", ignore=["unterminated"]).valid
    assert "group" not in store.validate(limit=3).counts or all(
        "one trajectory" not in f.message for f in store.validate(limit=3).findings
    )
    with pytest.raises(odograph.InvalidInput, match="workers is a whole number from 1, not 0"):
        store.validate(workers=0)


def test_counts_are_whole_where_findings_are_cut() -> None:
    """A store with a million findings is reported in bounded memory: the counts are right all the same."""
    report = odograph.quality.validate_all([apply([at("rewards", [])])] * 20, across=False, most=3)
    assert (len(report.findings), report.counts["reward_missing"], report.checked) == (len(report.counts) * 3, 20, 20)
    assert report.error_count == 20 * len(validate(apply([at("rewards", [])])).errors)


def test_what_validate_takes(store: odograph.Store) -> None:
    """A trajectory, a dict, several, or a store; the seed's name does the same; anything else is refused in a sentence."""
    filled(store, 4)
    assert odograph.validate(store).counts == store.validate().counts
    assert odograph.validate(list(store.trajectories())).counts["contamination"] == 1
    result = odograph.validate_trajectory(next(iter(store.trajectories())))
    assert (result.valid, [f.code for f in result.errors]) == (False, ["secret"])
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError, match="validate\\(\\) takes a trajectory, several, a store"):
            odograph.validate(wrong)


def test_an_export_that_was_damaged(store: odograph.Store, tmp_path: Path) -> None:
    """A file of an export that is gone or changed since is found, and a task that went into two splits is told."""
    for n in range(8):
        with store.record(task="the same", group=f"g{n}") as run:
            run.step().llm_call(messages=[{"role": "user", "content": "q"}], response="a")
    store.export(tmp_path / "one", "hf", format="jsonl")
    assert odograph.validate(tmp_path / "one").valid
    manifest = store.export(tmp_path / "two", "hf", format="jsonl", splits={"train": 0.5, "test": 0.5})
    assert manifest["contamination"]
    assert {f.code for f in odograph.validate(tmp_path / "two").errors} == {"contamination"}
    (file,) = (tmp_path / "one" / "data").iterdir()
    file.write_bytes(file.read_bytes().replace(b'"a"', b'"b"'))
    assert [(f.code, f.message) for f in odograph.validate(tmp_path / "one").errors] == [
        ("unreadable_export", "its content is not what was written")
    ]
    file.unlink()
    assert [f.message for f in odograph.validate(tmp_path / "one").errors] == ["there is no such file"]
    assert [f.path for f in odograph.validate(tmp_path).errors] == ["manifest.json"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([SECRET, "ground_truth", "0.83712"]),
    lambda c: st.lists(c, max_size=4) | st.dictionaries(st.sampled_from(["ground_truth", "role", "content", "split", "range", "tool_calls", "x"]) | st.text(max_size=5), c, max_size=4),
    max_leaves=12,
)  # fmt: skip
PLACES = ["start.task", "start.metadata", "start.tags", "start.group", "start.policy_version", "steps.0.contexts.0.data", "steps.0.actions.0.result",
          "steps.0.llm_calls.0.request", "steps.0.llm_calls.0.request.messages", "steps.1.llm_calls.0.response", "steps.1.llm_calls.0.extra",
          "steps.0.llm_calls.0.tokens", "steps.0.edits.0.result", "rewards.0.value", "rewards.0.extra", "labels.0", "labels.0.extra",
          "labels.0.score", "end.metrics", "end.answer", "steps.0.record", "steps.0.llm_calls.0.model"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), ANY), min_size=1, max_size=3))
def test_no_json_anywhere_makes_a_check_raise(changes: list[tuple[str, Any]]) -> None:
    """Any JSON at any place of a trajectory, alone and together with others: checks find, they don't fail."""
    data = good()
    for path, value in changes:
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change took the place away
            at(path, value)(data)
    report = validate([data, copy.deepcopy(data), good()])
    assert not any(SECRET[:20] in f.message + f.path for f in report.findings)


def test_settings_in_pyproject(store: odograph.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """`[tool.odograph.validate]` of the nearest pyproject.toml is the command's default; a mistake in it is one sentence."""
    from odograph.cli import main

    filled(store, 4)
    project = tmp_path / "project" / "inner"
    project.mkdir(parents=True)
    settings_file = project.parent / "pyproject.toml"
    monkeypatch.chdir(project)
    command = ["--store", str(store.root), "validate"]
    assert main(command) == 1
    table = capsys.readouterr().out
    assert "secret" in table
    assert SECRET[:12] not in table
    settings_file.write_text('[tool.odograph.validate]\nprofile = "sft"\nignore = ["secret", "contamination"]\n')
    assert main(command) == 0
    assert main([*command, "--json", "--ignore", "empty"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["checked"] == 5
    for wrong, why in (("colour = 1", "has no 'colour'; there are: profile, ignore, tokenizer, workers"),
                       ("ignore = 5", "ignore in [tool.odograph.validate] is a list, not 5"),
                       ('profile = "x"', "no profile 'x'; there are: all, basic, sft, rl"),
                       ("a = = b", "can't be read")):  # fmt: skip
        settings_file.write_text(f"[tool.odograph.validate]\n{wrong}\n")
        assert main(command) == 2
        said = capsys.readouterr().err
        assert why in said
        assert said.count("\n") == 1


# --- what is no defect: found on real sessions and on what users write by hand ------------------------------------------


def by_hand(*calls: tuple[list[dict[str, Any]], Any], **more: Any) -> dict[str, Any]:
    """A trajectory as somebody writes it down, without ids, parents and times."""
    made = [{"request": {"messages": messages}, "response": answer} for messages, answer in calls]
    return {"task": "q", "agent": "a", "model": "m", "steps": [{"llm_calls": made}], **more}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_a_trajectory_by_hand_is_checked_as_store_add_would_write_it(store: odograph.Store) -> None:
    """No id, parent or time is asked of it; findings have the path of the record that they are about, before and after."""
    for data in (by_hand(([user("q")], "a")), by_hand(([user("q")], "a"), ([user("q"), user("r")], ""))):
        found = validate(data)
        assert found.valid, found.errors
        added = odograph.validate(store.trajectory(store.add(data)))
        assert [(f.code, f.path) for f in found.findings] == [(f.code, f.path) for f in added.findings]
    assert ("empty_response", "steps[0].llm_calls[1].response") in {(f.code, f.path) for f in found.findings}


@pytest.mark.parametrize("offered", [True, False])
def test_a_custom_tools_input_is_no_json(offered: bool) -> None:
    """Free text for a custom tool (Codex's apply_patch), in both OpenAI dialects; a function's arguments are still judged."""
    responses = {"output": [{"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin Patch"}]}
    chat = {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** Begin Patch"}}
    data = by_hand(
        ([user("q")], responses), ([user("r")], {"choices": [{"message": {"role": "assistant", "tool_calls": [chat]}}]})
    )
    first, second = (call["request"] for call in data["steps"][0]["llm_calls"])
    first["input"] = first.pop("messages")
    if offered:
        first["tools"] = [{"type": "custom", "name": "patch"}]
        second["tools"] = [{"type": "custom", "custom": {"name": "patch"}}]
    assert {f.code for f in validate(data).findings} <= {"call_without_result", "reward_missing"}
    assert validate(data, ignore=["reward_missing"]).findings == []  # the one id; the last call ends the run
    responses["output"][0] |= {"type": "function_call", "arguments": "*** Begin Patch"}
    assert "tool_arguments" in {f.code for f in validate(data).findings}


def test_a_tool_without_a_schema_was_offered_all_the_same() -> None:
    data = by_hand(([user("q")], asked("{}")))
    data["steps"][0]["llm_calls"][0]["request"]["tools"] = [{"type": "function", "function": {"name": "f"}}]
    assert "tool_arguments" not in {f.code for f in validate(data).findings}
    data["steps"][0]["llm_calls"][0]["request"]["tools"][0]["function"]["name"] = "g"
    assert "tool_arguments" in {f.code for f in validate(data).findings}


def test_a_prompt_may_say_what_the_agent_had_read() -> None:
    """Retrieval, or the result of an action, that holds the answer is no leak; a field read that is hidden itself is one."""
    prompt = ([user("Read: the capital is Paris. Now answer.")], "Paris")
    hidden = {"metadata": {"ground_truth": "the capital is Paris"}}
    assert [f.code for f in validate(by_hand(prompt, **hidden)).errors] == ["hindsight_leak"]
    for read in (
        {"contexts": [{"provider": "kb", "purpose": "p", "data": {"passages": ["They say the capital is Paris."]}}]},
        {"actions": [{"name": "search", "result": "the capital is Paris", "ok": True}]},
    ):
        data = by_hand(prompt, **hidden)
        data["steps"].insert(0, read)
        assert validate(data).valid, read
    data["steps"][0] = {"contexts": [{"provider": "kb", "purpose": "p", "data": {"outcome": "the capital is Paris"}}]}
    assert [f.code for f in validate(data).errors] == ["hindsight_leak"]


def test_a_total_that_a_dict_states_is_compared_with_its_rewards(store: odograph.Store) -> None:
    """The rewards count, of the whole or of steps; another total beside them is found, and the one that `to_dict` gives is none."""
    data = by_hand(([user("q")], "a"), rewards=[{"name": "a", "value": 0.5}, {"name": "b", "value": 0.25}])
    assert [(f.code, f.path) for f in validate({**data, "reward": 1.0}).findings] == [("reward_sum", "reward")]
    assert validate({**data, "reward": 0.75}).findings == []
    assert validate(store.trajectory(store.add(data)).to_dict()).findings == []
    data = by_hand(([user("q")], "a"), reward=1.0)
    assert validate(data).findings == []
    data["steps"][0]["reward"] = 0.3
    assert [f.code for f in validate(data).findings] == ["reward_sum"]


def test_one_defect_is_found_once() -> None:
    """NaN in an answer is one finding."""
    found = validate(by_hand(([user("q")], {"price": math.nan}), reward=1.0)).findings
    assert [(f.code, f.path) for f in found] == [("lossy_value", "steps[0].llm_calls[0].response.price")]


def test_rollouts_by_hand_that_come_out_the_same_are_no_copies() -> None:
    """Their times are not known: that they are equal says nothing. In another group they are copies."""
    one, other = (by_hand(([user("q")], "a"), group="g", rewards=[{"value": float(n)}]) for n in range(2))
    assert validate([one, other]).findings == []
    assert "contamination" in {f.code for f in validate([one, {**other, "group": "h"}]).errors}


def test_a_group_with_one_reward_has_nothing_to_compare() -> None:
    members = [by_hand(([user("q")], f"a{n}"), group="g", rewards=[{"value": 1.0}] if n == 0 else []) for n in range(3)]
    (found,) = [f for f in validate(members).findings if f.code == "group"]
    assert "one of its 3 trajectories has a reward" in found.message
    members[1]["rewards"] = [{"value": 0.0}]
    assert "group" not in {f.code for f in validate(members).findings}


def test_a_simulated_user_puts_one_task_in_many_words(tmp_path: Path) -> None:
    """Trials of a tau-bench task are of one task, however the user began; another task in the group is found."""

    def trials(*instructions: str) -> str:
        return json.dumps(
            [
                {
                    "task_id": 1,
                    "trial": n,
                    "reward": float(n),
                    "info": {"task": {"user_id": "u", "instruction": said, "actions": []}},
                    "traj": [user(f"Hello {n}"), {"role": "assistant", "content": f"Hi {n}"}],
                }
                for n, said in enumerate(instructions)
            ]
        )

    (tmp_path / "runs.json").write_text(trials("Change my flight.", "Change my flight."))
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path, format="tau-bench").imported == 2
        assert len({t.group for t in store.trajectories()}) == 1
        assert "group" not in store.validate().counts


def test_a_call_without_an_answer_is_found() -> None:
    """What was asked and never answered is pointed out, unless an error says why."""
    data = by_hand(([user("q")], None))
    assert ("empty_response", "steps[0].llm_calls[0].response") in {(f.code, f.path) for f in validate(data).warnings}
    data["steps"][0]["llm_calls"][0]["error"] = "the model is gone"
    assert "empty_response" not in {f.code for f in validate(data).findings}


def test_what_is_no_trajectory_is_said_to_be_none() -> None:
    """Among several, too; and what is wrong with a dict as a whole is not told as a path."""
    with pytest.raises(TypeError, match="takes trajectories; not int"):
        validate([1])
    for data in ({"id": "x"}, {"task": "q", "start": {"trajectory": "a"}, "steps": [{"record": {"trajectory": "b"}}]}):
        (found,) = validate(data).findings
        assert (found.code, found.path) == ("schema", "")
    for action in (5, {"name": "x", "unknown": 1, "extra": True}):
        assert [f.path for f in validate({"task": "q", "steps": [{"actions": [action]}]}).findings] == ["steps[0].actions[0]"]


def sent(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A trajectory whose only call sent this history."""
    return {**by_hand((list(messages), "done")), "rewards": [{"value": 1.0}], **more}


CALLING = asked()["choices"][0]["message"]
RESULT = {"role": "tool", "tool_call_id": "c", "content": "1"}


def test_a_result_beside_calls_whose_answers_nobody_knows_is_no_fault() -> None:
    """Telemetry may have figures of calls alone: which tools they asked for is not known. Where all answers are known, it is."""
    action = {"name": "sh", "arguments": {}, "result": "x", "tool_call_id": "t1"}
    for answer, found in (({}, 0), ({"response": "text"}, 1)):
        step = {"llm_calls": [{"model": "m", "request": {"messages": [user("q")]}, **answer}], "actions": [action]}
        assert validate({"task": "q", "steps": [step]}).counts.get("result_without_call", 0) == found


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([user("q"), CALLING, RESULT], None),
        ([user("q"), CALLING, {"role": "tool", "content": "1"}], None),  # without an id: of the call that waits
        ([user("q"), CALLING, RESULT, CALLING, RESULT], None),  # some backends give one id again and again
        ([user("q"), CALLING, user("r")], "call_without_result"),
        ([user("q"), CALLING], "call_without_result"),
        ([user("q"), CALLING, RESULT, RESULT], "result_without_call"),
        ([user("q"), {"role": "robot", "content": "x"}], "role_order"),
        ([{"content": "x"}], "role_order"),
    ],
)
def test_a_history_that_an_api_would_refuse_is_found(messages: list[dict[str, Any]], code: str | None) -> None:
    """Calls that nothing answers, results given twice, and roles that no dialect knows, in what was sent; as warnings."""
    found = validate(sent(*messages)).findings
    assert [(f.code, f.severity) for f in found] == ([(code, "warning")] if code else [])


def test_what_a_person_typed_while_a_tool_worked_is_no_missing_result() -> None:
    """A transcript has what happened in its order: the result of an imported session may stand behind the person's words. A
    history that was sent like that is refused by APIs."""
    history = ([user("q"), CALLING, user("r"), RESULT], "done")
    reward = {"rewards": [{"value": 1.0}]}
    assert "call_without_result" in validate({**by_hand(history), **reward}).counts
    imported = {**by_hand(history), **reward, "metadata": {"source": {"format": "claude-code"}}}
    assert "call_without_result" not in validate(imported).counts
    unanswered = {**imported, **by_hand((history[0][:-1], "done"))}
    assert "call_without_result" in validate(unanswered).counts


@pytest.mark.parametrize(("id", "found"), [("ws_1", 0), ("call_1", 1)])
def test_a_search_that_the_servers_ran_needs_no_result(id: str, found: int) -> None:
    """OpenAI's own `web_search` has what it found in the answer; a tool of the user's with this name has a result."""
    call = {"id": id, "type": "function", "function": {"name": "web_search", "arguments": "{}"}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call]}
    data = {**by_hand(([user("q")], answer), ([user("q"), answer, user("r")], "done")), "rewards": [{"value": 1.0}]}
    assert validate(data).counts.get("call_without_result", 0) == found


@pytest.mark.parametrize(("status", "found"), [("completed", 0), ("truncated", 0), ("failed", 1)])
def test_the_call_that_ends_a_run_needs_no_result(status: str, found: int) -> None:
    """`finish` and `submit` are answered by no design; a run that failed may have failed in the tool."""
    data = {**by_hand(([user("q")], asked())), "rewards": [{"value": 1.0}], "status": status}
    assert validate(data).counts.get("call_without_result", 0) == found
    data["steps"].append({"llm_calls": [{"model": "m", "messages": [user("r")], "response": "x"}]})
    assert validate(data).counts["call_without_result"] == 1  # it was not the last


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (at("steps.0.llm_calls.0.model", None), "missing_field"),
        (at("steps.0.llm_calls.0.request", None), "missing_field"),
        (at("steps.0.llm_calls.0.request", {"messages": [user("  ")]}), "missing_field"),
        (at("steps.0.llm_calls.0.request", {"messages": [{"role": "system", "content": "Trade."}]}), "missing_field"),
        (at("steps.0.llm_calls.0.request.temperature", float("nan")), "lossy_value"),
        (at("steps.0.actions.0.arguments", {"size": float("inf")}), "lossy_value"),
        (at("steps.0.actions.0.result", float("nan")), "lossy_value"),
        (at("steps.0.actions.0.ok", None), "missing_field"),
        (at("steps.0.llm_calls.0.response", None), "empty_response"),
        (at("steps.0.llm_calls.0.response", {"choices": []}), "empty_response"),
        (at("steps.0.llm_calls.0.response", {}), "empty_response"),
        (at("steps.0.contexts.0.purpose", None), "context_purpose"),
    ],
)
def test_what_the_page_requires_of_a_decision_is_asked_for(change: Any, code: str) -> None:
    """Model, prompts, response, purpose and success, of a trajectory by hand."""
    data: dict[str, Any] = {
        "task": "t",
        "agent": "a",
        "rewards": [{"value": 1.0}],
        "steps": [
            {
                "contexts": [{"provider": "kb", "purpose": "why", "data": 1}],
                "llm_calls": [{"model": "m", "request": {"messages": [user("q")]}, "response": "r"}],
                "actions": [{"name": "A", "arguments": {}, "result": 0, "ok": True}],
            }
        ],
    }
    assert validate(data).findings == []
    change(data)
    assert [f.code for f in validate(data).findings] == [code]


NOW = 1_790_000_000


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ((NOW * 10**9, (NOW + 1) * 10**9), None),
        ((NOW * 1000, NOW * 1000 + 1), "milliseconds"),
        ((NOW, NOW + 1), "seconds"),
        ((NOW * 10**6, NOW * 10**6 + 1), "microseconds"),
        ((NOW * 10**9, 4_000_000_000 * 10**9), "future"),
        (((NOW + 1) * 10**9, NOW * 10**9), "is before"),
    ],
)
def test_times_that_can_not_be_are_found(times: tuple[int, int], said: str | None) -> None:
    """Other units than nanoseconds, the future, and steps that go backwards."""
    call = {"model": "m", "messages": [user("q")], "response": "r"}
    steps = [{"llm_calls": [{**call, "time": time, "seq": n}]} for n, time in enumerate(times)]
    found = [f for f in validate({"task": "t", "agent": "a", "reward": 1.0, "steps": steps}).findings if f.code == "time_order"]
    assert all(said is not None and said in f.message for f in found), found
    assert bool(found) is (said is not None)
    steps = [{"llm_calls": [{**call, "source_time": time}], "actions": [{"name": "a"}]} for time in times]
    told = validate({"task": "t", "agent": "a", "reward": 1.0, "steps": steps}).findings
    assert ("time_order" in [f.code for f in told]) is (said is not None)


@pytest.mark.parametrize(
    ("writers", "indexes", "found"),
    [
        ("ab", (1, 0), []),  # the process that took the first index wrote its step last
        ("ab", (0, 2), []),  # one was killed that had taken an index
        ("ab", (0, 0), ["step_order"]),
        ("aa", (1, 0), ["step_order", "time_order"]),
        ("aa", (0, 2), ["step_order"]),
    ],
)
def test_steps_of_several_processes_are_in_the_order_of_their_indexes(
    store: odograph.Store, writers: str, indexes: tuple[int, int], found: list[str]
) -> None:
    """Each process has its own clock, and takes an index before it writes the step. Steps of one process are in order."""
    with store.record(task="t", agent="a", model="m") as run:
        for _ in writers:
            with run.step() as step:
                step.llm_call(messages=[{"role": "user", "content": "q"}], response="r")
        run.reward(1.0)
    records, number = [], -1
    for record in store.trajectory(run.id).complete_records():
        if record.step is not None:
            number += isinstance(record, odograph.types.StepStart)
            record = msgspec.structs.replace(record, step=indexes[number], writer=writers[number])
        records.append(record)
    findings = validate(odograph.trajectory.Trajectory(run.id, records)).findings
    assert sorted({f.code for f in findings} & {"step_order", "time_order"}) == found, findings


@pytest.mark.parametrize(
    ("parents", "begun", "found"), [((0, 1), False, []), ((0, 0), True, []), ((0, 0), False, ["time_order"])]
)
def test_one_agent_that_works_for_two_at_once_is_no_disorder(
    store: odograph.Store, parents: tuple[int, int], begun: bool, found: list[str]
) -> None:
    """Steps of one agent inside of two actions go on side by side. Inside of one action they begin one after the other, and may be
    under way side by side, as tasks are that are gathered."""
    with store.record(task="t", agent="boss", model="m") as run:
        with run.step() as step:
            outer = [step.action("helper", {}, "r", ok=True) for _ in range(2)]
        for n, late in ((0, 1), (1, 0)):
            with run.step() as step:
                step.llm_call(messages=[{"role": "user", "content": f"{n}"}], response=str(late))
        run.reward(1.0)
    whole = store.trajectory(run.id).to_dict()
    first, second = whole["steps"][1:]
    for part, parent in ((first, parents[0]), (second, parents[1])):
        part["record"] |= {"agent": "helper", "parent": outer[parent]}
        part["llm_calls"][0]["agent"] = "helper"
        if not begun:  # it is not known when
            part["record"]["time"] = 0
    earlier, later = first["llm_calls"][0], second["llm_calls"][0]
    earlier["time"], earlier["seq"] = later["time"] + 1, later["seq"] + 1  # the earlier step's answer came later
    assert sorted({f.code for f in validate(whole).findings if f.code == "time_order"}) == found
