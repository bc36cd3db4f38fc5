"""`odograph lineage` as people see it: on a terminal, through a pipe, and of a very long trajectory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import odograph
from tests.terminal import rest_of

pty = pytest.importorskip("pty")


def on_a_terminal(*command: str, **env: str) -> str:
    master, slave = pty.openpty()
    run = [sys.executable, "-m", "odograph", *command]
    with subprocess.Popen(run, stdout=slave, stderr=slave, env={"TERM": "xterm", **os.environ, **env}) as process:
        os.close(slave)
        out = rest_of(master)
        os.close(master)
    assert process.returncode == 0, out
    return out.decode()


def through_a_pipe(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", "odograph", *command], capture_output=True)
    assert done.returncode == 0 and done.stderr == b""
    return done.stdout.decode()


def test_colour_is_for_terminals_that_want_it(tmp_path: Path) -> None:
    """Sources and standings have colours on a terminal: exact green, stale red, what an edit put in magenta; none with `NO_COLOR`
    or through a pipe, where the words are the same."""
    with odograph.open(tmp_path / "runs") as store:
        with store.record(task="t", agent="a\x1b[41m", model="m") as run:
            with run.step() as step:
                step.llm_call(model="m", prompt_token_ids=[1, 2], token_ids=[3, 4, 5], logprobs=[-0.1, -0.2, -0.3])
                step.edit(step.last_call).replace(1, 2, [7, 8])
            with run.step() as step:
                step.llm_call(model="m", prompt_token_ids=[1, 2, 3, 7, 8, 5, 9], token_ids=[6], logprobs=[-0.5])
    command = ("--store", str(tmp_path / "runs"), "lineage", run.id)
    shown = on_a_terminal(*command, NO_COLOR="")
    assert "\x1b[32msampled exact" in shown and "\x1b[31msampled stale" in shown and "\x1b[35minserted" in shown
    assert "\x1b[41m" not in shown
    plain = through_a_pipe(*command)
    assert "\x1b" not in plain and "sampled stale" in plain
    assert on_a_terminal(*command, NO_COLOR="1").replace("\r\n", "\n") == plain


def test_2000_calls(tmp_path: Path) -> None:
    """A trajectory of 2,000 calls has a line per call and a line per run of tokens, long runs shortened, at a cost that grows with its prompts."""

    def lines(calls: int) -> tuple[int, float]:
        """How many lines are shown, and the processor time that the program took."""
        with odograph.open(tmp_path / "runs") as store, store.record(task="t", agent="a", model="m") as run:
            context = list(range(100))
            for n in range(calls):
                with run.step() as step:
                    step.llm_call(model="m", prompt_token_ids=context, token_ids=[n] * 20, logprobs=[-0.5] * 20)
                context = [*context, *[n] * 20, n, n]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = through_a_pipe("--store", str(tmp_path / "runs"), "lineage", run.id).splitlines()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert max(map(len, shown)) < 250
        return len(shown), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    (few, short), (many, long) = lines(500), lines(2000)
    assert (few, many) == (3 + 500 + 1000, 3 + 2000 + 4000)
    assert long < 16 * short  # four times the calls, with prompts four times as long


def test_an_agent_that_there_is_not(tmp_path: Path) -> None:
    """It says which there are."""
    with odograph.open(tmp_path / "runs") as store, store.record(task="t", agent="a", model="m") as run, run.step() as step:
        step.llm_call(model="m", prompt_token_ids=[1], token_ids=[2])
    command = ("--store", str(tmp_path / "runs"), "lineage", run.id, "--agent")
    assert "no call of that agent; there are: a" in through_a_pipe(*command, "b")
    assert "a · m: 1 calls" in through_a_pipe(*command, "a")
