"""The flags of commands that ask a judging model: which model and endpoint, and what it may cost."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InvalidInput
from .common import named_values

_MOST = 1000  # of what is done at once, or again


#: The flags of `add_judge_flags`, which nobody needs where no model is asked.
JUDGE_FLAGS = ("--model", "--base-url", "--dialect", "--param", "--context", "--concurrency", "--max-retries", "--budget-calls",
               "--budget-tokens", "--budget-cost", "--prices")  # fmt: skip


def add_judge_flags(parser: argparse.ArgumentParser, *, concurrency: int) -> None:
    """`--model`, the endpoint, the bounds and the budget."""
    group = parser.add_argument_group("judge")
    group.add_argument("--model", dest="judges", action="append", default=[], metavar="M", help="judging model; may be repeated")
    group.add_argument("--base-url", metavar="U", help="the endpoint (default: $OPENAI_BASE_URL); $OPENAI_API_KEY is the key")
    group.add_argument("--dialect", metavar="D", help="API of the endpoint: a dialect's name or a file.py (default: openai.chat)")
    group.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="parameter of each request; may be repeated"
    )
    group.add_argument("--context", type=int, metavar="N", help="the judge's context, in tokens")
    group.add_argument(
        "--concurrency", type=int, default=concurrency, metavar="N", help=f"requests at the same time (default: {concurrency})"
    )
    group.add_argument("--max-retries", type=int, default=4, metavar="N", help="retries of a failed request (default: 4)")
    group.add_argument("--budget-calls", type=int, metavar="N", help="send at most N requests")
    group.add_argument("--budget-tokens", type=int, metavar="N", help="spend at most N tokens")
    group.add_argument("--budget-cost", type=float, metavar="X", help="spend at most X; needs prices")
    group.add_argument("--prices", metavar="IN,OUT", help="prices per million tokens of prompts and of answers")


def judge_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as settings of `LabelingConfig`; what was not given is left out."""
    from ..asking.budget import Budget

    if not 1 <= args.concurrency <= _MOST:
        raise InvalidInput(f"--concurrency is a whole number from 1 to {_MOST:,}, not {args.concurrency}")
    if args.base_url is not None and not args.base_url.startswith(("http://", "https://")):
        raise InvalidInput(f"--base-url begins with http:// or https://; found {args.base_url!r}")
    found: dict[str, Any] = {"max_concurrency": args.concurrency, "max_retries": args.max_retries}
    found["budget"] = Budget(calls=args.budget_calls, tokens=args.budget_tokens, cost=args.budget_cost)
    params = named_values("--param", args.param)
    given = {"base_url": args.base_url, "dialect": args.dialect, "context": args.context, "prices": prices(args.prices)}
    found |= {name: value for name, value in given.items() if value is not None}
    return found | ({"params": params} if params else {})


def prices(given: str | None) -> tuple[float, float] | None:
    """The two prices of `--prices`."""
    if given is None:
        return None
    try:
        read, wrote = map(float, given.split(","))
    except ValueError:
        raise InvalidInput(f"--prices is written IN,OUT, such as 2.5,10; found {given!r}") from None
    return read, wrote


def amount(about: dict[str, float]) -> str:
    """Requests, tokens and cost in words."""
    cost = f", cost {about['cost']:.4f}" if about["cost"] else ""
    return f"{about['calls']:,.0f} requests, {about['tokens']:,.0f} tokens{cost}"
