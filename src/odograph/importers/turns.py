"""Rows of data sets, in any shape that people write talks in -> chat messages. What the importers of rows share."""

from __future__ import annotations

import re
from typing import Any

from ..shape import arguments, dicts, items, obj, parsed, score, text, without
from ..types import Reward
from . import blocks
from .session import Session, parse_time
from .transcript import Transcript

_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "system": "system", "developer": "developer", "function_call": "function_call",
    "tool_call": "function_call", "observation": "tool", "tool": "tool", "function_response": "tool", "tool_response": "tool",
    "function": "function",
}  # fmt: skip
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
_IMAGE = "<image>"
_SAID = "function_call text"  # of a message: the text that its calls were, which is kept beside the call
_SPOKEN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_TRAINED = ("train", "loss")  # whether a message is trained, in the rows of axolotl and of ms-swift
_BLOCKS = ("tool_use", "server_tool_use", "tool_result", "thinking", "redacted_thinking")
_PACKED = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGO": "image/gif", "UklGR": "image/webp"}


def are_turns(value: Any) -> bool:
    """Whether a list holds turns: `from` and `value`, or `role` and `content`."""
    turns = items(value)
    said = ("value", "content", "tool_calls", "function_call")
    return bool(turns) and all(_role(obj(t)) is not None and any(name in t for name in said) for t in turns)


def _role(turn: dict[str, Any]) -> str | None:
    said = turn.get("from", turn.get("role"))
    return _ROLES.get(said.lower()) if isinstance(said, str) else None


def spoken(text: str) -> list[dict[str, Any]] | None:
    """The turns of a talk that is one text, as Anthropic's older data sets have it: `Human:` and `Assistant:` after blank lines.
    None for any other text."""
    before, *parts = _SPOKEN.split(text)
    if before.strip() or len(parts) < 4 or parts[0] != "Human":
        return None
    told = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": "user" if who == "Human" else "assistant", "content": said} for who, said in told]


def rate(session: Session, row: dict[str, Any]) -> None:
    """Takes in the scores of a talk that stand beside it in its row: `reward` and `score`, and the named ones in `rewards` and
    `scores`."""
    found: dict[str, Any] = {}
    for name in ("reward", "score", "rewards", "scores"):
        given = row.get(name)
        found |= {str(k): v for k, v in given.items()} if isinstance(given, dict) else {name: given}
    numbers = {name: score(value) for name, value in found.items() if isinstance(value, bool | int | float)}
    session.score(*((Reward(name=n, value=value, source="function"), ("reward", n)) for n, value in numbers.items()))
    if any(isinstance(value, list) and value for value in found.values()):
        session.warn("rewards in a list, which says nothing of whose each is: kept in the start's metadata")


def chat(turns: list[Any]) -> list[dict[str, Any]]:
    """The turns as chat messages. A `function_call`, whose value is the call as JSON, or a list of calls, is an answer that asks
    for tools; one that is no JSON stays the text that it is. Calls behind a text, or behind calls, are of the same answer."""
    found: list[dict[str, Any]] = []
    for turn in dicts(turns):
        message = _message(turn)
        if message.get("tool_calls") and _role(turn) == "function_call" and found and found[-1]["role"] == "assistant":
            before = found.pop()  # one answer: a text and its calls, or several calls
            message = {**before, **message, "content": before.get("content")}
            message["tool_calls"] = [*items(before.get("tool_calls")), *message["tool_calls"]]
        found.append(message)
    return found


def _message(turn: dict[str, Any]) -> dict[str, Any]:
    role, content = _role(turn) or str(turn.get("from", turn.get("role"))), turn.get("value", turn.get("content"))
    if role != "function_call":
        return {"role": role, "content": content, **without(turn, "from", "value", "role", "content")}
    found = parsed(content)
    calls = [one for one in (found, *items(found)) if isinstance(one, dict) and "name" in one]
    if not calls:
        return {"role": "assistant", "content": content}
    functions = [{"name": c.get("name"), "arguments": c.get("arguments")} for c in calls]
    asked = [{"type": "function", "function": f} for f in functions]
    return {"role": "assistant", "content": None, "tool_calls": asked, **({_SAID: content} if isinstance(content, str) else {})}


