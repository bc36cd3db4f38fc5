"""Threads of Amp (`~/.local/share/amp/threads/T-*.json`): `{v, id, created, messages[]}`, messages with content blocks.

The result of a tool is in the next user's message as `tool_result` with `run`, whose `status` says how it ended. A message of
role `info` holds a command that a person ran, or the summary of a compaction, with which later prompts begin.

Source: the files that Amp's command line writes (version 8, of `amp threads export` too); ampcode.com's manual on threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...dialects.content import as_text
from ...shape import added, dicts, integer, items, obj, text, without
from ...types import Note, Start
from .. import blocks
from ..peek import keys
from ..session import NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "amp"


def recognise(path: Path, head: bytes) -> bool:
    """A thread: an id that begins with T-, a version, and messages with ids of their own."""
    root, found = keys(head)
    return (
        root == "{"
        and {"id", "messages"} <= found
        and b'"T-' in head
        and ("messages.messageId" in found or {"v", "created"} <= found)
    )


def read(path: Path) -> Iterator[Session]:
    """The session of a thread. Raises NotBegun where it has no message."""
    thread = obj(loads(path.read_bytes()))
    messages = dicts(thread.get("messages"))
    if not messages:
        raise NotBegun("a thread of Amp without a message")
    session = Session(NAME, text(thread.get("id")) or path.stem)
    task = next((blocks.told(m.get("content")) for m in messages if m.get("role") == "user"), None)
    models = (text(obj(m.get("usage")).get("model")) for m in messages)
    model = next((m for m in models if m), None)
    started = parse_time(thread.get("created"))
    source = {
        "format": NAME,
        "path": path.name,
        "session": thread.get("id"),
        **without(thread, "id", "messages"),
        "interactive": True,
    }
    session.add(Start(task=task, agent="amp", model=model, metadata={"source": source}, source_time=started), "start")
    transcript = Transcript(session, model=model, dialect="anthropic.messages")
    for message in messages:
        _message(transcript, message)
    transcript.close()
    yield session


def _message(transcript: Transcript, message: dict[str, Any]) -> None:
    when = parse_time(obj(message.get("meta")).get("sentAt")) or parse_time(obj(message.get("usage")).get("timestamp"))
    if message.get("role") == "assistant":
        usage, state = obj(message.get("usage")), obj(message.get("state"))
        counts = (integer(usage.get(n)) for n in ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"))
        total = integer(usage.get("totalInputTokens"))
        blocks.add(
            transcript,
            message,
            when=when,
            model=text(usage.get("model")) or transcript.model,
            usage=usage or None,
            prompt_tokens=total if total is not None else added(*counts),
            completion_tokens=integer(usage.get("outputTokens")),
            finish_reason=text(state.get("stopReason")),
            **_span(message),
            extra={"message": message.get("messageId"), "state": state.get("type")},
        )
        return
    if message.get("role") == "info" and not (message := _info(transcript, message, when)):
        return
    shaped = [_result(b) if isinstance(b, dict) and b.get("type") == "tool_result" else b for b in items(message.get("content"))]
    id = message.get("messageId")
    name = str(id) if isinstance(id, (str, int)) else None
    blocks.add(transcript, {"role": "user", "content": shaped or message.get("content")}, id=name, when=when)


def _info(transcript: Transcript, message: dict[str, Any], when: int | None) -> dict[str, Any]:
    """What the model is sent of a message of the program; nothing where that is nothing."""
    id, rest = message.get("messageId"), []
    for block in items(message.get("content")):
        summary = obj(block).get("summary")
        told = text(summary) or text(obj(summary).get("summary"))
        if obj(block).get("type") == "summary" and told:
            transcript.session.add(Note(name="compaction", data={"summary": told}, source_time=when), "compaction", id)
            transcript.history = [{"role": "user", "content": told}]
        elif obj(block).get("hidden") is True:
            transcript.session.add(Note(name="shown", data=block, source_time=when), "shown", id)
        else:
            rest.append(block)
    return {**message, "content": rest} if rest else {}


def _span(message: dict[str, Any]) -> dict[str, Any]:
    """When an answer began to come, and how long it took, where its parts say it."""
    parts = dicts(message.get("content"))
    began = [t for p in parts if (t := parse_time(p.get("startTime"))) is not None]
    ended = [t for p in parts if (t := parse_time(p.get("finalTime"))) is not None]
    if not began or not ended or max(ended) < min(began):
        return {}
    return {"started": min(began), "duration": max(ended) - min(began)}


def _result(block: dict[str, Any]) -> dict[str, Any]:
    """A result as Anthropic's API takes it: what the tool gave back, and whether it failed."""
    run = obj(block.get("run"))
    result = run.get("result", run.get("error", block.get("content")))
    told = result if isinstance(result, str | list) or result is None else obj(result).get("output", result)
    failed = run.get("status") in ("error", "cancelled", "rejected-by-user") or obj(result).get("exitCode") not in (None, 0)
    content = told if isinstance(told, str) else [{"type": "text", "text": as_text(told)}]
    return {
        "type": "tool_result",
        "tool_use_id": block.get("toolUseID", block.get("tool_use_id")),
        "content": content,
        "is_error": failed,
    }
