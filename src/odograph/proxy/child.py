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

from ..errors import InvalidInput, NotFound

#: Passed on to the program. The terminal sends the others of its keys to the whole group, the program included.
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
_OF_KEYS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
#: By these the terminal stops the whole group, us included.
_OF_GROUP = (signal.SIGTTIN, signal.SIGTTOU)


def run(argv: list[str], env: Mapping[str, str]) -> int:
    """The exit status of a program, or minus the signal that ended it. Raises NotFound for a program that is not there,
    InvalidInput for one that can't be run."""
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def forward(signum: int, frame: FrameType | None) -> None:
        if signum in _OF_KEYS and _in_front() is True:  # the terminal sent it to the program, too
            return
        if started:
            started[0].send_signal(signum)
        else:
            early.append(signum)

    # The kernel may hand a signal to any thread: the byte that each writes wakes the main thread, which alone runs handlers.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    waked = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for signum in (*_FORWARDED, *_OF_KEYS, signal.SIGCHLD):
        before[signum] = signal.getsignal(signum)
        if signum == signal.SIGCHLD:
            signal.signal(signum, lambda *_: None)
        elif before[signum] is not signal.SIG_IGN:  # what nohup ignores stays ignored
            signal.signal(signum, forward)
    try:
        started.append(_start(argv, env))
        for number in early:
            started[0].send_signal(number)
        return _ended(started[0], woken)
    finally:
        for signum, handler in before.items():
            if handler is not None:
                signal.signal(signum, handler)
        signal.set_wakeup_fd(waked)
        os.close(woken)
        os.close(wake)


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


def _ended(program: subprocess.Popen[bytes], woken: int) -> int:
    """Waits for a program's end; every signal writes to the pipe `woken`. Where the program stops in a terminal (Ctrl-Z), we stop
    too, because the shell waits for us. What continues us is passed on."""
    while True:
        try:
            ended, status = os.waitpid(program.pid, os.WUNTRACED | os.WNOHANG)
        except ChildProcessError:  # passing a signal on found that it had ended
            return program.wait()
        if not ended:
            os.read(woken, 4096)
        elif not os.WIFSTOPPED(status):
            program.returncode = os.waitstatus_to_exitcode(status)
            return program.returncode
        elif os.WSTOPSIG(status) not in _OF_GROUP and _in_front() is not None:
            os.kill(os.getpid(), signal.SIGSTOP)


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
