"""Rows to fine-tune with: ShareGPT (`conversations` of `from` and `value`, or of `role` and `content`), Alpaca (`instruction`,
`input`, `output`), and a `prompt` with its `completion`.

Each answer is a step and a call, with what came before it as its request. ShareGPT's `function_call` turns are actions;
`observation` turns are their results. All else of a row is kept in the start's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import content_text, items, obj, text, without
from ...types import End, Start
from .. import peek, turns
from ..session import Lines, Session, sessions_of_rows
from ..transcript import Transcript
from .benchmarks import first_row

NAME = "sharegpt"
SURE = 20  # rows that other formats resemble
_RATED = ("reward", "label", "kto_tag", "chosen", "rejected", "rewards")


def recognise(path: Path, head: bytes) -> bool:
    """The first row, of JSON lines or of a JSON list, is of one of the shapes."""
    row = first_row(head)
    if row:
        return _is_row(row)
    _, keys = peek.keys(head)
    talk = not keys.isdisjoint({"conversations.from", "conversations.role"})
    return keys.isdisjoint(_RATED) and (talk or {"instruction", "output"} <= keys)


def _is_row(value: Any) -> bool:
    row = obj(value)
    if any(isinstance(row.get(name), bool | int | float | dict | list | str) for name in _RATED):
        return False
    if "conversations" in row:
        return turns.are_turns(row["conversations"])
    if {"prompt", "completion"} <= row.keys():
        return all((isinstance(row[k], str) and row[k]) or turns.are_turns(row[k]) for k in ("prompt", "completion"))
    strings = all(isinstance(row.get(k) or "", str) for k in ("instruction", "input", "output"))
    return {"instruction", "output"} <= row.keys() and strings and not {"test_result", "messages"} & row.keys()


def read(path: Path) -> Iterator[Session]:
    """A session per row. Raises InvalidInput where there is none."""
    lines = Lines(path)
    made = partial(_session, path)
    return sessions_of_rows(
        _rows(path, lines), lines, _is_row, made, "row with conversations, instruction and output, or prompt and completion"
    )


def _rows(path: Path, lines: Lines) -> Iterator[Any]:
    with path.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"["):
        yield from items(loads(path.read_bytes()))
        return
    for _, value in lines:
        yield value


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    session = Session(NAME, key, count)
    plain = _talk(row)
    talk = turns.with_images(plain, row)
    held = ("images", "image") if talk is not plain else ()
    about = without(
        row, "conversations", "instruction", "input", "output", "prompt", "completion", "system", "history", "tools", *held
    )
    task = next((content_text(m["content"]) for m in talk if m["role"] == "user"), None)
    session.add(Start(task=task, metadata={"source": {"format": NAME, "path": path.name, **about}}), "start")
    tools = row.get("tools")
    if isinstance(tools, str):
        try:
            tools = loads(tools)
        except InvalidInput:
            tools = [tools] if tools else None
    transcript = Transcript(session, tools=items(tools))
    turns.tell(transcript, talk)
    transcript.close()
    session.add(End(), "end")
    return session


def _talk(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row, with the roles of chats."""
    system = text(row.get("system")) or text(row.get("system_prompt"))
    found: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    if row.get("conversations"):
        return found + turns.chat(row["conversations"])
    if "instruction" not in row:
        parts = (("user", row["prompt"]), ("assistant", row["completion"]))
        return found + [
            m for role, p in parts for m in (turns.chat(p) if isinstance(p, list) else [{"role": role, "content": p}])
        ]
    for pair in items(row.get("history")):
        if isinstance(pair, list) and len(pair) == 2:
            found += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = "\n".join(part for part in (row["instruction"], row.get("input")) if part)
    return [*found, {"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
