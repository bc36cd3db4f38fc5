"""The workload: agents' steps as they are in practice, generated from a seed.

A step is a context read (2 KB of JSON), a call of a model (system 1 KB of 8 distinct, user message 2 KB, answer 1 KB), an
action (200 B of arguments, 1 KB of result) and a reward; with tokens, 1,500 prompt ids, 250 answer ids and their logprobs
too. 20 steps are a trajectory. `grow=True` sends the whole history with each call, as real agents do; else the last 2 KB.
"""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

STEPS = 20
_SYLLABLES = [
    "ba",
    "co",
    "di",
    "fu",
    "ga",
    "he",
    "in",
    "jo",
    "ka",
    "lu",
    "ma",
    "ni",
    "or",
    "pe",
    "qua",
    "re",
    "si",
    "to",
    "un",
    "ve",
    "wi",
    "xe",
    "ya",
    "zo",
    "st",
    "er",
    "ing",
    "ed",
    "ly",
    "ment",
    "tion",
    "able",
]
_COMMON = [
    "the",
    "of",
    "and",
    "to",
    "a",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "this",
    "are",
    "at",
    "from",
    "or",
    "have",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
]


def _words(count: int) -> list[str]:
    rng = random.Random(1)
    rare = ["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(5000)]
    weights = [1 / (i + 3) for i in range(len(_COMMON) + len(rare))]
    return rng.choices(_COMMON + rare, weights, k=count)


_POOL = " ".join(_words(400_000))
_SYSTEMS = [_POOL[i * 9973 : i * 9973 + 1024] for i in range(8)]


def enlarge() -> None:
    """Takes all text out of 80 MB from now on: what repeats in a small pool flatters sizes."""
    global _POOL
    _POOL = " ".join(_words(14_000_000))


def _text(rng: random.Random, size: int) -> str:
    start = rng.randrange(len(_POOL) - size)
    return _POOL[start : start + size]


@dataclass
class Step:
    """What happens in one step."""

    context: dict[str, Any]
    messages: list[dict[str, str]]
    answer: str
    usage: dict[str, int]
    arguments: dict[str, Any]
    result: str
    ok: bool
    reward: float
    prompt_ids: list[int] = field(default_factory=list)
    answer_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The step as one JSON-ready dict: what a bare append writes."""
        return {k: v for k, v in self.__dict__.items() if v != []}


def steps(seed: int, count: int = STEPS, *, tokens: bool = False, grow: bool = False) -> Iterator[Step]:
    """The steps of one trajectory."""
    rng = random.Random(seed)
    system = {"role": "system", "content": rng.choice(_SYSTEMS)}
    transcript = _text(rng, 2048)
    turns = [{"role": "user", "content": transcript}]
    ids = [int(rng.paretovariate(0.9) * 20) % 151_000 for _ in range(1500)] if tokens else []
    for _ in range(count):
        hits = [
            {"id": f"{rng.getrandbits(64):016x}", "score": round(rng.random(), 6), "snippet": _text(rng, 400)} for _ in range(4)
        ]
        answer, result = _text(rng, 1024), _text(rng, 1024)
        messages = [system, *turns] if grow else [system, {"role": "user", "content": transcript[-2048:]}]
        step = Step(
            context={"query": _text(rng, 60), "top_k": rng.randrange(10), "hits": hits},
            messages=messages,
            answer=answer,
            usage={"prompt_tokens": rng.randrange(700, 1600), "completion_tokens": rng.randrange(200, 290)},
            arguments={"cmd": _text(rng, 165), "n": rng.randrange(1000)},
            result=result,
            ok=rng.random() < 0.85,
            reward=round(rng.random(), 4),
        )
        if tokens:
            step.prompt_ids = list(ids)
            step.answer_ids = [int(rng.paretovariate(0.9) * 20) % 151_000 for _ in range(250)]
            step.logprobs = [-rng.expovariate(3) for _ in range(250)]
            more = [int(rng.paretovariate(0.9) * 20) % 151_000 for _ in range(250)]
            ids = (ids + step.answer_ids + more)[-1500:]
        yield step
        transcript = (transcript + "\n" + answer + "\n" + result)[-4096:]
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": result + _text(rng, 1024)}]


def record(store: Any, seed: int, *, tokens: bool = False, grow: bool = False) -> None:
    """One trajectory of steps into a store."""
    with store.record(task=f"task {seed % 500}", agent="agent", model="m", group=f"g{seed // 8}") as run:
        for one in steps(seed, tokens=tokens, grow=grow):
            with run.step() as step:
                step.context("kb", one.context)
                singles = array("f", one.logprobs).tolist()  # engines give 32 bits
                ids = {"prompt_token_ids": one.prompt_ids, "token_ids": one.answer_ids, "logprobs": singles} if tokens else {}
                call = step.llm_call(model="m", messages=one.messages, response=one.answer, usage=one.usage, **ids)
                step.action("run", one.arguments, one.result, ok=one.ok, llm_call=call)
                step.reward(one.reward)


def new_bytes(step: Step) -> int:
    """Bytes of what is new in a step of a growing history: the content itself, sent once."""
    fresh = [*step.messages[-2:]]
    return len(json.dumps([step.context, fresh, step.answer, step.arguments, step.result]))


def long_conversation(calls: int) -> Any:
    """A trajectory in memory: each call samples 10 tokens and is sent 10 more behind all before."""
    from odograph.trajectory import Trajectory
    from odograph.types import AnyRecord, LLMCall, Start, StepStart, Tokens

    chance = random.Random(calls)
    context = [chance.randrange(50_000) for _ in range(200)]
    records: list[AnyRecord] = [Start(id="s", trajectory="t", seq=0, time=0, agent="a", model="m")]
    for n in range(calls):
        answer = [chance.randrange(50_000) for _ in range(10)]
        about: dict[str, Any] = {"trajectory": "t", "step": n, "parent": "s", "seq": n + 1, "time": n + 1}
        tokens = [Tokens(token_ids=answer, logprobs=[-0.5] * 10)]
        records.append(StepStart(id=f"p{n}", **about))
        records.append(LLMCall(id=f"c{n}", prompt_token_ids=list(context), tokens=tokens, response="x", **about))
        context += [*answer, *(chance.randrange(50_000) for _ in range(10))]
    return Trajectory("t", records)
