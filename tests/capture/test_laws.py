"""Laws of recording that a small change could break unseen: names are redacted, faults withhold content, half calls leave no trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest

import odograph

SECRET = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0bC3dE6"


def test_an_agents_name_is_redacted(tmp_path: Any) -> None:
    """A secret in the name of an agent or sub-agent stands in no file, and the sub-agent's steps are still its own."""
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t", agent=f"boss {SECRET}") as run:
            with run.sub_agent(f"helper {SECRET}").step(observation="o") as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a")
        t = store.trajectory(run.id)
        assert t.agent == "boss [redacted:github_token]"
        assert [s.agent for s in t.steps] == ["helper [redacted:github_token]"]
        assert t.llm_calls[0].record.agent == "helper [redacted:github_token]"
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]


class Hostile(dict[str, Any]):
    """A request that fails when it is looked at, with its content in the error."""

    def items(self) -> Any:
        raise ValueError(f"can't show {SECRET}")


def test_a_fault_withholds_its_text_where_redaction_is_on(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """With `redact=`, a fault of recording names the kind of error alone: its text may hold what was to be taken out."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t") as run, run.step() as step:
            before = store.health()["faults"]
            step.record_call({"request": Hostile(messages=[]), "response": "r"})
            assert store.health()["faults"] == before + 1
            said = str(store.health()["last_fault"]) + "".join(str(w.message) for w in recwarn)
            assert "ValueError" in said
            assert SECRET not in said


FAULTY = """
    import sys, odograph

    class Hostile(dict):
        def items(self):
            raise ValueError("can't be read")

    with odograph.open(sys.argv[1], redact=True) as store, store.record(task="t") as run, run.step() as step:
        for _ in range(3):
            step.record_call({"request": Hostile(messages=[]), "response": "r"})
    print("went on,", store.health()["faults"], "faults")
"""


@pytest.mark.parametrize("filters", [[], ["-W", "error"]])
def test_a_fault_is_warned_of_once_and_never_raised(tmp_path: Any, filters: list[str]) -> None:
    """What can't be recorded is counted and warned of once; the agent goes on, also where the program makes warnings errors."""
    done = subprocess.run(
        [sys.executable, *filters, "-c", textwrap.dedent(FAULTY), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "ODOGRAPH_STRICT": "0"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "went on, 3 faults\n"), done.stderr
    assert done.stderr.count("odograph could not record something: RuntimeError: ValueError") == (0 if filters else 1)


class Interrupts:
    """Content at which somebody presses Ctrl-C."""

    def __repr__(self) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return "late"


def test_a_call_that_was_interrupted_leaves_no_message_behind(store: odograph.Store) -> None:
    """What an interrupted call was about to write is not taken for written: the next call that sends it is whole."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    history = [{"role": "user", "content": "first"}]
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", messages=history, response="a")
        history.append({"role": "user", "content": "second"})
        with pytest.raises(KeyboardInterrupt):
            step.llm_call(model="m", messages=history, response={"text": Interrupts()})
        history.append({"role": "user", "content": "third"})
        step.llm_call(model="m", messages=history, response="b")
    t = store.trajectory(run.id)
    assert [[m["content"] for m in c.messages] for c in t.llm_calls] == [["first"], ["first", "second", "third"]]
    assert not t.missing
