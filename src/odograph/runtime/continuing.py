"""Where a conversation was left: its state from what was recorded. Asks no model."""

from __future__ import annotations

from typing import Any

import msgspec

from .. import dialects
from ..calls import Call
from ..dialects import ToolCall
from ..trajectory import Step, Trajectory, handed_over, own_steps
from ..types import Action
from .conversation import A, State, messages_of, transfer
from .recorded import BEGUN, PUT, Turns, by_call, decision_of, result_of, take
from .revising import revised, reworded
from .task import Task


def continued(agent: A, task: Task, past: Trajectory) -> State[A]:
    """The conversation where the past left it: what the model was sent last, what it answered, and which results are there."""
    state = State(agent, task)
    state.begin([*task.memory(), *messages_of(past.task)])
    steps = own_steps(past)
    if steps:
        state.observation = _observation(steps)
    own = task._fork is None and past is task._past  # not of a parent that this run leaves
    if task._messages is not None and not (own and answered(past)):
        state.begin(task._messages, sent=True)
        return state
    if task._request is not None and not (own and answered(past)):
        _take_request(state, *task._request, past)
        state.prompted = True  # the recorded prompt has what was put in
        return state
    handed = {id: a.name for id, a in handed_over(past).items()}
    last: Call | None = None
    for step in steps:
        if own:
            _adopt_inside(state, step, handed)
        last = next((c for c in reversed(step.llm_calls) if c.purpose == "act" and _answered(c)), last)
    if last is None:
        return state
    turns = Turns(past)
    _take_request(state, last.record.dialect, last.request, past, last)
    turn = turns[last.id]
    choice = state.read(last.response) if _dialect(last) == state.agent.dialect else next(iter(last.choices), None)
    changed = turn is not None and bool(turn.answered or turn.later)
    state.queue = list(turn.added) if turn is not None else []
    if choice is None or not (choice.tool_calls or changed or state.queue):
        state.response = last, last.response  # it was final, or is asked again
        return state
    if _dialect(last) != state.agent.dialect:
        edits = [*turn.answered, *turn.later] if turn is not None else []
        made = reworded(_dialect(last), last.response, revised(last, edits, None, in_ids=False), {})
        answered_ = next(iter(dialects.get(_dialect(last)).choices(made)), choice)
        state.history += state.shaped([answered_.message])
    else:
        said = state.take(last, last.response)
        if turn is not None and turn.answered:
            choice = state.revise(said, turn.answered, {}) or choice
    if not choice.tool_calls and not state.queue:  # an edited answer that is final
        state.response = last, last.response
        return state
    state.ask_for(choice.tool_calls, last.id if own else None)
    state.used = any(s.actions for s in steps)
    notes = [n for s in steps for n in s.notes if n.name == BEGUN and isinstance(n.data, dict)]
    ended = by_call(a for s in steps for a in s.actions).keys()
    state.begun = {str(n.data.get("call")) for n in notes} - ended if own else set()
    _take_results(state, past, last.id, handed)
    state.unseen = own and not state.done and turn is not None and not turn.answered
    if turn is not None and turn.later and state.last is not None:
        state.revise(state.last, [*turn.answered, *turn.later], state.last.calls)
    if len(state.done) == len(state.pending):  # nothing is under way
        results, handoff = list(state.done.values()), state.handoff
        if results:
            state.history += state.results(results)
        state.settle()
        if handoff is not None:
            state.adopt(handoff[0])
            state.place = handoff if own else None
        put = turns.open.get(state.agent.name, [])
        for name, messages in [*([(PUT, state.queue)] if state.queue else []), *put]:
            state.put(name, messages)
        state.queue, state.prompted = [], bool(put)
    return state


def _dialect(call: Call) -> str:
    return call.record.dialect or dialects.of_response(call.response, None).NAME


def _answered(call: Call) -> bool:
    return call.record.error is None and bool(call.choices)


