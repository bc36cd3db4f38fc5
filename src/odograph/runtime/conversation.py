"""A conversation with a model that uses tools: how far it is, and, from what was recorded, where it was left.

Asks no model; an `Agent` leads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from .. import dialects
from ..capture.recorder import CallRef
from ..dialects import Result, Tool, ToolCall
from ..errors import InvalidInput
from ..trajectory import Call, Step, Trajectory, own_steps
from .mcp import Connection, MCPServer
from .recorded import by_call, result_of, take
from .task import AnyAgent, Task
from .tools import ToolError, UsableTool, sanitised, sayable, seen


class Leader(Protocol):
    """What a conversation knows of the agent that leads it."""

    name: str
    dialect: str
    system_prompt: str | None
    tools: list[Any]
    _functions: list[UsableTool]

    @property
    def handoffs(self) -> Sequence[Any]: ...


A = TypeVar("A", bound=Leader)


class State(Generic[A]):
    """Where a conversation is: the history in the agent's dialect, and the tools that were asked for and have no result yet."""

    def __init__(self, agent: A, task: Task | None) -> None:
        self.agent: A = agent
        self.task: Any = task
        self.system: str | None = agent.system_prompt
        self.history: list[Any] = []
        self.pending: list[ToolCall] = []
        self.done: dict[int, Result] = {}
        self.asked_by: CallRef | str | None = None
        self.handoff: tuple[A, str] | None = None
        self.tools: dict[str, UsableTool] = {}
        #: An answer that was recorded and not yet looked at, where a run is continued.
        self.response: Any = None
        self.observation: Any = None if task is None else task.input
        #: Who took over before the run was continued, and inside of which action.
        self.place: tuple[A, str] | None = None
        self._toolboxes: dict[int, dict[str, UsableTool]] = {}
        self._connections: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, messages: list[dict[str, Any]], *, sent: bool = False) -> None:
        """Starts the conversation with chat-shaped messages; those of the system go before all others. `sent`: they are all
        that the model is sent, the system prompt too where they have one."""
        has_own = sent and bool(messages) and messages[0].get("role") in ("system", "developer")
        systems = [self.agent.system_prompt] if self.agent.system_prompt and not has_own else []
        while messages and messages[0].get("role") in ("system", "developer"):
            systems.append(seen(messages[0].get("content")))
            messages = messages[1:]
        self.system = "\n\n".join(systems) if systems else None
        self.history = dialects.get(self.agent.dialect).history(sayable(messages))

    def ask_for(self, calls: list[ToolCall], call: CallRef | str | None) -> None:
        self.pending, self.done, self.asked_by, self.handoff = calls, {}, call, None

    def settle(self) -> None:
        self.pending, self.done, self.asked_by, self.handoff = [], {}, None, None

    def adopt(self, agent: A) -> None:
        """Another agent goes on with the conversation."""
        if agent.dialect != self.agent.dialect:
            old = dialects.get(self.agent.dialect)
            self.history = dialects.get(agent.dialect).history(old.messages({old.HISTORY: self.history}))
        self.agent, self.system = agent, agent.system_prompt

    def known(self, asked: ToolCall) -> Result | None:
        """The recorded result of a tool that a replay does not use again. Other agents are: what they ask is replayed."""
        tool = self.tools.get(asked.name)
        return self.task.known(asked) if tool is None or tool.agent is None else None

    async def connect(self) -> None:
        """The tools of the agent at hand, servers connected."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # connections ended with the loop that they were made in
            self._toolboxes, self._connections, self._loop = {}, [], loop
        known = self._toolboxes.get(id(self.agent))
        if known is not None:
            self.tools = known
            return
        found: list[UsableTool] = list(self.agent._functions)
        for source in self.agent.tools:
            if isinstance(source, MCPServer):
                connection = Connection(source)
                self._connections.append(connection)
                found += await connection.open()
            elif isinstance(source, AnyAgent):
                found.append(_agent_tool(source))
        found += [_handoff_tool(a) for a in self.agent.handoffs]
        refuse_twice([t.tool.name for t in found])
        self.tools = self._toolboxes[id(self.agent)] = {t.tool.name: t for t in found}

    async def aclose(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.close()


def messages_of(given: Any) -> list[dict[str, Any]]:
    """A task's input as chat-shaped messages."""
    if isinstance(given, list) and given and all(isinstance(m, dict) and "role" in m for m in given):
        return list(given)
    if isinstance(given, list) and given and all(isinstance(p, dict) and isinstance(p.get("type"), str) for p in given):
        return [{"role": "user", "content": given}]  # parts: text, images
    return [{"role": "user", "content": seen(given)}]


