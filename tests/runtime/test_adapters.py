"""Any agent under the same runner: a protocol of two methods, functions, Gymnasium, and other frameworks' agents."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import FunctionAgent, GymAgent, InvalidInput, Outcome, RunError, Runners, Task
from tests.llm_server import Answer, LLMServer

from .scaffold import asks, by_turn, turns

ROOT = Path(__file__).parents[2]


def done(store: odograph.Store, agent: Any, input: Any = "go", **more: Any) -> Any:
    task = Task(input=input, agent=agent, **more)
    return asyncio.run(Runners.run_task(task, store=store))[task.id]


class Counter:
    """The smallest agent there is."""

    name = "counter"

    async def begin(self, task: Task, run: odograph.Scope, past: odograph.Trajectory | None) -> list[int]:
        return [len(past.steps) if past else 0]

    async def step(self, state: list[int], step: odograph.Step) -> Outcome:
        state[0] += 1
        step.action("count", {"to": state[0]}, state[0], ok=True)
        if state[0] == 2 and self.fails:
            self.fails = False
            raise ValueError("two is too many")
        return Outcome(observation=state[0], finished=state[0] >= 3, answer=state[0])

    fails = False


def test_two_methods_make_an_agent(store: odograph.Store) -> None:
    """begin and step: run, stepped, failing and stepped again, resumed."""
    assert done(store, Counter()).answer == 3
    failing = Counter()
    failing.fails = True
    task = Task(agent=failing)

    async def main() -> Any:
        await Runners.step(task, store=store)
        with pytest.raises(RunError, match="agent 'counter' failed: ValueError: two is too many"):
            await Runners.step(task)
        return await Runners.step(task)

    assert asyncio.run(main())[2].answer == 3
    task = Task(agent=Counter())
    asyncio.run(Runners.step(task, store=store))
    again = Runners.resume(store, task._session.run.id, agent=Counter())  # type: ignore[union-attr]
    response = asyncio.run(Runners.finish(again))
    assert response.answer == 3 and len(response.recorded.steps) == 3
    failing.fails = True
    response = done(store, failing)
    assert response.status == "failed" and "two is too many" in response.msg and len(response.trajectory) == 2


def test_a_coroutine_is_stepped_call_by_call(store: odograph.Store) -> None:
    """Plain code with a wrapped client: each call of the model with what follows it is a step; between steps it waits."""
    import openai

    @odograph.action
    def look(what: str) -> str:
        return f"{what}!"

    script = [Answer(text="a"), Answer(text="b"), Answer(text="c")]
    with LLMServer(script) as server:
        client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x"))

        async def solve(question: str) -> str:
            said = []
            for _ in range(3):
                answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": question}])
                said.append(look(answer.choices[0].message.content or ""))
            return "".join(said)

        task = Task(input="why", agent=solve)

        async def main() -> None:
            finished, observation, response = await Runners.step(task, store=store)
            assert not finished and [o["content"] for o in observation] == ["a!"] and len(server.requests) == 1
            await asyncio.sleep(0.05)
            assert len(server.requests) == 1, "it waits"
            response.reward(0.5)
            await Runners.step(task)
            finished, _, response = await Runners.step(task)
            assert finished and response.answer == "a!b!c!"
            items = response.trajectory
            assert [i["action"]["content"] for i in items] == ["a", "b", "c"]
            assert [i["action"]["results"][0]["content"] for i in items] == ["a!", "b!", "c!"]
            assert items[0]["reward"]["score"] == 0.5

        asyncio.run(main())
        t = next(store.trajectories())
        assert (t.agent, t.status, len(t.steps)) == ("solve", "completed", 3)
        assert asyncio.run(odograph.replay(t.id, solve, store=store)).same and len(server.requests) == 3


@pytest.mark.parametrize("sync_client", [False, True])
def test_functions_in_parallel_and_in_threads(store: odograph.Store, sync_client: bool) -> None:
    """A plain function runs in a thread and is stepped too; calls at once take a step each."""
    import openai

    with LLMServer(lambda r: Answer(text=r["messages"][0]["content"], delay=0.05)) as server:
        if sync_client:
            client = odograph.wrap(openai.OpenAI(base_url=server.url + "/v1", api_key="x"))

            def solve(input: str) -> str:
                said = [
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": c}])
                    .choices[0]
                    .message.content
                    for c in input
                ]
                return "".join(str(s) for s in said)
        else:
            several = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x"))

            async def solve(input: str) -> str:  # type: ignore[misc]
                calls = [several.chat.completions.create(model="m", messages=[{"role": "user", "content": c}]) for c in input]
                return "".join(str(a.choices[0].message.content) for a in await asyncio.gather(*calls))

        task = Task(input="xyz", agent=solve)

        many = [Task(input=f"{n}a", agent=solve) for n in range(20)]

        async def main() -> tuple[list[Any], Any]:  # in one loop: SDK clients belong to theirs
            stepped = [s async for s in Runners.steps(task, store=store)]
            return stepped, await Runners.run_task(many, store=store, max_concurrency=10)

        steps, found = asyncio.run(main())
        assert [s[0] for s in steps] == [False, False, True] and steps[-1][2].answer == "xyz"
        assert len(steps[-1][2].recorded.llm_calls) == 3
        assert [r.answer for r in found.values()] == [f"{n}a" for n in range(20)]


def test_functions_that_fail_or_never_ask(store: odograph.Store) -> None:
    """An exception ends the run as failed; code without a model is one step; an abandoned one is cancelled."""

    async def wrong(input: Any) -> str:
        raise KeyError("gone")

    response = done(store, wrong)
    assert (response.status, response.msg) == ("failed", "'gone'")
    assert done(store, lambda input: len(input), "four").answer == 4
    ended: list[str] = []

    async def forever(input: Any) -> str:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("ended")
        return ""

    response = done(store, FunctionAgent(forever, name="f"), conf={"timeout": 0.2})
    assert response.status == "timeout" and ended == ["ended"]


FUNCTION = """
import asyncio, os, sys, signal
import odograph, openai
from odograph import Runners, Task
from tests.runtime.test_adapters import solver
client = odograph.wrap(openai.AsyncOpenAI(base_url=sys.argv[1] + "/v1", api_key="x"))
async def main():
    async for _ in Runners.steps(Task(input="go", agent=solver(client)), store=odograph.open(sys.argv[2])):
        print("step", flush=True)
