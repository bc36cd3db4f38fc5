"""A trajectory as a page gets it: a head that says what there is and where, and parts with the entries, each part as JSON bytes.

A part is small, so a page of 10,000 steps draws what is on the screen and no more. What is long is cut in a part and whole by
itself. Knows no server and no HTML.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

import msgspec

from .. import shown
from ..codec import encode, record_to_dict
from ..trajectory import Trajectory
from ..types import Action, AnyRecord, Context, LLMCall

#: A part has at most this many entries, and closes at this many bytes.
ENTRIES, BYTES = 40, 96 << 10
#: An entry beyond this many bytes is cut in its part: each text in it to so many characters.
_LONG, _KEPT = 24 << 10, 6_000
_NAMED = 4  # actions of a step that its line names
_KINDS = {LLMCall: "model", Action: "tool", Context: "context"}


class Document(msgspec.Struct):
    """The answers about one trajectory. `head` and `parts` are JSON."""

    id: str
    head: dict[str, Any]
    parts: list[bytes]
    #: Whole entries, by number, of those that are cut in their part.
    long: dict[int, bytes]

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return sum(map(len, self.parts)) + sum(map(len, self.long.values()))


def document(t: Trajectory) -> Document:
    """A trajectory's head and parts: costs what was said, however often an agent sent its history."""
    parts: list[bytes] = []
    firsts: list[int] = []
    long: dict[int, bytes] = {}
    held: list[bytes] = []
    size = 0
    kinds: Counter[str] = Counter()
    places: dict[str, int] = {}
    errors: list[int] = []
    outline: list[list[Any]] = []
    place: dict[tuple[str | None, int | None], int] = {}
    numbers: dict[Any, int] = {(s.agent, s.index): n for n, s in enumerate(t.steps)}
    number = -1

    def close() -> None:
        nonlocal held, size
        if held:
            parts.append(b"[" + b",".join(held) + b"]")
        held, size = [], 0

    for number, entry in enumerate(shown.session(t)):
        if entry.record is not None:
            places.setdefault(entry.record, number)
        failed = entry.about.get("error") is not None or entry.about.get("ok") is False
        if failed:
            errors.append(number)
        who = (entry.agent, entry.step)
        if entry.kind == "step" and who not in place:
            place[who] = len(outline)
            outline.append([entry.step, entry.agent, entry.depth, number, [], False, entry.about.get("reward"), numbers.get(who)])
        elif who in place:
            about = outline[place[who]]
            about[5] = about[5] or failed
            if entry.kind == "action" and len(about[4]) < _NAMED:
                about[4].append(entry.about["name"])
        kinds[entry.kind] += 1
        data, whole = _encoded(number, entry)
        if whole is not None:
            long[number] = whole
        if not held or _is_full(held, size + len(data)):
            close()
            firsts.append(number)
        held.append(data)
        size += len(data)
    close()
    head = shown.facts(t) | {
        "metadata": t.metadata,
        "entries": number + 1,
        "firsts": firsts,
        "stamps": [zlib.crc32(part) for part in parts],
        "kinds": kinds,
        "errors": errors,
        "cut": sorted(long),
        # each step: [index, agent, depth, entry, what it did, whether something failed, reward, its number in `steps`]
        "outline": outline,
        **_time(t, places),
    }
    return Document(t.id, head, parts, long)


def first_part(t: Trajectory) -> bytes:
    """The first part alone: what a page shows of a long session while the rest is put together."""
    held: list[bytes] = []
    size = 0
    for number, entry in enumerate(shown.session(t)):
        data, _ = _encoded(number, entry)
        if held and _is_full(held, size + len(data)):
            break
        held.append(data)
        size += len(data)
    return b"[" + b",".join(held) + b"]"


def _is_full(held: list[bytes], size: int) -> bool:
    """Whether a part has no room for one more entry, with which it would have so many bytes."""
    return size > BYTES or len(held) >= ENTRIES


def _encoded(number: int, entry: shown.Entry) -> tuple[bytes, bytes | None]:
    """An entry as it stands in its part; and whole, where it is cut there."""
    data = encode({"n": number, **_plain(entry)})
    if len(data) <= _LONG:
        return data, None
    return encode({"n": number, "long": len(data), **_cut(_plain(entry))}), data


def _plain(entry: shown.Entry) -> dict[str, Any]:
    about = {"kind": entry.kind, "about": entry.about, "record": entry.record, "step": entry.step, "agent": entry.agent}
    return about | {"time": _ms(entry.time), "depth": entry.depth}


def _ms(nanoseconds: int | None) -> float | None:
    """Milliseconds since 1970: JavaScript's numbers hold no nanoseconds of today."""
    return None if nanoseconds is None else nanoseconds / 1e6


def _cut(value: Any) -> Any:
    """A value whose long texts are cut: `{"$cut": characters, "text": the beginning}`."""
    if isinstance(value, str):
        return value if len(value) <= _KEPT else {"$cut": len(value), "text": value[:_KEPT]}
    if isinstance(value, dict):
        return {k: _cut(v) for k, v in list(value.items())[:500]}
    if isinstance(value, list):
        return [_cut(v) for v in value[:500]] + ([{"$cut": len(value), "text": "more"}] if len(value) > 500 else [])
    return value


def _time(t: Trajectory, places: dict[str, int]) -> dict[str, Any]:
    """Where time went: `spans` of model, tool and context as [kind, milliseconds from the start, how long, entry, agent], and how
    many milliseconds the whole and each took. None: not known. What overlaps counts once."""
    imported = "source" in t.metadata
    spans: list[list[Any]] = []
    for record in t.records:
        kind = _KINDS.get(type(record))
        if kind is None or record.id not in places:
            continue
        duration = getattr(record, "duration", None)
        at = _began(record, duration, imported)
        if at is not None and duration is not None:
            spans.append([kind, at / 1e6, duration / 1e6, places[record.id], record.agent or t.agent])
    start = _ms(t.started)
    whole = t.duration * 1e3 if t.duration is not None else None
    if not spans:
        return {"spans": [], "start": start, "took": {"whole": whole}}
    first = min([s[1] for s in spans] + ([start] if start is not None else []))
    last = max(s[1] + s[2] for s in spans)
    for span in spans:
        span[1] -= first
    whole = max(whole or 0.0, last - first)
    took: dict[str, float] = {"whole": whole}
    for kind in dict.fromkeys(_KINDS.values()):
        took[kind] = _covered([(s[1], s[1] + s[2]) for s in spans if s[0] == kind])
    took["waiting"] = max(0.0, whole - _covered([(s[1], s[1] + s[2]) for s in spans]))
    return {"spans": spans, "start": first, "took": took}


def _began(record: AnyRecord, duration: int | None, imported: bool) -> int | None:
    """When something began: where only its record's time is known, that is when it ended."""
    started = getattr(record, "started", None)
    if started is not None:
        return int(started)
    when = shown.happened(record, imported)
    return None if when is None else when - (duration or 0)


def _covered(spans: list[tuple[float, float]]) -> float:
    """The length of a union of intervals."""
    total, end = 0.0, float("-inf")
    for a, b in sorted(spans):
        if b > end:
            total += b - max(a, end)
            end = b
    return total


def raw(t: Trajectory, id: str) -> dict[str, Any] | None:
    """The JSON of one record, nothing packed; None where it has no such record."""
    for call in t.llm_calls:
        if call.id == id:
            return record_to_dict(call.record)
    return next((record_to_dict(r) for r in t.complete_records() if r.id == id), None)
