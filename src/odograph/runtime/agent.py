"""`Agent`: a model that uses tools in a loop. Keeps one conversation in the model's own dialect; knows no runner and no store."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypedDict, Unpack

from .. import dialects
from ..asking.endpoint import Endpoint, Unanswered
from ..capture.directing import director
from ..capture.recorder import CallRef
from ..capture.scope import Scope, Step
from ..capture.values import said_of
from ..codec import encode, loads
from ..dialects import Choice, Tool, ToolCall
from ..dialects.shapes import was_cut, was_stopped
from ..dialects.strict import strict
from ..errors import InvalidInput, check_count, check_seconds
from ..plain import foreign
from ..trajectory import Trajectory
from ..types import Edit, Status
from .answers import answer_as, is_wrapped, wrapped
from .continuing import continued
from .conversation import State, messages_of, refuse_twice, transfer
from .hooks import HOOKS, Answer, OnAnswer, OnPrompt, OnTool, Prompt, Stop, check_hooks, told
from .mcp import MCPServer
from .recorded import COMPACTED, PUT
from .task import AnyAgent, Outcome, Task
from .template import Template
from .tools import arguments_of, function_tool, sanitised, schema_of
from .using import use_all


class AgentSettings(TypedDict, total=False):
    """The settings of an `Agent` beside its model, as `replace` and `fork` take them."""

    name: str
    base_url: str | None
    api_key: str | None
    system_prompt: str | None
    tools: Iterable[Callable[..., Any] | MCPServer | AnyAgent]
    handoffs: Iterable[Agent]
    description: str | None
    dialect: str
    params: dict[str, Any] | None
    headers: dict[str, str] | None
    output_type: Any
    stream: bool
    tokens: bool
    max_steps: int
    timeout: float
    max_retries: int
    tool_timeout: float
    max_tool_output: int
    policy_version: str | int | None
    tokenizer: Any
    tool_choice: str | None
    once: Iterable[str]
    on_answer: OnAnswer | None
    on_tool: OnTool | None
    on_prompt: OnPrompt | None


class Agent:
    """A model with a system prompt and tools, asked until the model answers without asking for a tool.

    `tools`: Python functions (sync or async; described by type hints and docstring), `MCPServer`s, and other agents, which do a
    task of their own and return the answer. `handoffs`: agents to which the model can hand the conversation over. `dialect`: the
    endpoint's API: "openai.chat" (default), "openai.responses", "anthropic.messages", "gemini", or a dialect of your own (a
    Python file, `package:object`, or the name of an installed package's dialect). `params` go into each request (temperature,
    max_tokens, ...). `output_type`: the type or JSON schema of the answer; the answer is then a value of that type.
    `tokens=True` asks vLLM and SGLang for token ids and logprobs. `tokenizer`: with the dialects "openai.completions",
    "sglang.generate" and "vllm.generate", the backend is sent token ids, made by the tokenizer's chat template.

    `tool_choice`: "auto", "required", "none" or the name of a tool, until a tool was used; then the model is free again, so that
    the run comes to an end.

    `once`: names of tools that a resumed run does not use again where it was cut off in the middle of them.

    `on_answer`, `on_tool` and `on_prompt` are called with each answer, tool call and prompt, to look at it, change it or stop.

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
        tokenizer: Any = None,
        tool_choice: str | None = None,
        once: Iterable[str] = (),
        on_answer: OnAnswer | None = None,
        on_tool: OnTool | None = None,
        on_prompt: OnPrompt | None = None,
    ) -> None:
        found = dialects.find(dialect) if tokenizer is not None else dialects.spoken(dialect)
        if tokenizer is not None and not hasattr(found, "of_ids"):
            found = dialects.spoken(dialect)
        dialect = found.NAME
        if not isinstance(model, str) or not model:
            raise TypeError(f"model is a name, not {model!r}")
        texts = {
            "name": name or "",
            "base_url": base_url,
            "api_key": api_key,
            "system_prompt": system_prompt,
            "description": description,
        }
        for what, given in texts.items():
            if given is not None and not isinstance(given, str):
                raise TypeError(f"{what} is a text, not {given!r}")
        for what, values in (("params", params), ("headers", headers)):
            if values is not None and not isinstance(values, dict):
                raise TypeError(f"{what} is a dict, not {values!r}")
        if (wrong := foreign(params)) is not None:
            raise InvalidInput(f"params go into requests, as JSON: {wrong[0] or 'params'} {wrong[1]}")
        if isinstance(once, str):
            raise TypeError(f"once is a list of names of tools, not {once!r}")
        check_count("max_steps", max_steps)
        check_count("max_retries", max_retries, 0)
        check_count("max_tool_output", max_tool_output)
        check_seconds("timeout", timeout)
        check_seconds("tool_timeout", tool_timeout)
        check_hooks(on_answer=on_answer, on_tool=on_tool, on_prompt=on_prompt)
        if tool_choice is not None and (not isinstance(tool_choice, str) or not tool_choice):
            raise TypeError(f"tool_choice is 'auto', 'required', 'none' or the name of a tool, not {tool_choice!r}")
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
        self.tokenizer = tokenizer
        self.tool_choice = tool_choice
        self.once: list[str] = list(once)
        self.on_answer = on_answer
        self.on_tool = on_tool
        self.on_prompt = on_prompt
        self._functions = [function_tool(t) for t in self.tools if not isinstance(t, (MCPServer, AnyAgent))]
        names = [t.tool.name for t in self._functions]
        names += [sanitised(t.name) for t in self.tools if isinstance(t, AnyAgent)] + [transfer(a) for a in self.handoffs]
        refuse_twice(names)
        if output_type is not None:
            self._schema()

    def __repr__(self) -> str:
        return f"<Agent {self.name} {self.model}>"

    @property
    def template(self) -> Template | None:
        """Of the tokenizer."""
        return Template.of(self.tokenizer)

    @property
    def in_ids(self) -> bool:
        """Whether the backend is sent token ids, not messages."""
        return self.tokenizer is not None and hasattr(dialects.get(self.dialect), "of_ids")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_functions"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._functions = [function_tool(t) for t in self.tools if not isinstance(t, (MCPServer, AnyAgent))]

    def spec(self, within: tuple[Agent, ...] = ()) -> dict[str, Any]:
        """The description that each run records: enough to rebuild the agent where its functions can be imported; no secrets.

        An agent that leads back to itself (`within`) stands in the description by name.
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
            ("tool_choice", None),
            ("once", []),
        ):
            if getattr(self, name) != default:
                found[name] = getattr(self, name)
        if self.output_type is not None:  # a type that can't be imported comes back as its schema: the model is asked the same
            found["output_type"] = self._answer_schema() if self.output_type is not str else {"type": "string"}
            if type(self.output_type) is not dict and self.output_type is not str:
                path = _path(self.output_type) if isinstance(self.output_type, type) else None
                found["output_class"] = path or str(self.output_type).replace(":", " ")
        for name in HOOKS:
            if (hook := getattr(self, name)) is not None:
                found[name] = _path(hook)
        if self.tokenizer is not None:
            found["tokenizer"] = getattr(self.template.tokenizer, "name_or_path", None)  # type: ignore[union-attr]
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

    def replace(self, *, model: str | None = None, **changes: Unpack[AgentSettings]) -> Agent:
        """Returns a copy with another model or other settings: `agent.replace(model="other")`."""
        settings: dict[str, Any] = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        unknown = [k for k in changes if k not in settings]
        if unknown:
            raise TypeError(f"an agent has no {unknown[0]!r}; it has: {', '.join(settings)}")
        settings["model"] = self.model if model is None else model
        settings.update(changes)
        return Agent(**settings)

    # --- the two methods --------------------------------------------------------------------------------------------------

    async def begin(self, task: Task, run: Scope, past: Trajectory | None) -> State[Agent]:
        """The conversation at its beginning, or where the past left it; tool servers connected."""
        if past is not None:
            state = continued(self, task, past)
        else:
            state = State(self, task)
            state.begin([*task.memory(), *messages_of(task.input)])
        try:
            await state.connect()
        except BaseException:  # the servers that were reached already
            await state.aclose()
            raise
        return state

    async def step(self, state: State[Agent], step: Step) -> Outcome:
        """Asks the model once, then uses the tools that it asked for, at once where there are several.

        Where the last step was cut short between the two, only the tools that have no result yet are used.
        """
        agent = state.agent
        await state.connect()
        try:
            if not state.pending:
                call: Any
                call, response = state.response or (None, None)
                state.response = None
                if response is None:
                    await agent._prompted(state, step)
                    try:
                        response = await agent._ask(state, step)
                    except Unanswered as error:
                        if not error.is_too_long:
                            raise
                        return Outcome(finished=True, status="truncated", error=str(error))
                    call = step.last_call
                ended = await agent._answered(state, call, response, step)
            else:
                ended = await agent._looked_at(state, step) if state.unseen else None
            return ended if ended is not None else await use_all(state, step)
        except Stop as stop:
            return Outcome(finished=True, status="cancelled", error=stop.reason)

    # --- asking -----------------------------------------------------------------------------------------------------------

    async def _prompted(self, state: State[Agent], step: Step) -> None:
        """Lets the callables see what is about to be asked, once for each prompt."""
        if state.prompted:
            return
        state.prompted = True
        turns = state.task._turns
        if turns is not None:  # a replay does what was done
            for name, messages in turns.upcoming(self.name):
                state.put(name, messages)
            return
        hooks = (self.on_prompt, state.task.conf.on_prompt)
        if any(hooks):
            prompt = Prompt(self.name, state.task, step, lambda: copy.deepcopy(state.messages))
            await told(hooks, prompt)
            if prompt.compacted is not None:
                state.put(COMPACTED, prompt.compacted)
            if prompt.added:
                state.put(PUT, prompt.added)

    async def _ask(self, state: State[Agent], step: Step) -> Any:
        dialect = dialects.get(self.dialect)
        params = dict(self.params)
        conf = state.task.conf
        if (self.stream or conf.on_text is not None) and "stream" not in params:
            params = {**dialect.STREAMING, **params}
        offered = [t.tool for t in state.tools.values()]
        if self.tool_choice is not None and offered and not state.used:
            if self.tool_choice not in ("auto", "required", "none", *state.tools):
                raise InvalidInput(f"tool_choice names no tool {self.tool_choice!r}; there are: {', '.join(state.tools)}")
            params = {**dialect.choosing(self.tool_choice), **params}
        if self.in_ids:
            body = dialect.of_ids(self.model, self._ids(state, offered), params)
        else:
            body = dialect.request(self.model, state.system, state.history, offered, params, self._schema())
        endpoint = Endpoint(
            dialect=self.dialect,
            model=self.model,
            base_url=self.base_url,
            api_key=self.api_key,
            headers=self.headers,
            timeout=self.timeout,
            max_retries=self.max_retries,
            tokens=self.tokens or self.in_ids,
        )
        if not state.said and director.get() is None:
            endpoint.check_key()
        response = await endpoint.ask(body, conf.on_text, encoded=state.encoded)
        state.prompted = False
        return response

    def _ids(self, state: State[Agent], offered: list[Tool]) -> list[int]:
        """The ids of the prompt: those of the conversation so far as they were sampled and edited, and of what is new."""
        template, new = self.template, state.history[state.covered :]
        assert template is not None
        added = template.added(new, offered) if state.ids is not None and new else []
        if state.ids is None or added is None:
            first = [{"role": "system", "content": state.system}] if state.system is not None else []
            state.ids, state.said = template.prompt([*first, *state.history], offered), {}
        else:
            state.ids = [*state.ids, *added]
        state.covered = len(state.history)
        return state.ids

    async def _answered(self, state: State[Agent], call: Any, response: Any, step: Step) -> Outcome | None:
        """Takes the answer into the conversation: the outcome where it is final, None where tools are asked for."""
        choice = state.read(response)
        reason = choice.finish_reason if choice is not None else None
        reason = reason.lower() if isinstance(reason, str) else reason
        if choice is not None and reason in _PAUSED:  # the same turn goes on with the next request
            state.take(call, response)
            return Outcome(observation=None)
        cut = was_cut(reason) and not (choice is not None and choice.tool_calls and _can_be_used(choice.tool_calls))
        if cut or was_stopped(reason):
            status: Status = "truncated" if cut else "failed"
            why = "was cut off" if cut else "was stopped"
            answer = choice.text if choice is not None and choice.text.strip() else None
            call = call.call if isinstance(call, CallRef) else call
            said = said_of(call.record.error) if call is not None and call.record.error is not None else _said_in(response)
            error = f"the answer {why} (finish reason {reason!r})" + (f": {said}" if said else "")
            return Outcome(finished=True, status=status, answer=answer, error=error)
        if choice is None or not (choice.text.strip() or choice.tool_calls):
            said = f" (finish reason {reason!r})" if reason else ""
            return Outcome(finished=True, status="failed", error=f"the model answered nothing{said}")
        state.take(call, response)
        state.ask_for(choice.tool_calls, call if call is None or isinstance(call, CallRef) else call.id)
        choice = await self._edited(state, step, choice)
        if choice.tool_calls:
            return None
        if state.queue:
            observation, state.queue = state.queue, []
            state.put(PUT, observation)
            return Outcome(observation=observation)
        if self.output_type is None or self.output_type is str:
            return Outcome(finished=True, answer=choice.text)
        try:
            return Outcome(finished=True, answer=answer_as(choice.text, self.output_type, inside=self._wraps))
        except InvalidInput as error:
            again = f"This answer is not valid: {error}. Answer again, with nothing but JSON of the schema that was asked for."
            state.put(PUT, [{"role": "user", "content": again}])
            return Outcome(observation=again)

    async def _edited(self, state: State[Agent], step: Step, choice: Choice) -> Choice:
        """Lets the callables see the answer that was just taken in; the answer as they leave it."""
        state.unseen = False
        said, turns, hooks = state.last, state.task._turns, (self.on_answer, state.task.conf.on_answer)
        if said is None or not (turns is not None or any(hooks)):
            return choice
        later: list[Edit] = []
        if turns is not None:  # a replay does what was done
            generated = next(iter(dialects.get(self.dialect).choices(said.response)))
            turn = turns.take(self.name, generated.message)
            edits, state.queue, later = (turn.answered, list(turn.added), turn.later) if turn is not None else ([], [], [])
        else:
            call = said.call.call if isinstance(said.call, CallRef) else said.call
            if said.call is None or call is None:
                return choice
            answer = Answer(self.name, state.task, step, said.call, call)
            answer.tool_calls = choice.tool_calls
            try:
                await told(hooks, answer)
            finally:
                edits = [*said.edits, *answer.edits]
                state.queue = [*state.queue, *answer.added]
        if edits:
            choice = state.revise(said, edits, {}) or choice
            state.ask_for(choice.tool_calls, state.asked_by)
        if later:
            state.revise(said, [*edits, *later], {})
        return choice

    async def _looked_at(self, state: State[Agent], step: Step) -> Outcome | None:
        """An answer of a run that was cut off before its tools."""
        choice = state.read(state.last.response) if state.last is not None else None
        if choice is not None:
            await self._edited(state, step, choice)
        return None

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
        schema = schema | {"$defs": definitions} if definitions else schema
        return strict(schema) or schema

    @property
    def _wraps(self) -> bool:
        return self.output_type is not None and self.output_type is not str and is_wrapped(self._answer_schema())


#: The same turn goes on with the next request.
_PAUSED = ("pause_turn", "compaction")


def _said_in(response: Any) -> str | None:
    """What a provider says in the choice itself of why it stopped."""
    choices = response.get("choices") if isinstance(response, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return said_of(first["error"]) if isinstance(first, dict) and first.get("error") else None


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
