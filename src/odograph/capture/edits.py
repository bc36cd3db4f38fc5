"""The words for edits (delete, insert, replace, move, truncate, rewrite) -> what is written of one. Writes nothing itself."""

from collections import Counter
from collections.abc import Callable
from types import NoneType
from typing import Any, TypedDict, Unpack, get_args
from typing import Literal as OneOf

import msgspec

from ..calls import Call
from ..codec import content_hash, decode_record
from ..plain import foreign
from ..redact import Redactor
from ..streams import IdsLine, MessageLine, Streams
from ..types import Kept, Literal, LLMCall
from .values import id_of, listed, named, whole

Runs = list[Kept | Literal]
#: What of a response an edit is of, and the unit of its positions.
Channel = OneOf["content", "reasoning", "tool_calls"]
Unit = OneOf["tokens", "text"]


class Why(TypedDict, total=False):
    """What is said of an edit: the keywords of each of the editor's methods."""

    reason: str | None
    author: str | None
    preferred: bool


class EditArgs(Why, total=False):
    """The keywords of `step.edit`, for those that pass them on."""

    choice: int
    channel: Channel
    on: Unit | None
    base_hash: str | None


def check_edit(channel: str, on: str | None, result: Runs | None) -> None:
    """Raises TypeError for words and runs that are none."""
    if on is not None and on not in get_args(Unit):
        raise TypeError(f"on is 'tokens' or 'text', not {on!r}")
    if channel not in get_args(Channel):
        raise TypeError(f"channel is one of {', '.join(get_args(Channel))}, not {channel!r}")
    if not isinstance(result, (list, tuple, NoneType)) or not all(isinstance(run, (Kept, Literal)) for run in result or ()):
        found = sorted({type(run).__name__ for run in result}) if isinstance(result, (list, tuple)) else [type(result).__name__]
        raise TypeError(f"result is a list of Kept and Literal runs, not of {', '.join(found)}")


_line = msgspec.json.Decoder(MessageLine | IdsLine)


def call_of_lines(data: bytes) -> Call:
    """The call that a write held: its own lines, then the record. What earlier lines hold stays unresolved."""
    *before, last = data.rstrip(b"\n").split(b"\n")
    streams = Streams()
    for line in before:
        streams.add("", _line.decode(line))
    record = decode_record(last)
    assert isinstance(record, LLMCall)
    return Call(record, streams)


class Base:
    """What an edit starts from: the ids of one choice where they are known, else the text of a channel; `on` says which."""

    def __init__(self, call: Call, choice: int, channel: str, on: str | None = None) -> None:
        found = next((c for c in call.choices if c.index == choice), None)
        self.units: list[int] | str | None = None
        #: Why there is nothing to edit, where there is not.
        self.nothing: str = f"the call has no choice {choice} to edit"
        if found is not None:
            text = {"content": found.text, "reasoning": found.reasoning}.get(channel)
            ids = found.token_ids
            self.units = ids if on == "tokens" else text if on == "text" or ids is None else ids
            self.nothing = f"choice {choice} has no {'token ids' if on == 'tokens' else f'text of {channel}'} to edit"
        #: Whether it is what redaction left.
        self.redacted: bool = "redacted" in (call.record.extra or {})
        self.unit = "token" if isinstance(self.units, list) else "char"

    @property
    def hash(self) -> str | None:
        return None if self.units is None else content_hash(self.units)


def _kept(run: Kept) -> Kept:
    """A run with plain numbers in it. Raises TypeError for what is none."""
    start, stop = (whole(at, "a position in an edit") for at in (run.start, run.stop))
    call = None if run.call is None else id_of(run.call, "the call of a Kept run")
    return Kept(start, stop, call, None if run.choice is None else whole(run.choice, "the choice of a Kept run"))


