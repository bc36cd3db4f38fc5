"""Laws of running that a small change could break unseen: where a limit of steps is told, and that no step is taken beyond it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import odograph
from odograph import Agent, Runners, Task, TaskConfig
from tests.llm_server import LLMServer

from .scaffold import add, asks, turns


def endless() -> LLMServer:
    """A model that asks for one more tool, always."""
    return LLMServer(lambda request: asks(("add", {"a": 1, "b": turns(request)}), id=f"c{turns(request)}"))


def agent(server: LLMServer) -> Agent:
    return Agent(name="counter", model="m", base_url=server.url + "/v1", tools=[add], max_retries=0)


def test_the_last_step_says_that_it_was_the_last(store: odograph.Store) -> None:
    """With `max_steps=2` the second step comes back as the end, with its observation: nobody has to ask for a third to hear so."""
    with endless() as server:
        task = Task(input="x", agent=agent(server), conf=TaskConfig(max_steps=2))
        first = asyncio.run(Runners.step(task, store=store))
        second = asyncio.run(Runners.step(task))
        assert (first[0], first[2].status) == (False, "running")
        assert (second[0], second[2].status, second[2].msg) == (True, "truncated", "no end within 2 steps")
        assert [result["content"] for result in second[1]] == ["2"]
        assert len(server.requests) == 2
        assert store.trajectory(second[2].trajectory_id).status == "truncated"


def test_a_run_that_is_resumed_at_its_limit_takes_no_step(tmp_path: Path) -> None:
    """Steps of before count: a run that is resumed with as many steps behind it as it may take ends without asking the model."""
    with endless() as server:
        with odograph.open(tmp_path) as store:
            task = Task(input="x", agent=agent(server))
            for _ in range(2):
                _, _, response = asyncio.run(Runners.step(task, store=store))
        with odograph.open(tmp_path) as store:
            again = Runners.resume(store, response.trajectory_id, agent=agent(server), conf=TaskConfig(max_steps=2))
            finished, _, response = asyncio.run(Runners.step(again))
            assert (finished, response.status) == (True, "truncated")
            assert len(store.trajectory(response.trajectory_id).steps) == 2
        assert len(server.requests) == 2
