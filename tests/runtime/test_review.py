"""What a review of the runtime broke: tools of every kind, agents that reach each other, forks, resumes and replays of odd runs."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from typing import Any

import pytest

import odograph
from odograph import Agent, Runners, Task
from tests.llm_server import Answer, LLMServer

from .scaffold import add, asks, by_turn, turns


def agent(server: LLMServer, **more: Any) -> Agent:
    about = {"name": "boss", "system_prompt": "boss", "model": "m", "base_url": server.url + "/v1", "max_retries": 0}
    return Agent(**about | more)


def who(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"])


def run(store: odograph.Store, who: Agent, **more: Any) -> Any:
    task = Task(input="go", agent=who, **more)
    return asyncio.run(Runners.run_task(task, store=store))[task.id]


def clean(t: odograph.Trajectory) -> bool:
    return not [f for f in odograph.validate(t).findings if f.severity == "error"]


def times(a: int, b: int) -> int:
    """Multiplies."""
    return a * b


def lines(n: int) -> Any:
    yield from range(n)


async def more_lines(n: int) -> Any:
    for i in range(n):
        yield i


def nothing() -> None: ...


def half() -> str:
    return "a\ud800b"


async def gives_up() -> None:
    raise asyncio.CancelledError("mine")


async def leaves() -> None:
    sys.exit(3)


def many(items: list[int], n: int = 1) -> int:
    return sum(items) * n


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        (functools.update_wrapper(functools.partial(times, b=3), times), {"a": 2}, "6"),
        (functools.partial(times, 3), {"b": 2}, "6"),
        (lines, {"n": 3}, "[0,1,2]"),
        (more_lines, {"n": 3}, "[0,1,2]"),
        (nothing, {}, "null"),
        (nothing, "null", "null"),
        (half, {}, "a?b"),
        (gives_up, {}, "error: CancelledError: mine"),
        (leaves, {}, "error: SystemExit: 3"),
        (add, json.dumps('{"a": 1, "b": 2}'), "3"),
        (many, {"items": "[1, 2]", "n": "2"}, "6"),
        (add, "{broken", "error: the arguments are not JSON"),
    ],
)
def test_every_kind_of_tool(store: odograph.Store, tool: Any, arguments: Any, said: str) -> None:
    """What the model is told of a tool is the same in the run, where it is resumed from the store, and in a replay."""
    name = getattr(tool, "__name__", "times")
    with LLMServer(by_turn(asks((name, arguments)), Answer(text="end"))) as server:
        boss = agent(server, tools=[tool])
        response = run(store, boss)
        told = server.requests[-1][1]["messages"][-1]["content"]
        assert response.answer == "end" and told.startswith(said)
        task = Task(input="go", agent=boss)
        asyncio.run(Runners.step(task, store=store))
        asyncio.run(Runners.finish(Runners.resume(store, task._session.run.id, agent=boss)))  # type: ignore[union-attr]
        assert server.requests[-1][1]["messages"][-1]["content"] == told
        assert asyncio.run(odograph.replay(response.trajectory_id, boss, store=store)).same


def test_results_go_to_the_calls_that_they_are_of(store: odograph.Store) -> None:
    """Where a model gives two calls one id, and the second ends first: resumed and replayed, each has its own result."""

    async def wait(ms: int) -> str:
        await asyncio.sleep(ms / 1000)
        return f"{ms} ms"

    asked = asks(("wait", {"ms": 150}), ("wait", {"ms": 1}))
    for call in asked.tool_calls:
        call["id"] = "same"
    with LLMServer(by_turn(asked, Answer(text="end"))) as server:
        boss = agent(server, tools=[wait])
        response = run(store, boss)
        assert asyncio.run(odograph.replay(response.trajectory_id, boss, store=store)).same
        task = Task(input="go", agent=boss)
        asyncio.run(Runners.step(task, store=store))
        asyncio.run(Runners.finish(Runners.resume(store, task._session.run.id, agent=boss)))  # type: ignore[union-attr]
        assert [m["content"] for m in server.requests[-1][1]["messages"][-2:]] == ["150 ms", "1 ms"]


def test_tools_that_were_cancelled_are_used_again(store: odograph.Store) -> None:
    """A run that was cancelled among its tools is resumed with those that gave no result."""
    used: list[str] = []

    async def slow() -> str:
        used.append("slow")
        await asyncio.sleep(60 if len(used) == 1 else 0)
        return "s"

    with LLMServer(by_turn(asks(("slow", {})), Answer(text="end"))) as server:
        boss = agent(server, tools=[slow])

        async def main() -> Any:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(Runners.run_task(Task(input="go", agent=boss), store=store), 0.5)
            return await Runners.finish(Runners.resume(store, next(store.trajectories()).id, agent=boss))

        response = asyncio.run(main())
        assert response.answer == "end" and used == ["slow", "slow"]
        assert server.requests[-1][1]["messages"][-1]["content"] == "s" and len(server.requests) == 2
        assert asyncio.run(odograph.replay(response.trajectory_id, boss, store=store)).same


def test_a_sub_agent_that_is_asked_nothing(store: odograph.Store) -> None:
    """A call of an agent without its input is an error that the model sees, and costs no model."""
    with LLMServer(by_turn(asks(("helper", {"task": "x"})), Answer(text="end"))) as server:
        run(store, agent(server, tools=[agent(server, name="helper")]))
        assert server.requests[1][1]["messages"][-1]["content"] == "error: parameter 'input' is missing"
