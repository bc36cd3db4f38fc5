"""What is made anew where files of the sealed tier are damaged: as it was, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.store import committing

from .test_sealing import cold, fill

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
FACTS = "select * from facts order by all"


@pytest.fixture
def twice(store: odograph.Store) -> odograph.Store:
    """Sealed twice: a run that was corrected before the first time, and is rewarded before the second, one more run each time, and a
    line that is no record."""
    ids = fill(store, 2, steps=1)
    given = store.trajectory(ids[0]).to_dict()
    store.add({**given, "end": {**given["end"], "status": "failed"}})
    store.close()
    with next((store.root / "journal").glob("*.jsonl")).open("a") as file:
        file.write(f'{{"kind":"note","trajectory":"{ids[1]}","id":5}}\n')
    store.seal()
    store.append(ids[0]).reward(2.0, name="late")
    fill(store, 1, steps=2)
    store.seal()
    return store


def files(store: odograph.Store, table: str) -> list[Path]:
    return [store.root / "lake" / path for path in store.backend.reader.lake.files(table)]


def figures(store: odograph.Store) -> tuple[list[Any], list[Any]]:
    summaries = list(store.summaries())
    return summaries, sorted(store.used([one.id for one in summaries]).items())


def lose_a_page(path: Path, group: int) -> set[str]:
    """Puts zeros where a row group of `records` has its bodies; returns whose rows it had."""
    import pyarrow.parquet as parquet

    about = parquet.read_metadata(path).row_group(group)
    (body,) = (c for c in map(about.column, range(about.num_columns)) if c.path_in_schema == "body")
    end = body.data_page_offset + body.total_compressed_size
    data = path.read_bytes()
    ids = parquet.ParquetFile(path).read_row_group(group, ["trajectory"]).column("trajectory").to_pylist()
    path.write_bytes(data[: end - 4] + bytes(4) + data[end:])
    return {*ids}


def lose(path: Path, how: str) -> None:
    """The file is gone, or a byte is changed without which its rows can be read."""
    if how.startswith("gone"):
        path.unlink()
    else:
        path.write_bytes(b"X" + path.read_bytes()[1:])


@pytest.mark.parametrize(("which", "how"), [(0, "gone"), (1, "gone"), (0, "changed"), (0, "gone, and summaries")])
def test_lost_facts_are_made_anew(twice: odograph.Store, which: int, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """All columns of them, also which records were corrected, and the group where its summary is lost, too; a warning says so once
    of each file, until a repair."""
    before = twice.sql(FACTS).list()
    assert sum(row["replaced"] for row in before) == 1
    told = twice.damages()
    lost = {"facts", "trajectories"} if how.endswith("summaries") else {"facts"}
    for table in lost:
        lose(files(twice, table)[which], how)
    with cold(twice) as store:
        store.count()
        for _ in range(2):
            assert store.sql(FACTS).list() == before
        assert caplog.text.count("what it held is made anew from `records` each time") == (how != "changed") * len(lost)
        assert "is left out" not in caplog.text
        assert [store.repair()["mended"] for _ in range(2)] == [len(lost), 0]
    with odograph.open(twice.root) as store:
        caplog.clear()
        assert store.sql(FACTS).list() == before and not caplog.text and store.damages() == told


@pytest.mark.parametrize(("which", "how"), [(0, "gone"), (1, "gone"), (0, "changed")])
def test_lost_summaries_are_made_anew(twice: odograph.Store, which: int, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of runs that were corrected, that were sealed in parts, and of all others; a warning says so once, until a repair."""
    before, asked = figures(twice), "select * from trajectories order by id"
    rows, told = twice.sql(asked).list(), twice.damages()
    lose(files(twice, "trajectories")[which], how)
    with cold(twice) as store:
        for _ in range(2):
            assert figures(store) == before and store.sql(asked).list() == rows
        assert caplog.text.count("what it held is made anew from `records` each time") == (how == "gone")
        assert "is left out" not in caplog.text
        store.repair()
    with cold(odograph.open(twice.root)) as store:
        caplog.clear()
        assert figures(store) == before and store.sql(asked).list() == rows
        assert not caplog.text and store.damages() == told


def test_facts_stay_whose_records_are_lost(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a part of the records is lost, and a byte of the facts changed, the facts that can be read are there, each once."""
    monkeypatch.setattr(committing, "_ROWS", 4)
    fill(store, 3, steps=1)
    store.seal()
    before = store.sql(FACTS).list()
    (records,), (facts,) = files(store, "records"), files(store, "facts")
    lose_a_page(records, 1)
    data = facts.read_bytes()
    facts.write_bytes(b"X" + data[1:])
    with cold(store) as again:
        assert again.sql(FACTS).list() == before


def test_a_repair_says_what_is_lost(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row group of records that nothing can make anew, as damage that is none of a torn end, also once its file is gone; what
    stood in the others is there."""
    monkeypatch.setattr(committing, "_ROWS", 4)
    fill(store, 3, steps=1)
    store.seal()
    before = {t.id: t.to_dict() for t in store.trajectories()}
    (path,) = files(store, "records")
    lost = lose_a_page(path, 1)
    with cold(store) as again:
        told = again.damages()
        assert [(one.file, one.torn) for one in told] == [(f"lake/records/{path.name}", False)]
        again.repair()
    path.unlink(missing_ok=True)
    with cold(odograph.open(store.root)) as mended:
        assert mended.damages() == told
        found = {t.id: t.to_dict() for t in mended.trajectories()}
        assert len(lost) < 3 and found.keys() == before.keys()
        assert {id for id in found if found[id] != before[id]} == lost
        assert mended.repair() is not None and mended.damages() == told


def test_a_repair_that_fails_leaves_nothing(twice: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at any moment of it is told, and no file of the repair stays; the next repair mends."""
    before = twice.sql(FACTS).list()
    files(twice, "facts")[0].unlink()
    for full in ("records", "trajectories"):

        def stage(name: str, full: str = full) -> None:
            if name == full:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(committing, "stage", stage)
        with pytest.raises(OSError, match="No space"):
            twice.repair()
        assert twice.backend.reader.lake.commits.orphans() == []
    monkeypatch.undo()
    assert twice.repair()["mended"] == 1
    assert twice.sql(FACTS).list() == before
