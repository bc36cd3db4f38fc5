"""The viewer's pages of a trajectory in a notebook: a frame that is sealed off from the notebook."""

from __future__ import annotations

import tempfile
from html import escape
from pathlib import Path
from typing import Any

from ..api import open as open_store
from ..trajectory import Trajectory
from .answers import Answers
from .single import write

_FRAME = "width:100%;border:1px solid #8884;border-radius:8px"


class Page:
    """The viewer's pages of one trajectory: shows itself in a notebook; `save` writes the file."""

    def __init__(self, html: str, height: int) -> None:
        self._html = html
        self._height = height

    def __repr__(self) -> str:
        return f"<Page of {len(self._html):,} characters: show it in a notebook, or save(path) it>"

    def _repr_html_(self) -> str:
        # the frame has an origin of its own: content reaches neither the notebook nor its server
        sealed = f'sandbox="allow-scripts allow-downloads" srcdoc="{escape(self._html)}"'
        return f'<iframe {sealed} style="{_FRAME};height:{self._height}px" title="trajectory"></iframe>'

    def save(self, path: str | Path) -> Path:
        """Writes the pages as one HTML file, and returns its path."""
        Path(path).write_text(self._html, encoding="utf-8")
        return Path(path)


def show(trajectory: Trajectory, *, tokenizer: Any = None, height: int = 640) -> Page:
    """Returns the viewer's pages of a trajectory, which a notebook shows in a frame. No server, no network.

    `tokenizer`: a tokenizer or a `tokenizer.json`, to show tokens as text. `height`: of the frame, in pixels.
    `show(t).save("run.html")` writes a file. Raises TypeError.
    """
    if not isinstance(trajectory, Trajectory):
        raise TypeError(f"show() takes a trajectory, such as store.trajectory(id), not {type(trajectory).__name__}")
    with open_store("memory:") as store, tempfile.TemporaryDirectory() as folder:
        id = store.add(trajectory)
        out = Path(folder) / "page.html"
        write(out, Answers(store, by=tokenizer), [id], f"#/t/{id}")
        return Page(out.read_text(encoding="utf-8"), height)
