"""What a trajectory earned, by the credit that was asked for, and the advantages of its rows. Knows rewards; no lineage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from ..totals import is_unknown, returns, reward_total, trajectory_reward
from ..trajectory import Trajectory
from ..types import Reward
from .advantages import Convention, GroupStatistics
from .plan import Plan
from .sample import Sample, compact

#: A response: a call and which of its choices.
Of = tuple[str, int]


class Earned(msgspec.Struct, frozen=True):
    """What one trajectory earned."""

    #: The reward that counts; None: not known.
    total: float | None
    #: One return, or with credit per step the discounted return from each step on; None: no reward is known.
    returns: list[float] | None
    #: Rewards of one response alone, by the response.
    own: dict[Of, float]
    #: Choices of one prompt that have rewards of their own, by the call and the number of the prompt: these are compared with
    #: each other.
    compared: dict[Of, dict[int, float]]
    #: With credit per step, what spans of a response earned: [start, stop) and how much.
    spans: dict[Of, list[tuple[int, int, float]]]
    #: How many rewards of calls and spans this credit leaves out.
    left_out: int

    def alone(self, of: Of) -> float | None:
        """The reward of a choice that is compared with the other choices of its call."""
        return next((found[of[1]] for (call, _), found in self.compared.items() if call == of[0] and of[1] in found), None)


def earned(t: Trajectory, plan: Plan) -> Earned:
    """What a trajectory earned, of the reward that was asked for (with weight 1: it was chosen), else of all."""
    name = plan.reward

    def counted(rewards: Iterable[Reward]) -> list[Reward]:
        return [r if name is None else msgspec.structs.replace(r, weight=1.0) for r in rewards if name in (None, r.name)]

    every = counted(t.all_rewards)
    own = _own(every)
    prompts = _prompts(t, {call for call, _ in own})
    choices: dict[Of, dict[int, float]] = {}
    for (call, choice), value in own.items():
        choices.setdefault((call, prompts.get(call, {}).get(choice, 0)), {})[choice] = value
    compared = {of: found for of, found in choices.items() if len(found) > 1 or of[0] in prompts}
    calls = {call for call, _ in compared}
    aimed = [r for r in every if (r.target is not None or r.span is not None) and r.target not in calls]
    if plan.credit in ("trajectory", "last"):
        total = _finite(trajectory_reward(every, t.agent) if plan.credit == "trajectory" else _sum(every))
        return Earned(total, None if total is None else [total], own, compared, {}, len(aimed))
    if plan.credit == "sum":
        each_place = list(_by_place(aimed).values())
        parts = [_sum(every), *map(reward_total, each_place)]
        known = [math.nan] if any(map(is_unknown, each_place)) else [p for p in parts if p is not None]
        total = _finite(math.fsum(known)) if known and all(map(math.isfinite, known)) else None
        return Earned(total, None if total is None else [total], own, compared, {}, 0)
    spans: dict[Of, list[tuple[int, int, float]]] = {}
    numbers: dict[tuple[str | None, int | None], int] = {(s.agent, s.index): n for n, s in enumerate(t.steps)}
    each = [reward_total(_plain(counted(s.rewards))) for s in t.steps] or [None]
    places = {r.id: (r.agent or t.agent, r.step) for r in t.records} if aimed else {}
    whole = reward_total(_plain(counted(t.rewards)))
    for rewards in _by_place(aimed).values():
        more, first = reward_total(rewards), rewards[0]
        if more is None:
            continue
        if first.span is not None and first.target is not None:
            found = spans.setdefault((first.target, first.span.choice), [])
            found.append((first.span.start, first.span.stop, more))
            continue
        n = numbers.get(places.get(first.target or "", (first.agent, first.step)), len(each) - 1)
        each[n] = (each[n] or 0.0) + more
    total = _finite(trajectory_reward(every, t.agent))
    if any(
        map(is_unknown, (*(_plain(counted(s.rewards)) for s in t.steps), _plain(counted(t.rewards)), *_by_place(aimed).values()))
    ):
        return Earned(None, None, own, compared, {}, 0)
    if whole is None and not spans and all(value is None for value in each):
        return Earned(total, None, own, compared, spans, 0)
    each[-1] = (each[-1] or 0.0) + (whole or 0.0)
    steps = returns(each, plan.discount)
    return Earned(total, steps if all(map(math.isfinite, steps)) else None, own, compared, spans, 0)


def _plain(rewards: Iterable[Reward]) -> list[Reward]:
    """Rewards of a step or of the trajectory, not of a record or of tokens."""
    return [r for r in rewards if r.target is None and r.span is None]


def _sum(rewards: Iterable[Reward]) -> float | None:
    """The trajectory's own reward together with its steps'."""
    steps: dict[object, list[Reward]] = {}
    for r in _plain(rewards):
        steps.setdefault(None if r.step is None else (r.agent, r.step), []).append(r)
    if any(map(is_unknown, steps.values())):
        return math.nan
    known = [total for found in steps.values() if (total := reward_total(found)) is not None]
    return math.fsum(known) if known and all(map(math.isfinite, known)) else math.nan if known else None


def _by_place(rewards: Iterable[Reward]) -> dict[object, list[Reward]]:
    found: dict[object, list[Reward]] = {}
    for r in rewards:
        span = None if r.span is None else (r.span.start, r.span.stop, r.span.choice)
        place = (r.target, span) if r.target is not None else (r.agent, r.step, span)
        found.setdefault(place, []).append(r)
    return found


def _own(rewards: Iterable[Reward]) -> dict[Of, float]:
    """Rewards of one response alone."""
    found: dict[Of, list[Reward]] = {}
    for reward in rewards:
        if reward.target is not None:
            found.setdefault((reward.target, reward.span.choice if reward.span else 0), []).append(reward)
    totals = ((of, _finite(reward_total(many))) for of, many in found.items())
    return {of: total for of, total in totals if total is not None}


def _prompts(t: Trajectory, rewarded: set[str]) -> dict[str, dict[int, int]]:
    """Of calls with several prompts: which prompt each choice answers."""
    calls = (c for c in t.llm_calls if c.id in rewarded) if rewarded else ()
    return {c.id: {choice.index: choice.prompt for choice in c.choices} for c in calls if c.batch_token_ids}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# --- advantages -------------------------------------------------------------------------------------------------------------


class Row(msgspec.Struct):
    """A sample on its way: the reward of its response alone, where it has one, and whether a later row of its agent counts."""

    sample: Sample
    own: float | None
    last: bool = False


def statistics_of(many: Sequence[list[float]]) -> list[GroupStatistics]:
    """Of the returns of a group's trajectories: of the only one of each, or of those from each step on."""
    longest = max(map(len, many), default=0)
    return [GroupStatistics([r[n] for r in many if n < len(r)]) for n in range(longest)]


