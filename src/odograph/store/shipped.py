"""Journals of other machines: a server takes their bytes, each once and in order. Knows files and bytes, no HTTP.

Laws:
- Bytes are appended only where the sender says how many are here already, and is right. So a byte that is sent again is refused,
  and a sender that asks for the size goes on where the server stands, whatever was killed.
- A file holds whole lines. What a killed server wrote of a line is cut off before anything else is appended.
- A writer is alive while its machine keeps in touch: this process holds the file's `flock` as a local writer would, and lets it
  go when the writer is done, or was silent for `LEASE`.
- A file that was sealed and deleted leaves its size behind. A writer that comes back goes on in another file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time_ns

import msgspec

from ..codec import DAMAGE, check_version, encode
from ..errors import InvalidInput, OdographError, StoreError
from ..locks import Lock
from ..types import SCHEMA_VERSION
from .journal import file_mode
from .lines import Header, is_gone

#: Seconds after which a writer that is silent counts as dead.
LEASE = 60.0
_MOST = 10_000  # journals that are held at once
_TRIES = 100  # how often a lock is tried that a reader may hold for a moment
_NAME = re.compile(r"([0-9a-f]{19})(?:\.([1-9][0-9]{0,5}))?", re.ASCII)
_FILE = re.compile(r"([0-9a-f]{19})\.([0-9]{1,6})\.([0-9]{1,18})\.jsonl", re.ASCII)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_header = msgspec.json.Decoder(Header)


class Elsewhere(StoreError):
    """The sender stands at another byte than this store; `size` is where the store stands."""

    def __init__(self, name: str, size: int, at: int) -> None:
        super().__init__(f"journal {name} has {size:,} bytes here, not {at:,}")
        self.size = size


class Full(StoreError):
    """There is no room for what was sent."""


def is_shipped(name: str) -> bool:
    """Whether a journal file was shipped here: it may grow again, though nobody holds it now."""
    return _FILE.fullmatch(name) is not None


class _Held:
    """A journal file that this process appends to. Its bytes stand for those of the sender's file from `base` on."""

    def __init__(self, fd: int, path: Path, base: int) -> None:
        self.fd = fd
        self.path = path
        self.base = base
        self.until = 0.0
        self._head = 0
        end = os.fstat(fd).st_size
        whole = _whole(fd, end)
        if whole < end:
            os.ftruncate(fd, whole)
        self._end = whole
        if base and whole:
            self._head = os.pread(fd, 1 << 16, 0).find(b"\n") + 1

    @property
    def size(self) -> int:
        """How many bytes of the sender's file are here."""
        return self.base + self._end - self._head

    @property
    def begins(self) -> bool:
        """Whether nothing is in the file yet."""
        return self._end == 0

    def head(self, writer: str, part: int) -> None:
        """The first line of a file that goes on with another, which is gone."""
        about = {"kind": "journal", "schema_version": SCHEMA_VERSION, "writer": writer, "part": part, "time": time_ns()}
        line = encode(about) + b"\n"
        self.append(line)
        self._head = len(line)

    def append(self, data: bytes) -> None:
        """All of it, or nothing. Raises OSError."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError:
            os.ftruncate(self.fd, self._end)
            raise
        self._end += len(data)


class Receiving:
    """What other machines ship into one store."""

    def __init__(self, folder: Path, prepare: Callable[[], None] = lambda: None) -> None:
        """`folder`: the store's. `prepare` is called before bytes are taken."""
        self._folder = folder / "journal"
        self._prepare = prepare
        self._held: dict[str, _Held] = {}
        self._lock = Lock()
        self._over = threading.Event()
        self._take_up()
        threading.Thread(target=self._watch, name="odograph-leases", daemon=True).start()

    def size(self, name: str) -> int:
        """How many bytes of a journal are on disk here. Its writer is alive. Raises InvalidInput, StoreError."""
        with self._lock:
            held = self._open(name, make=False)
            if held is None:
                return _left(self._folder, name)
        return self.sync(name)

    def take(self, name: str, at: int, data: bytes) -> int:
        """Appends whole lines where the store has `at` bytes of a journal, and returns how many it has then. `sync` brings them
        to the disk. Raises Elsewhere, Full, InvalidInput, StoreError."""
        writer, part = _parts(name)
        if data and not data.endswith(b"\n"):
            raise InvalidInput("a journal is shipped in whole lines; the last one has no end")
        with self._lock:
            self._prepare()
            held = self._open(name, make=False)
            size = _left(self._folder, name) if held is None else held.size
            if at != size:
                raise Elsewhere(name, size, at)
            if not data:
                return size
            if at == 0:
                _check_header(data, writer, part)
            held = held or self._open(name, make=True)
            assert held is not None
            try:
                held.append(data)
            except OSError as error:
                self._shut(name)
                raise _said(name, error) from None
            return held.size

    def sync(self, name: str) -> int:
        """Brings what was taken to the disk; returns how many bytes of a journal the store has. Raises StoreError."""
        with self._lock:
            held = self._held.get(name)
            if held is None:
                return _left(self._folder, name)
            size, fd = held.size, os.dup(held.fd)
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise _said(name, error) from None
        finally:
            os.close(fd)
        return size

    def done(self, name: str) -> None:
        """The writer has ended, all of its bytes are here, and nobody will ask for this journal again. Raises InvalidInput."""
        with self._lock:
            held = self._open(name, make=False)
            if held is not None:
                with suppress(OSError):  # its bytes are here; that its size may be forgotten is all that this says
                    os.fchmod(held.fd, 0o440 & file_mode(self._folder))
                self._shut(name)
            with suppress(OSError):
                _ledger(self._folder, name).unlink()

    def alive(self) -> int:
        """How many journals have a living writer."""
        return len(self._held)

    def close(self) -> None:
        """Lets all journals go."""
        self._over.set()
        with self._lock:
            for name in list(self._held):
                self._shut(name)

    # --- files --------------------------------------------------------------------------------------------------------

    def _take_up(self) -> None:
        """After a start: writers that were in touch lately are alive, and will be back."""
        with suppress(OSError), os.scandir(self._folder) as files:
            for file in files:
                if (match := _FILE.fullmatch(file.name)) is not None and time.time() - file.stat().st_mtime < LEASE:
                    with suppress(OSError, OdographError):
                        self._open(_name(match), make=False)

    def _watch(self) -> None:
        while not self._over.wait(LEASE / 12):
            now = time.monotonic()
            with self._lock:
                for name in [n for n, held in self._held.items() if held.until < now]:
                    self._shut(name)

    def _open(self, name: str, *, make: bool) -> _Held | None:
        """The file that goes on with a journal, held; None where there is none and none is to be made."""
        held = self._held.get(name)
        if held is not None and is_gone(held.fd, held.path):  # somebody deleted it
            self._shut(name)
            held = None
        if held is None:
            held = self._found(name) or (self._made(name) if make else None)
            if held is None:
                return None
            self._held[name] = held
        held.until = time.monotonic() + LEASE
        with suppress(OSError):
            os.utime(held.fd)  # when it was last in touch, for a server that starts anew
        return held

    def _found(self, name: str) -> _Held | None:
        writer, part = _parts(name)
        while True:
            bases = [int(m[3]) for path in self._folder.glob(f"{writer}.{part}.*.jsonl") if (m := _FILE.fullmatch(path.name))]
            if not bases:
                return None
            path = self._folder / f"{writer}.{part}.{max(bases)}.jsonl"
            self._room(name)
            try:
                fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            except FileNotFoundError:  # sealed meanwhile
                continue
            except PermissionError:
                raise InvalidInput(f"journal {name} is complete here: its writer said so") from None
            except OSError as error:
                raise _said(name, error) from None
            try:
                _alone(fd, name)
                if is_gone(fd, path):
                    os.close(fd)
                    continue
                if not os.fstat(fd).st_mode & 0o200:
                    raise InvalidInput(f"journal {name} is complete here: its writer said so")
                os.utime(self._folder)  # a reader took it for a file that can't grow, and looks again where this changes
                return self._begun(_Held(fd, path, max(bases)), writer, part)
            except BaseException:
                os.close(fd)
                raise

    def _made(self, name: str) -> _Held:
        writer, part = _parts(name)
        base = _left(self._folder, name)
        path = self._folder / f"{writer}.{part}.{base}.jsonl"
        self._room(name)
        try:
            self._folder.parent.mkdir(0o700, parents=True, exist_ok=True)
            self._folder.mkdir(0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file_mode(self._folder))
            try:
                _alone(fd, name)
                _sync_folder(self._folder)
                return self._begun(_Held(fd, path, base), writer, part)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise error if isinstance(error, StoreError) else _said(name, error) from None

    def _begun(self, held: _Held, writer: str, part: int) -> _Held:
        if held.base and held.begins:
            held.head(writer, part)
        return held

    def _room(self, name: str) -> None:
        if len(self._held) >= _MOST:
            raise StoreError(f"{_MOST:,} journals are being shipped here, which is the most; {name} has to wait")

    def _shut(self, name: str) -> None:
        held = self._held.pop(name)
        os.close(held.fd)


