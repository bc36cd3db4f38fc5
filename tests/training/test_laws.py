"""Laws of training data that a small change could break unseen: caps, versions inside a call, an account that always balances."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.training.sample import expanded
from odograph.trajectory import Trajectory

from .made import made


def rewritten() -> Trajectory:
    """A call that sampled 2, 3 with logprobs of -1; an edit replaced the 2, so the 3 is stale; a second call sampled 4."""
    first = {"id": "c", "model": "m", "prompt_token_ids": [1], "tokens": [{"token_ids": [2, 3], "logprobs": [-1.0, -1.0]}]}
    edit = {"base": "c", "result": [{"run": "literal", "ids": [9]}, {"run": "kept", "start": 1, "stop": 2}]}
    second = {"model": "m", "prompt_token_ids": [1, 9, 3], "tokens": [{"token_ids": [4], "logprobs": [-1.0]}]}
    return made(group="g", steps=[{"llm_calls": [first], "edits": [edit]}, {"llm_calls": [second]}])


@pytest.mark.parametrize(
    ("options", "score", "weight"),
    [
        ({}, 7.7, 2.0),
        ({"cap": 10.0}, 0.0, math.e),
        ({"cap": 10.0}, 7.7, 10.0),
        ({"cap": 0.5}, -1.0, 0.5),
        ({}, -3.0, math.exp(-2)),
    ],
)
def test_an_importance_weight_is_at_most_the_cap(options: dict[str, float], score: float, weight: float) -> None:
    """A stale token weighs exp(its logprob now - its logprob then), and never more than `cap=` (2 where none is given); others 1."""
    (row,) = odograph.samples([rewritten()], edits="reweight", scorer=lambda ids: [score] * len(ids), **options)
    assert (row.token_ids, row.mask) == ([1, 9, 3, 4], [0, 0, 1, 1])
    assert expanded(row.weights) == pytest.approx([1.0, 1.0, weight, 1.0])


def test_policy_versions_inside_a_call(store: odograph.Store) -> None:
    """Where weights changed while a call was answered, each token has the version that sampled it, also in an answer that was cut."""
    with store.record(task="t", agent="a", model="m", policy_version=1) as run, run.step() as step:
        call = step.llm_call(
            model="m",
            prompt_token_ids=[1],
            token_ids=[10, 11, 12, 13],
            logprobs=[-1.0] * 4,
            policy_versions=[(1, 2), (3, 3)],
        )
        step.edit(call).delete(0, 2)
        step.llm_call(model="m", prompt_token_ids=[1, 12, 13], token_ids=[14], logprobs=[-1.0], policy_version=4)
    t = store.trajectory(run.id)
    first, second = odograph.samples([t])
    assert (first.token_ids, expanded(first.versions)) == ([1, 10, 11, 12, 13], [None, 1, 2, 2, 3])
    assert (second.token_ids, expanded(second.versions)[-1]) == ([1, 12, 13, 14], 4)
    (cut,) = odograph.samples([t], edits="mask")
    assert (cut.token_ids, expanded(cut.versions)) == ([1, 12, 13, 14], [None, 2, 3, 4])


FAILS = '''
"""Rows of which one can't be made."""

NAME, FILES, PLAN = "fails", ("jsonl",), {}


def row(sample):
    if sample.token_ids[-1] == 13:
        raise KeyError("this row")
    return {"ids": sample.token_ids}
