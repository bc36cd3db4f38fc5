"""pass@k: how often at least one of k attempts at a task succeeds. Numbers only.

Source: Chen et al. 2021 (arXiv 2107.03374): 1 - C(n - c, k) / C(n, k) for c successes of n attempts is unbiased; the mean over
tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import comb

import msgspec

from .intervals import Interval, mean_interval


class PassAt(msgspec.Struct, frozen=True, kw_only=True):
    """The chance that at least one of `k` attempts at a task succeeds."""

    k: int
    estimate: float
    #: Over tasks, which are independent of each other; None for a single task.
    interval: Interval | None
    #: Tasks with k attempts at least; the others say nothing of k attempts.
    tasks: int


def pass_at(n: int, successes: int, k: int) -> float:
    """The unbiased estimate of one task with n attempts, k of them at most."""
    return 1.0 - comb(n - successes, k) / comb(n, k)


def pass_at_k(tasks: Iterable[tuple[int, int]], confidence: float) -> list[PassAt]:
    """For k of 1, 2, 4, ... up to the most attempts at a task. `tasks`: (attempts, successes) of each."""
    counts = list(tasks)
    most = max((n for n, _ in counts), default=0)
    found: list[PassAt] = []
    k = 1
    while k <= most:
        known = {pair: pass_at(*pair, k) for pair in set(counts) if pair[0] >= k}
        each = [known[pair] for pair in counts if pair in known]
        estimate = mean_interval(each, confidence, bounds=(0.0, 1.0))
        if estimate is not None:
            interval = estimate.interval if len(each) > 1 else None
            found.append(PassAt(k=k, estimate=estimate.mean, interval=interval, tasks=len(each)))
        k *= 2
    return found
