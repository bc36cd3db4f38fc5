"""Lists for people as SQLite makes them: pages in any order, counts of values, groups as one row each."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from ..errors import InvalidInput, did_you_mean


class Fold(msgspec.Struct, frozen=True):
    """A group as one row of a list. Rewards are of the trajectories whose reward is known; `started` is that of the newest."""

    group: str
    trajectories: int
    rewarded: int
    mean: float | None
    min: float | None
    max: float | None
    started: int | None
    steps: float


class Sort(NamedTuple):
    """In which order a list is: by one of `COLUMNS`."""

    by: str
    descending: bool

    @classmethod
    def of(cls, text: str) -> Sort:
        """The order that a text such as `reward` or `-started` names. Raises InvalidInput."""
        name = text.removeprefix("-")
        if name not in COLUMNS:
            raise InvalidInput(f"no column {name!r} to sort by; there are: {', '.join(COLUMNS)}{did_you_mean(name, COLUMNS)}")
        return cls(name, text.startswith("-"))


#: What a list can be sorted by. Unknown values stand last either way.
COLUMNS: dict[str, str] = {
    "started": "began",
    "reward": "reward",
    "steps": "steps",
    "llm_calls": "coalesce(stated_calls, llm_calls)",
    "actions": "actions",
    "tokens": "coalesce(stated_prompt, prompt_tokens, 0) + coalesce(stated_completion, completion_tokens)",
    "duration": "iif(started is not null, end_source - started, end_time - start_time)",
    "status": "status",
    "agent": "agent",
    "model": "coalesce(model, first_model)",
    "group": "grp",
    "task": "task",
}
_OF_GROUPS = {"started": "max(began)", "reward": "avg(reward)", "steps": "avg(steps)", "group": "grp"}

#: By filter: the values of the chosen trajectories and their counts.
VALUES: dict[str, str] = {
    name: f"select {column}, count(*) from trajectories where {{0}} and {column} is not null"
    " group by 1 order by 2 desc, 1 limit 50"
    for name, column in (("agent", "agent"), ("model", "coalesce(model, first_model)"), ("group", "grp"))
} | {
    "tag": "select value, count(*) from (select tags from trajectories where {0}) as t, json_each(t.tags)"
    " group by 1 order by 2 desc, 1 limit 50"
}
STATES_OF = (
    "select status, iif(status is null and source is null, writer, null), count(*) from trajectories where {0} group by 1, 2"
)


def order_of(sort: Sort) -> str:
    """The `order by` of a list."""
    way = "desc" if sort.descending else "asc"
    if sort.by == "started":  # there is an index of this order
        return f"began {way}, first_apart {way}, id {way}"
    column = COLUMNS[sort.by]
    return f"({column}) is null, ({column}) {way}, began {way}, first_apart {way}, id {way}"


def folds(chosen: str, sort: Sort) -> str:
    """Groups as rows, of which `chosen` holds."""
    column, way = _OF_GROUPS.get(sort.by, "max(began)"), "desc" if sort.descending else "asc"
    return (
        "select grp, count(*), count(reward), avg(reward), min(reward), max(reward), max(coalesce(started, start_time)),"
        f" avg(steps) from trajectories where {chosen} and grp is not null group by grp"
        f" order by {column} is null, {column} {way}, grp"
    )


def statuses(rows: list[Any], alive: set[str]) -> list[tuple[Any, int]]:
    """The counts by status; a trajectory without an end runs where its writer is alive."""
    found: Counter[str] = Counter()
    for status, writer, count in rows:
        found[status or ("running" if writer in alive else "unterminated")] += count
    return found.most_common()
