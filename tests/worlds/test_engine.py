"""The engine of worlds: ticks, forks, one writer, and what becomes of failures."""

from __future__ import annotations

import asyncio
import enum
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

daft = pytest.importorskip("daft")

from odograph.cli import main  # noqa: E402
from odograph.errors import InvalidInput, NotFound, StoreError  # noqa: E402
from odograph.tables.folder import FolderCommits  # noqa: E402
from odograph.tables.rebuilding import rebuild  # noqa: E402
from odograph.worlds import (  # noqa: E402
    AsyncProcessor,
    Component,
    Fenced,
    Label,
    OnComponentAdded,
    OnComponentRemoved,
    OnDespawn,
    OnDestroy,
    OnSpawn,
    PostTick,
    PreTick,
    RunConfig,
    SamplingConfig,
    StorageConfig,
    SyncWorldRuntime,
    Trajectory,
    Turn,
    WorldError,
    WorldRuntime,
)


class Mood(Component, shared=("story",)):
    name: str = ""
    score: float = 0.0
    story: str = ""


class Place(Component):
    x: int = 0
    tags: list[str] = []  # noqa: RUF012


class Ghost(Component):
    seen: bool = False


class Walk(AsyncProcessor):
    """Adds one to every x below 100."""

    components = (Place,)
    priority = 5

    async def process(self, df: Any, resources: Any = None, **kwargs: Any) -> Any:
        return df.with_column("place__x", daft.col("place__x") + (daft.col("place__x") < 100).cast(daft.DataType.int64()))


def rows(df: Any, *names: str) -> list[dict[str, Any]]:
    found = df.to_pylist()
    return [{n: row[n] for n in names} for row in found] if names else found


@pytest.fixture
def runtime() -> Iterator[SyncWorldRuntime]:
    with SyncWorldRuntime() as opened:
        yield opened


@pytest.fixture
def storage(tmp_path: Path) -> StorageConfig:
    return StorageConfig(tmp_path)


# --- against a model that is a dict -----------------------------------------------------------------------------------

_KINDS: tuple[type[Component], ...] = (Mood, Place, Ghost)
_moods = st.builds(
    Mood, name=st.sampled_from(["", "calm", "glad"]), score=st.floats(0, 1), story=st.sampled_from(["", "s" * 300, "é"])
)
_places = st.builds(Place, x=st.integers(-5, 200), tags=st.lists(st.sampled_from(["a", "b"]), max_size=2))
_ghosts = st.builds(Ghost, seen=st.booleans())
_components = st.tuples(st.none() | _moods, st.none() | _places, st.none() | _ghosts).map(
    lambda some: tuple(one for one in some if one is not None)
)
operation = st.one_of(
    st.tuples(st.just("spawn"), _components.filter(bool)),
    st.tuples(st.just("update"), st.integers(0, 30), st.one_of(_moods, _places, _ghosts)),
    st.tuples(st.just("add"), st.integers(0, 30), st.one_of(_moods, _places, _ghosts)),
    st.tuples(st.just("remove"), st.integers(0, 30), st.sampled_from(_KINDS)),
    st.tuples(st.just("despawn"), st.integers(0, 30)),
    st.tuples(st.just("step"), st.integers(1, 2)),
    st.tuples(st.just("fork")),
    st.tuples(st.just("world"), st.integers(0, 3)),
    st.tuples(st.just("resume")),
)
_State = dict[int, dict[type[Component], Component]]


class Model:
    """A world as a dict: the state now, with what is staged, and the state after each tick."""

    def __init__(self) -> None:
        self.now: _State = {}
        self.ticks: list[_State] = []
        self.next = 1

    def copy(self) -> Model:
        other = Model()
        other.now, other.ticks, other.next = copied(self.now), list(self.ticks), self.next
        return other

    def step(self) -> None:
        for parts in self.now.values():
            place = parts.get(Place)
            if isinstance(place, Place) and place.x < 100:
                parts[Place] = Place(x=place.x + 1, tags=place.tags)
        self.ticks.append(copied(self.now))

    def lose_staged(self) -> None:
        self.now = copied(self.ticks[-1]) if self.ticks else {}


def copied(state: _State) -> _State:
    return {id: dict(parts) for id, parts in state.items()}


def expected(state: _State, kinds: tuple[type[Component], ...]) -> list[dict[str, Any]]:
    found = []
    for id in sorted(state):
        if all(kind in state[id] for kind in kinds):
            row: dict[str, Any] = {"entity_id": id}
            for kind in kinds:
                row |= {f"{kind.__name__.lower()}__{k}": v for k, v in vars(state[id][kind]).items()}
            found.append(row)
    return found


def seen(df: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("world_id", "run_id", "tick", "is_active")} for row in df.to_pylist()]


@settings(max_examples=12, deadline=None, phases=[Phase.generate, Phase.explicit], suppress_health_check=list(HealthCheck))
@given(st.lists(operation, min_size=5, max_size=40))
def test_a_world_is_what_a_dict_would_be(tmp_path_factory: pytest.TempPathFactory, operations: list[Any]) -> None:
    """Whatever is spawned, changed, taken away, stepped, forked and reopened: every tick of every world shows the same rows as a
    dict that went through the same."""
    asyncio.run(lived(StorageConfig(tmp_path_factory.mktemp("world")), operations))


