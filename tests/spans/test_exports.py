"""Tables and pages that Langfuse, Phoenix, Logfire and MLflow export: the same session as their traces, in any order of the spans."""

from __future__ import annotations

import base64
import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.types import Action, LLMCall
from tests.spans.test_spans import made, of, span

SAID = [{"role": "user", "content": "Capital?"}, {"role": "assistant", "content": "Paris."}]


def langfuse() -> list[dict[str, Any]]:
    """Observations as Langfuse's API gives them: a run, a call and a tool in it."""
    inside = {"traceId": "t", "parentObservationId": "o", "sessionId": "s"}
    at = [{"startTime": f"2026-01-01T00:00:0{n}.000Z", "endTime": f"2026-01-01T00:00:0{n + 1}.000Z"} for n in range(3)]
    asked = {**SAID[1], "tool_calls": [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]}
    return [
        {"id": "o", "traceId": "t", "parentObservationId": None, "sessionId": "s", "type": "SPAN", "name": "run", "input": "Capital?", **at[0]},
        {"id": "g", **inside, "type": "GENERATION", "name": "llm", "model": "m", "input": SAID[:1], "output": asked, "usageDetails": {"input": 3, "output": 2}, "totalCost": 0.5, **at[1]},
        {"id": "x", **inside, "type": "TOOL", "name": "ls", "input": {"p": 1}, "output": "ok", "level": "ERROR", "statusMessage": "no", **at[2]},
    ]  # fmt: skip


def columns() -> list[dict[str, Any]]:
    """The same, as the rows of the table that is exported to a bucket; objects are texts there."""
    names = {
        "Id": "_id",
        "Time": "_time",
        "Message": "_message",
        "Details": "_details",
        "Cost": "_cost",
        "Observation": "_observation",
    }
    rows = []
    for one in langfuse():
        row = {}
        for name, value in one.items():
            for part, column in names.items():
                name = name.replace(part, column)
            row[{"model": "provided_model_name"}.get(name, name)] = (
                json.dumps(value) if isinstance(value, (dict, list)) else value
            )
        rows.append({**row, "environment": "default", "parent_observation_id": row.get("parent_observation_id")})
    return rows


def phoenix() -> list[dict[str, Any]]:
    """Rows of Phoenix's table of spans, whose messages are lists in a cell."""
    messages = {
        f"attributes.llm.{kind}_messages": [{"message.role": m["role"], "message.content": m["content"]}]
        for kind, m in zip(("input", "output"), SAID, strict=True)
    }
    at = {
        "start_time": "2026-01-01T00:00:00+00:00",
        "end_time": "2026-01-01T00:00:01+00:00",
        "status_code": "OK",
        "status_message": "",
    }
    ids = {"context.trace_id": "ab" * 16, "events": []}
    return [
        {"name": "run", "span_kind": "AGENT", "parent_id": None, "context.span_id": "01" * 8, **ids, **at, "attributes.input.value": "Capital?"},
        {"name": "llm", "span_kind": "LLM", "parent_id": "01" * 8, "context.span_id": "02" * 8, **ids, **at, "attributes.llm.model_name": "m", "attributes.llm.token_count.prompt": 3, "attributes.llm.token_count.completion": 2, **messages},
    ]  # fmt: skip


def told(path: Path) -> tuple[list[Any], list[Any]]:
    with odograph.open("memory:") as store:
        report = store.import_sessions(path)
        assert ({t["format"] for t in report.trajectories}, report.failed) == ({"spans"}, [])
        (t,) = store.trajectories()
        calls = [
            (c.model, [m["content"] for m in c.messages], c.text, c.prompt_tokens, c.completion_tokens, c.cost)
            for c in t.llm_calls
        ]
        return calls, [(a.name, a.arguments, a.result, a.ok, a.error) for a in t.actions]


CALL: tuple[Any, ...] = ("m", ["Capital?"], "Paris.", 3, 2)


