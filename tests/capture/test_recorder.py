"""What the recorder of a trajectory counts and tells beside the records: tokens that were spent, steps, faults."""

from __future__ import annotations

import gc
import shutil
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest

import odograph
from odograph.capture import scope
from odograph.store import counting
from tests.capture.test_wrap_calls import CHAT
from tests.http_server import JSON, serving
from tests.programs import ran


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


CLOSED = """
import pathlib, sys, threading, odograph

class Hostile(dict):
    def items(self):
        raise ValueError("can't be read")

def work():
    odograph.log_llm_call(model="m", user_prompt="q", response="a")
    lost.append("a call")

lost = []
store = odograph.open(sys.argv[1], redact=True)
sys.stderr.close()
with store.record(task="t") as run:
    run.record_call({"request": Hostile(messages=[]), "response": "r"})
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    next(pathlib.Path(sys.argv[1], "journal").glob("*.jsonl")).unlink()
    run.note("n")
    @odograph.edit
    def edited(text): yield text
health = store.health()
print("went on", lost, health["faults"], health["outside"], health["files_lost"])
"""


def test_a_warning_that_can_not_be_written_is_not_the_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a program has closed its stderr, as a daemon does, it goes on, and `health` tells what was to be warned of."""
    monkeypatch.chdir(tmp_path)
    done = ran(CLOSED, str(tmp_path / "s"))
    assert done.stdout == "went on ['a call'] 1 1 1\n", done


def test_a_run_while_another_thread_imports_greenlet(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands under that name may have nothing yet, or be a module of the program's own."""
    monkeypatch.setitem(sys.modules, "greenlet", ModuleType("greenlet"))
    with store.record(task="t") as run:
        run.note("n")
    assert len(store.trajectory(run.id).notes) == 1


def test_a_thread_of_a_strangers_is_asked_for_its_name_alone(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that lost its run is recorded, whatever the target of its thread does when it is asked where it is from."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    monkeypatch.setattr(scope, "outside", None)  # the default store

    class Work:
        @property
        def __module__(self) -> str:  # type: ignore[override]
            raise RuntimeError("no module")

        def __call__(self) -> None:
            done.append(odograph.log_llm_call(model="m", user_prompt="q", response="a"))

    done: list[Any] = []
    before = store.health()["faults"]
    with store.record(task="t"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thread = threading.Thread(target=Work())
        thread.start()
        thread.join()
    assert (len(done), store.health()["faults"] - before) == (1, 1)
