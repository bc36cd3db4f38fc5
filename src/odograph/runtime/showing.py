"""A value as a model is shown it: text as it is, images as images, anything else as JSON without the store's tags."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from ..codec import encode, loads
from ..dialects.content import image_of, untagged


def seen(result: Any) -> str:
    """A result as the model sees it: text as it is (but for what UTF-8 can't say), anything else as JSON."""
    return result.encode(errors="replace").decode() if isinstance(result, str) else encode(sayable(result)).decode()


class Shown(str):
    """A result as the model sees it, with images."""

    images: list[dict[str, Any]]


def shown(result: Any) -> str:
    """A tool's result as the model sees it: `seen`, with the images that are in it as images."""
    images = images_of(result)
    if not images:
        return seen(result)
    parts = result if isinstance(result, list) else [result]
    texts = [p if isinstance(p, str) else str(p.get("text") or "") for p in parts if isinstance(p, str) or image_of(p) is None]
    told = Shown("\n".join(t for t in texts if t) or f"({len(images)} image{'s'[: len(images) > 1]})")
    told.images = images
    return told


def images_of(result: Any) -> list[dict[str, Any]]:
    """The images of a result, chat-shaped: of a part or a list of texts and parts, as chat completions, Anthropic's API or MCP
    have them. A result that holds anything else is data."""
    parts = result if isinstance(result, list) else [result]
    found = [image_of(part) for part in parts]
    plain = all(i is not None or isinstance(p, str) or _is_text(p) for p, i in zip(parts, found, strict=True))
    return [image for image in found if image is not None] if plain else []


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def sayable(value: Any) -> Any:
    """A value as JSON that a model can read, without the store's tags: times in ISO 8601, decimals and paths as text, sets as
    lists, bytes as text or base64, and of what else JSON can't hold the text that Python prints."""
    return untagged(loads(encode(_told(value, 0))))


def _told(value: Any, depth: int) -> Any:
    """Python's own types that JSON has no word for, in words; objects are left to the encoder."""
    if depth > 100 or value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return _told(value.value, depth + 1)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | decimal.Decimal | pathlib.PurePath | uuid.UUID | complex):
        return str(value)
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(_told(key, depth + 1)): _told(v, depth + 1) for key, v in value.items()}
    if isinstance(value, set | frozenset):
        return [_told(v, depth + 1) for v in sorted(value, key=repr)]
    if isinstance(value, list | tuple | deque):
        return [_told(v, depth + 1) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _told(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: _told(getattr(value, name), depth + 1) for name in value.__struct_fields__}
    return value
