"""The sealed tier at length: writers and readers while sealing goes on, sealers killed at every stage, late rewards by the thousand.

`ODOGRAPH_SOAK_MINUTES`: how long (10). `ODOGRAPH_KILLS`: how often at each stage (20). `ODOGRAPH_LATE`: how many late rewards
(250,000).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import odograph

from .test_sealing import STAGES, cold, fill, journals, killed, seen
from .test_soak import READER, WRITER

pytest.importorskip("pyarrow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
MINUTES = float(os.environ.get("ODOGRAPH_SOAK_MINUTES", "10"))
KILLS = int(os.environ.get("ODOGRAPH_KILLS", "20"))
LATE = int(os.environ.get("ODOGRAPH_LATE", "250000"))

SEALER = """
import random, sys, time, odograph
from odograph.store import sealing
store = odograph.open(sys.argv[1])
until = time.time() + float(sys.argv[2])
while time.time() < until:
    store.seal()
    if random.random() < 0.2:
        store.compact(grace=30)
    time.sleep(0.5)
"""


def test_nothing_is_lost_or_doubled_while_it_is_sealed(tmp_path: Path) -> None:
    """16 writers and a sealer that are killed at random, and two readers: every acknowledged record is there once, in the end and in SQL."""
    root, chance = tmp_path / "store", random.Random(11)
    seconds = MINUTES * 60
    number = iter(range(1_000_000))

    def start(code: str, *more: str) -> subprocess.Popen[bytes]:
        n = next(number)
        with (tmp_path / f"{n}.told").open("wb") as out, (tmp_path / f"{n}.wrong").open("wb") as wrong:
            return subprocess.Popen([sys.executable, "-c", code, str(root), *(more or (str(n),))], stdout=out, stderr=wrong)

    writers = [start(WRITER) for _ in range(16)]
    sealer = start(SEALER, str(seconds))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen([sys.executable, "-c", READER, str(root), str(seconds)], **pipes) for _ in range(2)]  # type: ignore[call-overload]
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.5, 2.0))
            k = chance.randrange(16)
            writers[k].kill()
            writers[k].wait()
            writers[k] = start(WRITER)
            if chance.random() < 0.3 or sealer.poll() is not None:
                sealer.kill()
                sealer.wait()
                sealer = start(SEALER, str(seconds))
        for reader in readers:
            said, wrong = reader.communicate()
            assert reader.returncode == 0, wrong
            assert "read" in said
    finally:
        for process in [*writers, sealer, *readers]:
            process.kill()
            process.wait()
    assert not [p.read_text()[-2000:] for p in tmp_path.glob("*.wrong") if b"Traceback" in p.read_bytes()]
    told: set[tuple[str, str]] = set()
    for path in tmp_path.glob("*.told"):
        told |= {
            (run, id)
            for run, _, id in (line.partition(" ") for line in path.read_text().splitlines())
            if len(run) == len(id) == 36
        }
    with odograph.open(root) as store:
        store.seal()
        assert journals(store) == []
        stored: Counter[tuple[str, str]] = Counter()
        for t in store.trajectories():
            assert len({r.id for r in t.records}) == len(t.records)
            stored.update((t.id, r.id) for r in t.records if type(r).__name__ == "Note")
        assert told and not told - set(stored)
        both = store.sql("select count(*) as n, count(distinct id) as d from records where kind = 'note'").list()[0]
        assert both["n"] == both["d"] == len(stored)
        assert store.sql("select count(*) as n from facts where kind = 'note'").list() == [{"n": len(stored)}]
        assert store.examine()["sealed"]["orphans"] == []


def test_a_store_whose_sealer_is_killed_again_and_again(store: odograph.Store) -> None:
    """Sealers killed at every stage, one after the other on the same store: it reads the same each time."""
    chance = random.Random(5)
    ids = fill(store, 2)
    for round in range(KILLS):
        for stage in STAGES:
            store.append(chance.choice(ids)).reward(1.0, name=f"{round} {stage}")
            ids += fill(store, 1, steps=1)
            store.close()
            killed(store, stage)
        before = seen(store)
        assert seen(cold(store)) == before
        assert len(before["summaries"]) == len(ids)
    store.seal()
    assert seen(cold(store)) == before
    assert journals(store) == []
    assert (
        store.sql("select count(*) as n from records").list() == store.sql("select count(distinct id) as n from records").list()
    )
    store.compact(grace=0)
    assert seen(cold(store)) == before
    assert store.backend.reader.lake.commits.orphans() == []


LATER = """
import resource, sys, time, odograph
store = odograph.open(sys.argv[1], seal_at=0)
count = int(sys.argv[2])
for i in range(count):
    with store.record(task=i) as run:
        run.reward(0.0)
store.seal()
store.close()
def measured(what, do):
    start = time.perf_counter(); found = do()
    print(what, round(time.perf_counter() - start, 2), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
    return found
measured("cold", store.count)
ids = [s.id for s in store.summaries()]
measured("late", lambda: [store.append(id).reward(1.0, name="late") for id in ids] and None)
measured("catch-up", store.count)
assert sum(s.reward == 1.0 for s in store.summaries()) == count
measured("seal", store.seal)
measured("compact", lambda: store.compact(grace=0))
assert sum(s.reward == 1.0 for s in store.summaries()) == count
"""


def test_late_rewards_of_every_trajectory(tmp_path: Path) -> None:
    """One late reward for each of many sealed trajectories: appended, found, sealed and merged, in memory that has a bound."""
    done = subprocess.run([sys.executable, "-c", LATER, str(tmp_path / "s"), str(LATE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    figures = {what: (float(s), int(mb)) for what, s, mb in (line.split() for line in done.stdout.splitlines())}
    assert set(figures) == {"cold", "late", "catch-up", "seal", "compact"}
    assert figures["compact"][1] < 700 + LATE * 8 / 1000