asyncio.run(main())
"""


def solver(client: Any) -> Any:
    @odograph.action
    def note(text: str) -> str:
        return text.upper()

    async def solve(question: str) -> str:
        messages: list[Any] = [{"role": "user", "content": question}]
        for _ in range(4):
            answer = await client.chat.completions.create(model="m", messages=messages)
            text = note(answer.choices[0].message.content)
            messages += [{"role": "assistant", "content": answer.choices[0].message.content}, {"role": "user", "content": text}]
        return str(len(messages))

    return solve


def test_code_that_was_killed_goes_on(tmp_path: Path) -> None:
    """After SIGKILL the code runs again on the recorded answers up to where it stopped, and then on with the model."""
    import openai

    killed = threading.Event()
    says = by_turn(*(Answer(text=c) for c in "abcd"))

    def model(request: dict[str, Any]) -> Answer:
        if turns(request) == 3:
            killed.wait()  # it is killed before its end, however late that is
        return says(request)

    with LLMServer(model) as server:
        command = [sys.executable, "-c", FUNCTION, server.url, str(tmp_path / "s")]
        env = {**os.environ, "PYTHONPATH": f"src:{ROOT}"}
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() and process.stdout.readline()
        process.kill()
        process.communicate()
        killed.set()
    with LLMServer(says) as server:  # another one: what the killed process had sent may still be on its way
        client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x"))
        with odograph.open(tmp_path / "s") as store:
            before = next(store.trajectories())
            answered = len(before.llm_calls)
            response = asyncio.run(Runners.finish(Runners.resume(store, before.id, agent=solver(client))))
            assert response.answer == "9" and len(server.requests) == 4 - answered
            t = response.recorded
            assert [c.text for c in t.llm_calls] == list("abcd") and [a.result for a in t.actions][-1] == "D"

            async def other(question: str) -> str:
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "else"}])
                return ""

            cut = Runners.fork(before, 2, agent=other, store=store)
            with pytest.raises(RunError, match="no longer makes the recorded calls: call 0"):
                asyncio.run(Runners.step(cut))


def test_a_gymnasium_environment(store: odograph.Store) -> None:
    """Observation, action, reward and end of each step of a real environment; stopped and resumed by the same seed."""
    gymnasium = pytest.importorskip("gymnasium")

    def policy(observation: Any) -> int:
        return int(observation[2] > 0)

    response = done(store, GymAgent("CartPole-v1", policy, max_steps=40), None, seed=3)
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=3)
    seen = []
    for _ in range(40):
        seen.append(observation.tolist())
        observation, _, terminated, truncated, _ = env.step(policy(observation))
        if terminated or truncated:
            break
    t = response.recorded
    assert [s.observation for s in t.steps] == seen and t.reward == float(len(seen)) and t.agent == "policy"
    assert [a.arguments for a in t.actions] == [policy(o) for o in seen]
    task = Task(agent=GymAgent(lambda: gymnasium.make("CartPole-v1"), policy, name="p", max_steps=40))
    for _ in range(3):
        _, observation, _ = asyncio.run(Runners.step(task, store=store))
    id = task._session.run.id  # type: ignore[union-attr]
    again = Runners.resume(store, id, agent=task.agent)
    asyncio.run(Runners.step(again))
    t = store.trajectory(id)
    assert [s.index for s in t.steps] == [0, 1, 2, 3] and t.steps[3].observation == observation.tolist()

    async def asked(observation: Any) -> int:
        return 0

    truncated = done(store, GymAgent("MountainCar-v0", asked), None)
    assert truncated.status == "truncated" and len(truncated.recorded.steps) == 200


def test_openai_agents(store: odograph.Store) -> None:
    """An agent of openai-agents: its model recorded at its client, its tools by its hooks, step by step."""
    agents = pytest.importorskip("agents")
    import openai

    from odograph.runtime.frameworks import openai_agents

    agents.set_tracing_disabled(True)

    @agents.function_tool
    def weather(city: str) -> str:
        """The weather."""
        return f"sun in {city}"

    with LLMServer(by_turn(asks(("weather", {"city": "Bonn"})), Answer(text="Sunny."))) as server:
        model = agents.OpenAIChatCompletionsModel(
            model="m", openai_client=openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x")
        )
        theirs = agents.Agent(name="weatherman", instructions="Be brief.", tools=[weather], model=model)
        check(store, openai_agents(theirs), "weatherman", {"city": "Bonn"}, "sun in Bonn")


def test_pydantic_ai(store: odograph.Store) -> None:
    """The same for an agent of pydantic-ai."""
    pydantic_ai = pytest.importorskip("pydantic_ai")
    import openai
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from odograph.runtime import frameworks

    with LLMServer(by_turn(asks(("weather", {"city": "Bonn"})), Answer(text="Sunny."))) as server:
        client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x")
        theirs = pydantic_ai.Agent(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client)), name="weatherman")

        @theirs.tool_plain
        def weather(city: str) -> str:
            """The weather."""
            return f"sun in {city}"

        check(store, frameworks.pydantic_ai(theirs), "weatherman", {"city": "Bonn"}, "sun in Bonn")


def test_langgraph(store: odograph.Store) -> None:
    """The same for a LangGraph graph."""
    pytest.importorskip("langgraph")
    import warnings

    from langchain_openai import ChatOpenAI

    from odograph.runtime.frameworks import langgraph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langgraph.prebuilt import create_react_agent

    def weather(city: str) -> str:
        """The weather."""
        return f"sun in {city}"

    with LLMServer(by_turn(asks(("weather", {"city": "Bonn"})), Answer(text="Sunny."))) as server:
        model = ChatOpenAI(model="m", base_url=server.url + "/v1", api_key="x", stream_usage=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = create_react_agent(model, [weather])
        check(store, langgraph(graph, model, name="weatherman"), "weatherman", {"city": "Bonn"}, "sun in Bonn")


def test_agents_of_openai_agents_have_their_names(store: odograph.Store) -> None:
    """Steps after a hand-off are those of the agent that took over, inside of the action that handed over; resumed, too."""
    agents = pytest.importorskip("agents")
    import openai

    from odograph.runtime.frameworks import openai_agents

    agents.set_tracing_disabled(True)
    script = by_turn(asks(("transfer_to_poet", {})), asks(("look", {}), id="b"), Answer(text="A rhyme."))
    with LLMServer(script) as server:
        model = agents.OpenAIChatCompletionsModel(
            model="m", openai_client=openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x")
        )
        look = agents.function_tool(lambda: "sun", name_override="look", description_override="Looks.")
        poet = agents.Agent(name="Poet", tools=[look], model=model)
        theirs = openai_agents(agents.Agent(name="Boss", handoffs=[poet], model=model))
        several(store, theirs, [("Boss", 0), ("Poet", 0), ("Poet", 1)], "transfer_to_Poet", "call_0")


def test_an_agent_that_is_a_tool_has_its_name(store: odograph.Store) -> None:
    """An agent of openai-agents that another uses as a tool records its calls and its tools in steps of its own, inside of the
    action; stepped, replayed and resumed, too."""
    agents = pytest.importorskip("agents")
    import openai

    from odograph.runtime.frameworks import openai_agents

    agents.set_tracing_disabled(True)

    def script(request: dict[str, Any]) -> Answer:
        used = sum(m["role"] == "tool" for m in request["messages"])
        if request["messages"][0]["content"] == "help":
            return Answer(text="It is sunny.") if used else asks(("look", {}), id="h")
        return Answer(text="Go out.") if used else asks(("helper", {"input": "the sky?"}))

    with LLMServer(script) as server:
        client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x")
        model = agents.OpenAIChatCompletionsModel(model="m", openai_client=client)
        look = agents.function_tool(lambda: "sun", name_override="look", description_override="Looks.")
        helper = agents.Agent(name="Helper", instructions="help", tools=[look], model=model)
        boss = agents.Agent(name="Boss", tools=[look, helper.as_tool("helper", "Helps.")], model=model)
        task = Task("q", openai_agents(boss))

        async def main() -> Any:
            first = await Runners.step(task, store=store)
            json.dumps(first[1])
            return await Runners.finish(Runners.resume(store, first[2].trajectory_id, agent=openai_agents(boss)))

        response = asyncio.run(main())
        t = response.recorded
        assert [(s.agent, s.index, [a.name for a in s.actions]) for s in t.steps] == [
            ("Boss", 0, ["helper"]), ("Helper", 0, ["look"]), ("Helper", 1, []), ("Boss", 1, []),
        ]  # fmt: skip
        (used,) = [a for a in t.actions if a.name == "helper"]
        assert [s.record.parent for s in t.steps[1:3]] == [used.id] * 2 and used.result == "It is sunny."  # type: ignore[union-attr]
        assert asyncio.run(odograph.replay(t.id, openai_agents(boss), store=store)).same


def test_an_agent_inside_of_a_tool_has_its_name(store: odograph.Store) -> None:
    """The same for agents of pydantic-ai that a tool runs, two at once, too: their calls and tools are steps of their own."""
    pydantic_ai = pytest.importorskip("pydantic_ai")
    import openai
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from odograph.runtime import frameworks

    def script(request: dict[str, Any]) -> Answer:
        used = sum(m["role"] == "tool" for m in request["messages"])
        if any(m["role"] == "user" and m["content"] == "the sky?" for m in request["messages"]):
            if used == 0:
                return asks(("look", {"far": "no"}), ("nope", {"a": 1}), id="h0")
            return Answer(text="It is sunny.") if used > 2 else asks(("look", {"far": 1}), id="h1")
        return Answer(text="Go out.") if used else asks(("ask", {}))

    with LLMServer(script) as server:

        def model() -> Any:
            client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x")
            return OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))

        def look(far: int) -> str:
            """Looks."""
            return "sun"

        helpers = [pydantic_ai.Agent(model(), tools=[look], name=name) for name in ("Helper", "Other")]
        boss = pydantic_ai.Agent(model(), name="Boss")

        @boss.tool_plain
        async def ask() -> str:
            """Asks both."""
            return " ".join(r.output for r in await asyncio.gather(*(h.run("the sky?") for h in helpers)))

        task = Task("q", frameworks.pydantic_ai(boss))

        async def main() -> Any:
            first = await Runners.step(task, store=store)
            return await Runners.finish(Runners.resume(store, first[2].trajectory_id, agent=frameworks.pydantic_ai(boss)))

        t = asyncio.run(main()).recorded
        assert sorted((s.agent or "", s.index, [a.name for a in s.actions], len(s.llm_calls)) for s in t.steps) == [
            ("Boss", 0, ["ask"], 1), ("Boss", 1, [], 1), ("Helper", 0, ["look", "nope"], 1), ("Helper", 1, ["look"], 1), ("Helper", 2, [], 1),
            ("Other", 0, ["look", "nope"], 1), ("Other", 1, ["look"], 1), ("Other", 2, [], 1),
        ]  # fmt: skip
        assert sorted((a.name, a.ok is True) for a in t.actions) == [
            ("ask", True), ("look", False), ("look", False), ("look", True), ("look", True), ("nope", False), ("nope", False)
        ]  # fmt: skip
        (used,) = [a for a in t.actions if a.name == "ask"]
        assert {s.record.parent for s in t.steps if s.agent != "Boss"} == {used.id}  # type: ignore[union-attr]
        assert used.result == "It is sunny. It is sunny." and t.answer == "Go out."
        assert asyncio.run(odograph.replay(t.id, frameworks.pydantic_ai(boss), store=store)).same


def test_graphs_in_a_graph_have_their_names(store: odograph.Store) -> None:
    """A LangGraph graph inside of another is an agent of its own, and gives back to the graph around it."""
    pytest.importorskip("langgraph")
    import warnings

    from langchain_openai import ChatOpenAI
    from langgraph.graph import END, START, MessagesState, StateGraph

    from odograph.runtime.frameworks import langgraph

    with LLMServer(by_turn(asks(("look", {})), Answer(text="Sunny."), Answer(text="A rhyme."))) as server:
        model = ChatOpenAI(model="m", base_url=server.url + "/v1", api_key="x", stream_usage=False)

        def look() -> str:
            """Looks."""
            return "sun"

        async def write(state: Any) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from langgraph.prebuilt import create_react_agent

            research = create_react_agent(model, [look], name="research")
        graph = StateGraph(MessagesState)
        graph.add_node("research", research)
        graph.add_node("write", write)
        graph.add_edge(START, "research")
        graph.add_edge("research", "write")
        graph.add_edge("write", END)
        theirs = langgraph(graph.compile(), model, name="team")
        several(store, theirs, [("team", 0), ("research", 0), ("research", 1), ("team", 1)], "transfer_to_research", None)


def test_a_function_that_yields_is_no_agent(store: odograph.Store) -> None:
    """It is refused: its answer would be a generator."""

    async def pieces(task: Any) -> Any:
        yield task

    for fn in (pieces, lambda task: (yield task)):
        with pytest.raises(InvalidInput, match="yields: give a function that returns"):
            done(store, fn)


def several(store: odograph.Store, agent: FunctionAgent, steps: list[Any], action: str, call: str | None) -> None:
    async def main() -> None:
        first = await Runners.run("go", agent, store=store)
        assert (await odograph.replay(first.trajectory_id, agent, store=store)).same
        task = Task(input="go", agent=agent)
        await Runners.step(task, store=store)
        await Runners.step(task)
        again = Runners.resume(store, task._session.run.id, agent=agent)  # type: ignore[union-attr]
        for response in (first, await Runners.finish(again)):
            t = response.recorded
            assert (t.answer, [(s.agent, s.index) for s in t.steps]) == ("A rhyme.", steps)
            hand = t.steps[0].actions[0]
            assert (hand.name, hand.tool_call_id) == (action, call)
            assert t.steps[1].record is not None and t.steps[1].record.parent == hand.id
            assert not [f for f in odograph.validate(t).findings if f.severity == "error"]

    asyncio.run(main())


def check(store: odograph.Store, agent: FunctionAgent, name: str, arguments: Any, result: str) -> None:
    task = Task(input="How is the weather?", agent=agent)

    async def main() -> list[Any]:
        return [s async for s in Runners.steps(task, store=store)]

    steps = asyncio.run(main())
    assert [s[0] for s in steps] == [False, True] and steps[-1][2].answer == "Sunny."
    t = steps[-1][2].recorded
    assert t.agent == name and t.model == "m" and len(t.steps) == 2 and len(t.llm_calls) == 2
    action = t.steps[0].actions[0]
    assert (action.name, action.arguments, action.ok, action.tool_call_id) == ("weather", arguments, True, "call_0")
    assert action.result == result
    assert not [f for f in odograph.validate(t).findings if f.severity == "error"]
    assert time.time_ns() > action.started
