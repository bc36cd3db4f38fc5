"""`jsonl` and `parquet`: what is read back equals what was written. What holds for both is tested for both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import odograph
from odograph.codec import tagged
from odograph.training.export import export

from .made import asked, call, chat, dicts, made, read_back

BOTH = pytest.mark.parametrize("to", ["jsonl", "parquet"])


def rich() -> list[odograph.Trajectory]:
    """Everything that a trajectory can hold."""
    history = chat("be good", "q1")
    steps: list[dict[str, Any]] = []
    ids = list(range(100))
    for n in range(5):
        answer = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
        body = {
            "choices": [{"index": 0, "message": answer, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": n},
            "unknown": {"x": [0.0, 1e300, -0.0]},
        }
        tokens = [{"token_ids": [7, 8, n], "logprobs": [-0.1, None, -1e-320]}, {"token_ids": [1], "logprobs": [0, -1.5]}]
        steps.append(
            {
                "observation": {"n": n, "text": "é\u0000\u2028 \U0001f600"},
                "contexts": [{"provider": "kb", "data": [1, None], "query": "q", "purpose": "why"}],
                "llm_calls": [call(list(history), body, prompt_token_ids=list(ids), tokens=tokens, usage={"prompt_tokens": 1})],
                "actions": [{"name": "f", "arguments": {"big": 1 << 70}, "result": tagged("float", "nan"), "ok": False}],
                "rewards": [{"value": 0.5, "name": "step"}],
                "labels": [{"technique": "t", "score": None}],
                "notes": [{"name": "n", "data": {"deep": [[[{}]]]}}],
            }
        )  # fmt: skip
        history = [*history, answer, {"role": "tool", "tool_call_id": f"c{n}", "content": "x" * 500}]
        ids = [*ids, 7, 8, n, 9]
    whole = made(
        task={"any": "json"},
        steps=steps,
        group="g",
        tags=["a", "b"],
        metadata={"k": None},
        rewards=[{"value": 0.0}, {"value": None, "name": "unknown"}],
    )
    live = made(steps=[{"observation": "no end"}], end=None)
    open_ended = odograph.Trajectory(live.id, live.records)  # as it is when its writer is gone
    return [whole, asked("other", 1.0), open_ended, made(task="empty")]


@BOTH
def test_what_is_read_back_is_equal(tmp_path: Path, to: str) -> None:
    """Every field, id, time, writer, token id and logprob is as it was, and importing again adds nothing."""
    ts = rich()
    manifest = export(ts, tmp_path / "o", to)
    assert manifest["trajectories"] == {"in": 4, "out": 4}
    assert manifest["left_out"] == {}
    assert sorted(read_back(tmp_path / "o"), key=lambda t: t["id"]) == dicts(ts)
    with odograph.open(tmp_path / "s") as store:
        assert store.import_sessions(tmp_path / "o").imported == 4
        assert store.import_sessions(tmp_path / "o").imported == 0
        for t in ts:
            assert [(r.id, r.time, r.writer, r.seq) for r in store.trajectory(t.id).records] == [(r.id, r.time, r.writer, r.seq) for r in t.records]  # fmt: skip


@BOTH
def test_what_came_late_and_was_corrected_comes_back(store: odograph.Store, tmp_path: Path, to: str) -> None:
    """Rewards, labels and edits after the end, odd numbers, two writers and superseded records are all there, in order."""
    with store.record(task="x", agent="a") as run, run.step() as step:
        step.llm_call(messages=[{"role": "user", "content": "q"}], response="nine", token_ids=[1, 2], logprobs=[-0.5, None])
    other = odograph.open(store.root)
    late = other.append(run.id)
    late.edit(store.trajectory(run.id).llm_calls[0]).rewrite("ten", author="me")
    late.reward(float("nan"), name="odd")
    late.reward(0.25, name="final")
    other.close()
    expected = store.trajectory(run.id).to_dict()
    store.export(tmp_path / "o", to)
    assert read_back(tmp_path / "o") == [expected]


@BOTH
def test_splits_lose_nothing(tmp_path: Path, to: str) -> None:
    """An export in splits is read back as one."""
    ts = [asked(str(n)) for n in range(20)]
    export(ts, tmp_path / "o", to, splits={"train": 0.5, "test": 0.5})
    assert sorted(read_back(tmp_path / "o"), key=lambda t: t["id"]) == dicts(ts)


@BOTH
def test_an_export_of_an_import_is_the_same_bytes(tmp_path: Path, to: str) -> None:
    """Export, import, export: nothing drifts."""
    with odograph.open(tmp_path / "s") as store:
        for t in rich():
            store.add(t)
        first = store.export(tmp_path / "1", to)
        with odograph.open("memory:") as back:
            back.import_sessions(tmp_path / "1")
            assert back.export(tmp_path / "2", to)["content_hash"] == first["content_hash"]


@BOTH
def test_a_resent_history_is_there_once(tmp_path: Path, to: str) -> None:
    """Twice the steps are about twice the bytes, though each step sends all of the history again."""

    def size(steps: int) -> int:
        history, made_steps = chat("s", "u"), []
        for n in range(steps):
            history = [*history, {"role": "user", "content": f"{n} " * 100}]
            made_steps.append({"llm_calls": [call(list(history), "r", prompt_token_ids=list(range(n * 50)))]})
        return sum(f["bytes"] for f in export([made(steps=made_steps)], tmp_path / f"{steps}", to)["files"])

    assert size(400) < 2.3 * size(200)


def test_lines_say_what_they_are(tmp_path: Path) -> None:
    """The first line has the format's version; each other one its kind and its trajectory; records name their writer."""
    t = asked("x")
    export([t], tmp_path / "o", "jsonl")
    header, *rest = [json.loads(line) for line in (tmp_path / "o/data/train.jsonl").read_text().splitlines()]
    assert header == {"kind": "odograph", "schema_version": 1}
    assert {line["kind"] for line in rest} == {"start", "step", "message", "llm_call", "end"}
    assert {line["trajectory"] for line in rest} == {t.id}
    assert all(line.get("writer") for line in rest if line["kind"] != "message")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@BOTH
