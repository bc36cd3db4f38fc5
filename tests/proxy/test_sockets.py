"""Responses over a WebSocket through the proxy: passed on as they are, recorded with the history that they stand for."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
from aiohttp import web

import odograph
from odograph.proxy.service import Proxy
from tests.proxy.test_passing import one
from tests.proxy.wire import Wire, json_answer
from tests.waiting import until


def answer(id: str, *items: dict[str, Any]) -> list[dict[str, Any]]:
    response = {"id": id, "object": "response", "status": "completed", "output": list(items)}
    return [
        {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
        {"type": "response.completed", "response": response},
    ]


def text(words: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": words}]}


@contextmanager
def serving(*answers: Any, status: int | None = None) -> Iterator[tuple[str, list[str], list[Any]]]:
    """A server with a WebSocket: its URL, the messages that it got, and the headers of its handshakes. An answer is a list of events,
    or a function from the request to these."""
    got: list[str] = []
    heads: list[Any] = []
    ready, stop = threading.Event(), threading.Event()
    place: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        heads.append(dict(request.headers))
        if status is not None:
            return web.Response(status=status)
        script = iter(answers)
        ws = web.WebSocketResponse()
        ws.headers["X-Turn-State"] = "here"
        await ws.prepare(request)
        async for message in ws:
            got.append(message.data)
            found = next(script)
            for event in found(json.loads(message.data)) if callable(found) else found:
                await ws.send_str(json.dumps(event))
        return ws

    async def run() -> None:
        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        place.append(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}")  # type: ignore[union-attr]
        ready.set()
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    until(ready.is_set, thread)
    try:
        yield place[0], got, heads
    finally:
        stop.set()
        thread.join()


def test_codexs_session_over_one_socket(store: odograph.Store) -> None:
    """What is sent ahead is no call; an answer that goes on from another has the whole history in its record, and its tool's result."""
    call = {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": '{"cmd":"ls"}'}
    first = {"role": "user", "content": "list"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "a.txt"}

    async def talk(url: str) -> list[Any]:
        seen: list[Any] = []
        headers = {"authorization": "Bearer k", "session-id": "s", "thread-id": "s", "x-codex-window-id": "w"}
        async with aiohttp.ClientSession() as client, client.ws_connect(url + "/t/r/v1/responses", headers=headers) as ws:
            for sent in (
                {"generate": False, "input": [first]},
                {"input": [first], "tools": [{"type": "function", "name": "shell"}]},
                {"input": [output], "previous_response_id": "r1", "tools": [{"type": "function", "name": "shell"}]},
            ):
                await ws.send_json({"type": "response.create", "model": "m", **sent})
                seen += [await ws.receive_json(), await ws.receive_json()]
        return seen

    answers = [answer("r0"), answer("r1", call), answer("r2", text("one file"))]
    with serving(*answers) as (url, got, heads), Proxy(store, [url]) as proxy:
        assert asyncio.run(talk(proxy.url)) == [e for events in answers for e in events]
    assert (
        json.loads(got[2])["input"] == [output]
        and heads[0]["Authorization" if "Authorization" in heads[0] else "authorization"] == "Bearer k"
    )
    t = one(store)
    assert [c.request["input"] for c in t.llm_calls] == [[first], [first, call, output]]
    assert [[a.result for a in s.actions] for s in t.steps] == [["a.txt"], []]
    assert (t.llm_calls[1].text, t.agent, t.status) == ("one file", "codex", "completed")


def test_the_sdks_socket_and_a_call_that_is_cut(store: odograph.Store) -> None:
    """OpenAI's SDK works over the proxy; a call whose socket closes in the middle is recorded with what came."""
    begun = [{"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}]
    with serving(answer("r1", text("hi")), begun) as (url, _, _), Proxy(store, [url]) as proxy:
        client = openai.OpenAI(base_url=proxy.url + "/t/r/v1", api_key="k")
        with client.responses.connect() as connection:
            connection.response.create(model="m", input="q")
            assert [e.type for e in (connection.recv(), connection.recv())] == ["response.created", "response.completed"]
            connection.response.create(model="m", input="again")
            connection.recv()
    whole, cut = one(store).llm_calls
    assert (whole.text, whole.error, cut.error is None) == ("hi", None, False)


def test_an_upstream_without_sockets_is_a_426(store: odograph.Store) -> None:
    """An upgrade that the upstream answers with 404 is a 426 for the client, on which Codex goes on by POST at once; a 401 stays a 401."""

    async def status(url: str) -> int:
        async with aiohttp.ClientSession() as client:
            try:
                await client.ws_connect(url + "/v1/responses")
            except aiohttp.WSServerHandshakeError as error:
                return error.status
        return 101

    for said, got in ((404, 426), (401, 401)):
        with serving(status=said) as (url, _, _), Proxy(store, [url]) as proxy:
            assert asyncio.run(status(proxy.url)) == got


HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_an_answer_that_makes_no_socket_passes_as_it_is(store: odograph.Store) -> None:
    """What an upstream says of a handshake that it refuses reaches the client. A redirect leads the proxy nowhere: the client's key
    would go there."""
    elsewhere = Wire(lambda head, body: json_answer({}))
    answers = [
        (b"429 Slow down", b"retry-after: 7\r\ncontent-length: 4\r\nx-b: caf\xe9\r\n\r\nlate"),
        (b"401 Unauthorized", b"www-authenticate: Bearer\r\ncontent-length: 2\r\n\r\nno"),
        (b"503 Service Unavailable", b"content-length: 0\r\n\r\n"),
        (b"307 Elsewhere", b"location: %s/v1/responses\r\ncontent-length: 0\r\n\r\n" % elsewhere.url.encode()),
    ]
    whole = [b"HTTP/1.1 " + status + b"\r\n" + rest for status, rest in answers]
    with elsewhere, Wire(lambda head, body: [whole[len(up.got) - 1]]) as up, Proxy(store, [up.url]) as proxy:
        place = urlsplit(proxy.url)
        for expected in whole:
            with socket.create_connection((place.hostname, place.port)) as client:
                client.sendall(HANDSHAKE)
                got = b""
                while len(got) < len(expected) and (more := client.recv(65536)):
                    got += more
            assert got == expected
    assert elsewhere.connections == 0


def test_what_an_upstream_says_in_its_handshake_reaches_the_client(store: odograph.Store) -> None:
    """Codex reads headers of the handshake: which server it has to go on with, and what limits are left."""
    with serving() as (url, _, _), Proxy(store, [url]) as proxy:
        place = urlsplit(proxy.url)
        with socket.create_connection((place.hostname, place.port)) as client:
            client.sendall(HANDSHAKE)
            got = b""
            while b"\r\n\r\n" not in got and (more := client.recv(65536)):
                got += more
    lines = got.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 101") and b"X-Turn-State: here" in lines
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines


def test_each_side_hears_why_the_other_closes(store: odograph.Store) -> None:
    """The code and the words of a close pass in both directions."""

    async def passed() -> None:
        heard: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            socket = web.WebSocketResponse(autoclose=False)
            await socket.prepare(request)
            message = await socket.receive()
            if message.type == aiohttp.WSMsgType.TEXT:
                await socket.close(code=4001, message=b"too old")
            else:
                heard.set_result((message.data, message.extra))
                await socket.close()
            return socket

        runner = web.ServerRunner(web.Server(serve))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy = Proxy(store, [f"http://127.0.0.1:{runner.addresses[0][1]}"])
        await proxy.open()
        async with aiohttp.ClientSession() as client:
            async with client.ws_connect(proxy.url + "/v1/responses") as socket:
                await socket.send_str("hello")
                message = await socket.receive()
                assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "too old")
            async with client.ws_connect(proxy.url + "/v1/responses") as socket:
                await socket.close(code=4002, message=b"enough")
                assert await heard == (4002, "enough")
        await proxy.aclose()
        await runner.cleanup()

    asyncio.run(passed())


def test_an_open_socket_obeys_pause_drain_and_the_end_of_its_ticket(store: odograph.Store) -> None:
    """A socket in which no call runs keeps no trainer waiting. A call in it that begins while the proxy is paused gets the 503 as an
    event, and so does one after the end of its ticket's run; neither goes upstream."""

    async def ask(ws: aiohttp.ClientWebSocketResponse) -> Any:
        await ws.send_json({"type": "response.create", "model": "m", "input": "q"})
        while (event := await ws.receive_json())["type"] == "response.created":
            pass
        return event

    async def talk(proxy: Proxy) -> None:
        path = f"/t/{proxy.ticket('r')}/v1/responses"
        async with aiohttp.ClientSession() as client, client.ws_connect(proxy.url + path) as ws:
            assert (await ask(ws))["type"] == "response.completed"
            assert await asyncio.to_thread(proxy.drain, 30) is True
            refused = await ask(ws)
            assert (refused["type"], refused["status"], refused["headers"]) == ("error", 503, {"Retry-After": "1"})
            await asyncio.to_thread(proxy.resume, 2)
            assert (await ask(ws))["type"] == "response.completed"
            await asyncio.to_thread(proxy.end, "r", status="failed")
            assert (await ask(ws))["status"] == 403

    with serving(answer("r1", text("one")), answer("r2", text("two"))) as (url, got, _), Proxy(store, [url], policy=1) as proxy:
        asyncio.run(talk(proxy))
        assert len(got) == 2
    t = one(store)
    assert ([(c.text, c.policy_version) for c in t.llm_calls], t.status) == ([("one", 1), ("two", 2)], "failed")


def test_answers_that_overlap_and_sockets_that_go_on(store: odograph.Store) -> None:
    """An answer that has no end, or a cancelled one, takes nothing of the next one; two answers at once are told apart by their ids. A
    second socket goes on where the first ended, with the history in its record."""

    def begun(id: str, words: str = "") -> list[dict[str, Any]]:
        delta = {"type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0, "delta": words}
        return [
            {"type": "response.created", "response": {"id": id, "status": "in_progress", "output": []}},
            *[delta] * bool(words),
        ]

    cancelled = {"type": "response.cancelled", "response": {"id": "c", "object": "response", "status": "cancelled", "output": []}}
    answers = {
        "one": begun("c", "par"),
        None: [cancelled],
        "two": begun("endless", "never"),
        "three": begun("r3"),
        "four": [*answer("r4", text("4")), answer("r3", text("3"))[1]],
        "five": answer("r5", text("5")),
    }

    def respond(request: dict[str, Any]) -> list[dict[str, Any]]:
        return answers[request["input"][-1]["content"] if "input" in request else None]

    async def talk(url: str, last: str, *sent: dict[str, Any]) -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(url + "/t/r/v1/responses") as ws:
            for message in sent:
                await ws.send_json({"type": "response.create", "model": "m", **message})
            while (await ws.receive_json()).get("response", {}).get("id") != last:
                pass
            await ws.receive_json()

    asked = {words: {"role": "user", "content": words} for words in ("one", "two", "three", "four", "five")}
    creates = [{"input": [item]} for item in asked.values()]
    with serving(*[respond] * 9) as (url, _, _), Proxy(store, [url]) as proxy:
        asyncio.run(talk(proxy.url, "r4", creates[0], {"type": "response.cancel"}, *creates[1:4]))
        asyncio.run(talk(proxy.url, "r5", creates[4] | {"previous_response_id": "r4"}))
    found = {c.request["input"][-1]["content"]: c for c in one(store).llm_calls}
    assert {words: c.text for words, c in found.items()} == {"one": "par", "two": "never", "three": "3", "four": "4", "five": "5"}
    assert found["five"].request["input"] == [asked["four"], text("4"), asked["five"]]


def test_an_answer_that_begins_beside_one_without_an_end(store: odograph.Store) -> None:
    """The second request's answer is the second's, where the first answer had begun when the second was asked, and never ended."""
    begun = [{"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}}]

    async def talk(url: str) -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(url + "/t/r/v1/responses") as ws:
            for words, events in (("one", 1), ("two", 2)):
                await ws.send_json({"type": "response.create", "model": "m", "input": [{"role": "user", "content": words}]})
                for _ in range(events):
                    await ws.receive_json()

    with serving(begun, answer("r2", text("2"))) as (url, _, _), Proxy(store, [url]) as proxy:
        asyncio.run(talk(proxy.url))
    found = {c.request["input"][-1]["content"]: (c.text, c.error is None) for c in one(store).llm_calls}
    assert found == {"one": ("", False), "two": ("2", True)}
