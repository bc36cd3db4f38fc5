"""What a reward function gives for a trajectory, or for a group of them, as the records to append. Writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import isawaitable
from typing import Any

import msgspec

from ..bulk import complete
from ..codec import content_hash
from ..errors import InvalidInput
from ..totals import Rewards
from ..trajectory import Step, Trajectory
from ..types import Reward
from .functions import RewardFunction, reason


class Outcome(msgspec.Struct):
    """What a function gave for one trajectory: records to append, or why it failed."""

    trajectory: str
    records: list[Reward] = []
    #: Whether it knew all that was asked.
    known: bool = True
    error: str | None = None


def _targets(function: RewardFunction, t: Trajectory, again: bool) -> list[Step | None]:
    """What is to be scored of it: itself, or those of its steps that are not."""
    if function.per == "trajectory":
        return [None]
    return [s for s in t.steps if again or not _has(function, s.rewards)]


def _own(function: RewardFunction, rewards: Rewards) -> list[Reward]:
    return [
        r for r in rewards if r.author == function.name and r.source == function.source and r.target is None and r.span is None
    ]


def _has(function: RewardFunction, rewards: Rewards) -> bool:
    own = [r for r in _own(function, rewards) if r.version == function.version and type(r.value) is float]
    return bool(own) and len({r.name for r in own}) >= max(map(_components, own))


def _components(r: Reward) -> int:
    stated = (r.extra or {}).get("components")
    return stated if type(stated) is int else 1


def _records(function: RewardFunction, t: Trajectory, given: list[tuple[Step | None, Any]]) -> Outcome:
    """What is to be appended so that what was given counts, and nothing of another version does."""
    out = Outcome(t.id)
    for step, what in given:
        try:
            values, named = function.checked(what)
        except Exception as error:  # a mapping of the function's own may fail, too
            return _failed(t, step, error)
        out.records += _at(function, t, step, values, len(values) if named else 1, named)
        out.known = out.known and None not in values.values() and bool(values)
    if function.per == "step":
        out.records += _at(function, t, None, {}, 1)
    else:
        for one in t.steps:
            out.records += _at(function, t, one, {}, 1)
    return out


def _at(
    function: RewardFunction,
    t: Trajectory,
    step: Step | None,
    values: dict[str, float | None],
    components: int,
    named: bool = False,
) -> Iterator[Reward]:
    """The records for one target: new values, and nulls in the place of what is not known by this version. A component that is
    not
    known is recorded as null, so that the others are not taken for the whole; a function that gives nothing records nothing."""
    there = {r.name: r for r in _own(function, t.rewards if step is None else step.rewards)}
    about: dict[str, Any] = {"author": function.name, "source": function.source, "version": function.version}
    about["parent"] = (step.id if step is not None else None) or (t.start.id if t.start else None)
    if step is not None:
        about |= {"step": step.index, "agent": step.agent if step.agent != t.agent else None}
    for name in dict.fromkeys((*values, *there)):
        value, old = values.get(name), there.get(name)
        if old is None and value is None and not named:
            continue
        weight = function.weight_of(name) if name in values else 0.0  # what it no longer gives counts no more, not even as null
        same = (
            old is not None and (old.value, old.weight) == (value, weight) and (value is None or _components(old) == components)
        )
        if same and old is not None and (value is None or old.version == function.version):
            continue
        yield Reward(
            name=name,
            value=value,
            weight=weight,
            supersedes=old.id if old is not None else None,
            extra={"components": components} if components > 1 and value is not None else None,
            **about,
        )


def _failed(t: Trajectory, step: Step | None, error: BaseException) -> Outcome:
    where = "" if step is None else f"step {step.index}: "
    return Outcome(t.id, error=where + reason(error))


def evaluate(function: RewardFunction, t: Trajectory, again: bool = False) -> Outcome:
    """What a function gives for a trajectory."""
    given: list[tuple[Step | None, Any]] = []
    for step in _targets(function, t, again):
        try:
            value = function(*function.arguments(t, step))
            if isawaitable(value):  # of a plain function
                value = complete(_awaited(value))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit(), and what libraries raise beside Exception: a panic of Rust, a test's skip
            return _failed(t, step, error)
        given.append((step, value))
    return _records(function, t, given)


def in_group(function: RewardFunction, ids: Sequence[str]) -> RewardFunction:
    """A function of groups for one of them. Its version says of whom: with another member, all of the group are scored anew."""
    return function.using(version=f"{function.version}@{content_hash(sorted(ids))[:8]}")


def evaluate_group(function: RewardFunction, members: Sequence[Trajectory]) -> list[Outcome]:
    """What a function of groups gives for the trajectories of one. Where it fails, it fails all of them."""
    try:
        given = function(list(members))
        if isawaitable(given):
            given = complete(_awaited(given))
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
            raise InvalidInput(f"it gave {type(given).__name__}; a value for each trajectory was expected, in their order")
        values = list(given)
        if len(values) != len(members):
            raise InvalidInput(f"it gave {len(values)} values; one for each of {len(members)} trajectories was expected")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return [_failed(t, None, error) for t in members]
    within = in_group(function, [t.id for t in members])
    return [_records(within, t, [(None, value)]) for t, value in zip(members, values, strict=True)]


async def _awaited(value: Any) -> Any:
    return await value


async def evaluate_async(function: RewardFunction, t: Trajectory, again: bool = False) -> Outcome:
    """What an async function gives for a trajectory: its steps one after the other."""
    given: list[tuple[Step | None, Any]] = []
    for step in _targets(function, t, again):
        try:
            given.append((step, await function(*function.arguments(t, step))))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            return _failed(t, step, error)
    return _records(function, t, given)
