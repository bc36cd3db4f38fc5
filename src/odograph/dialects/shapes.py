"""What every dialect has in common: the shapes that it gives, and the members that its file has.

The common shape is OpenAI's chat message, because trainers and exports speak it: `{"role", "content", "tool_calls",
"tool_call_id"}`. Nothing here changes a record: these are views of the exact request and response that it holds.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from .framing import Stream


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
    #: Number of the prompt that it answers, where one request has several; `call.messages` then has a message for each.
    prompt: int = 0


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
    #: Images in it, as chat-shaped parts: `{"type": "image_url", "image_url": {"url"}}`.
    images: list[dict[str, Any]] = []


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of one call. `prompt` includes what was read from or written to a cache."""

    prompt: int | None = None
    completion: int | None = None


#: Where something stands in the fields of a call: `("response", "choices", 0, "token_ids")`.
Path = tuple[str | int, ...]


class Dialect(Protocol):
    """The members of a dialect: a module, or any other object. `defaults.py` says which may be left out, and what holds then.

    A function takes any JSON and never raises for its content.
    """

    NAME: str
    #: What `Agent(dialect=...)` takes too; "" for none.
    SHORT: str

    # --- its place --------------------------------------------------------------------------------------------------------

    #: Ends of the URL paths that speak it.
    PATHS: tuple[str, ...]
    #: What the calls of a path are for, by its end, where that is not to act.
    PURPOSES: dict[str, str]
    #: Where its provider is asked, and the environment variable that names another place ("" for none).
    BASE_URL: str
    BASE_URL_VARIABLE: str
    #: The environment variable of the provider's key.
    KEY_VARIABLE: str

    def speaks(self, path: str) -> bool:
        """Whether a URL path speaks it."""
        ...

    def headers(self, key: str) -> dict[str, str]:
        """The headers that a key goes into, and others that the API wants."""
        ...

    def outgoing(self, body: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
        """The URL path, behind the base URL, and the body that a request goes out with."""
        ...

    def model(self, path: str, request: Any) -> str | None:
        """The model that a request asks."""
        ...

    def streams(self, path: str, request: Any) -> bool:
        """Whether a request asks for a stream."""
        ...

    # --- a request --------------------------------------------------------------------------------------------------------

    #: Parts that agents resend, which are stored once: lists of messages, and values.
    LISTS: tuple[str, ...]
    VALUES: tuple[str, ...]
    #: Where the token ids of the prompt and of the first answer stand; the first place that has some counts.
    PROMPT_IDS: tuple[Path, ...]
    ANSWER_IDS: tuple[Path, ...]

    def messages(self, request: Any) -> list[dict[str, Any]]:
        """What the model was sent, chat-shaped, the system prompt first."""
        ...

    def params(self, request: Any) -> dict[str, Any]:
        """The sampling parameters and everything else but model, messages and tools."""
        ...

    def tools(self, request: Any) -> list[Any]:
        """The tool schemas as they were sent."""
        ...

    def prompts(self, request: Any) -> int:
        """How many prompts a request has."""
        ...

    def asking_tokens(self, streams: bool) -> dict[str, Any]:
        """The fields by which a backend is asked for token ids and logprobs; none: it is not asked."""
        ...

    def unasked(self, value: Any, asked: dict[str, Any]) -> Any:
        """A response's body, or an event, without what these fields of `asking_tokens` brought."""
        ...

    # --- a response -------------------------------------------------------------------------------------------------------

    def is_response(self, response: Any) -> bool:
        """Whether a body is of this dialect."""
        ...

    def choices(self, response: Any) -> list[Choice]:
        """All answers, in order."""
        ...

    def answers(self, request: Any, response: Any) -> list[Choice]:
        """All answers; each knows which of the request's prompts it is of."""
        ...

    def stated(self, response: Any) -> Any:
        """The usage object of a body."""
        ...

    def usage(self, usage: Any) -> Usage:
        """The counts in the dialect's own usage object."""
        ...

    def later(self, response: Any) -> str | None:
        """The id by which the answer will be fetched, where a body says that there is none yet."""
        ...

    def fetched(self, path: str) -> str | None:
        """The id of the answer that a GET of a URL path fetches."""
        ...

    # --- a stream ---------------------------------------------------------------------------------------------------------

    def framing(self, kind: str, path: str) -> Stream | None:
        """What takes a response's bytes apart, by its content type; None: the response is one body."""
        ...

    def ending(self, stream: Stream) -> tuple[bool, Any]:
        """Whether a stream says that it is over, and what it says went wrong."""
        ...

    def assemble(self, events: list[Any]) -> Any:
        """The body that the same call would have answered without streaming."""
        ...

    def delta(self, event: Any) -> str:
        """The text that an event adds to the answer."""
        ...

    def framed(self, events: list[Any], whole: bool) -> bytes:
        """Events as server-sent events, to be replayed. `whole`: they came to their end."""
        ...

    # --- the other direction: what an agent sends. The history is a list in the dialect's own form. Left out, no agent can speak
    # it and it is for recording only ---------------------------------------------------------------------------------------

    #: The field of a request that holds the history.
    HISTORY: str
    #: The fields that make an answer a stream.
    STREAMING: dict[str, Any]

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

    def reworded(self, response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
        """A body whose first answer has another text, another reasoning (None: as it is), or other tool calls, by their number.

        Raises InvalidInput where the API takes back no changed reasoning.
        """
        ...

    def choosing(self, choice: str) -> dict[str, Any]:
        """The fields that say which tools the model uses: "auto", "required" (any of them), "none", or the name of one."""
        ...

    def of_ids(self, model: str, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
        """A request's body with the token ids of the prompt in place of messages. Left out: the API takes no ids."""
        ...

    def results(self, results: list[Result]) -> list[Any]:
        """What goes into the history of the results of the tools that one answer asked for."""
        ...
