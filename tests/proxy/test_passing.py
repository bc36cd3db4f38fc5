"""The proxy passes everything on as it came, and keeps an exact copy of the calls of models."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import socket
import sys
import threading
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest
from google import genai

import odograph
from odograph import dialects
from odograph.proxy.address import Address
from odograph.proxy.recording import Recording
from odograph.proxy.server import Limits
from odograph.proxy.service import Proxy
from tests.llm_server import Answer, LLMServer
from tests.proxy.wire import END, Wire, chat_body, chat_chunk, chunk, events, head_of, json_answer
from tests.waiting import until

CHAT = b'{"model": "m",  "messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9"}]}'


def raw(url: str, data: bytes) -> bytes:
    """Sends bytes and reads until the server closes."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port)) as client:
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(65536), b""))


def post(url: str, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    place = urlsplit(url)
    client = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    client.request("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = client.getresponse()
    data = answer.read()
    client.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data


def one(store: odograph.Store) -> Any:
    (t,) = store.trajectories()
    return t


def test_bytes_and_headers_are_those_of_the_client(store: odograph.Store) -> None:
    """The upstream gets the body byte for byte, the headers with the client's spelling and order, and none of the proxy's own."""
    with Wire(lambda head, body: json_answer(b'{ "odd":1,"choices":[] }', X_Odd="yes")) as up, Proxy(store, [up.url]) as proxy:
        sent = (
            b"POST /v1/chat/completions?beta=a%%2Fb HTTP/1.1\r\nHost: localhost\r\nX-Mixed-Case: A\r\nauthorization: Bearer k\r\n"
            b"x-odograph-run: mine\r\nConnection: close, x-hop\r\nX-Hop: 1\r\ncontent-type: application/json\r\nx-mixed-case: B\r\n"
            b"content-length: %d\r\n\r\n" % len(CHAT)
        ) + CHAT
        answer = raw(proxy.url, sent)
    head, body = up.got[0]
    assert body == CHAT
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions?beta=a%2Fb HTTP/1.1"
    host = up.url.removeprefix("http://")
    assert [line for line in lines[1:] if line] == [
        f"Host: {host}",
        "X-Mixed-Case: A",
        "authorization: Bearer k",
        "content-type: application/json",
        "X-Mixed-Case: B",
        f"content-length: {len(CHAT)}",
    ]
    got, data = answer.split(b"\r\n\r\n", 1)
    assert data == b'{ "odd":1,"choices":[] }'
    assert sorted(got.decode().split("\r\n")[1:]) == [
        "Connection: close",
        "X-Odd: yes",
        "content-length: 24",
        "content-type: application/json",
    ]
    assert one(store).llm_calls[0].request == json.loads(CHAT)


def test_every_dialect_by_its_own_sdk(store: odograph.Store) -> None:
    """OpenAI's, Anthropic's and Google's SDKs get their answers, streamed or not, and each call is recorded as it crossed the wire."""
    with LLMServer([Answer(text="four")]) as server, Proxy(store, [server.url]) as proxy:
        o = openai.OpenAI(base_url=proxy.url + "/t/openai/v1", api_key="k", max_retries=0)
        user: Any = [{"role": "user", "content": "2+2"}]
        assert o.chat.completions.create(model="m", messages=user).choices[0].message.content == "four"
        streamed = o.chat.completions.create(model="m", messages=user, stream=True)
        assert "".join(e.choices[0].delta.content or "" for e in streamed if e.choices) == "four"
        assert o.responses.create(model="m", input="2+2").output_text == "four"
        with o.responses.stream(model="m", input="2+2") as stream:
            assert stream.get_final_response().output_text == "four"
        a = anthropic.Anthropic(base_url=proxy.url + "/t/anthropic", api_key="k", max_retries=0)
        with a.messages.stream(model="c", max_tokens=9, messages=user) as messages:
            assert messages.get_final_text() == "four"
        sent, answered = list(server.bodies), list(server.responses)
    gemini = {"candidates": [{"content": {"role": "model", "parts": [{"text": "four"}]}, "finishReason": "STOP"}]}
    with Wire(lambda head, body: json_answer(gemini)) as up, Proxy(store, [up.url]) as proxy:
        g = genai.Client(api_key="k", http_options={"base_url": proxy.url + "/t/google"})
        assert g.models.generate_content(model="g-1", contents="2+2").text == "four"
    calls = {t.metadata["run"]: t.llm_calls for t in store.trajectories()}
    assert [c.dialect for c in calls["openai"]] == ["openai.chat", "openai.chat", "openai.responses", "openai.responses"]
    assert [c.dialect for c in calls["anthropic"]] == ["anthropic.messages"]
    assert [(c.dialect, c.model) for c in calls["google"]] == [("gemini", "g-1")]
    wire = [*calls["openai"], *calls["anthropic"]]
    assert all(c.origin == "wire" and c.error is None and c.text == "four" for c in [*wire, *calls["google"]])
    assert [c.request for c in wire] == [json.loads(b) for b in sent]
    assert wire[0].response == json.loads(answered[0])
    assert len(wire[1].events) == answered[1].count(b"data: {")


def test_generate_of_vllm_and_sglang_and_completions(store: odograph.Store) -> None:
    """Token-in, token-out calls are recorded with their ids and logprobs."""
    answers = {
        b"/inference/v1/generate": {"choices": [{"index": 0, "token_ids": [7, 8], "finish_reason": "stop"}]},
        b"/v1/completions": {"choices": [{"index": 0, "text": "x", "finish_reason": "stop", "token_ids": [9]}]},
        b"/generate": {
            "text": "x",
            "output_ids": [5],
            "meta_info": {"output_token_logprobs": [[-0.5, 5, "x"]], "finish_reason": {"type": "stop"}},
        },
    }
    with Wire(lambda head, body: json_answer(answers[head.split()[1]])) as up, Proxy(store, [up.url]) as proxy:
        assert post(proxy.url, "/t/r/generate", b'{"input_ids":[1,2],"return_logprob":true}')[0] == 200
        assert post(proxy.url, "/t/r/inference/v1/generate", b'{"token_ids":[1,2,3]}')[0] == 200
        assert post(proxy.url, "/t/r/v1/completions", b'{"model":"m","prompt":[1,2]}')[0] == 200
    calls = one(store).llm_calls
    assert [(c.prompt_token_ids, c.choices[0].token_ids) for c in calls] == [([1, 2], [5]), ([1, 2, 3], [7, 8]), ([1, 2], [9])]
    assert calls[0].choices[0].logprobs == [-0.5]


def test_a_stream_is_live_both_ways(store: odograph.Store) -> None:
    """Each event reaches the client before the upstream sends the next one, and each piece of a body before the client sends the next."""
    come, gone = threading.Event(), threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        first, *rest = events([chat_chunk("Pa"), chat_chunk("ris", "stop")])
        yield head_of(None, "text/event-stream") + chunk(first)
        come.wait()
        for event in rest:
            yield chunk(event)
        yield END
        gone.set()

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        client = openai.OpenAI(base_url=proxy.url + "/v1", api_key="k")
        stream = iter(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}], stream=True))
        assert next(stream).choices[0].delta.content == "Pa"
        come.set()
        assert next(stream).choices[0].delta.content == "ris"
        gone.wait()
        place = urlsplit(proxy.url)
        with socket.create_connection((place.hostname, place.port)) as slow:
            slow.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"one"))
            before = len(up.got)
            until(lambda: up.heads == 2)  # the upload has begun while the client still sends
            assert len(up.got) == before
            slow.sendall(chunk(b"two") + END)
            until(lambda: len(up.got) > before)
    assert up.got[-1][1] == b"onetwo"
    assert one(store).llm_calls[0].text == "Paris"


