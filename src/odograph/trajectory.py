"""Views of one trajectory: its records as steps, calls and rewards. Values in memory; knows no files.

A view never changes a record. Superseded records are in `records` and nowhere else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Self, cast
from typing import Literal as OneOf

from . import cards
from .calls import Call, whole
from .clock import iso_time
from .codec import loads, record_to_dict
from .errors import InvalidInput
from .handmade import placed_records, records_from_dict
from .standing import references, standing
from .streams import Growing, Streams
from .totals import Rewards, reward_total, trajectory_reward
from .types import (
    SCHEMA_VERSION,
    Action,
    AnyRecord,
    Context,
    Edit,
    End,
    Label,
    LLMCall,
    Note,
    Reward,
    Start,
    StepStart,
)

State = OneOf["completed", "failed", "timeout", "cancelled", "truncated", "running", "unterminated"]
_CARD = 12  # steps that a notebook shows of a trajectory


def stated_success(result: Any) -> bool | None:
    """What a result itself says of its success: `{"success": false}` (elizaOS), `{"isError": true}` (MCP), as JSON text, too, and
    with "false" or 0 for false. None: nothing."""
    if (
        type(result) is str
        and len(result) < _MOST_READ
        and result.lstrip()[:1] == "{"
        and any(f'"{name}"' in result for name in _STATED)
    ):
        with contextlib.suppress(InvalidInput):
            result = loads(result)
    if not issubclass(type(result), dict):
        return None
    for name, good in _STATED.items():
        stated = dict.get(result, name)
        stated = stated.strip().lower() if type(stated) is str else stated
        if type(stated) in (bool, int, str) and stated in _TRUTH:
            return _TRUTH[stated] is good
    return None


#: What a result says of its success, and what it says where that is good; and how truth is written.
_STATED = {"success": True, "ok": True, "isError": False, "is_error": False}
_MOST_READ = 1_000_000  # characters of a result that are read for this
_TRUTH = {True: True, False: False, "true": True, "false": False}


class _Part:
    """The records of a step, or of a trajectory, by kind."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.llm_calls: list[Call] = []
        self.actions: list[Action] = []
        self.rewards: Rewards = Rewards()
        self.edits: list[Edit] = []
        self.labels: list[Label] = []
        self.notes: list[Note] = []

    def _add(self, record: AnyRecord, call: Call | None) -> None:
        match record:
            case LLMCall():
                self.llm_calls.append(cast(Call, call))
            case Context():
                self.contexts.append(record)
            case Action():
                self.actions.append(record)
            case Reward():
                self.rewards.append(record)
            case Edit():
                self.edits.append(record)
            case Label():
                self.labels.append(record)
            case Note():
                self.notes.append(record)
            case _:
                pass

    def _by_kind(self, to_dict: Callable[[AnyRecord], dict[str, Any]]) -> dict[str, Any]:
        return {
            "contexts": list(map(to_dict, self.contexts)),
            "llm_calls": [to_dict(c.record) for c in self.llm_calls],
            "actions": list(map(to_dict, self.actions)),
            "rewards": list(map(to_dict, self.rewards)),
            "edits": list(map(to_dict, self.edits)),
            "labels": list(map(to_dict, self.labels)),
            "notes": list(map(to_dict, self.notes)),
        }


class Step(_Part):
    """One step of one agent: observation, contexts, calls, actions and rewards."""

    def __init__(self, index: int, agent: str | None) -> None:
        super().__init__()
        self.index = index
        self.agent = agent
        self.record: StepStart | None = None

    def __repr__(self) -> str:
        return f"<Step {self.index} {self.agent or ''}: {len(self.llm_calls)} calls, {len(self.actions)} actions>"

    @property
    def id(self) -> str | None:
        return self.record.id if self.record else None

    @property
    def observation(self) -> Any:
        return self.record.observation if self.record else None

    @property
    def reward(self) -> float | None:
        """The step's own reward."""
        return reward_total(r for r in self.rewards if r.target is None and r.span is None)


