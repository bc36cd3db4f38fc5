"""`openai`: rows that the fine-tuning API takes, in which each answer is trained once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from odograph.training.export import export
from odograph.trajectory import Trajectory
from tests.cost import costs

from .made import call, chat, lines, made

# The schema of a row: OpenAI's API reference, FineTuneChatRequestInput and the messages in it.

Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Text(msgspec.Struct, forbid_unknown_fields=True, tag="text"):
    text: str


class Url(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class Image(msgspec.Struct, forbid_unknown_fields=True, tag="image_url"):
    image_url: Url


class Function(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    arguments: str


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=1)]
    type: Literal["function"]
    function: Function


class System(msgspec.Struct, forbid_unknown_fields=True, tag_field="role", tag="system"):
    content: str


class User(msgspec.Struct, forbid_unknown_fields=True, tag_field="role", tag="user"):
    content: str | Annotated[list[Text | Image], Meta(min_length=1)]


class Assistant(msgspec.Struct, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    content: str | None
    tool_calls: Annotated[list[ToolCall], Meta(min_length=1)] | None = None
    weight: Literal[0, 1] = 1


class Tool(msgspec.Struct, forbid_unknown_fields=True, tag_field="role", tag="tool"):
    content: str
    tool_call_id: str


class FunctionSchema(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    parameters: dict[str, Any]
    description: str = ""
    strict: bool = False


class ToolSchema(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: FunctionSchema


class Row(msgspec.Struct, forbid_unknown_fields=True):
    messages: Annotated[list[System | User | Assistant | Tool], Meta(min_length=1)]
    tools: Annotated[list[ToolSchema], Meta(min_length=1)] | None = None


def check(row: dict[str, Any]) -> None:
    """The schema, and what it can't say: tool calls are followed by their results, and something is trained, at the end."""
    messages = msgspec.convert(row, Row).messages
    waiting: set[str] = set()
    for message in messages:
        if isinstance(message, Tool):
            assert message.tool_call_id in waiting
            waiting.remove(message.tool_call_id)
            continue
        assert not waiting
        if isinstance(message, Assistant):
            assert message.content is not None or message.tool_calls
            waiting = {c.id for c in message.tool_calls or ()}
    assert isinstance(messages[-1], Assistant)
    assert messages[-1].weight == 1


def rows(tmp_path: Path, *trajectories: Trajectory) -> tuple[list[dict[str, Any]], dict[str, int]]:
    manifest = export(trajectories, tmp_path / "o", "openai")
    found = lines(tmp_path / "o")
    for row in found:
        check(row)
    assert manifest["failed"] == []
    return found, manifest["left_out"]


def trained(row: dict[str, Any]) -> list[Any]:
    return [m["content"] for m in row["messages"] if m["role"] == "assistant" and m.get("weight") != 0]


def run(*calls: dict[str, Any], **data: Any) -> Trajectory:
    return made(steps=[{"llm_calls": [c]} for c in calls], **data)


def asks(id: str = "c1", name: str = "add", arguments: Any = '{"a":1}') -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}],
    }


def test_a_growing_conversation_is_one_row(tmp_path: Path) -> None:
    """All turns, tools and results in one row; the model's own answers are trained, each once."""
    tools = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}}}]
    history = chat("s", "u")
    result = {"role": "tool", "tool_call_id": "c1", "content": "2"}
    first = {"choices": [{"index": 0, "message": asks()}]}
    t = run(
        call(history, first),
        call([*history, asks(), result], "two"),
        call([*history, asks(), result, {"role": "assistant", "content": "two"}, {"role": "user", "content": "sure?"}], "yes"),
    )
    t = run(
        *[
            {**c, "request": {**c["request"], "tools": tools}}
            for c in ({"request": call_.request, "response": call_.response} for call_ in t.llm_calls)
        ]
    )
    (row,), left_out = rows(tmp_path, t)
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert trained(row) == [None, "two", "yes"]
    assert row["tools"] == tools
    assert left_out == {}


def test_what_came_with_the_prompt_is_not_trained(tmp_path: Path) -> None:
    """Examples in the first prompt, and what an agent puts into the model's mouth later, have weight 0: also where the
    model gave the very same answer elsewhere."""
    history = chat("s", "example", "yes", "u")
    more = [
        *history,
        {"role": "assistant", "content": "yes"},
        {"role": "assistant", "content": "put in"},
        {"role": "user", "content": "v"},
    ]
    (row,), _ = rows(tmp_path, run(call(history, "yes"), call(more, "no")))
    assert [(m["content"], m.get("weight")) for m in row["messages"] if m["role"] == "assistant"] == [
        ("yes", 0),
        ("yes", None),
        ("put in", 0),
        ("no", None),
    ]


