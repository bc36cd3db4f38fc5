"""What people are shown of trajectories, as values: what a terminal prints, a viewer draws and a server sends as JSON.

Knows what is said and in which order, not how it looks. Figures of a store have a JSON of their own: `Stats.to_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .clock import iso_time
from .lineage import Chain, Segment, View
from .packing import Seen
from .store.catalog import Summary
from .trajectory import Call, Step, Trajectory
from .types import Action, AnyRecord, Context, Edit, Kept, Label, LLMCall, Note, Reward, StepStart


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing of a session, in the order in which it happened; `about` has the fields of its kind.

    Kinds: step, observation, context, message (one that no call before it was sent), call, thinking, answer, action, reward,
    edit, label, note and, last, outcome.
    """

    kind: str
    about: dict[str, Any]
    #: The id of the record that it is of.
    record: str | None = None
    step: int | None = None
    agent: str | None = None


def summary(s: Summary) -> dict[str, Any]:
    """A line of a list, with the keys that scripts rely on."""
    return {
        "id": s.id,
        "task": s.task,
        "agent": s.agent,
        "model": s.model,
        "status": s.status,
        "steps": s.steps,
        "llm_calls": s.llm_calls,
        "actions": s.actions,
        "prompt_tokens": s.prompt_tokens,
        "completion_tokens": s.completion_tokens,
        "reward": s.reward,
        "started": iso_time(s.started),
        "duration": s.duration,
        "group": s.group,
        "tags": s.tags,
    }


def facts(t: Trajectory) -> dict[str, Any]:
    """The head of a session: what is known of a trajectory as a whole; None where it is not."""
    prompt = [c.prompt_tokens for c in t.llm_calls if c.prompt_tokens is not None]
    completion = [c.completion_tokens for c in t.llm_calls if c.completion_tokens is not None]
    return {
        "id": t.id,
        "task": t.task,
        "agent": t.agent,
        "model": t.model,
        "status": t.status,
        "reward": t.reward,
        "steps": len(t.steps),
        "llm_calls": len(t.llm_calls),
        "actions": len(t.actions),
        "prompt_tokens": sum(prompt) if prompt else None,
        "completion_tokens": sum(completion) if completion else None,
        "started": iso_time(t.started),
        "duration": t.duration,
        "group": t.group,
        "tags": list(t.tags),
        "fork_of": t.start.fork.trajectory if t.start and t.start.fork else None,
    }


def session(t: Trajectory) -> Iterator[Entry]:
    """A trajectory as a session: costs what was said, however often an agent sent its history."""
    steps = {(s.agent, s.index): s for s in t.steps}
    replaced = {r.supersedes for r in t.records if r.supersedes}
    calls = {c.id: c for c in t.llm_calls}
    seen = Seen()
    within: Step | None = None
    rubrics = {r.technique: r.rubric_hash for r in t.labels}  # of each technique the version that was used last
    for record in t.records:
        if record.id in replaced or (isinstance(record, Label) and record.supersedes and record.value is record.score is None):
            continue
        step = steps.get((record.agent or t.agent, record.step)) if record.step is not None else None
        agent = record.agent or t.agent
        if step is not None and step is not within:
            yield Entry("step", {"reward": step.reward}, step.id, step.index, agent)
        within = step
        for kind, about in _entries(record, calls.get(record.id), seen):
            if isinstance(record, Label):
                about["stale"] = record.rubric_hash != rubrics.get(record.technique)
            yield Entry(kind, about, record.id, record.step, agent)
    if t.end is not None:
        yield Entry("outcome", {"status": t.status, "answer": t.answer, "error": t.end.error}, t.end.id)


