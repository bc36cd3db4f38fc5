"""InvokeModel of Amazon Bedrock: each maker's own request and answer, at one path.

Claude by its own name is `anthropic.messages`. Here is every other model, and Claude behind the ARN of an inference
profile, which hides the maker. The views read a body by its looks: as Anthropic's, as Converse (Nova), as chat completions, or as
the fields of Titan, Llama, Mistral and Cohere.
Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from urllib.parse import unquote

from ..codec import encode
from . import anthropic_messages, bedrock_converse, defaults, openai_chat
from . import framing as framings
from .content import objects
from .deltas import Fields, add, built, replace
from .shapes import Choice, Usage

NAME = "bedrock.invoke"
PATHS = ("/invoke", "/invoke-with-response-stream")
PURPOSES = {"embed[^/]*/invoke": "embed", "(image|canvas|stability|stable)[^/]*/invoke": "image", "rerank[^/]*/invoke": "rerank"}
LISTS = ("messages",)
VALUES = ("system", "tools")
_PATH = re.compile(r"/model/([^/]+)/invoke(?:-with-response-stream)?$")
#: The fields of a prompt, and of an answer's text; and the lists in which an answer's texts stand.
_PROMPTS, _TEXTS = ("prompt", "inputText", "message", "text"), ("outputText", "generation", "text", "completion")
_LISTS = ("results", "outputs", "generations")
_REASONS = ("completionReason", "stop_reason", "finish_reason")
_COUNTS = (
    ("prompt_token_count", "generation_token_count"),
    ("inputTokenCount", "outputTokenCount"),
    ("inputTextTokenCount", "tokenCount"),
)
_METRICS = "amazon-bedrock-invocationMetrics"


def speaks(path: str) -> bool:
    """`/model/ID/invoke`, or with `-with-response-stream`, of what is not Claude by its name."""
    return _PATH.search(path) is not None and not anthropic_messages.speaks(path)


def model(path: str, request: Any) -> str | None:
    """The model in the path."""
    found = _PATH.search(path)
    return unquote(found[1]) if found else None


def streams(path: str, request: Any) -> bool:
    """By the path."""
    return path.endswith("-stream")


def _as(request: Any) -> Any:
    """The dialect that a request with messages looks like; None for a request of another shape."""
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        return None
    if "anthropic_version" in request:
        return anthropic_messages
    return bedrock_converse if "inferenceConfig" in request or "schemaVersion" in request else openai_chat


def messages(request: Any) -> list[dict[str, Any]]:
    """The messages, chat-shaped; a prompt is a message of the user."""
    alike = _as(request)
    if alike is not None:
        found: list[dict[str, Any]] = alike.messages(request)
        return found
    given = [request.get(name) for name in _PROMPTS] if isinstance(request, dict) else []
    return [{"role": "user", "content": text} for text in given if isinstance(text, str)][:1]


def tools(request: Any) -> list[Any]:
    """The tools as they were sent."""
    found: list[Any] = (_as(request) or openai_chat).tools(request)
    return found


def params(request: Any) -> dict[str, Any]:
    """Everything but messages or prompt, system prompt and tools."""
    if not isinstance(request, dict):
        return {}
    return {k: v for k, v in request.items() if k not in (*_PROMPTS, "messages", "system", "tools", "toolConfig")}


def choices(response: Any) -> list[Choice]:
    """The answers, by the looks of the body."""
    for alike in (anthropic_messages, bedrock_converse):
        if alike.is_response(response):
            answers: list[Choice] = alike.choices(response)
            return answers
    if not isinstance(response, dict):
        return []
    if isinstance(response.get("choices"), list):
        return openai_chat.choices(response)
    several = next((found for name in _LISTS if (found := objects(response.get(name)))), [response])
    return [choice for number, one in enumerate(several) if (choice := _choice(number, one)) is not None]


def _choice(number: int, one: dict[str, Any]) -> Choice | None:
    text = next((one[name] for name in _TEXTS if isinstance(one.get(name), str)), None)
    if text is None:
        return None
    reason = next((one[name] for name in _REASONS if isinstance(one.get(name), str)), None)
    return Choice(index=number, message={"role": "assistant", "content": text}, text=text, finish_reason=reason)


def stated(response: Any) -> Any:
    """The field `usage`, else the counts that Bedrock adds to a stream, else the body and its first result."""
    if not isinstance(response, dict):
        return None
    return response.get("usage") or response.get(_METRICS) or {**next(iter(objects(response.get("results"))), {}), **response}


def usage(usage: Any) -> Usage:
    """In the names of Anthropic and OpenAI, of Converse, of Llama, of Bedrock itself and of Titan."""
    for alike in (defaults, bedrock_converse):
        found: Usage = alike.usage(usage)
        if found != Usage():
            return found
    for prompt, completion in _COUNTS if isinstance(usage, dict) else ():
        if type(usage.get(prompt)) is int:
            out = usage.get(completion)
            return Usage(prompt=usage[prompt], completion=out if type(out) is int else None)
    return Usage()


def ending(stream: framings.Stream) -> tuple[bool, Any]:
    """The last event has Bedrock's counts; an exception ends a stream, too."""
    last = stream.events[-1] if stream.events else None
    return (True, None) if isinstance(last, dict) and _METRICS in last else bedrock_converse.ending(stream)


def assemble(events: list[Any]) -> Any:
    """The body that the model would have answered, by the looks of its events."""
    told = [event for event in events if isinstance(event, dict)]
    counts = [{_METRICS: event[_METRICS]} for event in told if _METRICS in event]
    if any(event.get("type") == "message_start" for event in told):
        body = anthropic_messages.assemble(told)
    elif any("contentBlockDelta" in event or "messageStart" in event for event in told):
        body = bedrock_converse.assemble(told)
    elif any(isinstance(event.get("choices"), list) for event in told):
        body = openai_chat.assemble(told)
    else:
        body = _joined(told)
    return {**body, **counts[-1]} if counts and isinstance(body, dict) else body


def _joined(events: list[dict[str, Any]]) -> Any:
    """Texts are joined, also those of each item of a list; of other fields the newer counts."""
    body: dict[str, Any] = {}
    texts, items = Fields(), {name: Fields() for name in _LISTS}
    for event in events:
        replace(body, event, *_TEXTS, *_LISTS)
        for name in _TEXTS:
            if isinstance(event.get(name), str):
                add(texts, name, event[name])
        for name in _LISTS:
            for one in objects(event.get(name))[:1]:
                replace(items[name], one, *_TEXTS)
                for text in _TEXTS:
                    if isinstance(one.get(text), str):
                        add(items[name], text, one[text])
    body |= built(texts)
    body |= {name: [built(one)] for name, one in items.items() if one}
    return body or None


def delta(event: Any) -> str:
    """The text that an event brings."""
    for alike in (anthropic_messages, bedrock_converse, openai_chat):
        found: str = alike.delta(event)
        if found:
            return found
    return next((choice.text for choice in choices(event)), "")


def framed(events: list[Any], whole: bool) -> bytes:
    """As an event stream of AWS, each event in the bytes of a chunk."""
    return b"".join(framings.as_aws({":event-type": "chunk"}, encode({"bytes": b64encode(encode(e)).decode()})) for e in events)
