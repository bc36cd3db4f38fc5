"""What formats of conversations share: the rows of `openai` with each answer marked, and answers apart where there is no mark.

No exporter itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...trajectory import Trajectory
from ..views import NO_OBJECT, rendered
from . import LeftOut, openai

NO_PLACE = "a message with an image, or another part that is no text, for which the format has no place"
UNMARKED = "a conversation with an answer that is not trained, for which the format has no mark: give last_only=true"


def is_trained(message: dict[str, Any]) -> bool:
    """Whether an answer of a row of `openai` is trained."""
    return bool(message["role"] == "assistant" and message.get("weight") != 0)


def plain(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A message without the mark of `openai`."""
    return {k: v for k, v in message.items() if k != "weight"} | more


def whole(trajectory: Trajectory, left_out: LeftOut, last_only: bool) -> Iterator[dict[str, Any]]:
    """Conversations of text for trainers that train all answers of a row: those of which all are trained. `last_only`: for a
    trainer that is told to train the last answer of a row alone, one row for each trained answer."""
    for row in openai.rows(trajectory, left_out):
        messages = row["messages"]
        if any(isinstance(m["content"], list) for m in messages):
            left_out(NO_PLACE)
            continue
        answers = [n for n, m in enumerate(messages) if m["role"] == "assistant"]
        if last_only:
            for n in answers:
                if is_trained(messages[n]):
                    yield {**row, "messages": [plain(m) for m in messages[: n + 1]]}
        elif all(is_trained(messages[n]) for n in answers):
            yield {**row, "messages": [plain(m) for m in messages]}
        else:
            left_out(UNMARKED)


def templated(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """`whole` for trainers that give the messages to a chat template as they are: arguments of tool calls are objects, and a
    content is a text, which Qwen's template wants."""
    for row in whole(trajectory, left_out, False):
        messages = rendered(row["messages"])
        if messages is None:
            left_out(NO_OBJECT)
        else:
            yield {**row, "messages": [m | {"content": m["content"] or ""} if "content" in m else m for m in messages]}


def about(trajectory: Trajectory) -> dict[str, Any]:
    """Where a row comes from."""
    return {"trajectory": trajectory.id, "group": trajectory.group, "reward": trajectory.reward}
