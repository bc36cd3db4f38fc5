"""Gemini's generateContent, on Google's AI Studio and on Vertex AI.

Source: https://ai.google.dev/api/generate-content and the types of the package google-genai. The model stands in the URL. A
stream is server-sent events (`alt=sse`) or one JSON array that grows; each event holds what is new of the candidates. Tool calls
may have no ids: they get their place among the calls of the request, `name-0`, and results the place of the call of their name.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from ..codec import loads
from ..errors import InvalidInput
from . import defaults
from . import framing as framings
from .content import alternatives_in, chat_shaped, data_of, media, objects, text_of
from .shapes import Alternative, Choice, Items, Result, Tool, ToolCall, Usage

NAME = "gemini"
SHORT = "google"
PATHS = (":generateContent", ":streamGenerateContent")
BASE_URL = "https://generativelanguage.googleapis.com"
BASE_URL_VARIABLE = "GOOGLE_GEMINI_BASE_URL"
KEY_VARIABLE = "GEMINI_API_KEY"
LISTS = ("contents",)
VALUES = ("systemInstruction", "system_instruction", "tools")
HISTORY = "contents"
_SYSTEM = ("systemInstruction", "system_instruction")
_NOT_PARAMS = ("model", "contents", "tools", *_SYSTEM)
_MODEL = re.compile(r"/([^/:]+):(?:generateContent|streamGenerateContent)$")
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
_REFUSED = (
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "MODEL_ARMOR",
)
#: The fields of its requests that hold sampling parameters.
_CONFIG = ("generationConfig", "generation_config")


def model(path: str, request: Any) -> str | None:
    """The model in the path."""
    found = _MODEL.search(path)
    return unquote(found[1]) if found else defaults.model(path, request)


def streams(path: str, request: Any) -> bool:
    """By the path."""
    return path.endswith(":streamGenerateContent")


def headers(key: str) -> dict[str, str]:
    """The key."""
    return {"x-goog-api-key": key}


def outgoing(body: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
    """The model and whether it is a stream go into the path."""
    end = ":streamGenerateContent?alt=sse" if body.get("stream") else ":generateContent"
    name = model if "/" in model else f"models/{model}"
    return f"/v1beta/{name}{end}", {k: v for k, v in body.items() if k not in ("stream", "model")}


def _get(value: Any, *names: str) -> Any:
    """A field by its name in either style: the API takes both."""
    return next((value[n] for n in names if n in value), None) if isinstance(value, dict) else None


def _parts(content: Any) -> list[Any]:
    found = content.get("parts") if isinstance(content, dict) else content
    parts = found if isinstance(found, list) else [found] if isinstance(found, (dict, str)) else []
    return [{"text": p} if isinstance(p, str) else p for p in parts]


def messages(request: Any) -> list[dict[str, Any]]:
    """System instruction and contents, chat-shaped: function calls as tool calls, function responses as tool messages."""
    if not isinstance(request, dict):
        return []
    out: list[dict[str, Any]] = []
    system = _get(request, *_SYSTEM)
    if system:
        out.append({"role": "system", "content": text_of(_parts(system)) or system})
    found = request.get("contents")
    waiting: list[_Waiting] = []
    for content in found if isinstance(found, list) else [] if found is None else [found]:
        out += _shaped(content, waiting)
    return out


def apart(was: Items, now: Items, at: int) -> int:
    """There, where each result says which call from there on it is of; else nowhere: it is of the first of its name."""
    parts = [part for content in (*was[at:], *now[at:]) for part in _parts(content)]
    calls = [call.get("id") for part in parts if isinstance(call := _get(part, "functionCall", "function_call"), dict)]
    asked = {id for id in calls if isinstance(id, str) and id}
    results = (_get(part, "functionResponse", "function_response") for part in parts)
    return at if all(isinstance(id := r.get("id"), str) and id in asked for r in results if isinstance(r, dict)) else 0


#: A call that has no result yet: its name, its id, and whether that is its own.
_Waiting = tuple[str, str, bool]


def _shaped(content: Any, waiting: list[_Waiting]) -> list[dict[str, Any]]:
    """A content as messages. `waiting`: the calls before it that have no result yet."""
    role = content.get("role") if isinstance(content, dict) else None
    role = "assistant" if role == "model" else "user"
    results: list[dict[str, Any]] = []
    rest: list[Any] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in _parts(content):
        call, result = _get(part, "functionCall", "function_call"), _get(part, "functionResponse", "function_response")
        if isinstance(call, dict):
            given = call.get("id")
            own, name = isinstance(given, str) and bool(given), call.get("name")
            id = str(given) if own else f"{name}-{len(calls)}"
            waiting.append((str(name), id, own))
            calls.append({"id": id, "type": "function", "function": {"name": name, "arguments": call.get("args") or {}}})
        elif isinstance(result, dict):
            results.append({"role": "tool", "tool_call_id": _asked_by(result, waiting), "content": result.get("response")})
        elif isinstance(part, dict) and part.get("thought"):
            thoughts += [part["text"]] if isinstance(part.get("text"), str) else []
        elif not (isinstance(part, dict) and set(part) <= {"thoughtSignature", "thought_signature"}):
            rest.append(_media(part))
    if not (rest or calls or thoughts) and results:
        return results
    plain = all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in rest)
    message: dict[str, Any] = {"role": role, "content": text_of(rest) if plain and rest else rest or None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return [*results, message]


def _media(part: Any) -> Any:
    """A part with bytes, or with a file's place, as chat completions have it; others as they are."""
    held, file = _get(part, "inlineData", "inline_data"), _get(part, "fileData", "file_data")
    if isinstance(held, dict) and isinstance(held.get("data"), str):
        return media(_get(held, "mimeType", "mime_type"), held["data"])
    if isinstance(file, dict):
        return media(_get(file, "mimeType", "mime_type"), url=_get(file, "fileUri", "file_uri"))
    return part


