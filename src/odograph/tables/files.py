"""One Parquet file of a table: written whole or not at all, read by row groups. Knows columns, not what rows mean."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self
from zlib import crc32

import msgspec

from ..codec import encode, loads
from ..errors import NewerStore, StoreError
from .schema import Table, arrow

#: In the footer: which commit the file belongs to, which files that commit brought, and what it was.
FOOTER = b"odograph.commit"
#: In the footer, and the last there: the CRC-32 of the footer with zeros in its place, as no page's checksum covers a footer.
_SUM = b"odograph.sum"
_UNSUMMED = b"00000000"
_MARK = _SUM + b"\x18\x08"  # as Thrift writes it before a text of eight bytes
_END = 64 << 10  # bytes at the end of a file that are read at once: mostly the whole footer


class DataFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of a table. `path` is relative to the folder of the lake, with `/`; `groups` are the rows of each row group; `crc`
    is the CRC-32 of the file, where it is known."""

    table: str
    path: str
    rows: int
    bytes: int
    groups: tuple[int, ...] = ()
    crc: int | None = None


class Footer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a file says of its commit. The last file that a commit writes names all of them: with it the commit is complete."""

    commit: str
    files: tuple[str, ...] = ()
    #: Files that this commit takes out (those that were merged into new ones).
    replaces: tuple[str, ...] = ()
    properties: dict[str, Any] = {}


class DamagedFile(StoreError):
    """A file that is gone, or that is not what was written: what it held is lost, and nothing else is."""


def lost(path: Path | str) -> DamagedFile:
    """What is said of a file that is gone."""
    return DamagedFile(f"{path} is gone: put the file back (`odograph doctor` lists all missing files)")


def refused(path: Path, doing: str, error: BaseException) -> StoreError:
    """What is said where the machine or the storage does not let a file or the list of the files be `written`, `read` or
    `opened`: it may be whole, and who was to write it holds what was to be in it."""
    why = " ".join(str(error).split())
    return StoreError(f"{path} can't be {doing}: {why}; nothing that was recorded is lost: do the same again once it can be")


def in_utf8(folder: Path) -> None:
    """Raises StoreError if a folder's name is no UTF-8."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise StoreError(
            f"the name of the folder {str(folder)!r} is no UTF-8, and Parquet files are written and read under names in UTF-8"
            " alone; rename the folder"
        ) from None


class Writer:
    """Writes one file of a table, row group by row group; it is there under its name only once `close` returned.

    The file is written beside its name, flushed to the disk, and renamed: a process that is killed leaves a file that begins
    with a dot, which nothing reads.
    """

    def __init__(
        self, root: Path, path: str, table: Table, footer: Footer, *, lean: int | None = None, small: bool = False
    ) -> None:
        """`lean`, `small`: see `Table.writing`."""
        parquet = _parquet()
        in_utf8(root)
        self._root = root
        self._target = root / path
        self._path = path
        self._table = table
        self._groups: list[int] = []
        self._temporary = self._target.with_name(f".{self._target.name}.{os.getpid()}")
        self._footer = footer
        try:
            folder(root, self._target.parent)
            opened(root, self._temporary).close()
            self._writer = parquet.ParquetWriter(self._temporary, table.arrow, **table.writing(lean=lean, small=small))
            if lean is None:
                self._writer.add_key_value_metadata({"ARROW:schema": table.described})
        except OSError as error:
            with suppress(OSError):
                self._temporary.unlink()
            raise refused(self._target, "written", error) from error

    def write(self, rows: Any) -> None:
        """One row group: an Arrow table, or rows as dicts."""
        pa = arrow()
        if not isinstance(rows, pa.Table):
            rows = pa.Table.from_pylist(list(rows), schema=self._table.arrow)
        if not rows.num_rows:
            return
        try:
            self._writer.write_table(rows, row_group_size=rows.num_rows)
        except OSError as error:
            self.abandon()
            raise refused(self._target, "written", error) from error
        self._groups.append(rows.num_rows)

    @property
    def size(self) -> int:
        """The bytes that were written so far; what is buffered is left out."""
        return self._temporary.stat().st_size

    def close(self, footer: Footer | None = None) -> DataFile:
        """Puts the file in its place. `footer` in the place of the one that it began with."""
        try:
            self._writer.add_key_value_metadata({FOOTER: msgspec.json.encode(footer or self._footer), _SUM: _UNSUMMED})
            self._writer.close()
            with self._temporary.open("r+b") as file:
                _add_sum(file)
                file.flush()
                os.fsync(file.fileno())
                size, crc = file.seek(0, os.SEEK_END), _crc(file)
            self._temporary.rename(self._target)
            sync_folder(self._target.parent)
        except OSError as error:
            self.abandon()
            raise refused(self._target, "written", error) from error
        return DataFile(self._table.name, self._path, sum(self._groups), size, tuple(self._groups), crc)

    def abandon(self) -> None:
        """Leaves nothing behind."""
        with suppress(OSError, arrow().ArrowException):
            self._writer.close()  # which may fail as the write did
        self._writer.is_open = False  # else pyarrow tries once more, and prints a traceback
        self._temporary.unlink(missing_ok=True)


