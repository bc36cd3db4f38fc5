"""Which conversation a request goes on with: requests as lists of items, of which each next one begins with the last. Pure.

An agent sends its whole history with each call. So a request belongs to the conversation whose last request it begins with. If
several conversations begin so, it belongs to the one whose answer comes next in the request. The system prompt is not compared,
because many agents tell the time in it. Any other request is of an agent that edited its history, of a sub-agent whose prompt
stands in a tool call without a result, or of somebody new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from .. import dialects
from ..codec import encode, loads_or_raw
from ..dialects import Dialect
from ..dialects.content import text_of

#: A mark that moves from message to message as a history grows.
_CACHE = re.compile(rb',\s*"cache_control"\s*:\s*\{[^{}]*\}|"cache_control"\s*:\s*\{[^{}]*\}\s*,?\s*')
#: Fields that say who is asked: the system prompt, and tools.
_SYSTEM = ("system", "instructions", "systemInstruction", "system_instruction")
_TOOLS = ("tools", "functions")
#: What programs add to what a user wrote stands between such tags.
_ADDED = re.compile(
    r"<(system-reminder|environment_context|user_instructions|permissions instructions|session_context|INSTRUCTIONS"
    r"|skills_instructions)>"
)
#: Fields that a client gives a request anew when it sends the request again, and those by which it gives up streaming then.
_OF_TRY = ("client_metadata", "request_id", "rid", "stream", "stream_options")
LONG = 20  # characters of a text that is recognised where it stands inside of another
_BEGIN = 3  # messages that may hold a summary of those before


class Asked:
    """A request, taken apart as far as is needed: items stay bytes until their content is asked for. `clean`: what the store
    makes of an item, where it takes secrets out."""

    def __init__(self, dialect: Dialect, request: Any, clean: Callable[[Any], Any] = lambda item: item) -> None:
        self.dialect: Dialect = dialect
        self._clean = clean
        self.request: dict[str, Any] = request if isinstance(request, dict) else {}
        self.field: str | None = next((n for n in dialect.LISTS if isinstance(self.request.get(n), list)), None)
        self.items: list[Any] = self.request[self.field] if self.field else []
        #: The system prompt, where items hold it: those before the first item of the user.
        self._first: list[dict[str, Any]] = _system_items(self.items)
        #: How many these are.
        self.lead: int = len(self._first)
        #: After each item behind these, the hash of all items up to it, as they crossed the wire.
        self.marks: list[bytes] = _marks(
            bytes(item) if isinstance(item, msgspec.Raw) else encode(item) for item in self.items[self.lead :]
        )
        self.tools: bool = bool(dialect.tools(self.request))

    @cached_property
    def values(self) -> list[bytes]:
        """`marks` of the items' values, as the store keeps them: not the bytes that crossed the wire."""
        return _marks(encode(_in_order(self._clean(_parsed(item)))) for item in self.items[self.lead :])

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
    def prompt(self) -> bytes:
        """The hash of the system prompt."""
        parts = {name: self.request[name] for name in _SYSTEM if name in self.request}
        return blake2b(_CACHE.sub(b"", encode([parts, self._first])), digest_size=16).digest()

    @cached_property
    def who(self) -> bytes:
        """The hash of system prompt and tools: the same for most calls of one agent."""
        tools = {name: self.request[name] for name in _TOOLS if name in self.request}
        return blake2b(self.prompt + _CACHE.sub(b"", encode(tools)), digest_size=16).digest()

    def messages(self, start: int = 0) -> list[dict[str, Any]]:
        """The items from `start` on, chat-shaped."""
        if self.field is None:
            return [] if start else self.dialect.messages(self.request)
        return self.dialect.messages({self.field: [_parsed(item) for item in self.items[start:]]})

    def first(self) -> list[str]:
        """The texts of the first messages behind the system prompt. A history that was summed up begins with its summary."""
        if self.field is None:
            return []
        begin = self.dialect.messages({self.field: [_parsed(item) for item in self.items[self.lead : self.lead + _BEGIN]]})
        return [text_of(m.get("content")) for m in begin]

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
        if self.items and _of(self.items[-1]).type == "compaction_trigger":  # Codex has the server sum up, and keeps its tools
            return "compact"
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
        found = next((self.request[n] for n in _SYSTEM if n in self.request), None)
        if found is None and self._first:
            return "\n".join(text_of(item.get("content")) for item in self._first)
        if isinstance(found, dict):
            found = found.get("parts")
        return text_of(found)