def _asked_by(result: dict[str, Any], waiting: list[_Waiting]) -> str | None:
    """The id of the call that a result is of: of its own id, else the first of its name that waits. A result with an id is of no
    call that has another one; Gemini CLI's sub-agents give ids to results alone."""
    given, name = result.get("id"), result.get("name")
    found = [place for place, (_, id, _) in enumerate(waiting) if id == given]
    found += [place for place, (asked, _, own) in enumerate(waiting) if asked == name and not (given and own)]
    if found:
        return waiting.pop(found[0])[1]
    return given if isinstance(given, str) else None


def params(request: Any) -> dict[str, Any]:
    """Everything but contents, system instruction and tools; what the generation's configuration holds stands by itself."""
    if not isinstance(request, dict):
        return {}
    out = {k: v for k, v in request.items() if k not in (*_NOT_PARAMS, *_CONFIG)}
    config = _get(request, *_CONFIG)
    return out | (config if isinstance(config, dict) else {})


def tools(request: Any) -> list[Any]:
    """The declared functions as chat completions declare them; other tools as they were sent."""
    out: list[Any] = []
    found = request.get("tools") if isinstance(request, dict) else None
    for tool in found if isinstance(found, list) else []:
        declared = _get(tool, "functionDeclarations", "function_declarations")
        if not isinstance(declared, list):
            out.append(tool)
            continue
        for one in declared:
            if isinstance(one, dict):
                schema = _get(one, "parametersJsonSchema", "parameters_json_schema", "parameters")
                function = {"name": one.get("name"), "description": one.get("description") or "", "parameters": schema or {}}
                out.append({"type": "function", "function": function})
    return out


def is_response(response: Any) -> bool:
    """A body with candidates, or one that says why it has none."""
    if not isinstance(response, dict):
        return False
    return isinstance(response.get("candidates"), list) or isinstance(_get(response, "promptFeedback"), dict)


