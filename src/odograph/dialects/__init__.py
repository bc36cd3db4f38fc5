"""Wire formats of model APIs: what a request and a response say, in one common shape. One dialect a file.

The common shape is OpenAI's chat message, because trainers and exports speak it: `{"role", "content", "tool_calls",
"tool_call_id"}`. Nothing here changes a record: these are views of the exact request and response that it holds.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, Protocol, cast

import msgspec


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call as the model wrote it: `arguments` is the raw string, or the object where the dialect has one."""

    id: str | None
    name: str
    arguments: Any
    #: Whether it is a custom tool's input: text in a form of its own, no JSON.
    custom: bool = False


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model. `message` is chat-shaped; ids and logprobs are None where the backend gave none."""

    index: int = 0
    message: dict[str, Any]
    text: str = ""
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: list[float | None] | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as a model is told of it; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool gave back, as the model is told."""

    tool_call_id: str | None
    name: str
    content: str
    ok: bool = True


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of one call. `prompt` includes what was read from or written to a cache."""

    prompt: int | None = None
    completion: int | None = None


class Dialect(Protocol):
    """What a dialect's module has. Every function takes any JSON and never raises for its content."""

    NAME: str
    #: Ends of the URL paths that speak it.
    PATHS: tuple[str, ...]

    def messages(self, request: Any) -> list[dict[str, Any]]:
        """What the model was sent, chat-shaped, the system prompt first."""
        ...

    def params(self, request: Any) -> dict[str, Any]:
        """The sampling parameters and everything else but model, messages and tools."""
        ...

    def tools(self, request: Any) -> list[Any]:
        """The tool schemas as they were sent."""
        ...

    def choices(self, response: Any) -> list[Choice]:
        """All answers, in order."""
        ...

    def usage(self, usage: Any) -> Usage:
        """The counts in the dialect's own `usage` object."""
        ...

    def assemble(self, events: list[Any]) -> Any:
        """The body that the same call would have answered without streaming."""
        ...

    def is_response(self, response: Any) -> bool:
        """Whether a body is of this dialect."""
        ...

    # --- the other direction: what an agent sends. The history is a list in the dialect's own form -------------------

    #: The field of a request that holds the history.
    HISTORY: str

    def history(self, messages: list[dict[str, Any]]) -> list[Any]:
        """Chat-shaped messages as a history."""
        ...

    def request(
        self,
        model: str,
        system: str | None,
        history: list[Any],
        tools: list[Tool],
        params: dict[str, Any],
        schema: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A request's body. `schema`: of the answer, as a JSON schema."""
        ...

    def said(self, response: Any) -> list[Any]:
        """What goes into the history of the first answer."""
        ...

    def results(self, results: list[Result]) -> list[Any]:
        """What goes into the history of the results of the tools that one answer asked for."""
        ...

    def delta(self, event: Any) -> str:
        """The text that an event of a stream adds to the answer."""
        ...


NAMES = ("openai.chat", "openai.responses", "anthropic.messages")


@cache
def get(name: str | None) -> Dialect:
    """The dialect of a name; one that is not known reads as OpenAI chat, the shape that others imitate."""
    module: ModuleType
    if name == "anthropic.messages":
        from . import anthropic_messages as module
    elif name == "openai.responses":
        from . import openai_responses as module
    else:
        from . import openai_chat as module
    return cast(Dialect, module)


def of_response(response: Any, name: str | None) -> Dialect:
    """The dialect of a response body: the named one, else the one that it looks like."""
    if name is None:
        for other in NAMES[1:]:
            dialect = get(other)
            if dialect.is_response(response):
                return dialect
    return get(name)


def of_path(path: str) -> str | None:
    """The name of the dialect that a URL path speaks, or None."""
    path = path.rstrip("/")
    for name in NAMES:
        if path.endswith(get(name).PATHS):
            return name
    return None
