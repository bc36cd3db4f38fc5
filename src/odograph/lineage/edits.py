"""Declared edits of one response -> what stands in its place, as segments. Knows nothing of prompts and views."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..codec import content_hash
from ..types import Edit, Kept, Literal
from .texts import Offsets, Tokenizer, offsets_of
from .view import Segment

Of = tuple[str, int]
#: The ids of a choice of a call; None where they are not known.
IdsOf = Callable[[str, int], list[int] | None]


class Hole(msgspec.Struct, frozen=True):
    """Text that an edit put in, of which no ids are known yet: the next prompt has them."""

    text: str
    edit: str


Pieces = list[Segment | Hole]


class Response(msgspec.Struct, frozen=True):
    """One response as edits find it. `texts` are those of its channels; `pieces` the text of each token, where known."""

    of: Of
    ids: list[int]
    texts: dict[str, str]
    pieces: list[str] | None = None


class Written(msgspec.Struct, frozen=True):
    """Text that stands where whole tokens don't: `kept` are the [start, stop) of it that the model wrote."""

    text: str
    kept: list[tuple[int, int]]


Run = Kept | Literal | Written


class Unusable(Exception):
    """Why an edit changes nothing."""


def applied(edits: list[Edit], response: Response, ids_of: IdsOf, by: Tokenizer | None) -> tuple[Pieces, dict[str, str]]:
    """What stands in place of a response after its edits, and for each edit that could not be used, why.

    All edits of one response count positions of what was generated. Those that change different places go together; one that
    overlaps an earlier one changes nothing.
    """
    problems: dict[str, str] = {}
    changes: list[_Change] = []
    whole: Pieces | None = None
    first: str | None = None
    for edit in edits:
        try:
            _same_base(edit, response)
            runs = _in_tokens(edit, response, by)
            made = _pieces(edit, runs, response, ids_of, by)
            found = _changes(edit, runs, response, ids_of, by)
        except Unusable as why:
            problems[edit.id] = str(why)
            continue
        if found == []:  # it changes no id
            continue
        if found is None and (whole is not None or changes):
            problems[edit.id] = f"it overlaps edit {first} of the same response"
        elif found is None:
            whole, first = made, edit.id
        elif whole is not None or any(a.touches(b) for a in found for b in changes):
            problems[edit.id] = f"it overlaps edit {first} of the same response"
        else:
            changes += found
            first = first or edit.id
    if whole is not None:
        return whole, problems
    out: Pieces = []
    at = 0
    for change in sorted(changes, key=lambda c: (c.start, c.stop)):
        out.append(_kept(response, at, change.start))
        out += change.pieces
        at = change.stop
    out.append(_kept(response, at, len(response.ids)))
    return [p for p in out if isinstance(p, Hole) or p.ids], problems


def edited_text(edits: list[Edit], text: str) -> str | None:
    """A response's text as edits of it leave it, by the rules of `applied`. None where an edit is of tokens or of another
    channel, or none can be used."""
    usable = []
    for edit in edits:
        if edit.unit != "char" or edit.channel != "content":
            return None
        if edit.base_hash in (None, content_hash(text)) and all(isinstance(r, Kept) or r.text is not None for r in edit.result):
            runs: list[Kept | Literal] = [r if isinstance(r, Kept) else Literal(text=r.text) for r in edit.result]
            usable.append(msgspec.structs.replace(edit, unit="token", base_hash=None, result=runs))
    response = Response((edits[0].base, edits[0].choice), [ord(c) for c in text], {})
    made, problems = applied(usable, response, lambda *_: None, None)
    if len(problems) == len(usable):
        return None
    return "".join(p.text if isinstance(p, Hole) else "".join(map(chr, p.ids)) for p in made)


def _same_base(edit: Edit, response: Response) -> None:
    base: list[int] | str | None = response.ids if edit.unit == "token" else response.texts.get(edit.channel)
    if base is None:
        raise Unusable(f"it changes text of {edit.channel!r}; the texts with tokens are: {', '.join(response.texts)}")
    if edit.base_hash is not None and edit.base_hash != content_hash(base):
        raise Unusable(f"its base hash {edit.base_hash} is not that of what was generated")


def untouched(response: Response) -> Segment:
    """The response as it was generated."""
    return _kept(response, 0, len(response.ids))


def _kept(response: Response, start: int, stop: int) -> Segment:
    call, choice = response.of
    return Segment("sampled", response.ids[start:stop], call, choice, start, response.of)


class _Change(msgspec.Struct, frozen=True):
    """Tokens [start, stop) of a response, and what stands in their place."""

    start: int
    stop: int
    pieces: Pieces

    def touches(self, other: _Change) -> bool:
        return self.start < other.stop and other.start < self.stop


def _changes(edit: Edit, runs: list[Run], response: Response, ids_of: IdsOf, by: Tokenizer | None) -> list[_Change] | None:
    """An edit as changes of separate places; None where it moves or takes in what is not there in this order."""
    out: list[_Change] = []
    at = 0
    new: list[Run] = []
    for run in [*runs, Kept(len(response.ids), len(response.ids))]:
        if not (isinstance(run, Kept) and run.call in (None, response.of[0]) and run.choice in (None, response.of[1])):
            new.append(run)
            continue
        if run.start < at:
            return None
        pieces = _pieces(edit, new, response, ids_of, by)
        ids = [i for p in pieces for i in (p.ids if isinstance(p, Segment) else [-1])]
        if ids != response.ids[at : run.start]:
            out.append(_Change(at, run.start, pieces))
        at, new = run.stop, []
    return out


