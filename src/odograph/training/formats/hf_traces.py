"""Sessions for the Hugging Face Hub's trace viewer: one file a trajectory, in its Session Trace Simple Format.

Source: https://huggingface.co/docs/hub/session-traces-format. The first line is the session, each other line a message: what was
new in each prompt, each answer of the policy with its reasoning and tool calls, and the results. Text only: the format
has no other parts. The Hub gives a session the icon and label of its `harness`, where it knows that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...calls import Call, rests
from ...clock import iso_time
from ...codec import content_hash, encode
from ...dialects import Choice
from ...dialects.content import as_json, marked
from ...errors import InvalidInput
from ...trajectory import Trajectory
from ...types import Action
from ..views import NO_TEXT, answer_of, policy_calls, unsaid
from . import LeftOut
from .hf import asked_for, licensed

NAME = "hf-traces"
FILES = ("jsonl",)
#: Each trajectory is a file of its own.
FILE_EACH = True
_ROLES = {"assistant": "assistant", "system": "system", "developer": "system", "tool": "tool", "function": "tool"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_TITLE = 200

_Message = dict[str, Any]


def rows(trajectory: Trajectory, left_out: LeftOut, *, harness: str = "odograph", license: str = "unknown") -> Iterator[bytes]:
    """The session, whole. `harness` is the name that the Hub knows an agent by; `license` is for the dataset card."""
    if not isinstance(harness, str) or not _NAME.fullmatch(harness):
        raise InvalidInput(f"a harness is an identifier such as 'my-agent', not {harness!r}")
    session = _Session(left_out)
    place = {record.id: n for n, record in enumerate(trajectory.standing)}
    actions = sorted(trajectory.actions, key=lambda a: place[a.id], reverse=True)
    for call in policy_calls(trajectory, left_out):
        while actions and place[actions[-1].id] < place[call.id]:
            session.action(actions.pop())
        session.call(call, trajectory.agent)
    for action in reversed(actions):
        session.action(action)
    session.rest()
    if not session.lines:
        return
    about: dict[str, Any] = {
        "agent": trajectory.agent,
        "model": trajectory.model,
        "group": trajectory.group,
        "tags": trajectory.tags or None,
        "status": trajectory.status,
        "reward": trajectory.reward,
        "started": iso_time(trajectory.started),
    }
    task = trajectory.task if isinstance(trajectory.task, str) else as_json(trajectory.task) if trajectory.task else ""
    title = " ".join(task[:_TITLE].split())
    head: dict[str, Any] = {"type": "session", "harness": harness, "id": trajectory.id, **({"name": title} if title else {})}
    head |= {k: v for k, v in about.items() if v is not None}
    yield b"".join(encode(line) + b"\n" for line in (head, *session.lines))


class _Session:
    """The lines of a session on their way."""

    def __init__(self, left_out: LeftOut) -> None:
        self.lines: list[_Message] = []
        self._left_out = left_out
        #: Of each agent: the last prompt as it was sent, and what its answer says.
        self._sent: dict[str | None, tuple[Call, str]] = {}
        #: What each agent's messages say, to know one that comes again where a prompt does not go on from the last.
        self._seen: dict[str | None, set[str]] = {}
        #: Results that no prompt has shown yet.
        self._waiting: dict[str, Action] = {}

    def call(self, call: Call, own: str | None) -> None:
        """What is new in a prompt, and the answer."""
        agent = call.agent or own
        before, answer = self._sent.get(agent, (None, ""))
        seen = self._seen.setdefault(agent, set())
        gone, new = rests(before, call) if before is not None else ([], call.messages)
        goes_on = new[: len(gone)] == gone
        for message in new[len(gone) :] if goes_on else new:
            made = self._message(message)
            says = _says(made)
            if says == answer or (not goes_on and says in seen):
                continue
            self._add(made, seen, says)
        for _ in call.choices[1:]:
            self._left_out("a further answer to one prompt")
        why = unsaid(call.choices[0])
        if why is not None and not call.reasoning:
            self._left_out(why)
            self._sent[agent] = (call, "")
            return
        made = self._answer(call.choices[0])
        when = call.source_time if call.source_time is not None else call.time
        says = _says(made)
        self._add({**made, "timestamp": when // 1_000_000, **({"model": call.model} if call.model else {})}, seen, says)
        self._sent[agent] = (call, says)

    def action(self, action: Action) -> None:
        """A result: of a tool call it waits for the prompt that shows it, which has it as the model saw it."""
        if action.tool_call_id is not None:
            self._waiting[action.tool_call_id] = action
        else:
            self._line({"role": "tool", "content": f"{action.name}({_json(action.arguments)})\n{_outcome(action)}"})

    def rest(self) -> None:
        """Results that no prompt showed."""
        for id, action in self._waiting.items():
            self._line({"role": "tool", "toolCallId": id, "content": _outcome(action)})

    def _add(self, message: _Message, seen: set[str], says: str) -> None:
        seen.add(says)
        if message["role"] == "tool":
            self._waiting.pop(message.get("toolCallId", ""), None)
        self._line(message)

    def _line(self, message: _Message) -> None:
        self.lines.append({"type": "message", "message": message})

    def _message(self, message: Any) -> _Message:
        role = _ROLES.get(str(message.get("role")), "user")
        made: _Message = {"role": role, "content": self._text(message.get("content"))}
        calls = message.get("tool_calls")
        if role == "assistant" and isinstance(calls, list):
            asked = [_tool_call(c) for c in calls if isinstance(c, dict) and isinstance(c.get("function"), dict)]
            made |= {"toolCalls": asked} if asked else {}
        if role == "tool" and isinstance(message.get("tool_call_id"), str):
            made["toolCallId"] = message["tool_call_id"]
        return made

    def _answer(self, choice: Choice) -> _Message:
        made = self._message(answer_of(choice))
        if choice.reasoning:
            made["reasoningContent"] = choice.reasoning
        return made

    def _text(self, content: Any) -> str:
        text, marks = marked(content)
        for _ in range(marks):
            self._left_out(NO_TEXT)
        return text


def _tool_call(call: _Message) -> _Message:
    function = call["function"]
    arguments = function.get("arguments")
    given = arguments if isinstance(arguments, str) else _json({} if arguments is None else arguments)
    return {"id": str(call.get("id") or ""), "function": {"name": str(function.get("name") or ""), "arguments": given}}


def _says(message: _Message) -> str:
    """What a message says, whoever wrote it down: agents send an answer back without its reasoning, and arguments as new JSON."""
    asked = [(c["id"], c["function"]["name"], "".join(c["function"]["arguments"].split())) for c in message.get("toolCalls", ())]
    return content_hash([message["role"], message["content"], message.get("toolCallId"), asked])


def _outcome(action: Action) -> str:
    if action.error is not None:
        return f"error: {action.error if isinstance(action.error, str) else _json(action.error)}"
    return action.result if isinstance(action.result, str) else "" if action.result is None else _json(action.result)


def _json(value: Any) -> str:
    return as_json(value)


def card(manifest: dict[str, Any]) -> str:
    """The dataset card: how the Hub finds the sessions, and where they came from."""
    splits = [name for name, rows in manifest["rows_by_split"].items() if rows] or ["train"]
    files = "".join(f"  - split: {n}\n    path: data/{n}-*.jsonl\n" for n in splits)
    return f"""---
license: {licensed(manifest["options"])}
pretty_name: Agent traces
tags:
- agent-traces
- odograph
configs:
- config_name: default
  data_files:
{files}---

# Agent traces

{manifest["rows"]} sessions of agents, one a file, in the Hub's
[Session Trace Simple Format](https://huggingface.co/docs/hub/session-traces-format).

{asked_for(manifest)}"""
