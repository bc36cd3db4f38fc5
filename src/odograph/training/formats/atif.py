"""ATIF v1.8 documents, one a trajectory. What ATIF has no place for is in `extra.odograph`, so that our own import loses nothing.

Source: the ATIF specification, v1.8 (`docs/formats.md`). Unknown keys are forbidden there; sub-agents' steps are left to
`extra`, because ATIF numbers one agent's steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...calls import Call
from ...clock import iso_time
from ...codec import content_hash, loads
from ...dialects.content import as_json, as_text
from ...errors import InvalidInput
from ...packing import lines_of
from ...trajectory import Step, Trajectory
from ...types import Action
from . import LeftOut

NAME = "atif"
FILES = ("json",)


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """The document of the trajectory."""
    if not trajectory.steps:
        left_out("no step")
        return
    yield document(trajectory)


def document(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as an ATIF v1.8 document."""
    steps: list[dict[str, Any]] = []
    for step in trajectory.steps:
        if step.agent == trajectory.agent:
            _add(steps, trajectory, step)
    if not steps:
        steps.append({"step_id": 1, "source": "user", "message": _message(trajectory.task)})
    agent: dict[str, Any] = {
        "name": trajectory.agent or "agent",
        "version": (trajectory.start.agent_version if trajectory.start else None) or "unknown",
    }
    if trajectory.model:
        agent["model_name"] = trajectory.model
    tools = [t for c in trajectory.llm_calls[:1] for t in c.tools if isinstance(t, dict)]
    if tools:
        agent["tool_definitions"] = tools
    out: dict[str, Any] = {
        "schema_version": "ATIF-v1.8",
        "session_id": trajectory.id,
        "trajectory_id": trajectory.id,
        "agent": agent,
        "steps": steps,
    }
    prompt = [c.prompt_tokens for c in trajectory.llm_calls if c.prompt_tokens is not None]
    completion = [c.completion_tokens for c in trajectory.llm_calls if c.completion_tokens is not None]
    final: dict[str, Any] = {"total_steps": len(steps)}
    if prompt:
        final["total_prompt_tokens"] = sum(prompt)
    if completion:
        final["total_completion_tokens"] = sum(completion)
    out["final_metrics"] = final
    lines = [msgspec.json.decode(line) for _, line in lines_of(trajectory.id, trajectory.complete_records(growing=True))]
    out["extra"] = {"odograph": {"hash": content_hash(steps), "lines": lines}}
    return out


def _add(steps: list[dict[str, Any]], trajectory: Trajectory, step: Step) -> None:
    """A step: what was observed as a user's step, what the agent did as the agent's."""
    when = iso_time((step.record.source_time or step.record.time) if step.record else None)
    calls = [c for c in step.llm_calls if c.purpose == "act"]
    if step.observation is not None or not (calls or step.actions):
        seen: dict[str, Any] = {"step_id": len(steps) + 1, "source": "user", "message": _message(step.observation)}
        if when:
            seen["timestamp"] = when
        steps.append(seen)
    if not (calls or step.actions):
        return
    made: dict[str, Any] = {"step_id": len(steps) + 1, "source": "agent", "message": _said(calls)}
    if when:
        made["timestamp"] = when
    if calls:
        call = calls[-1]
        if call.model:
            made["model_name"] = call.model
        if call.reasoning:
            made["reasoning_content"] = call.reasoning
        metrics = _metrics(call)
        if metrics:
            made["metrics"] = metrics
        if len(calls) > 1:
            made["llm_call_count"] = len(calls)
    else:
        made["llm_call_count"] = 0
    asked, results = [], []
    for number, action in enumerate(step.actions):
        id = action.tool_call_id or f"action-{number + 1}"
        arguments = action.arguments if isinstance(action.arguments, dict) else {"arguments": action.arguments}
        asked.append({"tool_call_id": id, "function_name": action.name or "action", "arguments": arguments})
        if action.result is not None or action.error is not None:
            results.append({"source_call_id": id, "content": _message(_outcome(action))})
    done = {action.tool_call_id for action in step.actions}
    for call in calls[-1:]:  # what the model asked for and nobody did
        for position, tool in enumerate(call.choices[0].tool_calls if call.choices else []):
            id = tool.id or f"call-{position + 1}"
            if id not in done and (tool.id or not step.actions):
                asked.append({"tool_call_id": id, "function_name": tool.name or "tool", "arguments": _arguments(tool.arguments)})
    if asked:
        made["tool_calls"] = asked
    if results:
        made["observation"] = {"results": results}
    steps.append(made)


def _said(calls: list[Call]) -> str:
    """The text of a step's last answer; a refusal is one."""
    if not calls or not calls[-1].choices:
        return ""
    message = calls[-1].choices[0].message
    return calls[-1].text or as_text(message.get("content")) or as_text(message.get("refusal"))


def _arguments(given: Any) -> dict[str, Any]:
    """Arguments as ATIF has them, an object."""
    if isinstance(given, str):
        try:
            found = loads(given) if given.strip() else {}
        except InvalidInput:
            found = given
        given = found
    return given if isinstance(given, dict) else {"arguments": given}


def _metrics(call: Call) -> dict[str, Any]:
    choice = call.choices[0] if call.choices else None
    known: dict[str, Any] = {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "cost_usd": call.cost,
        "prompt_token_ids": call.prompt_token_ids,
        "completion_token_ids": choice.token_ids if choice else None,
        "logprobs": choice.logprobs if choice else None,
    }
    if known["logprobs"] is not None and not all(isinstance(p, float) for p in known["logprobs"]):
        known["logprobs"] = None  # ATIF has no null among them; ours are in `extra`
    return {k: v for k, v in known.items() if v is not None}


def _outcome(action: Action) -> Any:
    return action.result if action.error is None else {"result": action.result, "error": action.error}


def _message(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else as_json(value)


def schema() -> Any:
    """There is none: a document is a file."""
    raise TypeError("atif has no Arrow schema; it is written as json")
