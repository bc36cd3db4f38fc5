"""Triplets of agent-lightning, a rollout a line: prompt and response token ids of each call, and the reward on the last.

There is no mask in a triplet: what an agent edited is only in the next prompt, so `env` is the one policy. Logprobs are there
where all are known: its trainer computes its own. Source: agentlightning 0.3, `Triplet`; its trainer takes one reward a
rollout, the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..sample import Part, Sample
from . import Made
from .tokens import image_url, usable

NAME = "agent-lightning"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
ADVANTAGES = "verl"
REFUSES = dict.fromkeys(("mask", "reweight", "imitate", "pair"), "a triplet has no mask")


def lines(group: list[Made]) -> Iterator[dict[str, Any]]:
    """A line per trajectory: `rollout_id`, `group`, and `triplets` with `prompt`, `response`, `reward` and `metadata` each."""
    for made in group:
        if made.samples and made.reward is None:  # its trainer would fill in 0
            made.refuse("no reward")
            continue
        order = {call.id: n for n, call in enumerate(made.trajectory.llm_calls)}
        parts = [(part, sample) for sample in usable(made, images=True) for part in sample.parts]
        parts.sort(key=lambda found: order.get(found[0].call, -1))
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
