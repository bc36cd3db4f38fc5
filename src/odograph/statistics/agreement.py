"""How far several judgements of the same things agree, and how well scores are calibrated. Numbers and labels in, numbers out.

Sources. Kappa: Cohen 1960, weighted: 1968; Fleiss 1971. Alpha: K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.
Calibration: Brier 1950; expected calibration error: Naeini, Cooper and Hauskrecht 2015.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from ..errors import InvalidInput
from .intervals import check_known

Level = Literal["nominal", "ordinal", "interval"]
Weights = Literal["linear", "quadratic"]


def krippendorff_alpha(units: Sequence[Sequence[Any]], level: Level = "interval") -> float | None:
    """Krippendorff's alpha: 1 is perfect agreement, 0 that of chance. `units[i]`: the values given to thing i, None (or NaN)
    is none given.

    `level`: what values say: "nominal" which, "ordinal" also which is more, "interval" also how much more. Things with fewer
    than two values are left out; None where nothing is left or all values are the same. Raises InvalidInput.
    """
    if level not in ("nominal", "ordinal", "interval"):
        raise InvalidInput(f"no level {level!r}; there are: nominal, ordinal, interval")
    pairable = [given for unit in units if len(given := [v for v in unit if _is_given(v)]) > 1]
    every = Counter(v for unit in pairable for v in unit)
    n = every.total()
    if len(every) < 2:
        return None
    if level == "interval":
        check_known(every)
        # sums in place of pairs: there can be as many distinct values as values
        mean = sum(v * count for v, count in every.items()) / n
        expected = 2 * n * sum((v - mean) ** 2 * count for v, count in every.items()) / (n * (n - 1))
        observed = sum(2 * _squares(u) * len(u) / (len(u) - 1) for u in pairable) / n
        return float(1 - observed / expected)
    apart = _distances(every, level)
    expected = sum(a * b * apart(v, w) for v, a in every.items() for w, b in every.items()) / (n * (n - 1))
    observed = 0.0
    for unit in pairable:
        counts = Counter(unit)
        pairs = sum(a * b * apart(v, w) for v, a in counts.items() for w, b in counts.items())
        observed += pairs / (len(unit) - 1) / n
    return 1 - observed / expected


def _is_given(value: Any) -> bool:
    """Whether a judge said something; NaN is how a column of numbers says nothing."""
    return value is not None and value == value


def _squares(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values)


def _distances(every: Counter[Any], level: Level) -> Callable[[Any, Any], float]:
    if level == "nominal":
        return lambda v, w: float(v != w)
    below, place = 0.0, {}  # of each value the middle of its ranks
    for value in sorted(every):
        place[value] = below + every[value] / 2
        below += every[value]
    return lambda v, w: float((place[v] - place[w]) ** 2)


def mean_absolute_deviation(values: Sequence[float]) -> float:
    """The mean distance of values from their mean; 0 for one."""
    mean = fmean(values)
    return fmean(abs(v - mean) for v in values)


class Confusion(NamedTuple):
    """How often one judge said the label of a row where the other said that of a column."""

    labels: list[Any]
    counts: list[list[int]]


def confusion(a: Sequence[Hashable], b: Sequence[Hashable], labels: Sequence[Hashable] | None = None) -> Confusion:
    """Of the labels that two judges gave to the same things, in this order. `labels`: all there are, in their order; else those
    that occur, sorted. Raises InvalidInput where the lists differ in length, where a label is None, or is not among `labels`."""
    _same_length(a, b)
    if labels is None:
        _check_given((*a, *b))
    known = list(labels) if labels is not None else _ordered({*a, *b})
    place = {label: i for i, label in enumerate(known)}
    counts = [[0] * len(known) for _ in known]
    for x, y in zip(a, b, strict=True):
        if x not in place or y not in place:
            raise InvalidInput(f"{(x if x not in place else y)!r} is not one of the labels {known}")
        counts[place[x]][place[y]] += 1
    return Confusion(known, counts)


def _check_given(labels: Sequence[Hashable]) -> None:
    if not all(map(_is_given, labels)):
        raise InvalidInput("a thing has no label of one judge; leave the thing out, or use krippendorff_alpha, which takes None")


def _ordered(labels: set[Any]) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:  # of several types
        return sorted(labels, key=lambda v: (type(v).__name__, repr(v)))


def cohen_kappa(
    a: Sequence[Hashable], b: Sequence[Hashable], *, weights: Weights | None = None, labels: Sequence[Hashable] | None = None
) -> float | None:
    """Cohen's kappa of two judges: 1 is perfect agreement, 0 that of chance; None where both gave one and the same label only.

    `weights`: how much a disagreement counts, by the distance of the labels in their order: "linear", "quadratic"; by default
    all the same. Raises InvalidInput.
    """
    if weights not in (None, "linear", "quadratic"):
        raise InvalidInput(f"no weights {weights!r}; there are: linear, quadratic")
    known, counts = confusion(a, b, labels)
    n, size = len(a), range(len(known))
    rows, columns = [sum(row) for row in counts], [sum(row[j] for row in counts) for j in size]

    def cost(i: int, j: int) -> int:
        return abs(i - j) if weights == "linear" else (i - j) ** 2 if weights == "quadratic" else int(i != j)

    expected = sum(cost(i, j) * rows[i] * columns[j] for i in size for j in size) / n if n else 0.0
    observed = sum(cost(i, j) * counts[i][j] for i in size for j in size)
    return 1 - observed / expected if expected else None


def fleiss_kappa(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Fleiss' kappa of several judges: `units[i]` are the labels given to thing i, as many for each. None where one label is all
    there is. Raises InvalidInput."""
    judges = {len(unit) for unit in units}
    if len(judges) != 1 or min(judges) < 2:
        raise InvalidInput(f"Fleiss' kappa is of things with the same number of labels, two at least; found {sorted(judges)}")
    each = judges.pop()
    _check_given([label for unit in units for label in unit])
    counts = [Counter(unit) for unit in units]
    every = sum(counts, Counter[Hashable]())
    expected = sum((count / every.total()) ** 2 for count in every.values())
    observed = fmean((sum(c * c for c in count.values()) - each) / (each * (each - 1)) for count in counts)
    return (observed - expected) / (1 - expected) if len(every) > 1 else None


