"""A context as it is predicted: segments of known ids, and holes for text whose ids only the next prompt has. Knows no call."""

from __future__ import annotations

from typing import Any

import msgspec

from ..prefix import Prefix
from .edits import Hole, Of, Pieces
from .view import Aligned, Ids, Segment, View


class Continued(msgspec.Struct):
    """What a prompt may go on with: an answer of the call before, with some edits, and what stands before it."""

    choice: int
    #: What stands before what is new; None: the view of the call before, and the answer as it was generated.
    view: View | None
    size: int
    used: list[str]
    wrong: dict[str, str]
    aligned: Aligned | None = None
    #: Some of it is text whose ids are not known.
    holes: bool = False


def same(a: Pieces, b: Pieces) -> bool:
    """Whether two lists of pieces are the same tokens from the same places."""

    def told(pieces: Pieces) -> list[Any]:
        out: list[Any] = []
        for p in pieces:
            if isinstance(p, Hole):
                out.append(p.text)
            elif p.source == "sampled":
                out += [(p.call, p.choice, p.start + n) for n in range(len(p.ids))]
            else:
                out += p.ids
        return out

    return told(a) == told(b)


def cleared(pieces: Pieces, at: int, made: Pieces) -> Pieces:
    """What an edit made of a response: what is kept at its beginning stands where it stood."""
    held = pieces[at]
    first = made[0] if made else None
    if (
        isinstance(held, Segment)
        and isinstance(first, Segment)
        and held.exact
        and (first.call, first.choice, first.start) == (held.call, held.choice, held.start)
    ):
        return [msgspec.structs.replace(first, exact=True, edit=None), *made[1:]]
    return made


def shaken(pieces: Pieces) -> Pieces:
    """The pieces behind a change, marked so that their standing is looked at anew."""
    return [msgspec.structs.replace(p, exact=None) if isinstance(p, Segment) and p.exact else p for p in pieces]


def parted(view: View, edited: set[Of]) -> tuple[View, list[Segment]]:
    """A view before all that stands of some responses, and its segments from there on. Costs what comes after: all of a response
    stands together."""
    left, at, seen = set(edited), len(view.segments), None
    for n in reversed(range(len(view.segments))):
        of = view.segments[n].response
        if of is None:
            continue
        if of != seen:
            left.discard(seen)
            seen = of
        if not left:
            break
        if of in left:
            at = n
    tail = view.segments[at:]
    size = len(view.ids) - sum(len(s.ids) for s in tail)
    head, _ = view.until(size)
    head.ids = Prefix(view.ids.base, size) if isinstance(view.ids, Prefix) else view.ids[:size]
    return head, tail


def filled(head: View, pieces: Pieces, prompt: Ids) -> View | None:
    """A predicted view, with its holes filled from the prompt; None if the prompt does not fit."""
    if not any(isinstance(p, Hole) for p in pieces):
        return head.then(p for p in pieces if isinstance(p, Segment))
    view = head
    for n, piece in enumerate(pieces):
        if isinstance(piece, Segment):
            view = view.then([piece])
            continue
        at = len(view.ids)
        if prompt[:at] != view.ids[:]:
            return None
        after = next((p for p in pieces[n + 1 :] if isinstance(p, Segment)), None)
        if after is None or isinstance(pieces[n + 1], Hole):
            return None  # where it ends can't be told
        size = len(after.ids)
        stop = next((i for i in range(at, len(prompt) - size + 1) if prompt[i : i + size] == after.ids), None)
        if stop is None:
            return None
        response = after.response
        view = view.then([Segment("inserted", prompt[at:stop], response=response, edit=piece.edit)])
    return view
