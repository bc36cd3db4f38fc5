"""Samples: whose reward a token gets, by which convention, what becomes of pairs, scores and forks; the account always balances."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import odograph
from odograph.capture import run as recording
from odograph.codec import content_hash
from odograph.training.advantages import CONVENTIONS, GroupStatistics, convention
from odograph.training.sample import expanded
from odograph.training.samples import Samples, samples
from odograph.trajectory import Trajectory
from odograph.types import Fork, Kept, Literal

from .made import made

Rewards = list[dict[str, Any]]


def earned(whole: Rewards, *steps: Rewards, **data: Any) -> Trajectory:
    """A trajectory of one call a step, each prompt an extension of the last; a call samples one token."""
    taken = [
        {
            "llm_calls": [
                {"model": "m", "prompt_token_ids": [1] + [2] * (2 * n), "tokens": [{"token_ids": [2], "logprobs": [-0.5]}]}
            ]
        }
        for n in range(len(steps))
    ]
    steps_taken = [{**step, "rewards": rewards} for step, rewards in zip(taken, steps, strict=True)]
    return made(**{"group": "g", "rewards": whole, "steps": steps_taken, **data})


# --- advantages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wanted", "alone"),
    [
        ("grpo", [0.5 / (0.5 + 1e-4), -0.5 / (0.5 + 1e-4), 0.0], 0.0),
        ("verl", [0.5 / (0.5 + 1e-6), -0.5 / (0.5 + 1e-6), 0.0], 0.25 / (1 + 1e-6)),
        ("trl-async", [0.5 / (math.sqrt(1 / 6) + 1e-8), -0.5 / (math.sqrt(1 / 6) + 1e-8), 0.0], 0.0),
        ("art", [0.5 / (math.sqrt(1 / 6) + 1e-6), -0.5 / (math.sqrt(1 / 6) + 1e-6), 0.0], 0.0),
        ("dr_grpo", [0.5, -0.5, 0.0], 0.0),
        ("rloo", [1.0 - 0.25, 0.0 - 0.75, 0.5 - 0.5], 0.0),
        ("reward", [1.0, 0.0, 0.5], 0.25),
    ],
)
def test_each_convention_by_hand(name: str, wanted: list[float], alone: float) -> None:
    """Rewards 1, 0, 0.5: deviation 0.5 by Bessel, the root of 1/6 of the population; and a group of one, which earned 0.25."""
    group = GroupStatistics([1.0, 0.0, 0.5])
    assert [group.advantage(r, convention(name)) for r in (1.0, 0.0, 0.5)] == pytest.approx(wanted, rel=1e-12)
    assert GroupStatistics([0.25]).advantage(0.25, convention(name)) == pytest.approx(alone)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 20))
def test_equal_rewards_have_no_variance(value: float, count: int) -> None:
    """Whatever the value: no group varies by the rounding of its mean, and every advantage but the raw one is 0."""
    group = GroupStatistics([value] * count)
    assert not group.varies
    assert all(group.advantage(value, c) == (value if c.raw else 0) for c in CONVENTIONS.values())


@given(st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=8))
def test_no_reward_is_too_large(rewards: list[float]) -> None:
    """Rewards of any finite size give numbers, by every convention that divides by the deviation."""
    group = GroupStatistics(rewards)
    for name in ("grpo", "verl", "trl-async", "art"):
        assert all(math.isfinite(group.advantage(r, convention(name))) for r in rewards)


def test_rewards_that_are_no_numbers_are_not_known() -> None:
    """NaN, infinity, null, and a sum that is too large for a number: no reward, and nobody else's group statistics change."""
    good = [earned([{"value": v}], []) for v in (0.0, 1.0)]
    for bad in (math.nan, math.inf, None):
        found = samples([*good, earned([{"value": bad}], [])], advantage="dr_grpo")
        assert [r.advantage for r in found] == [-0.5, 0.5] and found.report.dropped == {"no reward": 1}
    found = samples([*good, earned([{"value": 1e308}, {"value": 1e308, "name": "b"}], [])], advantage="dr_grpo")
    assert [r.advantage for r in found] == [-0.5, 0.5] and found.report.balanced


def test_a_trajectory_without_a_group_is_in_none() -> None:
    """Not in the one whose name is empty either."""
    grouped = [earned([{"value": v}], [], group="") for v in (0.0, 1.0)]
    lone = earned([{"value": 5.0}], [], group=None)
    assert [t.group for t in (*grouped, lone)] == ["", "", None]
    assert [r.advantage for r in samples([*grouped, lone], advantage="dr_grpo")] == [-0.5, 0.5, 0.0]