class Bin(NamedTuple):
    """Scores of one range: how many, their mean, and the share of them that came true."""

    n: int
    score: float
    share: float


def calibration(scores: Sequence[float], outcomes: Sequence[bool | int], bins: int = 10) -> list[Bin]:
    """Scores from 0 to 1 in ranges of equal width, against what came true; without ranges in which nothing is. Raises
    InvalidInput."""
    _same_length(scores, outcomes)
    _check_outcomes(scores, outcomes)
    if bins < 1:
        raise InvalidInput(f"bins is 1 or more, not {bins!r}")
    found: dict[int, list[tuple[float, float]]] = {}
    for score, outcome in zip(scores, outcomes, strict=True):
        found.setdefault(min(int(score * bins), bins - 1), []).append((score, float(outcome)))
    return [Bin(len(of), fmean(s for s, _ in of), fmean(o for _, o in of)) for _, of in sorted(found.items())]


def expected_calibration_error(scores: Sequence[float], outcomes: Sequence[bool | int], bins: int = 10) -> float | None:
    """The mean distance of scores from the share that came true, over ranges of equal width, by how many are in each. 0 is
    best."""
    found = calibration(scores, outcomes, bins)
    return sum(b.n * abs(b.score - b.share) for b in found) / len(scores) if found else None


def brier_score(scores: Sequence[float], outcomes: Sequence[bool | int]) -> float | None:
    """The mean squared distance of scores from what came true. 0 is best, 0.25 what always saying 0.5 gets. Raises
    InvalidInput."""
    _same_length(scores, outcomes)
    _check_outcomes(scores, outcomes)
    return fmean((score - outcome) ** 2 for score, outcome in zip(scores, outcomes, strict=True)) if scores else None


def _check_outcomes(scores: Sequence[float], outcomes: Sequence[bool | int]) -> None:
    check_known(scores)
    for score, outcome in zip(scores, outcomes, strict=True):
        if not 0.0 <= score <= 1.0 or outcome not in (0, 1):
            raise InvalidInput(f"a score is from 0 to 1 and an outcome 0 or 1, not {score!r} and {outcome!r}")


def _same_length(a: Sequence[Any], b: Sequence[Any]) -> None:
    if len(a) != len(b):
        raise InvalidInput(f"two lists of the same things are of one length; found {len(a)} and {len(b)}")
