"""Work in C that Ctrl-C and a time limit end. No signal gets through to Python in its thread: it runs in a thread of its own."""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_STOPS = 1.0  # seconds in which work that is stopped mostly is over


class _Thread:
    """A thread that is kept: in each new one DuckDB makes its memory anew, which takes a small query 0.3 ms."""

    def __init__(self) -> None:
        self._begin = allocate_lock()
        self._begin.acquire()
        self._work: Callable[[], None] = _nothing
        start_new_thread(self._run, ())

    def begin(self, work: Callable[[], None]) -> None:
        self._work = work
        self._begin.release()

    def _run(self) -> None:
        while True:
            self._begin.acquire()
            work, self._work = self._work, _nothing
            work()
            del work  # what it read is not this thread's to keep


#: Threads that wait for work. A child of this process has none of them.
_idle: list[_Thread] = []
os.register_at_fork(after_in_child=_idle.clear)


def interruptible(do: Callable[[], T], stop: Callable[[], None], seconds: float | None) -> T:
    """What `do` gives. `stop` is called where it is not waited for any more. Raises TimeoutError after `seconds`."""
    given: list[T] = []
    wrong: list[BaseException] = []
    over = allocate_lock()
    over.acquire()
    try:
        thread = _idle.pop()
    except IndexError:
        thread = _Thread()

    def work() -> None:
        try:
            given.append(do())
        except BaseException as error:
            wrong.append(error)
        _idle.append(thread)  # before it is over: the next question finds it
        over.release()

    try:
        thread.begin(work)
        if not over.acquire(timeout=-1 if seconds is None else seconds):
            raise TimeoutError
    except BaseException:
        stop()
        over.acquire(timeout=_STOPS)
        raise
    if wrong:
        raise wrong[0]
    return given[0]


def _nothing() -> None:
    pass
