"""OpenTelemetry's GenAI semantic conventions, in the versions that emitters write.

Content is in attributes (`gen_ai.input.messages`, since 1.37), in events (`gen_ai.user.message`, `gen_ai.choice`, 1.28 to
1.36; one event with all, `gen_ai.client.inference.operation.details`; `gen_ai.content.prompt`, before 1.28), in the attributes
`gen_ai.prompt` and `gen_ai.completion` before all of these, or absent: it is opt-in. Events may come as log records.

Source: https://github.com/open-telemetry/semantic-conventions-genai.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..shape import arguments, items, number, obj, parsed, text, without
from . import chat
from .common import about_of, count, ended, prompt_count, reason
from .span import Event, Meaning, TraceSpan

_CALLS = ("chat", "text_completion", "generate_content", "completion", "message", "responses")
#: Names of the conventions, each with its place in a request of OpenAI's chat.
PARAMS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "max_tokens": "max_tokens", "seed": "seed",
    "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty", "stop_sequences": "stop",
    "choice.count": "n", "reasoning_effort": "reasoning_effort",
}  # fmt: skip
_CONTENT = (
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions",
    "gen_ai.request.model", "gen_ai.response.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
    "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens", "gen_ai.response.finish_reasons", "gen_ai.prompt",
    "gen_ai.completion",
)  # fmt: skip


def joined(spans: list[TraceSpan]) -> list[TraceSpan]:
    """The spans of a session in order, in which events that came as log records are their spans' events."""
    there = {(s.trace, s.id) for s in spans if not s.log}
    told: dict[tuple[str, str], list[Event]] = {}
    out: list[TraceSpan] = []
    for span in spans:
        key = span.trace, span.parent or ""
        if span.log and span.name.startswith("gen_ai.") and key in there:
            told.setdefault(key, []).append(Event(name=span.name, time=span.start, attributes=span.attributes))
        else:
            out.append(span)
    return [msgspec.structs.replace(s, events=[*s.events, *told[s.trace, s.id]]) if (s.trace, s.id) in told else s for s in out]


def meaning(span: TraceSpan) -> Meaning | None:
    """None where nothing of the conventions is in the span."""
    found = _meaning(span)
    if found is not None:
        found.rewards = [_reward(event) for event in span.events if event.name == "gen_ai.evaluation.result"]
    return found


def _reward(event: Event) -> dict[str, Any]:
    """An evaluation's score; a label alone only monitors."""
    given = event.attributes
    value, label = number(given.get("gen_ai.evaluation.score.value")), given.get("gen_ai.evaluation.score.label")
    return {
        "name": text(given.get("gen_ai.evaluation.name")) or "evaluation",
        "source": "function",
        "value": value,
        "rationale": text(given.get("gen_ai.evaluation.explanation")),
        "source_time": event.time,
        **({"extra": {"label": label}} if label is not None else {}),
        **({"weight": 0.0} if value is None else {}),
    }


def _meaning(span: TraceSpan) -> Meaning | None:
    operation = span.get("gen_ai.operation.name", "operation.name")
    named = text(span.get("gen_ai.agent.name", "agent_name"))
    about = about_of(span)
    if operation in ("execute_tool", "tool") or (operation is None and span.get("gen_ai.tool.call.id") is not None):
        return Meaning(kind="tool", fields=_tool(span), agent=named, about=about, used=_TOOL)
    if operation in ("invoke_agent", "create_agent", "invoke_workflow"):
        return _agent(span, named, about)
    if operation in ("embeddings", "retrieval", "rerank", "rank"):
        query = span.json("gen_ai.retrieval.query.text", "gen_ai.input.messages", "gen_ai.embeddings.input")
        found = span.json("gen_ai.retrieval.documents", "gen_ai.output.messages")
        provider = text(span.get("gen_ai.data_source.id", "gen_ai.request.model")) or str(operation)
        return Meaning(kind="read", fields={"provider": provider, "query": query, "data": found, **ended(span)}, about=about)
    is_call = operation in _CALLS or (
        operation is None and span.get("gen_ai.request.model", "gen_ai.response.model") is not None and not span.log
    )
    return Meaning(kind="call", fields=call_fields(span), agent=named, about=about, used=_CONTENT) if is_call else None


_TOOL = ("gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result")


def _tool(span: TraceSpan) -> dict[str, Any]:
    called, result = (
        span.get("gen_ai.tool.call.arguments", "tool_arguments"),
        span.json("gen_ai.tool.call.result", "tool_response"),
    )
    for event in span.events:  # 1.28 to 1.36
        if event.name == "gen_ai.tool.message" and result is None:
            result = event.attributes.get("content")
    name = text(span.get("gen_ai.tool.name")) or span.name.removeprefix("execute_tool ")
    given = {
        "name": name,
        "arguments": arguments(called),
        "result": result,
        "tool_call_id": text(span.get("gen_ai.tool.call.id")),
    }
    return given | {"ok": False if span.failed else None} | ended(span)


