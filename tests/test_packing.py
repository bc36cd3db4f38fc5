"""A call's messages and token ids are stored once, whatever the agent resends, and come back exactly."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.codec import encode
from odograph.packing import Packer
from odograph.prefix import Prefix
from odograph.store.lines import decode
from odograph.streams import Growing, Streams

MESSAGE = st.sampled_from(
    [{"role": r, "content": c} for r in ("user", "assistant", "tool") for c in ("", "ok", "é\n", "x" * 50)]
) | st.integers(0, 3)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Calls of agents that extend, cut, edit and replace their histories, as agents do."""
    calls: list[dict[str, Any]] = []
    messages: list[Any] = []
    ids: list[int] = []
    for _ in range(draw(st.integers(1, 8))):
        what = draw(st.sampled_from(["extend", "cut", "replace", "window", "same"]))
        if what == "cut":
            messages, ids = messages[: draw(st.integers(0, len(messages)))], ids[: draw(st.integers(0, len(ids)))]
        elif what == "replace" and messages:
            messages = list(messages)
            messages[draw(st.integers(0, len(messages) - 1))] = draw(MESSAGE)
        elif what == "window":
            messages, ids = messages[-2:], ids[-3:]
        if what != "same":
            messages = messages + draw(st.lists(MESSAGE, max_size=3))
            ids = ids + draw(st.lists(st.integers(0, 300_000), max_size=4))
        answer = draw(st.lists(st.integers(0, 9), max_size=3))
        call: dict[str, Any] = {
            "request": {"messages": messages, "temperature": 0.0, "tools": [{"n": "t" * 300}]},
            "purpose": draw(st.sampled_from(["act", "judge"])),
        }
        if draw(st.booleans()):
            call["prompt_token_ids"] = ids
            call["tokens"] = [{"token_ids": answer, "logprobs": [-0.5] * len(answer)}]
        else:
            call["response"] = {"prompt_token_ids": ids, "choices": [{"token_ids": answer, "text": "x"}], "odd": draw(MESSAGE)}
        calls.append(call)
        ids = ids + answer
    return calls


@settings(max_examples=300)
@given(histories(), st.booleans())
def test_every_call_comes_back_whole(calls: list[dict[str, Any]], immutable: bool) -> None:
    """Whatever agents do to their history between calls, each call is read back as it was made."""
    counter = itertools.count(1)
    packer = Packer("t", lambda: next(counter), immutable=immutable)
    lines: list[bytes] = []
    for number, call in enumerate(calls):
        before: list[bytes] = []
        packed = packer.pack(("a", call["purpose"]), call, before)
        lines += before
        lines.append(encode({"kind": "llm_call", "id": str(number), "trajectory": "t", **packed}))
    streams = Streams()
    found = []
    for line in lines:
        item = decode(line.rstrip(b"\n"), "w")
        if isinstance(item, odograph.types.LLMCall):
            found.append(item)
        else:
            streams.add("w", item)
    for record, call in zip(found, calls, strict=True):
        whole = streams.fill(record)
        assert whole.request == call["request"]
        assert whole.response == call.get("response")
        assert (whole.prompt_token_ids or []) == call.get("prompt_token_ids", [])
        if call.get("tokens"):
            assert (whole.tokens[0].token_ids or []) == call["tokens"][0]["token_ids"]
    assert not streams.missing


def test_a_growing_history_is_stored_once(store: odograph.Store) -> None:
    """An agent that resends all of its history at each step stores each message once: size is linear in steps."""

    def size(steps: int) -> int:
        before = sum(f.stat().st_size for f in (store.root / "journal").glob("*")) if (store.root / "journal").exists() else 0
        with store.record(task="x") as run:
            messages: list[dict[str, str]] = [{"role": "system", "content": "s" * 500}]
            for index in range(steps):
                messages.append({"role": "user", "content": f"{index} " * 100})
                with run.step() as step:
                    step.llm_call(
                        model="m", messages=messages, response=f"answer {index}", tools=[{"type": "function", "x": "t" * 400}]
                    )
                messages.append({"role": "assistant", "content": f"answer {index}"})
        return sum(f.stat().st_size for f in (store.root / "journal").glob("*")) - before

    assert size(200) < 4.5 * size(50)


