"""`odograph compare`: two parts of a store side by side, with tests."""

from __future__ import annotations

import argparse
import textwrap

from ..errors import InvalidInput
from ..statistics.comparison import BY
from .common import add_filters, add_json, existing_store, filters_of, print_json
from .terminal import line, paint, table, width

HELP = (
    "compare two models, agents, policy versions, groups or tags: differences, their intervals and tests, in a table or picture"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="the first model to compare, or the first value of --by")
    parser.add_argument("b", metavar="B", help="the second")
    parser.add_argument("--by", choices=BY, default="model", help="the kind of A and B (default: model)")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="C", help="confidence of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap and of permutations (default: 0)")
    parser.add_argument("--plot", metavar="FILE", help="draw the comparison: .png, .svg or .pdf (extra plot)")
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if not 0.0 < args.confidence < 1.0:
        raise InvalidInput(f"--confidence is between 0 and 1, such as 0.95, not {args.confidence}")
    with existing_store(args) as store:
        found = store.compare(args.a, args.b, by=args.by, confidence=args.confidence, seed=args.seed, **filters_of(args))
    if args.plot is not None:
        found.plot(args.plot)
    if args.json:
        print_json(found.to_dict())
        return 0
    head, rows = found.cells()
    texts = [[line(cell) for cell in row] for row in [head, *rows]]
    print("\n".join(table(texts[0], texts[1:], right={1, 2, 3, 4, 5, 7, 8, 9}, whole={6}, drop=(10, 9, 7, 2, 4))))
    for note in found.notes():
        print("\n".join(paint(one, "dim") for one in textwrap.wrap(line(note), max(20, width()))))
    return 0
