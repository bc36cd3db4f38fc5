"""What is held in memory of the trajectories that calls are recorded in: their conversations, and tool calls without a result."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from .. import dialects
from ..calls import Call
from ..capture.run import Run
from ..capture.scope import Scope
from ..codec import loads_or_raw, new_id
from ..dialects.content import text_of
from ..trajectory import Trajectory
from . import conversations
from .conversations import Asked

#: Roles of messages that say what a tool gave back.
_RESULTS = ("tool", "function")
_AGAIN = "\0"
_MOST_DONE = 10
_MOST_SAID = 1 << 14  # characters of arguments that may be what an agent is told


class Pending:
    """A tool call that has no result yet."""

    __slots__ = ("arguments", "asked", "call", "id", "name", "parent", "scope", "tool_call_id")

    def __init__(self, scope: Scope, call: str, asked: int, tool: dialects.ToolCall) -> None:
        #: The step that asked for it, the call, and when the call was answered.
        self.scope: Scope = scope
        self.call: str = call
        self.asked: int = asked
        self.name: str = tool.name or "unnamed"
        self.arguments: Any = tool.arguments
        self.tool_call_id: str | None = tool.id
        #: The id that its action will have, and whether records inside of it were written.
        self.id: str = new_id()
        self.parent: bool = False

    def write(self, result: Any = None, *, failed: bool = False, until: int | None = None) -> None:
        given = arguments_of(self.arguments)
        about: dict[str, Any] = {"tool_call_id": self.tool_call_id, "llm_call": self.call, "id": self.id}
        if until is not None:
            about |= {"started": self.asked, "duration": max(0, until - self.asked)}
        self.scope.action(self.name, given, result, ok=False if failed else None, **about)


def arguments_of(value: Any) -> Any:
    """A tool call's arguments: the object that its JSON text holds, else what stands there."""
    if isinstance(value, str):
        found = loads_or_raw(value.encode("utf-8", "replace"))
        return found if isinstance(found, dict) and "$odograph" not in found else value
    return value


class Talk:
    """One conversation of one agent."""

    def __init__(self, trail: Trail, scope: Scope, tools: bool, asked: Asked | None = None) -> None:
        """`asked`: its first request; None where the conversation is `learned` from the store."""
        self.trail = trail
        self.scope = scope
        self.tools = tools
        self.who = b"" if asked is None else asked.who
        self.prompt = b"" if asked is None else asked.prompt
        #: The last request that was answered: how many items, the hash of them (of their values, where it was `learned` from the
        #: store, which keeps no bytes), and the answer.
        self.count = 0
        self.tip = b""
        self.learned = False
        self.answer = conversations.Said()
        #: The last call of a `learned` conversation, where it failed.
        self.failed: Attempt | None = None
        self.pending: OrderedDict[str, Pending] = OrderedDict()
        #: The last ones that have a result: a call may start an agent and return at once.
        self.done: deque[Pending] = deque(maxlen=_MOST_DONE)

    def is_begun_by(self, asked: Asked) -> bool:
        """Whether a request begins with the last one of this conversation."""
        marks = asked.values if self.learned else asked.marks
        return 0 < self.count <= len(marks) and marks[self.count - 1] == self.tip

    def is_left_by(self, asked: Asked) -> bool:
        """Whether a request has no tools and another system prompt: it may sum the history up, and is not its work."""
        return self.tools and not asked.tools and self.prompt not in (b"", asked.prompt)

    def brings(self, asked: Asked) -> list[dict[str, Any]]:
        """The messages that a request brings: those behind the last request, or behind the last answer where the agent edited
        what came before. Tool calls that have other ids there get these, where their agent names them itself."""
        extends = self.is_begun_by(asked)
        messages = asked.messages(asked.lead + self.count if extends else 0)
        if self.count and not extends:
            messages = conversations.since(messages, self.answer)
        sent = next((said for _, said in conversations.answers_in(messages)), conversations.Said())
        if self.pending and (extends or self.answer.is_renamed(sent)):
            self._rename(sent.calls)
        return messages

    def take(self, asked: Asked, until: int) -> list[dict[str, Any]]:
        """Records the results of tools that a request brings, which began at a time, as actions of the call that asked for them.
        Returns the messages that the request brings."""
        extends, messages = self.is_begun_by(asked), self.brings(asked)
        failed = asked.failed(asked.lead + self.count if extends else 0) if self.pending else set()
        for message in messages:
            pending = self._waited(str(message.get("tool_call_id"))) if message.get("role") in _RESULTS else None
            if pending is not None:
                pending.write(message.get("content"), failed=pending.tool_call_id in failed, until=until)
                if not isinstance(pending.arguments, str) or len(pending.arguments) < _MOST_SAID:
                    self.done.append(pending)
        return messages

    def wait(self, pending: Pending) -> None:
        """A tool call waits for its result. Calls of one answer may have the same id: their results come in their order."""
        key = str(pending.tool_call_id)
        while key in self.pending and self.pending[key].call == pending.call:
            key += _AGAIN
        self.pending[key] = pending

    def _waited(self, key: str) -> Pending | None:
        """The tool call whose result came."""
        found = self.pending.pop(key, None)
        while (other := self.pending.pop(key + _AGAIN, None)) is not None:
            self.pending[key] = other
            key += _AGAIN
        return found

    def _rename(self, sent: Sequence[tuple[str, str]]) -> None:
        """Each id of the agent's own belongs to the open call of its name that comes first."""
        ids = {id for id, _ in sent}
        for id, name in sent:
            if id not in self.pending:
                old = next((key for key, one in self.pending.items() if one.name == name and key not in ids), None)
                if old is not None:
                    self.pending[id] = self.pending.pop(old)

    def summaries(self) -> list[str]:
        """What may sum it up: its last answer, and that of the last call beside it."""
        texts = ("" if self.answer.calls else self.answer.text, self.trail.summary)
        return [text for text in texts if len(text) >= conversations.LONG]

    def is_repeated_by(self, asked: Asked) -> bool:
        """Whether a request is the last one of this conversation, which failed before the proxy began."""
        return self.failed is not None and self.count == len(asked.values) and self.is_begun_by(asked)


