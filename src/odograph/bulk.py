"""Many things at once: a bounded number of async workers, and a bar that says how far they are. Knows nothing of the things."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
#: `progress(done, total)`, whether there is a bar, or None: a bar on a terminal.
Progress = bool | Callable[[int, int], None] | None


async def for_each(things: Iterable[T], do: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Awaits `do` of each, at most `at_once` at the same time. What one raises stops the others, and is then raised."""
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


def ticker(asked: Progress, total: int, what: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """What to call after each thing, and at the end."""
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
