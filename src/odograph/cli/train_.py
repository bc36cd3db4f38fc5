"""`odograph train`: which groups would train, and why not the others. It trains nothing itself."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from .common import add_filters, add_json, existing_store, filters_of, print_json
from .export_ import add_samples, options_of
from .terminal import line, number, table

HELP = "show which groups would train, and why the other groups would not (--dry-run)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show the groups; train and write nothing")
    parser.add_argument("--to", default="art", metavar="NAME", help="format of the trainer (default: art)")
    add_samples(parser)
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="another option of the format; may be repeated"
    )
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if not args.dry_run:
        print(
            "odograph: train trains nothing: --dry-run shows what would train, `odograph export --to art -o OUT` writes it,"
            " and examples/art_train and examples/grpo_cpu train with ART and TRL",
            file=sys.stderr,
        )
        return 2
    with existing_store(args) as store:
        plans = list(store.dry_run(args.to, options=options_of(args), **filters_of(args)))
    trains = [p for p in plans if p.trains]
    if args.json:
        print_json(
            {
                "to": args.to,
                "groups": len(plans),
                "trains": len(trains),
                "trajectories": sum(1 for p in trains for m in p.members if m.tokens),
                "tokens": sum(p.tokens for p in trains),
                "why_not": dict(Counter(p.why for p in plans if p.why).most_common()),
                "plans": [p.to_dict() for p in plans],
            }
        )
        return 0
    rows = []
    for p in plans:
        left = Counter(m.why for m in p.members if m.why is not None)
        why = p.why or ", ".join(f"without {count} x {reason}" for reason, count in left.most_common())
        name = line(p.group) if p.group is not None else f"({p.members[0].trajectory[-8:]})"
        ready = sum(1 for m in p.members if m.tokens)
        figures = (number(len(p.members)), number(ready), number(p.reward_mean), number(p.reward_std), number(p.tokens))
        rows.append([name, "yes" if p.trains else "no", *figures, line(why)])
    if rows:
        head = ["group", "trains", "traj.", "ready", "reward", "std", "tokens", "why"]
        print("\n".join(table(head, rows, right={2, 3, 4, 5, 6})))
    tokens = sum(p.tokens for p in trains)
    print(f"{len(trains):,} of {len(plans):,} groups would train with {args.to}: {tokens:,} tokens")
    return 0
