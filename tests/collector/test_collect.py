"""The receiver of OpenTelemetry: real exporters over real sockets; each span once, nothing acknowledged lost, nobody else let in."""

from __future__ import annotations

import asyncio
import base64
import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import odograph
from tests.waiting import until

pytest.importorskip("aiohttp")
pytest.importorskip("opentelemetry.proto")

from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from odograph.collector import protobuf
from odograph.collector import receiver as receiving
from odograph.collector.collecting import Collector
from odograph.collector.receiver import Receiver
from odograph.collector.serving import serve
from odograph.collector.spool import Spool
from odograph.spans import of_otlp

KEY = "sk-" + "proj-" + "Zx81jQmV0aLr5TgYb3Wn7Kc2"
ASKED = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "when is high tide?"}]}])
SAID = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "at noon"}], "finish_reason": "stop"}])


@contextmanager
def collecting(
    store: odograph.Store, *, quiet: float = 0.2, grpc: int | None = None, **more: Any
) -> Iterator[tuple[Collector, list[str]]]:
    """A collector over HTTP, on a loop of its own."""
    with Collector(store, quiet=quiet) as collector:
        receiver = Receiver(collector, host="127.0.0.1", **more)
        ready, stop, urls = threading.Event(), threading.Event(), []

        async def main() -> None:
            async with serve(receiver, collector, "127.0.0.1", 0, grpc, more.get("token")) as found:
                urls.extend(found)
                ready.set()
                while not stop.is_set():
                    await asyncio.sleep(0.02)

        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        until(ready.is_set, thread)
        try:
            yield collector, urls
        finally:
            stop.set()
            thread.join()


def post(url: str, path: str, body: bytes, kind: str = "application/json", **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def span(number: int, parent: int | None = None, trace: int = 1, **attributes: Any) -> dict[str, Any]:
    """A span of OTLP/JSON; times in seconds are its number."""
    typed = [
        {"key": k, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}} for k, v in attributes.items()
    ]
    return {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent is not None else "",
        "name": str(attributes.get("gen_ai.operation.name", "work")),
        "startTimeUnixNano": str(1_790_000_000_000_000_000 + number * 10**9),
        "endTimeUnixNano": str(1_790_000_000_000_000_000 + number * 10**9 + 10**8),
        "attributes": typed,
    }


def body(*spans: dict[str, Any]) -> bytes:
    return json.dumps(
        {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]}
    ).encode()