def test_later_changes_of_the_agents_objects_change_nothing(store: odograph.Store) -> None:
    """The request is what it was at the call: the agent may go on changing its own lists and dicts."""
    messages = [{"role": "user", "content": "first"}]
    ids = [1, 2, 3]
    with store.record(task="x") as run, run.step() as step:
        call = step.llm_call(
            model="m", messages=messages, response="a", prompt_token_ids=ids, token_ids=ids, logprobs=[-1.0, -1.0, -1.0]
        )
        kept = copy.deepcopy(messages)
        messages[0]["content"] = "changed"
        messages.append({"role": "user", "content": "second"})
        ids[0] = 99
        step.edit(call).delete(0, 1)
        step.llm_call(model="m", messages=messages, response="b")
    t = store.trajectory(run.id)
    assert t.llm_calls[0].messages == kept
    assert t.llm_calls[1].messages == messages
    assert t.llm_calls[0].prompt_token_ids == [1, 2, 3]
    assert t.llm_calls[0].choices[0].token_ids == [1, 2, 3]
    edit = t.steps[0].edits[0]
    assert edit.base_hash == odograph.codec.content_hash([1, 2, 3])


@pytest.mark.parametrize("ids", [[1.5, 2], ["a"], [-1, 2], [True, 2], [None], [[1]], [2**40, 1]])
def test_ids_that_are_no_ids_are_kept_as_they_are(store: odograph.Store, ids: list[Any]) -> None:
    """Token ids of a wrong type are recorded as given, not repaired and not lost."""
    with store.record(task="x") as run, run.step() as step:
        step.record_call({"request": {}, "response": {"prompt_token_ids": ids, "choices": [{"token_ids": ids}]}})
        step.llm_call(response="x", prompt_token_ids=ids, token_ids=ids)
    wire, hand = store.trajectory(run.id).llm_calls
    assert wire.response == {"prompt_token_ids": ids, "choices": [{"token_ids": ids}]}
    kept = hand.record.extra["invalid"] if hand.record.extra else {}
    assert kept.get("prompt_token_ids", hand.prompt_token_ids) == ids


def test_a_mark_that_moves_on_keeps_size_linear(store: odograph.Store) -> None:
    """Agents that mark the last message for the cache, so that each message changes once, stay linear, too."""

    def size(steps: int) -> int:
        def used() -> int:
            return sum(f.stat().st_size for f in (store.root / "journal").glob("*"))

        before = used()
        history: list[dict[str, Any]] = []
        with store.record(task="x") as run:
            for n in range(steps):
                history.append({"role": "user", "content": f"{n} " * 20})
                marked = [*history[:-1], {**history[-1], "cache_control": {"type": "ephemeral"}}]
                run.step().llm_call(model="m", messages=marked, response="r")
        calls = store.trajectory(run.id).llm_calls
        assert [m["content"] for m in calls[-1].messages] == [m["content"] for m in history]
        assert calls[-2].messages[-1]["cache_control"]
        assert "cache_control" not in calls[-1].messages[-2]
        return used() - before

    assert size(1200) < 4.8 * size(300)


def test_words_that_come_again_keep_a_history_in_one_piece(store: odograph.Store) -> None:
    """An agent that is told "continue" at every step still needs one range of stored messages a call, not one more each time."""
    history: list[dict[str, Any]] = [{"role": "system", "content": "s"}]
    with store.record(task="x") as run:
        for n in range(40):
            history += [{"role": "user", "content": "continue"}, {"role": "assistant", "content": f"answer {n}"}]
            run.step().llm_call(model="m", messages=[*history, {"role": "user", "content": "continue"}], response="r")
    (file,) = (store.root / "journal").glob("*.jsonl")
    calls = [line for line in map(json.loads, file.read_text().splitlines()) if line["kind"] == "llm_call"]
    assert [len(part["ranges"]) for call in calls for part in call["packed"]] == [1] * 40
    assert [m["content"] for m in store.trajectory(run.id).llm_calls[-1].messages][-3:] == ["continue", "answer 39", "continue"]


def test_a_window_over_words_that_come_again_is_one_range(store: odograph.Store) -> None:
    """A history that moves on over a message which was said before refers to one piece of what is stored, not to three."""
    hello, yes, more = ({"role": "user", "content": text * 30} for text in ("hello", "yes", "more"))
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", messages=[hello, yes, hello, more], response="r")
        step.llm_call(model="m", messages=[yes, hello, more], response="r")
    lines = [json.loads(line) for path in store.root.glob("journal/*.jsonl") for line in path.read_bytes().splitlines()]
    assert [line["packed"][0]["ranges"] for line in lines if line["kind"] == "llm_call"] == [[[0, 4]], [[1, 4]]]


