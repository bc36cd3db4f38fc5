"""A store that machines share: tables of Apache Iceberg in object storage, which several processes write at once.

A machine is a process with a folder of its own. The servers are real: moto's S3, PostgreSQL, and SQLite for a single machine.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import odograph
from odograph.cli import main
from odograph.store import committing, databases, lake, layout, publishing, sealing
from odograph.tables import iceberg
from odograph.tables.schema import Column
from odograph.tables.shared import catalog_of, said, shared

from ..servers import cloud, object_storage, postgres, rest_catalog
from .test_sealing import fill, journals, seen

pytest.importorskip("pyiceberg")
SECRETS = ("hunter2", "s3cr3t")


class Team:
    """Tables that machines share; `machine(name)` opens them with a folder of its own."""

    def __init__(self, where: str, catalog: str | dict[str, str], root: Path) -> None:
        self.where, self.catalog, self.root = where, catalog, root

    def machine(self, name: str) -> odograph.Store:
        return odograph.open(self.where, catalog=self.catalog, local=self.root / name)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    with object_storage("team-bucket") as storage:
        with postgres() as database:
            yield {"uri": database, **storage}


@pytest.fixture
def team(servers: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Team:
    """On S3 and PostgreSQL."""
    return Team(f"s3://team-bucket/{request.node.originalname[:30]}", servers, tmp_path)


@pytest.fixture
def near(tmp_path: Path) -> Team:
    """On files and SQLite, for what needs no server."""
    (tmp_path / "warehouse").mkdir()
    return Team(f"file://{tmp_path}/warehouse/runs", f"sqlite:///{tmp_path}/catalog.db", tmp_path)


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Team]:
    """On files and a REST catalog."""
    (tmp_path / "warehouse").mkdir()
    with rest_catalog(tmp_path / "warehouse") as url:
        yield Team(f"file://{tmp_path}/warehouse/runs", url, tmp_path)


def fresh(team: Team, name: str) -> odograph.Store:
    """A machine that has never seen the store."""
    return team.machine(f"{name}-fresh")


@pytest.fixture(params=["near", "rest", pytest.param("team", marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest) -> Team:
    """On files with SQLite, and with a REST catalog; in the long tests also on S3 and PostgreSQL."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_machines_read_what_others_sealed(both: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trajectory is seen on its own machine at once, and on others once it is sealed: by lists, searches, figures, SQL and frames.
    Late rewards of two machines count both, and merging files changes nothing."""
    a, b = both.machine("a"), both.machine("b")
    ids = fill(a, 4)
    before = seen(a)
    assert list(b.summaries()) == []
    assert a.seal().trajectories == 4
    assert journals(a) == []
    b.backend.reader.catalog.look()
    assert seen(a) == seen(b) == before
    fill(b, 2)
    b.append(ids[0]).reward(7.0, name="late")
    a.append(ids[0]).reward(1.0, name="other")
    a.seal(), b.seal()
    all = seen(fresh(both, "c"))
    assert len(all["summaries"]) == 6
    assert next(s for s in all["summaries"] if s.id == ids[0]).reward == 8.0
    count = "select count(*) as n, count(distinct trajectory) as t from facts"
    told = a.sql(count).list(), len(a.search("needle0 é"))
    assert told[0] == [{"n": 74, "t": 6}]
    assert a.frame("facts").count_rows() == 74
    from pyiceberg.catalog import load_catalog

    settings = {
        k: v.replace("postgresql:", "postgresql+psycopg:")
        for k, v in (both.catalog if isinstance(both.catalog, dict) else {"uri": both.catalog}).items()
    }
    table = load_catalog(
        "odograph", type="rest" if str(both.catalog).startswith("http") else "sql", warehouse=both.where, **settings
    ).load_table(f"{a.backend.place.tables.namespace}.facts")  # type: ignore[union-attr]
    assert table.scan().to_arrow().num_rows == 74  # others attach the tables
    b.close()
    b.close()
    reads = iceberg.IcebergCommits.source

    def merged(*of: Any) -> Any:
        monkeypatch.undo()
        assert a.compact(grace=0).merged == 9
        return reads(*of)

    monkeypatch.setattr(iceberg.IcebergCommits, "source", merged)
    assert b.trajectory(ids[1]).to_dict() == all["trajectories"][1]  # of a file that was merged a moment before
    assert (a.sql(count).list(), len(a.search("needle0 é"))) == told
    c = fresh(both, "d")
    assert seen(c) == all
    assert c.sql(count).list() == told[0]
    assert c.examine()["sealed"]["files"] == 3


def test_steps_behind_those_that_were_sealed(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has ended goes on behind the steps that another writer took in it, also where all of them were sealed."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")  # as at a user's: a fault leaves a warning and a wrong index
    store = near.machine("a")
    with store.record(task="x") as run:
        with run.step("0"):
            pass
        other = store.append(run.id)
        for scope, seen in ((other, "1"), (run, "2"), (other, "3")):
            with scope.step(seen):
                pass
    assert store.seal().trajectories == 1
    with run.step("4"):
        pass
    assert [(s.index, s.observation) for s in store.trajectory(run.id).steps] == [(n, str(n)) for n in range(5)]


def work(store: odograph.Store, name: str, common: str) -> None:
    for round in range(2):
        for i in range(4):
            with store.record(task=f"{name} {round} {i}", group=name) as run:
                with run.step(observation="o") as step:
                    step.llm_call(model="m", messages=[{"role": "user", "content": f"{name} {i}"}], response="a")
                run.reward(1.0)
        store.append(common).reward(1.0, name=f"{name} {round}")
        store.seal()
    if name == "m0":
        store.compact(grace=3600)


def nothing_lost_or_doubled(reader: odograph.Store, count: int, common: str) -> None:
    tasks = sorted(t.task for t in reader.trajectories() if t.id != common)
    assert tasks == sorted(f"m{n} {round} {i}" for n in range(count) for round in range(2) for i in range(4))
    rewards = sorted(r.name for r in reader.trajectory(common).rewards if r.name != "final")
    assert rewards == sorted(f"m{n} {round}" for n in range(count) for round in range(2))
    assert reader.sql("select count(*) as n from facts where kind = 'reward'").list() == [{"n": count * (8 + 2) + 1}]
    assert (
        reader.sql("select count(*) as n from records").list() == reader.sql("select count(distinct id) as n from records").list()
    )
    assert reader.examine()["sealed"]["pending"] == {}


def test_folders_seal_at_once(near: Team) -> None:
    """Folders that record, reward one trajectory, seal and merge at the same time: nothing is lost, and nothing is twice."""
    a = near.machine("a")
    common = fill(a, 1)[0]
    a.seal()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda n: work(near.machine(f"m{n}"), f"m{n}", common), range(3)))
    nothing_lost_or_doubled(fresh(near, "r"), 3, common)


def test_a_folder_has_one_name_among_machines(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sealed of a folder's journal is kept by the folder's name. Processes that make the name at once agree, and a process
    that was killed between making the file and writing the name leaves a name to be made."""
    one, other = (near.machine("a").backend.reader.lake for _ in range(2))
    found: list[str] = []
    # as another process does: threads of one wait for each other at a `cached_property` of Python 3.11
    looks = threading.Thread(target=lambda: found.append(lake.Lake.journal_key.func(other)))

    def named() -> str:
        looks.start()
        looks.join(0.2)  # the other one has not waited where it is done by then
        return "name"

    monkeypatch.setattr(lake, "new_id", named)
    found.append(one.journal_key)
    looks.join()
    assert found == ["journal:name/"] * 2
    (one.root / "folder").write_bytes(b"")
    monkeypatch.setattr(lake, "new_id", lambda: "another")
    assert near.machine("a").backend.reader.lake.journal_key == "journal:another/"


