"""Preferred edits -> pairs: what was generated, and what an editor made of it. Text is enough for a pair; ids go with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..calls import Call
from ..dialects import Choice
from ..lineage import Chain, Tokenizer, edited_text
from ..trajectory import Trajectory
from ..types import Edit
from .sample import Conservation, Pair, Tally
from .views import answer_of

#: The preferred edits of each response, the last first.
Preferred = dict[tuple[str, int], list[Edit]]


def preferred(t: Trajectory) -> Preferred:
    """The last edit of a response counts, and those before it that go with it."""
    found: Preferred = {}
    for edit in sorted(t.all_edits, key=lambda e: (e.time, e.writer, e.seq), reverse=True):
        if edit.preferred and not edit.rejected:
            found.setdefault((edit.base, edit.choice), []).append(edit)
    return found


class Pairs:
    """The pairs of one trajectory, whose tokens a tally accounts for."""

    def __init__(self, t: Trajectory, edits: Preferred, by: Tokenizer | None, tally: Tally, report: Conservation) -> None:
        self._t = t
        self._edits = edits
        self._by = by
        self._tally = tally
        self._report = report

    def of_tokens(self, chain: Chain) -> Iterator[Pair]:
        """Those of calls with token ids."""
        for node in chain.nodes:
            for choice, ids in () if self._tally.is_elsewhere(node.id) else node.responses.items():
                pair = self._pair(chain, node.call, node.choices[choice], node.messages)
                if pair is None:
                    self._tally.drop(node.id, choice, range(len(ids)), "not_edited")
                    continue
                pair.prompt_ids = node.prompt[:]
                self._tally.train(node.id, choice, range(len(ids)))
                self._report.pairs += 1
                yield pair
        for node in chain.discarded:
            for choice, ids in node.responses.items():
                self._tally.drop(node.id, choice, range(len(ids)), "not_edited")

    def of_texts(self, chain: Chain) -> list[Pair]:
        """Those of calls without token ids, which the chain leaves out no more."""
        found: list[Pair] = []
        left: list[tuple[Call, str]] = []
        for call, why in chain.left_out:
            asked = call.messages
            each = len({choice.prompt for choice in call.choices}) > 1  # a batch of prompts
            made = [self._pair(chain, call, c, asked[c.prompt : c.prompt + 1] if each else asked) for c in call.choices]
            known = [pair for pair in made if pair is not None and not self._tally.is_elsewhere(call.id)]
            if known:
                self._tally.trained.add(call.id)
            else:
                left.append((call, why))
            found += known
        chain.left_out = left
        self._report.pairs += len(found)
        return found

    def _pair(self, chain: Chain, call: Call, choice: Choice, prompt: list[dict[str, Any]]) -> Pair | None:
        """None where no edit changes anything that is known."""
        edits = self._edits.get((call.id, choice.index), [])
        if not edits:
            return None
        rejected, answer = choice.text, answer_of(choice)
        made, chosen = chain.result(edits), edited_text(edits, choice.text)
        if chosen is None and made is not None and self._by is not None:
            chosen = self._by.decode(made)
            if choice.reasoning and choice.token_ids:  # the ids are of both, so the texts are
                rejected = self._by.decode(choice.token_ids)
                answer = {"role": "assistant"}
        if (made is None or made == choice.token_ids) and chosen in (None, rejected):
            return None
        for edit in edits if chosen is not None else ():
            chain.problems.pop(edit.id, None)
            self._report.edits_unused.pop(edit.id, None)
        return Pair(
            prompt_ids=None,
            rejected_ids=choice.token_ids,
            chosen_ids=made,
            prompt=prompt,
            rejected=rejected,
            chosen=chosen,
            trajectory=self._t.id,
            group=self._t.group,
            agent=chain.agent,
            call=call.id,
            answer=answer,
            tools=call.tools,
        )
