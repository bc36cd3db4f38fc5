"""Sealing: lines of the journal become rows of the lake's tables, once.

A seal takes each journal file from where the last seal stopped up to its last complete line, all lines of it: those of a
trajectory that still runs are sealed as a part. So what is sealed is one number per journal file, which is changed in the same
commit that brings the tables' files. Whoever reads finds a line in the journal or in the lake; where a line is found
in both it is the same line. A journal file is deleted after the commit, when all of it is sealed and nobody writes it.

A process that is killed leaves files that no commit knows. The next seal commits them where they are complete, and else deletes
them: what they hold is in the journal still.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from sys import intern
from time import time
from typing import Any

import msgspec

from ..codec import DAMAGE, encode
from ..errors import StoreError
from ..log import logger
from ..tables.commits import Conflict
from ..tables.files import DamagedFile, Footer, data_file, footer_of, opened
from ..tables.folder import FolderCommits
from ..tables.schema import arrow
from ..tables.values import values_of
from ..types import AnyRecord
from . import committing, counting
from .committing import REPEATED, Output, ids_in, unchanged
from .indexing import Batch, sealed_rewards, standing, tell_damage, uses_of
from .journal import file_mode
from .lake import JOURNAL, Lake, Part, in_pieces
from .layout import README, SUMMARY, TABLES, TRAJECTORIES, damaged_row, fact_of, row_of
from .lines import File, complete_lines, decode, is_alive, journals, open_file, read_ranges, unfinished
from .putting import Put
from .rows import Key, create, packed, packed_rewards, unpacked
from .shipped import drop, is_shipped

_ROUND = 256 << 20  # bytes of journal that one commit seals
_TOGETHER = 1 << 15  # trajectories that one commit seals: the summaries of all of them are in memory
_FORGOTTEN = 3600  # seconds in which nobody took a step beside others, before their count of steps is deleted
_CONFLICTS = 10  # how often a commit is made anew that others made wrong


class Sealing(msgspec.Struct, frozen=True):
    """What a seal did."""

    #: Lines, and trajectories of which any were sealed.
    lines: int = 0
    trajectories: int = 0
    #: Bytes of journal that were sealed, and of the files that hold them now.
    journal_bytes: int = 0
    sealed_bytes: int = 0
    commits: int = 0
    #: Journal files that were deleted, and those that stay as somebody writes them.
    deleted: int = 0
    left: int = 0


def seal(lake: Lake, journal: Path, progress: Callable[[int, int], None] | None = None) -> Sealing:
    """Seals what the journal holds. The caller holds the store's lock "seal". `progress(done, total)` counts bytes."""
    arrow()
    # refuses where the list of the files is lost: a new list would leave out what is sealed
    lake.there()
    with suppress(FileExistsError):
        lake.root.mkdir(0o777 if file_mode(journal) == 0o666 else 0o700)  # what is in it is as open as the folder
    lake.commits.prepare()
    if lake.shared is None and not (lake.root / "README.md").exists():
        with opened(lake.root, lake.root / "README.md") as file:
            file.write(README.encode())
    recover(lake)
    found = Sealing()
    ids: set[Key] = set()
    total: int | None = None
    done = deleted = conflicts = 0
    while True:
        sealed = lake.sealed_to()
        files = _to_seal(journal, sealed)
        total = sum(stop - start for _, start, stop, _ in files) if total is None else total
        one = _Round(lake, files)
        if not one.files:
            break
        try:
            made = one.run()
        except Conflict:  # another machine sealed more of a trajectory: once more, on top of it, as it was seen by the commit
            conflicts += 1
            if conflicts > _CONFLICTS:
                raise
            continue
        done += made.journal_bytes
        ids |= one.sealed
        found = msgspec.structs.replace(_sum(found, made), trajectories=len(ids))
        deleted += _delete(lake, journal)[0]
        if progress is not None:
            progress(min(done, total), total)
        if one.files == files:
            break
    more, left = _delete(lake, journal)
    return msgspec.structs.replace(found, deleted=deleted + more, left=left)


def _sum(a: Sealing, b: Sealing) -> Sealing:
    return Sealing(*(x + y for x, y in zip(msgspec.structs.astuple(a), msgspec.structs.astuple(b), strict=True)))


def _journals(journal: Path) -> Iterator[tuple[Path, int]]:
    for path in journals(journal):
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            if size:
                yield path, size