class Trajectory(_Part):
    """One trajectory. `llm_calls`, `actions` and `contexts` hold those of all steps, in order. `rewards`, `edits`, `labels` and
    `notes` hold those of the trajectory as a whole; each step has its own.
    """

    def __init__(self, id: str, records: Iterable[AnyRecord], streams: Streams | None = None, *, live: bool = False) -> None:
        super().__init__()
        self.id = id
        self._streams = streams
        self._growing = Growing()
        self._live = live
        self._grouped: tuple[str, str] | None = None
        #: Gives another trajectory of the same store, by its id; None where it is of none.
        self.beside: Callable[[str], Trajectory] | None = None
        #: Every record, in order, as stored (calls may be packed: see `llm_calls[i].record`). The start comes first, whatever the
        #: clock of a host said that recorded more later.
        self.records: list[AnyRecord] = sorted(records, key=lambda r: (type(r) is not Start, r.time, r.writer, r.seq))
        self.start: Start | None = None
        self.end: End | None = None
        self.steps: list[Step] = []
        replaced = {r.supersedes for r in self.records if r.supersedes}
        steps: dict[tuple[str | None, int], Step] = {}
        self._superseded = [r for r in self.records if r.id in replaced]
        self._outside: list[AnyRecord] = []
        #: The records that no other corrects, in order; a correction stands in the place of what it corrects.
        self.standing: list[AnyRecord] = standing(self.records, replaced)
        calls = {r.id: self.call(r) for r in self.standing if isinstance(r, LLMCall)}
        active = self.standing
        self.start = next((r for r in active if isinstance(r, Start)), None)
        agent = self.start.agent if self.start else None
        for record in active:
            if isinstance(record, Start):
                continue
            if isinstance(record, End):
                self.end = record
                continue
            call = calls.get(record.id)
            if record.step is None:
                self._add(record, call)
                self._outside.append(record)
                continue
            key = (record.agent or agent, record.step)
            step = steps.get(key)
            if step is None:
                step = steps[key] = Step(record.step, key[0])
                self.steps.append(step)
            if isinstance(record, StepStart):
                step.record = record
            else:
                step._add(record, call)
                if isinstance(record, (LLMCall, Action, Context)):
                    self._add(record, call)

    def __repr__(self) -> str:
        return f"<Trajectory {self.id[-8:]} {self.status}: {len(self.steps)} steps, reward {self.reward}>"

    def _repr_html_(self) -> str:
        """What a notebook shows of a trajectory."""
        about = (("agent", self.agent), ("model", self.model), ("reward", self.reward), ("group", self.group), ("id", self.id))
        rows = [
            [s.index, ", ".join(a.name for a in s.actions) or "answer", s.reward, s.llm_calls[-1].text if s.llm_calls else None]
            for s in self.steps[:_CARD]
        ]
        left = len(self.steps) - len(rows)
        more = [("more steps", left), ("all of it", "odograph.show(t)")] if left else []
        head = cards.facts([(self.status, self.task)]) + cards.facts(about)
        return head + cards.table(["step", "did", "reward", "said"], rows) + cards.facts(more)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @property
    def streams(self) -> Streams | None:
        """What packed calls refer to; None where no call is packed."""
        return self._streams

    def call(self, record: LLMCall) -> Call:
        """A view of one of its calls, which remembers nothing of other views of the call."""
        return Call(record, self._streams, self._growing)

    @property
    def task(self) -> Any:
        return self.start.task if self.start else None

    @property
    def agent(self) -> str | None:
        return self.start.agent if self.start else None

    @property
    def model(self) -> str | None:
        """The declared model, else the first call's."""
        stated = self.start.model if self.start else None
        return stated or next((c.model for c in self.llm_calls if c.model), None)

    @property
    def group(self) -> str | None:
        """The group whose trajectories are compared: the recorded group, or the group given by `in_group`."""
        return self._grouped[0] if self._grouped else self.start.group if self.start else None

    @property
    def family(self) -> str | None:
        """What a split keeps together: its group, over all windows of time."""
        return self._grouped[1] if self._grouped else self.group

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"beside": None}  # another process opens the store anew

    def in_group(self, name: str, family: str | None = None) -> Self:
        """Returns this trajectory under another group name. Only this view changes; nothing is written."""
        self._grouped = name, name if family is None else family
        return self

    @property
    def tags(self) -> list[str]:
        return self.start.tags if self.start else []

    @property
    def metadata(self) -> dict[str, Any]:
        return self.start.metadata if self.start else {}

    @property
    def status(self) -> State:
        """The final status; `running` while the writer lives, `unterminated` if the writer is gone without an end."""
        return self.end.status if self.end else "running" if self._live else "unterminated"

    @property
    def answer(self) -> Any:
        return self.end.answer if self.end else None

    @cached_property
    def all_rewards(self) -> Rewards:
        """Every reward that counts, of the trajectory and of its steps."""
        found = Rewards(self.rewards)
        for step in self.steps:
            found.extend(step.rewards)
        return found

    @property
    def reward(self) -> float | None:
        return trajectory_reward(self.all_rewards, self.agent)

    @property
    def result(self) -> Any:
        """The last action's result."""
        return self.actions[-1].result if self.actions else None

    @property
    def llm_call(self) -> Call | None:
        """The last call of a model."""
        return self.llm_calls[-1] if self.llm_calls else None

    @property
    def all_edits(self) -> list[Edit]:
        return [*self.edits, *(e for s in self.steps for e in s.edits)]

    @property
    def missing(self) -> list[tuple[str, int, int]]:
        """Messages and ids that calls refer to and that damage took away: (writer, stream, position)."""
        for call in self.llm_calls:
            _ = call.record
        return self._streams.missing if self._streams else []

    @property
    def started(self) -> int | None:
        """Nanoseconds: an import's own time (None if the source has none), else the time when recording began."""
        if self.start is None:
            return self.records[0].time if self.records else None
        if self.start.source_time is not None:
            return self.start.source_time
        return None if "source" in self.metadata else self.start.time

    @property
    def duration(self) -> float | None:
        """Seconds from the start to the end record, by the source's own clock for imports; None if unknown."""
        if self.started is None or self.end is None or self.start is None:
            return None
        stop = self.end.source_time if self.start.source_time is not None else self.end.time
        return None if stop is None else (stop - self.started) / 1e9

    def complete_records(self, *, growing: bool = False) -> Iterator[AnyRecord]:
        """Every record in order, calls with nothing packed.

        `growing`: for what packs them again, a history that is sent with every call is a `Prefix` of one list. The cost is then
        that of what is new in each call.
        """
        lists = Growing() if growing else None
        for record in self.records:
            if not isinstance(record, LLMCall):
                yield record
            elif self._streams is not None:
                yield self._streams.fill(record, growing=lists)
            else:
                yield record if growing else whole(record)

    def to_dict(self) -> dict[str, Any]:
        """Returns a lossless, JSON-ready dict: every record once, in steps. `from_dict` and `store.add` take the dict."""
        stored = {r.id: r for r in self.records}
        referred = {r.id: references(stored[r.id]) for r in self.standing if r is not stored[r.id]}

        def to_dict(record: AnyRecord) -> dict[str, Any]:
            return record_to_dict(record) | referred.get(record.id, {})

        whole: dict[str, Any] = {
            "id": self.id,
            "schema_version": self.start.schema_version if self.start else SCHEMA_VERSION,
            "task": self.task,
            "agent": self.agent,
            "model": self.model,
            "group": self.group,
            "tags": self.tags,
            "status": self.status,
            "reward": self.reward,
            "answer": self.answer,
            "started": iso_time(self.started),
            "duration": self.duration,
            "start": record_to_dict(self.start) if self.start else None,
            "steps": [
                {
                    "index": s.index,
                    "agent": s.agent,
                    "observation": s.observation,
                    "reward": s.reward,
                    "record": to_dict(s.record) if s.record else None,
                    **s._by_kind(to_dict),
                }
                for s in self.steps
            ],
        }
        outside = _Part()
        for record in self._outside:
            outside._add(record, self.call(record) if isinstance(record, LLMCall) else None)
        whole.update(outside._by_kind(to_dict))
        whole["end"] = to_dict(self.end) if self.end else None
        listed = set(map(id, [r for r in self.records if isinstance(r, End) and r is not self.end]))
        older = [r for r in self.records if id(r) in listed] + self._superseded
        if older:
            whole["superseded"] = [record_to_dict(self.call(r).record if isinstance(r, LLMCall) else r) for r in older]
        return whole

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trajectory:
        """Builds a trajectory from a dict of `to_dict`, or a hand-made dict in that shape (see `handmade.records_from_dict`)."""
        records = records_from_dict(data)
        if not all(record.id for record in records):  # a hand-made one is as it would be in a store
            records = placed_records(records)
        return cls(records[0].trajectory, records)


