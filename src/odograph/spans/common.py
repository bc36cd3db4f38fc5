"""What the rooms of this package share: who and which session, tokens, bodies."""

from __future__ import annotations

from typing import Any

from .. import dialects
from ..clock import parse_time
from ..shape import integer, items, number, obj
from .span import TraceSpan

#: Names under which emitters say which conversation or session a span is of; the most exact first.
SESSIONS = (
    "gen_ai.conversation.id",
    "langfuse.session.id",
    "session.id",
    "conversation.id",
    "langsmith.metadata.thread_id",
    "langsmith.metadata.session_id",
    "langsmith.metadata.conversation_id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.conversation_id",
    "traceloop.association.properties.chat_id",
    "ai.telemetry.metadata.sessionId",
    "ai.telemetry.metadata.session_id",
    "ai.telemetry.metadata.conversationId",
    "ai.telemetry.metadata.threadId",
    "ai.telemetry.metadata.chatId",
)
_USERS = ("user.id", "langfuse.user.id", "enduser.id", "ai.telemetry.metadata.userId", "traceloop.association.properties.user_id")


def session_of(span: TraceSpan) -> str | None:
    """The conversation or session that a span says it is of."""
    found = span.get(*SESSIONS)
    return str(found) if isinstance(found, (str, int)) and str(found) else None


def about_of(span: TraceSpan) -> dict[str, Any]:
    """What any span may say of the run as a whole."""
    user, tags = span.get(*_USERS), items(span.json("logfire.tags"))
    return {**({"user": user} if isinstance(user, str) else {}), **({"tags": list(map(str, tags))} if tags else {})}


def time_of(value: Any) -> int | None:
    """Nanoseconds: a count, also as a text; JavaScript's [seconds, nanoseconds]; a date."""
    if isinstance(value, list) and len(value) == 2:
        whole, rest = integer(value[0]), integer(value[1])
        return whole * 1_000_000_000 + rest if whole is not None and rest is not None and 0 < whole < 4e9 else None
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    return parse_time(value) if value else None


def count(value: Any) -> int | None:
    """A number of tokens, also one written as a text."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        return int(value)
    return integer(value)


def reason(value: Any) -> str | None:
    """Why an answer ended, in the words of OpenAI's API where the emitter has its own spelling."""
    return _REASONS.get(value, value) if isinstance(value, str) and value else None


_REASONS = {"tool_call": "tool_calls", "tool-calls": "tool_calls", "content-filter": "content_filter"}


def price(value: Any) -> float | None:
    """An amount of money, also one written as a text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return number(value)


def prompt_count(given: int | None, read: int | None = None, written: int | None = None) -> int | None:
    """Prompt tokens with the cached ones. Emitters disagree on whether their count has them: a count that is smaller than its
    cached part has not."""
    cached = (read or 0) + (written or 0)
    if given is None:
        return cached or None
    return given + cached if cached > given else given


def usage_counts(usage: dict[str, Any]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens of a usage object of any API; of Anthropic's the cached ones are apart. Beside OpenAI's
    `prompt_tokens` LiteLLM repeats Anthropic's names: the cached ones are counted there already."""
    given = next((count(usage[k]) for k in ("prompt_tokens", "input_tokens", "input") if k in usage), None)
    if "prompt_tokens" not in usage and ("cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage):
        apart = (count(usage.get(k)) or 0 for k in ("cache_read_input_tokens", "cache_creation_input_tokens"))
        given = None if given is None else given + sum(apart)
    return given, next((count(usage[k]) for k in ("completion_tokens", "output_tokens", "output") if k in usage), None)


def is_body(value: Any) -> bool:
    """Whether a value is a request as an API takes it, and no serialised object of a framework."""
    given = obj(value)
    many = given.get("messages", given.get("contents"))
    if isinstance(many, list) and many:
        return all(isinstance(m, dict) and ("role" in m or "parts" in m) and "lc" not in m for m in many)
    return isinstance(given.get("input"), (str, list)) and "model" in given


def dialect_of(response: Any) -> str | None:
    """The dialect of a raw response, None where it has the looks of none."""
    if not isinstance(response, dict):
        return None
    dialect = dialects.of_response(response, None)
    return dialect.NAME if dialect.is_response(response) else None


def ended(span: TraceSpan) -> dict[str, Any]:
    """The fields of a call or an action that a span's times and status tell."""
    fields: dict[str, Any] = {"started": span.start}
    if span.start is not None and span.end is not None and span.end >= span.start and not span.log:
        fields["duration"] = span.end - span.start
    if span.failed:
        fields["error"] = span.error or exception(span) or "failed"
    return fields


def exception(span: TraceSpan) -> str | None:
    """The exception that a span recorded, with its traceback where there is one."""
    for event in span.events:
        if event.name == "exception":
            told = (event.attributes.get(f"exception.{name}") for name in ("stacktrace", "message", "type"))
            return next((str(t) for t in told if t), None)
    return None