def test_a_client_that_waits_to_be_told_to_send_is_told(store: odograph.Store, capfd: pytest.CaptureFixture[str]) -> None:
    """`Expect: 100-continue`, as curl sends it with large bodies. What is no HTTP gets status 400, without a traceback."""
    with Wire(lambda head, body: json_answer(chat_body("hi"))) as up, Proxy(store, [up.url]) as proxy:
        for lines, status in (
            (f"content-length: {len(CHAT)}\r\nexpect: 100-continue", 100),
            ("content-length: 1\r\n" * 2 + "x: 1", 400),
        ):
            with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), 5) as client:
                client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n\r\n".encode())
                assert client.recv(1000).split()[1] == str(status).encode()
                if status == 100:
                    client.sendall(CHAT)
                    assert client.recv(1000).split()[1] == b"200"
        assert len(up.got) == 1 and b"expect" not in up.got[0][0].lower()
    assert one(store).llm_calls[0].text == "hi" and "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("status", ["500 Internal Server Error", "204 No Content"])
def test_an_answer_without_a_body_ends_with_its_head(store: odograph.Store, status: str) -> None:
    """The client sees the end of such an answer in its head: so the head waits until the call is on record."""
    with Wire(lambda head, body: [head_of(0, status=status)]) as up, Proxy(store, [up.url]) as proxy:
        gate = threading.Event()
        proxy._recording._submit(gate.wait)
        place = urlsplit(proxy.url)
        with socket.create_connection((place.hostname, place.port)) as client:
            client.sendall(
                b"POST /t/r/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(CHAT) + CHAT
            )
            until(lambda: proxy._recording._ended)
            try:
                with pytest.raises(BlockingIOError):
                    client.recv(1, socket.MSG_DONTWAIT)
            finally:
                gate.set()
            assert client.recv(1000).split()[1] == status[:3].encode()
            assert len(one(store).llm_calls) == 1