@pytest.mark.parametrize("dress", ["page", "list", "rows"])
def test_observations_without_their_trace(tmp_path: Path, dress: str) -> None:
    """Observations of Langfuse are a session as a page of its API, as a list, and as rows of the table that it exports."""
    path = tmp_path / "observations.json"
    if dress == "rows":
        path.write_text("".join(json.dumps(row) + "\n" for row in columns()))
    else:
        path.write_text(json.dumps({"data": langfuse(), "meta": {"page": 1}} if dress == "page" else langfuse()))
    assert told(path) == ([(*CALL, 0.5)], [("ls", {"p": 1}, "ok", False, "no")])


@pytest.mark.parametrize("dress", ["lines", "parquet"])
def test_a_table_of_phoenix(tmp_path: Path, dress: str) -> None:
    """A table of spans, with a column for each part of a span, is the session that its spans are."""
    path = tmp_path / "spans.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in phoenix()))
    if dress == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(
            pa.Table.from_pylist([{**dict.fromkeys(phoenix()[1]), **row} for row in phoenix()]),
            path := tmp_path / "spans.parquet",
        )
    assert told(path) == ([(*CALL, None)], [])


@pytest.mark.parametrize("rows", [langfuse, columns, phoenix])
def test_spans_in_any_order_are_the_same_session(tmp_path: Path, rows: Any) -> None:
    """Spans come as they end, and an exporter may send them twice: the session is the same, whichever came first."""
    path = tmp_path / "spans.jsonl"
    found = []
    for seed in range(4):
        given = rows() if seed == 0 else random.Random(seed).sample(rows() * 2, 2 * len(rows()))
        path.write_text("".join(json.dumps(row) + "\n" for row in given))
        found.append(told(path))
    assert all(one == found[0] for one in found)


ASKED = [{"role": "user", "parts": [{"type": "text", "content": "Sail"}]}]
ANSWERED = [
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "t", "name": "set", "arguments": {"jib": 1}}],
        "finish_reason": "tool_call",
    }
]
LOGFIRE = {
    "start_timestamp": "2026-08-01T10:00:00.000000Z", "end_timestamp": "2026-08-01T10:00:02.000000Z", "trace_id": "ab" * 16, "span_id": "cd" * 8,
    "parent_span_id": None, "kind": "span", "span_name": "chat m", "message": "chat m", "is_exception": False, "tags": ["nightly"],
    "otel_scope_name": "pydantic-ai", "otel_events": [], "service_name": "svc",
    "attributes": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.input.messages": ASKED, "gen_ai.output.messages": ANSWERED, "gen_ai.usage.input_tokens": 9},
}  # fmt: skip
AS_TEXT = {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in LOGFIRE.items()}
DETAILS = [{"name": k, "datatype": "Utf8", "nullable": True} for k in LOGFIRE]
PENDING = {
    **LOGFIRE,
    "kind": "pending_span",
    "end_timestamp": LOGFIRE["start_timestamp"],
    "attributes": {"gen_ai.operation.name": "chat"},
}
EVENT = {**LOGFIRE, "kind": "span_event", "span_name": "note", "attributes": {"x": 1}}


@pytest.mark.parametrize(
    "value",
    [
        {"columns": DETAILS, "rows": [LOGFIRE]},
        {"columns": [{**c, "values": [LOGFIRE[c["name"]]]} for c in DETAILS]},
        LOGFIRE,
        AS_TEXT,
        {"columns": DETAILS, "rows": [PENDING, LOGFIRE, EVENT]},
        {"columns": DETAILS, "rows": [EVENT, LOGFIRE, PENDING]},
    ],
    ids=["rows", "columns", "row", "JSON as text", "with what repeats it", "in any order"],
)
def test_answers_of_logfire(tmp_path: Path, value: Any) -> None:
    """A query's answer is the same session in every shape that the API gives it; rows that repeat a span add nothing."""
    (tmp_path / "a.json").write_text(json.dumps(value) + "\n")
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path).failed == []
        (t,) = store.trajectories()
        (call,) = t.llm_calls
    assert (t.task, t.start.tags, call.prompt_tokens, call.finish_reason, call.duration) == (
        "Sail",
        ["nightly"],
        9,
        "tool_calls",
        2 * 10**9,
    )
    assert (call.choices[0].tool_calls[0].arguments, call.request["messages"]) == (
        {"jib": 1},
        [{"role": "user", "content": "Sail"}],
    )
    assert t.metadata["source"]["resource"] == {"service.name": "svc"}


