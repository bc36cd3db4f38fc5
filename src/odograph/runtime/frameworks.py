"""Other frameworks' agents as agents here: openai-agents, pydantic-ai, LangGraph. Each is a function that runs theirs.

Their model is recorded at its SDK client, call by call, which also makes them step; their tools by the framework's own hooks.
Each framework is imported only by its own function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

from ..capture import scope
from ..capture.scope import Acting
from ..capture.wrap import wrap
from ..codec import snapshot
from ..errors import InvalidInput, MissingExtra
from .functions import FunctionAgent, Helper, acting


def openai_agents(agent: Any, **options: Any) -> FunctionAgent:
    """An agent of openai-agents. `options` go to its `Runner.run` (context, max_turns, ...). Raises MissingExtra."""
    try:
        from agents import FunctionTool, RunHooks, Runner
    except ImportError:
        raise MissingExtra("an agent of openai-agents", "frameworks") from None
    _wrap_client(agent.model, "openai-agents", "_client")

    class Hooks(RunHooks):  # type: ignore[misc]
        """Records what tools do."""

        def __init__(self) -> None:
            self._open: dict[Any, tuple[int, int, Any]] = {}

        async def on_agent_start(self, context: Any, agent: Any) -> None:
            follow(agent.tools)

        async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
            acting(agent.name)

        async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            if getattr(tool, "_agent_instance", None) is not None:
                return  # which `follow` records
            arguments = getattr(context, "tool_arguments", None)
            self._open[_key(context, tool)] = (time.time_ns(), time.perf_counter_ns(), arguments)

        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            if getattr(tool, "_agent_instance", None) is not None:
                return
            started, clock, arguments = self._open.pop(_key(context, tool), (time.time_ns(), time.perf_counter_ns(), None))
            _did(tool.name, _parsed(arguments), result, getattr(context, "tool_call_id", None), started, clock)

    def _key(context: Any, tool: Any) -> Any:
        return getattr(context, "tool_call_id", None) or tool.name

    def follow(tools: list[Any]) -> None:
        """Has agents that are tools record as who they are. Their runs hear of no hooks, so their tools record themselves."""
        for tool in tools:
            if isinstance(tool, FunctionTool) and not hasattr(tool.on_invoke_tool, "follows"):
                helper = getattr(tool, "_agent_instance", None)
                tool.on_invoke_tool = following(tool, tool.on_invoke_tool, helper)
                if helper is not None:
                    with suppress(InvalidInput):  # a model by name: its client is not known here
                        _wrap_client(helper.model, "openai-agents", "_client")
                    follow(helper.tools)

    def following(tool: Any, invoke: Any, helper: Any) -> Any:
        async def invoked(context: Any, given: str) -> Any:
            within = scope.current()
            if within is None or (helper is None and not isinstance(within, Helper)):
                return await invoke(context, given)
            with within.acting(tool.name, _parsed(given), tool_call_id=getattr(context, "tool_call_id", None)) as action:
                with Helper(action, helper.name) if helper is not None else nullcontext():
                    result = await invoke(context, given)
                action.result = snapshot(result)
            return result

        invoked.follows = True  # type: ignore[attr-defined]
        return invoked

    async def run(input: Any) -> Any:
        result = await Runner.run(agent, input, hooks=Hooks(), **options)
        return result.final_output

    return FunctionAgent(run, name=agent.name, model=getattr(agent.model, "model", None))


def pydantic_ai(agent: Any, **options: Any) -> FunctionAgent:
    """An agent of pydantic-ai. `options` go to its `run` (deps, usage_limits, ...). Raises MissingExtra."""
    try:
        from pydantic_ai import messages
    except ImportError:
        raise MissingExtra("an agent of pydantic-ai", "frameworks") from None
    _wrap_client(agent.model, "pydantic-ai", "client")
    _pydantic_ai_recorded()

    async def follow(context: Any, events: Any) -> None:
        open_: dict[str, tuple[int, int, Any]] = {}
        async for event in events:
            if isinstance(event, messages.FunctionToolCallEvent):
                open_[event.part.tool_call_id] = (time.time_ns(), time.perf_counter_ns(), event.part)
            elif isinstance(event, messages.FunctionToolResultEvent):
                result = getattr(event, "part", None) or event.result
                asked = open_.pop(result.tool_call_id, None)
                if asked is not None and result.tool_call_id not in (_used.get() or ()):  # arguments that are wrong, say
                    ok = isinstance(result, messages.ToolReturnPart) and getattr(result, "outcome", "success") == "success"
                    part = asked[2]
                    _did(part.tool_name, part.args_as_dict(), result.content, part.tool_call_id, asked[0], asked[1], ok=ok)

    async def run(input: Any) -> Any:
        _used.set(set())
        result = await agent.run(input, event_stream_handler=follow, **options)
        return result.output

    return FunctionAgent(run, name=agent.name or "agent", model=getattr(agent.model, "model_name", None))


#: The tool calls that were recorded as they were used, in the run of an agent of pydantic-ai.
_used: ContextVar[set[str] | None] = ContextVar("odograph_pydantic_ai_used", default=None)


@cache
def _pydantic_ai_recorded() -> None:
    """Has agents of pydantic-ai record their tools in our runs, and agents that a tool runs record as who they are."""
    from pydantic_ai import Agent
    from pydantic_ai.capabilities import AbstractCapability

    class Tools(AbstractCapability[Any]):  # type: ignore[misc]
        """Records what tools do, and what happens inside of them."""

        async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
            within, used = scope.current(), _used.get()
            if within is None or used is None:
                return await handler(args)
            used.add(call.tool_call_id)
            with within.acting(call.tool_name, call.args_as_dict(), tool_call_id=call.tool_call_id) as action:
                result = await handler(args)
                action.result = snapshot(getattr(result, "return_value", result))
            return result

        async def after_node_run(self, ctx: Any, *, node: Any, result: Any) -> Any:
            """Records calls that came to no tool: of one that is not known, with arguments that are wrong."""
            asked = {call.tool_call_id: call for call in getattr(getattr(node, "model_response", None), "tool_calls", ())}
            answers = getattr(getattr(result, "request", None), "parts", ()) if isinstance(scope.current(), Helper) else ()
            for part in answers:  # of the outermost agent, the events tell
                call = asked.get(getattr(part, "tool_call_id", None))
                known = None if call is None else ctx.tool_manager.get_tool_def(call.tool_name)
                if call is not None and call.tool_call_id not in (_used.get() or ()) and getattr(known, "kind", "") != "output":
                    now = time.time_ns(), time.perf_counter_ns()
                    _did(call.tool_name, _parsed(call.args), part.content, call.tool_call_id, *now, ok=False)
            return result

    begun = Agent.iter

    @asynccontextmanager
    @wraps(begun)
    async def iter(self: Any, *args: Any, capabilities: Any = None, **options: Any) -> Any:
        within = scope.current() if _used.get() is not None else None
        if within is not None:
            capabilities = [*(capabilities or ()), Tools()]
            with suppress(InvalidInput):  # a model by name: its client is not known here
                _wrap_client(options.get("model") or self.model, "pydantic-ai", "client")
        with Helper(within, self.name or "agent") if isinstance(within, Acting) else nullcontext():
            async with begun(self, *args, capabilities=capabilities, **options) as run:
                yield run

    Agent.iter = iter


def langgraph(graph: Any, *models: Any, name: str | None = None, answer: Callable[[Any], Any] | None = None) -> FunctionAgent:
    """A compiled LangGraph graph with the chat models that it asks (`ChatOpenAI`, `ChatAnthropic`: what has an SDK client).

    A text is given to it as `{"messages": [("user", text)]}`, anything else as it is; the answer is the last message's text, or
    what `answer` makes of the final state. Graphs inside of the graph are agents of their own, by the names of their nodes.
    Raises MissingExtra.
    """
    try:
        from langchain_core.callbacks import AsyncCallbackHandler
    except ImportError:
        raise MissingExtra("a LangGraph graph", "frameworks") from None
    for model in models:
        _wrap_client(model, "LangGraph", "root_async_client", "_async_client")

    class Hooks(AsyncCallbackHandler):  # type: ignore[misc]
        """Records what tools do."""

        run_inline = True

        def __init__(self) -> None:
            self._open: dict[Any, tuple[int, int, Any, Any]] = {}

        async def on_chat_model_start(self, serialized: Any, messages: Any, *, metadata: Any = None, **more: Any) -> None:
            # "researcher:UUID|agent:UUID": nodes from the outside in; the last is the node that asks, not an agent
            place = str((metadata or {}).get("langgraph_checkpoint_ns") or "").split("|")[:-1]
            acting(place[-1].partition(":")[0] if place else own_name)

        async def on_tool_start(self, serialized: Any, input_str: str, *, run_id: Any, inputs: Any = None, **more: Any) -> None:
            name = (serialized or {}).get("name") or more.get("name") or "tool"
            self._open[run_id] = (time.time_ns(), time.perf_counter_ns(), name, inputs if inputs is not None else input_str)

        async def on_tool_end(self, output: Any, *, run_id: Any, **more: Any) -> None:
            started, clock, name, inputs = self._open.pop(run_id)
            content, id = getattr(output, "content", output), getattr(output, "tool_call_id", None)
            ok = getattr(output, "status", "success") != "error"
            _did(name, inputs, content, id or more.get("tool_call_id"), started, clock, ok=ok)

        async def on_tool_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
            started, clock, name, inputs = self._open.pop(run_id)
            _did(name, inputs, error, more.get("tool_call_id"), started, clock, ok=False)

    own_name = name or getattr(graph, "name", None) or "graph"

    async def run(input: Any) -> Any:
        given = {"messages": [("user", input)]} if isinstance(input, str) else input
        state = await graph.ainvoke(given, config={"callbacks": [Hooks()]})
        if answer is not None:
            return answer(state)
        messages = state.get("messages") if isinstance(state, dict) else None
        return messages[-1].text if messages else state

    own = getattr(models[0], "model_name", None) if models else None
    return FunctionAgent(run, name=own_name, model=own)


def _did(name: str, arguments: Any, result: Any, id: str | None, started: int, clock: int, ok: bool = True) -> None:
    within = scope.current()
    if within is None:
        return
    error = result if isinstance(result, BaseException) else None
    took = time.perf_counter_ns() - clock
    kept = None if error is not None else snapshot(result)
    within.action(name, arguments, kept, ok=ok, error=error, tool_call_id=id, started=started, duration=took)


def _parsed(arguments: Any) -> Any:
    from ..codec import loads
    from ..errors import InvalidInput

    try:
        return loads(arguments) if isinstance(arguments, str) else arguments
    except InvalidInput:
        return arguments


def _wrap_client(model: Any, framework: str, *names: str) -> None:
    """Wraps the SDK client that a framework's model holds."""
    for name in names:
        client = getattr(model, name, None)
        if client is not None and hasattr(client, "_client"):
            wrap(client)
            return
    raise InvalidInput(
        f"the model of this {framework} agent ({type(model).__name__}) holds no client of the openai or anthropic SDK; give the"
        " agent a model object with such a client"
    )
