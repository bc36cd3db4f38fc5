"""The Iceberg tables of one namespace of a catalog, by `pyiceberg`: made and grown, files put in and taken out, files opened.

Each change is one of one table, and is tried again where another one came first. Commits of several tables are `iceberg`'s.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..codec import content_hash
from ..errors import MissingExtra, NewerStore, OdographError, StoreError
from ..locks import Lock
from .files import DataFile, Opened, lost
from .schema import Table
from .shared import Shared, catalog_of, unanswered

#: In the summary of a snapshot: the commit that made it.
COMMIT = "odograph.commit"
_TABLE = "odograph.table"
_VERSION = "odograph.version"
_STORE = "odograph.store"
_TRIES = 120  # of a change, where others come first
_WAIT = 0.05  # seconds before the second try; each further wait is longer
_LONGEST = 2.0
_CHUNK = 8 << 20
_AT_ONCE = 16  # files that are looked at
_NAME = 128  # characters of a table's name
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


class Entry(msgspec.Struct, frozen=True):
    """A live file of a table, as a manifest names it. `path` begins with the name of the table."""

    url: str
    path: str
    rows: int
    bytes: int
    seq: int


class Namespace:
    """The tables of a shared store. A table is known as of when it was loaded last."""

    def __init__(self, shared: Shared, tables: Mapping[str, Table]) -> None:
        #: Those that are made, by their names.
        self.tables = dict(tables)
        self.loaded: dict[str, Any] = {}
        self._shared = shared
        self._lock = Lock()
        self._opened: Any = None
        self._manifests: dict[str, tuple[Entry, ...]] = {}
        self._compared: set[str] = set()  # files whose footers were

    @contextlib.contextmanager
    def asking(self, doing: str) -> Iterator[None]:
        """Turns what a catalog or a storage raises into one sentence, without the secrets of the settings. Holds the lock."""
        try:
            with self._lock:
                yield
        except OdographError:
            raise
        except Exception as error:
            raise unanswered(error, self._shared, doing) from None

    def close(self) -> None:
        with self._lock:
            self._opened = None
            self.loaded.clear()
            self._manifests.clear()
            self._compared.clear()

    # --- the tables ---------------------------------------------------------------------------------------------------

    @property
    def _catalog(self) -> Any:
        if self._opened is None:
            self._opened = catalog_of(self._shared)
        return self._opened

    def _identifier(self, name: str) -> tuple[str, ...]:
        """What a table is called in the catalog: lower case, digits and _, of 128 characters at most, which all catalogs take."""
        plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
        return (*self._shared.names, plain if len(plain) <= _NAME else f"{plain[: _NAME - 33]}_{content_hash(name)}")

    def load(self, name: str) -> Any:
        """A table as it is now; None where there is none. Raises StoreError for a table of somebody else, NewerStore."""
        errors = _errors()
        try:
            found = self._catalog.load_table(self._identifier(name))
        except (errors.NoSuchTableError, errors.NoSuchNamespaceError):
            self.loaded.pop(name, None)
            return None
        properties = found.metadata.properties
        place = ".".join(self._identifier(name))
        if properties.get(_TABLE) != name or properties.get(_STORE) != self._shared.where:
            whose = f"the store {properties[_STORE]}" if _STORE in properties else "somebody else"
            raise StoreError(
                f"the table {place} in the catalog belongs to {whose}, not to the store {self._shared}: nothing was written;"
                " give the store another namespace="
            )
        version = int(properties.get(_VERSION, "1"))
        known = self.tables[name].version if name in self.tables else 1  # tables of worlds come as they are needed
        if version > known:
            raise NewerStore(
                f"the table {place} has version {version}; this Odograph reads up to {known}:"
                " the journal stays here until a later Odograph seals it"
            )
        self.loaded[name] = found
        return found

    def make(self, name: str) -> None:
        """Makes a table that is not there, and gives a table of an earlier version its new columns."""
        errors = _errors()
        found = self.load(name)
        if found is None:
            with contextlib.suppress(errors.NamespaceAlreadyExistsError):
                self._catalog.create_namespace(self._shared.names)
            with contextlib.suppress(errors.TableAlreadyExistsError):
                self._create(name)
            found = self.load(name)
        if int(found.metadata.properties[_VERSION]) < self.tables[name].version:
            self._grow(name, found)

    def _create(self, name: str) -> None:
        """Makes a table as its first version was: `_grow` gives later columns their field ids, which come after all of it."""
        from pyiceberg.io.pyarrow import pyarrow_to_schema

        table = msgspec.structs.replace(self.tables[name], generations=self.tables[name].generations[:1])
        about = {_TABLE: name, _VERSION: "1", _STORE: self._shared.where, "comment": table.doc}
        self._catalog.create_table(
            self._identifier(name),
            pyarrow_to_schema(table.arrow),
            location=f"{self._shared.where}/{self._identifier(name)[-1]}",
            properties=about | _TABLE_PROPERTIES,
        )

    def _grow(self, name: str, found: Any) -> None:
        """Adds the columns that later versions of a table have. Their field ids are those that our files state."""
        from pyiceberg.io.pyarrow import pyarrow_to_schema

        table = self.tables[name]
        wanted = pyarrow_to_schema(table.arrow)
        for _ in tries():
            there = {field.name for field in found.schema().fields}
            transaction = found.transaction()
            with transaction.update_schema() as schema:
                for generation in table.generations[1:]:
                    for column in generation:
                        if column.name not in there:
                            schema.add_column(column.name, wanted.find_field(column.name).field_type, column.doc)
            transaction.set_properties({_VERSION: str(table.version)})
            if made(transaction):
                break
            found = self.load(name)
        self.load(name)

    # --- which files a table has --------------------------------------------------------------------------------------

    def url(self, path: str) -> str:
        """Where a file is in the object storage."""
        name, _, rest = path.partition("/")
        found = self.loaded.get(name) or self.load(name)
        if found is None:
            raise StoreError(f"{self._shared} has no table {name!r}")
        return f"{found.metadata.location.rstrip('/')}/{rest}"

    def entries(self, name: str, since: int = 0) -> list[Entry]:
        """The live files of a loaded table that came after a sequence number, in their order. A manifest is read once."""
        table = self.loaded[name]
        place = len(table.metadata.location.rstrip("/")) + 1
        snapshot = table.current_snapshot()
        found: list[Entry] = []
        for manifest in snapshot.manifests(table.io) if snapshot is not None else ():
            if (manifest.sequence_number or 0) <= since and since:
                continue
            path = manifest.manifest_path
            if path not in self._manifests:
                self._manifests[path] = tuple(
                    Entry(
                        e.data_file.file_path,
                        f"{name}/{e.data_file.file_path[place:]}",
                        e.data_file.record_count,
                        e.data_file.file_size_in_bytes,
                        e.sequence_number or 0,
                    )
                    for e in manifest.fetch_manifest_entry(table.io)
                )
            found += [entry for entry in self._manifests[path] if entry.seq > since]
        return sorted(found, key=lambda entry: (entry.seq, entry.url))

    def append(self, name: str, files: list[DataFile], commit: str) -> None:
        """Puts files into a table, each once. Raises StoreError."""
        for _ in tries():
            table = self.load(name)
            if table is None:
                raise StoreError(f"{self._shared} has no table {name!r} any more: somebody dropped the table meanwhile")
            missing = self._missing(name, files)
            if not missing:
                return
            transaction = table.transaction()
            with transaction.update_snapshot(snapshot_properties={COMMIT: commit}).merge_append() as producer:
                for file in missing:
                    producer.append_data_file(self.described(file))
            if made(transaction, lambda: self.load(name) is not None and not self._missing(name, files)):
                return
        raise self.busy()

    def _missing(self, name: str, files: list[DataFile]) -> list[DataFile]:
        """Which of some files a loaded table does not have."""
        live = {entry.path for entry in self.entries(name)}
        return [file for file in files if file.path not in live]

    def take_out(self, name: str, chosen: Callable[[str], bool]) -> None:
        """Takes files out of a table, by their paths."""
        for _ in tries():
            table = self.load(name)
            paths = {entry.path for entry in self.entries(name) if chosen(entry.path)}
            if not paths:
                return
            transaction = table.transaction()
            with transaction.update_snapshot().overwrite() as producer:
                for file in self.data_files(name, paths):
                    producer.delete_data_file(file)
            if made(transaction):
                return

    def described(self, file: DataFile) -> Any:
        """A file as Iceberg names it, with its figures from its footer."""
        from pyiceberg.io.pyarrow import parquet_file_to_data_file

        table = self.loaded[file.table]
        return parquet_file_to_data_file(table.io, table.metadata, self.url(file.path))

    def data_files(self, name: str, paths: set[str]) -> list[Any]:
        """The entries of a table's manifests for these files."""
        table = self.loaded[name]
        urls = {self.url(path) for path in paths}
        snapshot = table.current_snapshot()
        found = []
        for manifest in snapshot.manifests(table.io) if snapshot is not None and urls else ():
            if any(entry.url in urls for entry in self._manifests.get(manifest.manifest_path, ())):
                entries = manifest.fetch_manifest_entry(table.io)
                found += [e.data_file for e in entries if e.data_file.file_path in urls]
        return found

    def busy(self) -> StoreError:
        """The error of a change that could not be made, as others came first each time."""
        return StoreError(f"{self._shared} is written by so many others that a commit could not be made; try again")

    def bound(self, name: str, most: int, kept: int) -> None:
        """Forgets snapshots of a table that has more than `most`, as each commit copies the list of all. Those of the last `kept`
        nanoseconds stay for readers."""
        before = time.time_ns() - kept
        times = [snapshot.timestamp_ms * 1_000_000 for snapshot in self.loaded[name].metadata.snapshots]
        if len(times) > most and sum(when < before for when in times) > most // 2:  # forgetting reads the lists of all
            self.forget(name, before)

    def is_changed(self, name: str, table: Any) -> bool:
        """Whether a table is another one than it was: an error may only say that another machine took out the same first."""
        now = self.load(name)
        return now is None or now.metadata_location != table.metadata_location

    def forget(self, name: str, before: int) -> None:
        """Expires the snapshots of a table from before a time (nanoseconds), and deletes the lists that only they needed."""
        for _ in tries():
            table = self.load(name)
            if table is None or table.current_snapshot() is None:
                return
            current = table.current_snapshot().snapshot_id
            old = [s for s in table.metadata.snapshots if s.timestamp_ms < before // 1_000_000 and s.snapshot_id != current]
            if not old:
                return
            lists = {s.manifest_list for s in old}
            try:
                manifests = {m.manifest_path for s in old for m in s.manifests(table.io)}
                when = datetime.fromtimestamp(min(before / 1e9, 2**31), UTC)
                table.maintenance.expire_snapshots().older_than(when).commit()
            except _errors().CommitFailedException:
                continue
            except Exception:
                if not self.is_changed(name, table):
                    raise
                continue
            table = self.load(name)
            kept = {m.manifest_path for s in table.metadata.snapshots for m in s.manifests(table.io)}
            still = {s.manifest_list for s in table.metadata.snapshots}
            for url in (lists - still) | (manifests - kept):
                with contextlib.suppress(Exception):  # a leftover costs a few KB
                    table.io.delete(url)
                self._manifests.pop(url, None)
            return

    # --- the files themselves -----------------------------------------------------------------------------------------

    def upload(self, file: DataFile, local: Path, *, again: bool = True) -> None:
        """Puts a file of this machine into the storage; unless `again`, only where it is not there whole."""
        url = self.url(file.path)
        io = self.loaded[file.table].io
        if not again and (found := io.new_input(url)).exists() and len(found) == file.bytes:
            return
        with local.open("rb") as source, io.new_output(url).create(overwrite=True) as target:
            while data := source.read(_CHUNK):
                target.write(data)

    def source(self, path: str) -> Any:
        """An open file of the storage. Raises DamagedFile where the file is gone."""
        url = self.url(path)
        try:
            return self.loaded[path.split("/")[0]].io.new_input(url).open(seekable=True)
        except FileNotFoundError:
            raise lost(url) from None

    def delete(self, path: str) -> None:
        """Deletes a file from the storage."""
        url = self.url(path)
        with contextlib.suppress(FileNotFoundError):
            self.loaded[path.split("/")[0]].io.delete(url)

    def compare(self, table: Table, paths: Iterable[str]) -> None:
        """Compares the footers of files with their checksums, each once, as engines that read them do not. Raises StoreError."""
        new = [path for path in paths if path not in self._compared]

        def look(path: str) -> None:
            Opened(Path(path), table, source=self.source(path)).close()

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(look, new))
        self._compared.update(new)

    def dataset(self, table: Table, paths: Iterable[str]) -> Any:
        """Files of a table as an Arrow dataset, which compares pages with their checksums."""
        import pyarrow.dataset as datasets
        from pyiceberg.io.pyarrow import PyArrowFileIO

        urls = [self.url(path) for path in paths]
        io = self.loaded[table.name].io
        parsed = [PyArrowFileIO.parse_location(url, io.properties) for url in urls]
        filesystem = io.fs_by_scheme(*parsed[0][:2])
        names = [name for *_, name in parsed]
        pages = datasets.ParquetFragmentScanOptions(page_checksum_verification=True)
        form = datasets.ParquetFileFormat(default_fragment_scan_options=pages)
        return datasets.dataset(names, schema=table.arrow, format=form, filesystem=filesystem)

    def frame(self, table: str, paths: Iterable[str]) -> Any:
        """Files of a table as a Daft DataFrame. Raises ImportError where Daft is not installed."""
        import daft

        urls = [self.url(path) for path in paths]
        given = self.loaded[table].io.properties

        def known(names: dict[str, str]) -> dict[str, Any]:
            return {name: given[of] for name, of in names.items() if of in given}

        s3, azure = known(_S3), known(_AZURE)
        s3["use_ssl"] = not str(s3.get("endpoint_url", "")).startswith("http://")
        if (host := given.get("adls.blob-storage-authority")) is not None:
            account, scheme = given.get("adls.account-name", ""), given.get("adls.blob-storage-scheme", "https")
            host = f"{account}{host}" if host.startswith(".") else f"{host}/{account}"
            azure |= {"endpoint_url": f"{scheme}://{host}", "use_ssl": scheme == "https"}
        config = daft.io.IOConfig(
            s3=daft.io.S3Config(**s3), azure=daft.io.AzureConfig(**azure), gcs=daft.io.GCSConfig(**known(_GCS))
        )
        return daft.read_parquet(urls, io_config=config)


