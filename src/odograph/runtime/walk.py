"""An agent on its way through a task. Knows no agent, no model and no store."""

from __future__ import annotations

from typing import Any

from ..capture.scope import Scope, Step
from ..errors import MissingExtra, RunError, described
from ..trajectory import Trajectory
from .task import AnyAgent, Outcome, Task


class Walk:
    """An agent on its way through a task: its state, and where its steps are recorded. A hand-off changes who walks."""

    def __init__(self, agent: AnyAgent, task: Task, scope: Scope) -> None:
        self.agent: AnyAgent = agent
        self.task = task
        self.scope: Scope = scope
        self.observation: Any = task.input
        #: The steps that were taken here, in order, for rewards.
        self.steps: list[Step] = []
        self._state: Any = None
        self.begun: bool = False

    async def begin(self, past: Trajectory | None = None) -> None:
        """Raises RunError where the agent can't begin: a tool server that is not there, say."""
        if not self.begun:
            try:
                self._state = await self.agent.begin(self.task, self.scope, past)
            except (RunError, MissingExtra):
                raise
            except Exception as error:
                raise RunError(f"agent {self.agent.name!r} can't begin: {described(error)}") from error
            self.begun = True
            self.observation = getattr(self._state, "observation", self.observation)
            self._go(getattr(self._state, "place", None))

    def _go(self, place: tuple[AnyAgent, str] | None) -> None:
        if place is not None:
            self.agent, action = place
            self.scope = self.scope.inside(action).sub_agent(self.agent.name)

    async def step(self) -> Outcome:
        """One step, recorded. Raises RunError."""
        await self.begin()
        with self.scope.step(self.observation) as step:
            self.steps.append(step)
            try:
                outcome = await self.agent.step(self._state, step)
                if not isinstance(outcome, Outcome):
                    raise TypeError(f"step() returns an Outcome, not {type(outcome).__name__}")
            except RunError as error:
                step.note({"error": str(error)}, name="step failed")
                raise
            except MissingExtra:
                raise
            except Exception as error:
                step.note({"error": described(error)}, name="step failed")
                raise RunError(f"agent {self.agent.name!r} failed: {described(error)}") from error
        self.observation = outcome.observation
        self._go(outcome.handoff)
        return outcome

    async def close(self) -> None:
        """What the state holds open is closed."""
        state, self._state, self.begun = self._state, None, False
        close = getattr(state, "aclose", None)
        if close is not None:
            await close()