def _pieces(edit: Edit, runs: list[Run], response: Response, ids_of: IdsOf, by: Tokenizer | None) -> Pieces:
    out: Pieces = []
    for run in runs:
        if isinstance(run, Kept):
            call, choice = run.call or response.of[0], response.of[1] if run.choice is None else run.choice
            ids = response.ids if (call, choice) == response.of else ids_of(call, choice)
            if ids is None:
                raise Unusable(f"it keeps tokens of choice {choice} of call {call}, whose ids are not recorded")
            if not 0 <= run.start <= run.stop <= len(ids):
                raise Unusable(f"it keeps [{run.start}, {run.stop}) of a response of {len(ids)} tokens")
            out.append(Segment("sampled", ids[run.start : run.stop], call, choice, run.start, response.of, edit.id))
        elif isinstance(run, Literal) and run.ids is not None:
            out.append(Segment("inserted", list(run.ids), response=response.of, edit=edit.id))
        elif run.text:
            if by is not None:
                out += _encoded(run if isinstance(run, Written) else Written(run.text, []), edit, response, by)
            else:
                out.append(Hole(run.text, edit.id))
    return out


def _encoded(run: Written, edit: Edit, response: Response, by: Tokenizer) -> Pieces:
    """Text as tokens: those that hold some of what the model wrote are `retokenized`."""
    if not run.kept:
        return [Segment("inserted", by.encode(run.text), response=response.of, edit=edit.id)]
    out: Pieces = []
    for id, (start, stop) in zip(*by.offsets(run.text), strict=True):
        ours = any(max(start, a) < min(stop, b) for a, b in run.kept)
        out.append(Segment("retokenized" if ours else "inserted", [id], response=response.of, edit=edit.id))
    return out


def _in_tokens(edit: Edit, response: Response, by: Tokenizer | None) -> list[Run]:
    """An edit's runs as runs of tokens. Of a text edit, tokens that are wholly inside of kept text stay; what is kept of others
    is written anew, with what was put beside it."""
    if edit.unit == "token":
        return list(edit.result)
    if any(isinstance(run, Kept) and (run.call is not None or run.choice is not None) for run in edit.result):
        raise Unusable("it keeps text of another response")
    of = response.texts[edit.channel]
    start, offsets = _placed(response, edit.channel, by)
    out: list[Run] = [Kept(0, start)]
    text, kept = "", []

    def write(more: str, ours: bool) -> None:
        nonlocal text
        if ours and more:
            kept.append((len(text), len(text) + len(more)))
        text += more

    def flush() -> None:
        nonlocal text, kept
        if text:
            out.append(Written(text, kept))
        text, kept = "", []

    for run in edit.result:
        if isinstance(run, Literal):
            put = run.text
            if put is None:
                if by is None:
                    raise Unusable("it puts token ids into text, and no tokenizer says what they say")
                put = by.decode(run.ids or [])
            write(put, False)
            continue
        if not 0 <= run.start <= run.stop <= len(of):
            raise Unusable(f"it keeps [{run.start}, {run.stop}) of a text of {len(of)} characters")
        inside = [
            n for n, (a, b) in enumerate(offsets) if a >= run.start and b <= run.stop and (b > a or run.start < a < run.stop)
        ]
        if not inside:
            write(of[run.start : run.stop], True)
            continue
        first, last = inside[0], inside[-1] + 1
        write(of[run.start : offsets[first][0]], True)
        flush()
        out.append(Kept(start + first, start + last))
        write(of[offsets[last - 1][1] : run.stop], True)
    flush()
    out.append(Kept(start + len(offsets), len(response.ids)))
    return out


def _placed(response: Response, channel: str, by: Tokenizer | None) -> tuple[int, Offsets]:
    """Where a channel's text stands among the tokens (the other one and marks may stand around it), and the offsets of those
    tokens in it."""
    text, before = response.texts[channel], response.texts.get("reasoning", "")
    pieces = response.pieces if response.pieces is not None and len(response.pieces) == len(response.ids) else None
    whole = "".join(pieces) if pieces is not None else ""
    if text not in whole:  # parts of characters have no text of their own; some servers say `token_id:7`
        if by is None:
            raise Unusable("it changes text, and no tokenizer says where its tokens stand")
        pieces, whole = None, by.decode(response.ids)
    offsets = offsets_of(response.ids, whole, by, pieces) or []
    after = whole.find(before) + len(before) if channel != "reasoning" and before and before in whole else 0
    at = whole.find(text, after) if text else -1
    end = at + len(text)
    inside = [n for n, (a, b) in enumerate(offsets) if at >= 0 and a < end and b > at]
    if not inside:
        raise Unusable("the text that it changes is not what its tokens say")
    first, last = inside[0], inside[-1] + 1
    return first, [(max(0, a - at), min(len(text), b - at)) for a, b in offsets[first:last]]
