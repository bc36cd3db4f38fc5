"""SkyRL: an agent as a generator.

Source: SkyRL, `skyrl/train/generators/base.py`: `GeneratorInterface.generate(input_batch)` gives a `GeneratorOutput` of
`prompt_token_ids, response_ids, rewards, loss_masks, stop_reasons, rollout_logprobs`, one entry per prompt; the engine client
has `generate({"prompt_token_ids", "sampling_params", "session_ids"})`.
"""

from __future__ import annotations

from typing import Any

from ..api import Store
from ..training.formats.tokens import split
from ..training.plan import Policy
from .rolling import RewardFn, rollouts
from .serving import ChatServer, Generated
from .tasks import Makes, task_of


class Generator:
    """`Generator(makes, inference_engine_client, tokenizer, reward=...)`. `makes`: an `Agent` (which gets the prompt), or a
    function from a prompt to a `Task`. A rollout without a row is a response of one token that is not trained."""

    def __init__(
        self,
        makes: Makes,
        inference_engine_client: Any,
        tokenizer: Any,
        *,
        reward: RewardFn,
        store: Store | None = None,
        edits: Policy = "mask",
        **settings: Any,
    ) -> None:
        self._makes = makes
        self._client = inference_engine_client
        self._tokenizer = tokenizer
        self._options: dict[str, Any] = {"reward": reward, "store": store, "edits": edits, **settings}

    async def generate(self, input_batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """One entry per prompt."""
        sampling = dict(input_batch.get("sampling_params") or {})

        async def engine(ids: list[int], params: dict[str, Any]) -> Generated:
            asked = {"prompt_token_ids": [ids], "sampling_params": {**sampling, "logprobs": 0, **params}, "session_ids": None}
            made = await self._client.generate(asked)
            logprobs, reasons = made.get("response_logprobs"), made.get("stop_reasons")
            return Generated(made["response_ids"][0], logprobs[0] if logprobs else None, reasons[0] if reasons else "stop")

        with ChatServer(engine, self._tokenizer) as server:
            tasks = [task_of(self._makes, prompt) for prompt in input_batch["prompts"]]
            made = await rollouts(tasks, base_url=server.url, api_key="none", **self._options)
        names = ("prompt_token_ids", "response_ids", "loss_masks", "rollout_logprobs", "rewards", "stop_reasons")
        out: dict[str, list[Any]] = {name: [] for name in names}
        end = int(self._tokenizer.eos_token_id)
        for row, response in made:
            parts = split(row) if row is not None else None
            values: tuple[Any, ...] = ([end], [end], [0], [0.0], 0.0, "abort")
            if parts is not None and row is not None:
                earned = response.recorded.reward
                reason = "length" if row.truncated else "stop"
                reward = 0.0 if earned is None else earned
                values = (parts.prompt_ids, parts.completion_ids, parts.mask, parts.logprobs, reward, reason)
            for name, value in zip(names, values, strict=True):
                out[name].append(value)
        return {**out, "rollout_metrics": {"odograph/no_row": sum(row is None for row, _ in made)}}
