"""`export(to="otel")`: OTLP that a parser of OpenTelemetry takes, and that comes back as what was recorded."""

from __future__ import annotations

import base64
import http.client
import json
import math
import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import odograph
from odograph.cli import main
from odograph.codec import loads
from odograph.importers.formats import spans
from odograph.shape import arguments
from odograph.trajectory import Trajectory
from odograph.types import Action, AnyRecord, Context, Edit, End, Fork, Label, LLMCall, Note, Reward, StepStart
from tests.collector.test_collect import collecting

TOOL = {"type": "function", "function": {"name": "search", "description": "d", "parameters": {"type": "object"}}}
ASKS = {"id": "t1", "type": "function", "function": {"name": "search", "arguments": '{"q": 1}'}}
#: What agents get from tools, know and decide.
THINGS: list[Any] = [
    None,
    0,
    0.0,
    -1.5,
    True,
    "5",
    "[1, 2]",
    "",
    " \n",
    "null",
    {"a": {"b": [None, 1]}},
    [],
    {},
    "é\u0000😀",
    2**70,
]


def written(store: odograph.Store, folder: Path, **options: Any) -> list[Any]:
    """The rows of an export."""
    store.export(folder, to="otel", **options)
    return [loads(line) for line in (folder / "data/train.jsonl").read_bytes().splitlines()]


def says(t: Trajectory) -> list[Any]:
    """What a trajectory says, whatever it is written in: each record with its place in the tree."""
    order = {r.id: n for n, r in enumerate(t.standing)}
    calls = {c.id: c for c in t.llm_calls}
    out: list[Any] = []
    for r in t.standing:
        place = (
            r.__struct_config__.tag,
            (r.agent or t.agent),
            r.step,
            order.get(r.parent or ""),
            r.source_time or (None if "source" in t.metadata else r.time),
        )
        match r:
            case StepStart():
                told: Any = r.observation
            case Context():
                told = (r.provider, r.query, r.data, r.purpose, r.error)
            case LLMCall():
                told = call_of(calls[r.id])
            case Action():
                told = (r.name, r.arguments, r.result, r.ok, r.error, order.get(r.llm_call or ""), r.tool_call_id, r.started)
            case Reward():
                told = (r.name, r.value, r.weight, order.get(r.target or ""), r.span, r.source, r.author, r.rationale, r.version)
            case Edit():
                told = (order[r.base], r.choice, r.unit, len(r.result), r.reason, r.preferred)
            case Label():
                told = (r.technique, r.value, r.score, r.author, order.get(r.target or ""))
            case Note():
                told = (r.name, r.data)
            case End():
                told = (r.status, r.answer, r.error, r.metrics)
            case _:
                told = (t.task, t.agent, t.model, t.group, t.tags, t.start and t.start.policy_version, t.start and t.start.seed)
        out.append((place, told))
    return out


def call_of(c: Any) -> Any:
    """A call: what was sent, said and asked for, and the tokens."""
    sent = [(m["role"], m.get("content") or "", m.get("tool_call_id"), tools(m.get("tool_calls"))) for m in c.messages]
    said = [
        (x.text, x.reasoning, [(k.id, k.name, arguments(k.arguments)) for k in x.tool_calls], x.token_ids, x.logprobs)
        for x in c.choices
    ]
    params = {k: v for k, v in c.params.items() if k != "model"}
    about = (c.model, c.purpose, c.prompt_tokens, c.completion_tokens, c.finish_reason, c.policy_version, c.cost, c.started)
    return sent, said, params, c.tools, c.prompt_token_ids, about, c.error, c.duration, c.reasoning


def tools(found: Any) -> list[Any]:
    return [(k.get("id"), k["function"]["name"], arguments(k["function"]["arguments"])) for k in found or []]


