"""Who may pass: the Host and Origin of a request, its token, and the tickets of rollouts. Pure; asked before anything is routed.

Nothing in a request names an upstream, a file or a command. A page in a browser can reach a port of this machine. So requests of
pages (with an `Origin`) and requests under a foreign name (`Host`, after a change of DNS) are refused.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from ..access import host_of, same
from ..errors import InvalidInput
from . import address
from .address import Address

_MOST_TICKETS = 100_000
_MOST_KNOWN = 100
_SHORT = 1000
TICKET = "odo-"
#: Headers that hold a client's key.
_KEYS = ("x-odograph-token", "x-api-key", "x-goog-api-key", "api-key")
_DOTS = re.compile(r"(?:^|[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\]|%2f|%5c)", re.IGNORECASE)
#: What a holder of a ticket may add to it.
_OWN = ("run", "agent", "purpose")


class Refused(Exception):
    """A request that goes no further: its status and one sentence."""

    def __init__(self, status: int, kind: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def body(self) -> dict[str, Any]:
        """The body of the answer, in a shape that the SDKs of OpenAI and Anthropic show."""
        return {"type": "error", "error": {"type": f"odograph_{self.kind}", "message": f"odograph proxy: {self.message}"}}

    def event(self) -> dict[str, Any]:
        """The same where there is no HTTP status: in a WebSocket of the Responses API."""
        return {**self.body(), "status": self.status, "headers": self.headers}


class Admitted(msgspec.Struct, frozen=True):
    """A request that may pass: whose it is, the path that goes upstream, whether its key is one of ours, and its ticket."""

    address: Address
    path: str
    ours: bool
    ticket: str | None = None


class Gate:
    """`token`: without it, or a ticket, nobody passes; None: whoever reaches the port does."""

    def __init__(self, token: str | None = None, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._token = token
        self._hosts = {"localhost", *(h.lower() for h in hosts)}
        self._origins = {o.lower().rstrip("/") for o in origins}
        self._tickets: dict[str, Address] = {}
        #: Values of the header Host that are ours.
        self._known: set[str] = set()
        #: Runs that have a ticket: nobody gets into them by their name.
        self._reserved: set[str] = set()

    def issue(self, whose: Address) -> str:
        """A ticket for a run: who holds it records in that run, and nobody else does. Raises InvalidInput."""
        if whose.run is None:
            raise InvalidInput("a ticket is for a run: the name of a run was expected")
        if len(self._tickets) >= _MOST_TICKETS:
            raise InvalidInput(f"there are {_MOST_TICKETS:,} tickets, which is the most; end runs that are over")
        ticket = TICKET + secrets.token_urlsafe(24)
        self._tickets[ticket] = whose
        self._reserved.add(whose.run)
        return ticket

    def withdraw(self, run: str, attempt: int | None = None) -> None:
        """The tickets of a run end, or those of one attempt. Its name stays reserved."""
        for ticket in [t for t, whose in self._tickets.items() if whose.run == run and attempt in (None, whose.attempt)]:
            del self._tickets[ticket]

    # --- asked for each request ----------------------------------------------------------------------------------------------

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises Refused for a Host that is none of ours, and for a page of a browser."""
        host = headers.get("host", "")
        if host not in self._known:
            name = host_of(host)
            if name not in self._hosts and not _is_ip(name):
                raise Refused(
                    403,
                    "host",
                    f"the Host {host[:100]!r} is no name of this proxy; --allow-host allows a name (now: {sorted(self._hosts)})",
                )
            if len(self._known) < _MOST_KNOWN:
                self._known.add(host)
        origin = headers.get("origin")
        if origin is not None and origin.lower().rstrip("/") not in self._origins:
            raise Refused(403, "origin", f"pages of {origin[:100]!r} may not use this proxy; --allow-origin allows an origin")

    def check_control(self, headers: Mapping[str, str]) -> None:
        """Raises Refused for a request to control the proxy that does not have the token."""
        if self._token is None:
            raise Refused(403, "control", "this proxy was started without --token, so HTTP requests can't control the proxy")
        if not any(same(key, self._token) for key in _keys(headers, "")):
            raise Refused(401, "token", "controlling the proxy needs its token, as `Authorization: Bearer TOKEN`")

    def admit(self, target: str, headers: Mapping[str, str]) -> Admitted:
        """Whose a request is. Raises Refused."""
        path, mark, query = target.partition("?")
        try:
            by_address, rest = (_parsed if len(path) < _SHORT else _parsed.__wrapped__)(path)
            parts = address.of_headers(headers) | by_address
        except InvalidInput as error:
            raise Refused(400, "address", str(error)) from None
        keys = _keys(headers, query)
        named = parts.get("run")
        by_path = self._tickets.get(named) if isinstance(named, str) else None
        by_key = next((key for key in keys if key in self._tickets), None)
        token = self._token is not None and any(same(key, self._token) for key in keys)
        ticket = by_key if by_path is None else named
        if ticket is not None:
            whose = self._tickets[ticket]
            odd = [name for name in parts if name not in _OWN]
            if odd or (by_path is None and named not in (None, whose.run)):
                raise Refused(
                    403, "ticket", f"this ticket is for one run, and can't be used with another {odd[0] if odd else 'run'}"
                )
            found = msgspec.structs.replace(whose, **{k: v for k, v in parts.items() if k in ("agent", "purpose")})
        elif not token and (named in self._reserved or any(key.startswith(TICKET) for key in (*keys, named or ""))):
            raise Refused(403, "ticket", "this run is recorded with a ticket, and the request has none that is valid")
        elif self._token is not None and not token:
            raise Refused(401, "token", "this proxy wants its token or a run's ticket: as the API key, or a ticket as /t/TICKET/")
        else:
            found = Address(**parts)
        return Admitted(found, rest + mark + query, by_key is not None or token, ticket)

    def still_admits(self, admitted: Admitted) -> bool:
        """Whether the ticket of a request, if it has one, has not ended since."""
        return admitted.ticket is None or admitted.ticket in self._tickets


