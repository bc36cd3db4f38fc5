"""`odograph diff`: two trajectories aligned step by step."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator
from typing import Any

import msgspec

from ..codec import encode
from ..dialects.content import text_of
from ..differences import Diff, Pair, diff
from .common import add_json, existing_store, print_json
from .terminal import line, paint, safe

HELP = "compare two trajectories step by step; exit status 1 if they differ"
_LINES = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a trajectory: the id, or a unique prefix or suffix of the id")
    parser.add_argument("b", metavar="B", help="the trajectory to compare with")
    parser.add_argument(
        "--full", action="store_true", help="show all differences (default: the first, and a line for each other step)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        found = diff(store.trajectory(args.a), store.trajectory(args.b))
    if args.json:
        print_json(msgspec.to_builtins(found) | {"same": found.same})
    else:
        for text in _shown(found, args.full):
            print(text)
    return 0 if found.same else 1


def _shown(d: Diff, full: bool) -> Iterator[str]:
    yield f"{paint('- ' + d.a, 'red')}\n{paint('+ ' + d.b, 'green')}"
    for name, (a, b) in d.whole.items():
        yield f"{name}: {paint(_brief(a), 'red')} | {paint(_brief(b), 'green')}"
    for number, pair in enumerate(d.pairs):
        head = f"step {'-' if pair.a is None else pair.a} | {'-' if pair.b is None else pair.b}"
        who = f" · {line(pair.agent)}" if pair.agent else ""
        if not pair.differs:
            yield paint(f"  {head}{who}: the same", "dim")
            continue
        what = (
            "only in " + ("the first" if pair.b is None else "the second")
            if "missing" in pair.differs
            else ", ".join(pair.differs)
        )
        mark = " (the first difference)" if number == d.first else ""
        yield paint(f"* {head}{who}: {what}{mark}", "bold")
        if full or number == d.first:
            yield from _values(pair)
    if d.same:
        yield paint("the same", "green")


def _values(pair: Pair) -> Iterator[str]:
    for name, (a, b) in pair.values.items():
        yield f"    {name}:"
        lines = list(difflib.unified_diff(_text(a).splitlines(), _text(b).splitlines(), lineterm="", n=1))[2:]
        for one in lines[:_LINES]:
            colour = {"-": "red", "+": "green"}.get(one[:1], "dim")
            yield "      " + paint(safe(one)[:400], colour)
        if len(lines) > _LINES:
            yield paint(f"      ... ({len(lines) - _LINES} more lines)", "dim")


def _text(value: Any) -> str:
    """A value as lines to compare: messages a line each with their role, lists an item a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_item(item) for item in value)
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_item(item)}" for key, item in value.items())
    return "" if value is None else encode(value).decode()


def _item(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, dict) and "role" in item and not item.get("tool_calls"):
        text = text_of(item.get("content"))
        if text:
            return f"{item['role']}: {text}"
    return encode(item).decode()


def _brief(value: Any) -> str:
    text = line(value if isinstance(value, str) else encode(value).decode())
    return text if len(text) <= 120 else text[:120] + "…"
