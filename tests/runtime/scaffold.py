"""What the tests of the runtime share: a model that uses tools, and where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.llm_server import Answer, LLMServer

PATHS = {"openai.chat": "/v1", "openai.responses": "/v1", "anthropic.messages": ""}


def asks(*calls: tuple[str, dict[str, Any] | str], text: str = "", id: str = "call") -> Answer:
    """An answer that asks for tools."""
    return Answer(
        text=text,
        tool_calls=[
            {
                "id": f"{id}_{n}",
                "type": "function",
                "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
            }
            for n, (name, given) in enumerate(calls)
        ],
    )


def turns(request: dict[str, Any]) -> int:
    """How often the model answered before, in whichever dialect it is asked."""
    if "input" in request:
        items = request["input"] if isinstance(request["input"], list) else []
        return sum(i.get("type") == "function_call_output" for i in items)
    return sum(m.get("role") == "assistant" for m in request["messages"])


def by_turn(*answers: Answer) -> Callable[[dict[str, Any]], Answer]:
    """A model that says one after the other, whoever asks; the last one stays."""
    return lambda request: answers[min(turns(request), len(answers) - 1)]


def sent(server: LLMServer) -> list[list[dict[str, Any]]]:
    """The messages of each request, as they came through the socket."""
    return [body["messages"] for _, body in server.requests]


def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b
