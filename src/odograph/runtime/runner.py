"""`Runners`: runs tasks to their end, step by step, many at once; resumes and forks what was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache
from typing import Any, Literal, TypedDict, Unpack, overload

import msgspec

from ..api import Store, default_store
from ..bulk import waited
from ..errors import InvalidInput
from ..log import logger
from ..trajectory import Trajectory, before_step, own_steps
from ..types import Fork
from . import batch, live
from . import task as tasks
from .agent import AgentSettings
from .events import Event, Following, listen
from .past import at_hand, rebuilt, request_at
from .response import TaskResponse
from .rewarding import RewardFn
from .session import Stepped
from .task import Task, TaskArgs, TaskConfig, Who


class BatchArgs(TypedDict, total=False):
    """The keywords of `run_task`, beside `attempts`."""

    store: Store | None
    max_concurrency: int
    resume: bool
    progress: bool | Callable[[int, int], None] | None
    runner: Literal["local", "ray"]
    reward: RewardFn | None


class Runners:
    """Runs tasks. Everything is recorded as it happens, in `store=` (default: the task's own store, else `odograph.open()`'s)."""

    @overload
    @staticmethod
    async def run_task(  # type: ignore[overload-overlap]  # a number that is not written out is rarely 1
        task: Task | Iterable[Task], *, attempts: Literal[1] = 1, **options: Unpack[BatchArgs]
    ) -> dict[str, TaskResponse]: ...
    @overload
    @staticmethod
    async def run_task(
        task: Task | Iterable[Task], *, attempts: int, **options: Unpack[BatchArgs]
    ) -> dict[str, list[TaskResponse]]: ...
    @staticmethod
    async def run_task(
        task: Task | Iterable[Task],
        *,
        store: Store | None = None,
        max_concurrency: int = 64,
        attempts: int = 1,
        resume: bool = False,
        progress: bool | Callable[[int, int], None] | None = None,
        runner: Literal["local", "ray"] = "local",
        reward: RewardFn | None = None,
    ) -> dict[str, Any]:
        """Runs one task or many tasks to the end: `{task.id: TaskResponse}`, with `attempts` above 1 `{task.id:
        [TaskResponse]}`. A type checker takes `attempts` that it can't read for more than 1.

        The `attempts` of a task form a group. At most `max_concurrency` attempts run at once. A failed attempt costs no other
        attempt, and its response has the reason. `resume=True` skips finished attempts (completed or truncated, by task id),
        continues interrupted attempts, and retries failed attempts. `progress`: a bar (default: on a terminal), or a function
        (done, total). `reward`: a function of the trajectory, whose value is recorded when an attempt is over. `runner="ray"`:
        run on a Ray cluster whose machines share the store's folder. Raises InvalidInput before
        anything runs.
        """
        tasks = [task] if isinstance(task, Task) else list(task)
        where = store or next((t._store for t in tasks if t._store is not None), None) or _default()
        return await batch.run(tasks, where, batch.Plan(max_concurrency, attempts, resume, progress, runner, reward))

    @staticmethod
    async def run(
        input: Any, agent: Who, conf: TaskConfig | None = None, *, store: Store | None = None, **task: Unpack[TaskArgs]
    ) -> TaskResponse:
        """Runs one task of an input and an agent to its end: `await Runners.run("2+2?", agent)`. `task`: more of the Task."""
        made = Task(input, agent, conf, **task)
        return (await Runners.run_task(made, store=store))[made.id]

    @staticmethod
    def sync_run(
        input: Any, agent: Who, conf: TaskConfig | None = None, *, store: Store | None = None, **task: Unpack[TaskArgs]
    ) -> TaskResponse:
        """`run` for code that is not async; works in a notebook and beside a running event loop."""
        return waited(Runners.run(input, agent, conf, store=store, **task))

    @overload
    @staticmethod
    def sync_run_task(  # type: ignore[overload-overlap]  # as above
        task: Task | Iterable[Task], *, attempts: Literal[1] = 1, **options: Unpack[BatchArgs]
    ) -> dict[str, TaskResponse]: ...
    @overload
    @staticmethod
    def sync_run_task(
        task: Task | Iterable[Task], *, attempts: int, **options: Unpack[BatchArgs]
    ) -> dict[str, list[TaskResponse]]: ...
    @staticmethod
    def sync_run_task(task: Task | Iterable[Task], *, attempts: int = 1, **options: Unpack[BatchArgs]) -> dict[str, Any]:
        """`run_task` for code that is not async; works in a notebook and beside a running event loop."""
        return waited(Runners.run_task(task, attempts=attempts, **options))

    @staticmethod
    def sync_step(task: Task, *, store: Store | None = None) -> Stepped:
        """`step` for code that is not async. A task that was begun so is stepped so to its end, or with `await Runners.step`."""
        return waited(Runners.step(task, store=store))

    @staticmethod
    async def results(
        tasks: Iterable[Task],
        *,
        store: Store | None = None,
        max_concurrency: int = 64,
        attempts: int = 1,
        resume: bool = False,
        reward: RewardFn | None = None,
    ) -> AsyncIterator[TaskResponse]:
        """Runs many tasks, and yields each response as soon as its attempt ends. Options as for `run_task`. After `break`, the
        running attempts are cancelled."""
        given = list(tasks)
        where = store or next((t._store for t in given if t._store is not None), None) or _default()
        ready: asyncio.Queue[TaskResponse | None] = asyncio.Queue()
        plan = batch.Plan(max_concurrency, attempts, resume, False, "local", reward, ready.put_nowait)
        work = asyncio.create_task(batch.run(given, where, plan))
        work.add_done_callback(lambda _: ready.put_nowait(None))
        try:
            while (response := await ready.get()) is not None:
                yield response
            await work
        finally:
            await _cancelled(work)

    @staticmethod
    async def stream(task: Task, *, store: Store | None = None, text: bool = True) -> AsyncIterator[Event]:
        """Runs a task to its end, and yields what happens as it happens: steps, text, answers, tools, hand-offs, the end.

        The end has the response. `text=False` does not stream the model's answers. After `break`, the run is cancelled, and can
        be resumed.
        """
        session = live.session_of(task, store)
        following = Following()
        if session.over is None:
            listen(session.run.recorder, following.tell)
        if text:
            session.stream_text(lambda piece: following.tell(Event(kind="text", agent=session.walk.agent.name, data=piece)))
        work = asyncio.create_task(Runners.finish(task, store=store))
        work.add_done_callback(lambda _: following.tell(Event(kind="end")))
        try:
            while (event := await following.next()).kind != "end":
                yield event
            yield msgspec.structs.replace(event, data=await work)
        finally:
            await _cancelled(work)

    @staticmethod
    async def step(task: Task, *, store: Store | None = None) -> Stepped:
        """Takes one step, which is one call of the model and the tools that the model asked for: (is_finished, observation,
        response).

        `observation`: the tools' results. After the end, `step` returns the end again. Raises RunError if the model or the
        environment did not answer; the step can be retried.
        """
        return await live.session_of(task, store).step()

    @staticmethod
    async def steps(task: Task, *, store: Store | None = None) -> AsyncIterator[Stepped]:
        """Yields the steps of a task as they are taken. After `break`, the task can be stepped further, and resumed in another
        process.
        """
        finished = False
        while not finished:
            stepped = await Runners.step(task, store=store)
            finished = stepped[0]
            yield stepped

    @staticmethod
    async def finish(task: Task, *, store: Store | None = None) -> TaskResponse:
        """Runs the task to its end from the current step, as `await task` does."""
        session = live.session_of(task, store)
        return session.over[2] if session.over is not None else await session.to_end()

    @staticmethod
    async def reset(task: Task) -> None:
        """Ends the task's run (as cancelled, if the run has no end yet). The next step begins another episode."""
        session, task._session = task._session, None
        task._past = task._fork = task._request = task._messages = None
        if session is not None:
            await session.cancel("reset")
            live.forget(task, session.store)

    @staticmethod
    def resume(store: Store, id: str, agent: Who | None = None, conf: TaskConfig | None = None) -> Task:
        """Returns the task of a trajectory that has no end, at the point where the trajectory stopped. Step, run or `await` the
        task.

        `agent`: an agent with the same tools (default: rebuilt from the record, with functions imported). Resume repeats no
        answered model call and no tool whose result is recorded. Work that was in progress is repeated. Raises NotFound,
        InvalidInput.
        """
        past = store.trajectory(id)
        here = f"trajectory {past.id[-8:]}"
        if past.end is not None and past.status != "cancelled":
            raise InvalidInput(
                f"{here} is {past.status}; there is nothing to resume: fork the trajectory to continue from one of its steps"
            )
        if past.status == "running" and store.is_written_elsewhere(past.id):
            raise InvalidInput(f"{here} is being run by another process, or through another Store of this one")
        task = task_of(past, agent, conf, here)
        about = past.metadata.get("runtime")
        task.id = about.get("task_id", task.id) if isinstance(about, dict) else task.id
        running = live.of(store, task.id)
        if running is not None and running.over is None:
            if running.run.id != past.id:
                raise InvalidInput(f"task {task.id!r} is being run here, as trajectory {running.run.id[-8:]}")
            running.replaced = True
        task._past, task._store = past, store
        return task

    @staticmethod
    def fork(
        of: str | Trajectory,
        at_step: int | None = None,
        *,
        agent: Who | None = None,
        model: str | None = None,
        messages: list[dict[str, Any]] | None = None,
        reason: str | None = None,
        conf: TaskConfig | None = None,
        store: Store | None = None,
        **changes: Unpack[AgentSettings],
    ) -> Task:
        """Returns a task that continues from a step of a trajectory as a new trajectory. Step, run or `await` the task.

        Step `at_step` (from 0, in a fork too; default: the last) is taken again: by `agent` (default: the recorded one), with
        another `model` or other settings of an Agent (`system_prompt=`, `params=`, ...), or on `messages`, chat-shaped, in place
        of the messages that the model was sent there. After a hand-off, the agent is the one that had taken over. Raises
        NotFound, InvalidInput.
        """
        where = store or _default()
        whole = where.trajectory(of) if isinstance(of, str) else of
        here = f"trajectory {whole.id[-8:]}"
        steps = own_steps(whole)
        step = max(0, len(steps) - 1) if at_step is None else at_step
        if isinstance(step, bool) or not isinstance(step, int):
            raise TypeError(f"at_step is the number of a step, not {step!r}")
        if step == len(steps) > 0 and whole.status == "completed" and messages is None:
            raise InvalidInput(
                f"{here} is over with step {step - 1}, so there is no step {step} to take again; there are 0 to {step - 1},"
                " or give messages= to go on with"
            )
        past = before_step(whole, step)
        task = task_of(whole, agent, conf, here)
        task.agent = at_hand(task.agent, past)
        if model is not None or changes:
            replace = getattr(task.agent, "replace", None)
            if replace is None:
                raise InvalidInput(
                    f"an agent of type {type(task.agent).__name__} has no model and settings to change; give a changed agent"
                )
            settings: dict[str, Any] = {**changes} if model is None else {**changes, "model": model}
            task.agent = replace(**settings)  # a stranger's agent is told what changes, and nothing else
        if messages is not None:
            task._messages = list(messages)
        else:
            task._request = request_at(whole, step)
        task._past, task._store = past, where
        task._fork = Fork(trajectory=whole.id, step=step, reason=reason)
        task.group = task.group if task.group is not None else whole.group
        return task


def task_of(past: Trajectory, agent: Who | None, conf: TaskConfig | None, here: str) -> Task:
    about = past.metadata.get("runtime")
    about = about if isinstance(about, dict) else {}
    agent = agent if agent is not None else rebuilt(about.get("agent"), here)
    settings = about.get("conf")
    given = conf or TaskConfig(**settings) if isinstance(settings, dict) else conf
    seed = past.start.seed if past.start else None
    rest = {k: v for k, v in past.metadata.items() if k != "runtime"}
    task = Task(past.task, agent, given, name=about.get("task_name"), group=past.group, tags=past.tags, metadata=rest, seed=seed)
    task.session = about.get("session")
    return task


@cache
def _default() -> Store:
    """The store that `odograph.open()` names; who runs something without naming a store is told once where it is."""
    store = default_store()
    logger.info("recording into %s; `odograph ls` lists it", store.backend.place.remote or store.backend.place.folder)
    return store


async def _cancelled(work: asyncio.Task[Any]) -> None:
    """Work that nobody waits for any more is over when this returns."""
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
    if not work.cancelled():
        work.exception()  # seen


tasks.finish = Runners.finish
