"""What a review of the lineage broke: odd histories, edits that a prompt shows in part, late or not at all, text between tokens."""

from __future__ import annotations

import itertools
import json
import random
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import odograph
from odograph.capture.edits import difference
from odograph.cli import main as cli
from odograph.codec import content_hash
from odograph.lineage import Chain, chains
from odograph.lineage.shown import lineage
from odograph.lineage.texts import offsets_of
from odograph.lineage.view import matches
from odograph.quality import validate
from odograph.training.samples import samples
from odograph.trajectory import Trajectory
from odograph.types import Action, AnyRecord, Edit, Kept, Literal, LLMCall, Start, StepStart, Tokens
from tests.cost import costs


class History:
    """A trajectory of one agent, record by record."""

    def __init__(self) -> None:
        self.records: list[AnyRecord] = []
        self.add(Start, agent="a", model="m", group="g")

    def add(self, kind: Any, **fields: Any) -> Any:
        n = len(self.records) + 1
        record = kind(**{"id": f"r{n}", "trajectory": "t", "seq": n, "time": n, "writer": "w", **fields})
        self.records.append(record)
        return record

    def call(self, prompt: list[int], *answers: list[int], acted: bool = True, **fields: Any) -> LLMCall:
        step = sum(isinstance(r, StepStart) for r in self.records)
        self.add(StepStart, step=step, parent="r1")
        tokens = [Tokens(token_ids=ids, logprobs=[-0.5] * len(ids)) for ids in answers]
        fields = {"model": "m", "response": "x", **fields}
        call: LLMCall = self.add(LLMCall, step=step, prompt_token_ids=prompt, tokens=tokens, **fields)
        if acted:
            self.add(Action, step=step, name="act", llm_call=call.id)
        return call

    def edit(self, call: LLMCall, result: list[Kept | Literal], **fields: Any) -> Edit:
        edit: Edit = self.add(Edit, base=call.id, result=result, **fields)
        return edit

    @property
    def trajectory(self) -> Trajectory:
        return Trajectory("t", self.records)

    def chain(self, by: Any = None) -> Chain:
        (chain,) = chains(self.trajectory, tokenizer=by)
        return chain

    def rows(self, edits: str, **options: Any) -> list[tuple[list[int], str]]:
        found = samples([self.trajectory], edits=edits, **options)
        rows = [(r.token_ids, "".join(map(str, r.mask))) for r in found]
        assert found.report.balanced
        return rows


# --- what the next prompt shows of edits --------------------------------------------------------------------------------------


def test_an_edit_that_cut_and_was_undone_is_found_out() -> None:
    """The prompt begins with what the edit left, too: still it has all that was generated."""
    h = History()
    call = h.call([1, 2], [10, 11, 12, 13])
    edit = h.edit(call, [Kept(0, 2)])
    h.call([1, 2, 10, 11, 12, 13, 50], [20])
    chain = h.chain()
    assert [n.kind for n in chain.nodes] == ["start", "contradicted"] and "was undone" in chain.problems[edit.id]
    assert h.rows("mask") == [([1, 2, 10, 11, 12, 13, 50, 20], "00111101")]


def test_an_edit_that_was_undone_beside_another_change_is_found_out() -> None:
    """Something else was changed, and the answer is as it was generated: the class is that of the something else."""
    h = History()
    edit = h.edit(h.call([1, 2], [10, 11, 12, 13]), [Kept(0, 1), Literal([77]), Kept(2, 4)])
    h.call([1, 3, 10, 11, 12, 13, 50], [20])
    chain = h.chain()
    assert chain.nodes[1].kind == "rewrite" and chain.nodes[1].edits == [] and "was undone" in chain.problems[edit.id]


def test_of_several_edits_those_that_the_prompt_shows_are_confirmed() -> None:
    """One of two edits was undone on the way: the other is declared, and the one is named."""
    h = History()
    call = h.call([1, 2], [10, 11, 12, 13])
    kept = h.edit(call, [Kept(0, 1), Literal([77]), Kept(2, 4)])
    lost = h.edit(call, [Kept(0, 3), Literal([88])])
    h.call([1, 2, 10, 77, 12, 13, 50], [20])
    chain = h.chain()
    assert chain.nodes[1].kind == "declared" and chain.nodes[1].edits == [kept.id] and list(chain.problems) == [lost.id]


def test_an_edit_that_a_prompt_has_shown_stands_under_a_later_one() -> None:
    """A second edit of the same answer is made when the context has the first: the next prompt has both, and declares the second."""
    h = History()
    call = h.call([1, 2], [10, 11, 12, 13])
    h.edit(call, [Kept(0, 1), Literal([77]), Kept(2, 4)])
    h.call([1, 2, 10, 77, 12, 13, 50], [20])
    second = h.edit(call, [Kept(0, 3), Literal([88])])
    h.call([1, 2, 10, 77, 12, 88, 50, 20, 60], [30])
    chain = h.chain()
    assert (chain.nodes[2].kind, chain.nodes[2].edits, chain.problems) == ("declared", [second.id], {})


def test_of_two_late_edits_the_one_that_the_prompt_shows_is_declared() -> None:
    """Both are recorded after the call that saw one of them; the other takes effect behind the last call."""
    h = History()
    call = h.call([1, 2], [10, 11, 12, 13])
    h.call([1, 2, 10, 99, 12, 13, 50], [20])
    shown, later = (h.edit(call, [Kept(0, n), Literal([99]), Kept(n + 1, 4)]) for n in (1, 3))
    chain = h.chain()
    assert (chain.nodes[1].kind, chain.nodes[1].edits, chain.last_edits) == ("declared", [shown.id], [later.id])
    assert chain.problems == {} and chain.last.ids == [1, 2, 10, 99, 12, 99, 50, 20]


def test_an_edit_may_keep_tokens_of_another_answer() -> None:
    """What stands in the second answer now is what the first call sampled: the next prompt shows it, and it is stale there."""
    h = History()
    first = h.call([1], [10, 11])
    second = h.call([1, 10, 11, 5], [20, 21], [30, 31])
    edit = h.edit(second, [Kept(0, 1), Kept(0, 1, call=first.id), Kept(1, 2, choice=1)])
    h.call([1, 10, 11, 5, 20, 10, 31, 60], [40])
    chain = h.chain()
    node = chain.nodes[2]
    assert (node.kind, node.edits, chain.problems) == ("declared", [edit.id], {})
    kept = [(s.ids, s.call, s.choice, s.start, s.response) for s in node.view.segments if s.edit]
    assert kept == [([10], first.id, 0, 0, (second.id, 0)), ([31], second.id, 1, 1, (second.id, 0))]
    assert h.rows("mask")[0] == ([1, 10, 11, 5, 20, 10, 31, 60, 40], "011010001")


