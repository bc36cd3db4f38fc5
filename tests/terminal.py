"""Reading from a terminal that a program writes to."""

from __future__ import annotations

import os
from contextlib import suppress


def rest_of(fd: int) -> bytes:
    """What comes until the other end is closed."""
    out = b""
    with suppress(OSError):  # how a terminal ends on Linux
        while piece := os.read(fd, 65536):
            out += piece
    return out
