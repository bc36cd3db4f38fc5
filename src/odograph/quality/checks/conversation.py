"""Checks of text and tools: what the model was asked, what it answered, and what answered its tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...types import Action
from ..define import Found, check
from ..look import Look

_SFT = ("sft", "rl")


def _asked(look: Look) -> dict[str, tuple[str, str]]:
    """Tool call id -> (path, tool) of every tool call that an answer holds."""
    return {
        call.id: (f"{path}.response", call.name)
        for path, c in look.calls
        for choice in c.choices[:1]
        for call in choice.tool_calls
        if isinstance(call.id, str)
    }


@check("call_without_result", "warning", "a tool call that nothing answered", _SFT)
def call_without_result(look: Look) -> Found:
    answered = {
        r.tool_call_id
        for _, r in look.placed
        if isinstance(r, Action) and (r.result is not None or r.ok is not None or r.error is not None)
    }
    for _, _, new, _ in look.new_messages:
        answered |= {m["tool_call_id"] for m in new if m.get("role") == "tool" and isinstance(m.get("tool_call_id"), str)}
    for id, (path, tool) in _asked(look).items():
        if id not in answered:
            yield path, f"the call {id} of {tool} was not answered"


@check("result_without_call", "error", "a result that no call asked for", _SFT)
def result_without_call(look: Look) -> Found:
    asked = set(_asked(look))
    results: list[tuple[str, str]] = []
    for path, _, new, _ in look.new_messages:
        for m in new:
            calls = m.get("tool_calls")
            asked |= (
                {c["id"] for c in calls if isinstance(c, dict) and isinstance(c.get("id"), str)}
                if isinstance(calls, list)
                else set()
            )
            if m.get("role") == "tool" and isinstance(m.get("tool_call_id"), str):
                results.append((f"{path}.request.messages", m["tool_call_id"]))
    results += [(f"{p}.tool_call_id", r.tool_call_id) for p, r in look.placed if isinstance(r, Action) and r.tool_call_id]
    seen: set[str] = set()
    for path, id in results:
        if id not in asked and id not in seen:
            seen.add(id)
            yield path, f"a result for {id}, which no call asked for"


@check("tool_arguments", "warning", "arguments that don't parse, or don't fit the tool's schema", _SFT)
def tool_arguments(look: Look) -> Found:
    schemas: dict[int, dict[str, Any]] = {}
    for path, call in look.calls:
        if not call.choices or not call.choices[0].tool_calls:
            continue
        tools = call.tools
        known = schemas.get(id(tools))
        if known is None:
            known = schemas[id(tools)] = {name: schema for t in tools for name, schema in _schema(t)}
        for asked in call.choices[0].tool_calls:
            given = asked.arguments
            if isinstance(given, str) and not asked.custom:
                try:
                    given = loads(given) if given.strip() else {}
                except InvalidInput as error:
                    yield f"{path}.response", f"arguments of {asked.name} are no JSON: {error}"
                    continue
            if known and asked.name not in known:
                yield f"{path}.response", f"no tool {asked.name!r} was offered; there are: {', '.join(sorted(known)[:10])}"
                continue
            why = _misfit(given, known.get(asked.name), "arguments", 0)
            if why:
                yield f"{path}.response", f"{asked.name}: {why}"


def _schema(tool: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tool, dict):
        found = tool.get("function")
        found = found if isinstance(found, dict) else tool.get("custom")
        inner: dict[str, Any] = found if isinstance(found, dict) else tool
        name = inner.get("name")
        if isinstance(name, str):
            yield name, inner.get("parameters", inner.get("input_schema"))


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def _misfit(value: Any, schema: Any, path: str, depth: int) -> str | None:
    """Why a value does not fit a JSON schema, by its commonest words; words that are not known here forbid nothing."""
    if not isinstance(schema, dict) or depth > 20 or any(k in schema for k in ("anyOf", "oneOf", "allOf", "$ref", "not", "if")):
        return None
    kinds = schema.get("type")
    wanted = [k for k in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(k, str)]
    if wanted and all(k in _TYPES for k in wanted):
        right = any(
            (isinstance(value, _TYPES[k]) and (k == "boolean" or not isinstance(value, bool)))
            or (k == "integer" and isinstance(value, float) and value.is_integer())
            for k in wanted
        )
        if not right:
            return f"{path} is of type {type(value).__name__}, not {' or '.join(wanted)}"
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return f"{path} is none of {', '.join(map(repr, choices[:8]))}"
    if isinstance(value, dict):
        given = schema.get("properties")
        properties: dict[str, Any] = given if isinstance(given, dict) else {}
        for name in schema["required"] if isinstance(schema.get("required"), list) else []:
            if name not in value:
                return f"{path} has no {name!r}"
        if schema.get("additionalProperties") is False:
            for name in value:
                if name not in properties:
                    return f"{path} has {name!r}, which the schema does not know"
        for name, inner in properties.items():
            if name in value:
                why = _misfit(value[name], inner, f"{path}.{name}", depth + 1)
                if why:
                    return why
    if isinstance(value, list):
        for index, item in enumerate(value):
            why = _misfit(item, schema.get("items"), f"{path}[{index}]", depth + 1)
            if why:
                return why
    return None


@check("role_order", "warning", "a role that cannot follow the one before in the dialect", _SFT)
def role_order(look: Look) -> Found:
    for path, _call, new, before in look.new_messages:
        last = before
        for position, message in enumerate(new):
            role = message.get("role")
            where = f"{path}.request.messages (new message {position})"
            if role == "tool" and last not in ("assistant", "tool", None):
                yield where, f"a tool message after {last}; it follows the assistant message that called"
            elif role in ("system", "developer") and last in ("assistant", "tool"):
                yield where, f"a {role} message after {last}"
            last = role if isinstance(role, str) else None


@check("truncated_response", "warning", "finish reason length", _SFT)
def truncated_response(look: Look) -> Found:
    for path, call in look.calls:
        if call.finish_reason in ("length", "max_tokens"):
            tokens = f" after {call.completion_tokens} tokens" if call.completion_tokens is not None else ""
            yield f"{path}.response", f"the answer was cut at the length limit{tokens}"


@check("empty_response", "warning", "no content and no tool call", _SFT)
def empty_response(look: Look) -> Found:
    for path, call in look.calls:
        record = call.record
        if (
            call.error is None
            and record.response is None
            and not record.tokens
            and not record.events
            and look.t.status != "running"
        ):
            yield f"{path}.response", "a call without an answer, and no error says why"
        if call.error is None and call.choices:
            choice = call.choices[0]
            content = choice.message.get("content")
            if not choice.text and not choice.tool_calls and not (isinstance(content, list) and content) and not choice.token_ids:
                yield f"{path}.response", "an answer without content and without a tool call"


@check("usage_mismatch", "warning", "usage that differs from the recorded token counts", ("rl",))
def usage_mismatch(look: Look) -> Found:
    for path, call in look.calls:
        ids = [c.token_ids for c in call.choices]
        if call.completion_tokens is not None and ids and all(i is not None for i in ids):
            count = sum(len(i) for i in ids if i is not None)
            if count != call.completion_tokens:
                yield f"{path}.usage", f"{call.completion_tokens} completion tokens are stated, {count} ids recorded"
        prompt = call.prompt_token_ids
        if prompt is not None and call.prompt_tokens is not None and len(prompt) != call.prompt_tokens:
            yield f"{path}.usage", f"{call.prompt_tokens} prompt tokens are stated, {len(prompt)} ids recorded"
