"""Trajectories made of a few words, through a store as everybody's are; and exports read back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import odograph
from odograph.trajectory import Trajectory

Message = dict[str, Any]


def made(**data: Any) -> Trajectory:
    """The trajectory of a dict in the shape of `to_dict`."""
    with odograph.open("memory:") as store:
        return store.trajectory(store.add({"agent": "a", "model": "m", **data}))


def call(messages: Any, response: Any, **fields: Any) -> dict[str, Any]:
    """A call of a chat model."""
    return {"request": {"model": "m", "messages": messages}, "response": response, "model": "m", **fields}


def chat(*texts: str) -> list[Message]:
    """System, user, assistant, user, assistant, ..."""
    roles = ["system", *["user", "assistant"] * len(texts)]
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def asked(question: str, reward: float | None = None, **data: Any) -> Trajectory:
    """A trajectory of one question and one answer."""
    rewards = [] if reward is None else [{"value": reward}]
    step = {"llm_calls": [call(chat("be good", question), f"answer to {question}")]}
    return made(**{"task": question, "steps": [step], "rewards": rewards, **data})


def lines(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """The rows of a JSON-lines export."""
    return [json.loads(line) for line in (folder / "data" / f"{split}.jsonl").read_text().splitlines()]


def read_back(folder: Path) -> list[dict[str, Any]]:
    """What importing an export gives, as dicts."""
    with odograph.open("memory:") as store:
        report = store.import_sessions(folder)
        assert report.failed == []
        assert report.warnings == [], report.warnings
        return [t.to_dict() for t in store.trajectories()]


def dicts(trajectories: Iterable[Trajectory]) -> list[dict[str, Any]]:
    return sorted((t.to_dict() for t in trajectories), key=lambda t: t["id"])