def data_file(table: str, name: str, path: Path) -> DataFile:
    """What a commit says of a file that is there. Raises StoreError where it is no whole Parquet file."""
    try:
        about = _about(path)
        groups = tuple(about.row_group(i).num_rows for i in range(about.num_row_groups))
        return DataFile(table, name, about.num_rows, path.stat().st_size, groups, crc_of(path))
    except (OSError, ValueError, arrow().ArrowException) as error:
        raise StoreError(f"{path} can't be read: {error}") from error


def crc_of(path: Path) -> int:
    """The CRC-32 of a file. Raises OSError."""
    with _regular(path).open("rb") as file:
        return _crc(file)


def _regular(path: Path) -> Path:
    """The path of a file. Raises OSError for a folder, and for a pipe or a device: whoever opened it could wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is no file")
    return path


def _crc(file: IO[bytes]) -> int:
    file.seek(0)
    found = 0
    while chunk := file.read(1 << 18):
        found = crc32(chunk, found)
    return found


def _foot(file: Any) -> bytes:
    """The footer of an open file, with the eight bytes behind it: its length, and `PAR1`. Raises ValueError for no footer."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END))
    end = file.read(min(size, _END))
    length = 8 + int.from_bytes(end[-8:-4], "little")
    if end[-4:] != b"PAR1" or length > size:
        raise ValueError("it does not end as Parquet does")
    if length > len(end):
        file.seek(size - length)
        end = file.read(length)
    return bytes(end[-length:])


def _sum(foot: bytes, at: int) -> bytes:
    """The checksum of a footer that states it at a place, as the footer states it."""
    found = crc32(foot[at + len(_UNSUMMED) :], crc32(_UNSUMMED, crc32(foot[:at])))
    return b"%08x" % found


def _add_sum(file: IO[bytes]) -> None:
    foot = _foot(file)
    at = foot.rindex(_MARK + _UNSUMMED) + len(_MARK)
    file.seek(at - len(foot), os.SEEK_END)
    file.write(_sum(foot, at))


def _about(source: Any) -> Any:
    """What the footer of a file says, by a path or of an open file. Raises OSError, ValueError, and what Arrow raises; ValueError
    where the footer is not the one that was written. Earlier versions wrote no checksum."""
    if isinstance(source, Path):
        with _regular(source).open("rb") as file:
            foot = _foot(file)
    else:
        foot = _foot(source)
    at = foot.rfind(_MARK) + len(_MARK)
    if at >= len(_MARK) and foot[at : at + len(_UNSUMMED)] != _sum(foot, at):
        raise ValueError("its footer is not the one that was written")
    return _parquet().read_metadata(arrow().BufferReader(b"PAR1" + foot))


def is_private(root: Path) -> bool:
    """Whether a folder is its owner's alone: then so is all that is made in it."""
    return not root.stat().st_mode & 0o077


def folder(root: Path, path: Path) -> None:
    """Makes a folder inside of a lake's folder."""
    if not path.exists():
        if path != root:
            folder(root, path.parent)
        path.mkdir(0o700 if root.exists() and is_private(root) else 0o777, parents=path == root, exist_ok=True)


