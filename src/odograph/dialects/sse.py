"""Server-sent events: bytes, cut anywhere, -> the JSON of each event's data. Knows no dialect.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (comments, `id` and `retry` are of no use here).
"""

from __future__ import annotations

from typing import Any

from ..codec import loads_or_raw


class SSE:
    """Feed it bytes as they come; `events` then holds the data of each complete event, parsed. `[DONE]` is no event."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        #: What each event was called by an `event:` line; the APIs repeat it in the data, as its `type`.
        self.names: list[str | None] = []
        #: Whether `[DONE]` came.
        self.done: bool = False
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
        """The stream has ended: what stands without an empty line after it counts too."""
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
            self.events.append(loads_or_raw(data))
            self.names.append(name.decode(errors="replace") if name else None)
