"""OTLP over HTTP: which request is taken, and how it is answered. The rules are those of the OTLP specification.

An answer has the encoding of its request. 200 also where a part of a request was rejected, so that the sender does not send it
again; 400 for what can't be decoded; 413 when the whole body was read, because a sender whose connection breaks would send
again; 503 with Retry-After where nothing can be kept now.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from ..access import Access, Refused, is_loopback
from ..codec import encode, loads
from ..encodings import Decoder, decoder
from ..errors import InvalidInput, MissingExtra, StoreError
from ..spans import TraceSpan, of_otlp
from . import protobuf
from .collecting import Collector

#: The largest body, bytes, as it is without compression.
LARGEST = 64 << 20
#: What is read and dropped of a body that is larger.
_DRAINED = 1 << 30
_TOO_LARGE = f"a body has at most {LARGEST:,} bytes; send fewer spans at once"
_SLOWEST = 300.0  # seconds that a body may take
_PATHS = {
    "/v1/traces": "traces",
    "/v1/logs": "logs",
    "/v1/metrics": "metrics",
    "/api/public/otel/v1/traces": "traces",
    "/api/public/otel/v1/metrics": "metrics",
}
_PROTOBUF = "application/x-protobuf"


class Receiver:
    """The application of a collector. `token`: who has none is refused (`Authorization: Bearer`, the password of `Basic`, or
    `x-api-key`); None: whoever reaches the port is heard."""

    def __init__(self, collector: Collector, *, host: str, token: str | None = None, hosts: Iterable[str] = ()) -> None:
        if token is None and not is_loopback(host):
            raise InvalidInput(
                f"listening on {host} lets other machines in: give a token (--token), which every sender must send"
            )
        self._collector = collector
        self._access = Access.of(host, 0, token=token, hosts=hosts)
        self._open = token is None

    def application(self) -> web.Application:
        """Each request passes one door, whatever its path."""
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        binary = request.content_type == _PROTOBUF
        try:
            self._check(request)
            path = request.path.rstrip("/")
            if request.method == "GET" and path == "/health":
                return web.json_response({"status": "ok", **self._collector.counts})
            signal = _PATHS.get(path)
            if signal is None:
                raise Refused(404, f"nothing is received here; there are: {', '.join(_PATHS)}")
            if request.method != "POST":
                raise Refused(405, "spans are sent by POST")
            if not binary and request.content_type != "application/json":
                raise Refused(415, f"OTLP is {_PROTOBUF} or application/json, not {request.content_type[:60]}")
            encoding = request.headers.get("Content-Encoding", "").strip()
            undo = decoder(encoding, strict=True)
            body = await _body(request)
            if undo is None:
                raise Refused(415, f"a body has the encoding gzip, or none; {encoding[:60]!r} is not known here")
            if signal == "metrics":  # an exporter that is refused would log errors
                return _taken(binary, 0, "")
            spans, rejected = await asyncio.to_thread(_decoded, signal, body, binary, undo)
            await asyncio.to_thread(self._collector.put, spans)
            self._collector.counts["rejected"] += rejected
            return _taken(binary, rejected, without_ids(rejected))
        except Refused as why:
            return _refused(binary, why.status, str(why))
        except InvalidInput as error:
            return _refused(binary, 400, str(error))
        except (StoreError, MissingExtra) as error:
            return _refused(binary, 503, str(error), {"Retry-After": "5"})

    def _check(self, request: web.Request) -> None:
        self._access.check_host(request.headers.getall("Host", []))
        if "Origin" in request.headers:
            raise Refused(403, "pages of a browser send no spans here")
        if not self._open and self._access.right(*_tokens(request)) is None:
            raise Refused(401, "a token is needed, as `Authorization: Bearer TOKEN`")


def _tokens(request: web.Request) -> Iterable[str]:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip()
    elif scheme.lower() == "basic":  # Langfuse: public key and secret key
        try:
            yield base64.b64decode(value, validate=True).decode().rpartition(":")[2]
        except (binascii.Error, ValueError):
            return
    yield from (request.headers[n] for n in ("x-api-key", "x-odograph-token") if n in request.headers)


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_SLOWEST):
            return await request.read()
    except TimeoutError:
        raise Refused(408, f"the body did not come in {_SLOWEST:g} seconds") from None
    except web.HTTPRequestEntityTooLarge:
        drained = 0
        while drained < _DRAINED and (part := await request.content.readany()):
            drained += len(part)
        raise Refused(413, _TOO_LARGE) from None


def _whole(body: bytes, undo: Decoder) -> bytes:
    """A body without its encoding."""
    whole = bytearray()
    try:
        for piece in undo(body):
            whole += piece
            if len(whole) > LARGEST:
                raise Refused(413, _TOO_LARGE)
    except Refused:
        raise
    except Exception:  # the libraries' own errors
        raise InvalidInput("the body is not in the encoding that its header names") from None
    return bytes(whole)


def _decoded(signal: str, body: bytes, binary: bool, undo: Decoder) -> tuple[list[TraceSpan], int]:
    """The spans of a body, and how many of it can't be told apart."""
    body = _whole(body, undo)
    value: Any = protobuf.decode(signal, body) if binary else loads(body)
    if not isinstance(value, dict):
        raise InvalidInput(f"OTLP/JSON is an object, not {type(value).__name__}")
    return sorted_out(value)


def sorted_out(value: dict[str, Any]) -> tuple[list[TraceSpan], int]:
    """The spans of a request that can be kept, and how many can't."""
    found = list(of_otlp(value))
    kept = [s for s in found if s.log or (_is_id(s.trace) and _is_id(s.id))]
    return kept, len(found) - len(kept)


def _is_id(id: str) -> bool:
    """Whether it is hexadecimal, and not all zeros."""
    return bool(id.strip("0")) and not id.strip("0123456789abcdefABCDEF")


def without_ids(rejected: int) -> str:
    """Why spans were rejected."""
    return f"{rejected} spans without a trace id or a span id; an id is hexadecimal, and not all zeros"


def _taken(binary: bool, rejected: int, why: str) -> web.Response:
    if binary:
        return web.Response(body=protobuf.answer(rejected, why), content_type=_PROTOBUF)
    value = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": why}} if rejected else {}
    return web.Response(body=encode(value), content_type="application/json")


def _refused(binary: bool, status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    if binary:
        return web.Response(body=protobuf.status(why), status=status, content_type=_PROTOBUF, headers=headers)
    return web.Response(body=encode({"message": why}), status=status, content_type="application/json", headers=headers)
