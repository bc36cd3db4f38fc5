"""What figures consist of: distributions, figures of some trajectories, and differences between two sets of them. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .exact import ordered
from .intervals import Interval, mean_interval, places, quantile
from .passing import PassAt

_SHOWN = 10  # values fewer than these are shown themselves
_QUANTILES: dict[Any, float] = {"min": 0.0, "q10": 0.1, "q25": 0.25, "median": 0.5, "q75": 0.75, "q90": 0.9, "max": 1.0}


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Values that are known, and how many are not: those are in no figure. None: too few values for it."""

    n: int
    null: int
    mean: float | None = None
    #: Of the sample: divided by n - 1.
    std: float | None = None
    #: Of the mean, by `method`; None where there are too few values, or where values without bounds don't vary.
    interval: Interval | None = None
    #: "Wilson score", "Wilson score of bounded values" or "Student t"; ", by group" where attempts of a task are taken together.
    method: str | None = None
    #: How many tasks are the independent units of such an interval; None where each value is one.
    groups: int | None = None
    #: The values themselves, smallest first, where they are fewer than ten.
    values: list[float] | None = None
    min: float | None = None
    q10: float | None = None
    q25: float | None = None
    median: float | None = None
    q75: float | None = None
    q90: float | None = None
    max: float | None = None

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        confidence: float,
        *,
        null: int = 0,
        groups: Sequence[int] | None = None,
        bounds: Interval | None = None,
    ) -> Distribution:
        """Of these values; `groups` and `bounds` as in `mean_interval`."""
        found = mean_interval(values, confidence, groups=groups, bounds=bounds)
        if found is None:
            return cls(n=0, null=null)
        n = len(values)
        known = ordered(values, [*{place for at in _QUANTILES.values() for place in places(n, at)}])
        return cls(
            n=n,
            null=null,
            mean=found.mean,
            std=found.std,
            interval=found.interval,
            method=found.method,
            groups=found.groups,
            values=[*known] if n < _SHOWN else None,
            **{name: quantile(known, at) for name, at in _QUANTILES.items()},
        )


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of some trajectories: of all, or of those with one `key`."""

    key: str | None
    trajectories: int
    steps: int
    llm_calls: int
    actions: int
    #: Sums of what is known; None where nothing is.
    prompt_tokens: int | None
    completion_tokens: int | None
    statuses: dict[str, int]
    #: Of those that ended, the share that completed, and its Wilson interval.
    completed_rate: float | None
    completed_interval: Interval | None
    reward: Distribution
    #: For k of 1, 2, 4, ...; empty where it is not known what a success is, or no task was attempted twice.
    pass_at_k: list[PassAt] = []

    def to_dict(self) -> dict[str, Any]:
        """One flat object; the reward's figures are `reward_mean`, ..., its counts `rewarded` and `reward_null`."""
        out = {f: getattr(self, f) for f in self.__struct_fields__ if f not in ("key", "reward", "pass_at_k")}
        r = msgspec.structs.asdict(self.reward)
        out |= {"rewarded": r.pop("n"), "reward_null": r.pop("null")}
        out |= {f"reward_{name}": value for name, value in r.items()}
        return out | {"pass_at_k": [msgspec.structs.asdict(p) for p in self.pass_at_k]}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How the reward of trajectories with something differs from that of those without it. An association, no cause."""

    #: "action", "context", "model" or "tag".
    kind: str
    name: str
    n_with: int
    n_without: int
    #: Over all trajectories, whatever their task: harder tasks can turn the sign of what these two say.
    mean_with: float
    mean_without: float
    #: Within tasks, where it can be compared so; else `mean_with` less `mean_without`, without an interval.
    difference: float
    #: Tasks with trajectories on both sides; 0 where these are too few to compare within tasks.
    tasks: int
    #: None where nothing varies, or nothing is compared within tasks.
    interval: Interval | None = None
    #: Wide enough for all differences of `Stats.differences` at once.
    corrected: Interval | None = None
    #: Of the permutation test within tasks, not corrected.
    p_value: float | None = None
    #: Whether the corrected interval leaves 0 out and the test agrees at the corrected level.
    stands_out: bool = False
