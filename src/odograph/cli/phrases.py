"""What a terminal and a Markdown page say in the same words of a session's entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from ..shown import Entry, Folded
from .terminal import number, seconds

_PRICE = ("prompt_tokens", "completion_tokens", "cost")


def brief(*entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries one after the other, in which a step's only call does not repeat the figures of the step's title."""
    price: list[Any] = []
    for entry in chain(*entries):
        if entry.kind == "step":
            price = [entry.about.get(name) for name in _PRICE]
        elif entry.kind == "call" and price == [entry.about[name] for name in _PRICE]:
            entry = msgspec.structs.replace(entry, about=entry.about | dict.fromkeys(_PRICE))
        yield entry


def figures(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures of a step that are known, as (name, text); a name is empty where the text says enough."""
    if about.get("again"):
        yield "", "goes on"
        return
    if "at_step" in about:
        yield "at_step", str(about["at_step"])
    if about["time"] is not None:
        yield "", about["time"][11:19]
    if about["duration"] is not None:
        yield "took", seconds(about["duration"])
    yield from _priced(about)
    if about["reward"] is not None:
        yield "reward", number(about["reward"])


def _priced(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if about["prompt_tokens"] is not None or about["completion_tokens"] is not None:
        counts = ("?" if n is None else f"{n:,}" for n in (about["prompt_tokens"], about["completion_tokens"]))
        yield "", f"{' → '.join(counts)} tokens"
    if about["cost"] is not None:
        yield "", f"${about['cost']:.4g}"


def call_line(about: dict[str, Any]) -> list[str]:
    """What a line says of a model's call."""
    purpose = [] if about["purpose"] == "act" else [f"for {about['purpose']}"]
    took = [] if about["duration"] is None else [seconds(about["duration"])]
    return [about["model"] or "model", *purpose, *(text for _, text in _priced(about)), *took]


def gone(about: dict[str, Any]) -> str:
    """What a line says of a prompt that no longer has messages of the prompt before."""
    one = about["gone"] == 1
    return f"{about['gone']:,} message{'' if one else 's'} of the prompt before {'is' if one else 'are'} left out here"


def hidden(folded: Folded) -> str:
    """What a fold leaves out, in words."""
    lines = f"{folded.lines:,} more lines, " if folded.lines else ""
    return f"{lines}{folded.characters:,} more characters"
