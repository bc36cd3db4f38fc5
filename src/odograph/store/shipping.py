"""What this machine recorded for a store that is served elsewhere: where it waits, and how it gets there.

Laws:
- Recording knows nothing of it: a journal is written as in any store, and this reads its files behind it.
- A file is sent from where the server has it, in whole lines. A file is deleted here only when its writer has ended and the
  server said that all of it is on its disk.
- What a killed process left is sent by whoever opens the store here next, or has it open.
- What one redaction made is apart from what another made, and is sent only where the server redacts so.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..codec import content_hash, encode
from ..errors import InvalidInput, NotFound, OdographError, StoreError
from ..locks import Lock
from ..log import logger
from .journal import Journal
from .lines import is_alive, is_gone
from .remote import BYTES, Line, Refusal, Unreached
from .served import Served, Stored, Unshipped

_CHUNK = 4 << 20
_BEAT = 15.0  # seconds after which a server hears of a living writer
_GATHER = 0.1  # seconds for which lines are gathered
_LONGEST = 30.0  # seconds between two attempts
_KNOWN = "server.json"
_FOLDER = re.compile("plain|[0-9a-f]{16}")


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server says of its store, as far as recording needs it."""

    #: How it redacts, as `store.json` has it.
    redact: Stored | None = None
    #: What the token may do; "record" is needed to send anything.
    right: str = ""


def digest_of(redact: Stored | None) -> str:
    """What tells one redaction from another; "" is none. Patterns may be secrets themselves."""
    return content_hash(redact) if redact else ""


