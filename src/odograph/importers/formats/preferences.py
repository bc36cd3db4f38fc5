"""Preference rows: `chosen` and `rejected` answers to a prompt, as texts or as chat messages; or a `completion` with a `label`.

A row is a group of two trajectories, with rewards 1 and 0 under the name `preference`; a label gives one. Scores of the
answers, where a row has them, are rewards of weight 0.

Source: the preference and unpaired-preference formats of TRL's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...shape import content_text, dicts, items, obj, score, text, without
from ...types import End, Reward, Start
from ..session import Session
from ..transcript import Transcript
from .benchmarks import first_row, rows

NAME = "preferences"
SURE = 25
_ANSWERS = ("chosen", "rejected")


def recognise(path: Path, head: bytes) -> bool:
    """A row with a chosen and a rejected answer, or with a prompt, a completion and a label that is true or false."""
    row = first_row(head)
    return _is_row(row)


def _is_row(row: dict[str, Any]) -> bool:
    if {"prompt", "completion", "label"} <= row.keys():
        return isinstance(row["label"], bool)
    return all(isinstance(row.get(name), str | list | dict) and row.get(name) for name in _ANSWERS)


def read(path: Path) -> Iterator[Session]:
    """A session per answer. Raises InvalidInput where there is none."""
    for row, key, count, warnings in rows(path, _is_row, "row with a chosen and a rejected answer"):
        paired = not {"completion", "label"} <= row.keys()
        for name in _ANSWERS if paired else ("completion",):
            session = Session(NAME, key, count, name)
            if name != "rejected":
                session.warnings.update(warnings)
            value = float(name == "chosen") if paired else float(row["label"])
            _answer(path, session, row, name, value, f"{key[:16]}-{count}" if paired else None)
            yield session


def _answer(path: Path, session: Session, row: dict[str, Any], name: str, value: float, group: str | None) -> None:
    asked = row.get("prompt", row.get("question", row.get("instruction", row.get("input"))))
    said = row[name]
    prompt = _chat(asked, "user") if asked is not None else []
    answer = _chat(said, "assistant")
    shared = [m for m in answer if m.get("role") != "assistant"]
    if prompt and shared and answer[: len(prompt)] == prompt:  # the answer repeats its prompt
        prompt = []
    if isinstance(row.get("system"), str) and row["system"]:
        prompt = [{"role": "system", "content": row["system"]}, *prompt]
    if any(m.get("role") == "assistant" for m in answer[:-1]) and not asked:
        prompt, answer = answer[:-1], answer[-1:]  # of a whole conversation, the last answer is what differs
    task = next((content_text(m.get("content")) for m in [*prompt, *answer] if m.get("role") == "user"), None)
    source = {
        "format": NAME,
        "path": path.name,
        "answer": name,
        **without(row, *_ANSWERS, "prompt", "completion", "label", "tools", "system"),
    }
    session.add(Start(task=task, group=group, metadata={"source": source}), "start")
    transcript = Transcript(session, tools=items(row.get("tools")))
    last = len(answer)
    for number, message in enumerate([*prompt, *answer]):
        inside = number - len(prompt)
        if message.get("role") == "assistant" and 0 <= inside < last:
            transcript.replied(message)
        else:
            transcript.saw(message, observed=message.get("role") == "user")
            if message.get("role") == "tool":
                transcript.result(text(message.get("tool_call_id")), result=message.get("content"))
    transcript.close()
    session.add(Reward(name="preference", value=value), "reward")
    for key in (f"score_{name}", f"{name}_score", f"{name}-rating", f"{name}_rating"):
        if key in row:
            session.add(Reward(name="score", value=score(row[key]), weight=0, source="judge"), "score", key)
    session.add(End(), "end")


def _chat(value: Any, role: str) -> list[dict[str, Any]]:
    """A text, a message or messages, as messages. An older row has its whole conversation as one text, which stays one text."""
    if isinstance(value, list):
        return dicts(value)
    if isinstance(value, dict):
        return [value] if "role" in value else dicts(obj(value).get("messages"))
    return [{"role": role, "content": value}]
