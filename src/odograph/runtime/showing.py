"""A value as a model is shown it: text as it is, images as images, anything else as JSON without the store's tags."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
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
    if not isinstance(result, str | dict | list | tuple | int | float | None) and isinstance(
        stored := loads(encode(result)), str
    ):
        result = stored  # an enum, a UUID: the record has them as text, and a replay tells this text
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


#: How the bytes of an image begin.
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))


def pictured(result: Any) -> Any:
    """A tool's result with its images as image parts, whatever holds them: the bytes of an image, an image of PIL, or an object
    of MCP, pydantic-ai or openai-agents; alone, or in a list with texts. Any other result as it is."""
    many = isinstance(result, list | tuple)
    parts = [_part(p) for p in result] if many else [_part(result)]
    return result if not images_of(parts) else parts if many else parts[0]


def _part(value: Any) -> Any:
    """An object that is an image, or a text beside one, as a part."""
    if value is None or isinstance(value, str | int | float | list | dict):
        return value
    data = value
    with contextlib.suppress(Exception):  # the code of strangers
        value = value.to_image_content() if hasattr(type(value), "to_image_content") else value
        if hasattr(type(value), "model_dump"):
            dumped = value.model_dump(mode="json", by_alias=True, exclude_none=True)
            return dumped if image_of(dumped) or _is_text(dumped) else value
        if hasattr(type(value), "_repr_png_"):
            data = value._repr_png_()
        elif isinstance(getattr(value, "media_type", None), str):
            data = value.data
        name = next((n for start, n in _IMAGES if bytes(data[:8]).startswith(start)), None)
        name = "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else name
        if name is not None:
            url = f"data:image/{name};base64,{base64.b64encode(data).decode()}"
            return {"type": "image_url", "image_url": {"url": url}}
    return value


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


_IN_WORDS = (datetime.timedelta, decimal.Decimal, fractions.Fraction, complex, pathlib.PurePath, uuid.UUID)


def _told(value: Any, depth: int) -> Any:
    """Python's own types that JSON has no word for, in words; objects are left to the encoder."""
    if depth > 100 or value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return _told(value.value, depth + 1)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, _IN_WORDS) or type(value).__module__ == "ipaddress":
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
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
