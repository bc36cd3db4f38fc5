"""Journal files as lines: the content and the place of each line, and damage. Only reads."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from ..codec import DAMAGE, check_version, decode_record
from ..errors import StoreError
from ..streams import IdsLine, MessageLine, is_sound
from ..types import SCHEMA_VERSION, AnyRecord, LLMCall

_CHUNK = 8 << 20
_BUFFER = 256 * 1024  # of a file that is read line by line
_BEGIN = b'{"kind":'
_NAME = re.compile(r"([0-9a-z]+)(?:\.\d+)*\.jsonl")


class Header(msgspec.Struct, frozen=True, tag="journal", tag_field="kind"):
    """The first line of a journal file."""

    schema_version: int
    writer: str
    part: int = 0


class Damage(msgspec.Struct, frozen=True):
    """A line that can't be read. Only this line is lost. `torn`: the line ends a file whose writer was killed."""

    file: str
    offset: int
    reason: str
    torn: bool = False


class Gone(StoreError):
    """A journal file no longer exists: it was sealed or deleted meanwhile."""


_apart = msgspec.json.Decoder(MessageLine | IdsLine)
_header = msgspec.json.Decoder(Header)


class File(msgspec.Struct, frozen=True):
    """A journal file: its path, and the fields of its header."""

    path: Path
    writer: str
    version: int

    @property
    def name(self) -> str:
        return self.path.name


def is_folder(path: Path) -> bool:
    """Whether a folder is there. Raises StoreError if nobody lets this process look."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} can't be read: {getattr(error, 'strerror', error)}") from error


def journals(folder: Path) -> list[Path]:
    """The journal files in a folder: a folder or a pipe of such a name is none. Raises StoreError if the folder can't be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(folder / one.name for one in found if one.name.endswith(".jsonl") and one.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"the journal in {str(folder)!r} can't be read: {error.strerror}") from error


def settled_time(folder: Path) -> int:
    """The folder's time of change, -1 where a file could still appear without changing it: file systems' clocks are coarse."""
    try:
        changed = os.stat(folder).st_mtime_ns
    except OSError:
        return -1
    coarse = 2_100_000_000 if changed % 1_000_000_000 == 0 else 50_000_000
    return changed if time.time_ns() - changed >= coarse else -1


def size_of(path: Path) -> int:
    """The size of a file; -1 where it is gone since it was listed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def is_alive(path: Path | str) -> bool:
    """Whether the writer of a journal file still holds the file."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)  # no descriptor is left to find out
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def open_file(path: Path) -> File:
    """A journal file's header. If the header is damaged, the file's name gives the writer. Raises NewerStore."""
    with _opened(path) as file:
        line = file.readline(1 << 16)
    try:
        header = _header.decode(line)
    except DAMAGE:
        match = _NAME.fullmatch(path.name)
        return File(path, match[1] if match else path.stem, SCHEMA_VERSION)
    check_version(header.schema_version, f"journal {path.name}")
    return File(path, header.writer, header.schema_version)


def _opened(path: Path, buffer: int = -1) -> BinaryIO:
    try:
        return path.open("rb", buffer)
    except (FileNotFoundError, PermissionError):  # who lists files has an answer to these
        raise
    except OSError as error:
        raise StoreError(f"journal {path.name} can't be read: {error.strerror}") from error


def is_gone(fd: int, path: str | Path) -> bool:
    """Whether an open file was deleted. Some file systems count no links of any file."""
    return os.fstat(fd).st_nlink == 0 and not os.path.exists(path)


def complete_lines(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """The complete lines from byte `start` on, as (byte offset, line without newline). Leaves an unfinished last line out."""
    with _opened(path, _BUFFER) as file:
        file.seek(start)
        offset = start
        for line in file:
            if not line.endswith(b"\n"):  # another process may be writing it
                return
            yield offset, line[:-1]
            offset += len(line)


def whole_lines(data: bytes) -> bytes:
    """The lines that are whole, each without what another program wrote in front of it."""
    found = b""
    for line in data.split(b"\n")[:-1]:
        at = line.find(_BEGIN)
        while at >= 0 and not _is_json(line[at:]):
            at = line.find(_BEGIN, at + 1)
        if at >= 0:
            found += line[at:] + b"\n"
    return found


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except DAMAGE:
        return False
    return True


def unfinished(path: Path, start: int) -> bytes:
    """The bytes after the last newline, from byte `start` on."""
    with _opened(path) as file:
        file.seek(start)
        return file.read()


def decode(line: bytes, writer: str, version: int = SCHEMA_VERSION) -> AnyRecord | MessageLine | IdsLine | None:
    """The content of a line; None for a header. Raises one of DAMAGE for a damaged line."""
    if line.startswith((b'{"kind":"message"', b'{"kind":"ids"')):
        return cast(MessageLine | IdsLine, _apart.decode(line))
    if line.startswith(b'{"kind":"journal"'):
        return None
    record = decode_record(line, version)
    if not record.writer:
        msgspec.structs.force_setattr(record, "writer", writer)
    if isinstance(record, LLMCall) and record.packed:
        if not is_sound(record):
            raise msgspec.ValidationError("a call with packed parts that have no place in the call, or no length")
        msgspec.structs.force_setattr(record, "packed_by", writer)
    return record


_NEAR = 4096  # bytes between two ranges that cost less to read than another call of the operating system


def read_range(path: Path, start: int, stop: int) -> bytes:
    """The bytes of one range of a file. Raises StoreError if the file can't be read."""
    return next(read_ranges(path, [(start, stop)]))


def in_pieces(path: Path, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same lines as ranges of about 8 MB at most: a reader of a large trajectory holds one of them at a time."""
    for start, stop in ranges:
        while stop - start > _CHUNK:
            try:
                with path.open("rb") as file:
                    file.seek(start + _CHUNK)
                    file.readline()
                    middle = min(stop, file.tell())
            except OSError as error:
                raise Gone(f"journal {path.name} is gone") from error
            yield start, middle
            start = middle
        if stop > start:
            yield start, stop


def read_ranges(path: Path, ranges: list[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of each range, in the order given: the file is opened once, ranges near each other are read at once.

    Raises StoreError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            at = 0
            while at < len(ranges):
                first, last = ranges[at]
                end = at + 1
                while end < len(ranges) and last <= ranges[end][0] <= last + _NEAR and ranges[end][1] - first <= _CHUNK:
                    last = ranges[end][1]
                    end += 1
                data = os.pread(fd, last - first, first)
                yield from (data[start - first : stop - first] for start, stop in ranges[at:end])
                at = end
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise Gone(f"journal {path.name} is gone") from error
    except OSError as error:
        raise StoreError(f"journal {path.name} can't be read: {error.strerror}") from error
