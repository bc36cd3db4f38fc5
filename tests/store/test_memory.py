"""Folders of `memory:` stores: other processes, which remove what killed ones left, leave those that are used."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from odograph.store import memory
from tests.programs import ran


def test_no_process_removes_a_folder_that_is_new(tmp_path: Path) -> None:
    """A folder is locked before it has the name by which other processes find it; what nobody holds goes."""
    folder = memory.fresh("some-", tmp_path)
    (tmp_path / "some-left").mkdir()
    memory._sweep(tmp_path, "some-")
    assert [*tmp_path.iterdir()] == [folder]
    fd = memory.hold(folder)
    memory._sweep(tmp_path, "some-")
    assert folder.exists()
    os.close(fd)
    memory._sweep(tmp_path, "some-")
    assert not folder.exists()


def test_a_store_that_is_used_again_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a store that was closed, and is used again, is another one of the same name, and locked as the first."""
    folder = memory.fresh("some-", tmp_path)
    monkeypatch.setitem(memory._made, str(folder), os.getpid())
    os.close(memory.hold(folder))
    folder.rmdir()
    fd = memory.hold(folder)
    memory._sweep(tmp_path, "some-")
    assert [*tmp_path.iterdir()] == [folder]
    os.close(fd)


def test_a_folder_that_took_the_place_of_one_that_went_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is late with removing a folder does not remove another one of that name, whose store is used by now."""
    folder = tmp_path / "some-a"
    folder.mkdir()

    def late(path: Path, flags: int, real: Any = os.open) -> int:
        monkeypatch.undo()
        fd: int = real(path, flags)
        shutil.move(path, tmp_path / "gone")
        folder.mkdir()
        return fd

    monkeypatch.setattr(memory.os, "open", late)
    memory._sweep(tmp_path, "some-")
    assert folder.exists() and (tmp_path / "gone").exists()


def test_a_folder_that_gets_no_name_is_gone(tmp_path: Path) -> None:
    """Where another process has that name in the same moment, nothing stays of the folder, and nobody takes it for held."""
    (tmp_path / "name" / "journal").mkdir(parents=True)
    unnamed = tmp_path / ".name"
    unnamed.mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="not empty"):
        memory._named(str(unnamed), tmp_path / "name")
    assert (os.listdir("/proc/self/fd"), [*tmp_path.iterdir()]) == (before, [tmp_path / "name"])


def test_a_folder_that_is_made_anew_while_it_is_locked_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is on the folder that has the name, not on the one that went."""
    folder = tmp_path / "name"
    folder.mkdir()
    monkeypatch.setitem(memory._made, str(folder), os.getpid())
    with monkeypatch.context() as patch:

        def flock(fd: int, how: int) -> None:
            patch.undo()
            folder.rmdir()
            (tmp_path / "new").mkdir()
            (tmp_path / "new").rename(folder)
            fcntl.flock(fd, how)

        patch.setattr(fcntl, "flock", flock)
        fd = memory.hold(folder)
    assert os.path.samestat(os.fstat(fd), os.stat(folder))
    os.close(fd)


def test_a_store_whose_lock_has_the_first_descriptor_stays() -> None:
    """In a process that closed its stdin the lock of a store in memory has the number 0: who else closes the store leaves the store."""
    program = """
        import os, odograph
        os.close(0)
        store = odograph.open("memory:")
        assert store.backend._hold == 0, "this program shows nothing"
        other = odograph.open(store.backend.place)
        store.record(task="t").finish()
        other.close()
        print(store.count(), store.backend.folder.exists())
        store.close()
        print(store.backend.folder.exists())
    """
    done = ran(program)
    assert (done.stdout, done.stderr) == ("1 True\nFalse\n", "")
