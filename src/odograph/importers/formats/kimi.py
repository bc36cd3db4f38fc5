"""Sessions of Kimi CLI: `context.jsonl`, the messages that the model is sent, in OpenAI's shape, with marks in between.

The marks are lines with roles `_usage` (tokens of the whole context), `_checkpoint` and `_system_prompt`. `wire.jsonl` beside
it tells the same to a screen. After a compaction the program begins the file anew.

Source: MoonshotAI/kimi-cli, src/kimi_cli/soul/context.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import content_text, integer, items, text
from ...types import Note, Start
from ..session import Lines, NotBegun, Session
from ..transcript import Transcript

NAME = "kimi"
_MARKS = ("_usage", "_checkpoint", "_system_prompt")


def recognise(path: Path, head: bytes) -> bool:
    """Lines with roles, among them a mark of the program within the first lines; or an empty context by its name and folder."""
    roles: list[Any] = []
    for line in head.split(b"\n")[:50]:
        if line.strip():
            try:
                value = loads(line)
            except InvalidInput:
                break
            if not isinstance(value, dict) or "role" not in value:
                return False
            roles.append(value["role"])
    return any(role in _MARKS for role in roles if isinstance(role, str))


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises NotBegun where it has no message."""
    lines = Lines(path)
    entries = [v for _, v in lines if isinstance(v, dict)]
    messages = [e for e in entries if e.get("role") in ("user", "assistant", "tool", "system")]
    if not messages:
        raise NotBegun("a Kimi session without a message")
    id = path.parent.name if path.name == "context.jsonl" else path.stem
    session = Session(NAME, id if len(id) > 8 else content_hash(messages[0]))
    for problem in lines.problems:
        session.warn(problem)
    task = next((content_text(m.get("content")) for m in messages if m.get("role") == "user"), None)
    source = {"format": NAME, "path": path.name, "session": id, "interactive": True}
    session.add(Start(task=task, agent="kimi-cli", metadata={"source": source}), "start")
    transcript = Transcript(session)
    for number, entry in enumerate(entries):
        role = entry.get("role")
        if role == "_system_prompt":
            transcript.saw({"role": "system", "content": entry.get("content")}, observed=False)
        elif role in _MARKS:
            # what the context holds now: the prompt of the call before, and its answer
            data = {"token_count": integer(entry.get("token_count")), "checkpoint": entry.get("id")}
            session.add(Note(name=role, data={k: v for k, v in data.items() if v is not None}), "mark", number)
        elif role == "assistant":
            thoughts = [t for p in items(entry.get("content")) if isinstance(p, dict) and (t := text(p.get("think")))]
            transcript.replied(entry, reasoning="\n\n".join(thoughts) or None)
        else:
            transcript.saw(entry)
            if role == "tool" and not transcript.result(text(entry.get("tool_call_id")), result=entry.get("content")):
                session.warn("tool results that no call in the file asked for")
    transcript.close()
    yield session
