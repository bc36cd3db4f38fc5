"""Connections to upstreams: a request goes out in the bytes that it came in, and its answer comes piece by piece.

The first byte of a stream waits for all that happens here. A client library takes some tenths of a millisecond for each request,
which this does not; llhttp, by `httptools`, says where an answer's head and body end.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, cast

import httptools
from multidict import CIMultiDict

from .headers import Headers, text
from .upstreams import Upstream

_CONNECT_SECONDS = 30.0
_IDLE_SECONDS = 15.0  # for which a connection that nobody uses is kept
_AGAIN_SECONDS = 1.0  # a kept connection that breaks so soon was closed before the request came
_HEAD_BYTES = 1 << 20
_AHEAD_BYTES = 1 << 18  # of a body, which nobody has read yet: from there on the upstream waits


class Unreachable(ConnectionError):
    """An upstream takes no connection."""


class Broken(ConnectionError):
    """A connection broke off, or what came over it is no HTTP. `untouched`: at once, and the connection had served another
    request, so the upstream had closed it before this one came."""

    def __init__(self, why: str, untouched: bool = False) -> None:
        super().__init__(why)
        self.untouched = untouched


class Answer:
    """The answer of an upstream, once its head is there. The body comes while it is read."""

    def __init__(self, connection: Connection, bodiless: bool) -> None:
        """`bodiless`: the answer ends with its head, whatever that says."""
        self.status: int = 0
        self.reason: str = ""
        self.raw_headers: list[tuple[bytes, bytes]] = []
        #: Empty until the head is whole.
        self.headers: CIMultiDict[str] = CIMultiDict()
        #: Whether the connection may be used again after it.
        self.is_last: bool = True
        #: Whether its body ends when the connection does.
        self.until_closed: bool = False
        self.over: bool = False
        #: Whether bytes came that do not belong to it.
        self.overran: bool = False
        self._connection = connection
        self._bodiless = bodiless
        self._reason = b""
        self._pieces: list[bytes] = []
        self._ahead = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --- what llhttp calls ---------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.overran = self.over

    def on_status(self, data: bytes) -> None:
        self._reason += data

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is a trailer
            self.raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.over:
            return
        status, self.is_last = self._connection.head()
        if status < 200:  # such as 100 Continue: the answer is yet to come
            self._reason = b""
            self.raw_headers.clear()
            return
        self.status = status
        self.reason = self._reason.decode("utf-8", "surrogateescape")
        self.headers = CIMultiDict((name.decode("latin-1"), text(value)) for name, value in self.raw_headers)
        coded = self.headers.get("transfer-encoding", "").lower()
        self.until_closed = not coded.endswith("chunked") and "content-length" not in self.headers
        if self._bodiless:
            self.over = True

    def on_body(self, data: bytes) -> None:
        if self.over:
            self.overran = True
            return
        self._pieces.append(data)
        self._ahead += len(data)
        if self._ahead > _AHEAD_BYTES:
            self._connection.wait(self, True)

    def on_message_complete(self) -> None:
        self.over = bool(self.status)

    # --- what the connection says --------------------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """Nothing more of it comes."""
        self._error = self._error or error
        self.wake()

    def wake(self) -> None:
        """Something came."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- reading it ----------------------------------------------------------------------------------------------------------

    @property
    def length(self) -> int | None:
        """How many bytes the body has, where the head says so."""
        value = self.headers.get("content-length")
        return int(value) if value is not None else None

    @property
    def waits(self) -> bool:
        """Whether a reader would have to wait now."""
        return not (self._pieces or self.over or self._error)

    def at_eof(self) -> bool:
        """Whether all of it was read."""
        return self.over and not self._pieces

    async def head(self) -> None:
        """Waits for the head. Raises Broken."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def readany(self) -> bytes:
        """What came since; waits where that is nothing. Empty at the end. Raises Broken."""
        while self.waits:
            await self._wait()
        if self._pieces:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            self._ahead = 0
            self._connection.wait(self, False)
            return data
        if not self.over and self._error is not None:
            raise self._error
        return b""

    async def read(self) -> bytes:
        """All of it. Raises Broken."""
        found: list[bytes] = []
        while data := await self.readany():
            found.append(data)
        return b"".join(found)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Nobody reads on. What is left is not waited for."""
        if not self.over:
            self._connection.close()


