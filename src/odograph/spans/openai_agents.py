"""Spans of the OpenAI Agents SDK as its own tracing exports them: `span_data` of types response, generation, function, agent,
handoff.

Source: openai/openai-agents-python, src/agents/tracing/span_data.py.
"""

from __future__ import annotations

from typing import Any

from ..shape import arguments, dicts, items, obj, text
from . import chat
from .common import dialect_of, ended, usage_counts
from .span import Meaning, TraceSpan


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span has no `span_data`."""
    data = span.attributes.get("span_data")
    if not isinstance(data, dict):
        return None
    kind = data.get("type")
    if kind in ("generation", "response", "transcription", "speech"):
        return Meaning(kind="call", fields=_call(span, data), used=("span_data",))
    if kind in ("function", "mcp_tools", "custom_tool"):
        name = text(data.get("name")) or text(data.get("server")) or str(kind)
        result = data.get("output", data.get("result"))
        fields = {"name": name, "arguments": arguments(data.get("input")), "result": result, "ok": False if span.failed else None}
        return Meaning(kind="tool", fields=fields | ended(span), used=("span_data",))
    if kind == "handoff":
        to = data.get("to_agent")
        fields = {
            "name": f"transfer_to_{to}",
            "arguments": {"from_agent": data.get("from_agent"), "to_agent": to},
            "ok": not span.failed,
        }
        return Meaning(kind="tool", fields=fields | ended(span), used=("span_data",))
    if kind == "agent":
        return Meaning(kind="agent", agent=text(data.get("name")))
    return Meaning(kind="holder")


def _call(span: TraceSpan, data: dict[str, Any]) -> dict[str, Any]:
    response = data.get("response") if isinstance(data.get("response"), dict) else None
    usage = obj(data.get("usage")) or obj(obj(response).get("usage"))
    model = text(data.get("model")) or text(obj(response).get("model"))
    prompt, completion = usage_counts(usage)
    if response is not None or data.get("type") == "response":
        request: dict[str, Any] = {"input": data.get("input"), "model": model}
        for name in ("instructions", "tools"):
            if obj(response).get(name):
                request[name] = obj(response)[name]
        dialect = dialect_of(response) or "openai.responses"
        said: Any = response
    else:
        request = {"messages": chat.messages(items(data.get("input"))), "model": model, **obj(data.get("model_config"))}
        answers = [
            m
            for one in dicts(data.get("output"))
            for m in (chat.messages(one.get("choices")) if "choices" in one else chat.message(one))
        ]
        said, dialect = chat.answer(answers), "openai.chat"
    fields = {"dialect": dialect, "request": request, "response": said, "model": model, "usage": usage or None}
    return fields | {"prompt_tokens": prompt, "completion_tokens": completion} | ended(span)
