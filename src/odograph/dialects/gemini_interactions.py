"""Google's Interactions API: steps in, steps out; the server may keep the history.

Source: https://ai.google.dev/gemini-api/docs/interactions; field names of the package google-genai 3.6. Earlier versions call the
answer's items `outputs`, and an event's `content.delta`.
"""

from __future__ import annotations

import re
from typing import Any

from ..codec import loads_or_raw
from . import defaults
from . import framing as framings
from .content import objects, text_of
from .deltas import Fields, add, built, merge
from .shapes import Choice, ToolCall, Usage

NAME = "gemini.interactions"
PATHS = ("/interactions",)
LISTS = ("input",)
VALUES = ("system_instruction", "tools")
_PATH = re.compile(r"/v\d\w*/(?:projects/[^/]+/locations/[^/]+/)?interactions$")
_FETCHED = re.compile(_PATH.pattern.removesuffix("$") + r"/([^/]+?)(?:/cancel)?$")
_NOT_PARAMS = ("model", "input", "system_instruction", "tools")
_REASONS = {"completed": "stop", "requires_action": "tool_calls", "incomplete": "length", "budget_exceeded": "length"}
_LAST = ("interaction.completed", "interaction.complete", "interaction.cancelled")


def speaks(path: str) -> bool:
    """`/v1beta/interactions`, also under a project."""
    return _PATH.search(path) is not None


def model(path: str, request: Any) -> str | None:
    """The model, or the agent of Google's that is asked."""
    found = defaults.model(path, request)
    agent = request.get("agent") if isinstance(request, dict) else None
    return found or (agent if isinstance(agent, str) else None)


def messages(request: Any) -> list[dict[str, Any]]:
    """System instruction and input, chat-shaped: function calls as tool calls, function results as tool messages."""
    if not isinstance(request, dict):
        return []
    system, given = request.get("system_instruction"), request.get("input")
    told: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    loose: list[Any] = []  # contents that are in no step
    for item in given if isinstance(given, list) else [] if given is None else [given]:
        shaped = _shaped(item)
        if shaped is None:
            loose.append(item)
        else:
            told.append(shaped)
    if loose:
        told.append({"role": "user", "content": _content(loose)})
    return told


def _content(parts: list[Any]) -> Any:
    texts = all(isinstance(p, str) or (isinstance(p, dict) and isinstance(p.get("text"), str)) for p in parts)
    return text_of(parts) if texts else parts


def _shaped(item: Any) -> dict[str, Any] | None:
    """A step, or a turn of earlier versions, as a message; None for a content."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": item.get("id"), "type": "function", "function": function}],
        }
    if kind == "function_result":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("result")}
    if kind == "thought":
        return {"role": "assistant", "content": None, "reasoning_content": text_of(item.get("summary"))}
    if kind in ("user_input", "model_output") or "role" in item:
        said = item.get("content")
        role = "assistant" if kind == "model_output" or item.get("role") == "model" else "user"
        return {"role": role, "content": _content(said) if isinstance(said, list) else said}
    return None


def params(request: Any) -> dict[str, Any]:
    """Everything but model, input, system instruction and tools."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def _items(response: Any) -> list[dict[str, Any]]:
    found = (response.get("steps") or response.get("outputs")) if isinstance(response, dict) else None
    return objects(found)


def choices(response: Any) -> list[Choice]:
    """The one answer: its steps put together."""
    items = _items(response)
    if not items:
        return []
    said: list[Any] = []
    for item in items:
        if item.get("type") == "model_output":
            content = item.get("content")
            said += content if isinstance(content, list) else [content]
        elif item.get("type") == "text":
            said.append(item)
    thoughts = [text_of(item.get("summary")) for item in items if item.get("type") == "thought"]
    calls = [
        ToolCall(item.get("id"), str(item.get("name") or ""), item.get("arguments"))
        for item in items
        if item.get("type") == "function_call"
    ]
    content, reasoning = _content(said) if said else None, "\n".join(t for t in thoughts if t) or None
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls
        ]
    status = response.get("status")
    return [
        Choice(
            message=message,
            text=text_of(said),
            reasoning=reasoning,
            tool_calls=calls,
            finish_reason=_REASONS.get(status, status) if isinstance(status, str) else None,
        )
    ]


