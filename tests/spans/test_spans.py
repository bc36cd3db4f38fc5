"""Spans of instrumentation libraries -> records: each convention in the shapes in which emitters send it, written by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import shown, spans
from odograph.importers import Session
from odograph.types import Action, AnyRecord, Context, End, LLMCall, Note, Reward, Start, StepStart

MS = 1_000_000
BEGAN = 1_790_000_000_000 * MS


def span(
    id: str, attributes: dict[str, Any], at: float = 0, took: float = 10, parent: str | None = None, **more: Any
) -> spans.TraceSpan:
    times = {"start": int(BEGAN + at * MS), "end": int(BEGAN + (at + took) * MS)}
    return spans.TraceSpan(**{"trace": "t1", "id": id, "parent": parent, "attributes": attributes, "name": id, **times, **more})


def log(n: int, name: str, **attributes: Any) -> spans.TraceSpan:
    """A log record of an agent's own telemetry."""
    about = {"event.name": name, "session.id": "s", **attributes}
    return spans.TraceSpan(
        trace="", id=f"log{n}", name=name, start=BEGAN + n * MS, end=BEGAN + n * MS, attributes=about, log=True
    )


def made(*given: spans.TraceSpan) -> list[AnyRecord]:
    ((key, group),) = spans.groups(given)
    session = Session("spans", *key)
    spans.write(group, session, {"format": "spans"})
    return session.records


def of(kind: Any, records: list[AnyRecord]) -> list[Any]:
    return [r for r in records if isinstance(r, kind)]


def text(kind: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": kind, "parts": [{"type": "text", "content": content}], **more}


ASKED = [text("user", "Capital?")]
CALL = {"type": "tool_call", "id": "c1", "name": "bash", "arguments": {"command": "ls"}}
TOOL = [{"type": "function", "name": "bash", "parameters": {"type": "object"}}]


def genai(messages: list[Any], said: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps(said),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        **{k.replace("__", "."): v for k, v in more.items()},
    }


def run(*, ids: bool = True) -> list[spans.TraceSpan]:
    """An agent that asks, acts and asks again, in GenAI's conventions of today."""
    called = [{"role": "assistant", "parts": [CALL], "finish_reason": "tool_call"}]
    told = [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "a.txt"}]}]
    system = json.dumps([{"type": "text", "content": "be brief"}])
    first = genai(
        ASKED,
        called,
        gen_ai__system_instructions=system,
        gen_ai__tool__definitions=json.dumps(TOOL),
        gen_ai__request__temperature=0.0,
    )
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "bash",
        "gen_ai.tool.call.arguments": '{"command":"ls"}',
        "gen_ai.tool.call.result": "a.txt",
    }
    again = genai([*ASKED, *called, *told], [text("assistant", "Paris.", finish_reason="stop")])
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "solver", "gen_ai.aggregated_usage.input_tokens": 22}
    return [
        span("a", first, 1, parent="root"),
        span("b", tool | ({"gen_ai.tool.call.id": "c1"} if ids else {}), 12, parent="root"),
        span("c", again, 30, parent="root"),
        span("root", agent, 0, 50),
    ]


@pytest.mark.parametrize("ids", [True, False])
def test_a_run_of_an_agent(ids: bool) -> None:
    """Calls, the tool that the first one asked for (by its id, or by name and arguments), agent, task and end are there; the totals
    of the agent's span are a note, not tokens again."""
    records = made(*run(ids=ids))
    first, again = of(LLMCall, records)
    (action,) = of(Action, records)
    assert first.request == {
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Capital?"}],
        "model": "m",
        "temperature": 0.0,
        "tools": [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}],
    }
    assert first.response["tool_calls"][0]["function"] == {"name": "bash", "arguments": {"command": "ls"}}
    assert [m["role"] for m in again.request["messages"]] == ["user", "assistant", "tool"]
    assert again.response == {"role": "assistant", "content": "Paris."}
    assert (first.origin, first.prompt_tokens, first.completion_tokens, first.duration) == ("transcript", 11, 7, 10 * MS)
    assert (action.name, action.arguments, action.result, action.llm_call, action.tool_call_id) == (
        "bash",
        {"command": "ls"},
        "a.txt",
        first.id,
        "c1",
    )
    (start,), (end,), (note,) = of(Start, records), of(End, records), of(Note, records)
    assert (start.task, start.agent, start.model, end.status) == ("Capital?", "solver", "m", "completed")
    assert note.name == "totals" and note.data["totals"] == {"gen_ai.aggregated_usage.input_tokens": 22}
    assert [s.step for s in of(StepStart, records)] == [0, 1]
    assert (action.step, again.step) == (0, 1)


def test_order_and_retries_change_nothing() -> None:
    """Children come before parents, and an exporter may send a span twice: the records are the same."""
    whole = made(*run())
    shuffled = [*run(), *run()[:2]]
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        assert made(*shuffled) == whole


def test_a_span_that_was_sent_while_it_ran() -> None:
    """Of a span that is sent twice, the one that ended later counts, whichever came first."""
    pending = span("c", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, 30, 0, parent="root")
    assert made(*run(), pending) == made(pending, *run()) == made(*run())


def test_ids_in_base64_are_ids_in_hex() -> None:
    """Protobuf's own JSON writes ids in base64: they are the same ids."""

    def read(trace: str, id: str) -> spans.TraceSpan:
        body = {"traceId": trace, "spanId": id, "name": "x", "startTimeUnixNano": "1795848032746564986", "attributes": []}
        (found,) = spans.of_otlp({"resourceSpans": [{"scopeSpans": [{"spans": [body]}]}]})
        return found

    assert read("4w3Q/DNY/YUwyv2Uyt94CQ==", "i6hA1fA0V5g=") == read("e30dd0fc3358fd8530cafd94cadf7809", "8ba840d5f0345798")


def test_a_later_look_corrects(store: odograph.Store, tmp_path: Path) -> None:
    """Spans that come later are added to the session, which then is as if all had come at once. Until the root has come, the
    session has no end."""
    given = [
        {
            "traceId": "0" * 31 + "1",
            "spanId": s.id.rjust(16, "0"),
            "name": s.name,
            "startTimeUnixNano": str(s.start),
            "endTimeUnixNano": s.end,
        }
        | ({"parentSpanId": s.parent.rjust(16, "0")} if s.parent else {})
        | {
            "attributes": [
                {"key": k, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": str(v)}}
                for k, v in s.attributes.items()
            ]
        }
        for s in run()
    ]
    file = tmp_path / "spans.jsonl"
    lines = [json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}) + "\n" for one in given]
    for count in (1, 2, 3, 4):
        file.write_text("".join(lines[:count]))
        report = store.import_sessions(file)
        assert report.failed == []
        (t,) = store.trajectories()
        assert (t.end is None) == (count < 4)
    with odograph.open("memory:") as fresh:
        fresh.import_sessions(file)
        assert [e.about for e in shown.session(t)] == [e.about for e in shown.session(next(fresh.trajectories()))]
    assert (len(t.llm_calls), len(t.actions), t.agent, t.task) == (2, 1, "solver", "Capital?")


