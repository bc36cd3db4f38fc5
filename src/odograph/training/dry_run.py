"""What would train: the groups of trajectories as a trainer's format takes them, and why the others are not. Writes nothing.

The very samples are built and given to the very exporter, so that nothing is guessed; what a trainer then does with a group
is in its advantage: nothing is learned from a group of one, or from rewards that are all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..trajectory import Trajectory
from .advantages import GroupStatistics, convention
from .export import allowed, read_options
from .formats import Made, Refused, find, is_of_samples
from .sample import Pair
from .samples import Samples


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
    to: str = "art",
    *,
    again: Callable[[], Iterable[Trajectory]] | None = None,
    parent: Callable[[str], Trajectory | None] | None = None,
    **options: Any,
) -> Iterator[GroupPlan]:
    """The plan of each group, whose trajectories have to come one after the other. `to` and `options` as for `export`; `again`
    gives the trajectories once more, for advantages that need the statistics of groups before. Raises InvalidInput, NotFound.
    """
    exporter: Any = find(to)
    if not is_of_samples(exporter):
        raise InvalidInput(f"{to} is no format that is trained by tokens; art, trl-grpo, trl-sft and others are")
    own, plan = read_options(exporter, to, options)
    assert plan is not None
    # ART makes its advantages itself, of whatever it is given
    by = convention(plan.advantage or "art") if plan.advantage is not None or to == "art" else None
    compared = by is not None and not by.raw
    if plan.advantage is not None and again is None:
        trajectories = list(trajectories)
        again = partial(iter, trajectories)
    samples = Samples((), plan, again=again() if again is not None and plan.advantage is not None else None, parent=parent)
    return _plans(trajectories, exporter, own, samples, compared)


def _plans(
    trajectories: Iterable[Trajectory], exporter: Any, own: dict[str, Any], samples: Samples, compared: bool
) -> Iterator[GroupPlan]:
    for _, found in groupby(trajectories, key=lambda t: (t.group is None and t.id, t.group)):
        members = [_Member(t, samples, exporter) for t in found]
        rows = 0
        if hasattr(exporter, "lines"):
            try:
                rows = sum(1 for _ in exporter.lines([m.made for m in members], **own))
            except Refused as why:
                for member in members:
                    member.made.refuse(str(why))
        else:
            for member in members:
                for sample in list(member.made.samples):
                    try:
                        exporter.row(sample, **own)
                        rows += 1
                    except Refused as why:
                        member.made.refuse(str(why), sample)
        yield _plan(members, rows, compared)


class _Member:
    """A trajectory with its samples, and what is said of them."""

    def __init__(self, t: Trajectory, samples: Samples, exporter: Any) -> None:
        report = samples.report
        before = [Counter(part) for part in (report.left_out, report.calls_left_out, report.dropped)]
        refused: list[str] = []
        found = list(allowed(exporter, t, samples, refused.append))
        after = (report.left_out, report.calls_left_out, report.dropped)
        self._reasons = refused + [why for was, now in zip(before, after, strict=True) for why in now if now[why] > was[why]]
        self._refused: set[int] = set()
        self.trajectory = t
        self.made = Made(t, found, self._reasons.append, self._refuse, samples.total(t), samples.unfit(t), set())

    def _refuse(self, sample: Any, why: str) -> None:
        self._refused.add(id(sample))

    def member(self) -> Member:
        kept = [s for s in self.made.samples if id(s) not in self._refused]
        tokens = sum(len(s.rejected_ids) if isinstance(s, Pair) else s.trained for s in kept)
        why = None if tokens else self.made.unfit or next(iter(self._reasons), "nothing to train")
        return Member(trajectory=self.trajectory.id, reward=self.made.reward, tokens=tokens, why=why)


def _plan(found: list[_Member], rows: int, compared: bool) -> GroupPlan:
    members = [m.member() for m in found]
    ready = [m for m in members if m.tokens]
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
