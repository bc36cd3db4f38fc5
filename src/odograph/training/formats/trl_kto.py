"""Judged answers for KTO with TRL: `prompt`, `completion`, `label` and `tools` (as JSON), of each call of the policy.

The label is whether the trajectory's reward is at least `threshold`. Source: https://huggingface.co/docs/trl/kto_trainer
(trl 1.16).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...trajectory import Trajectory
from ..views import NO_OBJECT, answer_of, answered_calls, rendered, tools_of, unfit
from . import LeftOut

NAME = "trl-kto"
FILES = ("jsonl",)


def rows(
    trajectory: Trajectory, left_out: LeftOut, *, threshold: float = 0.5, include_failed: bool = False
) -> Iterator[dict[str, Any]]:
    """A row per call with purpose `act`. `threshold`: the reward from which on an answer is good; `include_failed`: also of
    trajectories that failed through the environment."""
    why = unfit(trajectory, include_failed)
    if why is not None:
        left_out(why)
        return
    reward = trajectory.reward
    if reward is None:
        left_out("no reward")
        return
    for call in answered_calls(trajectory, left_out):
        if not call.messages:
            left_out("a call whose prompt is not known as messages")
            continue
        message = {
            "content": "",
            **{k: v for k, v in answer_of(call.choices[0]).items() if v not in (None, [])},
        }
        prompt, completion = rendered(call.messages), rendered([message])
        if prompt is None or completion is None:
            left_out(NO_OBJECT)
            continue
        yield {
            "prompt": prompt,
            "completion": completion,
            "label": reward >= threshold,
            "tools": tools_of(call),
            "trajectory": trajectory.id,
            "group": trajectory.group,
        }
