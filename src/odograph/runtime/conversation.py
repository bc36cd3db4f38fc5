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
from ..calls import Call
from ..capture.recorder import CallRef
from ..codec import encode, encode_finite
from ..dialects import Choice, Result, Tool, ToolCall
from ..errors import InvalidInput
from ..prefix import same_objects
from ..streams import Streams
from ..types import Edit, LLMCall
from .hooks import OnTool
from .mcp import Connections, MCPServer
from .recorded import COMPACTED, asked_as
from .revising import revised, reworded
from .showing import sayable, seen
from .task import AnyAgent, Task
from .template import Template
from .timing import ToolError
from .tools import UsableTool, sanitised


class Leader(Protocol):
    """What a conversation knows of the agent that leads it."""

    name: str
    dialect: str
    system_prompt: str | None
    tools: list[Any]
    once: list[str]
    tool_timeout: float
    max_tool_output: int
    on_tool: OnTool | None
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
        self.covered: int = 0
        self._toolboxes: dict[int, tuple[list[int], dict[str, UsableTool]]] = {}
        self._connections = Connections()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The history that was sent last without its first item, and its JSON.
        self._sent: tuple[list[Any], bytes] = [], b""

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

    def encoded(self, body: dict[str, Any]) -> bytes:
        """The JSON of a request. What of the history was sent before is not encoded again: items are replaced, never changed."""
        name = dialects.get(self.agent.dialect).HISTORY
        items = body.get(name)
        if type(items) is not list or not items:
            return encode_finite(body)
        try:
            return self._with_known(body, name, items)
        except InvalidInput:
            return encode_finite(body)  # which raises, too, and says where in the request it is

    def _with_known(self, body: dict[str, Any], name: str, items: list[Any]) -> bytes:
        rest = items[1:]  # the first may be the system prompt, which each request has anew
        known, data = self._sent
        same = same_objects(known, rest)
        if same < len(known):
            same, data = 0, b""
        for item in rest[same:]:
            data += b"," + encode_finite(item)
        self._sent = rest, data
        whole = b"[%b%b]" % (encode_finite(items[0]), data)
        fields = (encode_finite(k) + b":" + whole if k == name else encode_finite({k: v})[1:-1] for k, v in body.items())
        return b"{%b}" % b",".join(fields)

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
