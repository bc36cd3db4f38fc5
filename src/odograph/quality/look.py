"""What checks look at: a trajectory with the path of each record, and the messages that are new at each call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ..calls import Call
from ..lineage import Chain, Tokenizer, chains
from ..prefix import Prefix, same_objects
from ..trajectory import Trajectory
from ..types import AnyRecord, End, Start, StepStart

_NAMES = {
    "Context": "contexts",
    "LLMCall": "llm_calls",
    "Action": "actions",
    "Reward": "rewards",
    "Edit": "edits",
    "Label": "labels",
    "Note": "notes",
}


class Look:
    """One trajectory under examination."""

    def __init__(
        self, trajectory: Trajectory, tokenizer: Tokenizer | None = None, *, by_hand: bool = False, stated: Any = None
    ) -> None:
        self.t = trajectory
        #: Whether it is a dict that was written by hand, not one that `to_dict` gave.
        self.by_hand = by_hand
        #: The total that a dict states beside its rewards.
        self.stated = stated
        #: What the tokens say, where it is known.
        self.tokenizer = tokenizer
        self.imported: bool = "source" in trajectory.metadata

    @cached_property
    def placed(self) -> list[tuple[str, AnyRecord]]:
        """(path as in `to_dict`, record) of every record that counts."""
        t = self.t
        out: list[tuple[str, AnyRecord]] = []
        counts: dict[str, int] = {}
        steps = {(s.agent, s.index): i for i, s in enumerate(t.steps)}
        for record in t.standing:
            if isinstance(record, End) and record is not t.end:
                continue
            if isinstance(record, (Start, End)):
                out.append((str(record.__struct_config__.tag), record))
                continue
            prefix = ""
            if record.step is not None:
                prefix = f"steps[{steps[(record.agent or t.agent, record.step)]}]."
            if isinstance(record, StepStart):
                out.append((f"{prefix}record", record))
                continue
            place = prefix + _NAMES[type(record).__name__]
            number = counts[place] = counts.get(place, -1) + 1
            out.append((f"{place}[{number}]", record))
        return out

    @cached_property
    def chains(self) -> list[Chain]:
        """The token lineage; nothing where no prompt has ids, or where ids are no numbers (`token_value` says so)."""
        if not any(call.prompt_ids for _, call in self.calls):
            return []
        try:
            return chains(self.t, tokenizer=self.tokenizer)
        except (TypeError, ValueError, OverflowError):
            return []

    @cached_property
    def path_of(self) -> dict[str, str]:
        """Record id -> path."""
        return {r.id: p for p, r in self.placed}

    @cached_property
    def calls(self) -> list[tuple[str, Call]]:
        """(path, call)."""
        return [(self.path_of.get(c.id, "llm_calls"), c) for c in self.t.llm_calls]

    @cached_property
    def new_messages(self) -> list[tuple[str, Call, list[dict[str, Any]], str | None]]:
        """(path, call, chat-shaped messages that the agent's call before had not, the role before them).

        Histories are shared objects, so what is the same costs nothing to tell; a session of any length is looked at once.
        """
        out: list[tuple[str, Call, list[dict[str, Any]], str | None]] = []
        before: dict[tuple[str | None, str], tuple[list[Any] | Prefix, str | None]] = {}
        for path, call in self.calls:
            history = call.history
            if history is None:
                out.append((path, call, call.messages if isinstance(call.request, dict) else [], None))
                continue
            items = history[1]
            key = (call.agent, call.purpose)
            held, role = before.get(key, ([], None))
            same = same_objects(held, items)
            if same < len(held):  # cut or edited: the role before is that of what is kept
                role = None
            new = call.shaped(items[same:]) if same else call.messages
            out.append((path, call, new, role if same else None))
            last = new[-1].get("role") if new else role
            before[key] = (items, last if isinstance(last, str) else None)
        return out

    def walk(self) -> Iterator[tuple[str, Any]]:
        """(path, value) of all content, each message once."""
        for path, record in self.placed:
            for field in record.__struct_fields__:
                value = getattr(record, field)
                if field in ("request", "packed", "events") or not isinstance(value, (dict, list, float)):
                    continue
                yield f"{path}.{field}", value
        for path, call, new, _ in self.new_messages:
            yield f"{path}.request.messages", new
            yield f"{path}.request", call.params
            if not call.has_prompt_ids_beside and isinstance(call.answered.response, (dict, list)):
                yield f"{path}.response", call.answered.response
