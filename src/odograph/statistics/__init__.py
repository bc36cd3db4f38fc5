"""What a store's trajectories earned, in figures: distributions with intervals, over time, by component, by what was done.

Read from the catalog, never from the trajectories themselves. Memory: 12 bytes per known reward and component, 20 per dated
reward, 4 for each action, context, model and tag of a trajectory, and a few hundred per task, group, name or tag.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Unpack

import msgspec

from ..cards import table
from ..clock import iso_time
from ..codec import encode
from ..errors import InvalidInput
from ..store.filters import FilterArgs
from ..store.summary import Summary, Used
from .drawing import drawn_by, save
from .intervals import Interval, bounds_of, mean_interval
from .parts import Difference, Distribution, Part
from .passing import PassAt, pass_at_k
from .patterns import differences
from .tasks import Tasks

__all__ = ["BY", "Difference", "Distribution", "Interval", "Part", "PassAt", "Stats", "stats"]


class Source(Protocol):
    """What figures are read from: a `Store`."""

    def summaries(self, *, newest_first: bool = False, **filters: Unpack[FilterArgs]) -> Iterator[Summary]: ...
    def used(self, ids: list[str]) -> dict[str, Used]: ...


#: What figures can be told apart by.
BY = ("group", "agent", "model", "status", "tag", "hour", "day", "policy_version")
_ENDED = ("completed", "failed", "timeout", "cancelled", "truncated")
_BATCH = 100
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

    def add(self, value: float | None, task: int) -> None:
        if value is None:
            self.null += 1
        else:
            self.known.append(value)
            self.tasks.append(task)

    def distribution(self, confidence: float, bounds: Interval | None) -> Distribution:
        return Distribution.of(self.known, confidence, null=self.null, groups=self.tasks, bounds=bounds)

    def passing(self, success: float, confidence: float) -> list[PassAt]:
        counts: dict[int, list[int]] = {}
        for value, task in zip(self.known, self.tasks, strict=True):
            if task >= 0:
                count = counts.setdefault(task, [0, 0])
                count[0] += 1
                count[1] += value >= success
        if all(n < 2 for n, _ in counts.values()):  # nothing was attempted twice
            return []
        return pass_at_k([(n, c) for n, c in counts.values()], confidence)


class _Sums:
    """The sums of a part on their way."""

    def __init__(self) -> None:
        self.count = self.steps = self.llm_calls = self.actions = 0
        self.tokens: dict[str, int] = {}
        self.statuses: Counter[str] = Counter()
        self.rewards, self.completed = _Values(), _Values()

    def add(self, s: Summary, task: int) -> None:
        self.count += 1
        self.steps += s.steps
        self.llm_calls += s.llm_calls
        self.actions += s.actions
        for name, value in (("prompt", s.prompt_tokens), ("completion", s.completion_tokens)):
            if value is not None:
                self.tokens[name] = self.tokens.get(name, 0) + value
        self.statuses[s.status] += 1
        self.rewards.add(s.reward, task)
        if s.status in _ENDED:
            self.completed.add(float(s.status == "completed"), task)

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
    by: str | None = None,
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
    whole, tasks = _Sums(), Tasks()
    parts: dict[str | None, _Sums] = {}
    components: dict[str, _Values] = {}
    times = array("q")
    seen: dict[tuple[str, str], array[int]] = {}
    found = store.summaries(**filters)
    while batch := list(islice(found, _BATCH)):
        used = store.used([s.id for s in batch])
        for s in batch:
            task = tasks.of(s)
            whole.add(s, task)
            for key in _keys(s, by):
                parts.setdefault(key, _Sums()).add(s, task)
            about = used.get(s.id)
            for name, value in about.components.items() if about else ():
                components.setdefault(name, _Values()).add(value, task)
            if s.reward is None:
                continue
            times.append(_NO_TIME if s.started is None else s.started)
            for use in {*(about.uses if about else ()), *(("tag", tag) for tag in s.tags)}:
                seen.setdefault(use, array("I")).append(len(times) - 1)
    rewards = whole.rewards
    bounds = bounds_of(rewards.known)
    if success is None:
        success = _success(rewards.known)
    span, over_time = _over_time(times, rewards, confidence, bounds)
    return Stats(
        by=by,
        confidence=float(confidence),
        whole=whole.part(None, confidence, bounds, success),
        parts=[sums.part(key, confidence, bounds, success) for key, sums in sorted(parts.items(), key=lambda p: _order(p[0]))],
        components={
            name: values.distribution(confidence, bounds_of(values.known)) for name, values in sorted(components.items())
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


def _keys(s: Summary, by: str | None) -> Iterable[str | None]:
    if by is None:
        return ()
    if by == "tag":
        return list(dict.fromkeys(s.tags)) or [None]
    if by in ("hour", "day"):
        time = iso_time(s.started) or ""
        return [(time[:10] if by == "day" else time[:13] + ":00Z" if time else "") or None]
    value = getattr(s, by)
    return [value if value is None or isinstance(value, str) else encode(value).decode()]


def _over_time(
    times: array[int], rewards: _Values, confidence: float, bounds: Interval | None
) -> tuple[str | None, list[tuple[int, Distribution]]]:
    dated = [time for time in times if time != _NO_TIME]
    if not dated:
        return None, []
    first, last = min(dated), max(dated)
    name, seconds = next((s for s in _SPANS if (last - first) / _SECOND / s[1] <= _BINS), _SPANS[-1])
    bins: dict[int, _Values] = {}
    for time, reward, task in zip(times, rewards.known, rewards.tasks, strict=True):
        if time != _NO_TIME:
            bins.setdefault(time // (seconds * _SECOND), _Values()).add(reward, task)
    return name, [(n * seconds * _SECOND, values.distribution(confidence, bounds)) for n, values in sorted(bins.items())]
