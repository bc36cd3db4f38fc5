"""Whoever opens a database while another makes its file waits."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import odograph
from odograph.collector.spool import Spool
from odograph.tables.folder import FolderCommits
from odograph.tables.wal import to_wal


def lists(folder: Path) -> str:
    """The sealed files."""
    one = FolderCommits(folder)
    one.prepare()
    return one.id


def spools(folder: Path) -> str:
    """The spans that wait."""
    Spool(folder)
    return "open"


def catalogs(folder: Path) -> str:
    """The catalog, which is kept in memory where its file can't be used."""
    with odograph.open(folder) as store:
        store.count()
        return "in memory" if store.backend.reader.catalog.in_memory else "open"


@pytest.mark.parametrize("opens", [lists, spools, catalogs])
def test_many_that_make_one_database_at_once(tmp_path: Path, opens) -> None:
    for number in range(30):
        (tmp_path / str(number) / "journal").mkdir(parents=True)
        begin = threading.Barrier(4)

        def one(_: int, folder: Path = tmp_path / str(number), begin: threading.Barrier = begin) -> str:
            begin.wait()
            return opens(folder)

        with ThreadPoolExecutor(4) as threads:
            (found,) = set(threads.map(one, range(4)))
        assert found != "in memory"


def test_what_is_no_other_process_is_told_at_once(tmp_path: Path) -> None:
    """Only who makes the file is waited for."""
    path = tmp_path / "one.sqlite"
    sqlite3.connect(path).execute("create table t(x)")
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        to_wal(db)
