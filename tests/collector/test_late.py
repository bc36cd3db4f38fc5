"""Spans that come late, in any order, and without what names their session: what was written is told otherwise, and nothing stands twice."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.collector.collecting import Collector
from odograph.spans import of_otlp
from tests.collector.test_collect import ASKED, body, chat, span

CALLED = [{"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "tide", "arguments": {"port": "Brest"}}]}]
RESULT = [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "noon"}]}]


def put(collector: Collector, *spans: dict[str, Any]) -> None:
    """Spans come, and what they are a part of is written."""
    collector.put(of_otlp(json.loads(body(*spans))))
    collector.flush()


def put_events(collector: Collector, *events: dict[str, Any]) -> None:
    """The same of log records."""
    collector.put(of_otlp({"resourceLogs": [{"scopeLogs": [{"logRecords": list(events)}]}]}))
    collector.flush()


def turn(trace: int, number: int, **named: Any) -> list[dict[str, Any]]:
    """A turn of an agent: two calls with a tool between them, inside of a span that alone says whose turn it is."""
    about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "pilot", **named}
    back = json.dumps([*json.loads(ASKED), *CALLED, *RESULT])
    return [
        span(number, None, trace, **about),
        chat(number + 1, number, trace=trace, **{"gen_ai.output.messages": json.dumps(CALLED)}),
        span(number + 2, number, trace, **{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "tide",
             "gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": '{"port":"Brest"}', "gen_ai.tool.call.result": "noon"}),
        chat(number + 3, number, trace=trace, **{"gen_ai.input.messages": back}),
    ]  # fmt: skip


def told(t: odograph.Trajectory) -> Any:
    """What a trajectory says, without ids."""
    steps = [
        (s.index, s.agent, s.observation, [(c.messages, c.text) for c in s.llm_calls], [(a.name, a.result) for a in s.actions])
        for s in t.steps
    ]
    return t.task, t.agent, t.status, t.answer, steps, len(t.llm_calls), len(t.actions)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_ends_as_the_right_one(seed: int, tmp_path: Path) -> None:
    """Two turns of a session, whose spans come in any order, some twice, each written before the next comes: what stands in the
    session's trajectory is what stands there when all came at once; each call, tool and step once, in the order of their time."""
    one, two = turn(1, 10, **{"gen_ai.conversation.id": "c"}), turn(2, 20, **{"gen_ai.conversation.id": "c"})
    with odograph.open(tmp_path / "right") as store, Collector(store, quiet=600) as collector:
        put(collector, *one, *two)
        (right,) = store.trajectories()
        expected = told(right)
    chance = random.Random(seed)
    spans = [*one, *two, chance.choice(one), chance.choice(two)]
    chance.shuffle(spans)
    with odograph.open(tmp_path / "late") as store:
        with Collector(store, quiet=600) as collector:
            for one_span in spans:
                put(collector, one_span)
        found = [t for t in store.trajectories() if "replay_of" not in t.metadata]
        assert [told(t) for t in found] == [expected]
        others = [t for t in store.trajectories() if "replay_of" in t.metadata]
        assert [(t.metadata["replay_of"], t.steps, t.llm_calls, t.actions) for t in others] == [(found[0].id, [], [], [])] * len(
            others
        )
        assert sum(s.llm_calls for s in store.summaries()) == 4 and sum(s.actions for s in store.summaries()) == 2
        assert odograph.validate(found[0], profile="basic").valid
        before = found[0].to_dict()
        with Collector(store, quiet=600) as collector:  # the same again, to another collector: nothing new
            put(collector, *spans)
        assert store.trajectory(found[0].id).to_dict() == before


def test_a_session_that_is_named_late_is_one_trajectory(store: odograph.Store) -> None:
    """The calls of an agent were written before the span around them came, which alone names the session: its trajectory is the one
    that was written, and the next turn goes on in it."""
    one, two = turn(1, 10, **{"session.id": "s"}), turn(2, 20, **{"session.id": "s"})
    with Collector(store, quiet=600) as collector:
        put(collector, *one[1:])
        (before,) = store.trajectories()
        put(collector, one[0])
        put(collector, *two)
    (t,) = store.trajectories()
    assert (t.id, t.metadata["source"]["session"], len(t.steps), len(t.llm_calls)) == (before.id, "s", 4, 4)


