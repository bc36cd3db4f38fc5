"""Outcomes are true, what a model is told is clean, tools are described as people write them, and a batch is done once."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import json
import pathlib
import subprocess
import sys
import time
import uuid
from typing import Annotated, Any

import openai
import pydantic
import pytest

import odograph
from odograph import Agent, Runners, Task, TaskConfig, dialects
from tests.llm_server import Answer, LLMServer
from tests.runtime.scaffold import add, asks, by_turn, sent


def run(task: Task, store: odograph.Store) -> Any:
    return asyncio.run(Runners.run_task(task, store=store))[task.id]


def agent(server: LLMServer, **about: Any) -> Agent:
    return Agent(**({"model": "m", "base_url": server.url + "/v1", "api_key": "x"} | about))


def chat(finish: str, text: str | None = "half an ans") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return Answer(raw=json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).encode())


def messages(stop: str, text: str = "part") -> Answer:
    body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": text}]}
    return Answer(raw=json.dumps({**body, "stop_reason": stop, "usage": {"input_tokens": 1, "output_tokens": 1}}).encode())


@pytest.mark.parametrize(
    ("answer", "dialect", "status"),
    [
        (chat("length"), "openai.chat", "truncated"),
        (chat("content_filter"), "openai.chat", "failed"),
        (chat("error"), "openai.chat", "failed"),
        (chat("model_length"), "openai.chat", "truncated"),
        (chat("MALFORMED_FUNCTION_CALL"), "openai.chat", "failed"),
        (chat("insufficient_system_resource"), "openai.chat", "failed"),
        (chat("guardrail_intervened"), "openai.chat", "failed"),
        (chat("PROHIBITED_CONTENT"), "openai.chat", "failed"),
        (chat("max_completion_tokens"), "openai.chat", "truncated"),
        (chat("stop"), "openai.chat", "completed"),
        (messages("max_tokens"), "anthropic.messages", "truncated"),
        (messages("model_context_window_exceeded"), "anthropic.messages", "truncated"),
        (messages("refusal"), "anthropic.messages", "failed"),
        (messages("end_turn"), "anthropic.messages", "completed"),
    ],
)
def test_an_answer_that_was_cut_or_refused_is_not_completed(
    answer: Answer, dialect: str, status: str, store: odograph.Store
) -> None:
    """The status says what became of the answer, its reason is in the message, and what was said of it is kept."""
    with LLMServer([answer]) as server:
        base = server.url + ("/v1" if dialect == "openai.chat" else "")
        response = run(Task("q", agent(server, base_url=base, dialect=dialect)), store)
    assert response.status == status
    assert response.answer in ("half an ans", "part")
    if status != "completed":
        assert "finish reason" in str(response.msg)


def test_a_paused_turn_goes_on(store: odograph.Store) -> None:
    """Anthropic's `pause_turn` is no end: the same turn is sent back, and the next answer counts."""
    with LLMServer([messages("pause_turn", "let me"), messages("end_turn", "done")]) as server:
        response = run(Task("q", agent(server, base_url=server.url, dialect="anthropic.messages")), store)
    assert (response.status, response.answer) == ("completed", "done")
    assert "let me" in json.dumps(sent(server)[1])


def test_an_outgrown_context_is_truncated_and_no_fault_of_the_environment(store: odograph.Store) -> None:
    """A model that refuses a prompt as too long ends the run as truncated: it is the policy that let the context grow."""
    said = {"error": {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}}
    too_long = Answer(status=400, raw=json.dumps(said).encode())
    with LLMServer([asks(("add", {"a": 1, "b": 2})), too_long]) as server:
        response = run(Task("q", agent(server, tools=[add])), store)
    t = store.trajectory(response.trajectory_id)
    assert (t.status, (t.end.metrics if t.end else None)) == ("truncated", {})
    assert "8192" in str(response.msg)


