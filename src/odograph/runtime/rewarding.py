"""Rewards of a run by a function of its trajectory, as soon as it is over. Knows no runner."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from ..errors import OdographError, described
from ..log import logger
from ..rewards.functions import Plain, RewardFunction
from .response import TaskResponse

#: A trajectory -> its reward: a number, named components, or None (not known).
RewardFn = RewardFunction | Plain


def check_reward(reward: Any) -> None:
    """Raises TypeError for what is no function."""
    if reward is not None and not callable(reward):
        raise TypeError(f"reward is a function of the trajectory, not {reward!r}")


async def rewarded(response: TaskResponse, reward: RewardFn) -> None:
    """Records what a function gives for a run. A function that fails costs the reward, and says so."""
    if response.trajectory_id is None:
        return
    name = str(getattr(reward, "name", None) or getattr(reward, "__name__", "reward"))
    try:
        value = reward(response.recorded)
        value = await value if inspect.isawaitable(value) else value
        values = dict(value) if isinstance(value, Mapping) else {name: value}
        for part, number in values.items():
            if number is None and not isinstance(value, Mapping):
                continue
            made = None if number is None else float(number)
            response.reward(made, str(part), step="trajectory", source="function", author=name)
    except (OdographError, asyncio.CancelledError):
        raise
    except Exception as error:  # the run is on record, without a reward
        logger.warning("reward %s of trajectory %s failed: %s", name, response.trajectory_id[-8:], described(error))