class Trail:
    """One trajectory that calls are recorded in."""

    def __init__(self, key: tuple[Any, ...], run: Run, ends: bool, task: Any) -> None:
        self.key = key
        self.run = run
        self.task = task
        #: Whether an answer without tool calls ends it; else whoever made it ends it.
        self.ends = ends
        #: Whether its task is what a call beside the work said.
        self.guessed = False
        #: What the last call beside the work answered, which may sum the work up.
        self.summary = ""
        self.talks: list[Talk] = []
        self.by_agent: dict[tuple[Any, ...], Talk] = {}
        self.names: Counter[str] = Counter()
        self.calls = 0
        self.failed = 0

    @property
    def main(self) -> Talk | None:
        return self.talks[0] if self.talks else None

    def learn(self, t: Trajectory, clean: Callable[[Any], Any]) -> None:
        """What was recorded before: its agents, where their conversations stand, and the tool calls that have no result.
        `clean`: what the store makes of a message."""
        done = {(a.llm_call, a.tool_call_id) for a in t.actions}  # ids of tool calls may be used again
        talks: dict[str | None, tuple[Talk, Call]] = {}
        inside: dict[str, str] = {}  # what was said to agents, by the action that they were started in
        if t.agent is not None:
            self.names[t.agent] = 1
        for step in t.steps:
            agent = None if step.agent == t.agent else step.agent
            within = step.record.parent if step.record is not None else None
            for call in step.llm_calls:
                if agent not in talks:
                    scope = self.run if within is None else self.run.inside(within)
                    talk = Talk(self, self.run if agent is None else scope.sub_agent(agent), bool(call.tools))
                    if agent is not None:
                        self.names[agent] += 1
                        inside |= {} if within is None else {within: text_of(step.observation)}
                else:
                    talk = talks[agent][0]
                talks[agent] = talk, call
                for tool in call.choices[0].tool_calls if call.choices else []:
                    if (call.id, tool.id) not in done:
                        talk.wait(Pending(self.run.at(step), call.id, call.time, tool))
        there = {r.id for r in t.records}
        for talk, call in talks.values():
            dialect = dialects.get(call.dialect)
            asked = Asked(dialect, call.request, clean)
            if asked.values:
                talk.count, talk.tip, talk.learned = len(asked.values), asked.values[-1], True
                if call.error is not None:
                    fields = ("status_code", "error", "started", "duration")
                    tried = [*(call.extra or {}).get("retries", ()), {name: getattr(call, name) for name in fields}]
                    at = self.run.at(next(s for s in t.steps if call in s.llm_calls))
                    talk.failed = Attempt(self, talk, at, "act", call.id, tried, call.time)
            talk.answer = conversations.signature(conversations.answer_of(dialect, call.request, call.response))
            for pending in talk.pending.values():  # an agent that it started has records inside of its action already
                started = (id for id, text in inside.items() if id not in there and conversations.asks(pending.arguments, [text]))
                if (id := next(started, None)) is not None:
                    pending.id, pending.parent = id, True
        self.talks = [talk for talk, _ in talks.values()]


def answering(asked: Asked, trails: Iterable[Trail], *, left: bool = False) -> Talk | None:
    """The only conversation whose answer is the last one that a request holds: its agent edited what came before. Else the one
    whose agent begins anew with what was answered: a summary. `left`: also a conversation that the request sums up."""
    talks = [talk for one in trails for talk in one.talks]
    last = next((said for _, said in conversations.answers_in(asked.messages())), conversations.Said())
    found = [talk for talk in talks if last.is_telling and talk.answer == last and (left or not talk.is_left_by(asked))]
    found = [talk for talk in found if talk.who == asked.who] or found
    if not found and asked.tools:
        first = asked.first()
        found = [t for t in talks if t.who == asked.who and any(text in one for text in t.summaries() for one in first)]
    return found[0] if len(found) == 1 else None


def starting(said: list[str], trails: Iterable[Trail], done: Trail | None) -> tuple[Talk, Pending] | None:
    """The tool call that started the agent whose user says this, and its conversation. Of several, one that started none yet.
    `done`: the trail of which calls that have a result count, too."""
    found = [
        (talk, pending)
        for one in trails
        for talk in one.talks
        for pending in (*talk.pending.values(), *(talk.done if one is done else ()))
        if conversations.asks(pending.arguments, said)
    ]
    return next((each for each in found if not each[1].parent), found[0] if found else None)


class Attempt(NamedTuple):
    """A call that failed and may be repeated: where and under which id it was recorded, when, and what was tried so far."""

    trail: Trail
    talk: Talk | None
    scope: Scope
    purpose: str
    id: str
    attempts: list[dict[str, Any]]
    time: int
