"""Calls that have passed -> the store, in a thread of their own, so that no call waits for the record of another.

A small call that passes alone is recorded at once: nobody waits for its record but its client, and to wake a thread takes longer
than the record.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from .. import dialects
from ..api import Store
from ..capture.exchange import Later
from ..capture.faults import fault
from ..dialects import Dialect
from .address import Address
from .passing import Passing
from .placing import Placer
from .senders import sender

T = TypeVar("T")
_SMALL = 1 << 16  # bytes of a call whose record keeps no new call waiting
_MOST_RUNS = 100  # whose WebSockets' histories are kept


class Recording:
    """Who writes: one thread, or whoever has `_writing`. Its `placer` is used by nobody else."""

    def __init__(self, store: Store) -> None:
        self.store: Store = store
        self.placer: Placer = Placer(store)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="odograph-proxy")
        self._writing = threading.Lock()
        #: One for each job that the thread has yet to do.
        self._jobs: list[None] = []
        self._later = Later()
        #: Calls that ended: each with what its recording is told to. Many may end at once, and one job of the thread takes them.
        self._ended: deque[tuple[Passing, BaseException | None, asyncio.Future[None]]] = deque()
        self._at_work = False
        self._recorded: deque[asyncio.Future[None]] = deque()
        self._told = False
        self._known: dict[str | None, dict[str, list[Any]]] = {}

    def begin(self, dialect: Dialect, path: str, address: Address, headers: Mapping[str, str], limit: int) -> Passing:
        """A call that begins."""
        placer = self.placer
        return Passing(dialect, path, address, sender(headers), placer.place, placer.look, self._later, placer.finished, limit)

    def fetched(self, path: str, address: Address, headers: Mapping[str, str], limit: int) -> Passing | None:
        """The call whose answer a GET fetches; None where that is none."""
        found = dialects.of_fetch(path)
        asked = None if found is None else self._later.get(found[1])
        if found is None or asked is None:
            return None
        placer = self.placer
        at = found[0], asked.path, address, sender(headers)
        return Passing(*at, placer.place, placer.look, self._later, placer.finished, limit, asked)

    def known(self, address: Address) -> dict[str, list[Any]]:
        """The histories up to the answers that a run's WebSockets got: one socket goes on where another ended."""
        found = self._known.setdefault(address.run, {})
        while len(self._known) > _MOST_RUNS:
            self._known.pop(next(iter(self._known)))
        return found

    def sticky(self, address: Address, headers: Mapping[str, str]) -> str | None:
        """What a request's upstream is chosen by: its run, else its session."""
        return address.run or sender(headers).session

    def _submit(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        def job() -> T:
            with self._writing:
                try:
                    return fn(*args, **kwargs)
                finally:
                    self._jobs.pop()

        self._jobs.append(None)
        return self._thread.submit(job)

    async def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls a function in the thread."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(fn, *args, **kwargs)))

    def call(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls a function in the thread, for callers that have no event loop."""
        return self._submit(fn, *args, **kwargs).result()

    async def quietly(self, fn: Callable[..., Any], *args: Any) -> None:
        """`run`, where a fault costs the record and not the call."""
        try:
            await self.run(fn, *args)
        except Exception as failure:
            _note(failure)

    def look(self, call: Passing) -> None:
        """Takes a call's request apart, in the thread."""
        self._submit(call.look)

    async def finish(self, call: Passing, error: BaseException | None = None, alone: bool = False) -> None:
        """Returns when the call is in the store. `alone`: no other call passes."""
        loop = asyncio.get_running_loop()
        call.ended = time.time_ns()
        if alone and call.size <= _SMALL and not self._jobs and self._writing.acquire(blocking=False):
            try:
                _quietly(call, error)
            finally:
                self._writing.release()
            return
        recorded = loop.create_future()
        self._ended.append((call, error, recorded))
        if not self._at_work:
            self._at_work = True
            self._submit(self._record, loop)
        await recorded

    def _record(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread: records the calls that ended."""
        while True:
            while self._ended:
                call, error, recorded = self._ended.popleft()
                _quietly(call, error)
                self._recorded.append(recorded)
                if not self._told:
                    self._told = True
                    loop.call_soon_threadsafe(self._tell)
            self._at_work = False
            if not self._ended:  # what comes from now on finds nobody at work, and begins another job
                return
            self._at_work = True

    def _tell(self) -> None:
        self._told = False
        while self._recorded:
            recorded = self._recorded.popleft()
            if not recorded.done():  # its client may be gone
                recorded.set_result(None)

    def soon(self, call: Passing) -> None:
        """Records a call whose client is gone."""
        call.ended = time.time_ns()
        self._submit(_quietly, call)

    def close(self) -> None:
        """Everything that was submitted is done."""
        self._thread.shutdown(wait=True)


def _quietly(call: Passing, error: BaseException | None = None) -> None:
    try:
        call.finish(error)
    except Exception as failure:
        _note(failure)


def _note(failure: Exception) -> None:
    with suppress(Exception):  # it is raised under ODOGRAPH_STRICT, and was counted
        fault(failure)
