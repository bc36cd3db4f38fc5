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
from odograph.training.advantages import CONVENTIONS, GroupStatistics, convention, gae
from odograph.training.credit import earned as credit_of
from odograph.training.plan import Plan
from odograph.training.sample import expanded
from odograph.training.samples import samples
from odograph.trajectory import Trajectory
from odograph.types import Edit, Fork, Kept, Literal, LLMCall, Start

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
    found = credit_of(t, Plan(credit=credit, reward=reward))
    assert (found.total, found.returns) == (total, returns)


def test_returns_of_steps_that_earned_nothing() -> None:
    """A step without a reward passes on, discounted, what came later; each step's tokens have its own return."""
    (row,) = samples([earned([{"value": 4.0}], [{"value": 1.0}], [], [])], credit="per-step", discount=0.5, advantage="reward")
    assert row.mask == [0, 1, 0, 1, 0, 1] and expanded(row.advantages) == [0, 2.0, 0, 2.0, 0, 4.0]


@pytest.mark.parametrize(("edits", "last"), [("env", 2), ("mask", 0)])
def test_credit_on_the_last_token_is_given_once(edits: str, last: int) -> None:
    """However many rows an edit makes of a trajectory, the last trained token of the last row alone has the advantage; where that
    row is refused, that of the one before."""
    calls = [([1], [2, 3]), ([9, 1], [2, 3]), ([8, 9, 1, 2, 3], [4, 5])]
    for refused in (False, True):
        steps = [
            {
                "llm_calls": [
                    {"model": "m", "prompt_token_ids": prompt, "tokens": [{"token_ids": ids, "logprobs": [-0.5] * len(ids)}]}
                ]
            }
            for prompt, ids in calls
        ]
        if refused:
            steps[-1]["llm_calls"][0]["tokens"][0]["logprobs"] = None
        whole = made(group="g", rewards=[{"value": 4.0}], steps=steps)
        found = samples([whole], edits=edits, credit="last", advantage="reward", logprobs=True)
        rows = list(found)
        if refused and edits == "mask":
            assert rows == []
            continue
        given = [expanded(row.advantages) for row in rows]
        end = last - refused
        assert [sum(row) for row in given] == [4.0 if n == end else 0.0 for n in range(end + 1)]
        at = max(n for n, m in enumerate(rows[end].mask) if m)
        assert given[end][at] == 4.0 and [r.advantage for r in rows] == [0.0] * end + [4.0]
        assert found.report.zero_advantage == end and [r.segment for r in rows] == list(range(end + 1))


def test_credit_on_the_last_token_of_each_agent() -> None:
    """Rows are of one agent: each has the reward once, on its own last trained token; what was rewarded alone has its own."""
    steps = [
        {
            "agent": agent,
            "llm_calls": [
                {
                    "id": f"c{n}",
                    "model": "m",
                    "prompt_token_ids": [n + 1],
                    "tokens": [{"token_ids": [7, 8], "logprobs": [-0.5] * 2}, {"token_ids": [6], "logprobs": [-0.5]}],
                }
            ],
        }
        for n, agent in enumerate(["a", "b", "a"])
    ]
    whole = made(
        group="g",
        rewards=[{"value": 4.0}, {"value": 9.0, "target": "c1", "span": {"start": 0, "stop": 1, "choice": 1}}],
        steps=steps,
    )
    rows = list(samples([whole], credit="last", advantage="reward"))
    assert [(r.agent, [a for a in expanded(r.advantages) if a]) for r in rows] == [
        ("a", []),
        ("a", [4.0]),
        ("b", [4.0]),
        ("b", [9.0]),
    ]


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"max_tokens": "x"}, "max_tokens is a whole number, not 'x'"),
        ({"discount": math.nan}, "discount is a number of at least 0, not nan"),
        ({"cap": "x"}, "cap is a number of at least 0, not 'x'"),
        ({"edits": 5}, "edits is a word, a mapping .* not 5"),
        ({"agent": 5}, "agent is an agent's name, not 5"),
        ({"logprobs": "no"}, "logprobs is true or false, not 'no'"),
        ({"scorer": 3}, "scorer is a function .* not 3"),
        ({"purpose": 3}, "purpose is a purpose, or a list of them, not 3"),
    ],
)
def test_options_that_can_not_be(option: dict[str, Any], why: str) -> None:
    """One sentence before anything is built, in Python and on the command line."""
    with pytest.raises(odograph.InvalidInput, match=why):
        samples([], **option)


def test_a_purpose_is_whole() -> None:
    """`purpose="act"` is that purpose, not each that is a part of the word."""
    t = earned([{"value": 1.0}], [])
    assert len(list(samples([t], purpose="act"))) == 1 == len(list(samples([t], purpose=["judge", "act"])))
    assert list(samples([t], purpose="activity")) == []


