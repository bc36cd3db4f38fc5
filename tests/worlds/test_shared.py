"""Worlds of a store that machines share: tables of Apache Iceberg, which several processes read and write at once.

A machine is a process, or a store, with a folder of its own. The servers are real: moto's S3, PostgreSQL, and SQLite on one machine.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("daft")
pytest.importorskip("pyiceberg")

import odograph
from odograph.errors import StoreError
from odograph.worlds import Fenced, Label, LabelingConfig, LabelingProcessor, StorageConfig, SyncWorldRuntime

from ..servers import object_storage, postgres, rest_catalog
from .judge_server import JudgeServer
from .test_engine import Mood, Place, Walk, lived, operation, rows
from .test_store import SPECS, recorded


class Team:
    """Tables that machines share; `machine(name)` opens them with a folder of its own."""

    def __init__(self, where: str, catalog: str | dict[str, str], root: Path) -> None:
        self.where, self.catalog, self.root = where, catalog, root

    def machine(self, name: str, **more: Any) -> odograph.Store:
        return odograph.open(self.where, catalog=self.catalog, local=self.root / name, **more)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    with object_storage("worlds-bucket") as storage, postgres() as database:
        yield {"uri": database, **storage}


@pytest.fixture
def team(servers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """On S3 and PostgreSQL."""
    monkeypatch.setenv("ODOGRAPH_LOCAL", str(tmp_path / "local"))
    return Team(f"s3://worlds-bucket/{tmp_path.name}", servers, tmp_path)


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """On files and SQLite, for what needs no server."""
    monkeypatch.setenv("ODOGRAPH_LOCAL", str(tmp_path / "local"))
    return Team(f"file://{tmp_path}/runs", f"sqlite:///{tmp_path}/catalog.db", tmp_path)


@pytest.fixture(params=["near", pytest.param("team", marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest) -> Team:
    """On files with SQLite; in the long tests also on S3 and PostgreSQL."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_a_world_of_a_shared_store_is_one_world_for_all_machines(both: Team) -> None:
    """What one machine labels, another machine reads, as of any tick, goes on with, and forks, without asking the judge again about
    what is labelled. Who goes on fences the former writer, who writes nothing then. The answers stay on the machine that paid."""
    with JudgeServer() as server:
        config = LabelingConfig(base_url=server.url, api_key="x", progress=False)
        given: dict[str, Any] = {"processors": [LabelingProcessor()], "resources": [config]}
        with both.machine("one") as one, both.machine("two") as two:
            recorded(one, 1)
            world = one.world("quality", **given)
            world.spawn_from(one.trajectories(), labels=SPECS)
            world.step()
            assert world.write_back(one).labels == len(server) == 2
            assert world.beside("judge").parent == both.root / "one"
            other = two.world("quality", **given)
            assert other.id == world.id
            seen = world.query(odograph.worlds.Trajectory, odograph.worlds.Label, tick=0).to_pylist()
            assert other.query(odograph.worlds.Trajectory, odograph.worlds.Label).to_pylist() == seen
            assert [row["label__status"] for row in seen] == ["ok", "ok"]
            other.spawn(Mood(name="calm", story="s" * 300))
            other.step()
            assert (len(server), world.info().tick) == (2, 2)
            world.spawn(Mood(name="late"))
            with pytest.raises(Fenced, match="another handle or process writes world 'quality' now"):
                world.step()
            assert rows(world.query(Mood, tick=1), "entity_id", "mood__story") == [{"entity_id": 3, "mood__story": "s" * 300}]
            fork = two.world("quality").fork("strict")
            fork.update(3, Mood(name="glad"))
            fork.step()
            assert one.world("quality").info().tick == 2
            assert [w.info().parent for w in (one.world("strict"), world)] == [world.id, None]
            assert rows(one.world("strict").query(Mood), "mood__name") == [{"mood__name": "glad"}]
            assert [t["kind"] for t in fork.ticks()] == ["world", "tick", "tick", "fork", "tick"]
            found = one.compare("quality", "strict", by="world")
            assert (found.only, found.agreement is not None) == ((0, 0), True)
    storage = StorageConfig(both.where, catalog=both.catalog)  # a machine that never saw the store
    with SyncWorldRuntime() as runtime:
        assert runtime.discover(storage) == ["quality", "strict"]
        resumed = runtime.resume(world.id, storage, [Walk()])
        assert resumed.query(Mood).count_rows() == 1
        assert resumed.fork("third", storage).info().tick == 2
    from pyiceberg.catalog import load_catalog

    more = {"uri": both.catalog} if isinstance(both.catalog, str) else both.catalog
    more = {name: value.replace("postgresql:", "postgresql+psycopg:") for name, value in more.items()}
    catalog = load_catalog("odograph", type="sql", warehouse=both.where, **more)
    (space,) = {name[0] for name in catalog.list_namespaces()} & {one.backend.place.tables.namespace}  # type: ignore[union-attr]
    (name,) = (name for _, name in catalog.list_tables(space) if name.startswith("world_rows_label_trajectory_"))
    table = catalog.load_table((space, name))  # other engines read the rows, and what the columns mean
    assert table.schema().find_field("label__score").doc == "score of the component Label."
    assert table.scan().to_arrow().column("label__value").to_pylist() == [row["label__value"] for row in seen]


