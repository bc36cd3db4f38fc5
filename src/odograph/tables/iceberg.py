"""Which files of a lake are live, where a team shares the lake: Apache Iceberg tables in object storage, by `pyiceberg`.

One table is the truth: its snapshots are the commits, and its properties are the keys. A commit of several tables has five steps.
A mark in the truth says that the commit is under way. The files are uploaded. The other tables get their files. The truth gets
its own files, and loses the mark, in one step. The other tables lose the files that the commit takes out. Readers leave out what
a mark or a list of taken-out files names, so nobody sees half a commit. A process that was killed in between commits again, under
the same id. A commit that is refused takes out and deletes what it brought; where its mark is gone, the commit may be made.

Where each commit brings a file of the truth, no mark is needed: a file of another table counts once the truth has one of the same
commit.

New files wait in a folder of this machine until their commit is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .commits import Commit, Conflict, Live
from .files import DataFile, properties_json, properties_of
from .namespace import COMMIT, Entry, Namespace, made, tries
from .schema import Table
from .shared import Shared

_KEY = "odograph.key."
_MARK = "odograph.pending."
#: Beside the mark: since when somebody takes out what the commit brought, so that nobody makes the commit.
_UNDONE = "odograph.undone."
_OUT = "odograph.replaced."
_PROPERTIES = "odograph.properties"
#: How many snapshots a table has before a commit forgets old ones, and for how many nanoseconds it keeps them. Where the files of
#: the truth say what was committed, only a reader that is under way needs a snapshot that is not the last.
_LONG = 200, 3600 * 10**9
_BRIEFLY = 32, 60 * 10**9
_ID = 36  # characters of a UUID, in which the ids of commits end
_ATTEMPTS = 20  # how often tables are read again that change meanwhile
_STALE = 7 * 86_400 * 10**9  # nanoseconds after which a commit that was never finished is undone


def stage(name: str) -> None:
    """Called at each stage of a commit: tests put in its place what stops the process there."""


class IcebergCommits:
    """The commits of a lake that machines share. `tables` are known by their names; one of them is the `truth`. `named`: each
    commit that brings files brings one of the truth, so that the names of these files say which commits were made."""

    def __init__(self, root: Path, shared: Shared, tables: Mapping[str, Table], truth: str, *, named: bool = False) -> None:
        self.root = root
        self._shared = shared
        self._space = Namespace(shared, tables)
        self._asking = self._space.asking
        self._truth_name = truth
        self._named = named
        self._lists: dict[str, tuple[str, list[Live]]] = {}  # files by table, as of a state of the truth
        self._looked = False

    def refresh(self) -> None:
        """Looks at the truth again. Questions between two looks are answered as of the first."""
        with self._asking("be read"):
            self._space.load(self._truth_name)
            self._looked = True

    @property
    def _truth(self) -> Any:
        if not self._looked:
            self.refresh()
        return self._space.loaded.get(self._truth_name)

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        return self._truth is not None

    @property
    def id(self) -> str:
        """Tells one lake from another that took its place."""
        return str(self._truth.metadata.table_uuid) if self._truth is not None else ""

    def prepare(self, tables: Iterable[Table] = ()) -> None:
        """See `Commits.prepare`. Makes the tables, and gives tables of an earlier version their new columns."""
        known = self._space.tables
        known.update({table.name: table for table in tables})
        with self._asking("be written"):
            for name in [*(n for n in known if n != self._truth_name), self._truth_name]:
                if not (self._named and name in self._space.loaded):
                    self._space.make(name)
            self._looked = True

    def close(self) -> None:
        self._looked = False
        self._lists.clear()
        self._space.close()

    # --- what is live -------------------------------------------------------------------------------------------------

    def files(self, table: str, since: int = 0) -> list[Live]:
        """See `Commits.files`. `since` counts the commits of the truth, and of another table its own."""
        with self._asking("be read"):
            truth = self._truth
            if truth is None:
                return []
            if table == self._truth_name:
                return _live(table, self._space.entries(table, since))
            if self._named:
                return [one for one in self._of_made(table, truth) if one.added > since]
            for _ in range(_ATTEMPTS):  # the table and the truth as of one time
                before = truth.metadata_location
                found = self._space.load(table)
                truth = self._space.load(self._truth_name)
                if truth is not None and truth.metadata_location == before:
                    break
            else:
                raise StoreError(f"other machines keep changing {self._shared} while this process reads it; try again")
            if found is None:
                return []
            properties = truth.metadata.properties
            under_way = {name[len(_MARK) :] for name in properties if name.startswith(_MARK)}
            out = {path for one in _outs(properties).values() for path in one["paths"]}
            live = _live(table, self._space.entries(table, since))
            return [one for one in live if one.file.path not in out and _commit_of(one.file.path) not in under_way]

    def _of_made(self, table: str, truth: Any) -> list[Live]:
        """The files of a table whose commits were made, as of the last look at the truth. Each of them came before that look."""
        known = self._lists.get(table)
        if known is None or known[0] != truth.metadata_location:
            made = {_commit_of(entry.path) for entry in self._space.entries(self._truth_name)}
            there = self._space.entries(table) if self._space.load(table) is not None else []
            known = (truth.metadata_location, [one for one in _live(table, there) if _commit_of(one.file.path) in made])
            self._lists[table] = known
        return known[1]

    def latest(self, folder: str, before: str) -> Iterator[Live]:
        """See `Commits.latest`."""
        start, stop = f"{folder}/", f"{folder}/{before}"
        found = [one for one in self.files(folder.partition("/")[0]) if start < one.file.path < stop]
        yield from sorted(found, key=lambda one: one.file.path, reverse=True)

    def last(self, table: str) -> int:
        """See `Commits.last`."""
        with self._asking("be read"):
            snapshot = self._truth.current_snapshot() if self._truth is not None else None
            return int(snapshot.sequence_number or 0) if snapshot is not None else 0

    def find(self, id: str) -> Commit | None:
        """See `Commits.find`. Looks at the truth again."""
        self.refresh()
        with self._asking("be read"):
            return self._find(id)

    def _find(self, id: str) -> Commit | None:
        for one in reversed(self._commits()):
            if one.id == id:
                return one
        if self._truth is None:
            return None
        for entry in self._space.entries(self._truth_name):  # its snapshot may have expired
            if _commit_of(entry.path) == id[-_ID:]:
                return Commit(entry.seq, id, 0, {})
        if any(_commit_of(path) == id[-_ID:] for one in _outs(self._truth.metadata.properties).values() for path in one["paths"]):
            return Commit(self.last(self._truth_name), id, 0, {})
        return None

    def _commits(self) -> list[Commit]:
        found = []
        for snapshot in self._truth.metadata.snapshots if self._truth is not None else ():
            about = snapshot.summary.additional_properties if snapshot.summary is not None else {}
            if COMMIT in about:
                seq, when = snapshot.sequence_number or 0, snapshot.timestamp_ms * 1_000_000
                found.append(Commit(seq, about[COMMIT], when, properties_of(about.get(_PROPERTIES, "{}"))))
        return sorted(found, key=lambda one: one.seq)

    def commits(self, since: int = 0) -> list[Commit]:
        """See `Commits.commits`: those whose snapshots have not expired."""
        with self._asking("be read"):
            return [one for one in self._commits() if one.seq > since]

    def key(self, name: str) -> str | None:
        """See `Commits.key`."""
        truth = self._truth
        return None if truth is None else truth.metadata.properties.get(_KEY + name)

    def keys(self, prefix: str) -> dict[str, str]:
        """See `Commits.keys`."""
        properties = self._truth.metadata.properties if self._truth is not None else {}
        begin = _KEY + prefix
        return {name[len(_KEY) :]: properties[name] for name in sorted(properties) if name.startswith(begin)}

    def pending(self) -> dict[str, int]:
        """See `Commits.pending`."""
        properties = self._truth.metadata.properties if self._truth is not None else {}
        return {name[len(_MARK) :]: int(value) for name, value in properties.items() if name.startswith(_MARK)}

    # --- a commit -----------------------------------------------------------------------------------------------------

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
        root: Path | None = None,
    ) -> int:
        """See `Commits.commit`. Files that wait in this machine's folder are deleted there once the commit is made. `root`: a
        folder where the files are instead, and stay."""
        files, gone = list(add), list(remove)
        with self._asking("be written"):
            seq = self._commit(id, files, root or self.root, gone, properties or {}, keys or {}, expect or {}, check)
            stage("truth")
            for name in {path.split("/")[0] for path in gone} - {self._truth_name}:
                self._space.take_out(name, lambda path: path in gone)
            for name in {file.table for file in files}:
                self._space.bound(name, *(_BRIEFLY if self._named else _LONG))
        for file in files:
            (self.root / file.path).unlink(missing_ok=True)
        return seq

    def _commit(
        self,
        id: str,
        files: list[DataFile],
        root: Path,
        gone: list[str],
        properties: Mapping[str, Any],
        keys: Mapping[str, str | None],
        expect: Mapping[str, str | None],
        check: Callable[[], None] | None,
    ) -> int:
        others: dict[str, list[DataFile]] = {}
        for file in files:
            if file.table != self._truth_name:
                others.setdefault(file.table, []).append(file)
        uploaded = False
        for _ in tries():
            self._space.load(self._truth_name)
            self._looked = True
            if self._truth is None:
                raise StoreError(
                    f"{self._shared} has no table {self._truth_name!r} any more: somebody dropped the table meanwhile"
                )
            done = self._find(id)
            if done is not None:
                return done.seq
            there = self._truth.metadata.properties
            if _UNDONE + id in there:
                raise Conflict("another process takes out what this commit brought, as nobody finished the commit for a week")
            try:
                self._refuse(gone, expect, check)
            except Conflict:
                if self._named or uploaded or _MARK + id in there:
                    self._undo(id, [file.path for file in files])
                raise
            if others and not self._named and _MARK + id not in there:
                transaction = self._truth.transaction()
                transaction.set_properties({_MARK + id: str(time.time_ns())})
                if not made(transaction):
                    continue
                stage("marked")
                uploaded = False  # who took out what a mark named deleted the files
            if not uploaded:
                for file in files:
                    if (root / file.path).exists():  # else it was uploaded before
                        self._space.upload(file, root / file.path)
                uploaded = True
                stage("uploaded")
            if others:
                for name in sorted(others):
                    self._space.append(name, others[name], id)
                    stage(name)
                self._space.load(self._truth_name)
                there = self._truth.metadata.properties if self._truth is not None else {}
                if not self._named and (_MARK + id not in there or _UNDONE + id in there):  # somebody took it for abandoned
                    continue
                try:
                    self._refuse(gone, expect, check)
                except Conflict:
                    self._undo(id, [file.path for file in files])
                    raise
            own = [file for file in files if file.table == self._truth_name]
            if made(self._final(id, own, gone, properties, keys), lambda: self.find(id) is not None):
                truth = self._space.load(self._truth_name)
                return int(truth.current_snapshot().sequence_number or 0)
        raise self._space.busy()

    def _refuse(self, gone: list[str], expect: Mapping[str, str | None], check: Callable[[], None] | None) -> None:
        """Raises Conflict where somebody else was here first."""
        for name, value in expect.items():
            found = self.key(name)
            if found != value:
                raise Conflict(f"{name} is {found!r}, not {value!r}: somebody else was here first")
        for name in sorted({path.split("/")[0] for path in gone}):
            live = {one.file.path for one in self.files(name)}
            for path in gone:
                if path.startswith(f"{name}/") and path not in live:
                    raise Conflict(f"{path} is no live file: another process removed the file first")
        if check is not None:
            check()

    def _final(
        self, id: str, own: list[DataFile], gone: list[str], properties: Mapping[str, Any], keys: Mapping[str, str | None]
    ) -> Any:
        """The transaction that makes a commit: the truth's own files, the keys, and the mark goes."""
        values = {_KEY + name: value for name, value in keys.items() if value is not None}
        if gone:
            values[_OUT + id] = json.dumps({"time": time.time_ns(), "paths": gone})
        transaction = self._changed(values, _MARK + id, *(_KEY + name for name, value in keys.items() if value is None))
        about = {COMMIT: id, _PROPERTIES: properties_json(properties)}
        taken = {path for path in gone if path.startswith(f"{self._truth_name}/")}
        update = transaction.update_snapshot(snapshot_properties=about)
        with update.overwrite() if taken else update.merge_append() as producer:
            for file in own:
                producer.append_data_file(self._space.described(file))
            for file in self._space.data_files(self._truth_name, taken):
                producer.delete_data_file(file)
        return transaction

    def _changed(self, values: Mapping[str, str], *dropped: str) -> Any:
        """A transaction that changes properties of the truth."""
        transaction = self._truth.transaction()
        there = [name for name in dropped if name in self._truth.metadata.properties]
        if values:
            transaction.set_properties(dict(values))
        if there:
            transaction.remove_properties(*there)
        return transaction

    def _say(self, values: Mapping[str, str], *dropped: str) -> bool:
        """Changes properties of the truth; False where another commit came first. A catalog compares only snapshots: one of no
        files makes it refuse what somebody else began before."""
        transaction = self._changed(values, *dropped)
        with transaction.update_snapshot().merge_append():
            pass
        done = made(transaction)
        self._space.load(self._truth_name)
        return done

    def _undo_stale(self, id: str) -> None:
        """Undoes a commit that nobody finished for a week, unless another process does so. Whoever wakes up and would finish the
        commit meanwhile is told first."""
        for _ in tries():
            there, now = self._truth.metadata.properties, time.time_ns()
            if now - max(int(there.get(_MARK + id, now)), int(there.get(_UNDONE + id, 0))) <= _STALE:
                return
            if self._say({_UNDONE + id: str(now)}):
                self._undo(id, [f"{name}/{id[-_ID:]}.parquet" for name in self._space.tables], told=True)
                return

    def _undo(self, id: str, paths: list[str], *, told: bool = False) -> None:
        """Takes out what a commit brought that can't be made, deletes its files, and takes its mark away at last. `told`: this
        process said so in the truth."""
        for name in sorted({path.split("/")[0] for path in paths} - {self._truth_name}):
            self._space.take_out(name, lambda path: _commit_of(path) == id[-_ID:])
        for path in paths:
            if _commit_of(path) == id[-_ID:]:  # another commit may name a file of another name
                with suppress(Exception):  # it never came, or this machine may not delete
                    self._space.delete(path)
        for _ in tries():
            there = self._truth.metadata.properties
            if _MARK + id not in there or (_UNDONE + id in there) != told or self._say({}, _MARK + id, _UNDONE + id):
                return

    def upload(self, file: DataFile, local: Path) -> None:
        """Puts a file of this machine into the storage, where it is not there whole. A commit with the file comes later."""
        with self._asking("be written"):
            self._space.upload(file, local, again=False)

    def settle(self) -> None:
        """See `Commits.settle`: each commit is in the catalog."""

    def untouched(self, id: str) -> bool:
        """False: a commit that failed may be half made, and is made under the same id when the files are found again."""
        return False

    # --- the files ----------------------------------------------------------------------------------------------------

    def source(self, path: str) -> Any:
        """What Parquet readers read a file from. Raises DamagedFile where the file is gone, StoreError."""
        if (self.root / path).exists():  # not committed yet
            return self.root / path
        with self._asking("be read"):
            return self._space.source(path)

    def dataset(self, table: Table, paths: Iterable[str]) -> Any:
        """Files of a table as an Arrow dataset, which DuckDB reads in parts."""
        paths = list(paths)
        with self._asking("be read"):
            self._space.compare(table, paths)
            return self._space.dataset(table, paths)

    def frame(self, table: str, paths: Iterable[str]) -> Any:
        """Files of a table as a Daft DataFrame. Raises ImportError where Daft is not installed."""
        paths = list(paths)
        with self._asking("be read"):
            self._space.compare(self._space.tables[table], paths)
            return self._space.frame(table, paths)

    # --- keeping the storage in order ---------------------------------------------------------------------------------

    def orphans(self) -> list[Path]:
        """Files of this machine, whole or begun, that wait for their commit or were left by a process that was killed."""
        return sorted(p for p in self.root.rglob("*.parquet*") if p.is_file())

    def expire(self, before: int) -> list[str]:
        """Forgets snapshots from before a time (nanoseconds), and deletes the files that were taken out before it. Undoes commits
        that nobody finished for a week. Returns the files' paths."""
        with self._asking("be written"):
            self._space.load(self._truth_name)
            for id in self.pending():
                self._undo_stale(id)
            old = {name: one for name, one in _outs(self._truth.metadata.properties).items() if one["time"] < before}
            paths = [path for one in old.values() for path in one["paths"]]
            for name in {path.split("/")[0] for path in paths} - {self._truth_name}:  # where its commit was killed before
                self._space.take_out(name, lambda path: path in paths)
            for name in self._space.tables:
                self._space.forget(name, before)
            if not old:
                return []
            for path in paths:
                self._space.delete(path)
            self._drop({_OUT + name for name in old})
            return paths

    def _drop(self, names: set[str]) -> None:
        """Takes properties out of the truth, of which another machine may take out some at the same time."""
        for _ in tries():
            truth = self._space.load(self._truth_name)
            if truth is None or not names & truth.metadata.properties.keys():
                return
            try:
                if made(self._changed({}, *names)):
                    return
            except Exception:
                if not self._space.is_changed(self._truth_name, truth):
                    raise


def _live(table: str, entries: Iterable[Entry]) -> list[Live]:
    return [Live(DataFile(table, e.path, e.rows, e.bytes), e.seq) for e in entries]


def _outs(properties: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By commit: the paths that it took out, and when."""
    return {name[len(_OUT) :]: json.loads(value) for name, value in properties.items() if name.startswith(_OUT)}


def _commit_of(path: str) -> str:
    """The commit that brought a file: the names of files end in it."""
    return path.rpartition("/")[2].removesuffix(".parquet")[-_ID:]