MACHINE = """
    import json, sys
    import odograph
    from tests.store.test_shared import work
    name, where, catalog, root, common = sys.argv[1:]
    work(odograph.open(where, catalog=json.loads(catalog), local=f"{root}/{name}"), name, common)
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["gs", "abfs"])
def test_machines_share_other_clouds(tmp_path: Path, scheme: str) -> None:
    """The storages of Google and Azure: machines seal, read, merge, and read the tables with Daft as on S3."""
    with cloud(scheme, "runs", tmp_path) as settings:
        team = Team(f"{scheme}://runs/team", {"uri": f"sqlite:///{tmp_path}/catalog.db", **settings}, tmp_path)
        ids = []
        for name in ("a", "b"):
            with team.machine(name) as store:
                ids += fill(store, 2)
                store.seal()
        with team.machine("c") as store:
            assert sorted(s.id for s in store.summaries()) == sorted(ids)
            before = [t.to_dict() for t in store.trajectories()]
            assert store.compact(grace=0).deleted
            assert [t.to_dict() for t in store.trajectories()] == before
            (found,) = store.sql("select count(*) as n from facts").list()
            assert len(store.search("needle0")) > 0
            if scheme == "abfs":  # Daft reaches no other server of Google's
                assert store.frame("facts").count_rows() == found["n"]


@pytest.mark.slow
def test_machines_seal_at_once(team: Team) -> None:
    """Three processes on S3 and PostgreSQL that record, reward one trajectory, seal and merge at the same time: nothing is lost, and
    nothing is twice."""
    a = team.machine("a")
    common = fill(a, 1)[0]
    a.seal()
    given = [team.where, json.dumps(team.catalog), str(team.root), common]
    here = Path(__file__).parents[2]
    code = [sys.executable, "-c", textwrap.dedent(MACHINE)]
    machines = [subprocess.Popen([*code, f"m{n}", *given], cwd=here) for n in range(3)]
    assert [machine.wait() for machine in machines] == [0, 0, 0]
    nothing_lost_or_doubled(fresh(team, "r"), 3, common)


def test_a_commit_that_is_killed_is_made_once(
    near: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that dies anywhere in a commit: others never see half of it, and its machine's next seal makes it whole, once."""
    a = near.machine("a")
    fill(a, 1)
    a.seal()
    there = 1
    for stage in ("uploaded", "marked", "facts", "records", "truth"):
        a = near.machine("a")
        fill(a, 2)
        before = seen(a)

        def die(name: str, stage: str = stage) -> None:
            if name == stage:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(iceberg, "stage", die)
            with pytest.raises(KeyboardInterrupt):
                a.seal()
        if stage == "facts":
            monkeypatch.setenv("ODOGRAPH_CATALOG", str(near.catalog))
            monkeypatch.setenv("ODOGRAPH_LOCAL", str(near.root / "doctor"))
            assert main(["--store", near.where, "doctor"]) == 0
            assert "under way: 1 commits of machines that share the store" in capsys.readouterr().out
        visible = there + 2 if stage == "truth" else there
        other = near.machine("b")
        assert len(list(other.summaries())) == visible, stage
        count = "select count(*) as n, count(distinct trajectory) as t from facts"
        assert other.sql(count).list() == [{"n": visible * 12, "t": visible}]
        again = near.machine("a")
        assert seen(again) == before, stage
        files = {path: path.stat().st_mtime_ns for path in (near.root / "warehouse").rglob("*.parquet")}
        again.seal()
        if stage == "truth":  # what is there is not sent again
            assert files == {path: path.stat().st_mtime_ns for path in (near.root / "warehouse").rglob("*.parquet")}
        there += 2
        assert journals(again) == []
        other.backend.reader.catalog.look()
        assert seen(again) == seen(other) == before
        assert other.sql(count).list() == [{"n": there * 12, "t": there}]
        sealed = again.examine()["sealed"]
        assert (sealed["pending"], sealed["orphans"]) == ({}, [])