def _to_seal(journal: Path, sealed: dict[str, int]) -> list[tuple[File, int, int, bool]]:
    """(file, start, size, whether it can't grow) of the journal files of which anything is to be sealed."""
    found = []
    for path, _ in _journals(journal):
        final = not is_shipped(path.name) and not is_alive(path)  # before it is measured
        size = path.stat().st_size
        start = sealed.get(path.name, 0)
        if size > start:
            found.append((open_file(path), start, size, final))
    return found


def _delete(lake: Lake, journal: Path) -> tuple[int, int]:
    """Deletes the journal files of which all is sealed and that nobody writes; returns how many, and how many are left."""
    sealed = lake.sealed_to()
    there = deleted = 0
    for path, _ in _journals(journal):
        there += 1
        if is_alive(path) or sealed.get(path.name, -1) < path.stat().st_size:
            continue
        committing.stage("delete")
        if not is_shipped(path.name):
            path.unlink(missing_ok=True)  # somebody may have deleted it by hand
        elif not drop(path, sealed[path.name]):
            continue
        deleted += 1
    # of who went on with a trajectory for a while; what is missing is counted anew
    for path in journal.glob(f"*{counting.SUFFIX}"):
        with suppress(OSError):
            if time() - path.stat().st_mtime > _FORGOTTEN:
                path.unlink()
    return deleted, there - deleted


def recover(lake: Lake) -> None:
    """Commits what a killed seal completed, and deletes what it did not.

    Raises StoreError where the list of the files is damaged: a commit on top of it would say what the damage says. A process
    looks once, and where an older list was put back: the look reads all commits, and a sealer that follows would read them again
    and again."""
    commits = lake.commits
    if isinstance(commits, FolderCommits) and commits.exists:
        newest = commits.last(TRAJECTORIES.name)
        if not 0 <= commits.sound <= newest and (why := commits.wrong(lake.journal_key)) is not None:
            why += "; nothing was sealed, and nothing is lost: `odograph doctor --repair` makes the list anew from the files"
            raise StoreError(f"{lake.root / 'commits.sqlite'}: {why}")
        commits.sound = newest
    groups: dict[str, list[Path]] = {}
    lost: list[Path] = []
    for path in lake.commits.orphans():
        if path.relative_to(lake.root).parts[0] not in TABLES:
            continue
        if path.name.startswith("."):
            lost.append(path)
        else:
            with suppress(StoreError):  # a file that was whole once, and was damaged since: `odograph doctor` tells
                if (footer := footer_of(path)) is not None:
                    groups.setdefault(footer.commit, []).append(path)
    held = elsewhere(lake)
    for commit, paths in sorted(groups.items()):
        last = next((f for p in paths if (f := footer_of(p)) is not None and f.files), None)
        names = {p.relative_to(lake.root).as_posix(): p for p in paths}
        merged = lake.commits.find(commit) is not None  # and who was to delete these files was killed
        if merged or last is None or set(last.files) != set(names):
            if merged or last is None or held(last):  # else nothing else holds what is in them
                lost += paths
            continue
        try:
            lake.commits.commit(
                commit,
                [data_file(name.split("/")[0], name, path) for name, path in names.items()],
                last.replaces,
                properties=last.properties,
                keys=last.properties.get("keys"),
                expect=last.properties.get("expect"),
                check=_check_again(lake, last, [*names]),
            )
            lake.commits.settle()
        except Conflict:  # somebody sealed the same lines since
            if lake.shared is not None or held(last):
                lost += paths
            else:
                logger.warning(
                    "%s can't take in the files of the commit %s, and nothing else holds what is in them: the files stay. If an"
                    " older list was put back, delete the list: `odograph doctor --repair` makes it anew from the files",
                    lake.root / "commits.sqlite",
                    commit,
                )
    for path in lost:
        path.unlink(missing_ok=True)  # somebody may have deleted it by hand


def elsewhere(lake: Lake) -> Callable[[Footer], bool]:
    """What says of a commit that is not whole whether all that it holds is there all the same: in the journal, or in the files
    that it was to replace."""

    def is_there(footer: Footer) -> bool:
        if footer.replaces:  # what machines share goes only where another commit has what it held
            return lake.shared is not None or all((lake.root / path).exists() for path in footer.replaces)
        keys = footer.properties.get("keys")
        for name, value in keys.items() if isinstance(keys, dict) else ():
            try:
                if (lake.root.parent / "journal" / name.rpartition("/")[2].removeprefix(JOURNAL)).stat().st_size < int(value):
                    return False
            except (OSError, ValueError, TypeError):
                return False
        return True

    return is_there


