"""Views of one trajectory: its records as steps, calls and rewards. Values in memory; knows no files.

A view never changes a record. Superseded records are in `records` and nowhere else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Generic, Never, Self, TypeVar, cast, overload
from typing import Literal as OneOf

import msgspec

from . import cards, dialects
from .clock import iso_time
from .codec import loads, record_to_dict, unfold_events
from .dialects import Choice
from .errors import InvalidInput
from .handmade import placed_records, records_from_dict
from .standing import standing
from .streams import Seen, Streams
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
    Origin,
    Packed,
    Reward,
    Start,
    StepStart,
    Tokens,
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


T = TypeVar("T")


class _Stored(Generic[T]):
    """A field of a call that is as it was stored, whatever of the record is packed."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, call: None, owner: type) -> Self: ...
    @overload
    def __get__(self, call: Call, owner: type) -> T: ...
    def __get__(self, call: Call | None, owner: type) -> T | Self:
        return self if call is None else cast(T, getattr(call._stored, self._name))

    def __set__(self, call: Call, value: Never) -> None:
        raise AttributeError(f"a call is a view: its {self._name} can't be set")


#: Where the token ids of a prompt stand in a record that has them in a field of their own.
_BESIDE: list[str | int] = ["prompt_token_ids"]


class Call:
    """One model call. `record` holds the stored record; the other fields are read from the record on access."""

    id: _Stored[str] = _Stored()
    trajectory: _Stored[str] = _Stored()
    seq: _Stored[int] = _Stored()
    time: _Stored[int] = _Stored()
    parent: _Stored[str | None] = _Stored()
    agent: _Stored[str | None] = _Stored()
    step: _Stored[int | None] = _Stored()
    source_time: _Stored[int | None] = _Stored()
    supersedes: _Stored[str | None] = _Stored()
    writer: _Stored[str] = _Stored()
    extra: _Stored[dict[str, Any] | None] = _Stored()
    dialect: _Stored[str | None] = _Stored()
    model: _Stored[str | None] = _Stored()
    origin: _Stored[Origin] = _Stored()
    prompt_tokens: _Stored[int | None] = _Stored()
    completion_tokens: _Stored[int | None] = _Stored()
    cost: _Stored[float | None] = _Stored()
    purpose: _Stored[str] = _Stored()
    error: _Stored[Any] = _Stored()
    status_code: _Stored[int | None] = _Stored()
    started: _Stored[int | None] = _Stored()
    duration: _Stored[int | None] = _Stored()
    first_token: _Stored[int | None] = _Stored()
    policy_version: _Stored[str | int | None] = _Stored()
    logprobs_of: _Stored[OneOf["sampled", "raw", "unknown"]] = _Stored()
    tokenizer: _Stored[str | None] = _Stored()
    adapter: _Stored[str | None] = _Stored()
    inputs: _Stored[list[str]] = _Stored()
    tokens: _Stored[list[Tokens]] = _Stored()
    packed: _Stored[list[Packed]] = _Stored()
    packed_by: _Stored[str] = _Stored()

    def __init__(self, record: LLMCall, streams: Streams | None = None) -> None:
        self._stored = record
        self._streams = streams

    def __repr__(self) -> str:
        return f"<Call {self.id[-8:]} {self.model or ''} {self.purpose}>"

    @cached_property
    def record(self) -> LLMCall:
        """The whole record, with nothing packed."""
        return self._streams.fill(self._stored) if self._streams else self._stored

    def new_messages(self, seen: Seen) -> list[dict[str, Any]]:
        """What the model was sent and what no call before that went through `seen` sent, chat-shaped. Costs what is new."""
        return self.news(seen)[0]

    def news(self, seen: Seen) -> tuple[list[dict[str, Any]], list[Any], dict[str, Any]]:
        """New in the request: `new_messages`, the tool schemas where they differ from those before, all parameters."""
        request = self._streams.new_in(self._stored, seen) if self._streams else self._stored.request
        if not isinstance(request, dict):
            return [], [], {}
        dialect = dialects.get(self._stored.dialect)
        return dialect.messages(request), dialect.tools(request), dialect.params(request)

    @cached_property
    def _answered(self) -> LLMCall:
        """The record with its response whole: a long history is not put together for it."""
        if self._streams is None or "record" in self.__dict__:
            return self.record
        return self._streams.fill(self._stored, "response", "tokens")

    @cached_property
    def _asked(self) -> LLMCall:
        """The record with its request whole: the token ids of a long prompt are not put together for it."""
        if self._streams is None or "record" in self.__dict__:
            return self.record
        return self._streams.fill(self._stored, "request")

    @property
    def request(self) -> Any:
        return self._asked.request

    @property
    def response(self) -> Any:
        return self._answered.response

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The messages that the model was sent, chat-shaped, with the system prompt first."""
        return dialects.get(self._stored.dialect).messages(self.request)

    @property
    def params(self) -> dict[str, Any]:
        return dialects.get(self._stored.dialect).params(self.request)

    @property
    def tools(self) -> list[Any]:
        return dialects.get(self._stored.dialect).tools(self.request)

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage object as the backend or the caller gave it."""
        if self._stored.usage is not None:
            return self._stored.usage
        found = dialects.of(self._stored).stated(self._stored.response)
        return found if isinstance(found, dict) else None

    @property
    def events(self) -> list[Any]:
        """The events of a streamed response, as received; empty if the response was not streamed."""
        return unfold_events(self._stored.events)

    @property
    def prompt_token_ids(self) -> list[int] | None:
        """The token ids of the prompt; None if unknown, or if one request has several prompts. A list of its own each time: the
        call does not keep it."""
        if self._streams is not None and "record" not in self.__dict__:
            for part in self._stored.packed:
                if part.at == _BESIDE:
                    return cast("list[int] | None", self._streams.part(self._stored.packed_by, part))
        return dialects.prompt_ids(self.record)

    @property
    def batch_token_ids(self) -> list[list[int] | None]:
        """The token ids of each prompt of a call with several prompts (`choice.prompt` says which one a choice answers); an empty
        list for a call with one prompt."""
        if self.has_prompt_ids_beside or not dialects.takes_batches(self._stored.dialect):
            return []
        return dialects.batch_ids(self.record)

    @property
    def has_prompt_ids_beside(self) -> bool:
        """Whether the token ids of the prompt were given beside the request and the response, and not in them."""
        return self._stored.prompt_token_ids is not None or any(part.at == _BESIDE for part in self._stored.packed)

    @cached_property
    def choices(self) -> list[Choice]:
        """All answers, with token ids and logprobs from the response or from the recording call."""
        # the messages of a long history say nothing of the answers; prompts of the other dialects do
        apart = any(part.of == "list" or part.at == _BESIDE for part in self._stored.packed)
        record = self._answered if apart else self.record
        found = dialects.answers(record)
        while len(found) < len(record.tokens):  # ids of answers whose text was not given
            found.append(Choice(index=len(found), message={"role": "assistant", "content": None}))
        for index, given in enumerate(record.tokens):
            new: dict[str, Any] = {
                k: v for k, v in (("token_ids", given.token_ids), ("logprobs", given.logprobs)) if v is not None
            }
            found[index] = msgspec.structs.replace(found[index], **new)
        if len(found) == 1:
            more = {k: v for k in ("reasoning", "finish_reason") if (v := getattr(record, k)) is not None}
            found[0] = msgspec.structs.replace(found[0], **more)
        return found

    @property
    def text(self) -> str:
        """The text of the first answer."""
        return self.choices[0].text if self.choices else ""

    @property
    def reasoning(self) -> str | None:
        return self._stored.reasoning or (self.choices[0].reasoning if self.choices else None)

    thinking = reasoning

    @property
    def finish_reason(self) -> str | None:
        return self._stored.finish_reason or (self.choices[0].finish_reason if self.choices else None)


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

    def _by_kind(self) -> dict[str, Any]:
        return {
            "contexts": [record_to_dict(r) for r in self.contexts],
            "llm_calls": [record_to_dict(c.record) for c in self.llm_calls],
            "actions": [record_to_dict(r) for r in self.actions],
            "rewards": [record_to_dict(r) for r in self.rewards],
            "edits": [record_to_dict(r) for r in self.edits],
            "labels": [record_to_dict(r) for r in self.labels],
            "notes": [record_to_dict(r) for r in self.notes],
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
        calls = {r.id: Call(r, streams) for r in self.records if isinstance(r, LLMCall)}
        self._superseded = [r for r in self.records if r.id in replaced]
        self._outside: list[AnyRecord] = []
        #: The records that no other corrects, in order; a correction stands in the place of what it corrects.
        self.standing: list[AnyRecord] = standing(self.records, replaced)
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
        return trajectory_reward(self.all_rewards)

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
        for record in self.records:
            packed = self._streams is not None and isinstance(record, LLMCall)
            yield self._streams.fill(record, growing=growing) if packed else record  # type: ignore[union-attr, arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Returns a lossless, JSON-ready dict: every record once, in steps. `from_dict` and `store.add` take the dict."""
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
                    "record": record_to_dict(s.record) if s.record else None,
                    **s._by_kind(),
                }
                for s in self.steps
            ],
        }
        outside = _Part()
        for record in self._outside:
            outside._add(record, Call(record, self._streams) if isinstance(record, LLMCall) else None)
        whole.update(outside._by_kind())
        whole["end"] = record_to_dict(self.end) if self.end else None
        listed = set(map(id, [r for r in self.records if isinstance(r, End) and r is not self.end]))
        older = [r for r in self.records if id(r) in listed] + self._superseded
        if older:
            whole["superseded"] = [
                record_to_dict(self._streams.fill(r) if self._streams and isinstance(r, LLMCall) else r) for r in older
            ]
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
