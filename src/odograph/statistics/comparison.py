"""Comparing two judgements of the same trajectories, or two parts of a store, such as two models: by pairs where there are any.

Knows scores, labels and summaries, and which tests they want; the tests are in `comparing`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from numbers import Real
from typing import Any, Literal, Protocol, Unpack, cast, get_args

import msgspec

from ..errors import InvalidInput, did_you_mean
from ..store.filters import FilterArgs
from ..store.summary import Summary, Used
from .agreement import cohen_kappa, confusion, krippendorff_alpha
from .compared import POWER, Agreement, Changed, Compared, Measure, plural
from .comparing import detectable_effect, holm, mcnemar, paired_difference, permutation_test, unpaired_difference, wilcoxon
from .intervals import Interval, bounds_of, rate_interval
from .parts import Distribution
from .patterns import differences
from .tasks import Tasks

#: What two parts of a store can be told apart by.
PartsBy = Literal["model", "agent", "policy_version", "group", "tag"]
BY: tuple[PartsBy, ...] = get_args(PartsBy)
_FEWEST = 10  # tasks that both sides attempted, from which tasks are paired
_SEVERAL = ("tag", "policy_version")  # a trajectory can have two tags; 3 and "3" can be one version
_BATCH = 100
_LARGEST = 1e100  # scores whose squares are numbers, too
_COSTS = ("steps", "tokens", "seconds")  # nothing says how much they can be at most

Value = float | str | None


class Source(Protocol):
    """What is compared: parts of a `Store`."""

    def summaries(self, *, newest_first: bool = False, **filters: Unpack[FilterArgs]) -> Iterator[Summary]: ...
    def used(self, ids: list[str]) -> dict[str, Used]: ...


def compare(
    a: Mapping[str, Value],
    b: Mapping[str, Value],
    *,
    names: tuple[str, str] = ("a", "b"),
    tasks: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Compared:
    """Compares two judgements: scores (numbers, or True and False) or labels (texts) by the id of the trajectory; None is not
    known.

    Trajectories in both are pairs. Without any, both sides are compared as strangers. `tasks`: the task of each trajectory:
    attempts of one task are not independent, and their mean counts as one. Labels are compared one by one: the share of each.
    Random draws use `seed`. Raises InvalidInput, MissingExtra (extra `worlds`).
    """
    _check(names, confidence)
    a, b = _values(a, names[0]), _values(b, names[1])
    kinds = {isinstance(v, str) for v in (*a.values(), *b.values())}
    if len(kinds) == 2:
        raise InvalidInput("scores are compared with scores and labels with labels; found both numbers and texts")
    if not a or not b:
        raise InvalidInput(f"there is nothing to compare: {len(a)} values of {names[0]!r} and {len(b)} of {names[1]!r}")
    numbers = {task: n for n, task in enumerate(dict.fromkeys((tasks or {}).values()))}
    of = {key: numbers[task] for key, task in (tasks or {}).items()}
    both = [key for key in a if key in b]
    sides = (both, both) if both else (list(a), list(b))
    labels = sorted({v for v in (*a.values(), *b.values()) if isinstance(v, str)})
    if len(labels) == 2:  # the share of the other says the same
        labels = labels[1:]
    found: list[Measure] = []
    asked: list[str | None] = [*labels] or [None]
    for label in asked:
        values = [
            [float(side[key] == label) if label is not None else float(side[key]) for key in keys]
            for side, keys in zip((a, b), sides, strict=True)
        ]
        groups = [[of.get(key, -1) for key in keys] for keys in sides]
        name = "score" if label is None else str(label)
        if both:
            found.append(_paired(name, values, groups, confidence, seed))
        else:
            found.append(_unpaired(name, values, groups, confidence, seed))
    changed = [Changed(key, a[key], b[key]) for key in both if a[key] != b[key]]
    changed.sort(key=lambda c: -abs(c.b - c.a) if isinstance(c.a, float) and isinstance(c.b, float) else 0.0)
    return Compared(
        names=names,
        by=None,
        confidence=confidence,
        measures=_corrected(found),
        agreement=_agreement([(a[key], b[key]) for key in both], confidence),
        changed=changed,
        only=(len(a) - len(both), len(b) - len(both)) if both else (0, 0),
    )


def _check(names: Sequence[str], confidence: float) -> None:
    if len(names) != 2 or names[0] == names[1]:
        raise InvalidInput(f"two different things are compared, not {names[0]!r} with itself")
    if not isinstance(confidence, int | float) or not 0.0 < confidence < 1.0:
        raise InvalidInput(f"confidence is between 0 and 1, such as 0.95, not {confidence!r}")


def _values(given: Mapping[str, Value], name: str) -> dict[str, float | str]:
    if not isinstance(given, Mapping):
        raise InvalidInput(f"compare() takes dicts of trajectory ids to scores or labels, not a {type(given).__name__}")
    found: dict[str, float | str] = {}
    for key, value in given.items():
        if isinstance(value, str):
            found[key] = value
        elif isinstance(value, Real) and abs(float(value)) < _LARGEST:  # a number of numpy, too
            found[key] = float(value)
        elif value is not None:
            raise InvalidInput(
                f"{name!r}: a score is a finite number below {_LARGEST:g} and a label a text; of {key!r} it is {value!r}"
            )
    return found


def _agreement(pairs: list[tuple[float | str, float | str]], confidence: float) -> Agreement | None:
    same = rate_interval(sum(x == y for x, y in pairs), len(pairs), confidence)
    if same is None:
        return None
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    labels = all(isinstance(v, str) for v in (*a, *b))
    discrete = labels or {*a, *b} <= {0.0, 1.0}
    return Agreement(
        n=len(pairs),
        same=same[0],
        interval=same[1],
        kappa=cohen_kappa(a, b) if discrete else None,
        alpha=krippendorff_alpha(pairs, "nominal" if labels else "interval"),
        confusion=confusion(a, b) if discrete else None,
    )


def _means(values: Sequence[float], groups: Sequence[int]) -> dict[tuple[str, int], float]:
    """The mean of each task; values of no task are on their own."""
    found: dict[tuple[str, int], list[float]] = {}
    for i, (value, group) in enumerate(zip(values, groups, strict=True)):
        found.setdefault(("task", group) if group >= 0 else ("alone", i), []).append(value)
    return {key: sum(of) / len(of) for key, of in found.items()}


def _bounds(name: str, values: Iterable[Sequence[float]]) -> Interval | None:
    return None if name in _COSTS else bounds_of([value for side in values for value in side])


def _sides(
    name: str, values: Sequence[Sequence[float]], groups: Sequence[Sequence[int]], confidence: float
) -> list[Distribution]:
    bounds = _bounds(name, values)
    return [Distribution.of(v, confidence, groups=g, bounds=bounds) for v, g in zip(values, groups, strict=True)]


def _paired(name: str, values: list[list[float]], groups: list[list[int]], confidence: float, seed: int) -> Measure:
    """Values of the same things on both sides."""
    a, b = (list(_means(v, g).values()) for v, g in zip(values, groups, strict=True))
    by_task = len(a) < len(values[0]) and len(a) > 1
    if not by_task:  # one task, or each its own
        a, b = values
    return _of_pairs(name, _sides(name, values, groups, confidence), a, b, "task" if by_task else "trajectory", confidence, seed)


def _of_pairs(
    name: str,
    sides: list[Distribution],
    a: list[float],
    b: list[float],
    unit: Literal["trajectory", "task"],
    confidence: float,
    seed: int,
) -> Measure:
    bounds = _bounds(name, (a, b))
    found = paired_difference(a, b, confidence=confidence, bounds=bounds, seed=seed)
    two = bounds is not None and {*a, *b} <= {0.0, 1.0}
    moved = Distribution.of([y - x for x, y in zip(a, b, strict=True)], confidence)
    p_value = mcnemar([bool(x) for x in a], [bool(y) for y in b]) if two else wilcoxon(a, b)
    return Measure(
        name=name,
        a=sides[0],
        b=sides[1],
        difference=found.difference,
        interval=found.interval,
        method=found.method,
        pairs=len(a),
        unit=unit,
        test="McNemar exact" if two else "Wilcoxon signed rank",
        p_value=p_value,
        corrected=p_value,
        detectable=_detectable(moved.std, bounds, confidence, len(a)),
    )


def _unpaired(
    name: str, values: Sequence[Sequence[float]], groups: Sequence[Sequence[int]], confidence: float, seed: int
) -> Measure:
    """Values of different things: means of tasks where both sides have several, else values."""
    means = [list(_means(v, g).values()) for v, g in zip(values, groups, strict=True)]
    by_task = all(len(m) > 1 for m in means) and any(len(m) < len(v) for m, v in zip(means, values, strict=True))
    a, b = means if by_task else values
    bounds = _bounds(name, (a, b))
    found = unpaired_difference(a, b, confidence=confidence, bounds=bounds, seed=seed)
    p_value = permutation_test(a, b, paired=False, seed=seed)
    spreads = [d.std**2 * (d.n - 1) for d in (Distribution.of(side, confidence) for side in (a, b)) if d.std is not None]
    std = (sum(spreads) / (len(a) + len(b) - 2)) ** 0.5 if len(a) + len(b) > 2 else 0.0
    sides = _sides(name, values, groups, confidence)
    return Measure(
        name=name,
        a=sides[0],
        b=sides[1],
        difference=found.difference,
        interval=found.interval,
        method=found.method,
        pairs=0,
        unit="task" if by_task else "trajectory",
        test="permutation test",
        p_value=p_value,
        corrected=p_value,
        detectable=_detectable(std, bounds, confidence, len(a), len(b)),
    )


def _detectable(
    std: float | None, bounds: Interval | None, confidence: float, n: int, n_other: int | None = None
) -> float | None:
    """None where nothing varies, and where not even the largest difference there can be would be found."""
    effect = detectable_effect(std, n, n_other, confidence=confidence, power=POWER) if std else None
    return None if effect is None or (bounds is not None and effect > bounds[1] - bounds[0]) else effect


def _corrected(found: list[Measure]) -> list[Measure]:
    many = holm([m.p_value for m in found])
    return [msgspec.structs.replace(m, corrected=p) for m, p in zip(found, many, strict=True)]


class _Side:
    """What was measured of one part of a store, by name: values and the task of each."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[array[float], array[int]]] = {}
        self.n = 0

    def add(self, s: Summary, components: Mapping[str, float | None], task: int) -> None:
        self.n += 1
        tokens = (
            None
            if s.prompt_tokens is None and s.completion_tokens is None
            else (s.prompt_tokens or 0) + (s.completion_tokens or 0)
        )
        ended = s.status not in ("running", "unterminated")
        measured: dict[str, float | None] = {"reward": s.reward}
        measured |= {f"reward {name}": value for name, value in components.items()} if len(components) > 1 else {}
        measured |= {"completed": float(s.status == "completed") if ended else None, "steps": s.steps, "tokens": tokens}
        for name, value in (measured | {"seconds": s.duration}).items():
            if value is not None:
                values, tasks = self.found.setdefault(name, (array("d"), array("i")))
                values.append(float(value))
                tasks.append(task)


