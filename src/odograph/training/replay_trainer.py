"""Samples -> TRL's GRPO: a `GRPOTrainer` that trains on what was recorded, token for token. Knows no store and no trajectory.

TRL generates for itself and takes its own recomputation for the old logprobs, so that it would not notice rows that are shifted by
one. Here the recorded logprobs are the old ones, and `gaps` says how far the model's own are from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

from ..errors import InvalidInput, MissingExtra
from .sample import Sample, expanded


def completion(row: Sample) -> dict[str, list[Any]]:
    """A row as the trainer has it: lists over tokens, split before the first that is trained.

    `prompt_ids` [P]; `completion_ids`, `tool_mask` (1: trained), `old_per_token_logps` (nats; 0.0 where the mask is 0, since a
    null or a very low one there makes the loss NaN) and `advantages`, each [C]. Raises InvalidInput for a row that can't be trained.
    """
    why = _unfit(row)
    if why is not None:
        raise InvalidInput(f"row {row.segment} of trajectory {row.trajectory[-8:]} {why}")
    at = row.prompt_length
    mask = row.mask[at:]
    return {
        "prompt_ids": row.token_ids[:at],
        "completion_ids": row.token_ids[at:],
        "tool_mask": mask,
        "old_per_token_logps": [p if m else 0.0 for p, m in zip(row.logprobs[at:], mask, strict=True)],
        "advantages": [a if m else 0.0 for a, m in zip(expanded(row.advantages)[at:], mask, strict=True)],
    }


def _unfit(row: Sample) -> str | None:
    """Why a row can't be trained by GRPO on recorded logprobs."""
    size = len(row.token_ids)
    advantages = expanded(row.advantages)
    if not advantages:
        return 'has no advantages: build samples with advantage="grpo" or another convention'
    lengths = (size, len(row.mask), len(row.logprobs), len(advantages))
    if len(set(lengths)) != 1:
        return "has {} ids, {} of a mask, {} logprobs and {} advantages; as many of each were expected".format(*lengths)
    if any(weight != 1.0 for _, weight in row.weights):
        return (
            'has weights other than 1 (edits="reweight"), which TRL\'s loss has no place for: build samples with another policy'
        )
    if 1 not in row.mask:
        return "has no token to train"
    if row.mask[0]:
        return "trains its first token, which no model can give a logprob of: nothing stands left of it"
    for at, (trained, logprob, advantage) in enumerate(zip(row.mask, row.logprobs, advantages, strict=True)):
        if trained and logprob is None:
            return f"trains token {at}, which has no logprob: build samples with logprobs=True, which refuses such rows"
        if trained and not (math.isfinite(logprob or 0.0) and (logprob or 0.0) <= 1e-3):
            return f"trains token {at} with the logprob {logprob}; a finite one of at most 0 was expected"
        if trained and not (isinstance(advantage, (int, float)) and math.isfinite(advantage)):
            return f"trains token {at} with the advantage {advantage!r}; a finite number was expected"
    return None


