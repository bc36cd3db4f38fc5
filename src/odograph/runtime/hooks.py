"""What people and programs may do while an agent runs: look at an answer, a tool call or a prompt, and change it.

The three handles record what is done to them, with author and reason. Knows no agent, and asks no model.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Unpack, overload

import msgspec

from ..calls import Call
from ..capture.directing import director
from ..capture.edits import EditArgs, Editor, Runs
from ..capture.recorder import CallRef
from ..capture.scope import Scope
from ..dialects import ToolCall
from ..errors import InvalidInput, RunError, described
from ..types import Edit, Kept, Literal
from .recorded import COMPACTED, PUT
from .showing import sayable
from .tools import arguments_of

#: The callables of an Agent and of a TaskConfig.
HOOKS = ("on_answer", "on_tool", "on_prompt")
#: The note that keeps why a run was stopped.
STOPPED = "stopped"


class Stop(BaseException):
    """Ends a run from inside of a callable. No client takes it for an error of its own."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Editing(Scope):
    """A scope in which the edits of one answer are recorded. `edited` is told of each; a rejected one raises."""

    def __init__(self, of: Scope, by: str, edited: Callable[[Edit], None]) -> None:
        super().__init__(of.recorder, of._id, of._agent, of._step)
        self._by = by
        self._edited = edited

    def _write(self, kind: str, made: dict[str, Any], id: str | None = None) -> str:
        if kind != "edit":
            return super()._write(kind, made, id)
        made["extra"] = {"by": self._by}
        id = id or self._recorder.journal.new_id(time.time_ns())
        if made.get("rejected"):
            super()._write(kind, made, id)
            raise InvalidInput(f"the edit is rejected: {made['rejected']}")
        runs: list[Any] = [msgspec.convert(run, Kept | Literal) for run in made.get("result", [])]
        self._edited(Edit(**{"trajectory": self.trajectory, **made, "id": id, "result": runs}))  # which may refuse it
        return super()._write(kind, made, id)


class Handle:
    """What all three handles have: who asked, in which task, and `stop`."""

    def __init__(self, agent: str, task: Any, scope: Scope) -> None:
        #: The agent's name, and its task.
        self.agent = agent
        self.task = task
        self._scope = scope

    def stop(self, reason: str, *, author: str | None = None) -> None:
        """Ends the run: its status is cancelled, with this reason. A stopped run can be resumed."""
        self._scope.note(_about({"reason": reason}, None, author), name=STOPPED)
        raise Stop(reason)

    def _put(self, by: str, message: Any, reason: str | None, author: str | None) -> list[dict[str, Any]]:
        messages = chat(message)
        self._scope.note(_about({"messages": messages, "by": by}, reason, author), name=PUT)
        return messages


class Answer(Handle):
    """A model's answer, on record and not yet used: its tools have not run, and it is not yet the run's answer.

    `edit` has the words of `step.edit`: `answer.edit(on="text").replace(0, 3, "new", reason="why", author="me")`,
    `answer.edit([Kept(0, 4), Literal([99])])`. Positions count the answer as it was generated. What the model sees next, and the
    run's answer, is the edited answer.
    """

    def __init__(self, agent: str, task: Any, scope: Scope, ref: CallRef | Call, call: Call) -> None:
        super().__init__(agent, task, scope)
        self._ref = ref
        #: The call as it was recorded.
        self.call = call
        choice = next(iter(call.choices), None)
        self.text: str = choice.text if choice is not None else ""
        self.reasoning: str | None = choice.reasoning if choice is not None else None
        self.token_ids: list[int] | None = choice.token_ids if choice is not None else None
        self.tool_calls: list[ToolCall] = choice.tool_calls if choice is not None else []
        self.finish_reason: str | None = choice.finish_reason if choice is not None else None
        #: The edits, and the messages that were put in.
        self.edits: list[Edit] = []
        self.added: list[dict[str, Any]] = []

    @overload
    def edit(self, result: None = None, **about: Unpack[EditArgs]) -> Editor: ...
    @overload
    def edit(self, result: Runs, **about: Unpack[EditArgs]) -> str: ...
    def edit(self, result: Runs | None = None, **about: Unpack[EditArgs]) -> Editor | str:
        """Edits the answer, with the words of `step.edit`. An edit that is rejected raises InvalidInput."""
        return Editing(self._scope, "on_answer", self.edits.append).edit(self._ref, result, **about)

    def put(self, message: Any, *, reason: str | None = None, author: str | None = None) -> None:
        """Puts a message in behind the answer and its tools' results (a text: of the user). An answer that was final is not
        final then: the model is asked again."""
        self.added += self._put("on_answer", message, reason, author)


