"""A sealed tier that something happened to: what is safe is said in a sentence, and nothing is lost or sealed twice."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import main
from odograph.store.layout import TABLES

from .test_sealing import cold, fill, journals, seen

pytest.importorskip("pyarrow")


def test_a_lost_list_is_never_replaced_by_a_seal(store: odograph.Store) -> None:
    """Where `commits.sqlite` is lost, sealing, merging and reading refuse and name the way out, which brings all of it back: also what
    was merged, whose parts are gone."""
    fill(store, 1)
    store.seal()
    fill(store, 1)
    store.seal()
    store.compact(grace=0)
    store.compact(grace=0)
    fill(store, 1)
    before = seen(store)
    store.close()
    for path in (store.root / "lake").glob("commits.sqlite*"):
        path.unlink()
    files = sorted((store.root / "lake").rglob("*.parquet"))
    for ask in (store.seal, store.compact, store.count, lambda: store.sql("select 1").list() and store.count()):
        with pytest.raises(odograph.StoreError, match=r"commits.sqlite is gone.*odograph doctor --repair"):
            ask()
    assert sorted((store.root / "lake").rglob("*.parquet")) == files
    assert store.repair()["left"] == 0
    assert seen(store) == before
    store.seal()
    assert seen(cold(store)) == before


@pytest.mark.parametrize("how", ["moved", "restored", "closed"])
@pytest.mark.parametrize("merged", [False, True])
def test_an_older_list_that_is_put_back_loses_nothing(
    store: odograph.Store, tmp_path: Path, how: str, merged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a backup of `commits.sqlite` takes the place of a later list, under an open process too, a reader is told that the list
    went back, and the next seal takes in what the list lacks. Where files of the backup were merged and are gone, the seal refuses and
    names the way out, which brings all of it back."""
    path, backup = store.root / "lake" / "commits.sqlite", tmp_path / "backup"
    fill(store, 1)
    store.seal()
    store.close()
    shutil.copy(path, backup)
    fill(store, 1)
    store.seal()
    if merged:
        assert store.compact(grace=0).deleted
    fill(store, 1)
    before = seen(store)
    if how == "restored":
        with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
    else:
        if how == "closed":
            store.close()
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        backup.rename(path)
    if merged:
        with pytest.raises(odograph.StoreError, match=r"older than the files.* nothing is lost: `odograph doctor --repair`"):
            store.seal()
        assert store.repair()["left"] == 0
    else:
        store.backend.reader.catalog.look()
        assert [one.getMessage() for one in caplog.records if f"an older {path} was put back" in one.getMessage()]
        assert len([*store.summaries()]) == 2
        store.seal()
    assert seen(store) == seen(cold(store)) == before
    store.seal()
    assert seen(cold(store)) == before and store.damages() == []


def test_a_list_that_knows_nothing_costs_no_merged_file(store: odograph.Store, caplog: pytest.LogCaptureFixture) -> None:
    """Where the list was emptied, the files of a merge whose parts are gone can't be taken in: they stay, and a warning says what to
    do."""
    for _ in range(2):
        fill(store, 1)
        store.seal()
    store.compact(grace=0)
    before = seen(store)
    store.close()
    path = store.root / "lake" / "commits.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for table in ("commits", "files", "keys"):
            db.execute(f"delete from {table}")
    files = sorted((store.root / "lake").rglob("*.parquet"))
    store.seal()
    assert sorted((store.root / "lake").rglob("*.parquet")) == files
    assert "delete the list: `odograph doctor --repair` makes it anew" in caplog.text
    store.close()
    path.unlink()
    assert store.repair()["left"] == 0
    assert seen(store) == before


def no_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 300)


