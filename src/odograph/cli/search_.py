"""`odograph search`: words in everything that agents read, said and did."""

from __future__ import annotations

import argparse

from ..shown import snippet
from .common import add_json, bytes_bar, existing_store, print_json
from .ls_ import short_ids
from .numbers import within
from .terminal import line, paint, width

HELP = 'find records and messages with all the words ("quoted" for a phrase), newest first'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", type=str, metavar="WORDS", nargs="+", help="words to search for")
    parser.add_argument(
        "-n", "--limit", type=within(1, 2**31 - 1), default=50, metavar="N", help="print at most N hits (default: 50)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    query = " ".join(args.query)
    with existing_store(args) as store:
        hits = store.search(query, args.limit, progress=bytes_bar("indexing"))
    ids = short_ids({h.trajectory for h in hits})
    for hit in hits:
        found = snippet(hit.text, query, max(60, width() - 30))
        if args.json:
            print_json({"trajectory": hit.trajectory, "kind": hit.kind, "step": hit.step, "snippet": found})
        else:
            step = "" if hit.step is None else f" step {hit.step}"
            print(f"{paint(ids[hit.trajectory], 'bold')}{step} {paint(hit.kind, 'dim')}  {line(found)}")
    return 0
