"""Content of chat messages: what of it is text, and how what is no text is written as text. Knows no dialect."""

from __future__ import annotations

import re
from typing import Any

from ..codec import encode, is_tagged, loads
from ..types import TAG
from .shapes import Alternative

_TAG = TAG.encode()
#: Types of parts that stand in another field of a message, too: a text of the message does not repeat them.
_ELSEWHERE = ("thinking", "redacted_thinking", "reasoning", "tool_use", "tool_call", "tool_result", "function_call")
#: Types of parts that are no text.
_MEDIA = ("image_url", "input_image", "image", "computer_screenshot", "input_audio", "output_audio", "audio_url", "audio",
          "video_url", "input_video", "video", "file", "input_file", "document", "container_upload")  # fmt: skip
#: Base64 in a JSON text, also where that is a string in another one.
_BYTES = re.compile(r'(data:[\w/+.;=-]{1,60};base64,|\\{0,3}"(?:data|bytes)\\{0,3}":\\{0,3}")[A-Za-z0-9+/=_-]{200,}')


def objects(found: Any) -> list[dict[str, Any]]:
    """A list of objects; what is no object in it counts as an empty one."""
    return [one if isinstance(one, dict) else {} for one in found] if isinstance(found, list) else []


def alternatives_in(pairs: list[tuple[Any, Any]]) -> list[Alternative]:
    """The pairs of a text and a logprob that are such, the likeliest first."""
    found = [(t, float(p)) for t, p in pairs if isinstance(t, str) and type(p) in (int, float) and -1e9 < p <= 0]
    return sorted(found, key=lambda one: -one[1])


def text_of(content: Any) -> str:
    """The text of a content that is a string or a list of parts; parts that hold no text are left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(p for p in map(words_of, content) if p is not None)
    return ""


def words_of(part: Any) -> str | None:
    """The text of a part; None for a part that holds none. A document may be a text; what a model spoke has a transcript."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    text = part.get("text")
    if not isinstance(text, str) and part.get("type") == "document" and isinstance(source := part.get("source"), dict):
        text = source.get("data") if source.get("type") == "text" else None
    if not isinstance(text, str) and part.get("type") == "output_audio":
        text = part.get("transcript")
    return text if isinstance(text, str) else None


def is_media(part: Any) -> bool:
    """Whether a part of a content is no text: an image, audio, a video or a file."""
    return isinstance(part, dict) and part.get("type") in _MEDIA and (part["type"] != "document" or words_of(part) is None)


def media(kind: Any, data: Any = None, url: Any = None) -> dict[str, Any]:
    """A part as chat completions have it: bytes (base64), or where they are. `kind`: their media type."""
    kind = kind if isinstance(kind, str) else "application/octet-stream"
    family, _, form = kind.partition("/")
    if family == "audio" and data is not None:
        return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
    place = url if data is None else f"data:{kind};base64,{data}"
    if family in ("image", "audio", "video"):
        return {"type": f"{family}_url", f"{family}_url": {"url": place}}
    return {"type": "file", "file": {"file_url" if data is None else "file_data": place}}


def data_of(image: dict[str, Any]) -> tuple[str, str] | None:
    """(media type, base64) of an image whose URL has its data; None for one that stands elsewhere."""
    url = (image.get("image_url") or {}).get("url") or ""
    head, _, data = url.partition(",")
    return (head[5:].removesuffix(";base64"), data) if head.startswith("data:") and head.endswith(";base64") else None


def image_of(part: Any) -> dict[str, Any] | None:
    """An image part as chat completions have it, of a part as they, the Responses API, Anthropic's API or MCP have it; None for
    what is no image."""
    kind = part.get("type") if isinstance(part, dict) else None
    url: Any = None
    if kind in ("image_url", "input_image", "computer_screenshot") or (kind == "image" and "image_url" in part):
        url = part["image_url"].get("url") if isinstance(part.get("image_url"), dict) else part.get("image_url")
    elif kind == "image" and isinstance(part.get("source"), dict):  # Anthropic
        source = part["source"]
        url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
    elif kind == "image" and isinstance(part.get("data"), str):  # MCP
        url = f"data:{part.get('mimeType') or part.get('mime_type') or 'image/png'};base64,{part['data']}"
    return {"type": "image_url", "image_url": {"url": url}} if isinstance(url, str) else None


