"""Trajectories -> samples: rows of token ids with what is trained of them. Every sampled token is accounted for.

Rows come from the lineage: calls whose prompts extend each other are one row; where an edit breaks that, the policy for its
class says what happens (docs/edits.md). Knows no trainer's format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..lineage import Chain, Node, chains, tokenizer
from ..trajectory import Trajectory, before_step, returns, reward_total, trajectory_reward
from ..types import AnyRecord, Edit, Kept, LLMCall, Reward
from .advantages import GroupStatistics
from .groups import Groups
from .plan import Plan
from .rows import Draft, generated
from .sample import Conservation, Pair, Sample, Tally
from .views import unfit


class Samples:
    """Samples as they are asked for; `report` accounts for all tokens when they have all been."""

    def __init__(
        self,
        trajectories: Iterable[Trajectory],
        plan: Plan,
        *,
        again: Iterable[Trajectory] | None = None,
        parent: Callable[[str], Trajectory | None] | None = None,
    ) -> None:
        self.plan = plan
        self.report: Conservation = Conservation()
        self._parent = parent
        self._by = tokenizer(plan.tokenizer)
        self._seen: set[str] = set()
        #: Calls that were trained with a fork, by the trajectory that they are of.
        self._trained: dict[str, set[str]] = {}
        #: Trajectories that were left out, and why: a fork may be trained with what it shares with one.
        self._left: dict[str, str] = {}
        self._met: dict[str, tuple[int, set[Any]]] = {}
        self._groups: dict[str, list[GroupStatistics]] | None = None
        self._trajectories = trajectories
        if plan.advantage is not None:
            if again is None:
                again = trajectories
                if iter(trajectories) is trajectories:  # it can be gone through once
                    self._trajectories = again = list(trajectories)
            self._groups = self._look(again)

    def __iter__(self) -> Iterator[Any]:
        """`Sample`s, or with `edits="pair"` `Pair`s. Once: the report is of one pass."""
        self.report = Conservation(
            groups=self.report.groups,
            groups_of_one=self.report.groups_of_one,
            groups_without_variance=self.report.groups_without_variance,
            groups_of_mixed_versions=self.report.groups_of_mixed_versions,
        )
        self._seen, self._trained, self._left = set(), {}, {}
        if self._groups is None:
            self.report.groups = self.report.groups_of_one = self.report.groups_of_mixed_versions = 0
            self._met = {}
        for trajectory in self._trajectories:
            yield from self.one(trajectory)

    # --- one at a time, for exports: what a format refuses is accounted for ------------------------------------------------

    def one(self, t: Trajectory) -> Iterator[Any]:
        """The samples of one trajectory."""
        if not isinstance(t, Trajectory):
            raise _no_trajectories(t)
        self.report.trajectories += 1
        if self._groups is None and t.group is not None and self.unfit(t) is None:
            self._count(t.group, t)
        yield from self._of(t)

    def _count(self, group: str, t: Trajectory) -> None:
        """A group that is counted as it comes, where no advantage asks for its statistics before."""
        count, versions = self._met.get(group, (0, set()))
        more = versions | _versions(t)
        report = self.report
        report.groups += count == 0
        report.groups_of_one += 1 if count == 0 else -1 if count == 1 else 0
        report.groups_of_mixed_versions += len(versions) < 2 <= len(more)
        self._met[group] = count + 1, more

    def refuse(self, sample: Any, why: str) -> None:
        """A sample that was given and can't be used: its tokens were not trained after all."""
        count = len(sample.rejected_ids) if isinstance(sample, Pair) else sample.trained - sample.authored
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

    def statistics(self, group: str | None) -> list[GroupStatistics] | None:
        """The statistics of a group; None for what is in none."""
        return None if group is None else (self._groups or {}).get(group)

    # --- groups -------------------------------------------------------------------------------------------------------------

    def _look(self, trajectories: Iterable[Trajectory]) -> dict[str, list[GroupStatistics]]:
        """The statistics of each group: of the trajectory's reward, or with per-step credit of the returns of each step."""
        returns: dict[str, list[list[float]]] = {}
        versions: dict[str, set[Any]] = {}
        for t in trajectories:
            if not isinstance(t, Trajectory):
                raise _no_trajectories(t)
            if t.group is None or self.unfit(t) is not None:
                continue
            found = self.returns(t)
            if found is not None:
                returns.setdefault(t.group, []).append(found)
                versions.setdefault(t.group, set()).update(_versions(t))
        out: dict[str, list[GroupStatistics]] = {}
        for group, many in returns.items():
            longest = max(map(len, many))
            out[group] = [GroupStatistics([r[n] for r in many if n < len(r)]) for n in range(longest)]
            self.report.groups += 1
            self.report.groups_of_one += len(many) == 1
            self.report.groups_without_variance += len(many) > 1 and not any(s.varies for s in out[group])
            self.report.groups_of_mixed_versions += len(versions[group]) > 1
        return out

    def unfit(self, t: Trajectory) -> str | None:
        """Why a trajectory gives no row at all."""
        return unfit(t, self.plan.include_failed)

    def total(self, t: Trajectory) -> float | None:
        """The reward that counts: of the trajectory, with `credit` sum and last together with its steps'."""
        if self.plan.credit in ("trajectory", "per-step"):
            return _finite(trajectory_reward(self._counted(t.all_rewards)))
        whole, steps = self._whole(t), self._steps(t)
        if whole is None and all(r is None for r in steps):
            return None
        return _finite((whole or 0.0) + sum(r for r in steps if r is not None))

    def _counted(self, rewards: Iterable[Reward]) -> list[Reward]:
        """The rewards of the name that was asked for (with weight 1: it was chosen), else all."""
        name = self.plan.reward
        return [r if name is None else msgspec.structs.replace(r, weight=1.0) for r in rewards if name in (None, r.name)]

    def _whole(self, t: Trajectory) -> float | None:
        return reward_total(r for r in self._counted(t.rewards) if r.target is None and r.span is None)

    def _steps(self, t: Trajectory) -> list[float | None]:
        return [reward_total(r for r in self._counted(s.rewards) if r.target is None and r.span is None) for s in t.steps]

    def returns(self, t: Trajectory) -> list[float] | None:
        """One return, or with per-step credit the discounted return from each step on; None where no reward is known."""
        if self.plan.credit != "per-step":
            total = self.total(t)
            return None if total is None else [total]
        whole, steps = self._whole(t), self._steps(t)
        if whole is None and all(r is None for r in steps):
            return None
        each = [r or 0.0 for r in steps] or [0.0]
        each[-1] += whole or 0.0
        earned = returns(each, self.plan.discount)
        return earned if all(map(math.isfinite, earned)) else None

    # --- trajectories -------------------------------------------------------------------------------------------------------

    def _of(self, t: Trajectory) -> Iterator[Any]:
        plan = self.plan
        reason = self.unfit(t) or (self._no_reward(t) if plan.advantage is not None else None)
        whole, shared = (t, {}) if reason is not None else self._joined(t)
        found = chains(whole, agent=plan.agent, model=plan.model, purpose=tuple(plan.purpose), tokenizer=self._by)
        if reason is None:
            self._seen.add(t.id)
        elif self._parent is not None:
            self._left[t.id] = reason
        known = {call: self._left[owner] for owner, calls in shared.items() if owner in self._left for call in calls}
        trained = self._trained.get(t.id, set()).union(*(self._trained.get(o, set()) for o in shared))
        tally = Tally(self.report, trained, known)
        for chain in found:
            tally.take(chain)
        if not found:
            tally.leave("no call of the policy")
        elif not any(chain.nodes for chain in found):
            tally.leave("no call with token ids")
        elif reason is not None:
            tally.leave(reason)
            tally.rest(reason)
        else:
            for chain in found:
                yield from self._rows(t, whole, chain, tally)
        tally.rest("not in any row")
        for owner, calls in shared.items():
            self._trained.setdefault(owner, set()).update(calls if owner in self._left else calls & tally.trained)

    def _no_reward(self, t: Trajectory) -> str | None:
        return "no reward" if self.returns(t) is None else None

    def _joined(self, t: Trajectory) -> tuple[Trajectory, dict[str, set[str]]]:
        """A fork with what it shares with those it comes from, where they are not trained themselves, in steps below 0; and the
        calls in that, by whose they are."""
        before: list[AnyRecord] = []
        shared: dict[str, set[str]] = {}
        child, first = t, 0
        while self._parent is not None and child.start is not None and t.start is not None:
            fork = child.start.fork
            if fork is None or fork.step is None or fork.trajectory in self._seen or fork.trajectory in shared:
                break
            parent = self._parent(fork.trajectory)
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

    def _rows(self, t: Trajectory, whole: Trajectory, chain: Chain, tally: Tally) -> Iterator[Any]:
        if self.plan.edits == "pair":
            yield from self._pairs(t, whole, chain, tally)
            return
        segment = 0
        held: Sample | None = None  # with credit on the last token it is known a row later whether it is in this one
        for draft in self._drafts(whole, chain, tally):
            sample = draft.sample(self, self.plan, self.report, t, tally)
            if sample is None:
                continue
            sample.segment = segment
            segment += 1
            self.report.rows += 1
            if self.plan.credit != "last" or self._groups is None:
                yield sample
                continue
            if held is not None:
                if not draft.has_own_reward:
                    self.report.zero_advantage += any(value for _, value in held.advantages)
                    held.advantage, held.advantages = 0.0, [(len(held.mask), 0.0)]
                yield held
            held = sample
        if held is not None:
            yield held

    def _drafts(self, t: Trajectory, chain: Chain, tally: Tally) -> Iterator[Draft]:
        """The rows of a chain: which calls are trained in each, and in which view."""
        own = self._own_rewards(t)
        always = {"imitate"} if self.plan.edits == "imitate" else set()
        words: set[str] = set(always)
        row: list[Node] = []
        for n, node in enumerate(chain.nodes):
            before = chain.nodes[n - 1] if n else None
            if before is not None and node.kind not in ("extends", "contradicted"):
                word = self.plan.word(node)
                if word == "env":
                    yield Draft(chain, row, generated(before), words, None)
                    row, words = [], set(always)
                else:
                    words.add(word)
            if before is not None and row and self.plan.too_long == "split" and self._over(node):
                yield Draft(chain, row, generated(before), words, None)
                row, words = [], set(always)
            row.append(node)
        if row:
            last = chain.nodes[-1]
            edited = bool(chain.last_edits) and self.plan.final != "env"
            if edited:
                words.add(self.plan.final)
            yield Draft(chain, row, chain.last if edited else generated(last), words, None)
        for node in chain.discarded:
            for choice in node.responses:
                yield from self._apart(chain, node, choice, own, tally, "a discarded attempt")
        for node in chain.nodes:
            for choice in node.responses:
                if choice != node.continued:
                    yield from self._apart(chain, node, choice, own, tally, "a choice that was not continued")

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
        yield Draft(chain, [node], generated(node, choice), set(), reward, choice)

    def _own_rewards(self, t: Trajectory) -> dict[tuple[str, int], float]:
        """Rewards of one response alone."""
        found: dict[tuple[str, int], list[Reward]] = {}
        for reward in self._counted(t.all_rewards):
            if reward.target is not None:
                found.setdefault((reward.target, reward.span.choice if reward.span else 0), []).append(reward)
        totals = ((of, _finite(reward_total(rewards))) for of, rewards in found.items())
        return {of: total for of, total in totals if total is not None}

    def _pairs(self, t: Trajectory, whole: Trajectory, chain: Chain, tally: Tally) -> Iterator[Pair]:
        """For each response that preferred edits changed: what was generated, and what it was made."""
        preferred: dict[tuple[str, int], list[Edit]] = {}
        for edit in sorted(whole.all_edits, key=lambda e: (e.time, e.writer, e.seq), reverse=True):
            if edit.preferred and not edit.rejected:  # the last counts, and those before that go with it
                preferred.setdefault((edit.base, edit.choice), []).append(edit)
        for node in chain.nodes:
            for choice, ids in node.responses.items():
                edits = preferred.get((node.id, choice), [])
                made = chain.result(edits) if edits else None
                if made is None or made == ids:
                    tally.drop(node.id, choice, range(len(ids)), "not_edited")
                    continue
                tally.train(node.id, choice, range(len(ids)))
                self.report.pairs += 1
                text = node.choices[choice].text
                chosen = self._by.decode(made) if self._by is not None else _text_result(edits, text)
                yield Pair(
                    prompt_ids=node.prompt,
                    rejected_ids=ids,
                    chosen_ids=made,
                    prompt=node.call.messages,
                    rejected=text,
                    chosen=chosen,
                    trajectory=t.id,
                    group=t.group,
                    agent=chain.agent,
                    call=node.id,
                )
        for node in chain.discarded:
            for choice, ids in node.responses.items():
                tally.drop(node.id, choice, range(len(ids)), "not_edited")


