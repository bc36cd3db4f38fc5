"""What figures are computed of, as it is gathered: sums, and values for distributions, of all trajectories and of parts.

Fed with `Figures`, a page at a time, or with `Columns` at once: what is gathered is the same.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import chain, compress, repeat
from operator import ge, is_not
from typing import Any

from ..clock import iso_time
from ..codec import encode
from ..store.columnar import Columns
from ..store.figures import Figures
from .intervals import Interval, mean_interval
from .parts import Distribution, Part
from .passing import PassAt, pass_at_k

#: Of statuses with which a trajectory ended, whether it completed.
_COMPLETED: dict[str, float] = {"completed": 1.0, "failed": 0.0, "timeout": 0.0, "cancelled": 0.0, "truncated": 0.0}
#: Where times are compared, a time that is not known.
NO_TIME = -(2**63)


class Values:
    """Numbers as they come, the task of each, and how many are missing."""

    def __init__(self) -> None:
        self.known = array("d")
        self.tasks = array("i")
        self.null = 0

    def add(self, values: list[float | None], tasks: list[int]) -> None:
        known: list[Any] = values
        if None in values:
            known = [value for value in values if value is not None]
            tasks = [task for value, task in zip(values, tasks, strict=True) if value is not None]
        self.null += len(values) - len(known)
        self.known.extend(known)
        self.tasks.extend(tasks)

    def take(self, values: Any, tasks: Any) -> None:
        """Arrays of numpy, in which NaN is missing."""
        known = values == values
        self.null += len(values) - int(known.sum())
        _extend(self.known, values[known])
        _extend(self.tasks, tasks[known])

    def same(self, other: Values) -> bool:
        return self.null == other.null and _same(self.known, other.known) and _same(self.tasks, other.tasks)

    def distribution(self, confidence: float, bounds: Interval | None) -> Distribution:
        return Distribution.of(self.known, confidence, null=self.null, groups=self.tasks, bounds=bounds)

    def passing(self, success: float, confidence: float) -> list[PassAt]:
        counts = Counter(self.tasks)
        del counts[-1]
        if all(n < 2 for n in counts.values()):  # nothing was attempted twice
            return []
        successes = Counter(compress(self.tasks, map(ge, self.known, repeat(success))))
        return pass_at_k([(n, successes[task]) for task, n in counts.items()], confidence)


class Sums:
    """The sums of a part on their way."""

    def __init__(self) -> None:
        self.count = self.steps = self.llm_calls = self.actions = 0
        self.tokens: dict[str, int] = {}
        self.statuses: Counter[str] = Counter()
        self.rewards, self.completed = Values(), Values()

    def add(self, some: Figures, tasks: list[int], places: list[int] | None = None) -> None:
        """`places`: of which trajectories; else of all."""

        def of(column: list[Any]) -> list[Any]:
            return column if places is None else [column[n] for n in places]

        steps, status, tasks = of(some.steps), of(some.status), of(tasks)
        self.count += len(steps)
        self.steps += sum(steps)
        self.llm_calls += sum(of(some.llm_calls))
        self.actions += sum(of(some.actions))
        for name, values in (("prompt", of(some.prompt_tokens)), ("completion", of(some.completion_tokens))):
            known = values if None not in values else [value for value in values if value is not None]
            if known:
                self.tokens[name] = self.tokens.get(name, 0) + sum(known)
        self.statuses.update(status)
        self.rewards.add(of(some.reward), tasks)
        self.completed.add([*map(_COMPLETED.get, status)], tasks)

    def take(self, columns: Columns) -> None:
        import numpy as np

        self.count = len(columns.task)
        self.steps, self.llm_calls, self.actions = (columns.sums[name] for name in ("steps", "llm_calls", "actions"))
        tokens = {name: columns.sums.get(f"{name}_tokens") for name in ("prompt", "completion")}
        self.tokens = {name: value for name, value in tokens.items() if value is not None}
        status = columns.status % len(columns.statuses)
        counts = np.bincount(status, minlength=len(columns.statuses))
        there = sorted(np.flatnonzero(counts).tolist(), key=lambda n: int((status == n).argmax()))  # as they come
        self.statuses.update({columns.statuses[n]: int(counts[n]) for n in there})
        self.rewards.take(columns.reward, columns.task)
        ended = np.array([_COMPLETED.get(status, np.nan) for status in columns.statuses])
        self.completed.take(ended[status], columns.task)

    def part(self, key: str | None, confidence: float, bounds: Interval | None, success: float | None) -> Part:
        done = self.completed
        rate = mean_interval(done.known, confidence, groups=done.tasks, bounds=(0.0, 1.0))
        return Part(
            key=key,
            trajectories=self.count,
            steps=self.steps,
            llm_calls=self.llm_calls,
            actions=self.actions,
            prompt_tokens=self.tokens.get("prompt"),
            completion_tokens=self.tokens.get("completion"),
            statuses=dict(self.statuses.most_common()),
            completed_rate=rate.mean if rate else None,
            completed_interval=rate.interval if rate else None,
            reward=self.rewards.distribution(confidence, bounds),
            pass_at_k=[] if success is None else self.rewards.passing(success, confidence),
        )


class Gathered:
    """All that `stats` needs of trajectories. `by`: what they are told apart by."""

    def __init__(self, by: str | None) -> None:
        self.whole = Sums()
        self.parts: dict[str | None, Sums] = {}
        self.components: dict[str, Values] = {}
        #: When each trajectory whose reward is known began, in nanoseconds, in ascending order.
        self.times = array("q")
        #: (kind, name) -> the places among these of the trajectories with it.
        self.seen: dict[tuple[str, str], array[int]] = {}
        self._by = by
        self._tasks: dict[Any, int] = {None: -1}

    def add(self, some: Figures) -> None:
        """The next trajectories."""
        numbers = self._tasks
        tasks = [numbers.setdefault(task, len(numbers)) for task in some.task]
        self.whole.add(some, tasks)
        for key, places in _by(some, self._by).items():
            self.parts.setdefault(key, Sums()).add(some, tasks, places)
        for name, (places, values) in some.components.items():
            self.components.setdefault(name, Values()).add(values, [tasks[n] for n in places])
        for use, at in _uses(some, len(self.times)).items():
            self.seen.setdefault(use, array("I")).extend(at)
        started = some.started if None not in some.started else [NO_TIME if one is None else one for one in some.started]
        self.times.extend(_rewarded(some, started))

    def take(self, columns: Columns) -> None:
        """All trajectories."""
        import numpy as np

        self.whole.take(columns)
        for name, (places, values) in columns.components.items():
            self.components.setdefault(name, Values()).take(values, columns.task[places])
        known = columns.reward == columns.reward
        _extend(self.times, columns.started[known])
        label = columns.label[known]
        order, ends = np.argsort(label, kind="stable").astype("I"), np.bincount(label, minlength=len(columns.labels)).cumsum()
        found: dict[tuple[str, str], list[Any]] = {}
        for labels, at in zip(columns.labels, np.split(order, ends[:-1]), strict=True):
            for use in labels if len(at) else ():
                found.setdefault(use, []).append(at)
        for use, several in found.items():  # each ascends, which a stable sort makes use of
            self.seen[use] = array("I")
            _extend(self.seen[use], several[0] if len(several) == 1 else np.sort(np.concatenate(several), kind="stable"))


def _extend(known: array[Any], values: Any) -> None:
    """Adds the values of an array of numpy."""
    known.frombytes(memoryview(values.astype(known.typecode, copy=False)).cast("B"))


def _by(some: Figures, by: str | None) -> dict[str | None, list[int]]:
    """Which trajectories have each value of what figures are told apart by."""
    if by is None:
        return {}
    keys: Iterable[Iterable[Any]]
    if by == "tag":
        keys = [dict.fromkeys(tags) or (None,) for tags in some.tags]
    elif by in ("hour", "day"):
        times = [iso_time(started) or "" for started in some.started]
        keys = [((time[:10] if by == "day" else time[:13] + ":00Z" if time else "") or None,) for time in times]
    else:
        keys = [(key,) for key in (some.status if by == "status" else some.key)]
    found: dict[str | None, list[int]] = {}
    for n, several in enumerate(keys):
        for key in several:
            found.setdefault(key if key is None or isinstance(key, str) else encode(key).decode(), []).append(n)
    return found


def _rewarded(some: Figures, column: list[Any]) -> list[Any]:
    """The values of a column of the trajectories whose reward is known."""
    return column if None not in some.reward else [*compress(column, map(is_not, some.reward, repeat(None)))]


def _uses(some: Figures, start: int) -> dict[tuple[str, str], Iterable[int]]:
    """What was done, read, asked and tagged in rewarded trajectories, with their places in ascending order, of which `start`
    is the first: draws of a permutation test are the same then, however trajectories are stored."""
    uses, tags = _rewarded(some, some.uses), _rewarded(some, some.tags)
    which = [*zip(map(id, uses), map(id, tags), strict=True)]
    alike: dict[tuple[int, int], Any] = dict.fromkeys(which)
    if len(alike) == 1:
        alike = {which[0]: range(start, start + len(which))}
    else:
        alike = {one: [] for one in alike}
        for place, one in enumerate(which, start):
            alike[one].append(place)
    found: dict[tuple[str, str], list[Any]] = {}
    for places in alike.values():
        n = places[0] - start
        for use in {*uses[n], *(("tag", tag) for tag in tags[n])}:
            found.setdefault(use, []).append(places)
    return {use: several[0] if len(several) == 1 else sorted(chain(*several)) for use, several in found.items()}


def _same(one: array[Any], other: array[Any]) -> bool:
    """Whether two arrays are equal; the bytes are compared first, which is quicker."""
    return len(one) == len(other) and (memoryview(one).cast("B") == memoryview(other).cast("B") or one == other)