def _check_again(lake: Lake, last: Footer, names: list[str]) -> Callable[[], None] | None:
    """What refuses a commit that was left: see `unchanged`. A seal of an earlier Odograph does not state its base."""
    base = last.properties.get("base")
    return None if base is None else unchanged(lake, base, last.replaces, partial(ids_in, lake, names))


def table_of(lake: Lake, others: Callable[[str], str | None]) -> Callable[[Path], str | None]:
    """Which table a file of the lake belongs to. `others` says it of a path in the lake, of tables that are not the store's."""

    def of(path: Path) -> str | None:
        name = path.relative_to(lake.root)
        return name.parts[0] if name.parts[0] in TABLES else others(name.as_posix())

    return of


# --- sealing --------------------------------------------------------------------------------------------------------


#: Of a trajectory that was sealed before: its revision, and where its rows are.
_Known = tuple[int, list[Part]]


class _Round:
    """One commit: some journal files, or a part of one."""

    def __init__(self, lake: Lake, files: list[tuple[File, int, int, bool]]) -> None:
        self._lake = lake
        self.files: list[tuple[File, int, int, bool]] = []
        size = 0
        for file, start, stop, final in files:
            if size >= _ROUND:
                break
            self.files.append((file, start, stop, final))
            size += stop - start
        self._by_name = {file.name: file for file, *_ in self.files}
        #: The trajectories of which any was sealed, as the catalog writes them.
        self.sealed: set[Key] = set()

    def run(self) -> Sealing:
        output = Output(self._lake, sum(stop - start for _, start, stop, _ in self.files))
        try:
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
                return self._run(db, output)
        except DamagedFile as error:
            output.failed(error)
            raise self._lake.stopped(error) from None
        except BaseException as error:
            output.failed(error)
            raise

    def _run(self, db: sqlite3.Connection, output: Output) -> Sealing:
        create(db)
        stops, torn = self._fold(db)
        lines = self._lines(db)
        if all(stops[file.name] == start for file, start, *_ in self.files):
            output.abandon()
            return Sealing()
        found = self._lake.newest(set(lines))
        earlier = {id: (revision, parts) for rows in in_pieces(found) for id, revision, parts in _places(rows)}
        if earlier:  # once more, on top of what is known
            create(db)
            put = Put(db)
            for rows in in_pieces(found):
                put.rows(rows)
            self._fold(db, earlier, stops)
        damages = [[name, at, why, False] for name, at, why in db.execute("select file, offset, reason from damages")]
        damaged = []
        for name, at, why, _ in damages:
            with self._by_name[name].path.open("rb") as found:
                found.seek(at)
                damaged.append(damaged_row(name, at, why, found.readline().rstrip(b"\n")))
        for file, start, rest in torn:
            why = f"torn last line of {len(rest)} bytes"
            damages.append([file.name, start, why, True])
            damaged.append(damaged_row(file.name, start, why, rest, torn=True))
        output.rows("", damaged)
        count = 0
        for id in sorted(lines):
            records, rows = self._of(lines[id], damages)
            output.rows(id, rows)
            count += len(rows)
            self._facts(db, id, records, output)
        output.finish()
        committing.stage("rows")
        self._summaries(db, sorted(lines), earlier, output)
        begin = self._lake.journal_key
        keys: dict[str, str | None] = {f"{begin}{name}": str(stop) for name, stop in stops.items()}
        before = self._lake.commits.keys(begin)
        expect = {key: before.get(key) for key in keys}
        size = output.commit({"damages": damages} if damages else {}, keys, expect)
        tell_damage(db)
        self.sealed = {packed(id) for id in lines}
        sealed = sum(stops[file.name] - start for file, start, *_ in self.files)
        return Sealing(count, len(lines), sealed, size, 1)

    def _fold(
        self, db: sqlite3.Connection, earlier: dict[str, _Known] | None = None, ends: dict[str, int] | None = None
    ) -> tuple[dict[str, int], list[tuple[File, int, bytes]]]:
        """Folds the lines into a catalog of their own; returns where each file's lines stop, and torn ends."""

        def sealed(id: str) -> Iterator[bytes]:
            if earlier and id in earlier:
                for _, _, line in self._lake.raw(earlier[id][1]):
                    yield line

        stops: dict[str, int] = {}
        torn = []
        count = 0
        for number, (file, start, size, final) in enumerate(self.files):
            batch = Batch(db, file, sealed)
            stop = start
            for offset, line in complete_lines(file.path, start):
                if offset >= (size if ends is None else ends[file.name]):
                    break
                if count + batch.trajectories >= _TOGETHER and ends is None:  # the next round goes on here
                    final = False
                    self.files[number:] = [(file, start, stop, final)]
                    break
                stop = offset + len(line) + 1
                if line:
                    batch.add(offset, stop, line)
            batch.write()
            count += batch.trajectories
            if final and (rest := unfinished(file.path, stop)):
                torn.append((file, stop, rest))
                stop += len(rest)
            stops[file.name] = stop
        return stops, torn

    def _lines(self, db: sqlite3.Connection) -> dict[str, list[tuple[str, int, int]]]:
        """Where each trajectory's lines are."""
        found: dict[str, list[tuple[str, int, int]]] = {}
        for id, *place in db.execute("select trajectory, file, start, stop from places order by rowid"):
            found.setdefault(unpacked(id), []).append((place[0], place[1], place[2]))
        return found

    def _of(self, places: list[tuple[str, int, int]], damages: list[list[Any]]) -> tuple[list[AnyRecord], list[dict[str, Any]]]:
        """The records and the rows of one trajectory's lines."""
        records: list[AnyRecord] = []
        rows: list[dict[str, Any]] = []
        for name, start, stop in places:
            file = self._by_name[name]
            offset = start
            for line in next(read_ranges(file.path, [(start, stop)])).split(b"\n"):
                if line:
                    why = ""
                    try:
                        rows.append(row_of(line, file.writer, file.version))
                    except DAMAGE as error:
                        why = str(error)
                        rows.append(damaged_row(name, offset, why, line))
                    try:
                        found = decode(line, file.writer, file.version)
                        if isinstance(found, AnyRecord):
                            records.append(found)
                    except DAMAGE as error:
                        why = str(error)
                    if why:  # it is kept, and can be read by nobody
                        damages.append([name, offset, why, False])
                offset += len(line) + 1
        return records, rows

    def _facts(self, db: sqlite3.Connection, id: str, records: list[AnyRecord], output: Output) -> None:
        found = db.execute("select grp, agent from trajectories where id=?", (packed(id),)).fetchone()
        group, agent = found or (None, None)
        replaced = {r.supersedes for r in records if r.supersedes}
        for record in records:
            row = fact_of(record, group, agent)
            row["replaced"] = record.id in replaced
            output.fact(row)

    def _summaries(self, db: sqlite3.Connection, ids: list[str], earlier: dict[str, _Known], output: Output) -> None:
        for id in filter(None, ids):
            revision, parts = earlier.get(id, (0, []))
            output.summary(summary_row(db, id, revision, [*parts, *output.parts.get(id, ())]))


