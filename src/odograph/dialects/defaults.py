"""The members that a dialect's file may leave out, with their defaults. A dialect that imitates OpenAI's needs few members."""

from __future__ import annotations

from typing import Any

from ..codec import encode
from . import framing as framings
from .content import chat_shaped
from .framing import Stream
from .shapes import Alternative, Choice, Items, Path, Result, ToolCall, Usage

SHORT = ""
PATHS: tuple[str, ...] = ()
PURPOSES: dict[str, str] = {}
BASE_URL = "https://api.openai.com/v1"
BASE_URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"
LISTS: tuple[str, ...] = ()
VALUES: tuple[str, ...] = ()
PROMPT_IDS: tuple[Path, ...] = ()
ANSWER_IDS: tuple[Path, ...] = ()
HISTORY = "messages"
STREAMING: dict[str, Any] = {"stream": True}


def headers(key: str) -> dict[str, str]:
    """A bearer token."""
    return {"authorization": f"Bearer {key}"}


def model(path: str, request: Any) -> str | None:
    """The field `model`."""
    found = request.get("model") if isinstance(request, dict) else None
    return found if isinstance(found, str) else None


def streams(path: str, request: Any) -> bool:
    """The field `stream`."""
    return isinstance(request, dict) and bool(request.get("stream"))


def messages(request: Any) -> list[dict[str, Any]]:
    """No messages: the views of the calls show none."""
    return []


def apart(was: Items, now: Items, at: int) -> int:
    """There: each item is a message, whatever stands before it."""
    return at


def params(request: Any) -> dict[str, Any]:
    """All fields but the model."""
    return {k: v for k, v in request.items() if k != "model"} if isinstance(request, dict) else {}


def tools(request: Any) -> list[Any]:
    """The field `tools`."""
    found = request.get("tools") if isinstance(request, dict) else None
    return found if isinstance(found, list) else []


def alternatives(response: Any, index: int) -> list[list[Alternative]]:
    """None: the dialect states only what was sampled."""
    return []


def prompts(request: Any) -> int:
    """One."""
    return 1


def asking_tokens(streams: bool) -> dict[str, Any]:
    """No fields: a backend is not asked for token ids."""
    return {}


def unasked(value: Any, asked: dict[str, Any]) -> Any:
    """The value, unchanged."""
    return value


def is_response(response: Any) -> bool:
    """False: calls that name no dialect are not recognised as calls of this one."""
    return False


def choices(response: Any) -> list[Choice]:
    """No answers: the views of the calls show none."""
    return []


def stated(response: Any) -> Any:
    """The field `usage`."""
    return response.get("usage") if isinstance(response, dict) else None


def usage(usage: Any) -> Usage:
    """`prompt_tokens` and `completion_tokens`; else `input_tokens` with the cached tokens, and `output_tokens`."""
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None:
        parts = [_count(usage, n) for n in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")]
        prompt = sum(p for p in parts if p) if parts[0] is not None else None
    if completion is None:
        completion = _count(usage, "output_tokens")
    return Usage(prompt=prompt, completion=completion)


def _count(usage: dict[str, Any], name: str) -> int | None:
    found = usage.get(name)
    return found if type(found) is int else None


def later(response: Any) -> str | None:
    """Every body is the answer."""
    return None


def fetched(path: str) -> str | None:
    """No answer is fetched later."""
    return None


def framing(kind: str, path: str) -> Stream | None:
    """By the content type: server-sent events, or JSON lines."""
    return framings.of_type(kind)


def ending(stream: Stream) -> tuple[bool, Any]:
    """An event with an error, or with the name "error", ends a stream. Else the framing knows whether the stream is over."""
    last = stream.events[-1] if stream.events else None
    if isinstance(last, dict) and (last.get("error") or "error" in (last.get("type"), stream.names[-1])):
        return True, last.get("error") or last
    return stream.done, None


def assemble(events: list[Any]) -> Any:
    """The last event."""
    return events[-1] if events else None


def assembly() -> None:
    """None: the events are put together once all are there."""


def delta(event: Any) -> str:
    """No text."""
    return ""


def framed(events: list[Any], whole: bool) -> bytes:
    """Events without names, and `[DONE]` at the end."""
    return framings.as_sse(events, done=whole, names=False)


def said(response: Any) -> list[Any]:
    """No items."""
    return []


def reworded(response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
    """The message of the first choice of chat completions, changed."""
    found = response.get("choices") if isinstance(response, dict) else None
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict):
        return response
    message = dict(first["message"]) if isinstance(first.get("message"), dict) else {"role": "assistant", "content": None}
    if text is not None:
        message["content"] = text
    if reasoning is not None:
        message["reasoning" if "reasoning" in message else "reasoning_content"] = reasoning
    asked = message.get("tool_calls")
    if calls and isinstance(asked, list):
        message["tool_calls"] = [_recalled(c, calls[n]) if n in calls else c for n, c in enumerate(asked)]
    rest = found[1:] if isinstance(found, list) else []
    return {**response, "choices": [{**first, "message": message}, *rest]}


def _recalled(old: Any, new: ToolCall) -> Any:
    arguments = new.arguments if isinstance(new.arguments, str) else encode(new.arguments).decode()
    return {**(old if isinstance(old, dict) else {}), "function": {"name": new.name, "arguments": arguments}}


def choosing(choice: str) -> dict[str, Any]:
    """`tool_choice` of chat completions."""
    named = {"type": "function", "function": {"name": choice}}
    return {"tool_choice": choice if choice in ("auto", "required", "none") else named}


def results(results: list[Result]) -> list[Any]:
    """One tool message for each result. Images follow in one message of the user, because the API takes no image of a tool."""
    told: list[Any] = [{"role": "tool", "tool_call_id": r.tool_call_id, "content": r.content} for r in results]
    parts = [part for r in results if r.images for part in ({"type": "text", "text": f"Images of {r.name}:"}, *r.images)]
    return [*told, {"role": "user", "content": parts}] if parts else told


def history(messages: list[dict[str, Any]]) -> list[Any]:
    """The messages, with parts and results of tools as chat completions have them."""
    return chat_shaped(messages)
