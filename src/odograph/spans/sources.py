"""Spans as tools write them to files and answer them from APIs -> `TraceSpan`: OTLP/JSON, JavaScript's span objects, Phoenix,
Logfire, Langfuse, LangSmith, MLflow, Weave, Helicone, the OpenAI Agents SDK.

`spans_of(value)` reads any of them. OTLP's protobuf is decoded elsewhere, into the same value.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import msgspec

from ..codec import content_hash
from ..plain import tagged
from ..shape import dicts, integer, items, obj, parsed, text, without
from . import helicone, weave
from .common import time_of
from .observations import is_observation, of_observation, of_trace
from .span import Event, TraceSpan


def spans_of(value: Any) -> Iterator[TraceSpan]:
    """The spans in a parsed JSON value of any shape known here; nothing of a value in another shape."""
    if isinstance(value, list):
        for one in value:
            yield from spans_of(one)
        return
    if not isinstance(value, dict):
        return
    if isinstance(value.get("resourceSpans"), list) or isinstance(value.get("resourceLogs"), list):
        yield from of_otlp(value)
    elif any("scopeSpans" in b or "instrumentationLibrarySpans" in b for b in dicts(value.get("batches"))):  # Tempo's
        yield from of_otlp({"resourceSpans": value["batches"]})
    elif isinstance(obj(value.get("trace")).get("resourceSpans"), list):
        yield from of_otlp(value["trace"])
    elif isinstance(value.get("observations"), list):
        yield from of_trace(value)
    elif "rows" in value and isinstance(value["rows"], list):
        yield from spans_of(value["rows"])
    elif (columns := dicts(value.get("columns"))) and all(isinstance(c.get("values"), list) for c in columns):  # Logfire's, too
        names = [str(c.get("name")) for c in columns]
        yield from spans_of([dict(zip(names, row, strict=True)) for row in zip(*(c["values"] for c in columns), strict=False)])
    elif isinstance(value.get("post"), list) or isinstance(value.get("patch"), list):
        yield from _of_runs([*dicts(value.get("post")), *dicts(value.get("patch"))])
    elif isinstance(value.get("info"), dict) and isinstance(obj(value.get("data")).get("spans"), list):
        yield from _of_mlflow(value["info"], value["data"]["spans"])
    elif isinstance(whole := parsed(value.get("trace")), dict) and "info" in whole and "data" in whole:  # a row of MLflow's table
        yield from spans_of(whole)
    elif isinstance(many := value.get("spans", value.get("calls")), list) and not is_span(value):
        yield from spans_of(many)
    elif isinstance(value.get("data"), list) and not is_span(value):  # a page of an API's answer
        yield from spans_of(value["data"])
    elif is_span(value):
        yield _one(value)


def is_span(value: Any) -> bool:
    """Whether a value is one span, in a shape known here."""
    v = obj(value)
    if v.get("run_type") is not None and ("trace_id" in v or "dotted_order" in v):
        return True
    if is_observation(v) or weave.is_call(v) or helicone.is_row(v) or ("context.span_id" in v and "context.trace_id" in v):
        return True
    if isinstance(v.get("span_data"), dict) and "trace_id" in v:
        return True
    if not isinstance(parsed(v.get("attributes")), (dict, list)) or v.get("kind") == "span_event":
        return False  # of Logfire, a span's event is in the span's row, too
    return (
        isinstance(v.get("spanContext"), dict)
        or ("spanId" in v and "traceId" in v)
        or (isinstance(v.get("context"), dict) and "span_id" in v["context"])
        or ("span_id" in v and "trace_id" in v)
        or ("hrTime" in v and isinstance(v.get("attributes"), dict))
    )


def _one(v: dict[str, Any]) -> TraceSpan:
    if v.get("run_type") is not None:
        return _of_run(v)
    if isinstance(v.get("span_data"), dict):
        return _of_agents(v)
    if isinstance(v.get("spanContext"), dict) or "hrTime" in v:
        return _of_javascript(v)
    if is_observation(v):
        return of_observation(v)
    if weave.is_call(v):
        return weave.of_call(v)
    if helicone.is_row(v):
        return helicone.of_row(v)
    if "spanId" in v:
        return _of_otlp(v, {}, {})
    return _of_columns(v)


# --- OTLP ----------------------------------------------------------------------------------------------------------


def of_otlp(value: dict[str, Any]) -> Iterator[TraceSpan]:
    """The spans and log records of an OTLP/JSON body. Ids in base64, as protobuf's own JSON has them, become hex."""
    for resource in dicts(value.get("resourceSpans")):
        about = values(obj(resource.get("resource")).get("attributes"))
        for scope in dicts(resource.get("scopeSpans", resource.get("instrumentationLibrarySpans"))):
            library = obj(scope.get("scope", scope.get("instrumentationLibrary")))
            yield from (_of_otlp(span, about, library) for span in dicts(scope.get("spans")))
    for resource in dicts(value.get("resourceLogs")):
        about = values(obj(resource.get("resource")).get("attributes"))
        for scope in dicts(resource.get("scopeLogs")):
            library = obj(scope.get("scope"))
            yield from (_of_log(log, about, library) for log in dicts(scope.get("logRecords")))


