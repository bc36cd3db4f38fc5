"""A call in its place in a lineage, and the threads that calls form. Says what one call has of another; orders none of them."""

from __future__ import annotations

from typing import Any

import msgspec

from ..calls import Call
from ..dialects import Choice
from ..prefix import Prefix
from .observed import Kind
from .view import View


class Node(msgspec.Struct):
    """One call in its place: the view that it was sampled under, and how that came to be."""

    call: Call
    #: What goes on with the prompt before is a `Prefix` of one list that they share.
    prompt: Prefix
    #: Of each choice, by its index; those without ids are left out.
    responses: dict[int, list[int]]
    choices: dict[int, Choice]
    view: View
    kind: Kind
    #: The choice that was continued; None: none was.
    continued: int | None = None
    deleted: int = 0
    inserted: int = 0
    #: Ids of edits that took effect before this call.
    edits: list[str] = []
    #: The choices that any later call went on with.
    taken: set[int] = set()
    #: What is no text in the prompt, by hash: as it was recorded, else of the parts of its messages.
    inputs: list[str] = []
    #: Which prompt of its call it is, where that has several.
    batch: int | None = None

    @property
    def id(self) -> str:
        return self.call.id

    @property
    def goes_on(self) -> bool:
        """Whether it goes on with an answer of the call before it, as it was or with a declared edit."""
        return self.kind in ("extends", "declared", "contradicted")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the prompt."""
        given = self.call.messages
        return given if self.batch is None else given[self.batch : self.batch + 1]


class Thread:
    """Calls of which each goes on with the one before it, edited or not; and their last view, with edits that no call came
    after. `base`: the call and its choice that it branches off from, where that choice is in no other thread."""

    def __init__(self, first: Node, base: tuple[Node, int] | None = None) -> None:
        self.nodes: list[Node] = [first]
        self.base = base
        self.last: View = View()
        self.last_edits: list[str] = []


def end_of(node: Node) -> tuple[int, int]:
    """The length of a prompt, and its last token: equal prompts have both alike."""
    return len(node.prompt), node.prompt[-1]


def asks_again(before: Node, node: Node) -> bool:
    if end_of(before) != end_of(node):
        return False
    was, now = before.call, node.call
    return before.prompt == node.prompt and (was.adapter, before.inputs) == (now.adapter, node.inputs)


def stand_in(node: Node, other: Node) -> None:
    """A call asks the question of another one: it stands under the same view."""
    node.view, node.kind, node.edits = other.view, other.kind, other.edits
    node.deleted, node.inserted = other.deleted, other.inserted
