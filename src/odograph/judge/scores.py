"""What one judge says of a group: its prompts, parts of a group that is too long, one scale for the parts, and checked answers.
Knows no store.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import msgspec

from ..asking.answer import Answer, estimate, sendable
from ..asking.client import Judge
from ..conversations import Shown
from ..errors import InvalidInput
from . import prompts


class Plan(msgspec.Struct, frozen=True):
    """How trajectories are judged."""

    rubric: str
    criteria: list[str]
    name: str
    absolute: bool
    repeats: int
    seed: int
    weight: float


#: A score, why, that of each criterion, and the place in the prompt, from 1; 0: it was in a prompt of its own, or in several.
Score = tuple[float, str, dict[str, float], int]
Scores = dict[str, Score]


async def alone(judge: Judge, plan: Plan, distinct: dict[str, Shown], repeat: int) -> Scores | Answer:
    """The score of the one trajectory that is judged by itself."""
    ((key, one),) = distinct.items()
    check = _Check(1, plan.criteria)
    prompt, schema = _absolute(plan, one)
    (answer,) = await judge.ask([prompt], schema, check=check.each if plan.criteria else check.one, repeat=repeat)
    return {key: answer.value} if answer.status == "ok" else answer


def _absolute(plan: Plan, one: Shown) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A prompt, and the schema of its answer."""
    schema = prompts.criteria_schema(plan.criteria) if plan.criteria else prompts.SCORE_SCHEMA
    return prompts.absolute(one, plan.rubric, plan.criteria), schema


async def compared(judge: Judge, plan: Plan, distinct: dict[str, Shown], repeat: int) -> Scores | Answer:
    """The scores of a group, in one prompt where it fits, else in parts with anchors in common."""
    anchors = _anchors(distinct, plan.seed)
    waiting, done = _parts(anchors, distinct, plan, judge.context, repeat), []
    while waiting:
        asked = await asyncio.gather(*(_ask(judge, plan, [distinct[key] for key in part], repeat) for part in waiting))
        parts, waiting = waiting, []
        for part, answer in zip(parts, asked, strict=True):
            others = [key for key in part if key not in anchors]
            if answer.status == "ok":
                done.append(dict(zip(part, answer.value, strict=True)))
            elif answer.status == "over_context" and len(others) > 1:  # its estimate was too low, or the endpoint takes less
                half = len(others) // 2
                waiting += [_mixed([*anchors, *some], plan.seed) for some in (others[:half], others[half:])]
            else:
                return answer
    return _aligned(done)


def estimated(judge: Judge, plan: Plan, distinct: dict[str, Shown]) -> dict[str, float]:
    """What judging a group would cost, if each answer is valid."""
    total = {"calls": 0.0, "tokens": 0.0, "cost": 0.0}
    for repeat in range(plan.repeats):
        if plan.absolute:
            (one,) = distinct.values()
            text, schema = _absolute(plan, one)
            texts = [text]
        else:
            parts = _parts(_anchors(distinct, plan.seed), distinct, plan, judge.context, repeat)
            schema, texts = prompts.SCORES_SCHEMA, [prompts.relative([distinct[k] for k in part], plan.rubric) for part in parts]
        for name, more in judge.estimate(texts, schema, repeat=repeat).items():
            total[name] += more
    return total


async def _ask(judge: Judge, plan: Plan, shown: list[Shown], repeat: int) -> Answer:
    check = _Check(len(shown))
    prompt = prompts.relative(shown, plan.rubric)
    (answer,) = await judge.ask([prompt], prompts.SCORES_SCHEMA, check=check.all, repeat=repeat)
    return answer


def _size(shown: list[Shown], plan: Plan) -> int:
    # 500: what goes around the messages in a request, the schema and parameters
    return estimate(prompts.relative(shown, plan.rubric)) + 500


