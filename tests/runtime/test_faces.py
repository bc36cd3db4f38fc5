"""Faces for people: sync, streams of events, results as they come, memory across tasks, context of tools."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, InvalidInput, Runners, Task, ToolContext
from tests.llm_server import Answer, LLMServer

from .scaffold import PATHS, add, asks, by_turn


def agent(server: LLMServer, dialect: str = "openai.chat", **settings: Any) -> Agent:
    url = server.url + PATHS[dialect]
    return Agent(model="m", base_url=url, api_key="x", dialect=dialect, **{"tools": [add], "max_retries": 0, **settings})


def looker() -> LLMServer:
    return LLMServer(by_turn(asks(("add", {"a": 1, "b": 2}), text="let me see"), Answer(text="three")))


def test_sync_faces_work_beside_a_running_loop(store: odograph.Store) -> None:
    """In a script, in a notebook's running loop, and step by step: the run keeps its connections between calls."""
    with looker() as server:
        own = agent(server)
        assert Runners.sync_run("q", own, store=store).answer == "three"

        async def notebook() -> None:
            task = Task("q", own)
            assert Runners.sync_run_task(task, store=store)[task.id].answer == "three"
            stepped = Task("q", own)
            first, last = Runners.sync_step(stepped, store=store), Runners.sync_step(stepped)
            assert (first[0], last[0]) == (False, True) and last[2].answer == "three"
            assert (await Runners.run("q", own, store=store)).answer == "three"

        asyncio.run(notebook())

    def inside(question: str) -> Any:
        return Runners.sync_run("q", lambda q: "in", store=store).answer

    assert Runners.sync_run("q", inside, store=store).answer == "in"  # a thread of its own


def test_a_stream_of_what_happens(store: odograph.Store) -> None:
    """Steps, pieces of text, answers, tools and the end, of an agent and of code; leaving early cancels the run."""

    async def main() -> None:
        with looker() as server:
            events = [e async for e in Runners.stream(Task("q", agent(server)), store=store)]
            kinds = [e.kind for e in events]
            assert kinds.count("step") == 2 and kinds.count("answer") == 2 and kinds[-1] == "end"
            assert "".join(e.data for e in events if e.kind == "text") == "let me seethree"
            (tool,) = [e for e in events if e.kind == "tool"]
            assert tool.data == {"name": "add", "arguments": {"a": 1, "b": 2}, "result": 3, "ok": True, "error": None}
            assert events[-1].data.answer == "three" and kinds.index("tool") < kinds.index("answer", kinds.index("tool"))
            async with aclosing(Runners.stream(Task("q", agent(server), id="left"), store=store, text=False)) as stream:
                assert (await anext(stream)).kind == "step"
            (left,) = store.summaries(task_id=["left"])
            assert left.status == "cancelled"

        def broken(question: str) -> str:
            odograph.log_context("kb", "x")
            raise ValueError("no")

        events = [e async for e in Runners.stream(Task("q", broken), store=store)]
        assert events[-1].data.status == "failed"

    asyncio.run(main())


def test_results_as_they_come_with_rewards(store: odograph.Store) -> None:
    """The fast one first; each is rewarded when it is over; a reward function that fails costs the reward alone."""

    async def main() -> None:
        async def sleeper(seconds: float) -> float:
            await asyncio.sleep(seconds)
            return seconds

        def reward(t: Any) -> float:
            if t.answer == 0.0:
                raise KeyError("zero")
            return 1.0 - t.answer

        tasks = [Task(s, sleeper) for s in (0.4, 0.0, 0.1)]
        found = [r async for r in Runners.results(tasks, store=store, reward=reward)]
        assert [r.answer for r in found] == [0.0, 0.1, 0.4]
        assert [r.recorded.reward for r in found] == [None, 0.9, 0.6]
        ((_, response),) = (await Runners.run_task(Task(0.25, sleeper), store=store, reward=reward)).items()
        assert response.recorded.rewards["reward"] == 0.75

    asyncio.run(main())


@pytest.mark.parametrize("dialect", PATHS)
def test_a_session_is_remembered(dialect: str, store: odograph.Store) -> None:
    """A second task of a session goes on with the first's conversation, edits included, and another session knows nothing of it."""

    def loud(answer: Any) -> None:
        if answer.text == "three":
            answer.edit(on="text").rewrite("THREE", reason="loud")

    with looker() as server:
        own = agent(server, dialect, on_answer=loud)
        Runners.sync_run("how much?", own, store=store, session="a")
        Runners.sync_run("and now?", own, store=store, session="a")
        body = str(server.requests[2][1])
        assert all(text in body for text in ("how much?", "let me see", "THREE", "and now?")) and "three" not in body
        Runners.sync_run("hello", own, store=store, session="b")
        assert "how much?" not in str(server.requests[-2][1])
    with pytest.raises(InvalidInput, match="session"):
        asyncio.run(Runners.step(Task("q", lambda q: q, session="a"), store=store))


@pytest.mark.parametrize("dialect", PATHS)
def test_context_and_choice_of_tools(dialect: str, store: odograph.Store) -> None:
    """A tool gets the run's context, which the model does not see; the choice of tools holds until one was used."""

    def whoami(city: str, about: ToolContext) -> str:
        """Says who asks."""
        about.action.note({"seen": city})
        return f"{about.context['user']} in {city}, asked by {about.agent}"

    with LLMServer(by_turn(asks(("whoami", {"city": "Bonn"})), Answer(text="end"))) as server:
        own = agent(server, dialect, tools=[whoami], tool_choice="required", name="solver")
        response = Runners.sync_run("q", own, store=store, context={"user": "alice"})
        assert response.recorded.actions[0].result == "alice in Bonn, asked by solver"
        first, second = (body for _, body in server.requests)
        assert first["tool_choice"] == ({"type": "any"} if dialect == "anthropic.messages" else "required")
        assert "tool_choice" not in second and "about" not in str(first["tools"])


def test_a_log_of_steps_and_where_the_store_is(tmp_path: Path) -> None:
    """On request each answer and tool is a line on stderr; a program that names no store is told once where it is."""
    with looker() as server:
        code = f"""
from odograph import Agent, Runners, TaskConfig
def add(a: int, b: int) -> int:
    "Adds."
    return a + b
agent = Agent(model="m", base_url={server.url + "/v1"!r}, api_key="x", tools=[add])
for n in range(2):
    print(Runners.sync_run("q", agent, TaskConfig(log=n == 0)).answer)
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert done.stdout == "three\nthree\n" and lines[0].startswith("recording into") and str(tmp_path) in lines[0]
    assert lines[1:] == ['agent 0: let me see; add({"a": 1, "b": 2})', "agent 0: add -> 3", "agent 1: three"]
