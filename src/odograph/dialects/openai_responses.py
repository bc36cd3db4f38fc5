"""OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

from typing import Any

from ..codec import encode
from ..errors import InvalidInput
from . import defaults
from . import framing as framings
from .content import chat_shaped, image_of, is_media, media, objects, text_of, words_of
from .deltas import Fields, Indexed, add, built
from .openai_chat import alternatives_of
from .shapes import Alternative, Choice, Items, Result, Tool, ToolCall
from .strict import is_strict

NAME = "openai.responses"
SHORT = "responses"
PATHS = ("/v1/responses", "/responses", "/responses/compact")
PURPOSES = {"/responses/compact": "compact"}
LISTS = ("input",)
VALUES = ("tools", "instructions", "text")
HISTORY = "input"
#: NeMo Gym's model servers put the ids and logprobs of a response on the last item of its output.
PROMPT_IDS = (("response", "output", -1, "prompt_token_ids"),)
ANSWER_IDS = (("response", "output", -1, "generation_token_ids"),)
_LAST = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_NOT_PARAMS = ("model", "input", "instructions", "tools")
_CALLS = (
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "computer_call",
)
#: Those that ask the agent to act where they have a `call_id`. Else the API ran the tool itself.
_OF_EITHER = ("tool_search_call", "web_search_call")


def messages(request: Any) -> list[dict[str, Any]]:
    """Instructions and input items, chat-shaped. Tool calls become assistant messages, their outputs tool messages."""
    if not isinstance(request, dict):
        return []
    out: list[dict[str, Any]] = []
    if isinstance(request.get("instructions"), str):
        out.append({"role": "system", "content": request["instructions"]})
    given = request.get("input")
    if isinstance(given, str):
        return [*out, {"role": "user", "content": given}]
    for item in given if isinstance(given, list) else []:
        if isinstance(item, dict):
            _append(out, item)
        else:
            out.append({"role": "user", "content": item})
    return out


def apart(was: Items, now: Items, at: int) -> int:
    """Before the calls there: they stand in the message of the assistant before them."""
    while at and any(at < len(items) and isinstance(items[at], dict) and _is_call(items[at]) for items in (was, now)):
        at -= 1
    return at


def _drawn(item: dict[str, Any]) -> dict[str, Any] | None:
    """The image that the model drew, if the item is one."""
    if item.get("type") != "image_generation_call" or not isinstance(item.get("result"), str):
        return None
    return media("image/png", item["result"])


def _append(out: list[dict[str, Any]], item: dict[str, Any]) -> None:
    kind = item.get("type", "message")
    if kind in ("message", "agent_message"):  # the latter is what another agent sent to this one: it has an author, and no role
        content = item.get("content")
        plain = isinstance(content, list) and all(words_of(p) is not None for p in content)
        out.append({"role": item.get("role") or "user", "content": text_of(content) if plain else content})
    elif _is_call(item):
        arguments = _arguments(item)
        call = {
            "id": item.get("call_id") or item.get("id"),
            "type": "function",
            "function": {"name": item.get("name") or str(kind).removesuffix("_call"), "arguments": arguments},
        }
        if out and out[-1]["role"] == "assistant":
            out[-1] = {**out[-1], "tool_calls": [*out[-1].get("tool_calls", []), call]}
        else:
            out.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif str(kind).endswith("_output"):
        told = item.get("output", item.get("tools"))  # of a search for tools: those that it found
        out.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": [told] if is_media(told) else told})
    elif drawn := _drawn(item):
        out.append({"role": "assistant", "content": [drawn]})
    elif kind == "reasoning":
        text = _summary(item)
        if text:
            out.append({"role": "assistant", "content": None, "reasoning_content": text})
    else:  # a call of the API's own tool is the model's, and so is a compaction, whose summary nobody else can read
        by_model = str(kind).endswith(("_call", "compaction", "compaction_summary"))
        out.append({"role": "assistant" if by_model else "user", "content": [item]})


def _is_call(item: dict[str, Any]) -> bool:
    """Whether an item asks the agent to act."""
    kind = item.get("type")
    return kind in _CALLS or (kind in _OF_EITHER and isinstance(item.get("call_id"), str))


def _arguments(item: dict[str, Any]) -> Any:
    return next((item[name] for name in ("arguments", "input", "action", "actions", "operation") if name in item), None)


def _summary(item: dict[str, Any]) -> str | None:
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [p.get("text") for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []
        found = [t for t in texts if isinstance(t, str)]
        if found:
            return "\n".join(found)
    return None


def params(request: Any) -> dict[str, Any]:
    """Everything but model, input, instructions and tools."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def tools(request: Any) -> list[Any]:
    """The tool schemas as they were sent."""
    found = request.get("tools") if isinstance(request, dict) else None
    return found if isinstance(found, list) else []


