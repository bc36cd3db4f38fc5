"""Text for people: colours where there is a terminal, width, and no control sequence of what agents wrote.

Everything that a store, a file name or an error holds is hostile. A command's whole output goes through `guarded`, whose streams
escape what a terminal would obey or not show: control characters (C0, DEL, C1), bidirectional marks, zero-width characters, line
separators. Of escape sequences only the colours of `paint` pass, none that content brings. In JSON the same characters become
`\\uXXXX`: the value stays.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

#: Unicode's Cc, Cf, Zl, Zp and Cs, tab and line feed aside, and the fillers that are shown as nothing.
_RANGES = (
    (0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x600, 0x605), (0x61C, 0x61C),
    (0x6DD, 0x6DD), (0x70F, 0x70F),
    (0x890, 0x891), (0x8E2, 0x8E2), (0x115F, 0x1160), (0x180E, 0x180E), (0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F),
    (0x3164, 0x3164), (0xD800, 0xDFFF), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB), (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE007F),
)  # fmt: skip
_SET = "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in _RANGES)
_HIDDEN = re.compile(f"[{_SET}]")
_COLOURS = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}
#: What `paint` writes in place of an escape character. Nobody's content has it, so a colour that content brings is none of ours.
_OURS = f"\x1b{os.urandom(8).hex()}"
_PAINTED = re.compile(rf"{_OURS}(\[(?:0|{'|'.join(_COLOURS.values())})m)")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "" if code == 0x0D else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escaped(found: re.Match[str]) -> str:
    return "".join(f"\\u{pair.hex()}" for pair in _pairs(found[0].encode("utf-16-be", "surrogatepass")))


def _pairs(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 2] for i in range(0, len(data), 2))


def safe(text: str) -> str:
    """Text without anything that a terminal would obey; carriage returns are dropped, the rest is shown escaped."""
    return _HIDDEN.sub(_escaped, text)


def safe_json(data: bytes) -> bytes:
    """JSON of the same value, in which a terminal finds nothing to obey."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _HIDDEN.sub(_json_escaped, data.decode()).encode()


class _Guarded:
    """A text stream to which only safe text goes; `unguarded` is the stream itself, for what draws: a progress bar."""

    def __init__(self, stream: Any) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        parts = _PAINTED.split(text)  # every second one is a colour
        parts[::2] = map(safe, parts[::2])
        parts[1::2] = ["\x1b" + colour if coloured(self.unguarded) else "" for colour in parts[1::2]]
        self.unguarded.write("".join(parts))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for text in lines:
            self.write(text)

    @property
    def buffer(self) -> Any:
        return _GuardedBytes(self.unguarded.buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


class _GuardedBytes:
    """The bytes beneath: commands write JSON there, in pieces that are text each."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        self._stream.write(safe_json(data))
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """What is written to stdout and stderr meanwhile is safe."""
    for fd, name in enumerate(("stdout", "stderr"), start=1):
        if getattr(sys, name) is None:  # started with it closed (`>&-`): the next file that is opened must not get its number
            null = os.open(os.devnull, os.O_WRONLY)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            setattr(sys, name, os.fdopen(fd, "w", encoding="utf-8", closefd=False))
    out, err = sys.stdout, sys.stderr
    mine: list[Any] = [None if stream is None or isinstance(stream, _Guarded) else _Guarded(stream) for stream in (out, err)]
    sys.stdout, sys.stderr = mine[0] or out, mine[1] or err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class _ToPager(io.TextIOWrapper):
    """A pager's input: it stands for the terminal that the pager writes to."""

    def isatty(self) -> bool:
        return True


@contextmanager
def paged() -> Iterator[None]:
    """On a terminal with somebody at it, what is written to stdout meanwhile goes through $PAGER (default: less)."""
    import shutil  # with `subprocess`, a tenth of what `ls` imports
    import subprocess

    try:
        command = shlex.split(os.environ.get("PAGER", "less"))
    except ValueError:  # an open quote: no program, like one that is not there
        command = []
    if (
        not (sys.stdin.isatty() and sys.stdout.isatty() and command and shutil.which(command[0]))
        or os.environ.get("TERM") == "dumb"
    ):
        yield
        return
    usual = {"LESS": "FRX", "LESSCHARSET": "utf-8"}  # colours pass; what fits the screen is printed as it is
    sys.stdout.flush()
    out = sys.stdout
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=usual | os.environ) as pager:
        assert pager.stdin is not None
        stream = _ToPager(cast(Any, pager.stdin), encoding="utf-8", errors="backslashreplace")
        sys.stdout = cast(Any, _Guarded(stream))
        try:
            yield
            stream.close()
        finally:
            sys.stdout = out
            with suppress(OSError):
                stream.close()


def line(text: str) -> str:
    """Safe text on one line."""
    return " ".join(safe(text).split())


def coloured(stream: Any = None) -> bool:
    """Whether a stream, stdout by default, is a terminal that wants colour."""
    return (stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Text that `guarded` streams show in a colour, where stdout is a terminal that wants colour."""
    return f"{_OURS}[{_COLOURS[colour]}m{text}{_OURS}[0m" if coloured() else text


def width() -> int:
    """Columns of the terminal; 100 where there is none. `$COLUMNS` goes first."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 100  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 100


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
    if isinstance(value, int) or value.is_integer():
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
