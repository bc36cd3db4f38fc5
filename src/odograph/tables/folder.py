"""Which files of a lake are live, in a folder: `commits.sqlite` beside the files.

A commit is one transaction of SQLite; paths are relative, so that a folder can be moved, and every file's footer says its commit,
so that the database can be rebuilt.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import locks
from ..codec import new_id
from ..errors import NewerStore, StoreError
from .commits import Commit, Conflict, Live
from .files import DataFile, Footer, crc_of, footer_of, is_private, properties_json, properties_of, refused
from .schema import Table
from .wal import to_wal

_VERSION = 1
_BUSY_SECONDS = 30.0
#: What Daft takes for a pattern in the name of a file.
_PATTERN = re.compile(r"[\\*?\[\]{}]")
#: What is safe where the list of the files is not, and what to do.
_REBUILT = "the sealed files and the journal are safe: `odograph doctor --repair` makes the list anew from the files"
_PAGE = 64  # files that `latest` reads at once
#: Errors that are the machine's and not the database's: busy, out of memory, read-only, full, and a file that can't be opened.
_MACHINE = tuple(
    getattr(sqlite3, f"SQLITE_{name}") for name in ("BUSY", "LOCKED", "NOMEM", "READONLY", "IOERR", "FULL", "CANTOPEN", "PERM")
)
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


class FolderCommits:
    """The commits of the lake in a folder: `commits.sqlite` beside the files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._path = root / "commits.sqlite"
        self._lock = locks.for_forks()
        self._open: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # which one is open
        self._fleeting = False
        self.sound = -1  #: The last commit when a sealer of this process had found nothing wrong with the whole list.

    @property
    def _db(self) -> sqlite3.Connection:
        if self._open is not None and self._file != (there := _file_at(self._path)):
            if there is None:  # what is written to a file without a name is lost
                raise StoreError(
                    f"{self._path} is gone: somebody deleted the open file; `odograph doctor --repair` makes the file anew"
                )
            self.close()  # another one took its place
        if self._open is None:
            self._open = self._connect()
            self._file = _file_at(self._path)
        return self._open

    def _connect(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = None
        made, self._fleeting = not self.exists, False
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():  # SQLite would let nobody else write; its files beside get the same mode
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600 if is_private(self.root) else 0o666))
            db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            version = db.execute("pragma user_version").fetchone()[0]
            if version == 0 and not made:
                self._refuse_others(db)
            if version == 0:
                db.execute("pragma page_size=1024")  # of a small store it is seven pages
            to_wal(db)
            db.execute("pragma synchronous=full")  # a commit is the truth: journals go once it returned
            if version == 0:
                db.execute("begin immediate")
                if db.execute("pragma user_version").fetchone()[0] == 0:
                    for statement in _TABLES.split(";\n"):
                        db.execute(statement)
                    db.execute("insert into lake values(?)", (new_id(),))
                    db.execute(f"pragma user_version={_VERSION}")
                db.execute("commit")
            elif version > _VERSION:
                raise NewerStore(
                    f"{self._path.name} has version {version}; this Odograph reads up to {_VERSION}: install a newer one;"
                    " nothing was changed"
                )
            db.execute("select count(*) from files")
        except (NewerStore, sqlite3.Error, OSError) as error:
            if db is not None:
                db.close()
            if isinstance(error, NewerStore):
                raise
            if made:
                for suffix in ("", "-wal", "-shm"):
                    with suppress(OSError):
                        self._path.with_name(self._path.name + suffix).unlink()
            if isinstance(error, OSError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _MACHINE:
                if (there := self._unchanging()) is not None:
                    return there
                raise refused(self._path, "opened", error) from error
            raise StoreError(f"{self._path} is damaged ({error}); {_REBUILT}") from error
        return db

    def _refuse_others(self, db: sqlite3.Connection) -> None:
        """Raises sqlite3.DatabaseError for a database without a version that no other process is about to make."""
        if db.execute("select 1 from sqlite_master limit 1").fetchone():
            if db.execute("pragma user_version").fetchone()[0] == 0:
                raise sqlite3.DatabaseError("it is the database of another program")
        elif next(self.root.glob("*/[!.]*.parquet"), None) is not None:
            raise sqlite3.DatabaseError("it lists no files, but there are files")

    def _unchanging(self) -> sqlite3.Connection | None:
        """The database for one question, where nothing can be written, not even the files that SQLite needs beside it."""
        beside = self._path.with_name(self._path.name + "-wal")
        db: sqlite3.Connection | None = None
        try:
            if not self._path.stat().st_size or (beside.exists() and beside.stat().st_size):
                return None
            where = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
            db = sqlite3.connect(where, uri=True, isolation_level=None)
            if db.execute("pragma user_version").fetchone()[0] == _VERSION:
                self._fleeting = True
                return db
        except (sqlite3.Error, OSError):
            pass
        if db is not None:
            db.close()
        return None

    def prepare(self, tables: Iterable[Table] = ()) -> None:
        """See `Commits.prepare`: makes the database, which knows no tables."""
        with self._asked():
            pass

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        if self._open is not None:
            return True
        try:
            return self._path.stat().st_size > 0  # an empty file is what a full disk leaves of a new one
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(f"{self._path} can't be read: {error.strerror}") from error

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @contextmanager
    def _asked(self) -> Iterator[sqlite3.Connection]:
        """The database. What was opened for one question alone is closed then: it does not see what others commit."""
        with self._lock:
            try:
                yield self._db
            finally:
                if self._fleeting and self._open is not None and not self._open.in_transaction:
                    self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._asked() as db:
            try:
                db.execute("begin immediate")
                yield db
                db.execute("commit")
                if self._file != _file_at(self._path):
                    raise StoreError(f"{self._path} was replaced while a commit was made; nothing is lost: do the same again")
            except sqlite3.Error as error:
                _roll_back(db)
                raise refused(self._path, "written", error) from error
            except BaseException:
                _roll_back(db)
                raise

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock:
            if not self.exists:
                return []
            try:
                with self._asked() as db:
                    return db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _MACHINE:
                    raise refused(self._path, "read", error) from error
                raise StoreError(f"{self._path} can't be read: {error}; {_REBUILT}") from error

    @contextmanager
    def _as_of_now(self) -> Iterator[sqlite3.Connection]:
        """All questions within see one state of the database."""
        with self._asked() as db:
            db.execute("begin")
            try:
                yield db
            finally:
                _roll_back(db)

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
                    raise Conflict(f"{path} is no live file: another process removed the file first")
            db.executemany(
                "insert into files values(?,?,?,?,?,?,null)",
                [(f.path, f.table, f.rows, f.bytes, properties_json({"rows": f.groups, "crc": f.crc}), seq) for f in add],
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
        return [self._live(table, *row) for row in rows]

    def _live(self, table: str, path: str, rows: int, size: int, about: str, added: int) -> Live:
        try:
            known = properties_of(about)
            return Live(DataFile(table, path, rows, size, tuple(known["rows"]), known.get("crc")), added)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self._path} is damaged; {_REBUILT}") from error

    def add_sums(self) -> None:
        """Notes the checksums of the live files of which none are known (an earlier version sealed them), as they stand."""
        with self._transaction() as db:
            for path, about in db.execute("select path, groups from files where removed is null").fetchall():
                known = properties_of(about)
                if known.get("crc") is None:
                    with suppress(OSError):  # it is gone, which readers say
                        sums = {**known, "crc": crc_of(self.root / path)}
                        db.execute("update files set groups=? where path=?", (properties_json(sums), path))

    def latest(self, folder: str, before: str) -> Iterator[Live]:
        """See `Commits.latest`. Reads no more of them than are taken."""
        start, stop = f"{folder}/", f"{folder}/{before}"
        query = (
            "select tbl, path, rows, bytes, groups, added from files"
            f" where path>? and path<? and removed is null order by path desc limit {_PAGE}"
        )
        while True:
            rows = self._rows(query, (start, stop))
            for row in rows:
                yield self._live(*row)
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

    def settle(self) -> None:
        """See `Commits.settle`: SQLite keeps the last commits in a file beside, which people copy or delete apart."""
        self._rows("pragma wal_checkpoint(passive)")

    # --- the files ----------------------------------------------------------------------------------------------------

    def source(self, path: str) -> Path:
        """See `Commits.source`."""
        return self.root / path

    def dataset(self, table: Table, paths: Iterable[str]) -> None:
        """See `Commits.dataset`."""

    def frame(self, table: str, paths: Iterable[str]) -> Any:
        """See `Commits.frame`."""
        import daft

        return daft.read_parquet([_PATTERN.sub(r"\\\g<0>", str(self.root / path)) for path in paths])

    def pending(self) -> dict[str, int]:
        """See `Commits.pending`: none, as a commit is one transaction."""
        return {}

    # --- keeping the folder in order ----------------------------------------------------------------------------------

    def expire(self, before: int) -> list[str]:
        """See `Commits.expire`. Files go in the order in which they were taken out, whatever the clock said: else the one whose
        footer takes out another could go before it, and a rebuilt list would have that one again."""
        with self._transaction() as db:
            gone = [
                path
                for (path,) in db.execute(
                    "select path from files where removed<=(select max(seq) from commits where time<?) order by removed",
                    (before,),
                )
            ]
            db.executemany("delete from files where path=?", [(path,) for path in gone])
        for path in gone:
            with suppress(OSError):  # what can't be deleted belongs to no commit
                (self.root / path).unlink()
        return gone

    def orphans(self) -> list[Path]:
        """See `Commits.orphans`."""
        known = {path for (path,) in self._rows("select path from files")}
        return sorted(self.root / name for name in self._there() if name not in known)

    def _there(self) -> Iterator[str]:
        """The files in the folder that are Parquet, whole or begun. A `Path` of each would take ten times as long."""
        begin = len(str(self.root)) + 1
        for folder, _, names in os.walk(self.root):
            inside = folder[begin:].replace(os.sep, "/") + "/" if len(folder) >= begin else ""
            yield from (inside + name for name in names if ".parquet" in name)

    def wrong(self, keys: str) -> str | None:
        """What is wrong with the database, though it can be opened; None where nothing is. `keys`: what the keys begin with that
        the commits say too."""
        said: dict[str, str | None] = {}
        try:
            with self._as_of_now() as db:
                (found,) = db.execute("pragma integrity_check(1)").fetchone()
                if found != "ok":
                    return f"it is damaged: {found}"
                made, there = self.commits(), self.keys(keys)
            for one in (commit.properties.get("keys") for commit in made):
                said |= {name: value for name, value in one.items() if name.startswith(keys)} if isinstance(one, dict) else {}
            if {name: value for name, value in said.items() if value is not None} != there:
                return "it is damaged: its keys are not those of its commits"
        except NewerStore:
            raise
        except (StoreError, sqlite3.Error) as error:
            return str(error)
        except (ValueError, TypeError):
            return "it is damaged: a commit can't be read"
        gone = {path for (path,) in self._rows("select path from files where removed is null")}.difference(self._there())
        strays = [*self._strays()] if gone else []
        if not {commit.id for commit in made}.isdisjoint(footer.commit for footer in strays):
            return "it is damaged: it does not list a file of one of its commits, and lists one that is gone"
        if any(not gone.isdisjoint(footer.replaces) for footer in strays):
            return "it is older than the files: it lists files that were merged into others, and are gone"
        return None

    def _strays(self) -> Iterator[Footer]:
        """Footers of whole files that are not listed."""
        for path in self.orphans():
            with suppress(StoreError):
                if not path.name.startswith(".") and (footer := footer_of(path)) is not None:
                    yield footer


def _span(prefix: str) -> tuple[str, str]:
    """Between which texts all lie that begin so."""
    return prefix, prefix + "\U0010ffff"


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("rollback")
