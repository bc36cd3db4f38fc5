"""Reading what may be anything: the value if it has the expected type, else an empty one. For code that reads files, messages
and functions of others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .codec import loads
from .errors import InvalidInput
from .plain import tagged

if TYPE_CHECKING:
    import inspect


def obj(value: Any) -> dict[str, Any]:
    """A dict as it is; anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list as it is; anything else as an empty one."""
    return value if isinstance(value, list) else []


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [v for v in items(value) if isinstance(v, dict)]


def text(value: Any) -> str | None:
    """A string that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def integer(value: Any) -> int | None:
    """A whole number of at most 64 bits, else None; True is no number."""
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def number(value: Any) -> float | None:
    """A finite number as a float, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if value == value and abs(value) != float("inf") else None
    except OverflowError:
        return None


def nanoseconds(seconds: Any) -> int | None:
    """A duration given in seconds; None where it is none, or longer than a century."""
    found = number(seconds)
    return round(found * 1e9) if found is not None and 0 <= found < 4e9 else None


def score(value: Any) -> Any:
    """A reward's value: a float (True is 1.0), NaN and infinities tagged; None where it is no number."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and number(value) is None:
        return tagged("float", str(value))
    return number(value)


def parsed(value: Any) -> Any:
    """What a text says in JSON; a text that is no JSON, and anything else, as it is."""
    if isinstance(value, str):
        try:
            return loads(value)
        except InvalidInput:
            return value
    return value


def literal(value: Any) -> Any:
    """What a text says in JSON's or Python's notation; a text that is neither, and anything else, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return loads(value)
    except InvalidInput:
        from ast import literal_eval  # most programs read no such text

        try:
            return literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value


def arguments(value: Any) -> Any:
    """A tool call's arguments: the object that its JSON string holds, else what stands there."""
    found = parsed(value)
    return found if isinstance(found, dict) else value


def content_text(content: Any) -> str | None:
    """The text of a content that is a string or a list of parts; None where it has none."""
    if isinstance(content, str):
        return content or None
    parts = [
        p.get("text") for p in dicts(content) if p.get("type") in (None, "text", "input_text", "output_text", "summary_text")
    ]
    found = [p for p in parts if isinstance(p, str)]
    return "\n".join(found) or None


def thinking(reply: dict[str, Any]) -> str | None:
    """What a model thought before a reply, in any wire's shape: a text, or blocks beside the content or in it."""
    for message in (reply, obj(reply.get("message")), *(obj(c.get("message")) for c in dicts(reply.get("choices")))):
        said = text(message.get("reasoning_content")) or text(message.get("reasoning"))
        blocks = dicts(message.get("thinking_blocks")) or dicts(message.get("content"))
        thoughts = [b["thinking"] for b in blocks if isinstance(b.get("thinking"), str) and b["thinking"]]
        if said or thoughts:
            return said or "\n\n".join(thoughts)
    return None


def without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    """A copy without some fields: what is left is what no record field holds."""
    return {k: v for k, v in value.items() if k not in names}


def added(*counts: int | None) -> int | None:
    """The sum of the counts that are known; None where none is."""
    known = [c for c in counts if c is not None]
    return sum(known) if known else None


def signature(fn: Any) -> inspect.Signature | None:
    """The signature of a callable; None if it has none, as some written in C. Python 3.14 evaluates annotations late: a name that
    is imported for type checkers only stays a name."""
    import inspect  # slow to import

    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None
