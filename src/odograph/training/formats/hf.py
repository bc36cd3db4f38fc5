"""Rows for Hugging Face datasets, one per call of the policy: prompt, response, reward, context, metadata.

Source: the logging format of the fourth seed. `reward` is the trajectory's. The prompt never holds an outcome: it is what the
model was sent. `context` and `metadata` are JSON strings, so that every row has one schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...clock import iso_time
from ...codec import encode
from ...columns import text_schema
from ...dialects.openai_chat import text_of
from ...trajectory import Call, Step, Trajectory
from ...types import Context
from . import LeftOut

NAME = "hf"
FILES = ("parquet", "jsonl")


def rows(trajectory: Trajectory, left_out: LeftOut, *, include_metadata: bool = True, **options: Any) -> Iterator[dict[str, Any]]:
    """A row for each call with purpose `act` that has an answer."""
    steps: dict[str, Step] = {c.id: s for s in trajectory.steps for c in s.llm_calls}
    count = 0
    for call in trajectory.llm_calls:
        if call.purpose != "act":
            left_out(f"a call for {call.purpose}")
            continue
        if not call.choices:
            left_out("a call without an answer" if call.error is None else "a call that failed")
            continue
        count += 1
        step = steps.get(call.id)
        read = step.contexts if step is not None else []
        row = {
            "prompt": prompt_text(call.messages),
            "response": answer_text(call),
            "context": encode([_context(c) for c in read]).decode(),
            "metadata": encode(_about(trajectory, call, step)).decode() if include_metadata else None,
            "reward": trajectory.reward,
        }
        if not include_metadata:
            del row["metadata"]
        yield row
    if not count and not trajectory.llm_calls:
        left_out("no call of a model")


def schema() -> Any:
    """The columns; `metadata` is left out where it was not asked for."""
    return text_schema("prompt", "response", "context", "metadata", numbers=("reward",))


def prompt_text(messages: list[dict[str, Any]]) -> str:
    """System and user text with an empty line between; a longer conversation with a `[role]` line before each message."""
    if [m.get("role") for m in messages] in (["system", "user"], ["user"], ["developer", "user"]):
        return "\n\n".join(_text(m) for m in messages)
    return "\n\n".join(f"[{m.get('role')}]\n{_text(m)}" for m in messages)


def answer_text(call: Call) -> str:
    """The first answer's text, and a line for each tool call in it."""
    choice = call.choices[0]
    return "\n".join([*([choice.text] if choice.text else []), *(_tool_call(c.name, c.arguments) for c in choice.tool_calls)])


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    said = text_of(content)
    if not said and content not in (None, "", []):
        said = encode(content).decode()
    calls = message.get("tool_calls")
    lines = [said] if said else []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            lines.append(_tool_call(str(function.get("name")), function.get("arguments")))
    return "\n".join(lines)


def _tool_call(name: str, arguments: Any) -> str:
    return f"[tool call] {name}({arguments if isinstance(arguments, str) else encode(arguments).decode()})"


def _context(context: Context) -> dict[str, Any]:
    return {"provider": context.provider, "query": context.query, "data": context.data, "purpose": context.purpose}


def _about(trajectory: Trajectory, call: Call, step: Step | None) -> dict[str, Any]:
    return {
        "trajectory": trajectory.id,
        "call": call.id,
        "agent": call.agent or trajectory.agent,
        "model": call.model,
        "group": trajectory.group,
        "tags": trajectory.tags,
        "step": step.index if step is not None else None,
        "status": trajectory.status,
        "time": iso_time(call.source_time if call.source_time is not None else call.record.time),
        "source": trajectory.metadata.get("source", {}).get("format") if isinstance(trajectory.metadata.get("source"), dict) else None,
    }


def card(manifest: dict[str, Any]) -> str:
    """The dataset card: what is in it, where it came from, and how `datasets` finds the files."""
    splits = manifest["rows_by_split"]
    suffix = "parquet" if manifest["format"] == "parquet" else "jsonl"
    files = "".join(f"  - split: {name}\n    path: data/{name}{'-*' if suffix == 'parquet' else ''}.{suffix}\n" for name in splits)
    counts = "".join(f"| {name} | {rows} |\n" for name, rows in splits.items())
    left = "".join(f"- {count} x {reason}\n" for reason, count in manifest["left_out"].items()) or "- nothing\n"
    return f"""---
license: unknown
configs:
- config_name: default
  data_files:
{files}---

# Agent trajectories

One row per call of the policy, exported by Odograph {manifest["odograph"]} on {manifest["created"]} from
{manifest["trajectories"]["in"]} trajectories, of which {manifest["trajectories"]["out"]} gave rows.

| split | rows |
|---|---|
{counts}
| column | |
|---|---|
| prompt | what the model was sent |
| response | what it answered |
| context | JSON: what the agent had read in that step |
| metadata | JSON: ids, agent, model, group, tags, step, status, time |
| reward | the trajectory's reward, or null |

Left out:

{left}
"""