@pytest.mark.parametrize("dress", ["json", "jsonl", "csv", "parquet"])
def test_a_table_of_mlflow(tmp_path: Path, dress: str) -> None:
    """The table that `search_traces` gives has each trace whole, as text."""
    span = {
        "trace_id": base64.b64encode(bytes(16)).decode(),
        "span_id": base64.b64encode(bytes(8)).decode(),
        "parent_span_id": None,
        "name": "ask",
        "start_time_unix_nano": 10**18,
        "end_time_unix_nano": 10**18 + 5,
        "events": [],
        "status": {"code": "STATUS_CODE_OK"},
        "attributes": {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.spanInputs": json.dumps({"messages": [{"role": "user", "content": "Sail"}]}),
            "mlflow.spanOutputs": '"Aye"',
        },
    }
    given = {"assessment_name": "right", "source": {"source_type": "HUMAN"}, "feedback": {"value": True}}
    trace = {"info": {"trace_id": "tr-1", "assessments": [given], "trace_metadata": {}, "tags": {}}, "data": {"spans": [span]}}
    row = {
        "trace_id": "tr-1",
        "trace": json.dumps(trace),
        "state": "OK",
        "trace_metadata": {"a": "b"},
        "tags": {"c": "d"},
        "spans": [span],
    }
    path = tmp_path / f"traces.{dress}"
    if dress == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist([row]), path)
    elif dress == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([row, row.values()])
    else:
        path.write_text(json.dumps([row] if dress == "json" else row) + "\n")
    with odograph.open("memory:") as store:
        assert store.import_sessions(path).failed == []
        (t,) = store.trajectories()
        assert (t.task, t.reward, [c.choices[0].text for c in t.llm_calls]) == ("Sail", 1.0, ["Aye"])


def test_feedback_that_was_overridden_only_monitors(tmp_path: Path) -> None:
    """Feedback of MLflow has its author and time; what another overrides is kept and no longer counts."""
    span = {"trace_id": base64.b64encode(bytes(16)).decode(), "span_id": base64.b64encode(bytes(8)).decode(), "parent_span_id": None, "name": "ask", "start_time_unix_nano": 10**18, "end_time_unix_nano": 10**18 + 5, "events": [], "status": {}, "attributes": {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.spanOutputs": '"Aye"'}}  # fmt: skip
    given = {
        "assessment_name": "right",
        "source": {"source_type": "HUMAN", "source_id": "ann"},
        "create_time": "2026-01-01T00:00:00Z",
    }
    told = [{**given, "assessment_id": "b", "feedback": {"value": 1.0}, "overrides": "a"}, {**given, "assessment_id": "a", "feedback": {"value": 0.0}, "valid": False}]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"info": {"trace_id": "tr-1", "assessments": told}, "data": {"spans": [span]}}))
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path)
        (t,) = store.trajectories()
        assert [(r.value, r.weight, r.author, r.source_time) for r in t.rewards] == [
            (0.0, 0.0, "ann", 1767225600 * 10**9),
            (1.0, 1.0, "ann", 1767225600 * 10**9),
        ]
        assert t.reward == 1.0


def langsmith() -> list[dict[str, Any]]:
    """Runs as LangSmith's API answers them: a chain with feedback, a model of LangChain's, and a tool."""
    ids = [f"{n}1111111-0000-0000-0000-000000000000" for n in range(1, 4)]
    at = [{"start_time": f"2026-01-01T00:00:0{n}", "end_time": f"2026-01-01T00:00:0{n + 1}"} for n in range(3)]
    extra = {"metadata": {"ls_provider": "p"}, "invocation_params": {"model": "m", "temperature": 0.5}}
    human = {"lc": 1, "id": ["langchain", "schema", "messages", "HumanMessage"], "kwargs": {"content": "Sail"}}
    says = {
        "lc": 1,
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {"content": "Aye", "tool_calls": [{"name": "set", "args": {"jib": 1}, "id": "t"}]},
    }
    generation = {"message": says, "generation_info": {"finish_reason": "tool_calls"}}
    output = {
        "generations": [[generation]],
        "llm_output": {"token_usage": {"prompt_tokens": 9, "completion_tokens": 2}, "model_name": "m-1"},
    }
    told = {"output": {"content": "set", "tool_call_id": "t"}}
    inside = {"trace_id": ids[0], "parent_run_id": ids[0], "extra": {}, "feedback_stats": None, "total_cost": None}
    return [
        {"id": ids[0], **inside, "parent_run_id": None, "name": "run", "run_type": "chain", "inputs": {"input": "Sail"}, "outputs": {"output": "set"}, "feedback_stats": {"right": {"n": 1, "avg": 1.0}}, **at[0]},
        {"id": ids[1], **inside, "name": "llm", "run_type": "llm", "inputs": {"messages": [[human]]}, "outputs": output, "extra": extra, "total_cost": 0.25, **at[1]},
        {"id": ids[2], **inside, "name": "set", "run_type": "tool", "inputs": {"input": "{'jib': 1}"}, "outputs": told, **at[2]},
    ]  # fmt: skip


