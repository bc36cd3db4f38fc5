"""`odograph lineage`: a trajectory's tokens by where they came from, and what of them could be trained."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..lineage import Chain, Node, Segment, chains, tokenizer
from ..lineage.shown import lineage, logprobs_of, standings
from ..lineage.texts import Tokenizer
from ..trajectory import Trajectory
from .common import add_json, existing_store, print_json
from .terminal import line, number, paint

HELP = "show a trajectory's tokens by source and standing after edits: exact, stale, deleted"
_COLOURS = {
    "prompt": "dim",
    "template": "dim",
    "tool": "yellow",
    "sampled": "green",
    "inserted": "magenta",
    "retokenized": "magenta",
    "summary": "blue",
}
_SHOWN = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the trajectory: the id, or a unique prefix or suffix of the id")
    parser.add_argument("--agent", metavar="NAME", help="show only this agent")
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="a tokenizer.json; shows tokens as text, and maps edits of text to tokens"
    )
    parser.add_argument("--full", action="store_true", help="show every token (default: long runs are shortened)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    by = tokenizer(args.tokenizer)
    with existing_store(args) as store:
        trajectory = store.trajectory(args.id)
    found = chains(trajectory, agent=args.agent, tokenizer=by)
    if args.json:
        print_json({"trajectory": trajectory.id, "chains": [lineage(chain) for chain in found]})
        return 0
    for text in _shown(trajectory, found, by, args.full):
        print(text)
    return 0


def _shown(t: Trajectory, found: list[Chain], by: Tokenizer | None, full: bool) -> Iterator[str]:
    yield paint(t.id, "bold")
    if not found:
        agents = sorted({line(c.agent or t.agent or "") for c in t.llm_calls if c.purpose == "act"})
        yield "no call of a policy" if not agents else f"no call of that agent; there are: {', '.join(agents)}"
    for chain in found:
        sampled = sum(len(ids) for n in chain.nodes for ids in n.responses.values())
        exact = sum(len(s.ids) for s, _, standing in standings(chain, chain.last) if standing == "exact")
        who = " · ".join(line(x) for x in (chain.agent, chain.model) if x) or "agent"
        told = f"{len(chain.nodes)} calls, {sampled:,} tokens sampled, {exact:,} of them exact in the last view"
        yield f"{paint(who, 'bold')}: {told}"
        for node in chain.nodes:
            yield from _node(node)
        yield paint("the last view:", "bold")
        for segment, at, standing in standings(chain, chain.last):
            yield _segment(chain, segment, at, standing, by, full)
        for call, why in chain.left_out:
            yield f"left out: call {call.id[-8:]}: {why}"
        for edit, why in chain.problems.items():
            yield paint(f"edit {edit[-8:]} changes nothing: {line(why)}", "red")


def _node(node: Node) -> Iterator[str]:
    size = "+".join(str(len(ids)) for ids in node.responses.values())
    what = f"  step {node.call.step} · prompt {len(node.prompt):,} · answered {size} · "
    changed = f", {node.deleted} gone, {node.inserted} put in" if node.deleted or node.inserted else ""
    colour = "dim" if node.kind in ("start", "extends") else "magenta"
    yield what + paint(node.kind + changed, colour)


def _segment(chain: Chain, segment: Segment, at: int, standing: str | None, by: Tokenizer | None, full: bool) -> str:
    colour = "red" if standing == "stale" else _COLOURS[segment.source]
    name = segment.source if standing is None else f"{segment.source} {standing}"
    where = f" {(segment.call or '')[-8:]}[{segment.start}:{segment.start + len(segment.ids)}]" if segment.call else ""
    ids = segment.ids if full or len(segment.ids) <= _SHOWN else [*segment.ids[: _SHOWN // 2], *segment.ids[-_SHOWN // 2 :]]
    if by is not None:
        text = by.decode(segment.ids)
        shown = repr(text if full or len(text) <= 200 else f"{text[:100]} … {text[-100:]}")
    elif len(ids) < len(segment.ids):
        shown = " ".join(map(str, ids[: _SHOWN // 2])) + " … " + " ".join(map(str, ids[_SHOWN // 2 :]))
    else:
        shown = " ".join(map(str, ids))
    found = logprobs_of(chain, segment) if segment.source == "sampled" else None
    known = [p for p in found or [] if isinstance(p, float)]
    logprobs = f" · mean logprob {number(sum(known) / len(known))}" if known else ""
    return f"  {at:>7,} {paint(f'{name}{where}', colour)} {len(segment.ids)}{logprobs}: {paint(shown, colour)}"
