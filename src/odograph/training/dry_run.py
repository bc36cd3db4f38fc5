"""What would train: the groups of trajectories as a trainer's format takes them, and why the others are not. Writes nothing.

The very samples are built and given to the very exporter, so that nothing is guessed; what a trainer then does with a group
is in its advantage: nothing is learned from a group of one, or from rewards that are all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..trajectory import Trajectory
from .advantages import GroupStatistics
from .feed import Feed
from .feed import Member as FedMember


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory of a group: how many tokens of it would be trained, or why none."""

    trajectory: str
    reward: float | None
    tokens: int
    why: str | None


class GroupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a group: it trains, or `why` not. `group` is None for a trajectory that is in none."""

    group: str | None
    trains: bool
    why: str | None
    rows: int
    #: That would be trained, of the members that would.
    tokens: int
    reward_mean: float | None
    reward_std: float | None
    members: list[Member]

    def to_dict(self) -> dict[str, Any]:
        return {**msgspec.structs.asdict(self), "members": [msgspec.structs.asdict(m) for m in self.members]}


def dry_run(
    trajectories: Iterable[Trajectory],
    to: str | Feed = "art",
    *,
    parent: Callable[[str], Trajectory | None] | None = None,
    **options: Any,
) -> Iterator[GroupPlan]:
    """The plan of each group, whose trajectories have to come one after the other. `to` and `options` as for `export`. Raises
    InvalidInput, NotFound."""
    feed = to if isinstance(to, Feed) else Feed(to, options, parent=parent)
    if feed.plan is None:
        raise InvalidInput(f"{feed.target.name} is no format that is trained by tokens; art, trl-grpo, trl-sft and others are")
    return _plans(trajectories, feed)


def _plans(trajectories: Iterable[Trajectory], feed: Feed) -> Iterator[GroupPlan]:
    feed.start()
    for batch in feed.batches(trajectories, whole=True):
        members = [feed.member(t, _unheard) for t in batch]
        rows = sum(1 for _ in feed.rows(members))
        yield _plan(members, rows, feed.compares)


def _unheard(why: str) -> None:
    """The members have their reasons."""


def _plan(found: list[FedMember], rows: int, compared: bool) -> GroupPlan:
    members = [_told(m) for m in found]
    ready = [m for m in members if m.why is None]
    statistics = GroupStatistics([m.reward for m in ready if m.reward is not None])
    group = found[0].trajectory.group
    why = None
    if not ready:
        why = Counter(m.why or "" for m in members).most_common(1)[0][0]
    elif compared and statistics.count == 0:
        why = "no reward"
    elif compared and group is None:
        why = "in no group: there is nothing to compare it with"
    elif compared and statistics.count == 1:
        why = "a group of one: there is nothing to compare it with"
    elif compared and not statistics.varies:
        why = f"no variance: all {statistics.count} rewards are {statistics.mean:g}"
    return GroupPlan(
        group=group,
        trains=why is None,
        why=why,
        rows=rows,
        tokens=sum(m.tokens for m in ready) if why is None else 0,
        reward_mean=statistics.mean if statistics.count else None,
        reward_std=(statistics.spread / (statistics.count - 1)) ** 0.5 if statistics.count > 1 else None,
        members=members,
    )


def _told(m: FedMember) -> Member:
    why = None if m.given else m.unfit or next(iter(m.reasons), "nothing to train")
    return Member(trajectory=m.trajectory.id, reward=m.reward, tokens=m.tokens, why=why)