def of_others(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table notes(text)")


def without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma journal_mode=wal")


@pytest.mark.parametrize("damage", [no_database, of_others, without_tables])
def test_a_damaged_list_is_told(store: odograph.Store, damage: Callable[[Path], None]) -> None:
    """A `commits.sqlite` that is no database, that of another program, or one that lists nothing: one sentence with the way out; the
    journal stays, and after the repair nothing is twice."""
    fill(store, 2)
    store.seal()
    fill(store, 1)
    before = seen(store)
    store.close()
    for path in (store.root / "lake").glob("commits.sqlite*"):
        path.unlink()
    damage(store.root / "lake" / "commits.sqlite")
    for ask in (store.count, store.seal):
        with pytest.raises(odograph.StoreError, match=r"is damaged .*odograph doctor --repair"):
            ask()
    assert len(journals(store)) == 1
    store.repair()
    store.seal()
    assert seen(cold(store)) == before


def test_a_list_of_a_later_odograph_stays(store: odograph.Store) -> None:
    """A `commits.sqlite` of a later version is refused by all that reads and writes, and a repair does not replace it."""
    fill(store, 1)
    store.seal()
    store.close()
    path = store.root / "lake" / "commits.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma user_version=99")
    for ask in (store.count, store.seal, store.repair):
        with pytest.raises(odograph.NewerStore, match="has version 99; this Odograph reads up to 1: install a newer one"):
            ask()
    assert not list(path.parent.glob("*.damaged"))


def test_a_file_that_vanished_is_told(store: odograph.Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A data file that somebody deleted costs what is in it: lists go on, reading says which file is gone, and so does `odograph doctor`."""
    first = fill(store, 1)[0]
    store.seal()
    second = fill(store, 1)[0]
    store.seal()
    store.close()
    lost = sorted((store.root / "lake" / "records").glob("*.parquet"))[0]
    lost.unlink()
    assert len(list(store.summaries())) == 2
    assert store.trajectory(second).id == second
    with pytest.raises(odograph.StoreError, match=rf"{lost.name} is gone"):
        store.trajectory(first)
    assert main(["--store", str(store.root), "doctor"]) == 1
    assert f"damaged: lake/records/{lost.name}: {lost} is gone" in capsys.readouterr().out
    assert [(d.file, d.offset) for d in store.damages()] == [(f"lake/records/{lost.name}", 0)]


def test_a_sealed_tier_that_is_gone_is_told(store: odograph.Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder `lake` was deleted: no list shows what can't be read, no seal begins a new tier in its place, recording goes on, and
    with the folder back all of it is there."""
    with store.record(task="one") as run:
        run.reward(1.0)
    store.seal()
    assert store.count() == 1
    store.close()
    (store.root / "lake").rename(tmp_path / "away")
    for command in ("ls", "stats", "doctor", "seal", "tail"):
        assert main(["--store", str(store.root), command]) == 1
        assert f"{store.root / 'lake'} is gone" in capsys.readouterr().err, command
    with odograph.open(store.root) as again:
        with again.record(task="two") as run:
            run.reward(1.0)
        with pytest.raises(odograph.StoreError, match="put the folder back"):
            again.count()
        (tmp_path / "away").rename(store.root / "lake")
        assert again.count() == 2
        assert again.trajectory(run.id).task == "two"


def test_a_full_disk_costs_nothing(store: odograph.Store) -> None:
    """A disk that is full while sealing: a sentence, no half file, the journal stays, and the next seal seals all of it once."""
    fill(store, 40)
    with store.record(task="much") as run:
        run.note(os.urandom(300_000).hex())
    before = seen(store)
    store.close()
    code = f"""
        import resource, signal
        import odograph
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        store = odograph.open({str(store.root)!r})
        try:
            store.seal()
        except odograph.StoreError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "can't be written" in done.stdout and len(done.stdout.splitlines()) == 1
    assert [p.name for p in (store.root / "lake").rglob("*.parquet*")] == []
    assert len(journals(store)) == 1
    assert store.seal().trajectories == 41
    assert seen(cold(store)) == before


@pytest.mark.parametrize("table", TABLES)
def test_a_seal_that_can_not_begin_leaves_nothing(store: odograph.Store, table: str) -> None:
    """Where one of a seal's files can't be made, the others go, too; a sentence says what is safe and what to do."""
    fill(store, 1)
    before = seen(store)
    there = store.root / "lake" / table
    there.parent.mkdir()
    there.write_text("a file of somebody else")
    with pytest.raises(odograph.StoreError, match=r"can't be written: .*; nothing that was recorded is lost: do the same again"):
        store.seal()
    assert [path.name for path in store.root.rglob("*.parquet*")] == []
    there.unlink()
    store.seal()
    assert seen(cold(store)) == before


@pytest.mark.parametrize(
    ("bytes", "sealed", "damages"), [(8192, False, 0), (24_000, False, 0), (512, True, 0), (36_000, True, 200)]
)
def test_a_disk_that_is_full_before_the_list_of_the_files(store: odograph.Store, bytes: int, sealed: bool, damages: int) -> None:
    """A disk too full for `commits.sqlite`, new or old, or, with a long list of damages, for what settles a commit that is made: a
    sentence, no traceback; reading goes on, and a later seal seals once."""
    for number in range(1 + sealed):
        if number:
            store.seal()
        fill(store, 3)
        store.close()
        (path,) = (store.root / "journal").glob("*.jsonl")
        path.write_bytes(path.read_bytes() + b"junk\n" * damages)
    before = seen(store)
    store.close()
    code = f"""
        import resource, signal
        import odograph, pyarrow.parquet
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))
        store = odograph.open({str(store.root)!r})
        try:
            store.seal()
        except odograph.StoreError as error:
            print(error)
        print(len(list(store.trajectories())))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert done.stdout.splitlines()[1:] == [str(len(before["trajectories"]))]
    assert "can't be" in done.stdout
    assert seen(cold(store)) == before
    store.seal()
    assert journals(store) == []
    assert seen(cold(store)) == before


