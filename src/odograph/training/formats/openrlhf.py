"""Conversations for OpenRLHF's SFT: `messages`, for `--data.input_key messages --data.apply_chat_template`.

With `--data.multiturn` all answers of a row are trained; without, the last one: give `last_only=true`. Pairs for its reward
model and DPO are those of `trl-dpo`. Source: `openrlhf/datasets/sft_dataset.py` (0.11.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...trajectory import Trajectory
from . import LeftOut
from .chats import about, whole

NAME = "openrlhf"
FILES = ("jsonl",)


def rows(trajectory: Trajectory, left_out: LeftOut, *, last_only: bool = False) -> Iterator[dict[str, Any]]:
    """A row per conversation; `last_only`: a row per trained answer, to be trained without `--data.multiturn`."""
    for row in whole(trajectory, left_out, last_only):
        if row.get("tools"):  # its templates are not given any
            left_out("a conversation with tools, which OpenRLHF does not give to the chat template")
            continue
        yield {"messages": row["messages"], **about(trajectory)}
