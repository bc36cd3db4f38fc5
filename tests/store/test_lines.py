"""Journal files as lines: what is read of which bytes, and what is said of a file that can't be read."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

import odograph
from odograph.store import lines
from odograph.streams import MessageLine
from odograph.types import LLMCall, Note

DATA = b"".join(b'{"n":%d}\n' % n for n in range(2000))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.jsonl"
    path.write_bytes(DATA)
    return path


def nothing_is_left_open() -> int:
    """The number that the next file gets."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


def test_the_time_of_a_folder_is_believed_once_its_clock_has_gone_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file could appear without another time of the folder, for as long as a clock of file systems may stand: 50 ms, or 2 s where
    the time is a whole second."""
    second = 1_000_000_000
    now = 1_700_000_000 * second
    monkeypatch.setattr(time, "time_ns", lambda: now)
    for before, believed in ((0, False), (second, False), (2 * second, False), (3 * second, True)):
        os.utime(tmp_path, ns=(now - before, now - before))
        assert lines.settled_time(tmp_path) == (now - before if believed else -1)
    for before, believed in ((49_999_999, False), (50_000_000, True), (second + 1, True), (-second + 7, False)):
        os.utime(tmp_path, ns=(now - before, now - before))
        assert lines.settled_time(tmp_path) == (now - before if believed else -1)
    assert lines.settled_time(tmp_path / "none") == -1


def test_ranges_are_read_in_order_and_those_near_each_other_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each range is what stands there; ranges that overlap or go back are read one by one; the file is closed."""
    reads: list[tuple[int, int]] = []
    real, free = os.pread, nothing_is_left_open()
    monkeypatch.setattr(os, "pread", lambda fd, size, at: reads.append((at, at + size)) or real(fd, size, at))

    def read(*ranges: tuple[int, int]) -> list[tuple[int, int]]:
        reads.clear()
        assert [*lines.read_ranges(file, [*ranges])] == [DATA[start:stop] for start, stop in ranges]
        assert nothing_is_left_open() == free
        return [*reads]

    assert read() == []
    assert read((5, 9)) == [(5, 9)]
    assert read((0, 10), (10, 20), (30, 40), (4136, 4140)) == [(0, 4140)]
    assert read((0, 10), (4107, 4110)) == [(0, 10), (4107, 4110)]
    assert read((0, 10), (9, 20), (0, 5)) == [(0, 10), (9, 20), (0, 5)]
    monkeypatch.setattr(lines, "_CHUNK", 30)
    assert read((2, 10), (20, 32), (32, 33), (40, 41)) == [(2, 32), (32, 41)]
    assert lines.read_range(file, 3, 8) == DATA[3:8]