@lru_cache(maxsize=1000)  # an agent asks for the same path again and again
def _parsed(path: str) -> tuple[dict[str, Any], str]:
    """The parts of an address, which nobody changes, and the rest of the path. Raises InvalidInput, Refused."""
    parts, rest = address.parse(path)
    if _DOTS.search(rest):
        raise Refused(400, "target", "the path has a part `.` or `..`; clients resolve these, and upstreams must not")
    return parts, rest


def _keys(headers: Mapping[str, str], query: str) -> list[str]:
    """All keys that a request has."""
    found = [headers[name] for name in _KEYS if name in headers]
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" or not value:
        found.append(value.strip() or scheme)
    if "key=" in query:  # Gemini's clients of old
        found += parse_qs(query).get("key", [])
    return found


def without_key(headers: list[tuple[str, str]], target: str, key: str | None) -> tuple[list[tuple[str, str]], str]:
    """A request's headers and target with another key in place of its own; None: with none."""
    out: list[tuple[str, str]] = []
    placed = False
    for name, value in headers:
        lower = name.lower()
        if lower in _KEYS or lower == "authorization":
            if key is not None and lower != "x-odograph-token":
                out.append((name, f"Bearer {key}" if lower == "authorization" else key))
                placed = True
        else:
            out.append((name, value))
    path, _, query = target.partition("?")
    if "key=" in query:
        kept = [part for part in query.split("&") if unquote(part.partition("=")[0]) != "key"]
        target = path + ("?" + "&".join(kept) if kept else "")
    if key is not None and not placed:
        out.append(("Authorization", f"Bearer {key}"))
    return out, target


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def tickets_address(given: Any) -> Address:
    """The address that a request for a ticket describes. Raises InvalidInput."""
    try:
        found = msgspec.convert(given, Address)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"a run is described by {', '.join(Address.__struct_fields__)}: {error}") from None
    if isinstance(given, dict) and (odd := set(given) - set(Address.__struct_fields__)):
        raise InvalidInput(f"a run has no field {sorted(odd)[0]!r}; its fields are {', '.join(Address.__struct_fields__)}")
    if not found.run:
        raise InvalidInput('a run needs a name: {"run": "NAME", ...}')
    return found
