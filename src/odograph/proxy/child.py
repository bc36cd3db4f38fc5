"""A program run as if it had been started without us: its terminal, its signals and its exit status are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from ..errors import NotFound

#: Passed on to the program. The terminal sends the others of its keys to the whole group, the program included.
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_OF_KEYS = (signal.SIGINT, signal.SIGQUIT)


def run(argv: list[str], env: Mapping[str, str]) -> int:
    """The exit status of a program, or minus the signal that ended it. Raises NotFound for a program that is not there."""
    of_terminal = _has_terminal()
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def forward(signum: int, frame: FrameType | None) -> None:
        if of_terminal and signum in _OF_KEYS:  # the terminal sent it to the program, too
            return
        if started:
            started[0].send_signal(signum)
        else:
            early.append(signum)

    for signum in (*_FORWARDED, *_OF_KEYS):
        before[signum] = signal.getsignal(signum)
        if before[signum] is not signal.SIG_IGN:  # what nohup ignores stays ignored
            signal.signal(signum, forward)
    try:
        started.append(_start(argv, env))
        for number in early:
            started[0].send_signal(number)
        return started[0].wait()
    finally:
        for signum, handler in before.items():
            if handler is not None:
                signal.signal(signum, handler)


def _start(argv: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(argv, env=dict(env))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no program {argv[0]!r} on the path") from None
    except PermissionError:
        raise NotFound(f"{argv[0]!r} can't be run: permission denied") from None


def _has_terminal() -> bool:
    """Whether a terminal's keys reach this process and the program alike."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp() and sys.platform != "win32"
    except OSError:
        return False
    finally:
        os.close(fd)
