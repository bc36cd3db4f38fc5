"""Recording by hand: what is said in the API page, in and out."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph import Kept, Literal
from odograph.capture.faults import faults
from odograph.types import KINDS


def test_the_api_page(store: odograph.Store) -> None:
    """The snippet of the contract runs, and what it recorded is read back as it says."""
    with store.record(task="2+2?", agent="solver", model="m", group="g1", tags=["demo"], metadata={"k": 0}) as run:
        with run.step(observation={"text": "..."}) as step:
            step.context("kb", {"doc": 1}, query="k", purpose="why it was read")
            call = step.llm_call(
                model="m",
                messages=[{"role": "user", "content": "2+2?"}],
                response="text",
                usage={"prompt_tokens": 3, "completion_tokens": 4, "odd": {"x": None}},
                params={"temperature": 0.0},
                tools=[{"type": "function", "function": {"name": "search"}}],
                prompt_token_ids=[1, 2, 3],
                token_ids=[10, 11, 12, 13],
                logprobs=[-0.1, 0.0, None, -2.5],
            )
            step.edit(call).replace(1, 2, "other text", reason="why")
            step.edit(call, result=[Kept(0, 1), Kept(3, 4), Literal([99])], reason="reordered")
            step.action("search", {"q": 1}, {"hits": 0}, ok=True, llm_call=call, tool_call_id="c1")
            step.reward(0.5, name="env")
        run.reward(1.0, name="final")
        run.label("quality", "good", score=0.0, author="me")
        run.note({"anything": True}, name="n")
        run.finish("4", metrics={"turns": 1})

    t = store.trajectory(run.id)
    assert (t.task, t.agent, t.model, t.group, t.tags, t.metadata) == ("2+2?", "solver", "m", "g1", ["demo"], {"k": 0})
    assert (t.status, t.answer, t.reward, t.end and t.end.metrics) == ("completed", "4", 1.0, {"turns": 1})
    (s,) = t.steps
    assert (s.index, s.observation, s.reward) == (0, {"text": "..."}, 0.5)
    assert (s.contexts[0].provider, s.contexts[0].data, s.contexts[0].query, s.contexts[0].purpose) == (
        "kb",
        {"doc": 1},
        "k",
        "why it was read",
    )
    (c,) = s.llm_calls
    assert c.request == {
        "model": "m",
        "messages": [{"role": "user", "content": "2+2?"}],
        "tools": [{"type": "function", "function": {"name": "search"}}],
        "temperature": 0.0,
    }
    assert (c.response, c.text, c.params, c.usage) == (
        "text",
        "text",
        {"temperature": 0.0},
        {"prompt_tokens": 3, "completion_tokens": 4, "odd": {"x": None}},
    )
    assert (c.prompt_tokens, c.completion_tokens, c.purpose, c.prompt_token_ids) == (3, 4, "act", [1, 2, 3])
    assert (c.choices[0].token_ids, c.choices[0].logprobs) == ([10, 11, 12, 13], [-0.1, 0.0, None, -2.5])
    first, second = s.edits
    assert (first.result, first.reason, first.unit, first.rejected) == (
        [Kept(0, 1), Literal(text="other text"), Kept(2, 4)],
        "why",
        "token",
        None,
    )
    assert second.result == [Kept(0, 1), Kept(3, 4), Literal([99])]
    assert (s.actions[0].llm_call, s.actions[0].tool_call_id, s.actions[0].ok) == (c.id, "c1", True)
    assert (t.rewards["final"], s.rewards["env"], "env" in s.rewards, "env" in t.rewards) == (1.0, 0.5, True, False)
    assert (t.labels[0].value, t.labels[0].score, t.notes[0].data) == ("good", 0.0, {"anything": True})
    assert t.result == {"hits": 0}
    assert t.llm_call is not None
    assert t.llm_call.id == c.id
    assert {r.__struct_config__.tag for r in t.records} == set(KINDS)
    assert json.loads(json.dumps(t.to_dict()))["steps"][0]["llm_calls"][0]["request"]["temperature"] == 0.0


def test_a_wrong_word_of_acting_is_refused_before_the_tool_runs(store: odograph.Store) -> None:
    """A misspelt keyword is told at the call, as everywhere: at the end of the action, its record would be lost with it."""
    with store.record(task="t") as run:
        with pytest.raises(TypeError, match="tool_call"), run.acting("look", {}, tool_call="1"):  # type: ignore[call-arg]
            raise AssertionError("it ran")
        with run.acting("look", {}, tool_call_id="1", metadata={"by": "me"}) as action:
            assert action.metadata == {"by": "me"}
    (found,) = store.trajectory(run.id).actions
    assert (found.tool_call_id, found.extra) == ("1", {"by": "me"})


def test_edits_that_are_no_runs_are_refused(store: odograph.Store) -> None:
    """Where the runs of an edit are expected, something else is told in a sentence."""
    with store.record(task="t") as run:
        call = run.llm_call("m", response="abc")
        for wrong in ("abc", 5, [1]):
            with pytest.raises(TypeError, match="Kept and Literal runs"):
                run.edit(call, wrong)  # type: ignore[call-overload]


def test_everything_is_one_tree(store: odograph.Store) -> None:
    """Each record's parent is what it happened inside: step, action, sub-agent; steps count per agent."""
    with store.record(task="t", agent="boss") as run:
        with run.step() as step:
            with step.acting("delegate", {"to": "helper"}) as action:
                with action.sub_agent("helper") as helper:
                    for i in range(2):
                        with helper.step(observation=i) as inner:
                            inner.llm_call(model="m", messages=[], response="x")
                action.result = "done"
        with run.step() as step:
            step.note("second")
    t = store.trajectory(run.id)
    assert [(s.agent, s.index) for s in t.steps] == [("boss", 0), ("helper", 0), ("helper", 1), ("boss", 1)]
    (act,) = t.actions
    assert (act.name, act.arguments, act.result, act.ok) == ("delegate", {"to": "helper"}, "done", True)
    assert act.duration is not None
    ids = {r.id: r for r in t.records}
    for record in t.records:
        assert record.parent in ids or record is t.start
    assert t.steps[1].record is not None
    assert t.steps[1].record.parent == act.id
    assert ids[act.parent or ""] is t.steps[0].record


