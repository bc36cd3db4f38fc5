"""The guard of a web server: each request passes one door, whatever its route. Knows HTTP and no trajectory.

The door checks the name that was asked for, the origin, the token and the right, in this order. The door holds for streams and
websockets as for all else. Errors are JSON, `{"error": "..."}`; a defect of ours says no more than that.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from ..access import Access, Refused, Right, allows
from ..codec import encode_finite
from ..errors import InvalidInput, NotFound, OdographError
from ..log import logger
from ..store.remote import NOTHING

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: The largest body of a request, bytes.
LARGEST = 1 << 20
_METHODS = ("GET", "POST")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
#: Of all that is no page.
_NO_CONTENT = "default-src 'none'; frame-ancestors 'none'; sandbox"
log = logger.getChild("viewer")


class Route(NamedTuple):
    """A URL and what answers it."""

    method: str
    path: str
    handler: Handler
    #: The right that it needs; None: it is open to who has no token.
    right: Right | None
    #: What a body is.
    kind: str = "application/json"


class AccessLog(AbstractAccessLogger):
    """One line a request: no query, no header, no body, for tokens and searches stand in these."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.logger.info("%s %s %d %.0f ms", request.method, request.path, response.status, time * 1000)


def application(routes: Iterable[Route], access: Access, pages: Iterable[str] = ("/",)) -> web.Application:
    """An application with these routes behind the guard. `pages`: paths of pages, which other pages may link to and whose URL may
    hold the token (`?token=`); who opens one with a token gets a cookie with it."""
    rights: dict[tuple[str, str], tuple[Right | None, str]] = {}
    linked = frozenset(pages)

    @web.middleware
    async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            resource = request.match_info.route.resource
            needed, kind = rights.get((request.method, resource.canonical if resource else ""), ("read", "application/json"))
            right, who = _checked(request, access, linked, kind)
            if needed is not None and not allows(right, needed):
                may = "only read" if right == "read" else "not record"
                raise Refused(401 if right is None else 403, _NO_TOKEN if right is None else f"this token may {may}")
            request["right"], request["who"] = right, who
            found = await _answered(request, handler)
        except Refused as why:
            found = problem(why.status, str(why))
        if not found.prepared:
            for name, value in _HEADERS.items():
                found.headers.setdefault(name, value)
            found.headers.setdefault("Content-Security-Policy", _NO_CONTENT)
            token = request.query.get("token") if request.path in linked else None
            if token is not None and access.right(token) is not None:
                found.set_cookie(access.cookie, token, httponly=True, samesite="Strict", path="/", secure=request.secure)
        return found

    app = web.Application(middlewares=[door], client_max_size=LARGEST)
    for method, path, handler, right, kind in routes:
        resource = app.router.add_route(method, path, handler).resource
        assert resource is not None
        rights[method, resource.canonical] = right, kind
    return app


_NO_TOKEN = "a token is needed: open the address that the command printed"


def _checked(request: web.Request, access: Access, pages: frozenset[str], kind: str) -> tuple[Right | None, str | None]:
    """What a request may do, and the person whom a reverse proxy names. Raises Refused."""
    access.check_host(request.headers.getall("Host", []))
    if request.method not in _METHODS:
        raise Refused(405, f"{' and '.join(_METHODS)} are answered")
    page = request.path in pages and request.method != "POST"
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ").strip() or None
    writes = request.method == "POST"
    # who comes with a token can name anybody, so the name is believed with a token alone
    named = request.headers.getall(access.identity, []) if access.identity and access.right(bearer) is not None else []
    if len(named) > 1:
        raise Refused(400, f"the header {access.identity} names one person")
    who = named[0].strip() or None if named else None
    # a program with a token in a header is no page of a browser: a browser sends no such header by itself, a proxy does
    access.check_origin(
        request.headers["Host"],
        request.headers.get("Origin"),
        request.headers.get("Sec-Fetch-Site"),
        page=page,
        writes=writes and (bearer is None or who is not None),
    )
    if writes and request.content_type != kind:
        raise Refused(415, f"a body is {kind}")
    return access.right(request.query.get("token") if page else None, bearer, request.cookies.get(access.cookie)), who


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return problem(413, f"a body has at most {LARGEST:,} bytes")
    except web.HTTPException as found:
        return problem(found.status, NOTHING if found.status == 404 else found.reason or "refused")
    except NotFound as error:
        return problem(404, str(error))
    except InvalidInput as error:
        return problem(400, str(error))
    except OdographError as error:
        return problem(503, str(error))
    except (asyncio.CancelledError, ConnectionError, Refused):
        raise
    except Exception:  # a defect of ours: the traceback may hold what agents wrote, so it goes to the terminal alone
        log.error("%s %s failed\n%s", request.method, request.path, traceback.format_exc())
        return problem(500, "the server failed; its terminal says how")


def problem(status: int, why: str) -> web.Response:
    """An error as JSON."""
    return answer({"error": why}, status)


def answer(value: Any, status: int = 200) -> web.Response:
    """A value as JSON, or JSON that was encoded before."""
    body = value if isinstance(value, bytes) else encode_finite(value)
    return web.Response(body=body, status=status, content_type="application/json")
