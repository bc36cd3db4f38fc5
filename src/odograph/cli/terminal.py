"""Text for people: colours where there is a terminal, width, and no control sequence of what agents wrote.

Everything that a store holds is hostile: it is shown through `safe`, which leaves no escape sequence, no other control
character and no bidirectional override in it.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Collection, Iterable

_CONTROL = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0)) if c not in (0x09, 0x0A)}
_CONTROL |= {
    c: f"\\u{c:04x}" for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029, 0xFEFF)
}
_CONTROL |= {0x0D: ""}
_COLOURS = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}


def safe(text: str) -> str:
    """Text without anything that a terminal would obey; carriage returns are dropped, the rest is shown escaped."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROL)


def line(text: str) -> str:
    """Safe text on one line."""
    return " ".join(safe(text).split())


def coloured() -> bool:
    """Whether stdout is a terminal that wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if coloured() else text


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return shutil.get_terminal_size((100, 40)).columns


def cells(text: str) -> int:
    """Columns that text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or c == "\u200d" else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def cut(text: str, columns: int) -> str:
    """Text in at most that many columns, with an ellipsis where it was longer."""
    if cells(text) <= columns:
        return text
    out, used = [], 0
    for c in text:
        size = cells(c)
        if used + size > columns - 1:
            break
        out.append(c)
        used += size
    return "".join(out) + "…"


_LEAST = 12  # columns that text keeps in a narrow terminal


def table(
    head: list[str],
    rows: list[list[str]],
    right: Collection[int] = (),
    *,
    whole: Collection[int] = (),
    drop: Iterable[int] = (),
) -> list[str]:
    """Lines of a table, no longer than the terminal is wide, where there is one. Columns in `right` are aligned right.

    Where the terminal is too narrow, text is cut, but not that of the columns in `right` and `whole`; then the columns in `drop`
    go, the first of them first, and at last those on the right.
    """
    sizes = [max([cells(head[i]), *(cells(r[i]) for r in rows)]) for i in range(len(head))]
    kept = list(range(len(head)))
    if sys.stdout.isatty():
        room = width()
        least = [size if i in right or i in whole else min(size, _LEAST) for i, size in enumerate(sizes)]
        going = iter((*drop, *reversed(kept)))
        while len(kept) > 1 and sum(least[i] for i in kept) + 2 * (len(kept) - 1) > room:
            gone = next(going)
            if gone in kept:
                kept.remove(gone)
        left = room - sum(least[i] for i in kept) - 2 * (len(kept) - 1)
        for i in kept:  # what is left over, to the texts that were cut
            more = max(min(sizes[i] - least[i], left), min(0, left))
            sizes[i] = least[i] + more
            left -= more
    lines: list[str] = []
    for number, row in enumerate([head, *rows]):
        parts = []
        for i in kept:
            cell = cut(row[i], sizes[i])
            pad = " " * (sizes[i] - cells(cell))
            parts.append(pad + cell if i in right else cell + pad)
        text = "  ".join(parts).rstrip()
        lines.append(paint(text, "dim") if number == 0 else text)
    return lines


def number(value: float | None) -> str:
    """A figure as short as it can be read."""
    if value is None:
        return "-"
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}" if abs(value) < 1e15 else f"{value:g}"
    return f"{value:.4g}"


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.1f}s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def size(value: int) -> str:
    amount = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f}"
