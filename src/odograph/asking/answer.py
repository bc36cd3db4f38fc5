"""A judge's answer to one question: what a body amounts to, and what a prompt is. Values in, values out; asks nothing."""

from __future__ import annotations

from typing import Any
from typing import Literal as OneOf

import msgspec

from ..codec import encode
from ..dialects import Choice, Dialect
from ..dialects.shapes import was_cut
from ..errors import InvalidInput
from .parsing import Shape, read

Status = OneOf["ok", "refused", "parse_error", "http_error", "over_context", "over_budget"]

#: Bytes of a prompt for a token, on the safe side: English has four, and a Chinese character has three.
_BYTES_PER_TOKEN = 3


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A judge's answer to one prompt. `value` is None unless `status` is `ok`."""

    status: Status
    value: Any = None
    #: What it wrote, as it wrote it; of the last try.
    text: str | None = None
    #: What is wrong.
    error: str | None = None
    model: str
    repeat: int = 0
    #: Whether nothing was asked: it was in the journal.
    cached: bool = False
    #: What all tries cost, now or when the journal's were asked; and their tokens, as far as the endpoint states them.
    cost: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    #: Of the prompts' tokens, those that the provider read from its cache.
    cached_tokens: int = 0


def answer_in(body: Any, dialect: Dialect, wanted: Shape | None, how: tuple[Any, Any], about: dict[str, Any]) -> Answer:
    """What a body amounts to. `how`: what reads the text and what checks the value, where these are given."""
    choice = next(iter(dialect.choices(body)), None) or Choice(message={})
    written = choice.text
    if wanted is not None:  # some models answer by calling a tool
        called = [a if isinstance(a, str) else encode(a).decode() for c in choice.tool_calls if (a := c.arguments)]
        written = "\n".join([written, *called]) if called else written
    about |= {"text": written}
    refusal = choice.message.get("refusal")
    if refusal or choice.finish_reason in ("content_filter", "content_filtered", "refusal"):
        return Answer(status="refused", error=refusal if isinstance(refusal, str) else "it declined to answer", **about)
    try:
        if not written.strip():
            raise InvalidInput("the answer is empty")
        parse, check = how
        if parse is not None and was_cut(choice.finish_reason):
            raise InvalidInput("the answer is not complete")
        said = sendable(written)
        value = parse(said) if parse else said if wanted is None else read(said, wanted)
        return Answer(status="ok", value=value if check is None else check(value), **about)
    except InvalidInput as error:
        cut = " (it was cut off at its longest)" if was_cut(choice.finish_reason) else ""
        return Answer(status="parse_error", error=f"{error}{cut}", **about)


def estimate(prompt: Any) -> int:
    """Tokens of a prompt, estimated on the safe side: a token for three bytes."""
    return -(-len(encode(prompt)) // _BYTES_PER_TOKEN)


def from_cache(stated: Any) -> int:
    """Tokens of a prompt that a provider read from its cache, in the words of any dialect."""
    if not isinstance(stated, dict):
        return 0
    parts = [stated, *(stated.get(n) for n in ("prompt_tokens_details", "input_tokens_details"))]
    found = [p.get(n) for p in parts if isinstance(p, dict) for n in ("cached_tokens", "cache_read_input_tokens")]
    return next((n for n in found if type(n) is int), 0)


def sendable(text: str) -> str:
    """Text as UTF-8 has it: half a surrogate pair, which JSON can name, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def messages_of(prompt: Any) -> list[dict[str, Any]]:
    """A prompt as messages. Raises TypeError."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": sendable(prompt)}]
    if isinstance(prompt, list) and prompt and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in prompt):
        if all(m.get("role") in ("system", "user", "assistant") for m in prompt):
            return [{"role": m["role"], "content": sendable(m["content"])} for m in prompt]
    raise TypeError(f"a prompt is a text or a list of messages with role and text, not {prompt!r:.80}")
