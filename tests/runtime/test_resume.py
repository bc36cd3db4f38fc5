"""Going on from the store: after a stop, after SIGKILL at any step, as a fork; replays; differences."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, InvalidInput, NotFound, Runners, Task
from odograph.cli import main as cli
from tests.llm_server import Answer, LLMServer
from tests.waiting import until

from .scaffold import PATHS, add, asks, by_turn, sent, turns

ROOT = Path(__file__).parents[2]


def counts(n: int) -> Any:
    """A model that adds one n times, then says the sum."""
    return by_turn(*(asks(("add", {"a": i, "b": 1}), id=f"c{i}") for i in range(n)), Answer(text=f"{n}"))


def agent(server: LLMServer, **more: Any) -> Agent:
    base = server.url + PATHS[more.get("dialect", "openai.chat")]
    return Agent(**{"name": "counter", "model": "m", "base_url": base, "system_prompt": "Count.", "tools": [add]} | more)


def done(store: odograph.Store, task: Task) -> Any:
    return asyncio.run(Runners.run_task(task, store=store))[task.id]


STEPPER = """
import asyncio, sys
import odograph
from odograph import Agent, Runners, Task
from tests.runtime.scaffold import add
url, where, dialect = sys.argv[1:]
async def slow(a: int, b: int) -> int:
    print("tool", flush=True)
    await asyncio.sleep(0.05)
    return a + b
