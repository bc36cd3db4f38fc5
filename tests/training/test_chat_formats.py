"""Formats of conversations for trainers: by their schemas, as their loaders read them; nothing that is not trained is trained."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
from collections import deque
from pathlib import Path
from typing import Any, Literal

import msgspec
import pydantic
import pytest

import odograph
from odograph import InvalidInput

TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def record(
    store: odograph.Store, *, known: bool = False, tools: bool = True, text: str | None = None, reward: float = 1.0
) -> str:
    """A system prompt, a question, a tool call with its result, an answer. `known`: an answer came with the first prompt."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1+?"}]
    if known:
        messages += [{"role": "assistant", "content": "what?"}, {"role": "user", "content": "1"}]
    with store.record(task="1+?", agent="solver", model="m", group="g", metadata={"truth": "2"}) as run:
        if tools:
            with run.step() as step:
                asked = {"role": "assistant", "content": text, "tool_calls": [CALL]}
                step.llm_call(model="m", messages=messages, response=asked, tools=TOOLS)
                step.action("add", {"a": 1}, "2", tool_call_id="c1")
                step.reward(0.9, name="step")
            messages = [*messages, asked, {"role": "tool", "tool_call_id": "c1", "content": "2"}]
        with run.step() as step:
            step.llm_call(model="m", messages=messages, response="2", tools=TOOLS if tools else None)
            step.reward(0.1, name="step")
        run.reward(reward, name="env")
        run.finish("2")
    return run.id


def made(store: odograph.Store, to: str, **options: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    rows = odograph.rows(store.trajectories(), to, **options)
    return list(rows), dict(rows.left_out)


class Turn(msgspec.Struct, forbid_unknown_fields=True):
    """LLaMA-Factory's data/README.md."""

    from_: Literal["human", "gpt", "function_call", "observation"] = msgspec.field(name="from")
    value: str


def test_llama_factory(store: odograph.Store, tmp_path: Path) -> None:
    """Turns in their places, the system prompt and tools as text; an untrained answer has no place, unless only last answers are
    trained; the card has the entry for dataset_info.json."""
    record(store)
    record(store, known=True)
    record(store, text="let me add")
    record(store, known=True, tools=False)
    rows, left_out = made(store, "llama-factory")
    (row,) = rows
    turns = msgspec.convert(row["conversations"], list[Turn])
    assert [t.from_ for t in turns] == ["human", "function_call", "observation", "gpt"] and row["system"] == "be brief"
    assert json.loads(turns[1].value) == [{"name": "add", "arguments": {"a": 1}}] and json.loads(row["tools"])[0]["name"] == "add"
    assert left_out["an answer with text beside its tool call"] == 1
    assert (
        left_out["a conversation with an answer that is not trained, for which the format has no mark: give last_only=true"] == 2
    )
    rows, _ = made(store, "llama-factory", last_only=True)
    assert len(rows) == 2 * 2 + 1 and all(r["conversations"][-1]["from"] in ("gpt", "function_call") for r in rows)
    rows, left_out = made(store, "llama-factory", style="alpaca", last_only=True)
    (row,) = rows
    assert (row["instruction"], row["output"], row["history"]) == ("1", "2", [["1+?", "what?"]])
    manifest = store.export(tmp_path / "lf", "llama-factory", last_only=True)
    card = (tmp_path / "lf" / "README.md").read_text()
    assert '"formatting":"sharegpt"' in card and "mask_history" in card and manifest["rows"] == 5
    with pytest.raises(InvalidInput, match="no style 'x'"):
        made(store, "llama-factory", style="x")


def test_marks_of_answers_that_are_not_trained(store: odograph.Store) -> None:
    """axolotl's `train` and ms-swift's `loss` are false on an answer that came with the prompt, and on no other."""
    record(store, known=True, text="let me add")
    ((row,), _) = made(store, "axolotl")
    assert [m.get("train") for m in row["messages"]] == [False, False, False, False, True, False, True]
    assert row["messages"][4]["tool_calls"][0]["function"]["name"] == "add" and row["tools"] == TOOLS
    ((row,), _) = made(store, "ms-swift")
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "user", "assistant", "tool_call", "tool_response", "assistant"]  # fmt: skip
    assert [m["loss"] for m in row["messages"] if "loss" in m] == [False, True, True, True]
    assert json.loads(row["messages"][5]["content"]) == {"name": "add", "arguments": {"a": 1}}
    assert json.loads(row["tools"][0]) == TOOLS[0]


@pytest.mark.parametrize("to", ["unsloth", "nemo-rl", "openrlhf"])
def test_where_all_answers_are_trained(to: str, store: odograph.Store) -> None:
    """A conversation with an answer that is not trained gives no row; others give whole conversations without our marks."""
    record(store, tools=False)
    record(store, known=True, tools=False)
    rows, left_out = made(store, to)
    (row,) = rows
    messages = row["conversations" if to == "unsloth" else "messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant"] and "weight" not in json.dumps(messages)
    assert sum(left_out.values()) == 1
    if to == "openrlhf":
        rows, _ = made(store, to, last_only=True)
        assert [r["messages"][-1]["content"] for r in rows] == ["2", "2"]


@pytest.mark.parametrize("to", ["unsloth", "nemo-rl"])
def test_a_template_gets_arguments_as_objects(to: str, store: odograph.Store) -> None:
    """A chat template writes the arguments of a tool call as JSON: a text would stand there in quotes."""
    record(store)
    (row,), _ = made(store, to)
    messages = row["conversations" if to == "unsloth" else "messages"]
    (call,) = [c for m in messages for c in m.get("tool_calls", ())]
    assert call["function"]["arguments"] == {"a": 1} and row["tools"] == TOOLS
    assert all(isinstance(m["content"], str) for m in messages)


