"""Samples of slime: its `Sample`, as `Sample.from_dict` takes it. The mask and the logprobs are of the response alone.

`group_index` and `rollout_id` are numbers made of the group's and the trajectory's ids: the rows of a trajectory share the
latter. Source: slime/utils/types.py (2026-08).
"""

from __future__ import annotations

from typing import Any

from ..sample import Sample
from .tokens import about, number, split, unweighted

NAME = "slime"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
NEEDS = {"logprobs": True}
ADVANTAGES = "grpo"
REFUSES = {
    "reweight": "slime has no weight per token",
    "imitate": "it trains sampled tokens",
    "pair": "it has no pairs",
}
_STATUS = {"terminated": "completed", "truncated": "truncated", "failed": "failed"}


def row(sample: Sample) -> dict[str, Any]:
    """`loss_mask` and `rollout_log_probs` are `response_length` long."""
    unweighted(sample)
    parts = split(sample)
    return {
        "group_index": number(sample.group or sample.trajectory),
        "index": number([sample.trajectory, sample.segment]),
        "rollout_id": number(sample.trajectory),
        "prompt": sample.messages,
        "tokens": sample.token_ids,
        "response": "",
        "response_length": len(parts.completion_ids),
        "reward": sample.reward,
        "loss_mask": parts.mask,
        "rollout_log_probs": parts.logprobs,
        "weight_versions": [str(v) for v in dict.fromkeys(v for _, v in sample.versions if v is not None)],
        "status": _STATUS.get(sample.ended, "aborted"),
        "metadata": about(sample),
    }
