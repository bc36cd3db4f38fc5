"""Checks of what must not be in the data: secrets, what the model could not have known, and text that no model wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...calls import Call
from ...codec import is_tagged
from ...types import Action, Context, Note
from ..define import Found, check
from ..look import Look

_TEXTS = ("sft", "rl")
_NUMBERS = frozenset((int, float, bool, type(None)))
_SKIPPED = frozenset(
    ("id", "trajectory", "parent", "supersedes", "target", "base", "llm_call", "writer", "request", "events", "packed")
)


def _texts(where: str, value: Any) -> Iterator[tuple[str, str, str]]:
    """(path, the field's name, text) of all texts in a value; a name that is no plain word is content, and stands for itself."""
    stack: list[tuple[str, str, Any]] = [(where, "", value)]
    while stack:
        path, name, inner = stack.pop()
        if isinstance(inner, str):
            yield path, name, inner
        elif isinstance(inner, dict):
            for key, one in inner.items():
                plain = isinstance(key, str) and len(key) < 32 and key.isidentifier()
                at = f"{path}.{key}" if plain else f"{path}[...]"
                if not plain and isinstance(key, str):
                    yield at, "", key
                if isinstance(one, (str, dict, list)):
                    stack.append((at, key if isinstance(key, str) else "", one))
        elif isinstance(inner, list) and not (len(inner) > 64 and _NUMBERS.issuperset(map(type, inner))):  # token ids, logprobs
            stack += [(f"{path}[{i}]", name, one) for i, one in enumerate(inner) if isinstance(one, (str, dict, list))]


def _all_texts(look: Look) -> Iterator[tuple[str, str, str]]:
    """All texts of a trajectory, each message once."""
    for path, record in look.placed:
        for field in record.__struct_fields__:
            value = getattr(record, field)
            if field not in _SKIPPED and isinstance(value, (str, dict, list)) and value:
                yield from _texts(f"{path}.{field}", value)
    tools: set[int] = set()
    for path, call, new, _ in look.new_messages:
        yield from _texts(f"{path}.request.messages", new)
        yield from _texts(f"{path}.request", call.params)
        if id(call.tools) not in tools:
            tools.add(id(call.tools))
            yield from _texts(f"{path}.request.tools", call.tools)


@check("secret", "error", "an API key, a token, a private key; a warning where only a name and randomness say so", _TEXTS)
def secret(look: Look) -> Found:
    from ...secrets import is_named_secret, secrets_in

    seen: set[str] = set()  # a history is resent: each secret is told once, where it stands first
    for path, name, text in _all_texts(look):
        if name and is_named_secret(name, text):
            if text not in seen:
                seen.add(text)
                yield path, "a named_secret: a random-looking value in a field of that name", "warning"
            continue
        for found in secrets_in(text):
            value = text[found.start : found.stop]
            if value not in seen:
                seen.add(value)
                if found.certain:
                    yield path, f"a secret of kind {found.kind}"
                else:
                    yield path, f"a {found.kind}: a random-looking value beside such a name", "warning"


#: Fields of a task or its metadata that say what the agent is to find out, or what came of it.
_HIDDEN = re.compile(
    r"(?:ground|gold)(?:en)?_?(?:truth|answers?|labels?|patch|standard)?|(?:expected|reference|correct|true|canonical|hidden)"
    r"(?:_?(?:answers?|outputs?|results?|solutions?|values?|labels?|options?|outcome))?|answer_?key|solutions?|outcomes?|oracle|"
    r"(?:realized|realised|final|future)_?(?:pnl|profit|outcome|price|return|result)|test_patch|hidden_.*",
    re.IGNORECASE,
)
_EARNED = re.compile(r"(?:total_?)?(?:rewards?|scores?|pnl|profit|outcome)", re.IGNORECASE)
_LONG = 12  # characters: what is shorter stands in a prompt by chance
_MOST = 200


def _distinct(value: Any) -> str | None:
    """A value as it would stand in a prompt, where that can't be chance."""
    if isinstance(value, str):
        text = value.strip()
        return text if len(text) >= _LONG else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = repr(value)
        return text if len(text.strip("-0").replace(".", "")) >= 5 else None
    return None


def _hidden(where: str, value: Any, hidden: bool, depth: int = 0) -> Iterator[tuple[str, str, bool]]:
    """(path, text, whether it is hidden) of what a task says."""
    if depth > 6 or is_tagged(value):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _hidden(f"{where}.{key}", inner, hidden or _HIDDEN.fullmatch(key) is not None, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _hidden(where, inner, hidden, depth + 1)
    elif (text := _distinct(value)) is not None:
        yield where, text, hidden


def _stands(text: str, value: str) -> bool:
    if value not in text:
        return False
    if not value[-1].isdigit():
        return True
    return re.search(rf"(?<![\d.]){re.escape(value)}(?!\.?\d)", text) is not None


@check("hindsight_leak", "error", "a hidden or later field (outcome, ground truth, reward) that appears in a prompt", _TEXTS)
def hindsight_leak(look: Look) -> Found:
    t = look.t
    told = [*_hidden("start.task", t.task, False), *_hidden("start.metadata", t.metadata, False)]
    for path, record in look.placed:
        if isinstance(record, Note) and record.name is not None and _HIDDEN.fullmatch(record.name):
            told += _hidden(f"{path}.data", record.data, True)
    visible = "\n".join(text for _, text, hidden in told if not hidden)
    secret = {text: path for path, text, hidden in told if hidden and not _stands(visible, text)}
    metrics = t.end.metrics if t.end else {}
    later = [(f"end.metrics.{k}", v, t.end.time) for k, v in metrics.items() if t.end and _EARNED.fullmatch(k)]
    later += [(look.path_of.get(r.id, "rewards"), r.value, r.time) for r in t.all_rewards]
    earned = [(path, text, when) for path, value, when in later if (text := _distinct(value)) is not None and text not in visible]
    open_ = dict(list(secret.items())[:_MOST])
    if not open_ and not earned:
        return
    found = [
        (record.time, text)
        for _, record in look.placed
        if isinstance(record, (Context, Action))
        for _, text, hidden in _hidden("", record.data if isinstance(record, Context) else record.result, False)
        if not hidden
    ]
    at = 0
    for path, call, new, _ in look.new_messages:
        if call.purpose != "act":  # a judge may know
            continue
        while at < len(found) and found[at][0] <= call.time:  # what it had read, or got, is in its prompts for good reason
            for value in [value for value in open_ if _stands(found[at][1], value)]:
                del open_[value]
            at += 1
        said: list[str] = [call.text]
        for message in new:
            texts = [text for _, _, text in _texts("", message.get("content"))]
            if message.get("role") not in ("system", "developer", "user"):
                said += texts
                continue
            for text in texts:
                for value, field in list(open_.items()):
                    if _stands(text, value):
                        del open_[value]
                        yield f"{path}.request.messages", f"the prompt tells what {field} says"
                for field, value, when in earned[:_MOST]:
                    if call.time < when and _stands(text, value):
                        yield f"{path}.request.messages", f"the prompt tells {field}, which came later"
        for value in list(open_):  # what the agent found out by itself may come back to it
            if any(_stands(text, value) for text in said):
                del open_[value]


_TRAINED = ("weight", "trainable", "train", "loss")


@check("synthetic_text", "error", "assistant text that no model generated, marked as trainable", _TEXTS)
def synthetic_text(look: Look) -> Found:
    generated: set[str] = set()
    for path, call, new, _ in look.new_messages:
        for message in new:
            if message.get("role") != "assistant" or not any(message.get(k) is True or message.get(k) == 1 for k in _TRAINED):
                continue
            text = "".join(text for _, name, text in _texts("", message.get("content")) if name in ("", "text"))
            if text and text not in generated:
                yield f"{path}.request.messages", "an assistant message that no call answered with is marked to be trained on"
        generated |= {choice.text for choice in call.choices}
        if call.purpose == "act" and call.choices and _made_up(call):
            yield f"{path}.response", "an answer of no model counts as the policy's: give the call a purpose other than act"


def _made_up(call: Call) -> bool:
    """Whether a call says of itself that no model answered (a framework's own notices are recorded as answers, too)."""
    model = call.model or ""
    extra = call.extra or {}
    return (model.startswith("<") and model.endswith(">")) or extra.get("synthetic") is True or extra.get("generated") is False