def values(attributes: Any) -> dict[str, Any]:
    """OTLP's list of keys and values as an object; what is an object already, as it is."""
    if isinstance(attributes, dict):
        return attributes
    return {str(one["key"]): any_value(one.get("value")) for one in dicts(attributes) if one.get("key") is not None}


def any_value(value: Any) -> Any:
    """OTLP's typed value: 64-bit integers may be texts."""
    v = obj(value)
    for name in ("stringValue", "boolValue", "doubleValue"):
        if name in v:
            return v[name]
    if "intValue" in v:
        try:
            return int(v["intValue"])
        except (ValueError, TypeError):
            return v["intValue"]
    if "arrayValue" in v:
        return [any_value(one) for one in items(obj(v["arrayValue"]).get("values"))]
    if "kvlistValue" in v:
        return values(obj(v["kvlistValue"]).get("values"))
    data = v.get("bytesValue")
    return tagged("bytes", data) if isinstance(data, str) else None


def _id(value: Any, size: int) -> str:
    """An id in hex: one of `size` bytes that is written in base64 is decoded."""
    if not isinstance(value, str):
        return ""
    if len(value) != 2 * size and value.endswith("="):
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return value
        if len(raw) == size:
            return raw.hex()
    return value.lower() if len(value) == 2 * size else value


def _failed(status: Any) -> tuple[bool, str | None]:
    s = obj(status)
    code = s.get("code", s.get("status_code", status if isinstance(status, str) else None))
    return code in (2, "STATUS_CODE_ERROR", "ERROR", "Error"), text(s.get("message", s.get("description")))


#: What a span has beside: kept as it is.
_MORE = ("kind", "traceState", "flags", "droppedAttributesCount", "droppedEventsCount", "droppedLinksCount")


def _of_otlp(span: dict[str, Any], resource: dict[str, Any], library: dict[str, Any]) -> TraceSpan:
    failed, error = _failed(span.get("status"))
    more = {name: value for name in _MORE if (value := span.get(name))}
    if links := dicts(span.get("links")):
        more["links"] = [{**link, "attributes": values(link.get("attributes"))} for link in links]
    return TraceSpan(
        trace=_id(span.get("traceId"), 16),
        id=_id(span.get("spanId"), 8) or content_hash(span)[:16],
        parent=_id(span.get("parentSpanId"), 8) or None,
        name=text(span.get("name")) or "",
        start=time_of(span.get("startTimeUnixNano")),
        end=time_of(span.get("endTimeUnixNano")),
        attributes=flat(values(span.get("attributes"))),
        events=[
            Event(name=text(e.get("name")) or "", time=time_of(e.get("timeUnixNano")), attributes=values(e.get("attributes")))
            for e in dicts(span.get("events"))
        ],
        failed=failed,
        error=error,
        resource=resource,
        scope=text(library.get("name")) or "",
        scope_version=text(library.get("version")),
        more=more,
    )


