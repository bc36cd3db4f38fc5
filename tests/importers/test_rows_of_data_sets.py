"""Rows of data sets, in the shapes and files that people have them in: conversations, preferences, tables, zips."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.types import Action, LLMCall, Reward, Start, StepStart

from .scaffold import of, read, write

CALLS = [{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {"y": 2}}]
PNG = "iVBORw0KGgo="


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def chat(*said: str) -> list[dict[str, str]]:
    return [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(said)]


def rows(folder: Path, name: str, *values: dict[str, Any]) -> list[odograph.importers.Session]:
    return read(name, write(folder / f"{name}.jsonl", "".join(json.dumps(v) + "\n" for v in values)))


#: A row, and what was asked and answered: (prompt, answer) of each call.
TALKS: dict[str, tuple[dict[str, Any], list[tuple[list[str], str]]]] = {
    "roles in conversations": ({"conversations": chat("hi", "yo", "and", "so")}, [(["hi"], "yo"), (["hi", "yo", "and"], "so")]),
    "null columns": ({"instruction": "do", "input": None, "output": "x", "history": None, "system": None}, [(["do"], "x")]),
    "names in capitals": ({"conversations": [human("hi"), {"from": "Assistant", "value": "x"}]}, [(["hi"], "x")]),
    "prompt and completion": ({"prompt": "p", "completion": "c"}, [(["p"], "c")]),
    "prompt and completion in messages": ({"prompt": chat("p"), "completion": [{"role": "assistant", "content": "c"}]}, [(["p"], "c")]),
    "dolly": ({"instruction": "do", "context": "with it", "response": "x", "category": "c"}, [(["do\nwith it"], "x")]),
    "question and answer": ({"question": "q", "answer": "a"}, [(["q"], "a")]),
    "query and response": ({"query": "q", "response": "a"}, [(["q"], "a")]),
    "a call that is no JSON": ({"conversations": [human("hi"), {"from": "function_call", "value": "f("}, gpt("x")]}, [(["hi"], "f("), (["hi", "f("], "x")]),
}  # fmt: skip


@pytest.mark.parametrize("name", TALKS)
def test_a_conversation_of_any_shape(tmp_path: Path, store: odograph.Store, name: str) -> None:
    """What was asked and answered is the same, however the row says it; the file is known by its content."""
    row, expected = TALKS[name]
    (session,) = rows(tmp_path, "sharegpt", row)
    calls = of(LLMCall, session)
    assert [([m["content"] for m in c.request["messages"]], c.response["content"]) for c in calls] == expected
    assert of(Start, session)[0].task == expected[0][0][0]
    assert store.import_sessions(tmp_path).trajectories[0]["format"] == "sharegpt"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"from": "function_call", "value": json.dumps(CALLS)}, [{"from": "observation", "value": json.dumps(["1", "2"])}]),
        ({"from": "function_call", "value": json.dumps(CALLS)}, [{"from": "tool", "value": "1"}, {"from": "tool", "value": "2"}]),
        (gpt("\n".join(f"<tool_call>\n{json.dumps(c)}\n</tool_call>" for c in CALLS)), [{"from": "tool", "value": "<tool_response>\n1\n</tool_response>\n<tool_response>2</tool_response>"}]),
    ],
)  # fmt: skip
def test_parallel_calls_have_their_own_results(tmp_path: Path, asked: dict[str, Any], told: list[dict[str, Any]]) -> None:
    """Several tool calls of one answer are several actions, and each has the result that stands in its place."""
    (session,) = rows(tmp_path, "sharegpt", {"conversations": [human("hi"), asked, *told, gpt("done")]})
    assert [(a.name, a.arguments, a.result) for a in of(Action, session)] == [("f", {"x": 1}, "1"), ("g", {"y": 2}, "2")]
    assert session.warnings == {}
    assert len(of(LLMCall, session)) == 2


#: A row, and (prompt, answer, reward) of each trajectory.
JUDGED: dict[str, tuple[dict[str, Any], list[tuple[str, str, float]]]] = {
    "of OpenAI": ({"input": {"messages": chat("p")}, "preferred_output": chat("", "a")[1:], "non_preferred_output": chat("", "b")[1:]}, [("p", "a", 1), ("p", "b", 0)]),
    "of LLaMA-Factory": ({"conversations": [human("p")], "chosen": gpt("a"), "rejected": gpt("b")}, [("p", "a", 1), ("p", "b", 0)]),
    "of Alpaca's fields": ({"instruction": "p", "input": "q", "chosen": "a", "rejected": "b"}, [("p\nq", "a", 1), ("p\nq", "b", 0)]),
    "of ms-swift": ({"messages": chat("p", "a"), "rejected_response": "b"}, [("p", "a", 1), ("p", "b", 0)]),
    "KTO of LLaMA-Factory": ({"conversations": [human("p"), gpt("a")], "kto_tag": False}, [("p", "a", 0)]),
    "KTO of ms-swift": ({"messages": chat("p", "a"), "label": True}, [("p", "a", 1)]),
    "KTO of a table": ({"prompt": "p", "completion": "a", "label": 1}, [("p", "a", 1)]),
    "beside messages": ({"prompt": "p", "chosen": chat("p", "a"), "rejected": chat("p", "b"), "messages": chat("p", "a")}, [("p", "a", 1), ("p", "b", 0)]),
}  # fmt: skip


@pytest.mark.parametrize("name", JUDGED)
def test_a_preference_of_any_shape(tmp_path: Path, store: odograph.Store, name: str) -> None:
    """Whatever a row calls them, the answer that was preferred has reward 1, the other 0, and both have the prompt."""
    row, expected = JUDGED[name]
    found = rows(tmp_path, "preferences", row)
    calls = [of(LLMCall, s)[0] for s in found]
    values = [of(Reward, s)[0].value for s in found]
    told = [(c.request["messages"][-1]["content"], c.response["content"]) for c in calls]
    assert [(*t, v) for t, v in zip(told, values, strict=True)] == expected
    assert {t["format"] for t in store.import_sessions(tmp_path).trajectories} == {"preferences"}


def test_a_row_longer_than_the_head_is_known(tmp_path: Path, store: odograph.Store) -> None:
    """A first row of more than 64 KB is no obstacle."""
    long = "moss " * 20_000
    for name, row in {"a": {"prompt": chat(long), "chosen": "a", "rejected": "b"}, "b": {"id": 1, "conversations": chat(long, "x")}}.items():  # fmt: skip
        write(tmp_path / f"{name}.jsonl", json.dumps(row) + "\n")
    assert {t["format"] for t in store.import_sessions(tmp_path).trajectories} == {"preferences", "sharegpt"}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [human("<image>see"), gpt("moss")], "image": f"data:image/png;base64,{PNG}"},
        {"messages": [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "see"}]}, *chat("", "moss")[1:]], "images": [{"bytes": PNG, "path": None}], "label": True},
    ],
)  # fmt: skip
def test_images_stand_where_their_marks_are(tmp_path: Path, row: dict[str, Any]) -> None:
    """A prompt has the image that the row holds beside it."""
    (session,) = rows(tmp_path, "preferences" if "label" in row else "sharegpt", row)
    content = of(LLMCall, session)[0].request["messages"][0]["content"]
    url = f"data:image/png;base64,{PNG}"
    assert content == [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "see"}]
    assert not {"image", "images"} & of(Start, session)[0].metadata["source"].keys()


def test_tables_are_read_as_their_rows_are(tmp_path: Path, store: odograph.Store) -> None:
    """Parquet, Arrow, CSV, and any of them in a zip, give what the same rows give as JSON lines: known once. What is no session is
    passed over in a folder, and refused in a sentence where it is named."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.ipc as ipc
    import pyarrow.parquet as pq

    values = [{"prompt": chat(f"p{n}"), "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}], "score": 0.5} for n in range(30)]  # fmt: skip
    first = store.import_sessions(write(tmp_path / "plain.jsonl", "".join(json.dumps(v) + "\n" for v in values)))
    table = pa.Table.from_pylist(values)
    folder = tmp_path / "tables"
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    with ipc.new_file(folder / "b.arrow", table.schema) as written:
        written.write_table(table)
    with ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as written:
        written.write_table(table)
    with (folder / "c.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["prompt", "chosen", "rejected", "score"])
        lines.writerows([json.dumps(v["prompt"]), str(v["chosen"]), json.dumps(v["rejected"]), 0.5] for v in values[:1])
    with zipfile.ZipFile(folder / "d.zip", "w") as packed:
        packed.write(folder / "a.parquet", "deep/a.parquet")
    (folder / "e.csv").write_text("a,b\n1,2\n")
    (folder / "f.parquet").write_bytes(b"PAR1 torn")
    with zipfile.ZipFile(folder / "g.zip", "w") as packed:
        packed.writestr("../../out.json", "{}")
    report = store.import_sessions(folder)
    assert (first.imported, report.failed) == (60, [])
    assert report.imported == 2  # of the CSV: its numbers are texts
    assert [Path(p).name for p in report.unrecognised] == ["e.csv", "f.parquet", "g.zip"]
    assert store.import_sessions(folder).imported == 0
    errors = [f["error"] for f in store.import_sessions(*(folder / n for n in ("e.csv", "f.parquet", "g.zip"))).failed]
    assert ["no session of a known format" in errors[0], "damaged table" in errors[1], "leads out of the zip" in errors[2]] == [
        True
    ] * 3


def test_parquet_of_art(tmp_path: Path, store: odograph.Store) -> None:
    """ART's Parquet files: what the policy said is a call, what stands there as `trainable: false` is its prompt; groups, rewards,
    metrics, tools and logs are those of the row."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    def said(role: str, content: str | None, trainable: bool = False, **more: Any) -> dict[str, Any]:
        return {"role": role, "content": content, "tool_calls": None, "tool_call_id": None, "trainable": trainable, **more}

    call = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    shown = [said("user", "q"), said("assistant", "an example"), said("user", "q2")]
    asked = [*shown, said("assistant", None, True, tool_calls=json.dumps(call)), said("tool", "r", tool_call_id="c1")]
    about = {"group_metadata": '{"scene": 1}', "metrics": '{"acc": true}', "metadata": '{"k": "v"}', "tools": '[{"type": "function"}]', "logs": ["l"]}  # fmt: skip
    values = [
        {"group_index": 0, "reward": 0.5, "messages": [*asked, said("assistant", "done", True)], **about},
        {"group_index": 0, "reward": 0.0, "messages": [said("user", "q"), said("assistant", "no", True)]},
        {"group_index": 1, "reward": 1.0, "messages": [said("user", "p"), said("assistant", "yes", True)]},
    ]
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "0007.parquet")
    report = store.import_sessions(tmp_path)
    assert {t["format"] for t in report.trajectories} == {"art"}
    found = {t.llm_calls[-1].choices[0].text: t for t in store.trajectories()}
    assert {k: (t.group, t.reward, len(t.llm_calls)) for k, t in found.items()} == {
        "done": ("0007-0", 0.5, 2), "no": ("0007-0", 0.0, 1), "yes": ("0007-1", 1.0, 1),
    }  # fmt: skip
    first = found["done"]
    assert [m["content"] for m in first.llm_calls[0].messages] == ["q", "an example", "q2"]
    assert [(a.name, a.arguments, a.result) for a in first.actions] == [("f", {"a": 1}, "r")]
    assert (first.rewards["acc"], first.metadata["source"]["k"], first.metadata["source"]["scene"]) == (1.0, "v", 1)
    assert store.import_sessions(tmp_path).imported == 0


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"question": "q", "choices": ["a", "b"], "answer": "B"}, "reference answers"),
        ({"input": "q", "output": "a"}, "expected `prompt` and `completion`"),
        (
            {"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": chat("q")}},
            "file of the answers",
        ),
    ],
)
def test_rows_that_no_model_answered_are_told(tmp_path: Path, store: odograph.Store, row: dict[str, Any], why: str) -> None:
    """Rows that only look like answers are no session, and one sentence says why; in a folder they are passed over."""
    path = write(tmp_path / "rows.jsonl", json.dumps(row) + "\n")
    (failed,) = store.import_sessions(path).failed
    assert why in failed["error"]
    assert (store.import_sessions(tmp_path).failed, store.import_sessions(tmp_path).unrecognised) == ([], [str(path)])


#: Rows of rated completions: each answer with its rewards by name, and what counts.
RATED: dict[str, tuple[list[dict[str, Any]], list[tuple[str, dict[str, float], float | None]]]] = {
    "numbers": ([{"prompt": "q", "completions": ["a", "b"], "rewards": [1, 0]}], [("a", {"reward": 1}, 1), ("b", {"reward": 0}, 0)]),
    "messages": ([{"prompt": chat("q"), "completions": [[{"role": "assistant", "content": "a"}]], "scores": [0.5]}], [("a", {"reward": 0.5}, 0.5)]),
    "a list for each name": (
        [{"prompt": "q", "completions": ["a", "b"], "rewards": {"form": [1, 0], "right": [0, 1]}}],
        [("a", {"form": 1, "right": 0}, None), ("b", {"form": 0, "right": 1}, None)],
    ),
    "ratings inside": (
        [{"instruction": "q", "completions": [{"model": "x", "response": "a", "overall_score": 7.5}]}], [("a", {"reward": 7.5}, 7.5)],
    ),
    "a row for each": (
        [{"prompt": "q", "response": r, "reward": v} for r, v in (("a", 1), ("b", 0))], [("a", {"reward": 1}, 1), ("b", {"reward": 0}, 0)],
    ),
    "as TRL logs them": (
        [{"step": 1, "prompt": "q", "completion": r, "right": v, "advantage": v - 0.5} for r, v in (("a", 1), ("b", 0))],
        [("a", {"right": 1}, 1), ("b", {"right": 0}, 0)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RATED)
def test_rated_completions_are_a_group(tmp_path: Path, store: odograph.Store, name: str) -> None:
    """The completions of a prompt are trajectories of one group, however the rows say it; unlike rewards are not summed."""
    values, expected = RATED[name]
    write(tmp_path / "rows.jsonl", "".join(json.dumps(v) + "\n" for v in values))
    report = store.import_sessions(tmp_path)
    assert ({t["format"] for t in report.trajectories}, report.failed) == ({"completions"}, [])
    found = sorted(store.trajectories(), key=lambda t: t.llm_calls[0].text)
    assert [(t.llm_calls[0].text, {n: t.rewards[n] for n in t.rewards.names}, t.reward) for t in found] == expected
    assert len({t.group for t in found}) == 1 and found[0].group
    assert {(t.task, t.llm_calls[0].messages[0]["content"]) for t in found} == {("q", "q")}


def batch(answers: list[dict[str, Any]], requests: list[dict[str, Any]], folder: Path) -> None:
    for name, values in (("answers.jsonl", answers), ("requests.jsonl", requests)):
        if values:
            write(folder / name, "".join(json.dumps(v) + "\n" for v in values))


COMPLETION = {"object": "chat.completion", "model": "m1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}  # fmt: skip
MESSAGE = {"type": "message", "role": "assistant", "model": "m1", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn", "usage": {"input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 2}}  # fmt: skip
CANDIDATES = {"candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2}, "modelVersion": "m1"}  # fmt: skip
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "q"}]}]}
RESPONSE = {"object": "response", "model": "m1", "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}], "usage": {"input_tokens": 9, "output_tokens": 2}}  # fmt: skip
#: Answers of a batch, and their requests where these stand in a file of their own.
BATCHES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "openai chat": (
        {"custom_id": "r", "response": {"status_code": 200, "body": COMPLETION}, "error": None},
        {"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": chat("q")}},
    ),
    "openai responses": (
        {"custom_id": "r", "response": {"status_code": 200, "body": RESPONSE}, "error": None},
        {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "q"}},
    ),
    "anthropic": ({"custom_id": "r", "result": {"type": "succeeded", "message": MESSAGE}}, {"custom_id": "r", "params": {"messages": chat("q")}}),
    "gemini": ({"key": "r", "response": CANDIDATES}, {"key": "r", "request": CONTENTS}),
    "vertex": ({"status": "", "request": CONTENTS, "response": CANDIDATES}, None),
    "bedrock": ({"recordId": "r", "modelInput": {"messages": chat("q")}, "modelOutput": MESSAGE}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_answers_of_a_batch(tmp_path: Path, store: odograph.Store, name: str) -> None:
    """An answer has the request of its id, from the file beside it; both are the bodies that crossed the wire."""
    answer, request = BATCHES[name]
    other = [] if request is None else [{**request, ("key" if "key" in request else "custom_id"): "other"}, request]
    batch([answer], other, tmp_path)
    report = store.import_sessions(tmp_path)
    assert (report.imported, report.failed, report.warnings) == (1, [], [])
    (t,) = store.trajectories()
    (call,) = t.llm_calls
    assert (t.task, [m["content"] for m in call.messages], call.text) == ("q", ["q"], "a")
    assert (call.model, call.prompt_tokens, call.completion_tokens, call.origin) == ("m1", 9, 2, "wire")
    assert call.request == (request or {}).get("body", (request or {}).get("params", answer.get("modelInput", CONTENTS)))


def test_a_failed_request_of_a_batch(tmp_path: Path, store: odograph.Store) -> None:
    """What was not answered is a failed trajectory with the error; where its request is nowhere, the import says so."""
    answers = [
        {"custom_id": "a", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}, "error": None},
        {"custom_id": "b", "response": None, "error": {"code": "batch_expired"}},
        {"custom_id": "c", "result": {"type": "errored", "error": {"type": "x"}}},
        {"custom_id": "d", "result": {"type": "expired"}},
    ]
    batch(
        answers, [{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": chat("q")}}], tmp_path
    )
    report = store.import_sessions(tmp_path)
    errors = {t.metadata["source"]["request"]: (t.status, t.llm_calls[0].error) for t in store.trajectories()}
    assert errors == {
        "a": ("failed", {"error": {"message": "no"}}),
        "b": ("failed", {"code": "batch_expired"}),
        "c": ("failed", {"type": "x"}),
        "d": ("failed", {"type": "expired"}),
    }
    assert len(report.warnings) == 3


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("openai-chat", {"messages": chat("p", "a"), "reward": 0.5}),
        ("openai-chat", {"messages": chat("p", "a"), "scores": {"quality": 0.5}}),
        ("sharegpt", {"conversations": [human("p"), gpt("a")], "score": 0.5}),
    ],
)
def test_a_rated_talk(tmp_path: Path, store: odograph.Store, name: str, row: dict[str, Any]) -> None:
    """The reward that stands beside a talk is the run's; of several scores, none is by accident."""
    write(tmp_path / "a.jsonl", json.dumps(row) + "\n")
    assert [t["format"] for t in store.import_sessions(tmp_path).trajectories] == [name]
    assert [t.reward for t in store.trajectories()] == [0.5]


def test_a_result_without_an_id_is_of_the_last_answer(tmp_path: Path) -> None:
    """A tool's message without an id is the result of the next call of the answer before it, never of an older answer."""
    asks = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    older = {"role": "assistant", "content": "", "tool_calls": [{"name": "g", "arguments": {}}]}
    talk = [*chat("p"), older, *chat("no"), asks, {"role": "tool", "name": "f", "content": "out"}, *chat("", "done")[1:]]
    (session,) = rows(tmp_path, "openai-chat", {"messages": talk})
    assert [(a.name, a.result) for a in of(Action, session)] == [("g", None), ("f", "out")]
    assert session.warnings == {}


def test_a_talk_in_one_text_is_taken_apart(tmp_path: Path) -> None:
    """Older rows write `Human:` and `Assistant:` in one text: its turns are the prompt, the last is the answer."""
    before = "\n\nHuman: hi\n\nthere\n\nAssistant: yo\n\nHuman: more\n\nAssistant: "
    found = rows(tmp_path, "preferences", {"chosen": before + "good", "rejected": before + "bad"})
    asked = [*chat("hi\n\nthere", "yo", "more")]
    assert [(list(c.request["messages"]), c.response["content"]) for c in of(LLMCall, *found)] == [
        (asked, "good"),
        (asked, "bad"),
    ]
    assert of(Start, found[0])[0].task == "hi\n\nthere"


def test_what_is_no_answer_is_no_preference(tmp_path: Path) -> None:
    """A row whose answers are in an unknown shape is warned of, and makes no empty trajectory."""
    first, second = rows(tmp_path, "preferences", {"prompt": "p", "chosen": ["a", "b"], "rejected": "c"}, {"prompt": "p", "chosen": "a", "rejected": "b"})  # fmt: skip
    assert first.warnings == {"rows of another shape before this one": 1}
    assert len(of(LLMCall, first, second)) == 2


def test_blocks_of_anthropics_shape_are_read_as_they_are(tmp_path: Path) -> None:
    """Tool calls, results and thoughts that stand in blocks of content are those of the chat, in each kind of row."""
    thought = {"type": "thinking", "thinking": "which bone", "signature": "s"}
    asks = {"role": "assistant", "content": [thought, {"type": "tool_use", "id": "t", "name": "dig", "input": {"m": 1}}]}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a bone"}], "is_error": True}
    talk = [asks, {"role": "user", "content": [result, {"type": "text", "text": "deeper"}]}, *chat("", "done")[1:]]
    for format, row in (
        ("verifiers", {"prompt": chat("p"), "completion": talk, "reward": 1.0}),
        ("completions", {"prompt": chat("p"), "completions": [talk], "rewards": [1.0]}),
        ("sharegpt", {"conversations": [*chat("p"), *talk]}),
        ("preferences", {"prompt": chat("p"), "completion": talk, "label": True}),
    ):
        (session,) = rows(tmp_path, format, row)
        assert not session.warnings
        (action,), calls = of(Action, session), of(LLMCall, session)
        assert (action.name, action.arguments, action.tool_call_id, action.ok) == ("dig", {"m": 1}, "t", False)
        assert (action.result, action.llm_call) == (result["content"], calls[0].id)
        assert [(c.dialect, c.reasoning) for c in calls] == [("anthropic.messages", "which bone"), ("anthropic.messages", None)]
        assert list(calls[1].request["messages"]) == [*chat("p"), *talk[:2]]
        assert of(StepStart, session)[1].observation == talk[1]["content"]


def test_rows_of_a_program_have_their_prompt_and_times(tmp_path: Path) -> None:
    """A talk that a program (Hermes) kept in rows has the `system_prompt` beside it in each prompt, and the times of its messages."""
    asked = [{"id": "c", "type": "function", "function": {"name": "terminal", "arguments": '{"command": "ls"}'}}]
    messages: list[dict[str, Any]] = [
        {"id": 1, "role": "user", "content": "List", "tool_calls": None, "timestamp": 1772359811.5},
        {"id": 2, "role": "assistant", "content": "", "tool_calls": asked, "timestamp": 1772359815.5, "reasoning": "I list"},
        {"id": 3, "role": "tool", "content": "a.txt", "tool_call_id": "c", "timestamp": 1772359816.5},
        {"id": 4, "role": "assistant", "content": "One.", "tool_calls": None, "timestamp": "2026-03-01T10:10:20Z"},
    ]
    row = {"id": "s", "model": "m", "system_prompt": "You are Hermes.", "input_tokens": 12, "messages": messages}
    (session,) = read("openai-chat", write(tmp_path / "a.jsonl", json.dumps(row) + "\n"))
    calls = of(LLMCall, session)
    before = {"role": "system", "content": "You are Hermes."}
    assert [list(c.request["messages"]) for c in calls] == [[before, *messages[:1]], [before, *messages[:3]]]
    assert [c.source_time for c in calls] == [1772359815_500_000_000, 1772359820_000_000_000]
    assert [(c.model, c.reasoning) for c in calls] == [("m", "I list"), ("m", None)]
    assert of(Start, session)[0].metadata["source"]["input_tokens"] == 12
    assert [(a.arguments, a.result) for a in of(Action, session)] == [({"command": "ls"}, "a.txt")]


def test_chat_rows_with_content_blocks(tmp_path: Path, store: odograph.Store) -> None:
    """Rows with Anthropic's blocks have their thoughts, actions, results by id and errors; the system prompt beside the messages
    is sent first; tools stay as they are; a row of plain texts may stand before, and a tool that the API ran has its result."""
    tool = {"name": "look", "description": "d", "input_schema": {"type": "object"}}
    asked = [
        {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "I look"},
        {"type": "tool_use", "id": "a", "name": "look", "input": {"q": 1}}, {"type": "tool_use", "id": "b", "name": "look", "input": {"q": 2}},
    ]  # fmt: skip
    gave = [{"type": "tool_result", "tool_use_id": "b", "content": "no such", "is_error": True}, {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "a tree"}]}]  # fmt: skip
    served = [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}, {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]}, {"type": "text", "text": "In a tree"}]  # fmt: skip
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": asked}, {"role": "user", "content": gave}, {"role": "assistant", "content": served}]  # fmt: skip
    plain = {"system": [{"type": "text", "text": "be brief"}], "messages": chat("hi", "yo")}
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in (plain, {"system": "be brief", "model": "c", "tools": [tool], "messages": messages})))  # fmt: skip
    report = store.import_sessions(path)
    assert (report.failed, [t["format"] for t in report.trajectories]) == ([], ["openai-chat", "anthropic-messages"])
    first, second = read("openai-chat", path)
    (said,) = of(LLMCall, first)
    assert said.request == {"messages": [{"role": "system", "content": plain["system"]}, *chat("hi")]}
    calls = of(LLMCall, second)
    brief = {"role": "system", "content": "be brief"}
    assert [list(c.request["messages"]) for c in calls] == [[brief, *messages[:1]], [brief, *messages[:3]]]
    assert [(c.dialect, c.reasoning, c.request["tools"]) for c in calls] == [("anthropic.messages", "hm", [tool]), ("anthropic.messages", None, [tool])]  # fmt: skip
    assert [(a.name, a.arguments, a.result, a.ok) for a in of(Action, second)] == [
        ("look", {"q": 1}, [{"type": "text", "text": "a tree"}], None),
        ("look", {"q": 2}, "no such", False),
        ("web_search", {"query": "q"}, [{"url": "u"}], None),
    ]
    assert [s.observation for s in of(StepStart, second)] == ["Where?", None]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("wrap", [list, dict])
@pytest.mark.parametrize("said", ["Where?", "Where? " * 30_000])
def test_chats_of_anthropics_shape_are_a_format_of_their_own(tmp_path: Path, store: odograph.Store, said: str, wrap: type, indent: int | None) -> None:  # fmt: skip
    """A chat with Anthropic's blocks is known as such, however long and however written; `openai-chat` says what it found."""
    use, gave = {"type": "tool_use", "id": "a", "name": "look", "input": {}}, {"type": "tool_result", "tool_use_id": "a", "content": "a tree"}  # fmt: skip
    row = {"messages": [*chat(said), {"role": "assistant", "content": [use]}, {"role": "user", "content": [gave]}, *chat("", "In a tree")[1:]]}  # fmt: skip
    path = write(tmp_path / "a.json", json.dumps([row] if wrap is list else row, indent=indent))
    report = store.import_sessions(path)
    assert ([t["format"] for t in report.trajectories], report.failed) == (["anthropic-messages"], [])
    assert [(a.name, a.result) for a in next(iter(store.trajectories())).actions] == [("look", "a tree")]
    (failed,) = store.import_sessions(path, format="openai-chat").failed
    assert failed["error"] == "chat messages of the format anthropic-messages; expected openai-chat"