async def lived(at: StorageConfig, operations: list[Any]) -> None:
    """A world, and dicts that go through the same: every tick of every world shows the same rows."""
    runtime = WorldRuntime()
    worlds = [runtime.world("w0", at, [Walk()])]
    models = [Model()]
    here = 0
    for n in range(24):  # so many that a tick writes what changed, and not the whole state
        model, some = models[0], (Mood(name=f"m{n}"), *([Place(x=150)] if n % 2 else []))
        assert await worlds[0].spawn(*some) == model.next
        model.now[model.next] = {type(c): c for c in some}
        model.next += 1
    for one in operations:
        world, model = worlds[here], models[here]
        ids = sorted(model.now)
        what, *given = one
        if what == "spawn":
            assert await world.spawn(*given[0]) == model.next
            model.now[model.next] = {type(c): c for c in given[0]}
            model.next += 1
        elif what in ("update", "add", "remove", "despawn"):
            id = ids[given[0] % len(ids)] if ids else 999
            parts = model.now.get(id, {})
            kind = None if what == "despawn" else given[1] if what == "remove" else type(given[1])
            call = {
                "update": world.update,
                "add": world.add_components,
                "remove": world.remove_components,
                "despawn": world.despawn,
            }[what]
            fails = not parts or (what == "add") == (kind in parts) if what != "despawn" else not parts
            if what == "remove" and not fails and len(parts) == 1:
                fails = True
            if fails:
                with pytest.raises((NotFound, InvalidInput)):
                    await call(id, *given[1:])
            else:
                await call(id, *given[1:])
                if what == "despawn":
                    del model.now[id]
                elif what == "remove":
                    del parts[kind]
                else:
                    parts[kind] = given[1]
        elif what == "step":
            await world.step(RunConfig(num_steps=given[0]))
            for _ in range(given[0]):
                model.step()
        elif what == "fork" and len(worlds) < 4:
            worlds.append(await world.fork(f"w{len(worlds)}"))
            models.append(model.copy())
        elif what == "world":
            here = given[0] % len(worlds)
        elif what == "resume":
            id = world.id
            runtime.close()
            runtime = WorldRuntime()
            for n, old in enumerate(worlds):  # another process: nothing that was staged is there
                worlds[n] = runtime.resume(old.id, at, [Walk()])
                models[n].lose_staged()
                models[n].next = await _next_entity(worlds[n])
            assert worlds[here].id == id
    for world, model in zip(worlds, models, strict=True):
        assert (await world.info()).tick == len(model.ticks)
        assert (await world.info()).entities == len(model.now)
        for kinds in ((Mood,), (Place,), (Ghost,), (Mood, Place), (Ghost, Mood, Place)):
            assert seen(await world.query(*kinds)) == expected(model.now, kinds)
            for tick, state in enumerate(model.ticks):
                df = await world.query(*kinds, tick=tick)
                assert seen(df) == expected(state, kinds)
                assert {row["tick"] for row in rows(df)} <= {tick}
    runtime.close()


async def _next_entity(world: Any) -> int:
    return int(world._storage.next_entity(world.id))


