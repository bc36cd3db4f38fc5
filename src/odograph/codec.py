"""Bytes <-> values: strict JSON for any content, ids, hashes, and the upgrade of old record versions. Knows no files.

Content is hostile: anything can be handed to `encode`, and it always answers. What JSON can't hold becomes an object
with the key `$odograph` that says what it was; everything that JSON can hold comes back value-equal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from math import isfinite
from typing import Any, cast

import msgspec
import orjson

from .bounds import has_null, is_finite, is_small
from .errors import InvalidInput, NewerStore
from .guard import of_a_signal, with_room
from .plain import OPTIONS, foreign, one_level, plain_of, tagged
from .types import KINDS, SCHEMA_VERSION, TAG, AnyRecord, Edit, Tokens

# --- encoding -------------------------------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    """JSON bytes of any Python value; never raises for content.

    orjson does the common case, plain JSON, in one pass and without any hook. It writes NaN as `null`, so only when a null
    stands in the result the value is searched for one. Everything else goes through `plain_of`, which has bounds.
    """
    try:
        if type(value) is str:
            return orjson.dumps(value, None, OPTIONS)
        if is_small(value):
            data = orjson.dumps(value, None, OPTIONS)
            if not has_null(data) or is_finite(value):
                return data
    except Exception as error:
        if of_a_signal(error):
            raise
    return _encode_strange(value)


def _encode_strange(value: Any) -> bytes:
    try:
        found = plain_of(value)
        return with_room(lambda: msgspec.json.encode(found))
    except Exception as error:  # no room on the stack, or in memory
        if of_a_signal(error):
            raise
        return msgspec.json.encode(tagged("omitted", f"it could not be written: {type(error).__name__}"))


def encode_finite(value: Any) -> bytes:
    """JSON to be sent. Half a surrogate pair, which UTF-8 can't hold, becomes a question mark. Raises InvalidInput for an object,
    whose repr would be read as content, and for NaN and infinity, which the providers' own SDKs refuse to send, too: a null is
    another value."""
    try:
        data = orjson.dumps(value, None, OPTIONS)
        if not has_null(data) or is_finite(value):
            return data
    except Exception as error:
        if of_a_signal(error):
            raise
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    except Exception as error:
        if of_a_signal(error):
            raise
        wrong = foreign(value)
        if wrong is not None:
            raise InvalidInput(f"what is sent is no JSON: {wrong[0] or 'a value'} {wrong[1]}") from None
        return encode(value)


def snapshot(value: Any) -> Any:
    """A snapshot of the value for a record. Later changes of the original do not change the snapshot."""
    return orjson.Fragment(encode(value))


def plain(value: Any) -> Any:
    """An object as the plain JSON types it stands for (SDK models, dataclasses, arrays); plain types as they are."""
    kind = type(value)  # by `is`: the metaclass of an agent's class may raise where types are compared
    plainly = kind is str or kind is dict or kind is list or kind is int or kind is float or kind is bool or value is None
    return value if plainly else one_level(value)


_SIMPLE = frozenset((str, int, bool, orjson.Fragment))
_LINE = OPTIONS | orjson.OPT_APPEND_NEWLINE


def _encode_flat(values: tuple[Any, ...]) -> bytes:
    """`encode`, faster for texts and whole numbers."""
    try:
        return orjson.dumps(values, None, OPTIONS) if _SIMPLE.issuperset(map(type, values)) else encode(values)
    except Exception as error:
        if of_a_signal(error):
            raise
        return encode(values)


def encode_message(message: Any) -> bytes:
    """`encode`, faster for what most messages are: an object whose values are all text, which holds no number at all."""
    try:
        if type(message) is dict and _SIMPLE.issuperset(map(type, message.values())):
            return orjson.dumps(message, None, OPTIONS)
    except Exception as error:
        if of_a_signal(error):
            raise
    return encode(message)


def encode_record(record: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """The line of a record: a head of texts and whole numbers, which is added to, and fields that hold anything.

    Texts and whole numbers need no look. Every other field is encoded alone, so that a search for NaN goes through no other text.
    """
    record |= fields
    try:
        for name, value in fields.items():
            kind = type(value)
            if kind in _SIMPLE or (kind is dict and _SIMPLE.issuperset(map(type, value.values()))):
                continue
            if kind is not float or not isfinite(value):
                record[name] = orjson.Fragment(encode(value))
        return orjson.dumps(record, None, _LINE)
    except Exception as error:
        if of_a_signal(error):
            raise
        return _encode_strange(record) + b"\n"


def is_tagged(value: Any) -> bool:
    return isinstance(value, dict) and TAG in value


# --- decoding -------------------------------------------------------------------------------------------------------


def loads(data: bytes | str) -> Any:
    """JSON, leniently: NaN, lone surrogates and numbers of any size too. Raises InvalidInput where it is no JSON."""
    try:
        return msgspec.json.decode(data)
    except RecursionError:  # the agent itself is deep in calls, or the JSON is deeper than any content
        with suppress(*DAMAGE):
            return with_room(lambda: msgspec.json.decode(data))
    except DAMAGE:
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}") from None


def loads_or_raw(data: bytes) -> Any:
    """The value of bytes that crossed a wire: JSON if they are JSON, else the tagged raw text or bytes."""
    try:
        return loads(data)
    except InvalidInput:
        try:
            return tagged("raw", data.decode())
        except UnicodeDecodeError:
            return tagged("bytes", base64.b64encode(data).decode())


#: From the version it upgrades to the next: a function of the raw record (a dict), returning the next version's.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

#: What decoding a damaged line can raise.
DAMAGE = (msgspec.DecodeError, UnicodeError, RecursionError)


@cache
def _record_decoder() -> msgspec.json.Decoder[AnyRecord]:
    """Made when the first record is read: to make it takes longer than to write a record."""
    return msgspec.json.Decoder(AnyRecord)


def check_version(version: int, where: str) -> None:
    if version > SCHEMA_VERSION:
        raise NewerStore(f"{where} has schema version {version}; this odograph reads up to {SCHEMA_VERSION}: install a newer one")


def decode_record(line: bytes, version: int = SCHEMA_VERSION) -> AnyRecord:
    """One record from its JSON. A record of an older version is upgraded. Raises one of DAMAGE."""
    if version == SCHEMA_VERSION:
        try:
            return _record_decoder().decode(line)
        except msgspec.ValidationError:
            pass
    raw = msgspec.json.decode(line)
    if not isinstance(raw, dict):
        raise msgspec.ValidationError(f"a record is an object, not {type(raw).__name__}")
    try:
        return record_from_dict(_valid_part(raw), version)
    except InvalidInput as error:
        raise msgspec.ValidationError(str(error)) from None


def _valid_part(raw: dict[str, Any]) -> dict[str, Any]:
    """The same record with fields of a wrong type moved into `extra.invalid`: they must not cost the others."""
    record = KINDS.get(cast(str, raw.get("kind"))) if isinstance(raw.get("kind"), str) else None
    if record is None:
        return raw
    good, bad = _parted(raw, record)
    if isinstance(bad.get("tokens"), list):  # each list of a choice counts alone: the ids may be packed, and keep their place
        good["tokens"] = [_parted(one, Tokens)[0] if isinstance(one, dict) else {} for one in bad["tokens"]]
    for name in ("id", "trajectory"):
        if name in bad:
            raise msgspec.ValidationError(f"{name} is a string, not {type(bad[name]).__name__}")
    more = {k: v for k, v in raw.items() if k != "kind" and k not in good and k not in bad}
    extra = good.get("extra") or {}
    if bad:
        good["extra"] = {**extra, "invalid": bad}
    return {**more, "kind": raw["kind"], **good}


def _parted(raw: dict[str, Any], kind: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a struct that have their types, and those that have not."""
    good: dict[str, Any] = {}
    bad: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name in raw:
            try:
                msgspec.convert(raw[field.name], field.type)
                good[field.name] = raw[field.name]
            except msgspec.ValidationError:
                bad[field.name] = raw[field.name]
    return good, bad


