"""OpenInference: `openinference.span.kind`, flattened `llm.*` attributes, and the raw bodies in `input.value` and `output.value`.

The raw bodies come first: they alone have what the flattening leaves out (token ids, logprobs, thinking). The flattened messages
are the fallback; their numbers may begin at 1 and have gaps.

Source: https://github.com/Arize-ai/openinference, spec/semantic_conventions.md.
"""

from __future__ import annotations

from typing import Any

from ..shape import arguments, content_text, items, obj, text
from . import chat
from .common import about_of, count, dialect_of, ended, is_body, prompt_count, usage_counts
from .span import Meaning, TraceSpan

_USED = ("llm.input_messages.", "llm.output_messages.", "llm.tools.", "llm.model_name", "llm.finish_reason", "llm.token_count.")


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span has no kind of OpenInference."""
    kind = text(span.get("openinference.span.kind"))
    if kind is None:
        return None
    agent, about = text(span.get("agent.name")), about_of(span)
    if tags := items(span.json("tag.tags")):
        about["tags"] = [str(t) for t in tags]
    if (metadata := obj(span.json("metadata"))) and span.parent is None:
        about["metadata"] = metadata
    kind = kind.upper()
    if kind == "LLM":
        fields, raw = _call(span)
        return Meaning(kind="call", fields=fields, agent=agent, about=about, used=(*_USED, *raw))
    if kind == "TOOL":
        called = span.json("input.value") if span.get("input.value") is not None else span.json("tool.parameters")
        fields = {
            "name": text(span.get("tool.name", "tool_call.function.name")) or span.name,
            "arguments": arguments(called),
            "result": _value(span, "output"),
            "tool_call_id": text(span.get("tool_call.id", "tool.id")),
            "ok": False if span.failed else None,
        }
        return Meaning(kind="tool", fields=fields | ended(span), about=about, used=("input.value", "output.value", "tool.name"))
    if kind in ("RETRIEVER", "EMBEDDING", "RERANKER"):
        documents = [{k.removeprefix("document."): v for k, v in d.items()} for d in span.nested("retrieval.documents")]
        read = {"provider": span.name, "query": _value(span, "input"), "data": documents or _value(span, "output"), **ended(span)}
        return Meaning(kind="read", fields=read, about=about, used=("input.value", "output.value", "retrieval.documents."))
    asked, said = _value(span, "input"), _value(span, "output")
    acts = kind == "AGENT"
    return Meaning(
        kind="agent" if acts else "holder",
        agent=agent or (span.name if acts and span.parent is not None else None),
        task=asked,
        answer=said,
        about=about,
        totals={k: v for k, v in span.attributes.items() if k.startswith("llm.token_count.")},
    )


def _value(span: TraceSpan, name: str) -> Any:
    """What a span was given or gave: JSON where the emitter says so."""
    value = span.get(f"{name}.value")
    return span.json(f"{name}.value") if span.get(f"{name}.mime_type") == "application/json" else value


def _call(span: TraceSpan) -> tuple[dict[str, Any], list[str]]:
    asked, said = span.json("input.value"), span.json("output.value")
    raw: list[str] = []
    model = text(span.get("llm.model_name"))
    dialect = dialect_of(said)
    listed = span.nested("llm.tools")
    definitions = chat.tools([t.get("tool.json_schema") for t in listed])
    params = obj(span.json("llm.invocation_parameters"))
    if is_body(asked):
        request: Any = asked
        raw.append("input.value")
    elif dialect == "openai.responses" and items(asked) and all(isinstance(i, dict) for i in asked):
        # the Agents SDK: items in, and the response as parameters
        request = {"model": obj(said).get("model") or model, "input": asked}
        if obj(said).get("instructions") is not None:
            request["instructions"] = said["instructions"]
        if definitions:
            request["tools"] = obj(said).get("tools") or definitions
        raw.append("input.value")
    else:
        request = {"messages": _messages(span.nested("llm.input_messages"))}
        if not request["messages"] and span.get("llm.prompts.0.prompt.text", "input.value") is not None:
            request["messages"] = chat.messages(span.get("llm.prompts.0.prompt.text") or asked)
        request |= {"model": model} if model else {}
        request |= {} if "id" in params else {k: v for k, v in params.items() if k not in ("messages", "tools")}
        request |= {"tools": chat.functions(definitions)} if definitions else {}
        dialect = "openai.chat" if dialect is None or dialect == "openai.chat" else dialect
    if dialect_of(said) is not None and (dialect_of(said) == dialect):
        response: Any = said
        raw.append("output.value")
    else:
        found = _messages(span.nested("llm.output_messages"))
        response = chat.answer(found) if found else content_text(said) or said
        dialect = "openai.chat"
    if raw == ["output.value"] and dialect != "openai.chat":  # messages in chat's shape, and an answer of another API
        found = _messages(span.nested("llm.output_messages"))
        if found:
            response, dialect, raw = chat.answer(found), "openai.chat", []
    stated = usage_counts(obj(obj(said).get("usage")))
    cached = (count(span.get(f"llm.token_count.prompt_details.{n}")) for n in ("cache_read", "cache_write"))
    fields = {
        "dialect": dialect or "openai.chat",
        "request": request,
        "response": response,
        "model": model or text(obj(said).get("model")),
        "usage": obj(obj(said).get("usage")) or None,
        "prompt_tokens": prompt_count(count(span.get("llm.token_count.prompt")), *cached) or stated[0],
        "completion_tokens": count(span.get("llm.token_count.completion")) or stated[1],
        "cost": span.get("llm.cost.total") if isinstance(span.get("llm.cost.total"), float) else None,
        "finish_reason": text(span.get("llm.finish_reason")),
        "reasoning": text(obj(response).get("reasoning_content")),
        **ended(span),
    }
    for event in span.events:
        if event.name == "First Token Stream Event" and event.time is not None and span.start is not None:
            fields["first_token"] = max(0, event.time - span.start)
    return fields, raw


def _messages(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_message({k.removeprefix("message."): v for k, v in one.items()}) for one in listed]


def _message(flat: dict[str, Any]) -> dict[str, Any]:
    holder = TraceSpan(trace="", id="", attributes=flat)
    shaped: dict[str, Any] = {"role": flat.get("role") or "user", "content": flat.get("content")}
    thoughts: list[str] = []
    parts: list[Any] = []
    for part in holder.nested("contents"):
        p = {k.removeprefix("message_content."): v for k, v in part.items()}
        if p.get("type") in ("reasoning", "thinking") and isinstance(p.get("text"), str):
            thoughts.append(p["text"])
        elif isinstance(p.get("text"), str):
            parts.append({"type": "text", "text": p["text"]})
        elif p.get("image.image.url"):
            parts.append({"type": "image_url", "image_url": {"url": p["image.image.url"]}})
        else:
            parts.append(p)
    if parts and shaped["content"] is None:
        shaped["content"] = parts[0]["text"] if len(parts) == 1 and parts[0].get("type") == "text" else parts
    if thoughts:
        shaped["reasoning_content"] = "\n\n".join(thoughts)
    calls = [
        chat.call(c.get("tool_call.id"), c.get("tool_call.function.name"), c.get("tool_call.function.arguments"))
        for c in holder.nested("tool_calls")
    ]
    if calls:
        shaped["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        if flat.get(name) is not None:
            shaped[name] = flat[name]
    return shaped
