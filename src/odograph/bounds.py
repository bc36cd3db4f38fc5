"""Whether a value is plain JSON within bounds, so that the encoder may have it as it is. Runs nobody's code."""

from __future__ import annotations

import math
from gc import get_referents
from typing import Any

import orjson

#: Bounds of one value. Plain JSON that is held as it would be written has the first alone: it is kept whole.
DEPTH = 200  # deeper nesting than any real content; orjson and msgspec stop a little above it
BYTES = 256_000_000  # text, bytes and numbers
LITTLE = 8  # bytes that a number counts

_FLAT = frozenset((str, int, float, bool, type(None), orjson.Fragment))
#: A fragment went through `encode` already.
_PLAIN = _FLAT | {dict, list, tuple}
_MANY = BYTES // LITTLE
_FEW = 1000
#: So much each level counts among the few: there are no more than are kept.
_LEVEL = _FEW // DEPTH
_LONG = 200
_N = ord("n")


def is_small(value: Any) -> bool:
    """Whether a container is written about as large as it is held. Lists that hold one another twice grow with every level.

    Each value counts as often as the encoder would meet it. Few are no growth; of many, three items of large lists are looked at.
    Yes for all that is no such growth.
    """
    # by `is`: the metaclass of an agent's class may raise where types are compared, or looked up in a set
    if (
        type(value) is list
        and len(value) > _LONG
        and ((kind := type(value[0])) is int or kind is float)
        and not get_referents(*value)
    ):  # token ids
        return True
    left, level = _FEW, [value]
    while level:  # the values one level deeper, by the garbage collector's own eyes: no code of Python's looks at each
        level = get_referents(*level)
        left -= len(level) + _LEVEL
        if left < 0:
            return _weight((value,), {}, 0) < _MANY and _is_flat(value)
    return True


def _is_flat(value: Any) -> bool:
    """Whether a value is plain JSON of no more levels than are kept. `orjson` counts no level of a tuple in a tuple: it ends the
    process where the stack ends."""
    left, level = _MANY, [value]
    for _ in range(DEPTH):
        level = get_referents(*level)
        left -= len(level)
        if not level:
            return True
        if left < 0 or not _PLAIN.issuperset(map(type, level)):
            return False
    return False


def has_null(data: bytes) -> bool:
    """Whether a null stands in JSON, or the word in a text: what `b"null" in data` says, in a fraction of the time."""
    return _N in data and data.rfind(b"null") >= 0  # a byte that is no number is looked for in ten times the time


def _some(values: Any) -> Any:
    size = len(values)
    if size <= 16:
        return values
    if type(values) is not list and type(values) is not tuple:
        values = list(values)
    return (values[0], values[size // 2], values[-1])


def _weight(values: Any, seen: dict[int, int], depth: int) -> int:
    """How many values are written for these, by three of them where they are many."""
    some = _some(values)
    weight = 0
    for item in some:
        kind = type(item)
        if kind is dict or kind is list or kind is tuple:
            inner = item.values() if kind is dict else item
            if _FLAT.issuperset(map(type, _some(inner))):
                weight += len(item)
                continue
            known = seen.get(id(item))
            if known is None and depth < 100:
                seen[id(item)] = 0  # what holds itself is found by the encoder
                known = seen[id(item)] = _weight(inner, seen, depth + 1)
            weight += known or 0
    return len(values) + (weight if some is values else weight * len(values) // 3)


def is_finite(value: Any) -> bool:
    """Whether no float in a value is NaN or infinite; no, too, where other types than JSON's stand in it. The value must not hold
    itself: `orjson` has written it before."""
    level = [value]
    while level:
        kinds = set(map(type, level))
        if not kinds <= _PLAIN or (float in kinds and not all(math.isfinite(x) for x in level if type(x) is float)):
            return False
        level = get_referents(*level)
    return True
