"""`odograph stats`: what a store holds and earned, in figures and pictures."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from ..errors import InvalidInput
from ..statistics import BY, Difference, Distribution, Part
from .common import add_filters, add_json, existing_store, filters_of, print_json
from .terminal import line, number, paint, table, width

HELP = "print counts, tokens and rewards with intervals, in total or by group, agent, model, tag, time or policy version"
_MOST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", choices=BY, help="print a line for each value of this field")
    parser.add_argument(
        "--patterns",
        action="store_true",
        help="also print components, and the actions, contexts, models and tags that go with high and low reward",
    )
    parser.add_argument("--confidence", type=float, default=0.95, metavar="C", help="confidence of the intervals (default: 0.95)")
    parser.add_argument(
        "--success",
        type=float,
        metavar="R",
        help="the lowest reward of a success, for pass@k (default: the higher of two values)",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the figures into a .png, .svg or .pdf file (extra plot)")
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if not 0.0 < args.confidence < 1.0:
        raise InvalidInput(f"--confidence is between 0 and 1, such as 0.95, not {args.confidence}")
    with existing_store(args) as store:
        found = store.stats(args.by, confidence=args.confidence, success=args.success, **filters_of(args))
    if args.plot is not None:
        found.plot(args.plot)
    if args.json:
        print_json(found.to_dict())
        return 0
    named = [("all", found.whole)]
    if args.by:
        named = [(line(p.key) if p.key is not None else "-", p) for p in found.parts] + named
    sure = f"{args.confidence:.0%}"
    head = [args.by or "", "traj.", "steps", "calls", "actions", "in", "out", "reward", sure, "std", "min", "median", "max"]
    head += ["rewarded", "completed", sure, "statuses"]
    drop = [16, 15, 5, 6, 4, 3, 9, 2, 10, 12, 11, 13, 14, 8]
    rows = [_row(name, p) for name, p in named]
    if any(p.reward.values for _, p in named):  # a mean of few says less than they do
        head.append("values")
        rows = [[*row, " ".join(map(number, p.reward.values or []))] for row, (_, p) in zip(rows, named, strict=True)]
        drop.insert(0, 17)
    print("\n".join(table(head, rows, right={*range(1, 8), 9, 10, 11, 12, 13, 14}, whole={8, 15}, drop=drop)))
    _say(_methods([p.reward for _, p in named], sure))
    _passing(named[-1:] if args.by == "group" else named, sure)
    if args.patterns:
        _patterns(found.components, found.differences, sure)
    return 0


def _methods(found: list[Distribution], sure: str) -> str:
    """How the intervals were made, in one sentence."""
    methods = list(dict.fromkeys(d.method for d in found if d.method))
    if not methods:
        return ""
    text = f"{sure} of the mean: {'; '.join(methods)}"
    groups = next((d.groups for d in reversed(found) if d.groups), None)
    return f"{text} ({groups} tasks in all: attempts of one task are not independent)" if groups else text


def _passing(named: list[tuple[str, Part]], sure: str) -> None:
    """pass@k of each part, where there is any."""
    named = [(name, part) for name, part in named if part.pass_at_k]
    if not named:
        return
    ks = sorted({p.k for _, part in named for p in part.pass_at_k})
    rows = []
    for name, part in named:
        cells = {p.k: f"{p.estimate:.0%} {_shares(p.interval)} {p.tasks}" for p in part.pass_at_k}
        rows.append([name, *(cells.get(k, "-") for k in ks)])
    print()
    print("\n".join(table(["", *(f"pass@{k}" for k in ks)], rows, whole=range(1, len(ks) + 1))))
    _say(f"pass@k: unbiased estimate, {sure} interval over tasks, and how many tasks have k attempts at least")


def _shares(found: Any) -> str:
    return "(-)" if found is None else f"({found[0]:.0%} .. {found[1]:.0%})"


def _say(text: str) -> None:
    if text:
        print("\n".join(paint(one, "dim") for one in textwrap.wrap(text, max(20, width()))))


def _row(name: str, p: Part) -> list[str]:
    r = p.reward
    counts = [p.trajectories, p.steps, p.llm_calls, p.actions, p.prompt_tokens, p.completion_tokens]
    statuses = ", ".join(f"{count} {status}" for status, count in p.statuses.items())
    rate = "-" if p.completed_rate is None else f"{p.completed_rate:.0%}"
    return [
        *(name, *map(number, counts), number(r.mean), _interval(r.interval), number(r.std), number(r.min), number(r.median)),
        *(number(r.max), number(r.n), rate, _interval(p.completed_interval), statuses),
    ]


def _patterns(components: dict[str, Distribution], differences: list[Difference], sure: str) -> None:
    if components:
        rows = [
            [line(name), number(d.mean), _interval(d.interval), number(d.std), number(d.median), number(d.n), number(d.null)]
            for name, d in components.items()
        ]
        print()
        print("\n".join(table(["component", "mean", sure, "std", "median", "known", "null"], rows, right={1, 3, 4, 5, 6})))
    print()
    if not differences:
        print("nothing is done, read, asked or tagged in some rewarded trajectories and not in others, five at least of each")
        return
    rows = [
        [
            *(d.kind, line(d.name), number(d.difference), _interval(d.interval), _interval(d.corrected)),
            *(number(d.p_value), number(d.tasks) if d.tasks else "across tasks"),
            *(number(d.mean_with), number(d.n_with), number(d.mean_without), number(d.n_without), "yes" if d.stands_out else ""),
        ]
        for d in differences[:_MOST]
    ]
    head = ["what", "name", "difference", sure, "of all at once", "p", "tasks", "with", "n", "without", "n", "stands out"]
    print("\n".join(table(head, rows, right={2, 5, 7, 8, 9, 10}, drop=(5, 8, 10, 7, 9, 6, 0, 3))))
    _say(
        "difference: within tasks, where at least five trajectories on each side have attempts of the same task on the other;"
        " with, without: means over all tasks. A difference is an association, no cause."
    )
    if len(differences) > _MOST:
        print(f"and {len(differences) - _MOST} more (--json)")


def _interval(found: Any) -> str:
    return "-" if found is None else f"{number(found[0])} .. {number(found[1])}"
