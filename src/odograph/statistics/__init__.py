"""What a store's trajectories earned, in figures: distributions with intervals, over time, by component, by what was done.

Read from the catalog, never from the trajectories themselves. Memory: 12 bytes per known reward and component, 20 per dated
reward, 4 for each action, context, model and tag of a trajectory, and a few hundred per task, group, name or tag. While the
figures of a distribution are computed, each of its values takes 150 more.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from itertools import chain, compress, repeat
from operator import ge, is_not
from pathlib import Path
from typing import Any, Literal, Protocol, Unpack, get_args

import msgspec

from ..cards import table
from ..clock import iso_time
from ..codec import encode
from ..errors import InvalidInput
from ..store.backend import Backend
from ..store.figures import Figures
from ..store.filters import FilterArgs, Filters
from .drawing import drawn_by, save
from .intervals import Interval, bounds_of, mean_interval
from .parts import Difference, Distribution, Part
from .passing import PassAt, pass_at_k
from .patterns import differences

__all__ = ["BY", "Difference", "Distribution", "Interval", "Part", "PassAt", "Stats", "stats"]


class Source(Protocol):
    """What figures are read from: a `Store`."""

    @property
    def backend(self) -> Backend: ...


#: What figures can be told apart by.
By = Literal["group", "agent", "model", "status", "tag", "hour", "day", "policy_version"]
BY: tuple[By, ...] = get_args(By)
#: Of statuses with which a trajectory ended, whether it completed.
_COMPLETED: dict[str, float] = {"completed": 1.0, "failed": 0.0, "timeout": 0.0, "cancelled": 0.0, "truncated": 0.0}
_SECOND = 1_000_000_000
_SPANS = [("minute", 60), ("hour", 3600), ("day", 86_400), ("week", 604_800), ("30 days", 2_592_000), ("year", 31_536_000)]
_BINS = 60
_NO_TIME = -(2**63)
_DIGITS = re.compile(r"(\d+)")

METHODS = {
    "reward_interval": "named in reward_method; by group: attempts of one task (its group, else its task) are not independent",
    "completed_interval": "Wilson score of the share, by group where tasks were attempted several times",
    "difference": "mean reward with less mean reward without, within tasks, Mantel-Haenszel weights; Student t interval",
    "p_value": "rewards permuted within tasks; Fisher's exact test for two-valued rewards",
    "corrected": "the interval for all differences at once, Bonferroni",
    "pass_at_k": "1 - C(n - c, k) / C(n, k) of each task with k attempts at least, the mean over tasks; interval over tasks",
    "quantiles": "linear between order statistics",
    "reward_std": "of the sample (n - 1)",
}


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What `stats` found."""

    by: str | None
    confidence: float
    whole: Part
    parts: list[Part]
    #: Each named reward's value per trajectory, before its weight.
    components: dict[str, Distribution]
    #: (start of the span in nanoseconds, rewards of what began in it), without spans in which nothing did.
    over_time: list[tuple[int, Distribution]]
    #: How long those spans are: "hour", "day", ...
    span: str | None
    #: Those that stand out first, then by size.
    differences: list[Difference]

    def _repr_html_(self) -> str:
        """What a notebook shows of figures."""
        rows = []
        for part in (self.whole, *self.parts):
            low, high = part.reward.interval or (None, None)
            interval = "" if low is None else f"{low:.4g} to {high:.4g}"
            mean = "" if part.reward.mean is None else f"{part.reward.mean:.4g}"
            rows.append(["all" if part is self.whole else part.key, part.trajectories, part.reward.n, mean, interval])
        return table([self.by or "", "trajectories", "rewarded", "mean reward", f"{self.confidence:.0%} interval"], rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what `odograph stats --json` prints."""
        return {
            **self.whole.to_dict(),
            "by": self.by,
            "parts": [{"key": p.key, **p.to_dict()} for p in self.parts],
            "confidence": self.confidence,
            "methods": METHODS,
            "components": {name: msgspec.structs.asdict(d) for name, d in self.components.items()},
            "span": self.span,
            "over_time": [{"from": iso_time(start), **msgspec.structs.asdict(d)} for start, d in self.over_time],
            "differences": [msgspec.structs.asdict(d) for d in self.differences],
        }

    def figure(self) -> Any:
        """A `matplotlib.figure.Figure`: rewards over time, by part, by component, and with and without what was done.

        Raises MissingExtra (extra `plot`).
        """
        return drawn_by("plot")(self)

    def plot(self, path: str | Path) -> None:
        """Draws `figure()` into a file: png, svg or pdf, by its suffix. Raises InvalidInput, MissingExtra, OSError."""
        save(self.figure, path)


class _Values:
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

    def same(self, other: _Values) -> bool:
        return self.null == other.null and self.known == other.known and self.tasks == other.tasks

    def distribution(self, confidence: float, bounds: Interval | None) -> Distribution:
        return Distribution.of(self.known, confidence, null=self.null, groups=self.tasks, bounds=bounds)

    def passing(self, success: float, confidence: float) -> list[PassAt]:
        counts = Counter(self.tasks)
        del counts[-1]
        if all(n < 2 for n in counts.values()):  # nothing was attempted twice
            return []
        successes = Counter(compress(self.tasks, map(ge, self.known, repeat(success))))
        return pass_at_k([(n, successes[task]) for task, n in counts.items()], confidence)


class _Sums:
    """The sums of a part on their way."""

    def __init__(self) -> None:
        self.count = self.steps = self.llm_calls = self.actions = 0
        self.tokens: dict[str, int] = {}
        self.statuses: Counter[str] = Counter()
        self.rewards, self.completed = _Values(), _Values()

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


def stats(
    store: Source,
    by: By | None = None,
    *,
    confidence: float = 0.95,
    success: float | None = None,
    **filters: Unpack[FilterArgs],
) -> Stats:
    """Figures of the trajectories that the filters of `store.trajectories` choose; what is not known is counted apart, not as 0.

    `by`: group, agent, model, status, tag, hour, day or policy_version: figures for each (a trajectory with two tags is in
    both). `confidence`: of all intervals. `success`: the reward from which a trajectory counts as a success, for pass@k; by
    default the higher one where rewards have two values only. The methods are in `to_dict()["methods"]`. Raises InvalidInput.
    """
    if by is not None and by not in BY:
        raise InvalidInput(f"no figures by {by!r}; there are: {', '.join(BY)}")
    if not isinstance(confidence, (int, float)) or not 0.0 < confidence < 1.0:
        raise InvalidInput(f"confidence is between 0 and 1, such as 0.95, not {confidence!r}")
    if success is not None and (isinstance(success, bool) or not isinstance(success, int | float) or not math.isfinite(success)):
        raise InvalidInput(f"success is the reward from which a trajectory is one, a number, not {success!r}")
    whole = _Sums()
    numbers: dict[Any, int] = {None: -1}
    parts: dict[str | None, _Sums] = {}
    components: dict[str, _Values] = {}
    times = array("q")
    seen: dict[tuple[str, str], array[int]] = {}
    for some in store.backend.reader.figures(Filters.of(filters), by):
        tasks = [numbers.setdefault(task, len(numbers)) for task in some.task]
        whole.add(some, tasks)
        for key, places in _by(some, by).items():
            parts.setdefault(key, _Sums()).add(some, tasks, places)
        for name, (places, values) in some.components.items():
            components.setdefault(name, _Values()).add(values, [tasks[n] for n in places])
        for use, at in _uses(some, len(times)).items():
            seen.setdefault(use, array("I")).extend(at)
        started = some.started if None not in some.started else [_NO_TIME if one is None else one for one in some.started]
        times.extend(_rewarded(some, started))
    rewards = whole.rewards
    bounds = bounds_of(rewards.known)
    if success is None:
        success = _success(rewards.known)
    span, over_time = _over_time(times, rewards, confidence, bounds)
    total = whole.part(None, confidence, bounds, success)
    return Stats(
        by=by,
        confidence=float(confidence),
        whole=total,
        parts=[sums.part(key, confidence, bounds, success) for key, sums in sorted(parts.items(), key=lambda p: _order(p[0]))],
        components={
            name: total.reward if values.same(rewards) else values.distribution(confidence, bounds_of(values.known))
            for name, values in sorted(components.items())
        },
        over_time=over_time,
        span=span,
        differences=differences(rewards.known, rewards.tasks, seen, confidence, bounds),
    )


def _order(key: str | None) -> tuple[Any, ...]:
    """Numbers in names by their size, so that version 10 comes after version 9; what has no key comes last."""
    return (key is None, [(not part.isdecimal(), int(part) if part.isdecimal() else part) for part in _DIGITS.split(key or "")])


def _success(rewards: Iterable[float]) -> float | None:
    """The reward of a success, where rewards are two-valued."""
    values: set[float] = set()
    for value in rewards:
        values.add(value)
        if len(values) > 2:
            return None
    return 1.0 if values <= {0.0, 1.0} else max(values) if len(values) == 2 else None


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


def _over_time(
    times: array[int], rewards: _Values, confidence: float, bounds: Interval | None
) -> tuple[str | None, list[tuple[int, Distribution]]]:
    at = bisect_right(times, _NO_TIME)  # they ascend
    if at == len(times):
        return None, []
    first, last = times[at], times[-1]
    name, seconds = next((s for s in _SPANS if (last - first) / _SECOND / s[1] <= _BINS), _SPANS[-1])
    width, found = seconds * _SECOND, []
    while at < len(times):
        begin = times[at] // width * width
        stop = bisect_left(times, begin + width, at)
        values, tasks = rewards.known[at:stop], rewards.tasks[at:stop]
        found.append((begin, Distribution.of(values, confidence, groups=tasks, bounds=bounds)))
        at = stop
    return name, found
