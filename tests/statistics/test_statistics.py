"""`odograph.stats`: figures that can be trusted: what is unknown is not 0, intervals cover, differences are real, pictures show it."""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import odograph
from odograph.errors import InvalidInput, MissingExtra
from odograph.statistics.intervals import bounds_of, mean_interval, quantile, rate_interval, t_outside, t_quantile
from odograph.statistics.parts import Distribution
from odograph.statistics.passing import pass_at
from odograph.statistics.patterns import differences
from odograph.store import figures
from odograph.store.summary import Used


def recorded(store: odograph.Store, reward: float | None = None, **about: Any) -> str:
    """A trajectory of one step with these actions, contexts and rewards."""
    actions, contexts = about.pop("actions", ()), about.pop("contexts", ())
    with store.record(**about) as run:
        with run.step() as step:
            for name in contexts:
                step.context(name, "data", purpose="p")
            for name in actions:
                step.action(name, {}, "result", ok=True)
        if reward is not None:
            run.reward(reward)
    return run.id


# --- intervals ------------------------------------------------------------------------------------------------------


def test_students_t_is_that_of_the_tables() -> None:
    """Two-sided quantiles as printed in tables, for few and for many degrees of freedom."""
    printed = {(1, 0.95): 12.706, (2, 0.99): 9.925, (3, 0.95): 3.182, (9, 0.999): 4.781, (10, 0.95): 2.228, (29, 0.9): 1.699}
    printed |= {
        (30, 0.95): 2.042,
        (100, 0.95): 1.984,
        (120, 0.99): 2.617,
        (200, 0.95): 1.972,
        (201, 0.95): 1.972,
        (1000, 0.95): 1.962,
    }
    for (freedom, confidence), expected in printed.items():
        assert t_quantile(freedom, confidence) == pytest.approx(expected, abs=6e-4)
    assert t_quantile(200, 0.9999) == pytest.approx(t_quantile(201, 0.9999), rel=1e-3)


def test_intervals_of_worked_examples() -> None:
    """The mean's of a textbook's ten values, Wilson's of 8 of 10 and of the extremes."""
    values = [9.261956, 9.260, 9.262, 9.270, 9.255, 9.258, 9.265, 9.261, 9.259, 9.268]
    mean, std, interval, method, groups = mean_interval(values, 0.95) or (0.0, None, None, None, None)
    assert (method, groups) == ("Student t", None)
    half = 2.262157 * statistics.stdev(values) / math.sqrt(10)
    assert (mean, std) == (pytest.approx(statistics.fmean(values)), pytest.approx(statistics.stdev(values)))
    assert interval == pytest.approx((mean - half, mean + half), rel=1e-6)
    assert rate_interval(8, 10, 0.95) == (0.8, pytest.approx((0.4902, 0.9433), abs=1e-4))
    assert rate_interval(0, 10, 0.95) == (0.0, (0.0, pytest.approx(0.2775, abs=1e-4)))
    assert rate_interval(10, 10, 0.95) == (1.0, (pytest.approx(0.7225, abs=1e-4), 1.0))
    assert rate_interval(0, 0, 0.95) is None


def normal(chance: random.Random) -> float:
    return chance.gauss(0.3, 1.0)


def rare(chance: random.Random) -> float:
    return float(chance.random() < 0.9)


def even(chance: random.Random) -> float:
    return chance.random()


def half_solved(chance: random.Random) -> float:
    return 1.0 if chance.random() < 0.7 else chance.betavariate(2, 5)


@pytest.mark.parametrize(("drawn", "mean"), [(normal, 0.3), (rare, 0.9), (even, 0.5), (half_solved, 0.7 + 0.3 * 2 / 7)])
@pytest.mark.parametrize("n", [3, 4, 10, 30])
def test_intervals_cover_as_often_as_they_say(drawn: Callable[[random.Random], float], mean: float, n: int) -> None:
    """Of 1,000 samples, 95 % of the intervals hold the true mean: of normal rewards, of 0 and 1 with 90 % of 1, and of bounded ones."""
    chance = random.Random(1)
    hits = 0
    for _ in range(1000):
        values = [drawn(chance) for _ in range(n)]
        found = mean_interval(values, 0.95, bounds=None if drawn is normal else (0.0, 1.0))
        assert found is not None and found.interval is not None
        hits += found.interval[0] <= mean <= found.interval[1]
    assert hits / 1000 >= 0.92  # of ten values that are 1 with 90 %, Wilson's intervals hold it in 93 % exactly
    assert drawn is not normal or hits / 1000 <= 0.97