def _anchors(distinct: dict[str, Shown], seed: int) -> list[str]:
    """Two of the shorter half: they stand in every part, and the shortest of all may be those that gave up at once."""
    sizes = {key: estimate([one.messages, [h.messages for h in one.more]]) for key, one in distinct.items()}
    short = sorted(sizes, key=lambda key: (sizes[key], key))[: max(2, len(sizes) // 2)]
    return random.Random(seed).sample(short, min(2, len(short)))


def _parts(anchors: list[str], distinct: dict[str, Shown], plan: Plan, limit: int | None, repeat: int) -> list[list[str]]:
    """The keys of each prompt, for a limit in tokens; one that exceeds it with a single trajectory is for the judge to refuse."""
    order = list(distinct)
    random.Random(f"{plan.seed} {repeat}").shuffle(order)
    if limit is None or len(order) < 4 or _size(list(distinct.values()), plan) <= limit:
        return [order]
    parts: list[list[str]] = []
    for key in (k for k in order if k not in anchors):
        if parts and _size([distinct[k] for k in (*parts[-1], key)], plan) <= limit:
            parts[-1].append(key)
        else:
            parts.append([*anchors, key])
    return [_mixed(part, plan.seed) for part in parts]


def _mixed(part: list[str], seed: int) -> list[str]:
    """In an order of its own, so that anchors don't always stand first."""
    return random.Random(f"{seed} {part}").sample(part, len(part))


def _aligned(parts: list[Scores]) -> Scores:
    """One scale for all parts: each is moved by what its anchors differ from their mean over the parts, and stays in 0 to 1."""
    if len(parts) == 1:
        return parts[0]
    anchors = set.intersection(*(set(p) for p in parts))
    means = {key: sum(p[key][0] for p in parts) / len(parts) for key in anchors}
    made: Scores = {}
    for part in parts:
        move = sum(means[key] - part[key][0] for key in anchors) / len(anchors)
        for key, (score, why, *_) in part.items():
            if key in anchors:
                made.setdefault(key, (means[key], why, {}, 0))
            else:
                made[key] = (min(1.0, max(0.0, score + move)), why, {}, 0)
    return made


class _Check:
    """What a judge's answer has to hold to be taken: a score of 0 to 1 for each of the ids "1" to `count`, once."""

    def __init__(self, count: int, criteria: Sequence[str] = ()) -> None:
        self._count = count
        self._criteria = criteria

    def one(self, value: Any) -> Score:
        return self._score(value.get("score"), ""), _explanation(value), {}, 0

    def each(self, value: Any) -> Score:
        """A score for each criterion."""
        given = value.get("scores")
        if not isinstance(given, dict) or set(given) != set(self._criteria):
            raise InvalidInput(f"scores is an object with a score for each of: {', '.join(self._criteria)}")
        scores = {name: self._score(given[name], f" of {name}") for name in self._criteria}
        return fmean(list(scores.values())), _explanation(value), scores, 0

    def all(self, value: Any) -> list[Score]:
        entries = value.get("scores") if isinstance(value, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InvalidInput("scores is a list of objects")
        found: dict[str, Score] = {}
        wanted = [str(n) for n in range(1, self._count + 1)]
        for entry in entries:
            id = entry.get("trajectory_id")
            id = str(id).strip() if isinstance(id, (str, int)) and not isinstance(id, bool) else repr(id)
            if id not in wanted:
                raise InvalidInput(f"there is no trajectory_id {id[:40]!r}; there are: {', '.join(wanted)}")
            if id in found:
                raise InvalidInput(f"trajectory_id {id!r} has two scores")
            found[id] = (self._score(entry.get("score"), f" of trajectory_id {id!r}"), _explanation(entry), {}, int(id))
        missing = [id for id in wanted if id not in found]
        if missing:
            raise InvalidInput(f"no score of trajectory_id {', '.join(missing)}")
        return [found[id] for id in wanted]

    def _score(self, given: Any, of: str) -> float:
        try:
            score = float(given) if isinstance(given, (int, float, str)) and not isinstance(given, bool) else math.nan
        except (ValueError, OverflowError):
            score = math.nan
        if not 0.0 <= score <= 1.0:
            raise InvalidInput(f"the score{of} is {str(given)[:40]!r}, where a number from 0 to 1 was expected")
        return score


def _explanation(entry: dict[str, Any]) -> str:
    given = entry.get("explanation")
    return sendable(given) if isinstance(given, str) else ""