def test_events_of_older_conventions() -> None:
    """Messages that stand in events of a span (1.28 to 1.36), or in one event with all, are the call's."""
    events = [
        spans.Event(name="gen_ai.system.message", attributes={"content": "be brief"}),
        spans.Event(name="gen_ai.user.message", attributes={"event.body": '{"content": "Capital?"}'}),
        spans.Event(
            name="gen_ai.choice",
            attributes={"index": 0, "finish_reason": "stop", "message": '{"role": "assistant", "content": "Paris."}'},
        ),
    ]
    old = {
        "gen_ai.system": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.usage.prompt_tokens": 3,
        "gen_ai.usage.completion_tokens": 2,
    }
    (call,) = of(LLMCall, made(span("a", old, events=events)))
    assert call.request["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Capital?"}]
    assert (call.response, call.prompt_tokens, call.completion_tokens) == ({"role": "assistant", "content": "Paris."}, 3, 2)
    details = {"gen_ai.input.messages": json.dumps(ASKED), "gen_ai.output.messages": json.dumps([text("assistant", "Paris.")])}
    (call,) = of(
        LLMCall, made(span("a", old, events=[spans.Event(name="gen_ai.client.inference.operation.details", attributes=details)]))
    )
    assert (call.request["messages"], call.response["content"]) == ([{"role": "user", "content": "Capital?"}], "Paris.")


