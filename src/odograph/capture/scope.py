"""What can be recorded in a run, a step or an action.

Nothing here raises for content or for a fault of the disk; wrong use (a reward that is no number, a name that is no string)
raises TypeError.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Any, Unpack, cast, overload

from ..calls import Call
from ..codec import plain, snapshot
from ..trajectory import stated_success
from ..types import LogprobsOf, RewardSource, Span
from . import entering, fields
from .edits import Base, Channel, EditArgs, Editor, Runs, Unit, check_edit, edit_fields
from .entering import Entered
from .faults import fault
from .recorder import AnyCall, CallRef, Recorder
from .values import id_of, named, number

#: Opens a trajectory for a call that was made outside of any run; the store's facade sets it.
outside: Callable[[dict[str, Any]], Scope] | None = None


def record_call(made: dict[str, Any], within: Scope | None = None) -> tuple[Scope, CallRef] | None:
    """Writes an llm_call into a scope (default: the current one); outside of any scope, as a trajectory of its own.

    Returns the scope and the call; None if the call could not be recorded. Never raises into the agent.
    """
    place = within or here()
    try:
        if place is not None:
            return place, place.record_call(made)
        if outside is not None:
            place = outside(made)
            return place, place.record_call(made)
    except Exception as error:
        fault(error)
    return None


class Scope(Entered):
    """The parent of records: a run, a step, an action, an agent. Enter a scope by `with` or `async with`."""

    #: What calls that pass a wrapped client here are for, where that is not to act.
    purpose: str | None = None
    #: The last call that was recorded here.
    last_call: CallRef | None = None

    def __init__(self, recorder: Recorder, id: str | None, agent: str | None, step: int | None) -> None:
        self._recorder = recorder
        self._id = id
        self._agent = agent
        self._step = step
        self._tokens: list[Token[Entered | None]] = []
        self._end = recorder.ends

    @property
    def trajectory(self) -> str:
        """The trajectory's id."""
        return self._recorder.id

    @property
    def recorder(self) -> Recorder:
        """The recorder that writes the scope's records."""
        return self._recorder

    @property
    def agent(self) -> str | None:
        """Who acts here; None: the trajectory's own agent."""
        return self._agent

    def _write(self, kind: str, made: dict[str, Any], id: str | None = None) -> str:
        return self._recorder.write(kind, made, self._id, self._agent, self._step, id)[0]

    # --- what happened ------------------------------------------------------------------------------------------------

    def context(
        self,
        provider: str,
        data: Any = None,
        *,
        query: Any = None,
        purpose: str | None = None,
        error: Any = None,
        started: int | None = None,
        duration: int | None = None,
    ) -> str:
        """Records a context read: the provider, the query, the data, and the purpose. Returns the record's id."""
        made = fields.context(provider, data, query, purpose, error, started, duration)
        return self._recorder.write("context", made, self._id, self._agent, self._step)[0]

    def llm_call(
        self,
        model: str | None = None,
        *,
        messages: list[Any] | None = None,
        response: Any = None,
        request: dict[str, Any] | None = None,
        tools: list[Any] | None = None,
        params: dict[str, Any] | None = None,
        system_prompt: str | None = None,
        user_prompt: str | None = None,
        prompt_token_ids: Any = None,
        token_ids: Any = None,
        logprobs: Any = None,
        thinking: str | None = None,
        reasoning: str | None = None,
        usage: Any = None,
        finish_reason: str | None = None,
        purpose: str = "act",
        dialect: str | None = None,
        policy_version: str | int | None = None,
        policy_versions: list[tuple[int, str | int]] | None = None,
        logprobs_of: LogprobsOf | None = None,
        tokenizer: str | None = None,
        adapter: str | None = None,
        inputs: list[str] | None = None,
        cost: float | None = None,
        error: Any = None,
        started: int | None = None,
        duration: int | None = None,
        first_token: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> CallRef:
        """Records one model call. Returns a reference to the call.

        The request is given as `messages` (or `system_prompt` and `user_prompt`) with `tools` and `params`, or whole as
        `request=`. The response is given as text, as a message, or as the whole body. `token_ids` and `logprobs` belong to the
        one answer; for several choices, both are a list of lists. `policy_versions`: [first token, version] pairs, if weights
        changed inside the answer; without token ids, a warning says that the pairs were left out. `logprobs_of`: "sampled" (after
        temperature and truncation) or "raw". `tokenizer` and `adapter` name the tokenizer and the adapter. `inputs` are hashes of
        images and the like. Times are nanoseconds.
        """
        asked = fields.request_of(request, model, messages, tools, params, system_prompt, user_prompt)
        made = fields.call(asked, response, model, purpose, dialect, usage)
        if prompt_token_ids is not None or token_ids is not None or logprobs is not None or logprobs_of is not None:
            fields.tokens(made, prompt_token_ids, token_ids, logprobs, policy_versions, logprobs_of)
        thought = reasoning if reasoning is not None else thinking
        fields.about(made, error, thought, finish_reason, policy_version, tokenizer, adapter, inputs, cost, metadata)
        if started is not None or duration is not None or first_token is not None:
            fields.times(made, started, duration, first_token)
        self.last_call = CallRef(*self._recorder.write("llm_call", made, self._id, self._agent, self._step))
        if policy_versions is not None and "tokens" not in made:
            fault(TypeError("policy_versions= needs token_ids=: the call was recorded without policy_versions"), fixed=True)
        return self.last_call

    def record_call(self, made: dict[str, Any]) -> CallRef:
        """Records an llm_call from the fields of its record; `wrap` uses this method."""
        if self.purpose is not None:
            made.setdefault("purpose", self.purpose)
        self.last_call = CallRef(*self._recorder.write("llm_call", made, self._id, self._agent, self._step))
        return self.last_call

    def action(
        self,
        name: str,
        arguments: Any = None,
        result: Any = None,
        *,
        ok: bool | None = None,
        error: Any = None,
        llm_call: AnyCall | None = None,
        tool_call_id: str | None = None,
        started: int | None = None,
        duration: int | None = None,
        metadata: dict[str, Any] | None = None,
        id: str | None = None,
    ) -> str:
        """Records an action: name, arguments, and result or error. An `error` means not ok. Returns the record's id."""
        call = llm_call.id if type(llm_call) is CallRef else llm_call  # our own object needs no guard
        made = fields.action(name, arguments, result, ok, error, call, tool_call_id, started, duration, metadata)
        return self._recorder.write("action", made, self._id, self._agent, self._step, id)[0]

    def reward(
        self,
        value: float | None,
        name: str = "reward",
        *,
        weight: float = 1.0,
        source: RewardSource = "environment",
        author: str | None = None,
        rationale: str | None = None,
        version: str | None = None,
        target: Any = None,
        span: Span | tuple[int, int] | None = None,
        supersedes: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> str:
        """Records a reward of this scope, or of the record `target` (with `span`: of these tokens of a call). A value of None
        means "not known".

        `source`: environment, function, judge or human. `extra`: details of how the value was computed, as JSON. Returns the
        record's id.
        """
        made = fields.reward(value, name, weight, source, target, span)
        if author is not None:
            made["author"] = author
        if rationale is not None:
            made["rationale"] = rationale
        if version is not None:
            made["version"] = version
        if supersedes is not None:
            made["supersedes"] = supersedes
        if extra is not None:
            made["extra"] = extra
        return self._recorder.write("reward", made, self._id, self._agent, self._step)[0]

    @overload
    def edit(self, call: CallRef | Call, result: None = None, **about: Unpack[EditArgs]) -> Editor: ...
    @overload
    def edit(self, call: CallRef | Call, result: Runs, **about: Unpack[EditArgs]) -> str: ...
    def edit(
        self,
        call: CallRef | Call,
        result: Runs | None = None,
        *,
        choice: int = 0,
        channel: Channel = "content",
        on: Unit | None = None,
        base_hash: str | None = None,
        reason: str | None = None,
        author: str | None = None,
        preferred: bool = False,
    ) -> Editor | str:
        """Records a change to a call's generated response that the model's API never saw.

        `on`: the unit of positions, "tokens" or "text" (default: tokens if the call has token ids, else characters of the
        channel's text: "content" or "reasoning"; "tool_calls" can be edited in tokens only). `preferred`: the result is better
        than the generated response (for `pair`).

        With `result` (a list of `Kept` and `Literal` runs), the edit is recorded at once, and the record's id is returned.
        Without `result`, an `Editor` is returned, whose methods (`delete`, `insert`, `replace`, `move`, `truncate`, `rewrite`)
        record the edit. An edit with another base than the call's (`base_hash`), or of a range outside the response, is kept as
        rejected.
        """
        if not isinstance(call, (CallRef, Call)):
            raise TypeError(f"edit() takes a call, as returned by llm_call() or t.llm_calls[i], not {type(call).__name__}")
        whole = call.call if isinstance(call, CallRef) else call
        check_edit(channel, on, result)
        base = Base(whole, choice, channel, on) if whole is not None else None
        about = {"choice": choice, "channel": channel, "base_hash": base_hash}

        def write(runs: Runs, asked: tuple[int, ...], **why: Any) -> str:
            merged: dict[str, Any] = {"reason": reason, "author": author, "preferred": preferred, **why}
            redactor = self._recorder.journal.redactor
            return self._write("edit", edit_fields(call.id, base, about, runs, asked, redactor, **merged))

        if result is None:
            return Editor(base.units if base else None, write)
        return write(result, ())

    def label(
        self,
        technique: str,
        value: Any = None,
        *,
        score: float | None = None,
        description: str | None = None,
        rationale: str | None = None,
        author: str | None = None,
        rubric_hash: str | None = None,
        target: Any = None,
        supersedes: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> str:
        """Records a judgement by a human or a judge model. `extra`: details, as JSON. Returns the record's id."""
        made = {"technique": named(technique, "technique")} | fields.known(
            value=value,
            score=number(score, "score"),
            description=description,
            rationale=rationale,
            author=author,
            rubric_hash=rubric_hash,
            target=None if target is None else id_of(target, "target"),
            supersedes=supersedes,
            extra=extra,
        )
        return self._write("label", made)

    def note(self, data: Any = None, *, name: str | None = None) -> str:
        """Records any other data. Returns the record's id."""
        return self._write("note", {"data": data} if name is None else {"data": data, "name": named(name, "name")})

    # --- what is inside ----------------------------------------------------------------------------------------------

    def step(self, observation: Any = None) -> Step:
        """Begins the agent's next step."""
        made = {} if observation is None else {"observation": observation}
        id, index = self._recorder.begin_step(made, self._id, self._agent)
        return Step(self._recorder, id, self._agent, index)

    def sub_agent(self, name: str) -> Scope:
        """Returns the scope of another agent inside this scope. Records carry the agent's name; steps count from 0."""
        recorder = self._recorder
        return Scope(recorder, self._id, None if named(name, "name") == recorder.agent else name, None)

    def inside(self, id: str) -> Scope:
        """Returns the scope inside an earlier record of this agent, for example an action."""
        return Scope(self._recorder, id, self._agent, None)

    def acting(
        self,
        name: str,
        arguments: Any = None,
        *,
        llm_call: AnyCall | None = None,
        tool_call_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Acting:
        """Records an action around the code that acts: `with step.acting("search", args) as action: action.result = ...`."""
        return Acting(self, named(name, "name"), arguments, metadata, llm_call=llm_call, tool_call_id=tool_call_id)


class Step(Scope):
    """One step: an observation, the decision, the action and the outcome."""

    @property
    def id(self) -> str:
        """The step record's id. Whoever asks for it may tell another process: the record is written by then."""
        assert self._id is not None
        self._recorder.journal.release()
        return self._id

    @property
    def index(self) -> int:
        assert self._step is not None
        return self._step


class Acting(Scope):
    """An action in progress. Records made meanwhile belong to the action. The action's own record is written at the end."""

    def __init__(self, parent: Scope, name: str, arguments: Any, metadata: dict[str, Any] | None, **answers: Any) -> None:
        id = parent._recorder.journal.new_id(time.time_ns())
        super().__init__(parent._recorder, id, parent._agent, parent._step)
        self._parent = parent
        self._name = name
        self._arguments = snapshot(arguments)
        self._answers = answers
        self._process = entering.process
        self._started = time.time_ns()
        self._clock = time.perf_counter_ns()
        self.result: Any = None
        self.ok: bool | None = None
        self.error: Any = None
        self.metadata = metadata

    @property
    def id(self) -> str:
        """The id that the action's record will have."""
        assert self._id is not None
        return self._id

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if entering.is_anothers(self._process):  # its record is that of who entered it
            return
        failure = error if error is not None else self.error
        ok = self.ok if self.ok is not None else failure is None and stated_success(plain(self.result)) is not False
        about: dict[str, Any] = {"started": self._started, "duration": time.perf_counter_ns() - self._clock, **self._answers}
        about |= {"metadata": self.metadata, "id": self._id}
        self._parent.action(self._name, self._arguments, self.result, ok=ok, error=failure, **about)


#: The run, step or action around the caller; None outside of a run. All that is entered is a `Scope`.
current: Callable[[], Scope | None] = cast(Callable[[], Scope | None], entering.current)
#: The same, for a record: what may have lost its run is warned of.
here: Callable[[], Scope | None] = cast(Callable[[], Scope | None], entering.here)