def opened(root: Path, path: Path) -> IO[bytes]:
    """Opens a new file inside of a lake's folder for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600 if is_private(root) else 0o666), "wb")


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def footer_of(path: Path) -> Footer | None:
    """What a file says of its commit; None for a file of somebody else. Raises StoreError where it is no whole Parquet file."""
    pa = arrow()
    try:
        found = (_about(path).metadata or {}).get(FOOTER)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{path} can't be read: {error}") from error
    if found is None:
        return None
    try:
        return msgspec.json.decode(found, type=Footer)
    except msgspec.DecodeError as error:
        raise StoreError(f"{path} has a footer that can't be read: {error}") from error


class Opened:
    """A file of a table that is open: it can be read even after it was deleted."""

    def __init__(self, path: Path, table: Table | None, *, source: Any = None, dictionaries: bool = False) -> None:
        """`table`: None for the table that the file describes. `source`: the open file, where it is none of this machine.
        `dictionaries`: texts that repeat stay dictionaries, which is quicker where rows are filtered and taken before they are
        decoded. The footer's checksum is compared now, and that of each page when the page is read.

        Raises NewerStore for a file of a later version of the table, and DamagedFile where the file is gone or damaged, which
        another error is not: that of a process which may open no more files, for one."""
        if source is None:
            in_utf8(path.parent)
        self.path = path
        self._local = source is None
        self._encoded: list[str] = []
        more: dict[str, Any] = {"page_checksum_verification": True, "pre_buffer": source is not None}
        try:
            given = path if source is None else source
            foot = _about(given)
            if table is None:
                table = Table.of_arrow(foot.schema.to_arrow_schema())
            if dictionaries:
                repeats = [c.name for c in table.columns if c.type == "text" and c.encoding in ("names", "shared")]
                there = set(foot.schema.names)  # a column that the file does not have can't be asked for
                self._encoded = more["read_dictionary"] = [name for name in repeats if name in there]
            self._file = _parquet().ParquetFile(given, metadata=foot, **more)
            about = self._file.schema_arrow.metadata or {}
        except FileNotFoundError as error:
            raise lost(path) from error
        except (OSError, ValueError, KeyError, arrow().ArrowException) as error:
            raise self._unreadable(error) from error
        #: What the file is read as.
        self.table: Table = table
        named = about.get(b"odograph.table", b"").decode(errors="replace")
        if named not in ("", table.name):
            self._file.close()
            raise DamagedFile(f"{path} can't be read: it is a file of the table {named!r}, not of {table.name!r}")
        said = about.get(b"odograph.version", b"1")
        version = int(said) if said.isdigit() else 1
        if version > table.version:
            self._file.close()
            raise NewerStore(
                f"{path.name} has version {version} of table {table.name!r}; this Odograph reads up to {table.version}:"
                " install a newer one; nothing was changed"
            )
        self.groups: int = self._file.metadata.num_row_groups
        self._there = set(self._file.schema_arrow.names)

    def __contains__(self, column: str) -> bool:
        return column in self._there

    def same(self, column: str) -> tuple[Any] | None:
        """The one value that all rows have in a column, where the file's statistics say so. They never do for lists, whose
        elements they describe, and for floats, of which they leave NaN out."""
        if column not in self._there:
            return (None,)
        pa, at = arrow(), self._file.schema_arrow.names.index(column)
        about, found = self._file.metadata, set[Any]()
        kind = self._file.schema_arrow.field(at).type
        if pa.types.is_floating(kind) or pa.types.is_list(kind):
            return None
        for group in range(about.num_row_groups):
            said = about.row_group(group).column(at).statistics
            if said is None or not said.has_null_count:
                return None
            if said.null_count == about.row_group(group).num_rows:
                found.add(None)
            elif said.null_count == 0 and said.has_min_max and said.min == said.max:
                found.add(said.min)
            else:
                return None
        return (found.pop(),) if len(found) == 1 else None

    @property
    def commit(self) -> str | None:
        """The id of the commit that brought the file, as the file says it."""
        try:
            return msgspec.json.decode((self._file.metadata.metadata or {}).get(FOOTER, b""), type=Footer).commit
        except msgspec.DecodeError:
            return None

    def bounds(self, group: int, column: str) -> tuple[Any, Any] | None:
        """The smallest and the largest value of a column in a row group, where the file says them."""
        if column not in self._there:
            return None
        found = self._file.metadata.row_group(group).column(self._file.schema_arrow.names.index(column)).statistics
        return (found.min, found.max) if found is not None and found.has_min_max else None

    def read(self, columns: Sequence[str] | None = None, groups: Iterable[int] | None = None, *, alone: bool = False) -> Any:
        """The rows of the file, or of some of its row groups, as an Arrow table with the columns of the table in their order.

        A column that the file does not have reads as null. `alone`: this thread reads all columns, which is quicker where a row
        group is small, and where other threads read other row groups. Raises StoreError where the file can't be read.
        """
        pa = arrow()
        table = self.table
        wanted = table.names if columns is None else tuple(columns)
        names = [name for name in wanted if name in self._there]
        try:
            if groups is None:
                found = self._file.read(names)
            else:
                found = self._file.read_row_groups(list(groups), names, use_threads=not alone)
            return self._cast(found, wanted)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def batches(self, columns: Sequence[str], rows: int, group: int) -> Iterator[Any]:
        """The rows of a row group, as `read` gives them, at most so many at a time."""
        pa, names = arrow(), [name for name in columns if name in self._there]
        try:
            for batch in self._file.iter_batches(rows, [group], names, use_threads=False):
                yield self._cast(pa.Table.from_batches([batch]), columns)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _cast(self, found: Any, wanted: Sequence[str]) -> Any:
        """These columns, with the types of the table."""
        pa, table = arrow(), self.table
        arrays, fields = [], []
        for name in wanted:
            field = table.arrow.field(name)
            if name in self._encoded:
                field = pa.field(name, pa.dictionary(pa.int32(), field.type))
            fields.append(field)
            arrays.append(found.column(name) if name in self._there else pa.nulls(found.num_rows, field.type))
        return pa.table(arrays, schema=pa.schema(fields, metadata=table.arrow.metadata))

    def _unreadable(self, error: BaseException) -> StoreError:
        """Why a file could not be read: an error with a number is the machine's or the storage's, one without is of the bytes.
        The errors of a storage have no number; of them only a wrong checksum is of the bytes."""
        of_bytes = getattr(error, "errno", None) in (None, errno.EISDIR) and not isinstance(error, MemoryError)
        if of_bytes and (self._local or not isinstance(error, OSError) or "page integrity" in str(error)):
            return DamagedFile(f"{self.path} can't be read: {' '.join(str(error).split())}")
        return refused(self.path, "read", error)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def properties_json(properties: Mapping[str, Any]) -> str:
    return encode(dict(properties)).decode()


def properties_of(text: str) -> dict[str, Any]:
    found = loads(text.encode())
    return found if isinstance(found, dict) else {}


def _parquet() -> Any:
    arrow()
    import pyarrow.parquet as parquet

    return parquet
