"""What OpenCode keeps since version 2 (`session_v2`, `session_message`), as messages with parts, which version 1 kept.

A row of `session_message` is a message of a type, in the order of `seq`. An assistant's `content` holds texts, thoughts and tools
with their results. Commands of a person (`shell`), skills and notices of the program are sent in a person's place. A `compaction`
that is completed is what later prompts begin with. What is not sent (changes of agent and model, turns that failed) is a note.

Source: anomalyco/opencode 2.0, packages/schema/src/session-message.ts, packages/core/src/session: history, to-llm-message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import dicts, integer, obj, text, without
from ..databases import Ask

TABLES = ("session_v2", "session_message")
_TEXTS = {"text/plain": "file", "application/x-directory": "directory"}


def sessions(ask: Ask) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What is known of each session, and its messages; parents first."""
    for session in ask("select * from session_v2 order by time_created, id"):
        info = {k: v for k, v in session.items() if v is not None}
        found = ask("select * from session_message where session_id = ? order by seq", session["id"])
        times = {"created": info.get("time_created"), "updated": info.get("time_updated")}
        about = {**info, "time": times, "parentID": info.get("parent_id"), "projectID": info.get("project_id")}
        yield about, [_message(row) for row in found]


def _message(row: dict[str, Any]) -> dict[str, Any]:
    try:
        data = obj(loads(row["data"])) if isinstance(row.get("data"), str | bytes) else {}
    except InvalidInput:
        data = {}
    kind, times = str(row.get("type")), obj(data.get("time"))
    at = row.get("time_created", times.get("created"))
    base = {"id": row["id"], "at": at, "time": {"created": integer(times.get("created")) or integer(at)}}
    said = text(data.get("text")) or ""
    if kind == "user":
        return {**base, "role": "user", "parts": _asked(said, dicts(data.get("files")))}
    if kind == "shell":
        said = f"Shell command: {data.get('command')}\n\n{obj(data.get('output')).get('output') or ''}"
    if kind in ("synthetic", "skill", "system", "shell"):
        role = "system" if kind == "system" else "user"
        return {**base, "role": role, "parts": [{"type": "text", "text": said, "synthetic": True}]}
    if kind == "assistant":
        return {**base, **_answered(data, times)}
    if kind == "compaction" and data.get("status") == "completed":
        return {**base, "role": "checkpoint", "parts": [], "data": without(data, "time", "type", "id")}
    return {**base, "role": "note", "parts": [], "name": kind, "data": without(data, "time", "type", "id")}


def _asked(said: str, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A person's text with the files and folders that were read into it, and the images beside it."""
    texts: list[str] = [said] if said else []
    parts: list[dict[str, Any]] = []
    for file in files:
        mime, name = text(file.get("mime")), text(file.get("name")) or text(obj(file.get("source")).get("uri"))
        if mime in _TEXTS:
            about = [f"Attached {_TEXTS[mime]}: {name}"]
            about += [f"Description: {file['description']}"] if text(file.get("description")) else []
            texts.append("\n".join([*about, "", _decoded(file.get("data"))]))
        else:
            parts.append({"type": "file", "mime": mime, "url": f"data:{mime};base64,{file.get('data')}"})
    between = "\n\n" if parts else "\n"  # texts alone are joined by a line break
    told = [{"type": "text", "text": between + t if n else t, "synthetic": bool(n or not said)} for n, t in enumerate(texts)]
    return [*told, *parts]


def _decoded(data: Any) -> str:
    try:
        return base64.b64decode(str(data)).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return str(data)


def _answered(data: dict[str, Any], times: dict[str, Any]) -> dict[str, Any]:
    model = obj(data.get("model"))
    return {
        **{k: data[k] for k in ("agent", "tokens", "cost", "finish", "error", "retry") if data.get(k) is not None},
        "role": "assistant",
        "modelID": model.get("id"),
        "providerID": model.get("providerID"),
        # tools run behind the answer, before it is completed
        "time": {"created": times.get("created"), "completed": times.get("streamed", times.get("completed"))},
        "parts": [_part(p) for p in dicts(data.get("content"))],
        "kept": True,
    }


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") != "tool":
        return part
    state, times = obj(part.get("state")), obj(part.get("time"))
    told = [p.get("text") for p in dicts(state.get("content"))]
    only_text = all(isinstance(t, str) for t in told)
    output = "\n".join(str(t) for t in told) if only_text else state.get("content")
    failed = obj(state.get("error"))
    return {
        "type": "tool",
        "id": part.get("id"),
        "callID": part.get("id"),
        "tool": part.get("name"),
        "state": {
            "status": state.get("status"),
            "input": state.get("input"),
            "output": output,
            "metadata": state.get("metadata", state.get("structured")),
            "error": text(failed.get("message")) or state.get("error"),
            "time": {"start": times.get("ran", times.get("created")), "end": times.get("completed")},
        },
    }
