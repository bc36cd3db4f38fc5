"""Running and stepping one task: the first seed's programs, and what they promise."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, InvalidInput, RunError, Runners, Task, TaskConfig, TaskRunMode
from odograph.types import End
from tests.llm_server import Answer, LLMServer
from tests.waiting import cut_off, time_passes

from .scaffold import add, asks, by_turn, sent

ROOT = Path(__file__).parents[2]
THREE = by_turn(asks(("add", {"a": 1, "b": 2})), asks(("add", {"a": 3, "b": 3}), id="second"), Answer(text="6"))


def solver(server: LLMServer, **more: Any) -> Agent:
    return Agent(
        **{"name": "solver", "model": "m", "base_url": server.url + "/v1", "api_key": "x", "tools": [add], "max_retries": 0}
        | more
    )


def interactive(server: LLMServer, **more: Any) -> Task:
    return Task(input="1+2+3?", agent=solver(server, **more), conf=TaskConfig(run_mode=TaskRunMode.INTERACTIVE))


def test_a_task_runs_to_its_answer(store: odograph.Store) -> None:
    """`run_task` gives answer and trajectory: what the model was sent, what it answered, what the tools gave back."""
    with LLMServer(THREE) as server:
        task = Task(input="1+2+3?", agent=solver(server, system_prompt="Add."))
        response = asyncio.run(Runners.run_task(task, store=store))[task.id]
        seen = sent(server)
    assert (response.answer, response.status, response.success) == ("6", "completed", True)
    items = json.loads(json.dumps(response.trajectory))
    assert [i["state"]["messages"] for i in items] == seen
    assert [len(m) for m in seen] == [2, 4, 6]
    assert [i["action"]["tool_calls"][0]["function"]["name"] for i in items[:2]] == ["add", "add"]
    assert [i["action"]["is_agent_finished"] for i in items] == [False, False, True]
    assert items[0]["action"]["results"][0]["content"] == 3 and items[0]["action"]["results"][0]["ok"] is True
    assert items[2]["action"]["content"] == "6" and items[2]["reward"] == {"score": None, "components": []}
    assert items[0]["meta"]["task_id"] == task.id and [i["meta"]["step"] for i in items] == [0, 1, 2]
    assert response.usage == {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30}
    t = response.recorded
    assert t.status == "completed" and t.answer == "6" and len(t.llm_calls) == 3 and len(t.actions) == 2
    assert [a.llm_call for a in t.actions] == [t.llm_calls[0].id, t.llm_calls[1].id]
    assert not [f for f in odograph.validate(t).findings if f.severity == "error"]


def test_step_keeps_its_state(store: odograph.Store) -> None:
    """Each step sees one growing conversation, and its response has all steps so far."""
    with LLMServer(THREE) as server:
        task = interactive(server)
        seen = []

        async def main() -> None:
            finished = False
            while not finished:
                finished, observation, response = await Runners.step(task, store=store)
                seen.append((finished, observation, len(response.trajectory), response.answer))

        asyncio.run(main())
        history = sent(server)
    assert [(f, n, a) for f, _, n, a in seen] == [(False, 1, None), (False, 2, None), (True, 3, "6")]
    assert [r["content"] for r in seen[0][1]] == ["3"] and seen[2][1] is None
    assert [len(m) for m in history] == [1, 3, 5] and all(a == b[: len(a)] for a, b in pairwise(history))
    assert sum(m["role"] == "user" for m in history[-1]) == 1


def test_stepping_after_the_end_gives_the_end_again(store: odograph.Store) -> None:
    """The end is the end, however often it is asked for; nothing more is asked or recorded."""
    with LLMServer([Answer(text="done")]) as server:
        task = interactive(server)

        async def main() -> list[Any]:
            return [await Runners.step(task, store=store) for _ in range(3)]

        first, *again = asyncio.run(main())
        assert first[0] is True and all(a[0] is True and a[2] is first[2] for a in again)
        assert len(server.requests) == 1 and len(store) == 1


def test_the_state_survives_the_event_loop(store: odograph.Store) -> None:
    """Each step may run in an event loop of its own."""
    with LLMServer(THREE) as server:
        task = interactive(server)
        finished = False
        while not finished:
            finished, _, response = asyncio.run(Runners.step(task, store=store))
        assert response.answer == "6" and [len(m) for m in sent(server)] == [1, 3, 5]


def test_rewards_are_seen_at_once(store: odograph.Store) -> None:
    """A reward is persisted when it is given, and is in the next response's trajectory, in the store and in exports."""
    with LLMServer(THREE) as server:
        task = interactive(server)

        async def main() -> Any:
            _, _, first = await Runners.step(task, store=store)
            first.reward(0.25, name="progress", rationale="a good start")
            assert store.trajectory(first.trajectory_id).steps[0].rewards["progress"] == 0.25
            assert first.trajectory[0]["reward"]["score"] == 0.25
            _, _, second = await Runners.step(task)
            assert second.trajectory[0]["reward"]["components"][0]["rationale"] == "a good start"
            second.reward(0.5, name="late", step=0, source="judge", author="j")
            second.reward(1.0, name="whole", step="trajectory")
            _, _, last = await Runners.step(task)
            last.reward(0.125, name="progress", step=-1)
            last.reward(None, name="unknown")
            return last

        last = asyncio.run(main())
    rewards = [i["reward"] for i in last.trajectory]
    assert [r["score"] for r in rewards] == [0.75, None, None]  # a component of the last is not known
    assert [(c["name"], c["target"]) for c in rewards[2]["components"]] == [
        ("progress", "step"),
        ("unknown", "step"),
        ("whole", "trajectory"),
    ]
    t = store.trajectory(last.trajectory_id)
    assert t.rewards["whole"] == 1.0 and t.reward == 1.0 and t.steps[2].reward is None
    with pytest.raises(InvalidInput, match=r"no step 7 .* there are 0 to 2"):
        last.reward(1.0, step=7)
    with pytest.raises(TypeError):
        last.reward("good")


