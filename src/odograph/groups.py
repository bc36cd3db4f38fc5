"""Groups: which trajectories are compared with each other. Made of summaries; reads a trajectory only when it is asked for.

One rule for judges, scores, exports and figures. What has no group by the chosen key is in none: nothing is merged into a default
one. A replay is in no group. A fork is in the group that it records. A trajectory that is still being recorded is compared when
it has ended, unless running ones are asked for. Groups of one task in several windows of time are one family, which a split
never parts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import msgspec

from .clock import iso_time, parse_span
from .codec import content_hash, encode
from .errors import InvalidInput, NotFound
from .store.filters import FilterArgs, Filters, given
from .store.summary import Summary
from .trajectory import Trajectory

if TYPE_CHECKING:
    from .store.reader import Reader

#: What groups are made by, beside a function of a `Summary`.
GroupBy = Literal["group", "task", "scenario"]
BY: tuple[GroupBy, ...] = get_args(GroupBy)
#: Why a trajectory is in no group although it has the key of one.
RUNNING, REPLAY = "still running", "a replay"
T = TypeVar("T")
_NAME, _NAMED = 120, 100  # characters of a group's name, groups that a report names


class Group(msgspec.Struct, frozen=True):
    """Trajectories that are compared with each other: their ids, and the reward of each (None: not known), oldest first."""

    name: str
    ids: list[str]
    rewards: list[float | None]
    #: The group over all windows of time: a split parts no family.
    family: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def known(self) -> list[float]:
        """The known rewards."""
        return [r for r in self.rewards if r is not None]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.known) if self.known else None

    @property
    def std(self) -> float | None:
        """The population standard deviation of the known rewards; None if no reward is known."""
        return statistics.pstdev(self.known) if self.known else None

    @property
    def varies(self) -> bool:
        """Whether two known rewards differ, so that the group can train."""
        known = self.known
        return len(known) > 1 and not math.isclose(min(known), max(known), rel_tol=1e-9, abs_tol=1e-12)


def wants_running(filters: Filters) -> bool:
    """Whether filters ask for trajectories that are still being recorded."""
    return filters.status is not None and "running" in filters.status


def together(things: Iterable[T], key: Callable[[T], Hashable | None]) -> list[list[T]]:
    """Things of one key together, in the order of the first of each; what has no key (None) is by itself."""
    found: dict[Hashable, list[T]] = {}
    for n, thing in enumerate(things):
        of = key(thing)
        found.setdefault((n,) if of is None else (None, of), []).append(thing)
    return list(found.values())


class Groups:
    """The groups that are large enough, in the order of their first trajectory; `too_small`, `ungrouped`, `running` and
    `replays` are the rest."""

    def __init__(
        self,
        summaries: Iterable[Summary],
        read: Callable[[Iterable[str]], Iterator[Trajectory]],
        *,
        by: GroupBy | Callable[[Summary], str | None] = "group",
        window: str | None = None,
        min_size: int = 2,
        running: bool = False,
        asked: dict[str, Any] | None = None,
    ) -> None:
        if not callable(by) and by not in BY:
            raise InvalidInput(f"groups are by {', '.join(BY)}, or by a function of a summary, not by {by!r}")
        if type(min_size) is not int or min_size < 1:
            raise InvalidInput(f"min_size is 1 or more, not {min_size!r}")
        self.by = by
        self.window: str | None = window
        self.min_size: int = min_size
        self.asked: dict[str, Any] = dict(asked or {})
        span = parse_span(window) if window is not None else None
        if span == 0:
            raise InvalidInput(f"a window is longer than nothing, not {window!r}")
        self._read = read
        #: Groups of fewer than `min_size`.
        self.too_small: list[Group] = []
        #: Ids of trajectories that are in no group: they have no such key, or with a window no known time.
        self.ungrouped: list[str] = []
        #: Ids of trajectories that are still being recorded, and of replays: neither is compared with others.
        self.running: list[str] = []
        self.replays: list[str] = []
        #: Whether trajectories that are still being recorded were asked for.
        self.with_running = running
        self._groups: dict[str, Group] = {}
        for group in self._made(summaries, span):
            if len(group) < min_size:
                self.too_small.append(group)
            else:
                self._groups[group.name] = group

    def _made(self, summaries: Iterable[Summary], span: int | None) -> list[Group]:
        found: dict[tuple[str, int], Group] = {}
        names: dict[str, str] = {}
        for s in summaries:
            if s.replay:
                self.replays.append(s.id)
                continue
            if s.status == "running" and not self.with_running:
                self.running.append(s.id)
                continue
            key = _key(s, self.by)
            if key is None or (span is not None and s.started is None):
                self.ungrouped.append(s.id)
                continue
            identity, family = key
            if names.setdefault(family, identity) != identity:  # text that reads like another's JSON
                family = f"{family} #{identity[:12]}"
                names[family] = identity
            start = s.started // span * span if span is not None and s.started is not None else 0
            name = family if span is None else f"{family} @ {iso_time(start)}"
            group = found.setdefault((identity, start), Group(name, [], [], family))
            group.ids.append(s.id)
            group.rewards.append(s.reward)
        return list(found.values())

    def __repr__(self) -> str:
        return f"<{len(self)} groups by {self.by}, {len(self.too_small)} too small>"

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, name: str) -> Group:
        try:
            return self._groups[name]
        except KeyError:
            raise NotFound(f"no group {name!r} among {len(self)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._groups

    @property
    def without_variance(self) -> list[Group]:
        """Groups whose known rewards are all equal: every advantage is 0."""
        return [g for g in self if g.known and not g.varies]

    def trajectories(self) -> Iterator[Trajectory]:
        """The trajectories of each group, one group after the other; `t.group` is the group's name."""
        for group in self:
            for t in self._read(group.ids):
                yield t.in_group(group.name, group.family)

    @property
    def left_out(self) -> dict[str, int]:
        """The number of trajectories in no group, by reason."""
        small = sum(map(len, self.too_small))
        reasons = {f"in a group of fewer than {self.min_size}": small, "in no group": len(self.ungrouped)}
        reasons |= {RUNNING: len(self.running), REPLAY: len(self.replays)}
        return {reason: count for reason, count in reasons.items() if count}

    def report(self) -> dict[str, Any]:
        """Counts, and the names of groups (a hundred) that are too small, or have no variance."""
        by = self.by if isinstance(self.by, str) else getattr(self.by, "__name__", "a function")
        flat = self.without_variance
        return {
            "by": by,
            "window": self.window,
            "min_size": self.min_size,
            "groups": len(self),
            "trajectories": sum(map(len, self)),
            "too_small": len(self.too_small),
            "too_small_names": [g.name for g in self.too_small[:_NAMED]],
            "without_variance": len(flat),
            "without_variance_names": [g.name for g in flat[:_NAMED]],
            "without_reward": sum(1 for g in self if not g.known),
            "left_out": self.left_out,
        }


def _key(s: Summary, by: GroupBy | Callable[[Summary], str | None]) -> tuple[str, str] | None:
    """What tells a group from others, and its name; None for what is in none."""
    if callable(by):
        value: Any = by(s)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"groups are named by strings (None: in no group), not {type(value).__name__}")
    elif by == "task":
        value = s.task
    elif by == "scenario":
        value = s.scenario if s.scenario is not None else s.group
    else:
        value = s.group
    if value is None:
        return None
    identity = content_hash(value)
    text = value if isinstance(value, str) else encode(value).decode()
    return identity, text if len(text) <= _NAME else f"{text[:_NAME]}… #{identity[:12]}"


def groups_in(
    reader: Reader,
    filters: FilterArgs,
    *,
    by: GroupBy | Callable[[Summary], str | None],
    window: str | None,
    min_size: int,
) -> Groups:
    """`Store.groups`, of what a reader reads."""
    chosen = Filters.of(filters)
    more: dict[str, Any] = {"running": wants_running(chosen), "asked": given(filters)}
    return Groups(reader.summaries(chosen), reader.read, by=by, window=window, min_size=min_size, **more)
