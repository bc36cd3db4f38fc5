"""Publishing: the worlds of a folder go to the tables that machines share, under their ids, with every tick and fork.

The files go as they are, all in one commit; a file that is there already is not brought again. A world that went on in the shared
tables, or whose name another world has there, keeps what it has there.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Any

import msgspec

from ..codec import new_id
from ..store.backend import Place
from ..tables.commits import Conflict, Live, opened_in
from ..tables.files import DataFile
from ..tables.iceberg import IcebergCommits
from ..tables.schema import Table
from .layout import TICKS, VALUES
from .places import StorageConfig, where_of
from .storage import DESTROYED, Storage

_ATTEMPTS = 5
_TEXTS = "texts"  # in place of a world, where a file of `world_ticks` only says that the texts of its commit count


def publish(folder: Place, tables: Place) -> tuple[int, dict[str, str]]:
    """Brings the worlds of a folder to shared tables. Returns how many worlds brought something, and by name why others did not.

    Raises MissingExtra, StoreError.
    """
    source, target = (Storage(where_of(StorageConfig(place))) for place in (folder, tables))
    with closing(source), closing(target):
        if not source.commits.exists:
            return 0, {}
        for _ in range(_ATTEMPTS - 1):
            with suppress(Conflict):  # another machine stepped one of them just now
                return _published(source, target)
        return _published(source, target)


def _published(source: Storage, target: Storage) -> tuple[int, dict[str, str]]:
    shared = target.commits
    assert isinstance(shared, IcebergCommits)
    target.look()
    there = {live.file.path for live in shared.files(TICKS.name)}
    plan = _Plan(source, target, there)
    for live in source.commits.files(TICKS.name):
        plan.take(live)
    keys, expect = plan.keys()
    files = plan.files()
    if keys:
        tables = {file.table for file in files.values()} - {TICKS.name, VALUES.name}
        target.prepare(_table_of(source, name) for name in sorted(tables))
        for path, file in files.items():
            shared.upload(file, source.root / path)
        shared.commit(new_id(), files.values(), keys=keys, expect=expect)
    return len(plan.brought), plan.left


class _Plan:
    """What is brought: the commits of a folder that the shared tables lack, where they go on from what these have."""

    def __init__(self, source: Storage, target: Storage, there: set[str]) -> None:
        self.brought: dict[str, list[DataFile]] = {}  # by world
        self.left: dict[str, str] = {}
        self._source = source
        self._target = target
        self._there = there
        self._next: dict[str, int] = {}  # by world: the tick before which the shared tables have what the folder has
        self._others: dict[str, list[DataFile]] = {}  # by commit
        for name in (VALUES.name, *_tables_in(source)):
            for live in source.commits.files(name):
                self._others.setdefault(_commit_of(live.file.path), []).append(live.file)
        #: Of commits that are left: the texts, to which later commits refer, and a name by which they count; by paths.
        self._texts: list[tuple[str, DataFile]] = []

    def take(self, live: Live) -> None:
        """Looks at a commit of the folder by its file of `world_ticks`."""
        _, world, name = live.file.path.split("/")
        if live.file.path in self._there:
            self._next[world] = int(name[:10]) + (not name[11:].startswith("world-"))
            return
        with opened_in(self._source.commits, live.file.path, TICKS) as file:
            row = file.read().to_pylist()[0]
        why = self._refused(world, row["tick"], row["kind"], row["parent"])
        if not why:
            self.brought.setdefault(world, []).append(live.file)
            self._next[world] = row["tick"] + (row["kind"] == "tick")
            return
        self.left.setdefault(row["name"], why)
        texts = [file for file in self._others.get(_commit_of(name), ()) if file.table == VALUES.name]
        copy = f"{TICKS.name}/{_TEXTS}/{name}"
        if texts and copy not in self._there:
            self._texts += [(live.file.path, msgspec.structs.replace(live.file, path=copy)), *((one.path, one) for one in texts)]

    def _refused(self, world: str, tick: int, kind: str, parent: str | None) -> str:
        """Why a commit can't be brought; empty where it can."""
        if self._target.is_destroyed(world):
            return "it was destroyed in the shared tables"
        if kind == "fork" and parent is not None and self._next.get(parent, -1) < tick:
            return "the world that it is a fork of is not published up to the fork"
        if kind in ("world", "fork"):
            return ""
        if world not in self._next:
            return "its beginning is not published"
        if world not in self.brought and self._target.next_tick(world) != self._next[world]:
            return f"it went on in the shared tables, from tick {self._next[world]}"
        return "" if tick == self._next[world] else f"its tick {self._next[world]} is not published"

    def files(self) -> dict[str, DataFile]:
        """All files that are brought, by their paths in the folder."""
        own = [file for files in self.brought.values() for file in files]
        return {file.path: file for one in own for file in (one, *self._others.get(_commit_of(one.path), ()))} | dict(self._texts)

    def keys(self) -> tuple[dict[str, str | None], dict[str, str | None]]:
        """The keys of the worlds that are brought, and of their names; and which of them are expected to be as they were."""
        source, shared = self._source.commits, self._target.commits
        keys: dict[str, str | None] = {}
        expect: dict[str, str | None] = {}
        for world in self.brought:
            tick = f"world/{world}/tick"
            keys |= {name: value for name, value in source.keys(f"world/{world}/").items() if not name.endswith("/writer")}
            keys[tick], expect[tick] = str(self._next[world]), shared.key(tick)
            if self._source.is_destroyed(world):
                keys[f"world/{world}/writer"] = DESTROYED
        for name, world in source.keys("world-name/").items():
            held = shared.key(name)
            if held != world and world in self._next:
                if held is None or held in self._next:  # else a world of others has it
                    keys[name], expect[name] = world, held
                else:
                    why = f"a world of others has the name; runtime.resume({world!r}) opens this one"
                    self.left[name.partition("/")[2].partition("/")[2]] = why
        for name, held in shared.keys("world-name/").items():
            if name not in keys and held in self._next and self._source.is_destroyed(held):
                keys[name], expect[name] = None, held
        return keys, expect


def _tables_in(source: Storage) -> Iterable[str]:
    """The tables of rows that a folder has."""
    return sorted({name.partition("/table/")[2] for name in source.commits.keys("world/") if "/table/" in name})


def _table_of(source: Storage, name: str) -> Table:
    """A table with all its columns, as a whole state describes it."""
    path: Any = next(live.file.path for live in source.commits.files(name) if live.file.path.rpartition("/")[2][11:15] == "base")
    with opened_in(source.commits, path) as file:
        return file.table


def _commit_of(path: str) -> str:
    """The commit that brought a file: the names of files end in it."""
    return path.rpartition("/")[2].removesuffix(".parquet")[11:].removeprefix("base-").removeprefix("delta-")
