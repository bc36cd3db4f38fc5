"""Rows for SFT with TRL: token ids with labels. (Conversations without token ids: `openai`, whose rows TRL takes, too.)

`input_ids` and `labels` (-100 where not trained; as long as the ids, not shifted) are taken by `SFTTrainer` as they are; give it
`max_length=None`, or it cuts at 1,024. Source: https://huggingface.co/docs/trl/sft_trainer (trl 1.16).
"""

from __future__ import annotations

from typing import Any

from ...columns import schema_of
from ..sample import Sample
from .tokens import ABOUT, about, imageless, prompted, unweighted

NAME = "trl-sft"
FILES = ("parquet", "jsonl")
PLAN: dict[str, Any] = {"edits": "env", "deleted": False}
REFUSES = {
    "reweight": "SFT has no weight per token",
    "pair": "SFT has no pairs; export to trl-dpo",
    **dict.fromkeys(("advantage", "last", "per-step"), "SFT has no advantages"),
}


def row(sample: Sample) -> dict[str, Any]:
    """`labels` are the ids that are trained, -100 elsewhere."""
    unweighted(sample)
    prompted(sample)
    imageless(sample)
    labels = [i if m else -100 for i, m in zip(sample.token_ids, sample.mask, strict=True)]
    return {"input_ids": sample.token_ids, "labels": labels, "reward": sample.reward, **about(sample)}


def schema() -> Any:
    """The columns."""
    return schema_of({"input_ids": "ids", "labels": "ids", "reward": float, **ABOUT})
