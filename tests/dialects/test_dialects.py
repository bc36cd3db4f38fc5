"""Wire formats: streams put together, event streams cut anywhere, and no content that raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odograph import dialects
from odograph.dialects.framing import SSE
from tests import llm_server
from tests.llm_server import Answer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
CALLS = st.lists(
    st.builds(
        lambda n, a: {"id": f"call_{n}", "type": "function", "function": {"name": f"f{n}", "arguments": json.dumps(a)}},
        st.integers(0, 9),
        st.dictionaries(TEXT, st.integers(), max_size=2),
    ),
    max_size=3,
)
ANSWERS = st.builds(Answer, text=TEXT, tool_calls=CALLS, reasoning=st.none() | TEXT.filter(bool))
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "delta",
                    "tool_calls",
                    "function",
                    "content",
                    "text",
                    "type",
                    "index",
                    "output",
                    "logprobs",
                    "usage",
                    "role",
                    "input",
                    "messages",
                    "item",
                    "output_index",
                    "content_block",
                    "id",
                    "arguments",
                    "system",
                    "thinking",
                ]
            )
            | TEXT,
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(ANSWERS)
def test_a_stream_amounts_to_the_answer_it_is(answer: Answer) -> None:
    """What a stream's events are put together to says the same as the answer without streaming, in every dialect."""
    for name, make, events_of in (
        ("openai.chat", llm_server.chat, llm_server.chat_events),
        ("openai.responses", llm_server.responses, llm_server.response_events),
        ("anthropic.messages", llm_server.messages, llm_server.message_events),
    ):
        dialect = dialects.get(name)
        whole = make(answer, {"model": "m"})
        events = [e for _, e in events_of(answer, whole, {"stream_options": {"include_usage": True}}) if not isinstance(e, str)]
        (a,), (b,) = dialect.choices(dialect.assemble(events)), dialect.choices(whole)
        assert (a.text, a.reasoning, a.tool_calls, a.finish_reason) == (b.text, b.reasoning, b.tool_calls, b.finish_reason)
        assert dialect.usage(dialect.assemble(events)["usage"]) == dialect.usage(whole["usage"])
        assert a.text == answer.text


@given(
    st.lists(st.dictionaries(TEXT, TEXT, max_size=2), max_size=5),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_event_streams_may_be_cut_anywhere(events: list[dict[str, str]], cuts: list[int], newline: str) -> None:
    """Chunks of the network say nothing of events: cut at any byte, with any line end, the same events come out."""
    text = ": comment\n\n" + "".join(f"event: x\ndata: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"
    data = text.replace("\n", newline).encode()
    sse = SSE()
    last = 0
    for cut in sorted(c % (len(data) + 1) for c in cuts):
        sse.feed(data[last:cut])
        last = cut
    sse.feed(data[last:])
    sse.close()
    assert sse.events == events


@settings(max_examples=300)
@given(JUNK, st.lists(JUNK, max_size=4))
def test_no_content_raises(value: Any, events: list[Any]) -> None:
    """Whatever a backend answers and an agent asks, the views of it do not raise."""
    for name in dialects.NAMES:
        dialect = dialects.get(name)
        dialect.choices(value)
        dialect.messages(value)
        dialect.params(value)
        dialect.tools(value)
        dialect.usage(value)
        dialect.choices(dialect.assemble(events))
    dialects.of_response(value, None).choices(value)


def test_several_choices_logprobs_and_ids() -> None:
    """All choices are there, not only the first; logprobs and ids of chunks are joined; SGLang's pairs are read."""
    answer = Answer(text="abc", choices=3, token_ids=[1, 2, 3], logprobs=[-1.0, 0.0, -3.0], prompt_token_ids=[9])
    chat = dialects.get("openai.chat")
    whole = llm_server.chat(answer, {})
    body = chat.assemble([e for _, e in llm_server.chat_events(answer, whole, {}) if not isinstance(e, str)])
    assert body["prompt_token_ids"] == [9]
    for choices in (chat.choices(whole), chat.choices(body)):
        assert [(c.index, c.text, c.token_ids, c.logprobs) for c in choices] == [
            (i, "abc", [1, 2, 3], [-1.0, 0.0, -3.0]) for i in range(3)
        ]
    pairs = {"choices": [{"message": {"content": "x"}, "meta_info": {"output_token_logprobs": [[-0.5, 7, "x"]]}}]}
    assert (chat.choices(pairs)[0].token_ids, chat.choices(pairs)[0].logprobs) == ([7], [-0.5])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "openai.chat"),
        ("/openai/deployments/x/chat/completions", "openai.chat"),
        ("/v1/responses", "openai.responses"),
        ("/v1/messages", "anthropic.messages"),
        ("/v1/messages/count_tokens", None),
        ("/v1/models", None),
        ("/v1/completions", "openai.completions"),
        ("/v1/responses/compact", "openai.responses"),
        ("/v1/embeddings", "openai.embeddings"),
        ("/v1/images/generations", "openai.images"),
        ("/v1beta/models/g:generateContent", "gemini"),
        ("/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent", "gemini"),
        ("/v1beta/models/g:countTokens", None),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict", "anthropic.messages"),
        ("/v1/projects/p/locations/l/publishers/other/models/c:rawPredict", None),
        ("/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict", "gemini.embeddings"),
        ("/v1beta/models/gemini-embedding-2:batchEmbedContents", "gemini.embeddings"),
        ("/v1/projects/p/locations/l/publishers/google/models/imagen-4.0:predict", "gemini.images"),
        ("/v1/projects/p/locations/l/publishers/google/models/mine:predict", None),
        ("/v1beta/interactions", "gemini.interactions"),
        ("/v1beta1/projects/p/locations/l/interactions", "gemini.interactions"),
        ("/v1beta/interactions/i1", None),
        ("/model/us.anthropic.claude-4/invoke", "anthropic.messages"),
        ("/model/meta.llama3/invoke", "bedrock.invoke"),
        ("/model/arn%3Aaws%3Abedrock%3Aprofile%2Fabc/invoke-with-response-stream", "bedrock.invoke"),
        ("/model/m/count-tokens", None),
        ("/generate", "sglang.generate"),
        ("/inference/v1/generate", "vllm.generate"),
        ("/api/generate", None),
    ],
)
def test_paths(path: str, name: str | None) -> None:
    """Only the paths that a dialect names are calls of a model."""
    found = dialects.of_path(path)
    assert (found and found.NAME) == name