def record(store: odograph.Store, chance: random.Random, number: int) -> str:
    """One run of everything that can be recorded."""

    def thing() -> Any:
        return chance.choice(THINGS)

    with store.record(
        task=thing(), agent=chance.choice(["solver", "é"]), model="m", group=chance.choice([None, "g"]), tags=["a"],
        policy_version=chance.choice([None, 3, "v3"]), seed=number, metadata={"k": thing()},
    ) as run:  # fmt: skip
        history: list[Any] = [{"role": "system", "content": "be good"}, {"role": "user", "content": "é" * 20}]
        for n in range(chance.randrange(1, 4)):
            with run.step(observation=thing()) as step:
                step.context("kb", thing(), query=chance.choice(["k", {"q": 1}, "7"]), purpose="to know")
                message = {"role": "assistant", "content": None, "tool_calls": [{**ASKS, "id": f"t{n}"}]}
                call = step.llm_call(
                    model="m", messages=list(history), response={"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]},
                    usage={"prompt_tokens": 9 + n, "completion_tokens": 3}, tools=[TOOL], thinking=chance.choice([None, "hm"]),
                    params={"temperature": chance.choice([0.0, 0.7]), "stop": chance.choice(["x", ["x", "y"]]), "logit_bias": {"1": 2}},
                    prompt_token_ids=[1, 2, n], token_ids=[7, 8, 9], logprobs=[-0.5, -0.25, -0.125], policy_version=n,
                )  # fmt: skip
                acted = step.action(
                    "search", {"q": thing()}, thing(), ok=chance.choice([True, False, None]), llm_call=call, tool_call_id=f"t{n}"
                )
                history += [message, {"role": "tool", "tool_call_id": f"t{n}", "content": chance.choice(["5", '{"a": 1}'])}]
                if chance.random() < 0.5:
                    with step.inside(acted).sub_agent("helper").step(observation="sub") as inner:
                        inner.llm_call(
                            model="h",
                            messages=[{"role": "user", "content": "x"}],
                            response=chance.choice(["y", {"decide": [1, None]}, 7, True]),
                        )
                        inner.reward(0.25, name="inner")
                if chance.random() < 0.5:
                    step.edit(call).replace(1, 2, "other", reason="why", preferred=True)
                step.reward(chance.choice([0.0, 0.1 + 0.2, -1.0]), name="env", rationale="é")
                step.reward(1.0, name="on call", target=call, source="judge", author="j")
        two = [{"index": n, "message": {"role": "assistant", "content": c}, "finish_reason": "stop"} for n, c in enumerate("ab")]
        run.step().llm_call(model="m", messages=list(history), response={"choices": two})
        run.note(thing(), name="n")
        run.reward(chance.choice([1.0, float("nan"), None]), name="final")
        run.label("mood", chance.choice(["good", True, 3]), score=0.5, author="me")
        if chance.random() < 0.3:
            run.finish(status="failed", error="lost \ud800 way")
        else:
            run.finish(thing(), metrics={"k": 1})
    return str(run.id)


@pytest.fixture
def recorded(store: odograph.Store) -> odograph.Store:
    """Runs of all kinds, and some whose calls crossed a wire in another dialect."""
    chance = random.Random(5)
    for n in range(12):
        record(store, chance, n)
    with store.record(task="wire", agent="solver") as run, run.step() as step:
        body = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look"},
                {"type": "tool_use", "id": "u1", "name": "search", "input": {"q": 1}},
            ],
            "usage": {"input_tokens": 3, "cache_read_input_tokens": 40, "output_tokens": 7},
        }  # fmt: skip
        asked = {"model": "claude", "system": "be good", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        step.llm_call(dialect="anthropic.messages", request=asked, response=body)
        step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], error="no route", response=None)
    return store


def test_what_was_recorded_comes_back(recorded: odograph.Store, tmp_path: Path) -> None:
    """A file of the export, imported, says the same: texts, tool calls, results, order, times, tokens, outcome, rewards, edits,
    sub-agents, decisions that are no text, numbers that are none."""
    written(recorded, tmp_path / "out")
    before = {t.id: says(t) for t in recorded.trajectories()}
    assert len(before) == 13
    with odograph.open(tmp_path / "other") as other:
        assert main(["--store", str(tmp_path / "other"), "import", str(tmp_path / "out/data/train.jsonl")]) == 0
        after = {t.metadata["source"]["trajectory"]: (says(t), t) for t in other.trajectories()}
        for id, expected in before.items():
            found, t = after[id]
            for one, two in zip(expected, found, strict=True):
                assert repr(one) == repr(two)
            was = recorded.trajectory(id)
            assert (t.status, t.reward, t.answer, t.started) == (was.status, was.reward, was.answer, was.started)
            assert t.duration == was.duration and t.metadata | {"source": 0} == was.metadata | {"source": 0}


