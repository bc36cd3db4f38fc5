"""What a build of samples gives: rows, pairs, and the account of every sampled token. Values only."""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import groupby
from typing import Any, cast

import msgspec

from ..lineage import Chain

_UNUSED = 100  # edits that changed nothing and are named

#: Run-length: [(count, value), ...].
Runs = list[tuple[int, Any]]


class Part(msgspec.Struct, frozen=True):
    """Tokens [start, stop) of a sample that one call generated and that are trained. A `step` below 0 belongs to the part that a
    fork shares with its parent, before the fork's first step.
    """

    start: int
    stop: int
    call: str
    choice: int
    step: int | None
    #: Which token of the response is its first.
    origin: int = 0


class Sample(msgspec.Struct, kw_only=True):
    """One row. `token_ids`, `mask` (1: trained) and `logprobs` (None where unknown) are of one length.

    `advantages`, `weights` and `versions` are run-length lists over all tokens, [(count, value), ...]; see `expanded`. `segment`
    numbers the rows of one agent of a trajectory. `ended`: "terminated", "truncated" (the answer or the trajectory was cut),
    "failed", "cancelled" or "unfinished".
    """

    token_ids: list[int]
    mask: list[int]
    logprobs: list[float | None]
    logprobs_of: str = "unknown"
    versions: Runs = []
    reward: float | None = None
    advantage: float | None = None
    advantages: Runs = []
    weights: Runs = []
    trajectory: str = ""
    segment: int = 0
    #: Into how many rows its trajectory went, and how many tokens all of them train: what a trainer that counts rows, or tokens,
    #: divides by to count trajectories.
    trajectory_rows: int = 1
    trajectory_tokens: int = 0
    group: str | None = None
    agent: str | None = None
    model: str | None = None
    ended: str = "terminated"
    parts: list[Part] = []
    #: What the model was sent at the first call of the row.
    messages: list[dict[str, Any]] = []
    #: The temperature that each trained token was sampled at (run-length over all tokens), and that of all, where it is one.
    temperatures: Runs = []
    temperature: float | None = None
    #: The parts of the last prompt that are no text: images, audio, files.
    images: list[Any] = []
    #: What was done with edits in it.
    policy: str = "env"
    #: Trained tokens that no model sampled (`imitate`).
    authored: int = 0

    @property
    def weight(self) -> Runs:
        """The weight of each token in the loss: `weights`."""
        return self.weights

    @property
    def terminated(self) -> bool:
        return self.ended == "terminated"

    @property
    def truncated(self) -> bool:
        return self.ended == "truncated"

    @property
    def prompt_length(self) -> int:
        """The number of tokens before the first trained token."""
        return self.mask.index(1) if 1 in self.mask else len(self.mask)

    @property
    def trained(self) -> int:
        return sum(self.mask)


class Pair(msgspec.Struct, kw_only=True):
    """The generated response and the response that an editor preferred, after the same prompt. Ids are None where they are not
    known: of a call without ids, or of a text that no tokenizer made ids of.
    """

    prompt_ids: list[int] | None
    rejected_ids: list[int] | None
    chosen_ids: list[int] | None
    prompt: list[dict[str, Any]]
    rejected: str
    chosen: str | None
    trajectory: str = ""
    group: str | None = None
    agent: str | None = None
    call: str = ""
    #: The generated answer as a message, and the tools that its call offered.
    answer: dict[str, Any] = {}
    tools: list[Any] = []

    @property
    def trained(self) -> int:
        """How many sampled tokens it has."""
        return len(self.rejected_ids or ())


def expanded(runs: Runs) -> list[Any]:
    """Expands a run-length list, token by token."""
    return [value for count, value in runs for _ in range(count)]


def compact(values: Iterable[Any]) -> Runs:
    """Makes a run-length list of a list."""
    out: Runs = []
    for _, equal in groupby(values):
        for _, same in groupby(equal, type):  # 1 is no 1.0
            run = list(same)
            out.append((len(run), run[0]))
    return out


