"""`odograph publish`: the sealed tier of a folder goes to tables that machines share."""

from __future__ import annotations

import argparse

import msgspec

from .common import add_json, bytes_bar, existing_store, print_json
from .terminal import paint, safe, size

HELP = "seal a folder's store, and copy the sealed records to tables that machines share (Apache Iceberg)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="URL", help="object storage, such as s3://bucket/runs")
    parser.add_argument(
        "--catalog",
        metavar="CATALOG",
        help="postgresql://host/database, a REST catalog's URL, or a name in pyiceberg's settings (default: $ODOGRAPH_CATALOG)",
    )
    parser.add_argument("--namespace", metavar="NAME", help="namespace of the tables (default: the last part of the URL)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        found = store.publish(args.where, catalog=args.catalog, namespace=args.namespace, progress=bytes_bar())
    if args.json:
        print_json(msgspec.structs.asdict(found))
        return 0
    before = f"; {found.before:,} were there" if found.before else ""
    print(paint(f"published {found.files:,} files of {found.commits:,} commits, {size(found.bytes)}{before}", "green"))
    if found.merged:
        print(f"{found.merged:,} trajectories were copied record by record, as other machines had sealed more of their records")
    if found.worlds:
        print(f"{found.worlds:,} {'worlds' if found.worlds > 1 else 'world'} with all ticks")
    for name, why in found.left.items():
        print(paint(safe(f"left world {name!r}: {why}"), "yellow"))
    return 0