# --- where a file is gone -----------------------------------------------------------------------------------------------


def drop(path: Path, sealed: int) -> bool:
    """Deletes a shipped journal file of which all is sealed and that nobody writes. Its size stays unless its writer was done."""
    match = _FILE.fullmatch(path.name)
    assert match is not None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who would go on with it waits, and then finds it gone
        about = os.fstat(fd)
        if sealed < about.st_size:
            return False
        if about.st_mode & 0o200:
            base = int(match[3])
            head = os.pread(fd, 1 << 16, 0).find(b"\n") + 1 if base else 0
            _leave(path.parent, _name(match), base + about.st_size - head)
        path.unlink()
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _ledger(journal: Path, name: str) -> Path:
    return journal.parent / "shipped" / name


def _left(journal: Path, name: str) -> int:
    """How many bytes of a journal whose file is gone were here."""
    try:
        return int(_ledger(journal, name).read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{str(_ledger(journal, name))!r}, the list of received parts of journal {name}, can't be read"
        ) from error


def _leave(journal: Path, name: str, size: int) -> None:
    path = _ledger(journal, name)
    path.parent.mkdir(0o777 if file_mode(journal) == 0o666 else 0o700, exist_ok=True)
    new = path.with_name(f".{name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file_mode(journal)), "wb", buffering=0) as file:
        file.write(str(size).encode())
        os.fsync(file.fileno())
    os.replace(new, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- names and bytes ------------------------------------------------------------------------------------------------------


def _parts(name: str) -> tuple[str, int]:
    """The writer and the part that the name of a journal says. Raises InvalidInput."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidInput(f"{name!r} is no name of a journal, such as 0198c2f4a1b0c3d4e5f or 0198c2f4a1b0c3d4e5f.1")
    return match[1], int(match[2] or 0)


def _name(match: re.Match[str]) -> str:
    return match[1] if match[2] == "0" else f"{match[1]}.{match[2]}"


def _check_header(data: bytes, writer: str, part: int) -> None:
    """A journal begins with the line that says whose it is. Raises InvalidInput, NewerStore."""
    line = data[: data.find(b"\n")]
    try:
        header = _header.decode(line)
    except DAMAGE:
        raise InvalidInput(f"a journal begins with its header; found {line[:80]!r}") from None
    if (header.writer, header.part) != (writer, part):
        raise InvalidInput(f"the header is that of part {header.part} of writer {header.writer[:40]!r}, not of {writer}")
    check_version(header.schema_version, f"journal {writer}")


def _whole(fd: int, end: int) -> int:
    """Where the last whole line ends."""
    step = 1 << 20
    while end > 0:
        start = max(0, end - step)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _alone(fd: int, name: str) -> None:
    """Takes the lock of a writer. Raises StoreError where another process has it; a reader has one for a moment only."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.002)
    raise StoreError(f"another process of this machine writes journal {name}")


def _said(name: str, error: OSError) -> StoreError:
    if error.errno in _FULL:
        return Full(f"the server has no room for journal {name}: {error.strerror}")
    return StoreError(f"the server can't write journal {name}: {error.strerror or error}")
