"""What commands share: opening the store, filters, progress, JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..api import Store, open
from ..codec import encode, loads
from ..errors import InvalidInput, NotFound

_FILTERS = ("group", "agent", "model", "tag", "status", "min_reward", "max_reward", "task_id", "text", "limit")


def existing_store(args: argparse.Namespace) -> Store:
    """The store that a reading command means. Raises NotFound where there is none: reading makes none."""
    where = args.store or os.environ.get("ODOGRAPH_STORE") or "odograph"
    if not Path(where).is_dir():
        hint = "" if args.store else "; name one with --store or $ODOGRAPH_STORE"
        raise NotFound(f"no store at {where!r}{hint}")
    return open(where)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def add_filters(parser: argparse.ArgumentParser, *, model: bool = True) -> None:
    """The filters of `store.trajectories` as flags; without `--model` where a command means another model by it."""
    group = parser.add_argument_group("filters (all must hold)")
    group.add_argument("--group", help="of this group")
    group.add_argument("--agent", help="of this agent")
    if model:
        group.add_argument("--model", help="of this model")
    group.add_argument("--tag", action="append", help="with this tag; may be repeated")
    group.add_argument("--status", action="append", help="with this status; may be repeated")
    group.add_argument("--min-reward", type=float, metavar="X", help="with a reward of at least X")
    group.add_argument("--max-reward", type=float, metavar="X", help="with a reward of at most X")
    group.add_argument("--since", metavar="TIME", help="started at or after an ISO time, or within a length such as 7d")
    group.add_argument("--until", metavar="TIME", help="started before an ISO time")
    group.add_argument("--text", metavar="WORDS", help="in which all the words occur")
    group.add_argument("--where", action="append", default=[], metavar="FILTER=VALUE", help="any of these filters, for scripts")
    group.add_argument("-n", "--limit", type=int, metavar="N", help="the first N only")


def filters_of(args: argparse.Namespace) -> dict[str, Any]:
    """The filters that were given."""
    found = {name: value for name in _FILTERS if (value := getattr(args, name, None)) is not None}
    for given in args.where:
        name, _, value = given.partition("=")
        name = name.strip().replace("-", "_")
        if name not in (*_FILTERS, "time_range"):
            raise InvalidInput(f"no filter {name!r}; there are: {', '.join((*_FILTERS, 'time_range'))}")
        try:
            found[name] = int(value) if name == "limit" else float(value) if name.endswith("_reward") else value
        except ValueError:
            raise InvalidInput(f"{name} is a number, not {value!r}") from None
    since, until = args.since, args.until
    if since is not None and since[:1].isdigit() and since[-1:].isalpha() and "T" not in since and "-" not in since:
        if until is not None:
            raise InvalidInput("--since with a length of time and --until don't go together; give both as ISO times")
        found["time_range"] = since
    elif since is not None or until is not None:
        found["time_range"] = (since, until)
    return found


def named_values(flag: str, given: list[str]) -> dict[str, Any]:
    """What was given as NAME=VALUE: values are JSON, or text without quotes. Raises InvalidInput."""
    found: dict[str, Any] = {}
    for one in given:
        name, mark, value = one.partition("=")
        if not mark:
            raise InvalidInput(f"{flag} is written NAME=VALUE; found {one!r}")
        try:
            found[name.strip()] = loads(value)
        except InvalidInput:
            found[name.strip()] = value
    return found


def print_json(value: Any) -> None:
    """One JSON value and a newline, on stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(encode(value) + b"\n")


def progress(what: str, total: int | None = None) -> Callable[[int], None]:
    """A function to call with the number done so far: a bar on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        return lambda done: None
    from tqdm import tqdm

    bar = tqdm(total=total, desc=what, file=sys.stderr, leave=False, dynamic_ncols=True)

    def update(done: int) -> None:
        bar.update(done - bar.n)
        if total is not None and done >= total:
            bar.close()

    return update
