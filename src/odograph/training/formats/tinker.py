"""Data for tinker: what a `Datum` is made of, targets shifted by one.

`model_input` is the ids without the last; `target_tokens`, `logprobs`, `advantages` and `mask` belong to the token that
comes next.
`datum(row)` makes a `tinker.Datum`: built directly, because tinker-cookbook's own `trajectory_to_data` would split rows again.
The advantage is 0 where the mask is 0; the mask is taken out before sending. Source: tinker-cookbook 0.5 `rl/data_processing.py`.
"""

from __future__ import annotations

from typing import Any

from ...columns import schema_of
from ...errors import MissingExtra
from ...plugins import available
from ..sample import Sample, expanded
from .tokens import ABOUT, about, advised, filled, imageless, per_token, prompted

NAME = "tinker"
FILES = ("parquet", "jsonl")
PLAN: dict[str, Any] = {"edits": "env", "advantage": "tinker"}
NEEDS = {"logprobs": True}
REFUSES = {"imitate": "tinker's importance sampling needs sampled tokens", "pair": "tinker has no pairs"}


def row(sample: Sample) -> dict[str, Any]:
    """All lists are one shorter than the row. Weights, where there are any, are in the advantages."""
    prompted(sample)
    imageless(sample)
    advised(sample)
    advantages = [a * w for a, w in zip(per_token(sample), expanded(sample.weights), strict=True)]
    return {
        "model_input": sample.token_ids[:-1],
        "target_tokens": sample.token_ids[1:],
        "logprobs": filled(sample)[1:],
        "advantages": advantages[1:],
        "mask": [float(m) for m in sample.mask[1:]],
        "reward": sample.reward,
        **about(sample),
    }


def schema() -> Any:
    """The columns."""
    lists = {"model_input": "ids", "target_tokens": "ids", "logprobs": "floats", "advantages": "floats", "mask": "floats"}
    return schema_of({**lists, "reward": float, **ABOUT})


def datum(row: dict[str, Any]) -> Any:
    """A `tinker.Datum` of a row, with its mask as tinker-cookbook has it. Raises MissingExtra without tinker."""
    if not available("tinker"):
        raise MissingExtra("making data for tinker", "tinker")
    import tinker

    mask = tinker.TensorData(data=row["mask"], dtype="float32", shape=[len(row["mask"])])
    inputs = {name: row[name] for name in ("target_tokens", "logprobs", "advantages")}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(row["model_input"]), loss_fn_inputs={**inputs, "mask": mask})
