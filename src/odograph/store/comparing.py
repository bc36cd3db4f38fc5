"""What of a trajectory that is added again is new: its records against those that the store has, by what they say.

The cost grows with what is there, not with what each call sends again: a look at a call's messages goes on from the call before.
Records that a look finds equal are most of them, and the others are hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from .. import dialects
from ..codec import derived_id, encode, put, record_to_dict
from ..packing import same_objects
from ..plain import Prefix
from ..streams import Streams
from ..trajectory import Trajectory
from ..types import AnyRecord, Label, LLMCall, Packed, Reward

#: Fields of records that are floats: a line gives 0.0 back for a 0 that was handed in.
_FLOATS = ("value", "weight", "score", "cost")
_PLACED = ("id", "seq", "time", "writer", "supersedes", "packed", "packed_by")


def changes(existing: Trajectory, placed: list[AnyRecord]) -> list[AnyRecord]:
    """Of records of a known trajectory: the new ones, and corrections of those that now say something else."""
    known: dict[str, AnyRecord] = {}
    corrected: dict[str, AnyRecord] = {}
    for record in existing.records:
        known[record.id] = record
        if record.supersedes:
            corrected[record.supersedes] = record
    history = {
        record.supersedes for record in placed if record.supersedes
    }  # what these records say that they replaced themselves
    assert existing.streams is not None  # it was read from the store
    there, given, same = _Contents(existing.streams), _Contents(None), _Look(existing.streams)
    new: list[AnyRecord] = []
    for record in placed:
        latest = known.get(record.id)
        if latest is None:
            new.append(record)
            continue
        if record.id in history:
            continue
        passed = {latest.id}
        while latest.id in corrected and corrected[latest.id].id not in passed:
            latest = corrected[latest.id]
            passed.add(latest.id)
        if same(record, latest):
            continue
        content = given.of(record)
        if there.of(latest) != content:
            id = derived_id(record.source_time, record.id, latest.id, content)
            new.append(msgspec.structs.replace(record, id=id, supersedes=latest.id, time=0, writer=""))
    return new


class _Look:
    """Whether a record says what the store's record says. Yes is certain; where it is not, the records are hashed."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._lists: dict[Any, _Pair] = {}
        #: By the name of a request's field: the value that was given last, and the one of the store that it equals.
        self._values: dict[str | int, tuple[Any, Any]] = {}

    def __call__(self, record: AnyRecord, latest: AnyRecord) -> bool:
        changes = {name: getattr(latest, name) for name in ("id", "seq", "time", "writer", "supersedes")}
        try:
            if isinstance(latest, LLMCall) and isinstance(record, LLMCall) and latest.packed:
                changes["request"] = self._rest(record, latest)
                if any(part.at[0] != "request" for part in latest.packed):
                    latest = self._streams.fill(latest, "response", "tokens", "prompt_token_ids")
                changes |= {"packed": latest.packed, "packed_by": latest.packed_by}
            return _is_same(msgspec.structs.replace(record, **changes), latest)
        except Exception:  # what no JSON is can be anything
            return False

    def _rest(self, record: LLMCall, latest: LLMCall) -> dict[str, Any]:
        """A request without the parts that the store has apart. Raises ValueError where one of these parts differs."""
        rest = dict(record.request)
        for part in latest.packed:
            if part.at[0] != "request":
                continue
            if len(part.at) != 2 or part.of == "ids":
                raise ValueError
            name = part.at[1]
            if not self._is_part(record, name, rest.pop(name), latest.packed_by, part):
                raise ValueError
        return rest

    def _is_part(self, record: LLMCall, name: str | int, value: Any, writer: str, part: Packed) -> bool:
        if part.of == "list":
            pair = self._lists.setdefault((record.agent, record.purpose, name, writer, part.stream), _Pair())
            return pair.is_same(value, part.ranges, lambda n: self._streams.item(writer, part.stream, n))
        item = self._streams.item(writer, part.stream, part.ranges[0][0])
        known = self._values.get(name)
        if known is None or known[0] is not value or known[1] is not item:
            if not _is_same(value, item):
                return False
            self._values[name] = value, item
        return True


def _is_same(a: Any, b: Any) -> bool:
    """Equal, and equal as JSON: to Python True is 1, and to the encoder NaN is null."""
    return bool(msgspec.json.encode(a) == msgspec.json.encode(b) and a == b)


class _Pair:
    """A list that is given and a list of the store, each of which usually goes on from the one before."""

    def __init__(self) -> None:
        self._objects, self._ranges = _Objects(), _Ranges()
        self._equal = 0

    def is_same(self, given: Any, ranges: list[tuple[int, int]], item: Callable[[int], Any]) -> bool:
        if type(given) not in (list, Prefix) or len(given) != sum(stop - start for start, stop in ranges):
            return False
        start = self._equal = min(self._equal, self._objects.go_on(given), self._ranges.go_on(ranges))
        for value, n in zip(given[start:], _numbers(ranges, start), strict=True):
            if not _is_same(value, item(n)):
                return False
            self._equal += 1
        return True


