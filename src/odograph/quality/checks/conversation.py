"""Checks of text and tools: what the model was asked, what it answered, and what answered its tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ... import dialects
from ...calls import Call
from ...codec import loads
from ...dialects.content import as_text
from ...dialects.shapes import was_cut
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
    """By design, nothing answers the call that ends a run (`finish`, `submit`), or that a limit cuts off: the last call of an
    agent is no finding. A source without any tool message is none either: its agents get results as the user's."""
    if look.imported and not any(m.get("role") == "tool" for _, _, new, _ in look.new_messages for m in new):
        if any(new and position for position, (_, _, new, _) in enumerate(look.new_messages)):
            return
    answered = {
        r.tool_call_id
        for _, r in look.placed
        if isinstance(r, Action) and (r.result is not None or r.ok is not None or r.error is not None)
    }
    for _, _, new, _ in look.new_messages:
        answered |= {m["tool_call_id"] for m in new if m.get("role") == "tool" and isinstance(m.get("tool_call_id"), str)}
    last: dict[str | None, str] = {call.agent: f"{path}.response" for path, call in look.calls if call.purpose == "act"}
    ends = set(last.values()) if look.t.status in ("completed", "truncated") else set()
    # OpenAI's servers ran a `web_search` themselves: what it found is in the answer
    told = {id for id, (_, tool) in _asked(look).items() if tool == "web_search" and id.startswith("ws_")}
    for id, (path, tool) in _asked(look).items():
        if id not in answered and id not in told and path not in ends:
            told.add(id)
            yield path, f"the call {id} of {tool} was not answered"
    for what, path, id in _history(look):
        late = look.imported and id in answered  # a person typed meanwhile: transcripts have what happened in its order
        if what == "unanswered" and id not in told and not late:
            told.add(id)
            yield path, f"the call {id} was sent back to the model without a result"


@check("result_without_call", "error", "a result that no call asked for; a warning where a call has two results", _SFT)
def result_without_call(look: Look) -> Found:
    asked = set(_asked(look))
    results: list[tuple[str, str]] = []
    for path, _, new, _ in look.new_messages:
        for m in new:
            asked.update(_calls_of(m))
            if m.get("role") == "tool" and isinstance(m.get("tool_call_id"), str):
                results.append((f"{path}.request.messages", m["tool_call_id"]))
    if all(call.response is not None or call.error is not None for _, call in look.calls):  # telemetry may leave answers out
        results += [(f"{p}.tool_call_id", r.tool_call_id) for p, r in look.placed if isinstance(r, Action) and r.tool_call_id]
    seen: set[str] = set()
    for path, id in results:
        if id not in asked and id not in seen:
            seen.add(id)
            yield path, f"a result for {id}, which no call asked for"
    for what, path, id in _history(look):
        if what == "twice":
            yield path, f"a second result for the call {id}", "warning"


def _calls_of(message: dict[str, Any]) -> list[str]:
    """The ids of the tool calls in a message."""
    calls = message.get("tool_calls")
    found = (c.get("id") for c in calls if isinstance(c, dict)) if isinstance(calls, list) else ()
    return [id for id in found if isinstance(id, str)]


def _history(look: Look) -> Iterator[tuple[str, str, str]]:
    """(unanswered or twice, path, tool call id) of what the sent histories say that a model's API would refuse."""
    state: dict[tuple[str | None, str], tuple[dict[str, None], set[str]]] = {}
    for path, call, new, before in look.new_messages:
        where = f"{path}.request.messages"
        key = (call.agent, call.purpose)
        pending, answered = state.get(key, ({}, set())) if before is not None else ({}, set())
        for message in new:
            id = message.get("tool_call_id")
            if message.get("role") == "tool":
                if not isinstance(id, str):  # it answers the first that waits
                    pending.pop(next(iter(pending), ""), None)
                else:
                    if id in answered:
                        yield "twice", where, id
                    elif id in pending:
                        answered.add(id)
                    pending.pop(id, None)
                continue
            yield from (("unanswered", where, waiting) for waiting in pending)
            pending = dict.fromkeys(_calls_of(message)) if message.get("role") == "assistant" else {}
            answered -= pending.keys()
        yield from (("unanswered", where, waiting) for waiting in pending)
        state[key] = pending, answered


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


_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "model")


