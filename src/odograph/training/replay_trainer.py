"""Samples -> TRL's GRPO: a `GRPOTrainer` that trains on what was recorded, token for token. Knows no store and no trajectory.

TRL generates for itself and takes its own recomputation for the old logprobs: it would not notice rows that are shifted by one.
Here the recorded logprobs are the old ones, and `gaps` says how far the model's own are from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ..errors import InvalidInput, MissingExtra
from .formats import Refused, trl_grpo
from .sample import Sample

#: A sample, or one of the rows that the export `trl-grpo` writes.
Row = Sample | Mapping[str, Any]


def completion(row: Row) -> dict[str, list[Any]]:
    """A row as the trainer has it: lists over tokens, split before the first that is trained.

    `prompt_ids` [P]; `completion_ids`, `tool_mask` (1: trained), `old_per_token_logps` (nats; 0.0 where the mask is 0, since a
    null or a very low one there makes the loss NaN) and `advantages`, each [C]. Raises InvalidInput for a row that can't be
    trained.
    """
    exported, why = _exported(row) if isinstance(row, Sample) else (row, None)
    why = why or _unfit(exported)
    if why is not None:
        about = (row.segment, row.trajectory) if isinstance(row, Sample) else (row.get("segment"), row.get("trajectory") or "")
        raise InvalidInput(f"row {about[0]} of trajectory {str(about[1])[-8:]} {why}")
    mask = [int(m) for m in exported["env_mask"]]
    return {
        "prompt_ids": list(exported["prompt_ids"]),
        "completion_ids": list(exported["completion_ids"]),
        "tool_mask": mask,
        "old_per_token_logps": [p if m else 0.0 for p, m in zip(exported["logprobs"], mask, strict=True)],
        "advantages": [a if m else 0.0 for a, m in zip(exported["advantages"], mask, strict=True)],
    }


def _exported(row: Sample) -> tuple[Mapping[str, Any], str | None]:
    """What the export says of a sample, or why it would not."""
    sizes = [len(row.token_ids), len(row.mask), len(row.logprobs)]
    sizes += [sum(count for count, _ in row.advantages)] if row.advantages else []
    if len(set(sizes)) != 1:
        return {}, f"has {sizes} token ids, values of the mask, logprobs and advantages; as many of each were expected"
    if 1 not in row.mask:
        return {}, "has no token to train"
    try:
        return trl_grpo.row(row), None
    except Refused as why:
        return {}, f"has {why}"


def _unfit(row: Mapping[str, Any]) -> str | None:
    """Why a row can't be trained by GRPO on recorded logprobs."""
    missing = [name for name in _COLUMNS if name not in row]
    if missing:
        return f"has no {missing[0]}; a Sample or a row of the export trl-grpo was expected"
    if row["advantages"] is None:
        return 'has no advantages: build samples with advantage="grpo" or another convention'
    sizes = [len(row[name]) for name in _COLUMNS[1:]]
    if len(set(sizes)) != 1:
        return f"has {sizes} completion ids, logprobs, values of the mask and advantages; as many of each were expected"
    if not row["prompt_ids"]:
        return "has no prompt: no model can give a logprob of its first token"
    if not any(row["env_mask"]):
        return "has no token to train"
    for at, (trained, logprob, advantage) in enumerate(zip(row["env_mask"], row["logprobs"], row["advantages"], strict=True)):
        if trained and not (_is_number(logprob) and logprob <= 1e-3):
            return f"trains completion token {at} with the logprob {logprob}; a finite one of at most 0 was expected"
        if trained and not _is_number(advantage):
            return f"trains completion token {at} with the advantage {advantage}; a finite number was expected"
    return None


_COLUMNS = ("prompt_ids", "completion_ids", "logprobs", "env_mask", "advantages")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


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

        `rows`: `Sample`s with logprobs and advantages, or the rows of the export `trl-grpo`, in the order in which they are
        trained, each once per epoch (for more updates on the same rows: `num_train_epochs`). `args`: a `GRPOConfig`;
        `temperature` has to be the one that was sampled at (a row that says another is refused), `num_generations` means nothing
        here, though TRL wants 2 or more that divide the batch. The rest of the arguments are `GRPOTrainer`'s. Raises
        InvalidInput for rows that can't be trained, and for settings that would leave rows out or that need what is not recorded.

        `gaps`: of each batch so far, the largest |recorded - the model's own| logprob over trained tokens, in nats; logged as
        `recorded_gap`. The first, before any update, is next to 0 (1e-4 in fp32) where the model is the one that sampled and
        nothing is shifted. `trained_tokens`: how many tokens were trained so far.
        """

        def __init__(self, model: Any, args: Any, rows: Iterable[Row], **rest: Any) -> None:
            if args.steps_per_generation * args.num_iterations != 1:
                raise InvalidInput(
                    f"steps_per_generation={args.steps_per_generation} and num_iterations={args.num_iterations} would leave rows "
                    "out; 1 of both was expected, and num_train_epochs for more updates on the same rows"
                )
            for setting in ("beta", "use_vllm", "use_liger_kernel"):
                if getattr(args, setting, None):
                    raise InvalidInput(
                        f"{setting}={getattr(args, setting)} needs logprobs that are not recorded, or leaves none to compare; "
                        "0 was expected"
                    )
            self.rows = []
            for row in rows:
                self.rows.append(completion(row))
                heat = row.temperature if isinstance(row, Sample) else row.get("temperature")
                if isinstance(heat, (int, float)) and not math.isclose(heat, args.temperature, rel_tol=1e-6):
                    at = len(self.rows) - 1
                    raise InvalidInput(
                        f"row {at} was sampled at temperature {heat}, and args.temperature is {args.temperature}: its "
                        "logprobs would be compared with those of another distribution"
                    )
            if not self.rows:
                raise InvalidInput("there are no rows to train on")
            self.gaps: list[float] = []
            self.trained_tokens = 0
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
            self.trained_tokens += int(trained.sum())
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
