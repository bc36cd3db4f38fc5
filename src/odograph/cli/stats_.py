"""`odograph stats`: what a store holds, in figures."""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from typing import Any

from ..clock import iso_time
from ..store.catalog import Summary
from .common import add_filters, add_json, existing_store, filters_of, print_json
from .terminal import line, number, table

HELP = "counts, tokens and rewards, in all or by group, agent, model, status, tag or day"
_BY = ("group", "agent", "model", "status", "tag", "day")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", choices=_BY, help="a line for each")
    add_filters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        found = list(store.summaries(**filters_of(args)))
    parts: dict[str | None, list[Summary]] = {}
    for summary in found:
        for key in _keys(summary, args.by):
            parts.setdefault(key, []).append(summary)
    figures = {key: summarise(part) for key, part in sorted(parts.items(), key=lambda p: (p[0] is None, p[0]))}
    whole = summarise(found)
    if args.json:
        print_json({**whole, "by": args.by, "parts": [{"key": k, **v} for k, v in figures.items()]} if args.by else whole)
        return 0
    rows = [_row("all", whole)]
    if args.by:
        rows = [_row(line(k) if k is not None else "-", v) for k, v in figures.items()] + rows
    head = [args.by or "", "traj.", "steps", "calls", "actions", "in", "out", "reward", "min", "median", "max", "rewarded", "statuses"]
    print("\n".join(table(head, rows, right=set(range(1, 12)))))
    return 0


def _keys(s: Summary, by: str | None) -> list[str | None]:
    if by is None:
        return []
    if by == "tag":
        return list(s.tags) or [None]
    if by == "day":
        return [(iso_time(s.started) or "")[:10] or None]
    return [getattr(s, by)]


def summarise(found: list[Summary]) -> dict[str, Any]:
    """Sums and the distribution of rewards; what is not known is null."""
    rewards = [s.reward for s in found if s.reward is not None]

    def total(name: str) -> int | None:
        known = [v for s in found if (v := getattr(s, name)) is not None]
        return sum(known) if known else None

    return {
        "trajectories": len(found),
        "steps": sum(s.steps for s in found),
        "llm_calls": sum(s.llm_calls for s in found),
        "actions": sum(s.actions for s in found),
        "prompt_tokens": total("prompt_tokens"),
        "completion_tokens": total("completion_tokens"),
        "rewarded": len(rewards),
        "reward_mean": statistics.fmean(rewards) if rewards else None,
        "reward_min": min(rewards, default=None),
        "reward_median": statistics.median(rewards) if rewards else None,
        "reward_max": max(rewards, default=None),
        "reward_std": statistics.pstdev(rewards) if rewards else None,
        "statuses": dict(Counter(s.status for s in found).most_common()),
    }


def _row(name: str, f: dict[str, Any]) -> list[str]:
    keys = ("trajectories", "steps", "llm_calls", "actions", "prompt_tokens", "completion_tokens")
    rewards = ("reward_mean", "reward_min", "reward_median", "reward_max", "rewarded")
    statuses = ", ".join(f"{count} {status}" for status, count in f["statuses"].items())
    return [name, *(number(f[k]) for k in keys), *(number(f[k]) for k in rewards), statuses]
