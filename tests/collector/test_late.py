"""Spans that come late, in any order, and without what names their session: what was written is told otherwise, and nothing stands twice."""

from __future__ import annotations

import json
import random
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