def test_rows_of_hosted_reinforcement(store: odograph.Store) -> None:
    """The prompt ends with the user's words; Bedrock needs a reference answer; Fireworks weighs whole conversations."""
    record(store)
    record(store, tools=False, reward=0.25)
    rows, _ = made(store, "rft", reference="truth")
    assert [r["messages"][-1]["role"] for r in rows] == ["user", "user"] and rows[0]["tools"] == TOOLS
    assert rows[0]["reference_answer"] == "2" and rows[1]["reward"] == 0.25 and rows[0]["answer"] == "2"
    rows, left_out = made(store, "rft", service="bedrock")
    assert not rows and sum(left_out.values()) == 2
    rows, _ = made(store, "rft", service="bedrock", reference="truth")
    assert rows[1].keys() == {"messages", "reference_answer"}
    rows, _ = made(store, "rft", service="fireworks")
    assert [r["weight"] for r in rows] == [1.0, 0.25] and rows[0]["messages"][-1]["content"] == "2"
    with pytest.raises(InvalidInput, match="no service"):
        made(store, "rft", service="x")


def test_process_rewards(store: odograph.Store) -> None:
    """A text and a label for each step; a step whose reward is not known leaves the trajectory out."""
    record(store, text="let me add")
    with store.record(task="t", agent="a") as run, run.step() as step:
        step.llm_call(model="m", messages=[{"role": "user", "content": "t"}], response="x")
    rows, left_out = made(store, "trl-prm")
    (row,) = rows
    assert row["prompt"] == "1+?" and row["labels"] == [True, False] and row["completions"][1] == "2"
    said, asked = row["completions"][0].split("\n")
    assert said == "let me add" and isinstance(json.loads(asked)["arguments"], dict)  # an object, not JSON in JSON
    assert left_out == {"a step without a reward": 1}


def test_tokenized_and_skyrl(store: odograph.Store) -> None:
    """Token rows: the attention mask covers all; labels, masks and logprobs stand where the sampled tokens are."""
    with store.record(task="t", agent="a", model="m", group="g") as run:
        for prompt, sampled in (([1, 2], [10, 11]), ([1, 2, 10, 11, 3], [20]), ([1, 2, 11, 3, 20, 4], [30])):
            with run.step() as step:
                step.llm_call(model="m", prompt_token_ids=prompt, token_ids=sampled, logprobs=[-0.5] * len(sampled))
        run.reward(1.0)
    rows, _ = made(store, "tokenized", edits="env")
    assert rows[0]["input_ids"] == [1, 2, 10, 11, 3, 20] and rows[0]["attention_mask"] == [1] * 6
    assert all(len(r["labels"]) == len(r["input_ids"]) for r in rows)
    rows, _ = made(store, "skyrl")
    assert [r["is_last_step"] for r in rows] == [False, True] and {r["rewards"] for r in rows} == {1.0}
    for row in rows:
        assert len(row["response_ids"]) == len(row["loss_masks"]) == len(row["rollout_logprobs"])
    assert rows[1]["trajectory_ids"] == {"instance_id": "g", "repetition_id": run.id}


class Side(enum.Enum):
    """An answer of an agent's own types."""

    BUY = "buy"


class Order(pydantic.BaseModel):
    side: Side
    at: datetime.datetime


@dataclasses.dataclass
class Trade:
    market: str
    amount: decimal.Decimal
    tags: frozenset[str]


DECISIONS: list[tuple[Any, str]] = [
    ({"b", "a", "c"}, '["a","b","c"]'),
    (frozenset({10, 9, None}), "[9,10,null]"),
    ({"pick": {"z", "y"}, "of": ({2, 1}, deque([3]))}, '{"pick":["y","z"],"of":[[1,2],[3]]}'),
    (decimal.Decimal("1.10"), '"1.10"'),
    (Side.BUY, "buy"),
    (Trade("rain", decimal.Decimal("2.50"), frozenset({"b", "a"})), '{"market":"rain","amount":"2.50","tags":["a","b"]}'),
    (Order(side=Side.BUY, at=datetime.datetime(2026, 1, 2)), '{"side":"buy","at":"2026-01-02T00:00:00"}'),
    (datetime.date(2026, 1, 2), '"2026-01-02"'),
    (b"\xffab", '"/2Fi"'),
    (float("nan"), '"nan"'),
    ({1: {"x"}}, '{"1":["x"]}'),
    (0, "0"),
    (False, "false"),
]


@pytest.mark.parametrize(
    "to",
    ["hf", "openai", "trl-kto", "axolotl", "ms-swift", "unsloth", "openrlhf", "nemo-rl", "llama-factory", "hf-traces", "atif"],
)
def test_a_decision_of_any_type_is_the_same_text_in_every_format(store: odograph.Store, to: str) -> None:
    """One rule: compact JSON, sets sorted, what JSON can't hold as its usual text; a text as it is."""
    for given, _ in DECISIONS:
        with store.record(task="trade", agent="trader") as run, run.step() as step:
            step.llm_call(model="m", messages=[{"role": "user", "content": "well?"}], response=given)
            run.reward(1.0, name="pnl")
    rows = [json.dumps(row, default=str) for row in odograph.rows(store.trajectories(), to)]
    assert len(rows) == len(DECISIONS)
    for (_, said), row, t in zip(DECISIONS, rows, store.trajectories(), strict=True):
        assert t.llm_calls[0].choices[0].text == said
        assert json.dumps(said) in row, row
