"""`wrap(client)`: an OpenAI or Anthropic SDK client, recorded at its HTTP transport.

What the SDK sends and reads passes through untouched; a copy of it becomes an `llm_call`. New SDKs stand on the package
`httpx2`, older ones on `httpx`: the client's own classes say which, so neither is imported here.
"""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any, TypeVar

from .. import dialects
from ..codec import encode, loads_or_raw
from ..redact import Redactor
from . import faults, scope
from .exchange import Exchange

C = TypeVar("C")


def wrap(client: C, tokens: bool = False) -> C:
    """The same client, recorded from now on: sync or async, streaming or not. Wrapping twice is a no-op.

    Copies made with `with_options()` share its transport and are recorded too. Recorded are the calls of chat completions,
    responses and messages, never a header. `tokens=True` asks the backend of chat completions for token ids and logprobs by
    the fields that vLLM and SGLang know: the answer then holds them as additional fields, which agents need not know. A
    backend that refuses them (OpenAI's own; SGLang for a stream) is asked again without them, and no more from then on, with
    a warning. Raises TypeError for what is no such client.
    """
    inner = getattr(client, "_client", None)
    library = _library(inner)
    if inner is None or library is None:
        raise TypeError(
            f"wrap() takes a client of the openai or anthropic SDK, not {type(client).__module__}.{type(client).__name__}"
        )
    is_async = any(c.__name__ == "AsyncClient" for c in type(inner).__mro__)
    recorded = _classes(library)[is_async]
    if not isinstance(inner._transport, recorded):
        inner._transport = recorded(inner._transport, tokens)
    for pattern, transport in list(inner._mounts.items()):
        if transport is not None and not isinstance(transport, recorded):
            inner._mounts[pattern] = recorded(transport, tokens)
    return client


def _library(inner: Any) -> str | None:
    for parent in type(inner).__mro__:
        if parent.__name__ in ("Client", "AsyncClient") and parent.__module__.split(".")[0] in ("httpx", "httpx2"):
            return parent.__module__.split(".")[0]
    return None


class _Asking:
    """What `tokens` adds to the requests of one transport."""

    def __init__(self, tokens: bool) -> None:
        self._tokens = tokens
        #: Whether streams (True) or other calls (False) are still asked.
        self._refused: set[bool] = set()

    def begin(self, library: str, request: Any) -> tuple[Any, Exchange | None]:
        """The request to send, and the exchange to record; None for what is no call of a model."""
        try:
            dialect = dialects.of_path(request.url.path) if request.method == "POST" else None
            if dialect is None:
                return request, None
            exchange = Exchange(library, request, dialect)
        except Exception as error:
            faults.fault(error)
            return request, None
        try:
            if self._tokens and dialect == "openai.chat":
                return self._asked(request, exchange), exchange
        except Exception as error:
            faults.fault(error)
        return request, exchange

    def _asked(self, request: Any, exchange: Exchange) -> Any:
        value = loads_or_raw(exchange.sent)
        if not isinstance(value, dict) or "messages" not in value:
            return request
        streams = bool(value.get("stream"))
        if streams in self._refused:
            return request
        fields = {"return_token_ids": True, "logprobs": True}
        if not streams:  # by SGLang's own names, which it refuses for a stream
            fields |= {"return_prompt_token_ids": True, "return_meta_info": True}
        more = {name: field for name, field in fields.items() if name not in value}
        if not more:
            return request
        # what the SDK wrote stays as it is, byte for byte
        body = encode(more)[:-1] + b"," + exchange.sent.lstrip()[1:]
        headers = [(k, v) for k, v in request.headers.raw if k.lower() not in (b"content-length", b"transfer-encoding")]
        asked = type(request)(request.method, request.url, headers=headers, content=body, extensions=request.extensions)
        exchange.body = body
        return asked

    def is_refusal(self, exchange: Exchange, response: Any) -> bool:
        return exchange.body is not exchange.sent and response.status_code in (400, 422)

    def again(self, exchange: Exchange, first: Any, second: Any) -> None:
        """A request that was refused with our fields went out without them; if that was all, it is not asked any more."""
        if second.status_code >= 400:
            return
        try:
            self._refused.add(bool(loads_or_raw(exchange.sent).get("stream")))
            said = Redactor(True).text(first.text[:10_000], Counter())[:200]  # servers quote keys
            warnings.warn(
                f"the backend refuses to give token ids (HTTP {first.status_code}: {said}); calls go on without",
                RuntimeWarning,
                stacklevel=2,
            )
        except Exception as error:  # a warning that is an error here is not the agent's
            faults.fault(error)


