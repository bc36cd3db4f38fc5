"""What people are shown of trajectories, as values: what a terminal prints, a viewer draws and a server sends as JSON.

Knows what is said and in which order, not how it looks. Figures of a store have a JSON of their own: `Stats.to_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .clock import iso_time
from .lineage import Chain, Segment, View
from .lineage.chain import pieces_of
from .packing import Seen
from .store.catalog import Summary
from .trajectory import Call, Step, Trajectory
from .types import Action, AnyRecord, Context, Edit, Kept, Label, LLMCall, Note, Reward, StepStart


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing of a session, in the order in which it happened; `about` has the fields of its kind.

    Kinds: step, observation, context, tools (schemas that differ from those of the call before), message (one that no call before
    it was sent), call, thinking, answer, action, reward, edit, label, note and, last, outcome.
    """

    kind: str
    about: dict[str, Any]
    #: The id of the record that it is of.
    record: str | None = None
    step: int | None = None
    agent: str | None = None
    #: When it happened, nanoseconds: by the source's own clock for an import; None where the source does not say.
    time: int | None = None


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
        "rewards": {name: t.rewards[name] for name in t.rewards.names},
        "cost": sum(costs) if (costs := [c.cost for c in t.llm_calls if c.cost is not None]) else None,
    }


def session(t: Trajectory) -> Iterator[Entry]:
    """A trajectory as a session: costs what was said, however often an agent sent its history."""
    steps = {(s.agent, s.index): s for s in t.steps}
    replaced = {r.supersedes for r in t.records if r.supersedes}
    calls = {c.id: c for c in t.llm_calls}
    seen = Seen()
    within: Step | None = None
    rubrics = {r.technique: r.rubric_hash for r in t.labels}  # of each technique the version that was used last
    imported = t.start is not None and "source" in t.metadata
    for record in t.records:
        if record.id in replaced or (isinstance(record, Label) and record.supersedes and record.value is record.score is None):
            continue
        step = steps.get((record.agent or t.agent, record.step)) if record.step is not None else None
        agent = record.agent or t.agent
        if step is not None and step is not within:
            yield Entry("step", {"reward": step.reward}, step.id, step.index, agent, happened(record, imported))
        within = step
        for kind, about in _entries(record, calls, seen):
            if isinstance(record, Label):
                about["stale"] = record.rubric_hash != rubrics.get(record.technique)
            yield Entry(kind, about, record.id, record.step, agent, happened(record, imported))
    if t.end is not None:
        about = {"status": t.status, "answer": t.answer, "error": t.end.error, "metrics": t.end.metrics}
        yield Entry("outcome", about, t.end.id, time=happened(t.end, imported))


def happened(record: AnyRecord, imported: bool) -> int | None:
    """When a record happened, nanoseconds; None where an import's source does not say."""
    began = getattr(record, "started", None)
    return began or record.source_time or (None if imported else record.time)


def _entries(record: AnyRecord, calls: dict[str, Call], seen: Seen) -> Iterator[tuple[str, dict[str, Any]]]:
    match record:
        case StepStart():
            if record.observation is not None:
                many = record.observation if isinstance(record.observation, list) else [None]
                # results of tools are among the messages of the next call, too
                of_tools = all(isinstance(one, dict) and "tool_call_id" in one for one in many)
                yield "observation", {"value": record.observation, "of_tools": of_tools}
        case Context():
            yield "context", {f: getattr(record, f) for f in _CONTEXT} | {"duration": _seconds(record.duration)}
        case LLMCall() if record.id in calls:
            yield from _call(calls[record.id], seen)
        case Action():
            yield "action", {f: getattr(record, f) for f in _ACTION} | {"duration": _seconds(record.duration)}
        case Reward():
            value = record.value.get("value") if isinstance(record.value, dict) else record.value
            span = [record.span.start, record.span.stop] if record.span else None
            yield "reward", {"value": value, "span": span} | {f: getattr(record, f) for f in _REWARD}
        case Edit():
            runs: list[Any] = [
                {"kept": [r.start, r.stop]} if isinstance(r, Kept) else {"text": r.text, "ids": r.ids} for r in record.result
            ]
            about = {"runs": runs, "changes": changes(record, calls.get(record.base))}
            yield "edit", about | {f: getattr(record, f) for f in _EDIT}
        case Label():
            yield "label", {f: getattr(record, f) for f in _LABEL}
        case Note():
            yield "note", {"name": record.name, "data": record.data}
        case _:
            return


