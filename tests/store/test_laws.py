"""Laws of the store that a small change could break unseen: nothing twice, bounds of time, dropped writes, damaged headers."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

import odograph
from odograph.types import End, LLMCall, Note, Start
from tests.programs import ran


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
    done = ran(DROPPED, str(tmp_path))
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


def test_patterns_may_be_any_iterable(tmp_path: Path) -> None:
    """Patterns that can be gone through once only are the store's, in this process and in the next; bytes are refused."""
    with odograph.open(tmp_path / "s", redact=(one for one in ["h.nter2"])) as store, store.record(task="hunter2") as run:  # type: ignore[arg-type]
        pass
    with odograph.open(tmp_path / "s") as store:
        assert store.trajectory(run.id).task == "[redacted:pattern]"
    with pytest.raises(TypeError, match="redact is True, a list of patterns, or a function"):
        odograph.open(tmp_path / "t", redact=b"hunter2")  # type: ignore[arg-type]


def test_the_first_search_tells_how_far_it_is(store: odograph.Store) -> None:
    """Where lists were asked for first, a search indexes the text of the journal, and counts its bytes up to all of them."""
    with store.record(task="t") as run:
        for n in range(40):
            run.note(f"word{n} " * 8_000)
    assert store.count() == 1
    told: list[tuple[int, int]] = []
    assert len(store.search("word7", progress=lambda done, total: told.append((done, total)))) == 1
    size = sum(path.stat().st_size for path in (store.root / "journal").glob("*.jsonl"))
    assert told == sorted(told) and told[-1] == (size, size) and len(told) > 1


def test_adding_again_looks_at_each_list_as_it_was_stored(store: odograph.Store) -> None:
    """A call whose messages are no list, and whose tools are one, is the same when it is added again, from here or from elsewhere."""
    with store.record(task="t") as run, run.step() as step:
        for response in ("a", "b"):
            request = {"model": "m", "messages": "q", "tools": [{"name": "f" * 500}, {"name": "g"}]}
            step.llm_call(request=request, response=response, cost=1.0)
    before = store.health()["written"]
    store.add(store.trajectory(run.id))
    records = store.trajectory(run.id).complete_records()
    store.add([replace(r, cost=1) if isinstance(r, LLMCall) else r for r in records])  # as JSON of other programs has it
    assert store.health()["written"] == before


def test_a_record_that_is_made_now_is_of_its_writer(store: odograph.Store) -> None:
    """A record without a time was made here and now, whoever its field says wrote it."""
    id = store.add([Start(trajectory="t1", task="q", writer="somebody"), End(trajectory="t1", writer="somebody")])
    assert {record.writer for record in store.trajectory(id).records} == {store.backend.journal.writer}


def test_merged_files_stay_until_their_time_is_over(store: odograph.Store) -> None:
    """Files that were merged stay readable for `grace`, for who reads them now; the first compaction after that deletes them."""
    pytest.importorskip("pyarrow")

    def files() -> set[Path]:
        return set((store.root / "lake").rglob("*.parquet"))

    for task in ("a", "b"):
        with store.record(task=task):
            pass
        store.seal()
    before = files()
    assert store.compact(grace=3600).merged
    assert store.compact(grace=3600).deleted == 0
    assert before < files()
    assert store.compact(grace=0).deleted > 0
    assert not before & files()


def test_a_call_without_its_prompts_ids_is_a_correction(store: odograph.Store) -> None:
    """A call that is added again without the token ids of its prompt says something else, as one with other ids does."""
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", response="a", prompt_token_ids=list(range(500)), token_ids=[1])
    for ids in (None, [1, 2], list(range(500))):
        records = list(store.trajectory(run.id).complete_records())
        store.add([replace(r, prompt_token_ids=ids) if isinstance(r, LLMCall) else r for r in records])
        (call,) = store.trajectory(run.id).llm_calls
        assert call.prompt_token_ids == ids


def test_opening_stores_leaves_no_file_open(tmp_path: Path) -> None:
    """A setting that an opening settles is written to a file that is closed."""
    before = len(os.listdir("/proc/self/fd"))
    for n in range(20):
        odograph.open(tmp_path / str(n), redact=True).close()
    assert len(os.listdir("/proc/self/fd")) < before + 10


