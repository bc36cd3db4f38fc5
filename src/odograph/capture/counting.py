"""The indices of steps that several processes take in one trajectory: a small file beside the journal, under a lock.

A trajectory that one process records alone has no such file.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from ..codec import encode, loads_or_raw
from ..store.journal import Journal, file_mode
from .faults import fault

_forks = 0


def forks() -> int:
    """How often this process, or those that it was forked from, forked: what changes it shares its runs with another."""
    return _forks


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(before=_forked)


def file_of(journal: Journal, trajectory: str) -> str:
    """The path of a trajectory's file, which is there only while several processes record in the trajectory."""
    return os.path.join(journal.folder, f"{_hash(trajectory)}.steps")


def _hash(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def others(file: str) -> bool:
    """Whether another process takes steps in the trajectory, too."""
    return os.access(file, os.F_OK)  # on the hot path: raises nothing


def next_index(file: str, agent: str | None, index: int) -> int:
    """The index of the step that an agent begins now: `index`, or a later one where another process took that."""
    try:
        return _taken(file, agent, index)
    except FileNotFoundError:  # the store is not there yet, or was deleted
        return index
    except OSError as error:
        fault(error, of_disk=True)
        return index


def _taken(file: str, agent: str | None, index: int) -> int:
    key = "" if agent is None else _hash(agent)
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(Path(file).parent))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        found = loads_or_raw(os.pread(fd, 1 << 20, 0) or b"{}")
        counts = found if isinstance(found, dict) else {}
        taken = counts.get(key)
        if type(taken) is int:
            index = max(index, taken)
        data = encode({**counts, key: index + 1})
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        return index
    finally:
        os.close(fd)


def forget(file: str) -> None:
    """The trajectory has ended: who goes on with it counts the steps that are recorded."""
    if others(file):
        with suppress(OSError):
            os.unlink(file)