def test_a_finished_task_is_rewarded_as_a_whole(store: odograph.Store) -> None:
    """After `run_task` a reward is the trajectory's, and `step=` names a step."""
    with LLMServer(THREE) as server:
        task = Task(input="x", agent=solver(server))
        response = asyncio.run(Runners.run_task(task, store=store))[task.id]
    response.reward(1.0, name="correct")
    response.reward(0.1, step=1)
    t = response.recorded
    assert t.rewards["correct"] == 1.0 and t.steps[1].reward == 0.1
    assert response.trajectory[-1]["reward"]["score"] == 1.0 and response.trajectory[1]["reward"]["score"] == 0.1


def test_responses_can_leave_the_messages_out(store: odograph.Store) -> None:
    """`resp_carry_context=False` leaves messages out of the response, never out of the store."""
    with LLMServer(THREE) as server:
        task = Task(input="x", agent=solver(server), conf=TaskConfig(resp_carry_context=False))
        response = asyncio.run(Runners.run_task(task, store=store))[task.id]
    assert all("messages" not in i["state"] for i in response.trajectory)
    assert len(response.recorded.llm_calls[2].messages) == 5


def test_a_failed_step_can_be_stepped_again(store: odograph.Store) -> None:
    """A model that does not answer costs the step and nothing else; the next step asks the same again."""
    script = [asks(("add", {"a": 1, "b": 2})), Answer(status=500, text="overloaded"), Answer(text="3")]
    with LLMServer(script) as server:
        task = interactive(server)

        async def main() -> Any:
            await Runners.step(task, store=store)
            with pytest.raises(RunError, match="HTTP 500: overloaded"):
                await Runners.step(task)
            return await Runners.step(task)

        finished, _, response = asyncio.run(main())
        history = sent(server)
    assert finished and response.answer == "3" and history[1] == history[2]
    t = response.recorded
    assert [s.index for s in t.steps] == [0, 1, 2] and t.status == "completed"
    assert t.steps[1].llm_calls[0].error == "HTTP 500" and t.steps[1].llm_calls[0].status_code == 500
    assert len(response.trajectory) == 3


def test_a_step_that_is_cancelled_among_its_tools_goes_on_with_them(store: odograph.Store) -> None:
    """Tools that gave their result are not used again; the others are."""
    used: list[str] = []

    async def quick() -> str:
        used.append("quick")
        return "q"

    async def slow() -> str:
        used.append("slow")
        if used.count("slow") == 1:
            await asyncio.sleep(60)
        return "s"

    with LLMServer(by_turn(asks(("quick", {}), ("slow", {})), Answer(text="end"))) as server:
        task = interactive(server, tools=[quick, slow])

        def has_result() -> bool:
            return any(step.actions for t in store.trajectories() for step in t.steps)

        async def main() -> Any:
            await cut_off(Runners.step(task, store=store), lambda: len(used) == 2 and has_result())
            _, observation, _ = await Runners.step(task)
            assert [r["content"] for r in observation] == ["q", "s"]
            return await Runners.step(task)

        assert asyncio.run(main())[2].answer == "end"
        assert used == ["quick", "slow", "slow"] and len(server.requests) == 2


def test_reset_begins_another_episode(store: odograph.Store) -> None:
    """`reset` ends the run, and the next step begins anew, as a trajectory of its own."""
    with LLMServer(THREE) as server:
        task = interactive(server)

        async def main() -> None:
            await Runners.step(task, store=store)
            await Runners.reset(task)
            await Runners.step(task, store=store)

        asyncio.run(main())
        assert [len(m) for m in sent(server)] == [1, 1]
    assert [t.status for t in store.trajectories()] == ["cancelled", "running"]


def test_reset_after_the_end_leaves_the_end_as_it_is(store: odograph.Store) -> None:
    """A run that was completed stays completed, with one end."""
    with LLMServer(THREE) as server:
        task = interactive(server)

        async def main() -> None:
            await Runners.finish(task, store=store)
            await Runners.reset(task)

        asyncio.run(main())
    (t,) = store.trajectories()
    assert t.status == "completed" and sum(isinstance(record, End) for record in t.records) == 1


