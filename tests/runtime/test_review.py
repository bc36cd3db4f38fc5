"""What a review of the runtime broke: tools of every kind, agents that reach each other, forks, resumes and replays of odd runs."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from typing import Any

import pytest

import odograph
from odograph import Agent, Runners, Task, shown
from tests.llm_server import Answer, LLMServer
from tests.waiting import cut_off, time_passes

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
            await cut_off(Runners.run_task(Task(input="go", agent=boss), store=store), lambda: used)
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


def ring(request: dict[str, Any]) -> Answer:
    """boss and b hand over to each other, four times; then whoever has it answers."""
    n = turns(request)
    return (
        Answer(text=who(request))
        if n >= 4
        else asks((f"transfer_to_{'b' if who(request) == 'boss' else 'boss'}", {}), id=f"c{n}")
    )


def pair(server: LLMServer) -> Agent:
    other = agent(server, name="b", system_prompt="b")
    boss = agent(server, handoffs=[other])
    other.handoffs.append(boss)
    return boss


@pytest.mark.parametrize("given", [True, False])
def test_agents_that_hand_over_to_each_other(store: odograph.Store, given: bool) -> None:
    """Back and forth: recorded, rebuilt, replayed; resumed and forked at each step with the agent that has the conversation."""
    with LLMServer(ring) as server:
        boss = pair(server)
        whole = run(store, boss).recorded
        again = boss if given else None
        names = [("boss", 0), ("b", 0), ("boss", 1), ("b", 1), ("boss", 2)]
        assert [(s.agent, s.index) for s in whole.steps] == names and clean(whole) and whole.answer == "boss"
        counted = [e.about.get("at_step") for e in shown.session(whole) if e.kind == "step"]
        assert counted == [None, 1, 2, 3, 4]  # what `fork` below takes, where an agent's own number is another
        assert asyncio.run(odograph.replay(whole, again, store=store)).same
        for taken in range(1, 5):
            task = Task(input="go", agent=boss)
            for _ in range(taken):
                asyncio.run(Runners.step(task, store=store))
            resumed = asyncio.run(Runners.finish(Runners.resume(store, task._session.run.id, agent=again))).recorded  # type: ignore[union-attr]
            assert [(s.agent, s.index) for s in resumed.steps] == names and clean(resumed) and resumed.answer == "boss"
            assert [c.request for c in resumed.llm_calls] == [c.request for c in whole.llm_calls]
        for step in range(5):
            task = odograph.fork(whole, step, agent=again, model="other", store=store)
            forked = asyncio.run(Runners.finish(task)).recorded
            assert forked.llm_calls[0].messages == whole.llm_calls[step].messages and clean(forked)
            assert forked.llm_calls[0].model == "other" and forked.steps[0].agent == names[step][0]
            assert asyncio.run(odograph.replay(forked, store=store)).same


def test_agents_that_reach_each_other_in_a_ring(store: odograph.Store) -> None:
    """Three of them: described, recorded and rebuilt."""
    with LLMServer([Answer(text="end")]) as server:
        c = agent(server, name="c")
        b = agent(server, name="b", tools=[c, add])
        boss = agent(server, handoffs=[b])
        c.handoffs.append(boss)
        response = run(store, boss)
        rebuilt: Any = odograph.fork(response.trajectory_id, store=store).agent
        assert rebuilt.handoffs[0].tools[0].handoffs[0] is rebuilt and rebuilt.handoffs[0].tools[1] is add
        assert rebuilt.spec() == boss.spec() and asyncio.run(odograph.replay(response.trajectory_id, store=store)).same


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("edited", [False, True])
def test_forks_of_forks_and_their_resumption(tmp_path: Any, status: int, edited: bool) -> None:
    """A fork that was stopped before or after its first answer goes on with its parent's conversation, and so does its own fork."""
    fails = [False]

    def model(request: dict[str, Any]) -> Answer:
        n = turns(request)
        if fails[0]:
            return Answer(status=status, text="", drop_after=0 if status == 200 else None)
        return asks(("add", {"a": n, "b": 1}), id=f"c{n}") if n < 4 else Answer(text="end")

    messages = [{"role": "system", "content": "boss"}, {"role": "user", "content": "else"}] if edited else None
    with LLMServer(model) as server, odograph.open(tmp_path / "s") as store:
        boss = agent(server, tools=[add])
        whole = run(store, boss).recorded
        wanted = messages or whole.llm_calls[2].messages
        task = odograph.fork(whole, 2, messages=messages, store=store)
        fails[0] = True
        with pytest.raises(odograph.RunError):
            asyncio.run(Runners.step(task))
        fails[0] = False
        id = task._session.run.id  # type: ignore[union-attr]
        resumed = asyncio.run(Runners.finish(Runners.resume(store, id, agent=boss))).recorded
        assert resumed.answer == "end" and clean(resumed) and {str(c.messages) for c in resumed.llm_calls[:2]} == {str(wanted)}
        second = asyncio.run(Runners.finish(odograph.fork(resumed, 2, store=store))).recorded
        assert second.llm_calls[0].messages == resumed.llm_calls[2].messages and second.answer == "end" and clean(second)
        assert asyncio.run(odograph.replay(second, store=store)).same


