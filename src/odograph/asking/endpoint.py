"""Asking a model over HTTP: one pooled client per event loop, retries with backoff, streams. Knows no agent.

What is asked here is recorded at the transport, into the scope that is current, like any wrapped client's; not so with
`recorded=False`, as judges ask, which keep a journal of their own.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Any

import msgspec

from .. import dialects
from ..capture.wrap import recording
from ..codec import encode, encode_finite, loads, loads_or_raw
from ..dialects.framing import SSE, Stream
from ..errors import InvalidInput, MissingExtra, RunError, described
from . import posting

_RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
_LONGEST_WAIT = 60.0
_LONGEST_ASKED = 600.0  # where the server asks for it


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model is asked, and with how much patience. Times are seconds."""

    dialect: str = "openai.chat"
    model: str = ""
    base_url: str | None = None
    api_key: str | None = None
    headers: dict[str, str] = {}
    timeout: float = 600.0
    max_retries: int = 4
    #: The first wait before a retry; it doubles, and varies by half.
    backoff: float = 0.5
    tokens: bool = False
    recorded: bool = True

    def url(self, path: str) -> str:
        """The whole URL of a path of the dialect; a base URL may end in the version that the path begins with."""
        dialect = dialects.find(self.dialect)
        base = (self.base_url or os.environ.get(dialect.BASE_URL_VARIABLE or "") or dialect.BASE_URL).rstrip("/")
        version = path[: path.find("/", 1)]
        return base + (path.removeprefix(version) if base.endswith(version) else path)

    def check_key(self) -> None:
        """Raises InvalidInput where a provider would be asked without a key; who runs an endpoint of their own may need none."""
        dialect = dialects.find(self.dialect)
        url = self.url(dialect.outgoing({}, self.model)[0])
        provider = url.startswith(dialect.BASE_URL.removesuffix("/v1") + "/")
        if provider and not (self.api_key or self.headers or os.environ.get(dialect.KEY_VARIABLE)):
            raise InvalidInput(f"no key for {url}: set ${dialect.KEY_VARIABLE}, or name another endpoint (base_url)")

    def _headers(self) -> dict[str, str]:
        dialect = dialects.find(self.dialect)
        key = self.api_key or os.environ.get(dialect.KEY_VARIABLE) or "none"
        return {**dialect.headers(key), "content-type": "application/json", **self.headers}

    async def ask(
        self,
        body: dict[str, Any],
        on_text: Callable[[str], Any] | None = None,
        *,
        before: Callable[[], None] | None = None,
        on_body: Callable[[bytes], None] | None = None,
        encoded: Callable[[dict[str, Any]], bytes] = encode_finite,
    ) -> Any:
        """The response's body; of a stream, the body that it amounts to. Retries what may pass: 429, 5xx, a broken connection.

        `before` is called ahead of each attempt and stops it by raising; `on_body` is given what was answered with success,
        before it is read (not of a stream). `encoded` makes the JSON of what is sent. Raises InvalidInput where `body` is no
        JSON, Unanswered with what was answered last.
        """
        path, sent = dialects.find(self.dialect).outgoing(body, self.model)
        url, data, headers = self.url(path), encoded(sent), self._headers()
        if not self.recorded and not body.get("stream") and posting.is_possible():
            return await self._tried(None, url, data, headers, False, None, before, on_body)
        async with _client(self.tokens, self.recorded) as client:
            return await self._tried(client, url, data, headers, bool(body.get("stream")), on_text, before, on_body)

    async def request(
        self, method: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None, *, retry: bool = True
    ) -> bytes:
        """Another request to the endpoint, such as for a file: what it answers. Raises Unanswered; without a status where the
        connection broke, so that nobody knows whether the request arrived."""
        import httpx2

        url = self.url(path)
        sent = {k: v for k, v in self._headers().items() if content is not None or k != "content-type"} | (headers or {})
        async with _client(False, False) as client:
            for attempt in range(self.max_retries + 1 if retry else 1):
                try:
                    response = await client.request(method, url, content=content, headers=sent, timeout=self.timeout)
                except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                    wait, failure = None, Unanswered(f"{url} did not answer: {described(error)}")
                else:
                    if response.status_code < 300:
                        return bytes(response.content)
                    wait = _retry_after(response.headers)
                    text = response.text[:300]
                    failure = Unanswered(f"{url} did not answer: HTTP {response.status_code}: {text}", response.status_code)
                    if response.status_code not in _RETRIED:
                        raise failure
                if attempt < self.max_retries and retry:
                    await asyncio.sleep(_bounded(wait, self.backoff * 2**attempt))
        raise failure

    async def _tried(
        self,
        client: Any,
        url: str,
        data: bytes,
        headers: dict[str, str],
        stream: bool,
        on_text: Callable[[str], Any] | None,
        before: Callable[[], None] | None,
        on_body: Callable[[bytes], None] | None,
    ) -> Any:
        for attempt in range(self.max_retries + 1):
            if before is not None:
                before()
            one = _Attempt(self, client, url, data, headers | {"x-stainless-retry-count": str(attempt)}, on_text, on_body)
            try:
                return await (one.streamed() if stream else one.whole())
            except _Failed as failure:
                if attempt == self.max_retries or not failure.may_pass or one.said:
                    tries = "" if attempt == 0 else f", {attempt + 1} times"
                    raise Unanswered(f"{url} did not answer{tries}: {failure}", failure.status) from failure.__cause__
                await asyncio.sleep(_bounded(failure.wait, self.backoff * 2**attempt * random.uniform(0.5, 1.0)))
        raise AssertionError  # the loop returns or raises


