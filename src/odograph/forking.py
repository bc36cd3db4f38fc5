"""Locks that a fork waits for. A forked process has no thread that would let go of a lock which another thread held: who takes
such a lock there would wait for ever."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

_locks: WeakSet[threading.RLock] = WeakSet()
_held: set[threading.RLock] = set()


def lock() -> threading.RLock:
    """A new lock, which no other thread holds while this process forks."""
    new = threading.RLock()
    _locks.add(new)
    return new


def _hold() -> None:
    """Takes all locks, and those that other threads make meanwhile. Threads take several of them in an order of their own: who
    waits here for one of them holds none."""
    global _held
    held: set[threading.RLock] = set()
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
