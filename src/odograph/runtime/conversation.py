"""A conversation with a model that uses tools: how far it is, and, from what was recorded, where it was left.

Asks no model; an `Agent` leads it.
"""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from .. import dialects
from ..capture.recorder import CallRef
from ..codec import encode
from ..dialects import Choice, Result, Tool, ToolCall
from ..errors import InvalidInput
from ..streams import Streams
from ..trajectory import Call, Step, Trajectory, own_steps
from ..types import Action, Edit, LLMCall
from .mcp import Connections, MCPServer
from .recorded import BEGUN, COMPACTED, PUT, Turns, asked_as, by_call, decision_of, result_of, take
from .revising import revised, reworded
from .task import AnyAgent, Task
from .template import Template
from .tools import ToolError, UsableTool, sanitised, sayable, seen


class Leader(Protocol):
    """What a conversation knows of the agent that leads it."""

    name: str
    dialect: str
    system_prompt: str | None
    tools: list[Any]
    _functions: list[UsableTool]

    @property
    def template(self) -> Template | None: ...

    @property
    def in_ids(self) -> bool:
        """Whether the backend is sent token ids."""
        ...

    @property
    def handoffs(self) -> Sequence[Any]: ...


A = TypeVar("A", bound=Leader)


class Said(msgspec.Struct):
    """An answer in the history: which call it is of, where it stands, and what was changed of it."""

    call: CallRef | Call | None
    response: Any
    #: The first of its items in the history, and how many there are.
    index: int
    count: int
    edits: list[Edit] = []
    calls: dict[int, ToolCall] = {}
    #: Where its token ids stand in those of the conversation.
    start: int = 0
    stop: int = 0

    @property
    def id(self) -> str | None:
        return self.call.id if self.call is not None else None


