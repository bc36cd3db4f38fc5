"""`odograph seal`: the journal becomes Parquet files."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from contextlib import suppress

import msgspec

from ..api import Store
from ..errors import InvalidInput
from ..store.sealing import Sealing
from .common import add_json, bytes_bar, existing_store, goes_with, print_json
from .numbers import seconds
from .terminal import paint, size

_ROUNDS = 30  # with --follow, small files are merged once in so many seals
_LOOK = 0.5  # seconds: a signal that another thread got interrupts no sleep of the main thread
HELP = "move the records of the journal into Parquet files, which are smaller, and which SQL and other tools read"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="seal again and again, until interrupted")
    parser.add_argument(
        "--every", type=seconds, default=10.0, metavar="SECONDS", help="with --follow: time between seals (default: 10)"
    )
    parser.add_argument("--compact", action="store_true", help="also merge small files")
    parser.add_argument(
        "--grace",
        type=seconds,
        default=3600.0,
        metavar="SECONDS",
        help="with --compact: delete merged files after this many seconds (default: 3600)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    goes_with(args, "--follow", "--every")
    goes_with(args, "--compact", "--grace")
    if not args.every:
        raise InvalidInput("--every is a number of seconds above 0, not 0")
    with existing_store(args) as store:
        if not args.follow:
            _round(args, store, compact=args.compact)
            return 0
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            for count in itertools.count():
                _round(args, store, compact=args.compact and count % _ROUNDS == 0)
                until = time.monotonic() + args.every
                while (left := until - time.monotonic()) > 0:
                    time.sleep(min(left, _LOOK))
    return 0


def _round(args: argparse.Namespace, store: Store, *, compact: bool) -> None:
    found = store.seal(bytes_bar())
    if found.lines or not args.follow:
        _say(args, found)
    if compact:
        store.compact(args.grace)


def _say(args: argparse.Namespace, found: Sealing) -> None:
    if args.json:
        print_json(msgspec.structs.asdict(found))
        return
    small = f"{size(found.journal_bytes)} of journal in {size(found.sealed_bytes)}"
    print(paint(f"sealed {found.lines:,} lines of {found.trajectories:,} trajectories: {small}", "green"))
    left = f"; {found.left} stay, as somebody writes them" if found.left else ""
    print(f"{found.deleted} journal files deleted{left}")
    sys.stdout.flush()
