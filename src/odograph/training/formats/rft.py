"""Prompts for reinforcement fine-tuning as hosted services do it: `messages` that end with the user's, `tools`, and item fields.

The service samples answers and asks a grader, which reads the item fields: `reference_answer`, and the recorded `answer` and
`reward`. `service`: openai (also Azure), bedrock (which needs a `reference_answer`), or fireworks, whose weighted training takes
whole conversations with a root `weight`. Source: OpenAI's `FineTuneReinforcementRequestInput`;
https://docs.aws.amazon.com/bedrock/latest/userguide/rft-prepare-data-open-weight.html;
https://docs.fireworks.ai/fine-tuning/weighted-training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import encode
from ...errors import InvalidInput
from ...trajectory import Trajectory
from ..views import unfit
from . import LeftOut, openai
from .chats import about, plain

NAME = "rft"
FILES = ("jsonl",)
_SERVICES = ("openai", "bedrock", "fireworks")


def rows(
    trajectory: Trajectory,
    left_out: LeftOut,
    *,
    service: str = "openai",
    reference: str | None = None,
    include_failed: bool = False,
) -> Iterator[dict[str, Any]]:
    """A row per trajectory (fireworks: per conversation). `reference`: the key of the run's metadata that has the reference
    answer; `include_failed`: also of trajectories that failed through the environment."""
    if service not in _SERVICES:
        raise InvalidInput(f"no service {service!r}; there are: {', '.join(_SERVICES)}")
    why = unfit(trajectory, include_failed)
    if why is not None:
        left_out(why)
        return
    found = list(openai.rows(trajectory, left_out))
    if service == "fireworks":
        if found and trajectory.reward is None:
            left_out("no reward")
            return
        for row in found:
            yield {**row, "weight": trajectory.reward}
        return
    if not found:
        return
    first = found[0]
    last = next((n for n, m in enumerate(first["messages"]) if m["role"] == "assistant"), 0)
    messages = [plain(m) for m in first["messages"][:last]]
    if not messages or messages[-1]["role"] != "user":
        left_out("a prompt that does not end with the user's message")
        return
    tools = {"tools": first["tools"]} if first.get("tools") else {}
    known = trajectory.metadata.get(reference) if reference is not None else None
    if known is None and (service == "bedrock" or reference is not None):
        left_out("no reference answer: give reference=, the key of the metadata that has it")
        return
    item = {"reference_answer": known if isinstance(known, str) else encode(known).decode()} if known is not None else {}
    if service == "bedrock":
        yield {"messages": messages, **tools, **item}
        return
    answer = trajectory.answer
    said = answer if isinstance(answer, str) or answer is None else encode(answer).decode()
    yield {"messages": messages, **tools, **item, "answer": said, **about(trajectory)}