def test_an_exception_ends_the_run_and_goes_on(store: odograph.Store) -> None:
    """The agent's exception is its own: recorded as a failure with type and message, and raised on."""
    for error, status in ((ValueError("bad"), "failed"), (TimeoutError("late"), "timeout"), (KeyboardInterrupt(), "cancelled")):
        with pytest.raises(type(error)):
            with store.record(task="x") as run, run.step():
                raise error
        t = store.trajectory(run.id)
        assert t.status == status
        assert t.end is not None
        assert t.end.error == {"type": type(error).__name__, "message": str(error)}

    async def cancelled() -> str:
        async with store.record(task="y") as run, run.step():
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
            ids.append(run.id)
            await asyncio.sleep(5)
        return run.id

    ids: list[str] = []
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert store.trajectory(ids[0]).status == "cancelled"


def test_late_records_from_anywhere(store: odograph.Store) -> None:
    """Rewards, labels, edits and steps may come after the end, from another opening of the store."""
    with store.record(task="x", agent="a") as run, run.step() as step:
        step.llm_call(model="m", messages=[], response="hello world")
    store.close()
    with odograph.open(store.root) as other:
        with other.append(run.id[-8:]) as late:
            late.reward(0.25, name="outcome")
            call = other.trajectory(run.id).llm_calls[0]
            late.edit(call).rewrite("hello there", author="me")
            with late.step(observation="more"):
                pass
        t = other.trajectory(run.id)
        assert (t.reward, t.status, [s.index for s in t.steps]) == (0.25, "completed", [0, 1])
        assert t.edits[0].unit == "char"
        with pytest.raises(odograph.NotFound):
            other.append("nothing")


