"""A conversation in OpenAI's chat shape, message by message -> steps, calls and actions of a session.

What importers of chat-shaped sessions share. The request of each call is the conversation before it; message objects are
shared between calls and a request is a prefix of one growing list, which keeps long sessions linear.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ..prefix import Prefix
from ..shape import arguments, items, obj, parsed, text, thinking, without
from ..types import Action, LLMCall, Note, StepStart
from .session import Session, observed_where


class Transcript:
    """Give it every message in order: `saw` for what the model was sent, `replied` for what it answered, `result` for tools."""

    def __init__(
        self,
        session: Session,
        *,
        model: str | None = None,
        tools: Any = None,
        dialect: str = "openai.chat",
        agent: str | None = None,
        by_id: bool = False,
    ) -> None:
        self.session = session
        #: Whether records are known by the source's ids of messages: for sources that replace what stands before.
        self.by_id = by_id
        self.dialect = dialect
        #: Whose conversation it is: a sub-agent's name, or None for the session's own agent.
        self.agent = agent
        self.model = model
        self.tools = tools
        self.history: list[Any] = []
        self.step: int = -1
        #: What the next step observes: each content, with the source's own id and the time.
        self._observed: list[tuple[Any, str | None, int | None]] = []
        self._unanswered: list[tuple[Any, str | None, int | None]] = []
        #: How often the model was asked: what a call is known by, where the source has no id for it.
        self._turn = 0
        self._actions: dict[str, Action] = {}
        #: The calls of the last answer, oldest first, for sources whose results carry no id.
        self._asked: deque[Action] = deque()
        #: Of the older `function_call`, which has no id: the last call of each function.
        self._functions: dict[str, Action] = {}

    @property
    def tools(self) -> list[Any]:
        """The tools that the next requests hold, in chat shape. One list is shared between the requests."""
        return self._tools

    @tools.setter
    def tools(self, tools: Any) -> None:
        self._tools = described(tools) if self.dialect == "openai.chat" else items(tools)

    def saw(
        self, message: Any, *, observed: bool | None = None, noted: bool = False, id: str | None = None, when: int | None = None
    ) -> None:
        """A message that the model is sent next; a user's is what the next step observes. `noted`: a record holds it already."""
        self.history.append(message)
        if not noted and obj(message).get("role") not in ("tool", "function"):  # a tool's result is its action's
            self._unanswered.append((message, id, when))
        if observed if observed is not None else obj(message).get("role") == "user":
            self._observed.append((obj(message).get("content"), id, when))

    def told(self, message: Any, *, observed: bool | None = None, when: int | None = None) -> None:
        """A message that the model is sent next. A tool's is the result of the call that it names, where this was asked for."""
        self.saw(message, observed=observed, when=when)
        if obj(message).get("role") == "tool":
            self.result(text(obj(message).get("tool_call_id")), result=obj(message).get("content"))

    def sent(self, messages: list[Any], when: int | None = None) -> None:
        """The whole conversation that a request holds: what is new in it is told. Where a request says otherwise what came
        before, later prompts go on from the request."""
        same = 0
        while same < min(len(messages), len(self.history)) and messages[same] == self.history[same]:
            same += 1
        if same < len(self.history):
            self.history = self.history[:same]
        answered = max((n for n, m in enumerate(messages) if obj(m).get("role") == "assistant"), default=-1)
        for number, message in enumerate(messages[same:], same):
            self.told(message, observed=obj(message).get("role") == "user" and number > answered, when=when)

    def begin(self, when: int | None = None, extra: dict[str, Any] | None = None, id: str | None = None) -> int:
        """Begins the next step; its observation is what was seen since the last. `id` is the source's id of the reply."""
        self.step += 1
        key = self._key(self._turn + 1, id)
        told, self._observed = self._observed, []
        seen = [content for content, _, _ in told]
        observation = seen[0] if len(seen) == 1 else seen or None
        extra = {**(extra or {}), **(_where(told) or {})} or None
        self._unanswered = []
        self._asked.clear()
        self._turn += 1
        started = StepStart(step=self.step, observation=observation, agent=self.agent, source_time=when, extra=extra)
        self.session.add(started, *key)
        return self.step

    def _key(self, turn: int, id: str | None = None) -> tuple[Any, ...]:
        """What a turn is known by: its number, or the id of its first message."""
        name: Any = next((i for _, i, _ in self._unanswered if i), id) if self.by_id else None
        whose = [] if self.agent is None else [self.session.known_as(self.agent)]
        return ("turn", *whose, turn if name is None else name)

    def close(self, when: int | None = None) -> None:
        """The end of the source: the messages that no reply followed are kept in a note. Where the session goes on later, the
        next step takes the note's place."""
        if self._unanswered:
            data: dict[str, Any] = {"messages": [message for message, _, _ in self._unanswered]}
            if self.tools and self._turn == 0:
                data["tools"] = self.tools
            when = when if when is not None else self._unanswered[0][2]
            note = Note(name="unanswered", data=data, agent=self.agent, source_time=when, extra=_where(self._unanswered))
            self.session.add(note, *self._key(self._turn + 1))

    def replied(
        self,
        message: Any,
        *,
        response: Any = None,
        when: int | None = None,
        begin: bool = True,
        request: Any = None,
        id: str | None = None,
        **fields: Any,
    ) -> LLMCall:
        """An answer of the model: a step with its call, and an action for each tool call. `id`: what the source calls it."""
        if begin:
            self.begin(when, id=id)
        if request is None:
            request = {"messages": Prefix(self.history)}
            if self.tools:
                request["tools"] = self.tools
        fields.setdefault("model", self.model)
        if fields.get("reasoning") is None:
            fields["reasoning"] = thinking(obj(message))
        call = self.session.add(
            LLMCall(
                step=self.step,
                agent=self.agent,
                source_time=when,
                origin="transcript",
                dialect=self.dialect,
                request=request,
                response=message if response is None else response,
                **fields,
            ),
            *(("reply", id) if self.by_id and id else ()),
        )
        self.history.append(message)
        for asked in self.session.objects(obj(message), "tool_calls"):
            function = obj(asked.get("function")) or obj(asked.get("custom"))  # a custom tool is given a text
            self.acted(
                str(function.get("name") or ""),
                arguments(function.get("arguments", function.get("input"))),
                id=text(asked.get("id")),
                call=call,
                when=when,
            )
        older = obj(obj(message).get("function_call"))
        if older:
            name = str(older.get("name") or "")
            self._functions[name] = self.acted(name, arguments(older.get("arguments")), call=call, when=when)
        return call

    def acted(
        self, name: str, given: Any, *, id: str | None = None, call: LLMCall | None = None, when: int | None = None, **fields: Any
    ) -> Action:
        """An action of the current step; its result may come later."""
        action = self.session.add(
            Action(
                step=self.step if self.step >= 0 else None,
                agent=self.agent,
                source_time=when,
                name=name,
                arguments=given,
                llm_call=call.id if call else None,
                tool_call_id=id,
                **fields,
            ),
            *(("action", id) if self.by_id and id else ()),
        )
        self._asked.append(action)
        if id:
            self._actions[id] = action
        return action

    def function_result(self, name: str | None, **changes: Any) -> bool:
        """What came of an older `function_call`. False where that function was not called."""
        action = self._functions.pop(name or "", None)
        if action is not None:
            self.session.replace(action, **changes)
        return action is not None

    def next_result(self, name: str | None = None, **changes: Any) -> bool:
        """What came of a call of the last answer, where results carry no id: of the first that waits, or of the first of that
        name. False where none waits."""
        if not self._asked:
            return False
        action = next((a for a in self._asked if a.name == name), self._asked[0])
        self._asked.remove(action)
        self.session.replace(action, **changes)
        return True

    def action(self, id: str | None) -> Action | None:
        """The action of a tool call."""
        return self._actions.get(id or "")

    def result(self, id: str | None, **changes: Any) -> bool:
        """What came of a tool call. False where no call has that id."""
        action = self._actions.get(id or "")
        if action is None:
            return False
        self.session.replace(action, **changes)
        return True


def described(tools: Any) -> list[Any]:
    """Tools in chat shape: some are described flatly (`name`, `description`, `parameters`), and some as JSON texts. Those of
    Anthropic (`input_schema`) stay as they are."""
    return [
        {"type": "function", "function": without(tool, "type")}
        if "name" in obj(tool) and not {"function", "input_schema"} & tool.keys() and tool.get("type", "function") == "function"
        else tool
        for tool in map(parsed, items(parsed(tools)))
    ]


def _where(told: list[tuple[Any, str | None, int | None]]) -> dict[str, Any] | None:
    return observed_where([id for _, id, _ in told], [when for _, _, when in told])
