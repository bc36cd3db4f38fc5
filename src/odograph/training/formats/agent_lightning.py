"""Triplets of agent-lightning, a rollout a line: prompt and response token ids of each call, and the reward on the last.

There is no mask in a triplet: what an agent edited is only in the next prompt, so `env` is the one policy. Source:
agentlightning 0.3,
`Triplet`; its trainer takes one reward a rollout, the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import Made

NAME = "agent-lightning"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
REFUSES = dict.fromkeys(("mask", "reweight", "imitate", "pair"), "a triplet has no mask")


def lines(group: list[Made]) -> Iterator[dict[str, Any]]:
    """A line per trajectory: `rollout_id`, `group`, and `triplets` with `prompt`, `response`, `reward` and `metadata` each."""
    for made in group:
        triplets: list[dict[str, Any]] = []
        for sample in made.samples:
            for part in sample.parts:
                response: dict[str, Any] = {"token_ids": sample.token_ids[part.start : part.stop]}
                logprobs = sample.logprobs[part.start : part.stop]
                if all(p is not None for p in logprobs):
                    response["logprobs"] = [{"logprob": p} for p in logprobs]
                metadata = {"call": part.call, "agent": sample.agent, "step": part.step, "trajectory": sample.trajectory}
                prompt = {"token_ids": sample.token_ids[: part.start]}
                triplets.append({"prompt": prompt, "response": response, "reward": None, "metadata": metadata})
        if not triplets:
            continue
        triplets[-1]["reward"] = made.samples[-1].reward
        yield {"rollout_id": made.trajectory.id, "group": made.trajectory.group, "triplets": triplets}