def test_what_samples_are_of(store: odograph.Store) -> None:
    """A store, a trajectory alone, summaries: said at once, in a sentence."""
    t = earned([{"value": 1.0}], [])
    for wrong in (store, t, [t.id], "t"):
        with pytest.raises(TypeError, match="samples are of trajectories, such as those of"):
            list(samples(wrong, advantage="grpo"))
        with pytest.raises(TypeError, match="samples are of trajectories"):
            list(samples(wrong))


def test_what_can_be_gone_through_twice_is_not_kept(store: odograph.Store) -> None:
    """Group statistics need all trajectories before the first row: `Groups`, and what else begins anew, are read twice."""
    for value in (0.0, 1.0):
        store.add({"task": "t", "group": "g", "token_ids": [1, 2], "mask": [0, 1], "logprobs": [None, -0.5], "reward": value})

    class Twice:
        begun = 0

        def __iter__(self) -> Any:
            self.begun += 1
            return store.trajectories()

    twice = Twice()
    advantages = [-0.5, 0.5]
    assert [r.advantage for r in samples(twice, advantage="dr_grpo")] == advantages and twice.begun > 1
    assert [r.advantage for r in samples(store.trajectories(), advantage="dr_grpo")] == advantages
    assert [r.advantage for r in samples(store.groups(), advantage="dr_grpo")] == advantages


def test_a_choice_with_rewards_of_its_own() -> None:
    """The rewards of one response are added by the rule for all, and only those of the name that was asked for count."""
    tokens = [{"token_ids": [2]}, {"token_ids": [3]}]
    span = {"start": 0, "stop": 1, "choice": 1}
    call = {"id": "c", "model": "m", "prompt_token_ids": [1], "tokens": tokens}
    rewards = [
        {"value": v, "name": n, "target": "c", "span": span, "source": s}
        for v, n, s in ((0.25, "x", "environment"), (0.5, "x", "environment"), (1.0, "y", "judge"))
    ]
    t = made(group="g", steps=[{"llm_calls": [call]}], rewards=[{"value": 1.0, "name": "x"}, *rewards])
    assert [(r.token_ids, r.reward) for r in samples([t])] == [([1, 2], 1.0), ([1, 3], 1.5)]
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


def test_an_edit_whose_ids_nobody_knows_makes_no_pair(store: odograph.Store) -> None:
    """No tokenizer says the ids of the text that it puts in, and no later prompt has them."""
    assert preferred(store, (0, [Kept(0, 1), Literal(text="more")])) == []


@pytest.mark.parametrize(
    ("about", "result"),
    [({"base_hash": "f" * 32}, [Literal(text="four")]), ({}, [Kept(0, 2), Literal([7, 8])])],
    ids=["another answer", "ids alone"],
)
def test_an_edit_of_text_that_can_not_be_used_makes_no_pair(about: dict[str, Any], result: list[Kept | Literal]) -> None:
    """It was made of another text than the answer has, or puts in ids that no tokenizer says the text of; one beside it counts."""
    common: dict[str, Any] = {"trajectory": "t", "writer": "w"}
    call = LLMCall(id="c", seq=2, time=2, model="m", response="it is five", **common)
    bad = Edit(id="e", seq=3, time=3, base="c", unit="char", preferred=True, result=result, **about, **common)
    good = Edit(id="f", seq=4, time=4, base="c", unit="char", preferred=True, result=[Literal(text="IT"), Kept(2, 10)], **common)
    for edits, pairs in (([bad], []), ([bad, good], [("it is five", "IT is five")])):
        t = Trajectory("t", [Start(id="s", seq=1, time=1, agent="a", **common), call, *edits])
        assert [(p.rejected, p.chosen) for p in samples([t], edits="pair", include_invalid=True)] == pairs