@pytest.mark.parametrize("tasks", [5, 20])
def test_intervals_of_attempts_cover_the_mean_of_all_tasks(tasks: int) -> None:
    """Eight attempts at each of some tasks, which are easy or hard: intervals by task hold the true mean as often as they say; intervals
    that take attempts as independent would not."""
    chance = random.Random(2)
    by_task = alone = 0
    for _ in range(500):
        values, groups = [], []
        for task in range(tasks):
            easy = chance.betavariate(0.5, 0.5)
            values += [float(chance.random() < easy) for _ in range(8)]
            groups += [task] * 8
        found, naive = mean_interval(values, 0.95, groups=groups, bounds=(0, 1)), mean_interval(values, 0.95, bounds=(0, 1))
        assert found is not None and found.interval is not None and naive is not None and naive.interval is not None
        assert (found.method, found.groups) == ("Wilson score, by group", tasks)
        by_task += found.interval[0] <= 0.5 <= found.interval[1]
        alone += naive.interval[0] <= 0.5 <= naive.interval[1]
    assert by_task / 500 >= 0.93
    assert alone / 500 < 0.75


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]) | st.floats(0, 1), st.integers(-1, 3)), min_size=1, max_size=30))
@example([(6.4e-302, -1), (0.0, -1)])
def test_an_interval_within_bounds_stays_there_and_has_a_width(rows: list[tuple[float, int]]) -> None:
    """Whatever the values and their groups: the interval holds the mean, lies within the bounds and is never a single point."""
    values, groups = [v for v, _ in rows], [g for _, g in rows]
    found = mean_interval(values, 0.95, groups=groups, bounds=(0.0, 1.0))
    assert found is not None
    if found.interval is None:
        assert len(values) == 1
        return
    low, high = found.interval
    assert 0.0 <= low <= found.mean <= high <= 1.0
    assert high > low


def test_tasks_that_look_alike_by_chance_make_no_interval_narrower() -> None:
    """One success of two attempts at each of four tasks: between the tasks nothing varies; the interval is not narrower than that of
    eight independent attempts."""
    values, groups = [0.0, 1.0] * 4, [0, 0, 1, 1, 2, 2, 3, 3]
    found, alone = mean_interval(values, 0.95, groups=groups, bounds=(0, 1)), mean_interval(values, 0.95, bounds=(0, 1))
    assert found is not None and found.interval is not None and alone is not None and alone.interval is not None
    assert found.interval[0] < alone.interval[0] < alone.interval[1] < found.interval[1]
    plain, apart = mean_interval([1.0, 9.0] * 4, 0.95, groups=groups), mean_interval([1.0, 9.0] * 4, 0.95)
    assert plain is not None and plain.interval is not None and apart is not None and apart.interval is not None
    assert plain.interval[0] < apart.interval[0]


def test_values_without_bounds_that_do_not_vary_have_no_interval() -> None:
    """Seven times 7.0 does not say how far the next value will be off; nor does rounding."""
    for values in ([7.0] * 7, [70.1, math.nextafter(70.1, 100.0)] * 2, [3.3]):
        found = mean_interval(values, 0.95, bounds=bounds_of(values))
        assert found is not None and (found.interval, found.method) == (None, None)


def test_bounds_are_those_that_values_show() -> None:
    """0 to 1, -1 to 1, and two values that repeat; other rewards have none."""
    assert bounds_of([0.2, 0.3]) == bounds_of([0.0, 1.0]) == (0.0, 1.0)
    assert bounds_of([-0.2, 0.3]) == (-1.0, 1.0)
    assert bounds_of([0.0, 10.0]) is None and bounds_of([0.0, 10.0] * 5) == (0.0, 10.0)
    assert bounds_of([0.0, 10.0, 5.0] * 5) is bounds_of([]) is bounds_of([-1e308, 1e308] * 9) is None


def test_shares_and_means_are_those_of_statsmodels_and_scipy() -> None:
    """Wilson's interval, Student's t and means by cluster equal those of the libraries that statisticians use."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    scipy_stats, numpy = pytest.importorskip("scipy.stats"), pytest.importorskip("numpy")
    from statsmodels.regression.linear_model import OLS

    for hits, n in ((0, 3), (3, 4), (7, 7), (40, 100)):
        expected = proportion.proportion_confint(hits, n, alpha=0.1, method="wilson")
        assert (rate_interval(hits, n, 0.9) or (0, None))[1] == pytest.approx(expected, abs=1e-9)
    chance = random.Random(4)
    values = [chance.gauss(3.0, 2.0) for _ in range(24)]
    found = mean_interval(values, 0.95)
    assert found is not None and found.interval == pytest.approx(
        scipy_stats.t.interval(0.95, 23, numpy.mean(values), scipy_stats.sem(values))
    )
    groups = [n // 4 for n in range(24)]
    values = [v + 3 * g for v, g in zip(values, groups, strict=True)]
    by_group = mean_interval(values, 0.95, groups=groups)
    fit = OLS(values, numpy.ones(24)).fit(cov_type="cluster", cov_kwds={"groups": groups, "df_correction": True}, use_t=True)
    assert by_group is not None and by_group.interval is not None
    low, high = fit.conf_int(0.05)[0]
    assert by_group.interval == pytest.approx((low, high), rel=1e-6)
    for t, freedom in ((0.5, 3), (2.0, 17), (4.0, 201), (6.0, 5000)):
        assert t_outside(t, freedom) == pytest.approx(2 * scipy_stats.t.sf(t, freedom), rel=1e-3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_quantiles_are_pythons(values: list[float]) -> None:
    """Quartiles are those of `statistics.quantiles(method="inclusive")`."""
    ordered = sorted(values)
    expected = statistics.quantiles(values, n=4, method="inclusive")
    assert [quantile(ordered, q) for q in (0.25, 0.5, 0.75)] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def plainly(values: list[float], groups: list[int]) -> tuple[float, float | None, float]:
    """The mean, the deviation of the sample and the variance of the mean by their formulas, a term at a time. A square is a
    product: C's `pow`, which `**` calls, rounds one of about a thousand in another way."""

    def squares(terms: Iterable[float]) -> float:
        return math.fsum(term * term for term in terms)

    n = len(values)
    mean = math.fsum(v / n for v in values)
    spread = squares(v - mean for v in values)
    units = [[v for v, g in zip(values, groups, strict=True) if g == group] for group in set(groups) if group >= 0]
    alone = [[v] for v, g in zip(values, groups, strict=True) if g < 0]
    variance = spread / (n - 1) / n if n > 1 else 0.0
    if 1 < (k := len(units) + len(alone)) < n:
        by_group = squares(math.fsum(v - mean for v in of) for of in units)
        by_group += squares(v - mean for (v,) in alone)
        variance = max(variance, by_group / (n * n) * k / (k - 1))
    return mean, math.sqrt(spread / (n - 1)) if n > 1 else None, variance