#: By what Daft calls a setting of a storage: what pyiceberg calls it.
_S3 = {"endpoint_url": "s3.endpoint", "key_id": "s3.access-key-id", "access_key": "s3.secret-access-key"}
_S3 |= {"session_token": "s3.session-token", "region_name": "s3.region"}
_AZURE = {"storage_account": "adls.account-name", "access_key": "adls.account-key", "sas_token": "adls.sas-token"}
_AZURE |= {"tenant_id": "adls.tenant-id", "client_id": "adls.client-id", "client_secret": "adls.client-secret"}
_GCS = {"project_id": "gcs.project-id", "token": "gcs.oauth2.token"}


def made(transaction: Any, there: Callable[[], bool] = lambda: False) -> bool:
    """Whether a transaction was made; False where another one came first. `there` looks whether one was made whose answer was
    lost on the way."""
    try:
        transaction.commit_transaction()
    except _errors().CommitFailedException:
        return False
    except Exception:
        with contextlib.suppress(Exception):  # the first error says what was wrong
            if there():
                return True
        raise
    return True


def tries() -> Iterator[int]:
    """Numbers of attempts: each waits longer than the one before, by chance. They are counted, as a busy machine needs more time
    for each."""
    wait = _WAIT
    for number in range(_TRIES):
        if number:
            time.sleep(random.uniform(0, wait))
            wait = min(wait * 2, _LONGEST)
        yield number


def _errors() -> Any:
    try:
        from pyiceberg import exceptions
    except ImportError:
        raise MissingExtra("a store that machines share", "iceberg") from None
    return exceptions
