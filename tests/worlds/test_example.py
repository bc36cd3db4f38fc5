"""The worked example: sessions to a report with one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("daft")

import odograph
from examples.trajectory_analysis.__main__ import analyse
from odograph.labels import current, is_by_person


def test_one_command_gives_a_report_and_a_picture(tmp_path: Path) -> None:
    """Two rubrics in two forks, twenty labels of a person, a comparison, and an estimate that people correct."""
    text = analyse(tmp_path / "a", []).read_text()
    assert (tmp_path / "a" / "comparison.svg").stat().st_size > 5000
    assert "sessions changed their label" in text and "careful -> hasty: it looked first, and checked nothing" in text
    assert "| score |" in text and "on 20 sessions" in text
    with odograph.open(tmp_path / "a" / "store") as store:
        labels = [r for t in store.trajectories() for r in current(t.labels)]
        assert sum(is_by_person(r) for r in labels) == 20 and len(labels) == 100
        assert store.world("care-strict").info().parent == store.world("sessions").info().id


@pytest.mark.slow
def test_sessions_that_are_given_are_analysed(tmp_path: Path) -> None:
    """Files of sessions take the place of the made-up ones; where the rubrics agree, the report says so."""
    reply = {"role": "assistant", "content": "a"}
    lines = [json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, reply]}) for n in range(24)]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    text = analyse(tmp_path / "b", [tmp_path / "chats.jsonl"]).read_text()
    assert "| strict | 24 | 0 |" in text and "0 sessions changed" in text
