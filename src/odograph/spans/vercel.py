"""The Vercel AI SDK: `ai.operationId`, prompts and answers in `ai.*`. The outer span (`ai.generateText`) repeats the totals
and the text of the inner ones (`ai.generateText.doGenerate`), which are the calls.

Source: https://github.com/vercel/ai, packages/ai/src/telemetry.
"""

from __future__ import annotations

from typing import Any

from ..shape import arguments, dicts, number, obj, text
from . import chat
from .common import about_of, count, ended, prompt_count, reason
from .span import Meaning, TraceSpan

_PARAMS = {
    "temperature": "temperature", "topP": "top_p", "topK": "top_k", "maxOutputTokens": "max_tokens", "maxTokens": "max_tokens",
    "frequencyPenalty": "frequency_penalty", "presencePenalty": "presence_penalty", "seed": "seed", "stopSequences": "stop",
}  # fmt: skip
_USED = (
    "ai.prompt.",
    "ai.response.text",
    "ai.response.toolCalls",
    "ai.response.reasoning",
    "ai.response.object",
    "ai.usage.",
    "gen_ai.usage.",
)


def meaning(span: TraceSpan) -> Meaning | None:
    """None where no operation of the SDK is named."""
    operation = text(span.get("ai.operationId"))
    if operation is None:
        return None
    about = about_of(span)
    if metadata := {
        n.removeprefix("ai.telemetry.metadata."): v for n, v in span.attributes.items() if n.startswith("ai.telemetry.metadata.")
    }:
        about["metadata"] = metadata
    if operation == "ai.toolCall":
        fields = {
            "name": text(span.get("ai.toolCall.name")) or span.name,
            "arguments": arguments(span.get("ai.toolCall.args", "ai.toolCall.input")),
            "result": span.json("ai.toolCall.result", "ai.toolCall.output"),
            "tool_call_id": text(span.get("ai.toolCall.id")),
            "ok": False if span.failed else None,
        }
        return Meaning(kind="tool", fields=fields | ended(span), about=about, used=("ai.toolCall.",))
    if operation.endswith((".doGenerate", ".doStream")):
        return Meaning(kind="call", fields=_call(span), about=about, used=_USED)
    if operation.startswith("ai.embed"):
        if operation.endswith(".doEmbed"):
            return Meaning(
                kind="read", fields={"provider": "embed", "query": span.json("ai.value", "ai.values"), **ended(span)}, about=about
            )
        return Meaning(kind="holder", about=about)
    asked = obj(span.json("ai.prompt"))
    task = asked.get("prompt") or next(
        (m.get("content") for m in reversed(dicts(asked.get("messages"))) if m.get("role") == "user"), None
    )
    return Meaning(
        kind="holder",
        task=task,
        answer=span.json("ai.response.text", "ai.response.object"),
        about=about,
        totals={k: v for k, v in span.attributes.items() if k.startswith("ai.usage.")},
    )


def _call(span: TraceSpan) -> dict[str, Any]:
    model = text(span.get("ai.model.id", "gen_ai.request.model"))
    request: dict[str, Any] = {
        "messages": [m for one in dicts(span.json("ai.prompt.messages")) for m in chat.of_vercel(one)],
        **({"model": model} if model else {}),
    }
    for name, wire in _PARAMS.items():
        if (value := span.get(f"ai.settings.{name}")) is not None:
            request[wire] = value
    if tools := chat.functions(span.json("ai.prompt.tools")):
        request["tools"] = tools
        if (choice := span.json("ai.prompt.toolChoice")) is not None:
            request["tool_choice"] = _choice(choice)
    said = span.get("ai.response.text")
    if said is None:
        said = span.get("ai.response.object")
    calls = [
        chat.call(c.get("toolCallId"), c.get("toolName"), c.get("input", c.get("args")))
        for c in dicts(span.json("ai.response.toolCalls"))
    ]
    thoughts = text(span.get("ai.response.reasoning"))
    response: dict[str, Any] | None = {"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})}
    if said is None and not calls:
        response = None
    first = number(span.get("ai.response.msToFirstChunk"))
    return {
        "dialect": "openai.chat",
        "request": request,
        "response": response,
        "model": text(span.get("ai.response.model", "gen_ai.response.model")) or model,
        "finish_reason": reason(span.get("ai.response.finishReason")),
        "reasoning": thoughts,
        "prompt_tokens": prompt_count(
            count(span.get("ai.usage.inputTokens", "ai.usage.promptTokens", "gen_ai.usage.input_tokens")),
            count(span.get("ai.usage.cachedInputTokens")),
        ),
        "completion_tokens": count(span.get("ai.usage.outputTokens", "ai.usage.completionTokens", "gen_ai.usage.output_tokens")),
        "first_token": round(first * 1e6) if first is not None and 0 <= first < 1e9 else None,
        **ended(span),
    }


def _choice(value: Any) -> Any:
    """Which tools may be called, as OpenAI's chat says it."""
    given = obj(value)
    if given.get("type") == "tool":
        return {"type": "function", "function": {"name": given.get("toolName")}}
    return given["type"] if given.keys() == {"type"} else value
