"""A request's bytes as they crossed the wire -> the request, to be packed.

Messages stay the bytes that they are, so that a long history that is sent again costs neither encoding nor a search for NaN.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from . import dialects
from .codec import DAMAGE, loads_or_raw
from .prefix import Prefix

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode

#: Stands for the name of the list in what a body has behind the messages of the last one.
_LIST = "\0"


def of_wire(body: bytes, dialect: str | None) -> Any:
    """The request that a body is."""
    try:
        return _values(_fields(body), dialects.resent(dialect).lists) if _is_plain(body) else loads_or_raw(body)
    except DAMAGE:
        return loads_or_raw(body)


class Sent:
    """What one agent sent last. The next body mostly has all of it in front: that is compared, and only the rest is parsed.

    Threads don't share one: who uses it takes it away, and puts it back.
    """

    __slots__ = ("_before", "_dialect", "_head", "_list", "_name")

    def __init__(self) -> None:
        #: The last body up to the end of its messages, the fields before these, their own name, and themselves.
        self._head = b""
        self._before: dict[str, Any] = {}
        self._dialect: str | None = None
        self._name = ""
        self._list: list[Any] = []

    def request(self, body: bytes, dialect: str | None) -> Any:
        """`of_wire`, with messages that are a `Prefix` where they go on from the last ones."""
        if self._head and dialect == self._dialect and body.startswith(self._head):
            try:
                found = self._continued(body, dialect)
            except DAMAGE:
                found = None
            if found is not None:
                return found
        request = of_wire(body, dialect)
        self._head = b""
        with contextlib.suppress(*DAMAGE):  # what looked like its messages stands inside of something else
            self._keep(body, request, dialect)
        return request

    def _continued(self, body: bytes, dialect: str | None) -> dict[str, Any] | None:
        """None where the body only seems to go on."""
        end = len(self._head)
        goes_on = body[end : end + 1] == b","
        rest = body[end + goes_on :]
        if not (goes_on or rest[:1] == b"]") or not _is_plain(rest) or b'"\\u0000"' in rest:
            return None
        parts = _fields(b'{"\\u0000":[' + rest)
        added = bytes(parts.pop(_LIST))
        new = _items(added)
        if bool(new) != goes_on:
            return None
        self._list += map(_alone, new)
        self._head = body[: end + goes_on + len(added) - 2]
        lists = dialects.resent(dialect).lists
        return {**self._before, self._name: Prefix(self._list), **_values(parts, lists)}

    def _keep(self, body: bytes, request: Any, dialect: str | None) -> None:
        lists = dialects.resent(dialect).lists
        held = [name for name in lists if type(request) is dict and type(request.get(name)) is list and request[name]]
        if len(held) != 1 or type(request[held[0]][0]) is not msgspec.Raw:
            return
        (name,) = held
        part = bytes(_fields(body)[name])
        if b'"' not in part:  # the same text might stand inside of another one
            return
        start = body.index(part)
        before = _values(_fields(body[:start] + b"0}"), lists)
        if next(reversed(before)) != name:  # it was there twice
            return
        del before[name]
        self._head, self._before, self._dialect = body[: start + len(part) - 1], before, dialect
        self._name, self._list = name, [_alone(item) for item in request[name]]
        request[name] = Prefix(self._list)


def _is_plain(body: bytes) -> bool:
    """Whether a body can be kept as it is: of one line, without surrogates, which may be alone. Raises UnicodeDecodeError."""
    body.decode()
    return b"\n" not in body and b"\\ud" not in body and b"\\uD" not in body


def _values(parts: dict[str, msgspec.Raw], lists: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: _items(part) if name in lists and bytes(part[:1]) == b"[" else msgspec.json.decode(part)
        for name, part in ((name, memoryview(part)) for name, part in parts.items())
    }


def _alone(item: msgspec.Raw) -> msgspec.Raw:
    """An item that keeps no body alive."""
    return msgspec.Raw(bytes(item))
