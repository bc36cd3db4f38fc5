"""Which trajectories are labelled: the seed's filters, and drawing, by strata, where judges disagree, until it is enough."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("daft")

from odograph import Judge
from odograph.errors import InvalidInput
from odograph.worlds import (
    Label,
    LabelingConfig,
    LabelingProcessor,
    SamplingConfig,
    SamplingProcessor,
    StorageConfig,
    SyncWorldRuntime,
    Trajectory,
    Turn,
    WorldError,
)

from .judge_server import JudgeServer, verdict


def chosen(tmp_path: Path, config: SamplingConfig, trajectories: list[Trajectory]) -> list[str]:
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(tmp_path), [SamplingProcessor()], [config], fresh=True)
        world.spawn_many([(t, Label(technique=k, description="d")) for t in trajectories for k in "ab"])
        world.step()
        rows = world.query(Trajectory, Label).to_pylist()
    assert len(rows) == 2 * len(trajectories)  # no row is dropped
    found = Counter(row["trajectory__trajectory_id"] for row in rows if row["label__sampled"])
    assert set(found.values()) <= {2}  # a trajectory is sampled for all techniques or for none
    return sorted(found)


def many() -> list[Trajectory]:
    return [
        Trajectory.from_turns(
            f"t{n}",
            [Turn("user", "x")] * n,
            source="cli" if n % 3 else "web",
            outcome="success: done" if n % 2 else "failure",
            tags=["bug"] if n < 5 else ["bugfix", "auth"],
        )
        for n in range(9)
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "012345678"),
        ({"min_turns": 3, "max_turns": 6}, "3456"),
        ({"min_turns": 3, "max_trajectories": 2}, "34"),
        ({"require_tags": ["bug"]}, "01234"),
        ({"require_tags": ["auth", "bugfix"], "exclude_tags": ["x"]}, "5678"),
        ({"exclude_tags": ["bug"]}, "5678"),
        ({"outcome_filter": "success"}, "1357"),
    ],
)
def test_the_seed_s_filters(tmp_path: Path, given: dict[str, Any], expected: str) -> None:
    """Bounds of turns, tags by whole words, outcomes by a part; the limit counts those that pass."""
    assert chosen(tmp_path, SamplingConfig(**given), many()) == [f"t{c}" for c in expected]


def test_drawing_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    """Random and stratified samples are drawn with a seed; strata get their share."""
    first = chosen(tmp_path, SamplingConfig(strategy="random", max_trajectories=4, seed=3), many())
    assert first == chosen(tmp_path, SamplingConfig(strategy="random", max_trajectories=4, seed=3), many())
    assert any(first != chosen(tmp_path, SamplingConfig(strategy="random", max_trajectories=4, seed=n), many()) for n in (4, 5))
    strata = chosen(tmp_path, SamplingConfig(strategy="stratified", max_trajectories=6), many())
    assert Counter("web" if int(t[1:]) % 3 == 0 else "cli" for t in strata) == {"cli": 4, "web": 2}


def test_active_sampling_goes_where_judges_disagree(tmp_path: Path) -> None:
    """A fork with a better judge labels again only what the first judges disagreed on, and a step more asks nothing."""
    odd = lambda text: int(text.partition('"session ')[2].partition('"')[0]) % 4 == 1  # noqa: E731
    with (
        JudgeServer(lambda text: verdict("yes", 0.9)) as one,
        JudgeServer(lambda text: verdict("no" if odd(text) else "yes", 0.9)) as other,
        SyncWorldRuntime() as runtime,
    ):
        judges = [Judge(name, server.url, api_key="x") for name, server in (("a", one), ("b", other))]
        config = LabelingConfig(judges=judges, progress=False)
        world = runtime.world("w", StorageConfig(tmp_path), [SamplingProcessor(), LabelingProcessor()], [config])
        world.spawn_many(
            [(Trajectory.from_turns(f"t{n}", [Turn("user", f"session {n}")]), Label(technique="k")) for n in range(12)]
        )
        world.step()
        assert [row["label__disagreement"] for row in world.query(Label).to_pylist()] == [
            0.5 if n % 4 == 1 else 0 for n in range(12)
        ]
        fork = world.fork("better")
        fork.resources.insert(SamplingConfig(strategy="active"))
        fork.resources.insert(LabelingConfig(model="strong", base_url=one.url, api_key="x", progress=False))
        fork.run(2)
        assert len(one) == 12 + 3
        assert [row["label__model"] for row in fork.query(Label).to_pylist()] == [
            "strong" if n % 4 == 1 else "a, b" for n in range(12)
        ]


def test_sampling_stops_when_the_interval_is_narrow_enough(tmp_path: Path) -> None:
    """Each step labels a batch more until the mean is known well enough; then steps ask nothing."""
    chance = random.Random(5)
    with JudgeServer(lambda text: verdict("x", round(chance.uniform(0.4, 0.6), 3))) as server, SyncWorldRuntime() as runtime:
        resources = [
            SamplingConfig(until=0.02, batch=10, seed=1),
            LabelingConfig(base_url=server.url, api_key="x", progress=False),
        ]
        world = runtime.world("w", StorageConfig(tmp_path), [SamplingProcessor(), LabelingProcessor()], resources)
        world.spawn_many(
            [(Trajectory.from_turns(f"t{n}", [Turn("user", f"session {n}")]), Label(technique="k")) for n in range(200)]
        )
        world.step()
        assert len(server) == 10
        world.run(10)
        enough = len(server)
        assert 20 <= enough < 100
        world.step()
        assert len(server) == enough


def test_wrong_sampling_is_told(tmp_path: Path) -> None:
    """Settings that can't be are refused; an unknown column to stratify by fails the tick by name."""
    wrong: list[dict[str, Any]] = [{"strategy": "best"}, {"min_turns": -1}, {"until": -0.1}, {"batch": 0}]
    wrong += [{"max_trajectories": 1.5}, {"require_tags": "bug"}, {"exclude_tags": [1]}, {"outcome_filter": ["success"]}]
    for given in wrong:
        with pytest.raises(InvalidInput):
            SamplingConfig(**given)
    with pytest.raises(WorldError, match="no column 'trajectory__color' to stratify by"):
        chosen(tmp_path, SamplingConfig(strategy="stratified", stratify_by="trajectory__color", max_trajectories=1), many())
