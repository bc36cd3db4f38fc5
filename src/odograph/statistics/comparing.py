"""Tests, intervals and corrections for comparing two sets of numbers. Plain sequences in, numbers out; knows no trajectory.

scipy does what it has (extra `worlds`): bootstrap (BCa, Efron 1987), Wilcoxon's signed ranks, the binomial test that McNemar's
exact test is, permutation tests, the power of Student's t. Newcombe 1998 (method 10); Holm 1979; Benjamini and Hochberg 1995.
Prediction-powered inference: Angelopoulos et al. 2023 (arXiv 2301.09633).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ..errors import InvalidInput, MissingExtra
from .intervals import Interval, check_known, mean_interval

_RESAMPLES = 9999
_AT_ONCE = 1 << 21  # values, of all resamples that are in memory
_FEW = 10  # pairs from which a bootstrap covers as often as it says


def scipy(part: str = "stats") -> Any:
    """A part of scipy. Raises MissingExtra."""
    try:
        return import_module(f"scipy.{part}")
    except ImportError:
        raise MissingExtra("comparing", "worlds") from None


class Difference(NamedTuple):
    """A difference of means, with an interval and how it was made; None where there are too few values or nothing varies."""

    difference: float
    interval: Interval | None
    method: str | None


def paired_difference(
    a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95, bounds: Interval | None = None, seed: int = 0
) -> Difference:
    """The mean of b[i] - a[i]. From ten pairs on a bootstrap interval (BCa); below, and where nothing varies, that of a mean.

    `bounds`: what no value can be outside of, if anything. Raises InvalidInput, MissingExtra.
    """
    _same_length(a, b)
    check_known(a, b)
    moved = [y - x for x, y in zip(a, b, strict=True)]
    if not moved:
        raise InvalidInput("there is no pair to compare")
    span = bounds[1] - bounds[0] if bounds else 0.0
    plain = mean_interval(moved, confidence, bounds=(-span, span) if bounds else None)
    assert plain is not None
    if len(moved) >= _FEW and plain.std:
        found = (
            scipy()
            .bootstrap(
                (moved,),
                _mean,
                confidence_level=confidence,
                n_resamples=_RESAMPLES,
                method="BCa",
                vectorized=True,
                rng=seed,
                batch=_batch(len(moved)),
            )
            .confidence_interval
        )
        if found.low < found.high:
            return Difference(plain.mean, (float(found.low), float(found.high)), "bootstrap of pairs (BCa)")
    return Difference(plain.mean, plain.interval, plain.method and f"{plain.method}, of pairs")


def unpaired_difference(
    a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95, bounds: Interval | None = None, seed: int = 0
) -> Difference:
    """mean(b) - mean(a) of things that have nothing to do with each other: a bootstrap interval (BCa) from ten values on each
    side, else Newcombe's of values with `bounds`, else Welch's. Raises InvalidInput, MissingExtra."""
    if not a or not b:
        raise InvalidInput(f"there is nothing to compare: {len(a)} and {len(b)} values")
    check_known(a, b)
    difference = math.fsum(b) / len(b) - math.fsum(a) / len(a)
    varies = len(set(a)) > 1, len(set(b)) > 1
    if min(len(a), len(b)) >= _FEW and all(varies):
        found = (
            scipy()
            .bootstrap(
                (b, a),
                _between,
                confidence_level=confidence,
                n_resamples=_RESAMPLES,
                method="BCa",
                vectorized=True,
                rng=seed,
                batch=_batch(max(len(a), len(b))),
            )
            .confidence_interval
        )
        return Difference(difference, (float(found.low), float(found.high)), "bootstrap (BCa)")
    if bounds is not None:
        first, second = mean_interval(a, confidence, bounds=bounds), mean_interval(b, confidence, bounds=bounds)
        if first is None or second is None or first.interval is None or second.interval is None:
            return Difference(difference, None, None)
        below = math.hypot(second.mean - second.interval[0], first.interval[1] - first.mean)
        above = math.hypot(second.interval[1] - second.mean, first.mean - first.interval[0])
        most = bounds[1] - bounds[0]
        interval = max(-most, difference - below), min(most, difference + above)
        return Difference(difference, interval, "Newcombe, of Wilson scores")
    if min(len(a), len(b)) < 2 or not any(varies):
        return Difference(difference, None, None)
    found = scipy().ttest_ind(b, a, equal_var=False).confidence_interval(confidence)
    return Difference(difference, (float(found.low), float(found.high)), "Welch t")


def _batch(count: int) -> int:
    """How many resamples of so many values are drawn at once."""
    return max(1, min(_RESAMPLES, _AT_ONCE // count))


def _mean(values: Any, axis: int = -1) -> Any:
    return values.mean(axis=axis)


def _between(b: Any, a: Any, axis: int = -1) -> Any:
    return b.mean(axis=axis) - a.mean(axis=axis)


def mcnemar(a: Sequence[bool | int], b: Sequence[bool | int]) -> float:
    """The exact p-value of McNemar's test: whether two yes-or-no answers to the same things change more often one way. Raises
    InvalidInput, MissingExtra."""
    _same_length(a, b)
    for value in (*a, *b):
        if value not in (0, 1):
            raise InvalidInput(f"an answer is true or false, 1 or 0, not {value!r:.60}; leave out pairs with an unknown answer")
    up = sum(not x and bool(y) for x, y in zip(a, b, strict=True))
    down = sum(bool(x) and not y for x, y in zip(a, b, strict=True))
    return float(scipy().binomtest(up, up + down, 0.5).pvalue) if up + down else 1.0


def wilcoxon(a: Sequence[float], b: Sequence[float]) -> float:
    """The p-value of Wilcoxon's signed rank test; pairs that don't differ are left out. Raises InvalidInput, MissingExtra."""
    _same_length(a, b)
    check_known(a, b)
    moved = [d for x, y in zip(a, b, strict=True) if (d := y - x)]
    return float(scipy().wilcoxon(moved).pvalue) if moved else 1.0


def permutation_test(a: Sequence[float], b: Sequence[float], *, paired: bool, seed: int = 0) -> float:
    """The p-value of the difference of means where values change sides by chance: within pairs, or freely. Exact for few
    values."""
    if paired:
        _same_length(a, b)
    if not a or not b:
        raise InvalidInput(f"there is nothing to compare: {len(a)} and {len(b)} values")
    check_known(a, b)
    if len({*a, *b}) == 1 or min(len(a), len(b)) < 2:
        return 1.0
    kind = "samples" if paired else "independent"
    found = scipy().permutation_test(
        (b, a),
        _between,
        permutation_type=kind,
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=seed,
        batch=_batch(len(a) + len(b)),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that any false finding among all of them is as rare as each was alone (Holm's step-down). Raises
    InvalidInput."""
    _check_p_values(p_values)
    found = [0.0] * len(p_values)
    least = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, p_values[i] * (len(p_values) - rank)))
        found[i] = least
    return found


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that of all findings only that share is false on average. Raises InvalidInput, MissingExtra."""
    _check_p_values(p_values)
    return [float(p) for p in scipy().false_discovery_control(p_values)] if p_values else []


def detectable_effect(
    std: float, n: int, n_other: int | None = None, *, confidence: float = 0.95, power: float = 0.8
) -> float | None:
    """The smallest true difference that Student's t test finds with this power: of n pairs whose differences have this standard
    deviation; with `n_other`, of two samples whose values have it. None for too few. Raises
    InvalidInput, MissingExtra."""
    check_known((std,))
    if not 0 < power < 1:
        raise InvalidInput(f"power is between 0 and 1, such as 0.8, not {power!r:.60}")
    freedom = n - 1 if n_other is None else n + n_other - 2
    if freedom < 1 or min(n, n_other or n) < 1:
        return None
    root = math.sqrt(n if n_other is None else n * n_other / (n + n_other))
    stats = scipy()
    critical = stats.t.ppf((1 + confidence) / 2, freedom)

    def missing(effect: float) -> float:
        wrong_way = float(stats.nct.cdf(-critical, freedom, effect))
        wrong_way = wrong_way if math.isfinite(wrong_way) else 0.0  # scipy has NaN for some that are below 1e-9
        return float(stats.nct.sf(critical, freedom, effect)) + wrong_way - power

    if missing(0.0) >= 0:  # a test with so little confidence finds as much where there is nothing
        return 0.0
    high = 1.0
    while missing(high) < 0 and high < 1e6:
        high *= 2
    return float(scipy("optimize").brentq(missing, 0.0, high)) / root * std


class Powered(NamedTuple):
    """A mean estimated from a judge's scores of many and people's of few."""

    estimate: float
    #: Of people's scores alone where nothing varies; None where then there are no bounds either.
    interval: Interval | None
    standard_error: float
    #: The same from what people said alone, and what the judge alone says, with its bias in it.
    people: float
    people_standard_error: float
    judge: float


def prediction_powered(
    people: Sequence[float],
    judge: Sequence[float],
    judge_alone: Sequence[float],
    *,
    confidence: float = 0.95,
    bounds: Interval | None = None,
) -> Powered:
    """mean(judge_alone) + mean(people - judge): `people[i]` and `judge[i]` scored the same thing, chosen at random from all;
    `judge_alone` are the judge's scores of the rest. Student's t interval with as many degrees of freedom as people's scores
    less one.

    `bounds`: what no score can be outside of. Raises InvalidInput.
    """
    _same_length(people, judge)
    if len(people) < 2 or len(judge_alone) < 2:
        raise InvalidInput(
            f"two scores of people and two of the judge alone at least; found {len(people)} and {len(judge_alone)}"
        )
    check_known(people, judge, judge_alone)
    off = [p - j for p, j in zip(people, judge, strict=True)]
    alone, bias, known = (_moments(values) for values in (judge_alone, off, people))
    error = math.sqrt(alone[1] / len(judge_alone) + bias[1] / len(off))
    estimate = alone[0] + bias[0]
    half = float(scipy().t.ppf((1 + confidence) / 2, len(off) - 1)) * error
    low, high = bounds or (-math.inf, math.inf)
    estimate = min(high, max(low, estimate))
    interval: Interval | None = max(low, estimate - half), min(high, estimate + half)
    if error <= 1e-12 * max(1.0, abs(estimate)):  # rounding
        plain = mean_interval(people, confidence, bounds=bounds)
        interval = plain.interval if plain is not None else None
    if interval is not None:
        interval = min(estimate, interval[0]), max(estimate, interval[1])
    return Powered(
        estimate=estimate,
        interval=interval,
        standard_error=error,
        people=known[0],
        people_standard_error=math.sqrt(known[1] / len(people)),
        judge=alone[0],
    )


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and variance of the sample."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)


def _check_p_values(p_values: Sequence[float]) -> None:
    check_known(p_values)
    for p in p_values:
        if not 0 <= p <= 1:
            raise InvalidInput(f"a p-value is from 0 to 1, not {p!r:.60}")


def _same_length(a: Sequence[Any], b: Sequence[Any]) -> None:
    if len(a) != len(b):
        raise InvalidInput(f"pairs are of two lists of one length; found {len(a)} and {len(b)}")
