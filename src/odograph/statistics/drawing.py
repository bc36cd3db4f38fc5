"""The way from figures to a picture in a file. Draws nothing itself and loads no matplotlib before a picture is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, MissingExtra


def drawn_by(module: str) -> Callable[[Any], Any]:
    """The function `figure` of a module here that draws. Raises MissingExtra."""
    try:
        return import_module(f".{module}", __package__).figure  # type: ignore[no-any-return]
    except ImportError:
        raise MissingExtra("a picture of statistics", "plot") from None


def save(figure: Callable[[], Any], path: str | Path) -> None:
    """Draws into a file: png, svg or pdf, by its suffix. Raises InvalidInput, MissingExtra, OSError."""
    suffix = Path(path).suffix
    if suffix not in (".png", ".svg", ".pdf"):
        raise InvalidInput(f"a picture is a .png, .svg or .pdf file, not {str(path)!r}")
    try:
        from matplotlib import rc_context

        from .lettering import as_text
    except ImportError:
        raise MissingExtra("a picture of statistics", "plot") from None
    token = as_text.set(suffix == ".svg")
    try:
        with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
            warnings.simplefilter("ignore")
            figure().savefig(path)
    except (ValueError, OverflowError) as error:  # rewards near the end of what floats hold
        raise InvalidInput(f"no picture can be drawn of rewards of this size: {error}") from None
    finally:
        as_text.reset(token)
