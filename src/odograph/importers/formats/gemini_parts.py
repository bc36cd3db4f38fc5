"""What a message of a Gemini CLI session says: its text, its tool calls, and what the program itself wrote."""

from __future__ import annotations

import re
from typing import Any

from ...shape import content_text, dicts, items, obj, text

#: The exit code of a command, among the lines that stand behind its output.
_CODE = re.compile(
    r"^Exit Code: (-?\d+)\n?(?:(?:Signal|Background PIDs|Process Group PGID): .*\n?)*(?:</untrusted_context>)?\s*\Z", re.MULTILINE
)
#: What the program puts in the model's place behind a summary, or behind its own context.
_PUT_IN_PLACE = ("Got it. Thanks for the additional context!", "Got it. Thanks for the context!")
#: Where the content of the files begins that a person named.
_FILES = "\n--- Content from referenced files ---"
_NOT_ASKED = ("<session_context>", "<loaded_context>", "<environment", "This is the Gemini CLI. We are setting up the context")


def words_of(content: Any) -> str | None:
    return content if isinstance(content, str) else content_text([content] if isinstance(content, dict) else content)


def told_in(content: Any) -> str | None:
    """What a person said in a message: its text without what the program says, and without the files that the person named."""
    parts = [content] if isinstance(content, str) else [words_of(part) for part in items(content) or [content]]
    said = "\n".join(p for p in parts if p and not p.lstrip().startswith(_NOT_ASKED))
    return without_files(said) or None


def without_files(said: str) -> str:
    """A prompt without the content of the files that the person named in it."""
    before, found, _ = said.partition(_FILES)
    return (before.rstrip() if found else "") or said


def said_in(content: Any) -> Any:
    """A message's content as it was sent: text as text, what holds other parts as it stands."""
    parts = content if isinstance(content, list) else []
    if any(not isinstance(p, dict) or set(p) - {"text", "type"} for p in parts):
        return content
    return words_of(content)


def with_own_result(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call with its own result: a resumed session has the results of all calls of a reply with each (version 0.61)."""
    parts = dicts(call.get("result"))
    ids = [text(obj(p.get("functionResponse")).get("id")) for p in parts]
    own = call.get("id")
    if own not in ids or all(id in (None, own) for id in ids):
        return call
    return {**call, "result": [part for part, id in zip(parts, ids, strict=True) if id in (None, own)]}


def answer_of(content: Any, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """A reply in chat shape. Its content may have parts (of a resumed session, version 0.61): thoughts and calls, too."""
    if parts := dicts(content):
        content = [p for p in parts if "functionCall" not in p and p.get("thought") is not True]
    answer: dict[str, Any] = {"role": "assistant", "content": said_in(content) or ""}
    asked = [
        {"id": c.get("id"), "type": "function", "function": {"name": c.get("name"), "arguments": c.get("args")}} for c in calls
    ]
    return {**answer, "tool_calls": asked} if asked else answer


def is_context(message: dict[str, Any]) -> bool:
    """Whether a message is what the program itself says at the beginning: a resumed session leaves a file with nothing else."""
    content = message.get("content")
    return message.get("type") == "user" and bool(words_of(content)) and not told_in(content)


def is_put_in_place(message: dict[str, Any]) -> bool:
    """Whether the program wrote an answer in the model's place."""
    return not (message.get("model") or message.get("tokens")) and words_of(message.get("content")) in _PUT_IN_PLACE


def succeeded(sent: Any) -> bool:
    """Whether what the model was sent of a tool names no exit code but 0. The program calls a command that failed a success."""
    found = _CODE.search(sent) if isinstance(sent, str) else None
    return found is None or int(found[1]) == 0


def only_carries(message: dict[str, Any]) -> bool:
    """Whether a message has tool calls and nothing that a model's reply has."""
    said = message.get("content")
    said = said if isinstance(said, str) else any("functionCall" not in p for p in dicts(said))
    return bool(message.get("toolCalls")) and not (said or message.get("tokens") or message.get("thoughts"))


def calls_in(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls among the parts of a message."""
    return [obj(p["functionCall"]) for p in dicts(message.get("content")) if "functionCall" in p]


def response_of(result: Any) -> dict[str, Any]:
    return obj(obj(obj(result).get("functionResponse")).get("response"))


def sent_of(result: Any) -> Any:
    """What the model was given back: the output (or the error) of the function responses, else the result as it stands."""
    parts = dicts(result)
    found = [r.get("output", r.get("error")) for r in map(response_of, parts)]
    outputs = [o for o in found if isinstance(o, str)]
    if parts and len(outputs) == len(found) and not any(set(p) - {"functionResponse"} for p in parts):
        return "\n".join(outputs)
    return result
