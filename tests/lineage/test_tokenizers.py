"""Edits of text, placed by a real tokenizer: a byte-level BPE made here, whose tokens may be parts of a character."""

from __future__ import annotations

import itertools
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import odograph
from odograph import Kept, Literal
from odograph.errors import InvalidInput, MissingExtra
from odograph.lineage import tokenizer
from odograph.lineage.texts import offsets_of

from ..llm_server import Answer, LLMServer
from .test_review import History

#: Of the 4 bytes of an emoji some are learned together, some not.
LEARNED = ["the answer is red and the colour is blue, hello world"] * 9 + ["I look 😀 and é 😀😀 日本", "don't\n\n  wait"] * 3


@cache
def bpe(trim: bool = False) -> Tokenizer:
    """`trim`: as RoBERTa's, it leaves the spaces that belong to a token out of its offsets."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learning = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=["<eos>"], show_progress=False)
    if trim:
        made.post_processor = processors.ByteLevel(trim_offsets=True)
    made.train_from_iterator(LEARNED, learning)
    return made


def as_bytes(text: str) -> list[int]:
    """A token a byte: ids that the tokenizer would not have chosen, as a model may sample them."""
    names = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return [bpe().token_to_id(c) for piece, _ in names for c in piece]


def test_a_tokenizers_own_marks_are_no_part_of_a_text() -> None:
    """A tokenizer that puts a mark before each text puts none into an edit; ids of marks that were sampled say no text."""
    made = Tokenizer.from_str(bpe().to_str())
    eos = made.token_to_id("<eos>")
    made.post_processor = processors.TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", eos)])
    by, plain = tokenizer(made), bpe().encode("the red")
    assert by is not None
    assert made.encode("the red").ids == [eos, *plain.ids]
    assert by.encode("the red") == plain.ids
    assert by.offsets("the red") == (plain.ids, plain.offsets)
    assert by.decode([*plain.ids, eos]) == "the red"


def test_marks_that_were_added_to_a_tokenizer_are_in_its_vocabulary(store: odograph.Store) -> None:
    """A check against the tokenizer accepts the id of such a mark, and no id behind the last."""
    made = Tokenizer.from_str(bpe().to_str())
    made.add_special_tokens(["<added>"])
    last = made.token_to_id("<added>")
    for id, codes in ((last, set()), (last + 1, {"token_value"})):
        with store.record(task="t") as run, run.step() as step:
            step.llm_call(model="m", prompt_token_ids=[1], token_ids=[id], logprobs=[-0.5], response="x")
        report = odograph.validate(store.trajectory(run.id), profile="rl", tokenizer=made)
        assert {f.code for f in report.findings} & {"token_value"} == codes


def test_a_file_that_is_no_tokenizer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in it, or that the package is missing."""
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="can't be read as a tokenizer"):
        tokenizer(path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"odograph\[tokens\]"):
        tokenizer(path)


TEXT = st.lists(st.sampled_from([*"the red\n ", "😀", "🤖", "é", "日", "👨\u200d👩", "e\u0301"]), min_size=1, max_size=12).map(
    "".join
)


@pytest.mark.parametrize("trim", [False, True])
@given(TEXT, TEXT | st.just(""), st.data(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_is_left_is_the_edited_text(trim: bool, text: str, new: str, data: st.DataObject, canonical: bool) -> None:
    """Whatever is put in whatever place, characters of several tokens and tokens of several characters included: the ids that
    are left say the edited text; a token wholly inside of what was kept is still the one that was sampled, no other is."""
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    ids = bpe().encode(text).ids if canonical else as_bytes(text)
    assert bpe().decode(ids) == text
    h = History()
    call = h.call([1], ids, response={"choices": [{"index": 0, "message": {"content": text}}]})
    h.edit(call, [Kept(0, start), Literal(text=new), Kept(stop, len(text))], unit="char")
    chain = h.chain(tokenizer(bpe(trim)))
    assert chain.problems == {}
    assert bpe().decode(chain.last.ids[1:]) == text[:start] + new + text[stop:]
    if text[start:stop] == new:
        return
    stayed = {n for s in chain.last.segments if s.source == "sampled" for n in range(s.start, s.start + len(s.ids))}
    # the slow way: tokens between two places where only whole characters stand before hang together
    clean = [0] + [n for n in range(1, len(ids) + 1) if not bpe().decode(ids[:n]).endswith("\ufffd")]
    for first, last in itertools.pairwise(clean):
        before, after = len(bpe().decode(ids[:first])), len(bpe().decode(ids[:last]))
        for n in range(first, last):
            assert (n in stayed) == (after <= start or before >= stop), (n, before, after)


@given(TEXT)
@settings(max_examples=200, deadline=None)
def test_offsets_of_any_ids_of_a_text(text: str) -> None:
    """Of ids that the tokenizer would choose, and of others that say the same: the characters that each token has a part of."""
    by = tokenizer(bpe())
    for ids in (bpe().encode(text).ids, as_bytes(text)):
        spans = offsets_of(ids, text, by)
        assert spans is not None and [bpe().decode(ids[:n]) for n in range(len(ids) + 1)][-1] == text
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(spans))
        assert spans[0][0] == 0 and spans[-1][1] == len(text)
    assert offsets_of(as_bytes("😀a"), "😀a", by) == [(0, 1)] * 4 + [(1, 2)]


def recorded(path: Path, words: dict[str, Any]) -> list[str]:
    """A conversation of two calls for each edit, through a real server; its name is the group. The ids of the trajectories."""

    def answer(body: dict[str, Any]) -> Answer:
        text = "the 😀 answer is red" if len(body["messages"]) == 1 else "blue"
        ids = bpe().encode(text).ids
        pieces = [p for m in body["messages"] for p in (f"<{m['role']}>\n", m["content"], "\n")] + ["<assistant>\n"]
        given = [i for piece in pieces for i in bpe().encode(piece).ids]  # as engines that go on with ids do
        return Answer(text=text, prompt_token_ids=given, token_ids=ids, logprobs=[-0.1] * len(ids))

    import openai

    made: list[str] = []
    with LLMServer(answer) as server, odograph.open(path) as store:
        client = odograph.wrap(openai.OpenAI(base_url=server.url + "/v1", api_key="x"), tokens=True)
        for name, change in words.items():
            with store.record(task="t", agent="a", model="m", group=name) as run:
                messages: list[Any] = [{"role": "user", "content": "which?"}]
                with run.step() as step:
                    text = client.chat.completions.create(model="m", messages=messages).choices[0].message.content
                    text = change(step, text)
                messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "and?"}]
                with run.step():
                    client.chat.completions.create(model="m", messages=messages)
                run.reward(1.0)
            made.append(run.id)
    return made


