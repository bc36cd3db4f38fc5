"""Messages in the shapes of instrumentation libraries -> OpenAI's chat shape. Nothing is left out: an unknown part stays as it
is."""

from __future__ import annotations

import contextlib
from typing import Any

from .. import dialects
from ..codec import loads
from ..dialects.content import as_text
from ..errors import InvalidInput
from ..shape import arguments, dicts, items, obj, text

Message = dict[str, Any]


def call(id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call in an answer."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def messages(value: Any) -> list[Message]:
    """Messages of any shape that is known here, in order."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, dict):
        value = value.get("messages") if isinstance(value.get("messages"), list) else [value]
    return [found for one in items(value) for found in message(one)]


def message(one: Any) -> list[Message]:
    """One message; a message with several results of tools is one message per result."""
    if isinstance(one, list):  # langchain's batches
        return [found for inner in one for found in message(inner)]
    if not isinstance(one, dict):
        return [{"role": "user", "content": one}]
    if isinstance(one.get("parts"), list):
        return _of_parts(one)
    if isinstance(one.get("content"), dict) and isinstance(one["content"].get("parts"), list):  # Gemini's, of its SDK
        return _of_parts({**one, **one["content"]})
    if "lc" in one or isinstance(one.get("kwargs"), dict):
        return [_of_langchain(one)]
    if isinstance(one.get("message"), dict):
        return message(one["message"])
    kinds = [p["type"] for p in items(one.get("content")) if isinstance(p, dict) and isinstance(p.get("type"), str)]
    if any(kind in ("tool-call", "tool-result") for kind in kinds):
        return of_vercel(one)
    if any(kind in ("tool_use", "tool_result", "thinking", "redacted_thinking") for kind in kinds):
        return dialects.get("anthropic.messages").messages({"messages": [one]})
    shaped = {k: v for k, v in one.items() if k not in ("event.name", "gen_ai.message.index", "gen_ai.system")}
    shaped.setdefault("role", _LANGCHAIN.get(str(one.get("type")), "user"))
    if isinstance(shaped["role"], str):
        shaped["role"] = _ROLES.get(shaped["role"], shaped["role"])
    if shaped["role"] == "tool" and "tool_call_id" not in shaped and isinstance(one.get("id"), str):
        shaped["tool_call_id"] = shaped.pop("id")
    return [shaped]


_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "function": "tool"}
_LANGCHAIN = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
}
_CLASSES = {
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "tool",
}


def _of_parts(one: dict[str, Any]) -> list[Message]:
    """GenAI's `{role, parts}`, and Gemini's."""
    role = _ROLES.get(str(one.get("role")), text(one.get("role")) or "user")
    content: list[Any] = []
    calls: list[Any] = []
    results: list[Message] = []
    thoughts: list[str] = []
    for part in items(one["parts"]):
        p = {"type": "text", "content": part}
        if isinstance(part, dict):  # Gemini's SDK writes each kind that a part is not as null
            p = {name: value for name, value in part.items() if value is not None}
        kind = p.get("type")
        called, given = p.get("functionCall", p.get("function_call")), p.get("functionResponse", p.get("function_response"))
        said = p.get("content", p.get("text"))
        if kind == "tool_call":
            calls.append(call(p.get("id"), p.get("name"), p.get("arguments")))
        elif isinstance(called, dict):
            calls.append(call(called.get("id"), called.get("name"), called.get("args")))
        elif kind == "tool_call_response":
            result = next((p[k] for k in ("response", "result", "content") if k in p), None)
            results.append({"role": "tool", "tool_call_id": p.get("id"), "content": result})
        elif isinstance(given, dict):
            about = {"tool_call_id": given.get("id"), "name": given.get("name")}
            results.append({"role": "tool", **about, "content": given.get("response")})
        elif (kind in ("reasoning", "thinking") or p.get("thought") is True) and isinstance(said, str):
            thoughts.append(said)
        elif kind in (None, "text") and isinstance(said, str):
            content.append({"type": "text", "text": said})
        else:
            content.append(p)
    if results and not (content or calls or thoughts):
        return results
    shaped: Message = {"role": role, "content": _only_text(content)}
    if one.get("finish_reason"):
        shaped["finish_reason"] = one["finish_reason"]
    if thoughts:
        shaped["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        shaped["tool_calls"] = calls
    return [*results, shaped]


def parts(one: Message) -> Message:
    """A chat-shaped message as GenAI's `{role, parts}`, which `messages` reads back."""
    role = text(one.get("role")) or "user"
    content = one.get("content")
    if role == "tool":
        result = {"type": "tool_call_response", "id": one.get("tool_call_id"), "response": content}
        return {"role": "tool", "parts": [result]}
    out: list[Any] = []
    if isinstance(thought := one.get("reasoning_content"), str) and thought:
        out.append({"type": "reasoning", "content": thought})
    for part in content if isinstance(content, list) else [] if content is None else [content]:
        said = part.get("text") if isinstance(part, dict) and part.keys() == {"type", "text"} else part
        out.append({"type": "text", "content": said} if isinstance(said, str) else part)
    for asked in items(one.get("tool_calls")):
        function = obj(obj(asked).get("function"))
        given = {"name": function.get("name"), "arguments": arguments(function.get("arguments"))}
        out.append({"type": "tool_call", "id": obj(asked).get("id"), **given})
    return {"role": role, "parts": out}


def of_vercel(one: dict[str, Any]) -> list[Message]:
    """A message of the AI SDK of Vercel, which sends one part of text as a text."""
    if not isinstance(one.get("content"), list):
        return message(one)
    rest: list[Any] = []
    calls: list[Any] = []
    results: list[Message] = []
    thoughts: list[str] = []
    for part in items(one["content"]):
        p = obj(part)
        if p.get("type") == "tool-call":
            calls.append(call(p.get("toolCallId"), p.get("toolName"), p.get("input", p.get("args"))))
        elif p.get("type") == "tool-result":
            output = p.get("output", p.get("result"))
            value = output["value"] if isinstance(output, dict) and output.keys() == {"type", "value"} else output
            results.append({"role": "tool", "tool_call_id": p.get("toolCallId"), "content": value})
        elif p.get("type") == "reasoning" and isinstance(p.get("text"), str):
            thoughts.append(p["text"])
        else:
            rest.append(part)
    if results and not (rest or calls or thoughts):
        return results
    shaped: Message = {"role": one.get("role") or "assistant", "content": _only_text(rest)}
    if thoughts:
        shaped["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        shaped["tool_calls"] = calls
    return [*results, shaped]


def _only_text(parts: list[Any]) -> Any:
    first = parts[0] if len(parts) == 1 else None
    return first["text"] if isinstance(first, dict) and first.keys() == {"type", "text"} else parts or None


def _of_langchain(one: dict[str, Any]) -> Message:
    given = obj(one.get("kwargs"))
    named = items(one.get("id"))
    role = _CLASSES.get(str(named[-1]) if named else "", _LANGCHAIN.get(str(given.get("type")), "user"))
    shaped: Message = {"role": role, "content": given.get("content")}
    calls = [call(c.get("id"), c.get("name"), c.get("args")) for c in dicts(given.get("tool_calls"))]
    raw = dicts(obj(given.get("additional_kwargs")).get("tool_calls"))
    if raw or calls:
        shaped["tool_calls"] = raw or calls
    for name in ("tool_call_id", "name"):
        if given.get(name) is not None:
            shaped[name] = given[name]
    return shaped


def asked(task: Any) -> Any:
    """What a person asked, of the input of a run: the text where the input is an object, or the JSON of an object, with one."""
    given = obj(arguments(task) if isinstance(task, str) else task)
    if isinstance(given.get("messages"), list):
        said = next((m.get("content") for m in messages(given["messages"]) if m.get("role") == "user"), None)
        return as_text(said) if said else task
    if given.keys() == {"args", "kwargs"}:  # a Python function
        values = [*items(given["args"]), *obj(given["kwargs"]).values()]
        return values[0] if len(values) == 1 and isinstance(values[0], str) else task
    if said := next((t for name in ("prompt", "question", "query", "input", "task") if (t := text(given.get(name)))), None):
        return said
    return _only(given) or task


def answered(answer: Any) -> Any:
    """What a run answered: the text where the output is an object with nothing else."""
    return _only(answer) or answer


def _only(given: Any) -> str | None:
    """The text that an object with one field holds."""
    return text(next(iter(given.values()))) if isinstance(given, dict) and len(given) == 1 else None


def system(value: Any) -> list[Message]:
    """System instructions: a text, or parts, as one message; nothing where there are none."""
    if isinstance(value, str):
        return [{"role": "system", "content": value}] if value else []
    parts = items(value)
    if not parts:
        return []
    return _of_parts({"role": "system", "parts": parts})


def results(sent: list[Message], asked: list[tuple[Any, Any]]) -> dict[int, Any]:
    """What tool calls (each an id and a name) gave back, as a request says, by their places. Some emitters write no ids: then the
    first result without an id behind the last answer, of the call's name or of none, is the call's."""
    told = [m for m in sent if m.get("role") == "tool"]
    by_id = {id: m.get("content") for m in told if isinstance(id := m.get("tool_call_id"), str)}
    last = max((n for n, m in enumerate(sent) if m.get("role") == "assistant"), default=-1)
    loose = [m for m in sent[last + 1 :] if m.get("role") == "tool" and m.get("tool_call_id") is None]
    found: dict[int, Any] = {}
    for place, (id, name) in enumerate(asked):
        if isinstance(id, str) and id in by_id:
            found[place] = by_id[id]
        elif id is None and (one := next((m for m in loose if m.get("name") in (None, name)), None)) is not None:
            loose.remove(one)
            found[place] = one.get("content")
    return found


def tools(value: Any) -> list[Any]:
    """Tool schemas, in the shape that they have: a list of objects, or of objects as JSON."""
    out: list[Any] = []
    for one in items(value):
        if isinstance(one, str):
            with contextlib.suppress(InvalidInput):
                one = loads(one)
        out.append(one)
    return out


def functions(value: Any) -> list[Any]:
    """Tool schemas, those of functions in the shape of OpenAI's chat."""
    return [_function(one) for one in tools(value)]


def _function(one: Any) -> Any:
    if not isinstance(one, dict) or one.get("type", "function") != "function" or not isinstance(one.get("name"), str):
        return one
    function = {k: v for k, v in one.items() if k not in ("type", *_SCHEMAS)}
    schema = next((one[k] for k in _SCHEMAS if k in one), None)
    return {"type": "function", "function": function if schema is None else {**function, "parameters": schema}}


#: Names of a tool's schema.
_SCHEMAS = ("parameters", "inputSchema", "input_schema")


def answer(found: list[Message], reasons: Any = None) -> Any:
    """A response of one message, or of several as choices."""
    if not found:
        return None
    for one in found:
        one.pop("finish_reason", None)
        one["role"] = "assistant"
    if len(found) == 1:
        return found[0]
    ended = items(reasons)
    return {
        "choices": [
            {"index": n, "message": m, "finish_reason": ended[n] if n < len(ended) else None} for n, m in enumerate(found)
        ]
    }
