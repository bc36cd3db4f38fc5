"""The Converse API of Amazon Bedrock.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and API_runtime_ConverseStream.html.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from ..codec import encode, loads_or_raw
from . import defaults
from . import framing as framings
from .content import media, text_of
from .shapes import Choice, ToolCall, Usage

NAME = "bedrock.converse"
PATHS = ("/converse", "/converse-stream")
LISTS = ("messages",)
VALUES = ("system", "toolConfig")
_PATH = re.compile(r"/model/([^/]+)/converse(-stream)?$")
_NOT_PARAMS = ("messages", "system", "toolConfig")


def speaks(path: str) -> bool:
    """`/model/ID/converse`, or with `-stream`."""
    return _PATH.search(path) is not None


def model(path: str, request: Any) -> str | None:
    """The model in the path."""
    found = _PATH.search(path)
    return unquote(found[1]) if found else defaults.model(path, request)


def streams(path: str, request: Any) -> bool:
    """By the path."""
    return path.endswith("-stream")


def messages(request: Any) -> list[dict[str, Any]]:
    """System prompt and messages, chat-shaped: tool uses as tool calls, tool results as tool messages."""
    if not isinstance(request, dict):
        return []
    out: list[dict[str, Any]] = []
    if request.get("system"):
        out.append({"role": "system", "content": text_of(request["system"])})
    found = request.get("messages")
    for message in found if isinstance(found, list) else []:
        out += _shaped(message) if isinstance(message, dict) else [{"role": "user", "content": message}]
    return out


def _under(block: Any, *names: str) -> Any:
    for name in names:
        block = block.get(name) if isinstance(block, dict) else None
    return block


def _shaped(message: dict[str, Any]) -> list[dict[str, Any]]:
    role, content = message.get("role") or "user", message.get("content")
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    results, rest, calls, thoughts = [], [], [], []
    for block in content:
        use, result = _under(block, "toolUse"), _under(block, "toolResult")
        thought = _under(block, "reasoningContent", "reasoningText", "text")
        if isinstance(use, dict):
            function = {"name": use.get("name"), "arguments": use.get("input")}
            calls.append({"id": use.get("toolUseId"), "type": "function", "function": function})
        elif isinstance(result, dict):
            told = result.get("content")
            told = [_media(b) for b in told] if isinstance(told, list) else told
            results.append({"role": "tool", "tool_call_id": result.get("toolUseId"), "content": told})
        elif isinstance(thought, str):
            thoughts.append(thought)
        else:
            rest.append(_media(block))
    if not (rest or calls or thoughts):
        return results
    only_text = all(isinstance(b, dict) and list(b) == ["text"] and isinstance(b["text"], str) for b in rest)
    shaped: dict[str, Any] = {"role": role, "content": ("".join(b["text"] for b in rest) if only_text else rest) or None}
    if thoughts:
        shaped["reasoning_content"] = "\n".join(thoughts)
    if calls:
        shaped["tool_calls"] = calls
    return [*results, shaped]


#: The media type of a block of bytes, before its format; a document's is named by the format alone.
_KINDS = {"image": "image/", "audio": "audio/", "video": "video/", "document": "application/"}


def _media(block: Any) -> Any:
    """A block of bytes, or of their place, as chat completions have it; others as they are."""
    for name, family in _KINDS.items():
        held = _under(block, name)
        if isinstance(held, dict) and len(block) == 1:
            data, place = _under(held, "source", "bytes"), _under(held, "source", "s3Location", "uri")
            if data is not None or place is not None:
                return media(f"{family}{held.get('format')}", data, place)
    return block


def params(request: Any) -> dict[str, Any]:
    """Everything but messages, system prompt and tools."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def tools(request: Any) -> list[Any]:
    """The tools as they were sent."""
    found = _under(request, "toolConfig", "tools")
    return found if isinstance(found, list) else []


def is_response(response: Any) -> bool:
    """A body with a message under `output`."""
    return isinstance(_under(response, "output", "message"), dict) and "stopReason" in response