@check("role_order", "warning", "a role that no dialect knows, or that cannot follow the one before in the dialect", _SFT)
def role_order(look: Look) -> Found:
    for path, _call, new, before in look.new_messages:
        last = before
        for position, message in enumerate(new):
            role = message.get("role")
            where = f"{path}.request.messages (new message {position})"
            if role not in _ROLES:
                yield where, f"the role {role!r:.60}; there are: {', '.join(_ROLES)}"
            elif role == "tool" and last not in ("assistant", "tool", None):
                yield where, f"a tool message after {last}; it follows the assistant message that called"
            elif role in ("system", "developer") and last in ("assistant", "tool"):
                yield where, f"a {role} message after {last}"
            last = role if isinstance(role, str) else None


@check("truncated_response", "warning", "finish reason length", _SFT)
def truncated_response(look: Look) -> Found:
    for path, call in look.calls:
        if was_cut(call.finish_reason):
            tokens = f" after {call.completion_tokens} tokens" if call.completion_tokens is not None else ""
            yield f"{path}.response", f"the answer was cut at the length limit{tokens}"


@check("empty_response", "warning", "no content and no tool call", _SFT)
def empty_response(look: Look) -> Found:
    for path, call in look.calls:
        where = f"{path}.response"
        if call.error is not None or call.dialect in _NO_TEXT:
            continue
        if not call.choices:
            if call.response is None:
                if not call.events and look.t.status != "running":
                    yield where, "a call without an answer, and no error says why"
            elif dialects.of(call).later(call.response) is None:
                yield where, "a response that holds no answer, and no error says why"
            continue
        choice = call.choices[0]
        content = choice.message.get("content")
        if choice.text.strip() or choice.tool_calls or as_text(content).strip():
            if dialects.is_decision(call) and call.response in ({}, []):
                yield where, f"an answer that is empty: {choice.text}"
        elif call.reasoning:
            yield where, "an answer of reasoning alone, without content and without a tool call"
        elif choice.text:
            yield where, "an answer of white space alone"
        elif not choice.token_ids or content is not None:
            yield where, "an answer without content and without a tool call"


#: Dialects whose answers are no text.
_NO_TEXT = ("openai.embeddings", "openai.images")


@check(
    "missing_field",
    "warning",
    "a call without model or user prompt; in a trajectory by hand an action that does not say if it worked",
)
def missing_field(look: Look) -> Found:
    for path, call in () if look.imported else look.calls:  # a source can't say more than it knows
        if call.purpose != "act" or call.dialect in _NO_TEXT:
            continue
        if not (call.model or look.t.model):
            yield f"{path}.model", "no model: it is not said who answered"
        if not _prompted(call):
            alone = " but a system prompt" if call.messages else ""
            yield f"{path}.request", f"no prompt{alone}: it is not said what the model was asked"
    for path, record in look.placed if look.by_hand else ():
        if isinstance(record, Action) and record.ok is None and record.error is None:
            yield f"{path}.ok", f"{record.name or 'an action'} does not say whether it worked; true or false was expected"


@check("prompt_unknown", "warning", "an imported call of which the source does not say what the model was asked", ("sft",))
def prompt_unknown(look: Look) -> Found:
    for path, call in look.calls if look.imported else ():
        if call.purpose == "act" and call.choices and call.dialect not in _NO_TEXT and not _prompted(call):
            yield f"{path}.request", "the source does not say what the model was asked: no row of text is made of this call"


def _prompted(call: Call) -> bool:
    """Whether it is known what a model was asked."""
    names = {"prompt", "previous_response_id", *dialects.resent(call.dialect).lists} - {"messages"}
    sent = call.sending
    if call.prompt_ids or (isinstance(sent, dict) and any(sent.get(name) for name in names)):
        return True
    return any(
        as_text(m.get("content")).strip() or m.get("tool_calls")
        for m in call.each_message()
        if m.get("role") not in ("system", "developer")
    )


@check("usage_mismatch", "warning", "usage that differs from the recorded token counts", ("rl",))
def usage_mismatch(look: Look) -> Found:
    for path, call in look.calls:
        ids = [c.token_ids for c in call.choices]
        if call.completion_tokens is not None and ids and all(i is not None for i in ids):
            count = sum(len(i) for i in ids if i is not None)
            if count != call.completion_tokens:
                yield f"{path}.usage", f"{call.completion_tokens} completion tokens are stated, {count} ids recorded"
        prompt = call.prompt_ids
        if prompt is not None and call.prompt_tokens is not None and len(prompt) != call.prompt_tokens:
            yield f"{path}.usage", f"{call.prompt_tokens} prompt tokens are stated, {len(prompt)} ids recorded"
