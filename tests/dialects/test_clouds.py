"""Models of clouds: the bodies of Bedrock's makers, Google's embeddings, pictures and interactions."""

from __future__ import annotations

from typing import Any

import pytest

from odograph import dialects

TITAN = {"inputTextTokenCount": 3, "results": [{"tokenCount": 2, "outputText": "yo", "completionReason": "FINISH"}]}
LLAMA = {"generation": "yo", "prompt_token_count": 3, "generation_token_count": 2, "stop_reason": "stop"}
MISTRAL = {"outputs": [{"text": "yo", "stop_reason": "stop"}]}
COHERE = {"generations": [{"text": "yo", "finish_reason": "COMPLETE"}]}
NOVA = {"output": {"message": {"role": "assistant", "content": [{"text": "yo"}]}}, "stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 2}}  # fmt: skip
GPT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "yo"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}  # fmt: skip
CLAUDE = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "yo"}], "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2}}  # fmt: skip
HI = [{"role": "user", "content": "q"}]
METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 2}}


@pytest.mark.parametrize(
    ("asked", "answer", "counts"),
    [
        ({"inputText": "q"}, TITAN, (3, 2)),
        ({"prompt": "q"}, LLAMA, (3, 2)),
        ({"prompt": "q"}, MISTRAL, (None, None)),
        ({"prompt": "q"}, COHERE, (None, None)),
        ({"messages": [{"role": "user", "content": [{"text": "q"}]}], "inferenceConfig": {}}, NOVA, (3, 2)),
        ({"messages": HI}, GPT, (3, 2)),
        ({"messages": HI, "anthropic_version": "bedrock-2023-05-31"}, CLAUDE, (3, 2)),
    ],
    ids=["titan", "llama", "mistral", "cohere", "nova", "gpt", "claude"],
)
def test_the_makers_of_bedrock(asked: Any, answer: Any, counts: Any) -> None:
    """What each maker's request asks and its answer says is read from the body's own looks."""
    invoke = dialects.get("bedrock.invoke")
    (choice,) = invoke.choices(answer)
    used = invoke.usage(invoke.stated(answer))
    assert (invoke.messages(asked), choice.text, bool(choice.finish_reason)) == (HI, "yo", True)
    assert (used.prompt, used.completion) == counts


@pytest.mark.parametrize(
    "events",
    [
        [{"outputText": "y", "completionReason": None}, {"outputText": "o", "completionReason": "FINISH"}],
        [{"generation": "y", "stop_reason": None}, {"generation": "o", "stop_reason": "stop"}],
        [{"outputs": [{"text": "y", "stop_reason": None}]}, {"outputs": [{"text": "o", "stop_reason": "stop"}]}],
        [{"messageStart": {"role": "assistant"}}, {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "yo"}}}, {"messageStop": {"stopReason": "end_turn"}}],
        [{"choices": [{"index": 0, "delta": {"content": "y"}}]}, {"choices": [{"index": 0, "delta": {"content": "o"}, "finish_reason": "stop"}]}],
        [
            {"type": "message_start", "message": {"role": "assistant", "content": [], "type": "message"}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "yo"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        ],
    ],
    ids=["titan", "llama", "mistral", "nova", "gpt", "claude"],
)  # fmt: skip
def test_the_streams_of_bedrocks_makers(events: list[Any]) -> None:
    """A stream amounts to the answer, is over at Bedrock's counts, and survives the frames that replay makes of it."""
    invoke = dialects.get("bedrock.invoke")
    told = [*events, METRICS]
    stream = invoke.framing("application/vnd.amazon.eventstream", "/model/m/invoke-with-response-stream")
    assert stream is not None
    stream.feed(invoke.framed(told, True))
    assert stream.events == told
    body = invoke.assemble(stream.events)
    assert (invoke.choices(body)[0].text, invoke.ending(stream)) == ("yo", (True, None))
    used = invoke.usage(invoke.stated(body))
    assert (used.prompt, used.completion) == (3, 2)
    assert "".join(invoke.delta(e) for e in events) == "yo"


