"""Work in C that Ctrl-C and a time limit end. No signal gets through to Python in its thread: it runs in a thread of its own."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_STOPS = 1.0  # seconds in which work that is stopped mostly is over


def interruptible(do: Callable[[], T], stop: Callable[[], None], seconds: float | None) -> T:
    """What `do` gives. `stop` is called where it is not waited for any more. Raises TimeoutError after `seconds`.

    A `threading.Thread` would take twice the time, as its start waits until it runs.
    """
    given: list[T] = []
    wrong: list[BaseException] = []
    over = allocate_lock()
    over.acquire()

    def work() -> None:
        try:
            given.append(do())
        except BaseException as error:
            wrong.append(error)
        over.release()

    start_new_thread(work, ())
    try:
        if not over.acquire(timeout=-1 if seconds is None else seconds):
            raise TimeoutError
    except BaseException:
        stop()
        over.acquire(timeout=_STOPS)
        raise
    if wrong:
        raise wrong[0]
    return given[0]