def test_a_client_of_http_1_0_is_not_told_to_send(store: odograph.Store) -> None:
    """It would take the interim answer for the answer."""
    with Wire(lambda head, body: json_answer(chat_body("hi"))) as up, Proxy(store, [up.url]) as proxy:
        head = f"POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {len(CHAT)}"
        assert raw(proxy.url, head.encode() + b"\r\n\r\n" + CHAT).startswith(b"HTTP/1.0 200")
    assert one(store).llm_calls[0].text == "hi"


def test_a_call_in_another_spelling_of_its_path_is_recorded(store: odograph.Store) -> None:
    """Some clients encode the colon of Gemini's paths, and servers undo that: the path passes as it was spelt, and is known."""
    with Wire(lambda head, body: json_answer(chat_body("hi"))) as up, Proxy(store, [up.url]) as proxy:
        for path in ("/v1/chat/%63ompletions", "/v1beta/models/g%3AgenerateContent"):
            assert post(proxy.url, path, CHAT)[0] == 200
    assert [head.split()[1] for head, _ in up.got] == [b"/v1/chat/%63ompletions", b"/v1beta/models/g%3AgenerateContent"]
    assert [c.dialect for t in store.trajectories() for c in t.llm_calls] == ["openai.chat", "gemini"]


def test_a_request_that_never_was_whole_is_no_call(store: odograph.Store) -> None:
    """A client that goes away while it sends: no model was asked, and nothing is recorded."""
    with Wire(lambda head, body: json_answer(chat_body("hi"))) as up, Proxy(store, [up.url]) as proxy:
        place = urlsplit(proxy.url)
        for size in (0, 1, len(CHAT) - 1):
            with socket.create_connection((place.hostname, place.port)) as client:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(CHAT)}\r\n\r\n"
                client.sendall(head.encode() + CHAT[:size])
        assert post(proxy.url, "/v1/chat/completions", CHAT)[0] == 200
    assert len(up.got) == 1 and len(one(store).llm_calls) == 1


def test_the_end_of_a_stream_leaves_little_to_do(store: odograph.Store) -> None:
    """Events are delta-coded and the request is taken apart while the stream runs. So of the work of the record, counted in calls
    of Python functions, less than half is left for the end, when the client waits for it."""

    def left(ahead: bool) -> int:
        call = recording.begin(dialect, "/v1/chat/completions", Address(run="r"), {}, 1 << 20)
        call.copied(CHAT)
        call.answered(200, {"content-type": "text/event-stream"})
        for event in events([chat_chunk(f"{n} ") for n in range(200)] + [chat_chunk(None, "stop")]):
            call.took(event)
            if ahead:
                call.look()
                call.fold()
        count = 0

        def counting(frame: Any, event: str, arg: Any) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(counting)
        try:
            call.finish()
        finally:
            sys.setprofile(None)
        return count

    recording, dialect = Recording(store), dialects.of_path("/v1/chat/completions")
    assert dialect is not None
    left(True)
    assert left(True) < left(False) / 2
    recording.close()
    calls = one(store).llm_calls
    assert len({c.text for c in calls}) == 1 and calls[0].events == calls[1].events == calls[2].events


