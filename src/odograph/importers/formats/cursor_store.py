"""The chats of Cursor's command line (`store.db`): which messages one holds, in order.

A chat is a SQLite file with two tables. `meta` has one value, JSON in hexadecimal digits, that names the root. `blobs` has blobs
by their digest. The root is a protobuf message whose field 1 repeats the digests of the messages, each of which is JSON in the
shape of Vercel's AI SDK. Earlier roots are left over; they are not read.

Source: what readers of such files found out (vshulcz/deja-vu#3821, corveil/crow#1105).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ...codec import loads
from ...errors import InvalidInput
from ...shape import obj, text, without
from ..databases import Ask, has_tables, rows


class Chat(msgspec.Struct):
    """A chat: its id, what the program says of it, its messages with their digests, and how many could not be read."""

    id: str
    about: dict[str, Any]
    messages: list[tuple[str, dict[str, Any]]]
    lost: int


def is_store(path: Path) -> bool:
    """Whether a SQLite file is such a chat."""
    if not has_tables(path, ("blobs", "meta")):
        return False
    try:
        with rows(path) as ask:
            return "agentId" in _about(ask)
    except InvalidInput:
        return False


def beside(path: Path) -> Path | None:
    """The chat whose transcript a file below `~/.cursor/projects` is."""
    projects = next((p for p in path.parents if p.name == "projects"), None)
    found = projects.parent.glob(f"chats/*/{path.stem}/store.db") if projects is not None and "*" not in path.stem else ()
    return next((p for p in sorted(found) if is_store(p)), None)


def chat(path: Path) -> Chat:
    """The chat of a file. Raises InvalidInput where it can't be read."""
    with rows(path) as ask:
        about = _about(ask)
        root = _blob(ask, text(about.get("latestRootBlobId")) or "")
        messages: list[tuple[str, dict[str, Any]]] = []
        lost = 0
        for digest in _digests(root or b""):
            message = _json(_blob(ask, digest))
            if "role" in message:
                messages.append((digest, message))
            else:
                lost += 1
    known = without(about, "agentId", "latestRootBlobId", "blobEncryptionKey")  # a key is nobody's business
    return Chat(text(about.get("agentId")) or path.parent.name, known, messages, lost)


def _about(ask: Ask) -> dict[str, Any]:
    for row in ask("select value from meta where key = '0'"):
        value = row["value"]
        try:
            return _json(bytes.fromhex(value) if isinstance(value, str) else value)
        except ValueError:
            return _json(value)
    return {}


def _blob(ask: Ask, digest: str) -> bytes | None:
    found = next((row["data"] for row in ask("select data from blobs where id = ?", digest)), None)
    return found.encode() if isinstance(found, str) else found if isinstance(found, bytes) else None


def _json(data: Any) -> dict[str, Any]:
    try:
        return obj(loads(data)) if isinstance(data, (bytes, str)) else {}
    except InvalidInput:
        return {}


def _digests(root: bytes) -> list[str]:
    """The values of field 1 that are as long as a digest. A damaged end costs what stands there."""
    found: list[str] = []
    at = 0
    while at < len(root):
        tag, at = _varint(root, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(root, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _varint(root, at)
            if tag >> 3 == 1 and size == 32 and at + size <= len(root):
                found.append(root[at : at + size].hex())
            at += size
        else:
            break
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return 7, len(data)  # no whole number: nothing behind it can be read
