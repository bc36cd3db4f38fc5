"""A view of one model call: what was asked and answered, whatever dialect it was in and however its record is packed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Generic, Never, Self, TypeVar, cast, overload
from typing import Literal as OneOf

import msgspec

from . import dialects
from .codec import unfold_events
from .dialects import Choice
from .prefix import Prefix, shared_prefix
from .streams import BESIDE, Growing, Seen, Streams
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

    def __init__(self, record: LLMCall, streams: Streams | None = None, growing: Growing | None = None) -> None:
        """`growing`: the lists that it shares with other calls of its trajectory."""
        self._stored = record
        self._streams = streams
        self._growing = growing if growing is not None else Growing()

    def __repr__(self) -> str:
        return f"<Call {self.id[-8:]} {self.model or ''} {self.purpose}>"

    @cached_property
    def record(self) -> LLMCall:
        """The whole record, with nothing packed."""
        return self._streams.fill(self._stored) if self._streams else whole(self._stored)

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
    def answered(self) -> LLMCall:
        """The record with its answers whole. Costs what was answered: neither a long history nor the token ids of the prompt are
        put together for it, and these may be left out of its response."""
        if self._streams is None:
            return self._stored
        parts = [part for part in self._stored.packed if not self._is_prompt(part)]
        return self._streams.fill(msgspec.structs.replace(self._stored, packed=parts), "response", "tokens")

    def _is_prompt(self, part: Packed) -> bool:
        """Whether a packed part has the token ids of the prompt."""
        if part.of != "ids":
            return False
        return any(_is_at(part, path) for path in dialects.resent(self._stored.dialect).prompt_ids)

    @cached_property
    def _asked(self) -> LLMCall:
        """The record with its request whole: the token ids of a long prompt are not put together for it."""
        return self._streams.fill(self._stored, "request") if self._streams is not None else self._stored

    @property
    def sending(self) -> Any:
        """The request, whose history may be a `Prefix` of one list that the calls of a trajectory share: read it, don't change
        it. Costs what is new in it."""
        if self._streams is None:
            return self._stored.request
        return self._streams.fill(self._stored, "request", growing=self._growing).request

    @property
    def request(self) -> Any:
        return self._asked.request

    @property
    def response(self) -> Any:
        if self._streams is None or not any(map(self._is_prompt, self._stored.packed)):
            return self.answered.response
        return (self.record if "record" in self.__dict__ else self._streams.fill(self._stored, "response")).response

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The messages that the model was sent, chat-shaped, with the system prompt first."""
        return dialects.get(self._stored.dialect).messages(self.request)

    @property
    def history(self) -> tuple[str, list[Any] | Prefix] | None:
        """The list of a request that an agent sends again with each call, by its name, with the items as they were sent. A
        `Prefix` of what other calls of the trajectory sent where it can be, and so costs what is new: read it, don't change it.
        None where the request has no such list."""
        request = self.sending
        if isinstance(request, dict):
            for name in dialects.resent(self._stored.dialect).lists:
                if isinstance(request.get(name), list | Prefix):
                    return name, request[name]
        return None

    def shaped(self, items: list[Any] | None = None) -> list[dict[str, Any]]:
        """Items of `history` as messages, chat-shaped, without those before them; None: what stands before them all, such as a
        system prompt."""
        request, history = self.sending, self.history
        name = history[0] if history is not None else ""
        request = {k: v for k, v in request.items() if k != name} if items is None else {name: items}
        return dialects.get(self._stored.dialect).messages(request)

    def each_message(self) -> Iterator[dict[str, Any]]:
        """`messages`, one after the other: costs as many as are looked at."""
        history = self.history
        if history is None:
            yield from self.messages
            return
        yield from self.shaped()
        at, size = 0, 8
        while at < len(history[1]):
            yield from self.shaped(history[1][at : at + size])
            at, size = at + size, 2 * size

    @property
    def last_message(self) -> dict[str, Any] | None:
        """The last of `messages`, without those before it."""
        history = self.history
        if history is None:
            return self.messages[-1] if self.messages else None
        items, size = history[1], 1
        while not (found := self.shaped(items[-size:])) and size < len(items):
            size *= 2
        found = found or self.shaped()
        return found[-1] if found else None

    @property
    def params(self) -> dict[str, Any]:
        found = dialects.get(self._stored.dialect).params(self.sending)
        return {k: v[:] if type(v) is Prefix else v for k, v in found.items()}

    @property
    def tools(self) -> list[Any]:
        return dialects.get(self._stored.dialect).tools(self.sending)

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
        found = self.prompt_ids
        return found[:] if found is not None else None

    @property
    def prompt_ids(self) -> Prefix | None:
        """`prompt_token_ids`, as a `Prefix` of one list that the calls of a trajectory share, so that reading them costs what is
        new in them. Don't change it."""
        stored = self._stored
        given: list[Any] | Prefix | None = stored.prompt_token_ids
        if given is None and self._streams is not None and (part := self._prompt_part()) is not None:
            found = self._streams.grown(stored.packed_by, part, self._growing)
            if found is not None or part.at == BESIDE:
                return found
        if given is None:
            given = dialects.prompt_ids(self.record)
        if given is None or type(given) is Prefix:
            return given
        return self._growing.of_list((stored.agent, stored.purpose), given)

    def _prompt_part(self) -> Packed | None:
        """The packed token ids of the prompt that count; None where that is told from the whole record alone."""
        stored = self._stored
        beside = next((part for part in stored.packed if part.at == BESIDE), None)
        if beside is not None or stored.dialect is None:
            return beside
        dialect = dialects.get(stored.dialect)
        for path in dialect.PROMPT_IDS:
            for part in stored.packed:
                if _is_at(part, path):
                    alone = set(dialect.VALUES).isdisjoint({*stored.request, *(p.at[-1] for p in stored.packed if p is not part)})
                    return part if (alone and path[0] == "request") or not dialects.takes_batches(stored.dialect) else None
            if dialects.ids_at({"request": stored.request, "response": stored.response}, path) is not None:
                return None
        return None

    @property
    def batch_token_ids(self) -> list[list[int] | None]:
        """The token ids of each prompt of a call with several prompts (`choice.prompt` says which one a choice answers); an empty
        list for a call with one prompt."""
        one = self.has_prompt_ids_beside or not dialects.takes_batches(self._stored.dialect) or self._prompt_part() is not None
        if one:
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
        apart = any(part.of == "list" for part in self._stored.packed) or self._prompt_part() is not None
        record = self.answered if apart or self._streams is None else self.record
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


def _is_at(part: Packed, path: dialects.Path) -> bool:
    """Whether a packed part stands at a place; one that counts from the end of a list stands as it counts from the beginning."""
    if len(part.at) != len(path):
        return False
    return all(a == b or (type(a) is type(b) is int and b < 0) for a, b in zip(part.at, path, strict=True))


def whole(record: LLMCall) -> LLMCall:
    """A record whose token ids of the prompt are a list of its own."""
    ids: list[int] | Prefix | None = record.prompt_token_ids
    return msgspec.structs.replace(record, prompt_token_ids=ids[:]) if type(ids) is Prefix else record


def rests(before: Call, call: Call) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The messages of two calls, chat-shaped, but those at the beginning that both have as the same items of a history. Costs
    what is new in the second, where it goes on with the first."""
    was, now = before.history, call.history
    if was is None or now is None or was[0] != now[0] or before.dialect != call.dialect or before.shaped() != call.shaped():
        return before.messages, call.messages
    known = shared_prefix(was[1], now[1])
    known = dialects.get(call.dialect).apart(was[1], now[1], known)
    if not known:
        return before.messages, call.messages
    return before.shaped(was[1][known:]), call.shaped(now[1][known:])
