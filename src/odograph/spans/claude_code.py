"""Claude Code's own telemetry: log events (`claude_code.api_request`, ...) and, in its beta, spans
(`claude_code.llm_request`, ...).

A request is told by up to three events, its body, the answer's body and the figures; `joined` makes them one. Bodies are cut by
the program beyond about 60,000 characters, which a call says in `extra.cut`. Numbers of events are texts.

Source: https://code.claude.com/docs/en/monitoring-usage.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from ..codec import loads
from ..errors import InvalidInput
from ..shape import arguments, dicts, obj, text
from .common import count, price
from .span import Meaning, TraceSpan

_PREFIX = "claude_code."
_DEEPEST = 50  # spans around a span
_HIDDEN = "<REDACTED>"  # stands for the user's prompt, unless the user asks for it (OTEL_LOG_USER_PROMPTS)


def name_of(span: TraceSpan) -> str | None:
    """The event's or span's own name, without the program's; None of other programs' spans."""
    named = text(span.get("event.name")) if span.log else None
    for name in (named, span.name, span.more.get("body")):
        if isinstance(name, str) and name.startswith(_PREFIX):
            return name.removeprefix(_PREFIX)
    return (
        named
        if named is not None and (span.scope.startswith("com.anthropic.claude_code") or span.get("event.sequence") is not None)
        else None
    )


def joined(spans: list[TraceSpan]) -> list[TraceSpan]:
    """The spans of a session in order, in which the events of one request are one."""
    out: list[TraceSpan] = []
    bodies: dict[Any, TraceSpan] = {}
    requests = sum(name_of(s) == "llm_request" for s in spans if not s.log)
    told: list[TraceSpan] = []
    for span in spans:
        name = name_of(span)
        who = (str(span.get("query_source")), span.parent)  # agents of one kind at once: each is in its tool's span
        if name == "api_request_body":
            if who in bodies:  # an attempt that no answer followed
                told.append(bodies.pop(who))
            bodies[who] = msgspec.structs.replace(
                span,
                name=_PREFIX + "api_request",
                attributes={**span.attributes, "request_body": span.get("body"), "event.name": "api_request"},
            )
        elif name in ("api_response_body", "api_request", "api_error"):
            first = bodies.get(who)
            if first is None and name != "api_error":  # its figures and its answer come in either order
                lacks = "cost_usd" if name == "api_request" else "response_body"
                same = (t for t in reversed(told) if (str(t.get("query_source")), t.parent) == who and not t.failed)
                first = next((t for t in same if t.get(lacks) is None), None)
                if first is not None:
                    told.remove(first)
            merged = {**(first.attributes if first is not None else {}), **span.attributes, "event.name": "api_request"}
            if name == "api_response_body":
                merged["response_body"] = span.get("body")
            whole = msgspec.structs.replace(
                first if first is not None else span,
                name=_PREFIX + "api_request",
                attributes=merged,
                end=span.end,
                failed=name == "api_error",
                error=text(span.get("error")),
            )
            bodies.pop(who, None)
            told.append(whole)
        else:
            out.append(span)
    told += bodies.values()
    if requests and not any(t.get("request_body") or t.get("response_body") for t in told):
        told = []  # the spans of the same requests say as much
    elif requests:
        out = [s for s in out if s.log or name_of(s) != "llm_request"]
    return sorted(
        _named([*_tools_once(out), *told]),
        key=lambda s: (s.start or 0, s.get("event.sequence") if isinstance(s.get("event.sequence"), int) else 0),
    )


def _tools_once(spans: list[TraceSpan]) -> list[TraceSpan]:
    """The spans, in which a tool that has a span and an event is one."""
    events = {id: s for s in spans if s.log and name_of(s) == "tool_result" and (id := _tool_id(s)) is not None}
    told: set[str] = set()
    out: list[TraceSpan] = []
    for span in spans:
        id = _tool_id(span) if not span.log and name_of(span) == "tool" else None
        if id in events and id not in told:
            told.add(str(id))
            span = msgspec.structs.replace(span, attributes={**events[str(id)].attributes, **span.attributes})
        out.append(span)
    return [s for s in out if not (s.log and name_of(s) == "tool_result" and _tool_id(s) in told)]


def _tool_id(span: TraceSpan) -> str | None:
    return text(span.get("tool_use_id", "tool.use_id"))


def _named(spans: list[TraceSpan]) -> list[TraceSpan]:
    """The spans, in which those of a sub-agent have its name: its kind stands on the tool that started it, around them. Of agents
    of one kind, each but the first has a number."""
    there = {(s.trace, s.id): s for s in spans}
    kinds: Counter[str] = Counter()
    names: dict[tuple[str, str], str] = {}
    for span in sorted(spans, key=lambda s: s.start or 0):
        if not span.log and name_of(span) == "tool" and (kind := text(span.get("subagent_type"))) is not None:
            kinds[kind] += 1
            names[span.trace, span.id] = kind if kinds[kind] == 1 else f"{kind}-{kinds[kind]}"
    out: list[TraceSpan] = []
    for span in spans:
        above = there.get((span.trace, span.parent or ""))
        for _ in range(_DEEPEST):
            if above is None or (above.trace, above.id) in names:
                break
            above = there.get((above.trace, above.parent or ""))
        name = None if above is None else names.get((above.trace, above.id))
        out.append(span if name is None else msgspec.structs.replace(span, attributes={**span.attributes, "agent.name": name}))
    return out


def _who(span: TraceSpan) -> str:
    """The agent that acts: a sub-agent is named."""
    source = str(span.get("query_source"))
    return text(span.get("agent.name")) or (source.rpartition(":")[2] if source.startswith("agent:") else "") or "claude-code"


def meaning(span: TraceSpan) -> Meaning | None:
    """None where it is no telemetry of Claude Code."""
    name = name_of(span)
    if name is None:
        return None
    if name in ("api_request", "llm_request"):
        return Meaning(
            kind="call", fields=_call(span), agent=_who(span), used=("request_body", "response_body", "body", *_FIGURES)
        )
    if name in ("user_prompt", "interaction"):
        prompt = span.get("prompt", "user_prompt")
        prompt = None if prompt == _HIDDEN else prompt
        if not span.log:
            return Meaning(kind="holder", task=prompt, agent="claude-code")
        return Meaning(kind="note", fields={"name": name, "data": {"prompt": prompt}}, task=prompt, agent="claude-code")
    if name in ("tool_result", "tool"):
        return Meaning(kind="tool", fields=_tool(span), agent=_who(span), used=("tool_name", "tool_input", "tool_parameters"))
    if span.log:
        return Meaning(kind="note", fields={"name": name, "data": None}, agent="claude-code")
    return Meaning(kind="holder")


_FIGURES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "cost_usd", "duration_ms")


def _call(span: TraceSpan) -> dict[str, Any]:
    request, response = _body(span.get("request_body")), _body(span.get("response_body"))
    cut = [
        n for n in ("request_body", "response_body") if isinstance(span.get(n), str) and not isinstance(_body(span.get(n)), dict)
    ]
    counts = [count(span.get(n)) for n in ("input_tokens", "cache_read_tokens", "cache_creation_tokens")]
    known = [c for c in counts if c is not None]
    took = price(span.get("duration_ms"))
    fields: dict[str, Any] = {
        "dialect": "anthropic.messages",
        "request": request if isinstance(request, dict) else None if request is None else {"cut": request},
        "response": response,
        "model": text(span.get("model")),
        "prompt_tokens": sum(known) if known else None,
        "completion_tokens": count(span.get("output_tokens")),
        "cost": price(span.get("cost_usd")),
        "duration": round(took * 1e6) if took is not None and 0 <= took < 1e9 else None,
        "error": span.error if span.failed else None,
        "finish_reason": text(obj(response).get("stop_reason")),
    }
    source = str(span.get("query_source"))
    beside = next((purpose for purpose in ("title", "compact") if purpose in source), None)
    if beside is not None:
        fields["purpose"] = beside
    if fields["duration"] is not None and span.end is not None:
        fields["started"] = span.end - fields["duration"] if span.log else span.start
    thoughts = [
        b["thinking"] for b in dicts(obj(response).get("content")) if isinstance(b.get("thinking"), str) and b["thinking"]
    ]
    if thoughts:
        fields["reasoning"] = "\n\n".join(thoughts)
    if cut:
        fields["extra"] = {"cut": cut}
    return fields


def _body(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return loads(value)
    except InvalidInput:
        return value


def _tool(span: TraceSpan) -> dict[str, Any]:
    told = span.get("success")
    took = price(span.get("duration_ms"))
    output = next((e.attributes for e in span.events if e.name == "tool.output"), {})
    ok = told in (True, "true") if told is not None else False if span.failed else None
    given = span.json("tool_input", "tool_parameters")
    return {
        "name": text(span.get("tool_name", "tool.name")) or "",
        "arguments": arguments(given),
        "result": output.get("output", output.get("content", span.json("tool_output", "tool_response"))),
        "ok": ok,
        "error": span.get("error") if ok is False else None,
        "tool_call_id": _tool_id(span),
        "duration": round(took * 1e6) if took is not None and 0 <= took < 1e9 else None,
    }
