"""Trajectories -> the rows of a target, for exports and dry runs: what belongs together at a time, and all accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Unpack

from ..codec import loads
from ..groups import together
from ..trajectory import Trajectory
from .advantages import convention
from .credit import earned
from .formats import Made, Refused, Target, find
from .jsonrow import json_of
from .keywords import RowsArgs
from .sample import Conservation
from .samples import Samples


class Member(Made):
    """A trajectory on its way: what is trained of it, and why what is not is not."""

    def __init__(self, trajectory: Trajectory, left_out: Callable[[str], None], samples: Samples[Any] | None) -> None:
        super().__init__(trajectory)
        self.reasons: list[str] = []
        #: How many samples are given, and how many tokens of them are trained.
        self.given = self.tokens = 0
        self._leave = left_out
        self._account = samples
        if samples is not None:
            e = earned(trajectory, samples.plan)
            self.reward, self.returns, self.unfit = e.total, e.returns, samples.unfit(trajectory)

    def take(self, sample: Any) -> None:
        """A sample that was built."""
        self.given += 1
        self.tokens += sample.trained

    def left_out(self, why: str) -> None:
        self.reasons.append(why)
        self._leave(why)

    def refused(self, sample: Any, why: str) -> None:
        assert self._account is not None
        self._account.refuse(sample, why)
        self.given -= 1
        self.tokens -= sample.trained


class Feed:
    """A target, and how its rows are asked for: the names of options are looked at once, here. Raises NotFound, InvalidInput."""

    def __init__(
        self,
        to: str | Target,
        options: Mapping[str, Any],
        *,
        parent: Callable[[str], Trajectory | None] | None = None,
    ) -> None:
        self.target = find(to)
        self.own, self.plan = self.target.read(options)
        self.options = dict(options)
        self.parent = parent
        self.samples: Samples[Any] | None = None

    @property
    def takes_groups(self) -> bool:
        """Whether the trajectories of a group have to come one after the other."""
        return self.target.lines is not None or (self.plan is not None and self.plan.advantage is not None)

    @property
    def compares(self) -> bool:
        """Whether its rewards are compared with each other: by our advantages, or by its trainer's."""
        if self.plan is None:
            return False
        own = self.target.advantages
        return self.plan.compares if own is None else not convention(own).raw

    def start(self) -> None:
        """Begins a pass, with an account of its own."""
        plan = self.plan
        self.samples = Samples((), plan, parent=self.parent, compared=self.compares) if plan is not None else None

    def batches(self, trajectories: Iterable[Trajectory], *, whole: bool = False) -> Iterator[list[Trajectory]]:
        """What is written together: a trajectory, or where the target takes groups, and with `whole`, a group."""
        if not whole and not self.takes_groups:
            yield from ([t] for t in trajectories)
            return
        for _, found in groupby(trajectories, key=lambda t: (t.group is None and t.id, t.group)):
            group = list(found)
            if self.samples is not None and self.plan is not None and self.plan.advantage is not None:
                self.samples.prepare(group)
            if whole or self.target.lines is not None:
                yield group
            else:
                yield from ([t] for t in group)

    def member(self, trajectory: Trajectory, left_out: Callable[[str], None]) -> Member:
        return Member(trajectory, left_out, self.samples)

    def rows(self, batch: list[Member]) -> Iterator[Any]:
        """The rows of the trajectories that belong together. Raises TypeError for a row that is none."""
        for row in self._rows(batch):
            if row is None or isinstance(row, (str, int, float)):
                raise TypeError(f"the exporter gave {row!r:.50}; a row is a dict")
            yield row

    def _rows(self, batch: list[Member]) -> Iterator[Any]:
        target = self.target
        if target.rows is not None:
            for member in batch:
                yield from target.rows(member.trajectory, member.left_out, **self.own)
        elif target.lines is not None:
            for member in batch:
                member.samples = list(self._allowed(member))
            try:
                yield from target.lines(batch, **self.own)
            except Refused as why:
                for member in batch:
                    member.refuse(str(why))
        elif target.row is not None:
            for member in batch:
                for sample in self._allowed(member):
                    try:
                        yield target.row(sample, **self.own)
                    except Refused as why:
                        member.refuse(str(why), sample)

    def _allowed(self, member: Member) -> Iterator[Any]:
        """The samples of a trajectory; refused where a function chose a policy that the format has no place for."""
        assert self.samples is not None
        report = self.samples.report
        before = [Counter(part) for part in (report.left_out, report.calls_left_out, report.dropped)]
        refuses = self.target.refuses
        for sample in self.samples.one(member.trajectory):
            member.take(sample)
            policy = getattr(sample, "policy", None)
            if policy in refuses:
                member.refuse(f"edits={policy!r}: {refuses[policy]}", sample)
            else:
                yield sample
        after = (report.left_out, report.calls_left_out, report.dropped)
        member.reasons += [why for was, now in zip(before, after, strict=True) for why in now if now[why] > was[why]]


class Rows(list[Any]):
    """The rows of a format, in memory. `left_out`: what gave no row, by reason. `report`: of a format of samples, the account of
    every sampled token."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: Counter[str] = Counter()
        self.report: Conservation | None = None


def rows(
    trajectories: Trajectory | Iterable[Trajectory],
    to: str | Target,
    *,
    parent: Callable[[str], Trajectory | None] | None = None,
    options: Mapping[str, Any] | None = None,
    **keywords: Unpack[RowsArgs],
) -> Rows:
    """Returns the rows that `store.export(to=...)` writes, as dicts in memory: of one trajectory or of several. A row of
    `hf-traces` is a list: the lines of one session.

    `to`: the name of a format. Keywords are the options of the format and, for formats of samples, of `odograph.samples`.
    `options` takes the same options as a dict. `parent` returns the trajectory that a fork left. Raises NotFound for an unknown
    format, InvalidInput.
    """
    feed = Feed(to, {**keywords, **(options or {})}, parent=parent)
    given = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    made = Rows()
    feed.start()
    for batch in feed.batches(in_groups(given) if feed.takes_groups else given):
        members = [feed.member(t, lambda why: made.left_out.update([why])) for t in batch]
        for row in feed.rows(members):
            if "parquet" not in feed.target.files and not isinstance(row, bytes):
                json_of(row, feed.target.name)  # an export would refuse it, too
            made.append(_read(row) if isinstance(row, bytes) else row)
    if feed.samples is not None:
        made.report = feed.samples.report
        made.left_out.update(made.report.left_out)
    return made


def _read(row: bytes) -> Any:
    """A line; of a row that is a file of lines, all of them."""
    found = [loads(line) for line in row.splitlines()]
    return found[0] if len(found) == 1 else found


def in_groups(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """Those of a group one after the other, the groups in the order of their first."""
    return [t for group in together(trajectories, lambda t: t.group) for t in group]
