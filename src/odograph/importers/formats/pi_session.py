"""Sessions of pi (and of OpenClaw, which is built on it): JSON lines, a `session` header and then entries, a message each.

Newer files are trees (`id`, `parentId`): a prompt is the branch that led to the reply. A `compaction` entry puts its summary
in the place of what came before `firstKeptEntryId`. A message's own shape (`thinking`, `toolCall`) is kept beside the reply.
What pi does not send again is in no later prompt: a reply that failed or was stopped; another model's thoughts go as text.
OpenClaw keeps the same entries in a database since version 2026.8.

Source: badlogic/pi-mono's coding agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import added, content_text, dicts, integer, number, obj, text, without
from ...types import Fork, Note, Start
from .. import peek
from ..databases import has_tables, rows
from ..packed import unpacked_value
from ..session import Lines, NotBegun, Session, parse_time, unrepeated
from ..transcript import Transcript
from ..views import Messages, Otherwise

NAME = "pi-session"
_HEAD = 64 * 1024
#: The words around a summary.
_SUMMARY = "The conversation history before this point was compacted into the following summary:\n\n<summary>\n{}\n</summary>"
_BRANCH = "The following is a summary of a branch that this conversation came back from:\n\n<summary>\n{}</summary>"
_TABLES = ("transcript_events", "session_windows")
_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)-(\d\d)-(\d\d)-(\d{3})Z_(.+)\.jsonl")


def recognise(path: Path, head: bytes) -> bool:
    """A first line of type `session` with an id and a folder, or OpenClaw's database."""
    if head.startswith(b"SQLite format 3\x00"):
        return has_tables(path, _TABLES)
    try:
        first = obj(peek.value(head.split(b"\n", 1)[0]))
    except InvalidInput:
        return False
    return first.get("type") == "session" and "id" in first and "cwd" in first


def read(path: Path) -> Iterator[Session]:
    """The session of a file, or those of a database. Raises NotBegun where there is no message."""
    with path.open("rb") as file:
        is_database = file.read(16).startswith(b"SQLite")
    if not is_database:
        lines = Lines(path)
        yield _session(path, list(unrepeated(v for _, v in lines)), lines.problems)
        return
    made = 0
    with rows(path) as ask:
        for row in ask("select distinct session_id from transcript_events order by session_id"):
            problems: list[str] = []
            events = ask("select * from transcript_events where session_id = ? order by seq", row["session_id"])
            entries = [e for event in events if (e := _event(event, problems))]
            with suppress(NotBegun):
                yield _session(path, entries, problems)
                made += 1
    if not made:
        raise NotBegun("an OpenClaw database without a message")


