"""Exports: what comes out is what went in, and its consumers load it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.training.formats import NAMES, atif

from .made import call, chat, made


def agent(store: odograph.Store, number: int = 0, reward: float | None = 1.0, group: str | None = "g") -> str:
    """A session with a tool, a read, a judge and two decisions."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": f"what is {number}+1?"},
    ]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    with store.record(
        task=messages[1]["content"], agent="a", model="m", group=group and f"{group}{number % 7}", tags=["t"]
    ) as run:
        with run.step(observation=messages[1]["content"]) as step:
            step.context("kb", {"n": number}, query="q", purpose="to know")
            asked = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
            }
            call = step.llm_call(
                model="m",
                messages=messages,
                response={"choices": [{"index": 0, "message": asked, "finish_reason": "tool_calls"}]},
                tools=tools,
                usage={"prompt_tokens": 5, "completion_tokens": 2},
                prompt_token_ids=[1, 2],
                token_ids=[3],
                logprobs=[-0.25],
            )
            step.action("add", {}, number + 1, ok=True, llm_call=call, tool_call_id="c")
        messages = [*messages, asked, {"role": "tool", "tool_call_id": "c", "content": str(number + 1)}]
        with run.step(observation=number + 1) as step:
            step.llm_call(model="m", messages=messages, response=str(number + 1), tools=tools)
            step.llm_call(model="j", messages=[{"role": "user", "content": "good?"}], response="1.0", purpose="judge")
        if reward is not None:
            run.reward(reward, name="final")
        run.finish(str(number + 1))
    return run.id


def test_jsonl_and_parquet_read_back_give_equal_trajectories(store: odograph.Store, tmp_path: Path) -> None:
    """Nothing is lost or changed on the way out and in again, late records, edits and unfinished trajectories included."""
    for n in range(5):
        agent(store, n)
    late = store.append(agent(store, 9))
    late.edit(store.trajectory(late.id).llm_calls[1]).rewrite("ten", author="me")
    late.reward(float("nan"), name="odd")
    store.record(task="open").note({"x": {1}})
    expected = [t.to_dict() for t in store.trajectories()]
    for to in ("jsonl", "parquet"):
        manifest = store.export(tmp_path / to, to)
        assert manifest["trajectories"] == {"in": 7, "out": 7}
        with odograph.open(tmp_path / f"back-{to}") as back:
            report = back.import_sessions(tmp_path / to)
            assert (report.imported, report.failed) == (7, [])
            again = [t.to_dict() for t in back.trajectories()]
            for one in (*expected, *again):
                one.pop("status", None)  # the open one is running here, and unterminated there
            assert again == expected
            assert back.import_sessions(tmp_path / to).imported == 0


def test_jsonl_is_linear_in_the_session(store: odograph.Store, tmp_path: Path) -> None:
    """A history that is resent at each step is in the export once."""
    with store.record(task="x") as run:
        history = []
        for n in range(200):
            history.append({"role": "user", "content": f"{n} " * 50})
            run.step().llm_call(model="m", messages=history, response="r")
    manifest = store.export(tmp_path / "out", "jsonl")
    assert manifest["files"][0]["bytes"] < 200 * 1200


def test_hf_rows_load_in_datasets(store: odograph.Store, tmp_path: Path) -> None:
    """`datasets` loads as many rows as the manifest says, streaming too, with the columns of the contract; judges are left out."""
    datasets = pytest.importorskip("datasets")
    for n in range(20):
        agent(store, n, reward=n / 20 if n != 3 else None)
    manifest = store.export(tmp_path / "hf", "hf", splits={"train": 0.7, "test": 0.3})
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {k: v.num_rows for k, v in loaded.items()} == manifest["rows_by_split"]
    assert sum(manifest["rows_by_split"].values()) == manifest["rows"] == 40
    assert manifest["left_out"] == {"a call for judge": 20}
    row = loaded["train"][0]
    assert set(row) == {"prompt", "response", "context", "metadata", "reward"}
    assert row["prompt"].startswith("be good\n\nwhat is ")
    assert row["response"] == "[tool call] add({})"
    assert json.loads(row["context"])[0]["purpose"] == "to know"
    assert json.loads(row["metadata"])["agent"] == "a"
    files = [str(tmp_path / "hf" / f["path"]) for f in manifest["files"]]
    assert sum(1 for _ in datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)) == 40
    assert any(r["reward"] is None for split in loaded.values() for r in split)
    kept = store.export(tmp_path / "some", "hf", min_reward=0.5, limit=3, options={"include_metadata": False}, format="jsonl")
    lines = [json.loads(line) for line in (tmp_path / "some/data/train.jsonl").read_text().splitlines()]
    assert kept["trajectories"]["in"] == 3
    assert all("metadata" not in line and line["reward"] >= 0.5 for line in lines)
    for file in manifest["files"]:
        data = (tmp_path / "hf" / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])


