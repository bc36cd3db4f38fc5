"""Small HTML for notebooks: facts and tables of escaped text, without a script. Knows no trajectory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .codec import encode

_TEXT = 300  # characters of a value
_CELL = "text-align:left;padding:2px 14px 2px 0;vertical-align:top"


def short(value: Any) -> str:
    """The beginning of a value as text; None is the empty text."""
    text = value if isinstance(value, str) else "" if value is None else encode(value).decode()
    return text if len(text) <= _TEXT else text[:_TEXT] + "…"


def _safe(text: str) -> str:
    from html import escape  # who records shows nothing

    return escape(text)


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """Names with values on one line; what is not known is left out."""
    known = [(name, short(value)) for name, value in pairs if value not in (None, "", [], {})]
    return "<p>" + " &nbsp; ".join(f"<b>{_safe(name)}</b> {_safe(value)}" for name, value in known) + "</p>"


def table(head: list[str], rows: Iterable[list[Any]]) -> str:
    """A table whose cells are values."""

    def line(cells: list[Any], tag: str) -> str:
        return "<tr>" + "".join(f'<{tag} style="{_CELL}">{_safe(short(c))}</{tag}>' for c in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