def test_any_string_may_be_an_id(store: odograph.Store) -> None:
    """An id of another system, quotes and backslashes included, loses no message."""
    id = 'a"b\\c\n'
    store.add(
        {
            "id": id,
            "task": "x",
            "start": {"id": "s", "trajectory": id},
            "steps": [{"llm_calls": [{"request": {"messages": [{"role": "user", "content": "q"}]}, "prompt_token_ids": [1, 2]}]}],
        }
    )
    call = store.trajectory(id).llm_calls[0]
    assert (call.messages, call.prompt_token_ids) == ([{"role": "user", "content": "q"}], [1, 2])
    assert store.damages() == []


def test_a_damaged_message_costs_itself_alone() -> None:
    """Each call that has it has a mark in its place, and all the others; in whatever order, and as often as calls are read."""
    packer, streams = Packer("t", itertools.count(1).__next__, immutable=True), Streams()
    packed: list[odograph.types.LLMCall] = []
    for n in range(6):
        lines: list[bytes] = []
        messages = [{"role": "user", "content": f"m{k}"} for k in range(n + 1)]
        fields = packer.pack(("a", "act"), {"request": {"messages": messages}}, lines)
        lines.append(encode({"kind": "llm_call", "id": str(n), "trajectory": "t", **fields}))
        for line in lines:
            item = decode(line.rstrip(b"\n"), "w")
            if isinstance(item, odograph.types.LLMCall):
                packed.append(item)
            elif b'"m2"' not in line:
                streams.add("w", item)
    for n in (5, 1, 5, 3):
        streams.missing.clear()
        found = [m.get("content", "gone") for m in streams.fill(packed[n]).request["messages"]]
        assert found == [f"m{k}" if k != 2 else "gone" for k in range(n + 1)]
        assert [key[2] for key in streams.missing] == ([2] if n > 1 else [])


def stored_ids(prompts: list[list[int]]) -> tuple[int, list[list[int] | None], int]:
    """How many ids are stored of calls with these prompts, the prompts as they are read back, and the most ranges of one."""
    packer = Packer("t", iter(range(1, 100)).__next__)
    streams, stored, calls = Streams(), 0, []
    for n, prompt in enumerate(prompts):
        lines: list[bytes] = []
        fields = packer.pack(None, {"prompt_token_ids": prompt}, lines)
        calls.append(decode(encode({"kind": "llm_call", "id": str(n), "trajectory": "t", **fields}), "w"))
        for line in lines:
            item = decode(line, "w")
            stored += len(item.ids)  # type: ignore[union-attr]
            streams.add("w", item)  # type: ignore[arg-type]
    ranges = max(len(c.packed[0].ranges) for c in calls)  # type: ignore[union-attr]
    return stored, [streams.fill(c).prompt_token_ids for c in calls], ranges  # type: ignore[arg-type]


def test_a_window_of_token_ids_that_moves_on_stores_what_is_new() -> None:
    """A prompt that lost ids at its beginning, or behind its system prompt, costs the ids that no prompt before had."""
    system, stream = list(range(100_000, 100_100)), [n * 7919 % 50_000 for n in range(3_000)]
    moving = [stream[at : at + 1_000] for at in range(0, 2_000, 100)]
    behind = [system + prompt for prompt in moving]
    for prompts, new in ((moving, 2_900), (behind, 3_000)):
        stored, found, ranges = stored_ids(prompts)
        assert found == prompts
        assert stored == new
        assert ranges <= 2


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.lists(st.integers(0, 3), max_size=40)), max_size=8))
def test_windows_of_ids_that_repeat_themselves_come_back(cuts: list[tuple[int, int, list[int]]]) -> None:
    """Whatever is cut out of a prompt, and however often the same ids come again in it, it is read back as it was."""
    prompt = [n % 5 for n in range(80)]
    prompts = [prompt]
    for start, stop, more in cuts:
        prompt = prompt[: min(start, stop)] + prompt[max(start, stop) :] + more
        prompts.append(prompt or [1])
    assert stored_ids(prompts)[1] == prompts
    longer = [[(1, 12, 123, 31, 1231)[n] for n in prompt] for prompt in prompts]  # some begin or end like others
    assert stored_ids(longer)[1] == longer


