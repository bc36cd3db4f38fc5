"""Rows for Hugging Face datasets, one per call of the policy: prompt, response, reward, context, metadata.

Source: the logging format of the fourth seed. `reward` is the trajectory's. The prompt never holds an outcome: it is what the
model was sent. `context` and `metadata` are JSON strings, so that every row has one schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...calls import Call
from ...clock import iso_time
from ...codec import encode
from ...columns import schema_of
from ...dialects.content import as_json, as_text, marked
from ...errors import InvalidInput
from ...trajectory import Step, Trajectory
from ...types import Context
from ..views import NO_TEXT, answered_calls, told
from . import LeftOut

NAME = "hf"
FILES = ("parquet", "jsonl")
_COLUMNS = {
    "prompt": (str, "what the model was sent"),
    "response": (str, "what it answered"),
    "reward": (float, "the trajectory's reward, or null"),
    "context": (str, "JSON: what the agent had read in that step"),
    "metadata": (str, "JSON: ids, agent, model, group, tags, step, status, times, reasoning; the run's own metadata as `run`"),
}


def rows(
    trajectory: Trajectory, left_out: LeftOut, *, include_metadata: bool = True, license: str = "unknown"
) -> Iterator[dict[str, Any]]:
    """A row for each call with purpose `act` that has a prompt and an answer. `license` is for the dataset card."""
    steps: dict[tuple[str | None, int | None], Step] = {(s.agent, s.index): s for s in trajectory.steps}
    reward, shared = trajectory.reward, _about(trajectory)
    apart: dict[str | None, list[Context]] = {}  # read in an action that is in no step
    for record in trajectory.standing:
        if isinstance(record, Context) and record.step is None:
            apart.setdefault(record.parent, []).append(record)
    for call in answered_calls(trajectory, left_out):
        prompt, marks = _prompt(call)
        for _ in range(marks):
            left_out(NO_TEXT)
        if not prompt:
            left_out("a call whose prompt is not known")
            continue
        for _ in call.choices[1:]:
            left_out("a further answer to one prompt")
        step = steps.get((call.agent or trajectory.agent, call.record.step))
        row = {
            "prompt": prompt,
            "response": answer_text(call),
            "reward": reward,
            "context": encode([_context(c) for c in (step.contexts if step else apart.get(call.record.parent, []))]).decode(),
        }
        if include_metadata:
            row["metadata"] = encode({**shared, **_about_call(trajectory, call, step)}).decode()
        yield row


def schema(*, include_metadata: bool = True, license: str = "unknown") -> Any:
    """The columns."""
    return schema_of({n: kind for n, (kind, _) in _COLUMNS.items() if include_metadata or n != "metadata"})


def _prompt(call: Call) -> tuple[str, int]:
    """The text, and how many parts of it are no text."""
    if call.messages:
        return prompt_text(call.messages), sum(marked(m.get("content"))[1] for m in call.messages)
    given = call.request.get("prompt") if isinstance(call.request, dict) else None  # completions, not chat
    return (given if isinstance(given, str) else ""), 0


def prompt_text(messages: list[dict[str, Any]]) -> str:
    """System and user text with an empty line between; a longer conversation with a `[role]` line before each message."""
    if [m.get("role") for m in messages] in (["system", "user"], ["user"], ["developer", "user"]):
        return "\n\n".join(_text(m) for m in messages)
    return "\n\n".join(f"[{m.get('role')}]\n{_text(m)}" for m in messages)


def answer_text(call: Call) -> str:
    """The first answer's text, and a line for each tool call in it."""
    choice = call.choices[0]
    said = choice.text or as_text(told(choice.message.get("content")))
    return "\n".join([*([said] if said else []), *(_tool_call(c.name, c.arguments) for c in choice.tool_calls)])


def _text(message: dict[str, Any]) -> str:
    said, _ = marked(message.get("content"))
    said = said or ("[audio]" if isinstance(message.get("audio"), dict) else "")
    calls = message.get("tool_calls")
    lines = [said] if said else []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            lines.append(_tool_call(str(function.get("name")), function.get("arguments")))
    return "\n".join(lines)


def _tool_call(name: str, arguments: Any) -> str:
    return f"[tool call] {name}({arguments if isinstance(arguments, str) else as_json(arguments)})"


