"""Where a record belongs: the run, step or action that the current code is inside of. A context variable, and nothing else.

It follows asyncio tasks and `asyncio.to_thread` by itself; `bind` carries it into other threads.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from contextvars import ContextVar, Token, copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from .recorder import CallRef, Scope

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar[Scope | None] = ContextVar("odograph_scope", default=None)


class Director(Protocol):
    """Who may hold back, or answer, what a wrapped client asks: a runner that steps code, a replay."""

    def reply(self, dialect: str, sent: bytes) -> tuple[int, str, bytes] | None:
        """(status, content type, body) to answer with in place of the model; None: it is to be asked."""
        ...

    async def admit(self, within: Scope | None) -> None:
        """Returns when it may be asked."""
        ...

    def admit_sync(self, within: Scope | None) -> None:
        """The same for a client that is not async."""
        ...


#: Of the code that runs in this context; None: nobody directs.
director: ContextVar[Director | None] = ContextVar("odograph_director", default=None)

#: Opens a trajectory for a call that was made outside of any run; the store's facade sets it.
outside: Callable[[dict[str, Any]], Scope] | None = None


class _Faults:
    """Faults in capture of this process: counted, warned of once."""

    count = 0
    last: BaseException | None = None


faults = _Faults()


def current() -> Scope | None:
    """The run, step or action that the caller is inside of."""
    return _current.get()


def enter(scope: Scope) -> Token[Scope | None]:
    return _current.set(scope)


def leave(token: Token[Scope | None]) -> None:
    try:  # noqa: SIM105 - on the hot path
        _current.reset(token)
    except ValueError:
        pass


def bind(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn`, to be called in another thread as if it were called here: what it records belongs to the current scope."""
    context = copy_context()

    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        # a copy each time: one context can't be entered by two threads at once
        return context.copy().run(fn, *args, **kwargs)

    return bound


def record_call(fields: dict[str, Any], within: Scope | None = None) -> tuple[Scope, CallRef] | None:
    """Writes an llm_call into a scope (the current one if none is given); outside of any, as its own trajectory.

    Where it went, and the call; None where it could not be recorded. Never raises into the agent.
    """
    place = within or current()
    try:
        if place is not None:
            return place, place.record_call(fields)
        if outside is not None:
            place = outside(fields)
            return place, place.record_call(fields)
    except Exception as error:
        fault(error)
    return None


def fault(error: BaseException) -> None:
    """Notes that capture failed: never raises into the agent, unless ODOGRAPH_STRICT=1."""
    faults.count += 1
    faults.last = error
    if os.environ.get("ODOGRAPH_STRICT") == "1":
        raise error
    error.__traceback__ = None  # kept, it would keep the agent's frames alive: open streams, whole histories
    if faults.count == 1 and not sys.is_finalizing():
        warnings.warn(f"odograph could not record something: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=3)
