"""Sessions of Factory's Droid (`~/.factory/sessions/**/<id>.jsonl`): a `session_start`, then messages with content blocks.

Beside it, `<id>.settings.json` has the model and the session's tokens. A fork begins with its parent's messages up to the one
that its first line names; a `compaction_state` puts its summary in the place of what came up to its `anchorMessage`.

Source: the files that Droid's command line writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import added, dicts, integer, items, obj, text, without
from ...types import Fork, Note, Start
from .. import blocks, peek
from ..session import Lines, NotBegun, Session, parse_time, unrepeated
from ..transcript import Transcript

NAME = "droid"
#: Messages that the model is not sent.
_UNSAID = ("user_only", "hidden")
_GENERIC = "generic-chat-completion-api"


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
    entries = list(unrepeated(v for _, v in lines))
    header = next((e for e in entries if e.get("type") == "session_start"), {})
    messages = [e for e in entries if e.get("type") == "message" and isinstance(e.get("message"), dict)]
    if not messages:
        raise NotBegun("a Droid session without a message")
    settings = _settings(path.with_name(f"{path.stem}.settings.json"))
    session = Session(NAME, text(header.get("id")) or path.stem)
    for problem in lines.problems:
        session.warn(problem)
    shared = _shared(header, entries)
    if shared == len(entries):
        raise NotBegun("a fork of a Droid session in which nobody has said anything yet")
    asked = (obj(e.get("message")) for e in entries[shared:] if e.get("type") == "message")
    said = (blocks.told(m.get("content")) for m in asked if m.get("role") == "user" and m.get("visibility") not in _UNSAID)
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
    talk = _Talk(Transcript(Session(NAME), model=model, dialect="anthropic.messages"))
    for entry in entries[:shared]:  # another session's is read for the history that it leaves
        talk.take(entry)
    fork: Fork | None = None
    if shared:
        fork = Fork(trajectory=Session(NAME, header["parent"]).id, step=talk.transcript.step + 1, reason="forked")
    elif of := text(header.get("callingSessionId")):
        fork = Fork(trajectory=Session(NAME, of).id, reason="sub-agent")
    task = next((s for s in said if s), None)
    start = Start(task=task, agent="droid", model=model, metadata={"source": source}, source_time=started, fork=fork)
    session.add(start, "start")
    transcript = Transcript(session, model=model, dialect="anthropic.messages")
    transcript.history, transcript.step = talk.transcript.history, talk.transcript.step
    talk.transcript = transcript
    for entry in entries[shared:]:
        if entry is not header:
            talk.take(entry)
    transcript.close()
    yield session


def _shared(header: dict[str, Any], entries: list[dict[str, Any]]) -> int:
    """How many entries a session begins with that are another's: a fork copies them up to a message that it names."""
    last = text(header.get("forkedAtMessageId"))
    if last is None or text(header.get("parent")) is None:
        return 0
    at = next((n for n, e in enumerate(entries) if e.get("type") == "message" and e.get("id") == last), None)
    if at is None:
        return 0
    return next((n for n in range(at + 1, len(entries)) if entries[n].get("type") == "message"), len(entries))


class _Talk:
    """The conversation entry by entry, as the program sends it."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        #: Where each message ends in the conversation.
        self.spots: dict[str, tuple[list[Any], int]] = {}
        self.last: str | None = None

    def take(self, entry: dict[str, Any]) -> None:
        transcript, message = self.transcript, obj(entry.get("message"))
        when = parse_time(entry.get("timestamp"))
        if entry.get("type") != "message" or not message or message.get("visibility") in _UNSAID:
            note = Note(name=str(entry.get("type")), data=without(entry, "type", "timestamp"), source_time=when)
            transcript.session.add(note, "entry", text(entry.get("id")) or entry)
            if entry.get("type") == "compaction_state" and text(entry.get("summaryText")):
                self._compacted(entry)
        elif message.get("role") == "assistant":
            model = text(message.get("modelId")) or transcript.model
            extra = {k: entry[k] for k in ("id", "parentId") if k in entry}
            blocks.add(transcript, message, when=when, model=model, extra=extra)
            kept = [b for b in items(message.get("content")) if obj(b).get("signatureProvider") != _GENERIC]
            if len(kept) < len(items(message.get("content"))):  # such a server is not sent thoughts again
                transcript.history[-1] = {"role": "assistant", "content": kept}
        else:
            self._go_back(entry, message)
            blocks.add(transcript, message, when=when, id=text(entry.get("id")))
        if (id := text(entry.get("id"))) is not None and entry.get("type") == "message":
            self.spots[id] = (transcript.history, len(transcript.history))
            self.last = id

    def _go_back(self, entry: dict[str, Any], message: dict[str, Any]) -> None:
        """A prompt that hangs on what stands before the last reply leaves a branch."""
        history = self.transcript.history
        base, stop = self.spots.get(text(entry.get("parentId")) or "", (history, len(history)))
        if any(b.get("type") == "tool_result" for b in dicts(message.get("content"))):
            return
        if base is not history or any(m["role"] == "assistant" for m in base[stop:]):
            self.transcript.history = base[:stop]

    def _compacted(self, entry: dict[str, Any]) -> None:
        """The summary stands for all up to the message that it names."""
        history = self.transcript.history
        base, stop = self.spots.get(text(obj(entry.get("anchorMessage")).get("id")) or "", (history, len(history)))
        there = 0 < stop <= len(history) and history[stop - 1] is base[stop - 1]  # it may stand before a branch
        kept = history[stop:] if there else []
        self.transcript.history = [{"role": "user", "content": entry["summaryText"]}, *kept]
        if self.last is not None:  # what comes next follows the last message
            self.spots[self.last] = (self.transcript.history, len(self.transcript.history))


def _settings(path: Path) -> dict[str, Any]:
    try:
        return obj(loads(path.read_bytes()))
    except (OSError, InvalidInput):
        return {}
