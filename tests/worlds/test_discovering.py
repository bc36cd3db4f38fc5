"""Finding behaviours that nobody asked for."""

from __future__ import annotations

import gc
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

pytest.importorskip("daft")

import odograph
from odograph import Budget
from odograph.worlds import LabelingConfig, Rubric, discover
from tests.cli.test_label import run

from .judge_server import JudgeServer
from .sessions import recorded


def judge(text: str) -> str:
    """Sees one or two behaviours in a session, and groups by the first word of what it is told."""
    if "You sort observations" in text:
        lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"number"')]
        groups: dict[str, list[int]] = {}
        for one in lines:
            groups.setdefault(one["what"].split()[0], []).append(one["number"])
        named = [
            {"name": f"{word}, of: files", "description": f"{word} things", "members": [*m, 999]} for word, m in groups.items()
        ]
        return json.dumps({"groups": named})
    number = int(re.search(r"task (\d+)", text)[1])  # type: ignore[index]
    seen: list[dict[str, Any]] = [{"what": "reads a file before it answers", "turn": 5, "quote": "def login(): ..."}]
    if number % 4 == 0:
        seen.append({"what": "claims success without a test", "turn": 6, "quote": f"fixed {number}"})
    if number % 5 == 0:
        seen.append({"what": "invents a quote", "turn": 2, "quote": "nobody said this"})
    return json.dumps({"observations": seen})


def test_behaviours_are_grouped_in_rounds_and_become_a_rubric(tmp_path: Path) -> None:
    """Groups have counts of sessions and quotes that occur; what is quoted nowhere is dropped and counted; many observations are
    grouped in rounds; the proposed rubric can be labelled with; again, nothing is asked."""
    with odograph.open(tmp_path / "s") as store, JudgeServer(judge) as server:
        ids = [recorded(store, n) for n in range(20)]
        config = LabelingConfig(base_url=server.url, api_key="x", max_retries=0)
        found = discover(store, config=config, per_round=6, question="What of files?")
        assert (found.sessions, found.observations, found.dropped, found.ungrouped) == (20, 25, 4, 0)
        assert found.rounds == 3 and next((b.name, b.sessions) for b in found.behaviours) == ("reads, of: files", 20)
        assert found.behaviours[1].sessions == 5
        assert {e.trajectory for e in found.behaviours[1].examples} <= set(ids)
        assert "What of files?" in server.prompts[0] and "What of files?" in server.prompts[-1]
        rubric = Rubric.of(found.rubric)
        assert rubric.form.values == ("reads of files", "claims of files", "none of these")
        assert next(e.text for e in rubric.examples if e.value == "claims of files").startswith('"fixed ')
        asked = len(server)
        again = discover(store, config=config, per_round=6, question="What of files?")
        assert len(server) == asked and again.spent["calls"] == 0
        assert [b.name for b in again.behaviours] == [b.name for b in found.behaviours]


def test_no_connection_stays_open(tmp_path: Path) -> None:
    """Once `discover` has returned, its connections are closed: the end of the program complains of none."""

    def opened() -> set[int]:
        return {id(one) for one in gc.get_objects() if isinstance(one, ClientSession) and not one.closed}

    with odograph.open(tmp_path / "s") as store, JudgeServer(judge) as server:
        recorded(store, 1)
        before = opened()
        assert discover(store, config=LabelingConfig(base_url=server.url, api_key="x", max_retries=0)).observations == 1
        assert opened() <= before


def test_a_budget_stops_and_a_dry_run_asks_nothing(tmp_path: Path) -> None:
    """What the budget has no room for is said; a judge that groups nothing together ends, too."""
    with odograph.open(tmp_path / "s") as store, JudgeServer(judge) as server:
        for n in range(8):
            recorded(store, n)
        config = LabelingConfig(base_url=server.url, api_key="x", max_retries=0, max_concurrency=1, budget=Budget(calls=3))
        dry = discover(store, config=config, dry_run=True)
        assert dry.estimate["calls"] == 8 and len(server) == 0
        found = discover(store, config=config)
        assert len(server) == 3 and {f["status"] for f in found.failed} == {"over_budget"} and found.observations >= 3
        server.answer = lambda text: (
            json.dumps({"groups": [{"name": str(n), "description": "d", "members": [n]} for n in range(1, 9)]})
            if "You sort" in text
            else judge(text)
        )
        alone = discover(store, config=LabelingConfig(base_url=server.url, api_key="x"), per_round=3, most=2)
        assert len(alone.behaviours) == 2


def test_the_command_writes_a_rubric_that_labels(tmp_path: Path) -> None:
    """`odograph discover -o` writes a file for `odograph label`; it never writes over a file."""
    with odograph.open(tmp_path / "s") as store:
        for n in range(6):
            recorded(store, n)
    with JudgeServer(judge) as server:
        args = ("--base-url", server.url, "--model", "j", "-o", str(tmp_path / "r.md"))
        done = run(tmp_path / "s", *args, command="discover")
        assert "reads, of: files" in done.stdout and "looking: at most 6 requests" in done.stderr
        assert "exists" in run(tmp_path / "s", *args, command="discover", check=2).stderr
        assert "would look at 6" in run(tmp_path / "s", "--dry-run", "--model", "j2", command="discover").stdout
        server.answer = lambda text: json.dumps({"value": "reads of files", "rationale": "r", "evidence": []})
        out = run(tmp_path / "s", str(tmp_path / "r.md"), "--base-url", server.url, "--model", "j", "--json").stdout
        assert json.loads(out)["values"] == {"reads of files": 6}
