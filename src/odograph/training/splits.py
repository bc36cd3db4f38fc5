"""Splits of an export: by group, by a hash of the group's name and the seed.

A trajectory stays in its split when others are added, and a task is never in two.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ..codec import content_hash
from ..errors import InvalidInput
from ..trajectory import Trajectory

_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*", re.ASCII)  # what `datasets` takes as the name of a split

#: (name, upper end) of each split in [0, 1].
Shares = list[tuple[str, float]]


def shares_of(splits: dict[str, float] | None) -> Shares:
    """(name, upper end) of each split in [0, 1]."""
    given = splits or {"train": 1.0}
    if not isinstance(given, dict):
        raise InvalidInput(f"splits map names to shares, such as {{'train': 0.9, 'test': 0.1}}, not {given!r}")
    sound = all(isinstance(v, (int, float)) and math.isfinite(v) and v > 0 for v in given.values())
    if not sound or abs(sum(given.values()) - 1) > 1e-6:
        raise InvalidInput(f"splits are shares above 0 that sum to 1, not {given}")
    ends: Shares = []
    for name, share in given.items():
        if not _SPLIT.fullmatch(name):
            raise InvalidInput(f"a split's name is letters, digits and _, not {name!r}")
        ends.append((name, (ends[-1][1] if ends else 0.0) + share))
    ends[-1] = (ends[-1][0], 2.0)  # whatever the sum was rounded to
    return ends


def split_of(trajectory: Trajectory, shares: Shares, seed: int) -> str:
    """The split of a trajectory: that of its group (over all windows of time), else of its task, else its own."""
    if trajectory.family is not None:
        key: tuple[str, Any] = ("group", trajectory.family)
    elif trajectory.task is not None:
        key = ("task", trajectory.task)
    else:
        key = ("id", trajectory.id)
    position = int(content_hash([seed, *key])[:16], 16) / 2**64
    return next(name for name, end in shares if position < end)
