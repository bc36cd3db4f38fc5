"""Folders that live as long as a process: `memory:` stores, in shared memory, and what queries spill.

Who uses such a folder holds a lock on the folder itself, as long as the process and the processes that it forks live. So the next
folder of the kind can tell what killed processes left, and removes it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from ..errors import StoreError
from .journal import close_all

_PREFIX = "odograph-memory-"
#: The folders that this process made.
_made: dict[str, int] = {}
#: The locks of new folders that nobody holds yet.
_new: dict[str, int] = {}


def made() -> Path:
    """A new folder of a store."""
    fast = Path("/dev/shm")
    folder = fresh(_PREFIX, fast if os.access(fast, os.W_OK) else None)
    _made[str(folder)] = os.getpid()
    return folder


def fresh(prefix: str, parent: Path | None = None) -> Path:
    """A new folder of this user alone (default: among temporary files); those of killed processes go. It is locked as
    long as this process lives, or whoever holds it. May raise OSError."""
    import tempfile  # late, as shutil: recording into a folder on disk needs neither

    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent, prefix)
    unnamed = tempfile.mkdtemp(prefix=f".{prefix}", dir=parent)
    folder = parent / Path(unnamed).name[1:]
    _new[str(folder)] = _named(unnamed, folder)
    return folder


def _named(unnamed: str, folder: Path) -> int:
    """Locks a new folder before it gets its name: by this name other processes find what they may remove. May raise OSError."""
    fd = os.open(unnamed, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        os.rename(unnamed, folder)
    except OSError:
        os.close(fd)
        os.rmdir(unnamed)
        raise
    return fd


def hold(folder: Path) -> int:
    """Holds a folder while this process lives. Raises StoreError where it is gone."""
    new = _new.pop(str(folder), None)
    if new is not None:
        return new
    for _ in range(2):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if os.path.exists(folder) and os.stat(folder).st_ino == os.fstat(fd).st_ino:
                return fd
            os.close(fd)
        except OSError:
            pass
        if str(folder) not in _made:
            break
        import tempfile

        with suppress(OSError):  # it was closed, and is used again; who shares it may have made it meanwhile
            return _named(tempfile.mkdtemp(prefix=f".{folder.name}", dir=folder.parent), folder)
    raise StoreError(f"the memory: store {folder.name} is gone; such a store lives as long as a process that uses the store")


def held(folder: Path, fd: int) -> int:
    """Holds a folder that `fd` (-1: none) does not hold, or that was made anew since. Raises StoreError as `hold` does."""
    try:
        if fd >= 0 and os.path.samestat(os.stat(folder), os.fstat(fd)):
            return fd
    except FileNotFoundError:
        pass
    new = hold(folder)
    if fd >= 0:
        os.close(fd)
    return new


def _sweep(parent: Path, prefix: str) -> None:
    """Removes what killed processes left."""
    import shutil

    for folder in parent.glob(f"{prefix}*"):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(folder).st_ino == os.fstat(fd).st_ino:  # else it is another one by now, and that has a lock of its own
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # a process uses it
            pass
        finally:
            os.close(fd)


def remove(folder: Path) -> None:
    """Removes a folder in memory, where this process made it and not one that it was forked from."""
    if _made.get(str(folder)) == os.getpid():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


@atexit.register
def _at_exit() -> None:
    close_all()  # before its folder goes: what is deleted under it a journal writes again
    for folder in list(_made):
        remove(Path(folder))