def test_a_seal_that_others_overtake_is_made_anew_so_often(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another machine seals more of the same trajectory first, a seal is made once more; after a few times it gives up, and
    leaves nothing behind."""
    a, b = near.machine("a"), near.machine("b")
    (id,) = fill(a, 1, steps=1)
    a.seal()
    a.append(id).reward(1.0, name="mine")
    names = iter(("theirs", "more of theirs"))

    def first(stage: str) -> None:
        if stage == "rows" and (name := next(names, None)) is not None:
            b.append(id).reward(1.0, name=name)
            with monkeypatch.context() as patch:
                patch.setattr(committing, "stage", lambda _: None)
                b.seal()

    monkeypatch.setattr(committing, "stage", first)
    monkeypatch.setattr(sealing, "_CONFLICTS", 1)
    with pytest.raises(odograph.StoreError, match="another machine sealed more of trajectory"):
        a.seal()
    assert (next(names, None), a.examine()["sealed"]["orphans"]) == (None, [])
    assert (a.seal().commits, journals(a)) == (1, [])
    assert sorted(r.name for r in b.trajectory(id).rewards) == ["final", "mine", "more of theirs", "theirs"]


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, where: str, of: Any = iceberg) -> Iterator[None]:
    """The work inside dies at a stage of its commit, or, of `committing`, of what comes before."""

    def die(name: str) -> None:
        if name == where:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(of, "stage", die)
        with pytest.raises(KeyboardInterrupt):
            yield


def test_a_killed_seal_that_others_overtook_is_made_anew(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that died before its commit finds that another sealed more of the same trajectory: it makes the files once more."""
    a, b = near.machine("a"), near.machine("b")
    (id,) = fill(a, 1, steps=1)
    a.seal()
    a.append(id).reward(1.0, name="mine")
    with dying(monkeypatch, "trajectories", committing):
        a.seal()
    b.append(id).reward(1.0, name="theirs")
    b.seal()
    again = near.machine("a")
    assert len(again.examine()["sealed"]["orphans"]) == 3
    assert again.seal().commits == 1
    assert again.examine()["sealed"]["orphans"] == []
    assert sorted(r.name for r in again.trajectory(id).rewards) == ["final", "mine", "theirs"]


def test_a_commit_that_nobody_finishes_is_undone_after_a_week(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that died brought into the tables stays for a week, unseen, and goes with a later compaction; its machine can
    seal it all the same."""
    a = near.machine("a")
    fill(a, 1)
    a.seal()
    fill(a, 1)
    before = seen(a)
    with dying(monkeypatch, "records"):
        a.seal()
    b = near.machine("b")
    catalog, real = catalog_of(b.backend.place.tables), time.time_ns  # type: ignore[arg-type]
    count = "select count(*) as n, count(distinct trajectory) as t from facts"
    for days, left in ((6, 1), (8, 0)):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda days=days: real() + days * 86_400 * 10**9)
            b.compact(grace=3600)
        assert len(b.examine()["sealed"]["pending"]) == left
        assert catalog.load_table("runs.facts").scan().count() == 12 + 12 * left
        assert b.sql(count).list() == [{"n": 12, "t": 1}]
    again = near.machine("a")
    again.seal()
    assert (seen(again), again.sql(count).list(), journals(again)) == (before, [{"n": 24, "t": 2}], [])
    assert catalog.load_table("runs.facts").scan().count() == 24


def test_a_compaction_that_is_killed_doubles_nothing(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while it merges: whoever asks then sees each record once, and a later compaction ends what was begun."""
    a = near.machine("a")
    for _ in range(2):
        fill(a, 1)
        a.seal()
    before = seen(a)
    with dying(monkeypatch, "records", committing):  # of whose files one is whole
        a.compact(grace=0)
    with dying(monkeypatch, "truth"):
        a.compact(grace=0)
    count = "select count(*) as n, count(distinct trajectory) as t from facts"
    for name in ("b", "a"):
        machine = near.machine(name)
        assert machine.sql(count).list() == [{"n": 24, "t": 2}]
        assert seen(machine) == before
    assert machine.compact(grace=0).deleted == 6
    assert machine.examine()["sealed"]["orphans"] == []
    assert seen(fresh(near, "c")) == before
    assert len(list((near.root / "warehouse" / "runs" / "facts").glob("*.parquet"))) == 1


def test_a_compaction_that_another_machine_overtakes_is_left_to_the_next(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine sealed while files were merged stays, and nothing is left of what was merged without it. A machine that
    looked before anything was sealed merges, too."""
    a, b = near.machine("a"), near.machine("b")
    assert a.count() == 0
    ids = fill(b, 1, steps=1)
    b.seal()
    fill(b, 1, steps=1)
    b.seal()

    def stage(name: str) -> None:
        if name == "rows":
            monkeypatch.undo()
            b.append(ids[0]).reward(2.0, name="meanwhile")
            b.seal()

    monkeypatch.setattr(committing, "stage", stage)
    assert a.compact(grace=0).merged == 0
    assert a.backend.reader.lake.commits.orphans() == []
    assert a.compact(grace=0).merged == 9
    assert [reward.name for reward in a.trajectory(ids[0]).rewards] == ["final", "meanwhile"]


def test_a_copied_folder_seals_nothing_twice(near: Team) -> None:
    """Two machines that hold copies of one journal: the second seal finds that it is done."""
    import shutil

    a = near.machine("a")
    fill(a, 1)
    a.seal()
    fill(a, 2)
    a.close()
    shutil.copytree(near.root / "a", near.root / "copy")
    assert near.machine("a").seal().trajectories == 2
    copy = near.machine("copy")
    assert copy.seal().trajectories == 0
    assert journals(copy) == []
    assert copy.sql("select count(*) as n from facts").list() == [{"n": 36}]


def test_a_folder_is_published_once(near: Team) -> None:
    """A folder that grew up goes to shared tables: files as they are, once, also after it went on, was merged, or was interrupted.
    Where another machine sealed more of its trajectories, both parts are there."""
    folder = odograph.open(near.root / "grown")
    ids = fill(folder, 3)
    before = seen(folder)
    first = folder.publish(near.where, catalog=near.catalog)
    assert (first.commits, first.before, first.files) == (1, 0, 3)
    assert folder.publish(near.where, catalog=near.catalog).files == 0
    a = near.machine("a")
    assert seen(a) == seen(folder) == before
    fill(folder, 1)
    folder.append(ids[1]).reward(5.0, name="late")
    assert folder.publish(near.where, catalog=near.catalog).merged == 0
    folder.compact(grace=0)
    found = folder.publish(near.where, catalog=near.catalog)
    assert (found.files, found.merged) == (3, 0)
    assert seen(fresh(near, "b")) == seen(folder)
    a.append(ids[1]).reward(2.0, name="of another machine")
    a.seal()
    folder.append(ids[1]).label("good", "yes")
    found = folder.publish(near.where, catalog=near.catalog)
    assert found.merged == 1
    reader = fresh(near, "c")
    t = reader.trajectory(ids[1])
    assert sorted(r.name for r in t.rewards) == ["final", "late", "of another machine"]
    assert [label.technique for label in t.labels] == ["good"]
    assert (
        reader.sql("select count(*) as n from records").list() == reader.sql("select count(distinct id) as n from records").list()
    )
    assert len(list(reader.summaries())) == 4


def test_a_publication_says_what_it_did(near: Team) -> None:
    """Commits, files and bytes that it brought, what was there before of this folder, on its way how many of all bytes are done,
    and what was damaged."""
    folder = odograph.open(near.root / "grown")
    nothing = folder.publish(near.where, catalog=near.catalog)
    assert msgspec.structs.astuple(nothing) == (0, 0, 0, 0, 0, 0, {})

    def published() -> tuple[int, ...]:
        told: list[tuple[int, int]] = []
        found = folder.publish(near.where, catalog=near.catalog, progress=lambda *of: told.append(of))
        done = [sum(sizes[found.before : found.before + n]) for n in range(1, found.commits + 1)]
        assert told == [(one, found.bytes) for one in done]
        return found.commits, found.before, found.files, found.bytes, found.merged

    sizes: list[int] = []
    for _ in range(3):
        fill(folder, 1, steps=1)
        folder.seal()
        sizes.append(sum(path.stat().st_size for path in (folder.root / "lake").rglob("*.parquet")) - sum(sizes))
    assert published() == (3, 0, 9, sum(sizes), 0)
    other = odograph.open(near.root / "other")
    fill(other, 1, steps=1)
    other.close()
    with next((other.root / "journal").glob("*.jsonl")).open("a") as file:
        file.write("broken\n")
    assert other.publish(near.where, catalog=near.catalog).commits == 1
    assert published() == (0, 3, 0, 0, 0)
    a = near.machine("a")
    assert [damage.file for damage in a.damages()] == [damage.file for damage in other.damages()] != []
    with pytest.raises(odograph.InvalidInput, match="copies a store in a folder"):
        a.publish(near.where, catalog=near.catalog)


def test_what_machines_seal_while_a_folder_is_published_stays(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine seals more of a trajectory in the moment before a publication commits the folder's part: both are there, and
    the files of the folder, which say less, don't count. A publication that others come before too often says so."""
    folder = odograph.open(near.root / "grown")
    ids = fill(folder, 2, steps=1)
    folder.publish(near.where, catalog=near.catalog)
    a = near.machine("a")
    folder.append(ids[0]).reward(5.0, name="late")
    left = ["first", "second"]

    def stage(name: str) -> None:
        if name == "uploaded" and left:
            monkeypatch.setattr(iceberg, "stage", lambda name: None)  # the other machine's own stages
            a.append(ids[0]).reward(2.0, name=left.pop(0))
            a.seal()
            monkeypatch.setattr(iceberg, "stage", stage)

    monkeypatch.setattr(iceberg, "stage", stage)
    with monkeypatch.context() as once:
        once.setattr(publishing, "_CONFLICTS", 1)
        with pytest.raises(odograph.StoreError, match="another machine sealed more"):
            folder.publish(near.where, catalog=near.catalog)
    found = folder.publish(near.where, catalog=near.catalog)
    assert (left, found.commits, found.merged) == ([], 1, 1)
    assert folder.publish(near.where, catalog=near.catalog).commits == 0
    reader = fresh(near, "c")
    assert len([*(near.root / "warehouse").rglob("*.parquet")]) == reader.examine()["sealed"]["files"]
    assert sorted(r.name for r in reader.trajectory(ids[0]).rewards) == ["final", "first", "late", "second"]
    counted = "select count(*) as n, count(distinct id) as d from records where id is not null"
    assert [row["n"] - row["d"] for row in reader.sql(counted).list()] == [0]


def test_publish_is_a_command(near: Team, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`odograph publish URL` publishes; `--store URL` then reads the shared tables, with the catalog of $ODOGRAPH_CATALOG."""
    folder = odograph.open(near.root / "grown")
    fill(folder, 2)
    folder.close()
    monkeypatch.setenv("ODOGRAPH_CATALOG", str(near.catalog))
    monkeypatch.setenv("ODOGRAPH_LOCAL", str(near.root / "state"))
    assert main(["--store", str(near.root / "grown"), "publish", near.where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 3
    assert main(["--store", near.where, "ls", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["--store", near.where, "doctor", "--repair"]) == 0
    assert main(["--store", near.where, "ls", "--json"]) == 0
    assert '"task"' in capsys.readouterr().out


# --- what goes wrong ------------------------------------------------------------------------------------------------


def told(error: BaseException) -> str:
    """All that an error says, with what caused it."""
    return "".join(traceback.format_exception(error))


def test_secrets_are_never_shown(team: Team, servers: dict[str, str], caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Passwords and keys are in no error, log, repr, trajectory or shared table."""
    caplog.set_level(logging.DEBUG, "odograph")
    down = servers["uri"].replace(str(Path(servers["uri"].split("host=")[1])), "/nowhere")
    for catalog in ({**servers, "uri": down}, down, "postgresql://odo:hunter2@localhost:1/x?y=[", "mysql://odo:hunter2@h/x"):
        store = odograph.open("s3://team-bucket/secrets", catalog=catalog, local=tmp_path / "s")
        assert not any(secret in repr(store) + repr(store.backend.place) + str(store.backend) for secret in SECRETS)
        fill(store, 1)
        with pytest.raises(odograph.OdographError) as error:
            store.seal()
        assert not any(secret in told(error.value) for secret in SECRETS)
    with pytest.raises(odograph.InvalidInput) as wrong:
        odograph.open("s3://key:hunter2@team-bucket/x", catalog="c")
    assert "hunter2" not in str(wrong.value)
    place = shared("s3://b/x", {**servers, "token": "t0ken-of-rest"}, None)
    error_text = said(OSError("login with hunter2-of-the-database, t0ken-of-rest\nand s3cr3t-of-the-bucket failed"), place)
    assert error_text == "login with ***, *** and *** failed"
    store = team.machine("a")
    fill(store, 1)
    store.seal()
    for path in (team.root / "a").rglob("*"):
        assert not path.is_file() or not any(secret.encode() in path.read_bytes() for secret in SECRETS)
    assert not any(secret in caplog.text for secret in SECRETS)


def test_an_error_of_a_catalog_is_a_short_sentence() -> None:
    """It has one line without statements in SQL, of some hundred characters; a secret that holds another is left out as a whole."""
    place = shared("s3://b/x", {"uri": "postgresql://odo:pass%20word@h/x", "token": "pass word and more"}, None)
    assert said(OSError("no role\n'odo' [SQL: select 1] (Background on this error at"), place) == "no role 'odo'"
    assert said(OSError("pass word and more, pass word, pass%20word"), place) == "***, ***, ***"
    assert said(OSError(), place) == "OSError"
    assert said(OSError("x" * 1000), place) == "x" * 300 + "..."


def test_a_namespace_is_the_last_part_of_the_place() -> None:
    """Without `namespace=` the tables are in one that is called as the last part of the URL, in characters that all catalogs take."""
    for where, name in (("s3://bucket/teams/Run 1/", "run_1"), ("s3://bucket", "bucket"), ("file:///data/runs", "runs")):
        assert shared(where, "c", None).namespace == name


def test_a_commit_says_its_place(near: Team) -> None:
    """A commit has the number by which the commits after it are asked for, also where it was made before."""
    with fresh(near, "a") as store:
        store.record(task="t").finish()
        store.seal()
        commits = store.backend.reader.lake.commits
        for id in ("one", "two", "two"):
            seq = commits.commit(id)
            assert commits.commits()[-1].seq == seq and commits.commits()[-1].id == id
            assert commits.commits(seq) == [] and len(commits.commits(seq - 1)) == 1


def test_a_catalog_by_its_name(near: Team) -> None:
    """A catalog can be one that pyiceberg's own settings describe; of another kind of database a sentence tells which there are."""
    with pytest.raises(odograph.InvalidInput, match="no catalog at 'mysql://h/x': a catalog is postgresql://, sqlite:///"):
        catalog_of(shared(near.where, "mysql://h/x", None))
    program = """
        import sys, odograph
        for name in "ab":
            with odograph.open(sys.argv[1], catalog="mine", local=f"{sys.argv[2]}/{name}") as store:
                print(store.count())
                store.record(task="t").finish()
                store.seal()
    """
    catalog = {"URI": near.catalog, "TYPE": "sql", "WAREHOUSE": near.where}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), near.where, str(near.root)],
        env={**os.environ, **{f"PYICEBERG_CATALOG__MINE__{name}": str(value) for name, value in catalog.items()}},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1"]), done.stderr


@pytest.mark.parametrize(("missing", "said"), [("", "a store that machines share"), (".sql", "the catalog of file://")])
def test_what_reaches_a_catalog_may_be_missing(near: Team, monkeypatch: pytest.MonkeyPatch, missing: str, said: str) -> None:
    """Without pyiceberg, or without what it needs for a catalog, a sentence names the extra."""
    monkeypatch.setitem(sys.modules, f"pyiceberg.catalog{missing}", None)
    with pytest.raises(odograph.MissingExtra, match=rf"{said}.*odograph\[iceberg\]"):
        catalog_of(shared(near.where, near.catalog, None))


def test_a_catalog_that_is_down_costs_nothing(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the catalog is down, recording goes on, sealing says so in one sentence, and the next seal seals all of it once."""
    catalog = near.root / "catalog.db"
    a = near.machine("a")
    fill(a, 1)
    a.seal()

    def fall(name: str) -> None:
        if name == "records":
            catalog.rename(near.root / "away.db")
            catalog.mkdir()

    monkeypatch.setattr(iceberg, "stage", fall)
    fill(a, 2)
    with pytest.raises(odograph.StoreError, match="can't be written") as error:
        a.seal()
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    fill(a, 1)
    with pytest.raises(odograph.StoreError):
        near.machine("b").count()
    catalog.rmdir()
    (near.root / "away.db").rename(catalog)
    a.seal()
    reader = near.machine("b")
    assert reader.sql("select count(*) as n, count(distinct trajectory) as t from facts").list() == [{"n": 48, "t": 4}]
    assert seen(reader) == seen(a)


@pytest.mark.parametrize("arrives", [False, True])
def test_a_change_of_a_table_that_fails_is_made_once(near: Team, arrives: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever change of a table the connection breaks at, before it arrived or before its answer came: what is said to be sealed
    is, and once the connection is back all is there once."""
    from pyiceberg.table import Transaction

    made = Transaction.commit_transaction
    left = [0]

    def breaks(self: Transaction) -> Any:
        left[0] -= 1
        if left[0] or arrives:
            table = made(self)
        if not left[0]:
            raise ConnectionError("broken")
        return table

    monkeypatch.setattr(Transaction, "commit_transaction", breaks)
    machine = near.machine("a")
    broken = 0
    for number in range(1, 30):
        fill(machine, 1)
        left[0] = number
        try:
            machine.seal()
        except odograph.StoreError as error:
            assert "\n" not in str(error)
            left[0] = 0
            machine.seal()
        broken += left[0] <= 0
        counted = fresh(near, f"b{number}").sql("select count(*) as n, count(distinct trajectory) as t from facts").list()
        assert counted == [{"n": 12 * number, "t": number}]
        if left[0] > 0:
            break
    assert 2 < broken < 29


def test_a_bucket_without_rights_is_told(team: Team, servers: dict[str, str]) -> None:
    """A storage that refuses to be written costs nothing: one sentence, and the journal stays."""
    a = team.machine("a")
    fill(a, 1)
    a.seal()
    fill(a, 1)
    before = seen(a)

    def ask(count: str) -> None:
        url = f"{servers['s3.endpoint']}/moto-api/reset-auth"
        urllib.request.urlopen(urllib.request.Request(url, count.encode(), {"Content-Type": "text/plain"}, method="POST"))

    ask("0")
    try:
        with pytest.raises(odograph.StoreError) as error:
            a.seal()
    finally:
        ask("inf")
    assert "\n" not in str(error.value)
    assert not any(secret in told(error.value) for secret in SECRETS)
    assert len(journals(a)) == 1
    a.seal()
    assert seen(a) == before
    assert a.frame("facts").count_rows() == 24  # Daft reads from the storage, too


def test_machines_redact_alike(near: Team) -> None:
    """Once a machine redacts, a machine that does not, or in another way, seals nothing into the shared tables."""
    for name, redact in (("a", True), ("b", None), ("c", ["ring-[0-9]+"]), ("d", True)):
        machine = odograph.open(near.where, catalog=near.catalog, local=near.root / name, redact=redact)
        fill(machine, 1)
        if name in "ad":
            assert machine.seal().trajectories == 1
        else:
            with pytest.raises(odograph.StoreError, match=r"redacts in another way than the machines .* nothing was sealed"):
                machine.seal()
            machine.backend._seal_behind()
            assert len(journals(machine)) == 1
    assert near.machine("e").count() == 2


def test_tables_of_others_are_left_alone(near: Team) -> None:
    """A table of somebody else, or of another store, under our name: refused in a sentence, and nothing of it is changed."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField, StringType

    catalog = load_catalog("odograph", type="sql", uri=near.catalog, warehouse=near.where)
    catalog.create_namespace("runs")
    catalog.create_table("runs.trajectories", Schema(NestedField(1, "name", StringType(), required=False)))
    a = near.machine("a")
    fill(a, 1)
    with pytest.raises(odograph.StoreError, match=r"runs\.trajectories in the catalog belongs to somebody else"):
        a.seal()
    assert catalog.load_table("runs.trajectories").metadata.snapshots == []
    catalog.drop_table("runs.trajectories")
    a.seal()
    other = odograph.open(near.where.replace("/warehouse/", "/elsewhere/"), catalog=near.catalog, local=near.root / "o")
    fill(other, 1)
    with pytest.raises(odograph.StoreError, match=r"belongs to the store file://.*/warehouse/runs.*another namespace="):
        other.seal()
    with_name = odograph.open(
        other.backend.place.tables.where, catalog=near.catalog, namespace="team.other", local=near.root / "o"
    )  # type: ignore[union-attr]
    with_name.seal()
    assert len(with_name) == 1 and len(a) == 1


def test_newer_and_older_schemas(near: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that a later Odograph wrote are left alone in a sentence; tables that an earlier one made get the new columns, and
    all of it is read."""
    old = near.machine("old")
    fill(old, 2)
    old.seal()
    grown = layout.FACTS.with_columns(Column("ring", "text", "What came later."))
    tables = {**layout.TABLES, "facts": grown}
    for module in ("lake", "layout", "committing", "sealing", "query"):
        monkeypatch.setattr(f"odograph.store.{module}.TABLES", tables)
    for module in ("layout", "committing", "query"):
        monkeypatch.setattr(f"odograph.store.{module}.FACTS", grown)
    fact_of = layout.fact_of
    for module in ("sealing", "query"):
        monkeypatch.setattr(f"odograph.store.{module}.fact_of", lambda *a: {**fact_of(*a), "ring": "7"})
    new = near.machine("new")
    fill(new, 1)
    new.seal()
    assert sorted(r["n"] for r in new.sql("select ring, count(*) as n from facts group by ring")) == [12, 24]
    assert new.backend.reader.lake.commits._space.load("facts").schema().find_field("ring").field_id == grown.field_ids["ring"]  # type: ignore[attr-defined]
    monkeypatch.undo()
    fill(old, 1)
    with pytest.raises(odograph.errors.NewerStore, match=r"runs.facts has version 2.*reads up to 1"):
        old.seal()
    assert len(journals(old)) == 1


@pytest.mark.parametrize(
    ("place", "name", "said"),
    [(databases, "lock", "do the same again once the catalog and the storage"), (iceberg.IcebergCommits, "dataset", "is gone")],
)
def test_a_storage_that_fails_for_a_moment_is_told(
    near: Team, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, said: str
) -> None:
    """A query that the storage does not answer is to be asked again, and answered then: no file is damaged for that, and the query is
    not said to be wrong."""
    a = near.machine("a")
    fill(a, 1)
    a.seal()
    (path,) = (near.root / "warehouse" / "runs" / "records").glob("*.parquet")
    away = path.with_suffix(".away")
    planned, looked = getattr(place, name), iceberg.IcebergCommits.files

    def fails(*of: Any) -> Any:
        monkeypatch.setattr(place, name, planned)
        path.rename(away)
        return planned(*of)

    def answers(*of: Any) -> Any:
        if away.exists():
            away.rename(path)
        return looked(*of)

    monkeypatch.setattr(place, name, fails)
    monkeypatch.setattr(iceberg.IcebergCommits, "files", answers)
    with pytest.raises(odograph.StoreError, match=said):
        a.sql("select body from records")
    assert len(a.sql("select body from records").list()) == 12
    with pytest.raises(odograph.InvalidInput, match="the query failed"):
        a.sql("select nothing from records")


def test_a_vanished_file_is_told(near: Team) -> None:
    """A data file that somebody deleted: what needs it says which, the rest is read, and `odograph doctor` names it."""
    a = near.machine("a")
    first = fill(a, 1)[0]
    a.seal()
    second = fill(a, 1)[0]
    a.seal()
    a.close()
    lost = sorted((near.root / "warehouse" / "runs" / "records").glob("*.parquet"))[0]
    lost.unlink()
    b = near.machine("b")
    assert len(list(b.summaries())) == 2
    assert b.trajectory(second).id == second
    with pytest.raises(odograph.StoreError, match=rf"{lost.name} is gone"):
        b.trajectory(first)
    assert [(d.file, d.offset) for d in b.damages()] == [(f"records/{lost.name}", 0)]
    assert b.examine()["sealed"]["compared"] == "footers"


@pytest.mark.parametrize("table", ["records", "facts", "trajectories"])
def test_a_shared_file_that_is_lost_for_good_is_taken_out(near: Team, table: str) -> None:
    """A machine that repairs takes the file out: it seals and compacts then, and all machines have what the other files say."""
    a = near.machine("a")
    ids = fill(a, 2)
    a.seal()
    ids += fill(a, 2)
    a.append(ids[0]).reward(2.0, name="late")
    a.seal()
    before = seen(a)
    a.close()
    min((near.root / "warehouse" / "runs" / table).glob("*.parquet")).unlink()
    c = near.machine("c")
    assert len([*c.summaries()]) == 4
    with near.machine("b") as b:
        ids += fill(b, 1)
        assert [(found["mended"], found["left"]) for found in (b.repair(), b.repair())] == [(1, 0), (0, 0)]
        assert b.seal().left == 0
        b.compact(grace=0)
    for machine in (c, near.machine("d")):
        with machine as store:
            found = {t.id: t.to_dict() for t in store.trajectories()}
            assert {s.id for s in store.summaries()} == {*found}
            assert {row["id"] for row in store.sql("select id from trajectories").list()} == {*found}
            if table == "records":
                assert {*found} >= {ids[-1]} and len(found) < 5
                assert [d.file.split("/")[0] for d in store.damages()] == ["records"]
            else:
                assert [*found.values()][:4] == before["trajectories"] and len(found) == 5
                assert store.damages() == []
                assert store.sql("select count(*) as n from facts").list() == [{"n": 61}]


def changed_in_silence(data: bytes, pages: int) -> int:
    """A place in the pages of a Parquet file at which another byte gives other values, and no error."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    before = parquet.read_table(pa.BufferReader(data))
    for at in range(pages - 1, 4, -1):
        with suppress(OSError, pa.ArrowException):
            if parquet.read_table(pa.BufferReader(data[:at] + b"X" + data[at + 1 :])) != before:
                return at
    raise AssertionError("each changed byte is an error")


@pytest.mark.parametrize(("table", "name"), [("records", b"body"), ("trajectories", b"reward"), ("facts", b"value")])
def test_a_lost_or_changed_file_that_machines_share_costs_itself(
    near: Team, table: str, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the name of a column changed in the footer of a file that machines share, or a byte of a page, or the file is gone: a
    machine that never saw the store answers all that other files say, and no engine has empty values in place of what is lost. A
    warning names the file. Once a copy of the file is back, these machines answer as before."""
    a = near.machine("a")
    ids = [fill(a, 1)[0]]
    a.seal()
    (path,) = (near.root / "warehouse" / "runs" / table).glob("*.parquet")
    ids += fill(a, 1)
    a.seal()
    asked = f"select * from {table} order by all"
    whole, before = a.sql(asked).list(), seen(a)
    a.close()
    lost = table == "records"
    data = path.read_bytes()
    foot = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    named = data.index(bytes([len(name)]) + name, foot) + 1
    silent = changed_in_silence(data, foot)
    for at in (named, silent, None):
        if at is None:
            path.unlink()
        else:
            path.write_bytes(data[:at] + b"X" + data[at + 1 :])
        for asks in ("sql", "seen", "frame"):
            caplog.clear()
            with odograph.open(near.where, catalog=near.catalog, local=near.root / f"{at}-{asks}") as store:
                if asks == "sql":
                    found = store.sql(asked).list()
                    assert found == (whole if not lost else [row for row in whole if row["trajectory"] == ids[1]])
                elif asks == "seen":
                    found = seen(store)
                    if lost:
                        assert [t["id"] for t in found["trajectories"]] == ids[1:]
                        with pytest.raises(odograph.StoreError, match=path.name):
                            store.trajectory(ids[0])
                    else:
                        assert found["trajectories"] == before["trajectories"] and found["summaries"] == before["summaries"]
                    with pytest.raises(odograph.StoreError, match=rf"{path.name}.*put back an earlier version or a copy"):
                        store.compact(grace=0)
                elif at != silent and table != "trajectories":
                    with pytest.raises(odograph.StoreError, match=path.name):
                        store.frame(table).to_pydict()  # type: ignore[arg-type]
                    continue
                else:
                    continue
                assert at == silent or [d.file for d in store.damages()] == [f"{table}/{path.name}"]
            if asks == "sql" or table != "facts":
                assert any(path.name in one.message and "put back" in one.message for one in caplog.records)
    path.write_bytes(data)
    for machine in ("b", "None-seen", "None-sql"):
        with near.machine(machine) as store:
            assert seen(store) == before
            assert store.damages() == []


def test_places_reopen_shared_stores(near: Team) -> None:
    """Other processes reopen a shared store by its place, with its catalog: validation in processes reads the shared tables."""
    a = near.machine("a")
    fill(a, 3)
    a.seal()
    assert odograph.open(a.backend.place).count() == 3
    assert a.validate(workers=2).checked == 3


@pytest.mark.parametrize(
    ("where", "more", "match"),
    [
        ("s3://bucket/x", {}, "needs a catalog"),
        ("ftp://bucket/x", {"catalog": "c"}, "shared tables are at s3://"),
        ("s3://bucket/x", {"catalog": "c", "namespace": "a b"}, "namespace has names"),
        ("./folder", {"catalog": "c"}, "catalog= is for a store that machines share"),
        ("s3://bucket/x?secret=1", {"catalog": "c"}, r"none of \* \?"),
        ("s3://key@bucket/x", {"catalog": "c"}, "the URL of a store holds no password"),
        ("s3://bucket/x", {"catalog": {"uri": 7}}, "the settings of a catalog are a dict of texts"),
        ("s3://bucket/x", {"catalog": 7}, "catalog is a text or a dict of pyiceberg's settings, not int"),
        ("abfss://runs@account.dfs.core.windows.net/x", {"catalog": "c"}, r"as abfs://container/runs; .* adls\.account-name"),
    ],
)
def test_wrong_places_are_refused(where: str, more: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be a shared store is refused in a sentence, before anything is written."""
    monkeypatch.delenv("ODOGRAPH_CATALOG", raising=False)
    with pytest.raises(odograph.InvalidInput, match=match):
        odograph.open(where, **more)
