"""What an agent resends at every call is stored once: parts of calls -> streams of messages and of token ids.

A trajectory's calls, per journal file and agent, share one stream of messages and one of token ids. A call's list is kept
as ranges of its stream. An agent that resends its growing history needs one range per list, whatever the length of the
history, and no call depends on another call's line: a damaged line costs what was in that line. (The contract proposed
lists as deltas against the previous call with a keyframe every 32; ranges are smaller, need no chain to be walked, and
survive damage better.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any

import msgspec
import orjson

from . import dialects
from .codec import encode, encode_message, record_to_dict
from .prefix import Prefix, same_objects, shared_prefix
from .streams import Ranges, append, cut
from .types import AnyRecord, LLMCall

_SMALL = 256  # bytes; a value below it is cheaper where it is
_MOST_RANGES = 64  # a list more broken than that is put together again
_JOINED = 32
_PIECE = 96  # bytes of ids that are looked for in the list before
_FEW = 32  # bytes of ids that are written again sooner than they are referred to
_MOST_PIECES = 8
#: What JSON of a list that is not of whole numbers >= 0 alone holds one of: signs, fractions, words, texts, lists.
_OTHERS = b'-.en"[{'


class _Sent:
    """The token ids of the last call, as text with a comma before and behind each id.

    The next prompt shares ids with this text. A comparison of bytes finds them, at a fraction of the cost of comparing numbers.
    A prompt that is a `Prefix` is no part of the text: the next prompt of the same list has all of it in front.
    """

    __slots__ = ("count", "prompt", "ranges", "text")

    def __init__(self, text: bytes = b",", count: int = 0, ranges: Ranges | None = None, prompt: Prefix | None = None) -> None:
        self.text = text
        self.count = count
        self.ranges: Ranges = ranges or []
        self.prompt = prompt

    def known(self, ids: list[Any] | Prefix) -> int:
        """How many ids of the next prompt need no look: those that stand before the text, if the prompt is of their list. Else
        they are part of the text from now on."""
        before = self.prompt
        assert before is not None
        if type(ids) is Prefix and ids.base is before.base and len(ids) >= len(before):
            return len(before)
        self.text, self.prompt = _ids_text(before[:]) + self.text[1:], None
        return 0

    def shared(self, text: bytes, known: int = 0) -> tuple[Ranges, int]:
        """The ids at the beginning of `text` that stand here, too, in this order: their ranges, behind those of the `known` ids
        in front of both texts, and the position of their last comma.

        A prompt that goes on has all of the last one in front. A window that moves on has left out what was in front, or behind a
        system prompt.
        """
        found: Ranges = cut(self.ranges, 0, known) if known else []
        last = self.text
        at = end = 0  # positions of commas here and in `text`
        index = known  # the number of ids before the one here
        for _ in range(_MOST_PIECES):
            more = _same_ids(last, at, text, end)
            if more:
                stop = self.count if at + more == len(last) - 1 else index + last.count(b",", at, at + more)
                for low, high in cut(self.ranges, index, stop):
                    append(found, low, high)
                at, index, end = at + more, stop, end + more
            if at == len(last) - 1 or end == len(text) - 1:
                break
            piece = text[end : text.rfind(b",", end, end + _PIECE) + 1]
            there = last.find(piece, at) if len(piece) > _PIECE // 2 else -1
            if there < 0:
                break
            index, at = index + last.count(b",", at, there), there
        return found, end

    def extend(self, text: bytes, ranges: Ranges, count: int) -> None:
        """Adds ids that the next prompt has behind these ids."""
        self.text += text[1:]
        self.count += count
        self.ranges = _joined(self.ranges, ranges)


def _same_ids(a: bytes, at: int, b: bytes, there: int) -> int:
    """The number of equal bytes of whole ids, from two commas on."""
    most = min(len(a) - at, len(b) - there) - 1
    if a[at : at + most + 1] == b[there : there + most + 1]:
        return most
    low, high = _FEW, most + 1  # so many bytes are equal, so many are not
    if a[at : at + low] != b[there : there + low]:
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        if a[at + low : at + middle] == b[there + low : there + middle]:
            low = middle
        else:
            high = middle
    return max(0, a.rfind(b",", at, at + low) - at)


def _ids_text(ids: list[Any]) -> bytes:
    """Ids in the form of `_Sent`. A list of something else gives another text."""
    return b",%b," % encode(ids)[1:-1] if ids else b","


def _packed(path: dialects.Path, of: str, number: int, ranges: Ranges) -> dict[str, Any]:
    """A `Packed` as JSON."""
    return {"at": path, "of": of, "stream": number, "ranges": ranges}


class _Stream:
    """The writer's side of one stream: what it holds, and the last list that was sent, which the next usually extends."""

    __slots__ = ("base", "hashes", "ids_length", "known", "last", "last_objects", "ranges", "sent")

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.known: dict[str, int] = {}
        self.last: list[bytes] = []
        self.last_objects: list[Any] = []
        #: Where the last list was a `Prefix`: of what.
        self.base: list[Any] | None = None
        self.ranges: Ranges = []
        self.sent = _Sent()
        #: How many token ids the stream holds.
        self.ids_length = 0


