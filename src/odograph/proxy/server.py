"""The proxy's server: what comes in goes upstream as it came, what comes back goes to the client as it came, and both are copied.

Everything on the wire passes untouched: bodies byte by byte, and all headers that are not of one hop. The end of a response is
held back until the call is in the store. So a call whose end a client saw is on record, whatever is killed then.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from .. import dialects
from ..access import IDLE, log_of
from ..codec import encode
from .connections import Answer, Broken, Connections, Unreachable
from .control import Traffic
from .gate import Admitted, Gate, Refused, without_key
from .headers import Headers, Request, Response, Socket, coming_down, going_up
from .passing import Passing
from .recording import Recording
from .tokens import Asking, Stripped, fields_of
from .upstreams import Upstream, Upstreams
from .websockets import HANDSHAKE, Turns, bridge

_WHOLE = 1 << 20  # a body up to this size is read before it goes upstream, and can be sent again
_HEADER_BYTES = 1 << 16
_SLICE = 1 << 14  # the event loop parses a piece of a response up to this size, in less than 1 ms; the thread that records, more
_FOLDED = 4  # pieces whose events are delta-coded together, in half the time that each of them takes alone
#: What the last event of a stream has, in any dialect, and one that says why its answer ended; or how JSON can hide that.
_LAST = re.compile(
    rb'\[done\]|message_stop|\.(?:complete|cancel|fail)|eason": ?"|(?:error|incomplete(?!_details))(?!": ?null)|exception|\\u',
    re.I,
)
_SILENT_SECONDS = 120.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30)
#: Paths whose calls count tokens and ask no model, and their dialects.
_COUNTS = {"/v1/messages/count_tokens": "anthropic.messages", ":countTokens": "gemini"}


class Limits:
    """`body`: of a request; `copy`: of what is kept of a request, and of a response; `requests`: at once."""

    def __init__(self, body: int = 1 << 30, copy: int = 64 << 20, requests: int = 2000) -> None:
        self.body = body
        self.copy = copy
        self.requests = requests


class Door:
    """One port: who may come in, where it leads, and who records."""

    def __init__(
        self,
        gate: Gate,
        upstreams: Upstreams,
        recording: Recording,
        traffic: Traffic,
        limits: Limits,
        *,
        tokens: bool = False,
        key: str | None = None,
        control: Callable[[web.BaseRequest], Any] | None = None,
    ) -> None:
        self.gate = gate
        self._upstreams = upstreams
        self._recording = recording
        self.traffic = traffic
        self._limits = limits
        self._asking = Asking() if tokens else None
        self._key = key
        self._control = control
        self._connections = Connections()
        #: For WebSockets.
        self._client: aiohttp.ClientSession | None = None

    # --- being there ---------------------------------------------------------------------------------------------------------

    async def open(self, socket: Any) -> web.ServerRunner:
        """Listens on a socket."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, ttl_dns_cache=60),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            request_class=Request,
            ws_response_class=Socket,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
        )
        server = web.Server(
            self.handle,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=IDLE,
            logger=log_of(__name__),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, socket).start()
        return runner

    async def close(self) -> None:
        """Lets go of the connections to the upstreams."""
        self._connections.close()
        if self._client is not None:
            await self._client.close()

    # --- a request -----------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request: refused, a matter of the proxy's own, or passed on."""
        try:
            self.gate.check_origin(request.headers)
            target = request.raw_path
            if not target.startswith("/") or "#" in target:
                raise Refused(400, "target", "the target of a request is a path without a `#`, not a whole URL")
            if request.headers.get("transfer-encoding", "chunked").lower() != "chunked":
                raise Refused(501, "encoding", "the transfer coding of a request is `chunked` or none")
            if target.startswith("/odograph/"):
                if self._control is None:
                    raise Refused(404, "control", "this port has no controls")
                found: web.StreamResponse = await self._control(request)
                return found
            admitted = self.gate.admit(target, request.headers)
            if admitted.path.partition("?")[0] in ("", "/") and target.startswith("/t/") and request.method in ("HEAD", "GET"):
                said = "" if request.method == "HEAD" else "odograph proxy\n"
                return web.Response(text=said)  # clients look whether it is there
            if (request.content_length or 0) > self._limits.body:
                why = f"the body has {request.content_length:,} bytes; at most {self._limits.body:,} pass"
                raise Refused(413, "too_large", why)
            self.traffic.enter()
        except Refused as refused:
            return refusal(refused)
        try:
            if request.headers.get("upgrade", "").lower() == "websocket":
                return await self._bridge(request, admitted)
            if request.headers.get("expect", "").lower() == "100-continue" and request.version >= aiohttp.HttpVersion11:
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0
            return await self._pass(_Way(self, request, admitted))
        finally:
            self.traffic.leave()

    async def _bridge(self, request: web.BaseRequest, admitted: Admitted) -> web.StreamResponse:
        """A WebSocket. Calls of the Responses API are recorded, whatever else passes is not."""
        assert self._client is not None
        upstream = self._choose(request, admitted)
        passing, target = self.going_up(request, admitted, upstream)
        headers = CIMultiDict(passing)
        for name in HANDSHAKE:
            headers.popall(name, None)
        path = unquote(admitted.path.partition("?")[0])
        dialect = dialects.of_path(path)
        turns = None
        if dialect is not None and dialect.NAME == "openai.responses":

            def begin(sent: bytes) -> Passing:
                call = self._recording.begin(dialect, path, admitted.address, request.headers, self._limits.copy)
                call.copied(sent)
                call.policy = self.traffic.policy
                return call

            turns = Turns(begin, self.traffic, lambda: self.gate.still_admits(admitted), self._recording.known(admitted.address))
        try:
            with upstream:
                url, record = upstream.url_of(target), self._recording.quietly
                return await bridge(request, self._client, url, headers, turns, record, self._limits.copy)
        except Refused as refused:
            return refusal(refused)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                upstream.took_none()
            return refusal(Refused(502, "upstream", f"the upstream can't be reached: {type(error).__name__}: {error}"))

    async def _pass(self, way: _Way) -> web.StreamResponse:
        try:
            return await self._forward(way)
        except asyncio.CancelledError:  # the client went away
            if way.gone and way.call is not None:
                self._recording.soon(way.call)
            raise
        except Refused as refused:
            if way.call is not None:
                way.call.drop()
            return refusal(refused)
        except ConnectionError as error:
            if way.call is not None:
                await self._finish(way.call, error)
            self.traffic.counts["upstream", "failed"] += 1
            return refusal(Refused(502, "upstream", str(error)))
        finally:
            way.leave()

    def _choose(self, request: web.BaseRequest, admitted: Admitted, tried: Sequence[Upstream] = ()) -> Upstream:
        """The upstream of a request."""
        if len(self._upstreams.all) == 1:
            return self._upstreams.all[0]
        return self._upstreams.choose(self._recording.sticky(admitted.address, request.headers), tried)

    def begin(self, request: web.BaseRequest, admitted: Admitted) -> Passing | None:
        """The call that a request begins; None for what is no call of a model."""
        path = unquote(admitted.path.partition("?")[0])
        if request.method == "POST":
            dialect = dialects.of_path(path)
            purpose = None if dialect is None else dialects.purpose(dialect, path)
            if dialect is None:
                name = next((d for end, d in _COUNTS.items() if path.endswith(end)), None)
                if name is None:
                    return None
                dialect, purpose = dialects.get(name), "count"
            call = self._recording.begin(dialect, path, admitted.address, request.headers, self._limits.copy)
            call.purpose = purpose or "act"
        elif request.method == "GET":
            found = self._recording.fetched(path, admitted.address, request.headers, self._limits.copy)
            if found is None:
                return None
            call = found
        else:
            return None
        return call

    def going_up(self, request: web.BaseRequest, admitted: Admitted, upstream: Upstream) -> tuple[Headers, str]:
        """The headers and the target of a request as they go upstream."""
        passing, target = going_up(request), admitted.path
        if admitted.ours or self._key is not None:
            passing, target = without_key(passing, target, self._key)
        return passing, upstream.target(target)

    async def _forward(self, way: _Way) -> web.StreamResponse:
        request, admitted = way.request, way.admitted
        upstream = self._choose(request, admitted)
        asked: dict[str, Any] = {}
        size = request.content_length
        if not request.body_exists:
            way.keep(b"")
        elif (size is not None and size <= _WHOLE) or (self._asking is not None and way.call is not None):
            way.keep(await self._whole(request))
        whole = way.whole
        if self._asking is not None and whole is not None and not way.encoding and way.call is not None:
            way.call.ready()
            asked = fields_of(way.call, self._asking)
        tried: list[Upstream] = []
        refused: list[Refused] = []
        anew = False
        while True:
            headers, target = self.going_up(request, admitted, upstream)
            body: Any = whole
            if asked and way.call is not None:
                body = way.call.body
                headers = [(name, value) for name, value in headers if name.lower() not in ("content-length", "accept-encoding")]
                headers.append(("Accept-Encoding", "identity"))
            elif whole is None:
                body = self._upload(way, refused)
            way.gone = True
            try:
                with upstream:
                    answer = await self._connections.ask(upstream, request.method, target, headers, body, anew)
            except Unreachable:
                upstream.took_none()
                others = [u for u in self._upstreams.all if u not in (*tried, upstream)]
                if whole is None or not others:
                    raise
                tried.append(upstream)
                upstream = self._choose(request, admitted, tried)
                continue
            except Broken as error:
                if refused:
                    raise refused[0] from None
                if whole is None or not error.untouched:
                    raise
                anew = True
                continue
            if asked and way.call is not None and answer.status in (400, 422):
                way.call.refused(answer.status, await answer.read())
                assert self._asking is not None
                self._asking.refuse(way.call)
                asked = {}
                continue
            break
        try:
            with upstream:
                return await self._answer(way, answer, asked)
        finally:
            answer.close()

    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """The pieces of a body as they come. Raises Refused where it is too large."""
        size = 0
        while not request.content.at_eof():
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    data = await request.content.readany()
            except TimeoutError:
                why = f"no byte of the body came for {_SILENT_SECONDS:g} seconds"
                raise Refused(408, "slow", why) from None
            if not data:
                break
            size += len(data)
            if size > self._limits.body:
                raise Refused(413, "too_large", f"the body has more than {self._limits.body:,} bytes, which is the limit")
            yield data

    async def _whole(self, request: web.BaseRequest) -> bytes:
        """A body. Raises Refused where it is too large."""
        if request.content.is_eof():  # mostly all of it came with the headers
            return await request.content.readany()
        return b"".join([more async for more in self._body(request)])

    async def _upload(self, way: _Way, refused: list[Refused]) -> AsyncIterator[bytes]:
        """The same, copied; the HTTP client turns what is raised here into an error of its own, so it is put into `refused`."""
        try:
            async for data in self._body(way.request):
                if way.call is not None:
                    way.call.copied(data, way.encoding)
                yield data
        except Refused as error:
            refused.append(error)
            raise

    # --- the response --------------------------------------------------------------------------------------------------------

    async def _answer(self, way: _Way, answer: Answer, asked: dict[str, Any]) -> web.StreamResponse:
        request = way.request
        way.answered(answer)
        ahead = not asked and not answer.at_eof() and _is_plain_stream(answer)
        call = None if ahead else way.call
        stripped = None
        if call is not None and asked and answer.status < 300 and "content-encoding" not in answer.headers:
            path = request.raw_path.partition("?")[0]
            stripped = Stripped(call.dialect, answer.headers.get("content-type", ""), path, asked)
        kept = coming_down(answer.headers, answer.raw_headers, stripped is not None)
        response, connected = Response(status=answer.status, reason=answer.reason, headers=kept), True
        if call is not None and answer.at_eof():  # no body follows: the head is the end
            call.done = True
            await self._finish(call)
        try:
            writer = await response.prepare(request)
            if writer is not None and (stripped is not None or answer.waits):
                writer.send_headers()
        except ConnectionError:
            connected = False
        except ValueError:
            raise Broken("a header of the answer has a control character") from None
        left, passed, pieces = answer.length, b"", 0
        done = large = False
        while connected and not done:
            try:
                data = await answer.readany()
            except Broken as error:  # the client has a part of it: nothing may follow
                if way.call is not None:
                    await self._finish(way.call, error)
                self.traffic.counts["upstream", "failed"] += 1
                if request.transport is not None:
                    request.transport.close()
                return response
            over = done = answer.at_eof()
            if left is not None:
                left -= len(data)
                over = over or left <= 0
            passed = data if stripped is None else stripped.feed(data, over)
            if ahead and not over and (cut := _first_event(data)):  # it waits for nothing of the record
                connected, passed = await _write(response, data[:cut]), data[cut:]
            ahead, call = False, way.call
            if call is not None and data:
                pieces += 1
                large = call.swollen(len(data)) > _SLICE
                ends = await self._recording.run(call.swallow, data) if large else call.took(data)
                call.done = over
                if ends or over:  # this piece waits for the record: the end of the body mostly comes meanwhile, and goes with it
                    await self._finish(call)
                    done = answer.at_eof()
            if passed and not done:
                connected = await _write(response, passed)
            if call is not None and data and not call.over and pieces > 1:  # nobody waits; at the first, other calls may begin
                if pieces == 2:
                    self._look(way, call)
                if not large and pieces % _FOLDED == 0:
                    call.fold()
        if (call := way.call) is not None and not call.over:
            call.done = done
            await self._finish(call)
        if connected:
            with contextlib.suppress(ConnectionError):
                await response.write_eof(passed if stripped is None else passed + stripped.feed(b"", True))
        return response

    async def _finish(self, call: Passing, error: BaseException | None = None) -> None:
        await self._recording.finish(call, error, alone=self.traffic.busy == 1)

    def _look(self, way: _Way, call: Passing) -> None:
        """Takes a request apart, in the thread that records if it is large."""
        if call.asked_size <= _SLICE and not way.encoding:
            call.look()
        else:
            self._recording.look(call)


