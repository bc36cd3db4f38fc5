"""The lineage against a slow, obviously right account, on random histories; and how long it takes."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.lineage import Chain, View, chains
from odograph.lineage.view import matches
from odograph.training.samples import samples
from odograph.trajectory import Trajectory
from odograph.types import LLMCall, Start, StepStart, Tokens
from tests.cost import costs

from .made import History, history

SEEDS = st.integers(0, 1 << 40)


def slow_standing(chain: Chain, view: View, at: int, call: str, choice: int, index: int) -> str:
    """The rule as the design states it, token by token."""
    node = chain.by_id[call]
    return "exact" if view.ids[:at] == [*node.prompt, *node.responses[choice][:index]] else "stale"


def check(chain: Chain, view: View) -> None:
    """Every token of a view is what it says it is, and stands as the rule says."""
    assert [i for s in view.segments for i in s.ids] == view.ids
    at = 0
    for segment in view.segments:
        for n, id in enumerate(segment.ids):
            if segment.source == "sampled":
                assert chain.by_id[segment.call].responses[segment.choice][segment.start + n] == id
                slow = slow_standing(chain, view, at + n, segment.call, segment.choice, segment.start + n)
                assert chain.standing(segment, at, view, None, []) == slow
        at += len(segment.ids)


@given(seed=SEEDS, vocabulary=st.sampled_from([1, 2, 6, 1000]))
@settings(max_examples=400, deadline=None)
def test_the_rule_for_exact(seed: int, vocabulary: int) -> None:
    """In every view of random histories a sampled token is exact if and only if the ids left of it are those that it was
    sampled under."""
    h = history(seed, vocabulary=vocabulary)
    for chain in chains(h.trajectory):
        for node in chain.nodes:
            assert node.view.ids == node.prompt
            check(chain, node.view)
        check(chain, chain.last)


@given(seed=SEEDS)
@settings(max_examples=300, deadline=None)
def test_declared_edits_are_followed_token_by_token(seed: int) -> None:
    """Where every edit is declared, each token of the last view comes from where it came from by construction."""
    # so many ids that what comes after is never by chance what an edit took out, which reads as an edit that was undone
    h = history(seed, vocabulary=1 << 30, undeclared=False)
    (chain,) = chains(h.trajectory)
    assert all(node.kind in ("start", "extends", "declared") for node in chain.nodes)
    last = list(h.records)[-1]
    assert last and not chain.problems
    flat = [(s.call, s.start + n) if s.source == "sampled" else None for s in chain.last.segments for n in range(len(s.ids))]
    wanted = [(t.call, t.index) if t.call else None for t in h.last][: len(flat)]
    assert chain.last.ids == [t.id for t in h.last][: len(chain.last.ids)] and flat == wanted


def account(h: History, word: str) -> None:
    """The law of the samples: what is trained stands exactly as it was sampled, with its logprob, and once."""
    options = {"scorer": lambda ids: [-0.5] * len(ids)} if word == "reweight" else {}
    found = samples([h.trajectory], edits=word, include_invalid=True, **options)
    seen: set[tuple[str, int]] = set()
    total = 0
    for row in found:
        if word == "pair":
            continue
        assert len(row.token_ids) == len(row.mask) == len(row.logprobs) == sum(c for c, _ in row.weights)
        for part in row.parts:
            ids = row.token_ids[part.start : part.stop]
            assert all(row.mask[part.start : part.stop])
            if word == "imitate":
                continue
            response = h.responses[part.call]
            starts = [n for n in range(len(response)) if [t.id for t in response[n : n + len(ids)]] == ids]
            start = next(
                n for n in starts if [-(k + 1) / 16 for k in range(n, n + len(ids))] == row.logprobs[part.start : part.stop]
            )
            for n in range(len(ids)):
                assert (part.call, start + n) not in seen, "trained twice"
                seen.add((part.call, start + n))
                if word != "reweight":
                    assert tuple(row.token_ids[: part.start + n]) == response[start + n].under, "trained off its context"
        total += sum(row.mask) - row.authored
    report = found.report
    assert report.balanced and report.sampled == sum(map(len, h.responses.values()))
    if word != "pair":
        assert report.trained == total
    if word == "env":
        assert report.trained == report.sampled, (report.context, report.dropped)


@pytest.mark.parametrize("word", ["env", "mask", "reweight", "imitate", "pair"])
@given(seed=SEEDS, vocabulary=st.sampled_from([2, 6, 1000]))
@settings(max_examples=150, deadline=None)
def test_every_sampled_token_is_accounted_for(word: str, seed: int, vocabulary: int) -> None:
    """Under each policy, over random histories: trained, context or dropped with a reason, each exactly once."""
    account(history(seed, vocabulary=vocabulary), word)


@given(seed=SEEDS, words=st.lists(st.sampled_from(["env", "mask"]), min_size=7, max_size=7))
@settings(max_examples=150, deadline=None)
def test_policies_by_class_of_edit(seed: int, words: list[str]) -> None:
    """A mapping from classes to policies, or a function, keeps the account too."""
    h = history(seed, vocabulary=6)
    names = ["declared", "template", "reasoning", "retokenization", "truncation", "summary", "rewrite"]
    for edits in (dict(zip(names, words, strict=True)), lambda node: words[len(node.prompt) % 7]):
        found = samples([h.trajectory], edits=edits, include_invalid=True)
        for row in found:
            for part in row.parts:
                under = {t.under for t in h.responses[part.call]}
                assert all(tuple(row.token_ids[:n]) in under for n in range(part.start, part.stop))
        assert found.report.balanced


@given(st.lists(st.integers(0, 3), max_size=60), st.lists(st.integers(0, 3), max_size=60))
@settings(max_examples=300, deadline=None)
def test_runs_that_match(a: list[int], b: list[int]) -> None:
    """Matched runs are equal, in order in both, and never overlap."""
    i0 = j0 = 0
    for i, j, n in matches(a, b):
        assert n > 0 and i >= i0 and j >= j0 and a[i : i + n] == b[j : j + n]
        i0, j0 = i + n, j + n


@given(
    seed=SEEDS,
    size=st.sampled_from([40, 600, 1500, 3000]),
    vocabulary=st.sampled_from([2, 50, 5000, None]),
    each=st.sampled_from([2, 5, 6, 18, None]),
)
@settings(max_examples=80, deadline=None)
def test_runs_of_a_context_that_was_cut_and_written_into_match(
    seed: int, size: int, vocabulary: int | None, each: int | None
) -> None:
    """Pieces are taken out of a context and put in at a few places, and other tokens stand at each second, fifth or so. Runs are equal
    and in order in both, and as long as they can be; where each id occurs once (`vocabulary` None), all that was kept is found."""
    chance = random.Random(seed)
    a = [chance.randrange(vocabulary) if vocabulary else n for n in range(size)]
    b = list(a)
    new = iter(range(size, 1 << 30))
    for at in range(chance.randrange(each), size, each) if each else ():
        b[at] = next(new)
    for _ in range(chance.randint(0, 8)):
        at = chance.randint(0, len(b))
        b[at : at + chance.choice((0, 1, 3, 20, 300))] = [next(new) for _ in range(chance.choice((0, 1, 5, 40)))]
    b += [next(new) for _ in range(chance.choice((0, 40)))]
    i0 = j0 = found = 0
    for i, j, n in matches(a, b):
        assert n > 0 and i >= i0 and j >= j0 and a[i : i + n] == b[j : j + n]
        assert not found or (i, j) != (i0, j0), "two runs that are one"
        i0, j0, found = i + n, j + n, found + n
    assert vocabulary or found == len(set(a) & set(b))


def test_long_lists_are_matched_in_near_linear_time() -> None:
    """A context of 100,000 tokens of which the first half is gone, and some are changed: all else is found, at about ten times the cost of a tenth."""
    chance = random.Random(1)
    a = [chance.randrange(50_000) for _ in range(100_000)]
    tail = a[50_000:]
    small_a, small_b = a[45_000:55_000], a[50_000:55_000]
    for b, each in ((tail, 5000), (small_b, 500)):
        for n in range(0, len(b), each):
            b[n] = -1
    found, large = costs(lambda: list(matches(a, tail)), rounds=3)
    assert sum(n for _, _, n in found) == 50_000 - 10
    _, small = costs(lambda: list(matches(small_a, small_b)), rounds=3)
    assert large < 40 * small


def test_many_small_changes_cost_little_more_than_few() -> None:
    """A context of 100,000 tokens with a change every 20 tokens takes about the time of one with ten changes; all else is found."""
    chance = random.Random(2)
    a = [chance.randrange(50_000) for _ in range(100_000)]

    def cost(each: int) -> float:
        b = list(a)
        for n in [*range(0, len(b), each), len(b) - 1]:
            b[n] = -1
        found, cost = costs(lambda: list(matches(a, b)))
        assert sum(n for _, _, n in found) == sum(x == y for x, y in zip(a, b, strict=True))
        return cost

    assert cost(20) < 6 * cost(10_000)


def long(calls: int, tokens: int) -> Trajectory:
    chance = random.Random(7)
    records: list = [Start(id="s", trajectory="t", seq=1, time=1, agent="a", model="m")]
    context = [chance.randrange(50_000) for _ in range(1000)]
    each = (tokens - 1000) // calls
    for n in range(calls):
        answer = [chance.randrange(50_000) for _ in range(each // 2)]
        about = {"trajectory": "t", "step": n, "parent": "s"}
        records.append(StepStart(id=f"p{n}", seq=2 * n + 2, time=2 * n + 2, **about))
        given_tokens = [Tokens(token_ids=answer, logprobs=[-0.5] * len(answer))]
        records.append(
            LLMCall(
                id=f"c{n}",
                seq=2 * n + 3,
                time=2 * n + 3,
                prompt_token_ids=list(context),
                tokens=given_tokens,
                response="x",
                **about,
            )
        )
        context = context + answer + [chance.randrange(50_000) for _ in range(each - len(answer))]
    return Trajectory("t", records)


def test_a_long_trajectory_costs_some_copies_of_its_prompts() -> None:
    """200 calls with 100,000 tokens of context: a row costs about as much as copying the ids of all prompts."""
    t = long(200, 100_000)
    (row,), cost = costs(lambda: list(samples([t], edits="mask")), rounds=3)
    assert len(row.token_ids) > 99_000 and sum(row.mask) == 200 * 247
    _, copies = costs(lambda: [list(call.prompt_token_ids or ()) for call in t.llm_calls], rounds=3)
    assert cost < 40 * copies  # checks of the row included


def test_memory_grows_with_what_is_new(tmp_path: Path) -> None:
    """A history that is sent with each call is held once: twice the calls, with prompts twice as long, take twice the memory, for
    lineage and for rows."""
    store = odograph.open(tmp_path)

    def peak(calls: int) -> int:
        with store.record(task="t", agent="a", model="m") as run:
            context = list(range(100))
            for n in range(calls):
                with run.step() as step:
                    step.llm_call(prompt_token_ids=context, token_ids=[n] * 40, logprobs=[-0.5] * 40)
                context = [*context, *[n] * 40, n, n]
            run.reward(1.0)
        tracemalloc.start()
        try:
            (row,) = odograph.samples([store.trajectory(run.id)])
            assert row.trained == 40 * calls
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(50)  # what is imported late
    assert peak(800) < 2.7 * peak(400)