def test_what_was_cut_says_so() -> None:
    """Messages whose JSON an emitter cut are kept as text, and the call says that they were cut."""
    attributes = genai(ASKED, []) | {"gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "te'}
    (call,) = of(LLMCall, made(span("a", attributes)))
    assert call.extra["cut"] == ["gen_ai.output.messages"]


def openinference(**more: Any) -> dict[str, Any]:
    flat = {
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "Capital?",
        "llm.input_messages.3.message.role": "assistant",
        "llm.input_messages.3.message.tool_calls.0.tool_call.id": "c1",
        "llm.input_messages.3.message.tool_calls.0.tool_call.function.name": "bash",
        "llm.input_messages.3.message.tool_calls.0.tool_call.function.arguments": "{}",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.contents.0.message_content.type": "text",
        "llm.output_messages.0.message.contents.0.message_content.text": "Paris.",
        "llm.model_name": "m",
        "llm.token_count.prompt": 5,
        "llm.token_count.prompt_details.cache_read": 20,
        "llm.token_count.completion": 2,
    }
    return {"openinference.span.kind": "LLM", **flat, **more}


def test_openinference_takes_the_raw_bodies_first() -> None:
    """Raw bodies are the request and the response, token ids and logprobs included; without them, or with what a framework
    serialised, the flattened messages are, whatever their numbers. Cached tokens are part of the prompt's."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Capital?"}], "logprobs": True}
    logprobs = {"content": [{"token": "Paris", "logprob": -0.1}]}
    answer = {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris."}, "logprobs": logprobs, "token_ids": [4]}],
    }
    raw = {"input.value": json.dumps(body), "output.value": json.dumps(answer), "input.mime_type": "application/json"}
    (call,) = of(LLMCall, made(span("a", openinference(**raw))))
    assert (call.request, call.response, call.prompt_tokens) == (body, answer, 25)
    assert "input.value" not in call.extra["span"].get("attributes", {})
    for odd in ({"messages": [[{"lc": 1, "kwargs": {"content": "x"}}]]}, {"messages": "[left out]"}, "no json"):
        (call,) = of(LLMCall, made(span("a", openinference(**{"input.value": json.dumps(odd), "output.value": "Paris."}))))
        assert [m["role"] for m in call.request["messages"]] == ["user", "assistant"]
        assert call.request["messages"][1]["tool_calls"][0]["id"] == "c1"
        assert call.response == {"role": "assistant", "content": "Paris."}


def test_openinference_of_the_agents_sdk() -> None:
    """Items in, and a response of the Responses API out: parameters that are the response's own fields are not the request's."""
    answer = {
        "id": "r",
        "object": "response",
        "model": "m",
        "instructions": "be brief",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris."}]}],
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    raw = {
        "input.value": json.dumps([{"role": "user", "content": "Capital?"}]),
        "output.value": json.dumps(answer),
        "llm.invocation_parameters": '{"id": "r", "model": "m"}',
    }
    agent = {"openinference.span.kind": "AGENT", "agent.name": "A"}
    tool = {"openinference.span.kind": "TOOL", "tool.name": "bash", "input.value": '{"command": "ls"}', "output.value": "ok"}
    records = made(
        span("root", agent, 0, 99), span("a", openinference(**raw), 1, parent="root"), span("b", tool, 20, parent="root")
    )
    (call,), (action,) = of(LLMCall, records), of(Action, records)
    assert call.request == {"model": "m", "input": [{"role": "user", "content": "Capital?"}], "instructions": "be brief"}
    assert (call.response, call.dialect) == (answer, "openai.responses")
    assert (action.name, action.arguments, action.result, of(Start, records)[0].agent) == ("bash", {"command": "ls"}, "ok", "A")


def test_genai_of_the_first_names() -> None:
    """`gen_ai.prompt` and `gen_ai.completion`, as JSON or as a plain text, beside the names of their time."""
    asked, said = json.dumps([{"role": "user", "content": "Capital?"}]), json.dumps([{"role": "assistant", "content": "Paris"}])
    for prompt, completion in ((asked, said), ("Capital?", "Paris")):
        given = {"gen_ai.system": "openai", "gen_ai.request.model": "m", "gen_ai.prompt": prompt, "gen_ai.completion": completion}
        (call,) = of(LLMCall, made(span("a", given | {"gen_ai.usage.prompt_tokens": 4}, 1)))
        assert call.request["messages"] == [{"role": "user", "content": "Capital?"}] and call.prompt_tokens == 4
        assert call.response == {"role": "assistant", "content": "Paris"}


def test_openllmetry_of_before() -> None:
    """Flattened prompts and completions, around them spans of a workflow."""
    flat = {
        "llm.request.type": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Capital?",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.finish_reason": "tool_calls",
        "gen_ai.completion.0.tool_calls.0.id": "c1",
        "gen_ai.completion.0.tool_calls.0.name": "bash",
        "gen_ai.completion.0.tool_calls.0.arguments": '{"command": "ls"}',
        "llm.request.functions.0.name": "bash",
        "llm.request.functions.0.parameters": '{"type": "object"}',
        "gen_ai.usage.prompt_tokens": 4,
        "gen_ai.usage.completion_tokens": 1,
    }
    tool = {
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "bash",
        "traceloop.entity.input": '{"command": "ls"}',
        "traceloop.entity.output": '"ok"',
    }
    around = {
        "traceloop.span.kind": "workflow",
        "traceloop.entity.input": '{"q": 1}',
        "traceloop.association.properties.session_id": "s9",
    }
    records = made(span("root", around, 0, 99), span("a", flat, 1, parent="root"), span("b", tool, 20, parent="root"))
    (call,), (action,), (start,) = of(LLMCall, records), of(Action, records), of(Start, records)
    assert call.request["messages"] == [{"role": "user", "content": "Capital?"}]
    assert call.request["tools"] == [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]
    assert (call.response["tool_calls"][0]["function"]["name"], call.finish_reason, call.prompt_tokens) == (
        "bash",
        "tool_calls",
        4,
    )
    assert (action.result, action.tool_call_id, start.task) == ("ok", "c1", {"q": 1})


def test_vercel_counts_the_inner_spans() -> None:
    """The outer span repeats text and totals of the inner ones: one call each, its tool, the task of the outer span."""
    inner = {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.id": "m",
        "ai.prompt.messages": json.dumps([{"role": "user", "content": [{"type": "text", "text": "Capital?"}]}]),
        "ai.prompt.tools": [json.dumps(TOOL[0])],
        "ai.response.toolCalls": json.dumps([{"toolCallId": "c1", "toolName": "bash", "input": "{}"}]),
        "ai.usage.inputTokens": 11,
        "ai.usage.outputTokens": 7,
        "ai.telemetry.metadata.sessionId": "s1",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 11,
    }
    past = [
        {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "bash", "input": {}}]},
        {
            "role": "tool",
            "content": [
                {"type": "tool-result", "toolCallId": "c1", "toolName": "bash", "output": {"type": "text", "value": "ok"}}
            ],
        },
    ]
    last = inner | {"ai.prompt.messages": json.dumps(past), "ai.response.text": "Paris."}
    del last["ai.response.toolCalls"]
    outer = {
        "ai.operationId": "ai.generateText",
        "ai.prompt": '{"prompt": "Capital?"}',
        "ai.response.text": "Paris.",
        "ai.usage.inputTokens": 22,
    }
    tool = {
        "ai.operationId": "ai.toolCall",
        "ai.toolCall.name": "bash",
        "ai.toolCall.id": "c1",
        "ai.toolCall.args": "{}",
        "ai.toolCall.result": '"ok"',
    }
    records = made(
        span("o", outer, 0, 99), span("a", inner, 1, parent="o"), span("b", tool, 20, parent="o"), span("c", last, 40, parent="o")
    )
    first, again = of(LLMCall, records)
    assert first.response == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}],
    }
    assert [m["role"] for m in again.request["messages"]] == ["assistant", "tool"]
    assert again.request["messages"][1] == {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    assert sum(c.prompt_tokens for c in (first, again)) == 22
    assert (of(Action, records)[0].llm_call, of(Start, records)[0].task, of(End, records)[0].answer) == (
        first.id,
        "Capital?",
        "Paris.",
    )


def test_langfuse_parameters_that_nobody_sent() -> None:
    """Defaults that the SDK fills in are not in the request; they stay in `extra`."""
    given = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": json.dumps({"messages": [{"role": "user", "content": "Capital?"}], "tools": TOOL}),
        "langfuse.observation.output": json.dumps({"role": "assistant", "content": "Paris."}),
        "langfuse.observation.model.name": "m",
        "langfuse.observation.model.parameters": '{"max_tokens": "Infinity", "top_p": 1}',
        "langfuse.observation.usage_details": '{"input": 4, "input_cached_tokens": 6, "output": 2}',
        "session.id": "s1",
    }
    (call,) = of(LLMCall, made(span("a", given)))
    assert call.request == {"messages": [{"role": "user", "content": "Capital?"}], "tools": TOOL, "model": "m"}
    assert "Infinity" in call.extra["span"]["attributes"]["langfuse.observation.model.parameters"]
    assert (call.response["content"], call.prompt_tokens, call.completion_tokens) == ("Paris.", 10, 2)


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "Capital?", "system": "be brief"},
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Capital?"}]},
    ],
)
@pytest.mark.parametrize("encoded", [json.dumps, lambda v: json.dumps(json.dumps(v))], ids=["once", "twice"])
def test_the_task_of_a_trace_is_what_the_person_asked(given: dict[str, Any], encoded: Any) -> None:
    """A trace has its input as an object, or as the JSON of one: the task is the text in it."""
    about = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.output": '"Paris."',
        "langfuse.observation.input": '"Capital?"',
    }
    root = {"langfuse.observation.type": "agent", "langfuse.observation.input": encoded(given)}
    assert of(Start, made(span("r", root, 0, 9), span("a", about, 1, 2, parent="r")))[0].task == "Capital?"


def test_two_instrumentations_of_one_call() -> None:
    """Where two libraries record the same call, one inside the other, there is one call: the one that says most."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Capital?"}]}
    answer = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris."}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    rich = openinference(**{"input.value": json.dumps(body), "output.value": json.dumps(answer)})
    poor = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 3}
    for outer, inner in ((rich, poor), (poor, rich)):
        (call,) = of(LLMCall, made(span("o", outer, 0, 20), span("i", inner, 1, 10, parent="o")))
        assert call.response == answer


def test_a_sub_agent_and_what_is_read() -> None:
    """A sub-agent's calls stand inside the tool that started the sub-agent; what a retriever found is a context of the next step; a
    tool that asks a model itself is no step."""
    kind = "openinference.span.kind"
    records = made(
        span("root", {kind: "AGENT", "agent.name": "lead"}, 0, 100),
        span("r", {kind: "RETRIEVER", "input.value": "q", "retrieval.documents.0.document.content": "found"}, 1, parent="root"),
        span("a", openinference(), 5, 5, parent="root"),
        span("t", {kind: "TOOL", "tool.name": "ask", "input.value": "{}"}, 20, 60, parent="root"),
        span("s", {kind: "AGENT", "agent.name": "helper"}, 21, 50, parent="t"),
        span("b", openinference(), 22, 5, parent="s"),
        span("t2", {kind: "TOOL", "tool.name": "summarise"}, 85, 10, parent="root"),
        span("c", openinference(), 86, 5, parent="t2"),
    )
    own, helper, inner = of(LLMCall, records)
    tool, other = of(Action, records)
    (context,) = of(Context, records)
    assert (own.agent, helper.agent, inner.agent) == (None, "helper", None)
    step = next(s for s in of(StepStart, records) if s.agent == "helper")
    assert step.parent == tool.id and helper.parent == step.id
    assert (inner.purpose, inner.step, inner.parent) == ("tool", None, other.id)
    assert (context.step, context.data) == (0, [{"content": "found"}])