_CONTEXT = ("provider", "query", "purpose", "data", "error")
_ACTION = ("name", "arguments", "ok", "error", "result", "tool_call_id", "llm_call")
_REWARD = ("name", "source", "target", "rationale", "weight", "author", "version")
_EDIT = ("reason", "rejected", "author", "base", "choice", "channel", "unit", "preferred")
_LABEL = ("technique", "description", "value", "score", "rationale", "author", "target")
_CALL = ("model", "purpose", "prompt_tokens", "completion_tokens", "error", "cost", "finish_reason", "policy_version", "origin")


def changes(edit: Edit, call: Call | None) -> list[dict[str, Any]] | None:
    """An edit as a reader follows it: what was kept, cut and put in, in the order of the result; each as text, or as token ids
    where the text of tokens is not known. None where the base is not known."""
    choice = next((c for c in call.choices if c.index == edit.choice), None) if call is not None else None
    if choice is None:
        return None
    base: Any = choice.reasoning or "" if edit.channel == "reasoning" else choice.text
    if edit.unit == "token":
        pieces = pieces_of(call, edit.choice) if call is not None else None
        base = pieces if pieces is not None and edit.channel != "reasoning" else choice.token_ids
    if base is None:
        return None
    out: list[dict[str, Any]] = []

    def add(op: str, part: Any) -> None:
        if not part:
            return
        if isinstance(part, list) and isinstance(part[0], str):
            part = "".join(part)
        out.append({"op": op, "text" if isinstance(part, str) else "ids": part})

    at = 0
    for run in edit.result:
        if not isinstance(run, Kept):
            add("put", run.text if run.text is not None else run.ids)
        elif run.call not in (None, edit.base) or run.choice not in (None, edit.choice):
            out.append({"op": "put", "text": f"[{run.start}:{run.stop}] of another answer", "of": run.call})
        elif run.start >= at:
            add("cut", base[at : run.start])
            add("keep", base[run.start : run.stop])
            at = run.stop
        else:
            add("moved", base[run.start : run.stop])
    add("cut", base[at:])
    return out


def _call(call: Call, seen: Seen) -> Iterator[tuple[str, dict[str, Any]]]:
    messages, tools, params = call.news(seen)
    if tools:
        yield "tools", {"tools": tools}
    for message in messages:
        asked = message.get("tool_calls")
        functions = [one.get("function") for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
        asks = [{"name": f.get("name"), "arguments": f.get("arguments")} for f in functions if isinstance(f, dict)]
        of = {k: message[k] for k in ("name", "tool_call_id") if isinstance(message.get(k), str)}
        yield "message", {"role": str(message.get("role")), "content": message.get("content"), "tool_calls": asks} | of
    about = {f: getattr(call, f) for f in _CALL} | {"params": params, "first_token": _seconds(call.first_token)}
    yield "call", about | {"duration": _seconds(call.duration)}
    if call.reasoning:
        yield "thinking", {"text": call.reasoning}
    for choice in call.choices:
        asks = [{"name": one.name, "arguments": one.arguments, "id": one.id} for one in choice.tool_calls]
        about = {"choice": choice.index, "of": len(call.choices), "text": choice.text, "tool_calls": asks}
        yield "answer", about | {"finish_reason": choice.finish_reason}


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def snippet(text: str, words: str, size: int) -> str:
    """The part of a text around the first of the words that were searched for."""
    low = text.lower()
    places = [p for w in words.replace('"', " ").lower().split() if (p := low.find(w)) >= 0]
    start = max(0, (min(places) if places else 0) - size // 3)
    return ("…" if start else "") + text[start : start + size] + ("…" if start + size < len(text) else "")


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
