"""What the recorder of a trajectory counts and tells beside the records: tokens that were spent, steps, faults."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
from pathlib import Path

import pytest

import odograph


def test_the_tokens_that_a_run_spent_are_those_of_its_calls(store: odograph.Store) -> None:
    """A count that is not known is none; what is no call spends nothing."""
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", messages=[], response="a", usage={"prompt_tokens": 3, "completion_tokens": 4})
        step.llm_call(model="m", messages=[], response="a", usage={"completion_tokens": 5})
        step.llm_call(model="m", messages=[], response="a")
        step.action("n", {"prompt_tokens": 9})
    assert run.recorder.spent == 12


def test_a_run_of_one_process_shares_no_count_of_steps(tmp_path: Path) -> None:
    """The file that processes share is made where a second one takes part, and goes when the run ends."""
    with odograph.open(tmp_path) as store:
        with store.record(task="t") as run:
            run.step()
            run.step()
            assert (list(tmp_path.rglob("*.steps")), run.recorder.is_shared) == ([], False)
            with store.append(run.id) as late:
                late.step()
            assert (len(list(tmp_path.rglob("*.steps"))), run.recorder.is_shared) == (1, True)
            run.step()
        assert list(tmp_path.rglob("*.steps")) == []
    assert [step.index for step in store.trajectory(run.id).steps] == [0, 1, 2, 3]


def test_the_first_late_step_of_an_agent_is_its_first(store: odograph.Store) -> None:
    """Whoever goes on with a trajectory counts the steps of each agent alone, from 0."""
    with store.record(task="t", agent="boss") as run:
        run.sub_agent("helper").step()
    with store.append(run.id) as late:
        late.step()
        late.sub_agent("helper").step()
        late.sub_agent("third").step()
    assert [(s.agent, s.index) for s in store.trajectory(run.id).steps] == [
        ("helper", 0), ("boss", 0), ("helper", 1), ("third", 0),
    ]  # fmt: skip


def test_a_run_that_is_over_holds_no_history(store: odograph.Store) -> None:
    """Responses may keep the run for long: what was sent in it is let go when it ends, and a late call writes what it sends."""

    def work(n: int) -> odograph.Run:
        with store.record(task="t") as run:
            history = [{"role": "user", "content": f"{n:02}" * 50_000}]
            run.llm_call(model="m", messages=history, response="a")
            run.llm_call(model="m", messages=[*history, {"role": "user", "content": "more"}], response="a")
        return run

    work(0)
    tracemalloc.start()
    try:
        runs = [work(n) for n in range(20)]
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 20 * 100_000 / 4
    with store.append(runs[0].id) as late:
        late.llm_call(model="m", messages=[{"role": "user", "content": "00" * 50_000}], response="b")
    assert [len(c.messages[0]["content"]) for c in store.trajectory(runs[0].id).llm_calls] == [100_000] * 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_steps_go_on_where_the_store_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count that processes shared is gone with the store: this process goes on with its own, and the agent with its work."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    with odograph.open(tmp_path / "s") as store, store.record(task="t") as run:
        run.step()
        with store.append(run.id) as late:
            assert late.step().index == 1
        assert run.step().index == 2
        shutil.rmtree(tmp_path / "s")
        assert [run.step().index, run.step().index] == [3, 4]
