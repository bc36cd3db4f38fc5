"""Whether a judge's scores go with what they should not: length, the judge's own family of models, the order of two answers.

Numbers in, numbers out. A probe shows an association: longer answers can be better ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..errors import InvalidInput
from .comparing import permutation_test, scipy, unpaired_difference
from .intervals import Interval, check_known, rate_interval


class LengthBias(NamedTuple):
    """Spearman's correlation of scores with lengths: 1 where the longer always scores higher, 0 where length says nothing."""

    correlation: float
    #: Of the correlation, bootstrapped; None for fewer than ten.
    interval: Interval | None
    #: Exact below eight; below ten of 9,999 orders by chance; else of Student's t.
    p_value: float
    n: int


def length_bias(
    scores: Sequence[float], lengths: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> LengthBias | None:
    """None where there are fewer than three, or scores or lengths are all the same. Raises InvalidInput, MissingExtra."""
    if len(scores) != len(lengths):
        raise InvalidInput(f"each score has one length; found {len(scores)} and {len(lengths)}")
    check_known(scores, lengths)
    if len(scores) < 3 or len(set(scores)) == 1 or len(set(lengths)) == 1:
        return None
    stats = scipy()
    found = stats.spearmanr(scores, lengths)
    interval, p_value = None, float(found.pvalue)
    ranks = stats.rankdata(scores), stats.rankdata(lengths)
    if len(scores) < 10:  # Student's t takes three in order for certain
        orders = partial(_correlation, ranks[1])
        p_value = float(stats.permutation_test(ranks[:1], orders, permutation_type="pairings", rng=seed).pvalue)
    else:
        low, high = stats.bootstrap(
            ranks, _correlation, paired=True, vectorized=True, method="percentile", confidence_level=confidence,
            n_resamples=2000, rng=seed,
        ).confidence_interval  # fmt: skip
        interval = (float(low), float(high)) if low < high else None
    return LengthBias(float(found.statistic), interval, p_value, len(scores))


def _correlation(a: Any, b: Any, axis: int = -1) -> Any:
    a, b = a - a.mean(axis=axis, keepdims=True), b - b.mean(axis=axis, keepdims=True)
    spread = ((a * a).sum(axis=axis) * (b * b).sum(axis=axis)) ** 0.5
    return (a * b).sum(axis=axis) / (spread + (spread == 0))  # a sample in which nothing varies: 0


class FamilyBias(NamedTuple):
    """The mean score of the judge's own family of models less that of others."""

    difference: float
    interval: Interval | None
    p_value: float
    #: The share of the scored that the judge's own family wrote.
    share: float
    own: int
    others: int


def family_bias(scores: Sequence[float], own: Sequence[bool], *, confidence: float = 0.95, seed: int = 0) -> FamilyBias | None:
    """`own[i]`: whether the judge's own family wrote what has score i. None where one side is empty. Raises InvalidInput."""
    if len(scores) != len(own):
        raise InvalidInput(f"scores and own must have the same length; found {len(scores)} and {len(own)}")
    mine = [s for s, o in zip(scores, own, strict=True) if o]
    others = [s for s, o in zip(scores, own, strict=True) if not o]
    if not mine or not others:
        return None
    found = unpaired_difference(others, mine, confidence=confidence, seed=seed)
    p_value = permutation_test(others, mine, paired=False, seed=seed)
    return FamilyBias(found.difference, found.interval, p_value, len(mine) / len(scores), len(mine), len(others))


class OrderBias(NamedTuple):
    """How often a verdict on two answers changes when they change places."""

    flips: int
    n: int
    rate: float
    #: Wilson's.
    interval: Interval
    #: Of the flipped verdicts, the share for the answer that stood first; 0.5 is no preference. None without a flip.
    first: float | None
    #: Of the binomial test that the place makes no difference.
    p_value: float


def order_bias(verdicts: Sequence[Hashable], swapped: Sequence[Hashable], *, confidence: float = 0.95) -> OrderBias | None:
    """`verdicts[i]`: "a", "b" or "tie" on a pair shown as a, b; `swapped[i]`: the same pair shown as b, a, in the same names. A
    verdict that is a tie once only is a flip that says nothing of places. None of no pair. Raises InvalidInput."""
    if len(verdicts) != len(swapped):
        raise InvalidInput(f"each pair has a verdict in both orders; found {len(verdicts)} and {len(swapped)}")
    for one in (*verdicts, *swapped):
        if one not in ("a", "b", "tie"):
            raise InvalidInput(f"a verdict is 'a', 'b' or 'tie', not {one!r}")
    flips = [(x, y) for x, y in zip(verdicts, swapped, strict=True) if x != y]
    found = rate_interval(len(flips), len(verdicts), confidence)
    if found is None:
        return None
    first, second = flips.count(("a", "b")), flips.count(("b", "a"))
    p_value = float(scipy().binomtest(first, first + second).pvalue) if first + second else 1.0
    share = first / (first + second) if first + second else None
    return OrderBias(len(flips), len(verdicts), found[0], found[1], share, p_value)
