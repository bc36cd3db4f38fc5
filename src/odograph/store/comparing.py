"""What of a trajectory that is added again is new: its records against those that the store has, by what they say.

The store's lines are read one after the other and forgotten when they say what was given: what is held of a message is its hash.
The cost grows with what is there, not with what each call sends again: a look at a call's messages goes on from the call before.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from .. import dialects
from ..codec import DAMAGE, derived_id, encode, encode_message, put, record_to_dict
from ..errors import NotFound
from ..prefix import Prefix, same_objects
from ..streams import Growing, IdsLine, MessageLine, Ranges, Streams, begun_alike
from ..types import AnyRecord, Label, LLMCall, Note, Packed, Reward, Start
from .lines import decode
from .source import Raw

#: Fields of records that are floats: a line gives 0.0 back for a 0 that was handed in.
_FLOATS = ("value", "weight", "score", "cost")
_PLACED = ("id", "seq", "time", "writer", "supersedes", "packed", "packed_by")


def changes(
    lines: Iterable[Raw], placed: list[AnyRecord], withdrawn: frozenset[str] = frozenset()
) -> tuple[list[AnyRecord], int]:
    """Of records of a trajectory that the store has, with these lines: the new ones, and corrections of those that now say
    something else; and the time of the last record there. A note takes the place of a record that is `withdrawn`. Raises
    NotFound if no line holds a record."""
    messages = _Messages()
    same, there, given = _Look(messages), _Contents(messages), _Contents(None)
    by_id: dict[str, AnyRecord] = {}
    known: dict[str, AnyRecord | None] = {}  # None: it says what was given
    corrected: dict[str, AnyRecord] = {}
    after = 0
    for record in _records(lines, messages):  # one may come twice: of two tiers, or written again after a failure
        by_id = by_id or {one.id: one for one in placed}
        after = max(after, record.time)
        if record.supersedes:
            other = corrected.get(record.supersedes)
            if other is None or (other.time, other.writer, other.seq) <= (record.time, record.writer, record.seq):
                corrected[record.supersedes] = record
        one = by_id.get(record.id)
        known[record.id] = None if not record.supersedes and (one is None or same(one, record)) else record
    if not known:
        raise NotFound("no readable record")
    history = {one.supersedes for one in placed if one.supersedes}  # what these records say that they replaced themselves
    new: list[AnyRecord] = []
    for one in placed:
        if one.id not in known:
            new.append(one)
            continue
        if one.id in history:
            continue
        latest = _last(one.id, corrected) or known[one.id]
        if latest is None or same(one, latest):
            continue
        content = given.of(_in_place(one, latest))
        if there.of(latest) != content:
            id = derived_id(one.source_time, one.id, latest.id, content)
            new.append(replace(one, id=id, supersedes=latest.id, time=0, writer=""))
    for id in withdrawn.intersection(known).difference(by_id):
        latest = _last(id, corrected)
        if not (isinstance(latest, Note) and latest.name == "withdrawn"):
            last = id if latest is None else latest.id
            note = Note(id=derived_id(None, id, last), trajectory=placed[0].trajectory, seq=0, name="withdrawn", supersedes=last)
            new.append(replace(note, parent=placed[0].id))
    return new, after


def _in_place(one: AnyRecord, latest: AnyRecord) -> AnyRecord:
    """A start as of the file that the store knows: a copy of a file, or one that was moved, says nothing new."""
    if not (isinstance(one, Start) and isinstance(latest, Start)):
        return one
    ours, theirs = one.metadata.get("source"), latest.metadata.get("source")
    if not (isinstance(ours, dict) and isinstance(theirs, dict) and "path" in ours and "path" in theirs):
        return one
    return replace(one, metadata={**one.metadata, "source": {**ours, "path": theirs["path"]}})


def _last(id: str, corrected: dict[str, AnyRecord]) -> AnyRecord | None:
    """The last correction of a record; None where there is none."""
    latest, passed = None, {id}
    while id in corrected and corrected[id].id not in passed:  # two records of one id may close a circle behind the first
        latest = corrected[id]
        id = latest.id
        passed.add(id)
    return latest


def _records(lines: Iterable[Raw], messages: _Messages) -> Iterator[AnyRecord]:
    """The records of lines; messages and token ids go to `messages`. Damaged lines are left out."""
    for writer, version, data in lines:
        for text in io.BytesIO(data):
            try:
                line = decode(text, writer, version) if text != b"\n" else None
            except DAMAGE:  # `Reader.damages` tells
                continue
            if isinstance(line, MessageLine):
                messages.add(writer, line)
            elif isinstance(line, IdsLine):
                messages.ids.add(writer, line)
            elif line is not None:
                yield line


class _Messages:
    """The messages of a trajectory's streams, of which only the hashes are held, and its token ids."""

    def __init__(self) -> None:
        self._hashes: dict[tuple[str, int], dict[int, bytes]] = {}
        self.ids = Streams()

    def add(self, writer: str, line: MessageLine) -> None:
        held = self._hashes.setdefault((writer, line.stream), {})
        if line.same is None:
            with suppress(ValueError, RecursionError):  # a damaged one, which is missing
                held[line.n] = _hash(bytes(line.body))
        elif line.same in held:
            held[line.n] = held[line.same]

    def hash(self, writer: str, stream: int, n: int) -> bytes:
        """The hash of a message; nothing where its line is damaged, or was not read yet."""
        return self._hashes.get((writer, stream), {}).get(n, b"")


