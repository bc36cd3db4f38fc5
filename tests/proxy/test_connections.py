"""Connections to upstreams: what HTTP an upstream may speak, how a body waits for its reader, when a connection is used again."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import odograph
from odograph.proxy import connections
from odograph.proxy.service import Proxy
from tests.proxy.test_passing import CHAT, one, post, raw
from tests.proxy.wire import END, Wire, chat_body, chunk, head_of, json_answer
from tests.waiting import until

BODY = json.dumps(chat_body()).encode()
ASK = b"POST /t/a/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
    len(CHAT),
    CHAT,
)


def unchunked(data: bytes) -> bytes:
    found, rest = b"", data
    while size := int(rest.partition(b"\r\n")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        found, rest = found + rest[:size], rest[size + 2 :]
    return found


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server whose every connection a function serves, in a thread; its URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                threading.Thread(target=run, args=(client,), daemon=True).start()

    def run(client: socket.socket) -> None:
        with suppress(OSError), client:
            serve(client)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", *json_answer(chat_body())],
        [head_of(len(BODY), **{f"x-{n}": "v" * 100 for n in range(300)}) + BODY],
        [head_of(len(BODY)).replace(b"\r\n\r\n", b"\r\nx-long: a\r\n b\r\n\r\n") + BODY],
        [head_of(len(BODY)).replace(b"\r\n", b"\n") + BODY],
        [head_of(len(BODY), status="200") + BODY],
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + BODY],
        [b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + BODY[:9], BODY[9:]],
        [head_of(None) + chunk(BODY[:9]), chunk(BODY[9:]) + b"0\r\nx-trailer: v\r\n\r\n"],
        [bytes((byte,)) for byte in head_of(None) + chunk(BODY) + END],
    ],
    ids=["interim", "300 headers", "folded", "bare LF", "no reason", "to the close", "1.0", "trailer", "byte by byte"],
)
def test_every_form_of_an_answer_passes(store: odograph.Store, answer: list[bytes]) -> None:
    """An answer passes, and is recorded whole, in whatever form HTTP allows."""

    def script(head: bytes, body: bytes) -> Iterator[bytes]:
        yield from answer
        if b"content-length" not in answer[-1] and b"chunked" not in b"".join(answer) and b"content-length" not in answer[0]:
            raise OSError  # the end of the body is that of the connection

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        head, _, data = raw(proxy.url, ASK).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"link" not in head
        assert (data if b"content-length" in head.lower() else unchunked(data)) == BODY
        assert head.count(b"x-") == sum(line.startswith(b"x-") for line in b"".join(answer).partition(b"{")[0].split(b"\n"))
    assert one(store).llm_calls[0].response == chat_body()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nx: a\x01b\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"v" * (2 << 20) + b"\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["no HTTP", "two lengths", "upgrade", "control character", "2 MB of head"],
)
def test_what_is_no_answer_is_one_sentence(store: odograph.Store, answer: bytes) -> None:
    """An upstream that speaks no HTTP costs one call, which says so, and neither the client nor the next call."""

    def serve(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(answer)
        client.recv(65536)  # until the proxy lets go

    with serving(serve) as url, Proxy(store, [url]) as proxy:
        status, _, data = post(proxy.url, "/t/a/v1/chat/completions", CHAT)
        assert status == 502
        said = json.loads(data)["error"]["message"]
        assert "answer" in said or "protocol" in said
    assert said.partition(": ")[2] in str(one(store).llm_calls[0].error)


def test_an_answer_may_come_before_the_request_is_whole(store: odograph.Store) -> None:
    """An upstream refuses a body by its head. The client has the answer, and the connection, in which the rest of the body would
    be taken for a request, is used no more."""
    connected: list[int] = []

    def serve(client: socket.socket) -> None:
        connected.append(1)
        client.recv(64)
        client.sendall(head_of(3, status="413 Too Large") + b"big")
        while client.recv(1 << 20):
            pass

    with serving(serve) as url, Proxy(store, [url]) as proxy:
        for _ in range(2):
            place = urlsplit(proxy.url)
            with socket.create_connection((place.hostname, place.port)) as client:
                client.sendall(
                    b"POST /t/a/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
                )
                got = b""
                while not got.endswith(b"big"):
                    got += client.recv(65536)
        assert len(connected) == 2


def test_an_upstream_waits_for_a_reader_that_is_slow(store: odograph.Store) -> None:
    """What a client does not read is not fetched: the proxy holds a small part of an answer."""
    sent = [0]

    def serve(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(head_of(200 << 20, kind="application/octet-stream"))
        for _ in range(200):
            client.sendall(b"x" * (1 << 20))
            sent[0] += 1

    with serving(serve) as url, Proxy(store, [url]) as proxy:
        place = urlsplit(proxy.url)
        with socket.create_connection((place.hostname, place.port)) as client:
            client.sendall(b"GET /files/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
            seen: list[int] = []
            until(lambda: seen.append(sent[0]) or (len(seen) > 20 and len(set(seen[-20:])) == 1 and seen[-1] > 0))
            assert sent[0] < 100
            got = 0
            while got < 200 << 20:
                got += len(client.recv(1 << 20))


def test_a_connection_that_nobody_uses_is_closed(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are used again while they are young, and closed when they were not used for a while."""
    monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.2)
    opened: list[int] = []
    closed: list[int] = []

    def serve(client: socket.socket) -> None:
        opened.append(1)
        while client.recv(65536):
            client.sendall(b"".join(json_answer(chat_body())))
        closed.append(1)

    with serving(serve) as url, Proxy(store, [url]) as proxy:
        assert post(proxy.url, "/t/a/v1/chat/completions", CHAT)[0] == 200
        until(lambda: len(closed) == 1)
        monkeypatch.setattr(connections, "_IDLE_SECONDS", 600)
        for _ in range(5):
            assert post(proxy.url, "/t/a/v1/chat/completions", CHAT)[0] == 200
    assert len(opened) == 2


