"""Which files of a lake are live, and how they are read: the seam that sealing and readers share, and its form in a folder.

A commit puts files into tables and takes files out of them, at once and exactly once: the same id commits once. Beside the
files a commit can set keys, and expect keys to have certain values, which is how a world lets one writer in. In a folder a commit
is one transaction of SQLite; paths are relative, so that a folder can be moved, and every file's footer says its commit, so that
the database can be rebuilt.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..codec import new_id
from ..errors import NewerStore, StoreError
from .files import DataFile, footer_of, is_private, properties_json, properties_of
from .schema import Table

_VERSION = 1
_BUSY_SECONDS = 30.0
_PAGE = 64  # files that `latest` reads at once
_TABLES = """
create table commits(seq integer primary key, id text not null unique, time integer not null, properties text not null);
create table files(
    path text primary key, tbl text not null, rows integer not null, bytes integer not null, groups text not null,
    added integer not null, removed integer
) without rowid;
create index files_of on files(tbl, added);
create table keys(name text primary key, value text) without rowid;
create table lake(id text not null)
"""


class Commit(msgspec.Struct, frozen=True):
    """A commit as it was made. `seq` counts from 1; `time` is nanoseconds."""

    seq: int
    id: str
    time: int
    properties: dict[str, Any]


class Live(msgspec.Struct, frozen=True):
    """A live file, and the commit that brought it."""

    file: DataFile
    added: int


class Conflict(StoreError):
    """A key had another value than was expected: somebody else was here first."""


class Commits(Protocol):
    """Which files are live. Implemented by `FolderCommits` and, for a team, by Iceberg tables."""

    def commit(
        self,
        id: str,
        add: Iterable[DataFile] = (),
        remove: Iterable[str] = (),
        *,
        properties: Mapping[str, Any] | None = None,
        keys: Mapping[str, str | None] | None = None,
        expect: Mapping[str, str | None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> int:
        """Commits, and returns the commit's seq. An id that was committed before changes nothing and returns its seq.

        `check` is called before anything changes, and again whenever another commit came first; it raises Conflict where the
        commit must not be made. Raises Conflict where a key of `expect` has another value (None: no value), StoreError where
        nothing could be written.
        """
        ...

    def files(self, table: str, since: int = 0) -> list[Live]:
        """The files of a table that are live and that came after commit `since`, in the order of commits."""
        ...

    def last(self, table: str) -> int:
        """The seq of the last commit that may have changed a table; 0 where there is none."""
        ...

    def find(self, id: str) -> Commit | None:
        """The commit with this id."""
        ...

    def key(self, name: str) -> str | None:
        """The value of a key."""
        ...

    def keys(self, prefix: str) -> dict[str, str]:
        """The keys that begin so and have a value, sorted."""
        ...

    def commits(self, since: int = 0) -> list[Commit]:
        """The commits after one, in their order."""
        ...

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        ...

    @property
    def id(self) -> str:
        """Tells one lake from another that took its place."""
        ...

    def prepare(self) -> None:
        """Makes what commits need, so that the first files that are written are never without it."""
        ...

    def refresh(self) -> None:
        """Looks at what others committed: questions are answered as of the last look, or later."""
        ...

    def untouched(self, id: str) -> bool:
        """Whether nothing of a commit that failed was made, so that its files may go."""
        ...

    def source(self, path: str) -> Any:
        """What a reader of Parquet reads a file from: a path, or an open file. Raises StoreError."""
        ...

    def dataset(self, table: Table, paths: Iterable[str]) -> Any:
        """Files of a table as an Arrow dataset; None where they are files of this machine, which engines read by their paths."""
        ...

    def frame(self, table: str, paths: Iterable[str]) -> Any:
        """Files of a table as a Daft DataFrame. Raises ImportError where Daft is not installed."""
        ...

    def orphans(self) -> list[Path]:
        """Files in the folder, whole or begun, that no commit knows: what a process left that was killed before it committed."""
        ...

    def expire(self, before: int) -> list[str]:
        """Deletes the files that were taken out before a time (nanoseconds); returns their paths. Readers of other processes may
        hold the places of a file that was taken out: they get the time until then."""
        ...

    def close(self) -> None:
        """Closes connections; they are opened again when needed."""
        ...


class FolderCommits:
    """The commits of the lake in a folder: `commits.sqlite` beside the files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._path = root / "commits.sqlite"
        self._lock = threading.RLock()
        self._open: sqlite3.Connection | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = self._connect()
        return self._open

    def _connect(self) -> sqlite3.Connection:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not self._path.exists() and is_private(self.root):  # its files beside get the same mode
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            db.execute("pragma journal_mode=wal")
            db.execute("pragma synchronous=full")  # a commit is the truth: journals go once it returned
            version = db.execute("pragma user_version").fetchone()[0]
            if version == 0:
                db.execute("begin immediate")
                if db.execute("pragma user_version").fetchone()[0] == 0:
                    for statement in _TABLES.split(";\n"):
                        db.execute(statement)
                    db.execute("insert into lake values(?)", (new_id(),))
                    db.execute(f"pragma user_version={_VERSION}")
                db.execute("commit")
            elif version > _VERSION:
                db.close()
                raise NewerStore(f"{self._path.name} has version {version}; this Odograph reads up to {_VERSION}")
            db.execute("select count(*) from files")
        except NewerStore:
            raise
        except (sqlite3.OperationalError, OSError) as error:
            raise StoreError(f"{self._path} can't be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self._path} is damaged ({error}); `odograph doctor --repair` rebuilds it from the files"
            ) from error
        return db

    def prepare(self) -> None:
        """Makes the database, so that the first files that are written are never without one."""
        with self._lock:
            self._db.execute("select 1")

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        return self._open is not None or self._path.exists()

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._db
            try:
                db.execute("begin immediate")
            except sqlite3.Error as error:
                raise StoreError(f"{self._path} can't be written: {error}") from error
            try:
                yield db
                db.execute("commit")
            except sqlite3.Error as error:
                _roll_back(db)
                raise StoreError(f"{self._path} can't be written: {error}") from error
            except BaseException:
                _roll_back(db)
                raise

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock:
            if not self.exists:
                return []
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(
                    f"{self._path} can't be read: {error}; `odograph doctor --repair` rebuilds it from the files"
                ) from error

    def commit(
        self,
        id: str,
        add: Iterable[DataFile] = (),
        remove: Iterable[str] = (),
        *,
        properties: Mapping[str, Any] | None = None,
        keys: Mapping[str, str | None] | None = None,
        expect: Mapping[str, str | None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> int:
        """See `Commits.commit`."""
        with self._transaction() as db:
            done = db.execute("select seq from commits where id=?", (id,)).fetchone()
            if done is not None:
                return int(done[0])
            if check is not None:
                check()
            for name, value in (expect or {}).items():
                row = db.execute("select value from keys where name=?", (name,)).fetchone()
                found = row[0] if row else None
                if found != value:
                    raise Conflict(f"{name} is {found!r}, not {value!r}: somebody else was here first")
            cursor = db.execute(
                "insert into commits(id, time, properties) values(?,?,?)", (id, time.time_ns(), properties_json(properties or {}))
            )
            seq = int(cursor.lastrowid or 0)
            for path in remove:
                if not db.execute("update files set removed=? where path=? and removed is null", (seq, path)).rowcount:
                    raise Conflict(f"{path} is no live file: somebody else took it out first")
            db.executemany(
                "insert into files values(?,?,?,?,?,?,null)",
                [(f.path, f.table, f.rows, f.bytes, properties_json({"rows": f.groups}), seq) for f in add],
            )
            db.executemany(
                "insert into keys values(?,?) on conflict do update set value=excluded.value", list((keys or {}).items())
            )
            return seq

    def files(self, table: str, since: int = 0) -> list[Live]:
        """See `Commits.files`."""
        rows = self._rows(
            "select path, rows, bytes, groups, added from files where tbl=? and added>? and removed is null order by added, path",
            (table, since),
        )
        return [Live(DataFile(table, path, n, size, tuple(properties_of(g)["rows"])), added) for path, n, size, g, added in rows]

    def latest(self, folder: str, before: str) -> Iterator[Live]:
        """The live files in a folder whose names sort before a name, last first. Reads no more of them than are taken."""
        start, stop = f"{folder}/", f"{folder}/{before}"
        query = (
            "select tbl, path, rows, bytes, groups, added from files"
            f" where path>? and path<? and removed is null order by path desc limit {_PAGE}"
        )
        while True:
            rows = self._rows(query, (start, stop))
            for table, path, n, size, groups, added in rows:
                yield Live(DataFile(table, path, n, size, tuple(properties_of(groups)["rows"])), added)
            if len(rows) < _PAGE:
                return
            stop = rows[-1][1]

    def last(self, table: str) -> int:
        """See `Commits.last`."""
        rows = self._rows("select max(seq) from commits")
        return int(rows[0][0] or 0) if rows else 0

    def find(self, id: str) -> Commit | None:
        """See `Commits.find`."""
        rows = self._rows("select seq, id, time, properties from commits where id=?", (id,))
        return Commit(rows[0][0], rows[0][1], rows[0][2], properties_of(rows[0][3])) if rows else None

    def key(self, name: str) -> str | None:
        """See `Commits.key`."""
        rows = self._rows("select value from keys where name=?", (name,))
        return rows[0][0] if rows else None

    def keys(self, prefix: str) -> dict[str, str]:
        """See `Commits.keys`."""
        rows = self._rows(
            "select name, value from keys where name>=? and name<? and value is not null order by name", _span(prefix)
        )
        return dict(rows)

    def tables(self, prefix: str = "") -> list[str]:
        """The names of the tables that have live files and begin so, sorted."""
        query = "select distinct tbl from files where tbl>=? and tbl<? and removed is null order by tbl"
        return [name for (name,) in self._rows(query, _span(prefix))]

    def commits(self, since: int = 0) -> list[Commit]:
        """See `Commits.commits`."""
        rows = self._rows("select seq, id, time, properties from commits where seq>? order by seq", (since,))
        return [Commit(seq, id, when, properties_of(text)) for seq, id, when, text in rows]

    @property
    def id(self) -> str:
        """Tells one lake from another that took its place."""
        rows = self._rows("select id from lake")
        return str(rows[0][0]) if rows else ""

    def refresh(self) -> None:
        """See `Commits.refresh`: each question looks."""

    def untouched(self, id: str) -> bool:
        """See `Commits.untouched`."""
        return self.find(id) is None

    # --- the files ----------------------------------------------------------------------------------------------------

    def source(self, path: str) -> Path:
        """See `Commits.source`."""
        return self.root / path

    def dataset(self, table: Table, paths: Iterable[str]) -> None:
        """See `Commits.dataset`."""

    def frame(self, table: str, paths: Iterable[str]) -> Any:
        """See `Commits.frame`."""
        import daft

        return daft.read_parquet([str(self.root / path) for path in paths])

    # --- keeping the folder in order ----------------------------------------------------------------------------------

    def expire(self, before: int) -> list[str]:
        """See `Commits.expire`."""
        with self._transaction() as db:
            gone = [
                path
                for (path,) in db.execute(
                    "select path from files join commits on commits.seq=files.removed where commits.time<?", (before,)
                )
            ]
            db.executemany("delete from files where path=?", [(path,) for path in gone])
        for path in gone:
            (self.root / path).unlink(missing_ok=True)
        return gone

    def orphans(self) -> list[Path]:
        """See `Commits.orphans`."""
        known = {path for (path,) in self._rows("select path from files")}
        found = [p for p in self.root.rglob("*.parquet*") if p.is_file()]
        return sorted(p for p in found if p.relative_to(self.root).as_posix() not in known)

    def repair(self, table_of: Callable[[Path], str | None]) -> dict[str, int]:
        """Rebuilds the database from the footers of the files: each complete commit, in their order.

        `table_of` says which table a path belongs to. The old database is kept beside, as `commits.sqlite.damaged`. Returns how
        many commits and live files were found, and how many files belong to commits that are not complete.
        """
        self.close()
        for suffix in ("", "-wal", "-shm"):
            old = self._path.with_name(self._path.name + suffix)
            if old.exists():
                old.rename(old.with_name(old.name + ".damaged"))
        commits: dict[str, dict[str, Any]] = {}
        left = 0
        for path in sorted(self.root.rglob("[!.]*.parquet")):
            name, table = path.relative_to(self.root).as_posix(), table_of(path)
            try:
                footer = footer_of(path)
            except StoreError:
                footer = None
            if footer is None or table is None:
                left += 1
                continue
            one = commits.setdefault(footer.commit, {"files": {}, "all": None, "replaces": set(), "properties": {}})
            one["files"][name] = (table, path)
            if footer.files:
                one |= {"all": set(footer.files), "replaces": set(footer.replaces), "properties": footer.properties}
        replaced = {path for one in commits.values() if one["all"] is not None for path in one["replaces"]}
        made = files = 0
        for id in sorted(commits, key=lambda id: _order(id, commits[id]["properties"])):
            one = commits[id]
            there = set(one["files"])
            if one["all"] is None or not one["all"] - replaced <= there:
                left += len(there)
                continue
            live = [_data_file(table, name, path) for name, (table, path) in one["files"].items() if name not in replaced]
            self.commit(id, live, properties=one["properties"], keys=one["properties"].get("keys"))
            made += 1
            files += len(live)
        return {"commits": made, "files": files, "left": left}


def _data_file(table: str, name: str, path: Path) -> DataFile:
    import pyarrow.parquet as parquet

    about = parquet.read_metadata(path)
    groups = tuple(about.row_group(i).num_rows for i in range(about.num_row_groups))
    return DataFile(table, name, about.num_rows, path.stat().st_size, groups)


def _order(id: str, properties: dict[str, Any]) -> tuple[int, str]:
    """By the commit that a commit is based on, as a clock may jump; else by time: ids end in a UUIDv7."""
    base = properties.get("base")
    return base if type(base) is int else -1, id.rpartition("/")[2]


def _span(prefix: str) -> tuple[str, str]:
    """Between which texts all lie that begin so."""
    return prefix, prefix + "\U0010ffff"


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("rollback")
