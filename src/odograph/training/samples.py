"""Trajectories -> samples: rows of token ids with what is trained of them. Every sampled token is accounted for.

Rows come from the lineage: calls whose prompts extend each other are one row; where an edit breaks that, the policy for its
class says what happens (docs/edits.md). Knows no trainer's format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, Unpack, cast, overload

import msgspec

from ..errors import InvalidInput, NotFound
from ..groups import RUNNING, Groups
from ..lineage import Chain, Node, Thread, chains, cut_out, tokenizer
from ..trajectory import Trajectory, before_step
from ..types import AnyRecord, LLMCall, Reward
from .advantages import CONVENTIONS, GroupStatistics, convention
from .credit import Earned, Row, advise, earned, statistics_of
from .pairs import Pairs, preferred
from .plan import MergedOptions, PairOptions, Plan, SampleOptions
from .rows import Draft, generated
from .sample import Conservation, Pair, Sample, Tally
from .views import invalid, unfit

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Given = TypeVar("Given", default=Any)
else:
    from typing import TypeVar

    Given = TypeVar("Given")

#: Reason of a trajectory that comes a second time.
_AGAIN = "the same trajectory again"


class _Built(msgspec.Struct):
    """What was built of one trajectory, and its own account."""

    rows: list[Row]
    earned: Earned
    account: Conservation


class _Returns:
    """What the trajectories of a group earned, as far as they gave rows, and the policies that they are of."""

    def __init__(self) -> None:
        self.many: list[list[float]] = []
        self.versions: set[Any] = set()

    def statistics(self, report: Conservation) -> list[GroupStatistics]:
        """Of each return; the group is counted."""
        made = statistics_of(self.many)
        report.groups += bool(self.many)
        report.groups_of_one += len(self.many) == 1
        report.groups_without_variance += len(self.many) > 1 and not any(s.varies for s in made)
        report.groups_of_mixed_versions += len(self.versions) > 1
        return made


class Samples(Generic[Given]):
    """Samples, built while they are iterated. `report` accounts for all tokens when the iteration is complete."""

    def __init__(
        self,
        trajectories: Iterable[Trajectory],
        plan: Plan,
        *,
        parent: Callable[[str], Trajectory | None] | None = None,
        compared: bool | None = None,
    ) -> None:
        self.plan = plan
        #: Whether rewards are compared with each other, by us or by the trainer: what is still being recorded waits then.
        self._compared = plan.compares if compared is None else compared
        self.report: Conservation = Conservation()
        self._parent = parent
        self._by = tokenizer(plan.tokenizer)
        self._rule = convention(plan.advantage) if plan.advantage is not None else None
        #: Trajectories that were met; those of them that are trained themselves.
        self._met: set[str] = set()
        self._seen: set[str] = set()
        #: Calls that were trained with a fork, by the trajectory that they are of.
        self._trained: dict[str, set[str]] = {}
        #: Trajectories that were left out, and why: a fork may be trained with what it shares with one.
        self._left: dict[str, str] = {}
        self._counts: dict[str, tuple[int, set[Any]]] = {}
        #: With advantages: what was built of each trajectory of the group that is being given, by its place in memory.
        self._built: dict[int, _Built | Exception] = {}
        self._trajectories = trajectories
        #: The trajectory that was checked last, and what is wrong with it.
        self._last: tuple[Trajectory | None, str | None] = None, None

    def __iter__(self) -> Iterator[Given]:
        """`Sample`s, or with `edits="pair"` `Pair`s. Once: the report is of one pass."""
        self._begin()
        found = self._trajectories
        if self._rule is None:
            for t in found:
                yield from self.one(t)
        elif isinstance(found, Groups):
            for _, group in groupby(found.trajectories(), key=lambda t: t.group):
                members = list(group)
                self.prepare(members)
                for t in members:
                    yield from self.one(t)
        elif isinstance(found, Sequence) or iter(found) is found:
            yield from self._in_place(found if isinstance(found, Sequence) else list(found))
        else:
            yield from self._twice(found)

    def _begin(self) -> None:
        self.report = Conservation()
        self._met, self._seen, self._trained, self._left, self._counts, self._built = set(), set(), {}, {}, {}, {}

    def _in_place(self, found: Sequence[Trajectory]) -> Iterator[Any]:
        """In the order in which they are given; a group is built when its first is asked for."""
        groups: dict[str, list[Trajectory]] = {}
        for t in found:
            if isinstance(t, Trajectory) and t.group is not None:
                groups.setdefault(t.group, []).append(t)
        for t in found:
            if isinstance(t, Trajectory) and t.group in groups:
                self.prepare(groups.pop(t.group))
            yield from self.one(t)

    # --- one at a time, for exports: what a format refuses is accounted for ------------------------------------------------

    def prepare(self, group: list[Trajectory]) -> None:
        """Builds the samples of a group's trajectories, whose advantages need each other. `one` gives them then."""
        found = _Returns()
        for t in group:
            if id(t) not in self._built:
                self._take(t, found)
        name = group[0].group
        self._advise(group, found.statistics(self.report) if name is not None else [])

    def _take(self, t: Trajectory, found: _Returns) -> None:
        try:
            built = self._build(t)
        except Exception as error:  # it is raised where its samples are asked for: it must not cost the others
            self._built[id(t)] = error
            return
        self._built[id(t)] = built
        if built.rows and built.earned.returns is not None:  # what gives no row is compared with nothing
            found.many.append(built.earned.returns)
            found.versions |= _versions(t)

    def _advise(self, group: list[Trajectory], statistics: list[GroupStatistics]) -> None:
        assert self._rule is not None
        for t in group:
            found = self._built[id(t)]
            if isinstance(found, _Built):
                advise(found.rows, found.earned, t, self.plan, self._rule, statistics)
                found.account.zero_advantage += sum(not any(a for _, a in row.sample.advantages) for row in found.rows)

    def _twice(self, trajectories: Iterable[Trajectory]) -> Iterator[Any]:
        """What can be gone through again and is not kept: once for the statistics of all groups, once for the samples."""
        groups: dict[str, _Returns] = {}
        for t in trajectories:
            if not isinstance(t, Trajectory):
                raise _no_trajectories(t)
            if t.group is not None:
                self._take(t, groups.setdefault(t.group, _Returns()))
                self._built.clear()
        self._begin()
        known = {name: found.statistics(self.report) for name, found in groups.items()}
        for t in trajectories:
            self._take(t, _Returns())
            self._advise([t], known.get(t.group, []) if t.group is not None else [])
            yield from self.one(t)

    def _build(self, t: Trajectory) -> _Built:
        account = Conservation()
        e = earned(t, self.plan)
        rows: list[Row] = []
        if self._is_new(t, account):
            rows = list(self._of(t, e, account))
        return _Built(rows, e, account)

    def one(self, t: Trajectory) -> Iterator[Any]:
        """The samples of one trajectory."""
        if not isinstance(t, Trajectory):
            raise _no_trajectories(t)
        self.report.trajectories += 1
        if self._rule is not None:
            if id(t) not in self._built:
                self.prepare([t])
            built = self._built.pop(id(t))
            if isinstance(built, Exception):
                raise built
            self.report.add(built.account)
            yield from (row.sample for row in built.rows)
            return
        if not self._is_new(t, self.report):
            return
        if t.group is not None and self.unfit(t) is None:
            self._count(t.group, t)
        for row in self._of(t, earned(t, self.plan), self.report):
            yield row.sample if isinstance(row, Row) else row

    def _is_new(self, t: Trajectory, report: Conservation) -> bool:
        """Whether a trajectory comes for the first time: no token is trained twice."""
        if t.id and t.id in self._met:
            report.left_out[_AGAIN] = report.left_out.get(_AGAIN, 0) + 1
            return False
        self._met.add(t.id)
        return True

    def _count(self, group: str, t: Trajectory) -> None:
        """A group that is counted as it comes, where no advantage asks for its statistics."""
        count, versions = self._counts.get(group, (0, set()))
        more = versions | _versions(t)
        report = self.report
        report.groups += count == 0
        report.groups_of_one += 1 if count == 0 else -1 if count == 1 else 0
        report.groups_of_mixed_versions += len(versions) < 2 <= len(more)
        self._counts[group] = count + 1, more

    def refuse(self, sample: Any, why: str) -> None:
        """A sample that was given and can't be used: its tokens were not trained after all."""
        count = sample.trained if isinstance(sample, Pair) else sample.trained - sample.authored
        report = self.report
        report.trained -= count
        report.dropped[why] = report.dropped.get(why, 0) + count
        if isinstance(sample, Pair):
            report.pairs -= 1
        else:
            report.rows -= 1
            report.authored -= sample.authored

    def mark(self) -> Conservation:
        """The account as it is now, for `undo`."""
        return msgspec.convert(msgspec.to_builtins(self.report), Conservation)

    def undo(self, before: Conservation, why: str) -> None:
        """What was given since `before` was marked can't be used, none of it."""
        sampled, trajectories = self.report.sampled - before.sampled, self.report.trajectories
        before.trajectories = trajectories
        for name in ("groups", "groups_of_one", "groups_of_mixed_versions"):
            setattr(before, name, getattr(self.report, name))
        before.sampled += sampled
        before.dropped[why] = before.dropped.get(why, 0) + sampled
        self.report = before

    def unfit(self, t: Trajectory) -> str | None:
        """Why a trajectory gives no row at all."""
        why = unfit(t, self.plan.include_failed)
        if why is None and self._compared and t.status == "running" and not self.plan.include_running:
            why = RUNNING
        if why is not None or self.plan.include_invalid:
            return why
        if self._last[0] is not t:
            self._last = t, invalid(t)
        return self._last[1]

    # --- trajectories -------------------------------------------------------------------------------------------------------

    def _of(self, t: Trajectory, e: Earned, report: Conservation) -> Iterator[Any]:
        plan = self.plan
        reason = self.unfit(t) or ("no reward" if self._rule is not None and e.returns is None and not e.own else None)
        whole, shared = (t, {}) if reason is not None else self._joined(t)
        found = chains(whole, agent=plan.agent, model=plan.model, purpose=tuple(plan.purpose), tokenizer=self._by)
        if reason is None:
            self._seen.add(t.id)
        elif self._parent is not None or t.beside is not None:
            self._left[t.id] = reason
        known = {call: self._left[owner] for owner, calls in shared.items() if owner in self._left for call in calls}
        trained = self._trained.get(t.id, set()).union(*(self._trained.get(o, set()) for o in shared))
        tally = Tally(report, trained, known)
        pairs = Pairs(t, preferred(whole) if reason is None else {}, self._by, tally, report) if plan.edits == "pair" else None
        texts = [pair for chain in found for pair in pairs.of_texts(chain)] if pairs is not None else []
        yield from texts
        for chain in found:
            tally.take(chain)
        if not found:
            tally.leave("no call of the policy")
        elif not texts and not any(chain.nodes for chain in found):
            tally.leave("no call with token ids")
        elif reason is not None:
            tally.leave(reason)
            tally.rest(reason)
        elif pairs is not None:
            yield from (pair for chain in found for pair in pairs.of_tokens(chain))
        else:
            made = [row for chain in found for row in self._rows(t, chain, tally, e, report)]
            rows = [row.sample for row in made]
            tokens = sum(sample.trained for sample in rows)
            for sample in rows:
                sample.trajectory_rows, sample.trajectory_tokens = len(rows), tokens
            yield from made
            report.rewards_left_out += e.left_out
        tally.rest("not in any row")
        for owner, calls in shared.items():
            self._trained.setdefault(owner, set()).update(calls if owner in self._left else calls & tally.trained)

    def _joined(self, t: Trajectory) -> tuple[Trajectory, dict[str, set[str]]]:
        """A fork with what it shares with those it comes from, where they are not trained themselves, in steps below 0; and the
        calls in that, by whose they are."""
        before: list[AnyRecord] = []
        shared: dict[str, set[str]] = {}
        child, first = t, 0
        find = self._parent if self._parent is not None else t.beside
        while find is not None and child.start is not None and t.start is not None:
            fork = child.start.fork
            if fork is None or fork.step is None or fork.trajectory in self._seen or fork.trajectory in shared:
                break
            try:
                parent = find(fork.trajectory)
            except NotFound:
                break
            if parent is None or parent.start is None:
                break
            try:
                kept = [r for r in before_step(parent, fork.step).complete_records() if not isinstance(r, Reward)]
            except InvalidInput:
                break
            first -= 1 + max((r.step for r in kept if r.step is not None), default=-1)
            root = {parent.start.id: t.start.id}
            before = [
                *(
                    msgspec.structs.replace(r, step=first + r.step, parent=root.get(r.parent or "", r.parent))
                    for r in kept
                    if r.step is not None
                ),
                *before,
            ]
            shared[fork.trajectory] = {r.id for r in kept if isinstance(r, LLMCall)}
            child = parent
        return (Trajectory(t.id, [*before, *t.complete_records()]) if before else t), shared

    # --- rows ---------------------------------------------------------------------------------------------------------------

    def _rows(self, t: Trajectory, chain: Chain, tally: Tally, e: Earned, report: Conservation) -> Iterator[Row]:
        segment = 0
        rows: list[Row] = []
        for draft in self._drafts(chain, tally, e):
            sample = draft.sample(e, self.plan, report, t, tally)
            if sample is None:
                continue
            sample.segment = segment
            segment += 1
            report.rows += 1
            row = Row(sample, draft.own_reward)
            if self._rule is None:
                yield row
            else:
                rows.append(row)
        last = next((row for row in reversed(rows) if row.own is None), None)
        if last is not None:
            last.last = True
        yield from rows

    def _drafts(self, chain: Chain, tally: Tally, e: Earned) -> Iterator[Draft]:
        """The rows of a chain: which calls are trained in each, and in which view."""
        cut = {} if self.plan.deleted else cut_out(chain)
        for thread in chain.threads:
            yield from self._of_thread(chain, thread, cut)
        for node in chain.discarded:
            for choice in node.responses:
                yield from self._apart(chain, node, choice, e.own, tally, "a discarded attempt")
        for node in chain.nodes:
            for choice in node.responses:
                if choice != node.continued and choice not in node.taken:
                    yield from self._apart(chain, node, choice, e.own, tally, "a choice that was not continued")

    def _of_thread(self, chain: Chain, thread: Thread, cut: dict[tuple[str, int], set[int]]) -> Iterator[Draft]:
        always = {"imitate"} if self.plan.edits == "imitate" else set()
        words: set[str] = set(always)
        row: list[tuple[Node, int]] = [thread.base] if thread.base is not None else []
        for n, node in enumerate(thread.nodes):
            before = thread.nodes[n - 1] if n else None
            if before is not None and node.kind not in ("extends", "contradicted"):
                word = self.plan.word(node)
                if word == "env":
                    yield Draft(chain, row, generated(before), words, None, cut=cut)
                    row, words = [], set(always)
                else:
                    words.add(word)
            if before is not None and row and self.plan.too_long == "split" and self._over(node):
                yield Draft(chain, row, generated(before), words, None, cut=cut)
                row, words = [], set(always)
            row.append((node, node.continued if node.continued is not None else min(node.responses)))
        if row:
            edited = bool(thread.last_edits) and self.plan.final != "env"
            if edited:
                words.add(self.plan.final)
            yield Draft(chain, row, thread.last if edited else generated(thread.nodes[-1]), words, None, cut=cut)

    def _over(self, node: Node) -> bool:
        limit = self.plan.max_tokens
        return limit is not None and len(node.prompt) + max(map(len, node.responses.values())) > limit

    def _apart(
        self, chain: Chain, node: Node, choice: int, own: dict[tuple[str, int], float], tally: Tally, why: str
    ) -> Iterator[Draft]:
        """A response that nothing followed: a row where it has a reward of its own, else dropped."""
        reward = own.get((node.id, choice))
        if reward is None:
            tally.drop(node.id, choice, range(len(node.responses[choice])), why)
            return
        yield Draft(chain, [(node, choice)], generated(node, choice), set(), reward, choice)