def test_unknown_paths_and_head_pass_unrecorded(store: odograph.Store) -> None:
    """What is no call of a model passes and leaves no record: other paths, other methods, and the look whether a base URL is there."""
    with (
        Wire(lambda head, body: [head_of(5, x_a="b")] if head.startswith(b"HEAD") else [head_of(5) + b"fine!"]) as up,
        Proxy(store, [up.url]) as proxy,
    ):
        place = urlsplit(proxy.url)
        client = http.client.HTTPConnection(place.hostname or "", place.port)
        seen = []
        for method, path in (
            ("GET", "/v1/models"),
            ("HEAD", "/v1/models"),
            ("DELETE", "/v1/files/1"),
            ("POST", "/v1/embeds"),
            ("HEAD", "/t/run"),
            ("GET", "/t/run/"),
        ):
            client.request(method, path)
            answer = client.getresponse()
            seen.append((answer.status, answer.read(), answer.getheader("content-length")))
        client.close()
    assert seen[:4] == [(200, b"fine!", "5"), (200, b"", "5"), (200, b"fine!", "5"), (200, b"fine!", "5")]
    assert [s[0] for s in seen[4:]] == [200, 200]
    assert [head.split()[0] for head, _ in up.got] == [b"GET", b"HEAD", b"DELETE", b"POST"]
    assert up.connections == 1  # kept alive
    assert len(store) == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_compressed_bodies_pass_as_they_are_and_are_decoded_for_the_record(store: odograph.Store, encoding: str) -> None:
    """A compressed request and a compressed stream cross unchanged; the record has what they say, and the stream's end is seen."""
    import zlib

    import brotli
    import zstandard

    def packed(data: bytes) -> bytes:
        if encoding == "gzip":
            return gzip.compress(data)
        if encoding == "deflate":
            return zlib.compress(data)
        return brotli.compress(data) if encoding == "br" else zstandard.ZstdCompressor().compress(data)

    whole = packed(b"".join(events([chat_chunk("Pa"), chat_chunk("ris", "stop")])))
    with Wire(lambda head, body: [head_of(None, "text/event-stream", content_encoding=encoding) + chunk(whole) + END]) as up:
        with Proxy(store, [up.url]) as proxy:
            sent = packed(CHAT)
            status, headers, data = post(
                proxy.url, "/v1/chat/completions", sent, content_encoding=encoding, accept_encoding=encoding
            )
    assert (status, data, headers["content-encoding"]) == (200, whole, encoding)
    assert up.got[0][1] == sent
    (call,) = one(store).llm_calls
    assert (call.request, call.text, call.error) == (json.loads(CHAT), "Paris", None)


def test_early_closing_clients_lose_nothing(store: odograph.Store) -> None:
    """A client that stops at `[DONE]` has a complete call on record; one that stops in the middle, what came, and the upstream stops."""
    go = threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        yield head_of(None, "text/event-stream")
        if b"endless" in body:
            yield chunk(events([chat_chunk("begun")], done=False)[0])
            while True:
                yield chunk(events([chat_chunk("...")], done=False)[0])
                time.sleep(0.02)
        for event in events([chat_chunk("Pa"), chat_chunk("ris", "stop")]):
            yield chunk(event)
        go.wait()  # the connection stays open behind [DONE]
        yield END

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        place = urlsplit(proxy.url)
        for question, last in (("short", b"[DONE]\n\n"), ("endless", b"begun")):
            body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": question}]}).encode()
            with socket.create_connection((place.hostname, place.port)) as client:
                client.sendall(
                    b"POST /t/%b/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
                    % (question.encode(), len(body))
                    + body
                )
                got = b""
                while last not in re.sub(rb"\r\n[0-9a-f]+\r\n", b"", got):  # an event may come in several chunks
                    piece = client.recv(4096)
                    assert piece, got
                    got += piece
            if question == "short":  # it is in the store when the client sees the end
                assert next(store.trajectories()).llm_calls[0].text == "Paris"
        up.broken.wait()
        go.set()
        until(lambda: len(store) == 2)
    short, endless = store.trajectories()
    assert (short.llm_calls[0].text, short.llm_calls[0].error, short.status) == ("Paris", None, "completed")
    assert endless.llm_calls[0].text.startswith("begun") and endless.llm_calls[0].error == "stream abandoned"


