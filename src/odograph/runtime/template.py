"""How messages become the ids of a prompt, and the ids of an answer a message: for backends of token ids.

Stands on a tokenizer with a chat template, as those of Hugging Face are. Knows no agent and asks no model.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from ..codec import encode, loads
from ..dialects import Tool
from ..errors import InvalidInput
from ..lineage.texts import Tokenizer
from ..lineage.texts import tokenizer as adapted

#: The text of an answer -> its chat-shaped message.
Parse = Callable[[str], dict[str, Any]]

_THOUGHT = re.compile(r"^\s*(?:<think>)?(.*?)</think>\s*", re.S)
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.S)
#: What stands in for a conversation when only the ids of what comes behind an answer are wanted.
_BEFORE: tuple[dict[str, Any], ...] = ({"role": "user", "content": "x"}, {"role": "assistant", "content": "x"})


def parsed(text: str) -> dict[str, Any]:
    """An answer's message, of a text in the form of Hermes and Qwen: `<think>...</think>`, then text with `<tool_call>{"name":
    ..., "arguments": {...}}</tool_call>`. What is in no such form is text."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    thought = _THOUGHT.match(text)
    if thought is not None:
        message["reasoning_content"] = thought[1].strip()
        text = text[thought.end() :]
    calls = [call for found in _CALL.finditer(text) if (call := _call(found[1])) is not None]
    if calls:
        text = _CALL.sub(lambda found: "" if _call(found[1]) is not None else found[0], text)
        message["tool_calls"] = calls
    message["content"] = text.strip() or None
    return message


def _call(text: str) -> dict[str, Any] | None:
    try:
        found = loads(text)
    except InvalidInput:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments", found.get("parameters", {}))
    written = arguments if isinstance(arguments, str) else encode(arguments).decode()
    return {"type": "function", "function": {"name": found["name"], "arguments": written}}


class Template:
    """A tokenizer with a chat template, and the parser of what the model writes.

    `tokenizer`: an object with `apply_chat_template(messages, tools=, add_generation_prompt=, tokenize=False)`, `encode(text,
    add_special_tokens=False)`, `decode(ids)`, `eos_token` and `eos_token_id`. `parse`: the text of an answer (special tokens
    left out) -> a chat-shaped message (default: the form of Hermes and Qwen). `options` go to the chat template.
    """

    def __init__(self, tokenizer: Any, parse: Parse = parsed, **options: Any) -> None:
        lacking = [n for n in ("apply_chat_template", "encode", "decode") if not hasattr(tokenizer, n)]
        if lacking:
            raise InvalidInput(
                f"{type(tokenizer).__name__} has no {lacking[0]}; a tokenizer with a chat template was expected, as"
                " transformers.AutoTokenizer gives it"
            )
        self.tokenizer = tokenizer
        self.parse = parse
        self.options = options
        self._end: str = getattr(tokenizer, "eos_token", None) or ""
        self._end_id: int | None = getattr(tokenizer, "eos_token_id", None)

    @classmethod
    def of(cls, given: Any) -> Template | None:
        """A Template of a tokenizer; one that is given is taken as it is."""
        return given if given is None or isinstance(given, cls) else cls(given)

    @property
    def by(self) -> Tokenizer | None:
        """The tokenizer as the lineage takes it; None for one that gives no offsets."""
        try:
            return adapted(self.tokenizer)
        except InvalidInput:
            return None

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def prompt(self, messages: list[dict[str, Any]], tools: list[Tool] | list[dict[str, Any]]) -> list[int]:
        """The ids of a conversation, up to where the model answers."""
        return self.encode(self._rendered(messages, tools, True))

    def added(self, messages: list[dict[str, Any]], tools: list[Tool] | list[dict[str, Any]]) -> list[int] | None:
        """The ids of messages that come behind an answer that has its end, up to where the model answers again. None where the
        template does not say what they are by themselves."""
        before, after = self._rendered([*_BEFORE], tools, False), self._rendered([*_BEFORE, *messages], tools, True)
        if self._end and self._end in before:  # what a template writes behind the end, the answer does not have
            before = before[: before.rindex(self._end) + len(self._end)]
        return self.encode(after[len(before) :]) if after.startswith(before) else None

    def ended(self, ids: list[int]) -> list[int]:
        """An answer with its end, which a backend may leave out, or an edit may have cut off."""
        return ids if self._end_id is None or self._end_id in ids[-1:] else [*ids, self._end_id]

    def answer(self, message: dict[str, Any]) -> list[int] | None:
        """The ids of an answer that is not as it was generated, with its end. None where the template does not say."""
        first = [dict(_BEFORE[0])]
        before, after = self._rendered(first, [], True), self._rendered([*first, message], [], False)
        if self._end and self._end in after:
            after = after[: after.rindex(self._end) + len(self._end)]
        return self.encode(after[len(before) :]) if after.startswith(before) else None

    def message(self, text: str, place: str) -> dict[str, Any]:
        """The message of an answer's text. `place` makes the ids of tool calls, which models don't write."""
        message = dict(self.parse(text))
        calls = message.get("tool_calls")
        if calls:
            message["tool_calls"] = [{"id": f"call_{place}_{n}", **call} for n, call in enumerate(calls)]
        return {"role": "assistant", "content": None, **message}

    def _rendered(self, messages: list[dict[str, Any]], tools: list[Any], asks: bool) -> str:
        told = [_described(t) for t in tools] or None
        shaped = [_with_objects(m) for m in messages]
        return str(
            self.tokenizer.apply_chat_template(shaped, tools=told, add_generation_prompt=asks, tokenize=False, **self.options)
        )


def _described(tool: Tool | dict[str, Any]) -> dict[str, Any]:
    if isinstance(tool, dict):
        return tool
    about = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": about}


def _with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """A message with the arguments of its tool calls as objects: templates write them as JSON themselves."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    out: list[Any] = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            with contextlib.suppress(InvalidInput):
                function = {**function, "arguments": loads(function["arguments"])}
            call = {**call, "function": function}
        out.append(call)
    return {**message, "tool_calls": out}