def test_bytes_that_nobody_asked_for_end_a_connection(store: odograph.Store) -> None:
    """What an upstream sends behind an answer is not the answer of another agent's request."""

    def script(head: bytes, body: bytes) -> Iterator[bytes]:
        yield b"".join(json_answer(chat_body())) + b"".join(json_answer(chat_body("stolen")))

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        for _ in range(3):
            assert json.loads(post(proxy.url, "/t/a/v1/chat/completions", CHAT)[2]) == chat_body()
    assert up.connections == 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl, which makes the certificate")
def test_an_upstream_over_tls(store: odograph.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An https:// upstream is asked over TLS, under its own name, and only if its certificate is trusted."""
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        f" -keyout {tmp_path}/k.pem -out {tmp_path}/c.pem",
        shell=True, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as secure:
            got = b""
            while CHAT not in got:
                got += secure.recv(65536)
            assert b"host: localhost:" in got.lower()
            secure.sendall(b"".join(json_answer(chat_body())))

    connections._tls.cache_clear()
    with serving(serve) as url:
        url = url.replace("http://127.0.0.1", "https://localhost")
        with Proxy(store, [url]) as proxy:
            status, _, data = post(proxy.url, "/t/a/v1/chat/completions", CHAT)
            assert status == 502 and "certificate" in json.loads(data)["error"]["message"]
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
        connections._tls.cache_clear()
        with Proxy(store, [url]) as proxy:
            assert raw(proxy.url, ASK).endswith(BODY)
    connections._tls.cache_clear()


def test_a_proxy_in_a_program_on_uvloop(store: odograph.Store) -> None:
    """The event loop of a program that embeds the proxy may be another than asyncio's own."""
    uvloop = pytest.importorskip("uvloop")

    async def run() -> None:
        proxy = Proxy(store, [up.url])
        await proxy.open()
        for _ in range(2):
            status, _, data = await asyncio.to_thread(post, proxy.url, "/t/a/v1/chat/completions", CHAT)
            assert (status, data) == (200, BODY)
        await proxy.aclose()

    with Wire(lambda head, body: json_answer(BODY)) as up:
        uvloop.run(run())
    assert up.connections == 1
    assert len(one(store).llm_calls) == 2
