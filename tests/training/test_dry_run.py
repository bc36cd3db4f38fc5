"""`store.dry_run` and `odograph train --dry-run`: which groups would train, and why the others would not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import odograph
from odograph.errors import InvalidInput, NotFound


def record(store: odograph.Store, group: str | None, reward: float | None, **more: Any) -> str:
    """One call with ids, logprobs and messages, unless `more` says otherwise."""
    call: dict[str, Any] = {"prompt_token_ids": [1, 2], "token_ids": [3, 4], "logprobs": [-0.1, -0.2], **more}
    with store.record(task="t", agent="a", model="m", group=group) as run:
        with run.step() as step:
            step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a", **call)
        if reward is not None:
            run.reward(reward, name="env")
    return run.id


@pytest.fixture
def filled(store: odograph.Store) -> odograph.Store:
    """A group that trains, and one for each reason not to."""
    record(store, "good", 1.0)
    record(store, "good", 0.0)
    record(store, "good", None)
    record(store, "alone", 1.0)
    record(store, "unrewarded", None)
    record(store, "unrewarded", None)
    for _ in range(2):
        record(store, "same", 0.5)
    record(store, "text", 1.0, token_ids=None, logprobs=None, prompt_token_ids=None)
    record(store, "text", 0.0, token_ids=None, logprobs=None, prompt_token_ids=None)
    record(store, "no logprobs", 1.0, logprobs=None)
    record(store, "no logprobs", 0.0, logprobs=None)
    record(store, None, 1.0)
    return store


def test_each_group_trains_or_has_its_reason(filled: odograph.Store) -> None:
    """No reward, a group of one, no variance, no token ids, no logprobs, no group: each is said, per group and member."""
    plans = {p.group: p for p in filled.dry_run("art")}
    assert {name: p.trains for name, p in plans.items() if p.trains} == {"good": True}
    assert {name: p.why for name, p in plans.items() if not p.trains} == {
        "alone": "a group of one: there is nothing to compare it with",
        "unrewarded": "no reward",
        "same": "no variance: all 2 rewards are 0.5",
        "text": "no call with token ids",
        "no logprobs": "a trained token without a logprob",
        None: "in no group: there is nothing to compare it with",
    }
    good = plans["good"]
    assert (good.tokens, good.rows, good.reward_mean, good.reward_std) == (4, 1, 0.5, pytest.approx(0.7071, abs=1e-4))
    assert [(m.reward, m.tokens, m.why) for m in good.members] == [(1.0, 2, None), (0.0, 2, None), (None, 0, "no reward")]


@pytest.mark.parametrize("to", ["trl-grpo", "trl-async-grpo", "verl", "slime", "tinker", "verifiers", "prime-rl"])
def test_other_trainers_are_asked_in_their_own_format(filled: odograph.Store, to: str) -> None:
    """The rows are those of the very exporter: the dry run counts as many for the groups that train as an export would write."""
    options = {} if to in ("trl-grpo", "verl", "slime") else {"advantage": "grpo"}
    plans = {p.group: p for p in filled.dry_run(to, options=options)}
    assert plans["good"].trains
    assert plans["good"].tokens == (6 if to in ("verl", "slime") else 4)  # these take a row whose reward is not known
    assert plans["alone"].why == "a group of one: there is nothing to compare it with"
    assert plans["same"].why == "no variance: all 2 rewards are 0.5"
    assert plans["text"].why == "no call with token ids"


def test_sft_needs_no_group(filled: odograph.Store) -> None:
    """Where no advantage is taken, every trajectory with tokens trains; filters choose; a group comes together."""
    plans = list(filled.dry_run("trl-sft", group="alone"))
    assert [(p.group, p.trains) for p in plans] == [("alone", True)]
    record(filled, "alone", 0.0)
    assert [(p.group, len(p.members)) for p in filled.dry_run("art", group="alone")] == [("alone", 2)]


def test_what_it_counts_is_what_an_export_writes(filled: odograph.Store, tmp_path: Any) -> None:
    """The tokens of all members that are ready are the export's `trained`."""
    manifest = filled.export(tmp_path / "o", "art")
    plans = list(filled.dry_run("art"))
    assert sum(m.tokens for p in plans for m in p.members) == manifest["samples"]["trained"]
    assert sum(p.rows for p in plans) == manifest["rows"]


def test_a_mistake_is_one_sentence(filled: odograph.Store) -> None:
    """A format without tokens, one that is not there, an option that is none."""
    with pytest.raises(InvalidInput, match="hf is no format that is trained by tokens"):
        filled.dry_run("hf")
    with pytest.raises(NotFound, match="no exporter named 'xyz'"):
        filled.dry_run("xyz")
    with pytest.raises(InvalidInput, match="art has no option 'colour'"):
        filled.dry_run("art", options={"colour": 1})


def test_the_command_says_it_for_people_and_scripts(filled: odograph.Store) -> None:
    """A table with a line a group and a sum; `--json`; without `--dry-run` where to go, and exit status 2."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "odograph", "--store", str(filled.root), "train", *args]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    table = run("--dry-run")
    assert table.returncode == 0, table.stderr
    rows = table.stdout.splitlines()
    assert rows[1].split()[:4] == ["good", "yes", "3", "2"]
    assert rows[1].endswith("without 1 x no reward")
    assert rows[-1] == "1 of 7 groups would train with art: 4 tokens"
    found = json.loads(run("--dry-run", "--to", "art", "--json").stdout)
    assert (found["groups"], found["trains"], found["trajectories"], found["tokens"]) == (7, 1, 2, 4)
    assert found["plans"] == [p.to_dict() for p in filled.dry_run("art")]
    wrong = run()
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "--dry-run" in wrong.stderr


def test_a_policy_that_the_format_refuses_trains_in_neither(store: odograph.Store, tmp_path: Any) -> None:
    """A function may choose a policy for edits that a trainer has no place for: the plan says so, as the export does."""
    for reward in (0.0, 1.0):
        with store.record(task="t", agent="a", model="m", group="g") as run:
            for prompt in ([1, 2], [1, 9, 3, 4, 5]):
                with run.step() as step:
                    call: dict[str, Any] = {"token_ids": [3, 4], "logprobs": [-0.1, -0.2], "prompt_token_ids": prompt}
                    step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a", **call)
            run.reward(reward)
    options: dict[str, Any] = {"edits": lambda node: "mask"}
    made = store.export(tmp_path / "out", "art", options=options)
    (plan,) = store.dry_run("art", options=options)
    assert (made["rows"], made["samples"]["trained"]) == (plan.rows, plan.tokens) == (0, 0)
    assert plan.why == "edits='mask': ART trains whole choices"
