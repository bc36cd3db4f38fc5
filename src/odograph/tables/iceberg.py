"""Which files of a lake are live, where a team shares the lake: Apache Iceberg tables in object storage, by `pyiceberg`.

One table is the truth: its snapshots are the commits, and its properties are the keys. A commit of several tables has four steps.
A mark in the truth says that the commit is under way. The other tables get their files. The truth gets its own files, and loses
the mark, in one step. The other tables lose the files that the commit takes out. Readers leave out what a mark or a list of
taken-out files names, so nobody sees half a commit. A process that was killed in between commits again, under the same id.

New files wait in a folder of this machine until their commit is made.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..errors import MissingExtra, NewerStore, OdographError, StoreError
from .commits import Commit, Conflict, Live
from .files import DataFile, properties_json, properties_of
from .schema import Table, arrow
from .shared import Shared, catalog_of, said

_KEY = "odograph.key."
_MARK = "odograph.pending."
_OUT = "odograph.replaced."
_COMMIT = "odograph.commit"
_PROPERTIES = "odograph.properties"
_TABLE = "odograph.table"
_VERSION = "odograph.version"
#: Seconds for which a commit is tried again where others come first.
_PATIENCE = 120.0
_WAIT = 0.05  # seconds before the second try; each further wait is longer
_LONGEST = 2.0
_ATTEMPTS = 20  # how often tables are read again that change meanwhile
_STALE = 7 * 86_400 * 10**9  # nanoseconds after which a commit that was never finished is undone
_CHUNK = 8 << 20
_SNAPSHOTS = 200  # of a table, beyond which a commit forgets the old ones
_KEPT = 3600 * 10**9  # nanoseconds for which a commit keeps a snapshot
_TABLE_PROPERTIES = {
    "commit.retry.num-retries": "0",  # a commit is tried again here, where it is checked again
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
    # bounds of ids let a seal skip files; of texts they would only take space
    "write.metadata.metrics.default": "none",
    "write.metadata.metrics.column.id": "truncate(40)",
    "write.metadata.metrics.column.trajectory": "truncate(40)",
}


def stage(name: str) -> None:
    """Called at each stage of a commit: tests put in its place what stops the process there."""


class _Entry(msgspec.Struct, frozen=True):
    """A live file of a table, as a manifest names it."""

    url: str
    rows: int
    bytes: int
    seq: int


class IcebergCommits:
    """The commits of a lake that machines share. `tables` are known by their names; one of them is the `truth`."""

    def __init__(self, root: Path, shared: Shared, tables: Mapping[str, Table], truth: str) -> None:
        self.root = root
        self._shared = shared
        self._tables = dict(tables)
        self._truth_name = truth
        self._lock = threading.RLock()
        self._opened: Any = None
        self._loaded: dict[str, Any] = {}
        self._looked = False
        self._manifests: dict[str, tuple[_Entry, ...]] = {}

    # --- the catalog --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turns what a catalog or a storage raises into one sentence, without the secrets of the settings."""
        try:
            with self._lock:
                yield
        except OdographError:
            raise
        except Exception as error:
            raise StoreError(f"{self._shared} can't {doing}: {said(error, self._shared)}") from None

    @property
    def _catalog(self) -> Any:
        if self._opened is None:
            self._opened = catalog_of(self._shared)
        return self._opened

    def _identifier(self, name: str) -> tuple[str, ...]:
        return (*self._shared.names, name)

    def _load(self, name: str) -> Any:
        """A table as it is now; None where there is none. Raises StoreError for a table of somebody else, NewerStore."""
        errors = _errors()
        try:
            found = self._catalog.load_table(self._identifier(name))
        except (errors.NoSuchTableError, errors.NoSuchNamespaceError):
            self._loaded.pop(name, None)
            return None
        properties = found.metadata.properties
        place = ".".join(self._identifier(name))
        if properties.get(_TABLE) != name or properties.get("odograph.store") != self._shared.where:
            whose = f"the store {properties['odograph.store']}" if "odograph.store" in properties else "somebody else"
            raise StoreError(
                f"the table {place} in the catalog belongs to {whose}, not to the store {self._shared}: nothing was written;"
                " give the store another namespace="
            )
        version = int(properties.get(_VERSION, "1"))
        if version > self._tables[name].version:
            raise NewerStore(
                f"the table {place} has version {version}; this Odograph reads up to {self._tables[name].version}:"
                " the journal stays here until a later Odograph seals it"
            )
        self._loaded[name] = found
        return found

    def refresh(self) -> None:
        """Looks at the truth again. Questions between two looks are answered as of the first."""
        with self._asking("be read"):
            self._load(self._truth_name)
            self._looked = True

    @property
    def _truth(self) -> Any:
        if not self._looked:
            self.refresh()
        return self._loaded.get(self._truth_name)

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        return self._truth is not None

    @property
    def id(self) -> str:
        """Tells one lake from another that took its place."""
        return str(self._truth.metadata.table_uuid) if self._truth is not None else ""

    def prepare(self) -> None:
        """Makes the tables, and gives tables of an earlier version their new columns."""
        with self._asking("be written"):
            errors = _errors()
            for name in [*(n for n in self._tables if n != self._truth_name), self._truth_name]:
                found = self._load(name)
                if found is None:
                    with contextlib.suppress(errors.NamespaceAlreadyExistsError):
                        self._catalog.create_namespace(self._shared.names)
                    with contextlib.suppress(errors.TableAlreadyExistsError):
                        self._create(name)
                    found = self._load(name)
                if int(found.metadata.properties[_VERSION]) < self._tables[name].version:
                    self._grow(name, found)
            self._looked = True

    def _create(self, name: str) -> None:
        from pyiceberg.io.pyarrow import pyarrow_to_schema

        table = self._tables[name]
        about = {_TABLE: name, _VERSION: str(table.version), "odograph.store": self._shared.where, "comment": table.doc}
        self._catalog.create_table(
            self._identifier(name),
            pyarrow_to_schema(table.arrow),
            location=f"{self._shared.where}/{name}",
            properties=about | _TABLE_PROPERTIES,
        )

    def _grow(self, name: str, found: Any) -> None:
        """Adds the columns that later versions of a table have. Their field ids are those that our files state."""
        from pyiceberg.io.pyarrow import pyarrow_to_schema

        table = self._tables[name]
        wanted = pyarrow_to_schema(table.arrow)
        for _ in _tries():
            there = {field.name for field in found.schema().fields}
            transaction = found.transaction()
            with transaction.update_schema() as schema:
                for generation in table.generations[1:]:
                    for column in generation:
                        if column.name not in there:
                            schema.add_column(column.name, wanted.find_field(column.name).field_type, column.doc)
            transaction.set_properties({_VERSION: str(table.version)})
            if self._made(transaction):
                break
            found = self._load(name)
        self._load(name)

    def close(self) -> None:
        with self._lock:
            self._opened, self._looked = None, False
            self._loaded.clear()
            self._manifests.clear()

    # --- what is live -------------------------------------------------------------------------------------------------

    def url(self, path: str) -> str:
        """Where a file is in the object storage."""
        name, _, rest = path.partition("/")
        found = self._loaded.get(name) or self._load(name)
        if found is None:
            raise StoreError(f"{self._shared} has no table {name!r}")
        return f"{found.metadata.location.rstrip('/')}/{rest}"

    def _path(self, table: Any, name: str, url: str) -> str:
        return f"{name}/{url[len(table.metadata.location.rstrip('/')) + 1 :]}"

    def _entries(self, table: Any, since: int = 0) -> list[_Entry]:
        """The live files of a table that came after a sequence number. A manifest is read once."""
        snapshot = table.current_snapshot()
        found: list[_Entry] = []
        for manifest in snapshot.manifests(table.io) if snapshot is not None else ():
            if (manifest.sequence_number or 0) <= since and since:
                continue
            path = manifest.manifest_path
            if path not in self._manifests:
                self._manifests[path] = tuple(
                    _Entry(
                        e.data_file.file_path, e.data_file.record_count, e.data_file.file_size_in_bytes, e.sequence_number or 0
                    )
                    for e in manifest.fetch_manifest_entry(table.io)
                )
            found += [entry for entry in self._manifests[path] if entry.seq > since]
        return sorted(found, key=lambda entry: (entry.seq, entry.url))

    def files(self, table: str, since: int = 0) -> list[Live]:
        """See `Commits.files`. `since` counts the commits of the truth, and of another table its own."""
        with self._asking("be read"):
            truth = self._truth
            if truth is None:
                return []
            if table == self._truth_name:
                return self._live(truth, table, self._entries(truth, since))
            for _ in range(_ATTEMPTS):  # the table and the truth as of one time
                before = truth.metadata_location
                found = self._load(table)
                truth = self._load(self._truth_name)
                if truth is not None and truth.metadata_location == before:
                    break
            else:
                raise StoreError(f"{self._shared} changes again and again while it is read; ask once more")
            if found is None:
                return []
            properties = truth.metadata.properties
            under_way = {name[len(_MARK) :] for name in properties if name.startswith(_MARK)}
            out = {path for one in _outs(properties).values() for path in one["paths"]}
            live = self._live(found, table, self._entries(found, since))
            return [one for one in live if one.file.path not in out and _commit_of(one.file.path) not in under_way]

    def _live(self, table: Any, name: str, entries: list[_Entry]) -> list[Live]:
        return [Live(DataFile(name, self._path(table, name, e.url), e.rows, e.bytes), e.seq) for e in entries]

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
        for entry in self._entries(self._truth):  # its snapshot may have expired
            if _commit_of(entry.url) == id:
                return Commit(entry.seq, id, 0, {})
        if any(_commit_of(path) == id for one in _outs(self._truth.metadata.properties).values() for path in one["paths"]):
            return Commit(self.last(self._truth_name), id, 0, {})
        return None

    def _commits(self) -> list[Commit]:
        found = []
        for snapshot in self._truth.metadata.snapshots if self._truth is not None else ():
            about = snapshot.summary.additional_properties if snapshot.summary is not None else {}
            if _COMMIT in about:
                seq, when = snapshot.sequence_number or 0, snapshot.timestamp_ms * 1_000_000
                found.append(Commit(seq, about[_COMMIT], when, properties_of(about.get(_PROPERTIES, "{}"))))
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
        """The commits that are under way, or that were left in the middle: their ids, and when they began (nanoseconds)."""
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
    ) -> int:
        """See `Commits.commit`. Files that this machine wrote are uploaded first, and deleted here once the commit is made."""
        files, gone = list(add), list(remove)
        others: dict[str, list[DataFile]] = {}
        for file in files:
            if file.table != self._truth_name:
                others.setdefault(file.table, []).append(file)
        with self._asking("be written"):
            for file in files:
                if (self.root / file.path).exists():  # else it was uploaded before
                    self._upload(file, self.root / file.path)
            stage("uploaded")
            seq = self._commit(id, files, others, gone, properties or {}, keys or {}, expect or {}, check)
            stage("truth")
            for name in {path.split("/")[0] for path in gone} - {self._truth_name}:
                self._take_out(name, lambda path: path in gone)
            for name in {file.table for file in files}:
                if len(self._loaded[name].metadata.snapshots) > _SNAPSHOTS:  # each commit writes the list of all
                    self._forget(name, time.time_ns() - _KEPT)
        for file in files:
            (self.root / file.path).unlink(missing_ok=True)
        return seq

    def _commit(
        self,
        id: str,
        files: list[DataFile],
        others: Mapping[str, list[DataFile]],
        gone: list[str],
        properties: Mapping[str, Any],
        keys: Mapping[str, str | None],
        expect: Mapping[str, str | None],
        check: Callable[[], None] | None,
    ) -> int:
        for _ in _tries():
            self._load(self._truth_name)
            self._looked = True
            done = self._find(id)
            if done is not None:
                return done.seq
            try:
                self._refuse(gone, expect, check)
            except Conflict:
                self._undo(id, others)
                raise
            if others:
                if _MARK + id not in self._truth.metadata.properties:
                    transaction = self._truth.transaction()
                    transaction.set_properties({_MARK + id: str(time.time_ns())})
                    if not self._made(transaction):
                        continue
                    stage("marked")
                for name in sorted(others):
                    self._append(name, id, others[name])
                    stage(name)
                self._load(self._truth_name)
                try:
                    self._refuse(gone, expect, check)
                except Conflict:
                    self._undo(id, others)
                    raise
                if _MARK + id not in self._truth.metadata.properties:  # somebody undid what he took for abandoned
                    continue
            own = [file for file in files if file.table == self._truth_name]
            if self._made(self._final(id, own, gone, properties, keys)):
                truth = self._load(self._truth_name)
                return int(truth.current_snapshot().sequence_number or 0)
        raise StoreError(f"{self._shared} is written by so many others that a commit could not be made; try again")

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
                    raise Conflict(f"{path} is no live file: somebody else took it out first")
        if check is not None:
            check()

    def _final(
        self, id: str, own: list[DataFile], gone: list[str], properties: Mapping[str, Any], keys: Mapping[str, str | None]
    ) -> Any:
        """The transaction that makes a commit: the truth's own files, the keys, and the mark goes."""
        truth = self._truth
        transaction = truth.transaction()
        there = truth.metadata.properties
        values = {_KEY + name: value for name, value in keys.items() if value is not None}
        if gone:
            values[_OUT + id] = json.dumps({"time": time.time_ns(), "paths": gone})
        dropped = [name for name in (_MARK + id, *(_KEY + n for n, value in keys.items() if value is None)) if name in there]
        if values:
            transaction.set_properties(values)
        if dropped:
            transaction.remove_properties(*dropped)
        about = {_COMMIT: id, _PROPERTIES: properties_json(properties)}
        taken = {self.url(path) for path in gone if path.startswith(f"{self._truth_name}/")}
        update = transaction.update_snapshot(snapshot_properties=about)
        with update.overwrite() if taken else update.merge_append() as producer:
            for file in own:
                producer.append_data_file(self._described(truth, file))
            for file in self._data_files(truth, taken):
                producer.delete_data_file(file)
        return transaction

    def _made(self, transaction: Any) -> bool:
        """Whether a transaction was made; False where another one came first."""
        try:
            transaction.commit_transaction()
        except _errors().CommitFailedException:
            return False
        return True

    def _append(self, name: str, id: str, files: list[DataFile]) -> None:
        """Puts files into a table that is not the truth, once."""
        for _ in _tries():
            table = self._load(name)
            live = {entry.url for entry in self._entries(table)}
            missing = [file for file in files if self.url(file.path) not in live]
            if not missing:
                return
            transaction = table.transaction()
            with transaction.update_snapshot(snapshot_properties={_COMMIT: id}).merge_append() as producer:
                for file in missing:
                    producer.append_data_file(self._described(table, file))
            if self._made(transaction):
                return
        raise StoreError(f"{self._shared} is written by so many others that a commit could not be made; try again")

    def _take_out(self, name: str, chosen: Callable[[str], bool]) -> None:
        """Takes files out of a table that is not the truth."""
        for _ in _tries():
            table = self._load(name)
            urls = {entry.url for entry in self._entries(table) if chosen(self._path(table, name, entry.url))}
            if not urls:
                return
            transaction = table.transaction()
            with transaction.update_snapshot().overwrite() as producer:
                for file in self._data_files(table, urls):
                    producer.delete_data_file(file)
            if self._made(transaction):
                return

    def _undo(self, id: str, others: Iterable[str]) -> None:
        """Takes out what a commit brought that can't be made, and its mark."""
        for name in others:
            self._take_out(name, lambda path: _commit_of(path) == id)
        for _ in _tries():
            if _MARK + id not in self._truth.metadata.properties:
                return
            transaction = self._truth.transaction()
            transaction.remove_properties(_MARK + id)
            made = self._made(transaction)
            self._load(self._truth_name)
            if made:
                return

    def upload(self, file: DataFile, local: Path) -> None:
        """Puts a file of this machine into the storage, where it is not there whole. A commit with the file comes later."""
        with self._asking("be written"):
            url = self.url(file.path)
            found = self._loaded[file.table].io.new_input(url)
            if not (found.exists() and len(found) == file.bytes):
                self._upload(file, local)

    def _upload(self, file: DataFile, local: Path) -> None:
        url = self.url(file.path)
        io = self._loaded[file.table].io
        with local.open("rb") as source, io.new_output(url).create(overwrite=True) as target:
            while data := source.read(_CHUNK):
                target.write(data)

    def _described(self, table: Any, file: DataFile) -> Any:
        """A file as Iceberg names it, with its figures from its footer."""
        from pyiceberg.io.pyarrow import parquet_file_to_data_file

        return parquet_file_to_data_file(table.io, table.metadata, self.url(file.path))

    def _data_files(self, table: Any, urls: set[str]) -> list[Any]:
        """The entries of a table's manifests for these files."""
        snapshot = table.current_snapshot()
        found = []
        for manifest in snapshot.manifests(table.io) if snapshot is not None and urls else ():
            if any(entry.url in urls for entry in self._manifests.get(manifest.manifest_path, ())):
                entries = manifest.fetch_manifest_entry(table.io)
                found += [e.data_file for e in entries if e.data_file.file_path in urls]
        return found

    def untouched(self, id: str) -> bool:
        """False: a commit that failed may be half made, and is made under the same id when the files are found again."""
        return False

    # --- the files ----------------------------------------------------------------------------------------------------

    def source(self, path: str) -> Any:
        """What Parquet readers read a file from. Raises StoreError where the file is gone."""
        if (self.root / path).exists():  # not committed yet
            return self.root / path
        with self._asking("be read"):
            name = path.split("/")[0]
            url = self.url(path)
            try:
                return self._loaded[name].io.new_input(url).open(seekable=True)
            except FileNotFoundError:
                raise StoreError(f"{url} is gone: `odograph doctor` says what else is") from None

    def dataset(self, table: Table, paths: Iterable[str]) -> Any:
        """Files of a table as an Arrow dataset, which DuckDB reads in parts."""
        arrow()
        import pyarrow.dataset as datasets
        from pyiceberg.io.pyarrow import PyArrowFileIO

        with self._asking("be read"):
            urls = [self.url(path) for path in paths]
            io = self._loaded[table.name].io
            parsed = [PyArrowFileIO.parse_location(url, io.properties) for url in urls]
            filesystem = io.fs_by_scheme(*parsed[0][:2])
            names = [name for *_, name in parsed]
            return datasets.dataset(names, schema=table.arrow, format="parquet", filesystem=filesystem)

    def frame(self, table: str, paths: Iterable[str]) -> Any:
        """Files of a table as a Daft DataFrame. Raises ImportError where Daft is not installed."""
        import daft

        with self._asking("be read"):
            urls = [self.url(path) for path in paths]
            given = self._loaded[table].io.properties
            settings = {
                "endpoint_url": given.get("s3.endpoint"),
                "key_id": given.get("s3.access-key-id"),
                "access_key": given.get("s3.secret-access-key"),
                "session_token": given.get("s3.session-token"),
                "region_name": given.get("s3.region"),
                "use_ssl": not str(given.get("s3.endpoint", "")).startswith("http://"),
            }
            known = {name: value for name, value in settings.items() if value is not None}
            return daft.read_parquet(urls, io_config=daft.io.IOConfig(s3=daft.io.S3Config(**known)))

    def vanished(self, table: str) -> list[str]:
        """The live files of a table that are not in the storage."""
        with self._asking("be read"):
            paths = [one.file.path for one in self.files(table)]
            io = self._loaded[table].io if paths else None
            return [path for path in paths if io is not None and not io.new_input(self.url(path)).exists()]

    # --- keeping the storage in order ---------------------------------------------------------------------------------

    def orphans(self) -> list[Path]:
        """Files of this machine, whole or begun, that wait for their commit or were left by a process that was killed."""
        return sorted(p for p in self.root.rglob("*.parquet*") if p.is_file())

    def expire(self, before: int) -> list[str]:
        """Forgets snapshots from before a time (nanoseconds), and deletes the files that were taken out before it. Undoes commits
        that nobody finished for a week. Returns the files' paths."""
        with self._asking("be written"):
            self._load(self._truth_name)
            now = time.time_ns()
            for id, began in self.pending().items():
                if now - began > _STALE:
                    self._undo(id, [name for name in self._tables if name != self._truth_name])
            old = {name: one for name, one in _outs(self._truth.metadata.properties).items() if one["time"] < before}
            paths = [path for one in old.values() for path in one["paths"]]
            for name in {path.split("/")[0] for path in paths} - {self._truth_name}:  # where its commit was killed before
                self._take_out(name, lambda path: path in paths)
            for name in self._tables:
                self._forget(name, before)
            if not old:
                return []
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    self._loaded[path.split("/")[0]].io.delete(self.url(path))
            for _ in _tries():
                transaction = self._load(self._truth_name).transaction()
                transaction.remove_properties(*[_OUT + name for name in old])
                if self._made(transaction):
                    break
            self._load(self._truth_name)
            return paths

    def _forget(self, name: str, before: int) -> None:
        """Expires the snapshots of a table from before a time, and deletes the lists that only they needed."""
        for _ in _tries():
            table = self._load(name)
            if table is None or table.current_snapshot() is None:
                return
            current = table.current_snapshot().snapshot_id
            old = [s for s in table.metadata.snapshots if s.timestamp_ms < before // 1_000_000 and s.snapshot_id != current]
            if not old:
                return
            lists = {s.manifest_list for s in old}
            manifests = {m.manifest_path for s in old for m in s.manifests(table.io)}
            try:
                when = datetime.fromtimestamp(min(before / 1e9, 2**31), UTC)
                table.maintenance.expire_snapshots().older_than(when).commit()
            except _errors().CommitFailedException:
                continue
            table = self._load(name)
            kept = {m.manifest_path for s in table.metadata.snapshots for m in s.manifests(table.io)}
            still = {s.manifest_list for s in table.metadata.snapshots}
            for url in (lists - still) | (manifests - kept):
                with contextlib.suppress(Exception):  # a leftover costs a few KB
                    table.io.delete(url)
                self._manifests.pop(url, None)
            return


def _tries() -> Iterator[int]:
    """Numbers of attempts: each waits longer than the one before, by chance, until the patience is over."""
    end = time.monotonic() + _PATIENCE
    wait = _WAIT
    number = 0
    while number == 0 or time.monotonic() < end:
        yield number
        number += 1
        time.sleep(random.uniform(0, wait))
        wait = min(wait * 2, _LONGEST)


def _outs(properties: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By commit: the paths that it took out, and when."""
    return {name[len(_OUT) :]: json.loads(value) for name, value in properties.items() if name.startswith(_OUT)}


def _commit_of(path: str) -> str:
    """The commit that brought a file: files are named after it."""
    return path.rpartition("/")[2].removesuffix(".parquet")


def _errors() -> Any:
    try:
        from pyiceberg import exceptions
    except ImportError:
        raise MissingExtra("a store that machines share", "iceberg") from None
    return exceptions
