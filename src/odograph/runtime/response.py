"""What a run gives back: `TaskResponse`. Reads what was recorded; knows nothing of how it is run."""

from __future__ import annotations

from typing import Any, Protocol, TypedDict, Unpack, overload

from ..api import Store, open
from ..calls import Call
from ..capture.edits import EditArgs, Editor, Runs
from ..capture.recorder import CallRef
from ..capture.run import Run
from ..capture.scope import Scope, Step
from ..errors import InvalidInput
from ..store.backend import Place
from ..trajectory import Trajectory, own_steps
from ..types import RewardSource, Span
from .items import Items


class Live(Protocol):
    """What a response reads of a run that is under way in this process."""

    run: Run
    #: Whether the trajectory had steps before: they are found in the store.
    continued: bool

    over: Any

    def edit(self, call: CallRef | Call | None, result: Runs | None, about: EditArgs) -> Editor | str:
        """Edits an answer between steps."""
        ...

    @property
    def items(self) -> Items | None:
        """The items so far; None when it is over: then the store is asked."""
        ...

    @property
    def steps(self) -> list[Step]:
        """The steps that were taken here, in order."""
        ...


class RewardArgs(TypedDict, total=False):
    """The keywords of `response.reward`, which are those of `step.reward`."""

    weight: float
    source: RewardSource
    author: str | None
    rationale: str | None
    version: str | None
    target: Any
    span: Span | tuple[int, int] | None
    supersedes: str | None
    extra: dict[str, Any] | None


class TaskResponse:
    """The result of a task so far: `answer`, `status` and `trajectory`, and the method to add rewards.

    `status` is completed, failed, timeout, cancelled, truncated, or running between steps. `msg` gives the reason for a status
    other than completed. `trajectory_id` is the trajectory's id in the store.
    """

    def __init__(
        self,
        store: Store,
        task_id: str,
        trajectory_id: str | None,
        status: str,
        *,
        answer: Any = None,
        msg: str | None = None,
        time_cost: float = 0.0,
        carry_context: bool = True,
        steps: int | None = None,
        step: int | None = None,
        session: Live | None = None,
    ) -> None:
        self._store: Store | Place = store
        self.id = task_id
        self.trajectory_id = trajectory_id
        self.status = status
        self.answer = answer
        self.msg = msg
        #: Seconds from the start of the run.
        self.time_cost = time_cost
        self._carry_context = carry_context
        self._steps = steps
        self._step = step
        self._session = session

    def __repr__(self) -> str:
        return f"<TaskResponse {self.id} {self.status}: {str(self.answer if self.answer is not None else self.msg)[:60]!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None, "_store": self.store.backend.place}

    @property
    def store(self) -> Store:
        """The store that the run is recorded in."""
        if isinstance(self._store, Place):
            self._store = open(self._store)  # a copy, perhaps in another process
        return self._store

    @property
    def success(self) -> bool:
        return self.status == "completed"

    @property
    def recorded(self) -> Trajectory:
        """The trajectory as the store has it. Raises NotFound if nothing was recorded."""
        return self.store.trajectory(self.trajectory_id or "none")

    @property
    def trajectory(self) -> list[dict[str, Any]]:
        """JSON-ready items, one per step so far, of this agent and of the agents that this agent called: `{"id", "meta",
        "state", "action", "reward"}`. The list is built on each access, with the current rewards: keep the list in a
        variable.
        """
        return self.items()

    def items(self, agent: str | None = None) -> list[dict[str, Any]]:
        """Returns the trajectory's items, or the items of one agent."""
        if self.trajectory_id is None:
            return []
        live = self._session.items if self._session is not None else None
        if live is None:
            live = Items(self.id)
            found = self.recorded
            for record in found.complete_records():
                live.add(record)
        return live.items(messages=self._carry_context, limit=self._steps, agent=agent)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of all calls, as the backends report them: prompt_tokens, completion_tokens, total_tokens."""
        calls = self.recorded.llm_calls if self.trajectory_id else []
        prompt = sum(c.prompt_tokens or 0 for c in calls)
        completion = sum(c.completion_tokens or 0 for c in calls)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def reward(
        self, value: float | None, name: str = "reward", *, step: int | str | None = None, **about: Unpack[RewardArgs]
    ) -> str:
        """Records a reward at once, during the run or after the end. Returns the record's id.

        `step`: the number of a step of the task (from 0; -1 is the last so far), or "trajectory" for the whole trajectory.
        Default: the last step if the task is stepped, else the whole trajectory. `about`: `source` (environment, function, judge
        or human), `weight`, `author`, `rationale`, `version`, as for `step.reward`.
        """
        if self.trajectory_id is None:
            raise InvalidInput(f"task {self.id!r} has no trajectory to reward: {self.msg}")
        wanted = self._step if step is None else step
        return self._scope(wanted).reward(value, name, **about)

    @overload
    def edit(self, call: CallRef | Call | None = None, result: None = None, **about: Unpack[EditArgs]) -> Editor: ...
    @overload
    def edit(self, call: CallRef | Call | None = None, *, result: Runs, **about: Unpack[EditArgs]) -> str: ...
    @overload
    def edit(self, call: CallRef | Call | None, result: Runs, **about: Unpack[EditArgs]) -> str: ...
    def edit(self, call: CallRef | Call | None = None, result: Runs | None = None, **about: Unpack[EditArgs]) -> Editor | str:
        """Edits an answer, with the words of `step.edit`: `response.edit(on="text").replace(0, 3, "new", reason="why")`.

        `call`: the call whose answer it is (default: the last). Between steps, the edit takes effect at the next
        `Runners.step`: the model sees the edited answer. After the end, the edit is recorded. Raises InvalidInput for an edit
        that is rejected, or that can't take effect on what the model is sent.
        """
        session = self._session
        if session is not None and session.over is None:
            return session.edit(call, result, about)
        if call is None:
            calls = [c for c in self.recorded.llm_calls if c.purpose == "act"]
            if not calls:
                raise InvalidInput(f"task {self.id!r} has no answer to edit")
            call = calls[-1]
        return self.store.append(str(self.trajectory_id)).edit(call, result, **about)

    def _scope(self, step: int | str | None) -> Scope:
        session = self._session
        run: Run = session.run if session is not None else self.store.append(str(self.trajectory_id))
        if step is None or step == "trajectory":
            return run
        places: list[Scope] = list(session.steps) if session is not None else []
        if session is None or session.continued:
            found = self.recorded
            places = [run.at(s) for s in own_steps(found)]
        if not isinstance(step, int) or not -len(places) <= step < len(places):
            there = f"there are 0 to {len(places) - 1}" if places else "there are none yet"
            raise InvalidInput(f"no step {step!r} of task {self.id!r}; {there}")
        return places[step]