class ToolUse(Handle):
    """A tool call before the tool is used. Without `change` or `refuse`, the tool is used as the model asked."""

    def __init__(self, agent: str, task: Any, scope: Scope, asked: ToolCall) -> None:
        super().__init__(agent, task, scope)
        self.id = asked.id
        self.name = asked.name
        #: The arguments as an object; the raw text where they are none.
        self.arguments: Any = _read(asked)
        self._asked = asked
        self.decided: Decided | None = None

    def change(
        self,
        arguments: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        reason: str | None = None,
        author: str | None = None,
    ) -> None:
        """Uses the tool with other arguments, or another tool. The model sees the changed call, and the result of it."""
        if arguments is not None and not isinstance(arguments, dict):
            raise TypeError(f"arguments are a dict, not {type(arguments).__name__}")
        self.arguments = self.arguments if arguments is None else arguments
        self.name = name or self.name
        self._decide("changed", reason, author)

    def refuse(self, result: Any = "refused", *, reason: str | None = None, author: str | None = None) -> None:
        """Does not use the tool. The model sees `result` in place of the tool's result."""
        self._decide("refused", reason, author, result)

    def approve(self, *, reason: str | None = None, author: str | None = None) -> None:
        """Uses the tool as it stands, and records who approved."""
        self._decide("changed" if self.decided is not None and self.decided.what == "changed" else "approved", reason, author)

    def _decide(self, what: str, reason: str | None, author: str | None, result: Any = None) -> None:
        asked = ToolCall(self._asked.id, self.name, self.arguments)
        self.decided = Decided(what, asked, self._asked, result, _about({}, reason, author))


class Decided(msgspec.Struct, frozen=True):
    """What was decided of a tool call: changed, refused or approved."""

    what: str
    #: The call as it is used, and as the model asked for it.
    call: ToolCall
    asked: ToolCall
    result: Any
    why: dict[str, Any]

    def told(self) -> dict[str, Any]:
        """What the action's record says of it."""
        found: dict[str, Any] = {"what": self.what, **self.why}
        if self.what == "changed":
            found["asked"] = {"name": self.asked.name, "arguments": self.asked.arguments}
        return found


class Prompt(Handle):
    """What the model is about to be asked. `messages` are chat-shaped copies; the system prompt is not among them."""

    def __init__(self, agent: str, task: Any, scope: Scope, messages: Callable[[], list[dict[str, Any]]]) -> None:
        super().__init__(agent, task, scope)
        self._messages = messages
        self.added: list[dict[str, Any]] = []
        self.compacted: list[dict[str, Any]] | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [*(self._messages() if self.compacted is None else self.compacted), *self.added]

    def put(self, message: Any, *, reason: str | None = None, author: str | None = None) -> None:
        """Puts a message in behind the others: a text (of the user), a chat-shaped message, or a list of these."""
        self.added += self._put("on_prompt", message, reason, author)

    def compact(self, messages: list[dict[str, Any]], *, reason: str | None = None, author: str | None = None) -> None:
        """Puts other messages in the place of the history. Raises TypeError for none."""
        if not messages:
            raise TypeError("a history of no messages can't be asked; give at least one message")
        self.compacted, self.added = chat(messages), []
        self._scope.note(_about({"messages": self.compacted, "by": "on_prompt"}, reason, author), name=COMPACTED)


OnAnswer = Callable[[Answer], Any] | Callable[[Answer], Awaitable[Any]]
OnTool = Callable[[ToolUse], Any] | Callable[[ToolUse], Awaitable[Any]]
OnPrompt = Callable[[Prompt], Any] | Callable[[Prompt], Awaitable[Any]]


def check_hooks(**hooks: Any) -> None:
    """Raises TypeError for what can't be called with a handle, or would do nothing when it is."""
    for name, hook in hooks.items():
        if hook is not None and (not callable(hook) or inspect.isgeneratorfunction(hook) or inspect.isasyncgenfunction(hook)):
            what = "a function that yields" if callable(hook) else repr(hook)
            raise TypeError(f"{name} is a function of one argument, sync or async, not {what}")


async def told(hooks: Iterable[Callable[[Any], Any] | None], handle: Handle) -> None:
    """Calls the callables that there are, one after the other. What they raise, but a stop, is a RunError."""
    place = handle._scope
    purpose, last, directed = place.purpose, place.last_call, director.set(None)
    place.purpose = "tool"  # a model that a callable asks is not the policy
    try:
        for hook in hooks:
            if hook is None:
                continue
            try:
                made = hook(handle)
                if inspect.isawaitable(made):
                    made = await made
            except RunError:
                raise
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                raise RunError(f"{_name(hook)} failed: {described(error)}") from error
            if made is False and isinstance(handle, ToolUse) and handle.decided is None:  # a refusal that would not be one
                raise RunError(f"{_name(hook)} returned False, which decides nothing; call refuse(), or approve()")
    finally:
        place.purpose, place.last_call = purpose, last
        director.reset(directed)


def _name(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__qualname__))


def chat(given: Any) -> list[dict[str, Any]]:
    """A text, a message or a list of these, as chat-shaped messages. Raises TypeError."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if isinstance(given, dict) and isinstance(given.get("role"), str):
        return [sayable(given)]
    if isinstance(given, list):
        return [message for one in given for message in chat(one)]
    raise TypeError(f"a message is a text or a dict with a role, not {type(given).__name__}")


def _read(asked: ToolCall) -> Any:
    try:
        return arguments_of(asked.arguments)
    except InvalidInput:
        return asked.arguments


def _about(fields: dict[str, Any], reason: str | None, author: str | None) -> dict[str, Any]:
    more = {"reason": reason, "author": author}
    return fields | {k: v for k, v in more.items() if v is not None}
