"""Labels counted: how often each value was given, and the mean score, by technique, version of the rubric and annotator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from .parts import Distribution
from .said import Said

_MOST = 12  # values that are counted one by one; more are free text


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one annotator said by one version of a rubric. Of a trajectory that was labelled again, the last label counts."""

    technique: str
    version: str | None
    author: str | None
    #: Whether the annotator is a person.
    person: bool
    #: Labelled trajectories.
    n: int
    #: The most frequent values with their counts, at most twelve.
    values: dict[str, int]
    #: Labels with a value that is not among `values`.
    others: int
    scores: Distribution


def tally(labels: Iterable[Said], confidence: float = 0.95) -> list[Tally]:
    """One `Tally` for each technique, version and annotator, in the order in which the first label of each was given."""
    parts: dict[tuple[str, str | None, str | None, bool], dict[str, Said]] = {}
    for one in labels:
        parts.setdefault((one.technique, one.version, one.author, one.person), {})[one.trajectory] = one
    return [_of(list(part.values()), confidence) for part in parts.values()]


def _of(part: list[Said], confidence: float) -> Tally:
    first = part[0]
    counted = Counter(one.value for one in part if one.value is not None)
    values = dict(counted.most_common(_MOST))
    return Tally(
        technique=first.technique,
        version=first.version,
        author=first.author,
        person=first.person,
        n=len(part),
        values=values,
        others=counted.total() - sum(values.values()),
        scores=Distribution.of([one.score for one in part if one.score is not None], confidence),
    )