class Packer:
    """Packs the calls of one trajectory in one journal file. `pack` returns the lines that must be written before the call's own.

    `immutable=True` promises that message objects are never changed after they were handed over: then the same object is
    the same message, and a long history costs nothing to compare.
    """

    def __init__(self, trajectory: str, new_stream: Callable[[], int], *, immutable: bool = False) -> None:
        self._trajectory = encode(trajectory)  # any string can be an id
        self._new_stream = new_stream
        self._streams: dict[Any, tuple[int, _Stream]] = {}
        self._immutable = immutable

    def pack(self, key: Any, call: dict[str, Any], lines: list[bytes]) -> dict[str, Any]:
        """The fields of an llm_call, with `packed` in place of the parts that are stored apart. Appends these parts' lines."""
        found = self._streams.get(key)
        if found is None:
            found = self._streams[key] = (self._new_stream(), _Stream())
        number, stream = found
        packed: list[dict[str, Any]] = []
        call = dict(call)
        resent = dialects.resent(call.get("dialect"))
        request = call.get("request")
        places = ["prompt_token_ids"] if "prompt_token_ids" in call else []
        if "tokens" in call:
            places.append("tokens")
        if type(request) is dict and not resent.sent_ids.isdisjoint(request):
            places.append("request")
        if type(call.get("response")) is dict:
            places.append("response")
        if places:
            self._token_ids(number, stream, call, resent, places, packed, lines)
            request = call.get("request")
            if "tokens" in call:
                call["tokens"] = _tokens(call["tokens"])
        if type(request) is dict:
            rest: dict[str, Any] = {}
            for name, part in request.items():
                kind = type(part)
                if name in resent.names:
                    if name in resent.lists:
                        if (kind is list or kind is Prefix) and part:
                            ranges = self._messages(number, stream, part, lines)
                            packed.append(_packed(("request", name), "list", number, ranges))
                            continue
                    elif (kind is list or kind is dict or kind is str) and part:
                        data = encode(part)
                        if len(data) >= _SMALL:
                            n = self._item(number, stream, data, lines, -1)
                            packed.append(_packed(("request", name), "value", number, [(n, n + 1)]))
                            continue
                rest[name] = part
            call["request"] = rest
        if packed:
            call["packed"] = orjson.Fragment(orjson.dumps(packed))
        return call

    def _messages(self, number: int, stream: _Stream, given: list[Any] | Prefix, lines: list[bytes]) -> Ranges:
        last = stream.last
        base: list[Any] | None = None
        if type(given) is Prefix:
            base = given.base
            if stream.base is base and len(last) <= given.length:
                return self._continued(number, stream, given, lines)
        messages = given[:] if type(given) is Prefix else given
        start = same_objects(stream.last_objects, messages) if self._immutable else 0
        if messages and type(messages[0]) is msgspec.Raw:  # as they crossed the wire
            data = list(map(bytes, messages))
            share = shared_prefix(last, data, start)
            more = data[share:]
        elif self._immutable:  # what is the same is not so much as copied
            more = [encode_message(m) for m in messages[start:]]
            share = start + shared_prefix(last[start : start + len(more)], more)
            more = more[share - start :]
        else:
            data = [encode_message(m) for m in messages]
            share = shared_prefix(last, data, start)
            more = data[share:]
        ranges = cut(stream.ranges, 0, share)
        previous = ranges[-1][1] - 1 if ranges else -1
        for item in more:
            previous = self._item(number, stream, item, lines, previous)
            append(ranges, previous, previous + 1)
        if len(ranges) > _MOST_RANGES:
            ranges = self._joined(number, stream, ranges, lines)
        del last[share:]
        last += map(_tight, more)
        stream.ranges, stream.base = ranges, base
        if self._immutable:
            del stream.last_objects[start:]
            stream.last_objects += messages[start:]
        return ranges

    def _continued(self, number: int, stream: _Stream, messages: Prefix, lines: list[bytes]) -> Ranges:
        """The ranges of the last list, extended by the new messages. The cost does not depend on the length of the history."""
        known = len(stream.last)
        ranges = list(stream.ranges)
        previous = ranges[-1][1] - 1 if ranges else -1
        for n in range(known, messages.length):
            message = messages.base[n]
            item = bytes(message) if type(message) is msgspec.Raw else encode_message(message)
            previous = self._item(number, stream, item, lines, previous)
            append(ranges, previous, previous + 1)
            stream.last.append(_tight(item))
            if self._immutable:
                stream.last_objects.append(message)
        if len(ranges) > _MOST_RANGES:
            ranges = self._joined(number, stream, ranges, lines)
        stream.ranges = ranges
        return ranges

    def _joined(self, number: int, stream: _Stream, ranges: Ranges, lines: list[bytes]) -> Ranges:
        """Fewer ranges: the shortest neighbours are put together by new items that refer to theirs.

        A history in which every message changes once after it was sent (a cache mark that moves on) would need a range per
        step else. Each item is referred to anew a logarithmic number of times, however long the history grows.
        """
        sizes = [stop - start for start, stop in ranges]
        first = min(range(len(ranges) - _JOINED + 1), key=lambda i: sum(sizes[i : i + _JOINED]))
        start = len(stream.hashes)
        for low, high in ranges[first : first + _JOINED]:
            for n in range(low, high):
                lines.append(
                    b'{"kind":"message","trajectory":%b,"stream":%d,"n":%d,"hash":"%b","same":%d}\n'
                    % (self._trajectory, number, len(stream.hashes), stream.hashes[n].encode(), n)
                )
                stream.hashes.append(stream.hashes[n])
        return [*ranges[:first], (start, len(stream.hashes)), *ranges[first + _JOINED :]]

    def _item(self, number: int, stream: _Stream, data: bytes, lines: list[bytes], previous: int) -> int:
        """The number of the item with these bytes. The item after `previous` is preferred, so that ranges stay whole."""
        digest = sha256(data).hexdigest()[:32]
        end = len(stream.hashes)
        known = stream.known.get(digest)
        if known is not None:
            after = previous + 1
            if after < end and stream.hashes[after] == digest:
                return after
            if after != end:
                return known
            body = b'"same":%d' % known
        else:
            body = b'"body":' + data
            stream.known[digest] = end
        lines.append(
            b'{"kind":"message","trajectory":%b,"stream":%d,"n":%d,"hash":"%b",%b}\n'
            % (self._trajectory, number, end, digest.encode(), body)
        )
        stream.hashes.append(digest)
        return end

    def _token_ids(
        self,
        number: int,
        stream: _Stream,
        call: dict[str, Any],
        resent: dialects.Resent,
        places: list[str],
        packed: list[dict[str, Any]],
        lines: list[bytes],
    ) -> None:
        """Takes the prompt's ids and the first choice's ids out of the fields named by `places`. The next prompt usually extends
        both."""
        prompt = False
        given = call.get("prompt_token_ids")
        growing = given if type(given) is Prefix and given else None
        for path in resent.prompt_ids:
            ids: list[Any] | Prefix | None = growing if len(path) == 1 else None
            ids = ids or (dialects.ids_at(call, path) if path[0] in places else None)
            if ids is None:
                continue
            known = stream.sent.known(ids) if stream.sent.prompt is not None else 0
            path, text = standing_path(call, path), _ids_text(ids[known:] if type(ids) is Prefix else ids)
            ranges, end = stream.sent.shared(text, known)
            if len(ranges) > _MOST_RANGES:
                ranges, text, end = [], _ids_text(ids[:]), 0
            if self._more_ids(number, stream, text[end:], ranges, lines) is None:
                return
            stream.sent = _Sent(text, len(ids), ranges) if type(ids) is list else _Sent(b",", len(ids), ranges, growing)
            prompt = True
            packed.append(_packed(path, "ids", number, ranges))
            take_out(call, path)
        for path in resent.answer_ids:
            ids = dialects.ids_at(call, path) if path[0] in places else None
            if ids is None:
                continue
            ranges = []
            path, text = standing_path(call, path), _ids_text(ids)
            count = self._more_ids(number, stream, text, ranges, lines)
            if count is not None:
                packed.append(_packed(path, "ids", number, ranges))
                take_out(call, path)
                if prompt:
                    stream.sent.extend(text, ranges, count)
                else:
                    stream.sent = _Sent()
            break

    def _more_ids(self, number: int, stream: _Stream, text: bytes, ranges: Ranges, lines: list[bytes]) -> int | None:
        """Adds ids to the stream, and returns their number. Adds nothing and returns None if one is no whole number >= 0."""
        if len(text) == 1:
            return 0
        for mark in _OTHERS:
            if mark in text:
                return None
        count = text.count(b",") - 1
        lines.append(
            b'{"kind":"ids","trajectory":%b,"stream":%d,"start":%d,"ids":[%b]}\n'
            % (self._trajectory, number, stream.ids_length, text[1:-1])
        )
        append(ranges, stream.ids_length, stream.ids_length + count)
        stream.ids_length += count
        return count


