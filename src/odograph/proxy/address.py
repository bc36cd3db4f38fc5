"""Whose call an address says it is: `/t/RUN/group/G/.../v1/messages` -> an `Address` and the path that goes upstream. Pure.

The prefix works for every client, because every client keeps the path of its base URL. Headers `x-odograph-KEY` say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from ..errors import InvalidInput

#: What may stand behind `/t/RUN`, as KEY/VALUE, and what it is called in an `Address`.
KEYS: dict[str, str] = {
    "group": "group",
    "task": "task",
    "agent": "agent",
    "attempt": "attempt",
    "policy": "policy_version",
    "purpose": "purpose",
}
#: Headers of ours begin so. None goes upstream.
HEADER = "x-odograph-"
_HEADERS = tuple((HEADER + key, key, name) for key, name in {"run": "run", **KEYS}.items())
_LONGEST = 200


class Address(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Whose call it is, as far as its address says: the run, and what is known of the run or of the call."""

    run: str | None = None
    group: str | None = None
    task: Any = None
    agent: str | None = None
    attempt: int | None = None
    policy_version: str | int | None = None
    purpose: str | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}


def parse(path: str) -> tuple[dict[str, Any], str]:
    """The parts of a path's prefix `/t/RUN/KEY/VALUE/...`, and the rest of the path. Raises InvalidInput for a prefix that
    names no run, a key without a value, or a value that can't be one.

    A path without the prefix has no parts. The prefix ends at the first part that is no key; `/-/` ends it in any case.
    """
    if path != "/t" and not path.startswith("/t/"):
        return {}, path
    first, *segments = path[3:].split("/")
    found: dict[str, Any] = {"run": _value("run", first)}
    while segments and segments[0] in KEYS:
        key = segments.pop(0)
        if not segments:
            raise InvalidInput(f"the address has {key!r} without a value; /t/RUN/{key}/VALUE was expected")
        if KEYS[key] in found:
            raise InvalidInput(f"the address has {key!r} twice")
        found[KEYS[key]] = _value(key, segments.pop(0))
    if segments and segments[0] == "-":
        segments.pop(0)
    return found, "/" + "/".join(segments) if segments else ""


def of_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """The parts that headers `x-odograph-run`, `x-odograph-group`, ... say. Raises InvalidInput."""
    found: dict[str, Any] = {}
    for header, key, name in _HEADERS:
        value = headers.get(header)
        if value is not None:
            found[name] = _value(key, value)
    return found


def _value(key: str, text: str) -> Any:
    try:
        value = unquote(text, errors="strict")
    except UnicodeDecodeError:  # several such names would be read as one
        value = ""
    if not value.strip() or len(value) > _LONGEST or not value.isprintable():
        raise InvalidInput(f"the {key} of an address has 1 to {_LONGEST} printable characters of UTF-8, not {text[:50]!r}")
    if key == "attempt" or (key == "policy" and value.isdecimal()):
        if not (value.isascii() and value.isdecimal() and len(value) < 16):
            raise InvalidInput(f"the attempt of an address is a number, not {value[:50]!r}")
        return int(value)
    return value
