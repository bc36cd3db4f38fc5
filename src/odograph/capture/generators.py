"""Which of the program's own generators is at work, and what was entered in each and not left since.

A generator shares the context of who asks it for the next item: two that are driven in turn would see what the other entered
last, and one that is driven in a new context each time would see nothing. So what is entered in a generator belongs to its frame.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any
from weakref import ref

_ASYNC_GENERATOR = 0x200  # CO_ASYNC_GENERATOR of `inspect`, which is slow to import
_GENERATOR = 0x20 | _ASYNC_GENERATOR
_COROUTINE = 0x80 | 0x100
#: Code that may be at work in one generator or another, not only in its caller's.
SUSPENDS = _GENERATOR | _COROUTINE
#: What enters something for the code that called it. The last is pytest's: a function that returns a generator's first item may
#: enter for its caller, as a fixture does, or have looked into a stream, as servers do. Only its name tells which.
ENTERING = frozenset(("__enter__", "__aenter__", "enter_context", "enter_async_context", "call_fixture_func"))
#: So many who asked a generator for its items are remembered at most, beside the last.
_MOST = 100
#: What runs callbacks and jobs that know nothing of each other.
_LOOPS = (("asyncio.events", "Handle", "_run"), ("concurrent.futures.thread", "_WorkItem", "run"))

#: What is entered in each generator, by the id of its frame. A scope holds its frames, so that no id becomes another's.
entered: dict[int, list[ref[Any]]] = {}
#: Code that sets the current scope for all that it calls: what is around that code does not count.
_edges: set[CodeType] = set()
#: Tells a context from the others.
_home: ContextVar[None] = ContextVar("odograph_home")


def edge(fn: Any) -> None:
    """Notes a function that sets the current scope for all that it calls."""
    _edges.add(fn.__code__)


def at_work(frame: FrameType | None) -> Iterator[FrameType]:
    """The generators that are at work, from `frame` outwards, up to the edge of the context: the task's own coroutine."""
    awaited = False
    while frame is not None and frame.f_code not in _edges:
        flags, caller = frame.f_code.co_flags, frame.f_back
        if flags & _COROUTINE:
            awaited = True
        elif awaited and not flags & _ASYNC_GENERATOR:
            return
        elif _is_own(frame) and (caller is None or caller.f_code.co_name not in ENTERING):
            yield frame  # the others end before what is entered in them: `contextlib.contextmanager` enters for its caller
        frame = caller


def _is_own(frame: FrameType) -> bool:
    """Whether a frame is a generator's that is driven for itself."""
    return bool(frame.f_code.co_flags & _GENERATOR) and frame.f_code.co_name != "<genexpr>"


def enter(scope: Any, frame: FrameType) -> None:
    """A scope is entered in `frame`, perhaps in a generator."""
    inside = next(at_work(frame), None)
    if inside is None:
        return
    for module, kind, method in _LOOPS:
        if module in sys.modules:
            edge(getattr(getattr(sys.modules[module], kind), method))
    key = id(inside)
    scope.frames = (*scope.frames, inside)
    scope.home, scope.drivers, scope.task = _home.set(None), frozenset(_drivers(inside)), _task()
    entered.setdefault(key, []).append(ref(scope, lambda dead: _forget(key, dead)))


def _drivers(inside: FrameType) -> Iterator[tuple[int, CodeType]]:
    """Who asks the generator for its items: the function, and what is between. None is held: its objects are its own."""
    frame = inside.f_back
    while frame is not None:
        yield id(frame), frame.f_code
        if not frame.f_code.co_flags & _GENERATOR and not frame.f_code.co_name.endswith("comp>"):
            break
        frame = frame.f_back


def _task() -> ref[Any] | None:
    """The task of asyncio that is at work."""
    tasks = sys.modules.get("asyncio.tasks")
    loop = tasks and tasks.events._get_running_loop()
    task = tasks.current_task(loop) if tasks and loop else None
    return ref(task) if task else None


def is_elsewhere(scope: Any) -> bool:
    """Whether the task is over in which a scope was entered, and its generator awaits something, for another task."""
    task = scope.task and scope.task()
    return scope.task is not None and (task is None or task.done()) and not idle(scope.frames)


def is_home(scope: Any) -> bool:
    """Whether this is the context in which a scope was entered in a generator, and no copy."""
    try:
        _home.reset(scope.home)
    except (ValueError, RuntimeError):
        return False
    scope.home = _home.set(None)
    return True


def is_seen(scope: Any, frame: FrameType | None) -> bool:
    """Whether code is of what drives a scope's generator, or called by it: not in another generator that it drives, too."""
    called: FrameType | None = None
    while frame is not None and frame.f_code not in _edges:
        if (id(frame), frame.f_code) in scope.drivers:
            return called is None or not _is_own(called)
        called, frame = frame, frame.f_back
    return False


def leave(scope: Any, frame: FrameType | None) -> None:
    """A scope is left in `frame`: in the generator that it was entered in, or, by whoever, in another place."""
    inside = next(at_work(frame), None)
    if inside not in scope.frames:
        inside = scope.frames[-1]
    kept = list(reversed(scope.frames))
    kept.remove(inside)  # where it was entered in one twice, the last time
    scope.frames = tuple(reversed(kept))
    _forget(id(inside), ref(scope))


def _forget(key: int, gone: ref[Any]) -> None:
    here = entered.get(key)
    if here is not None and gone in here:
        here.remove(gone)
        if not here:
            entered.pop(key, None)


def within(frame: FrameType | None) -> Iterator[Any]:
    """What is entered in the generators that are at work, the innermost first."""
    for inside in at_work(frame):
        for found in reversed(entered.get(id(inside), ())):
            scope = found()
            if scope is not None and inside in scope.frames:
                if id(inside.f_back) != scope.asked:
                    scope.asked = id(inside.f_back)
                    scope.drivers = frozenset(_drivers(inside)) | (scope.drivers if len(scope.drivers) < _MOST else frozenset())
                yield scope


def idle(frames: tuple[FrameType, ...]) -> bool:
    """Whether all of these generators wait for their consumers, and none for what it called or awaits."""
    from opcode import opmap  # only here, where generators with runs of their own are at work

    for frame in frames:
        code, last = frame.f_code.co_code, frame.f_lasti
        at = last if code[last] == opmap["RESUME"] else last + 2  # Python 3.13 is behind the `yield` already
        if code[at : at + 1] != bytes((opmap["RESUME"],)) or code[at + 1] & 3 not in (1, 2):  # 3: behind an `await`
            return False
    return True
