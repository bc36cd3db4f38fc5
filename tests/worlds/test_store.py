"""Worlds of a store: filled from its trajectories, and labels that flow back into their records."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("daft")

import odograph
from odograph.errors import InvalidInput
from odograph.worlds import Label, LabelingConfig, LabelingProcessor, StorageConfig, SyncWorldRuntime, Trajectory, session_of
from odograph.worlds.storage import Storage

from .judge_server import JudgeServer, verdict
from .sessions import recorded

SPECS = [("honesty", "Does the agent say what it did?"), ("care", "Does the agent look before it changes things?")]


def test_a_recorded_session_is_turns_each_once(tmp_path: Path) -> None:
    """What an agent sends again at every step is one turn here; calls and results of tools are turns of their own."""
    with odograph.open(tmp_path) as store:
        one = session_of(store.trajectory(recorded(store, 1, tags=["demo"])))
    assert [(t.role, t.content, t.tool_name, t.tool_input) for t in one.get_turns()] == [
        ("system", "be brief", None, None),
        ("user", "task 1", None, None),
        ("assistant", "let me look", None, None),
        ("tool_call", "", "read", '{"path": "a.py"}'),
        ("tool_result", "def login(): ...", None, None),
        ("assistant", "fixed 1", None, None),
    ]
    assert (one.total_turns, one.total_tokens, one.outcome, one.tags) == (6, 24, "completed: fixed 1", ["demo"])


def test_labels_flow_from_the_store_and_back(tmp_path: Path) -> None:
    """Trajectories of a store are labelled in a world of it; spawning and writing back again add nothing; a changed verdict
    supersedes the old one."""
    with odograph.open(tmp_path) as store, JudgeServer() as server:
        ids = [recorded(store, n) for n in range(3)]
        config = LabelingConfig(base_url=server.url, api_key="x", progress=False, evidence=True)
        world = store.world("eval", processors=[LabelingProcessor()], resources=[config])
        assert len(world.spawn_from(store.trajectories(), labels=SPECS)) == 6
        assert world.spawn_from(store.trajectories(), labels=SPECS) == []
        server.answer = lambda text: verdict("fine", 0.8, "it was", evidence=[{"turn": 6, "quote": "fixed"}])
        world.step()
        assert world.spawn_from(store.trajectories(), labels=SPECS) == []
        assert len(server) == 6
        report = world.write_back(store, rewards=True, weight=0.5)
        assert (report.labels, report.rewards, report.unchanged, report.missing) == (6, 6, 0, 0)
        t = store.trajectory(ids[0])
        (label,) = (one for one in t.labels if one.technique == "honesty")
        assert (label.value, label.score, label.author) == ("fine", 0.8, "gpt-5-mini")
        assert label.description == SPECS[0][1]
        assert label.rationale == 'it was\n[turn 6] "fixed"'
        assert t.reward == pytest.approx(0.8)
        assert odograph.validate(t).valid
        again = world.write_back(store, rewards=True, weight=0.5)
        assert (again.labels, again.rewards, again.unchanged) == (0, 0, 6)
        world.update(1, Label(technique="honesty", description=SPECS[0][1]))
        server.answer = lambda text: verdict("poor", 0.1)
        world.resources.insert(LabelingConfig(base_url=server.url, api_key="x", progress=False, params={"seed": 2}))
        world.step()
        assert world.write_back(store).labels == 6
        labels = store.trajectory(ids[0]).labels
        assert [(one.technique, one.value) for one in labels] == [("honesty", "poor"), ("care", "poor")]
        assert store.world("eval").info().entities == 6


def test_a_session_that_grew_is_labelled_again(tmp_path: Path) -> None:
    """Spawning from the store again gives entities of a session that has grown its new turns, and only those are asked again."""
    with odograph.open(tmp_path) as store, JudgeServer() as server:
        ids = [recorded(store, n) for n in range(2)]
        config = LabelingConfig(base_url=server.url, api_key="x", progress=False)
        world = store.world("eval", processors=[LabelingProcessor()], resources=[config])
        world.spawn_from(store.trajectories(), labels=SPECS[:1])
        world.step()
        with store.append(ids[1]) as run, run.step() as step:
            step.llm_call(messages=[{"role": "user", "content": "one more thing"}], response="sure", model="m")
        assert world.spawn_from(store.trajectories(), labels=SPECS[:1]) == []
        world.step()
        assert len(server) == 3
        assert world.get(2, Trajectory).total_turns == 8


def test_a_seal_while_a_world_writes_takes_none_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that a world has written and not committed yet are the world's, whoever seals the store meanwhile."""
    with odograph.open(tmp_path) as store:
        recorded(store, 1)
        world = store.world("eval")
        world.spawn_from(store.trajectories(), labels=SPECS)
        publish = Storage._publish

        def late(*given: Any, **more: Any) -> None:
            store.seal()
            publish(*given, **more)

        monkeypatch.setattr(Storage, "_publish", late)
        world.step()
        found = store.world("eval").query(Label).to_pydict()["label__technique"]
        assert sorted(found) == sorted(name for name, _ in SPECS)


def test_in_async_code_a_world_is_awaited(tmp_path: Path) -> None:
    """The same calls, awaited, where a loop runs."""

    async def go() -> list[dict[str, Any]]:
        with odograph.open(tmp_path) as store:
            recorded(store, 1)
            world = store.world("eval")
            await world.spawn_from(store.trajectories(), labels=[Label(technique="t", description="d")])
            await world.step()
            found: list[dict[str, Any]] = (await world.query(Trajectory, Label)).to_pylist()
            with pytest.raises(InvalidInput, match="labels are"):
                await world.spawn_from(store.trajectories(), labels=["honesty"])
            return found

    assert [row["trajectory__outcome"] for row in asyncio.run(go())] == ["completed: fixed 1"]


def test_worlds_are_not_at_the_address_of_a_served_store() -> None:
    """A StorageConfig of a served store, or of one in memory, says how to get a world of it."""
    for elsewhere in ("https://host", "memory:"):
        with (
            SyncWorldRuntime() as runtime,
            pytest.raises(InvalidInput, match=r"odograph.open\(\.\.\.\)\.world\(name\) is a world in"),
        ):
            runtime.world("w", StorageConfig(elsewhere)).info()


def test_what_is_no_recorded_trajectory_and_no_name_is_said(tmp_path: Path) -> None:
    """The component Trajectory in the place of a recorded one, and a name that UTF-8 can't hold, are errors in a sentence."""
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(tmp_path / "s"))
        session: Any = Trajectory(trajectory_id="t")
        with pytest.raises(
            TypeError, match=r"recorded trajectories, not Trajectory; spawn\(trajectory, label\) takes the component"
        ):
            world.spawn_from([session], labels=SPECS)
        with pytest.raises(TypeError, match="recorded trajectories, not str"):
            world.spawn_from(["t"], labels=SPECS)
        assert world.info().entities == 0
        with pytest.raises(InvalidInput, match="UTF-8 can hold"):
            world.fork("half \ud800")
        with pytest.raises(InvalidInput, match="UTF-8 can hold"):
            runtime.world("half \ud800", StorageConfig(tmp_path / "s")).step()
        path: Any = "runs"
        with pytest.raises(InvalidInput, match="takes an open store"):
            world.write_back(path)