def test_a_shared_world_whose_catalog_is_away_keeps_what_waits(near: Team) -> None:
    """A step while the catalog answers nothing is one sentence, and the same step goes through afterwards."""
    with near.machine("one") as store:
        world = store.world("w", processors=[Walk()])
        world.spawn(Place(x=1))
        world.step()
        world.spawn(Place(x=5))
        file = near.root / "catalog.db"
        kept = file.read_bytes()
        file.write_bytes(b"no database" * 100)
        with pytest.raises(StoreError) as error:
            world.step()
        assert "\n" not in str(error.value)
        file.write_bytes(kept)
        world.step()
        assert rows(world.query(Place), "place__x") == [{"place__x": 3}, {"place__x": 6}]
        assert not list((near.root / "one" / "worlds").rglob("*.parquet*"))


def test_a_tick_whose_answer_was_lost_is_made_once(tmp_path: Path) -> None:
    """Where the catalog made a commit and its answer got lost, the step looks, and is done. Where the catalog is away then, the step
    says so, and whatever comes next finds the tick made: what it applied is not applied again, and the repeated step makes no other
    tick, unless more is staged."""
    losing: set[str] = set()

    def lost(method: str, path: str) -> bool:
        if "commit" in losing and method == "POST" and path.endswith("world_ticks"):
            losing.discard("commit")
            return True
        return losing == {"all"}

    def stepped_without_answer() -> None:
        losing.update(("commit", "all"))
        with pytest.raises(StoreError, match="can't be written"):
            world.step()
        losing.clear()

    with (
        rest_catalog(tmp_path, lost) as url,
        odograph.open(f"file://{tmp_path}/runs", catalog=url, local=tmp_path / "one") as store,
    ):
        world = store.world("w", processors=[Walk()])
        world.spawn(Place(x=1))
        losing.add("commit")
        world.step()
        assert (world.info().tick, rows(world.query(Place), "place__x")) == (1, [{"place__x": 2}])
        world.spawn(Place(x=10))
        stepped_without_answer()
        world.step()
        assert [row["place__x"] for row in rows(world.query(Place))] == [3, 11]
        entity = world.spawn(Place(x=20))
        stepped_without_answer()
        assert world.info().tick == 3  # somebody looks before the step is repeated
        world.step()
        assert world.info().tick == 3
        world.update(entity, Place(x=99))
        world.step()
        assert [row["place__x"] for row in rows(world.query(Place))] == [5, 13, 100]
        assert [t["tick"] for t in world.ticks() if t["kind"] == "tick"] == [0, 1, 2, 3]


def test_a_folder_that_grew_up_keeps_its_worlds(near: Team) -> None:
    """`publish` brings worlds and forks to the shared tables with every tick, once, also after they went on; what a world has there
    of its own stays. Nothing is asked of judges again."""
    with JudgeServer() as server, odograph.open(near.root / "grown") as folder:
        config = LabelingConfig(base_url=server.url, api_key="x", progress=False)
        given: dict[str, Any] = {"processors": [LabelingProcessor()], "resources": [config]}
        recorded(folder, 1)
        world = folder.world("quality", **given)
        world.spawn_from(folder.trajectories(), labels=SPECS)
        world.step()
        folder.world("gone").destroy()
        fork = world.fork("strict")
        found = folder.publish(near.where, catalog=near.catalog)
        assert (found.worlds, found.left) == (3, {})
        assert folder.publish(near.where, catalog=near.catalog).worlds == 0
        fork.update(1, Label(technique=SPECS[0][0], description="stricter"))
        fork.step()
        world.despawn(2)
        world.step()
        assert folder.publish(near.where, catalog=near.catalog).worlds == 2
        types = (odograph.worlds.Trajectory, Label)
        with near.machine("one") as one:
            assert SyncWorldRuntime().discover(StorageConfig(near.where, catalog=near.catalog)) == ["quality", "strict"]
            for kept in (world, fork):
                there = one.world(kept.name, **given)
                assert there.id == kept.id
                for tick in (None, 0, 1):
                    assert there.query(*types, tick=tick).to_pylist() == kept.query(*types, tick=tick).to_pylist()
                assert there.history(*types).to_pylist() == kept.history(*types).to_pylist()
            asked = len(server)
            there.update(1, Label(technique="another", description="other"))
            there.step()
            assert (there.info().tick, len(server)) == (3, asked + 1)
            one.world("mine").step()
        fork.spawn(Mood(name="late", story="s" * 300))
        fork.step()
        folder.world("mine").step()
        fork.fork("late").info()
        world.spawn(Mood(name="on", story="s" * 300))
        world.step()
        found = folder.publish(near.where, catalog=near.catalog)
        assert found.worlds == 2
        assert {name: why[:40] for name, why in found.left.items()} == {
            "strict": "it went on in the shared tables, from ti",
            "late": "the world that it is a fork of is not pu",
            "mine": "a world of others has the name; runtime."[:40],
        }
        with near.machine("two") as two:
            assert [two.world(name).info().tick for name in ("quality", "strict", "mine")] == [3, 3, 1]
            assert rows(two.world("quality").query(Mood), "mood__story") == [{"mood__story": "s" * 300}]


