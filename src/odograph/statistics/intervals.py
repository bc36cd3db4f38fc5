"""Confidence intervals of means and shares, of independent values or of values in groups. Numbers only; knows no trajectory.

Sources. Score interval of a share: Wilson 1927. The same with an effective number of values, for values that are bounded or come
in groups: Korn and Graubard 1998; Franco, Little, Louis and Slud 2019. Variance by group: Liang and Zeger 1986, with the factor
k / (k - 1); Miller 2024 for evaluations of models (arXiv 2411.00640). Student's t: NIST/SEMATECH e-Handbook, 1.3.5.2; its
distribution: Abramowitz and Stegun, 26.7.3 and 26.7.4 (exact, whole degrees of freedom) and 26.7.5 (many of them).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from operator import mul, sub, truediv
from statistics import NormalDist
from typing import NamedTuple

from ..errors import InvalidInput
from .exact import Moments, moments

Interval = tuple[float, float]
_EXACT = 200  # degrees of freedom; beyond, the expansion errs by less than 1e-6
_REPEATED = 10  # values from which two distinct values count as the only two there are
_FLAT = 1e-24  # a variance below this share of the squared range is that of rounding


class Estimate(NamedTuple):
    """The mean of some values, and how far to trust it."""

    mean: float
    #: Of the sample: divided by n - 1. None for one value, and for values whose squares no float holds.
    std: float | None
    #: None where there are too few values, or where values without bounds don't vary.
    interval: Interval | None
    #: How the interval was made; None without an interval.
    method: str | None
    #: Groups that were taken as the independent units; None where each value was.
    groups: int | None


def check_known(*lists: Iterable[float]) -> None:
    """Raises InvalidInput for a value that is no finite number: a test would take an unknown value for a finding."""
    for value in (value for values in lists for value in values):
        if isinstance(value, str) or value is None or not math.isfinite(value):
            raise InvalidInput(f"a value is a finite number, not {value!r:.60}; leave unknown values out")


def bounds_of(values: Sequence[float]) -> Interval | None:
    """The bounds that values show: 0 and 1, -1 and 1, or, of ten values at least, the only two values that occur; else None."""
    if not values:
        return None
    low, high = min(values), max(values)
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    if low >= -1.0 and high <= 1.0:
        return -1.0, 1.0
    if len(values) >= _REPEATED and low < high and high - low < math.inf and all(v in (low, high) for v in values):
        return low, high
    return None


def mean_interval(
    values: Sequence[float], confidence: float, *, groups: Sequence[int] | None = None, bounds: Interval | None = None
) -> Estimate | None:
    """The mean of values, with an interval. None without a value.

    `groups[i]` is the group of value i; a negative number is a value on its own. Values of one group are not independent of each
    other: where there are several groups, and not every value is its own, the groups are the units. The larger of both variances
    counts, as few groups can look alike by chance. `bounds`: what no value can be outside of; then neither can the interval.
    """
    n = len(values)
    if n == 0:
        return None
    mean, spread, units, by_group = moments(values, groups) or _moments(values, groups)
    grouped = by_group is not None
    variance = spread / (n - 1) / n if n > 1 else 0.0
    if by_group is not None:
        variance = max(variance, by_group / (n * n) * units / (units - 1))
    std = math.sqrt(spread / (n - 1)) if n > 1 else None
    if not math.isfinite(spread + (by_group or 0.0)):
        return Estimate(mean, None, None, None, None)
    if bounds is not None:
        interval, method = _within_bounds(values, mean, variance, units if grouped else n, grouped, bounds, confidence)
    elif n > 1 and 0.0 < variance < math.inf and variance > _FLAT * mean * mean:
        half = t_quantile((units if grouped else n) - 1, confidence) * math.sqrt(variance)
        interval, method = (mean - half, mean + half), "Student t"
    else:
        interval, method = None, None
    if method is not None and grouped:
        method += ", by group"
    return Estimate(mean, std, interval, method, units if grouped and method else None)


def _moments(values: Sequence[float], groups: Sequence[int] | None) -> Moments:
    """What `exact.moments` gives, in Python."""
    n = len(values)
    mean = math.fsum(map(truediv, values, repeat(n)))
    apart = array("d", map(sub, values, repeat(mean)))
    spread = _squares(apart)
    if groups is None or spread == math.inf:
        return Moments(mean, spread, n, None)
    sums: dict[int, array[float]] = {}
    for d, group in zip(apart, groups, strict=True):
        sums.setdefault(group, array("d")).append(d)
    alone = [d for group, of in sums.items() if group < 0 for d in of]
    totals = [math.fsum(of) for group, of in sums.items() if group >= 0]
    units = len(alone) + len(totals)
    if not 1 < units < n:
        return Moments(mean, spread, units, None)
    return Moments(mean, spread, units, _squares(totals) + _squares(alone))


def _squares(values: Sequence[float]) -> float:
    """The sum of squares; infinite where no float holds it."""
    try:
        return math.fsum(map(mul, values, values))
    except OverflowError:
        return math.inf


def _within_bounds(
    values: Sequence[float], mean: float, variance: float, units: int, grouped: bool, bounds: Interval, confidence: float
) -> tuple[Interval | None, str | None]:
    low, high = bounds
    width = high - low
    share = min(1.0, max(0.0, (mean - low) / width))
    two = all(map({low, high}.__contains__, values))
    if units == 1 and not two:
        return None, None
    if (two and not grouped) or share in (0.0, 1.0):
        critical, number = _z(confidence), float(units)
    elif variance <= _FLAT * width * width:
        critical, number = t_quantile(units - 1, confidence), float(units)
    else:
        critical, number = t_quantile(units - 1, confidence), share * (1.0 - share) * width * width / variance
    below, above = wilson(share, number, critical)
    return (low + below * width, min(high, low + above * width)), "Wilson score" if two else "Wilson score of bounded values"


def wilson(share: float, number: float, critical: float) -> Interval:
    """The score interval of a share of so many independent values. It is never empty, and never outside of 0 and 1."""
    z2 = critical * critical
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = critical / (1 + z2 / number) * math.sqrt(share * (1 - share) / number + z2 / (4 * number * number))
    below, above = min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))  # rounding passes the share by
    return (0.0 if share == 0.0 else below, 1.0 if share == 1.0 else above)


def rate_interval(hits: int, n: int, confidence: float) -> tuple[float, Interval] | None:
    """(share, its Wilson score interval); None of nothing."""
    return (hits / n, wilson(hits / n, n, _z(confidence))) if n else None


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)


def places(n: int, at: float) -> tuple[int, int]:
    """The places of the two of n ordered numbers between which a quantile lies."""
    low = math.floor(at * (n - 1))
    return low, min(low + 1, n - 1)


def quantile(ordered: Sequence[float], at: float) -> float:
    """The value below which the share `at` of ordered numbers lies, linear between them (Hyndman and Fan's type 7)."""
    place = at * (len(ordered) - 1)
    low, high = places(len(ordered), at)
    found = ordered[low] + (ordered[high] - ordered[low]) * (place - low)
    if math.isfinite(found):
        return found
    return ordered[low] * (1 - (place - low)) + ordered[high] * (place - low)  # their difference is what no float holds


@lru_cache(maxsize=4096)
def t_quantile(freedom: int, confidence: float) -> float:
    """The t that |T| is under with this probability."""
    if freedom > _EXACT:
        z = _z(confidence)
        return (
            z
            + (z**3 + z) / (4 * freedom)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
        )
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def t_outside(t: float, freedom: int) -> float:
    """P(|T| > t): the two-sided p-value of Student's t."""
    if freedom > _EXACT:  # the normal value of nearly the same probability (Wallace 1959)
        z = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
        return math.erfc(z / math.sqrt(2))
    return max(0.0, 1.0 - _within(math.atan(t / math.sqrt(freedom)), freedom))


def _within(angle: float, freedom: int) -> float:
    """P(|T| < t) of t = tan(angle) * sqrt(freedom)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):  # each term is the one before by cos^2 and the next ratio of factors
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