def record_from_dict(raw: dict[str, Any], version: int = SCHEMA_VERSION) -> AnyRecord:
    """One record from a dict. Fields that no record has are kept in `extra`. Raises InvalidInput."""
    raw = dict(raw)
    for old in range(version, SCHEMA_VERSION):
        raw = UPGRADES[old](raw)
    kind = raw.get("kind")
    record = KINDS.get(kind) if isinstance(kind, str) else None
    if record is None:
        raise InvalidInput(f"no record kind {kind!r}; there are: {', '.join(KINDS)}")
    unknown = {k: raw.pop(k) for k in list(raw) if k != "kind" and k not in record.__struct_fields__}
    if unknown and isinstance(raw.get("extra") or {}, dict):  # else what `extra` is says the error
        raw["extra"] = {**(raw.get("extra") or {}), **unknown}
    try:
        return cast(AnyRecord, msgspec.convert(raw, record))
    except msgspec.ValidationError as error:
        raise InvalidInput(f"a {kind} record: {error}") from None


def record_to_dict(record: AnyRecord) -> dict[str, Any]:
    """A record as JSON-ready values, `kind` first; fields that hold their default are left out. Content is shared, not copied."""
    out: dict[str, Any] = {"kind": record.__struct_config__.tag}
    for name, default, nested in _fields(type(record)):
        value = getattr(record, name)
        if value is None or (type(value) is type(default) and value == default):
            continue
        out[name] = msgspec.to_builtins(value) if nested else value
    return out


