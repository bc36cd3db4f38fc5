"""How events are framed in the body of a stream: bytes, cut anywhere, -> the JSON of each event. Knows no dialect.

Source of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html (comments, `id` and `retry` are of
no use here).
"""

from __future__ import annotations

from typing import Any

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


class SSE(Stream):
    """Server-sent events; the APIs repeat the name of an `event:` line in the data, as its `type`. `[DONE]` is no event."""

    def __init__(self) -> None:
        super().__init__()
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._name: bytes | None = None
        self._begun = False
        self._return = False

    def feed(self, chunk: bytes) -> None:
        if not chunk:
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


class JSONArray(Stream):
    """The items of one JSON array, each an event as soon as it is whole; a body that is no array is one event."""

    def __init__(self) -> None:
        super().__init__()
        self._item = bytearray()
        self._depth = 0
        self._text = self._escaped = self._begun = self._array = False

    def feed(self, chunk: bytes) -> None:
        for byte in chunk:
            char = bytes((byte,))
            if self._text:
                self._item += char
                if self._escaped:
                    self._escaped = False
                elif char == b"\\":
                    self._escaped = True
                elif char == b'"':
                    self._text = False
                continue
            if not self._begun:
                if char.isspace():
                    continue
                self._begun = True
                if char == b"[":
                    self._array = True
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


def of_type(kind: str) -> Stream | None:
    """What takes a body of a content type apart; None: it is no stream."""
    kind = kind.lower()
    if kind.startswith("text/event-stream"):
        return SSE()
    if kind.startswith(("application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/stream+json")):
        return JSONLines()
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
