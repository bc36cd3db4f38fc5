"""Cursor: its database (`state.vscdb`), and the transcripts of agents (`agent-transcripts/**/<id>.jsonl`).

In the database a chat is `composerData:<id>`, whose headers give the order of its bubbles, each in `bubbleId:<id>:<bubble>`.
Bubbles of the assistant that follow each other without a tool's result between are one answer of the model. Transcripts have
roles and content blocks, and no times, ids or results.

Source: the files that Cursor writes (composer version 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import arguments, dicts, integer, items, obj, text, without
from ...types import Start
from .. import blocks
from ..databases import has_tables, rows
from ..session import Lines, NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "cursor"


def recognise(path: Path, head: bytes) -> bool:
    """A SQLite file with Cursor's table of keys, or lines of a role and a message whose content are blocks, and nothing else."""
    if head.startswith(b"SQLite format 3\x00"):
        return has_tables(path, ("cursorDiskKV",))
    try:
        first = obj(loads(head.lstrip().split(b"\n", 1)[0]))
    except InvalidInput:
        return False
    inside = obj(first.get("message"))
    return (
        first.keys() <= {"role", "message", "timestamp"}
        and "role" in first
        and isinstance(inside.get("content"), list)
        and "id" not in inside
    )


def read(path: Path) -> Iterator[Session]:
    """A session per chat with a bubble, or the one of a transcript. Raises NotBegun where there is none."""
    with path.open("rb") as file:
        is_database = file.read(16).startswith(b"SQLite")
    made = 0
    for session in _of_database(path) if is_database else _of_lines(path):
        made += 1
        yield session
    if not made:
        raise NotBegun("no chat of Cursor with a message")


# --- transcripts -----------------------------------------------------------------------------------------------------


def _of_lines(path: Path) -> Iterator[Session]:
    lines = Lines(path)
    entries = [v for _, v in lines if isinstance(v, dict) and isinstance(v.get("message"), dict)]
    if not entries:
        return
    session = Session(NAME, path.stem)
    for problem in lines.problems:
        session.warn(problem)
    task = next((_asked(blocks.told(e["message"].get("content"))) for e in entries if e.get("role") == "user"), None)
    source = {"format": NAME, "path": path.name, "session": path.stem, "interactive": True}
    session.add(Start(task=task, agent="cursor", metadata={"source": source}), "start")
    transcript = Transcript(session, dialect="anthropic.messages")
    for entry in entries:
        blocks.add(transcript, {"role": entry.get("role"), "content": entry["message"].get("content")})
    transcript.close()
    yield session


def _asked(told: str | None) -> str | None:
    """What a person asked, without the tags that the program puts around it."""
    inner = (told or "").partition("<user_query>")[2].partition("</user_query>")[0].strip()
    return inner or told


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
                yield _session(path, id, composer, bubbles)


def _json(value: Any) -> dict[str, Any]:
    try:
        return obj(loads(value)) if isinstance(value, str | bytes) else {}
    except InvalidInput:
        return {}


def _session(path: Path, id: str, composer: dict[str, Any], bubbles: list[dict[str, Any]]) -> Session:
    session = Session(NAME, id)
    started = parse_time(composer.get("createdAt"))
    task = next((t for b in bubbles if b.get("type") == 1 and (t := text(b.get("text")))), None)
    model = text(obj(composer.get("modelConfig")).get("modelName"))
    about = {
        k: composer[k]
        for k in ("name", "unifiedMode", "isAgentic", "status", "subagentInfo", "_v")
        if composer.get(k) is not None
    }
    source = {"format": NAME, "path": path.name, "session": id, **about, "interactive": True}
    session.add(Start(task=task, agent="cursor", model=model, metadata={"source": source}, source_time=started), "start")
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
        ok = None if status not in ("completed", "error", "cancelled") else status == "completed"
        extra = {
            "bubble": bubble.get("bubbleId"),
            **{k: tool[k] for k in ("userDecision", "additionalData", "params") if tool.get(k)},
        }
        value = arguments(result)
        transcript.result(id, result=value, ok=ok, error=arguments(tool.get("error")), extra=extra)
        transcript.saw(
            {"role": "tool", "tool_call_id": id, "content": result if isinstance(result, str) else items(result) or result},
            noted=True,
        )
