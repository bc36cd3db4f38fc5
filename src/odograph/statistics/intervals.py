"""Confidence intervals of means, differences and shares. Numbers only; knows no trajectory.

Sources: Student's t and Welch's approximation of its degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.5.2 and 1.3.5.3); its
distribution: Abramowitz and Stegun, 26.7.3 and 26.7.4 (exact, whole degrees of freedom) and 26.7.5 (many of them); the
score interval: Wilson 1927.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

Interval = tuple[float, float]
_EXACT = 200  # degrees of freedom; beyond, the expansion errs by less than 1e-6


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float | None, Interval | None] | None:
    """(mean, standard deviation of the sample, interval of the mean); None without a value; of one value, or of such as no
    float holds the squares of, the mean alone."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(v / n for v in values)
    if n == 1:
        return mean, None, None
    try:
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    except OverflowError:
        return mean, None, None
    half = t_quantile(n - 1, confidence) * std / math.sqrt(n)
    return mean, std, (mean - half, mean + half)


def welch_interval(
    n_a: int, mean_a: float, spread_a: float, n_b: int, mean_b: float, spread_b: float, confidence: float
) -> Interval | None:
    """The interval of mean_a - mean_b; `spread` is the sum of squared deviations. None where neither side varies: two constants
    say nothing of how far the next will be off; and for numbers whose squares no float holds."""
    a, b = (spread / (n - 1) / n for n, spread in ((n_a, spread_a), (n_b, spread_b)))
    if not 0.0 < a + b < math.inf:
        return None
    freedom = 1.0 / ((a / (a + b)) ** 2 / (n_a - 1) + (b / (a + b)) ** 2 / (n_b - 1))
    half = t_quantile(max(1, math.floor(freedom)), confidence) * math.sqrt(a + b)
    return mean_a - mean_b - half, mean_a - mean_b + half


def rate_interval(hits: int, n: int, confidence: float) -> tuple[float, Interval] | None:
    """(share, its Wilson score interval); None of nothing."""
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, (0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half)


def quantile(ordered: Sequence[float], at: float) -> float:
    """The value below which the share `at` of ordered numbers lies, linear between them (Hyndman and Fan's type 7)."""
    place = at * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    found = ordered[low] + (ordered[high] - ordered[low]) * (place - low)
    if math.isfinite(found):
        return found
    return ordered[low] * (1 - (place - low)) + ordered[high] * (place - low)  # their difference is what no float holds


@lru_cache(maxsize=4096)
def t_quantile(freedom: int, confidence: float) -> float:
    """The t that |T| is under with this probability."""
    if freedom > _EXACT:
        z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
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
