"""Logfire and pydantic-ai before they wrote GenAI's messages: all of a run in `all_messages_events` or `events`, and requests
of SDKs in `request_data` and `response_data`.

Newer spans of theirs are GenAI's own (`genai`), with a few more names that are read here.

Source: https://github.com/pydantic/logfire and pydantic-ai's `instrumented.py`.
"""

from __future__ import annotations

from typing import Any

from ..shape import dicts, items, obj, text
from . import chat, genai
from .common import about_of, dialect_of, ended, usage_counts
from .span import Meaning, TraceSpan


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span has none of the names."""
    if isinstance(span.json("request_data"), dict) and "model" in span.json("request_data"):
        return _of_sdk(span)
    events = span.json("events")
    if isinstance(events, list) and span.get("gen_ai.request.model") is not None:
        return _of_events(span, dicts(events))
    everything = span.json("all_messages_events", "pydantic_ai.all_messages")
    if isinstance(everything, list):
        return _of_run(span, everything)
    if (span.scope.startswith("pydantic-ai") and span.name in ("running tools", "running 1 tool")) or span.name.startswith(
        "running tools"
    ):
        return Meaning(kind="holder")
    return None


def _of_sdk(span: TraceSpan) -> Meaning:
    """A request of an SDK that Logfire instruments: the raw body, and a summary of the answer."""
    request, said = obj(span.json("request_data")), obj(span.json("response_data"))
    response: Any = said.get("message") or said.get("combined_chunk_content") or (said if dialect_of(said) else None)
    prompt, completion = usage_counts(obj(said.get("usage")))
    fields = genai.call_fields(span)
    answer = {"role": "assistant", "content": response} if isinstance(response, str) else response
    fields |= {
        "dialect": "anthropic.messages"
        if "anthropic" in span.scope + str(span.get("gen_ai.system"))
        else dialect_of(said) or "openai.chat",
        "request": request,
        "response": answer if answer is not None else fields["response"],
        "usage": obj(said.get("usage")) or None,
        "prompt_tokens": fields["prompt_tokens"] if fields["prompt_tokens"] is not None else prompt,
        "completion_tokens": fields["completion_tokens"] if fields["completion_tokens"] is not None else completion,
        **ended(span),
    }
    if fields["dialect"] == "anthropic.messages":  # the summary is in chat's shape
        fields["response"] = {"role": "assistant", "type": "message", "content": _blocks(obj(answer))}
    return Meaning(kind="call", fields=fields, about=about_of(span), used=("request_data", "response_data", "async"))


def _blocks(answer: dict[str, Any]) -> list[Any]:
    content = answer.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else items(content)
    for one in dicts(answer.get("tool_calls")):
        function = obj(one.get("function"))
        blocks = [
            *blocks,
            {"type": "tool_use", "id": one.get("id"), "name": function.get("name"), "input": function.get("arguments")},
        ]
    return blocks


def _split(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was sent, and what was answered, as chat messages."""
    sent: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for event in events:
        if event.get("event.name") == "gen_ai.choice" or "message" in event:
            said += chat.message({**obj(event.get("message")), "finish_reason": event.get("finish_reason")})
        else:
            sent += chat.message(event)
    return sent, said


def _of_events(span: TraceSpan, events: list[dict[str, Any]]) -> Meaning:
    sent, said = _split(events)
    fields = genai.call_fields(span)
    fields["request"] = {**fields["request"], "messages": sent}
    fields["response"] = chat.answer(said) if said else fields["response"]
    return Meaning(
        kind="call",
        fields=fields,
        agent=text(span.get("gen_ai.agent.name")),
        about=about_of(span),
        used=("events", "logfire.json_schema"),
    )


def _of_run(span: TraceSpan, everything: list[Any]) -> Meaning:
    """A run of an agent: it holds calls, which are spans of their own; where they are not there, its conversation stands for
    them."""
    flat, said = _split(dicts(everything)) if any("event.name" in obj(e) for e in everything) else (chat.messages(everything), [])
    asked = next((m.get("content") for m in flat if m.get("role") == "user"), None)
    answer = span.json("final_result")
    totals = {k: v for k, v in span.attributes.items() if "usage" in k}
    return Meaning(
        kind="agent",
        agent=text(span.get("gen_ai.agent.name", "agent_name")),
        task=asked,
        answer=answer,
        about=about_of(span),
        totals=totals,
        fields={
            "conversation": [*flat, *said],
            "model": text(span.get("model_name", "gen_ai.response.model", "gen_ai.request.model")),
        },
        used=("all_messages_events", "pydantic_ai.all_messages", "logfire.json_schema"),
    )
