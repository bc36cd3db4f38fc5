"""Responses over a WebSocket (`client.responses.connect()` of the OpenAI SDK) -> `llm_call`s. What passes stays untouched.

A message `response.create` is the request, the events behind it are the stream that answers. `previous_response_id` stands for
a history that the server keeps: the record holds that history, as far as it passed a socket.
Source: https://platform.openai.com/docs/guides/websocket-mode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, cast

from .. import dialects, guard
from ..codec import encode, loads_or_raw
from . import faults
from .exchange import Exchange, Later

_MOST = 100  # answers that a later request may go on from


def record(responses: Any) -> Any:
    """The resource `responses` of a client, its sockets recorded from now on."""
    connect = getattr(responses, "connect", None)
    if connect is not None and "connect" not in vars(responses):
        responses.connect = lambda *args, **kwargs: opening(connect(*args, **kwargs))
    return responses


def count(resource: Any) -> Any:
    """A resource whose sockets no dialect knows (OpenAI's realtime API, Google's Live API), each counted from now on."""
    connect = getattr(resource, "connect", None)
    if connect is not None and "connect" not in vars(resource):

        def counting(*args: Any, **kwargs: Any) -> Any:
            faults.unrecorded()
            return connect(*args, **kwargs)

        resource.connect = counting
    return resource


def opening(manager: Any) -> Any:
    """What opens a socket, which will be recorded."""
    if not hasattr(type(manager), "_connect_ws"):
        faults.unrecorded()
        guard.warn(
            "odograph can't record the WebSockets of this version of the openai SDK; newer versions can be recorded", stacklevel=3
        )
    elif not hasattr(type(manager), "_odograph"):
        manager.__class__ = _recorded(cast(Any, type(manager)))
    return manager


@cache
def _recorded(kind: type[Any]) -> type[Any]:
    if kind.__name__.startswith("Async"):

        async def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _AsyncSocket(await kind._connect_ws(self, *args, **kwargs))

    else:

        def connect(self: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
            return _Socket(kind._connect_ws(self, *args, **kwargs))

    about = {"_connect_ws": connect, "_odograph": True, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), about)


class _Open:
    """A call without an end: its history, and whether the model is asked (`generate: false` only sends history ahead)."""

    def __init__(self, exchange: Exchange, items: list[Any], asks: bool) -> None:
        self.exchange = exchange
        self.items = items
        self.asks = asks
        #: The answer's id, once the answer has begun.
        self.id: str | None = None


class Calls:
    """The calls that pass one socket. `begin` makes the exchange of a request's body. `known`: the history up to an answer,
    by the answer's id; sockets may share it."""

    def __init__(self, begin: Callable[[bytes], Exchange] | None = None, known: dict[str, list[Any]] | None = None) -> None:
        self._begin = begin or self._exchange
        self._open: deque[_Open] = deque()
        self._known = {} if known is None else known
        self._later = Later()
        self._dialect = dialects.get("openai.responses")

    @property
    def running(self) -> bool:
        """Whether a call has begun and has no end yet."""
        return bool(self._open)

    def sent(self, message: Any) -> None:
        try:
            event = _event(message)
            if event.get("type") != "response.create":
                return
            request = {k: v for k, v in event.items() if k != "type"}
            given = request.get("input")
            items = [{"role": "user", "content": given}] if isinstance(given, str) else given if isinstance(given, list) else []
            before = self._known.get(str(request.get("previous_response_id")))
            if before is not None:
                items = request["input"] = [*before, *items]
            exchange, asks = self._begin(encode(request)), event.get("generate") is not False
            if not asks:
                exchange.unlist()
            exchange.answered(101, {"content-type": "text/event-stream"})
            self._open.append(_Open(exchange, items, asks))
        except Exception as error:
            faults.fault(error)

    def _exchange(self, sent: bytes) -> Exchange:
        return Exchange(self._dialect, "/v1/responses", {}, sent, lambda data, _: data, self._later)

    def got(self, message: Any) -> None:
        if not self._open:
            return
        try:
            data = message.encode() if isinstance(message, str) else bytes(message)
            one = self._answered(data)
            if not one.exchange.took(b"data: " + data.replace(b"\r", b"").replace(b"\n", b" ") + b"\n\n"):
                return
            self._end(one)
            answer = _event(data).get("response")
            if isinstance(answer, dict) and isinstance(answer.get("id"), str):
                self._known[answer["id"]] = [*one.items, *self._dialect.said(answer)]
                while len(self._known) > _MOST:
                    self._known.pop(next(iter(self._known)), None)
        except Exception as error:
            faults.fault(error)

    def _answered(self, data: bytes) -> _Open:
        """The call that an event belongs to: the first, whose answer may begin with it. Where several are open, by the answer's
        id: a server may leave an answer without an end, or answer two calls at once."""
        one = self._open[0]
        if len(self._open) == 1 and one.id is not None:
            return one
        answer = _event(data).get("response")
        id = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(id, str):
            return one
        found = next((o for o in self._open if o.id == id), None) or next((o for o in self._open if o.id is None), one)
        found.id = id
        return found

    def close(self, error: BaseException | None = None) -> None:
        while self._open:
            self._end(self._open[0], error)

    def _end(self, one: _Open, error: BaseException | None = None) -> None:
        self._open.remove(one)
        if one.asks:
            one.exchange.finish(error)
        else:
            one.exchange.drop()


def _event(message: Any) -> dict[str, Any]:
    found = loads_or_raw(message.encode() if isinstance(message, str) else bytes(message))
    return found if isinstance(found, dict) else {}


class _Socket:
    """A socket of the package `websockets`, which tells what passes."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._calls = Calls()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def send(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        self._calls.sent(message)
        return self._socket.send(message, *args, **kwargs)

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        try:
            message = self._socket.recv(*args, **kwargs)
        except TimeoutError:
            raise
        except Exception as error:
            self._calls.close(error)
            raise
        self._calls.got(message)
        return message

    def close(self, *args: Any, **kwargs: Any) -> Any:
        self._calls.close()
        return self._socket.close(*args, **kwargs)


class _AsyncSocket(_Socket):
    async def send(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        self._calls.sent(message)
        return await self._socket.send(message, *args, **kwargs)

    async def recv(self, *args: Any, **kwargs: Any) -> Any:
        try:
            message = await self._socket.recv(*args, **kwargs)
        except Exception as error:
            self._calls.close(error)
            raise
        self._calls.got(message)
        return message

    async def close(self, *args: Any, **kwargs: Any) -> Any:
        self._calls.close()
        return await self._socket.close(*args, **kwargs)
