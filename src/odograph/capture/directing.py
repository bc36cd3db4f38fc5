"""Who directs the model calls of the code that runs in this context: a runner that steps the code, or a replay."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar

from .entering import enter
from .scope import Scope, current

P = ParamSpec("P")
R = TypeVar("R")


class Director(Protocol):
    """Holds back, or answers, the requests of a wrapped client: a runner that steps code, or a replay."""

    def reply(self, dialect: str, sent: bytes, streams: bool) -> tuple[int, str, bytes] | None:
        """Returns (status, content type, body) to answer with in place of the model; None: ask the model."""
        ...

    async def admit(self, within: Scope | None) -> None:
        """Returns when the model may be asked."""
        ...

    def admit_sync(self, within: Scope | None) -> None:
        """`admit` for a client that is not async."""
        ...

    async def asked(self, exchange: Any) -> bytes | None:
        """The body that an admitted request (an `Exchange`) goes out with; None: as it is."""
        ...

    def asked_sync(self, exchange: Any) -> bytes | None:
        """`asked` for a client that is not async."""
        ...

    def looks(self, within: Scope | None) -> bool:
        """Whether it wants to see answers before the code does."""
        ...

    async def answered(self, exchange: Any, content: bytes) -> bytes | None:
        """The body that the code gets in the place of a recorded one; None: as it is. Called where `looks` says so."""
        ...

    def answered_sync(self, exchange: Any, content: bytes) -> bytes | None:
        """`answered` for a client that is not async."""
        ...


#: Of the code that runs in this context; None: nobody directs.
director: ContextVar[Director | None] = ContextVar("odograph_director", default=None)


def carried(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn` with the current scope (and who directs it), and nothing else of the context."""
    within, directed = current(), director.get()

    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        entered, directs = enter(within), director.set(directed)
        try:
            return fn(*args, **kwargs)
        finally:
            entered.var.reset(entered)
            director.reset(directs)

    return inside
