"""A tool call within its time, and its error as the model is told. Knows no agent and no record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from ..errors import described

_CLEANING = 0.5  # seconds that a tool whose time is over has to tidy up


class ToolError(Exception):
    """A tool says itself that it failed; the message is what the model sees."""


class TooLate(Exception):
    """A tool did not answer in time."""


async def within(call: Awaitable[tuple[Any, str]], limit: float) -> tuple[Any, str]:
    """What a tool gives within its time. A tool that is late is cancelled and left to itself when it does not end at once."""
    task = asyncio.create_task(_kept_inside(call))
    try:
        done, _ = await asyncio.wait({task}, timeout=limit)
        if done:
            return task.result()
    except asyncio.CancelledError:
        await _stop(task)
        raise
    await _stop(task)
    raise TooLate


async def _kept_inside(call: Awaitable[tuple[Any, str]]) -> tuple[Any, str]:
    """What a tool gives. An exit that it raises ends the tool, as in a thread, and not the event loop."""
    try:
        return await call
    except (Exception, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ToolError(whole(error)) from error


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else looks at it
    await asyncio.wait({task}, timeout=_CLEANING)
    if not task.done():  # `asyncio.run` waits for all tasks at its end, and this one may take no cancelling
        asyncio._unregister_task(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def whole(error: BaseException) -> str:
    """An error as the model is told it; of a group of errors each."""
    if isinstance(error, BaseExceptionGroup):
        return f"{error.message}: " + "; ".join(whole(one) for one in error.exceptions)
    return described(error)
