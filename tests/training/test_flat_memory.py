"""Exports of any size in the memory of a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import odograph

_SCRIPT = """
import sys
from pathlib import Path
import odograph

store, out, limit = odograph.open(sys.argv[1]), sys.argv[2], int(sys.argv[3])
manifest = store.export(out, "trl-grpo", limit=limit)
assert manifest["rows"] == limit and manifest["samples"]["groups"] == limit // 8 and manifest["left_out"] == {}
(peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak)
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of resident memory is read from /proc")
def test_a_hundred_thousand_samples_in_the_memory_of_ten_thousand(tmp_path: Path) -> None:
    """100,000 samples with advantages over groups (two passes) take at most a fifth more memory than 10,000; these fill a row
    group of the file already."""
    with odograph.open(tmp_path / "store") as store:
        for n in range(100_000):
            with store.record(task=f"t{n // 8}", agent="a", model="m", group=f"g{n // 8}") as run:
                ids = [(n * 31 + k * 7) % 50_000 for k in range(200)]
                logprobs = [-((n + k) % 997) / 256 for k in range(150)]
                run.step().llm_call(model="m", response="x", prompt_token_ids=ids[:50], token_ids=ids[50:], logprobs=logprobs)
                run.reward(float(n % 3))
        assert len(store) == 100_000
    peaks = []
    for limit in (10_000, 100_000):
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(tmp_path / "store"), str(tmp_path / f"out{limit}"), str(limit)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.2 * peaks[0], peaks
