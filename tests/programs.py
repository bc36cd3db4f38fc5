"""A program of a user's, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence


def ran(code: str, *arguments: str, flags: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Runs a program as it runs at a user's: a fault in capture is no error there, as it is in the tests."""
    command = [sys.executable, *flags, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ODOGRAPH_STRICT": "0"}, check=False)
