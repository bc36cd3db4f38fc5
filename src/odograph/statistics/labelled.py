"""Comparing labels: of two versions of a rubric, two judges, a judge and people, two techniques. Reads label records.

The labels of both sides are compared value by value and by their scores, trajectory by trajectory. Where one side is people,
their labels correct what the judge says of all (prediction-powered inference). Judges that gave rewards, as RULER does, are
compared by these.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Unpack, get_args

import msgspec

from ..errors import InvalidInput, did_you_mean
from ..store.filters import FilterArgs
from ..store.summary import Summary
from .agreement import brier_score, calibration, expected_calibration_error, krippendorff_alpha
from .bias import family_bias, length_bias, order_bias
from .compared import Calibration, Changed, Compared, Corrected, Probe
from .comparing import holm, prediction_powered
from .comparison import Value, compare
from .intervals import bounds_of, mean_interval
from .said import Said, Source, said_in

#: What labels of a store can be told apart by.
LabelsBy = Literal["rubric", "judge", "technique"]
LABELS_BY: tuple[LabelsBy, ...] = get_args(LabelsBy)
#: The side of all people together.
PEOPLE = "people"
#: The version of a rubric that was used before the other one.
PREVIOUS = "previous"
_MOST = 12  # different labels that are compared one by one; beyond, labels are free text
_LEAST = 4  # letters of a version that name it
_FAMILIES = ("gpt", "claude", "gemini", "gemma", "llama", "qwen", "mistral", "deepseek", "grok", "glm", "kimi", "phi", "command")


def compare_labels(
    store: Source,
    a: str,
    b: str,
    *,
    by: LabelsBy,
    technique: str | None = None,
    rubric: str | None = None,
    judge: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    **filters: Unpack[FilterArgs],
) -> Compared:
    """Compares the labels that `a` and `b` name, by `rubric` (beginnings of versions; `previous`), `judge` (authors; `people`
    are all people together) or `technique`. Filters choose trajectories.

    `technique`, `rubric` (the beginning of a version; by default the version that was used last) and `judge` narrow the labels
    down. Raises InvalidInput, MissingExtra.
    """
    if by not in LABELS_BY:
        raise InvalidInput(f"labels are not compared by {by!r}; there are: {', '.join(LABELS_BY)}{did_you_mean(by, LABELS_BY)}")
    summaries = {s.id: s for s in store.summaries(**filters)}
    labels = said_in(store, summaries)
    if by == "judge" and not {a, b} <= {PEOPLE, *(one.author for one in labels)}:
        labels += said_in(store, summaries, "reward")
    if not labels:
        raise InvalidInput("there are no labels to compare: no trajectory that the filters choose has one")
    sides: list[list[Said]]
    if by == "rubric":
        of_b = _of_version(labels, b)
        sides = [_previous(labels, of_b) if a == PREVIOUS else _of_version(labels, a), of_b]
        a, b = (side[0].version or "" for side in sides)
        a, b = a[:8], b[:8]
        sides = [[one for one in side if not one.person and judge in (None, one.author)] for side in sides]
        if technique is not None:
            sides = [[one for one in side if one.technique == technique] for side in sides]
    elif by == "technique":
        _known("technique", (a, b), {one.technique for one in labels})
        of = [one for one in labels if not one.person and judge in (None, one.author)]
        sides = [_latest_version([one for one in of if one.technique == name]) for name in (a, b)]
    else:
        labels = _of_technique(labels, technique, rubric)
        _known("judge", (a, b), {one.author or "" for one in labels} | {PEOPLE})
        sides = [[one for one in labels if (one.person if name == PEOPLE else one.author == name)] for name in (a, b)]
    for name, side in zip((a, b), sides, strict=True):
        if not side:
            raise InvalidInput(f"there are no labels of {by} {name!r} among the trajectories that the filters choose")
    found = compare_said(sides[0], sides[1], names=(a, b), by=by, confidence=confidence, seed=seed)
    texts = [next((one.description for one in reversed(side) if one.description), "") for side in sides]
    if by == "rubric":
        found = msgspec.structs.replace(found, rubric=_diff(texts, (a, b)))
    people = next((n for n, name in enumerate((a, b)) if by == "judge" and name == PEOPLE), None)
    if people is not None:
        found = _corrected(found, sides[people], sides[1 - people], confidence)
    probes = [
        probe
        for name, side in zip((a, b), sides, strict=True)
        for probe in _probes(name, side, summaries, confidence, seed)
        if not all(one.person for one in side)
    ]
    return msgspec.structs.replace(found, probes=probes)


def _known(what: str, names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known - {""})[:20])
            raise InvalidInput(f"no label of {what} {name!r}; there are: {there}{did_you_mean(name, sorted(known))}")


def _of_version(labels: list[Said], name: str) -> list[Said]:
    versions = dict.fromkeys(one.version for one in labels if one.version)
    hits = [v for v in versions if v.startswith(name)] if len(name) >= _LEAST else []
    if len(hits) != 1:
        there = ", ".join(f"{v[:8]} ({next(o.technique for o in labels if o.version == v)})" for v in versions) or "none"
        what = "is no version of a rubric" if not hits else "names several versions of rubrics"
        raise InvalidInput(f"{name!r} {what} that labels are of; there are: {there}")
    return [one for one in labels if one.version == hits[0]]


def _previous(labels: list[Said], later: list[Said]) -> list[Said]:
    """Those of the version of a rubric that was used last before another version of the same technique."""
    earlier = [one for one in labels if one.technique == later[0].technique and one.version not in (None, later[0].version)]
    if not earlier:
        raise InvalidInput(f"labels of {later[0].technique!r} are of one version of the rubric, {(later[0].version or '')[:8]}")
    return _latest_version(earlier)


def _latest_version(labels: list[Said]) -> list[Said]:
    return [one for one in labels if one.version == labels[-1].version] if labels else []


def _of_technique(labels: list[Said], technique: str | None, rubric: str | None) -> list[Said]:
    """Those of one technique and one version of its rubric: labels of different questions are not compared."""
    there = dict.fromkeys(one.technique for one in labels)
    if technique is None and rubric is None and len(there) > 1:
        raise InvalidInput(f"the labels are of several techniques; name one: {', '.join(there)}")
    if technique is not None:
        _known("technique", (technique,), set(there))
        labels = [one for one in labels if one.technique == technique]
    return _of_version(labels, rubric) if rubric is not None else _latest_version(labels)


def compare_said(
    a: Sequence[Said],
    b: Sequence[Said],
    *,
    names: tuple[str, str],
    by: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Compared:
    """Compares labels of the same trajectories: their values one by one where they are few, and their scores. Several labels of a
    trajectory on one side count as one, with the value that most have and the mean score. Raises InvalidInput, MissingExtra."""
    sides = [together(side) for side in (a, b)]
    values: list[dict[str, Value]] = [{id: one.value or None for id, one in side.items()} for side in sides]
    scores: list[dict[str, Value]] = [{id: one.score for id, one in side.items()} for side in sides]
    known = [{v for v in side.values() if v is not None} for side in values]
    more: dict[str, Any] = {"names": names, "confidence": confidence, "seed": seed}
    by_value = all(known) and len(known[0] | known[1]) <= _MOST
    by_score = all(any(v is not None for v in side.values()) for side in scores)
    if not by_value and not by_score:
        raise InvalidInput(
            f"there is nothing to compare: {names[0]!r} and {names[1]!r} have neither scores nor labels of {_MOST} kinds at most"
        )
    found = [compare(*pair, **more) for on, pair in ((by_score, scores), (by_value, values)) if on]
    whole = found[-1]
    measures = [m for one in found for m in one.measures]
    for_all = holm([m.p_value for m in measures])
    why = [{id: one.rationale for id, one in side.items()} for side in sides]
    changed = [msgspec.structs.replace(c, a_why=why[0][c.trajectory], b_why=why[1][c.trajectory]) for c in whole.changed]
    return msgspec.structs.replace(
        whole,
        by=by,
        measures=[msgspec.structs.replace(m, corrected=p) for m, p in zip(measures, for_all, strict=True)],
        changed=changed or _by_score(found[0].changed, why),
    )


def _by_score(changed: list[Changed], why: list[dict[str, str | None]]) -> list[Changed]:
    return [msgspec.structs.replace(c, a_why=why[0].get(c.trajectory), b_why=why[1].get(c.trajectory)) for c in changed]


def together(labels: Sequence[Said]) -> dict[str, Said]:
    """One label for each trajectory: the value that most have (of those that tie, the first), the mean score."""
    by_trajectory: dict[str, list[Said]] = {}
    latest = {(one.trajectory, one.author, one.person): one for one in labels}  # of an author, the last word
    for one in latest.values():
        by_trajectory.setdefault(one.trajectory, []).append(one)
    found = {}
    for id, some in by_trajectory.items():
        if len(some) == 1:
            found[id] = some[0]
            continue
        value = Counter(one.value for one in some).most_common(1)[0][0]
        scores = [one.score for one in some if one.score is not None]
        reasons = [f"{one.author}: {one.rationale}" for one in some if one.rationale]
        found[id] = msgspec.structs.replace(
            some[0],
            value=value,
            score=math.fsum(scores) / len(scores) if scores else None,
            rationale="; ".join(reasons) or None,
        )
    return found


def _diff(texts: Sequence[str], names: tuple[str, str]) -> list[str]:
    lines = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), *names, lineterm="", n=0)
    return [one for one in lines if not one.startswith("@@")]


# --- a judge and people ---------------------------------------------------------------------------------------------------


def _corrected(found: Compared, people: list[Said], judge: list[Said], confidence: float) -> Compared:
    """What the judge says of all, corrected by what people say of some."""
    ours, theirs = together(people), together(judge)
    made: list[Corrected] = []
    values = sorted({one.value for side in (ours, theirs) for one in side.values() if one.value})
    # of each figure: what it is of a label
    figures: list[tuple[str, Any]] = [("score", lambda one: one.score)]
    if 1 < len(values) <= _MOST:
        figures += [
            (value, lambda one, value=value: None if one.value is None else float(one.value == value)) for value in values
        ]
    for name, figure in figures:
        a = {id: v for id, one in ours.items() if (v := figure(one)) is not None}
        b = {id: v for id, one in theirs.items() if (v := figure(one)) is not None}
        both = [id for id in a if id in b]
        alone = [v for id, v in b.items() if id not in a]
        if len(both) < 2 or len(alone) < 2:
            continue
        bounds = bounds_of([*a.values(), *b.values()])
        mine = [a[id] for id in both]
        powered = prediction_powered(mine, [b[id] for id in both], alone, confidence=confidence, bounds=bounds)
        raw = mean_interval(list(b.values()), confidence, bounds=bounds)
        said = mean_interval(mine, confidence, bounds=bounds)
        assert raw is not None
        assert said is not None
        made.append(
            Corrected(
                name=name,
                raw=raw.mean,
                raw_interval=raw.interval,
                people=said.mean,
                people_interval=said.interval,
                corrected=powered.estimate,
                interval=powered.interval,
                n_people=len(both),
                n_judge=len(alone),
            )
        )
    people_alpha = None
    if len({one.author for one in people}) > 1:
        by_trajectory: dict[str, list[Any]] = {}
        for one in people:
            by_trajectory.setdefault(one.trajectory, []).append(one.value if values else one.score)
        people_alpha = krippendorff_alpha(list(by_trajectory.values()), "nominal" if values else "interval")
    return msgspec.structs.replace(found, corrected=made, calibration=_calibrated(ours, theirs), people_alpha=people_alpha)


def _calibrated(people: dict[str, Said], judge: dict[str, Said]) -> Calibration | None:
    """Where people say yes or no (scores of 0 and 1): whether the judge's scores are the shares that they accept."""
    pairs = [
        (judge[id].score, one.score)
        for id, one in people.items()
        if id in judge and judge[id].score is not None and one.score is not None
    ]
    if not pairs or any(outcome not in (0.0, 1.0) or not 0.0 <= (score or 0.0) <= 1.0 for score, outcome in pairs):
        return None
    scores, outcomes = [float(s or 0.0) for s, _ in pairs], [int(o or 0) for _, o in pairs]
    error, brier = expected_calibration_error(scores, outcomes), brier_score(scores, outcomes)
    return None if error is None or brier is None else Calibration(bins=calibration(scores, outcomes), error=error, brier=brier)


