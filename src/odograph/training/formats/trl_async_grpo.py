"""Recorded rollouts for TRL's asynchronous GRPO: the fields of its `RolloutSample`, one a row, aligned over all tokens.

TRL's trainer takes its rollouts from a queue that a worker fills. `RecordedWorker(rows)` is such a worker: give it as
`AsyncGRPOTrainer(rollout_worker=...)`, and nothing is generated. TRL has one advantage a row, and drops a row that is older than
`max_staleness` policy versions. Source: trl 1.16, `trl/experimental/async_grpo`: `async_rollout_worker.py` (`RolloutSample`),
`async_grpo_trainer.py` (`RolloutWorkerProtocol`, `RolloutQueueDataset`).
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Mapping
from itertools import compress
from typing import Any

from ...columns import schema_of
from ...errors import InvalidInput, MissingExtra
from ..sample import Sample, expanded
from . import Refused
from .tokens import ABOUT, about, advised, filled, imageless, number, per_token, prompted, unweighted

NAME = "trl-async-grpo"
FILES = ("parquet", "jsonl")
PLAN: dict[str, Any] = {"edits": "env", "advantage": "trl-async"}
NEEDS = {"logprobs": True}
_ONE = "TRL's asynchronous trainer has one advantage a row"
REFUSES = {
    "reweight": "TRL has no weight per token",
    "imitate": "GRPO needs sampled tokens with logprobs; export to trl-sft",
    "pair": "GRPO has no pairs; export to trl-dpo",
    "last": _ONE,
    "per-step": _ONE,
}


def row(sample: Sample) -> dict[str, Any]:
    """`input_ids`, `completion_mask` and `old_log_probs` are of one length. `model_version` is the oldest policy version that
    sampled a trained token; null where a version is no whole number."""
    unweighted(sample)
    prompted(sample)
    imageless(sample)
    advised(sample)
    gains = set(compress(per_token(sample), sample.mask))
    if len(gains) != 1:
        raise Refused(f"{len(gains)} advantages in one row: {_ONE}")
    versions = set(compress(expanded(sample.versions), sample.mask))
    return {
        "input_ids": sample.token_ids,
        "completion_mask": sample.mask,
        "old_log_probs": filled(sample),
        "advantage": gains.pop(),
        "model_version": min(versions) if versions and all(type(v) is int for v in versions) else None,
        "group_id": number(sample.group if sample.group is not None else sample.trajectory),
        "reward": sample.reward,
        "temperature": sample.temperature,
        **about(sample),
    }


def schema() -> Any:
    """The columns."""
    lists = {"input_ids": "ids", "completion_mask": "ids", "old_log_probs": "floats"}
    values = {"advantage": float, "model_version": int, "group_id": int, "reward": float, "temperature": float}
    return schema_of({**lists, **values, **ABOUT})


def rollout(row: Mapping[str, Any], version: int = 0) -> Any:
    """TRL's `RolloutSample` of a row. `version`: that of a row that has none. Raises MissingExtra without TRL."""
    try:
        import numpy
        from trl.experimental.async_grpo.async_rollout_worker import RolloutSample
    except ImportError:
        raise MissingExtra("making rollouts for TRL's asynchronous trainer", "train") from None
    own = row["model_version"]
    return RolloutSample(
        prompt=[],  # messages, which TRL logs and trains nothing of
        completion=[],
        input_ids=numpy.asarray(row["input_ids"], dtype=numpy.int64),
        completion_mask=numpy.asarray(row["completion_mask"], dtype=numpy.int64),
        old_log_probs=numpy.asarray(row["old_log_probs"], dtype=numpy.float32),
        advantage=float(row["advantage"]),
        model_version=version if own is None else int(own),
        group_id=int(row["group_id"]),
        metrics={} if row["reward"] is None else {"reward": float(row["reward"])},
    )


class RecordedWorker:
    """A rollout worker for `AsyncGRPOTrainer(rollout_worker=...)` that gives recorded rows, each once, in their order.

    `rows`: the rows of this export, as `datasets` or JSON have them. `version`: the policy version that the trainer begins with,
    which it calls 0. A row without a version is as new as the trainer's policy. Raises InvalidInput where there is no row.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], *, version: int = 0) -> None:
        self.rollout_buffer: queue.Queue[Any] = queue.Queue()
        self.metrics_queue: queue.Queue[Any] = queue.Queue()
        self._rows = list(rows)
        self._first = version
        if not self._rows:
            raise InvalidInput("no row to train on; a worker needs at least one")

    def start(self) -> None:
        """Gives all rows."""
        for row in self._rows:
            made = rollout(row, self._first)
            made.model_version -= self._first
            self.rollout_buffer.put(made)

    def stop(self) -> None:
        """There is nothing to stop."""

    def update_model_version(self, model_version: int) -> None:
        """Rows are what they are, whatever is live now."""

    def check_health(self, stale_after_s: float) -> None:
        """TRL asks where the queue is empty: all rows were given, and more would be waited for without end. Raises
        RuntimeError."""
        raise RuntimeError(f"all {len(self._rows)} recorded rows were given; set max_steps to what these rows are enough for")
