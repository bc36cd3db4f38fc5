"""Conversations for Unsloth's chat templates: `conversations` of role and content, and `tools`.

Unsloth renders them by the tokenizer's template and masks by the marks of a turn (`train_on_responses_only`), so all answers of a
row are trained. Source: https://docs.unsloth.ai/basics/chat-templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...trajectory import Trajectory
from . import LeftOut
from .chats import about, templated

NAME = "unsloth"
FILES = ("jsonl",)


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """A row per conversation of which all answers are trained."""
    for row in templated(trajectory, left_out):
        tools = {"tools": row["tools"]} if row.get("tools") else {}
        yield {"conversations": row["messages"], **tools, **about(trajectory)}
