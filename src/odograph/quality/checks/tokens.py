"""Checks of token ids: their lengths and values, what they say as text, and how each prompt stands to the calls before it."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import commonprefix
from typing import Any

from ...calls import Call
from ...codec import is_tagged
from ...dialects import Choice
from ...lineage.bodies import pieces_of
from ...lineage.sampling import not_computable, temperature, truncation
from ...prefix import Prefix, shared_prefix
from ...types import Edit
from ..define import Found, check
from ..look import Look

_RL = ("rl",)


def _with_ids(look: Look) -> Iterator[tuple[str, Call, int, list[Any] | None, list[Any] | None]]:
    """(path, call, choice, ids, logprobs) of every answer that has either."""
    for path, call in look.calls:
        for choice in call.choices:
            if choice.token_ids is not None or choice.logprobs is not None:
                yield path, call, choice.index, choice.token_ids, choice.logprobs


@check("token_length", "error", "ids and logprobs of different lengths", _RL)
def token_length(look: Look) -> Found:
    for path, _, choice, ids, logprobs in _with_ids(look):
        if ids is not None and logprobs is not None and len(ids) != len(logprobs):
            yield path, f"choice {choice} has {len(ids)} token ids and {len(logprobs)} logprobs"


@check("token_value", "error", "a token id outside the vocabulary, a logprob above 0 or NaN", _RL)
def token_value(look: Look) -> Found:
    known = look.tokenizer.size if look.tokenizer is not None else None
    size = 1 << 31 if known is None else known  # no row holds a larger id
    good: list[Any] | Prefix = []  # the prompt before, of which nothing was wrong: a history that is sent again is looked at once
    for path, call, choice, ids, logprobs in _with_ids(look):
        prompt = call.prompt_ids if choice == 0 else None
        same = shared_prefix(good, prompt) if prompt else 0
        for what, at, found in ((f"choice {choice}", 0, ids), ("the prompt", same, prompt[same:] if prompt else None)):
            if not found or (set(map(type, found)) == {int} and min(found) >= 0 and max(found) < size):
                good = prompt if prompt else good
                continue
            good = []
            for n, id in enumerate(found, at):
                if type(id) is not int or id < 0 or id >= size:
                    limit = f" below {size}" if known is not None else ""
                    yield path, f"token {n} of {what} is {id!r}; a whole number from 0{limit} was expected"
                    break
        for n, value in enumerate(logprobs or []):
            if value is not None and (type(value) not in (int, float) or value > 1e-6):
                told = value.get("value") if is_tagged(value) else value
                yield path, f"logprob {n} of choice {choice} is {told!r}; a number of at most 0 was expected"
                break


_MISSING = "fewer recorded ids than completion tokens, or ids that don't say the tool that was called; an error in rl"


@check("ids_missing", "warning", _MISSING, _RL, errors_in=("rl",))
def ids_missing(look: Look) -> Found:
    for path, call in look.calls:
        counts = [len(c.token_ids) for c in call.choices if c.token_ids is not None]
        if counts and call.completion_tokens is not None and sum(counts) < call.completion_tokens:
            yield path, f"{sum(counts)} token ids of {call.completion_tokens} completion tokens"
            continue
        for choice in call.choices:  # a parser that holds text back takes its ids with it; every template writes a tool's name
            said = _said(look, call, choice) if choice.tool_calls else None
            for asked in choice.tool_calls if said is not None else ():
                name = asked.name
                if isinstance(name, str) and said is not None and name not in said:
                    yield (
                        path,
                        f"choice {choice.index} calls {name!r}, which its {len(choice.token_ids or [])} token ids don't say",
                    )
                    break


def _close(text: str) -> str:
    """A text without its white space, which the texts of single tokens may lack."""
    return "".join(text.split())


def _said(look: Look, call: Call, choice: Choice) -> str | None:
    """What the ids of an answer say as text; None where that is not known."""
    ids = choice.token_ids
    if ids is None:
        return None
    if look.tokenizer is not None and all(type(i) is int for i in ids):
        return look.tokenizer.decode(ids)
    pieces = pieces_of(call, choice.index)
    return "".join(pieces) if pieces is not None and len(pieces) == len(ids) else None


@check(
    "sampling",
    "warning",
    "logprobs that a trainer can't compute again: raw at a temperature, or after top-p or a penalty; sampled tokens without one",
    _RL,
)
def sampling(look: Look) -> Found:
    for path, call in look.calls:
        if not any(choice.logprobs for choice in call.choices):
            continue
        for choice in call.choices:
            if gone := sum(logprob is None for logprob in choice.logprobs or ()):
                few = f"choice {choice.index} has no logprob for {gone} of {len(choice.logprobs or ())} sampled tokens"
                yield path, f"{few}: formats that train on recorded logprobs refuse the row"
        why = not_computable(call)
        heat = temperature(call)
        warm = [f"temperature {heat:g}"] if call.logprobs_of == "unknown" and heat not in (None, 1.0) else []
        if why is None and (cut := [*warm, *truncation(call)]):
            whose = (
                "raw logprobs of tokens" if call.logprobs_of == "raw" else "logprobs of which it is not known whether they are"
            )
            why = f"{whose} after {' and '.join(cut)}"
        if why is not None:
            yield path, f"{why}: the model's own distribution is another"


@check("decode_mismatch", "error", "ids that say another text than the answer", _RL)
def decode_mismatch(look: Look) -> Found:
    for path, call in look.calls:
        for choice in call.choices:
            said = _said(look, call, choice) if choice.text else None
            if said is None:
                continue
            if _close(choice.text) not in _close(said):  # reasoning and marks may stand around it
                from ...secrets import secrets_in

                at = len(commonprefix([said, choice.text]))  # noqa: RUF071
                there, wanted = said[at : at + 40], choice.text[at : at + 40]
                quoted = f": the ids say {there!r} where the answer says {wanted!r}"
                if secrets_in(said) or secrets_in(choice.text):  # a piece of one would not be known as one
                    quoted = f": the ids say something else from character {at} on"
                yield path, f"choice {choice.index}{quoted}"


@check("mask_scope", "error", "sampled tokens that begin with the prompt, or token ids of which none was sampled", _RL)
def mask_scope(look: Look) -> Found:
    counts: list[int] = []
    for path, call, choice, ids, _ in _with_ids(look):
        prompt = call.prompt_ids
        if ids is not None:
            counts.append(len(ids))
        if ids and prompt and ids[: len(prompt)] == prompt and len(prompt) > 1:
            yield path, f"choice {choice} begins with the {len(prompt)} tokens of its prompt: they would be trained"
    if counts and not any(counts):
        yield "llm_calls", f"{len(counts)} answers with token ids and not one token to train"


@check("prefix_break", "warning", "a prompt that does not extend the call before, and no edit says why", _RL)
def prefix_break(look: Look) -> Found:
    for chain in look.chains:
        for node in chain.nodes:
            if node.kind not in ("start", "extends", "declared") or (node.kind == "declared" and (node.deleted or node.inserted)):
                changed = f": {node.deleted} tokens gone, {node.inserted} put in" if node.deleted or node.inserted else ""
                yield look.path_of.get(node.id, "llm_calls"), f"{node.kind}{changed}"


@check("stale_tokens", "warning", "sampled tokens that an edit made off-policy", _RL)
def stale_tokens(look: Look) -> Found:
    edits = {r.id: p for p, r in look.placed if isinstance(r, Edit)}
    for chain in look.chains:
        last = chain.nodes[-1] if chain.nodes else None
        at = stale = 0
        for segment in chain.last.segments:
            if segment.source == "sampled" and last is not None:
                if chain.standing(segment, at, chain.last, last.call.adapter, last.inputs) == "stale":
                    stale += len(segment.ids)
            at += len(segment.ids)
        made = [e for node in chain.nodes for e in node.edits] + chain.last_edits
        if stale and made:
            where = ", ".join(edits.get(e, e) for e in made[:5])
            yield edits.get(made[0], "llm_calls"), f"{stale} sampled tokens are not what they were sampled as, after {where}"
