"""Faults in capture, and what passed it by: it never raises into the agent, so they are counted and warned of."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar, TypedDict

from .. import guard
from ..plain import message_of
from ..redact import withheld
from ..store.journal import Journal, redacting
from ..store.served import Unshipped


class Health(TypedDict):
    """The keys of `store.health()`: how recording fares in this process."""

    #: Records: written, waiting for a disk that failed, and lost.
    written: int
    waiting: int
    lost: int
    #: Why the disk can't be written to now.
    failure: str | None
    #: Files of the journal that were deleted or cut; what they held since the last check was written again.
    files_lost: int
    #: Files of the journal that might not grow any more (`ulimit -f`), and were followed by another.
    files_full: int
    #: Other faults in recording, and the last of them.
    faults: int
    last_fault: str | None
    #: Requests of recorded clients that are no calls of a model.
    unrecorded: int
    #: Calls made in a thread outside of any run while another thread is in a run.
    outside: int
    #: Of a store that is served elsewhere: bytes that wait on this machine, since when (seconds since 1970), and why.
    unshipped: int
    unshipped_since: float | None
    unshipped_why: str | None


class _Faults:
    """Faults in capture of this process: counted, warned of once."""

    count = 0
    last: BaseException | None = None
    #: Requests of recorded clients that are no calls of a model that any dialect knows.
    unrecorded = 0
    #: What was recorded, or was to be, outside of the run that it may belong to.
    outside = 0
    #: What was warned of: the stores whose disk failed, and None where anything else did.
    told: ClassVar[set[Path | None]] = set()


faults: _Faults = _Faults()


def fault(error: BaseException, *, disk: Path | None = None, fixed: bool = False) -> None:
    """Notes that capture failed: never raises into the agent, unless ODOGRAPH_STRICT=1.

    Where a store of this process redacts, what the error says is withheld: it may repeat what the store takes out. `disk`: the
    folder, where the error is of the store's own files and says nothing else; each store is warned of once. `fixed`: the error
    says nothing of what was recorded. What the handler of a signal raised is no fault, and is raised on.
    """
    if guard.of_a_signal(error):
        raise error
    if disk is None and not fixed and redacting():
        error = withheld(error)
    faults.count += 1
    faults.last = error
    if os.environ.get("ODOGRAPH_STRICT") == "1":
        raise error
    error.__traceback__ = None  # kept, it would keep the agent's frames alive: open streams, whole histories
    if disk in faults.told or sys.is_finalizing():
        return
    faults.told.add(disk)
    what = "record something" if disk is None else f"write to {disk}"
    guard.warn(f"odograph could not {what}: {type(error).__name__}: {message_of(error)}", stacklevel=3)


def unrecorded() -> None:
    """A recorded client asked something that is no call of a model that a dialect knows."""
    faults.unrecorded += 1


def outside(why: str) -> None:
    """Something was recorded, or was to be, by what may have lost its run: warned of once."""
    faults.outside += 1
    if faults.outside > 1 or sys.is_finalizing():
        return
    guard.warn(f"odograph: {why}", stacklevel=5)


def health(journal: Journal, unshipped: Unshipped) -> Health:
    """How recording into a journal fares."""
    journal.check()
    return {
        "written": journal.written,
        "waiting": journal.waiting,
        "lost": journal.lost,
        "failure": str(journal.failure) if journal.failure else None,
        "files_lost": journal.files_lost,
        "files_full": journal.files_full,
        "faults": faults.count,
        "last_fault": repr(faults.last) if faults.last else None,
        "unrecorded": faults.unrecorded,
        "outside": faults.outside,
        **unshipped,
    }
