"""Going on from what was recorded: an agent's conversation rebuilt, an agent rebuilt from its description, a past cut short.

Reads trajectories; runs nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import msgspec

from .. import dialects
from ..api import Store
from ..capture.recorder import Run
from ..errors import InvalidInput, NotFound
from ..trajectory import Call, Step, Trajectory, before_step, own_steps
from ..types import End
from .agent import Agent, State, messages_of, transfer
from .mcp import MCPServer
from .recorded import by_call, result_of, take
from .task import Task


def continued(agent: Agent, task: Task, past: Trajectory) -> State:
    """The conversation where the past left it: what the model was sent last, what it answered, and which results are there."""
    state = State(agent, task)
    state.begin(messages_of(past.task))
    steps = own_steps(past)
    if steps:
        state.observation = _observation(steps)
    own = task._fork is None and past is task._past  # not of a parent that this run leaves
    if task._messages is not None and not (own and answered(past)):
        state.begin(task._messages, sent=True)
        return state
    if task._request is not None and not (own and answered(past)):
        _take_request(state, *task._request)
        return state
    handed = {a.id: a.name for s in steps for a in s.actions if a.ok and a.name.startswith("transfer_to_")}
    last: Call | None = None
    for step in steps:
        if own:
            _adopt_inside(state, step, handed)
        last = next((c for c in reversed(step.llm_calls) if c.purpose == "act" and _answered(c)), last)
    if last is None:
        return state
    _take_request(state, last.record.dialect, last.request)
    choice = next(iter(last.choices), None)
    if choice is None or not choice.tool_calls:
        state.response = last.response  # it was final, or is asked again
        return state
    response = last.response
    if _dialect(last) != agent_dialect(state):
        state.history += dialects.get(agent_dialect(state)).history([choice.message])
    else:
        state.history += dialects.get(agent_dialect(state)).said(response)
    state.ask_for(choice.tool_calls, last.id if own else None)
    _take_results(state, past, last.id, handed)
    if len(state.done) == len(state.pending):  # nothing is under way
        results, handoff = list(state.done.values()), state.handoff
        state.history += dialects.get(agent_dialect(state)).results(results)
        state.settle()
        if handoff is not None:
            state.adopt(handoff[0])
            state.place = handoff if own else None
    return state


def agent_dialect(state: State) -> str:
    return state.agent.dialect


def _dialect(call: Call) -> str:
    return call.record.dialect or dialects.of_response(call.response, None).NAME


def _answered(call: Call) -> bool:
    return call.record.error is None and bool(call.choices)


def answered(t: Trajectory) -> bool:
    """Whether an agent's own question was answered in it."""
    return any(c.purpose == "act" and _answered(c) for c in t.llm_calls)


def before(store: Store, task: Task, agent: Any) -> Trajectory | None:
    """What an agent begins with where a run is continued: of a fork, what was there before it, too."""
    past = task._past
    fork = past.start.fork if past is not None and past.start is not None else None
    if past is None or fork is None:
        return past
    if not isinstance(agent, Agent):
        return joined(store, past)  # their code runs again from the beginning
    if task._fork is None and not answered(past):
        parent = store.trajectory(fork.trajectory)
        about = past.metadata.get("runtime")
        task._messages = about.get("messages") if isinstance(about, dict) else None
        task._request = request_at(parent, fork.step or 0)
        return before_step(parent, fork.step or 0)
    return past


def joined(store: Store, t: Trajectory) -> Trajectory:
    """A fork with what its parents did before it."""
    fork = t.start.fork if t.start is not None else None
    if fork is None:
        return t
    parent = joined(store, before_step(store.trajectory(fork.trajectory), fork.step or 0))
    return Trajectory(t.id, [*(r for r in parent.complete_records() if not isinstance(r, End)), *t.complete_records()])


def request_at(t: Trajectory, step: int) -> tuple[str | None, Any] | None:
    """What the model was asked at a step, and in which dialect."""
    calls = [c for s in own_steps(t)[step : step + 1] for c in s.llm_calls if c.purpose == "act"]
    return (calls[0].record.dialect, calls[0].request) if calls else None