def choices(response: Any) -> list[Choice]:
    """The one answer."""
    message = _under(response, "output", "message")
    if not isinstance(message, dict):
        return []
    shaped = next((m for m in _shaped({**message, "role": "assistant"}) if m["role"] == "assistant"), None)
    shaped = shaped or {"role": "assistant", "content": None}
    blocks = message.get("content")
    texts = [b["text"] for b in blocks if isinstance(_under(b, "text"), str)] if isinstance(blocks, list) else []
    calls = [
        ToolCall(c["id"], str(c["function"]["name"] or ""), c["function"]["arguments"]) for c in shaped.get("tool_calls", [])
    ]
    reason = response.get("stopReason")
    return [
        Choice(
            message=shaped,
            text="".join(texts),
            reasoning=shaped.get("reasoning_content"),
            tool_calls=calls,
            finish_reason="length" if reason == "max_tokens" else reason if isinstance(reason, str) else None,
        )
    ]


def usage(usage: Any) -> Usage:
    """`inputTokens`, with those read from and written to the cache, and `outputTokens`."""
    if not isinstance(usage, dict):
        return Usage()
    parts = [usage.get(name) for name in ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")]
    out = usage.get("outputTokens")
    return Usage(
        prompt=sum(p for p in parts if type(p) is int) if type(parts[0]) is int else None,
        completion=out if type(out) is int else None,
    )


def ending(stream: framings.Stream) -> tuple[bool, Any]:
    """`metadata` is the last event; an exception ends a stream, too."""
    last = stream.events[-1] if stream.events else None
    if isinstance(last, dict):
        if "metadata" in last:
            return True, None
        wrong = next((value for name, value in last.items() if isinstance(name, str) and name.endswith("Exception")), None)
        if wrong is not None:
            return True, wrong
    return defaults.ending(stream)


def assemble(events: list[Any]) -> Any:
    """The body that Converse would have answered."""
    blocks: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[int, str], list[str]] = {}
    message: dict[str, Any] = {"role": "assistant"}
    body: dict[str, Any] = {"output": {"message": message}}
    for event in events:
        name, value = next(iter(event.items())) if isinstance(event, dict) and event else (None, None)
        if not isinstance(value, dict):
            continue
        index = value.get("contentBlockIndex")
        if name == "messageStart" and isinstance(value.get("role"), str):
            message["role"] = value["role"]
        elif name == "contentBlockStart" and type(index) is int:
            blocks[index] = dict(value["start"]) if isinstance(value.get("start"), dict) else {}
        elif name == "contentBlockDelta" and type(index) is int:
            block, delta = blocks.setdefault(index, {}), value.get("delta")
            for kind, parts in (
                ("text", _under(delta, "text")),
                ("input", _under(delta, "toolUse", "input")),
                ("thought", _under(delta, "reasoningContent", "text")),
                ("signature", _under(delta, "reasoningContent", "signature")),
            ):
                if isinstance(parts, str):
                    texts.setdefault((index, kind), []).append(parts)
                    block.setdefault({"text": "text", "input": "toolUse"}.get(kind, "reasoningContent"), {})
        elif name == "messageStop":
            body |= value
        elif name == "metadata":
            body |= {k: v for k, v in value.items() if k != "output"}
    for (index, kind), parts in texts.items():
        block, whole = blocks[index], "".join(parts)
        if kind == "text":
            block["text"] = whole
        elif kind == "input":
            use = block["toolUse"] if isinstance(block["toolUse"], dict) else {}
            block["toolUse"] = {**use, "input": loads_or_raw(whole.encode("utf-8", "surrogatepass")) if whole else {}}
        else:
            thought = _under(block, "reasoningContent", "reasoningText")
            named = {"text" if kind == "thought" else "signature": whole}
            block["reasoningContent"] = {"reasoningText": {**(thought or {}), **named}}
    message["content"] = [blocks[index] for index in sorted(blocks)]
    return body if events else None


def delta(event: Any) -> str:
    """What `contentBlockDelta` brings."""
    text = _under(event, "contentBlockDelta", "delta", "text")
    return text if isinstance(text, str) else ""


def framed(events: list[Any], whole: bool) -> bytes:
    """As an event stream of AWS."""
    return b"".join(
        framings.as_aws({":event-type": str(name)}, encode(value))
        for event in events
        if isinstance(event, dict)
        for name, value in event.items()
    )
