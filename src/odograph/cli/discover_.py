"""`odograph discover`: behaviours that nobody asked for, found by a judging model, and a rubric that labels them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from .asking import add_judge_flags, amount, judge_settings
from .common import add_filters, add_json, existing_store, filters_of, print_json, progress
from .terminal import line, table

HELP = "let a model find behaviours in a sample of the trajectories, group them, and propose a rubric for `label`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--question", default="", type=str, metavar="TEXT", help="kind of behaviour to look for (default: any)")
    parser.add_argument("--sample", type=int, default=100, metavar="N", help="look at N trajectories (default: 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sample (default: 0)")
    parser.add_argument("--most", type=int, default=10, metavar="N", help="propose at most N behaviours (default: 10)")
    parser.add_argument("-o", "--out", metavar="FILE", help="write the proposed rubric into this file")
    parser.add_argument("--dry-run", action="store_true", help="ask nothing; print the expected cost of looking")
    add_judge_flags(parser, concurrency=16)
    add_filters(parser, without=("model",))
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ..worlds.discovering import discover
    from ..worlds.settings import LabelingConfig

    for flag, count, limit in (("--sample", args.sample, 1_000_000), ("--most", args.most, 100)):
        if not 1 <= count <= limit:
            raise InvalidInput(f"{flag} is a whole number from 1 to {limit:,}, not {count}")
    if len(args.judges) > 1:
        raise InvalidInput(f"one model looks and groups; found {len(args.judges)} --model")
    settings: dict[str, Any] = judge_settings(args) | {"max_output_tokens": 2000, "max_asks": 2}
    if args.judges:
        settings["model"] = args.judges[0]
    if args.out is not None and Path(args.out).exists():
        raise InvalidInput(f"the file {args.out!r} exists; name another one with --out")

    def say(cost: dict[str, float]) -> None:
        print(f"looking: at most {amount(cost)}; grouping comes to some requests more", file=sys.stderr)

    with existing_store(args) as store:
        found = discover(
            store,
            question=args.question,
            sample=args.sample,
            seed=args.seed,
            most=args.most,
            config=LabelingConfig(**settings),
            dry_run=args.dry_run,
            on_estimate=say,
            progress=progress("looking", args.sample),
            **filters_of(args),
        )
    if args.out is not None and found.rubric:
        Path(args.out).write_text(found.rubric)
    if args.json:
        print_json(found.to_dict())
    elif args.dry_run:
        print(f"would look at {found.sessions:,} sessions: at most {amount(found.estimate)}; nothing was asked")
    else:
        _print(found, args.out)
    return 1 if found.failed else 0


def _print(found: Any, out: str | None) -> None:
    rows = [[line(b.name), f"{b.sessions:,}", line(b.description)] for b in found.behaviours]
    if rows:
        print("\n".join(table(["behaviour", "sessions", "what"], rows, right={1})))
    for b in found.behaviours:
        print(f"\n{line(b.name)}")
        for one in b.examples:
            print(f'  {one.trajectory[-8:]}, turn {one.turn}: "{line(one.quote)[:200]}"')
    for one in found.failed[:20]:
        print(f"failed: {line(one['what'])}, {one['status']}: {line(one['error'] or '')}")
    print(
        f"\n{found.sessions:,} sessions, {found.observations:,} observations, {found.dropped:,} dropped (no such quote),"
        f" {found.ungrouped:,} in no group; {amount(found.spent)}"
    )
    if found.rubric and out:
        print(f"the rubric is in {line(out)}; `odograph label {line(out)}` labels by it")
    elif found.rubric:
        print("-o FILE writes a rubric that labels by these behaviours")