@pytest.mark.parametrize("dress", ["lines", "list", "page", "bulk"])
def test_runs_of_langsmith(tmp_path: Path, dress: str) -> None:
    """Runs are one session as lines, a list, a page of the API and rows of the bulk export, whose objects are texts."""
    runs: Any = langsmith()
    if dress == "bulk":
        runs = [{k: json.dumps(v) if isinstance(v, dict) else v for k, v in run.items()} for run in runs]
    value = "".join(json.dumps(run) + "\n" for run in runs)
    if dress in ("list", "page"):
        value = json.dumps(runs if dress == "list" else {"runs": runs, "cursors": {}})
    (tmp_path / "runs.json").write_text(value)
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path).failed == []
        (t,) = store.trajectories()
        (call,) = t.llm_calls
        assert (call.model, call.prompt_tokens, call.cost, call.finish_reason) == ("m-1", 9, 0.25, "tool_calls")
        assert (call.request["temperature"], call.messages) == (0.5, [{"role": "user", "content": "Sail"}])
        assert [(a.name, a.arguments, a.result, a.tool_call_id) for a in t.actions] == [("set", {"jib": 1}, "set", "t")]
        assert (t.task, t.reward) == ("Sail", 1.0)


def test_pages_of_phoenix_and_of_tempo(tmp_path: Path) -> None:
    """A page of spans of Phoenix's API, and what Tempo answers of a trace, are read as the spans inside."""
    about = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "m",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Aye",
    }
    span = {
        "name": "llm",
        "context": {"trace_id": "ab" * 16, "span_id": "01" * 8},
        "span_kind": "LLM",
        "parent_id": None,
        "start_time": "2026-01-01T00:00:00+00:00",
        "end_time": "2026-01-01T00:00:01+00:00",
        "status_code": "OK",
        "attributes": about,
    }
    otlp = {
        "traceId": "ab" * 16,
        "spanId": "01" * 8,
        "name": "llm",
        "startTimeUnixNano": "1767225600000000000",
        "endTimeUnixNano": "1767225601000000000",
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in about.items()],
    }
    scopes = [{"scopeSpans": [{"spans": [otlp]}]}]
    pages = [
        {"data": [span], "next_cursor": None},
        {"data": [otlp], "next_cursor": None},
        {"batches": scopes},
        {"trace": {"resourceSpans": scopes}},
    ]
    for n, page in enumerate(pages):
        (tmp_path / f"{n}.json").write_text(json.dumps(page))
        with odograph.open("memory:") as store:
            assert store.import_sessions(tmp_path / f"{n}.json").failed == []
            (t,) = store.trajectories()
            assert [(c.model, c.text, c.duration) for c in t.llm_calls] == [("m", "Aye", 10**9)]