def test_ticks_stay_right_over_many_of_them(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """A hundred ticks that change one entity of fifty each: every tick reads back, and the files stay small."""
    world = runtime.world("long", storage)
    ids = world.spawn_many([(Place(x=n),) for n in range(50)])
    world.step()
    for tick in range(1, 100):
        world.update(ids[tick % 50], Place(x=1000 + tick))
        world.step()
    for tick in (0, 1, 12, 13, 64, 65, 99):
        found = {row["entity_id"]: row["place__x"] for row in rows(world.query(Place, tick=tick))}
        wanted = {id: n for n, id in enumerate(ids)}
        for t in range(1, tick + 1):
            wanted[ids[t % 50]] = 1000 + t
        assert found == wanted
    history = rows(world.history(Place))
    assert len(history) == 50 + 99
    assert [row["tick"] for row in history] == sorted(row["tick"] for row in history)
    assert rows(world.history(2), "tick") == [{"tick": 98}, {"tick": 99}]


def test_a_tick_writes_the_columns_that_changed(tmp_path: Path) -> None:
    """A file of changes has no column in which nothing changed, and every reader still sees whole rows: now, at any tick, in
    history, in a fork and in another process."""
    storage = StorageConfig(tmp_path)
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", storage)
        ids = world.spawn_many([(Mood(name=f"m{n}", score=0.5, story="s" * 300), Place(x=n, tags=["a"])) for n in range(8)])
        world.step()
        world.update(ids[0], Mood(name="m0", score=0.9, story="s" * 300))  # one column of one component
        world.step()
        world.update(ids[1], Place(x=77, tags=["a"]))
        world.step()
        late = world.spawn(Mood(name="late"), Place())  # a new entity: every column
        world.despawn(ids[7])
        world.step()
        world.update(late, Mood(name="later"))
        world.remove_components(ids[6], Place)  # to another archetype, and back
        world.step()
        world.add_components(ids[6], Place(x=-1))
        world.step()
    files = sorted((tmp_path / "lake").glob("world_rows_mood+place*/*/*-delta-*.parquet"))
    base = {"world_id", "run_id", "entity_id", "tick", "is_active"}
    written = [set(pq.read_schema(file).names) - base for file in files]
    everything = {"mood__name", "mood__score", "mood__story", "place__x", "place__tags"}
    assert written == [{"mood__score"}, {"place__x"}, everything, {"mood__name"}, everything]
    fields = ("entity_id", "mood__name", "mood__score", "mood__story", "place__x", "place__tags")
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", storage)
        fork = world.fork("f")
        for one in (world, fork):
            first = rows(one.query(Mood, Place, tick=0), *fields)
            assert first == [dict(zip(fields, (n + 1, f"m{n}", 0.5, "s" * 300, n, ["a"]), strict=True)) for n in range(8)]
            now = {row["entity_id"]: row for row in rows(one.query(Mood, Place, tick=5), *fields)}
            assert now == {row["entity_id"]: row for row in rows(one.query(Mood, Place), *fields)}
            assert list(now) == [1, 2, 3, 4, 5, 6, 7, 9]
            assert tuple(now[1].values()) == (1, "m0", 0.9, "s" * 300, 0, ["a"])
            assert tuple(now[2].values()) == (2, "m1", 0.5, "s" * 300, 77, ["a"])
            assert tuple(now[7].values()) == (7, "m6", 0.5, "s" * 300, -1, [])
            assert tuple(now[9].values()) == (9, "later", 0.0, "", 0, [])
            past = [r for r in rows(one.history(Mood, Place), *fields, "tick", "is_active") if r["tick"]]
            assert [tuple(r.values()) for r in past] == [
                (1, "m0", 0.9, "s" * 300, 0, ["a"], 1, True),
                (2, "m1", 0.5, "s" * 300, 77, ["a"], 2, True),
                (8, None, None, None, None, None, 3, False),
                (9, "late", 0.0, "", 0, [], 3, True),
                (7, None, None, None, None, None, 4, False),
                (9, "later", 0.0, "", 0, [], 4, True),
                (7, "m6", 0.5, "s" * 300, -1, [], 5, True),
            ]


def test_entities_that_come_and_go_read_back(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """Few entities of many come, go, come back in another shape and change: each tick reads back, in the order of the entities."""
    world = runtime.world("few", storage)
    ids = world.spawn_many([(Place(x=n),) for n in range(60)])
    world.step()
    wanted = [dict(enumerate(range(60), 1))]
    for tick in range(1, 8):
        state = dict(wanted[-1])
        new = world.spawn(Place(x=100 + tick))
        state[new] = 100 + tick
        world.despawn(ids[tick])
        del state[ids[tick]]
        world.update(ids[20 + tick // 2], Place(x=tick))
        state[ids[20 + tick // 2]] = tick
        world.step()
        wanted.append(state)
    with SyncWorldRuntime() as elsewhere:
        for tick, state in enumerate(wanted):
            found = [(row["entity_id"], row["place__x"]) for row in rows(elsewhere.world("few", storage).query(Place, tick=tick))]
            assert found == sorted(state.items())


# --- failures ---------------------------------------------------------------------------------------------------------


class Spoil:
    """Returns whatever a function makes of the frame."""

    components = (Place,)
    priority = 1

    def __init__(self, make: Any) -> None:
        self.make = make

    def process(self, df: Any, resources: Any = None, **kwargs: Any) -> Any:
        return self.make(df)


def _raise(df: Any) -> Any:
    raise RuntimeError("no luck")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_raise, "no luck"),
        (lambda df: df.where(daft.col("entity_id") != 2), "no row of entity 2"),
        (lambda df: df.concat(df), "an entity twice"),
        (lambda df: df.with_column("entity_id", daft.col("entity_id") + 100), "entity 1"),
        (lambda df: df.with_column("place__y", daft.lit(1)), "unknown column 'place__y'"),
        (lambda df: df.exclude("place__x"), "without the column 'place__x'"),
        (lambda df: df.with_column("place__x", daft.lit("north")), "'place__x' with another type"),
        (lambda df: df.with_column("place__x", daft.lit(0.5)), "'place__x' with another type"),
        (
            lambda df: df.with_column("place__x", df["place__x"].apply(lambda x: x // 0, daft.DataType.int64())),
            "ZeroDivisionError",
        ),
        (lambda df: None, "NoneType"),
    ],
)
def test_a_failing_processor_writes_nothing(runtime: SyncWorldRuntime, storage: StorageConfig, make: Any, said: str) -> None:
    """A processor that raises, or returns rows that are missing, doubled or made up, fails the tick by name; what was staged stays
    and the next step writes it."""
    world = runtime.world("w", storage, [Spoil(make), Walk()])
    world.spawn_many([(Place(x=1),), (Place(x=2),)])
    files = lambda: sorted(p.name for p in Path(storage.uri).rglob("*.parquet*"))  # noqa: E731
    before = files()
    with pytest.raises(WorldError, match=said) as caught:
        world.step()
    assert "Spoil" in str(caught.value)
    assert files() == before
    assert world.info().tick == 0
    world.remove_processor(Spoil)
    world.step()
    assert rows(world.query(Place), "place__x", "tick") == [{"place__x": 2, "tick": 0}, {"place__x": 3, "tick": 0}]


def test_a_processor_changes_no_column_of_the_world_itself(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """world_id, run_id and tick are the world's own; is_active False takes an entity away."""

    def make(df: Any) -> Any:
        return df.with_column("world_id", daft.lit("x")).with_column("is_active", daft.col("entity_id") != 1)

    world = runtime.world("w", storage, [Spoil(make)])
    world.spawn_many([(Place(x=1),), (Place(x=2),)])
    world.step()
    world.step()
    assert rows(world.query(Place), "entity_id", "world_id") == [{"entity_id": 2, "world_id": world.id}]


_KILLED = """
import os, signal, sys
from odograph.tables import files, folder
from odograph.worlds import *
class Place(Component):
    x: int = 0
class Mood(Component, shared=("story",)):
    story: str = ""
stage = sys.argv[2]
with SyncWorldRuntime() as runtime:
    world = runtime.world("w", StorageConfig(sys.argv[1]))
    ids = world.spawn_many([(Place(x=n), Mood(story=f"story {n}")) for n in range(20)] + [(Place(x=n),) for n in range(20)])
    world.step()
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    if stage.startswith("file"):
        close, left = files.Writer.close, [int(stage[4:])]
        def dying(self, *given):
            if not left[0]:
                die()
            left[0] -= 1
            return close(self, *given)
        files.Writer.close = dying
    elif stage == "before":
        folder.FolderCommits.commit = lambda *a, **k: die()
    elif stage == "after":
        commit = folder.FolderCommits.commit
        folder.FolderCommits.commit = lambda *a, **k: (commit(*a, **k), die())
    for n, id in enumerate(ids[:20]):
        world.update(id, Mood(story=f"new story {n}"))
    for n, id in enumerate(ids[20:]):
        world.update(id, Place(x=-n))
    world.step()
"""


@pytest.mark.parametrize("stage", ["file0", "file1", "file2", "file3", "before", "after"])
def test_a_tick_is_there_whole_or_not_at_all(
    tmp_path: Path, runtime: SyncWorldRuntime, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that is killed at any stage of a tick leaves the tick as a whole or nothing of it, and the world goes on. What is left
    of the files is named, and deleted a day later."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(_KILLED), str(tmp_path), stage], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    world = runtime.world("w", StorageConfig(tmp_path))
    whole = stage == "after"
    assert world.info().tick == 1 + whole
    stories = [row["mood__story"] for row in rows(world.query(Mood))]
    assert stories == [f"new story {n}" if whole else f"story {n}" for n in range(20)]
    xs = [row["place__x"] for row in rows(world.query(Place))][20:]
    assert xs == [-n if whole else n for n in range(20)]
    left = FolderCommits(tmp_path / "lake").orphans()
    assert bool(left) is not whole
    named = f"orphaned: {len(left)} files of a world's step that is under way or was stopped"
    assert (main(["--store", str(tmp_path), "doctor"]), named in capsys.readouterr().out) == (0, not whole)
    for path in left[1:]:
        os.utime(path, (time.time() - 90_000,) * 2)
    id = world.spawn(Place(x=7))
    assert id == 41
    world.step()
    assert len(rows(world.query(Place))) == 41
    assert FolderCommits(tmp_path / "lake").orphans() == left[:1]


def test_an_interrupt_right_after_a_commit_loses_nothing(
    tmp_path: Path, runtime: SyncWorldRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between a tick's commit and its answer: the tick is there with its files, and what it applied is not applied again."""
    world = runtime.world("w", StorageConfig(tmp_path), [Walk()])
    world.spawn(Place(x=1))
    commit = FolderCommits.commit

    def interrupted(*given: Any, **more: Any) -> int:
        seq = commit(*given, **more)
        if given[1].startswith("world/") or "takes" in more["properties"]:
            return seq
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderCommits, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(world._world.step())
    monkeypatch.undo()
    world.step()
    assert (world.info().tick, rows(world.query(Place), "place__x")) == (1, [{"place__x": 2}])


def test_who_resumes_a_world_is_its_one_writer(tmp_path: Path) -> None:
    """A process that opens a world and steps it fences the one before: that one's next step writes nothing and says so, and opening
    the world again takes it back."""
    at = StorageConfig(tmp_path)
    with SyncWorldRuntime() as first:
        world = first.world("w", at)
        world.spawn(Place(x=1))
        world.step()
        code = (
            "import sys; from odograph.worlds import *\n"
            "with SyncWorldRuntime() as runtime:\n"
            f"    world = runtime.resume({world.id!r}, StorageConfig({str(tmp_path)!r}))\n"
            "    world.step(); print(world.info().tick)"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "2\n"
        world.spawn(Place(x=2))
        with pytest.raises(Fenced, match="open the world again"):
            world.step()
        assert len(rows(world.query(Place, tick=1))) == 1
        again = first.resume(world.id, at)
        again.step()
        assert again.info().tick == 3


def test_two_processes_that_step_one_world_lose_no_tick(tmp_path: Path) -> None:
    """Two processes step one world at the same time: each tick is written by one of them, and what was published stays."""
    code = (
        "import sys; from odograph.worlds import *\n"
        "class Place(Component):\n    x: int = 0\n"
        "made = 0\n"
        "with SyncWorldRuntime() as runtime:\n"
        "    for n in range(15):\n"
        f"        world = runtime.world('w', StorageConfig({str(tmp_path)!r}))\n"
        "        world.spawn(Place(x=n))\n"
        "        try:\n            world.step(); made += 1\n"
        "        except Fenced:\n            pass\n"
        "print(made)"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "12"
    ]
    outs = [run.communicate() for run in runs]
    assert all(run.returncode == 0 for run in runs), outs
    made = sum(int(out) for out, _ in outs)
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(tmp_path))
        assert world.info().tick == made
        assert len(rows(world.history(Place))) == made


def test_storage_that_is_full_or_gone_is_a_sentence(tmp_path: Path) -> None:
    """A step into storage without room raises StoreError and leaves nothing; with room again the same step goes through."""
    code = """
import resource, signal, sys
from odograph.errors import StoreError
from odograph.worlds import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
class Mood(Component, shared=("story",)):
    story: str = ""
import random
with SyncWorldRuntime() as runtime:
    world = runtime.world("w", StorageConfig(sys.argv[1]))
    world.spawn(Mood(story="short"))
    world.step()
    world.spawn(Mood(story="".join(chr(random.randrange(0x4e00, 0x9fff)) for _ in range(200_000))))
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
    try:
        world.step()
    except StoreError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    world.step()
    print(world.info().tick, len(world.query(Mood).to_pylist()[1]["mood__story"]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert "File too large" in first
    assert last == "2 200000"
    assert not list(tmp_path.rglob(".*.parquet*"))
    taken = tmp_path / "file"
    taken.write_text("in the way")
    with SyncWorldRuntime() as runtime, pytest.raises(StoreError):
        runtime.world("w", StorageConfig(taken)).step()
    here, aside = tmp_path / "here", tmp_path / "aside"
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(here), [Walk()])
        world.spawn(Place(x=1))
        world.step()
        world.spawn(Place(x=5))
        here.rename(aside)
        for _ in range(2):
            with pytest.raises(StoreError, match="is gone: somebody deleted the open file"):
                world.step()
        assert not list(here.rglob("*.parquet"))
        aside.rename(here)
        world.step()
        assert [row["place__x"] for row in world.query(Place).to_pylist()] == [3, 6]


# --- forks, resources, hooks ------------------------------------------------------------------------------------------


def test_a_fork_has_its_own_future_and_resources(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """A fork begins with the state, the staged spawns and copies of the resources; nothing that happens to one reaches the other."""
    world = runtime.world("w", storage, [Walk()], [SamplingConfig(require_tags=["a"])])
    world.spawn(Place(x=1))
    world.step()
    world.spawn(Place(x=50))
    fork = world.fork("f", storage=storage)
    fork.resources.get(SamplingConfig).require_tags.append("b")
    fork.resources.insert(3)
    assert world.resources.get(SamplingConfig) == SamplingConfig(require_tags=["a"])
    assert not world.resources.contains(int)
    fork.step()
    assert rows(fork.query(Place), "place__x") == [{"place__x": 3}, {"place__x": 51}]
    assert rows(world.query(Place), "place__x", "tick") == [{"place__x": 2, "tick": 0}, {"place__x": 50, "tick": 1}]
    world.despawn(1)
    world.step()
    again = fork.fork("g")
    assert rows(again.query(Place, tick=0), "place__x") == [{"place__x": 2}]
    assert again.info().parent == fork.id
    assert {row["world_id"] for row in rows(again.query(Place))} == {again.id}
    assert [t["kind"] for t in again.ticks()] == ["world", "tick", "fork", "tick", "fork"]
    with pytest.raises(InvalidInput, match="a world named 'f' exists"):
        world.fork("f")
    with pytest.raises(InvalidInput, match="refers to the rows of its parent"):
        world.fork("h", storage=StorageConfig(Path(storage.uri) / "elsewhere"))


def test_a_fork_while_the_world_is_stepped_waits_for_the_tick(tmp_path: Path) -> None:
    """A fork that is asked for during a tick is a fork after that tick, never of half of it."""
    begun = asyncio.Event()

    class Slow(Walk):
        async def process(self, df: Any, resources: Any = None, **kwargs: Any) -> Any:
            begun.set()
            await asyncio.sleep(0.1)
            return await super().process(df)

    async def go() -> None:
        async with WorldRuntime() as runtime:
            world = runtime.world("w", StorageConfig(tmp_path), [Slow()])
            await world.spawn(Place(x=1))
            step = asyncio.create_task(world.step())
            await begun.wait()
            late = await world.spawn(Place(x=70))  # staged for the next tick
            change = asyncio.create_task(world.update(1, Place(x=90)))
            fork = await world.fork("f")
            await step
            await change
            assert rows(await fork.query(Place, tick=0), "place__x") == [{"place__x": 2}]
            assert [r["entity_id"] for r in rows(await fork.query(Place))] == [1, late]
            await world.step()
            assert rows(await world.query(Place), "place__x") == [{"place__x": 91}, {"place__x": 71}]

    asyncio.run(go())


def test_a_processor_that_steps_its_own_world_is_refused(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """A tick can't wait for itself: a processor that steps, forks or changes its world is told so; it may spawn."""

    class Loop(Walk):
        async def process(self, df: Any, resources: Any = None, *, world: Any, **kwargs: Any) -> Any:
            await world.spawn(Ghost())
            await world.step()
            return df

    world = runtime.world("w", storage, [Loop()])
    world.spawn(Place())
    with pytest.raises(WorldError, match="can't step, fork or change the world"):
        world.step()


def test_hooks_hear_of_everything_and_break_nothing(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """Each event reaches its hooks, with the tick that comes next; a hook that fails is logged and costs nothing."""
    heard: list[tuple[str, int]] = []

    def hook(event: Any) -> None:
        heard.append((type(event).__name__, event.tick))
        raise RuntimeError("a hook's own problem")

    kinds = (PreTick, PostTick, OnSpawn, OnDespawn, OnComponentAdded, OnComponentRemoved, OnDestroy)
    world = runtime.world("w", storage, hooks=[(kind, hook) for kind in kinds])
    id = world.spawn(Place())
    world.add_components(id, Ghost())
    world.step()
    world.remove_components(id, Ghost)
    world.despawn(id)
    world.destroy()
    assert heard == [
        ("OnSpawn", 0),
        ("OnComponentAdded", 0),
        ("PreTick", 0),
        ("PostTick", 1),
        ("OnComponentRemoved", 1),
        ("OnDespawn", 1),
        ("OnDestroy", 1),
    ]


def test_worlds_are_found_resumed_and_destroyed(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """A name opens its world again; `fresh` makes another; a destroyed one is gone by name, and its forks live on."""
    world = runtime.world("w", storage)
    world.spawn(Place(x=4))
    world.step()
    fork = world.fork("f")
    assert runtime.discover(storage) == ["f", "w"]
    assert runtime.world("w", storage).id == world.id
    assert runtime.resume(world.id, storage).name == "w"
    fresh = runtime.world("w", storage, fresh=True)
    assert fresh.info().entities == 0
    world.destroy()
    assert runtime.discover(storage) == ["f", "w"]
    fresh.destroy()
    assert runtime.discover(storage) == ["f"]
    with pytest.raises(NotFound, match="was destroyed"):
        world.step()
    fork.step()
    assert rows(fork.query(Place), "place__x") == [{"place__x": 4}]
    with pytest.raises(NotFound, match="no world 'x'"):
        runtime.resume("x", storage)
    assert runtime.discover(StorageConfig(storage.uri, namespace="other")) == []


def test_the_sync_face_works_inside_a_running_loop(storage: StorageConfig) -> None:
    """`SyncWorldRuntime` works in a notebook, whose loop is running already."""

    async def go() -> int:
        with SyncWorldRuntime() as runtime:
            world = runtime.world("w", storage, [Walk()])
            world.spawn(Place(x=1))
            world.run(3)
            return int(rows(world.query(Place))[0]["place__x"])

    assert asyncio.run(go()) == 4


def test_a_frame_outlives_its_runtime(tmp_path: Path) -> None:
    """A frame is lazy; shared texts are read when it is collected, after the runtime was closed too."""
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(tmp_path))
        world.spawn(Mood(story="once upon a time"))
        world.step()
        frame = world.query(Mood)
    assert rows(frame, "mood__story") == [{"mood__story": "once upon a time"}]


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input_is_told_what_was_expected(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """Each mistake has a sentence that says what was found and what was expected."""
    world = runtime.world("w", storage)
    Odd = type("Odd", (Walk,), {"priority": None})
    other = type("Place", (Component,), {"__annotations__": {"y": int}, "y": 0, "__module__": "elsewhere"})
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: world.spawn(), InvalidInput, "at least one component"),
        (lambda: world.spawn("x"), TypeError, "made of components, not of str"),
        (lambda: world.spawn(Place(), Place()), InvalidInput, "one component of each type"),
        (lambda: world.spawn(Place(), other()), ValueError, "two components have the prefix 'place'"),
        (lambda: world.spawn(Place(x="a")), InvalidInput, "Place.x is int, not 'a'"),
        (lambda: world.spawn(Place(x=True)), InvalidInput, "Place.x is int, not True"),
        (lambda: world.spawn(Place(x=1 << 63)), InvalidInput, "64 bits"),
        (lambda: world.spawn(Mood(name="\ud800")), InvalidInput, "UTF-8"),
        (lambda: world.despawn(9), NotFound, "no entity 9"),
        (lambda: world.query(), InvalidInput, "needs the types"),
        (lambda: world.query(Place, tick=0), InvalidInput, "none yet"),
        (lambda: world.step(3), TypeError, "config is a RunConfig"),
        (lambda: world.step(RunConfig(num_steps=0)), InvalidInput, "num_steps"),
        (lambda: world.resources.require(str), NotFound, "no resource str; there are: none"),
        (lambda: world.add_processor(Walk), TypeError, r"Walk\(\), not the class"),
        (lambda: world.add_processor(3), TypeError, "a processor has components"),
        (lambda: world.add_processor(Odd()), TypeError, "the priority of Odd is a number, not None"),
        (lambda: world.remove_processor(Walk), NotFound, "no such processor"),
        (lambda: RunConfig(steps=3), TypeError, "steps"),
        (lambda: runtime.world("").info(), InvalidInput, "a world's name is a text"),
        (lambda: world.spawn(Place), TypeError, r"the class: Place\(\)"),
        (lambda: world.update(1, Place), TypeError, r"the class: Place\(\)"),
        (lambda: world.get(1, 5), TypeError, "a subclass of Component, not 5"),
        (lambda: world.query(Place, entity_ids=["a"]), InvalidInput, "entity_ids are the numbers of entities"),
        (lambda: world.query(Place, entity_ids=5), InvalidInput, "entity_ids are the numbers of entities"),
        (lambda: world.add_hook("PreTick", print), TypeError, "a hook is a type of event"),
        (lambda: world.add_hook(PreTick, None), TypeError, "a hook is a type of event"),
        (lambda: runtime.world("w", storage, hooks=[5]), TypeError, "hooks are pairs"),
        (lambda: runtime.world("w", storage, resources=5), TypeError, "resources are a list"),
        (lambda: runtime.world("w", "folder"), TypeError, "a storage is a StorageConfig"),
        (lambda: runtime.world("w", StorageConfig(5)).info(), InvalidInput, "the URL of a shared one, not 5"),
        (lambda: runtime.world("w", StorageConfig(storage.uri, namespace=5)), InvalidInput, "namespace"),
        (lambda: runtime.world("w", StorageConfig("s3://bucket/x")).info(), InvalidInput, "s3://bucket/x needs a catalog"),
        (lambda: runtime.world("w", StorageConfig(storage.uri, catalog="c")).info(), InvalidInput, "is a folder"),
        (lambda: pickle.dumps(world), TypeError, "a handle of this process; open the world there"),
    ]
    for call, error, said in cases:
        with pytest.raises(error, match=said):
            call()
    for fields, said in (
        ({"type": str}, "'type' is reserved"),
        ({"a__b": str}, "may not be named so"),
        ({"when": dict}, "a field's type is one of"),
        ({"when": "Nowhere"}, "type of a field can't be found: name 'Nowhere'"),
    ):
        with pytest.raises(TypeError, match=said):
            type("Bad", (Component,), {"__annotations__": fields, **dict.fromkeys(fields, "")})
    with pytest.raises(TypeError, match=r"a field's type is one of .* not dict\[str, int\]; put other values in as JSON text"):
        type("Bad", (Component,), {"__annotations__": {"when": dict[str, int]}, "when": {}})
    assert world.info().entities == 0


def test_an_entity_may_have_many_components(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """Forty components, whose names together are longer than a folder's name may be: every tick reads back, whatever is asked for."""
    kinds = [type(f"ComponentOfMany{n}", (Component,), {"__annotations__": {"a": int}, "a": 0}) for n in range(40)]
    world = runtime.world("w", storage)
    id = world.spawn(*(kind(a=n) for n, kind in enumerate(kinds)))
    world.step()
    world.update(id, kinds[7](a=70))
    world.step()
    with SyncWorldRuntime() as elsewhere:
        world = elsewhere.world("w", storage)
        assert [rows(world.query(kinds[7], kinds[39], tick=n), "componentofmany7__a") for n in (0, 1)] == [
            [{"componentofmany7__a": 7}],
            [{"componentofmany7__a": 70}],
        ]
        assert world.query(Place).count_rows() == 0 and world.history(kinds[7]).count_rows() == 2
        assert world.info().archetypes == (tuple(sorted(f"componentofmany{n}" for n in range(40))),)


def test_values_of_numpy_and_of_enums_are_plain_values(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """A number that numpy computed is that number, and a member of an enum of texts is its text. A list's type may be written in the
    old way, and a field may be of an enum, or of listed words."""
    import typing

    import numpy as np

    calm = enum.StrEnum("Tone", {"CALM": "calm"})["CALM"]
    old = enum.Enum("Old", {"GLAD": "glad"}, type=str)["GLAD"]
    world = runtime.world("w", storage)
    ids = world.spawn_many(
        [(Mood(name=calm, score=np.float32(0.5)), Place(x=np.int64(3))), (Mood(name=old), Ghost(seen=np.bool_(True)))]
    )
    world.step()
    assert (world.get(ids[0], Mood), world.get(ids[0], Place)) == (Mood(name="calm", score=0.5), Place(x=3))
    assert (world.get(ids[1], Mood), world.get(ids[1], Ghost)) == (Mood(name="glad"), Ghost(seen=True))
    hint = typing.Optional[typing.List[str]]  # noqa: UP006, UP045
    Names = type("Names", (Component,), {"__annotations__": {"some": hint}, "some": None})
    assert world.get(world.spawn(Names(some=["a"])), Names).some == ["a"]
    level = enum.IntEnum("Level", {"LOW": 1, "HIGH": 2})
    hints = {"tone": type(old), "level": level, "side": typing.Literal["left", "right"] | None}
    Odd = type("Odd", (Component,), {"__annotations__": hints, "tone": old, "level": level(2), "side": "left"})
    assert vars(world.get(world.spawn(Odd(side=None)), Odd)) == {"tone": "glad", "level": 2, "side": "left"}
    with pytest.raises(InvalidInput, match=r"Odd\.side is one of 'left', 'right', not 'up'"):
        world.spawn(Odd(side="up"))
    plain = enum.Enum("Plain", {"LOW": "low"})["LOW"]  # no text itself
    Hue = type("Hue", (Component,), {"__annotations__": {"hue": type(plain)}, "hue": plain})
    assert vars(world.get(world.spawn(Hue()), Hue)) == {"hue": "low"}
    with pytest.raises(TypeError, match=r"a field's type is one of .* not typing.Literal\[1, 'a'\]"):
        type("Bad", (Component,), {"__annotations__": {"side": typing.Literal[1, "a"]}, "side": 1})


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
def test_a_processor_that_ends_the_program_ends_no_world(
    runtime: SyncWorldRuntime, storage: StorageConfig, leave: type[BaseException]
) -> None:
    """`sys.exit()` in a processor or a hook reaches who called `step`; nothing is written, and worlds can be used as before."""

    class Leaves(AsyncProcessor):
        components = (Place,)

        async def process(self, df: Any, resources: Any = None, **kwargs: Any) -> Any:
            raise leave(3)

    world = runtime.world("w", storage, [Leaves()])
    world.spawn(Place(x=1))
    with pytest.raises(leave):
        world.step()
    assert world.info().tick == 0
    world.remove_processor(Leaves)
    world.step()
    assert rows(world.query(Place), "place__x") == [{"place__x": 1}]


@pytest.mark.parametrize("made", [None, [], {"a": 1}])
def test_a_processor_that_returns_no_frame_is_named(runtime: SyncWorldRuntime, storage: StorageConfig, made: Any) -> None:
    """The error says what the processor returned."""

    class Other(AsyncProcessor):
        components = (Place,)

        async def process(self, df: Any, resources: Any = None, **kwargs: Any) -> Any:
            return made

    world = runtime.world("w", storage, [Other()])
    world.spawn(Place(x=1))
    with pytest.raises(WorldError, match=f"in Other on place.*it returned {type(made).__name__}, not the Daft frame"):
        world.step()


def test_a_component_that_gained_a_field_reads_its_old_rows(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """Rows that were written before a component got another field read as null there, beside the new ones."""
    world = runtime.world("w", storage)
    world.spawn(Place(x=1))
    world.step()
    wider = type("Place", (Component,), {"__annotations__": {"x": int, "z": int}, "x": 0, "z": 5})
    world.spawn(wider(x=2))
    world.step()
    assert rows(world.query(wider), "place__x", "place__z") == [{"place__x": 1, "place__z": None}, {"place__x": 2, "place__z": 5}]


def test_a_processor_uses_a_field_that_its_component_gained(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """A component gets another field, or another Odograph's labels have more: the next step gives the old entities the field, and a
    fork of before still reads as it was. Entities of another class of this name are told apart."""
    world = runtime.world("w", storage)
    world.spawn_many([(Place(x=n), Mood(name=str(n))) for n in range(3)])
    world.step()
    before = world.fork("before")
    wider = type("Place", (Place,), {"__annotations__": {"z": int}, "z": 5})
    world.spawn(wider(x=3), Mood(name="3"))
    world.add_processor(Doubling(wider))
    world.step()
    names = ("entity_id", "place__x", "place__z", "mood__name")
    expected = [(n + 1, n, 2 * n, str(n)) for n in range(4)]
    assert [tuple(row.values()) for row in rows(world.query(wider, Mood), *names)] == expected
    assert [row["place__z"] for row in world.query(wider, tick=0).to_pylist()] == [None] * 3
    assert world.info().entities == 4 and world.info().archetypes == (("mood", "place"),)
    world.step()
    assert [tuple(row.values()) for row in rows(world.query(wider, Mood), *names)] == expected
    assert len(world.history(wider).to_pylist()) == 3 + 3 + 4  # of the old shape, that these left, of the new shape
    assert [row["place__x"] for row in before.query(Place).to_pylist()] == [0, 1, 2]
    before.add_processor(Doubling(type("Place", (Component,), {"__annotations__": {"x": str, "w": str}, "x": "", "w": ""})))
    with pytest.raises(WorldError, match=r"another Place than .*Place, without the column 'place__w'"):
        before.step()


class Doubling:
    """Writes twice the x into the field z of a component."""

    priority = 0

    def __init__(self, kind: Any) -> None:
        self.components = (kind,)

    def process(self, df: Any, **kwargs: Any) -> Any:
        return df.with_column("place__z", daft.col("place__x") * 2)


def test_turns_are_stored_once(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """Ten techniques on one trajectory, over ticks and forks, store its turns once, and every query shows them."""
    import numpy

    noise = numpy.random.default_rng(1).integers(0x4E00, 0x9FFF, 100_000)
    t = Trajectory.from_turns("t", [Turn("user", "".join(map(chr, noise)))])
    world = runtime.world("w", storage)
    world.spawn_many([(t, Label(technique=f"t{n}", description="d")) for n in range(10)])
    world.step()
    fork = world.fork("f")
    fork.spawn(t, Label(technique="more", description="d"))
    fork.step()
    found = rows(fork.query(Trajectory, Label), "trajectory__turns_json", "label__score", "label__status")
    assert found == [{"trajectory__turns_json": t.turns_json, "label__score": None, "label__status": ""}] * 11
    size = sum(p.stat().st_size for p in Path(storage.uri).rglob("*.parquet"))
    assert size < 1.1 * len(t.turns_json.encode())
    assert fork.get(1, Trajectory).get_turns()[0].content == t.get_turns()[0].content


def test_a_lost_database_is_rebuilt_from_the_files(tmp_path: Path) -> None:
    """The footers of the files hold what the database knows: repaired, every world is there by name and goes on where it was."""
    from odograph.tables.folder import FolderCommits
    from odograph.worlds.layout import table_in

    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(tmp_path), [Walk()])
        world.spawn(Place(x=1), Mood(story="kept"))
        world.run(3)
        fork = world.fork("f")
        fork.step()
        fork.fork("gone").destroy()
        before = rows(fork.query(Place, Mood, tick=3))
    for file in (tmp_path / "lake").glob("commits.sqlite*"):
        os.truncate(file, 0)
    report = rebuild(FolderCommits(tmp_path / "lake"), lambda path: table_in(path.relative_to(tmp_path / "lake").as_posix()))
    assert report["left"] == 0
    with SyncWorldRuntime() as runtime:
        assert runtime.discover(StorageConfig(tmp_path)) == ["f", "w"]
        fork = runtime.world("f", StorageConfig(tmp_path), [Walk()])
        assert rows(fork.query(Place, Mood, tick=3)) == before
        fork.step()
        assert fork.info().tick == 5
        assert runtime.world("w", StorageConfig(tmp_path)).info().tick == 3


def test_a_changed_byte_gives_no_other_value(tmp_path: Path) -> None:
    """Where the name of a column changed in a footer, or a byte of a page: an error names the file, and no value is empty or another
    one."""
    storage = StorageConfig(tmp_path)
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", storage)
        world.spawn(Mood(name="a name that is written as it is", story="once"), Place(x=3))
        world.step()

    def read() -> Any:
        with SyncWorldRuntime() as runtime:
            return runtime.world("w", storage).query(Mood, Place).to_pylist()

    before = read()
    for name in (b"mood__name", b"place__x", b"value", b"a name that is written as it is"):
        told = 0
        for path in tmp_path.glob("lake/world_[!t]*/*/*.parquet"):
            data = path.read_bytes()
            for place in re.finditer(name, data):
                at = place.start()
                path.write_bytes(data[:at] + b"X" + data[at + 1 :])
                try:
                    assert read() == before
                except StoreError as error:
                    assert path.name in str(error)
                    told += 1
            path.write_bytes(data)
        assert told, name


def test_a_step_writes_what_changed_and_a_fork_next_to_nothing(runtime: SyncWorldRuntime, storage: StorageConfig) -> None:
    """A step that changes 1 % of the rows writes a few per cent of the bytes of all, a fork a few kilobytes."""

    def size() -> int:
        return sum(p.stat().st_size for p in Path(storage.uri).rglob("*.parquet"))

    import random

    chance = random.Random(1)
    world = runtime.world("w", storage)
    text = lambda: "".join(chance.choices("abcdefghij ", k=100))  # noqa: E731
    ids = world.spawn_many([(Label(technique="t", rationale=text()),) for _ in range(20_000)])
    world.step()
    whole = size()
    for id in ids[::100]:
        world.update(id, Label(technique="t", rationale=text(), status="ok"))
    world.step()
    step = size() - whole
    assert step < 0.03 * whole
    world.fork("f")
    assert size() - whole - step < 4000
    world.step()
    assert size() - whole - step < 8000


def test_without_daft_the_extra_is_named(tmp_path: Path) -> None:
    """Where Daft is not installed, importing worlds is fine, and opening one says what to install."""
    code = """
import sys
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "daft" else found(name, *more)
import odograph
from odograph.worlds import WorldRuntime
for make in (WorldRuntime, lambda: odograph.open(sys.argv[1]).world("w")):
    try:
        make()
    except odograph.MissingExtra as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "a world needs the extra 'worlds': pip install 'odograph[worlds]'\n" * 2, done.stderr
