"""The records: one immutable fact each, as they are written and read. Values only; nothing here touches a file.

A trajectory is a list of records. Every record says which trajectory it belongs to, what it happened inside (`parent`),
who acted (`agent`) and in which step. Optional fields are left out of the stored form when they hold their default, so
adding a field with a default never needs a new schema version.
"""

from typing import Any, get_args
from typing import Literal as OneOf

import msgspec

#: Of the package.
VERSION = "0.1.0"
#: Of the records.
SCHEMA_VERSION = 1

#: What JSON can't hold is stored as an object with this key: its kind (`float`, `text`, `bytes` or `repr`).
TAG = "$odograph"

Status = OneOf["completed", "failed", "timeout", "cancelled", "truncated"]
Origin = OneOf["wire", "caller", "transcript"]
#: What a logprob is of: the distribution that was sampled from, that of the model before temperature and filters, or not known.
LogprobsOf = OneOf["sampled", "raw", "unknown"]
#: Who or what gave a reward.
RewardSource = OneOf["environment", "function", "judge", "human"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every record has. Ids are UUIDv7 strings; times are integer nanoseconds since 1970, UTC."""

    id: str = ""
    trajectory: str = ""
    #: Strictly increasing per (trajectory, writer), with gaps. The order of a trajectory is (time, writer, seq).
    seq: int = 0
    #: When it was recorded.
    time: int = 0
    #: The writer that recorded it. Stored in the line only where that is not the file's own: its header says it.
    writer: str = ""
    #: The record it happened inside; None only for `start`.
    parent: str | None = None
    #: Who acted.
    agent: str | None = None
    #: Index of the step, counted per agent; None: outside of any step.
    step: int | None = None
    #: When it happened, where that was not when it was recorded: an import's own clock. None: not known.
    source_time: int | None = None
    #: The id of the record that this one corrects.
    supersedes: str | None = None
    #: What a source said that no field holds.
    extra: dict[str, Any] | None = None


class Fork(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a fork left its parent trajectory."""

    trajectory: str
    step: int | None = None
    reason: str | None = None


class Start(Record, frozen=True, kw_only=True, tag="start"):
    """The task (any JSON), who tries it, and what it is compared with. `metadata.source` says where an import came from."""

    schema_version: int = SCHEMA_VERSION
    task: Any = None
    agent_version: str | None = None
    model: str | None = None
    group: str | None = None
    policy_version: str | int | None = None
    seed: int | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    fork: Fork | None = None


class StepStart(Record, frozen=True, kw_only=True, tag="step"):
    """A step begins: its index is `step`, and this is what was observed."""

    observation: Any = None


class Context(Record, frozen=True, kw_only=True, tag="context"):
    """What was read before deciding, and why."""

    provider: str = ""
    data: Any = None
    query: Any = None
    purpose: str | None = None
    error: Any = None
    #: Nanoseconds: when the read began, and how long it took.
    started: int | None = None
    duration: int | None = None


class Tokens(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Token ids of one choice, and the logprob of each (None where there is none), given beside a response."""

    token_ids: list[int] | None = None
    #: Floats, None, or what a backend gave instead (a tagged NaN): checks look at them, reading does not.
    logprobs: list[Any] | None = None
    #: [from this token on, the policy's version]: weights can change inside of a response.
    versions: list[tuple[int, str | int]] = []


class Packed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A part of a call that is stored apart, once: where it was, and the ranges of the stream that hold it."""

    at: list[str | int]
    of: OneOf["list", "value", "ids"]
    stream: int
    #: [start, stop) of messages (`list`, `value`) or of token ids (`ids`) in the stream.
    ranges: list[tuple[int, int]]


class LLMCall(Record, frozen=True, kw_only=True, tag="llm_call"):
    """One call of a model: the exact request and response, and what is known about them.

    `request` and `response` are value-equal to the JSON that crossed the wire (`origin="wire"`), to what the caller gave
    (`caller`), or are rebuilt from a session's transcript by an importer (`transcript`).
    """

    dialect: str | None = None
    model: str | None = None
    origin: Origin = "caller"
    request: Any = None
    response: Any = None
    #: The events of a streamed response, exactly; delta-coded (`odograph.codec.unfold_events`).
    events: Any = None
    reasoning: str | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    #: Counts as the backend states them; cached prompt tokens are included.
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    #: What the call was for: `act` is the policy's own decision; `judge`, `user`, `tool`, ... are not trained on.
    purpose: str = "act"
    error: Any = None
    #: HTTP status, where the call crossed a wire.
    status_code: int | None = None
    #: Nanoseconds: when it began, how long it took, and how long until the first token.
    started: int | None = None
    duration: int | None = None
    first_token: int | None = None
    policy_version: str | int | None = None
    #: What the logprobs describe: the distribution that was sampled (after temperature and truncation), or the raw one.
    logprobs_of: LogprobsOf = "unknown"
    #: Who they are: the tokenizer with its chat template, and the adapter (LoRA) that was at work.
    tokenizer: str | None = None
    adapter: str | None = None
    #: Hashes of what was sent beside text (images, audio), in order.
    inputs: list[str] = []
    #: Until they are stored they may be a `Prefix`, as messages may be.
    prompt_token_ids: list[int] | None = None
    #: Per choice, where ids were given beside the response; else they are in the response, or nowhere.
    tokens: list[Tokens] = []
    packed: list[Packed] = []
    #: The writer whose streams hold the packed parts. Not stored: set where the line is read.
    packed_by: str = ""


class Action(Record, frozen=True, kw_only=True, tag="action"):
    """What was done: a tool or an environment's action, and its outcome."""

    name: str = ""
    arguments: Any = None
    result: Any = None
    ok: bool | None = None
    error: Any = None
    #: Record id of the call that asked for it, and that call's own id for it.
    llm_call: str | None = None
    tool_call_id: str | None = None
    started: int | None = None
    duration: int | None = None


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens [start, stop) of one choice of a call."""

    start: int
    stop: int
    choice: int = 0


class Reward(Record, frozen=True, kw_only=True, tag="reward"):
    """What was earned: by the record `target` (with `span`: by those tokens of it), else by the step, else by the trajectory.

    `value` None is "not known" and never 0. A non-finite value is kept tagged and never counts.
    """

    name: str = "reward"
    value: float | dict[str, Any] | None = None
    weight: float = 1.0
    target: str | None = None
    span: Span | None = None
    #: environment, function, judge or human.
    source: str = "environment"
    author: str | None = None
    rationale: str | None = None
    #: Version of the function that computed it.
    version: str | None = None


class Kept(msgspec.Struct, frozen=True, omit_defaults=True, tag="kept", tag_field="run"):
    """A run of an edit's result: units [start, stop) of the base, or of another call's choice."""

    start: int
    stop: int
    call: str | None = None
    choice: int | None = None


class Literal(msgspec.Struct, frozen=True, omit_defaults=True, tag="literal", tag_field="run"):
    """A run of an edit's result: what the editor wrote, as token ids, text, or both."""

    ids: list[int] | None = None
    text: str | None = None


class Edit(Record, frozen=True, kw_only=True, tag="edit"):
    """A change to generated tokens or text that never went through the model's API."""

    #: Record id of the call whose output was edited.
    base: str = ""
    choice: int = 0
    channel: str = "content"
    #: What the base was when it was edited (`odograph.codec.content_hash` of its ids, or of its text).
    base_hash: str | None = None
    #: Whether runs count tokens or characters of the base.
    unit: OneOf["token", "char"] = "token"
    result: list[Kept | Literal] = []
    author: str | None = None
    reason: str | None = None
    preferred: bool = False
    #: Why the edit was not accepted (a wrong base hash, a range outside the base); it changes nothing then.
    rejected: str | None = None


class Label(Record, frozen=True, kw_only=True, tag="label"):
    """A judgement about a trajectory, a step or a record, by a human or a judge model."""

    technique: str = ""
    description: str | None = None
    value: Any = None
    score: float | dict[str, Any] | None = None
    rationale: str | None = None
    author: str | None = None
    rubric_hash: str | None = None
    target: str | None = None


class Note(Record, frozen=True, kw_only=True, tag="note"):
    """Anything else worth keeping."""

    name: str | None = None
    data: Any = None


class End(Record, frozen=True, kw_only=True, tag="end"):
    """How it ended. `metrics` may state totals (`prompt_tokens`, `completion_tokens`, ...)."""

    status: Status = "completed"
    answer: Any = None
    error: Any = None
    metrics: dict[str, Any] = {}


AnyRecord = Start | StepStart | Context | LLMCall | Action | Reward | Edit | Label | Note | End
RECORDS: tuple[type[Record], ...] = (Start, StepStart, Context, LLMCall, Action, Reward, Edit, Label, Note, End)
KINDS: dict[str, type[Record]] = {str(r.__struct_config__.tag): r for r in RECORDS}
#: What may come after the end, from anyone: who writes these alone is not at work on a trajectory.
LATE: tuple[type[Record], ...] = (Reward, Edit, Label, Note)
STATUSES: tuple[Status, ...] = get_args(Status)