def test_conversations_hold_several_traces() -> None:
    """Spans of one conversation are one session, though each call is a trace of its own; two services may name a session alike; a
    trace without a name is a session."""
    attributes = genai(ASKED, [text("assistant", "Paris.")])
    mine = {"gen_ai.conversation.id": "c"} | attributes
    given = [
        span("a", mine, 0, trace="x"),
        span("b", mine, 20, trace="y"),
        span("c", mine, 40, trace="z", resource={"service.name": "other"}),
        span("d", attributes, 60, trace="w"),
        span("e", {"http.method": "GET"}, 0, trace="v"),
    ]
    found = {key: [s.id for s in group] for key, group in spans.groups(given)}
    assert found == {("session", "c", ""): ["a", "b"], ("session", "c", "other"): ["c"], ("trace", "w"): ["d"]}


def test_a_run_without_spans_of_its_calls() -> None:
    """pydantic-ai's older spans tell a run by its conversation: each answer is a call, tokens are the run's totals."""
    events = [
        {"event.name": "gen_ai.system.message", "role": "system", "content": "be brief"},
        {"event.name": "gen_ai.user.message", "role": "user", "content": "Capital?"},
        {
            "event.name": "gen_ai.assistant.message",
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}],
        },
        {"event.name": "gen_ai.tool.message", "role": "tool", "id": "c1", "content": "ok"},
        {"event.name": "gen_ai.assistant.message", "role": "assistant", "content": "Paris."},
    ]
    given = {
        "agent_name": "solver",
        "model_name": "m",
        "all_messages_events": json.dumps(events),
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
    }
    records = made(span("a", given))
    first, again = of(LLMCall, records)
    assert [len(first.request["messages"]), len(again.request["messages"])] == [2, 4]
    assert (again.response["content"], of(Action, records)[0].result) == ("Paris.", "ok")
    assert of(Start, records)[0].metadata["source"]["totals"] == {"prompt_tokens": 9, "completion_tokens": 3}
    assert (first.prompt_tokens, of(Start, records)[0].task) == (None, "Capital?")


def test_the_agents_sdks_own_export() -> None:
    """`span_data` of the OpenAI Agents SDK: responses, functions, hand-offs, agents."""
    answer = {
        "object": "response",
        "model": "m",
        "instructions": "brief",
        "output": [{"type": "function_call", "call_id": "c1", "name": "bash", "arguments": "{}"}],
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }
    objects = [
        {"object": "trace.span", "id": "root", "trace_id": "t", "parent_id": None, "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:09Z", "span_data": {"type": "agent", "name": "A"}},
        {"object": "trace.span", "id": "r", "trace_id": "t", "parent_id": "root", "started_at": "2026-01-01T00:00:01Z", "ended_at": "2026-01-01T00:00:02Z", "span_data": {"type": "response", "input": [{"role": "user", "content": "Capital?"}], "response": answer}},
        {"object": "trace.span", "id": "f", "trace_id": "t", "parent_id": "root", "started_at": "2026-01-01T00:00:03Z", "ended_at": "2026-01-01T00:00:04Z", "span_data": {"type": "function", "name": "bash", "input": "{}", "output": "ok"}, "error": {"message": "boom"}},
    ]  # fmt: skip
    records = made(*spans.spans_of(objects))
    (call,), (action,) = of(LLMCall, records), of(Action, records)
    assert (call.request["instructions"], call.prompt_tokens, call.dialect) == ("brief", 3, "openai.responses")
    assert (action.tool_call_id, action.result, action.ok, action.error) == ("c1", "ok", False, "boom")


def test_a_reading_after_the_last_call_is_of_its_step() -> None:
    """What an agent reads before a call is of the call's step; what it reads after its last call, of the last step."""
    read = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e"}
    called = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    records = made(span("r", {"gen_ai.operation.name": "invoke_agent"}, 0, 90), *(
        span(str(n), about, n, 1, parent="r") for n, about in enumerate((read, called, read, called, read), start=1)
    ))  # fmt: skip
    assert [c.step for c in of(Context, records)] == [0, 1, 1]


def test_two_spans_beside_each_other_tell_of_one_call() -> None:
    """An SDK that writes spans of its own, and an instrumentation of the same SDK: spans of two libraries with the id of one response,
    at the same time, are one call, whichever comes first; the same response later, or of one library, is another call."""
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.response.id": "r1",
        "gen_ai.usage.input_tokens": 7,
    }
    full = {**about, **genai([text("user", "q")], [text("assistant", "a")])}
    bare = span("n", about, 1, 5, parent="w", scope="sdk")
    for told in (bare, span("n", about, 3, 5, parent="w", scope="sdk")):
        records = made(span("w", {}, 0, 90), told, span("i", full, 2, 5, parent="w", scope="instrumentation"))
        (call,) = of(LLMCall, records)
        assert (call.response, call.extra["span"]["id"]) == ({"role": "assistant", "content": "a"}, "i")
    again = span("m", about, 50, 5, parent="w", scope="instrumentation")
    same = span("m", about, 2, 5, parent="w", scope="sdk")
    assert [len(of(LLMCall, made(span("w", {}, 0, 90), bare, other))) for other in (again, same)] == [2, 2]


