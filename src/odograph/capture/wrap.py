"""`wrap(client)`: a client of the OpenAI, Anthropic or Google SDK, recorded at its HTTP transport.

What the SDK sends and reads passes through untouched; a copy of it becomes an `llm_call`. New SDKs stand on the package
`httpx2`, older ones on `httpx`: the client's own classes say which, so neither is imported here.
"""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import cache, wraps
from typing import Any, TypeVar, cast
from weakref import WeakSet

from .. import dialects
from ..codec import encode, loads_or_raw
from ..redact import Redactor
from . import faults, sockets
from .directing import director
from .exchange import Exchange, begun, later_at

C = TypeVar("C")

#: The HTTP clients that are recorded until `unrecord` is called, and the google-genai clients that use them until then.
_lent: WeakSet[Any] = WeakSet()
_told: WeakSet[Any] = WeakSet()


def wrap(client: C, tokens: bool = False, *, dialect: str | None = None) -> C:
    """Returns the same client, recorded from now on: sync or async, streaming or not. Wrapping a client twice changes nothing.

    The client is one of the OpenAI, Anthropic or Google SDK, or of `httpx` or `httpx2`. Copies made with `with_options()` share
    the client's transport and are recorded, too. Model calls that a dialect knows (chat completions, responses, messages,
    completions, generateContent, ...) are recorded. Headers are never recorded.

    `tokens=True` asks the backend for token ids and logprobs by the fields of vLLM and SGLang; the answer then has additional
    fields, which agents can ignore. If the backend refuses these fields (OpenAI's own; SGLang for a stream), Odograph sends the
    request again without them, warns once, and stops asking. `dialect`: a dialect of your own that the client speaks: a Python
    file, `package:object`, or an installed package's name.

    Raises TypeError for an unknown kind of client; UnknownName, NotFound or InvalidInput for a dialect that can't be loaded.
    """
    if dialect is not None:
        dialects.find(dialect)
    if (dialect is None and _is_foreign(client)) or not record(client, tokens):
        raise TypeError(
            "wrap() takes a client of the openai, anthropic or google-genai SDK, or of httpx, not "
            f"{type(client).__module__}.{type(client).__name__}{_advice(client)}"
        )
    sockets.count(getattr(getattr(client, "_aio", None), "_live", None))
    if hasattr(type(client), "with_options") and not hasattr(type(client), "_odograph"):
        client.__class__ = _copying(cast(Any, type(client)), tokens)
    return client


def _is_foreign(client: Any) -> bool:
    """Whether it is a client of an SDK with an API of its own, such as ollama's, over httpx: no dialect of ours speaks that."""
    over_httpx = _library(client) is None and _library(getattr(client, "_client", None)) is not None
    return over_httpx and not hasattr(type(client), "with_options")


def _advice(client: Any) -> str:
    """Where the client is that was meant."""
    if _is_foreign(client):
        return "; if a dialect of yours speaks its API, name it: odograph.wrap(client, dialect=...)"
    if type(client).__module__.partition(".")[0] in ("botocore", "boto3", "litellm"):
        return "; odograph.instrument() records what it calls"
    for name in ("root_client", "root_async_client", "client", "_client"):
        found = getattr(client, name, None)
        if found is not None and found is not client and any(_library(inner) for inner in _inner(found)):
            return f"; wrap its .{name}, or call odograph.instrument()"
    return (
        "; odograph.instrument() records what openai, anthropic, google-genai, litellm, botocore and lm15 call, and an SDK that"
        " takes an httpx client can be given odograph.wrap(httpx.Client())"
    )


