"""Locks that neither an interrupt nor a fork leaves held."""

from __future__ import annotations

import os
import sys
from _thread import RLock
from weakref import WeakSet

if sys.version_info[:2] == (3, 14):
    # What a signal's handler raises, Ctrl-C for one, may come right behind `__enter__`: Python 3.14 then leaves the `with`
    # statement and calls no `__exit__` (github.com/python/cpython/issues/148874). Nothing comes between this return and the body.
    class Lock(RLock):  # type: ignore[misc]
        def __enter__(self) -> bool:  # type: ignore[override]
            held = self._recursion_count()  # type: ignore[attr-defined]
            try:
                return self.acquire()
            except BaseException:
                if self._recursion_count() > held:  # type: ignore[attr-defined]
                    self.release()
                raise

else:
    Lock = RLock

_locks: WeakSet[Lock] = WeakSet()
_held: set[Lock] = set()


def for_forks() -> Lock:
    """A new lock, which no other thread holds while this process forks: the new process has no thread that would let go of it."""
    new = Lock()
    _locks.add(new)
    return new


def _hold() -> None:
    """Takes all locks, and those that other threads make meanwhile. Threads take several of them in an order of their own: who
    waits here for one of them holds none."""
    global _held
    held: set[Lock] = set()
    while missing := [one for one in list(_locks) if one not in held]:
        for one in missing:
            if not one.acquire(blocking=False):
                for other in held:
                    other.release()
                one.acquire()
                held = {one}
                break
            held.add(one)
    _held = held


def _let_go() -> None:
    global _held
    held, _held = _held, set()
    for one in held:
        one.release()


os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