STEPS = [{"type": "thought", "summary": [{"type": "text", "text": "hm"}]}, {"type": "model_output", "content": [{"type": "text", "text": "yo"}]}, {"type": "function_call", "id": "c", "name": "f", "arguments": {"a": 1}}]  # fmt: skip
USED = {"total_input_tokens": 3, "total_output_tokens": 2, "total_thought_tokens": 4}
STREAM = [
    {"event_type": "interaction.created", "interaction": {"id": "i", "status": "in_progress"}},
    {"event_type": "step.start", "index": 0, "step": {"type": "thought"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "thought_summary", "content": {"type": "text", "text": "hm"}}},
    {"event_type": "step.start", "index": 1, "step": {"type": "model_output"}},
    {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "y"}},
    {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "o"}},
    {"event_type": "step.start", "index": 2, "step": {"type": "function_call", "id": "c", "name": "f", "arguments": {}}},
    {"event_type": "step.delta", "index": 2, "delta": {"type": "arguments_delta", "arguments": '{"a"'}},
    {"event_type": "step.delta", "index": 2, "delta": {"type": "arguments_delta", "arguments": ": 1}"}},
    {"event_type": "step.stop", "index": 2},
    {"event_type": "interaction.completed", "interaction": {"id": "i", "status": "requires_action", "usage": USED}},
]


def test_interactions() -> None:
    """An interaction of Google's says the same whole and streamed; it waits while it is in progress, and ends with its last event."""
    spoken = dialects.get("gemini.interactions")
    whole = {"id": "i", "status": "requires_action", "steps": STEPS, "usage": USED}
    assert spoken.assemble(STREAM) == whole
    (choice,) = spoken.choices(whole)
    (call,) = choice.tool_calls
    assert (choice.text, choice.reasoning, choice.finish_reason) == ("yo", "hm", "tool_calls")
    assert (call.id, call.name, call.arguments) == ("c", "f", {"a": 1})
    used = spoken.usage(spoken.stated(whole))
    assert (used.prompt, used.completion) == (3, 6)
    assert (spoken.later(spoken.assemble(STREAM[:1])), spoken.later(whole)) == ("i", None)
    assert spoken.fetched("/v1beta/interactions/i") == spoken.fetched("/v1beta/interactions/i/cancel") == "i"
    stream = spoken.framing("text/event-stream", "/v1beta/interactions")
    assert stream is not None
    stream.feed(spoken.framed(STREAM[:-1], False))
    assert spoken.ending(stream) == (False, None)
    stream.feed(spoken.framed(STREAM[-1:], True))
    assert (stream.events, spoken.ending(stream)) == (STREAM, (True, None))
    asked = {"system_instruction": "S", "input": [{"type": "user_input", "content": [{"type": "text", "text": "q"}]}, STEPS[2], {"type": "function_result", "call_id": "c", "name": "f", "result": "7"}]}  # fmt: skip
    assert [(m["role"], m["content"]) for m in spoken.messages(asked)] == [("system", "S"), ("user", "q"), ("assistant", None), ("tool", "7")]  # fmt: skip
    for loose in ("q", {"type": "text", "text": "q"}, [{"type": "text", "text": "q"}]):
        assert spoken.messages({"input": loose}) == HI


def test_google_embeds_and_paints() -> None:
    """The texts and prompts are messages, the model is in the path, and the purpose is not to act."""
    embeds, paints = dialects.get("gemini.embeddings"), dialects.get("gemini.images")
    many = {"requests": [{"content": {"parts": [{"text": "q"}]}}, {"content": {"parts": [{"text": "r"}]}}]}
    assert [m["content"] for m in embeds.messages(many)] == ["q", "r"]
    assert embeds.messages({"content": {"parts": [{"text": "q"}]}}) == embeds.messages({"instances": [{"content": "q"}]}) == HI
    assert paints.messages({"instances": [{"prompt": "q"}]}) == HI
    for dialect, path, model, purpose in (
        (embeds, "/v1beta/models/e-1:batchEmbedContents", "e-1", "embed"),
        (embeds, "/v1/publishers/google/models/text-embedding-005:predict", "text-embedding-005", "embed"),
        (paints, "/v1/publishers/google/models/imagen-4:predict", "imagen-4", "image"),
    ):
        assert dialects.of_path(path) is dialect
        assert (dialect.model(path, {}), dialects.purpose(dialect, path)) == (model, purpose)
