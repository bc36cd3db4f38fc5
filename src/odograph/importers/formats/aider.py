"""Aider's chat history (`.aider.chat.history.md`): Markdown in which `####` is the person, `>` the program, and all else the
model. The lines of person and program end with two spaces, which tells these lines from a model's heading or quotation; of a
text of several lines that the program says at once, the first line has the mark and the last line the spaces.

A file holds every session of a folder, each under `# aider chat started at ...`. What the model was sent beside (its
instructions, the repository's map, the files) is not in it. Commands are not sent; what the program says of an edit that
failed is.

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
_END = "  "
#: Commands that ask the model, and those after which a chat begins anew.
_ASKING = ("/ask", "/code", "/architect", "/context", "/help")
_ANEW = ("/clear", "/reset")
#: What the program answers an edit with that can't be made, or that a check finds wrong.
_FAILED = re.compile(r"# (?:\d+ SEARCH/REPLACE block|Fix any errors below)")
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
    if lines and not line.endswith("\n") and _torn(line, _marked(lines)):
        lines.pop()
    if begun is not None:
        yield begun, lines


def _marked(lines: list[str]) -> bool:
    """Whether the lines of a chat still end as aider writes them: an editor may have taken the spaces away."""
    return any(line.startswith("> ") and line.endswith(_END) for line in lines)


def _torn(line: str, marked: bool) -> bool:
    """Whether a last line is being written, and does not say yet whose it is."""
    begun = any(mark.startswith(line) for mark in ("#### ", "> ", _BEGIN))
    return begun or (marked and line.startswith(("#", ">")) and not line.endswith(_END))


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Who said what: `user`, `model`, `program`, or `told` for a text of several lines that the program said at once. Lines of
    one kind that follow each other are one entry; what a person says is another behind an empty line."""
    marked = _marked(lines)
    kind, held = "", [""]
    for before, line in zip(["", *lines], lines, strict=False):
        whole = line.endswith(_END) or not marked
        stripped = line.rstrip()
        if kind == "told" and held and not held[-1].endswith(_END):
            now = kind
        elif stripped == "####" or (stripped.startswith("#### ") and (whole or kind != "model")):
            now = "user"
        elif stripped == ">" or (stripped.startswith("> ") and whole):
            now = "program"
        else:
            now = "told" if stripped.startswith("> ") and kind != "model" and before.strip() else "model"
        if now == "model" and not stripped and kind != "model":
            continue
        if now != kind or (now == "user" and not before.strip()) or (now == "told" and held[-1].endswith(_END)):
            if kind and "\n".join(held).strip():
                yield kind, "\n".join(held).strip("\n")
            kind, held = now, []
        if now == "user":
            held.append(stripped[5:])
        elif now == "program":
            held.append(stripped[1:].removeprefix(" "))
        else:
            held.append(line.removeprefix("> ") if now == "told" and not held else line)
    if kind and "\n".join(held).strip():
        yield kind, "\n".join(held).strip("\n")


def _session(path: Path, begun: str, count: int, entries: list[tuple[str, str]]) -> Session:
    session = Session(NAME, str(path.absolute().parent.name), begun, count)
    started = parse_time(begun)
    told = [m[1] for kind, said in entries if kind == "program" for line in said.split("\n") if (m := _MODEL.match(line))]
    model = told[0] if told else None
    task = next((said for kind, said in entries if kind == "user" and not said.startswith("/")), None)
    task = task or next((said for kind, said in entries if kind == "user"), None)
    source = {"format": NAME, "path": path.name, "started": begun, "interactive": True}
    session.add(Start(task=task, agent="aider", model=model, metadata={"source": source}, source_time=started), "start")
    transcript = Transcript(session, model=model)
    call: Any = None
    asked = False
    for number, (kind, said) in enumerate(entries):
        if kind == "user" and said.startswith("/"):
            word, _, rest = said.partition(" ")
            asked = word in _ASKING and bool(rest.strip())
            if asked and ("user", rest.strip()) != next(iter(entries[number + 1 :]), None):  # else it is said again
                transcript.saw({"role": "user", "content": rest.strip()})
            if word in _ANEW:
                transcript.history = []
            session.add(Note(name="command", data={"text": said}), "program", number)
            call = None
        elif kind == "user":
            asked, call = True, None
            transcript.saw({"role": "user", "content": said})
        elif kind == "model":
            if asked:
                thoughts = "\n\n".join(m[2] for m in _THOUGHT.finditer(said))
                answer = {"role": "assistant", "content": _THOUGHT.sub("", said).rstrip("\n")}
                call = transcript.replied(answer, reasoning=thoughts or None)
        else:
            step = transcript.step if transcript.step >= 0 else None
            session.add(Note(name="program", data={"text": said}, step=step), "program", number)
            if kind == "told" and _FAILED.match(said):  # the program asks for another answer
                transcript.saw({"role": "user", "content": said.strip()})
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
