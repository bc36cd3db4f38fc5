"""What the recorder of a trajectory counts and tells beside the records: tokens that were spent, steps, faults."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import openai
import pytest

import odograph
from odograph.store import counting
from tests.capture.test_wrap_calls import CHAT
from tests.http_server import JSON, serving


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


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_run_that_is_over_holds_no_history(store: odograph.Store, wrapped: bool) -> None:
    """Responses may keep the run for long: what was sent in it is let go when it ends, and a late call writes what it sends."""
    with serving(lambda *_: (200, JSON, CHAT)) as url:
        client = odograph.wrap(openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0))

        def ask(run: odograph.Run, messages: Any) -> None:
            if wrapped:
                client.chat.completions.create(model="m", messages=messages)
            else:
                run.llm_call(model="m", messages=messages, response="a")

        def work(n: int) -> odograph.Run:
            with store.record(task="t") as run:
                history = [{"role": "user", "content": f"{n:02}" * 50_000}]
                ask(run, history)
                ask(run, [*history, {"role": "user", "content": "more"}])
            return run

        work(0)
        tracemalloc.start()
        try:
            runs = [work(n) for n in range(5)]
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert held < 5 * 100_000 / 2
        with store.append(runs[0].id) as late:
            ask(late, [{"role": "user", "content": "00" * 50_000}])
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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_steps_of_a_late_run_are_read_once(tmp_path: Path) -> None:
    """Whoever asks how many steps there are, at each step, reads no trajectory each time."""
    with odograph.open(tmp_path / "s") as store:
        with store.record(task="t") as run:
            run.step()
            run.sub_agent("helper").step()
        with store.append(run.id) as late:
            assert late.recorder.opened == 2
            late.step()
            shutil.rmtree(tmp_path / "s")
            assert late.recorder.opened == 3


def test_who_listens_is_told_of_each_record_as_it_is_written(store: odograph.Store) -> None:
    """Kind, fields, agent, step, id and lines: those that the journal has."""
    told: list[tuple[Any, ...]] = []
    with store.record(task="t") as run:
        run.recorder.tap = []
        run.recorder.listener = lambda *record: told.append(record)
        with run.sub_agent("helper").step("seen") as step:
            id = step.note("n")
    (begun, noted, ended), t = told, store.trajectory(run.id)
    assert begun[:5] == ("step", {"observation": "seen"}, "helper", 0, t.steps[0].id)
    assert (noted[:5], ended[0]) == (("note", {"data": "n"}, "helper", 0, id), "end")
    assert [lines for *_, lines in told] == run.recorder.tap
    assert all(lines in next(store.root.glob("journal/*.jsonl")).read_bytes() for *_, lines in told)


def test_a_count_that_can_not_be_shared_is_a_fault_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's step has the index that this process knows, and the disk's fault is told of."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    with odograph.open(tmp_path) as store:
        with store.record(task="t") as run:
            run.step()
            Path(counting.file_of(run.recorder.journal, run.id)).mkdir()
            with pytest.warns(RuntimeWarning, match=f"^odograph could not write to {tmp_path}.*IsADirectoryError"):
                run.step()
            run.step()
        assert "IsADirectoryError" in (store.health()["last_fault"] or "")
    assert [step.index for step in store.trajectory(run.id).steps] == [0, 1, 2]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_who_asks_how_recording_fares_is_told_of_a_file_that_is_gone(tmp_path: Path) -> None:
    """No record has to be made first, and what was written since the last look is written again."""
    with odograph.open(tmp_path) as store:
        with store.record(task="t") as run:
            run.note("n")
            (file,) = (tmp_path / "journal").glob("*.jsonl")
            file.unlink()
            assert store.health()["files_lost"] == 1
        assert store.trajectory(run.id).notes
