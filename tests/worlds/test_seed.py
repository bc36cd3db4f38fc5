"""The page of trajectory analysis that worlds are built from: its programs, word for word, with only the imports changed."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("daft")

from odograph import worlds

from .judge_server import JudgeServer, verdict

PAGE = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text()

TRAJECTORY = """
trajectory = Trajectory.from_turns(
trajectory_id="session-abc123",
turns=[
Turn(role="user", content="Fix the login bug", tokens=12),
Turn(role="assistant", content="I'll check auth.py", tokens=45),
Turn(role="tool_call", tool_name="Read",
tool_input='{"path": "auth.py"}', content="", tokens=8),
Turn(role="tool_result", content="def login(): ...", tokens=120),
Turn(role="assistant", content="Found the bug, applying fix", tokens=200),
],
source="claude-code",
outcome="success: fixed null check in login handler",
tags=["bugfix", "auth"],
)
"""
WIRING = """
async with ArchetypeRuntime() as runtime:
world = runtime.world(
"trajectory-eval",
storage=StorageConfig(uri="./trajectory_data", namespace="trajectories"),
processors=[SamplingProcessor(), LabelingProcessor(), ScoringProcessor()],
resources=[
SamplingConfig(min_turns=3),
LabelingConfig(model="gpt-5-mini"),
],
)
for trajectory in trajectories:
for technique, description in label_specs:
label = Label(technique=technique, description=description)
await world.spawn(trajectory, label)
await world.step(config=RunConfig(num_steps=1, prefer_live_reads=True))
df = await world.query(Trajectory, Label)
rows = df.collect().to_pylist()
"""
FORK = """
fork = await world.fork(
"strict-eval",
storage=StorageConfig(uri="./trajectory_data", namespace="trajectories"),
)
fork.resources.insert(SamplingConfig(min_turns=8))
await fork.step(config=RunConfig(num_steps=1, prefer_live_reads=True))
"""


def bare(text: str) -> str:
    """Code without its layout, which a formatter may choose."""
    return re.sub(r",(?=[)\]])", "", re.sub(r"\s+", "", text))


def test_the_page_has_the_programs_word_for_word() -> None:
    """docs/worlds.md has the three programs with no word changed."""
    for program in (TRAJECTORY, WIRING, FORK):
        assert bare(program) in bare(PAGE)


def test_the_programs_do_what_their_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step labels each (trajectory, technique) that is sampled, once; unsampled rows stay, marked; the fork has its own
    sampling, keeps what it does not sample, and asks nothing again; both worlds are in one storage."""
    code = next(c for c in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "ArchetypeRuntime()" in c)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    short = 'Trajectory.from_turns("short", [Turn("user", "hi")])'
    code = code.replace("trajectories = [trajectory]", f"trajectories = [trajectory, {short}]")
    code = code.replace('["ok", "ok"]', '["ok", "ok", "skipped", "skipped"]')
    with JudgeServer(lambda text: verdict("good", 7.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        names: dict[str, Any] = {}
        exec(compile(textwrap.dedent(code), "worlds.md", "exec"), names)
        assert len(server) == 2
        assert {body["model"] for _, body in server.requests} == {"gpt-5-mini"}
        assert {body["max_completion_tokens"] for _, body in server.requests} == {512}
    rows = names["rows"]
    assert [row["label__score"] for row in rows] == [1.0, 1.0, None, None]
    assert [row["label__sampled"] for row in rows] == [True, True, False, False]
    assert {row["trajectory__total_tokens"] for row in rows} == {385, 0}
    assert set(rows[0]) >= {"world_id", "run_id", "entity_id", "tick", "is_active", "trajectory__turns_json", "label__rationale"}

    async def later() -> None:
        async with worlds.ArchetypeRuntime() as runtime:
            storage = worlds.StorageConfig(uri="./trajectory_data", namespace="trajectories")
            assert runtime.discover(storage) == ["strict-eval", "trajectory-eval"]
            fork = runtime.world("strict-eval", storage=storage)
            df = await fork.query(worlds.Trajectory, worlds.Label, tick=1)
            labels = [(row["label__sampled"], row["label__value"], row["label__status"]) for row in df.collect().to_pylist()]
            assert labels == [(False, "good", "ok")] * 2 + [(False, "", "skipped")] * 2

    asyncio.run(later())
