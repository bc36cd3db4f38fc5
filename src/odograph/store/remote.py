"""A store that is served elsewhere: its address, and questions to it over HTTP. Knows no record and no journal.

No token is ever part of a URL, of an error or of a log.
"""

from __future__ import annotations

import http.client
import os
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from .. import locks
from ..access import is_loopback, parts_of
from ..codec import encode, loads
from ..errors import InvalidInput, NotFound, StoreError
from ..tables.shared import without_password
from ..types import VERSION
from .served import Served, sendable

JSON, BYTES = "application/json", "application/octet-stream"
_TIMEOUT = 60.0  # seconds without a byte
_CONNECT = 5.0
_IDLE = 8  # connections that are kept
_SHOWN = 300  # characters of an answer in an error


class Unreached(StoreError):
    """Nobody answers at the address, or no `odograph serve` does."""


class Refusal(StoreError):
    """The server answered that it does not do what it was asked for."""

    def __init__(self, why: str, status: int, answer: Any) -> None:
        super().__init__(why)
        self.status = status
        self.answer = answer


class Line:
    """Asks a server. Safe in several threads; after a fork, call `forked`."""

    def __init__(self, where: Served) -> None:
        self._where = where
        parts = urlsplit(where.address)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._path = quote(parts.path.rstrip("/"), safe="/%")
        self._context: ssl.SSLContext | None = None
        self._through = ""
        self.forked()

    def __str__(self) -> str:
        return self._where.address

    def forked(self) -> None:
        """The connections are those of another process."""
        self._lock = locks.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    def get(self, *path: str) -> Any:
        """What the server answers, as JSON. Raises Unreached, Refusal, NotFound, InvalidInput."""
        return self._json("GET", path, {}, b"", JSON)

    def post(self, *path: str, body: bytes = b"{}", kind: str = JSON, **query: str) -> Any:
        """What the server answers to a body. It may have taken the body where Unreached is raised."""
        return self._json("POST", path, query, body, kind)

    def stream(self, *path: str, body: Any) -> Iterator[bytes]:
        """The frames of an answer, each as it comes: 4 bytes of length, then so many bytes. Raises as `get`."""
        connection, answer = self._asked("POST", path, {}, encode(body), JSON)
        whole = False
        try:
            while True:
                length = int.from_bytes(self._read(answer, 4), "big")
                if length == 0:
                    whole = not answer.read(1)
                    return
                yield self._read(answer, length)
        except (OSError, http.client.HTTPException) as error:
            raise error if isinstance(error, StoreError) else self._broken(error) from None
        finally:
            self._give_back(connection, whole)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raises Unreached where an answer is of another form than the code inside expects: that of another program."""
        try:
            yield
        except msgspec.DecodeError as error:
            raise self._unread(error) from None

    def _unread(self, error: BaseException) -> Unreached:
        return Unreached(f"the answer of {self} can't be read: {error}")

    def _read(self, answer: http.client.HTTPResponse, size: int) -> bytes:
        found = answer.read(size)
        if len(found) < size:
            raise Unreached(f"the answer of {self} broke off")
        return found

    def _json(self, method: str, path: tuple[str, ...], query: dict[str, str], body: bytes, kind: str) -> Any:
        connection, answer = self._asked(method, path, query, body, kind)
        try:
            found = loads(answer.read())
        except (OSError, http.client.HTTPException, InvalidInput) as error:
            self._give_back(connection, False)
            raise self._broken(error) from None
        self._give_back(connection, True)
        return found

    def _asked(
        self, method: str, path: tuple[str, ...], query: dict[str, str], body: bytes, kind: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The connection and the answer, whose status is 200."""
        token = sendable(self._where.token or os.environ.get("ODOGRAPH_TOKEN", ""))
        headers = {"User-Agent": f"odograph/{VERSION}", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if method == "POST":
            headers["Content-Type"] = kind
        url = self._path + "/api/" + "/".join(quote(one, safe="") for one in path)
        if query:
            url += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        connection = kept
        while True:
            try:
                connection = connection or self._connected()
                with suppress(BrokenPipeError, ConnectionResetError):  # who refuses a body may answer before all of it is sent
                    connection.request(method, url, body if method == "POST" else None, headers)
                answer = connection.getresponse()
                break
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest) as error:
                if connection is not None:
                    connection.close()
                connection = None
                if kept is None:
                    raise self._broken(error) from None
                kept = None  # the server closed a connection that was kept: once more, on a new one
            except (OSError, http.client.HTTPException) as error:
                if connection is not None:
                    connection.close()
                raise error if isinstance(error, StoreError) else self._broken(error) from None
        if answer.status == 200 and _is_ours(answer):
            return connection, answer
        try:
            text = answer.read(1 << 16)
        except (OSError, http.client.HTTPException):
            text = b""
        connection.close()
        raise self._refused(answer, text)

    def _connected(self) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        proxy = None
        if not is_loopback(host) and not any(map(urllib.request.proxy_bypass, (host, f"{host}:{port}"))):
            named = urllib.request.getproxies()
            proxy = named.get("https" if self._tls else "http") or named.get("all")
        at = parts_of(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        if at and at.scheme not in ("http", "https"):
            by = f"a {at.scheme} proxy, but through an HTTP one"
            raise Unreached(f"{self} can't be reached through {by}; $NO_PROXY names what needs none")
        name, number = (at.hostname or "", at.port or 80) if at else (host, port)
        self._through = f" through the proxy {name}:{number}" if at else ""
        found: http.client.HTTPConnection
        if self._tls:
            if self._context is None:
                self._context = ssl.create_default_context()  # trusts $SSL_CERT_FILE, too
            found = http.client.HTTPSConnection(name, number, timeout=_CONNECT, context=self._context)
        else:
            found = http.client.HTTPConnection(name, number, timeout=_CONNECT)
        if at:
            who = f"{unquote(at.username or '')}:{unquote(at.password or '')}".encode()
            known = {"Proxy-Authorization": f"Basic {b64encode(who).decode()}"} if at.username else None
            found.set_tunnel(host, port, known)
        found.connect()
        found.sock.settimeout(_TIMEOUT)
        return found

    def _give_back(self, connection: http.client.HTTPConnection, whole: bool) -> None:
        with self._lock:
            if whole and len(self._idle) < _IDLE and connection.sock is not None:
                self._idle.append(connection)
                return
        with suppress(OSError):
            connection.close()

    def _broken(self, error: BaseException) -> Unreached:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreached(
                f"the certificate of {self} is not trusted: {error.verify_message}; $SSL_CERT_FILE names those to trust"
            )
        if isinstance(error, http.client.IncompleteRead):
            return Unreached(f"the answer of {self} broke off")
        if isinstance(error, InvalidInput):
            return self._unread(error)
        why = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        why = " ".join(why.split())[:_SHOWN]
        if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
            return Unreached(f"at {self} no `odograph serve` answers: found {why!r}, which is no HTTP")
        return Unreached(f"{self} can't be reached{self._through}: {why}")

    def _refused(self, answer: http.client.HTTPResponse, text: bytes) -> Exception:
        """One sentence for what was answered."""
        status = answer.status
        try:
            found = loads(text) if _is_ours(answer) else None
        except InvalidInput:
            found = None
        said = found.get("error") if isinstance(found, dict) else None
        if 300 <= status < 400:
            to = without_password(answer.headers.get("Location", "").partition("?")[0])[:_SHOWN]
            return Unreached(f"{self} sends elsewhere, to {to!r}; name the address at which the store is served")
        if not isinstance(said, str):
            what = answer.headers.get_content_type()
            return Unreached(f"at {self} no `odograph serve` answers: found status {status} and {what}; is a proxy in between?")
        said = said[:_SHOWN]
        if status == 401:
            return Refusal(
                f"{self} does not know the token; give the one it was started with, by token= or $ODOGRAPH_TOKEN", 401, found
            )
        if status == 404 and said == NOTHING:
            return Refusal(f"the server at {self} is of an older Odograph, which takes no records; update it", 404, found)
        if status == 404:
            return NotFound(said)
        if status == 400:
            return InvalidInput(said)
        return Refusal(f"{self}: {said}", status, found)


#: What a server says of an address that it does not have.
NOTHING = "there is nothing here"


def _is_ours(answer: http.client.HTTPResponse) -> bool:
    return answer.headers.get_content_type() in (JSON, BYTES)
