"""OpenAI chat completions, as OpenAI, vLLM, SGLang, llama.cpp and others speak it.

Source: https://platform.openai.com/docs/api-reference/chat; vLLM adds `prompt_token_ids` and `choices[].token_ids`.
A response that a caller gave by hand may also be plain text or one message.
"""

from __future__ import annotations

from typing import Any

from . import Choice, Result, Tool, ToolCall, Usage
from .deltas import Fields, Items, add, built, merge, replace

NAME = "openai.chat"
PATHS = ("/chat/completions",)
HISTORY = "messages"
_NOT_PARAMS = ("model", "messages", "tools", "functions")


def messages(request: Any) -> list[dict[str, Any]]:
    """The messages as they were sent."""
    found = request.get("messages") if isinstance(request, dict) else None
    return [m if isinstance(m, dict) else {"role": "user", "content": m} for m in found] if isinstance(found, list) else []


def params(request: Any) -> dict[str, Any]:
    """Everything but model, messages and tools."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def tools(request: Any) -> list[Any]:
    """The tool schemas as they were sent (`functions` in old requests)."""
    found = (request.get("tools") or request.get("functions")) if isinstance(request, dict) else None
    return found if isinstance(found, list) else []


def is_response(response: Any) -> bool:
    """A body with `choices`."""
    return isinstance(response, dict) and isinstance(response.get("choices"), list)


def choices(response: Any) -> list[Choice]:
    """All choices of a body; of a text or a single message given by hand, the one."""
    if response is None:
        return []
    if isinstance(response, str):
        return [_choice({"role": "assistant", "content": response}, {}, 0)]
    if not isinstance(response, dict):
        return []
    found = response.get("choices")
    if not isinstance(found, list):
        return [_choice(response, {}, 0)] if "role" in response or "content" in response or "tool_calls" in response else []
    out: list[Choice] = []
    for position, choice in enumerate(found):
        if not isinstance(choice, dict):
            continue
        message = choice.get("message")
        if not isinstance(message, dict):
            message = {"role": "assistant", "content": choice.get("text")}
        index = choice.get("index")
        out.append(_choice(message, choice, index if isinstance(index, int) else position))
    return out


def text_of(content: Any) -> str:
    """The text of a content that is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (p if isinstance(p, str) else p.get("text") if isinstance(p, dict) else None for p in content)
        return "".join(p for p in parts if isinstance(p, str))
    return ""


