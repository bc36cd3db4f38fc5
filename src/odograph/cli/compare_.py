"""`odograph compare`: two parts of a store, or two judgements of the same trajectories, side by side, with tests."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..statistics.comparison import BY
from ..statistics.labelled import LABELS_BY
from .common import add_filters, add_json, existing_store, filters_of, print_json
from .terminal import line, number, paint, table, width

HELP = (
    "compare two models, agents or policy versions, or the labels of two rubrics, judges or worlds: differences, intervals, tests"
)
_SHOWN = 20  # trajectories whose label changed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="the first model to compare, or the first value of --by")
    parser.add_argument("b", metavar="B", help="the second model or value")
    parser.add_argument("--by", choices=(*BY, *LABELS_BY, "world"), default="model", help="the kind of A and B (default: model)")
    parser.add_argument("--technique", metavar="NAME", help="compare labels of this technique")
    parser.add_argument("--rubric", metavar="FILE", help="compare labels by this rubric: a file, or the beginning of a version")
    parser.add_argument("--judge", metavar="NAME", help="compare labels of this judge")
    parser.add_argument("--namespace", default="default", metavar="NAME", help="namespace of the worlds (default: default)")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="C", help="confidence of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap and of permutations (default: 0)")
    parser.add_argument("--plot", metavar="FILE", help="draw the comparison: .png, .svg or .pdf (extra plot)")
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if not 0.0 < args.confidence < 1.0:
        raise InvalidInput(f"--confidence is between 0 and 1, such as 0.95, not {args.confidence}")
    a, b = args.a, args.b
    if args.by == "rubric":
        a, b = _version(a), _version(b)
    narrow: dict[str, Any] = {"technique": args.technique, "judge": args.judge}
    narrow["rubric"] = None if args.rubric is None else _version(args.rubric)
    more: dict[str, Any] = {"confidence": args.confidence, "seed": args.seed, "namespace": args.namespace}
    with existing_store(args) as store:
        found = store.compare(a, b, by=args.by, **narrow, **more, **filters_of(args))
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
    if args.by in (*LABELS_BY, "world"):
        _print_labels(found)
    return 0


def _version(given: str) -> str:
    """The version of a rubric's file; another text is the beginning of a version."""
    if not given.endswith(".md") and not Path(given).is_file():
        return given
    from ..worlds.rubrics import Rubric

    return Rubric.read(given).version


def _print_labels(found: Any) -> None:
    """Who said what of whom, what changed in the rubric, and the trajectories that changed with it."""
    matrix = found.agreement.confusion if found.agreement is not None else None
    if matrix is not None and len(matrix.labels) <= 12:
        head = [f"{line(found.names[0])} \\ {line(found.names[1])}", *(_said(label) for label in matrix.labels)]
        rows = [[_said(label), *map(str, row)] for label, row in zip(matrix.labels, matrix.counts, strict=True)]
        print("\n".join(["", *table(head, rows, right=set(range(1, len(head))))]))
    if found.rubric:
        print("\n".join(["", "what changed in the rubric:", *(f"  {line(one)}" for one in found.rubric)]))
    if found.changed:
        print(f"\nwhat changed in the labels ({len(found.changed):,}):")
    for one in found.changed[:_SHOWN]:
        id, _, technique = one.trajectory.partition(" ")
        print(f"  {id[-8:]} {line(technique)}{' ' if technique else ''}{_said(one.a)} -> {_said(one.b)}")
        for name, why in zip(found.names, (one.a_why, one.b_why), strict=True):
            if why:
                print(paint(f"    {line(name)[:20]}: {line(why)[:400]}", "dim"))
    if len(found.changed) > _SHOWN:
        print(f"  and {len(found.changed) - _SHOWN:,} more (--json has all)")


def _said(label: Any) -> str:
    return number(label) if isinstance(label, float) else line(str(label)) or "-"
