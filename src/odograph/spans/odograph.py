"""The spans that `export(to="otel")` writes: one for each record, GenAI's names for what these have, `odograph.*` for the rest.

A span says which record it is (`odograph.kind`), where the record stands (`odograph.order`, `odograph.parent`,
`odograph.agent`, `odograph.step`) and when the record was made (`odograph.time`). A field that GenAI has no name for is
`odograph.FIELD`, or `odograph.json.FIELD` where the value is neither text nor number. References to records are the ids of spans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ..codec import encode, record_from_dict
from ..errors import InvalidInput
from ..shape import dicts, integer, obj, parsed, text
from ..types import KINDS, AnyRecord
from . import chat, genai
from .span import TraceSpan

#: The instrumentation scope of these spans.
SCOPE = "odograph"
OWN, OWN_JSON = "odograph.", "odograph.json."
END = "end."
#: The kind of a span around what another agent does: no record.
AGENT = "agent"
#: Fields of records that name another record.
REFERENCES = ("llm_call", "target", "base")
#: Where a record stands, which is said apart from its fields.
PLACE = ("kind", "id", "trajectory", "seq", "time", "writer", "parent", "agent", "step", "source_time", "supersedes")
#: Parameters of a request that GenAI has a name for, each as its place in a request of OpenAI's chat.
PARAMS = {wire: f"gen_ai.request.{name}" for name, wire in genai.PARAMS.items()}


def attributes(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields as attributes: text and numbers as they are, all else as JSON."""
    out: dict[str, Any] = {}
    for name, value in fields.items():
        if is_plain(value):
            out[OWN + prefix + name] = value
        elif value is not None:
            out[OWN_JSON + prefix + name] = encode(value).decode()
    return out


def is_plain(value: Any) -> bool:
    """Whether a value is one of an attribute as it is."""
    match value:
        case bool():
            return True
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:  # half a character
                return False
            return True
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case _:
            return False


def is_own(span: TraceSpan) -> bool:
    return span.scope == SCOPE and (span.get(OWN + "kind") in KINDS or span.get(OWN + "kind") == AGENT)


def write(spans: Iterable[TraceSpan], into: Any, source: dict[str, Any]) -> None:
    """The records that spans of ours are of, in the order in which they were recorded. `into`: `assembling.Sink`."""

    def id_of(span: TraceSpan, of: Any) -> str | None:
        return into.id_of("span", span.trace, of) if isinstance(of, str) else None

    latest = {(s.trace, s.id): s for s in spans if s.get(OWN + "kind") != AGENT}
    ends: list[tuple[TraceSpan, AnyRecord]] = []
    for span in sorted(latest.values(), key=lambda s: (integer(s.get(OWN + "order")) or 0, s.start or 0, s.id)):
        kind = str(span.get(OWN + "kind"))
        fields = _fields(span)
        fields |= _HELD[kind](span, fields) if kind in _HELD else {}
        for name in REFERENCES:
            if name in fields:
                fields[name] = id_of(span, fields[name])
        if kind == "edit":
            for run in dicts(fields.get("result")):
                run |= {"call": id_of(span, run["call"])} if "call" in run else {}
        if kind == "start":
            given = obj(fields.get("metadata"))
            told = {**source, "trajectory": span.get("gen_ai.conversation.id"), "traces": [span.trace]}
            told |= {"source": given["source"]} if "source" in given else {}
            fields["metadata"] = {**given, "source": told}
        try:
            record = _record(span, kind, fields, integer(span.get(OWN + "time")))
            ended = _record(span, "end", _answer(span) | _fields(span, END), integer(span.get(OWN + END + "time")))
        except InvalidInput as error:
            into.warn(f"a span of Odograph that can't be understood: {str(error)[:100]}")
            continue
        place = {"parent": id_of(span, span.get(OWN + "parent")), "step": integer(span.get(OWN + "step"))}
        agent = text(span.get("gen_ai.agent.name")) if kind == "start" else text(span.get(OWN + "agent"))
        into.add(msgspec.structs.replace(record, agent=agent, **place), "span", span.trace, span.id)
        if kind == "start" and span.get(OWN + END + "status") is not None:
            ends.append((span, ended))
    for span, ended in ends:
        into.add(ended, "end", span.trace, span.id)


