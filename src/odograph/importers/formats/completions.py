"""Rated completions: rows with a prompt and its `completions` with their `rewards`, or with one completion and its reward.

The completions of a prompt are a group, a trajectory each. One number is the reward; of several named ones, `Session.score` says
which counts.

Source: the columns of rollouts that trainers log (TRL's completions, with their advantage), and of UltraFeedback.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...codec import content_hash
from ...shape import content_text, items, number, obj, parsed, score, text, without
from ...types import End, Reward, Start
from .. import turns
from ..session import Session
from ..transcript import Transcript
from .benchmarks import first_row, rows

NAME = "completions"
SURE = 15  # rows that other formats resemble
_PROMPTS = ("prompt", "instruction", "question", "input", "messages")
_MANY = ("completions", "responses", "generations", "outputs", "candidates")
_ONE = ("completion", "response", "output", "answer")
_RATES = ("rewards", "scores", "reward", "score")
_RATED = ("reward", "score", "overall_score", "rating")


class _Row(NamedTuple):
    """A row as it is meant: the prompt, its completions, each with its rewards by name, and the fields that say so."""

    prompt: Any
    completions: list[tuple[Any, dict[str, Any]]]
    fields: tuple[str, ...]


def recognise(path: Path, head: bytes) -> bool:
    """A row with a prompt, completions, and as many rewards."""
    return _row(first_row(head)) is not None


def _is_row(row: dict[str, Any]) -> bool:
    return _row(row) is not None


def _row(row: dict[str, Any]) -> _Row | None:
    asked = next((n for n in _PROMPTS if (isinstance(row.get(n), str) and row[n]) or turns.are_turns(row.get(n))), None)
    if asked is None or {"chosen", "rejected"} & row.keys():
        return None
    many = next((n for n in _MANY if items(row.get(n)) and not turns.are_turns(row[n])), None)
    if many is not None:
        told = row[many]
        rate = next((n for n in _RATES if row.get(n) is not None), None)
        given = [_rewards(row.get(rate or ""), place, len(told)) or _own(one) for place, one in enumerate(told)]
        if not all(given) or not all(_said(one) is not None for one in told):
            return None
        return _Row(
            row[asked], [(_said(one), found) for one, found in zip(told, given, strict=True)], (asked, many, rate or asked)
        )
    one = next(
        (n for n in _ONE if n != asked and ((isinstance(row.get(n), str) and row[n]) or turns.are_turns(row.get(n)))), None
    )
    if one is None:
        return None
    if "advantage" in row:  # as TRL logs them: a column for each reward function
        named = {n: v for n, v in row.items() if n not in ("step", "advantage") and _is_number(v)}
        return _Row(row[asked], [(row[one], named)], (asked, one, *named)) if named else None
    rate = next((n for n in _RATES if _is_number(row.get(n)) or _are_named(row.get(n))), None)
    if rate is None:
        return None
    found = dict(row[rate]) if isinstance(row[rate], dict) else {"reward": row[rate]}
    return _Row(row[asked], [(row[one], found)], (asked, one, rate))


def _is_number(value: Any) -> bool:
    return isinstance(value, bool) or number(value) is not None


def _are_named(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(k, str) and _is_number(v) for k, v in value.items())


def _rewards(given: Any, place: int, count: int) -> dict[str, Any]:
    """The rewards of one completion: of a list of numbers or of named ones, or of a list for each name."""
    if isinstance(given, list) and len(given) == count:
        one = given[place]
        return dict(one) if _are_named(one) else {"reward": one} if _is_number(one) or one is None else {}
    lists = {k: v[place] for k, v in obj(given).items() if isinstance(v, list) and len(v) == count}
    return lists if lists and len(lists) == len(given) and all(_is_number(v) or v is None for v in lists.values()) else {}


def _own(completion: Any) -> dict[str, Any]:
    """The reward that a completion holds itself."""
    return next(({"reward": obj(completion)[n]} for n in _RATED if _is_number(obj(completion).get(n))), {})


def _said(completion: Any) -> Any:
    """What the model answered: a text, or messages."""
    if isinstance(completion, str):
        return completion
    if turns.are_turns(completion):
        return completion
    held = (obj(completion).get(n) for n in ("response", "text", "content", "completion", "output", "message", "messages"))
    return next((h for h in held if isinstance(h, str) or turns.are_turns(h)), None)


def read(path: Path) -> Iterator[Session]:
    """A session per completion. Raises InvalidInput where there is none."""
    for row, key, count, warnings in rows(path, _is_row, "row with a prompt, completions and their rewards"):
        told = _row(row) or _Row(None, [], ())
        group = text(row.get("group")) or content_hash(told.prompt)[:16]  # rows of one prompt are one group
        for place, (completion, rewards) in enumerate(told.completions):
            session = Session(NAME, key, count, place)
            if place == 0:
                session.warnings.update(warnings)
            _completion(path, session, row, told, completion, rewards, group)
            yield session


def _completion(
    path: Path, session: Session, row: dict[str, Any], told: _Row, completion: Any, rewards: dict[str, Any], group: str
) -> None:
    system = text(row.get("system")) or text(row.get("system_prompt"))
    prompt = [{"role": "system", "content": system}] if system else []
    prompt += turns.chat(told.prompt) if isinstance(told.prompt, list) else [{"role": "user", "content": told.prompt}]
    answer = turns.chat(completion) if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
    task = next((content_text(m.get("content")) for m in prompt if m.get("role") == "user"), None)
    model = text(row.get("model"))
    source = {"format": NAME, "path": path.name, **without(row, *told.fields, "system", "system_prompt", "tools")}
    session.add(Start(task=task, group=group, model=model, metadata={"source": source}), "start")
    transcript = Transcript(session, model=model, tools=parsed(row.get("tools")))
    turns.tell(transcript, [*prompt, *answer], answers=range(len(prompt), len(prompt) + len(answer)))
    transcript.close()
    session.score(*((Reward(name=n, value=score(v), source="function"), ("reward", n)) for n, v in rewards.items()))
    session.add(End(), "end")