def choices(response: Any) -> list[Choice]:
    """All candidates; of a prompt that was blocked, one that says so."""
    if not isinstance(response, dict):
        return []
    found = response.get("candidates")
    out = [_choice(c, n) for n, c in enumerate(found if isinstance(found, list) else []) if isinstance(c, dict)]
    feedback = _get(response, "promptFeedback")
    if not out and isinstance(feedback, dict) and feedback.get("blockReason"):
        out = [Choice(message={"role": "assistant", "content": None}, finish_reason="content_filter")]
    return out


def _choice(candidate: dict[str, Any], position: int) -> Choice:
    (message,) = [m for m in _shaped({**_content(candidate), "role": "model"}, []) if m["role"] == "assistant"] or [
        {"role": "assistant", "content": None}
    ]
    calls = [
        ToolCall(c["id"], str(c["function"]["name"] or ""), c["function"]["arguments"]) for c in message.get("tool_calls", [])
    ]
    reason, index = candidate.get("finishReason"), candidate.get("index")
    reason = reason if isinstance(reason, str) else None
    chosen = _get(candidate.get("logprobsResult"), "chosenCandidates")
    chosen = [c for c in chosen if isinstance(c, dict)] if isinstance(chosen, list) else []
    ids = [c.get("tokenId") for c in chosen]
    return Choice(
        index=index if type(index) is int else position,
        message=message,
        text=text_of([p for p in _parts(_content(candidate)) if not (isinstance(p, dict) and p.get("thought"))]),
        reasoning=message.get("reasoning_content"),
        tool_calls=calls,
        finish_reason="content_filter" if reason in _REFUSED else _FINISH.get(reason, reason) if reason else None,
        token_ids=ids if ids and all(type(i) is int for i in ids) else None,
        logprobs=[c.get("logProbability") for c in chosen] or None,
    )


def _content(candidate: dict[str, Any]) -> dict[str, Any]:
    found = candidate.get("content")
    return found if isinstance(found, dict) else {"parts": []}


def alternatives(response: Any, index: int) -> list[list[Alternative]]:
    """`logprobsResult.topCandidates`."""
    for n, candidate in enumerate(objects(_get(response, "candidates"))):
        if candidate.get("index", n) == index:
            places = objects(_get(candidate.get("logprobsResult"), "topCandidates"))
            return [
                alternatives_in([(one.get("token"), one.get("logProbability")) for one in objects(place.get("candidates"))])
                for place in places
            ]
    return []


def stated(response: Any) -> Any:
    """`usageMetadata`."""
    return _get(response, "usageMetadata")


def usage(usage: Any) -> Usage:
    """Prompt tokens (cached ones are among them) with those of tools' results; what was thought counts as completed."""
    if not isinstance(usage, dict):
        return Usage()

    def total(*names: str) -> int | None:
        found = [usage[n] for n in names if type(usage.get(n)) is int]
        return sum(found) if found else None

    return Usage(
        prompt=total("promptTokenCount", "toolUsePromptTokenCount"),
        completion=total("candidatesTokenCount", "thoughtsTokenCount"),
    )


# --- streams -----------------------------------------------------------------------------------------------------------------


def framing(kind: str, path: str) -> framings.Stream | None:
    """Server-sent events, or an array that grows."""
    streams = path.endswith(":streamGenerateContent") and kind.lower().startswith("application/json")
    return framings.JSONArray() if streams else framings.of_type(kind)


def ending(stream: framings.Stream) -> tuple[bool, Any]:
    """Nothing but an error ends it before its bytes end; an error may be an array of one."""
    last = stream.events[-1] if stream.events else None
    wrong = last.get("error") if isinstance(last, dict) else None
    return (True, wrong) if wrong else (False, None)


