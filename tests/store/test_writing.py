"""One way in: what is added late or again costs what is new, and order does not hang on a clock."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.types import Action, AnyRecord, LLMCall, Start


def conversation(calls: int) -> dict[str, Any]:
    """A trajectory in which every call sends the whole history again: the same message objects, as importers hand them over."""
    history: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    for n in range(calls):
        history = [*history, {"role": "user", "content": f"message {n}"}]
        answer = {"choices": [{"message": {"role": "assistant", "content": f"answer {n}"}}]}
        steps.append({"llm_calls": [{"model": "m", "request": {"model": "m", "messages": history}, "response": answer}]})
    return {"task": "a long one", "agent": "a", "steps": steps}


def python_calls(work: Callable[[], object]) -> int:
    """How many functions are entered: what a piece of work costs, whatever else the machine does."""
    count = 0

    def entered(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(entered)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def lines(store: odograph.Store) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (store.root / "journal").glob("*.jsonl"))


def test_late_rewards_labels_and_notes_read_nothing_of_their_trajectory(store: odograph.Store) -> None:
    """A late reward costs the same for a trajectory of 4 calls and of 400."""
    short, long = store.add(conversation(4)), store.add(conversation(400))
    store.trajectory(short)  # all is in the catalog

    def late(id: str) -> None:
        run = store.append(id)
        run.reward(1.0, name="late")
        run.label("mood", "calm")
        run.note("seen")

    late(short)
    costs = [python_calls(lambda id=id: late(id)) for id in (short, long)]  # type: ignore[misc]
    assert costs[1] < costs[0] * 1.2
    t = store.trajectory(long)
    assert (t.reward, t.labels[0].value, t.notes[0].data) == (1.0, "calm", "seen")
    assert t.start is not None
    assert {r.parent for r in (*t.rewards, *t.labels, *t.notes)} == {t.start.id}


def test_a_trajectory_that_is_gone_on_with_counts_its_steps_on(store: odograph.Store) -> None:
    """Steps that are recorded after reopening take the next indexes, those of a sub-agent their own."""
    with store.record(task="t", agent="a") as run:
        with run.step() as step, step.sub_agent("helper").step():
            pass
        with run.step():
            pass
    again = store.append(run.id)
    with again.step("third"):
        pass
    with again.sub_agent("helper").step("second"):
        pass
    assert [(s.agent, s.index) for s in store.trajectory(run.id).steps] == [
        ("a", 0),
        ("helper", 0),
        ("a", 1),
        ("a", 2),
        ("helper", 1),
    ]
    assert again.recorder.opened == 5


@pytest.mark.parametrize("redact", [None, True])
def test_adding_again_adds_nothing_and_is_linear(redact: bool | None, tmp_path: Path) -> None:
    """Four times the calls cost four times as much to compare, although each call holds the whole history; with redaction, too."""
    costs = []
    with odograph.open(tmp_path / "s", redact=redact) as store:
        for calls in (50, 100, 400):  # the first makes what is made once
            id = store.add(conversation(calls))
            t = store.trajectory(id)
            before = lines(store)
            costs.append(python_calls(lambda t=t: store.add(t)))  # type: ignore[misc]
            assert store.add(t.to_dict()) == id
            assert lines(store) == before
    assert costs[2] < costs[1] * 4.8


def test_adding_again_costs_about_as_much_as_reading(store: odograph.Store) -> None:
    """What is there already is looked at, not hashed: to read, and to look, is at most four times as much as to read."""
    id = store.add(conversation(200))
    t = store.trajectory(id)
    store.add(t)
    reading = python_calls(lambda: store.trajectory(id))
    assert python_calls(lambda: store.add(t)) < 4 * reading


@pytest.mark.parametrize(
    ("before", "after"), [(None, float("nan")), (1, True), (0, False), (1, 1.0), ("YWJj", b"abc"), ("1", 1), ([1, 2], [2, 1])]
)
@pytest.mark.parametrize("where", ["result", "message", "tools"])
def test_what_only_looks_alike_is_a_correction(store: odograph.Store, where: str, before: Any, after: Any) -> None:
    """A value that Python, or an encoder, takes for the one before is another one: each record that has it is corrected, once."""

    def made(value: Any) -> list[AnyRecord]:
        values: dict[str, Any] = {name: value if name == where else "same" for name in ("result", "message", "tools")}
        tools = [{"name": "look", "description": "x" * 300, "odd": values["tools"]}]
        call: dict[str, Any] = {"model": "m", "tools": tools, "messages": [{"role": "user", "odd": values["message"]}]}
        about: dict[str, Any] = {"trajectory": "t", "step": 0}
        return [
            Start(id="s", trajectory="t", task="t"),
            LLMCall(id="c1", request=call, **about),
            LLMCall(id="c2", request={**call, "messages": [*call["messages"], {"role": "user"}]}, **about),
            Action(id="a", name="look", result=values["result"], **about),
        ]

    store.add(made(before))
    store.add(made(before))
    assert len(store.trajectory("t").records) == 4
    for _ in range(2):
        store.add(made(after))
        assert len(store.trajectory("t").records) == 4 + (1 if where == "result" else 2)


def test_a_changed_message_deep_inside_is_a_correction(store: odograph.Store) -> None:
    """One changed message is found in each call that sent it, and in no other; adding that again adds nothing."""
    id = store.add(conversation(6))
    changed = store.trajectory(id).to_dict()
    for step in changed["steps"][3:]:
        step["llm_calls"][0]["request"]["messages"] = [
            {"role": "user", "content": "other"} if n == 3 else m
            for n, m in enumerate(step["llm_calls"][0]["request"]["messages"])
        ]
    before = len(store.trajectory(id).records)
    assert store.add(changed) == id
    t = store.trajectory(id)
    assert len(t.records) == before + 3
    assert [c.messages[3]["content"] for c in t.llm_calls[3:]] == ["other"] * 3
    store.add(changed)
    assert len(store.trajectory(id).records) == before + 3


def test_a_correction_of_a_correction_added_again_adds_nothing(store: odograph.Store) -> None:
    """Whether the last version is added again, or all versions as `to_dict` gives them: nothing is written."""
    id = store.add({"task": "t", "steps": [{"actions": [{"name": "look", "result": 1}]}]})
    for result in (2, 3):
        whole = store.trajectory(id).to_dict()
        whole.pop("superseded", None)
        action = whole["steps"][0]["actions"][0]
        first = next(r for r in store.trajectory(id).records if type(r).__name__ == "Action")
        whole["steps"][0]["actions"][0] = {**action, "id": first.id, "result": result, "supersedes": None}
        store.add(whole)
        assert store.trajectory(id).actions[0].result == result
        before = lines(store)
        store.add(whole)
        assert lines(store) == before
    before = lines(store)
    store.add(store.trajectory(id).to_dict())
    store.add(store.trajectory(id))
    assert lines(store) == before
    assert len([r for r in store.trajectory(id).records if type(r).__name__ == "Action"]) == 3


def test_a_trajectory_of_some_megabytes_is_added_whole(store: odograph.Store) -> None:
    """Records that take more than one write are all there, in their order."""
    seen = [str(n) * 400_000 for n in range(8)]
    id = store.add({"task": "t", "steps": [{"observation": one} for one in seen]})
    assert [step.observation for step in store.trajectory(id).steps] == seen


def test_a_host_whose_clock_is_behind_changes_no_reward_and_no_start(store: odograph.Store) -> None:
    """What is appended comes after what was there, whatever the clock of the host that appends it says."""
    with store.record(task="t") as run:
        run.reward(0.0, name="final", source="function", author="grader")
    with store.record(task="later"):
        pass
    began = [s.id for s in store.summaries()]
    code = f"""
        import time
        real = time.time_ns
        time.time_ns = lambda: real() - 3600 * 10**9
        import odograph
        with odograph.open({str(store.root)!r}) as store:
            late = store.append({run.id!r})
            for value in (0.5, 1.0):
                late.reward(value, name="final", source="function", author="grader")
    """
    last = store.trajectory(run.id).records[-1].time
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    t = store.trajectory(run.id)
    assert last < t.rewards[-2].time < t.rewards[-1].time
    assert t.reward == next(store.summaries(ids=[run.id])).reward == 1.0
    assert t.records[0] is t.start
    assert [s.id for s in store.summaries()] == began


def test_what_a_step_saw_is_written_at_once(store: odograph.Store) -> None:
    """A process that is killed in the next moment has recorded the observation; only a beginning that says no more may wait."""
    with store.record(task="t") as run, run.step(observation="seen"):
        (path,) = (store.root / "journal").iterdir()
        assert b'"seen"' in path.read_bytes()


def test_what_is_written_is_its_owners_alone_unless_shared(tmp_path: Path) -> None:
    """Folders are 0700 and files 0600, whatever the umask; a store that is made shared follows the umask."""

    def modes(name: str, **how: Any) -> set[str]:
        with odograph.open(tmp_path / name, **how) as store:
            with store.record(task="t") as run:
                run.reward(1.0)
            store.score(odograph.reward_function("f", lambda t: 1.0))
            list(store.search("t"))
            paths = [store.root, *store.root.rglob("*")]
            return {f"{'d' if p.is_dir() else 'f'}{p.stat().st_mode & 0o777:o}" for p in paths}

    assert modes("mine") == {"d700", "f600"}
    assert modes("redacted", redact=True) == {"d700", "f600"}
    assert modes("ours", shared=True) == {"d755", "f644"}
    odograph.open(tmp_path / "ours")
    try:
        odograph.open(tmp_path / "mine", shared=True)
    except odograph.InvalidInput as error:
        assert "private to its owner" in str(error)
    else:
        raise AssertionError("a private store was taken for a shared one")


def test_adding_a_trajectory_of_a_store_again_copies_no_history(store: odograph.Store) -> None:
    """A trajectory that another store gave is compared, and exported, without a list of messages per call."""
    t = store.trajectory(store.add(conversation(50)))
    calls = [r for r in t.complete_records(growing=True) if isinstance(r, odograph.types.LLMCall)]
    assert len({id(c.request["messages"].base) for c in calls}) == 1
    assert [c.request["messages"] for c in calls] == [c.request["messages"] for c in t.llm_calls]
    costs = []
    for calls_made in (100, 400):
        t = store.trajectory(store.add(conversation(calls_made)))
        costs.append(python_calls(lambda t=t: store.add(t)))  # type: ignore[misc]
    assert costs[1] < 4.4 * costs[0]


@pytest.mark.parametrize(
    ("last", "seen"),
    [
        ("run.finish()", ("completed", [])),
        ("run.step({'seen': 1}).__enter__()", ("unterminated", [{"seen": 1}])),
        ("run.step().__enter__()", ("unterminated", [])),
        ("run.step().__enter__().note('n')", ("unterminated", [None])),
    ],
)
def test_what_is_written_last_stays_where_it_says_something(tmp_path: Path, last: str, seen: Any) -> None:
    """Of a process that is killed at once: only the beginning of a step that has nothing in it yet waits for what comes next."""
    program = f"import os, sys, odograph; run = odograph.open(sys.argv[1]).record(task='t'); {last}; os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "s")], check=False).returncode == -9
    (t,) = odograph.open(tmp_path / "s").trajectories()
    assert (t.status, [step.observation for step in t.steps]) == seen