_TOP = [{"token": "no", "logprob": -2.0}, {"token": "yes", "logprob": -0.2}, {"token": 7, "logprob": "x"}]
_CHAT = {"content": [{"token": "yes", "logprob": -0.2, "top_logprobs": _TOP}, {"token": "!"}, "damaged"]}


@pytest.mark.parametrize(
    ("name", "response"),
    [
        ("openai.chat", {"choices": [{"index": 1, "logprobs": None}, {"index": 0, "logprobs": _CHAT}]}),
        ("openai.completions", {"choices": [{"logprobs": {"top_logprobs": [{"yes": -0.2, "no": -2.0, "x": None}, None, 3]}}]}),
        ("vllm.generate", {"choices": [{"index": 0, "logprobs": _CHAT}]}),
        ("openai.responses", {"output": [{"type": "message", "content": [{"logprobs": _CHAT["content"]}]}, 7]}),
        (
            "sglang.generate",
            {"meta_info": {"output_top_logprobs": [[[-0.2, 5, "yes"], [-2.0, 6, "no"], None, [float("nan"), 1, "x"]], None, 2]}},
        ),
        (
            "gemini",
            {
                "candidates": [
                    {
                        "logprobsResult": {
                            "topCandidates": [
                                {"candidates": [{"token": t["token"], "logProbability": t["logprob"]} for t in _TOP]},
                                {},
                                None,
                            ]
                        }
                    }
                ]
            },
        ),
    ],
)
def test_alternatives_of_each_token(name: str, response: Any) -> None:
    """What a backend says of the likeliest tokens is read in each dialect, the likeliest first; what can't be read is no alternative."""
    assert dialects.get(name).alternatives(response, 0) == [[("yes", -0.2), ("no", -2.0)], [], []]
    for damaged in (None, [], {}, {"choices": 3}, {"output": {}}, {"candidates": [None]}, {"meta_info": []}, [response, 3]):
        assert isinstance(dialects.get(name).alternatives(damaged, 0), list)
    assert dialects.get("anthropic.messages").alternatives(response, 0) == []


def test_a_search_that_the_api_ran_asks_nobody_to_act() -> None:
    """The Responses API runs its own tools: their items are a part of the answer, and no call that waits for a result. A search that
    has a `call_id` is the agent's."""
    dialect = dialects.get("openai.responses")
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "tides"}}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "at noon"}]}
    (own,) = dialect.choices({"object": "response", "status": "completed", "output": [search, said]})
    assert (own.text, own.tool_calls) == ("at noon", [])
    assert dialect.messages({"input": [search]}) == [{"role": "assistant", "content": [search]}]
    (asked,) = dialect.choices({"object": "response", "output": [{**search, "call_id": "c1"}]})
    assert [(call.id, call.name) for call in asked.tool_calls] == [("c1", "web_search")]
