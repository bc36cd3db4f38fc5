"""Files of spans: OTLP/JSON, Phoenix and OpenInference, Logfire rows, Langfuse exports, LangSmith runs, MLflow traces, calls of
Weave, requests of Helicone, and logs of agents' own telemetry.

What a span means is told in `odograph.spans`; here is how a file is recognised and read. A file is one JSON value, JSON lines, or
values one after the other (Gemini CLI's log).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import spans
from ...codec import loads
from ...errors import InvalidInput
from ...spans.sources import runs_of
from ..peek import keys
from ..session import Lines, NotBegun, Session

NAME = "spans"


def recognise(path: Path, head: bytes) -> bool:
    """The first object is a body of OTLP, a span or a row of one of the tools, a trace of Langfuse, or a run of LangSmith."""
    root, found = keys(head)
    if not root:
        return False
    if found & {"resourceSpans", "resourceLogs"} or {"span_data", "trace_id"} <= found or {"hrTime", "attributes"} <= found:
        return True
    if {"runs.run_type", "runs.id"} <= found:  # a page of LangSmith's API
        return True
    if "run_type" in found:
        return bool(found & {"dotted_order", "trace_id"})
    if found & {"post.run_type", "post.dotted_order", "patch.dotted_order"}:
        return True
    if {"info.trace_id", "data.spans"} <= found or {"info.request_id", "data.spans"} <= found:  # MLflow
        return True
    if {"trace_id", "trace", "trace_metadata"} <= found:  # a row of MLflow's table
        return True
    if "trace.id" in found and found & {"trace.projectId", "trace.sessionId", "trace.userId"}:
        return True
    if "observations" in found and found & {"projectId", "sessionId", "userId"}:
        return True
    if found & {"batches.scopeSpans", "batches.instrumentationLibrarySpans", "trace.resourceSpans"}:  # Tempo
        return True
    if "data.attributes" in found and found & {"data.context", "data.spanId"}:  # a page of Phoenix's API
        return True
    if any({f"{of}op_name", f"{of}trace_id", f"{of}started_at"} <= found for of in ("", "calls.")):  # Weave
        return True
    rows = found | {name.removeprefix("data.") for name in found}
    if {"type", "id"} <= rows and (
        {"traceId", "startTime", "parentObservationId"} <= rows or {"trace_id", "start_time", "parent_observation_id"} <= rows
    ):
        return True  # observations of Langfuse
    if "request_created_at" in rows and rows & {"response_status", "request_body"}:
        return True  # requests of Helicone
    if {"context.span_id", "context.trace_id"} <= found and any(name.startswith("attributes.") for name in found):
        return True  # a table of Phoenix
    ids = ({"spanContext"}, {"context.span_id"}, {"span_id", "trace_id"}, {"spanId", "traceId"})
    if "attributes" in found and any(one <= found for one in ids):
        return True
    # Logfire's answers to a query, in rows and in columns
    return {"rows.attributes", "rows.trace_id", "rows.span_id"} <= found or {"columns.datatype", "columns.values"} <= found


def read(path: Path) -> Iterator[Session]:
    """A session per conversation, or per trace. Raises InvalidInput where no span is in the file."""
    problems: list[str] = []
    pages = _values(path, problems)
    values = [one for v in pages for one in (v["runs"] if isinstance(v, dict) and isinstance(v.get("runs"), list) else [v])]
    runs = [v for v in values if isinstance(v, dict) and ("run_type" in v or "dotted_order" in v) and "id" in v]
    found = list(runs_of(runs)) if runs else []
    found += spans.spans_of([v for v in values if v not in runs] if runs else values)
    groups = spans.groups(found)
    if not found:
        raise InvalidInput("; ".join(["no span in a shape that is known here", *problems]))
    if not groups:
        raise NotBegun("spans without a model's call, a tool or anything read")
    for key, group in groups:
        session = Session(NAME, *key)
        for problem in problems:
            session.warn(problem)
        problems = []
        spans.write(group, session, {"format": NAME, "path": path.name, key[0]: key[1]})
        yield session


def _values(path: Path, problems: list[str]) -> Iterator[Any]:
    with path.open("rb") as file:
        first = file.readline()
    try:
        loads(first.strip().lstrip(b"\xef\xbb\xbf"))
    except InvalidInput:
        yield from _whole(path, problems)
        return
    lines = Lines(path)
    for _, value in lines:
        yield value
    problems += lines.problems


def _whole(path: Path, problems: list[str]) -> Iterator[Any]:
    """A file that is one value, or values with white space between them."""
    text = path.read_bytes().decode("utf-8", "replace").lstrip("\ufeff")
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        if text[position] in " \t\r\n,\x00":
            position += 1
            continue
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            problems.append(f"damaged JSON at character {position}")
            return
        yield value
