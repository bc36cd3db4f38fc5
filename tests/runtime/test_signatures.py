"""Tools as people write them, and what becomes of callables, bounds and memories at their edges."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, Unpack

import pydantic
import pytest
import typing_extensions

import odograph
from odograph import Agent, InvalidInput, MCPServer, Runners, Task, TaskConfig, ToolContext
from odograph.runtime.tools import function_tool
from tests.llm_server import Answer, LLMServer

from .scaffold import add, asks, by_turn, sent


def agent(server: LLMServer, **settings: Any) -> Agent:
    return Agent(**{"model": "m", "base_url": server.url + "/v1", "api_key": "x", "max_retries": 0, "tools": [add], **settings})


def run(store: odograph.Store, who: Any, input: Any = "q", **more: Any) -> Any:
    return Runners.sync_run(input, who, store=store, **more)


class Options(TypedDict):
    size: int
    colour: NotRequired[str]


@dataclasses.dataclass
class Order:
    n: Annotated[int, pydantic.Field(le=3)]


def placed(x: int, /, y: int = 1, *more: int, **rest: int) -> list[Any]:
    """By place, by name, and any number of either."""
    return [x, y, more, rest]


def unpacked(x: int, **options: Unpack[Options]) -> list[Any]:
    """Named options."""
    return [x, options]


def loose(x: Annotated[int, "how many"], y: int = None, **options: typing_extensions.Unpack[Options]) -> list[Any]:  # type: ignore[assignment]  # noqa: RUF013
    """A note in words, a default of None, and the options of an older Python."""
    return [x, y, options]


def nested(orders: list[Order]) -> int:
    """Limits inside of a dataclass."""
    return len(orders)


def told(q: str, a: ToolContext | None = None, b: Annotated[ToolContext, "the run"] = None) -> bool:  # type: ignore[assignment]
    """Takes the run's context."""
    return a is not None and b is not None


@pytest.mark.parametrize(
    ("tool", "given", "result"),
    [
        (placed, {"x": 1}, [1, 1, (), {}]),
        (placed, {"x": 1, "more": [4, "5"], "z": "6"}, [1, 1, (4, 5), {"z": 6}]),
        (placed, {"x": 1, "y": 2, "rest": {"z": 3}}, [1, 2, (), {"z": 3}]),
        (placed, {"x": 1, "z": "no"}, "parameter 'z': Expected `int`, got `str`"),
        (unpacked, {"x": 1, "size": 2, "colour": "red"}, [1, {"size": 2, "colour": "red"}]),
        (unpacked, {"x": 1}, "parameter 'size' is missing"),
        (unpacked, {"x": 1, "size": 2, "smell": "x"}, "no parameter 'smell'; there are: x, size, colour"),
        (loose, {"x": 1, "y": None, "size": 2}, [1, None, {"size": 2}]),
        (nested, {"orders": [{"n": 3}]}, 1),
        (nested, {"orders": [{"n": 4}]}, "parameter 'orders': 0.n: Input should be less than or equal to 3"),
        (told, {"q": "x"}, True),
    ],
)
def test_parameters_of_every_kind(tool: Any, given: dict[str, Any], result: Any) -> None:
    """Parameters by place, `*args`, typed `**kwargs`, a TypedDict of them, and limits inside of types are described, checked and
    given; the run's context is seen by no model, whatever its type is wrapped in."""
    usable = function_tool(tool)
    shown = usable.tool.parameters
    assert not {"a", "b", "rest", "options"} & shown["properties"].keys()
    if tool is placed:
        assert shown["properties"]["more"] == {"type": "array", "items": {"type": "integer"}}
        assert shown["required"] == ["x"] and shown["additionalProperties"] == {"type": "integer"}
    assert tool is not loose or shown["properties"]["x"]["description"] == "how many"
    from odograph.runtime import tools

    tools.using.set(ToolContext(None, None, "a", None, None))
    if isinstance(result, str):
        with pytest.raises(InvalidInput) as said:
            asyncio.run(usable.call(given))
        assert str(said.value) == result
    else:
        made = asyncio.run(usable.call(given))[0]
        assert made == result


def test_a_callable_that_decides_nothing_or_can_not_be_called(store: odograph.Store) -> None:
    """A callable that returns False does not approve a tool; one that exits ends its run and no other; what is no function of a
    handle is refused before anything runs."""
    used: list[int] = []

    def pay() -> str:
        """Pays."""
        used.append(1)
        return "paid"

    with LLMServer(by_turn(asks(("pay", {})), Answer(text="end"))) as server:
        no = run(store, agent(server, tools=[pay], on_tool=lambda use: False))
        assert no.status == "failed" and "returned False, which decides nothing" in no.msg and not used
        left = run(store, agent(server, on_answer=lambda answer: sys.exit(3)))
        assert left.status == "failed" and "SystemExit: 3" in left.msg
        assert run(store, agent(server, tools=[pay], on_tool=lambda use: use.approve())).answer == "end" and used

    def yields(answer: Any) -> Any:
        yield

    for wrong in ("x", 5, yields):
        with pytest.raises(TypeError, match="on_answer is a function of one argument"):
            Agent(model="m", on_answer=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="on_tool is a function of one argument"):
            TaskConfig(on_tool=wrong)  # type: ignore[arg-type]
    for choice in (5, "", {"type": "function"}):
        with pytest.raises(TypeError, match="tool_choice"):
            Agent(model="m", tool_choice=choice)  # type: ignore[arg-type]


