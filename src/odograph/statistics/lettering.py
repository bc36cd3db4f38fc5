"""Letters of pictures: names of agents and tasks in any script, as plain text that a font on this machine can draw."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.text import Text

from ..log import logger

_LONG = 40  # columns of a name; wide letters take two


#: Set while a picture is made whose viewer brings fonts of its own: an SVG holds text, not shapes of letters.
as_text: ContextVar[bool] = ContextVar("as_text", default=False)


def plain(name: str | None) -> str:
    """A name on one line without control characters. A letter that no font here has is written as its code, and logged."""
    if name is None:
        return "(none)"
    text = "".join(c if unicodedata.category(c)[0] != "C" else "?" for c in " ".join(name.split()))
    if not text.isascii() and not as_text.get() and (lost := _fonts("".join(sorted(set(text))))[1]):
        _say("".join(sorted(lost)))
        text = "".join(f"<U+{ord(c):04X}>" if c in lost else c for c in text)
    return text or '""'


@lru_cache(maxsize=256)
def _say(lost: str) -> None:
    logger.warning(
        "no font on this machine has %s: the picture shows their codes. Install a font that has them, such as Noto Sans CJK", lost
    )


def cut(text: str, columns: int = _LONG) -> str:
    """The beginning and the end of a name that is too long: names often differ at the end."""
    if _columns(text) <= columns:
        return text
    tail = ""
    while text and _columns(tail) < columns // 3:
        tail = text[-1] + tail
        text = text[:-1]
    while _columns(text) + _columns(tail) > columns - 1:
        text = text[:-1]
    return text.rstrip() + "…" + tail.lstrip()


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def lettered(texts: Iterable[Text]) -> None:
    """Gives each text fonts that have all its letters. What is written is text, never markup: $ begins no mathematics."""
    for text in texts:
        text.set_parse_math(False)
        if not text.get_text().isascii():
            text.set_fontfamily(_fonts("".join(sorted(set(text.get_text()))))[0])


@lru_cache(maxsize=256)
def _fonts(letters: str) -> tuple[list[str], frozenset[str]]:
    """The fewest families that have these letters, the usual one first, and the letters that none has."""
    usual = FontProperties().get_name()
    left = {c for c in letters if not c.isspace() and unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f"}
    left -= _has(font_manager.findfont(FontProperties()), left)
    families = [usual]
    if left:
        found: dict[str, set[str]] = {}
        for font in font_manager.fontManager.ttflist:
            if font.style == "normal" and "LastResort" not in font.fname and font.name not in found:
                found[font.name] = _has(font.fname, left)
        while left and found:
            best = max(found, key=lambda name: (len(found[name] & left), -len(name)))
            if not found[best] & left:
                break
            families.append(best)
            left -= found.pop(best)
    return families, frozenset(left)


def _has(path: str, letters: set[str]) -> set[str]:
    try:
        known = get_font(path).get_charmap()
    except (OSError, RuntimeError):  # a font file that is gone, or damaged
        return set()
    return {c for c in letters if ord(c) in known}
