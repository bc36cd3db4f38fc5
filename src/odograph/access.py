"""Where a server listens, and who may ask it for what: tokens, hosts, origins. Knows no framework, no trajectory.

Other local servers taught three lessons. A page on the web can reach 127.0.0.1 under the page's own name (DNS rebinding). Forms
and images of other pages send requests. Other programs of the machine reach the loopback address, too.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import resource
import secrets
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

import msgspec

from .errors import InvalidInput

#: What who holds a token may do: look; write labels and notes, too; record, too. Each right has those before it.
Right = Literal["read", "label", "record"]
_RIGHTS = get_args(Right)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FILES = 1 << 16
_KEPT = 4 << 20
#: Seconds after which a connection is closed in which no request is under way: longer than clients keep theirs.
IDLE = 120.0
_SHORTEST = 16  # characters of a token that is given


class Refused(Exception):
    """A request that a server refuses: the HTTP status, and the reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Access(msgspec.Struct, frozen=True):
    """Which requests a server answers. `tokens`: the right of each token. `hosts`: the allowed names in the Host header."""

    tokens: Mapping[str, Right]
    hosts: frozenset[str]
    #: The name of the cookie: cookies of one host are shared by all its ports.
    cookie: str = "odograph"
    #: The header in which a reverse proxy, which sends a token itself, names the person who asks.
    identity: str | None = None

    @classmethod
    def of(cls, bind: str, port: int, *, token: str | None, right: Right = "label", hosts: Iterable[str] = ()) -> Access:
        """Access to a server bound to an address. Raises InvalidInput without a token beyond loopback, and for a short token."""
        if token is None:
            if not is_loopback(bind):
                raise InvalidInput(f"{bind} can be reached from other machines: a token is needed")
            token = secrets.token_urlsafe(24)
        return cls.several(bind, port, {token: right}, hosts)

    @classmethod
    def several(
        cls, bind: str, port: int, tokens: Mapping[str, Right], hosts: Iterable[str] = (), identity: str | None = None
    ) -> Access:
        """`of`, with several tokens, and a header that names people. Raises InvalidInput for a short token."""
        for token in tokens:
            if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
                raise InvalidInput(f"a token is {_SHORTEST} or more characters of ASCII without spaces")
        names = frozenset(n.lower() for n in (*LOOPBACK, *([] if is_any(bind) else [bind]), *hosts))
        return cls(dict(tokens), names, f"odograph-{port}", identity)

    def check_host(self, hosts: list[str]) -> None:
        """Raises Refused unless a request has one Host header, and the header names this server."""
        if len(hosts) != 1 or host_of(hosts[0]) not in self.hosts:
            raise Refused(403, "this server is not asked by that name")

    def check_origin(self, host: str, origin: str | None, site: str | None, *, page: bool, writes: bool) -> None:
        """Raises Refused for a request of another page in the browser. `page`: the request is for a page, to which any page may
        link."""
        if origin is not None and parts_of(origin).netloc.lower() != host.lower():
            raise Refused(403, "the request comes from another origin")
        if site is not None and not page and site not in ("same-origin", "none"):
            raise Refused(403, "the request comes from another site")
        if writes and origin is None and site is None:
            raise Refused(403, "a request that writes has to name its origin")

    def right(self, *given: str | None) -> Right | None:
        """The right of the first given token that is known; None if none is known."""
        for token in given:
            for known, right in self.tokens.items():
                if token is not None and same(token, known):
                    return right
        return None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address of this machine; port 0 is any free port. Raises InvalidInput."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(1024)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise InvalidInput(f"can't listen on {host}:{port}: {error.strerror or error}") from None
    keep_buffers()
    found.setblocking(False)
    return found


def keep_buffers() -> None:
    """Lets the C library keep the memory of asyncio's read buffers, of 256 KB each. glibc fetches a block of this size from the
    system for each read and gives it back, which takes longer than the read, until the process has freed a larger one.

    Source: M_MMAP_THRESHOLD in https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    bytes(_KEPT)


def allow_files() -> None:
    """Lets this process have as many connections as the system allows it; shells give programs few files, often 256 or 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def log_of(name: str) -> logging.Logger:
    """A server's log, without aiohttp's own errors: a request that is no HTTP gets status 400, and no traceback."""
    log = logging.getLogger(name)
    log.addFilter(_is_ours)
    return log


def _is_ours(record: logging.LogRecord) -> bool:
    return not record.exc_info or not type(record.exc_info[1]).__module__.startswith("aiohttp.")


def in_url(host: str) -> str:
    """A host as a URL has it: an IPv6 address stands in brackets."""
    return f"[{host}]" if ":" in host else host


def same(a: str, b: str) -> bool:
    """Whether two tokens are equal. The comparison takes the same time for any two tokens of one length."""
    return hmac.compare_digest(a.encode("utf-8", "surrogateescape"), b.encode())


def allows(right: Right | None, needed: Right) -> bool:
    """Whether a right is enough where another is needed."""
    return right is not None and _RIGHTS.index(right) >= _RIGHTS.index(needed)


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def is_any(bind: str) -> bool:
    """Whether an address stands for all addresses of the machine."""
    return bind in ("", "0.0.0.0", "::")


def parts_of(url: str) -> SplitResult:
    """The parts of a URL that somebody typed or sent; no part has anything in it where it is no URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port, (parts.hostname or "").encode("idna")  # so that what is no number or no name is found here
        return parts
    except ValueError:
        return urlsplit("")


def is_loopback(bind: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind.lower() == "localhost"
