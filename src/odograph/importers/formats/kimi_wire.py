"""What Kimi CLI's `wire.jsonl` says: when each message came, what a step used, how a tool call went, and what sub-agents did."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ...shape import dicts, number, obj, text
from ...types import Action
from ..session import Lines

#: What a message or a step of a conversation is made of; other events are notes.
_TOLD = ("TurnBegin", "SteerInput", "TurnEnd", "StepBegin", "ContentPart", "ToolCall", "ToolCallPart", "ToolResult")


class Step(NamedTuple):
    """One answer of the model, as the wire tells of it. Times are in nanoseconds."""

    began: int | None = None
    ended: int | None = None
    usage: Any = None
    message: str | None = None
    tools: tuple[str, ...] = ()
    said: str = ""


class _UnderWay:
    """A step until the next one begins. Its tools run while the answer still comes: a result may come before the next tool is
    asked for, and before the step's usage."""

    def __init__(self, began: int | None) -> None:
        self.began = self.ended = began
        self.parts: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {}


def is_wire(value: Any) -> bool:
    """Whether a line is one of a wire; those of Kimi Code say when they were created."""
    message = obj(obj(value).get("message"))
    return (obj(value).get("type") == "metadata" and "protocol_version" in value and "created_at" not in value) or (
        "timestamp" in obj(value) and message.keys() == {"type", "payload"}
    )