def recording(transport: Any, library: str, tokens: bool = False) -> Any:
    """An async transport of `httpx` or `httpx2`, recorded."""
    return _classes(library)[True](transport, tokens)


@cache
def _classes(library: str) -> tuple[type[Any], type[Any]]:
    """The recording transports, sync and async, on the base classes of the client's own HTTP library."""
    http = importlib.import_module(library)

    class Body(http.SyncByteStream):  # type: ignore[name-defined,misc]
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream = stream
            self._exchange = exchange

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._stream:
                    self._exchange.chunk(chunk)
                    yield chunk
            except GeneratorExit:
                raise
            except BaseException as error:
                self._exchange.finish(error)
                raise
            self._exchange.done = True

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

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    self._exchange.chunk(chunk)
                    yield chunk
            except GeneratorExit:
                raise
            except BaseException as error:
                self._exchange.finish(error)
                raise
            self._exchange.done = True

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._exchange.finish()

        def __del__(self) -> None:
            self._exchange.finish()

    def tee(response: Any, exchange: Exchange, body: type[Any]) -> Any:
        try:
            exchange.answered(response)
            response.stream = body(response.stream, exchange)
        except Exception as error:
            faults.fault(error)
        return response

    def answer(known: tuple[int, str, bytes]) -> Any:
        status, kind, body = known
        return http.Response(status, headers={"content-type": kind}, stream=http.ByteStream(body))

    class Recording(http.BaseTransport):  # type: ignore[name-defined,misc]
        def __init__(self, transport: Any, tokens: bool) -> None:
            self._transport = transport
            self._asking = _Asking(tokens)

        def handle_request(self, request: Any) -> Any:
            asked, exchange = self._asking.begin(library, request)
            if exchange is None:
                return self._transport.handle_request(request)
            try:
                directed = scope.director.get()
                if directed is not None:
                    known = directed.reply(exchange.dialect, exchange.sent)
                    if known is not None:
                        return tee(answer(known), exchange, Body)
                    with exchange.waiting():
                        directed.admit_sync(exchange.within)
                response = self._transport.handle_request(asked)
                if self._asking.is_refusal(exchange, response):
                    exchange.refused(response.status_code, response.read())
                    refusal, response = response, self._transport.handle_request(request)
                    self._asking.again(exchange, refusal, response)
            except BaseException as error:
                exchange.finish(error)
                raise
            return tee(response, exchange, Body)

        def close(self) -> None:
            self._transport.close()

        def __enter__(self) -> Any:
            self._transport.__enter__()
            return self

        def __exit__(self, *failure: Any) -> None:
            self._transport.__exit__(*failure)

    class AsyncRecording(http.AsyncBaseTransport):  # type: ignore[name-defined,misc]
        def __init__(self, transport: Any, tokens: bool) -> None:
            self._transport = transport
            self._asking = _Asking(tokens)

        async def handle_async_request(self, request: Any) -> Any:
            asked, exchange = self._asking.begin(library, request)
            if exchange is None:
                return await self._transport.handle_async_request(request)
            try:
                directed = scope.director.get()
                if directed is not None:
                    known = directed.reply(exchange.dialect, exchange.sent)
                    if known is not None:
                        return tee(answer(known), exchange, AsyncBody)
                    with exchange.waiting():
                        await directed.admit(exchange.within)
                response = await self._transport.handle_async_request(asked)
                if self._asking.is_refusal(exchange, response):
                    exchange.refused(response.status_code, await response.aread())
                    refusal, response = response, await self._transport.handle_async_request(request)
                    self._asking.again(exchange, refusal, response)
            except BaseException as error:
                exchange.finish(error)
                raise
            return tee(response, exchange, AsyncBody)

        async def aclose(self) -> None:
            await self._transport.aclose()

        async def __aenter__(self) -> Any:
            await self._transport.__aenter__()
            return self

        async def __aexit__(self, *failure: Any) -> None:
            await self._transport.__aexit__(*failure)

    return Recording, AsyncRecording