def _written(run: Literal) -> Literal:
    """A run with a plain list of ids, or a text, in it. Raises TypeError for what is none."""
    ids = listed(run.ids)
    if ids is not None:
        if type(ids) is not list:
            raise TypeError(f"token ids of an edit are a list of int, not {type(ids).__name__}")
        ids = [id if type(id) is int else whole(id, "a token id of an edit") for id in ids]
    return Literal(ids, None if run.text is None else named(run.text, "the text of an edit"))


def _normalised(runs: Runs) -> Runs:
    """The same result with neighbours joined and empty runs left out."""
    out: Runs = []
    for run in runs:
        if isinstance(run, Kept):
            last = out[-1] if out else None
            if run.stop <= run.start:
                continue
            if isinstance(last, Kept) and last.stop == run.start and (last.call, last.choice) == (run.call, run.choice):
                out[-1] = Kept(last.start, run.stop, run.call, run.choice)
                continue
        elif not run.ids and not run.text:
            continue
        out.append(run)
    return out


def _outside(runs: Runs, length: int) -> str | None:
    """Why runs can't be of a base of this length, or None."""
    for run in runs:
        if isinstance(run, Kept) and run.call is None and run.choice is None and not 0 <= run.start <= run.stop <= length:
            return f"keeps [{run.start}, {run.stop}) of a base of {length}"
    return None


def edit_fields(
    call: str,
    base: Base | None,
    about: dict[str, Any],
    runs: Runs,
    asked: tuple[int, ...],
    redactor: Redactor | None,
    *,
    reason: str | None,
    author: str | None,
    preferred: bool,
) -> dict[str, Any]:
    """The fields of an edit's record. `asked`: the positions that were given; those outside of the base reject the edit."""
    runs = [_kept(run) if isinstance(run, Kept) else _written(run) for run in runs]
    asked = tuple(whole(at, "a position in an edit") for at in asked)
    rejected: str | None = None
    fields: dict[str, Any] = {"base": call, "result": msgspec.to_builtins(_normalised(runs))}
    if about["choice"]:
        fields["choice"] = about["choice"]
    if about["channel"] != "content":
        fields["channel"] = about["channel"]
    if base is None or base.units is None:
        rejected = base.nothing if base is not None else "the call was not recorded"
    else:
        fields["base_hash"] = base.hash
        fields["unit"] = base.unit
        length = len(base.units)
        bad = [i for i in asked if not 0 <= i <= length]
        if about["base_hash"] not in (None, base.hash):
            fields["base_hash"] = about["base_hash"]
            rejected = f"base hash {about['base_hash']} was expected to be {base.hash}"
        elif bad or (len(asked) > 1 and asked[0] > asked[1]):
            rejected = f"range {list(asked)} of a base of {length} {base.unit}s"
        else:
            rejected = _outside(runs, length)
    if rejected is None and any(foreign(run.text) for run in runs if isinstance(run, Literal) and run.text):
        rejected = "its text has half a surrogate pair"  # as JSON it is no text, and the result is none
    if redactor is not None and base is not None and _tells(redactor, base, runs):
        fields["result"], rejected = [], "it is of, or makes, what is redacted"
    for name, value in (("reason", reason), ("author", author), ("rejected", rejected)):
        if value is not None:
            fields[name] = value
    if preferred:
        fields["preferred"] = True
    return fields


def _tells(redactor: Redactor, base: Base, runs: Runs) -> bool:
    """Whether an edit's parts may tell what is redacted: of an answer that was, or of the text that they make together."""
    if base.redacted:
        return True
    if not isinstance(base.units, str):
        made = "".join(run.text or "" for run in runs if isinstance(run, Literal))
    else:
        made = "".join(base.units[run.start : run.stop] if isinstance(run, Kept) else run.text or "" for run in runs)
    found: Counter[str] = Counter()
    redactor.text(made, found)
    return bool(found)


