"""The hot tier: one append-only file of JSON lines per writing process. Knows bytes and files, nothing of what lines say.

Laws:
- What `append` was given is with the operating system when it returns: a killed process loses nothing.
- What `hold` was given is with the operating system with the next `append`, or 50 ms later. It says only that something begins.
- One writer per file: it holds an exclusive `flock` on it. A free lock means a dead writer.
- A write that fails leaves no half line: the file is cut back, and the data is kept and written first the next time.
- A file that may not grow any more is followed by the next one.
- After `os.fork` the child opens a file of its own; the parent's is never touched.
- A file that was deleted, moved, or changed by another program is noticed with the next sync. What was written since the last one
  is written again, into a new file.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep, time_ns
from typing import TYPE_CHECKING, Literal

from .. import guard
from ..codec import IdMaker, encode
from ..locks import Lock
from ..types import SCHEMA_VERSION
from .lines import is_gone, whole_lines

if TYPE_CHECKING:
    from ..redact import Redactor
    from ..trajectory import Trajectory

Durability = Literal["group", "sync"]
_ROTATE = 64 << 20
_BACKLOG = 64 << 20
_GROUP_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_UNCHECKED = 1 << 20  # bytes that are written at most before the file is looked for
_FULL = 1 << 62  # no file is open, or none that can be gone on with


class Journal:
    """The file that this process writes. Hold `lock` around `stamp`, `new_id`, `new_stream`, `hold` and `append`."""

    #: Reads a trajectory back, by its whole id; the store gives it, for those who have to know what other processes wrote.
    read: Callable[[str], Trajectory]

    def __init__(
        self, folder: Path, durability: Durability = "group", *, shared: bool = False, prepare: Callable[[], None] | None = None
    ) -> None:
        """`shared`: a folder that is made is as open as the umask says, not its owner's alone. `prepare` is called before a file
        is made, and now and then while one is written; nothing is written where it raises OSError."""
        self.folder = folder
        self.durability: Durability = durability
        self._shared = shared
        self._prepare = prepare
        #: What takes secrets out of records; those who make lines of them apply it. None: nothing does.
        self.redactor: Redactor | None = None
        #: Called when what was written is on the disk, from any thread.
        self.synced: Callable[[], None] | None = None
        #: Changes with the file, and whenever messages must be written anew.
        self.generation: int = 0
        self._reset()
        _journals.add(self)

    def _reset(self) -> None:
        # reentrant: a signal handler or a finalizer may record while this thread is writing
        self.lock: Lock = Lock()
        #: Why writing fails at present, and what became of it; see `Store.health`.
        self.failure: OSError | None = None
        self.lost: int = 0
        self.written: int = 0
        #: How often the file was found deleted, or its folder exchanged, and how often it might not grow any more.
        self.files_lost: int = 0
        self.files_full: int = 0
        self.new_id: IdMaker = IdMaker()
        self.writer: str = f"{time_ns() // 1_000_000:011x}{os.urandom(4).hex()}"
        self.generation += 1
        self._part = 0
        self._fd = -1
        self._path = ""
        self._size = _FULL
        #: The size at which the file is looked for, or the next one begun.
        self._limit = 0
        self._seen = 0  # the size at which the file was last looked for
        self._head = 0  # the size of the file's head
        self._stream = 0
        self._last = 0
        self._seq = 0
        self._given = 0  # the size that the file has at most, if nobody else writes to it
        self._backlog: list[bytes] = []
        self._backlog_size = 0
        self._dirty = False
        self._held = b""
        self._together = False
        self._wake = threading.Event()
        self._flusher: threading.Thread | None = None

    def stamp(self) -> tuple[int, int]:
        """The time and the number of a record. The time is nanoseconds since 1970, never the same twice and never backwards in
        one writer. The number is one more than the last of this writer: so it increases in each trajectory, however often that is
        gone on with."""
        now = time_ns()
        if now <= self._last:
            now = self._last + 1
        self._last = now
        self._seq += 1
        return now, self._seq

    def new_stream(self) -> int:
        self._stream += 1
        return self._stream

    def hold(self, data: bytes) -> None:
        """Whole lines that may wait for the next `append`, with which they are one write, but for no longer than a group commit:
        lines that say only that something begins."""
        if self.durability == "sync":
            self.append(data)
            return
        self._held += data
        if not self._dirty:
            self._sync_soon()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is appended inside is written at the end, by one write. Other threads wait: this is for what takes no time."""
        with self.lock:
            outer, self._together = self._together, True
            try:
                yield
            finally:
                self._together = outer
                if self._held and not outer:
                    self.append(b"")

    def release(self) -> None:
        """Gives the waiting lines to the operating system, and those of failed writes."""
        with self.lock:  # whatever waits: another thread may have taken the lines, and be about to write them
            if self._held:
                self.append(b"")
            elif self._backlog:
                self._retry()

    def append(self, data: bytes) -> None:
        """Writes whole lines. At the return, the operating system has the lines (inside of `together`: at its end). Never raises
        OSError: see `failure`."""
        if self._together and data:
            self._held += data
            return
        if self._held:
            data, self._held = self._held + data, b""
        if self._backlog:
            self._keep(data)
            self._retry()
            return
        size = len(data)  # now: a signal handler, which may record, must not come between load and store of a figure
        try:
            if self._size > self._limit:
                self._turn()
                if self._backlog:
                    self._keep(data)
                    return
            self._given += size
            done = os.write(self._fd, data)
            if done != size:
                self._finish(self._fd, data, done)
            self._size += size
        except OSError as error:
            self._given -= size
            self._keep(data)
            if self._ends(error):
                self._retry()
            else:
                self._failed(error)
            return
        self.written += 1
        if not self._dirty or self.durability == "sync":
            self._sync_soon()

    def _finish(self, fd: int, data: bytes, done: int) -> None:
        """Writes the rest of a write that was cut short. If that fails, the file is as it was before the write."""
        rest = memoryview(data)[done:]
        try:
            while rest:
                wrote = os.write(fd, rest)
                done += wrote
                rest = rest[wrote:]
        except OSError:
            try:  # nobody else writes this file: its end is ours to cut
                os.ftruncate(fd, os.fstat(fd).st_size - done)
            except OSError:  # a torn line at the end of a file costs nothing: go on in another
                self._size = self._given = _FULL
            raise

    def _keep(self, data: bytes) -> None:
        self._backlog.append(data)
        self._backlog_size += len(data)

    def _failed(self, error: OSError) -> None:
        self.failure = error
        while self._backlog_size > _BACKLOG:
            self._backlog_size -= len(self._backlog.pop(0))
            self.lost += 1
            self.generation += 1  # what was dropped may hold messages that later calls refer to
        self._flush_behind()

    def _ends(self, error: OSError) -> bool:
        """Whether the file, which has lines, may not grow any more (`ulimit -f`): then the next file takes what comes."""
        if error.errno != errno.EFBIG or self._size in (self._head, _FULL):
            return False
        self._size = _FULL
        self.files_full += 1
        if self.files_full == 1:
            _warn(f"the journal {self._path} may not grow any more ({error.strerror}); recording continues in a new file")
        return True

    def _retry(self) -> None:
        while self._backlog:
            data = self._backlog.pop(0)  # a signal handler that records in between writes the others
            size = len(data)
            try:
                if self._size > self._limit:
                    self._turn(check=False)
                self._given += size
                done = os.write(self._fd, data)
                if done != size:
                    self._finish(self._fd, data, done)
                self._size += size
            except BaseException as error:
                self._backlog.insert(0, data)
                if not isinstance(error, OSError):
                    raise
                self._given -= size
                if not self._ends(error):
                    self._failed(error)
                    return
            else:
                self._backlog_size -= size
                self.written += 1
        self.failure = None
        self._sync_soon()

    @property
    def waiting(self) -> int:
        """How many failed writes wait in memory for the next try."""
        return len(self._backlog)

    def _turn(self, *, check: bool = True) -> None:
        """Opens the next file if the current file is full or none is open. Else looks whether the current file still exists."""
        if check and self._fd >= 0:
            self._check()
        if self._size > _ROTATE:
            self._open()
        self._limit = min(_ROTATE, self._size + _UNCHECKED)

    def check(self) -> None:
        """Looks whether the current file is still in its place. If it is not, the journal continues in a new file."""
        with self.lock:
            self._check()

    def _check(self) -> None:
        if self._fd < 0:
            return
        least = self._seen if self._size == _FULL else self._size  # before: a signal handler may record in between
        try:
            there, ours = os.stat(self._path), os.fstat(self._fd)
            lost = (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev) or not least <= ours.st_size <= self._given
            lost = lost or os.pread(self._fd, 1, self._seen - 1) != b"\n"  # a record stands behind half a line
        except (FileNotFoundError, NotADirectoryError):
            lost = True
        except OSError:
            return
        if not lost:
            self._seen = ours.st_size
            if self._prepare is not None:
                try:
                    self._prepare()
                except OSError as error:
                    self._shut()
                    self.failure = error
            return
        self.files_lost += 1
        self.generation += 1  # messages that later calls refer to went with the file
        recent = b""
        with contextlib.suppress(OSError):  # the file is there as long as it is open
            end = os.fstat(self._fd).st_size
            start = max(0, min(self._seen, end - (self._size - self._seen)))  # behind what was left of a file that was cut
            recent = whole_lines(os.pread(self._fd, end - start, start))
        self._shut()
        if recent:
            self.written -= 1
            self._backlog.insert(0, recent)
            self._backlog_size += len(recent)
        if self.files_lost == 1:
            _warn(
                f"the journal {self._path} was deleted, moved or changed by another program while it was written; its earlier"
                " records may be gone, and recording continues in a new file"
            )
        if self._backlog:
            self._retry()

    def make_folder(self) -> None:
        """The folder of the files, where it is not there yet."""
        mode = 0o777 if self._shared else 0o700
        if not self.folder.is_dir():
            self.folder.parent.mkdir(mode, parents=True, exist_ok=True)
            self.folder.mkdir(mode, exist_ok=True)

    def _open(self) -> None:
        """Opens the next file of this writer. Streams continue there: readers read a trajectory's lines from all files."""
        self._shut()
        self.make_folder()
        if self._prepare is not None:
            self._prepare()
        part, self._part = self._part, self._part + 1
        header = {
            "kind": "journal",
            "schema_version": SCHEMA_VERSION,
            "writer": self.writer,
            "part": part,
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "time": time_ns(),
        }
        data = encode(header) + b"\n"
        size = len(data)
        path = os.path.abspath(self.folder / (f"{self.writer}.{part}.jsonl" if part else f"{self.writer}.jsonl"))
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, file_mode(self.folder))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            done = os.write(fd, data)
            if done != size:
                self._finish(fd, data, done)
        except BaseException:  # each try would leave a file
            os.close(fd)
            os.unlink(path)
            raise
        if is_gone(fd, path):  # `shipping` took it for one that a killed process left
            os.close(fd)
            self._open()
            return
        while self._fd >= 0:  # a signal handler recorded meanwhile, in a file of its own
            self._shut()
        self._fd, self._path = fd, path
        self._size = self._given = self._seen = self._head = size

    def _shut(self) -> None:
        """Syncs the file to disk, and closes the file."""
        self._size = _FULL
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.fdatasync(fd)
            except OSError as error:
                self.failure = error
            os.close(fd)

    # --- durability ---------------------------------------------------------------------------------------------------

    def _sync_soon(self) -> None:
        self._dirty = True
        if self.durability == "sync":
            self._fdatasync()
            self._check()
            if self.synced is not None:
                self.synced()
            return
        self._flush_behind()

    def _flush_behind(self) -> None:
        if self._flusher is None:
            thread = threading.Thread(target=_flush, args=(weakref.ref(self), self._wake), name="odograph-sync", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the program ends, or has as many threads as it may: the next write tries again
                self._dirty = False
                return
            self._flusher = thread
        self._wake.set()

    def _fdatasync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self.failure = error

    def sync(self) -> None:
        """Calls fdatasync without the lock. A failure shows in `failure`."""
        with self.lock:
            self.release()
            self._dirty = False
            self._check()
            try:
                fd = os.dup(self._fd) if self._fd >= 0 else -1
            except OSError:  # the process has as many files open as it may: no second one, so the lock is held
                fd = -1
                self._fdatasync()
        if fd >= 0:
            try:
                os.fdatasync(fd)
                if not self._backlog:
                    self.failure = None
            except OSError as error:
                self.failure = error
            finally:
                os.close(fd)
        with self.lock:
            if self.synced is not None and self._fd >= 0:  # what was closed meanwhile, who closed it sends
                self.synced()

    def close(self, *, at_exit: bool = False) -> None:
        """Syncs and closes the file; the next `append` begins a new file. `at_exit`: a folder that was deleted stays deleted."""
        with self.lock:
            if not at_exit or os.path.isdir(self.folder):  # which raises nothing where the folder can't be looked into
                self.release()
                self._check()
            self.lost += len(self._backlog)
            self._backlog.clear()
            self._backlog_size = 0
            self._shut()

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:  # nobody closed it
            self._fd = -1
            os.close(fd)
        if hasattr(self, "_wake"):
            self._wake.set()


def _warn(what: str) -> None:
    guard.warn(f"odograph: {what}", stacklevel=3)


def _flush(journal: weakref.ref[Journal], wake: threading.Event) -> None:
    """The group commit: one fdatasync for all lines of the last 50 ms. What could not be written is tried again each second. The
    thread ends with its journal."""
    failed = False
    while True:
        wake.wait()
        if journal() is None:
            return
        _pause(_RETRY_SECONDS if failed else _GROUP_SECONDS)
        wake.clear()
        alive = journal()
        if alive is None:
            return
        alive.sync()
        failed = alive.waiting > 0
        del alive


def _pause(seconds: float) -> None:
    """Sleeps, whatever the program or its tests put in the place of `time.sleep`, and under a libfaketime whose sleep fails."""
    try:
        sleep(seconds)
    except OSError:
        _never.acquire(timeout=seconds)


_never = threading.Lock()
_never.acquire()
_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def redacting() -> bool:
    """Whether any store to which this process writes redacts."""
    return any(journal.redactor is not None for journal in list(_journals))


def _after_fork() -> None:
    for journal in list(_journals):
        if journal._fd >= 0:
            os.close(journal._fd)
        journal._reset()


def close_all() -> None:
    """Syncs all journals of this process to disk."""
    for journal in list(_journals):
        journal.close(at_exit=True)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_all)  # registered before all that records at the end of a program, and so called after it


def file_mode(folder: Path) -> int:
    """The mode of a store's new files: its owner's alone, as the journal's folder is, or what the process's umask leaves."""
    try:
        return 0o666 if os.stat(folder).st_mode & 0o077 else 0o600
    except OSError:
        return 0o600
