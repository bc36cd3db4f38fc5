"""A server from its start to its end: the address, the token, signals. Knows no route."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress

from aiohttp import web

from ..access import Access, in_url, is_any, log_of
from .web import AccessLog, Route, application, log

_GRACE = 2.0  # seconds that requests under way have when the server ends
_HEADERS = 16 << 10  # bytes of one line of a request's head


def address(bind: str, port: int, token: str | None, *, tls: bool = False) -> str:
    """The URL of a server's page; with its token."""
    host = "127.0.0.1" if is_any(bind) else in_url(bind)
    return f"http{'s' if tls else ''}://{host}:{port}/" + (f"?token={token}" if token else "")


async def serve(
    routes: Iterable[Route],
    access: Access,
    at: socket.socket,
    *,
    ready: Callable[[], None] = lambda: None,
    tls: ssl.SSLContext | None = None,
    log_requests: bool = False,
) -> None:
    """Serves until SIGINT or SIGTERM. `ready` is called when requests are answered."""
    app = application(routes, access)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, ValueError, RuntimeError):  # not the main thread
            loop.add_signal_handler(sign, stop.set)
    runner = web.AppRunner(
        app,
        access_log=log.getChild("access") if log_requests else None,
        access_log_class=AccessLog,
        logger=log_of(__name__),
        shutdown_timeout=_GRACE,
        max_line_size=_HEADERS,
        max_field_size=_HEADERS,
        handler_cancellation=True,  # of a stream whose page is gone
    )
    await runner.setup()
    try:
        await web.SockSite(runner, at, ssl_context=tls).start()
        ready()
        await stop.wait()
    finally:
        await runner.cleanup()
