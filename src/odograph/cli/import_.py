"""`odograph import`: sessions that other tools recorded, into the store."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import msgspec

from .. import importers
from ..api import open
from ..errors import InvalidInput, NotFound
from ..importers.places import Place, places
from ..store.opening import default_place
from .common import add_json, clashes, print_json, progress
from .terminal import line, size, table

HELP = "import sessions that other tools recorded"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files or folders (default: the sessions of the agents on this machine)"
    )
    parser.add_argument("--yes", action="store_true", help="without a PATH: import what is found, and do not ask")
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
    paths: list[Path] = [Path(path) for path in args.paths]
    clashes(args, "--format", "--importer")
    if not paths:
        found = places()
        if not found:
            raise NotFound("no sessions of an agent on this machine; name files or folders")
        if not _wanted(found, args):
            return 0
        paths = [place.path for place in found]
    bar: dict[str, object] = {}

    def step(path: Path, done: int, total: int) -> None:
        if "update" not in bar:
            bar["update"] = progress("importing", total)
        bar["update"](done)  # type: ignore[operator]

    with open(args.store, shared=args.shared) as store:
        report = store.import_sessions(
            *paths, format=args.format, importers=args.importer, progress=step, skip_empty=not args.paths
        )
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


def _wanted(found: list[Place], args: argparse.Namespace) -> bool:
    """Whether to import what was found: lists it and asks, where nobody said so. Raises InvalidInput where nobody is there to
    ask."""
    if args.yes:
        return True
    if args.json:
        print_json({"found": [{"agent": p.agent, "path": str(p.path), "files": p.files, "bytes": p.bytes} for p in found]})
        return False
    rows = [[p.agent, f"{p.files:,}", size(p.bytes), line(str(p.path))] for p in found]
    for text in table(["agent", "files", "size", "place"], rows, right=(1, 2), whole=(3,)):
        print(text)
    total = f"{sum(p.files for p in found):,} files, {size(sum(p.bytes for p in found))}"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInput(
            f"{total} found, and there is no terminal to ask on; give --yes to import these sessions, or name a PATH"
        )
    try:
        return input(f"Import {total} into {line(str(args.store or default_place()))}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
