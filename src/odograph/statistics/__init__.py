"""What a store's trajectories earned, in figures: distributions with intervals, over time, by component, by what was done.

Read from the catalog, never from the trajectories themselves. Memory: 8 bytes per known reward and component, 16 per dated
reward, and a few hundred per group, name or tag that is told apart.
"""

from __future__ import annotations

import math
import warnings
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Unpack

import msgspec

from ..clock import iso_time
from ..codec import encode
from ..errors import InvalidInput, MissingExtra
from ..store.catalog import Summary, Used
from ..store.filters import FilterArgs
from .intervals import Interval, mean_interval, quantile, rate_interval, welch_interval
from .parts import Difference, Distribution, Part

__all__ = ["BY", "Difference", "Distribution", "Interval", "Part", "Stats", "stats"]


class Source(Protocol):
    """What figures are read from: a `Store`."""

    def summaries(self, *, newest_first: bool = False, **filters: Unpack[FilterArgs]) -> Iterator[Summary]: ...
    def used(self, ids: list[str]) -> dict[str, Used]: ...


#: What figures can be told apart by.
BY = ("group", "agent", "model", "status", "tag", "hour", "day", "policy_version")
_ENDED = ("completed", "failed", "timeout", "cancelled", "truncated")
_BATCH = 100
_FEWEST = 5  # trajectories on either side of a comparison
_SECOND = 1_000_000_000
_SPANS = [("minute", 60), ("hour", 3600), ("day", 86_400), ("week", 604_800), ("30 days", 2_592_000), ("year", 31_536_000)]
_BINS = 60
_QUANTILES = {"min": 0.0, "q10": 0.1, "q25": 0.25, "median": 0.5, "q75": 0.75, "q90": 0.9, "max": 1.0}

