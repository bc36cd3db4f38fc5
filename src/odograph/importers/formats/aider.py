"""Aider's chat history (`.aider.chat.history.md`): Markdown in which `####` is the person, `>` the program, and all else the
model.

A file holds every session of a folder, each under `# aider chat started at ...`. What the model was sent beside (its
instructions, the repository's map, the files) is not in it.

Source: Aider-AI/aider, aider/io.py (append_chat_history).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...types import Note, Start
from ..session import NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "aider"
_BEGIN = "# aider chat started at "
#: What the model thought, which aider does not send again; the answer follows.
_THOUGHT = re.compile(r"<(thinking-content-[0-9a-f]+)>\n*(.*?)\n*(?:</\1>|\Z)\n*", re.DOTALL)
_TOKENS = re.compile(r"Tokens: ([\d.,]+)(k?) sent(?:, [^,]* cache [^,]*)*, ([\d.,]+)(k?) received", re.IGNORECASE)
_COST = re.compile(r"Cost: \$([\d.]+) message")
_MODEL = re.compile(r"^(?:Main model|Model|Models?): ([^ ,]+)")


def recognise(path: Path, head: bytes) -> bool:
    """A Markdown file that begins with a chat's beginning."""
    return head.lstrip().startswith(_BEGIN.encode())


def read(path: Path) -> Iterator[Session]:
    """A session per chat in which somebody said something. Raises NotBegun where there is none."""
    made = 0
    seen: dict[str, int] = {}
    for begun, lines in _chats(path):
        seen[begun] = seen.get(begun, 0) + 1
        entries = list(_entries(lines))
        if any(kind == "user" for kind, _ in entries):
            made += 1
            yield _session(path, begun, seen[begun], entries)
    if not made:
        raise NotBegun("a history of Aider in which nobody has said anything")


def _chats(path: Path) -> Iterator[tuple[str, list[str]]]:
    begun: str | None = None
    lines: list[str] = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.startswith(_BEGIN):
                if begun is not None:
                    yield begun, lines
                begun, lines = line[len(_BEGIN) :].strip(), []
            else:
                lines.append(line.rstrip("\n"))
    if begun is not None:
        yield begun, lines


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Who said what: lines of one kind that follow each other are one entry."""
    kind, held = "", [""]
    for line in lines:
        stripped = line.rstrip()
        now = "user" if stripped.startswith("#### ") or stripped == "####" else "program" if stripped.startswith(">") else "model"
        if now == "model" and not stripped and kind != "model":
            continue
        if now != kind:
            if kind and "\n".join(held).strip():
                yield kind, "\n".join(held).strip("\n")
            kind, held = now, []
        held.append(stripped[5:] if now == "user" else stripped[1:].removeprefix(" ") if now == "program" else line)
    if kind and "\n".join(held).strip():
        yield kind, "\n".join(held).strip("\n")


def _session(path: Path, begun: str, count: int, entries: list[tuple[str, str]]) -> Session:
    session = Session(NAME, str(path.absolute().parent.name), begun, count)
    started = parse_time(begun)
    told = [m[1] for kind, said in entries if kind == "program" for line in said.split("\n") if (m := _MODEL.match(line))]
    model = told[0] if told else None
    task = next((said for kind, said in entries if kind == "user" and not said.startswith("/")), None)
    source = {"format": NAME, "path": path.name, "started": begun, "interactive": True}
    session.add(Start(task=task, agent="aider", model=model, metadata={"source": source}, source_time=started), "start")
    transcript = Transcript(session, model=model)
    call: Any = None
    asked = False
    for number, (kind, said) in enumerate(entries):
        if kind == "user":
            asked = not said.startswith("/") or said.startswith(("/ask ", "/code ", "/architect "))
            transcript.saw({"role": "user", "content": said}, noted=not asked)
            call = None
        elif kind == "model":
            if asked:
                thoughts = "\n\n".join(m[2] for m in _THOUGHT.finditer(said))
                answer = {"role": "assistant", "content": _THOUGHT.sub("", said).rstrip("\n")}
                call = transcript.replied(answer, reasoning=thoughts or None)
        else:
            session.add(
                Note(name="program", data={"text": said}, step=transcript.step if transcript.step >= 0 else None),
                "program",
                number,
            )
            if call is not None and (figures := _figures(said)):
                call = session.replace(call, **figures)
    transcript.close()
    return session


def _figures(said: str) -> dict[str, Any]:
    tokens, cost = _TOKENS.search(said), _COST.search(said)
    found: dict[str, Any] = {}
    if tokens:
        found = {"prompt_tokens": _count(tokens[1], tokens[2]), "completion_tokens": _count(tokens[3], tokens[4])}
    if cost:
        with contextlib.suppress(ValueError):
            found["cost"] = float(cost[1])
    return {k: v for k, v in found.items() if v is not None}


def _count(figure: str, thousands: str) -> int | None:
    try:
        return round(float(figure.replace(",", "")) * (1000 if thousands else 1))
    except ValueError:
        return None
