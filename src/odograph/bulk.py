"""Many things at once: a bounded number of async workers, and a bar that says how far they are. Knows nothing of the things."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import locks
from .errors import InvalidInput

if TYPE_CHECKING:  # a process that only reads needs none of it: a sixth of the time of `odograph ls`
    import asyncio
    from concurrent.futures import Future

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")
#: `progress(done, total)`, whether there is a bar, or None: a bar on a terminal.
Progress = bool | Callable[[int, int], None] | None


async def for_each(things: Iterable[T], do: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Awaits `do(thing)` for each thing, at most `at_once` at a time. An exception stops the others, and is then raised."""
    import asyncio

    waiting = iter(things)

    async def work() -> None:
        for thing in waiting:
            await do(thing)

    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def ahead(do: Callable[[T], S], given: Iterable[T], threads: int) -> Iterator[S]:
    """What `do` makes of each thing, in order. So many threads work, and are at most one thing more ahead of who takes it."""
    if threads < 2:
        yield from map(do, given)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[S]] = deque()
        for one in given:
            waiting.append(pool.submit(do, one))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_YOUNG = 50_000  # new objects after which Python's collector looks, where much is made; its own number is 700
_MUCH = 100  # things: fewer are done so soon that nobody else's thresholds are worth touching
_asking = 0  # how many do much now
_before: tuple[int, int, int] | None = None  # the thresholds before the first of them, unless somebody set others since
_changing = locks.for_forks()


@contextmanager
def rarely_collected(things: int = _MUCH) -> Iterator[None]:
    """Meanwhile, where there are many things, Python's collector looks for cycles less often: its looks take a fifth of the
    processor time of awaiting many answers, which leave no cycles. What others set meanwhile stays."""
    global _asking, _before
    if things < _MUCH:
        yield
        return
    with _changing:
        _asking += 1
        found = gc.get_threshold()
        if 0 < found[0] < _YOUNG:  # 0: it is switched off
            _before = found
            gc.set_threshold(_YOUNG, *found[1:])
    try:
        yield
    finally:
        with _changing:
            _asking -= 1
            if not _asking:
                if _before is not None and gc.get_threshold() == (_YOUNG, *_before[1:]):
                    gc.set_threshold(*_before)
                _before = None


def complete(work: Coroutine[Any, Any, T]) -> T:
    """Runs async work to its end in a new event loop, and closes the loop. If this thread runs a loop already (a notebook's, an
    agent's), the new loop runs in another thread. So reward functions may be async inside of any loop. `waited` refuses that,
    because its one loop would wait for itself."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(asyncio.run, work).result()


@cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    import asyncio

    loop = asyncio.new_event_loop()
    threading.Thread(target=_forever, args=(loop,), name="odograph-loop", daemon=True).start()
    return loop


def _forever(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # of some task, which has it; the others go on
            continue


def waited(work: Coroutine[Any, Any, T]) -> T:
    """Runs async work to its end in the one loop that a process has for code that is not async. Another loop may run in this
    thread. Connections and unfinished runs stay open from one call to the next. Raises InvalidInput inside of that loop."""
    import asyncio

    loop = _loop(os.getpid())
    if threading.current_thread().name == "odograph-loop":
        work.close()
        raise InvalidInput("this code runs inside of a sync call already; await the async function here")

    async def carried() -> tuple[Any, BaseException | None]:
        try:
            return await work, None
        except (SystemExit, KeyboardInterrupt) as error:  # which would end the loop: who called gets it
            return None, error

    future = asyncio.run_coroutine_threadsafe(carried(), loop)
    try:
        found, error = future.result()
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]
    finally:
        future.cancel()  # who is interrupted waits for no more


def synced(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The function for code that is not async."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return complete(function(*args, **kwargs))

    return call


def ticker(asked: Progress, total: int, what: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions: one to call after each thing, and one to call at the end."""
    if callable(asked):
        count = 0
        told = asked

        def tick() -> None:
            nonlocal count
            count += 1
            told(count, total)

        return tick, lambda: None
    if asked is False or (asked is None and (total < 2 or not sys.stderr.isatty())):
        return lambda: None, lambda: None
    from tqdm import tqdm

    bar = tqdm(total=total, desc=what, file=getattr(sys.stderr, "unguarded", sys.stderr), dynamic_ncols=True)
    return lambda: bar.update() and None, bar.close
