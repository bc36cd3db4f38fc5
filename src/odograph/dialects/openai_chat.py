"""OpenAI chat completions, as OpenAI, vLLM, SGLang, llama.cpp and others speak it.

Source: https://platform.openai.com/docs/api-reference/chat; vLLM adds `prompt_token_ids` and `choices[].token_ids`.
A response that a caller gave by hand may also be plain text or one message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..codec import encode, loads
from ..errors import InvalidInput
from .content import alternatives_in, as_text, chat_shaped, is_part, objects
from .defaults import usage
from .deltas import Fields, Items, add, assembled, built, merge, replace
from .shapes import Alternative, Choice, Path, Tool, ToolCall
from .strict import is_strict

__all__ = ["assemble", "choices", "messages", "usage"]

NAME = "openai.chat"
SHORT = "chat"
PATHS = ("/v1/chat/completions", "/chat/completions")
LISTS = ("messages",)
VALUES = ("tools", "response_format")
PROMPT_IDS: tuple[Path, ...] = (
    ("response", "prompt_token_ids"),  # vLLM
    ("response", "choices", 0, "prompt_token_ids"),  # SGLang
    ("response", "sglext", "input_ids"),  # SGLang, also of a stream
)
ANSWER_IDS: tuple[Path, ...] = (("response", "choices", 0, "token_ids"), ("response", "sglext", "output_ids", 0))
STREAMING = {"stream": True, "stream_options": {"include_usage": True}}
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


def asking_tokens(streams: bool) -> dict[str, Any]:
    """The fields that vLLM knows; beside, but not for a stream, those of SGLang, which refuses them there."""
    fields: dict[str, Any] = {"return_token_ids": True, "logprobs": True}
    return fields if streams else fields | {"return_prompt_token_ids": True, "return_meta_info": True}


#: What the fields of `asking_tokens` bring, in a body or in its choices.
_BROUGHT = {
    "return_token_ids": ("prompt_token_ids", "token_ids", "sglext"),
    "return_prompt_token_ids": ("prompt_token_ids",),
    "return_meta_info": ("meta_info",),
}


def unasked(value: Any, asked: dict[str, Any]) -> Any:
    """Ids are taken out; logprobs are null, as where nobody asks for them."""
    found = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(found, list):
        return value
    brought = {name for field in asked for name in _BROUGHT.get(field, ())}
    both = "return_prompt_token_ids" in asked or value.get("object") == "chat.completion.chunk"
    if "return_token_ids" not in asked or not both:  # the agent asked for the prompt's ids itself, by one of the two fields
        brought.discard("prompt_token_ids")

    def without(part: dict[str, Any]) -> dict[str, Any]:
        return {
            name: None if name == "logprobs" and "logprobs" in asked else field
            for name, field in part.items()
            if name not in brought
        }

    return without(value) | {"choices": [without(c) if isinstance(c, dict) else c for c in found]}


def is_response(response: Any) -> bool:
    """A body with `choices`; an agent's decision may have a field of that name, too."""
    found = response.get("choices") if isinstance(response, dict) else None
    return isinstance(found, list) and all(isinstance(c, dict) and any(n in c for n in _OF_CHOICE) for c in found)


def choices(response: Any) -> list[Choice]:
    """All choices of a body; of a text or a single message given by hand, the one."""
    if isinstance(response, str):
        return [_choice({"role": "assistant", "content": response}, {}, 0)]
    if not isinstance(response, dict):
        return []
    if not is_response(response):
        return [_choice(response, {}, 0)] if _is_message(response) else []
    found = response["choices"]
    out: list[Choice] = []
    beside = response.get("sglext")  # SGLang: the ids of all choices, beside them
    apart = beside.get("output_ids") if isinstance(beside, dict) else None
    apart = apart if isinstance(apart, list) else []
    for position, choice in enumerate(found):
        message = choice.get("message")
        if not isinstance(message, dict):
            message = {"role": "assistant", "content": choice.get("text")}
        index = choice.get("index")
        index = index if isinstance(index, int) else position
        out.append(_choice(message, choice, index, apart[index] if 0 <= index < len(apart) else None))
    return out


