"""Which conversation a request goes on with: requests as lists of items, of which each next one begins with the last. Pure.

An agent sends its whole history with each call. So a request belongs to the conversation whose last request it begins with. If
several conversations begin so, it belongs to the one whose answer comes next in the request. Any other request is of an agent
that edited its history, of a sub-agent whose prompt stands in a tool call without a result, or of somebody new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from hashlib import blake2b
from typing import Any

import msgspec

from .. import dialects
from ..codec import encode, loads_or_raw
from ..dialects import Dialect
from ..dialects.content import text_of

#: A mark that moves from message to message as a history grows.
_CACHE = re.compile(rb',\s*"cache_control"\s*:\s*\{[^{}]*\}|"cache_control"\s*:\s*\{[^{}]*\}\s*,?\s*')
#: Fields that say who is asked: the same for all calls of one agent.
_WHO = ("system", "instructions", "systemInstruction", "system_instruction", "tools", "functions")
#: What programs add to what a user wrote stands between such tags.
_ADDED = re.compile(
    r"<(system-reminder|environment_context|user_instructions|permissions instructions|session_context|INSTRUCTIONS"
    r"|skills_instructions)>"
)
#: Fields that a client gives a request anew when it sends the request again, and those by which it gives up streaming then.
_OF_TRY = ("client_metadata", "request_id", "rid", "stream", "stream_options")
_LONG = 20  # characters of an argument that may stand inside of a prompt


class Asked:
    """A request, taken apart as far as is needed: items stay bytes until their content is asked for. `clean`: what the store
    makes of an item, where it takes secrets out."""

    def __init__(self, dialect: Dialect, request: Any, clean: Callable[[Any], Any] = lambda item: item) -> None:
        self.dialect: Dialect = dialect
        self._clean = clean
        self.request: dict[str, Any] = request if isinstance(request, dict) else {}
        self.field: str | None = next((n for n in dialect.LISTS if isinstance(self.request.get(n), list)), None)
        self.items: list[Any] = self.request[self.field] if self.field else []
        #: After each item, the hash of all items up to it, as they crossed the wire.
        self.marks: list[bytes] = _marks(bytes(item) if isinstance(item, msgspec.Raw) else encode(item) for item in self.items)
        self.tools: bool = bool(dialect.tools(self.request))

    @cached_property
    def values(self) -> list[bytes]:
        """`marks` of the items' values, as the store keeps them: not the bytes that crossed the wire."""
        return _marks(encode(_in_order(self._clean(_parsed(item)))) for item in self.items)

    @cached_property
    def same(self) -> bytes:
        """The hash of what is asked. That of a request spelt anew is equal: other spaces, another order of keys."""
        asked = {name: value for name, value in self.request.items() if name not in _OF_TRY}
        return blake2b(_CACHE.sub(b"", encode(_in_order(asked))), digest_size=16).digest()

    @property
    def before(self) -> str | None:
        """The response that the request goes on from, whose conversation the server keeps (`previous_response_id`)."""
        found = self.request.get("previous_response_id")
        return found if isinstance(found, str) else None

    def history(self) -> set[str]:
        """What users said in a conversation that goes on; nothing where the request begins one."""
        messages = self.messages()
        if not any(m.get("role") == "assistant" for m in messages):
            return set()
        return {text for m in messages for text in self._clean(said_by_user([m]))}

    def find(self) -> None:
        """Finds now what will be asked for later."""
        _ = self.who, self.said, self.beside

    @cached_property
    def who(self) -> bytes:
        """The hash of system prompt and tools."""
        parts = {name: self.request[name] for name in _WHO if name in self.request}
        if self.field == "messages" and self.items:
            first = _parsed(self.items[0])
            if isinstance(first, dict) and first.get("role") in ("system", "developer"):
                parts["first"] = first
        return blake2b(_CACHE.sub(b"", encode(parts)), digest_size=16).digest()

    def messages(self, start: int = 0) -> list[dict[str, Any]]:
        """The items from `start` on, chat-shaped."""
        if self.field is None:
            return [] if start else self.dialect.messages(self.request)
        return self.dialect.messages({self.field: [_parsed(item) for item in self.items[start:]]})

    @cached_property
    def said(self) -> list[str]:
        """The texts of the last message that a user wrote: only what stands behind that message is taken apart."""
        if self.field is None:
            return said_by_user(self.dialect.messages(self.request))
        for item in reversed(self.items):
            found = said_by_user(self.dialect.messages({self.field: [_parsed(item)]}))
            if found:
                return found
        return []

    def failed(self, start: int = 0) -> set[str]:
        """The ids of the tool calls whose results, from `start` on, say that they failed."""
        out: set[str] = set()
        for item in self.items[start:]:
            if isinstance(item, msgspec.Raw) and b'"is_error"' not in bytes(item):
                continue
            content = parsed.get("content") if isinstance(parsed := _parsed(item), dict) else None
            for block in content if isinstance(content, list) else []:
                if isinstance(block, dict) and block.get("is_error") is True and isinstance(block.get("tool_use_id"), str):
                    out.add(block["tool_use_id"])
        return out

    @cached_property
    def beside(self) -> str | None:
        """What a request is for that is not the work itself, told by its texts; None where nothing tells it."""
        if self.tools:
            return None
        if self.request.get("max_tokens") == 1:
            return "probe"
        text = (self.system()[:4000] + "\n" + "\n".join(self.said)[:4000]).lower()
        if not any(word in text for word in _WORDS):
            return None
        return next((purpose for purpose, pattern in _BESIDE if pattern.search(text)), None)

    def system(self) -> str:
        """The system prompt's text."""
        found = next((self.request[n] for n in _WHO[:4] if n in self.request), None)
        if found is None and self.items:
            first = _parsed(self.items[0])
            found = first.get("content") if isinstance(first, dict) and first.get("role") in ("system", "developer") else None
        if isinstance(found, dict):
            found = found.get("parts")
        return text_of(found)


