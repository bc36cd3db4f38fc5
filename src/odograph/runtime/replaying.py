"""`replay`: an agent's code run again on recorded answers, without a model. Records nothing."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import msgspec

from .. import api
from ..api import Store
from ..capture.directing import director
from ..capture.scope import Scope
from ..codec import encode, loads
from ..errors import InvalidInput, NotFound, RunError
from ..trajectory import Trajectory, before_step
from .agent import Agent
from .answers import Unchecked
from .past import at_hand, joined, memory_of
from .recorded import Divergence, Replies, Turns, by_call, difference, finished
from .response import TaskResponse
from .runner import Runners, task_of
from .session import Session
from .task import Outcome, Task, TaskConfig, Who


class Replay(msgspec.Struct, frozen=True):
    """What running code again on a trajectory's answers came to. `same`: it asked the same all along, and answered the same.
    `msg`: why it failed, or what of it could not be compared."""

    same: bool
    #: How many recorded calls were asked again, of how many.
    calls: int
    of: int
    divergence: Divergence | None
    status: str
    answer: Any
    recorded_answer: Any
    msg: str | None = None


class _Director:
    """Answers from the record, and holds nothing back."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def reply(self, dialect: str, sent: bytes, streams: bool) -> tuple[int, str, bytes] | None:
        return self._replies.reply(dialect, sent, streams)

    async def admit(self, within: Scope | None) -> None:
        return None

    def admit_sync(self, within: Scope | None) -> None:
        return None

    async def asked(self, exchange: Any) -> bytes | None:
        return None

    def asked_sync(self, exchange: Any) -> bytes | None:
        return None

    def looks(self, within: Scope | None) -> bool:
        return False

    async def answered(self, exchange: Any, content: bytes) -> bytes | None:
        return None

    def answered_sync(self, exchange: Any, content: bytes) -> bytes | None:
        return None


async def _to_end(task: Task, store: Store, replies: Replies) -> TaskResponse:
    """All steps. One that fails is taken again, as it was when it was recorded."""
    while True:
        before = replies.used
        try:
            finished, _, response = await Runners.step(task, store=store)
            if finished:
                return response
        except RunError as error:
            session: Session | None = task._session
            if session is None:
                raise
            if replies.divergence is not None or not replies.left or replies.used == before:
                return (await session.finish(Outcome(finished=True, status="failed", error=str(error))))[2]


async def replay(
    of: str | Trajectory, agent: Who | None = None, *, tools: Literal["recorded", "live"] = "recorded", store: Store | None = None
) -> Replay:
    """Runs an agent's code on the recorded answers of a trajectory, without a model, and finds the first different request.

    `agent`: the agent to run (default: rebuilt from the record). The tools of an `Agent` answer as recorded; `tools="live"` runs
    the tools. A function runs with its own tools. Nothing is recorded. Raises NotFound, InvalidInput.
    """
    if tools not in ("recorded", "live"):
        raise TypeError(f"tools is 'recorded' or 'live', not {tools!r}")
    t = (store or api.default_store()).trajectory(of) if isinstance(of, str) else of
    about = t.metadata.get("runtime")
    settings = about.get("conf") if isinstance(about, dict) else None
    conf = TaskConfig(max_steps=settings.get("max_steps") if isinstance(settings, dict) else None)
    task = task_of(t, agent, conf, f"trajectory {t.id[-8:]}")
    is_fork = t.start is not None and t.start.fork is not None
    if is_fork and not isinstance(task.agent, Agent):  # code runs from its beginning
        t = joined(store or api.default_store(), t)
    elif t.start is not None and t.start.fork is not None:  # its own steps alone, from where it began
        first = next(iter(t.llm_calls), None)
        if agent is not None:  # the recorded one is who had taken over
            with contextlib.suppress(NotFound, InvalidInput):  # a parent that is not there: the agent is the one that was named
                parent = (store or api.default_store()).trajectory(t.start.fork.trajectory)
                task.agent = at_hand(task.agent, before_step(parent, t.start.fork.step or 0))
        task._past, task._fork = before_step(t, 0), t.start.fork
        task._request = (first.record.dialect, first.request) if first is not None else None
    elif task.session is not None:
        task.session, task._remembered = None, memory_of(t)
    task._turns = Turns(t)
    if tools == "recorded":
        task._results = by_call(finished(t, t.actions))
    patient = getattr(task.agent, "max_retries", None)
    if patient:
        task.agent = task.agent.replace(max_retries=0)  # type: ignore[union-attr]
    replies = Replies(t)
    token = director.set(_Director(replies))
    try:
        with api.open("memory:") as nowhere:
            response = await _to_end(task, nowhere, replies)
    finally:
        director.reset(token)
    divergence = replies.divergence or replies.unfinished()
    answers = [loads(encode(answer)) for answer in (response.answer, t.answer)]
    kind = getattr(task.agent, "output_type", None)
    untyped = kind.why if isinstance(kind, Unchecked) else None  # plain values came of the answers
    same = divergence is None and (replies.cut_off or untyped is not None or difference(*answers) is None)
    msg = response.msg or (f"the answers are not compared: {untyped}" if untyped is not None else None)
    return Replay(same, replies.used, len(replies.calls), divergence, response.status, response.answer, t.answer, msg)
