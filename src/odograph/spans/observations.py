"""Traces and observations of Langfuse, as its API, its exports and its tables have them -> `TraceSpan`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..codec import content_hash
from ..shape import dicts, number, obj, parsed, text, without
from .common import time_of
from .span import TraceSpan


def of_trace(value: dict[str, Any]) -> Iterator[TraceSpan]:
    """A trace and its observations, as Langfuse's API and export give them."""
    trace = value["trace"] if isinstance(value.get("trace"), dict) else value
    about = {
        "langfuse.session.id": trace.get("sessionId"),
        "langfuse.user.id": trace.get("userId"),
        "langfuse.trace.tags": trace.get("tags") or None,
    }
    metadata = parsed(trace.get("metadata"))
    resource = obj(obj(metadata).get("resourceAttributes"))
    observations = dicts(value["observations"])
    ids = {text(o.get("id")) for o in observations}
    first = next((o for o in observations if (above := text(o.get("parentObservationId"))) is None or above not in ids), None)
    scores = dicts(trace.get("scores"))
    for one in observations:
        own = [s for s in scores if s.get("observationId") == one.get("id") or (one is first and not s.get("observationId"))]
        more = {"langfuse.scores": own or None, **about}
        if one is first:
            more |= {
                "langfuse.trace.input": parsed(parsed(trace.get("input"))),
                "langfuse.trace.output": parsed(parsed(trace.get("output"))),
            }
        given = one if one.get("traceId") else {**one, "traceId": trace.get("id")}
        yield of_observation(given, more, resource)


#: What the columns of Langfuse's tables are called in its API.
_COLUMNS = {
    "trace_id": "traceId", "parent_observation_id": "parentObservationId", "start_time": "startTime", "end_time": "endTime",
    "status_message": "statusMessage", "provided_model_name": "model", "providedModelName": "model", "user_id": "userId",
    "model_parameters": "modelParameters", "usage_details": "usageDetails", "cost_details": "costDetails",
    "total_cost": "totalCost", "completion_start_time": "completionStartTime", "session_id": "sessionId",
}  # fmt: skip


def is_observation(v: dict[str, Any]) -> bool:
    """Whether a value is an observation of Langfuse: of its API, or a row of its tables, as they are exported to a bucket."""
    is_row = ("traceId" in v and "startTime" in v and "parentObservationId" in v) or (
        "trace_id" in v and "start_time" in v and "parent_observation_id" in v
    )
    return is_row and isinstance(v.get("type"), str)


def of_observation(row: dict[str, Any], about: dict[str, Any] | None = None, resource: dict[str, Any] | None = None) -> TraceSpan:
    """An observation of Langfuse. `about`: what its trace says, where that is known; else the row may say it."""
    one = {_COLUMNS.get(name, name): value for name, value in row.items() if value is not None}
    one |= {n: parsed(one[n]) for n in ("modelParameters", "usageDetails", "usage", "costDetails", "tags") if n in one}
    if about is None:
        about = {
            "langfuse.session.id": one.get("sessionId"),
            "langfuse.user.id": one.get("userId"),
            "langfuse.trace.tags": one.get("tags") or None,
        }
    cost = number(parsed(one.get("totalCost", one.get("calculatedTotalCost"))))
    attributes: dict[str, Any] = {
        "langfuse.observation.type": str(one.get("type") or "SPAN").lower(),
        "langfuse.observation.input": parsed(one.get("input")),
        "langfuse.observation.output": parsed(one.get("output")),
        "langfuse.observation.model.name": one.get("model"),
        "langfuse.observation.model.parameters": one.get("modelParameters") or None,
        "langfuse.observation.usage_details": one.get("usageDetails") or one.get("usage") or None,
        "langfuse.observation.cost_details": {"total": cost} if cost else one.get("costDetails") or None,
        "langfuse.observation.completion_start_time": one.get("completionStartTime"),
        **about,
    }
    times = ("startTime", "endTime")
    more = without(
        one, "id", "traceId", "parentObservationId", "type", "name", "input", "output", "model", "usageDetails", "usage", *times
    )
    failed = one.get("level") == "ERROR"
    return TraceSpan(
        trace=str(one.get("traceId") or ""),
        id=str(one.get("id") or content_hash(one)[:16]),
        parent=text(one.get("parentObservationId")),
        name=text(one.get("name")) or "",
        start=time_of(one.get("startTime")),
        end=time_of(one.get("endTime")),
        attributes={k: a for k, a in attributes.items() if a is not None},
        failed=failed,
        error=text(one.get("statusMessage")) if failed else None,
        resource=resource or {},
        scope="langfuse",
        more={k: v for k, v in more.items() if v not in (None, "", {}, [], "{}")},
    )
