"""Rows to fine-tune with: ShareGPT (`conversations` of `from` and `value`, or of `role` and `content`), Alpaca (`instruction`,
`input`, `output`), Dolly (`instruction`, `context`, `response`), and a question with its answer under the names that people give
them (`prompt` and `completion` or `response`, `question` and `answer`, `query` and `response`).

Each answer is a step and a call, with what came before it as its request. ShareGPT's `function_call` turns are actions;
`observation` turns are their results. All else of a row is kept in the start's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...shape import content_text, items, obj, parsed, text, without
from ...types import End, Start
from .. import peek, turns
from ..session import Lines, NotBegun, Session, rows_of, sessions_of_rows
from ..transcript import Transcript
from .benchmarks import first_row

NAME = "sharegpt"
SURE = 20  # rows that other formats resemble
_LABELLED = ("label", "kto_tag", "chosen", "rejected")
_RATED = (*_LABELLED, "reward", "rewards", "score", "scores", "advantage")
#: What was asked, and what was answered.
_PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("prompt", "completion"), ("prompt", "response"),
    ("question", "answer"), ("question", "response"), ("query", "response"), ("query", "answer"),
)  # fmt: skip
#: What stands beside the question, and is asked with it.
_BESIDE = ("input", "context")
#: Of questions with a reference answer for tests: nobody gave the answer.
_TESTS = ("choices", "options", "answers", "test_result", "messages", "canonical_solution")


def recognise(path: Path, head: bytes) -> bool:
    """The first row, of JSON lines or of a JSON list, is of one of the shapes."""
    row = first_row(head)
    if row:
        return _is_row(row) or _why_not(row) is not None
    _, keys = peek.keys(head)
    talk = not keys.isdisjoint({"conversations.from", "conversations.role"})
    if talk:
        return keys.isdisjoint({*_LABELLED, *_TESTS})
    return keys.isdisjoint({*_RATED, *_TESTS}) and any({*pair} <= keys for pair in _PAIRS)


def _is_row(value: Any) -> bool:
    row = obj(value)
    talk = "conversations" in row
    if any(isinstance(row.get(name), bool | int | float | dict | list | str) for name in (_LABELLED if talk else _RATED)):
        return False
    return turns.are_turns(row["conversations"]) if talk else _pair(row) is not None


def _why_not(row: dict[str, Any]) -> str | None:
    """Why rows that look like questions with answers are none."""
    asked = text(row.get("question")) or text(row.get("problem"))
    if asked and any(row.get(name) is not None for name in ("choices", "options", "answers", "solution", "ground_truth")):
        return "questions with reference answers, which no model gave: a test, and no session"
    if row.keys() == {"input", "output"} and all(isinstance(v, str) for v in row.values()):
        return (
            "rows with `input` and `output` alone don't say that a model answered; expected `prompt` and `completion` if one did"
        )
    return None


def _pair(row: dict[str, Any]) -> tuple[str, str] | None:
    """Which fields are the question and its answer."""
    if any(row.get(name) is not None for name in _TESTS) or not all(isinstance(row.get(k) or "", str) for k in _BESIDE):
        return None
    both = (pair for pair in _PAIRS if {*pair} <= row.keys())
    return next((pair for pair in both if _is_said(row, pair[0]) and _is_said(row, pair[1])), None)


def _is_said(row: dict[str, Any], name: str) -> bool:
    """Whether a field is a text or turns; what Alpaca's rows say may be empty."""
    value = row[name]
    return (isinstance(value, str) and (bool(value) or "instruction" in row)) or turns.are_turns(value)


def read(path: Path) -> Iterator[Session]:
    """A session per row. Raises InvalidInput where there is none, and NotBegun where rows look like it and are something else."""
    with path.open("rb") as file:
        row = first_row(file.read(65536))
    if not _is_row(row) and (why := _why_not(row)) is not None:
        raise NotBegun(why)
    lines = Lines(path)
    made = partial(_session, path)
    expected = "row with conversations, or with a question and its answer"
    return sessions_of_rows(rows_of(path, lines), lines, _is_row, made, expected)


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    session = Session(NAME, key, count)
    plain = _talk(row)
    talk = turns.with_images(plain, row)
    held = ("images", "image") if talk is not plain else ()
    said = ("conversations",) if row.get("conversations") else (*(_pair(row) or ()), *_BESIDE)
    about = without(row, *said, "system", "history", "tools", *held)
    task = next((content_text(m["content"]) for m in talk if m["role"] == "user"), None)
    session.add(
        Start(task=task, group=text(row.get("group")), metadata={"source": {"format": NAME, "path": path.name, **about}}), "start"
    )
    tools = items(parsed(row.get("tools"))) or [t for t in (text(row.get("tools")),) if t]
    transcript = Transcript(session, tools=tools)
    turns.tell(transcript, talk)
    transcript.close()
    turns.rate(session, row)
    session.add(End(), "end")
    return session


def _talk(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row, with the roles of chats."""
    system = text(row.get("system")) or text(row.get("system_prompt"))
    found: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    if row.get("conversations"):
        return found + turns.chat(row["conversations"])
    asked, answered = _pair(row) or ("prompt", "completion")
    for pair in items(row.get("history")):
        if isinstance(pair, list) and len(pair) == 2:
            found += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    beside = [text(row.get(name)) for name in _BESIDE]
    question = row[asked] if isinstance(row[asked], list) else "\n".join(part for part in (row[asked], *beside) if part)
    parts = (("user", question), ("assistant", row[answered]))
    return found + [m for role, p in parts for m in (turns.chat(p) if isinstance(p, list) else [{"role": role, "content": p}])]
