"""Which headers of a request and of its response pass: all as they came, but those of one hop and Odograph's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict, MultiMapping

#: Headers of one hop (RFC 9110, 7.6.1).
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade")
)  # fmt: skip
#: And those that the next hop gets anew.
_NOT_UP = _HOP | {b"host", b"expect"}
_OWN = b"x-odograph-"
_REFUSAL_BYTES = 1 << 16

Headers = list[tuple[str, str]]


def text(value: bytes) -> str:
    """A header's value, from which its bytes can be had again."""
    return value.decode("utf-8", "surrogateescape")


def going_up(request: web.BaseRequest) -> Headers:
    """The headers of a request that go upstream."""
    dropped, spelt = _named(request.headers, _NOT_UP), dict[bytes, str]()
    return [  # aiohttp's client takes a name that is spelt anew for the same header, whose last value counts
        (spelt.setdefault(lower, name.decode("latin-1")), text(value))
        for name, value in request.raw_headers
        if (lower := name.lower()) not in dropped and not lower.startswith(_OWN)
    ]


def coming_down(headers: MultiMapping[str], raw: Sequence[tuple[bytes, bytes]], stripped: bool) -> Headers:
    """The headers of a response that the client gets. `stripped`: its body gets shorter on the way."""
    dropped = _named(headers, _HOP)
    if stripped:
        dropped |= {b"content-length"}
    return [(name.decode("latin-1"), text(value)) for name, value in raw if name.lower() not in dropped]


def _named(headers: MultiMapping[str], hop: frozenset[bytes]) -> frozenset[bytes]:
    """`hop`, and the headers that `Connection` says are of this hop."""
    named = headers.getall("connection", ())
    if not named:
        return hop
    return hop | {name.strip().lower().encode("utf-8", "surrogateescape") for value in named for name in value.split(",")}


class _Exactly:
    """A transport, until a head was written: the head is sent in the bytes that its headers came in. aiohttp writes a head in
    UTF-8, and drops what is none."""

    def __init__(self, protocol: Any, headers: CIMultiDict[str]) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._headers = headers

    @classmethod
    def where_needed(cls, protocol: Any, headers: CIMultiDict[str]) -> None:
        """Puts itself in the place of a protocol's transport, if some header has other bytes than UTF-8."""
        if any(not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value) for value in headers.values()):
            protocol.transport = cls(protocol, headers)

    def write(self, data: Any) -> None:
        self._protocol.transport = self._transport
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        lines = [head.partition(b"\r\n")[0]]
        lines += [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in self._headers.items()]
        self._transport.write(b"\r\n".join([*lines, b"", body]))

    def writelines(self, pieces: Iterable[Any]) -> None:
        self.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Request(aiohttp.ClientRequest):
    """The request of a WebSocket's handshake, whose headers go upstream in the bytes that they came in."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        self.response_class = _Handshake
        _Exactly.where_needed(conn.protocol, self.headers)
        return await super().send(conn)


class NoSocket(Exception):
    """The answer of an upstream to a handshake that makes no WebSocket, and the beginning of its body."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__(f"the upstream answers a WebSocket with HTTP {answer.status}")
        self.answer = answer
        self.body = body


class _Handshake(aiohttp.ClientResponse):
    """The answer to a handshake. aiohttp would go where it redirects, and drop its body."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        await super().start(connection)
        if self.status != 101:
            body = b""
            while len(body) < _REFUSAL_BYTES and (more := await self.content.readany()):
                body += more
            raise NoSocket(self, body)
        return self


class Socket(aiohttp.ClientWebSocketResponse):
    """A WebSocket of an upstream. `answer`: to the handshake."""

    def __init__(
        self, reader: Any, writer: Any, protocol: Any, response: aiohttp.ClientResponse, *rest: Any, **more: Any
    ) -> None:
        super().__init__(reader, writer, protocol, response, *rest, **more)
        self.answer: aiohttp.ClientResponse = response


class Response(web.StreamResponse):
    """A response with the headers of the upstream, in the same bytes, and none of this server's own. Its head waits for the first
    bytes."""

    _send_headers_immediately = False

    async def _write_headers(self) -> None:
        if self._req is not None:
            _Exactly.where_needed(self._req.protocol, self.headers)
        await super()._write_headers()

    async def _prepare_headers(self) -> None:
        added = [name for name in (hdrs.SERVER, hdrs.CONTENT_TYPE, hdrs.DATE) if name not in self.headers]
        await super()._prepare_headers()
        for name in added:
            self.headers.popall(name, None)
