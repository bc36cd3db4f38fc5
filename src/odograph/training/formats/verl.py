"""Rows for verl: prompts as its RL dataset reads them, and the recorded rollout as its agent loop gives it.

`response_mask` is 1 where the model wrote; `response_logprobs` is as long, 0.0 where it did not. Source:
https://verl.readthedocs.io (0.9): `RLHFDataset` columns and `AgentLoopOutput`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...codec import encode
from ...dialects.content import is_media, text_of
from ..sample import Sample
from .tokens import about, image_url, number, split, unweighted

NAME = "verl"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
NEEDS = {"logprobs": True}
ADVANTAGES = "verl"
REFUSES = {
    "reweight": "verl has no weight per token",
    "imitate": "an agent loop's output is sampled; export to trl-sft",
    "pair": "verl has no pairs; export to trl-dpo",
}


def row(sample: Sample, *, data_source: str = "odograph", ability: str = "agent") -> dict[str, Any]:
    """`response_ids`, `response_mask` and `response_logprobs` are of one length."""
    unweighted(sample)
    parts = split(msgspec.structs.replace(sample, images=[]))
    ends = about(sample)
    prompt = sample.messages or [{"role": "user", "content": ""}]
    return {
        "data_source": data_source,
        "prompt": [{"role": str(m.get("role")), "content": _text(m.get("content"))} for m in prompt],
        **({"images": [{"image": image_url(part)} for part in sample.images]} if sample.images else {}),
        "ability": ability,
        "reward_model": {"style": "recorded", "ground_truth": ""},
        "extra_info": {"index": number([sample.trajectory, sample.segment]), "split": "train", **ends},
        "prompt_ids": parts.prompt_ids,
        "response_ids": parts.completion_ids,
        "response_mask": parts.mask,
        "response_logprobs": parts.logprobs,
        "reward_score": sample.reward,
        "num_turns": 2 * len(sample.parts),
        "metrics": {},
        "extra_fields": {"group": sample.group or sample.trajectory},
    }


def _text(content: Any) -> str:
    """Text, with the mark that verl puts an image in the place of."""
    if isinstance(content, list):
        return "".join("<image>" if is_media(part) else text_of([part]) for part in content)
    return content if isinstance(content, str) else "" if content is None else encode(content).decode()
