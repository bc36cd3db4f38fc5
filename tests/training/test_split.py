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


def test_a_row_without_a_token_to_train_is_accounted_for(store: odograph.Store) -> None:
    """The tokens of an edited answer that nothing follows: what was kept is stale, what was deleted is dropped, and no row is given."""
    with store.record(agent="a", model="m") as run, run.step() as step:
        call = step.llm_call(model="m", response="abcd", prompt_token_ids=[1, 2], token_ids=[10, 11, 12, 13], logprobs=[-0.5] * 4)
        step.edit(call).delete(0, 1, reason="too much")
    found = odograph.samples([store.trajectory(run.id)], edits="mask")
    assert list(found) == [] and found.report.balanced and found.report.left_out == {"no token to train": 1}
    assert (found.report.context, found.report.dropped) == ({"stale": 3}, {"deleted": 1})


def test_tokens_that_an_edit_kept_twice_are_imitated_twice(store: odograph.Store) -> None:
    """The second copy is the editor's: it is trained as a demonstration, and counted as written by the editor."""
    with store.record(agent="a", model="m") as run, run.step() as step:
        call = step.llm_call(model="m", response="ab", prompt_token_ids=[1, 2], token_ids=[10, 11], logprobs=[-0.5] * 2)
        step.edit(call, result=[odograph.Kept(0, 2), odograph.Kept(0, 1)], reason="again")
    found = odograph.samples([store.trajectory(run.id)], edits="imitate")
    assert [(row.token_ids, row.mask) for row in found] == [([1, 2, 10, 11, 10], [0, 0, 1, 1, 1])]
    assert (found.report.trained, found.report.authored, found.report.balanced) == (2, 1, True)


def test_what_an_editor_wrote_is_imitated_too(store: odograph.Store) -> None:
    """Tokens that an edit put in are trained as a demonstration."""
    with store.record(agent="a", model="m") as run, run.step() as step:
        call = step.llm_call(model="m", response="ab", prompt_token_ids=[1, 2], token_ids=[10, 11], logprobs=[-0.5] * 2)
        step.edit(call, result=[odograph.Kept(0, 1), odograph.Literal([7, 8])], reason="better", preferred=True)
    found = odograph.samples([store.trajectory(run.id)], edits="imitate")
    assert [(row.token_ids, row.mask) for row in found] == [([1, 2, 10, 7, 8], [0, 0, 1, 1, 1])]
    assert found.report.authored == 2


def test_limits_of_a_row_are_themselves_within(store: odograph.Store) -> None:
    """A row as long as `max_tokens` is a row, and the last id of 31 bits is an id."""
    for first, dropped in ((2**31 - 1, {}), (2**31, {"a token id below 0 or beyond 31 bits": 1})):
        with store.record(agent="a", model="m") as run, run.step() as step:
            step.llm_call(model="m", response="a", prompt_token_ids=[first, 2], token_ids=[10], logprobs=[-0.5])
        found = odograph.samples([store.trajectory(run.id)], max_tokens=3, include_invalid=True)
        assert (len(list(found)), found.report.dropped) == (1 - len(dropped), dropped)
        assert list(odograph.samples([store.trajectory(run.id)], max_tokens=2)) == []


def test_a_scorer_scores_each_token(store: odograph.Store) -> None:
    """One that gives another number of logprobs is told so."""
    with store.record(agent="a", model="m") as run, run.step() as step:
        call = step.llm_call(model="m", response="ab", prompt_token_ids=[1, 2], token_ids=[10, 11], logprobs=[-0.5] * 2)
        step.edit(call).delete(0, 1, reason="too much")
    with pytest.raises(odograph.InvalidInput, match="the scorer gave 1 logprobs of 3 tokens"):
        list(odograph.samples([store.trajectory(run.id)], edits="reweight", scorer=lambda ids: [0.0]))


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
