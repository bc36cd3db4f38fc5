"""Any code as an agent: a function `input -> answer` that asks a model through a wrapped client, stepped call by call.

It runs as it is; where it asks the model, it is held until the next step. Its actions are what functions under
`@odograph.action` do.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import msgspec

from .. import dialects
from ..asking.endpoint import Unanswered
from ..calls import Call
from ..capture import entering, scope
from ..capture.directing import director
from ..capture.exchange import Exchange
from ..capture.recorder import CallRef
from ..capture.scope import Scope, Step
from ..capture.values import error_of, status_of
from ..codec import encode
from ..dialects.shapes import was_cut, was_stopped
from ..errors import InvalidInput, RunError
from ..trajectory import HANDOFF, Trajectory
from ..types import Edit, Status
from .changes import Changes, answer_with, body_of, messages_of
from .hooks import Answer, Prompt, Stop, told
from .recorded import COMPACTED, PUT, Replies, Turns
from .showing import sayable
from .task import AnyAgent, Outcome, Task
from .timing import ToolError
from .tools import in_thread, sanitised


class FunctionAgent:
    """A function that takes a task's input and returns the answer: a coroutine function, or a plain function, run in a thread.

    A step is one model call through a wrapped client (`odograph.wrap`) and everything that the function does until the next
    call. A continued run repeats its earlier calls with the recorded answers, up to the point where the run stopped. Raises
    InvalidInput for a function that yields.
    """

    def __init__(self, fn: Callable[[Any], Any], name: str | None = None, model: str | None = None) -> None:
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            given = getattr(fn, "__qualname__", fn)
            raise InvalidInput(f"an agent's function returns its answer, and {given} yields: give a function that returns")
        self.fn = fn
        self.name: str = name or getattr(fn, "__name__", None) or type(fn).__name__
        self.model = model

    def __repr__(self) -> str:
        return f"<FunctionAgent {self.name}>"

    async def begin(self, task: Task, run: Scope, past: Trajectory | None) -> Running:
        """Nothing runs yet; with a past, all of it does that ran before."""
        if task.conf.on_tool is not None:
            raise InvalidInput(f"on_tool sees the tools of an Agent; the tools of {self.name} are its own code's: use on_answer")
        running = Running(self.fn, task, run, self.name)
        if past is not None:
            await running.catch_up(past)
        return running

    async def step(self, state: Running, step: Step) -> Outcome:
        """Lets the function go on until it asks a model again, or is done."""
        return await state.advance(step)


def agent_of(task: Task) -> AnyAgent:
    """A task's agent, adapted where it is a function. Raises InvalidInput."""
    agent = task.agent
    if isinstance(agent, type):
        raise InvalidInput(f"task {task.id!r} has the class {agent.__name__}; an agent is an object, such as {agent.__name__}()")
    if isinstance(agent, AnyAgent):
        if not isinstance(agent.name, str):
            raise InvalidInput(f"task {task.id!r} has an agent whose name is {agent.name!r}; a text was expected")
        return agent
    if callable(agent):
        return FunctionAgent(agent)
    what = "no agent" if agent is None else f"an agent that is {type(agent).__name__}"
    raise InvalidInput(f"task {task.id!r} has {what}; an Agent, an object with begin() and step(), or a function was expected")


def _is_too_long(call: Call) -> bool:
    """Whether a model refused a call because the conversation outgrew its context."""
    status = str(call.record.error).removeprefix("HTTP ")
    said = encode(call.record.response).decode()
    return Unanswered(said, int(status)).is_too_long if status.isdecimal() else False


def _taken_as_it_is(call: Call | None, answer: Any) -> tuple[Status, str | None]:
    """How a function ended that gives the model's last answer as its own: an answer that was cut off or stopped is none."""
    choice = call.choices[0] if call is not None and call.choices else None
    if choice is None or not isinstance(answer, str) or not answer or answer != choice.text:
        return "completed", None
    cut, reason = was_cut(choice.finish_reason), choice.finish_reason
    if not cut and not was_stopped(reason):
        return "completed", None
    return ("truncated", f"the answer was cut off (finish reason {reason!r})") if cut else (
        "failed", f"the answer was stopped (finish reason {reason!r})")  # fmt: skip


