"""Chat JSON lines: `{"messages": [...], "tools": [...]}` a line, one trajectory each, or a chat elsewhere (see `chat_rows`).
A `system` (`system_prompt`) beside the messages comes first, and a message's `timestamp` is its time: so programs export talks
that they keep in rows, such as Hermes. Where the last message has no answer, `choices` or a `response` beside the messages is the
answer to them. Each row has the format that its own messages have: those with Anthropic's content blocks are sessions of
`anthropic-messages`, also among others.

Each assistant message is one step and one call, with the messages before it as its request. `weight` (0: not trained) is
kept on the call; everything else of a line is kept in the start's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import InvalidInput
from ...shape import content_text, dicts, integer, obj, parsed, text, without
from ...types import End, Start
from .. import turns
from ..session import Lines, Session, parse_time, sessions_of_rows
from ..transcript import Transcript
from .chat_rows import SWIFT, first_chat, is_anthropic, is_chat, rows_in

NAME = "openai-chat"
ANTHROPIC = "anthropic-messages"
SURE = 10  # many formats have messages with roles
#: Names under which rows keep what a model answered to their messages, and the other fields of a body with `choices`.
_ANSWERS = ("response", "completion", "output")
_OF_BODY = ("id", "object", "created", "model", "usage", "service_tier", "system_fingerprint")


def recognise(path: Path, head: bytes) -> bool:
    """The first line, or the first object of a JSON list, has `messages` with roles; lines with an empty list may come before."""
    return first_chat(head) is not None


def read(path: Path) -> Iterator[Session]:
    """A session per line, or per object of a list. Raises InvalidInput where there is none, or where the first has Anthropic's
    content blocks."""
    return of_chats(path, NAME)


def of_chats(path: Path, name: str) -> Iterator[Session]:
    """The sessions of a file whose first chat is of the format `name`. Raises InvalidInput where it is of the other."""
    lines = Lines(path)
    rows = rows_in(path, lines)
    before = []
    for row in rows:
        before.append(row)
        if is_chat(row):
            found = ANTHROPIC if is_anthropic(row) else NAME
            if found != name:
                raise InvalidInput(f"chat messages of the format {found}; expected {name}")
            break
    made = partial(_session, path)
    yield from sessions_of_rows(chain(before, rows), lines, is_chat, made, "line with chat messages")


def _is_said(system: Any) -> bool:
    """Whether a field is a system prompt: a text, or blocks of text."""
    return bool(system) and (
        isinstance(system, str) or (isinstance(system, list) and all(text(obj(b).get("text")) for b in system))
    )


def _answer(value: dict[str, Any]) -> tuple[str, ...]:
    """The fields of a row that hold the answer to its messages: a body with choices, or the answer as a text or a message."""
    if obj(value["messages"][-1]).get("role") == "assistant":
        return ()
    if any("message" in choice for choice in dicts(value.get("choices"))):
        return tuple(name for name in ("choices", *_OF_BODY) if name in value)
    given = (n for n in _ANSWERS if text(value.get(n)) or obj(value.get(n)).get("choices") or "role" in obj(value.get(n)))
    return next(((name,) for name in given), ())


def _replied(transcript: Transcript, value: dict[str, Any], held: tuple[str, ...]) -> None:
    """Takes in the answer that stands beside the messages of a row."""
    said = {name: value[name] for name in held} if held[0] == "choices" else value[held[0]]
    choices, usage = dicts(obj(said).get("choices")), obj(obj(said).get("usage"))
    message = (
        obj(choices[0].get("message")) if choices else said if isinstance(said, dict) else {"role": "assistant", "content": said}
    )
    transcript.replied(
        message,
        response=said if choices else None,
        model=text(obj(said).get("model")) or transcript.model,
        when=parse_time(obj(said).get("created")),
        finish_reason=text(choices[0].get("finish_reason")) if choices else None,
        usage=usage or None,
        prompt_tokens=integer(usage.get("prompt_tokens")),
        completion_tokens=integer(usage.get("completion_tokens")),
    )


def _session(path: Path, value: dict[str, Any], key: str, count: int) -> Session:
    name = ANTHROPIC if is_anthropic(value) else NAME
    messages: list[Any] = value["messages"]
    if any(obj(m).get("role") in SWIFT for m in messages):
        messages = turns.chat(messages)
    answer = _answer(value)
    about = without(value, "messages", "tools", *answer)
    beside = next((name for name in ("system", "system_prompt") if _is_said(value.get(name))), None)
    if beside and not any(obj(m).get("role") == "system" for m in messages):
        messages = [{"role": "system", "content": about.pop(beside)}, *messages]
    session = Session(name, key, count)
    task = next((content_text(m.get("content")) for m in dicts(messages) if m.get("role") == "user"), None)
    source = {"format": name, "path": path.name, **about}
    session.add(Start(task=task, group=text(value.get("group")), model=text(value.get("model")), metadata={"source": source}))
    tools = parsed(value.get("tools")) or parsed(value.get("functions"))
    transcript = Transcript(session, model=text(value.get("model")), tools=tools)
    turns.tell(transcript, messages)
    if answer:
        _replied(transcript, value, answer)
    transcript.close()
    turns.rate(session, value)
    session.add(End())
    return session
