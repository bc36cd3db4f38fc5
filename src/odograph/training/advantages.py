"""Advantages of a group, by the conventions of those who use them. Numbers only; knows no trajectory.

Sources: GRPO (https://arxiv.org/abs/2402.03300), Dr. GRPO (https://arxiv.org/abs/2503.20783), RLOO (https://arxiv.org/abs/2402.14740),
GAE (https://arxiv.org/abs/1506.02438); deviations and epsilons as the trainers have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import msgspec

from ..errors import InvalidInput

#: The names of the conventions.
Named = Literal["grpo", "verl", "trl-async", "art", "dr_grpo", "rloo", "reward"]
#: Names of trainers whose convention has another name.
Alias = Literal["tinker", "prime-rl", "trl"]


class Convention(msgspec.Struct, frozen=True):
    """How an advantage is made of a reward and its group's rewards."""

    name: Named
    #: Divided by the standard deviation (with this many degrees of freedom less than rewards) plus epsilon; None: centred only.
    ddof: int | None = None
    epsilon: float = 0.0
    #: Against the mean of the others, not of all.
    leave_one_out: bool = False
    #: A group of one: its mean counts as 0 and its deviation as 1 (else the advantage is 0).
    alone_is_raw: bool = False
    #: The reward itself.
    raw: bool = False


_ALIASES: dict[Alias, Named] = {"tinker": "dr_grpo", "prime-rl": "dr_grpo", "trl": "grpo"}
CONVENTIONS: dict[str, Convention] = {
    c.name: c
    for c in (
        Convention("grpo", ddof=1, epsilon=1e-4),  # TRL
        Convention("verl", ddof=1, epsilon=1e-6, alone_is_raw=True),
        Convention("trl-async", ddof=0, epsilon=1e-8),
        Convention("art", ddof=0, epsilon=1e-6),
        Convention("dr_grpo"),  # tinker and prime-rl, too
        Convention("rloo", leave_one_out=True),
        Convention("reward", raw=True),
    )
}


def convention(name: str) -> Convention:
    """The convention of a name. Raises InvalidInput."""
    found = CONVENTIONS.get(cast(dict[str, str], _ALIASES).get(name, name))
    if found is None:
        raise InvalidInput(f"no advantage {name!r}; there are: {', '.join(CONVENTIONS)}")
    return found


class GroupStatistics:
    """The rewards of a group, one per trajectory."""

    def __init__(self, rewards: Sequence[float]) -> None:
        count = len(rewards)
        self.count: int = count
        self.mean = self.spread = 0.0
        if not rewards:
            return
        self.mean = rewards[0]
        if math.isclose(min(rewards), max(rewards), rel_tol=1e-9, abs_tol=1e-12):  # what differs by rounding is equal
            return
        try:
            self.mean = math.fsum(rewards) / count
            self.spread = math.fsum((r - self.mean) * (r - self.mean) for r in rewards)
        except OverflowError:
            self.mean, self.spread = math.fsum(r / count for r in rewards), math.inf

    @property
    def varies(self) -> bool:
        return self.spread > 0.0

    def advantage(self, reward: float, by: Convention) -> float:
        """The advantage of one of the group's rewards, or of one with a reward of its tokens alone in it. Where the group's
        rewards don't vary such a one is centred and not scaled."""
        if by.raw or (by.alone_is_raw and self.count == 1):
            return reward if by.raw else reward / (1.0 + by.epsilon)
        if self.count < 2 or (not self.varies and math.isclose(reward, self.mean, rel_tol=1e-9, abs_tol=1e-12)):
            return 0.0
        if by.leave_one_out:
            return (reward - self.mean) * self.count / (self.count - 1)
        centred = reward - self.mean
        if by.ddof is None or not self.varies:
            return centred
        return centred / (math.sqrt(self.spread / (self.count - by.ddof)) + by.epsilon)


def whitened(rewards: Sequence[float], trained: Sequence[int]) -> list[float]:
    """REINFORCE++ (https://arxiv.org/abs/2501.03262): the advantage of each row of a batch; its tokens share it.

    Rewards are centred, and divided by their deviation, over all trained tokens of the batch, as verl does. `trained`: how many
    tokens of each row are trained. The batch is the trainer's, which no export knows: export `advantage="reward"`.
    """
    if len(rewards) != len(trained):
        raise InvalidInput(f"{len(rewards)} rewards and {len(trained)} counts of tokens; as many of both were expected")
    count = sum(trained)
    if count < 2:
        return [0.0] * len(rewards)
    mean = math.fsum(r * n for r, n in zip(rewards, trained, strict=True)) / count
    spread = math.fsum((r - mean) ** 2 * n for r, n in zip(rewards, trained, strict=True)) / (count - 1)
    return [(r - mean) / math.sqrt(spread + 1e-8) for r in rewards]


def gae(
    rewards: Sequence[float], values: Sequence[float], *, discount: float = 1.0, smoothing: float = 0.95, bootstrap: float = 0.0
) -> list[float]:
    """Generalised advantage estimation over the trained tokens of one trajectory: `values` as long as `rewards`; `bootstrap`:
    the value after the last, 0 where the episode ended."""
    if len(rewards) != len(values):
        raise InvalidInput(f"{len(rewards)} rewards and {len(values)} values; as many of both were expected")
    out = [0.0] * len(rewards)
    later, following = 0.0, bootstrap
    for n in range(len(rewards) - 1, -1, -1):
        delta = rewards[n] + discount * following - values[n]
        later = delta + discount * smoothing * later
        out[n], following = later, values[n]
    return out
