"""Batches: bounded, failing apart, with groups of attempts, going on where they stopped; here and on Ray."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, InvalidInput, Runners, Task
from tests.llm_server import Answer, LLMServer
from tests.waiting import until

from .scaffold import add, asks, turns


def model(request: dict[str, Any]) -> Answer:
    """Adds one, with the tool; refuses what is odd enough."""
    text = request["messages"][0]["content"]
    if text == "bad":
        return Answer(status=400, text="no such thing")
    if turns(request) == 0:
        return asks(("add", {"a": int(text), "b": 1}))
    return Answer(text=request["messages"][-1]["content"])


def test_a_thousand_tasks_at_64(store: odograph.Store) -> None:
    """1,000 tasks, never more than 64 at once, each with its own answer; what fails fails alone, in its place."""
    lock, at_once, most = threading.Lock(), 0, 0

    def counted(request: dict[str, Any]) -> Answer:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002)
        with lock:
            at_once -= 1
        return model(request)

    with LLMServer(counted) as server:
        agent = Agent(name="a", model="m", base_url=server.url + "/v1", tools=[add], max_retries=0)
        tasks = [Task(input="bad" if n % 100 == 7 else str(n), agent=agent) for n in range(1000)]
        seen: list[tuple[int, int]] = []
        responses = asyncio.run(
            Runners.run_task(tasks, store=store, max_concurrency=64, progress=lambda done, total: seen.append((done, total)))
        )
    assert list(responses) == [t.id for t in tasks]
    for n, task in enumerate(tasks):
        response = responses[task.id]
        if n % 100 == 7:
            assert response.status == "failed" and "no such thing" in response.msg
        else:
            assert response.answer == str(n + 1)
    assert 8 < most <= 64 and seen[-1] == (1000, 1000) and len(store) == 1000
    assert sum(1 for _ in store.summaries(status="completed")) == 990


def test_attempts_are_a_group(store: odograph.Store) -> None:
    """`attempts=3` tries each task three times: a list of responses, and a group in the store."""
    with LLMServer(model) as server:
        agent = Agent(model="m", base_url=server.url + "/v1", tools=[add])
        tasks = [Task(input="1", agent=agent, id="one"), Task(input="2", agent=agent, id="two", group="mine")]
        responses = asyncio.run(Runners.run_task(tasks, store=store, attempts=3, max_concurrency=2))
    assert [r.answer for r in responses["one"]] == ["2"] * 3 and len({r.trajectory_id for r in responses["one"]}) == 3
    assert sum(1 for _ in store.trajectories(group="one")) == 3 and sum(1 for _ in store.trajectories(group="mine")) == 3
    assert sorted(s.attempt for s in store.summaries(task_id="one")) == [0, 1, 2]


def test_resume_skips_what_is_done(store: odograph.Store) -> None:
    """`resume=True` does again only what failed; done attempts come from the store."""
    broken = True

    def sometimes(request: dict[str, Any]) -> Answer:
        return Answer(status=400) if broken and request["messages"][0]["content"] == "2" else model(request)

    with LLMServer(sometimes) as server:
        agent = Agent(model="m", base_url=server.url + "/v1", tools=[add], max_retries=0)

        def tasks() -> list[Task]:
            return [Task(input=str(n), agent=agent, id=f"t{n}") for n in range(4)]

        first = asyncio.run(Runners.run_task(tasks(), store=store))
        asked, broken = len(server.requests), False
        second = asyncio.run(Runners.run_task(tasks(), store=store, resume=True))
        assert len(server.requests) == asked + 2
    assert [r.status for r in first.values()] == ["completed", "completed", "failed", "completed"]
    assert [r.answer for r in second.values()] == ["1", "2", "3", "4"]
    assert second["t0"].trajectory_id == first["t0"].trajectory_id and len(second["t0"].trajectory) == 2
    assert len(store) == 5


SCRIPT = """
import asyncio, signal, sys
import odograph
from odograph import Agent, Runners, Task
from tests.runtime.scaffold import add
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
url, where = sys.argv[1:]
agent = Agent(model="m", base_url=url + "/v1", tools=[add])
tasks = [Task(input=str(n), agent=agent, id=f"t{n}") for n in range(60)]
with odograph.open(where) as store:
    done = asyncio.run(Runners.run_task(tasks, store=store, max_concurrency=4, resume=True))
    print(",".join(r.answer for r in done.values()))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_batch_that_is_stopped_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C keeps what is done, as a kill does; the next run does the rest, and no tool that gave its result twice."""
    stopped = threading.Event()

    def slow(request: dict[str, Any]) -> Answer:
        if len(server.requests) > 60:  # half of all: the first program can't do the rest before it is stopped
            stopped.wait()
        return model(request)

    store = tmp_path / "store"
    env = {**os.environ, "PYTHONPATH": f"src:{Path(__file__).parents[2]}"}
    with LLMServer(slow) as server:
        command = [sys.executable, "-c", SCRIPT, server.url, str(store)]
        first = subprocess.Popen(command, env=env, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        until(lambda: len(server.requests) > 60, first)
        first.send_signal(how)
        first.communicate()
        stopped.set()
        assert first.returncode != 0
        with odograph.open(store) as opened:
            before = {s.task_id: s.id for s in opened.summaries(status="completed")}
            states = {s.status for s in opened.summaries()}
        assert 5 < len(before) < 60 and states == {"completed", "cancelled" if how is signal.SIGINT else "unterminated"}
        second = subprocess.run(command, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert second.stdout.strip() == ",".join(str(n + 1) for n in range(60))
    with odograph.open(store) as opened:
        after = list(opened.summaries())
        assert len(after) == 60 and {s.status for s in after} == {"completed"}
        assert {s.task_id: s.id for s in after if s.task_id in before} == before
        assert all(len(t.actions) == 1 or t.actions[0].ok is False for t in opened.trajectories())


def test_what_is_asked_of_a_batch_is_checked_first(store: odograph.Store) -> None:
    """Numbers, runners and tasks that can't be: nothing runs."""
    task = Task(input="1", agent=Agent(model="m", base_url="http://127.0.0.1:9/v1"))
    for wrong, why in (
        ({"max_concurrency": 0}, "max_concurrency is a whole number from 1, not 0"),
        ({"attempts": -1}, "attempts is"),
        ({"runner": "slurm"}, "no runner 'slurm'; there are: local, ray"),
    ):
        with pytest.raises(InvalidInput, match=why):
            asyncio.run(Runners.run_task(task, store=store, **wrong))
    with pytest.raises(InvalidInput, match="a Task was expected, found str"):
        asyncio.run(Runners.run_task([task, "x"], store=store))  # type: ignore[list-item]
    assert len(store) == 0 and asyncio.run(Runners.run_task([], store=store)) == {}