def is_response(response: Any) -> bool:
    """A body with `output` items; an agent's decision may have a field of that name, too."""
    found = response.get("output") if isinstance(response, dict) else None
    return isinstance(found, list) and all(isinstance(i, dict) and ("type" in i or "role" in i) for i in found)


def choices(response: Any) -> list[Choice]:
    """The one answer: its output items put together."""
    if not is_response(response):
        return []
    shaped: list[dict[str, Any]] = []
    reasoning: list[str] = []
    logprobs: list[float | None] = []
    texts: list[str] = []
    refusals: list[str] = []
    calls: list[ToolCall] = []
    for item in response["output"]:
        if not isinstance(item, dict):
            continue
        if item.get("type") == "reasoning":
            text = _summary(item)
            if text:
                reasoning.append(text)
            continue
        if item.get("type") == "message":
            texts.append(text_of(item.get("content")))
            for part in item["content"] if isinstance(item.get("content"), list) else []:
                if isinstance(part, dict) and isinstance(part.get("refusal"), str):
                    refusals.append(part["refusal"])
                found = part.get("logprobs") if isinstance(part, dict) else None
                logprobs += [p.get("logprob") if isinstance(p, dict) else None for p in found] if isinstance(found, list) else []
        elif _is_call(item):
            arguments = _arguments(item)
            name = item.get("name") or str(item["type"]).removesuffix("_call")
            calls.append(
                ToolCall(item.get("call_id") or item.get("id"), str(name), arguments, item["type"] == "custom_tool_call")
            )
        _append(shaped, {**item, "role": item.get("role") or "assistant"})
    last = response["output"][-1] if response["output"] and isinstance(response["output"][-1], dict) else {}
    said = "".join(texts)
    drawn = [image for item in objects(response["output"]) if (image := _drawn(item))]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": [*([{"type": "text", "text": said}] if said else []), *drawn] if drawn else said or None,
    }
    if calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls
        ]
    details, finish = response.get("incomplete_details"), response.get("status")
    if isinstance(details, dict) and isinstance(details.get("reason"), str):
        finish = "length" if details["reason"] == "max_output_tokens" else details["reason"]
    if refusals and not said:
        message["refusal"], finish = "".join(refusals), "refusal"
    return [
        Choice(
            message=message,
            text=said or "".join(refusals),
            reasoning="\n".join(reasoning) or None,
            tool_calls=calls,
            finish_reason=finish if isinstance(finish, str) else None,
            token_ids=last["generation_token_ids"] if isinstance(last.get("generation_token_ids"), list) else None,
            logprobs=logprobs or (last["generation_log_probs"] if isinstance(last.get("generation_log_probs"), list) else None),
        )
    ]


def alternatives(response: Any, index: int) -> list[list[Alternative]]:
    """`top_logprobs` of the parts of messages."""
    output = response.get("output") if isinstance(response, dict) else None
    parts = [part for item in objects(output) if item.get("type") == "message" for part in objects(item.get("content"))]
    return [one for part in parts for one in alternatives_of({"content": part.get("logprobs")})]