def test_a_rewritten_history_begins_another_row(tmp_path: Path) -> None:
    """Nothing is trained twice and nothing is lost, whatever an agent does to its history."""
    q = {"role": "user", "content": "q"}
    said = {"role": "assistant", "content": "a"}
    calls = [
        call([q], "a"),
        call([q, said, q], "b"),
        call([q, {"role": "assistant", "content": "CHANGED"}, q], "c"),
        call([q], "d"),
    ]
    found, _ = rows(tmp_path, run(*calls))
    assert [trained(r) for r in found] == [["a", "b"], ["c"], ["d"]]


def test_agents_have_their_own_rows(tmp_path: Path) -> None:
    """Calls of a sub-agent in between do not break the main agent's conversation."""
    q, a = {"role": "user", "content": "q"}, {"role": "assistant", "content": "1"}
    calls = [call([q], "1"), call([{"role": "user", "content": "sub"}], "s", agent="sub"), call([q, a, q], "2")]
    found, _ = rows(tmp_path, made(steps=[{"llm_calls": calls[:1]}], llm_calls=calls[1:]))
    assert sorted(trained(r) for r in found) == [["1", "2"], ["s"]]


def test_of_several_choices_the_continued_one_is_trained(tmp_path: Path) -> None:
    """The next prompt says which answer was taken; the others are counted."""
    q = {"role": "user", "content": "q"}
    both = {"choices": [{"index": i, "message": {"role": "assistant", "content": text}} for i, text in enumerate("xy")]}
    found, left_out = rows(tmp_path, run(call([q], both), call([q, {"role": "assistant", "content": "y"}, q], "z")))
    assert [trained(r) for r in found] == [["y", "z"]]
    assert left_out == {"a choice that was not continued": 1}


def test_anthropic_conversations_are_one_row_though_the_cache_mark_moves(tmp_path: Path) -> None:
    """Tool uses, results and images in the format's own shape; thinking and cache marks, which it has no place for, aside."""
    mark = {"cache_control": {"type": "ephemeral"}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    user = {"role": "user", "content": [{"type": "text", "text": "look"}, image]}
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "I look"},
        {"type": "tool_use", "id": "t", "name": "see", "input": {"x": 1}},
    ]
    result = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a cat"}]}],
    }
    marked = {**user, "content": [user["content"][0], {**image, **mark}]}
    answers = [{"type": "message", "role": "assistant", "content": c} for c in (content, [{"type": "text", "text": "a cat."}])]
    requests = [
        [marked],
        [user, {"role": "assistant", "content": content}, {**result, "content": [{**result["content"][0], **mark}]}],
    ]
    tools = [{"name": "see", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "no way!"}]
    calls = [
        {"dialect": "anthropic.messages", "request": {"system": "s", "messages": m, "tools": tools}, "response": a}
        for m, a in zip(requests, answers, strict=True)
    ]
    (row,), left_out = rows(tmp_path, run(*calls))
    assert row["messages"] == [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": "I look",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "see", "arguments": '{"x":1}'}}],
        },
        {"role": "tool", "tool_call_id": "t", "content": "a cat"},
        {"role": "assistant", "content": "a cat."},
    ]
    assert [t["function"]["name"] for t in row["tools"]] == ["see"]
    assert left_out == {"a tool that is no function of an allowed name": 1}