def _entries(record: AnyRecord, call: Call | None, seen: Seen) -> Iterator[tuple[str, dict[str, Any]]]:
    match record:
        case StepStart():
            if record.observation is not None:
                many = record.observation if isinstance(record.observation, list) else [None]
                # results of tools are among the messages of the next call, too
                of_tools = all(isinstance(one, dict) and "tool_call_id" in one for one in many)
                yield "observation", {"value": record.observation, "of_tools": of_tools}
        case Context():
            yield "context", {f: getattr(record, f) for f in ("provider", "query", "purpose", "data", "error")}
        case LLMCall() if call is not None:
            yield from _call(call, seen)
        case Action():
            about = {f: getattr(record, f) for f in ("name", "arguments", "ok", "error", "result")}
            yield "action", about | {"duration": _seconds(record.duration)}
        case Reward():
            value = record.value.get("value") if isinstance(record.value, dict) else record.value
            yield "reward", {"value": value} | {f: getattr(record, f) for f in ("name", "source", "target", "rationale")}
        case Edit():
            runs: list[Any] = [
                {"kept": [r.start, r.stop]} if isinstance(r, Kept) else {"text": r.text, "ids": r.ids} for r in record.result
            ]
            yield "edit", {"runs": runs, "reason": record.reason, "rejected": record.rejected}
        case Label():
            yield "label", {f: getattr(record, f) for f in ("technique", "value", "score", "author")}
        case Note():
            yield "note", {"name": record.name, "data": record.data}
        case _:
            return


def _call(call: Call, seen: Seen) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in call.new_messages(seen):
        asked = message.get("tool_calls")
        functions = [one.get("function") for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
        tools = [{"name": f.get("name"), "arguments": f.get("arguments")} for f in functions if isinstance(f, dict)]
        yield "message", {"role": str(message.get("role")), "content": message.get("content"), "tool_calls": tools}
    about = {f: getattr(call, f) for f in ("model", "purpose", "prompt_tokens", "completion_tokens", "error")}
    yield "call", about | {"duration": _seconds(call.duration)}
    if call.reasoning:
        yield "thinking", {"text": call.reasoning}
    for choice in call.choices:
        tools = [{"name": one.name, "arguments": one.arguments} for one in choice.tool_calls]
        yield "answer", {"choice": choice.index, "of": len(call.choices), "text": choice.text, "tool_calls": tools}


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def standings(chain: Chain, view: View) -> Iterator[tuple[Segment, int, str | None]]:
    """(segment, where it starts, exact, stale or unknown; None for what was not sampled) of a view."""
    last = chain.nodes[-1].call.record if chain.nodes else None
    at = 0
    for segment in view.segments:
        standing = None
        if segment.source == "sampled" and last is not None:
            standing = chain.standing(segment, at, view, last.adapter, last.inputs)
        yield segment, at, standing
        at += len(segment.ids)


def logprobs_of(chain: Chain, segment: Segment) -> list[Any] | None:
    """The logprobs of a sampled segment, where they were recorded."""
    node = chain.by_id.get(segment.call or "")
    found = node.choices[segment.choice].logprobs if node is not None else None
    return found[segment.start : segment.start + len(segment.ids)] if found is not None else None


def lineage(chain: Chain) -> dict[str, Any]:
    """One agent's tokens: its calls, and the last view token by token."""
    return {
        "agent": chain.agent,
        "model": chain.model,
        "calls": [
            {
                "id": n.id,
                "step": n.call.step,
                "kind": n.kind,
                "edits": n.edits,
                "prompt_tokens": len(n.prompt),
                "deleted": n.deleted,
                "inserted": n.inserted,
                "continued": n.continued,
                "response_tokens": {str(i): len(ids) for i, ids in n.responses.items()},
            }
            for n in chain.nodes
        ],
        "view": [
            {
                "source": s.source,
                "start": at,
                "ids": s.ids,
                "call": s.call,
                "choice": s.choice if s.call else None,
                "index": s.start if s.call else None,
                "standing": standing,
                "logprobs": logprobs_of(chain, s) if s.source == "sampled" else None,
                "mask": int(standing == "exact"),
                "edit": s.edit,
            }
            for s, at, standing in standings(chain, chain.last)
        ],
        "discarded": [n.id for n in chain.discarded],
        "left_out": [{"call": c.id, "reason": why} for c, why in chain.left_out],
        "edits_unused": chain.problems,
    }
