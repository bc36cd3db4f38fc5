"""A view of one model call: what was asked and answered, whatever dialect it was in and however its record is packed."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, Never, Self, TypeVar, cast, overload
from typing import Literal as OneOf

import msgspec

from . import dialects
from .codec import unfold_events
from .dialects import Choice
from .streams import BESIDE, Seen, Streams
from .types import LLMCall, Origin, Packed, Tokens

T = TypeVar("T")


class _Stored(Generic[T]):
    """A field of a call that is as it was stored, whatever of the record is packed."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, call: None, owner: type) -> Self: ...
    @overload
    def __get__(self, call: Call, owner: type) -> T: ...
    def __get__(self, call: Call | None, owner: type) -> T | Self:
        return self if call is None else cast(T, getattr(call._stored, self._name))

    def __set__(self, call: Call, value: Never) -> None:
        raise AttributeError(f"a call is a view: its {self._name} can't be set")


class Call:
    """One model call. `record` holds the stored record; the other fields are read from the record on access."""

    id: _Stored[str] = _Stored()
    trajectory: _Stored[str] = _Stored()
    seq: _Stored[int] = _Stored()
    time: _Stored[int] = _Stored()
    parent: _Stored[str | None] = _Stored()
    agent: _Stored[str | None] = _Stored()
    step: _Stored[int | None] = _Stored()
    source_time: _Stored[int | None] = _Stored()
    supersedes: _Stored[str | None] = _Stored()
    writer: _Stored[str] = _Stored()
    extra: _Stored[dict[str, Any] | None] = _Stored()
    dialect: _Stored[str | None] = _Stored()
    model: _Stored[str | None] = _Stored()
    origin: _Stored[Origin] = _Stored()
    prompt_tokens: _Stored[int | None] = _Stored()
    completion_tokens: _Stored[int | None] = _Stored()
    cost: _Stored[float | None] = _Stored()
    purpose: _Stored[str] = _Stored()
    error: _Stored[Any] = _Stored()
    status_code: _Stored[int | None] = _Stored()
    started: _Stored[int | None] = _Stored()
    duration: _Stored[int | None] = _Stored()
    first_token: _Stored[int | None] = _Stored()
    policy_version: _Stored[str | int | None] = _Stored()
    logprobs_of: _Stored[OneOf["sampled", "raw", "unknown"]] = _Stored()
    tokenizer: _Stored[str | None] = _Stored()
    adapter: _Stored[str | None] = _Stored()
    inputs: _Stored[list[str]] = _Stored()
    tokens: _Stored[list[Tokens]] = _Stored()
    packed: _Stored[list[Packed]] = _Stored()
    packed_by: _Stored[str] = _Stored()

    def __init__(self, record: LLMCall, streams: Streams | None = None) -> None:
        self._stored = record
        self._streams = streams

    def __repr__(self) -> str:
        return f"<Call {self.id[-8:]} {self.model or ''} {self.purpose}>"

    @cached_property
    def record(self) -> LLMCall:
        """The whole record, with nothing packed."""
        return self._streams.fill(self._stored) if self._streams else self._stored

    def new_messages(self, seen: Seen) -> list[dict[str, Any]]:
        """What the model was sent and what no call before that went through `seen` sent, chat-shaped. Costs what is new."""
        return self.news(seen)[0]

    def news(self, seen: Seen) -> tuple[list[dict[str, Any]], list[Any], dict[str, Any]]:
        """New in the request: `new_messages`, the tool schemas where they differ from those before, all parameters."""
        request = self._streams.new_in(self._stored, seen) if self._streams else self._stored.request
        if not isinstance(request, dict):
            return [], [], {}
        dialect = dialects.get(self._stored.dialect)
        return dialect.messages(request), dialect.tools(request), dialect.params(request)

    @cached_property
    def _answered(self) -> LLMCall:
        """The record with its response whole: a long history is not put together for it."""
        if self._streams is None or "record" in self.__dict__:
            return self.record
        return self._streams.fill(self._stored, "response", "tokens")

    @cached_property
    def _asked(self) -> LLMCall:
        """The record with its request whole: the token ids of a long prompt are not put together for it."""
        if self._streams is None or "record" in self.__dict__:
            return self.record
        return self._streams.fill(self._stored, "request")

    @property
    def request(self) -> Any:
        return self._asked.request

    @property
    def response(self) -> Any:
        return self._answered.response

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The messages that the model was sent, chat-shaped, with the system prompt first."""
        return dialects.get(self._stored.dialect).messages(self.request)

    @property
    def params(self) -> dict[str, Any]:
        return dialects.get(self._stored.dialect).params(self.request)

    @property
    def tools(self) -> list[Any]:
        return dialects.get(self._stored.dialect).tools(self.request)

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage object as the backend or the caller gave it."""
        if self._stored.usage is not None:
            return self._stored.usage
        found = dialects.of(self._stored).stated(self._stored.response)
        return found if isinstance(found, dict) else None

    @property
    def events(self) -> list[Any]:
        """The events of a streamed response, as received; empty if the response was not streamed."""
        return unfold_events(self._stored.events)

    @property
    def prompt_token_ids(self) -> list[int] | None:
        """The token ids of the prompt; None if unknown, or if one request has several prompts. A list of its own each time: the
        call does not keep it."""
        if self._streams is not None and "record" not in self.__dict__:
            for part in self._stored.packed:
                if part.at == BESIDE:
                    return cast("list[int] | None", self._streams.part(self._stored.packed_by, part))
        return dialects.prompt_ids(self.record)

    @property
    def batch_token_ids(self) -> list[list[int] | None]:
        """The token ids of each prompt of a call with several prompts (`choice.prompt` says which one a choice answers); an empty
        list for a call with one prompt."""
        if self.has_prompt_ids_beside or not dialects.takes_batches(self._stored.dialect):
            return []
        return dialects.batch_ids(self.record)

    @property
    def has_prompt_ids_beside(self) -> bool:
        """Whether the token ids of the prompt were given beside the request and the response, and not in them."""
        return self._stored.prompt_token_ids is not None or any(part.at == BESIDE for part in self._stored.packed)

    @cached_property
    def choices(self) -> list[Choice]:
        """All answers, with token ids and logprobs from the response or from the recording call."""
        # the messages of a long history say nothing of the answers; prompts of the other dialects do
        apart = any(part.of == "list" or part.at == BESIDE for part in self._stored.packed)
        record = self._answered if apart else self.record
        found = dialects.answers(record)
        while len(found) < len(record.tokens):  # ids of answers whose text was not given
            found.append(Choice(index=len(found), message={"role": "assistant", "content": None}))
        for index, given in enumerate(record.tokens):
            new: dict[str, Any] = {
                k: v for k, v in (("token_ids", given.token_ids), ("logprobs", given.logprobs)) if v is not None
            }
            found[index] = msgspec.structs.replace(found[index], **new)
        if len(found) == 1:
            more = {k: v for k in ("reasoning", "finish_reason") if (v := getattr(record, k)) is not None}
            found[0] = msgspec.structs.replace(found[0], **more)
        return found

    @property
    def text(self) -> str:
        """The text of the first answer."""
        return self.choices[0].text if self.choices else ""

    @property
    def reasoning(self) -> str | None:
        return self._stored.reasoning or (self.choices[0].reasoning if self.choices else None)

    thinking = reasoning

    @property
    def finish_reason(self) -> str | None:
        return self._stored.finish_reason or (self.choices[0].finish_reason if self.choices else None)
