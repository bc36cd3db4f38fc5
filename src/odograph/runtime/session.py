"""One trajectory of a task from its first step to its end: who walks, what is recorded, when it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from ..api import Store
from ..calls import Call
from ..capture.edits import EditArgs, Editor, Runs
from ..capture.recorder import CallRef
from ..capture.run import Run
from ..capture.scope import Step
from ..capture.values import error_of, said_of, status_of
from ..errors import InvalidInput, MissingExtra, NotFound, RunError
from ..log import logger
from ..trajectory import own_steps
from ..types import Start
from .agent import Agent
from .continuing import answered
from .events import listen, log
from .functions import agent_of
from .hooks import Editing
from .items import Items
from .past import before, remembered
from .response import TaskResponse
from .task import AnyAgent, Outcome, Task
from .walk import Walk

#: (is_finished, observation, response), as `Runners.step` gives it.
Stepped = tuple[bool, Any, TaskResponse]


class Session:
    """A task being run."""

    def __init__(self, task: Task, store: Store, *, attempt: int | None = None, group: str | None = None) -> None:
        self.task = task
        self.store = store
        self.agent: AnyAgent = agent_of(task)
        self.over: Stepped | None = None
        #: Whether the trajectory had steps before: they are found in the store.
        self.continued: bool = task._past is not None and task._fork is None
        self._items: Items | None = Items(task.id)
        #: Whether another Task object goes on with it.
        self.replaced = False
        self._stepwise = True
        self._stepping = False
        self._began = time.perf_counter()
        self._before = len(own_steps(task._past)) if self.continued and task._past is not None else 0
        if task._past is not None and task._fork is None:
            self.run: Run = store.append(task._past.id)
            self.run.recorder.spent = sum((c.prompt_tokens or 0) + (c.completion_tokens or 0) for c in task._past.llm_calls)
            for record in task._past.complete_records():
                self._items.add(record)
        else:
            about = self._about(attempt)
            self.run = self._recorded(about, group)
            whole = {"id": self.run.root, "trajectory": self.run.id, "agent": self.agent.name, "metadata": {"runtime": about}}
            self._items.add(Start(**whole))  # type: ignore[arg-type]
            if task._fork is not None:
                self.run.recorder.steps[None] = task._fork.step or 0
        self.run.recorder.tap = []
        if task.conf.log:
            listen(self.run.recorder, log)
        if task.session is not None and task._fork is None:
            if not isinstance(self.agent, Agent):
                raise InvalidInput(f"agent {self.agent.name!r} keeps its own memory; session= is for an Agent")
            if task._past is None or not answered(task._past):
                task._remembered = remembered(store, task.session)
        self.walk: Walk = Walk(self.agent, task, self.run)

    def _about(self, attempt: int | None) -> dict[str, Any]:
        """What is recorded of the task beside its input: enough to resume it."""
        task, agent, conf = self.task, self.agent, self.task.conf
        about: dict[str, Any] = {"task_id": task.id}
        if task.name is not None:
            about["task_name"] = task.name
        if attempt is not None:
            about["attempt"] = attempt
        if task.session is not None:
            about["session"] = task.session
        if task._messages is not None:
            about["messages"] = task._messages
        spec = getattr(agent, "spec", None)
        about["agent"] = spec() if spec is not None else {"name": agent.name, "type": type(agent).__qualname__}
        settings = {
            k: getattr(conf, k) for k in ("max_steps", "max_tokens", "timeout", "tool_timeout") if getattr(conf, k) is not None
        }
        return about | {"conf": settings} if settings else about

    def _recorded(self, about: dict[str, Any], group: str | None) -> Run:
        task, agent = self.task, self.agent
        model, version = getattr(agent, "model", None), getattr(agent, "policy_version", None)
        return self.store.record(
            task.input,
            agent=agent.name,
            model=model if isinstance(model, str) else None,
            policy_version=version,
            group=task.group if task.group is not None else group,
            seed=task.seed,
            tags=task.tags,
            metadata={**task.metadata, "runtime": about},
            fork=task._fork,
        )

    def stream_text(self, tell: Callable[[str], None]) -> None:
        """Tells of the pieces of answers, before the task's own `on_text`."""
        own = self.task.conf.on_text

        def both(piece: str) -> Any:
            tell(piece)
            return own(piece) if own is not None else None

        self.task.conf = msgspec.structs.replace(self.task.conf, on_text=both)

    # --- what was recorded so far -------------------------------------------------------------------------------------------

    @property
    def items(self) -> Items | None:
        """The items so far; None when it is over: then the store is asked."""
        recorder = self.run.recorder
        if self._items is not None and recorder.tap:
            lines, recorder.tap = recorder.tap, []
            for data in lines:
                self._items.add_lines(data, recorder.journal.writer)
        return self._items

    @property
    def steps(self) -> list[Step]:
        """The steps that were taken here, in order."""
        return self.walk.steps

    def response(self, status: str, *, answer: Any = None, msg: str | None = None, step: int | None = None) -> TaskResponse:
        return TaskResponse(
            self.store,
            self.task.id,
            self.run.id,
            status,
            answer=answer,
            msg=msg,
            time_cost=time.perf_counter() - self._began,
            carry_context=self.task.conf.resp_carry_context,
            steps=self.run.recorder.opened,
            step=step,
            session=self,
        )

    def edit(self, call: CallRef | Call | None, result: Runs | None, about: EditArgs) -> Editor | str:
        """Edits an answer between steps: what the model sees next is the edited answer. Raises InvalidInput."""
        state = self.walk._state
        edited = getattr(state, "edited", None)
        if self._stepping:
            raise InvalidInput(f"task {self.task.id!r} is in the middle of a step; edit between steps, or in on_answer")
        if edited is None:
            raise InvalidInput(f"agent {self.walk.agent.name!r} keeps no conversation that could be edited between its steps")
        of = call if call is not None else state.last_call
        if of is None:
            raise InvalidInput(f"task {self.task.id!r} has no answer to edit")
        place = self.steps[-1] if self.steps else self.run
        return Editing(place, "response", edited).edit(of, result, **about)

    # --- running ------------------------------------------------------------------------------------------------------------

    @property
    def _cut(self) -> str | None:
        """Why no further step is taken: the task's bounds count what all agents do, the agent's own limit its own steps."""
        recorder, steps, tokens = self.run.recorder, self.task.conf.max_steps, self.task.conf.max_tokens
        own = getattr(self.agent, "max_steps", None)
        own = own if isinstance(own, int) else 100
        if recorder.opened >= steps if steps is not None else self._before + len(self.steps) >= own:
            return f"no end within {own if steps is None else steps} steps"
        return f"no end within {tokens} tokens" if tokens is not None and recorder.spent >= tokens else None

    async def begin(self) -> None:
        """The agent at its place. Raises RunError."""
        if self.walk.begun:
            return
        try:
            past = before(self.store, self.task, self.agent)
        except NotFound as error:
            raise RunError(f"the trajectory that this is a fork of is not there: {error}") from error
        await self.walk.begin(past)

    async def step(self) -> Stepped:
        """One step; after the end, the end again. Raises RunError where it could not be taken; it can be taken again."""
        if self.over is not None:
            return self.over
        if self.replaced:
            raise InvalidInput(f"task {self.task.id!r} was resumed as another Task object; use that one")
        if self._stepping:
            raise InvalidInput(f"task {self.task.id!r} is in the middle of a step; wait for the end of the step")
        self._stepping = True
        try:
            await self._within_time(self.begin())
            if self.over is not None:  # the time was up
                return self.over
            if (why := self._cut) is not None:
                return await self.finish(Outcome(finished=True, status="truncated", error=why))
            outcome: Outcome | None = await self._within_time(self.walk.step())
        finally:
            self._stepping = False
        if outcome is None:
            return self.over  # type: ignore[return-value]
        if outcome.finished:
            return await self.finish(outcome)
        if (why := self._cut) is not None:
            return await self.finish(msgspec.structs.replace(outcome, finished=True, status="truncated", error=why))
        return False, outcome.observation, self.response("running", step=self._last)

    @property
    def _last(self) -> int:
        """The number of the step that was just taken, as `response.reward` counts."""
        return len(self.steps) - 1 + self._before

    async def _within_time(self, work: Any) -> Any:
        """What work gives; None where the time of the whole run is up, which ends it."""
        limit = self.task.conf.timeout
        if limit is None:
            return await work
        left = limit - (time.perf_counter() - self._began)
        timer = asyncio.timeout(left)
        try:
            async with timer:
                return await work
        except TimeoutError:
            if not timer.expired():
                raise
        await self.finish(Outcome(finished=True, status="timeout", error=f"the task was not done within {limit:g} s"))
        return None

    async def finish(self, outcome: Outcome, *, environment: bool = False) -> Stepped:
        """Ends the trajectory. `environment`: it failed through no fault of the agent's."""
        if self.over is not None:
            return self.over
        error = error_of(outcome.error)
        metrics = {"status": "error_environment"} if environment else None
        self.run.finish(outcome.answer, status=outcome.status, error=error, metrics=metrics)
        said = said_of(error)
        if outcome.status == "failed" and self.task._turns is None:
            _told_of_failure(self.task.id, said)
        step = self._last if self.steps and self._stepwise else None
        response = self.response(outcome.status, answer=outcome.answer, msg=said, step=step)
        self.over = True, outcome.observation, response
        self._items = self.run.recorder.tap = None
        await self.walk.close()
        return self.over

    async def to_end(self) -> TaskResponse:
        """All steps. What goes wrong ends the trajectory and is in the response; being cancelled ends it and is raised on."""
        self._stepwise = False
        try:
            while True:
                finished, _, response = await self.step()
                if finished:
                    return response
        except RunError as error:
            failed = Outcome(finished=True, status="failed", error=str(error))
            return (await self.finish(failed, environment=True))[2]
        except MissingExtra as error:
            await self.finish(Outcome(finished=True, status="failed", error=str(error)), environment=True)
            raise
        except InvalidInput:
            raise
        except BaseException as error:  # cancelled, Ctrl-C: what was done is on record
            status = status_of(error)
            await asyncio.shield(self.finish(Outcome(finished=True, status=status, error=error)))
            raise

    async def cancel(self, why: str) -> None:
        """Ends it, where it has no end yet."""
        if not self.replaced:
            await self.finish(Outcome(finished=True, status="cancelled", error=why))


_MOST_TOLD = 20  # failures of one process that the log names
_failures = count(1)


def _told_of_failure(task: str, why: Any) -> None:
    """A run that failed says so in the log; of many, the first ones do."""
    number = next(_failures)
    if number <= _MOST_TOLD:
        logger.warning("task %s failed: %s", task, why or "no reason given")
    elif number == _MOST_TOLD + 1:
        logger.warning("more tasks failed; their responses say why")