_OF_CHOICE = ("message", "text", "delta", "finish_reason", "index", "token_ids")
#: What a message may have beside its content.
_BESIDE = ("role", "content", "name", "id", "type", "tool_calls", "function_call", "refusal", "reasoning", "reasoning_content",
           "reasoning_details", "thinking", "audio", "annotations", "usage", "model", "finish_reason", "stop_reason")  # fmt: skip


def _is_message(given: dict[str, Any]) -> bool:
    """Whether an object is one message. An agent's decision may have a field `content` or `role`, too, beside its own."""
    if isinstance(given.get("tool_calls"), list):
        return True
    if given.get("role") in ("assistant", "model", "ai"):
        return len(given) == 1 or any(name in given for name in _BESIDE[1:])
    return "content" in given and all(name in _BESIDE for name in given)


def _choice(message: dict[str, Any], choice: dict[str, Any], index: int, apart: Any = None) -> Choice:
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
    ids, logprobs = choice.get("token_ids", apart), logprobs_of(choice.get("logprobs"))
    about = choice.get("meta_info")
    pairs = about.get("output_token_logprobs") if isinstance(about, dict) else None  # SGLang: [logprob, id, text] each
    if not isinstance(ids, list) and isinstance(pairs, list) and all(isinstance(p, list) and len(p) > 1 for p in pairs):
        ids, logprobs = [p[1] for p in pairs], [p[0] for p in pairs]
    finish = choice.get("finish_reason")
    content = message.get("content")
    if not (content is None or isinstance(content, str)) and not (isinstance(content, list) and all(map(is_part, content))):
        message = {**message, "content": as_text(content)}
    audio = message.get("audio")
    refusal = message.get("refusal")
    spoken = [refusal, audio.get("transcript") if isinstance(audio, dict) else None]
    if isinstance(refusal, str) and refusal and not content and finish == "stop":
        finish = "refusal"  # as Anthropic's API has it
    return Choice(
        index=index,
        message=message,
        text=as_text(content) or next((s for s in spoken if isinstance(s, str)), ""),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        tool_calls=calls,
        finish_reason=finish if isinstance(finish, str) else None,
        token_ids=ids if isinstance(ids, list) else None,
        logprobs=logprobs,
    )


def logprobs_of(found: Any) -> list[float | None] | None:
    """The logprobs of tokens, one each, as chat completions or as completions hold them."""
    content = found.get("content") if isinstance(found, dict) else None
    if isinstance(content, list):
        return [c.get("logprob") if isinstance(c, dict) else None for c in content]
    plain = found.get("token_logprobs") if isinstance(found, dict) else None
    return plain if isinstance(plain, list) else None


def alternatives(response: Any, index: int) -> list[list[Alternative]]:
    """`top_logprobs`, as chat completions and completions have them."""
    found = response.get("choices") if isinstance(response, dict) else None
    for n, choice in enumerate(found if isinstance(found, list) else []):
        if isinstance(choice, dict) and choice.get("index", n) == index:
            return alternatives_of(choice.get("logprobs"))
    return []


def alternatives_of(found: Any) -> list[list[Alternative]]:
    """The alternatives of each token in the logprobs of an answer: a list of objects, or an object from texts to logprobs."""
    content = found.get("content") if isinstance(found, dict) else None
    if isinstance(content, list):
        tops = [[(t.get("token"), t.get("logprob")) for t in objects(c.get("top_logprobs"))] for c in objects(content)]
    else:
        plain = found.get("top_logprobs") if isinstance(found, dict) else None
        tops = [list(t.items()) if isinstance(t, dict) else [] for t in (plain if isinstance(plain, list) else [])]
    return [alternatives_in(top) for top in tops]


