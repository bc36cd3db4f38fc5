"""Our own records as three Parquet tables, losslessly; `odograph import` reads them back into an equal store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import encode
from ...columns import fits, message_row, message_schema, record_row, record_schema, trajectory_schema
from ...packing import lines_of
from ...trajectory import Trajectory
from . import LeftOut

NAME = "parquet"
FILES = ("parquet",)


def schema() -> dict[str, Any]:
    """The columns of each table."""
    return {"trajectories": trajectory_schema(), "records": record_schema(), "messages": message_schema()}


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row about the trajectory, one per record, and one per message or run of token ids that calls refer to."""
    if not trajectory.id:
        left_out("a trajectory without an id: add it to a store first")
        return
    yield "trajectories", _about(trajectory)
    for record, line in lines_of(trajectory.id, trajectory.complete_records(growing=True)):
        yield ("messages", message_row(line)) if record is None else ("records", record_row(line))


def _about(t: Trajectory) -> dict[str, Any]:
    start = t.start
    return {
        "id": t.id,
        "task": _json(t.task),
        "agent": _fitting(t.agent, str),
        "agent_version": _fitting(start and start.agent_version, str),
        "model": _fitting(t.model, str),
        "group": _fitting(t.group, str),
        "seed": _fitting(start and start.seed, int),
        "schema_version": _fitting(start and start.schema_version, int),
        "tags": [tag for tag in t.tags if fits(tag, str)],
        "metadata": _json(t.metadata),
        "status": t.status,
        "reward": t.reward,
        "answer": _json(t.answer),
        "started": _fitting(t.started, int),
        "duration": t.duration,
        "steps": len(t.steps),
        "llm_calls": len(t.llm_calls),
        "actions": len(t.actions),
    }


def _fitting(value: Any, kind: type) -> Any:
    """What the column can hold; the record has the rest."""
    return value if fits(value, kind) else None


def _json(value: Any) -> str | None:
    return None if value is None else encode(value).decode()


def card(manifest: dict[str, Any]) -> str:
    """The README: what each table is, for people and for `datasets.load_dataset(folder, "records")`."""
    splits = [split for split, rows in manifest["rows_by_split"].items() if rows]
    configs = "".join(
        f"- config_name: {table}\n{'  default: true' + chr(10) if table == 'trajectories' else ''}"
        f"  description: {manifest['content_hash']}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {table}/{split}-*.parquet\n" for split in splits)
        for table in ("trajectories", "records", "messages")
    )
    return f"""---
configs:
{configs}---

# Agent trajectories, losslessly

{manifest["trajectories"]["out"]} trajectories, written by Odograph {manifest["odograph"]} (schema version
{manifest["schema_version"]}) on {manifest["created"]}. `odograph import` of this folder gives an equal store.

- `trajectories`: a row per trajectory. `task`, `answer` and `metadata` are JSON; times are nanoseconds since 1970, UTC;
  `duration` is in seconds.
- `records`: a row per record, in order. `body` is the JSON of the fields that have no column; `logprobs` are those given
  beside a call's first answer.
- `messages`: what calls refer to in `packed`, stored once: messages, tool schemas, and runs of token ids.
"""
