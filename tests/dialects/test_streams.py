"""Streams put together: a body that is cut into deltas comes back equal, in every dialect, whatever it holds."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odograph import dialects
from odograph.dialects.framing import SSE

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SOME = TEXT.filter(bool)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
#: Fields that no API has.
UNKNOWN = st.dictionaries(st.sampled_from(["x_one", "x_two", "service_tier", "provider"]), JSON, max_size=3)
CUTS = st.integers(1, 7)


def in_parts(name: str, events: list[Any], size: int) -> None:
    """Events that are put together as they come amount to what they do at once, after each part."""
    whole = dialects.get(name).assembly()
    assert whole is not None
    for n in range(0, len(events), size):
        whole.add(events[n : n + size])
        assert whole.body() == dialects.get(name).assemble(events[: n + size])


def pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


LOGPROB = st.builds(
    lambda t, p: {"token": t, "logprob": p, "bytes": list(t.encode()), "top_logprobs": []}, TEXT, st.floats(-9, 0)
)


@st.composite
def chat_bodies(draw: st.DrawFn) -> dict[str, Any]:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | SOME)}
        if draw(st.booleans()):
            message["reasoning_content"] = draw(SOME)
        if draw(st.booleans()):
            message["tool_calls"] = [
                {"id": f"call_{n}", "type": "function", "function": {"name": draw(SOME), "arguments": draw(SOME)}}
                for n in range(draw(st.integers(1, 3)))
            ]
        choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": draw(st.sampled_from(["stop", "length"]))}
        choice["logprobs"] = draw(st.none() | st.builds(lambda c: {"content": c}, st.lists(LOGPROB, min_size=1, max_size=5)))
        if draw(st.booleans()):
            choice["token_ids"] = draw(st.lists(st.integers(0, 200_000), min_size=1, max_size=9))
        choices.append({**choice, **{f"choice_{k}": v for k, v in draw(UNKNOWN).items()}})
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, **draw(UNKNOWN)}
    if draw(st.booleans()):
        body["usage"] = {"prompt_tokens": draw(st.integers(0, 9)), "completion_tokens": 0, "details": {"cached": None}}
    if draw(st.booleans()):
        body["prompt_token_ids"] = draw(st.lists(st.integers(0, 200_000), min_size=1, max_size=9))
    return body


def chat_chunks(body: dict[str, Any], size: int) -> list[Any]:
    """The body as a backend streams it: what is known at once comes first, texts and lists in pieces, usage at the end."""
    late = ("choices", "usage", "object", "prompt_token_ids")
    base = {**{k: v for k, v in body.items() if k not in late}, "object": "chat.completion.chunk"}
    events: list[Any] = []
    for choice in body["choices"]:
        index, message = choice["index"], choice["message"]
        said = {k: v for k, v in choice.items() if k not in ("index", "message", "finish_reason", "logprobs", "token_ids")}

        def chunk(delta: Any, index: int = index, **more: Any) -> None:
            events.append({**base, "choices": [{"index": index, "delta": delta, "finish_reason": None, **more}]})

        # a null is said, and then continued or not
        chunk({"role": "assistant", "content": None}, **said, **({"logprobs": None} if "logprobs" in choice else {}))
        for name in ("reasoning_content", "content"):
            for piece in pieces(message.get(name) or "", size):
                chunk({name: piece})
        for n, call in enumerate(message.get("tool_calls", [])):
            function = call["function"]
            chunk({"tool_calls": [{**call, "index": n, "function": {"name": function["name"], "arguments": ""}}]})
            for piece in pieces(function["arguments"], size):
                chunk({"tool_calls": [{"index": n, "function": {"arguments": piece}}]})
        for n in range(0, len((choice["logprobs"] or {}).get("content", [])), size):
            chunk({}, logprobs={"content": choice["logprobs"]["content"][n : n + size]})
        for n in range(0, len(choice.get("token_ids", [])), size):
            chunk({}, token_ids=choice["token_ids"][n : n + size])
        events.append({**base, "choices": [{"index": index, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if "prompt_token_ids" in body:
        events[0]["prompt_token_ids"] = body["prompt_token_ids"]
    if "usage" in body:
        events = [{**e, "usage": None} for e in events] + [{**base, "choices": [], "usage": body["usage"]}]
    return events


@settings(max_examples=300)
@given(chat_bodies(), CUTS)
def test_chat(body: dict[str, Any], size: int) -> None:
    """A chat completion that was streamed is recorded as the body without streaming: all choices, calls, ids, unknown fields."""
    events = chat_chunks(body, size)
    before = copy.deepcopy(events)
    assert dialects.get("openai.chat").assemble(events) == body
    in_parts("openai.chat", events, size)
    assert events == before


@st.composite
def message_bodies(draw: st.DrawFn) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for n in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "tool_use", "cited"]))
        if kind == "tool_use":
            content.append({"type": kind, "id": f"t{n}", "name": "f", "input": draw(st.dictionaries(TEXT, JSON, max_size=3))})
        elif kind == "thinking":
            content.append({"type": kind, "thinking": draw(TEXT), "signature": draw(TEXT)})
        elif kind == "cited":
            content.append({"type": "text", "text": draw(TEXT), "citations": draw(st.lists(JSON, min_size=1, max_size=3))})
        else:
            content.append({"type": kind, "text": draw(TEXT), **draw(UNKNOWN)})
    usage = {"input_tokens": draw(st.integers(0, 9)), "output_tokens": draw(st.integers(0, 9)), "service_tier": "standard"}
    body = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": content, "usage": usage}
    return {**body, "stop_reason": "end_turn", "stop_sequence": None, **draw(UNKNOWN)}


def message_chunks(body: dict[str, Any], size: int) -> list[Any]:
    start = {**body, "content": [], "stop_reason": None, "usage": {**body["usage"], "output_tokens": 1}}
    events: list[Any] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(body["content"]):
        empty: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}, "citations": []}
        first = {k: empty.get(k, v) for k, v in block.items()}
        events.append({"type": "content_block_start", "index": index, "content_block": first})
        deltas: list[dict[str, Any]] = []
        if "input" in block:
            deltas += [{"type": "input_json_delta", "partial_json": p} for p in ["", *pieces(json.dumps(block["input"]), size)]]
        for name in ("text", "thinking"):
            if name in block:
                deltas += [{"type": f"{name}_delta", name: p} for p in pieces(block[name], size)]
        deltas += [{"type": "citations_delta", "citation": c} for c in block.get("citations", [])]
        if "signature" in block:
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        events += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
        events.append({"type": "content_block_stop", "index": index})
    usage = {"output_tokens": body["usage"]["output_tokens"], "input_tokens": None}
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage})
    return [*events, {"type": "message_stop"}]


@settings(max_examples=300)
@given(message_bodies(), CUTS)
def test_messages(body: dict[str, Any], size: int) -> None:
    """An Anthropic message that was streamed is recorded as the body without streaming: all blocks, inputs, citations, usage."""
    events = message_chunks(body, size)
    before = copy.deepcopy(events)
    assert dialects.get("anthropic.messages").assemble(events) == body
    in_parts("anthropic.messages", events, size)
    assert events == before


@st.composite
def response_bodies(draw: st.DrawFn) -> dict[str, Any]:
    output: list[dict[str, Any]] = []
    for n in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call"]))
        item: dict[str, Any] = {"type": kind, "id": f"i{n}", "status": "in_progress"}
        if kind == "message":
            parts = [{"type": "output_text", "text": draw(SOME), "annotations": []} for _ in range(draw(st.integers(1, 3)))]
            item |= {"role": "assistant", "content": parts}
        elif kind == "reasoning":
            item["summary"] = [{"type": "summary_text", "text": draw(SOME)} for _ in range(draw(st.integers(1, 2)))]
        elif kind == "function_call":
            item |= {"call_id": f"c{n}", "name": "f", "arguments": draw(SOME)}
        else:
            item |= {"call_id": f"c{n}", "name": "f", "input": draw(SOME)}
        output.append(item)
    return {"id": "r1", "object": "response", "status": "in_progress", "model": "m", "output": output, **draw(UNKNOWN)}


def response_chunks(body: dict[str, Any], size: int) -> list[Any]:
    """The events of a response up to where the last item is still being written: what a cut stream has."""
    events: list[Any] = [{"type": "response.created", "response": {**body, "output": []}}]
    for at, item in enumerate(body["output"]):
        empty: dict[str, Any] = {"content": [], "summary": [], "arguments": "", "input": ""}
        first = {k: empty.get(k, v) for k, v in item.items()}
        events.append({"type": "response.output_item.added", "output_index": at, "item": first})
        for n, part in enumerate(item.get("content", [])):
            where = {"output_index": at, "content_index": n}
            events.append({"type": "response.content_part.added", **where, "part": {**part, "text": ""}})
            events += [{"type": "response.output_text.delta", **where, "delta": p} for p in pieces(part["text"], size)]
        for n, part in enumerate(item.get("summary", [])):
            where = {"output_index": at, "summary_index": n}
            events.append({"type": "response.reasoning_summary_part.added", **where, "part": {**part, "text": ""}})
            events += [{"type": "response.reasoning_summary_text.delta", **where, "delta": p} for p in pieces(part["text"], size)]
        for name, kind in (("arguments", "function_call_arguments"), ("input", "custom_tool_call_input")):
            for piece in pieces(item.get(name, ""), size):
                events.append({"type": f"response.{kind}.delta", "output_index": at, "delta": piece})
    return events


@settings(max_examples=300)
@given(response_bodies(), CUTS)
def test_responses(body: dict[str, Any], size: int) -> None:
    """A response is what its last event says; of a stream that was cut, what its items said so far, part by part."""
    events = response_chunks(body, size)
    before = copy.deepcopy(events)
    dialect = dialects.get("openai.responses")
    assert dialect.assemble(events) == body
    done = {**body, "status": "completed", "usage": {"input_tokens": 1, "output_tokens": 2}}
    assert dialect.assemble([*events, {"type": "response.completed", "response": done}]) == done
    # some backends leave the items out of the last event
    assert dialect.assemble([*events, {"type": "response.completed", "response": {**done, "output": []}}]) == done
    assert events == before


def test_calls_that_share_an_index_are_told_apart() -> None:
    """Backends that number every tool call 0, or none, and repeat ids empty: each call is one call, and none is made up."""
    parts = [
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}],
        [{"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"x"'}}],
        [{"index": 0, "id": "", "function": {"name": "", "arguments": ": 1}"}}],
        [{"id": "c", "index": 7, "function": {"name": "h", "arguments": ""}}],
    ]
    body = dialects.get("openai.chat").assemble([{"choices": [{"index": 0, "delta": {"tool_calls": p}}]} for p in parts])
    assert body["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "function": {"name": "g", "arguments": '{"x": 1}'}},
        {"id": "c", "function": {"name": "h", "arguments": ""}},
    ]


def test_a_cut_stream_keeps_what_came() -> None:
    """Half a tool input is kept as the text that it is; nothing is closed or guessed."""
    events = [
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q": "ha'}},
    ]
    body = dialects.get("anthropic.messages").assemble(events)
    assert body["content"] == [{"type": "tool_use", "id": "t", "name": "f", "input": '{"q": "ha'}]


@pytest.mark.parametrize("name", ["openai.chat", "openai.responses", "anthropic.messages", "openai.completions", "gemini"])
def test_deep_and_long_streams(name: str) -> None:
    """Nesting without end and answers of a hundred thousand chunks cost time in proportion, and no stack."""
    deep: Any = "x"
    for _ in range(900):
        deep = {"a": deep}
    dialect = dialects.get(name)
    dialect.assemble(
        [
            {"choices": [{"delta": deep}]},
            {"choices": [{"delta": deep}]},
            {"type": "content_block_delta", "index": 0, "delta": deep},
            {"choices": [{"text": "x", "logprobs": deep}]},
            {"candidates": [{"content": {"parts": [{"functionCall": deep}]}}]},
        ]
    )
    events: list[Any] = [
        {
            "type": "response.output_text.delta" if name == "openai.responses" else "content_block_delta",
            "index": 0,
            "output_index": 0,
            "delta": "some text " if name == "openai.responses" else {"type": "text_delta", "text": "some text "},
            "choices": [{"index": 0, "delta": {"content": "some text "}, "token_ids": [1], "logprobs": {"content": [{}]}}],
            "candidates": [{"content": {"parts": [{"text": "some text "}], "role": "model"}}],
        }
    ] * 100_000
    if name == "openai.completions":
        events = [{"choices": [{"index": 0, "text": "some text ", "token_ids": [1]}]}] * 100_000
    started = time.process_time()
    body = dialect.assemble(events)
    assert time.process_time() - started < 5  # quadratic: minutes
    assert len(dialect.choices(body)[0].text) == 1_000_000


@given(st.lists(st.text('abc{}":,\u20ac ', max_size=12), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_event_streams(texts: list[str], newline: str, data: st.DataObject) -> None:
    """An event stream gives the same events cut at any byte, or event by event: names, several data lines, comments, a byte
    order mark, `[DONE]`."""
    lines = "\ufeff: hello\n\n" + "".join(
        f"event:e{n}\nid: 7\ndata: [\n: between\nretry\ndata:{json.dumps(t, ensure_ascii=False)}]\n\n"
        f"event: plain\ndata: {json.dumps([t], ensure_ascii=False)}\n\n"
        f"data: {json.dumps([t], ensure_ascii=False)}\n\n"
        for n, t in enumerate(texts)
    )
    raw = (lines + "event: ping\n\ndata: [DONE]\n\n").replace("\n", newline).encode()
    whole, cut = SSE(), SSE()
    whole.feed(raw)
    whole.close()
    at = 0
    while at < len(raw):
        end = raw.find(newline.encode() * 2, at)
        whole_event = (end + 2 * len(newline) if end >= 0 else len(raw)) - at
        size = data.draw(st.integers(0, 30)) or whole_event
        cut.feed(raw[at : at + size])
        cut.feed(b"")
        at += size
    cut.close()
    assert (cut.events, cut.names, cut.done) == (whole.events, whole.names, whole.done)
    assert whole.done
    assert whole.events == [[t] for t in texts for _ in range(3)]
    assert whole.names == [name for n in range(len(texts)) for name in (f"e{n}", "plain", None)]


def test_event_streams_of_tiny_chunks() -> None:
    """One long event that comes byte by byte costs time in proportion."""
    sse = SSE()
    started = time.process_time()
    for byte in b'data: "' + b"x" * 1_000_000 + b'"\n\n':
        sse.feed(bytes([byte]))
    assert time.process_time() - started < 10
    assert sse.events == ["x" * 1_000_000]