def test_opentelemetrys_own_classes_take_it(recorded: odograph.Store, tmp_path: Path) -> None:
    """Each line parses as `ExportTraceServiceRequest`, unknown fields refused; ids are hex of the right length, parents exist,
    times are in order, and the attributes that the GenAI conventions name have the types that they name."""
    pytest.importorskip("opentelemetry.proto")
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    ids: set[str] = set()
    parents: set[str] = set()
    names: set[str] = set()
    for row in written(recorded, tmp_path / "out"):
        for span in row["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            assert len(bytes.fromhex(span["traceId"])) == 16 and len(bytes.fromhex(span["spanId"])) == 8
            assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
            assert span["spanId"] not in ids
            ids.add(span["spanId"])
            parents |= {span["parentSpanId"]} if "parentSpanId" in span else set()
            names.add(span["name"])
            types = {a["key"]: next(iter(a["value"])) for a in span["attributes"]}
            assert len(types) == len(span["attributes"])
            for name, kind in (
                ("gen_ai.usage.input_tokens", "intValue"), ("gen_ai.request.temperature", "doubleValue"),
                ("gen_ai.response.finish_reasons", "arrayValue"), ("gen_ai.input.messages", "stringValue"),
                ("gen_ai.evaluation.score.value", "doubleValue"), ("gen_ai.tool.call.arguments", "stringValue"),
            ):  # fmt: skip
                assert types.get(name, kind) == kind
        parsed = json_format.ParseDict(with_base64(row), ExportTraceServiceRequest())
        assert parsed.resource_spans[0].scope_spans[0].scope.name == "odograph"
    assert parents <= ids
    assert {"chat m", "execute_tool search", "invoke_agent solver", "invoke_agent helper", "retrieval kb", "chat claude"} <= names


def with_base64(row: Any) -> Any:
    """Protobuf's own JSON has ids in base64, where OTLP's has hex."""
    copy = json.loads(json.dumps(row))
    for span in copy["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for holder in (span, *span.get("links", [])):
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in holder:
                    holder[name] = base64.b64encode(bytes.fromhex(holder[name])).decode()
    return copy


def sent(url: str, body: bytes, kind: str) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.request("POST", "/v1/traces", body, {"Content-Type": kind})
    answer = connection.getresponse()
    assert answer.status == 200 and b"rejected" not in answer.read()
    connection.close()


@pytest.mark.parametrize("kind", ["application/json", "application/x-protobuf"])
def test_a_receiver_reads_it_back(recorded: odograph.Store, tmp_path: Path, kind: str) -> None:
    """Sent to `odograph collect`, by JSON or by protobuf, the same is in the other store; sent again it doubles nothing, and a
    reward that came in between is added to the run that is there."""
    pytest.importorskip("aiohttp")
    pytest.importorskip("opentelemetry.proto")
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    def send(rows: list[Any], url: str) -> None:
        for row in rows:
            json_row = json.dumps(row).encode()
            binary = kind != "application/json"
            parsed = json_format.ParseDict(with_base64(row), ExportTraceServiceRequest()) if binary else None
            sent(url, parsed.SerializeToString() if parsed is not None else json_row, kind)

    before = {t.id: repr(says(t)) for t in recorded.trajectories()}
    late = next(iter(before))
    with odograph.open(tmp_path / "other") as other:
        with collecting(other, quiet=3600) as (collector, (url,)):
            rows = written(recorded, tmp_path / "out")
            send(rows, url)
            collector.flush()
            send(rows, url)
            recorded.append(late).reward(0.75, name="late", source="human")
            send(written(recorded, tmp_path / "again"), url)
        after = {t.metadata["source"]["trajectory"]: t for t in other.trajectories()}
        assert {id: repr(says(t)) for id, t in after.items() if id != late} == {k: v for k, v in before.items() if k != late}
        assert [r.name for r in after[late].rewards][-1] == "late" and len(after[late].records) == len(
            recorded.trajectory(late).records
        )


def test_running_ones_wait_and_a_fork_links_to_its_parent(store: odograph.Store, tmp_path: Path) -> None:
    """A span is sent when it has ended, so a run that is still recorded is left out with that reason. A fork's root links to the
    root of the run that it left."""
    with store.record(task="a", agent="x") as run:
        run.step().action("go", {})
    with store.record(task="a", agent="x", fork=Fork(run.id, 0)):
        pass
    waits = store.record(task="b", agent="x")
    manifest = store.export(tmp_path / "out", to="otel")
    assert manifest["left_out"] == {"still running": 1} and manifest["trajectories"] == {"in": 3, "out": 2}
    waits.finish()
    rows = [json.loads(line) for line in (tmp_path / "out/data/train.jsonl").read_text().splitlines()]
    first, second = (row["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for row in rows)
    assert second["links"] == [{"traceId": first["traceId"], "spanId": first["spanId"]}]


def test_a_long_run_is_many_requests(store: odograph.Store, tmp_path: Path) -> None:
    """No request is larger than a receiver takes: spans of at most 1 MB together, or one span. They are one trajectory again."""
    with store.record(task="long", agent="x") as run:
        for n in range(30):
            run.step().llm_call(model="m", messages=[{"role": "user", "content": f"{n}" + "x" * 100_000}], response=str(n))
    rows = written(store, tmp_path / "out")
    assert len(rows) > 2 and max(len(json.dumps(row)) for row in rows) < 1.2e6
    (session,) = spans.read(tmp_path / "out/data/train.jsonl")
    found = Trajectory(session.id, session.records)
    assert [c.text for c in found.llm_calls] == [str(n) for n in range(30)]


def test_other_tools_see_conventions(recorded: odograph.Store, tmp_path: Path) -> None:
    """Without the attributes of our own, the spans still are a run by the GenAI conventions: agent, calls, texts, tools, tokens."""
    rows = written(recorded, tmp_path / "out")
    for row in rows:
        scope = row["resourceSpans"][0]["scopeSpans"][0]
        scope["scope"] = {"name": "somebody"}
        for span in scope["spans"]:
            span["attributes"] = [a for a in span["attributes"] if not a["key"].startswith("odograph.")]
    path = tmp_path / "plain.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    sessions = {s.records[0].metadata["source"]["session"]: Trajectory(s.id, s.records) for s in spans.read(path)}
    for t in recorded.trajectories():
        found = sessions[t.id]
        assert sorted(c.text for c in found.llm_calls) == sorted(c.text for c in t.llm_calls)
        assert sorted(a.name for a in found.actions) == sorted(a.name for a in t.actions)
        assert found.agent == t.agent and (found.status == "failed") == (t.status == "failed")
        assert math.fsum(c.prompt_tokens or 0 for c in found.llm_calls) == math.fsum(c.prompt_tokens or 0 for c in t.llm_calls)


def test_spans_that_pretend_cost_only_themselves(tmp_path: Path) -> None:
    """Spans that say that they are ours and hold what no record holds are warned of, and the others are read."""

    def made(id: str, **fields: Any) -> dict[str, Any]:
        attributes = [{"key": "odograph." + k.replace("__", "."), "value": {"stringValue": v}} for k, v in fields.items()]
        times = {"startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000000000000000"}
        return {"traceId": "1" * 32, "spanId": id * 16, "name": "x", "attributes": attributes, **times}

    given = [
        made("1", kind="start", json__metadata="[1", json__tags="7", json__fork="{}"),
        made("2", kind="reward", weight="heavy", json__span='{"start": "x"}'),
        made("3", kind="llm_call", json__tokens='{"a": 1}', json__params="[]"),
        made("4", kind="action", parent="zz", step="one", llm_call="4"),
        made("5", kind="edit", json__result='[{"run": "kept"}, 7]', base="9"),
    ]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "odograph"}, "spans": given}]}]}))
    with odograph.open(tmp_path / "s") as store:
        assert main(["--store", str(tmp_path / "s"), "import", str(path)]) == 0
        kinds: list[AnyRecord] = [r for t in store.trajectories() for r in t.records]
    assert any(isinstance(r, Action) for r in kinds)
