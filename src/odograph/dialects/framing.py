"""How events are framed in the body of a stream: bytes, cut anywhere, -> the JSON of each event. Knows no dialect.

Source of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html (comments, `id` and `retry` are of
no use here).
"""

from __future__ import annotations

import base64
import re
import struct
from contextlib import suppress
from typing import Any
from zlib import crc32

from ..codec import encode, loads_or_raw


class Stream:
    """Feed it bytes as they come; `events` then holds each complete event, parsed. The base of all framings."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        #: What each event was called beside its data.
        self.names: list[str | None] = []
        #: Whether the framing itself said that the stream is over.
        self.done = False

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes."""
        raise NotImplementedError

    def close(self) -> None:
        """The stream has ended: what stands without its end counts too."""

    def _event(self, data: bytes, name: str | None = None) -> None:
        self.events.append(loads_or_raw(data))
        self.names.append(name)


#: One whole event, which a piece of a stream mostly is.
_ONE = re.compile(rb"(?:event: ([^\r\n]*)\n)?data: ([^\r\n]*)\n\n")


class SSE(Stream):
    """Server-sent events; the APIs repeat the name of an `event:` line in the data, as its `type`. `[DONE]` is no event."""

    def __init__(self) -> None:
        super().__init__()
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._name: bytes | None = None
        self._begun = False
        self._return = False
        self._between = True

    def feed(self, chunk: bytes) -> None:
        if not chunk:
            return
        one = _ONE.fullmatch(chunk) if self._between else None
        if one is not None:
            self._begun = True
            self._name, data = one.groups()
            self._data.append(data)
            self._end()
            return
        if self._return and chunk.startswith(b"\n"):  # the other half of a CRLF
            chunk = chunk[1:]
        self._return = chunk.endswith(b"\r") if chunk else False
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest.append(lines[0])
        if len(lines) > 1:
            self._line(b"".join(self._rest))
            for line in lines[1:-1]:
                self._line(line)
            self._rest = [lines[-1]]
        self._between = not (self._rest[-1] or self._return or self._data or self._name)

    def close(self) -> None:
        rest, self._rest = b"".join(self._rest), []
        if rest:
            self._line(rest)
        self._line(b"")

    def _line(self, line: bytes) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            self._end()
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value

    def _end(self) -> None:
        name, self._name = self._name, None
        if not self._data:
            return
        data, self._data = b"\n".join(self._data), []
        if data.strip() == b"[DONE]":
            self.done = True
        else:
            self._event(data, name.decode(errors="replace") if name else None)


class JSONLines(Stream):
    """An event a line."""

    def __init__(self) -> None:
        super().__init__()
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            self._rest.append(line)
            self.close()
        self._rest.append(rest)

    def close(self) -> None:
        line, self._rest = b"".join(self._rest).strip(), []
        if line:
            self._event(line)


#: What matters to the bounds of an item, inside of a string and outside.
_IN_TEXT, _OUTSIDE = re.compile(rb'["\\]'), re.compile(rb'["\[\]{},]')


class JSONArray(Stream):
    """The items of one JSON array, each an event as soon as it is whole; a body that is no array is one event."""

    def __init__(self) -> None:
        super().__init__()
        self._item = bytearray()
        self._depth = 0
        self._text = self._escaped = self._begun = self._array = False

    def feed(self, chunk: bytes) -> None:
        at = 0
        if not self._begun:
            chunk = chunk.lstrip()
            if not chunk:
                return
            self._begun = True
            if chunk.startswith(b"["):
                self._array, at = True, 1
        while at < len(chunk):
            if self._escaped:
                self._item += chunk[at : at + 1]
                self._escaped = False
                at += 1
                continue
            found = (_IN_TEXT if self._text else _OUTSIDE).search(chunk, at)
            if found is None:
                self._item += chunk[at:]
                return
            self._item += chunk[at : found.start()]
            at, char = found.end(), found[0]
            if self._text:
                self._item += char
                self._text = char != b'"'
                self._escaped = char == b"\\"
                continue
            if self._depth == 0 and self._array and char in b",]":
                self._flush()
                self.done = self.done or char == b"]"
                continue
            self._item += char
            if char == b'"':
                self._text = True
            elif char in b"{[":
                self._depth += 1
            elif char in b"}]":
                self._depth -= 1

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        data, self._item = bytes(self._item).strip(), bytearray()
        self._depth, self._text, self._escaped = 0, False, False
        if data:
            self._event(data)


