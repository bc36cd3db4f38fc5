"""A program run as if it had been started without us: its terminal, its signals and its exit status are its own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Self

from ..errors import InvalidInput, NotFound

#: Passed on to the program. The terminal sends the others of its keys to the whole group, the program included.
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
_OF_KEYS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
#: By these the terminal stops the whole group, us included.
_OF_GROUP = (signal.SIGTTIN, signal.SIGTTOU)


class Program:
    """A program, and the signals that are its own while this is entered: what comes before the program's start is sent after it,
    and what comes after its end is for nobody, so that the record of the run is whole."""

    def __init__(self) -> None:
        self._started: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        #: Whether the program had stopped when this process stopped itself.
        self._stopped = False

    def __enter__(self) -> Self:
        # The kernel may hand a signal to any thread: the byte that each writes wakes the main thread, which alone runs handlers.
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._waked = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for signum in (*_FORWARDED, *_OF_KEYS, signal.SIGCHLD):
            self._before[signum] = signal.getsignal(signum)
            if signum == signal.SIGCHLD:
                signal.signal(signum, lambda *_: None)
            elif self._before[signum] is not signal.SIG_IGN:  # what nohup ignores stays ignored
                signal.signal(signum, self._forward)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for signum, handler in self._before.items():
            if handler is not None:
                signal.signal(signum, handler)
        signal.set_wakeup_fd(self._waked)
        os.close(self._woken)
        os.close(self._wake)

    def run(self, argv: list[str], env: Mapping[str, str]) -> int:
        """Its exit status, or minus the signal that ended it. Raises NotFound for a program that is not there, InvalidInput for
        one that can't be run."""
        self._started = program = _start(argv, env)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})  # who started us may have blocked it, and the program's end
        for number in self._early:
            program.send_signal(number)
        return self._ended(program)

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        if signum in _OF_KEYS and _in_front() is True:  # the terminal sent it to the program, too
            return
        if signum == signal.SIGCONT and self._stopped:  # a shell continues the program, too: `_ended` sees whether it did
            return
        if self._started is not None:
            self._started.send_signal(signum)
        else:
            self._early.append(signum)

    def _ended(self, program: subprocess.Popen[bytes]) -> int:
        """Waits for the program's end; every signal writes to the pipe. Where the program stops in a terminal (Ctrl-Z), we stop
        too, because the shell waits for us. What continues us alone is passed on."""
        while True:
            try:
                changed, status = os.waitpid(program.pid, os.WUNTRACED | os.WCONTINUED | os.WNOHANG)
            except ChildProcessError:  # passing a signal on found that it had ended
                return program.wait()
            if not changed and self._stopped:
                self._stopped = False
                program.send_signal(signal.SIGCONT)
            elif not changed:
                os.read(self._woken, 4096)
            elif os.WIFCONTINUED(status):
                self._stopped = False
            elif not os.WIFSTOPPED(status):
                program.returncode = os.waitstatus_to_exitcode(status)
                return program.returncode
            elif os.WSTOPSIG(status) not in _OF_GROUP and _in_front() is not None:
                self._stopped = True
                os.kill(os.getpid(), signal.SIGSTOP)


def ended_alike(status: int) -> int:
    """The exit status of a program. Where a signal ended the program, the same signal ends this process, so that whoever started
    us sees it: a shell leaves its loop when Ctrl-C ended the program in it."""
    if status >= 0:
        return status
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError, ValueError):  # SIGKILL has no handler
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 128 - status  # the first process of a container is ended by no signal of its own


def _start(argv: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(argv, env=dict(env))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no program {argv[0]!r} on the path") from None
    except OSError as error:
        raise InvalidInput(f"{argv[0]!r} can't be run: {(error.strerror or str(error)).lower()}") from None


def _in_front() -> bool | None:
    """Whether the keys of the terminal reach this process; None where there is no terminal."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return None
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return None
    finally:
        os.close(fd)
