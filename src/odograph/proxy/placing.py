"""Where the calls that pass the proxy are recorded: their trajectory, agent, step and purpose; what tools gave back is an action.

Everything here runs in the one thread of `Recording`, so nothing needs a lock. What is kept in memory is bounded; a trajectory
that was forgotten, or recorded before a restart, is gone on with.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, OrderedDict, defaultdict
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from msgspec.structs import replace

from ..api import Store
from ..capture.faults import fault
from ..capture.run import Run, start
from ..capture.scope import Scope
from ..codec import derived_id, new_id
from ..dialects import Dialect
from ..errors import NotFound, StoreError
from ..trajectory import Trajectory
from ..types import Status
from . import conversations
from .address import Address
from .asleep import RETRIED_NS, Asleep
from .conversations import Asked
from .passing import Passing
from .senders import Sender, session_in
from .trails import Attempt, Pending, Talk, Trail, answering, arguments_of, starting

_MOST_TRAILS = 1000
_MOST_TALKS = 1000  # of one trajectory
_MOST_FAILED = 10_000
_MOST_RESPONSES = 10_000
_MOST_LOOKED = 100  # trajectories that are looked through for the call that started an agent
#: What a trajectory's name is derived from.
_NAME = "odograph.proxy"


def _asked_by(asked: Asked, call: Passing) -> Any:
    """What a call asks for, where it is compared with one that failed."""
    return asked.same if asked.request else (call.asked_size, blake2b(call.sent, digest_size=16).digest())


class Placer:
    """Writes the calls of one proxy into a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trails: OrderedDict[tuple[Any, ...], Trail] = OrderedDict()
        #: The conversations of no named run or session by the hash of their last request.
        self._tips: defaultdict[bytes, list[Talk]] = defaultdict(list)
        #: Calls that failed and may be repeated, by their ids: who asked, what, and where they were recorded. And their ids by
        #: who asked: where there are none, no request is compared.
        self._failed: OrderedDict[str, tuple[tuple[Any, ...], Any, Attempt]] = OrderedDict()
        self._failures: dict[tuple[Any, ...], list[str]] = {}
        #: The conversations whose history the server keeps, by the id of a response that may be gone on from.
        self._responses: OrderedDict[str, Talk] = OrderedDict()
        self._asleep = Asleep(store)
        #: Those that were looked at, by their ids: no call of them came yet.
        self._woken: OrderedDict[str, Trail] = OrderedDict()
        self._has_learned = False  # whether some conversation was learned from the store
        #: What has a program that starts and ends it (`odograph record`), by its run.
        self._owned: dict[str, dict[str, Any]] = {}
        #: Calls whose answer is whole and whose stream goes on.
        self.finished: set[Passing] = set()
        self.recorded: int = 0

    # --- a call --------------------------------------------------------------------------------------------------------------

    def place(self, call: Passing, made: dict[str, Any], answer: Any, failure: dict[str, Any] | None) -> Scope:
        """Records a call. `failure`: what the attempt came to, where it may be repeated. Returns the scope that it is in.

        A call whose place can't be told, whatever its content, is a trajectory of its own."""
        for other in list(self.finished):  # an agent may act on an answer whose stream goes on
            if other.finished_at is not None and other.finished_at < call.started:
                other.stand()
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

    def look(self, dialect: Dialect, request: Any) -> Asked:
        """Takes a request apart. Of all that is here, this alone may be called in any thread."""
        asked = Asked(dialect, request, self._clean)
        asked.find()
        return asked

    def _place(self, call: Passing, made: dict[str, Any], answer: Any, failure: dict[str, Any] | None) -> Scope:
        asked = (call.parts if "request" in made else None) or self.look(call.dialect, made.get("request"))
        address, sender = call.address, call.sender
        session = sender.session or session_in(made.get("request"))
        who = (address.run, address.attempt, session, sender.agent, made.get("model"), len(asked.items))
        earlier = self._tried(who, asked, call) if self._failures else None
        attempts: list[dict[str, Any]] = []
        if earlier is None:
            trail, talk, purpose = self._whose(asked, address, sender._replace(session=session), made, call)
            if talk is not None and talk.is_repeated_by(asked):
                earlier, talk.failed = talk.failed, None
        scope: Scope | None = None
        if earlier is not None:
            trail, talk, scope, purpose = earlier[:4]
            attempts = earlier.attempts
            made["supersedes"] = earlier.id
            made["extra"] = {**(made.get("extra") or {}), "retries": attempts}
        if purpose != "act":
            made["purpose"] = purpose
        trail.calls += 1
        trail.failed += "error" in made
        with self._store.backend.sink.together():  # what other streams wait for is one write
            if scope is None:
                scope = self._beside(trail, asked, call) if talk is None else self._step(talk, asked, call)
            ref = scope.record_call(made)
            self.recorded += 1
            if failure is not None:
                tried = [*attempts, failure]
                attempt = Attempt(trail, talk, scope, purpose, ref.id, tried, call.ended or time.time_ns())
                self._failed[ref.id] = who, _asked_by(asked, call), attempt
                self._failures.setdefault(who, []).append(ref.id)
            elif talk is not None:
                self._answered(talk, scope, asked, ref.id, answer, call, made)
            elif trail.ends and not trail.talks and trail.key[0] == "lone":
                self._close(trail, "completed")
            elif purpose in ("compact", "utility"):
                trail.summary = conversations.signature(conversations.answer_of(call.dialect, made.get("request"), answer)).text
        return scope

    def _tried(self, who: tuple[Any, ...], asked: Asked, call: Passing) -> Attempt | None:
        """The attempt that failed before this call began, and that it repeats."""
        before = time.time_ns() - RETRIED_NS
        while self._failed:
            id, (_, _, oldest) = next(iter(self._failed.items()))
            if oldest.time > before and len(self._failed) <= _MOST_FAILED:
                break
            self._forget(id)
        for id in self._failures.get(who, ()):
            _, what, attempt = self._failed[id]
            if attempt.time <= call.started and what == _asked_by(asked, call):
                self._forget(id)
                return attempt
        return None

    def _forget(self, id: str) -> None:
        who = self._failed.pop(id)[0]
        self._failures[who].remove(id)
        if not self._failures[who]:
            del self._failures[who]

    def _whose(
        self, asked: Asked, address: Address, sender: Sender, made: dict[str, Any], call: Passing
    ) -> tuple[Trail, Talk | None, str]:
        """The trajectory of a call, the conversation that it goes on with (None: none), and what it is for."""
        purpose = address.purpose or (call.purpose if call.purpose != "act" else None)
        if purpose is None:
            purpose = asked.beside
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
                begun = talk.is_begun_by(asked) and not talk.is_left_by(asked)
                if purpose is None and talk.tools and not asked.tools and not begun:
                    purpose = "utility"
                return trail, talk if purpose is None else None, purpose or "act"
        if who is None and (trail is not None or key is None):
            talk = self._longest(asked, trail)
            if talk is None and trail is None and purpose is None:
                talk = self._awake(asked)
            talk = talk or self._longest(asked, trail, strictly=False)
            if talk is not None:
                if self._woken.pop(talk.trail.run.id, None) is not None:
                    self._keep(talk.trail)
                if purpose is None and talk.is_left_by(asked):
                    purpose = "utility"
                return talk.trail, talk if purpose is None else None, purpose or "act"
        said = asked.said
        started = self._started_by(said, trail, key, sender.agent) if purpose is None else None
        if started is not None:
            trail = started[0].trail
        if trail is None:
            trail = self._begin(key, address, sender, made, said)
            trail.guessed = purpose is not None and trail.guessed
        elif trail.guessed and purpose is None:
            self._tell_task(trail, made, said)
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

    def _learned(self, trail: Trail, who: tuple[Any, ...]) -> Talk | None:
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

    def _longest(self, asked: Asked, trail: Trail | None, *, strictly: bool = True) -> Talk | None:
        """The conversation whose last request is the longest beginning of this one, and whose answer follows; of several, one of
        the same system prompt and tools. Not `strictly`: the only one that there is, too; its agent edited the answer, or what
        came before the answer."""
        talk = self._responses.get(asked.before or "")
        if talk is not None and (talk.trail is trail if trail is not None else talk.trail.key[0] == "lone"):
            return talk
        if trail is None:
            tips = self._tips
        else:
            tips = defaultdict(list)
            for talk in trail.talks:
                tips[talk.tip].append(talk)
        for learned in (False, True) if self._has_learned else (False,):
            marks = asked.values if learned else asked.marks
            for count in range(len(marks) - 1, 0, -1):
                found = [t for t in tips.get(marks[count - 1], ()) if t.count == count and t.learned is learned]
                if found:
                    found.sort(key=lambda t: (t.is_left_by(asked), t.who != asked.who))
                    follows = conversations.answered_with(asked, count)
                    exact = next((t for t in found if t.answer == follows), None)
                    if exact is not None:
                        return exact
                    if not strictly and len(found) == 1 and found[0].prompt in (b"", asked.prompt):
                        return found[0]
                    break
        if strictly:
            return None
        lone = (t for t in (*self._trails.values(), *self._woken.values()) if t.key[0] == "lone")
        return answering(asked, [trail] if trail is not None else lone)

    def _awake(self, asked: Asked) -> Talk | None:
        """The conversation that a request goes on with, where only the store knows of it."""
        said = asked.history()
        begins = not said and asked.before is None
        if begins:
            said = set(self._clean(asked.said[-1:]))
        talk = None
        for t in self._asleep.wake(said, begins=begins):
            if ("lone", t.id) not in self._trails:
                trail = self._woken[t.id] = self._learn(("lone", t.id), t)
                repeated = next((t for t in trail.talks if t.is_repeated_by(asked)), None)
                if (talk := repeated or (None if begins else self._longest(asked, None))) is not None:
                    break
        while len(self._woken) > _MOST_TRAILS:
            self._lose(self._woken.popitem(last=False)[1])
        return talk

    def _clean(self, value: Any) -> Any:
        redactor = self._store.backend.sink.redactor
        return value if redactor is None else redactor.value(value, Counter())

    def _started_by(self, said: list[str], trail: Trail | None, key: Any, agent: str | None) -> tuple[Talk, Pending] | None:
        """The conversation and its tool call that started the agent whose user says this: of its own run where it names one,
        else of a session or conversation that names none. `agent`: its name, if its program says that it is a sub-agent."""
        if not said:
            return None
        trails = [] if trail is None else [trail]
        if key is None or key[0] != "run":
            recent = itertools.islice(reversed(self._trails.values()), _MOST_LOOKED)
            trails += [t for t in recent if t.key[0] != "run" and t is not trail]
        return starting(said, trails, done=trail if agent is not None else None)

    def _talk(self, trail: Trail, asked: Asked, address: Address, sender: Sender, started: tuple[Talk, Pending] | None) -> Talk:
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
                kinds = (given.get(k) for k in ("subagent_type", "agent_type", "agent")) if isinstance(given, dict) else ()
                name = name or next((kind for kind in kinds if isinstance(kind, str) and kind), started[1].name)
                started[1].parent = True
                within: Scope = started[0].scope.inside(started[1].id)
            else:
                within = trail.run
            scope = within.sub_agent(self._name(trail, name or "agent", address.agent is not None))
        talk = Talk(trail, scope, asked.tools, asked)
        trail.talks.append(talk)
        if len(trail.talks) > _MOST_TALKS:
            del trail.talks[1]
        return talk

    def _name(self, trail: Trail, name: str, given: bool) -> str:
        trail.names[name] += 1
        number = trail.names[name]
        return name if number == 1 or given else f"{name}-{number}"

    # --- its step ------------------------------------------------------------------------------------------------------------

    def _beside(self, trail: Trail, asked: Asked, call: Passing) -> Scope:
        """Where a call beside the work is. It may bring results of tools: one that sums up a history mostly does."""
        if any(talk.pending for talk in trail.talks) and (talk := answering(asked, [trail], left=True)) is not None:
            talk.take(asked, call.started)
        return trail.run

    def _step(self, talk: Talk, asked: Asked, call: Passing) -> Scope:
        """The next step of a conversation: what the request brings are the results of tools, and what is observed."""
        extends = talk.is_begun_by(asked)
        messages = talk.take(asked, call.started)
        seen = [m.get("content") for m in messages if m.get("role") == "user"]
        if not extends and talk.count:
            seen = seen[-1:]
        observation = None if not seen else seen[0] if len(seen) == 1 else seen
        return talk.scope.step(observation)

    def _answered(
        self, talk: Talk, scope: Scope, asked: Asked, id: str, answer: Any, call: Passing, made: dict[str, Any]
    ) -> None:
        if made.get("purpose", "act") != "act":
            return
        choice = conversations.answer_of(call.dialect, made.get("request"), answer)
        if asked.marks:
            self._lose_tip(talk)
            talk.count, talk.tip, talk.learned = len(asked.marks), asked.marks[-1], False
            self._find_by_tip(talk)
        self._find_by_response(talk, answer)
        talk.answer = conversations.signature(choice)
        if asked.tools or not talk.tools:  # else it is without its tools for once
            talk.who, talk.prompt, talk.tools = asked.who, asked.prompt, asked.tools
        now = time.time_ns()
        for tool in choice.tool_calls if choice else []:
            talk.wait(Pending(scope, id, now, tool))
        trail = talk.trail
        if trail.ends and talk is trail.main and choice is not None and not choice.tool_calls and "error" not in made:
            self._close(trail, "truncated" if choice.finish_reason == "length" else "completed", choice.text or None)

    # --- trajectories --------------------------------------------------------------------------------------------------------

    def _trail(self, key: tuple[Any, ...]) -> Trail | None:
        """The trajectory of a name: one that is at hand, or one that the store has."""
        trail = self._trails.get(key)
        if trail is not None:
            self._trails.move_to_end(key)
            return trail
        try:
            t = self._store.trajectory(derived_id(None, _NAME, *key))
        except (NotFound, StoreError):
            return None
        return self._keep(self._learn(key, t))

    def _learn(self, key: tuple[Any, ...], t: Trajectory) -> Trail:
        """A trajectory of the store, gone on with."""
        trail = Trail(key, self._store.append(t.id), True, t.task)
        trail.learn(t, self._clean)
        self._has_learned = True
        talks = {talk.scope.agent or t.agent: talk for talk in trail.talks}
        for call in t.llm_calls:
            if call.agent in talks:
                self._find_by_response(talks[call.agent], call.response)
        for talk in trail.talks:
            self._find_by_tip(talk)
        return trail

    def _begin(
        self, key: tuple[Any, ...] | None, address: Address, sender: Sender, made: dict[str, Any], said: list[str]
    ) -> Trail:
        about = self._owned.get(address.run or "", {})
        task = address.task if address.task is not None else about.get("task")
        guessed = task is None
        if guessed and said:
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
        trail = Trail(key, run, address.run not in self._owned, task)
        trail.guessed = guessed
        if run.recorder.agent is not None:
            trail.names[run.recorder.agent] = 1
        return self._keep(trail)

    def _tell_task(self, trail: Trail, made: dict[str, Any], said: list[str]) -> None:
        """A trajectory that a call beside the work began, for a title, has its task and model from the first call of the work."""
        trail.guessed = False
        begun = self._store.trajectory(trail.run.id).start
        if begun is None or not said:
            return
        trail.task = said[-1]
        recorder = trail.run.recorder
        with recorder.journal.lock:
            _, seq = recorder.journal.stamp()
        told = {"task": trail.task, "model": made.get("model"), "supersedes": begun.id}
        with suppress(StoreError):  # of a full disk: the line waits as all others do
            recorder.add([replace(begun, id=new_id(), seq=seq, **told)])  # at the time of the first: it began then

    def _keep(self, trail: Trail) -> Trail:
        self._trails[trail.key] = trail
        while len(self._trails) > _MOST_TRAILS:
            _, old = self._trails.popitem(last=False)
            self._lose(old)
            if old.key[0] == "lone":
                self._asleep.add(old.run.id, old.task)
        return trail

    def _find_by_tip(self, talk: Talk) -> None:
        if talk.trail.key[0] == "lone":
            self._tips[talk.tip].append(talk)

    def _find_by_response(self, talk: Talk, answer: Any) -> None:
        if isinstance(answer, dict) and answer.get("object") == "response" and isinstance(answer.get("id"), str):
            self._responses[answer["id"]] = talk
            while len(self._responses) > _MOST_RESPONSES:
                self._responses.popitem(last=False)

    def _lose(self, trail: Trail) -> None:
        for talk in trail.talks:
            self._lose_tip(talk)

    def _lose_tip(self, talk: Talk) -> None:
        if talk in self._tips.get(talk.tip, ()):
            self._tips[talk.tip].remove(talk)
            if not self._tips[talk.tip]:
                del self._tips[talk.tip]

    def _close(self, trail: Trail, status: Status, answer: Any = None, **more: Any) -> None:
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

    def end(self, run: str, attempt: int | None, status: Status, **more: Any) -> str | None:
        """Ends the trajectory of a run. Its id; None where no call of it was recorded."""
        trail = self._trail(("run", run, attempt))
        if trail is None:
            return None
        if "answer" not in more and trail.main is not None and not trail.main.answer.calls:
            more["answer"] = trail.main.answer.text or None
        self._close(trail, status, **more)
        trail.ends = False  # a call that was under way then ends it no other way
        return trail.run.id

    def trajectory(self, run: str, attempt: int | None = None) -> Run | None:
        """The trajectory of a run, to record more in; None where no call of it was recorded."""
        trail = self._trail(("run", run, attempt))
        return None if trail is None else trail.run