slow.__name__ = "add"
agent = Agent(name="counter", model="m", base_url=url, system_prompt="Count.", tools=[slow], dialect=dialect)
async def main():
    async for finished, _, _ in Runners.steps(Task(input="count", agent=agent, id="it"), store=odograph.open(where)):
        print("step", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("dialect", list(PATHS))
@pytest.mark.parametrize("lines", [0, 1, 2, 3, 6])
def test_a_run_killed_anywhere_is_resumed(tmp_path: Path, dialect: str, lines: int) -> None:
    """SIGKILL before, within or after any step: what was done can be looked at, and goes on in another process: no answered
    question is asked again, and the conversation is the one that an undisturbed run has."""
    where = str(tmp_path / "store")
    env = {**os.environ, "PYTHONPATH": f"src:{ROOT}"}
    killed_it = threading.Event()

    def model(request: dict[str, Any]) -> Answer:
        if turns(request) == 4:
            killed_it.wait()  # it is killed before its end, however late that is
        return counts(4)(request)

    with LLMServer(model) as server:
        url = server.url + PATHS[dialect]
        process = subprocess.Popen(
            [sys.executable, "-c", STEPPER, url, where, dialect], env=env, cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout
        for _ in range(lines):
            process.stdout.readline()
        until(lambda: server.requests, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        killed_it.set()
    with LLMServer(counts(4)) as server:  # another one: what the killed process had sent may still be on its way
        with odograph.open(where) as store:
            killed = next(store.trajectories())
            assert killed.status == "unterminated"
            answered = sum(1 for c in killed.llm_calls if c.choices)
            task = Runners.resume(store, killed.id, agent=agent(server, dialect=dialect))
            assert task.id == "it"
            response = asyncio.run(Runners.finish(task))
        bodies = [body for _, body in server.requests]
    assert response.answer == "4" and response.success, response.msg
    assert len(bodies) == 5 - answered
    t = response.recorded
    assert [c.text for c in t.llm_calls][-1] == "4" and [a.result for a in t.actions if a.ok] == [1, 2, 3, 4]
    with LLMServer(counts(4)) as server, odograph.open("memory:") as other:
        done(other, Task(input="count", agent=agent(server, dialect=dialect)))
        assert bodies == [body for _, body in server.requests][answered:]
    assert not [f for f in odograph.validate(t).findings if f.severity == "error"]


def test_stopped_half_way_and_rebuilt_from_the_store(tmp_path: Path) -> None:
    """Without an agent at hand it is rebuilt from what was recorded: its functions are imported, its key comes from outside."""
    with LLMServer(counts(3)) as server:
        with odograph.open(tmp_path / "s") as store:
            task = Task(input="count", agent=agent(server, params={"temperature": 0.5}), tags=["x"], conf={"max_steps": 9})
            asyncio.run(Runners.step(task, store=store))
            asyncio.run(Runners.step(task))
        with odograph.open(tmp_path / "s") as store:
            id = next(store.trajectories()).id
            again = Runners.resume(store, id)
            assert again.conf.max_steps == 9 and again.agent.params == {"temperature": 0.5}  # type: ignore[union-attr]
            _, observation, response = asyncio.run(Runners.step(again))
            assert [r["content"] for r in observation] == ["3"] and len(response.trajectory) == 3
            response.reward(0.5)
            assert store.trajectory(id).steps[2].reward == 0.5
            finished, _, response = asyncio.run(Runners.step(again))
            assert finished and response.answer == "3" and [i["meta"]["step"] for i in response.trajectory] == [0, 1, 2, 3]
            with pytest.raises(InvalidInput, match="is completed; there is nothing to resume: fork the trajectory"):
                Runners.resume(store, id)
        assert [len(m) for m in sent(server)] == [2, 4, 6, 8] and server.requests[3][1]["temperature"] == 0.5


def test_what_can_not_be_resumed_says_why(tmp_path: Path) -> None:
    """An unknown id, a tool that can't be imported, a run that another process is at."""

    def local(a: int) -> int:
        return a

    with LLMServer(by_turn(asks(("local", {"a": 1})), Answer(text="end"))) as server, odograph.open(tmp_path / "s") as store:
        task = Task(input="x", agent=agent(server, tools=[local]))
        asyncio.run(Runners.step(task, store=store))
        id = task._session.run.id  # type: ignore[union-attr]
        with pytest.raises(NotFound):
            Runners.resume(store, "nope")
        with pytest.raises(NotFound, match=r"has a tool '\(a local function\)' that can't be had here.*give agent="):
            Runners.resume(store, id)
        with odograph.open(tmp_path / "s") as other, pytest.raises(InvalidInput, match="is being run by another process"):
            Runners.resume(other, id, agent=task.agent)
        second = Runners.resume(store, id, agent=task.agent)
        with pytest.raises(InvalidInput, match="was resumed as another Task"):
            asyncio.run(Runners.step(task))
        asyncio.run(Runners.reset(task))  # its trajectory is the other object's now, and goes on
        assert store.trajectory(id).status == "running"
        assert asyncio.run(Runners.finish(second)).answer == "end"


def test_a_kill_while_another_agent_is_at_work(tmp_path: Path) -> None:
    """What a sub-agent had begun is closed as interrupted, and done again."""
    script = """
import asyncio, os, sys, signal
import odograph
from odograph import Agent, Runners, Task
def die() -> str:
    "Dies."
    os.kill(os.getpid(), signal.SIGKILL)
about = {"model": "m", "base_url": sys.argv[1] + "/v1"}
helper = Agent(name="helper", system_prompt="helper", tools=[die], **about)
boss = Agent(name="boss", system_prompt="boss", tools=[helper], **about)
asyncio.run(Runners.run_task(Task(input="x", agent=boss), store=odograph.open(sys.argv[2])))
"""

    def die() -> str:
        """Dies."""
        return "alive"

    def model(request: dict[str, Any]) -> Answer:
        name = request["messages"][0]["content"]
        if request["messages"][-1]["role"] == "tool":
            return Answer(text=f"{name} is done")
        return asks(("helper", {"input": "y"})) if name == "boss" else asks(("die", {}))

    with LLMServer(model) as server:
        command = [sys.executable, "-c", script, server.url, str(tmp_path / "s")]
        assert subprocess.run(command, env={**os.environ, "PYTHONPATH": "src"}, cwd=ROOT, check=False).returncode == -9
        about = {"model": "m", "base_url": server.url + "/v1"}
        boss = Agent(
            name="boss", system_prompt="boss", tools=[Agent(name="helper", system_prompt="helper", tools=[die], **about)], **about
        )
        with odograph.open(tmp_path / "s") as store:
            response = asyncio.run(Runners.finish(Runners.resume(store, next(store.trajectories()).id, agent=boss)))
            t = response.recorded
    assert response.answer == "boss is done"
    assert [(a.name, a.ok) for a in t.actions] == [("helper", False), ("die", True), ("helper", True)]
    assert t.actions[0].error["type"] == "interrupted"
    assert not [f for f in odograph.validate(t).findings if f.severity == "error"]


def test_forks(store: odograph.Store) -> None:
    """From any step with another model, another agent, or other messages: a trajectory of its own that knows its parent."""
    with LLMServer(counts(3)) as server:
        whole = done(store, Task(input="count", agent=agent(server), group="g"))
        parent = whole.recorded
        original = [body for _, body in server.requests]
        for step in range(4):
            before = len(server.requests)
            fork = asyncio.run(Runners.finish(odograph.fork(parent.id, step, model="other", reason="to see", store=store)))
            bodies = [body for _, body in server.requests[before:]]
            assert [b["messages"] for b in bodies] == [b["messages"] for b in original[step:]] and bodies[0]["model"] == "other"
            t = fork.recorded
            assert (t.start.fork.trajectory, t.start.fork.step, t.start.fork.reason) == (parent.id, step, "to see")
            assert [s.index for s in t.steps] == list(range(step, 4)) and t.group == "g" and t.model == "other"
            assert not [f for f in odograph.validate(t).findings if f.severity == "error"]
        before = len(server.requests)
        edited = [{"role": "system", "content": "Count."}, {"role": "user", "content": "count down"}]
        fork = asyncio.run(Runners.finish(odograph.fork(parent.id, at_step=2, messages=edited, agent=agent(server), store=store)))
        assert server.requests[before][1]["messages"][-1] == {"role": "user", "content": "count down"}
        changed = agent(server, dialect="anthropic.messages", system_prompt="Be someone else.")
        assert asyncio.run(Runners.finish(odograph.fork(parent, at_step=2, agent=changed, store=store))).answer == "3"
        path, body = server.requests[-1]
        assert path == "/v1/messages" and body["system"] == "Be someone else." and len(body["messages"]) == 7
    with pytest.raises(InvalidInput, match=r"no step 9 of trajectory .* there are 0 to 4"):
        odograph.fork(parent.id, 9, store=store)
    with pytest.raises(TypeError, match="an agent has no 'colour'"):
        odograph.fork(parent.id, 1, colour="red", store=store)


def test_replay_says_whether_code_still_does_the_same(store: odograph.Store) -> None:
    """Without a model: nothing differs, or the first question that is asked differently, and what was recorded."""
    used: list[int] = []

    def add(a: int, b: int) -> int:
        """Adds two numbers.

        Args:
            a: the first
            b: the second
        """
        used.append(a)
        return a + b

    with LLMServer(counts(2)) as server:
        response = done(store, Task(input="count", agent=agent(server, tools=[add])))
        asked = len(server.requests)
        same = asyncio.run(odograph.replay(response.trajectory_id, agent(server, tools=[add]), store=store))
        assert (same.same, same.calls, same.of, same.divergence, same.answer) == (True, 3, 3, None, "2")
        assert used == [0, 1]
        live = asyncio.run(odograph.replay(response.trajectory_id, agent(server, tools=[add]), tools="live", store=store))
        assert live.same and used == [0, 1, 0, 1]
        other = asyncio.run(
            odograph.replay(response.trajectory_id, agent(server, tools=[add], system_prompt="Count!"), store=store)
        )
        assert not other.same and other.divergence.call == 0 and other.divergence.path == "messages[0].content"
        assert (other.divergence.asked, other.divergence.recorded) == ("Count!", "Count.")

        def wrong(a: int, b: int) -> int:
            """Adds two numbers.

            Args:
                a: the first
                b: the second
            """
            return a - b

        wrong.__name__ = "add"
        tools = asyncio.run(odograph.replay(response.trajectory_id, agent(server, tools=[wrong]), tools="live", store=store))
        assert (tools.divergence.call, tools.divergence.step, tools.divergence.path) == (1, 1, "messages[3].content")
        assert (tools.divergence.asked, tools.divergence.recorded) == ("-1", "1")
        short = asyncio.run(odograph.replay(response.trajectory_id, lambda input: "2", store=store))
        assert not short.same and "was recorded and is not asked" in str(short.divergence)
        assert len(server.requests) == asked and len(store) == 1


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`odograph fork`, `replay` and `diff`: for people, as JSON, with exit statuses, errors in one line."""
    where = str(tmp_path / "s")
    file = tmp_path / "mine.py"

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli(["--store", where, *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    with LLMServer(counts(2)) as server:
        with odograph.open(where) as store:
            id = done(store, Task(input="count", agent=agent(server))).trajectory_id
        file.write_text(
            "from odograph import Agent\nfrom tests.runtime.scaffold import add\n"
            f"mine = Agent(name='counter', model='mine', base_url='{server.url}/v1', system_prompt='Count.', tools=[add])\n"
        )
        assert run("replay", id)[0] == 0
        status, out, _ = run("replay", id, "--agent", f"{file}:mine", "--json")
        found = json.loads(out)
        assert status == 1 and found["divergence"]["path"] == "model" and found["divergence"]["recorded"] == "m"
        status, out, _ = run("fork", id, "--at-step", "1", "--agent", f"{file}:mine", "--json")
        forked = json.loads(out)
        assert status == 0 and forked["answer"] == "2" and forked["steps"] == 2
        assert "step 1 · at_step 0 " in run("show", forked["trajectory"])[1] and "at_step" not in run("show", id)[1]
        (tmp_path / "m.json").write_text('[{"role": "user", "content": "hello"}]')
        status, out, _ = run("fork", id, "--at-step", "1", "--messages", str(tmp_path / "m.json"), "--model", "other")
        assert status == 0 and "completed after 3 steps" in out and server.requests[-1][1]["model"] == "other"
    status, out, _ = run("diff", id, forked["trajectory"])
    assert status == 1 and "model: m | mine" in out and "step 1 | 1 · counter: the same" in out
    with odograph.open(where) as store:
        last = [s.id for s in store.summaries()][-1]
        store.append(last).reward(1.0)
    status, out, _ = run("diff", id, last, "--json")
    found = json.loads(out)
    assert status == 1 and found["first"] == 0 and found["whole"]["reward"] == [None, 1.0]
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [(None, 1), (1, 2), (2, 3)]
    assert found["pairs"][0]["differs"] == ["missing"] and not found["pairs"][1]["differs"]
    assert "(the first difference)" in run("diff", id, last)[1] and run("diff", id, id)[:2] == (0, run("diff", id, id)[1])
    for arguments, why in (
        (("fork", id, "--at-step", "7"), "there are 0 to 3"),
        (("fork", id, "--agent", "nothing"), "FILE.py:NAME"),
        (("fork", id, "--messages", str(file)), "is no JSON"),
        (("replay", "zzz"), "zzz"),
    ):
        status, _, err = run(*arguments)
        assert status in (1, 2) and why in err and len(err.strip().splitlines()) == 1
