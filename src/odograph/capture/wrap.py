"""`wrap(client)`: an OpenAI or Anthropic SDK client, recorded at its HTTP transport.

What the SDK sends and reads passes through untouched; a copy of it becomes an `llm_call`. New SDKs stand on the package
`httpx2`, older ones on `httpx`: the client's own classes say which, so neither is imported here.
"""

from __future__ import annotations

import importlib
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any, TypeVar

from .. import dialects
from ..codec import content_hash, encode, fold_events, loads_or_raw
from ..dialects.sse import SSE
from . import scope
from .recorder import error_of

C = TypeVar("C")

_RETRIED = "x-stainless-retry-count"
_DONE = {"response.completed", "response.incomplete", "response.failed", "message_stop", "error"}


def wrap(client: C, tokens: bool = False) -> C:
    """The same client, recorded from now on: sync or async, streaming or not. Wrapping twice is a no-op.

    Copies made with `with_options()` share its transport and are recorded too. Recorded are the calls of chat completions,
    responses and messages, never a header. `tokens=True` asks the backend of chat completions for token ids and logprobs by
    the fields that vLLM and SGLang know: the answer then holds them as additional fields, which agents need not know.
    OpenAI's own API would refuse them, and SGLang gives no ids to a streamed call. Raises TypeError for what is no such
    client.
    """
    inner = getattr(client, "_client", None)
    library = _library(inner)
    if inner is None or library is None:
        raise TypeError(f"wrap() takes a client of the openai or anthropic SDK, not {type(client).__module__}.{type(client).__name__}")
    is_async = any(c.__name__ == "AsyncClient" for c in type(inner).__mro__)
    recording = _classes(library)[is_async]
    if not isinstance(inner._transport, recording):
        inner._transport = recording(inner._transport, tokens)
    for pattern, transport in list(inner._mounts.items()):
        if transport is not None and not isinstance(transport, recording):
            inner._mounts[pattern] = recording(transport, tokens)
    return client


def _library(inner: Any) -> str | None:
    for parent in type(inner).__mro__:
        if parent.__name__ in ("Client", "AsyncClient") and parent.__module__.split(".")[0] in ("httpx", "httpx2"):
            return parent.__module__.split(".")[0]
    return None


class _Exchange:
    """One request and its response on their way through the transport."""

    def __init__(self, request: Any, dialect: str, body: bytes) -> None:
        self.within = scope.current()
        self.dialect = dialect
        self.body = body
        self.retry = request.headers.get(_RETRIED, "0") not in ("", "0")
        self.started = time.time_ns()
        self._clock = time.perf_counter_ns()
        self.first: int | None = None
        self.status: int | None = None
        self.encoding = ""
        self.streams = False
        self.chunks: list[bytes] = []
        self.done = False
        self._recorded = False

    def answered(self, response: Any) -> None:
        self.status = response.status_code
        self.encoding = response.headers.get("content-encoding", "").strip().lower()
        self.streams = response.headers.get("content-type", "").startswith("text/event-stream")

    def chunk(self, data: bytes) -> None:
        if self.first is None and data:
            self.first = time.perf_counter_ns() - self._clock
        self.chunks.append(data)

    def finish(self, error: Any = None) -> None:
        """Records the call, once. Never raises into the agent."""
        if self._recorded:
            return
        self._recorded = True
        try:
            self._record(error)
        except Exception as fault:
            scope.fault(fault)

    def _record(self, error: Any) -> None:
        request = loads_or_raw(self.body)
        dialect = dialects.get(self.dialect)
        fields: dict[str, Any] = {"dialect": self.dialect, "origin": "wire", "request": request}
        if isinstance(request, dict) and isinstance(request.get("model"), str):
            fields["model"] = request["model"]
        answer: Any = None
        if self.status is not None:
            fields["status_code"] = self.status
            data = _decoded(b"".join(self.chunks), self.encoding)
            if self.streams and self.status < 400:
                sse = SSE()
                sse.feed(data)
                sse.close()
                answer = dialect.assemble(sse.events)
                fields["events"] = fold_events(sse.events)
                fields["first_token"] = self.first
                complete = self.done or b"[DONE]" in data[-64:]
                ended = sse.events and isinstance(sse.events[-1], dict) and sse.events[-1].get("type") in _DONE
                if error is None and not complete and not ended:
                    error = "stream abandoned"
            elif data:
                answer = loads_or_raw(data)
                if error is None and not self.done and not isinstance(answer, dict):
                    error = "response abandoned"
            if self.status >= 400 and error is None:
                error = f"HTTP {self.status}"
        if answer is not None:
            fields["response"] = answer
        usage = dialect.usage(answer.get("usage")) if isinstance(answer, dict) else None
        if usage is not None and usage.prompt is not None:
            fields["prompt_tokens"] = usage.prompt
        if usage is not None and usage.completion is not None:
            fields["completion_tokens"] = usage.completion
        if error is not None:
            fields["error"] = error_of(error)
        fields["started"] = self.started
        fields["duration"] = time.perf_counter_ns() - self._clock
        self._place(fields)

    def _place(self, fields: dict[str, Any]) -> None:
        """Writes the record. A retry supersedes the attempt before it: together they are one call."""
        key = (threading.get_ident(), content_hash([self.dialect, self.body]))
        failed = _failed.pop(key, None) if self.retry else None
        if failed is not None:
            self.within, fields["supersedes"], retries = failed
            fields["extra"] = {"retries": retries}
        placed = scope.record_call(fields, self.within)
        if placed is not None and "error" in fields:
            attempt = {k: fields[k] for k in ("status_code", "error", "started", "duration") if k in fields}
            _failed[key] = (placed[0], placed[1].id, [*(failed[2] if failed else []), attempt])
            while len(_failed) > 1000:
                _failed.popitem(last=False)