def own_steps(t: Trajectory) -> list[Step]:
    """The steps of a trajectory's own agent and of those it handed over to; not of those that did tasks for it."""
    handed = handed_over(t)
    root = t.start.id if t.start else None
    return [s for s in t.steps if s.record is None or s.record.parent in (root, None) or s.record.parent in handed]


#: What of an action's `extra` has the name of the agent that takes over from there.
HANDOFF = "handoff"


def handed_over(t: Trajectory) -> dict[str, Action]:
    """The actions by which one agent hands the conversation over to another, by id.

    Other sources, and older records, tell them by the name alone: `transfer_to_` and the agent that acts inside, if any does.
    """
    inside = {s.record.parent: s.agent for s in t.steps if s.record is not None}
    found: dict[str, Action] = {}
    for action in t.actions:
        known = HANDOFF in (action.extra or {})
        if not known and action.ok and action.name.startswith("transfer_to_"):
            agent = inside.get(action.id)
            named = f"transfer_to_{re.sub('[^A-Za-z0-9_-]', '_', agent)}"[:64] if agent is not None else action.name
            known = action.name.lower() == named.lower()
        if known:
            found[action.id] = action
    return found


def before_step(t: Trajectory, step: int) -> Trajectory:
    """The trajectory before its own agent's step of this number, as a fork from there has it. Raises InvalidInput."""
    steps = own_steps(t)
    if not 0 <= step <= len(steps):
        raise InvalidInput(f"no step {step} of trajectory {t.id[-8:]}; there are 0 to {len(steps)}")
    if step == len(steps):
        return t
    first = steps[step].record
    if first is None:
        raise InvalidInput(f"step {step} of trajectory {t.id[-8:]} has no record of its beginning")
    before: list[AnyRecord] = []
    for record in t.complete_records():
        if record.id == first.id:
            break
        before.append(record)
    return Trajectory(t.id, before)
