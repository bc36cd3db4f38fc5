"""The full-text side of the catalog: lines that hold text into the index, and the words that a search asks for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from ..errors import InvalidInput
from .indexing import searchable
from .lines import File, complete_lines
from .rows import packed, transaction

_BATCH = 16 << 20  # bytes that are indexed in one transaction

#: Gets a line that is indexed: its file, and where it begins.
Each = Callable[[File, int, bytes], None]

#: Where lines are that hold all words, the newest first: of `matching`, and how many at most.
FOUND = (
    "select trajectory, kind, step, file, start, stop from hits where rowid in"
    " (select rowid from search where search match ?) order by rowid desc limit ?"
)
#: The trajectories of these lines.
HAVING = "select distinct trajectory from hits where rowid in (select rowid from search where search match ?)"


def index_some(db: sqlite3.Connection, file: File, each: Each | None) -> bool:
    """Brings the full-text index of a file towards what the catalog knows of the file; whether more is left."""
    try:
        return _index_some(db, file, each)
    except FileNotFoundError:  # sealed meanwhile
        return False


def _index_some(db: sqlite3.Connection, file: File, each: Each | None) -> bool:
    with transaction(db):
        row = db.execute("select searched, indexed from files where name=?", (file.name,)).fetchone()
        if row is None or row[0] >= row[1]:
            return False
        start, indexed = row
        end = start
        for offset, line in complete_lines(file.path, start):
            if offset >= indexed or offset - start > _BATCH:
                break
            end = offset + len(line) + 1
            index_line(db, file, offset, end, line)
            if each is not None:
                each(file, offset, line)
        db.execute("update files set searched=? where name=?", (end, file.name))
    return bool(end < indexed)


def index_line(db: sqlite3.Connection, file: File, start: int, stop: int, line: bytes) -> None:
    """Adds a line to the full-text index, if the line has text."""
    found = searchable(line)
    if found:
        kind, trajectory, step, text = found
        made = db.execute(
            "insert into hits(trajectory, kind, step, file, start, stop) values(?,?,?,?,?,?)",
            (packed(trajectory), kind, step, file.name, start, stop),
        )
        db.execute("insert into search(rowid, text) values(?,?)", (made.lastrowid, text))


def matching(query: str) -> str:
    """The full-text query for words (all must occur) and "quoted phrases". Raises InvalidInput for none."""
    parts = query.split('"')
    terms = [t for i, part in enumerate(parts) for t in ([part] if i % 2 else part.split()) if t.strip()]
    if not terms:
        raise InvalidInput("a search needs at least one word")
    return " AND ".join('"' + t.replace('"', '""').replace("\0", " ") + '"' for t in terms)