class State(Generic[A]):
    """Where a conversation is: the history in the agent's dialect, and the tools that were asked for and have no result yet.

    With a backend that takes token ids, the history is chat-shaped, and `ids` are those of its first `covered` messages.
    """

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
        self.response: tuple[Call, Any] | None = None
        self.observation: Any = None if task is None else task.input
        #: Who took over before the run was continued, and inside of which action.
        self.place: tuple[A, str] | None = None
        #: The answers that stand in the history, by the ids of their calls, and the last one.
        self.said: dict[str, Said] = {}
        self.last: Said | None = None
        #: Messages to be put in behind the results of the tools, and whether the callables saw this prompt, and this answer.
        self.queue: list[dict[str, Any]] = []
        self.prompted = False
        #: Tool calls that were begun before the run was cut off, and are not to be repeated.
        self.begun: set[str] = set()
        #: Whether a tool was used: a choice of tools is made for the first use.
        self.used = False
        self.unseen = False
        self.ids: list[int] | None = None
        self.covered = 0
        self._toolboxes: dict[int, tuple[list[int], dict[str, UsableTool]]] = {}
        self._connections = Connections()
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
        self.history = self.shaped(sayable(messages))

    def ask_for(self, calls: list[ToolCall], call: CallRef | str | None) -> None:
        self.pending, self.done, self.asked_by, self.handoff = calls, {}, call, None

    def settle(self) -> None:
        self.pending, self.done, self.asked_by, self.handoff = [], {}, None, None

    def adopt(self, agent: A) -> None:
        """Another agent goes on with the conversation."""
        messages = self.messages if (agent.dialect, agent.in_ids) != (self.agent.dialect, self.agent.in_ids) else None
        self.agent, self.system = agent, agent.system_prompt
        self.ids, self.covered = None, 0  # another system prompt
        if messages is not None:
            self.history = self.shaped(messages)
            self.said = {}

    # --- the history ----------------------------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The history, chat-shaped."""
        dialect = dialects.get(self.agent.dialect)
        return list(self.history) if self.agent.in_ids else dialect.messages({dialect.HISTORY: self.history})

    def shaped(self, messages: list[dict[str, Any]]) -> list[Any]:
        """Chat-shaped messages in the form of the history."""
        return messages if self.agent.in_ids else dialects.get(self.agent.dialect).history(messages)

    def put(self, name: str, messages: list[dict[str, Any]]) -> None:
        """Takes messages in: behind the history, or in its place."""
        if name == COMPACTED:
            self.history, self.said, self.ids, self.covered = [], {}, None, 0
        self.history = [*self.history, *self.shaped(messages)]

    def read(self, response: Any, ids: list[int] | None = None, place: int | None = None) -> Choice | None:
        """The answer of a response; of a backend of token ids, of `ids` where they were edited."""
        choice = next(iter(dialects.get(self.agent.dialect).choices(response)), None)
        template = self.agent.template
        if choice is None or not self.agent.in_ids or template is None:
            return choice
        ids = choice.token_ids if ids is None else ids
        text = choice.text if ids is None else template.decode(ids)
        message = template.message(text, str(len(self.history) if place is None else place))
        # the ids of tool calls are made here: no record of a call has them
        calls = [ToolCall(None, c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls") or ()]
        return msgspec.structs.replace(
            choice, message=message, text=message["content"] or "", tool_calls=calls, reasoning=message.get("reasoning_content")
        )

    def results(self, results: list[Result]) -> list[Any]:
        """The results of tools in the form of the history."""
        if self.agent.in_ids:
            made = self.history[-1].get("tool_calls") if self.history else None
            ids = [c.get("id") for c in made] if made and len(made) == len(results) else [None] * len(results)
            return [
                {"role": "tool", "tool_call_id": id, "name": r.name, "content": r.content}
                for id, r in zip(ids, results, strict=True)
            ]
        if self.last is not None and any(r.tool_call_id is None for r in results):
            ids = [call[name] for call, name in _calls_in(self.history[self.last.index : self.last.index + self.last.count])]
            if len(ids) == len(results):
                results = [msgspec.structs.replace(r, tool_call_id=id) for r, id in zip(results, ids, strict=True)]
        return dialects.get(self.agent.dialect).results(results)

    def take(self, call: CallRef | Call | None, response: Any) -> Said:
        """Takes an answer into the history."""
        items = self._items(response, None)
        said = Said(call, response, len(self.history), len(items))
        if self.ids is not None and self.agent.template is not None:
            choice = next(iter(dialects.get(self.agent.dialect).choices(response)), None)
            if choice is not None and choice.token_ids is not None:
                said.start = len(self.ids)
                self.ids = [*self.ids, *self.agent.template.ended(choice.token_ids)]
                said.stop, self.covered = len(self.ids), len(self.history) + 1
            else:  # the text is all that is known
                self.ids, self.covered = None, 0
        self.history = [*self.history, *items]
        self.last = said
        if said.id is not None:
            self.said[said.id] = said
        return said

    def _items(self, response: Any, ids: list[int] | None, place: int | None = None) -> list[Any]:
        if not self.agent.in_ids:
            return _with_ids(dialects.get(self.agent.dialect).said(response), len(self.history) if place is None else place)
        choice = self.read(response, ids, place)
        return [] if choice is None else [choice.message]

    def revise(self, said: Said, edits: list[Edit], calls: dict[int, ToolCall]) -> Choice | None:
        """Puts an answer as edits and other tool calls leave it in its place: the answer as it stands. Raises InvalidInput."""
        call = said.call.call if isinstance(said.call, CallRef) else said.call
        if call is None:
            call = Call(LLMCall(id=said.id or "", dialect=self.agent.dialect, response=said.response), Streams())
        made = revised(call, edits, self.agent.template, in_ids=self.agent.in_ids, known=self._known)
        response = said.response if self.agent.in_ids else reworded(self.agent.dialect, said.response, made, calls)
        items = self._items(response, made.ids, said.index)
        if self.agent.in_ids and calls and items:
            asked = items[0].get("tool_calls") or ()
            items = [items[0] | {"tool_calls": [_recalled(c, calls[n]) if n in calls else c for n, c in enumerate(asked)]}]
        if self.ids is not None and said.stop and said.stop <= len(self.ids):
            self._set_ids(said, call, made.ids, items if calls else None)
        said.edits, said.calls = edits, calls
        moved = len(items) - said.count
        self.history = [*self.history[: said.index], *items, *self.history[said.index + said.count :]]
        for other in self.said.values():
            if other.index > said.index:
                other.index += moved
        said.count = len(items)
        self.covered += moved if self.covered > said.index else 0
        return self.read(response, made.ids, said.index)

    def _known(self, id: str) -> Call | None:
        said = self.said.get(id)
        return None if said is None else said.call.call if isinstance(said.call, CallRef) else said.call

    def _set_ids(self, said: Said, call: Call, ids: list[int] | None, items: list[Any] | None) -> None:
        """The ids of an edited answer in the place of those of the answer."""
        template, own = self.agent.template, next((c.token_ids for c in call.choices), None)
        assert template is not None
        assert self.ids is not None
        new = template.answer(items[0]) if items else template.ended(own or [] if ids is None else ids)
        if new is None:
            self.ids, self.covered = None, 0
            return
        self.ids = [*self.ids[: said.start], *new, *self.ids[said.stop :]]
        moved = len(new) - (said.stop - said.start)
        said.stop += moved
        for other in self.said.values():
            if other.start > said.start:
                other.start, other.stop = other.start + moved, other.stop + moved

    @property
    def last_call(self) -> CallRef | Call | None:
        """The call that an edit between steps is of."""
        return self.last.call if self.last is not None else None

    def edited(self, edit: Edit) -> None:
        """An edit between steps: the model sees the edited answer from now on. Raises InvalidInput."""
        said = self.said.get(edit.base)
        if said is None:
            raise InvalidInput("the answer is not in the conversation any more; there are: " + (", ".join(self.said) or "none"))
        self.revise(said, [*said.edits, edit], said.calls)

    # --- tools ----------------------------------------------------------------------------------------------------------------

    def begin_once(self, asked: ToolCall) -> bool:
        """Whether a tool that is not to be repeated may be used."""
        return asked_as(asked) not in self.begun

    def known(self, asked: ToolCall) -> Result | None:
        """The recorded result of a tool that a replay does not use again. Other agents are: what they ask is replayed."""
        tool = self.tools.get(asked.name)
        return self.task.known(asked) if tool is None or tool.agent is None else None

    async def connect(self) -> None:
        """The tools of the agent at hand, servers connected."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # connections ended with the loop that they were made in
            self._toolboxes, self._connections, self._loop = {}, Connections(), loop
        sources = [s for s in self.agent.tools if isinstance(s, MCPServer)]
        connections = [self._connections.to(s) for s in sources]
        versions, known = self._toolboxes.get(id(self.agent), ([], None))
        if known is not None and versions == [c.version for c in connections]:
            self.tools = known
            return
        versions = [c.version for c in connections]
        servers = [(source, await c.tools()) for source, c in zip(sources, connections, strict=True)]
        found: list[UsableTool] = list(self.agent._functions)
        found += [_agent_tool(source) for source in self.agent.tools if isinstance(source, AnyAgent)]
        found += [_handoff_tool(a) for a in self.agent.handoffs]
        found += _told_apart(found, servers)
        refuse_twice([t.tool.name for t in found])
        self.tools = {t.tool.name: t for t in found}
        self._toolboxes[id(self.agent)] = versions, self.tools

    async def aclose(self) -> None:
        await self._connections.aclose()


def _told_apart(known: list[UsableTool], servers: list[tuple[MCPServer, list[UsableTool]]]) -> list[UsableTool]:
    """The tools of servers. Where names are taken by others, they have the name of their server before them."""
    names = Counter([t.tool.name for t in known] + [t.tool.name for _, tools in servers for t in tools])
    labels = Counter(s.label for s, tools in servers if any(names[t.tool.name] > 1 for t in tools))
    out: list[UsableTool] = []
    for number, (server, tools) in enumerate(servers):
        label = server.label if labels[server.label] <= 1 else f"{server.label}_{number}"
        for tool in tools:
            if names[tool.tool.name] > 1:
                named = msgspec.structs.replace(tool.tool, name=sanitised(f"{label}_{tool.tool.name}"))
                tool = msgspec.structs.replace(tool, tool=named)
            out.append(tool)
    return out


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
        _take_request(state, *task._request, past)
        state.prompted = True  # the recorded prompt has what was put in
        return state
    handed = {a.id: a.name for s in steps for a in s.actions if a.ok and a.name.startswith("transfer_to_")}
    last: Call | None = None
    for step in steps:
        if own:
            _adopt_inside(state, step, handed)
        last = next((c for c in reversed(step.llm_calls) if c.purpose == "act" and _answered(c)), last)
    if last is None:
        return state
    turns = Turns(past)
    _take_request(state, last.record.dialect, last.request, past, last)
    turn = turns[last.id]
    choice = state.read(last.response) if _dialect(last) == state.agent.dialect else next(iter(last.choices), None)
    changed = turn is not None and bool(turn.answered or turn.later)
    state.queue = list(turn.added) if turn is not None else []
    if choice is None or not (choice.tool_calls or changed or state.queue):
        state.response = last, last.response  # it was final, or is asked again
        return state
    if _dialect(last) != state.agent.dialect:
        edits = [*turn.answered, *turn.later] if turn is not None else []
        made = reworded(_dialect(last), last.response, revised(last, edits, None, in_ids=False), {})
        answered_ = next(iter(dialects.get(_dialect(last)).choices(made)), choice)
        state.history += state.shaped([answered_.message])
    else:
        said = state.take(last, last.response)
        if turn is not None and turn.answered:
            choice = state.revise(said, turn.answered, {}) or choice
    if not choice.tool_calls and not state.queue:  # an edited answer that is final
        state.response = last, last.response
        return state
    state.ask_for(choice.tool_calls, last.id if own else None)
    state.used = any(s.actions for s in steps)
    notes = [n for s in steps for n in s.notes if n.name == BEGUN and isinstance(n.data, dict)]
    ended = by_call(a for s in steps for a in s.actions).keys()
    state.begun = {str(n.data.get("call")) for n in notes} - ended if own else set()
    _take_results(state, past, last.id, handed)
    state.unseen = own and not state.done and turn is not None and not turn.answered
    if turn is not None and turn.later and state.last is not None:
        state.revise(state.last, [*turn.answered, *turn.later], state.last.calls)
    if len(state.done) == len(state.pending):  # nothing is under way
        results, handoff = list(state.done.values()), state.handoff
        if results:
            state.history += state.results(results)
        state.settle()
        if handoff is not None:
            state.adopt(handoff[0])
            state.place = handoff if own else None
        put = turns.open.get(state.agent.name, [])
        for name, messages in [*([(PUT, state.queue)] if state.queue else []), *put]:
            state.put(name, messages)
        state.queue, state.prompted = [], bool(put)
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


def _take_request(state: State[Any], dialect: str | None, request: Any, past: Trajectory, call: Call | None = None) -> None:
    """The history of a request, in the agent's own dialect; its system prompt is the agent's."""
    old = dialects.get(dialect)
    if state.agent.in_ids and state.agent.dialect == old.NAME:
        ids = dialects.prompt_ids(call.record) if call is not None else _ids_of(old, request)
        state.ids = None if ids is None else list(ids)
        _say_again(state, past, call)
        state.covered = len(state.history) if ids is not None else 0
        return
    held = request.get(old.HISTORY) if isinstance(request, dict) else None
    items = list(held) if isinstance(held, list) else [{"role": "user", "content": held}] if held else []
    if old.NAME == "openai.chat" and state.system is not None and items and items[0].get("role") in ("system", "developer"):
        items = items[1:]
    if state.agent.in_ids:
        state.history = old.messages({old.HISTORY: items})
    elif state.agent.dialect != old.NAME:
        items = dialects.get(state.agent.dialect).history(old.messages({old.HISTORY: items}))
        state.history = items
    else:
        state.history = items


def _say_again(state: State[Any], past: Trajectory, call: Call | None) -> None:
    """The messages before a call (None: all), of what was recorded: the ids that were sent tell no messages."""
    actions: dict[str | None, list[Action]] = {}
    for action in past.actions:
        actions.setdefault(action.llm_call, []).append(action)
    for turn in Turns(past).turns:
        for name, messages in turn.prompted:
            state.put(name, messages)
        if call is not None and turn.call.id == call.id:
            return
        edits = [*turn.answered, *turn.later]
        made = revised(turn.call, edits, state.agent.template, in_ids=True)
        state.history += state._items(turn.call.response, made.ids)
        state.history += state.results([result_of(a) for a in actions.get(turn.call.id, ())])
        state.put(PUT, turn.added)


def _ids_of(dialect: Any, request: Any) -> list[int] | None:
    """The token ids of a prompt as they were sent."""
    paths = [path for path in dialect.PROMPT_IDS if path[0] == "request"]
    return next((ids for path in paths if (ids := dialects.ids_at({"request": request}, path)) is not None), None)


def _calls_in(items: list[Any]) -> list[tuple[dict[str, Any], str]]:
    """The tool calls in an answer, and the field of each that has its id; Gemini's need none."""
    found: list[tuple[dict[str, Any], str]] = []
    for item in items:
        if not isinstance(item, dict):
            continue
        calls, content = item.get("tool_calls"), item.get("content")
        found += [(call, "id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        if isinstance(content, list):
            found += [(part, "id") for part in content if isinstance(part, dict) and part.get("type") == "tool_use"]
        if item.get("type") == "function_call":
            found.append((item, "call_id"))
    return found


def _with_ids(items: list[Any], place: int) -> list[Any]:
    """An answer whose tool calls all have ids: some models give none, and the APIs want a result to name its call."""
    if all(call.get(name) for call, name in _calls_in(items)):
        return items
    items = copy.deepcopy(items)
    for n, (call, name) in enumerate(_calls_in(items)):
        call[name] = call.get(name) or f"call_{place}_{n}"
    return items


def _recalled(old: dict[str, Any], new: ToolCall) -> dict[str, Any]:
    written = new.arguments if isinstance(new.arguments, str) else encode(new.arguments).decode()
    return {**old, "function": {"name": new.name, "arguments": written}}


def _take_results(state: State[Any], past: Trajectory, call: str, handed: dict[str, str]) -> None:
    found = by_call(a for a in past.actions if a.llm_call == call)
    changed: dict[int, ToolCall] = {}
    for index, asked in enumerate(state.pending):
        action = take(found, asked)
        if action is None:
            continue
        state.done[index] = msgspec.structs.replace(result_of(action), name=asked.name)
        if decision_of(action).get("what") == "changed":
            state.pending[index] = ToolCall(asked.id, action.name, action.arguments)
            changed[index] = state.pending[index]
        target = next((a for a in state.agent.handoffs if transfer(a) == action.name), None)
        if action.id in handed and target is not None:
            state.handoff = (target, action.id)
    if changed and state.last is not None:
        state.revise(state.last, state.last.edits, changed)


def _observation(steps: list[Step]) -> Any:
    """The results of the last step's tools."""
    return [
        {"tool_call_id": r.tool_call_id, "name": r.name, "content": r.content, "ok": r.ok}
        for r in map(result_of, steps[-1].actions)
    ]
