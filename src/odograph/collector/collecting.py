"""Spans into a store: kept at once, written as sessions when nothing more of them is coming. Knows no HTTP."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import msgspec

from ..api import Store
from ..codec import encode
from ..errors import InvalidInput, OdographError, StoreError
from ..importers import Session
from ..log import logger
from ..redact import Redactor
from ..spans import TraceSpan, write
from ..store import writing
from ..types import End, Start
from .spool import Spool

FORMAT = "otlp"
_KEPT = 86_400.0  # seconds that spans of a quiet session stay at hand
_LONGEST = 30.0  # seconds after which a session is written though spans of it still come
_ROOTED = 0.5  # seconds that a trace waits after its root came: children come before, but not always
_SHARE = 10  # a session that grows is written so seldom that this takes a tenth of the time


class Collector:
    """`with Collector(store) as collector: collector.put(spans)`. One for a store at a time.

    `quiet`: a session is written when nothing of it came for so many seconds, and earlier where the root of its trace came.
    Raises InvalidInput, StoreError.
    """

    def __init__(self, store: Store, *, quiet: float = 3.0) -> None:
        if isinstance(quiet, bool) or not isinstance(quiet, (int, float)) or not 0 <= quiet <= 3600:
            raise InvalidInput(f"quiet is a number of seconds from 0 to 3600, not {quiet!r}")
        self._store = store
        self._quiet = quiet
        self._held = ExitStack()
        if not self._held.enter_context(store.backend.lock("collect", wait=False)):
            self._held.close()
            raise InvalidInput("another process collects into this store")
        folder = store.backend.beside("collect")
        self._in, self._out = Spool(folder), Spool(folder)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        #: When a session may be written again, by its key.
        self._next: dict[tuple[str, ...], float] = {}
        #: spans (that were not known), rejected (without ids), written (how often a session had something new), unreadable,
        #: failed.
        self.counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="odograph-collect", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def put(self, spans: Iterable[TraceSpan]) -> int:
        """Keeps spans, without secrets where the store has none; returns how many were not known. Raises StoreError."""
        redactor = self._store.backend.sink.redactor
        if redactor is not None:
            spans = [_redacted(span, redactor) for span in spans]
        with self._lock:
            new = self._in.put(spans)
        self.counts["spans"] += new
        return new

    def flush(self) -> None:
        """Writes all sessions now."""
        self._write(quiet=0.0, rooted=0.0, longest=0.0, now=True)

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._stop.set()
        self._thread.join()
        try:
            self.flush()
        finally:
            self._in.close()
            self._out.close()
            self._held.close()

    def _run(self) -> None:
        swept = time.monotonic()
        while not self._stop.wait(0.25):
            try:
                self._write(quiet=self._quiet, rooted=min(_ROOTED, self._quiet), longest=_LONGEST)
                if time.monotonic() - swept > 600:
                    swept = time.monotonic()
                    with self._writing:
                        self._out.forget(_KEPT)
                        self._next = {key: when for key, when in self._next.items() if when > swept}
            except OdographError as error:  # a full disk: the spans are kept, and are written later
                if not self.counts["failed"]:
                    logger.warning("%s; the spans that came are kept, and Odograph tries again", error)
                self.counts["failed"] += 1
                self._stop.wait(5.0)

    def _write(self, *, now: bool = False, **due: float) -> None:
        """Writes the sessions that are due. One thread at a time: who flushes finds them written when the call returns."""
        with self._writing:
            if traces := self._out.due(**due):
                self._write_traces(traces, now)

    def _write_traces(self, traces: list[str], now: bool) -> None:
        before = self._out.now()
        later: set[str] = set()
        for key, spans in self._out.sessions(traces):
            if not now and time.monotonic() < self._next.get(key, 0.0):
                later.update(s.trace for s in spans)
                continue
            began = time.monotonic()
            self._add(key, spans)
            self._next[key] = time.monotonic() + _SHARE * (time.monotonic() - began)
        self._out.written([t for t in traces if t not in later], before)

    def _add(self, key: tuple[str, ...], spans: list[TraceSpan]) -> None:
        traces = list(dict.fromkeys(span.trace for span in spans))
        session = Session(FORMAT, *self._home(key, traces))
        try:
            new = self._put(session, spans, {"format": FORMAT, key[0]: key[1]})
            for trace in self._out.were_alone(traces) if key[0] != "trace" else ():
                self._join(trace, [span for span in spans if span.trace == trace], session.id)
        except StoreError:
            raise
        except Exception as error:  # spans that nobody foresaw cost their own session alone
            self.counts["unreadable"] += 1
            logger.warning("the session %s of %d spans can't be understood: %s", key[1][:60], len(spans), type(error).__name__)
            return
        if new:
            self.counts["written"] += 1

    def _put(self, session: Session, spans: list[TraceSpan], source: dict[str, Any], joined: str | None = None) -> int:
        """Writes what spans say. `joined`: the trajectory that has it all; this one keeps its start and its end."""
        possible = write(spans, session, source)
        records = session.records
        if joined is not None:
            records = [r for r in records if isinstance(r, (Start, End))]
            records = [_repeating(r, joined) if isinstance(r, Start) else r for r in records]
        withdrawn = frozenset(possible.difference(r.id for r in records))
        return writing.add(self._store.backend.sink, self._store.backend.reader, records, withdrawn)[1]

    def _home(self, key: tuple[str, ...], traces: list[str]) -> tuple[str, ...]:
        """What a session's trajectory is named after: where it was begun. A trace may be written before a span of it names its
        session."""
        if key[0] == "trace":
            self._out.alone(key[1])
            return key
        name = encode(key).decode()
        home = self._out.home(name)
        if home is None and (alone := self._out.were_alone(traces)):
            if not self._store.backend.reader.there([Session(FORMAT, *key).id]):
                home = alone[0]
                self._out.begin(name, home)
        if home is not None:
            self._out.joined(home)
        return key if home is None else ("trace", home)

    def _join(self, trace: str, spans: list[TraceSpan], into: str) -> None:
        """A trace that was a session of its own is a part of another now: its trajectory repeats that one."""
        session = Session(FORMAT, "trace", trace)
        if self._store.backend.reader.there([session.id]):
            self._put(session, spans, {"format": FORMAT, "trace": trace}, joined=into)
        self._out.joined(trace)


def _repeating(start: Start, other: str) -> Start:
    return msgspec.structs.replace(start, metadata={**start.metadata, "replay_of": other})


def _redacted(span: TraceSpan, redactor: Redactor) -> TraceSpan:
    whole = msgspec.to_builtins(span)
    kept = redactor.value(whole, Counter())
    return span if kept is whole else msgspec.convert(kept | {n: whole[n] for n in ("trace", "id", "parent")}, TraceSpan)