class Wire:
    """The events of a wire; `None`: there is none. Conversations are known by the id of the sub-agent, the main one as None."""

    def __init__(self, path: Path | None) -> None:
        self.problems: list[str] = []
        self.began: int | None = None
        #: What the person said, in order.
        self.asked: list[Any] = []
        #: The sub-agents: the call that started each, and its kind.
        self.agents: dict[str, tuple[str | None, str | None]] = {}
        #: Events that belong to no message, each with its time.
        self.others: list[tuple[int | None, str, dict[str, Any]]] = []
        self._messages: dict[str | None, list[dict[str, Any]]] = {}
        self._steps: dict[str | None, list[Step]] = {}
        self._under_way: dict[str | None, _UnderWay] = {}
        self._inputs: dict[str | None, list[tuple[Any, int]]] = {}
        self._results: dict[str, tuple[int | None, dict[str, Any]]] = {}
        self._asked_at: dict[str, int | None] = {}
        if path is not None and path.is_file():
            lines = Lines(path)
            for _, value in lines:
                message, seconds = obj(obj(value).get("message")), number(obj(value).get("timestamp"))
                when = round(seconds * 1000) * 1_000_000 if seconds is not None and 0 <= seconds < 4e9 else None
                self.began = when if self.began is None else self.began
                self._take(None, when, str(message.get("type")), obj(message.get("payload")))
            self.problems = lines.problems
            for agent in list(self._under_way):
                self._close(agent)

    def messages(self, agent: str | None) -> list[dict[str, Any]]:
        """The messages of a conversation, where no context says them."""
        return self._messages.get(agent, [])

    def asked_at(self, agent: str | None, content: Any) -> int | None:
        """When a person's message came; each time is given once."""
        inputs = self._inputs.get(agent, [])
        found = next((n for n, (said, _) in enumerate(inputs) if said == _plain(content)), None)
        return None if found is None else inputs.pop(found)[1]

    def step_of(self, agent: str | None, reply: dict[str, Any]) -> Step:
        """The step that gave a reply: by its tool calls, else by what it says; each step is given once."""
        steps = self._steps.get(agent, [])
        tools = tuple(str(c.get("id")) for c in dicts(reply.get("tool_calls")))
        said = _plain(reply.get("content"))
        found = next((n for n, s in enumerate(steps) if s.tools == tools and (tools or s.said == said)), None)
        return Step() if found is None else steps.pop(found)

    def outcome(self, id: str | None, action: Action | None) -> dict[str, Any]:
        """How a tool call went: fields of its action."""
        when, value = self._results.get(id or "", (None, {}))
        began = self._asked_at.get(id or "")
        took = when - began if when is not None and began is not None else None
        ok = not value["is_error"] if isinstance(value.get("is_error"), bool) else None
        extra = {k: value[k] for k in ("display", "extras") if value.get(k)}
        return {
            k: v for k, v in {"ok": ok, "duration": took, "extra": extra or None}.items() if v is not None and action is not None
        }

    # --- events ------------------------------------------------------------------------------------------------------

    def _take(self, agent: str | None, when: int | None, kind: str, payload: dict[str, Any]) -> None:
        if kind == "SubagentEvent":
            call = text(payload.get("parent_tool_call_id")) or text(payload.get("task_tool_call_id"))
            inner, id = obj(payload.get("event")), text(payload.get("agent_id")) or call
            if id is not None:
                self.agents.setdefault(id, (call, text(payload.get("subagent_type"))))
                self._take(id, when, str(inner.get("type")), obj(inner.get("payload")))
        elif kind in ("TurnBegin", "SteerInput"):
            self._close(agent)
            said = payload.get("user_input")
            self._messages.setdefault(agent, []).append({"role": "user", "content": said})
            if when is not None:
                self._inputs.setdefault(agent, []).append((_plain(said), when))
            if agent is None:
                self.asked.append(said)
        elif kind == "StepBegin":
            self._close(agent)
            self._under_way[agent] = _UnderWay(when)
        elif kind in ("ContentPart", "ToolCall"):
            step = self._under_way.setdefault(agent, _UnderWay(when))
            step.ended = when
            (step.parts if kind == "ContentPart" else step.calls).append(payload)
            if kind == "ToolCall":
                self._asked_at.setdefault(str(payload.get("id")), when)
        elif kind == "ToolCallPart":
            calls = self._under_way.setdefault(agent, _UnderWay(when)).calls
            if calls and isinstance(calls[-1].get("function"), dict):
                function = calls[-1]["function"]
                more = f"{function.get('arguments') or ''}{payload.get('arguments_part') or ''}"
                calls[-1] = {**calls[-1], "function": {**function, "arguments": more}}
        elif kind == "StatusUpdate" and payload.get("token_usage"):
            step = self._under_way.setdefault(agent, _UnderWay(when))
            step.status = payload
            if not step.results:  # else the answer was whole before
                step.ended = when
        elif kind == "ToolResult":
            id, value = str(payload.get("tool_call_id")), obj(payload.get("return_value"))
            self._results[id] = when, value
            step = self._under_way.setdefault(agent, _UnderWay(when))
            step.results.append({"role": "tool", "tool_call_id": id, "content": _sent(value)})
        elif kind not in _TOLD and agent is None and kind != "None":
            self.others.append((when, kind, payload))

    def _close(self, agent: str | None) -> None:
        """The step that was under way is whole."""
        step = self._under_way.pop(agent, None)
        if step is None:
            return
        messages = self._messages.setdefault(agent, [])
        if step.parts or step.calls:
            calls = {"tool_calls": step.calls} if step.calls else {}
            messages.append({"role": "assistant", "content": step.parts, **calls})
            tools, status = tuple(str(c.get("id")) for c in step.calls), step.status
            ended = step.ended if status else None
            told = Step(step.began, ended, status.get("token_usage"), text(status.get("message_id")), tools, _plain(step.parts))
            self._steps.setdefault(agent, []).append(told)
        messages += step.results


def _sent(value: dict[str, Any]) -> list[Any]:
    """What Kimi sends the model of a tool's result."""
    output, message = value.get("output"), text(value.get("message"))
    parts = [{"type": "text", "text": output}] if isinstance(output, str) and output else dicts(output)
    if message:
        told = f"ERROR: {message}" if value.get("is_error") is True else message
    else:
        told = "Tool output is empty." if not parts else ""
    return [*([{"type": "text", "text": f"<system>{told}</system>"}] if told else []), *parts]


def _plain(content: Any) -> str:
    """The text of a content, without thoughts."""
    if isinstance(content, str):
        return content
    return "".join(p["text"] for p in dicts(content) if isinstance(p.get("text"), str))