def answered(t: Trajectory) -> bool:
    """Whether an agent's own question was answered in it."""
    return any(c.purpose == "act" and _answered(c) for c in t.llm_calls)


def _adopt_inside(state: State[Any], step: Step, handed: dict[str, str]) -> None:
    """Follows a hand-off: the step is inside of the action that made it."""
    inside = handed.get((step.record.parent or "") if step.record else "")
    target = next((a for a in state.agent.handoffs if transfer(a) == inside), None)
    if target is not None and target.name == step.agent:
        state.adopt(target)
        state.place = (target, step.record.parent or "")  # type: ignore[union-attr]


def _take_request(state: State[Any], dialect: str | None, request: Any, past: Trajectory, call: Call | None = None) -> None:
    """The history of a request, in the agent's own dialect; its system prompt is the agent's."""
    old = dialects.get(dialect)
    if state.agent.in_ids and state.agent.dialect == old.NAME:
        ids = dialects.prompt_ids(call.record) if call is not None else _ids_of(old, request)
        state.ids = None if ids is None else list(ids)
        _say_again(state, past, call)
        state.covered = len(state.history) if ids is not None else 0
        return
    held = request.get(old.HISTORY) if isinstance(request, dict) else None
    items = list(held) if isinstance(held, list) else [{"role": "user", "content": held}] if held else []
    if old.NAME == "openai.chat" and state.system is not None and items and items[0].get("role") in ("system", "developer"):
        items = items[1:]
    if state.agent.in_ids:
        state.history = old.messages({old.HISTORY: items})
    elif state.agent.dialect != old.NAME:
        items = dialects.get(state.agent.dialect).history(old.messages({old.HISTORY: items}))
        state.history = items
    else:
        state.history = items


def _say_again(state: State[Any], past: Trajectory, call: Call | None) -> None:
    """The messages before a call (None: all), of what was recorded: the ids that were sent tell no messages."""
    actions: dict[str | None, list[Action]] = {}
    for action in past.actions:
        actions.setdefault(action.llm_call, []).append(action)
    for turn in Turns(past).turns:
        for name, messages in turn.prompted:
            state.put(name, messages)
        if call is not None and turn.call.id == call.id:
            return
        edits = [*turn.answered, *turn.later]
        made = revised(turn.call, edits, state.agent.template, in_ids=True)
        state.history += state._items(turn.call.response, made.ids)
        state.history += state.results([result_of(a) for a in actions.get(turn.call.id, ())])
        state.put(PUT, turn.added)


def _ids_of(dialect: Any, request: Any) -> list[int] | None:
    """The token ids of a prompt as they were sent."""
    paths = [path for path in dialect.PROMPT_IDS if path[0] == "request"]
    return next((ids for path in paths if (ids := dialects.ids_at({"request": request}, path)) is not None), None)


def _take_results(state: State[Any], past: Trajectory, call: str, handed: dict[str, str]) -> None:
    found = by_call(a for a in past.actions if a.llm_call == call)
    changed: dict[int, ToolCall] = {}
    for index, asked in enumerate(state.pending):
        action = take(found, asked)
        if action is None:
            continue
        state.done[index] = msgspec.structs.replace(result_of(action), name=asked.name)
        if decision_of(action).get("what") == "changed":
            state.pending[index] = ToolCall(asked.id, action.name, action.arguments)
            changed[index] = state.pending[index]
        target = next((a for a in state.agent.handoffs if transfer(a) == action.name), None)
        if action.id in handed and target is not None:
            state.handoff = (target, action.id)
    if changed and state.last is not None:
        state.revise(state.last, state.last.edits, changed)


def _observation(steps: list[Step]) -> Any:
    """The results of the last step's tools."""
    return [
        {"tool_call_id": r.tool_call_id, "name": r.name, "content": r.content, "ok": r.ok}
        for r in map(result_of, steps[-1].actions)
    ]
