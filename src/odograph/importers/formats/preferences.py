"""Preference rows: two answers to a prompt, as texts or as chat messages, of which one was chosen; or an answer with a label.

A row is a group of two trajectories, with rewards 1 and 0 under the name `preference`; a label gives one. Scores of the
answers, where a row has them, are rewards of weight 0.

Source: the preference and unpaired-preference formats of the documentation of TRL, of OpenAI's fine-tuning, of LLaMA-Factory
(`conversations` with `chosen` and `rejected`, or `kto_tag`) and of ms-swift (`messages` with `rejected_response` or `label`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...shape import content_text, dicts, obj, parsed, score, text, without
from ...types import End, Reward, Start
from .. import peek, turns
from ..session import Session
from ..transcript import Transcript
from .benchmarks import first_row, rows

NAME = "preferences"
SURE = 25
_ANSWERS = ("chosen", "rejected")


class _Pair(NamedTuple):
    """A row as it is meant: what was asked, the answers by name, the fields that say so, and the label of a single answer."""

    prompt: list[dict[str, Any]]
    answers: dict[str, list[dict[str, Any]]]
    fields: tuple[str, ...] = ()
    label: bool | None = None


def recognise(path: Path, head: bytes) -> bool:
    """A row with a chosen and a rejected answer, or with an answer and a label that is true or false."""
    row = first_row(head)
    if row:
        return _is_row(row)
    _, keys = peek.keys(head)  # a row that is longer than the head
    return not keys.isdisjoint({*_ANSWERS, "preferred_output"})


def _is_row(row: dict[str, Any]) -> bool:
    return _pair(row) is not None


def _pair(row: dict[str, Any]) -> _Pair | None:
    talk = next((n for n in ("messages", "conversations") if turns.are_turns(row.get(n))), None)
    whole = [] if talk is None else _chat(row[talk], "user")
    if row.get("preferred_output") and row.get("non_preferred_output") and isinstance(row.get("input"), dict):
        names = ("preferred_output", "non_preferred_output")
        answers = {answer: _chat(row[name], "assistant") for answer, name in zip(_ANSWERS, names, strict=True)}
        return _Pair(_chat(row["input"], "user"), answers, ("input", *names))
    if all(_is_said(row.get(name)) for name in _ANSWERS):
        asked = next((n for n in ("prompt", "question", "instruction", "input", "conversations") if row.get(n) is not None), "")
        prompt = [] if not asked else _chat(row[asked], "user")
        fields: tuple[str, ...] = (asked, *_ANSWERS)
        if asked == "instruction" and isinstance(row.get("input"), str):
            prompt = _chat("\n".join(p for p in (str(row[asked]), row["input"]) if p), "user")
            fields = ("input", *fields)
        return _Pair(prompt, {name: _chat(row[name], "assistant") for name in _ANSWERS}, fields)
    if talk is not None and _is_said(row.get("rejected_response")):
        answers = {"chosen": whole[-1:], "rejected": _chat(row["rejected_response"], "assistant")}
        return _Pair(whole[:-1], answers, (talk, "rejected_response"))
    label = next((n for n in ("label", "kto_tag") if _truth(row.get(n)) is not None), None)
    if label is not None and {"prompt", "completion"} <= row.keys():
        answers = {"completion": _chat(row["completion"], "assistant")}
        return _Pair(_chat(row["prompt"], "user"), answers, ("prompt", "completion", label), _truth(row[label]))
    if label is not None and talk is not None:
        return _Pair(whole[:-1], {"completion": whole[-1:]}, (talk, label), _truth(row[label]))
    return None


def _is_said(value: Any) -> bool:
    """Whether a value is an answer: a text, a turn, turns, or an object with messages."""
    turn = [value] if {"role", "from"} & obj(value).keys() else obj(value).get("messages", value)
    return (isinstance(value, str) and bool(value)) or turns.are_turns(turn)


def _truth(value: Any) -> bool | None:
    """A label: true or false, or what tables make of that."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return bool(value) if isinstance(value, bool) or (type(value) is int and value in (0, 1)) else None


def read(path: Path) -> Iterator[Session]:
    """A session per answer. Raises InvalidInput where there is none."""
    for row, key, count, warnings in rows(path, _is_row, "row with a chosen and a rejected answer"):
        pair = _pair(row) or _Pair([], {})
        for number, name in enumerate(pair.answers):
            session = Session(NAME, key, count, name)
            if number == 0:
                session.warnings.update(warnings)
            group = f"{key[:16]}-{count}" if pair.label is None else text(row.get("group"))
            _answer(path, session, row, pair, name, group)
            yield session


def _answer(path: Path, session: Session, row: dict[str, Any], pair: _Pair, name: str, group: str | None) -> None:
    prompt, answer = pair.prompt, pair.answers[name]
    if prompt and answer[: len(prompt)] == prompt:  # the answer repeats its prompt
        answer = answer[len(prompt) :]
    if isinstance(row.get("system"), str) and row["system"]:
        prompt = [{"role": "system", "content": row["system"]}, *prompt]
    if not prompt and any(m.get("role") == "assistant" for m in answer[:-1]):
        prompt, answer = answer[:-1], answer[-1:]  # of a whole conversation, the last answer is what differs
    plain = [*prompt, *answer]
    messages = turns.with_images(plain, row)
    held = ("images", "image") if messages is not plain else ()
    task = next((content_text(m.get("content")) for m in messages if m.get("role") == "user"), None)
    source = {"format": NAME, "path": path.name, "answer": name, **without(row, *pair.fields, "tools", "system", *held)}
    session.add(Start(task=task, group=group, metadata={"source": source}), "start")
    transcript = Transcript(session, tools=parsed(row.get("tools")) or obj(row.get("input")).get("tools"))
    turns.tell(transcript, messages, answers=range(len(prompt), len(messages)))
    transcript.close()
    value = name == "chosen" if pair.label is None else pair.label
    session.add(Reward(name="preference", value=float(value)), "reward")
    for key in (f"score_{name}", f"{name}_score", f"{name}-rating", f"{name}_rating"):
        if key in row:
            session.add(Reward(name="score", value=score(row[key]), weight=0, source="judge"), "score", key)
    session.add(End(), "end")


def _chat(value: Any, role: str) -> list[dict[str, Any]]:
    """A text, a turn or turns, as messages."""
    if isinstance(value, str) and (told := turns.spoken(value)) is not None:
        return told
    if isinstance(value, dict):
        value = [value] if {"role", "from"} & value.keys() else dicts(value.get("messages"))
    return turns.chat(value) if isinstance(value, list) else [{"role": role, "content": value}]
