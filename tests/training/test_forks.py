"""Samples of forks: what a fork shares with its parent is trained once, with the fork's rewards and the parent's policy version."""

from __future__ import annotations

import odograph
from odograph import Fork
from odograph.training.sample import expanded


def go_on(run: odograph.Run, prompt: list[int], steps: int, rewards: list[float]) -> list[int]:
    """Some steps of one growing context, each with a token of its own."""
    for n in range(steps):
        with run.step() as step:
            token = 10 * len(prompt)
            step.llm_call(model="m", prompt_token_ids=list(prompt), token_ids=[token], logprobs=[-0.5])
            if rewards:
                step.reward(rewards[n])
            prompt = [*prompt, token, 1]
    return prompt


def test_credit_and_versions_of_what_is_shared(store: odograph.Store) -> None:
    """With credit per step a token of the shared prefix has the return of the fork's first step: it earned nothing of its own there.
    Its policy version is not the fork's."""
    with store.record(agent="a", model="m", group="g", policy_version=1) as parent:
        context = go_on(parent, [1, 2], 3, [])
    with store.record(agent="a", model="m", group="g", policy_version=2, fork=Fork(trajectory=parent.id, step=3)) as fork:
        go_on(fork, context, 2, [1.0, 4.0])
    found = odograph.samples([store.trajectory(fork.id)], advantage="reward", credit="per-step", parent=store.trajectory)
    (row,) = found
    at = [n for n, trained in enumerate(row.mask) if trained]
    assert len(at) == 5 and found.report.trained == found.report.sampled == 5
    assert [expanded(row.advantages)[n] for n in at] == [5.0, 5.0, 5.0, 5.0, 4.0]
    assert [expanded(row.versions)[n] for n in at] == [None, None, None, 2, 2]
    both = [store.trajectory(parent.id), store.trajectory(fork.id)]
    rows = list(odograph.samples(both, parent=store.trajectory))
    assert [sum(row.mask) for row in rows] == [3, 2] and set(expanded(rows[0].versions)) == {None, 1}
