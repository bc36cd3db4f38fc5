"""What an answer is after its edits: as text for backends that take messages, as token ids for those that take ids.

Reads a call and its edits; writes nothing and asks no model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .. import dialects
from ..calls import Call
from ..dialects import Choice, ToolCall
from ..errors import InvalidInput
from ..lineage.bodies import pieces_of
from ..lineage.edits import Hole, Response, applied
from ..types import Edit, Kept, Literal
from .template import Template

#: A change of a text: [start, stop) and what stands in its place.
_Change = tuple[int, int, str]


#: Finds another call by its id.
Known = Callable[[str], Call | None]


def _unknown(id: str) -> Call | None:
    return None


class Revised(msgspec.Struct, frozen=True):
    """An answer after edits. None: as it was generated."""

    text: str | None = None
    reasoning: str | None = None
    #: With token ids and a template.
    ids: list[int] | None = None


def revised(call: Call, edits: list[Edit], template: Template | None, *, in_ids: bool, known: Known = _unknown) -> Revised:
    """The first answer of a call after edits. `in_ids`: the backend takes token ids. `known`: other calls, which an edit may
    keep tokens of. Raises InvalidInput for an edit that can't take effect on what the model is sent."""
    choice = next(iter(call.choices), None)
    edits = [e for e in edits if not e.rejected and choice is not None and e.choice == choice.index]
    if not edits or choice is None:
        return Revised()
    if in_ids:
        return Revised(ids=_ids(call, choice, edits, template, known))
    if all(e.unit == "char" for e in edits):
        found = {c: [e for e in edits if e.channel == c] for c in ("content", "reasoning")}
        bases = {"content": choice.text, "reasoning": choice.reasoning or ""}
        made = {c: _edited(bases[c], of) for c, of in found.items() if of}
        return Revised(made.get("content"), made.get("reasoning"))
    return Revised(text=_text(call, choice, edits, template))


def _pieces(call: Call, choice: Choice, edits: list[Edit], template: Template | None, known: Known) -> Any:
    if choice.token_ids is None:
        raise InvalidInput("the edit counts tokens, and the backend gave no token ids of the answer; give on='text'")
    texts = {"content": choice.text} | ({"reasoning": choice.reasoning} if choice.reasoning else {})
    pieces = pieces_of(call, choice.index)
    response = Response((call.id, choice.index), choice.token_ids, texts, pieces)

    def ids_of(other: str, number: int) -> list[int] | None:
        found = known(other)
        return None if found is None else next((c.token_ids for c in found.choices if c.index == number), None)

    made, problems = applied(edits, response, ids_of, template.by if template is not None else None)
    if problems:
        raise InvalidInput(f"the edit does not change the next prompt: {next(iter(problems.values()))}")
    return made, pieces


def _ids(call: Call, choice: Choice, edits: list[Edit], template: Template | None, known: Known) -> list[int]:
    made, _ = _pieces(call, choice, edits, template, known)
    ids: list[int] = []
    for piece in made:
        ids += (template.encode(piece.text) if template is not None else []) if isinstance(piece, Hole) else piece.ids
    return ids


def _text(call: Call, choice: Choice, edits: list[Edit], template: Template | None) -> str:
    """The content after edits of tokens: by the texts of the tokens, where the backend gave them, else by the tokenizer."""
    made, pieces = _pieces(call, choice, edits, template, _unknown)
    texts = {tuple(r.ids): r.text for e in edits for r in e.result if isinstance(r, Literal) and r.ids and r.text}
    ids = choice.token_ids or []
    if pieces is None and template is not None and not any(isinstance(p, Hole) for p in made):
        return _content(template.decode(ids), choice, template.decode([i for p in made for i in p.ids]))
    out = ""
    for piece in made:
        if isinstance(piece, Hole):
            out += piece.text
        elif piece.source == "sampled" and pieces is not None:
            out += "".join(pieces[piece.start : piece.start + len(piece.ids)])
        elif tuple(piece.ids) in texts:
            out += texts[tuple(piece.ids)] or ""
        elif template is not None:
            out += template.decode(piece.ids)
        else:
            raise InvalidInput(
                "the model is sent text, and the edit puts in token ids of unknown text; give Literal(ids, text), the agent a"
                " tokenizer=, or an edit of text (on='text')"
            )
    return _content("".join(pieces) if pieces is not None else template.decode(ids) if template else "", choice, out)


def _content(before: str, choice: Choice, after: str) -> str:
    """The content of an answer whose whole text was changed; marks, thoughts and tool calls stand around the content."""
    at = before.find(choice.text) if choice.text else -1
    head, tail = (before[:at], before[at + len(choice.text) :]) if at >= 0 else ("", "")
    if not choice.tool_calls and at >= 0 and after.startswith(head):
        return after[len(head) :].removesuffix(tail)
    if at < 0 or not (after.startswith(head) and after.endswith(tail) and len(after) >= len(head) + len(tail)):
        raise InvalidInput(
            "the edit changes tokens outside of the answer's text; tool calls are changed by on_tool, and a backend that takes"
            " token ids (dialect openai.completions, with tokenizer=) takes any edit"
        )
    return after[len(head) : len(after) - len(tail)]


def _edited(base: str, edits: list[Edit]) -> str:
    """A text after edits, which all count positions of what was generated."""
    changes: list[_Change] = []
    for edit in edits:
        found = _changes(base, edit)
        if found is None or any(_touch(a, b) for a in found for b in changes):
            if len(edits) == 1:
                return "".join(_part(base, run) for run in edit.result)
            raise InvalidInput("the edit overlaps an earlier edit of the same answer")
        changes += found
    out, at = "", 0
    for start, stop, new in sorted(changes):
        out, at = out + base[at:start] + new, stop
    return out + base[at:]


def _changes(base: str, edit: Edit) -> list[_Change] | None:
    """An edit as changes of separate places; None where it moves text."""
    out: list[_Change] = []
    at, new = 0, ""
    for run in [*edit.result, Kept(len(base), len(base))]:
        if not isinstance(run, Kept):
            new += _part(base, run)
            continue
        if run.call is not None or run.choice is not None:
            raise InvalidInput("an edit that keeps text of another answer can't take effect while the agent runs")
        if run.start < at:
            return None
        if new != base[at : run.start]:
            out.append((at, run.start, new))
        at, new = run.stop, ""
    return out


def _part(base: str, run: Kept | Literal) -> str:
    if isinstance(run, Kept):
        return base[run.start : run.stop]
    if run.text is None and run.ids:
        raise InvalidInput("the model is sent text, and the edit puts in token ids of unknown text; give the text")
    return run.text or ""


def _touch(a: _Change, b: _Change) -> bool:
    if a[0] == a[1] or b[0] == b[1]:
        return a[0] < b[1] and b[0] < a[1]
    return max(a[0], b[0]) < min(a[1], b[1])


def reworded(dialect: str, response: Any, made: Revised, calls: dict[int, ToolCall]) -> Any:
    """A response's body with the revised answer in it."""
    return dialects.get(dialect).reworded(response, made.text, made.reasoning, calls)