def at_hand(agent: Any, past: Trajectory) -> Any:
    """Who has the conversation at the end of a past: the agent, or one that it was handed over to."""
    for action in [a for s in own_steps(past) for a in s.actions if a.ok]:
        agent = next((a for a in getattr(agent, "handoffs", ()) if transfer(a) == action.name), agent)
    return agent


def _adopt_inside(state: State, step: Step, handed: dict[str, str]) -> None:
    """Follows a hand-off: the step is inside of the action that made it."""
    inside = handed.get((step.record.parent or "") if step.record else "")
    target = next((a for a in state.agent.handoffs if transfer(a) == inside), None)
    if target is not None and target.name == step.agent:
        state.adopt(target)
        state.place = (target, step.record.parent or "")  # type: ignore[union-attr]


def _take_request(state: State, dialect: str | None, request: Any) -> None:
    """The history of a request, in the agent's own dialect; its system prompt is the agent's."""
    old = dialects.get(dialect)
    held = request.get(old.HISTORY) if isinstance(request, dict) else None
    items = list(held) if isinstance(held, list) else [{"role": "user", "content": held}] if held else []
    if old.NAME == "openai.chat" and state.system is not None and items and items[0].get("role") in ("system", "developer"):
        items = items[1:]
    if agent_dialect(state) != old.NAME:
        items = dialects.get(agent_dialect(state)).history(old.messages({old.HISTORY: items}))
    state.history = items


def _take_results(state: State, past: Trajectory, call: str, handed: dict[str, str]) -> None:
    found = by_call(a for a in past.actions if a.llm_call == call)
    for index, asked in enumerate(state.pending):
        action = take(found, asked)
        if action is None:
            continue
        state.done[index] = msgspec.structs.replace(result_of(action), name=asked.name)
        target = next((a for a in state.agent.handoffs if transfer(a) == action.name), None)
        if action.id in handed and target is not None:
            state.handoff = (target, action.id)


def _observation(steps: list[Step]) -> Any:
    """The results of the last step's tools."""
    return [
        {"tool_call_id": r.tool_call_id, "name": r.name, "content": r.content, "ok": r.ok}
        for r in map(result_of, steps[-1].actions)
    ]


def interrupted(past: Trajectory, run: Run) -> None:
    """Closes what a killed process left open: actions that other agents were at work in and that have no record yet."""
    known = {r.id for r in past.records}
    open_: dict[str, Step] = {}
    for step in past.steps:
        if step.record is not None and step.record.parent and step.record.parent not in known:
            open_.setdefault(step.record.parent, step)
    for id, step in open_.items():
        why = {"type": "interrupted", "message": "the process ended while it was under way; it is done again"}
        run.action(step.agent or "agent", None, ok=False, error=why, id=id)


# --- an agent from its description ----------------------------------------------------------------------------------------


def rebuilt(spec: Any, where: str, within: dict[str, Agent] | None = None) -> Agent:
    """The agent that was recorded with a run. Raises InvalidInput or NotFound where it can't be had again."""
    if isinstance(spec, dict) and spec.keys() == {"name"} and spec["name"] in (within or {}):
        return (within or {})[spec["name"]]  # they can reach each other
    if not isinstance(spec, dict) or "model" not in spec:
        raise InvalidInput(f"{where} does not say enough of its agent to run it again; give agent=")
    agent = Agent(**{k: v for k, v in spec.items() if k not in ("tools", "handoffs")})
    within = {**(within or {}), agent.name: agent}
    tools: list[Any] = []
    for one in spec.get("tools", []):
        if "mcp" in one:
            tools.append(MCPServer(**one["mcp"]))
        elif "agent" in one:
            tools.append(rebuilt(one["agent"], where, within))
        else:
            tools.append(_function(one.get("function"), where))
    handoffs = [rebuilt(a, where, within) for a in spec.get("handoffs", [])]
    agent.__setstate__({"tools": tools, "handoffs": handoffs})
    return agent


def _function(path: Any, where: str) -> Any:
    module, _, name = str(path or "").partition(":")
    try:
        if not name:
            raise NotFound("it has no name to import it by")
        found: Any = sys.modules.get(module) or importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found
    except (ImportError, AttributeError, NotFound) as error:
        raise NotFound(
            f"{where} has a tool {path or '(a local function)'!r} that can't be had here: {error}; give agent="
        ) from None
