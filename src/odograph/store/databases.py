"""Databases of DuckDB: how they are made and locked, and those that are kept for the next query."""

from __future__ import annotations

import atexit
import os
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

from ..errors import MissingExtra
from . import memory


class Databases:
    """The kept databases of one store."""

    def __init__(self) -> None:
        #: By the views in a database: what it is made of, and the database.
        self.kept: dict[tuple[str, ...], tuple[Any, Any]] = {}
        _all.add(self)

    def find(self, views: tuple[str, ...], made_of: Any) -> Any:
        """The database with these views that is made of this; None where there is none."""
        known, database = self.kept.get(views, (None, None))
        return database if known == made_of else None

    def keep(self, views: tuple[str, ...], made_of: Any, database: Any) -> None:
        self.kept[views] = made_of, database

    def close(self) -> None:
        self.kept.clear()

    def leave(self) -> None:
        """Forgets the databases, and ends none. A forked process has no thread of them: a query waits for ever, and to end a
        database crashes the process."""
        if self.kept:
            import ctypes

            for _, database in self.kept.values():
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))
            self.kept.clear()


_all: WeakSet[Databases] = WeakSet()


def _in_child() -> None:
    for one in list(_all):
        one.leave()


os.register_at_fork(after_in_child=_in_child)
_parsers = Databases()


def parser() -> Any:
    """A connection that takes queries apart. The one that DuckDB has for this is the program's, and it crashes a forked process
    that ends."""
    database = _parsers.find((), None)
    if database is None:
        database = made()
        _parsers.keep((), None, database)
    return database.cursor()


def made() -> Any:
    """A new database in memory. Raises MissingExtra."""
    database = duckdb().connect(":memory:")
    database.execute("set autoinstall_known_extensions=false; set autoload_known_extensions=false")
    # without `global` they hold for this connection alone, and not for a cursor of it
    database.execute("set global python_enable_replacements=false; set global parquet_metadata_cache=true")
    database.execute("set allow_persistent_secrets=false; set memory_limit='50%'; set enable_progress_bar=false")
    return database


def lock(database: Any, paths: list[str]) -> None:
    """From now on a query opens these files and nothing else."""
    database.execute(f"set temp_directory={quoted(_beside_memory(os.getpid()))}")
    database.execute(f"set allowed_paths=[{', '.join(map(quoted, paths))}]")
    database.execute("set enable_external_access=false; set lock_configuration=true")


@cache
def _beside_memory(process: int) -> str:
    """A folder of this user alone, where DuckDB writes what memory does not hold; no name where none can be made."""
    try:
        folder = memory.fresh("odograph-sql-")
    except OSError:
        return ""
    atexit.register(_remove, folder, process)
    return str(folder)


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not a child of its own
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def duckdb() -> Any:
    """The module duckdb. Raises MissingExtra."""
    try:
        import duckdb
    except ImportError:
        raise MissingExtra("SQL", "lake") from None
    return duckdb
