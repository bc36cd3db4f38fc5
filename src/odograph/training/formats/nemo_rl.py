"""Conversations for NeMo-RL's SFT: `messages` and `tools`, for `dataset_name: openai_format` with `chat_key: messages`.

All answers of a row are trained. Source: https://docs.nvidia.com/nemo/rl/latest/guides/sft.html and
`nemo_rl/data/datasets/response_datasets/oai_format_dataset.py` (0.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...trajectory import Trajectory
from . import LeftOut
from .chats import about, templated

NAME = "nemo-rl"
FILES = ("jsonl",)


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """A row per conversation of which all answers are trained."""
    for row in templated(trajectory, left_out):
        yield {**row, **about(trajectory)}