def _marks(items: Iterable[bytes]) -> list[bytes]:
    marks: list[bytes] = []
    for data in items:
        marks.append(blake2b((marks[-1] if marks else b"") + _CACHE.sub(b"", data), digest_size=16).digest())
    return marks


def _in_order(value: Any) -> Any:
    """A value with the keys of its objects in order."""
    value = _parsed(value)
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    return [_in_order(item) for item in value] if isinstance(value, list) else value


def _parsed(item: Any) -> Any:
    return loads_or_raw(bytes(item)) if isinstance(item, msgspec.Raw) else item


def said_by_user(messages: Iterable[dict[str, Any]]) -> list[str]:
    """The texts of the last message that a user wrote, part by part, without what programs add."""
    for message in reversed(list(messages)):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        parts = [content] if isinstance(content, str) else [text_of([p]) for p in content] if isinstance(content, list) else []
        found = [wrote for p in parts if (wrote := _wrote(p))]
        if found:
            return found
    return []


def _wrote(text: str) -> str:
    """A text without what programs added to it."""
    out: list[str] = []
    at = 0
    while (added := _ADDED.search(text, at)) is not None:
        end = text.find(f"</{added[1].split()[0]}", added.end())
        end = -1 if end < 0 else text.find(">", end)
        if end < 0:
            break
        out.append(text[at : added.start()])
        at = end + 1
    return "".join([*out, text[at:]]).strip()


def asks(arguments: Any, said: list[str]) -> bool:
    """Whether a tool call's arguments hold what a request's user says: the call started the agent that sends the request."""
    given = loads_or_raw(arguments.encode("utf-8", "replace")) if isinstance(arguments, str) else arguments
    values = [v.strip() for v in given.values() if isinstance(v, str)] if isinstance(given, dict) else []
    return any(v and (v == part.strip() or (len(v) >= _LONG and v in part)) for v in values for part in said)


def answer_of(dialect: Dialect, request: Any, answer: Any) -> dialects.Choice | None:
    """The first answer of a response."""
    found = dialect.answers(request, answer)
    return found[0] if found else None


def signature(choice: dialects.Choice | None) -> tuple[str, ...]:
    """What an answer is recognised by where it is sent again: its text, and the ids and names of its tool calls."""
    if choice is None:
        return ()
    return (choice.text.strip(), *(f"{c.id} {c.name}" for c in choice.tool_calls))


def answered_with(asked: Asked, at: int) -> tuple[str, ...]:
    """The signature of the answer that a request's items hold from `at` on."""
    for message in asked.messages(at):
        if message.get("role") == "assistant":
            return (text_of(message.get("content")).strip(), *(f"{id} {name}" for id, name in calls_in(message)))
    return ()


def calls_in(message: dict[str, Any]) -> list[tuple[str, str]]:
    """The id and the name of each tool call of a message."""
    calls = message.get("tool_calls")
    found = [c for c in (calls if isinstance(calls, list) else []) if isinstance(c, dict)]
    return [(str(c.get("id")), str(f.get("name"))) for c in found if isinstance(f := c.get("function") or {}, dict)]


#: What calls beside the work are for, by what their system prompt or their last message says. Such calls have no tools.
_BESIDE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("title", re.compile(r"title generator|conversation title|new conversation topic|generate a (short |concise |brief )?title"
                         r"|generate an? [^.\n]{0,40}title\b[^.\n]{0,80}\b(session|conversation|chat|thread)\b"
                         r"|\d-\d+ word title|title for this conversation|name for (this|the) session")),
    ("compact", re.compile(r"summary of the conversation so far|compact(ing)? the conversation|<state_snapshot>"
                           r"|summarize (this|the) (coding )?conversation")),
    ("route", re.compile(r"next[_ ]speaker|model_choice|complexity_reasoning|task routing")),
)  # fmt: skip
#: One of these words is in every such text: looked for first, as that is much quicker.
_WORDS = ("conversation", "title", "session", "state_snapshot", "speaker", "model_choice", "complexity_reasoning", "routing")
