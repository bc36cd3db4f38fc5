"""Means, spreads and sums by group of many numbers, by columns, where numpy is loaded: the same as in Python, to the last bit.

The sums are exactly rounded, as `math.fsum` gives them. A number is cut into whole multiples of powers of two, 26 bits at a time
from the largest number down. Sums of such multiples are exact in any order; `math.fsum` adds the few that are left.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

_FEWEST = 1000  # numbers below which Python is as quick
_MOST = 1 << 26  # numbers whose multiples are summed exactly
_BITS = 26
_PIECE = 1 << 15  # numbers that are summed at a time
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
    low, high = float(given.min()), float(given.max())
    if not max(-low, high) < _LARGEST:
        return None
    pieces = [slice(start, start + _PIECE) for start in range(0, n, _PIECE)]
    mean = _total(np, (given[piece] / n for piece in pieces), max(-low, high) / n)
    if mean is None:
        return None
    most = max(high - mean, mean - low)  # of deviations
    spread = _total(np, ((given[piece] - mean) ** 2 for piece in pieces), most * most)
    if spread is None or groups is None:
        return None if spread is None else Moments(mean, spread, n, None)
    numbers = np.asarray(groups)
    there = np.zeros(max(0, int(numbers.max())) + 1, bool)
    there[numbers[numbers >= 0]] = True
    alone, several = int((numbers < 0).sum()), int(there.sum())
    units = alone + several
    if not 1 < units < n:
        return Moments(mean, spread, units, None)
    place = np.cumsum(there) - 1

    def grouped() -> Iterator[tuple[Any, Any]]:
        for piece in pieces:
            its = numbers[piece]
            yield (given[piece] - mean)[its >= 0], place[its[its >= 0]]

    sums = _totals(np, grouped(), most, several)
    rest = _total(np, ((given[piece] - mean)[numbers[piece] < 0] ** 2 for piece in pieces), most * most)
    if sums is None or rest is None:
        return None
    return Moments(mean, spread, units, math.fsum(one * one for one in sums) + rest)


def ordered(values: Sequence[float], places: Sequence[int]) -> Sequence[float]:
    """Numbers, each of these places with the number that it has where they are sorted, smallest first."""
    np = numpy_for(values)
    if np is None:
        return sorted(values)
    given = np.asarray(values, dtype=np.float64)
    signed = np.signbit(given[given == 0]).any()  # as Python sorts 0.0 and -0.0
    return memoryview(np.sort(given, kind="stable") if signed else np.partition(given, places))


def _total(np: Any, pieces: Iterable[Any], most: float) -> float | None:
    found = _totals(np, ((piece, None) for piece in pieces), most, 1)
    return None if found is None else next(found)


def _totals(np: Any, pieces: Iterable[tuple[Any, Any]], most: float, count: int) -> Iterator[float] | None:
    """The sum of the values with each number below `count`. `pieces`: some values after the other with their numbers, without
    which there is one sum. No value is further from 0 than `most`."""
    largest = math.frexp(most)[1]
    sums: list[Any] = []  # of the multiples of each power of two
    for values, numbers in pieces:
        rest, exponent, level = values, largest, 0
        while True:
            left = rest != 0
            rest, numbers = rest[left], None if numbers is None else numbers[left]
            if not len(rest):
                break
            exponent -= _BITS
            if exponent < _LEAST:
                return None
            whole = rest * 2.0**-exponent  # in place, as new memory takes longer than what is computed
            np.rint(whole, out=whole)
            if level == len(sums):
                sums.append(np.zeros(count))
            sums[level] += whole.sum() if numbers is None else np.bincount(numbers, weights=whole, minlength=count)
            whole *= 2.0**exponent
            rest -= whole
            level += 1
    if not sums:
        return iter([0.0] * count)
    for level, of in enumerate(sums, 1):
        of *= 2.0 ** (largest - _BITS * level)
    return map(math.fsum, zip(*(memoryview(of) for of in sums), strict=True))
