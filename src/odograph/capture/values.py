"""What is given by hand -> what is written: names, numbers, exceptions, ids, token ids. Wrong use raises TypeError."""

from __future__ import annotations

import math
from typing import Any

from ..codec import tagged


def id_of(thing: Any, what: str) -> str:
    found = thing if isinstance(thing, str) else getattr(thing, "id", None)
    if not isinstance(found, str):
        raise TypeError(f"{what} is a record, what a recording method returned, or an id; not {type(thing).__name__}")
    return found


def named(value: Any, what: str) -> str:
    if type(value) is str or isinstance(value, str):
        return value
    raise TypeError(f"{what} is a string, not {type(value).__name__}")


def number(value: Any, what: str) -> float | dict[str, Any] | None:
    """A float, None, or the tagged form of a non-finite float. Raises TypeError for what is no number."""
    if type(value) is float and math.isfinite(value):
        return value
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
            raise TypeError(f"{what} is a number or None, not {type(value).__name__}")
    try:
        result = float(value)
    except (OverflowError, ValueError, RuntimeError) as error:
        raise TypeError(f"{what} is a number or None: {error}") from None
    return result if math.isfinite(result) else tagged("float", str(result))


def error_of(error: BaseException | Any) -> Any:
    """What is kept of an exception: its type and message; anything else as it is."""
    if not isinstance(error, BaseException):
        return error
    kind = type(error)
    try:
        message = str(error)
    except Exception:  # an exception class of the agent's own
        message = ""
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": message}


def status_of(error: BaseException) -> str:
    """The end status that an exception means."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)) or type(error).__name__ == "CancelledError":
        return "cancelled"
    return "failed"


def listed(values: Any) -> Any:
    """Ids or logprobs as a list."""
    if values is None or type(values) is list:
        return values
    if hasattr(values, "tolist"):
        return values.tolist()
    return list(values)


def tokens_of(ids: list[Any] | None, logprobs: list[Any] | None) -> list[dict[str, Any]]:
    if ids and logprobs and type(ids[0]) is int and type(logprobs[0]) is float:
        return [{"token_ids": ids, "logprobs": logprobs}]
    nested = any(isinstance(x[0], (list, tuple)) for x in (ids, logprobs) if x)
    pairs = [(ids, logprobs)]
    if nested:
        count = max(len(x) for x in (ids, logprobs) if x is not None)
        pairs = [
            (ids[i] if ids and i < len(ids) else None, logprobs[i] if logprobs and i < len(logprobs) else None)
            for i in range(count)
        ]
    return [
        {k: v if type(v) is list else list(v) for k, v in (("token_ids", i), ("logprobs", p)) if v is not None} for i, p in pairs
    ]
