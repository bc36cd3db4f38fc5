"""One row: the calls that are trained in it and the view that it shows -> a sample, or the reason why there is none.

What is trained is decided here, token by token; where each token went is said to the tally.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import compress, groupby
from typing import Any, cast

from ..codec import content_hash
from ..dialects.content import is_media
from ..dialects.shapes import was_cut
from ..errors import InvalidInput
from ..lineage import Chain, Node, Segment, View
from ..lineage.sampling import not_computable, temperature
from ..trajectory import Trajectory
from ..types import Note
from .credit import Earned
from .plan import Plan
from .sample import Conservation, Part, Sample, Tally, compact

_NO_LOGPROB = "a logprob that is above 0 or no number"
_IDS = 1 << 31  # what formats hold


def generated(node: Node, choice: int | None = None) -> View:
    """The view after a call, as it was generated."""
    chosen = choice if choice is not None else node.continued if node.continued is not None else min(node.responses)
    view = node.view.copy()
    view.add(Segment("sampled", node.responses[chosen], node.id, chosen, 0, (node.id, chosen)))
    return view


#: How a row ended, by the status of its trajectory; where none is known yet it is unfinished.
_ENDS = {
    "completed": "terminated",
    "truncated": "truncated",
    "timeout": "truncated",
    "failed": "failed",
    "cancelled": "cancelled",
}


def _images(node: Node) -> list[Any]:
    """The parts of a call's messages that are no text."""
    contents = [content for m in node.messages if type(content := m.get("content")) is list]
    return [part for content in contents for part in content if is_media(part)]