class _Look:
    """Whether a record says what the store's record says. Yes is certain; where it is not, the records are hashed."""

    def __init__(self, messages: _Messages) -> None:
        self._messages = messages
        self._lists: dict[Any, _Pair] = {}
        self._growing, self._ids = Growing(), _Ids()
        #: By the name of a request's field: the value that was given last, and the hash that it equals.
        self._values: dict[str | int, tuple[Any, bytes]] = {}

    def __call__(self, record: AnyRecord, latest: AnyRecord) -> bool:
        try:
            if type(latest) is LLMCall and type(record) is LLMCall and latest.packed:
                rest = self._rest(record, latest)
                if any(part.at[0] != "request" for part in latest.packed):
                    latest = self._messages.ids.fill(latest, "response", "tokens", "prompt_token_ids", growing=self._growing)
                record = replace(record, request=rest, packed=latest.packed, packed_by=latest.packed_by)
                ids: Any = latest.prompt_token_ids
                if type(ids) is Prefix:
                    if not self._ids.is_same(record.prompt_token_ids, ids):
                        return False
                    record, latest = replace(record, prompt_token_ids=None), replace(latest, prompt_token_ids=None)
            there = replace(
                latest, id=record.id, seq=record.seq, time=record.time, writer=record.writer, supersedes=record.supersedes
            )
            # equal, and equal as JSON: to Python True is 1, and to the encoder NaN is null
            return bool(msgspec.json.encode(record) == msgspec.json.encode(there) and record == there)
        except Exception:  # what no JSON is can be anything
            return False

    def _rest(self, record: LLMCall, latest: LLMCall) -> dict[str, Any]:
        """A request without the parts that the store has apart. Raises ValueError where one of these parts differs."""
        rest = dict(record.request)
        for part in latest.packed:
            name = part.at[-1]
            if part.at[0] == "request" and (
                part.of == "ids" or not self._is_part(record, name, rest.pop(name), latest.packed_by, part)
            ):
                raise ValueError
        return rest

    def _is_part(self, record: LLMCall, name: str | int, value: Any, writer: str, part: Packed) -> bool:
        if part.of == "list":
            pair = self._lists.setdefault((record.agent, record.purpose, name, writer, part.stream), _Pair())
            return pair.is_same(value, part.ranges, lambda n: self._messages.hash(writer, part.stream, n))
        there = self._messages.hash(writer, part.stream, part.ranges[0][0])
        known = self._values.get(name)
        if known is None or known[0] is not value or known[1] != there:
            if _hash(encode(value)) != there:
                return False
            self._values[name] = value, there
        return True


class _Pair:
    """A list that is given and a list of the store, each of which usually goes on from the one before."""

    def __init__(self) -> None:
        self._objects, self._ranges = _Objects(), _Ranges()
        self._equal = 0

    def is_same(self, given: Any, ranges: list[tuple[int, int]], hash_of: Callable[[int], bytes]) -> bool:
        if type(given) not in (list, Prefix) or len(given) != sum(stop - start for start, stop in ranges):
            return False
        self._equal = min(self._equal, self._objects.go_on(given), self._ranges.go_on(ranges))
        for n in _numbers(ranges, self._equal):
            if _hash(encode_message(given[self._equal])) != hash_of(n):
                return False
            self._equal += 1
        return True


class _Ids:
    """Token ids that are given and those of the store, both of which usually go on from the ones before."""

    def __init__(self) -> None:
        #: The last ones that were the same.
        self._given = self._there = Prefix([])

    def is_same(self, given: list[int] | Prefix | None, there: Prefix) -> bool:
        if given is None or len(given) != len(there):
            return False
        known = 0
        if type(given) is Prefix and given.base is self._given.base and there.base is self._there.base:
            known = min(len(self._given), len(given))
        if encode(given[known:]) != encode(there[known:]):
            return False
        if type(given) is Prefix:
            self._given, self._there = given, there
        return True


class _Contents:
    """Hashes of what records say, without where and when they were recorded."""

    def __init__(self, messages: _Messages | None) -> None:
        self._messages = messages
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
            if type(fields.get("prompt_token_ids")) is Prefix:
                fields["prompt_token_ids"] = fields["prompt_token_ids"][:]
            for part in record.packed:
                fields = self._filled(fields, record, part)
        return _hash(encode(fields)).hex()

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
            found = self._hashes[id(value)] = (value, _hash(encode(value)).hex())
        return found[1]

    def _filled(self, fields: Any, record: LLMCall, part: Packed) -> Any:
        """The fields with the hash of what is stored apart in its place."""
        assert self._messages is not None
        messages, writer, stream = self._messages, record.packed_by, part.stream
        if part.of == "ids":
            return put(fields, part.at, messages.ids.part(writer, part))
        if part.of == "value":
            return put(fields, part.at, messages.hash(writer, stream, part.ranges[0][0]).hex())
        chain = self._chains.setdefault((writer, stream, part.at[-1]), _Chain())
        return put(fields, part.at, chain.of_ranges(part.ranges, lambda n: messages.hash(writer, stream, n).hex()))


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
        self._ranges: Ranges = []

    def go_on(self, ranges: Ranges) -> int:
        """With how many items of the last list the next one begins."""
        same = begun_alike(self._ranges, ranges)
        self._ranges = list(ranges)
        return same


def _numbers(ranges: list[tuple[int, int]], skip: int) -> Iterator[int]:
    """The numbers of the items that ranges stand for, but for the first ones."""
    for start, stop in ranges:
        yield from range(min(stop, start + skip), stop)
        skip = max(0, skip - (stop - start))


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


def _hash(data: bytes) -> bytes:
    """Of the JSON of a value as it comes back from a line: fields in any order are the same."""
    try:
        data = msgspec.json.encode(msgspec.json.decode(data), order="sorted")
    except (OverflowError, msgspec.MsgspecError):  # whole numbers beyond 64 bits
        data = json.dumps(json.loads(data), sort_keys=True).encode()
    return hashlib.sha256(data).digest()
