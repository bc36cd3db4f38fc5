"""A sealed store is read by any thread, also by threads that end, as those of a server's requests do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import odograph

pytest.importorskip("pyarrow")

_READ = """
import os, sys, threading, odograph
store = odograph.open(sys.argv[1])
ids = [summary.id for summary in store.summaries()]
for n in range(20):
    for read in (lambda: store.trajectory(ids[n % len(ids)]), lambda: store.count(text="never")):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
pyarrow = sys.modules["pyarrow"]
print(len(ids), pyarrow.default_memory_pool().backend_name, os.environ.get("ARROW_DEFAULT_MEMORY_POOL"))
"""


def test_threads_that_end_read_a_sealed_store(tmp_path: Path) -> None:
    """A process whose first read of a sealed store was in a thread that has ended reads on, and programs that it starts find no
    setting of Arrow's. With pyarrow's mimalloc the process died at some later read."""
    with odograph.open(tmp_path / "store", seal_at=0) as store:
        for n in range(60):
            with store.record(task=n) as run, run.step(observation=os.urandom(3000).hex()) as step:
                step.action("look", {}, os.urandom(3000).hex())
        store.seal()
    given = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    given["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", _READ, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, env=given, check=False)
    assert (done.returncode, done.stdout) == (0, "60 system None\n"), done.stderr
