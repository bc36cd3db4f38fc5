"""How the catalog's database stays true: it catches up with the journal and the sealed tier. A damaged one is made anew.

The database catches up with the journal files from where it stopped, in transactions that hold both what was found and how far
was read: readers of several processes can catch up at once. Where the file can't be written or is busy too long, a database in
memory takes its place. What is asked of the database stands in `catalog`.

How a question costs little where there are many files, and misses nothing that was written before it:
- A file whose writer was gone when it was last measured can't grow: only the files of living writers are measured each time.
- A new file changes the folder's time. That time is believed once it is older than a clock of file systems is coarse, and no
  file is there that has no lines yet.
- What another process did to the database changes SQLite's `data_version`.
- Every second all files are measured all the same: one may have been cut or deleted, or lie on a file system without locks.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from .. import guard, locks
from ..errors import StoreError
from ..log import logger
from ..tables.wal import to_wal
from .indexing import Batch, tell_damage
from .journal import file_mode
from .lake import Lake, Part
from .learning import learn
from .lines import File, Gone, complete_lines, is_alive, journals, open_file, read_range, settled_time, size_of
from .rows import VERSION, create, functions, is_damage, packed, transaction, wrong
from .text import Each, index_line, index_some

_BATCH = 16 << 20
_BUSY_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_BEGUN_SECONDS = 60.0  # for which a file without lines is taken for one that is being created
_ATTEMPTS = 5  # how often files are listed again that vanish while they are read
#: Which parts of the sealed tier a trajectory, given twice, is in.
SEALED = "select sealed from summaries where id=? and sealed is not null union all select sealed from loose where id=? limit 1"
_Answer = TypeVar("_Answer")


class _Shifted(Exception):
    """A journal file was changed by another hand: its lines are no longer where the catalog knows them."""


class Kept:
    """A database that is kept up with one store: with its journal folder and its sealed tier."""

    def __init__(self, path: Path, journal: Path, lake: Lake) -> None:
        self._path = path
        self._lake = lake
        self._journal = journal
        self._files: dict[str, File] = {}
        #: How far each file is indexed, as this process last saw.
        self._indexed: dict[str, int] = {}
        #: Files that can't grow, as their writer was gone when they were last measured: their size, and how far they are indexed.
        self._final: dict[str, tuple[int, int]] = {}
        self._growing: list[tuple[str, File]] = []
        self._folder_time = -1
        self._begun = False  # whether a file was seen that has no lines yet
        self._data_version = -1
        self._looked = -_LOOK_SECONDS
        self._inode = 0
        self._text = self._searches = False
        self._each: Each | None = None
        self._told = 0  # the damaged lines of the journal that a warning counted
        self._lock = locks.for_forks()  # one transaction at a time on the one connection
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        for attempt in range(2):
            try:
                if not self._path.exists():
                    os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, file_mode(self._journal)))
                db = self._prepared(
                    sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
                )
                self._inode = os.stat(self._path).st_ino
                return db
            except (sqlite3.DatabaseError, UnicodeDecodeError, OSError) as error:
                if attempt or not is_damage(error):  # read-only, busy, or no folder
                    break
                self._unlink(error)
        return self._in_memory()

    def _unlink(self, error: Exception) -> None:
        """Deletes the damaged file. It is only a cache: what was in it is found again."""
        with suppress(OSError):
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            guard.warn(
                f"odograph: the catalog {str(self._path)!r} was damaged ({error}) and is made anew; nothing is lost", stacklevel=2
            )

    def _in_memory(self) -> sqlite3.Connection:
        return self._prepared(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))

    def _prepared(self, db: sqlite3.Connection) -> sqlite3.Connection:
        functions(db)
        to_wal(db)
        db.execute("pragma synchronous=normal")
        with transaction(db):
            version = db.execute("pragma user_version").fetchone()[0]
            if version < VERSION:
                create(db)
        if version > VERSION:
            db.close()
            return self._in_memory()
        damage = wrong(db) if version == VERSION else None
        if damage is not None:
            db.close()
            raise sqlite3.DatabaseError(damage)
        return db

    @property
    def in_memory(self) -> bool:
        """Whether the catalog file can't be used and a catalog in memory stands in."""
        return not self._db.execute("select length(file) from pragma_database_list").fetchone()[0]

    def close(self) -> None:
        self._db.close()

    # --- catching up -------------------------------------------------------------------------------------------------

    def files(self) -> list[File]:
        """The journal files there are. Raises NewerStore."""
        found: list[File] = []
        for path in journals(self._journal):
            name = path.name
            known = self._files.get(name)
            if known is None:
                try:
                    about = path.stat()
                    if about.st_size == 0:  # being created; one that was left so is not waited for
                        self._begun = self._begun or time.time() - about.st_mtime < _BEGUN_SECONDS
                        continue
                    known = self._files[name] = open_file(path)
                except FileNotFoundError:  # gone since
                    continue
                except PermissionError as error:
                    raise StoreError(f"the journal {str(path)!r} can't be read: {error.strerror}") from error
            found.append(known)
        return found

    def catch_up(self, *, text: bool, each: Each | None) -> None:
        """Indexes what was written since the last time; its full text, too, where `text` is asked for.

        `each` gets each line that is read meanwhile: who wants to see the lines needs not read them again.
        """
        with self._lock:
            self._text, self._each = text, each
            try:
                self._caught_up()
                if text:
                    self.index_text()
            finally:
                self._text, self._each = False, None

    def _caught_up(self) -> None:
        with self._lock:
            try:
                self._steadily(self._catch_up)
            except sqlite3.OperationalError:
                self._db.close()
                self._db = self._in_memory()
                self._steadily(self._look)

    def _steadily(self, look: Callable[[], None]) -> None:
        """Looks, and looks at all files once more where some were sealed or merged meanwhile."""
        for attempt in range(_ATTEMPTS):
            try:
                self._mended(look if attempt == 0 else self._look)
                return
            except (Gone, FileNotFoundError):
                if attempt == _ATTEMPTS - 1:
                    raise

    def check(self, contradiction: str | None = None) -> None:
        """Makes the catalog anew if it is damaged: it contradicts the files, or its own pages say so."""
        found = [contradiction]

        def look() -> None:
            damage = (found.pop() if found else None) or wrong(self._db, deep=True)
            if damage is not None:
                raise sqlite3.DatabaseError(damage)

        with self._lock:
            self._mended(look)

    def look(self) -> None:
        """Catches up with files that are there no more, too."""
        with self._lock:
            self._looked = -_LOOK_SECONDS
            self._caught_up()

    def _mended(self, ask: Callable[[], _Answer]) -> _Answer:
        """What a question to the database gives; where the database turns out to be damaged it is made anew and asked again."""
        try:
            return ask()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            self._db.close()
            try:
                if os.stat(self._path).st_ino == self._inode:  # else another process made it anew
                    self._unlink(error)
            except OSError:
                pass
            self._db = self._open()
            self._look()
            if self._searches:
                self._index_text()
            return ask()

    def _catch_up(self) -> None:
        if self._must_look():
            self._look()
            return
        for path, file in self._growing:
            size = os.stat(path).st_size
            if size != self._indexed[file.name]:
                if size < self._indexed[file.name]:
                    self._look()
                    return
                try:
                    self._index(file)
                except _Shifted:
                    self._look()
                    return

    def _must_look(self) -> bool:
        """Whether more may have changed than the size of files whose writers live."""
        try:
            changed = os.stat(self._journal).st_mtime_ns != self._folder_time
        except OSError:
            return True
        return changed or time.monotonic() - self._looked > _LOOK_SECONDS or self._data_version != self._version_of_data()

    def _version_of_data(self) -> int:
        return int(self._db.execute("pragma data_version").fetchone()[0])

    def _look(self) -> None:
        """Lists and measures all files, and finds out whose writers live."""
        folder_time = settled_time(self._journal)
        self._reopen_if_replaced()
        # first what others have indexed, then the files: one that appears in between is not taken for one that vanished
        self._data_version = self._version_of_data()
        indexed = dict(self._db.execute("select name, indexed from files").fetchall())
        self._begun = False
        files = self.files()
        # after the files: what vanished before they were listed was sealed before, or deleted
        sealed = self._learn({f.name for f in files})
        indexed = dict(self._db.execute("select name, indexed from files").fetchall())
        dead = {f.name for f in files if f.name in self._final or not is_alive(f.path)}  # before they are measured
        sizes = {f.name: size_of(f.path) for f in files}
        if -1 in sizes.values():  # what it held may have been sealed after the sealed tier was looked at
            raise Gone("a journal file was sealed meanwhile")
        for file in files:  # a journal that another machine ships: its writer was out of touch, and is back
            known = self._final.get(file.name)
            if known is not None and known[0] != sizes[file.name] and is_alive(file.path):
                dead.discard(file.name)
        gone = [(name,) for name, size in indexed.items() if name not in sizes and sealed.get(name, -1) >= size]
        if gone:  # all of it is sealed
            self._db.executemany("delete from files where name=?", gone)
            self._db.executemany("delete from damages where file=?", gone)
            for (name,) in gone:
                del indexed[name]
                self._files.pop(name, None)
        if any(size > sizes.get(name, -1) for name, size in indexed.items()):  # a file is gone or shorter: begin anew
            self._files = {f.name: f for f in files}
            self._rebuild(files)
            indexed = self._indexed
        self._indexed = indexed
        try:
            for file in files:
                name = file.name
                if sizes[name] > indexed.setdefault(name, 0) and self._final.get(name) != (sizes[name], indexed[name]):
                    self._index(file)
        except _Shifted:
            self._rebuild(files)
            indexed = self._indexed
        self._final = {name: (sizes[name], indexed[name]) for name in dead}
        self._growing = [(str(f.path), f) for f in files if f.name not in dead]
        self._folder_time = -1 if self._begun else folder_time  # its first lines change nothing of the folder
        self._looked = time.monotonic()
        self._told = tell_damage(self._db, self._told)

    def _reopen_if_replaced(self) -> None:
        """The folder of a store may have been deleted or exchanged: then so was the catalog."""
        if self.in_memory:
            return
        try:
            replaced = os.stat(self._path).st_ino != self._inode
        except OSError:
            replaced = self._journal.is_dir()
        if replaced:
            self._db.close()
            self._db = self._open()
            self._files, self._final = {}, {}

    def _rebuild(self, files: list[File]) -> None:
        """Everything anew in one transaction: other readers see the old state until the new one is whole."""
        self._indexed = {}
        with transaction(self._db):
            create(self._db)
            self._learn_now({f.name for f in files}, 0)
            for file in files:
                while self._index_some(file):
                    pass

    # --- the sealed tier ----------------------------------------------------------------------------------------------

    def _learn(self, names: set[str]) -> dict[str, int]:
        """Takes over what was sealed since the last time; returns up to where each journal file is sealed."""
        self._lake.commits.refresh()
        known = self._db.execute("select id, seq from lake").fetchone()
        if not self._lake.exists:
            if known is not None and self._lake.shared is None:
                raise self._lake.gone
            return {}
        id, last = self._lake.commits.id, self._lake.commits.last("trajectories")
        if known == (id, last):
            return self._lake.sealed_to()
        with transaction(self._db):
            known = self._db.execute("select id, seq from lake").fetchone()
            if known is not None and (known[0] != id or known[1] > last):  # another lake: all anew
                if known[0] == id:
                    logger.warning(
                        "an older %s was put back, and what was sealed after it is not seen: the next seal takes that in, or says"
                        " what to do",
                        self._lake.root / "commits.sqlite",
                    )
                create(self._db)
                known = None
            self._learn_now(names, known[1] if known else 0)
        return self._lake.sealed_to()

    def _learn_now(self, names: set[str], since: int) -> None:
        learn(self._db, self._lake, self._journal, names, since, self._sealed_lines)

    def _parts_of(self, rows: list[Any]) -> list[Part]:
        if not rows or not rows[0][0]:
            return []
        runs = [[int(n) for n in one.split(":")] for one in rows[0][0].split(" ")]
        with self._lock:
            paths = {
                n: self._db.execute("select path from segments where number=?", (n,)).fetchone()[0] for n in {r[0] for r in runs}
            }
        return [Part(paths[number], *rest) for number, *rest in runs]

    def _sealed_lines(self, id: str) -> Iterator[bytes]:
        rows = self._db.execute(SEALED, (packed(id),) * 2).fetchall()
        for _, _, line in self._lake.raw(self._parts_of(rows), whole=False):
            yield line

    # --- the journal --------------------------------------------------------------------------------------------------

    def _index(self, file: File) -> None:
        while self._index_batch(file):
            pass

    def _index_batch(self, file: File) -> bool:
        """Indexes up to 16 MB of one file in one transaction; whether there may be more."""
        try:
            with transaction(self._db):
                return self._index_some(file)
        except BaseException:
            self._looked = -_LOOK_SECONDS
            raise

    def _index_some(self, file: File) -> bool:
        db = self._db
        row = db.execute("select indexed, searched from files where name=?", (file.name,)).fetchone()
        start, searched = row or (0, 0)
        text = self._text and searched == start
        if start and read_range(file.path, start - 1, start) != b"\n":
            raise _Shifted
        batch = Batch(db, file, self._sealed_lines)
        end = start
        more = False
        for offset, line in complete_lines(file.path, start):
            end = offset + len(line) + 1
            if line:
                batch.add(offset, end, line)
                if text:
                    index_line(self._db, file, offset, end, line)
                if self._each is not None:
                    self._each(file, offset, line)
            if end - start > _BATCH:
                more = True
                break
        batch.write()
        db.execute(
            "insert into files values(?,?,?,?,?)"
            " on conflict(name) do update set indexed=excluded.indexed, searched=excluded.searched",
            (file.name, file.writer, file.version, end, end if text else searched),
        )
        self._indexed[file.name] = end
        return more

    # --- for questions ------------------------------------------------------------------------------------------------

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """What a query gives, all of it: on the one connection threads would see each other's half-written transactions."""
        with self._lock:
            return self._mended(lambda: self._db.execute(query, values).fetchall())

    def alive_writers(self) -> set[str]:
        """The writers that still hold their file."""
        return {file.writer for path, file in self._growing if is_alive(path)}

    def index_text(self) -> None:
        """Brings the full-text index up to what was indexed without it. Only a search needs it."""
        with self._lock:
            self._searches = True
            self._mended(self._index_text)

    def _index_text(self) -> None:
        for file in self.files():
            while index_some(self._db, file, self._each):
                pass
