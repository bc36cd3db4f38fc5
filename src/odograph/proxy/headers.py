"""Which headers of a request and of its response pass: all as they came, but those of one hop and Odograph's own."""

from __future__ import annotations

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

#: Headers of one hop (RFC 9110, 7.6.1).
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade")
)  # fmt: skip
#: And those that the next hop gets anew.
_NOT_UP = _HOP | {b"host", b"expect"}
_OWN = b"x-odograph-"

Headers = list[tuple[str, str]]


def going_up(request: web.BaseRequest) -> Headers:
    """The headers of a request that go upstream."""
    dropped, spelt = _named(request.headers, _NOT_UP), dict[bytes, str]()
    return [  # aiohttp's client takes a name that is spelt anew for the same header, whose last value counts
        (spelt.setdefault(lower, name.decode("latin-1")), value.decode("utf-8", "surrogateescape"))
        for name, value in request.raw_headers
        if (lower := name.lower()) not in dropped and not lower.startswith(_OWN)
    ]


def coming_down(answer: aiohttp.ClientResponse, stripped: bool) -> Headers:
    """The headers of a response that the client gets. `stripped`: its body gets shorter on the way."""
    dropped = _named(answer.headers, _HOP)
    if stripped:
        dropped |= {b"content-length"}
    return [
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in answer.raw_headers
        if name.lower() not in dropped
    ]


def _named(headers: CIMultiDictProxy[str], hop: frozenset[bytes]) -> frozenset[bytes]:
    """`hop`, and the headers that `Connection` says are of this hop."""
    named = headers.getall("connection", ())
    if not named:
        return hop
    return hop | {name.strip().lower().encode("utf-8", "surrogateescape") for value in named for name in value.split(",")}


class Response(web.StreamResponse):
    """A response with the headers of the upstream, and none of this server's own. Its head waits for the first bytes."""

    _send_headers_immediately = False

    async def _prepare_headers(self) -> None:
        added = [name for name in (hdrs.SERVER, hdrs.CONTENT_TYPE, hdrs.DATE) if name not in self.headers]
        await super()._prepare_headers()
        for name in added:
            self.headers.popall(name, None)