@cache
def _copying(kind: type[Any], tokens: bool) -> type[Any]:
    """The class of an SDK's client whose copies are recorded, too, also those with an HTTP client of their own, and whose
    WebSockets are."""

    def copy(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrap(kind.copy(self, *args, **kwargs), tokens)

    about: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    about |= {"_odograph": True, "copy": wraps(kind.copy)(copy), "with_options": wraps(kind.with_options)(copy)}
    if hasattr(kind, "responses"):
        about["responses"] = property(lambda self: sockets.record(kind.responses.__get__(self, kind)))
    if hasattr(kind, "realtime"):
        about["realtime"] = property(lambda self: sockets.count(kind.realtime.__get__(self, kind)))
    return type(kind.__name__, (kind,), about)


def record(client: Any, tokens: bool, *, lent: bool = False) -> list[Any]:
    """The HTTP clients inside of an SDK's client, recorded from now on. `lent`: until `unrecord` is called.

    None of them where it is no such client.
    """
    found = [(inner, library) for inner in _inner(client) if (library := _library(inner)) is not None]
    google: Any = getattr(client, "_api_client", client)
    if found and hasattr(google, "_use_aiohttp"):  # it prefers that where it is installed, and that has no transport to record at
        if not lent:
            _told.discard(google)
        elif "_use_aiohttp" not in vars(google):
            _told.add(google)
        google._use_aiohttp = lambda: False
    return [_record(inner, library, tokens, lent) for inner, library in found]


def _record(inner: Any, library: str, tokens: bool, lent: bool) -> Any:
    """An HTTP client, its transports recorded."""
    is_async = any(c.__name__ == "AsyncClient" for c in type(inner).__mro__)
    recorded = _classes(library)[is_async]

    def over(transport: Any) -> Any:
        if not issubclass(type(transport), recorded):
            return recorded(transport, tokens, lent)
        if not lent:
            transport._lent = False
            transport._asking.tokens |= tokens
        return transport

    inner._transport = over(inner._transport)
    for pattern, transport in list(inner._mounts.items()):
        if transport is not None:
            inner._mounts[pattern] = over(transport)
    per_loop = getattr(inner, "_client_for_running_loop", None)  # google-genai's has a client of its own for each event loop
    if per_loop is not None and "_client_for_running_loop" not in vars(inner):
        inner._client_for_running_loop = lambda: _record(per_loop(), library, tokens, lent)
    if lent:
        _lent.add(inner)
    return inner


def unrecord() -> None:
    """The HTTP clients that were recorded for a while are as they were, unless `wrap` was called for them, too."""
    while _lent:
        _unrecord(_lent.pop())
    while _told:
        vars(_told.pop()).pop("_use_aiohttp", None)


def _unrecord(inner: Any) -> None:
    def under(transport: Any) -> Any:
        mine = getattr(type(transport), "_odograph", False) and vars(transport)["_lent"]
        return vars(transport)["_transport"] if mine else transport

    kept, inner._transport = inner._transport, under(inner._transport)
    for pattern, transport in list(inner._mounts.items()):
        inner._mounts[pattern] = under(transport)
    if kept is not inner._transport:
        vars(inner).pop("_client_for_running_loop", None)


def _inner(client: Any) -> list[Any]:
    """The HTTP clients inside of an SDK's client."""
    if _library(client) is not None:
        return [client]
    google: Any = getattr(client, "_api_client", client)
    return [
        getattr(client, "_client", None),
        getattr(client, "httpx_client", None),
        getattr(google, "_httpx_client", None),
        getattr(google, "_async_httpx_client", None),
    ]


def _library(inner: Any) -> str | None:
    for parent in type(inner).__mro__:
        if parent.__name__ in ("Client", "AsyncClient") and parent.__module__.split(".")[0] in ("httpx", "httpx2"):
            return parent.__module__.split(".")[0]
    return None


class _Asking:
    """What the requests of one transport have in common: what `tokens` adds to them."""

    def __init__(self, library: str, tokens: bool) -> None:
        self.tokens = tokens
        #: The dialects, and whether streams or other calls, that are asked for tokens no more.
        self._refused: set[tuple[str, bool]] = set()
        self._decode = _decoder(library)

    def begin(self, request: Any) -> tuple[Any, Exchange | None]:
        """The request to send, and the exchange to record; None for what is no call of a model."""
        exchange = None
        try:
            sent = _content(request) if request.method == "POST" else b""
            url = request.url
            exchange = begun(request.method, url.path, request.headers, sent, self._decode, later_at(url.netloc))
            if exchange is None and request.method == "POST":
                faults.unrecorded()
            if self.tokens and exchange is not None and request.method == "POST":
                request = self._asked(request, exchange)
        except Exception as error:
            faults.fault(error)
        return request, exchange

    def _asked(self, request: Any, exchange: Exchange) -> Any:
        streams = exchange.streams
        fields = exchange.dialect.asking_tokens(streams)
        if not fields or (exchange.dialect.NAME, streams) in self._refused:
            return request
        value = loads_or_raw(exchange.sent)
        more = {name: field for name, field in fields.items() if name not in value} if isinstance(value, dict) and value else None
        if not more:
            return request
        # what the SDK wrote stays as it is, byte for byte
        body = encode(more)[:-1] + b"," + exchange.sent.lstrip()[1:]
        headers = [(k, v) for k, v in request.headers.raw if k.lower() not in (b"content-length", b"transfer-encoding")]
        asked = type(request)(request.method, request.url, headers=headers, content=body, extensions=request.extensions)
        exchange.body = body
        return asked

    def anew(self, request: Any, exchange: Exchange, sent: bytes) -> tuple[Any, Any]:
        """A request with another body: as the SDK would have sent it, and as it goes out."""
        headers = [(k, v) for k, v in request.headers.raw if k.lower() not in (b"content-length", b"transfer-encoding")]
        plain = type(request)(request.method, request.url, headers=headers, content=sent, extensions=request.extensions)
        exchange.resend(sent)
        return plain, self._asked(plain, exchange) if self.tokens else plain

    def is_refusal(self, exchange: Exchange, response: Any) -> bool:
        return exchange.body is not exchange.sent and response.status_code in (400, 422)

    def again(self, exchange: Exchange, first: Any, second: Any) -> None:
        """A request that was refused with our fields went out without them; if that was all, it is not asked any more."""
        if second.status_code >= 400:
            return
        try:
            self._refused.add((exchange.dialect.NAME, exchange.streams))
            said = Redactor(True).text(first.text[:10_000], Counter())[:200]  # servers quote keys
            warnings.warn(
                f"the backend refuses to give token ids (HTTP {first.status_code}: {said}); calls go on without",
                RuntimeWarning,
                stacklevel=2,
            )
        except Exception as error:  # a warning that is an error here is not the agent's
            faults.fault(error)


def recording(transport: Any, library: str, tokens: bool) -> Any:
    """An async transport of `httpx` or `httpx2`, recorded."""
    return _classes(library)[True](transport, tokens, lent=False)


_HELD = ("ByteStream", "MultipartStream")


def _is_held(request: Any) -> bool:
    """Whether the body is in memory. That of a form or of a redirected request is, too, but was not read yet."""
    return any(kind.__name__ in _HELD for kind in type(request.stream).__mro__)


def _content(request: Any) -> bytes:
    """The body of a request; nothing for one that is sent as it is made, and is no call of a model (`_flows`)."""
    return bytes(request.read()) if _is_held(request) else b""


def _flows(request: Any) -> bool:
    """Whether the body of a call of a model is sent as it is made: then it is read first, as all of it is to be recorded."""
    try:
        return not _is_held(request) and request.method == "POST" and dialects.of_path(request.url.path) is not None
    except Exception as error:
        faults.fault(error)
        return False


def _decoder(library: str) -> Any:
    def decoded(data: bytes, encoding: str) -> bytes:
        """The content without its content-encoding, as far as the client's own library undoes it and as far as it came."""
        http = importlib.import_module(library)
        parts: list[bytes] = []
        try:
            response = http.Response(200, headers=[("content-encoding", encoding)], stream=http.ByteStream(data))
            for part in response.iter_bytes():
                parts.append(part)
        except Exception:  # damaged, or cut short: what came before is kept
            pass
        return b"".join(parts) or data

    return decoded


@cache
def _classes(library: str) -> tuple[type[Any], type[Any]]:
    """The recording transports, sync and async, on the base classes of the client's own HTTP library."""
    http = importlib.import_module(library)

    class Body(http.SyncByteStream):  # type: ignore[name-defined,misc]
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream = stream
            self._exchange = exchange

        def __iter__(self) -> Iterator[bytes]:
            return self._exchange.read(self._stream, self)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._exchange.finish()

        def __del__(self) -> None:
            self._exchange.finish()

    class AsyncBody(http.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream = stream
            self._exchange = exchange

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._exchange.read_async(self._stream, self)

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._exchange.finish()

        def __del__(self) -> None:
            self._exchange.finish()

    def tee(response: Any, exchange: Exchange, body: type[Any]) -> Any:
        try:
            exchange.answered(response.status_code, response.headers)
            if response.is_closed:  # it was read before: by a transport that answers from memory, as those of tests and caches do
                exchange.chunk(response.content)
                exchange.end()
            else:
                response.stream = body(response.stream, exchange)
        except Exception as error:
            faults.fault(error)
        return response

    def answer(known: tuple[int, str, bytes]) -> Any:
        status, kind, body = known
        return http.Response(status, headers={"content-type": kind}, stream=http.ByteStream(body))

    def passed(response: Any, content: bytes, changed: bytes | None) -> Any:
        """A response whose body was read, as the agent gets it."""
        gone = (b"content-encoding", b"content-length", b"transfer-encoding")
        headers = [(k, v) for k, v in response.headers.raw if k.lower() not in gone]
        stream = http.ByteStream(content if changed is None else changed)
        return http.Response(response.status_code, headers=headers, stream=stream)

    class Recording(http.BaseTransport):  # type: ignore[name-defined,misc]
        _odograph = True

        def __init__(self, transport: Any, tokens: bool, lent: bool) -> None:
            self._transport = transport
            self._lent = lent
            self._asking = _Asking(library, tokens)

        def handle_request(self, request: Any) -> Any:
            if _flows(request):
                request.read()
            asked, exchange = self._asking.begin(request)
            if exchange is None:
                return self._transport.handle_request(request)
            with exchange.sending():
                directed = director.get()
                if directed is not None:
                    known = directed.reply(exchange.dialect.NAME, exchange.sent, exchange.streams)
                    if known is not None:
                        return tee(answer(known), exchange, Body)
                    if exchange.purpose == "act":
                        with exchange.waiting():
                            directed.admit_sync(exchange.within)
                            sent = directed.asked_sync(exchange)
                        if sent is not None:
                            request, asked = self._asking.anew(request, exchange, sent)
                response = self._transport.handle_request(asked)
                if self._asking.is_refusal(exchange, response):
                    exchange.refused(response.status_code, response.read())
                    refusal, response = response, self._transport.handle_request(request)
                    self._asking.again(exchange, refusal, response)
            response = tee(response, exchange, Body)
            if directed is None or exchange.purpose != "act" or not directed.looks(exchange.within):
                return response
            content = response.read()  # and closed: the call is on record now
            return passed(response, content, directed.answered_sync(exchange, content))

        def __getattr__(self, name: str) -> Any:
            return getattr(vars(self)["_transport"], name)

        @property  # type: ignore[misc]
        def __class__(self) -> Any:  # who asks what transport it is means the one below
            return type(self._transport)

        def close(self) -> None:
            self._transport.close()

        def __enter__(self) -> Any:
            self._transport.__enter__()
            return self

        def __exit__(self, *failure: Any) -> None:
            self._transport.__exit__(*failure)

    class AsyncRecording(http.AsyncBaseTransport):  # type: ignore[name-defined,misc]
        _odograph = True

        def __init__(self, transport: Any, tokens: bool, lent: bool) -> None:
            self._transport = transport
            self._lent = lent
            self._asking = _Asking(library, tokens)

        async def handle_async_request(self, request: Any) -> Any:
            if _flows(request):
                await request.aread()
            asked, exchange = self._asking.begin(request)
            if exchange is None:
                return await self._transport.handle_async_request(request)
            with exchange.sending():
                directed = director.get()
                if directed is not None:
                    known = directed.reply(exchange.dialect.NAME, exchange.sent, exchange.streams)
                    if known is not None:
                        return tee(answer(known), exchange, AsyncBody)
                    if exchange.purpose == "act":
                        with exchange.waiting():
                            await directed.admit(exchange.within)
                            sent = await directed.asked(exchange)
                        if sent is not None:
                            request, asked = self._asking.anew(request, exchange, sent)
                response = await self._transport.handle_async_request(asked)
                if self._asking.is_refusal(exchange, response):
                    exchange.refused(response.status_code, await response.aread())
                    refusal, response = response, await self._transport.handle_async_request(request)
                    self._asking.again(exchange, refusal, response)
            response = tee(response, exchange, AsyncBody)
            if directed is None or exchange.purpose != "act" or not directed.looks(exchange.within):
                return response
            content = await response.aread()  # and closed: the call is on record now
            return passed(response, content, await directed.answered(exchange, content))

        def __getattr__(self, name: str) -> Any:
            return getattr(vars(self)["_transport"], name)

        @property  # type: ignore[misc]
        def __class__(self) -> Any:  # who asks what transport it is means the one below
            return type(self._transport)

        async def aclose(self) -> None:
            await self._transport.aclose()

        async def __aenter__(self) -> Any:
            await self._transport.__aenter__()
            return self

        async def __aexit__(self, *failure: Any) -> None:
            await self._transport.__aexit__(*failure)

    return Recording, AsyncRecording
