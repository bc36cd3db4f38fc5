"""Langfuse's observations, as its SDK sends them (`langfuse.observation.*`) and as `sources` reads its exports.

The SDK fills in parameters that nobody sent (`max_tokens: "Infinity"`, `top_p: 1`): parameters with these values are not
believed. They stay in `extra`.

Source: https://langfuse.com/integrations/native/opentelemetry and langfuse-python.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ..clock import parse_time
from ..shape import arguments, dicts, items, number, obj, text
from . import chat
from .common import about_of, count, dialect_of, ended, is_body, price, usage_counts
from .span import Meaning, TraceSpan

_IO = ("langfuse.observation.input", "langfuse.observation.output")
_CALLS = ("generation", "embedding")


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span is no observation."""
    if span.get("langfuse.observation.level") == "ERROR" and not span.failed:  # not each SDK says it in the status, too
        span = replace(span, failed=True, error=text(span.get("langfuse.observation.status_message")))
    found = _meaning(span)
    if found is not None:
        if found.task is None:  # what the trace was asked and answered, where the trace alone says it
            found.task = span.json("langfuse.trace.input")
        if found.answer is None:
            found.answer = span.json("langfuse.trace.output")
        found.rewards = [_reward(score) for score in dicts(span.get("langfuse.scores"))]
        found.used = (*found.used, "langfuse.scores")
    return found


_SOURCES = {"ANNOTATION": "human", "API": "function", "EVAL": "judge"}


def _reward(score: dict[str, Any]) -> dict[str, Any]:
    """A score of an export; one that is a word has no number, and only monitors. One that names no observation is of the whole
    trace."""
    value = number(score.get("value"))
    given = {"name": text(score.get("name")) or "score", "source": _SOURCES.get(str(score.get("source")), "function")}
    more = {k: score[k] for k in ("id", "stringValue", "dataType", "metadata") if score.get(k) not in (None, "", "{}")}
    when = parse_time(score.get("timestamp"))
    return {
        **given,
        "value": value,
        **({"weight": 0.0} if value is None and text(score.get("stringValue")) else {}),
        "rationale": text(score.get("comment")),
        "source_time": when,
        "extra": {"score": more},
        **({} if score.get("observationId") else {"target": None}),
    }


def _meaning(span: TraceSpan) -> Meaning | None:
    kind = text(span.get("langfuse.observation.type"))
    if kind is None and not any(n.startswith("langfuse.") for n in span.attributes):
        return None
    if kind is None and span.get(*_IO, "langfuse.trace.input") is None:  # marks that Langfuse adds to spans of others
        return None
    kind = (kind or "span").lower()
    about = about_of(span)
    if tags := items(span.json("langfuse.trace.tags")):
        about["tags"] = [str(t) for t in tags]
    metadata = {
        n.removeprefix("langfuse.trace.metadata."): v
        for n, v in span.attributes.items()
        if n.startswith("langfuse.trace.metadata.")
    }
    if metadata:
        about["metadata"] = metadata
    asked, said = span.json(_IO[0]), span.json(_IO[1])
    if kind in _CALLS and (kind == "generation" or said is None):
        return Meaning(
            kind="call", fields=_call(span, asked, said), about=about, used=(*_IO, "langfuse.observation.model.name", *_USAGE)
        )
    if kind == "tool":
        fields = {"name": span.name, "arguments": arguments(asked), "result": said, "ok": False if span.failed else None}
        given = obj(asked).get("tool_call_id") if isinstance(asked, dict) else None
        return Meaning(kind="tool", fields=fields | {"tool_call_id": text(given)} | ended(span), about=about, used=_IO)
    if kind in ("retriever", "embedding"):
        return Meaning(
            kind="read", fields={"provider": span.name, "query": asked, "data": said, **ended(span)}, about=about, used=_IO
        )
    if kind == "event":
        return Meaning(kind="note", fields={"name": span.name, "data": {"input": asked, "output": said}}, about=about, used=_IO)
    acts = kind == "agent"
    return Meaning(kind="agent" if acts else "holder", agent=span.name if acts else None, task=asked, answer=said, about=about)


#: Parameters that the SDK may have filled in, with the values that it fills in.
_INVENTED = {"temperature": 1, "max_tokens": "Infinity", "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}


def _params(span: TraceSpan) -> dict[str, Any]:
    given = obj(span.json("langfuse.observation.model.parameters"))
    return {k: v for k, v in given.items() if k in _INVENTED and number(v) is not None and v != _INVENTED[k]}


_USAGE = ("langfuse.observation.usage_details", "langfuse.observation.cost_details")


def _call(span: TraceSpan, asked: Any, said: Any) -> dict[str, Any]:
    usage, costs = obj(span.json(_USAGE[0])), obj(span.json(_USAGE[1]))
    model = text(span.get("langfuse.observation.model.name", "gen_ai.request.model"))
    if is_body(asked):
        request: Any = asked if "model" in asked or model is None else {**asked, "model": model}
    elif isinstance(asked, list) or isinstance(obj(asked).get("messages"), list):
        listed = asked if isinstance(asked, list) else asked["messages"]
        rest = {k: v for k, v in obj(asked).items() if k != "messages"}
        request = {"messages": chat.messages(listed), **({"model": model} if model else {}), **rest}
    elif obj(asked).get("role") is not None:
        request = {"messages": chat.message(asked), **({"model": model} if model else {})}
    elif asked is None:
        request = {"messages": [], **({"model": model} if model else {})}
    else:
        request = {"messages": [{"role": "user", "content": asked}], **({"model": model} if model else {})}
    if isinstance(request.get("messages"), list):
        request = {**request, **{k: v for k, v in _params(span).items() if k not in request}}
    raw = dialect_of(said)
    billed = usage_counts(obj(obj(said).get("usage"))) if raw is not None else (None, None)
    if isinstance(request.get("messages"), list) and raw not in (None, "openai.chat"):
        raw = None  # an answer of another API than the request's shape
    if (raw is None and isinstance(obj(said).get("content"), list)) or obj(said).get("role") is not None:
        said = chat.answer(chat.message({"role": "assistant", **said}))
    elif isinstance(said, list):
        said = chat.answer(chat.messages(said))
    first = parse_time(span.json("langfuse.observation.completion_start_time"))
    fields: dict[str, Any] = {
        "dialect": raw or "openai.chat",
        "request": request,
        "response": said,
        "model": model,
        "usage": usage or None,
        "prompt_tokens": billed[0] if billed[0] is not None else _prompt(usage),
        "completion_tokens": billed[1]
        if billed[1] is not None
        else _first(usage, "output", "completion_tokens", "output_tokens", "completionTokens"),
        "cost": price(costs.get("total")),
        "finish_reason": text(span.json("langfuse.observation.metadata.finish_reason")),
        **ended(span),
    }
    if first is not None and span.start is not None:
        fields["first_token"] = max(0, first - span.start)
    return fields


def _first(usage: dict[str, Any], *names: str) -> int | None:
    return next((found for n in names if (found := count(usage.get(n))) is not None), None)


def _prompt(usage: dict[str, Any]) -> int | None:
    """Prompt tokens with cached ones: Langfuse's own names (`input`, `input_cached_tokens`) are parts of a sum."""
    given = _first(usage, "input", "prompt_tokens", "input_tokens", "promptTokens")
    if given is None or "input" not in usage:
        return given
    apart = [
        n
        for n in usage
        if (n.startswith("input_") and n != "input_tokens") or n in ("cache_read_input_tokens", "cache_creation_input_tokens")
    ]
    return given + sum(count(usage[n]) or 0 for n in dict.fromkeys(apart))