def _choice(message: dict[str, Any], choice: dict[str, Any], index: int) -> Choice:
    calls: list[ToolCall] = []
    found = message.get("tool_calls")
    for call in found if isinstance(found, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            calls.append(ToolCall(call.get("id"), str(function.get("name") or ""), function.get("arguments")))
        elif isinstance(call, dict) and isinstance(custom := call.get("custom"), dict):
            calls.append(ToolCall(call.get("id"), str(custom.get("name") or ""), custom.get("input"), True))
    old = message.get("function_call")
    if isinstance(old, dict):
        calls.append(ToolCall(None, str(old.get("name") or ""), old.get("arguments")))
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    ids, logprobs = choice.get("token_ids"), _logprobs(choice.get("logprobs"))
    about = choice.get("meta_info")
    pairs = about.get("output_token_logprobs") if isinstance(about, dict) else None  # SGLang: [logprob, id, text] each
    if not isinstance(ids, list) and isinstance(pairs, list) and all(isinstance(p, list) and len(p) > 1 for p in pairs):
        ids, logprobs = [p[1] for p in pairs], [p[0] for p in pairs]
    finish = choice.get("finish_reason")
    return Choice(
        index=index,
        message=message,
        text=text_of(message.get("content")),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        tool_calls=calls,
        finish_reason=finish if isinstance(finish, str) else None,
        token_ids=ids if isinstance(ids, list) else None,
        logprobs=logprobs,
    )


def _logprobs(found: Any) -> list[float | None] | None:
    content = found.get("content") if isinstance(found, dict) else None
    if isinstance(content, list):
        return [c.get("logprob") if isinstance(c, dict) else None for c in content]
    plain = found.get("token_logprobs") if isinstance(found, dict) else None
    return plain if isinstance(plain, list) else None


def usage(usage: Any) -> Usage:
    """`prompt_tokens` and `completion_tokens`; other dialects' names too, as callers by hand mix them."""
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


def assemble(events: list[Any]) -> Any:
    """The body of the same call without streaming: text, tool calls, logprobs and ids put together, unknown fields kept."""
    body: dict[str, Any] = {}
    choices: dict[int, Fields] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        replace(body, event, "choices", "obfuscation")  # the latter is padding of streams
        found = event.get("choices")
        if not isinstance(found, list):
            continue
        body["choices"] = []
        for position, choice in enumerate(found):
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if type(index) is int else position
                _merge_choice(choices.setdefault(index, Fields(index=index)), choice)
    if choices:
        body["choices"] = [built(choices[index]) for index in sorted(choices)]
    if body.get("object") == "chat.completion.chunk":
        body["object"] = "chat.completion"
    return body or None


def _merge_choice(into: Fields, choice: dict[str, Any]) -> None:
    replace(into, choice, "index", "delta", "token_ids", "logprobs", "text")
    for name in ("token_ids", "logprobs", "text"):
        if name in choice:
            add(into, name, choice[name])
    delta = choice.get("delta")
    if isinstance(delta, dict):
        message = into.get("message")
        if not isinstance(message, Fields):
            message = into["message"] = Fields(message if isinstance(message, dict) else {})
        for name, value in delta.items():
            if name == "tool_calls" and isinstance(value, list):
                _merge_calls(message, value)
            else:
                add(message, name, value)


def _merge_calls(message: Fields, parts: list[Any]) -> None:
    calls = message.get("tool_calls")
    if not isinstance(calls, Items):
        calls = message["tool_calls"] = _Calls(calls if isinstance(calls, list) else [])
    places = calls.places if isinstance(calls, _Calls) else {}
    for position, part in enumerate(parts):
        if not isinstance(part, dict):
            continue
        index = part.get("index")
        index = index if type(index) is int else position
        call, id = places.get(index), part.get("id")
        if call is None or (id and call.get("id") and id != call["id"]):  # some backends number every call 0
            call = places[index] = Fields()
            calls.append(call)
        merge(call, {name: value for name, value in part.items() if name != "index"})


class _Calls(Items):
    """Tool calls in the order of their beginning; `places`: by the index that deltas continue them by."""

    def __init__(self, calls: list[Any]) -> None:
        super().__init__(calls)
        self.places: dict[int, Fields] = {}


def history(messages: list[dict[str, Any]]) -> list[Any]:
    """The messages as they are."""
    return list(messages)


def request(
    model: str,
    system: str | None,
    history: list[Any],
    tools: list[Tool],
    params: dict[str, Any],
    schema: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body; the system prompt is the first message, the schema a `response_format`."""
    first = [] if system is None else [{"role": "system", "content": system}]
    body: dict[str, Any] = {"model": model, "messages": [*first, *history]}
    if tools:
        body["tools"] = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
            for t in tools
        ]
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return body | params


def said(response: Any) -> list[Any]:
    """The first choice's message; fields that are null or empty are left out, as backends refuse what others answer."""
    found = choices(response)
    if not found:
        return []
    message = found[0].message
    return [{"role": "assistant", "content": None} | {k: v for k, v in message.items() if v not in (None, [])}]


def results(results: list[Result]) -> list[Any]:
    """A tool message each."""
    return [{"role": "tool", "tool_call_id": r.tool_call_id, "content": r.content} for r in results]


def delta(event: Any) -> str:
    """`delta.content` of the first choice."""
    found = event.get("choices") if isinstance(event, dict) else None
    for choice in found if isinstance(found, list) else []:
        part = choice.get("delta") if isinstance(choice, dict) and not choice.get("index") else None
        if isinstance(part, dict) and isinstance(part.get("content"), str):
            return str(part["content"])
    return ""
