"""`Agent`: tools, dialects, streams, retries, structured answers, and everything that models and tools do wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

import odograph
from odograph import Agent, InvalidInput, Runners, Task, TaskConfig
from tests.llm_server import Answer, LLMServer

from .scaffold import PATHS, add, asks, by_turn, sent


def agent(server: LLMServer, **more: Any) -> Agent:
    dialect = more.get("dialect", "openai.chat")
    return Agent(**{"name": "a", "model": "m", "base_url": server.url + PATHS[dialect], "api_key": "x", "max_retries": 0} | more)


def run(store: odograph.Store, who: Agent, input: Any = "go", **conf: Any) -> Any:
    task = Task(input=input, agent=who, conf=TaskConfig(**conf))
    return asyncio.run(Runners.run_task(task, store=store))[task.id]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", list(PATHS))
def test_three_dialects_streaming_or_not(store: odograph.Store, dialect: str, stream: bool) -> None:
    """The same agent over chat, responses and messages: one growing conversation in the API's own form, recorded as sent."""
    model = by_turn(
        Answer(text="let me see", reasoning="hm", tool_calls=asks(("add", {"a": 1, "b": 2}), ("nope", {})).tool_calls),
        Answer(text="three"),
    )
    heard: list[str] = []
    with LLMServer(model) as server:
        who = agent(server, dialect=dialect, tools=[add], system_prompt="Add.", params={"temperature": 0.0})
        response = run(store, who, on_text=heard.append if stream else None)
        bodies = [body for _, body in server.requests]
    assert response.answer == "three", response.msg
    t = response.recorded
    assert [c.request for c in t.llm_calls] == bodies and [c.dialect for c in t.llm_calls] == [dialect] * 2
    assert "".join(heard) == ("let me seethree" if stream else "") and (len(heard) > 3) is stream
    assert bool(bodies[0].get("stream")) is stream and bodies[0]["temperature"] == 0.0
    messages = t.llm_calls[1].messages
    assert [m["role"] for m in messages if not m.get("reasoning_content") or m.get("tool_calls")] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    assert messages[0]["content"] == "Add." and messages[-2]["content"] == "3" and "no tool 'nope'" in messages[-1]["content"]
    assert [a.ok for a in t.actions] == [True, False] or [a.ok for a in t.actions] == [False, True]
    item = response.trajectory[0]
    assert [c["function"]["name"] for c in item["action"]["tool_calls"]] == ["add", "nope"]
    assert [r["ok"] for r in item["action"]["results"]] == [True, False]
    assert t.llm_calls[0].choices[0].tool_calls[0].id == "call_0"
    replayed = asyncio.run(odograph.replay(t.id, who, store=store))
    assert replayed.same, replayed


def test_tools_run_in_parallel(store: odograph.Store) -> None:
    """Tools that one answer asks for run at once, sync ones in threads; their records say how long each took."""
    both = threading.Barrier(2)

    def left() -> str:
        both.wait()
        return "l"

    def right() -> str:
        both.wait()
        return "r"

    with LLMServer(by_turn(asks(("left", {}), ("right", {})), Answer(text="end"))) as server:
        response = run(store, agent(server, tools=[left, right]))
        assert [m["content"] for m in sent(server)[1][-2:]] == ["l", "r"]
    assert response.answer == "end"


@dataclass
class Point:
    x: int
    y: int = 0


class Shape(pydantic.BaseModel):
    sides: int