@cache
def _fields(record: type[AnyRecord]) -> list[tuple[str, Any, bool]]:
    """(name, default, whether it holds structs) of a record's fields."""
    found: list[tuple[str, Any, bool]] = []
    for field in msgspec.structs.fields(record):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        found.append((field.name, default, field.name in _NESTED and not (field.name == "result" and record is not Edit)))
    return found


_NESTED = ("fork", "span", "tokens", "packed", "result")


# --- hashes and ids -------------------------------------------------------------------------------------------------


def content_hash(value: Any) -> str:
    """128 bits of SHA-256 over the JSON of a value, in hex."""
    return hashlib.sha256(encode(value)).hexdigest()[:32]


_HEX = "0123456789abcdef"
_DIGITS = [a + b for a in _HEX for b in [c + d for c in _HEX for d in _HEX]]


class IdMaker:
    """UUIDv7 (RFC 9562, method 2): milliseconds, then random bits that count up, so ids of one maker sort by age."""

    __slots__ = ("_count", "_low", "_ms", "_prefix", "_random", "_top")

    def __init__(self) -> None:
        chance = int.from_bytes(os.urandom(10))
        #: What counts up: all but the last three digits, and these.
        self._count = chance & 0x7FFFFFFFF
        self._low = chance >> 35 & 0xFFF
        self._top = f"{0x8000 | chance >> 47 & 0x3FFF:04x}"
        self._random = f"7{chance >> 61 & 0xFFF:03x}"
        self._ms = -1
        self._prefix = ""

    def __call__(self, now: int) -> str:
        self._low = low = (self._low + 1) & 0xFFF
        ms = now // 1_000_000
        if ms != self._ms or not low:
            if not low:
                self._count = (self._count + 1) & 0xFFFFFFFFF
            self._ms = ms
            h = f"{ms:012x}"
            self._prefix = f"{h[:8]}-{h[8:12]}-{self._random}-{self._top}-{self._count:09x}"
        return self._prefix + _DIGITS[low]


def _uuid7(ms: int, bits: bytes) -> str:
    h = bits.hex()
    variant = f"{(int(h[3], 16) & 3) | 8:x}"
    m = f"{ms & 0xFFFFFFFFFFFF:012x}"
    return f"{m[:8]}-{m[8:]}-7{h[:3]}-{variant}{h[4:7]}-{h[7:19]}"


