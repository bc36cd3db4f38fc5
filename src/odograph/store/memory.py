"""Folders that live as long as a process: `memory:` stores, in shared memory, and what queries spill.

Who uses such a folder holds a lock on the folder itself, as long as the process and the processes that it forks live. So the next
folder of the kind can tell what killed processes left, and removes it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from pathlib import Path

from ..errors import StoreError
from .journal import close_all

_PREFIX = "odograph-memory-"
#: The folders that this process made.
_made: dict[str, int] = {}


def made() -> Path:
    """A new folder of a store."""
    fast = Path("/dev/shm")
    folder = fresh(_PREFIX, fast if os.access(fast, os.W_OK) else None)
    _made[str(folder)] = os.getpid()
    return folder


def fresh(prefix: str, parent: Path | None = None) -> Path:
    """A new folder of this user alone (default: among temporary files); those of killed processes go. May raise OSError."""
    import tempfile  # late, as shutil: recording into a folder on disk needs neither

    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent, prefix)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def is_own(folder: Path) -> bool:
    """Whether this process, or one that it was forked from, made the folder."""
    return str(folder) in _made


def hold(folder: Path) -> int:
    """Holds a folder while this process lives. Raises StoreError where it is gone."""
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
        folder.mkdir(0o700, exist_ok=True)  # another process that opened a store swept it away before it was held
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
