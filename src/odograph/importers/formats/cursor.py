"""Cursor: its database (`state.vscdb`), the chats of its command line (`store.db`), and the transcripts of agents
(`agent-transcripts/**/<id>.jsonl`).

In the database a chat is `composerData:<id>`, whose headers give the order of its bubbles, each in `bubbleId:<id>:<bubble>`.
Bubbles of the assistant that follow each other without a tool's result between are one answer of the model. A sub-agent has a
chat of its own, which names its parent and the tool call. Transcripts have roles and content blocks, and no ids or results; the
time stands in the text of what a person asked, and how a turn ended in a line (`turn_ended`). Where the chat that a transcript
tells of is there, the chat is read in its place. The transcripts of sub-agents (`<id>/subagents/<sub-agent>.jsonl`) belong to the
session whose folder they are in.

Source: the files that Cursor writes (composer version 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import arguments, dicts, integer, items, obj, text, without
from ...spans.chat import message as shaped
from ...types import Action, Fork, Note, Start
from .. import blocks, peek
from ..databases import Ask, has_tables, rows
from ..session import Lines, NotBegun, Session, parse_time
from ..transcript import Transcript
from .cursor_store import beside, chat, is_store

NAME = "cursor"
#: `Wednesday, Sep 16, 2026, 3:37 PM (UTC-4)`.
_TIME = re.compile(
    r"<timestamp>\w+, (\w{3})\w* (\d{1,2}), (\d{4}),? (\d{1,2}:\d{2}).([AP]M) \(UTC(?:([+-]\d{1,2})(?::(\d{2}))?)?\)</timestamp>"
)


def recognise(path: Path, head: bytes) -> bool:
    """A SQLite file with Cursor's table of keys or a chat, or lines of a role and a message whose content are blocks alone."""
    if head.startswith(b"SQLite format 3\x00"):
        return has_tables(path, ("cursorDiskKV",)) or is_store(path)
    try:
        first = obj(peek.value(head.lstrip().split(b"\n", 1)[0]))
    except InvalidInput:
        return False
    if first.get("type") == "turn_ended":
        return first.keys() <= {"type", "status", "error"}
    inside = obj(first.get("message"))
    return (
        first.keys() <= {"role", "message", "timestamp"}
        and "role" in first
        and isinstance(inside.get("content"), list | str)
        and "role" not in inside
    )


def read(path: Path) -> Iterator[Session]:
    """A session per chat with a bubble, or the one of a transcript. Raises NotBegun where there is none."""
    with path.open("rb") as file:
        is_database = file.read(16).startswith(b"SQLite")
    made = 0
    main = path if is_database else _session_of(path)
    store = (path if is_store(path) else None) if is_database else beside(main)
    found = _of_store(store) if store is not None else _of_database(path) if is_database else _of_lines(main)
    for session in found:
        made += 1
        yield session
    if not made:
        raise NotBegun("no chat of Cursor with a message")


# --- transcripts -----------------------------------------------------------------------------------------------------


def _session_of(path: Path) -> Path:
    """The transcript of the session that a sub-agent's transcript belongs to, where it is there; else the file itself."""
    if path.parent.name != "subagents":
        return path
    folder = path.parents[1]
    known = (folder / f"{folder.name}.jsonl", folder.with_suffix(".jsonl"))
    return next((p for p in known if p.is_file()), path)


def _of_lines(path: Path) -> Iterator[Session]:
    session = Session(NAME, path.stem)
    entries = _entries(path, session)
    if not any("message" in e for e in entries):
        return
    began = next((when for e in entries if (when := _when(e)) is not None), None)
    source = {"format": NAME, "path": path.name, "session": path.stem, "interactive": True}
    session.add(Start(task=_task(entries), agent="cursor", metadata={"source": source}, source_time=began), "start")
    _tell(session, None, entries)
    folder = path.parent / "subagents" if path.parent.name == path.stem else path.with_suffix("") / "subagents"
    for one in peek.files_in(folder, "*.jsonl"):
        told = _entries(one, session)
        asked = _task(told)
        actions = (r for r in session.records if isinstance(r, Action) and r.agent is None)
        by = next((a for a in actions if asked and str(obj(a.arguments).get("prompt")).strip() == asked), None)
        kind = text(obj(by.arguments).get("subagent_type")) if by is not None else None
        agent = f"{kind or 'agent'}-{one.stem}"
        session.known(agent, one.stem)
        session.within(agent, by.id if by is not None else None)
        _tell(session, agent, told)
    yield session


def _entries(path: Path, session: Session) -> list[dict[str, Any]]:
    lines = Lines(path)
    entries = [
        v for _, v in lines if isinstance(v, dict) and (isinstance(v.get("message"), dict) or v.get("type") == "turn_ended")
    ]
    for problem in lines.problems:
        session.warn(problem)
    return entries


