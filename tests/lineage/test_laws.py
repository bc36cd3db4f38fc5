"""Laws of the lineage that a change of its source would break unseen: text whose ids only a prompt has, attempts, what is the same."""

from __future__ import annotations

from typing import Any

import pytest

import odograph
from odograph.errors import InvalidInput
from odograph.lineage.bodies import pieces_of
from odograph.lineage.cuts import cut_out
from odograph.lineage.sampling import truncation
from odograph.lineage.texts import offsets_of
from odograph.training.samples import samples
from odograph.types import Action, Kept, Literal, LLMCall, Reward, Span
from tests.lineage.test_review import History


@pytest.mark.parametrize(
    ("runs", "prompt", "shown"),
    [
        ([Kept(0, 1), Literal(text="new"), Kept(2, 4)], [1, 2, 10, 77, 78, 12, 13, 50], [77, 78]),
        ([Literal(text="new"), Kept(0, 4)], [1, 2, 77, 10, 11, 12, 13, 50], [77]),
        ([Kept(0, 2), Literal(text="new"), Kept(2, 4)], [1, 2, 10, 11, 12, 12, 12, 13, 50], [12, 12]),
        ([Kept(0, 3), Literal(text="new"), Kept(3, 4)], [1, 2, 10, 11, 12, 77, 13], [77]),
    ],
    ids=["replaced", "in front", "the ids behind it come twice", "at the very end"],
)
def test_ids_of_text_that_an_edit_put_in_are_those_of_the_next_prompt(
    runs: list[Kept | Literal], prompt: list[int], shown: list[int]
) -> None:
    """No tokenizer says the ids: the prompt has them, between what the edit kept. They are the edit's, not the model's."""
    h = History()
    edit = h.edit(h.call([1, 2], [10, 11, 12, 13]), runs)
    h.call(prompt, [20])
    chain = h.chain()
    node = chain.nodes[1]
    assert (node.kind, node.edits, chain.problems) == ("declared", [edit.id], {})
    (put,) = [s for s in node.view.segments if s.source == "inserted"]
    assert (put.ids, put.edit) == (shown, edit.id) and node.view.ids == prompt


@pytest.mark.parametrize(
    "runs",
    [
        [Kept(0, 1), Literal(text="new"), Literal(text="more"), Kept(2, 4)],
        [Kept(0, 2), Literal(text="new")],
    ],
    ids=["two texts in a row", "text at the end"],
)
def test_where_text_ends_that_nothing_is_kept_behind_is_not_guessed(runs: list[Kept | Literal]) -> None:
    """The prompt may go on with anything there: the change is told, and no token is said to be the edit's text."""
    h = History()
    h.edit(h.call([1, 2], [10, 11, 12, 13]), runs)
    h.call([1, 2, 10, 77, 78, 12, 13, 50], [20])
    node = h.chain().nodes[1]
    assert node.kind != "extends" and not [s for s in node.view.segments if s.edit is not None]


def test_an_edit_of_what_the_context_has_otherwise_already_is_declared() -> None:
    """The second prompt has another token in the answer, and nobody said so. The edit that is recorded then, and that the third
    prompt shows, is another change: it is not taken for what stands there."""
    h = History()
    call = h.call([1, 2], [10, 11, 12, 13])
    h.call([1, 2, 10, 88, 12, 13, 50], [20])
    edit = h.edit(call, [Kept(0, 1), Literal([99]), Kept(2, 4)])
    h.call([1, 2, 10, 99, 12, 13, 50, 20, 60], [30])
    node = h.chain().nodes[2]
    assert (node.kind, node.edits) == ("declared", [edit.id])


def test_an_edit_that_moves_what_is_left_of_an_answer_is_declared() -> None:
    """The second prompt has the two tokens in the middle, the edit puts the second of all before the first."""
    h = History()
    call = h.call([1, 2], [10, 11, 12, 13])
    h.call([1, 2, 11, 12, 50], [20])
    edit = h.edit(call, [Kept(1, 2), Kept(0, 1)])
    h.call([1, 2, 11, 10, 50, 20, 60], [30])
    node = h.chain().nodes[2]
    assert (node.kind, node.edits) == ("declared", [edit.id])


def test_a_token_that_was_moved_into_another_answer_and_cut_there_is_cut_out() -> None:
    """It is not trained as a part of the answer that it is from: that answer stayed, left of what both prompts begin with."""
    h = History()
    first = h.call([1], [10, 11])
    h.call([1, 10, 11, 5], [20, 21])
    last = h.call([1, 10, 11, 5, 20, 21, 6], [30, 31])
    h.edit(first, [Kept(0, 1)])
    h.edit(last, [Kept(0, 1), Kept(1, 2, call=first.id)])
    h.call([1, 10, 5, 20, 21, 6, 30, 11, 7], [40])
    h.call([1, 10, 5, 20, 21, 6, 30, 7, 40, 8], [50])
    chain = h.chain()
    assert cut_out(chain) == {(first.id, 0): {1}, (last.id, 0): {1}}
    assert {call for call, _ in chain.last.sampled()} == {node.id for node in chain.nodes}


