"""`odograph score`: appends the rewards that a function gives to the trajectories that have none by this version of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from ..errors import InvalidInput
from ..rewards import NAMES, as_reward_function
from ..rewards.scoring import ScoreReport
from .common import add_filters, add_json, existing_store, filters_of, named_values, print_json
from .terminal import line, table

HELP = "score trajectories by a reward function; exit status 1 if the function failed on a trajectory"
_SHOWN = 10
_MOST_AT_ONCE = 1024  # threads or processes; more only take memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", metavar="FUNCTION", help=f"file.py:function, package:function, or one of: {', '.join(NAMES)}")
    parser.add_argument("ids", nargs="*", default=[], metavar="ID", help="score only these trajectories")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the function; may be repeated"
    )
    parser.add_argument("--name", help="name of the reward (default: the function's name)")
    parser.add_argument("--version", help="version of the function (default: as declared, else a hash of the source)")
    parser.add_argument("--again", action="store_true", help="also score trajectories that have a reward by this version")
    parser.add_argument("--processes", type=int, metavar="N", help="number of processes (default: one per processor; async: 1)")
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="number of tasks (default: 16) or threads (default: 1) per process"
    )
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with contextlib.redirect_stdout(sys.stderr):  # what the function prints
        report = _score(args)
    if args.json:
        print_json(report.to_dict())
    else:
        _print(report)
    return 0 if report.ok else 1


def _score(args: argparse.Namespace) -> ScoreReport:
    function = as_reward_function(args.function).using(name=args.name, version=args.version, **_parameters(args.set))
    with existing_store(args) as store:
        filters = filters_of(args)
        for flag, count in (("--processes", args.processes), ("--concurrency", args.concurrency)):
            if count is not None and not 1 <= count <= _MOST_AT_ONCE:
                raise InvalidInput(f"{flag} is a whole number from 1 to {_MOST_AT_ONCE:,}, not {count}")
        processes = args.processes
        if processes is None:  # an async function waits: processes would only multiply its --concurrency
            processes = 1 if function.is_async else os.cpu_count() or 1
        return store.score(function, again=args.again, processes=processes, concurrency=args.concurrency, **filters)


def _print(report: ScoreReport) -> None:
    keys = ("trajectories", "scored", "unchanged", "waiting", "running", "failed")
    counts = [report.trajectories, report.scored, report.unchanged, report.waiting, report.running, len(report.failed)]
    row = [line(report.function), line(report.version), *(f"{n:,}" for n in counts), f"{report.records:,}"]
    print("\n".join(table(["function", "version", *keys, "rewards"], [row], right=set(range(2, 9)))))
    if report.superseded:
        print(f"{report.superseded:,} earlier rewards by this function are superseded")
    for failed in report.failed[:_SHOWN]:
        print(f"  failed: {failed['trajectory'][-8:]} {line(failed['error'])}")
    if len(report.failed) > _SHOWN:
        print(f"  and {len(report.failed) - _SHOWN:,} more; --json names them all")


def _parameters(given: list[str]) -> dict[str, Any]:
    found = named_values("--set", given)
    for name in found:
        if not name.isidentifier() or name in ("name", "version", "weight", "range"):
            raise InvalidInput(
                f"--set is written NAME=VALUE, with a parameter of the function; may be repeated; found the name {name!r}"
            )
    return found