@pytest.mark.parametrize("ids", [{}, {"token_ids": [[3, 4, 5], [6]]}])
def test_preferred_edits_of_text_are_pairs_without_a_tokenizer(store: odograph.Store, ids: dict[str, Any]) -> None:
    """A pair is of texts: a call needs no token ids for it, and its text edits no tokenizer. Edits of different places go
    together, the reasoning stays with both answers, and a fork repeats no pair of its parent."""
    said = [{"index": n, "message": {"role": "assistant", "content": text, "reasoning_content": "hm"}} for n, text in enumerate(("it is five", "no"))]  # fmt: skip
    with store.record(task="t", agent="a", model="m") as run:
        for n in range(2):
            with run.step() as step:
                asked, prompt = [{"role": "user", "content": f"q{n}"}], {"prompt_token_ids": [n, 8]} if ids else {}
                call = step.llm_call(model="m", messages=asked, response={"choices": said}, **prompt, **ids)
                used = [step.edit(call, on="text").replace(0, 2, "IT", preferred=True)]
                used += [step.edit(call, on="text").replace(6, 10, "four", preferred=True)]
                step.edit(call, on="text", choice=1).rewrite("no", preferred=True)
    found = samples([store.trajectory(run.id)], edits="pair")
    pairs = [(p.rejected, p.chosen) for p in found]
    assert pairs == [("it is five", "IT is four")] * 2
    report = found.report
    assert (report.pairs, report.balanced, report.calls_left_out) == (2, True, {}) and not set(used) & set(report.edits_unused)
    rows = odograph.rows(store.trajectory(run.id), to="trl-dpo")
    message = {"role": "assistant", "reasoning_content": "hm"}
    assert rows[0]["chosen"] == [{**message, "content": "IT is four"}]
    assert rows[0]["rejected"] == [{**message, "content": "it is five"}]
    assert rows.left_out == {} and store.export(store.root.parent / "out", "trl-dpo")["rows"] == 2
    forks = []
    for _ in range(2):
        fork = recording.start(store.backend.journal, "t", agent="a", fork=Fork(trajectory=run.id, step=1, reason="why"))
        fork.step().llm_call(model="m", messages=[{"role": "user", "content": "go on"}], response="no", **prompt, **ids)
        fork.finish()
        forks.append(store.trajectory(fork.id))
    assert [len(list(samples([store.trajectory(run.id), *forks], edits="pair"))), len(list(samples(forks, edits="pair")))] == [
        2,
        1,
    ]


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


@pytest.mark.parametrize(("logprobs", "left_out"), [([-1.0, None], 1), (None, 1), ([None, -1.0], 0)])
def test_a_stale_token_without_a_logprob_is_not_weighed(logprobs: Any, left_out: int) -> None:
    """A weight is a quotient of two probabilities: the row of a trained token that lacks one is refused; the edited token needs none."""
    data = rewritten().to_dict()
    data["steps"][0]["llm_calls"][0]["tokens"][0]["logprobs"] = logprobs
    found = samples([Trajectory.from_dict(data)], edits="reweight", scorer=lambda ids: [-1.0] * len(ids))
    assert len(list(found)) == 1 - left_out and found.report.balanced
    assert found.report.left_out == ({"a trained token without a logprob": 1} if left_out else {})


@pytest.mark.parametrize("bad", ["x", [1], None, {"a": 1}, [-0.5] * 9])
def test_a_stored_scoring_that_is_none(bad: Any) -> None:
    """A note that is no scoring of the row's tokens is none; one that is, is used."""
    for logprobs, rows in ((bad, 0), ([-1.0, -1.0, -0.5, -1.0], 1)):
        data = rewritten().to_dict()
        data["notes"] = [{"name": "scoring", "data": {"ids": content_hash([1, 9, 3, 4]), "logprobs": logprobs}}]
        found = samples([Trajectory.from_dict(data)], edits="reweight")
        assert len(list(found)) == rows and found.report.balanced
        assert found.report.left_out == ({} if rows else {"reweight without a score of the edited context": 1})


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
        run = recording.start(store.backend.journal, "t", agent="a", model="m", group="g", fork=fork)
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


# --- what is never trained ----------------------------------------------------------------------------------------------------


def test_replays_and_other_purposes_are_never_trained(store: odograph.Store) -> None:
    """A replay gives no row, with the reason; a judge's call and a user simulator's only when their purpose is named."""
    one = {"llm_calls": [{"model": "m", "prompt_token_ids": [1], "tokens": [{"token_ids": [2], "logprobs": [-0.5]}]}]}
    again = samples([made(steps=[one], metadata={"replay_of": "x"})])
    assert list(again) == [] and again.report.left_out == {"a replay": 1} and again.report.dropped == {"a replay": 1}
    judged = made(steps=[one, {"llm_calls": [{**one["llm_calls"][0], "prompt_token_ids": [7, 8], "purpose": "judge"}]}])
    assert [r.token_ids for r in samples([judged])] == [[1, 2]]
    assert [r.token_ids for r in samples([judged], purpose="judge")] == [[7, 8, 2]]


def test_generalised_advantages() -> None:
    """Smoothing 1: the discounted return, and the discounted value after the last, minus the value. Smoothing 0: the error of one
    step. Between: by hand. As many values as rewards."""
    rewards, values = [1.0, 0.0, 2.0], [0.5, 1.5, -1.0]
    assert gae(rewards, values, discount=0.5, smoothing=1.0, bootstrap=4.0) == pytest.approx([1.5, 0.5, 5.0])
    assert gae(rewards, values, discount=0.5, smoothing=0.0, bootstrap=4.0) == pytest.approx([1.25, -2.0, 5.0])
    assert gae(rewards, values, discount=0.5, smoothing=0.5) == pytest.approx([1.25 + 0.25 * (-2.0 + 0.25 * 3.0), -1.25, 3.0])
    with pytest.raises(odograph.InvalidInput, match="3 rewards and 2 values"):
        gae(rewards, values[:2])