def test_messages_of_geminis_sdk() -> None:
    """The instrumentation of Google's SDK sends its objects whole, with a null for each kind that a part is not."""
    nulls = {"thought": None, "inline_data": None}
    events = [
        spans.Event(name="gen_ai.user.message", attributes={"content": {"role": "user", "parts": [{"text": "q", **nulls}]}}),
        spans.Event(
            name="gen_ai.choice",
            attributes={
                "index": 0,
                "finish_reason": "STOP",
                "content": {
                    "role": "model",
                    "parts": [{"text": None, "function_call": {"id": "c1", "args": {"p": 1}, "name": "ls"}, **nulls}],
                },
            },
        ),
    ]
    (call,) = of(
        LLMCall, made(span("c", {"gen_ai.operation.name": "generate_content", "gen_ai.request.model": "g"}, events=events))
    )
    assert call.request["messages"] == [{"role": "user", "content": "q"}]
    (asked,) = call.response["tool_calls"]
    assert asked == {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": {"p": 1}}}


def test_evaluations_are_rewards() -> None:
    """An event `gen_ai.evaluation.result` of a call is a reward of this call; of an agent, of the run; a label alone only monitors."""
    result, prefix = "gen_ai.evaluation.result", "gen_ai.evaluation."
    scored = spans.Event(
        name=result, attributes={f"{prefix}name": "fit", f"{prefix}score.value": 0.8, f"{prefix}explanation": "w"}
    )
    worded = spans.Event(name=result, attributes={f"{prefix}name": "tone", f"{prefix}score.label": "kind"})
    records = made(
        span("a", {"gen_ai.operation.name": "invoke_agent"}, 0, 90, events=[scored]),
        span("c", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, 1, 1, parent="a", events=[scored, worded]),
    )
    (call,) = of(LLMCall, records)
    assert {(r.name, r.value, r.target, r.weight, r.rationale) for r in of(Reward, records)} == {
        ("fit", 0.8, None, 1.0, "w"),
        ("fit", 0.8, call.id, 1.0, "w"),
        ("tone", None, call.id, 0.0, None),
    }


def test_claude_codes_events_of_one_request() -> None:
    """The bodies and the figures of a request are three events and one call; a body that was cut says so."""
    request = {"model": "m", "messages": [{"role": "user", "content": "Capital?"}], "max_tokens": 9}
    answer = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Paris."}], "stop_reason": "end_turn"}
    figures = {
        "model": "m",
        "input_tokens": "3",
        "cache_read_tokens": "10",
        "cache_creation_tokens": "1",
        "output_tokens": "2",
        "cost_usd": "0.25",
        "duration_ms": "40",
    }
    records = made(
        log(1, "claude_code.user_prompt", prompt="Capital?"),
        log(2, "claude_code.api_request_body", body=json.dumps(request)),
        log(3, "claude_code.api_response_body", body=json.dumps(answer)),
        log(4, "claude_code.api_request", **figures),
        log(
            5,
            "claude_code.tool_result",
            tool_name="Bash",
            success="false",
            duration_ms="7",
            error="no",
            tool_parameters='{"command": "ls"}',
        ),
        log(6, "claude_code.api_request_body", body=json.dumps(request)[:30], body_truncated="true"),
        log(7, "claude_code.api_request", **figures),
    )
    first, again = of(LLMCall, records)
    assert (first.request, first.response) == (request, answer)
    assert (first.prompt_tokens, first.completion_tokens, first.cost, first.duration) == (14, 2, 0.25, 40 * MS)
    assert again.extra["cut"] == ["request_body"]
    (action,) = of(Action, records)
    assert (action.name, action.ok, action.error, action.arguments) == ("Bash", False, "no", {"command": "ls"})
    assert of(Start, records)[0].task == "Capital?"
    assert not of(End, records)


def test_claude_codes_spans_beside_its_events() -> None:
    """Of a request, the figures may come before the answer; a tool that has an event and a span is one action, with the outcome of the
    one and the output of the other; the call for a title is no decision."""
    answer = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Paris."}], "stop_reason": "end_turn"}
    records = made(
        log(1, "claude_code.api_request_body", body='{"model": "m", "messages": []}', query_source="generate_session_title"),
        log(2, "claude_code.api_request", cost_usd="0.25", input_tokens="3", query_source="generate_session_title"),
        log(3, "claude_code.api_response_body", body=json.dumps(answer), query_source="generate_session_title"),
        log(4, "claude_code.tool_result", tool_name="Bash", tool_use_id="t1", success="true"),
        span("a", {"session.id": "s"}, 0, 9, name="claude_code.interaction"),
        span("b", {"session.id": "s"}, 1, 2, parent="a", name="claude_code.llm_request"),
        span(
            "c", {"session.id": "s", "tool_name": "Bash", "tool_use_id": "t1"}, 4, 5, parent="a", name="claude_code.tool",
            events=[spans.Event(name="tool.output", attributes={"output": "made"})],
        ),
    )  # fmt: skip
    (call,), (action,) = of(LLMCall, records), of(Action, records)
    odd: list[Any] = [None, None, ["t"], "t", "t"]  # ids that tell nothing, and one that came twice
    assert len(of(Action, made(*[log(n, "claude_code.tool_result", tool_use_id=id) for n, id in enumerate(odd)]))) == 5
    assert (call.purpose, call.response, call.prompt_tokens, call.cost) == ("title", answer, 3, 0.25)
    assert (action.name, action.result, action.ok, action.tool_call_id) == ("Bash", "made", True, "t1")


def test_claude_codes_sub_agent_is_inside_of_its_tool() -> None:
    """Events name a sub-agent by their source; spans have a number, and the tool around them has the name."""
    s = {"session.id": "s"}
    started = {**s, "tool_name": "Agent", "tool_use_id": "t1", "subagent_type": "scout"}
    records = made(
        span("a", s, 0, 20, name="claude_code.interaction"),
        span("b", s, 1, 1, parent="a", name="claude_code.llm_request"),
        span("c", started, 3, 9, parent="a", name="claude_code.tool"),
        span("d", s, 3, 9, parent="c", name="claude_code.tool.execution"),
        span("e", {**s, "agent_id": "x1"}, 4, 1, parent="d", name="claude_code.llm_request"),
        span("f", {**s, "agent_id": "x1", "tool_name": "Bash", "tool_use_id": "t2"}, 6, 1, parent="d", name="claude_code.tool"),
    )
    act, bash = of(Action, records)
    assert [(c.agent, c.purpose) for c in of(LLMCall, records)] == [(None, "act"), ("scout", "act")]
    assert (act.agent, bash.agent, bash.step) == (None, "scout", 0)
    assert next(r for r in of(StepStart, records) if r.agent == "scout").parent == act.id
    loop = [span(a, {**s, "agent_id": "x"}, 1, parent=b, name="claude_code.tool") for a, b in ("gh", "hg")]
    assert len(of(Action, made(*loop))) == 2
    (call,) = of(LLMCall, made(log(1, "claude_code.api_request", cost_usd="1", query_source="agent:builtin:scout")))
    assert call.agent is None  # nobody else acts


def test_claude_codes_sub_agents_of_one_kind_at_once() -> None:
    """Two agents of one kind are two agents: events and spans of each stand in the span of the tool that started it. A hidden prompt
    is no task, and the call for a title neither a step nor what tells the task."""
    s = {"session.id": "s"}

    def asked(id: str, n: int, within: str, name: str, **more: Any) -> spans.TraceSpan:
        about = {"event.name": f"claude_code.{name}", "query_source": "agent:builtin:scout", **s, **more}
        return span(id, about, n, 0, parent=within, name=f"claude_code.{name}", log=True)

    def body(said: str) -> str:
        return json.dumps({"model": "m", "messages": [{"role": "user", "content": said}]})

    def answer(said: str) -> str:
        return json.dumps({"type": "message", "role": "assistant", "content": [{"type": "text", "text": said}]})

    tools = [
        span(
            k, {**s, "tool_name": "Agent", "tool_use_id": k, "subagent_type": "scout"}, 3 + n, 20, "top", name="claude_code.tool"
        )
        for n, k in enumerate("ab")
    ]
    runs = [span(f"run-{k}", s, 4, 18, k, name="claude_code.tool.execution") for k in "ab"]
    records = made(
        log(1, "claude_code.api_request_body", body=body("title: find both"), query_source="generate_session_title"),
        span("top", {**s, "user_prompt": "<REDACTED>"}, 0, 40, name="claude_code.interaction"),
        asked("m1", 2, "top", "api_request_body", body=body("find both"), query_source="sdk"),
        *tools,
        *runs,
        asked("a1", 5, "run-a", "api_request_body", body=body("find a")),
        asked("b1", 6, "run-b", "api_request_body", body=body("find b")),
        asked("b2", 7, "run-b", "api_response_body", body=answer("b is here")),
        asked("a2", 8, "run-a", "api_response_body", body=answer("a is here")),
        asked("b3", 9, "run-b", "api_request", cost_usd="2"),
        asked("a3", 10, "run-a", "api_request", cost_usd="1"),
    )
    (title, first, *rest) = of(LLMCall, records)
    assert [(c.agent, c.request["messages"][0]["content"], c.response["content"][0]["text"], c.cost) for c in rest] == [
        ("scout", "find a", "a is here", 1.0),
        ("scout-2", "find b", "b is here", 2.0),
    ]
    assert (title.purpose, title.step, first.step) == ("title", None, 0) and of(Start, records)[0].task == "find both"
    parents = {r.agent: r.parent for r in of(StepStart, records)}
    assert [parents["scout"], parents["scout-2"]] == [a.id for a in of(Action, records)]


def test_qwen_codes_events() -> None:
    """Qwen Code's events are those of Gemini CLI under another name; a sub-agent's prompts name it."""
    sub = "s#scout-x1#0"
    records = made(
        log(1, "qwen-code.user_prompt", prompt="Capital?", prompt_id="p"),
        log(2, "qwen-code.api_request", request_text='[{"role": "user", "parts": [{"text": "Capital?"}]}]', prompt_id="p"),
        log(3, "qwen-code.api_response", model="m", input_token_count=7, output_token_count=3, prompt_id="p"),
        log(4, "qwen-code.api_request", request_text='[{"role": "user", "parts": [{"text": "look"}]}]', prompt_id=sub),
        log(5, "qwen-code.api_response", model="m", response_text="seen", prompt_id=sub, subagent_name="scout"),
        log(6, "qwen-code.tool_call", function_name="ls", function_args="{}", success=True, prompt_id=sub),
        log(7, "qwen-code.tool_call", function_name="agent", function_args="{}", success=False, prompt_id="p"),
    )
    assert [(c.agent, c.request["messages"][0]["content"], c.prompt_tokens) for c in of(LLMCall, records)] == [
        (None, "Capital?", 7),
        ("scout-x1", "look", None),
    ]
    assert [(a.agent, a.name, a.ok) for a in of(Action, records)] == [("scout-x1", "ls", True), (None, "agent", False)]
    assert (of(Start, records)[0].task, of(Start, records)[0].agent) == ("Capital?", "qwen-code")


def test_codex_and_gemini_cli() -> None:
    """Their log events: prompts, calls with their figures, tools with their outcome; Codex's inner spans are nothing of a session."""
    records = made(
        log(1, "codex.user_prompt", prompt="Capital?"),
        log(
            2,
            "codex.sse_event",
            **{"event.kind": "response.completed", "input_token_count": 9, "output_token_count": 2, "model": "m"},
        ),
        log(3, "codex.sse_event", **{"event.kind": "response.created"}),
        log(
            5, "codex.sse_event", **{"event.kind": "response.completed", "duration_ms": "7"}
        ),  # the stream's end is an event, too
        log(6, "codex.sse_event", **{"event.kind": "response.completed", "input_token_count": 11}),
        log(
            4,
            "codex.tool_result",
            tool_name="shell",
            call_id="c1",
            arguments='{"command": ["ls"]}',
            output="ok",
            success="true",
            duration_ms="5",
        ),
        span("x", {"session.id": "s"}, name="fs.read_file", scope="codex_core"),
    )
    (call, second), (action,) = of(LLMCall, records), of(Action, records)
    assert (call.model, call.prompt_tokens, call.request) == ("m", 9, None)
    assert (second.prompt_tokens, second.duration) == (11, 7 * MS)
    assert (action.name, action.arguments, action.result, action.ok) == ("shell", {"command": ["ls"]}, "ok", True)
    answer = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Paris."}]}}]}
    records = made(
        log(1, "gemini_cli.user_prompt", prompt="Capital?"),
        log(
            2,
            "gemini_cli.api_request",
            prompt_id="p",
            request_text=json.dumps([{"role": "user", "parts": [{"text": "Capital?"}]}]),
        ),
        log(
            3,
            "gemini_cli.api_response",
            prompt_id="p",
            model="g",
            input_token_count=5,
            output_token_count=1,
            response_text=json.dumps(answer),
        ),
        log(4, "gemini_cli.tool_call", function_name="ls", function_args='{"path": "."}', success=True, duration_ms=3),
    )
    (call,), (action,) = of(LLMCall, records), of(Action, records)
    assert call.request["messages"] == [{"role": "user", "content": "Capital?"}]
    assert (call.response["content"], call.prompt_tokens, call.model) == ("Paris.", 5, "g")
    assert (action.name, action.arguments, action.ok) == ("ls", {"path": "."}, True)


JUNK: list[Any] = [
    None,
    True,
    -1,
    1e300,
    "",
    "[",
    '{"a": [',
    [],
    [None],
    [[{}]],
    {},
    {"type": []},
    {"messages": 3},
    {"role": []},
    "x" * 50,
    [{"parts": [{}, 1, {"type": "tool_call"}]}],
]


@pytest.mark.parametrize("seed", range(40))
def test_attributes_of_any_kind_are_read(seed: int) -> None:
    """Whatever stands in the attributes, events and times of spans, a session comes out of them."""
    random_ = random.Random(seed)
    examples = [
        *run(),
        span("oi", openinference(**{"input.value": "{}", "output.value": "{}", "llm.invocation_parameters": "{}"})),
        span("lf", {"langfuse.observation.type": "generation", "langfuse.observation.input": "{}", "langfuse.observation.output": "{}", "langfuse.observation.usage_details": "{}", "langfuse.scores": []}),
        span("ve", {"ai.operationId": "ai.generateText.doGenerate", "ai.prompt.messages": "[]", "ai.response.toolCalls": "[]", "ai.prompt.tools": []}),
        span("ls", {"langsmith.span.kind": "llm", "langsmith.inputs": {}, "langsmith.outputs": {}, "langsmith.invocation_params": {}}),
        span("lo", {"request_data": {"model": "m"}, "response_data": {}, "events": [], "all_messages_events": [], "gen_ai.request.model": "m"}),
        span("oa", {"span_data": {"type": "generation", "input": [], "output": [], "response": {}}}),
        log(1, "claude_code.api_request_body", body="{}", query_source="q"),
        log(2, "claude_code.api_request", cost_usd="1", query_source="q"),
        log(3, "gemini_cli.api_response", request_text="[]", response_text="{}", finish_reasons="[]", prompt_id="p"),
        log(4, "codex.tool_result", arguments="{}", success="x"),
    ]  # fmt: skip
    broken: list[spans.TraceSpan] = []
    for one in examples:
        attributes = {
            k: random_.choice(JUNK) if random_.random() < 0.5 and k not in ("event.name", "session.id") else v
            for k, v in one.attributes.items()
        }
        events = [
            spans.Event(
                name=random_.choice(("gen_ai.choice", "gen_ai.user.message", "exception")),
                attributes={"message": random_.choice(JUNK)},
            )
        ]
        broken.append(
            spans.TraceSpan(
                **{f: getattr(one, f) for f in ("id", "trace", "parent", "name", "start", "end", "log")},
                attributes=attributes,
                events=events,
            )
        )
    for key, group in spans.groups(broken):
        session = Session("spans", *key)
        spans.write(group, session, {})
        with odograph.open("memory:") as store:
            store.add([*session.records])


def test_rewards_of_an_export(store: odograph.Store, tmp_path: Path) -> None:
    """A Langfuse export: generations and tools, a score, costs, a trace's session."""
    when = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:00:02Z"}
    answer = {
        "role": "assistant",
        "content": [{"type": "text", "text": "Paris."}, {"type": "tool_use", "id": "c1", "name": "ls", "input": {"p": 1}}],
    }
    whole = {
        "trace": {"id": "t", "projectId": "p", "sessionId": "s", "userId": "u", "tags": ["x"], "scores": [{"id": "1", "name": "good", "value": 1, "source": "ANNOTATION", "comment": "fine"}]},
        "observations": [
            {"id": "o", "traceId": "t", "type": "SPAN", "name": "run", "input": '"Capital?"', "output": '"Paris."', **when},
            {"id": "g", "traceId": "t", "parentObservationId": "o", "type": "GENERATION", "model": "m", "input": json.dumps([{"role": "user", "content": "Capital?"}]), "output": json.dumps(answer), "usageDetails": {"input": 3, "output": 2}, "totalCost": 0.5, **when},
            {"id": "x", "traceId": "t", "parentObservationId": "o", "type": "TOOL", "name": "ls", "input": '{"p": 1}', "output": '"ok"', "level": "ERROR", "statusMessage": "no", **when},
        ],
    }  # fmt: skip
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(whole, indent=1))
    report = store.import_sessions(file)
    assert report.failed == [] and report.trajectories[0]["format"] == "spans"
    (t,) = store.trajectories()
    (call,), (action,), (reward,) = t.llm_calls, t.actions, t.all_rewards
    assert (t.task, t.answer, t.tags, call.cost, call.text) == ("Capital?", "Paris.", ["x"], 0.5, "Paris.")
    assert (action.llm_call, action.ok, action.error) == (call.id, False, "no")
    assert (reward.name, reward.value, reward.weight, reward.source, t.reward) == ("good", 1.0, 1.0, "human", 1.0)


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "c", "context": {"trace_id": "t", "span_id": "s"}, "span_kind": "LLM", "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:01Z", "attributes": {"llm": {"model_name": "m", "input_messages": [{"message": {"role": "user", "content": "q"}}], "output_messages": [{"message": {"role": "assistant", "content": "a"}}]}}}],
        {"rows": [{"trace_id": "t", "span_id": "s", "span_name": "chat m", "start_timestamp": "2026-01-01T00:00:00Z", "end_timestamp": "2026-01-01T00:00:01Z", "attributes": genai([text("user", "q")], [text("assistant", "a")])}]},
        [{"id": "r", "trace_id": "r", "dotted_order": "x", "run_type": "llm", "start_time": "2026-01-01T00:00:00", "inputs": {"messages": [{"role": "user", "content": "q"}], "model": "m"}, "outputs": {"generations": [[{"text": "a", "message": {"lc": 1, "id": ["x", "AIMessage"], "kwargs": {"content": "a"}}}]]}}],
        {"post": [{"id": "r", "trace_id": "r", "run_type": "llm", "inputs": {"messages": [{"role": "user", "content": "q"}], "model": "m"}}], "patch": [{"id": "r", "trace_id": "r", "dotted_order": "x", "outputs": {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}}]},
        {"name": "chat", "spanContext": {"traceId": "t", "spanId": "s"}, "startTime": [1770000000, 5], "endTime": [1770000001, 5], "attributes": genai([text("user", "q")], [text("assistant", "a")])},
    ],
)  # fmt: skip
def test_files_of_tools(store: odograph.Store, tmp_path: Path, value: Any) -> None:
    """Phoenix's export, Logfire's rows, LangSmith's runs in two shapes, JavaScript's span objects: recognised, and one call each."""
    file = tmp_path / "export.json"
    file.write_text(json.dumps(value, indent=2))
    report = store.import_sessions(file)
    assert (report.failed, report.unrecognised, report.imported) == ([], [], 1)
    (t,) = store.trajectories()
    (call,) = t.llm_calls
    assert (call.messages[-1]["content"], call.text, t.task) == ("q", "a", "q")
    assert (call.model or t.model) == "m"


