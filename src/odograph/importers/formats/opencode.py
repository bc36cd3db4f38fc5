"""OpenCode: its database (`opencode.db`), and `opencode export` (`{info, messages[{info, parts}]}`).

An assistant's message is one call: its parts are texts, thoughts and tools with their results. A message whose `summary` is
true is a compaction: what follows is sent behind it and behind the messages that it kept (`tail_start_id`). What OpenCode
does not send again is in no later prompt: a reply that failed, results that were cleared since (`time.compacted`). A
sub-agent is a session of its own whose `parent_id` names the parent: its start says so. A fork copies its parent's messages,
with their times, and does not name the parent. Prompt tokens of a message leave the cached ones out. Version 2 has tables of
its own (`opencode_v2.py`), in which a fork names its parent, and a reply that failed is sent again.

Source: sst/opencode, packages/opencode/src/session (1.18).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...codec import loads
from ...dialects.content import media
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import added, dicts, integer, number, obj, text, without
from ...types import Fork, Note, Start
from ..databases import has_tables, rows
from ..peek import keys
from ..session import NotBegun, Session, parse_time
from ..transcript import Transcript
from ..views import Messages
from . import opencode_v2

NAME = "opencode"
_TABLES = ("session", "message", "part", "project")
#: What OpenCode sends in the place of a part, and of a result that it cleared.
_WORDS = {"compaction": "What did we do so far?", "subtask": "The following tool was executed by the user"}
_CLEARED = "[Old tool result content cleared]"
_READ = ("text/plain", "application/x-directory")
_STOPPED = "MessageAbortedError"
#: The session whose own a message of that time is.
_FORKED = (
    "select session.id from message join session on session.id = message.session_id "
    "where message.time_created = ? and session.id != ? and session.time_created <= ? order by session.time_created"
)


def recognise(path: Path, head: bytes) -> bool:
    """A SQLite file with the tables, or an export: an object with `info` and `messages` of `info` and `parts`."""
    if head.startswith(b"SQLite format 3\x00"):
        return has_tables(path, _TABLES) or has_tables(path, opencode_v2.TABLES)
    if path.is_dir():
        return False
    root, found = keys(head)
    return root == "{" and {"info", "messages"} <= found and bool(found & {"info.slug", "info.projectID", "info.directory"})


def read(path: Path) -> Iterator[Session]:
    """A session per session of the database, parents first; or the one that was exported. Raises NotBegun where it is empty."""
    with path.open("rb") as file:
        is_database = file.read(16).startswith(b"SQLite")
    made = 0
    for info, messages in _of_database(path) if is_database else [_of_export(path)]:
        if len(messages) > obj(info.get("forked")).get("messages", 0):  # else nobody said anything in the fork
            made += 1
            yield _session(path, info, messages)
    if not made:
        raise NotBegun("an OpenCode file without a message")


def _of_export(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    whole = obj(loads(path.read_bytes()))
    return obj(whole.get("info")), [{**obj(m.get("info")), "parts": dicts(m.get("parts"))} for m in dicts(whole.get("messages"))]


def _of_database(path: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    newer, older = has_tables(path, opencode_v2.TABLES), has_tables(path, _TABLES)
    with rows(path) as ask:
        seen: set[Any] = set()
        for info, messages in opencode_v2.sessions(ask) if newer else ():
            seen.add(info.get("id"))
            if (of := text(info.get("fork_session_id"))) and (shared := _shared(info, messages)):
                info |= {"forked": {"session": of, "messages": shared}}
            yield info, messages
        for session in ask("select * from session order by time_created, id") if older else ():
            if session["id"] in seen:  # version 2 took it over
                continue
            parts: dict[str, list[dict[str, Any]]] = {}
            for part in ask("select id, message_id, data from part where session_id = ? order by id", session["id"]):
                parts.setdefault(str(part["message_id"]), []).append({"id": part["id"], **_data(part["data"])})
            found = ask("select * from message where session_id = ? order by time_created, id", session["id"])
            messages = [
                {"id": m["id"], **_data(m["data"]), "parts": parts.get(str(m["id"]), []), "at": m["time_created"]} for m in found
            ]
            info = {k: v for k, v in session.items() if v is not None}
            times = {"created": info.get("time_created"), "updated": info.get("time_updated")}
            if not info.get("parent_id") and (shared := _shared(info, messages)):
                last = messages[shared - 1]["at"]
                of = next((text(row["id"]) for row in ask(_FORKED, last, session["id"], last)), None)
                info |= {"forked": {"session": of, "messages": shared}} if of is not None else {}
            yield {**info, "time": times, "parentID": info.get("parent_id"), "projectID": info.get("project_id")}, messages


def _shared(info: dict[str, Any], messages: list[dict[str, Any]]) -> int:
    """How many messages a session begins with that are older than itself: a fork copies them under new ids."""
    began = integer(info.get("time_created"))
    times = (integer(m["at"]) for m in messages)
    return next((n for n, time in enumerate(times) if began is None or time is None or time >= began), len(messages))


def _data(value: Any) -> dict[str, Any]:
    try:
        return obj(loads(value)) if isinstance(value, str | bytes) else {}
    except InvalidInput:
        return {}


def _session(path: Path, info: dict[str, Any], messages: list[dict[str, Any]]) -> Session:
    started = parse_time(obj(info.get("time")).get("created"))
    session = Session(NAME, text(info.get("id")) or path.name, started=None)
    forked = obj(info.get("forked"))
    shared = integer(forked.get("messages")) or 0
    people = (m for m in messages[shared:] if m.get("role") == "user")
    asked = (t for m in people for p in m["parts"] if (t := _said(p)) and not p.get("synthetic"))
    parent = text(info.get("parentID"))
    kept = (
        "parts",
        "time",
        "summary_diffs",
        "permission",
        "revert",
        "time_created",
        "time_updated",
        "parent_id",
        "project_id",
    )
    source = {
        "format": NAME,
        "path": path.name,
        "session": info.get("id"),
        **without(info, "id", "forked", *kept),
        "interactive": True,
    }
    start = Start(
        task=next(asked, None),
        agent="kilo-code" if path.name.startswith("kilo") else "opencode",
        agent_version=text(info.get("version")),
        model=next((text(m.get("modelID")) for m in messages if text(m.get("modelID"))), None),
        metadata={"source": {k: v for k, v in source.items() if v is not None}},
        source_time=started,
        fork=Fork(trajectory=Session(NAME, parent).id, reason="sub-agent") if parent else None,
    )
    talk = _Talk(Transcript(Session(NAME), model=start.model))  # what is another session's is read for the history that it leaves
    for message in messages[:shared]:
        talk.take(message)
    if shared:
        of = Session(NAME, forked.get("session")).id
        start = msgspec.structs.replace(start, fork=Fork(trajectory=of, step=talk.transcript.step + 1, reason="forked"))
    session.add(start, "start")
    transcript = Transcript(session, model=start.model)
    transcript.step = talk.transcript.step
    talk.transcript = transcript
    for message in messages[shared:]:
        talk.take(message)
    transcript.close()
    return session


def _said(part: dict[str, Any]) -> str | None:
    return text(part.get("text")) if part.get("type") == "text" and not part.get("ignored") else None


class _Talk:
    """The conversation message by message, as the program sends it."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.history = Messages()
        #: Where each message of the program begins in the history.
        self.spots: dict[str, int] = {}
        #: The message that asked for a compaction: where it begins, and the first message that stays.
        self.compacting: tuple[int, str | None] | None = None
        #: The tool results in the history that are cleared later: where each stands, and when that was.
        self.cleared: list[tuple[int, int]] = []

    def take(self, message: dict[str, Any]) -> None:
        if (id := text(message.get("id"))) is not None:
            self.spots[id] = len(self.history)
        if message.get("role") == "assistant":
            self._reply(message)
        elif message.get("role") in ("checkpoint", "note"):
            self._noted(message)
        else:
            self._asked(message)

    def _noted(self, message: dict[str, Any]) -> None:
        """What the program says of the session; from a compaction on, prompts begin with what it left."""
        data, when = obj(message.get("data")), parse_time(obj(message.get("time")).get("created"))
        name = text(message.get("name")) or "compaction"
        self.transcript.session.add(Note(name=name, data=data, source_time=when), "note", message.get("id"))
        if message.get("role") == "checkpoint":
            left = f"<summary>\n{data.get('summary')}\n</summary>\n\n<recent-context>\n{data.get('recent')}\n</recent-context>"
            self.history = Messages()
            self.history.add({"role": "user", "content": f"<conversation-checkpoint>\n{left}\n</conversation-checkpoint>"})

    def _asked(self, message: dict[str, Any]) -> None:
        parts = message["parts"]
        content = [said for p in parts if (said := _sent(p)) is not None]
        for part in parts:
            if part.get("type") == "compaction":
                self.compacting = (len(self.history), text(part.get("tail_start_id")))
        if not content:
            return
        plain = all(isinstance(c, str) for c in content)
        said = {
            "role": message.get("role") if message.get("role") == "system" else "user",
            "content": "\n".join(content)
            if plain
            else [{"type": "text", "text": c} if isinstance(c, str) else c for c in content],
        }
        when = parse_time(obj(message.get("time")).get("created"))
        self.transcript.saw(said, id=text(message.get("id")), when=when)
        self.history.add(said)

    def _reply(self, message: dict[str, Any]) -> None:
        parts = message["parts"]
        times, failed = obj(message.get("time")), obj(message.get("error"))
        began, ended = parse_time(times.get("created")), parse_time(times.get("completed"))
        if ended is None and not parts and not message.get("finish") and not failed:
            return  # nothing of it came
        self._clear(began)
        said = [t for p in parts if (t := _said(p))]
        tools = [p for p in parts if p.get("type") == "tool"]
        thoughts = [t for p in parts if p.get("type") == "reasoning" and (t := text(p.get("text")))]
        calls = [
            {
                "id": p.get("callID"),
                "type": "function",
                "function": {"name": p.get("tool"), "arguments": obj(p.get("state")).get("input")},
            }
            for p in tools
        ]
        asked = {"tool_calls": calls} if calls else {}
        answer: dict[str, Any] = {"role": "assistant", "content": "\n".join(said) or None, **asked}
        if thoughts:  # they are sent again
            answer["reasoning_content"] = "\n\n".join(thoughts)
        tokens, cache = obj(message.get("tokens")), obj(obj(message.get("tokens")).get("cache"))
        compaction = message.get("summary") is True
        if compaction:
            note = Note(name="compaction", data={"summary": "\n".join(said)}, source_time=ended or began)
            self.transcript.session.add(note, "compaction", message.get("id"))
        system = message.get("system")
        model = text(message.get("modelID")) or self.transcript.model
        whose = f"{message.get('providerID')}/{model}"
        sent = self.history.sent_to(whose)
        self.transcript.replied(
            answer,
            when=ended or began,
            begin=True,
            request={"messages": Prefix(sent, self._head() if compaction else len(sent))},
            model=model,
            usage=tokens or None,
            prompt_tokens=added(*(integer(n) for n in (tokens.get("input"), cache.get("read"), cache.get("write")))),
            completion_tokens=added(integer(tokens.get("output")), integer(tokens.get("reasoning"))),
            cost=number(message.get("cost")),
            finish_reason=text(message.get("finish")),
            started=began,
            duration=ended - began if began is not None and ended is not None and ended >= began else None,
            error=message.get("error"),
            extra={
                "id": message.get("id"),
                "parent": message.get("parentID"),
                **{k: message[k] for k in ("agent", "retry") if message.get("kept") and k in message},
                **({"system": system} if system else {}),
            },
        )
        for part in tools:
            _result(self.transcript, part)
        stopped = failed.get("name") == _STOPPED and any(p.get("type") not in ("step-start", "reasoning") for p in parts)
        if failed and not stopped and not (message.get("kept") and (said or thoughts or calls)):  # not sent again
            return
        as_text = [t for p in parts if (t := _said(p) or (text(p.get("text")) if p.get("type") == "reasoning" else None))]
        other = {"role": "assistant", "content": "\n".join(as_text) or None, **asked}
        if compaction:
            self._compacted(answer)
        else:
            self.history.add(answer, (whose, other) if thoughts else None)
        for part in tools:
            if message.get("kept") and obj(part.get("state")).get("status") not in ("completed", "error"):
                continue
            cleared = parse_time(obj(obj(part.get("state")).get("time")).get("compacted"))
            if cleared is not None:
                self.cleared.append((len(self.history), cleared))
            self.history.add({"role": "tool", "tool_call_id": text(part.get("callID")), "content": _told(obj(part.get("state")))})

    def _head(self) -> int:
        """How many messages a compaction is told: those that it does not keep."""
        asked, tail = self.compacting or (len(self.history), None)
        return min(asked, self.spots.get(tail or "", asked))

    def _compacted(self, summary: dict[str, Any]) -> None:
        asked, tail = self.compacting or (len(self.history), None)
        before, kept = self.history, range(self.spots.get(tail or "", asked), asked)
        self.history, self.compacting = Messages(), None
        for n in (*range(asked, len(before)), None, *kept):
            self.history.add(summary if n is None else before[n], None if n is None else before.otherwise.get(n))
        moved = len(before) - asked + 1 - kept.start
        self.spots = {id: at + moved for id, at in self.spots.items() if at in kept}
        self.cleared = [(at + moved, when) for at, when in self.cleared if at in kept]

    def _clear(self, now: int | None) -> None:
        """The results that were cleared before a reply began are sent as a sentence from then on."""
        gone = [at for at, when in self.cleared if now is not None and when <= now]
        if gone:
            self.cleared = [(at, when) for at, when in self.cleared if at not in gone]
            before, self.history = self.history, Messages()
            for n, message in enumerate(before):
                self.history.add({**message, "content": _CLEARED} if n in gone else message, before.otherwise.get(n))