def assemble(events: list[Any]) -> Any:
    """One body: the parts of each candidate in their order, texts that follow each other as one; the last usage and reason."""
    body: dict[str, Any] = {}
    held: dict[int, dict[str, Any]] = {}
    parts: dict[int, list[Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        body |= {k: v for k, v in event.items() if k != "candidates" and v is not None}
        found = event.get("candidates")
        for position, candidate in enumerate(found if isinstance(found, list) else []):
            if isinstance(candidate, dict):
                index = candidate.get("index")
                index = index if type(index) is int else position
                held.setdefault(index, {}).update({k: v for k, v in candidate.items() if k != "content" and v is not None})
                content = _content(candidate)
                parts.setdefault(index, []).extend(_parts(content))
                if isinstance(content.get("role"), str):
                    held[index]["content"] = {"role": content["role"]}
    for index, candidate in held.items():
        role = candidate.get("content", {}).get("role", "model")
        held[index] = {"content": {"parts": _joined(parts.get(index, [])), "role": role}} | {
            k: v for k, v in candidate.items() if k != "content"
        }
    if held:
        body["candidates"] = [held[index] for index in sorted(held)]
    return body or None


def _joined(parts: list[Any]) -> list[Any]:
    """Parts with texts that follow each other put together; a signature stands with the text that it ends."""
    runs: list[tuple[Any, list[str]]] = []
    for part in parts:
        if _is_text(part) and runs and _is_text(runs[-1][0]) and runs[-1][0].get("thought") == part.get("thought"):
            if not (runs[-1][0].keys() & {"thoughtSignature"}):
                before, texts = runs[-1]
                texts.append(part["text"])
                runs[-1] = ({**before, **part}, texts)
                continue
        runs.append((part, [part["text"]] if _is_text(part) else []))
    return [{**part, "text": "".join(texts)} if texts else part for part, texts in runs]


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str) and set(part) <= {"text", "thought", "thoughtSignature"}


def delta(event: Any) -> str:
    """The text of the first candidate, without what it thought."""
    found = event.get("candidates") if isinstance(event, dict) else None
    for candidate in found if isinstance(found, list) else []:
        if isinstance(candidate, dict) and not candidate.get("index"):
            return text_of([p for p in _parts(_content(candidate)) if not (isinstance(p, dict) and p.get("thought"))])
    return ""


def framed(events: list[Any], whole: bool) -> bytes:
    """Server-sent events without names."""
    return framings.as_sse(events, done=False, names=False)


# --- the other direction -------------------------------------------------------------------------------------------------------


def history(messages: list[dict[str, Any]]) -> list[Any]:
    """Contents; results of tools that follow each other go into one content of the user."""
    out: list[Any] = []
    names: dict[Any, Any] = {}
    for message in chat_shaped(messages):
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            result = _response(names.get(message.get("tool_call_id")), message.get("tool_call_id"), content, ok=True)
            if out and out[-1]["role"] == "user" and "functionResponse" in out[-1]["parts"][-1]:
                out[-1] = {"role": "user", "parts": [*out[-1]["parts"], result]}
            else:
                out.append({"role": "user", "parts": [result]})
            continue
        parts = _own_parts(content)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") or {}
            names[call.get("id")] = function.get("name")
            asked = {"name": function.get("name"), "args": _arguments(function.get("arguments"))}
            parts.append({"functionCall": asked | ({"id": call["id"]} if call.get("id") else {})})
        if parts:
            out.append({"role": "model" if role == "assistant" else "user", "parts": parts})
    return out


def _arguments(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            given = loads(given)
        except InvalidInput:
            given = None
    return given if isinstance(given, dict) else {}


def _response(name: Any, id: Any, content: Any, ok: bool) -> dict[str, Any]:
    told = content if isinstance(content, dict) else {"output" if ok else "error": content}
    return {"functionResponse": {"name": name or "unknown", "response": told} | ({"id": id} if id else {})}


def _own_parts(content: Any) -> list[Any]:
    """Content of a chat message; images, audio and files become parts of their own."""
    if not isinstance(content, list):
        return [{"text": content}] if isinstance(content, str) and content else []
    out: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        held = part.get(kind) if kind in ("image_url", "audio_url", "video_url", "input_audio", "file") else None
        held = held if isinstance(held, dict) else {}
        url = held.get("url") or held.get("file_data") or held.get("file_url")
        if kind == "input_audio" and isinstance(held.get("data"), str):
            out.append({"inlineData": {"mimeType": f"audio/{held.get('format')}", "data": held["data"]}})
        elif isinstance(url, str) and url.startswith("data:"):
            mime, _, data = url[5:].partition(";base64,")
            out.append({"inlineData": {"mimeType": mime, "data": data}})
        elif isinstance(url, str):
            out.append({"fileData": {"fileUri": url}})
        elif isinstance(part, dict):
            out.append({"text": part["text"]} if part.get("type") == "text" else part)
        else:
            out.append({"text": str(part)})
    return out


def request(
    model: str,
    system: str | None,
    history: list[Any],
    tools: list[Tool],
    params: dict[str, Any],
    schema: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body; parameters and the schema go into `generationConfig`, those that are fields of the request beside it."""
    beside = ("stream", "safetySettings", "toolConfig", "cachedContent", "labels", *_CONFIG)
    body: dict[str, Any] = {"contents": history}
    if system is not None:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if tools:
        declared = [{"name": t.name, "description": t.description, "parametersJsonSchema": t.parameters} for t in tools]
        body["tools"] = [{"functionDeclarations": declared}]
    config: dict[str, Any] = {k: v for k, v in params.items() if k not in beside}
    if schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
    given = _get(params, *_CONFIG)
    config |= given if isinstance(given, dict) else {}
    return body | ({"generationConfig": config} if config else {}) | {k: v for k, v in params.items() if k in beside[:-2]}


def said(response: Any) -> list[Any]:
    """The first candidate's content as it came, with its signatures."""
    found = response.get("candidates") if isinstance(response, dict) else None
    first = found[0] if isinstance(found, list) and found else None
    content = _content(first) if isinstance(first, dict) else {"parts": []}
    return [content] if _parts(content) else []


def reworded(response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
    """A changed text is one part, ahead of the calls; thoughts and signatures stay."""
    if reasoning is not None:
        raise InvalidInput("Gemini takes back no changed thoughts; edit the channel 'content'")
    found = response.get("candidates") if isinstance(response, dict) else None
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict):
        return response
    content = _content(first)
    parts: list[Any] = []
    number, told = 0, text is None
    for part in _parts(content):
        call = _get(part, "functionCall")
        is_text = isinstance(part, dict) and isinstance(part.get("text"), str) and not part.get("thought")
        if (is_text or isinstance(call, dict)) and not told:
            parts.append({"text": text})
            told = True
        if is_text and text is not None:
            continue
        if isinstance(call, dict):
            if number in calls:
                new = calls[number]
                part = {**part, "functionCall": {**call, "name": new.name, "args": _arguments(new.arguments)}}
            number += 1
        parts.append(part)
    if not told:
        parts.append({"text": text})
    rest = found[1:] if isinstance(found, list) else []
    return {**response, "candidates": [{**first, "content": {**content, "parts": parts}}, *rest]}


def choosing(choice: str) -> dict[str, Any]:
    """`toolConfig.functionCallingConfig`."""
    words = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
    named = {"mode": "ANY", "allowedFunctionNames": [choice]}
    return {"toolConfig": {"functionCallingConfig": {"mode": words[choice]} if choice in words else named}}


def results(results: list[Result]) -> list[Any]:
    """One content of the user with a part each."""
    parts = [
        _response(r.name, None if r.tool_call_id == f"{r.name}-{n}" else r.tool_call_id, r.content, r.ok)
        for n, r in enumerate(results)
    ]
    found = [data for r in results for image in r.images if (data := data_of(image)) is not None]
    parts += [{"inlineData": {"mimeType": kind, "data": data}} for kind, data in found]
    return [{"role": "user", "parts": parts}] if parts else []
