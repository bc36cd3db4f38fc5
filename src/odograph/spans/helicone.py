"""Requests of Helicone (`request_body`, `response_body` and figures), as its API answers them and its export tool writes them.

A row is a request to a model, or a tool or a search that a program logged by hand (`_type` of the body). Rows of one
`Helicone-Session-Id` are one session; a row without it is a session of its own.

Source: Helicone/helicone, `HeliconeRequest` and `examples/export`; docs.helicone.ai on sessions and on the manual logger.
"""

from __future__ import annotations

from typing import Any

from ..codec import content_hash
from ..shape import arguments, integer, nanoseconds, number, obj, parsed, text, without
from . import chat
from .common import count, dialect_of, ended, is_body, price, prompt_count, time_of, usage_counts
from .span import Meaning, TraceSpan

_FIGURES = (
    "prompt_tokens", "completion_tokens", "prompt_cache_read_tokens", "prompt_cache_write_tokens", "costUSD", "cost",
    "time_to_first_token", "request_model", "response_model", "model", "response_status", "scores", "feedback_rating",
)  # fmt: skip
_HELD = (
    *_FIGURES, "request_id", "request_body", "response_body", "request_created_at", "response_created_at", "request_properties",
    "properties", "request_path", "request_user_id", "signed_body_url",
)  # fmt: skip
_OTHERS = ("tool", "vector_db", "data")


def is_row(v: dict[str, Any]) -> bool:
    """Whether a value is a request of Helicone."""
    return isinstance(v.get("request_created_at"), str) and ("response_status" in v or "request_body" in v)


def of_row(v: dict[str, Any]) -> TraceSpan:
    """A request of Helicone."""
    properties = obj(parsed(v.get("request_properties"))) or obj(parsed(v.get("properties")))
    id = text(v.get("request_id")) or text(v.get("response_id")) or content_hash(v)[:16]
    started, took = time_of(v.get("request_created_at")), number(parsed(v.get("delay_ms", v.get("latency"))))
    stopped = time_of(v.get("response_created_at")) if took is None else (started or 0) + (nanoseconds(took / 1000) or 0)
    status = integer(parsed(v.get("response_status")))
    asked, said = parsed(v.get("request_body")), v.get("response_body")
    failed = status is not None and (status < 0 or status >= 400)
    session = text(properties.get("Helicone-Session-Id"))
    attributes = {
        "helicone.request": asked,
        "helicone.response": said,
        "helicone.properties": properties or None,
        "session.id": session,
        "user.id": text(v.get("request_user_id")),
        **{f"helicone.{name}": parsed(v[name]) for name in _FIGURES if v.get(name) not in (None, "")},
    }
    return TraceSpan(
        trace=id,
        id=id,
        name=text(properties.get("Helicone-Session-Path")) or text(v.get("request_path")) or "",
        start=started,
        end=stopped if started is not None else None,
        attributes={k: a for k, a in attributes.items() if a is not None},
        failed=failed,
        error=_error(said, status) if failed else None,
        scope="helicone",
        more={k: a for k, a in without(v, *_HELD).items() if a not in (None, "", {}, [])},
    )


def _error(said: Any, status: int | None) -> str:
    """Why a request failed: what the provider said, or the status."""
    given = obj(said).get("error", obj(said).get("message"))
    told = given if isinstance(given, str) else text(obj(given).get("message")) or text(obj(given).get("heliconeMessage"))
    return told or f"status {status}"


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span is no request of Helicone."""
    if span.scope != "helicone":
        return None
    asked, said = span.get("helicone.request"), span.get("helicone.response")
    properties = obj(span.get("helicone.properties"))
    about: dict[str, Any] = {"user": span.get("user.id")} if span.get("user.id") else {}
    if name := text(properties.get("Helicone-Session-Name")):
        about["name"] = name
    used = ("helicone.request", "helicone.response", "helicone.scores", "session.id", "user.id")
    kind = obj(asked).get("_type")
    if kind == "tool":
        result = without(said, "_type") if isinstance(said, dict) else said
        fields = {"name": text(asked.get("toolName")) or span.name, "arguments": arguments(asked.get("input")), "result": result}
        return Meaning(kind="tool", fields={**fields, **ended(span)}, about=about, used=used)
    if kind in _OTHERS:
        data = without(said, "_type") if isinstance(said, dict) else said
        provider = text(asked.get("databaseName")) or str(asked.get("operation") or asked.get("name") or kind)
        read = {"provider": provider, "query": without(asked, "_type"), "data": data, **ended(span)}
        return Meaning(kind="read", fields=read, about=about, used=used)
    found = Meaning(kind="call", fields=_call(span, asked, said), about=about, used=used)
    found.rewards = _rewards(span)
    return found


def _rewards(span: TraceSpan) -> list[dict[str, Any]]:
    """Scores and the thumb of a request: of that request, and of no run."""
    given = dict(obj(span.get("helicone.scores")))
    if isinstance(thumb := span.get("helicone.feedback_rating"), bool):
        given.setdefault("feedback", thumb)
    values = {name: obj(one).get("value", one) for name, one in given.items()}
    numbers = {name: float(v) if isinstance(v, bool) else number(v) for name, v in values.items()}
    return [
        {"name": name, "source": "human" if name.endswith("feedback") else "function", "value": value}
        for name, value in numbers.items()
        if value is not None
    ]


def _call(span: TraceSpan, asked: Any, said: Any) -> dict[str, Any]:
    stated = text(span.get("helicone.response_model", "helicone.model", "helicone.request_model"))
    model = text(obj(said).get("model")) or stated
    if is_body(asked) or isinstance(obj(asked).get("prompt"), str):
        request: Any = asked
    else:
        request = {"messages": chat.messages(asked) if asked else [], **({"model": model} if model else {})}
    raw = dialect_of(said)
    if raw is None and said and not span.failed:
        listed = obj(said).get("choices", obj(said).get("messages", said))
        said = {"role": "assistant", "content": listed} if isinstance(listed, str) else chat.answer(chat.messages(listed))
    counts = usage_counts(obj(obj(said).get("usage")))
    read, written = (count(span.get(f"helicone.prompt_cache_{n}_tokens")) for n in ("read", "write"))
    prompt = count(span.get("helicone.prompt_tokens"))
    first = number(span.get("helicone.time_to_first_token"))
    return {
        "dialect": raw or "openai.chat",
        "request": request,
        "response": said or None,
        "model": model,
        "usage": obj(obj(said).get("usage")) or None,
        "prompt_tokens": counts[0] if counts[0] is not None else prompt_count(prompt, read, written),
        "completion_tokens": counts[1] if counts[1] is not None else count(span.get("helicone.completion_tokens")),
        "cost": price(span.get("helicone.costUSD", "helicone.cost")),
        "first_token": nanoseconds(first / 1000) if first else None,
        "status_code": integer(span.get("helicone.response_status")),
        **ended(span),
    }
