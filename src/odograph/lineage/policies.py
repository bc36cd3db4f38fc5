"""Which policies act in a trajectory, and in which conversations: a chain for each."""

from __future__ import annotations

from ..calls import Call
from ..trajectory import Trajectory, handed_over
from ..types import Edit
from .chain import Chain
from .texts import Tokenizer


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
    parents: dict[str | None, str | None] = {s.record.id: s.record.parent for s in t.steps if s.record is not None}
    handed = handed_over(t)
    out: dict[tuple[str | None, int | None], str | None] = {}
    for step in t.steps:
        parent = step.record.parent if step.record is not None else None
        while parent in handed:
            parent = parents.get(handed[parent].parent)
        out[step.agent, step.index] = None if parent == root else parent
    return out


def chains(
    t: Trajectory,
    *,
    agent: str | None = None,
    model: str | None = None,
    purpose: tuple[str, ...] = ("act",),
    tokenizer: Tokenizer | None = None,
) -> list[Chain]:
    """The lineage of each policy of a trajectory: one per (agent, model), per task that it did for another agent, and per place
    in calls with several prompts: each of those is a conversation of its own. `agent` and `model` choose."""
    found: dict[tuple[str | None, str | None, str | None, int], Chain] = {}
    places = _places(t)
    of_call: dict[tuple[str, int | None], Chain] = {}
    calls = {c.id: c for c in t.llm_calls}
    acted = _acted(t)
    observed = {(s.agent, s.index) for s in t.steps if s.observation is not None}
    strays: dict[str, str] = {}
    edits: dict[str, list[Edit]] = {}
    for record in t.standing:
        if isinstance(record, Edit):
            edits.setdefault(record.base, []).append(record)
    for record in t.standing:
        call = calls.get(record.id)
        if call is not None:
            who = call.agent or t.agent
            if call.purpose not in purpose or (agent is not None and who != agent) or (model is not None and call.model != model):
                continue
            place = places.get((who, call.step))
            fresh = (who, call.step) in observed
            for batch in range(len(call.batch_token_ids)) or (None,):
                chain = found.setdefault((who, call.model, place, batch or 0), Chain(who, call.model, tokenizer))
                of_call[call.id, batch] = chain
                chain.add_call(call, acted, edits.get(call.id, ()), fresh=fresh, batch=batch)
        elif isinstance(record, Edit):
            known = of_call.get((record.base, None)) or of_call.get((record.base, _prompt(calls, record)))
            if known is not None:
                known.add_edit(record)
            elif record.base not in calls:
                strays[record.id] = f"its base {record.base} is no call of this trajectory"
    for chain in found.values():
        chain.finish()
        chain.problems |= strays
    return list(found.values())


def _prompt(calls: dict[str, Call], edit: Edit) -> int | None:
    """The number of the prompt that the edited choice answers."""
    choices = calls[edit.base].choices if edit.base in calls else []
    return next((c.prompt for c in choices if c.index == edit.choice), None)
