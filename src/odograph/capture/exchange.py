"""One HTTP request to a model and its response, as they pass -> one `llm_call`. Knows no client and no HTTP library.

Nothing here changes what passes, and nothing raises into the agent.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import Context, ContextVar
from typing import Any, NamedTuple

from .. import dialects
from ..codec import Folding, loads_or_raw
from ..dialects.framing import SSE, Stream
from ..errors import described
from ..locks import Lock
from ..types import TAG
from ..wire import Sent, of_wire
from . import entering, faults, fields, scope
from .recorder import CallRef, Recorder

_RETRIED = "x-stainless-retry-count"
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_SERVERS = 100
_MOST_LATER = 1000  # answers that are waited for; who asks for more and never fetches them loses the oldest

#: Undoes a content-encoding, as far as the content came.
Decode = Callable[[bytes, str], bytes]


class _Failed(NamedTuple):
    """A failed or redirected attempt, which the SDK may repeat."""

    #: Which request it was, in which run, and the number of the try that repeats it; None: the SDK numbers no tries.
    digest: bytes
    run: Recorder | None
    next: int | None
    #: Where it was recorded, under which id, and what became of it and of those before.
    within: Any
    id: str
    attempts: list[dict[str, Any]]


#: The last attempt that failed here. The SDKs retry in the thread or task that made the call, which knows of no other's.
_failed: ContextVar[_Failed | None] = ContextVar("odograph_failed", default=None)


class Asked(NamedTuple):
    """A request whose answer is fetched later."""

    path: str
    sent: bytes
    started: int
    within: Any
    #: Its record, which has no answer.
    id: str


class Later:
    """Requests whose answers are fetched later (background responses), by the answer's id."""

    def __init__(self) -> None:
        self._asked: dict[str, Asked] = {}

    def put(self, id: str, asked: Asked) -> None:
        self._asked[id] = asked
        while len(self._asked) > _MOST_LATER:
            self._asked.pop(next(iter(self._asked)), None)

    def get(self, id: str) -> Asked | None:
        return self._asked.get(id)

    def drop(self, id: str) -> None:
        self._asked.pop(id, None)


_laters: dict[Any, Later] = {}


def later_at(server: Any) -> Later:
    """The waiting requests of a server. One client may fetch the answer to another client's request."""
    found = _laters.get(server)
    if found is None:
        while len(_laters) >= _MOST_SERVERS:
            _laters.pop(next(iter(_laters)), None)
        found = _laters[server] = Later()
    return found


def begun(method: str, path: str, headers: Mapping[str, str], sent: bytes, decode: Decode, later: Later) -> Exchange | None:
    """The exchange that a request begins; None if it is no call of a model. `path`: of the URL. `later`: of the server."""
    dialect = dialects.of_path(path) if method == "POST" else None
    if dialect is not None:
        return Exchange(dialect, path, headers, sent, decode, later)
    found = dialects.of_fetch(path) if method == "GET" or path.endswith("/cancel") else None
    asked = None if found is None else later.get(found[1]) or _streaming(later, found[1])
    if found is not None and asked is not None:
        return Exchange(found[0], asked.path, headers, asked.sent, decode, later, asked)
    return None


def _streaming(later: Later, id: str) -> Asked | None:
    """The request of an answer whose stream is still open: the agent left the stream, and fetches the answer from then on."""
    with _lock:
        open_ones = [e for e in _unfinished if e.brings(later, id)]
    for exchange in open_ones:
        exchange.leave()
    return later.get(id)


