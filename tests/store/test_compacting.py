"""What a compaction merges, keeps and forgets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import odograph
from odograph.store import committing, compacting
from odograph.store.layout import RECORDS
from odograph.types import Note, Start

from .test_sealing import cold, fill, seen

pytest.importorskip("pyarrow")
DAY = 86_400 * 10**9
NOTHING = compacting.Compaction(merged=0, made=0, deleted=0)


def damaged(store: odograph.Store, *lines: bytes) -> None:
    """Puts lines that can't be read behind those of a run, and seals them."""
    store.record(task="t").finish()
    store.close()
    path = next((store.root / "journal").glob("*.jsonl"))
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in lines)
    store.seal()


def sealed(store: odograph.Store, *sizes: int) -> list[Path]:
    """Seals a run of each number of steps, and returns the files of `records`, the oldest first."""
    for steps in sizes:
        fill(store, 1, steps)
        store.seal()
    lake = store.backend.reader.lake
    return [lake.root / path for path in lake.files("records")]


def test_a_compaction_says_each_damage_once(store: odograph.Store) -> None:
    """However often files are merged, a commit says no damage twice: each compaction said twice as many as the one before."""
    damaged(store, b'{"kind":"note","tra', b'{"kind":"note",}')
    commits = store.backend.reader.lake.commits
    said = commits.commits()[-1].properties["damages"]
    assert len(said) == len(store.damages()) == 2
    for _ in range(3):
        sealed(store, 1)
        assert store.compact(grace=0).merged
        assert commits.commits()[-1].properties["damages"] == said


def test_damaged_lines_of_several_row_groups_are_kept(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read stays as it was, however much of it there is, whichever files are merged."""
    monkeypatch.setattr(committing, "_ROWS", 2)
    damaged(store, *(b'{"kind":"note","tra%d' % n for n in range(5)))

    def kept() -> int:
        lake = store.backend.reader.lake
        batches = [batch for path in lake.files("records") for batch in lake.batches(path, RECORDS)]
        return sum(batch.column("kind").to_pylist().count("damaged") for batch in batches)

    assert kept() == 5
    sealed(store, 1)
    assert store.compact(grace=0).merged == 6
    assert kept() == 5


def test_a_compaction_merges_small_files_to_no_larger_ones_than_it_may(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the size that counts as large stay as they are, and merged ones have a limit. One file is not merged with nothing, and
    what is not sealed is not merged."""
    fill(store, 1, steps=1)
    assert store.compact(grace=0) == NOTHING
    store.seal()
    files = sealed(store, 99, 1, 1)
    before = seen(store)
    large, *small = sorted(files, key=lambda path: path != files[1])
    monkeypatch.setattr(compacting, "_SMALL", large.stat().st_size)
    monkeypatch.setattr(compacting, "_MOST", sum(path.stat().st_size for path in small[:2]))
    found = store.compact(grace=0)
    assert (found.merged, found.made, found.deleted) == (2 + 2 + 4, 3, 8)
    assert [path.exists() for path in files] == [path not in small[:2] for path in files]
    monkeypatch.setattr(compacting, "_SMALL", 1)
    assert store.compact(grace=0) == NOTHING
    monkeypatch.undo()
    assert store.compact(grace=0).merged
    for _ in range(2):
        assert store.compact(grace=0) == NOTHING
        assert seen(store) == before


def test_a_journal_file_that_is_gone_is_forgotten_a_day_later(store: odograph.Store) -> None:
    """How far a journal file is sealed is known while it is there, and for a day after it went: catalogs may have listed its lines."""
    sealed(store, 1)
    commits = store.backend.reader.lake.commits
    ((gone, stop),) = commits.keys("journal:").items()
    with odograph.open(store.root) as other:  # whose file stays
        run = other.record(task="open")

        def compacted(aged: str | None) -> str | None:
            commits.commit(f"as if {aged}", keys={gone: aged or stop})
            run.note(aged)
            sealed(store, 1)
            assert store.compact(grace=0).merged
            (path,) = (store.root / "journal").glob("*.jsonl")
            assert commits.key(f"journal:{path.name}") == str(path.stat().st_size)
            return commits.key(gone)

        began = time.time_ns()
        bytes, since = str(compacted(None)).split()
        assert bytes == stop and began <= int(since) <= time.time_ns()
        lately, before = (f"{stop} {int(since) - age}" for age in (DAY // 2, 2 * DAY))
        assert (compacted(lately), compacted(before)) == (lately, None)


def test_a_compaction_that_a_damaged_file_stops_leaves_nothing(store: odograph.Store) -> None:
    """A damaged file is named, with what mends it; of the files that were begun none stays, and all others are as they were."""
    damaged_one, whole = sealed(store, 1, 1)
    data = damaged_one.read_bytes()
    damaged_one.write_bytes(data[:20] + bytes(400) + data[420:])
    with pytest.raises(odograph.StoreError, match=f"{damaged_one.name}.*doctor --repair"):
        store.compact(grace=0)
    lake = store.backend.reader.lake
    assert lake.commits.orphans() == []
    assert [lake.root / path for path in lake.files("records")] == [damaged_one, whole]


def test_of_a_trajectory_in_several_files_the_last_summary_counts(store: odograph.Store) -> None:
    """Also where a later file begins with an earlier trajectory, so that its summary is met before the one that it replaces."""
    store.add([Start(trajectory="b", task="q", id="b0", time=1), Note(trajectory="b", id="b1", time=2)])
    store.seal()
    store.add([Start(trajectory="a", task="q", id="a0", time=1)])
    store.append("b").reward(0.5)
    store.seal()
    before = seen(store)
    assert store.compact(grace=0).merged
    assert seen(store) == before == seen(cold(store))
