"""Which tokens of an answer an edit or a truncation took out of it, while the rest of the answer stayed. Reads chains."""

from __future__ import annotations

from itertools import pairwise

from .chain import Chain
from .edits import Of
from .view import Segment, View


def cut_out(chain: Chain) -> dict[Of, set[int]]:
    """The tokens of each response that an edit or a truncation took out of it, while the response stayed. What left the context
    whole was not cut, and neither was what a template, other tokens for the same text or a summary made other."""
    found: dict[Of, set[int]] = {}

    def compare(before: View, after: View, edited: set[Of]) -> None:
        was, now = before.sampled(), after.sampled()
        there = now.keys() | {s.response for s in after.segments if s.response is not None} | edited
        for of, tokens in was.items():
            gone = tokens - now.get(of, set())
            if gone and of in there:
                found.setdefault(of, set()).update(gone)

    for thread in chain.threads:
        for before, node in pairwise(thread.nodes):
            if node.kind in ("declared", "truncation", "rewrite") and before.continued is not None:
                ids = before.responses[before.continued]
                own = Segment("sampled", ids, before.id, before.continued, 0, (before.id, before.continued))
                compare(View([*before.view.segments, own]), node.view, chain.bases(node.edits))
        if thread.last_edits:
            last = thread.nodes[-1]
            choice = last.continued if last.continued is not None else min(last.responses)
            own = Segment("sampled", last.responses[choice], last.id, choice, 0, (last.id, choice))
            compare(View([*last.view.segments, own]), thread.last, chain.bases(thread.last_edits))
    return found