def _agent_tool(agent: AnyAgent) -> UsableTool:
    about = getattr(agent, "description", None) or f"Gives a task to {agent.name}, which does it and answers."
    given = {"type": "string", "description": "The task, with all that is needed to do it."}
    schema = {"type": "object", "properties": {"input": given}, "required": ["input"], "additionalProperties": False}
    tool = Tool(name=sanitised(agent.name), description=about, parameters=schema)
    return UsableTool(tool=tool, call=_taken, agent=agent)


def _handoff_tool(agent: Any) -> UsableTool:
    about = f"Hands the conversation over to {agent.name}." + (f" {agent.description}" if agent.description else "")
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    return UsableTool(tool=Tool(name=transfer(agent), description=about, parameters=schema), call=_taken)


async def _taken(arguments: dict[str, Any]) -> tuple[Any, str]:
    raise ToolError("the conversation was handed over already")


def transfer(agent: Any) -> str:
    return sanitised(f"transfer_to_{agent.name}")


def refuse_twice(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"two tools are named {name!r}")


# --- where it was left ----------------------------------------------------------------------------------------------------


def continued(agent: A, task: Task, past: Trajectory) -> State[A]:
    """The conversation where the past left it: what the model was sent last, what it answered, and which results are there."""
    state = State(agent, task)
    state.begin(messages_of(past.task))
    steps = own_steps(past)
    if steps:
        state.observation = _observation(steps)
    own = task._fork is None and past is task._past  # not of a parent that this run leaves
    if task._messages is not None and not (own and answered(past)):
        state.begin(task._messages, sent=True)
        return state
    if task._request is not None and not (own and answered(past)):
        _take_request(state, *task._request)
        return state
    handed = {a.id: a.name for s in steps for a in s.actions if a.ok and a.name.startswith("transfer_to_")}
    last: Call | None = None
    for step in steps:
        if own:
            _adopt_inside(state, step, handed)
        last = next((c for c in reversed(step.llm_calls) if c.purpose == "act" and _answered(c)), last)
    if last is None:
        return state
    _take_request(state, last.record.dialect, last.request)
    choice = next(iter(last.choices), None)
    if choice is None or not choice.tool_calls:
        state.response = last.response  # it was final, or is asked again
        return state
    response = last.response
    if _dialect(last) != state.agent.dialect:
        state.history += dialects.get(state.agent.dialect).history([choice.message])
    else:
        state.history += dialects.get(state.agent.dialect).said(response)
    state.ask_for(choice.tool_calls, last.id if own else None)
    _take_results(state, past, last.id, handed)
    if len(state.done) == len(state.pending):  # nothing is under way
        results, handoff = list(state.done.values()), state.handoff
        state.history += dialects.get(state.agent.dialect).results(results)
        state.settle()
        if handoff is not None:
            state.adopt(handoff[0])
            state.place = handoff if own else None
    return state


def _dialect(call: Call) -> str:
    return call.record.dialect or dialects.of_response(call.response, None).NAME


def _answered(call: Call) -> bool:
    return call.record.error is None and bool(call.choices)


def answered(t: Trajectory) -> bool:
    """Whether an agent's own question was answered in it."""
    return any(c.purpose == "act" and _answered(c) for c in t.llm_calls)


def _adopt_inside(state: State[Any], step: Step, handed: dict[str, str]) -> None:
    """Follows a hand-off: the step is inside of the action that made it."""
    inside = handed.get((step.record.parent or "") if step.record else "")
    target = next((a for a in state.agent.handoffs if transfer(a) == inside), None)
    if target is not None and target.name == step.agent:
        state.adopt(target)
        state.place = (target, step.record.parent or "")  # type: ignore[union-attr]


def _take_request(state: State[Any], dialect: str | None, request: Any) -> None:
    """The history of a request, in the agent's own dialect; its system prompt is the agent's."""
    old = dialects.get(dialect)
    held = request.get(old.HISTORY) if isinstance(request, dict) else None
    items = list(held) if isinstance(held, list) else [{"role": "user", "content": held}] if held else []
    if old.NAME == "openai.chat" and state.system is not None and items and items[0].get("role") in ("system", "developer"):
        items = items[1:]
    if state.agent.dialect != old.NAME:
        items = dialects.get(state.agent.dialect).history(old.messages({old.HISTORY: items}))
    state.history = items


def _take_results(state: State[Any], past: Trajectory, call: str, handed: dict[str, str]) -> None:
    found = by_call(a for a in past.actions if a.llm_call == call)
    for index, asked in enumerate(state.pending):
        action = take(found, asked)
        if action is None:
            continue
        state.done[index] = msgspec.structs.replace(result_of(action), name=asked.name)
        target = next((a for a in state.agent.handoffs if transfer(a) == action.name), None)
        if action.id in handed and target is not None:
            state.handoff = (target, action.id)


def _observation(steps: list[Step]) -> Any:
    """The results of the last step's tools."""
    return [
        {"tool_call_id": r.tool_call_id, "name": r.name, "content": r.content, "ok": r.ok}
        for r in map(result_of, steps[-1].actions)
    ]
