"""Rows to fine-tune with: ShareGPT (`conversations` of `from` and `value`) and Alpaca (`instruction`, `input`, `output`).

Each answer is a step and a call, with what came before it as its request. ShareGPT's `function_call` turns, whose value is the
call as JSON, are actions; `observation` turns are their results. All else of a row is kept in the start's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import arguments, dicts, items, obj, text, without
from ...types import End, Start
from ..session import Lines, Session, sessions_of_rows
from ..transcript import Transcript

NAME = "sharegpt"
SURE = 20  # rows that other formats resemble
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "system": "system", "function_call": "function_call", "tool_call": "function_call",
    "observation": "tool", "tool": "tool", "function_response": "tool",
}  # fmt: skip


def recognise(path: Path, head: bytes) -> bool:
    """The first row, of JSON lines or of a JSON list, is of one of the two shapes."""
    start = head.lstrip().lstrip(b"\xef\xbb\xbf")
    if not start.startswith((b"{", b"[")):
        return False
    plain = start.replace(b" ", b"").replace(b"\n", b"")
    for end in (start.split(b"\n", 1)[0], start):
        try:
            first = loads(end)
        except InvalidInput:
            continue
        return _is_row(first[0] if isinstance(first, list) and first else first)
    marks = (b'"conversations":[{"from":', b'"conversations":[{"value":')
    return any(m in plain[:8192] for m in marks) or (
        plain.startswith((b'[{"instruction":', b'{"instruction":')) and b'"output":' in plain
    )


def _is_row(value: Any) -> bool:
    row = obj(value)
    talk = dicts(row.get("conversations"))
    if talk:
        return all(str(t.get("from")) in _ROLES and "value" in t for t in talk)
    strings = all(isinstance(row.get(k, ""), str) for k in ("instruction", "input", "output"))
    return (
        {"instruction", "output"} <= row.keys()
        and strings
        and not {"history", "test_result", "messages"} & (row.keys() - {"history"})
    )


def read(path: Path) -> Iterator[Session]:
    """A session per row. Raises InvalidInput where there is none."""
    lines = Lines(path)
    made = partial(_session, path)
    return sessions_of_rows(_rows(path, lines), lines, _is_row, made, "row with conversations, or instruction and output")


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
    talk = _talk(row)
    about = without(row, "conversations", "instruction", "input", "output", "system", "history", "tools")
    task = next((m["content"] for m in talk if m["role"] == "user"), None)
    session.add(Start(task=task, metadata={"source": {"format": NAME, "path": path.name, **about}}), "start")
    tools = row.get("tools")
    if isinstance(tools, str):
        try:
            tools = loads(tools)
        except InvalidInput:
            tools = [tools] if tools else None
    transcript = Transcript(session, tools=items(tools))
    for message in talk:
        if message["role"] == "function_call":
            asked = arguments(message["content"])
            function = {"name": obj(asked).get("name"), "arguments": obj(asked).get("arguments")}
            transcript.replied({"role": "assistant", "content": None, "function_call": function}, response=message)
        elif message["role"] == "assistant":
            weight = message.pop("weight", None)
            transcript.replied(message, extra=None if weight is None else {"weight": weight})
        else:
            transcript.saw(message)
            if message["role"] == "tool" and not transcript.next_result(result=message["content"]):
                session.warn("observations that answer no call")
    transcript.close()
    session.add(End(), "end")
    return session


def _talk(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row, with the roles of chats."""
    system = text(row.get("system")) or text(row.get("system_prompt"))
    found: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    if items(row.get("conversations")):
        turns = dicts(row["conversations"])
        return found + [
            {"role": _ROLES[str(t["from"])], "content": t["value"], **{k: t[k] for k in ("weight",) if k in t}} for t in turns
        ]
    for pair in items(row.get("history")):
        if isinstance(pair, list) and len(pair) == 2:
            found += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = "\n".join(part for part in (row["instruction"], row.get("input") or "") if part)
    return [*found, {"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
