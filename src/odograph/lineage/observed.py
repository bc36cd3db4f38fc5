"""What was changed between a view and the prompt that came after it, where nobody declared it: told from the messages, else from
the ids. Knows two calls; no lineage.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args
from typing import Literal as OneOf

from ..calls import Call, rests
from ..dialects import Choice
from ..dialects.content import text_of
from ..prefix import shared_prefix
from .texts import Tokenizer
from .view import Aligned, Ids, View

#: How a prompt stands to what was predicted. `declared`: as an edit says; `contradicted`: the edit was undone on the way.
Kind = OneOf[
    "start",
    "extends",
    "declared",
    "contradicted",
    "template",
    "reasoning",
    "retokenization",
    "truncation",
    "summary",
    "rewrite",
    "adapter",
]
#: The classes of edits that a policy can be given for.
CLASSES: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in ("start", "extends"))


def kind_of(
    before: Call, answered: Choice, now: Call, prompt: Ids, found: Aligned, by: Tokenizer | None, view: View, edited: bool
) -> Kind:
    """The class of a change that nobody declared, told from the messages where there are any, else from the ids alone. Beside
    edits that were declared it is what else was changed; `declared` where that may be no more than other tokens for them."""
    if before.last_message is not None and now.last_message is not None:
        sent, after = rests(before, now)
        answer = {"role": "assistant", **answered.message}
        if edited and len(after) > len(sent):
            answer = after[len(sent)]
        old, new = [_norm(m) for m in [*sent, answer]], [_norm(m) for m in after]
        if new[: len(old)] != old:
            return _messages_changed(old, new)
        if _reasoning_gone([*sent, answer], after):
            return "reasoning"
        return "declared" if edited else _same_text(found, by, view, prompt)
    if by is not None and found.inserted and _same_text(found, by, view, prompt) == "retokenization":
        return "declared" if edited else "retokenization"
    return "rewrite" if found.inserted or not found.runs else "truncation"


def _same_text(found: Aligned, by: Tokenizer | None, view: View, prompt: Ids) -> Kind:
    """The messages are the same, and yet the tokens are not: other tokens for the same text, or another template."""
    if by is None:  # what no model sampled is written by the template alone
        return "retokenization" if found.deleted and found.inserted and view.source_at(found.shared) == "sampled" else "template"
    old, new = by.decode(view.ids[found.shared :]), by.decode(prompt[found.shared :])
    return "retokenization" if found.deleted and old and new.startswith(old) else "template"


def _norm(message: dict[str, Any]) -> tuple[Any, ...]:
    """A message as far as it counts: role, text, tool calls."""
    calls = message.get("tool_calls")
    asked: list[Any] = []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            asked.append((function.get("name"), str(function.get("arguments"))))
    content = message.get("content")
    text = text_of(content) if isinstance(content, (str, list)) else "" if content is None else str(content)
    return message.get("role"), text, tuple(asked), message.get("tool_call_id")


def _reasoning_gone(old: Iterable[dict[str, Any]], new: list[dict[str, Any]]) -> bool:
    """Whether an answer's reasoning was there and is not sent back."""

    def has(message: dict[str, Any]) -> bool:
        return bool(message.get("reasoning_content") or message.get("reasoning"))

    return any(has(a) and not has(b) for a, b in zip(old, new, strict=False))


def _messages_changed(old: list[tuple[Any, ...]], new: list[tuple[Any, ...]]) -> Kind:
    """Messages were taken out (truncation), put in the place of others (summary), or changed (rewrite)."""
    start = shared_prefix(old, new)
    rest_old, rest_new = old[start:], new[start:]
    cursor = 0
    gone: list[tuple[Any, ...]] = []
    put: list[tuple[Any, ...]] = []
    for message in rest_old:
        at = next((n for n in range(cursor, len(rest_new)) if rest_new[n] == message), None)
        if at is None:
            gone.append(message)
            continue
        put += rest_new[cursor:at]
        cursor = at + 1
    if len(gone) == len(rest_old):  # nothing of it is left to stand before: what is new begins with as many as are gone, at most
        put = rest_new[: len(gone)] if gone else []
    if not gone:
        return "rewrite"
    if not put:
        return "truncation"
    if len(gone) == 1 and put and put[0][0] == gone[0][0]:
        a, b = str(gone[0][1]), str(put[0][1])
        return "truncation" if b and b != a and (a.startswith(b) or a.endswith(b)) and put[0][2] == gone[0][2] else "rewrite"
    pairs = list(zip(gone, put, strict=False))
    if len(gone) == len(put) and all(a[0] == b[0] for a, b in pairs):
        return "rewrite"
    return "summary"
