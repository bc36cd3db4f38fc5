"""`odograph sql`: a query over the whole store."""

from __future__ import annotations

import argparse
import csv
import sys
from itertools import islice
from typing import Any

from ..codec import encode
from ..errors import InvalidInput
from .common import add_json, existing_store, named_values, print_json
from .terminal import line, number, paint, table

HELP = "run a SELECT over the tables trajectories, facts, records and messages (DuckDB's SQL)"
_MOST = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", metavar="SELECT", help='the query, such as "select model, sum(cost) from facts group by 1"')
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="the value of $NAME in the query (may be repeated)"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop a query that takes longer")
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--csv", action="store_true", help="print CSV, with a line of names first")


def run(args: argparse.Namespace) -> int:
    if not args.query.strip():
        raise InvalidInput('a query was expected, such as "select status, count(*) from trajectories group by 1"')
    with existing_store(args) as store:
        found = store.sql(args.query, named_values("--param", args.param) or None, timeout=args.timeout)
        if args.json:
            for row in found:
                print_json(_plain(row))
            return 0
        if args.csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(found.columns)
            writer.writerows([_csv(value) for value in row] for row in found.tuples())
            return 0
        rows = list(islice(found.tuples(), _MOST + 1))
        right = {n for n in range(len(found.columns)) if all(isinstance(r[n], int | float | None) for r in rows)}
        shown = [[_cell(value) for value in row] for row in rows[:_MOST]]
        print("\n".join(table([line(name) for name in found.columns], shown, right=right)))
        more = f"the first {_MOST:,} rows; --json and --csv print all" if len(rows) > _MOST else f"{len(rows):,} rows"
        print(paint(more, "dim"))
    return 0


def _plain(value: Any) -> Any:
    """A value as JSON says it; a time, a number of fixed places and the like as their text."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _csv(value: Any) -> Any:
    return encode(_plain(value)).decode() if isinstance(value, list | tuple | dict) else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return line(str(_csv(value)))
