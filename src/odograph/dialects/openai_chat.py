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
    ids = choice.get("token_ids")
    finish = choice.get("finish_reason")
    return Choice(
        index=index,
        message=message,
        text=text_of(message.get("content")),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        tool_calls=calls,
        finish_reason=finish if isinstance(finish, str) else None,
        token_ids=ids if isinstance(ids, list) else None,
        logprobs=_logprobs(choice.get("logprobs")),
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
