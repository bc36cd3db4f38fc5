"""Trajectories and figures in notebooks."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import odograph
from tests.viewer.conftest import Page
from tests.viewer.made import BAD, attempt, hostile


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.add(tag)


def test_a_card_is_text_in_tables(store: odograph.Store) -> None:
    """What a notebook shows of a trajectory and of figures says the facts, and holds nothing that runs, whatever was recorded."""
    good, bad = store.trajectory(attempt(store, 1, steps=15)), store.trajectory(hostile(store))
    card = good._repr_html_()
    assert "find the failure 1" in card and "I look 1 3" in card and "odograph.show(t)" in card
    for html in (card, bad._repr_html_(), store.stats("group")._repr_html_()):
        tags = Tags()
        tags.feed(html)
        assert tags.found <= {"p", "b", "table", "tr", "th", "td"} and BAD not in html
    assert "fix" in store.stats("group")._repr_html_()


def test_show_is_the_pages_in_a_sealed_frame(store: odograph.Store, tmp_path: Path, page: Page) -> None:
    """`odograph.show(t)` holds the whole page; its frame runs its own script alone, and reaches nobody."""
    shown = odograph.show(store.trajectory(attempt(store, 1)))
    assert 'sandbox="allow-scripts allow-downloads"' in shown._repr_html_() and "allow-same-origin" not in shown._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>notebook</title>{shown._repr_html_()}")
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(".entry.outcome").wait_for()
    frame.locator(".tabs a:has-text('Tokens')").click()
    frame.locator(".tk").first.wait_for()
    page.goto(shown.save(tmp_path / "run.html").as_uri())
    page.wait_for_selector(".entry.outcome")
    assert all(url.startswith(("file:", "data:", "about:")) for url in page.asked)
    with pytest.raises(TypeError, match=r"takes a trajectory.*not str"):
        odograph.show("x")  # type: ignore[arg-type]