# --- rewards ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credit", "reward", "total", "returns"),
    [
        ("trajectory", None, 7.0, [7.0]),
        ("trajectory", "x", 3.0, [3.0]),
        ("trajectory", "whole", 7.0, [7.0]),
        ("sum", None, 10.0, [10.0]),
        ("sum", "x", 3.0, [3.0]),
        ("sum", "whole", 7.0, [7.0]),
        ("per-step", None, 7.0, [10.0, 9.0]),
        ("per-step", "x", 3.0, [3.0, 2.0]),
        ("per-step", "whole", 7.0, [7.0, 7.0]),
    ],
)
def test_the_reward_that_was_named_is_the_one_that_counts(
    credit: str, reward: str | None, total: float, returns: list[float]
) -> None:
    """Step rewards of one name are summed as those of all names are, under every way to give credit."""
    t = earned([{"name": "whole", "value": 7.0}], [{"name": "x", "value": 1.0}], [{"name": "x", "value": 2.0}])
    found = Samples([t], odograph.training.plan.Plan(credit=credit, reward=reward))
    assert (found.total(t), found.returns(t)) == (total, returns)


def test_returns_of_steps_that_earned_nothing() -> None:
    """A step without a reward passes on, discounted, what came later; each step's tokens have its own return."""
    (row,) = samples([earned([{"value": 4.0}], [{"value": 1.0}], [], [])], credit="per-step", discount=0.5, advantage="reward")
    assert row.mask == [0, 1, 0, 1, 0, 1] and expanded(row.advantages) == [0, 2.0, 0, 2.0, 0, 4.0]


def test_a_choice_with_rewards_of_its_own() -> None:
    """The rewards of one response are added by the rule for all, and only those of the name that was asked for count."""
    tokens = [{"token_ids": [2]}, {"token_ids": [3]}]
    span = {"start": 0, "stop": 1, "choice": 1}
    call = {"id": "c", "model": "m", "prompt_token_ids": [1], "tokens": tokens}
    rewards = [
        {"value": v, "name": n, "target": "c", "span": span, "source": s}
        for v, n, s in ((0.25, "x", "environment"), (0.5, "x", "environment"), (4.0, "y", "judge"))
    ]
    t = made(group="g", steps=[{"llm_calls": [call]}], rewards=[{"value": 1.0, "name": "x"}, *rewards])
    assert [(r.token_ids, r.reward) for r in samples([t])] == [([1, 2], 1.0), ([1, 3], 4.5)]
    assert [r.reward for r in samples([t], reward="x")] == [1.0, 0.5]
    assert [r.reward for r in samples([t], reward="z")] == [None]


# --- pairs and scores ---------------------------------------------------------------------------------------------------------


def preferred(store: odograph.Store, *edits: tuple[int, list[Any]]) -> list[tuple[list[int], list[int]]]:
    """(rejected, chosen) of a call of two choices after edits, each (choice, result), the first ones made in the step."""
    with store.record(task="t", model="m") as run, run.step() as step:
        call = step.llm_call(model="m", prompt_token_ids=[1], token_ids=[[10, 11, 12], [13]], logprobs=[[-1.0] * 3, [-1.0]])
        for choice, result in edits[:1]:
            step.edit(call, choice=choice, result=result, preferred=True)
    late = store.append(run.id)
    for choice, result in edits[1:]:
        late.edit(store.trajectory(run.id).llm_calls[0], choice=choice, result=result, preferred=True)
    found = samples([store.trajectory(run.id)], edits="pair")
    pairs = [(p.rejected_ids, p.chosen_ids) for p in found]
    assert found.report.balanced and found.report.pairs == len(pairs)
    return pairs


def test_the_last_of_several_edits_is_chosen(store: odograph.Store) -> None:
    """A later rewrite wins over an earlier one; edits of different places go together; each choice has a pair of its own; what
    changes nothing makes none."""
    assert preferred(store, (0, [Literal([30])]), (0, [Literal([40])])) == [([10, 11, 12], [40])]
    both = preferred(store, (0, [Literal([30]), Kept(1, 3)]), (0, [Kept(0, 2), Literal([40])]))
    assert both == [([10, 11, 12], [30, 11, 40])]
    assert preferred(store, (0, [Literal([30])]), (1, [Literal([40])])) == [([10, 11, 12], [30]), ([13], [40])]
    assert preferred(store, (0, [Literal([10, 11, 12])])) == []


def rewritten() -> Trajectory:
    steps = [
        {
            "llm_calls": [
                {"id": "c", "model": "m", "prompt_token_ids": [1], "tokens": [{"token_ids": [2, 3], "logprobs": [-1, -1]}]}
            ],
            "edits": [{"base": "c", "result": [{"run": "literal", "ids": [9]}, {"run": "kept", "start": 1, "stop": 2}]}],
        },
        {"llm_calls": [{"model": "m", "prompt_token_ids": [1, 9, 3], "tokens": [{"token_ids": [4], "logprobs": [-1.0]}]}]},
    ]
    return made(group="g", steps=steps)


