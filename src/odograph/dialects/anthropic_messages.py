"""Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from ..codec import loads
from ..errors import InvalidInput
from . import defaults
from . import framing as framings
from .content import chat_shaped, data_of, text_of
from .deltas import Fields, add, assembled, built, merge, replace
from .shapes import Choice, Result, Tool, ToolCall

NAME = "anthropic.messages"
SHORT = "anthropic"
PATHS = ("/v1/messages",)  # whole: OpenAI's threads have messages, too
BASE_URL = "https://api.anthropic.com"
BASE_URL_VARIABLE = ""
KEY_VARIABLE = "ANTHROPIC_API_KEY"
LISTS = ("messages",)
VALUES = ("tools", "system")
#: On Vertex AI and Bedrock the model stands in the path.
_CLOUD = re.compile(
    r"/publishers/anthropic/models/([^/:]+):(?:streamR|r)awPredict$|/model/([^/]*claude[^/]*)/invoke(?:-with-response-stream)?$"
)
_NOT_PARAMS = ("model", "messages", "system", "tools")


def messages(request: Any) -> list[dict[str, Any]]:
    """System prompt and messages, chat-shaped: tool uses as tool calls, tool results as tool messages."""
    if not isinstance(request, dict):
        return []
    out: list[dict[str, Any]] = []
    system = request.get("system")
    if system:
        out.append({"role": "system", "content": text_of(system) if isinstance(system, (str, list)) else system})
    found = request.get("messages")
    for message in found if isinstance(found, list) else []:
        if isinstance(message, dict):
            out += _shaped(message)
        else:
            out.append({"role": "user", "content": message})
    return out


def _shaped(message: dict[str, Any]) -> list[dict[str, Any]]:
    role, content = message.get("role") or "user", message.get("content")
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    blocks = [b for b in content if isinstance(b, dict)]
    results = [
        {"role": "tool", "tool_call_id": b.get("tool_use_id"), "content": b.get("content")}
        for b in blocks
        if b.get("type") == "tool_result"
    ]
    rest = [
        b
        for b in content
        if not (isinstance(b, dict) and b.get("type") in ("tool_result", "tool_use", "thinking", "redacted_thinking"))
    ]
    calls = [_tool_call(b) for b in blocks if b.get("type") == "tool_use"]
    thoughts = [b["thinking"] for b in blocks if b.get("type") == "thinking" and isinstance(b.get("thinking"), str)]
    if not (rest or calls or thoughts):
        return results
    only_text = all(isinstance(b, dict) and b.get("type") == "text" for b in rest)
    shaped: dict[str, Any] = {"role": role, "content": text_of(rest) if only_text and rest else rest or None}
    if thoughts:
        shaped["reasoning_content"] = "\n".join(thoughts)
    if calls:
        shaped["tool_calls"] = calls
    return [*results, shaped]


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    return {"id": block.get("id"), "type": "function", "function": {"name": block.get("name"), "arguments": block.get("input")}}


def params(request: Any) -> dict[str, Any]:
    """Everything but model, messages, system prompt and tools."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def tools(request: Any) -> list[Any]:
    """The tool schemas as they were sent."""
    found = request.get("tools") if isinstance(request, dict) else None
    return found if isinstance(found, list) else []


def is_response(response: Any) -> bool:
    """A body of type `message` with content blocks."""
    return (
        isinstance(response, dict)
        and response.get("role") == "assistant"
        and isinstance(response.get("content"), list)
        and (response.get("type") == "message" or "stop_reason" in response)
    )


def choices(response: Any) -> list[Choice]:
    """The one answer."""
    if not isinstance(response, dict) or "content" not in response:
        return []
    content = response["content"]
    blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    shaped = next((m for m in _shaped({"role": "assistant", "content": content}) if m["role"] == "assistant"), None)
    thoughts = [b["thinking"] for b in blocks if b.get("type") == "thinking" and isinstance(b.get("thinking"), str)]
    reason = response.get("stop_reason")
    return [
        Choice(
            message=shaped or {"role": "assistant", "content": None},
            text=text_of(content),
            reasoning="\n".join(thoughts) or None,
            tool_calls=[
                ToolCall(b.get("id"), str(b.get("name") or ""), b.get("input")) for b in blocks if b.get("type") == "tool_use"
            ],
            finish_reason="length" if reason == "max_tokens" else reason if isinstance(reason, str) else None,
        )
    ]