def test_an_edit_that_changes_no_id_is_none() -> None:
    """The edit puts in the id that is there: the next prompt goes on with the answer as it was generated."""
    h = History()
    h.edit(h.call([1, 2], [10, 11, 12, 13]), [Kept(0, 1), Literal([11]), Kept(2, 4)])
    h.call([1, 2, 10, 11, 12, 13, 50], [20])
    node = h.chain().nodes[1]
    assert (node.kind, node.edits) == ("extends", [])


def test_an_edit_of_an_older_answer_that_changes_no_id_is_none() -> None:
    h = History()
    call = h.call([1, 2], [10, 11, 12])
    h.call([1, 2, 10, 11, 12, 50], [20])
    h.edit(call, [Kept(0, 1), Literal([11]), Kept(2, 3)])
    h.call([1, 2, 10, 11, 12, 50, 20, 60], [30])
    chain = h.chain()
    assert [(n.kind, n.edits) for n in chain.nodes] == [("start", []), ("extends", []), ("extends", [])]


# --- attempts -----------------------------------------------------------------------------------------------------------------


def asked_twice(*between: tuple[type, dict[str, Any]], **fields: Any) -> list[str]:
    """The calls that a chain keeps of two that ask the same, with records in between that belong to the first one's step."""
    h = History()
    first = h.call([1, 2], [10], acted=False, **fields)
    for kind, about in between:
        h.add(kind, **{"step": 0, **{k: first.id if v == "FIRST" else v for k, v in about.items()}})
    second = h.call([1, 2], [11], acted=False)
    h.call([1, 2, 11, 50], [20])
    names = {first.id: "first", second.id: "second"}
    return [names.get(n.id, "third") for n in h.chain().nodes]


@pytest.mark.parametrize(
    ("between", "kept"),
    [
        ([], False),
        ([(Action, {"name": "act"})], True),
        ([(Action, {"name": "act", "llm_call": "FIRST"})], True),
        ([(Action, {"name": "act", "llm_call": "another"})], False),
        ([(Reward, {"name": "r", "value": 1.0, "parent": "r2"})], True),
        ([(Reward, {"name": "r", "value": 1.0, "target": "FIRST", "parent": "r2"})], False),
        ([(LLMCall, {"model": "j", "purpose": "judge", "response": "x"}), (Action, {"name": "act"})], True),
    ],
    ids=["nothing", "action", "its action", "action of another", "reward", "reward of the answer", "judged before the action"],
)
def test_an_attempt_is_kept_where_something_came_of_it(between: list[tuple[type, dict[str, Any]]], kept: bool) -> None:
    """A question that is asked again discards the answer before, unless an action or a reward of its step says that the answer was
    used. An action that names another call, or a reward of the answer alone, says nothing of the kind; a judge's call in between
    does not take its place."""
    assert asked_twice(*between) == (["first", "second", "third"] if kept else ["second", "third"])


# --- where tokens stand in a text -----------------------------------------------------------------------------------------------


class Told:
    """A tokenizer of which it is told what each id says, and what it makes of a text: so many ids (None: others), and their offsets."""

    size = 100

    def __init__(self, pieces: list[bytes], offsets: list[tuple[int, int]] | None) -> None:
        self._pieces = pieces
        self._offsets = offsets

    def encode(self, text: str) -> list[int]:
        return self.offsets(text)[0]

    def decode(self, ids: list[int]) -> str:
        return b"".join(self._pieces[i] for i in ids).decode(errors="replace")

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        if self._offsets is None:
            return [99], [(0, len(text))]
        return list(range(len(self._offsets))), self._offsets


