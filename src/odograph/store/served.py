"""What names a store that is served elsewhere, and how a redaction is written down. Knows no HTTP: every recorder imports it."""

from __future__ import annotations

import os
from typing import TypedDict

import msgspec

from ..errors import InvalidInput
from ..tables.shared import without_password

SCHEMES = ("https://", "http://")
#: How a store's redaction is written down: True, patterns (a text, or a text with flags), or the name of a function.
Stored = bool | list[str | tuple[str, int]] | str


class Served(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a store is served. `token`: "" where the environment says it (`$ODOGRAPH_TOKEN`)."""

    address: str
    token: str = ""

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"Served({self.address!r})"


class Unshipped(TypedDict):
    """What waits on this machine for the server of a store: bytes, since when (seconds since 1970), and why."""

    unshipped: int
    unshipped_since: float | None
    unshipped_why: str | None


def served(address: str, token: str | None) -> Served:
    """Checks what names a served store. Raises InvalidInput."""
    from ..access import is_loopback, parts_of

    parts = parts_of(address)
    host = parts.hostname
    shown = without_password(address.partition("?")[0])
    if not host or not address.startswith(SCHEMES):
        raise InvalidInput(f"a served store is at https://host, with its port where it has one; found {shown!r}")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise InvalidInput(f"the address of this served store is {shown}; give the token as token= or in $ODOGRAPH_TOKEN")
    if parts.scheme == "http" and not is_loopback(host) and os.environ.get("ODOGRAPH_ALLOW_HTTP") != "1":
        raise InvalidInput(
            f"{shown} would send the token and all records unencrypted; use https://, or allow it with ODOGRAPH_ALLOW_HTTP=1"
        )
    return Served(address.rstrip("/"), "" if token is None or token == os.environ.get("ODOGRAPH_TOKEN") else token)


def sendable(token: str) -> str:
    """A token that can stand in a header. Raises InvalidInput, which does not show the token."""
    if not token.isascii() or not token.isprintable():
        raise InvalidInput("a token is characters of ASCII, without an end of a line")
    return token