def test_shared_worlds_are_redacted_alike(near: Team) -> None:
    """Once a machine redacts what it shares, a machine that does not writes no world there."""
    with near.machine("one", redact=True) as one:
        one.world("w").spawn(Mood(name="key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"))
        one.world("w").info()
    with near.machine("two") as two, pytest.raises(StoreError, match="this machine redacts in another way"):
        two.world("other").info()


STEPS = """
    import json, os, signal, sys
    import odograph
    from odograph.tables import iceberg
    from tests.worlds.test_engine import Mood, Place, Walk
    where, catalog, local, dies_at = sys.argv[1:]
    store = odograph.open(where, catalog=json.loads(catalog), local=local)
    world = store.world("w", processors=[Walk()])
    world.spawn(Mood(name="second", story="t" * 300), Place(x=10))
    def stage(name):
        if name.startswith(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)
    iceberg.stage = stage
    world.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["uploaded", "world_values", "world_rows_", "truth"])
def test_a_machine_that_is_killed_in_a_tick_leaves_the_whole_tick_or_nothing(team: Team, stage: str) -> None:
    """Whatever a machine has put into the storage and the tables when it is killed, another machine sees the tick before, or the
    whole tick, and goes on from there."""
    with team.machine("one") as store:
        world = store.world("w", processors=[Walk()])
        world.spawn(Mood(name="first", story="s" * 300), Place(x=1))
        world.step()
    code = textwrap.dedent(STEPS)
    given = [team.where, json.dumps(team.catalog), str(team.root / "dying"), stage]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with team.machine("two") as store:
        world = store.world("w", processors=[Walk()])
        first, second = {"mood__story": "s" * 300, "place__x": 2}, {"mood__story": "t" * 300, "place__x": 11}
        was = [first | {"place__x": 3}, second] if stage == "truth" else [first]
        assert rows(world.query(Mood, Place), "mood__story", "place__x") == was
        assert world.info().tick == len(was)
        world.spawn(Mood(name="third", story="t" * 300), Place(x=20))
        world.step()
        assert rows(world.query(Mood, Place), "place__x")[-1] == {"place__x": 21}
        for tick, state in enumerate([[2], [3, 11], [4, 12, 21]] if stage == "truth" else [[2], [3, 21]]):
            assert [row["place__x"] for row in rows(world.query(Place, tick=tick))] == state
        assert world.history(Mood, Place).count_rows() == (6 if stage == "truth" else 3)


RACE = """
    import json, sys
    import odograph
    from odograph.worlds import Fenced
    from tests.worlds.test_engine import Place, Walk
    where, catalog, local, name = sys.argv[1:]
    store = odograph.open(where, catalog=json.loads(catalog), local=local)
    own = store.world(name, processors=[Walk()])
    both = store.world("both", processors=[Walk()])
    print("ready", flush=True)
    sys.stdin.readline()
    made = 0
    for n in range(4):
        own.spawn(Place(x=n))
        own.step()
        both.spawn(Place(x=n))
        try:
            both.step()
            made += 1
        except Fenced:
            both = store.world("both", processors=[Walk()])
    print(made, flush=True)
"""


@pytest.mark.slow
def test_machines_that_write_at_once_lose_nothing(team: Team) -> None:
    """Three machines that step worlds of their own, and one world together: each tick that a machine was told was made is there,
    once, and no other."""
    given = [team.where, json.dumps(team.catalog)]
    command = [sys.executable, "-c", textwrap.dedent(RACE), *given]
    running = [
        subprocess.Popen([*command, str(team.root / name), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    try:
        assert [p.stdout and p.stdout.readline() for p in running] == ["ready\n"] * 3
        for one in running:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        made = [int(one.communicate()[0]) for one in running]
    finally:
        for one in running:
            one.kill()
    with team.machine("reader") as store:
        both = store.world("both")
        assert both.info().tick == sum(made) > 0
        assert both.query(Place).count_rows() == sum(made)
        assert [t["tick"] for t in both.ticks() if t["kind"] == "tick"] == list(range(sum(made)))
        for name in "abc":
            assert rows(store.world(name).query(Place), "place__x") == [{"place__x": n} for n in (4, 4, 4, 4)]


@pytest.mark.slow
@settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.lists(operation, min_size=10, max_size=25))
def test_a_shared_world_is_what_a_dict_would_be(
    servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory, operations: list[Any]
) -> None:
    """Whatever is spawned, changed, taken away, stepped, forked and reopened: every tick of every world shows the same rows as a
    dict that went through the same, in shared tables as in a folder."""
    place = f"s3://worlds-bucket/{tmp_path_factory.mktemp('dict').name}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ODOGRAPH_LOCAL", str(tmp_path_factory.mktemp("local")))
        asyncio.run(lived(StorageConfig(place, catalog=servers), operations))
