"""A request of lm15 (the client inside of DSPy) to a model and its response, as they pass -> one `llm_call`. Imports no lm15.

Source: `lm15.transports` 1.5, whose `stream` gives a response with `status`, `headers`, `_chunks` (bytes) and `_release`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from . import faults
from .exchange import Exchange, begun, later_at


def passed(request: Any, send: Callable[[], Any]) -> Any:
    """The response to a request; what it brings is recorded when it was read, or left."""
    exchange = _begun(request)
    if exchange is None:
        return send()
    with exchange.sending():
        response = send()
    return _recorded(response, exchange, exchange.read)


async def passed_async(request: Any, send: Callable[[], Awaitable[Any]]) -> Any:
    """`passed` of the async transport."""
    exchange = _begun(request)
    if exchange is None:
        return await send()
    with exchange.sending():
        response = await send()
    return _recorded(response, exchange, exchange.read_async)


def _begun(request: Any) -> Exchange | None:
    try:
        headers = {str(k).lower(): str(v) for k, v in request.headers}
        url = urlsplit(request.url)
        later = later_at(url.netloc)
        exchange = begun(request.method, url.path, headers, bytes(request.body), lambda data, _: data, later)
        if exchange is None and request.method == "POST":
            faults.unrecorded()
        return exchange
    except Exception as error:
        faults.fault(error)
        return None


def _recorded(response: Any, exchange: Exchange, read: Callable[[Any], Any]) -> Any:
    try:
        exchange.answered(response.status, {str(k).lower(): str(v) for k, v in response.headers})
        response._chunks = read(response._chunks)
        release = response._release

        def released(*args: Any, **kwargs: Any) -> Any:
            exchange.finish()
            return release(*args, **kwargs)

        response._release = released
    except Exception as error:
        faults.fault(error)
    return response