def _text_result(edits: list[Edit], text: str) -> str | None:
    """The edited text, where one edit says it all as text."""
    (edit, *others) = edits
    if others or edit.unit != "char" or edit.channel != "content" or any(getattr(r, "call", None) for r in edit.result):
        return None
    return "".join(text[r.start : r.stop] if isinstance(r, Kept) else r.text or "" for r in edit.result)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _versions(t: Trajectory) -> set[Any]:
    """The policy versions that answered in it: what its calls say, else its start."""
    found = {r.policy_version for r in t.records if isinstance(r, LLMCall) and r.purpose == "act"} - {None}
    return found or {t.start.policy_version if t.start else None}


def _no_trajectories(found: Any) -> TypeError:
    what = type(found).__name__
    return TypeError(f"samples are of trajectories, such as those of store.trajectories(); found {what}")


def samples(
    trajectories: Iterable[Trajectory] | Groups,
    *,
    edits: str | dict[str, str] | Callable[[Node], str] = "env",
    parent: Callable[[str], Trajectory | None] | None = None,
    **options: Any,
) -> Samples:
    """Rows for training, and `.report`, which accounts for every sampled token.

    `edits`: what happens where the context is not what the calls before left. "env": the edit is part of the environment, it
    ends the row. "mask": one row in the last order, of which only what still stands exactly as it was sampled is trained.
    "reweight": stale tokens too, weighted by `scorer=` or a stored scoring, up to `cap=`. "imitate": all responses as they stand
    now, by cross-entropy. "pair": `Pair`s of edits that are marked as preferred. Or a mapping from classes of edits to the first
    three, or a function of the `Node`. `advantage`: grpo, verl, trl-async, art, dr_grpo, rloo or reward, over groups. `credit`:
    trajectory, sum, last or per-step (with `discount`). `agent`, `model` and `purpose` choose the policy. `reward` names the
    reward that counts. `max_tokens` with `too_long` drop or split; `logprobs=True` refuses rows that lack one; `tokenizer` places
    text edits; `include_failed=True` keeps what failed through the environment. `trajectories` may be the `Groups` of
    `store.groups`. With `advantage` it is gone through twice: what can be gone through once, such as `store.trajectories()`, is
    kept in memory; `Groups` and lists are not. Raises InvalidInput.
    """
    known = Plan.__struct_fields__
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"no option {unknown[0]!r}; there are: {', '.join(known)}")
    plan = Plan(edits=edits, **options)
    if isinstance(trajectories, Trajectory) or not isinstance(trajectories, Iterable):
        raise _no_trajectories(trajectories)
    if isinstance(trajectories, Groups):
        return Samples(trajectories.trajectories(), plan, again=trajectories.trajectories(), parent=parent)
    return Samples(trajectories, plan, parent=parent)