class Conservation(msgspec.Struct, kw_only=True):
    """The account of every sampled token: trained once, context only, or dropped with a reason. `balanced` says that the numbers
    add up.
    """

    trajectories: int = 0
    rows: int = 0
    pairs: int = 0
    sampled: int = 0
    trained: int = 0
    context: dict[str, int] = {}
    dropped: dict[str, int] = {}
    #: Trained tokens that no model sampled (`imitate`), apart from all others.
    authored: int = 0
    #: Calls that have no token ids, by what is missing: they are not in any count above.
    calls_left_out: dict[str, int] = {}
    #: Rows and trajectories that gave no row, by reason.
    left_out: dict[str, int] = {}
    #: Edits that changed nothing, and why (the first hundred).
    edits_unused: dict[str, str] = {}
    #: Rewards of calls and of spans of tokens that the credit leaves out.
    rewards_left_out: int = 0
    zero_advantage: int = 0
    groups: int = 0
    groups_of_one: int = 0
    groups_without_variance: int = 0
    groups_of_mixed_versions: int = 0

    @property
    def balanced(self) -> bool:
        return self.sampled == self.trained + sum(self.context.values()) + sum(self.dropped.values())

    def add(self, other: Conservation) -> None:
        """Adds the account of other tokens to this account."""
        for name in self.__struct_fields__:
            mine, more = getattr(self, name), getattr(other, name)
            if isinstance(mine, int):
                setattr(self, name, mine + more)
                continue
            for key, value in more.items():
                if isinstance(value, int):
                    mine[key] = mine.get(key, 0) + value
                elif len(mine) < _UNUSED:
                    mine[key] = value

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], msgspec.to_builtins(self)) | {"balanced": self.balanced}


class Tally:
    """Each sampled token of a trajectory, once: what became of it."""

    def __init__(self, report: Conservation, elsewhere: set[str], known: dict[str, str]) -> None:
        self._report = report
        #: Calls that are accounted for already, with a fork; those dropped with a trajectory that was left out, and why.
        self._elsewhere = elsewhere
        self._known = known
        #: Calls of which something is trained.
        self.trained: set[str] = set()
        self._open: dict[tuple[str, int], set[int]] = {}

    def take(self, chain: Chain) -> None:
        """All that a chain's calls sampled."""
        report = self._report
        for node in (*chain.nodes, *chain.discarded):
            if node.id in self._elsewhere:
                continue
            for choice, ids in node.responses.items():
                self._open[node.id, choice] = set(range(len(ids)))
                report.sampled += len(ids)
                before = self._known.get(node.id)
                if before is not None:  # counted before, as dropped
                    report.sampled -= len(ids)
                    report.dropped[before] = report.dropped.get(before, 0) - len(ids)
        for _, why in chain.left_out:
            report.calls_left_out[why] = report.calls_left_out.get(why, 0) + 1
        for edit, why in chain.problems.items():
            if len(report.edits_unused) < _UNUSED:
                report.edits_unused[edit] = why

    def left(self, call: str, choice: int) -> Container[int]:
        """The tokens of which nothing was said yet."""
        return self._open.get((call, choice), ())

    def is_elsewhere(self, call: str) -> bool:
        """Whether what a call sampled is accounted for already, with a fork."""
        return call in self._elsewhere

    def _close(self, call: str, choice: int, indexes: Iterable[int]) -> int:
        left = self._open.get((call, choice), set())
        gone = left.intersection(indexes)
        left -= gone
        return len(gone)

    def train(self, call: str, choice: int, indexes: Iterable[int]) -> None:
        count = self._close(call, choice, indexes)
        self._report.trained += count
        if count:
            self.trained.add(call)

    def context(self, call: str, choice: int, indexes: Iterable[int], why: str) -> None:
        self._add(self._report.context, why, self._close(call, choice, indexes))

    def drop(self, call: str, choice: int, indexes: Iterable[int], why: str) -> None:
        self._add(self._report.dropped, why, self._close(call, choice, indexes))

    def leave(self, why: str) -> None:
        self._add(self._report.left_out, why, 1)

    def rest(self, why: str) -> None:
        """What nothing was said of yet."""
        for (call, choice), left in self._open.items():
            if left:
                self.drop(call, choice, set(left), why)

    @staticmethod
    def _add(counts: dict[str, int], why: str, count: int) -> None:
        if count:
            counts[why] = counts.get(why, 0) + count