def new_id() -> str:
    """A random UUIDv7, for trajectories: their suffixes tell them apart."""
    return _uuid7(time.time_ns() // 1_000_000, os.urandom(16))


def derived_id(when: int | None, *parts: Any) -> str:
    """The UUIDv7 that the same parts always give. `when`: nanoseconds, or None where no time is known."""
    return _uuid7((when or 0) // 1_000_000, hashlib.sha256(_encode_flat(parts)).digest()[:16])


# --- streamed events ------------------------------------------------------------------------------------------------


class Folding:
    """The events of a stream, delta-coded as they come: chunks repeat everything but a few characters. Lossless."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str | int, ...], int] = {}
        self._rows: list[list[Any]] = []
        self._previous: Any = None
        #: How many events are here alone.
        self.taken: int = 0

    def add(self, events: list[Any]) -> None:
        """Takes those of a stream's events in that are new: `events` are all that have come, but those that were taken."""
        paths, rows, previous = self._paths, self._rows, self._previous
        for at in range(len(rows) - self.taken, len(events)):
            event = events[at]
            changes: list[tuple[tuple[str | int, ...], Any]] = []
            _diff(previous, event, (), changes)
            row: list[Any] = []
            for path, value in changes:
                row += [paths.setdefault(path, len(paths)), value]
            rows.append(row)
            previous = event
        self._previous = previous

    def take(self, events: list[Any]) -> None:
        """`add`, and all but the last event are taken out of `events`: delta-coded, they need a fraction of the memory."""
        self.add(events)
        self.taken += max(len(events) - 1, 0)
        del events[:-1]

    def events(self) -> Sequence[Any]:
        """All that were added."""
        return _Unfolded(list(self._paths), self._rows)

    def folded(self) -> dict[str, Any]:
        """What a record keeps."""
        return {"paths": [list(p) for p in self._paths], "rows": self._rows}


def fold_events(events: list[Any]) -> Any:
    """All events of a stream, delta-coded."""
    folding = Folding()
    folding.add(events)
    return folding.folded()


def _diff(a: Any, b: Any, path: tuple[str | int, ...], out: list[tuple[tuple[str | int, ...], Any]]) -> None:
    kind = type(b)
    if type(a) is kind:
        pairs: Iterable[tuple[str | int, Any]]
        if kind is dict and list(a) == list(b):
            pairs = b.items()
        elif kind is list and len(a) == len(b):
            pairs = enumerate(b)
        elif a == b and kind is not dict and kind is not list:
            return
        else:
            out.append((path, b))
            return
        for key, new in pairs:  # most fields of most events are plain and stay: no call for them
            old = a[key]
            inner = type(new)
            if inner is dict or inner is list:
                _diff(old, new, (*path, key), out)
            elif type(old) is not inner or old != new:
                out.append(((*path, key), new))
        return
    out.append((path, b))


def unfold_events(folded: Any) -> list[Any]:
    """The inverse of `fold_events`: the original events."""
    if not folded:
        return []
    return list(_Unfolded([tuple(p) for p in folded["paths"]], folded["rows"]))


class _Unfolded(Sequence[Any]):
    """Delta-coded events, each put together when it is asked for."""

    def __init__(self, paths: list[tuple[str | int, ...]], rows: list[list[Any]]) -> None:
        self._paths = paths
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        current: Any = None
        for row in self._rows:
            for index in range(0, len(row), 2):
                current = put(current, self._paths[row[index]], row[index + 1])
            yield current

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


def put(value: Any, path: tuple[str | int, ...] | list[str | int], new: Any) -> Any:
    """`value` with `new` at `path`. Lists and dicts on the way are copied, so the original stays unchanged."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        items = list(value)
        items[key] = put(items[key], rest, new)
        return items
    fields = dict(value) if isinstance(value, dict) else {}
    fields[key] = put(fields.get(key), rest, new)
    return fields