def speaks(path: str) -> bool:
    """Its own path, or one of a cloud that serves its models."""
    return path.endswith(PATHS) or _CLOUD.search(path) is not None


def model(path: str, request: Any) -> str | None:
    """The field `model`, or the model in a cloud's path."""
    found = _CLOUD.search(path)
    return unquote(found[1] or found[2]) if found else defaults.model(path, request)


def streams(path: str, request: Any) -> bool:
    """The field `stream`, or a cloud's path."""
    return path.endswith((":streamRawPredict", "/invoke-with-response-stream")) or defaults.streams(path, request)


def headers(key: str) -> dict[str, str]:
    """The key, and the version of the API."""
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


def ending(stream: framings.Stream) -> tuple[bool, Any]:
    """`message_stop` is the last event."""
    last = stream.events[-1] if stream.events else None
    return (True, None) if isinstance(last, dict) and last.get("type") == "message_stop" else defaults.ending(stream)


def framed(events: list[Any], whole: bool) -> bytes:
    """Each event is named."""
    return framings.as_sse(events, done=False, names=True)


class Assembly:
    """The message that `message_start` began, with all blocks and the last usage."""

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._blocks: dict[int, Fields] = {}
        self._inputs: dict[int, list[str]] = {}

    def add(self, events: Iterable[Any]) -> None:
        """Takes the next events in, and changes none of them."""
        body, blocks = self._body, self._blocks
        for event in events:
            if not isinstance(event, dict):
                continue
            kind, index, delta = event.get("type"), event.get("index"), event.get("delta")
            if kind == "message_start" and isinstance(event.get("message"), dict):
                body.update(event["message"])
            elif kind == "content_block_start" and type(index) is int and isinstance(event.get("content_block"), dict):
                blocks[index] = Fields(event["content_block"])
            elif kind == "content_block_delta" and type(index) is int and isinstance(delta, dict):
                block = blocks.setdefault(index, Fields())
                if delta.get("type") == "input_json_delta":
                    self._inputs.setdefault(index, []).append(str(delta.get("partial_json") or ""))
                elif delta.get("type") == "citations_delta":
                    add(block, "citations", [delta.get("citation")])
                else:
                    merge(block, {name: value for name, value in delta.items() if name != "type"})
            elif kind == "message_delta":
                replace(body, event, "type", "delta", "usage")
                body.update(delta if isinstance(delta, dict) else {})
                if isinstance(event.get("usage"), dict):
                    usage = dict(body["usage"]) if isinstance(body.get("usage"), dict) else {}
                    replace(usage, event["usage"])
                    body["usage"] = usage

    def body(self) -> Any:
        """What the events so far come to."""
        body = dict(self._body)
        content = {index: built(block) for index, block in self._blocks.items()}
        for index, parts in self._inputs.items():
            text = "".join(parts)
            if text.strip():
                content[index]["input"] = _loads(text)
        if content:
            body["content"] = [content[index] for index in sorted(content)]
        return body or None


assembly = Assembly


def assemble(events: Iterable[Any]) -> Any:
    """`assembly`, of all events."""
    return assembled(assembly(), events)


def _loads(text: str) -> Any:
    try:
        return loads(text)
    except InvalidInput:  # cut short: what came is kept as it came
        return text


#: The API wants a limit; what its models can do at least.
MAX_TOKENS = 8192