@pytest.mark.parametrize(
    ("text", "pieces", "offsets", "expected"),
    [
        ("a b", [b"a", b" b"], [(0, 1), (2, 3)], [(0, 1), (1, 3)]),
        ("hello", [b"he", b"llo"], None, [(0, 2), (2, 5)]),
        ("é!", [b"\xc3", b"\xa9", b"!"], None, [(0, 1), (0, 1), (1, 2)]),
        ("é!", [b"\xc3", b"\xa9", b"!"], [(0, 1), (0, 1), (1, 2)], [(0, 1), (0, 1), (1, 2)]),
        ("abcd", [b"ab", b"c", b"d"], [(0, 2), (1, 3), (3, 4)], [(0, 3), (0, 3), (3, 4)]),
        ("hi", [b"", b"hi"], [(0, 0), (0, 2)], [(0, 0), (0, 2)]),
        ("a\ufffd", [b"a", "\ufffd".encode()], None, [(0, 1), (1, 2)]),
        ("\ufffdb", ["\ufffd".encode(), b"b"], None, [(0, 2), (0, 2)]),
        ("xy", [b"q"], None, None),
        ("xy", [b"q"], [(0, 1)], [(0, 1)]),
        ("ab", [b"a", b"b", b"<end>"], None, [(0, 1), (1, 2), (2, 2)]),
    ],
    ids=[
        "trimmed",
        "other ids",
        "parts",
        "parts, told",
        "over each other",
        "empty",
        "unreadable end",
        "unreadable",
        "other text",
        "as told",
        "not said",
    ],
)
def test_each_token_stands_where_the_text_has_it(
    text: str, pieces: list[bytes], offsets: list[tuple[int, int]] | None, expected: list[tuple[int, int]] | None
) -> None:
    """Spaces that a tokenizer leaves out of its offsets belong to the token that says them; tokens of one character all have the
    whole of it; a token without text is empty; where the ids say another text, the tokenizer's word counts, or nothing is known."""
    assert offsets_of(list(range(len(pieces))), text, Told(pieces, offsets)) == expected


def test_other_tokens_for_the_text_of_an_answer_are_told_from_the_ids_alone() -> None:
    """Where no message was recorded, and a tokenizer says what the ids are."""
    h = History()
    h.call([0], [1, 2, 6])
    h.call([0, 3, 6, 4], [5])
    by = Told([b"q", b"a", b"b", b"ab", b"!", b"x", b"c"], None)
    assert [h.chain(by).nodes[1].kind, h.chain().nodes[1].kind] == ["retokenization", "rewrite"]


# --- rows ---------------------------------------------------------------------------------------------------------------------


def test_a_scorer_that_gives_another_number_is_told() -> None:
    """One logprob for each id was expected: a sentence says how many came."""
    h = History()
    h.edit(h.call([1, 2], [10, 11, 12, 13]), [Kept(0, 1), Literal([77]), Kept(2, 4)])
    h.call([1, 2, 10, 77, 12, 13, 50], [20])
    with pytest.raises(InvalidInput, match="the scorer gave 3 logprobs of 8 tokens"):
        list(samples([h.trajectory], edits="reweight", scorer=lambda ids: [-0.5] * 3))


def test_a_choice_with_a_reward_of_its_own_is_compared_where_the_trajectory_has_none() -> None:
    """The answer that was gone on with has no reward, so its row is left out with that reason; an unknown reward is no 0.0."""
    h = History()
    call = h.call([1, 2], [10], [11])
    h.add(Reward, name="r", value=0.5, target=call.id, span=Span(0, 1, choice=1), parent=call.id)
    h.call([1, 2, 10, 50], [20])
    found = samples([h.trajectory], advantage="reward", include_invalid=True)
    assert [(row.token_ids, row.advantage) for row in found] == [([1, 2, 11], 0.5)]
    assert (found.report.left_out, found.report.dropped) == ({"no reward": 1}, {"no reward": 2})


def test_what_stands_in_a_row_that_trains_nothing_is_context() -> None:
    """The only tokens that were sampled are stale, and the last answer is empty: no row is given, and the account says what they
    are, not that they were deleted."""
    h = History()
    h.call([1, 2], [10, 11])
    h.call([9, 2, 10, 11, 50], [])
    found = samples([h.trajectory], edits="mask", include_invalid=True)
    assert list(found) == [] and found.report.balanced
    assert (found.report.context, found.report.dropped) == ({"stale": 2}, {})


@pytest.mark.parametrize(("given", "cut"), [(-1, []), (0, []), (0.5, []), (1, ["top_k 1"]), (20, ["top_k 20"]), ("20", [])])
def test_one_candidate_is_a_truncation(given: Any, cut: list[str]) -> None:
    """Backends turn top_k off by 0 or -1; with 1, the logprob that was sampled under it says nothing of the model."""
    call = History().call([1, 2], [10], request={"top_k": given})
    assert truncation(odograph.Call(call)) == cut


@pytest.mark.parametrize(
    "body",
    [
        ["x", None, {"index": 0}],
        "x",
        [{"index": 0, "logprobs": "x"}],
        [[0]],
        [{"logprobs": {"content": [{"token": 1}]}}],
        [{"logprobs": {"content": ["x"]}}],
    ],
)
def test_choices_that_are_none_say_no_text(body: Any) -> None:
    """A backend may answer any JSON: what is no choice has no text of tokens."""
    call = History().call([1, 2], [10], response={"choices": body})
    assert pieces_of(odograph.Call(call), 0) is None
