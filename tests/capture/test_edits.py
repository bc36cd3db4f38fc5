"""What a record says of an edit: what each word leaves, what is refused, and what an edit of redacted text may tell."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy
import pytest

import odograph
from odograph import Kept, Literal
from odograph.codec import content_hash
from odograph.types import Edit


class Word(StrEnum):
    NEW = "new"


def left(edit: Edit, base: Any) -> Any:
    """What an edit makes of its base."""
    made = base[:0]
    for run in edit.result:
        made += (
            base[run.start : run.stop] if isinstance(run, Kept) else (run.ids if isinstance(base, list) else run.text) or base[:0]
        )
    return made


def one_call(store: odograph.Store, base: Any) -> tuple[Any, Any, str]:
    with store.record(task="t") as run:
        given: dict[str, Any] = {"response": base} if isinstance(base, str) else {"response": "a", "token_ids": base}
        return run, run.llm_call(model="m", messages=[], **given), run.id


@pytest.mark.parametrize("base", ["abcde", [1, 2, 3, 4, 5]])
def test_each_word_leaves_what_a_list_would_be(store: odograph.Store, base: Any) -> None:
    """Every place and range of a text and of ids, also those at the ends and the empty ones."""
    new = "xy" if isinstance(base, str) else [8, 9]
    run, call, id = one_call(store, base)
    run.edit(call).insert(0, Literal([8, 9], "xy"))
    expected = [new + base]
    for start, stop in combinations_with_replacement(range(6), 2):
        run.edit(call).delete(start, stop)
        run.edit(call).replace(start, stop, new)
        expected += [base[:start] + base[stop:], base[:start] + new + base[stop:]]
        for to in range(6):
            run.edit(call).move(start, stop, to)
            rest = base[:start] + base[stop:]
            at = to if to <= start else max(to - (stop - start), start)
            expected.append(rest[:at] + base[start:stop] + rest[at:])
    for at in range(6):
        run.edit(call).insert(at, new)
        run.edit(call).truncate(at)
        expected += [base[:at] + new + base[at:], base[:at]]
    found = store.trajectory(id).edits
    assert [left(edit, base) for edit in found] == expected
    assert {(edit.rejected, edit.base_hash, edit.unit) for edit in found} == {
        (None, content_hash(base), "char" if isinstance(base, str) else "token")
    }


@pytest.mark.parametrize(
    ("base", "new", "runs"),
    [
        ([1, 2, 3, 4], [4, 3, 2, 1], [Kept(3, 4), Kept(2, 3), Kept(1, 2), Kept(0, 1)]),
        ([1, 2, 3, 4, 5, 6], [9, 4, 5, 6, 1, 2, 3], [Literal([9]), Kept(3, 6), Kept(0, 3)]),
        ("a" * 12 + "b" * 12, "b" * 12 + "a" * 12, [Kept(12, 24), Kept(0, 12)]),
        ("a" * 11 + "b" * 11, "b" * 11 + "a" * 11, [Literal(text="b" * 11), Kept(0, 11)]),
        ("to be or not to be", "?or not to be, to be", []),
        ([7, 1, 1, 2, 1, 2, 3, 5], [1, 2, 3, 9, 1, 1, 2, 7, 5], []),
        ([], [1], [Literal([1])]),
        ("a", "", []),
    ],
)
def test_what_a_rewrite_says_is_what_it_makes(store: odograph.Store, base: Any, new: Any, runs: list[Any]) -> None:
    """What stood elsewhere is kept, and moved, where it is long enough: nothing is kept twice, and the runs make the new text."""
    run, call, id = one_call(store, base)
    run.edit(call).rewrite(new)
    (edit,) = store.trajectory(id).edits
    assert left(edit, base) == new
    assert edit.result == (runs or edit.result)
    kept = [n for r in edit.result if isinstance(r, Kept) for n in range(r.start, r.stop)]
    assert len(kept) == len(set(kept))


def test_an_edit_of_a_redacted_answer_tells_no_part(tmp_path: Path) -> None:
    """A part of a secret is no secret to the patterns: put into an answer that held the whole, it may tell what stood there."""
    secret = "sk-" + "proj-" + "Zk3v9QwLr2Xs7Tn5Bd8Hc4Yf"
    with odograph.open(tmp_path, redact=True) as store:
        _, call, id = one_call(store, f"the key is {secret}")
        with store.append(id) as late:
            late.edit(call).replace(0, 3, secret[10:18], reason="why")
        (edit,) = store.trajectory(id).edits
    assert (edit.result, edit.rejected, edit.reason) == ([], "it is of, or makes, what is redacted", "why")


def test_an_edit_names_the_base_that_it_is_of(store: odograph.Store) -> None:
    """The hash that a record states is the one that a later edit may give."""
    run, call, id = one_call(store, "abcde")
    run.edit(call).delete(0, 1)
    run.edit(call, base_hash=content_hash("abcde"), author="a", preferred=True).delete(1, 2, reason="r")
    run.edit(call, on="text", channel="reasoning").delete(0, 1)
    run.edit(call, on="tokens").delete(0, 1)
    first, second, thought, ids = store.trajectory(id).edits
    assert (first.rejected, first.preferred, second.base_hash) == (None, False, first.base_hash)
    assert (second.rejected, second.author, second.preferred, second.reason) == (None, "a", True, "r")
    assert (thought.channel, thought.rejected) == ("reasoning", "choice 0 has no text of reasoning to edit")
    assert ids.rejected == "choice 0 has no token ids to edit"
    for wrong, told in (
        ({"on": "words"}, "on is 'tokens' or 'text', not 'words'"),
        ({"channel": "x"}, "channel is one of content, "),
    ):
        with pytest.raises(TypeError, match=told):
            run.edit(call, **wrong)


def test_an_edit_takes_the_numbers_and_lists_that_a_call_takes(store: odograph.Store) -> None:
    """Positions and ids as numpy, a tuple or an enumeration has them are the plain ones, and a call stands for its id."""
    one, two = numpy.int64(1), numpy.int64(2)
    run, call, id = one_call(store, [1, 2, 3])
    text = run.llm_call(model="m", messages=[], response="abc")
    run.edit(call).delete(one, two)
    run.edit(call).move(one, two, numpy.int64(3))
    for new in (numpy.array([8, 9]), (8, 9), [numpy.int64(8), 9], Literal((8, 9))):  # type: ignore[arg-type]
        run.edit(call).insert(one, new)
    run.edit(call).rewrite(numpy.array([3, 9]))
    run.edit(text).rewrite(Word.NEW)
    run.edit(call, [Kept(one, two, call, numpy.int64(0)), Literal(text=Word.NEW)])  # type: ignore[arg-type]
    run.edit(call).delete(one, numpy.int64(9))
    found = store.trajectory(id).edits
    inserted = [Kept(0, 1), Literal([8, 9]), Kept(1, 3)]
    assert [edit.result for edit in found[:-1]] == [
        [Kept(0, 1), Kept(2, 3)], [Kept(0, 1), Kept(2, 3), Kept(1, 2)], *[inserted] * 4, [Kept(2, 3), Literal([9])],
        [Literal(text="new")], [Kept(1, 2, call.id, 0), Literal(text="new")],
    ]  # fmt: skip
    assert [edit.rejected for edit in found] == [None] * 9 + ["range [1, 9] of a base of 3 tokens"]
    assert not any(edit.extra for edit in found)


def test_an_edit_of_other_numbers_and_lists_is_refused(store: odograph.Store) -> None:
    """A record of one would say that the whole answer was taken out."""
    run, call, id = one_call(store, [1, 2, 3])
    edit = run.edit(call)
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: edit.delete(1.0, 2.0), "a position in an edit is a whole number, not float"),
        (lambda: edit.truncate(None), "a position in an edit is a whole number, not NoneType"),
        (lambda: edit.insert(0, ["a"]), "a token id of an edit is a whole number, not str"),
        (lambda: edit.rewrite([[1]]), "a token id of an edit is a whole number, not list"),
        (lambda: run.edit(call, [Kept("0", 1)]), "a position in an edit is a whole number, not str"),  # type: ignore[arg-type]
        (lambda: run.edit(call, [Kept(0, 1, choice="0")]), "the choice of a Kept run is a whole number, not str"),  # type: ignore[arg-type]
        (lambda: run.edit(call, [Kept(0, 1, 5)]), "the call of a Kept run is a record, .* not int"),  # type: ignore[arg-type]
        (lambda: run.edit(call, [Literal("ab")]), "token ids of an edit are a list of int, not str"),  # type: ignore[arg-type]
        (lambda: run.edit(call, [Literal(text=5)]), "the text of an edit is a string, not int"),  # type: ignore[arg-type]
    ]
    for wrong, told in refused:
        with pytest.raises(TypeError, match=f"^{told}$"):
            wrong()
    assert store.trajectory(id).edits == []


def test_an_edit_to_a_text_that_json_can_not_hold_is_rejected(store: odograph.Store) -> None:
    """It is kept as it was, and changes nothing: no record says that the whole answer was taken out."""
    run, call, id = one_call(store, "abc")
    run.edit(call).insert(1, "\ud800")
    (edit,) = store.trajectory(id).edits
    assert (edit.result, edit.rejected) == ([], "its text has half a surrogate pair")
    assert [part["run"] for part in edit.extra["invalid"]["result"]] == ["kept", "literal", "kept"]
