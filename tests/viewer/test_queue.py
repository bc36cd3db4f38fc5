"""Labelling in a real Chromium: a person, a rubric and a key a label; blind, by several people, and on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import main
from tests.viewer.conftest import Page
from tests.viewer.made import attempt
from tests.viewer.scaffold import viewing

pytest.importorskip("aiohttp")
RUBRIC = "---\nvalues: careful, careless\n---\nDid the agent look before it acted?\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with odograph.open(tmp_path / "store") as store:
        for n in range(3):
            attempt(store, n)
    return tmp_path / "store"


def rubric(tmp_path: Path, text: str = RUBRIC) -> str:
    path = tmp_path / "care.md"
    path.write_text(text)
    return str(path)


def labels(folder: Path, author: str) -> list[tuple[Any, ...]]:
    with odograph.open(folder) as store:
        replaced = [r.supersedes for t in store.trajectories() for r in t.labels if r.supersedes]
        found = [one for t in store.trajectories() for one in t.labels if one.author == author and one.id not in replaced]
    return [(one.technique, one.value, one.rationale) for one in found if one.value]


def test_labels_by_keys(page: Page, folder: Path, tmp_path: Path) -> None:
    """A name once, then a key a label: labelled, skipped, commented, undone; another person has a queue of their own."""
    with viewing(folder, "--label", rubric(tmp_path)) as viewer:
        page.goto(viewer.url)
        page.fill("input[name=annotator]", "ann")
        page.keyboard.press("Enter")
        page.wait_for_selector(".turn:has-text('What fails?') img.image")
        first = page.inner_text(".turn.task")
        assert "0.5" not in page.inner_text("main") and "reward" not in page.inner_text("main")
        page.keyboard.press("1")
        page.wait_for_selector(".progress:has-text('1 of 3')")
        second = page.inner_text(".turn.task")
        page.keyboard.press("s")
        page.wait_for_selector(f".turn.task:not(:has-text('{second}'))")
        page.keyboard.press("c")
        page.keyboard.type("it guessed")
        page.keyboard.press("Tab")
        page.keyboard.press("2")
        page.wait_for_selector(".progress:has-text('2 of 3')")
        assert sorted(labels(folder, "ann")) == [("care", "careful", None), ("care", "careless", "it guessed")]
        page.keyboard.press("u")
        page.wait_for_selector(".progress:has-text('1 of 3')")
        assert labels(folder, "ann") == [("care", "careful", None)]
        for done in (2, 3):
            page.keyboard.press("1")
            page.wait_for_selector(f".progress:has-text('{done} of 3')")
        page.wait_for_selector(".notice:has-text('Nothing is left to label')")
        page.goto(viewer.url.split("?")[0] + "#/label?annotator=bob")
        page.wait_for_selector(".progress:has-text('0 of 3 labelled by bob')")
        assert page.inner_text(".turn.task") == first
        stale = {"annotator": "bob", "do": "label", "trajectory": "another", "value": "careful"}
        assert viewer.post("/api/queue", stale).status == 400
        assert viewer.post("/api/queue", stale, token=False).status in (401, 403)
    assert len(labels(folder, "ann")) == 3 and labels(folder, "bob") == []


def test_labels_of_turns(page: Page, folder: Path, tmp_path: Path) -> None:
    """A rubric of turns: the words that are selected are the evidence; `d` ends the session."""
    with viewing(folder, "--label", rubric(tmp_path, RUBRIC.replace("---\nD", "on: turn\n---\nD")), "--sample", "1") as viewer:
        page.goto(viewer.url + "?annotator=ann")
        page.wait_for_selector(".turn.active")
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.dblclick(".turn.active .text span")
        page.keyboard.press("2")
        page.wait_for_selector(".said.shown:has-text('Turn 3 is labelled')")
        page.keyboard.press("d")
        page.wait_for_selector(".progress:has-text('1 of 1')")
    with odograph.open(folder) as store:
        made = [one for t in store.trajectories() for one in t.labels if one.author == "ann"]
        part, whole = sorted(made, key=lambda one: one.target is None)
    assert (part.value, part.extra["turn"]) == ("careless", 3) and part.extra["quote"] in "I look 0 0 I look 1 0 I look 2 0"
    assert (whole.value, whole.author) == ("1", "ann")


def test_what_does_not_go_together(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rubric that is not there, and flags that contradict each other, are said before anything is served."""
    for given, said in (
        (["--label", "no.md"], "the rubric 'no.md' can't be read"),
        (["--sample", "3"], "--sample goes with --label"),
        (["--label", rubric(tmp_path), "--read-only"], "--label and --read-only don't go together"),
        (["--label", rubric(tmp_path), "--sample", "0"], "a whole number from 1"),
    ):
        assert status(["view", "--store", str(folder), "--no-browser", *given]) in (1, 2)
        assert said in capsys.readouterr().err


def status(command: list[str]) -> int:
    """The exit status of a command."""
    try:
        return main(command)
    except SystemExit as ended:  # as argparse ends
        return int(ended.code or 0)
