"""OpenAI chat completions, as OpenAI, vLLM, SGLang, llama.cpp and others speak it.

Source: https://platform.openai.com/docs/api-reference/chat; vLLM adds `prompt_token_ids` and `choices[].token_ids`.
A response that a caller gave by hand may also be plain text or one message.
"""

from __future__ import annotations

from typing import Any

from . import Choice, ToolCall, Usage

NAME = "openai.chat"
PATHS = ("/chat/completions",)
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
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        for name, value in event.items():
            if name == "choices":
                continue
            if value is not None or name not in body:
                body[name] = value
        found = event.get("choices")
        for position, choice in enumerate(found if isinstance(found, list) else []):
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if type(index) is int else position
                _merge_choice(choices.setdefault(index, {"index": index}), choice)
    if not body and not choices:
        return None
    if body.get("object") == "chat.completion.chunk":
        body["object"] = "chat.completion"
    body["choices"] = [choices[i] for i in sorted(choices)]
    return body


def _merge_choice(into: dict[str, Any], choice: dict[str, Any]) -> None:
    for name, value in choice.items():
        if name == "delta":
            message = into.setdefault("message", {})
            if isinstance(value, dict):
                _merge_delta(message, value)
        elif name in ("token_ids", "logprobs", "text"):
            into[name] = _joined(into.get(name), value)
        elif value is not None or name not in into:
            into[name] = value


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls" and isinstance(value, list):
            calls = message.setdefault("tool_calls", [])
            for position, part in enumerate(value):
                if isinstance(part, dict):
                    _merge_call(calls, part, position)
        elif name == "function_call" and isinstance(value, dict):
            call = message.setdefault("function_call", {})
            for key, text in value.items():
                call[key] = _joined(call.get(key), text) if key == "arguments" else text
        elif name == "role":
            if value is not None or name not in message:
                message[name] = value
        else:
            message[name] = _joined(message.get(name), value)


def _merge_call(calls: list[Any], part: dict[str, Any], position: int) -> None:
    index = part.get("index")
    index = index if type(index) is int and 0 <= index < 1000 else position
    while len(calls) <= index:
        calls.append({})
    call = calls[index]
    for name, value in part.items():
        if name == "index":
            continue
        if name == "function" and isinstance(value, dict):
            function = call.setdefault("function", {})
            for key, text in value.items():
                function[key] = _joined(function.get(key), text) if key == "arguments" else (text if text is not None else function.get(key))
        elif value is not None or name not in call:
            call[name] = value


def _joined(old: Any, new: Any) -> Any:
    """Deltas put together: text and lists are appended, objects merged field by field; else the newer value counts."""
    if new is None:
        return old
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: _joined(old.get(k), v) for k, v in new.items()}}
    return new
