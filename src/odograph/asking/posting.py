"""Posting many requests to a model at once, by aiohttp: a quarter of the processor time of httpx2. Knows HTTP, no dialect.

Errors are those of httpx2, whatever posts: whoever asks handles one kind. Nothing that is posted here is recorded.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec

from ..errors import described


class Response(msgspec.Struct, frozen=True):
    """What was answered, with the names that httpx2 has for it."""

    status_code: int
    headers: Any
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


_CLOSING_SECONDS = 1.0

_holders: dict[asyncio.AbstractEventLoop, AsyncGenerator[Any, None]] = {}
_sessions: dict[asyncio.AbstractEventLoop, Any] = {}


@cache
def is_possible() -> bool:
    """Whether aiohttp is installed, and new enough."""
    try:
        import aiohttp
    except ImportError:
        return False
    return hasattr(aiohttp, "SocketTimeoutError")


async def post(url: str, trusted: Any, content: bytes, headers: dict[str, str], timeout: float) -> Response:
    """Posts, over a connection that is kept. `trusted` makes the context of certificates. Raises httpx2.HTTPError, InvalidURL."""
    import aiohttp
    import httpx2
    import yarl

    session = await _session(trusted)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
    try:
        place = yarl.URL(url, encoded=True)
        async with session.post(place, data=content, headers=headers, timeout=limits, allow_redirects=False) as response:
            return Response(response.status, response.headers, await response.read())
    except (aiohttp.InvalidURL, ValueError) as error:
        raise httpx2.InvalidURL(described(error)) from error
    except (aiohttp.ConnectionTimeoutError, aiohttp.SocketTimeoutError, TimeoutError) as error:
        raise httpx2.ReadTimeout(f"no answer within {timeout:g} seconds") from error
    except aiohttp.ClientConnectorError as error:
        raise httpx2.ConnectError(described(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx2.ReadError(described(error)) from error


async def _session(trusted: Any) -> Any:
    """The session of this event loop, open until the loop shuts down its generators: nobody has to close it."""
    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        _close_at_exit(os.getpid())
        for old in [one for one in _sessions if one.is_closed()]:  # loops that were closed without their generators
            del _sessions[old], _holders[old]
        holder = _living(loop, trusted)
        await anext(holder)  # which does not wait for anything
        _holders[loop] = holder
    return _sessions[loop]


@cache
def _close_at_exit(process: int) -> None:
    atexit.register(_close, process)


def _close(process: int) -> None:
    """Closes what the loop that lasts as long as the process left open, of which aiohttp would complain. A forked child has no
    thread that runs the loop."""
    for loop, session in list(_sessions.items()) if process == os.getpid() else ():
        if loop.is_running():
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(session.close(), loop).result(_CLOSING_SECONDS)


async def _living(loop: asyncio.AbstractEventLoop, trusted: Any) -> AsyncGenerator[Any, None]:
    import aiohttp

    holders, sessions = _holders, _sessions  # at the end of the interpreter the module's own names may be gone
    connector = aiohttp.TCPConnector(limit=0, ssl=trusted())
    session = sessions[loop] = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    try:
        yield session
    finally:
        sessions.pop(loop, None)
        holders.pop(loop, None)
        await session.close()
