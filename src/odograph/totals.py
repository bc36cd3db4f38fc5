"""What rewards amount to: which of them count, and their totals.

Of each (name, source, author) the latest counts; several of one name are averaged; names are summed by weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast, overload

import msgspec

from .types import Reward


def returns(rewards: Iterable[float | None], discount: float = 1.0) -> list[float]:
    """The discounted return from each step on: G[n] = rewards[n] + discount * G[n + 1]. None counts as 0."""
    out = [float(r) if r is not None else 0.0 for r in rewards]
    for n in range(len(out) - 2, -1, -1):
        out[n] += discount * out[n + 1]
    return out


def reward_total(rewards: Iterable[Reward]) -> float | None:
    """The weighted sum of named rewards: the latest value of each (name, source, author), with several values of one name
    averaged.

    None where no reward is given, and where one of them is unknown: null from everybody who gave the name, or not finite from
    anybody. A sum without the unknown reward would say something else. Weight 0 only monitors.
    """
    latest: dict[tuple[str, str, str | None], Reward] = {}
    for r in rewards:
        latest[(r.name, r.source, r.author)] = r
    named: dict[str, list[Reward]] = {}
    for r in latest.values():
        if r.weight:
            named.setdefault(r.name, []).append(r)
    if not named:
        return None
    total = 0.0
    for same in named.values():
        known = [r for r in same if r.value is not None]
        if not known or not all(type(r.value) in (float, int) and math.isfinite(cast(float, r.value)) for r in known):
            return None
        total += sum(cast(float, r.value) * r.weight for r in known) / len(known)
    return total


#: What an import warns of where no score counts.
NONE_COUNTS = "scores of several names, none of which counts as the reward: export with --reward NAME"


def counting(scores: Iterable[Reward]) -> str | None:
    """The name of the score that is a run's reward, of all that a source gave the run: the only one, or the one that is named
    `reward`, or the only one by an environment. None where there is none of these: a sum of unlike scores is no reward."""
    given = list(scores)
    named = {r.name for r in given}
    for names in (named, named & {"reward"}, {r.name for r in given if r.source == "environment"}):
        if len(names) == 1:
            return next(iter(names))
    return None


def is_unknown(rewards: Iterable[Reward]) -> bool:
    """Whether some rewards count, and their total is unknown."""
    given = list(rewards)
    return any(r.weight for r in given) and reward_total(given) is None


def trajectory_reward(rewards: Iterable[Reward], agent: str | None = None) -> float | None:
    """A trajectory's reward: the sum of the trajectory's own rewards; without own rewards, the sum of the steps' rewards. None
    where one of the summed rewards is unknown. `agent`: whose steps are meant by rewards that name no agent."""
    whole: list[Reward] = []
    steps: dict[tuple[str | None, int], list[Reward]] = {}
    for r in rewards:
        if r.target is not None or r.span is not None:
            continue
        if r.step is None:
            whole.append(r)
        else:
            steps.setdefault((r.agent or agent, r.step), []).append(r)
    if any(r.weight for r in whole):
        return reward_total(whole)
    totals = [reward_total(rs) for rs in steps.values() if any(r.weight for r in rs)]
    known = [total for total in totals if total is not None]
    return sum(known) if known and len(known) == len(totals) else None


def by_name(rewards: Iterable[Reward]) -> dict[str, float | None]:
    """The value that counts under each name of a trajectory's rewards, before its weight."""
    named: dict[str, list[Reward]] = {}
    for r in rewards:
        named.setdefault(r.name, []).append(msgspec.structs.replace(r, weight=1.0))
    return {name: trajectory_reward(same) for name, same in named.items()}


class Rewards(list[Reward]):
    """Reward records in order. `rewards["name"]` is the value that counts under a name; `in` asks for a name."""

    @overload  # type: ignore[override]
    def __getitem__(self, key: str) -> float | None: ...
    @overload
    def __getitem__(self, key: int) -> Reward: ...
    @overload
    def __getitem__(self, key: slice) -> list[Reward]: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            named = [r for r in self if r.name == key]
            if not named:
                raise KeyError(f"no reward named {key!r}; there are: {', '.join(self.names) or 'none'}")
            return reward_total(msgspec.structs.replace(r, weight=1.0) for r in named)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return any(r.name == key for r in self) if isinstance(key, str) else super().__contains__(key)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(r.name for r in self))
