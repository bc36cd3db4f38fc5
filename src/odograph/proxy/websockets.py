"""Responses over a WebSocket, passed on message by message; the calls in it are recorded with the history that they stand for.

An upstream without a WebSocket at a path refuses the upgrade with 404 or the like, and Codex then tries it seven times. So the
client gets a 426, on which Codex turns to POST at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..capture.sockets import Calls
from ..codec import encode
from .control import Traffic
from .gate import Refused
from .headers import NoSocket, Response, Socket, coming_down
from .passing import Passing

#: Statuses by which a server says that it has no WebSocket at a path.
_NONE_THERE = (400, 404, 405, 501)
#: What stands in a message that ends a call, which is then recorded before the client gets it.
_ENDS = ('"response.completed"', '"response.incomplete"', '"response.failed"', '"response.cancelled"', '"error"')
#: Headers of a handshake, which each hop makes anew.
HANDSHAKE = (
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-accept",
)


class Turns:
    """The calls of one socket, and whether one runs."""

    def __init__(
        self, begin: Callable[[bytes], Passing], traffic: Traffic, admitted: Callable[[], bool], known: dict[str, list[Any]]
    ) -> None:
        """`begin` makes the call of a request's body. `admitted`: whether the socket's client may still call. `known`: the
        histories of the answers that the run's sockets got."""
        self.calls: Calls = Calls(self._begun, known)
        self._begin = begin
        self._traffic = traffic
        self._admitted = admitted
        self._running: list[Passing] = []
        self._rests = 0
        self.look()

    def _begun(self, sent: bytes) -> Passing:
        call = self._begin(sent)
        self._running.append(call)
        self._traffic.calls.add(call)
        return call

    def sent(self, message: Any) -> None:
        """Takes what the client sends. Raises Refused where it may not pass."""
        if not self._admitted():
            raise Refused(403, "ticket", "the run of this ticket has ended")
        if (b"response.create" if isinstance(message, bytes) else "response.create") in message:
            self._traffic.check()
        self.calls.sent(message)
        self.look()

    def look(self) -> None:
        """Tells the traffic when a call began or ended."""
        if self.calls.running:
            self._rest(0)
            return
        self._rest(1)
        self._traffic.calls.difference_update(self._running)
        self._running.clear()

    def over(self) -> None:
        """The socket is closed."""
        self.look()
        self._rest(0)

    def _rest(self, rests: int) -> None:
        if rests != self._rests:
            self._traffic.rest(rests - self._rests)
            self._rests = rests


async def bridge(
    request: web.BaseRequest,
    client: aiohttp.ClientSession,
    url: URL,
    headers: CIMultiDict[str],
    turns: Turns | None,
    record: Callable[..., Awaitable[Any]],
    largest: int,
) -> web.StreamResponse:
    """Connects a client's WebSocket to the upstream's. `turns`: its calls; None: nothing is recorded. `record` calls a
    function where records are written. `largest`: bytes of one message. Raises Refused where the upstream has no WebSocket."""
    offered = request.headers.get("sec-websocket-protocol", "")
    protocols = tuple(name for part in offered.split(",") if (name := part.strip()))
    compress = 15 if "permessage-deflate" in request.headers.get("sec-websocket-extensions", "") else 0
    try:
        upstream = await client.ws_connect(
            url, headers=headers, protocols=protocols, compress=compress, max_msg_size=largest, autoclose=False
        )
    except NoSocket as error:
        if error.answer.status in _NONE_THERE:
            raise Refused(426, "upstream", str(error)) from None
        return await _pass_on(error, request)
    except aiohttp.WSServerHandshakeError as error:
        raise Refused(502, "upstream", f"the upstream's answer makes no WebSocket: {error.message}") from None
    chosen = (upstream.protocol,) if upstream.protocol else ()
    ours = web.WebSocketResponse(protocols=chosen, compress=bool(compress), max_msg_size=largest, autoclose=False)
    for name, value in (
        coming_down(upstream.answer.headers, upstream.answer.raw_headers, False) if isinstance(upstream, Socket) else ()
    ):
        if name.lower() not in HANDSHAKE:
            ours.headers.add(name, value)
    try:
        await ours.prepare(request)
        directions = [
            asyncio.ensure_future(_upward(ours, upstream, turns)),
            asyncio.ensure_future(_downward(upstream, ours, turns, record)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in directions:
                one.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
    finally:
        if turns is not None:
            await record(turns.calls.close)
            turns.over()
        with suppress(Exception):
            await upstream.close()
        with suppress(Exception):
            await ours.close(code=_code(ours.close_code))
    return ours


async def _pass_on(refused: NoSocket, request: web.BaseRequest) -> web.StreamResponse:
    """Gives a client the upstream's answer, by which it may know what to do: when to try again, or that its key is wrong."""
    answer, body = refused.answer, refused.body
    whole = answer.headers.get("content-length") == str(len(body))
    response = Response(
        status=answer.status, reason=answer.reason, headers=coming_down(answer.headers, answer.raw_headers, not whole)
    )
    await response.prepare(request)
    await response.write_eof(body)
    return response


async def _upward(ours: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse, turns: Turns | None) -> None:
    while True:
        message = await ours.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            try:
                if turns is not None:
                    turns.sent(message.data)
            except Refused as refused:
                await ours.send_str(encode(refused.event()).decode())
                continue
            await _send(upstream, message)
        else:
            await upstream.close(code=_code(ours.close_code), message=_reason(message))
            return


async def _downward(
    upstream: aiohttp.ClientWebSocketResponse,
    ours: web.WebSocketResponse,
    turns: Turns | None,
    record: Callable[..., Awaitable[Any]],
) -> None:
    while True:
        message = await upstream.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            if turns is not None:
                data = message.data if isinstance(message.data, str) else message.data.decode("utf-8", "replace")
                if any(mark in data for mark in _ENDS):
                    await record(turns.calls.got, message.data)
                    turns.look()
                else:
                    turns.calls.got(message.data)
            await _send(ours, message)
        else:
            await ours.close(code=_code(upstream.close_code), message=_reason(message))
            return


async def _send(to: Any, message: aiohttp.WSMessage) -> None:
    if message.type == aiohttp.WSMsgType.TEXT:
        await to.send_str(message.data)
    else:
        await to.send_bytes(message.data)


def _reason(message: aiohttp.WSMessage) -> bytes:
    """Why a side closes, in its own words."""
    said = message.extra if message.type == aiohttp.WSMsgType.CLOSE else None
    return said.encode() if isinstance(said, str) else b""


def _code(code: int | None) -> int:
    """A close code that may be sent; those that only say what happened here become 1000 or 1011."""
    if code is None or code in (1005, 1006, 1015):
        return 1011 if code == 1006 else 1000
    return code
