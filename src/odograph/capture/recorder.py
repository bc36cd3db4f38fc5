"""Recording by hand: runs, steps and what happens in them. Turns calls into journal lines, in the caller's thread.

Nothing here raises for content or for a fault of the disk; wrong use (a reward that is no number, a name that is no
string) raises TypeError.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from contextvars import Token
from types import TracebackType
from typing import Any, Self

import msgspec

from .. import dialects
from ..codec import encode_record, new_id, plain, snapshot, tagged
from ..packing import Packer
from ..redact import History, Redactor, withheld
from ..store.journal import Journal
from ..trajectory import Call
from ..types import SCHEMA_VERSION, STATUSES, Fork, Kept, Literal, Span
from . import scope
from .edits import Base, Editor, Runs, call_of_lines, normalised, outside

_SOURCES = ("environment", "function", "judge", "human")
_CHANNELS = ("content", "reasoning", "tool_calls")


class Recorder:
    """Writes the records of one trajectory from this process."""

    __slots__ = ("_generation", "_history", "_packer", "agent", "id", "journal", "opened", "silent", "steps", "tap")

    def __init__(self, journal: Journal, trajectory: str, agent: str | None = None) -> None:
        self.journal = journal
        self.id = trajectory
        #: Whose records carry no name of their own.
        self.agent = agent
        #: Code is at work that was recorded before, up to where it stopped.
        self.silent = False
        #: The next step's index, per agent.
        self.steps: dict[str | None, int] = {}
        #: How many steps there are, of all agents.
        self.opened = 0
        #: Where the lines go, too, while somebody follows this trajectory.
        self.tap: list[bytes] | None = None
        self._packer: Packer | None = None
        self._generation = -1
        self._history: History | None = None

    def write(
        self, kind: str, fields: dict[str, Any], parent: str | None, agent: str | None, step: int | None, id: str | None = None
    ) -> tuple[str, bytes]:
        """One record, with the operating system when this returns: its id and the lines that were written."""
        journal = self.journal
        if self.silent:
            return id or new_id(), b""
        try:
            if journal.redactor is not None:
                fields, agent = self._redacted(journal.redactor, kind, fields, agent)
            with journal.lock:
                now = journal.now()
                id = id or journal.new_id(now)
                seq = journal.next_seq()
                record: dict[str, Any] = {"kind": kind, "id": id, "trajectory": self.id, "seq": seq, "time": now}
                if parent is not None:
                    record["parent"] = parent
                if agent is not None:
                    record["agent"] = agent
                if step is not None:
                    record["step"] = step
                if kind == "llm_call":
                    data = self._call(record, fields)
                else:
                    record |= fields
                    data = encode_record(record)
                    journal.append(data)
            if self.tap is not None:
                self.tap.append(data)
            if journal.failure is not None:
                scope.fault(journal.failure)
            return id, data
        except Exception as error:
            scope.fault(error if journal.redactor is None or isinstance(error, OSError) else withheld(error))
            return id or new_id(), b""

    def _redacted(
        self, redactor: Redactor, kind: str, fields: dict[str, Any], agent: str | None
    ) -> tuple[dict[str, Any], str | None]:
        with self.journal.lock:
            if self._history is None:
                self._history = History()
            fields, _ = redactor.fields(kind, fields, self._history)
            return fields, agent if agent is None else redactor.text(agent, Counter())

    def _call(self, record: dict[str, Any], fields: dict[str, Any]) -> bytes:
        journal = self.journal
        packer = self._packer
        if packer is None or self._generation != journal.generation:
            packer = Packer(self.id, journal.new_stream)
            self._generation = journal.generation
        self._packer = None  # until the lines are with the operating system, what they hold is not known to be there
        lines: list[bytes] = []
        record |= packer.pack((record.get("agent"), fields.get("purpose")), fields, lines)
        lines.append(encode_record(record))
        data = b"".join(lines) if len(lines) > 1 else lines[0]
        journal.append(data)
        self._packer = packer
        return data


class CallRef:
    """A call that was just recorded: what actions, edits and rewards refer to."""

    __slots__ = ("_data", "id")

    def __init__(self, id: str, data: bytes) -> None:
        self.id = id
        self._data = data

    def __repr__(self) -> str:
        return f"<call {self.id}>"

    @property
    def call(self) -> Call | None:
        """The call as it was recorded, whatever became of the agent's own objects; None where recording failed."""
        return call_of_lines(self._data) if self._data else None


