"""What a run that is continued begins with: its past, whole or cut short, and the agent rebuilt from its description.

Reads trajectories; runs nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

from .. import dialects
from ..api import Store
from ..capture.run import Run
from ..errors import InvalidInput, NotFound
from ..log import logger
from ..trajectory import Step, Trajectory, before_step, own_steps
from ..types import End
from .agent import Agent
from .answers import Unchecked
from .continuing import answered
from .conversation import messages_of, transfer
from .hooks import HOOKS
from .mcp import MCPServer
from .recorded import COMPACTED, Turns, result_of
from .revising import revised, reworded
from .task import Task


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


def remembered(store: Store, session: str) -> list[dict[str, Any]]:
    """The conversation of a session as its last task left it, chat-shaped; nothing where it has none."""
    last = next((t for t in _newest(store, session) if answered(t)), None)
    turns = [turn for turn in Turns(last).turns if turn.call.agent in (None, last.agent)] if last is not None else []
    if last is None or not turns:
        return []
    turn = turns[-1]
    call, dialect = turn.call, turn.call.record.dialect or "openai.chat"
    edits = [*turn.answered, *turn.later]
    made = dialects.get(dialect).choices(reworded(dialect, call.response, revised(call, edits, None, in_ids=False), {}))
    answer = (made or call.choices)[0].message
    messages = [m for m in call.messages if m.get("role") not in ("system", "developer")]
    results = [
        {"role": "tool", "tool_call_id": a.tool_call_id, "content": result_of(a).content}
        for a in last.actions
        if a.llm_call == call.id
    ]
    return [*messages, {k: v for k, v in answer.items() if v not in (None, [])}, *results]


def memory_of(t: Trajectory) -> list[dict[str, Any]]:
    """What a run of a session remembered of the session before: what its first prompt has before its own task."""
    turn = next((turn for turn in Turns(t).turns if turn.call.agent in (None, t.agent)), None)
    if turn is None or any(name == COMPACTED for name, _ in turn.prompted):
        return []
    messages = [m for m in turn.call.messages if m.get("role") not in ("system", "developer")]
    own = [m for m in messages_of(t.task) if m.get("role") not in ("system", "developer")]
    return messages[: len(messages) - len(own) - sum(len(put) for _, put in turn.prompted)]


def _newest(store: Store, session: str) -> Iterator[Trajectory]:
    for summary in store.summaries(tag=f"session:{session}", newest_first=True):
        yield store.trajectory(summary.id)


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
        raise InvalidInput(f"{where} does not say enough of its agent to run it again; name the agent (agent=, --agent)")
    settings = {k: v for k, v in spec.items() if k not in ("tools", "handoffs", "headers", "tokenizer", *HOOKS)}
    if "tokenizer" in spec:
        raise InvalidInput(f"{where} was run with a tokenizer ({spec['tokenizer']}), which is not recorded; give agent=")
    for name in (n for n in HOOKS if n in spec):
        settings[name] = _function(spec[name], where, name)
    if settings.get("output_type") == {"type": "string"}:
        settings["output_type"] = str
    if "output_class" in settings:
        try:
            settings["output_type"] = _function(settings.pop("output_class"), where, "the type of answers")
        except NotFound as error:
            logger.warning("%s: its answers are plain values, not checked; a replay compares what is asked alone", error)
            settings["output_type"] = Unchecked(settings["output_type"], str(error))
    agent = Agent(**settings)
    if spec.get("headers"):
        logger.warning("%s was run with the headers %s, whose values are not recorded", where, ", ".join(spec["headers"]))
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


def _function(path: Any, where: str, what: str = "a tool") -> Any:
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
            f"{where} has {what} {path or '(a local function)'!r} that can't be had here: {error}; give agent="
        ) from None
