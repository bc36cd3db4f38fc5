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
    with exchange.sending():
        response = send()
    try:
        exchange.answered(response.status_code, {str(k).lower(): str(v) for k, v in response.headers.items()})
        read = getattr(response, "_content", None)  # botocore reads what is no stream at once
        if isinstance(read, bytes):
            exchange.chunk(read)
            exchange.end()
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
            headers["x-stainless-retry-count"] = tried  # from 1 on: each is one more than the last
        path = urlsplit(request.url).path
        exchange = begun(request.method, path, headers, sent, lambda data, _: data, _later)
        if exchange is None and path.startswith("/model/"):  # of AWS's many services this one has the models
            faults.unrecorded()
        return exchange
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
        with self._exchange.sending():
            data = self._raw.read(amt, *args, **kwargs)
        if data:
            self._exchange.chunk(data)
        if amt is None or amt < 0 or (not data and amt):
            self._exchange.end()
        return data

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return self._exchange.read(self._raw.stream(*args, **kwargs), self)

    def __iter__(self) -> Iterator[Any]:
        return self.stream()

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            self._exchange.finish()

    def __del__(self) -> None:
        self._exchange.finish()
