"""AReaL: an agent as a workflow of its proxy.

Source: AReaL, agent workflows: a class with `async run(self, data, **extra_kwargs)` that gives a float; `base_url` and `api_key`
of the trainer's proxy come as keywords. The proxy keeps the tokens; ours are in the store.
"""

from __future__ import annotations

from typing import Any

from ..api import Store
from ..errors import RunError
from .rolling import RewardFn, ran
from .tasks import Makes, task_of


class Workflow:
    """`Workflow(makes, reward=...)`: `makes` is an `Agent` (which gets `data["messages"]`, else `data`), or a function from a row
    of the dataset to a `Task`; `reward` is a function of the trajectory."""

    def __init__(self, makes: Makes, *, reward: RewardFn, store: Store | None = None, **settings: Any) -> None:
        self._makes = makes
        self._options: dict[str, Any] = {"reward": reward, "store": store, **settings}

    async def run(self, data: Any, *, base_url: str | None = None, api_key: str | None = None, **extra: Any) -> float:
        """One rollout's reward. Raises RunError where it is not known: AReaL then leaves the rollout out."""
        given = data if not hasattr(self._makes, "step") else data.get("messages", data) if isinstance(data, dict) else data
        task = task_of(self._makes, given)
        response = await ran(task, base_url=base_url, api_key=api_key, **self._options)
        reward = response.recorded.reward if response.trajectory_id else None
        if reward is None:
            raise RunError(f"the reward of task {task.id} is not known: {response.msg or response.status}")
        return reward