@pytest.mark.parametrize(
    ("said", "status", "why"),
    [
        (chat("length"), "truncated", "was cut off (finish reason 'length')"),
        (chat("content_filter"), "failed", "was stopped (finish reason 'content_filter')"),
        (
            Answer(status=400, raw=b'{"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}'),
            "truncated",
            "9 tokens > 8",
        ),
        (Answer(status=400, raw=b'{"error": {"message": "no such model"}}'), "failed", "no such model"),
    ],
)
def test_the_answer_of_a_function_is_true_too(said: Answer, status: str, why: str, store: odograph.Store) -> None:
    """A function that gives a cut answer as its own, or that fails because the context is outgrown, ends as an `Agent` does; one
    that makes something else of a cut answer is done."""

    async def solve(question: str) -> str:
        asked: Any = [{"role": "user", "content": question.strip("!")}]
        async with odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0)) as client:
            made = await client.chat.completions.create(model="m", messages=asked)
        return (made.choices[0].message.content or "") + question[1:]

    with LLMServer([said]) as server:
        response = run(Task("q", solve), store)
        assert response.status == status and why in str(response.msg)
        assert said.status == 400 or run(Task("q!", solve), store).status == "completed"


def when() -> dict[str, Any]:
    """Says when."""
    return {
        "at": datetime.datetime(2024, 1, 2, 3, 4),
        "price": decimal.Decimal("1.50"),
        "file": pathlib.PurePosixPath("/x"),
        "tags": {"b", "a"},
        "took": datetime.timedelta(hours=1),
        "raw": b"\xff\x00",
        "nan": float("nan"),
    }


def test_a_model_reads_no_tags_of_the_store(store: odograph.Store) -> None:
    """Dates, decimals, paths, sets, bytes and NaN reach the model as JSON that it can read, in results and in tasks."""
    with LLMServer(by_turn(asks(("when", {})), Answer(text="ok"))) as server:
        run(Task({"day": datetime.date(2024, 1, 2)}, agent(server, tools=[when])), store)
    task, told = sent(server)[0][-1]["content"], sent(server)[1][-1]["content"]
    assert json.loads(task) == {"day": "2024-01-02"}
    expected = {"at": "2024-01-02T03:04:00", "price": "1.50", "file": "/x", "tags": ["a", "b"], "took": "1:00:00"}
    assert json.loads(told) == {**expected, "raw": "/wA=", "nan": "nan"}


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize("value", [Colour.RED, uuid.UUID(int=7)])
def test_what_the_record_has_as_text_is_text(value: Any, store: odograph.Store) -> None:
    """An enum and a UUID reach the model as the text that the record has: a replay asks the same."""

    def which() -> Any:
        """Says which."""
        return value

    with LLMServer(by_turn(asks(("which", {})), Answer(text="ok"))) as server:
        one = agent(server, tools=[which])
        response = run(Task("q", one), store)
        assert sent(server)[1][-1]["content"] == response.recorded.actions[0].result == str(getattr(value, "value", value))
        assert asyncio.run(odograph.replay(response.trajectory_id or "", one, store=store)).same


