"""Filters as SQLite asks for them: clauses over the catalog's table of trajectories, with their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..codec import encode
from ..types import STATUSES
from .filters import Filters
from .rows import IDS, UNKNOWN_TIME

#: A trajectory without an end whose writer is at work; imports have no writer that could go on.
_RUNNING = "(status is null and source is null and writer in (select value from json_each(?)))"


def where(
    filters: Filters,
    find: Callable[[str], str],
    having: Callable[[str], list[str]],
    alive: Callable[[], set[str]],
    number: Callable[[str], int],
) -> tuple[list[str], list[Any]]:
    """The clauses, all of which must hold, and their values in order; all but `limit`.

    `find` gives the whole id of a part of one, `having` the trajectories with a line that has all of a user's words, `alive` the
    writers at work, `number` the number of a text that summaries share.
    """
    clauses: list[str] = []
    values: list[Any] = []

    def add(clause: str, *given: Any) -> None:
        clauses.append(clause)
        values.extend(given)

    if filters.ids is not None:
        add(f"id in ({IDS})", _json([find(one) for one in filters.ids]))
    if filters.group is not None:
        add("grp_number=?", number(filters.group))
    if filters.agent is not None:
        add("agent_number=?", number(filters.agent))
    if filters.model is not None:
        add("coalesce(model_number, first_model_number)=?", number(filters.model))
    for tag in filters.tag or ():
        add("exists (select 1 from json_each(tags) where json_each.value=?)", tag)
    if filters.status is not None:
        add(*_status(set(filters.status), alive))
    if filters.policy_version is not None:  # stored as JSON
        add("policy_version_number in (?, ?)", number(str(filters.policy_version)), number(_json(str(filters.policy_version))))
    if filters.min_reward is not None:
        add("reward>=?", filters.min_reward)
    if filters.max_reward is not None:
        add("reward<=?", filters.max_reward)
    if filters.time_range is not None:
        low, high = filters.time_range
        add("began>?", UNKNOWN_TIME)
        if low is not None:
            add("began>=?", low)
        if high is not None:
            add("began<?", high)
    if filters.task_id is not None:
        add("task_id in (select value from json_each(?))", _json(list(filters.task_id)))
    if filters.text is not None:
        add(f"id in ({IDS})", _json(having(filters.text)))
    return clauses, values


def _status(wanted: set[str], alive: Callable[[], set[str]]) -> tuple[Any, ...]:
    clauses = ["status in (select value from json_each(?))"]
    values = [_json(sorted(wanted & set(STATUSES)))]
    if {"running", "unterminated"} <= wanted:
        clauses.append("status is null")
    elif "running" in wanted:
        clauses.append(_RUNNING)
        values.append(_json(sorted(alive())))
    elif "unterminated" in wanted:
        clauses.append(f"(status is null and not {_RUNNING})")
        values.append(_json(sorted(alive())))
    return f"({' or '.join(clauses)})", *values


def _json(value: Any) -> str:
    return encode(value).decode()
