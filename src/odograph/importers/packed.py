"""Session files in another dress: packed with gzip or zstd, in a zip, in UTF-16, as PowerShell's `>` writes what is printed, or
with their lines in one list, or over several lines each, as `jq -s .` and `jq .` write them.

A copy without the dress lives for the time of the import, within limits."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import InvalidInput, MissingExtra, described
from .bounds import MOST, limit, too_large
from .session import split_glued

_ZSTD = b"\x28\xb5\x2f\xfd"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CHUNK = 1 << 20
#: Of a zip, what may hold sessions. A zip in a zip stays closed.
_HOLD = (
    ".json", ".jsonl", ".ndjson", ".eval", ".traj", ".parquet", ".arrow", ".csv", ".tsv", ".md", ".txt", ".log", ".db", ".vscdb",
    ".gz", ".zst",
)  # fmt: skip


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file itself, an unpacked copy under its name without the last suffix, or a copy in UTF-8 under its name. Raises
    InvalidInput for a damaged or too large one, MissingExtra for zstd without `zstandard`."""
    if not path.is_file():
        yield path
        return
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith(_UTF_16):
            file.seek(0)
            with tempfile.TemporaryDirectory(prefix="odograph-") as folder:
                copy = Path(folder, path.name)
                decoder = codecs.getincrementaldecoder("utf-16")("replace")
                with copy.open("wb") as target:
                    while data := file.read(_CHUNK):
                        target.write(decoder.decode(data).encode("utf-8", "replace"))
                    target.write(decoder.decode(b"", True).encode("utf-8", "replace"))
                yield copy
            return
        if not head.startswith((b"\x1f\x8b", _ZSTD)):
            yield path
            return
        file.seek(0)
        with tempfile.TemporaryDirectory(prefix="odograph-") as folder:
            copy = Path(folder, path.stem)
            most, size = limit(path.stat().st_size), 0
            opened, damage = _opened(file, head)
            try:
                with opened as source, copy.open("wb") as target:
                    while data := source.read(_CHUNK):
                        size += len(data)
                        if size > most:
                            raise InvalidInput(too_large(path.name, f"more than {most:,}", path.stat().st_size))
                        target.write(data)
            except damage as error:
                raise InvalidInput(f"the packed file is damaged: {described(error)}") from None
            yield copy


def is_zip(path: Path) -> bool:
    """Whether a file is a zip with files that may hold sessions."""
    try:
        return path.is_file() and zipfile.is_zipfile(path) and bool(_sessions(zipfile.ZipFile(path)))
    except (zipfile.BadZipFile, OSError):
        return False


def _sessions(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [i for i in archive.infolist() if not i.is_dir() and Path(i.filename).suffix.lower() in _HOLD]


@contextmanager
def members(path: Path) -> Iterator[Path]:
    """A folder with the files of a zip that may hold sessions. Raises InvalidInput for a damaged or too large one, and for names
    that lead out of it."""
    with tempfile.TemporaryDirectory(prefix="odograph-") as temporary:
        folder, left = Path(temporary).resolve(), MOST
        try:
            with zipfile.ZipFile(path) as archive:
                for info in _sessions(archive):
                    most = min(left, limit(info.compress_size))
                    if info.file_size > most:
                        raise InvalidInput(too_large(info.filename, f"{info.file_size:,}", info.compress_size))
                    if not (folder / info.filename).resolve().is_relative_to(folder):
                        raise InvalidInput(f"the zip holds {info.filename!r}, which leads out of the zip")
                    left -= info.file_size  # more than it says is an error of its checksum
                    archive.extract(info, folder)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:  # RuntimeError: a password
            raise InvalidInput(f"the zip can't be unpacked: {described(error)}") from None
        yield folder


def as_lines(data: bytes) -> bytes:
    """The objects of a JSON list, or of a text with one after the other, as JSON lines; nothing where the data is no such text.
    What can't be read is the last line."""
    data = data.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n\x00")
    if not data.startswith((b"[", b"{")) or (data.startswith(b"{") and not split_glued(data.split(b"\n", 1)[0])[1]):
        return b""  # lines already
    is_list = data.startswith(b"[")
    values, rest = split_glued(data[1:].removesuffix(b"]").strip() if is_list else data)
    if not all(isinstance(value, dict) for value in values) or not (values or b"\n" in data):
        return b""
    lines = [*map(json.dumps, values), *([rest.replace("\n", " ")] if rest else [])]
    return "\n".join(lines).encode() + (b"" if rest else b"\n")


@contextmanager
def in_lines(path: Path) -> Iterator[Path]:
    """A copy of a file under its name with each object on a line."""
    with tempfile.TemporaryDirectory(prefix="odograph-") as folder:
        copy = Path(folder, path.name)
        copy.write_bytes(as_lines(path.read_bytes()))
        yield copy


def unpacked_value(data: bytes) -> bytes:
    """A value that was packed with zstd. Raises InvalidInput for a damaged or too large one, MissingExtra without `zstandard`."""
    opened, damage = _opened(io.BytesIO(data), data[:4])
    most = limit(len(data))
    try:
        with opened as source:
            found = bytes(source.read(most + 1))
    except damage as error:
        raise InvalidInput(f"the packed value is damaged: {described(error)}") from None
    if len(found) > most:
        raise InvalidInput(too_large("a packed value", f"more than {most:,}", len(data)))
    return found


def _opened(file: IO[bytes], head: bytes) -> tuple[Any, tuple[type[Exception], ...]]:
    """What unpacks a file, and what that raises where the file is damaged."""
    if head != _ZSTD:
        return gzip.GzipFile(fileobj=file), (OSError, EOFError, zlib.error)
    try:
        import zstandard
    except ImportError:
        raise MissingExtra("a file compressed with zstd", "zstd") from None
    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
    return reader, (OSError, zstandard.ZstdError)
