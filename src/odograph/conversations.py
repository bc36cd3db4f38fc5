"""The conversations of a trajectory, each once and in its longest form, as readers are shown them. Knows no prompt, no model."""

from __future__ import annotations

from typing import Any

import msgspec

from .calls import Call, rests
from .codec import content_hash, encode
from .trajectory import Trajectory
from .types import Action, LLMCall


class History(msgspec.Struct, frozen=True):
    """One conversation of a trajectory."""

    agent: str | None
    messages: list[dict[str, Any]]


class Shown(msgspec.Struct, frozen=True):
    """A trajectory as a judge sees it: its own agent's conversation, those beside it, and the tools that were there."""

    messages: list[dict[str, Any]]
    more: list[History]
    tools: list[Any]

    @property
    def key(self) -> str:
        """The same for all trajectories that look the same."""
        return content_hash([self.messages, [[h.agent, h.messages] for h in self.more], self.tools])


def show(t: Trajectory) -> Shown | None:
    """None where there is nothing to judge."""
    found = _histories(t) or _without_calls(t)
    if not found:
        return None
    tools: list[Any] = []
    for call in t.llm_calls:
        if call.purpose == "act" and not tools:
            tools = call.tools
    main = next((h for h in found if h.agent == t.agent), found[0])
    messages = main.messages
    answer = t.answer if isinstance(t.answer, str) or t.answer is None else encode(t.answer).decode()
    if answer and answer not in _text([m for h in found for m in h.messages[-3:]]):
        messages = [*messages, {"role": "assistant", "content": answer}]
    return Shown(messages, [h for h in found if h is not main], tools)


def _histories(t: Trajectory) -> list[History]:
    """Each conversation once, in its longest form, with the last answer and what came of it. Only calls with purpose `act`."""
    ended: list[tuple[str | None, Call]] = []
    latest: dict[str | None, int] = {}
    for call in t.llm_calls:
        if call.purpose != "act" or not (call.last_message or call.choices):
            continue
        agent = call.agent or t.agent
        for place in dict.fromkeys((latest.get(agent, -1), len(ended) - 1)):
            if place >= 0 and _goes_on(ended[place][1], call):
                ended[place] = (ended[place][0], call)
                break
        else:
            place = len(ended)
            ended.append((agent, call))
        latest[agent] = place
    results = _results(t)
    return [History(agent, [*last.messages, *_said(last), *results.get(last.id, [])]) for agent, last in ended]


def _goes_on(before: Call, call: Call) -> bool:
    """Whether a call's prompt holds the whole of an earlier one; one that failed may be followed by the same."""
    gone, new = rests(before, call)
    longer = len(new) > len(gone) or (len(new) == len(gone) and not before.choices)
    return longer and new[: len(gone)] == gone


def _said(call: Call) -> list[dict[str, Any]]:
    choice = next(iter(call.choices), None)
    if choice is None:
        return []
    message = {k: v for k, v in choice.message.items() if v not in (None, [], "")} | {"role": "assistant"}
    if (
        call.reasoning
        and not any(k in message for k in ("reasoning", "reasoning_content"))
        and isinstance(message.get("content"), str)
    ):
        message["reasoning"] = call.reasoning
    return [message]


def _results(t: Trajectory) -> dict[str, list[dict[str, Any]]]:
    """What was done after each call, as messages: by the call that asked for it, else by the last one of its step."""
    found: dict[str, list[dict[str, Any]]] = {}
    last: dict[tuple[str | None, int | None], str] = {}
    for record in t.standing:
        if isinstance(record, LLMCall) and record.purpose == "act":
            last[record.agent, record.step] = record.id
        elif isinstance(record, Action):
            of = record.llm_call or last.get((record.agent, record.step))
            if of is not None:
                found.setdefault(of, []).append(_outcome(record))
    return found


def _outcome(action: Action) -> dict[str, Any]:
    content = action.error if action.error is not None else action.result
    made: dict[str, Any] = {"role": "tool", "name": action.name, "content": content}
    if action.tool_call_id is not None:
        made["tool_call_id"] = action.tool_call_id
    else:
        made["arguments"] = action.arguments
    if action.ok is False:
        made["ok"] = False
    return made


def _without_calls(t: Trajectory) -> list[History]:
    """Of a trajectory whose model was not recorded: the task, what was observed, and what was done."""
    messages: list[dict[str, Any]] = []
    for step in t.steps:
        if step.observation is not None:
            messages.append({"role": "user", "content": step.observation})
        messages += [_outcome(a) for a in step.actions]
    if not messages and t.answer is None:
        return []
    return [History(t.agent, [{"role": "user", "content": t.task}, *messages])]


def _text(value: Any) -> str:
    """The texts in a value, one after the other."""
    if isinstance(value, str):
        return value + "\n"
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return "".join(map(_text, parts))
