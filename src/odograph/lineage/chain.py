"""The calls of one policy in order, each prompt reconciled with what the calls and edits before it predict.

No published source; the rule for `exact` and the classes of edits are in docs/edits.md. Reads a trajectory; knows no
trainer.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from operator import itemgetter

from ..calls import Call
from ..prefix import Prefix, begins, shared_prefix
from ..types import Edit, Kept
from .bodies import Media, pieces_of
from .edits import Hole, Of, Pieces, Response, applied, untouched
from .nodes import Node, Thread, asks_again, end_of, stand_in
from .observed import Kind, kind_of
from .predicted import Continued, cleared, filled, parted, same, shaken
from .texts import Tokenizer
from .view import Segment, Source, Standing, View, align, extends

_SOURCES: dict[Kind, Source] = {
    "template": "template",
    "reasoning": "template",
    "retokenization": "retokenized",
    "summary": "summary",
}


class Chain:
    """The lineage of one policy in a trajectory: its calls in order, and the threads that they are: one, unless conversations
    are interleaved or an older call was gone on with."""

    def __init__(self, agent: str | None, model: str | None, by: Tokenizer | None) -> None:
        self.agent = agent
        self.model = model
        self.nodes: list[Node] = []
        self.threads: list[Thread] = []
        self.by_id: dict[str, Node] = {}
        #: Attempts whose question was asked again, and of which nothing came.
        self.discarded: list[Node] = []
        #: Calls that have no place here: (call, why).
        self.left_out: list[tuple[Call, str]] = []
        #: Edits that could not be used: id -> why.
        self.problems: dict[str, str] = {}
        self._by = by
        self._edits: dict[Of, list[Edit]] = {}
        self._taken: dict[str, Of] = {}  # which response an edit of these changed, by the edit's id
        self._waiting: list[Edit] = []
        #: Edits that were recorded after the call that shows them, by their base; those of them that are settled.
        self._late: dict[str, list[Edit]] = {}
        self._settled: set[str] = set()
        self._thread: dict[str, Thread] = {}
        #: By a prompt's length and last token: the calls whose prompts end so.
        self._asked: dict[tuple[int, int], list[Node]] = {}
        #: By the length of a prompt with an answer, and the answer's last token: the answers that end so.
        self._answers: dict[int, dict[int, list[tuple[Node, int]]]] = {}
        self._lengths: list[int] = []  # those lengths, in order
        self._media = Media()
        #: The last prompt whose ids were looked at, one by one.
        self._looked: Prefix = Prefix([])

    @property
    def last(self) -> View:
        """The last view as the edits after the last call leave it."""
        return self._thread[self.nodes[-1].id].last if self.nodes else View()

    @property
    def last_edits(self) -> list[str]:
        """Edits that no call came after."""
        return [e for thread in self.threads for e in thread.last_edits]

    def __repr__(self) -> str:
        return f"<Chain {self.agent or ''} {self.model or ''}: {len(self.nodes)} calls, {len(self.last.ids)} tokens>"

    def standing(self, segment: Segment, at: int, view: View, adapter: str | None, inputs: list[str]) -> Standing:
        """Whether the tokens of a sampled segment at a position of a view are exact there."""
        node = self.by_id.get(segment.call or "")
        if node is None:
            return "unknown"
        if node.call.adapter != adapter or inputs[: len(node.inputs)] != node.inputs:
            return "stale"
        if segment.exact:
            return "exact"
        if at != len(node.prompt) + segment.start:
            return "stale"
        own = len(node.prompt)
        same = begins(view.ids, node.prompt) and view.ids[own:at] == node.responses[segment.choice][: segment.start]
        return "exact" if same else "stale"

    def bases(self, edits: Iterable[str]) -> set[Of]:
        """The responses that edits changed."""
        return {self._taken[e] for e in edits if e in self._taken}

    @property
    def moves(self) -> bool:
        """Whether an edit put tokens of one response into another."""
        runs = ((e, r) for known in self._edits.values() for e in known for r in e.result if isinstance(r, Kept))
        return any(r.call not in (None, e.base) or r.choice not in (None, e.choice) for e, r in runs)

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

    def add_call(self, call: Call, acted: set[str], edits: Iterable[Edit], *, fresh: bool, batch: int | None) -> None:
        """A call, in the order of the records. `acted`: the calls of which something came: an action, a reward of its step.
        `batch`: the number of the prompt, of a call with several prompts. `fresh`: it is of a step with an observation of its
        own, so it is no second attempt. `edits`: all of this call; `add_edit` gets each in its time, but a prompt may show one
        that was recorded late."""
        self._late[call.id] = [e for e in edits if not e.rejected]
        prompt = call.prompt_ids if batch is None else call.batch_token_ids[batch]
        choices = {c.index: c for c in call.choices if batch in (None, c.prompt)}
        if batch is None and len(choices) < len(call.choices):  # numbered by a backend that numbers all alike
            choices = dict(enumerate(call.choices))
        responses = {i: c.token_ids for i, c in choices.items() if c.token_ids is not None}
        if call.error is not None and not responses:
            self.left_out.append((call, "a call that failed"))
            return
        if not prompt or not responses:
            missing = "prompt" if responses else "response" if prompt else "prompt and response"
            self.left_out.append((call, f"no token ids of the {missing}"))
            return
        prompt = prompt if isinstance(prompt, Prefix) else Prefix(prompt)
        known = len(prompt) if call.has_prompt_ids_beside else shared_prefix(self._looked, prompt)
        if any(set(map(type, ids)) - {int} for ids in (*responses.values(), prompt[known:])):
            self.left_out.append((call, "token ids that are no whole numbers"))
            return
        self._looked = prompt
        node = Node(call, prompt, responses, choices, View(), "start")
        before = self.nodes[-1] if self.nodes else None
        node.batch = batch
        node.inputs = call.inputs or self._media.of(call)
        again = before is not None and before.call.step != call.step and fresh
        if before is not None and before.id not in acted and not again and asks_again(before, node):
            self.discarded.append(self.nodes.pop())
            self._forget(before)
            self._settle(before.id)
            stand_in(node, before)
            thread = self._thread[before.id]
            thread.nodes[-1] = node
            self._thread[node.id] = thread
        elif before is not None:
            self._place(node)
        else:
            node.view = View.of([Segment("prompt", prompt[:])], node.prompt)
            self._begin(node)
        self.nodes.append(node)
        self._remember(node)
        self.by_id[node.id] = node

    def _remember(self, node: Node) -> None:
        self._asked.setdefault(end_of(node), []).append(node)
        for choice, ids in node.responses.items():
            if ids:
                length = len(node.prompt) + len(ids)
                if length not in self._answers:
                    insort(self._lengths, length)
                self._answers.setdefault(length, {}).setdefault(ids[-1], []).append((node, choice))

    def _forget(self, node: Node) -> None:
        """Nothing goes on with an answer of the last call. (Who asks its question asks that of the call that asked it again.)"""
        for ids in node.responses.values():
            if ids:
                self._answers[len(node.prompt) + len(ids)][ids[-1]].pop()

    def _begin(self, node: Node, base: tuple[Node, int] | None = None) -> None:
        thread = Thread(node, base)
        self.threads.append(thread)
        self._thread[node.id] = thread

    def _place(self, node: Node) -> None:
        """A call after others: it goes on with the last or an older one, or asks an older one's question again; else something
        was changed, and it goes on with that of which its prompt has most."""
        last = self.nodes[-1]
        waiting = self._waiting_of(last)
        best = self._best(node, last, waiting)
        older = self._older(node, best.size if best is not None else 0)
        if older is not None:
            self._branch(node, *older)
            return
        if best is None:
            asked = next((n for n in reversed(self._asked.get(end_of(node), ())) if asks_again(n, node)), None)
            if asked is not None:
                stand_in(node, asked)
                self._begin(node)
                return
            last = self._closest(node)
        self._reconcile(node, last, best, self._waiting_of(last))
        self._thread[last.id].nodes.append(node)
        self._thread[node.id] = self._thread[last.id]

    def _waiting_of(self, node: Node) -> list[Edit]:
        """Edits that no prompt has shown yet, but those of responses in other threads."""
        mine = self._thread[node.id]
        return [e for e in self._waiting if self._thread.get(e.base, mine) is mine]

    def _older(self, node: Node, size: int) -> tuple[Node, int] | None:
        """The answer before the last that a prompt begins with exactly, longer than `size`: one that ends its thread, that
        nothing went on with, or after which the context was another."""
        prompt = node.prompt
        for n in range(bisect_right(self._lengths, len(prompt)) - 1, -1, -1):
            total = self._lengths[n]
            if total <= size:
                break
            for other, choice in self._answers[total].get(prompt[total - 1], ()):
                if (
                    prompt[len(other.prompt) : total] == other.responses[choice]
                    and begins(prompt, other.prompt)
                    and self._is_open(other, choice)
                    and other.call.adapter == node.call.adapter
                    and node.inputs[: len(other.inputs)] == other.inputs
                ):
                    return other, choice
        return None

    def _is_open(self, node: Node, choice: int) -> bool:
        return choice not in node.taken or (after := self._after(node)) is None or not after.goes_on

    def _after(self, node: Node) -> Node | None:
        """The call that came after another in its thread."""
        nodes = self._thread[node.id].nodes
        at = nodes.index(node) + 1
        return nodes[at] if at < len(nodes) else None

    def _branch(self, node: Node, before: Node, choice: int) -> None:
        """A call that goes on with an older answer: in its thread (what came after is one of its own then), or in a new one."""
        node.view = self._continued(node, before, choice)
        node.kind = "extends"
        thread, after = self._thread[before.id], self._after(before)
        if after is not None and choice == before.continued and not after.goes_on:
            at = thread.nodes.index(after)
            apart = Thread(after)
            apart.nodes = thread.nodes[at:]
            del thread.nodes[at:]
            self.threads.append(apart)
            self._thread |= {n.id: apart for n in apart.nodes}
            after = None
        if after is None:
            before.continued = choice
            thread.nodes.append(node)
            self._thread[node.id] = thread
        else:
            self._begin(node, (before, choice) if choice not in before.taken else None)
        before.taken = before.taken | {choice}

    def _closest(self, node: Node) -> Node:
        """Of the ends of all threads that of which a prompt has most at its beginning; the last, where it is as good."""
        last = self.nodes[-1]
        if len(self.threads) == 1:
            return last
        ends = [last, *(t.nodes[-1] for t in self.threads if t.nodes[-1] is not last)]
        return max(ends, key=lambda n: shared_prefix([*n.prompt, *n.responses[min(n.responses)]], node.prompt))

    def finish(self) -> None:
        """No call comes any more: the last view, with the edits that came after the last call."""
        for thread in self.threads:
            self._finish(thread, [e for e in self._waiting if self._thread.get(e.base) is thread])
        self._settle()

    def _finish(self, thread: Thread, waiting: list[Edit]) -> None:
        last = thread.nodes[-1]
        edited = next((e.choice for e in reversed(waiting) if e.base == last.id and e.choice in last.responses), None)
        choice = edited if edited is not None else last.continued if last.continued is not None else min(last.responses)
        last.continued = choice
        head, pieces = self._predicted(last, choice, waiting)
        why = "it puts in text, no tokenizer says its ids, and no later prompt has them"
        holes: dict[str, str] = {}
        while True:
            view, used, problems = self._edited(pieces, [e for e in waiting if e.id not in holes])
            found = {p.edit: why for p in view if isinstance(p, Hole)}
            if not found.keys() - holes.keys():
                break
            holes |= found
        if found:  # of an edit that is known from before
            view, used = pieces, []
        self._take(waiting, used, problems | holes)
        thread.last = head.then(p for p in view if isinstance(p, Segment))
        thread.last_edits = used

    def _settle(self, base: str | None = None) -> None:
        """Edits of calls that have no place here (of one of them, or of all) change nothing."""
        for edit in self._waiting:
            if base in (None, edit.base):
                self.problems[edit.id] = f"its call {edit.base} is none of this policy's with token ids, or was asked again"
        self._waiting = [e for e in self._waiting if base not in (None, e.base)]

    def _predicted(self, node: Node, choice: int, edits: list[Edit]) -> tuple[View, Pieces]:
        """The view after a call, as it was generated: what stands before all that edits change, and the pieces from there on."""
        head, tail = parted(node.view, {(e.base, e.choice) for e in edits} - {(node.id, choice)})
        return head, [*tail, self._generated(node, choice)]

    def _generated(self, node: Node, choice: int) -> Segment:
        """An answer as it was generated."""
        response = self._response((node.id, choice))
        assert response is not None
        segment = untouched(response)
        segment.exact = True  # it was sampled under this very view
        return segment

    def _continued(self, node: Node, before: Node, choice: int) -> View:
        """The view of a call that goes on with an answer as it was generated."""
        size = len(before.prompt) + len(before.responses[choice])
        more = [self._generated(before, choice), Segment(_new_source(node.call), node.prompt[size:])]
        return before.view.then(more, node.prompt)

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
            if same(made, pieces[place[0] : place[-1] + 1]):
                continue
            pieces = [*pieces[: place[0]], *cleared(pieces, place[0], made), *shaken(pieces[place[-1] + 1 :])]
            used += [e.id for e in edits if e.id not in wrong]
        return pieces, used, wrong

    def _take(self, seen: list[Edit], used: list[str], problems: dict[str, str], late: Iterable[Edit] = ()) -> None:
        """Edits that were looked at wait no more; those that hold are known to later ones of the same response."""
        self.problems |= problems
        for edit in (*seen, *late):
            self._settled.add(edit.id)
            if edit.id in used:
                of = self._taken[edit.id] = (edit.base, edit.choice)
                self._edits.setdefault(of, []).append(edit)
        self._waiting = [e for e in self._waiting if e.id not in self._settled]

    def _order(self, before: Node, waiting: list[Edit]) -> list[int]:
        """The choices of a call: one that was edited first, then the longest."""
        edited = next((e.choice for e in waiting if e.base == before.id), None)
        return sorted(before.responses, key=lambda c: (c != edited, -len(before.responses[c]), c))

    def _reconcile(self, node: Node, before: Node, best: Continued | None, waiting: list[Edit]) -> None:
        """What the prompt shows: the answer that was continued, as it was generated or with which of the edits."""
        late = [e for e in self._late.get(before.id, ()) if e.id not in self._settled.union(w.id for w in waiting)]
        if best is None and late:
            best = self._shown(node, before, waiting, [[*waiting, *late], *([*waiting, e] for e in late)])
        if best is not None:
            self._go_on(node, before, best)
        else:
            best = self._nearest(node, before, self._order(before, waiting), [waiting, []] if waiting else [[]])
            self._observed(node, before, best)
        effective = self._edited(self._predicted(before, best.choice, waiting)[1], waiting)[1] if waiting else []
        undone: dict[str, str] = {}
        for edit in waiting:
            if edit.id not in effective or edit.id in best.used:
                continue
            of = (edit.base, edit.choice)
            if best.used:
                undone[edit.id] = "the next prompt has other edits of the response, and not this one"
            elif len(node.view.sampled({of}).get(of, ())) == len(self.by_id[of[0]].responses[of[1]]):
                undone[edit.id] = "the next prompt has the response as it was generated: the edit was undone"
            else:
                undone[edit.id] = "the next prompt shows another change of the response, and not this edit"
        if undone and node.kind == "extends":
            node.kind = "contradicted"
        before.continued, node.edits = best.choice, best.used
        before.taken = before.taken | {best.choice}
        known = {e.id for e in waiting}
        problems = undone | {e: w for e, w in best.wrong.items() if e in known}
        self._take(waiting, best.used, problems, [e for e in late if e.id in best.used])

    def _best(self, node: Node, before: Node, waiting: list[Edit]) -> Continued | None:
        """Of what a call could have been continued with, what the prompt begins with."""
        tries = [waiting, []] if waiting else [[]]
        return self._shown(node, before, waiting, tries + [[e] for e in waiting if len(waiting) > 1])

    def _shown(self, node: Node, before: Node, waiting: list[Edit], tries: list[list[Edit]]) -> Continued | None:
        """Of what could have been continued, that which the prompt begins with; where there are several, the longest."""
        best = None
        shown = begins(node.prompt, before.prompt)
        for choice in self._order(before, waiting):
            for edits in tries:
                if edits:
                    head, pieces = self._predicted(before, choice, edits)
                    pieces, used, wrong = self._edited(pieces, edits)
                    view = filled(head, pieces, node.prompt)
                    if view is None or not extends(view, node.prompt):
                        continue
                    size = len(view.ids)
                    at, ids = len(before.prompt), before.responses[choice]
                    if shown and at + shared_prefix(ids, node.prompt[at : at + len(ids)]) > size:
                        continue  # the prompt goes on with what was cut off
                else:
                    used, wrong = [], {}
                    ids = before.responses[choice]
                    size = len(before.prompt) + len(ids)
                    if not ids and any(before.responses.values()):  # an empty sibling is in every prompt
                        continue
                    if not shown or node.prompt[len(before.prompt) : size] != ids:
                        continue
                    view = None
                if best is None or size > best.size:
                    best = Continued(choice, view, size, used, wrong)
        return best

    def _nearest(self, node: Node, before: Node, order: list[int], tries: list[list[Edit]]) -> Continued:
        """Of what could have been continued, that of which the prompt has most."""
        found: list[tuple[tuple[int, int], Continued]] = []
        for choice in order:
            for edits in tries:
                used: list[str] = []
                wrong: dict[str, str] = {}
                holes = False
                if edits:
                    head, pieces = self._predicted(before, choice, edits)
                    pieces, used, wrong = self._edited(pieces, edits)
                    segments = [p for p in pieces if isinstance(p, Segment)]
                    view, holes = head.then(segments), len(segments) < len(pieces)
                else:
                    view = before.view.then([self._generated(before, choice)], [*before.prompt, *before.responses[choice]])
                aligned = align(view, node.prompt)
                size, deleted = len(view.ids), aligned.deleted
                found.append(((size - deleted, -deleted), Continued(choice, view, size, used, wrong, aligned, holes)))
        return max(found, key=itemgetter(0))[1]

    def _go_on(self, node: Node, before: Node, best: Continued) -> None:
        """A prompt that begins with what was predicted."""
        if best.view is None:
            node.view = self._continued(node, before, best.choice)
        else:
            node.view = best.view.then([Segment(_new_source(node.call), node.prompt[best.size :])], node.prompt)
        was, now = before.call, node.call
        if was.adapter != now.adapter:
            node.kind = "adapter"
        elif best.used:
            node.kind = "declared"
        else:  # after another image the same ids are another context
            node.kind = "extends" if node.inputs[: len(before.inputs)] == before.inputs else "rewrite"

    def _observed(self, node: Node, before: Node, best: Continued) -> None:
        """A prompt that does not: what was changed is told from the two."""
        view, found = best.view, best.aligned
        assert view is not None
        assert found is not None
        kind: Kind = "declared"
        if not best.holes:
            answered = before.choices[best.choice]
            kind = kind_of(before.call, answered, node.call, node.prompt, found, self._by, view, bool(best.used))
        source = _SOURCES.get(kind, "inserted")
        if before.call.adapter != node.call.adapter:
            kind = "adapter"
        node.kind, node.view = kind, found.view(view, node.prompt, source, _new_source(node.call))
        node.deleted, node.inserted = found.deleted, found.inserted


def _new_source(call: Call) -> Source:
    """Where the tokens behind the last answer come from."""
    last = call.last_message
    return "tool" if last is not None and last.get("role") in ("tool", "function") else "prompt"