def later(response: Any) -> str | None:
    """The id of a response that is made in the background."""
    waits = isinstance(response, dict) and response.get("status") in ("queued", "in_progress")
    return response["id"] if waits and isinstance(response.get("id"), str) else None


def fetched(path: str) -> str | None:
    """`/responses/ID`, and `/responses/ID/cancel`, which answers with what there is."""
    before, _, id = path.removesuffix("/cancel").rpartition("/")
    return id if before.endswith("/responses") else None


def ending(stream: framings.Stream) -> tuple[bool, Any]:
    """The last event is one of three; the response in it says what went wrong."""
    last = stream.events[-1] if stream.events else None
    if isinstance(last, dict) and last.get("type") in _LAST:
        response = last.get("response")
        return True, response.get("error") if isinstance(response, dict) else None
    return defaults.ending(stream)


def framed(events: list[Any], whole: bool) -> bytes:
    """Each event is named."""
    return framings.as_sse(events, done=False, names=True)


#: Where the text of a delta belongs: a field of the item; or a field of one of its parts, and what says which part.
_DELTAS: dict[str, tuple[str, str | None, str | None]] = {
    "response.output_text.delta": ("text", "content", "output_text"),
    "response.refusal.delta": ("refusal", "content", "refusal"),
    "response.reasoning_text.delta": ("text", "content", "reasoning_text"),
    "response.reasoning_summary_text.delta": ("text", "summary", "summary_text"),
    "response.function_call_arguments.delta": ("arguments", None, "function_call"),
    "response.custom_tool_call_input.delta": ("input", None, "custom_tool_call"),
    "response.mcp_call_arguments.delta": ("arguments", None, "mcp_call"),
    "response.code_interpreter_call_code.delta": ("code", None, "code_interpreter_call"),
}
_PARTS = {
    "response.content_part.added": "content",
    "response.content_part.done": "content",
    "response.reasoning_summary_part.added": "summary",
    "response.reasoning_summary_part.done": "summary",
}


def assemble(events: list[Any]) -> Any:
    """The response that the last event carries; of a stream that was cut short, what its items said so far."""
    response: dict[str, Any] = {}
    output: dict[int, Fields] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        if isinstance(event.get("response"), dict):
            response = event["response"]
        kind, index = event.get("type"), event.get("output_index")
        if not isinstance(kind, str) or type(index) is not int:
            continue
        if kind in ("response.output_item.added", "response.output_item.done"):
            if isinstance(event.get("item"), dict):
                output[index] = Fields(event["item"])
        elif kind in _PARTS:
            if isinstance(event.get("part"), dict):
                _parts(output.setdefault(index, Fields(type="message")), _PARTS[kind])[_part_index(event)] = Fields(event["part"])
        elif kind in _DELTAS and isinstance(event.get("delta"), str):
            field, parts, made = _DELTAS[kind]
            if parts is None:
                add(output.setdefault(index, Fields(type=made)), field, event["delta"])
                continue
            item = output.setdefault(index, Fields(type="reasoning" if "reasoning" in kind else "message"))
            part = _parts(item, parts).setdefault(_part_index(event), Fields(type=made))
            add(part, field, event["delta"])
            if isinstance(event.get("logprobs"), list) and event["logprobs"]:
                add(part, "logprobs", event["logprobs"])
    if output and not response.get("output"):  # some backends leave it out of the last event, too
        response = {**response, "output": [built(output[index]) for index in sorted(output)]}
    return response or None