_TURN = st.tuples(
    st.integers(0, 2), st.lists(st.integers(0, 12), max_size=30), st.integers(0, 20), st.integers(0, 9), st.booleans()
)


@settings(max_examples=300)
@given(st.lists(_TURN, max_size=12))
def test_prompts_that_are_the_beginning_of_one_list_come_back(turns: list[tuple[int, list[int], int, int, bool]]) -> None:
    """Ids of a list that grows are stored and read as those of lists of their own, with answers that stand in the list, or do not,
    with calls that go back, and with other lists between them; and no call that goes on has a list of its own."""
    packer, streams, calls = Packer("t", iter(range(1, 100)).__next__), Streams(), []
    bases: list[list[int]] = [[1] * 40, [1] * 50, [2]]
    given: list[tuple[list[int], list[int]]] = []
    for which, new, answered, less, plain in turns:
        base = bases[which]
        base += new
        length = max(1, len(base) - less)
        answer = [n % 5 for n in range(answered)]
        ids: Any = base[:length] if plain else Prefix(base, length)
        lines: list[bytes] = []
        tokens = [{"token_ids": list(answer)}] if answer else []
        fields = packer.pack(None, {"prompt_token_ids": ids, "tokens": tokens}, lines)
        calls.append(decode(encode({"kind": "llm_call", "id": "c", "trajectory": "t", **fields}), "w"))
        for line in lines:
            streams.add("w", decode(line, "w"))  # type: ignore[arg-type]
        given.append((base[:length], answer))
        if less > 4 and len(base) == length:
            base += answer
    lists = Growing()
    for call, (prompt, answer) in zip(calls, given, strict=True):
        assert isinstance(call, odograph.types.LLMCall)
        whole, growing = streams.fill(call), streams.fill(call, growing=lists)
        assert whole.prompt_token_ids == growing.prompt_token_ids == prompt
        assert type(growing.prompt_token_ids) is Prefix
        assert (
            [one.token_ids for one in whole.tokens] == [one.token_ids for one in growing.tokens] == ([answer] if answer else [])
        )
        assert type(call.prompt_token_ids) is type(None)


def test_a_growing_list_of_ids_is_looked_at_once() -> None:
    """Of a prompt that goes on with the one before, only the new ids are written, and only they are read."""
    base = list(range(2_000))
    packer, streams, calls = Packer("t", iter(range(1, 100)).__next__), Streams(), []
    for _ in range(20):
        lines: list[bytes] = []
        fields = packer.pack(None, {"prompt_token_ids": Prefix(base), "tokens": [{"token_ids": [7, 8, 9]}]}, lines)
        assert sum(map(len, lines)) < 300 or len(base) == 2_000
        calls.append(decode(encode({"kind": "llm_call", "id": "c", "trajectory": "t", **fields}), "w"))
        for line in lines:
            streams.add("w", decode(line, "w"))  # type: ignore[arg-type]
        base += [7, 8, 9, 10, 11]
    lists = Growing()
    prompts: list[Any] = [streams.fill(c, growing=lists).prompt_token_ids for c in calls]  # type: ignore[arg-type]
    assert [len(p) for p in prompts] == [2_000 + 5 * n for n in range(20)]
    assert all(p.base is prompts[0].base for p in prompts)


def test_an_id_that_begins_like_another_is_another() -> None:
    """The ids of a prompt that ends with 12, and the ids of the next that goes on with 123, share what is before."""
    before = list(range(1_000, 1_100))
    prompts = [[*before, 12], [*before, 123], [*before, 1], [*before, 12, 3]]
    stored, found, _ = stored_ids(prompts)
    assert found == prompts
    assert stored == 101 + 1 + 1 + 2


def test_logprobs_of_a_wrong_type_cost_no_call(tmp_path: Path) -> None:
    """Token ids are stored apart from a call. If the logprobs beside them are no list, the call and its ids are read all the same."""
    with odograph.open(tmp_path) as store:
        with store.record() as run, run.step() as step:
            step.llm_call(messages=[], response="a", token_ids=[1, 2], logprobs={"x": 1})
        (call,) = store.trajectory(run.id).llm_calls
        assert call.choices[0].token_ids == [1, 2] and call.choices[0].logprobs is None
        assert call.record.extra == {"invalid": {"tokens": [{"logprobs": {"x": 1}}]}} and not store.damages()
