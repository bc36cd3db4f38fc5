"""Checks of rewards: values that can't be trained on, and totals that don't add up."""

from __future__ import annotations

from collections.abc import Iterator

from ..types import Label, Reward
from . import check
from .look import Look

Found = Iterator[tuple[str, str]]
_TOTALS = ("reward", "total_reward", "totalReward")


@check("reward_nonfinite", "error", "a reward or score that is NaN or infinite", ("rl",))
def reward_nonfinite(look: Look) -> Found:
    for path, record in look.placed:
        value = record.value if isinstance(record, Reward) else record.score if isinstance(record, Label) else None
        if isinstance(value, dict):
            yield path, f"{value.get('value')} is no finite number"


@check("reward_missing", "warning", "no reward on a finished trajectory", ("rl",), errors_in=("rl",))
def reward_missing(look: Look) -> Found:
    if look.t.end is not None and look.t.reward is None:
        yield "rewards", f"no reward, though it is {look.t.status}"


@check("reward_sum", "warning", "a stated total that differs from the components", ("rl",))
def reward_sum(look: Look) -> Found:
    t = look.t
    for name in _TOTALS:
        stated = t.end.metrics.get(name) if t.end else None
        if isinstance(stated, (int, float)) and not isinstance(stated, bool) and t.reward is not None and abs(stated - t.reward) > 1e-6:
            yield f"end.metrics.{name}", f"{stated} is stated; the rewards come to {t.reward}"
    total = next((r.value for r in t.rewards if r.name == "total" and isinstance(r.value, float)), None)
    steps = [s.reward for s in t.steps if s.reward is not None]
    if total is not None and steps and abs(total - sum(steps)) > 1e-6:
        yield "rewards", f"the total is {total}; the steps' rewards come to {sum(steps)}"
