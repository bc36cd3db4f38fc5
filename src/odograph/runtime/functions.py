"""Any code as an agent: a function `input -> answer` that asks a model through a wrapped client, stepped call by call.

It runs as it is; where it asks the model, it is held until the next step. Its actions are what functions under
`@odograph.action` do.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from ..capture import scope
from ..capture.recorder import CallRef
from ..capture.scope import Scope, Step
from ..capture.values import error_of, status_of
from ..errors import InvalidInput, RunError
from ..trajectory import Trajectory
from .recorded import Replies
from .task import AnyAgent, Outcome, Task
from .tools import ToolError, in_thread


class FunctionAgent:
    """A function of a task's input that gives back the answer; a coroutine function, or a plain one that runs in a thread.

    A step is one call of a model through a client that is wrapped (`odograph.wrap`), with what the function does until the next.
    A run that is continued does what it did before again, with the recorded answers, up to where it stopped.
    """

    def __init__(self, fn: Callable[[Any], Any], name: str | None = None, model: str | None = None) -> None:
        self.fn = fn
        self.name: str = name or getattr(fn, "__name__", None) or type(fn).__name__
        self.model = model

    def __repr__(self) -> str:
        return f"<FunctionAgent {self.name}>"

    async def begin(self, task: Task, run: Scope, past: Trajectory | None) -> Running:
        """Nothing runs yet; with a past, all of it does that ran before."""
        running = Running(self.fn, task, run)
        if past is not None:
            await running.catch_up(Replies(past))
        return running

    async def step(self, state: Running, step: Step) -> Outcome:
        """Lets the function go on until it asks a model again, or is done."""
        return await state.advance(step)


def agent_of(task: Task) -> AnyAgent:
    """A task's agent, adapted where it is a function. Raises InvalidInput."""
    agent = task.agent
    if isinstance(agent, AnyAgent):
        return agent
    if callable(agent) and not isinstance(agent, type):
        return FunctionAgent(agent)
    what = "no agent" if agent is None else f"an agent that is {type(agent).__name__}"
    raise InvalidInput(f"task {task.id!r} has {what}; an Agent, an object with begin() and step(), or a function was expected")


class _Inside(Scope):
    """Where the function records: in the step that is present. Notes what its actions gave back."""

    def __init__(self, running: Running, run: Scope) -> None:
        super().__init__(run.recorder, run._id, run._agent, None)
        self.results: list[dict[str, Any]] = []
        self._running = running

    def move(self, step: Step) -> None:
        self._id, self._step, self.results = step._id, step._step, []

    def record_call(self, fields: dict[str, Any]) -> CallRef:
        made = super().record_call(fields)
        self._running.changed()
        return made

    def action(self, name: str, arguments: Any = None, result: Any = None, **about: Any) -> str:
        made = super().action(name, arguments, result, **about)
        error = about.get("error")
        content = result if error is None else f"error: {error}"
        self.results.append({"tool_call_id": about.get("tool_call_id"), "name": name, "content": content, "ok": about.get("ok")})
        return made


class Running:
    """A function under way: held at each call of a model until the next step."""

    def __init__(self, fn: Callable[[Any], Any], task: Task, run: Scope) -> None:
        self._fn = fn
        self._of = task
        self._input: Any = task.input
        self._inside = _Inside(self, run)
        self._replies: Replies | None = None
        self._outer = scope.director.get()
        self._here()

    def _here(self) -> None:
        """Nothing runs yet, in the event loop that is running."""
        self._task: asyncio.Task[Any] | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._held: list[asyncio.Future[None]] = []
        self._permits = 0
        self._change = asyncio.Event()
        #: Recorded answers that the function was given and has not read to their end.
        self._reading = 0

    # --- what a runner asks -------------------------------------------------------------------------------------------------

    async def catch_up(self, replies: Replies) -> None:
        """Runs what ran before, unrecorded, with the answers that were recorded then."""
        self._replies = replies
        self._inside.recorder.silent = True
        self._start()
        await self._until(lambda: bool(self._held) and not self._reading)
        self._loud()
        if replies.divergence is not None:
            raise RunError(f"the function does not do what it did before: {replies.divergence}")

    async def advance(self, step: Step) -> Outcome:
        """One call of a model, and what follows it."""
        if asyncio.get_running_loop() is not self._loop and self._task is not None:  # the function ended with its event loop
            session = self._of._session
            self._here()
            await self.catch_up(Replies(session.store.trajectory(session.run.id)))
        self._inside.move(step)
        before = self._inside.last_call
        if self._task is None:
            self._permits = 1
            self._start()
        elif self._held:
            self._held.pop(0).set_result(None)
        else:
            self._permits = 1
        await self._until(lambda: bool(self._held) and self._inside.last_call is not before)
        assert self._task is not None
        observation = self._inside.results or None
        if not self._task.done():
            return Outcome(observation=observation)
        if self._task.cancelled():
            return Outcome(observation=observation, finished=True, status="cancelled", error="the function was cancelled")
        error = self._task.exception()
        if error is not None:
            status: Any = status_of(error)
            return Outcome(observation=observation, finished=True, status=status, error=error_of(error))
        return Outcome(observation=observation, finished=True, answer=self._task.result())

    async def aclose(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            for held in self._held:
                held.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    def _start(self) -> None:
        context = copy_context()
        context.run(scope.enter, self._inside)
        context.run(scope.director.set, self)
        self._task = self._loop.create_task(self._work(), context=context)
        self._task.add_done_callback(lambda task: self._change.set())

    async def _work(self) -> Any:
        fn = self._fn
        if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
            try:
                return await fn(self._input)
            except SystemExit as error:  # it ends the function, as in a thread
                raise ToolError(f"SystemExit: {error}") from error
        result = await in_thread(lambda: fn(self._input))
        return await result if inspect.isawaitable(result) else result

    async def _until(self, held: Callable[[], bool]) -> None:
        assert self._task is not None
        while not self._task.done() and not held():
            self._change.clear()
            await self._change.wait()

    def changed(self) -> None:
        """A call was recorded, perhaps in another thread."""
        self._reading = max(0, self._reading - 1)
        if (
            self._replies is not None and not self._replies.left and not self._reading
        ):  # it was the last that had been recorded before
            self._loud()
        if threading.get_ident() == self._thread:
            self._change.set()
        else:
            self._loop.call_soon_threadsafe(self._change.set)

    # --- what wrapped clients ask ---------------------------------------------------------------------------------------------

    def reply(self, dialect: str, sent: bytes, streams: bool) -> tuple[int, str, bytes] | None:
        """A recorded answer, while there are any."""
        if self._outer is not None:
            return self._outer.reply(dialect, sent, streams)
        if self._replies is None:
            return None
        if not self._replies.left:
            if not self._reading:
                self._loud()
            return None
        known = self._replies.reply(dialect, sent, streams)
        self._reading += scope.current() is self._inside
        return known

    async def admit(self, within: Scope | None) -> None:
        """Waits for the step in which the model may be asked. Calls inside of an action or of another agent don't wait."""
        if within is not self._inside:
            return
        if self._permits:
            self._permits -= 1
            return
        held = self._loop.create_future()
        self._held.append(held)
        self._change.set()
        await held

    def admit_sync(self, within: Scope | None) -> None:
        """The same in a thread; a client that blocks the event loop itself can't be held."""
        if within is self._inside and threading.get_ident() != self._thread:
            asyncio.run_coroutine_threadsafe(self.admit(within), self._loop).result()

    def _loud(self) -> None:
        self._replies = None
        self._inside.recorder.silent = False