def test_what_fails_upstream_is_a_call_with_an_error(store: odograph.Store) -> None:
    """An upstream that is not there is a 502 in one sentence, and a stream that breaks is recorded with what came."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with Proxy(store, [f"http://127.0.0.1:{port}"]) as proxy:
        status, _, data = post(proxy.url, "/t/a/v1/chat/completions", CHAT)
    assert status == 502 and "can't be reached" in json.loads(data)["error"]["message"]

    def script(head: bytes, body: bytes) -> Any:
        yield head_of(None, "text/event-stream") + chunk(events([chat_chunk("half")], done=False)[0])
        raise OSError

    def short(head: bytes, body: bytes) -> Any:
        yield head_of(500) + b'{"id":'
        raise OSError

    for name, cut in (("b", script), ("c", short)):
        with Wire(cut) as up, Proxy(store, [up.url]) as proxy:
            with pytest.raises((http.client.IncompleteRead, ConnectionError)) as broken:
                post(proxy.url, f"/t/{name}/v1/chat/completions", CHAT)
            assert b"HTTP/1.1" not in getattr(broken.value, "partial", b"")  # no second answer inside of the first
    with Wire(lambda head, body: json_answer(chat_body(), x="\x1b[31m")) as up, Proxy(store, [up.url]) as proxy:
        status, _, data = post(proxy.url, "/t/d/v1/chat/completions", CHAT)
    assert status == 502 and "a header of the answer has a control character" in json.loads(data)["error"]["message"]
    a, b, c, d = (t.llm_calls[0] for t in store.trajectories())
    assert a.response is None and a.error is not None and d.error is not None
    assert b.text == "half" and b.error is not None and c.error is not None


@pytest.mark.parametrize("tokens", [False, True])
def test_an_answer_that_breaks_before_its_end_has_its_head(store: odograph.Store, tokens: bool) -> None:
    """A head may go with the first bytes. If nothing can be passed on of these, the client still gets the head: a client that gets
    nothing at all takes the call for one that never came, and may send the call again."""

    def script(head: bytes, body: bytes) -> Any:
        yield head_of(500) + b'{"id":'
        raise OSError

    with Wire(script) as up, Proxy(store, [up.url], tokens=tokens) as proxy:
        about = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(CHAT)
        got = raw(proxy.url, about + CHAT)
    assert (len(up.got), got.startswith(b"HTTP/1.1 200 ")) == (1, True)


def test_an_end_with_a_comment_behind_it_waits_for_its_record(store: odograph.Store) -> None:
    """Who sees something of the last piece finds the call recorded, also where a comment comes behind `[DONE]`."""
    stream = b"".join(events([chat_chunk("Paris"), chat_chunk(None, "stop")])) + b": bye\n\n"
    with (
        Wire(lambda head, body: [head_of(None, "text/event-stream") + chunk(stream) + END]) as up,
        Proxy(store, [up.url]) as proxy,
        socket.create_connection((urlsplit(proxy.url).hostname, urlsplit(proxy.url).port)) as client,
    ):
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
        )
        got = b""
        while b'"stop"' not in got:
            got += client.recv(65536)
        assert proxy.recorded == 1


#: Where an API is asked, a first event that is the last, and one that is not.
_FIRST = [
    ("/v1/chat/completions", '{"error":{"message":"no"}}', '{"id":"c","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}'),
    ("/v1/chat/completions", "[DONE]", '{"id":"c","error": null,"choices":[]}'),
    ("/v1/chat/completions", '{"\\u0065rror":{"message":"no"}}', '{"id":"c","choices":[]}'),
    ("/v1/messages", '{"type":"message_stop"}', '{"type":"message_start","message":{"stop_reason":null}}'),
    ("/v1/messages", '{"type":"error","error":{}}', '{"type":"ping"}'),
    ("/v1/responses", '{"type":"response.failed","response":{}}', '{"type":"response.created","response":{"error":null,"incomplete_details":null}}'),
    ("/v1/responses", '{"type":"response.incomplete","response":{}}', '{"type":"response.in_progress","response":{}}'),
    ("/v1beta/interactions", '{"event_type":"interaction.complete"}', '{"event_type":"interaction.start"}'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "last", "other"), _FIRST)
def test_the_first_event_waits_for_its_record_where_it_is_the_last(
    store: odograph.Store, path: str, last: str, other: str
) -> None:
    """The client gets a first event before anything else is done, unless that ends the stream, in whatever dialect: then the
    client gets nothing before the call is in the store."""
    goes = threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        event = json.loads(body)["event"]
        yield head_of(None, "text/event-stream") + chunk(b"data: " + event.encode() + b"\n\n")
        goes.wait(60)
        yield END

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        place = urlsplit(proxy.url)

        def asked(event: str) -> socket.socket:
            client = socket.create_connection((place.hostname, place.port))
            body = json.dumps({"model": "m", "stream": True, "event": event, "messages": [], "input": "x"}).encode()
            head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body))
            client.sendall(head + body)
            return client

        held = threading.Event()
        proxy._recording._submit(held.wait, 60)  # nothing is recorded meanwhile
        with asked(last) as ended, asked(other) as running:
            got = b""
            while other.encode() not in got:
                got += running.recv(65536)
            until(lambda: bool(proxy._recording._ended))
            ended.setblocking(False)
            got = b""
            with suppress(BlockingIOError):
                got = ended.recv(65536)  # at most the head
            assert b"data:" not in got
            held.set()
            ended.setblocking(True)
            while last.encode() not in got:
                got += ended.recv(65536)
            assert proxy.recorded == 1
            goes.set()


def test_a_small_call_alone_wakes_no_thread(store: odograph.Store) -> None:
    """It is recorded at once, unless the thread has something to do, which comes first. A large one never keeps others waiting."""
    goes = threading.Event()

    def asked(size: int) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "x" * size}]}
        post(proxy.url, "/t/a/v1/chat/completions", json.dumps(body).encode())

    with Wire(lambda head, body: json_answer(chat_body())) as up, Proxy(store, [up.url]) as proxy:
        recording = proxy._recording
        recording._thread.submit(goes.wait, 60)  # of which the recording does not know
        asked(10)
        assert proxy.recorded == 1
        large = threading.Thread(target=asked, args=(1 << 17,))
        large.start()
        until(lambda: bool(recording._ended))
        goes.set()
        large.join()
        goes.clear()
        recording._submit(goes.wait, 60)
        small = threading.Thread(target=asked, args=(10,))
        small.start()
        until(lambda: bool(recording._ended))
        goes.set()
        small.join()
    assert len(one(store).llm_calls) == 3


def test_a_client_that_goes_before_the_first_event_leaves_a_call_with_its_status(store: odograph.Store) -> None:
    """The policy that changed while the upstream thought is that of all its tokens."""
    sent, goes = threading.Event(), threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        sent.set()
        goes.wait(60)
        yield head_of(None, "text/event-stream")
        up.broken.wait(60)

    with Wire(script) as up, Proxy(store, [up.url], policy=1) as proxy:
        place = urlsplit(proxy.url)
        with socket.create_connection((place.hostname, place.port)) as client:
            body = b'{"model":"m","stream":true,"messages":[]}'
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            sent.wait(60)
            proxy.set_policy(2)
            goes.set()
            client.recv(65536)
        until(lambda: proxy.recorded == 1)
    (call,) = one(store).llm_calls
    assert (call.status_code, call.policy_version, call.response) == (200, 2, None)


def test_large_bodies_pass_and_small_copies_are_kept(store: odograph.Store) -> None:
    """A body beyond the copy's limit passes whole; the record says how large it was. One beyond the body's limit is refused."""
    big = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 3_000_000 + b'"}]}'
    limits = Limits(body=4_000_000, copy=1_000_000)
    with Wire(lambda head, body: json_answer(chat_body("y" * 2_000_000))) as up, Proxy(store, [up.url], limits=limits) as proxy:
        status, _, data = post(proxy.url, "/v1/chat/completions", big)
        assert (status, len(data) > 2_000_000, up.got[0][1]) == (200, True, big)
        assert post(proxy.url, "/v1/chat/completions", b"x" * 4_000_001)[0] == 413
        assert raw(
            proxy.url,
            b"POST /x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"x" * 4_000_001) + END,
        ).startswith(b"HTTP/1.1 413")
    (call,) = one(store).llm_calls
    assert call.request is None and "3,000,055 bytes" in (call.extra or {})["not_kept"]
    assert call.response is None and "more than 1,000,000 bytes" in call.error


def test_a_bomb_of_zeros_is_not_unpacked(store: odograph.Store) -> None:
    """A few compressed bytes that stand for gigabytes pass, and no more than the limit of them is kept; the record says so."""
    bomb = gzip.compress(b"0" * 50_000_000)
    with (
        Wire(lambda head, body: [head_of(len(bomb), content_encoding="gzip") + bomb]) as up,
        Proxy(store, [up.url], limits=Limits(copy=1_000_000)) as proxy,
    ):
        assert post(proxy.url, "/v1/chat/completions", bomb, content_encoding="gzip")[2] == bomb
    (call,) = one(store).llm_calls
    assert call.response is None and "more than" in call.error
    assert call.request is None and "has at least" in (call.extra or {})["not_kept"]


def test_a_background_response_is_one_call(store: odograph.Store) -> None:
    """A response that is made in the background and fetched later is one call, with its answer."""
    ready = {
        "id": "resp_9",
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "late"}]}],
    }
    waits = {"id": "resp_9", "object": "response", "status": "queued", "output": []}
    with (
        Wire(lambda head, body: json_answer(waits if head.startswith(b"POST") else ready)) as up,
        Proxy(store, [up.url]) as proxy,
    ):
        client = openai.OpenAI(base_url=proxy.url + "/t/r/v1", api_key="k")
        client.responses.create(model="m", input="q", background=True)
        assert client.responses.retrieve("resp_9").output_text == "late"
    (call,) = one(store).llm_calls
    assert call.text == "late" and call.request["background"] is True


def test_kept_connections_that_the_upstream_closed_are_no_error(store: odograph.Store, tmp_path: Path) -> None:
    """An upstream closes a kept connection; the next call goes out on a new one."""
    first = True

    def script(head: bytes, body: bytes) -> Any:
        nonlocal first
        yield from json_answer(chat_body())
        if first:
            first = False
            raise OSError

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        assert post(proxy.url, "/t/a/v1/chat/completions", CHAT)[0] == 200
        assert post(proxy.url, "/t/a/v1/chat/completions", CHAT)[0] == 200
    assert up.connections == 2


@pytest.mark.parametrize("assembly", [lambda: 1 / 0, lambda: 1, lambda: SimpleNamespace(add=lambda events: 1 / 0)])
def test_a_dialect_that_puts_nothing_together_costs_no_call(store: odograph.Store, assembly: Any) -> None:
    """A stranger's `assembly` fails, or is none: the events are put together at the end."""
    recording = Recording(store)
    chat = dialects.get("openai.chat")
    odd: Any = SimpleNamespace(**{**vars(chat), "assembly": assembly})
    call = recording.begin(odd, "/v1/chat/completions", Address(run="odd"), {}, 1 << 30)
    call.copied(CHAT)
    call.answered(200, {"content-type": "text/event-stream"})
    for piece in events([chat_chunk("a"), chat_chunk("b"), chat_chunk(None, "stop")]):
        call.took(piece)
        call.fold()
    call.finish()
    recording.close()
    assert one(store).llm_calls[0].text == "ab"


