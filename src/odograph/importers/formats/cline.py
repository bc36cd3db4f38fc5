"""Cline, Roo Code and Kilo Code: a task's folder with `api_conversation_history.json` (messages of Anthropic's shape) and,
beside it, `ui_messages.json`, whose `api_req_started` entries have each request's tokens and cost.

Both files are of one task: the history is the session, and the other file alone is none. What an assistant's message of an older
version asks for stands in its text as XML, and not in blocks of its own.

Source: cline/cline and RooCodeInc/Roo-Code, src/core/task.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import added, dicts, integer, number, obj, text
from ...types import Start
from .. import blocks
from ..session import NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "cline"
_HISTORY, _SHOWN = "api_conversation_history.json", "ui_messages.json"
#: Where the extensions keep their tasks.
_AGENTS = {"saoudrizwan.claude-dev": "cline", "rooveterinaryinc.roo-cline": "roo-code", "kilocode.kilo-code": "kilo-code"}


def recognise(path: Path, head: bytes) -> bool:
    """The history of a task, by its name and as a list of messages; or the folder of a task."""
    if path.is_dir():
        return (path / _HISTORY).is_file()
    return path.name == _HISTORY and head.lstrip().startswith(b"[")


def read(path: Path) -> Iterator[Session]:
    """The session of a task. Raises NotBegun where it has no message."""
    folder = path if path.is_dir() else path.parent
    file = folder / _HISTORY if path.is_dir() else path
    messages = dicts(loads(file.read_bytes()))
    if not messages:
        raise NotBegun("a task without a message")
    requests = _requests(folder / _SHOWN)
    id = folder.name if folder.name.replace("-", "").isalnum() and any(c.isdigit() for c in folder.name) else None
    session = Session(NAME, id or content_hash(messages[0]))
    first = next((blocks.told(m.get("content")) for m in messages if m.get("role") == "user"), None)
    task = first.partition("<task>")[2].partition("</task>")[0].strip() if first and "<task>" in first else first
    began = parse_time(messages[0].get("ts")) or (parse_time(int(folder.name)) if folder.name.isdecimal() else None)
    agent = next((name for part, name in _AGENTS.items() if part in folder.parts), "cline")
    models = (text(obj(m.get("modelInfo")).get("modelId")) for m in messages)
    model = next((m for m in models if m), None)
    source = {"format": NAME, "path": path.name, "session": id, "interactive": True}
    session.add(Start(task=task or first, agent=agent, model=model, metadata={"source": source}, source_time=began), "start")
    transcript = Transcript(session, model=model, dialect="anthropic.messages")
    asked = 0
    for message in messages:
        when = parse_time(message.get("ts"))
        if message.get("role") != "assistant":
            blocks.add(transcript, message, when=when)
            continue
        figures = obj(message.get("metrics")) or (requests[asked] if asked < len(requests) else {})
        asked += 1
        blocks.add(transcript, message, when=when, **_figures(figures, obj(message.get("modelInfo"))))
    transcript.close()
    yield session


def _figures(figures: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    tokens = obj(figures.get("tokens")) or figures
    sent = [
        integer(tokens.get(a, tokens.get(b)))
        for a, b in (("tokensIn", "prompt"), ("cacheWrites", "cacheWrites"), ("cacheReads", "cached"))
    ]
    about: dict[str, Any] = {
        "prompt_tokens": added(*sent),
        "completion_tokens": integer(tokens.get("tokensOut", tokens.get("completion"))),
        "cost": number(figures.get("cost")),
        "usage": figures or None,
    }
    return about | ({"model": text(model.get("modelId"))} if text(model.get("modelId")) else {})


def _requests(path: Path) -> list[dict[str, Any]]:
    """The figures of the requests that were answered, in order."""
    if not path.is_file():
        return []
    try:
        shown = dicts(loads(path.read_bytes()))
    except InvalidInput:
        return []
    found: list[dict[str, Any]] = []
    for entry in shown:
        if entry.get("say") == "api_req_started":
            try:
                told = obj(loads(entry["text"]))
            except (InvalidInput, KeyError, TypeError):
                continue
            if "tokensOut" in told:
                found.append({k: v for k, v in told.items() if k != "request"})
    return found