@pytest.mark.parametrize("bad", [[math.nan] * 4, [None] * 4, ["a"] * 4])
def test_a_score_that_is_no_number_weighs_nothing(bad: list[Any]) -> None:
    """A NaN is not the cap: the row is refused, with the reason."""
    found = samples([rewritten()], edits="reweight", scorer=lambda ids: bad)
    assert list(found) == [] and found.report.left_out == {"a score that is no number": 1} and found.report.balanced


@pytest.mark.parametrize("bad", ["x", [1], None, {"a": 1}, [-0.5] * 9])
def test_a_stored_scoring_that_is_none(bad: Any) -> None:
    """A note that is no scoring of the row's tokens is none; one that is, is used."""
    for logprobs, rows in ((bad, 0), ([-1.0, -1.0, -0.5, -1.0], 1)):
        data = rewritten().to_dict()
        data["notes"] = [{"name": "scoring", "data": {"ids": content_hash([1, 9, 3, 4]), "logprobs": logprobs}}]
        found = samples([Trajectory.from_dict(data)], edits="reweight")
        assert len(list(found)) == rows and found.report.balanced


def test_what_the_logprobs_of_a_mixed_row_describe_is_not_known() -> None:
    """Sampled ones and raw ones in one row: neither."""
    for last in ("raw", "sampled"):
        data = earned([], [], []).to_dict()
        for step, kind in zip(data["steps"], ("sampled", last), strict=True):
            step["llm_calls"][0]["logprobs_of"] = kind
        (row,) = samples([Trajectory.from_dict(data)])
        assert row.logprobs_of == ("sampled" if last == "sampled" else "unknown")


# --- forks --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def line(store: odograph.Store) -> dict[str, Trajectory]:
    """A trajectory of three calls, a fork of it at step 2, a fork of that at its step 1, and one that the environment broke."""

    def record(parent: str | None, step: int, prefix: list[int], count: int, base: int, broken: bool = False) -> str:
        fork = Fork(trajectory=parent, step=step, reason="why") if parent else None
        run = recording.start(store._journal, "t", agent="a", model="m", group="g", fork=fork)
        context = list(prefix)
        with run:
            for n in range(count):
                with run.step() as now:
                    now.llm_call(model="m", prompt_token_ids=list(context), token_ids=[base + n], logprobs=[-0.5])
                    now.action("act")
                    now.reward(float(base + n))
                context += [base + n, 7]
            if broken:
                run.finish(status="failed", metrics={"status": "error_environment"})
        return run.id

    root = record(None, 0, [1], 3, 10)
    fork = record(root, 2, [1, 10, 7, 11, 7], 1, 20)
    again = record(fork, 1, [1, 10, 7, 11, 7, 20, 7], 2, 30)
    broken = record(root, 2, [1, 10, 7, 11, 7], 1, 40, broken=True)
    lost = record(None, 0, [1], 2, 50, broken=True)
    saved = record(lost, 1, [1, 50, 7], 1, 60)
    ids = {"root": root, "fork": fork, "again": again, "broken": broken, "lost": lost, "saved": saved}
    return {name: store.trajectory(id) for name, id in ids.items()}


@pytest.mark.parametrize(
    ("names", "trained"),
    [
        (["root", "fork", "again"], [[10, 11, 12], [20], [30, 31]]),
        (["again", "fork", "root"], [[10, 11, 20, 30, 31], [12]]),
        (["again"], [[10, 11, 20, 30, 31]]),
        (["fork", "again"], [[10, 11, 20], [30, 31]]),
        (["again", "root"], [[10, 11, 20, 30, 31], [12]]),
        (["broken", "root"], [[10, 11, 12]]),
        (["broken", "fork"], [[10, 11, 20]]),
        (["lost", "saved"], [[50, 60]]),
        (["saved", "lost"], [[50, 60]]),
    ],
)
def test_what_forks_share_is_trained_once(
    store: odograph.Store, line: dict[str, Trajectory], names: list[str], trained: list[list[int]]
) -> None:
    """With its own trajectory, else with the first fork that is trained, of however many generations; never with one that is
    left out. No token is counted twice."""
    found = samples([line[n] for n in names], parent=store.trajectory)
    rows = [[i for i, m in zip(r.token_ids, r.mask, strict=True) if m] for r in found]
    assert rows == [r for r in trained if r]
    report = found.report
    left_out = ("broken" in names) + ("lost" in names)
    assert report.balanced and report.trained == sum(map(len, trained)) and report.sampled == report.trained + left_out


def test_returns_of_what_a_fork_shares(store: odograph.Store, line: dict[str, Trajectory]) -> None:
    """Steps of the parent are not taken for the fork's own of the same number: what the fork earned came after them all."""
    (row,) = samples([line["again"]], parent=store.trajectory, credit="per-step", advantage="reward")
    assert [a for a, m in zip(expanded(row.advantages), row.mask, strict=True) if m] == [61.0, 61.0, 61.0, 61.0, 31.0]
