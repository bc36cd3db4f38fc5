"""`hf`: a row per call of the policy, as the fourth seed's training data has them, loaded by `datasets`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.errors import InvalidInput
from odograph.training.export import export

from .made import asked, call, chat, lines, made

datasets = pytest.importorskip("datasets")


def test_datasets_loads_the_folder_and_the_files(tmp_path: Path) -> None:
    """As a folder, as Parquet files, and streaming: as many rows as the manifest says, in splits, with typed columns."""
    ts = [asked(str(n), None if n % 3 == 0 else n / 10) for n in range(20)]
    manifest = export(ts, tmp_path / "o", "hf", splits={"train": 0.7, "test": 0.3})
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(tmp_path / "o"), cache_dir=cache)
    assert {n: d.num_rows for n, d in loaded.items()} == manifest["rows_by_split"]
    assert sum(manifest["rows_by_split"].values()) == manifest["rows"] == 20
    rewards = [r for d in loaded.values() for r in d["reward"]]
    assert sorted(r for r in rewards if r is not None) == sorted(t.reward for t in ts if t.reward is not None)
    assert rewards.count(None) == 7
    files = [str(tmp_path / "o" / f["path"]) for f in manifest["files"]]
    assert datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache).num_rows == 20
    streamed = datasets.load_dataset(str(tmp_path / "o"), streaming=True)
    assert {n: sum(1 for _ in d) for n, d in streamed.items()} == manifest["rows_by_split"]


@pytest.mark.parametrize("to", ["hf", "parquet"])
def test_datasets_sees_an_export_that_was_done_again(tmp_path: Path, to: str) -> None:
    """`load_dataset` of a folder that was exported to before gives the new rows, not those that it has in its cache."""
    for ts in ([asked("a")], [asked("b")]):  # as many rows, of the same size
        export(ts, tmp_path / "o", to)
        (row,) = datasets.load_dataset(str(tmp_path / "o"), split="train", cache_dir=str(tmp_path / "cache"))
        assert ts[0].id == (json.loads(row["metadata"])["trajectory"] if to == "hf" else row["id"])


def test_what_an_action_outside_of_a_step_read_is_its_context(tmp_path: Path) -> None:
    """A wrapped action straight in a run: what was read in it, before its call, is the row's context."""

    @odograph.action
    def act(price: int) -> None:
        odograph.log_context("market", {"price": price}, purpose="to decide")
        odograph.log_llm_call(model="m", user_prompt=f"buy at {price}?", response="no")

    with odograph.open("memory:") as store:
        with store.record(task="t"):
            act(1)
            act(2)
        store.export(tmp_path / "o", to="hf", format="jsonl")
    found = [(row["prompt"], [c["data"] for c in json.loads(row["context"])]) for row in lines(tmp_path / "o")]
    assert found == [("buy at 1?", [{"price": 1}]), ("buy at 2?", [{"price": 2}])]


def test_text_files_have_the_same_rows_and_types(tmp_path: Path) -> None:
    """`format="jsonl"`: the same rows; unknown rewards in front do not make the column something else."""
    ts = [asked("a"), asked("b", 1.0)]
    export(ts, tmp_path / "p", "hf")
    export(ts, tmp_path / "t", "hf", format="jsonl")
    cache = str(tmp_path / "cache")
    as_parquet = datasets.load_dataset(str(tmp_path / "p"), split="train", cache_dir=cache)
    as_text = datasets.load_dataset(str(tmp_path / "t"), split="train", cache_dir=cache)
    assert as_text.to_list() == as_parquet.to_list()
    assert as_text.features["reward"].dtype == "float64"