def test_schemas_come_from_hints_and_docstrings() -> None:
    """Type hints make the schema, the docstring the descriptions; dataclasses, Literals and pydantic models too."""

    async def draw(
        at: Point,
        kind: Literal["dot", "box"],
        shape: Shape,
        size: Annotated[int, msgspec.Meta(ge=1)] = 1,
        *,
        tags: list[str] | None = None,
    ) -> str:
        """Draws something.

        Longer text.

        Args:
            at: where
            kind: what
        """
        return f"{kind} at {at.x},{at.y} with {shape.sides} sides, {size} {tags}"

    with LLMServer(
        by_turn(
            asks(("draw", {"at": {"x": "3"}, "kind": "dot", "shape": {"sides": 4}, "tags": ["a"]})),
            asks(("draw", {"at": {"x": 1}, "kind": "blob", "shape": {"sides": 4}}), id="b"),
            asks(("draw", {"at": {"x": 1}}), id="c"),
            asks(("draw", {"at": {"x": 1}, "kind": "dot", "shape": {"sides": 1}, "colour": 1}), id="d"),
            Answer(text="end"),
        )
    ) as server:
        with odograph.open("memory:") as store:
            run(store, agent(server, tools=[draw]))
        function = server.requests[0][1]["tools"][0]["function"]
        results = [m["content"] for m in sent(server)[-1] if m["role"] == "tool"]
    schema = function["parameters"]
    assert function["description"] == "Draws something.\n\nLonger text."
    assert schema["required"] == ["at", "kind", "shape"] and schema["additionalProperties"] is False
    assert schema["properties"]["kind"]["enum"] == ["box", "dot"] and schema["properties"]["kind"]["description"] == "what"
    assert (
        schema["properties"]["size"] == {"type": "integer", "minimum": 1, "default": 1}
        or "minimum" in schema["properties"]["size"]
    )
    assert "Point" in schema["$defs"] and schema["properties"]["shape"]["type"] == "object"
    assert results[0] == "dot at 3,0 with 4 sides, 1 ['a']"
    assert "parameter 'kind'" in results[1] and "parameter 'kind' is missing" in results[2]
    assert "no parameter 'colour'; there are: at, kind, shape, size, tags" in results[3]


def test_functions_that_can_be_no_tools_say_why() -> None:
    """A lambda, a type without a schema, two tools of one name."""

    def odd(x: threading.Thread) -> None: ...

    for tools, why in (
        ([lambda: 1], "give a def"),
        ([odd], "no JSON schema"),
    ):
        with pytest.raises(TypeError, match=why):
            Agent(model="m", tools=tools)
    with pytest.raises(InvalidInput, match="two tools are named 'add'"):
        Agent(model="m", tools=[add, add])
    with pytest.raises(InvalidInput, match=r"no dialect named 'x'; there are: anthropic.messages"):
        Agent(model="m", dialect="x")
    with pytest.raises(TypeError):
        Agent(model="")


def test_whatever_a_tool_does_is_an_observation(store: odograph.Store) -> None:
    """A tool that raises, hangs, exits, or gives what JSON can't hold: the model is told, the record says it, the run goes on."""

    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    def raises() -> str:
        raise ValueError("no such file")

    def hangs() -> str:
        time.sleep(3600)
        return ""

    async def hangs_too() -> str:
        await asyncio.sleep(3600)
        return ""

    def leaves() -> str:
        sys.exit(3)

    def odd() -> Any:
        return {"a": Odd(), "b": float("nan"), "c": {1, 2}}

    def nothing() -> None:
        return None

    def huge() -> str:
        return "x" * 1_000_000

    names = ["raises", "hangs", "hangs_too", "leaves", "odd", "nothing", "huge"]
    tools = [raises, hangs, hangs_too, leaves, odd, nothing, huge]
    with LLMServer(by_turn(asks(*((n, {}) for n in names)), Answer(text="end"))) as server:
        began = time.perf_counter()
        response = run(store, agent(server, tools=tools, max_tool_output=1000), tool_timeout=2)
        assert time.perf_counter() - began < 1800  # the tools sleep an hour
        said = dict(zip(names, [m["content"] for m in sent(server)[1][-7:]], strict=True))
    assert response.answer == "end"
    assert said["raises"] == "error: ValueError: no such file"
    assert said["hangs"] == said["hangs_too"] == "error: no answer within 2 s"
    assert said["leaves"] == "error: SystemExit: 3" and said["nothing"] == "null"
    assert "<odd>" in said["odd"] and "nan" in said["odd"]
    assert len(said["huge"]) < 1100 and "(999000 characters left out)" in said["huge"]
    acted = {a.name: a for a in response.recorded.actions}
    assert {n: a.ok for n, a in acted.items()} == dict.fromkeys(names, False) | {"odd": True, "nothing": True, "huge": True}
    assert len(acted["huge"].result) == 1_000_000 and acted["raises"].error == {"type": "ValueError", "message": "no such file"}
    json.dumps(response.trajectory)


def test_whatever_a_model_asks_is_answered(store: odograph.Store) -> None:
    """Unknown tools, arguments that are no JSON or no object, the same id twice."""
    bad = asks(("nope", {}), ("add", "{broken"), ("add", "[1]"), ("add", ""), ("add", {"a": 1, "b": 1}))
    with LLMServer(by_turn(bad, Answer(text="end"))) as server:
        response = run(store, agent(server, tools=[add]))
        said = [m["content"] for m in sent(server)[1][-5:]]
    assert "no tool 'nope'; there are: add" in said[0] and "not JSON" in said[1] and "object, not list" in said[2]
    assert "parameter 'a' is missing" in said[3] and said[4] == "2"
    assert response.success and response.recorded.actions[1].arguments == "{broken"


