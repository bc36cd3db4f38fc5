"""The URLs by which other machines record into a store and read it: bytes of journals come in, questions are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web

from ..access import Refused
from ..api import Store
from ..codec import loads
from ..errors import InvalidInput, NotFound
from ..store.asked import QUESTIONS, answered, frames
from ..store.filters import EVERY, Filters
from ..store.remote import BYTES
from ..store.shipped import Elsewhere, Full
from ..store.shipping import digest_of
from ..types import SCHEMA_VERSION, VERSION
from .web import Route, answer, problem

_THREADS = 8  # requests that are worked at at once
_PIECE = 1 << 20
_LONGEST = 256 << 20  # bytes of one line
_MOST = 64 << 20  # bytes of a question
_Found = TypeVar("_Found")


class Sharing:
    """The routes of a store for other machines."""

    def __init__(self, store: Store, base: Filters = EVERY) -> None:
        """`base`: filters that hold where a question has none."""
        self._backend = store.backend
        self._base = base
        self._receiving = store.backend.receiving()
        self._threads = ThreadPoolExecutor(_THREADS, "odograph-share")

    def close(self) -> None:
        """Lets the journals go, and the threads end."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._receiving.close()

    def table(self) -> list[Route]:
        """All routes."""
        return [
            Route("GET", "/api/store", self._about, "read"),
            Route("POST", "/api/read/{question:[a-z]+}", self._read, "read"),
            Route("GET", "/api/journal/{name}", self._size, "record"),
            Route("POST", "/api/journal/{name}", self._take, "record", BYTES),
            Route("POST", "/api/journal/{name}/done", self._done, "record"),
        ]

    async def _worked(self, work: Callable[..., _Found], *given: Any) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    async def _about(self, request: web.Request) -> web.StreamResponse:
        right = request["right"]
        about = {"version": VERSION, "schema_version": SCHEMA_VERSION, "right": right}
        if right == "record":  # patterns may be secrets
            about["redact"] = await self._worked(self._backend.redaction)
        return answer(about)

    # --- recording ----------------------------------------------------------------------------------------------------

    async def _size(self, request: web.Request) -> web.StreamResponse:
        return answer({"size": await self._worked(self._receiving.size, request.match_info["name"])})

    async def _done(self, request: web.Request) -> web.StreamResponse:
        await self._worked(self._receiving.done, request.match_info["name"])
        return answer({})

    async def _take(self, request: web.Request) -> web.StreamResponse:
        name, start = request.match_info["name"], request.query.get("from", "")
        if not start.isascii() or not start.isdigit() or len(start) > 18:
            raise InvalidInput("from= says at which byte of the journal the body begins")
        if request.query.get("redact", "") != digest_of(await self._worked(self._backend.redaction)):
            raise Refused(412, "the store redacts in another way than the sender; open the store again")
        at, rest = int(start), bytearray()
        try:
            async for piece in request.content.iter_chunked(_PIECE):
                end = piece.rfind(b"\n") + 1
                rest += piece[:end] if end else piece
                if end:
                    at = await self._worked(self._receiving.take, name, at, bytes(rest))
                    rest = bytearray(piece[end:])
                if len(rest) > _LONGEST:
                    raise Refused(413, f"a line has at most {_LONGEST:,} bytes")
            # the rest has no end, which is refused; without one it says that the writer lives
            await self._worked(self._receiving.take, name, at, bytes(rest))
            return answer({"size": await self._worked(self._receiving.sync, name)})
        except Elsewhere as error:
            return answer({"error": str(error), "size": await self._worked(self._receiving.sync, name)}, 409)
        except Full as error:
            return problem(507, str(error))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, request: web.Request) -> web.StreamResponse:
        question = request.match_info["question"]
        body = bytearray()
        async for piece in request.content.iter_chunked(_PIECE):
            body += piece
            if len(body) > _MOST:
                raise Refused(413, f"a question has at most {_MOST:,} bytes")
        given = loads(bytes(body))
        reader = self._backend.reader
        if question in QUESTIONS:
            return answer(await self._worked(answered, reader, question, given, self._base))
        if question not in ("summaries", "figures", "read"):
            raise NotFound(f"no question {question!r}; there are: {', '.join((*QUESTIONS, 'summaries', 'figures', 'read'))}")
        found = frames(reader, question, given, self._base)
        frame = await self._worked(_next, found)  # a mistake in the question is told before the answer begins
        response = web.StreamResponse(headers={"Content-Type": BYTES, "Cache-Control": "no-store"})
        await response.prepare(request)
        while frame is not None:
            await response.write(len(frame).to_bytes(4, "big") + frame)
            frame = await self._worked(_next, found)
        await response.write(bytes(4))  # all of it was sent
        await response.write_eof()
        return response


def _next(found: Iterator[bytes]) -> bytes | None:
    return next(found, None)