def _of_log(log: dict[str, Any], resource: dict[str, Any], library: dict[str, Any]) -> TraceSpan:
    when = time_of(log.get("timeUnixNano")) or time_of(log.get("observedTimeUnixNano"))
    attributes = flat(values(log.get("attributes")))
    body = any_value(log.get("body"))
    if isinstance(body, dict):  # GenAI's events had their content in the body
        attributes = {**body, **attributes}
    name = (
        text(log.get("eventName"))
        or text(attributes.get("event.name"))
        or (body if isinstance(body, str) and len(body) < 80 else "")
    )
    severity = integer(log.get("severityNumber")) or 0
    return TraceSpan(
        trace=_id(log.get("traceId"), 16),
        id=content_hash([when, attributes, body])[:16],
        parent=_id(log.get("spanId"), 8) or None,
        name=name,
        start=when,
        end=when,
        attributes={"event.name": name, **attributes} if name else attributes,
        failed=severity >= 17,
        resource=resource,
        scope=text(library.get("name")) or "",
        log=True,
        more={"body": body} if isinstance(body, str) else {},
    )


def flat(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes by dotted names: Phoenix keeps `{"llm": {"model_name": ...}}`. Values of names that hold JSON stay as they
    are."""
    if not any(
        isinstance(attributes.get(name), dict)
        for name in ("llm", "input", "output", "openinference", "tool", "gen_ai", "session")
    ):
        return attributes
    out: dict[str, Any] = {}
    _flatten(attributes, "", out, 0)
    return out


_WHOLE = ("value", "json_schema", "parameters", "invocation_parameters", "metadata", "arguments", "document.metadata")


def _flatten(value: Any, name: str, out: dict[str, Any], depth: int) -> None:
    if depth < 24 and isinstance(value, dict) and value and name.rpartition(".")[2] not in _WHOLE:
        for key, inner in value.items():
            _flatten(inner, f"{name}.{key}" if name else str(key), out, depth + 1)
    elif depth < 24 and isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for number, inner in enumerate(value):
            _flatten(inner, f"{name}.{number}", out, depth + 1)
    else:
        out[name] = value


# --- objects of SDKs and rows of tools -----------------------------------------------------------------------------


def _of_javascript(v: dict[str, Any]) -> TraceSpan:
    """A span or a log record as JavaScript's SDK prints it."""
    context = obj(v.get("spanContext"))
    resource = obj(obj(v.get("resource")).get("attributes"))
    library = obj(v.get("instrumentationScope", v.get("instrumentationLibrary")))
    if "hrTime" in v:
        attributes = obj(v.get("attributes"))
        when = time_of(v.get("hrTime"))
        name = text(attributes.get("event.name")) or text(v.get("eventName")) or ""
        return TraceSpan(
            trace=text(context.get("traceId")) or "",
            id=content_hash([when, attributes, v.get("body", v.get("_body"))])[:16],
            parent=text(context.get("spanId")),
            name=name,
            start=when,
            end=when,
            attributes=attributes,
            resource=resource,
            scope=text(library.get("name")) or "",
            log=True,
            more={"body": body} if isinstance(body := v.get("body", v.get("_body")), str) else {},
        )
    failed, error = _failed(v.get("status"))
    parent = obj(v.get("parentSpanContext"))
    return TraceSpan(
        trace=text(context.get("traceId")) or text(v.get("traceId")) or "",
        id=text(context.get("spanId")) or text(v.get("id")) or content_hash(v)[:16],
        parent=text(v.get("parentSpanId")) or text(v.get("parentId")) or text(parent.get("spanId")),
        name=text(v.get("name")) or "",
        start=time_of(v.get("startTime")),
        end=time_of(v.get("endTime")),
        attributes=flat(obj(v.get("attributes"))),
        events=[
            Event(name=text(e.get("name")) or "", time=time_of(e.get("time")), attributes=obj(e.get("attributes")))
            for e in dicts(v.get("events"))
        ],
        failed=failed,
        error=error,
        resource=resource,
        scope=text(library.get("name")) or "",
        scope_version=text(library.get("version")),
    )


def _of_columns(v: dict[str, Any]) -> TraceSpan:
    """A span of Phoenix (in a table, each part has a column), a row of Logfire (where a table has JSON as text), or a span of
    Python's SDK (`to_json`)."""
    context = obj(v.get("context")) or {n: v.get(f"context.{n}") for n in ("trace_id", "span_id")}
    body, tags = parsed(v.get("log_body")), items(parsed(v.get("tags")))
    attributes = flat({**obj(body), **obj(parsed(v.get("attributes"))), **({"logfire.tags": tags} if tags else {})})
    if "context.span_id" in v:
        attributes = {**attributes}
        for name, column in v.items():
            if name.startswith("attributes.") and column is not None:
                _flatten(column, name.removeprefix("attributes."), attributes, 0)
    kind = v.get("span_kind")
    if isinstance(kind, str) and kind.isupper() and "openinference.span.kind" not in attributes and "start_time" in v:
        attributes = {"openinference.span.kind": kind, **attributes}
    failed, error = _failed(v.get("status", v.get("status_code", v.get("otel_status_code"))))
    error = error or text(v.get("status_message")) or text(v.get("otel_status_message"))
    if v.get("is_exception") in (True, "true"):
        failed, error = True, error or text(v.get("exception_stacktrace")) or text(v.get("exception_message"))
    resource = obj(obj(v.get("resource")).get("attributes")) or obj(parsed(v.get("otel_resource_attributes")))
    if not resource and text(v.get("service_name")):
        resource = {"service.name": v["service_name"]}
    events = parsed(v.get("events", v.get("otel_events")))
    return TraceSpan(
        trace=_hex(context.get("trace_id") or v.get("trace_id")),
        id=_hex(context.get("span_id") or v.get("span_id")) or content_hash(v)[:16],
        parent=_hex(v.get("parent_id", v.get("parent_span_id"))) or None,
        name=text(v.get("span_name")) or text(v.get("name")) or text(v.get("message")) or "",
        start=time_of(next((v[n] for n in ("start_time", "start_timestamp", "start_time_unix_nano") if n in v), None)),
        end=time_of(next((v[n] for n in ("end_time", "end_timestamp", "end_time_unix_nano") if n in v), None)),
        attributes=attributes,
        events=[
            Event(
                name=text(e.get("name", e.get("event_name"))) or "",
                time=time_of(e.get("timestamp", e.get("time", e.get("event_timestamp")))),
                attributes=obj(e.get("attributes")),
            )
            for e in dicts(events)
        ],
        failed=failed,
        error=error if failed else None,
        resource=resource,
        scope=text(v.get("otel_scope_name")) or "",
        scope_version=text(v.get("otel_scope_version")),
        log=v.get("kind") in ("log", "event"),
        more={"body": body} if isinstance(body, str) else {},
    )


def _hex(value: Any) -> str:
    return value.removeprefix("0x") if isinstance(value, str) else ""


def _of_agents(v: dict[str, Any]) -> TraceSpan:
    """A span of the OpenAI Agents SDK's own export."""
    error = obj(v.get("error"))
    return TraceSpan(
        trace=text(v.get("trace_id")) or "",
        id=text(v.get("id")) or text(v.get("span_id")) or content_hash(v)[:16],
        parent=text(v.get("parent_id")),
        name=str(obj(v["span_data"]).get("name") or obj(v["span_data"]).get("type") or ""),
        start=time_of(v.get("started_at")),
        end=time_of(v.get("ended_at")),
        attributes={"span_data": v["span_data"], **({"session.id": v["group_id"]} if v.get("group_id") else {})},
        failed=bool(error),
        error=text(error.get("message")),
        scope="openai-agents",
    )


# --- LangSmith -----------------------------------------------------------------------------------------------------


def _of_runs(operations: list[dict[str, Any]]) -> Iterator[TraceSpan]:
    """Creates and updates of runs, merged by id."""
    runs: dict[str, dict[str, Any]] = {}
    for run in operations:
        id = str(run.get("id"))
        given = {k: v for k, v in run.items() if v is not None}
        before = runs.get(id, {})
        merged = {k: {**before[k], **v} for k, v in given.items() if isinstance(v, dict) and isinstance(before.get(k), dict)}
        runs[id] = {**before, **given, **merged}
    yield from (_of_run(run) for run in runs.values())


def runs_of(values: list[Any]) -> Iterator[TraceSpan]:
    """Lines of run operations: creates, and updates of the same ids."""
    yield from _of_runs(dicts(values))


def _of_run(v: dict[str, Any]) -> TraceSpan:
    extra = obj(parsed(v.get("extra")))
    metadata = obj(extra.get("metadata"))
    attributes: dict[str, Any] = {
        "langsmith.span.kind": v.get("run_type") or "chain",
        "langsmith.inputs": v.get("inputs"),
        "langsmith.outputs": v.get("outputs"),
        "langsmith.span.tags": v.get("tags"),
        "langsmith.feedback": v.get("feedback_stats") or None,
        "langsmith.totals": {k: v[k] for k in ("prompt_tokens", "completion_tokens", "total_cost") if v.get(k) is not None}
        or None,
        "langsmith.invocation_params": extra.get("invocation_params"),
        **{f"langsmith.metadata.{k}": value for k, value in metadata.items()},
    }
    more = without(
        v,
        "id",
        "trace_id",
        "parent_run_id",
        "name",
        "start_time",
        "end_time",
        "inputs",
        "outputs",
        "tags",
        "run_type",
        "extra",
        "error",
        "feedback_stats",
    )
    error = text(v.get("error"))
    return TraceSpan(
        trace=str(v.get("trace_id") or v.get("id") or ""),
        id=str(v.get("id") or content_hash(v)[:16]),
        parent=text(v.get("parent_run_id")),
        name=text(v.get("name")) or "",
        start=time_of(v.get("start_time")),
        end=time_of(v.get("end_time")),
        attributes={k: a for k, a in attributes.items() if a is not None},
        failed=error is not None,
        error=error,
        scope="langsmith",
        more=more,
    )


# --- MLflow --------------------------------------------------------------------------------------------------------


def _of_mlflow(info: dict[str, Any], found: list[Any]) -> Iterator[TraceSpan]:
    """The spans of a trace. Its session, user, tags and assessments stand on the span that no other holds; ids are in base64."""
    about = {**obj(info.get("request_metadata")), **obj(info.get("trace_metadata"))}
    named = {"session.id": text(about.get("mlflow.trace.session")), "user.id": text(about.get("mlflow.trace.user"))}
    tags = {k: v for k, v in obj(info.get("tags")).items() if not k.startswith("mlflow.")}
    ids = {span.get("span_id", obj(span.get("context")).get("span_id")) for span in dicts(found)}
    for one in map(_of_columns, dicts(found)):
        more: dict[str, Any] = {k: v for k, v in named.items() if v}
        if one.parent is None or one.parent not in ids:
            more |= {k: v for k, v in (("mlflow.tags", tags), ("mlflow.assessments", info.get("assessments"))) if v}
        yield msgspec.structs.replace(
            one,
            trace=_id(one.trace, 16),
            id=_id(one.id, 8),
            parent=_id(one.parent, 8) or None,
            attributes={**one.attributes, **more},
            scope=one.scope or "mlflow",
        )
