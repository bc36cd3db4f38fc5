"""A span as any tool wrote it, and what a convention of instrumentation says that the span means. Values only."""

from __future__ import annotations

from typing import Any
from typing import Literal as OneOf

import msgspec

from ..shape import parsed


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a span says happened at a moment."""

    name: str
    time: int | None = None
    attributes: dict[str, Any] = {}


class TraceSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One span, or one log record, of any tool. Ids are texts as the source writes them (hex in OpenTelemetry)."""

    trace: str
    id: str
    parent: str | None = None
    name: str = ""
    #: Nanoseconds since 1970, UTC. A log record has the same start and end.
    start: int | None = None
    end: int | None = None
    #: Plain JSON values, by dotted names.
    attributes: dict[str, Any] = {}
    events: list[Event] = []
    failed: bool = False
    #: What the status says of a failure.
    error: str | None = None
    resource: dict[str, Any] = {}
    #: The instrumentation library, and its version.
    scope: str = ""
    scope_version: str | None = None
    #: Whether it is a log record: a moment of a session, not a length of it.
    log: bool = False
    #: What the source says that no field here holds.
    more: dict[str, Any] = {}

    def get(self, *names: str) -> Any:
        """The first attribute of these names that is there."""
        return next((self.attributes[n] for n in names if self.attributes.get(n) is not None), None)

    def json(self, *names: str) -> Any:
        """The first attribute of these names that is there, parsed where it is JSON as text; a text that is no JSON stays a
        text."""
        return parsed(self.get(*names))

    def nested(self, prefix: str) -> list[dict[str, Any]]:
        """Attributes `prefix.N.rest` as one object per number that is there, in order: `{rest: value}`."""
        found: dict[int, dict[str, Any]] = {}
        start = len(prefix) + 1
        for name, value in self.attributes.items():
            if not name.startswith(prefix + "."):
                continue
            number, _, rest = name[start:].partition(".")
            if number.isdecimal() and len(number) < 8:
                found.setdefault(int(number), {})[rest] = value
        return [found[number] for number in sorted(found)]


Kind = OneOf["call", "tool", "agent", "read", "holder", "note", "noise"]


class Meaning(msgspec.Struct, kw_only=True):
    """What a span means. `fields` are those of the record of the kind: `LLMCall` (call), `Action` (tool), `Context` (read),
    `Note` (note). An `agent` is a span inside which somebody of a name acts; a `holder` only holds other spans; `noise` is
    nothing of a session."""

    kind: Kind
    fields: dict[str, Any] = {}
    #: Who acts in this span and inside it.
    agent: str | None = None
    #: What the whole run was asked, and what it answered, where this span says it.
    task: Any = None
    answer: Any = None
    #: What stands on the start record: user, tags, metadata of the application.
    about: dict[str, Any] = {}
    #: Totals of what is inside. They repeat what the calls say, and are never counted.
    totals: dict[str, Any] = {}
    #: Scores: fields of `Reward`.
    rewards: list[dict[str, Any]] = []
    #: Names (or beginnings of names that end with a dot) of the attributes that the fields hold.
    used: tuple[str, ...] = ()
    #: Attributes whose text the emitter cut.
    cut: tuple[str, ...] = ()

    def left(self, span: TraceSpan) -> dict[str, Any]:
        """The attributes that no field holds."""
        prefixes = tuple(name for name in self.used if name.endswith("."))
        return {
            name: value
            for name, value in span.attributes.items()
            if name not in self.used and not (prefixes and name.startswith(prefixes))
        }
