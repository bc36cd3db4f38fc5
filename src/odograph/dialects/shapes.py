"""What all dialects have in common: the shapes that a dialect returns, and the members of a dialect's file.

The common shape of a message is OpenAI's chat message, because trainers and exports use this shape: `{"role", "content",
"tool_calls", "tool_call_id"}`. A dialect changes no record: it gives views of the exact request and response in the record.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from ..prefix import Prefix
from .framing import Stream


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call as the model wrote it. `arguments` is the raw string; in a dialect that sends objects, it is the object."""

    id: str | None
    name: str
    arguments: Any
    #: Whether the call is of a custom tool: then `arguments` is text in the tool's own form, and no JSON.
    custom: bool = False


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model. `message` is chat-shaped. `token_ids` and `logprobs` are None if the backend gave none."""

    index: int = 0
    message: dict[str, Any]
    text: str = ""
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: list[float | None] | None = None
    #: The number of the prompt that this choice answers. `call.messages` has one message for each of several prompts.
    prompt: int = 0


#: How providers say that an answer is not whole, or that it was stopped and is none, in lower case.
_CUT = (
    "length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_new_tokens", "max_length", "model_length",
    "token_limit", "incomplete", "model_context_window_exceeded", "context_window_exceeded", "context_length_exceeded",
    "error_limit", "repetition",
)  # fmt: skip
_STOPPED = (
    "content_filter", "content_filtered", "refusal", "safety", "sensitive", "recitation", "language", "blocklist", "spii",
    "prohibited_content", "model_armor", "image_safety", "image_prohibited_content", "image_recitation", "image_other",
    "no_image", "guardrail_intervened", "error", "error_toxic", "timeout", "failed", "cancelled", "abort", "aborted",
    "network_error", "other", "insufficient_system_resource", "queued", "in_progress", "malformed_function_call",
    "malformed_response", "malformed_model_output", "malformed_tool_use", "unexpected_tool_call", "too_many_tool_calls",
    "missing_thought_signature", "tool_use_failed",
)  # fmt: skip


def was_cut(finish_reason: Any) -> bool:
    """Whether a finish reason says that an answer was cut off, so that it is not whole."""
    return isinstance(finish_reason, str) and finish_reason.lower() in _CUT


def was_stopped(finish_reason: Any) -> bool:
    """Whether a finish reason says that an answer was refused, filtered or broken off, so that it is none."""
    return isinstance(finish_reason, str) and finish_reason.lower() in _STOPPED


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as the request describes it to the model. `parameters` is the JSON schema of the tool's arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a tool, as the next request tells the model."""

    tool_call_id: str | None
    name: str
    content: str
    ok: bool = True
    #: Images of the result, as chat-shaped parts: `{"type": "image_url", "image_url": {"url"}}`.
    images: list[dict[str, Any]] = []


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of one call. `prompt` includes tokens that a cache held or took in. None: the backend states no count."""

    prompt: int | None = None
    completion: int | None = None


#: A token that could have stood in a place: its text (`id 7` where the backend gives none), and its logprob.
Alternative = tuple[str, float]
#: Items of a request's list.
Items = list[Any] | Prefix
#: A place in the fields of a call, from the outside in: `("response", "choices", 0, "token_ids")`.
Path = tuple[str | int, ...]


class Assembly(Protocol):
    """The events of a stream, put together as they come."""

    def add(self, events: Iterable[Any]) -> None:
        """Takes the next events in, and changes none of them."""
        ...

    def body(self) -> Any:
        """What the events so far come to, as `assemble` gives it."""
        ...


class Dialect(Protocol):
    """The members of a dialect. A dialect is a module, or any other object with these members.

    `defaults.py` has the members that a dialect may leave out, with their defaults. A function takes any JSON, and never raises
    for its content.
    """

    NAME: str
    #: A short name that `Agent(dialect=...)` takes, too; "" for none.
    SHORT: str

    # --- its place --------------------------------------------------------------------------------------------------------

    #: Ends of the URL paths at which servers speak the dialect.
    PATHS: tuple[str, ...]
    #: The purpose of the calls of a path, by a pattern of the end of the path. Other paths have the purpose "act".
    PURPOSES: dict[str, str]
    #: The base URL of the provider, and the environment variable that names another base URL ("" for none).
    BASE_URL: str
    BASE_URL_VARIABLE: str
    #: The environment variable of the provider's key.
    KEY_VARIABLE: str

    def speaks(self, path: str) -> bool:
        """Whether servers speak the dialect at a URL path."""
        ...

    def headers(self, key: str) -> dict[str, str]:
        """The headers of a request: the header with the key, and other headers that the API needs."""
        ...

    def outgoing(self, body: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
        """The URL path behind the base URL, and the body, with which a request is sent."""
        ...

    def model(self, path: str, request: Any) -> str | None:
        """The name of the model that a request asks; None if the request names no model."""
        ...

    def streams(self, path: str, request: Any) -> bool:
        """Whether a request asks for a stream."""
        ...

    # --- a request --------------------------------------------------------------------------------------------------------

    #: Fields of a request that agents resend, and that a store keeps once: lists of messages (`LISTS`), and other values.
    LISTS: tuple[str, ...]
    VALUES: tuple[str, ...]
    #: The places of the token ids of the prompt and of the first answer. The first place that has ids counts.
    PROMPT_IDS: tuple[Path, ...]
    ANSWER_IDS: tuple[Path, ...]

    def messages(self, request: Any) -> list[dict[str, Any]]:
        """The messages of a request, chat-shaped, the system prompt first."""
        ...

    def apart(self, was: Items, now: Items, at: int) -> int:
        """Of two lists of a request that begin with the same `at` items, the last place up to there from which on the items of
        both are the same messages without the items before them."""
        ...

    def params(self, request: Any) -> dict[str, Any]:
        """The fields of a request without model, messages and tools: sampling parameters and others."""
        ...

    def tools(self, request: Any) -> list[Any]:
        """The tool schemas of a request, unchanged."""
        ...

    def prompts(self, request: Any) -> int:
        """How many prompts a request has."""
        ...

    def asking_tokens(self, streams: bool) -> dict[str, Any]:
        """The fields that ask a backend for token ids and logprobs; an empty dict: the dialect has no such fields."""
        ...

    def unasked(self, value: Any, asked: dict[str, Any]) -> Any:
        """A response's body, or an event, without the parts that the fields `asked` of `asking_tokens` brought."""
        ...

    # --- a response -------------------------------------------------------------------------------------------------------

    def is_response(self, response: Any) -> bool:
        """Whether a response's body has the shape of this dialect."""
        ...

    def choices(self, response: Any) -> list[Choice]:
        """All answers of a response's body, in order."""
        ...

    def answers(self, request: Any, response: Any) -> list[Choice]:
        """All answers, each with the number of the prompt that it answers."""
        ...

    def alternatives(self, response: Any, index: int) -> list[list[Alternative]]:
        """The likeliest tokens at the place of each token of an answer, as the backend gives them. `index`: the answer's."""
        ...

    def stated(self, response: Any) -> Any:
        """The usage object of a response's body, as the dialect has it."""
        ...

    def usage(self, usage: Any) -> Usage:
        """The token counts in the dialect's own usage object."""
        ...

    def later(self, response: Any) -> str | None:
        """The id with which the agent will fetch the answer later; None if the body is the answer."""
        ...

    def fetched(self, path: str) -> str | None:
        """The id of the answer that a GET of a URL path fetches; None if the path fetches no answer."""
        ...

    # --- a stream ---------------------------------------------------------------------------------------------------------

    def framing(self, kind: str, path: str) -> Stream | None:
        """The parser of a streamed response, by the response's content type; None if the response is one body."""
        ...

    def ending(self, stream: Stream) -> tuple[bool, Any]:
        """Whether the events of a stream say that the stream is over, and the error that they state (None: no error)."""
        ...

    def assemble(self, events: Iterable[Any]) -> Any:
        """The body that the same call would have returned without streaming."""
        ...

    def assembly(self) -> Assembly | None:
        """What puts the events of one stream together as they come; None: `assemble` does it, once all are there."""
        ...

    def delta(self, event: Any) -> str:
        """The text that an event adds to the answer; "" for none."""
        ...

    def framed(self, events: list[Any], whole: bool) -> bytes:
        """Events as the bytes of server-sent events, for a replay. `whole`: the recorded stream came to its end."""
        ...

    # --- the other direction: requests of an agent. The history is a list in the dialect's own form. Without `request`, a dialect
    # is for recording only --------------------------------------------------------------------------------------------------

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
        """A request's body. `schema`: the JSON schema that the answer has to fit."""
        ...

    def said(self, response: Any) -> list[Any]:
        """The items that the first answer of a response adds to the history."""
        ...

    def reworded(self, response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
        """A response's body whose first answer has another text, reasoning (None: unchanged) or tool calls (by their number).

        Raises InvalidInput if the API accepts no changed reasoning in a history.
        """
        ...

    def choosing(self, choice: str) -> dict[str, Any]:
        """The fields that say which tools the model may use: "auto", "required" (any tool), "none", or the name of a tool."""
        ...

    def of_ids(self, model: str, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
        """A request's body with the token ids of the prompt in place of messages. Without this member, the API takes no ids."""
        ...

    def results(self, results: list[Result]) -> list[Any]:
        """The items that the results of one answer's tool calls add to the history."""
        ...