def test_steps_as_a_generator_where_break_is_safe(store: odograph.Store) -> None:
    """`async for ... in Runners.steps(task)`; after `break` the task goes on where it was."""
    with LLMServer(THREE) as server:
        task = interactive(server)

        async def main() -> tuple[list[bool], list[bool]]:
            first, second = [], []
            async for finished, _, _ in Runners.steps(task, store=store):
                first.append(finished)
                break
            async for finished, _, _ in Runners.steps(task):
                second.append(finished)
            return first, second

        assert asyncio.run(main()) == ([False], [False, True])
        assert [len(m) for m in sent(server)] == [1, 3, 5]
    assert [t.status for t in store.trajectories()] == ["completed"]


def test_limits_end_a_run(store: odograph.Store) -> None:
    """`max_steps` truncates, `timeout` times out: with a status, a reason, and the trajectory so far."""

    async def slow() -> str:
        time_passes(60)
        await asyncio.sleep(60)
        return ""

    with LLMServer([asks(("add", {"a": 1, "b": 1}))]) as server:
        long = Task(input="x", agent=solver(server), conf={"max_steps": 3})
        response = asyncio.run(Runners.run_task(long, store=store))[long.id]
        assert (response.status, response.msg, len(response.trajectory)) == ("truncated", "no end within 3 steps", 3)
    with LLMServer([asks(("slow", {}))]) as server:
        hung = Task(input="x", agent=solver(server, tools=[slow]), conf=TaskConfig(timeout=30))
        response = asyncio.run(Runners.run_task(hung, store=store))[hung.id]
        assert (response.status, response.msg) == ("timeout", "the task was not done within 30 s")
        assert response.recorded.status == "timeout" and response.recorded.actions[0].ok is False

    class Hangs:
        """Its tool server, say, does not answer."""

        name = "hangs"

        async def begin(self, task: Any, run: Any, past: Any) -> None:
            await asyncio.sleep(30)

        async def step(self, state: Any, step: Any) -> Any:
            raise AssertionError

    hung = Task(input="x", agent=Hangs(), conf=TaskConfig(timeout=0.2))
    assert asyncio.run(Runners.run_task(hung, store=store))[hung.id].status == "timeout"


def test_wrong_use_is_one_sentence(store: odograph.Store) -> None:
    """A task without an agent, two runs of one id, two stores, an unknown setting."""
    with LLMServer(THREE) as server:
        task = interactive(server)

        async def main() -> None:
            with pytest.raises(InvalidInput, match="has no agent"):
                await Runners.step(Task(input="x"), store=store)
            await Runners.step(task, store=store)
            twin = Task(input="y", agent=solver(server), id=task.id)
            with pytest.raises(InvalidInput, match="is being run here already"):
                await Runners.step(twin, store=store)
            with pytest.raises(InvalidInput, match="reset the task to record in another store"):
                await Runners.step(task, store=odograph.open("memory:"))
            with pytest.raises(InvalidInput, match="two tasks have the id"):
                await Runners.run_task([task, twin], store=store)

        asyncio.run(main())
    with pytest.raises(TypeError, match="no setting 'max_step'"):
        Task(input="x", conf={"max_step": 3})
    assert Task(input="x", conf=None).conf.run_mode is TaskRunMode.ONE_WAY


def test_a_task_takes_one_step_at_a_time(store: odograph.Store) -> None:
    """A second step that is asked for in the middle of the first is refused, and the first goes on."""
    with LLMServer(THREE) as server:
        task = interactive(server)

        async def main() -> list[Any]:
            return await asyncio.gather(*(Runners.step(task, store=store) for _ in range(2)), return_exceptions=True)

        first, second = asyncio.run(main())
        assert first[0] is False and len(server.requests) == 1
        assert isinstance(second, InvalidInput) and "is in the middle of a step; wait" in str(second)


def test_await_a_task(store: odograph.Store) -> None:
    """`await task` runs it to its end, from wherever it is."""
    with LLMServer(THREE) as server:
        task = interactive(server)

        async def main() -> Any:
            await Runners.step(task, store=store)
            return await task

        assert asyncio.run(main()).answer == "6"


@pytest.mark.parametrize("number", [0, 1])
def test_the_seeds_programs_run(number: int, tmp_path: Path) -> None:
    """Both programs of the first seed, as `docs/running.md` has them, against a server: only imports and the agent are theirs."""
    page = (ROOT / "docs" / "running.md").read_text()
    code = [part.split("```")[0] for part in page.split("```python\n")[1:] if "searcher = Agent(" in part][number]
    script = tmp_path / "seed.py"
    script.write_text(code)
    model = by_turn(asks(("google_search", {"query": "AI today"})), Answer(text="Much happened."))
    with LLMServer(model) as server:
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": "", "OPENAI_BASE_URL": server.url + "/v1", "OPENAI_API_KEY": "x", "ODOGRAPH_STRICT": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [len(m) for m in sent(server)] == [2, 4]
    if number == 0:
        assert "task answer: Much happened." in done.stderr and "AI today" in done.stderr
    else:
        log = (tmp_path / "trajectory_log.txt").read_text()
        assert log.count("Step ") == 2 and len(json.loads(log.split("Step 2\n")[1])) == 2
