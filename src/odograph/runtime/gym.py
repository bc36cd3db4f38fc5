"""A Gymnasium environment and a policy as an agent: an observation, an action and a reward a step.

Source: https://gymnasium.farama.org/api/env/ (reset, step, terminated and truncated).
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

from ..capture.scope import Scope, Step
from ..codec import encode, loads
from ..errors import MissingExtra, RunError
from ..trajectory import Trajectory
from .task import Outcome, Task


class GymAgent:
    """`policy(observation) -> action` in an environment: each run makes its own by `env()`, or of an id by `gymnasium.make`.

    The policy may be async, and may ask models through wrapped clients. The task's `seed` seeds the environment; its `input` may
    be the options of `reset`. A step's reward is recorded as `env`. A run that is continued takes the recorded actions again, in
    an environment of the same seed.
    """

    def __init__(
        self, env: str | Callable[[], Any], policy: Callable[[Any], Any], name: str | None = None, max_steps: int = 10_000
    ) -> None:
        self.env = env
        self.policy = policy
        self.name: str = name or getattr(policy, "__name__", None) or type(policy).__name__
        self.max_steps = max_steps

    async def begin(self, task: Task, run: Scope, past: Trajectory | None) -> Episode:
        env = self._made()
        options = task.input if isinstance(task.input, dict) else None
        seed = task.seed
        if seed is None and past is not None:
            seed = next((n.data.get("seed") for n in past.notes if n.name == "environment"), None)
        elif seed is None:
            seed = random.SystemRandom().getrandbits(31)
        observation, info = env.reset(seed=seed, options=options)
        if past is None:
            run.note({"seed": seed, "id": getattr(env.spec, "id", None), "reset": info}, name="environment")
            return Episode(env, observation)
        for step in past.steps:
            for action in step.actions:
                if encode(step.observation) != encode(observation):
                    raise RunError(f"the environment changed: step {step.index} gives another observation than the recorded one")
                observation, *_ = env.step(_action(env, action.arguments))
        return Episode(env, observation)

    def _made(self) -> Any:
        if not isinstance(self.env, str):
            return self.env()
        try:
            import gymnasium
        except ImportError:
            raise MissingExtra("a Gymnasium environment", "gym") from None
        return gymnasium.make(self.env)

    async def step(self, state: Episode, step: Step) -> Outcome:
        """Asks the policy for an action, and takes the action in the environment."""
        action = self.policy(state.observation)
        if inspect.isawaitable(action):
            action = await action
        with step.acting("act", action) as acting:
            observation, reward, terminated, truncated, info = state.env.step(action)
            acting.result = {"terminated": bool(terminated), "truncated": bool(truncated), "info": info}
        step.reward(float(reward), name="env")
        state.observation = observation
        over = bool(terminated or truncated)
        plain = loads(encode(observation))
        return Outcome(
            observation=observation,
            finished=over,
            answer=plain if over else None,
            status="truncated" if truncated and not terminated else "completed",
            error="the environment's time limit" if truncated and not terminated else None,
        )


class Episode:
    """One environment and what it shows."""

    def __init__(self, env: Any, observation: Any) -> None:
        self.env = env
        self.observation = observation

    async def aclose(self) -> None:
        self.env.close()


def _action(env: Any, recorded: Any) -> Any:
    """A recorded action as the environment takes it."""
    space = env.action_space
    return space.from_jsonable([recorded])[0]
