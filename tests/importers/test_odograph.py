"""Our own exports as sessions: what is damaged costs itself alone, and nothing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

import odograph
from odograph import importers
from odograph.errors import InvalidInput
from odograph.importers.formats import odograph as own
from odograph.training.export import export
from tests.training.made import asked, call, chat, made


def three(tmp_path: Path, to: str = "jsonl") -> tuple[list[odograph.Trajectory], Path]:
    ts = [asked(str(n), 1.0) for n in range(3)]
    export(ts, tmp_path / "o", to)
    return ts, tmp_path / "o" / "data" / "train.jsonl" if to == "jsonl" else tmp_path / "o"


@pytest.mark.parametrize("to", ["jsonl", "parquet"])
def test_sessions_keep_ids_times_writers_and_order(tmp_path: Path, to: str) -> None:
    """A session is the trajectory that was exported: the same records, with nothing renumbered."""
    ts, place = three(tmp_path, to)
    importer = importers.recognise(place)
    assert importer is own
    sessions = list(importer.read(place))
    assert [s.id for s in sessions] == [t.id for t in ts]
    assert [s.records for s in sessions] == [list(t.complete_records()) for t in ts]
    assert all(not s.warnings for s in sessions)


def test_a_damaged_line_costs_itself_and_is_named(tmp_path: Path) -> None:
    """Of a file with a broken line all else is imported, and the warning says at which byte."""
    ts, file = three(tmp_path)
    data = file.read_bytes()
    place = data.index(b'{"kind":"reward"', data.index(ts[1].id.encode()))
    file.write_bytes(data[:place] + b"#" + data[place + 1 :])
    sessions = list(own.read(file))
    assert [len(s.records) for s in sessions] == [5, 4, 5]
    assert [dict(s.warnings) for s in sessions] == [{}, {f"a damaged line at byte {place}": 1}, {}]


def test_a_torn_end_is_not_silent(tmp_path: Path) -> None:
    """A file that was cut in its last line gives what came before and says so; without its last newline it is whole."""
    _, file = three(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    assert [len(s.records) for s in own.read(file)] == [5, 5, 5]
    file.write_bytes(data[:-20])
    sessions = list(own.read(file))
    assert [len(s.records) for s in sessions] == [5, 5, 4]
    assert "a damaged line at byte" in str(sessions[-1].warnings)


def test_a_lost_message_is_said_and_not_made_up(tmp_path: Path) -> None:
    """A call whose message is gone says that it is missing, in its place and in the warnings."""
    export([made(steps=[{"llm_calls": [call(chat("be good", "q"), "a")]}])], tmp_path / "o", "jsonl")
    file = tmp_path / "o/data/train.jsonl"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if '"be good"' not in line))
    (session,) = own.read(file)
    assert dict(session.warnings) == {"a message that a call refers to is missing": 1}


def test_files_can_be_put_together(tmp_path: Path) -> None:
    """`cat a.jsonl b.jsonl` is an export too."""
    a, b = asked("a"), asked("b")
    export([a], tmp_path / "a", "jsonl")
    export([b], tmp_path / "b", "jsonl")
    both = tmp_path / "both.jsonl"
    both.write_bytes(b"".join((tmp_path / n / "data/train.jsonl").read_bytes() for n in "ab"))
    assert [s.id for s in own.read(both)] == [a.id, b.id]


@pytest.mark.parametrize("version", ["99", "0", "null", '"x"', "true", "1.5"])
def test_a_version_that_is_not_known_is_one_sentence(tmp_path: Path, version: str) -> None:
    """A later version's file, or one that states none, is refused by itself and costs no other file of an import."""
    _, file = three(tmp_path)
    other = tmp_path / "other.jsonl"
    other.write_bytes(file.read_bytes().replace(b'"schema_version":1', f'"schema_version":{version}'.encode(), 1))
    with pytest.raises(InvalidInput, match="has schema version"):
        list(own.read(other))
    with odograph.open("memory:") as store:
        report = store.import_sessions(other, file)
        assert (report.imported, len(report.failed)) == (3, 1)


def test_a_damaged_table_is_one_sentence(tmp_path: Path) -> None:
    """A Parquet file that is cut short is named; nothing is read from it by halves."""
    _, folder = three(tmp_path, "parquet")
    (file,) = (folder / "records").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InvalidInput, match=r"train-00000-of-00001.parquet is damaged"):
        list(own.read(folder))


def test_other_folders_are_not_taken_for_ours(tmp_path: Path) -> None:
    """A manifest.json of something else, or of an export that can't be read back, is no session."""
    (tmp_path / "manifest.json").write_text('{"to": "parquet"}')
    assert not own.recognise(tmp_path, b"")
    export([asked("x")], tmp_path / "hf", "hf")
    assert not own.recognise(tmp_path / "hf", b"")
