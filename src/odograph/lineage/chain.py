"""The calls of one policy in order, each prompt reconciled with what the calls and edits before it predict.

No published source; the rule for `exact` and the classes of edits are in docs/edits.md. Reads a trajectory; knows no
trainer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args
from typing import Literal as OneOf

import msgspec

from ..dialects import Choice
from ..dialects.content import text_of
from ..packing import shared_prefix
from ..trajectory import Call, Trajectory
from ..types import Edit
from .edits import Hole, Of, Pieces, Response, applied, untouched
from .texts import Tokenizer
from .view import Aligned, Segment, Source, Standing, View, align, extends

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
_SOURCES: dict[Kind, Source] = {
    "template": "template",
    "reasoning": "template",
    "retokenization": "retokenized",
    "summary": "summary",
}


class Node(msgspec.Struct):
    """One call in its place: the view that it was sampled under, and how that came to be."""

    call: Call
    prompt: list[int]
    #: Of each choice, by its index; those without ids are left out.
    responses: dict[int, list[int]]
    choices: dict[int, Choice]
    view: View
    kind: Kind
    #: The choice that was continued; None: none was.
    continued: int | None = None
    deleted: int = 0
    inserted: int = 0
    #: Ids of edits that took effect before this call.
    edits: list[str] = []

    @property
    def id(self) -> str:
        return self.call.id


class Chain:
    """The lineage of one policy in a trajectory: its nodes, and the last view, with edits that no call came after."""

    def __init__(self, agent: str | None, model: str | None, by: Tokenizer | None) -> None:
        self.agent = agent
        self.model = model
        self.nodes: list[Node] = []
        self.by_id: dict[str, Node] = {}
        #: Attempts whose question was asked again, and of which nothing came.
        self.discarded: list[Node] = []
        #: Calls that have no place here: (call, why).
        self.left_out: list[tuple[Call, str]] = []
        #: Edits that could not be used: id -> why.
        self.problems: dict[str, str] = {}
        #: The last view as the edits after the last call leave it, and those edits.
        self.last: View = View()
        self.last_edits: list[str] = []
        self._by = by
        self._edits: dict[Of, list[Edit]] = {}
        self._waiting: list[Edit] = []
        #: Edits that were recorded after the call that shows them, by their base; those of them that are settled.
        self._late: dict[str, list[Edit]] = {}
        self._settled: set[str] = set()

    def __repr__(self) -> str:
        return f"<Chain {self.agent or ''} {self.model or ''}: {len(self.nodes)} calls, {len(self.last.ids)} tokens>"

    def standing(self, segment: Segment, at: int, view: View, adapter: str | None, inputs: list[str]) -> Standing:
        """Whether the tokens of a sampled segment at a position of a view are exact there."""
        node = self.by_id.get(segment.call or "")
        if node is None:
            return "unknown"
        if node.call.record.adapter != adapter or inputs[: len(node.call.record.inputs)] != node.call.record.inputs:
            return "stale"
        if segment.exact:
            return "exact"
        if at != len(node.prompt) + segment.start:
            return "stale"
        left = view.ids[:at]
        own = len(node.prompt)
        same = left[:own] == node.prompt and left[own:] == node.responses[segment.choice][: segment.start]
        return "exact" if same else "stale"

    def result(self, edits: list[Edit]) -> list[int] | None:
        """The ids of a response as edits of it leave it: the first that can be used, and those that don't overlap it. None where
        none can be used, or the ids are not known."""
        response = self._response((edits[0].base, edits[0].choice))
        if response is None:
            return None
        made, problems = applied(edits, response, self._ids_of, self._by)
        if len(problems) == len(edits) or any(isinstance(p, Hole) for p in made):
            return None
        return [i for p in made if isinstance(p, Segment) for i in p.ids]

    # --- building -----------------------------------------------------------------------------------------------------------

    def add_edit(self, edit: Edit) -> None:
        """An edit, in the order of the records."""
        if edit.rejected:
            self.problems[edit.id] = f"it was rejected: {edit.rejected}"
        elif edit.id not in self._settled:
            self._waiting.append(edit)

    def add_call(self, call: Call, acted: set[str], edits: Iterable[Edit] = ()) -> None:
        """A call, in the order of the records. `acted`: the calls of which something came: an action, a reward of its step.
        `edits`: all of this call; `add_edit` gets each in its time, but a prompt may show one that was recorded late."""
        self._late[call.id] = [e for e in edits if not e.rejected]
        prompt = call.prompt_token_ids
        choices = {c.index: c for c in call.choices}
        if len(choices) < len(call.choices):  # numbered by a backend that numbers all alike
            choices = dict(enumerate(call.choices))
        responses = {i: c.token_ids for i, c in choices.items() if c.token_ids is not None}
        if call.record.error is not None and not responses:
            self.left_out.append((call, "a call that failed"))
            return
        if not prompt or not responses:
            missing = "prompt" if responses else "response" if prompt else "prompt and response"
            self.left_out.append((call, f"no token ids of the {missing}"))
            return
        given = [*responses.values(), *([] if call.record.prompt_token_ids is not None else [prompt])]
        if not all(map(_are_ids, given)):
            self.left_out.append((call, "token ids that are no whole numbers"))
            return
        node = Node(call, prompt, responses, choices, View(), "start")
        before = self.nodes[-1] if self.nodes else None
        if before is not None and before.id not in acted and _asks_again(before, node):
            self.discarded.append(self.nodes.pop())
            self._settle(before.id)
            node.view, node.kind, node.edits = before.view, before.kind, before.edits
            node.deleted, node.inserted = before.deleted, before.inserted
        elif before is not None:
            self._reconcile(node)
        else:
            self._settle()
            node.view = View.of([Segment("prompt", prompt)], prompt)
        self.nodes.append(node)
        self.by_id[node.id] = node

    def finish(self) -> None:
        """No call comes any more: the last view, with the edits that came after the last call."""
        if not self.nodes:
            self._settle()
            return
        last = self.nodes[-1]
        edited = next((e.choice for e in reversed(self._waiting) if e.base == last.id and e.choice in last.responses), None)
        choice = edited if edited is not None else last.continued if last.continued is not None else min(last.responses)
        last.continued = choice
        pieces = self._predicted(last, choice)
        why = "it puts in text, no tokenizer says its ids, and no later prompt has them"
        holes: dict[str, str] = {}
        while True:
            view, used, problems = self._edited(pieces, [e for e in self._waiting if e.id not in holes])
            found = {p.edit: why for p in view if isinstance(p, Hole)}
            if not found.keys() - holes.keys():
                break
            holes |= found
        if found:  # of an edit that is known from before
            view, used = pieces, []
        self._take(used, problems | holes)
        self.last = View(p for p in view if isinstance(p, Segment))
        self.last_edits = used

    def _settle(self, base: str | None = None) -> None:
        """Edits of calls that have no place here (of one of them, or of all) change nothing."""
        for edit in self._waiting:
            if base in (None, edit.base):
                self.problems[edit.id] = f"its call {edit.base} is none of this policy's with token ids, or was asked again"
        self._waiting = [e for e in self._waiting if base not in (None, e.base)]

    def _predicted(self, node: Node, choice: int) -> Pieces:
        """The view after a call, as it was generated."""
        response = self._response((node.id, choice))
        assert response is not None
        segment = untouched(response)
        segment.exact = True  # it was sampled under this very view
        return [*node.view.segments, segment]

    def _response(self, of: Of) -> Response | None:
        node = self.by_id.get(of[0])
        if node is None or of[1] not in node.responses:
            return None
        choice = node.choices[of[1]]
        texts = {"content": choice.text} | ({"reasoning": choice.reasoning} if choice.reasoning else {})
        return Response(of, node.responses[of[1]], texts, pieces_of(node.call, of[1]))

    def _ids_of(self, call: str, choice: int) -> list[int] | None:
        node = self.by_id.get(call)
        return node.responses.get(choice) if node else None

    def _edited(self, pieces: Pieces, edited: list[Edit]) -> tuple[Pieces, list[str], dict[str, str]]:
        """A view with more edits, those that took effect, and for the others why not."""
        used: list[str] = []
        wrong: dict[str, str] = {}
        waiting: dict[Of, list[Edit]] = {}
        for edit in edited:
            waiting.setdefault((edit.base, edit.choice), []).append(edit)
        for of, edits in waiting.items():
            response = self._response(of)
            if response is None:
                wrong |= {e.id: f"its call {e.base} has no choice {e.choice} with token ids here" for e in edits}
                continue
            known = self._edits.get(of, [])
            made, problems = applied([*known, *edits], response, self._ids_of, self._by)
            wrong |= {e.id: problems[e.id] for e in edits if e.id in problems}
            place = [n for n, p in enumerate(pieces) if isinstance(p, Segment) and p.response == of]
            if not place:
                wrong |= {e.id: "the response that it changes is not in the context" for e in edits}
                continue
            if _same(made, pieces[place[0] : place[-1] + 1]):
                continue
            pieces = [*pieces[: place[0]], *_cleared(pieces, place[0], made), *_shaken(pieces[place[-1] + 1 :])]
            used += [e.id for e in edits if e.id not in wrong]
        return pieces, used, wrong

    def _take(self, used: list[str], problems: dict[str, str], late: Iterable[Edit] = ()) -> None:
        """Edits that were looked at wait no more; those that hold are known to later ones of the same response."""
        self.problems |= problems
        for edit in (*self._waiting, *late):
            self._settled.add(edit.id)
            if edit.id in used:
                self._edits.setdefault((edit.base, edit.choice), []).append(edit)
        self._waiting = []

    def _reconcile(self, node: Node) -> None:
        """What the prompt shows: the answer that was continued, as it was generated or with which of the edits."""
        before, waiting = self.nodes[-1], self._waiting
        edited = next((e.choice for e in waiting if e.base == before.id), None)
        order = sorted(before.responses, key=lambda c: (c != edited, -len(before.responses[c]), c))
        shown = node.prompt[: len(before.prompt)] == before.prompt
        tries = [waiting, []] if waiting else [[]]
        best = self._best(node, order, tries + [[e] for e in waiting if len(waiting) > 1], shown)
        late = [e for e in self._late.get(before.id, ()) if e.id not in self._settled.union(w.id for w in waiting)]
        if best is None and late:
            singly = [[*waiting, e] for e in late if len(late) > 1]
            best = self._best(node, order, [[*waiting, *late], *singly], shown)
        if best is not None:
            self._go_on(node, before, best)
        else:
            best = self._nearest(node, order, tries)
            self._observed(node, before, best)
        effective = self._edited(self._predicted(before, best.choice), waiting)[1] if waiting else []
        why = "the next prompt has the response as it was generated: the edit was undone"
        if best.used:
            why = "the next prompt has other edits of the response, and not this one"
        undone = {e: why for e in effective if e not in best.used}
        if undone and node.kind == "extends":
            node.kind = "contradicted"
        before.continued, node.edits = best.choice, best.used
        known = {e.id for e in waiting}
        self._take(
            best.used, undone | {e: w for e, w in best.wrong.items() if e in known}, [e for e in late if e.id in best.used]
        )

    def _best(self, node: Node, order: list[int], tries: list[list[Edit]], shown: bool) -> _Continued | None:
        """Of what could have been continued, that which the prompt begins with; where there are several, the longest."""
        before, best = self.nodes[-1], None
        for choice in order:
            for edits in tries:
                if edits:
                    pieces, used, wrong = self._edited(self._predicted(before, choice), edits)
                    view = _filled(pieces, node.prompt)
                    if view is None or not extends(view, node.prompt):
                        continue
                    segments, size = view.segments, len(view.ids)
                else:
                    used, wrong = [], {}
                    ids = before.responses[choice]
                    size = len(before.prompt) + len(ids)
                    if not shown or node.prompt[len(before.prompt) : size] != ids:
                        continue
                    segments = [p for p in self._predicted(before, choice) if isinstance(p, Segment) and p.ids]
                if best is None or size > best.size:
                    best = _Continued(choice, segments, size, used, wrong)
        return best

    def _nearest(self, node: Node, order: list[int], tries: list[list[Edit]]) -> _Continued:
        """Of what could have been continued, that of which the prompt has most."""
        found: list[_Continued] = []
        for choice in order:
            plain = self._predicted(self.nodes[-1], choice)
            for edits in tries:
                pieces, used, wrong = self._edited(plain, edits) if edits else (plain, [], {})
                segments = [p for p in pieces if isinstance(p, Segment)]
                view = View(segments) if edits else View.of([p for p in segments if p.ids])
                holes = len(segments) < len(pieces)
                found.append(_Continued(choice, view.segments, len(view.ids), used, wrong, align(view, node.prompt), holes))
        return max(found, key=lambda c: (c.size - c.aligned.deleted, -c.aligned.deleted) if c.aligned else (0, 0))

    def _go_on(self, node: Node, before: Node, best: _Continued) -> None:
        """A prompt that begins with what was predicted."""
        node.view = View.of([*best.segments, Segment(_new_source(node.call), node.prompt[best.size :])], node.prompt)
        was, now = before.call.record, node.call.record
        if was.adapter != now.adapter:
            node.kind = "adapter"
        elif best.used:
            node.kind = "declared"
        else:  # after another image the same ids are another context
            node.kind = "extends" if now.inputs[: len(was.inputs)] == was.inputs else "rewrite"

    def _observed(self, node: Node, before: Node, best: _Continued) -> None:
        """A prompt that does not: what was changed is told from the two."""
        view, found = View.of(best.segments), best.aligned
        assert found is not None
        kind = _class(before, best, node, found, self._by, view)
        source = _SOURCES.get(kind, "inserted")
        if before.call.record.adapter != node.call.record.adapter:
            kind = "adapter"
        node.kind, node.view = kind, found.view(view, node.prompt, source, _new_source(node.call))
        node.deleted, node.inserted = found.deleted, found.inserted


class _Continued(msgspec.Struct):
    """What a prompt may go on with: an answer of the call before, with some edits, and what stands before it."""

    choice: int
    segments: list[Segment]
    size: int
    used: list[str]
    wrong: dict[str, str]
    aligned: Aligned | None = None
    #: Some of it is text whose ids are not known.
    holes: bool = False


def _are_ids(ids: list[Any]) -> bool:
    return set(map(type, ids)) <= {int}


def _asks_again(before: Node, node: Node) -> bool:
    was, now = before.call.record, node.call.record
    return before.prompt == node.prompt and (was.adapter, was.inputs) == (now.adapter, now.inputs)


def _same(a: Pieces, b: Pieces) -> bool:
    """Whether two pieces of a view are the same tokens from the same places."""

    def told(pieces: Pieces) -> list[Any]:
        out: list[Any] = []
        for p in pieces:
            if isinstance(p, Hole):
                out.append(p.text)
            elif p.source == "sampled":
                out += [(p.call, p.choice, p.start + n) for n in range(len(p.ids))]
            else:
                out += p.ids
        return out

    return told(a) == told(b)


def _cleared(pieces: Pieces, at: int, made: Pieces) -> Pieces:
    """What an edit made of a response: what is kept at its beginning stands where it stood."""
    held = pieces[at]
    first = made[0] if made else None
    if (
        isinstance(held, Segment)
        and isinstance(first, Segment)
        and held.exact
        and (first.call, first.choice, first.start) == (held.call, held.choice, held.start)
        and first.source == "sampled"
    ):
        return [msgspec.structs.replace(first, exact=True, edit=None), *made[1:]]
    return made


def _shaken(pieces: Pieces) -> Pieces:
    """What stands behind a change has to be looked at anew."""
    return [msgspec.structs.replace(p, exact=None) if isinstance(p, Segment) and p.exact else p for p in pieces]


def _filled(pieces: Pieces, prompt: list[int]) -> View | None:
    """A predicted view whose holes the prompt fills; None where it does not fit."""
    if not any(isinstance(p, Hole) for p in pieces):
        return View(p for p in pieces if isinstance(p, Segment))
    view = View()
    for n, piece in enumerate(pieces):
        if isinstance(piece, Segment):
            view.add(piece)
            continue
        at = len(view.ids)
        if prompt[:at] != view.ids:
            return None
        after = next((p for p in pieces[n + 1 :] if isinstance(p, Segment)), None)
        if after is None or isinstance(pieces[n + 1], Hole):
            return None  # where it ends can't be told
        size = len(after.ids)
        stop = next((i for i in range(at, len(prompt) - size + 1) if prompt[i : i + size] == after.ids), None)
        if stop is None:
            return None
        response = after.response
        view.add(Segment("inserted", prompt[at:stop], response=response, edit=piece.edit))
    return view


def _new_source(call: Call) -> Source:
    """Where the tokens behind the last answer come from."""
    messages = call.messages
    return "tool" if messages and messages[-1].get("role") in ("tool", "function") else "prompt"


#: What backends say in place of a token's text, where it is a part of a character, or ids were asked for.
_NO_TEXT = ("token_id:", "bytes:", "\\x")


def pieces_of(call: Call, choice: int) -> list[str] | None:
    """The text of each token, where the backend gave it with the logprobs, and of all of them."""
    body = call.response
    found = body.get("choices") if isinstance(body, dict) else None
    for n, one in enumerate(found if isinstance(found, list) else []):
        if isinstance(one, dict) and one.get("index", n) == choice:
            content = (one.get("logprobs") or {}).get("content") if isinstance(one.get("logprobs"), dict) else None
            if isinstance(content, list) and all(isinstance(c, dict) and isinstance(c.get("token"), str) for c in content):
                pieces: list[str] = [c["token"] for c in content]
                return None if any(p.startswith(_NO_TEXT) or "\ufffd" in p for p in pieces) else pieces
    return None


# --- what was changed -----------------------------------------------------------------------------------------------------


def _class(before: Node, best: _Continued, node: Node, found: Aligned, by: Tokenizer | None, view: View) -> Kind:
    """The class of a change that nobody declared, told from the messages where there are any, else from the ids alone. Beside
    edits that were declared it is what else was changed; `declared` where that may be no more than other tokens for them."""
    sent, now = before.call.messages, node.call.messages
    if best.holes:
        return "declared"
    if sent and now:
        answer = {"role": "assistant", **before.choices[best.choice].message}
        if best.used and len(now) > len(sent):
            answer = now[len(sent)]
        old, new = [_norm(m) for m in [*sent, answer]], [_norm(m) for m in now]
        if new[: len(old)] != old:
            return _messages_changed(old, new)
        if _reasoning_gone([*sent, answer], now):
            return "reasoning"
        return "declared" if best.used else _same_text(found, by, view, node.prompt)
    if by is not None and found.inserted and _same_text(found, by, view, node.prompt) == "retokenization":
        return "declared" if best.used else "retokenization"
    return "rewrite" if found.inserted or not found.runs else "truncation"


def _same_text(found: Aligned, by: Tokenizer | None, view: View, prompt: list[int]) -> Kind:
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
    kept = 0  # of the old ones, how many stand at the end of what they were, in order
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
        kept += 1
    if not kept:  # nothing of it is left to stand before: what is new begins with as many as are gone, at most
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


def _acted(t: Trajectory) -> set[str]:
    """The calls of which something came: an action, or the last of a step with actions or rewards that name no call. A reward of
    one response alone does not make it one that was gone on with."""
    found: set[str] = {a.llm_call for a in t.actions if a.llm_call is not None}
    for step in t.steps:
        calls = [c for c in step.llm_calls if c.purpose == "act"]
        named = any(a.llm_call for a in step.actions)
        if calls and not named and (step.actions or any(r.target is None for r in step.rewards)):
            found.add(calls[-1].id)
    return found


def _places(t: Trajectory) -> dict[tuple[str | None, int | None], str | None]:
    """(agent, step) -> the record that its conversation is inside of: None for the run itself. A hand-off goes on with one."""
    root = t.start.id if t.start else None
    steps = {s.record.id: s for s in t.steps if s.record is not None}
    handed = {a.id: a for a in t.actions if a.name.startswith("transfer_to_") and a.ok}
    out: dict[tuple[str | None, int | None], str | None] = {}
    for step in t.steps:
        parent = step.record.parent if step.record is not None else None
        while parent in handed:
            before = steps.get(handed[parent].parent or "")
            parent = before.record.parent if before is not None and before.record is not None else None
        out[step.agent, step.index] = None if parent == root else parent
    return out


# --- trajectories -----------------------------------------------------------------------------------------------------------


def chains(
    t: Trajectory,
    *,
    agent: str | None = None,
    model: str | None = None,
    purpose: tuple[str, ...] = ("act",),
    tokenizer: Tokenizer | None = None,
) -> list[Chain]:
    """The lineage of each policy of a trajectory: one per (agent, model), and per task that it did for another agent: each of
    those is a conversation of its own. `agent` and `model` choose."""
    found: dict[tuple[str | None, str | None, str | None], Chain] = {}
    places = _places(t)
    of_call: dict[str, Chain] = {}
    calls = {c.id: c for c in t.llm_calls}
    replaced = {r.supersedes for r in t.records if r.supersedes}
    acted = _acted(t)
    strays: dict[str, str] = {}
    edits: dict[str, list[Edit]] = {}
    for record in t.records:
        if isinstance(record, Edit) and record.id not in replaced:
            edits.setdefault(record.base, []).append(record)
    for record in t.records:
        call = calls.get(record.id)
        if call is not None and record.id not in replaced:
            who = call.agent or t.agent
            if call.purpose not in purpose or (agent is not None and who != agent) or (model is not None and call.model != model):
                continue
            place = places.get((who, call.step))
            chain = found.setdefault((who, call.model, place), Chain(who, call.model, tokenizer))
            of_call[call.id] = chain
            chain.add_call(call, acted, edits.get(call.id, ()))
        elif isinstance(record, Edit) and record.id not in replaced:
            known = of_call.get(record.base)
            if known is not None:
                known.add_edit(record)
            elif record.base not in calls:
                strays[record.id] = f"its base {record.base} is no call of this trajectory"
    for chain in found.values():
        chain.finish()
        chain.problems |= strays
    return list(found.values())
