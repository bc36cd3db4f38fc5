"""What is to be done, by whom and how: `Task`, `TaskConfig`, and what any agent is, `AnyAgent` and its `Outcome`s.

A task names its agent and an agent begins a task, so both are here. Nothing here knows how a task is run.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Protocol, TypedDict, runtime_checkable

import msgspec

from ..api import Store
from ..capture.scope import Scope, Step
from ..dialects import Result, ToolCall
from ..errors import RunError, check_count, check_seconds
from ..trajectory import Trajectory
from ..types import Action, Fork, Status
from .hooks import Decided, OnAnswer, OnPrompt, OnTool, check_hooks
from .recorded import Turns, decision_of, result_of, take
from .response import TaskResponse

#: Gets the pieces of an answer as they come.
OnText = Callable[[str], Any] | Callable[[str], Awaitable[Any]]


class TaskRunMode(enum.Enum):
    """The mode of a task: to the end, or step by step as the caller asks."""

    ONE_WAY = "one_way"
    INTERACTIVE = "interactive"


class TaskConfig(msgspec.Struct, kw_only=True):
    """Settings of a task's run. Times are seconds; None: no limit. Raises InvalidInput."""

    run_mode: TaskRunMode = TaskRunMode.ONE_WAY
    #: Steps until the run is cut (status `truncated`); None: the agent's own limit.
    max_steps: int | None = None
    #: Tokens, of prompts and answers and of all agents, after which no further step is taken (status `truncated`).
    max_tokens: int | None = None
    #: Whether `response.trajectory` holds the messages that the model was sent. The store always does.
    resp_carry_context: bool = True
    #: Of the whole run; of one call of a tool (None: the agent's own limit).
    timeout: float | None = None
    tool_timeout: float | None = None
    #: Called with the pieces of each answer as they come; the calls are streamed then.
    on_text: OnText | None = None
    #: Whether each step is a line of `odograph.logger`.
    log: bool = False
    #: Called with each answer, each tool call and each prompt, to look at it and to change it; after those of the Agent.
    on_answer: OnAnswer | None = None
    on_tool: OnTool | None = None
    on_prompt: OnPrompt | None = None

    def __post_init__(self) -> None:
        check_hooks(on_text=self.on_text, on_answer=self.on_answer, on_tool=self.on_tool, on_prompt=self.on_prompt)
        for name in ("max_steps", "max_tokens"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value)
        for name in ("timeout", "tool_timeout"):
            if (value := getattr(self, name)) is not None:
                check_seconds(name, value)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one step."""

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
    """The protocol of anything that can begin a task and take steps: an agent, an environment with a policy, another framework's
    agent.

    Records that an agent makes in a step (by the step's methods, or by wrapped clients and functions) belong to the step. An
    agent may also have `model` and `max_steps`. A state may have `observation` (the first step's input, if different from the
    task's input), `place` (a hand-off made before a continued run), and `async def aclose()`, called when the run ends. For
    `response.edit`, a state has `last_call` and `edited(edit)`, which puts the edited answer in place.
    """

    name: str

    async def begin(self, task: Task, run: Scope, past: Trajectory | None) -> Any:
        """Returns the state of a new run of a task. `past`: the recorded part of a run that is continued."""
        ...

    async def step(self, state: Any, step: Step) -> Outcome:
        """Takes one step. Raises RunError if the step could not be taken and can be retried."""
        ...


#: Runs a task to its end; the runner, which stands above, sets it.
finish: Callable[[Task], Coroutine[Any, Any, TaskResponse]] | None = None


class TaskArgs(TypedDict, total=False):
    """The keywords of a `Task`."""

    id: str | None
    name: str | None
    group: str | None
    tags: list[str] | tuple[str, ...]
    metadata: dict[str, Any] | None
    seed: int | None
    context: Any
    session: str | None


#: Who may take a task: an agent, or a function `input -> answer`.
Who = AnyAgent | Callable[..., Any]


class Task:
    """One task for one agent. `await task` runs the task to its end and returns the response.

    `input` is the agent's question or job: text, a list of chat messages, or any JSON. `agent` is an `Agent`, any object with
    the two methods of `AnyAgent`, or a function `input -> answer`, sync or async. `id` names the task in responses and for
    `resume=True`. `group`, `tags`, `metadata` and `seed` are recorded with each trajectory of the task. `context` is for tools
    (`ToolContext`) and is not recorded. `session` names a conversation: the agent remembers the session's tasks before.
    """

    def __init__(
        self,
        input: Any = None,
        agent: Who | None = None,
        conf: TaskConfig | dict[str, Any] | None = None,
        *,
        id: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | tuple[str, ...] = (),
        metadata: dict[str, Any] | None = None,
        seed: int | None = None,
        context: Any = None,
        session: str | None = None,
    ) -> None:
        if isinstance(conf, dict):
            known = TaskConfig.__struct_fields__
            unknown = [k for k in conf if k not in known]
            if unknown:
                raise TypeError(f"no setting {unknown[0]!r} of a task; there are: {', '.join(known)}")
            conf = TaskConfig(**conf)
        if conf is not None and not isinstance(conf, TaskConfig):
            raise TypeError(f"conf is a TaskConfig or a dict, not {type(conf).__name__}")
        if id is not None and not isinstance(id, str):
            raise TypeError(f"id is a string, not {type(id).__name__}")
        self.id: str = id or uuid.uuid4().hex
        self.name = name
        self.input = input
        self.agent = agent
        self.conf: TaskConfig = conf or TaskConfig()
        self.group = group
        self.tags: list[str] = list(tags)
        self.metadata: dict[str, Any] = metadata or {}
        self.seed = seed
        self.context = context
        if session is not None:
            if not isinstance(session, str) or not session:
                raise TypeError(f"session is a name, not {session!r}")
            self.tags = list(dict.fromkeys([*self.tags, f"session:{session}"]))
        self.session = session
        #: The conversation of the session before, chat-shaped.
        self._remembered: list[dict[str, Any]] = []
        #: Its run, of the runner's own kind (`Session`).
        self._session: Any = None
        #: What it continues, and for a fork: where it leaves it, with which request of which dialect, or with which messages.
        self._past: Trajectory | None = None
        self._fork: Fork | None = None
        self._request: tuple[str | None, Any] | None = None
        self._messages: list[dict[str, Any]] | None = None
        self._store: Store | None = None
        #: The recorded results of tools: a replay uses no tool again.
        self._results: dict[str, list[Action]] | None = None
        #: The edits, messages put in, and decisions on tool calls that a replay repeats.
        self._turns: Turns | None = None

    def __repr__(self) -> str:
        return f"<Task {self.id} for {getattr(self.agent, 'name', self.agent)!r}>"

    def __await__(self) -> Generator[Any, None, TaskResponse]:
        assert finish is not None
        return finish(self).__await__()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_session": None,
            "_store": None,
        }  # a run does not travel to another process; what is recorded does

    def memory(self) -> list[dict[str, Any]]:
        """The session's conversation before this task."""
        return list(self._remembered)

    def decided(self, asked: ToolCall) -> Decided | None:
        """What was decided of a tool call, where this is a replay."""
        action = take(self._turns.decisions, asked) if self._turns is not None else None
        found = decision_of(action) if action is not None else {}
        if action is None or not found:
            return None
        call = ToolCall(asked.id, action.name, action.arguments)
        return Decided(str(found.get("what")), call, asked, result_of(action).content, {})

    def known(self, asked: ToolCall) -> Result | None:
        """The recorded result of a tool, where this is a replay that uses none again. Raises RunError where there is none."""
        if self._results is None:
            return None
        action = take(self._results, asked)
        if action is None:
            raise RunError(f"no result of {asked.name!r} was recorded, and a replay uses no tools")
        return result_of(action)