'''


def test_an_account_balances_after_an_error(store: odograph.Store, tmp_path: Path) -> None:
    """A trajectory of which a row can't be written gives none: all its sampled tokens are counted as dropped, with the reason."""
    (tmp_path / "fails.py").write_text(FAILS)
    for last in (13, 14, 13):
        with store.record(task=last, agent="a", model="m") as run:
            for n in range(2):  # the second prompt is no continuation: two rows, of which the first is given before the error
                run.step().llm_call(model="m", prompt_token_ids=[n], token_ids=[10, 11 if n == 0 else last], response="x")
    manifest = store.export(tmp_path / "out", str(tmp_path / "fails.py"))
    assert manifest["trajectories"] == {"in": 3, "out": 1}
    account = manifest["samples"]
    assert (account["sampled"], account["trained"], account["dropped"]) == (12, 4, {"an error": 8})
    assert account["balanced"]


def asked_twice(reward: bool) -> Trajectory:
    """A question that was asked again as nothing came of the first answer, which may be rewarded all the same."""
    calls = [
        {"id": f"c{n}", "model": "m", "prompt_token_ids": [1, 2], "tokens": [{"token_ids": ids, "logprobs": [-1.0] * len(ids)}]}
        for n, ids in enumerate(([10, 11, 12], [20]))
    ]
    rewards = [{"value": 0.25, "target": "c0", "span": {"start": 0, "stop": 3}}] if reward else []
    steps: list[dict[str, Any]] = [
        {"llm_calls": [calls[0]]},
        {"llm_calls": [calls[1]], "actions": [{"name": "x", "llm_call": "c1"}]},
    ]
    return made(steps=steps, rewards=rewards)


def test_a_discarded_attempt_is_dropped_with_its_reason() -> None:
    """An answer that was thrown away is no row, and the account says how many tokens it had and why they are not trained."""
    found = odograph.samples([asked_twice(False)])
    assert [row.token_ids for row in found] == [[1, 2, 20]]
    assert found.report.dropped == {"a discarded attempt": 3}
    assert found.report.balanced


def test_a_discarded_attempt_with_a_reward_is_a_row() -> None:
    """An answer that was thrown away and has a reward of its own is trained in a row of its own, with that reward."""
    found = odograph.samples([asked_twice(True)])
    assert [(row.token_ids, row.reward) for row in found] == [([1, 2, 20], None), ([1, 2, 10, 11, 12], 0.25)]
    assert found.report.dropped == {}
    assert found.report.balanced


REFUSED = """
    import errno, os, pathlib, sys
    import odograph

    store, out = odograph.open(sys.argv[1]), pathlib.Path(sys.argv[2])
    moved = []

    def watch(event, given):
        # the system refuses the last move: the new export to its place, where an older one stood
        if event == "os.rename" and os.fspath(given[1]) == os.fspath(out):
            moved.append(given)
            if len(moved) == 1:
                raise OSError(errno.EIO, "Input/output error")

    sys.addaudithook(watch)
    try:
        store.export(out, "jsonl")
    except odograph.StoreError as error:
        print(error)
"""


def test_an_export_that_can_not_be_moved_leaves_the_old_one(store: odograph.Store, tmp_path: Path) -> None:
    """Where the finished folder can't take its place, the earlier export stands there as before, and nothing is left beside it."""
    with store.record(task="first"):
        pass
    out = tmp_path / "exports" / "out"
    store.export(out, "jsonl")
    before = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with store.record(task="second"):
        pass
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REFUSED), str(store.root), str(out)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "can't be written: Input/output error" in done.stdout
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_what_an_edit_cut_is_not_demonstrated() -> None:
    """With `deleted=False` the tokens that an edit took out are not trained, those that it kept are, and the account says which."""
    found = odograph.samples([rewritten()], edits="env", deleted=False)
    first, second = found
    assert (first.token_ids, first.mask) == ([1, 2, 3], [0, 0, 1])
    assert (second.token_ids, second.mask) == ([1, 9, 3, 4], [0, 0, 0, 1])
    assert found.report.balanced and found.report.trained == 2


def test_the_parts_of_a_row_are_what_it_trains() -> None:
    """Each trained token is in one part of its row, a token that an edit wrote too; the report counts what no model sampled."""
    for edits in ("env", "mask", "imitate"):
        found = odograph.samples([rewritten()], edits=edits)
        for row in found:
            inside = [n for part in row.parts for n in range(part.start, part.stop)]
            assert sorted(inside) == [n for n, trained in enumerate(row.mask) if trained], edits
        assert found.report.authored == (edits == "imitate")


def test_a_row_of_two_temperatures_says_both() -> None:
    """A row whose answers were sampled at one temperature has it; one of two temperatures has none, and each token has its own."""

    def sampled(*temperatures: float) -> Trajectory:
        calls = [
            {
                "model": "m",
                "request": {"model": "m", "temperature": heat},
                "prompt_token_ids": [1, *range(10, 10 + n)],
                "tokens": [{"token_ids": [10 + n], "logprobs": [-1.0]}],
            }
            for n, heat in enumerate(temperatures)
        ]
        return made(group="g", steps=[{"llm_calls": [call]} for call in calls])

    (same,) = odograph.samples([sampled(0.5, 0.5)])
    assert (same.temperature, expanded(same.temperatures)) == (0.5, [None, 0.5, 0.5])
    (both,) = odograph.samples([sampled(0.5, 1.0)])
    assert (both.temperature, expanded(both.temperatures)) == (None, [None, 0.5, 1.0])


@pytest.mark.parametrize("edits", ["mask", "reweight"])
def test_a_token_that_an_edit_kept_twice_is_trained_once(edits: str) -> None:
    """An edit may say a part of an answer twice: the model sampled each token once, so one of the two is trained, and one is context."""
    first = {"id": "c", "model": "m", "prompt_token_ids": [1], "tokens": [{"token_ids": [2, 3], "logprobs": [-1.0, -1.0]}]}
    edit = {"base": "c", "result": [{"run": "kept", "start": 0, "stop": 2}, {"run": "kept", "start": 0, "stop": 2}]}
    second = {"model": "m", "prompt_token_ids": [1, 2, 3, 2, 3], "tokens": [{"token_ids": [4], "logprobs": [-1.0]}]}
    t = made(group="g", steps=[{"llm_calls": [first], "edits": [edit]}, {"llm_calls": [second]}])
    found = odograph.samples([t], edits=edits, scorer=lambda ids: [-1.0] * len(ids))
    (row,) = found
    assert (row.token_ids, row.mask) == ([1, 2, 3, 2, 3, 4], [0, 1, 1, 0, 0, 1])
    assert (found.report.sampled, found.report.trained, found.report.authored, found.report.balanced) == (3, 3, 0, True)


def test_the_row_before_a_change_ends_with_the_choice_that_was_continued(store: odograph.Store) -> None:
    """Of several answers the second was continued, and then cut: the row before the cut trains the second, not the first."""
    answers = [{"index": n, "message": {"role": "assistant", "content": said}} for n, said in enumerate("ab")]
    with store.record(task="t") as run:
        messages = [{"role": "user", "content": "q"}]
        run.step().llm_call(
            model="m",
            messages=messages,
            response={"choices": answers},
            prompt_token_ids=[1],
            token_ids=[[2, 2, 2, 2], [3, 3, 3, 3]],
            logprobs=[[-0.1] * 4, [-0.2] * 4],
        )
        messages = [*messages, answers[1]["message"], {"role": "user", "content": "z"}]
        run.step("new").llm_call(
            model="m", messages=messages, response="c", prompt_token_ids=[1, 3, 3, 3, 9, 8], token_ids=[5], logprobs=[-0.3]
        )
    rows = [(row.token_ids, row.mask) for row in odograph.samples(store.trajectories(), edits="env")]
    assert rows == [([1, 3, 3, 3, 3], [0, 1, 1, 1, 1]), ([1, 3, 3, 3, 9, 8, 5], [0, 0, 0, 0, 0, 0, 1])]


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([0, 2**31 - 1], None),
        ([0, 2**31], "a token id below 0 or beyond 31 bits"),
        ([-1, 0], "a token id below 0 or beyond 31 bits"),
    ],
)
def test_token_ids_have_31_bits(store: odograph.Store, ids: list[int], why: str | None) -> None:
    """The smallest and the largest id that formats hold are trained; the next ones are left out with the reason."""
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", prompt_token_ids=[1], token_ids=ids, logprobs=[-0.5, -0.5], response="a")
    found = odograph.samples(store.trajectories(), include_invalid=True)
    assert [s.token_ids for s in found] == ([] if why else [[1, *ids]])
    assert found.report.left_out == ({why: 1} if why else {}) and found.report.balanced


def test_logprobs_are_floats(store: odograph.Store) -> None:
    """Whole numbers are logprobs, too: a row has them as floats."""
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", prompt_token_ids=[1], token_ids=[2, 3], logprobs=[-1, 0], response="a")
    (row,) = odograph.samples(store.trajectories())
    assert row.logprobs == [None, -1.0, 0.0] and type(row.logprobs[1]) is float
