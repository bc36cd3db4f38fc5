"""What a reader gives: the newest records, what may still go on, what there is, and how far it is."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.store import reader, tailing
from odograph.store.filters import EVERY
from odograph.store.listing import Sort


def test_the_newest_records_lie_as_far_back_as_they_do(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail gives as many records as it is asked for, however long the lines are, and of one trajectory what lies before others."""
    with store.record(task="first") as first:
        for n in range(3):
            first.note({"n": n})
    with store.record(task="second") as second:
        for _ in range(9):
            second.note("x" * 1000)
    records = [r for id in (first.id, second.id) for r in store.trajectory(id).records]
    ids = [r.id for r in records]
    for size in (1, 7, 100, 5000, 1 << 20):  # of the part that is looked at first; in some no line begins
        monkeypatch.setattr(tailing, "_TAIL_BYTES", size)
        for count in (1, 2, 3, 8, 20):
            tail = store.tail(count)
            assert [r.id for r in tail] == ids[-count:]
            late = first.note("late")
            assert [r.id for r in tail] == [late]
            assert list(tail) == []
            ids.append(late)
        assert [r.id for r in store.tail(4, second.id)] == [r.id for r in store.trajectory(second.id).records[-4:]]
        assert len(list(store.tail(100, first.id))) == len(store.trajectory(first.id).records)
        tail = store.tail(0)
        assert list(tail) == []
        ids.append(first.note("later"))
        assert [r.id for r in tail] == ids[-1:]


def test_a_tail_shows_what_has_just_begun(store: odograph.Store) -> None:
    """A step whose beginning waits to be written together with what follows is shown by each look."""
    with store.record(task="t") as run:
        tail = store.tail(1)
        for n in range(2):
            with run.step():
                assert [r.step for r in tail] == [n]


