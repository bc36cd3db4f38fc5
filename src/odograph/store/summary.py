"""What lists, searches and late records take from the catalog, as values; how a row of the catalog becomes a summary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..clock import iso_time
from .rows import unpacked

#: Asks for the rows that `summary_of` reads.
SUMMARIES = (
    "select id, task, agent, coalesce(model, first_model), status, steps, coalesce(stated_calls, llm_calls), actions,"
    " coalesce(stated_prompt, prompt_tokens), coalesce(stated_completion, completion_tokens), reward,"
    " started, start_time, end_time, end_source, grp, tags, source, error, last, task_id, attempt, writer,"
    " policy_version, scenario, first_apart, began, replay from trajectories"
)


class Summary(msgspec.Struct, frozen=True):
    """A trajectory as lists show it. `started` and the times are nanoseconds; None is unknown."""

    id: str
    task: Any
    agent: str | None
    model: str | None
    status: str
    steps: int
    llm_calls: int
    actions: int
    prompt_tokens: int | None
    completion_tokens: int | None
    reward: float | None
    started: int | None
    duration: float | None
    group: str | None
    tags: list[str]
    source: dict[str, Any] | None
    error: Any
    last: int
    #: Of a run of the runtime: the task's id, and which of several attempts it is.
    task_id: str | None = None
    attempt: int | None = None
    policy_version: Any = None
    #: `scenario` of the metadata; what is no text as JSON.
    scenario: str | None = None
    #: Whether it repeats another (`replay_of` of the metadata): then it is compared with nothing and never trained.
    replay: bool = False

    def to_dict(self) -> dict[str, Any]:
        """A line of a list as JSON, with the keys that scripts rely on."""
        names = ("id", "task", "agent", "model", "status", "steps", "llm_calls", "actions", "prompt_tokens", "completion_tokens")
        found = {name: getattr(self, name) for name in (*names, "reward", "started", "duration", "group", "tags")}
        return found | {"started": iso_time(self.started)}


class Used(msgspec.Struct, frozen=True):
    """What happened in a trajectory, by name."""

    #: ("action" | "context" | "model", name): what was done, read from and asked.
    uses: list[tuple[str, str]] = []
    #: The value that counts under each name of a reward, before its weight; None where it is not known.
    components: dict[str, float | None] = {}


class Hit(msgspec.Struct, frozen=True):
    """A line that a search found."""

    trajectory: str
    kind: str
    step: int | None
    text: str


class Facts(msgspec.Struct, frozen=True):
    """What records that come late need to know of their trajectory."""

    #: The id of the record inside of which all others are.
    root: str
    agent: str | None
    #: When the last record was written, nanoseconds.
    last: int


def summary_of(row: tuple[Any, ...], alive: Callable[[], set[str]]) -> Summary:
    """The summary in a row. `alive` tells which writers still hold their files; it is asked where a trajectory has no end."""
    status = row[4]
    if status is None:
        status = "running" if not row[17] and row[22] in alive() else "unterminated"
    started, start_time, end_time, end_source = row[11:15]
    source = msgspec.json.decode(row[17]) if row[17] else None
    if started is not None:
        duration = (end_source - started) / 1e9 if end_source is not None else None
    else:
        started = None if source is not None else start_time
        duration = (end_time - started) / 1e9 if started is not None and end_time is not None else None
    return Summary(
        id=unpacked(row[0]),
        task=msgspec.json.decode(row[1]) if row[1] else None,
        agent=row[2],
        model=row[3],
        status=status,
        steps=row[5],
        llm_calls=row[6],
        actions=row[7],
        prompt_tokens=row[8],
        completion_tokens=row[9],
        reward=row[10],
        started=started,
        duration=duration,
        group=row[15],
        tags=msgspec.json.decode(row[16]) if row[16] else [],
        source=source,
        error=msgspec.json.decode(row[18]) if row[18] else None,
        last=row[19],
        task_id=row[20],
        attempt=row[21],
        policy_version=msgspec.json.decode(row[23]) if row[23] else None,
        scenario=row[24],
        replay=bool(row[27]),
    )
