"""Streams of messages and of token ids, as a reader sees them: the lines of a trajectory -> calls made whole again.

`packing.py` writes these lines. No call depends on another call's line: a damaged line costs what was in that line.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from . import dialects, locks
from .codec import DAMAGE, encode, put
from .plain import tagged
from .prefix import Prefix, shared_prefix
from .types import LLMCall, Packed, Tokens


class MessageLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="message", tag_field="kind"):
    """One stored message: item `n` of a stream. `same` refers to an earlier item that is equal."""

    trajectory: str
    stream: int
    n: int
    hash: str = ""
    same: int | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


class IdsLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="ids", tag_field="kind"):
    """Token ids at the end of a stream. `start`: the number of ids before them."""

    trajectory: str
    stream: int
    start: int
    ids: list[int]


Ranges = list[tuple[int, int]]

#: Where the token ids of a prompt stand in a record that has them in a field of their own.
BESIDE: list[str | int] = ["prompt_token_ids"]


def append(ranges: Ranges, start: int, stop: int) -> None:
    """Adds the items from `start` to before `stop`; ranges that meet become one."""
    if stop <= start:
        return
    if ranges and ranges[-1][1] == start:
        ranges[-1] = (ranges[-1][0], stop)
    else:
        ranges.append((start, stop))


def cut(ranges: Ranges, low: int, high: int) -> Ranges:
    """The ranges of the items at positions `low` to before `high` of a list that is stored as ranges."""
    out: Ranges = []
    for start, stop in ranges:
        if high <= 0:
            break
        append(out, max(start, start + low), min(stop, start + high))
        low, high = low - (stop - start), high - (stop - start)
    return out


def begun_alike(a: Ranges, b: Ranges) -> int:
    """With how many equal items two lists begin that are ranges of one stream."""
    same = 0
    for (low, high), (start, stop) in zip(a, b, strict=False):
        if low != start:
            break
        same += min(high, stop) - low
        if high != stop:
            break
    return same


#: Token ids between two lines, and messages of a list, beyond which a number is a damaged one.
_MOST = 4_000_000
_MOST_MESSAGES = 250_000


def is_sound(call: LLMCall) -> bool:
    """Whether the packed parts of a call can be true: the call has the places, and the ranges have lengths that lists have."""
    for part in call.packed:
        at = part.at
        if not at or at[0] not in ("request", "response", "tokens", "prompt_token_ids"):
            return False
        if part.of != "ids" and (len(at) != 2 or at[0] != "request"):
            return False
        place = getattr(call, at[0])
        if at[0] == "tokens" and (len(at) != 3 or at[2] != "token_ids"):
            return False
        for key in at[1:]:
            if type(place) is list:
                if type(key) is not int or not 0 <= key < len(place):
                    return False
                place = place[key]
            elif type(key) is str and (place is None or type(place) is dict or type(place) is Tokens):
                place = place.get(key) if type(place) is dict else None
            else:
                return False
        if any(not 0 <= start <= stop for start, stop in part.ranges):
            return False
        length = sum(stop - start for start, stop in part.ranges)
        if (part.of != "ids" and length > _MOST_MESSAGES) or (part.of == "value" and not length):
            return False
    return True


class Seen:
    """Which messages a reader saw, call after call. Reading the next call then costs only its new messages."""

    def __init__(self) -> None:
        #: By (writer, stream): the items that were seen, as ranges in order that neither meet nor overlap.
        self._ranges: dict[tuple[str, int], Ranges] = {}
        #: By (agent, purpose): the list of the call before, as (writer, its packed part).
        self.last: dict[tuple[str | None, str], tuple[str, Packed]] = {}
        #: By (agent, purpose, name): the value of a request's field in the call before.
        self.values: dict[tuple[str | None, str, str], Any] = {}
        #: How many messages the last call no longer has of the list of the call before.
        self.gone: int = 0

    def knows(self, writer: str, stream: int) -> bool:
        return (writer, stream) in self._ranges

    def add(self, writer: str, stream: int, start: int, stop: int) -> Ranges:
        """Adds the items from `start` to before `stop`. Returns the ranges of items that were not seen before."""
        held = self._ranges.setdefault((writer, stream), [])
        low = bisect_left(held, start, key=lambda r: r[1])  # the first that ends at `start` or later
        high = bisect_right(held, stop, key=lambda r: r[0])  # after the last that begins at `stop` or before
        new: Ranges = []
        at = start
        for a, b in held[low:high]:
            append(new, at, min(a, stop))
            at = max(at, b)
        append(new, at, stop)
        if stop > start:
            met = held[low:high]
            held[low:high] = [(min([start, *(a for a, _ in met)]), max([stop, *(b for _, b in met)]))]
        return new


class Growing:
    """The lists that calls sent, of looks at a trajectory's calls: a list that goes on with one of the last ones is a `Prefix` of
    the same list, and costs what is new in it. Safe in several threads."""

    def __init__(self) -> None:
        #: By kind the last lists that differ, the newest last, each with its ranges, where it has any.
        self._lists: dict[Any, list[tuple[Ranges, list[Any]]]] = {}

    def of(self, writer: str, part: Packed, items: Callable[[Ranges], list[Any] | None]) -> Prefix | None:
        """The list of a part; `items` gives those in ranges. None where it does."""
        ranges = part.ranges
        size = sum(stop - start for start, stop in ranges)
        key = (writer, part.stream, *part.at)
        return self._of(key, ranges, size, lambda one, _: begun_alike(one, ranges), lambda known: items(cut(ranges, known, size)))

    def of_list(self, key: Any, given: list[Any]) -> Prefix:
        """A list that is whole, as one of those with the same key."""
        found = self._of(key, [], len(given), lambda _, base: shared_prefix(base, given), lambda known: given[known:])
        assert found is not None
        return found

    def _of(
        self,
        key: Any,
        ranges: Ranges,
        size: int,
        alike: Callable[[Ranges, list[Any]], int],
        items: Callable[[int], list[Any] | None],
    ) -> Prefix | None:
        with _growing:
            held = self._lists.setdefault(key, [])
            best, known = -1, -1
            for n in range(len(held) - 1, -1, -1):
                same = alike(*held[n])
                if same > known:
                    best, known = n, same
                if same in (size, len(held[n][1])):
                    break
            known = max(known, 0)
            base = held[best][1] if held else []
            if known == size and held:
                return Prefix(base, size)
            more = items(known)
            if more is None:
                return None
            if known == len(base) and held:
                base += more
                del held[best]
            else:
                base = base[:known] + more
                del held[: len(held) + 1 - _HELD]
            held.append((ranges, base))
            return Prefix(base)


#: Lists that `Growing` knows of each kind: an agent's conversations that take turns.
_HELD = 8
#: Held while one of them grows.
_growing = locks.for_forks()
#: Held while a list of messages that were read grows.
_reading = locks.for_forks()


class _Same(int):
    """The number of an earlier, equal item."""


class Streams:
    """The reader's side of streams: takes the message and id lines of a trajectory, and makes calls whole again."""

    def __init__(self, tell: Callable[[], None] | None = None) -> None:
        """`tell` is called where a part of a call is missing."""
        self._tell = tell
        self._items: dict[tuple[str, int, int], Any] = {}
        #: The items of a stream from its first on, as far as they were read: a call is a slice of them, not a look-up of each.
        self._read: dict[tuple[str, int], list[Any]] = {}
        self._ids: dict[tuple[str, int], list[int | None]] = {}
        #: Streams of ids with a gap, where a line is damaged.
        self._gaps: set[tuple[str, int]] = set()
        #: What a call refers to and no line holds: (writer, stream, position).
        self.missing: list[tuple[str, int, int]] = []

    def add(self, writer: str, line: MessageLine | IdsLine) -> None:
        if isinstance(line, MessageLine):
            key = (writer, line.stream, line.n)
            if self._read and line.n < len(self._read.get((writer, line.stream), ())):
                del self._read[writer, line.stream]
            if line.same is None:
                self._items[key] = line.body
            elif line.same < line.n:  # a damaged number could point to itself
                self._items[key] = _Same(line.same)
            return
        ids = self._ids.setdefault((writer, line.stream), [])
        if not 0 <= line.start <= len(ids) + _MOST:  # a damaged number
            return
        if len(ids) < line.start:  # a line in between is damaged
            ids.extend([None] * (line.start - len(ids)))
            self._gaps.add((writer, line.stream))
        ids[line.start : line.start + len(line.ids)] = line.ids

    def _item(self, writer: str, stream: int, n: int, missing: list[tuple[str, int, int]]) -> Any:
        key = (writer, stream, n)
        while type(item := self._items.get(key, self)) is _Same:
            key = (writer, stream, int(item))
        if type(item) is msgspec.Raw:
            try:
                item = msgspec.json.decode(item)
            except DAMAGE:
                item = self
            self._items[key] = item
        if item is self:
            missing.append(key)
            if missing is self.missing and self._tell is not None:
                self._tell()
            return tagged("missing", f"message {n} of stream {stream} in journal {writer}")
        return item

    def _items_of(self, writer: str, stream: int, ranges: Ranges) -> list[Any]:
        out: list[Any] = []
        for start, stop in ranges:
            read = self._up_to(writer, stream, stop)
            there = read[start:stop] if start >= 0 else []
            out += there
            out += (self._item(writer, stream, n, self.missing) for n in range(start + len(there), stop))
        return out

    def _up_to(self, writer: str, stream: int, stop: int) -> list[Any]:
        """The first items of a stream, up to the first missing item. Items behind a missing one are looked up singly."""
        read = self._read.setdefault((writer, stream), [])
        known = len(read)
        more: list[Any] = []
        while (n := known + len(more)) < stop and (writer, stream, n) in self._items:
            missing: list[tuple[str, int, int]] = []
            item = self._item(writer, stream, n, missing)
            if missing:
                break
            more.append(item)
        if more:
            with _reading:  # two threads may read one trajectory
                if len(read) == known:
                    read += more
        return read

    def new_in(self, call: LLMCall, seen: Seen) -> Any:
        """The call's request with those messages alone that no call before it sent which went through `seen`.

        A history that is resent whole, or as a window that moves on, costs what is new in it. A message that is said again later
        in a conversation is new there.
        """
        request = call.request
        seen.gone = 0
        if not isinstance(request, dict):
            return request
        who = (call.agent, call.purpose)
        out = dict(request)
        resent = dialects.resent(call.dialect)
        values = resent.names.difference(resent.lists)
        for name in values:
            if name in out and seen.values.get((*who, name), out) == out[name]:
                del out[name]
        for part in call.packed:
            if len(part.at) != 2 or part.at[0] != "request":
                continue
            name = str(part.at[1])
            if part.of == "list":
                out[name] = self._new_items(call.packed_by, part, seen, seen.last.get(who))
                seen.last[who] = (call.packed_by, part)
            elif (place := (call.packed_by, part)) != (last := seen.values.get((*who, name))):
                value = self.part(*place)
                was = last if type(last) is tuple else None  # another process went on: its streams are its own
                if was is None or encode(self.part(*was)) != encode(value):
                    out[name] = value
                seen.values[(*who, name)] = place
        seen.values |= {(*who, name): request[name] for name in values if name in request}
        return out

    def _new_items(self, writer: str, part: Packed, seen: Seen, last: tuple[str, Packed] | None) -> list[Any]:
        stream = part.stream
        if last is not None and not seen.knows(writer, stream):  # another process went on: its streams are its own
            for start, stop in part.ranges:
                seen.add(writer, stream, start, stop)
            held = Counter(encode(item) for item in self._items_of(last[0], last[1].stream, last[1].ranges))
            fresh_items = [item for item in self._items_of(writer, stream, part.ranges) if not _taken(held, encode(item))]
            seen.gone = held.total()
            return fresh_items
        before = last[1].ranges if last is not None and (last[0], last[1].stream) == (writer, stream) else []
        gone, come = _changed(before, part.ranges)
        new = [n for start, stop in come for a, b in seen.add(writer, stream, start, stop) for n in range(a, b)]
        if gone:
            # what is left of a history that was cut, or whose list is put together again, has new numbers: it is what it was
            known = Counter(self._root(writer, stream, n) for a, b in gone for n in range(a, b))
            kept = [n for a, b in come for n in range(a, b) if not _taken(known, self._root(writer, stream, n))]
            seen.gone = known.total()
            if any(type(self._items.get((writer, stream, n))) is _Same for n in new):
                fresh = set(new)
                new = [n for n in kept if n in fresh]
        missing: list[tuple[str, int, int]] = []
        items = [self._item(writer, stream, n, missing) for n in new]
        if missing and self._tell is not None:
            self._tell()
        return items

    def _root(self, writer: str, stream: int, n: int) -> int:
        """The number of the first item that is equal to item `n`."""
        while type(item := self._items.get((writer, stream, n))) is _Same:
            n = int(item)
        return n

    def fill(self, call: LLMCall, *only: str, growing: Growing | None = None) -> LLMCall:
        """The call with every packed part back in its place, or, half packed, those of the fields `only`. Messages are shared
        objects: read them, don't change them. `growing`: a history, and the token ids of a prompt that stand beside it, are a
        `Prefix` of one list where they can be, and no list of their own."""
        if not call.packed:
            return call
        changes: dict[str, Any] = {} if only else {"packed": [], "packed_by": ""}
        for part in call.packed:
            if only and part.at[0] not in only:
                continue
            value: Any = None
            if growing is not None and (part.of == "list" or part.at == BESIDE):
                value = self.grown(call.packed_by, part, growing)
            value = value or self.part(call.packed_by, part)
            name = str(part.at[0])
            whole = changes.get(name, getattr(call, name))
            if name == "tokens":
                tokens = list(whole)
                index = int(part.at[1])
                tokens[index] = msgspec.structs.replace(tokens[index], token_ids=value)
                changes[name] = tokens
            else:
                changes[name] = put(whole, part.at[1:], value)
        return msgspec.structs.replace(call, **changes)

    def item(self, writer: str, stream: int, n: int) -> Any:
        """One message of a stream."""
        return self._item(writer, stream, n, self.missing)

    def grown(self, writer: str, part: Packed, growing: Growing) -> Prefix | None:
        """A part that is a list, or token ids, as a `Prefix` of what calls before it sent; None where ids are missing."""
        items = self._ids_of if part.of == "ids" else self._items_of
        return growing.of(writer, part, lambda ranges: items(writer, part.stream, ranges))

    def _ids_of(self, writer: str, stream: int, ranges: Ranges) -> list[int | None] | None:
        held, gaps = self._ids.get((writer, stream), []), (writer, stream) in self._gaps
        ids: list[int | None] = []
        for start, stop in ranges:
            piece = held[start:stop]
            if len(piece) < stop - start or (gaps and None in piece):
                self.missing.append((writer, stream, start))
                if self._tell is not None:
                    self._tell()
                return None
            ids = ids + piece if ids else piece  # a copy that is freed at once would leave as large a hole behind
        return ids

    def part(self, writer: str, part: Packed) -> Any:
        """The value of a packed part of a call; None for token ids of which some are missing."""
        if part.of == "ids":
            return self._ids_of(writer, part.stream, part.ranges)
        items = self._items_of(writer, part.stream, part.ranges)
        return items if part.of == "list" else items[0]


def _changed(before: Ranges, after: Ranges) -> tuple[Ranges, Ranges]:
    """The ranges of two lists behind their common beginning."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    gone, come = before[same:], after[same:]
    if gone and come and gone[0][0] == come[0][0]:
        stop = min(gone[0][1], come[0][1])
        gone, come = [(stop, gone[0][1]), *gone[1:]], [(stop, come[0][1]), *come[1:]]
    return [r for r in gone if r[1] > r[0]], [r for r in come if r[1] > r[0]]


def _taken(counts: Counter[Any], key: Any) -> bool:
    """Whether a key has a count above 0; then the count goes down by 1."""
    if counts[key] <= 0:
        return False
    counts[key] -= 1
    return True
