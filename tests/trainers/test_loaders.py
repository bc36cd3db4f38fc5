"""ART, verifiers and tinker on our exports, by their own code: ids, masks, logprobs and advantages are what was recorded."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", LITELLM_LOCAL_MODEL_COST_MAP="True", CUDA_VISIBLE_DEVICES="")

import odograph
from odograph.training.formats import art as art_format
from odograph.training.formats import tinker as tinker_format

from .recorded import Rollout, record, tokenizer


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[odograph.Store, list[Rollout]]:
    store = odograph.open(tmp_path_factory.mktemp("recorded") / "store")
    return store, record(store)


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "data" / "train.jsonl").read_text().splitlines()]


def deviation(values: list[float]) -> float:
    """Of the population."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def test_art(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """ART's tokenizer gives of each call of the policy the prompt that the model saw and the ids and logprobs that it sampled,
    tool calls, an edit and unusual tokens included, and advantages of the recorded rewards."""
    import art
    from art.preprocessing.tokenize import tokenize_trajectory_groups

    store, rollouts = recorded
    manifest = store.export(tmp_path / "out", "art")
    groups = [art_format.group(line) for line in lines(tmp_path / "out")]
    assert all(isinstance(g, art.TrajectoryGroup) for g in groups) and manifest["rows"] == 2
    found = list(
        tokenize_trajectory_groups(
            tokenizer(),
            groups,
            allow_training_without_logprobs=False,
            scale_rewards=True,
            shuffle_group_trajectories=False,
            drop_zero_advantage_trajectories=False,
        )
    )
    rewards: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        rewards[rollout.group].append(rollout.reward)
    expected = []
    for rollout in rollouts:
        all_of = rewards[rollout.group]
        advantage = (rollout.reward - sum(all_of) / 3) / (deviation(all_of) + 1e-6)
        sampled = sum(len(said.ids) for said in rollout.said)
        for said in rollout.said:
            mask = [0] * len(said.prompt) + [1] * len(said.ids)
            expected.append((said.prompt + said.ids, mask, said.logprobs, round(advantage, 6), round(1 / sampled, 6)))
    got = []
    for one in found:
        logprobs = [p for p, m in zip(one.logprobs, one.assistant_mask, strict=True) if m]
        assert all(math.isnan(p) for p, m in zip(one.logprobs, one.assistant_mask, strict=True) if not m)
        got.append((list(one.token_ids), list(one.assistant_mask), logprobs, round(one.advantage, 6), round(one.weight, 6)))
    assert sorted(got) == sorted(expected) and sum(sum(m) for _, m, *_ in got) == manifest["samples"]["trained"]
    for theirs, rollout in zip((t for g in groups for t in g.trajectories), rollouts, strict=True):
        assert (theirs.reward, theirs.metrics) == (rollout.reward, {"right": rollout.reward})
        assert (theirs.metadata["trajectory"], theirs.metadata["group"]) == (rollout.id, rollout.group)
        assert (theirs.initial_policy_version, theirs.final_policy_version) == (3, 3)


def test_verifiers(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """`read_episodes` gives an episode per trajectory; its branches have the rows as they were recorded, advantages included."""
    from verifiers.v1 import WireEpisode, WireTrace
    from verifiers.v1.utils.trace_store import read_episodes

    store, rollouts = recorded
    store.export(tmp_path / "out", "verifiers", options={"advantage": "dr_grpo"})
    path = tmp_path / "out" / "data" / "train.jsonl"
    path.rename(tmp_path / "traces.jsonl")
    episodes = read_episodes(tmp_path, WireTrace)
    assert [e.id for e in episodes] == [r.id for r in rollouts] and all(isinstance(e, WireEpisode) for e in episodes)
    for episode, rollout in zip(episodes, rollouts, strict=True):
        (trace,) = episode.traces
        gain = rollout.reward - 0.5  # of a group of 0, 0.5 and 1
        assert (trace.reward, episode.group.id, trace.agent.name, episode.ok) == (rollout.reward, rollout.group, "solver", True)
        branches = [(b.token_ids, [int(m) for m in b.sampled_mask], b.logprobs) for b in trace.branches]
        assert branches == rollout.rows
        for branch in trace.branches:
            assert [a or 0.0 for a in branch.advantages] == [gain if m else 0.0 for m in branch.sampled_mask]
        told = [node.message for branch in trace.branches for node in branch.nodes if node.sampled]
        assert [m.content or "" for m in told] == [said.message["content"] or "" for said in rollout.said]
        (asked,) = told[0].tool_calls
        assert (asked.name, json.loads(asked.arguments)) == ("add", {"a": rollouts.index(rollout) % 3, "b": 1})


def test_tinker(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """`datum(row)` is the `tinker.Datum` that tinker-cookbook makes itself of the recorded calls and rewards: tokens, targets,
    logprobs, masks and advantages."""
    import tinker
    from tinker_cookbook.completers import TokensWithLogprobs
    from tinker_cookbook.rl.data_processing import assemble_training_data, compute_advantages
    from tinker_cookbook.rl.types import Trajectory, TrajectoryGroup, Transition

    store, rollouts = recorded
    store.export(tmp_path / "out", "tinker", format="jsonl")
    data = [tinker_format.datum(row) for row in lines(tmp_path / "out")]
    groups = []
    for name in ("g0", "g1"):
        group = [r for r in rollouts if r.group == name]
        theirs = [
            Trajectory(
                transitions=[
                    Transition(
                        ob=tinker.ModelInput.from_ints(said.prompt),
                        ac=TokensWithLogprobs(tokens=said.ids, maybe_logprobs=said.logprobs, stop_reason="stop"),
                        reward=0.0,
                        episode_done=said is rollout.said[-1],
                        metrics={},
                        logs={},
                    )
                    for said in rollout.said
                ],
                final_ob=tinker.ModelInput.from_ints([]),
            )
            for rollout in group
        ]
        groups.append(TrajectoryGroup(theirs, [r.reward for r in group], [{} for _ in group]))
    expected, _ = assemble_training_data(groups, compute_advantages(groups))
    assert len(data) == len(expected) == 8 and all(isinstance(d, tinker.Datum) for d in data)

    def plain(datum: Any) -> tuple[Any, ...]:
        inputs = {name: [round(float(v), 6) for v in values.tolist()] for name, values in datum.loss_fn_inputs.items()}
        return datum.model_input.to_ints(), sorted(inputs.items())

    assert sorted(map(plain, data)) == sorted(map(plain, expected))
    for datum in data:
        size = datum.model_input.length
        assert [len(v.tolist()) for v in datum.loss_fn_inputs.values()] == [size] * 4