def _tell(session: Session, agent: str | None, entries: list[dict[str, Any]]) -> None:
    transcript = Transcript(session, dialect="anthropic.messages", agent=agent)
    for place, entry in enumerate(entries):
        content = obj(entry.get("message")).get("content")
        if entry.get("type") != "turn_ended":
            blocks.add(transcript, {"role": entry.get("role"), "content": content}, when=_when(entry))
        for ended in (entry, *dicts(content)):
            if ended.get("type") == "turn_ended" and ended.get("status") != "success":
                session.add(Note(name="turn_ended", data=without(ended, "type"), agent=agent), "turn_ended", agent, place)
    transcript.close()


def _task(entries: list[dict[str, Any]]) -> str | None:
    """What a person asked first."""
    return next((_asked(blocks.told(obj(e.get("message")).get("content"))) for e in entries if e.get("role") == "user"), None)


def _asked(told: str | None) -> str | None:
    """What a person asked, without the tags that the program puts around it, which may stand in it, too."""
    inner = (told or "").partition("<user_query>")[2].rpartition("</user_query>")[0].strip()
    return inner or told


def _when(entry: dict[str, Any]) -> int | None:
    """When a message came: what the line says, or the text of a person's."""
    if (stated := parse_time(entry.get("timestamp"))) is not None or entry.get("role") != "user":
        return stated
    content = obj(entry.get("message")).get("content")
    found = _TIME.search(content if isinstance(content, str) else blocks.told(content) or "")
    if found is None:
        return None
    month, day, year, clock, half, hours, minutes = found.groups()
    ahead = timedelta(hours=int(hours or 0), minutes=int(f"{(hours or '+')[0]}{minutes or 0}"))
    with suppress(ValueError, OverflowError):
        at = datetime.strptime(f"{month} {day} {year} {clock} {half}", "%b %d %Y %I:%M %p").replace(tzinfo=timezone(ahead))
        return parse_time(at.isoformat())
    return None


# --- chats of the command line ---------------------------------------------------------------------------------------


def _of_store(path: Path) -> Iterator[Session]:
    found = chat(path)
    if not found.messages:
        return
    session = Session(NAME, found.id)
    if found.lost:
        session.warn("messages of a chat that can't be read", found.lost)
    model = text(found.about.get("lastUsedModel"))
    users = (m.get("content") for _, m in found.messages if m.get("role") == "user")
    task = next((t for u in users if (t := _asked(blocks.told(u))) and not t.lstrip().startswith("<")), None)
    source = {
        "format": NAME,
        "path": path.name,
        "session": found.id,
        **without(found.about, "lastUsedModel"),
        "interactive": True,
    }
    started = parse_time(found.about.get("createdAt"))
    session.add(Start(task=task, agent="cursor", model=model, source_time=started, metadata={"source": source}), "start")
    transcript = Transcript(session, by_id=True)  # which model gave which answer, nothing says
    for digest, one in found.messages:
        parts = {text(p.get("toolCallId")): p for p in dicts(one.get("content")) if p.get("type") == "tool-result"}
        for message in shaped(one):
            role, id = message.get("role"), text(message.get("tool_call_id"))
            if role == "assistant":
                # what the shape of a chat has no place for: signatures, and what the program says of a thought
                more = [
                    m for p in dicts(one.get("content")) if p.get("type") == "reasoning" and (m := without(p, "type", "text"))
                ]
                transcript.replied(message, id=digest, extra={"blob": digest, **({"reasoning": more} if more else {})})
                continue
            transcript.saw(message, id=digest)
            failed = obj(parts.get(id)).get("isError")
            ok = not failed if isinstance(failed, bool) else None
            if role == "tool" and not transcript.result(id, result=message.get("content"), ok=ok, extra={"blob": digest}):
                session.warn("tool results that no call in the file asked for")
    transcript.close()
    yield session


# --- the database ----------------------------------------------------------------------------------------------------


def _of_database(path: Path) -> Iterator[Session]:
    with rows(path) as ask:
        for row in ask("select key, value from cursorDiskKV where key >= 'composerData:' and key < 'composerData;' order by key"):
            composer = _json(row["value"])
            id = text(composer.get("composerId")) or str(row["key"]).partition(":")[2]
            bubbles = dicts(composer.get("conversation"))  # before version 3
            for header in dicts(composer.get("fullConversationHeadersOnly")):
                found = next(ask("select value from cursorDiskKV where key = ?", f"bubbleId:{id}:{header.get('bubbleId')}"), None)
                if found is not None:
                    bubbles.append(_json(found["value"]))
            if bubbles:
                session = _session(path, id, composer, bubbles)
                _refer_to_agents(session, composer, ask)
                yield session


def _refer_to_agents(session: Session, composer: dict[str, Any], ask: Ask) -> None:
    """The tool calls that started sub-agents name the trajectories of these."""
    asked = {r.tool_call_id: r for r in session.records if isinstance(r, Action) and r.tool_call_id}
    for child in (*items(composer.get("subagentComposerIds")), *items(composer.get("subComposerIds"))):
        found = next(ask("select value from cursorDiskKV where key = ?", f"composerData:{child}"), None)
        about = obj(_json(found["value"]).get("subagentInfo")) if found is not None else {}
        if (by := asked.get(text(about.get("toolCallId")) or "")) is not None:
            session.replace(by, extra={**(by.extra or {}), "trajectory": Session(NAME, child).id})


