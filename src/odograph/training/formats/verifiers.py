"""Episodes of verifiers v1 (`traces.jsonl`), one per trajectory: a trace per agent, its rows as branches of nodes.

A node is a message with the tokens that it added; `mask` says which were sampled, and `logprobs` has one for each of those
and none
for the others. Messages that came together have their tokens on the last of them. Source: verifiers 0.4, `verifiers.v1.types`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ...calls import Call
from ...codec import encode
from ...dialects.content import is_media, text_of
from ...trajectory import Trajectory
from ..sample import Sample
from . import Made
from .tokens import image_url, per_token, usable

NAME = "verifiers"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
NEEDS = {"logprobs": True}
REFUSES = {"reweight": "a node has no weights", "imitate": "a trace has sampled tokens", "pair": "a trace has no pairs"}
_ROLES = ("system", "user", "assistant", "tool")


def lines(group: list[Made]) -> Iterator[dict[str, Any]]:
    """An episode per trajectory."""
    for made in group:
        if made.samples and made.reward is None:  # a trace without rewards counts as one of reward 0 there
            made.refuse("no reward")
            continue
        samples = usable(made, images=True)
        if not samples:
            continue
        t = made.trajectory
        traces = [
            _trace(made, agent, [s for s in samples if s.agent == agent]) for agent in dict.fromkeys(s.agent for s in samples)
        ]
        yield {
            "id": t.id,
            "env": {"id": "odograph"},
            "task": _task(t),
            "group": {"id": t.group} if t.group is not None else None,
            "run": _run(t),
            "ok": t.status in ("completed", "truncated"),
            "traces": traces,
        }


def _task(t: Trajectory) -> dict[str, Any]:
    prompt = t.task if isinstance(t.task, str) else encode(t.task).decode()
    return {"type": "odograph", "data": {"id": t.group or t.id, "prompt": prompt}}


def _run(t: Trajectory) -> dict[str, Any] | None:
    """The run, where the version of the policy is known: verifiers counts versions by training steps."""
    version = t.start.policy_version if t.start is not None else None
    if type(version) is not int:
        return None
    work = {"type": "train", "step": version, "policy": {"start": version, "end": version}}
    return {"type": "train", "id": "odograph", "work": work}


def _rewards(made: Made) -> dict[str, Any]:
    """The rewards by name, where they sum up to the one that counts as verifiers sums them; else that one."""
    t = made.trajectory
    named: dict[str, dict[str, float]] = {}
    for reward in t.rewards:
        value = t.rewards[reward.name]
        if value is not None:
            named[reward.name] = {"score": value, "weight": reward.weight}
    total = math.fsum(r["score"] * r["weight"] for r in named.values())
    if named and made.reward is not None and math.isclose(total, made.reward, abs_tol=1e-12):
        return named
    return {"reward": {"score": made.reward, "weight": 1.0}}


def _trace(made: Made, agent: str | None, samples: list[Sample]) -> dict[str, Any]:
    t = made.trajectory
    nodes: list[dict[str, Any]] = []
    calls = {c.id: c for c in t.llm_calls}
    for sample in samples:
        _branch(sample, calls, nodes)
    return {
        "id": f"{t.id}/{agent or ''}",
        "task": _task(t),
        "agent": {"config": {"model": t.start.model} if t.start is not None and t.start.model else {}, "name": agent or "agent"},
        "tools": next((node["tools"] for node in nodes if node.get("tools")), []),
        "nodes": nodes,
        "rewards": _rewards(made),
        "is_completed": True,
        "ok": t.status in ("completed", "truncated"),
        "stop_condition": _stopped(t, samples),
        "info": {"trajectory": t.id, "group": t.group, "segments": len(samples)},
    }


def _stopped(t: Trajectory, samples: list[Sample]) -> str:
    """How it ended, in the words of which verifiers makes `is_truncated`."""
    if t.status == "completed" and samples and samples[-1].truncated:
        return "max_output_tokens"
    return "max_total_tokens" if t.status == "truncated" else t.status


def _branch(sample: Sample, calls: dict[str, Call], nodes: list[dict[str, Any]]) -> None:
    """The nodes of one row, one after the other: what was new before each trained part, and the part."""
    advantages = per_token(sample)
    parent: int | None = None
    at = seen = 0

    first = calls.get(sample.parts[0].call) if sample.parts else None
    tools = [_tool(tool) for tool in first.tools] if first is not None else []

    def add(message: dict[str, Any], ids: list[int], mask: list[int], logprobs: list[Any], gains: list[float]) -> None:
        nonlocal parent
        trained = [n for n, m in enumerate(mask) if m]
        node: dict[str, Any] = {"parent": parent, "message": message, "sampled": bool(trained), "token_ids": ids}
        node |= {"mask": [bool(m) for m in mask], "logprobs": [logprobs[n] for n in trained]}
        if parent is None and tools:
            node["tools"] = tools
        if sample.advantages and trained:
            node["advantages"] = [gains[n] for n in trained]
        nodes.append(node)
        parent = len(nodes) - 1

    for part in sample.parts:
        call = calls.get(part.call)
        messages = call.messages if call is not None else []
        fresh = [_message(m) for m in messages[seen:]] or [{"role": "user", "content": ""}]
        for message in fresh[:-1]:
            add(message, [], [], [], [])
        if part.start > at or fresh[-1]["content"]:
            between = sample.token_ids[at : part.start]
            add(fresh[-1], between, [0] * len(between), [None] * len(between), [0.0] * len(between))
        answer = next((c.message for c in call.choices if c.index == part.choice), {}) if call is not None else {}
        span = slice(part.start, part.stop)
        add(
            _message({**answer, "role": "assistant"}),
            sample.token_ids[span],
            sample.mask[span],
            sample.logprobs[span],
            advantages[span],
        )
        at, seen = part.stop, len(messages) + 1
    if at < len(sample.token_ids):
        rest = sample.token_ids[at:]
        add({"role": "user", "content": ""}, rest, [0] * len(rest), [None] * len(rest), [0.0] * len(rest))


def _tool(tool: Any) -> dict[str, Any]:
    """A tool in the format's own shape: described flatly."""
    given = tool if isinstance(tool, dict) else {}
    flat = given["function"] if isinstance(given.get("function"), dict) else given
    return {**flat, "type": "function", "name": str(flat.get("name") or "")}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the format's own shape: tool calls flat, arguments as text."""
    role = message.get("role")
    content = message.get("content")
    said: Any = text_of(content) if isinstance(content, (str, list)) else "" if content is None else encode(content).decode()
    if role != "assistant" and isinstance(content, list) and any(map(is_media, content)):
        said = [_part(part) for part in content]
    shaped: dict[str, Any] = {"role": role if role in _ROLES else "system" if role == "developer" else "user", "content": said}
    if role == "tool":
        shaped["tool_call_id"] = str(message.get("tool_call_id") or "")
    if role == "assistant":
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(reasoning, str):
            shaped["reasoning_content"] = reasoning
        calls = []
        for call in message.get("tool_calls") or []:
            function = call.get("function") or {} if isinstance(call, dict) else {}
            given = function.get("arguments")
            arguments = given if isinstance(given, str) else encode(given).decode()
            calls.append({"id": str(call.get("id") or ""), "name": str(function.get("name") or ""), "arguments": arguments})
        if calls:
            shaped["tool_calls"] = calls
    return shaped


def _part(part: Any) -> dict[str, Any]:
    """A part of a content: an image, or a text."""
    if is_media(part):
        return {"type": "image_url", "image_url": {"url": image_url(part)}}
    return {"type": "text", "text": text_of([part])}
