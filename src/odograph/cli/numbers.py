"""The values of a command line: numbers are finite and within bounds, names are not empty. Knows no command."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable

#: The bounds of a whole number without bounds of its own: 64 bits, which every part behind the command line can hold.
_LEAST, _MOST = -(2**63), 2**63 - 1
_LONGEST = 1e9  # seconds: no clock of an operating system waits for longer than some hundred years


def within(least: int = _LEAST, most: int = _MOST) -> Callable[[str], int]:
    """Returns the argparse type of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # no number, or one of thousands of digits
            value = None
        if value is None or not least <= value <= most:
            bounds = "" if (least, most) == (_LEAST, _MOST) else f" from {least:,} to {most:,}"
            bits = " of at most 64 bits" if value is not None and not bounds else ""
            raise ArgumentTypeError(f"a whole number{bounds}{bits} was expected, not {text[:40]!r}")
        return value

    return parse


def named(text: str) -> str:
    """The argparse type of paths, names and ids: of each argument without a type. An argument of free text has the type `str`."""
    if not text:
        raise ArgumentTypeError("a value was expected, not an empty text")
    return text


def number(text: str) -> float:
    """The argparse type of finite numbers."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"a number was expected, not {text[:40]!r}")
    return value


def seconds(text: str) -> float:
    """The argparse type of lengths of time, in seconds."""
    value = number(text)
    if not 0 <= value <= _LONGEST:
        raise ArgumentTypeError(f"a number of seconds from 0 to {_LONGEST:,.0f} was expected, not {text[:40]!r}")
    return value


whole = within()
port = within(0, 65_535)
count = within(0, 2**31 - 1)
