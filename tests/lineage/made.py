"""Random histories of calls and edits, and the slow, obviously right account of them.

Every token that exists is an object here: what a context is made of is a list of them, so that what was sampled where is known
by construction and never told from ids.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from odograph.trajectory import Trajectory
from odograph.types import Action, AnyRecord, Edit, End, Kept, Literal, LLMCall, Reward, Start, StepStart, Tokens


@dataclass(eq=False)
class Token:
    """One token that was made once: sampled by a call, or put there."""

    id: int
    call: str | None = None
    index: int = 0
    #: The ids left of it when it was sampled.
    under: tuple[int, ...] = ()


@dataclass
class History:
    """A trajectory, and what is known of it by construction."""

    records: list[AnyRecord] = field(default_factory=list)
    #: What the model saw at each call, as tokens; and after the last, with edits.
    prompts: dict[str, list[Token]] = field(default_factory=dict)
    responses: dict[str, list[Token]] = field(default_factory=dict)
    last: list[Token] = field(default_factory=list)
    undeclared: int = 0

    @property
    def trajectory(self) -> Trajectory:
        return Trajectory("t", self.records)


def history(seed: int, *, vocabulary: int = 6, undeclared: bool = True, calls: int = 6) -> History:
    """A random one: a few calls, each with a random answer, edits that are declared and that are not, tools, fresh starts."""
    chance = random.Random(seed)
    h = History()
    clock = iter(range(1, 100_000))

    def add(record_type: Any, **fields: Any) -> Any:
        n = next(clock)
        fields = {"id": f"r{n}", "trajectory": "t", "seq": n, "time": n, "writer": "w"} | fields
        record = record_type(**fields)
        h.records.append(record)
        return record

    def fresh(low: int, high: int) -> list[Token]:
        return [Token(chance.randrange(vocabulary)) for _ in range(chance.randint(low, high))]

    add(Start, agent="a", model="m", group="g")
    context = fresh(1, 5)
    for step in range(chance.randint(1, calls)):
        add(StepStart, step=step, parent="r1")
        under = [t.id for t in context]
        ids = [chance.randrange(vocabulary) for _ in range(chance.randint(0, 6))]
        call = add(
            LLMCall,
            step=step,
            model="m",
            prompt_token_ids=under,
            response="x",
            tokens=[Tokens(token_ids=ids, logprobs=[-(n + 1) / 16 for n in range(len(ids))])],
        )
        answer = [Token(i, call.id, n, tuple(under + ids[:n])) for n, i in enumerate(ids)]
        h.prompts[call.id], h.responses[call.id] = list(context), answer
        add(Action, step=step, name="act", llm_call=call.id)
        context = [*context, *answer]
        if chance.random() < 0.5 and ids:
            context = _edit(h, chance, add, step, call.id, answer, context, vocabulary)
        if undeclared and chance.random() < 0.3:
            h.undeclared += 1
            context = _change(chance, context, vocabulary)
        if step < calls - 1:
            context = [*context, *fresh(0, 4)] or fresh(1, 1)
        h.last = list(context)
    h.last = context
    add(Reward, name="r", value=1.0, parent="r1")
    add(End, parent="r1")
    return h


def _edit(
    h: History, chance: random.Random, add: Any, step: int, call: str, answer: list[Token], context: list[Token], vocabulary: int
) -> list[Token]:
    """An edit as an agent declares and makes it: delete, insert, replace, move, rewrite, or a wild list of runs."""
    size = len(answer)
    a = chance.randint(0, size)
    b = chance.randint(a, size)
    new = [chance.randrange(vocabulary) for _ in range(chance.randint(0, 3))]
    kind = chance.choice(("delete", "insert", "replace", "move", "rewrite", "truncate", "wild"))
    runs: list[Kept | Literal]
    if kind == "delete":
        runs = [Kept(0, a), Kept(b, size)]
    elif kind == "insert":
        runs = [Kept(0, a), Literal(new), Kept(a, size)]
    elif kind == "replace":
        runs = [Kept(0, a), Literal(new), Kept(b, size)]
    elif kind == "move":
        runs = [Kept(a, b), Kept(0, a), Kept(b, size)]
    elif kind == "truncate":
        runs = [Kept(0, a)]
    elif kind == "rewrite":
        runs = [Literal(new)]
    else:
        runs = []
        for _ in range(chance.randint(0, 4)):
            i = chance.randint(0, size)
            runs.append(chance.choice([Kept(i, chance.randint(i, size)), Literal([chance.randrange(vocabulary)])]))
    made: list[Token] = []
    for run in runs:
        if isinstance(run, Kept):
            made += answer[run.start : run.stop]
        else:
            made += [Token(i) for i in run.ids or []]
    add(Edit, step=step, base=call, unit="token", result=runs, preferred=chance.random() < 0.3, reason=kind)
    at = next(n for n, t in enumerate(context) if t is answer[0])
    return [*context[:at], *made, *context[at + size :]]


def _change(chance: random.Random, context: list[Token], vocabulary: int) -> list[Token]:
    """What nobody declares: something is cut out, put in, replaced, or all begins anew."""
    a = chance.randint(0, len(context))
    b = chance.randint(a, len(context))
    new = [Token(chance.randrange(vocabulary)) for _ in range(chance.randint(0, 3))]
    kind = chance.choice(("cut", "put", "replace", "anew"))
    if kind == "cut":
        return [*context[:a], *context[b:]]
    if kind == "put":
        return [*context[:a], *new, *context[a:]]
    return [*context[:a], *new, *context[b:]] if kind == "replace" else new