def usage(usage: Any) -> Usage:
    """`total_input_tokens`, and `total_output_tokens` with the thoughts."""
    if not isinstance(usage, dict):
        return Usage()
    prompt, *parts = [usage.get(f"total_{name}_tokens") for name in ("input", "output", "thought")]
    return Usage(
        prompt=prompt if type(prompt) is int else None,
        completion=sum(p for p in parts if type(p) is int) if type(parts[0]) is int else None,
    )


def later(response: Any) -> str | None:
    """The id of an interaction that goes on in the background."""
    waits = isinstance(response, dict) and response.get("status") in ("queued", "in_progress")
    return response["id"] if waits and isinstance(response.get("id"), str) else None


def fetched(path: str) -> str | None:
    """`/interactions/ID`, and `/interactions/ID/cancel`."""
    found = _FETCHED.search(path)
    return found[1] if found else None


def ending(stream: framings.Stream) -> tuple[bool, Any]:
    """The last event is one of three."""
    last = stream.events[-1] if stream.events else None
    if isinstance(last, dict) and last.get("event_type") in _LAST:
        return True, None
    return defaults.ending(stream)


def assemble(events: list[Any]) -> Any:
    """The interaction of the last event that has one, with the steps that the other events brought."""
    body: dict[str, Any] = {}
    steps: dict[int, Fields] = {}
    inputs: dict[int, list[str]] = {}
    named = "steps"
    for event in events:
        if not isinstance(event, dict):
            continue
        kind, index, delta = event.get("event_type"), event.get("index"), event.get("delta")
        if isinstance(event.get("interaction"), dict):
            body |= {k: v for k, v in event["interaction"].items() if v is not None}
        if kind == "interaction.status_update" and isinstance(event.get("status"), str):
            body["status"] = event["status"]
        begun = event.get("step") if kind == "step.start" else event.get("content") if kind == "content.start" else None
        if kind == "content.start":
            named = "outputs"
        if type(index) is not int:
            continue
        if isinstance(begun, dict):
            steps[index] = Fields(begun)
        elif isinstance(delta, dict):
            _add(steps.setdefault(index, Fields()), delta, inputs.setdefault(index, []))
    for index, parts in inputs.items():
        if parts:
            steps[index]["arguments"] = loads_or_raw("".join(parts).encode("utf-8", "surrogatepass"))
    if steps and not _items(body):
        body[named] = [built(steps[index]) for index in sorted(steps)]
    return body or None


def _add(step: Fields, delta: dict[str, Any], arguments: list[str]) -> None:
    kind = delta.get("type")
    if kind == "arguments_delta":
        arguments += [delta["arguments"]] if isinstance(delta.get("arguments"), str) else []
    elif kind == "thought_summary":
        add(step, "summary", [delta.get("content")])
    elif kind == "text" and step.get("type") in (None, "model_output"):
        step.setdefault("type", "model_output")
        content = step.get("content")
        last = content[-1] if isinstance(content, list) and content else None
        if isinstance(last, Fields):
            add(last, "text", delta.get("text"))
        else:
            add(step, "content", [Fields(type="text", text=delta.get("text"))])
    elif kind in ("thought_signature", "text"):
        merge(step, {name: value for name, value in delta.items() if name != "type"})
    else:
        add(step, "content", [delta])


def delta(event: Any) -> str:
    """The text that an event brings."""
    found = event.get("delta") if isinstance(event, dict) else None
    text = found.get("text") if isinstance(found, dict) and found.get("type") == "text" else None
    return text if isinstance(text, str) else ""


def said(response: Any) -> list[Any]:
    """The steps as they came."""
    return list(_items(response))


def framed(events: list[Any], whole: bool) -> bytes:
    """Events without names; no `[DONE]`."""
    return framings.as_sse(events, done=False, names=False)