def test_edits_that_do_not_fit_are_kept_as_rejected(store: odograph.Store) -> None:
    """A wrong base hash or a range outside of the base is no exception and no edit: it is kept, with the reason."""
    with store.record(task="x") as run, run.step() as step:
        call = step.llm_call(model="m", messages=[], response="abc", token_ids=[1, 2, 3])
        step.edit(call, base_hash="0" * 32).delete(0, 1)
        step.edit(call).delete(2, 9)
        step.edit(call).delete(-1, 2)
        step.edit(call).delete(2, 1)
        step.edit(call, result=[Kept(0, 50)])
        step.edit(call, choice=4).delete(0, 1)
        step.edit(call).insert(3, [7])
        step.edit(call).move(0, 1, 3)
        step.edit(call).truncate(1)
        with pytest.raises(TypeError, match="model is a string, not int"):
            step.llm_call(model=5, response="r")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="an edit puts in text"):
            step.edit(call).insert(0, 5.0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes a call"):
            step.edit("abc")  # type: ignore[arg-type]
    edits = store.trajectory(run.id).steps[0].edits
    assert ["base hash" in (edits[0].rejected or ""), *(e.rejected for e in edits[1:])] == [
        True,
        "range [2, 9] of a base of 3 tokens",
        "range [-1, 2] of a base of 3 tokens",
        "range [2, 1] of a base of 3 tokens",
        "keeps [0, 50) of a base of 3",
        "the call has no choice 4 to edit",
        None,
        None,
        None,
    ]
    assert [e.result for e in edits[6:]] == [[Kept(0, 3), Literal([7])], [Kept(1, 3), Kept(0, 1)], [Kept(0, 1)]]


def test_what_a_recording_method_returns_is_its_record(store: odograph.Store) -> None:
    """Each method that records returns the id of its record, or an object with that id: a later record can refer to it."""
    with store.record(task="t") as run, run.step() as step:
        call = step.llm_call(model="m", response="um yes")
        with step.acting("a") as acting:
            inside = acting.id
        assert (step.index, run.step().index) == (0, 1)
        returned = {
            "StepStart": step.id,
            "LLMCall": call.id,
            "Action": step.action("a"),
            "Context": step.context("p"),
            "Reward": step.reward(1.0),
            "Label": step.label("l", "v"),
            "Note": step.note("n"),
            "Edit": step.edit(call).delete(0, 3),
        }
    t = store.trajectory(run.id)
    kinds = {r.id: type(r).__name__ for r in t.records}
    assert {kind: kinds.get(id) for kind, id in returned.items()} == {kind: kind for kind in returned}
    assert kinds[inside] == "Action"


def test_a_request_that_is_given_in_parts_has_these_parts(store: odograph.Store) -> None:
    """What is not given is not in the request, and what is given beside the messages is."""
    message = {"role": "user", "content": "q"}
    with store.record(task="t") as run:
        run.llm_call(model="m", user_prompt="q", response="a")
        run.llm_call(messages=[message], params={"temperature": 0.5}, response="a")
    found = [c.request for c in store.trajectory(run.id).llm_calls]
    assert found == [{"model": "m", "messages": [message]}, {"messages": [message], "temperature": 0.5}]


def test_an_end_has_what_was_said_and_a_scope_its_agent(store: odograph.Store) -> None:
    """What is not said of an end is not in it. A scope knows who acts there; none is named for the trajectory's own agent."""
    with store.record(task="t", agent="boss") as run:
        assert [scope.agent for scope in (run, run.sub_agent("boss"), run.sub_agent("helper").step())] == [None, None, "helper"]
    with store.record(task="t") as other:
        other.finish("a", metrics={"k": 1})
    ends = [store.trajectory(one.id).records[-1] for one in (run, other)]
    said = [
        {k: v for k, v in odograph.codec.record_to_dict(end).items() if k in ("answer", "metrics", "error", "extra")}
        for end in ends
    ]
    assert said == [{}, {"answer": "a", "metrics": {"k": 1}}]


def test_an_earlier_step_is_gone_on_with(store: odograph.Store) -> None:
    """`run.at(step)` records in a step of before, also of a sub-agent, and also when the trajectory is over."""
    with store.record(task="x", agent="boss") as run:
        for scope in (run, run.sub_agent("helper")):
            for n in range(2):
                with scope.step(n):
                    pass
    late = store.append(run.id)
    for step in store.trajectory(run.id).steps:
        late.at(step).reward(1.0 + step.index, name=step.agent)
    t = store.trajectory(run.id)
    told = [(s.agent, s.index, [(r.name, r.value, r.parent == s.id) for r in s.rewards]) for s in t.steps]
    assert told == [(agent, n, [(agent, 1.0 + n, True)]) for agent in ("boss", "helper") for n in range(2)]


def test_tags_that_are_none_are_refused_with_what_they_are(store: odograph.Store) -> None:
    """A text in place of a list, or a list of something else, is one sentence."""
    for tags, said in (("abc", "str"), ([1, "a", 2.5], "list of float, int, str"), ((None,), "tuple of NoneType")):
        with pytest.raises(TypeError, match=f"tags are a list of strings, not {said}$"):
            store.record(task="x", tags=tags)  # type: ignore[arg-type]
    assert len(store) == 0


def test_what_a_call_or_a_reward_can_not_mean_is_refused(store: odograph.Store) -> None:
    """A wrong meaning of logprobs, a span of nothing, and a weight that is no number are each one sentence, and nothing is recorded."""
    with store.record(task="x") as run, run.step() as step:
        with pytest.raises(TypeError, match="logprobs_of is sampled, raw or unknown, not 'row'"):
            step.llm_call(model="m", response="ab", logprobs_of="row")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a span needs target=, the call that has the tokens"):
            step.reward(1.0, span=(0, 1))
        with pytest.raises(TypeError, match="weight is a finite number, not inf"):
            step.reward(1.0, weight=math.inf)
        call = step.llm_call(model="m", response="ab", token_ids=[1, 2], logprobs=[-1.0, -2.0], logprobs_of="raw")
        step.reward(1.0, weight=2, target=call, span=(0, 1))
    (s,) = store.trajectory(run.id).steps
    (c,), (reward,) = s.llm_calls, s.rewards
    assert (c.id, c.record.logprobs_of) == (call.id, "raw")
    assert (reward.weight, reward.target, reward.span) == (2.0, call.id, odograph.Span(0, 1))


@pytest.mark.parametrize("redact", [False, True])
def test_versions_of_tokens_that_nobody_gives_cost_no_call(redact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions without token ids: the call is recorded, and a warning and the faults say what is missing."""
    store = odograph.open(tmp_path / "store", redact=redact)
    monkeypatch.setattr(faults, "told", set())
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    before = faults.count
    with store.record(task="x") as run, run.step() as step:
        with pytest.warns(RuntimeWarning, match=r"policy_versions= needs token_ids=: the call was recorded"):
            call = step.llm_call(model="m", response="ab", prompt_token_ids=[1], policy_versions=[(0, 1)])
        step.llm_call(model="m", response="ab", token_ids=[1], policy_versions=[(0, 1)])
    first, second = store.trajectory(run.id).llm_calls
    assert (first.id, first.record.tokens, faults.count) == (call.id, [], before + 1)
    assert second.record.tokens[0].versions == [(0, 1)]


def test_counts_are_read_whatever_their_names_do_when_they_are_compared(store: odograph.Store) -> None:
    """The counts of an answer whose keys raise when they are compared are those of its JSON."""

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

    with store.record(task="x") as run, run.step() as step:
        step.llm_call(model="m", response={Name("usage"): {"prompt_tokens": 3}})
    assert store.trajectory(run.id).llm_calls[0].prompt_tokens == 3


def test_an_edits_result_is_recorded_in_its_shortest_form(store: odograph.Store) -> None:
    """Neighbouring runs of one call are one run, runs of another call stay apart, and empty runs are left out."""
    with store.record(task="x") as run, run.step() as step:
        first = step.llm_call(model="m", messages=[], response="ab", token_ids=[1, 2])
        call = step.llm_call(model="m", messages=[], response="abc", token_ids=[3, 4, 5])
        step.edit(
            call, result=[Kept(0, 1), Literal([]), Kept(1, 2), Kept(2, 2), Kept(2, 3, first.id), Literal(text=""), Literal([7])]
        )
    (edit,) = store.trajectory(run.id).steps[0].edits
    assert edit.result == [Kept(0, 2), Kept(2, 3, first.id), Literal([7])]


def test_an_edit_says_of_what_it_is(store: odograph.Store) -> None:
    """The channel, the choice, the unit and whether the result is better stand in the record, each as it was said."""
    with store.record(task="x") as run, run.step() as step:
        choices = [{"index": n, "message": {"content": "abc", "reasoning_content": "thought"}} for n in range(2)]
        call = step.llm_call(model="m", messages=[], response={"choices": choices})
        step.edit(call).delete(0, 1)
        step.edit(call, choice=1, channel="reasoning", preferred=True).delete(0, 1)
    found = [(e.choice, e.channel, e.unit, e.preferred, e.rejected) for e in store.trajectory(run.id).steps[0].edits]
    assert found == [(0, "content", "char", False, None), (1, "reasoning", "char", True, None)]


def test_misuse_raises_and_content_does_not(store: odograph.Store) -> None:
    """Wrong use of the API is a TypeError that says what was expected; no content ever raises."""
    with store.record(task={1, 2}, metadata={"x": object()}) as run:
        with run.step(observation=b"\xff") as step:
            step.context("p", lambda: 1)
            step.llm_call(messages=[{"role": "user", "content": {"\ud800": math.nan}}], response=object(), usage="odd")
            step.llm_call(request={"messages": "no list", "tools": 5}, response={"choices": [None, 5, {"message": 7}]})
            step.action("a", {1: 2}, math.inf, error=ValueError("x"))
            for wrong in ("1", b"1", [1], {}):
                with pytest.raises(TypeError, match="a reward is a number or None"):
                    step.reward(wrong)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="source is one of environment"):
                step.reward(1, source="god")
            with pytest.raises(TypeError, match="not both"):
                step.llm_call(request={}, messages=[])
        with pytest.raises(TypeError, match="status is one of"):
            run.finish(status="done")
    for bad in ({"tags": "abc"}, {"agent": 5}, {"metadata": 5}):
        with pytest.raises(TypeError):
            store.record(**bad)  # type: ignore[arg-type]
    t = store.trajectory(run.id)
    assert t.task == [1, 2]
    assert t.actions[0].ok is False
    for call in t.llm_calls:
        assert isinstance(call.choices, list)
    json.dumps(t.to_dict())


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), JUNK, JUNK), max_size=8))
def test_any_content_is_recorded_and_read_and_comes_back_through_a_dict(what: list[tuple[int, Any, Any]]) -> None:
    """Whatever agents hand over, each record is there, the dict is JSON, and adding it elsewhere gives an equal trajectory."""
    with odograph.open("memory:") as store, odograph.open("memory:") as other:
        with store.record(task=what) as run, run.step(observation=what) as step:
            for kind, a, b in what:
                match kind:
                    case 0:
                        step.context("p", a, query=b)
                    case 1:
                        step.llm_call(messages=[a, b], response=a, usage=b)
                    case 2:
                        step.llm_call(request={"messages": a, "x": b}, response={"choices": a, "usage": b})
                    case 3:
                        step.action("a", a, b, error=a)
                    case 4:
                        step.note(a)
                    case 5:
                        step.label("l", a)
                    case _:
                        run.note(b)
        t = store.trajectory(run.id)
        assert len(t.records) == 3 + len(what)
        whole = json.loads(json.dumps(t.to_dict()))
        other.add(whole)
        assert json.loads(json.dumps(other.trajectory(run.id).to_dict())) == whole
        other.add(whole)
        assert len(other.trajectory(run.id).records) == len(t.records)
        for call in t.llm_calls:
            assert isinstance(call.messages, list)
            assert isinstance(call.choices, list)


def test_a_hand_made_dict_goes_in(store: odograph.Store) -> None:
    """The black box: a whole trajectory that the agent built itself, with its own ids and logprobs, goes in through one call."""
    id = store.add(
        {
            "task": "2+2?",
            "agent": "mine",
            "group": "g",
            "steps": [
                {
                    "observation": "start",
                    "llm_calls": [
                        {
                            "id": "c1",
                            "request": {"messages": [{"role": "user", "content": "2+2?"}]},
                            "response": "4",
                            "prompt_token_ids": [1, 2],
                            "tokens": [{"token_ids": [3], "logprobs": [-0.5]}],
                        }
                    ],
                    "actions": [{"name": "answer", "llm_call": "c1", "odd_field": 1}],
                    "rewards": [{"value": 1.0}],
                }
            ],
            "rewards": [{"name": "final", "value": 0.5}],
        }
    )
    t = store.trajectory(id)
    assert (t.task, t.agent, t.group, t.status, t.reward) == ("2+2?", "mine", "g", "completed", 0.5)
    (call,) = t.llm_calls
    assert (call.prompt_token_ids, call.choices[0].token_ids, call.choices[0].logprobs, call.text) == ([1, 2], [3], [-0.5], "4")
    assert t.actions[0].extra == {"odd_field": 1}
    assert t.steps[0].record is not None
    assert call.record.parent == t.steps[0].record.id
    for wrong, says in (
        ({"steps": 5}, "steps: a list was expected, found int"),
        ({"steps": [{"llm_calls": [3]}]}, r"steps\[0\]\.llm_calls\[0\]: an object was expected, found int"),
        ({"rewards": [{"value": "x"}]}, r"rewards\[0\]: a reward record: .*value"),
        ([], "a trajectory is an object, not list"),
    ):
        with pytest.raises(odograph.InvalidInput, match=says):
            odograph.Trajectory.from_dict(wrong)  # type: ignore[arg-type]


def test_reward_rules() -> None:
    """Latest of each (name, source, author), repeats averaged, weights, nulls skipped, steps summed only where nothing is on the whole."""
    from odograph.totals import trajectory_reward
    from odograph.types import Reward, Span

    def total(*rewards: Reward) -> float | None:
        return trajectory_reward(rewards)

    assert total() is None
    assert total(Reward(value=0.0)) == 0.0
    assert total(Reward(value=None)) is None
    assert total(Reward(value=None), Reward(value=1.0, step=0)) is None
    assert total(Reward(value=5.0, weight=0), Reward(value=1.0, step=0)) == 1.0
    assert total(Reward(value=1.0), Reward(value=2.0)) == 2.0
    assert total(Reward(name="a", value=1.0, weight=0.5), Reward(name="b", value=2.0)) == 2.5
    assert total(Reward(value=1.0, source="judge", author="x"), Reward(value=0.0, source="judge", author="y")) == 0.5
    assert total(Reward(value=1.0, step=0), Reward(value=2.0, step=1), Reward(value=3.0, step=1)) == 4.0
    assert total(Reward(value=1.0, step=0, agent="a"), Reward(value=2.0, step=0, agent="b")) == 3.0
    assert total(Reward(value=1.0, target="r"), Reward(value=1.0, target="r", span=Span(0, 1))) is None


_INTERRUPTED = """
import signal, sys, odograph

class Asking:
    def find_spec(self, name, path=None, target=None):
        signal.raise_signal(signal.SIGUSR1)

def asks(*_):
    try:
        odograph.current()
    except AttributeError as error:
        said.append(str(error))

said = []
signal.signal(signal.SIGUSR1, asks)
sys.meta_path.insert(0, Asking())
print(odograph.current())
assert said and all("in the middle of the first import" in one for one in said), said[:3]
"""


def test_a_handler_that_asks_in_the_middle_of_the_first_import() -> None:
    """What interrupts the import of odograph's parts gets a sentence, and harms no import."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("None\n", "")


_FORKS = """
import os, signal, sys, tempfile, threading, time
import odograph

store = odograph.open(tempfile.mkdtemp())

def work(task):
    with store.record(task=task) as run:
        run.step().llm_call(model="m", request={"messages": [{"role": "user", "content": "q"}]}, response="a")

first = threading.Thread(target=work, args=["parent"])
first.start()
while "odograph.dialects.anthropic_messages" not in sys.modules and first.is_alive():
    time.sleep(0)
child = os.fork()
if not child:
    signal.alarm(60)
    work("child")
    os._exit(0)
_, status = os.waitpid(child, 0)
first.join()
print(status, sorted(t.task for t in store.trajectories()))
"""


def test_a_fork_while_another_thread_makes_the_first_record() -> None:
    """The child of such a fork records too: it does not wait for an import that a thread of its parent had begun."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKS]  # Python 3.12 warns of such forks
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0 ['child', 'parent']\n", "")


#: Of each kind of record: what a caller may say of it, and where that is kept under another name.
GIVEN: dict[str, dict[str, Any]] = {
    "context": {"data": {"k": 1}, "query": ["q"], "purpose": "why", "error": "no", "started": 5, "duration": 6},
    "action": {
        "arguments": {"k": 1}, "result": [2], "ok": False, "error": "no", "tool_call_id": "c", "started": 5, "duration": 6,
        "metadata": {"m": 1},
    },
    "llm_call": {
        "reasoning": "r", "finish_reason": "length", "usage": {"prompt_tokens": 3}, "purpose": "judge", "policy_version": "v",
        "tokenizer": "t", "adapter": "a", "inputs": ["i"], "cost": 0.5, "error": "no", "started": 5, "duration": 6,
        "first_token": 7, "logprobs_of": "raw", "metadata": {"m": 1},
    },
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, given in GIVEN.items() for name in given])
def test_what_is_said_of_a_record_is_kept_and_nothing_else(kind: str, name: str) -> None:
    """Each argument alone is in the record, and the record of a call without it has none. The id that is returned is the record's."""
    with odograph.open("memory:") as store:
        with store.record(task="t") as run, run.step() as step:
            record = getattr(step, kind)
            ids = [getattr(one, "id", one) for one in (record("n"), record("n", **{name: GIVEN[kind][name]}))]
        t = store.trajectory(run.id)
    found = {"context": t.steps[0].contexts, "action": t.actions, "llm_call": t.llm_calls}[kind]
    assert [one.id for one in found] == ids
    without, said = (odograph.codec.record_to_dict(getattr(one, "record", one)) for one in found)
    place = "extra" if name == "metadata" else name
    assert said[place] == GIVEN[kind][name]
    assert without.get(place) != said[place]


@pytest.mark.parametrize(("said", "found"), [(None, False), (True, True), (False, False), (1, True), ("", False)])
def test_whoever_says_how_an_action_went_is_believed(said: Any, found: bool) -> None:
    """A result that states a failure makes an action a failed one, if nobody says how it went."""
    with odograph.open("memory:") as store:
        with store.record(task="t") as run, run.step() as step:
            step.action("n", result={"success": False}, ok=said)
        (action,) = store.trajectory(run.id).actions
        assert action.ok is found
