"""ART: an agent as a rollout coroutine.

Source: openpipe-art 0.5.18, `art/gather.py`: `gather_trajectory_groups` awaits coroutines that give an `art.Trajectory`;
`model.inference_base_url`, `inference_api_key` and `get_inference_name()` are where the model is asked.
"""

from __future__ import annotations

from typing import Any

from ..api import Store
from ..runtime import TaskResponse
from ..training.feed import rows
from ..training.formats.art import group
from .rolling import RewardFn, ran
from .tasks import Makes, task_of


async def trajectory(
    makes: Makes,
    model: Any,
    given: Any = None,
    *,
    reward: RewardFn | None = None,
    store: Store | None = None,
    **settings: Any,
) -> Any:
    """One `art.Trajectory`, of an agent that asks an `art.Model`. Raises RuntimeError where nothing can be trained, which
    `art.gather_trajectory_groups(max_exceptions=...)` counts; MissingExtra without openpipe-art."""
    task = task_of(makes, given)
    name = model.get_inference_name() if hasattr(model, "get_inference_name") else model.inference_model_name
    options: dict[str, Any] = {
        "base_url": model.inference_base_url,
        "api_key": model.inference_api_key,
        "model": name,
        **settings,
    }
    response = await ran(task, reward=reward, store=store, **options)
    return _made(response)


def _made(response: TaskResponse) -> Any:
    if response.trajectory_id is None:
        raise RuntimeError(f"no trajectory for ART: {response.msg}")
    lines = rows(response.recorded, "art")
    if not lines:
        why = "; ".join([*lines.left_out, *filter(None, [response.msg])]) or "no call with token ids"
        raise RuntimeError(f"trajectory {str(response.trajectory_id)[-8:]} gives nothing that ART trains: {why}")
    return group(lines[0]).trajectories[0]
