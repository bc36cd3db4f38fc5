"""A conversation of a Claude Code session as it is sent: whose thoughts, and where attachments stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...shape import dicts, items
from ...types import Action
from ..views import Messages, Otherwise

_THOUGHTS = ("thinking", "redacted_thinking")


class History(Messages):
    """The messages of a conversation. A reply's thoughts are sent to its own model alone (since version 2.1)."""

    def __init__(self, messages: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(messages)
        #: Where the next attachment goes: before the prompts that no reply followed.
        self.place = len(self)

    def add(self, message: dict[str, Any], otherwise: Otherwise | None = None) -> None:
        super().add(message, otherwise)
        if not is_prompt(message):
            self.place = len(self)


def otherwise(message: dict[str, Any], model: str | None) -> Otherwise | None:
    """What other models are sent of a reply with thoughts."""
    said = [b for b in items(message["content"]) if not (isinstance(b, dict) and b.get("type") in _THOUGHTS)]
    return None if model is None or len(said) == len(items(message["content"])) else (model, {**message, "content": said})


class Chain:
    """One conversation of the session: the main one, or a sub-agent's."""

    def __init__(self, key: str | None, agent: str | None) -> None:
        self.key = key
        #: What its records are known by beside their own ids: some servers give the same ids to several conversations.
        self.whose: tuple[str, ...] = () if key is None else (key,)
        self.agent = agent
        self.actions: dict[str, Action] = {}
        self.history: History = History()
        #: What was said since the last reply or attachment, by uuid: attachments are sent before it.
        self.said: list[str] = []
        self.observed: list[Any] = []
        self.unanswered: list[dict[str, Any]] = []
        self.step = -1
        #: Messages that a compaction kept, until what they follow comes.
        self.kept: list[tuple[str, dict[str, Any], Otherwise | None]] = []
        self.anchor: str | None = None


def is_prompt(message: dict[str, Any]) -> bool:
    """Whether a message of the history is one that a person, not a tool, sent."""
    return message["role"] == "user" and not any(b.get("type") == "tool_result" for b in dicts(message.get("content")))