@pytest.mark.parametrize("stored", [False, True])
def test_responses_conversations_are_one_row(tmp_path: Path, stored: bool) -> None:
    """Items that make up one answer are one message, whether the agent sends the history or the response's id."""
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I add"}]},
        {"type": "function_call", "call_id": "t", "name": "add", "arguments": "{}"},
    ]
    result = {"type": "function_call_output", "call_id": "t", "output": "2"}
    question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "1+1"}]}
    last = {"id": "r2", "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "2."}]}]}
    second = (
        {"previous_response_id": "r1", "input": [result]}
        if stored
        else {"instructions": "s", "input": [question, *output, result]}
    )
    calls = [
        {
            "dialect": "openai.responses",
            "request": {"instructions": "s", "input": [question]},
            "response": {"id": "r1", "output": output},
        },
        {"dialect": "openai.responses", "request": second, "response": last},
        {"dialect": "openai.responses", "request": {"previous_response_id": "elsewhere", "input": "?"}, "response": last},
    ]
    (row,), left_out = rows(tmp_path, run(*calls))
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    assert trained(row) == ["I add", "2."]
    assert left_out == {"a call whose prompt is not known": 1}


def test_what_the_format_cannot_hold_is_cut_off_with_the_reason(tmp_path: Path) -> None:
    """A tool call that nobody answered ends a row; the answers after it are counted, those before it are kept."""
    q = {"role": "user", "content": "q"}
    unanswered = [q, {"role": "assistant", "content": "ok"}, q, asks(), q]
    t = run(call([q], "ok"), call(unanswered[:3], asks()), call(unanswered, "lost"))
    (row,), left_out = rows(tmp_path, t)
    assert trained(row) == ["ok", None]
    assert left_out == {"an answer after a tool call without a result": 1}
    stray = [q, {"role": "tool", "tool_call_id": "?", "content": "x"}]
    assert rows(tmp_path, run(call(stray, "a"))) == ([], {"an answer after a tool's result that no call asked for": 1})
    assert rows(tmp_path, run(call([q], asks(name="a b")))) == ([], {"an answer with a function name that the format forbids": 1})
    assert rows(tmp_path, run(call([q], {"role": "assistant", "content": None}))) == (
        [],
        {"an answer without text or tool call": 1},
    )


def test_what_a_user_wrote_while_a_tool_ran_comes_after_its_result(tmp_path: Path) -> None:
    """Transcripts have it in the order of the clock; the format, and the API that the agent called, after the result."""
    q, wait = {"role": "user", "content": "q"}, {"role": "user", "content": "wait"}
    result = {"role": "tool", "tool_call_id": "c1", "content": "2"}
    (row,), left_out = rows(tmp_path, run(call([q], asks()), call([q, asks(), wait, result], "done")))
    assert [m["content"] for m in row["messages"]] == ["q", None, "2", "wait", "done"]
    assert left_out == {}


def test_results_without_an_id_belong_to_the_calls_before_them_in_order(tmp_path: Path) -> None:
    """Old functions, and tools that leave ids out."""
    q = {"role": "user", "content": "q"}
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    (row,), _ = rows(tmp_path, run(call([q], old), call([q, old, {"role": "function", "name": "f", "content": "1"}], "one")))
    assert row["messages"][2]["tool_call_id"] == row["messages"][1]["tool_calls"][0]["id"]
    assert trained(row) == [None, "one"]


def test_a_long_session_takes_time_in_proportion(tmp_path: Path) -> None:
    """Four times the calls do not take sixteen times as long to put into a row."""

    def seconds(count: int) -> float:
        history, steps = chat("s", "u"), []
        for n in range(count):
            steps.append({"llm_calls": [call(list(history), f"a{n}")]})
            history = [*history, {"role": "assistant", "content": f"a{n}"}, {"role": "user", "content": f"q{n}"}]
        t = made(steps=steps)
        report, cost = costs(lambda: export([t], tmp_path / f"{count}", "openai"))
        assert report["rows"] == 1
        return cost

    assert min(seconds(1600) for _ in range(2)) < 10 * max(min(seconds(400) for _ in range(2)), 0.01)


MESSAGE = st.sampled_from([*chat("s", "u", "a"), asks(), asks("c2"), {"role": "tool", "tool_call_id": "c1", "content": "r"}, {"role": "user", "content": [{"type": "x"}]}])  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.lists(MESSAGE, max_size=4),
            st.booleans(),
            st.sampled_from(["a", asks(), asks("c2"), {"role": "assistant", "content": None}]),
        ),
        max_size=6,
    )
)
def test_each_answer_is_trained_at_most_once_and_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, turns: list[Any]
) -> None:
    """Whatever the agent sends: valid rows, and each answer is in one of them, trained, or in the manifest with a reason."""
    history: list[Any] = []
    calls: list[Any] = []
    for new, fresh, answer in turns:
        history = [*([] if fresh else history), *new]
        if not history:
            continue
        calls.append(call(list(history), answer))
        history = [*history, answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}]
    found, left_out = rows(tmp_path_factory.mktemp("any"), run(*calls))
    empty = sum(c["response"] == {"role": "assistant", "content": None} for c in calls)
    lost = sum(count for reason, count in left_out.items() if reason.startswith("an answer after"))
    assert sum(len(trained(r)) for r in found) + lost + empty == len(calls)
    assert json.dumps(found)
