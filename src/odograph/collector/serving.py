"""The ports of a collector, from their start to their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from ..access import IDLE, in_url, listen, log_of
from .collecting import Collector
from .receiver import Receiver

_GRACE = 5.0  # seconds that requests under way have when the server ends
_HEADERS = 16 << 10


@asynccontextmanager
async def serve(
    receiver: Receiver, collector: Collector, host: str, port: int, grpc: int | None = None, token: str | None = None
) -> AsyncIterator[list[str]]:
    """Listens while the context lasts; gives the URLs. Requests that came before the end are answered. Raises InvalidInput."""
    runner = web.AppRunner(
        receiver.application(),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=IDLE,
        logger=log_of(__name__),
        shutdown_timeout=_GRACE,
        max_line_size=_HEADERS,
        max_field_size=_HEADERS,
    )
    await runner.setup()
    remote = None
    try:
        await web.SockSite(runner, listen(host, port)).start()
        urls = [f"http://{in_url(host)}:{runner.addresses[0][1]}"]
        if grpc is not None:
            from .remote import listen as listen_to_grpc

            remote, at = await listen_to_grpc(collector, f"{in_url(host)}:{grpc}", token)
            urls.append(f"http://{in_url(host)}:{at}")
        yield urls
    finally:
        if remote is not None:
            await remote.stop(_GRACE)
        await runner.cleanup()