def _system_items(items: list[Any]) -> list[dict[str, Any]]:
    """The items of the system prompt that stand before an item of the user."""
    found: list[dict[str, Any]] = []
    for item in items:
        role = _of(item).role
        if role not in ("system", "developer"):
            return found if role == "user" else []
        found.append(_parsed(item))
    return []


class _Told(msgspec.Struct):
    role: Any = None
    type: Any = None


_told = msgspec.json.Decoder(_Told)


def _of(item: Any) -> _Told:
    """Who says an item, and of which kind it is; of bytes they are told without making objects of the rest."""
    if isinstance(item, msgspec.Raw):
        try:
            return _told.decode(bytes(item))
        except msgspec.DecodeError:
            return _Told()
    return _Told(item.get("role"), item.get("type")) if isinstance(item, dict) else _Told()


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
    inside = [given] if isinstance(given, dict) else []
    while inside:
        one = inside.pop()
        if isinstance(one, str):
            text = one.strip()
            if text and any(text == part.strip() or (len(text) >= LONG and text in part) for part in said):
                return True
        elif isinstance(one, (dict, list)):
            inside += one.values() if isinstance(one, dict) else one
    return False


def answer_of(dialect: Dialect, request: Any, answer: Any) -> dialects.Choice | None:
    """The first answer of a response."""
    found = dialect.answers(request, answer)
    return found[0] if found else None


class Said(NamedTuple):
    """What an answer is recognised by where it is sent again: its text, and the ids and names of its tool calls."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()

    @property
    def is_telling(self) -> bool:
        """Whether hardly two answers are so."""
        return bool(self.calls) or len(self.text) >= LONG

    def is_renamed(self, other: Said) -> bool:
        """Whether another is the same but for the ids of its tool calls."""
        return self.text == other.text and [name for _, name in self.calls] == [name for _, name in other.calls]


def signature(choice: dialects.Choice | None) -> Said:
    """What a response's answer is recognised by."""
    return Said() if choice is None else Said(choice.text.strip(), tuple((str(c.id), str(c.name)) for c in choice.tool_calls))


def answers_in(messages: list[dict[str, Any]]) -> Iterator[tuple[int, Said]]:
    """The answers that a history holds, from the last to the first, each with the place where it begins. Messages of the
    assistant that follow each other are one answer."""
    end = len(messages)
    while end:
        at = end
        while at and messages[at - 1].get("role") == "assistant":
            at -= 1
        if at < end:
            text = "".join(text_of(m.get("content")) for m in messages[at:end])
            yield at, Said(text.strip(), tuple(call for m in messages[at:end] for call in calls_in(m)))
        end = at if at < end else end - 1


def answered_with(asked: Asked, count: int) -> Said:
    """The answer that a request holds behind its first `count` items after the system prompt."""
    return next((said for _, said in reversed(list(answers_in(asked.messages(asked.lead + count))))), Said())


def since(messages: list[dict[str, Any]], answer: Said) -> list[dict[str, Any]]:
    """A history from an answer on: from the last one that is the same, else the same but for its ids, else from the last."""
    found = list(answers_in(messages))
    at = next((n for n, said in found if said == answer), None)
    if at is None:
        at = next((n for n, said in found if answer.is_renamed(said)), found[0][0] if found else 0)
    return messages[at:]


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
