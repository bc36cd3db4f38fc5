"""OpenCode: its database (`opencode.db`), and `opencode export` (`{info, messages[{info, parts}]}`).

An assistant's message is one call: its parts are texts, thoughts and tools with their results. A message whose `summary` is
true is a compaction: what follows is sent behind it alone. A sub-agent is a session of its own whose `parent_id` names the
parent: its start says so. A fork copies its parent's messages, with their times, and does not name the parent. Prompt tokens
of a message leave the cached ones out.

Source: sst/opencode, packages/opencode/src/session (1.18).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...codec import loads
from ...errors import InvalidInput
from ...shape import added, dicts, integer, number, obj, text, without
from ...types import Fork, Note, Start
from ..databases import has_tables, rows
from ..peek import keys
from ..session import NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "opencode"
_TABLES = ("session", "message", "part", "project")
#: The session whose own a message of that time is.
_FORKED = (
    "select session.id from message join session on session.id = message.session_id "
    "where message.time_created = ? and session.id != ? and session.time_created <= ? order by session.time_created"
)


def recognise(path: Path, head: bytes) -> bool:
    """A SQLite file with the tables, or an export: an object with `info` and `messages` of `info` and `parts`."""
    if head.startswith(b"SQLite format 3\x00"):
        return has_tables(path, _TABLES)
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
    with rows(path) as ask:
        for session in ask("select * from session order by time_created, id"):
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
    before = Transcript(Session(NAME), model=start.model)  # what is another session's is read for the history that it leaves
    for message in messages[:shared]:
        _message(before, message)
    if shared:
        start = msgspec.structs.replace(
            start, fork=Fork(trajectory=Session(NAME, forked.get("session")).id, step=before.step + 1, reason="forked")
        )
    session.add(start, "start")
    transcript = Transcript(session, model=start.model)
    transcript.history, transcript.step = before.history, before.step
    for message in messages[shared:]:
        _message(transcript, message)
    transcript.close()
    return session


def _said(part: dict[str, Any]) -> str | None:
    return text(part.get("text")) if part.get("type") == "text" and not part.get("ignored") else None


def _message(transcript: Transcript, message: dict[str, Any]) -> None:
    parts: list[dict[str, Any]] = message["parts"]
    times = obj(message.get("time"))
    said = [t for p in parts if (t := _said(p))]
    if message.get("role") != "assistant":
        others = [
            without(p, "id", "sessionID", "messageID")
            for p in parts
            if p.get("type") in ("file", "agent", "subtask", "compaction")
        ]
        content: Any = "\n".join(said) if not others else [*({"type": "text", "text": t} for t in said), *others]
        if content:
            transcript.saw(
                {"role": "user", "content": content}, id=text(message.get("id")), when=parse_time(times.get("created"))
            )
        return
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
    answer: dict[str, Any] = {"role": "assistant", "content": "\n".join(said) or None, **({"tool_calls": calls} if calls else {})}
    if thoughts:  # they are sent again
        answer["reasoning_content"] = "\n\n".join(thoughts)
    tokens, cache = obj(message.get("tokens")), obj(obj(message.get("tokens")).get("cache"))
    began, ended = parse_time(times.get("created")), parse_time(times.get("completed"))
    if ended is None and not parts and not message.get("finish") and not message.get("error"):
        return  # nothing of it came
    if message.get("summary") is True:
        note = Note(name="compaction", data={"summary": "\n".join(said)}, source_time=ended or began)
        transcript.session.add(note, "compaction", message.get("id"))
    system = message.get("system")
    call = transcript.replied(
        answer,
        when=ended or began,
        begin=True,
        model=text(message.get("modelID")) or transcript.model,
        usage=tokens or None,
        prompt_tokens=added(*(integer(n) for n in (tokens.get("input"), cache.get("read"), cache.get("write")))),
        completion_tokens=added(integer(tokens.get("output")), integer(tokens.get("reasoning"))),
        cost=number(message.get("cost")),
        finish_reason=text(message.get("finish")),
        started=began,
        duration=ended - began if began is not None and ended is not None and ended >= began else None,
        error=message.get("error"),
        extra={"id": message.get("id"), "parent": message.get("parentID"), **({"system": system} if system else {})},
    )
    for part in tools:
        _result(transcript, part)
    if message.get("summary") is True:
        transcript.history = [{"role": "assistant", "content": call.response["content"]}]


def _result(transcript: Transcript, part: dict[str, Any]) -> None:
    state = obj(part.get("state"))
    status = state.get("status")
    if status not in ("completed", "error"):
        return  # it runs
    times = obj(state.get("time"))
    began, ended = parse_time(times.get("start")), parse_time(times.get("end"))
    about = obj(state.get("metadata"))
    ok = status == "completed" and about.get("exit") in (None, 0)
    result = state.get("output") if status == "completed" else None
    told = result if result is not None else state.get("error")
    attached = dicts(state.get("attachments"))  # images that a tool read are sent with its text
    if attached:
        shown = [without(a, "id", "sessionID", "messageID") for a in attached]
        result = told = [*([{"type": "text", "text": told}] if told else []), *shown]
    id = text(part.get("callID"))
    child = text(about.get("sessionId")) if part.get("tool") == "task" else None  # a sub-agent has a session of its own
    transcript.result(
        id,
        result=result,
        ok=ok,
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
    transcript.saw({"role": "tool", "tool_call_id": id, "content": told}, noted=True)