def _event(row: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """An event of a database, which may be packed with zstd."""
    data = row.get("event_json")
    try:
        if data is None and isinstance(row.get("event_zstd"), bytes):
            data = unpacked_value(row["event_zstd"])
        return obj(loads(data)) if isinstance(data, str | bytes) else {}
    except InvalidInput as error:
        problems.append(f"an event that can't be read: {error}")
        return {}


def _session(path: Path, entries: list[dict[str, Any]], problems: list[str]) -> Session:
    header = entries[0] if entries and entries[0].get("type") == "session" else {}
    messages = [obj(e.get("message")) for e in entries if e.get("type") == "message"]
    if not messages:
        raise NotBegun("a pi session without a message")
    started = parse_time(header.get("timestamp"))
    session = Session(NAME, header.get("id") or content_hash(entries[0]), started=started)
    for problem in problems:
        session.warn(problem)
    entries = entries[1:] if header else entries
    shared = _shared(header, entries)
    if shared == len(entries):
        raise NotBegun("a fork of a pi session in which nobody has said anything yet")
    asked = [obj(e.get("message")) for e in entries[shared:]]
    said = (content_text(m.get("content")) for m in asked if m.get("role") == "user")
    prompts = [s for s in said if s]
    task = next((p for p in prompts if not p.startswith("/")), None) or next(iter(prompts), None)
    source = {
        "format": NAME,
        "path": path.name,
        "session": header.get("id"),
        **without(header, "id", "type"),
        "interactive": True,
    }
    model = text(header.get("modelId"))
    start = session.add(Start(task=task, agent="pi", model=model, source_time=started, metadata={"source": source}), "start")
    replies = 0
    transcript = Transcript(Session(NAME), model=model)  # what is another session's is read for the history that it leaves
    branches = _Branches(transcript)
    above: str | None = None
    for number_, entry in enumerate(entries):
        if number_ == shared:
            transcript = Transcript(session, model=branches.transcript.model)
            transcript.step = branches.transcript.step
            replies = transcript.step + 1
            branches.transcript = transcript
        id = text(entry.get("id")) or f"#{number_ + bool(header)}"  # the oldest files are lists
        branches.take(id, text(entry.get("parentId")) if "parentId" in entry else above, entry)
        above = id
    transcript.close()
    parent = _parent(header, path) if shared else None
    if parent is not None:
        session.replace(start, fork=Fork(trajectory=parent, step=replies, reason="forked"))
    return session


def _shared(header: dict[str, Any], entries: list[dict[str, Any]]) -> int:
    """How many entries a session begins with that are another's: a fork copies them, and they are older than its own header."""
    began = parse_time(header.get("timestamp"))
    if began is None or not _named(header):
        return 0
    return next((n for n, e in enumerate(entries) if (parse_time(e.get("timestamp")) or began) >= began), len(entries))


def _named(header: dict[str, Any]) -> str | None:
    """The file of the session that a session goes on from."""
    return text(header.get("parentSession")) or text(header.get("branchedFrom"))


def _parent(header: dict[str, Any], near: Path) -> str | None:
    """The trajectory that a session goes on from: its file says so, or the file's name, which has its time and its id."""
    name = (_named(header) or "").replace("\\", "/").rpartition("/")[2]
    file = near.with_name(name)
    about: dict[str, Any] = {}
    if name and file != near and file.is_file():
        with suppress(OSError, InvalidInput), file.open("rb") as opened:
            about = obj(loads(opened.readline(_HEAD)))
    elif found := _NAME.fullmatch(name):
        about = {"timestamp": f"{found[1]}:{found[2]}:{found[3]}.{found[4]}Z", "id": found[5]}
    id = text(about.get("id"))
    return Session(NAME, id, started=parse_time(about.get("timestamp"))).id if id else None


class _Branches:
    """The tree of entries, and the conversation that each ends."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.history = Messages()
        #: Of each entry: what it follows, the message that it adds, and the conversation up to it.
        self.above: dict[str, str | None] = {}
        self.added: dict[str, tuple[Any, Otherwise | None]] = {}
        self.ends: dict[str, tuple[Messages, int]] = {}

    def take(self, id: str, above: str | None, entry: dict[str, Any]) -> None:
        self.above[id] = above
        if above is None:
            self.history = Messages()
        base, stop = self.ends.get(above or "", (self.history, len(self.history)))  # a line that is lost costs only itself
        if base is not self.history or stop != len(self.history):
            self.history = base.until(stop)
        when = parse_time(entry.get("timestamp"))
        message = obj(entry.get("message"))
        if entry.get("type") == "message" and message.get("role") == "assistant":
            self._reply(id, entry, message, when)
        elif entry.get("type") == "message" and message.get("role") == "toolResult":
            self._result(id, message)
        elif entry.get("type") == "message" and not message.get("excludeFromContext"):
            ran = message.get("role") == "bashExecution"
            self._unanswered()
            said = {"role": "user", "content": _ran(message) if ran else message.get("content", message.get("output"))}
            self._tell(id, said, text(entry.get("id")), when)
        else:
            self._event(id, entry)
            note = Note(name=str(entry.get("type")), data=without(entry, "type", "timestamp"), source_time=when)
            self.transcript.session.add(note, "entry", text(entry.get("id")) or content_hash(entry))
        self.ends[id] = (self.history, len(self.history))

    def _add(self, id: str, message: Any, otherwise: Otherwise | None = None) -> None:
        self.added[id] = (message, otherwise)
        self.history.add(message, otherwise)

    def _tell(self, id: str, message: dict[str, Any], name: str | None = None, when: int | None = None) -> None:
        self.transcript.saw(message, id=name, when=when)
        self._add(id, message)

    def _event(self, id: str, entry: dict[str, Any]) -> None:
        kind, told = entry.get("type"), entry.get("summary") or entry.get("content")
        if kind == "model_change":
            self.transcript.model = text(entry.get("modelId")) or self.transcript.model
        elif kind == "compaction":
            said = {"role": "user", "content": _SUMMARY.format(entry["summary"]) if text(entry.get("summary")) else None}
            first = text(entry.get("firstKeptEntryId")) or f"#{entry.get('firstKeptEntryIndex')}"
            kept = self._kept(id, first)
            self.history = Messages()
            self._add(id, said)
            for one in kept:
                self.history.add(*one)
            del self.added[id]  # another compaction's summary is no part of what a later one keeps
        elif kind == "branch_summary" and text(entry.get("summary")):
            self._tell(id, {"role": "user", "content": _BRANCH.format(entry["summary"])})
        elif kind == "custom_message" and told:
            self._tell(id, {"role": "user", "content": told})

    def _kept(self, id: str, first: str) -> list[tuple[Any, Otherwise | None]]:
        """The messages of the branch from an entry on. None where the branch does not have that entry."""
        found: list[tuple[Any, Otherwise | None]] = []
        above = self.above[id]
        seen = set()
        while above is not None and above not in seen:
            seen.add(above)
            if above in self.added:
                found.append(self.added[above])
            if above == first:
                return found[::-1]
            above = self.above.get(above)
        return []

    def _unanswered(self) -> None:
        """Calls of the last reply without a result: pi sends a sentence in the place of each."""
        answered: list[Any] = []  # a damaged id may be of any type
        for message in reversed(self.history):
            if message["role"] != "tool":
                for call in message.get("tool_calls", ()) if message["role"] == "assistant" else ():
                    if call["id"] not in answered:
                        self.history.add({"role": "tool", "tool_call_id": call["id"], "content": "No result provided"})
                return
            answered.append(message["tool_call_id"])

    def _result(self, id: str, message: dict[str, Any]) -> None:
        call = text(message.get("toolCallId"))
        content = content_text(message.get("content")) or message.get("content")
        self._tell(id, {"role": "tool", "tool_call_id": call, "content": content})
        ok = not message["isError"] if isinstance(message.get("isError"), bool) else None
        more = without(message, "role", "toolCallId", "toolName", "content", "isError", "timestamp")
        if not self.transcript.result(call, result=message.get("content"), ok=ok, extra=more or None):
            self.transcript.session.warn("tool results that no call in the file asked for")

    def _reply(self, id: str, entry: dict[str, Any], message: dict[str, Any], when: int | None) -> None:
        self._unanswered()
        model = text(message.get("model")) or self.transcript.model
        whose = "/".join(str(message.get(k)) for k in ("provider", "api")) + f"/{model}"
        answer = _answer(self.transcript, entry, message, when, model, self.history.sent_to(whose))
        if message.get("stopReason") in ("error", "aborted"):  # not sent again
            return
        blocks = dicts(message.get("content"))
        thought = any(b.get("type") == "thinking" for b in blocks)
        kinds = ("text", "thinking")
        as_text = "".join(t for b in blocks if b.get("type") in kinds and not b.get("redacted") and (t := text(b.get(b["type"]))))
        other = {**without(answer, "reasoning_content"), "content": as_text or None}
        self._add(id, answer, (whose, other) if thought else None)


def _ran(message: dict[str, Any]) -> str:
    """What the model is told of a command that the person ran."""
    output, code = text(message.get("output")), integer(message.get("exitCode"))
    told = f"Ran `{message.get('command')}`\n" + (f"```\n{output}\n```" if output else "(no output)")
    if message.get("cancelled"):
        return told + "\n\n(command cancelled)"
    return told + (f"\n\nCommand exited with code {code}" if code else "")


def _answer(
    transcript: Transcript, entry: dict[str, Any], message: dict[str, Any], when: int | None, model: str | None, sent: list[Any]
) -> dict[str, Any]:
    """Records a reply, and returns it as its own model is sent it again."""
    blocks = dicts(message.get("content"))
    usage = obj(message.get("usage"))
    counts = (integer(usage.get(n)) for n in ("input", "cacheRead", "cacheWrite"))
    asked = [
        {"id": b.get("id"), "type": "function", "function": {"name": b.get("name"), "arguments": b.get("arguments")}}
        for b in blocks
        if b.get("type") == "toolCall"
    ]
    answer: dict[str, Any] = {"role": "assistant", "content": content_text(blocks)}
    if asked:
        answer["tool_calls"] = asked
    thoughts = [b["thinking"] for b in blocks if isinstance(b.get("thinking"), str) and b["thinking"]]
    if thoughts:
        answer["reasoning_content"] = "\n\n".join(thoughts)
    about = {k: entry[k] for k in ("id", "parentId") if entry.get(k) is not None}
    transcript.replied(
        answer,
        when=when,
        request={"messages": Prefix(sent)},
        model=model,
        usage=usage or None,
        prompt_tokens=added(*counts),
        completion_tokens=integer(usage.get("output")),
        cost=number(obj(usage.get("cost")).get("total")),
        finish_reason=text(message.get("stopReason")),
        error=message.get("errorMessage"),
        extra={**about, **without(message, "role", "usage", "model", "stopReason", "errorMessage", "timestamp")},
    )
    return answer
