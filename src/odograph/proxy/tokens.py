"""`--tokens`: asking backends for token ids and logprobs, and taking them out again of what the agent gets.

What the agent asked for itself is left to it. A backend that refuses the fields is asked without them from then on.
"""

from __future__ import annotations

from typing import Any

from ..codec import encode, loads_or_raw
from ..dialects import Dialect
from ..types import TAG
from .passing import Passing


class Asking:
    """Which dialects, and whether streams or other calls, are asked for tokens no more."""

    def __init__(self) -> None:
        self._refused: set[tuple[str, bool]] = set()

    def asks(self, call: Passing) -> bool:
        return (call.dialect.NAME, call.streams) not in self._refused

    def refuse(self, call: Passing) -> None:
        self._refused.add((call.dialect.NAME, call.streams))


def fields_of(call: Passing, asking: Asking) -> dict[str, Any]:
    """The fields that are added to a request; its `body` has them then, and is else what the agent wrote, byte for byte."""
    if call.purpose == "count" or not asking.asks(call):
        return {}
    value = loads_or_raw(call.sent)
    if not isinstance(value, dict) or not value:
        return {}
    more = {name: field for name, field in call.dialect.asking_tokens(call.streams).items() if name not in value}
    if more:
        call.body = encode(more)[:-1] + b"," + call.sent.lstrip()[1:]
    return more


class Stripped:
    """A response without what was asked for beside the agent's own request: the only bytes that the proxy ever rewrites."""

    def __init__(self, dialect: Dialect, kind: str, path: str, asked: dict[str, Any]) -> None:
        """`kind`: the content type, `path`: of the request."""
        self._dialect = dialect
        self._asked = asked
        self._stream = dialect.framing(kind, path)
        self._done = False
        self._body: list[bytes] = []

    def feed(self, data: bytes, last: bool) -> bytes:
        """Takes the next bytes; what the agent gets now. A body that is no stream comes with its last bytes."""
        stream = self._stream
        if stream is None:
            if data:
                self._body.append(data)
            if not last or not self._body:
                return b""
            whole, self._body = b"".join(self._body), []
            body = loads_or_raw(whole)
            return whole if isinstance(body, dict) and TAG in body else encode(self._dialect.unasked(body, self._asked))
        stream.feed(data)
        if last:
            stream.close()
        out: list[bytes] = []
        for event, name in zip(stream.events, stream.names, strict=True):
            out.append(b"event: " + name.encode() + b"\n" if name else b"")
            out.append(b"data: " + encode(self._dialect.unasked(event, self._asked)) + b"\n\n")
        stream.events.clear()
        stream.names.clear()
        if stream.done and not self._done:
            self._done = True
            out.append(b"data: [DONE]\n\n")
        return b"".join(out)