def test_forks_of_functions(store: odograph.Store) -> None:
    """A function's fork, the fork of that, and their resumption run it on what all of them recorded; replays do, too."""
    import openai

    with LLMServer(lambda request: Answer(text=f"{request['messages'][0]['content']}!")) as server:
        client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0))

        async def solve(question: str) -> str:
            for _ in range(4):
                about = {"model": "m", "messages": [{"role": "user", "content": question}]}
                question = (await client.chat.completions.create(**about)).choices[0].message.content  # type: ignore[call-overload]
            return question

        async def main() -> None:
            task = Task(input="q", agent=solve)
            whole = (await Runners.run_task(task, store=store))[task.id].recorded
            asked = len(server.requests)
            first = odograph.fork(whole, 1, agent=solve, store=store)
            await Runners.step(first)
            resumed = await Runners.finish(Runners.resume(store, first._session.run.id, agent=solve))  # type: ignore[union-attr]
            assert resumed.answer == "q!!!!" and len(server.requests) == asked + 3
            second = await Runners.finish(odograph.fork(resumed.recorded, 1, agent=solve, store=store))
            assert second.answer == "q!!!!" and len(server.requests) == asked + 5 and len(second.recorded.llm_calls) == 2
            for t in (whole, resumed.recorded, second.recorded):
                replayed = await odograph.replay(t, solve, store=store)
                assert replayed.same, replayed
            assert len(server.requests) == asked + 5 and clean(second.recorded)

        asyncio.run(main())


def test_replays_of_runs_that_went_wrong(store: odograph.Store) -> None:
    """A step that failed and was taken again, a broken stream, a run out of time or not over: replayed as they went, no tool used."""
    used: list[str] = []

    async def slow() -> str:
        used.append("slow")
        time_passes(60)
        await asyncio.sleep(60)
        return ""

    half = Answer(text="half an answer " * 20, drop_after=1500)
    for bad, stream in ((Answer(status=500), False), (half, True)):
        script = iter([asks(("add", {"a": 1, "b": 2})), bad, Answer(text="3")])
        with LLMServer(lambda request, script=script: next(script)) as server:  # type: ignore[misc]
            boss = agent(server, tools=[add], stream=stream)
            task = Task(input="go", agent=boss)
            asyncio.run(Runners.step(task, store=store))
            with pytest.raises(odograph.RunError):
                asyncio.run(Runners.step(task))
            _, _, response = asyncio.run(Runners.step(task))
        replayed = asyncio.run(odograph.replay(response.trajectory_id, boss, store=store))
        assert replayed.same and replayed.calls == 3 and replayed.answer == "3", replayed
    with LLMServer(by_turn(asks(("slow", {})), Answer(text="end"))) as server:
        boss = agent(server, tools=[slow])
        response = run(store, boss, conf={"timeout": 30})
        assert response.status == "timeout"
        assert asyncio.run(odograph.replay(response.trajectory_id, boss, store=store)).same and used == ["slow"]
        assert run(store, boss.replace(tool_timeout=30)).answer == "end"
    with LLMServer([asks(("add", {"a": 1, "b": 2}))]) as server:
        boss = agent(server, tools=[add])
        task = Task(input="go", agent=boss)
        _, _, response = asyncio.run(Runners.step(task, store=store))
        assert asyncio.run(odograph.replay(response.trajectory_id, boss, store=store)).same
        truncated = run(store, boss, conf={"max_steps": 2})
        assert asyncio.run(odograph.replay(truncated.trajectory_id, boss, store=store)).same
    with LLMServer([Answer(text='{"sides": 3}')]) as server:
        typed = run(store, agent(server, output_type=dict[str, int]))
        assert asyncio.run(odograph.replay(typed.trajectory_id, agent(server, output_type=dict[str, int]), store=store)).same