@cache
def recorded_grpo_trainer() -> Any:
    """The class `RecordedGRPOTrainer`, on TRL's own. Raises MissingExtra where TRL or torch is not installed."""
    try:
        import torch
        from datasets import Dataset
        from torch.utils.data import SequentialSampler
        from trl import GRPOTrainer
    except ImportError:
        raise MissingExtra("training with TRL", "train") from None

    def padded(lists: list[list[Any]], value: Any, kind: Any, left: bool = False) -> Any:
        """Lists of several lengths as one tensor [B, longest]."""
        longest = max(map(len, lists))
        fill = [[value] * (longest - len(x)) for x in lists]
        return torch.tensor([f + x if left else x + f for x, f in zip(lists, fill, strict=True)], dtype=kind)

    class RecordedGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
        """TRL's `GRPOTrainer` on recorded rows: nothing is generated, tokenized or scored.

        `rows`: `Sample`s with logprobs and advantages, in the order in which they are trained, each once per epoch (for more
        updates on the same rows: `num_train_epochs`). `args`: a `GRPOConfig`; `temperature` has to be the one that was sampled at,
        `num_generations` means nothing here, though TRL wants 2 or more that divide the batch. The rest of the arguments are
        `GRPOTrainer`'s. Raises InvalidInput for rows that can't be trained, and for settings that would leave rows out or
        that need what is not recorded.

        `gaps`: of each batch so far, the largest |recorded - the model's own| logprob over trained tokens, in nats; logged as
        `recorded_gap`. The first, before any update, is next to 0 (1e-4 in fp32) where the model is the one that sampled and
        nothing is shifted.
        """

        def __init__(self, model: Any, args: Any, rows: Iterable[Sample], **rest: Any) -> None:
            if args.steps_per_generation * args.num_iterations != 1:
                raise InvalidInput(
                    f"steps_per_generation={args.steps_per_generation} and num_iterations={args.num_iterations} would leave rows "
                    "out; 1 of both was expected, and num_train_epochs for more updates on the same rows"
                )
            for setting in ("beta", "use_vllm"):
                if getattr(args, setting):
                    raise InvalidInput(f"{setting}={getattr(args, setting)} needs logprobs that are not recorded; 0 was expected")
            self.rows = [completion(row) for row in rows]
            if not self.rows:
                raise InvalidInput("there are no rows to train on")
            self.gaps: list[float] = []
            self._own_logps: Any = None
            data = Dataset.from_list([{"prompt": "", "row": n} for n in range(len(self.rows))])
            super().__init__(model=model, args=args, reward_funcs=_no_reward, train_dataset=data, **rest)

        def _set_signature_columns_if_needed(self) -> None:
            """The columns that reach a batch: the row's number is all that is needed."""
            self._signature_columns = ["prompt", "row"]

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            """Each row once, in order; TRL's own would repeat each `num_generations` times."""
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            """A batch as TRL's loss reads it: prompts [B, P] padded left, the rest [B, C] padded right."""
            rows = [self.rows[one["row"]] for one in inputs]
            pad = self._tokenizer.pad_token_id

            def all_of(name: str) -> list[list[Any]]:
                return [row[name] for row in rows]

            batch = {
                "prompt_ids": padded(all_of("prompt_ids"), pad, torch.long, left=True),
                "prompt_mask": padded([[1] * len(x) for x in all_of("prompt_ids")], 0, torch.long, left=True),
                "completion_ids": padded(all_of("completion_ids"), pad, torch.long),
                "completion_mask": padded([[1] * len(x) for x in all_of("completion_ids")], 0, torch.long),
                "tool_mask": padded(all_of("tool_mask"), 0, torch.long),
                "old_per_token_logps": padded(all_of("old_per_token_logps"), 0.0, torch.float32),
                "advantages": padded(all_of("advantages"), 0.0, torch.float32),
            }
            batch = {name: values.to(self.accelerator.device) for name, values in batch.items()}
            batch["num_items_in_batch"] = self.accelerator.gather(batch["tool_mask"].sum()).sum()
            return batch

        def _get_per_token_logps_and_entropies(self, *args: Any, **rest: Any) -> Any:
            """TRL's, remembered: what it computed is compared with what was recorded."""
            found = super()._get_per_token_logps_and_entropies(*args, **rest)
            self._own_logps = found[0].detach()
            return found

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            """TRL's loss; on the way, the batch's gap."""
            loss = super()._compute_loss(model, inputs)
            trained = inputs["tool_mask"].bool()
            gap = (self._own_logps - inputs["old_per_token_logps"])[trained].abs().max().item()
            self.gaps.append(gap)
            self._metrics["train" if self.model.training else "eval"]["recorded_gap"].append(gap)
            return loss

    return RecordedGRPOTrainer


def _no_reward(completions: list[Any], **_: Any) -> list[float]:
    """TRL wants a reward function; rewards are recorded and in the advantages."""
    return [0.0] * len(completions)


def __getattr__(name: str) -> Any:
    """`RecordedGRPOTrainer`, made when it is asked for: TRL and torch are not in the base install."""
    if name == "RecordedGRPOTrainer":
        return recorded_grpo_trainer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
