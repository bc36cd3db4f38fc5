"""Waiting for what another thread or process does, for as long as it takes on a busy machine."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any


def until(holds: Callable[[], Any], *doing: subprocess.Popen[Any] | threading.Thread) -> None:
    """Waits until something holds. Those who bring it about, processes or threads, may not end before that: a test that waited for a
    dead one would wait for ever, so it fails at once, with what a process said on its stderr."""
    while not holds():
        for one in doing:
            if not (one.is_alive() if isinstance(one, threading.Thread) else one.poll() is None) and not holds():
                said = one.stderr.read() if isinstance(one, subprocess.Popen) and one.stderr is not None else ""
                raise AssertionError(f"it ended, and what it was to do is not done: {one!r} {said!r}")
        time.sleep(0.01)


async def cut_off(work: Coroutine[Any, Any, Any], when: Callable[[], Any]) -> None:
    """Cancels work that does not end by itself, as soon as `when` says."""
    task = asyncio.ensure_future(work)
    while not when():
        assert not task.done(), task
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def time_passes(seconds: float) -> None:
    """Sets the clock of the running event loop ahead: a limit is over while a tool is at work, however slow the machine is."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]
