"""What is where, and the summaries: SQLite beside the journal. Written by readers, never by capture; can be deleted.

The SQL stands here and in `indexing`, `listing`, `text` and `where`. The catalog catches up with the journal files from where it
stopped, in transactions that hold both what was found and how far was read: readers of several processes can catch up at once.
Where the file can't be written or is busy too long, a catalog in memory takes its place; a damaged file is made anew.

How a question costs little where there are many files, and misses nothing that was written before it:
- A file whose writer was gone when it was last measured can't grow: only the files of living writers are measured each time.
- A new file changes the folder's time. That time is believed once it is older than a clock of file systems is coarse.
- What another process did to the catalog changes SQLite's `data_version`.
- Every second all files are measured all the same: one may have been cut or deleted, or lie on a file system without locks.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ..codec import encode
from ..errors import NotFound, StoreError
from ..totals import by_name
from .figures import ORDER, Figures, Reading
from .filters import EVERY, Filters
from .indexing import Batch, as_rewards, searchable, standing_of, tell_damage, uses_with
from .journal import file_mode, is_alive
from .lake import Lake, Part
from .layout import RECORDS, SUMMARY, TRAJECTORIES
from .learning import learn
from .lines import Damage, File, Gone, complete_lines, journals, open_file, read_range, settled_time, size_of, unfinished
from .listing import STATES_OF, VALUES, Fold, Sort, folds, order_of, statuses
from .rows import (
    IDS,
    REWARD,
    VERSION,
    Key,
    Texts,
    begins,
    create,
    functions,
    is_damage,
    packed,
    transaction,
    unpacked,
    unpacked_rewards,
    wrong,
)
from .summary import SUMMARIES, Facts, Hit, Summary, Used, summary_of
from .text import FOUND, HAVING, Each, index_line, index_some, matching
from .where import where

_HEX = re.compile("[0-9a-f-]*[0-9a-f]")
_BATCH = 16 << 20
_BUSY_SECONDS = 10.0
_PAGE = 100  # summaries that are read at once
_SOME = 1000  # ids that a query names
_LOOK_SECONDS = 1.0
_ATTEMPTS = 5  # how often files are listed again that vanish while they are read
_SEALED = "select sealed from summaries where id=? and sealed is not null union all select sealed from loose where id=? limit 1"
_Answer = TypeVar("_Answer")


class _Shifted(Exception):
    """A journal file was changed by another hand: its lines are no longer where the catalog knows them."""


class Catalog:
    """The catalog of one store: of its journal folder and of its sealed tier."""

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
        self._data_version = -1
        self._looked = -_LOOK_SECONDS
        self._inode = 0
        self._text = self._searches = False
        self._each: Each | None = None
        self._told = 0  # the damaged lines of the journal that a warning counted
        self._lock = threading.RLock()  # one transaction at a time on the one connection
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
            with suppress(Warning):  # it may be made an error, and nothing is lost
                warnings.warn(
                    f"odograph: the catalog {str(self._path)!r} was damaged ({error}) and is made anew; nothing is lost",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _in_memory(self) -> sqlite3.Connection:
        return self._prepared(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))

    def _prepared(self, db: sqlite3.Connection) -> sqlite3.Connection:
        functions(db)
        db.execute("pragma journal_mode=wal")
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
                    if path.stat().st_size == 0:  # being created
                        continue
                    known = self._files[name] = open_file(path)
                except FileNotFoundError:  # gone since
                    continue
                except PermissionError as error:
                    raise StoreError(f"the journal {str(path)!r} can't be read: {error.strerror}") from error
            found.append(known)
        return found

    def catch_up(self, *, text: bool = False, each: Each | None = None) -> None:
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
                if self.in_memory:
                    raise
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

    def misses(self, id: str) -> bool:
        """Whether the catalog lists a trajectory and knows none of its lines."""
        listed = "select 1 from summaries where id=? and sealed is null and not exists(select 1 from places where trajectory=id)"
        return bool(self._rows(listed, (packed(id),)))

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
        self._folder_time, self._looked = folder_time, time.monotonic()
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
                create(self._db)
                known = None
            self._learn_now(names, known[1] if known else 0)
        return self._lake.sealed_to()

    def _learn_now(self, names: set[str], since: int) -> None:
        learn(self._db, self._lake, self._journal, names, since, self._sealed_lines)

    def parts(self, id: str) -> list[Part]:
        """Where the rows of a trajectory are in the sealed tier."""
        return self._parts_of(self._rows(_SEALED, (packed(id),) * 2))

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
        rows = self._db.execute(_SEALED, (packed(id),) * 2).fetchall()
        for _, _, line in self._lake.raw(self._parts_of(rows), whole=False):
            yield line

    def rows(self, ids: list[str]) -> list[tuple[Any, ...]]:
        """The columns of the sealed tier's summaries, of these trajectories."""
        columns = ", ".join(SUMMARY)
        rows = self._rows(f"select {columns} from trajectories where id in ({IDS})", (encode(ids).decode(),))
        ids_at = [[*SUMMARY].index(name) for name in ("id", "root")]
        return [tuple(unpacked(one) if n in ids_at else one for n, one in enumerate(row)) for row in rows]

    def sealed_since(self, time: int, most: int | None) -> list[str]:
        """The trajectories with sealed lines of which a record was written after a time, or the last ones of these."""
        rows = self._rows(
            "select id from trajectories where sealed is not null and last>? order by last desc limit ?",
            (time, -1 if most is None else most),
        )
        return [unpacked(id) for (id,) in rows]

    def unsealed(self) -> list[str]:
        """The trajectories that have lines in the journal."""
        return sorted(unpacked(id) for (id,) in self._rows("select distinct trajectory from places"))

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

    # --- finding -----------------------------------------------------------------------------------------------------

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """What a query gives, all of it: on the one connection threads would see each other's half-written transactions."""
        with self._lock:
            return self._mended(lambda: self._db.execute(query, values).fetchall())

    def find(self, id: str) -> str:
        """The whole id of a unique prefix or suffix. Raises NotFound."""
        if self._rows("select 1 from summaries where id=?", (packed(id),)):
            return id
        wanted = id.lower()
        some = [unpacked(key) for key in self._near(wanted)] if wanted else []
        unique = sorted({one for one in some if one.startswith(wanted) or one.endswith(wanted)})
        if len(unique) == 1:
            return unique[0]
        if not unique:
            count = self._rows("select count(*) from summaries")[0][0]
            raise NotFound(f"no trajectory {id!r} among the {count} of this store")
        more = ", ..." if len(unique) > 5 else ""
        raise NotFound(f"{id!r} is not one trajectory but several: {', '.join(unique[:5])}{more}")

    def _near(self, part: str) -> Iterator[Key]:
        """Ids of which some begin or end so, if any do."""
        asked: list[tuple[str, tuple[Any, ...]]] = [
            ("id>=? and id<?", (part, part + "\U0010ffff")),
            ("substr(id, -3)=? and substr(id, ?)=?", (part[-3:], -len(part), part)),
        ]
        if len(part) < 3:
            asked.append(("typeof(id)='text' and substr(id, ?)=?", (-len(part), part)))
        between, digits = begins(part), part.replace("-", "")
        if between is not None:
            asked.append(("id>=? and id<=?", between))
        if _HEX.fullmatch(part):  # else all ids are looked at, which the index of ids holds
            end = ("substr(id, -3)=? and ", (bytes.fromhex(digits[-6:]),)) if len(digits) >= 6 else ("", ())
            asked.append((f"{end[0]}typeof(id)='blob' and substr(lower(hex(id)), ?)=?", (*end[1], -len(digits), digits)))
        for query, values in asked:
            yield from (key for (key,) in self._rows(f"select id from summaries where {query} order by id limit 6", values))

    def places(self, id: str) -> list[tuple[File, int, int]]:
        """Where a trajectory's lines are: (file, start, stop), in the order they were found."""
        rows = self._rows("select file, start, stop from places where trajectory=? order by rowid", (packed(id),))
        by_name = {f.name: f for f in self.files()} if any(r[0] not in self._files for r in rows) else self._files
        if any(r[0] not in by_name for r in rows):
            raise Gone(f"a journal file of trajectory {id!r} is gone")
        return [(by_name[name], start, stop) for name, start, stop in rows]

    def damages(self) -> list[Damage]:
        """Damaged lines, and ends of files that a killed writer left torn."""
        found = [Damage(*row) for row in self._rows("select file, offset, reason from damages order by file, offset")]
        for file in self.files():
            rows = self._rows("select indexed from files where name=?", (file.name,))
            start = rows[0][0] if rows else 0
            if size_of(file.path) > start and not is_alive(file.path):
                rest = unfinished(file.path, start)
                found.append(Damage(file.name, start, f"torn last line of {len(rest)} bytes", torn=True))
        return found

    def alive_writers(self) -> set[str]:
        """The writers that still hold their file."""
        return {file.writer for path, file in self._growing if is_alive(path)}

    def facts(self, id: str) -> Facts:
        """What is appended to a trajectory needs to know of it, by its whole id."""
        root, agent, last = self._rows("select root, agent, last from trajectories where id=?", (packed(id),))[0]
        return Facts(unpacked(root), agent, last)

    def _chosen(self, filters: Filters, alive: Callable[[], set[str]]) -> tuple[str, list[Any]]:
        """What must hold of a row, and the values in it."""
        if filters.text is not None:
            self.index_text()
        clauses, values = where(filters, self.find, self._having, alive, self._number)
        return " and ".join(["1", *clauses]), values

    def _pieces(self, filters: Filters, alive: Callable[[], set[str]], last: int, order: str) -> Iterator[tuple[str, list[Any]]]:
        """The same, of some trajectories after the other where they are named, or found by their text: each page of a list would
        look at the ids of all of them again."""
        chosen, values = self._chosen(filters, alive)
        if filters.ids is None and filters.text is None:
            yield chosen, values
            return
        rows = self._rows(f"select id from trajectories where {chosen} and first<=? order by {order}", (*values, last))
        for start in range(0, len(rows), _SOME):
            yield f"id in ({IDS})", [encode([unpacked(id) for (id,) in rows[start : start + _SOME]]).decode()]

    def _number(self, text: str) -> int:
        with self._lock:
            return self._mended(lambda: Texts(self._db).find(text))

    def summaries(self, filters: Filters = EVERY, *, newest_first: bool = False) -> Iterator[Summary]:
        """Summaries of the trajectories that there are now, in the order in which these began, a page of them in memory at a
        time; where the time is not known a trajectory counts as older than all."""
        alive = cache(self.alive_writers)
        last = self._rows("select first from newest")[0][0]
        way, direction = ("<", "desc") if newest_first else (">", "asc")
        order = ", ".join(f"{column} {direction}" for column in ("began", "first_apart", "id"))
        left = filters.limit
        for chosen, values in self._pieces(filters, alive, last, order):
            page: tuple[Any, ...] = ()
            while left is None or left > 0:
                size = _PAGE if left is None else min(_PAGE, left)
                after = f" and (began, first_apart, id){way}(?, ?, ?)" if page else ""
                rows = self._rows(
                    f"{SUMMARIES} where {chosen} and first<=?{after} order by {order} limit ?",
                    (*values, last, *page, size),
                )
                yield from (summary_of(row, alive) for row in rows)
                left = None if left is None else left - len(rows)
                if len(rows) < size:
                    break
                page = (rows[-1][26], rows[-1][25], rows[-1][0])

    def count(self, filters: Filters = EVERY) -> int:
        """How many trajectories filters choose."""
        chosen, values = self._chosen(filters, self.alive_writers)
        found = int(self._rows(f"select count(*) from trajectories where {chosen}", tuple(values))[0][0])
        return found if filters.limit is None else min(found, filters.limit)

    def page(self, filters: Filters, sort: Sort, offset: int, size: int) -> list[Summary]:
        """`size` summaries from a place of the sorted list on."""
        alive = cache(self.alive_writers)
        chosen, values = self._chosen(filters, alive)
        rows = self._rows(f"{SUMMARIES} where {chosen} order by {order_of(sort)} limit ? offset ?", (*values, size, offset))
        return [summary_of(row, alive) for row in rows]

    def counts(self, filters: Filters, most: int = 50) -> dict[str, list[tuple[Any, int]]]:
        """For each filter of a fixed choice, the values of the chosen trajectories with their counts, the most frequent first."""
        alive = self.alive_writers()
        chosen, values = self._chosen(filters, lambda: alive)
        return {name: self._rows(query.format(chosen), tuple(values))[:most] for name, query in VALUES.items()} | {
            "status": statuses(self._rows(STATES_OF.format(chosen), tuple(values)), alive)
        }

    def folded(self, filters: Filters, sort: Sort, offset: int, size: int) -> tuple[int, list[Fold]]:
        """How many groups the chosen trajectories are in, and `size` of the groups from a place of the sorted list on."""
        alive = self.alive_writers()
        chosen, values = self._chosen(filters, lambda: alive)
        number = int(self._rows(f"select count(distinct grp_number) from trajectories where {chosen}", tuple(values))[0][0])
        rows = self._rows(f"{folds(chosen, sort)} limit ? offset ?", (*values, size, offset))
        return number, [Fold(*row) for row in rows]

    def forks(self, id: str) -> list[tuple[str, int | None]]:
        """The trajectories that left a trajectory, each with the step where it left."""
        rows = self._rows(
            "select id, fork->>'step' from trajectories where fork is not null and fork->>'trajectory'=? order by first, id",
            (id,),
        )
        return [(unpacked(one), step) for one, step in rows]

    def used(self, ids: list[str]) -> dict[str, Used]:
        """What happened in trajectories, of those of which anything is known."""
        given = (encode(ids).decode(),)
        found: dict[str, Used] = {}
        chosen = f"in ({IDS})"
        rewarded: dict[Key, list[list[Any]]] = {}
        used: dict[Key, list[tuple[str, str, int]]] = {}
        with self._lock:  # all three as of one time
            about = "id, agent, uses, rewards, root, writer, reward, end_time"
            rows = self._rows(f"select {about} from trajectories where id {chosen}", given)
            for id, *reward in self._rows(
                f"select trajectory, {REWARD}, supersedes from rewards where trajectory {chosen}", given
            ):
                rewarded.setdefault(id, []).append(reward)
            for id, *use in self._rows(f"select trajectory, kind, name, count from uses where trajectory {chosen}", given):
                used.setdefault(id, []).append((use[0], use[1], use[2]))
        for key, agent, sealed_uses, sealed, root, *more in rows:
            id = unpacked(key)
            uses = uses_with(used.get(key, ()), sealed_uses)
            rewards = as_rewards(standing_of(rewarded.get(key, []), unpacked_rewards(sealed, unpacked(root), *more)), agent)
            if not uses and not rewards:
                continue
            found[id] = Used([(kind, name) for kind, name, _ in uses], by_name(rewards))
        return found

    def figures(self, filters: Filters = EVERY, by: str | None = None) -> Iterator[Figures]:
        """Columns of the trajectories that there are now, for statistics, a page of them in memory at a time."""
        alive = cache(self.alive_writers)
        last = self._rows("select first from newest")[0][0]
        pieces = self._pieces(filters, alive, last, ORDER)
        yield from Reading(self._rows, self.used, self._number).pages(by, pieces, last, filters.limit, alive)

    def scored(self, source: str, author: str, version: str) -> dict[str, int]:
        """Of each trajectory, how many targets (itself, or its steps) have all their rewards by this version of a function."""
        names: dict[tuple[Key, str | None, int | None], set[str]] = {}
        most: dict[tuple[Key, str | None, int | None], int] = {}
        with self._lock:  # all as of one time
            replaced = {id for (id,) in self._rows("select supersedes from rewards where supersedes is not null")}
            given = [
                (key, reward)
                for key, *reward in self._rows(
                    f"select trajectory, {REWARD} from rewards where author=? and version=?", (author, version)
                )
            ]
            for key, root, *about in self._rows(
                "select id, root, rewards, writer, reward, end_time from trajectories where instr(rewards, ?)",
                (encode(version).decode(),),
            ):
                given += [(key, reward) for reward in unpacked_rewards(about[0], unpacked(root), *about[1:])]
        for key, r in given:
            if (r[7], r[8], r[12]) == (source, author, version) and r[9] is not None and not r[11] and r[0] not in replaced:
                target = key, r[4], r[5]
                names.setdefault(target, set()).add(r[6])
                most[target] = max(r[13], most.get(target, 1))
        return Counter(unpacked(target[0]) for target, found in names.items() if len(found) >= most[target])

    # --- full text ----------------------------------------------------------------------------------------------------

    def index_text(self) -> None:
        """Brings the full-text index up to what was indexed without it. Only a search needs it."""
        with self._lock:
            self._searches = True
            self._mended(self._index_text)

    def _index_text(self) -> None:
        for file in self.files():
            while index_some(self._db, file, self._each):
                pass

    def _having(self, text: str) -> list[str]:
        """The trajectories of which a line holds all the words."""
        words = matching(text)
        found = {unpacked(id) for (id,) in self._rows(HAVING, (words,))}  # first: what is sealed meanwhile is in both
        while self._lake.exists:
            try:
                found |= {one[0] for one in self._lake.matching(words)}
                break
            except Gone:  # a compaction merged files: what they held is in another one
                continue
        return sorted(found)

    def search(self, query: str, limit: int) -> Iterator[Hit]:
        """Lines that hold all the words, newest first."""
        for count, hit in enumerate(self._hits(query, limit)):
            if count == limit:
                return
            yield hit

    def _hits(self, query: str, limit: int) -> Iterator[Hit]:
        words = matching(query)
        while True:
            known = self._rows("select seq from lake")
            rows = self._rows(FOUND, (words, limit))
            files = self._lake.files(RECORDS.name) if len(rows) < limit and self._lake.exists else []
            if not files or known == [(self._lake.commits.last(TRAJECTORIES.name),)]:
                break
            self.look()  # else what is sealed meanwhile would be in both
        for key, kind, step, name, start, stop in rows:
            found = searchable(read_range(self._journal / name, start, stop).rstrip(b"\n"))
            yield Hit(unpacked(key), kind, step, found[3] if found else "")
        yield from (Hit(*found) for found in self._lake.matching(words, files))
