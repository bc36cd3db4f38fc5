"""An answer may be any JSON: where text is wanted it is text, and no row has an empty answer with a reward."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import pytest

import odograph

USER = [{"role": "user", "content": "which market?"}]
DECISION = {"marketId": "m1", "outcome": "YES", "amount": 40}


@dataclasses.dataclass
class Decision:
    """What an agent's own planner gives back."""

    market: str
    amount: float


def recorded(store: odograph.Store, response: Any, reward: float = 1.0, **more: Any) -> odograph.Trajectory:
    with store.record(task="t", agent="a") as run:
        with run.step() as step:
            step.llm_call(model="m", messages=USER, response=response, **more)
        run.reward(reward)
    return store.trajectory(run.id)


ANSWERS: list[tuple[Any, str]] = [
    (DECISION, '{"marketId":"m1","outcome":"YES","amount":40}'),
    ([1, {"a": None}], '[1,{"a":null}]'),
    (["buy", "sell"], '["buy","sell"]'),
    (0, "0"),
    (0.25, "0.25"),
    (False, "false"),
    (Decision("rain", 4.0), '{"market":"rain","amount":4.0}'),
    ({"role": "buyer", "amount": 3}, '{"role":"buyer","amount":3}'),  # fields that only sound like a message's or a body's
    ({"content": "a post", "action": "POST"}, '{"content":"a post","action":"POST"}'),
    ({"choices": ["a", "b"], "pick": 1}, '{"choices":["a","b"],"pick":1}'),
    ({"output": ["a"], "score": 1}, '{"output":["a"],"score":1}'),
    ({"role": "assistant", "content": DECISION}, '{"marketId":"m1","outcome":"YES","amount":40}'),
    ({"role": "assistant", "content": [{"market": "rain"}]}, '[{"market":"rain"}]'),
    ({"role": "assistant", "content": [{"type": "text", "text": "so: "}, {"market": 1}]}, 'so: {"market":1}'),
    ({"role": "assistant", "content": None, "refusal": "I won't."}, "I won't."),
]


@pytest.mark.parametrize(("response", "text"), ANSWERS, ids=[text[:24] for _, text in ANSWERS])
def test_a_response_of_any_json_is_kept_as_it_is_and_is_text_where_text_is_wanted(
    store: odograph.Store, response: Any, text: str
) -> None:
    """The record has the value itself; the answer's text is compact JSON of what is no text; nothing is wrong with it."""
    t = recorded(store, response)
    given = dataclasses.asdict(response) if dataclasses.is_dataclass(response) else response  # type: ignore[arg-type]
    assert t.llm_calls[0].response == given
    assert [c.text for c in t.llm_calls[0].choices] == [text]
    assert odograph.validate(t).findings == []


@pytest.mark.parametrize("to", ["hf", "openai", "trl-kto", "hf-traces", "atif"])
@pytest.mark.parametrize(("response", "text"), ANSWERS, ids=[text[:24] for _, text in ANSWERS])
def test_rows_of_text_are_whole(store: odograph.Store, tmp_path: Path, to: str, response: Any, text: str) -> None:
    """Whatever the answer was, the row of every format of text has it."""
    recorded(store, response)
    manifest = store.export(tmp_path / "out", to, **({"format": "jsonl"} if to == "hf" else {}))
    files = list((tmp_path / "out" / "data").rglob("*.json*"))
    rows = [json.loads(line) for p in files for line in p.read_text().splitlines() if p.suffix == ".jsonl"]
    rows = rows or [json.loads(p.read_text()) for p in files]
    assert (manifest["rows"], manifest["left_out"]) == (1, {})
    said = {
        "hf": lambda: rows[0]["response"],
        "openai": lambda: rows[0]["messages"][-1]["content"],
        "trl-kto": lambda: rows[0]["completion"][0]["content"],
        "hf-traces": lambda: rows[-1]["message"]["content"],
        "atif": lambda: rows[0]["steps"][-1]["message"],
    }[to]()
    assert said == text


EMPTY: list[tuple[Any, dict[str, Any], str]] = [
    ("", {}, "an answer without text or tool call"),
    (" \n", {}, "an answer without text or tool call"),
    ({"role": "assistant", "content": None, "reasoning_content": "hm"}, {}, "an answer of reasoning alone"),
    ("", {"thinking": "hm"}, "an answer of reasoning alone"),
    ({"choices": []}, {}, "a call without an answer"),
]


@pytest.mark.parametrize("to", ["hf", "trl-kto"])
@pytest.mark.parametrize(("response", "more", "reason"), EMPTY)
def test_an_empty_answer_gets_no_row_with_a_reward(
    store: odograph.Store, tmp_path: Path, to: str, response: Any, more: dict[str, Any], reason: str
) -> None:
    """It is left out with its reason, and `validate` finds it."""
    t = recorded(store, response, **more)
    manifest = store.export(tmp_path / "out", to, **({"format": "jsonl"} if to == "hf" else {}))
    assert (manifest["rows"], manifest["left_out"]) == (0, {reason: 1})
    assert [f.code for f in odograph.validate(t).findings] == ["empty_response"]


def test_a_body_of_an_error_is_no_answer(store: odograph.Store) -> None:
    """What a backend answers in place of an answer is not trained on."""
    assert recorded(store, {"error": {"message": "overloaded"}}).llm_calls[0].choices == []


def test_an_object_that_comes_back_as_other_json_goes_on_the_conversation(store: odograph.Store, tmp_path: Path) -> None:
    """Agents send their decision back with their own spaces: it is one conversation, of two trained answers."""
    with store.record(task="t", agent="a") as run:
        with run.step() as step:
            step.llm_call(model="m", messages=USER, response=DECISION)
            back = {"role": "assistant", "content": json.dumps(DECISION, indent=1)}
            step.llm_call(model="m", messages=[*USER, back, {"role": "user", "content": "done?"}], response="yes")
        run.reward(1.0)
    assert store.export(tmp_path / "out", "openai")["rows"] == 1


def test_text_of_an_answer_has_no_tags_of_the_store(store: odograph.Store) -> None:
    """What JSON can't hold (NaN, a date, a set, bytes) is a text in the text of an answer and in the rows of every text format."""
    answer = {"sure": float("nan"), "at": datetime.date(2026, 1, 2), "raw": b"x"}
    t = recorded(store, answer)
    assert t.llm_calls[0].text == '{"sure":"nan","at":"2026-01-02","raw":"eA=="}'
    for to in ("openai", "hf", "hf-traces", "unsloth", "ms-swift", "axolotl", "llama-factory", "trl-kto"):
        rows = odograph.rows([t], to=to)
        assert rows and "$odograph" not in json.dumps(rows, default=str), to