async def slow() -> str:
    """Takes long, and longer to tidy up."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(30)
    return ""


def test_the_time_of_a_tool_bounds_its_clean_up(store: odograph.Store) -> None:
    """A tool whose time is over does not hold the run while it tidies up."""
    with LLMServer(by_turn(asks(("slow", {})), Answer(text="ok"))) as server:
        began = time.monotonic()
        response = run(Task("q", agent(server, tools=[slow], tool_timeout=0.2)), store)
        took = time.monotonic() - began
    assert response.answer == "ok"
    assert took < 20  # of the 30 that it would take
    assert "no answer within 0.2 s" in sent(server)[1][-1]["content"]


def both() -> None:
    """Fails twice."""
    raise ExceptionGroup("two things", [ValueError("the first"), KeyError("the second")])


async def ends() -> str:
    """Ends."""
    raise BaseExceptionGroup("at once", [SystemExit("bye"), KeyError("the third")])


def test_all_errors_of_a_group_are_told(store: odograph.Store) -> None:
    """A tool that fails in several ways tells the model each; one that would end the program ends itself alone."""
    with LLMServer(by_turn(asks(("both", {}), ("ends", {})), Answer(text="ok"))) as server:
        run(Task("q", agent(server, tools=[both, ends])), store)
    told = [m["content"] for m in sent(server)[1][-2:]]
    assert told == [
        "error: two things: ValueError: the first; KeyError: 'the second'",
        "error: at once: SystemExit: bye; KeyError: 'the third'",
    ]


def test_the_steps_of_a_task_bound_its_sub_agents(store: odograph.Store) -> None:
    """`max_steps` of a task counts the steps of agents that are tools, too."""
    with LLMServer(lambda r: asks(("sub", {"input": "x"}) if r["model"] == "m" else ("add", {"a": 1, "b": 1}))) as server:
        helper = agent(server, name="sub", model="ms", tools=[add])
        run(Task("q", agent(server, tools=[helper]), TaskConfig(max_steps=3)), store)
    assert len(server.requests) <= 6


def test_annotations_and_defaults_reach_the_model(store: odograph.Store) -> None:
    """Pydantic's constraints, `Field(...)` defaults and plain defaults are in the schema, are checked, and are used."""

    def t(
        a: Annotated[int, pydantic.Field(gt=0, description="positive")],
        age: int = pydantic.Field(3, description="years"),
        n: int = 5,
    ) -> str:
        """T."""
        return f"{a} {age} {n}"

    with LLMServer(by_turn(asks(("t", {"a": -3})), asks(("t", {"a": 1})), Answer(text="ok"))) as server:
        run(Task("q", agent(server, tools=[t])), store)
    parameters = server.requests[0][1]["tools"][0]["function"]["parameters"]
    assert parameters["required"] == ["a"]
    assert parameters["properties"]["a"]["exclusiveMinimum"] == 0
    assert parameters["properties"]["a"]["description"] == "positive"
    assert parameters["properties"]["age"]["description"] == "years"
    assert parameters["properties"]["n"]["default"] == 5
    assert sent(server)[1][-1]["content"].startswith("error")
    assert sent(server)[2][-1]["content"] == "1 3 5"


@pytest.mark.parametrize(
    ("kind", "said", "answer"), [(str, "hello", "hello"), (list[int], '{"answer": [1]}', [1]), (int, "4", 4)]
)
def test_answers_of_any_type(kind: Any, said: str, answer: Any, store: odograph.Store) -> None:
    """`output_type=str` is text; what is no object is asked for inside of one, as the APIs want it."""
    with LLMServer([Answer(text=said)]) as server:
        response = run(Task("q", agent(server, output_type=kind)), store)
    assert (response.answer, len(server.requests)) == (answer, 1)
    asked = server.requests[0][1].get("response_format")
    assert asked is None if kind is str else asked["json_schema"]["schema"]["type"] == "object"