def by_word(*, of: str, expected: str, **edit: Any) -> Any:
    def change(step: Any, text: str) -> str:
        editor = step.edit(step.last_call, on="text")
        getattr(editor, of)(*edit["at"])
        return expected

    return change


def decorated(step: Any, text: str) -> str:
    @odograph.edit
    def calmer(response: str) -> str:
        """No colours."""
        return response.replace("red", "blue").replace("😀 ", "")

    return calmer(text)


WORDS = {
    "delete": by_word(of="delete", at=(4, 6), expected="the answer is red"),
    "insert": by_word(of="insert", at=(3, " 🤖"), expected="the 🤖 😀 answer is red"),
    "replace": by_word(of="replace", at=(16, 19, "blue"), expected="the 😀 answer is blue"),
    "move": by_word(of="move", at=(0, 4, 6), expected="😀 the answer is red"),
    "truncate": by_word(of="truncate", at=(5,), expected="the 😀"),
    "rewrite": by_word(of="rewrite", at=("é!",), expected="é!"),
    "decorated": decorated,
}


@pytest.mark.parametrize("kind", ["object", "file", "folder"])
def test_edits_of_text_by_each_word(tmp_path: Path, kind: str) -> None:
    """Recorded through a client with token ids, edited as text, by each word and by decorator: with the tokenizer the next prompt
    confirms each; under `mask` what was kept at the beginning is trained, and every token is accounted for. Without a
    tokenizer the report says what is missing."""
    ids = recorded(tmp_path / "runs", WORDS)
    bpe().save(str(tmp_path / "tokenizer.json"))
    given = {"object": bpe(), "file": tmp_path / "tokenizer.json", "folder": str(tmp_path)}[kind]
    with odograph.open(tmp_path / "runs") as store:
        found = [store.trajectory(id) for id in ids]
    for t in found:
        rows = odograph.samples([t], edits="mask", tokenizer=given, include_invalid=True)  # the server counts words
        (row,) = rows
        assert rows.report.edits_unused == {} and rows.report.balanced, t.group
        (chain,) = odograph.lineage.chains(t, tokenizer=tokenizer(given))
        assert [n.kind for n in chain.nodes] == ["start", "declared"], t.group
        assert bpe().decode(row.token_ids).count("<assistant>") == 2
    blind = odograph.samples(found, edits="mask", include_invalid=True)
    list(blind)
    why = {"it changes text, and no tokenizer says where its tokens stand"}
    assert set(blind.report.edits_unused.values()) <= why and blind.report.balanced


@pytest.mark.parametrize(
    "pieces", [["a", "\ufffd", "\ufffd"], ["a", "\\xf0\\x9f", "\\x98\\x80"], ["token_id:1", "token_id:2", "token_id:3"]]
)
def test_tokens_without_a_text_of_their_own(store: odograph.Store, pieces: list[str]) -> None:
    """What backends say in place of a part of a character, or the id, is not taken for text that the answer has not; with a
    tokenizer the edit is placed."""
    ids = [*bpe().encode("a").ids, *as_bytes("😀")]
    logprobs = {"content": [{"token": p, "logprob": -0.1} for p in pieces]}
    message = {"role": "assistant", "content": "a😀"}
    body = {"choices": [{"index": 0, "message": message, "logprobs": logprobs, "token_ids": ids[: len(pieces)]}]}
    with store.record(task="t", agent="a", model="m") as run, run.step() as step:
        call = step.llm_call(model="m", prompt_token_ids=[5], response=body)
        step.edit(call, on="text").delete(0, 1)
    t = store.trajectory(run.id)
    assert "decode_mismatch" not in {f.code for f in odograph.validate(t, profile="rl").findings}
    (chain,) = odograph.lineage.chains(t)
    assert list(chain.problems.values()) == ["it changes text, and no tokenizer says where its tokens stand"]
    h = History()
    h.edit(h.call([5], ids, response=body | {"choices": [body["choices"][0] | {"token_ids": ids}]}), [Kept(1, 2)], unit="char")
    assert h.chain(tokenizer(bpe())).last.ids == [5, *as_bytes("😀")]
