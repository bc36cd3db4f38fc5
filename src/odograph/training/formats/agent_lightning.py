"""Rollouts of agent-lightning, one a line: the triplets of its version 0 (prompt and response token ids of each call, and the
reward on the last), or the events of its version 1, from which its server makes such triplets.

There is no mask in a triplet: what an agent edited is only in the next prompt, so `env` is the one policy. Logprobs are there
where all are known: its trainer computes its own. Source: agentlightning 0.3, `Triplet`; its trainer takes one reward a
rollout, the last. agentlightning 1.0, `schemas.py` (`Rollout`, `Event`), `server/routes/events.py` (what of an event counts).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ...dialects.content import as_text
from ..sample import Part, Sample, compact, expanded
from ..views import answer_of
from . import Made
from .tokens import image_url, usable

NAME = "agent-lightning"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
ADVANTAGES = "verl"
_ATTEMPT = "0"
REFUSES = dict.fromkeys(("mask", "reweight", "imitate", "pair"), "a triplet has no mask")


def lines(group: list[Made], *, events: bool = False) -> Iterator[dict[str, Any]]:
    """A line per trajectory: `rollout_id`, `group`, and `triplets` with `prompt`, `response`, `reward` and `metadata` each; with
    `events` version 1's `rollout` and `events`."""
    for made in group:
        if made.samples and made.reward is None:  # its trainer would fill in 0
            made.refuse("no reward")
            continue
        order = {call.id: n for n, call in enumerate(made.trajectory.llm_calls)}
        parts = [(part, sample) for sample in usable(made, images=True) for part in sample.parts]
        parts.sort(key=lambda found: order.get(found[0].call, -1))
        if events and parts:
            yield {"rollout": _rollout(made), "events": _events(made, parts)}
            continue
        triplets = [_triplet(part, sample) for part, sample in parts]
        if triplets:
            triplets[-1]["reward"] = made.reward
            yield {"rollout_id": made.trajectory.id, "group": made.trajectory.group, "triplets": triplets}


def _triplet(part: Part, sample: Sample) -> dict[str, Any]:
    response: dict[str, Any] = {"token_ids": sample.token_ids[part.start : part.stop]}
    logprobs = sample.logprobs[part.start : part.stop]
    if all(p is not None and math.isfinite(p) and p <= 1e-3 for p in logprobs):
        response["logprobs"] = [{"logprob": p} for p in logprobs]
    urls = [image_url(p) for p in sample.images]
    metadata = {"call": part.call, "agent": sample.agent, "step": part.step, "trajectory": sample.trajectory}
    return {
        "prompt": {"token_ids": sample.token_ids[: part.start], **({"image_urls": urls} if urls else {})},
        "response": response,
        "reward": None,
        "metadata": metadata,
    }


def _rollout(made: Made) -> dict[str, Any]:
    t = made.trajectory
    began, ended = (_seconds(r) for r in (t.start, t.end or t.start))
    status = {
        "state": "succeeded" if t.status == "completed" else "failed",
        "last_attempt_id": _ATTEMPT,
        "error_message": as_text(t.end.error) if t.end is not None and t.end.error is not None else None,
        "created_at": began,
        "updated_at": ended,
    }
    return {"rollout_id": t.id, "input": t.task, "config": {}, "metadata": {"group": t.group, "tags": t.tags}, "status": status}


def _events(made: Made, parts: list[tuple[Part, Sample]]) -> list[dict[str, Any]]:
    """A request of the model for each part, and the reward."""
    calls = {call.id: call for call in made.trajectory.llm_calls}
    shared = {"rollout_id": made.trajectory.id, "attempt_id": _ATTEMPT}
    out: list[dict[str, Any]] = []
    for part, sample in parts:
        call = calls.get(part.call)  # None: of the run that a fork left
        choice = next((c for n, c in enumerate(call.choices) if n == part.choice), None) if call is not None else None
        triplet = _triplet(part, sample)
        logprobs = triplet["response"].get("logprobs")
        answer: dict[str, Any] = {
            "index": 0,
            "message": answer_of(choice) if choice is not None else {"role": "assistant", "content": None},
            "finish_reason": choice.finish_reason if choice is not None else None,
            "token_ids": triplet["response"]["token_ids"],
            "logprobs": {"content": logprobs} if logprobs is not None else None,
        }
        (_, version), *changes = compact(expanded(sample.versions)[part.start : part.stop]) or [(0, None)]
        model = (call.model if call is not None else None) or sample.model or ""
        request = {"messages": call.messages, **call.params} if call is not None else {"messages": sample.messages}
        data = {
            "model": model,
            "model_version": version if type(version) is int and not changes else None,
            "request": {**request, "model": model, **({"tools": call.tools} if call is not None and call.tools else {})},
            "response": {
                "id": part.call,
                "object": "chat.completion",
                "model": model,
                "prompt_token_ids": triplet["prompt"]["token_ids"],
                "choices": [answer],
            },
            "server": {"model": model, "version": version},
            "status": "ok",
            "metadata": triplet["metadata"],
        }
        out.append({"event_type": "model_request", **shared, "timestamp": _seconds(call), "data": data})
    reward = {"value": made.reward, "source": "agent"}
    return [*out, {"event_type": "reward", **shared, "timestamp": _seconds(made.trajectory.end), "data": reward}]


def _seconds(record: Any) -> float:
    return 0.0 if record is None else (record.source_time if record.source_time is not None else record.time) / 1e9