def summary_row(db: sqlite3.Connection, id: str, revision: int, parts: list[Part]) -> dict[str, Any]:
    """The row of `trajectories` of a trajectory whose lines were folded into a catalog, after the row of this revision."""
    names, key = list(SUMMARY), packed(id)
    found = db.execute(f"select {', '.join(names)} from trajectories where id=?", (key,)).fetchone()
    if found is None:  # messages whose call never came
        found = _nothing(names, id)
    row = dict(zip([SUMMARY[name].name for name in names], found, strict=True))
    row |= {"id": id, "root": unpacked(row["root"])}
    rewards, uses = standing(db, key, sealed_rewards(db, key)), uses_of(db, key, row["uses"])
    row["rewards"] = packed_rewards(rewards, *(row[name] for name in REPEATED))
    row["uses"] = encode(uses).decode() if uses else None
    return {**row, "revision": revision + 1, **runs(parts)}


def _nothing(names: list[str], id: str) -> list[Any]:
    zero = dict.fromkeys(("steps", "llm_calls", "actions", "first", "last", "revision", "replay"), 0)
    about = {"id": id, "writer": "", "root": "", **zero}
    return [about.get(name) for name in names]


def _places(rows: Any) -> Iterator[tuple[str, int, list[Part]]]:
    """(id, revision, parts) of rows of `trajectories`."""
    columns = [values_of(rows.column(name)) for name in ("id", "revision", "files", "groups", "offsets", "rows")]
    for id, revision, *places in zip(*columns, strict=True):
        yield id, revision, [Part(intern(path), *rest) for path, *rest in zip(*places, strict=True)]


def parts_of(row: dict[str, Any]) -> list[Part]:
    """Where a summary says that the rows of its trajectory are."""
    return [Part(*run) for run in zip(row["files"], row["groups"], row["offsets"], row["rows"], strict=True)]


def runs(parts: list[Part]) -> dict[str, Any]:
    """The columns of a summary that say where the rows of its trajectory are."""
    return {
        "files": [p.path for p in parts],
        "groups": [p.group for p in parts],
        "offsets": [p.offset for p in parts],
        "rows": [p.rows for p in parts],
    }
