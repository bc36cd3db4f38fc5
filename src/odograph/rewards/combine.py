"""Reward functions made of others. Numbers only; what is not known stays not known.

A part is a reward function or a plain function; one that gives components counts as their weighted sum. All parts are of the
trajectory, or all of the step. The version of what is made follows from its parts and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Literal

from ..errors import InvalidInput
from ..totals import returns
from ..trajectory import Trajectory
from .functions import RewardFunction, as_reward_function

Part = RewardFunction | Callable[..., Any]
#: Makes one value of those of the parts.
Made = Callable[[Sequence[float | None]], float | None]


def weighted_sum(
    parts: Mapping[Any, float] | Iterable[tuple[Part, float]],
    *,
    missing: Literal["redistribute", "wait"] = "redistribute",
    **about: Any,
) -> RewardFunction:
    """The sum of weight * value: `weighted_sum([(pnl, 0.5), (speed, 0.25)], name="trading")`.

    Parts that are not known give their weight to the others, in proportion: the sum is multiplied by the sum of all |weights|
    over that of the known; None where none is known. `missing="wait"`: None until all are known. `about` as for `reward`.
    """
    pairs = list(parts.items() if isinstance(parts, Mapping) else parts)
    if missing not in ("redistribute", "wait"):
        raise InvalidInput(f"missing is 'redistribute' or 'wait', not {missing!r}")
    weights = [float(w) for _, w in pairs]
    if not all(map(math.isfinite, weights)):
        raise InvalidInput(f"weights are finite numbers, not {weights}")
    return _made("weighted_sum", [p for p, _ in pairs], partial(_sum, weights, missing), about)


def product(*parts: Part, **about: Any) -> RewardFunction:
    """The product of the parts' values: with a part that is 0 or 1, a gate. A 0 makes it 0 whatever is not known yet; else
    None where a part is not known."""
    return _made("product", parts, _product, about)


def gate(part: Part, when: Part, otherwise: float | None = 0.0, **about: Any) -> RewardFunction:
    """The part's value where `when` is above 0, else `otherwise`; None where `when` is not known."""
    return _made("gate", [part, when], partial(_gate, otherwise), about)


def clamp(part: Part, low: float, high: float, **about: Any) -> RewardFunction:
    """The part's value, at least `low` and at most `high`."""
    if not low <= high:
        raise InvalidInput(f"clamp to a low and a high end, not {low} and {high}")
    return _made("clamp", [part], partial(_clamp, float(low), float(high)), about)


def scale(part: Part, by: float = 1.0, *, minus: float | Part = 0.0, **about: Any) -> RewardFunction:
    """(value - minus) * by. `minus` is a number, or a reward function: a baseline."""
    if isinstance(minus, (int, float)):
        return _made("scale", [part], partial(_scale, float(by), float(minus)), about)
    return _made("scale", [part, minus], partial(_scale, float(by), 0.0), about)


def tanh(part: Part, scale: float = 1.0, **about: Any) -> RewardFunction:
    """tanh(value / scale): any value in (-1, 1), nearly itself where it is small against `scale`."""
    if not scale > 0:
        raise InvalidInput(f"a scale is above 0, not {scale}")
    return _made("tanh", [part], partial(_tanh, float(scale)), about)


def group_min_max(part: Part, **about: Any) -> RewardFunction:
    """(value - lowest) / (highest - lowest) among the trajectories of a group, from 0 to 1; 0.5 where all are the same.

    None where the part is not known, which the others don't wait for. A function of groups: `store.score` scores the recorded
    ones, and all of a group anew when it has another member.
    """
    function = as_reward_function(part).ready()
    if function.per != "trajectory":
        raise InvalidInput(f"group_min_max takes a function of trajectories; {function.name} is one per {function.per}")
    compute: Any = partial(_group_later if function.is_async else _group_now, function)
    return RewardFunction(compute, name=about.pop("name", f"group_min_max_{function.name}"), per="group", **about)


def discounted(part: Part | None = None, discount: float = 1.0, **about: Any) -> RewardFunction:
    """The return of a trajectory: the sum of discount ** n * value of its step n, of a function of steps or, without one, of
    the recorded rewards of steps. Steps that are not known count nothing; None where none is known."""
    if not 0 <= discount <= 1:
        raise InvalidInput(f"a discount is between 0 and 1, not {discount}")
    of = None if part is None else as_reward_function(part)
    if of is not None and of.per != "step":
        raise InvalidInput(
            f"discounted takes a function of steps; {of.name} takes trajectories: decorate the function with per='step'"
        )
    name = about.pop("name", f"discounted_{of.name}" if of else "discounted")
    if of is not None and of.is_async:
        return RewardFunction(partial(_discounted_later, of, float(discount)), name=name, **about)
    return RewardFunction(partial(_discounted, of, float(discount)), name=name, **about)


