"""Where the calls that pass the proxy are recorded: their trajectory, agent, step and purpose; what tools gave back is an action.

Everything here runs in the one thread of `Recording`, so nothing needs a lock. What is kept in memory is bounded; a trajectory of
a named run or session that was forgotten, or recorded before a restart, is gone on with.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, OrderedDict, defaultdict
from hashlib import blake2b
from typing import Any, NamedTuple

from .. import dialects
from ..api import Store
from ..capture.faults import fault
from ..capture.run import Run, start
from ..capture.scope import Scope
from ..codec import derived_id, loads_or_raw, new_id
from ..errors import NotFound, StoreError
from . import conversations
from .address import Address
from .conversations import Asked
from .passing import Passing
from .senders import Sender, session_in

_MOST_TRAILS = 1000
_MOST_TALKS = 1000  # of one trajectory
_MOST_FAILED = 10_000
_MOST_LOOKED = 100  # trajectories that are looked through for the call that started an agent
_RETRIED_NS = 15 * 60 * 10**9
#: What a trajectory's name is derived from.
_NAME = "odograph.proxy"


class _Pending:
    """A tool call that has no result yet."""

    __slots__ = ("arguments", "asked", "call", "id", "name", "parent", "scope", "tool_call_id")

    def __init__(self, scope: Scope, call: str, asked: int, tool: dialects.ToolCall) -> None:
        #: The step that asked for it, the call, and when the call was answered.
        self.scope = scope
        self.call = call
        self.asked = asked
        self.name = tool.name or "unnamed"
        self.arguments = tool.arguments
        self.tool_call_id = tool.id
        #: The id that its action will have, and whether records inside of it were written.
        self.id = new_id()
        self.parent = False

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


class _Talk:
    """One conversation of one agent."""

    def __init__(self, trail: _Trail, scope: Scope, who: bytes, tools: bool) -> None:
        self.trail = trail
        self.scope = scope
        self.who = who
        self.tools = tools
        #: The last request that was answered: how many items, the hash of them, and the answer.
        self.count = 0
        self.tip = b""
        self.answer: tuple[str, ...] = ()
        self.pending: OrderedDict[str, _Pending] = OrderedDict()


class _Trail:
    """One trajectory that calls are recorded in."""

    def __init__(self, key: tuple[Any, ...] | None, run: Run, ends: bool) -> None:
        self.key = key
        self.run = run
        #: Whether an answer without tool calls ends it; else whoever made it ends it.
        self.ends = ends
        self.talks: list[_Talk] = []
        self.by_agent: dict[tuple[Any, ...], _Talk] = {}
        self.names: Counter[str] = Counter()
        self.calls = 0
        self.failed = 0

    @property
    def main(self) -> _Talk | None:
        return self.talks[0] if self.talks else None


class _Attempt(NamedTuple):
    """A call that failed and may be repeated: where and under which id it was recorded, when, and what was tried so far."""

    trail: _Trail
    talk: _Talk | None
    scope: Scope
    purpose: str
    id: str
    attempts: list[dict[str, Any]]
    time: int


def _renamed(pending: OrderedDict[str, _Pending], sent: list[tuple[str, str]]) -> None:
    """An answer is sent again with ids of the agent's own, where the model gave none: each belongs to the open call of its name
    that comes first."""
    ids = {id for id, _ in sent}
    for id, name in sent:
        if id not in pending:
            old = next((key for key, one in pending.items() if one.name == name and key not in ids), None)
            if old is not None:
                pending[id] = pending.pop(old)


class Placer:
    """Writes the calls of one proxy into a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trails: OrderedDict[tuple[Any, ...], _Trail] = OrderedDict()
        #: The conversations of no named run or session by the hash of their last request.
        self._tips: defaultdict[bytes, list[_Talk]] = defaultdict(list)
        #: Calls that failed and may be repeated, by who asked and what: where they were recorded, and what was tried.
        self._failed: OrderedDict[tuple[Any, ...], _Attempt] = OrderedDict()
        #: What has a program that starts and ends it (`odograph record`), by its run.
        self._owned: dict[str, dict[str, Any]] = {}
        self.recorded: int = 0

    # --- a call --------------------------------------------------------------------------------------------------------------

    def place(self, call: Passing, made: dict[str, Any], answer: Any, failure: dict[str, Any] | None) -> Scope:
        """Records a call. `failure`: what the attempt came to, where it may be repeated. Returns the scope that it is in.

        A call whose place can't be told, whatever its content, is a trajectory of its own."""
        try:
            return self._place(call, made, answer, failure)
        except StoreError:
            raise
        except Exception as error:
            trail = self._begin(None, Address(), Sender(), made, [])
            trail.run.record_call({k: v for k, v in made.items() if k != "supersedes"})
            self.recorded += 1
            self._close(trail, "completed")
            fault(error)
            return trail.run

    def _place(self, call: Passing, made: dict[str, Any], answer: Any, failure: dict[str, Any] | None) -> Scope:
        asked = Asked(call.dialect, made.get("request"))
        address, sender = call.address, call.sender
        session = sender.session or session_in(made.get("request"))
        digest = blake2b(call.sent, digest_size=16).digest()
        again = (address.run, address.attempt, session, sender.agent, digest)
        earlier = self._failed.pop(again, None)
        attempts: list[dict[str, Any]] = []
        if earlier is not None and time.time_ns() - earlier.time < _RETRIED_NS:
            trail, talk, scope, purpose = earlier[:4]
            attempts = earlier.attempts
            made["supersedes"] = earlier.id
            made["extra"] = {**(made.get("extra") or {}), "retries": attempts}
        else:
            trail, talk, purpose = self._whose(asked, address, sender._replace(session=session), made, call)
            scope = trail.run if talk is None else self._step(talk, asked, call)
        if purpose != "act":
            made["purpose"] = purpose
        trail.calls += 1
        trail.failed += "error" in made
        ref = scope.record_call(made)
        self.recorded += 1
        if failure is not None:
            tried = [*attempts, failure]
            self._failed[again] = _Attempt(trail, talk, scope, purpose, ref.id, tried, time.time_ns())
            while len(self._failed) > _MOST_FAILED:
                self._failed.popitem(last=False)
        elif talk is not None:
            self._answered(talk, scope, asked, ref.id, answer, call, made)
        elif trail.ends and not trail.talks and trail.key is not None and trail.key[0] == "lone":
            self._close(trail, "completed")
        return scope

    def _whose(
        self, asked: Asked, address: Address, sender: Sender, made: dict[str, Any], call: Passing
    ) -> tuple[_Trail, _Talk | None, str]:
        """The trajectory of a call, the conversation that it goes on with (None: none), and what it is for."""
        purpose = address.purpose or (call.purpose if call.purpose != "act" else None)
        if purpose is None:
            purpose = conversations.beside(asked)
        elif purpose == "act":
            purpose = None
        key: tuple[Any, ...] | None = None
        if address.run is not None:
            key = ("run", address.run, address.attempt)
        elif sender.session is not None:
            key = ("session", sender.product, sender.session)
        trail = self._trail(key) if key is not None else None
        named = address.agent is not None or sender.session is not None
        who = (address.agent, sender.session, sender.agent) if named else None
        if trail is not None and who is not None:
            talk = trail.by_agent.get(who) or self._learned(trail, who)
            if talk is not None:
                if purpose is None and talk.tools and not asked.tools and not self._extends(talk, asked):
                    purpose = "utility"
                return trail, talk if purpose is None else None, purpose or "act"
        if who is None and (trail is not None or key is None):
            talk = self._longest(asked, trail)
            if talk is not None:
                return talk.trail, talk if purpose is None else None, purpose or "act"
        said = asked.said()
        started = self._started_by(said, trail, key) if purpose is None else None
        if started is not None:
            trail = started[0].trail
        if trail is None:
            trail = self._begin(key, address, sender, made, said)
        if purpose is not None:
            return trail, None, purpose
        main = trail.main
        if started is None and main is not None and main.tools and not asked.tools and sender.agent is None and not address.agent:
            return trail, None, "utility"
        if who is None and started is None:
            same = next((t for t in reversed(trail.talks) if t.who == asked.who), None)
            if same is None and main is not None and not main.who:  # it was recorded before this proxy began
                same = main
            if same is not None:  # it edited its history, or began anew
                return trail, same, "act"
        talk = self._talk(trail, asked, address, sender, started)
        if who is not None:
            trail.by_agent[who] = talk
            while len(trail.by_agent) > _MOST_TALKS:
                trail.by_agent.pop(next(iter(trail.by_agent)))
        return trail, talk, "act"

    def _learned(self, trail: _Trail, who: tuple[Any, ...]) -> _Talk | None:
        """The conversation of an agent that was recorded before this proxy knew of it."""
        if trail.by_agent or not trail.talks:
            return None
        agent, _, sub = who
        own = trail.run.recorder.agent
        if agent is not None:
            found = next((t for t in trail.talks if (t.scope.agent or own) == agent), None)
        else:
            found = trail.main if sub is None else None
        if found is not None:
            trail.by_agent[who] = found
        return found

    def _extends(self, talk: _Talk, asked: Asked) -> bool:
        return 0 < talk.count <= len(asked.marks) and asked.marks[talk.count - 1] == talk.tip

    def _longest(self, asked: Asked, trail: _Trail | None) -> _Talk | None:
        """The conversation whose last request is the longest beginning of this one. Of several, the one whose answer follows."""
        if trail is None:
            tips = self._tips
        else:
            tips = defaultdict(list)
            for talk in trail.talks:
                tips[talk.tip].append(talk)
        for count in range(len(asked.marks) - 1, 0, -1):
            found = [t for t in tips.get(asked.marks[count - 1], ()) if t.count == count]
            if found:
                follows = conversations.answered_with(asked, count)
                return next((t for t in found if t.answer == follows), found[0] if len(found) == 1 else None)
        return None

    def _started_by(self, said: list[str], trail: _Trail | None, key: tuple[Any, ...] | None) -> tuple[_Talk, _Pending] | None:
        """The conversation and its open tool call that started the agent whose user says this: of its own run where it names one,
        else of a session or conversation that names none."""
        if not said:
            return None
        trails = [] if trail is None else [trail]
        if key is None or key[0] != "run":
            recent = itertools.islice(reversed(self._trails.values()), _MOST_LOOKED)
            trails += [t for t in recent if t.key is not None and t.key[0] != "run" and t is not trail]
        for one in trails:
            for talk in one.talks:
                for pending in talk.pending.values():
                    if conversations.asks(pending.arguments, said):
                        return talk, pending
        return None

    def _talk(
        self, trail: _Trail, asked: Asked, address: Address, sender: Sender, started: tuple[_Talk, _Pending] | None
    ) -> _Talk:
        """A new conversation: of the trajectory's agent where it is the first, else of another agent."""
        scope: Scope = trail.run
        if (
            trail.talks
            or sender.agent is not None
            or started is not None
            or address.agent not in (None, trail.run.recorder.agent)
        ):
            name = address.agent or sender.name or (sender.product if sender.agent is None else None)
            if started is not None:
                given = arguments_of(started[1].arguments)
                kind = given.get("subagent_type") or given.get("agent") if isinstance(given, dict) else None
                name = name or (kind if isinstance(kind, str) else None) or started[1].name
                started[1].parent = True
                within: Scope = started[0].scope.inside(started[1].id)
            else:
                within = trail.run
            scope = within.sub_agent(self._name(trail, name or "agent", address.agent is not None))
        talk = _Talk(trail, scope, asked.who, asked.tools)
        trail.talks.append(talk)
        if len(trail.talks) > _MOST_TALKS:
            del trail.talks[1]
        return talk

    def _name(self, trail: _Trail, name: str, given: bool) -> str:
        trail.names[name] += 1
        number = trail.names[name]
        return name if number == 1 or given else f"{name}-{number}"

    # --- its step ------------------------------------------------------------------------------------------------------------

    def _step(self, talk: _Talk, asked: Asked, call: Passing) -> Scope:
        """The next step of a conversation: what the request brings are the results of tools, and what is observed."""
        extends = self._extends(talk, asked)
        at = talk.count if extends else 0
        messages = asked.messages(at)
        failed = asked.failed(at) if talk.pending else set()
        for message in messages:
            if message.get("role") == "assistant" and talk.pending:
                _renamed(talk.pending, conversations.calls_in(message))
            if message.get("role") in ("tool", "function"):
                pending = talk.pending.pop(str(message.get("tool_call_id")), None)
                if pending is not None:
                    id = pending.tool_call_id
                    pending.write(message.get("content"), failed=id in failed, until=call.started)
        seen = [m.get("content") for m in messages if m.get("role") == "user"]
        if not extends and talk.count:
            seen = seen[-1:]
        observation = None if not seen else seen[0] if len(seen) == 1 else seen
        return talk.scope.step(observation)

    def _answered(
        self, talk: _Talk, scope: Scope, asked: Asked, id: str, answer: Any, call: Passing, made: dict[str, Any]
    ) -> None:
        if made.get("purpose", "act") != "act":
            return
        choice = conversations.answer_of(call.dialect, made.get("request"), answer)
        if asked.marks:
            if talk.trail.key is None or talk.trail.key[0] == "lone":
                if talk in self._tips.get(talk.tip, ()):
                    self._tips[talk.tip].remove(talk)
                    if not self._tips[talk.tip]:
                        del self._tips[talk.tip]
                self._tips[asked.marks[-1]].append(talk)
            talk.count, talk.tip = len(asked.marks), asked.marks[-1]
        talk.answer, talk.who, talk.tools = conversations.signature(choice), asked.who, talk.tools or asked.tools
        now = time.time_ns()
        for tool in choice.tool_calls if choice else []:
            talk.pending[str(tool.id)] = _Pending(scope, id, now, tool)
        trail = talk.trail
        if trail.ends and talk is trail.main and choice is not None and not choice.tool_calls and "error" not in made:
            self._close(trail, "truncated" if choice.finish_reason == "length" else "completed", choice.text or None)

    # --- trajectories --------------------------------------------------------------------------------------------------------

    def _trail(self, key: tuple[Any, ...]) -> _Trail | None:
        """The trajectory of a name: one that is at hand, or one that the store has."""
        trail = self._trails.get(key)
        if trail is not None:
            self._trails.move_to_end(key)
            return trail
        try:
            run = self._store.append(derived_id(None, _NAME, *key))
        except (NotFound, StoreError):
            return None
        trail = self._keep(_Trail(key, run, ends=True))
        self._learn(trail)
        return trail

    def _learn(self, trail: _Trail) -> None:
        """What was recorded before: its agents, and the tool calls that have no result."""
        t = self._store.trajectory(trail.run.id)
        done = {a.tool_call_id for a in t.actions}
        talks: dict[str | None, _Talk] = {}
        for step in t.steps:
            for call in step.llm_calls:
                agent = None if step.agent == t.agent else step.agent
                talk = talks.get(agent)
                if talk is None:
                    scope = trail.run if agent is None else trail.run.sub_agent(agent)
                    talk = talks[agent] = _Talk(trail, scope, b"", bool(call.tools))
                    if agent is not None:
                        trail.names[agent] += 1
                for tool in call.choices[0].tool_calls if call.choices else []:
                    if tool.id not in done:
                        talk.pending[str(tool.id)] = _Pending(trail.run.at(step), call.id, call.time, tool)
        trail.talks = list(talks.values())

    def _begin(
        self, key: tuple[Any, ...] | None, address: Address, sender: Sender, made: dict[str, Any], said: list[str]
    ) -> _Trail:
        about = self._owned.get(address.run or "", {})
        task = address.task if address.task is not None else about.get("task")
        if task is None and said:
            task = said[-1]
        metadata: dict[str, Any] = {"door": "proxy", **address.metadata, **about.get("metadata", {})}
        named = {"run": address.run, "attempt": address.attempt, "session": sender.session}
        metadata |= {name: value for name, value in named.items() if value is not None}
        run = start(
            self._store.backend.sink,
            task,
            tags=[*address.tags, *about.get("tags", ())],
            metadata=metadata,
            id=None if key is None else derived_id(None, _NAME, *key),
            agent=address.agent or about.get("agent") or sender.product,
            group=address.group or about.get("group"),
            model=made.get("model"),
            policy_version=address.policy_version,
        )
        key = key if key is not None else ("lone", run.id)
        trail = _Trail(key, run, ends=address.run not in self._owned)
        if run.recorder.agent is not None:
            trail.names[run.recorder.agent] = 1
        return self._keep(trail)

    def _keep(self, trail: _Trail) -> _Trail:
        assert trail.key is not None
        self._trails[trail.key] = trail
        while len(self._trails) > _MOST_TRAILS:
            _, old = self._trails.popitem(last=False)
            for talk in old.talks:
                if talk in self._tips.get(talk.tip, ()):
                    self._tips[talk.tip].remove(talk)
        return trail

    def _close(self, trail: _Trail, status: str, answer: Any = None, **more: Any) -> None:
        """Ends a trajectory. Tool calls that other agents were started by get their actions: their results are not known."""
        for talk in trail.talks:
            for id, pending in list(talk.pending.items()):
                if pending.parent:
                    pending.write()
                    del talk.pending[id]
        trail.run.finish(answer, status=status, **more)

    def owned(self, run: str, about: dict[str, Any]) -> None:
        """A program starts and ends a run: the run ends with `end`, not with an answer. `about`: of its trajectory."""
        self._owned[run] = about

    def end(self, run: str, attempt: int | None, status: str, **more: Any) -> str | None:
        """Ends the trajectory of a run. Its id; None where no call of it was recorded."""
        trail = self._trail(("run", run, attempt))
        if trail is None:
            return None
        if "answer" not in more and trail.main is not None and len(trail.main.answer) == 1:
            more["answer"] = trail.main.answer[0] or None
        self._close(trail, status, **more)
        return trail.run.id

    def trajectory(self, run: str, attempt: int | None = None) -> Run | None:
        """The trajectory of a run, to record more in; None where no call of it was recorded."""
        trail = self._trail(("run", run, attempt))
        return None if trail is None else trail.run

    def forget(self) -> None:
        """Lets go of all trajectories: later calls look them up in the store."""
        self._trails.clear()
        self._tips.clear()
        self._failed.clear()
