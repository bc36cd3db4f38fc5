"""What people are shown: each thing that was said, once, at a cost that grows with what was said."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import odograph
from odograph import shown
from odograph.cli import main
from odograph.codec import encode
from odograph.lineage import chains
from odograph.lineage.shown import standings
from tests.cost import costs


def said(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def messages(store: odograph.Store, id: str) -> list[Any]:
    return [e.about["content"] for e in shown.session(store.trajectory(id)) if e.kind == "message"]


def windowed(store: odograph.Store, calls: int, window: int = 20) -> str:
    """A run of an agent that keeps its last messages only."""
    history: list[dict[str, str]] = []
    with store.record(task="t") as run:
        for k in range(calls):
            history = [*history, said(f"q {k}")][-window:]
            run.step().llm_call(model="m", messages=history, response=f"a {k}")
    return run.id


def test_a_window_that_moves_on_shows_what_is_new(store: odograph.Store) -> None:
    """An agent that sends its last twenty messages shows each of them once."""
    assert messages(store, windowed(store, 100)) == [f"q {k}" for k in range(100)]


def test_what_is_said_again_is_shown_again(store: odograph.Store) -> None:
    """A user who says the same twice said it twice; a history that is cut, edited or put together anew repeats nothing."""
    yes, no, more = said("yes"), said("no"), said("more")
    with store.record(task="t") as run:
        for history in (
            [yes],
            [yes, no],
            [yes, no, yes],
            [no, yes],
            [said("summary"), yes],
            [said("summary"), yes, more],
            [yes, no],
        ):
            run.step().llm_call(model="m", messages=history, response="a")
    assert messages(store, run.id) == ["yes", "no", "yes", "summary", "more"]


def test_the_system_prompt_is_shown_once_and_when_it_changes(store: odograph.Store) -> None:
    """A system prompt beside the messages, short or long, is new where it changes."""
    history: list[dict[str, str]] = []
    with store.record(task="t") as run:
        for k, prompt in enumerate(["a", "a", "b", "long " * 100, "long " * 100]):
            history = [*history, said(str(k))][-2:]
            request = {"model": "m", "system": prompt, "max_tokens": 5, "messages": history}
            run.step().llm_call(model="m", request=request, response="x", dialect="anthropic.messages")
    assert messages(store, run.id) == ["a", "0", "1", "b", "2", "long " * 100, "3", "4"]


def test_another_process_goes_on_where_one_stopped(tmp_path: Path) -> None:
    """A history that a later process sends again is no news, though that process has a journal of its own."""
    history = [said("one"), said("two")]
    with odograph.open(tmp_path) as store:
        with store.record(task="t") as run:
            run.step().llm_call(model="m", messages=history, response="a")
    with odograph.open(tmp_path) as store:
        store.append(run.id).step().llm_call(model="m", messages=[*history, said("three")], response="b")
        assert messages(store, run.id) == ["one", "two", "three"]


def test_a_call_with_a_broken_list_shows_no_message_twice(store: odograph.Store) -> None:
    """A mark that moves from message to message breaks lists into many ranges; what is put together again is not said again."""
    history: list[dict[str, Any]] = []
    with store.record(task="t") as run:
        for k in range(300):
            history = [{k: v for k, v in m.items() if k != "mark"} for m in history] + [{**said(f"q {k}"), "mark": True}]
            run.step().llm_call(model="m", messages=history, response="a")
    found = messages(store, run.id)
    assert set(found) == {f"q {k}" for k in range(300)}
    assert max(found.count(text) for text in found) == 2  # with its mark and, which is another message, without


def test_the_cost_is_that_of_what_is_new(store: odograph.Store) -> None:
    """Ten times as many calls with a window cost about ten times as much, in time and memory."""

    def cost(calls: int) -> tuple[float, int]:
        id = windowed(store, calls, window=200)
        t = store.trajectory(id)
        tracemalloc.start()
        found, took = costs(lambda: sum(e.kind == "message" for e in shown.session(t)))
        assert found == calls
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return took, peak

    (few, small), (many, large) = cost(300), cost(3000)
    assert many < 40 * max(few, 0.02)  # were it the square, 100
    assert large < 15 * small


def test_values_are_json(store: odograph.Store, capsys: Any) -> None:
    """What a viewer gets is JSON of plain values; a terminal prints the same things."""
    with store.record(task="t", agent="x") as run:
        with run.step({"seen": 1}) as step:
            step.context("kb", "data", query="k", purpose="why")
            call = step.llm_call(
                model="m", messages=[said("hello")], response="hi", token_ids=[1, 2], prompt_token_ids=[5], logprobs=[-0.1, -0.2]
            )
            step.edit(call).replace(0, 1, "other", reason="because")
            step.action("search", {"q": 1}, "found", ok=True)
            step.reward(0.5, name="env")
        run.label("quality", "good", score=0.5)
        run.finish("4")
    t = store.trajectory(run.id)
    entries = json.loads(encode([[e.kind, e.step, e.about] for e in shown.session(t)]))
    kinds = [kind for kind, _, _ in entries]
    assert kinds == [
        "step",
        "observation",
        "context",
        "message",
        "call",
        "answer",
        "edit",
        "action",
        "reward",
        "label",
        "outcome",
    ]
    assert entries[-1] == ["outcome", None, {"status": "completed", "answer": "4", "error": None, "metrics": {}}]
    assert json.loads(encode(shown.facts(t)))["actions"] == 1
    assert main(["--store", str(store.root), "show", run.id, "--full"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "observed",
        "read kb k (why): data",
        "user: hello",
        "assistant: hi",
        "(because)",
        "do search",
        "reward env 0.5",
        "label quality good",
        "answer: 4",
    ):
        assert text in printed, text


def test_an_image_that_was_sent_all_along_makes_no_token_stale(store: odograph.Store) -> None:
    """Tokens that were sampled after an image are exact in a context that begins with the same image."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with store.record(task="t") as run:
        for k in range(2):
            messages = [{"role": "user", "content": [image]}, *[said("more")] * k]
            run.step().llm_call(model="m", messages=messages, response="a", prompt_token_ids=[1, 2, *[3, 4] * k], token_ids=[3])
    (chain,) = chains(store.trajectory(run.id))
    assert [s for _, _, s in standings(chain, chain.last) if s] == ["exact", "exact"]