def _record(span: TraceSpan, kind: str, fields: dict[str, Any], when: int | None) -> Any:
    extra = fields.pop("extra", None)
    told = {"trace": span.trace, "id": span.id, "record": span.get(OWN + "id")}
    return record_from_dict({"kind": kind, **fields, "extra": {**obj(extra), "span": told}, "source_time": when})


def _fields(span: TraceSpan, prefix: str = "") -> dict[str, Any]:
    """The fields that stand in attributes of ours."""
    out: dict[str, Any] = {}
    known = KINDS["end" if prefix else str(span.get(OWN + "kind"))].__struct_fields__
    for name in known:
        if name in PLACE:
            continue
        if (value := span.get(OWN + prefix + name)) is not None:
            out[name] = value
        elif isinstance(value := span.get(OWN_JSON + prefix + name), str):
            out[name] = parsed(value)
    return out


def _start(span: TraceSpan, fields: dict[str, Any]) -> dict[str, Any]:
    asked = chat.messages(span.json("gen_ai.input.messages"))
    told = {"agent_version": text(span.get("gen_ai.agent.version")), "model": text(span.get("gen_ai.request.model"))}
    if "task" not in fields and asked:
        told["task"] = asked[0].get("content")
    return told


def _answer(span: TraceSpan) -> dict[str, Any]:
    said = chat.messages(span.json("gen_ai.output.messages"))
    return {"answer": said[0].get("content")} if said else {}


def _call(span: TraceSpan, fields: dict[str, Any]) -> dict[str, Any]:
    found = genai.call_fields(span)
    request = found["request"]
    if isinstance(tools := request.get("tools"), list):
        request["tools"] = [_nested(tool) for tool in tools]
    if isinstance(params := span.get(OWN_JSON + "params"), str):
        request |= obj(parsed(params))
    kept = ("model", "finish_reason", "prompt_tokens", "completion_tokens", "reasoning")
    out = {name: found[name] for name in kept if found[name] is not None}
    out |= {"request": request, "dialect": found["dialect"], "origin": "transcript"}
    if "response" not in fields and found["response"] is not None:
        out["response"] = found["response"]
    extra = {**obj(fields.get("extra")), **({"cut": found["extra"]["cut"]} if "extra" in found else {})}
    return out | ({"extra": extra} if extra else {})


def _nested(tool: Any) -> Any:
    """A tool of GenAI's shape in OpenAI's."""
    if obj(tool).get("type") != "function" or "function" in tool:
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _action(span: TraceSpan, fields: dict[str, Any]) -> dict[str, Any]:
    given = span.get("gen_ai.tool.call.arguments")
    out = {"name": span.get("gen_ai.tool.name"), "tool_call_id": span.get("gen_ai.tool.call.id")}
    if isinstance(given, str):
        out["arguments"] = parsed(given)
    if "result" not in fields and isinstance(span.get("gen_ai.tool.call.result"), str):
        result = span.get("gen_ai.tool.call.result")
        out["result"] = parsed(result) if span.get(OWN + "result_is_json") is True else result
    return {name: value for name, value in out.items() if value is not None}


def _context(span: TraceSpan, fields: dict[str, Any]) -> dict[str, Any]:
    query = span.get("gen_ai.retrieval.query.text")
    told = {"provider": text(span.get("gen_ai.data_source.id")) or ""}
    return told | ({} if "query" in fields or query is None else {"query": query})


def _reward(span: TraceSpan, fields: dict[str, Any]) -> dict[str, Any]:
    out = {
        "name": text(span.get("gen_ai.evaluation.name")) or "reward",
        "rationale": text(span.get("gen_ai.evaluation.explanation")),
    }
    value = span.get("gen_ai.evaluation.score.value")
    return out | ({} if "value" in fields or value is None else {"value": value})


_HELD: dict[str, Callable[[TraceSpan, dict[str, Any]], dict[str, Any]]] = {
    "start": _start,
    "llm_call": _call,
    "action": _action,
    "context": _context,
    "reward": _reward,
}