def _json(value: Any) -> dict[str, Any]:
    try:
        return obj(loads(value)) if isinstance(value, str | bytes) else {}
    except InvalidInput:
        return {}


def _session(path: Path, id: str, composer: dict[str, Any], bubbles: list[dict[str, Any]]) -> Session:
    session = Session(NAME, id)
    started = parse_time(composer.get("createdAt"))
    people = (b for b in bubbles if b.get("type") == 1 and not b.get("isSimulatedMsg"))
    task = next((t for b in people if (t := text(b.get("text")))), None)
    model = text(obj(composer.get("modelConfig")).get("modelName"))
    about = {
        k: composer[k]
        for k in ("name", "unifiedMode", "isAgentic", "status", "subagentInfo", "_v")
        if composer.get(k) is not None
    }
    child = obj(composer.get("subagentInfo"))
    parent = text(child.get("parentComposerId"))
    fork = Fork(trajectory=Session(NAME, parent).id, reason="sub-agent") if parent and parent != id else None
    source = {"format": NAME, "path": path.name, "session": id, **about, "interactive": fork is None}
    agent = text(child.get("subagentTypeName")) or "cursor"
    start = Start(task=task, agent=agent, model=model, metadata={"source": source}, source_time=started, fork=fork)
    session.add(start, "start")
    transcript = Transcript(session, model=model)
    waiting: list[dict[str, Any]] = []
    for bubble in bubbles:
        if bubble.get("type") == 2:
            # an answer ends with its tools: what is said behind them is the next one
            if waiting and any(b.get("toolFormerData") for b in waiting) and not bubble.get("toolFormerData"):
                _answer(transcript, waiting)
                waiting = []
            waiting.append(bubble)
            continue
        if waiting:
            _answer(transcript, waiting)
            waiting = []
        content = bubble.get("text") or bubble.get("richText")
        attached = without(obj(bubble.get("context")), "mentions")
        attached = {k: v for k, v in attached.items() if v not in ([], {}, None, "", False)}
        transcript.saw(
            {
                "role": "user",
                "content": [{"type": "text", "text": content}, {"type": "context", **attached}] if attached else content,
            },
            id=text(bubble.get("bubbleId")),
            when=parse_time(bubble.get("createdAt")),
        )
    if waiting:
        _answer(transcript, waiting)
    transcript.close()
    return session


def _answer(transcript: Transcript, bubbles: list[dict[str, Any]]) -> None:
    tools = [
        (b, obj(b["toolFormerData"]))
        for b in bubbles
        if obj(b.get("toolFormerData")).get("name") or obj(b.get("toolFormerData")).get("toolCallId")
    ]
    said = [t for b in bubbles if (t := text(b.get("text")))]
    thoughts = [t for b in bubbles if (t := text(obj(b.get("thinking")).get("text")))]
    calls = [
        {
            "id": t.get("toolCallId"),
            "type": "function",
            "function": {"name": t.get("name"), "arguments": t.get("rawArgs") or t.get("params")},
        }
        for _, t in tools
    ]
    if not (said or calls or thoughts):
        return
    answer = {"role": "assistant", "content": "\n".join(said) or None, **({"tool_calls": calls} if calls else {})}
    counts = [obj(b.get("tokenCount")) for b in bubbles]
    # zeros stand where the program counted nothing
    sent = [n for c in counts if (n := integer(c.get("inputTokens")))]
    written = [n for c in counts if (n := integer(c.get("outputTokens")))]
    when = next((w for b in bubbles if (w := parse_time(b.get("createdAt"))) is not None), None)
    transcript.replied(
        answer,
        when=when,
        model=next((m for b in bubbles if (m := text(obj(b.get("modelInfo")).get("modelName")))), transcript.model),
        reasoning="\n\n".join(thoughts) or None,
        prompt_tokens=max(sent) if sent else None,
        completion_tokens=sum(written) if written else None,
        extra={"bubbles": [b.get("bubbleId") for b in bubbles]},
    )
    for bubble, tool in tools:
        id, result = text(tool.get("toolCallId")), tool.get("result")
        status = tool.get("status")
        if status not in ("completed", "error", "cancelled") and result is None:
            continue
        value = arguments(result)
        code = obj(value).get("exitCodeV2", obj(value).get("exitCode"))  # of a command
        refused = obj(value).get("rejected") is True
        ended = status in ("completed", "error", "cancelled")
        ok = status == "completed" and code in (None, 0) and not refused if ended else None
        extra = {
            "bubble": bubble.get("bubbleId"),
            **{k: tool[k] for k in ("userDecision", "additionalData", "params") if tool.get(k)},
        }
        transcript.result(id, result=value, ok=ok, error=arguments(tool.get("error")), extra=extra)
        transcript.saw(
            {"role": "tool", "tool_call_id": id, "content": result if isinstance(result, str) else items(result) or result},
            noted=True,
        )
