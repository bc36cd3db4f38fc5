"""`odograph label`: labels of trajectories by a rubric file, from a judging model or from people."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, NotFound
from .asking import JUDGE_FLAGS, add_judge_flags, amount, judge_settings
from .common import add_filters, add_json, clashes, existing_store, filter_names, filters_of, goes_with, print_json
from .terminal import line, number, table

HELP = "label trajectories by a rubric file: a judging model labels a sample, or people do (--human)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rubric", metavar="RUBRIC", help="the rubric: a Markdown file with a header")
    parser.add_argument("--sample", type=int, metavar="N", help="label only N of the trajectories that the filters choose")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the sample")
    parser.add_argument("--dry-run", action="store_true", help="ask nothing and write nothing; print the expected cost")
    parser.add_argument("--rewards", action="store_true", help="add the scores as rewards, too, under the technique's name")
    parser.add_argument("--human", action="store_true", help="label by hand, in the terminal")
    parser.add_argument("--annotator", metavar="NAME", help="who labels by hand (default: the user's name)")
    parser.add_argument("--from-csv", metavar="FILE", help="take labels that people gave elsewhere from a CSV file")
    parser.add_argument("--to-csv", metavar="FILE", help="write the technique's labels to a CSV file (-: to stdout)")
    parser.add_argument("--batch", action="store_true", help="ask through the provider's batch endpoint: cheaper, within a day")
    parser.add_argument(
        "--batch-poll", type=float, default=30.0, metavar="S", help="seconds between looks at a batch (default: 30)"
    )
    add_judge_flags(parser, concurrency=64)
    add_filters(parser, without=("model",))
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from ..worlds.rubrics import Rubric

    asking = ("--dry-run", "--rewards", "--batch", "--batch-poll", *JUDGE_FLAGS)
    clashes(args, "--human", "--from-csv", "--to-csv", "--json", *asking)
    clashes(args, "--to-csv", "--from-csv", "--json", "--sample", "--seed", *asking)
    clashes(args, "--from-csv", "--sample", "--seed", *filter_names(), *asking)
    goes_with(args, "--batch", "--batch-poll")
    if args.from_csv is None:
        goes_with(args, "--human", "--annotator")
    if args.sample is not None and args.sample < 1:
        raise InvalidInput(f"--sample is a whole number from 1, not {args.sample}")
    rubric = Rubric.read(args.rubric)
    args.where = [*rubric.where, *args.where]
    with existing_store(args) as store:
        filters: dict[str, Any] = {**filters_of(args)}
        if args.human:
            from .queue import label_by_hand

            return label_by_hand(store, rubric, _annotator(args), sample=args.sample, seed=args.seed, **filters)
        if args.from_csv is not None:
            return _from_csv(store, rubric, args)
        if args.to_csv is not None:
            return _to_csv(store, rubric, args.to_csv, filters)
        return _by_judge(store, rubric, args, filters)


def _annotator(args: argparse.Namespace) -> str:
    name = args.annotator or os.environ.get("ODOGRAPH_ANNOTATOR")
    if name:
        return str(name)
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise InvalidInput("nobody is named who labels; give --annotator NAME") from None


def _from_csv(store: Any, rubric: Any, args: argparse.Namespace) -> int:
    from ..worlds.people import from_csv

    try:
        text = sys.stdin.read() if args.from_csv == "-" else Path(args.from_csv).expanduser().read_bytes().decode()
    except OSError as error:
        raise NotFound(f"the file {args.from_csv!r} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"the file {args.from_csv!r} is no text in UTF-8") from None
    found = from_csv(store, rubric, text, args.annotator)
    if args.json:
        print_json({"labels": found.labels, "unchanged": found.unchanged, "skipped": found.skipped})
    else:
        print(f"{found.labels:,} labels, {found.unchanged:,} known before, {found.skipped:,} rows of other kinds left out")
    return 0


def _to_csv(store: Any, rubric: Any, out: str, filters: dict[str, Any]) -> int:
    from ..worlds.people import to_csv

    text = to_csv(store, rubric, **filters)
    if out == "-":
        sys.stdout.write(text)
    else:
        Path(out).expanduser().write_text(text, newline="")
    return 0


def _by_judge(store: Any, rubric: Any, args: argparse.Namespace, filters: dict[str, Any]) -> int:
    from ..worlds.scanning import scan

    settings = judge_settings(args) | {"batch": args.batch, "batch_poll": args.batch_poll}
    if not 0 < args.batch_poll < 3600:
        raise InvalidInput(f"--batch-poll is a number of seconds up to an hour, not {args.batch_poll}")
    if "params" in settings:
        settings["params"] = {**rubric.settings.get("params", {}), **settings["params"]}

    def say(cost: dict[str, float]) -> None:
        print(f"{cost['rows']:,.0f} labels to ask for: at most {amount(cost)}", file=sys.stderr)

    found = scan(
        store,
        rubric,
        sample=args.sample,
        seed=args.seed,
        models=args.judges,
        config=rubric.config(**settings),
        dry_run=args.dry_run,
        rewards=args.rewards,
        on_estimate=say,
        **filters,
    )
    if args.json:
        print_json(found.to_dict())
    elif args.dry_run:
        print(
            f"{found.technique}, version {found.version[:8]}: {found.trajectories:,} trajectories, "
            f"{found.estimate['rows']:,.0f} labels to ask for: at most {amount(found.estimate)}; nothing was asked"
        )
    else:
        _print(found)
    return 1 if found.failed else 0


def _print(found: Any) -> None:
    whole = sum(found.statuses.values())
    print(f"{line(found.technique)}, version {found.version[:8]}, {found.trajectories:,} trajectories")
    if found.values:
        rows = [[line(value) or "-", f"{n:,}", f"{n / whole:.0%}"] for value, n in list(found.values.items())[:20]]
        print("\n".join(table(["value", "n", "share"], rows, right={1, 2})))
    if found.score is not None:
        print(f"mean score {number(found.score)}")
    for one in found.failed:
        print(f"not labelled: {one['trajectory'][-8:]}, {one['status']}: {line(one['error'] or '')}")
    others = ", ".join(f"{status} {n:,}" for status, n in found.statuses.items() if status != "ok")
    if others:
        print(f"of {whole:,} labels: {others}")
    if found.evidence_dropped:
        print(f"{found.evidence_dropped:,} quotes were dropped: the session does not contain them")
    if found.stale:
        print(f"{found.stale:,} labels are stale: earlier versions of the rubric gave them")
    print(
        f"{amount(found.spent)}; {found.from_journal:,} answers from the journal; {found.written.labels:,} label records written"
    )