def test_splits_are_by_group_and_stay(store: odograph.Store, tmp_path: Path) -> None:
    """A group is in one split, the same one when more is recorded, and another with another seed."""
    for n in range(30):
        agent(store, n)

    def groups(folder: str, seed: int = 0) -> dict[str, str]:
        store.export(tmp_path / folder, "hf", format="jsonl", splits={"train": 0.5, "test": 0.5}, seed=seed)
        found: dict[str, str] = {}
        for path in (tmp_path / folder / "data").glob("*.jsonl"):
            for line in path.read_text().splitlines():
                group = json.loads(json.loads(line)["metadata"])["group"]
                assert found.setdefault(group, path.stem) == path.stem
        return found

    first = groups("a")
    agent(store, 100)
    assert groups("b") == first
    assert groups("c", seed=3) != first


def test_openai_rows(store: odograph.Store, tmp_path: Path) -> None:
    """One conversation a row, tools with it; each answer is trained once; what the model did not say has weight 0."""
    agent(store)
    with store.record(task="edited") as run:
        for answer, history in (
            ("a", []),
            ("b", [{"role": "assistant", "content": "a"}, {"role": "user", "content": "go on"}]),
            ("c", [{"role": "assistant", "content": "CHANGED"}, {"role": "user", "content": "go on"}]),
        ):
            run.step().llm_call(model="m", messages=[{"role": "user", "content": "q"}, *history], response=answer)
    store.record(task="nothing").finish()
    manifest = store.export(tmp_path / "out", "openai")
    rows = [json.loads(line) for line in (tmp_path / "out/data/train.jsonl").read_text().splitlines()]
    assert [[m["role"] for m in r["messages"]] for r in rows] == [
        ["system", "user", "assistant", "tool", "assistant"],
        ["user", "assistant", "user", "assistant"],
        ["user", "assistant", "user", "assistant"],
    ]
    assert rows[0]["tools"][0]["function"]["name"] == "add"
    assert [m.get("weight") for m in rows[1]["messages"]] == [None, None, None, None]
    assert [(m["content"], m.get("weight")) for m in rows[2]["messages"] if m["role"] == "assistant"] == [
        ("CHANGED", 0),
        ("c", None),
    ]
    assert manifest["left_out"] == {"a call for judge": 1, "no call of a model": 1}
    allowed = {"role", "content", "name", "tool_calls", "tool_call_id", "weight"}
    for row in rows:
        assert set(row) <= {"messages", "tools"}
        for m in row["messages"]:
            assert set(m) <= allowed
            assert isinstance(m["content"], (str, list)) or (m["role"] == "assistant" and m.get("tool_calls"))


def test_atif_documents_are_valid_and_come_back_losslessly(store: odograph.Store, tmp_path: Path) -> None:
    """The models of the package `atif` accept the documents; importing them gives equal trajectories; an edited one is read as ATIF."""
    models = pytest.importorskip("atif")
    ids = [agent(store, n) for n in range(3)]
    store.export(tmp_path / "out", "atif")
    files = sorted((tmp_path / "out/data").glob("*.json"))
    assert len(files) == 3
    for file in files:
        models.Trajectory.model_validate_json(file.read_text())
    with odograph.open("memory:") as back:
        assert back.import_sessions(tmp_path / "out").imported == 3
        assert [t.to_dict() for t in back.trajectories()] == [store.trajectory(i).to_dict() for i in ids]
    changed = json.loads(files[0].read_text())
    changed["steps"][0]["message"] = "something else"
    files[0].write_text(json.dumps(changed))
    with odograph.open("memory:") as back:
        report = back.import_sessions(files[0])
        assert back.trajectory(report.trajectories[0]["id"]).task == "something else"
        assert "was changed after Odograph wrote the file" in str(report.warnings)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["call", "action", "context", "reward", "step"]),
            st.text(max_size=5),
            st.none() | st.integers() | st.text(max_size=5),
        ),
        max_size=10,
    )
)
def test_any_trajectory_goes_through_every_format(
    tmp_path_factory: pytest.TempPathFactory, what: list[tuple[str, str, Any]]
) -> None:
    """Whatever agents did, no exporter fails on it, ATIF stays valid, and the lossless ones stay lossless."""
    models = pytest.importorskip("atif")
    folder = tmp_path_factory.mktemp("any")
    with odograph.open("memory:") as store, odograph.open("memory:") as back:
        with store.record(task="x", agent="a") as run:
            scope: Any = run
            for kind, name, value in what:
                if kind == "step":
                    scope = run.step(value)
                elif kind == "call":
                    scope.llm_call(messages=[{"role": "user", "content": name}], response=value)
                elif kind == "action":
                    scope.action(name, value, value)
                elif kind == "context":
                    scope.context(name, value)
                else:
                    scope.reward(1.0, name=name)
        for to in NAMES:
            manifest = store.export(folder / to, to)
            assert not any(r.startswith("an error") for r in manifest["left_out"]), manifest
        t = store.trajectory(run.id)
        models.Trajectory.model_validate(json.loads(json.dumps(atif.document(t))))
        back.import_sessions(folder / "jsonl")
        assert back.trajectory(run.id).to_dict() == t.to_dict()