def test_a_row_is_what_was_read_asked_answered_and_earned(tmp_path: Path) -> None:
    """Prompt of system and user; response; the trajectory's reward; what was read in that step; who and when."""
    step = {
        "contexts": [{"provider": "market", "query": "X", "data": {"price": 1.5}, "purpose": "to decide"}],
        "llm_calls": [call(chat("be good", "buy?"), "no")],
    }
    t = made(
        task="trade",
        group="g",
        tags=["t"],
        steps=[step, {"llm_calls": [call(chat("be good", "sell?"), "yes")]}],
        rewards=[{"value": 0.75}],
    )
    export([t], tmp_path / "o", "hf", format="jsonl")
    first, second = lines(tmp_path / "o")
    assert (first["prompt"], first["response"], first["reward"]) == ("be good\n\nbuy?", "no", 0.75)
    assert json.loads(first["context"]) == [{"provider": "market", "query": "X", "data": {"price": 1.5}, "purpose": "to decide"}]
    assert json.loads(second["context"]) == []
    about = json.loads(second["metadata"])
    assert {k: about[k] for k in ("trajectory", "call", "agent", "model", "group", "tags", "step", "status")} == {
        "trajectory": t.id, "call": t.llm_calls[1].id, "agent": "a", "model": "m", "group": "g", "tags": ["t"], "step": 1, "status": "completed",
    }  # fmt: skip
    assert about["time"].endswith("Z")


def test_a_long_conversation_reads_as_one(tmp_path: Path) -> None:
    """Earlier turns, tool calls and results are in the prompt, each under its role; tool calls are in the response too."""
    tool = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        *chat("s", "q"),
        {"role": "assistant", "content": None, "tool_calls": [tool]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    ]
    answer = {"role": "assistant", "content": "again", "tool_calls": [tool]}
    export([made(steps=[{"llm_calls": [call(messages, answer)]}])], tmp_path / "o", "hf", format="jsonl")
    (row,) = lines(tmp_path / "o")
    assert row["prompt"] == '[system]\ns\n\n[user]\nq\n\n[assistant]\n[tool call] add({"a": 1})\n\n[tool]\n2'
    assert row["response"] == 'again\n[tool call] add({"a": 1})'


def test_other_dialects_have_prompts_too(tmp_path: Path) -> None:
    """Anthropic's and the Responses API's requests, and a completion's bare prompt."""
    calls = [
        {"dialect": "anthropic.messages", "request": {"system": "s", "messages": [{"role": "user", "content": "u"}]}, "response": {"role": "assistant", "type": "message", "content": [{"type": "text", "text": "a"}]}},
        {"dialect": "openai.responses", "request": {"instructions": "s", "input": "u"}, "response": {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]}},
        {"request": {"prompt": "s\n\nu"}, "response": {"choices": [{"text": "a"}]}},
    ]  # fmt: skip
    export([made(steps=[{"llm_calls": calls}])], tmp_path / "o", "hf", format="jsonl")
    assert [(r["prompt"], r["response"]) for r in lines(tmp_path / "o")] == [("s\n\nu", "a")] * 3


@pytest.mark.parametrize(
    ("to", "options"), [("hf", {}), ("openai", {}), ("trl-kto", {}), ("hf-traces", {}), ("trl-dpo", {"by": "reward"})]
)
def test_a_batch_of_prompts_is_no_row(to: str, options: dict[str, Any]) -> None:
    """A call of several prompts has no one prompt: no row puts two of them before one answer; formats of tokens tell them apart."""
    batch = {
        "dialect": "openai.completions",
        "request": {"prompt": ["p0", "p1"]},
        "response": {"choices": [{"index": n, "text": f"a{n}"} for n in (0, 1)]},
    }
    rows = odograph.rows([made(steps=[{"llm_calls": [batch]}], rewards=[{"value": 1.0}], group="g")], to, **options)
    assert list(rows) == []
    assert any("several prompts at once" in why for why in rows.left_out)


def test_outcomes_are_never_in_the_prompt(tmp_path: Path) -> None:
    """A model that is trained on these rows can't read from a prompt how it ended."""
    secret = "the-outcome"
    step = {
        "llm_calls": [call(chat("s", "u"), "a")],
        "actions": [{"name": "f", "result": secret}],
        "rewards": [{"value": 0.123456, "name": secret, "rationale": secret}],
        "labels": [{"technique": secret, "rationale": secret}],
    }
    t = made(steps=[step], answer=secret, rewards=[{"value": 0.654321, "rationale": secret}])
    export([t], tmp_path / "o", "hf", format="jsonl")
    (row,) = lines(tmp_path / "o")
    assert secret not in row["prompt"] + row["response"] + row["context"]
    assert "0.65" not in row["prompt"] + row["metadata"]


