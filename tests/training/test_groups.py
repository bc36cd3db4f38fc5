"""Groups: by what is compared, in windows of time, what is too small or tells nothing, and that exports use the groups chosen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph import InvalidInput
from tests.training.made import lines

DAY = 86_400 * 10**9


def add(store: odograph.Store, task: Any, reward: float | None, day: float | None = 0, **about: Any) -> str:
    """A trajectory that started on this day, with tokens and a reward."""
    metadata = {"source": {"format": "x"}, **about.pop("metadata", {})}
    start = {"task": task, "agent": "a", "metadata": metadata, **about}
    if day is not None:
        start["source_time"] = int((20_000 + day) * DAY)
    call = {"prompt_token_ids": [1, 2], "tokens": [{"token_ids": [3, 4], "logprobs": [-0.1, -0.2]}]}
    call |= {"request": {"messages": [{"role": "user", "content": "q"}]}, "response": "a", "model": "m"}
    rewards = [] if reward is None else [{"value": reward}]
    return store.add({"start": start, "steps": [{"llm_calls": [call]}], "rewards": rewards, "end": {}})


def test_by_group_task_scenario_and_function(store: odograph.Store) -> None:
    """Groups are what was recorded, or what has the same task, scenario or value of a function; what has none is in none."""
    a = add(store, "x", 1.0, group="g", model="m1")
    b = add(store, {"q": [1, 2]}, 0.0, group="g", metadata={"scenario": "s"})
    c = add(store, {"q": [1, 2]}, None, metadata={"scenario": "s"})
    d = add(store, None, 0.0)

    def ids(**how: Any) -> dict[str, list[str]]:
        return {g.name: g.ids for g in store.groups(min_size=1, **how)}

    assert ids() == {"g": [a, b]}
    assert ids(by="task") == {"x": [a], '{"q":[1,2]}': [b, c]}
    assert ids(by="scenario") == {"g": [a], "s": [b, c]}
    assert ids(by=lambda s: s.model) == {"m1": [a], "m": [b, c, d]}
    groups = store.groups("task")
    assert (len(groups), [g.name for g in groups.too_small], groups.ungrouped) == (1, ["x"], [d])
    assert groups.left_out == {"in a group of fewer than 2": 1, "in no group": 1}
    assert [(t.id, t.group) for t in groups.trajectories()] == [(b, '{"q":[1,2]}'), (c, '{"q":[1,2]}')]
    assert store.trajectory(c).group is None
    assert store.groups("task", group="g").asked == {"group": "g"}
    with pytest.raises(InvalidInput, match="not by 'tusk'"):
        store.groups("tusk")
    with pytest.raises(InvalidInput, match="min_size is 1 or more"):
        store.groups(min_size=0)
    with pytest.raises(TypeError, match="named by strings"):
        store.groups(lambda s: 3)


def test_windows_of_time(store: odograph.Store) -> None:
    """With a window only what started in the same stretch is compared; without a known time a trajectory is in no group."""
    ids = [add(store, "x", float(n), day) for n, day in enumerate([0.1, 0.9, 1.1, 1.9, None])]
    groups = store.groups("task", window="1d")
    assert [(g.name, g.ids) for g in groups] == [
        ("x @ 2024-10-04T00:00:00Z", ids[:2]),
        ("x @ 2024-10-05T00:00:00Z", ids[2:4]),
    ]
    assert groups.ungrouped == ids[4:]
    assert {g.family for g in groups} == {"x"}
    with pytest.raises(InvalidInput, match="no length of time"):
        store.groups(window="often")
    with pytest.raises(InvalidInput, match="longer than nothing"):
        store.groups("task", window="0s")
    with pytest.raises(InvalidInput, match="no length of time"):
        store.groups("task", window=60)  # type: ignore[arg-type]


def test_a_scenario_may_be_any_json(store: odograph.Store) -> None:
    """Scenarios are often numbers: 0 is one, and no reason to fall back to the group."""
    ids = [add(store, "x", 1.0, group="g", metadata={"scenario": n}) for n in (0, 1, 0, {"n": 2}, None)]
    found = {g.name: g.ids for g in store.groups("scenario", min_size=1)}
    assert found == {"0": [ids[0], ids[2]], "1": [ids[1]], '{"n":2}': [ids[3]], "g": [ids[4]]}


def test_groups_that_tell_nothing_are_reported(store: odograph.Store) -> None:
    """A group whose known rewards are all the same is named: each advantage in it would be 0. Unknown ones are not counted as 0."""
    for task, rewards in {"flat": [1.0, 1.0, None], "good": [0.0, 1.0], "none": [None, None], "one": [1.0, None]}.items():
        for reward in rewards:
            add(store, task, reward)
    groups = store.groups("task")
    report = groups.report()
    assert [g.name for g in groups.without_variance] == report["without_variance_names"] == ["flat", "one"]
    assert (report["groups"], report["without_variance"], report["without_reward"]) == (4, 2, 1)
    assert (groups["good"].mean, groups["good"].std, groups["none"].mean) == (0.5, 0.5, None)
    assert "nope" not in groups
    with pytest.raises(odograph.NotFound, match="no group 'nope' among 4"):
        groups["nope"]


def test_samples_and_exports_use_the_groups_chosen(store: odograph.Store, tmp_path: Path) -> None:
    """Advantages are against the group that was chosen, the rows carry its name, and the manifest says what was left out."""
    for task in ("x", "y"):
        for reward in (0.0, 1.0):
            add(store, task, reward, group="all")
    add(store, "alone", 1.0, group="all")
    add(store, None, 1.0)
    groups = store.groups("task")
    rows = odograph.samples(groups, advantage="dr_grpo")
    assert [(r.group, r.advantage) for r in rows] == [("x", -0.5), ("x", 0.5), ("y", -0.5), ("y", 0.5)]
    assert (rows.report.groups, rows.report.groups_of_one) == (2, 0)
    recorded = odograph.samples(store.trajectories(), advantage="dr_grpo")
    assert [r.advantage for r in recorded][:2] == [-0.6, 0.4]
    options = {"advantage": "dr_grpo"}
    manifest = store.export(tmp_path / "trl", "trl-grpo", format="jsonl", groups=groups, options=options)
    assert [(r["group"], r["advantages"]) for r in lines(tmp_path / "trl")] == [
        ("x", [-0.5, -0.5]),
        ("x", [0.5, 0.5]),
        ("y", [-0.5, -0.5]),
        ("y", [0.5, 0.5]),
    ]
    assert manifest["trajectories"] == {"in": 6, "out": 4}
    assert manifest["left_out"] == {"in a group of fewer than 2": 1, "in no group": 1}
    assert (manifest["groups"]["by"], manifest["groups"]["too_small_names"]) == ("task", ["alone"])
    store.export(tmp_path / "art", "art", groups=groups)
    assert [(g["metadata"]["scenario"], len(g["trajectories"])) for g in lines(tmp_path / "art")] == [("x", 2), ("y", 2)]
    with pytest.raises(TypeError, match=r"with groups=, agent= goes to store.groups"):
        store.export(tmp_path / "no", "art", groups=groups, agent="a")
    command = [sys.executable, "-m", "odograph", "--store", str(store.root), "export", "--to", "art", "-o", str(tmp_path / "c")]
    done = subprocess.run([*command, "--group-by", "task", "--window", "7d", "--min-group", "2"], capture_output=True, text=True)
    assert (done.returncode, "2 groups; 1 are too small" in done.stdout) == (0, True), done.stderr + done.stdout
    said = subprocess.run([*command, "--min-group", "6", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["left_out"] == {"in a group of fewer than 6": 5, "in no group": 1}


def test_a_split_never_parts_a_task_over_its_windows(store: odograph.Store, tmp_path: Path) -> None:
    """Groups of one task in several windows are in one split, as the task is in exports without windows."""
    for task in range(12):
        for day in range(6):
            add(store, f"t{task}", day / 2, day / 2)
    store.export(tmp_path / "out", "art", groups=store.groups("task", window="1d"), splits={"train": 0.5, "test": 0.5}, seed=1)
    tasks = {s: {g["metadata"]["scenario"].split(" @ ")[0] for g in lines(tmp_path / "out", s)} for s in ("train", "test")}
    assert tasks["train"]
    assert tasks["test"]
    assert not tasks["train"] & tasks["test"]
    assert sum(len(lines(tmp_path / "out", s)) for s in tasks) == 36


KEYS = ["sk-proj-" + c * 24 + "T3BlbkFJ" + c * 24 for c in "aB"]


def without_keys(text: str) -> str:
    return _keys(text, KEYS)


def test_groups_without_secrets(store: odograph.Store, tmp_path: Path) -> None:
    """With `redact=` the names of groups hold no secret either, and tasks that read the same then are still two groups; a reward's
    component that names one is not written as it is."""
    keys = KEYS
    for key in keys:
        for reward in (0.0, 1.0):
            add(store, f"use {key}", reward)
    store.export(tmp_path / "out", "art", groups=store.groups("task"), redact=without_keys)
    found = [g["metadata"]["scenario"] for g in lines(tmp_path / "out")]
    assert found == ["use [key] #1", "use [key] #2"]
    assert not any(key in p.read_text() for p in (tmp_path / "out").rglob("*.json*") for key in keys)
    with odograph.open(tmp_path / "other", redact=without_keys) as other:
        add(other, "t", None)
        other.score(odograph.reward_function("f", lambda t: {keys[0]: 1.0}))
        assert next(other.trajectories()).rewards.names == ["[key]"]


def _keys(text: str, keys: list[str]) -> str:
    for key in keys:
        text = text.replace(key, "[key]")
    return text


TASKS = st.none() | st.text(max_size=3) | st.lists(st.integers(0, 1), max_size=2) | st.just('["x"]') | st.just(["x"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TASKS, st.sampled_from([None, 0.0, 1.0])), max_size=8), st.integers(1, 3))
def test_every_trajectory_is_in_one_place(tasks: list[tuple[Any, float | None]], least: int) -> None:
    """Property: each trajectory is in one group, in one that is too small, or in none; a group holds equal tasks and all of them."""
    with odograph.open("memory:") as store:
        of = {add(store, task, reward): task for task, reward in tasks}
        groups = store.groups("task", min_size=least)
        every = [*groups, *groups.too_small]
        assert sorted([*groups.ungrouped, *(i for g in every for i in g.ids)]) == sorted(of)
        assert len({g.name for g in every}) == len(every)
        for group in every:
            (kind,) = {json.dumps(of[i]) for i in group.ids}
            assert len(group) == sum(json.dumps(task) == kind for task in of.values())
        assert all(len(g) >= least for g in groups)
        assert all(len(g) < least for g in groups.too_small)


def test_a_replay_is_in_no_group_of_figures_either(store: odograph.Store) -> None:
    """`stats("group")` has the groups that are compared: a replay stands under None."""
    for metadata in ({}, {"replay_of": "x"}):
        with store.record(task="t", group="g", metadata=metadata) as run:
            run.reward(1.0)
    assert {p.key: p.trajectories for p in store.stats("group").parts} == {"g": 1, None: 1}
