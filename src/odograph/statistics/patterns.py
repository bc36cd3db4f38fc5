"""What goes with high and low reward: trajectories with something against those without it, compared within tasks.

That one task is harder than another is no finding: only attempts of one task are compared, and the differences are pooled with
the weights of Mantel and Haenszel (1959). Tests permute rewards within tasks (Pitman 1937), so that the stated error rate also
holds for rare successes and few trajectories. Knows numbers and names, no store.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import msgspec

from .intervals import Interval, t_outside, t_quantile
from .parts import Difference

_FEWEST = 5  # trajectories on either side of a comparison
_MOST_DRAWN = 400_000  # rewards that one permutation test draws; more of them are near enough to normal
_FEWEST_DRAWS = 1999  # permutations, for a p-value that can be corrected again
_ENOUGH = 10  # permutations that differ at least as much; the test can stop (Besag and Clifford 1991)
_SHARE = 0.2  # of a sum's deviation, what one reward may be off its mean, for a sum that is near enough to normal
_UNLIKELY = 0.05  # a p-value that is looked at once more, where the sum is not
_OF_UNEVEN = 4  # times as many rewards may be drawn then
_NORMAL = 25.0  # the variance from which a count of successes is near enough to normal


class _Task:
    """The rewards of one task, their mean, and the sum of their squared deviations from it."""

    __slots__ = ("mean", "n", "spread", "values")

    def __init__(self, values: array[float]) -> None:
        self.values = values
        self.n = len(values)
        self.mean = math.fsum(v / self.n for v in values)
        self.spread = math.fsum((v - self.mean) ** 2 for v in values)


def differences(
    rewards: Sequence[float],
    tasks: Sequence[int],
    seen: Mapping[tuple[str, str], Sequence[int]],
    confidence: float,
    bounds: Interval | None,
) -> list[Difference]:
    """The difference of each thing that was seen: those that stand out first, then by size.

    `tasks[i]` is the task of reward i; a negative number is a task of its own. Rewards of tasks with a single reward are compared
    with each other. `seen`: (kind, name) -> the places of the rewards of trajectories with it.
    """
    n = len(rewards)
    compared = {use: at for use, at in seen.items() if min(len(at), n - len(at)) >= _FEWEST}
    if not compared:
        return []
    by_task: dict[int, array[float]] = {}
    for value, task in zip(rewards, tasks, strict=True):
        by_task.setdefault(task, array("d")).append(value)
    alone = by_task.pop(-1, array("d"))
    for task in [task for task, values in by_task.items() if len(values) == 1]:
        alone += by_task.pop(task)
    if alone:
        by_task[-1] = alone
    try:
        strata = {task: _Task(values) for task, values in by_task.items()}
    except OverflowError:  # rewards near the end of what floats hold
        return []
    total = math.fsum(rewards)
    found: list[tuple[Difference, _Sides]] = []
    for (kind, name), at in compared.items():
        having = math.fsum(rewards[i] for i in at)
        sides = _Sides(strata, ((tasks[i] if tasks[i] in strata else -1, rewards[i]) for i in at))
        mean_with, mean_without = having / len(at), (total - having) / (n - len(at))
        told = Difference(
            kind=kind,
            name=name,
            n_with=len(at),
            n_without=n - len(at),
            mean_with=mean_with,
            mean_without=mean_without,
            difference=sides.difference if sides.enough else mean_with - mean_without,
            tasks=len(sides.tasks) if sides.enough else 0,
        )
        if math.isfinite(told.difference) and math.isfinite(mean_with - mean_without):
            found.append((told, sides))
    tested = sum(sides.enough for _, sides in found)
    done = [sides.tested(told, confidence, tested, bounds) if sides.enough else told for told, sides in found]
    return sorted(done, key=lambda d: (not d.stands_out, -abs(d.difference), d.kind, d.name))


class _Sides:
    """Rewards with something and without it, in those tasks in which there are both."""

    def __init__(self, strata: Mapping[int, _Task], having: Iterable[tuple[int, float]]) -> None:
        found: dict[int, array[float]] = {}
        for number, value in having:
            found.setdefault(number, array("d")).append(value)
        self.tasks = [(strata[number], values) for number, values in found.items() if len(values) < strata[number].n]
        n, n_with = sum(task.n for task, _ in self.tasks), sum(len(values) for _, values in self.tasks)
        self.enough = min(n_with, n - n_with) >= _FEWEST
        #: Degrees of freedom of the correlation within tasks.
        self.freedom = max(1, n - len(self.tasks) - 1)
        weights = excess = pooled = apart = 0.0
        for task, values in self.tasks:
            with_it, without, earned = len(values), task.n - len(values), math.fsum(values)
            mean, rest = earned / with_it, (task.mean * task.n - earned) / without
            spread = math.fsum((v - mean) ** 2 for v in values)
            others = max(0.0, task.spread - spread - with_it * without / task.n * (mean - rest) ** 2)
            weight = with_it * without / task.n
            permuted = weight * task.spread / (task.n - 1)
            weights += weight
            excess += weight * (mean - rest)
            pooled += permuted
            welch = min(with_it, without) > 1
            apart += weight**2 * (spread / (with_it - 1) / with_it + others / (without - 1) / without) if welch else permuted
        #: By how much the rewards with it are more, in sum, than their tasks' means; and its variance where rewards are permuted.
        self.excess, self.variance = excess, pooled
        self.difference = excess / weights if weights else 0.0
        self.error = math.sqrt(max(apart, pooled)) / weights if weights else 0.0

    def tested(self, told: Difference, confidence: float, tested: int, bounds: Interval | None) -> Difference:
        error = (1.0 - confidence) / tested
        p_value = self._p_value(error)
        interval, corrected = self._interval(confidence, bounds), self._interval(1.0 - error, bounds)
        sure = corrected is not None and not corrected[0] <= 0.0 <= corrected[1]
        return msgspec.structs.replace(
            told, interval=interval, corrected=corrected, p_value=p_value, stands_out=sure and p_value <= error
        )

    def _interval(self, confidence: float, bounds: Interval | None) -> Interval | None:
        """By the larger of both variances, of the sides apart (Welch) and of all rewards of a task; None where nothing varies."""
        if not 0.0 < self.error < math.inf:
            return None
        half = t_quantile(self.freedom, confidence) * self.error
        most = bounds[1] - bounds[0] if bounds else math.inf
        return max(-most, self.difference - half), min(most, self.difference + half)

    def _p_value(self, wanted: float) -> float:
        """How often rewards that are permuted within tasks differ at least as much; exact where it can be near `wanted`."""
        if not 0.0 < self.variance < math.inf:
            return 1.0
        values = _few({v for task, _ in self.tasks for v in _few(dict.fromkeys(task.values))})
        if len(values) == 2:
            if self.variance < _NORMAL * (max(values) - min(values)) ** 2:
                return self._exact(max(values))
            least = max(0.0, abs(self.excess) - (max(values) - min(values)) / 2)  # a count's steps
            return math.erfc(least / math.sqrt(2 * self.variance))
        draws = max(_FEWEST_DRAWS, math.ceil(4 / wanted))
        size = sum(min(len(having), task.n - len(having)) for task, having in self.tasks)
        if draws * size > _MOST_DRAWN:
            square = min(self.excess**2 / self.variance, (self.freedom + 1) * (1 - 1e-12))
            near = t_outside(math.sqrt(square * self.freedom / (self.freedom + 1 - square)), self.freedom)
            if near > _UNLIKELY or self._even():
                return near
            draws = min(draws, max(1, _OF_UNEVEN * _MOST_DRAWN // size))  # of too many to draw, nothing is sure
        return self._permuted(draws)

    def _even(self) -> bool:
        """Whether no single reward decides the sum: then the sum is near enough to normal, far out too."""
        most = max(max(max(task.values) - task.mean, task.mean - min(task.values)) for task, _ in self.tasks)
        return most <= _SHARE * math.sqrt(self.variance)

    def _exact(self, high: float) -> float:
        """Fisher's test over several tasks: the distribution of a sum of hypergeometric numbers."""
        chances, seen = [1.0], 0
        for task, having in self.tasks:
            hits, size = task.values.count(high), len(having)
            least, most = max(0, hits + size - task.n), min(hits, size)
            seen += sum(v == high for v in having) - least
            of = [
                math.exp(_choices(hits, k) + _choices(task.n - hits, size - k) - _choices(task.n, size))
                for k in range(least, most + 1)
            ]
            sums = [0.0] * (len(chances) + len(of) - 1)
            for i, a in enumerate(chances):
                if a > 1e-30:
                    for j, b in enumerate(of):
                        sums[i + j] += a * b
            chances = sums
        return min(1.0, math.fsum(p for p in chances if p <= chances[seen] * (1 + 1e-7)))

    def _permuted(self, draws: int) -> float:
        chance = random.Random(0)  # figures are the same each time
        least = abs(self.excess) * (1 - 1e-9)
        sides = [
            (task.values, task.mean, min(len(v), task.n - len(v)), 1 if 2 * len(v) <= task.n else -1) for task, v in self.tasks
        ]
        as_far = 0
        for done in range(1, draws + 1):
            moved = math.fsum(sign * (sum(chance.sample(values, size)) - mean * size) for values, mean, size, sign in sides)
            as_far += abs(moved) >= least
            if as_far == _ENOUGH:
                return as_far / done
        return (as_far + 1) / (draws + 1)


def _few(values: Iterable[float]) -> list[float]:
    """Three of them at most: enough to know whether there are two."""
    return list(islice(values, 3))


def _choices(n: int, k: int) -> float:
    """The logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