def _versions(t: Trajectory) -> set[Any]:
    """The policy versions that answered in it: what its calls say, else its start."""
    found = {r.policy_version for r in t.records if isinstance(r, LLMCall) and r.purpose == "act"} - {None}
    return found or {t.start.policy_version if t.start else None}


def _no_trajectories(found: Any) -> TypeError:
    what = type(found).__name__
    return TypeError(f"samples are of trajectories, such as those of store.trajectories(); found {what}")


@overload
def samples(
    trajectories: Iterable[Trajectory] | Groups,
    *,
    parent: Callable[[str], Trajectory | None] | None = None,
    **options: Unpack[MergedOptions],
) -> Samples[Sample]: ...
@overload
def samples(
    trajectories: Iterable[Trajectory] | Groups,
    *,
    parent: Callable[[str], Trajectory | None] | None = None,
    **options: Unpack[PairOptions],
) -> Samples[Pair]: ...
@overload
def samples(
    trajectories: Iterable[Trajectory] | Groups,
    *,
    parent: Callable[[str], Trajectory | None] | None = None,
    **options: Unpack[SampleOptions],
) -> Samples[Any]: ...
def samples(
    trajectories: Iterable[Trajectory] | Groups,
    *,
    parent: Callable[[str], Trajectory | None] | None = None,
    **options: Unpack[SampleOptions],
) -> Samples[Any]:
    """Makes training rows from trajectories. `.report` accounts for every sampled token.

    `trajectories` may be the `Groups` of `store.groups`. With `advantage`, trajectories are read twice: one-shot iterators are
    buffered in memory; `Groups` are buffered one group at a time. `parent` returns the trajectory that a fork left, for example
    `store.trajectory` (default: the store of the trajectories). `SampleOptions` lists the options. Raises InvalidInput;
    TypeError for an unknown option.
    """
    plan = Plan.of(options)
    if plan.credit == "per-step" and plan.advantage is None:
        raise InvalidInput(f"credit='per-step' is of advantages: give advantage= too ({', '.join(CONVENTIONS)})")
    if isinstance(trajectories, Trajectory) or not isinstance(trajectories, (Iterable, Groups)):
        raise _no_trajectories(trajectories)
    if isinstance(trajectories, Groups) and trajectories.with_running:
        plan = msgspec.structs.replace(plan, include_running=True)
    if isinstance(trajectories, Groups) and plan.advantage is None:
        return Samples(trajectories.trajectories(), plan, parent=parent)
    return Samples(cast("Iterable[Trajectory]", trajectories), plan, parent=parent)
