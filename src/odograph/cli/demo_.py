"""`odograph demo`: the main job in under a minute, without a key or network."""

from __future__ import annotations

import argparse

from ..errors import InvalidInput

HELP = "record, list, show, validate and export the work of a small agent"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="use this model at $OPENAI_BASE_URL with $OPENAI_API_KEY")
    parser.add_argument(
        "-o", "--out", default="odograph-demo", metavar="DIR", help="folder for the store and the export (default: odograph-demo)"
    )


def run(args: argparse.Namespace) -> int:
    from ..demo import main

    if args.store is not None:
        raise InvalidInput("the demo makes its own store; name the folder with --out DIR, and leave --store out")
    return main(args.out, model=args.model)
