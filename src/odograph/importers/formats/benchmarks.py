"""What the small result formats of benchmarks share: how a file of rows is told and read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...errors import InvalidInput
from ...shape import obj
from .. import peek
from ..session import Lines, Session, rows_of


def first_row(head: bytes) -> dict[str, Any]:
    """The first object of JSON lines or of a whole file within the head; an empty one where the head holds none."""
    start = head.lstrip().lstrip(b"\xef\xbb\xbf")
    for part in (start.split(b"\n", 1)[0], start):
        try:
            value = peek.value(part)
        except InvalidInput:
            continue
        return obj(value[0] if isinstance(value, list) and value else value)
    return {}


def rows(
    path: Path, is_row: Callable[[dict[str, Any]], bool], what: str
) -> Iterator[tuple[dict[str, Any], str, int, Counter[str]]]:
    """The rows of JSON lines or of a JSON list: a row, its content's hash, how often that came, and what its first session
    warns of.
    Raises InvalidInput where there is none."""
    seen: Counter[str] = Counter()
    lines = Lines(path)
    last: tuple[dict[str, Any], str, int, Counter[str]] | None = None
    odd = 0
    for row in rows_of(path, lines):
        if not isinstance(row, dict) or not is_row(row):
            odd += 1
            continue
        if last is not None:
            yield last
        key = content_hash(row)
        seen[key] += 1
        last = row, key, seen[key], Counter(lines.problems)
        lines.problems.clear()
        if odd:
            last[-1]["rows of another shape before this one"] = odd
            odd = 0
    if last is None:
        raise InvalidInput(f"no {what}; {odd} rows of another shape, {len(lines.problems)} damaged")
    last[-1].update(lines.problems)
    if odd:
        last[-1]["rows of another shape behind this one"] = odd
    yield last


def sessions(path: Path, is_row: Callable[[dict[str, Any]], bool], make: Callable[..., Session], what: str) -> Iterator[Session]:
    """A session per row. `make(row, key, count)`. Raises InvalidInput where there is none."""
    for row, key, count, warnings in rows(path, is_row, what):
        session = make(row, key, count)
        session.warnings.update(warnings)
        yield session
