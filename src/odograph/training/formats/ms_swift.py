"""Conversations for ms-swift: `messages` of text, tool calls and results as messages of their own, with `loss` on each answer.

`tools` are JSON text, one each. Source: https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html and
`swift/dataset/preprocessor/core.py` (4.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import encode, loads
from ...errors import InvalidInput
from ...trajectory import Trajectory
from . import LeftOut, openai
from .chats import about, is_trained

NAME = "ms-swift"
FILES = ("jsonl",)


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """A row per conversation."""
    for row in openai.rows(trajectory, left_out):
        messages: list[dict[str, Any]] = []
        for message in row["messages"]:
            made = _messages(message)
            if made is None:
                left_out("a conversation with an image, or with tool calls whose arguments are no JSON")
                break
            messages += made
        else:
            tools = {"tools": [encode(t).decode() for t in row["tools"]]} if row.get("tools") else {}
            yield {"messages": messages, **tools, **about(trajectory)}


def _messages(message: dict[str, Any]) -> list[dict[str, Any]] | None:
    role, content = message["role"], message["content"]
    if not (content is None or isinstance(content, str)):
        return None
    if role != "assistant":
        return [{"role": "tool_response" if role == "tool" else role, "content": content or ""}]
    loss = is_trained(message)
    made = [{"role": "assistant", "content": content, "loss": loss}] if content else []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        try:
            arguments = loads(function["arguments"]) if function["arguments"].strip() else {}
        except InvalidInput:
            return None
        text = encode({"name": function["name"], "arguments": arguments}).decode()
        made.append({"role": "tool_call", "content": text, "loss": loss})
    return made
