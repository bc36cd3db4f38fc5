"""A request of botocore to a model on Bedrock and its response, as they pass -> one `llm_call`. Imports nothing of botocore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from . import faults
from .exchange import Exchange, Later, begun

_later = Later()


def passed(request: Any, send: Callable[[], Any]) -> Any:
    """The response to an `AWSPreparedRequest`; what it brings is recorded when it was read."""
    exchange = _begun(request)
    if exchange is None:
        return send()
    try:
        response = send()
    except BaseException as error:
        exchange.finish(error)
        raise
    try:
        exchange.answered(response.status_code, {str(k).lower(): str(v) for k, v in response.headers.items()})
        read = getattr(response, "_content", None)  # botocore reads what is no stream at once
        if isinstance(read, bytes):
            exchange.chunk(read)
            exchange.done = True
            exchange.finish()
        else:
            response.raw = _Body(response.raw, exchange)
    except Exception as error:
        faults.fault(error)
    return response


def _begun(request: Any) -> Exchange | None:
    try:
        body = request.body
        sent = body.encode() if isinstance(body, str) else bytes(body) if isinstance(body, (bytes, bytearray)) else b""
        headers = {str(k).lower(): _text(v) for k, v in request.headers.items()}
        tried = headers.get("amz-sdk-request", "").partition("attempt=")[2].partition(";")[0]
        if tried.isdecimal():
            headers["x-stainless-retry-count"] = str(int(tried) - 1)
        return begun(request.method, urlsplit(request.url).path, headers, sent, lambda data, _: data, _later)
    except Exception as error:
        faults.fault(error)
        return None


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


class _Body:
    """The body of a urllib3 response, which tells what is read of it."""

    def __init__(self, raw: Any, exchange: Exchange) -> None:
        self._raw = raw
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:
        try:
            data = self._raw.read(amt, *args, **kwargs)
        except BaseException as error:
            self._exchange.finish(error)
            raise
        if data:
            self._exchange.chunk(data)
        if amt is None or amt < 0 or (not data and amt):
            self._end()
        return data

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            for data in self._raw.stream(*args, **kwargs):
                self._exchange.chunk(data)
                yield data
        except GeneratorExit:
            raise
        except BaseException as error:
            self._exchange.finish(error)
            raise
        self._end()

    def __iter__(self) -> Iterator[Any]:
        return self.stream()

    def _end(self) -> None:
        self._exchange.done = True
        self._exchange.finish()

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            self._exchange.finish()

    def __del__(self) -> None:
        self._exchange.finish()