def _sent(part: dict[str, Any]) -> Any:
    """What a part of a person's message is sent as: a text, or what is no text. None for what the program keeps to itself."""
    kind = part.get("type")
    if kind == "file":  # a text or a folder is read into a text beside it
        return None if part.get("mime") in _READ else media(part.get("mime"), url=part.get("url"))
    return _said(part) if kind == "text" else _WORDS.get(kind) if isinstance(kind, str) else None


def _told(state: dict[str, Any]) -> Any:
    """What the model is sent of a tool."""
    status = state.get("status")
    if status not in ("completed", "error"):
        return "[Tool execution was interrupted]"
    before = obj(state.get("metadata"))
    if status == "error":
        return before["output"] if before.get("interrupted") is True and text(before.get("output")) else state.get("error")
    return _result_of(state)


def _result_of(state: dict[str, Any]) -> Any:
    """A tool's output, and the images that it read."""
    output, attached = state.get("output"), dicts(state.get("attachments"))
    if not attached:
        return output
    shown = [without(a, "id", "sessionID", "messageID") for a in attached]
    return [*([{"type": "text", "text": output}] if output else []), *shown]


def _result(transcript: Transcript, part: dict[str, Any]) -> None:
    state = obj(part.get("state"))
    status = state.get("status")
    if status not in ("completed", "error"):
        return  # it runs, or was stopped
    times = obj(state.get("time"))
    began, ended = parse_time(times.get("start")), parse_time(times.get("end"))
    about = obj(state.get("metadata"))
    id = text(part.get("callID"))
    named = text(about.get("sessionId")) or text(about.get("sessionID"))
    child = named if part.get("tool") in ("task", "subagent") else None  # a sub-agent has a session of its own
    transcript.result(
        id,
        result=_result_of(state) if status == "completed" else None,
        ok=status == "completed" and about.get("exit") in (None, 0),
        error=state.get("error"),
        started=began,
        duration=ended - began if began is not None and ended is not None and ended >= began else None,
        extra={
            "id": part.get("id"),
            "title": state.get("title"),
            "metadata": state.get("metadata"),
            **({"trajectory": Session(NAME, child).id} if child else {}),
        },
    )
