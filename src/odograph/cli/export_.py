"""`odograph export`: trajectories in the format of a trainer or another tool."""

from __future__ import annotations

import argparse

from ..errors import InvalidInput
from ..training import formats
from .common import add_filters, add_json, existing_store, filters_of, print_json, progress
from .terminal import line, size

HELP = "write trajectories to a folder in another format, with a manifest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, metavar="NAME", help=f"the format: {', '.join(formats.NAMES)}")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="the folder; it is made")
    parser.add_argument("--format", metavar="KIND", help="the kind of file, where the format has several (parquet, jsonl)")
    parser.add_argument("--split", metavar="SHARES", help="splits by group, such as train=0.9,test=0.1")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the splits (0)")
    parser.add_argument("--no-metadata", action="store_true", help="hf: without the metadata column")
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    splits = _splits(args.split)
    formats.find(args.to)
    options = {"include_metadata": False} if args.no_metadata else {}
    with existing_store(args) as store:
        filters = filters_of(args)
        update = progress("exporting", sum(1 for _ in store.summaries(**filters)))
        manifest = store.export(
            args.out, args.to, format=args.format, splits=splits, seed=args.seed, options=options, progress=update, **filters
        )
    if args.json:
        print_json(manifest)
        return 0
    made = manifest["trajectories"]
    print(f"{manifest['rows']:,} rows from {made['out']:,} of {made['in']:,} trajectories in {args.out}")
    for name, rows in manifest["rows_by_split"].items():
        print(f"  {name}: {rows:,} rows")
    for reason, count in manifest["left_out"].items():
        print(f"  left out: {count:,} x {line(reason)}")
    print(f"  {len(manifest['files'])} files, {size(sum(f['bytes'] for f in manifest['files']))}")
    return 0


def _splits(given: str | None) -> dict[str, float] | None:
    if given is None:
        return None
    shares: dict[str, float] = {}
    for part in given.split(","):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise InvalidInput(f"--split is written train=0.9,test=0.1; found {part!r}") from None
    return shares