class Shipping:
    """One served store, seen from one process: what the server says of it, and what of it waits here."""

    def __init__(self, where: Served, base: Path) -> None:
        self.line: Line = Line(where)
        self.base: Path = base
        #: Why a server was not asked or did not take what was sent, and since when; None: all is well.
        self.failure: str | None = None
        self.since: float | None = None
        self._journal: Journal | None = None
        self._closed = False
        self._digest = ""
        self._sent: dict[str, tuple[int, float]] = {}
        self._forked()
        _all.add(self)

    def _forked(self) -> None:
        self._lock = Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.line.forked()

    # --- what the server says -----------------------------------------------------------------------------------------

    def about(self) -> About | None:
        """What the server says, or said last where it is away; None where nobody knows. Raises Refusal."""
        try:
            with self.line.understood():
                found = msgspec.convert(self.line.get("store"), About)
        except Unreached as error:
            self._failed(error)
            with suppress(OSError, msgspec.DecodeError):
                return msgspec.json.decode((self.base / _KNOWN).read_bytes(), type=About)
            return None
        with suppress(OSError):
            self.base.mkdir(0o700, parents=True, exist_ok=True)
            new = self.base / f".{_KNOWN}.{os.getpid()}"
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(encode(msgspec.to_builtins(found)))
            os.replace(new, self.base / _KNOWN)
        return found

    def folder(self, redact: Stored | None) -> Path:
        """Where records wait that were redacted so."""
        self._digest = digest_of(redact)
        return self.base / self._folder

    @property
    def _folder(self) -> str:
        return self._digest[:16] or "plain"

    def follow(self, journal: Journal) -> None:
        """Sends what this journal writes."""
        self._journal = journal
        journal.synced = self.wake
        if next(self._files(), None) is not None:  # what others left
            self.wake()

    # --- sending ------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something was written: it is sent soon."""
        self._closed = False
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            with suppress(RuntimeError):  # the process ends: `_at_exit` sends
                self._thread = threading.Thread(
                    target=_run, args=(weakref.ref(self), self._wake), name="odograph-ship", daemon=True
                )
                self._thread.start()

    def flush(self) -> None:
        """Sends everything. Raises StoreError where something has to wait."""
        error = self._sent_all()
        if error is not None:
            raise error

    def ready(self) -> None:
        """Before a question: what was recorded on this machine is with the server. Raises StoreError where that of this process
        is not."""
        self._sent_all(others=False)

    def _sent_all(self, *, others: bool = True) -> StoreError | None:
        """Sends what it can: a file that has to wait keeps no other from being sent. The first error, where there was one; those
        of files that this process writes are raised without `others`, and so is that nobody answers."""
        if self._journal is not None:
            self._journal.release()
        first: StoreError | None = None
        with self._lock:
            for path, alive in self._files(all=not others):
                try:
                    self._ship(path, alive)
                except OdographError as error:
                    found = error if isinstance(error, StoreError) else StoreError(str(error))
                    first = first or found
                    if isinstance(error, Unreached) or (self._is_own(path) and not others):
                        self._failed(found)
                        if others:
                            break
                        raise found from None
            if first is None:
                self.failure = self.since = None
            else:
                self._failed(first)
        return first

    def others(self) -> Iterator[tuple[Path, list[Path]]]:
        """The folders of what was redacted in another way than the server redacts, with their files; where no writer lives."""
        paths = self._paths()
        for folder in sorted({path.parent.parent for path in paths} - {self.base / self._folder}):
            files = [path for path in paths if path.parent.parent == folder]
            if not any(map(is_alive, files)):
                yield folder, files

    def close(self) -> None:
        """Sends what it can. What has to wait is sent later; a line on stderr says so."""
        try:
            self.flush()
        except StoreError as error:
            waits = self.waiting()
            if waits:
                logger.warning(
                    "odograph: %s bytes wait in %s, and are sent when %s is opened again: %s",
                    f"{waits:,}", self.base, self.line, error,
                )  # fmt: skip
        self.line.close()
        self._closed = True

    def beat(self) -> bool:
        """One turn of the thread; whether all is sent."""
        try:
            self.flush()
            return True
        except StoreError:
            return False

    def waiting(self) -> int:
        """How many bytes are here that the server did not confirm."""
        total = 0
        for path in self._paths():
            with suppress(OSError):
                total += max(0, path.stat().st_size - self._sent.get(path.name, (0, 0.0))[0])
        return total

    def health(self) -> Unshipped:
        """What waits here, since when, and why."""
        return {"unshipped": self.waiting(), "unshipped_since": self.since, "unshipped_why": self.failure}

    def _failed(self, error: BaseException) -> None:
        self.failure = str(error)
        self.since = self.since or time.time()

    def _paths(self) -> list[Path]:
        """All files that wait here. What else is in the folder is not ours."""
        found: list[Path] = []
        with suppress(OSError):
            for folder in self.base.iterdir():
                if _FOLDER.fullmatch(folder.name):
                    found += (folder / "journal").glob("*.jsonl")
        return sorted(found)

    def _files(self, *, all: bool = False) -> Iterator[tuple[Path, bool]]:
        """The files that are this process's to send, and whether their writers live: its own, and those of writers that are gone.
        `all`: those of other living writers, too."""
        for path in self._paths():
            alive = is_alive(path)
            if all or not alive or self._is_own(path):
                yield path, alive

    def _is_own(self, path: Path) -> bool:
        return self._journal is not None and path.name.startswith(f"{self._journal.writer}.")

    def _ship(self, path: Path, alive: bool) -> None:
        digest = path.parent.parent.name
        if digest != self._folder:
            raise StoreError(
                f"the records in {str(path.parent.parent)!r} were redacted in another way than {self.line} redacts now;"
                f" `odograph ship --store {self.line}` redacts the records anew"
            )
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if not alive:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:  # another process sends it
                    return
                if is_gone(fd, path):
                    return
            self._send(fd, path, alive)
        finally:
            os.close(fd)

    def _send(self, fd: int, path: Path, alive: bool) -> None:
        name = path.name.removesuffix(".jsonl")
        size = os.fstat(fd).st_size
        at, heard = self._sent.get(path.name, (-1, 0.0)) if self._is_own(path) else (-1, 0.0)
        if alive and at == size and time.monotonic() - heard < _BEAT:
            return
        if at < 0:
            at = self._size(self.line.get("journal", name))
        while True:
            data = _lines(fd, at) if at <= size else b""
            if not data and (not alive or at > size):
                break
            try:
                query = {"from": str(at), "redact": self._digest}
                at = self._size(self.line.post("journal", name, body=data, kind=BYTES, **query))
            except Refusal as error:
                there = error.answer.get("size") if isinstance(error.answer, dict) else None
                if error.status != 409 or type(there) is not int or there == at:
                    raise
                at = there
                continue
            self._sent[path.name] = at, time.monotonic()
            if not data or (alive and at >= size):
                break
        if alive:
            return
        path.unlink(missing_ok=True)  # the server has all of its whole lines on its disk
        self._sent.pop(path.name, None)
        with suppress(Unreached, Refusal, NotFound, InvalidInput):
            self.line.post("journal", name, "done")

    def _size(self, answer: Any) -> int:
        """How many bytes of a journal a server says that it has."""
        with self.line.understood():
            return msgspec.convert(answer, _Size).size


class _Size(msgspec.Struct, frozen=True):
    size: int


def _lines(fd: int, at: int) -> bytes:
    """Whole lines from a place on: some megabytes, or one line that is longer."""
    size = _CHUNK
    while True:
        data = os.pread(fd, size, at)
        end = data.rfind(b"\n") + 1
        if end or len(data) < size:
            return data[:end]
        size *= 4


def _run(shipping: weakref.ref[Shipping], wake: threading.Event) -> None:
    """Sends what was written, and says now and then that its writer lives. Ends with its store."""
    pause = 0.0
    while True:
        woken = wake.wait(pause or _BEAT / 2)
        if woken:
            time.sleep(max(_GATHER, pause))
            wake.clear()
        alive = shipping()
        if alive is None:
            return
        pause = 0.0 if alive.beat() else min(_LONGEST, max(0.25, pause * 2))
        del alive


_all: weakref.WeakSet[Shipping] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one._forked()


@atexit.register
def _at_exit() -> None:
    """Sends what was recorded. It runs before the journals are closed, so it closes those that it follows."""
    for one in list(_all):
        if one._journal is not None and not one._closed and one._lock.acquire(timeout=_LONGEST):
            try:
                one._journal.close(at_exit=True)
                if next(one._files(), None) is not None:
                    one.close()
            finally:
                one._lock.release()


os.register_at_fork(after_in_child=_after_fork)