def _parts(item: Fields, name: str) -> Indexed:
    """The parts of an item that are being written."""
    parts = item.get(name)
    if not isinstance(parts, Indexed):
        known = [Fields(p) for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []
        parts = item[name] = Indexed(enumerate(known))
    return parts


def _part_index(event: dict[str, Any]) -> int:
    found = event.get("content_index", event.get("summary_index"))
    return found if type(found) is int else 0


def history(messages: list[dict[str, Any]]) -> list[Any]:
    """Input items: messages, function calls and their outputs."""
    out: list[Any] = []
    for message in chat_shaped(messages):
        role, content = message.get("role") or "user", message.get("content")
        if role == "tool":
            output = content if isinstance(content, str) else text_of(content)
            out.append({"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": output})
            continue
        if content:
            parts = [_own_part(role, p) for p in content] if isinstance(content, list) else content
            out.append({"role": role, "content": parts})
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") or {}
            arguments = function.get("arguments")
            arguments = arguments if isinstance(arguments, str) else encode(arguments).decode()
            asked = {"type": "function_call", "call_id": call.get("id"), "name": function.get("name"), "arguments": arguments}
            out.append(asked)
    return out


def _own_part(role: str, part: Any) -> Any:
    """A text or an image of chat completions in the words of this API; others as they are."""
    if isinstance(part, dict) and part.get("type") == "text":
        return {**part, "type": "output_text" if role == "assistant" else "input_text"}
    if isinstance(part, dict) and part.get("type") == "file" and isinstance(part.get("file"), dict):
        return {"type": "input_file", **part["file"]}
    image = image_of(part)
    if image is None:
        return part
    detail = part["image_url"].get("detail") if isinstance(part.get("image_url"), dict) else part.get("detail")
    return {"type": "input_image", "image_url": image["image_url"]["url"], **({"detail": detail} if detail else {})}


def request(
    model: str,
    system: str | None,
    history: list[Any],
    tools: list[Tool],
    params: dict[str, Any],
    schema: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body; the system prompt goes as `instructions`, the schema as `text.format`."""
    body: dict[str, Any] = {"model": model}
    if system is not None:
        body["instructions"] = system
    body["input"] = history
    if tools:
        body["tools"] = [
            {"type": "function", "name": t.name, "description": t.description, "parameters": t.parameters} for t in tools
        ]
    if schema is not None:
        held = {"strict": True} if is_strict(schema) else {}
        body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": schema, **held}}
    return body | params


def said(response: Any) -> list[Any]:
    """The output's items as they came: reasoning, messages, calls."""
    output = response.get("output") if isinstance(response, dict) else None
    return list(output) if isinstance(output, list) else []


def reworded(response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
    """A changed text is one message without the id of the generated message; calls stay in their places."""
    if reasoning is not None:
        raise InvalidInput("the Responses API takes back no changed reasoning; edit the channel 'content'")
    items, number, told = [], 0, text is None
    for item in said(response):
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "message" and text is not None:
            if not told:
                items.append(_written(text))
            told = True
            continue
        if kind in _CALLS:
            if not told:
                items.append(_written(text))
                told = True
            if number in calls and kind == "function_call":
                asked = calls[number].arguments
                arguments = asked if isinstance(asked, str) else encode(asked).decode()
                item = {**item, "name": calls[number].name, "arguments": arguments}
            number += 1
        items.append(item)
    if not told:
        items.append(_written(text))
    return {**response, "output": items} if isinstance(response, dict) else response


def _written(text: str | None) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}


def choosing(choice: str) -> dict[str, Any]:
    """`tool_choice`."""
    return {"tool_choice": choice if choice in ("auto", "required", "none") else {"type": "function", "name": choice}}


def results(results: list[Result]) -> list[Any]:
    """An output item each, of text, or of text and images."""
    return [{"type": "function_call_output", "call_id": r.tool_call_id, "output": _output(r)} for r in results]


def _output(result: Result) -> Any:
    if not result.images:
        return result.content
    images = [{"type": "input_image", "image_url": part["image_url"]["url"]} for part in result.images]
    return [{"type": "input_text", "text": result.content}, *images]


def delta(event: Any) -> str:
    """What `response.output_text.delta` brings."""
    if isinstance(event, dict) and event.get("type") == "response.output_text.delta" and isinstance(event.get("delta"), str):
        return str(event["delta"])
    return ""
