"""`python -m bench.scale`: the sealed tier at size. Records steps, seals them, and measures what reading costs then.

Each figure stands beside what the same run gives without Odograph: bare DuckDB on bare narrow Parquet, SQLite, zlib over the
journal, and one zip member a trajectory, as Inspect writes its logs. Commands run with compiled files, as they are installed.
Besides the narrow steps there are full ones (context, call, action, reward; see `bench.workload`) out of 80 MB of text: a fiftieth
as many. `--full` makes 5 million narrow steps and 200,000 full ones; each number can be set, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import odograph

from . import workload

_STEPS = 4  # of a trajectory
_BESIDE = 2000  # trajectories that are put into a zip and into SQLite, too
#: What is wanted of a million steps in 250,000 trajectories, and of full steps.
GOALS = {
    "catalog B/trajectory": 250,
    "trajectories B/trajectory": 36,
    "facts B/step": 21,
    "cold open s": 5,
    "warm open ms": 500,
    "ls -n 20 (process) s": 0.15,
    "one by id ms": 5,
    "stats (process) s": 0.5,
    "scan, SQL against bare": 1.3,
    "scan, our files against bare": 1.3,
    "sealed against zlib": 1.1,
    "text: one by id ms": 5,
    "tokens: one by id ms": 5,
    "text: search s/200,000 steps": 1.5,
    "text: sealed B/step": 1921,
    "text, history resent: sealed B/step": 2338,
    "tokens: sealed B/step": 3961,
}


class Found(dict[str, Any]):
    """Figures, each of which stands on stderr once it is there: a run that is stopped loses none."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        print(json.dumps({name: value}), file=sys.stderr, flush=True)

    def add(self, more: dict[str, Any]) -> None:
        for name, value in more.items():
            self[name] = value


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
        if sum(took) > 10 and most > 3:
            break
    return sorted(took)[len(took) // 2]


def program(compiled: Path, *arguments: str) -> tuple[float, float]:
    """Seconds, and seconds of a processor, of a whole process, whose code is compiled before the first."""
    given = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(compiled)}

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=given)

    run()
    begun = _children()
    seconds = timed(run, 3)
    return seconds, (_children() - begun) / 3


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_TRAJECTORY = re.compile(rb'"trajectory":"([^"]+)"')