# --- how they are made ----------------------------------------------------------------------------------------------


def _made(kind: str, parts: Iterable[Part], make: Made, about: dict[str, Any]) -> RewardFunction:
    functions = [as_reward_function(p).ready() for p in parts]
    if not functions:
        raise InvalidInput(f"{kind} needs at least one part")
    pers = {f.per for f in functions}
    if len(pers) > 1 or "group" in pers:
        what = ", ".join(f"{f.name} ({f.per})" for f in functions)
        raise InvalidInput(f"{kind} is of functions of trajectories alone, or of steps alone; found: {what}")
    compute = partial(_later if any(f.is_async for f in functions) else _now, functions, make)
    name = about.pop("name", f"{kind}_{functions[0].name}" if len(functions) == 1 else kind)
    return RewardFunction(compute, name=name, per=pers.pop(), **about)


def _ask(function: RewardFunction, what: tuple[Any, ...]) -> Any:
    t, step = (what[0], None) if len(what) == 1 else (what[1], what[0])
    return function(*function.arguments(t, step))


def _now(functions: list[RewardFunction], make: Made, *what: Any) -> float | None:
    return make([f.total(_ask(f, what)) for f in functions])


async def _later(functions: list[RewardFunction], make: Made, *what: Any) -> float | None:
    values = []
    for f in functions:
        given = _ask(f, what)
        values.append(f.total(await given if isawaitable(given) else given))
    return make(values)


def _sum(weights: list[float], missing: str, values: Sequence[float | None]) -> float | None:
    known = [(w, v) for w, v in zip(weights, values, strict=True) if v is not None]
    if not known or (missing == "wait" and len(known) < len(values)):
        return None
    total = math.fsum(w * v for w, v in known)
    if len(known) == len(values):
        return total
    share = math.fsum(abs(w) for w, _ in known)
    return total * math.fsum(map(abs, weights)) / share if share else None


def _product(values: Sequence[float | None]) -> float | None:
    if any(v == 0 for v in values):
        return 0.0
    return None if None in values else math.prod(v for v in values if v is not None)


def _gate(otherwise: float | None, values: Sequence[float | None]) -> float | None:
    value, when = values
    return None if when is None else value if when > 0 else otherwise


def _clamp(low: float, high: float, values: Sequence[float | None]) -> float | None:
    return None if values[0] is None else min(high, max(low, values[0]))


def _scale(by: float, minus: float, values: Sequence[float | None]) -> float | None:
    if None in values:
        return None
    baseline = values[1] if len(values) > 1 else minus
    return ((values[0] or 0.0) - (baseline or 0.0)) * by


def _tanh(scale: float, values: Sequence[float | None]) -> float | None:
    return None if values[0] is None else math.tanh(values[0] / scale)


def _group_now(function: RewardFunction, group: Sequence[Trajectory]) -> list[float | None]:
    return _between([function.total(_ask(function, (t,))) for t in group])


async def _group_later(function: RewardFunction, group: Sequence[Trajectory]) -> list[float | None]:
    return _between([function.total(await _ask(function, (t,))) for t in group])


def _between(values: list[float | None]) -> list[float | None]:
    known = [v for v in values if v is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = high / 2 - low / 2  # halves: the difference of two floats may be none
    return [None if v is None else (v / 2 - low / 2) / span if span else 0.5 for v in values]


def _return(values: list[float | None], discount: float) -> float | None:
    return returns(values, discount)[0] if any(v is not None for v in values) else None


def _discounted(of: RewardFunction | None, discount: float, t: Trajectory) -> float | None:
    if of is None:
        return _return([s.reward for s in t.steps], discount)
    return _return([of.total(of(*of.arguments(t, s))) for s in t.steps], discount)


async def _discounted_later(of: RewardFunction, discount: float, t: Trajectory) -> float | None:
    found: list[float | None] = []
    for step in t.steps:
        given: Awaitable[Any] = of(*of.arguments(t, step))
        found.append(of.total(await given))
    return _return(found, discount)