ASKED = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"q": "WREN"}'}}
BODIES = (
    {"model": "m", "messages": [{"role": "user", "content": "Where?"}], "temperature": 0.0},
    {"id": "r", "object": "chat.completion", "model": "m-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [ASKED]}, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 9, "completion_tokens": 3}},
    {"model": "c", "system": "s", "max_tokens": 9, "messages": [{"role": "user", "content": "Sum up"}]},
    {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "In a tree"}], "stop_reason": "end_turn", "usage": {"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 4}},
)  # fmt: skip


def helicone() -> list[dict[str, Any]]:
    """Requests of Helicone: two answers and a tool of one session, and a refused request without a session."""
    row = {"response_status": 200, "request_properties": {"Helicone-Session-Id": "s1", "Helicone-Session-Name": "Birds"}, "request_user_id": "ada", "delay_ms": 1500, "provider": "OPENAI", "llmSchema": None}  # fmt: skip
    at = [f"2026-01-01T00:00:0{n}.000Z" for n in range(4)]
    tool = ({"_type": "tool", "toolName": "look", "input": {"q": "WREN"}}, {"_type": "tool", "found": "tree"})
    return [
        {**row, "request_id": "r0", "request_created_at": at[0], "request_body": BODIES[0], "response_body": BODIES[1], "costUSD": 0.25, "time_to_first_token": 300, "feedback_rating": True},
        {**row, "request_id": "r1", "request_created_at": at[1], "request_body": tool[0], "response_body": tool[1], "delay_ms": 20},
        {**row, "request_id": "r2", "request_created_at": at[2], "request_body": BODIES[2], "response_body": BODIES[3], "scores": {"short": {"value": 1}}},
        {**row, "request_id": "r3", "request_created_at": at[3], "request_body": BODIES[0], "response_body": {"error": {"message": "slow down"}}, "response_status": 429, "request_properties": None},
    ]  # fmt: skip


def weave() -> list[dict[str, Any]]:
    """Calls of Weave: an agent with two model calls and a tool in it, and its feedback."""
    at = [f"2026-01-01T00:00:0{n}Z" for n in range(9)]
    good = {
        "id": "f1",
        "feedback_type": "wandb.annotation.good",
        "payload": {"value": True},
        "creator": "ada",
        "created_at": at[8],
    }
    note = {"id": "f2", "feedback_type": "wandb.note.1", "payload": {"note": "terse"}, "creator": "ada"}
    told = (
        ("lead", "agent", {"question": "Where?"}, "In a tree", {"usage": {"m-1": {"prompt_tokens": 9}}, "weave": {"status": "success", "feedback": [good, note]}}),
        ("openai.chat.completions.create", None, {"self": "weave:///t/p/object/o:1", **BODIES[0]}, BODIES[1], {"weave": {"costs": {"m-1": {"prompt_tokens_total_cost": 0.125, "completion_tokens_total_cost": 0.125}}}}),
        ("look", "tool", {"q": "WREN"}, {"found": "tree"}, {}),
        ("anthropic.Messages.create", None, {"self": {}, **BODIES[2]}, BODIES[3], {}),
    )  # fmt: skip
    return [
        {"id": f"c{n}", "project_id": "t/p", "op_name": f"weave:///t/p/op/{name}:abc", "trace_id": "t", "parent_id": "c0" if n else None, "started_at": at[n], "ended_at": at[n + 1], "thread_id": "th", "inputs": given, "output": said, "exception": None, "summary": summary, "attributes": {"weave": {"kind": kind}, "env": "test"}}
        for n, (name, kind, given, said, summary) in enumerate(told)
    ]  # fmt: skip


@pytest.mark.parametrize("dress", ["jsonl", "json", "page", "shuffled"])
@pytest.mark.parametrize("tool", ["helicone", "weave"])
def test_requests_of_helicone_and_calls_of_weave(tmp_path: Path, tool: str, dress: str) -> None:
    """Each request is the body that was sent, each answer the body that came, with tokens, cost, times, tools, errors and feedback."""
    rows = helicone() if tool == "helicone" else weave()
    if dress == "shuffled":
        random.Random(5).shuffle(rows)
    page: Any = {"data": rows, "error": None} if tool == "helicone" else {"calls": rows}
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"page": page, "json": rows}[dress]) if dress in ("page", "json") else "".join(json.dumps(r) + "\n" for r in rows))  # fmt: skip
    with odograph.open("memory:") as store:
        assert store.import_sessions(path).failed == []
        t, *others = sorted(store.trajectories(), key=lambda t: t.started or 0)
        calls, (action,) = t.llm_calls, t.actions
        assert [(c.request, c.response) for c in calls] == [BODIES[:2], BODIES[2:]]
        assert [(c.prompt_tokens, c.completion_tokens, c.cost, c.reasoning, c.model) for c in calls] == [(9, 3, 0.25, None, "m-1"), (105, 4, None, "hm", "c")]  # fmt: skip
        assert (action.name, action.arguments, action.result, action.tool_call_id) == (
            "look",
            {"q": "WREN"},
            {"found": "tree"},
            "t1",
        )
        assert (t.task, t.answer, t.status) == ("Where?", "In a tree", "completed")
        scored = [(r.name, r.value, r.source, r.target is None) for r in t.rewards]
        if tool == "weave":
            assert scored == [("good", 1.0, "human", True), ("wandb.note.1", None, "human", True)]
            assert (t.agent, t.reward, calls[0].duration) == ("lead", 1.0, 10**9)
        else:
            assert scored == [("feedback", 1.0, "human", False), ("short", 1.0, "function", False)]
            assert (calls[0].duration, calls[0].first_token) == (1_500_000_000, 300_000_000)
            (refused,) = others
            assert (refused.status, refused.llm_calls[0].error, refused.llm_calls[0].status_code) == ("failed", "slow down", 429)
        assert store.import_sessions(path).imported == 0


