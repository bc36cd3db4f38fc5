"""Which run, step or action code is inside of. Knows nothing of records.

The current one is a context variable: it follows asyncio tasks and `asyncio.to_thread` by itself; `bind` carries it into other
threads. Nothing here raises.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token, copy_context
from sys import _getframe
from types import CodeType, FrameType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from weakref import WeakKeyDictionary, ref

from . import generators
from .faults import fault
from .faults import outside as outside_of_runs
from .generators import ENTERING, SUSPENDS
from .generators import entered as _in_generators
from .recorder import Recorder

#: How many scopes are looked through at most for one that is not over.
_DEEPEST = 100

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar[Entered | None] = ContextVar("odograph_scope", default=None)
#: The scope that code was given by name: it is that code's, whatever generator is at work.
_given: ContextVar[Entered | None] = ContextVar("odograph_given", default=None)


def current() -> Entered | None:
    """Returns the run, step or action around the caller; None outside of a run."""
    if _in_generators:
        inside: Entered
        for inside in generators.within(_getframe(1)):
            if inside._end == inside._recorder.ends:
                if _current.get() is not inside:
                    _current.set(inside)  # for the tasks that it starts
                return inside
    scope = _current.get()
    for _ in range(_DEEPEST):
        if scope is None:
            break
        if scope._end != scope._recorder.ends:
            scope = scope._around  # its run was left in another task or thread, or out of order: what is around it counts
        elif not scope.frames or _given.get() is scope or not generators.idle(scope.frames):
            break
        elif not generators.is_home(scope):
            return _starting(scope)
        elif generators.is_seen(scope, _getframe(1)):
            break
        else:  # another generator's, or what is over and shared this context
            if scope.guessed and not scope.beside:
                outside_of_runs(_WHOSE)
            scope.beside = True
            scope = _standing(scope._below or scope._around)
    return scope


def _starting(scope: Entered) -> Entered:
    """`scope`, whose generator waits for its consumer. Another with a run of its own may be at work, driven in turn with it: that
    one started this task or thread."""
    under = _standing(scope._below or scope._around)
    for _ in range(_DEEPEST):
        if under is None:
            break
        if under.frames and under._end == under._recorder.ends and not generators.idle(under.frames):
            return under
        under = _standing(under._below or under._around)
    return scope


def enter(scope: Entered | None) -> Token[Entered | None]:
    return _current.set(scope)


def give(scope: Entered | None) -> None:
    """Makes `scope` the current one of this context and its copies."""
    _given.set(scope)
    _current.set(scope)


def leave(scope: Entered, token: Token[Entered | None]) -> None:
    """Undoes `enter`. Out of order, what was entered later stays the current scope."""
    if _current.get() is not scope:
        return
    try:
        _current.reset(token)
    except (ValueError, RuntimeError):  # it was entered in another task or thread
        _current.set(scope._around)
    before = _current.get()
    if before is not None and before._gone:
        _current.set(_standing(before))


def _standing(scope: Entered | None) -> Entered | None:
    """The first that is not left, of a scope and of what its context had before that."""
    for _ in range(_DEEPEST):
        if scope is None or not scope._gone:
            break
        scope = scope._below or scope._around
    return scope


def bind(fn: Callable[P, R]) -> Callable[P, R]:
    """Returns `fn` for a call in another thread: the records that `fn` makes belong to the current scope."""
    context = copy_context()
    context.run(give, current())

    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        # a copy each time: one context can't be entered by two threads at once
        return context.copy().run(fn, *args, **kwargs)

    generators.edge(bound)
    return bound


#: The runs of this process that were entered and not left, and the thread or greenlet in which they were entered.
_open: WeakKeyDictionary[Entered, int] = WeakKeyDictionary()


def _thread() -> int:
    """The thread, or the greenlet in it (gevent): neither knows the context of who started it."""
    getcurrent = getattr(sys.modules.get("greenlet"), "getcurrent", None)  # which comes late in its import by another thread
    at_work = getcurrent and getcurrent()
    return threading.get_ident() if at_work is None or at_work.parent is None else id(at_work)


def opened(run: Entered) -> None:
    """A run was entered."""
    _open[run] = _thread()


def closed(run: Entered) -> None:
    """A run was left."""
    _open.pop(run, None)


#: This process.
process: int = os.getpid()


def _forked() -> None:
    global process
    process = os.getpid()


os.register_at_fork(after_in_child=_forked)


def is_anothers(entered_by: int) -> bool:
    """Whether a process that has not ended entered what this process leaves: this one was forked inside of it."""
    if entered_by == process:
        return False
    try:
        os.kill(entered_by, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    with suppress(OSError, IndexError), open(f"/proc/{entered_by}/stat") as file:  # perhaps nobody asked yet how it ended
        return file.read().rpartition(")")[2].split()[0] != "Z"
    return True  # a system that tells no more


def here() -> Entered | None:
    """The current scope, for a record. What may have lost its run is warned of: a thread while another is in a run, a task while
    a generator with a run awaits something, a generator beside another."""
    scope = current()
    if scope is not None:
        doubted(scope)
        return scope
    try:
        _missed()
    except Exception as error:
        fault(error)
    return None


def _missed() -> None:
    if not _open:
        return
    if (here := _thread()) not in list(_open.values()):
        thread = threading.current_thread()
        by = getattr(getattr(thread, "_target", None), "__module__", None)
        started = f", started by {by}" if isinstance(by, str) else ""
        outside_of_runs(
            f"a call outside of any run, in the thread {thread.name!r}{started}, while a run is open in another thread. A new"
            " thread does not know the run: give it odograph.bind(fn), or call odograph.instrument(threads=True)"
            if here == threading.get_ident()
            else "a call outside of any run, in a greenlet, while a run is open in another one. A new greenlet does not know the"
            " run: give it odograph.bind(fn)"
        )
    elif _in_generators and not all(generators.idle(run.frames) for run in list(_open)):
        outside_of_runs(f"a call outside of any run, {_ITEMS}")
    elif _in_generators and _current.get() is not None:
        outside_of_runs(
            "a call outside of any run, while a generator with a run waits. Its run is not that of other generators, nor of what"
            " comes when the function is over that drives it: open the run around them"
        )


_ITEMS = (
    "while a generator with a run awaits something. A task that a generator starts does not know the run where each item is asked"
    " for in a task of its own, as asyncio.wait_for(anext(...)) does: open the run around the loop"
)


_WHOSE = (
    "a call in a task or thread that one of several generators started, none of which is at work: it is recorded in"
    " the run that was entered last. Open the run around what starts the task"
)


def doubted(scope: Entered) -> None:
    """`scope` is current. What perhaps belongs to the run of a generator is warned of."""
    if not _in_generators:
        return
    try:
        if not scope.frames:
            if any(_is_lost(other, scope) for places in list(_in_generators.values()) for other in [place() for place in places]):
                outside_of_runs(f"a call in the run around a generator, {_ITEMS}")
        elif _given.get() is not scope and generators.idle(scope.frames) and not generators.is_home(scope):
            scope.guessed = True
            if scope.beside:
                outside_of_runs(_WHOSE)
    except Exception as error:
        fault(error)  # of what was not thought of


def _is_lost(other: Entered | None, scope: Entered) -> bool:
    """Whether this task may be of a generator that entered `other`, though `scope` is current: the run around, or one that the
    consumer entered between two items."""
    return (
        other is not None
        and (other._around is scope or other._around is scope._around)
        and generators.is_elsewhere(other)
        and not (_current.get() is scope and _is_home(scope))
    )


def _is_home(scope: Entered) -> bool:
    """Whether the current scope was entered in this context, and not in the one that this is a copy of."""
    try:
        _current.reset(scope._tokens[-1])
    except (IndexError, ValueError, RuntimeError):  # it was given by name, or entered in another context
        return False
    scope._tokens[-1] = _current.set(scope)
    return True


class Entered:
    """What code can be inside of. Enter it by `with` or `async with`."""

    _recorder: Recorder
    _tokens: list[Token[Entered | None]]
    #: The last end of the run that there was before this.
    _end: int
    #: The scope that it was entered in, and whether it was left.
    _around: Entered | None = None
    _gone: bool = False
    #: What its context had before: perhaps the scope of another generator.
    _below: Entered | None = None
    #: The generators that it was entered in and not left, the context and the task in which it was, and who asked for the item.
    frames: tuple[FrameType, ...] = ()
    home: Token[None] | None = None
    task: ref[Any] | None = None
    drivers: frozenset[tuple[int, CodeType]] = frozenset()
    #: The id of the frame that asked for the last item in which something was recorded.
    asked: int = 0
    #: Code was at work in its context that is not of its generator, nor of who drives that.
    beside: bool = False
    #: A task or thread recorded here while its generator waited: started by that, by who drives it, or by another one.
    guessed: bool = False

    def __enter__(self) -> Self:
        around = _current.get()
        if _in_generators:
            if around is not None and around is not self:
                self._below = around
            around = current()
        if not self._tokens:
            self._around, self._gone, self._end = around if around is not self else None, False, self._recorder.ends
        self._tokens.append(_current.set(self))
        frame = _getframe(1)
        code = frame.f_code
        if code.co_flags & SUSPENDS or code.co_name in ENTERING or _in_generators:  # each step asks: no call
            generators.enter(self, frame)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.frames:
            generators.leave(self, _getframe(1))
            self._around, self._below = _standing(self._around), _standing(self._below)  # what is left is let go
            self.drivers = frozenset()
        if self._tokens:
            token = self._tokens.pop()
            self._gone = not self._tokens
            leave(self, token)
        else:
            self._gone = True

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)
