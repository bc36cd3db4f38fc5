"""What is given by hand -> what is written: names, numbers, exceptions, ids, token ids. Wrong use raises TypeError."""

from __future__ import annotations

import math
from collections import deque
from operator import index
from typing import Any

from ..codec import plain
from ..guard import Refused
from ..plain import NODES, answer_of, message_of, on_type, tagged, type_name
from ..types import Status


def id_of(thing: Any, what: str) -> str:
    try:
        found = thing if issubclass(type(thing), str) else answer_of(lambda: getattr(thing, "id", None), type(thing))
    except Refused:
        found = None
    if found is None or not issubclass(type(found), str):
        raise TypeError(f"{what} is a record, what a recording method returned, or an id; not {type(thing).__name__}")
    return str.__str__(found)


def named(value: Any, what: str) -> str:
    if type(value) is str or issubclass(type(value), str):
        return str.__str__(value)
    raise TypeError(f"{what} is a string, not {type(value).__name__}")


def number(value: Any, what: str) -> float | dict[str, Any] | None:
    """A float, None, or the tagged form of a non-finite float. Raises TypeError for what is no number."""
    if type(value) is float and math.isfinite(value):
        return value
    if value is None:
        return None
    kind = type(value)
    if not issubclass(kind, (int, float)) and (issubclass(kind, (str, bytes)) or on_type(kind, "__float__") is None):
        raise TypeError(f"{what} is a number or None, not {type_name(kind).removeprefix('builtins.')}")
    try:
        plainly = kind is int or kind is bool
        result = float(value) if plainly else float.__float__(answer_of(lambda: float(value), kind))
    except (OverflowError, Refused) as error:
        raise TypeError(f"{what} is a number or None: {error}") from None
    return result if math.isfinite(result) else tagged("float", str(result))


def whole(value: Any, what: str) -> int:
    """A whole number of any class, such as numpy's. Raises TypeError for what is none."""
    try:
        return int(index(value))
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {type_name(type(value)).removeprefix('builtins.')}") from None


def truth(value: Any) -> bool | None:
    """True or False; None where the value itself can't say."""
    try:
        return bool(value) if _is_exactly(value, int, float, str) else answer_of(lambda: bool(value), type(value))
    except Refused:
        return None


def said_of(error: Any) -> str | None:
    """What a recorded error says, without its kind."""
    said = error.get("message") if isinstance(error, dict) else error
    return said if isinstance(said, str) and said else None


def error_of(error: BaseException | Any) -> Any:
    """What is kept of an exception: its type and message; anything else as it is."""
    if not issubclass(type(error), BaseException):
        return error
    return {"type": type_name(type(error)).removeprefix("builtins."), "message": message_of(error)}


def status_of(error: BaseException) -> Status:
    """The end status that an exception means."""
    kind = type(error)
    if issubclass(kind, TimeoutError):
        return "timeout"
    if issubclass(kind, (KeyboardInterrupt, GeneratorExit)) or type_name(kind).endswith(".CancelledError"):
        return "cancelled"
    return "failed"


def _is_exactly(value: Any, *kinds: type) -> bool:
    """Whether the type of a value is one of these: by `is`, as the metaclass of a class may raise where types are compared."""
    return any(type(value) is kind for kind in kinds)


def listed(values: Any) -> Any:
    """Ids, logprobs or messages as a list. An iterator is left as it is: its items are the agent's."""
    if values is None or type(values) is list:
        return values
    kind = type(values)
    if _is_exactly(values, tuple, range, set, frozenset, deque, type({}.values()), type({}.keys())):
        return list(values)
    if issubclass(kind, tuple):
        return list(tuple.__getitem__(values, slice(None)))
    found = plain(values)
    return found if type(found) is list else values if issubclass(kind, str) else _sequence(values)


def _sequence(values: Any) -> Any:
    """A sequence of a class of its own, as a list of as many items as it says that it has."""
    try:
        return answer_of(lambda: [values[index] for index in range(min(len(values), NODES))], type(values))
    except Refused:
        return values


def tokens_of(ids: list[Any] | None, logprobs: list[Any] | None) -> list[dict[str, Any]]:
    lists = (ids is None or type(ids) is list) and (logprobs is None or type(logprobs) is list)
    if not lists:  # it is kept as it is
        return [{k: v for k, v in (("token_ids", ids), ("logprobs", logprobs)) if v is not None}]
    if ids and logprobs and type(ids[0]) is int and type(logprobs[0]) is float:
        return [{"token_ids": ids, "logprobs": logprobs}]
    nested = any(issubclass(type(x[0]), (list, tuple)) for x in (ids, logprobs) if x)
    pairs = [(ids, logprobs)]
    if nested:
        count = max(len(x) for x in (ids, logprobs) if x is not None)
        pairs = [
            (ids[i] if ids and i < len(ids) else None, logprobs[i] if logprobs and i < len(logprobs) else None)
            for i in range(count)
        ]
    return [{k: listed(v) for k, v in (("token_ids", i), ("logprobs", p)) if v is not None} for i, p in pairs]