class AWSEvents(Stream):
    """The event streams of AWS: binary messages of headers and a payload. An event of a model's own API stands in a payload's
    `bytes`; another is `{its type: payload}`.

    Source: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._rest += chunk
        while len(self._rest) >= 16:
            size, about = struct.unpack_from(">II", self._rest)
            if not 16 + about <= size <= _LARGEST:  # no such stream
                self._rest.clear()
                return
            if len(self._rest) < size:
                return
            headers = _aws_headers(bytes(self._rest[12 : 12 + about]))
            payload = bytes(self._rest[12 + about : size - 4])
            del self._rest[:size]
            self._message(headers, payload)

    def _message(self, headers: dict[str, str], payload: bytes) -> None:
        value = loads_or_raw(payload or b"{}")
        inner = value.get("bytes") if isinstance(value, dict) else None
        name = headers.get(":event-type") or headers.get(":exception-type") or headers.get(":error-code") or ""
        if isinstance(inner, str) and name in ("chunk", ""):
            with suppress(ValueError):
                self._event(base64.b64decode(inner))
                return
        if name and not headers.get(":event-type"):
            name = name[:1].lower() + name[1:] if name.endswith("Exception") else "error"
        self.events.append({name: value} if name else value)
        self.names.append(name or None)


_LARGEST = 16 << 20  # what AWS allows, and headers


def _aws_headers(data: bytes) -> dict[str, str]:
    """The headers that are strings; what stands behind another kind is left out where its size is not known."""
    found: dict[str, str] = {}
    sizes = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
    at = 0
    with suppress(IndexError, struct.error):
        while at < len(data):
            name = data[at + 1 : at + 1 + data[at]].decode(errors="replace")
            at += 1 + data[at]
            kind = data[at]
            at += 1
            if kind in sizes:
                at += sizes[kind]
                continue
            (size,) = struct.unpack_from(">H", data, at)
            found[name] = data[at + 2 : at + 2 + size].decode(errors="replace")
            at += 2 + size
    return found


def as_aws(headers: dict[str, str], payload: bytes) -> bytes:
    """A message of an event stream of AWS."""
    about = b"".join(
        bytes((len(name),)) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in {":message-type": "event", ":content-type": "application/json", **headers}.items()
    )
    head = struct.pack(">II", 16 + len(about) + len(payload), len(about))
    head += struct.pack(">I", crc32(head))
    whole = head + about + payload
    return whole + struct.pack(">I", crc32(whole))


def of_type(kind: str) -> Stream | None:
    """What takes a body of a content type apart; None: it is no stream."""
    kind = kind.lower()
    if kind.startswith("text/event-stream"):
        return SSE()
    if kind.startswith(("application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/stream+json")):
        return JSONLines()
    if kind.startswith("application/vnd.amazon.eventstream"):
        return AWSEvents()
    return None


def as_sse(events: list[Any], done: bool, names: bool) -> bytes:
    """Events as server-sent events. `names`: each is called by its `type`, as the APIs that name events do; `done`: `[DONE]`."""
    lines: list[bytes] = []
    for event in events:
        kind = event.get("type") if names and isinstance(event, dict) else None
        name = b"event: " + kind.encode() + b"\n" if isinstance(kind, str) else b""
        lines.append(name + b"data: " + encode(event) + b"\n\n")
    if done:
        lines.append(b"data: [DONE]\n\n")
    return b"".join(lines)
