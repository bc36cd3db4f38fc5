"""What a runner can drive: anything with the two methods of `AnyAgent`. Knows no agent, no model and no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from ..capture.recorder import Scope, Step
from ..errors import MissingExtra, RunError
from ..trajectory import Trajectory
from ..types import Status

if TYPE_CHECKING:
    from .task import Task


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one step."""

    #: What the agent sees next: the results of its tools, the environment's state.
    observation: Any = None
    finished: bool = False
    #: With `finished`: the answer, how it ended, and why it failed.
    answer: Any = None
    status: Status = "completed"
    error: Any = None
    #: Another agent takes over, from inside of the record with this id.
    handoff: tuple[AnyAgent, str] | None = None


@runtime_checkable
class AnyAgent(Protocol):
    """An agent, an environment with its policy, another framework's agent: what can begin a task and take steps.

    What it records in a step (by the step's methods, or by clients and functions that are wrapped) belongs to it. It may also
    have `model` and `max_steps`. A state may have `observation`, what the first step sees where that is not the task's input,
    `place`, a hand-off that a continued run had made before, and `async def aclose()`, called when the run ends.
    """

    name: str

    async def begin(self, task: Task, run: Scope, past: Trajectory | None) -> Any:
        """The state of a new run of a task. `past`: what was recorded of it, where it is continued."""
        ...

    async def step(self, state: Any, step: Step) -> Outcome:
        """Takes one step. Raises RunError where it could not be taken and can be taken again."""
        ...


class Walk:
    """An agent on its way through a task: its state, and where its steps are recorded. A hand-off changes who walks."""

    def __init__(self, agent: AnyAgent, task: Task, scope: Scope) -> None:
        self.agent = agent
        self.task = task
        self.scope = scope
        self.observation: Any = task.input
        #: The steps that were taken here, in order, for rewards.
        self.steps: list[Step] = []
        self._state: Any = None
        self.begun = False

    async def begin(self, past: Trajectory | None = None) -> None:
        """Raises RunError where the agent can't begin: a tool server that is not there, say."""
        if not self.begun:
            try:
                self._state = await self.agent.begin(self.task, self.scope, past)
            except (RunError, MissingExtra):
                raise
            except Exception as error:
                raise RunError(f"agent {self.agent.name!r} can't begin: {_said(error)}") from error
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
            except RunError as error:
                step.note({"error": str(error)}, name="step failed")
                raise
            except MissingExtra:
                raise
            except Exception as error:
                step.note({"error": _said(error)}, name="step failed")
                raise RunError(f"agent {self.agent.name!r} failed: {_said(error)}") from error
        self.observation = outcome.observation
        self._go(outcome.handoff)
        return outcome

    async def close(self) -> None:
        """What the state holds open is closed."""
        state, self._state, self.begun = self._state, None, False
        close = getattr(state, "aclose", None)
        if close is not None:
            await close()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
