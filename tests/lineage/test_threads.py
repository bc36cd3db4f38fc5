"""Conversations that are interleaved, older answers that are continued, questions that are asked again; and edits in words."""

from __future__ import annotations

from typing import Any

import pytest

import odograph
from odograph import Kept
from odograph.trajectory import Trajectory

Calls = list[tuple[list[int], list[int]]]


def of(calls: Calls, **step: Any) -> Trajectory:
    """A trajectory of a call a step."""
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m", group="g") as run:
            for prompt, ids in calls:
                with run.step(**step) as s:
                    s.llm_call(model="m", prompt_token_ids=prompt, token_ids=ids, logprobs=[-0.1] * len(ids))
            run.reward(1.0)
        return store.trajectory(run.id)


def test_interleaved_conversations_are_a_row_each() -> None:
    """One agent with two conversations in turns: a call joins the row that its prompt extends, not the last one."""
    t = of([([1, 2], [3, 4]), ([7, 8], [9]), ([1, 2, 3, 4, 5], [6]), ([7, 8, 9, 10], [12])])
    for edits in ("env", "mask"):
        made = odograph.samples([t], edits=edits)
        assert [(s.token_ids, s.mask) for s in made] == [
            ([1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 0, 1]),
            ([7, 8, 9, 10, 12], [0, 0, 1, 0, 1]),
        ]
        assert made.report.trained == made.report.sampled == 5


def test_an_older_choice_that_is_continued_is_trained() -> None:
    """Of three answers to one prompt two are continued: each is trained once, and only the third is dropped."""
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as run:
            with run.step() as s:
                s.llm_call(model="m", prompt_token_ids=[1], token_ids=[[10], [20], [30]], logprobs=[[-0.1]] * 3)
            for prompt, ids in (([1, 10, 5], [12]), ([1, 20, 5], [22])):
                with run.step() as s:
                    s.action("a", {}, 1, llm_call=s.llm_call(model="m", prompt_token_ids=prompt, token_ids=ids))
        made = odograph.samples([store.trajectory(run.id)])
        assert [(s.token_ids, s.mask) for s in made] == [([1, 10, 5, 12], [0, 1, 0, 1]), ([1, 20, 5, 22], [0, 1, 0, 1])]
        assert made.report.dropped == {"a choice that was not continued": 1} and made.report.balanced


def test_the_same_observation_twice_is_no_second_attempt() -> None:
    """Steps with observations of their own that read the same are steps; without one the first is an attempt that was repeated."""
    calls: Calls = [([1, 2], [10]), ([1, 2], [11])]
    made = odograph.samples([of(calls, observation={"state": "A"})])
    assert [s.token_ids for s in made] == [[1, 2, 10], [1, 2, 11]] and made.report.dropped == {}
    again = odograph.samples([of(calls)])
    assert [s.token_ids for s in again] == [[1, 2, 11]] and again.report.dropped == {"a discarded attempt": 1}


def test_an_empty_sibling_is_not_what_was_continued() -> None:
    """Of an empty choice and one that was edited, the prompt shows the edited one."""
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as run:
            with run.step() as s:
                s.llm_call(model="m", prompt_token_ids=[1], token_ids=[[], [10, 11, 12]])
            with run.step() as s:
                s.llm_call(model="m", prompt_token_ids=[1, 10, 12, 5], token_ids=[20])
        (chain,) = odograph.lineage.chains(store.trajectory(run.id))
        assert chain.nodes[0].continued == 1 and chain.nodes[1].deleted == 1


def edited(prompt: list[int], word: str, *at: Any) -> tuple[Trajectory, str]:
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as run:
            with run.step() as s:
                call = s.llm_call(model="m", prompt_token_ids=[1], token_ids=[10, 11, 12, 13], logprobs=[-0.1] * 4)
                id = getattr(s.edit(call), word)(*at)
            with run.step() as s:
                s.llm_call(model="m", prompt_token_ids=prompt, token_ids=[20], logprobs=[-0.1])
        return store.trajectory(run.id), id


def test_a_rewrite_keeps_what_it_kept() -> None:
    """Declaring a rewrite trains what stands as it was sampled, as silence would: nobody but the model wrote these tokens."""
    t, _ = edited([1, 10, 11, 13, 5], "rewrite", [10, 11, 13])
    (row,) = odograph.samples([t], edits="mask")
    assert row.mask == [0, 1, 1, 0, 0, 1]
    imitate = odograph.samples([t], edits="imitate")
    assert len(list(imitate)) == 1 and imitate.report.authored == 0


def test_a_function_that_moves_tokens_writes_none() -> None:
    """`@odograph.edit` records a token that was put elsewhere as moved."""
    swap = odograph.edit(lambda ids: [ids[0], ids[2], ids[1]])
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as run, run.step() as s:
            s.llm_call(model="m", prompt_token_ids=[1], token_ids=[10, 11, 12])
            assert swap([10, 11, 12]) == [10, 12, 11]
        (edit,) = store.trajectory(run.id).all_edits
        assert all(isinstance(r, Kept) for r in edit.result)


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ([1, 10, 11, 12, 5], "another change of the response"),
        ([1, 10, 11, 12, 13, 5], "as it was generated: the edit was undone"),
    ],
)
def test_a_truncation_that_the_prompt_does_not_show_is_not_confirmed(prompt: list[int], why: str) -> None:
    """The prompt goes on with tokens that the edit cut: they stand as they were sampled, and the report says what it shows."""
    t, id = edited(prompt, "truncate", 2)
    made = odograph.samples([t], edits="mask")
    (row,) = made
    assert row.mask == [0, *[1] * (len(prompt) - 2), 0, 1] and why in made.report.edits_unused[id]