def test_bounds_hold_however_deep_agents_are(store: odograph.Store) -> None:
    """`max_steps` of a task counts the steps of all its agents, those that helpers ask for help, too."""

    def model(request: dict[str, Any]) -> Answer:
        name = request["tools"][0]["function"]["name"]
        return asks((name, {"a": 1, "b": 1} if name == "add" else {"input": "go"}))

    with LLMServer(model) as server:
        who = agent(server, name="n0")
        for n in range(1, 5):
            who = agent(server, name=f"n{n}", tools=[who])
        response = run(store, who, conf=TaskConfig(max_steps=7))
        assert (response.status, response.msg, len(server.requests)) == ("truncated", "no end within 7 steps", 7)


HANG = """
import asyncio, sys, odograph
from odograph import Agent, Runners
async def deaf():
    "Takes no cancelling."
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
agent = Agent(model="m", base_url=sys.argv[1], api_key="x", tools=[deaf], tool_timeout=0.1)
print(asyncio.run(Runners.run("q", agent, store=odograph.open(sys.argv[2]))).answer)
"""


def test_a_tool_that_takes_no_cancelling_holds_no_program(tmp_path: Path) -> None:
    """Its time is over, the run goes on, and the program ends."""
    with LLMServer(by_turn(asks(("deaf", {})), Answer(text="end"))) as server:
        command = [sys.executable, "-W", "ignore", "-c", HANG, server.url + "/v1", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "end\n"


@dataclasses.dataclass
class Found:
    city: str
    day: datetime.date = datetime.date(2020, 1, 2)
    degrees: float = 1


@pytest.mark.parametrize("kind", [Found, list[Found], datetime.date, set[int], float])
def test_answers_of_a_rebuilt_agent_are_the_same(kind: Any, store: odograph.Store, caplog: pytest.LogCaptureFixture) -> None:
    """Replayed without the code, from the record alone, an agent with an `output_type` does the same. A type that can't be had
    again is named, in the log and in the result: answers are not compared then."""
    said = {
        Found: '{"city": "Bonn"}',
        float: '{"answer": 3}',
        datetime.date: '{"answer": "2020-01-02"}',
        set[int]: '{"answer": [1]}',
    }
    with LLMServer([Answer(text=said.get(kind, '{"answer": [{"city": "Bonn"}]}'))]) as server:
        response = run(store, agent(server, tools=[], output_type=kind))
        assert response.status == "completed"
        assert (again := asyncio.run(odograph.replay(response.trajectory_id, store=store))).same, again
        named = kind in (Found, datetime.date, float)
        assert (again.msg is None) == named and ("are plain values, not checked" in caplog.text) != named
        assert named or (str(kind) in again.msg and "the answers are not compared" in again.msg)


@dataclasses.dataclass
class Place:
    city: str
    near: Place | None = None
    tags: list[str] = dataclasses.field(default_factory=list)


def test_a_type_is_asked_for_strictly(store: odograph.Store) -> None:
    """The server is asked to hold the answer to the type: each object has all its properties and no others. A type that has no
    strict form, and a schema that was given, go as they are."""
    given = {"type": "object", "properties": {"n": {"type": "integer"}}}
    asked: list[Any] = []
    for kind, text in ((Place, '{"city": "Bonn"}'), (dict[str, int], '{"a": 1}'), (given, '{"n": 1}')):
        with LLMServer([Answer(text=text)]) as server:
            assert run(store, agent(server, tools=[], output_type=kind)).status == "completed"
            asked.append(server.requests[0][1]["response_format"]["json_schema"])
    place = asked[0]["schema"]
    assert asked[0]["strict"] and place["required"] == ["city", "near", "tags"] and place["additionalProperties"] is False
    assert place["$defs"]["Place"]["properties"]["near"] == {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]}
    assert "strict" not in asked[1] and asked[2] == {"name": "answer", "schema": given}


