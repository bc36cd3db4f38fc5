"""The indices of steps that several processes take in one trajectory: a small file beside the journal, under a lock.

A trajectory that one process records alone has no such file. The file is there from when a process of the trajectory is forked,
or another process takes a step in it, until the trajectory ends. Where it is missing, what is recorded is counted.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from ..codec import encode, loads_or_raw
from .journal import Journal, file_mode

#: What the names of such files end with.
SUFFIX = ".steps"


class Counted(Protocol):
    """What counts the steps of a trajectory in this process."""

    journal: Journal

    def share(self) -> None: ...


#: What counts the steps of trajectories that have not ended.
_open: WeakValueDictionary[int, Counted] = WeakValueDictionary()


def watch(counted: Counted) -> None:
    """From now on, processes that are forked share a trajectory's steps, and what is recorded by this journal has not ended."""
    _open[id(counted)] = counted


def is_open(journal: Journal) -> bool:
    """Whether a trajectory that this process records by the journal has not ended."""
    return any(counted is not None and counted.journal is journal for counted in (place() for place in _open.valuerefs()))


def over(counted: Counted) -> None:
    """The trajectory has ended."""
    _open.pop(id(counted), None)


def _forks() -> None:
    for place in _open.valuerefs():
        counted = place()
        if counted is not None:
            counted.share()


os.register_at_fork(before=_forks)


def file_of(journal: Journal, trajectory: str) -> str:
    """The path of a trajectory's file, which is there only while several processes record in the trajectory."""
    return os.path.join(journal.folder, _hash(trajectory) + SUFFIX)


def _hash(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def others(file: str) -> bool:
    """Whether another process takes steps in the trajectory, too."""
    return os.access(file, os.F_OK)  # on the hot path: raises nothing


def begin(file: str, counts: dict[str | None, int]) -> None:
    """Makes the file, with each agent's next index as far as this process knows it. Raises OSError."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(Path(file).parent))
    _update(fd, counts)


def next_index(file: str, agent: str | None, index: int) -> int:
    """The index of the step that an agent begins now: `index`, or a later one where another process took that. Raises OSError, of
    which FileNotFoundError says that nobody shares the trajectory yet, or that it has ended."""
    return _update(os.open(file, os.O_RDWR | os.O_CLOEXEC), {agent: index}, 1)


def _update(fd: int, counts: dict[str | None, int], taken: int = 0) -> int:
    """Raises the file's counts to these, and by what is taken; the last of them before. Closes the file."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        found = loads_or_raw(os.pread(fd, 1 << 20, 0) or b"{}")
        kept = found if isinstance(found, dict) else {}
        index = 0
        for agent, count in counts.items():
            key = "" if agent is None else _hash(agent)
            known = kept.get(key)
            index = max(count, known) if type(known) is int else count
            kept[key] = index + taken
        data = encode(kept)
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
