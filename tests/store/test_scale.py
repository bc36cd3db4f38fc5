"""Reading does not pay for files and runs that it is not about. Counted are calls of the operating system, not seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.store import keeping, lines
from odograph.store import reader as reading
from odograph.store.rows import packed


def system_calls(work: Callable[[], object]) -> Counter[str]:
    """Which calls of the operating system a piece of work makes from Python."""
    names = {os.open: "open", os.stat: "stat", os.lstat: "stat", os.listdir: "list", os.pread: "pread"}
    found: Counter[str] = Counter()

    def called(frame: object, event: str, function: object) -> None:
        if event == "c_call":
            name = names.get(function)  # type: ignore[call-overload]
            if name:
                found[name] += 1

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def settled(store: odograph.Store) -> None:
    """The folder's clock is past: see `store.keeping`."""
    time.sleep(0.1)
    len(store)


def test_a_trajectory_among_many_files_costs_what_it_costs_among_one(tmp_path: Path) -> None:
    """Files whose writers are gone are not so much as measured."""
    id = ""
    for n in range(60):
        with odograph.open(tmp_path) as store, store.record(task=n) as run:
            id = run.id
    reader = odograph.open(tmp_path)
    settled(reader)
    calls = system_calls(lambda: reader.trajectory(id))
    assert calls["open"] == 1
    assert calls["stat"] <= 3
    assert calls["list"] == 0


def test_nothing_that_was_written_before_a_question_is_missed(tmp_path: Path) -> None:
    """By this process, by another that goes on with its file, and by one that makes a new file and ends: at once."""
    mine = odograph.open(tmp_path)
    reader = odograph.open(tmp_path)
    run = mine.record(task="goes on")
    code = f"import odograph\nwith odograph.open({str(tmp_path)!r}) as s:\n    print(s.record(task='x').id)"
    for n in range(20):
        run.note(n)
        assert [note.data for note in reader.trajectory(run.id).notes] == list(range(n + 1))
        if n % 7 == 0:
            settled(reader)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            assert reader.trajectory(done.stdout.strip()).task == "x"
        mine.backend.journal.close()  # the next note begins a new file
    assert len(reader) == 4


def test_runs_that_were_recorded_at_once_are_read_with_one_open_each(store: odograph.Store) -> None:
    """A run among 30 others costs one open, and one read per stretch of its lines."""
    runs = [store.record(task=n) for n in range(30)]
    for n in range(20):
        for run in runs:
            with run.step(n) as step:
                step.action("a", {"n": n}, "result")
    settled(store)
    calls = system_calls(lambda: store._reader.known(runs[3].id))
    assert len(store.trajectory(runs[3].id).steps) == 20
    assert calls["open"] == 2  # the file, and whether its writer lives
    assert calls["pread"] <= 21


def test_two_runs_that_were_recorded_at_once_are_read_in_few_stretches(store: odograph.Store) -> None:
    """What lies a little apart is read at once."""
    runs = [store.record(task=n) for n in range(2)]
    for n in range(40):
        for run in runs:
            run.note(n)
    settled(store)
    calls = system_calls(lambda: store._reader.known(runs[0].id))
    assert len(store.trajectory(runs[0].id).notes) == 40
    assert calls["pread"] == 1


def test_a_listing_does_not_end_early_while_others_write(tmp_path: Path) -> None:
    """A listing of 300 gives 300, although a file appears and one vanishes meanwhile, and others rebuild the catalog."""
    with odograph.open(tmp_path) as store:
        for n in range(300):
            store.record(task=n).finish()
    with odograph.open(tmp_path) as store:
        store.record(task="vanishes").finish()
    gone = next(p for p in (tmp_path / "journal").iterdir() if b"vanishes" in p.read_bytes())
    reader, other = odograph.open(tmp_path), odograph.open(tmp_path)
    listing = reader.summaries()
    seen = [next(listing).task for _ in range(100)]
    gone.unlink()
    assert len(other) == 300
    with odograph.open(tmp_path) as store:
        store.record(task="new").finish()
    assert len(other) == 301
    seen += [s.task for s in listing]
    assert [n for n in seen if isinstance(n, int)] == list(range(300))


def test_a_list_by_text_costs_what_its_rows_cost(tmp_path: Path) -> None:
    """A page of the trajectories that hold a word costs the same however many there are: each page looks at its own ids alone."""
    with odograph.open(tmp_path) as store:
        for n in range(3000):
            store.record(task=f"needle {n}").finish()
        assert len(store.search("needle", limit=1)) == 1
        seen: list[int] = []
        store.backend.reader.catalog._db.create_function("packed", 1, lambda id: seen.append(1) or packed(id), deterministic=True)
        tasks = [one.task for one in store.summaries(text="needle")]
    assert tasks == [f"needle {n}" for n in range(3000)]
    assert len(seen) < 20 * 3000  # 30 pages of 100; each would look at 3,000 ids