AnyCall = CallRef | Call | str


def _id_of(thing: Any, what: str) -> str:
    found = thing if isinstance(thing, str) else getattr(thing, "id", None)
    if not isinstance(found, str):
        raise TypeError(f"{what} is a record, what a recording method returned, or an id; not {type(thing).__name__}")
    return found


def _name(value: Any, what: str) -> str:
    if type(value) is str or isinstance(value, str):
        return value
    raise TypeError(f"{what} is a string, not {type(value).__name__}")


def number(value: Any, what: str) -> float | dict[str, Any] | None:
    """A float, None, or the tagged form of a non-finite float. Raises TypeError for what is no number."""
    if type(value) is float and math.isfinite(value):
        return value
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
            raise TypeError(f"{what} is a number or None, not {type(value).__name__}")
    try:
        result = float(value)
    except (OverflowError, ValueError, RuntimeError) as error:
        raise TypeError(f"{what} is a number or None: {error}") from None
    return result if math.isfinite(result) else tagged("float", str(result))


def error_of(error: BaseException | Any) -> Any:
    """What is kept of an exception: its type and message; anything else as it is."""
    if not isinstance(error, BaseException):
        return error
    kind = type(error)
    try:
        message = str(error)
    except Exception:  # an exception class of the agent's own
        message = ""
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": message}


