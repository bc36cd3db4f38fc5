"""Rows of the table `trajectories` -> the catalog's summaries, a batch of Arrow at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from ..tables.values import values_of
from .layout import SUMMARY
from .rows import SHARED, Key, Texts, alone, packed

_PLACE = ("files", "groups", "offsets", "rows")


class Put:
    """Puts rows of the table `trajectories` into the catalog."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._texts = Texts(db)
        self._segments: dict[str, int] = dict(db.execute("select path, number from segments").fetchall())

    def rows(self, rows: Any) -> list[Key]:
        """Of an Arrow table; returns the ids. What a summary says of several revisions the last one says."""
        found: dict[str, Sequence[Any]] = {}
        for name in SUMMARY:
            column = rows.column(SUMMARY[name].name)
            if name == "ended" or column.null_count == len(column):
                continue
            found[name] = self._numbers(column) if name in SHARED else values_of(column)
        keys = found["id"] = _packed(found["id"])
        root = found["root"]
        found["root"] = _packed(root)
        self._apart(found, "first", "start_time")
        self._apart(found, "last", "end_time")
        self._db.execute(
            "update newest set first=max(first, ?)", (max(_most(rows.column(name)) for name in ("first", "start_time")),)
        )
        found["sealed"] = self._places(rows)
        if "rewards" in found and "reward" in found:
            names = map(alone, found["rewards"], found["reward"])
            found["alone"] = [self._texts.number(name) for name in names]
        if not all(root):  # messages whose call was not written yet
            loose = [n for n, one in enumerate(root) if not one]
            self._db.executemany("insert or replace into loose values(?,?)", [(keys[n], found["sealed"][n]) for n in loose])
            whole = [n for n, one in enumerate(root) if one]
            found = {name: [of[n] for n in whole] for name, of in found.items()}
        update = ", ".join(f"{c}=excluded.{c}" for c in (*SUMMARY, "sealed", "alone") if c not in ("id", "ended"))
        self._db.executemany(
            f"insert into summaries({', '.join(found)}) values({', '.join('?' * len(found))})"
            f" on conflict(id) do update set {update} where excluded.revision>=summaries.revision",
            zip(*found.values(), strict=True),
        )
        return keys

    def _numbers(self, column: Any) -> list[int | None]:
        """The numbers of texts that repeat."""
        found = column.combine_chunks().dictionary_encode()
        numbers = [self._texts.number(text) for text in found.dictionary.to_pylist()]
        return [None if at is None else numbers[at] for at in values_of(found.indices)]

    def _apart(self, found: dict[str, Sequence[Any]], name: str, usual: str) -> None:
        """A time that is that of another column is 0; from the second version of the table on it is null there."""
        if name in found and usual in found:
            found[name] = [
                0 if one is None or one == other else one for one, other in zip(found[name], found[usual], strict=True)
            ]

    def _places(self, rows: Any) -> list[str]:
        """Where the rows of each trajectory are in the sealed tier."""
        files, groups, offsets, counts = (rows.column(name).combine_chunks() for name in _PLACE)
        paths = files.flatten().dictionary_encode()
        numbers = [self._number(path) for path in paths.dictionary.to_pylist()]
        each = zip(values_of(paths.indices), *(values_of(one.flatten()) for one in (groups, offsets, counts)), strict=True)
        runs = [f"{numbers[path]}:{group}:{offset}:{count}" for path, group, offset, count in each]
        lengths = values_of(files.value_lengths())
        if all(length == 1 for length in lengths):
            return runs
        given = iter(runs)
        return [" ".join(next(given) for _ in range(length)) for length in lengths]

    def _number(self, path: str) -> int:
        number = self._segments.get(path)
        if number is None:
            made = self._db.execute("insert into segments(path) values(?)", (path,))
            number = self._segments[path] = int(made.lastrowid or 0)
        return number


def _packed(ids: Sequence[str]) -> list[Key]:
    return [packed(id) for id in ids]


def _most(column: Any) -> int:
    import pyarrow.compute as compute

    found = compute.max(column).as_py()
    return 0 if found is None else int(found)