def beside(journal: Path, root: Path, most: int) -> dict[str, float]:
    """The same lines of some trajectories as Inspect keeps them, deflated for each trajectory, and as rows of SQLite."""
    lines: dict[bytes, list[bytes]] = {}
    for path in sorted(journal.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                found = _TRAJECTORY.search(line)
                if found and (found[1] in lines or len(lines) < most):
                    lines.setdefault(found[1], []).append(line)
        break  # a file has more trajectories than are wanted
    with zipfile.ZipFile(root / "beside.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
        for id, of in lines.items():
            packed.writestr(id.decode(), b"".join(of))
    db = sqlite3.connect(root / "beside.sqlite")
    db.execute("create table lines(trajectory text not null, line blob not null)")
    db.executemany("insert into lines values(?,?)", ((id.decode(), line) for id, of in lines.items() for line in of))
    db.execute("create index by_trajectory on lines(trajectory)")
    db.commit()
    chance, ids = random.Random(3), [id.decode() for id in lines]
    read = zipfile.ZipFile(root / "beside.zip")
    query = "select line from lines where trajectory=?"
    found = {
        "zip B/trajectory": (root / "beside.zip").stat().st_size / len(lines),
        "SQLite B/trajectory": (root / "beside.sqlite").stat().st_size / len(lines),
        "zip: one by id ms": timed(lambda: _parsed(read.read(chance.choice(ids)).splitlines()), 50) * 1000,
        "SQLite: one by id ms": timed(lambda: _parsed(line for (line,) in db.execute(query, (chance.choice(ids),))), 50) * 1000,
    }
    read.close()
    db.close()
    return found


def _parsed(lines: Any) -> list[Any]:
    return [msgspec.json.decode(line) for line in lines]


def full(root: Path, steps: int, found: Found) -> None:
    """Bytes of full steps, sealed, and deflated for each trajectory."""
    workload.enlarge()
    kinds: list[tuple[str, int, dict[str, bool]]] = [
        ("text", steps, {}),
        ("text, history resent", steps // 10, {"grow": True}),
        ("tokens", steps // 10, {"tokens": True}),
    ]
    for label, wanted, how in kinds:
        count = max(1, wanted // workload.STEPS) * workload.STEPS
        folder = root / label.split(",")[-1].strip()
        with odograph.open(folder, seal_at=0) as store:
            for number in range(count // workload.STEPS):
                workload.record(store, number, **how)
        path = folder / "journal"
        found[f"{label}: journal B/step"] = sum(p.stat().st_size for p in path.glob("*.jsonl")) / count
        aside = beside(path, folder, 500)
        for name, value in aside.items():
            bytes_of = name.endswith(" B/trajectory")
            found[f"{label}: {name.replace('B/trajectory', 'B/step')}"] = value / workload.STEPS if bytes_of else value
        start = time.perf_counter()
        found[f"{label}: sealed B/step"] = store.seal().sealed_bytes / count
        found[f"{label}: seal steps/s"] = count / (time.perf_counter() - start)
        by_id(store, [s.id for s in store.summaries()], found, f"{label}: ")
        if label == "text":
            search(store, count, found)
        store.close()
        shutil.rmtree(folder)


def search(store: odograph.Store, steps: int, found: Found) -> None:
    """A search of all sealed text, and bare DuckDB that looks for the word in the same columns of the same files."""
    import duckdb

    lake = store.backend.reader.lake
    names = ", ".join(f"'{lake.root / path}'" for path in lake.files("records"))
    held = " or ".join(f"contains(lower({column}), 'zzzz')" for column in ("body", "agent", "name"))
    bare = duckdb.connect()
    ways: dict[str, Callable[[], Any]] = {
        "search": lambda: store.count(text="zzzz"),
        "search, bare DuckDB": lambda: bare.execute(f"select count(*) from read_parquet([{names}]) where {held}").fetchall(),
    }
    took, used = in_turn(ways, 4)  # the first imports what it needs
    for name in ways:
        found[f"text: {name} s/200,000 steps"] = min(took[name]) * 200_000 / steps
        found[f"text: {name}, processor s/200,000 steps"] = min(used[name]) * 200_000 / steps
    found["text: search against bare, of a processor"] = min(used["search"]) / min(used["search, bare DuckDB"])


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds, and seconds of a processor, of each: in turn, so that what else the machine does meets all of them."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, do in ways.items():
            begun = time.process_time()
            took[name].append(timed(do, 1))
            used[name].append(time.process_time() - begun)
    return took, used


def by_id(store: odograph.Store, ids: list[str], found: Found, label: str = "") -> None:
    """What one trajectory costs: of any place in the store, so that its row group was rarely read before. Beside it bare pyarrow,
    which reads that row group of a file that is open."""
    import pyarrow.parquet as parquet

    chance, reader = random.Random(4), store.backend.reader
    files = {path: parquet.ParquetFile(reader.lake.root / path) for path in reader.lake.files("records")}
    took: dict[str, list[float]] = {"": [], ", bare pyarrow": []}
    used: dict[str, list[float]] = {"": [], ", bare pyarrow": []}
    for _ in range(51):
        id = chance.choice(ids)
        part = reader.catalog.parts(id)[0]
        one = {"": lambda: store.trajectory(id), ", bare pyarrow": lambda: files[part.path].read_row_group(part.group)}  # noqa: B023
        for more, every in zip(in_turn(one, 1), (took, used), strict=True):
            for name, seconds in more.items():
                every[name] += seconds
    for name in took:
        found[f"{label}one by id{name} ms"] = sorted(took[name])[25] * 1000
        found[f"{label}one by id{name}, processor ms"] = sorted(used[name])[25] * 1000


def measure(root: Path, steps: int, text: int, found: Found) -> None:
    """A store that is recorded and sealed, and what reading costs then."""
    found.add({"steps": steps, "trajectories": steps // _STEPS, "cpus": os.cpu_count(), "load": os.getloadavg()[0]})
    store = odograph.open(root, seal_at=0)
    start = time.perf_counter()
    record(store, steps, text)
    found["record steps/s"] = steps / (time.perf_counter() - start)
    store.close()
    found.add(beside(root / "journal", root, _BESIDE))
    journal = zipped = 0
    for path in (root / "journal").glob("*.jsonl"):
        data = path.read_bytes()
        journal += len(data)
        zipped += len(zlib.compress(data, 6))
    start = time.perf_counter()
    sealed = store.seal()
    found["seal steps/s"] = steps / (time.perf_counter() - start)
    found["seal peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found.add({"journal B/step": journal / steps, "zlib -6 B/step": zipped / steps, "sealed B/step": sealed.sealed_bytes / steps})
    found["sealed against zlib"] = sealed.sealed_bytes / zipped
    store.close()
    reading(store, steps, found)


def reading(store: odograph.Store, steps: int, found: Found) -> None:
    """What a sealed store of so many steps takes, and what its questions cost."""
    import duckdb

    root = store.root
    lake = store.backend.reader.lake
    for table in ("records", "facts", "trajectories"):
        size = sum(one.file.bytes for one in lake.commits.files(table))
        found[f"{table} B/{'trajectory' if table == 'trajectories' else 'step'}"] = size / (
            steps // _STEPS if table == "trajectories" else steps
        )
    store.close()
    for path in root.glob("catalog.sqlite*"):
        path.unlink()
    start, begun = time.perf_counter(), time.process_time()
    store.count()
    found["cold open s"] = time.perf_counter() - start
    found["cold open, processor s"] = time.process_time() - begun
    every = [s.id for s in store.summaries()]
    store.close()
    found["catalog B/trajectory"] = (root / "catalog.sqlite").stat().st_size / (steps // _STEPS)
    found["warm open ms"] = timed(lambda: (store.close(), store.count())) * 1000
    command = ("-m", "odograph", "--store", str(root))
    for name, arguments in (
        ("python -c pass", ("-c", "pass")),
        ("import odograph", ("-c", "import odograph.cli")),
        ("ls -n 20", (*command, "ls", "-n", "20", "--json")),
        ("stats", (*command, "stats", "--json")),
    ):
        found[f"{name} (process) s"], found[f"{name} (process), processor s"] = program(root / "compiled", *arguments)
    by_id(store, every, found)
    begun = time.process_time()
    found["stats() s"] = timed(lambda: store.stats(), 1)
    found["stats(), processor s"] = time.process_time() - begun
    whole = "select count(*), avg(reward), sum(steps), sum(prompt_tokens), sum(completion_tokens) from trajectories"
    found["sql: all of stats ms"] = timed(lambda: store.sql(whole).list()) * 1000
    found["sql: by group ms"] = timed(lambda: store.sql(whole + " group by group_name").list()) * 1000
    scan = "select kind, count(*), avg(value), sum(prompt_tokens) from facts group by kind"
    narrow = root / "narrow.parquet"
    names = ", ".join(f"'{lake.root / path}'" for path in lake.files("facts"))
    duckdb.sql(f"copy (select kind, value, prompt_tokens from read_parquet([{names}])) to '{narrow}'")
    bare = duckdb.connect()
    on_bare, on_ours = scan.replace("facts", f"'{narrow}'"), scan.replace("facts", f"read_parquet([{names}])")
    scans: dict[str, Callable[[], Any]] = {
        "bare": lambda: bare.execute(on_bare).fetchall(),
        "our files": lambda: bare.execute(on_ours).fetchall(),
        "SQL": lambda: store.sql(scan).list(),
    }
    took, used = in_turn(scans, 15)
    for name in scans:
        found[f"scan of facts, {name}: median, least, least of a processor ms"] = (
            sorted(took[name])[7] * 1000,
            min(took[name]) * 1000,
            min(used[name]) * 1000,
        )
        if name != "bare":
            found[f"scan, {name} against bare"] = min(took[name]) / min(took["bare"])
            found[f"scan, {name} against bare, of a processor"] = min(used[name]) / min(used["bare"])
    with sqlite3.connect(root / "narrow.sqlite") as db:
        db.execute("create table facts(kind text, value real, prompt_tokens integer)")
        rows = bare.execute(f"select * from '{narrow}'")
        while some := rows.fetchmany(10_000):
            db.executemany("insert into facts values(?,?,?)", some)
        db.commit()
        found["scan of facts, SQLite: ms"] = timed(lambda: db.execute(scan).fetchall(), 1) * 1000
    found["text search over all s"] = timed(lambda: store.count(text="zzzz"), 1)
    for name, do in (
        ("a late reward of each trajectory", lambda: [store.append(id).reward(1.0, name="late") for id in every]),
        ("catching up with them", store.count),
        ("sealing them", store.seal),
        ("merging them", lambda: store.compact(grace=0)),
    ):
        start, begun = time.perf_counter(), time.process_time()
        do()
        found[f"{name} s"] = time.perf_counter() - start
        found[f"{name}, processor s"] = time.process_time() - begun
    found["peak MB, late rewards merged"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    store.close()
    found["load at the end"] = os.getloadavg()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="narrow steps (default: 1,000,000; with --full 5,000,000); 0: none")
    parser.add_argument("--text", type=int, help="characters of each message of these (default: 400; with --full 100)")
    parser.add_argument("--full", type=int, nargs="?", const=200_000, metavar="N", help="N full steps (200,000); 0: none")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    large = bool(args.full)
    steps = args.steps if args.steps is not None else 5_000_000 if large else 1_000_000
    text = args.text if args.text is not None else 100 if large else 400
    whole = args.full if args.full is not None else steps // 50
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR")))
    found = Found()
    try:
        if steps:
            measure(root / "store", steps, text, found)
        if whole:
            full(root, whole, found)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        text = " ".join(f"{one:,.2f}" for one in value) if isinstance(value, tuple) else f"{value:>14,.2f}"
        print(f"{name:42} {text}" + (f"   at most {GOALS[name]:,}" if name in GOALS else ""))


if __name__ == "__main__":
    main()
