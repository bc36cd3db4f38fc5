"""Gemini CLI's own telemetry, and that of Qwen Code, which began as a copy: log events `gemini_cli.*` and `qwen-code.*`, one
request in two of them, which `joined` makes one.

Gemini CLI's spans (`llm_call`, ...) tell the same again, each in a trace of its own.

Source: google-gemini/gemini-cli and QwenLM/qwen-code, packages/core/src/telemetry.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..shape import arguments, dicts, items, obj, text
from . import chat
from .common import count, price
from .span import Meaning, TraceSpan

#: The programs, by what their events' names begin with.
_PROGRAMS = {"gemini_cli": "gemini-cli", "qwen-code": "qwen-code"}


def name_of(span: TraceSpan) -> str | None:
    """The event's own name, without the program's; None of other programs'."""
    program, _, name = (text(span.get("event.name")) or "").partition(".")
    return name if program in _PROGRAMS else None


def _who(span: TraceSpan) -> str:
    """The agent that acts: the prompts of a sub-agent of Qwen Code are `SESSION#NAME-LETTERS#TURN`."""
    _, _, agent = (text(span.get("prompt_id")) or "").partition("#")
    return agent.partition("#")[0] or _PROGRAMS[str(span.get("event.name")).partition(".")[0]]


def joined(spans: list[TraceSpan]) -> list[TraceSpan]:
    """The spans of a session in order, in which a request and its answer are one."""
    out: list[TraceSpan] = []
    waiting: dict[Any, TraceSpan] = {}
    logs = any(name_of(s) == "api_response" for s in spans)
    for span in spans:
        name, prompt = name_of(span), str(span.get("prompt_id"))
        if name == "api_request":
            before = waiting.get(prompt)
            if before is not None:
                out.append(before)
            waiting[prompt] = span
        elif name in ("api_response", "api_error"):
            first = waiting.pop(prompt, None)
            asked = {} if first is None else {"request_text": first.get("request_text")}
            out.append(msgspec.structs.replace(span, attributes={**asked, **span.attributes}, failed=name == "api_error"))
        elif logs and (
            span.get("event.name") == "gen_ai.client.inference.operation.details" or (not span.log and span.name == "llm_call")
        ):
            continue  # the same call again
        else:
            out.append(span)
    return [*out, *waiting.values()]


def meaning(span: TraceSpan) -> Meaning | None:
    """None where it is no telemetry of these programs."""
    name = name_of(span)
    if name is None:
        return None
    if name in ("api_response", "api_error", "api_request"):
        return Meaning(kind="call", fields=_call(span), agent=_who(span), used=("request_text", "response_text", "model"))
    if name == "user_prompt":
        prompt = span.get("prompt")
        return Meaning(kind="note", fields={"name": name, "data": {"prompt": prompt}}, task=prompt, agent=_who(span))
    if name == "tool_call":
        fields = {
            "name": text(span.get("function_name")) or "",
            "arguments": arguments(span.get("function_args")),
            "ok": span.get("success") in (True, "true") if span.get("success") is not None else None,
            "error": span.get("error"),
            "duration": _took(span),
            "tool_call_id": text(span.get("call_id")),
        }
        return Meaning(
            kind="tool", fields=fields, agent=_who(span), used=("function_name", "function_args", "success", "duration_ms")
        )
    return Meaning(kind="note", fields={"name": name, "data": None}, agent=_who(span))


def _call(span: TraceSpan) -> dict[str, Any]:
    asked, said = span.json("request_text"), span.json("response_text")
    given = items(obj(asked).get("contents")) or items(asked)
    sent = chat.messages(given) if given else [] if asked is None else [{"role": "user", "content": asked}]
    response: Any = said
    for one in items(said) if isinstance(said, list) else [said]:
        for candidate in dicts(obj(one).get("candidates")):
            if isinstance(candidate.get("content"), dict):
                response = chat.answer(chat.message({"role": "model", **candidate["content"]}))
    if isinstance(response, str):
        response = {"role": "assistant", "content": response}
    written = (count(span.get(n)) for n in ("output_token_count", "thoughts_token_count"))
    known = [c for c in written if c is not None]
    fields: dict[str, Any] = {
        "dialect": "openai.chat",
        "request": {"messages": sent, "model": text(span.get("model"))},
        "response": response,
        "model": text(span.get("model")),
        "prompt_tokens": count(span.get("input_token_count")),
        "completion_tokens": known[0] if known else None,
        "error": span.get("error", "error.message") if span.failed else None,
        "finish_reason": text(next(iter(items(span.json("finish_reasons"))), None)),
        "duration": _took(span),
    }
    return fields


def _took(span: TraceSpan) -> int | None:
    took = price(span.get("duration_ms"))
    return round(took * 1e6) if took is not None and 0 <= took < 1e9 else None
