"""Codex's own telemetry: log events `codex.*`. Requests and answers are not in them: a call has its figures alone.

Codex's spans (`fs.read_file`, ...) are its inner workings, and nothing of a session.

Source: openai/codex, codex-rs/otel.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..shape import arguments, text
from .common import count, price
from .span import Meaning, TraceSpan


def joined(spans: list[TraceSpan]) -> list[TraceSpan]:
    """The spans of a session in order, in which the end of a stream and the figures of its answer, an event each, are one."""
    out: list[TraceSpan] = []
    ended: int | None = None
    for span in spans:
        if text(span.get("event.name")) == "codex.sse_event" and span.get("event.kind") == "response.completed":
            if span.get("input_token_count") is None:
                ended = len(out)
            elif ended is not None:
                first = out[ended]
                out[ended] = msgspec.structs.replace(first, attributes={**first.attributes, **span.attributes})
                ended = None
                continue
        out.append(span)
    return out


def meaning(span: TraceSpan) -> Meaning | None:
    """None where it is no telemetry of Codex."""
    name = text(span.get("event.name")) or span.name
    if not name.startswith("codex."):
        inner = span.scope.startswith("codex") or str(span.resource.get("service.name", "")).startswith("codex")
        return Meaning(kind="noise") if inner and not span.log else None
    name = name.removeprefix("codex.")
    if name == "sse_event":
        if span.get("event.kind") != "response.completed":
            return Meaning(kind="noise")
        return Meaning(kind="call", fields=_call(span), agent="codex", used=_USED)
    if name == "user_prompt":
        prompt = span.get("prompt")
        return Meaning(kind="note", fields={"name": name, "data": {"prompt": prompt}}, task=prompt, agent="codex")
    if name == "tool_result":
        return Meaning(kind="tool", fields=_tool(span), agent="codex", used=("tool_name", "call_id", "arguments", "output"))
    return Meaning(kind="note", fields={"name": name, "data": None}, agent="codex") if span.log else Meaning(kind="noise")


_USED = ("input_token_count", "output_token_count", "model", "slug")


def _call(span: TraceSpan) -> dict[str, Any]:
    return {
        "dialect": "openai.responses",
        "model": text(span.get("model", "slug")),
        "prompt_tokens": count(span.get("input_token_count")),
        "completion_tokens": count(span.get("output_token_count")),
        "duration": _took(span),
    }


def _tool(span: TraceSpan) -> dict[str, Any]:
    told = span.get("success")
    return {
        "name": text(span.get("tool_name")) or "",
        "arguments": arguments(span.get("arguments")),
        "result": span.get("output"),
        "ok": None if told is None else told in (True, "true"),
        "tool_call_id": text(span.get("call_id")),
        "duration": _took(span),
    }


def _took(span: TraceSpan) -> int | None:
    took = price(span.get("duration_ms"))
    return round(took * 1e6) if took is not None and 0 <= took < 1e9 else None