def difference(old: str | list[int], new: str | list[int]) -> Runs:
    """What was done to a text or to ids, as runs. Near linear: it is the agent that waits."""
    from ..lineage.view import matches

    a, b = ([ord(c) for c in x] if isinstance(x, str) else x for x in (old, new))
    found = [*matches(a, b), (len(a), len(b), 0)]
    gone: dict[int, list[int]] = {}  # where what was taken out stood, by its units
    at = 0
    for start, _, count in found:
        for n in range(at, start):
            gone.setdefault(a[n], []).append(n)
        at = start + count
    free = {n for places in gone.values() for n in places}
    runs: Runs = []
    at = 0
    for start, place, count in found:
        runs += _put(a, b, new, at, place, gone, free)
        if count:
            runs.append(Kept(start, start + count))
        at = place + count
    return runs


_MOVED = 12  # characters from which on text that stands elsewhere was moved, not written again by chance
_PLACES = 8  # places of one unit that are looked at


def _put(
    a: list[int], b: list[int], new: str | list[int], start: int, stop: int, gone: dict[int, list[int]], free: set[int]
) -> Runs:
    """What was put in, b[start:stop]: moved, where it was taken out elsewhere, else written."""
    least = _MOVED if isinstance(new, str) else 1
    runs: Runs = []
    at = written = start

    def write(to: int) -> None:
        part = new[written:to]
        if part:
            runs.append(Literal(text=part) if isinstance(part, str) else Literal(ids=list(part)))

    while at < stop:
        best = size = 0
        for n in gone.get(b[at], [])[:_PLACES]:
            length = 0
            while at + length < stop and n + length in free and a[n + length] == b[at + length]:
                length += 1
            if length > size:
                best, size = n, length
        if size < least:
            at += 1
            continue
        write(at)
        runs.append(Kept(best, best + size))
        free.difference_update(range(best, best + size))
        at = written = at + size
    write(stop)
    return runs


def _literal(new: str | list[int] | Literal) -> Literal:
    if isinstance(new, Literal):
        return _written(new)
    if isinstance(new, str):
        return Literal(text=str.__str__(new))
    if type(ids := listed(new)) is list:
        return _written(Literal(ids))
    raise TypeError(f"an edit puts in text (str), token ids (list of int) or a Literal, not {type(new).__name__}")


class Editor:
    """Records one edit of a call's output. Positions count tokens where the call has token ids, else characters.

    Every method writes one edit record and returns its id; `reason=`, `author=` and `preferred=` go with each.
    """

    def __init__(self, units: str | list[int] | None, write: Callable[..., str]) -> None:
        self._units = units
        self._length = len(units or "")
        self._write = write

    def delete(self, start: int, stop: int, **why: Unpack[Why]) -> str:
        return self._write([Kept(0, start), Kept(stop, self._length)], (start, stop), **why)

    def insert(self, at: int, new: str | list[int] | Literal, **why: Unpack[Why]) -> str:
        return self._write([Kept(0, at), _literal(new), Kept(at, self._length)], (at, at), **why)

    def replace(self, start: int, stop: int, new: str | list[int] | Literal, **why: Unpack[Why]) -> str:
        return self._write([Kept(0, start), _literal(new), Kept(stop, self._length)], (start, stop), **why)

    def move(self, start: int, stop: int, to: int, **why: Unpack[Why]) -> str:
        """Moves [start, stop) to before what stands at `to`."""
        if start < to < stop:
            to = start
        if to <= start:
            runs: Runs = [Kept(0, to), Kept(start, stop), Kept(to, start), Kept(stop, self._length)]
        else:
            runs = [Kept(0, start), Kept(stop, to), Kept(start, stop), Kept(to, self._length)]
        return self._write(runs, (start, stop, to), **why)

    def truncate(self, at: int, **why: Unpack[Why]) -> str:
        """Keeps what is before `at`."""
        return self._write([Kept(0, at)], (at,), **why)

    def rewrite(self, new: str | list[int] | Literal, **why: Unpack[Why]) -> str:
        """Puts something else in place of all of it; what is the same in both counts as kept, or moved."""
        given = _literal(new)
        of = given.text if isinstance(self._units, str) else given.ids
        runs: Runs = [given]
        if self._units is not None and of is not None:
            runs = difference(self._units, of)
        return self._write(runs, (), **why)
