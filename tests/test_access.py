"""What all servers need of the machine."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Bit 2 of the word before a block says that the system gave the block alone.
_BLOCK = """
import ctypes
from odograph.access import listen

held = [bytearray(100_000) for _ in range(300)]  # no room is left by chance
server = listen("127.0.0.1", 0)
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
print(ctypes.c_size_t.from_address(malloc(ctypes.c_size_t(3 << 20)) - ctypes.sizeof(ctypes.c_size_t)).value & 2)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how other C libraries keep memory is not known")
def test_a_server_keeps_the_memory_of_its_read_buffers() -> None:
    said = subprocess.run([sys.executable, "-c", _BLOCK], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "0", "the system gives each large buffer anew"
