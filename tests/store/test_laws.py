"""Laws of the store that a small change could break unseen: nothing twice, bounds of time, dropped writes, damaged headers."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import odograph


def journals(store: odograph.Store) -> list[Path]:
    return sorted((store.root / "journal").glob("*.jsonl"))


def test_a_correction_of_a_correction_is_added_once(store: odograph.Store) -> None:
    """What the last correction says is what the store has: adding the same again, once corrected or twice, writes nothing."""

    with store.record(task="t") as run:
        run.reward(0.0, name="a")
    first = store.trajectory(run.id).to_dict()
    for value in (1.0, 2.0, 3.0):
        corrected = {**first, "rewards": [{**first["rewards"][0], "value": value}]}
        store.add(corrected)
        written = [path.read_bytes() for path in journals(store)]
        store.add(corrected)
        assert [path.read_bytes() for path in journals(store)] == written
        assert [r.value for r in store.trajectory(run.id).rewards] == [value]


def test_a_line_that_stands_twice_is_one_record(store: odograph.Store) -> None:
    """A record that two copies of a journal hold (a restored backup, a merged folder) is shown once and counts once."""
    with store.record(task="t") as run, run.step() as step:
        step.reward(1.0, name="a")
    store.close()
    (file,) = journals(store)
    file.with_name("0000000000000000000.jsonl").write_bytes(file.read_bytes())
    t = store.trajectory(run.id)
    assert len(t.records) == len({r.id for r in t.records}) == 4
    assert (len(t.steps), t.reward) == (1, 1.0)


def test_a_time_range_ends_before_its_end(store: odograph.Store) -> None:
    """A range holds its first nanosecond and not its last: two ranges that touch share no trajectory."""
    with store.record(task="t") as run:
        pass
    started = next(store.summaries()).started
    assert started is not None
    assert [s.id for s in store.summaries(time_range=(started, started + 1))] == [run.id]
    assert list(store.summaries(time_range=(started - 1, started))) == []
    assert list(store.summaries(time_range=(started, started))) == []


DROPPED = """
    import resource, sys, warnings, odograph
    warnings.simplefilter("ignore")
    store = odograph.open(sys.argv[1])
    run = store.record(task="full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    shared = {"role": "user", "content": "shared " * 50_000}
    for i in range(130):  # more than waits in memory: the oldest writes, the shared message among them, are dropped
        run.step().llm_call(model="m", messages=[shared, {"role": "user", "content": f"{i} " * 250_000}], response="r")
    assert store.health()["lost"] > 0, store.health()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    run.step().llm_call(model="m", messages=[shared, {"role": "user", "content": "last"}], response="r")
    assert store.health()["waiting"] == 0, store.health()
    print(run.id)
    store.close()
"""


def test_what_was_dropped_is_written_anew_for_later_calls(tmp_path: Path) -> None:
    """A disk that is full for so long that writes are dropped costs those alone: a later call that resends what was in them is whole."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DROPPED), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "ODOGRAPH_STRICT": "0"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with odograph.open(tmp_path) as store:
        last = store.trajectory(done.stdout.strip()).llm_calls[-1]
        assert [m["content"][:6] for m in last.messages] == ["shared", "last"]


def test_a_catalog_of_a_later_version_is_left_as_it_is(store: odograph.Store) -> None:
    """The catalog of a newer Odograph is neither read nor dropped: this version answers without it, and the newer one finds it."""
    with store.record(task="t") as run:
        pass
    assert len(store) == 1
    store.close()
    with sqlite3.connect(store.root / "catalog.sqlite") as db:
        db.execute("create table of_the_future (x)")
        db.execute("pragma user_version=1000000")
    db.close()
    with odograph.open(store.root) as again:
        assert again.trajectory(run.id).task == "t"
        assert again.examine()["catalog_in_memory"]
        with ThreadPoolExecutor(1) as pool:  # from any thread
            assert pool.submit(again.count).result() == 1
    with sqlite3.connect(store.root / "catalog.sqlite") as db:
        assert db.execute("pragma user_version").fetchone() == (1000000,)
        assert db.execute("select count(*) from of_the_future").fetchone() == (0,)
    db.close()


def test_a_damaged_header_costs_no_message_of_its_writer(store: odograph.Store) -> None:
    """Where a file's first line is damaged its name says who wrote it: calls in it still find what stands in that writer's other files."""
    history = [{"role": "user", "content": "the first message"}]
    with store.record(task="t") as run:
        run.step().llm_call(model="m", messages=history, response="a")
        store.close()
        run.step().llm_call(model="m", messages=[*history, {"role": "user", "content": "more"}], response="b")
    store.close()
    files = journals(store)
    assert len(files) == 2
    writers = {r.writer for r in store.trajectory(run.id).records}
    for file in files:
        header, rest = file.read_bytes().split(b"\n", 1)
        file.write_bytes(b"@" * len(header) + b"\n" + rest)
    store.close()
    (store.root / "catalog.sqlite").unlink()
    with odograph.open(store.root) as again:
        t = again.trajectory(run.id)
        assert {r.writer for r in t.records} == writers
        assert [m["content"] for m in t.llm_calls[1].messages] == ["the first message", "more"]
        assert not t.missing


def test_a_list_names_the_model_of_the_first_call(store: odograph.Store) -> None:
    """A run that declares no model has that of its first call, in lists and filters, also where the calls are read in two pieces."""
    with store.record(task="t") as run, run.step() as step:
        step.note("before")
        assert next(store.summaries()).model is None
        step.llm_call(model="first", user_prompt="q", response="a")
        assert next(store.summaries()).model == "first"
        step.llm_call(model="second", user_prompt="q", response="a")
    assert [s.model for s in store.summaries()] == ["first"]
    assert store.count(model="first") == 1
    assert store.count(model="second") == 0


def test_reading_a_long_trajectory_looks_for_garbage_rarely(store: odograph.Store) -> None:
    """All that a trajectory is read into stays, so Python's collector has nothing to find there: it looks a few times."""
    with store.record(task="t") as run:
        for n in range(2000):
            run.note({"n": [n]})
    store.backend.reader.look()  # the catalog knows it
    looks: list[str] = []

    def looked(phase: str, info: dict[str, int]) -> None:
        looks.append(phase)

    before = gc.get_threshold()
    gc.callbacks.append(looked)
    try:
        t = store.trajectory(run.id)
    finally:
        gc.callbacks.remove(looked)
    assert len(t.notes) == 2000
    assert looks.count("start") <= 2
    assert gc.get_threshold() == before
