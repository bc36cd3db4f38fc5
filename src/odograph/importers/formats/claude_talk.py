"""A conversation of a Claude Code session as it is sent: whose thoughts, and where attachments stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...shape import dicts
from ...types import Action

_THOUGHTS = ("thinking", "redacted_thinking")
#: Messages that changes of the model may cost.
MOST = 500_000


class History(list[dict[str, Any]]):
    """The messages of a conversation. A reply's thoughts are sent to its own model alone (since version 2.1)."""

    def __init__(self, messages: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(messages)
        #: Of each reply with thoughts: whose it is. `views`: what each model is sent, where that is something else.
        self.models: dict[int, str] = {}
        self.views: dict[str | None, list[dict[str, Any]]] = {}
        #: The model that was asked last, and how many messages changes of it have cost: each is packed anew.
        self.asked: str | None = None
        self.cost = 0
        #: The models that have thought.
        self.thinkers: set[str | None] = set()
        #: Where the next attachment goes: before the prompts that no reply followed.
        self.place = len(self)

    def until(self, stop: int) -> History:
        cut = History(self[:stop])
        cut.models = {n: model for n, model in self.models.items() if n < stop}
        cut.thinkers, cut.cost = set(cut.models.values()), self.cost
        return cut

    def add(self, message: dict[str, Any], model: str | None = None) -> None:
        if model is not None and any(b.get("type") in _THOUGHTS for b in dicts(message["content"])):
            self.models[len(self)] = model
            self.thinkers.add(model)
        self.append(message)
        if not is_prompt(message):
            self.place = len(self)

    def sent_to(self, model: str | None) -> list[dict[str, Any]]:
        """The list to say the beginning of: one for each model. Where the model changes all the time, this one for all models."""
        if not self.views and self.thinkers <= {model}:
            return self
        if model != self.asked:
            self.asked, self.cost = model, self.cost + len(self)
        if self.cost > MOST:
            return self
        view = self.views.setdefault(model, [])
        for n in range(len(view), len(self)):
            message = self[n]
            if self.models.get(n, model) != model:
                said = [b for b in message["content"] if not (isinstance(b, dict) and b.get("type") in _THOUGHTS)]
                message = {**message, "content": said}
            view.append(message)
        return view


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
        self.kept: list[tuple[str, dict[str, Any], str | None]] = []
        self.anchor: str | None = None


def is_prompt(message: dict[str, Any]) -> bool:
    """Whether a message of the history is one that a person, not a tool, sent."""
    return message["role"] == "user" and not any(b.get("type") == "tool_result" for b in dicts(message.get("content")))