# --- bias -----------------------------------------------------------------------------------------------------------------


def family_of(model: str | None) -> str | None:
    """The family of a model's name: gpt-5-mini and openai/gpt-4o are `gpt`."""
    name = (model or "").lower()
    return next((family for family in _FAMILIES if family in name), None)


def _probes(name: str, labels: list[Said], summaries: dict[str, Summary], confidence: float, seed: int) -> Iterator[Probe]:
    scored = [(one, summaries[one.trajectory]) for one in together(labels).values() if one.score is not None]
    sized = [(one.score or 0.0, float((s.prompt_tokens or 0) + (s.completion_tokens or 0))) for one, s in scored]
    sized = [(score, size) for score, size in sized if size]
    found = length_bias([s for s, _ in sized], [n for _, n in sized], confidence=confidence, seed=seed)
    if found is not None:
        yield Probe(side=name, kind="length", value=found.correlation, interval=found.interval, p_value=found.p_value, n=found.n)
    own = [
        (one.score or 0.0, family_of(s.model) == family_of(one.author))
        for one, s in scored
        if family_of(one.author) and family_of(s.model)
    ]
    family = family_bias([s for s, _ in own], [o for _, o in own], confidence=confidence, seed=seed)
    if family is not None:
        n = family.own + family.others
        yield Probe(side=name, kind="family", value=family.difference, interval=family.interval, p_value=family.p_value, n=n)
    pairs = list(_both_orders(labels))
    order = order_bias([one for one, _ in pairs], [other for _, other in pairs], confidence=confidence)
    if order is not None:
        yield Probe(side=name, kind="order", value=order.rate, interval=order.interval, p_value=order.p_value, n=order.n)


def _both_orders(labels: Iterable[Said]) -> Iterator[tuple[str, str]]:
    """Of each two trajectories that a judge compared in both orders: the one that it preferred in each order."""
    groups: dict[Any, list[Said]] = {}
    for one in labels:
        if one.places:
            groups.setdefault((one.author, one.technique, one.group), []).append(one)
    for members in groups.values():
        for n, x in enumerate(members):
            for y in members[n + 1 :]:
                found: dict[bool, str] = {}
                for here, there, a, b in zip(x.places, y.places, x.scores, y.scores, strict=False):
                    if here != there:  # else they are the same to read, and were shown once
                        found.setdefault(here < there, "a" if a > b else "b" if b > a else "tie")
                if len(found) == 2:
                    yield found[True], found[False]
