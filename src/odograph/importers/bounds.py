"""How much a packed file may unpack to. A file of a kilobyte can hold a terabyte: one text, repeated."""

from __future__ import annotations

MOST = 2_000_000_000  # bytes
RATIO = 1000  # times its packed size; logs are packed 5 to 100 times
ALWAYS = 10_000_000  # bytes that need no look at the ratio


def limit(packed: int) -> int:
    """The bytes that a part of a file may unpack to, of its packed size."""
    return min(MOST, max(ALWAYS, RATIO * packed))


def too_large(name: str, size: str, packed: int) -> str:
    """The error of a part that unpacks to more."""
    return (
        f"{name} unpacks to {size} bytes from {packed:,}; expected at most {limit(packed):,}: "
        f"{RATIO:,} times its packed size, and {MOST // 10**9} GB"
    )
