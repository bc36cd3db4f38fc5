"""The page of trajectory analysis that worlds are built from: its programs, word for word, with only the imports changed."""

from __future__ import annotations

import asyncio
import dataclasses
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


def defaults(kind: Any) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(kind)}


def test_components_and_settings_are_those_of_the_page() -> None:
    """Each class has the fields of the page, with their defaults; Odograph's own fields come after them."""
    texts = {"turns_json": "[]", "total_turns": 0, "total_tokens": 0, "duration_seconds": 0.0, "outcome": ""}
    rest = {"tags_json": "[]", "metadata_json": "{}"}
    assert defaults(worlds.Trajectory) == {"trajectory_id": "", "source": "", **texts, **rest}
    label = {"technique": "", "description": "", "value": "", "score": 0.0, "rationale": "", "sampled": True}
    assert list(defaults(worlds.Label).items())[:6] == list(label.items())
    hints = {f.name: f.type for f in dataclasses.fields(worlds.Turn)}
    kinds = ("str", "str", "str | None", "str | None", "str | None", "int", "float", "str | None", "dict[str, Any]")
    names = ("role", "content", "tool_name", "tool_input", "tool_output", "tokens", "duration_ms", "error", "metadata")
    assert hints == dict(zip(names, kinds, strict=True)) and not issubclass(worlds.Turn, worlds.Component)
    sampling = {"max_trajectories": 0, "min_turns": 0, "max_turns": 0, "require_tags": None, "exclude_tags": None}
    assert list(defaults(worlds.SamplingConfig).items())[:6] == [*sampling.items(), ("outcome_filter", None)]
    assert list(defaults(worlds.LabelingConfig).items())[:2] == [("model", "gpt-5-mini"), ("max_output_tokens", 512)]
    stages = (worlds.SamplingProcessor, worlds.LabelingProcessor, worlds.ScoringProcessor)
    assert [stage.priority for stage in stages] == [10, 20, 30]
    assert PAGE.count("| 10 |") == PAGE.count("| 20 |") == PAGE.count("| 30 |") == 1  # the table of processors


def test_a_fork_compares_two_descriptions_of_a_technique(tmp_path: Path) -> None:
    """The label of a fork is swapped for one with another description: the fork asks about it alone, and both worlds can be queried
    at any tick. Stages run by their priority, however they are listed."""
    with (
        worlds.SyncWorldRuntime() as runtime,
        JudgeServer(lambda text: verdict("good", 0.2 if "STRICT" in text else 7.0)) as server,
    ):
        config = worlds.LabelingConfig(base_url=server.url, api_key="x", progress=False)
        stages = [worlds.ScoringProcessor(), worlds.LabelingProcessor(), worlds.SamplingProcessor()]
        world = runtime.world("w", worlds.StorageConfig(tmp_path), stages, [worlds.SamplingConfig(), config])
        sessions = [worlds.Trajectory.from_turns(f"t{n}", [worlds.Turn("user", f"hello {n}")]) for n in range(2)]
        ids = world.spawn_many([(one, worlds.Label(technique="k", description="LAX")) for one in sessions])
        world.step()
        fork = world.fork("strict")
        fork.update(ids[0], worlds.Label(technique="k", description="STRICT"))
        fork.step()
        assert len(server) == 3

        def scores(of: Any, tick: int) -> list[float]:
            return [row["label__score"] for row in of.query(worlds.Trajectory, worlds.Label, tick=tick).to_pylist()]

        assert (scores(world, 0), scores(fork, 0), scores(fork, 1)) == ([1.0, 1.0], [1.0, 1.0], [0.2, 1.0])
        world.step()
        assert scores(world, 1) == [1.0, 1.0] and len(server) == 3