@pytest.mark.parametrize("jump", [-400 * 86_400, 400 * 86_400])
def test_a_clock_that_jumps_changes_nothing(store: odograph.Store, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    """A host's clock that jumps between seals, back or ahead: what is sealed stays once, also merged, and after a repair."""
    real = time.time_ns
    ids = fill(store, 2)
    store.seal()
    monkeypatch.setattr(time, "time_ns", lambda: real() + jump * 10**9)
    store.append(ids[0]).reward(5.0, name="late")
    fill(store, 1)
    store.seal()
    monkeypatch.undo()
    fill(store, 1)
    store.seal()
    before = seen(store)
    assert store.trajectory(ids[0]).reward == 5.0
    assert seen(cold(store)) == before
    store.compact(grace=3600)
    assert seen(cold(store)) == before
    store.close()
    for path in (store.root / "lake").glob("commits.sqlite*"):
        path.unlink()
    store.repair()
    assert seen(cold(store)) == before
    assert store.sql("select count(*) as n from facts").list() == [{"n": 4 * 12 + 1}]


def test_files_go_in_the_order_in_which_they_were_taken_out(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge while the clock was a year ahead, and a merge of what it made: the first files go first, so that a repair after it
    has nothing twice."""
    real = time.time_ns
    for jump in (366 * 86_400, 0, 7200):
        fill(store, 2)
        store.seal()
        fill(store, 1)
        store.seal()
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: real() + jump * 10**9)
        store.compact(grace=3600)
        monkeypatch.undo()
    before = seen(store)
    store.close()
    for path in (store.root / "lake").glob("commits.sqlite*"):
        path.unlink()
    store.repair()
    assert seen(cold(store)) == before
    assert store.sql("select count(*) - count(distinct id) as twice from records").list() == [{"twice": 0}]


def test_a_repair_after_a_jump_seals_nothing_twice(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that a living process wrote, sealed twice with a clock that went back between: the repaired list knows its later end."""
    real = time.time_ns
    with store.record(task="endless") as run:
        run.note("one")
        other = odograph.open(store.root)  # seals what this process goes on writing
        other.seal()
        run.note("two")
        monkeypatch.setattr(time, "time_ns", lambda: real() - 400 * 86_400 * 10**9)
        other.seal()
        monkeypatch.undo()
        before = other.backend.reader.lake.sealed_to()
        other.close()
        for path in (store.root / "lake").glob("commits.sqlite*"):
            path.unlink()
        other.repair()
        assert other.backend.reader.lake.sealed_to() == before
        other.seal()
    store.seal()
    assert (
        store.sql("select count(*) as n from records").list() == store.sql("select count(distinct id) as n from records").list()
    )


@pytest.mark.parametrize(
    ("missing", "does", "extra"),
    [
        ("pyarrow", "store.seal()", "lake"),
        ("pyarrow", "store.compact()", "lake"),
        ("pyarrow", "store.sql('select * from facts')", "lake"),
        ("duckdb", "store.sql('select 1')", "lake"),
        ("daft", "store.frame('facts')", "worlds"),
        (
            "pyiceberg",
            "odograph.open('file:///tmp/none', catalog='sqlite:////tmp/none.db', local=root + '/l').count()",
            "iceberg",
        ),
        ("pyiceberg", "store.publish('file:///tmp/none', catalog='sqlite:////tmp/none.db')", "iceberg"),
        (
            "psycopg",
            "odograph.open('s3://none/runs', catalog='postgresql://u:p@127.0.0.1:1/db', local=root + '/m').count()",
            "iceberg",
        ),
        ("ray", "store.validate(runner='ray')", "ray"),
    ],
)
def test_a_missing_extra_is_named(store: odograph.Store, missing: str, does: str, extra: str) -> None:
    """Without an extra recording goes on, and what needs the extra names it in a sentence."""
    fill(store, 1)
    store.close()
    code = f"""
        import sys
        sys.modules[{missing!r}] = None
        import odograph
        root = {str(store.root)!r}
        store = odograph.open(root)
        with store.record(task="goes on"):
            pass
        try:
            {does}
        except odograph.MissingExtra as error:
            print(error)
        assert store.count() == 2
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"odograph[{extra}]" in done.stdout and len(done.stdout.splitlines()) == 1
    assert (store.root / "lake").exists() == ("publish" in does)  # which seals first; else nothing was begun


@pytest.mark.parametrize(("umask", "shared"), [(0o000, False), (0o022, False), (0o002, True), (0o077, True)])
def test_all_of_the_lake_is_its_owners_alone_unless_shared(tmp_path: Path, umask: int, shared: bool) -> None:
    """Folders of the sealed tier have mode 0700 and files 0600, whatever the umask; those of a shared store are as open as the umask
    says: each member of a group can seal."""
    before = os.umask(umask)
    open_to = 0o777 & ~umask if shared else 0o700
    try:
        store = odograph.open(tmp_path / "s", shared=shared)
        fill(store, 1)
        store.seal()
        fill(store, 1)
        store.seal()
        store.compact(grace=0)
    finally:
        os.umask(before)
    wrong: list[Any] = []
    for path in [store.root / "lake", *(store.root / "lake").rglob("*")]:
        if path.stat().st_mode & 0o777 != (open_to if path.is_dir() else open_to & 0o666):
            wrong.append((path.name, oct(path.stat().st_mode)))
    assert wrong == []


@pytest.mark.parametrize("closed", ["", "store", "store/lake"])
def test_a_folder_that_nobody_may_look_into_is_told(tmp_path: Path, closed: str) -> None:
    """Where a store, the folder around it or its sealed tier belongs to somebody else, each question and command says so in a
    sentence: nothing says that nothing is there, and the process ends without a traceback."""
    with odograph.open(tmp_path / "around" / "store") as store:
        fill(store, 1)
        store.seal()
    code = f"""
        import odograph
        for ask in ("count", "seal", "compact", "tail", "stats"):
            try:
                store = odograph.open({str(store.root)!r})
                print(ask, next(iter(store.tail())) if ask == "tail" else getattr(store, ask)())
            except odograph.StoreError as error:
                print(error)
    """
    less = []
    if os.geteuid() == 0:
        tool = shutil.which("setpriv") or pytest.skip("setpriv is not installed")
        less = [tool, "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    folder = tmp_path / "around" / closed
    folder.chmod(0)
    try:
        done = subprocess.run([*less, sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    finally:
        folder.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert len(said) == 5 and all("Permission denied" in line for line in said)