class Draft:
    """A row before it is known whether it can be given: the calls that are trained in it, and their last view."""

    def __init__(
        self,
        chain: Chain,
        row: list[tuple[Node, int]],
        view: View,
        words: set[str],
        reward: float | None,
        choice: int | None = None,
        cut: dict[tuple[str, int], set[int]] | None = None,
    ) -> None:
        self._chain = chain
        self._row = {node.id: node for node, _ in row}
        self._answers = {node.id: choice for node, choice in row}
        #: Tokens that are not trained, as an editor took them out of their response.
        self._cut = cut or {}
        self._view = view
        self._own_reward = reward
        self._choice = choice
        self._last = row[-1][0]
        #: Why logprobs that were recorded can't be used.
        self._unusable: str | None = None
        self.policy = "imitate" if "imitate" in words else "reweight" if "reweight" in words else "mask" if words else "env"

    @property
    def own_reward(self) -> float | None:
        """The reward of the one response that it is of, where nothing followed that."""
        return self._own_reward

    def _ended(self, t: Trajectory) -> str:
        """How its last answer ended: an answer that was cut is truncated, whatever its trajectory says."""
        cut = was_cut(self._last.choices[self._answers[self._last.id]].finish_reason)
        return "truncated" if cut else _ENDS.get(t.status, "unfinished")

    def _reward(self, e: Earned, parts: list[Part]) -> float | None:
        """The reward of its one response, where that is compared with other choices, else the one that counts."""
        if self._own_reward is not None:
            return self._own_reward
        alone = {e.alone((part.call, part.choice)) for part in parts} if len({part.call for part in parts}) == 1 else {None}
        value = alone.pop()
        return value if value is not None and not alone else e.total

    def sample(self, e: Earned, plan: Plan, report: Conservation, t: Trajectory, tally: Tally) -> Sample | None:
        """The row; None where it can't be given, with the reason in the report."""
        view = self._view
        limit = plan.max_tokens
        if limit is not None and len(view.ids) > limit:
            self._refused(tally, "longer than max_tokens")
            return None
        if view.ids and not 0 <= min(view.ids) <= max(view.ids) < _IDS:
            self._refused(tally, "a token id below 0 or beyond 31 bits")
            return None
        if plan.advantage is not None and self._own_reward is None and e.returns is None and not self._all_compared(e):
            self._refused(tally, "no reward")
            return None
        record = self._last.call
        mask = [0] * len(view.ids)
        logprobs: list[float | None] = [None] * len(view.ids)
        versions: list[Any] = [None] * len(view.ids)
        weights: list[float] = []
        parts: list[Part] = []
        stale: list[tuple[int, Segment]] = []
        trained: list[tuple[Segment, list[int]]] = []
        context: list[tuple[Segment, str]] = []
        taken: dict[tuple[str, int], set[int]] = {}
        authored = at = 0
        for segment in self._uncut(view.segments):
            size = len(segment.ids)
            stop = at + size
            node = self._row.get(segment.call or "") if segment.source == "sampled" else None
            if node is not None and self._is_mine(segment):
                self._put(node, segment, at, logprobs, versions, t)
                standing = self._chain.standing(segment, at, view, record.adapter, self._last.inputs)
                left, mine = tally.left(node.id, segment.choice), taken.setdefault((node.id, segment.choice), set())
                indexes = [i for i in range(segment.start, segment.start + size) if i in left and i not in mine]
                take = standing == "exact" or self.policy == "imitate"
                if segment.start in self._cut.get((node.id, segment.choice), ()):
                    at = stop
                    continue
                if self.policy == "reweight" and standing == "stale":
                    stale.append((at, segment))
                    take = True
                twice = self.policy == "imitate" and not tally.is_elsewhere(node.id)
                if twice:  # an edit may have kept a token twice: the second is the editor's
                    authored += size - len(indexes)
                if take and (len(indexes) == size or twice):
                    mine.update(indexes)
                    mask[at:stop] = [1] * size
                    parts.append(Part(at, stop, node.id, segment.choice, node.call.step, segment.start))
                    trained.append((segment, indexes))
                else:
                    context.append((segment, standing if standing != "exact" else "trained elsewhere"))
            elif segment.response is not None and segment.response[0] in self._row and self._imitates(segment.response[0], tally):
                mask[at:stop] = [1] * size
                authored += size
                parts.append(Part(at, stop, segment.response[0], segment.response[1], self._row[segment.response[0]].call.step))
            at = stop
        if not any(mask):
            for segment, why in context:
                tally.context(segment.call or "", segment.choice, range(segment.start, segment.start + len(segment.ids)), why)
            self._rest(tally, "deleted")
            tally.leave("no token to train")
            return None
        refusal = self._check(mask, logprobs, parts, plan)
        if refusal is not None:
            self._refused(tally, refusal)
            return None
        if stale:
            scores = self._scores(plan, t)
            if scores is None:
                self._refused(tally, "reweight without a score of the edited context")
                return None
            weights = [1.0] * len(mask)
            for start, segment in stale:
                for n in range(start, start + len(segment.ids)):
                    recorded = logprobs[n]
                    if recorded is None:
                        self._refused(tally, "a trained token without a logprob")
                        return None
                    if type(scores[n]) not in (int, float) or math.isnan(scores[n]):
                        self._refused(tally, "a score that is no number")
                        return None
                    weights[n] = min(plan.cap, math.exp(min(50.0, scores[n] - recorded)))
        for segment, indexes in trained:
            tally.train(segment.call or "", segment.choice, indexes)
        for segment, why in context:
            tally.context(segment.call or "", segment.choice, range(segment.start, segment.start + len(segment.ids)), why)
        self._rest(tally, "deleted")
        report.authored += authored
        temperatures: list[float | None] = [None] * len(mask)
        for part in parts:
            temperatures[part.start : part.stop] = [temperature(self._row[part.call].call)] * (part.stop - part.start)
        heats = {temperature(self._row[part.call].call) for part in parts}
        described = {self._row[part.call].call.logprobs_of for part in parts}
        return Sample(
            token_ids=list(view.ids),
            mask=mask,
            logprobs=logprobs,
            logprobs_of=described.pop() if len(described) == 1 else "unknown",
            versions=compact(versions),
            reward=self._reward(e, parts),
            weights=compact(weights) if weights else [(len(mask), 1.0)],
            trajectory=t.id,
            group=t.group,
            agent=self._chain.agent,
            model=self._chain.model,
            ended=self._ended(t),
            parts=parts,
            messages=next(iter(self._row.values())).messages,
            temperatures=compact(temperatures),
            temperature=heats.pop() if len(heats) == 1 else None,
            images=_images(self._last),
            policy=self.policy,
            authored=authored,
        )

    def _all_compared(self, e: Earned) -> bool:
        """Whether each of its responses has a reward that is compared with that of other choices of its call."""
        return all(e.alone(of) is not None for of in self._answers.items())

    def _imitates(self, call: str, tally: Tally) -> bool:
        return self.policy == "imitate" and not tally.is_elsewhere(call)

    def _uncut(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """Segments, of which each is cut out of its response whole, or not at all."""
        for segment in segments:
            cut = self._cut.get((segment.call or "", segment.choice)) if segment.source == "sampled" else None
            if not cut:
                yield segment
                continue
            start = 0
            for _, run in groupby([segment.start + n in cut for n in range(len(segment.ids))]):
                count = sum(1 for _ in run)
                yield segment.part(start, start + count)
                start += count

    def _is_mine(self, segment: Segment) -> bool:
        return self._choice is None or segment.choice == self._choice

    def _put(
        self, node: Node, segment: Segment, at: int, logprobs: list[float | None], versions: list[Any], t: Trajectory
    ) -> None:
        found = node.choices[segment.choice].logprobs
        if found is not None and len(found) == len(node.responses[segment.choice]):
            part = found[segment.start : segment.start + len(segment.ids)]
            if set(map(type, part)) != {float}:
                if any(p is not None and type(p) not in (float, int) for p in part):  # NaN is kept tagged
                    self._unusable = _NO_LOGPROB
                part = [p if type(p) is float else float(p) if type(p) is int else None for p in part]
            logprobs[at : at + len(part)] = part
        elif found is not None:
            self._unusable = "logprobs of another number than the tokens"
        position = list(node.choices).index(segment.choice)
        changes = next((x.versions for n, x in enumerate(node.call.tokens) if n == position), [])
        record = node.call
        stated: Any = record.policy_version
        if stated is None and t.start is not None and record.trajectory == t.id:  # not what a fork has from its parent
            stated = t.start.policy_version
        stop = at + len(segment.ids)
        versions[at:stop] = [stated] * len(segment.ids)
        for start, known in changes:
            first = at + max(0, start - segment.start)
            versions[first:stop] = [known] * (stop - first)

    def _check(self, mask: list[int], logprobs: list[float | None], parts: list[Part], plan: Plan) -> str | None:
        """Why the row can't be given where logprobs are needed."""
        if not plan.logprobs:
            return None
        trained = list(compress(logprobs, mask))
        if None in trained:
            return self._unusable or "a trained token without a logprob"
        known = cast("list[float]", trained)
        if not all(map(math.isfinite, known)) or max(known) > 1e-3:
            return _NO_LOGPROB
        return next((why for call in {part.call for part in parts} if (why := not_computable(self._row[call].call))), None)

    def _scores(self, plan: Plan, t: Trajectory) -> list[float] | None:
        ids = self._view.ids
        if plan.scorer is not None:
            scores = list(plan.scorer(ids[:]))
            if len(scores) != len(ids):
                raise InvalidInput(f"the scorer gave {len(scores)} logprobs of {len(ids)} tokens")
            return scores
        wanted = content_hash(ids)
        for record in t.records:
            if isinstance(record, Note) and record.name == "scoring" and isinstance(record.data, dict):
                found = record.data.get("logprobs")
                if record.data.get("ids") == wanted and isinstance(found, list) and len(found) == len(ids):
                    return found
        return None

    def _refused(self, tally: Tally, why: str) -> None:
        tally.leave(why)
        self._rest(tally, why)

    def _rest(self, tally: Tally, why: str) -> None:
        """What the row's calls sampled and is not in it."""
        for node in self._row.values():
            choice = self._answers[node.id]
            tally.drop(node.id, choice, range(len(node.responses[choice])), why)
