"""`odograph export`: trajectories in the format of a trainer or another tool."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from ..errors import InvalidInput
from ..groups import BY
from ..training import formats
from ..training.plan import described
from .common import add_filters, add_json, existing_store, filters_of, goes_with, named_values, print_json, progress
from .terminal import line, size

HELP = "write trajectories to a folder in another format, with a manifest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, metavar="NAME", help=f"the format: {', '.join(formats.NAMES)}")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="output folder (created if missing)")
    parser.add_argument("--format", metavar="KIND", help="kind of file, if the format has several (parquet, jsonl)")
    parser.add_argument("--split", metavar="SHARES", help="assign splits by group, such as train=0.9,test=0.1")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed for assigning splits (default: 0)")
    group = parser.add_argument_group("groups (else the recorded ones)")
    group.add_argument(
        "--group-by", choices=BY, help="what the trajectories of a group have in common (default: the recorded group)"
    )
    group.add_argument("--window", metavar="TIME", help="also split groups by start time into windows of this length, such as 1d")
    group.add_argument(
        "--min-group", type=int, metavar="N", help="leave out smaller groups (default with --group-by or --window: 2)"
    )
    add_samples(parser)
    parser.add_argument(
        "--max-shard-size", type=int, metavar="BYTES", help="largest Parquet file, before compression (default: 512 MB)"
    )
    parser.add_argument("--max-shard-rows", type=int, metavar="N", help="most rows in one Parquet file")
    group = parser.add_argument_group("Hugging Face Hub (extra hub; the token is $HF_TOKEN, or that of `hf auth login`)")
    group.add_argument("--upload", metavar="REPO", help="upload the export to this dataset repository, such as org/name")
    group.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    group.add_argument("--revision", metavar="BRANCH", help="branch to upload to, created if missing (default: main)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="another option of the format; may be repeated"
    )
    parser.add_argument("--redact", action="store_true", help="remove secrets before anything is written")
    parser.add_argument("--no-metadata", action="store_true", help="hf: leave out the metadata column")
    add_filters(parser)
    add_json(parser)


def add_samples(parser: argparse.ArgumentParser) -> None:
    """How samples are built, as flags."""
    group = parser.add_argument_group("samples (formats of tokens)")
    for one in described():
        about: dict[str, Any] = {"dest": f"option_{one.name}", "help": one.text.replace("%", "%%")}
        if one.kind is bool:
            group.add_argument(one.flag, action="store_const", const=True, **about)
        else:
            group.add_argument(one.flag, type=one.kind, choices=one.choices, metavar=one.metavar, **about)


def run(args: argparse.Namespace) -> int:
    splits = _splits(args.split)
    formats.find(args.to)
    options = options_of(args)
    goes_with(args, "--upload", "--public", "--revision")
    goes_with(args, "--split", "--seed")
    with existing_store(args) as store:
        filters = filters_of(args)
        update = progress("exporting", store.count(**filters))
        groups = None
        if args.group_by is not None or args.window is not None or args.min_group is not None:
            least = 2 if args.min_group is None else args.min_group
            groups = store.groups(args.group_by or "group", window=args.window, min_size=least, **filters)
            filters = {}
        more: dict[str, Any] = {
            "format": args.format,
            "splits": splits,
            "seed": args.seed,
            "options": options,
            "redact": args.redact or None,
            **filters,
        }
        more |= {"max_shard_size": args.max_shard_size, "max_shard_rows": args.max_shard_rows}
        manifest = store.export(args.out, args.to, groups=groups, progress=update, **more)
    url = _uploaded(args) if args.upload is not None else None
    if args.json:
        print_json({**manifest, "url": url} if url else manifest)
        return 0
    made = manifest["trajectories"]
    print(f"{manifest['rows']:,} rows from {made['out']:,} of {made['in']:,} trajectories in {args.out}")
    for name, rows in manifest["rows_by_split"].items():
        print(f"  {name}: {rows:,} rows")
    account = manifest.get("samples")
    if account is not None:
        gone = {**account["context"], **account["dropped"]}
        what = "".join(f", {count:,} {line(reason)}" for reason, count in gone.items())
        print(f"  {account['trained']:,} of {account['sampled']:,} sampled tokens are trained{what}")
        unused = account["edits_unused"]
        for edit, why in list(unused.items())[:1]:
            print(f"  edits that changed nothing: {len(unused):,} (all are in the manifest), such as {edit[-8:]}: {line(why)}")
    if manifest["contamination"]:
        print(f"  in two splits: {line(manifest['contamination'][0]['message'])} (and {len(manifest['contamination']) - 1} more)")
    chosen = manifest.get("groups")
    if chosen is not None:
        flat = f", {chosen['without_variance']:,} of them without variance" if chosen["without_variance"] else ""
        print(f"  {chosen['groups']:,} groups{flat}; {chosen['too_small']:,} are too small")
    for reason, count in manifest["left_out"].items():
        print(f"  left out: {count:,} x {line(reason)}")
    count = len(manifest["files"])
    print(f"  {count:,} {'file' if count == 1 else 'files'}, {size(sum(f['bytes'] for f in manifest['files']))}")
    if url:
        print(f"  uploaded: {line(url)}")
    return 0


def _uploaded(args: argparse.Namespace) -> str:
    from ..hub import Dataset

    if not sys.stderr.isatty():
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return Dataset(args.out).upload(args.upload, private=not args.public, revision=args.revision)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of samples and of the format."""
    names = [one.name for one in described()]
    found = {name: value for name in names if (value := getattr(args, f"option_{name}")) is not None}
    edits = found.get("edits", "")
    if "=" in edits:
        parts = [part.partition("=") for part in edits.split(",")]
        found["edits"] = {name.strip(): word.strip() for name, _, word in parts}
    if getattr(args, "no_metadata", False):
        found["include_metadata"] = False
    return found | named_values("--option", args.option)


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