def test_a_log_of_concatenated_objects(store: odograph.Store, tmp_path: Path) -> None:
    """Gemini CLI writes its telemetry as indented objects one after the other; a file that is cut in the last one keeps the rest."""
    events = [
        {"hrTime": [1770000000, 1], "attributes": {"event.name": "gemini_cli.user_prompt", "session.id": "s", "prompt": "q"}},
        {"hrTime": [1770000002, 1], "attributes": {"event.name": "gemini_cli.api_response", "session.id": "s", "model": "g", "input_token_count": 4, "output_token_count": 2, "response_text": "a"}},
        {"hrTime": [1770000003, 1], "attributes": {"event.name": "gemini_cli.tool_call", "session.id": "s", "function_name": "ls", "function_args": "{}", "success": False}},
    ]  # fmt: skip
    file = tmp_path / "telemetry.log"
    file.write_text("\n".join(json.dumps(e, indent=2) for e in events) + '\n{"hrTime": [177')
    report = store.import_sessions(file)
    assert report.failed == [] and len(report.warnings) == 1
    (t,) = store.trajectories()
    assert (t.task, t.llm_calls[0].prompt_tokens, t.llm_calls[0].text, t.actions[0].ok, t.agent) == (
        "q",
        4,
        "a",
        False,
        "gemini-cli",
    )