def test_no_null_is_sent_for_a_number_that_json_lacks(store: odograph.Store) -> None:
    """The answer of a loose backend holds NaN; to send it again as null would tell the model that it said something else. The run
    ends with the place, and nothing is sent, as with the providers' own SDKs."""
    block = b'{"type":"tool_use","id":"t1","name":"add","input":{"a":NaN,"b":1}}'
    odd = Answer(raw=b'{"type":"message","role":"assistant","model":"m","stop_reason":"tool_use","content":[' + block + b"]}")
    with LLMServer([odd, Answer(text="end")]) as server:
        response = run(store, agent(server, dialect="anthropic.messages", tools=[add]))
        assert len(sent(server)) == 1
    assert response.status == "failed" and "no JSON: messages[1].content[0].input.a is nan" in str(response.msg)
    assert response.recorded.llm_calls[0].response["content"][0]["input"]["a"] == {"$odograph": "float", "value": "nan"}


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (Answer(text=""), "failed", "the model answered nothing (finish reason 'stop')"),
        (Answer(raw=b"{}"), "failed", "with no openai.chat body"),
        (Answer(raw=b"<html>"), "failed", "with no openai.chat body"),
        (Answer(status=401, text="bad key"), "failed", "HTTP 401: bad key"),
        (Answer(status=503, raw=b"gone"), "failed", "HTTP 503"),
        (Answer(text="cut in the middle of it all", drop_after=60), "failed", "did not answer"),
    ],
)
def test_a_model_that_does_not_answer_is_a_clear_outcome(store: odograph.Store, answer: Answer, status: str, why: str) -> None:
    """Nothing said, rubbish, refusals, a connection cut: a status and a sentence, and what was asked is on record."""
    with LLMServer([answer]) as server:
        response = run(store, agent(server))
    assert response.status == status and why in response.msg and not response.success and response.answer is None
    t = response.recorded
    assert t.status == status and len(t.llm_calls) == 1 and t.llm_calls[0].messages == [{"role": "user", "content": "go"}]
    if "answered nothing" not in why:
        assert t.end.metrics == {"status": "error_environment"}


def test_endpoints_that_refuse_or_time_out(store: odograph.Store) -> None:
    """Nobody listens, nobody answers: recorded, and said in one sentence."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    response = run(store, Agent(model="m", base_url=url, max_retries=1))
    assert response.status == "failed" and "did not answer, 2 times: ConnectError" in response.msg
    with LLMServer([Answer(delay=3)]) as server:
        response = run(store, agent(server, timeout=1))
    assert response.status == "failed" and "ReadTimeout" in response.msg
    assert response.recorded.llm_calls[0].error["type"].endswith("ReadTimeout")
    response = run(store, Agent(model="m", base_url="no url at all", max_retries=0))
    assert response.status == "failed" and response.msg


def test_retries_with_backoff_are_one_call(store: odograph.Store) -> None:
    """429 and 5xx are asked again, as long as the server says; the record is one call with its failed attempts."""
    script = [Answer(status=429, text="slow down"), Answer(status=500), Answer(text="end")]
    with LLMServer(script) as server:
        response = run(store, agent(server, max_retries=3))
        assert len(server.requests) == 3
    t = response.recorded
    assert response.answer == "end" and len(t.llm_calls) == 1 and len(t.steps) == 1
    assert [r["status_code"] for r in t.llm_calls[0].record.extra["retries"]] == [429, 500]
    with LLMServer([Answer(status=400, text="bad request"), Answer(text="end")]) as server:
        assert "HTTP 400" in run(store, agent(server, max_retries=3)).msg and len(server.requests) == 1


@pytest.mark.parametrize("dialect", list(PATHS))
def test_a_stream_that_stops_in_the_middle(store: odograph.Store, dialect: str) -> None:
    """Half an answer is asked again where nobody heard it; where the caller did, it is an error. What came is on record."""
    half, whole = Answer(text="half an answer " * 20, drop_after=1500), Answer(text="whole")
    with LLMServer([half, whole]) as server:
        response = run(store, agent(server, dialect=dialect, stream=True, max_retries=1))
    assert response.answer == "whole" and len(response.recorded.llm_calls) == 1
    with LLMServer([half, whole]) as server:
        heard: list[str] = []
        response = run(store, agent(server, dialect=dialect, max_retries=1), on_text=heard.append)
        assert len(server.requests) == 1
    assert "the stream broke" in response.msg and heard
    assert response.recorded.llm_calls[0].text.startswith("ha")


def test_text_callbacks_may_be_async(store: odograph.Store) -> None:
    """`on_text` may be a coroutine function."""
    heard: list[str] = []

    async def hear(text: str) -> None:
        await asyncio.sleep(0)
        heard.append(text)

    with LLMServer([Answer(text="hello there")]) as server:
        assert run(store, agent(server), on_text=hear).answer == "hello there" == "".join(heard)


class City(msgspec.Struct):
    name: str
    people: int


@pytest.mark.parametrize("kind", [City, Shape, {"type": "object"}])
@pytest.mark.parametrize("dialect", list(PATHS))
def test_structured_answers(store: odograph.Store, dialect: str, kind: Any) -> None:
    """The schema goes in the API's own field, the answer comes back as the type; one that does not fit is asked again."""
    text = {City: '{"name": "Bonn", "people": 330000}', Shape: '{"sides": 3}'}.get(
        kind if isinstance(kind, type) else None, '{"a": 1}'
    )
    count = iter(range(9))
    with LLMServer(lambda request: Answer(text="I think that" if next(count) == 0 else f"```json\n{text}\n```")) as server:
        response = run(store, agent(server, dialect=dialect, output_type=kind))
        first, second = (body for _, body in server.requests)
    field = {"openai.chat": "response_format", "openai.responses": "text", "anthropic.messages": "output_config"}[dialect]
    assert '"object"' in json.dumps(first[field])
    assert response.answer == (City("Bonn", 330000) if kind is City else Shape(sides=3) if kind is Shape else {"a": 1})
    assert "is not valid" in json.dumps(second)