def test_arguments_are_text_where_a_conversation_comes_to_a_chat_model(store: odograph.Store) -> None:
    """A conversation that an Anthropic agent hands to a chat agent has its tool calls' arguments as JSON text."""
    asked = {"type": "tool_use", "id": "t", "name": "transfer_to_c", "input": {}}
    body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [asked], "stop_reason": "tool_use"}
    first = Answer(raw=json.dumps({**body, "usage": {"input_tokens": 1, "output_tokens": 1}}).encode())
    with LLMServer([first, Answer(text="done")]) as server:
        other = agent(server, name="c", model="c")
        run(Task("q", agent(server, base_url=server.url, dialect="anthropic.messages", handoffs=[other])), store)
    (call,) = [c for m in sent(server)[1] for c in m.get("tool_calls", ())]
    assert call["function"]["arguments"] == "{}"


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "anthropic.messages", "gemini"])
def test_images_go_from_one_dialect_to_another(dialect: str) -> None:
    """Images of a task, and of a tool whose result another dialect has, stand in each dialect as it wants them."""
    url = "data:image/png;base64,ZG90"
    theirs = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "ZG90"}}
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    sent = [
        {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t", "name": "f", "content": [{"type": "text", "text": "dot"}, theirs]},
    ]
    items = dialects.get(dialect).history(sent)
    image: Any = {
        "openai.chat": {"type": "image_url", "image_url": {"url": url}},
        "openai.responses": {"type": "input_image", "image_url": url},
        "anthropic.messages": theirs,
        "gemini": {"inlineData": {"mimeType": "image/png", "data": "ZG90"}},
    }[dialect]
    of_task, of_tool = items[0].get("content") or items[0]["parts"], items[-1].get("content") or items[-1]["parts"]
    assert of_task[1] == image and of_tool[-1] == image and json.dumps(items[-2]).count("dot") == 1


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "anthropic.messages", "openai.completions"])
def test_results_of_tools_go_from_one_dialect_to_another(dialect: str) -> None:
    """Gemini and Bedrock hold results in objects; each other dialect is sent their text."""
    call = {"functionCall": {"name": "f", "args": {}}}
    for given, text in (({"output": "3"}, "3"), ({"error": "no"}, "no"), ({"sky": "grey", "c": 9}, '{"sky":"grey","c":9}')):
        told = {"functionResponse": {"name": "f", "response": given}}
        contents = [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [call]},
            {"role": "user", "parts": [told]},
        ]
        last: Any = dialects.get(dialect).history(dialects.get("gemini").messages({"contents": contents}))[-1]
        assert _result(last) == text
    result = {"toolResult": {"toolUseId": "t", "content": [{"text": "it is "}, {"json": {"c": 9}}]}}
    made = dialects.get("bedrock.converse").messages({"messages": [{"role": "user", "content": [result]}]})
    assert _result(dialects.get(dialect).history(made)[-1]) == 'it is {"c":9}'


def _result(item: Any) -> Any:
    """What an item of a history says of a tool's result."""
    return item["output"] if "output" in item else item["content"] if "tool_call_id" in item else item["content"][0]["content"]


def test_a_function_is_stepped_over_event_loops(store: odograph.Store) -> None:
    """Each step of a function may be taken in an `asyncio.run` of its own: what it asked before is not asked again."""
    openai = pytest.importorskip("openai")
    with LLMServer([Answer(text=f"a{n}") for n in range(3)]) as server:

        async def solve(question: str) -> str:
            answer = ""
            async with odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x")) as client:
                for n in range(3):
                    done = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": f"{question}{n}"}]
                    )
                    answer = done.choices[0].message.content
            return answer

        task = Task("q", solve)
        ends = [asyncio.run(Runners.step(task, store=store))[0] for _ in range(3)]
    assert ends == [False, False, True]
    assert len(server.requests) == 3
    assert store.trajectory(task._session.run.id).answer == "a2"


BATCH = """
import asyncio, sys, odograph
from odograph import Agent, Runners, Task
url, where = sys.argv[1:]
agent = Agent(model="m", base_url=url, api_key="x")
tasks = [Task(f"q{n}", agent, id=f"t{n}") for n in range(6)]
store = odograph.open(where)
done = asyncio.run(Runners.run_task(tasks, store=store, resume=True, max_concurrency=2, progress=False))
print(sorted({r.answer for r in done.values()}))
"""


def test_two_processes_do_a_batch_once(tmp_path: pathlib.Path) -> None:
    """A batch that is started twice with `resume=True` does nothing twice; both processes have all answers."""
    with LLMServer(lambda r: Answer(text="ok", delay=0.2)) as server:
        command = [sys.executable, "-c", BATCH, server.url + "/v1", str(tmp_path / "s")]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [p.communicate()[0].strip() for p in both]
    assert said == ["['ok']", "['ok']"]
    assert len(server.requests) == 6
    with odograph.open(tmp_path / "s") as store:
        assert sorted(t.metadata["runtime"]["task_id"] for t in store.trajectories()) == [f"t{n}" for n in range(6)]