METHODS = {
    "reward_interval": "Student t of the mean, trajectories taken as independent",
    "completed_interval": "Wilson score of the share",
    "difference": "mean reward with less mean reward without, Welch's t interval",
    "corrected": "the same for all differences at once, Bonferroni",
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
            "differences": [{**msgspec.structs.asdict(d), "stands_out": d.stands_out} for d in self.differences],
        }

    def figure(self) -> Any:
        """A `matplotlib.figure.Figure`: rewards over time, by part, by component, and with and without what was done.

        Raises MissingExtra (extra `plot`).
        """
        try:
            from .plot import figure
        except ImportError:
            raise MissingExtra("a picture of statistics", "plot") from None
        return figure(self)

    def plot(self, path: str | Path) -> None:
        """Draws `figure()` into a file: png, svg or pdf, by its suffix. Raises InvalidInput, MissingExtra, OSError."""
        suffix = Path(path).suffix
        if suffix not in (".png", ".svg", ".pdf"):
            raise InvalidInput(f"a picture is a .png, .svg or .pdf file, not {str(path)!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names in alphabets that the font lacks are drawn as boxes
            try:
                self.figure().savefig(path)
            except (ValueError, OverflowError) as error:  # rewards near the end of what floats hold
                raise InvalidInput(f"no picture can be drawn of rewards of this size: {error}") from None


class _Values:
    """Numbers as they come, and how many are missing."""

    def __init__(self) -> None:
        self.known = array("d")
        self.null = 0

    def add(self, value: float | None) -> None:
        if value is None:
            self.null += 1
        else:
            self.known.append(value)

    def distribution(self, confidence: float) -> Distribution:
        found = mean_interval(self.known, confidence)
        if found is None:
            return Distribution(n=0, null=self.null)
        mean, std, interval = found
        ordered = sorted(self.known)
        quantiles = {name: quantile(ordered, at) for name, at in _QUANTILES.items()}
        return Distribution(n=len(ordered), null=self.null, mean=mean, std=std, interval=interval, **quantiles)


class _Sums:
    """The sums of a part on their way."""

    def __init__(self) -> None:
        self.count = self.steps = self.llm_calls = self.actions = 0
        self.tokens: dict[str, int] = {}
        self.statuses: Counter[str] = Counter()
        self.rewards = _Values()

    def add(self, s: Summary) -> None:
        self.count += 1
        self.steps += s.steps
        self.llm_calls += s.llm_calls
        self.actions += s.actions
        for name, value in (("prompt", s.prompt_tokens), ("completion", s.completion_tokens)):
            if value is not None:
                self.tokens[name] = self.tokens.get(name, 0) + value
        self.statuses[s.status] += 1
        self.rewards.add(s.reward)

    def part(self, key: str | None, confidence: float) -> Part:
        ended = sum(self.statuses[name] for name in _ENDED)
        rate = rate_interval(self.statuses["completed"], ended, confidence)
        return Part(
            key=key,
            trajectories=self.count,
            steps=self.steps,
            llm_calls=self.llm_calls,
            actions=self.actions,
            prompt_tokens=self.tokens.get("prompt"),
            completion_tokens=self.tokens.get("completion"),
            statuses=dict(self.statuses.most_common()),
            completed_rate=rate[0] if rate else None,
            completed_interval=rate[1] if rate else None,
            reward=self.rewards.distribution(confidence),
        )


class _Moments:
    """Count, mean and sum of squared deviations of numbers that are not kept (Welford)."""

    __slots__ = ("mean", "n", "spread")

    def __init__(self, n: int = 0, mean: float = 0.0, spread: float = 0.0) -> None:
        self.n, self.mean, self.spread = n, mean, spread

    def add(self, value: float) -> None:
        self.n += 1
        delta = value - self.mean
        self.mean += delta / self.n
        self.spread += delta * (value - self.mean)

    def without(self, part: _Moments) -> _Moments:
        """Those of the rest."""
        n = self.n - part.n
        mean = (self.mean * self.n - part.mean * part.n) / n
        spread = self.spread - part.spread - (part.mean - mean) ** 2 * part.n * n / self.n
        return _Moments(n, mean, spread if spread > 1e-12 * self.spread else 0.0)


def stats(store: Source, by: str | None = None, *, confidence: float = 0.95, **filters: Unpack[FilterArgs]) -> Stats:
    """Figures of the trajectories that the filters of `store.trajectories` choose; what is not known is counted apart, not as 0.

    `by`: group, agent, model, status, tag, hour, day or policy_version: figures for each (a trajectory with two tags is in
    both). `confidence`: of all intervals. The methods are in `to_dict()["methods"]`. Raises InvalidInput.
    """
    if by is not None and by not in BY:
        raise InvalidInput(f"no figures by {by!r}; there are: {', '.join(BY)}")
    if not isinstance(confidence, (int, float)) or not 0.0 < confidence < 1.0:
        raise InvalidInput(f"confidence is between 0 and 1, such as 0.95, not {confidence!r}")
    whole, everything = _Sums(), _Moments()
    parts: dict[str | None, _Sums] = {}
    components: dict[str, _Values] = {}
    times, rewards = array("q"), array("d")
    seen: dict[tuple[str, str], _Moments] = {}
    found = store.summaries(**filters)
    while batch := list(islice(found, _BATCH)):
        used = store.used([s.id for s in batch])
        for s in batch:
            whole.add(s)
            for key in _keys(s, by):
                parts.setdefault(key, _Sums()).add(s)
            about = used.get(s.id)
            for name, value in about.components.items() if about else ():
                components.setdefault(name, _Values()).add(value)
            if s.reward is None:
                continue
            if s.started is not None:
                times.append(s.started)
                rewards.append(s.reward)
            everything.add(s.reward)
            for use in {*(about.uses if about else ()), *(("tag", tag) for tag in s.tags)}:
                seen.setdefault(use, _Moments()).add(s.reward)
    span, over_time = _over_time(times, rewards, confidence)
    return Stats(
        by=by,
        confidence=float(confidence),
        whole=whole.part(None, confidence),
        parts=[sums.part(key, confidence) for key, sums in sorted(parts.items(), key=lambda p: (p[0] is None, p[0] or ""))],
        components={name: values.distribution(confidence) for name, values in sorted(components.items())},
        over_time=over_time,
        span=span,
        differences=_differences(everything, seen, confidence),
    )


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


def _over_time(times: array[int], rewards: array[float], confidence: float) -> tuple[str | None, list[tuple[int, Distribution]]]:
    if not times:
        return None, []
    first, last = min(times), max(times)
    name, seconds = next((s for s in _SPANS if (last - first) / _SECOND / s[1] <= _BINS), _SPANS[-1])
    bins: dict[int, _Values] = {}
    for time, reward in zip(times, rewards, strict=True):
        bins.setdefault(time // (seconds * _SECOND), _Values()).add(reward)
    return name, [(n * seconds * _SECOND, values.distribution(confidence)) for n, values in sorted(bins.items())]


def _differences(whole: _Moments, seen: dict[tuple[str, str], _Moments], confidence: float) -> list[Difference]:
    compared = {use: m for use, m in seen.items() if m.n >= _FEWEST and whole.n - m.n >= _FEWEST}
    found = []
    for (kind, name), with_it in compared.items():
        rest = whole.without(with_it)
        if not math.isfinite(with_it.mean - rest.mean):  # of rewards near the end of what floats hold
            continue
        sides = (with_it.n, with_it.mean, with_it.spread, rest.n, rest.mean, rest.spread)
        found.append(
            Difference(
                kind=kind,
                name=name,
                n_with=with_it.n,
                n_without=rest.n,
                mean_with=with_it.mean,
                mean_without=rest.mean,
                difference=with_it.mean - rest.mean,
                interval=welch_interval(*sides, confidence),
                corrected=welch_interval(*sides, 1.0 - (1.0 - confidence) / len(compared)),
            )
        )
    return sorted(found, key=lambda d: (not d.stands_out, -abs(d.difference), d.kind, d.name))
