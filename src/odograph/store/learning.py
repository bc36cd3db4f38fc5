"""What was sealed -> the catalog's tables: summaries as they are, and on top of them what the journal says since."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .indexing import Batch, Sealed
from .lake import Lake
from .lines import open_file, read_ranges
from .putting import Put
from .rows import Key, drop_indices, make_indices, packed, unpacked


def learn(db: sqlite3.Connection, lake: Lake, journal: Path, names: set[str], since: int, sealed_lines: Sealed) -> None:
    """Takes over the summaries of the commits after one: what they say takes the place of what the journal said, and lines
    that came later are folded into it again. The caller holds a transaction, which it undoes where this raises Gone."""
    if not lake.exists:
        return
    from .mending import summaries  # it imports what seals, and most processes learn nothing

    last, sealed, files = lake.look(since)
    known = {name for (name,) in db.execute("select name from files")}
    for name, stop in sealed.items():
        if name not in names and name not in known:
            continue
        if name in names:
            db.execute(
                "insert into files(name, indexed, searched) values(?,?,?) on conflict(name) do update set"
                " indexed=max(indexed, excluded.indexed), searched=max(searched, excluded.searched)",
                (name, stop, stop),
            )
        db.execute("delete from hits where file=? and stop<=?", (name, stop))
        db.execute("delete from places where file=? and stop<=?", (name, stop))
        db.execute("update places set start=? where file=? and start<?", (stop, name, stop))
    if not db.execute("select 1 from hits limit 1").fetchone():
        db.execute("insert into search(search) values('delete-all')")
    again: set[Key] = set()
    fresh = not db.execute("select 1 from summaries limit 1").fetchone()
    if fresh:
        drop_indices(db)
    put = Put(db)
    db.execute("create temp table if not exists learnt(id blob primary key) without rowid")
    for rows in summaries(lake, files):
        keys = put.rows(rows)
        if not fresh:
            db.execute("delete from learnt")
            db.executemany("insert or ignore into learnt values(?)", [(key,) for key in keys])
            for table in ("rewards", "uses"):
                db.execute(f"delete from {table} where trajectory in (select id from learnt)")
            again |= {
                i for (i,) in db.execute("select distinct trajectory from places where trajectory in (select id from learnt)")
            }
    if fresh:
        make_indices(db)
    for id in sorted(map(unpacked, again)):
        _refold(db, journal, id, sealed_lines)
    db.execute("delete from lake")
    db.execute("insert into lake values(?,?)", (lake.commits.id, last))


def _refold(db: sqlite3.Connection, journal: Path, id: str, sealed_lines: Sealed) -> None:
    """Folds the lines of the journal into the row of a sealed trajectory again."""
    by_file: dict[str, list[tuple[int, int]]] = {}
    for name, start, stop in db.execute("select file, start, stop from places where trajectory=? order by rowid", (packed(id),)):
        by_file.setdefault(name, []).append((start, stop))
    for name, ranges in by_file.items():
        file = open_file(journal / name)
        lines = b"".join(read_ranges(file.path, ranges)).split(b"\n")
        Batch(db, file, sealed_lines).refold(id, lines)