#: A sum of a group whose square `pow` rounds in another way.
_ROUNDED = [(0.0, 0), (0.0, 0), (1.295616865158081, 2), (827455946.8325169, 2), (0.6, 0)]
_ROUNDED += [(-1.5082098245620728, 1), (-1.5414518117904663, 1), (-420302145.5414518, 1)]


@example(_ROUNDED)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(-1, 4)), min_size=1, max_size=30))
def test_what_is_computed_by_columns_is_the_formula_to_the_last_bit(rows: list[tuple[float, int]]) -> None:
    """Mean, deviation and interval of any values in any groups."""
    values, groups = [v for v, _ in rows], [g for _, g in rows]
    mean, std, variance = plainly(values, groups)
    found = mean_interval(values, 0.95, groups=groups)
    assert found is not None and (found.mean, found.std) == (mean, std)
    if found.interval is not None:
        half = t_quantile((found.groups or len(values)) - 1, 0.95) * math.sqrt(variance)
        assert found.interval == (mean - half, mean + half)


# --- figures --------------------------------------------------------------------------------------------------------


def one_by_one(store: odograph.Store) -> dict[str, Any]:
    """What `stats` says, from each trajectory's summary and what happened in it."""
    all = list(store.summaries())
    used = store.used([s.id for s in all])
    numbers: dict[Any, int] = {}
    rewards, tasks, times, seen = [], [], [], dict[tuple[str, str], list[int]]()
    components: dict[str, list[tuple[float | None, int]]] = {}
    for s in all:
        key = None if s.group is None and s.task is None else (s.group is None, s.task if s.group is None else s.group)
        task = -1 if key is None else numbers.setdefault(key, len(numbers))
        about = used.get(s.id, Used())
        for name, value in about.components.items():
            components.setdefault(name, []).append((value, task))
        if s.reward is not None:
            for use in {*about.uses, *(("tag", tag) for tag in s.tags)}:
                seen.setdefault(use, []).append(len(rewards))
            rewards.append(s.reward)
            tasks.append(task)
            times.append(s.started)
    done = [(float(s.status == "completed"), s) for s in all if s.status not in ("running", "unterminated")]
    bounds = bounds_of(rewards)
    whole = Distribution.of(rewards, 0.95, null=len(all) - len(rewards), groups=tasks, bounds=bounds)
    known = {name: [(v, t) for v, t in of if v is not None] for name, of in components.items()}
    return {
        "sums": [sum(getattr(s, name) or 0 for s in all) for name in ("steps", "llm_calls", "actions", "prompt_tokens")],
        "statuses": Counter(s.status for s in all),
        "completed": sum(v for v, _ in done) / len(done),
        "reward": whole,
        "components": {
            name: Distribution.of(
                [v for v, _ in of],
                0.95,
                null=len(components[name]) - len(of),
                groups=[t for _, t in of],
                bounds=bounds_of([v for v, _ in of]),
            )
            for name, of in sorted(known.items())
        },
        "dated": sum(time is not None for time in times),
        "differences": differences(rewards, tasks, seen, 0.95, bounds),
    }


def at_once(store: odograph.Store) -> dict[str, Any]:
    found = store.stats()
    return {
        "sums": [getattr(found.whole, name) or 0 for name in ("steps", "llm_calls", "actions", "prompt_tokens")],
        "statuses": found.whole.statuses,
        "completed": found.whole.completed_rate,
        "reward": found.whole.reward,
        "components": found.components,
        "dated": sum(d.n for _, d in found.over_time),
        "differences": found.differences,
    }


