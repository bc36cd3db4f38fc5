"""A store as one thing: its locks, what is there of it, and when it seals by itself."""

from __future__ import annotations

import fcntl
import os
import threading
import time
import warnings
from pathlib import Path

import pytest

import odograph
from odograph.store import backend as backend_module
from odograph.store import sealing
from odograph.store.backend import Backend, Place
from odograph.store.compacting import Compaction
from odograph.store.journal import Journal
from odograph.store.sealing import Sealing
from tests.waiting import until

pytest.importorskip("pyarrow")


def of(folder: Path) -> Backend:
    return Backend(Place(str(folder)))


def nothing_is_left_open() -> int:
    """The number that the next file gets."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """Another one waits for it and says so, or goes on without it; it is free again at the end, also of one that failed."""
    one, two = of(tmp_path / "a" / "s"), of(tmp_path / "a" / "s")
    free = nothing_is_left_open()
    said: list[str] = []
    got: list[bool] = []

    def wait() -> None:
        with two.lock("x", lambda: said.append("waits")) as held:
            got.append(held)

    with one.lock("x", lambda: said.append("wrong")) as held:
        assert held is True
        with two.lock("x", wait=False) as other:
            assert other is False
        with two.lock("y", wait=False) as other:
            assert other is True
        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: said)
        assert got == []
    waiting.join()
    assert (said, got) == (["waits"], [True])
    with pytest.raises(KeyError), one.lock("x"):
        raise KeyError
    with two.lock("x", wait=False) as held:
        assert held is True
    assert nothing_is_left_open() == free
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "a" / "s", *(tmp_path / "a" / "s").rglob("*")]}
    assert modes == {"s": 0o700, "locks": 0o700, "x.lock": 0o600, "y.lock": 0o600}
    (tmp_path / "file").touch()
    with (
        pytest.raises(odograph.StoreError, match=r"a lock can't be made in '.*/file/s': Not a directory"),
        of(tmp_path / "file" / "s").lock("x"),
    ):
        pass


def test_what_nobody_made_is_not_there(tmp_path: Path) -> None:
    """To seal and to merge nothing does nothing, and makes nothing; what was sealed is there without its journal."""
    store = of(tmp_path / "s")
    assert (store.exists, store.journal_bytes(), store.redaction()) == (False, 0, None)
    assert store.health() == {"unshipped": 0, "unshipped_since": None, "unshipped_why": None}
    assert (store.seal(), store.compact(0)) == (Sealing(), Compaction())
    assert (str(store), store.here, store.beside("x")) == (str(tmp_path / "s"), Place(str(tmp_path / "s")), tmp_path / "s" / "x")
    assert not (tmp_path / "s").exists()
    with odograph.open(tmp_path / "s") as made:
        made.record(task="t").finish()
        assert store.exists
        assert store.journal_bytes() == sum(path.stat().st_size for path in (tmp_path / "s" / "journal").iterdir()) > 100
        assert made.repair() == {"commits": 0, "files": 0, "left": 0, "mended": 0}
        found: list[Sealing | None] = []
        behind = threading.Thread(target=lambda: found.append(made.backend.seal()))
        with store.lock("seal"):
            assert made.backend.seal(wait=False) is None
            behind.start()
            behind.join(0.1)  # it waits: were it to go on without the lock, it would be over
        behind.join()
        assert found[0] is not None and found[0].trajectories == 1
        (tmp_path / "s" / "journal").rmdir()
        assert of(tmp_path / "s").exists


def test_one_process_at_once_writes_down_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one waits for it, and takes over what it wrote."""
    of(tmp_path / "s").journal.make_folder()
    fd = os.open(tmp_path / "s" / "journal", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "flock", lambda fd, how, real=fcntl.flock: asked.append(how) or real(fd, how))
    opening = threading.Thread(target=lambda: odograph.open(tmp_path / "s", redact=True).close())
    opening.start()
    until(lambda: asked or not opening.is_alive())
    assert (asked, (tmp_path / "s" / "store.json").exists()) == ([fcntl.LOCK_EX], False)
    os.close(fd)
    opening.join()
    assert (tmp_path / "s" / "store.json").exists()


def test_what_is_done_where_a_store_is_served(tmp_path: Path) -> None:
    """Another machine is told so, also where the server is away, and makes nothing."""
    store = odograph.open("http://127.0.0.1:1", local=tmp_path / "l").backend
    asks = {"sealing": store.seal, "compacting": lambda: store.compact(0), "repairing": lambda: store.repair(lambda path: None)}
    for what, ask in {**asks, "recording of other machines into": store.receiving}.items():
        with pytest.raises(odograph.InvalidInput, match=rf"^{what} the store at http://127.0.0.1:1 is done on the machine that"):
            ask()
    assert store.exists and not list(tmp_path.rglob("lake"))


