"""Runs a stranger's code for a bounded time. Knows nothing of what the code is asked for.

The code runs in a thread of its own, in a copy of the caller's context. The caller stops waiting when the time is over, whatever
the code does: it sleeps, waits for a lock or a server, or loops. Code of Python is then stopped. Code of C can't be: its thread
is left behind. Ctrl-C, and what the handler of a signal raises, reach the thread that waits, and pass through.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from contextvars import copy_context
from threading import main_thread
from typing import Any, TypeVar, cast

R = TypeVar("R")

#: How long a type is not asked after its code gave no answer, as a multiple of the time that was waited.
_PAUSE = 30
#: Seconds that a question of our own may take, which has bounds of its own.
_PATIENCE = 60.0
#: Threads that are left behind at most, before no type is asked that ever gave no answer.
_MOST_LEFT = 16
_STOPS = 5
#: Python 3.11 spins for ever in a traced or profiled thread while another thread is told to stop and can't, as it waits in C.
#: There only a thread that uses the processor is told.
_SPINS = sys.version_info < (3, 12)


class Refused(Exception):
    """A stranger's code raised, or gave no answer; the text says which."""


class Silent(Refused):
    """A stranger's code gave no answer in time."""


def of_a_signal(error: BaseException) -> bool:
    """Whether the handler of a signal raised an exception, such as a time limit of the program, wherever it came by. It is of
    nothing that was looked at, and has to reach the program."""
    at = error.__traceback__.tb_next if error.__traceback__ is not None else None
    if at is None or get_ident() != main_thread().ident:
        return False
    codes = {code for number in signal.valid_signals() if (code := _code_of(signal.getsignal(number))) is not None}
    while at is not None:
        if at.tb_frame.f_code in codes:
            return True
        at = at.tb_next
    return False


def _code_of(handler: Any) -> Any:
    """The code that a handler runs first; None for what is no code of Python."""
    if not callable(handler):
        return None
    handler = getattr(handler, "func", handler)  # of a partial
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


def warn(text: str, *, stacklevel: int) -> None:
    """Warns the program. What that raises there is not the agent's: the warning is made an error, or stderr is closed."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)
    except Exception as error:
        if of_a_signal(error):
            raise


class _TooLong(BaseException):
    """The time is over. No Exception, so that most handlers of the stranger let it pass."""


class _Thread:
    """A thread that runs one question at a time."""

    __slots__ = ("answer", "answered", "asked", "busy", "error", "ident", "question")

    def __init__(self) -> None:
        self.asked, self.answered = allocate_lock(), allocate_lock()
        self.asked.acquire()
        self.answered.acquire()
        self.ident = 0
        self.busy = False
        self.question: Callable[[], Any] | None = None
        self.answer: Any = None
        self.error: BaseException | None = None
        start_new_thread(self._serve, ())

    def _serve(self) -> None:
        self.ident = get_ident()
        try:
            while True:
                self.asked.acquire()
                question, self.question = self.question, None
                if question is None:  # it was left behind
                    return
                try:
                    self.answer = question()
                except BaseException as error:
                    self.error = error
                question = None
                self.busy = False
                self.answered.release()
        except BaseException:  # stopped, when it just had its answer
            self.busy = False

    def ask(self, question: Callable[[], Any], seconds: float) -> bool:
        """Whether there is an answer, or an error, in time."""
        self.question, self.busy = question, True
        self.asked.release()
        return self.answered.acquire(timeout=seconds)

    def leave(self) -> None:
        """Stops its code where that is of Python, and lets the thread end. Code that catches what stops it is told again."""
        try:
            import ctypes

            for _ in range(_STOPS):
                if not self.busy or (_SPINS and (sys.gettrace() or sys.getprofile()) and not self._runs()):
                    break
                if not self._enters():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(_TooLong))
                if self.answered.acquire(timeout=0.02):
                    break
        except Exception:  # a Python without ctypes
            pass
        self.question = None
        self.asked.release()

    def _runs(self) -> bool:
        """Whether the thread, which is alive, uses the processor now; False where the system can't tell."""
        if sys.platform == "darwin":
            return False
        clock = time.pthread_getcpuclockid(self.ident)
        before = time.clock_gettime_ns(clock)
        time.sleep(0.01)
        return time.clock_gettime_ns(clock) > before

    def _enters(self) -> bool:
        """Whether the thread stands in the head of a `with` statement, as one does that waits for a lock: Python 3.14 would lose
        the lock of a thread that is told to stop there; see `locks`."""
        if sys.version_info[:2] != (3, 14):
            return False
        from opcode import opmap

        frame = sys._current_frames().get(self.ident)
        return frame is not None and frame.f_code.co_code[frame.f_lasti - 2] == opmap["LOAD_SPECIAL"]


_idle: list[_Thread] = []
_left: list[_Thread] = []
#: By id: types whose code gave no answer, and until when they are not asked.
_silent: dict[int, tuple[type, float]] = {}


def _forked() -> None:
    _idle.clear()  # a child has none of its parent's threads
    _left.clear()


os.register_at_fork(after_in_child=_forked)


def ask(question: Callable[[], Any], kind: type, seconds: float) -> tuple[Any, BaseException | None]:
    """What code of a type answers, and what it raised. Raises Silent where there is no answer in time."""
    if _silent:
        known = _silent.get(id(kind))
        if known is not None:
            _left[:] = [thread for thread in _left if thread.busy]
            if time.monotonic() < known[1] or len(_left) >= _MOST_LEFT:
                raise Silent("another object of this type gave no answer")
    try:
        thread = _idle.pop() if _idle else _Thread()
    except (IndexError, RuntimeError):  # the program ends, or has as many threads as it may
        try:
            return question(), None
        except Exception as error:
            return None, error
    context = copy_context()
    done = False
    try:
        done = thread.ask(lambda: context.run(question), seconds)
    finally:
        if not done:
            thread.leave()
            _left.append(thread)
    if not done:
        _silent[id(kind)] = (kind, time.monotonic() + _PAUSE * seconds)
        raise Silent(f"no answer within {seconds:.2g} s")
    found = thread.answer, thread.error
    thread.answer = thread.error = None
    _idle.append(thread)
    return found


def with_room(question: Callable[[], R]) -> R:
    """What a question of our own answers. An agent that stands deep in calls leaves too little room for deep values: then the
    question is asked again in a thread, which has a stack of calls of its own. Raises RecursionError where that is too little, or
    where there is no answer: the question may be a function of the program's, which waits for what the caller holds."""
    try:
        return question()
    except RecursionError:
        try:
            answer, raised = ask(question, _Thread, _PATIENCE)
        except Silent:
            raise RecursionError("no answer from a thread with room") from None
    if raised is not None:
        raise raised
    return cast(R, answer)
