"""Which tokens of an answer an edit or a truncation took out of it, while the rest of the answer stayed. Reads chains."""

from __future__ import annotations

from itertools import pairwise

from ..prefix import same_objects
from .chain import Chain
from .edits import Of
from .view import Segment, View


def cut_out(chain: Chain) -> dict[Of, set[int]]:
    """The tokens of each response that an edit or a truncation took out of it, while the response stayed. What left the context
    whole was not cut, and neither was what a template, other tokens for the same text or a summary made other."""
    found: dict[Of, set[int]] = {}

    def compare(before: View, own: Segment, after: View, edited: set[Of]) -> None:
        # what both begin with says nothing, but for the last response there, of which more may follow
        same = 0 if chain.moves else same_objects(before.segments, after.segments)
        last: Of | None = None
        while same and last is None:
            same -= 1
            last = after.segments[same].response
        was, now = View([*before.segments[same:], own]).sampled(), View(after.segments[same:])
        stays = now.sampled()
        there = stays.keys() | {s.response for s in now.segments if s.response is not None} | edited
        for of, tokens in was.items():
            gone = tokens - stays.get(of, set())
            if gone and of in there:
                found.setdefault(of, set()).update(gone)

    for thread in chain.threads:
        for before, node in pairwise(thread.nodes):
            if node.kind in ("declared", "truncation", "rewrite") and before.continued is not None:
                ids = before.responses[before.continued]
                own = Segment("sampled", ids, before.id, before.continued, 0, (before.id, before.continued))
                compare(before.view, own, node.view, chain.bases(node.edits))
        if thread.last_edits:
            last = thread.nodes[-1]
            choice = last.continued if last.continued is not None else min(last.responses)
            own = Segment("sampled", last.responses[choice], last.id, choice, 0, (last.id, choice))
            compare(last.view, own, thread.last, chain.bases(thread.last_edits))
    return found
