"""A context as it is predicted: segments of known ids, and holes for text whose ids only the next prompt has. Knows no call."""

from __future__ import annotations

from typing import Any

import msgspec

from .edits import Hole, Pieces
from .view import Ids, Segment, View


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
        and first.source == "sampled"
    ):
        return [msgspec.structs.replace(first, exact=True, edit=None), *made[1:]]
    return made


def shaken(pieces: Pieces) -> Pieces:
    """The pieces behind a change, marked so that their standing is looked at anew."""
    return [msgspec.structs.replace(p, exact=None) if isinstance(p, Segment) and p.exact else p for p in pieces]


def filled(pieces: Pieces, prompt: Ids) -> View | None:
    """A predicted view, with its holes filled from the prompt; None if the prompt does not fit."""
    if not any(isinstance(p, Hole) for p in pieces):
        return View(p for p in pieces if isinstance(p, Segment))
    view = View()
    for n, piece in enumerate(pieces):
        if isinstance(piece, Segment):
            view.add(piece)
            continue
        at = len(view.ids)
        if prompt[:at] != view.ids:
            return None
        after = next((p for p in pieces[n + 1 :] if isinstance(p, Segment)), None)
        if after is None or isinstance(pieces[n + 1], Hole):
            return None  # where it ends can't be told
        size = len(after.ids)
        stop = next((i for i in range(at, len(prompt) - size + 1) if prompt[i : i + size] == after.ids), None)
        if stop is None:
            return None
        response = after.response
        view.add(Segment("inserted", prompt[at:stop], response=response, edit=piece.edit))
    return view