def test_inputs_may_be_messages_or_parts(store: odograph.Store) -> None:
    """A list of chat messages goes in as it is, its system messages behind the agent's; content parts are one message."""
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    with LLMServer([Answer(text="end")]) as server:
        run(store, agent(server, system_prompt="Be brief."), [*messages, {"role": "user", "content": "c"}])
        run(store, agent(server), parts)
        run(store, agent(server, dialect="anthropic.messages"), parts)
        run(store, agent(server), {"question": "why"})
        found = [body for _, body in server.requests]
    assert found[0]["messages"][0] == {"role": "system", "content": "Be brief.\n\nBe kind."} and len(found[0]["messages"]) == 4
    assert found[1]["messages"] == [{"role": "user", "content": parts}]
    assert found[2]["messages"][0]["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert found[3]["messages"][0]["content"] == '{"question":"why"}'


def test_token_ids_are_asked_for_and_kept(store: odograph.Store) -> None:
    """`tokens=True` asks for ids and logprobs, and the record has them."""
    with LLMServer([Answer(text="hi", token_ids=[5, 6], logprobs=[-0.5, -0.25], prompt_token_ids=[1, 2, 3])]) as server:
        t = run(store, agent(server, tokens=True)).recorded
        assert server.requests[0][1]["return_token_ids"] is True
    assert t.llm_calls[0].prompt_token_ids == [1, 2, 3] and t.llm_calls[0].choices[0].logprobs == [-0.5, -0.25]


def test_calls_that_a_tool_makes_are_not_the_agents(store: odograph.Store) -> None:
    """A tool that asks a model through a wrapped client: recorded inside of its action, for `tool`, not to act."""
    import openai

    with LLMServer(by_turn(asks(("ask", {})), Answer(text="end"))) as server:
        client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x"))

        async def ask() -> str:
            await client.chat.completions.create(model="other", messages=[{"role": "user", "content": "hm"}])
            return "asked"

        t = run(store, agent(server, tools=[ask])).recorded
    assert [(c.model, c.purpose) for c in t.llm_calls] == [("m", "act"), ("other", "tool"), ("m", "act")]
    assert t.llm_calls[1].record.parent == t.actions[0].id and t.actions[0].llm_call == t.llm_calls[0].id


def test_keys_are_never_recorded(store: odograph.Store) -> None:
    """Neither the key nor headers are anywhere in the store."""
    with LLMServer([Answer(text="end")]) as server:
        run(store, agent(server, api_key="sk-very-secret", headers={"x-secret": "hush-hush"}))
    assert all(b"very-secret" not in p.read_bytes() and b"hush-hush" not in p.read_bytes() for p in store.root.rglob("*.jsonl"))
