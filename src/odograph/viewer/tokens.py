"""Tokens and training rows of a trajectory, as pages get them. What is not known is null, and never 0."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from .. import dialects
from ..errors import InvalidInput
from ..lineage import Chain, Node, Tokenizer, chains
from ..lineage.bodies import pieces_of
from ..lineage.shown import lineage
from ..prefix import same_objects
from ..training.plan import POLICIES
from ..training.sample import Pair, Sample
from ..training.samples import samples
from ..trajectory import Trajectory

_MOST = 400_000  # tokens that one answer holds
_LIKELY = 5  # alternatives of a token that an answer holds


def tokens(t: Trajectory, by: Tokenizer | None) -> dict[str, Any]:
    """The tokens of each policy by their source, and where each sampled run stands in later prompts."""
    found = chains(t, tokenizer=by)
    ids: set[int] = set()
    made: list[dict[str, Any]] = []
    left = _MOST
    for chain in found:
        about = lineage(chain)
        for run in about["view"]:
            if left <= 0:
                run["ids"], run["logprobs"], run["left_out"] = [], None, len(run["ids"])
            left -= len(run["ids"])
            ids.update(run["ids"])
        kept = {run["call"] for run in about["view"] if run["call"]}
        about["pieces"] = {f"{call} {choice}": pieces for call, choice, pieces in _pieces(chain, kept)}
        about["likely"] = {f"{call} {choice}": likely for call, choice, likely in _likely(chain, kept)}
        about["places"] = _places(chain)
        about["about"] = {n.id: {"policy_version": n.call.policy_version, "logprobs_of": n.call.logprobs_of} for n in chain.nodes}
        made.append(about)
    edits = {e.id: {"author": e.author, "reason": e.reason, "step": e.step, "base": e.base} for e in t.all_edits}
    texts = {str(i): by.decode([i]) for i in ids} if by is not None else None
    return {"chains": made, "edits": edits, "texts": texts}


def _pieces(chain: Chain, calls: set[str]) -> list[tuple[str, int, list[str]]]:
    """The text of each token of answers, where the backend gave the texts."""
    out: list[tuple[str, int, list[str]]] = []
    for node in chain.nodes:
        for choice, ids in node.responses.items():
            pieces = pieces_of(node.call, choice) if node.id in calls else None
            if pieces is not None and len(pieces) == len(ids):
                out.append((node.id, choice, pieces))
    return out


def _likely(chain: Chain, calls: set[str]) -> list[tuple[str, int, list[Any]]]:
    """For each token of answers its entropy and its likeliest alternatives, where the backend gave alternatives: `[entropy,
    [[text, probability], ...]]`, or None."""
    out: list[tuple[str, int, list[Any]]] = []
    for node in chain.nodes:
        for choice, ids in node.responses.items() if node.id in calls else ():
            found = dialects.of_response(node.call.answered.response, node.call.dialect).alternatives(
                node.call.answered.response, choice
            )
            if len(found) == len(ids) and any(found):
                out.append((node.id, choice, [_spread(one) for one in found]))
    return out


def _spread(alternatives: list[dialects.Alternative]) -> list[Any] | None:
    """The entropy in nats, as a lower bound: what the alternatives leave counts as one token more."""
    if not alternatives:
        return None
    likely = [(text, math.exp(p)) for text, p in alternatives]
    rest = max(0.0, 1.0 - sum(p for _, p in likely))
    entropy = -sum(p * math.log(p) for p in (*(p for _, p in likely), rest) if p > 0)
    return [round(max(0.0, entropy), 4), [[text, round(p, 4)] for text, p in likely[:_LIKELY]]]


def _places(chain: Chain) -> list[list[Any]]:
    """Where runs of sampled tokens stand in later prompts: call, choice, start, stop, position, standing, first call,
    last call; calls by their number. A run that stays where it is is one entry, however many prompts have it."""
    numbers = {node.id: n for n, node in enumerate(chain.nodes)}
    out: list[list[Any]] = []
    #: Of the view before: where its segments start, and of each sampled one its number, what the run is, and its entry.
    starts: list[int] = []
    going: list[tuple[int, tuple[Any, ...], int]] = []
    before: Node | None = None
    for number, node in enumerate(chain.nodes):
        segments, known = node.view.segments, 0
        if before is not None and (before.call.adapter, before.inputs) == (node.call.adapter, node.inputs):
            known = same_objects(before.view.segments, segments)  # these stand as they stood
        at = starts[known] if known < len(starts) else starts[-1] + len(segments[known - 1].ids) if known else 0
        del starts[known:]
        gone: dict[tuple[Any, ...], int] = {}
        while going and going[-1][0] >= known:
            _, key, held = going.pop()
            gone[key] = held
        for n, segment in enumerate(segments[known:], known):
            starts.append(at)
            if segment.source == "sampled" and segment.call in numbers:
                standing = chain.standing(segment, at, node.view, node.call.adapter, node.inputs)
                key = (numbers[segment.call], segment.choice, segment.start, segment.start + len(segment.ids), at, standing)
                found = gone.pop(key, None)
                if found is None:
                    found = len(out)
                    out.append([*key, number, number])
                going.append((n, key, found))
            at += len(segment.ids)
        for held in gone.values():
            out[held][7] = number - 1
        before = node
    for _, _, held in going:
        out[held][7] = len(chain.nodes) - 1
    return out


def rows(t: Trajectory, group: list[Trajectory], edits: str, advantage: str | None, by: Tokenizer | None) -> dict[str, Any]:
    """The rows that a trajectory gives under a policy for edits, with the account of each token. `group`: the trajectories with
    which rewards are compared, the trajectory itself among them. Raises InvalidInput."""
    if edits not in POLICIES:
        raise InvalidInput(f"no policy {edits!r} for edits; there are: {', '.join(POLICIES)}")
    options: dict[str, Any] = {"edits": edits, "advantage": advantage or None, "tokenizer": by}
    made = samples(group if advantage else [t], **options)
    mine: list[Any] = [one for one in made if one.trajectory == t.id]
    ids: set[int] = set()
    out = [_pair(one) if isinstance(one, Pair) else _row(one) for one in mine]
    for row in out:
        for name in ("token_ids", "prompt_ids", "chosen_ids", "rejected_ids"):
            ids.update(row.get(name, ()))
    report = made.report
    if advantage:  # of the group; the page is of one trajectory
        alone = samples([t], edits=edits, tokenizer=by)
        list(alone)
        report = alone.report
    texts = {str(i): by.decode([i]) for i in ids} if by is not None else None
    return {"rows": out, "report": report.to_dict(), "texts": texts, "compared": len(group) if advantage else None}


def _row(sample: Sample) -> dict[str, Any]:
    fields = (
        "token_ids",
        "mask",
        "logprobs",
        "logprobs_of",
        "versions",
        "reward",
        "advantage",
        "advantages",
        "weights",
        "segment",
    )
    about = {name: getattr(sample, name) for name in (*fields, "agent", "model", "ended", "policy")}
    return about | {"parts": msgspec.to_builtins(sample.parts)}


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        name: getattr(pair, name) for name in ("prompt_ids", "rejected_ids", "chosen_ids", "rejected", "chosen", "agent", "call")
    }