def test_an_edit_that_takes_a_whole_older_answer_out_is_declared() -> None:
    h = History()
    call = h.call([1, 2], [10, 11])
    h.call([1, 2, 10, 11, 50], [20])
    edit = h.edit(call, [])
    h.call([1, 2, 50, 20, 60], [30])
    node = h.chain().nodes[2]
    assert (node.kind, node.edits) == ("declared", [edit.id])


@pytest.mark.parametrize("unknown", ["choice", "ids"])
def test_an_edit_of_an_answer_without_ids_says_so(unknown: str) -> None:
    h = History()
    call = h.call([1], [10, 11])
    if unknown == "choice":
        edit, why = h.edit(call, [Kept(0, 1)], choice=3), f"its call {call.id} has no choice 3 with token ids here"
    else:
        edit = h.edit(h.call([1, 10, 11, 5]), [Kept(0, 1)])
        why = f"its call {edit.base} is none of this policy's with token ids, or was asked again"
    assert h.chain().problems == {edit.id: why}


def test_an_edit_of_an_answer_that_left_the_context_says_so() -> None:
    h = History()
    call = h.call([1, 2], [10, 11])
    h.call([9, 8], [20])
    edit = h.edit(call, [Kept(0, 1)])
    assert h.chain().problems == {edit.id: "the response that it changes is not in the context"}


def test_an_edit_beside_messages_that_are_fewer_than_before() -> None:
    """The prompt shows the edit, and its messages no answer at all, as with a history that was folded into one message."""
    h = History()
    edit = h.edit(h.call([1, 2, 5], [10, 11, 12], **asked(("user", "q"))), [Kept(0, 1), Literal([77]), Kept(2, 3)])
    h.call([1, 3, 5, 10, 77, 12, 50], [20], **asked(("user", "what was said")))
    node = h.chain().nodes[1]
    assert (node.kind, node.edits) == ("summary", [edit.id])


def test_what_was_changed_beside_an_edit_is_not_swallowed() -> None:
    """A prompt with the edit and one token less elsewhere is a truncation with that edit, and a finding."""
    h = History()
    edit = h.edit(h.call([1, 2], [10, 11, 12, 13]), [Kept(0, 1), Literal([77]), Kept(2, 4)])
    h.call([2, 10, 77, 12, 13, 50], [20])
    node = h.chain().nodes[1]
    assert (node.kind, node.edits, node.deleted, node.inserted) == ("truncation", [edit.id], 1, 0)
    assert "prefix_break" in {f.code for f in validate(h.trajectory, profile="rl").findings}


def test_an_edit_that_is_recorded_late_is_what_the_prompt_shows() -> None:
    """The edit's record comes after the call that saw it, from another process say: it is declared all the same, and used once."""
    h = History()
    call = h.call([1, 2], [10, 11, 12, 13])
    h.call([1, 2, 10, 99, 12, 13, 50], [20])
    edit = h.edit(call, [Kept(0, 1), Literal([99]), Kept(2, 4)], author="me")
    chain = h.chain()
    assert chain.nodes[1].kind == "declared" and chain.nodes[1].edits == [edit.id]
    assert chain.last_edits == [] and chain.problems == {}
    assert [s.edit for s in chain.last.segments if s.source == "inserted"] == [edit.id]


def test_an_edit_waits_while_another_call_is_asked_again() -> None:
    """A retry settles the edits of the attempt that is thrown away, and of no other call."""
    h = History()
    first = h.call([1, 2], [10, 11, 12, 13])
    h.call([1, 2, 10, 11, 12, 13, 50], [20], acted=False)
    edit = h.edit(first, [Kept(0, 1), Literal([77]), Kept(2, 4)])
    h.call([1, 2, 10, 11, 12, 13, 50], [21], acted=False)
    h.call([1, 2, 10, 77, 12, 13, 50, 21, 60], [30])
    chain = h.chain()
    assert [n.kind for n in chain.nodes] == ["start", "extends", "declared"] and chain.nodes[2].edits == [edit.id]


def test_an_edit_of_another_base_changes_nothing() -> None:
    """A record that names another base by its hash than what was generated is not used, and said so; one that names it is."""
    for hash, used in (("nonsense", False), (content_hash([10, 11, 12]), True)):
        h = History()
        edit = h.edit(h.call([1, 2], [10, 11, 12]), [Kept(0, 2)], base_hash=hash)
        h.call([1, 2, 10, 11, 50], [20])
        chain = h.chain()
        assert (chain.nodes[1].kind == "declared") is used and (edit.id in chain.problems) is not used


def test_text_without_ids_costs_no_other_edit_its_effect() -> None:
    """After the last call: an edit that puts in text whose ids nobody knows changes nothing; one of tokens does."""
    h = History()
    choice = {"message": {"content": "ab"}, "logprobs": {"content": [{"token": t, "logprob": -1.0} for t in "ab"]}}
    text = h.edit(h.call([1], [97, 98], response={"choices": [choice]}), [Kept(0, 1), Literal(text="z")], unit="char")
    cut = h.edit(h.call([1, 97, 98, 7], [8, 9]), [Kept(0, 1)])
    chain = h.chain()
    assert chain.last.ids == [1, 97, 98, 7, 8] and chain.last_edits == [cut.id] and list(chain.problems) == [text.id]


def test_an_edit_of_an_edit_is_said_to_change_nothing() -> None:
    """What names no call of the trajectory as its base is in the account, with the reason."""
    h = History()
    first = h.edit(h.call([1], [10, 11]), [Kept(0, 1)])
    second = h.add(Edit, base=first.id, result=[Literal([4])])
    found = samples([h.trajectory], include_invalid=True)
    assert len(list(found)) == 1 and "is no call" in found.report.edits_unused[second.id]


def test_an_edit_that_moves_what_is_not_there_changes_nothing() -> None:
    """Runs outside of what was generated, behind others that go backwards: content never raises."""
    h = History()
    edit = h.edit(h.call([1], [10, 11]), [Kept(1, 2), Kept(0, 4)])
    h.call([1, 10, 11, 5], [20])
    assert "of a response of 2 tokens" in h.chain().problems[edit.id] and h.rows("env") == [([1, 10, 11, 5, 20], "01101")]


def asked(*messages: tuple[str, str]) -> dict[str, Any]:
    return {"request": {"model": "m", "messages": [{"role": r, "content": c} for r, c in messages]}, "response": "a"}