def test_a_long_stream_is_kept_in_little_memory(store: odograph.Store) -> None:
    """Events that came are kept delta-coded: a long answer needs a small multiple of its own bytes, and is exact, also where the
    policy changes in the middle of it."""
    recording = Recording(store)
    dialect = dialects.of_path("/v1/chat/completions")
    assert dialect is not None
    call = recording.begin(dialect, "/v1/chat/completions", Address(run="long"), {}, 1 << 30)
    call.copied(json.dumps({"model": "m", "stream": True, "messages": []}).encode())
    call.policy = 3
    values = [chat_chunk(f"w{n} ", token_ids=[n]) for n in range(6_000)] + [chat_chunk(None, "stop")]
    pieces = events(values)
    tracemalloc.start()
    call.answered(200, {"content-type": "text/event-stream"})
    for n, piece in enumerate(pieces):
        call.took(bytes(bytearray(piece)))
        call.fold()
        if n == 4_000:
            call.changed(7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    call.done = True
    asyncio.run(recording.finish(call))
    recording.close()
    (found,) = one(store).llm_calls
    assert found.events == values and found.error is None and found.choices[0].text == "".join(f"w{n} " for n in range(6_000))
    assert found.choices[0].token_ids == list(range(6_000)) and found.tokens[0].versions == [(0, 3), (4_001, 7)]
    assert peak < 3 * sum(map(len, pieces)), peak
