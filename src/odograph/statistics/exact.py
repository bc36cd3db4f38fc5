"""Means, spreads and sums by group of many numbers, by columns, where numpy is loaded: the same as in Python, to the last bit.

The sums are exactly rounded, as `math.fsum` gives them. A number is cut into whole multiples of powers of two, 26 bits at a time
from the largest number down. Sums of such multiples are exact in any order; `math.fsum` adds the few that are left.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

_FEWEST = 1000  # numbers below which Python is as quick
_MOST = 1 << 26  # numbers whose multiples are summed exactly
_BITS = 26
_LARGEST = 2.0**500  # a number whose square is still one
_LEAST = -900  # the exponent of the last power of two


class Moments(NamedTuple):
    """Of some values: the mean, the sum of squared deviations, how many units are independent of each other, and the sum of the
    squared sums of deviations of each unit; None where each value is a unit, or all are one."""

    mean: float
    spread: float
    units: int
    by_group: float | None


def numpy_for(values: Sequence[Any]) -> Any:
    """The module numpy, where it is loaded already and quicker for so many values; else None."""
    return sys.modules.get("numpy") if _FEWEST <= len(values) < _MOST else None


def moments(values: Sequence[float], groups: Sequence[int] | None) -> Moments | None:
    """See `intervals.mean_interval`. None where Python is as quick, or numbers are too large or too small to be summed so."""
    np = numpy_for(values)
    if np is None:
        return None
    given, n = np.asarray(values, dtype=np.float64), len(values)
    if not np.abs(given).max() < _LARGEST:
        return None
    mean = _total(np, given / n)
    if mean is None:
        return None
    apart = given - mean
    spread = _total(np, apart * apart)
    if spread is None or groups is None:
        return None if spread is None else Moments(mean, spread, n, None)
    numbers = np.asarray(groups, dtype=np.int64)
    alone = numbers < 0
    there = np.bincount(numbers[~alone]) > 0
    units = int(alone.sum() + there.sum())
    if not 1 < units < n:
        return Moments(mean, spread, units, None)
    sums = _totals(np, apart[~alone], (np.cumsum(there) - 1)[numbers[~alone]], int(there.sum()))
    rest = _total(np, apart[alone] ** 2)
    if sums is None or rest is None:
        return None
    return Moments(mean, spread, units, math.fsum([one * one for one in sums]) + rest)


def ordered(values: Sequence[float], places: Sequence[int]) -> Sequence[float]:
    """Numbers, each of these places with the number that it has where they are sorted, smallest first."""
    np = numpy_for(values)
    if np is None:
        return sorted(values)
    given = np.asarray(values, dtype=np.float64)
    signed = np.signbit(given[given == 0]).any()  # as Python sorts 0.0 and -0.0
    return memoryview(np.sort(given, kind="stable") if signed else np.partition(given, places))


def _total(np: Any, values: Any) -> float | None:
    found = _totals(np, values, None, 1)
    return None if found is None else found[0]


def _totals(np: Any, values: Any, numbers: Any, count: int) -> list[float] | None:
    """The sum of the values with each number below `count`; without `numbers` that of all."""
    rest = values[values != 0]
    numbers = None if numbers is None else numbers[values != 0]
    exponent = math.frexp(np.abs(rest).max())[1] if len(rest) else 0
    sums: list[list[float]] = [[0.0] * count]
    while len(rest):
        exponent -= _BITS
        if exponent < _LEAST:
            return None
        power = 2.0**exponent
        whole = rest * 2.0**-exponent  # in place, as new memory takes longer than what is computed
        np.rint(whole, out=whole)
        by_number = whole.sum(keepdims=True) if numbers is None else np.bincount(numbers, weights=whole, minlength=count)
        sums.append((by_number * power).tolist())
        whole *= power
        rest -= whole
        left = rest != 0
        rest, numbers = rest[left], None if numbers is None else numbers[left]
    return [*map(math.fsum, zip(*sums, strict=True))]