class _Contents:
    """Hashes of what records say, without where and when they were recorded."""

    def __init__(self, streams: Streams | None) -> None:
        self._streams = streams
        self._chains: dict[Any, _Chain] = {}
        self._hashes: dict[int, tuple[Any, str]] = {}

    def of(self, record: AnyRecord) -> str:
        fields = record_to_dict(record)
        for name in _PLACED:
            fields.pop(name, None)
        if isinstance(record, (Reward, Label, LLMCall)):
            for name in _FLOATS:
                if type(fields.get(name)) is int and (name != "value" or isinstance(record, Reward)):
                    fields[name] = float(fields[name])
        if isinstance(record, LLMCall):
            if type(record.request) is dict:
                request = fields["request"] = dict(record.request)
                resent = dialects.resent(record.dialect)
                for name in resent.names:
                    if name in request:
                        key = (record.agent, record.purpose, name)
                        request[name] = self._resent(key, name in resent.lists, request[name])
            for part in record.packed:
                fields = self._filled(fields, record, part)
        return hashlib.sha256(_canonical(fields)).hexdigest()

    def _resent(self, key: Any, is_list: bool, value: Any) -> Any:
        if is_list and type(value) in (list, Prefix):
            chain = self._chains.setdefault(key, _Chain())
            return chain.of_objects(value, self._hash)
        return self._hash(value)

    def _hash(self, value: Any) -> str:
        """The hash of a message: an object that comes again is looked at once. The object is held, so that its address stays its
        own."""
        found = self._hashes.get(id(value))
        if found is None:
            found = self._hashes[id(value)] = (value, hashlib.sha256(_canonical(value)).hexdigest())
        return found[1]

    def _filled(self, fields: Any, record: LLMCall, part: Packed) -> Any:
        """The fields with the hash of what is stored apart in its place."""
        assert self._streams is not None
        streams, writer, stream = self._streams, record.packed_by, part.stream
        if part.of == "ids":
            return put(fields, part.at, streams.part(writer, part))
        if part.of == "value":
            return put(fields, part.at, self._hash(streams.item(writer, stream, part.ranges[0][0])))
        chain = self._chains.setdefault((writer, stream, part.at[-1]), _Chain())
        return put(fields, part.at, chain.of_ranges(part.ranges, lambda n: self._hash(streams.item(writer, stream, n))))


class _Objects:
    """The last list of objects of several."""

    def __init__(self) -> None:
        self._objects: list[Any] = []
        #: The growing list that the last list was the beginning of, where it was one.
        self._base: list[Any] | None = None

    def go_on(self, objects: list[Any] | Prefix) -> int:
        """With how many objects of the last list the next one begins."""
        base = objects.base if type(objects) is Prefix else None
        if base is not None and base is self._base:
            same = min(len(self._objects), len(objects))
        else:
            same = same_objects(self._objects, objects[:])
        self._base = base
        del self._objects[same:]
        self._objects += objects[same:]
        return same


class _Ranges:
    """The last list of several that are ranges of a stream."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def go_on(self, ranges: list[tuple[int, int]]) -> int:
        """With how many items of the last list the next one begins."""
        same = 0
        for (a, b), (c, d) in zip(self._ranges, ranges, strict=False):
            if a != c:
                break
            same += min(b, d) - a
            if b != d:
                break
        self._ranges = list(ranges)
        return same


def _numbers(ranges: list[tuple[int, int]], skip: int) -> list[int]:
    """The numbers of the items that ranges stand for, but for the first ones."""
    rest: list[int] = []
    for start, stop in ranges:
        rest += range(min(stop, start + skip), stop)
        skip = max(0, skip - (stop - start))
    return rest


class _Chain:
    """Hashes of lists, each of which usually goes on from the one before: of every prefix of the last list."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._objects, self._ranges = _Objects(), _Ranges()

    def of_objects(self, objects: list[Any] | Prefix, hash_of: Callable[[Any], str]) -> str:
        same = self._objects.go_on(objects)
        return self._go_on(same, map(hash_of, objects[same:]))

    def of_ranges(self, ranges: list[tuple[int, int]], hash_of: Callable[[int], str]) -> str:
        same = self._ranges.go_on(ranges)
        return self._go_on(same, map(hash_of, _numbers(ranges, same)))

    def _go_on(self, same: int, more: Iterable[str]) -> str:
        del self._digests[same:]
        digest = self._digests[-1] if self._digests else b""
        for one in more:
            digest = hashlib.sha256(digest + one.encode()).digest()
            self._digests.append(digest)
        return digest.hex()


def _canonical(value: Any) -> bytes:
    """The JSON of a value as it comes back from a line: fields in any order are the same."""
    data = encode(value)
    try:
        return msgspec.json.encode(msgspec.json.decode(data), order="sorted")
    except (OverflowError, msgspec.MsgspecError):  # whole numbers beyond 64 bits
        return json.dumps(json.loads(data), sort_keys=True).encode()