class Unanswered(RunError):
    """A model that did not answer. `status`: of the last HTTP response that was a failure, if there was one."""

    def __init__(self, what: str, status: int | None = None) -> None:
        super().__init__(what)
        self.status = status

    @property
    def is_too_long(self) -> bool:
        """Whether the request was longer than the model's context."""
        said = str(self)
        named = self.status in (400, 422, 500) and _TOO_LONG.search(said) is not None
        return self.status == 413 or (named and _NO_FIELD.search(said) is None)

    @property
    def is_for_all(self) -> bool:
        """Whether each further request would get the same answer: a wrong key, or an account without money."""
        return self.status in (401, 402) or _NO_MONEY.search(str(self)) is not None

    def refused(self, names: Iterable[str]) -> list[str]:
        """The fields of a request that the endpoint named as fields that it does not take."""
        if self.status not in (400, 415, 422, 501) or _NOT_TAKEN.search(str(self)) is None:
            return []
        return [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(self))]


# of a prompt; that one field of a request is too long, or asks for too many tokens, is a mistake of the request
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size|limit)|(prompt|input|request|conversation)s?\b.{0,40}too (long|large|many tokens)"
    r"|request_too_large|exceed(s|ed)? .{0,30}(?<!completion )(tokens|token limit|max_model_len)"
    r"|too many ((input|prompt) tokens|tokens:)"
    r"|reduce the length of (the|your) (messages|prompt|input)|range of input length|longer than the maximum model length"
    r"|inputs?\W{1,2}tokens \+ \W?max_new_tokens",
    re.I,
)
_NO_FIELD = re.compile(
    r"(unsupported|unknown|unrecogni[sz]ed|unexpected|extra)\W{0,3}(request )?(parameter|argument|keyword|field|input)", re.I
)
_NO_MONEY = re.compile(
    r"insufficient_quota|billing_hard_limit_reached|credit balance is too low|insufficient (balance|credits)", re.I
)
_NOT_TAKEN = re.compile(
    r"unsupported|(not|n't) support|unknown|unrecogni[sz]ed|not (permitted|allowed|accepted|recogni[sz]ed)|unexpected|deprecated",
    re.I,
)


class _Failed(Exception):
    def __init__(self, what: str, may_pass: bool, wait: float | None = None, status: int | None = None) -> None:
        super().__init__(what)
        self.may_pass = may_pass
        self.wait = wait
        self.status = status


