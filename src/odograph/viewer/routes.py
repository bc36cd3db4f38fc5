"""The URLs of a viewer: the page, its files, and `Answers` under `/api/`. Ids and names are looked up; none is ever a path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from ..access import Right
from ..codec import encode, loads
from . import page
from .answers import Answers
from .labelling import Labelling
from .live import Live
from .web import Route, answer, problem

_THREADS = 4  # answers that are made at once


class Routes:
    """The routes of a viewer of one store."""

    def __init__(self, answers: Answers, live: Live, labelling: Labelling | None = None) -> None:
        """`labelling`: the queues of those who label in the browser."""
        self._answers = answers
        self._labelling = labelling
        self._live = live
        self._threads = ThreadPoolExecutor(_THREADS, "odograph-view")

    def close(self) -> None:
        """Lets the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def table(self) -> list[Route]:
        """All routes. The page and its files are open: they hold nothing of the store."""
        found = [Route("GET", "/", self._page, None)]
        found += [Route("GET", f"/{name}", self._asset, None) for name in page.names()]
        found.append(Route("GET", "/api/live", self._follow, "read"))
        a = self._answers
        for path, make in (
            ("info", lambda r: a.info() | {"right": r["right"], "who": r["who"]} | self._rubric()),
            ("list", lambda r: a.listing(_query(r))),
            ("counts", lambda r: a.counts(_query(r))),
            ("figures", lambda r: a.figures(_query(r))),
            ("labels", lambda r: a.labels(_query(r))),
            ("comparison", lambda r: a.comparison(_query(r))),
            ("findings", lambda r: a.findings(_query(r))),
            ("t/{id}", lambda r: a.head(_name(r, "id"))),
            ("t/{id}/about", lambda r: a.about(_name(r, "id"))),
            ("t/{id}/tokens", lambda r: a.tokens(_name(r, "id"))),
            ("t/{id}/rows", lambda r: a.rows(_name(r, "id"), _query(r))),
            ("group", lambda r: a.group(r.query.get("name", ""))),
            ("diff", lambda r: a.difference(r.query.get("a", ""), r.query.get("b", ""))),
            ("t/{id}/part/{n:[0-9]{1,9}}", lambda r: a.part(_name(r, "id"), int(_name(r, "n")))),
            ("t/{id}/whole/{n:[0-9]{1,9}}", lambda r: a.whole(_name(r, "id"), int(_name(r, "n")))),
            ("t/{id}/record/{record}", lambda r: a.record(_name(r, "id"), _name(r, "record"))),
        ):
            found.append(self._route("GET", path, make, "read"))
        found.append(self._taking("/api/t/{id}/annotate", lambda r, given: a.annotate(_name(r, "id"), _by(r, "author", given))))
        queue = self._labelling
        if queue is not None:
            found.append(self._route("GET", "queue", lambda r: queue.look(r["who"] or r.query.get("annotator", "")), "read"))
            found.append(self._taking("/api/queue", lambda r, given: queue.act(_by(r, "annotator", given))))
        return found

    def operation(self) -> list[Route]:
        """What those who run a server ask: whether it answers, and how the store fares."""

        async def health(request: web.Request) -> web.StreamResponse:
            return answer({"status": "ok"})

        def metrics(request: web.Request) -> dict[str, Any]:
            return self._answers.health()

        return [Route("GET", "/health", health, None), self._route("GET", "metrics", metrics, "read")]

    def _route(self, method: str, path: str, make: Callable[[web.Request], Any], right: Right) -> Route:
        async def handle(request: web.Request) -> web.StreamResponse:
            return answer(await asyncio.get_running_loop().run_in_executor(self._threads, make, request))

        return Route(method, f"/api/{path}", handle, right)

    def _taking(self, path: str, make: Callable[[web.Request, Any], Any]) -> Route:
        """A route that writes what a page sends."""

        async def handle(request: web.Request) -> web.StreamResponse:
            given = loads(await request.read())
            return answer(await asyncio.get_running_loop().run_in_executor(self._threads, make, request, given))

        return Route("POST", path, handle, "label")

    def _rubric(self) -> dict[str, Any]:
        return {"rubric": self._labelling.rubric.technique} if self._labelling is not None else {}

    async def _page(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Security-Policy": page.POLICY}
        return web.Response(body=page.served(), content_type="text/html", charset="utf-8", headers=headers)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        name = request.path[1:]
        return web.Response(body=page.asset(name), content_type=page.TYPES[name.rpartition(".")[2]], charset="utf-8")

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the ids of trajectories that changed."""
        if self._live.is_full:
            return problem(503, "too many pages listen")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        async with self._live.listening() as turns:
            await response.prepare(request)  # who has the head is told of all that comes
            await response.write(b"retry: 2000\n\n")
            async for ids in turns:
                if request.transport is None or request.transport.is_closing():
                    break
                await response.write(b"data: " + encode(ids) + b"\n\n" if ids else b": \n\n")
        return response


def _query(request: web.Request) -> dict[str, list[str]]:
    return {name: request.query.getall(name) for name in request.query}


def _by(request: web.Request, field: str, given: Any) -> Any:
    """What a page sends, in the name of the person whom a reverse proxy names."""
    return {**given, field: request["who"]} if request["who"] and isinstance(given, dict) else given


def _name(request: web.Request, name: str) -> str:
    return request.match_info[name]
