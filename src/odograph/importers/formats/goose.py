"""Goose: its database (`sessions.db`), `goose session export --format json`, and the older JSON lines.

A message has a role, when it was made, and contents: texts, thoughts, `toolRequest` with a call that may have failed to
parse, and `toolResponse`, which a user's message carries.

Source: block/goose, crates/goose/src/conversation/message.rs and session_manager.rs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import content_text, dicts, integer, items, obj, text, without
from ...types import Start
from ..databases import has_tables, rows
from ..peek import keys
from ..session import Lines, NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "goose"


def recognise(path: Path, head: bytes) -> bool:
    """A database with the tables and their columns, an export with a `conversation`, or lines that begin with a session's
    metadata."""
    if head.startswith(b"SQLite format 3\x00"):
        return has_tables(path, ("sessions", "messages")) and _is_ours(path)
    root, found = keys(head)
    if root != "{" or "working_dir" not in found:
        return False
    return bool(found & {"conversation", "total_tokens", "message_count", "accumulated_total_tokens"})


def _is_ours(path: Path) -> bool:
    with rows(path) as ask:
        columns = {row["name"] for row in ask("select name from pragma_table_info('messages')")}
    return {"session_id", "role", "content_json"} <= columns


def read(path: Path) -> Iterator[Session]:
    """A session per session of a database, or the one of a file. Raises NotBegun where none has a message."""
    with path.open("rb") as file:
        is_database = file.read(16).startswith(b"SQLite")
    made = 0
    for about, messages, problems in _of_database(path) if is_database else [_of_file(path)]:
        if messages:
            made += 1
            session = _session(path, about, messages)
            for problem in problems:
                session.warn(problem)
            yield session
    if not made:
        raise NotBegun("a Goose file without a message")


_Found = tuple[dict[str, Any], list[dict[str, Any]], list[str]]


def _of_database(path: Path) -> Iterator[_Found]:
    with rows(path) as ask:
        for session in ask("select * from sessions order by created_at, id"):
            messages: list[dict[str, Any]] = []
            for row in ask("select * from messages where session_id = ? order by id", session["id"]):
                try:
                    content = loads(row.get("content_json") or "")
                except (InvalidInput, TypeError):
                    content = [{"type": "text", "text": row.get("content_json")}]
                messages.append({"role": row.get("role"), "created": row.get("created_timestamp"), "content": content})
            yield {k: v for k, v in session.items() if v is not None}, messages, []


def _of_file(path: Path) -> _Found:
    try:
        whole = obj(loads(path.read_bytes()))
    except InvalidInput:
        whole = {}
    if "conversation" in whole:
        talk = whole["conversation"]
        return without(whole, "conversation"), dicts(talk if isinstance(talk, list) else obj(talk).get("messages")), []
    lines = Lines(path)
    values = [v for _, v in lines if isinstance(v, dict)]
    about = values[0] if values and "role" not in values[0] else {}
    return {"id": path.stem, **about}, [v for v in values if "role" in v], lines.problems


def _session(path: Path, about: dict[str, Any], messages: list[dict[str, Any]]) -> Session:
    session = Session(NAME, text(about.get("id")) or path.stem)
    task = next((t for m in messages if m.get("role") == "user" and (t := content_text(m.get("content")))), None)
    started = parse_time(about.get("created_at")) or parse_time(messages[0].get("created"))
    model = text(obj(_parsed(about.get("model_config_json", about.get("model_config")))).get("model_name"))
    source = {"format": NAME, "path": path.name, **about, "interactive": True}
    prompt, said = (
        next((n for k in (f"accumulated_{kind}_tokens", f"{kind}_tokens") if (n := integer(about.get(k))) is not None), None)
        for kind in ("input", "output")
    )
    totals = {k: v for k, v in (("prompt_tokens", prompt), ("completion_tokens", said)) if v is not None}
    if totals:
        source["totals"] = totals
    session.add(Start(task=task, agent="goose", model=model, metadata={"source": source}, source_time=started), "start")
    transcript = Transcript(session, model=model)
    for message in messages:
        _message(transcript, message)
    transcript.close()
    return session


def _parsed(value: Any) -> Any:
    try:
        return loads(value) if isinstance(value, str) else value
    except InvalidInput:
        return value


def _message(transcript: Transcript, message: dict[str, Any]) -> None:
    contents = dicts(message.get("content"))
    when = parse_time(message.get("created"))
    said = content_text(contents)
    if message.get("role") == "assistant":
        requests = [c for c in contents if c.get("type") in ("toolRequest", "frontendToolRequest")]
        calls = [{"id": c.get("id"), "type": "function", "function": _call(c)} for c in requests]
        thoughts = [
            t for c in contents if c.get("type") in ("thinking", "reasoning") and (t := text(c.get("thinking", c.get("text"))))
        ]
        answer = {"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})}
        transcript.replied(answer, when=when, reasoning="\n\n".join(thoughts) or None)
        return
    for content in contents:
        if content.get("type") == "toolResponse":
            _result(transcript, content)
    rest = [c for c in contents if c.get("type") != "toolResponse"]
    if rest:
        only_text = all(c.get("type") == "text" for c in rest)
        transcript.saw({"role": "user", "content": said if only_text else rest}, id=text(message.get("id")), when=when)


def _call(request: dict[str, Any]) -> dict[str, Any]:
    """The call of a request; one that the model wrote wrongly has an error in its place."""
    given = obj(request.get("toolCall"))
    value = obj(given.get("value")) or (given if "name" in given else {})
    return {"name": value.get("name"), "arguments": value.get("arguments", given.get("error"))}


def _result(transcript: Transcript, response: dict[str, Any]) -> None:
    given = obj(response.get("toolResult"))
    value = given.get("value")
    inner = value.get("content") if isinstance(value, dict) else value
    failed = given.get("status") == "error" or obj(value).get("isError") is True
    told = content_text(inner) if inner is not None else text(given.get("error"))
    id = text(response.get("id"))
    error = given.get("error") if given.get("status") == "error" else None
    if not transcript.result(id, result=inner if told is None else told, ok=not failed, error=error):
        transcript.session.warn("tool results that no call in the file asked for")
    transcript.saw({"role": "tool", "tool_call_id": id, "content": told if told is not None else items(inner)}, noted=True)
