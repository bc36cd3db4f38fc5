"""Spans that were received: each once, on disk before the sender is answered, until its session was quiet for a day.

A session is written again whenever more of it came; so its spans have to be at hand, those of traces that are long over, too.
Knows no HTTP and no store.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..errors import StoreError
from ..spans import TraceSpan, groups, session_of
from ..tables.wal import to_wal

_TABLES = """
create table if not exists spans (trace text, id text, log integer, body blob, unique (trace, id, log));
create table if not exists traces (trace text primary key, first real, last real, rooted integer, dirty integer);
create table if not exists named (session text, trace text, primary key (session, trace)) without rowid;
create table if not exists alone (trace text primary key) without rowid;
create table if not exists homes (session text primary key, trace text, time real) without rowid;
create index if not exists dirty on traces (dirty) where dirty;
"""
_HOMES = 30 * 86_400.0  # seconds that a session is known by the trace under which it was begun
#: Traces that one query names at most.
_PART = 500

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TraceSpan)

#: The key of a session, and its spans.
Group = tuple[tuple[str, ...], list[TraceSpan]]


class Spool:
    """Spans in a file. One object for each thread that uses it. Raises StoreError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "spans.sqlite"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self._path, timeout=30, check_same_thread=False, isolation_level=None)
            to_wal(self._db)
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(f"the spans in {str(self._path)!r} can't be kept: {error}")

    def put(self, spans: Iterable[TraceSpan]) -> int:
        """Keeps spans; returns how many were not there. They are on disk when this returns, but for a loss of power."""
        new = 0
        try:
            with self._db:
                self._db.execute("begin immediate")
                now = time.time()
                for span in spans:
                    session = session_of(span)
                    # Codex writes some logs in no trace: they are of the session that they name
                    trace = span.trace or (f"session {session}" if session is not None else f"span {span.id}")
                    kept = msgspec.structs.replace(span, trace=span.trace or trace)
                    made = self._db.execute(
                        "insert into spans values (?, ?, ?, ?) on conflict do nothing",
                        (trace, span.id, int(span.log), _encoder.encode(kept)),
                    )
                    if not made.rowcount:  # an exporter that retries sends the same again
                        continue
                    new += 1
                    rooted = int(span.parent is None and not span.log)
                    self._db.execute(
                        "insert into traces values (?1, ?2, ?2, ?3, 1) on conflict (trace) do update set last = ?2,"
                        " first = case when dirty then first else ?2 end, rooted = rooted or ?3, dirty = 1",
                        (trace, now, rooted),
                    )
                    if session is not None:
                        self._db.execute("insert into named values (?, ?) on conflict do nothing", (session, trace))
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return new

    def now(self) -> float:
        """A time: what is read from now on has all spans that came before it. It waits for those that are being kept."""
        try:
            with self._db:
                self._db.execute("begin immediate")
                return time.time()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def due(self, *, quiet: float, rooted: float, longest: float) -> list[str]:
        """Traces with something new whose session can be written: nothing came for `quiet` seconds, or for `rooted` seconds after
        the root of the trace came, or the first of it came `longest` seconds ago."""
        now = time.time()
        return [
            trace
            for trace, first, last, root in self._asked("select trace, first, last, rooted from traces where dirty")
            if now - last >= (rooted if root else quiet) or now - first >= longest or last > now
        ]

    def sessions(self, traces: list[str]) -> list[Group]:
        """The sessions that have one of the traces, each with all its spans."""
        names = self._of(traces, "select distinct session from named where trace in (%s)")
        related = dict.fromkeys([*traces, *self._of(names, "select distinct trace from named where session in (%s)")])
        spans = [
            _decoder.decode(body)
            for part in _parts(list(related))
            for (body,) in self._asked(f"select body from spans where trace in ({_marks(part)})", part)
        ]
        mine = set(traces)
        return [group for group in groups(spans) if any(span.trace in mine for span in group[1])]

    def _of(self, values: list[str], query: str) -> list[str]:
        return [row[0] for part in _parts(values) for row in self._asked(query % _marks(part), part)]

    def _asked(self, query: str, values: Iterable[str] = ()) -> list[Any]:
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def alone(self, trace: str) -> None:
        """A trace is a session of its own, as far as its spans tell."""
        self._changed("insert into alone values (?) on conflict do nothing", trace)

    def were_alone(self, traces: list[str]) -> list[str]:
        """Of traces, those that were sessions of their own before."""
        return self._of(traces, "select trace from alone where trace in (%s)")

    def home(self, session: str) -> str | None:
        """The trace under which a session was begun, before anything named the session."""
        return next((row[0] for row in self._asked("select trace from homes where session = ?", (session,))), None)

    def begin(self, session: str, trace: str) -> None:
        """A session goes on where a trace was written."""
        self._changed("insert into homes values (?, ?, ?) on conflict do nothing", session, trace, time.time())

    def joined(self, trace: str) -> None:
        """A trace is no session of its own any more."""
        self._changed("delete from alone where trace = ?", trace)

    def _changed(self, query: str, *values: Any) -> None:
        try:
            self._db.execute(query, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def written(self, traces: list[str], before: float) -> None:
        """The traces' sessions were written with all that came before a time."""
        try:
            with self._db:
                self._db.execute("begin immediate")
                for part in _parts(traces):
                    self._db.execute(f"update traces set dirty = 0 where last < ? and trace in ({_marks(part)})", (before, *part))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def forget(self, seconds: float) -> None:
        """Lets go of traces of which nothing came for so long."""
        old = time.time() - seconds
        with suppress(sqlite3.Error), self._db:  # a full disk: another time
            self._db.execute("begin immediate")
            gone = "select trace from traces where last < ? and not dirty"
            for table in ("spans", "named", "alone", "traces"):
                self._db.execute(f"delete from {table} where trace in ({gone})", (old,))
            self._db.execute("delete from homes where time < ?", (time.time() - _HOMES,))

    def close(self) -> None:
        self._db.close()


def _marks(part: list[str]) -> str:
    return ", ".join("?" * len(part))


def _parts(values: list[str]) -> list[list[str]]:
    return [values[n : n + _PART] for n in range(0, len(values), _PART)]
