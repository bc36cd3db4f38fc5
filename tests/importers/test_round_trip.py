"""What an export writes is imported again by the importer of its format, and means the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import odograph

TOOLS = [{"type": "function", "function": {"name": "dig", "description": "digs", "parameters": {"type": "object"}}}]
BRIEF = {"role": "system", "content": "Be brief"}
ASKED = {"role": "user", "content": "Dig"}


def asks(n: int) -> dict[str, Any]:
    call = {"id": f"t{n}", "type": "function", "function": {"name": "dig", "arguments": json.dumps({"m": n})}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


@pytest.fixture(scope="module")
def recorded() -> odograph.Store:
    """A group of three runs of two calls and a tool each, with token ids and rewards."""
    store = odograph.open("memory:")
    for n in range(3):
        with store.record(task="Dig", agent="digger", model="m", group="g", policy_version=7) as run:
            with run.step("Dig") as step:
                ids: dict[str, Any] = {"prompt_token_ids": [1, 2, 3], "token_ids": [4, 5], "logprobs": [-0.5, -0.25]}
                call = step.llm_call(
                    model="m", messages=[BRIEF, ASKED], response=asks(n), tools=TOOLS, params={"temperature": 1.0}, **ids
                )
                step.action("dig", {"m": n}, f"bone {n}", ok=True, llm_call=call, tool_call_id=f"t{n}")
            with run.step() as step:
                told = [BRIEF, ASKED, asks(n), {"role": "tool", "tool_call_id": f"t{n}", "content": f"bone {n}"}]
                ids = {"prompt_token_ids": [1, 2, 3, 4, 5, 6, 7], "token_ids": [8, 9 + n], "logprobs": [-0.5, -0.75]}
                step.llm_call(model="m", messages=told, response=f"A bone {n}", tools=TOOLS, params={"temperature": 1.0}, **ids)
            run.reward(n / 2, name="found")
            run.finish(f"A bone {n}")
    return store


class Says(NamedTuple):
    """What a format can say: of a trajectory, whether it has these."""

    importer: str
    group: bool = False
    reward: bool = True
    ids: bool = False  #: the token ids of answers
    prompt_ids: bool = False
    policy: bool = False
    model: bool = False
    tools: bool = True
    options: dict[str, Any] | None = None


#: Formats with an importer of their own. `hf` and the preferences are told apart below.
FORMATS = {
    "openai": Says("openai-chat", reward=False),
    "axolotl": Says("openai-chat", group=True),
    "nemo-rl": Says("openai-chat", group=True),
    "ms-swift": Says("openai-chat", group=True),
    "unsloth": Says("sharegpt", group=True),
    "llama-factory": Says("sharegpt", group=True),
    "art": Says("art", group=True, ids=True, policy=True),
    "verifiers": Says("verifiers-traces", True, True, True, True, True, True),
    "agent-lightning": Says("agent-lightning", True, True, True, True, True, True, options={"events": True}),
    "otel": Says("spans", True, True, True, True, True, True),
    "atif": Says("atif", True, True, True, True, True, True),
    "jsonl": Says("odograph", True, True, True, True, True, True),
    "parquet": Says("odograph", True, True, True, True, True, True),
}


def ids_of(call: Any) -> tuple[Any, Any]:
    choice = call.choices[0]
    return choice.token_ids, choice.logprobs


def shape(messages: list[dict[str, Any]]) -> list[Any]:
    """What messages say: the ids of tool calls and notations of arguments aside."""
    return [
        (
            m["role"],
            m.get("content") or None,
            [
                (
                    c["function"]["name"],
                    c["function"]["arguments"]
                    if isinstance(c["function"]["arguments"], dict)
                    else json.loads(c["function"]["arguments"]),
                )
                for c in m.get("tool_calls") or []
            ],
        )
        for m in messages
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_exported_comes_back(recorded: odograph.Store, tmp_path: Path, name: str) -> None:
    """Prompts, tools, answers, actions with their results, and the rewards, ids and versions that a format can say are the same."""
    says = FORMATS[name]
    recorded.export(tmp_path / "out", to=name, **(says.options or {}))
    with odograph.open("memory:") as back:
        report = back.import_sessions(tmp_path / "out")
        assert (report.failed, {t["format"] for t in report.trajectories}) == ([], {says.importer})
        found = sorted(back.trajectories(), key=lambda t: t.llm_calls[-1].text)
        assert len(found) == 3
        for ours, theirs in zip(recorded.trajectories(), found, strict=True):
            assert theirs.task == ours.task
            assert [shape(c.messages) for c in theirs.llm_calls] == [shape(c.messages) for c in ours.llm_calls]
            assert [shape([c.choices[0].message]) for c in theirs.llm_calls] == [
                shape([c.choices[0].message]) for c in ours.llm_calls
            ]
            assert [(a.name, a.arguments, a.result, a.step) for a in theirs.actions] == [
                (a.name, a.arguments, a.result, a.step) for a in ours.actions
            ]
            assert [s.observation for s in theirs.steps] == ["Dig", None]
            assert theirs.reward == (ours.reward if says.reward else None)
            assert theirs.start.group == ("g" if says.group else None)
            assert theirs.start.policy_version == (7 if says.policy else None)
            assert theirs.start.model == ("m" if says.model else None)
            if says.tools:
                assert [[t["function"]["name"] for t in c.tools] for c in theirs.llm_calls] == [["dig"], ["dig"]]
            if says.ids:
                assert [ids_of(c) for c in theirs.llm_calls] == [ids_of(c) for c in ours.llm_calls]
            if says.prompt_ids:
                assert [list(c.prompt_token_ids) for c in theirs.llm_calls] == [list(c.prompt_token_ids) for c in ours.llm_calls]
            assert (
                odograph.validate(theirs, ignore=["reward_missing", "decode_mismatch", "ids_missing", "sampling"]).findings == []
            )


@pytest.mark.parametrize("name", ["trl-kto", "rft"])
def test_answers_that_are_exported_alone_come_back(recorded: odograph.Store, tmp_path: Path, name: str) -> None:
    """A row for each answer: its prompt and its group are the same."""
    recorded.export(tmp_path / "out", to=name)
    with odograph.open("memory:") as back:
        assert back.import_sessions(tmp_path / "out").failed == []
        assert {t.start.group for t in back.trajectories()} == {"g"}
        ours = {json.dumps(shape(c.messages)) for t in recorded.trajectories() for c in t.llm_calls}
        assert {json.dumps(shape(t.llm_calls[-1].messages)) for t in back.trajectories()} <= ours


@pytest.mark.parametrize("name", ["agent-lightning", "hf-traces"])
def test_what_says_less_comes_back_as_far_as_it_goes(recorded: odograph.Store, tmp_path: Path, name: str) -> None:
    """Triplets are token ids and the reward, without a text; the Hub's sessions are texts, calls and results, without tools and ids."""
    recorded.export(tmp_path / "out", to=name)
    with odograph.open("memory:") as back:
        report = back.import_sessions(tmp_path / "out")
        assert (report.failed, report.warnings, {t["format"] for t in report.trajectories}) == ([], [], {name})
        found = sorted(back.trajectories(), key=lambda t: t.reward or 0)
        assert [(t.reward, t.start.group, t.status) for t in found] == [(n / 2, "g", "completed") for n in range(3)]
        for ours, theirs in zip(recorded.trajectories(), found, strict=True):
            if name == "agent-lightning":
                assert [ids_of(c) for c in theirs.llm_calls] == [ids_of(c) for c in ours.llm_calls]
                assert [list(c.prompt_token_ids) for c in theirs.llm_calls] == [list(c.prompt_token_ids) for c in ours.llm_calls]
                assert [(c.prompt_tokens, c.completion_tokens) for c in theirs.llm_calls] == [(3, 2), (7, 2)]
                continue
            assert (theirs.task, theirs.agent, theirs.start.model) == ("Dig", "digger", "m")
            assert [shape(c.messages) for c in theirs.llm_calls] == [shape(c.messages) for c in ours.llm_calls]
            assert [(a.name, a.arguments, a.result) for a in theirs.actions] == [
                (a.name, a.arguments, a.result) for a in ours.actions
            ]
        assert odograph.validate(back).findings == []