def test_the_samples(samples: Path, tmp_path: Path) -> None:
    """Spans that real emitters sent: calls, tools and tokens are those of an independent count."""
    expected = {
        "openinference-spans/e875c852": (9, 8, 310222, 1895),
        "openinference-spans/1d949451": (4, 0, 142, 297),
        "langfuse-trace/6fc8ce4d": (4, 2, 34, 232),
        "langfuse-trace/de0cd879": (1, 0, 190, 164),
        "langfuse-trace/e28069e1": (2, 0, 826, 245),  # four generations are two calls, each recorded by two libraries
        "langsmith-runs/706e8688": (1, 0, 43, 2497),
        "langsmith-runs/96f16536": (1, 0, 9, 9),
        "otlp/vercel/001-traces.json": (3, 1, 33, 21),
        "otlp/pydantic/001-traces.pb.json": (2, 1, 22, 14),
        "otlp/oi-agents/001-traces.pb.json": (2, 1, 22, 14),
        "otlp/openinference/001-traces.pb.json": (3, 0, 33, 21),
        "otlp/openllmetry/001-traces.pb.json": (3, 0, 33, 21),
        "otlp/langfuse/001-traces.pb.json": (2, 0, 22, 14),
    }
    for name, counts in expected.items():
        (file,) = [f for f in samples.glob(name.partition("/")[0] + "/**/*") if str(f.relative_to(samples)).startswith(name)]
        with odograph.open("memory:") as store:
            assert store.import_sessions(file).failed == []
            calls = [c for t in store.trajectories() for c in t.llm_calls]
            actions = [a for t in store.trajectories() for a in t.actions]
        assert (
            len(calls),
            len(actions),
            sum(c.prompt_tokens or 0 for c in calls),
            sum(c.completion_tokens or 0 for c in calls),
        ) == counts, name


