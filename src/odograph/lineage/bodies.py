"""What the bodies of a call say beside token ids: the parts of a prompt that are no text, and the text of each sampled token."""

from __future__ import annotations

from typing import Any

from ..calls import Call
from ..codec import content_hash
from ..dialects.content import is_media


def media_of(messages: list[dict[str, Any]]) -> list[str]:
    """The hashes of the parts of messages that are no text: images, audio, files."""
    contents = [content for m in messages if type(content := m.get("content")) is list]
    return [content_hash(part) for content in contents for part in content if is_media(part)]


#: What backends say in place of a token's text, where it is a part of a character, or ids were asked for.
_NO_TEXT = ("token_id:", "bytes:", "\\x")


def pieces_of(call: Call, choice: int) -> list[str] | None:
    """The text of each token of an answer, if the backend gave the text of all tokens with the logprobs; else None."""
    body = call.response
    found = body.get("choices") if isinstance(body, dict) else None
    for n, one in enumerate(found if isinstance(found, list) else []):
        if isinstance(one, dict) and one.get("index", n) == choice:
            content = (one.get("logprobs") or {}).get("content") if isinstance(one.get("logprobs"), dict) else None
            if isinstance(content, list) and all(isinstance(c, dict) and isinstance(c.get("token"), str) for c in content):
                pieces: list[str] = [c["token"] for c in content]
                return None if any(p.startswith(_NO_TEXT) or "\ufffd" in p for p in pieces) else pieces
    return None