def test_what_outer_and_inner_spans_say_is_one_call(store: odograph.Store) -> None:
    """An outer span tells of a call, and was written as one; then the inner span comes, which is the call."""
    with Collector(store, quiet=600) as collector:
        put(collector, chat(1, None))
        put(collector, chat(2, 1))
    (t,) = store.trajectories()
    (call,) = t.llm_calls
    assert call.extra["span"]["id"] == f"{2:016x}" and [s.index for s in t.steps] == [0]
    assert next(iter(store.summaries())).llm_calls == 1


def test_a_result_without_a_span_is_an_action_until_its_span_comes(store: odograph.Store) -> None:
    """A request brings the result of a tool: an action of the call that asked. A span of the tool, that comes late, takes its
    place."""
    holder, first, tool, last = turn(1, 10)
    with Collector(store, quiet=600) as collector:
        put(collector, holder, first, last)
        (action,) = next(iter(store.trajectories())).actions
        assert (action.name, action.arguments, action.result, action.step) == ("tide", {"port": "Brest"}, "noon", 0)
        put(collector, tool)
    (t,) = store.trajectories()
    (action,) = t.actions
    assert action.extra["span"]["id"] == f"{12:016x}" and action.llm_call == t.llm_calls[0].id


def test_results_of_tools_without_ids_are_actions(store: odograph.Store) -> None:
    """Some emitters write no ids of tool calls (Google's, as they are set up at first): the results that a request brings are those of
    the last answer's calls, by name where a result has one, in their order."""
    calls = [{"type": "tool_call", "name": name, "arguments": {"n": n}} for n, name in enumerate(("tide", "wind", "tide"))]
    backs = [{"type": "tool_call_response", "response": said} for said in ("noon", "calm", "six")]
    named = [
        {"functionResponse": {"name": name, "response": said}} for name, said in (("wind", "calm"), ("tide", "a"), ("tide", "b"))
    ]
    for number, (parts, results) in enumerate(((backs, ["noon", "calm", "six"]), (named, ["a", "calm", "b"]))):
        asked = [{"role": "assistant", "parts": calls}]
        back = [*json.loads(ASKED), *asked, {"role": "user", "parts": parts}]
        at = 100 * number
        spans = [
            span(at + 1, None, at + 1, **{"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "pilot"}),
            chat(at + 2, at + 1, trace=at + 1, **{"gen_ai.output.messages": json.dumps(asked)}),
            chat(at + 4, at + 1, trace=at + 1, **{"gen_ai.input.messages": json.dumps(back)}),
        ]
        with Collector(store, quiet=600) as collector:
            put(collector, *spans)
            put(collector, *spans)
        t = list(store.trajectories())[-1]
        assert [(a.name, a.arguments["n"], a.result) for a in t.steps[0].actions] == [
            (call["name"], n, result) for n, (call, result) in enumerate(zip(calls, results, strict=True))
        ]
        assert {a.llm_call for a in t.actions} == {t.llm_calls[0].id}


def test_what_people_added_stays(store: odograph.Store) -> None:
    """A reward, a label and a note that were given before a late span came still stand."""
    holder, first, tool, last = turn(1, 10)
    with Collector(store, quiet=600) as collector:
        put(collector, last)
        (t,) = store.trajectories()
        with store.append(t.id) as run:
            run.reward(0.5, name="mine")
            run.note({"by": "me"}, name="seen")
        put(collector, holder, first, tool)
    (t,) = store.trajectories()
    assert (t.reward, [n.name for n in t.notes if n.name != "withdrawn"], len(t.steps)) == (0.5, ["seen"], 2)
    assert [s.index for s in t.steps] == [0, 1]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_events_and_spans_of_one_request_come_in_any_order(store: odograph.Store, order: tuple[int, ...]) -> None:
    """Claude Code tells a request in events and in a span, and a tool too; each is written before the next comes. A call and a tool
    that stood there by themselves are parts of others then, and stand once."""

    def event(number: int, name: str, **attributes: str) -> dict[str, Any]:
        given = {"event.name": name, "session.id": "s", "query_source": "sdk", **attributes}
        typed = [{"key": key, "value": {"stringValue": value}} for key, value in given.items()]
        when = str(1_790_000_000_000_000_000 + number * 10**9)
        return {"timeUnixNano": when, "body": {"stringValue": f"claude_code.{name}"}, "attributes": typed}

    asked: list[Any] = [{"role": "user", "content": "do"}]
    use = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "made"}
    more = [*asked, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    calls = [
        [
            event(number, "api_request_body", body=json.dumps({"model": "c", "messages": messages})),
            event(number + 1, "api_request", model="c", input_tokens="3", cost_usd="0.01"),
            event(number + 2, "api_response_body", body=json.dumps({"type": "message", "role": "assistant", "content": [said]})),
        ]
        for number, messages, said in ((2, asked, use), (6, more, {"type": "text", "text": "yes"}))
    ]
    named = {"session.id": "s"}
    spans = [
        span(1, None, **named) | {"name": "claude_code.interaction"},
        span(2, 1, **named, model="c", input_tokens=3) | {"name": "claude_code.llm_request"},
        span(5, 1, **named, tool_name="Bash", tool_use_id="t1") | {"name": "claude_code.tool"},
        span(6, 1, **named, model="c", input_tokens=3) | {"name": "claude_code.llm_request"},
    ]
    parts: list[Callable[[], None]] = [
        lambda: put_events(collector, *calls[0], event(5, "tool_result", tool_name="Bash", tool_use_id="t1", success="true")),
        lambda: put_events(collector, *calls[1]),
        lambda: put(collector, *spans),
    ]
    with Collector(store, quiet=600) as collector:
        for number in order:
            parts[number]()
    (t,) = store.trajectories()
    assert [(c.text, len(c.messages)) for c in t.llm_calls] == [("", 1), ("yes", 3)]
    assert [(a.name, a.ok, a.llm_call) for a in t.actions] == [("Bash", True, t.llm_calls[0].id)]
    assert not odograph.validate(t, profile="basic").errors


@pytest.mark.parametrize("logs_first", [True, False])
def test_messages_of_a_span_come_as_log_records(store: odograph.Store, logs_first: bool) -> None:
    """OpenTelemetry's own instrumentation of OpenAI's SDK sends messages as log records of the call's span, over another path, before
    or after the span: they are the call's messages and its answer."""

    def event(at: int, name: str, body: dict[str, Any]) -> dict[str, Any]:
        typed = [{"key": key, "value": value} for key, value in body.items()]
        when = str(1_790_000_000_000_000_000 + at)
        ids = {"traceId": f"{1:032x}", "spanId": f"{2:016x}"}
        return {**ids, "timeUnixNano": when, "eventName": name, "body": {"kvlistValue": {"values": typed}}, "attributes": []}

    said = {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": "at noon"}}]}}
    events = [
        event(1, "gen_ai.system.message", {"content": {"stringValue": "be brief"}}),
        event(2, "gen_ai.user.message", {"content": {"stringValue": "when is high tide?"}}),
        event(3, "gen_ai.choice", {"index": {"intValue": 0}, "finish_reason": {"stringValue": "stop"}, "message": said}),
    ]
    about = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7}
    parts: list[Callable[[], None]] = [
        lambda: put(collector, span(1), span(2, 1, **about)),
        lambda: put_events(collector, *events),
    ]
    with Collector(store, quiet=600) as collector:
        for part in reversed(parts) if logs_first else parts:
            part()
    (t,) = store.trajectories()
    (call,) = t.llm_calls
    assert [(m["role"], m["content"]) for m in call.messages] == [("system", "be brief"), ("user", "when is high tide?")]
    assert (call.text, call.finish_reason, call.prompt_tokens, t.task, len(t.steps)) == (
        "at noon",
        "stop",
        7,
        "when is high tide?",
        1,
    )