class Exchange:
    """One request and its response. The code that passes them on calls `answered`, then `chunk` for each chunk, then `finish`."""

    def __init__(
        self,
        dialect: dialects.Dialect,
        path: str,
        headers: Mapping[str, str],
        sent: bytes,
        decode: Decode,
        later: Later,
        asked: Asked | None = None,
        *,
        ends_itself: bool = False,
    ) -> None:
        self.within: scope.Scope | None = scope.current() if asked is None else asked.within
        if self.within is not None:  # else who reads the response says so
            entering.doubted(self.within)
        self.dialect: dialects.Dialect = dialect
        self.sent: bytes = sent
        self.body: bytes = sent
        self._first = sent
        #: The call's record, once there is one.
        self.call: CallRef | None = None
        self.purpose: str = dialects.purpose(dialect, path)
        self.started: int = time.time_ns()
        self.first: int | None = None
        self.status: int | None = None
        self.encoding: str = ""
        self.kind: str = ""
        #: Whether its bytes came to their end.
        self.done: bool = False
        self._path = path
        self._decode = decode
        self._later = later
        self._asked = asked
        self._clock = time.perf_counter_ns()
        self._chunks: list[bytes] = []
        self._stream: Stream | None = None
        self._events = 0
        self._folding = Folding()
        self._refused: list[dict[str, Any]] = []
        self._recorded = False
        #: The record that it had when its run ended before it did, and how many chunks that has.
        self._left: tuple[str, int] | None = None
        self._process = os.getpid()
        number = headers.get(_RETRIED, "")
        #: Which try it is; None: the SDK does not say, and a try is what repeats the request that failed just before.
        self._number = int(number) if number.isdecimal() else None
        last = _failed.get()
        #: The run that it was sent in.
        self._run = None if self.within is None else self.within.recorder
        if last is None or last.next != self._number or last.run is not self._run:
            last = None
        self._after = last if last is not None and last.digest == self._digest() else None
        if not ends_itself:  # of the proxy's calls thousands may be open, and none is in a run yet
            with _lock:
                _unfinished.add(self)

    @property
    def over(self) -> bool:
        """Whether the call is on record."""
        return self._recorded

    def _digest(self) -> bytes:
        return hashlib.sha256(self._first).digest()

    @property
    def streams(self) -> bool:
        """Whether the request asks for a stream."""
        value = of_wire(self.sent, self.dialect.NAME) if b'"stream"' in self.sent else {}
        return self.dialect.streams(self._path, value)

    def resend(self, sent: bytes) -> None:
        """The request goes out with another body: a director changed it."""
        self.sent = self.body = sent

    def refused(self, status: int, content: bytes) -> None:
        """The backend rejected the fields that `tokens` adds. The request is sent again as the SDK made it."""
        self._refused.append(self._attempt(status, loads_or_raw(content), time.perf_counter_ns() - self._clock))
        self.body = self.sent
        self.started, self._clock = time.time_ns(), time.perf_counter_ns()

    def _attempt(self, status: int | None, error: Any, duration: int) -> dict[str, Any]:
        return {"status_code": status, "error": error, "started": self.started, "duration": duration}

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The response has begun."""
        self.encoding = headers.get("content-encoding", "").strip().lower()
        self.kind = headers.get("content-type", "")
        if not self.encoding:
            self._stream = self._framing()
        self.status = status

    def _framing(self) -> Stream | None:
        return self.dialect.framing(self.kind, self._path)

    def chunk(self, data: bytes) -> None:
        """A piece of the body that the agent is about to get. A stream whose last event it brings is recorded at once: older
        SDKs don't close what ended in an error, and whatever becomes of the agent then, its call is on record."""
        if self.took(data):
            self.finish()

    def took(self, data: bytes) -> bool:
        """Takes a piece of the body in. Whether it brings the last event of a stream: then the call is to be recorded."""
        if self._recorded:
            return False
        if self.first is None and data:
            self.first = time.perf_counter_ns() - self._clock
        self._chunks.append(data)
        stream = self._stream
        if stream is None:
            return False
        try:
            stream.feed(data)
            over = stream.done
            if len(stream.events) != self._events:
                self._events = len(stream.events)
                over = over or self.dialect.ending(stream)[0]
        except Exception as error:
            faults.fault(error)
            return False
        return over

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While a director holds the request back. A request that is given up then is not recorded. The time does not count."""
        recorded, self._recorded = self._recorded, True
        yield
        self._recorded = recorded
        self.started, self._clock = time.time_ns(), time.perf_counter_ns()

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """While the request is sent: an error then is the call's error, and ends the call."""
        try:
            yield
        except BaseException as error:
            self.finish(error)
            raise

    def read(self, chunks: Iterable[bytes], body: Any = None) -> Iterator[bytes]:
        """The chunks of a body, which are recorded as the agent reads them. `body`: an object whose end ends the call; it stays
        alive meanwhile."""
        try:
            for chunk in chunks:
                self.chunk(chunk)
                yield chunk
        except GeneratorExit:  # the agent reads no further; who closes the body calls `finish`
            raise
        except BaseException as error:
            self.finish(error)
            raise
        self.end()

    async def read_async(self, chunks: AsyncIterable[bytes], body: Any = None) -> AsyncIterator[bytes]:
        """`read`, of an async body."""
        try:
            async for chunk in chunks:
                self.chunk(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self.finish(error)
            raise
        self.end()

    def end(self) -> None:
        """The body came to its end."""
        self.done = True
        self.finish()

    def finish(self, error: Any = None) -> None:
        """Records the call, once. Never raises into the agent."""
        if self._recorded or os.getpid() != self._process:  # after a fork the call is the parent's
            return
        self._recorded = True
        self.unlist()
        try:
            if self._left is None or error is not None or len(self._chunks) > self._left[1]:
                self._record(error)
        except Exception as fault:
            faults.fault(fault)
        finally:  # agents may keep responses
            self._chunks, self._stream = [], None

    def drop(self) -> None:
        """Records nothing: the request was no call."""
        self._recorded = True

    def unlist(self) -> None:
        """The end of its run, or of the program, does not record it."""
        with _lock:
            _unfinished.discard(self)

    def brings(self, later: Later, id: str) -> bool:
        """Whether it streams an answer of that id, which a server of these can be asked for."""
        begun = self._stream.events[:1] if self._later is later and self._stream is not None else []
        return self.dialect.later(self.dialect.assemble(begun)) == id

    def leave(self) -> None:
        """The run ends that it is in, or the answer is fetched anew. A stream of which something came is recorded as it stands;
        if the agent reads on, what then comes supersedes it. Requests without an answer, in other threads or tasks, are recorded
        when they end."""
        if self._recorded or self._left is not None or self._stream is None or os.getpid() != self._process:
            return
        try:
            self._left = ("", len(self._chunks))
            self._record(None)
        except Exception as fault:
            faults.fault(fault)

    def _record(self, error: Any) -> None:
        duration = time.perf_counter_ns() - self._clock
        answer, events = None, None
        broken = isinstance(error, BaseException)
        if self.status is not None:
            answer, events, wrong = self._answer()
            error = wrong if error is None else error
        elif error is None:
            error = "request abandoned"
        if self._asked is not None and (error is not None or self.dialect.later(answer) is not None):
            return  # the answer is not there yet, and will be fetched again
        request = self._request()
        made = fields.wire_call(self.dialect, self._path, request, answer, error, self.status, self.purpose)
        if events is not None:
            self._folding.add(events)
            made["events"] = self._folding.folded()
            if self.first is not None:
                made["first_token"] = self.first
        made["started"] = self.started
        made["duration"] = duration
        self._place(made, answer, may_repeat=broken or (self.status or 0) >= 400)

    def _request(self) -> Any:
        if self.within is None:
            return of_wire(self.body, self.dialect.NAME)
        known, agent = self.within.recorder.sent, self.within.agent
        sent = known.pop(agent, None) or Sent()
        request = sent.request(self.body, self.dialect.NAME)
        known[agent] = sent
        return request

    def _answer(self) -> tuple[Any, list[Any] | None, Any]:
        """The response's body, the events if it was streamed, and the error (None: no error)."""
        data = b"".join(self._chunks)
        if self.encoding and data:
            data = self._decode(data, self.encoding)
        if self.status is not None and self.status >= 300:
            return loads_or_raw(data) if data else None, None, f"HTTP {self.status}"
        stream = self._stream if self._left is None else None
        if stream is None:
            stream = self._framing()
            if stream is None and data.startswith((b"data:", b"event:")):  # some servers don't say what they send
                stream = SSE()
            if stream is not None:
                stream.feed(data)
        if stream is None:
            body = loads_or_raw(data) if data else None
            if isinstance(body, dict) and body.get(TAG) not in ("raw", "bytes"):
                return body, None, body.get("error")
            if isinstance(body, list):
                return body, None, None
            return body, None, "the response is no JSON" if self.done else "response abandoned"
        stream.close()
        try:
            over, wrong = self.dialect.ending(stream)
            body = self._body(stream)
            whole = over or dialects.is_complete(self.dialect, body)
        except Exception as error:  # the dialect of a stranger: the events are kept
            faults.fault(error)
            return None, stream.events, described(error)
        if wrong is None and not whole:
            wrong = "the stream ended in the middle" if self.done else "stream abandoned"
        return body, stream.events, wrong

    def _body(self, stream: Stream) -> Any:
        """What the events that came amount to."""
        return self.dialect.assemble(stream.events)

    def _place(self, made: dict[str, Any], answer: Any, may_repeat: bool) -> None:
        """Writes the record. A retry supersedes the attempt before it: together they are one call. So does an answer that was
        fetched later, and what came after a run's end."""
        within, attempts = self.within, self._refused
        if self._left is not None and self._left[0]:
            made["supersedes"] = self._left[0]
        elif self._asked is not None:
            made["supersedes"] = self._asked.id
            made["started"], made["duration"] = self._asked.started, time.time_ns() - self._asked.started
        elif self._after is not None:
            within, attempts = self._after.within, [*self._after.attempts, *attempts]
            made["supersedes"] = self._after.id
        if attempts:
            made["extra"] = {"retries": attempts}
        if within is not None:
            placed = scope.record_call(made, within)
        else:  # it was sent outside of any run, whatever run its stream is closed in
            placed = Context().run(scope.record_call, made)
        if placed is None:
            return
        self.call = placed[1]
        if self._left is not None:
            self._left = (placed[1].id, self._left[1])
        redirected = self.status in _REDIRECTS
        if may_repeat or redirected:
            attempts = [*attempts, self._attempt(self.status, made["error"], made["duration"])]
            following = self._number if redirected or self._number is None else self._number + 1
            _failed.set(_Failed(self._digest(), self._run, following, placed[0], placed[1].id, attempts))
        elif _failed.get() is not None:
            _failed.set(None)
        id = self.dialect.later(answer)
        if id is not None:
            self._later.put(id, Asked(self._path, self.sent, self.started, placed[0], placed[1].id))
        elif self._asked is not None and isinstance(answer, dict) and isinstance(answer.get("id"), str):
            self._later.drop(answer["id"])


_lock = Lock()
_unfinished: weakref.WeakSet[Exchange] = weakref.WeakSet()


def _forked() -> None:
    """The open calls are the parent's; another of its threads may have held the lock."""
    global _lock, _unfinished
    _lock, _unfinished = Lock(), weakref.WeakSet()


os.register_at_fork(after_in_child=_forked)


def leave(recorder: Recorder) -> None:
    """Called at a run's end: records the run's open streams now, and not when Python collects them."""
    if not _unfinished:
        return
    with _lock:
        open_ones = [e for e in _unfinished if e.within is not None and e.within.recorder is recorder]
    for exchange in open_ones:
        exchange.leave()


@atexit.register
def _finish() -> None:
    """Records the open exchanges at the end of the program, with the bytes that were read."""
    with _lock:
        open_ones = list(_unfinished)
    for exchange in open_ones:
        exchange.finish()