class Connection(asyncio.Protocol):
    """One connection. It carries one request after another."""

    def __init__(self, connections: Connections, upstream: Upstream) -> None:
        self.upstream: Upstream = upstream
        #: When its last request began or ended, by the monotonic clock.
        self.used: float = 0.0
        self._connections = connections
        self._served = False
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser
        self._answer: Answer | None = None
        self._head = 0
        self._sending: asyncio.Task[None] | None = None
        self._reading = True
        self._writable = asyncio.Event()
        self._writable.set()

    # --- what the event loop calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop has another base class

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody asked for it
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the upstream changes the protocol, which nobody asked for")
        except httptools.HttpParserError as error:
            self._fail(f"the upstream's answer is no HTTP: {error}")
        if not answer.status:
            self._head += len(data)
            if self._head > _HEAD_BYTES:
                self._fail(f"the head of the upstream's answer has more than {_HEAD_BYTES:,} bytes")
        elif answer.over:
            self._rest(answer)
        answer.wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._writable.set()
        self._connections.forget(self)
        answer = self._answer
        if answer is None:
            return
        if error is None and answer.until_closed:
            answer.over = True
            self._rest(answer)
        else:
            soon = time.monotonic() - self.used < _AGAIN_SECONDS
            untouched = self._served and soon and not self._head and not answer.status
            whole = "it answered" if not answer.status else "its answer was whole"
            self._fail(f"the upstream closed the connection before {whole}" + (f": {error}" if error else ""), untouched)
        answer.wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- a request -----------------------------------------------------------------------------------------------------------

    async def ask(self, method: str, target: str, headers: Headers, body: bytes | AsyncIterator[bytes]) -> Answer:
        """Sends a request. Returns when the head of the answer is there. Raises Broken."""
        self._answer = answer = Answer(self, method == "HEAD")
        self._parser = httptools.HttpResponseParser(answer)
        self._parser.set_dangerous_leniencies(  # as forgiving as aiohttp's client: what an upstream says is not for us to refuse
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._head = 0
        self.used = time.monotonic()
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.upstream.host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        chunked = False
        if not any(name.lower() == "content-length" for name, _ in headers):
            if not isinstance(body, bytes):
                chunked = True
                lines.append("Transfer-Encoding: chunked")
            elif body:
                lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape")
        try:
            if isinstance(body, bytes):
                self._transport.write(head + body)
            else:
                self._transport.write(head)
                self._sending = asyncio.ensure_future(self._send(body, chunked))
            await answer.head()
        except BaseException:
            self.close()
            raise
        return answer

    async def _send(self, body: AsyncIterator[bytes], chunked: bool) -> None:
        try:
            async for data in body:
                self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                await self._writable.wait()
            if chunked:
                self._transport.write(b"0\r\n\r\n")
            self._sending = None
        except Exception as error:
            self._fail(f"the request's body did not come to its end: {error}")

    # --- what an answer asks -------------------------------------------------------------------------------------------------

    def head(self) -> tuple[int, bool]:
        """The status of the answer that llhttp reads, and whether the connection ends with it."""
        return self._parser.get_status_code(), not self._parser.should_keep_alive()

    def wait(self, answer: Answer, waits: bool) -> None:
        """Whether the upstream waits until more of the answer was read."""
        if waits is not self._reading or answer is not self._answer:
            return
        self._reading = not waits
        if waits:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        """Lets go of the upstream."""
        self._answer = None
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._transport.abort()

    def _rest(self, answer: Answer) -> None:
        """An answer is whole."""
        if answer.is_last or answer.overran or self._sending is not None or self._transport.is_closing():
            self.close()
            return
        self.wait(answer, False)
        self._answer = None
        self._served = True
        self._connections.keep(self)

    def _fail(self, why: str, untouched: bool = False) -> None:
        if self._answer is not None:
            self._answer.fail(Broken(why, untouched))
        self.close()


class Connections:
    """All of them."""

    def __init__(self) -> None:
        self._kept: dict[Upstream, list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def ask(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        anew: bool = False,
    ) -> Answer:
        """Sends a request: its target and headers as they are, and the body as a whole or in pieces. `anew`: over a new
        connection. Returns when the head of the answer is there. Raises Unreachable, Broken."""
        kept = None if anew else self._kept.get(upstream)
        connection = kept.pop() if kept else await self._connect(upstream)
        return await connection.ask(method, target, headers, body)

    async def _connect(self, upstream: Upstream) -> Connection:
        loop = asyncio.get_running_loop()
        # uvloop does not know how to try several addresses at once
        more: dict[str, Any] = {"happy_eyeballs_delay": 0.25} if isinstance(loop, asyncio.BaseEventLoop) else {}
        try:
            tls = _tls() if upstream.tls else None
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, upstream), upstream.address, upstream.port, ssl=tls, **more
                )
        except TimeoutError:
            raise Unreachable(
                f"the upstream {upstream.url} can't be reached: it takes no connection within {_CONNECT_SECONDS:g} seconds"
            ) from None
        except (OSError, UnicodeError) as error:  # a name that is no host name is the latter
            raise Unreachable(f"the upstream {upstream.url} can't be reached: {error}") from error
        return connection

    def keep(self, connection: Connection) -> None:
        """Nobody uses it now."""
        connection.used = time.monotonic()
        self._kept.setdefault(connection.upstream, []).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._swept)

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        kept = self._kept.get(connection.upstream)
        if kept is not None and connection in kept:
            kept.remove(connection)

    def _swept(self) -> None:
        """Closes those that nobody has used for a while."""
        self._sweep = None
        until = time.monotonic() - _IDLE_SECONDS
        for connection in [one for kept in self._kept.values() for one in kept if one.used <= until]:
            self.forget(connection)
            connection.close()
        if any(self._kept.values()):
            self._sweep = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._swept)

    def close(self) -> None:
        """Closes those that nobody uses."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for kept in self._kept.values():
            for connection in kept:
                connection.close()
        self._kept.clear()


@cache  # to load the certificates takes some 20 ms
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
