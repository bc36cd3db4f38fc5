"""Sessions of Continue (`~/.continue/sessions/<id>.json`): `{sessionId, title, workspaceDirectory, history[]}`.

An entry of the history has a message and, of an assistant's, the states of its tool calls with their outputs. A thought is a
message of its own (`thinking`), before the answer that it is of.

Source: continuedev/continue, core/index.d.ts (Session, ChatHistoryItem).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...shape import content_text, dicts, integer, number, obj, text, without
from ...types import Start
from ..peek import keys
from ..session import NotBegun, Session
from ..transcript import Transcript

NAME = "continue"
_OK = {"done": True, "errored": False, "canceled": False}


def recognise(path: Path, head: bytes) -> bool:
    """An object with a session's id, its folder and a history of messages."""
    root, found = keys(head)
    return (
        root == "{" and {"sessionId", "history"} <= found and ("workspaceDirectory" in found or "history.contextItems" in found)
    )


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises NotBegun where it has no message."""
    whole = obj(loads(path.read_bytes()))
    entries = [e for e in dicts(whole.get("history")) if isinstance(e.get("message"), dict)]
    if not entries:
        raise NotBegun("a session of Continue without a message")
    session = Session(NAME, text(whole.get("sessionId")) or path.stem)
    task = next((content_text(e["message"].get("content")) for e in entries if e["message"].get("role") == "user"), None)
    models = (text(obj(e["message"].get("usage")).get("model")) or _titled(e) for e in entries)
    model = next((m for m in models if m), text(whole.get("chatModelTitle")))
    usage = obj(whole.get("usage"))
    source = {"format": NAME, "path": path.name, **without(whole, "history"), "interactive": True}
    totals = {"prompt_tokens": integer(usage.get("promptTokens")), "completion_tokens": integer(usage.get("completionTokens"))}
    if any(totals.values()):
        source["totals"] = {k: v for k, v in totals.items() if v is not None}
    session.add(Start(task=task, agent="continue", model=model, metadata={"source": source}), "start")
    transcript = Transcript(session, model=model)
    answered: set[str | None] = set()
    thoughts: list[dict[str, Any]] = []
    for entry in entries:
        _entry(transcript, entry, answered, thoughts)
    _alone(transcript, thoughts)
    transcript.close()
    yield session


def _titled(entry: dict[str, Any]) -> str | None:
    return next((m for log in dicts(entry.get("promptLogs")) if (m := text(log.get("modelTitle")))), None)


def _alone(transcript: Transcript, thoughts: list[dict[str, Any]]) -> None:
    """Thoughts that no answer followed."""
    for thought in thoughts:
        transcript.saw({"role": "assistant", "content": None, "reasoning_content": thought.get("content")}, observed=False)
    thoughts.clear()


def _entry(transcript: Transcript, entry: dict[str, Any], answered: set[str | None], thoughts: list[dict[str, Any]]) -> None:
    """`answered`: the tool calls whose results are in the conversation. `thoughts`: those of the answer that comes next."""
    message = entry["message"]
    role = message.get("role")
    if role == "thinking":
        thoughts.append(message)
        return
    if role != "assistant":
        _alone(transcript, thoughts)
    sent = {k: v for k, v in message.items() if k not in ("toolCalls", "usage", "toolCallId", "id")}
    if role == "assistant":
        if message.get("toolCalls"):
            sent["tool_calls"] = message["toolCalls"]
        usage = obj(message.get("usage"))
        cents = number(usage.get("cost_cents"))
        found = [t for one in thoughts if (t := content_text(one.get("content")))]
        if found:
            sent["reasoning_content"] = "\n\n".join(found)
        transcript.replied(
            sent,
            model=text(usage.get("model")) or transcript.model,
            usage=usage or None,
            prompt_tokens=integer(usage.get("prompt_tokens")),
            completion_tokens=integer(usage.get("completion_tokens")),
            cost=cents / 100 if cents is not None else None,
            reasoning="\n\n".join(found) or text(obj(entry.get("reasoning")).get("text")),
            extra={"thinking": [without(one, "role") for one in thoughts]} if thoughts else None,
        )
        thoughts.clear()
        for state in dicts(entry.get("toolCallStates")) or dicts([entry.get("toolCallState")]):
            answered |= _result(transcript, state)
        return
    if role == "tool":
        id = text(message.get("toolCallId"))
        if id not in answered:
            answered.add(id)
            transcript.result(id, result=message.get("content"))
            transcript.saw({"role": "tool", "tool_call_id": id, "content": message.get("content")})
        return
    for item in dicts(entry.get("contextItems")):  # what the person attached goes with the message
        if text(item.get("content")):
            transcript.saw({"role": "user", "content": item["content"], "name": item.get("name")}, observed=False)
    transcript.saw(sent)


def _result(transcript: Transcript, state: dict[str, Any]) -> set[str | None]:
    """What came of a tool call, where it has ended; its id."""
    output = state.get("output")
    if output is None and str(state.get("status")) not in _OK:
        return set()
    id = text(state.get("toolCallId"))
    told = content_text([{"text": o.get("content")} for o in dicts(output)])
    ok = _OK.get(str(state.get("status")))
    failed = any(str(o.get("status")).startswith("Command failed") for o in dicts(output))  # the tool did what it was to do
    transcript.result(id, result=told if told is not None else "", ok=ok and not failed, extra={"output": output})
    transcript.saw({"role": "tool", "tool_call_id": id, "content": told or ""})
    return {id}