class _Attempt:
    """One request."""

    def __init__(
        self,
        endpoint: Endpoint,
        client: Any,
        url: str,
        data: bytes,
        headers: dict[str, str],
        on_text: Any,
        on_body: Any = None,
    ) -> None:
        self._url = url
        self._dialect = dialects.find(endpoint.dialect)
        self._client = client  # None: by `posting`
        self._on_text = on_text
        self._on_body = on_body
        self._request: dict[str, Any] = {"content": data, "headers": headers, "timeout": endpoint.timeout}
        #: Whether the caller got some of the answer: then it can't be begun anew.
        self.said = False

    async def whole(self) -> Any:
        try:
            import httpx2
        except ImportError:
            raise MissingExtra("asking a model", "run") from None
        try:
            if self._client is None:
                response: Any = await posting.post(self._url, _trusted, **self._request)
            else:
                response = await self._client.post(_parsed(self._url), **self._request)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _Failed(described(error), isinstance(error, httpx2.TransportError)) from error
        return self._body(response, response.content)

    def _body(self, response: Any, content: bytes) -> Any:
        self._check(response, content)
        if self._on_body is not None:
            self._on_body(content)
        body = loads_or_raw(content)
        if not self._dialect.is_response(body):
            raise _Failed(f"HTTP {response.status_code} with no {self._dialect.NAME} body: {response.text[:200]!r}", True)
        return body

    async def streamed(self) -> Any:
        import httpx2

        stream: Stream | None = None
        try:
            async with self._client.stream("POST", self._url, **self._request) as response:
                if response.status_code >= 300:
                    self._check(response, await response.aread())
                kind = response.headers.get("content-type", "")
                stream = self._dialect.framing(kind, httpx2.URL(self._url).path)
                if stream is None and kind.startswith("application/json"):  # a backend without streams
                    return self._body(response, await response.aread())
                stream = stream or SSE()  # some don't say what they send
                async for chunk in response.aiter_bytes():
                    before = len(stream.events)
                    stream.feed(chunk)
                    await self._tell(stream.events[before:])
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _Failed(f"the stream broke: {described(error)}", isinstance(error, httpx2.TransportError)) from error
        before = len(stream.events)
        stream.close()
        await self._tell(stream.events[before:])
        over, wrong = self._dialect.ending(stream)
        if wrong is not None:
            raise _Failed(f"the stream ended with an error: {encode(wrong).decode()[:300]}", True)
        body = self._dialect.assemble(stream.events)
        if not self._dialect.is_response(body) or not (over or dialects.is_complete(self._dialect, body)):
            raise _Failed("the stream ended in the middle", True)
        return body

    async def _tell(self, events: list[Any]) -> None:
        if self._on_text is None:
            return
        for event in events:
            text = self._dialect.delta(event)
            if text:
                self.said = True
                made = self._on_text(text)
                if isinstance(made, Awaitable):
                    await made

    def _check(self, response: Any, content: bytes) -> None:
        status = response.status_code
        if status < 300:
            return
        try:
            said = loads(content)
        except InvalidInput:
            there = response.headers.get("location")
            said = f"a redirect to {there}" if there else " ".join(content.decode(errors="replace").split()) or "an empty body"
        wrong = said.get("error", said) if isinstance(said, dict) else said
        message = wrong.get("message") if isinstance(wrong, dict) else wrong
        text = message if isinstance(message, str) else encode(wrong).decode()
        code = wrong.get("code") or wrong.get("type") if isinstance(wrong, dict) else None
        told = f"HTTP {status}: {text[:300]}" + (f" ({code[:60]})" if isinstance(code, str) and code not in text else "")
        may_pass = status in _RETRIED and not Unanswered(told, status).is_for_all
        raise _Failed(told, may_pass, _retry_after(response.headers), status)


def _retry_after(headers: Any) -> float | None:
    """The seconds that a server asks to wait: as milliseconds, as seconds, or until a date."""
    asked = headers.get("retry-after")
    try:
        wait = float(headers["retry-after-ms"]) / 1000 if headers.get("retry-after-ms") else float(asked)
    except (KeyError, ValueError, TypeError):
        try:
            wait = parsedate_to_datetime(asked).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, wait) if math.isfinite(wait) else None


def _bounded(asked: float | None, own: float) -> float:
    """How long to wait: as long as the server asks, within reason; else our own backoff."""
    return min(own, _LONGEST_WAIT) if asked is None else min(asked, _LONGEST_ASKED)


#: The loop, whether token ids are asked for, whether it is recorded; and a number.
_Key = tuple[asyncio.AbstractEventLoop, bool, bool, int]
#: Requests under way in one client. A client looks at all its connections for each request, so many at once go through several.
_PER_CLIENT = 2
_busy: Counter[_Key] = Counter()
_clients: dict[_Key, AsyncGenerator[Any, None]] = {}
_opened: dict[_Key, Any] = {}


@asynccontextmanager
async def _client(tokens: bool, recorded: bool) -> AsyncIterator[Any]:
    """A client of this event loop that has room: the first one, as long as few requests are under way."""
    loop, number = asyncio.get_running_loop(), 0
    while _busy[loop, tokens, recorded, number] >= _PER_CLIENT:
        number += 1
    key = (loop, tokens, recorded, number)
    if key not in _opened:
        for old in [k for k in _opened if k[0].is_closed()]:  # loops that were closed without their generators
            del _opened[old], _clients[old]
        for old in [k for k in _busy if k[0].is_closed()]:
            del _busy[old]
        holder = _living(key)
        await anext(holder)  # which does not wait for anything
        _clients[key] = holder
    _busy[key] += 1
    try:
        yield _opened[key]
    finally:
        _busy[key] -= 1


@lru_cache(maxsize=64)
def _parsed(url: str) -> Any:
    """A URL that many requests go to, taken apart once. Raises httpx2.InvalidURL."""
    import httpx2

    return httpx2.URL(url)


@cache
def _trusted() -> Any:
    """The certificates that are trusted: reading them takes a tenth of a second, and each client would."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=True)


async def _living(key: _Key) -> AsyncGenerator[Any, None]:
    """Holds a client open until its loop shuts down its generators: nobody has to close anything, and nothing leaks."""
    try:
        import httpx2
    except ImportError:
        raise MissingExtra("asking a model", "run") from None
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=256)
    transport: Any = httpx2.AsyncHTTPTransport(verify=_trusted(), limits=limits, trust_env=True)
    if key[2]:
        transport = recording(transport, "httpx2", key[1])
    opened, clients = _opened, _clients  # at the end of the interpreter the module's own names may be gone
    client = opened[key] = httpx2.AsyncClient(transport=transport)
    try:
        yield client
    finally:
        opened.pop(key, None)
        clients.pop(key, None)
        await client.aclose()