def advise(
    rows: Sequence[Row], e: Earned, t: Trajectory, plan: Plan, rule: Convention, statistics: Sequence[GroupStatistics]
) -> None:
    """Gives the rows of a trajectory their advantages. What is not trained has 0."""
    steps: dict[tuple[str | None, int | None], int] = {(s.agent, s.index): n for n, s in enumerate(t.steps)}
    given = {(part.call, part.choice) for row in rows for part in row.sample.parts}
    peers: dict[Of, GroupStatistics] = {}
    for (call, _), found in e.compared.items():
        together = GroupStatistics([value for choice, value in found.items() if (call, choice) in given])
        peers |= {(call, choice): together for choice in found}
    returned = e.returns or [0.0]

    def of(value: float, n: int) -> float:
        alone = GroupStatistics([value])
        return (statistics[min(n, len(statistics) - 1)] if statistics else alone).advantage(value, rule)

    for row in rows:
        sample = row.sample
        per_token = [0.0] * len(sample.mask)
        values: set[float] = set()
        stepwise = False
        for part in sample.parts:
            value, size = e.alone((part.call, part.choice)), part.stop - part.start
            if value is not None:
                gains = [peers[part.call, part.choice].advantage(value, rule)] * size
            elif row.own is not None:
                gains = [of(row.own, 0)] * size
            elif plan.credit == "per-step":
                stepwise = True
                n = steps.get((sample.agent, part.step), len(returned) - 1)
                if part.step is not None and part.step < 0:  # shared with its parent: all that it earned came later
                    n = 0
                earned = [returned[min(n, len(returned) - 1)]] * size
                for start, stop, more in e.spans.get((part.call, part.choice), ()):
                    for i in range(max(0, start - part.origin), min(size, stop - part.origin)):
                        earned[i] += more
                known: dict[float, float] = {value: of(value, n) for value in set(earned)}
                gains = [known[value] for value in earned]
            elif plan.credit == "last":
                gains = [0.0] * size
            else:
                gains = [of(returned[0], 0)] * size
            values.update(gains)
            per_token[part.start : part.stop] = gains
        if plan.credit == "last" and row.own is None and row.last and any(sample.mask):
            value = of(returned[0], 0)
            per_token[max(i for i, m in enumerate(sample.mask) if m)] = value
            values = {value}
        sample.advantages = compact([a if m else 0.0 for a, m in zip(per_token, sample.mask, strict=True)])
        if not stepwise:
            sample.advantage = values.pop() if len(values) == 1 else None
