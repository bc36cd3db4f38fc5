"""`hf-traces`: sessions that the Hub's trace viewer reads, by the rules of its page on the Session Trace Simple Format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odograph.errors import InvalidInput
from odograph.training.export import export
from odograph.trajectory import Trajectory

from .made import asked, call, chat, made


def session(t: Trajectory, tmp_path: Path, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the messages of the one file, each line held against the format's page."""
    manifest = export([t], tmp_path / "o", "hf-traces", **options)
    (file,) = manifest["files"]
    head, *rest = [json.loads(line) for line in (tmp_path / "o" / file["path"]).read_text().splitlines()]
    assert head["type"] == "session"
    assert isinstance(head["harness"], str)
    assert head["id"] == t.id
    for line in rest:
        assert set(line) == {"type", "message"}
        assert line["type"] == "message"
        message = line["message"]
        assert message["role"] in ("user", "assistant", "system", "tool")
        assert isinstance(message["content"], str)
        assert set(message) <= {"role", "content", "reasoningContent", "toolCalls", "toolCallId", "timestamp", "model"}
        for asked_for in message.get("toolCalls", ()):
            assert set(asked_for) == {"id", "function"}
            assert all(isinstance(asked_for["function"][k], str) for k in ("name", "arguments"))
    return head, [line["message"] for line in rest]


def tool_call(id: str, arguments: str = "{}") -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id, "type": "function", "function": {"name": "get_time", "arguments": arguments}}],
    }


def test_a_session_reads_once_from_question_to_answer(tmp_path: Path) -> None:
    """An agent resends its whole history at each call; the session has each message once, results beside their calls."""
    first = chat("You tell the time.", "what time is it?")
    answer = {**tool_call("t1", '{"zone":"UTC"}'), "reasoning_content": "look it up"}
    second = [*first, tool_call("t1", '{"zone": "UTC"}'), {"role": "tool", "tool_call_id": "t1", "content": "15:00"}]
    steps = [
        {
            "llm_calls": [call(first, answer)],
            "actions": [{"name": "get_time", "arguments": {}, "result": {"raw": "15:00"}, "tool_call_id": "t1"}],
        },
        {"llm_calls": [call(second, "it is 15:00")]},
    ]
    head, messages = session(made(task="what time\nis it?", group="g", steps=steps, rewards=[{"value": 0.0}]), tmp_path)
    assert (head["name"], head["harness"], head["reward"], head["group"]) == ("what time is it?", "odograph", 0.0, "g")
    assert [(m["role"], m["content"]) for m in messages] == [
        ("system", "You tell the time."),
        ("user", "what time is it?"),
        ("assistant", ""),
        ("tool", "15:00"),
        ("assistant", "it is 15:00"),
    ]
    assert messages[2]["toolCalls"] == [{"id": "t1", "function": {"name": "get_time", "arguments": '{"zone":"UTC"}'}}]
    assert (messages[2]["reasoningContent"], messages[2]["model"], messages[3]["toolCallId"]) == ("look it up", "m", "t1")
    assert messages[2]["timestamp"] > 1_700_000_000_000  # milliseconds


def test_what_no_prompt_shows_is_in_it_too(tmp_path: Path) -> None:
    """The last tool's result, and an action without a tool call, as trading by hand has them."""
    steps = [
        {
            "llm_calls": [call(chat("s", "buy?"), tool_call("t9"))],
            "actions": [
                {"name": "get_time", "arguments": {}, "result": {"hour": 3}, "tool_call_id": "t9"},
                {"name": "BUY", "arguments": {"n": 1}, "error": "no money"},
            ],
        }
    ]
    _, messages = session(made(steps=steps), tmp_path)
    assert [(m["content"], m.get("toolCallId")) for m in messages[3:]] == [
        ('BUY({"n":1})\nerror: no money', None),
        ('{"hour":3}', "t9"),
    ]


def test_a_history_that_was_cut_shows_only_what_is_new(tmp_path: Path) -> None:
    """After a compaction the prompt is another; what was shown is not shown again, the summary is."""
    first = chat("s", "one", "1", "two")
    steps = [
        {"llm_calls": [call(first, "2")]},
        {"llm_calls": [call([*chat("s", "summary: one, two"), {"role": "user", "content": "two"}], "2 again")]},
    ]
    _, messages = session(made(steps=steps), tmp_path)
    assert [m["content"] for m in messages] == ["s", "one", "1", "two", "2", "summary: one, two", "2 again"]


def test_the_card_names_the_sessions_and_the_harness_is_checked(tmp_path: Path) -> None:
    """The YAML header leads to the files; a harness is an identifier; a trajectory without a call is left out with a reason."""
    manifest = export([asked("a"), made(task="t")], tmp_path / "o", "hf-traces", license="mit", harness="llama.app")
    card = (tmp_path / "o/README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "path: data/train-*.jsonl" in card
    assert manifest["rows"] == 1
    assert manifest["left_out"] == {"no call of a model": 1}
    failed = export([asked("a")], tmp_path / "p", "hf-traces", harness="a\nb")["failed"]
    assert "a harness is an identifier" in failed[0]["error"]
    with pytest.raises(InvalidInput, match="license"):
        export([asked("a")], tmp_path / "q", "hf-traces", license="a\nb")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=8
)


@given(messages=st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "tool", "assistant", "x"])}, optional={"content": json_values, "tool_calls": json_values, "tool_call_id": json_values}), min_size=1, max_size=4), response=json_values)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_no_content_fails_it(messages: list[Any], response: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever agents said: what is written is a session by the format's rules."""
    step = {"llm_calls": [call(messages, {"role": "assistant", "content": response})]}
    t = made(steps=[step])
    folder = tmp_path_factory.mktemp("t")
    manifest = export([t], folder / "o", "hf-traces")
    assert manifest["failed"] == []
    if manifest["rows"]:
        session(t, folder / "again")