def test_a_tail_warns_of_damaged_lines_alone_and_once(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A whole journal has nothing to warn of. A damaged line is named once, by the byte where it begins."""
    with store.record(task="t") as run:
        run.note("x")
    store.close()
    monkeypatch.setattr(tailing, "_TAIL_BYTES", 10)
    tail = store.tail(100)
    assert [len(list(tail)) for _ in range(2)] == [3, 0]
    store.append(run.id).note("y")  # in a journal of its own
    assert len(list(tail)) == 1
    store.close()
    assert not caplog.records
    path = max((store.root / "journal").iterdir())
    at = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"{}\n")
    with caplog.at_level(logging.WARNING):
        assert len(list(store.tail(100))) == 4
    (said,) = (record.getMessage() for record in caplog.records)
    assert f"the journal {path.name} has a damaged line at byte {at}, which is left out" in said


def test_what_is_sealed_for_the_first_time_while_it_is_followed(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written since the last look is shown, and nothing twice, where the first sealed tier was made in between."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(tailing, "_TAIL_BYTES", 1)
    with store.record(task="a"):
        pass
    tail = store.tail(2)
    assert len(list(tail)) == 2
    with store.record(task="b") as run:
        pass
    store.seal()
    assert [r.trajectory for r in tail] == [run.id] * 2


def test_only_a_living_writer_of_the_run_lets_it_run(tmp_path: Path) -> None:
    """A trajectory without an end that nobody holds is unterminated, whoever else writes, and if somebody rewards it late."""
    with odograph.open(tmp_path / "s") as gone:
        left = gone.record(task="left")
    with odograph.open(tmp_path / "s") as store, store.record(task="open") as run:
        assert store.trajectory(run.id).status == "running"
        assert store.trajectory(left.id).status == "unterminated"
        store.append(left.id).reward(1.0)
        assert store.trajectory(left.id).status == "unterminated"


def test_which_of_some_ids_there_are(store: odograph.Store) -> None:
    """Whole ids alone; nothing is said of what happened where nothing did."""
    ids = [store.record(task=n).id for n in range(3)]
    found = store.backend.reader.there([ids[2], "nothing", ids[0], ids[1][:30]])
    assert sorted(found) == sorted([ids[0], ids[2]])
    store.append(ids[1]).reward(1.0)
    assert list(store.used([*ids, "nothing"])) == [ids[1]]


def test_each_line_counts_where_progress_is_told(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind each line that was looked at stands how many bytes were, up to all of them."""
    monkeypatch.setattr(reader, "_TOLD", 0)
    with store.record(task="t") as run:
        run.note("ä")
    store.close()
    (path,) = (store.root / "journal").iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    ends = [sum(map(len, lines[: n + 1])) for n in range(len(lines))]
    for ask in (store.backend.reader.damages, lambda progress: store.backend.reader.search("x", 10, progress)):
        store.backend.reader.forget()
        told: list[tuple[int, int]] = []
        ask(progress=lambda done, total: told.append((done, total)))  # noqa: B023
        assert told == [(end, ends[-1]) for end in [*ends, ends[-1]]]


def test_a_trajectory_whose_lines_are_lost_is_no_empty_one(store: odograph.Store) -> None:
    """The lines of a trajectory, found by a part of its id, of which a sealed file is damaged: the file is named."""
    pytest.importorskip("pyarrow")
    with store.record(task="t") as run:
        pass
    store.seal()
    assert [(id, bool(raw)) for id, raw, _ in store.backend.reader.raw([run.id[-8:]], find=True)] == [(run.id, True)]
    (path,) = (store.root / "lake" / "records").glob("*.parquet")
    path.write_bytes(b"nothing of it")
    store.close()
    assert [(id, raw) for id, raw, _ in store.backend.reader.raw([run.id])] == [(run.id, [])]
    with pytest.raises(odograph.StoreError, match=path.name):
        list(store.backend.reader.raw([run.id[-8:]], find=True))


def test_a_search_that_the_journal_answers_reads_no_sealed_file(store: odograph.Store, caplog: pytest.LogCaptureFixture) -> None:
    """Where as many hits as were asked for are in the journal, no sealed file is opened: one that is gone is not missed."""
    pytest.importorskip("pyarrow")
    for _ in range(2):
        with store.record(task="needle"):
            pass
    store.seal()
    for _ in range(3):
        with store.record(task="needle"):
            pass
    assert len(store.search("needle")) == 5
    for path in (store.root / "lake" / "records").iterdir():
        path.unlink()
    assert len(store.search("needle", limit=3)) == 3
    assert not caplog.records
    assert len(store.search("needle", limit=4)) == 3
    assert "is gone: put the file back" in caplog.text


def test_a_reader_that_was_closed_reads_on_and_holds_nothing(store: odograph.Store) -> None:
    """By ids, without a question before; closing it closes its files, and lets go of the databases that SQL asked."""
    for needed in ("duckdb", "pyarrow"):
        pytest.importorskip(needed)
    with store.record(task="t") as run:
        pass
    store.seal()
    reader = store.backend.reader
    kept, files = [], []
    for _ in range(5):
        assert [t.id for t in reader.read(["nothing", run.id])] == [run.id]
        assert store.sql("select count(*) as n from trajectories").list() == [{"n": 1}]
        kept.append(reader.catalog)  # whoever still holds it
        assert reader.databases.kept
        reader.close()
        assert not reader.databases.kept
        files.append(len(os.listdir("/proc/self/fd")))
    assert files[-1] < files[0] + 4


def test_a_catalog_that_is_forgotten_is_made_anew(store: odograph.Store) -> None:
    """On disk, for those who read next, and with what is there now."""
    with store.record(task="t"):
        pass
    assert store.count() == 1
    store.backend.reader.forget()
    assert not (store.root / "catalog.sqlite").exists()
    assert store.count() == 1
    assert (store.root / "catalog.sqlite").exists()


def test_lines_that_are_sealed_while_they_are_looked_for_are_looked_for_again(tmp_path: Path) -> None:
    """Another process seals a trajectory, and deletes its journal file, after the catalog said where it is: no catalog is damaged."""
    pytest.importorskip("pyarrow")
    with odograph.open(tmp_path) as store, store.record(task="t") as run:
        pass
    looks = 0

    def look(lines: Iterator[Any]) -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            with odograph.open(tmp_path) as other:
                other.seal()
        return len(list(lines))

    with odograph.open(tmp_path) as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.backend.reader.look_at(run.id, look) > 0
    assert looks == 2
    assert not list((tmp_path / "journal").glob("*.jsonl"))


def test_groups_are_folded(store: odograph.Store) -> None:
    """How many groups there are, and some of them from a place of the sorted list on."""
    for n in range(6):
        with store.record(task=n, group=f"g{n % 3}") as run:
            run.reward(float(-n))
    number, found = store.backend.reader.folded(EVERY, Sort("reward", True), 1, 2)
    assert (number, [(fold.group, fold.trajectories) for fold in found]) == (3, [("g1", 2), ("g2", 2)])
