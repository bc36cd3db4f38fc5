"""Several agents in one tree: agents as tools, hand-offs, to any depth."""

from __future__ import annotations

import asyncio
from typing import Any

import odograph
from odograph import Agent, Runners, Task
from tests.llm_server import Answer, LLMServer

from .scaffold import add, asks


def who(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"])


def run(store: odograph.Store, agent: Agent, **more: Any) -> Any:
    task = Task(input="plan a trip", agent=agent, **more)
    return asyncio.run(Runners.run_task(task, store=store))[task.id]


def model(**said: list[Answer]) -> Any:
    """Each agent, named by its system prompt, has answers of its own, in order."""
    counts = dict.fromkeys(said, -1)

    def answer(request: dict[str, Any]) -> Answer:
        name = who(request)
        counts[name] += 1
        return said[name][min(counts[name], len(said[name]) - 1)]

    return answer


def test_an_agent_as_a_tool_to_any_depth(store: odograph.Store) -> None:
    """An agent gives a task to another, which gives one to a third: one tree of records, items of all, filterable."""
    script = model(
        boss=[asks(("guide", {"input": "find a hotel"}), ("add", {"a": 1, "b": 1})), Answer(text="booked")],
        guide=[asks(("clerk", {"input": "rooms?"})), Answer(text="hotel Sun")],
        clerk=[asks(("add", {"a": 20, "b": 2})), Answer(text="22 rooms")],
    )
    with LLMServer(script) as server:
        about = {"model": "m", "base_url": server.url + "/v1"}
        clerk = Agent(name="clerk", system_prompt="clerk", tools=[add], **about)
        guide = Agent(name="guide", system_prompt="guide", tools=[clerk], description="Knows hotels.", **about)
        response = run(store, Agent(name="boss", system_prompt="boss", tools=[guide, add], **about))
        offered = server.requests[0][1]["tools"][1 if server.requests[0][1]["tools"][0]["function"]["name"] == "add" else 0]
        firsts = {who(r): r["messages"][1]["content"] for _, r in reversed(server.requests)}
    assert response.answer == "booked"
    assert offered["function"] == {
        "name": "guide",
        "description": "Knows hotels.",
        "parameters": {
            "type": "object",
            "properties": {"input": {"type": "string", "description": "The task, with all that is needed to do it."}},
            "required": ["input"],
            "additionalProperties": False,
        },
    }
    assert firsts == {"boss": "plan a trip", "guide": "find a hotel", "clerk": "rooms?"}
    t = response.recorded
    by_id = {r.id: r for r in t.records}
    guided = next(a for a in t.actions if a.name == "guide")
    clerked = next(a for a in t.actions if a.name == "clerk")
    assert guided.result == "hotel Sun" and clerked.result == "22 rooms" and guided.ok and clerked.ok
    for step in t.steps:
        chain = []
        record = step.record
        while record is not None:
            chain.append(record.id)
            record = by_id.get(record.parent or "")
        assert chain[-1] == t.start.id, "every step hangs in the one tree"
        assert (guided.id in chain) == (step.agent in ("guide", "clerk")) and (clerked.id in chain) == (step.agent == "clerk")
    items = response.trajectory
    assert [(i["meta"]["agent"], i["meta"]["step"]) for i in items] == [
        ("boss", 0),
        ("guide", 0),
        ("clerk", 0),
        ("clerk", 1),
        ("guide", 1),
        ("boss", 1),
    ]
    assert [i["action"]["is_agent_finished"] for i in items] == [False, False, False, True, True, True]
    assert [i["meta"]["step"] for i in response.items(agent="clerk")] == [0, 1]
    assert {c.purpose for c in t.llm_calls} == {"act"} and not [f for f in odograph.validate(t).findings if f.severity == "error"]
    response.reward(0.5, step=1)
    assert response.recorded.steps[-1].reward == 0.5 and response.recorded.steps[-1].agent == "boss"
    with LLMServer([Answer(status=500)]):
        assert asyncio.run(
            odograph.replay(t.id, Agent(name="boss", system_prompt="boss", tools=[guide, add], **about), store=store)
        ).same


def test_a_hand_off(store: odograph.Store) -> None:
    """The conversation goes over to another agent, and on to a third that speaks another dialect; nothing of it is lost."""

    def script(request: dict[str, Any]) -> Answer:
        name = request["system"] if "system" in request else who(request)
        if name == "desk":
            return asks(("transfer_to_sales", {}))
        if name == "sales" and not any(m.get("content") == "2" for m in request["messages"]):
            return asks(("add", {"a": 1, "b": 1}), id="s")
        return asks(("transfer_to_legal", {}), id="t") if name == "sales" else Answer(text="signed")

    with LLMServer(script) as server:
        about = {"model": "m", "base_url": server.url + "/v1"}
        legal = Agent(name="legal", system_prompt="legal", dialect="anthropic", model="c", base_url=server.url)
        sales = Agent(name="sales", system_prompt="sales", tools=[add], handoffs=[legal], **about)
        task = Task(input="a contract please", agent=Agent(name="desk", system_prompt="desk", handoffs=[sales], **about))

        async def main() -> list[Any]:
            return [s async for s in Runners.steps(task, store=store)]

        steps = asyncio.run(main())
        last = server.requests[-1][1]
        path = server.requests[-1][0]
    assert [s[0] for s in steps] == [False, False, False, True] and steps[-1][2].answer == "signed"
    assert path == "/v1/messages" and last["system"] == "legal"
    kinds = [
        b["type"] for m in last["messages"] for b in (m["content"] if isinstance(m["content"], list) else [{"type": "text"}])
    ]
    assert kinds == ["text", "tool_use", "tool_result", "tool_use", "tool_result", "tool_use", "tool_result"]
    t = steps[-1][2].recorded
    assert [(s.agent, s.index) for s in t.steps] == [("desk", 0), ("sales", 0), ("sales", 1), ("legal", 0)]
    handed = [a for a in t.actions if a.name.startswith("transfer_to_")]
    assert [s.record.parent for s in t.steps[1:]] == [handed[0].id, handed[0].id, handed[1].id]
    assert [i["action"]["is_agent_finished"] for i in steps[-1][2].trajectory][-1] is True
    steps[-1][2].reward(1.0, step=1)
    assert t.id and store.trajectory(t.id).steps[1].reward == 1.0


def test_a_run_is_resumed_after_a_hand_off(store: odograph.Store) -> None:
    """It goes on with the agent that took over, in its place in the tree."""

    def script(request: dict[str, Any]) -> Answer:
        if who(request) == "desk":
            return asks(("transfer_to_sales", {}))
        done = sum(m["role"] == "tool" for m in request["messages"])
        return asks(("add", {"a": done, "b": 1}), id=f"s{done}") if done < 3 else Answer(text="sold")

    with LLMServer(script) as server:
        about = {"model": "m", "base_url": server.url + "/v1"}
        for taken in (1, 2, 3):
            sales = Agent(name="sales", system_prompt="sales", tools=[add], **about)
            desk = Agent(name="desk", system_prompt="desk", handoffs=[sales], **about)
            task = Task(input="buy", agent=desk)
            for _ in range(taken):
                asyncio.run(Runners.step(task, store=store))
            id = task._session.run.id  # type: ignore[union-attr]
            response = asyncio.run(Runners.finish(Runners.resume(store, id)))
            t = response.recorded
            assert response.answer == "sold"
            assert [(s.agent, s.index) for s in t.steps] == [("desk", 0), ("sales", 0), ("sales", 1), ("sales", 2)]
            assert {s.record.parent for s in t.steps[1:]} == {t.actions[0].id}
            assert [len(c.messages) for c in t.llm_calls] == [2, 4, 6, 8]


def test_a_sub_agent_that_fails_is_an_observation(store: odograph.Store) -> None:
    """Its failure is what the parent sees of it; the parent goes on."""
    script = model(boss=[asks(("helper", {"input": "x"})), Answer(text="alone then")], helper=[Answer(text="")])
    with LLMServer(script) as server:
        about = {"model": "m", "base_url": server.url + "/v1", "max_retries": 0}
        helper = Agent(name="helper", system_prompt="helper", **about)
        endless = Agent(name="endless", system_prompt="helper", tools=[add], max_steps=2, **about)
        response = run(store, Agent(name="boss", system_prompt="boss", tools=[helper, endless], **about))
        said = server.requests[-1][1]["messages"][-1]["content"]
    assert response.answer == "alone then" and said.startswith("error: helper failed: the model answered nothing")