def compare_parts(
    store: Source,
    a: str,
    b: str,
    *,
    by: PartsBy = "model",
    confidence: float = 0.95,
    seed: int = 0,
    **filters: Unpack[FilterArgs],
) -> Compared:
    """Compares two parts of a store: two models, agents, versions of a policy, groups or tags, among what the filters choose.

    Rewards, their components, completion, steps, tokens and seconds. Ten tasks or more that both attempted are pairs, each with
    the mean of its attempts; fewer are compared attempt by attempt within the task; without common tasks the sides are strangers.
    Trajectories in both parts count in neither. Raises InvalidInput, MissingExtra (extra `worlds`).
    """
    if by not in BY:
        raise InvalidInput(f"nothing is compared by {by!r}; there are: {', '.join(BY)}{did_you_mean(by, BY)}")
    a, b = str(a), str(b)
    _check((a, b), confidence)
    if filters.get(by) is not None:
        raise InvalidInput(f"what is compared by {by} is not filtered by {by} too; found {filters[by]!r}")

    def chosen(name: str) -> Iterator[Summary]:
        return store.summaries(**cast(FilterArgs, {**filters, by: name}))

    for name in (a, b):
        if next(chosen(name), None) is None:
            raise InvalidInput(f"no trajectory with {by} {name!r}{_there_are(store, by, filters, name)}")
    both: set[str] = set()
    if by in _SEVERAL:
        first = {s.id for s in chosen(a)}
        both = {s.id for s in chosen(b) if s.id in first}
        del first
    tasks, sides = Tasks(), (_Side(), _Side())
    for side, name in zip(sides, (a, b), strict=True):
        mine = (s for s in chosen(name) if s.id not in both)
        while batch := [*islice(mine, _BATCH)]:
            used = store.used([s.id for s in batch])
            for s in batch:
                side.add(s, used[s.id].components if s.id in used else {}, tasks.of(s))
    names = [
        name
        for name in sides[0].found
        if name in sides[1].found
        and not (name.startswith("reward ") and all(side.found[name] == side.found.get("reward") for side in sides))
    ]
    measures = [
        _part(name, [side.found[name][0] for side in sides], [side.found[name][1] for side in sides], confidence, seed)
        for name in names
    ]
    if not measures:
        raise InvalidInput(
            f"there is nothing to compare: {sides[0].n} trajectories of {a!r} and {sides[1].n} of {b!r} share no measure"
        )
    return Compared(
        names=(a, b),
        by=by,
        confidence=confidence,
        measures=_corrected(measures),
        agreement=None,
        changed=[],
        only=(0, 0),
    )


