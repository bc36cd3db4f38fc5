"""What figures consist of: distributions, figures of some trajectories, and differences between two sets of them. Values only."""

from __future__ import annotations

from typing import Any

import msgspec

from .intervals import Interval


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Values that are known, and how many are not: those are in no figure. None: too few values for it."""

    n: int
    null: int
    mean: float | None = None
    #: Of the sample: divided by n - 1.
    std: float | None = None
    #: Of the mean, by Student's t; None for less than two values.
    interval: Interval | None = None
    min: float | None = None
    q10: float | None = None
    q25: float | None = None
    median: float | None = None
    q75: float | None = None
    q90: float | None = None
    max: float | None = None


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

    def to_dict(self) -> dict[str, Any]:
        """One flat object; the reward's figures are `reward_mean`, ..., its counts `rewarded` and `reward_null`."""
        out = {f: getattr(self, f) for f in self.__struct_fields__ if f not in ("key", "reward")}
        r = msgspec.structs.asdict(self.reward)
        out |= {"rewarded": r.pop("n"), "reward_null": r.pop("null")}
        return out | {f"reward_{name}": value for name, value in r.items()}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How the mean reward of trajectories with something differs from that of those without it. An association, no cause."""

    #: "action", "context", "model" or "tag".
    kind: str
    name: str
    n_with: int
    n_without: int
    mean_with: float
    mean_without: float
    difference: float
    #: Welch's; None where neither side varies.
    interval: Interval | None
    #: Wide enough for all differences of `Stats.differences` at once.
    corrected: Interval | None

    @property
    def stands_out(self) -> bool:
        """Whether the corrected interval leaves 0 out."""
        return self.corrected is not None and not self.corrected[0] <= 0.0 <= self.corrected[1]