def test_several_messages_before_an_answer_are_shown_once(store: odograph.Store) -> None:
    """A step that observed several messages does not repeat them beside the prompt that holds them."""
    with store.record(task="Row") as run, run.step(["Row", "Row on"]) as step:
        step.llm_call(
            model="m", messages=[{"role": "user", "content": "Row"}, {"role": "user", "content": "Row on"}], response="Aye"
        )
    kinds = [e.kind for e in shown.session(store.trajectory(run.id))]
    assert kinds.count("message") == 2 and "observation" not in kinds


def test_an_answer_of_a_tool_in_geminis_envelope_is_shown_once_as_its_text(store: odograph.Store) -> None:
    """The prompt that has the text of a result says nothing new."""
    with store.record(task="Row") as run, run.step() as step:
        step.action("look", {}, [{"functionResponse": {"id": "k", "response": {"output": "moss"}}}], tool_call_id="k")
        step.llm_call(model="m", messages=[{"role": "tool", "tool_call_id": "k", "content": "moss"}], response="Aye")
    entries = list(shown.session(store.trajectory(run.id)))
    assert [e.about["result"] for e in entries if e.kind == "action"] == ["moss"]
    assert not [e for e in entries if e.kind == "message"]


def test_a_compaction_is_told_by_its_summary(store: odograph.Store) -> None:
    """In words where the source has them, else by how many messages are left."""
    with store.record(task="Row") as run:
        run.note({"message": "so far: rowed", "replacement_history": [1]}, name="compacted")
        run.note({"message": "", "replacement_history": [1, 2]}, name="compacted")
    told = [e.about["text"] for e in shown.session(store.trajectory(run.id)) if e.kind == "compaction"]
    assert told == ["so far: rowed", "messages in the place of the history: 2"]


def test_what_a_step_without_a_call_observed_is_shown_once() -> None:
    """The prompt of a later step that sends it says nothing new; the same words said again later are shown."""
    with odograph.open("memory:") as store:
        with store.record(task="t") as run:
            with run.step(observation="Paint"):
                pass
            sent = [{"role": "user", "content": "Paint"}]
            with run.step() as step:
                step.llm_call(model="m", messages=list(sent), response="Red?")
            sent += [{"role": "assistant", "content": "Red?"}, {"role": "user", "content": "Paint"}]
            with run.step() as step:
                step.llm_call(model="m", messages=list(sent), response="Done")
        found = list(shown.session(store.trajectory(run.id)))
    told = [(e.kind, e.step, e.about.get("value", e.about.get("content"))) for e in found if e.kind in ("observation", "message")]
    assert told == [("observation", 0, "Paint"), ("message", 2, "Paint")]