def status_of(error: BaseException) -> str:
    """The end status that an exception means."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)) or type(error).__name__ == "CancelledError":
        return "cancelled"
    return "failed"


class Scope:
    """Something that records happen inside of: a run, a step, an action, an agent. Enter it with `with` or `async with`."""

    def __init__(self, recorder: Recorder, id: str | None, agent: str | None, step: int | None) -> None:
        self._recorder = recorder
        self._id = id
        self._agent = agent
        self._step = step
        self._tokens: list[Token[Scope | None]] = []
        #: What calls that pass a wrapped client here are for, where that is not to act.
        self.purpose: str | None = None
        #: The last call that was recorded here.
        self.last_call: CallRef | None = None

    @property
    def trajectory(self) -> str:
        """The trajectory's id."""
        return self._recorder.id

    @property
    def recorder(self) -> Recorder:
        """What writes the trajectory's records from here."""
        return self._recorder

    def _write(self, kind: str, fields: dict[str, Any], id: str | None = None) -> str:
        return self._recorder.write(kind, fields, self._id, self._agent, self._step, id)[0]

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
        """What was read before deciding: from whom, what was asked, what came back, and why. Returns the record's id."""
        fields: dict[str, Any] = {"provider": _name(provider, "provider")}
        if data is not None:
            fields["data"] = data
        if query is not None:
            fields["query"] = query
        if purpose is not None:
            fields["purpose"] = purpose
        if error is not None:
            fields["error"] = error_of(error)
        if started is not None:
            fields["started"] = started
        if duration is not None:
            fields["duration"] = duration
        return self._write("context", fields)

    def llm_call(
        self,
        *,
        model: str | None = None,
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
        logprobs_of: str | None = None,
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
        """One call of a model.

        Give the request as `messages` (or `system_prompt` and `user_prompt`) with `tools` and `params`, or whole as
        `request=`; the response as text, as a message, or as the whole body. `token_ids` and `logprobs`: of the one
        answer, or a list of lists, one per choice; `policy_versions`: [from this token on, version] where weights changed inside
        of it; `logprobs_of`: "sampled" (after temperature and truncation) or "raw"; `tokenizer` and `adapter` name what was at
        work, `inputs` are hashes of images and the like. Times are nanoseconds.
        """
        if request is None:
            request = {}
            if model is not None:
                request["model"] = model
            if messages is None and (system_prompt is not None or user_prompt is not None):
                given = (("system", system_prompt), ("user", user_prompt))
                messages = [{"role": role, "content": text} for role, text in given if text is not None]
            if messages is not None:
                request["messages"] = messages if type(messages) is list else list(messages)
            if tools is not None:
                request["tools"] = tools
            if params:
                request.update(params)
        elif messages is not None or tools is not None or params is not None or system_prompt is not None:
            raise TypeError("give the request whole (request=) or in parts (messages=, tools=, params=), not both")
        response = plain(response)
        fields: dict[str, Any] = {"request": request}
        if response is not None:
            fields["response"] = response
        if purpose != "act":
            fields["purpose"] = _name(purpose, "purpose")
        if model is None:
            found = request.get("model")
            model = found if isinstance(found, str) else None
        if model is not None:
            fields["model"] = _name(model, "model")
        stated = usage = plain(usage)
        if stated is None and type(response) is dict:
            stated = response.get("usage")
        if type(stated) is dict:
            counts = dialects.get(dialect).usage(stated)
            if counts.prompt is not None:
                fields["prompt_tokens"] = counts.prompt
            if counts.completion is not None:
                fields["completion_tokens"] = counts.completion
        reasoning = reasoning if reasoning is not None else thinking
        if prompt_token_ids is not None:
            fields["prompt_token_ids"] = _list(prompt_token_ids)
        if token_ids is not None or logprobs is not None:
            fields["tokens"] = _tokens(_list(token_ids), _list(logprobs))
        if error is not None:
            fields["error"] = error_of(error)
        if usage is not None:
            fields["usage"] = usage
        if reasoning is not None:
            fields["reasoning"] = reasoning
        if finish_reason is not None:
            fields["finish_reason"] = finish_reason
        if dialect is not None:
            fields["dialect"] = dialect
        if policy_version is not None:
            fields["policy_version"] = policy_version
        if policy_versions is not None and "tokens" in fields:
            fields["tokens"][0]["versions"] = [list(v) for v in policy_versions]
        if logprobs_of is not None:
            if logprobs_of not in ("sampled", "raw", "unknown"):
                raise TypeError(f"logprobs_of is sampled, raw or unknown, not {logprobs_of!r}")
            fields["logprobs_of"] = logprobs_of
        if tokenizer is not None:
            fields["tokenizer"] = tokenizer
        if adapter is not None:
            fields["adapter"] = adapter
        if inputs:
            fields["inputs"] = list(inputs)
        if cost is not None:
            fields["cost"] = cost
        if started is not None:
            fields["started"] = started
        if duration is not None:
            fields["duration"] = duration
        if first_token is not None:
            fields["first_token"] = first_token
        if metadata is not None:
            fields["extra"] = metadata
        self.last_call = CallRef(*self._recorder.write("llm_call", fields, self._id, self._agent, self._step))
        return self.last_call

    def record_call(self, fields: dict[str, Any]) -> CallRef:
        """An llm_call given as fields of its record: the door of `wrap`."""
        if self.purpose is not None:
            fields.setdefault("purpose", self.purpose)
        self.last_call = CallRef(*self._recorder.write("llm_call", fields, self._id, self._agent, self._step))
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
        """What was done, with which arguments, and what came of it. An `error` means not ok. Returns the record's id."""
        fields: dict[str, Any] = {"name": _name(name, "name")}
        if arguments is not None:
            fields["arguments"] = arguments
        if result is not None:
            fields["result"] = result
        if error is not None:
            fields["error"] = error_of(error)
            ok = False if ok is None else ok
        if ok is not None:
            fields["ok"] = bool(ok)
        if llm_call is not None:
            fields["llm_call"] = _id_of(llm_call, "llm_call")
        if tool_call_id is not None:
            fields["tool_call_id"] = tool_call_id
        if started is not None:
            fields["started"] = started
        if duration is not None:
            fields["duration"] = duration
        if metadata is not None:
            fields["extra"] = metadata
        return self._write("action", fields, id)

    def reward(
        self,
        value: float | None,
        name: str = "reward",
        *,
        weight: float = 1.0,
        source: str = "environment",
        author: str | None = None,
        rationale: str | None = None,
        version: str | None = None,
        target: Any = None,
        span: Span | tuple[int, int] | None = None,
        supersedes: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> str:
        """What was earned here, or by the record `target` (with `span`: by those tokens of a call). None: not known.

        `source`: environment, function, judge or human. `extra`: how it came about, as JSON. Returns the record's id.
        """
        if source not in _SOURCES:
            raise TypeError(f"source is one of {', '.join(_SOURCES)}, not {source!r}")
        fields: dict[str, Any] = {"name": _name(name, "name")}
        counted = number(value, "a reward")
        if counted is not None:
            fields["value"] = counted
        if source != "environment":
            fields["source"] = source
        if weight != 1.0:
            checked = number(weight, "weight")
            if not isinstance(checked, float):
                raise TypeError(f"weight is a finite number, not {weight!r}")
            fields["weight"] = checked
        if span is not None:
            if target is None:
                raise TypeError("a span needs target=, the call whose tokens it counts")
            fields["span"] = {"start": span[0], "stop": span[1]} if isinstance(span, tuple) else msgspec.to_builtins(span)
        if target is not None:
            fields["target"] = _id_of(target, "target")
        if author is not None:
            fields["author"] = author
        if rationale is not None:
            fields["rationale"] = rationale
        if version is not None:
            fields["version"] = version
        if supersedes is not None:
            fields["supersedes"] = supersedes
        if extra is not None:
            fields["extra"] = extra
        return self._write("reward", fields)

    def edit(
        self,
        call: CallRef | Call,
        result: Runs | None = None,
        *,
        choice: int = 0,
        channel: str = "content",
        on: str | None = None,
        base_hash: str | None = None,
        reason: str | None = None,
        author: str | None = None,
        preferred: bool = False,
    ) -> Any:
        """A change to what a call generated that the model's API never saw.

        `on`: "tokens" or "text", what positions count: by default tokens where the call has their ids, else characters of the
        channel's text ("content" or "reasoning"; of "tool_calls" tokens alone can be edited). `preferred`: the result is better
        than what was generated (for `pair`).

        With `result` (a list of `Kept` and `Literal` runs) it is recorded at once and its record's id comes back; without,
        an `Editor` comes back, whose words (`delete`, `insert`, `replace`, `move`, `truncate`, `rewrite`) record it.
        An edit of another base than the call's (`base_hash`), or of a range outside of it, is kept as rejected.
        """
        if not isinstance(call, (CallRef, Call)):
            raise TypeError(f"an edit is of a call: what llm_call() returned, or t.llm_calls[i]; not {type(call).__name__}")
        whole = call.call if isinstance(call, CallRef) else call
        if on not in (None, "tokens", "text"):
            raise TypeError(f"on is 'tokens' or 'text', not {on!r}")
        if channel not in _CHANNELS:
            raise TypeError(f"channel is one of {', '.join(_CHANNELS)}, not {channel!r}")
        base = Base(whole, choice, channel, on) if whole is not None else None
        about = {"choice": choice, "channel": channel, "base_hash": base_hash}
        if result is not None:
            if not all(isinstance(run, (Kept, Literal)) for run in result):
                raise TypeError("result is a list of Kept and Literal runs")
            why: dict[str, Any] = {"reason": reason, "author": author, "preferred": preferred}
            return self._edit(call.id, base, about, result, (), **why)

        def write(runs: Runs, asked: tuple[int, ...], **why: Any) -> str:
            merged: dict[str, Any] = {"reason": reason, "author": author, "preferred": preferred, **why}
            return self._edit(call.id, base, about, runs, asked, **merged)

        return Editor(base.length if base else 0, write)

    def _edit(
        self,
        call: str,
        base: Base | None,
        about: dict[str, Any],
        runs: Runs,
        asked: tuple[int, ...],
        *,
        reason: str | None,
        author: str | None,
        preferred: bool,
    ) -> str:
        rejected: str | None = None
        fields: dict[str, Any] = {"base": call, "result": msgspec.to_builtins(normalised(runs))}
        if about["choice"]:
            fields["choice"] = about["choice"]
        if about["channel"] != "content":
            fields["channel"] = about["channel"]
        if base is None or base.units is None:
            rejected = base.nothing if base is not None else "the call was not recorded"
        else:
            fields["base_hash"] = base.hash
            fields["unit"] = base.unit
            bad = [i for i in asked if not 0 <= i <= base.length]
            if about["base_hash"] not in (None, base.hash):
                fields["base_hash"] = about["base_hash"]
                rejected = f"base hash {about['base_hash']} was expected to be {base.hash}"
            elif bad or (len(asked) > 1 and asked[0] > asked[1]):
                rejected = f"range {list(asked)} of a base of {base.length} {base.unit}s"
            else:
                rejected = outside(runs, base.length)
        redactor = self._recorder.journal.redactor
        if redactor is not None and base is not None and _tells(redactor, base, runs):
            fields["result"], rejected = [], "it is of, or makes, what is redacted"
        for name, value in (("reason", reason), ("author", author), ("rejected", rejected)):
            if value is not None:
                fields[name] = value
        if preferred:
            fields["preferred"] = True
        return self._write("edit", fields)

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
    ) -> str:
        """A judgement, by a human or a judge model. Returns the record's id."""
        fields: dict[str, Any] = {"technique": _name(technique, "technique")}
        for name, given in (
            ("value", value),
            ("score", number(score, "score")),
            ("description", description),
            ("rationale", rationale),
            ("author", author),
            ("rubric_hash", rubric_hash),
            ("target", None if target is None else _id_of(target, "target")),
            ("supersedes", supersedes),
        ):
            if given is not None:
                fields[name] = given
        return self._write("label", fields)

    def note(self, data: Any = None, *, name: str | None = None) -> str:
        """Anything else worth keeping. Returns the record's id."""
        return self._write("note", {"data": data} if name is None else {"data": data, "name": _name(name, "name")})

    # --- what is inside ----------------------------------------------------------------------------------------------

    def step(self, observation: Any = None) -> Step:
        """Begins the agent's next step."""
        recorder = self._recorder
        with recorder.journal.lock:
            index = recorder.steps.get(self._agent, 0)
            recorder.steps[self._agent] = index + 1
            recorder.opened += 1
        fields = {} if observation is None else {"observation": observation}
        id, _ = recorder.write("step", fields, self._id, self._agent, index)
        return Step(self._recorder, id, self._agent, index)

    def sub_agent(self, name: str) -> Scope:
        """Another agent at work inside of this: its records carry its name, and its steps count from 0."""
        recorder = self._recorder
        return Scope(recorder, self._id, None if _name(name, "name") == recorder.agent else name, None)

    def inside(self, id: str) -> Scope:
        """The inside of a record of this agent, of an action say, that was recorded before."""
        return Scope(self._recorder, id, self._agent, None)

    def acting(self, name: str, arguments: Any = None, **about: Any) -> Acting:
        """An action around the code that does it: `with step.acting("search", args) as action: action.result = ...`."""
        return Acting(self, _name(name, "name"), arguments, about)

    # --- being the current scope -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._tokens.append(scope.enter(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._tokens:
            scope.leave(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)


class Step(Scope):
    """One step: one observation, the decision on it, the action and its outcome."""

    @property
    def id(self) -> str:
        """The step record's id."""
        assert self._id is not None
        return self._id

    @property
    def index(self) -> int:
        assert self._step is not None
        return self._step


class LoneCall(Scope):
    """The step of a trajectory that one call outside of any run is; a retry of the call ends it again."""

    def __init__(self, run: Run) -> None:
        step = run.step()
        super().__init__(step._recorder, step._id, None, step._step)
        self._run = run

    def record_call(self, fields: dict[str, Any]) -> CallRef:
        made = super().record_call(fields)
        self._run.finish(status="failed" if "error" in fields else "completed", error=fields.get("error"))
        return made


class Acting(Scope):
    """An action that is being done: what is recorded meanwhile happens inside of it. Its record is written at the end."""

    def __init__(self, parent: Scope, name: str, arguments: Any, about: dict[str, Any]) -> None:
        id = parent._recorder.journal.new_id(time.time_ns())
        super().__init__(parent._recorder, id, parent._agent, parent._step)
        self._parent = parent
        self._name = name
        self._arguments = snapshot(arguments)
        self._about = about
        self._started = time.time_ns()
        self._clock = time.perf_counter_ns()
        self.result: Any = None
        self.ok: bool | None = None
        self.error: Any = None
        self.metadata: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The id that the action's record will have."""
        assert self._id is not None
        return self._id

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        failure = error if error is not None else self.error
        ok = self.ok if self.ok is not None else failure is None
        timing: dict[str, Any] = {"started": self._started, "duration": time.perf_counter_ns() - self._clock}
        about = self._about if self.metadata is None else {"metadata": self.metadata, **self._about}
        self._parent.action(self._name, self._arguments, self.result, ok=ok, error=failure, id=self._id, **timing, **about)


class Run(Scope):
    """One trajectory being recorded. Leaving it ends it: completed, or failed with the exception, which is raised on."""

    def __init__(self, recorder: Recorder, id: str, *, ends: bool = True) -> None:
        super().__init__(recorder, id, None, None)
        self._ends = ends

    @property
    def id(self) -> str:
        """The trajectory's id."""
        return self._recorder.id

    @property
    def root(self) -> str:
        """The id of the trajectory's first record, inside of which all others are."""
        assert self._id is not None
        return self._id

    def at(self, step: Any) -> Scope:
        """A step that was taken before (`t.steps[i]`), to record more in it."""
        agent = None if step.agent == self._recorder.agent else step.agent
        return Scope(self._recorder, step.id or self._id, agent, step.index)

    def finish(
        self, answer: Any = None, *, status: str = "completed", error: Any = None, metrics: dict[str, Any] | None = None
    ) -> None:
        """Ends the trajectory. `status`: completed, failed, timeout, cancelled or truncated."""
        if status not in STATUSES:
            raise TypeError(f"status is one of {', '.join(STATUSES)}, not {status!r}")
        fields: dict[str, Any] = {"status": status, "answer": answer}
        if error is not None:
            fields["error"] = error_of(error)
        if metrics:
            fields["metrics"] = metrics
        self._ends = False
        self._write("end", fields)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if self._ends and not self._tokens:
            if error is None:
                self.finish()
            else:
                self.finish(status=status_of(error), error=error)


def start(
    journal: Journal,
    task: Any,
    *,
    agent: str | None = None,
    agent_version: str | None = None,
    model: str | None = None,
    group: str | None = None,
    policy_version: str | int | None = None,
    seed: int | None = None,
    tags: list[str] | tuple[str, ...] = (),
    metadata: dict[str, Any] | None = None,
    fork: Fork | None = None,
) -> Run:
    """Begins a trajectory in a journal."""
    recorder = Recorder(journal, new_id(), agent)
    if isinstance(tags, str) or not all(isinstance(t, str) for t in tags):
        raise TypeError("tags are a list of strings")
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError(f"metadata is a dict, not {type(metadata).__name__}")
    fields: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "task": task}
    for name, value, kind in (
        ("agent", agent, str),
        ("agent_version", agent_version, str),
        ("model", model, str),
        ("group", group, str),
        ("policy_version", policy_version, (str, int)),
        ("seed", seed, int),
    ):
        if value is not None:
            if not isinstance(value, kind):
                raise TypeError(
                    f"{name} is a {kind.__name__ if isinstance(kind, type) else 'str or int'}, not {type(value).__name__}"
                )
            fields[name] = value
    if tags:
        fields["tags"] = list(tags)
    if metadata:
        fields["metadata"] = metadata
    if fork is not None:
        fields["fork"] = msgspec.to_builtins(fork)
    return Run(recorder, recorder.write("start", fields, None, None, None)[0])


