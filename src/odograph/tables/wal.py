"""Databases of SQLite that several processes write: the change to a write-ahead log waits."""

from __future__ import annotations

import sqlite3
import time

_BUSY_SECONDS = 30.0


def to_wal(db: sqlite3.Connection) -> None:
    """Gives a database a write-ahead log. Where another process makes the file at this moment, SQLite says at once that the file
    is busy, whatever the timeout of `db` is; this waits half a minute. Raises sqlite3.Error."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