@pytest.mark.parametrize("size", [7, 500])
def test_figures_by_columns_are_those_of_each_trajectory(
    store: odograph.Store, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, draws of permutation tests too: in the journal, sealed, with late rewards, compacted, in pages of any size."""
    monkeypatch.setattr(figures, "PAGE", size)
    chance = random.Random(size)
    ids = []
    for _ in range(60):
        about: dict[str, Any] = {"group": chance.choice(["a", "b", None]), "tags": chance.sample(["x", "y"], chance.randrange(3))}
        with suppress(RuntimeError), store.record(task=chance.choice([1, "1", None]), **about) as run:
            ids.append(run.id)
            for _ in range(chance.randrange(3)):
                with run.step() as step:
                    step.action(chance.choice("pqr"), {}, "result")
                    step.llm_call(model=chance.choice("mn"), response="a", usage={"prompt_tokens": chance.randrange(9)})
            for name in chance.sample(["reward", "other", "null"], chance.choice([0, 1, 1, 2])):
                run.reward(chance.random() if name != "null" else None, name=name, weight=chance.choice([1.0, 1.0, 0.5]))
            if chance.random() < 0.2:
                raise RuntimeError
    expected = one_by_one(store)
    assert len(expected["differences"]) > 3 and len(expected["components"]) == 3
    assert at_once(store) == expected
    store.seal()
    assert at_once(store) == one_by_one(store) == expected
    for id in ids[::9]:
        store.append(id).reward(0.25, name="late")
    late = one_by_one(store)
    assert at_once(store) == late != expected
    store.seal()
    store.compact(grace=0)
    assert at_once(store) == one_by_one(store) == late


def test_an_unknown_reward_is_counted_and_in_no_figure(store: odograph.Store) -> None:
    """Null is not 0: it changes neither mean nor quantiles; a part without any reward has None, not 0."""
    for reward in (1.0, None, 0.0, 0.5, None):
        recorded(store, reward, group="a" if reward is not None else "b")
    found = store.stats("group")
    whole = found.whole.reward
    assert (whole.n, whole.null, whole.mean, whole.median, whole.min, whole.max, whole.std) == (3, 2, 0.5, 0.5, 0.0, 1.0, 0.5)
    by_key = {p.key: p for p in found.parts}
    nothing = by_key["b"].reward
    assert (nothing.n, nothing.null, nothing.mean, nothing.interval, nothing.std) == (0, 2, None, None, None)
    assert by_key["a"].reward == msgspec.structs.replace(whole, null=0)


def test_figures_by_what_there_is(store: odograph.Store) -> None:
    """By agent, model, tag (one with two tags is in both), status, day, hour and policy version; without one, under None."""
    recorded(store, 1.0, agent="x", model="m1", tags=["t", "u", "t"], policy_version=3)
    recorded(store, 0.0, agent="y", model="m1", policy_version=2)
    with pytest.raises(RuntimeError), store.record(agent="x", tags=["u"]):
        raise RuntimeError

    def counts(by: str) -> dict[str | None, int]:
        return {p.key: p.trajectories for p in odograph.stats(store, by).parts}

    assert counts("agent") == {"x": 2, "y": 1}
    assert counts("model") == {"m1": 2, None: 1}
    assert counts("tag") == {"t": 1, "u": 2, None: 1}
    assert counts("status") == {"completed": 2, "failed": 1}
    assert counts("policy_version") == {"2": 1, "3": 1, None: 1}
    (day,), (hour,) = counts("day").items(), counts("hour").items()
    assert day[0] is not None and hour[0] is not None
    assert hour[0].startswith(day[0]) and hour[0].endswith(":00Z") and day[1] == hour[1] == 3
    whole = store.stats(agent="x").whole
    assert (whole.trajectories, whole.completed_rate) == (2, 0.5)
    assert whole.completed_interval == pytest.approx((0.0945, 0.9055), abs=1e-4)


def test_components_are_the_values_that_count_before_their_weight(store: odograph.Store) -> None:
    """The latest value of each name, weighted or only watched, of the trajectory or summed over its steps; null apart."""
    for n in range(3):
        with store.record() as run:
            for k in range(2):
                with run.step() as step:
                    step.reward(k + n, name="progress")
            run.reward(9.0, name="outcome")
            run.reward(n / 2, name="outcome", weight=3.0)
            run.reward(None if n == 0 else 1.0, name="watched", weight=0.0)
    found = store.stats().components
    assert {name: (d.n, d.null, d.mean) for name, d in found.items()} == {
        "outcome": (3, 0, 0.5),
        "progress": (3, 0, 3.0),
        "watched": (2, 1, 1.0),
    }
    one = next(iter(store.trajectories()))
    assert one.rewards["outcome"] == store.used([one.id])[one.id].components["outcome"] == 0.0


def test_trajectories_that_were_rewarded_under_different_names_stay_apart(store: odograph.Store) -> None:
    """Each trajectory has one reward, and rewards have two names: each name has the values of its own trajectories, also when sealed."""
    for name, value in (("tests", 1.0), ("style", 0.25), ("tests", 0.5), ("style", 0.75)):
        with store.record() as run:
            run.reward(value, name=name)
    for by in (None, "agent"):
        assert {name: (d.n, d.mean) for name, d in store.stats(by).components.items()} == {"tests": (2, 0.75), "style": (2, 0.5)}
        store.seal()


def test_what_goes_with_high_reward_is_found_and_noise_is_not(store: odograph.Store) -> None:
    """An action worth 0.5 stands out, what was read at random does not; the corrected interval is the wider one."""
    chance = random.Random(3)
    for n in range(200):
        looked = n % 2 == 0
        noise = [f"source-{k}" for k in range(10) if chance.random() < 0.5]
        actions = ["look", "look"] if looked else ["guess"]
        recorded(store, chance.gauss(0.5 * looked, 0.5), actions=actions, contexts=noise, tags=["rare"] if n < 4 else [])
    found = {(d.kind, d.name): d for d in store.stats().differences}
    look, guess = found["action", "look"], found["action", "guess"]
    assert look.stands_out and guess.stands_out
    assert (look.n_with, look.n_without) == (100, 100)
    assert look.difference == pytest.approx(-guess.difference) == pytest.approx(look.mean_with - look.mean_without)
    assert 0.3 < look.difference < 0.7
    assert look.interval is not None and look.corrected is not None
    assert look.corrected[0] < look.interval[0] < look.difference < look.interval[1] < look.corrected[1]
    assert [key for key, d in found.items() if d.stands_out] == [key for key in found if key[0] == "action"]
    assert ("tag", "rare") not in found  # four are too few to say anything


def test_a_harder_task_is_no_finding(store: odograph.Store) -> None:
    """`verify` is worth 0.05 in each of two tasks and used more in the hard one: what is compared within tasks is +0.05, and both means
    over all tasks are told."""
    chance = random.Random(1)
    for group, mean in (("easy", 0.9), ("hard", 0.1)):
        for i in range(40):
            use = i < (8 if group == "easy" else 32)
            recorded(store, mean + 0.05 * use + chance.gauss(0, 0.02), group=group, actions=["verify" if use else "skip"])
    verify = next(d for d in store.stats().differences if d.name == "verify")
    assert verify.mean_with - verify.mean_without < -0.3
    assert verify.difference == pytest.approx(0.05, abs=0.02)
    assert verify.stands_out and verify.tasks == 2


@pytest.mark.parametrize("by", ["group", "task"])
def test_what_never_varies_within_a_task_is_told_and_does_not_stand_out(store: odograph.Store, by: str) -> None:
    """A tool that only hard tasks have goes with low reward across tasks; there is no interval, as no task was done without it."""
    for n in range(80):
        hard = n % 8 < 4
        recorded(store, 0.1 if hard else 0.9, actions=["dig"] if hard else ["walk"], **{by: f"{hard} {n % 4}"})
    dig = next(d for d in store.stats().differences if d.name == "dig")
    assert (dig.difference, dig.tasks, dig.interval, dig.stands_out) == (pytest.approx(-0.8), 0, None, False)


def solved_rarely(chance: random.Random, task: int) -> float:
    return float(chance.random() < 0.15)


def by_difficulty(chance: random.Random, task: int) -> float:
    return float(chance.random() < (0.1, 0.5, 0.9)[task % 3])


def skewed(chance: random.Random, task: int) -> float:
    return 0.0 if chance.random() < 0.9 else chance.random()


def solved_very_rarely(chance: random.Random, task: int) -> float:
    return float(chance.random() < 0.03)


@pytest.mark.parametrize(
    ("drawn", "n", "tasks", "share"),
    [(solved_rarely, 40, 1, 0.25), (by_difficulty, 60, 12, 0.25), (skewed, 60, 1, 0.25), (solved_very_rarely, 200, 1, 0.04)],
)
def test_of_noise_one_in_twenty_stands_out_at_most(
    drawn: Callable[[random.Random, int], float], n: int, tasks: int, share: float
) -> None:
    """Ten actions that mean nothing: in at most 5 % of 200 stores does any of them stand out, also where successes or actions are
    rare and attempts few."""
    chance, hits = random.Random(7), 0
    for _ in range(200):
        rewards = [drawn(chance, i % tasks) for i in range(n)]
        seen = {("action", str(j)): [i for i in range(n) if chance.random() < share] for j in range(10)}
        hits += any(d.stands_out for d in differences(rewards, [i % tasks for i in range(n)], seen, 0.95, (0.0, 1.0)))
    assert hits / 200 <= 0.08  # 5 % and what chance does to 200 of them


def test_one_huge_reward_is_no_pattern() -> None:
    """Of 6,000 rewards one is huge, and 300 of them are with an action: that the huge one is among them has a chance of 5 %,
    whatever the normal distribution says of so many values."""
    rewards = [1000.0, *(n % 3 * 1e-8 for n in range(5999))]
    (found,) = differences(rewards, [0] * 6000, {("action", "lucky"): range(300)}, 0.95, None)
    assert found.p_value == pytest.approx(0.05, abs=0.03) and not found.stands_out


def test_a_p_value_is_that_of_fisher_and_of_scipys_permutations() -> None:
    """Of two-valued rewards the exact test of Fisher, of others what permuting says."""
    scipy_stats = pytest.importorskip("scipy.stats")
    chance = random.Random(3)
    for _ in range(20):
        rewards = [float(chance.random() < 0.3) for _ in range(30)]
        at = chance.sample(range(30), 11)
        (d,) = differences(rewards, [-1] * 30, {("tag", "t"): at}, 0.95, (0.0, 1.0))
        hits = sum(rewards[i] for i in at)
        table = [[hits, 11 - hits], [sum(rewards) - hits, 19 - sum(rewards) + hits]]
        assert d.p_value == pytest.approx(scipy_stats.fisher_exact(table).pvalue)
    rewards = [chance.expovariate(1.0) + (i < 12) for i in range(30)]
    (d,) = differences(rewards, [-1] * 30, {("tag", "t"): range(12)}, 0.99, None)
    expected = scipy_stats.permutation_test(
        (rewards[:12], rewards[12:]), lambda a, b: sum(a) / len(a) - sum(b) / len(b), n_resamples=5000, rng=1
    ).pvalue
    assert d.p_value == pytest.approx(expected, rel=0.7, abs=0.02)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0])), min_size=12, max_size=40).filter(lambda rs: 5 <= sum(r[0] for r in rs) <= len(rs) - 5))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_a_difference_is_that_of_both_sides_computed_apart(rows: list[tuple[bool, float]]) -> None:
    """Means are those of the two lists themselves; an interval lies within what rewards can differ by and is never a point."""
    rewards = [reward for _, reward in rows]
    (d,) = differences(rewards, [-1] * len(rows), {("tag", "t"): [i for i, (has, _) in enumerate(rows) if has]}, 0.95, (0.0, 1.0))
    sides = [[r for has, r in rows if has is want] for want in (True, False)]
    assert (d.n_with, d.n_without) == tuple(map(len, sides))
    assert (d.mean_with, d.mean_without) == pytest.approx([statistics.fmean(s) for s in sides], abs=1e-9)
    assert d.difference == pytest.approx(d.mean_with - d.mean_without, abs=1e-9)
    assert (d.interval is None) is (len(set(rewards)) == 1)
    if d.interval is not None:
        assert -1.0 <= d.interval[0] < d.interval[1] <= 1.0


def test_pass_at_k_is_the_unbiased_estimate(store: odograph.Store) -> None:
    """1 - C(n - c, k) / C(n, k), the mean over tasks with k attempts at least: what drawing k of the n attempts gives."""
    for n, c, k in ((8, 3, 1), (8, 3, 2), (8, 8, 4), (5, 0, 5), (5, 4, 2)):
        drawn = [any(i < c for i in some) for some in itertools.combinations(range(n), k)]
        assert pass_at(n, c, k) == pytest.approx(statistics.fmean(drawn))
    for task, outcomes in {"a": "1000", "b": "11", "c": "0001"}.items():
        for one in outcomes:
            recorded(store, float(one), group=task, model="m")
    found = {p.k: p for p in store.stats("model").parts[0].pass_at_k}
    assert {k: (p.estimate, p.tasks) for k, p in found.items()} == {
        1: (pytest.approx((0.25 + 1 + 0.25) / 3), 3),
        2: (pytest.approx((0.5 + 1 + 0.5) / 3), 3),
        4: (1.0, 2),
    }
    interval = found[2].interval
    assert interval is not None and 0.0 <= interval[0] < found[2].estimate < interval[1] <= 1.0
    assert store.stats().to_dict()["pass_at_k"][0]["k"] == 1
    recorded(store, 0.5, group="a")
    assert store.stats().whole.pass_at_k == []  # what a success is is not known any more
    assert store.stats(success=0.5).whole.pass_at_k[0].estimate == pytest.approx((2 / 5 + 1 + 0.25) / 3)


def test_few_values_are_shown_themselves(store: odograph.Store) -> None:
    """Below ten rewards the values stand beside their mean; from ten on they don't."""
    for n in range(9):
        recorded(store, float(n % 2))
    assert store.stats().whole.reward.values == [0.0] * 5 + [1.0] * 4
    assert "0 0 0 0 0 1 1 1 1" in odograph_stats(store).stdout
    recorded(store, 1.0)
    assert store.stats().whole.reward.values is None


def test_attempts_of_one_task_are_not_independent(store: odograph.Store) -> None:
    """The interval of all is by task, the group's name or the same task; of one task alone its attempts are independent; the method
    says so."""
    for task, won in (("a", 8), ("b", 0), ("c", 8), ("d", 1)):
        for n in range(8):
            about = {"group": task} if task in "ab" else {"task": {"id": task}}
            recorded(store, float(n < won), **about)
    found = store.stats("group")
    whole = found.whole.reward
    assert (whole.method, whole.groups) == ("Wilson score, by group", 4)
    assert whole.interval is not None and whole.interval[1] - whole.interval[0] > 0.8
    a = found.parts[0].reward
    assert (a.method, a.groups, a.interval) == ("Wilson score", None, (rate_interval(8, 8, 0.95) or (0, None))[1])
    assert found.whole.completed_interval == (rate_interval(4, 4, 0.95) or (0, None))[1]  # 32 of 32, in four tasks
    assert "4 tasks" in odograph_stats(store, "--by", "group").stdout


def test_versions_come_in_the_order_of_their_numbers(store: odograph.Store) -> None:
    """Version 10 comes after version 9, so that the newest is last in tables and pictures."""
    for version in (10, 9, 2, None):
        recorded(store, 1.0, policy_version=version)
    assert [p.key for p in store.stats("policy_version").parts] == ["2", "9", "10", None]


def test_rewards_over_time_are_in_spans_that_fit(store: odograph.Store) -> None:
    """A week of hourly work is shown by day or hour, not by year; every dated reward is in one span."""
    start = 1_760_000_000_000_000_000
    for n in range(7 * 24):
        at = start + n * 3600 * 1_000_000_000
        source = {"format": "x"}
        store.add({"start": {"metadata": {"source": source}, "source_time": at}, "rewards": [{"value": float(n)}]})
    store.add({"start": {"metadata": {"source": {"format": "x"}}}, "rewards": [{"value": 5.0}]})  # without a date
    found = store.stats()
    assert (found.span, len(found.over_time)) == ("day", 8)
    assert sum(d.n for _, d in found.over_time) == 7 * 24
    assert found.whole.reward.n == 7 * 24 + 1
    means = [d.mean for _, d in found.over_time]
    assert means == sorted(means)


def test_nothing_and_numbers_at_the_end_of_what_floats_hold(store: odograph.Store) -> None:
    """An empty store has figures, all None or 0; rewards of 1e308 cost their deviation, not an exception."""
    assert store.stats("day").to_dict()["reward_mean"] is None
    for n in range(12):
        recorded(store, 1e308 if n % 2 else -1e308, tags=["t"] if n % 3 else [])
    found = store.stats("tag")
    assert found.whole.reward.mean is not None and abs(found.whole.reward.mean) < 1e293
    assert found.whole.reward.interval is None
    json.dumps(found.to_dict())


def test_a_mistake_is_one_sentence(store: odograph.Store) -> None:
    """No such part, confidence or kind of picture: what there is, is said."""
    with pytest.raises(InvalidInput, match=r"no figures by 'colour'; there are: group, agent, .*policy_version"):
        store.stats("colour")
    for wrong in (0, 1.0, 95, "0.9"):
        with pytest.raises(InvalidInput, match="confidence is between 0 and 1"):
            store.stats(confidence=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no filter 'agnt'"):
        store.stats(agnt="x")
    with pytest.raises(InvalidInput, match=r"\.png, \.svg or \.pdf"):
        store.stats().plot("x.doc")


# --- the catalog ----------------------------------------------------------------------------------------------------


def test_summaries_come_in_pages_and_end(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trajectory once, in order, whatever the page; recording while listing does not make the list endless."""
    monkeypatch.setattr("odograph.store.catalog._PAGE", 3)
    ids = [recorded(store, float(n)) for n in range(10)]
    assert [s.id for s in store.summaries()] == ids
    assert [s.id for s in store.summaries(min_reward=4.0, limit=4)] == ids[4:8]
    seen = 0
    for _ in store.summaries():
        recorded(store)
        len(store)  # catches up
        seen += 1
    assert seen == 10
    assert len(store) == 20


def test_what_was_corrected_counts_as_corrected(store: odograph.Store) -> None:
    """An action that a later record corrects counts under its new name only."""
    id = recorded(store, 1.0, actions=["byu"], contexts=["kb"])
    assert store.used([id])[id].uses == [("action", "byu"), ("context", "kb")]
    data = store.trajectory(id).to_dict()
    data["steps"][0]["actions"][0]["name"] = "buy"
    store.add(data)
    assert store.used([id])[id].uses == [("action", "buy"), ("context", "kb")]


def test_memory_stays_flat(store: odograph.Store) -> None:
    """3,000 trajectories with tasks of 3 KB, 9 MB in all: their statistics take less than 2 MB."""
    for n in range(3000):
        with store.record(task=f"{n} " + "x" * 3000, tags=["t"]) as run:
            run.reward(n / 3000)
    len(store)
    tracemalloc.start()
    try:
        found = store.stats()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.whole.reward.n == 3000
    assert peak < 2_000_000, peak


# --- pictures and the command ---------------------------------------------------------------------------------------


@pytest.fixture
def shown(store: odograph.Store) -> odograph.Store:
    """Forty trades over four days, half of which looked first and earned more; one name is a trap."""
    chance = random.Random(5)
    for n in range(40):
        looked = n % 2 == 0
        name = "look" if looked else "$x_{1$ \x1b[31m\u202e 猜 guess"
        step = {"actions": [{"name": name, "arguments": {}, "result": 1}], "contexts": [{"provider": "market"}] if n % 4 else []}
        rewards = [{"name": "profit", "value": chance.gauss(0.8 * looked, 0.2)}, {"name": "format", "value": 0.1}]
        at = 1_760_000_000_000_000_000 + n * 8_640 * 1_000_000_000
        about = {"metadata": {"source": {"format": "x"}}, "source_time": at, "group": f"g{n % 3}"}
        store.add({"start": about, "steps": [step], "rewards": rewards})
    return store


def test_the_figure_shows_the_figures(shown: odograph.Store) -> None:
    """Panels over time, by group, by component and by what was done, with the very numbers of `stats`."""
    pytest.importorskip("matplotlib")
    found = shown.stats("group")
    made = found.figure()
    time, groups, components, differences = made.axes
    (line,) = [one for one in time.lines if one.get_gid() == "reward-mean"]
    assert list(line.get_ydata()) == [d.mean for _, d in found.over_time]
    assert len(found.over_time) > 3
    assert [t.get_text() for t in groups.get_yticklabels()] == [str(p.key) for p in found.parts]
    assert [t.get_text() for t in groups.texts] == [f"n = {p.reward.n}" for p in found.parts]
    drawn = [one.get_xdata()[0] for one in components.lines if one.get_gid() == "mean"]
    assert drawn == [d.mean for d in found.components.values()]
    marks = [one.get_xdata()[0] for one in differences.lines if one.get_marker() == "o"]
    assert marks == sorted((d.difference for d in found.differences), reverse=True)
    look = next(d for d in found.differences if d.name == "look")
    assert any(list(one.get_xdata()) == list(look.corrected or ()) for one in differences.lines)


def test_names_in_any_script_are_readable(store: odograph.Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each letter of a label is drawn by a font that has it; one that no font here has is its code, which is said; an SVG holds the
    text itself, and markup is none."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = ["Обзор", "مرحبا", "ℵ⨑ math", "$x_{1$", "翻译这份很长的合同", "𒀀 cuneiform", "a" * 200, "न्"]
    for name in names:
        recorded(store, 1.0, group=name)
    found = store.stats("group")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a letter that it draws as a box
        made = found.figure()
        FigureCanvasAgg(made).draw()
    labels = [t.get_text() for t in made.axes[0].get_yticklabels()]
    assert {"Обзор", "مرحبا", "$x_{1$", "ℵ⨑ math"} <= set(labels)
    assert "<U+12000> cuneiform" in labels or "𒀀 cuneiform" in labels
    assert "<U+0928><U+094D>" in labels or "न्" in labels  # a mark beside a letter, too
    assert max(map(len, labels)) <= 40
    found.plot(tmp_path / "s.svg")
    assert "翻译这份很长的合同" in (tmp_path / "s.svg").read_text()


@pytest.mark.parametrize("n", [1, 30])
def test_nothing_is_cut_off_and_nothing_overlaps(store: odograph.Store, n: int) -> None:
    """Every text of a picture lies within it, and labels of one axis don't touch, with long names, many groups, and one value alone."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for i in range(n):
        recorded(store, 0.7, group=f"task number {i} about refactoring the importer", actions=["a_tool_with_a_long_name" * 3])
    made = store.stats("group").figure()
    canvas = FigureCanvasAgg(made)
    canvas.draw()
    for text in made.findobj(Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent(canvas.get_renderer())
            assert box.x0 >= -1 and box.x1 <= made.bbox.width + 1, text.get_text()
            assert box.y0 >= -1 and box.y1 <= made.bbox.height + 1, text.get_text()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in made.axes[-1].get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
    assert made.axes[-1].get_xlim() == (-0.03, 1.03)  # where in its range a value is, is seen of one value too


def test_pictures_are_files_with_something_in_them(shown: odograph.Store, tmp_path: Path) -> None:
    """A PNG with many colours, an SVG whose curve has a point for each span: what the figure holds is in the file."""
    pytest.importorskip("matplotlib")
    from PIL import Image

    found = shown.stats("group")
    found.plot(tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        assert image.format == "PNG"
        assert image.width > 500
        colours = image.convert("RGB").getcolors(1 << 20)
        assert colours is not None and len(colours) > 20
    found.plot(tmp_path / "s.svg")
    tree = ElementTree.parse(tmp_path / "s.svg")
    (curve,) = [g for g in tree.iter("{http://www.w3.org/2000/svg}g") if g.get("id") == "reward-mean"]
    path = next(curve.iter("{http://www.w3.org/2000/svg}path")).get("d") or ""
    drawn = list(curve.iter("{http://www.w3.org/2000/svg}use"))
    assert path.count("L") + 1 == len(found.over_time) or len(drawn) == len(found.over_time)
    odograph.open("memory:").stats().plot(tmp_path / "empty.svg")
    ElementTree.parse(tmp_path / "empty.svg")


def test_without_matplotlib_it_is_said(shown: odograph.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A picture needs the extra `plot`; figures don't."""
    found = shown.stats()
    monkeypatch.delitem(sys.modules, "odograph.statistics.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"odograph\[plot\]"):
        found.plot(tmp_path / "x.png")


def odograph_stats(store: odograph.Store, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "odograph", "--store", str(store.root), "stats", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_what_the_function_finds(shown: odograph.Store, tmp_path: Path) -> None:
    """`--json` is `to_dict()`; the table has a line a group, `--patterns` says what stands out, without control sequences."""
    done = odograph_stats(shown, "--by", "group", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(shown.stats("group").to_dict()))
    table = odograph_stats(shown, "--by", "group", "--patterns", "--confidence", "0.9", "--limit", "40")
    assert table.returncode == 0, table.stderr
    first = [row.split()[0] for row in table.stdout.splitlines()[:5]]
    assert first == ["group", "g0", "g1", "g2", "all"]
    assert "90%" in table.stdout
    look = next(row for row in table.stdout.splitlines() if row.startswith("action") and " look " in row)
    assert look.endswith("yes")
    assert "\x1b" not in table.stdout and "\u202e" not in table.stdout
    wrong = odograph_stats(shown, "--confidence", "95")
    assert (wrong.returncode, wrong.stderr) == (2, "odograph: --confidence is between 0 and 1, such as 0.95, not 95.0\n")
    if pytest.importorskip("matplotlib"):
        drawn = odograph_stats(shown, "--plot", str(tmp_path / "p.svg"), "--json")
        assert drawn.returncode == 0, drawn.stderr
        assert (tmp_path / "p.svg").stat().st_size > 5_000
    assert odograph_stats(shown, "--plot", "p.doc").stderr == "odograph: a picture is a .png, .svg or .pdf file, not 'p.doc'\n"


def test_figures_at_the_end_of_what_floats_hold_are_numbers_or_null(store: odograph.Store, tmp_path: Path) -> None:
    """Quantiles between -1e308 and 1e308 are finite, differences that are not are left out; JSON has no NaN or infinity; a picture
    that can't be drawn is said to be one."""
    for n in range(20):
        recorded(store, 1e308 if n % 2 else -1e308, tags=["odd" if n % 2 else "even"])
    found = store.stats("tag")
    assert (found.whole.reward.min, found.whole.reward.median, found.whole.reward.max) == (-1e308, 0.0, 1e308)
    json.dumps(found.to_dict(), allow_nan=False)
    pytest.importorskip("matplotlib")
    with pytest.raises(InvalidInput, match="of this size"):
        found.plot(tmp_path / "rewards.png")
