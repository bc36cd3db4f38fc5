"""The sealed tier as readers see it: the live files, their row groups, and one trajectory's lines out of these.

Knows nothing of the journal and of the catalog, which keeps where each trajectory's rows are.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from .. import locks
from ..bulk import ahead
from ..codec import DAMAGE, new_id
from ..errors import StoreError
from ..tables.commits import Commits, opened_in
from ..tables.files import DamagedFile, DataFile, Opened, crc_of, is_private, sync_folder
from ..tables.folder import FolderCommits
from ..tables.schema import Table, arrow
from ..tables.shared import Shared
from ..tables.values import rows_of, values_of
from .layout import DAMAGED, RECORDS, TABLES, TRAJECTORIES, line_of
from .lines import Damage, Gone, is_folder
from .source import Raw

FOLDER = "lake"
#: Before the name of a journal file in the keys of the commits: up to which byte its lines are sealed.
JOURNAL = "journal:"
_FILES = 32  # files that are kept open, and row groups in memory
_KEPT = 8 << 20  # bytes of row groups that stay while another is read: neighbours are often read one after the other
_NEAR = 1 << 14  # rows of `trajectories` that are handled at once


class Part(msgspec.Struct, frozen=True):
    """A run of rows of one trajectory in a file of `records`."""

    path: str
    group: int
    offset: int
    rows: int


class Lake:
    """The sealed tier of a store: in its folder, or shared by machines. Nothing is imported before something was sealed."""

    def __init__(self, root: Path, shared: Shared | None = None) -> None:
        #: Where files are; of a shared tier, where files wait for their commit.
        self.root: Path = root / FOLDER
        self.shared: Shared | None = shared
        self.commits: Commits
        if shared is None:
            self.commits = FolderCommits(self.root)
        else:
            from ..tables.iceberg import IcebergCommits  # most stores never need it

            self.commits = IcebergCommits(self.root, shared, TABLES, TRAJECTORIES.name)
        self._lock = locks.for_forks()
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._told: set[str] = set()
        #: Of each row group of files of `trajectories` that were opened: the smallest and the largest id. Files never change.
        self._bounds: dict[str, list[tuple[Any, Any] | None]] = {}
        #: Files that were found damaged.
        self._damaged: set[str] = set()
        #: Of each file whose bytes were compared with its checksum, what the disk said of it then; None for a file that was gone.
        self._compared: dict[str, tuple[int, int, int] | None] = {}

    @property
    def exists(self) -> bool:
        """Whether anything was ever sealed here. Raises StoreError where the list of the files is lost."""
        if self.commits.exists:
            return True
        files = self.root / RECORDS.name
        if self.shared is None and is_folder(files) and next(files.glob("*.parquet"), None) is not None:
            raise StoreError(
                f"{self.root / 'commits.sqlite'} is gone. It lists the sealed files, which are still there;"
                " `odograph doctor --repair` makes the list anew"
            )
        return False

    @property
    def gone(self) -> StoreError:
        """What is said of a sealed tier that somebody deleted as a whole, while the catalog knows of it."""
        return StoreError(
            f"{self.root} is gone. It holds what was sealed: put the folder back. What the journal holds is safe;"
            " delete catalog.sqlite to go on with that alone"
        )

    def there(self) -> bool:
        """As `exists`. Raises what `gone` says where the catalog, which is not opened here, knows of a sealed tier."""
        if self.exists:
            return True
        catalog = self.root.parent / "catalog.sqlite"
        known = None
        place = f"{catalog.absolute().as_uri()}?mode=ro"
        # a catalog that can't be read is made anew, and knows nothing
        with suppress(sqlite3.Error), closing(sqlite3.connect(place, uri=True)) as db:
            known = db.execute("select 1 from lake").fetchone()
        if known is not None and self.shared is None:
            raise self.gone
        return False

    def close(self) -> None:
        with self._lock:
            self.commits.close()
            for file in self._opened.values():
                file.close()
            self._opened.clear()
            self._groups.clear()

    def files(self, table: str, since: int = 0) -> list[str]:
        """The live files of a table, in the order in which they came, relative to the folder of the lake."""
        return [one.file.path for one in self.commits.files(table, since)]

    def look(self, since: int) -> tuple[int, dict[str, int], list[str]]:
        """The last commit, up to which byte of each journal file it is sealed, and the files of `trajectories` that came after
        commit `since`: all three as of that commit."""
        while True:
            last = self.commits.last(TRAJECTORIES.name)
            found = last, self.sealed_to(), self.files(TRAJECTORIES.name, since)
            if self.commits.last(TRAJECTORIES.name) == last:
                return found

    @cached_property
    def journal_key(self) -> str:
        """What the keys of this folder's journal files begin with. Machines that share the tier tell their keys apart by a name
        that stands in the folder."""
        if self.shared is None:
            return JOURNAL
        path, name = self.root / "folder", ""
        with suppress(FileNotFoundError):
            name = path.read_text().strip()
        if not name:  # or another process, which may have been killed, did not write it yet
            self.root.mkdir(0o700, parents=True, exist_ok=True)
            mode = 0o600 if is_private(self.root) else 0o666
            with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode), "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                name = file.read().strip()
                if not name:
                    name = new_id()
                    file.write(name)
                    file.flush()
                    os.fsync(file.fileno())
            sync_folder(self.root)
        return f"{JOURNAL}{name}/"

    def sealed_to(self) -> dict[str, int]:
        """Up to which byte the lines of each journal file are sealed, for files that are there or went lately."""
        begin = self.journal_key
        return {name[len(begin) :]: int(value.split()[0]) for name, value in self.commits.keys(begin).items()}

    def left_out(self, error: DamagedFile, anew: bool = False) -> None:
        """Says once of a damaged file that readers go on without it, or that what it held is made anew from `records`."""
        said = str(error)
        if said not in self._told:
            self._told.add(said)
            held = "what it held is made anew from `records` each time" if anew else "what it held is left out"
            from ..log import logger

            logger.warning("%s; %s, all others can be read: %s", said, held, self._mending)

    def stopped(self, error: DamagedFile) -> StoreError:
        """What is said where a damaged file stops a seal or a compaction."""
        return StoreError(f"{error}; nothing that was recorded since is lost: {self._mending}, then do the same again")

    @property
    def _mending(self) -> str:
        if self.shared is not None:
            return (
                f"put back an earlier version or a copy of this file of {self.shared}, or take it out: `odograph doctor --repair`"
            )
        return "`odograph doctor --repair` mends what can be mended"

    def damaged(self, table: Table, said: str | None = None) -> set[str]:
        """The live files of a table that are known to be damaged, or whose bytes are not those that were written. All bytes of a
        file are compared once, and again where the disk says that the file changed; those of a file that machines share are not.
        With `said`, an error of who read them, they are compared again: of files that it names, or of all. Raises StoreError."""
        live = self.commits.files(table.name)
        named = [one for one in live if said is None or one.file.path in said] or live
        for one in named:
            if self.shared is None:
                self._compare(one.file, again=said is not None)
            if said is None or one.file.crc is not None or one.file.path in self._damaged:
                continue
            for _ in self.batches(one.file.path, table, damaged=lambda error, path=one.file.path: self._damaged.add(path)):  # type: ignore[misc]
                pass
        return self._damaged.intersection(one.file.path for one in live)

    def _compare(self, file: DataFile, again: bool) -> None:
        """Compares the bytes of a file with its checksum. Where the disk does not give them, a query tells why."""
        now: tuple[int, int, int] | None = None
        whole = False
        try:
            there = (self.root / file.path).stat()
            now = there.st_ino, there.st_size, there.st_mtime_ns
            if now == self._compared.get(file.path) and not again:
                return
            whole = there.st_size == file.bytes and (file.crc is None or crc_of(self.root / file.path) == file.crc)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            pass
        except OSError:
            return
        self._compared[file.path] = now
        (self._damaged.discard if whole else self._damaged.add)(file.path)

    # --- one trajectory -----------------------------------------------------------------------------------------------

    def rows(self, parts: Iterable[Part], *, whole: bool = True) -> Iterator[dict[str, Any]]:
        """The rows of these runs. Raises DamagedFile where a file can't be read; unless `whole`, what is in it is left out, and
        said, or, where a compaction took the file out, raises Gone. Raises StoreError."""
        for part in parts:
            try:
                found = rows_of(self._group(part.path, part.group).slice(part.offset, part.rows))
            except DamagedFile as error:
                if whole:
                    raise
                self._still_live(part.path, RECORDS)
                self.left_out(error)
            else:
                yield from found

    def _still_live(self, path: str, table: Table) -> None:
        """Raises Gone where a file that can't be read was merged into another one, which has what it held."""
        self.commits.refresh()
        if path not in self.files(table.name):
            raise Gone(f"{path} was merged into another file")

    def raw(self, parts: Iterable[Part], *, whole: bool = True) -> Iterator[tuple[str, int, bytes]]:
        """(writer of the journal file, version, line) of each row that is not damaged. See `rows`."""
        for row in self.rows(parts, whole=whole):
            try:
                if row["kind"] != DAMAGED:
                    yield line_of(row)
            except DAMAGE:
                pass

    def _group(self, path: str, group: int) -> Any:
        with self._lock:
            key = (path, group)
            found = self._groups.get(key)
            if found is None:
                while len(self._groups) >= _FILES or sum(one.get_total_buffer_size() for one in self._groups.values()) > _KEPT:
                    self._groups.popitem(last=False)
                try:
                    found = self._groups[key] = self._file(path, RECORDS).read(groups=[group], alone=True)
                except DamagedFile:
                    self._opened.pop(path, None)  # another file may be put in its place
                    raise
            self._groups.move_to_end(key)
            return found

    def _file(self, path: str, table: Table) -> Opened:
        found = self._opened.get(path)
        if found is None:
            found = self._opened[path] = self.open(path, table)
            if len(self._opened) > _FILES:
                self._opened.popitem(last=False)[1].close()
        self._opened.move_to_end(path)
        return found

    def open(self, path: str, table: Table, *, dictionaries: bool = False) -> Opened:
        """A file of the tier; its pages are verified when they are read, and in a folder its footer now. `dictionaries`: see
        `tables.files.Opened`. Raises DamagedFile, StoreError, NewerStore."""
        found = opened_in(self.commits, path, table, dictionaries=dictionaries)
        if isinstance(self.commits, FolderCommits) and found.commit != Path(path).stem:
            found.close()
            raise DamagedFile(f"{self.root / path} can't be read: it is a file of the commit {found.commit!r}")
        return found

    # --- all of a table -----------------------------------------------------------------------------------------------

    def batches(
        self,
        path: str,
        table: Table,
        columns: Sequence[str] | None = None,
        *,
        damaged: Callable[[DamagedFile], None] | None = None,
    ) -> Iterator[Any]:
        """The row groups of a file, one at a time. See `each`."""
        return self.each(path, table, lambda file, group: file.read(columns, [group]), backwards=False, damaged=damaged)

    def each(
        self,
        path: str,
        table: Table,
        read: Callable[[Opened, int], Any],
        *,
        backwards: bool,
        damaged: Callable[[DamagedFile], None] | None = None,
        threads: int = 1,
    ) -> Iterator[Any]:
        """What `read` makes of each row group of a file, in order. Raises DamagedFile, or gives it to `damaged` and leaves the
        row group out; where a compaction took the file out, raises Gone then. `threads`: row groups that are read at once."""

        def tried(group: int) -> Any:
            try:
                return read(file, group)
            except DamagedFile as error:
                return error

        def told(error: DamagedFile) -> None:
            if damaged is None:
                raise error
            self._still_live(path, table)
            damaged(error)

        try:
            file = self.open(path, table)
        except DamagedFile as error:
            told(error)
            return
        with file:
            order = range(file.groups)
            for found in ahead(tried, reversed(order) if backwards else order, min(threads, file.groups)):
                if isinstance(found, DamagedFile):
                    told(found)
                else:
                    yield found

    def summaries_in(self, paths: Iterable[str], damaged: Callable[[DamagedFile], None] | None = None) -> Iterator[Any]:
        """The rows of files of `trajectories`, some thousand at once, as Arrow tables. `damaged`: see `batches`."""
        for path in paths:
            for found in self.batches(path, TRAJECTORIES, damaged=damaged):
                yield from in_pieces(found)

    def newest(self, ids: set[str]) -> Any:
        """Of these trajectories the rows of `trajectories` that count, as an Arrow table; of those that were sealed."""
        pa = arrow()
        import pyarrow.compute as compute

        wanted = pa.array(sorted(ids), pa.string())
        tables = [TRAJECTORIES.arrow.empty_table()]
        for path in self.files(TRAJECTORIES.name) if ids else ():
            tables += self._chosen(path, ids, lambda column: compute.is_in(column, wanted))
        found = pa.concat_tables(tables)
        revisions = values_of(found.column("revision"))
        last: dict[str, int] = {}
        for n, id in enumerate(values_of(found.column("id"))):
            if id not in last or revisions[n] >= revisions[last[id]]:
                last[id] = n
        return found.take(pa.array([*last.values()], pa.int64()))

    def _chosen(self, path: str, ids: set[str], chosen: Callable[[Any], Any]) -> Iterator[Any]:
        """The rows of a file of `trajectories` with these ids. Row groups that can't hold any are not read; a file of which
        this is known is not opened."""
        import pyarrow.compute as compute

        low, high = min(ids), max(ids)

        def may_hold(bounds: tuple[Any, Any] | None) -> bool:
            return bounds is None or (bounds[0] <= high and low <= bounds[1])

        if (known := self._bounds.get(path)) is not None and not any(map(may_hold, known)):
            return
        with self.open(path, TRAJECTORIES) as file:
            known = self._bounds[path] = [file.bounds(group, "id") for group in range(file.groups)]
            for group in range(file.groups):
                if not may_hold(known[group]):
                    continue
                which = chosen(file.read(["id"], [group]).column("id"))
                if compute.any(which).as_py():
                    yield file.read(groups=[group]).filter(which)

    def examine(self) -> dict[str, Any]:
        """How much is sealed, in which files, what belongs to no commit, and what of a file `damages` compares with checksums."""
        compared = "pages" if self.shared is None else "footers"
        if not self.exists:
            nothing: dict[str, Any] = {
                "files": 0,
                "bytes": 0,
                "rows": 0,
                "commits": 0,
                "last": None,
                "pending": {},
                "orphans": [],
            }
            return nothing | {"compared": compared}
        live = [one.file for table in TABLES for one in self.commits.files(table)]
        last = self.commits.last(TRAJECTORIES.name)
        made = self.commits.commits(last - 1)
        return {
            "files": len(live),
            "bytes": sum(file.bytes for file in live),
            "rows": sum(file.rows for file in live if file.table == RECORDS.name),
            "commits": last,
            "last": made[-1].time if made else None,
            "pending": self.commits.pending(),
            "compared": compared,
            "orphans": [path.relative_to(self.root.parent).as_posix() for path in self.commits.orphans()],
        }

    # --- damage -------------------------------------------------------------------------------------------------------

    def damages(self) -> list[Damage]:
        """Files that are gone or can't be read, and lines of the journal that could not be read when they were sealed."""
        found: list[Damage] = []
        if not self.exists:
            return found
        if isinstance(self.commits, FolderCommits) and (wrong := self.commits.wrong(self.journal_key)) is not None:
            found.append(Damage(f"{FOLDER}/commits.sqlite", 0, wrong))
        for one in self.commits.commits():
            found += [Damage(*given) for given in one.properties.get("damages", [])]
        if self.shared is not None:  # to verify all pages would fetch the whole store
            for table in TABLES.values():
                for path in self.files(table.name):
                    try:
                        self.open(path, table).close()
                    except StoreError as error:
                        found.append(Damage(path, 0, str(error)))
            return found
        for table in TABLES.values():
            for live in self.commits.files(table.name):
                name = f"{FOLDER}/{live.file.path}"
                before = len(found)
                try:
                    with self.open(live.file.path, table) as file:
                        for group in range(file.groups):
                            try:
                                file.read(groups=[group])
                            except StoreError as error:
                                found.append(Damage(name, group, f"row group {group}: {error}"))
                    if len(found) == before and live.file.crc not in (None, crc_of(self.root / live.file.path)):
                        found.append(
                            Damage(name, 0, "its bytes are not those that were written, and some that it says may be wrong")
                        )
                except (StoreError, OSError) as error:
                    found.append(Damage(name, 0, str(error)))
                if len(found) > before and live.file.path not in self.files(table.name):  # it was merged meanwhile
                    del found[before:]
        return found


def in_pieces(rows: Any) -> Iterator[Any]:
    """An Arrow table, some thousand rows at once."""
    for start in range(0, rows.num_rows, _NEAR):
        yield rows.slice(start, _NEAR)


Parts = Callable[[str], list[Part]]


class Sealed:
    """The sealed tier as a `Source`. `parts` tells where the rows of a trajectory are."""

    def __init__(self, lake: Lake, parts: Parts) -> None:
        self._lake = lake
        self._parts = parts

    def lines(self, trajectory: str) -> Iterator[Raw]:
        yield from self._lake.raw(self._parts(trajectory), whole=False)
