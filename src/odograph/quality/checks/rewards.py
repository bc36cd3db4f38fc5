"""Checks of rewards: values that can't be trained on, and totals that don't add up."""

from __future__ import annotations

import math
from typing import Any

from ...types import Label, Reward
from ..define import Found, check
from ..look import Look

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
    totals = {f"end.metrics.{name}": t.end.metrics.get(name) for name in _TOTALS} if t.end else {}
    for where, stated in {**totals, "reward": look.stated}.items():
        if (
            isinstance(stated, (int, float))
            and not isinstance(stated, bool)
            and t.reward is not None
            and abs(stated - t.reward) > 1e-6
        ):
            yield where, f"{stated} is stated; the rewards come to {t.reward}"
    total = next((r.value for r in t.rewards if r.name == "total" and isinstance(r.value, float)), None)
    steps = [s.reward for s in t.steps if s.reward is not None]
    if total is not None and steps and abs(total - sum(steps)) > 1e-6:
        yield "rewards", f"the total is {total}; the steps' rewards come to {sum(steps)}"


@check("judge_range", "error", "a judge's score outside of its range, missing, or given twice", ("rl",))
def judge_range(look: Look) -> Found:
    """The range is [0, 1], or what the record says in `extra.range`: null where the scale of another program's judge is not told.
    A repeat says which it is in `extra.repeat`; a row that the judge failed on says why in `extra.status`, and needs no score."""
    given: dict[Any, str] = {}
    for path, record in look.placed:
        if isinstance(record, Reward) and record.source == "judge":
            score, name = record.value, record.name
        elif isinstance(record, Label) and record.rubric_hash is not None:
            score, name = record.score, record.technique
        else:
            continue
        more = record.extra or {}
        low, high = _range(more.get("range", [0, 1]))
        if score is None and low > -math.inf and more.get("status") in (None, "ok"):
            yield path, f"no score of the judge for {name}"
        elif isinstance(score, (int, float)) and not low <= score <= high:
            yield path, f"{score} for {name}; a score from {low:g} to {high:g} was expected"
        version = record.version if isinstance(record, Reward) else record.rubric_hash
        span = (record.span.start, record.span.stop, record.span.choice) if isinstance(record, Reward) and record.span else None
        place = (type(record), name, record.author, version, record.agent, record.step, record.target, span)
        key = (place, repr(more.get("repeat")))
        if key in given:
            yield path, f"a second score for {name}, beside {given[key]}, that does not supersede it"
        given.setdefault(key, path)


def _range(stated: Any) -> tuple[float, float]:
    if isinstance(stated, list) and len(stated) == 2 and all(type(end) in (int, float) for end in stated):
        return stated[0], stated[1]
    return (-math.inf, math.inf) if stated is None else (0.0, 1.0)
