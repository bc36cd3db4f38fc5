"""How far several judgements of the same things agree. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean


def krippendorff_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Krippendorff's alpha for interval data: 1 is perfect agreement, 0 that of chance. `units[i]`: the values given to thing i.

    Things with fewer than two values are left out; None where nothing is left or all values are the same.
    Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.
    """
    pairable = [u for u in units if len(u) > 1]
    every = [v for u in pairable for v in u]
    n = len(every)
    if not every or max(every) == min(every):
        return None
    expected = 2 * (n * sum(v * v for v in every) - sum(every) ** 2) / (n * (n - 1))
    observed = sum(2 * (len(u) * sum(v * v for v in u) - sum(u) ** 2) / (len(u) - 1) for u in pairable) / n
    return 1 - observed / expected


def mean_absolute_deviation(values: Sequence[float]) -> float:
    """The mean distance of values from their mean; 0 for one."""
    mean = fmean(values)
    return fmean(abs(v - mean) for v in values)