class _Inside(Scope):
    """Where the function records: in the step that is present. Notes what its actions gave back."""

    def __init__(self, running: Running, run: Scope) -> None:
        super().__init__(run.recorder, run._id, run._agent, None)
        self.results: list[dict[str, Any]] = []
        #: The ids of its actions, by name.
        self.did: dict[str, str] = {}
        self._running = running

    def move(self, step: Step) -> None:
        self._id, self._step, self._agent, self.results, self.did = step._id, step._step, step._agent, [], {}

    def record_call(self, fields: dict[str, Any]) -> CallRef:
        made = super().record_call(fields)
        self._running.changed()
        return made

    def action(self, name: str, arguments: Any = None, result: Any = None, **about: Any) -> str:
        made = super().action(name, arguments, result, **about)
        self.did[name] = made
        error = about.get("error")
        content = sayable(result) if error is None else f"error: {error}"
        self.results.append({"tool_call_id": about.get("tool_call_id"), "name": name, "content": content, "ok": about.get("ok")})
        return made


class Helper(Scope):
    """Where an agent records that does a task for the function's, inside of an action: each call of a model begins a step."""

    def __init__(self, action: Scope, name: str) -> None:
        self._place = action.sub_agent(name)
        super().__init__(self._place.recorder, self._place._id, self._place._agent, None)

    def begin(self) -> None:
        """A model is about to be asked."""
        if not self.recorder.silent:
            step = self._place.step()
            self._id, self._step = step._id, step._step


_acting: ContextVar[str | None] = ContextVar("odograph_acting", default=None)


def acting(name: str) -> None:
    """Says which of a framework's agents acts from now on, in this context and, as long as no other is said to, in the function.

    Its steps are recorded under its name, inside of the action that hands over to it.
    """
    running = director.get()
    if isinstance(running, Running):
        running.acts = name
        _acting.set(name)