def test_a_large_range_is_parted_at_lines(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part but the last one has a little more than the size, up to the end of its line; an empty range has none."""
    monkeypatch.setattr(lines, "_CHUNK", 20)  # lines of 8 bytes
    assert [*lines.in_pieces(file, [(0, 8), (8, 8), (16, 36), (40, 80)])] == [(0, 8), (16, 36), (40, 64), (64, 80)]
    assert [*lines.in_pieces(file, [(0, 21)])] == [(0, 21)]
    with pytest.raises(lines.Gone, match="journal none is gone"):
        [*lines.in_pieces(file.with_name("none"), [(0, 100)])]


def test_lines_are_given_with_their_places(file: Path) -> None:
    """... from a byte on; a last line that is not whole is the rest."""
    file.write_bytes(b"one\n\nthree\nfour")
    assert [*lines.complete_lines(file, 0)] == [(0, b"one"), (4, b""), (5, b"three")]
    assert [*lines.complete_lines(file, 5)] == [(5, b"three")]
    assert lines.unfinished(file, 11) == b"four"
    assert lines.unfinished(file, 13) == b"ur"


def test_what_another_program_wrote_in_front_of_a_line_is_left_out() -> None:
    """Lines that are whole are found behind half a line, and nothing else is."""
    assert lines.whole_lines(b'{"kind":1}\nx{"kind":2}\n{"kind":{"kind":3}\nxx{"kin":4}\n{"kind":\n\n{"kind":5}\n{"kind":6}') == (
        b'{"kind":1}\n{"kind":2}\n{"kind":3}\n{"kind":5}\n'
    )


def test_what_can_not_be_read_is_told(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone is told apart from one that nobody can read; a folder that is not there has no files."""
    gone = tmp_path / "none.jsonl"
    assert (lines.journals(gone), lines.journals(file / "x"), lines.size_of(gone), lines.size_of(file)) == ([], [], -1, len(DATA))
    assert (lines.is_folder(tmp_path), lines.is_folder(file), lines.is_folder(gone), lines.is_folder(file / "x")) == (
        True, False, False, False,
    )  # fmt: skip
    (tmp_path / "w.jsonl.steps").touch()
    (tmp_path / "a.jsonl").mkdir()
    assert lines.journals(tmp_path) == [file]
    for ask in (lambda: lines.open_file(gone), lambda: [*lines.complete_lines(gone, 0)], lambda: lines.unfinished(gone, 0)):
        with pytest.raises(FileNotFoundError):
            ask()
    with pytest.raises(lines.Gone, match=r"journal none.jsonl is gone"):
        lines.read_range(gone, 0, 1)
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    for ask in (lambda: lines.open_file(folder), lambda: lines.read_range(folder, 0, 1)):
        with pytest.raises(odograph.StoreError, match=r"journal folder.jsonl can't be read: Is a directory"):
            ask()

    def refuse(*given: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    for name, ask in (("scandir", lambda: lines.journals(tmp_path)), ("stat", lambda: lines.is_folder(tmp_path))):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            with pytest.raises(odograph.StoreError, match="can't be read: Input/output error"):
                ask()


def test_a_writer_lives_while_it_holds_its_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no descriptor is left to find out, it is taken for alive; a file that is gone has no writer. Nothing stays open."""
    free = nothing_is_left_open()
    assert (lines.is_alive(file), lines.is_alive(file.with_name("none"))) == (False, False)
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert lines.is_alive(file) is True
        monkeypatch.setattr(os, "open", lambda *given: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files")))
        assert lines.is_alive(file) is True
        monkeypatch.undo()
    assert nothing_is_left_open() == free


def test_the_head_of_a_file_says_who_wrote_it(tmp_path: Path) -> None:
    """... and in which version; where it is damaged the file's name says who, without the number of its part."""
    path = tmp_path / "0a1.2.jsonl"
    path.write_bytes(b'{"kind":"journal","schema_version":1,"writer":"other"}\n')
    found = lines.open_file(path)
    assert (found.name, found.writer, found.version) == ("0a1.2.jsonl", "other", 1)
    path.write_bytes(b'{"kind":"journal","schema_version":99,"writer":"other"}\n')
    with pytest.raises(odograph.NewerStore, match=r"journal 0a1.2.jsonl has schema version 99"):
        lines.open_file(path)
    for name, writer in (("0a1.2.jsonl", "0a1"), ("0a1.jsonl", "0a1"), ("Of me.1.jsonl", "Of me.1")):
        path = tmp_path / name
        path.write_bytes(b"{\n")
        assert (lines.open_file(path).writer, lines.open_file(path).version) == (writer, odograph.types.SCHEMA_VERSION)


def test_a_record_without_its_writer_is_of_the_files_writer() -> None:
    """A record that names its writer keeps it; a call says whose streams its packed parts are of, where they have a place."""
    note = b'{"kind":"note","id":"i","trajectory":"t","seq":1,"time":1%b}'
    for more, writer in ((b"", "w"), (b',"writer":"other"', "other")):
        found = lines.decode(note % more, "w")
        assert isinstance(found, Note) and found.writer == writer
    assert lines.decode(b'{"kind":"journal"}', "w") is None
    message = lines.decode(b'{"kind":"message","trajectory":"t","stream":1,"n":0,"hash":"h","body":"x"}', "w")
    assert isinstance(message, MessageLine) and message.n == 0
    call = b'{"kind":"llm_call","id":"i","trajectory":"t","seq":1,"time":1,"packed":[{"at":[%b],"of":"list","stream":1,"ranges":[[0,1]]}]}'
    found = lines.decode(call % b'"request","messages"', "w")
    assert isinstance(found, LLMCall) and found.packed_by == "w"
    with pytest.raises(msgspec.ValidationError, match="a call with packed parts that have no place"):
        lines.decode(call % b"", "w")
