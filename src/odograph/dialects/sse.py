"""Server-sent events: bytes, cut anywhere, -> the JSON of each `data:` field. Knows no dialect.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (comments, `id` and `retry` are of no use here).
"""

from __future__ import annotations

from typing import Any

from ..codec import loads_or_raw


class SSE:
    """Feed it bytes as they come; `events` then holds the data of each complete event, parsed. `[DONE]` is no event."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        text = self._rest + chunk
        # a trailing CR may be half of a CRLF
        cut = len(text) - 1 if text.endswith(b"\r") else len(text)
        lines = text[:cut].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + text[cut:]
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """The stream has ended: what stands without an empty line after it counts too."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        if rest:
            self._line(rest)
        self._line(b"")

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            value = line[5:]
            self._data.append(value[1:] if value.startswith(b" ") else value)
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            if data.strip() != b"[DONE]":
                self.events.append(loads_or_raw(data))
