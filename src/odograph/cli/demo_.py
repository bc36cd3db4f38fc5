"""`odograph demo`: the main job in under a minute, without a key or network."""

from __future__ import annotations

import argparse

HELP = "record, list, show, validate and export a small agent's work; with --model, against a real endpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="use $OPENAI_BASE_URL and $OPENAI_API_KEY with this model")
    parser.add_argument("-o", "--out", default="odograph-demo", metavar="DIR", help="where the store and the export go (odograph-demo)")


def run(args: argparse.Namespace) -> int:
    from ..demo import main

    return main(args.out, model=args.model)
