"""The conventions of instrumentation: one file each, with `meaning`. Here is in which order they are asked."""

from __future__ import annotations

from collections.abc import Callable

from . import (
    claude_code,
    codex,
    gemini_cli,
    genai,
    helicone,
    langfuse,
    langsmith,
    logfire,
    mlflow,
    openai_agents,
    openinference,
    openllmetry,
    vercel,
    weave,
)
from .span import Meaning, TraceSpan

#: The conventions, in the order in which they are asked: the one that says most first, GenAI's own, which others write too, last.
ROOMS: tuple[Callable[[TraceSpan], Meaning | None], ...] = (
    claude_code.meaning,
    codex.meaning,
    gemini_cli.meaning,
    openinference.meaning,
    langfuse.meaning,
    vercel.meaning,
    langsmith.meaning,
    mlflow.meaning,
    weave.meaning,
    helicone.meaning,
    openai_agents.meaning,
    logfire.meaning,
    openllmetry.meaning,
    genai.meaning,
)
#: What puts together the events in which a program tells one request.
JOINED = (claude_code.joined, codex.joined, gemini_cli.joined, genai.joined)


def meaning(span: TraceSpan) -> Meaning:
    """What a span means by the first convention that knows it; a span that none knows only holds others."""
    for room in ROOMS:
        found = room(span)
        if found is not None:
            return found
    return Meaning(kind="holder")
