"""A conversation of a Claude Code session as it is sent: whose thoughts, where attachments stand, which results were cleared."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...shape import dicts, items, text
from ...types import Action
from ..views import Messages, Otherwise

_THOUGHTS = ("thinking", "redacted_thinking")
_CLEARED = "[Old tool result content cleared]"
#: Where a line's message stands: the list of messages that it is in, from and to, and whose that is.
Spot = tuple[Messages, int, int, "Chain"]


class Said(NamedTuple):
    """What a line adds to the next request, where a reply or a tool's result has not yet said where it stands."""

    uuids: list[str]
    message: dict[str, Any] | None
    otherwise: Otherwise | None = None
    attached: bool = False


def otherwise(message: dict[str, Any], model: str | None) -> Otherwise | None:
    """What other models are sent of a reply with thoughts (since version 2.1: the reply without them)."""
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
        self.history = Messages()
        #: What was said since the last reply or tool result, in the order in which it came.
        self.waiting: list[Said] = []
        #: Of each line's uuid: where it stands there.
        self.places: dict[str, int] = {}
        self.observed: list[Any] = []
        self.unanswered: list[dict[str, Any]] = []
        self.step = -1
        #: The tool calls of the last reply that have no result yet.
        self.unmet: set[str] = set()
        #: What other lines call the last reply.
        self.replied: list[str] = []
        #: Messages that a compaction kept, until what they follow comes.
        self.kept: list[Said] = []
        self.anchor: str | None = None

    def say(self, spots: dict[str, Spot], said: Said) -> None:
        """A line's message, or a line without one. A reply or a tool's result says where all that came before it stands."""
        waits = said.message is None or said.attached or is_prompt(said.message)
        if not waits:
            self.settle(spots)
        self.places.update(dict.fromkeys(said.uuids, len(self.waiting)))
        self.waiting.append(said)
        if not waits:
            self.settle(spots)

    def asked_since(self, at: int) -> bool:
        """Whether a prompt waits from a place on."""
        return any(self.waiting[n].message and not self.waiting[n].attached for n in range(at, len(self.waiting)))

    def cut(self, stop: int) -> None:
        """Only what came first still waits."""
        self.waiting = self.waiting[:stop]
        self.places = {uuid: at for uuid, at in self.places.items() if at < stop}

    def settle(self, spots: dict[str, Spot]) -> None:
        """Attachments are sent behind the last reply or tool result, before what was said since. What follows an attachment in
        the file follows what was said before it, too."""
        waiting, history = self.waiting, self.history
        self.waiting, self.places = [], {}
        attached = [said for said in waiting if said.attached]
        at, stop = len(history), len(history) + len(attached)
        for said in (*attached, *(s for s in waiting if not s.attached)):
            if said.message is not None:
                history.add(said.message, said.otherwise)
        for said in waiting:
            start = stop
            if said.attached:
                start, at = at, at + 1
            elif said.message is not None:
                stop += 1
            for uuid in said.uuids:
                spots[uuid] = (history, start, stop, self)

    def forget_unmet(self, spots: dict[str, Spot]) -> None:
        """The last reply's calls that nothing answered: where a session that was killed is resumed, the program leaves them out,
        and with them what it thought before. No request holds that reply yet: it is changed in place."""
        unmet, self.unmet = self.unmet, set()
        at = next((n for n in range(len(self.history) - 1, -1, -1) if self.history[n]["role"] == "assistant"), -1)
        reply = self.history[at] if at >= 0 else {"content": None}
        blocks = [b for b in items(reply["content"]) if not (isinstance(b, dict) and text(b.get("id")) in unmet)]
        if len(blocks) == len(items(reply["content"])):
            return
        whose, _ = self.history.otherwise.pop(at, (None, None))
        if any(not (isinstance(b, dict) and b.get("type") in _THOUGHTS) for b in blocks):
            self.history[at] = {**reply, "content": blocks}
            if (other := otherwise(self.history[at], whose)) is not None:
                self.history.otherwise[at] = other
        elif at == len(self.history) - 1:
            self.history.pop()
            spots.update(dict.fromkeys(self.replied, (self.history, at, at, self)))

    def clear(self, spots: dict[str, Spot], calls: list[Any]) -> None:
        """The results of these tool calls are sent as a sentence from now on."""
        self.settle(spots)
        history = Messages()
        for n, message in enumerate(self.history):
            blocks = message["content"] if isinstance(message["content"], list) else []
            cleared = [
                {**b, "content": _CLEARED} if isinstance(b, dict) and b.get("tool_use_id") in calls and b.get("content") else b
                for b in blocks
            ]
            history.add({**message, "content": cleared} if cleared != blocks else message, self.history.otherwise.get(n))
        before, self.history = self.history, history
        for uuid, (base, start, stop, chain) in list(spots.items()):
            if base is before:
                spots[uuid] = (history, start, stop, chain)


def is_prompt(message: dict[str, Any]) -> bool:
    """Whether a message of the history is one that a person, not a tool, sent."""
    return message["role"] == "user" and not any(b.get("type") == "tool_result" for b in dicts(message.get("content")))
