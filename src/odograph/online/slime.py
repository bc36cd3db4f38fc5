"""slime: an agent as the function of `--custom-generate-function-path`.

Source: slime, `slime/rollout/sglang_rollout.py` and `slime/utils/types.py`: `async generate(args, sample, sampling_params)` fills
in a `Sample` (tokens, response_length, loss_mask, rollout_log_probs, reward, status); the model is SGLang's router at
`args.sglang_router_ip` and `args.sglang_router_port`, whose `/generate` takes and gives token ids.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..api import Store
from ..training.formats.tokens import split
from ..training.plan import Policy
from .rolling import RewardFn, rollout
from .tasks import Makes, task_of

_STATUS = {"terminated": "COMPLETED", "truncated": "TRUNCATED", "failed": "FAILED"}


def generate(
    makes: Makes,
    *,
    tokenizer: Any,
    reward: RewardFn | None = None,
    store: Store | None = None,
    edits: Policy = "mask",
    **settings: Any,
) -> Callable[[Any, Any, dict[str, Any]], Awaitable[Any]]:
    """The function: name the result in a module of yours, and give slime its path.

    `makes`: an `Agent` (which gets `sample.prompt`), or a function from the sample to a `Task`. The agent sends token ids, edited
    ones too, by `tokenizer`'s chat template. A rollout without a row is a sample that is aborted.
    """

    async def custom_generate(args: Any, sample: Any, sampling_params: dict[str, Any]) -> Any:
        task = task_of(makes, sample if not hasattr(makes, "step") else sample.prompt)
        url = f"http://{args.sglang_router_ip}:{args.sglang_router_port}"
        options: dict[str, Any] = {
            "dialect": "sglang.generate",
            "tokenizer": tokenizer,
            "params": dict(sampling_params),
            **settings,
        }
        row, response = await rollout(task, base_url=url, api_key="none", reward=reward, store=store, edits=edits, **options)
        status = type(sample).Status
        if row is None:
            sample.status = status.ABORTED
            return sample
        parts = split(row)
        sample.tokens = row.token_ids
        sample.response_length = len(parts.completion_ids)
        sample.response = str(response.answer or "")
        sample.loss_mask = parts.mask
        sample.rollout_log_probs = parts.logprobs
        if reward is not None:
            sample.reward = response.recorded.reward
        sample.status = getattr(status, _STATUS.get(row.ended, "ABORTED"))
        return sample

    return custom_generate
