"""What a store's trajectories earned, in figures: distributions with intervals, over time, by component, by what was done.

Read from the catalog, never from the trajectories themselves; where many are sealed, by columns out of the table `trajectories`.
Memory: 12 bytes per known reward and component, 20 per dated reward, 4 for each action, context, model and tag of a trajectory,
and a few hundred per task, group, name or tag. While the figures of a distribution are computed, each of its values takes 100
more. By columns, 110 bytes per trajectory.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol, Unpack, get_args

import msgspec

from ..cards import table
from ..clock import iso_time
from ..errors import InvalidInput
from ..store.backend import Backend
from ..store.filters import EVERY, FilterArgs, Filters
from .drawing import drawn_by, save
from .intervals import Interval, bounds_of
from .parts import Difference, Distribution, Part
from .passing import PassAt
from .patterns import differences
from .sums import NO_TIME, Gathered, Values

__all__ = ["BY", "Difference", "Distribution", "Interval", "Part", "PassAt", "Stats", "stats"]


class Source(Protocol):
    """What figures are read from: a `Store`."""

    @property
    def backend(self) -> Backend: ...


#: What figures can be told apart by.
By = Literal["group", "agent", "model", "status", "tag", "hour", "day", "policy_version"]
BY: tuple[By, ...] = get_args(By)
_SECOND = 1_000_000_000
_SPANS = [("minute", 60), ("hour", 3600), ("day", 86_400), ("week", 604_800), ("30 days", 2_592_000), ("year", 31_536_000)]
_BINS = 60
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


def stats(
    store: Source,
    by: By | None = None,
    *,
    confidence: float = 0.95,
    success: float | None = None,
    **filters: Unpack[FilterArgs],
) -> Stats:
    """Figures of the trajectories that the filters of `store.trajectories` choose. Unknown values are counted apart, not as 0.

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
    chosen, reader, found = Filters.of(filters), store.backend.reader, Gathered(by)
    columns = reader.columns() if by is None and chosen == EVERY else None
    if columns is not None:
        found.take(columns)
        del columns
    else:
        for some in reader.figures(chosen, by):
            found.add(some)
    rewards = found.whole.rewards
    bounds = bounds_of(rewards.known)
    if success is None:
        success = _success(rewards.known)
    span, over_time = _over_time(found.times, rewards, confidence, bounds)
    total = found.whole.part(None, confidence, bounds, success)
    return Stats(
        by=by,
        confidence=float(confidence),
        whole=total,
        parts=[
            sums.part(key, confidence, bounds, success) for key, sums in sorted(found.parts.items(), key=lambda p: _order(p[0]))
        ],
        components={
            name: total.reward if values.same(rewards) else values.distribution(confidence, bounds_of(values.known))
            for name, values in sorted(found.components.items())
        },
        over_time=over_time,
        span=span,
        differences=differences(rewards.known, rewards.tasks, found.seen, confidence, bounds),
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


def _over_time(
    times: array[int], rewards: Values, confidence: float, bounds: Interval | None
) -> tuple[str | None, list[tuple[int, Distribution]]]:
    at = bisect_right(times, NO_TIME)  # they ascend
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
