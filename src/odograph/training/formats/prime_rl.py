"""Training samples of prime-rl: its `TrainingSample`, which is a JSON array; all lists as long as the ids.

`[token_ids, mask, logprobs, temperatures, env_name, ref_logprobs, mm_kwargs, routed_experts, mm_token_type_ids, rl_weights,
ce_weights, ref_kl_weights, advantages]`. Source: prime_rl/transports/rollouts/types.py (0.8).
"""

from __future__ import annotations

from typing import Any

from ...codec import encode
from ..sample import Sample, expanded
from .tokens import advised, filled, imageless, per_token, prompted, unweighted

NAME = "prime-rl"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": "prime-rl"}
NEEDS = {"logprobs": True}
REFUSES = {"reweight": "prime-rl is given no weights here", "imitate": "it trains sampled tokens", "pair": "it has no pairs"}


def row(sample: Sample, *, env_name: str | None = None, temperature: float = 1.0) -> bytes:
    """The line. `temperature`: where the request named none."""
    unweighted(sample)
    prompted(sample)
    imageless(sample)
    advised(sample)
    heats = expanded(sample.temperatures)
    other = sample.temperature if sample.temperature is not None else temperature
    fields: list[Any] = [
        sample.token_ids,
        [bool(m) for m in sample.mask],
        filled(sample),
        [float(heat if heat is not None else other) for heat in heats],
        env_name or sample.agent or "odograph",
        *[None] * 7,
        per_token(sample),
    ]
    return encode(fields) + b"\n"