def called(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose tool calls are flat (`id`, `name`, `arguments`), or JSON texts, in chat shape; others as they are."""
    asked = message.get("tool_calls")
    if not any(isinstance(c, str) or (isinstance(c, dict) and "function" not in c and "name" in c) for c in items(asked)):
        return message
    calls = [c for one in items(asked) for c in dicts([parsed(one)])]
    flat = [
        c
        if "function" in c
        else {"type": "function", **{k: c[k] for k in ("id", "type") if c.get(k)}, "function": without(c, "id", "type")}
        for c in calls
    ]
    return {**message, "tool_calls": flat}


def are_anthropic(messages: list[Any], tools: list[Any]) -> bool:
    """Whether messages or tools are in Anthropic's shape: some have its content blocks, or a tool its schema."""
    parts = (part for given in messages for part in dicts(obj(given).get("content")))
    return any("input_schema" in obj(tool) for tool in tools) or any(
        part.get("type") in _BLOCKS or (part.get("type") in ("image", "document") and "source" in part) for part in parts
    )


def tell(transcript: Transcript, messages: list[Any], answers: range | None = None, **fields: Any) -> None:
    """Tells a conversation. `answers`: which messages are answers of the model, where they are of the assistant; the others are
    what it was sent. Tool calls that stand in an answer's text (`<tool_call>`) are actions, too; where results carry no id, they
    are those of the answer's calls, by name or in order: one message may hold all, as a JSON list or in `<tool_response>` each.
    A result may stand before the answer that asked for it."""
    waiting = 0
    early: dict[str, Any] = {}
    if are_anthropic(messages, transcript.tools):
        transcript.dialect = "anthropic.messages"
    for number, given in enumerate(messages):
        message = called(obj(given))
        content, when = message.get("content"), parse_time(message.get("timestamp"))
        if message.get("role") == "assistant" and (answers is None or number in answers):
            extra = {k: message[k] for k in ("weight", _SAID) if message.get(k) is not None}
            if any(message.get(k) is False for k in _TRAINED):
                extra.setdefault("weight", 0)
            said = without(message, "weight", _SAID, *_TRAINED)
            call = transcript.replied(said, extra=extra or None, **{"when": when, **fields})
            asked = dicts(said.get("tool_calls"))
            for before in early.keys() & {one.get("id") for one in asked if isinstance(one.get("id"), str)}:
                transcript.result(before, result=early.pop(before))
            waiting = len(asked) + blocks.acted(transcript, content, call)
            for found in [] if asked or not isinstance(content, str) else _CALL.findall(content):
                one = obj(parsed(found))
                if isinstance(one.get("name"), str):
                    transcript.acted(one["name"], arguments(one.get("arguments")), call=call)
                    waiting += 1
            continue
        gave = [part for part in dicts(content) if part.get("type") == "tool_result"]
        alone = bool(gave) and len(gave) == len(items(content))  # else a person said something beside them
        told = without(message, _SAID, *_TRAINED) if message else given
        transcript.saw(told, observed=message.get("role") == "user" and not alone, noted=alone, when=when)
        known = blocks.resulted(transcript, gave)
        if message.get("role") == "tool":
            id, called_as = text(message.get("tool_call_id")), text(message.get("name"))
            results = [content] if id else _results(content, waiting)
            waiting -= len(results)
            for result in results:
                extra = {"content": content} if not id and len(results) == 1 and result != content else {}
                changes = {"result": result, **({"extra": extra} if extra else {})}
                placed = transcript.result(id, **changes) if id else transcript.next_result(called_as, **changes)
                if id and not placed and (answers is None or number >= answers.start):
                    early[id], placed = result, True
                known = placed and known
        elif message.get("role") == "function":
            known = transcript.function_result(text(message.get("name")), result=content)
        if not known and (answers is None or number >= answers.start):
            transcript.session.warn("observations that answer no call")
    if early:
        transcript.session.warn("observations that answer no call", len(early))


def _results(content: Any, waiting: int) -> list[Any]:
    """The results in a message, one for each of the calls that wait, or the whole as one."""
    tagged = _RESPONSE.findall(content) if isinstance(content, str) else None
    for found in (tagged, parsed(content) if waiting > 1 else None):
        if isinstance(found, list) and found and len(found) == waiting:
            return found
    return [content]


def with_images(messages: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages with the row's images where their marks are: `<image>` in a text, or a part of type `image`. As they are where
    marks and images differ in number."""
    images = row.get("images") if isinstance(row.get("images"), list) else [row["image"]] if row.get("image") else []
    urls = [_url(image) for image in items(images)]
    marks = sum(_marks(m.get("content")) for m in messages)
    if not urls or marks != len(urls) or None in urls:
        return messages
    left = iter(urls)
    return [{**m, "content": _placed(m.get("content"), left)} if _marks(m.get("content")) else m for m in messages]


def _marks(content: Any) -> int:
    if isinstance(content, str):
        return content.count(_IMAGE)
    bare = ({k for k, v in part.items() if v is not None} == {"type"} for part in dicts(content))  # a table fills in nulls
    return sum(empty and part["type"] == "image" for empty, part in zip(bare, dicts(content), strict=True))


def _placed(content: Any, urls: Any) -> list[Any]:
    def image() -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": next(urls)}}

    if not isinstance(content, str):
        return [image() if isinstance(p, dict) and _marks([p]) else p for p in content]
    parts: list[Any] = []
    for number, piece in enumerate(content.split(_IMAGE)):
        parts += [image()] if number else []
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


def _url(image: Any) -> str | None:
    """Where an image is, or what it is: an address, a path, or bytes in base64, as data sets keep them."""
    if isinstance(image, str):
        return image
    packed = obj(image).get("bytes")
    if isinstance(packed, str) and packed:
        kind = next((kind for start, kind in _PACKED.items() if packed.startswith(start)), "image/png")
        return f"data:{kind};base64,{packed}"
    return text(obj(image).get("path")) or text(obj(image).get("url"))