def test_one_bad_trajectory_costs_itself_alone(store: odograph.Store, tmp_path: Path) -> None:
    """A plugin that fails on one trajectory has it in the manifest with the reason; the others are exported."""
    for n in range(3):
        agent(store, n)
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "NAME = 'mine'\nFILES = ('jsonl',)\n\ndef rows(trajectory, left_out, **options):\n"
        "    if '1+1' in trajectory.task:\n        raise ValueError('broken')\n    yield {'task': trajectory.task}\n"
    )
    manifest = store.export(tmp_path / "out", str(plugin))
    assert (manifest["rows"], manifest["left_out"]) == (2, {"an error: ValueError: broken": 1})


def test_mistakes_are_answered_with_what_exists(store: odograph.Store, tmp_path: Path) -> None:
    """A format, a kind of file or a folder that can't be: one sentence, and nothing is written or deleted."""
    agent(store)
    with pytest.raises(
        odograph.NotFound, match=r"no exporter named 'xyz'; there are: agent-lightning, .*hf, .*jsonl, .*trl-sft, .*verl"
    ):
        store.export(tmp_path / "o", "xyz")
    with pytest.raises(odograph.InvalidInput, match="openai can't be written as 'parquet'; it can as: jsonl"):
        store.export(tmp_path / "o", "openai", format="parquet")
    with pytest.raises(odograph.InvalidInput, match="splits are shares above 0 that sum to 1"):
        store.export(tmp_path / "o", "openai", splits={"train": 0.5})
    with pytest.raises(odograph.InvalidInput, match=r"splits map names to shares, such as .*, not 'train'"):
        store.export(tmp_path / "o", "openai", splits="train")  # type: ignore[arg-type]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(odograph.InvalidInput, match="is there already and is no export"):
        store.export(mine, "jsonl")
    assert (mine / "thesis.txt").read_text() == "precious"
    store.export(tmp_path / "o", "jsonl")
    store.export(tmp_path / "o", "jsonl")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_openai_lines_come_back(store: odograph.Store, tmp_path: Path) -> None:
    """Our own import of conversations for OpenAI has the prompts, answers and tools that were recorded; exported again they are the same."""
    ids = [agent(store, n) for n in range(3)]
    store.export(tmp_path / "out", "openai")
    with odograph.open("memory:") as back:
        assert back.import_sessions(tmp_path / "out" / "data").imported == 3
        for t, id in zip(back.trajectories(), ids, strict=True):
            calls = [c for c in store.trajectory(id).llm_calls if c.purpose == "act"]
            assert [(c.messages, c.tools) for c in t.llm_calls] == [(c.messages, c.tools) for c in calls]
            assert [c.choices[0].message["content"] for c in t.llm_calls] == [c.choices[0].message["content"] for c in calls]
        back.export(tmp_path / "again", "openai")
    assert (tmp_path / "again/data/train.jsonl").read_bytes() == (tmp_path / "out/data/train.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("status", "finish", "stopped"),
    [("completed", "stop", "completed"), ("completed", "length", "max_output_tokens"), ("truncated", "stop", "max_total_tokens")],
)
def test_a_cut_answer_is_truncated_for_verifiers(status: str, finish: str, stopped: str) -> None:
    """verifiers knows that a trace was cut by its `stop_condition`."""
    body = {"choices": [{"finish_reason": finish, "message": {"role": "assistant", "content": "x"}}]}
    tokens = {"prompt_token_ids": [1], "tokens": [{"token_ids": [2], "logprobs": [-0.5]}]}
    t = made(steps=[{"llm_calls": [call(chat("s", "q"), body, **tokens)]}], rewards=[{"value": 1.0}], status=status)
    ((trace,),) = (row["traces"] for row in odograph.rows(t, to="verifiers"))
    assert trace["stop_condition"] == stopped


def test_rows_in_memory_of_every_format() -> None:
    """`odograph.rows` gives the rows of each format; a session of `hf-traces` is a list of lines. Texts that say nothing, and
    images, are told by `trl-prm`."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    asks = [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}]
    step = {"llm_calls": [call(asks, "a cat")], "reward": 1.0}
    t = made(task="t", steps=[step])
    for to in NAMES:
        assert isinstance(odograph.rows(t, to=to), list)
    ((head, *rest),) = odograph.rows(t, to="hf-traces")
    assert head["type"] == "session" and rest
    assert odograph.rows(t, to="trl-prm").left_out == {"a part of a message that is no text": 1}
    blank = made(task="t", steps=[{"llm_calls": [call(chat("s", "q"), "  ")], "reward": 1.0}])
    assert odograph.rows(blank, to="trl-prm") == []
