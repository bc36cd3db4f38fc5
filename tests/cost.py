"""What code costs, as processor time, so that a busy machine fails no test: compare two costs, never a cost with a clock."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def costs(do: Callable[[], T], rounds: int = 1, enough: float = 0.0) -> tuple[T, float]:
    """What the last round gave, and the least processor seconds of a round; at least a millisecond, below which clocks say little.
    A round that costs less than `enough` is the last one. Python's collector looks at nothing that earlier tests left: a look at all
    of it may cost more than what is measured."""
    least = float("inf")
    gc.freeze()
    try:
        for _ in range(rounds):
            began = time.process_time()
            found = do()
            least = min(least, time.process_time() - began)
            if least < enough:
                break
    finally:
        gc.unfreeze()
    return found, max(least, 0.001)
