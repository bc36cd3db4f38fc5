"""Trajectories as dicts that people and programs write by hand -> records: what may be left out, and where a mistake is.

The shape is that of `Trajectory.to_dict`. Knows no views and no store.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from .codec import new_id, record_from_dict
from .errors import InvalidInput
from .types import SCHEMA_VERSION, Action, AnyRecord, Context, Edit, Label, LLMCall, Note, Record, Reward, Start, StepStart

_LISTS: dict[str, type[Record]] = {
    "contexts": Context,
    "llm_calls": LLMCall,
    "actions": Action,
    "rewards": Reward,
    "edits": Edit,
    "labels": Label,
    "notes": Note,
}
_STEP_KEYS = {"index", "agent", "observation", "reward", "record", *_LISTS}
_START_FIELDS = set(Start.__struct_fields__) - set(Record.__struct_fields__) | {"agent"}


def placed_records(records: list[AnyRecord]) -> list[AnyRecord]:
    """The records with the ids, the trajectory and the parents that hand-made ones leave out."""
    if not records:
        raise InvalidInput("a trajectory has at least one record")
    trajectory = next((r.trajectory for r in records if r.trajectory), "") or new_id()
    root: str | None = None
    steps: dict[tuple[str | None, int | None], str] = {}
    placed: list[AnyRecord] = []
    for record in records:
        if record.trajectory not in ("", trajectory):
            raise InvalidInput(f"records of two trajectories: {trajectory} and {record.trajectory}")
        changes: dict[str, Any] = {}
        if not record.id:
            changes["id"] = new_id()
        if not record.trajectory:
            changes["trajectory"] = trajectory
        if record.parent is None and not isinstance(record, Start):
            parent = root if isinstance(record, StepStart) else steps.get((record.agent, record.step), root)
            if parent is not None:
                changes["parent"] = parent
        if changes:
            record = msgspec.structs.replace(record, **changes)
        if isinstance(record, Start):
            root = record.id
        elif isinstance(record, StepStart):
            steps[(record.agent, record.step)] = record.id
        placed.append(record)
    return placed


def _of_sequence(data: dict[str, Any]) -> dict[str, Any]:
    """A black box as calls: each run of the mask is what one call generated, under all that stands left of it."""
    ids, mask, logprobs = data["token_ids"], data.get("mask"), data.get("logprobs")
    if not isinstance(ids, list) or not isinstance(mask, list) or len(mask) != len(ids):
        raise InvalidInput("token_ids needs a mask of the same length: 1 where the policy generated")
    if logprobs is not None and (not isinstance(logprobs, list) or len(logprobs) != len(ids)):
        raise InvalidInput(f"logprobs: a list of {len(ids)} was expected, one per token id, with null where mask is 0")
    if any(m not in (0, 1) for m in mask) or not mask or mask[0]:
        raise InvalidInput("mask: 0s and 1s were expected, beginning with 0: there is a prompt before what is generated")
    rest = {k: v for k, v in data.items() if k not in ("token_ids", "mask", "logprobs", "reward", "steps")}
    steps: list[dict[str, Any]] = []
    stop = 0
    while 1 in mask[stop:]:
        start = mask.index(1, stop)
        stop = mask.index(0, start) if 0 in mask[start:] else len(mask)
        tokens: dict[str, Any] = {"token_ids": ids[start:stop]}
        if logprobs is not None:
            tokens["logprobs"] = logprobs[start:stop]
        call = {"model": data.get("model"), "prompt_token_ids": ids[:start], "tokens": [tokens]}
        steps.append({"llm_calls": [{k: v for k, v in call.items() if v is not None}]})
    if data.get("reward") is not None and not data.get("rewards"):
        rest["rewards"] = [{"value": data["reward"]}]
    return {**rest, "steps": steps}


def records_from_dict(data: Any) -> list[AnyRecord]:
    """The records of a trajectory given as a dict: the shape of `to_dict`, of which a hand-made one may leave out all
    that it does not know (ids, times, `record`s): `{"task", "steps": [{"observation", "llm_calls", ...}], "rewards", ...}`.
    A black box may give all its tokens at once: `{"task", "token_ids", "mask", "logprobs", "reward"}`.

    Raises InvalidInput with the path of what can't be read.
    """
    if not isinstance(data, dict):
        raise InvalidInput(f"a trajectory is an object, not {type(data).__name__}")
    if "token_ids" in data:
        data = _of_sequence(data)
    version = data.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version < 1:
        raise InvalidInput(f"schema_version is a whole number from 1, not {version!r}")
    out: list[AnyRecord] = []

    def add(kind: str, raw: Any, where: str, **defaults: Any) -> None:
        if not isinstance(raw, dict):
            raise InvalidInput(f"{where}: an object was expected, found {type(raw).__name__}")
        fields = {**defaults, **raw, "kind": kind}
        try:
            out.append(record_from_dict(fields, version))
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None

    def add_lists(part: dict[str, Any], where: str, **defaults: Any) -> None:
        for name, kind in _LISTS.items():
            found = part.get(name) or []
            if not isinstance(found, list):
                raise InvalidInput(f"{where}{name}: a list was expected, found {type(found).__name__}")
            for index, raw in enumerate(found):
                add(str(kind.__struct_config__.tag), raw, f"{where}{name}[{index}]", **defaults)

    start = data.get("start")
    if (start is None and data.get("id") is None) or (start is None and any(k in data for k in _START_FIELDS)):
        stated = {k: v for k, v in data.items() if k in _START_FIELDS and v is not None}
        start = {k: v for k, v in stated.items() if k != "schema_version"}
    if start is not None:
        add("start", start, "start")
    steps = data.get("steps") or []
    if not isinstance(steps, list):
        raise InvalidInput(f"steps: a list was expected, found {type(steps).__name__}")
    counts: Counter[Any] = Counter()  # an index is per agent
    for position, step in enumerate(steps):
        where = f"steps[{position}]"
        if not isinstance(step, dict):
            raise InvalidInput(f"{where}: an object was expected, found {type(step).__name__}")
        agent = {} if step.get("agent") in (None, data.get("agent")) else {"agent": step["agent"]}
        whose = agent.get("agent") if isinstance(agent.get("agent"), str) else None
        index = step.get("index", counts[whose])
        counts[whose] = index + 1 if type(index) is int else counts[whose] + 1
        if step.get("record") is not None:
            add("step", step["record"], f"{where}.record")
        elif "record" not in step:
            unknown = {k: v for k, v in step.items() if k not in _STEP_KEYS}
            add("step", {"observation": step.get("observation"), **unknown}, where, step=index, **agent)
        add_lists(step, f"{where}.", step=index, **agent)
    add_lists(data, "")
    for index, raw in enumerate(data.get("superseded") or []):
        add(str(raw.get("kind")) if isinstance(raw, dict) else "", raw, f"superseded[{index}]")
    end = data.get("end")
    if end is None and start is not None and "end" not in data and data.get("status") not in ("running", "unterminated"):
        end = {k: v for k in ("status", "answer") if (v := data.get(k)) is not None}
    if end is not None:
        add("end", end, "end")
    if not out:
        raise InvalidInput("a trajectory has a start, steps or records; this object has none")
    id, whose = data.get("id"), next((r.trajectory for r in out if r.trajectory), None)
    if isinstance(id, str) and whose is not None and id != whose:  # it would correct that one
        raise InvalidInput(f"id: {id[:100]!r}, but the records in it are of trajectory {whose!r}; a copy has no ids inside")
    return out