@pytest.mark.parametrize(
    ("prompt", "now", "kind"),
    [
        ([1, 2, 6, 10, 50], [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r")], "template"),
        ([1, 2, 5, 11, 12, 50], [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r")], "template"),
        ([1, 2, 5, 11, 50, 7], [("system", "s"), ("user", "q"), ("assistant", "b"), ("user", "r")], "rewrite"),
        ([1, 5, 10, 50], [("system", "s"), ("assistant", "a"), ("user", "r")], "truncation"),
        ([1, 70, 50], [("system", "s"), ("user", "what was said"), ("user", "r")], "summary"),
        ([1, 60, 61, 50], [("system", "s"), ("user", "q?"), ("assistant", "b"), ("user", "r")], "rewrite"),
        ([9], [("user", "all anew")], "summary"),
        ([1, 50], None, "truncation"),
        ([9], None, "rewrite"),
        ([1, 2, 6, 10, 50], None, "rewrite"),
    ],
)
def test_what_nobody_declared_has_a_class(prompt: list[int], now: list[tuple[str, str]] | None, kind: str) -> None:
    """Told from the messages where there are any, else from the ids; nothing that was kept is no truncation."""
    h = History()
    h.call([1, 2, 5], [10], **(asked(("system", "s"), ("user", "q")) if now else {}))
    h.call(prompt, [20], **(asked(*now) if now else {}))
    assert h.chain().nodes[1].kind == kind


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def tool_call(arguments: str) -> list[dict[str, Any]]:
    return [{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]


_TOLD = [message("system", "s"), message("user", "one two")]
_ANSWER, _NEXT = message("assistant", "a"), message("user", "r")


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (_TOLD, [_TOLD[0], message("user", "one"), _ANSWER, _NEXT], "truncation"),
        (_TOLD, [_TOLD[0], message("user", "two"), _ANSWER, _NEXT], "truncation"),
        (_TOLD, [_TOLD[0], message("user", ""), _ANSWER, _NEXT], "rewrite"),
        (_TOLD, [_TOLD[0], message("user", "one two three"), _ANSWER, _NEXT], "rewrite"),
        (_TOLD, [_TOLD[0], message("user", "x"), _TOLD[1], _ANSWER, _NEXT], "rewrite"),
        (
            [*_TOLD, message("assistant", "b", tool_calls=tool_call("{}"))],
            [*_TOLD, message("assistant", "b", tool_calls=tool_call('{"x": 1}')), _ANSWER, _NEXT],
            "rewrite",
        ),
        (
            [*_TOLD, *[message("user", "go")] * 2],
            [_TOLD[0], message("user", "x"), message("user", "go"), _ANSWER, _NEXT],
            "summary",
        ),
        ([*_TOLD, message("assistant", None)], [*_TOLD, message("assistant", ""), _ANSWER, _NEXT], "template"),
        ([*_TOLD, message("assistant", 5)], [*_TOLD, message("assistant", 6), _ANSWER, _NEXT], "rewrite"),
        ([*_TOLD, message("assistant", "b", reasoning="why")], [*_TOLD, message("assistant", "b"), _ANSWER, _NEXT], "reasoning"),
        (
            [*_TOLD, message("assistant", "b", reasoning="why")],
            [*_TOLD, message("assistant", "b", reasoning="why"), _ANSWER, _NEXT],
            "template",
        ),
    ],
)
def test_what_became_of_messages_has_a_class(before: list[dict[str, Any]], now: list[dict[str, Any]], kind: str) -> None:
    """A message that is cut at either end, put in between, asked otherwise, or sent back without its reasoning."""
    h = History()
    h.call([1, 2, 5], [10], request={"model": "m", "messages": before}, response="a")
    h.call([1, 2, 6, 10, 50], [20], request={"model": "m", "messages": now})
    first, second = h.chain().nodes
    assert (first.kind, first.deleted, first.inserted, second.kind) == ("start", 0, 0, kind)


@pytest.mark.parametrize(("role", "source"), [("tool", "tool"), ("function", "tool"), ("user", "prompt")])
def test_what_is_new_in_a_prompt_is_of_its_last_message(role: str, source: str) -> None:
    h = History()
    h.call([1, 2], [10], request={"model": "m", "messages": _TOLD}, response="a")
    h.call([1, 2, 10, 50], [20], request={"model": "m", "messages": [*_TOLD, _ANSWER, message(role, "r")]})
    assert [s.source for s in h.chain().nodes[1].view.segments] == ["prompt", "sampled", source]


@pytest.mark.parametrize(
    ("tool", "ok", "conversations"), [("transfer_to_a", True, 1), ("transfer_to_a", False, 2), ("ask_b", True, 2)]
)
def test_a_hand_off_goes_on_with_the_conversation(tool: str, ok: bool, conversations: int) -> None:
    """What is inside of a hand-off continues the conversation; what an agent does as a tool, or behind a hand-off that failed, is its own."""
    h = History()
    h.call([1], [10], acted=False)
    action = h.add(Action, step=0, name=tool, ok=ok, parent="r2")
    h.add(StepStart, step=1, parent=action.id)
    h.add(LLMCall, step=1, model="m", response="x", prompt_token_ids=[1, 10, 5], tokens=[Tokens(token_ids=[11])])
    assert len(chains(h.trajectory)) == conversations


def test_a_hand_off_inside_of_a_tool_stays_inside() -> None:
    """An agent that works as a tool hands over: the next agent goes on with that conversation, however often, and not with the run's."""
    h = History()
    h.call([1], [10], acted=False)
    parent = h.add(Action, step=0, name="ask_b", parent="r2").id
    for step, name in ((1, "transfer_to_a"), (2, "transfer_to_a"), (3, None)):
        began = h.add(StepStart, step=step, parent=parent)
        prompt = [1, 10, 5, *range(11, 10 + step)]
        h.add(LLMCall, step=step, model="m", response="x", prompt_token_ids=prompt, tokens=[Tokens(token_ids=[10 + step])])
        if name is not None:
            parent = h.add(Action, step=step, name=name, ok=True, parent=began.id).id
    assert [len(chain.nodes) for chain in chains(h.trajectory)] == [1, 3]


def test_what_is_in_no_step_and_in_no_tool_is_of_the_runs_conversation() -> None:
    """A call before the first step goes on in it; what two tools ask of one agent are two conversations beside it."""
    h = History()
    h.add(LLMCall, model="m", response="x", prompt_token_ids=[1], tokens=[Tokens(token_ids=[10])])
    h.call([1, 10, 5], [11])
    for step in (1, 2):
        action = h.add(Action, step=0, name="ask_b", parent="r3")
        h.add(StepStart, step=step, parent=action.id)
        h.add(LLMCall, step=step, model="m", response="x", prompt_token_ids=[step], tokens=[Tokens(token_ids=[20])])
    assert [[n.prompt[0] for n in chain.nodes] for chain in chains(h.trajectory)] == [[1, 1], [1], [2]]


def test_the_lineage_of_one_agent_has_no_other_ones_calls() -> None:
    h = History()
    for agent in ("a", "b", None):
        h.call([1], [10], agent=agent)
    assert [[n.call.agent for n in chain.nodes] for chain in chains(h.trajectory, agent="b")] == [["b"]]
    assert [[n.call.agent for n in chain.nodes] for chain in chains(h.trajectory, agent="a")] == [["a", None]]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [((0, 2), (2, 4), False), ((0, 2), (1, 3), True), ((0, 3), (1, 2), True), ((0, 3), (2, 2), True), ((0, 2), (2, 2), False)],
)
def test_edits_of_the_same_tokens_overlap(one: tuple[int, int], other: tuple[int, int], overlap: bool, turned: bool) -> None:
    """Of two edits of one answer the later is not used where both replace a token, or where one puts something between two tokens
    that the other replaces; edits side by side are both used."""
    h = History()
    call = h.call([1], [10, 11, 12, 13])
    first, second = (other, one) if turned else (one, other)
    shown = [10, 11, 12, 13]
    for at, (start, stop) in sorted(enumerate((first, second)), key=lambda edit: edit[1], reverse=True):
        if at == 0 or not overlap:
            shown[start:stop] = [77 + at]
    for at, (start, stop) in enumerate((first, second)):
        edit = h.edit(call, [Kept(0, start), Literal([77 + at]), Kept(stop, 4)])
    h.call([1, *shown, 50], [20])
    assert ("overlaps" in h.chain().problems.get(edit.id, "")) == overlap


def test_other_tokens_for_an_answer_are_a_retokenization() -> None:
    """The same messages, other ids in the answer and the same after it."""
    h = History()
    h.call([1, 2, 5], [10, 11, 12], **asked(("user", "q")))
    h.call([1, 2, 5, 13, 12, 50], [20], **asked(("user", "q"), ("assistant", "a"), ("user", "r")))
    assert h.chain().nodes[1].kind == "retokenization"
    assert h.rows("env", deleted=False)[0] == ([1, 2, 5, 10, 11, 12], "000111")  # nothing was cut out of it


# --- choices, images, adapters, retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [[], [10]])
def test_the_choice_that_was_continued_is_the_longest_that_fits(first: list[int]) -> None:
    """An empty answer, or one that another begins with, is not taken for the one that went on."""
    h = History()
    h.call([1, 2], first, [10, 11])
    h.call([1, 2, 10, 11, 50], [20])
    assert h.chain().nodes[0].continued == 1
    assert h.rows("env") == [([1, 2, 10, 11, 50, 20], "001101")]


def test_another_image_is_another_context() -> None:
    """The same ids after another image: what was sampled under the first is trained in a row of its own, and is stale after."""
    h = History()
    h.call([1, 2], [10, 11], inputs=["one"])
    h.call([1, 2, 10, 11, 50], [20], inputs=["other"])
    assert h.chain().nodes[1].kind == "rewrite"
    assert h.rows("env") == [([1, 2, 10, 11], "0011"), ([1, 2, 10, 11, 50, 20], "000001")]
    more = History()
    more.call([1, 2], [10, 11], inputs=["one"])
    more.call([1, 2, 10, 11, 50], [20], inputs=["one", "two"])
    assert more.rows("env") == [([1, 2, 10, 11, 50, 20], "001101")]


def test_a_question_about_another_image_is_no_retry() -> None:
    """The same ids with another image, or under another adapter, are not the same question asked again."""
    for about in ({"inputs": ["other"]}, {"adapter": "b"}):
        h = History()
        h.call([1, 2], [10, 11], acted=False, inputs=["one"])
        h.call([1, 2], [20], **{"inputs": ["one"], **about})
        assert h.chain().discarded == [] and h.rows("env") == [([1, 2, 10, 11], "0011"), ([1, 2, 20], "001")]


def test_an_adapter_that_changes_ends_the_row_whatever_else_changed() -> None:
    """Beside an edit, too: nothing of what the first adapter sampled is lost as stale."""
    h = History()
    h.edit(h.call([1, 2], [10, 11, 12], adapter="a"), [Kept(0, 2)])
    h.call([1, 2, 10, 11, 50], [20], adapter="b")
    assert h.chain().nodes[1].kind == "adapter"
    assert h.rows("mask") == [([1, 2, 10, 11, 12], "00111"), ([1, 2, 10, 11, 50, 20], "000001")]


def test_an_answer_that_was_discarded_is_gone_on_with_by_none() -> None:
    """A try that was asked again is no answer that a later prompt begins with, though its tokens stand there."""
    h = History()
    h.call([1, 2], [10], acted=False)
    h.call([1, 2], [20])
    h.call([5, 6], [7])
    h.call([1, 2, 10, 50], [30])
    assert h.rows("env") == [([1, 2, 20], "001"), ([5, 6, 7], "001"), ([1, 2, 10, 50, 30], "00001")]


def test_an_older_answer_of_another_adapter_is_gone_on_with_by_none() -> None:
    """A prompt that begins with an answer before the last leaves that answer a row of its own, where its adapter was another."""
    h = History()
    h.call([1, 2], [10, 11], adapter="a")
    h.call([5, 6], [7], adapter="b")
    h.call([1, 2, 10, 11, 50], [20], adapter="b")
    assert h.rows("env") == [([1, 2, 10, 11], "0011"), ([5, 6, 7], "001"), ([1, 2, 10, 11, 50, 20], "000001")]


def test_what_another_adapter_sampled_is_stale_in_the_last_view(
    store: odograph.Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """`odograph lineage` and the check `stale_tokens` tell tokens that a replaced adapter sampled from the last one's own."""
    with store.record(task="t", agent="a", model="m") as run:
        run.step().llm_call(model="m", prompt_token_ids=[1, 2], token_ids=[10, 11], response="x", adapter="a")
        run.step().llm_call(model="m", prompt_token_ids=[1, 2, 10, 11, 50], token_ids=[20], response="y", adapter="b")
    assert cli(["--store", str(store.root), "lineage", run.id, "--json"]) == 0
    (chain,) = json.loads(capsys.readouterr().out)["chains"]
    view = [(s["source"], s["ids"], s["standing"]) for s in chain["view"]]
    assert view == [
        ("prompt", [1, 2], None),
        ("sampled", [10, 11], "stale"),
        ("prompt", [50], None),
        ("sampled", [20], "exact"),
    ]


def test_what_another_image_was_shown_with_is_stale_in_the_last_view(
    store: odograph.Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same token ids stand for another prompt where another image stands behind them: what was sampled before is stale."""
    with store.record(task="t", agent="a", model="m") as run:
        run.step().llm_call(model="m", prompt_token_ids=[1, 2], token_ids=[10], response="x", inputs=["sha256:a"])
        run.step().llm_call(model="m", prompt_token_ids=[1, 2, 10, 50], token_ids=[20], response="y", inputs=["sha256:b"])
    assert cli(["--store", str(store.root), "lineage", run.id, "--json"]) == 0
    (chain,) = json.loads(capsys.readouterr().out)["chains"]
    assert [s["standing"] for s in chain["view"] if s["source"] == "sampled"] == ["stale", "exact"]


def test_choices_of_one_number_are_all_accounted_for() -> None:
    """A backend that numbers all choices 0 hides none of their tokens; ids that are no numbers leave the call out."""
    choice = {"index": 0, "message": {"content": "x"}}
    body = {"prompt_token_ids": [1], "choices": [choice | {"token_ids": [2]}, choice | {"token_ids": [3, 4]}]}
    h = History()
    h.add(StepStart, step=0, parent="r1")
    h.add(LLMCall, step=0, model="m", response=body)
    found = samples([h.trajectory])
    assert [r.token_ids for r in found] == [[1, 2]] and found.report.sampled == 3
    for bad in ({"prompt_token_ids": ["a"]}, {"choices": [choice | {"token_ids": [2, None, "q"]}]}):
        h = History()
        h.add(StepStart, step=0, parent="r1")
        h.add(LLMCall, step=0, model="m", response=body | bad)
        found = samples([h.trajectory])
        assert list(found) == [] and found.report.calls_left_out == {"token ids that are no whole numbers": 1}


def test_choices_are_told_by_their_numbers_in_whatever_order_they_come() -> None:
    choices = [{"index": n, "message": {"content": "x"}, "token_ids": [n + 2]} for n in (1, 0)]
    h = History()
    h.add(StepStart, step=0, parent="r1")
    h.add(LLMCall, step=0, model="m", response={"prompt_token_ids": [1], "choices": choices})
    assert h.chain().nodes[0].responses == {0: [2], 1: [3]}


# --- text between tokens ------------------------------------------------------------------------------------------------------


class Bytes:
    """A tokenizer of bytes, and of some words that it prefers: a character may be four tokens, or a part of one."""

    END = 999
    size = 1000

    def __init__(self) -> None:
        self._words = [bytes([n]) for n in range(256)] + [w.encode() for w in ("hello", " world", "ab", "😀")]

    def decode(self, ids: list[int]) -> str:
        return b"".join(self._words[i] for i in ids if i != self.END).decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        return self.offsets(text)[0]

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        raw = text.encode()
        place = [n for n, c in enumerate(text) for _ in c.encode()]
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        at = 0
        while at < len(raw):
            id = max((n for n, w in enumerate(self._words) if raw.startswith(w, at)), key=lambda n: len(self._words[n]))
            ids.append(id)
            spans.append((place[at], place[at + len(self._words[id]) - 1] + 1))
            at += len(self._words[id])
        return ids, spans


def edited(text: str, ids: list[int], runs: list[Kept | Literal], **fields: Any) -> tuple[list[tuple[str, list[int]]], Chain]:
    h = History()
    message = {"content": text, **fields.pop("message", {})}
    h.edit(h.call([1], ids, response={"choices": [{"index": 0, "message": message}]}), runs, unit="char", **fields)
    chain = h.chain(Bytes())
    return [(s.source, s.ids) for s in chain.last.segments][1:], chain


@pytest.mark.parametrize("text", ["😀ab", "a😀b", "ab😀", "😀😀", "é😀x"])
def test_characters_of_several_tokens_are_kept_or_gone_whole(text: str) -> None:
    """Tokens that hold parts of one character stay together, wherever the text is cut: the ids that are left say the text that
    is left, whether they are those that the tokenizer would have chosen or not."""
    by = Bytes()
    for ids in ([*text.encode(), by.END], by.encode(text)):
        for cut in range(len(text)):
            _, chain = edited(text, ids, [Kept(0, cut), Literal(text="!"), Kept(cut + 1, len(text))])
            assert not chain.problems
            assert by.decode(chain.last.ids[1:]) == text[:cut] + "!" + text[cut + 1 :]
    assert offsets_of([*"a😀".encode()], "a😀", by) == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2)]


def test_tokens_at_the_edge_of_kept_text_are_retokenized() -> None:
    """What the model wrote in a token that is cut is `retokenized`; what the editor wrote is `inserted`; whole tokens stay."""
    made, _ = edited("hello world", Bytes().encode("hello world"), [Kept(0, 4), Literal(text="ab"), Kept(5, 11)])
    assert made == [("retokenized", [*b"hell"]), ("inserted", [258]), ("sampled", [257])]
    made, _ = edited("hello world", Bytes().encode("hello world"), [Kept(2, 11)])
    assert made == [("retokenized", [*b"llo"]), ("sampled", [257])]
    made, _ = edited("hello world", Bytes().encode("hello world"), [Kept(0, 8)])
    assert made == [("sampled", [256]), ("retokenized", [*b" wo"])]


@pytest.mark.parametrize(
    ("kept", "left"),
    [([(0, 2)], [*b"ab"]), ([(2, 4)], [*b"cd"]), ([(1, 4)], [*b"b", 999, *b"cd"]), ([(0, 2), (2, 4)], [*b"abcd"])],
)
def test_a_token_that_shows_no_text_is_kept_where_kept_text_stands_on_both_sides(
    kept: list[tuple[int, int]], left: list[int]
) -> None:
    """A mark in the midst of an answer goes with what was changed beside it: nobody said that it stays."""
    ids = [*b"ab", Bytes.END, *b"cd"]
    _, chain = edited("abcd", ids, [Literal(text="!"), *(Kept(*k) for k in kept)])
    assert not chain.problems and chain.last.ids == [1, *b"!", *left]


def test_edits_of_both_channels_of_one_answer() -> None:
    """Reasoning and content that say the same: each edit changes its own, whichever came first."""
    ids = [*b"4 so 4", Bytes.END]
    for order in (1, -1):
        h = History()
        message = {"content": "4", "reasoning_content": "4"}
        call = h.call([1], ids, response={"choices": [{"index": 0, "message": message}]})
        for channel, text in (("content", "5"), ("reasoning", "9"))[::order]:
            h.edit(call, [Literal(text=text)], unit="char", channel=channel)
        chain = h.chain(Bytes())
        assert chain.problems == {} and Bytes().decode(chain.last.ids[1:]) == "9 so 5"


def test_an_edit_of_text_counts_from_where_the_text_begins() -> None:
    """The places of an edit of the content count from the content's first character, whatever reasoning the tokens say before it."""
    made, chain = edited("hello world", Bytes().encode("sohello world"), [Kept(5, 11)], message={"reasoning_content": "so"})
    assert not chain.problems
    assert Bytes().decode([id for _, ids in made for id in ids]) == "so world"
    made, _ = edited("hello world", Bytes().encode("sohello world"), [Kept(0, 5)], message={"reasoning_content": "so"})
    assert made == [("sampled", [*b"so", 256])]


def test_ids_in_an_edit_of_text_are_the_text_that_they_say() -> None:
    made, chain = edited("hello world", Bytes().encode("hello world"), [Kept(0, 6), Literal(Bytes().encode("you"))])
    assert not chain.problems and Bytes().decode([id for _, ids in made for id in ids]) == "hello you"


def test_an_edit_of_text_needs_no_tokenizer_where_the_backend_told_the_text_of_each_token() -> None:
    """Whole tokens are found in an edit of the text by the texts that stand beside their logprobs."""
    h = History()
    told = [{"token": token, "logprob": -0.5} for token in ("hello", " world", "!")]
    choice = {"index": 0, "message": {"content": "hello world!"}, "logprobs": {"content": told}}
    h.edit(h.call([1], [10, 11, 12], response={"choices": [choice]}), [Kept(0, 5), Kept(11, 12)], unit="char")
    assert h.chain().problems == {} and h.chain().last.ids == [1, 10, 12]


def test_ids_in_an_edit_of_text_need_a_tokenizer() -> None:
    """Nobody says the text that they are: the edit is not used, and no token is lost silently."""
    h = History()
    told = [{"token": token, "logprob": -0.5} for token in ("hello", "!")]
    choice = {"index": 0, "message": {"content": "hello!"}, "logprobs": {"content": told}}
    edit = h.edit(h.call([1], [10, 11], response={"choices": [choice]}), [Kept(0, 5), Literal([12])], unit="char")
    assert h.chain().problems == {edit.id: "it puts token ids into text, and no tokenizer says what they say"}
    assert h.chain().last.ids == [1, 10, 11]


@pytest.mark.parametrize("other", [{"call": "r9"}, {"choice": 1}])
def test_an_edit_of_text_keeps_text_of_its_own_answer_alone(other: dict[str, Any]) -> None:
    """Where each token of another answer's text stands is not known here: the edit is not used, and says so."""
    _, chain = edited("hello world", Bytes().encode("hello world"), [Kept(0, 5, **other)])
    assert list(chain.problems.values()) == ["it keeps text of another response"] and len(chain.last.ids) == 3


def test_what_stands_behind_a_change_nobody_declared_is_stale() -> None:
    """A prompt that changed to the left of an answer: in the last view the answer's tokens were sampled under other ones."""
    h = History()
    h.call([1], [10, 11, 12])
    h.call([9, 10, 11, 12, 50], [20])
    assert h.rows("mask") == [([9, 10, 11, 12, 50, 20], "000001")]


def test_an_edit_of_text_that_is_none_is_said(store: odograph.Store) -> None:
    """Of tool calls tokens alone can be edited; a channel that there is none of is refused; runs outside of the text are no edit."""
    made, chain = edited("4", [*b"4 {x}"], [Literal(text="5")], channel="tool_calls")
    assert made == [("sampled", [*b"4 {x}"])] and "tool_calls" in next(iter(chain.problems.values()))
    _, chain = edited("abc", [*b"abc"], [Kept(-2, 2)])
    assert "of a text of 3 characters" in next(iter(chain.problems.values()))
    with store.record(task="t") as run, run.step() as step:
        call = step.llm_call(model="m", response="text")
        with pytest.raises(TypeError, match="channel is one of content, reasoning, tool_calls, not 'colour'"):
            step.edit(call, channel="colour")
        step.edit(call, channel="reasoning", on="text").delete(0, 1)
        step.edit(call, on="tokens").delete(0, 1)
    why = [e.rejected for e in store.trajectory(run.id).all_edits]
    assert why == ["choice 0 has no text of reasoning to edit", "choice 0 has no token ids to edit"]


# --- time ---------------------------------------------------------------------------------------------------------------------


def sliding(calls: int, *, window: bool) -> Trajectory:
    """Answers of 20 tokens; with a window, the oldest 40 tokens behind the system prompt are gone at each call."""
    chance = random.Random(calls)
    h = History()
    context = [chance.randrange(50_000) for _ in range(2000)]
    for _ in range(calls):
        answer = [chance.randrange(50_000) for _ in range(20)]
        h.call(list(context), answer)
        context += [*answer, *(chance.randrange(50_000) for _ in range(20))]
        if window:
            context = context[:100] + context[140:]
    return h.trajectory


def test_a_window_that_slides_costs_what_its_calls_cost() -> None:
    """Each prompt has lost its oldest tokens: eight times the calls with a context of one size take about eight times as long."""

    def seconds(calls: int) -> float:
        t = sliding(calls, window=True)
        (chain,), cost = costs(lambda: list(chains(t)), rounds=3)
        assert {n.kind for n in chain.nodes} == {"start", "truncation"}
        assert all((n.deleted, n.inserted) == (40, 0) for n in chain.nodes[1:])
        return cost

    assert seconds(800) < 24 * seconds(100)


def test_1000_calls_in_one_conversation() -> None:
    """A context that grows to 40,000 tokens over 1,000 calls is one row, at the cost of some copies of the prompts."""
    t = sliding(1000, window=False)
    (row,), cost = costs(lambda: list(samples([t], edits="env")))
    assert sum(row.mask) == 20_000
    _, copies = costs(lambda: [list(call.prompt_token_ids or ()) for call in t.llm_calls])
    assert cost < 40 * copies  # checks of the row included


def test_a_function_that_edits_a_long_answer_does_not_hold_up_its_agent() -> None:
    """What was changed of 40,000 characters, here and there or all of them, is found at a cost that grows with the text, and gives the new text."""
    chance = random.Random(3)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "then", "some", "more"]
    old = " ".join(chance.choice(words) for _ in range(9000))
    here = old[:20_000] + "EDIT" + old[20_007:]
    for new in (here, old.replace("fox", "cat", 3), old[500:], "", " ".join(chance.choice(words) for _ in range(9000))):
        runs, whole = costs(partial(difference, old, new))
        _, part = costs(partial(difference, old[: len(old) // 4], new[: len(new) // 4]), rounds=3)
        assert whole < 12 * max(part, 0.01)
        assert "".join(old[r.start : r.stop] if isinstance(r, Kept) else r.text or "" for r in runs) == new
    assert [r for r in difference(old, here) if isinstance(r, Literal)] == [Literal(text="EDIT")]


# --- laws that a break of the source found without a test ---------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), max_size=14), st.lists(st.integers(0, 5), max_size=14))
def test_a_difference_is_exact_and_keeps_no_token_twice(old: list[int], new: list[int]) -> None:
    """The runs of an undeclared edit make the new ids; each token of the answer is kept once at most, so none is trained twice."""
    kept: list[int] = []
    made: list[int] = []
    for run in difference(old, new):
        if isinstance(run, Kept):
            kept += range(run.start, run.stop)
            made += old[run.start : run.stop]
        else:
            made += run.ids or []
    assert made == new
    assert len(set(kept)) == len(kept)


def test_a_sentence_that_was_moved_is_kept() -> None:
    """Text that stands elsewhere now is the same tokens, from its first character to its last."""
    first, second = "Paris is in France. ", "The answer has two sentences."
    assert difference(first + second, second + first) == [Kept(20, 49), Kept(0, 20)]


def test_what_an_edit_cut_of_the_last_answer_is_not_trained_in_a_demonstration() -> None:
    """No call comes after the edit: with `deleted=False`, as SFT has it, its cut tokens are not trained, and are counted."""
    h = History()
    h.edit(h.call([1, 2], [10, 11, 12, 13]), [Kept(0, 2)])
    assert h.rows("env") == [([1, 2, 10, 11, 12, 13], "001111")]
    assert h.rows("env", deleted=False) == [([1, 2, 10, 11, 12, 13], "001100")]
    h = History()
    h.edit(h.call([1], [10, 11], [12, 13]), [Kept(0, 1)], choice=1)
    assert h.rows("env", deleted=False) == [([1, 12, 13], "010")]
    for left, mask in (([Kept(2, 4)], "000011"), ([Kept(0, 1), Kept(3, 4)], "001001")):
        h = History()
        h.edit(h.call([1, 2], [10, 11, 12, 13]), left)
        assert h.rows("env", deleted=False) == [([1, 2, 10, 11, 12, 13], mask)]


def test_an_answer_that_an_edit_took_out_whole_is_not_trained_in_a_demonstration() -> None:
    h = History()
    h.edit(h.call([1, 2], [10, 11]), [])
    h.call([1, 2, 50], [20])
    assert h.rows("env", deleted=False) == [([1, 2, 50, 20], "0001")]


def test_what_was_cut_later_of_an_answer_that_was_edited_is_not_trained() -> None:
    """An edit put a token into an answer; a later prompt has the answer up to there. What stands behind it was cut, too."""
    h = History()
    h.edit(h.call([1], [10, 11, 12, 13]), [Kept(0, 2), Literal([77]), Kept(2, 4)])
    h.call([1, 10, 11, 77, 12, 13, 50], [20])
    h.call([1, 10, 11, 77, 50, 20, 60], [30])
    assert [(n.kind, n.deleted) for n in h.chain().nodes] == [("start", 0), ("declared", 0), ("truncation", 2)]
    assert h.rows("mask", deleted=False) == [([1, 10, 11, 77, 50, 20, 60, 30], "01100001")]
    assert h.rows("env", deleted=False)[0] == ([1, 10, 11, 12, 13], "01100")
    h = History()
    h.edit(h.call([1], [10, 11]), [Kept(0, 2), Literal([77])])
    h.call([1, 10, 11, 77, 50], [20])
    h.call([1, 77, 50, 20, 60], [30])  # what an edit put into the answer is all that is left of it
    assert h.rows("env", deleted=False) == [([1, 10, 11, 77, 50, 20], "000001"), ([1, 77, 50, 20, 60, 30], "000001")]


def test_what_was_put_between_tokens_of_an_answer_stands_in_the_answer() -> None:
    h = History()
    call = h.call([1], [10, 11, 12, 13])
    h.call([1, 10, 99, 13, 50], [20])
    (put,) = [s for s in h.chain().nodes[1].view.segments if s.ids == [99]]
    assert put.response == (call.id, 0)


def test_a_context_that_begins_anew_has_nothing_put_in_between() -> None:
    """All tokens of the one before are gone; what stands there now came after them."""
    h = History()
    h.call([1, 2], [10])
    h.call([9, 8], [20])
    node = h.chain().nodes[1]
    assert (node.kind, node.deleted, node.inserted) == ("rewrite", 3, 0)


def test_what_was_put_behind_an_answer_stands_in_none() -> None:
    h = History()
    h.call([1], [10, 11])
    h.call([1, 10, 11, 50], [20])
    h.call([1, 10, 11, 99, 50, 20, 60], [30])
    (put,) = [s for s in h.chain().nodes[2].view.segments if s.ids == [99]]
    assert put.response is None


@pytest.mark.parametrize(
    "runs", [[Kept(0, 1), Kept(2, 3), Kept(4, 6)], [Kept(2, 3), Kept(1, 2), Kept(3, 4)], [Kept(2, 3), Kept(0, 1), Kept(1, 2)]]
)
def test_what_is_left_of_an_answer_says_where_it_stood_there(runs: list[Kept | Literal]) -> None:
    """Each token that is left is told by its number in the answer; neighbours there that are neighbours here are one segment."""
    h = History()
    h.edit(h.call([1], [10, 11, 12, 13, 14, 15]), runs)
    left = [s for s in h.chain().last.segments if s.source == "sampled"]
    numbers = [n for r in runs if isinstance(r, Kept) for n in range(r.start, r.stop)]
    assert [(s.start + n, id) for s in left for n, id in enumerate(s.ids)] == [(n, 10 + n) for n in numbers]
    assert len(left) == 1 + sum(b != a + 1 for a, b in itertools.pairwise(numbers))


def test_the_last_view_has_the_first_choice_whatever_was_edited_before() -> None:
    """An edit of an older call's second choice says nothing of which choice of the last call goes on."""
    h = History()
    call = h.call([1], [10], [11])
    h.call([1, 11, 5], [20], [21])
    h.edit(call, [Literal([77])], choice=1)
    assert h.chain().last.ids == [1, 77, 5, 20]


def test_tokens_that_an_edit_moved_name_it_and_those_before_do_not() -> None:
    h = History()
    call = h.call([1], [10, 11, 12, 13])
    edit = h.edit(call, [Kept(0, 1), Kept(2, 4), Kept(1, 2)])
    h.call([1, 10, 12, 13, 11, 50], [20])
    moved = [(s.ids, s.edit) for s in h.chain().nodes[1].view.segments if s.source == "sampled"]
    assert moved == [([10], None), ([12, 13], edit.id), ([11], edit.id)]


def test_a_prompt_that_goes_on_with_none_exactly_is_of_the_closest_thread() -> None:
    """Two choices of a call were gone on with; then the first conversation goes on with other tokens for an answer."""
    h = History()
    calls = [h.call([1], [10], [11]), h.call([1, 10, 5], [20]), h.call([1, 11, 6], [21]), h.call([1, 10, 5, 99, 60], [22])]
    numbers = {call.id: n for n, call in enumerate(calls)}
    assert [[numbers[node.id] for node in thread.nodes] for thread in h.chain().threads] == [[0, 1, 3], [2]]
    node = h.chain().nodes[3]
    assert (node.kind, node.deleted, node.inserted) == ("truncation", 1, 0)


def test_of_two_choices_that_a_prompt_has_nothing_of_the_edited_one_was_continued() -> None:
    h = History()
    h.edit(h.call([1], [10, 11], [20, 21]), [Literal([77]), Kept(1, 2)], choice=1)
    h.call([1, 99, 50], [30])
    assert h.chain().nodes[0].continued == 1


def test_what_is_no_node_says_why() -> None:
    """A call that failed and one without ids of its answer differ; a call that failed with an answer's ids has its place."""
    h = History()
    h.call([1], [10], error="the stream broke")
    h.call([1, 10, 5])
    h.call([1, 10, 5], error="refused")
    chain = h.chain()
    assert len(chain.nodes) == 1
    assert [why for _, why in chain.left_out] == ["no token ids of the response", "a call that failed"]


@pytest.mark.parametrize("first", [[Kept(2, 4), Kept(0, 2)], [Kept(0, 3)]])
def test_an_edit_that_moves_tokens_overlaps_each_that_came_before(first: list[Kept | Literal]) -> None:
    """The first one counts, a move or a change of one place."""
    h = History()
    call = h.call([1], [10, 11, 12, 13])
    kept, lost = h.edit(call, first), h.edit(call, [Kept(1, 4), Kept(0, 1)])
    chain = h.chain()
    assert chain.last_edits == [kept.id] and chain.problems == {lost.id: f"it overlaps edit {kept.id} of the same response"}


def test_an_edit_that_changes_nothing_overlaps_none() -> None:
    """Beside an edit that moves what the model wrote, too."""
    h = History()
    call = h.call([1], [10, 11, 12, 13])
    h.edit(call, [Kept(2, 4), Kept(0, 2)])
    h.edit(call, [Kept(0, 4)])
    h.call([1, 12, 13, 10, 11, 50], [20])
    assert h.chain().problems == {} and h.chain().nodes[1].kind == "declared"


def test_an_edit_of_an_answer_that_was_asked_again_is_said_to_change_nothing() -> None:
    h = History()
    edit = h.edit(h.call([1], [10, 11], acted=False), [Kept(0, 1)])
    h.call([1], [12, 13])
    h.call([1, 12, 13, 50], [20])
    assert h.chain().problems == {edit.id: f"its call {edit.base} is none of this policy's with token ids, or was asked again"}


def test_edits_of_other_places_of_one_answer_are_both_kept() -> None:
    """An insertion behind a deletion overlaps nothing, whichever was made first, and whether a run names its own answer or none."""
    for turn, named in itertools.product((1, -1), (False, True)):
        h = History()
        call = h.call([1], [10, 11, 12, 13, 14, 15])
        kept = partial(Kept, call=call.id, choice=0) if named else Kept
        for runs in [[kept(3, 6)], [kept(0, 5), Literal([77]), kept(5, 6)]][::turn]:
            h.edit(call, runs)
        h.call([1, 13, 14, 77, 15, 50], [20])
        chain = h.chain()
        assert (chain.nodes[1].kind, chain.problems) == ("declared", {})


def matched(a: list[int], b: list[int]) -> int:
    """How many tokens are matched, each with an equal one, and none twice."""
    found = matches(a, b)
    pairs = [(i + k, j + k) for i, j, n in found for k in range(n)]
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(i < k and j < m for (i, j), (k, m) in itertools.pairwise(pairs))
    return len(pairs)


def test_a_few_tokens_between_two_changes_are_found() -> None:
    """What stands between two changes, too little to be found by itself, is found by its place."""
    a = list(range(1000, 4000))
    b = list(a)
    for n in (100, 104, 1500, 1504, 2950):
        b[n] = -n
    assert sum(n for _, _, n in matches(a, b)) == len(a) - 5
    a, b = ([x, *range(20), y, *range(100, 1100)] for x, y in ((-1, -2), (-3, -4)))
    assert matched(a, [*b, *range(2000, 2400)]) == 1020


@given(*[st.lists(st.integers(0, 3), max_size=12)] * 2)
def test_what_two_lists_share_is_in_both(a: list[int], b: list[int]) -> None:
    """Each run stands in both, behind the one before."""
    i = j = 0
    for at, there, n in matches(a, b):
        assert n and at >= i and there >= j and a[at : at + n] == b[there : there + n]
        i, j = at + n, there + n


def test_what_stands_behind_the_last_anchor_is_found_and_what_stands_alone() -> None:
    """Behind the last piece that occurs once, by its place; and of two long lists that share every other token, each of these."""
    same = list(range(1000, 3000))
    a, b = [5, *same, *[1] * 200, 9, *[1] * 200], [6, *same, *[1] * 200, 8, *[1] * 199, 3]
    assert sum(n for _, _, n in matches(a, b)) == 2000 + 200 + 199
    a, b = ([token for n in range(600) for token in (noise, 10_000 + n)] for noise in (-1, -2))
    assert sum(n for _, _, n in matches([*a, -1], [*b, -2])) == 600


def test_pieces_of_any_size_are_found_among_long_changes() -> None:
    """One piece that is all that two lists share; pieces of six, and behind them tokens that stand alone, between two long ones; a
    piece that begins in what another one has."""
    noise = [list(range(start, start + 600)) for start in range(10_000, 50_000, 10_000)]
    same = list(range(16))
    assert matched(noise[0] + same + noise[1], noise[2] + same + noise[3]) == 16
    a = list(range(2000))
    b = [-n if n in (0, 1999) or (100 <= n < 900 and n % 6 == 0) or (900 <= n < 1900 and n % 2) else n for n in a]
    b[0] = -1
    assert matched(a, b) == sum(x == y for x, y in zip(a, b, strict=True))
    long, end, more = list(range(100)), list(range(200, 205)), list(range(300, 340))
    a = noise[0] + long + end + more + noise[1]
    b = noise[2] + long + end + list(range(400, 430)) + end + more + noise[3]
    assert matched(a, b) == len(long + end + more)


def test_ids_beyond_64_bits_are_matched() -> None:
    """No tokenizer has such ids; content may, and a comparison never fails."""
    a = [(1 << 70) + n for n in range(2000)]
    assert sum(n for _, _, n in matches([1, *a, 2], [3, *a[:1000], 4, *a[1001:], 5])) == 1999


def test_a_row_without_a_token_to_train_says_what_was_deleted() -> None:
    """An edit took a whole answer away, and nothing else was sampled: the account names the edit's work, not a row that is missing."""
    h = History()
    h.edit(h.call([1, 2], [10, 11]), [])
    h.call([1, 2, 50], [], acted=False)
    found = samples([h.trajectory], edits="mask")
    assert (list(found), found.report.dropped, found.report.left_out) == ([], {"deleted": 2}, {"no token to train": 1})


def test_what_was_sampled_is_shown_with_its_own_logprobs() -> None:
    """A part of an answer that an edit left has the logprobs of that part, and what was not sampled has none."""
    h = History()
    call = h.call([1, 2], [10, 11, 12])
    at = h.records.index(call)
    h.records[at] = replace(call, tokens=[Tokens(token_ids=[10, 11, 12], logprobs=[-0.1, -0.2, -0.3])])
    h.edit(call, [Kept(1, 2), Literal([99])])
    h.call([1, 2, 11, 99, 5], [20])
    shown = [(part["source"], part["ids"], part["logprobs"]) for part in lineage(h.chain())["view"]]
    assert ("sampled", [11], [-0.2]) in shown and ("sampled", [20], [-0.5]) in shown
    assert all(logprobs is None for source, _, logprobs in shown if source != "sampled")
