"""A long session costs what is new in each of its calls: four times the turns cost about four times as much, not sixteen times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import odograph
from odograph import shown
from odograph.codec import content_hash
from odograph.conversations import show
from odograph.differences import diff
from odograph.lineage import chains
from odograph.lineage.shown import lineage
from odograph.prefix import Prefix
from odograph.quality.across import facts
from odograph.training.feed import rows
from odograph.trajectory import Trajectory
from odograph.types import AnyRecord, Edit, End, Kept, LLMCall, Start, StepStart, Tokens
from odograph.viewer.tokens import tokens
from tests.cost import costs

FEW, MANY = 150, 600


def records(kind: str, turns: int) -> Iterator[AnyRecord]:
    """A session whose calls each send all that was said before. `beside`, `body`: where the token ids of the prompts stand;
    `stripped`: a token of each answer is gone from the next prompt; `edited`: and an edit says so; `marked`: the last message has
    a mark that moves on."""
    about: dict[str, Any] = {"trajectory": f"{kind}{turns}", "writer": "w"}
    yield Start(id="s", seq=1, time=1, task="go", agent="a", model="m", **about)
    history: list[Any] = [{"role": "user", "content": "go"}]
    ids = list(range(40))
    for n in range(turns):
        step: dict[str, Any] = {"step": n, "seq": 3 * n + 2, "time": 3 * n + 2, **about}
        yield StepStart(id=f"s{n}", **step)
        answer = [(40 * n + k) * 7919 % 100_000 for k in range(20)]
        said = {"role": "assistant", "content": f"turn {n}"}
        choice: dict[str, Any] = {"index": 0, "message": said, "finish_reason": "stop"}
        sent: Any = Prefix(history)
        more: dict[str, Any] = {}
        if kind == "body":
            choice["token_ids"] = answer
            choice["logprobs"] = {"content": [{"token": "x", "logprob": -0.5}] * 20}
        elif kind != "marked":
            more = {"prompt_token_ids": Prefix(ids), "tokens": [Tokens(token_ids=answer, logprobs=[-0.5] * 20)]}
        else:
            sent = [*history[:-1], {**history[-1], "cache_control": {"type": "ephemeral"}}]
        response = {"choices": [choice], **({"prompt_token_ids": list(ids)} if kind == "body" else {})}
        yield LLMCall(
            id=f"c{n}", model="m", dialect="openai.chat", request={"messages": sent}, response=response,
            **{**step, "seq": 3 * n + 3, "time": 3 * n + 3}, **more,
        )  # fmt: skip
        history += [said, {"role": "user", "content": f"answer {n}"}]
        if kind == "edited":
            runs = [Kept(0, 10), Kept(11, 20)]
            place = {**step, "seq": 3 * n + 4, "time": 3 * n + 4}
            yield Edit(id=f"x{n}", base=f"c{n}", base_hash=content_hash(answer), result=runs, **place)
        left = [i for i in answer if i != answer[10]] if kind in ("stripped", "edited") else answer
        ids = ids if kind in ("beside", "marked") else list(ids)
        ids += [*left, *range(20)]
    yield End(id="e", seq=3 * turns + 2, time=3 * turns + 2, status="completed", **about)


WORK: dict[str, Callable[[Trajectory], Any]] = {
    "validate": odograph.validate,
    "facts": facts,
    "lineage": lambda t: [lineage(chain) for chain in chains(t)],
    "samples": lambda t: list(odograph.samples([t], edits="mask")),
    "tokens of a page": lambda t: tokens(t, None),
    "conversation": show,
    "diff": lambda t: diff(t, t),
    "openai": lambda t: rows(t, "openai"),
    "hf-traces": lambda t: rows(t, "hf-traces"),
    "show": lambda t: {name: list(found) if name == "session" else found for name, found in shown.compact(t)},
}


@pytest.mark.parametrize("kind", ["beside", "body", "stripped", "edited", "marked"])
def test_a_long_session_costs_what_is_new_in_its_calls(store: odograph.Store, kind: str) -> None:
    """Checks, lineage, rows, comparisons and pages look at a call's new messages and tokens alone."""
    for turns in (10, FEW, MANY):
        store.add(records(kind, turns))
    ratios: dict[str, float] = {}
    for name, work in WORK.items():
        work(store.trajectory(f"{kind}10"))  # modules and caches are loaded once

        def cost(turns: int, work: Callable[[Trajectory], Any] = work) -> float:
            t = store.trajectory(f"{kind}{turns}")  # read anew: one that was read remembers what it was asked
            return costs(lambda: work(t))[1]

        few, many = min(cost(FEW), cost(FEW)), cost(MANY)
        ratios[name] = (many if many <= 9 * few else min(many, cost(MANY))) / few
    assert {name: ratio for name, ratio in ratios.items() if ratio > 9} == {}
