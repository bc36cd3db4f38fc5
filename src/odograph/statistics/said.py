"""Labels as values, out of a store's records: those that people and judges gave, and the scores of judges that gave rewards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, Unpack

import msgspec

from ..codec import loads
from ..store.filters import FilterArgs
from ..store.summary import Summary


class Source(Protocol):
    """What labels are read from: a `Store`."""

    def summaries(self, *, newest_first: bool = False, **filters: Unpack[FilterArgs]) -> Iterator[Summary]: ...
    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any: ...


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A label of a whole trajectory. `person`: whether a person gave it.

    Of a judge that compared the trajectories of a group several times: `scores` and `places` in the prompt, one of each time, and
    what tells the `group` from others.
    """

    trajectory: str
    technique: str
    value: str | None
    score: float | None
    author: str | None = None
    version: str | None = None
    rationale: str | None = None
    description: str | None = None
    person: bool = False
    scores: tuple[float, ...] = ()
    places: tuple[float, ...] = ()
    group: str | None = None


def said_in(store: Source, ids: Iterable[str] | None = None, kind: Literal["label", "reward"] = "label") -> list[Said]:
    """The labels of whole trajectories that no later one corrects, in the order in which they were given. `kind` reward: the
    scores of judges that gave rewards. Raises MissingExtra without the extra `lake`."""
    rows = store.sql(f"select trajectory, id, supersedes, body from records where kind = '{kind}' order by time, seq").list()
    wanted = None if ids is None else set(ids)
    replaced = {row["supersedes"] for row in rows if row["supersedes"]}
    found = []
    for row in rows:
        if row["id"] not in replaced and (wanted is None or row["trajectory"] in wanted):
            body: Any = loads(row["body"])
            body = body if isinstance(body, dict) else {}
            extra = body.get("extra") if isinstance(body.get("extra"), dict) else {}
            if body.get("target") is None and "turn" not in extra:
                one = (_labelled if kind == "label" else _rewarded)(row["trajectory"], body, extra)
                if one.value is not None or one.score is not None:
                    found.append(one)
    return found


def _labelled(trajectory: str, body: dict[str, Any], extra: dict[str, Any]) -> Said:
    value = body.get("value")
    return Said(
        trajectory=trajectory,
        technique=_text(body.get("technique")) or "",
        value=value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode(),
        score=_finite(body.get("score")),
        version=_text(body.get("rubric_hash")),
        author=_text(body.get("author")),
        rationale=_text(body.get("rationale")),
        description=_text(body.get("description")),
        person=extra.get("source") == "human",
    )


def _rewarded(trajectory: str, body: dict[str, Any], extra: dict[str, Any]) -> Said:
    scores, places = ([*map(_finite, v)] if isinstance(v := extra.get(n), list) else [] for n in ("scores", "places"))
    known = len(scores) == len(places) and None not in (*scores, *places)
    return Said(
        trajectory=trajectory,
        technique=_text(body.get("name")) or "",
        value=None,
        score=_finite(body.get("value")) if body.get("source") == "judge" else None,
        version=_text(extra.get("rubric_hash")),
        author=_text(body.get("author")),
        rationale=_text(body.get("rationale")),
        scores=tuple(s for s in scores if s is not None) if known else (),
        places=tuple(p for p in places if p is not None) if known else (),
        group=_text(body.get("version")),
    )


def _finite(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
