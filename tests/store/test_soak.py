"""A soak: 16 writers that are killed at random, 2 readers and `tail -f` on one store. `ODOGRAPH_SOAK_MINUTES`: how long (10)."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import odograph

MINUTES = float(os.environ.get("ODOGRAPH_SOAK_MINUTES", "10"))

#: Says each record on its output after it was acknowledged.
WRITER = """
import itertools, os, sys, time, odograph
store = odograph.open(sys.argv[1])
for n in itertools.count():
    with store.record(task=f"{sys.argv[2]} {n}") as run:
        for k in range(20):
            with run.step(k) as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": f"{k}"}] * 3, response="a" * 50)
                id = step.note({"n": k})
                os.write(1, (run.id + " " + id + chr(10)).encode())
            time.sleep(0.002)
"""

READER = """
import itertools, sys, time, odograph
store = odograph.open(sys.argv[1])
last, rounds, until = 0, 0, time.time() + float(sys.argv[2])
while time.time() < until:
    seen = 0
    newest = itertools.islice(store.summaries(newest_first=True), 50)
    for t in (store.trajectory(s.id) for s in newest) if rounds % 2 else store.trajectories(limit=200):
        assert [s.index for s in t.steps] == list(range(len(t.steps))), t.id
        seen += 1
    count = len(store)
    assert count >= last, (count, last)
    last, rounds = count, rounds + 1
    time.sleep(0.2)
print("read", rounds)
"""


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 * 3 + 300)  # the records are read back when the writers are gone
def test_nothing_is_lost_doubled_or_unreadable(tmp_path: Path) -> None:
    """Every record that a writer was told of is read back once, whoever was killed meanwhile; no reader fails."""
    root, chance = tmp_path / "store", random.Random(7)
    with odograph.open(root) as store:  # there before `tail` asks for it, whoever is started first
        with store.record(task="first"):
            pass
    outs = iter(range(1_000_000))
    seconds = MINUTES * 60

    def start() -> subprocess.Popen[bytes]:
        n = next(outs)
        with (tmp_path / f"{n}.told").open("wb") as out, (tmp_path / f"{n}.wrong").open("wb") as wrong:
            return subprocess.Popen([sys.executable, "-c", WRITER, str(root), str(n)], stdout=out, stderr=wrong)

    writers = [start() for _ in range(16)]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(root), str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    with (tmp_path / "tailed").open("wb") as out, (tmp_path / "tail.wrong").open("wb") as wrong:
        tail = subprocess.Popen(
            [sys.executable, "-m", "odograph", "tail", "-f", "--json", "--store", str(root)], stdout=out, stderr=wrong
        )
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.3, 1.5))
            k = chance.randrange(16)
            writers[k].kill()
            writers[k].wait()
            writers[k] = start()
        for reader in readers:
            said, wrong_said = reader.communicate()
            assert reader.returncode == 0, wrong_said
            assert "read" in said
        assert tail.poll() is None, (tmp_path / "tail.wrong").read_text()
    finally:
        for process in [*writers, *readers, tail]:
            process.kill()
            process.wait()
    assert not (tmp_path / "tail.wrong").read_bytes()
    assert not [p.name for p in tmp_path.glob("*.wrong") if b"Traceback" in p.read_bytes()]
    told = Counter()  # type: Counter[tuple[str, str]]
    for path in tmp_path.glob("*.told"):
        told.update((run, id) for run, _, id in (line.partition(" ") for line in path.read_text().splitlines() if len(line) > 40))
    stored: Counter[tuple[str, str]] = Counter()
    with odograph.open(root) as store:
        for t in store.trajectories():
            assert len({r.id for r in t.records}) == len(t.records)
            stored.update((t.id, r.id) for r in t.records if type(r).__name__ == "Note")
    whole = {key for key in told if len(key[1]) == len(next(iter(stored))[1])}  # a line that a killed writer left half said
    assert whole
    assert not whole - set(stored)
    assert max(stored.values()) == 1
    tailed = [json.loads(line) for line in (tmp_path / "tailed").read_text(errors="replace").splitlines()[:-1]]
    assert tailed
