"""SQLite files of other programs, read while those may write: never written, and asked for what tables they have first."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import InvalidInput, described

#: What a damaged database raises; the names in a damaged schema are no text.
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)
Ask = Callable[..., Iterator[dict[str, Any]]]


def _open(path: Path) -> sqlite3.Connection:
    name = quote(str(path.absolute()))
    connection = sqlite3.connect(f"file:{name}?mode=ro", uri=True, timeout=1)
    try:
        connection.execute("select name from sqlite_master limit 1").fetchone()
    except sqlite3.OperationalError:  # a log beside it that can't be opened for reading alone
        connection.close()
        connection = sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def has_tables(path: Path, names: tuple[str, ...]) -> bool:
    """Whether a file is a SQLite database with these tables; a damaged one has none."""
    try:
        connection = _open(path)
    except _DAMAGE:
        return False
    try:
        found = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    except _DAMAGE:
        return False
    finally:
        connection.close()
    return set(names) <= found


@contextmanager
def rows(path: Path) -> Iterator[Ask]:
    """A function that asks for rows as dicts. Raises InvalidInput where the database can't be read."""
    try:
        connection = _open(path)
    except _DAMAGE as error:
        raise InvalidInput(f"the database can't be read: {described(error)}") from None

    def ask(sql: str, *values: Any) -> Iterator[dict[str, Any]]:
        for row in connection.execute(sql, values):
            yield dict(row)

    try:
        yield ask
    except _DAMAGE as error:
        raise InvalidInput(f"the database can't be read: {described(error)}") from None
    finally:
        connection.close()
