"""Steps with labels for a process reward model: `prompt`, `completions` (a text per step) and `labels` (a truth value each).

A step's label is whether its reward is at least `threshold`. Source:
https://huggingface.co/docs/trl/dataset_formats#stepwise-supervision,
and `PRMTrainer.tokenize_row` (trl 1.13, the last version with this trainer).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import encode, loads
from ...dialects.content import marked
from ...errors import InvalidInput
from ...trajectory import Trajectory
from ..views import NO_TEXT, unfit
from . import LeftOut
from .chats import about

NAME = "trl-prm"
FILES = ("jsonl",)


def rows(
    trajectory: Trajectory, left_out: LeftOut, *, threshold: float = 0.5, include_failed: bool = False
) -> Iterator[dict[str, Any]]:
    """A row per trajectory whose own agent's steps have rewards. `threshold`: the reward from which on a step is good;
    `include_failed`: also of trajectories that failed through the environment."""
    why = unfit(trajectory, include_failed)
    if why is not None:
        left_out(why)
        return
    task, steps = trajectory.task, [s for s in trajectory.steps if s.agent in (None, trajectory.agent) and s.llm_calls]
    texts = [_text(s.llm_calls[-1]) for s in steps]
    if not steps or any(s.reward is None for s in steps):
        left_out("a step without a reward" if steps else "no step with a call of a model")
    elif not all(text.strip() for text in texts):
        left_out("a step without text or tool call")
    else:
        prompt = task if isinstance(task, str) else encode(task).decode()
        if any(marked(m.get("content"))[1] for s in steps for m in s.llm_calls[-1].messages):
            left_out(NO_TEXT)  # the row stays, as the prompt is the task
        labels = [s.reward >= threshold for s in steps if s.reward is not None]
        yield {"prompt": prompt, "completions": texts, "labels": labels, **about(trajectory)}


def _text(call: Any) -> str:
    """What a step did: its text, and its tool calls as JSON."""
    choice = next(iter(call.choices), None)
    if choice is None:
        return ""
    calls = [encode({"name": c.name, "arguments": _arguments(c.arguments)}).decode() for c in choice.tool_calls]
    return "\n".join(part for part in [choice.text, *calls] if part)


def _arguments(given: Any) -> Any:
    """The object that JSON text says; what is none stays as it is."""
    try:
        return loads(given) if isinstance(given, str) else given
    except InvalidInput:
        return given