def test_a_limit_may_be_any_whole_number(store: odograph.Store) -> None:
    """A limit beyond what a database counts to is no limit."""
    with store.record(task="t"):
        pass
    for limit in (2**63 - 1, 2**63, 2**64, 10**30):
        assert len(list(store.trajectories(limit=limit))) == store.count(limit=limit) == 1
        assert len(list(store.summaries(limit=limit, newest_first=True))) == 1


FULL = """
import resource, signal, sys
import odograph

with odograph.open(sys.argv[1]) as store:
    id = store.add({"id": "t1", "task": "small"})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        store.add({"id": "t2", "task": "x" * 9000})
    except odograph.StoreError as error:
        print(error)
"""


def test_what_can_not_be_added_is_told(tmp_path: Path) -> None:
    """Adding to a disk that takes no more raises one sentence with the system's reason: nobody takes the records for kept."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "s")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "the store can't be written: File too large\n"), done.stderr


def test_what_is_added_now_is_later_than_what_is_there(store: odograph.Store) -> None:
    """Records without a time that are added to a trajectory of a host whose clock is ahead come after its records, each after the other."""
    ahead = time.time_ns() + 10**15
    id = store.add([Start(trajectory="t1", id="s", task="q", time=ahead, seq=1)])
    store.add([*store.trajectory(id).complete_records(), Note(trajectory="t1", data=1), Note(trajectory="t1", data=2)])
    t = store.trajectory(id)
    assert [note.data for note in t.notes] == [1, 2]
    assert ahead < t.notes[0].time < t.notes[1].time


def test_facts_say_how_each_record_went(store: odograph.Store) -> None:
    """In `facts`, a label's value is its score and a reward's its value; calls, actions and ends went well unless they say otherwise."""
    pytest.importorskip("duckdb")
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", response="a")
        step.llm_call(model="m", response="b")
        step.llm_call(model="m", error="late")
        step.action("a", ok=True)
        step.action("b", error="no")
        step.action("c", {"n": 1}, 2)
        step.context("kb", 1)
        step.context("kb", 2)
        step.context("kb", error="gone")
        step.reward(0.25)
        step.label("l", "good", score=0.5)
    said = [
        ("start", None, None), ("step", None, None), ("llm_call", True, None), ("llm_call", True, None), ("llm_call", False, None),
        ("action", True, None), ("action", False, None), ("action", None, None), ("context", True, None), ("context", True, None),
        ("context", False, None), ("reward", None, 0.25), ("label", None, 0.5), ("end", True, None),
    ]  # fmt: skip
    for _ in range(2):
        found = store.sql("select kind, ok, value from facts").list()
        assert sorted(map(repr, (tuple(row.values()) for row in found))) == sorted(map(repr, said))
        store.seal()


def test_counts_by_status_tell_who_runs(tmp_path: Path) -> None:
    """Ended trajectories count by their ends, others as running while their writers live, and as unterminated after that."""
    with odograph.open(tmp_path / "s") as gone:
        gone.record(task="left")
    with odograph.open(tmp_path / "s") as store:
        for _ in range(3):
            with store.record(task="t"):
                pass
        for _ in range(2):
            store.record(task="open")
        counts = store.backend.reader.counts()["status"]
        assert sorted(counts) == [("completed", 3), ("running", 2), ("unterminated", 1)]


def test_a_seal_tells_how_far_it_is(store: odograph.Store) -> None:
    """`progress` counts the journal's bytes up to all of them."""
    pytest.importorskip("pyarrow")
    with store.record(task="t" * 10_000):
        pass
    told: list[tuple[int, int]] = []
    store.seal(progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1][0] == told[-1][1] > 10_000


def test_above_the_store_no_file_asks_for_its_folder() -> None:
    """A store may be served elsewhere, or be tables in a bucket: what stands above takes its place, or a place beside it."""
    source = Path(odograph.__file__).parent
    above = [file for file in source.rglob("*.py") if file.relative_to(source).parts[0] not in ("store", "api")]
    asks = re.compile(r"backend\.folder|\b_?store\.root\b")
    assert len(above) > 300 and [str(file) for file in above if asks.search(file.read_text())] == []
