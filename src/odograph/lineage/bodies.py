"""What the bodies of a call say beside token ids: the parts of a prompt that are no text, and the text of each sampled token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..calls import Call
from ..codec import content_hash
from ..dialects.content import is_media
from ..prefix import Prefix, same_objects


def media_of(messages: Iterable[dict[str, Any]]) -> list[str]:
    """The hashes of the parts of messages that are no text: images, audio, files."""
    contents = [content for m in messages if type(content := m.get("content")) is list]
    return [content_hash(part) for content in contents for part in content if is_media(part)]


class Media:
    """`media_of` of one call after the other: of a history that goes on, each message is looked at once."""

    def __init__(self) -> None:
        self._items: list[Any] | Prefix = []
        #: The hashes in the items, each with the position of its item.
        self._found: list[tuple[int, str]] = []

    def of(self, call: Call) -> list[str]:
        history = call.history
        if history is None:
            return media_of(call.messages)
        items = history[1]
        known = same_objects(self._items, items)
        while self._found and self._found[-1][0] >= known:
            self._found.pop()
        self._found += ((n, one) for n, item in enumerate(items[known:], known) for one in media_of(call.shaped([item])))
        self._items = items
        return [*media_of(call.shaped()), *(one for _, one in self._found)]


#: What backends say in place of a token's text, where it is a part of a character, or ids were asked for.
_NO_TEXT = ("token_id:", "bytes:", "\\x")


def pieces_of(call: Call, choice: int) -> list[str] | None:
    """The text of each token of an answer, if the backend gave the text of all tokens with the logprobs; else None."""
    body = call.answered.response
    found = body.get("choices") if isinstance(body, dict) else None
    for n, one in enumerate(found if isinstance(found, list) else []):
        if isinstance(one, dict) and one.get("index", n) == choice:
            content = (one.get("logprobs") or {}).get("content") if isinstance(one.get("logprobs"), dict) else None
            if isinstance(content, list) and all(isinstance(c, dict) and isinstance(c.get("token"), str) for c in content):
                pieces: list[str] = [c["token"] for c in content]
                return None if any(p.startswith(_NO_TEXT) or "\ufffd" in p for p in pieces) else pieces
    return None
