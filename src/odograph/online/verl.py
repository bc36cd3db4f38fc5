"""verl: an agent as an agent loop.

Source: verl 0.9, `verl/experimental/agent_loop/agent_loop.py`: `AgentLoopBase.run(sampling_params, **row)` gives one
`AgentLoopOutput`; `server_manager.generate(request_id=, prompt_ids=, sampling_params=)` gives `token_ids` and `log_probs`.
"""

from __future__ import annotations

import uuid
from typing import Any

from ..api import Store
from ..errors import InvalidInput
from ..training.formats.tokens import split
from ..training.plan import Policy
from ..training.sample import Sample
from .rolling import RewardFn, rollout
from .serving import ChatServer, Generated
from .tasks import Makes, task_of


def agent_loop(
    makes: Makes, *, reward: RewardFn | None = None, store: Store | None = None, edits: Policy = "mask", **settings: Any
) -> type[Any]:
    """The class of an agent loop: register it (`@register("odograph")`), or name it in `agent_loop_config_path`.

    `makes`: an `Agent` (which gets `raw_prompt`), or a function from a row of the dataset to a `Task`. Without `reward`, verl's
    own reward manager scores. A rollout without a row is a response of one token that is not trained. Raises
    InvalidInput where verl is not installed.
    """
    try:
        from verl.experimental.agent_loop import agent_loop as theirs
    except ImportError:
        raise InvalidInput("an agent loop needs verl itself, which is not installed here") from None

    class OdographAgentLoop(theirs.AgentLoopBase):  # type: ignore[misc]
        async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
            given = row if not hasattr(makes, "step") else _asked(row.get("raw_prompt"))
            with ChatServer(engine(self.server_manager, sampling_params), self.tokenizer) as server:
                made, response = await rollout(
                    task_of(makes, given),
                    base_url=server.url,
                    api_key="none",
                    reward=reward,
                    store=store,
                    edits=edits,
                    **settings,
                )
            end = int(self.tokenizer.eos_token_id)
            fields = output(made, response.recorded.reward if response.trajectory_id else None, end)
            return theirs.AgentLoopOutput(**fields, metrics=theirs.AgentLoopMetrics())

    return OdographAgentLoop


def engine(server_manager: Any, sampling_params: dict[str, Any]) -> Any:
    """verl's servers as an engine of token ids."""
    conversation = uuid.uuid4().hex  # verl sends what has the same id to the same server, whose cache has the beginning

    async def generate(ids: list[int], params: dict[str, Any]) -> Generated:
        sampling = {**sampling_params, **{k: v for k, v in params.items() if k in ("temperature", "max_tokens", "stop")}}
        made = await server_manager.generate(
            request_id=conversation, prompt_ids=ids, sampling_params={"logprobs": True, **sampling}
        )
        reason = getattr(made, "stop_reason", None)
        finish = "length" if reason in ("length", "max_tokens") else "stop"
        return Generated(list(made.token_ids), list(made.log_probs) if made.log_probs else None, finish)

    return generate


def output(row: Sample | None, reward: float | None, end: int) -> dict[str, Any]:
    """The fields of an `AgentLoopOutput`, without `metrics`."""
    if row is None:
        return {"prompt_ids": [end], "response_ids": [end], "response_mask": [0], "response_logprobs": [0.0], "reward_score": 0.0,
                "num_turns": 0, "extra_fields": {"odograph": "no row"}}  # fmt: skip
    parts = split(row)
    return {
        "prompt_ids": parts.prompt_ids,
        "response_ids": parts.completion_ids,
        "response_mask": parts.mask,
        "response_logprobs": parts.logprobs,
        "reward_score": reward,
        "num_turns": 2 * len(row.parts),
        "extra_fields": {"trajectory": row.trajectory, "ended": row.ended},
    }


def _asked(messages: Any) -> Any:
    given = [dict(m) for m in messages] if messages is not None else None
    return given[0]["content"] if given and len(given) == 1 else given
