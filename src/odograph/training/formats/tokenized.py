"""Tokenised rows: `input_ids`, `attention_mask` and `labels`, as axolotl (`type:` empty), Together and others take them.

`labels` are -100 where nothing is trained; they are as long as the ids and not shifted. Source:
https://docs.axolotl.ai/docs/dataset-formats/tokenized.html and https://docs.together.ai/docs/fine-tuning/data-preparation.
"""

from __future__ import annotations

from typing import Any

from ...columns import schema_of
from ..sample import Sample
from . import trl_sft
from .tokens import ABOUT

NAME = "tokenized"
FILES = ("parquet", "jsonl")
PLAN = trl_sft.PLAN
REFUSES = trl_sft.REFUSES


def row(sample: Sample) -> dict[str, Any]:
    """A row of `trl-sft` with its attention mask, which is 1 everywhere: nothing is padded."""
    made = trl_sft.row(sample)
    ids = made.pop("input_ids")
    return {"input_ids": ids, "attention_mask": [1] * len(ids), **made}


def schema() -> Any:
    """The columns."""
    return schema_of({"input_ids": "ids", "attention_mask": "ids", "labels": "ids", "reward": float, **ABOUT})
