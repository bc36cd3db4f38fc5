"""OpenLLMetry (Traceloop): `traceloop.span.kind` around calls, and calls with flattened `gen_ai.prompt.N.*`, before the
library wrote GenAI's `gen_ai.input.messages`.

Source: https://github.com/traceloop/openllmetry, packages/opentelemetry-semantic-conventions-ai.
"""

from __future__ import annotations

from typing import Any

from ..shape import arguments, obj, text
from . import chat, genai
from .common import about_of, count, ended, prompt_count
from .span import Meaning, TraceSpan


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span is neither a part of a workflow nor a call with flattened messages."""
    kind = span.get("traceloop.span.kind")
    if kind in ("workflow", "task", "agent"):
        asked, said = obj(span.json("traceloop.entity.input")), span.json("traceloop.entity.output")
        name = text(span.get("traceloop.entity.name"))
        about = about_of(span)
        return Meaning(
            kind="agent" if kind == "agent" else "holder",
            agent=name if kind == "agent" else None,
            task=asked or None,
            answer=said,
            about=about,
        )
    if kind == "tool":
        asked, said = span.json("traceloop.entity.input"), span.json("traceloop.entity.output")
        fields = {
            "name": text(span.get("traceloop.entity.name", "gen_ai.tool.name")) or span.name,
            "arguments": arguments(asked),
            "result": said,
            "tool_call_id": text(span.get("gen_ai.tool.call.id")),
            "ok": False if span.failed else None,
        }
        return Meaning(kind="tool", fields=fields | ended(span), used=("traceloop.entity.input", "traceloop.entity.output"))
    if span.get("llm.request.type") is None and not any(
        n.startswith(("gen_ai.prompt.", "gen_ai.completion.")) for n in span.attributes
    ):
        return None
    if span.get("llm.request.type") in ("embedding", "rerank"):
        return Meaning(kind="read", fields={"provider": span.name, "query": _flat(span, "gen_ai.prompt"), **ended(span)})
    fields = genai.call_fields(span)
    sent, said = _flat(span, "gen_ai.prompt"), _flat(span, "gen_ai.completion")
    request: dict[str, Any] = dict(fields["request"])
    if sent:
        request["messages"] = sent
    functions = span.nested("llm.request.functions")
    if functions:
        request["tools"] = [
            {"type": "function", "function": {k: (obj(_parsed(f)) if k == "parameters" else f[k]) for k in f}} for f in functions
        ]
    reason = text(said[0].pop("finish_reason", None)) if said else None
    fields |= {
        "request": request,
        "response": chat.answer(said) if said else fields["response"],
        "prompt_tokens": prompt_count(
            fields["prompt_tokens"] if fields["prompt_tokens"] is not None else count(span.get("llm.usage.prompt_tokens")),
            count(span.get("llm.usage.cache_read_input_tokens")),
        ),
        "completion_tokens": fields["completion_tokens"]
        if fields["completion_tokens"] is not None
        else count(span.get("llm.usage.completion_tokens")),
        "finish_reason": fields["finish_reason"] or reason,
    }
    used = ("gen_ai.prompt.", "gen_ai.completion.", "llm.request.functions.", "gen_ai.request.model", "gen_ai.response.model")
    return Meaning(kind="call", fields=fields, about=about_of(span), used=used)


def _parsed(function: dict[str, Any]) -> Any:
    return TraceSpan(trace="", id="", attributes=function).json("parameters")


def _flat(span: TraceSpan, prefix: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for flat in span.nested(prefix):
        holder = TraceSpan(trace="", id="", attributes=flat)
        content = holder.json("content") if str(flat.get("content", "")).startswith("[{") else flat.get("content")
        shaped: dict[str, Any] = {"role": flat.get("role") or "user", "content": content}
        calls = [chat.call(c.get("id"), c.get("name"), c.get("arguments")) for c in holder.nested("tool_calls")]
        if calls:
            shaped["tool_calls"] = calls
        for name in ("tool_call_id", "finish_reason"):
            if flat.get(name) is not None:
                shaped[name] = flat[name]
        found.append(shaped)
    return found
