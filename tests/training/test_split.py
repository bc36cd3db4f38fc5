"""Rows of contexts that are too long."""

from __future__ import annotations

import pytest

import odograph


@pytest.mark.parametrize("edits", ["env", "mask", "imitate"])
def test_split_rows_say_what_they_are(store: odograph.Store, edits: str) -> None:
    """What fits is a row under the policy that was asked for; what does not is dropped, and the report says so."""
    with store.record(agent="a", model="m") as run:
        prompt = [1, 2]
        for n in range(4):
            with run.step() as step:
                step.llm_call(model="m", prompt_token_ids=list(prompt), token_ids=[10 + n, 11], logprobs=[-0.5, -0.25])
            prompt = [*prompt, 10 + n, 11, 1]
    found = odograph.samples([store.trajectory(run.id)], edits=edits, max_tokens=8, too_long="split")
    rows = [(row.token_ids, row.mask, row.policy) for row in found]
    assert rows == [([1, 2, 10, 11, 1, 11, 11], [0, 0, 1, 1, 0, 1, 1], edits if edits == "imitate" else "env")]
    assert found.report.balanced and found.report.dropped == {"longer than max_tokens": 4}
    whole = odograph.samples([store.trajectory(run.id)], edits=edits, max_tokens=8, too_long="drop")
    assert list(whole) == [] and whole.report.dropped == {"longer than max_tokens": 8}


@pytest.mark.parametrize("status", ["completed", "truncated"])
def test_a_row_says_how_it_ended_and_what_its_tokens_weigh(store: odograph.Store, status: str) -> None:
    """`terminated` or `truncated`, and a weight per token, run-length."""
    with store.record(agent="a", model="m") as run:
        with run.step() as step:
            step.llm_call(model="m", prompt_token_ids=[1, 2], token_ids=[10, 11], logprobs=[-0.5, -0.25])
        run.finish(status=status)
    (row,) = odograph.samples([store.trajectory(run.id)])
    assert (row.terminated, row.truncated) == (status == "completed", status == "truncated")
    assert row.weight == row.weights == [(4, 1.0)]