def test_what_helicone_exports_without_bodies(tmp_path: Path) -> None:
    """A row without bodies is a call with its figures; a row of the CSV has the request, as text."""
    about = {"request_created_at": "2026-01-01T00:00:00Z", "response_status": "200", "prompt_tokens": "5", "completion_tokens": "2", "model": "m", "cost": "0.5"}  # fmt: skip
    (tmp_path / "a.jsonl").write_text(json.dumps({**about, "request_id": "r", "request_body": {}, "response_body": {}}) + "\n")
    with (tmp_path / "b.csv").open("w", newline="") as file:
        row = {"response_id": "x", **about, "request_body": json.dumps(BODIES[0])}
        csv.writer(file).writerows([row, row.values()])
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path).failed == []
        for t, request in zip(sorted(store.trajectories(), key=lambda t: t.task or ""), ({"messages": [], "model": "m"}, BODIES[0]), strict=True):  # fmt: skip
            (call,) = t.llm_calls
            assert (call.request, call.response) == (request, None)
            assert (call.prompt_tokens, call.completion_tokens, call.cost, call.model) == (5, 2, 0.5, "m")


def test_verdicts_of_mlflows_judges_are_numbers(tmp_path: Path) -> None:
    """`yes` and `no` of a judge are 1 and 0, as in MLflow's own averages, and the word is kept; another word only monitors."""
    span = {"trace_id": base64.b64encode(bytes(16)).decode(), "span_id": base64.b64encode(bytes(8)).decode(), "parent_span_id": None, "name": "ask", "start_time_unix_nano": 10**18, "end_time_unix_nano": 10**18 + 5, "events": [], "status": {}, "attributes": {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.spanOutputs": '"Aye"'}}  # fmt: skip
    told = [{"assessment_name": name, "source": {"source_type": "LLM_JUDGE"}, "feedback": {"value": name}} for name in ("yes", "No", "unknown")]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"info": {"trace_id": "tr-1", "assessments": told}, "data": {"spans": [span]}}))
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path)
        (t,) = store.trajectories()
        found = {r.name: (r.value, r.extra["assessment"]["value"], r.source) for r in t.rewards if r.extra}
        assert found == {"yes": (1.0, "yes", "judge"), "No": (0.0, "No", "judge"), "unknown": (None, "unknown", "judge")}


def test_langfuses_level_is_an_outcome() -> None:
    """An observation whose level is ERROR failed, also where its sender gives the span no status."""
    failed = {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "no such file", "session.id": "s"}
    records = made(
        span("a", {"langfuse.observation.type": "generation", "langfuse.observation.input": json.dumps(SAID[:1]), **failed}),
        span("b", {"langfuse.observation.type": "tool", "langfuse.observation.output": "x", **failed}, at=20),
    )
    ((call,), (action,)) = of(LLMCall, records), of(Action, records)
    assert (call.error, action.error, action.ok) == ("no such file", "no such file", False)