def chat(number: int, parent: int | None = 1, **more: Any) -> dict[str, Any]:
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": ASKED,
        "gen_ai.output.messages": SAID,
    }
    return span(number, parent, **{**about, "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3, **more})


def wait_for(store: odograph.Store, count: int, calls: int | None = None) -> list[odograph.Trajectory]:
    while True:
        found = list(store.trajectories())
        if len(found) >= count and (calls is None or sum(len(t.llm_calls) for t in found) >= calls):
            return found
        time.sleep(0.05)


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_a_real_exporter_is_recorded(store: odograph.Store, compression: Compression) -> None:
    """The SDK of OpenTelemetry sends protobuf; its spans are a trajectory with the call, the messages and the tokens."""
    with collecting(store) as (_, (url,)):
        exporter = OTLPSpanExporter(url + "/v1/traces", compression=compression)
        provider = TracerProvider(resource=Resource.create({"service.name": "harbour"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("x")
        with tracer.start_as_current_span(
            "invoke_agent pilot", attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "pilot"}
        ):
            with tracer.start_as_current_span("chat m") as inner:
                inner.set_attributes(
                    {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.input.messages": ASKED}
                )
                inner.set_attributes(
                    {"gen_ai.output.messages": SAID, "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3}
                )
        provider.shutdown()
        (t,) = wait_for(store, 1)
    (call,) = t.llm_calls
    assert (t.agent, call.model, call.text, call.prompt_tokens, call.completion_tokens) == ("pilot", "m", "at noon", 7, 3)
    assert call.messages[0]["content"] == "when is high tide?"
    assert call.origin == "transcript" and call.extra is not None and len(call.extra["span"]["trace"]) == 32
    assert t.metadata["source"]["format"] == "otlp"


def test_spans_may_come_late_twice_and_without_parents(store: odograph.Store) -> None:
    """Children come before their parents, an exporter that retries sends the same again, and a parent may never come: one trajectory,
    each call once, and what comes after the session was written is added to it."""
    with collecting(store) as (collector, (url,)):
        assert post(url, "/v1/traces", body(chat(3)))[0] == 200
        (t,) = wait_for(store, 1, 1)
        for _ in range(2):
            assert post(url, "/v1/traces", body(chat(3), chat(2)))[0] == 200
        wait_for(store, 1, 2)
        assert post(url, "/v1/traces", body(span(1)))[0] == 200
        time.sleep(1)
        assert collector.counts["spans"] == 3
    (after,) = store.trajectories()
    assert (after.id, len(after.llm_calls)) == (t.id, 2)
    by_index = sorted(after.steps, key=lambda s: s.index)  # the later look gave the calls their places
    assert [c.started for s in by_index for c in s.llm_calls] == sorted(c.started or 0 for c in after.llm_calls)
    assert odograph.validate(after, profile="basic").valid


def test_traces_of_one_conversation_are_one_session(store: odograph.Store) -> None:
    """Gemini CLI's calls have a trace each: the conversation that they name holds them together, also when it grows."""
    with collecting(store) as (_, (url,)):
        for number in (1, 2):
            post(url, "/v1/traces", body(chat(number, None, trace=number, **{"gen_ai.conversation.id": "c1"})))
            wait_for(store, 1, number)
        post(url, "/v1/traces", body(chat(3, None, trace=3, **{"gen_ai.conversation.id": "c2"})))
        wait_for(store, 2)
    assert {len(t.llm_calls) for t in store.trajectories()} == {1, 2}


def test_a_body_in_any_encoding_that_is_known(store: odograph.Store) -> None:
    """zstd, deflate and brotli are undone as gzip is; what is not known is 415, whatever the body is, and what is damaged 400."""
    brotli, zstandard = pytest.importorskip("brotli"), pytest.importorskip("zstandard")
    packers = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress, "br": brotli.compress, "": bytes}
    with collecting(store) as (collector, (url,)):
        for number, (name, pack) in enumerate(packers.items(), 1):
            sent = pack(body(chat(number, None, trace=number)))
            assert post(url, "/v1/traces", sent, Content_Encoding=name)[0] == 200, name
        twice = gzip.compress(gzip.compress(body(chat(9, None, trace=9))))
        assert post(url, "/v1/traces", twice, Content_Encoding="gzip, gzip")[0] == 200
        status, _, said = post(url, "/v1/traces", body(chat(10, None, trace=10)), Content_Encoding="snappy")
        assert status == 415 and b"'snappy'" in said
        assert post(url, "/v1/traces", b"no zstd", Content_Encoding="zstd")[0] == 400
        assert collector.counts["spans"] == 6


def test_bytes_of_an_attribute_hold_no_secret(tmp_path: Path) -> None:
    """Bytes are base64 in OTLP/JSON and raw in protobuf: both are the same value, and are looked into where a store redacts."""
    secret = f"key={KEY}".encode()
    asked = chat(1, None)
    asked["attributes"] += [
        {"key": "blob", "value": {"bytesValue": base64.b64encode(secret).decode()}},
        {"key": "image", "value": {"bytesValue": base64.b64encode(b"\x89PNG").decode()}},
    ]
    message = ExportTraceServiceRequest()
    sent = message.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="work")
    for name, data in (("blob", secret), ("image", b"\x89PNG")):
        sent.attributes.add(key=name).value.bytes_value = data
    for found in (*of_otlp(json.loads(body(asked))), *of_otlp(protobuf.plain("traces", message))):
        assert found.attributes["image"] == {"$odograph": "bytes", "value": "iVBORw=="}
    with odograph.open(tmp_path / "s", redact=True) as store, collecting(store) as (_, (url,)):
        assert post(url, "/v1/traces", body(asked))[0] == 200
        assert post(url, "/v1/traces", message.SerializeToString(), "application/x-protobuf")[0] == 200
    kept = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    middle = base64.b64encode(secret)[8:-4]
    assert middle not in kept and secret.hex().encode() not in kept and b"iVBORw==" in kept


def test_what_is_no_otlp_is_refused_and_the_rest_is_kept(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 for what can't be decoded, in the encoding of the request; 413 after the body was read; 200 with the number of spans that have no ids in hex."""
    monkeypatch.setattr(receiving, "LARGEST", 1 << 16)
    with collecting(store) as (collector, (url,)):
        assert post(url, "/v1/traces", b"{")[0] == post(url, "/v1/traces", b"[1]")[0] == 400
        status, headers, said = post(url, "/v1/traces", b"\xff\xff", "application/x-protobuf")
        assert (status, headers["Content-Type"]) == (400, "application/x-protobuf") and b"protobuf" in said
        assert post(url, "/v1/traces", b"x", "text/plain")[0] == 415
        assert post(url, "/v2/traces", b"{}")[0] == 404
        assert post(url, "/v1/traces", b"no gzip", Content_Encoding="gzip")[0] == 400
        status, _, said = post(url, "/v1/traces", b" " * (1 << 20))
        assert status == 413 and b"at most" in said
        assert post(url, "/v1/traces", gzip.compress(b" " * (1 << 20)), Content_Encoding="gzip")[0] == 413
        status, _, said = post(
            url, "/v1/traces", body(chat(2), {**chat(3), "spanId": "0" * 16}, {**chat(4), "traceId": "no hex " * 4})
        )
        assert status == 200 and json.loads(said)["partialSuccess"]["rejectedSpans"] == "2"
        assert collector.counts["rejected"] == 2
        status, headers, said = post(url, "/v1/metrics", b"\x00anything", "application/x-protobuf")
        assert (status, said, headers["Content-Type"]) == (200, b"", "application/x-protobuf")
        assert post(url, "/v1/logs", b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": null}]}]}]}')[0] == 200
        (t,) = wait_for(store, 1)
        assert len(t.llm_calls) == 1 and collector.counts["unreadable"] == 0


def test_the_partial_success_of_protobuf_is_what_exporters_read() -> None:
    """The hand-written answer is the message of OpenTelemetry's own classes."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    found = ExportTraceServiceResponse.FromString(protobuf.answer(300, "why" * 100))
    assert (found.partial_success.rejected_spans, found.partial_success.error_message) == (300, "why" * 100)
    assert protobuf.answer(0, "") == b""


def test_nobody_else_is_heard(store: odograph.Store, tmp_path: Path) -> None:
    """A page of a browser, a foreign name, a missing token: refused before anything is read. Beyond this machine only with a token."""
    secret = "t" * 20
    basic = base64.b64encode(f"pk:{secret}".encode()).decode()
    with collecting(store, token=secret) as (collector, (url,)):
        good = {"Authorization": f"Bearer {secret}"}
        assert post(url, "/v1/traces", body(chat(2)))[0] == 401
        assert post(url, "/v1/traces", body(chat(2)), Authorization="Bearer no")[0] == 401
        assert post(url, "/v1/traces", body(chat(2)), **good, Origin="http://evil.example")[0] == 403
        assert post(url, "/v1/traces", body(chat(2)), **good, Host="evil.example")[0] == 403
        assert collector.counts["spans"] == 0
        assert post(url, "/v1/traces", body(chat(2)), **good)[0] == 200
        assert post(url, "/api/public/otel/v1/traces", body(chat(3)), Authorization=f"Basic {basic}")[0] == 200
    with odograph.open(tmp_path / "other") as other, Collector(other) as collector:
        with pytest.raises(odograph.InvalidInput, match="token"):
            Receiver(collector, host="0.0.0.0")
        with pytest.raises(odograph.InvalidInput, match="another process collects"):
            Collector(other)


def test_secrets_are_in_no_file(tmp_path: Path) -> None:
    """A store that removes secrets removes them at this door, too: from records, and from the spans that wait."""
    with odograph.open(tmp_path / "s", redact=True) as store, collecting(store) as (_, (url,)):
        said = json.dumps([{"role": "user", "parts": [{"type": "text", "content": f"my key is {KEY}"}]}])
        post(url, "/v1/traces", body(chat(2, **{"gen_ai.input.messages": said})))
        (t,) = wait_for(store, 1)
        assert "[redacted:" in json.dumps(t.llm_calls[0].messages)
    files = [p for p in (tmp_path / "s").rglob("*") if p.is_file()]
    assert files and not any(KEY.encode() in p.read_bytes() for p in files)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_collector_that_ends_loses_nothing_that_it_answered(tmp_path: Path, signum: int) -> None:
    """kill -9 right behind the answer: the next collector writes the session. One that is asked to end, or whose terminal closes,
    writes the session itself."""
    command = [
        sys.executable,
        "-m",
        "odograph",
        "--store",
        str(tmp_path / "s"),
        "collect",
        "--port",
        "0",
        "--json",
        "--quiet",
        "60",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        (url,) = json.loads(process.stdout.readline())["urls"]
        assert post(url, "/v1/traces", body(chat(2)))[0] == 200
    finally:
        process.send_signal(signum)
        process.wait()
    assert process.returncode == (-signum if signum == signal.SIGKILL else 0)
    with odograph.open(tmp_path / "s") as store:
        assert len(list(store.trajectories())) == (signum != signal.SIGKILL)
        with Collector(store):
            pass
        (t,) = store.trajectories()
        assert t.llm_calls[0].text == "at noon"


def test_grpc_is_heard(store: odograph.Store) -> None:
    """The same request over gRPC."""
    grpc = pytest.importorskip("grpc")
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    request = trace_service_pb2.ExportTraceServiceRequest()
    one = request.resource_spans.add().scope_spans.add().spans.add()
    one.trace_id, one.span_id, one.name = b"\x01" * 16, b"\x02" * 8, "chat m"
    one.start_time_unix_nano, one.end_time_unix_nano = 1_790_000_000_000_000_000, 1_790_000_000_100_000_000
    for key, value in (
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.input.messages", ASKED),
        ("gen_ai.output.messages", SAID),
    ):
        pair = one.attributes.add()
        pair.key, pair.value.string_value = key, value
    with collecting(store, grpc=port, token="t" * 20):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = trace_service_pb2_grpc.TraceServiceStub(channel)
            with pytest.raises(grpc.RpcError, match="token"):
                stub.Export(request, timeout=20)
            request.resource_spans[0].scope_spans[0].spans.add().name = "of no trace"
            answer = stub.Export(request, timeout=20, metadata=[("authorization", "Bearer " + "t" * 20)])
            assert answer.partial_success.rejected_spans == 1
        (t,) = wait_for(store, 1)
    assert t.llm_calls[0].text == "at noon"


SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "otlp"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="payloads of real emitters are not in the repository")
def test_payloads_of_real_emitters(store: odograph.Store) -> None:
    """What six instrumentations sent, byte for byte: each is a session with calls."""
    with collecting(store) as (_, (url,)):
        sent = 0
        for file in sorted([*SAMPLES.glob("*/*.pb"), *SAMPLES.glob("*/*-traces.json")]):
            kind = "application/json" if file.suffix == ".json" else "application/x-protobuf"
            assert post(url, "/v1/traces", file.read_bytes(), kind)[0] == 200, file
            sent += 1
        assert sent
        found = wait_for(store, sent)
    assert all(t.llm_calls and all(c.text or c.choices[0].tool_calls for c in t.llm_calls) for t in found)


def test_a_body_that_is_too_large_is_read_before_it_is_refused(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender whose connection is answered in the middle of its body sees a reset, and sends again: the answer waits for the end."""
    monkeypatch.setattr(receiving, "LARGEST", 1 << 16)
    with collecting(store) as (_, (url,)):
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port)) as sender:
            head = f"POST /v1/traces HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: {1 << 19}\r\n\r\n"
            sender.sendall(head.encode() + b" " * (1 << 18))
            sender.settimeout(0.5)
            with pytest.raises(TimeoutError):
                sender.recv(1)
            sender.settimeout(None)
            sender.sendall(b" " * (1 << 18))
            assert sender.recv(100).startswith(b"HTTP/1.1 413")


def test_spans_that_come_while_their_session_is_written_are_written_next(tmp_path: Path) -> None:
    """What came after the spans were read is still to be written."""
    spool = Spool(tmp_path)
    first, second = (list(of_otlp(json.loads(body(chat(n))))) for n in (2, 3))
    spool.put(first)
    (trace,) = spool.due(quiet=0.0, rooted=0.0, longest=0.0)
    before = time.time()
    spool.put(second)
    spool.written([trace], before)
    assert spool.due(quiet=0.0, rooted=0.0, longest=0.0) == [trace]
    spool.written([trace], time.time() + 1)
    assert spool.due(quiet=0.0, rooted=0.0, longest=0.0) == []
    spool.close()


def test_a_time_waits_for_the_spans_that_are_being_kept(tmp_path: Path) -> None:
    """Spans whose time is before the one at which a session was read were there when it was read: none is forgotten between the two."""
    inside, asked = threading.Event(), threading.Event()
    ends: list[float] = []

    def slowly() -> Iterator[Any]:
        yield from of_otlp(json.loads(body(chat(2))))
        inside.set()
        asked.wait(60)
        time.sleep(0.2)
        ends.append(time.time())

    def keep() -> None:
        spool = Spool(tmp_path)
        spool.put(slowly())
        spool.close()

    reading = Spool(tmp_path)
    keeping = threading.Thread(target=keep)
    keeping.start()
    assert inside.wait(60)
    asked.set()
    before = reading.now()
    keeping.join()
    (trace,) = reading.due(quiet=0.0, rooted=0.0, longest=0.0)
    assert before >= ends[0] and len(reading.sessions([trace])[0][1]) == 1
    reading.close()


def test_a_flush_waits_for_a_session_that_is_being_written(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who flushes finds what came before it in the store, also where the collector had begun to write it."""
    began, go = threading.Event(), threading.Event()
    told: list[str] = []
    add = Collector._add

    def slowly(self: Collector, *given: Any) -> None:
        if not began.is_set():
            began.set()
            go.wait(60)
            told.append("written")
        add(self, *given)

    def flush() -> None:
        collector.flush()
        told.append("flushed")

    monkeypatch.setattr(Collector, "_add", slowly)
    with Collector(store, quiet=0.0) as collector:
        collector.put(of_otlp(json.loads(body(chat(2)))))
        assert began.wait(60)
        flushing = threading.Thread(target=flush)
        flushing.start()
        flushing.join(2)  # it ends in this time if it does not wait
        go.set()
        flushing.join()
        assert told == ["written", "flushed"] and len(list(store.trajectories())) == 1


@pytest.mark.parametrize("binary", [False, True])
def test_all_of_a_span_is_kept(store: odograph.Store, binary: bool) -> None:
    """What no field of a record holds stands beside it: attributes of nobody, links, the kind, the state, and the library's version."""
    sent = json.loads(body(chat(2, own="mine")))
    scope = sent["resourceSpans"][0]["scopeSpans"][0]
    scope["scope"]["version"] = "1.2"
    link = {"traceId": f"{5:032x}", "spanId": f"{6:016x}", "attributes": [{"key": "why", "value": {"stringValue": "retry"}}]}
    beside = {"kind": 3, "traceState": "a=b", "flags": 257, "droppedLinksCount": 4}
    scope["spans"][0] |= {**beside, "links": [link]}
    with collecting(store) as (_, (url,)):
        if binary:
            for one in (scope["spans"][0], link):  # protobuf's own JSON has ids in base64
                for name in ("traceId", "spanId", "parentSpanId"):
                    one |= {name: base64.b64encode(bytes.fromhex(one[name])).decode()} if name in one else {}
            message = json_format.ParseDict(sent, ExportTraceServiceRequest())
            assert post(url, "/v1/traces", message.SerializeToString(), "application/x-protobuf")[0] == 200
        else:
            assert post(url, "/v1/traces", json.dumps(sent).encode())[0] == 200
    ((call,),) = (t.llm_calls for t in store.trajectories())
    kept = call.extra["span"]
    assert (kept["parent"], kept["attributes"]["own"], kept["scope_version"]) == (f"{1:016x}", "mine", "1.2")
    assert kept["more"] == {
        **beside,
        "links": [{**link, "traceId": f"{5:032x}", "spanId": f"{6:016x}", "attributes": {"why": "retry"}}],
    }
