"""What a trajectory that is added again changes: what it says otherwise, and nothing else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import odograph
from odograph.prefix import Prefix
from odograph.store.comparing import _hash, _last, changes
from odograph.store.writing import add
from odograph.types import AnyRecord, Label, LLMCall, Note, Reward, Start

A, B, C, D = ({"role": "user", "content": text * 300} for text in "abcd")
TOOL, OTHER = ({"type": "function", "function": {"name": name * 300}} for name in "fg")
IDS = list(range(500))


class Added:
    """A trajectory of some calls that is added again and again, as an importer does."""

    def __init__(self, store: odograph.Store, *calls: dict[str, Any]) -> None:
        with store.record(task="t") as run, run.step() as step:
            for call in calls:
                step.llm_call(model="m", response="r", **call)
        self._store, self._id = store, run.id
        self.records = self._there()

    def _there(self) -> list[AnyRecord]:
        return list(self._store.trajectory(self._id).complete_records())

    def again(self, *calls: dict[str, Any]) -> int:
        """How many records are new where these fields of the calls are what they say now."""
        fields = iter(calls)
        records = list(self.records)
        for place, record in enumerate(records):
            if isinstance(record, LLMCall):
                given = dict(next(fields))
                records[place] = replace(record, request={**record.request, **given.pop("request", {})}, **given)
        before = len(self._there())
        self._store.add(records)
        return len(self._there()) - before

    @property
    def calls(self) -> list[Any]:
        return self._store.trajectory(self._id).llm_calls


@pytest.mark.parametrize(
    "messages", [[A], [A, B, C], [B], [B, A], [], "text", {"a": 1}, [A, {**B, "content": "b" * 299 + "x"}]], ids=range(8)
)
def test_other_messages_are_a_correction(store: odograph.Store, messages: Any) -> None:
    """A call that was sent more, fewer, or other messages than the store says is corrected, once, and the call behind it stays."""
    added = Added(store, {"messages": [A, B]}, {"messages": [A, B, C]})
    assert added.again({}, {}) == 0
    for written in (1, 0):
        assert added.again({"request": {"messages": messages}}, {}) == written
        assert [call.request["messages"] for call in added.calls] == [messages, [A, B, C]]


def test_a_first_message_that_changed_is_one_of_all_calls(store: odograph.Store) -> None:
    """Each call that was sent it is corrected, also where what follows is the same."""
    added = Added(store, {"messages": [A]}, {"messages": [A, B]}, {"messages": [A, B, C]})
    changed = [[D], [D, B], [D, B, C]]
    assert added.again(*({"request": {"messages": messages}} for messages in changed)) == 3
    assert [call.request["messages"] for call in added.calls] == changed


def test_what_python_takes_for_the_same_is_not(store: odograph.Store) -> None:
    """A truth is no number to JSON, and what is no number is not unknown."""
    added = Added(store, {"messages": [A], "usage": {"n": 1}, "reasoning": float("nan")})
    for fields in ({"usage": {"n": True}}, {"usage": {"n": 1}, "reasoning": None}, {"usage": {"n": 1.0}}, {"usage": {"n": True}}):
        assert added.again(fields) == 1
        assert repr(added.calls[0].usage["n"]) == repr(fields["usage"]["n"])  # also where it was so before


def test_nothing_is_added_where_what_is_there_can_not_be_read(store: odograph.Store) -> None:
    """The sealed file is named that holds the trajectory, and is damaged; its records are not written anew as if they were not there."""
    pytest.importorskip("pyarrow")
    added = Added(store, {"messages": [A]})
    store.seal()
    (path,) = (store.root / "lake" / "records").glob("*.parquet")
    path.write_bytes(b"nothing of it")
    store.close()
    with pytest.raises(odograph.StoreError, match=path.name):
        store.add(added.records)


def test_a_message_behind_others_that_moved_is_looked_at(store: odograph.Store) -> None:
    """A list that has some messages of an earlier one, or others in between, goes on: its last one counts as any other."""
    lists = [[A, B, C, D], [A, C, TOOL], [A, C, TOOL, OTHER], [C, B], [C, B, D]]
    added = Added(store, *({"messages": messages, "cost": 1.0} for messages in lists))
    for same in ({}, {"cost": 1}):  # what is written otherwise is hashed as a whole
        assert added.again(*(same for _ in lists)) == 0
    for n in (2, 4):
        changed = [[*messages[:-1], B] if place == n else messages for place, messages in enumerate(lists)]
        assert added.again(*({"request": {"messages": messages}} for messages in changed)) == (1 if n == 2 else 2)
        assert [call.request["messages"] for call in added.calls] == changed


@pytest.mark.parametrize("late_first", [True, False])
def test_the_latest_of_several_corrections_is_what_is_there(store: odograph.Store, late_first: bool) -> None:
    """... in whichever order the lines of two machines that corrected a record stand; a change is later than a clock that was ahead."""
    ahead = time.time_ns() + 10**15
    start = Start(trajectory="t", id="s", time=1, seq=1)
    note = Note(trajectory="t", id="n", time=2, seq=2, data=0)
    last = replace(note, id="last", time=ahead, data=1, supersedes="n")
    other = replace(note, id="other", time=3, data=2, supersedes="n")
    store.add([start, note, *([last, other] if late_first else [other, last])])
    for data in (2, 1, 2):
        assert store.trajectory("t").notes[-1].data != data
        store.add([start, replace(note, data=data)])
        changed = store.trajectory("t").notes[-1]
        assert changed.data == data and changed.time > ahead
        store.close()


def test_calls_that_several_processes_wrote_are_compared(store: odograph.Store) -> None:
    """Each counts its streams of messages from 1: two that are numbered alike are two."""
    added = Added(store, {"messages": [A, B], "cost": 1.0})
    start, step, call, *rest = added.records
    assert isinstance(call, LLMCall)
    more = replace(call, id="more", request={**call.request, "messages": [C, D]})
    added.records[:] = [start, step, call, more, *rest]
    with odograph.open(store.root) as other:
        other.add(added.records)
    assert added.again({"cost": 1}, {"cost": 1}) == 0


def test_records_that_replace_each_other_stop_nothing(store: odograph.Store) -> None:
    """Corrections that lead in a circle, which a damaged or a foreign store may have, are read to an end."""
    notes = [Note(trajectory="t", id="xyz"[n], time=2 + n, seq=2 + n, supersedes="zxy"[n], data=n) for n in range(3)]
    records = [Start(trajectory="t", id="s", time=1, seq=1, task="q"), *notes]
    store.add(records)
    store.add([records[0], replace(notes[0], supersedes=None, data=7)])
    assert store.trajectory("t").task == "q"


def test_a_circle_behind_the_first_record_stops_nothing() -> None:
    """Two records of one id, as no store of ours writes them, close a circle that the record which is looked for is not in."""
    x, other, y = (
        Note(trajectory="t", id=id, time=n, seq=n, supersedes=of, data=n) for n, (id, of) in enumerate(["xa", "xy", "yx"])
    )
    assert _last("a", {"a": x, "y": other, "x": y}) is y


def test_lists_of_two_histories_are_two_lists(store: odograph.Store) -> None:
    """Calls whose messages are beginnings of different lists that grow, as of two agents in one session: each is looked at."""
    lists = [[A], [A, B], [A, B, C]]
    added = Added(store, *({"messages": messages} for messages in lists))
    whole, other = [A, B, C], [D, B, C]
    for given in ([whole, whole, whole], [whole, other, whole], [whole, other, other]):
        prefixes = [Prefix(base, n + 1) for n, base in enumerate(given)]
        assert added.again(*({"request": {"messages": messages}} for messages in prefixes)) == (given[-2:] != [whole, whole])
        assert [call.request["messages"] for call in added.calls] == [base[: n + 1] for n, base in enumerate(given)]


def test_a_file_that_was_moved_says_nothing_new(store: odograph.Store) -> None:
    """A start that differs in the path of its source alone adds nothing; what differs otherwise is a correction, with the new path."""
    start = Start(trajectory="t", id="s", time=1, seq=1, task="q", metadata={"source": {"path": "a", "format": "x"}})
    store.add([start])
    for source, there in (
        ({"path": "b", "format": "x"}, {"path": "a", "format": "x"}),
        ({"path": "b", "format": "y"}, {"path": "b", "format": "y"}),
        ({"format": "y"}, {"format": "y"}),
        ({"path": "c", "format": "y"}, {"path": "c", "format": "y"}),
        ("text", "text"),
        ({"path": "d"}, {"path": "d"}),
    ):
        store.add([replace(start, metadata={"source": source})])
        assert store.trajectory("t").metadata["source"] == there


def test_other_tools_of_one_call_are_a_correction(store: odograph.Store) -> None:
    """Calls that were given the same tools, of which one says others now."""
    added = Added(store, *({"request": {"model": "m", "messages": [A], "tools": [TOOL, OTHER]}} for _ in range(3)))
    assert added.again({}, {"request": {"tools": [OTHER, TOOL]}}, {}) == 1
    assert [call.request["tools"][0] for call in added.calls] == [TOOL, OTHER, TOOL]


@pytest.mark.parametrize("place", [0, 1, 250, 499])
def test_another_id_of_a_prompt_is_a_correction(store: odograph.Store, place: int) -> None:
    """Wherever it stands, in a list, or in the beginning of one that grows and whose last beginning was the same."""
    changed = [7777 if n == place else n for n in IDS]
    long, grown = [*IDS, *IDS], [*changed, *IDS]
    added = Added(store, {"prompt_token_ids": IDS}, {"prompt_token_ids": long})
    for first, second, base, written in (
        *((IDS, long, base, 0) for base in (None, long)),
        *((changed, long, base, n) for base, n in ((None, 1), (None, 0))),
        *((changed, grown, base, n) for base, n in ((grown, 1), (grown, 0), (None, 0))),
        *((IDS, grown, base, n) for base, n in ((None, 1), (None, 0))),
        *((IDS, long, base, n) for base, n in ((long, 1), (long, 0))),
    ):
        given = (first, second) if base is None else (Prefix(base, 500), Prefix(base, 1000))
        assert added.again(*({"prompt_token_ids": ids} for ids in given)) == written
        assert [call.prompt_token_ids for call in added.calls] == [first, second]


def test_ids_of_another_list_are_looked_at(store: odograph.Store) -> None:
    """A prompt that is the beginning of another list than the one before, and differs where that one was the same."""
    added = Added(store, {"prompt_token_ids": IDS}, {"prompt_token_ids": [*IDS, *IDS]})
    changed = [7777, *IDS[1:], *IDS]
    prompts = [Prefix([*IDS, *IDS], 500), Prefix(changed, 1000)]
    assert added.again(*({"prompt_token_ids": ids} for ids in prompts)) == 1
    assert [call.prompt_token_ids for call in added.calls] == [IDS, changed]


def test_ids_that_are_fewer_than_before_are_looked_at(store: odograph.Store) -> None:
    """A prompt that is the beginning of the one before it, and one that says it is not."""
    added = Added(store, {"prompt_token_ids": IDS}, {"prompt_token_ids": IDS[:300]})
    for length, written in ((300, 0), (500, 1), (500, 0), (300, 1)):
        prompts = [Prefix(IDS, 500), Prefix(IDS, length)]
        assert added.again(*({"prompt_token_ids": ids} for ids in prompts)) == written
        assert [call.prompt_token_ids for call in added.calls] == [IDS, IDS[:length]]


def test_a_record_that_was_damaged_is_added_again(store: odograph.Store) -> None:
    """Where a line was damaged after it was listed, adding the trajectory again writes that record anew, and no other."""
    with store.record(task="t") as run:
        run.note("x")
    records = list(store.trajectory(run.id).complete_records())
    store.close()
    for record in records:
        assert len(store.trajectory(run.id).records) == 3
        for file in (store.root / "journal").iterdir():
            data = file.read_bytes()
            at = data.find(f'"id":"{record.id}"'.encode())
            if at >= 0:
                begin = data.rindex(b"\n", 0, at) + 1
                file.write_bytes(data[:begin] + b"{" * (data.index(b"\n", at) - begin) + data[data.index(b"\n", at) :])
        assert len(store.trajectory(run.id).records) == 2
        store.add(records)
        assert {r.id for r in store.trajectory(run.id).records} == {r.id for r in records}
        store.close()


def test_a_message_that_was_damaged_is_added_again(store: odograph.Store) -> None:
    """The call that was sent the message is corrected."""
    added = Added(store, {"messages": [A]}, {"messages": [B]})
    (path,) = (store.root / "journal").iterdir()
    path.write_bytes(path.read_bytes().replace(b"a" * 300, b"\xc3" * 300))  # which is no UTF-8
    assert added.again({}, {}) == 1
    assert [call.request["messages"] for call in added.calls] == [[A], [B]]


def test_what_is_written_otherwise_says_the_same(store: odograph.Store) -> None:
    """Fields in another order, also beside a number that no 64 bits hold, and whole numbers where the store has fractions."""
    big = {"role": "user", "content": "x" * 300, "n": 2**70}
    other = dict(reversed(big.items()))
    added = Added(
        store,
        {"messages": [A], "cost": 3.0},
        {"messages": [A, big], "prompt_token_ids": IDS, "cost": 1.0},
        {"messages": [A, big, B], "prompt_token_ids": [*IDS, *IDS], "cost": 2.0},
    )
    assert added.again({}, {"request": {"messages": [A, other]}}, {"request": {"messages": [A, other, B]}}) == 0
    assert added.again({"cost": 3}, {"cost": 1}, {"cost": 2}) == 0
    for written in (1, 0):
        again = added.again({"cost": 3}, {"cost": 1}, {"cost": 2, "request": {"messages": [A, {**big, "n": 2**70 + 1}, B]}})
        assert again == written
    start = Start(trajectory="t", id="s", time=1, seq=1)
    reward = Reward(trajectory="t", id="r", time=2, seq=2, name="r", value=1, weight=2)
    corrected = replace(reward, id="r2", time=3, seq=3, value=3, supersedes="r")
    label = Label(trajectory="t", id="l", time=4, seq=4, technique="l", value=1, score=1)
    note = Note(trajectory="t", id="n", time=5, seq=5, data=Path("what no JSON is"))
    for _ in range(2):
        store.add([start, reward, corrected, label, note])
        assert len([*store.trajectory("t").complete_records()]) == 5


def test_what_is_withdrawn_gives_way_to_a_note(store: odograph.Store) -> None:
    """One note under the start in the place of a record, and of its corrections, that is no part of the trajectory any more."""
    with store.record(task="t") as run:
        run.note("a")
        run.note("b")
    start, first, second, end = store.trajectory(run.id).complete_records()
    store.add([start, first, replace(second, data="c"), end])
    gone = frozenset([first.id, second.id, "unknown", start.id])
    corrected = store.trajectory(run.id).notes[-1].id
    for supersedes in ({first.id, corrected}, set()):
        store.backend.reader.look()
        notes, _ = store.backend.reader.look_at(run.id, lambda lines: changes(lines, [start], gone))
        assert {note.supersedes for note in notes} == supersedes
        assert all((note.name, note.parent, note.trajectory) == ("withdrawn", start.id, run.id) for note in notes)
        add(store.backend.sink, store.backend.reader, [start], gone)
    assert [note.name for note in store.trajectory(run.id).notes] == ["withdrawn"] * 2
    for _ in range(2):
        add(store.backend.sink, store.backend.reader, [end], frozenset([start.id]))
        assert store.trajectory(run.id).task is None
        store.add([start, end])
        assert store.trajectory(run.id).task == "t"


@pytest.mark.parametrize("cost", [None, 1], ids=["same", "written otherwise"])
def test_what_each_call_sends_again_is_looked_at_once(store: odograph.Store, cost: int | None) -> None:
    """Adding 20 calls again of a history that grows, with the same tools, hashes each message and the tools once."""
    history: list[dict[str, Any]] = []
    tools = [TOOL, OTHER]
    with store.record(task="t") as run, run.step() as step:
        for n in range(20):
            history += [{"role": role, "content": f"{n} " * 100} for role in ("user", "assistant")]
            request = {"model": "m", "messages": list(history), "tools": tools}
            ids = {"prompt_token_ids": list(range(50 * n + 50)), "token_ids": list(range(60))}
            step.llm_call(request=request, response="r", cost=cost and float(cost), **ids)
    records = [replace(r, cost=cost) if isinstance(r, LLMCall) else r for r in store.trajectory(run.id).complete_records()]
    before = store.health()["written"]
    hashed = 0

    def called(frame: Any, event: str, argument: object) -> None:
        nonlocal hashed
        hashed += event == "call" and frame.f_code is _hash.__code__

    sys.setprofile(called)
    try:
        store.add(records)
    finally:
        sys.setprofile(None)
    assert store.health()["written"] == before
    assert hashed <= 90 + (cost is not None) * 130