@pytest.mark.slow
def test_a_batch_on_ray(tmp_path: Path) -> None:
    """The same batch on a Ray cluster of this machine: all in one store, failures in their place, resumable."""
    ray = pytest.importorskip("ray")
    with LLMServer(model) as server, odograph.open(tmp_path / "store") as store:
        agent = Agent(name="a", model="m", base_url=server.url + "/v1", tools=[add], max_retries=0)
        tasks = [Task(input="bad" if n == 3 else str(n), agent=agent, id=f"t{n}") for n in range(20)]
        try:
            os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
            ray.init(
                num_cpus=2,
                log_to_driver=False,
                include_dashboard=False,
                runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}},
            )
            done = asyncio.run(Runners.run_task(tasks, store=store, runner="ray", max_concurrency=8, attempts=2))
            asked = len(server.requests)
            again = asyncio.run(Runners.run_task(tasks, store=store, runner="ray", max_concurrency=8, attempts=2, resume=True))
        finally:
            ray.shutdown()
        assert [r.answer for r in done["t5"]] == ["6", "6"] and [r.status for r in done["t3"]] == ["failed", "failed"]
        assert len(done["t5"][0].trajectory) == 2 and len(server.requests) == asked + 2 and again["t5"][1].answer == "6"
        assert len(list((tmp_path / "store" / "journal").glob("*.jsonl"))) >= 2
        done["t5"][0].reward(1.0, name="good")
        assert store.trajectory(done["t5"][0].trajectory_id).reward == 1.0
