"""Two trajectories side by side: aligned step by step, with where they differ first. Reads; prints nothing."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from .calls import Call, rests
from .codec import content_hash
from .prefix import shared_prefix
from .trajectory import Step, Trajectory

_ALIGNED = 2000  # more steps than these are compared one by one: aligning is quadratic


class Pair(msgspec.Struct, frozen=True):
    """Two steps that correspond to each other, or one step that the other trajectory does not have (None). `differs`: the fields
    that differ.
    """

    agent: str | None
    a: int | None
    b: int | None
    differs: list[str]
    #: What each of both says, of what differs: {name: [a, b]}.
    values: dict[str, list[Any]]


class Diff(msgspec.Struct, frozen=True):
    """The comparison of two trajectories. `first`: index in `pairs` of the first difference; None: all steps are the same."""

    a: str
    b: str
    pairs: list[Pair]
    first: int | None
    #: What differs of the trajectories as wholes: {name: [a, b]}.
    whole: dict[str, list[Any]]

    @property
    def same(self) -> bool:
        return self.first is None and not self.whole


def diff(a: Trajectory, b: Trajectory) -> Diff:
    """Compares two trajectories, agent by agent: prompts (the new messages of a step), answers, tool calls, results, rewards.

    A fork is compared from the step where the fork left its parent. Raises TypeError.
    """
    for one in (a, b):
        if not isinstance(one, Trajectory):
            raise TypeError(f"diff() takes two trajectories, such as store.trajectory(id), not {type(one).__name__}")
    agents = list(dict.fromkeys([s.agent for s in a.steps] + [s.agent for s in b.steps]))
    if a.agent != b.agent and len(agents) == 2:  # one agent each, under another name
        agents = [a.agent]
    found: list[tuple[tuple[int, int], Pair]] = []
    for agent in agents:
        skip_a, skip_b = _before_fork(a, b, agent), _before_fork(b, a, agent)
        left = _steps(a, agent, _sent(b, agent, skip_a))
        right = _steps(b, agent if agents != [a.agent] else b.agent, _sent(a, agent, skip_b))
        for i, j in _aligned([v for v in left if v.index >= skip_b], [v for v in right if v.index >= skip_a]):
            where = (min(v.order for v in (i, j) if v is not None), 0)
            found.append((where, _pair(agent, i, j)))
    pairs = [pair for _, pair in sorted(found, key=lambda f: f[0])]
    first = next((n for n, pair in enumerate(pairs) if pair.differs), None)
    values = {
        "task": [a.task, b.task],
        "agent": [a.agent, b.agent],
        "model": [a.model, b.model],
        "status": [a.status, b.status],
        "answer": [a.answer, b.answer],
        "reward": [a.reward, b.reward],
        "rewards": [{n: a.rewards[n] for n in a.rewards.names}, {n: b.rewards[n] for n in b.rewards.names}],
    }
    return Diff(a.id, b.id, pairs, first, {k: v for k, v in values.items() if v[0] != v[1]})


class _View(msgspec.Struct, frozen=True):
    """A step as it is compared."""

    index: int
    order: int
    values: dict[str, Any]
    key: str


def _sent(parent: Trajectory, agent: str | None, step: int) -> Call | None:
    """What the model was asked last before a fork left."""
    before: Call | None = None
    for one in parent.steps:
        if one.agent == agent and one.index < step:
            before = _act(one) or before
    return before


def _steps(t: Trajectory, agent: str | None, before: Call | None) -> list[_View]:
    views: list[_View] = []
    for order, step in enumerate(t.steps):
        if step.agent == agent:
            values = _values(step, before)
            before = _act(step) or before
            key = content_hash([values["answer"], values["tool calls"], values["actions"]])
            views.append(_View(step.index, order, values, key))
    return views


def _act(step: Step) -> Call | None:
    return next((c for c in reversed(step.llm_calls) if c.purpose == "act"), None)


def _values(step: Step, before: Call | None) -> dict[str, Any]:
    call = _act(step)
    gone, new = rests(before, call) if before is not None and call is not None else ([], call.messages if call else [])
    choice = next(iter(call.choices), None) if call is not None else None
    return {
        "observation": step.observation,
        "prompt": new[shared_prefix(gone, new) :],
        "params": call.params if call is not None else None,
        "answer": choice.text if choice else None,
        "tool calls": [[c.name, c.arguments] for c in choice.tool_calls] if choice else [],
        "actions": [[a.name, a.arguments] for a in step.actions],
        "results": [a.result if a.error is None else {"error": a.error} for a in step.actions],
        "reward": step.reward,
    }


def _before_fork(t: Trajectory, of: Trajectory, agent: str | None) -> int:
    """The steps of `of` that a fork shares with it."""
    fork = t.start.fork if t.start else None
    shares = fork is not None and fork.trajectory == of.id and agent == of.agent
    return (fork.step or 0) if fork is not None and shares else 0


def _aligned(a: list[_View], b: list[_View]) -> list[tuple[_View | None, _View | None]]:
    keys_a, keys_b = [v.key for v in a], [v.key for v in b]
    if max(len(a), len(b)) > _ALIGNED:
        return [(a[i] if i < len(a) else None, b[i] if i < len(b) else None) for i in range(max(len(a), len(b)))]
    out: list[tuple[_View | None, _View | None]] = []
    for _, i, i_end, j, j_end in difflib.SequenceMatcher(None, keys_a, keys_b, autojunk=False).get_opcodes():
        for n in range(max(i_end - i, j_end - j)):
            out.append((a[i + n] if i + n < i_end else None, b[j + n] if j + n < j_end else None))
    return out


def _pair(agent: str | None, a: _View | None, b: _View | None) -> Pair:
    if a is None or b is None:
        there = a or b
        assert there is not None
        values = {k: [v if a else None, None if a else v] for k, v in there.values.items() if v not in (None, [])}
        return Pair(agent, a.index if a else None, b.index if b else None, ["missing"], values)
    values = {k: [v, b.values[k]] for k, v in a.values.items() if v != b.values[k]}
    return Pair(agent, a.index, b.index, list(values), values)