def test_a_damaged_catalog_is_made_anew(tmp_path: Path) -> None:
    """Rubbish in the middle of its file, before it is opened or while it is open, stops no list and no search."""
    with odograph.open(tmp_path) as store:
        for n in range(200):
            with store.record(task=f"task {n}") as run:
                run.note("n" * 400)
        assert len(list(store.search("n" * 400))) == 100
    path = tmp_path / "catalog.sqlite"

    def damage() -> None:
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(os.urandom(path.stat().st_size - 8192))

    damage()
    with odograph.open(tmp_path) as store:
        assert len(list(store.summaries())) == 200
        assert store.search("n" * 400)[0].kind == "note"
        assert store.trajectory(run.id).task == "task 199"


@pytest.mark.parametrize("field", [b'"kind"', b'"trajectory"', b'"data"'])
def test_a_flipped_byte_in_the_name_of_a_field_stops_no_search(tmp_path: Path, field: bytes) -> None:
    """The line alone is not found, or without that field."""
    with odograph.open(tmp_path) as store:
        for _ in range(3):
            with store.record(task="t") as run:
                run.note("needle")
    (path,) = (tmp_path / "journal").iterdir()
    data = path.read_bytes()
    at = data.index(field, data.index(b'{"kind":"note"')) + 1
    path.write_bytes(data[:at] + b"K" + data[at + 1 :])
    with odograph.open(tmp_path) as store:
        assert len(store.search("needle")) in (2, 3)
        assert len(list(store.trajectories())) == 3


@pytest.mark.parametrize("work", ["search", "examine"])
def test_the_first_look_at_a_journal_reads_it_once(tmp_path: Path, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first search, and the doctor, read each byte of the journal once, say how far they are, and find what they find later."""
    monkeypatch.setattr(reading, "_TOLD", 1000)
    root = tmp_path / "store"
    with odograph.open(root) as store:
        for k in range(20):
            with store.record(task=f"needle {k}") as run:
                run.note("x" * 1000)
    (path,) = (root / "journal").glob("*.jsonl")
    data = path.read_bytes()
    path.write_bytes(data + b'{"kind":"note","broken\n')
    read: list[int] = []
    told: list[tuple[int, int]] = []
    whole = lines.complete_lines

    def counted(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
        for offset, line in whole(path, start):
            read.append(len(line) + 1)
            yield offset, line

    for module in (reading, keeping):
        monkeypatch.setattr(module, "complete_lines", counted)
    with odograph.open(root) as store:
        if work == "search":
            found: Any = [store.search("needle", progress=lambda *at: told.append(at)) for _ in range(2)]
            assert len(found[0]) == 20
        else:
            found = [store.examine(lambda *at: told.append(at))["damages"]]
            assert [damage["offset"] for damage in found[0]] == [len(data)]
    assert found[0] == found[-1]
    size = path.stat().st_size
    assert sum(read) == size
    assert told == sorted(told)
    assert told[-1] == (size, size)


WRITES = """
import sys
import odograph

def kilobytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4

store = odograph.open(sys.argv[1])
for k in range(40):
    with store.record(task=k) as run:
        history = []
        for j in range(125):
            history = [*history[-20:], {"role": "user", "content": f"{k} {j} " + "x" * 200}]
            with run.step(j) as step:
                step.llm_call(model="m", messages=history, response="y")
                step.action("look", {"j": j}, "r" * 200)
                step.reward(0.5)
    if k == 9:
        before = kilobytes()
print(kilobytes() - before)
"""


def test_a_trajectory_of_many_megabytes_is_read_whole(tmp_path: Path) -> None:
    """A trajectory is read in pieces of 8 MB that end with a line: no line is lost between two, however long it is."""
    with odograph.open(tmp_path) as store:
        with store.record(task="long") as run:
            for n in range(50):
                run.note({"n": n, "text": "x" * (12_000_000 if n == 20 else 400_000)})
        t = store.trajectory(run.id)
        assert [(note.data["n"], len(note.data["text"])) for note in t.notes] == [
            (n, 12_000_000 if n == 20 else 400_000) for n in range(50)
        ]
        assert (store.add(t), len(store.trajectory(run.id).records)) == (run.id, len(t.records))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_writers_memory_stays_flat(tmp_path: Path) -> None:
    """15,000 more records, of runs that have ended, take no memory of the process that wrote them."""
    done = subprocess.run([sys.executable, "-c", WRITES, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2000  # kilobytes; the journal has 15 MB more