def _part(name: str, values: Sequence[Sequence[float]], groups: Sequence[Sequence[int]], confidence: float, seed: int) -> Measure:
    means = [_means(v, g) for v, g in zip(values, groups, strict=True)]
    shared = [key for key in means[0] if key in means[1] and key[0] == "task"]
    if len(shared) >= _FEWEST:
        a, b = ([side[key] for key in shared] for side in means)
        return _of_pairs(name, _sides(name, values, groups, confidence), a, b, "task", confidence, seed)
    among = {key[1] for key in shared}
    every = [
        (value, task, side) for side in (0, 1) for value, task in zip(values[side], groups[side], strict=True) if task in among
    ]
    having = [i for i, (_, _, side) in enumerate(every) if side == 1]
    within = differences(
        [v for v, _, _ in every],
        [t for _, t, _ in every],
        {("part", name): having},
        confidence,
        bounds_of([v for v, _, _ in every]),
    )
    found = _unpaired(name, values, groups, confidence, seed)
    if not within or not within[0].tasks or within[0].p_value is None:
        return found
    d = within[0]
    return msgspec.structs.replace(
        found,
        difference=d.difference,
        interval=d.interval or found.interval,
        method="Student t, within tasks" if d.interval else found.method,
        unit="trajectory",
        test=f"permutation within {plural(d.tasks, 'task')}",
        p_value=d.p_value,
    )


def _there_are(store: Source, by: str, filters: FilterArgs, name: str) -> str:
    """What there is in place of what was not found."""
    known: dict[str, None] = {}
    for s in store.summaries(**filters):
        found: Iterable[Any] = s.tags if by == "tag" else [getattr(s, by)]
        known.update((str(one), None) for one in found if one is not None)
    if not known:
        return f"; no trajectory has a {by}"
    some = sorted(known)
    return f"; there are: {', '.join(some[:20])}{', ...' if len(some) > 20 else ''}{did_you_mean(name, some)}"
