"""Conversations for axolotl's `chat_template`: `messages` with `train` on each answer, and `tools`.

    datasets: [{path: OUT/data/train.jsonl, ds_type: json, type: chat_template, field_messages: messages,
                message_field_training: train, roles_to_train: []}]
    train_on_eos: turn

Source: https://docs.axolotl.ai/docs/dataset-formats/conversation.html (0.19).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...trajectory import Trajectory
from . import LeftOut, openai
from .chats import about, is_trained, plain

NAME = "axolotl"
FILES = ("jsonl",)


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """A row per conversation; arguments of tool calls are JSON text, which axolotl reads."""
    for row in openai.rows(trajectory, left_out):
        yield {**row, "messages": [plain(m, train=is_trained(m)) for m in row["messages"]], **about(trajectory)}
