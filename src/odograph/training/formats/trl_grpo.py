"""Recorded rollouts for GRPO with TRL: prompt, completion, mask, recorded logprobs and our advantages, all aligned.

`prompt_ids`, `completion_ids`, `logprobs` and `env_mask` are what TRL's `rollout_func` gives (one row per prompt there);
`odograph.training.replay_trainer` trains on all rows of a trajectory with the recorded logprobs as the old ones, which TRL
itself would compute anew. `logprobs` is 0.0 where `env_mask` is 0; `temperature` is what was asked for, null where the request
named none. Source: https://huggingface.co/docs/trl/grpo_trainer (trl 1.16).
"""

from __future__ import annotations

from typing import Any

from ...columns import schema_of
from ..sample import Sample
from .tokens import ABOUT, about, split, unweighted

NAME = "trl-grpo"
FILES = ("parquet", "jsonl")
PLAN = {"edits": "env", "advantage": "grpo"}
NEEDS = {"logprobs": True}
REFUSES = {
    "reweight": "TRL has no weight per token",
    "imitate": "GRPO needs sampled tokens with logprobs; export to trl-sft",
    "pair": "GRPO has no pairs; export to trl-dpo",
}


def row(sample: Sample) -> dict[str, Any]:
    """`completion_ids`, `logprobs`, `env_mask` and `advantages` are of one length."""
    unweighted(sample)
    parts = split(sample)
    return {
        "prompt": "",
        "prompt_ids": parts.prompt_ids,
        "completion_ids": parts.completion_ids,
        "logprobs": parts.logprobs,
        "env_mask": parts.mask,
        "advantages": parts.advantages if sample.advantages else None,
        "reward": sample.reward,
        "temperature": sample.temperature,
        **about(sample),
    }


def schema() -> Any:
    """The columns."""
    lists = {"prompt_ids": "ids", "completion_ids": "ids", "logprobs": "floats", "env_mask": "ids", "advantages": "floats"}
    return schema_of({"prompt": str, **lists, "reward": float, "temperature": float, **ABOUT})