def test_the_same_ids_after_another_image_are_another_context() -> None:
    """The images of messages are compared though nobody gave their hashes."""

    def seen(data: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}]}]

    for other, rows in (("AAAA", 1), ("BBBB", 2)):
        with odograph.open("memory:") as store:
            with store.record(task="t", agent="a", model="m") as run:
                with run.step() as s:
                    s.llm_call(model="m", prompt_token_ids=[1, 9], token_ids=[10], messages=seen("AAAA"), response="x")
                with run.step() as s:
                    messages = [*seen(other), {"role": "assistant", "content": "x"}, {"role": "user", "content": "z"}]
                    s.llm_call(model="m", prompt_token_ids=[1, 9, 10, 5], token_ids=[11], messages=messages, response="y")
            assert len(list(odograph.samples([store.trajectory(run.id)]))) == rows


@pytest.mark.parametrize("sent", ["ids", "texts"])
def test_a_call_with_several_prompts_is_a_row_for_each(sent: str) -> None:
    """Each prompt has its own answers, a later batch goes on with them place by place, and answers are compared with those of the
    same prompt alone."""

    def choice(index: int, prompt: list[int], ids: list[int]) -> dict[str, Any]:
        text = "".join(chr(64 + i) for i in ids)
        told = {"tokens": list(text), "token_logprobs": [-0.1] * len(ids)}
        return {"index": index, "text": text, "token_ids": ids, "prompt_token_ids": prompt, "logprobs": told}

    def ask(step: Any, n: int, prompts: list[list[int]], answers: list[list[int]]) -> Any:
        choices = [choice(i, prompts[i // n], ids) for i, ids in enumerate(answers)]
        request = {"model": "m", "n": n, "prompt": prompts if sent == "ids" else [str(p) for p in prompts]}
        response = {"object": "text_completion", "model": "m", "choices": choices}
        return step.llm_call(dialect="openai.completions", request=request, response=response)

    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m", group="g") as run:
            with run.step() as step:
                ask(step, 1, [[1, 2], [5]], [[10], [20, 21]])
            with run.step() as step:
                ask(step, 1, [[1, 2, 10, 3], [5, 20, 21, 6]], [[11], [22]])
            run.reward(1.0)
        made = odograph.samples(store.trajectories())
        assert [(r.token_ids, r.mask) for r in made] == [
            ([1, 2, 10, 3, 11], [0, 0, 1, 0, 1]),
            ([5, 20, 21, 6, 22], [0, 1, 1, 0, 1]),
        ]
        assert made.report.balanced and made.report.trained == made.report.sampled == 5
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m", group="g") as run, run.step() as step:
            call = ask(step, 2, [[1], [2]], [[10], [11], [20], [21]])
            for n, reward in enumerate((1.0, 0.0, 5.0, 5.0)):
                step.reward(reward, name="choice", target=call, span=odograph.types.Span(0, 1, n))
        rows = list(odograph.samples(store.trajectories(), advantage="dr_grpo"))
        assert [(r.token_ids, r.reward, r.advantage) for r in rows] == [
            ([1, 10], 1.0, 0.5),
            ([1, 11], 0.0, -0.5),
            ([2, 20], 5.0, 0.0),
            ([2, 21], 5.0, 0.0),
        ]
        assert [r.messages for r in rows[::2]] == [
            [{"role": "user", "content": None if sent == "ids" else f"[{n}]"}] for n in (1, 2)
        ]


@pytest.mark.parametrize("later", [False, True])
def test_an_edit_in_a_call_with_several_prompts_is_of_the_prompt_that_its_choice_answers(later: bool) -> None:
    """The edit changes the second conversation alone, whether a later call shows it or none comes, and the account has no complaint."""

    def ask(step: Any, prompts: list[list[int]], answers: list[list[int]]) -> Any:
        choices = [{"index": n, "text": "x", "token_ids": ids, "prompt_token_ids": prompts[n]} for n, ids in enumerate(answers)]
        request, response = {"model": "m", "prompt": prompts}, {"object": "text_completion", "model": "m", "choices": choices}
        return step.llm_call(dialect="openai.completions", request=request, response=response)

    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as run:
            with run.step() as step:
                edit = step.edit(ask(step, [[1, 2], [5]], [[10, 11], [20, 21, 22]]), choice=1).truncate(1)
            if later:
                with run.step() as step:
                    ask(step, [[1, 2, 10, 11, 3], [5, 20, 6]], [[12], [23]])
        one, other = odograph.lineage.chains(store.trajectory(run.id))
    assert (one.problems, other.problems) == ({}, {})
    if later:
        assert [(n.kind, n.edits) for n in (one.nodes[1], other.nodes[1])] == [("extends", []), ("declared", [edit])]
    else:
        assert (one.last.ids, other.last.ids, other.last_edits) == ([1, 2, 10, 11], [5, 20], [edit])