def test_traces_of_mlflow(tmp_path: Path, store: odograph.Store) -> None:
    """A trace as MLflow 3 writes it, and as MLflow 2 did: calls with bodies and tokens, tools, who acts, feedback, session, tags."""
    body = {"model": "m", "messages": [{"role": "user", "content": "1+1?"}], "tools": [{"type": "function"}]}
    asked = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    answer = {
        "choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [asked]}, "finish_reason": "tool_calls"}]
    }
    usage = {"input_tokens": 2, "output_tokens": 3, "cache_read_input_tokens": 5}
    told = [
        ("AGENT", "lead", {"q": "1+1?"}, "2", {}),
        ("CHAT_MODEL", "chat", body, answer, {"mlflow.chat.tokenUsage": json.dumps(usage)}),
        ("TOOL", "add", {"a": 1}, "2", {}),
        ("LLM", "llm", "go on", "2", {"mlflow.llm.model": '"n"'}),
    ]
    told_spans = [
        {
            "trace_id": "e3xtV4yvmsDGkP7VIqyJSQ==", "span_id": f"WZeYK9Wny{n}8=", "parent_span_id": "WZeYK9Wny08=" if n else None,
            "name": name, "start_time_unix_nano": BEGAN + n * MS, "end_time_unix_nano": BEGAN + (n + 1) * MS, "events": [],
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "attributes": {"mlflow.spanType": json.dumps(kind), "mlflow.spanInputs": json.dumps(given), "mlflow.spanOutputs": json.dumps(said), **more},
        }
        for n, (kind, name, given, said, more) in enumerate(told)
    ]  # fmt: skip
    feedback = {"assessment_name": "good", "source": {"source_type": "HUMAN"}, "feedback": {"value": True}, "rationale": "short"}
    expected = {"assessment_name": "truth", "expectation": {"value": "2"}}
    info = {"trace_id": "tr-1", "trace_metadata": {"mlflow.trace.session": "s1", "mlflow.trace.user": "ada"}, "tags": {"team": "a", "mlflow.traceName": "x"}, "assessments": [feedback, expected]}  # fmt: skip
    (tmp_path / "trace.json").write_text(json.dumps({"info": info, "data": {"spans": told_spans}}))
    older = [
        {
            **{k: v for k, v in one.items() if k in ("name", "attributes", "events")}, "context": {"trace_id": "0x" + "ab" * 16, "span_id": f"0x{n:016x}"},
            "parent_id": f"0x{0:016x}" if n else None, "start_time": BEGAN + n * MS, "end_time": BEGAN + (n + 1) * MS, "status_code": "OK", "status_message": "",
        }
        for n, one in enumerate(told_spans)
    ]  # fmt: skip
    (tmp_path / "older.json").write_text(json.dumps({"info": {**info, "trace_metadata": {}, "request_id": "r"}, "data": {"spans": older}}))  # fmt: skip
    report = store.import_sessions(tmp_path)
    assert (report.imported, report.failed) == (2, [])
    for t in store.trajectories():
        first, second = t.llm_calls
        assert (t.agent, t.task, t.rewards["good"], t.reward) == ("lead", "1+1?", 1.0, 1.0)
        assert (first.request, first.response, first.prompt_tokens, first.completion_tokens) == (body, answer, 7, 3)
        assert (first.duration, first.started) == (MS, BEGAN + MS)
        assert (second.model, [m["content"] for m in second.messages], second.choices[0].text) == ("n", ["go on"], "2")
        assert [(a.name, a.arguments, a.result, a.tool_call_id) for a in t.actions] == [("add", {"a": 1}, "2", "c1")]
        assert "team" in str(t.metadata)
    assert store.import_sessions(tmp_path).imported == 0