@given(
    task=ANY,
    request=ANY,
    response=ANY,
    messages=st.lists(ANY, max_size=5),
    ids=st.none() | st.lists(st.integers(0, 2**40)),
    logprobs=st.none() | st.lists(st.none() | st.integers(-5, 0) | st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_content_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    to: str,
    task: Any,
    request: Any,
    response: Any,
    messages: Any,
    ids: Any,
    logprobs: Any,
) -> None:
    """Losslessly means for any JSON, and for ids and logprobs beyond what any model has."""  # fmt: skip
    tokens = [{"token_ids": ids, "logprobs": logprobs}] if ids is not None or logprobs is not None else []
    first = {"request": request, "response": response, "tokens": tokens}
    second = {**call(messages, response), "prompt_token_ids": ids, "tokens": tokens}
    t = made(task=task, steps=[{"observation": request, "llm_calls": [first, second, second]}])
    folder = tmp_path_factory.mktemp("any")
    assert export([t], folder / "o", to)["failed"] == []
    assert json.dumps(read_back(folder / "o")) == json.dumps([t.to_dict()])


def test_real_sessions_come_back(samples: Path, tmp_path: Path) -> None:
    """Sessions of real agents go out and in again without a difference."""
    with odograph.open(tmp_path / "s") as store:
        store.import_sessions(*[p for p in sorted(samples.iterdir()) if p.is_dir()][:40])
        before = {t.id: t.to_dict() for t in store.trajectories()}
        assert before
        for to in ("jsonl", "parquet"):
            manifest = store.export(tmp_path / to, to)
            assert manifest["trajectories"]["out"] == len(before)
            with odograph.open(tmp_path / f"{to}-back") as back:
                assert back.import_sessions(tmp_path / to).failed == []
                for id, whole in before.items():
                    assert back.trajectory(id).to_dict() == whole
        for to in ("hf", "openai", "atif"):
            assert store.export(tmp_path / to, to, ids=list(before)[::3])["failed"] == []
