"""A taskset of verifiers: which colour. Its harness is an Odograph agent, its renderer knows the tiny model's words.

verifiers finds a taskset by its module's name, so this folder has to be on the path: see `with_verifiers.py`.
"""

from __future__ import annotations

from typing import Any

import verifiers.v1 as vf
from renderers import DefaultRendererConfig
from renderers.base import ParsedResponse, ParsedToolCall
from renderers.default import DefaultRenderer

from examples.grpo_cpu.looker import looks, parse, worth
from examples.grpo_cpu.policy import COLOURS
from odograph.online import verifiers

__all__ = ["Colours", "Looker"]


class Colour(vf.TaskData):
    """What is asked, and what is right."""

    colour: str


class WhichColour(vf.Task[Colour]):
    """The reward is verifiers' own, of its own trace."""

    @vf.reward
    async def right(self, trace: vf.Trace) -> float:
        """As `looker.worth` has it."""
        said, colour = trace.branches[-1].messages, self.data.colour
        words = str(said[-1].content or "").split() if said[-1].role == "assistant" else []
        looked = any(m.role == "tool" for m in said)
        return round(0.2 * looked + 0.7 * (words[:1] == [colour]) + 0.1 * (words == [colour]), 3)


class Colours(vf.Taskset[WhichColour, vf.TasksetConfig]):
    """A task for each colour."""

    def load(self) -> list[WhichColour]:
        return [WhichColour(Colour(prompt="which colour", colour=c), self.config.task) for c in COLOURS]


Looker = verifiers.harness(lambda data: looks(data.colour), reward=worth)


class Words(DefaultRenderer):
    """The tokenizer's chat template, and the tool that is asked for by the first word."""

    config_class = DefaultRendererConfig
    supports_tools = True

    def parse_response(self, token_ids: list[int], **_: Any) -> ParsedResponse:
        message = parse(self._tokenizer.decode(token_ids))
        calls = [c["function"]["name"] for c in message.get("tool_calls") or ()]
        return ParsedResponse(message["content"], tool_calls=[ParsedToolCall(name, name, {}) for name in calls])