def _agent(span: TraceSpan, named: str | None, about: dict[str, Any]) -> Meaning:
    asked, said = span.json("gen_ai.input.messages"), span.json("gen_ai.output.messages", "final_result")
    totals = {k: v for k, v in span.attributes.items() if "usage" in k}
    prompts = [m for m in chat.messages(asked) if m.get("role") == "user"] if isinstance(asked, list) else []
    answers = chat.messages(said) if isinstance(said, list) else []
    return Meaning(
        kind="agent",
        agent=named or (span.name.removeprefix("invoke_agent ") or None),
        task=prompts[0]["content"] if prompts else None,
        answer=answers[-1].get("content") if answers else said,
        about=about,
        totals=totals,
        used=(
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "pydantic_ai.all_messages",
            "all_messages_events",
            "logfire.json_schema",
        ),
    )


def call_fields(span: TraceSpan) -> dict[str, Any]:
    """The fields of a call, from the attributes and events of one span."""
    asked, said, instructions, cut = _content(span)
    system = chat.system(instructions)
    sent = [without(m, "finish_reason") for m in chat.messages(asked)] if asked is not None else []
    if system and any(m.get("role") in ("system", "developer") for m in sent[:1]):
        system = []
    request: dict[str, Any] = {"messages": [*system, *sent]}
    model = text(span.get("gen_ai.request.model"))
    if model:
        request["model"] = model
    for name, wire in PARAMS.items():
        if (value := span.get(f"gen_ai.request.{name}")) is not None:
            request[wire] = value
    definitions = chat.functions(span.json("gen_ai.tool.definitions"))
    if definitions:
        request["tools"] = definitions
    reasons = items(span.json("gen_ai.response.finish_reasons"))
    answers = chat.messages(said) if said is not None else []
    stated = next((m["finish_reason"] for m in answers if m.get("finish_reason")), None)
    response = chat.answer(answers, reasons)
    cached = (
        count(span.get("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")),
        count(
            span.get(
                "gen_ai.usage.cache_creation.input_tokens",
                "gen_ai.usage.cache_write.input_tokens",
                "gen_ai.usage.cache_creation_input_tokens",
            )
        ),
    )
    first = number(span.get("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"))
    fields: dict[str, Any] = {
        "dialect": "openai.chat",
        "request": request,
        "response": response,
        "model": text(span.get("gen_ai.response.model")) or model,
        "finish_reason": reason(reasons[0] if reasons else stated),
        "prompt_tokens": prompt_count(count(span.get("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")), *cached),
        "completion_tokens": count(span.get("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")),
        "reasoning": text(obj(response).get("reasoning_content")),
        **ended(span),
    }
    if first is not None and 0 <= first < 1e6:
        fields["first_token"] = round(first * 1e9)
    if cut:
        fields["extra"] = {"cut": cut}
    return fields


def _content(span: TraceSpan) -> tuple[Any, Any, Any, list[str]]:
    """What was sent, what was answered, the system's instructions, and which of them are JSON that was cut."""
    names = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions")
    asked, said, instructions = map(span.json, names)
    cut = [name for name, value in zip(names, (asked, said, instructions), strict=True) if _is_cut(value)]
    older: list[Any] = []
    for event in span.events:
        given = event.attributes
        if event.name == "gen_ai.client.inference.operation.details":
            asked, said, instructions = (
                own if own is not None else parsed(given.get(name))
                for own, name in zip((asked, said, instructions), names, strict=True)
            )
        elif event.name == "gen_ai.choice":
            body = _body(given)
            chosen = body.get("message")
            told = chosen if isinstance(chosen, dict) else {k: body[k] for k in ("content", "tool_calls") if k in body}
            said = [*items(said), {**told, "finish_reason": body.get("finish_reason")}]
        elif event.name.startswith("gen_ai.") and event.name.endswith(".message"):
            older.append({"role": event.name[7:-8], **_body(given)})
        elif event.name == "gen_ai.content.prompt" and asked is None:
            asked = parsed(given.get("gen_ai.prompt"))
        elif event.name == "gen_ai.content.completion" and said is None:
            said = parsed(given.get("gen_ai.completion"))
    if asked is None:
        asked = older or span.json("gen_ai.prompt")
    return asked, span.json("gen_ai.completion") if said is None else said, instructions, cut


def _is_cut(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("[", "{"))


def _body(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event: its body as JSON, or its attributes."""
    body = obj(parsed(given.get("event.body", given.get("body"))))
    fields = body or {k: v for k, v in given.items() if not k.startswith(("gen_ai.", "event."))}
    return {k: parsed(v) if k in ("message", "tool_calls") else v for k, v in fields.items()}
