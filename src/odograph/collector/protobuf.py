"""OTLP in protobuf <-> the values of OTLP/JSON: ids as hex, 64-bit integers as numbers. Knows no span's meaning.

The messages are walked by hand: protobuf's own JSON writes ids in base64, and takes seven times as long.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import InvalidInput, MissingExtra

Value = dict[str, Any]


def decode(signal: str, body: bytes) -> Value:
    """The body of a request as OTLP/JSON has it. `signal`: traces or logs. Raises InvalidInput, MissingExtra."""
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError:
        raise MissingExtra("OTLP in protobuf", "collect") from None
    kind = ExportTraceServiceRequest if signal == "traces" else ExportLogsServiceRequest
    try:
        return plain(signal, kind.FromString(body))
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the body is no {signal} of OTLP in protobuf: {error}") from None


def plain(signal: str, message: Any) -> Value:
    """A request's message as OTLP/JSON has it."""
    if signal == "traces":
        return {"resourceSpans": [_resource(r, "scopeSpans", r.scope_spans, "spans", _span) for r in message.resource_spans]}
    return {"resourceLogs": [_resource(r, "scopeLogs", r.scope_logs, "logRecords", _log) for r in message.resource_logs]}


def _resource(one: Any, name: str, scopes: Iterable[Any], inside: str, of: Callable[[Any], Value]) -> Value:
    return {
        "resource": {"attributes": _attributes(one.resource.attributes)},
        name: [
            {
                "scope": {"name": s.scope.name, "version": s.scope.version or None},
                inside: [of(x) for x in (s.spans if inside == "spans" else s.log_records)],
            }
            for s in scopes
        ],
    }


def _span(span: Any) -> Value:
    return {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "parentSpanId": span.parent_span_id.hex(),
        "name": span.name,
        "startTimeUnixNano": span.start_time_unix_nano,
        "endTimeUnixNano": span.end_time_unix_nano,
        "attributes": _attributes(span.attributes),
        "events": [
            {"name": e.name, "timeUnixNano": e.time_unix_nano, "attributes": _attributes(e.attributes)} for e in span.events
        ],
        "status": {"code": span.status.code, "message": span.status.message},
        "droppedAttributesCount": span.dropped_attributes_count,
        "droppedEventsCount": span.dropped_events_count,
        "droppedLinksCount": span.dropped_links_count,
        "kind": span.kind,
        "flags": span.flags,
        "traceState": span.trace_state,
        "links": [
            {"traceId": x.trace_id.hex(), "spanId": x.span_id.hex(), "attributes": _attributes(x.attributes)} for x in span.links
        ],
    }


def _log(log: Any) -> Value:
    return {
        "traceId": log.trace_id.hex(),
        "spanId": log.span_id.hex(),
        "timeUnixNano": log.time_unix_nano,
        "observedTimeUnixNano": log.observed_time_unix_nano,
        "severityNumber": log.severity_number,
        "eventName": getattr(log, "event_name", ""),
        "attributes": _attributes(log.attributes),
        "body": _value(log.body),
    }


def _attributes(many: Any) -> list[Value]:
    return [{"key": one.key, "value": _value(one.value)} for one in many]


def _value(value: Any) -> Value | None:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return {"stringValue": value.string_value}
    if kind == "int_value":
        return {"intValue": value.int_value}
    if kind == "double_value":
        return {"doubleValue": value.double_value}
    if kind == "bool_value":
        return {"boolValue": value.bool_value}
    if kind == "array_value":
        return {"arrayValue": {"values": [_value(one) for one in value.array_value.values]}}
    if kind == "kvlist_value":
        return {"kvlistValue": {"values": _attributes(value.kvlist_value.values)}}
    if kind == "bytes_value":
        return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
    return None


def answer(rejected: int, why: str) -> bytes:
    """The answer to a request that was taken, in protobuf: empty, or what of it was rejected."""
    if not rejected:
        return b""
    inside = b"\x08" + _varint(rejected) + _text(2, why)
    return b"\x0a" + _varint(len(inside)) + inside


def status(why: str) -> bytes:
    """`google.rpc.Status` with a message: the answer to a request that was refused."""
    return _text(2, why)


def _text(field: int, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
