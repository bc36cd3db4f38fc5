"""`python -m bench.scale`: the sealed tier at size. Records steps, seals them, and measures what reading costs then.

Each figure stands beside what the same run gives without Odograph: bare DuckDB on bare narrow Parquet, and zlib over the journal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import odograph

_STEPS = 4  # of a trajectory


def words(pool: str, chance: random.Random, size: int) -> str:
    start = chance.randrange(len(pool) - size)
    return pool[start : start + size]


def record(store: odograph.Store, steps: int, text: int) -> None:
    """Trajectories of four steps: a growing history, an answer, an action, a reward."""
    chance = random.Random(1)
    letters = [f"{chance.choice('bcdfghklmnprst')}{chance.choice('aeiou')}" for _ in range(40)]
    known = ["".join(chance.choices(letters, k=chance.randint(1, 4))) for _ in range(20_000)]
    pool = " ".join(chance.choices(known, k=1_000_000))
    for number in range(steps // _STEPS):
        with store.record(task=f"task {number % 500}", agent=f"agent-{number % 3}", model="m", group=f"g{number // 8}") as run:
            history: list[Any] = [{"role": "system", "content": words(pool, chance, text)}]
            for _ in range(_STEPS):
                history.append({"role": "user", "content": words(pool, chance, text)})
                with run.step(observation=history[-1]["content"]) as step:
                    answer = words(pool, chance, text)
                    tokens = {"prompt_tokens": chance.randrange(100, 4000), "completion_tokens": chance.randrange(5, 500)}
                    step.llm_call(model="m", messages=list(history), response=answer, usage=tokens)
                    history.append({"role": "assistant", "content": answer})
                    step.action("search", {"q": answer[:20]}, words(pool, chance, text), ok=chance.random() < 0.9)
            run.reward(chance.random())


def timed(do: Callable[[], Any], most: int = 5) -> float:
    """The median of several times, in seconds."""
    took = []
    for _ in range(most):
        start = time.perf_counter()
        do()
        took.append(time.perf_counter() - start)
        if sum(took) > 10:
            break
    return sorted(took)[len(took) // 2]


def program(*arguments: str) -> float:
    return timed(lambda: subprocess.run([sys.executable, "-m", "odograph", *arguments], check=True, capture_output=True), 3)


def measure(root: Path, steps: int, text: int) -> dict[str, Any]:
    import duckdb

    found: dict[str, Any] = {"steps": steps, "trajectories": steps // _STEPS, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    store = odograph.open(root, seal_at=0)
    start = time.perf_counter()
    record(store, steps, text)
    found["record steps/s"] = steps / (time.perf_counter() - start)
    store.close()
    journal = zipped = 0
    for path in (root / "journal").glob("*.jsonl"):
        data = path.read_bytes()
        journal += len(data)
        zipped += len(zlib.compress(data, 6))
    start = time.perf_counter()
    sealed = store.seal()
    found["seal steps/s"] = steps / (time.perf_counter() - start)
    found["seal peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found |= {"journal B/step": journal / steps, "zlib -6 B/step": zipped / steps, "sealed B/step": sealed.sealed_bytes / steps}
    lake = store.backend.reader.lake
    for table in ("records", "facts", "trajectories"):
        size = sum(one.file.bytes for one in lake.commits.files(table))
        found[f"{table} B/{'trajectory' if table == 'trajectories' else 'step'}"] = size / (
            steps // _STEPS if table == "trajectories" else steps
        )
    store.close()
    for path in root.glob("catalog.sqlite*"):
        path.unlink()
    start = time.perf_counter()
    store.count()
    found["cold open s"] = time.perf_counter() - start
    ids = [s.id for s in store.summaries(limit=2000)]
    store.close()
    found["catalog B/trajectory"] = (root / "catalog.sqlite").stat().st_size / (steps // _STEPS)
    chance = random.Random(2)
    found["warm open ms"] = timed(lambda: (store.close(), store.count())) * 1000
    found["ls -n 20 (process) s"] = program("--store", str(root), "ls", "-n", "20", "--json")
    found["python -c pass (process) s"] = timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 3)
    found["one by id ms"] = timed(lambda: store.trajectory(chance.choice(ids)), 50) * 1000
    found["stats() s"] = timed(lambda: store.stats(), 3)
    whole = "select count(*), avg(reward), sum(steps), sum(prompt_tokens), sum(completion_tokens) from trajectories"
    found["sql: all of stats ms"] = timed(lambda: store.sql(whole).list()) * 1000
    found["sql: by group ms"] = timed(lambda: store.sql(whole + " group by group_name").list()) * 1000
    scan = "select kind, count(*), avg(value), sum(prompt_tokens) from facts group by kind"
    found["sql: scan of facts ms"] = timed(lambda: store.sql(scan).list()) * 1000
    narrow = root / "narrow.parquet"
    names = ", ".join(f"'{lake.root / path}'" for path in lake.files("facts"))
    duckdb.sql(f"copy (select kind, value, prompt_tokens from read_parquet([{names}])) to '{narrow}'")
    bare = duckdb.connect()
    found["bare DuckDB on bare Parquet ms"] = timed(lambda: bare.execute(scan.replace("facts", f"'{narrow}'")).fetchall()) * 1000
    direct = f"read_parquet([{names}])"
    found["bare DuckDB on our facts ms"] = timed(lambda: bare.execute(scan.replace("facts", direct)).fetchall()) * 1000
    found["text search over all s"] = timed(lambda: store.count(text="zzzz"), 1)
    late = ids[:1000]
    start = time.perf_counter()
    for id in late:
        store.append(id).reward(1.0, name="late")
    found["late rewards/s"] = len(late) / (time.perf_counter() - start)
    start = time.perf_counter()
    store.count()
    found["catch up with late rewards s"] = time.perf_counter() - start
    store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps that are recorded (default: 1,000,000)")
    parser.add_argument("--text", type=int, default=400, help="characters of each message (default: 400)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR")))
    try:
        found = measure(root / "store", args.steps, args.text)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:34} {value:>14,.2f}")


if __name__ == "__main__":
    main()
