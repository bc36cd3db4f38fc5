"""`odograph ls`: the trajectories of a store, a line each."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from ..clock import iso_time
from ..codec import encode
from ..store.summary import Summary
from .common import add_filters, add_json, existing_store, filters_of, print_json
from .terminal import line, number, paint, seconds, table

HELP = "list trajectories, newest first"
_PAGE = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        filters = filters_of(args)
        found = store.summaries(newest_first=True, **filters)
        if args.json:
            for summary in found:
                print_json(summary.to_dict())
            return 0
        count, limit = 0, filters.get("limit")
        while page := list(islice(found, _PAGE)):
            count += len(page)
            print("\n".join(lines(page)))
        filters.pop("limit", None)
        whole = store.count(**filters) if count == limit else count
        print(paint(f"{count:,} trajectories" if count == whole else f"the newest {count:,} of {whole:,} trajectories", "dim"))
    return 0


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Suffixes of ids, 8 characters or as many as tell them apart."""
    whole = list(ids)
    length = 8
    while length < 36 and max(Counter(i[-length:] for i in whole).values(), default=0) > 1:
        length += 4
    return {i: i[-length:].lstrip("-") for i in whole}


def lines(page: list[Summary]) -> list[str]:
    """A table of summaries."""
    ids = short_ids(s.id for s in page)
    rows = []
    for s in page:
        tokens = (
            "-" if s.prompt_tokens is None and s.completion_tokens is None else f"{_k(s.prompt_tokens)}/{_k(s.completion_tokens)}"
        )
        task = s.task if isinstance(s.task, str) else "" if s.task is None else encode(s.task).decode()
        rows.append(
            [
                ids[s.id],
                line(s.agent or "-")[:18],
                line(s.model or "-")[:24],
                s.status,
                str(s.steps),
                str(s.llm_calls),
                str(s.actions),
                tokens,
                number(s.reward),
                (iso_time(s.started) or "-")[:16].replace("T", " "),
                seconds(s.duration),
                line(s.group or "-")[:16],
                line(task[:300]),
            ]
        )
    head = ["id", "agent", "model", "status", "steps", "calls", "acts", "tokens", "reward", "started", "took", "group", "task"]
    return table(head, rows, right={4, 5, 6, 7, 8, 10}, whole={0, 3, 9}, drop=(11, 10, 6, 5, 7, 2, 4, 1, 9, 8))


def _k(count: int | None) -> str:
    if count is None:
        return "-"
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k" if count < 10_000_000 else f"{count / 1e6:.0f}M"