def test_an_answer_fits_the_schema_that_was_given(store: odograph.Store) -> None:
    """An `output_type` that is a JSON schema is checked, too: what does not fit is asked again, and says what is wrong."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    with LLMServer([Answer(text='{"n": 1}'), Answer(text='{"n": 4}')]) as server:
        assert run(store, agent(server, output_type=schema)).answer == {"n": 4}
        assert "n: 1 is less than the minimum of 3" in sent(server)[1][-1]["content"]


def test_a_session_is_kept_by_replay_and_resume_and_from_helpers(store: odograph.Store) -> None:
    """A task of a session replays as the same and is resumed with what it remembered; agents that are tools get their own
    task alone."""

    def model(request: dict[str, Any]) -> Answer:
        last = request["messages"][-1]
        return asks(("helper", {"input": "sum"})) if last == {"role": "user", "content": "two"} else Answer(text="so")

    with LLMServer(model) as server:
        boss = agent(server, tools=[agent(server, name="helper")])
        run(store, boss, "one", session="s")
        second = run(store, boss, "two", session="s")
        asked = [[m.get("content") for m in messages] for messages in sent(server)]
        assert asked[:3] == [["one"], ["one", "so", "two"], ["sum"]]
        assert asyncio.run(odograph.replay(second.trajectory_id, boss, store=store)).same
        late = Task("three", boss, session="s", id="late")

        def stop(prompt: Any) -> None:
            prompt.stop("later")

        stopped = Runners.sync_run("three", boss, TaskConfig(on_prompt=stop), session="s", store=store)
        late = Runners.resume(store, stopped.trajectory_id, agent=boss)
        assert asyncio.run(Runners.finish(late)).status == "completed"
        assert [m["content"] for m in sent(server)[-1]] == ["one", "so", "two", None, "so", "so", "three"]


def test_there_is_no_fork_past_the_end(store: odograph.Store) -> None:
    """A run that is over has no step behind its last one; where it goes on is said by its number alone."""
    with LLMServer([Answer(text="end")]) as server:
        over = run(store, agent(server)).trajectory_id
        with pytest.raises(InvalidInput, match="is over with step 0, so there is no step 1"):
            odograph.fork(over, 1, store=store)
        for wrong in ("1", 1.0, True):
            with pytest.raises(TypeError, match="at_step is the number of a step"):
                odograph.fork(over, wrong, store=store)  # type: ignore[arg-type]
        more = odograph.fork(over, 1, messages=[{"role": "user", "content": "and?"}], agent=agent(server), store=store)
        assert asyncio.run(Runners.finish(more)).answer == "end"


def test_a_tool_with_the_name_of_a_hand_off_is_a_tool(store: odograph.Store) -> None:
    """A hand-off is told by its record, and not by the name alone."""

    def transfer_to_savings(amount: int) -> str:
        """Moves money."""
        return f"{amount} moved"

    kinds: list[tuple[str, Any]] = []

    async def follow(who: Agent) -> None:
        async for event in Runners.stream(Task("q", who), store=store, text=False):
            if event.kind in ("tool", "handoff"):
                kinds.append((event.kind, event.data if event.kind == "handoff" else event.data["name"]))

    with LLMServer(
        by_turn(asks(("transfer_to_savings", {"amount": 3})), asks(("transfer_to_b", {})), Answer(text="end"))
    ) as server:
        asyncio.run(follow(agent(server, tools=[transfer_to_savings], handoffs=[agent(server, name="b")])))
    assert kinds == [("tool", "transfer_to_savings"), ("handoff", "b")]


RAW = """
import json, sys
def send(to, result): print(json.dumps({"jsonrpc": "2.0", "id": to["id"], "result": result}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("method") == "initialize":
        about = {"protocolVersion": asked["params"]["protocolVersion"], "serverInfo": {"name": "s", "version": "1"}}
        send(asked, {**about, "capabilities": {"tools": {}}})
    elif asked.get("method") == "tools/list":
        send(asked, {"tools": [{"name": "t", "inputSchema": {"type": "object"}}, {"name": "u", "inputSchema": {"type": "object"}}]})
    elif asked.get("method") == "tools/call":
        link = {"content": [{"type": "resource_link", "uri": "file:///b", "name": "b"}]}
        send(asked, {"content": [], "structuredContent": {"a": 1}} if asked["params"]["name"] == "t" else link)
    elif "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
"""


def test_what_an_mcp_server_answers_without_text_is_told(store: odograph.Store, tmp_path: Path) -> None:
    """A structured result alone, and a link: the model reads what they hold."""
    pytest.importorskip("mcp")
    (tmp_path / "raw.py").write_text(RAW)
    server_ = MCPServer(command=sys.executable, args=[str(tmp_path / "raw.py")])
    with LLMServer(by_turn(asks(("t", {}), ("u", {})), Answer(text="end"))) as server:
        assert run(store, agent(server, tools=[server_])).answer == "end"
    assert [m["content"] for m in sent(server)[1][-2:]] == ['{"a":1}', "[resource_link file:///b]"]