def chat_shaped(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages that come from another dialect, with parts as chat completions have them: texts, images, audio and files. Results
    of tools are text; images of tools follow their results in a message of the user."""
    out: list[dict[str, Any]] = []
    images: list[Any] = []
    for message in messages:
        content = message.get("content")
        if message.get("role") == "tool" and (told := _told(content)) is not None:
            message, content = {**message, "content": told}, told
        parts = [chat_part(p) for p in content] if isinstance(content, list) else []
        found = [p for p in parts if isinstance(p, dict) and p.get("type") == "image_url"]
        if message.get("role") != "tool" and images:
            out.append({"role": "user", "content": images})
            images = []
        if message.get("role") == "tool" and found:
            out.append({**message, "content": text_of(content)})
            images += [{"type": "text", "text": f"Images of {message.get('name') or 'the tool'}:"}, *found]
        else:
            out.append(message if not parts or parts == content else {**message, "content": parts})
    return [*out, {"role": "user", "content": images}] if images else out


def _told(content: Any) -> str | None:
    """The text of a tool's result as Gemini and Bedrock hold it, in an object or in parts without a type; None for any other."""
    if isinstance(content, dict):
        return as_text(next(iter(content.values())) if list(content) in (["output"], ["result"], ["error"]) else content)
    if isinstance(content, list) and content and all(isinstance(p, dict) and list(p) in (["text"], ["json"]) for p in content):
        return "".join(as_text(next(iter(p.values()))) for p in content)
    return None


def chat_part(part: Any) -> Any:
    """A part as chat completions have it, of a part as another dialect has it; what they have no place for as it is."""
    kind = part.get("type") if isinstance(part, dict) else None
    words = words_of(part)
    if words is not None and kind in ("input_text", "output_text", "output_audio", "document"):
        return {"type": "text", "text": words}
    source = part.get("source") if kind == "document" else None  # Anthropic
    if isinstance(source, dict) and source.get("type") in ("base64", "url", "file"):
        held = {"base64": ("file_data", f"data:{source.get('media_type')};base64,{source.get('data')}"),
                "url": ("file_url", source.get("url")), "file": ("file_id", source.get("file_id"))}[source["type"]]  # fmt: skip
        return {"type": "file", "file": dict([held]) | ({"filename": part["title"]} if part.get("title") else {})}
    if kind == "input_file":  # the Responses API
        return {"type": "file", "file": {k: v for k, v in part.items() if k.startswith("file")}}
    image = image_of(part)
    if image is None or (kind == "image_url" and isinstance(part.get("image_url"), dict)):
        return part  # as it is, with its details
    return image


def as_json(value: Any) -> str:
    """Compact JSON without the store's tags: what JSON can't hold (NaN, times, bytes) is a text."""
    data = encode(value)
    return (encode(untagged(loads(data))) if _TAG in data else data).decode()


def untagged(value: Any) -> Any:
    """A value as JSON holds it, with the texts that the store's tags stand around in place of the tags."""
    if isinstance(value, dict):
        if is_tagged(value) and "value" in value:  # without, it is somebody's own
            kind, inside = value[TAG], value["value"]
            if kind == "mapping" and isinstance(inside, list):
                return {str(untagged(k)): untagged(v) for k, v in inside}
            return inside if isinstance(inside, str) else encode(inside).decode()
        return {k: untagged(v) for k, v in value.items()}
    return [untagged(v) for v in value] if isinstance(value, list) else value


def as_text(content: Any) -> str:
    """Any content as text. The texts of its parts are joined; what is no text is compact JSON. None is the empty text.

    A part of a known kind that holds no text (an image, say) is written only where the content holds no text at all.
    """
    if isinstance(content, str):
        return content
    if content is None or content == []:
        return ""
    if not isinstance(content, list) or not any(map(is_part, content)):
        return as_json(content)
    said = "".join(text_of([p]) if is_part(p) else as_json(p) for p in content)
    if said:
        return said
    rest = [p for p in content if isinstance(p, dict) and p.get("type") not in _ELSEWHERE and words_of(p) is None]
    return as_json(rest) if rest else ""


def marked(content: Any) -> tuple[str, int]:
    """Any content as text, with a mark such as `[image_url]` in place of each part that is no text; and how many marks."""
    if not isinstance(content, list) or not any(map(is_part, content)):
        return as_text(content), 0
    said, marks = [], 0
    for part in content:
        text = words_of(part)
        if text is not None:
            said.append(text)
        elif not isinstance(part, dict) or part.get("type") not in _ELSEWHERE:
            marks += 1
            said.append(f"[{part.get('type')}]" if is_part(part) else encode(part).decode())
    return "".join(said), marks


def without_bytes(text: str) -> str:
    """A JSON text for a judge: how long each image and file is stands in the place of its bytes."""
    return _BYTES.sub(lambda m: f"{m[1]}... ({len(m[0])} characters)", text)


def is_part(part: Any) -> bool:
    """Whether an item of a list is a part of a message: a text, or an object that says of which type it is."""
    return isinstance(part, str) or (
        isinstance(part, dict) and (isinstance(part.get("text"), str) or isinstance(part.get("type"), str))
    )