def _context(context: Context) -> dict[str, Any]:
    return {"provider": context.provider, "query": context.query, "data": context.data, "purpose": context.purpose}


def _about(trajectory: Trajectory) -> dict[str, Any]:
    source = trajectory.metadata.get("source")
    return {
        "trajectory": trajectory.id,
        "group": trajectory.group,
        "tags": trajectory.tags,
        "status": trajectory.status,
        "started": iso_time(trajectory.started),
        "source": source.get("format") if isinstance(source, dict) else None,
        "run": {k: v for k, v in trajectory.metadata.items() if k != "source"},
    }


def _about_call(trajectory: Trajectory, call: Call, step: Step | None) -> dict[str, Any]:
    return {
        "call": call.id,
        "agent": call.agent or trajectory.agent,
        "model": call.model or trajectory.model,
        "step": step.index if step else None,
        "reasoning": call.reasoning,
        "time": iso_time(call.source_time if call.source_time is not None else call.time),
    }


#: The Hub's classes of sizes end at these: 1K<n<10K is four digits.
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


def licensed(options: dict[str, Any]) -> str:
    """The licence that a card names. Raises InvalidInput."""
    license = options.get("license", "unknown")
    if not isinstance(license, str) or not _LICENSE.fullmatch(license):
        raise InvalidInput(f"a license is an identifier such as 'mit' or 'cc-by-4.0', not {license!r}")
    return license


def asked_for(manifest: dict[str, Any]) -> str:
    """The part of a card that says what was left out, and where all of it comes from."""
    asked = {k: v for k in ("asked", "options", "splits", "seed") if (v := manifest.get(k))}
    left = "".join(f"- {count} x {reason}\n" for reason, count in manifest["left_out"].items()) or "- nothing\n"
    return f"""Left out:

{left}
## Where it comes from

| | |
|---|---|
| exported by | Odograph {manifest["odograph"]}, schema version {manifest["schema_version"]} |
| at | {manifest["created"]} |
| trajectories | {manifest["trajectories"]["out"]} of {manifest["trajectories"]["in"]} that were looked at |
| content hash | `{manifest["content_hash"]}` |

Asked for:

```json
{encode(asked).decode()}
```

`manifest.json` has all of it, and the size and SHA-256 of each file.
"""


def card(manifest: dict[str, Any]) -> str:
    """The dataset card: what is in it, where it came from, and how `datasets` finds the files.

    The hash in the description is for `datasets`: it caches by the card, and would give the rows of an earlier export again.
    """
    options: dict[str, Any] = manifest["options"]
    parquet = manifest["format"] == "parquet"
    columns = {n: c for n, c in _COLUMNS.items() if options.get("include_metadata", True) or n != "metadata"}
    found = manifest["rows_by_split"]
    splits = [name for name, rows in found.items() if rows] or list(found)[:1]  # `datasets` loads no split without rows
    text = "large_string" if parquet else "string"
    features = "".join(f"  - name: {n}\n    dtype: {text if k is str else 'float64'}\n" for n, (k, _) in columns.items())
    files = "".join(f"  - split: {n}\n    path: data/{n}{'-*.parquet' if parquet else '.jsonl'}\n" for n in splits)
    counts = "".join(f"| {name} | {rows} |\n" for name, rows in found.items())
    said = "".join(f"| {name} | {what} |\n" for name, (_, what) in columns.items())
    rows_in_all = manifest["rows"]
    digits = len(str(rows_in_all)) - 4
    size = "n<1K" if digits < 0 else f"{_SIZES[digits]}<n<{_SIZES[digits + 1]}"
    return f"""---
license: {licensed(options)}
pretty_name: Agent trajectories
tags:
- agent-trajectories
- odograph
size_categories:
- {size}
dataset_info:
  features:
{features}configs:
- config_name: default
  description: {manifest["content_hash"]}
  data_files:
{files}---

# Agent trajectories

One row per call of the policy that was answered: {rows_in_all} rows.

| split | rows |
|---|---|
{counts}
| column | |
|---|---|
{said}
A prompt of a system and a user message is their texts with an empty line between; in a longer conversation a line with the
`[role]` stands before each message. A tool call is a line `[tool call] name(arguments)`.

{asked_for(manifest)}"""
