"""Recorded rollouts as entries of SkyRL's `GeneratorOutput`: one per row, several of one trajectory where an edit ends a row.

`response_ids`, `loss_masks` and `rollout_logprobs` are of one length; `is_last_step` marks the last row of a trajectory, as its
step-wise training wants it. Source: `skyrl/train/generators/base.py` (2026-08).
"""

from __future__ import annotations

from typing import Any

from ..sample import Sample
from .tokens import about, split, unweighted

NAME = "skyrl"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
NEEDS = {"logprobs": True}
ADVANTAGES = "grpo"
REFUSES = {
    "reweight": "SkyRL has no weight per token",
    "imitate": "it trains sampled tokens; export to tokenized",
    "pair": "it has no pairs; export to trl-dpo",
}
_STOPS = {"terminated": "stop", "truncated": "length"}


def row(sample: Sample) -> dict[str, Any]:
    """`rewards` is the trajectory's reward."""
    unweighted(sample)
    parts = split(sample)
    return {
        "prompt_token_ids": parts.prompt_ids,
        "response_ids": parts.completion_ids,
        "rewards": sample.reward,
        "loss_masks": parts.mask,
        "stop_reasons": _STOPS.get(sample.ended, sample.ended),
        "rollout_logprobs": parts.logprobs,
        "trajectory_ids": {"instance_id": sample.group or sample.trajectory, "repetition_id": sample.trajectory},
        "is_last_step": sample.segment == sample.trajectory_rows - 1,
        "extra_info": about(sample),
    }