def _tells(redactor: Redactor, base: Base, runs: Runs) -> bool:
    """Whether an edit's parts may tell what is redacted: of an answer that was, or of the text that they make together."""
    if base.redacted:
        return True
    if not isinstance(base.units, str):
        made = "".join(run.text or "" for run in runs if isinstance(run, Literal))
    else:
        made = "".join(base.units[run.start : run.stop] if isinstance(run, Kept) else run.text or "" for run in runs)
    found: Counter[str] = Counter()
    redactor.text(made, found)
    return bool(found)


def _list(values: Any) -> Any:
    """Ids or logprobs as a list."""
    if values is None or type(values) is list:
        return values
    if hasattr(values, "tolist"):
        return values.tolist()
    return list(values)


def _tokens(ids: list[Any] | None, logprobs: list[Any] | None) -> list[dict[str, Any]]:
    if ids and logprobs and type(ids[0]) is int and type(logprobs[0]) is float:
        return [{"token_ids": ids, "logprobs": logprobs}]
    nested = any(isinstance(x[0], (list, tuple)) for x in (ids, logprobs) if x)
    pairs = [(ids, logprobs)]
    if nested:
        count = max(len(x) for x in (ids, logprobs) if x is not None)
        pairs = [
            (ids[i] if ids and i < len(ids) else None, logprobs[i] if logprobs and i < len(logprobs) else None)
            for i in range(count)
        ]
    return [
        {k: v if type(v) is list else list(v) for k, v in (("token_ids", i), ("logprobs", p)) if v is not None} for i, p in pairs
    ]