def _tokens(choices: Any) -> Any:
    """A call's tokens, each list of ids or logprobs encoded alone, because encoding a list of numbers alone costs little."""
    if type(choices) is not list or not all(type(choice) is dict for choice in choices):
        return choices
    return [{k: orjson.Fragment(encode(v)) if type(v) is list else v for k, v in choice.items()} for choice in choices]


def standing_path(value: Any, path: dialects.Path) -> dialects.Path:
    """The path with places that count from the end of a list as they count from its beginning, which is how they are kept."""
    if -1 not in path:
        return path
    found: list[str | int] = []
    for key in path:
        found.append(len(value) + key if type(key) is int and key < 0 else key)
        value = value[found[-1]]
    return tuple(found)


def take_out(value: Any, path: dialects.Path) -> None:
    """Takes the field at `path` out of `value`. Lists and dicts on the way are copied, so the originals stay unchanged."""
    for key in path[:-1]:
        inner = value[key]
        value[key] = value = list(inner) if type(inner) is list else dict(inner)
    if type(path[-1]) is int:  # what stands behind keeps its place
        value[path[-1]] = None
    else:
        del value[path[-1]]


def _joined(a: Ranges, b: Ranges) -> Ranges:
    out = list(a)
    for start, stop in b:
        append(out, start, stop)
    return out


def _tight(data: bytes) -> bytes:
    """The same bytes without the buffer that their encoder made for them, which is many times larger than most messages."""
    return bytes(memoryview(data)) if len(data) < 4096 else data


def lines_of(trajectory: str, records: Iterable[AnyRecord]) -> Iterator[tuple[AnyRecord | None, bytes]]:
    """A trajectory's complete records as lines that stand on their own, messages stored once: what exports write.

    With each line the record that it is; None for messages and token ids, which come before the call that needs them.
    """
    numbers = iter(range(1, 1 << 62))
    packer = Packer(trajectory, lambda: next(numbers), immutable=True)
    for record in records:
        fields = record_to_dict(record)
        before: list[bytes] = []
        if isinstance(record, LLMCall):
            fields = packer.pack((record.agent, record.purpose), fields, before)
        for line in before:
            yield None, line
        yield record, encode(fields) + b"\n"
