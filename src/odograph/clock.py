"""Times as people and tools write them -> integer nanoseconds since 1970, UTC; and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from .errors import InvalidInput

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def iso_time(ns: int | None) -> str | None:
    """Nanoseconds since 1970 as ISO 8601 with microseconds, UTC; None where they are no date."""
    if ns is None:
        return None
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # a source's clock can say anything
        return None


def parse_time(value: Any) -> int | None:
    """Nanoseconds of an ISO 8601 string (no zone: UTC), or of a number of seconds, milli-, micro- or nanoseconds; else None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        if not 0 < value < 1e20:
            return None
        scale = 1 if value > 1e17 else 1_000 if value > 1e14 else 1_000_000 if value > 1e11 else 1_000_000_000
        return int(value * scale)
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        whole = int(when.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        return None
    return whole * 1_000_000_000 + when.microsecond * 1000


def parse_span(text: str) -> int:
    """Nanoseconds of a length of time such as "7d", "24h" or "90m". Raises InvalidInput."""
    match = _SPAN.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if not match:
        raise InvalidInput(f"{text!r} is no length of time; write 30s, 90m, 24h, 7d or 2w")
    return int(float(match[1]) * _SECONDS[match[2]] * 1_000_000_000)