class Assembly:
    """The body of the same call without streaming: text, tool calls, logprobs and ids put together, unknown fields kept."""

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._choices: dict[int, Fields] = {}
        self._chosen = False

    def add(self, events: Iterable[Any]) -> None:
        """Takes the next events in, and changes none of them."""
        body, choices = self._body, self._choices
        for event in events:
            if not isinstance(event, dict):
                continue
            if None in event.values():
                replace(body, event, "choices", "obfuscation")
            else:
                body |= event
            found = event.get("choices")
            if not isinstance(found, list):
                continue
            self._chosen = True
            for position, choice in enumerate(found):
                if isinstance(choice, dict):
                    index = choice.get("index")
                    index = index if type(index) is int else position
                    into = choices.get(index)
                    if into is None:
                        into = choices[index] = Fields(index=index)
                    _merge_choice(into, choice)

    def body(self) -> Any:
        """What the events so far come to."""
        body = {name: value for name, value in self._body.items() if name not in ("obfuscation", "choices")}  # padding of streams
        if self._chosen:
            body["choices"] = [built(self._choices[index]) for index in sorted(self._choices)]
        if body.get("object") == "chat.completion.chunk":
            body["object"] = "chat.completion"
        return body or None


assembly = Assembly


def assemble(events: Iterable[Any]) -> Any:
    """`assembly`, of all events."""
    return assembled(assembly(), events)


_GROWING = frozenset(("token_ids", "logprobs", "text"))
_APART = frozenset(("index", "delta"))


def _merge_choice(into: Fields, choice: dict[str, Any]) -> None:
    for name, value in choice.items():
        if name in _GROWING:
            add(into, name, value)
        elif name not in _APART and (value is not None or name not in into):
            into[name] = value
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
        call = places.get(index)
        if call is None or _begins(part, call):
            call = places[index] = Fields()
            calls.append(call)
        _continue(call, part)


def _begins(part: dict[str, Any], call: Fields) -> bool:
    """Whether a part is of another call than the one of its number: some backends number every call 0, and some give no ids."""
    id, old = part.get("id"), call.get("id")
    if id and old:
        return bool(id != old)
    function, before = part.get("function"), built(call.get("function"))
    if not (isinstance(function, dict) and function.get("name") and isinstance(before, dict) and before.get("name")):
        return False
    try:  # a whole call stands there, and another name comes
        return isinstance(loads(before.get("arguments") or ""), dict)
    except (InvalidInput, TypeError):
        return False


def _continue(call: Fields, part: dict[str, Any]) -> None:
    """Takes a part in; a name may come in pieces, or be repeated."""
    old = call.get("function")
    name = old.get("name") if isinstance(old, Fields) else None
    merge(call, {name: value for name, value in part.items() if name != "index"})
    function = part.get("function")
    more = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str) and isinstance(more, str) and more and more != name:
        call["function"]["name"] = name + more


class _Calls(Items):
    """Tool calls in the order of their beginning; `places`: by the index that deltas continue them by."""

    def __init__(self, calls: list[Any]) -> None:
        super().__init__(calls)
        self.places: dict[int, Fields] = {}


def history(messages: list[dict[str, Any]]) -> list[Any]:
    """The messages as they are, but for arguments of tools, which are JSON text here, and parts of other dialects."""
    out: list[Any] = []
    for message in chat_shaped(messages):
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message = {**message, "tool_calls": [_with_text(call) for call in calls]}
        out.append(message)
    return out


def _with_text(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": encode(function.get("arguments") or {}).decode()}}


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
        held = {"strict": True} if is_strict(schema) else {}
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **held}}
    return body | params


def said(response: Any) -> list[Any]:
    """The first choice's message; fields that are null or empty are left out, as backends refuse what others answer."""
    found = choices(response)
    if not found:
        return []
    (message,) = history([found[0].message])
    return [{"role": "assistant", "content": None} | {k: v for k, v in message.items() if v not in (None, [])}]


def delta(event: Any) -> str:
    """`delta.content` of the first choice."""
    found = event.get("choices") if isinstance(event, dict) else None
    for choice in found if isinstance(found, list) else []:
        part = choice.get("delta") if isinstance(choice, dict) and not choice.get("index") else None
        if isinstance(part, dict) and isinstance(part.get("content"), str):
            return str(part["content"])
    return ""
