"""`odograph import`: sessions that other tools recorded, into the store."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import msgspec

from .. import importers
from ..api import open
from .common import add_json, print_json, progress
from .terminal import line

HELP = "import sessions that other tools recorded"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders")
    parser.add_argument(
        "--format",
        default="auto",
        metavar="NAME",
        help=f"the format (default: recognised by content): {', '.join(importers.NAMES)}",
    )
    parser.add_argument(
        "--importer",
        action="append",
        default=[],
        metavar="FILE",
        help="ask this importer first (a file.py or package:object); may be repeated",
    )
    parser.add_argument(
        "--shared", action="store_true", help="make a new store readable by others, as the umask says (default: only by you)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    bar: dict[str, object] = {}

    def step(path: Path, done: int, total: int) -> None:
        if "update" not in bar:
            bar["update"] = progress("importing", total)
        bar["update"](done)  # type: ignore[operator]

    with open(args.store, shared=args.shared) as store:
        report = store.import_sessions(*args.paths, format=args.format, importers=args.importer, progress=step)
    if args.json:
        print_json(msgspec.to_builtins(report))
    else:
        for name, count in Counter(t["format"] for t in report.trajectories).most_common():
            print(f"{count:6,} {name}")
        counts = f"{report.imported:,} imported, {report.skipped:,} there already, {len(report.failed):,} files failed"
        print(f"{counts}, {len(report.unrecognised):,} files of no known format")
        for failed in report.failed:
            print(f"failed: {line(failed['path'])}: {line(failed['error'])}", file=sys.stderr)
        for path in report.unrecognised:
            print(f"skipped: {line(path)}: no session of a known format", file=sys.stderr)
        for warning in report.warnings:
            what = "; ".join(f"{count} x {reason}" for reason, count in warning.items() if reason not in ("path", "trajectory"))
            print(f"warning: {line(str(warning['path']))}: {line(what)}", file=sys.stderr)
    return 1 if report.failed else 0