#: The last failed attempts, which a retry may follow: where it was recorded, under which id, and the attempts so far.
_failed: OrderedDict[tuple[int, str], tuple[Any, str, list[dict[str, Any]]]] = OrderedDict()


def _decoded(data: bytes, encoding: str) -> bytes:
    """The content without its content-encoding; as it is where that can't be undone."""
    try:
        for name in reversed([e.strip() for e in encoding.split(",") if e.strip()]):
            if name in ("gzip", "x-gzip", "deflate"):
                engine = zlib.decompressobj(zlib.MAX_WBITS | 32 if name != "deflate" else zlib.MAX_WBITS)
                try:
                    data = engine.decompress(data)
                except zlib.error:
                    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)
            elif name == "br":
                data = importlib.import_module("brotli").decompress(data)
            elif name == "zstd":
                data = importlib.import_module("zstandard").ZstdDecompressor().decompressobj().decompress(data)
    except Exception:  # a stream cut short, or a codec that only the SDK has
        return data
    return data


def _begun(request: Any, tokens: bool) -> tuple[Any, _Exchange | None]:
    """The request to send, and the exchange to record; None for what is no call of a model."""
    try:
        dialect = dialects.of_path(request.url.path) if request.method == "POST" else None
        if dialect is None:
            return request, None
        body = request.content
        if tokens and dialect == "openai.chat":
            request, body = _asking(request, body)
        return request, _Exchange(request, dialect, body)
    except Exception as error:
        scope.fault(error)
        return request, None


def _asking(request: Any, body: bytes) -> tuple[Any, bytes]:
    """The same request that also asks for token ids and logprobs."""
    value = loads_or_raw(body)
    if not isinstance(value, dict) or "messages" not in value:
        return request, body
    asked = {"return_token_ids": True, "logprobs": True}
    if not value.get("stream"):  # SGLang's own names; it refuses them for a stream
        asked |= {"return_prompt_token_ids": True, "return_meta_info": True}
    data = encode({**asked, **value})
    headers = [(k, v) for k, v in request.headers.raw if k.lower() not in (b"content-length", b"transfer-encoding")]
    changed = type(request)(request.method, request.url, headers=headers, content=data, extensions=request.extensions)
    return changed, data


@cache
def _classes(library: str) -> tuple[type[Any], type[Any]]:
    """The recording transports, sync and async, on the base classes of the client's own HTTP library."""
    http = importlib.import_module(library)

    class Body(http.SyncByteStream):  # type: ignore[name-defined,misc]
        def __init__(self, stream: Any, exchange: _Exchange) -> None:
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
        def __init__(self, stream: Any, exchange: _Exchange) -> None:
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

    class Recording(http.BaseTransport):  # type: ignore[name-defined,misc]
        def __init__(self, transport: Any, tokens: bool) -> None:
            self._transport = transport
            self._tokens = tokens

        def handle_request(self, request: Any) -> Any:
            request, exchange = _begun(request, self._tokens)
            if exchange is None:
                return self._transport.handle_request(request)
            try:
                response = self._transport.handle_request(request)
            except BaseException as error:
                exchange.finish(error)
                raise
            exchange.answered(response)
            response.stream = Body(response.stream, exchange)
            return response

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
            self._tokens = tokens

        async def handle_async_request(self, request: Any) -> Any:
            request, exchange = _begun(request, self._tokens)
            if exchange is None:
                return await self._transport.handle_async_request(request)
            try:
                response = await self._transport.handle_async_request(request)
            except BaseException as error:
                exchange.finish(error)
                raise
            exchange.answered(response)
            response.stream = AsyncBody(response.stream, exchange)
            return response

        async def aclose(self) -> None:
            await self._transport.aclose()

        async def __aenter__(self) -> Any:
            await self._transport.__aenter__()
            return self

        async def __aexit__(self, *failure: Any) -> None:
            await self._transport.__aexit__(*failure)

    return Recording, AsyncRecording
