"""LangSmith's runs, as its SDK sends them over OpenTelemetry (`langsmith.span.kind`) and as `sources` reads its own run objects.

Source: https://github.com/langchain-ai/langsmith-sdk.
"""

from __future__ import annotations

from typing import Any

from ..shape import arguments, dicts, items, literal, number, obj, text, thinking
from . import chat
from .common import about_of, dialect_of, ended, is_body, price, reason, usage_counts
from .span import Meaning, TraceSpan

_IO = (
    "langsmith.inputs", "gen_ai.prompt", "langsmith.outputs", "gen_ai.completion", "langsmith.feedback", "langsmith.totals",
)  # fmt: skip


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span is no run."""
    found = _meaning(span)
    if found is not None:
        given = obj(span.json("langsmith.feedback")).items()
        found.rewards = [r for name, one in given if (r := _reward(span, name, obj(one))) is not None]
    return found


def _reward(span: TraceSpan, name: str, one: dict[str, Any]) -> dict[str, Any] | None:
    """Feedback of a run: its mean. A run that no other holds is the whole trace."""
    if (value := number(one.get("avg"))) is None:
        return None
    target: dict[str, Any] = {"target": None} if span.parent is None else {}
    return {"name": name, "source": "function", "value": value, "extra": {"feedback": one}, **target}


def _meaning(span: TraceSpan) -> Meaning | None:
    kind = text(span.get("langsmith.span.kind"))
    if kind is None:
        return None
    asked, said = span.json("langsmith.inputs", "gen_ai.prompt"), span.json("langsmith.outputs", "gen_ai.completion")
    about = about_of(span)
    if tags := items(span.json("langsmith.span.tags")):
        about["tags"] = [str(t) for t in tags]
    if kind == "llm":
        return Meaning(kind="call", fields=_call(span, asked, said), about=about, used=_IO)
    if kind == "tool":
        given = obj(asked).get("input", asked) if isinstance(asked, dict) and asked.keys() == {"input"} else asked
        result = obj(said).get("output", said) if isinstance(said, dict) else said
        called = text(obj(obj(result).get("kwargs")).get("tool_call_id")) or text(obj(result).get("tool_call_id"))
        if called:
            result = obj(result).get("content", obj(obj(result).get("kwargs")).get("content", result))
        fields = {"name": span.name, "arguments": _given(given), "result": result, "ok": False if span.failed else None}
        return Meaning(kind="tool", fields=fields | {"tool_call_id": called} | ended(span), about=about, used=_IO)
    if kind in ("retriever", "embedding"):
        return Meaning(
            kind="read", fields={"provider": span.name, "query": asked, "data": said, **ended(span)}, about=about, used=_IO
        )
    return Meaning(kind="holder", task=_asked(asked), answer=_told(said), about=about)


def _given(value: Any) -> Any:
    """A tool's arguments: LangChain writes an object in Python's notation."""
    found = literal(value)
    return found if isinstance(found, dict) else arguments(value)


def _asked(inputs: Any) -> Any:
    prompts = (
        [m for m in chat.messages(inputs) if m.get("role") == "user"] if isinstance(obj(inputs).get("messages"), list) else []
    )
    return prompts[0].get("content") if prompts else inputs


def _told(outputs: Any) -> Any:
    found = chat.messages(outputs) if isinstance(obj(outputs).get("messages"), list) else []
    return found[-1].get("content") if found else outputs


def _call(span: TraceSpan, asked: Any, said: Any) -> dict[str, Any]:
    metadata = {
        n.removeprefix("langsmith.metadata."): v for n, v in span.attributes.items() if n.startswith("langsmith.metadata.")
    }
    params = obj(span.json("langsmith.invocation_params"))
    model = text(params.get("model")) or text(params.get("model_name")) or text(metadata.get("ls_model_name"))
    if is_body(asked):
        request: Any = asked if "model" in asked or not model else {**asked, "model": model}
    else:
        rest = {k: v for k, v in params.items() if not k.startswith("_") and k not in ("messages", "extra_headers")}
        request = {**rest, "messages": chat.messages(asked if asked is not None else [])}
        request |= {"model": model} if model else {}
    response, dialect = _response(said)
    usage = next(
        (u for u in (obj(said).get("usage"), obj(said).get("usage_metadata"), _lc_usage(said)) if isinstance(u, dict) and u), {}
    )
    totals, about = obj(span.json("langsmith.totals")), _generation(said)
    prompt, completion = usage_counts(usage or totals)
    raw = dialect if dialect is not None and (isinstance(request.get("messages"), list) or "input" in request) else "openai.chat"
    return {
        "dialect": raw,
        "request": request,
        "response": response,
        "model": text(obj(said).get("model")) or text(about.get("model_name")) or model,
        "finish_reason": reason(about.get("finish_reason")),
        "cost": price(totals.get("total_cost")),
        "usage": usage or None,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "reasoning": thinking(obj(response)),
        **ended(span),
    }


def _response(said: Any) -> tuple[Any, str | None]:
    """The answer, and the dialect of it where it is a raw body."""
    dialect = dialect_of(said)
    if dialect is not None:
        return said, dialect
    listed = items(obj(said).get("generations"))
    generations = dicts(listed[0] if listed and isinstance(listed[0], list) else listed)  # the answers to a prompt, a list each
    if generations:
        reasons = [reason(obj(one.get("generation_info")).get("finish_reason")) for one in generations]
        return chat.answer(list(map(_generated, generations)), reasons), None
    if isinstance(obj(said).get("messages"), list) or obj(said).get("role") is not None:
        return chat.answer(chat.messages(said)[-1:]), None
    output = obj(said).get("output")
    return ({"role": "assistant", "content": output}, None) if isinstance(output, str) else (said, None)


def _generated(one: dict[str, Any]) -> dict[str, Any]:
    found = chat.message(one["message"])[-1:] if isinstance(one.get("message"), dict) else []
    return found[0] if found else {"role": "assistant", "content": one.get("text")}


def _generation(said: Any) -> dict[str, Any]:
    """What LangChain says of the first answer: why it ended, and which model gave it."""
    first = next(
        (g for batch in items(obj(said).get("generations")) for g in dicts(batch if isinstance(batch, list) else [batch])), {}
    )
    about = obj(obj(obj(first.get("message")).get("kwargs")).get("response_metadata"))
    return {**obj(obj(said).get("llm_output")), **about, **obj(first.get("generation_info"))}


def _lc_usage(said: Any) -> Any:
    for batch in items(obj(said).get("generations")):
        for one in dicts(batch if isinstance(batch, list) else [batch]):
            kwargs = obj(obj(one.get("message")).get("kwargs"))
            if isinstance(kwargs.get("usage_metadata"), dict):
                return kwargs["usage_metadata"]
    return obj(obj(said).get("llm_output")).get("token_usage")
