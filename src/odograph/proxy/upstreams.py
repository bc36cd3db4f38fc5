"""Where requests go: upstreams that are fixed when the proxy starts, and which of several a run's requests stick to."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from yarl import URL

from ..access import parts_of
from ..errors import InvalidInput

_MOST_STUCK = 100_000
_DOWN = 10.0  # seconds after which an upstream that took no connection is tried again


class Upstream:
    """One server: its address, and how busy it is."""

    def __init__(self, url: str) -> None:
        """Raises InvalidInput for what is no http(s) URL."""
        parts = parts_of(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InvalidInput(f"an upstream is an http:// or https:// URL without a query, not {url!r}")
        if parts.username or parts.password:
            raise InvalidInput("an upstream's URL holds no user or password; the key goes in a header")
        self.url: str = url.rstrip("/")
        self._root = URL(self.url, encoded=True)
        #: The name or number of its host, its port, the `Host` of its requests, and whether it is spoken to over TLS.
        self.address: str = self._root.raw_host or ""
        self.port: int = self._root.port or 0
        self.host: str = self._root.host_port_subcomponent or ""
        self.tls: bool = parts.scheme == "https"
        self._path = parts.path.rstrip("/")
        self.busy: int = 0
        #: Runs that stick to it.
        self.runs: int = 0
        #: When it took no connection last, by the monotonic clock.
        self._down = -_DOWN

    def __enter__(self) -> Self:
        """It has one request more while the context lasts."""
        self.busy += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.busy -= 1

    def took_none(self) -> None:
        """It took no connection. Others are asked for a while."""
        self._down = time.monotonic()

    @property
    def is_down(self) -> bool:
        """Whether it took no connection lately."""
        return time.monotonic() - self._down < _DOWN

    def target(self, path: str) -> str:
        """What a request's path and query are there. A `/v1` that both have stands there once: people paste base URLs with and
        without it."""
        if self._path.endswith("/v1") and (path == "/v1" or path.startswith(("/v1/", "/v1?"))):
            path = path[3:]
        return self._path + path or "/"

    def url_of(self, target: str) -> URL:
        """The URL of such a target."""
        return self._root.with_path(target, encoded=True)  # the query stands in the path: a lone `?` is no query


class Upstreams:
    """All of them. A run's requests go where its first went, so that the server's cache of prompts serves them."""

    def __init__(self, urls: Sequence[str]) -> None:
        if not urls:
            raise InvalidInput("the proxy needs an upstream: the URL of a model's API")
        self.all: list[Upstream] = [Upstream(url) for url in urls]
        self._stuck: OrderedDict[str, Upstream] = OrderedDict()

    def choose(self, sticky: str | None, without: Sequence[Upstream] = ()) -> Upstream:
        """The upstream of a run, or session; of what is new the one with the least to do. `without`: they did not answer."""
        found = self._stuck.pop(sticky, None) if sticky is not None else None
        if found is not None:
            found.runs -= 1
        if found is None or found in without or found.is_down:
            others = (u for u in self.all if u not in without)
            found = min(others, key=lambda u: (u.is_down, u.busy, u.runs), default=self.all[0])
        if sticky is not None:
            self._stuck[sticky] = found
            found.runs += 1
            while len(self._stuck) > _MOST_STUCK:
                self._stuck.popitem(last=False)[1].runs -= 1
        return found
