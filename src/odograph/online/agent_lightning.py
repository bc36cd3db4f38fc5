"""agent-lightning 0.x: an agent as a rollout function that gives its triplets.

Source: agentlightning 0.3, `agentlightning/litagent` (`@agl.rollout def f(task, llm)`) and `agentlightning/types`: `Triplet` and
`LLM` (endpoint, model, sampling_parameters). With 1.x any program that asks its gateway is a rollout: nothing is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..api import Store
from ..errors import InvalidInput
from ..training.feed import rows
from .rolling import RewardFn, ran
from .tasks import Makes, task_of


def lit_rollout(
    makes: Makes, *, reward: RewardFn, store: Store | None = None, **settings: Any
) -> Callable[[Any, Any], Awaitable[list[Any]]]:
    """A function for `@agl.rollout`: `async f(task, llm)` gives the triplets of one rollout, the reward on the last.

    `makes`: an `Agent` (which gets the task), or a function from the task to a `Task`. Raises
    InvalidInput where agent-lightning is not installed.
    """
    try:
        from agentlightning.types import Triplet
    except ImportError:
        raise InvalidInput("a rollout of agent-lightning needs agentlightning itself, which is not installed here") from None

    async def lit_agent(task: Any, llm: Any) -> list[Any]:
        params = dict(getattr(llm, "sampling_parameters", None) or {})
        options: dict[str, Any] = {"base_url": llm.endpoint, "model": llm.model, "params": params or None, **settings}
        key = getattr(llm, "api_key", None) or "none"
        response = await ran(task_of(makes, task), api_key=key, reward=reward, store=store, **options)
        made = rows(response.recorded, "agent-lightning") if response.trajectory_id else []
        return [Triplet(**triplet) for line in made for triplet in line["triplets"]]

    return lit_agent
