"""`odograph judge`: scores of trajectories by models that judge."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from ..errors import InvalidInput
from ..judge import Budget, Judge, Judgements, ruler
from .common import add_filters, add_json, existing_store, filters_of, named_values, print_json, progress
from .terminal import line, table

HELP = "let models score the trajectories of a group against each other (RULER), or each by a rubric; adds rewards"
_MOST = 1000  # of what is done at once, or again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", dest="judges", action="append", required=True, metavar="M", help="the judging model; may be repeated"
    )
    parser.add_argument("--base-url", metavar="U", help="the endpoint (default: $OPENAI_BASE_URL); $OPENAI_API_KEY is the key")
    parser.add_argument(
        "--dialect",
        default="openai.chat",
        metavar="D",
        help="API of the endpoint: a dialect's name or a file.py (default: openai.chat)",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of each request, such as temperature=0; may be repeated",
    )
    parser.add_argument(
        "--rubric", metavar="FILE", help="file with the rubric: a text, or with --absolute criteria (.json, .toml)"
    )
    parser.add_argument("--absolute", action="store_true", help="score each trajectory by itself, not against its group")
    parser.add_argument("--name", metavar="NAME", help="name of the reward (default: ruler; with --absolute: rubric)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="how often each judge is asked (default: 1)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the order in which trajectories are shown (default: 0)"
    )
    parser.add_argument("--context", type=int, metavar="N", help="longest prompt, in tokens; longer groups are judged in parts")
    parser.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="requests at the same time, per judge (default: 8)"
    )
    parser.add_argument("--budget-calls", type=int, metavar="N", help="send at most N requests")
    parser.add_argument("--budget-tokens", type=int, metavar="N", help="spend at most N tokens")
    parser.add_argument("--budget-cost", type=float, metavar="X", help="spend at most X; needs --prices")
    parser.add_argument("--prices", metavar="IN,OUT", help="prices per million tokens of prompts and of answers")
    parser.add_argument("--dry-run", action="store_true", help="ask nothing; print the expected cost")
    add_filters(parser, without=("model",))
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.name == "":
        raise InvalidInput("--name is the name of a reward; found an empty one")
    for flag, count in (("--repeats", args.repeats), ("--concurrency", args.concurrency)):
        if not 1 <= count <= _MOST:
            raise InvalidInput(f"{flag} is a whole number from 1 to {_MOST:,}, not {count}")
    if args.base_url is not None and not args.base_url.startswith(("http://", "https://")):
        raise InvalidInput(f"--base-url begins with http:// or https://; found {args.base_url!r}")
    rubric = None if args.rubric is None else Path(args.rubric)
    budget = Budget(calls=args.budget_calls, tokens=args.budget_tokens, cost=args.budget_cost)
    judges = [
        Judge(
            model,
            args.base_url,
            dialect=args.dialect,
            params=named_values("--param", args.param),
            max_concurrency=args.concurrency,
            context=args.context,
            budget=budget,
            prices=_prices(args.prices),
        )
        for model in args.judges
    ]
    with existing_store(args) as store:
        filters = filters_of(args)
        bar = progress("judging", store.count(**filters))
        asking = ruler(
            store,
            judge=judges,
            rubric=rubric,
            absolute=args.absolute,
            name=args.name,
            repeats=args.repeats,
            seed=args.seed,
            dry_run=args.dry_run,
            progress=lambda done, total: bar(done),
            **filters,
        )
        result = asyncio.run(asking)
    if args.json:
        print_json(result.to_dict())
    else:
        _print(result)
    return 1 if result.failed else 0


def _prices(given: str | None) -> tuple[float, float] | None:
    if given is None:
        return None
    try:
        read, wrote = map(float, given.split(","))
    except ValueError:
        raise InvalidInput(f"--prices is written IN,OUT, such as 2.5,10; found {given!r}") from None
    return read, wrote


def _print(result: Judgements) -> None:
    rows = [
        [line(one.group or ""), one.trajectory[-8:], line(one.judge), f"{one.score:.3f}", line(one.explanation)]
        for one in result.judgements
    ]
    if rows:
        print("\n".join(table(["group", "trajectory", "judge", "score", "why"], rows, right={3})))
    for failure in result.failed:
        what = f"group {failure['group']}" if failure["group"] is not None else failure["trajectories"][0][-8:]
        print(f"not judged: {line(what)} by {line(failure['judge'])}, {failure['status']}: {line(failure['error'] or '')}")
    for why, count in result.skipped.items():
        print(f"left out: {count:,} x {why}")
    alpha, spread = result.agreement["krippendorff_alpha"], result.agreement["mean_absolute_deviation"]
    if spread is not None:
        stated = "not defined" if alpha is None else f"{alpha:.3f}"
        print(f"agreement: Krippendorff's alpha {stated}, mean absolute deviation {spread:.3f}")
    if result.estimate is not None:
        about = result.estimate
        cost = f", cost {about['cost']:.4f}" if about["cost"] else ""
        print(f"would ask {about['calls']:,.0f} requests, about {about['tokens']:,.0f} tokens{cost}; nothing was asked")
        return
    new = sum(not one.known for one in result.judgements)
    spent = result.spent
    cost = f", cost {spent['cost']:.4f}" if spent["cost"] else ""
    print(
        f"{len(result.judgements):,} scores, {new:,} new; {spent['calls']:,.0f} requests, "
        f"{result.cached:,} answers from the journal, {spent['tokens']:,.0f} tokens{cost}"
    )