def history(messages: list[dict[str, Any]]) -> list[Any]:
    """Messages of content blocks; results of tools go into one message of the user."""
    out: list[Any] = []
    for message in chat_shaped(messages):
        role, content = message.get("role") or "user", message.get("content")
        if role == "tool":
            block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}
            if out and out[-1]["role"] == "user" and isinstance(out[-1]["content"], list) and _is_result(out[-1]["content"][-1]):
                out[-1] = {"role": "user", "content": [*out[-1]["content"], block]}
            else:
                out.append({"role": "user", "content": [block]})
            continue
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            blocks: list[Any] = _blocks(content)
            for call in calls:
                function = call.get("function") or {}
                arguments = function.get("arguments")
                given = _loads(arguments) if isinstance(arguments, str) else arguments
                given = given if isinstance(given, dict) else {}
                blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given})
            out.append({"role": "assistant", "content": blocks})
        elif content:
            out.append({"role": role if role in ("user", "assistant") else "user", "content": _content(content)})
    return out


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _blocks(content: Any) -> list[Any]:
    if not content:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(_content(content))


def _content(content: Any) -> Any:
    """Content of a chat message; images and files by URL or data URL become blocks of their own."""
    if not isinstance(content, list):
        return content
    out: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        held = part.get(kind) if kind in ("image_url", "file") else None
        url = (held.get("url") or held.get("file_data") or held.get("file_url")) if isinstance(held, dict) else None
        if not isinstance(url, str):
            out.append(part)
            continue
        source: dict[str, Any] = {"type": "url", "url": url}
        if url.startswith("data:"):
            mime, _, data = url[5:].partition(";base64,")
            source = {"type": "base64", "media_type": mime, "data": data}
        out.append({"type": "image" if kind == "image_url" else "document", "source": source})
    return out


def request(
    model: str,
    system: str | None,
    history: list[Any],
    tools: list[Tool],
    params: dict[str, Any],
    schema: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body; the schema goes as `output_config.format`."""
    body: dict[str, Any] = {"model": model, "max_tokens": MAX_TOKENS}
    if system is not None:
        body["system"] = system
    body["messages"] = history
    if tools:
        body["tools"] = [{"name": t.name, "description": t.description, "input_schema": t.parameters} for t in tools]
    if schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return body | params


def said(response: Any) -> list[Any]:
    """The answer's blocks as they came, thinking with its signature."""
    content = response.get("content") if isinstance(response, dict) else None
    return [{"role": "assistant", "content": content}] if content else []


def reworded(response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
    """A changed text is one block, ahead of the calls; thinking keeps its signature."""
    if reasoning is not None:
        raise InvalidInput("the Messages API takes back no changed thinking; edit the channel 'content'")
    content = response.get("content") if isinstance(response, dict) else None
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return response
    blocks, number, told = [], 0, text is None
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in ("text", "tool_use") and not told:
            if text:  # the API refuses empty blocks
                blocks.append({"type": "text", "text": text})
            told = True
        if kind == "text" and text is not None:
            continue
        if kind == "tool_use":
            if number in calls:
                new = calls[number]
                given = _loads(new.arguments) if isinstance(new.arguments, str) else new.arguments
                block = {**block, "name": new.name, "input": given}
            number += 1
        blocks.append(block)
    if not told and text:
        blocks.append({"type": "text", "text": text})
    return {**response, "content": blocks}


def choosing(choice: str) -> dict[str, Any]:
    """`tool_choice` as an object."""
    words = {"auto": "auto", "required": "any", "none": "none"}
    return {"tool_choice": {"type": words[choice]} if choice in words else {"type": "tool", "name": choice}}


def results(results: list[Result]) -> list[Any]:
    """One message of the user with a block each."""
    if not results:
        return []
    blocks: list[Any] = []
    for r in results:
        told: Any = [{"type": "text", "text": r.content}, *map(_image, r.images)] if r.images else r.content
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": r.tool_call_id, "content": told}
        blocks.append(block if r.ok else block | {"is_error": True})
    return [{"role": "user", "content": blocks}]


def _image(part: dict[str, Any]) -> dict[str, Any]:
    found = data_of(part)
    if found is None:
        return {"type": "image", "source": {"type": "url", "url": part["image_url"]["url"]}}
    return {"type": "image", "source": {"type": "base64", "media_type": found[0], "data": found[1]}}


def delta(event: Any) -> str:
    """The text of a `text_delta`."""
    part = event.get("delta") if isinstance(event, dict) and event.get("type") == "content_block_delta" else None
    if isinstance(part, dict) and part.get("type") == "text_delta" and isinstance(part.get("text"), str):
        return str(part["text"])
    return ""