def test_what_waits_for_a_server_is_redacted_as_it_was_asked(tmp_path: Path) -> None:
    """Where the server is away, the disk of this machine has no secret either."""
    with warnings.catch_warnings(), odograph.open("http://127.0.0.1:1", local=tmp_path / "l", redact=["p[0-9]{4}w"]) as store:
        warnings.simplefilter("ignore", RuntimeWarning)
        store.record(task="p1234w").finish()
    assert b"[redacted:pattern]" in b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))


def test_what_waits_for_a_server_is_not_sealed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it waits for long: what is sealed is never sent."""
    monkeypatch.setattr(backend_module, "_MEASURE_SECONDS", 0.0)
    with warnings.catch_warnings(), odograph.open("http://127.0.0.1:1", local=tmp_path / "l") as store:
        warnings.simplefilter("ignore", RuntimeWarning)
        for task in range(3):
            store.record(task=task).finish()
            store.backend.journal.close()
        assert store.backend._sealing is None


def test_a_seal_that_the_disk_stops_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, with what stays."""
    with odograph.open(tmp_path / "s") as store:
        store.record(task="t").finish()
        monkeypatch.setattr(sealing, "seal", lambda *given: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(
            odograph.StoreError, match=r"can't be sealed \(.*Input/output error\); the unsealed records stay in the"
        ):
            store.seal()


def test_what_was_redacted_in_another_way_is_recorded_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files go once all of it is on the disk; one that another process took away meanwhile is no failure."""
    with odograph.open(tmp_path / "other") as other:
        id = other.record(task="p1234w").id
    files = [*(tmp_path / "other" / "journal").iterdir(), tmp_path / "other" / "journal" / "gone.jsonl"]
    with odograph.open(tmp_path / "s", redact=["p[0-9]{4}w"]) as store:
        assert store.backend.redaction() == ["p[0-9]{4}w"]
        synced: list[bool] = []
        monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(files[0].exists()))
        store.backend._redacted_anew(tmp_path / "other", files)
        assert True in synced
        assert store.trajectory(id).task == "[redacted:pattern]"
    assert not any(path.exists() for path in files)


def test_a_store_that_is_closed_holds_nothing(tmp_path: Path) -> None:
    """Neither its journal, nor its catalog, nor a sealed file stays open; one in memory is gone."""
    free = nothing_is_left_open()
    for name in (str(tmp_path / "s"), "memory:"):
        with odograph.open(name) as store:
            store.record(task="t").finish()
            store.seal()
            store.record(task="t").finish()
            assert len([*store.trajectories()]) == 2
        assert nothing_is_left_open() == free
        assert store.root.exists() == (name != "memory:")


def test_a_folder_that_another_process_makes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that make a store at once: neither fails."""
    one = Journal(tmp_path / "a" / "s" / "journal")
    one.make_folder()
    answers, real = iter([False]), Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: next(answers, None) is None and real(path))
    one.make_folder()
    assert [path.name for path in (tmp_path / "a" / "s").iterdir()] == ["journal"]


def test_the_journal_is_measured_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that records seals beyond the size, in the background, one time at once; it measures every few seconds, and a store
    that is never to seal by itself not at all."""
    now, size = [1000.0], [10]
    measured: list[float] = []
    sealed: list[bool] = []
    over = threading.Event()

    def behind() -> None:
        sealed.append(threading.current_thread().daemon)
        over.wait()

    def made(seal_at: int | None) -> Backend:
        store = Backend(Place(str(tmp_path / f"s{seal_at}"), backend_module.Settings(seal_at=seal_at)))
        monkeypatch.setattr(store, "journal_bytes", lambda: measured.append(now[0]) or size[0])
        monkeypatch.setattr(store, "_seal_behind", behind)
        return store

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    store = made(10)
    measured.clear()
    store._measured = -100.0

    def after(seconds: float, bytes: int) -> tuple[int, int]:
        now[0] += seconds
        size[0] = bytes
        measured.clear()
        store._seal_soon()
        return len(measured), len(sealed)

    assert after(0, 10) == (1, 0)
    assert after(4.9, 11) == (0, 0)
    assert after(0.1, 11) == (1, 1)
    assert after(9, 11) == (0, 1)  # the first one is not at its end
    over.set()
    store._sealing.join()  # type: ignore[union-attr]
    assert after(9, 11) == (1, 2)
    assert sealed[0] is True
    store = made(0)
    assert after(9, 1 << 50) == (0, 2)
    store = made(None)
    measured.clear()
    assert after(9, 1 << 30) == (1, 2)
    assert after(9, (1 << 30) + 1) == (1, 3)
