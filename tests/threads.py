"""Signals that a thread of a process gets which is not its main thread, as the kernel may choose."""

from __future__ import annotations

import ctypes
import os
import platform

import pytest


def to_a_thread(pid: int, signum: int) -> None:
    """Sends a signal to the youngest thread of a process: never to its main thread."""
    tgkill = {"x86_64": 234, "aarch64": 131}.get(platform.machine())
    if tgkill is None:
        pytest.skip("the number of the system call is not known here")
    youngest = max(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    assert youngest != pid
    assert ctypes.CDLL(None, use_errno=True).syscall(tgkill, pid, youngest, signum) == 0