class Running:
    """A function under way: held at each call of a model until the next step."""

    def __init__(self, fn: Callable[[Any], Any], task: Task, run: Scope, name: str) -> None:
        self._fn = fn
        #: Who takes the step that is present, and who was last said to act.
        self._name = name
        self.acts: str = name
        self._of = task
        self._input: Any = task.input
        self._inside = _Inside(self, run)
        self._replies: Replies | None = None
        self._outer = director.get()
        #: What was changed of its conversations, and what it still has to be told that was changed before.
        self._changes = Changes()
        self._turns: Turns | None = task._turns
        #: Why it was stopped, or what a callable raised.
        self._stop: Outcome | None = None
        #: Who acted last before the run was continued, and inside of which action.
        self.place: tuple[FunctionAgent, str] | None = None
        self._here()

    def _here(self) -> None:
        """Nothing runs yet, in the event loop that is running."""
        self._task: asyncio.Task[Any] | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._held: list[tuple[str, asyncio.Future[None]]] = []
        self._permits = 0
        self._change = asyncio.Event()
        #: Recorded answers that the function was given and has not read to their end.
        self._reading = 0

    # --- what a runner asks -------------------------------------------------------------------------------------------------

    async def catch_up(self, past: Trajectory) -> None:
        """Runs what ran before, unrecorded, with the answers that were recorded then and what was changed of them."""
        self._replies = replies = Replies(past)
        self._turns, self._changes = Turns(past), Changes()
        self._inside.recorder.silent = True
        self._start()
        await self._until(lambda: bool(self._held) and not self._reading)
        self._loud()
        if replies.divergence is not None:
            raise RunError(f"the function no longer makes the recorded calls: {replies.divergence}")
        if self._held and past is self._of._past and self._of._fork is None:
            self.place = self._handed_over({a.name: a.id for a in past.actions})

    async def advance(self, step: Step) -> Outcome:
        """One call of a model, and what follows it."""
        if asyncio.get_running_loop() is not self._loop and self._task is not None:  # the function ended with its event loop
            session = self._of._session
            self._here()
            await self.catch_up(session.store.trajectory(session.run.id))
        self._inside.move(step)
        before = self._inside.last_call
        if self._task is None:
            self._permits = 1
            self._start()
        elif self._held:
            self._held.pop(0)[1].set_result(None)
        else:
            self._permits = 1
        await self._until(lambda: bool(self._held) and (self._inside.last_call is not before or self._held[0][0] != self._name))
        assert self._task is not None
        handoff = self._handed_over(self._inside.did) if self._held else None
        observation = self._inside.results or None
        if not self._task.done():
            return Outcome(observation=observation, handoff=handoff)
        if self._stop is not None:
            self._task.cancelled() or self._task.exception()  # nobody else looks at it
            return msgspec.structs.replace(self._stop, observation=observation)
        if self._task.cancelled():
            return Outcome(observation=observation, finished=True, status="cancelled", error="the function was cancelled")
        error = self._task.exception()
        call = self._inside.last_call.call if self._inside.last_call is not None else None
        if error is not None:
            status: Status = "truncated" if call is not None and _is_too_long(call) else status_of(error)
            return Outcome(observation=observation, finished=True, status=status, error=error_of(error))
        answer = self._task.result()
        status, why = _taken_as_it_is(call, answer)
        return Outcome(observation=observation, finished=True, answer=answer, status=status, error=why)

    def _handed_over(self, known: dict[str, str]) -> tuple[FunctionAgent, str] | None:
        """Another agent of the function asks next: who, and the action that it acts inside of, one of those `known` by name."""
        name = self._held[0][0]
        if name == self._name:
            return None
        self._name, action = name, f"transfer_to_{sanitised(name)}"
        id = known.get(action)
        if id is None:
            last = self._inside.last_call
            asked = last.call.choices[0].tool_calls if last is not None and last.call is not None and last.call.choices else []
            answered = {r["tool_call_id"] for r in self._inside.results}
            call = next((c.id for c in asked if c.name.lower() == action.lower() and c.id not in answered), None)
            id = self._inside.action(action, None, f"{name} goes on", ok=True, tool_call_id=call, metadata={HANDOFF: name})
        return FunctionAgent(self._fn, name), id

    async def aclose(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            for _, held in self._held:
                held.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    def _start(self) -> None:
        context = copy_context()
        context.run(entering.give, self._inside)
        context.run(director.set, self)
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
            outer = self._outer
            return self._again(dialect, sent, lambda body: outer.reply(dialect, body, streams))
        replies = self._replies
        if replies is None:
            return None
        if not replies.left:
            if not self._reading:
                self._loud()
            return None
        known = self._again(dialect, sent, lambda body: replies.reply(dialect, body, streams))
        self._reading += scope.current() is self._inside
        return known

    def _again(
        self, dialect: str, sent: bytes, reply: Callable[[bytes], tuple[int, str, bytes] | None]
    ) -> tuple[int, str, bytes] | None:
        """A recorded answer, with what was changed of the prompt and of the answer while the function ran."""
        turns = self._turns
        if turns is None:
            return reply(sent)
        for name, messages in turns.upcoming(self._name):
            self._changes.put(name, messages, dialect, sent)
        known = reply(self._changes.apply(dialect, sent))
        if known is None:
            return None
        status, kind, content = known
        found = dialects.get(dialect).choices(body_of(dialect, kind, content))
        turn = turns.take(self._name, found[0].message) if found else None
        if turn is None:
            return known
        if turn.later:
            self._changes.edited(turn.call, turn.later)
        return (status, kind, answer_with(dialect, content, kind, turn.call, turn.answered)) if turn.answered else known

    async def asked(self, exchange: Exchange) -> bytes | None:
        """The request with what was changed; the callables see it first."""
        hook = self._of.conf.on_prompt
        dialect, sent, mine = exchange.dialect.NAME, exchange.sent, exchange.within is self._inside
        left: list[tuple[str, list[Any]]] = []
        if self._turns is not None and mine:
            left, self._turns = self._turns.open.get(self._name, []), None
        for name, messages in left:  # of a prompt that was not answered when the run was cut off
            self._changes.put(name, messages, dialect, sent)
        changed = self._changes.apply(dialect, sent) if self._changes else sent
        if hook is not None and mine and not left:
            prompt = Prompt(self._name, self._of, self._inside, lambda: messages_of(dialect, changed))
            await self._tell(hook, prompt)
            for name, new in ((COMPACTED, prompt.compacted), (PUT, prompt.added)):
                if new:
                    self._changes.put(name, new, dialect, sent)
            changed = self._changes.apply(dialect, sent) if self._changes else sent
        return None if changed is sent else changed

    def asked_sync(self, exchange: Exchange) -> bytes | None:
        return self._here_or_there(self.asked(exchange)) if self._changes or self._of.conf.on_prompt or self._turns else None

    def looks(self, within: Scope | None) -> bool:
        return self._of.conf.on_answer is not None and within is self._inside

    async def answered(self, exchange: Exchange, content: bytes) -> bytes | None:
        """The answer as the callable leaves it: the function gets the edited answer."""
        ref, hook = exchange.call, self._of.conf.on_answer
        call = ref.call if ref is not None else None
        if ref is None or call is None or hook is None or call.record.error is not None or not call.choices:
            return None
        answer = Answer(self._name, self._of, self._inside, ref, call)
        await self._tell(hook, answer)
        if answer.added:
            raise self._failure("a message can be put in behind an answer of a function by on_prompt, at the next prompt")
        if not answer.edits:
            return None
        try:
            return answer_with(exchange.dialect.NAME, content, exchange.kind, call, answer.edits)
        except InvalidInput as error:
            raise self._failure(str(error)) from None

    def answered_sync(self, exchange: Exchange, content: bytes) -> bytes | None:
        return self._here_or_there(self.answered(exchange, content))

    def _here_or_there(self, what: Coroutine[Any, Any, bytes | None]) -> bytes | None:
        """Awaits in the event loop, from a thread. Where the client blocks the loop itself, the callable may not be async."""
        if threading.get_ident() != self._thread:
            return asyncio.run_coroutine_threadsafe(what, self._loop).result()
        try:
            what.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        what.close()
        raise self._failure("the client blocks the event loop, so an async callable can't be awaited; use an async client")

    async def _tell(self, hook: Callable[[Any], Any], handle: Any) -> None:
        try:
            await told([hook], handle)
        except Stop as stop:
            self._stop = Outcome(finished=True, status="cancelled", error=stop.reason)
            raise
        except RunError as error:
            raise self._failure(str(error)) from None

    def _failure(self, why: str) -> Stop:
        """Ends the function: its client would take an exception for a broken connection, and ask again."""
        self._stop = Outcome(finished=True, status="failed", error=why)
        return Stop(why)

    @property
    def last_call(self) -> CallRef | None:
        """The call that an edit between steps is of."""
        return self._inside.last_call

    def edited(self, edit: Edit) -> None:
        """An edit between steps: the function's later requests have the edited answer. Raises InvalidInput."""
        ref = self._inside.last_call
        if ref is None or ref.id != edit.base or ref.call is None:
            raise InvalidInput("between the steps of a function, its last answer can be edited")
        self._changes.edited(ref.call, [edit])

    async def admit(self, within: Scope | None) -> None:
        """Waits for the step in which the model may be asked. Calls inside of an action or of another agent don't wait."""
        if isinstance(within, Helper):
            within.begin()
        if within is not self._inside:
            return
        name = _acting.get() or self.acts
        if self._permits and name == self._name:
            self._permits -= 1
            return
        self._permits = 0
        held = self._loop.create_future()
        self._held.append((name, held))
        self._change.set()
        await held

    def admit_sync(self, within: Scope | None) -> None:
        """The same in a thread; a client that blocks the event loop itself can't be held."""
        if isinstance(within, Helper):
            within.begin()
        elif within is self._inside and threading.get_ident() != self._thread:
            asyncio.run_coroutine_threadsafe(self.admit(within), self._loop).result()

    def _loud(self) -> None:
        self._replies = None
        self._inside.recorder.silent = False
