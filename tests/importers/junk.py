"""Sessions whose fields are not what they should be."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

JUNK = st.sampled_from([None, 5, "x", [], {}, [None], {"a": [1]}, float("nan"), True, -1, "\x00", 2**70])


def spoiled(value: Any, junk: Any, rng: random.Random, depth: int = 0) -> Any:
    """A value in which fields are missing at any depth, or are junk."""
    if isinstance(value, dict):
        out = {k: spoiled(v, junk, rng, depth + 1) for k, v in value.items()}
        if out and rng.random() < 0.2:
            out[rng.choice(sorted(out))] = junk
        if depth and out and rng.random() < 0.1:
            del out[rng.choice(sorted(out))]
        return out
    return (
        [spoiled(v, junk, rng, depth + 1) for v in value] if isinstance(value, list) else junk if rng.random() < 0.02 else value
    )
