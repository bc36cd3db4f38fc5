"""Sessions of Factory's Droid (`~/.factory/sessions/**/<id>.jsonl`): a `session_start`, then messages with content blocks.

Beside it, `<id>.settings.json` has the model and the session's tokens.

Source: the files that Droid's command line writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import added, integer, obj, text, without
from ...types import Note, Start
from .. import blocks, peek
from ..session import Lines, NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "droid"


def recognise(path: Path, head: bytes) -> bool:
    """A first line of type `session_start` with an id and a folder."""
    try:
        first = obj(peek.value(head.split(b"\n", 1)[0]))
    except InvalidInput:
        return False
    return first.get("type") == "session_start" and "id" in first


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises NotBegun where it has no message."""
    lines = Lines(path)
    entries = [v for _, v in lines if isinstance(v, dict)]
    header = next((e for e in entries if e.get("type") == "session_start"), {})
    messages = [e for e in entries if e.get("type") == "message" and isinstance(e.get("message"), dict)]
    if not messages:
        raise NotBegun("a Droid session without a message")
    settings = _settings(path.with_name(f"{path.stem}.settings.json"))
    session = Session(NAME, text(header.get("id")) or path.stem)
    for problem in lines.problems:
        session.warn(problem)
    said = (blocks.told(e["message"].get("content")) for e in messages if e["message"].get("role") == "user")
    model, used = text(settings.get("model")), obj(settings.get("tokenUsage"))
    source: dict[str, Any] = {
        "format": NAME,
        "path": path.name,
        "session": header.get("id"),
        **without(header, "id", "type"),
        "interactive": True,
    }
    totals = {
        "prompt_tokens": added(*(integer(used.get(n)) for n in ("inputTokens", "cacheReadTokens", "cacheCreationTokens"))),
        "completion_tokens": added(*(integer(used.get(n)) for n in ("outputTokens", "thinkingTokens"))),
    }
    if any(v is not None for v in totals.values()):
        source |= {"totals": totals, "settings": settings}
    started = parse_time(messages[0].get("timestamp"))
    task = next((s for s in said if s), None)
    session.add(Start(task=task, agent="droid", model=model, metadata={"source": source}, source_time=started), "start")
    transcript = Transcript(session, model=model, dialect="anthropic.messages")
    for entry in entries:
        when = parse_time(entry.get("timestamp"))
        if entry.get("type") != "message" or not isinstance(entry.get("message"), dict):
            if entry is not header:
                note = Note(name=str(entry.get("type")), data=without(entry, "type", "timestamp"), source_time=when)
                session.add(note, "entry", text(entry.get("id")) or entry)
            if entry.get("type") == "compaction_state" and text(entry.get("summaryText")):
                transcript.history = [{"role": "user", "content": entry["summaryText"]}]
            continue
        answered = entry["message"].get("role") == "assistant"
        more = {"extra": {k: entry[k] for k in ("id", "parentId") if k in entry}} if answered else {"id": text(entry.get("id"))}
        blocks.add(transcript, entry["message"], when=when, **more)
    transcript.close()
    yield session


def _settings(path: Path) -> dict[str, Any]:
    try:
        return obj(loads(path.read_bytes()))
    except (OSError, InvalidInput):
        return {}
