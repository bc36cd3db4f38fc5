"""One agent's tokens as values, one by one: what `lineage` prints and the viewer draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .chain import Chain
from .view import Segment, View


def standings(chain: Chain, view: View) -> Iterator[tuple[Segment, int, str | None]]:
    """(segment, where it starts, exact, stale or unknown; None for what was not sampled) of a view."""
    last = chain.nodes[-1] if chain.nodes else None
    at = 0
    for segment in view.segments:
        standing = None
        if segment.source == "sampled" and last is not None:
            standing = chain.standing(segment, at, view, last.call.adapter, last.inputs)
        yield segment, at, standing
        at += len(segment.ids)


def logprobs_of(chain: Chain, segment: Segment) -> list[Any] | None:
    """The logprobs of a sampled segment, where they were recorded."""
    node = chain.by_id.get(segment.call or "")
    found = node.choices[segment.choice].logprobs if node is not None else None
    return found[segment.start : segment.start + len(segment.ids)] if found is not None else None


def lineage(chain: Chain) -> dict[str, Any]:
    """One agent's tokens: its calls, and the last view token by token."""
    return {
        "agent": chain.agent,
        "model": chain.model,
        "calls": [
            {
                "id": n.id,
                "step": n.call.step,
                "kind": n.kind,
                "edits": n.edits,
                "prompt_tokens": len(n.prompt),
                "deleted": n.deleted,
                "inserted": n.inserted,
                "continued": n.continued,
                "response_tokens": {str(i): len(ids) for i, ids in n.responses.items()},
            }
            for n in chain.nodes
        ],
        "view": [
            {
                "source": s.source,
                "start": at,
                "ids": s.ids,
                "call": s.call,
                "choice": s.choice if s.call else None,
                "index": s.start if s.call else None,
                "standing": standing,
                "logprobs": logprobs_of(chain, s) if s.source == "sampled" else None,
                "mask": int(standing == "exact"),
                "edit": s.edit,
            }
            for s, at, standing in standings(chain, chain.last)
        ],
        "discarded": [n.id for n in chain.discarded],
        "left_out": [{"call": c.id, "reason": why} for c, why in chain.left_out],
        "edits_unused": chain.problems,
    }
