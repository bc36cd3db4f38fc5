"""One request of an SDK and its response, as they pass the transport -> one `llm_call`. Knows no client.

Nothing here changes what passes, and nothing raises into the agent.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import os
import time
import weakref
from collections.abc import Iterator
from contextvars import Context, ContextVar
from typing import Any, NamedTuple

from .. import dialects
from ..codec import fold_events, loads_or_raw
from ..dialects.sse import SSE
from ..packing import of_wire
from . import faults, scope
from .values import error_of

_RETRIED = "x-stainless-retry-count"
_LAST = ("response.completed", "response.incomplete", "response.failed", "message_stop")


class _Failed(NamedTuple):
    """An attempt that the SDK may repeat."""

    #: Which request it was, and which try.
    digest: bytes
    number: int
    #: Where it was recorded, under which id, and what became of it and of those before.
    within: Any
    id: str
    attempts: list[dict[str, Any]]


#: The last attempt that failed here. The SDKs retry in the thread or task that made the call, which knows of no other's.
_failed: ContextVar[_Failed | None] = ContextVar("odograph_failed", default=None)


class Exchange:
    """One request and its response on their way through the transport."""

    def __init__(self, library: str, request: Any, dialect: str) -> None:
        self.within: scope.Scope | None = scope.current()
        self.library = library
        self.dialect = dialect
        self.sent: bytes = request.content
        self.body: bytes = self.sent
        self.started: int = time.time_ns()
        self.first: int | None = None
        self.status: int | None = None
        self.encoding: str = ""
        self.streams: bool = False
        self.done = False
        self._clock = time.perf_counter_ns()
        self._chunks: list[bytes] = []
        self._sse: SSE | None = None
        self._events = 0
        self._refused: list[dict[str, Any]] = []
        self._recorded = False
        self._process = os.getpid()
        number = request.headers.get(_RETRIED, "0")
        self._number = int(number) if number.isdecimal() else 0
        last = _failed.get() if self._number else None
        again = last is not None and last.number == self._number - 1 and last.digest == self._digest()
        self._after = last if again else None
        _unfinished.add(self)

    def _digest(self) -> bytes:
        return hashlib.sha256(self.sent).digest()

    def refused(self, status: int, content: bytes) -> None:
        """The backend did not take the fields that `tokens` adds: the request goes out once more as the SDK made it."""
        self._refused.append(self._attempt(status, loads_or_raw(content)))
        self.body = self.sent
        self.started, self._clock = time.time_ns(), time.perf_counter_ns()

    def _attempt(self, status: int | None, error: Any, duration: int | None = None) -> dict[str, Any]:
        took = time.perf_counter_ns() - self._clock if duration is None else duration
        return {"status_code": status, "error": error, "started": self.started, "duration": took}

    def answered(self, response: Any) -> None:
        self.status = response.status_code
        self.encoding = response.headers.get("content-encoding", "").strip().lower()
        self.streams = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        if self.streams and not self.encoding:
            self._sse = SSE()

    def chunk(self, data: bytes) -> None:
        """A piece of the body that the agent is about to get. A stream whose last event it brings is recorded at once: older
        SDKs don't close what ended in an error, and whatever becomes of the agent then, its call is on record."""
        if self._recorded:
            return
        if self.first is None and data:
            self.first = time.perf_counter_ns() - self._clock
        self._chunks.append(data)
        sse = self._sse
        if sse is None:
            return
        try:
            sse.feed(data)
            over = sse.done
            if len(sse.events) != self._events:
                self._events = len(sse.events)
                over = over or outcome(sse)[0]
        except Exception as error:
            faults.fault(error)
            return
        if over:
            self.finish()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While it is held back; what is given up meanwhile was never asked, and is not recorded. The time does not count."""
        recorded, self._recorded = self._recorded, True
        yield
        self._recorded = recorded
        self.started, self._clock = time.time_ns(), time.perf_counter_ns()

    def finish(self, error: Any = None) -> None:
        """Records the call, once. Never raises into the agent."""
        if self._recorded or os.getpid() != self._process:  # after a fork the call is the parent's
            return
        self._recorded = True
        duration = time.perf_counter_ns() - self._clock
        try:
            self._record(error, duration)
        except Exception as fault:
            faults.fault(fault)
        finally:  # agents may keep responses
            self._chunks, self._sse = [], None

    def _record(self, error: Any, duration: int) -> None:
        request = of_wire(self.body)
        dialect = dialects.get(self.dialect)
        fields: dict[str, Any] = {"dialect": self.dialect, "origin": "wire", "request": request}
        if isinstance(request, dict) and isinstance(request.get("model"), str):
            fields["model"] = request["model"]
        broken = isinstance(error, BaseException)
        if self.status is not None:
            fields["status_code"] = self.status
            answer, wrong = self._answer(dialect, fields)
            error = wrong if error is None else error
            if answer is not None:
                fields["response"] = answer
            usage = dialect.usage(answer.get("usage") if isinstance(answer, dict) else None)
            if usage.prompt is not None:
                fields["prompt_tokens"] = usage.prompt
            if usage.completion is not None:
                fields["completion_tokens"] = usage.completion
        elif error is None:
            error = "request abandoned"
        if error is not None:
            fields["error"] = error_of(error)
        fields["started"] = self.started
        fields["duration"] = duration
        self._place(fields, may_repeat=broken or (self.status or 0) >= 400)

    def _answer(self, dialect: dialects.Dialect, fields: dict[str, Any]) -> tuple[Any, Any]:
        """The response's body, and what is wrong with it."""
        data = _decoded(self.library, b"".join(self._chunks), self.encoding)
        if self.status is not None and self.status >= 300:
            return loads_or_raw(data) if data else None, f"HTTP {self.status}"
        # some servers don't say that it is one
        if not self.streams and not data.startswith((b"data:", b"event:")):
            body = loads_or_raw(data) if data else None
            if isinstance(body, dict):
                return body, body.get("error")
            return body, None if self.done else "response abandoned"
        sse = self._sse
        if sse is None:
            sse = SSE()
            sse.feed(data)
        sse.close()
        fields["events"] = fold_events(sse.events)
        if self.first is not None:
            fields["first_token"] = self.first
        over, wrong = outcome(sse)
        return dialect.assemble(sse.events), wrong if over or self.done else "stream abandoned"

    def _place(self, fields: dict[str, Any], may_repeat: bool) -> None:
        """Writes the record. A retry supersedes the attempt before it: together they are one call."""
        within, attempts = self.within, self._refused
        if self._after is not None:
            within, attempts = self._after.within, [*self._after.attempts, *attempts]
            fields["supersedes"] = self._after.id
        if attempts:
            fields["extra"] = {"retries": attempts}
        if within is not None:
            placed = scope.record_call(fields, within)
        else:  # it was sent outside of any run, whatever run its stream is closed in
            placed = Context().run(scope.record_call, fields)
        if placed is not None and may_repeat:
            attempts = [*attempts, self._attempt(self.status, fields["error"], fields["duration"])]
            _failed.set(_Failed(self._digest(), self._number, placed[0], placed[1].id, attempts))
        elif self._after is not None:
            _failed.set(None)


def outcome(sse: SSE) -> tuple[bool, Any]:
    """Whether the stream says that it is over, and what it says went wrong."""
    last = sse.events[-1] if sse.events else None
    if not isinstance(last, dict):
        return sse.done, None
    if last.get("error") or "error" in (last.get("type"), sse.names[-1]):
        return True, last.get("error") or last
    if last.get("type") in _LAST:
        response = last.get("response")
        return True, response.get("error") if isinstance(response, dict) else None
    return sse.done, None


_unfinished: weakref.WeakSet[Exchange] = weakref.WeakSet()


@atexit.register
def _finish() -> None:
    """What is still open when the program ends is recorded with what was read of it."""
    for exchange in list(_unfinished):
        exchange.finish()


def _decoded(library: str, data: bytes, encoding: str) -> bytes:
    """The content without its content-encoding, as far as the client's own library undoes it and as far as it came."""
    if not encoding or not data:
        return data
    http = importlib.import_module(library)
    parts: list[bytes] = []
    try:
        response = http.Response(200, headers=[("content-encoding", encoding)], stream=http.ByteStream(data))
        for part in response.iter_bytes():
            parts.append(part)
    except Exception:  # damaged, or cut short: what came before is kept
        pass
    return b"".join(parts) or data