def test_a_function_that_asks_at_once_is_resumed(store: odograph.Store) -> None:
    """Calls that were held back are not on record; what was answered is recorded once and not asked again."""
    import openai

    with LLMServer(lambda request: Answer(text=f"{request['messages'][0]['content']}!")) as server:

        async def main() -> None:
            client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0))

            async def ask(text: str) -> str:
                about = {"model": "m", "messages": [{"role": "user", "content": text}]}
                return str((await client.chat.completions.create(**about)).choices[0].message.content)  # type: ignore[call-overload]

            async def solve(question: str) -> str:
                return await ask("".join(await asyncio.gather(*(ask(f"{question}{n}") for n in range(4)))))

            for taken in range(1, 5):
                task = Task(input="q", agent=solve)
                for _ in range(taken):
                    await Runners.step(task, store=store)
                assert len(task._session.response("running").recorded.llm_calls) == taken  # type: ignore[union-attr]
                asked = len(server.requests)
                resumed = await Runners.finish(Runners.resume(store, task._session.run.id, agent=solve))  # type: ignore[union-attr]
                assert resumed.answer == "q0!q1!q2!q3!!" and len(server.requests) == asked + 5 - taken
                assert len(resumed.recorded.llm_calls) == 5 and clean(resumed.recorded)
                await task._session.walk.close()  # type: ignore[union-attr]
                assert len(resumed.recorded.llm_calls) == 5

        asyncio.run(main())


def test_copies_of_responses(store: odograph.Store) -> None:
    """A response that was copied or pickled finds its trajectory."""
    import copy
    import pickle

    with LLMServer([Answer(text="end")]) as server:
        response = run(store, agent(server))
    for made in (copy.copy(response), copy.deepcopy(response), pickle.loads(pickle.dumps(response))):
        assert made.trajectory == response.trajectory and made.answer == "end"
        made.reward(1.0)


def test_replay_of_what_was_killed_two_agents_deep(store: odograph.Store) -> None:
    """What agents had begun when the run was cancelled is not expected again: they did it anew, and that is replayed."""
    waits = [60.0]
    begun: list[int] = []

    async def quick(n: int) -> str:
        begun.append(n)
        await asyncio.sleep(waits[0] if n else 0)
        return f"r{n}"

    def model(request: dict[str, Any]) -> Answer:
        if turns(request):
            return Answer(text=f"{who(request)} done")
        below = {"boss": [("b", {"input": "1"}), ("b", {"input": "2"})], "b": [("c", {"input": "1"})]}
        return asks(*below.get(who(request), [("quick", {"n": 1})]), ("quick", {"n": 0}))

    with LLMServer(model) as server:
        c = agent(server, name="c", system_prompt="c", tools=[quick])
        b = agent(server, name="b", system_prompt="b", tools=[c, quick])
        boss = agent(server, tools=[b, quick])

        async def main() -> Any:
            await cut_off(Runners.run_task(Task(input="go", agent=boss), store=store), lambda: begun.count(1) == 2)
            waits[0] = 0.0
            return await Runners.finish(Runners.resume(store, next(store.trajectories()).id, agent=boss))

        response = asyncio.run(main())
        assert response.answer == "boss done" and clean(response.recorded)
        replayed = asyncio.run(odograph.replay(response.trajectory_id, boss, store=store))
        assert replayed.same, replayed


def test_a_fork_has_steps_of_its_own(store: odograph.Store) -> None:
    """`max_steps` counts a fork's own steps, whatever came before; at the end of its parent, it refers to nothing of it."""
    with LLMServer(lambda request: asks(("add", {"a": 1, "b": turns(request)}), id=f"c{turns(request)}")) as server:
        boss = agent(server, tools=[add], max_steps=3)
        whole = run(store, boss)
        for step in (2, 3):
            forked = asyncio.run(Runners.finish(odograph.fork(whole.trajectory_id, step, agent=boss, store=store)))
            assert (forked.status, len(forked.trajectory)) == ("truncated", 3) and clean(forked.recorded)