def test_metadata_can_be_left_out_and_the_card_says_so(tmp_path: Path) -> None:
    """`include_metadata=False` has no such column; the card names license, columns, counts and what was left out."""
    export([asked("x"), made(task="y")], tmp_path / "o", "hf", include_metadata=False, license="cc-by-4.0")
    loaded = datasets.load_dataset(str(tmp_path / "o"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == ["prompt", "response", "reward", "context"]
    card = (tmp_path / "o/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "- 1 x no call of a model" in card
    assert "| metadata |" not in card
    assert "name: metadata" not in card
    export([asked("x")], tmp_path / "o", "hf")
    assert "license: unknown" in (tmp_path / "o/README.md").read_text()
    with pytest.raises(InvalidInput, match="a license is an identifier"):
        export([asked("x")], tmp_path / "p", "hf", license="mit\nconfigs: evil")


def test_shards_hold_as_many_rows_as_asked_and_load_as_one(tmp_path: Path) -> None:
    """`max_shard_rows` and `max_shard_size`: several files, whose rows in order are those of one file."""
    ts = [asked(str(n), float(n)) for n in range(25)]
    export(ts, tmp_path / "one", "hf")
    by_rows = export(ts, tmp_path / "rows", "hf", max_shard_rows=10)
    assert [f["path"] for f in by_rows["files"]] == [f"data/train-{n:05d}-of-00003.parquet" for n in range(3)]
    by_size = export(ts, tmp_path / "size", "hf", max_shard_size=1500)
    assert len(by_size["files"]) > 3
    cache = str(tmp_path / "cache")
    whole, *others = [
        datasets.load_dataset(str(tmp_path / o), split="train", cache_dir=cache).to_list() for o in ("one", "rows", "size")
    ]
    assert others == [whole, whole]
    streamed = datasets.load_dataset(str(tmp_path / "rows"), split="train", streaming=True)
    assert list(streamed) == whole
    for wrong in ({"max_shard_rows": 0}, {"max_shard_size": 1.5}, {"max_shard_rows": 5, "format": "jsonl"}):
        with pytest.raises(InvalidInput, match="max_shard_"):
            export(ts, tmp_path / "wrong", "hf", **wrong)


def test_the_card_says_where_it_comes_from(tmp_path: Path) -> None:
    """Counts, schema, licence, splits, what was asked for, and the manifest's content hash; its header is YAML."""
    yaml = pytest.importorskip("yaml")
    manifest = export([asked("a", 1.0)], tmp_path / "o", "hf", asked={"group": "```\n---\nlicense: mit"}, license="cc-by-4.0")
    _, header, card = (tmp_path / "o/README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(header)
    assert about["license"] == "cc-by-4.0"
    assert about["size_categories"] == ["n<1K"]
    assert about["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert [f["name"] for f in about["dataset_info"]["features"]] == ["prompt", "response", "reward", "context", "metadata"]
    assert f"| content hash | `{manifest['content_hash']}` |" in card
    assert f"Odograph {manifest['odograph']}" in card
    fenced = card.split("```json\n")[1].split("\n```")[0]
    assert json.loads(fenced) == {"asked": manifest["asked"], "options": {"license": "cc-by-4.0"}}


def test_what_is_no_store_or_trajectory_is_refused_by_name(store: odograph.Store, tmp_path: Path) -> None:
    """A folder's name in place of a store, an id in place of a trajectory: a sentence says what to give."""
    with pytest.raises(TypeError, match=r"export_to_huggingface\(\) takes a store, such as .*, not str"):
        odograph.export_to_huggingface("runs", tmp_path / "o")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"diff\(\) takes two trajectories, such as .*, not str"):
        odograph.diff("1a2b", "3c4d")  # type: ignore[arg-type]