class _Way:
    """A request on its way. `call`: what it is recorded as (None: nothing). The call is made when it is first asked for: mostly
    when the client has the first event, so that neither it nor the request waits for the call."""

    def __init__(self, door: Door, request: web.BaseRequest, admitted: Admitted) -> None:
        self.request = request
        self.admitted = admitted
        #: The body, where it is kept while it goes upstream, and its encoding.
        self.whole: bytes | None = None
        self.encoding: str = request.headers.get("content-encoding", "").strip().lower()
        self._door = door
        self._began = time.time_ns(), time.perf_counter_ns()
        self._policy = door.traffic.policy
        self._made = False
        self._call: Passing | None = None
        self._answer: Answer | None = None
        #: Whether something of it may be with the upstream. Else no model was called.
        self.gone = False

    @property
    def call(self) -> Passing | None:
        if not self._made:
            self._made = True
            call = self._call = self._door.begin(self.request, self.admitted)
            if call is not None:
                call.since(*self._began)
                if self.whole is not None:
                    call.copied(self.whole, self.encoding)
                traffic = self._door.traffic
                call.policy = self._policy
                if traffic.policy != call.policy and traffic.policy is not None:  # it changed since
                    call.changed(traffic.policy)
                traffic.calls.add(call)
                if self._answer is not None:
                    call.answered(self._answer.status, self._answer.headers)
        return self._call

    def keep(self, body: bytes) -> None:
        """The body, which is whole."""
        self.whole = body
        if self._call is not None:
            self._call.copied(body, self.encoding)

    def answered(self, answer: Answer) -> None:
        """The answer has begun."""
        self._answer = answer
        if self._call is not None:
            self._call.answered(answer.status, answer.headers)

    def leave(self) -> None:
        traffic = self._door.traffic
        if self._answer is not None:
            kind = "unrecorded" if self.call is None else self.call.dialect.NAME
            traffic.counts[kind, str(self._answer.status)] += 1
        if self._call is not None:
            traffic.calls.discard(self._call)


def _is_plain_stream(answer: Answer) -> bool:
    """Whether the body of an answer is server-sent events as they are."""
    kind = answer.headers.get("content-type", "")
    return kind.startswith("text/event-stream") and answer.status == 200 and "content-encoding" not in answer.headers


def _first_event(data: bytes) -> int:
    """How many bytes of a stream's first piece go to the client at once: its first event, if it is surely not the last."""
    cut = data.find(b"\n\n") + 2
    return 0 if cut == 1 or cut > _SLICE or _LAST.search(data, 0, cut) else cut


async def _write(response: web.StreamResponse, data: bytes) -> bool:
    """Whether the client still takes something."""
    try:
        await response.write(data)
    except ConnectionError:
        return False
    return True


def refusal(refused: Refused) -> web.Response:
    """The answer to a request that goes no further."""
    body = encode(refused.body())
    response = web.Response(status=refused.status, body=body, content_type="application/json", headers=refused.headers)
    if refused.status in (413, 401, 403, 408, 501):
        response.force_close()
    return response
