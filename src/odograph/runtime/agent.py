"""`Agent`: a model that uses tools in a loop. Keeps one conversation in the model's own dialect; knows no runner and no store."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from .. import dialects
from ..asking.endpoint import Endpoint, Unanswered
from ..capture.scope import Acting, Scope, Step
from ..codec import encode, loads
from ..dialects import Result, ToolCall
from ..errors import InvalidInput, RunError, described
from ..trajectory import Trajectory
from ..types import Status
from .conversation import State, continued, messages_of, refuse_twice, transfer
from .mcp import MCPServer
from .task import AnyAgent, Outcome, Task
from .tools import ToolError, answer_as, arguments_of, function_tool, is_wrapped, sanitised, schema_of, seen, wrapped
from .walk import Walk


class Agent:
    """A model with a system prompt and tools, asked until the model answers without asking for a tool.

    `tools`: Python functions (sync or async; described by type hints and docstring), `MCPServer`s, and other agents, which do a
    task of their own and return the answer. `handoffs`: agents to which the model can hand the conversation over. `dialect`: the
    endpoint's API: "openai.chat" (default), "openai.responses", "anthropic.messages", "gemini", or a dialect of your own (a
    Python file, `package:object`, or the name of an installed package's dialect). `params` go into each request (temperature,
    max_tokens, ...). `output_type`: the type or JSON schema of the answer; the answer is then a value of that type.
    `tokens=True` asks vLLM and SGLang for token ids and logprobs.

    `timeout` (of one request) and `tool_timeout` (of one tool call) are seconds. A tool's result is recorded whole; the model
    sees at most `max_tool_output` characters of the result. `api_key` is the key (default: the dialect's environment variable:
    $OPENAI_API_KEY, $ANTHROPIC_API_KEY, $GEMINI_API_KEY). The key is never recorded.
    """

    def __init__(
        self,
        *,
        model: str,
        name: str = "agent",
        base_url: str | None = None,
        api_key: str | None = None,
        system_prompt: str | None = None,
        tools: Iterable[Callable[..., Any] | MCPServer | AnyAgent] = (),
        handoffs: Iterable[Agent] = (),
        description: str | None = None,
        dialect: str = "openai.chat",
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        output_type: Any = None,
        stream: bool = False,
        tokens: bool = False,
        max_steps: int = 100,
        timeout: float = 600.0,
        max_retries: int = 4,
        tool_timeout: float = 300.0,
        max_tool_output: int = 200_000,
        policy_version: str | int | None = None,
    ) -> None:
        dialect = dialects.spoken(dialect).NAME
        if not isinstance(model, str) or not model:
            raise TypeError(f"model is a name, not {model!r}")
        self.name = name
        self.model = model
        self.base_url = base_url
        self.api_key = api_key
        self.system_prompt = system_prompt
        self.tools: list[Callable[..., Any] | MCPServer | AnyAgent] = list(tools)
        self.handoffs: list[Agent] = list(handoffs)
        self.description = description
        self.dialect = dialect
        self.params: Any = loads(encode(params or {}))  # as it is now, and as JSON can say it
        self.headers: dict[str, str] = dict(headers or {})
        self.output_type = output_type
        self.stream = stream
        self.tokens = tokens
        self.max_steps = max_steps
        self.timeout = timeout
        self.max_retries = max_retries
        self.tool_timeout = tool_timeout
        self.max_tool_output = max_tool_output
        self.policy_version = policy_version
        self._functions = [function_tool(t) for t in self.tools if not isinstance(t, (MCPServer, AnyAgent))]
        names = [t.tool.name for t in self._functions]
        names += [sanitised(t.name) for t in self.tools if isinstance(t, AnyAgent)] + [transfer(a) for a in self.handoffs]
        refuse_twice(names)
        if output_type is not None:
            self._schema()

    def __repr__(self) -> str:
        return f"<Agent {self.name} {self.model}>"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_functions"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._functions = [function_tool(t) for t in self.tools if not isinstance(t, (MCPServer, AnyAgent))]

    def spec(self, within: tuple[Agent, ...] = ()) -> dict[str, Any]:
        """What is recorded of it with each run: enough to rebuild it where its functions can be imported; no secrets.

        An agent that it is itself reached from (`within`) is there by its name.
        """
        within = (*within, self)

        def of(agent: Any) -> dict[str, Any]:
            if isinstance(agent, Agent):
                return {"name": agent.name} if agent in within else agent.spec(within)
            spec = getattr(agent, "spec", None)
            return spec() if spec is not None else {"name": agent.name}

        names = ("name", "model", "base_url", "system_prompt", "description", "dialect", "params", "stream", "tokens")
        found = {n: v for n in names if (v := getattr(self, n))}
        for name, default in (
            ("max_steps", 100),
            ("timeout", 600.0),
            ("tool_timeout", 300.0),
            ("max_tool_output", 200_000),
            ("max_retries", 4),
            ("policy_version", None),
        ):
            if getattr(self, name) != default:
                found[name] = getattr(self, name)
        if self.output_type is not None:  # a type comes back as its schema: the model is asked the same
            found["output_type"] = self._answer_schema() if self.output_type is not str else {"type": "string"}
        if self.headers:
            found["headers"] = dict.fromkeys(self.headers)  # their names; values may be secrets
        tools: list[dict[str, Any]] = []
        for tool in self.tools:
            if isinstance(tool, MCPServer):
                tools.append({"mcp": tool.spec()})
            elif isinstance(tool, AnyAgent):
                tools.append({"agent": of(tool)})
            else:
                tools.append({"function": _path(tool)})
        if tools:
            found["tools"] = tools
        if self.handoffs:
            found["handoffs"] = [of(a) for a in self.handoffs]
        return found

    def replace(self, **changes: Any) -> Agent:
        """Returns a copy with other settings: `agent.replace(model="other")`."""
        settings = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        unknown = [k for k in changes if k not in settings]
        if unknown:
            raise TypeError(f"an agent has no {unknown[0]!r}; it has: {', '.join(settings)}")
        return Agent(**(settings | changes))

    # --- the two methods --------------------------------------------------------------------------------------------------

    async def begin(self, task: Task, run: Scope, past: Trajectory | None) -> State[Agent]:
        """The conversation at its beginning, or where the past left it; tool servers connected."""
        if past is not None:
            state = continued(self, task, past)
        else:
            state = State(self, task)
            state.begin(messages_of(task.input))
        await state.connect()
        return state

    async def step(self, state: State[Agent], step: Step) -> Outcome:
        """Asks the model once, then uses the tools that it asked for, at once where there are several.

        Where the last step was cut short between the two, only the tools that have no result yet are used.
        """
        agent = state.agent
        await state.connect()
        if not state.pending:
            response, state.response = state.response, None
            if response is None:
                try:
                    response = await agent._ask(state, step)
                except Unanswered as error:
                    if not error.is_too_long:
                        raise
                    return Outcome(finished=True, status="truncated", error=str(error))
            ended = agent._answered(state, response, step)
            if ended is not None:
                return ended
        return await agent._use_all(state, step)

    # --- asking -----------------------------------------------------------------------------------------------------------

    async def _ask(self, state: State[Agent], step: Step) -> Any:
        dialect = dialects.get(self.dialect)
        params = dict(self.params)
        conf = state.task.conf
        if (self.stream or conf.on_text is not None) and "stream" not in params:
            params = {**dialect.STREAMING, **params}
        offered = [t.tool for t in state.tools.values()]
        body = dialect.request(self.model, state.system, state.history, offered, params, self._schema())
        endpoint = Endpoint(
            dialect=self.dialect,
            model=self.model,
            base_url=self.base_url,
            api_key=self.api_key,
            headers=self.headers,
            timeout=self.timeout,
            max_retries=self.max_retries,
            tokens=self.tokens,
        )
        return await endpoint.ask(body, conf.on_text)

    def _answered(self, state: State[Agent], response: Any, step: Step) -> Outcome | None:
        """Takes the answer into the conversation: the outcome where it is final, None where tools are asked for."""
        dialect = dialects.get(self.dialect)
        choice = next(iter(dialect.choices(response)), None)
        reason = choice.finish_reason if choice is not None else None
        if choice is not None and reason in _PAUSED:  # the same turn goes on with the next request
            state.history = [*state.history, *dialect.said(response)]
            return Outcome(observation=None)
        cut = reason in _CUT and not (choice is not None and choice.tool_calls and _can_be_used(choice.tool_calls))
        if cut or reason in _REFUSED:
            status: Status = "truncated" if cut else "failed"
            why = "was cut off" if cut else "was stopped"
            answer = choice.text if choice is not None and choice.text.strip() else None
            return Outcome(finished=True, status=status, answer=answer, error=f"the answer {why} (finish reason {reason!r})")
        if choice is None or not (choice.text.strip() or choice.tool_calls):
            said = f" (finish reason {reason!r})" if reason else ""
            return Outcome(finished=True, status="failed", error=f"the model answered nothing{said}")
        state.history = [*state.history, *dialect.said(response)]
        if choice.tool_calls:
            state.ask_for(choice.tool_calls, step.last_call)
            return None
        if self.output_type is None or self.output_type is str:
            return Outcome(finished=True, answer=choice.text)
        try:
            return Outcome(finished=True, answer=answer_as(choice.text, self.output_type, inside=self._wraps))
        except InvalidInput as error:
            again = f"This answer is not valid: {error}. Answer again, with nothing but JSON of the schema that was asked for."
            state.history = [*state.history, *dialect.history([{"role": "user", "content": again}])]
            return Outcome(observation=again)

    def _schema(self) -> dict[str, Any] | None:
        """The schema of the answer, as the model is given it: the APIs want an object at the top."""
        if self.output_type is None or self.output_type is str:
            return None
        schema = self._answer_schema()
        return wrapped(schema) if is_wrapped(schema) else schema

    def _answer_schema(self) -> dict[str, Any]:
        if isinstance(self.output_type, dict):
            return self.output_type
        schema, definitions = schema_of(self.output_type)
        while "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        return schema | {"$defs": definitions} if definitions else schema

    @property
    def _wraps(self) -> bool:
        return self.output_type is not None and self.output_type is not str and is_wrapped(self._answer_schema())

    # --- using tools ------------------------------------------------------------------------------------------------------

    async def _use_all(self, state: State[Agent], step: Step) -> Outcome:
        waiting = [i for i in range(len(state.pending)) if i not in state.done]

        async def use(index: int) -> None:
            state.done[index] = await self._use(state, step, state.pending[index])

        if len(waiting) == 1:
            await use(waiting[0])
        else:
            await asyncio.gather(*map(use, waiting))
        results = [state.done[i] for i in range(len(state.pending))]
        state.history = [*state.history, *dialects.get(self.dialect).results(results)]
        handoff = state.handoff
        state.settle()
        if handoff is not None:
            state.adopt(handoff[0])
            await state.connect()
        return Outcome(observation=[msgspec.to_builtins(r) for r in results], handoff=handoff)

    async def _use(self, state: State[Agent], step: Step, asked: ToolCall) -> Result:
        """One call of a tool, recorded. What goes wrong in it is what the model sees."""
        to = next((a for a in self.handoffs if transfer(a) == asked.name), None)
        about: dict[str, Any] = {"llm_call": state.asked_by, "tool_call_id": asked.id}
        try:
            arguments = arguments_of(asked.arguments)
        except InvalidInput as error:
            result = self._result(asked, f"error: {error}", ok=False)
            step.action(asked.name, asked.arguments, error=error, metadata={"content": result.content}, **about)
            return result
        with step.acting(asked.name, arguments, **about) as action:
            action.purpose = "tool"
            known = state.known(asked)
            if to is not None and state.handoff is None:
                state.handoff = (to, action.id)
                action.result = text = f"{to.name} takes over."
            elif known is not None:
                action.result, action.ok, text = known.content, known.ok, known.content
            else:
                text = await self._call(state, asked, arguments, action)
            result = self._result(asked, text, ok=action.ok is not False)
            plain = action.result if isinstance(action.result, str) else encode(action.result).decode()
            if action.ok is False or action.result is None or result.content != plain:
                action.metadata = {"content": result.content}  # what the model sees, where that is not the result itself
        return result

    async def _call(self, state: State[Agent], asked: ToolCall, arguments: dict[str, Any], action: Acting) -> str:
        limit = state.task.conf.tool_timeout or self.tool_timeout
        action.ok = False
        try:
            tool = state.tools.get(asked.name)
            if tool is None:
                raise ToolError(f"no tool {asked.name!r}; there are: {', '.join(state.tools) or 'none'}")
            if tool.agent is not None:
                result, text = await self._delegate(state, tool.agent, arguments, action)
            else:
                result, text = await _within(tool.call(arguments), limit)
        except (ToolError, InvalidInput, RunError) as error:
            action.error = error
            return f"error: {error}"
        except (asyncio.CancelledError, SystemExit) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            action.error = error  # it came from within the tool
            return f"error: {described(error)}"
        except _TooLate:
            action.error = TimeoutError(f"no answer within {limit:g} s")
            return f"error: no answer within {limit:g} s"
        except Exception as error:
            action.error = error
            return f"error: {_whole(error)}"
        action.result, action.ok = result, True
        return text

    async def _delegate(self, state: State[Agent], agent: AnyAgent, arguments: dict[str, Any], action: Acting) -> tuple[Any, str]:
        """Another agent does a task of its own, inside of the action."""
        if "input" not in arguments:
            raise ToolError("parameter 'input' is missing")
        task = copy.copy(state.task)
        task.input, task.agent, task._session = arguments["input"], agent, None
        task.conf = msgspec.structs.replace(task.conf, on_text=None)
        limit = getattr(agent, "max_steps", None) or 100
        most = state.task.conf.max_steps
        if most is not None:  # of the whole run, whoever takes them
            limit = min(limit, most - action.recorder.opened)
            if limit < 1:
                raise ToolError(f"none of the {most} steps of this task is left for {agent.name}")
        walk = Walk(agent, task, action.sub_agent(agent.name))
        try:
            for _ in range(limit):
                outcome = await walk.step()
                if outcome.finished:
                    break
            else:
                raise ToolError(f"{agent.name} came to no end within {limit} steps")
        finally:
            await walk.close()
        if outcome.status != "completed":
            raise ToolError(f"{agent.name} {outcome.status}: {outcome.error}")
        return outcome.answer, seen(outcome.answer)

    def _result(self, asked: ToolCall, text: str, ok: bool = True) -> Result:
        text = seen(text)
        if len(text) > self.max_tool_output:
            half = self.max_tool_output // 2
            text = f"{text[:half]}\n... ({len(text) - 2 * half} characters left out) ...\n{text[-half:]}"
        return Result(tool_call_id=asked.id, name=asked.name, content=text, ok=ok)


_CUT = ("length", "max_tokens", "max_output_tokens", "incomplete", "model_context_window_exceeded")
_REFUSED = ("content_filter", "refusal", "safety", "error", "failed", "cancelled", "malformed_function_call")
_PAUSED = ("pause_turn",)
_CLEANING = 1.0  # seconds that a tool whose time is over has to tidy up


class _TooLate(Exception):
    """A tool did not answer in time."""


async def _within(call: Awaitable[tuple[Any, str]], limit: float) -> tuple[Any, str]:
    """What a tool gives within its time. A tool that is late is cancelled and left to itself when it does not end at once."""
    task = asyncio.ensure_future(_kept_inside(call))
    try:
        done, _ = await asyncio.wait({task}, timeout=limit)
        if done:
            given, left = task.result()
            if left is not None:
                raise left
            assert given is not None
            return given
    except asyncio.CancelledError:
        await _stop(task)
        raise
    await _stop(task)
    raise _TooLate


async def _kept_inside(call: Awaitable[tuple[Any, str]]) -> tuple[tuple[Any, str] | None, SystemExit | None]:
    """What a tool gives, or the SystemExit that it raises: in a task of its own that would end the event loop."""
    try:
        return await call, None
    except SystemExit as error:
        return None, error


async def _stop(task: asyncio.Future[Any]) -> None:
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else looks at it
    await asyncio.wait({task}, timeout=_CLEANING)


def _whole(error: BaseException) -> str:
    """An error as the model is told it; of a group of errors each."""
    if isinstance(error, BaseExceptionGroup):
        return f"{error.message}: " + "; ".join(_whole(one) for one in error.exceptions)
    return described(error)


def _can_be_used(calls: list[ToolCall]) -> bool:
    """Whether the arguments of tool calls are whole though the answer was cut."""
    try:
        for call in calls:
            arguments_of(call.arguments)
    except InvalidInput:
        return False
    return True


def _path(fn: Any) -> str | None:
    """What a function can be imported by; None for a local one."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    return f"{module}:{name}" if module and name and "<" not in name else None
